# SPDX-License-Identifier: Apache-2.0
"""What changed between two runs beyond the noise.

A figure has changed if all three hold:
  1. The medians differ by more than 10 percent (or --threshold).
  2. The exact two-sided Mann-Whitney test of the samples gives p <= 0.01. With five samples a side this means
     that every new sample is on the same side of every old one.
  3. The change is larger than what 95 of 100 controls of the same suite show. Controls are the peers and floors:
     no change of libgpuq touches them, so what they show is the machine.
The samples of one run are taken within seconds, and a machine may differ more between runs than within one. The
second condition does not see that; the third does, where a suite has 20 controls or more.
"""
import functools
import statistics

ALPHA = 0.01
FEWEST_CONTROLS = 20


@functools.lru_cache(maxsize=None)
def _ways(n, m, u):
    """In how many orders of n and m distinct samples the statistic is u."""
    if u < 0:
        return 0
    if n == 0 or m == 0:
        return 1 if u == 0 else 0
    return _ways(n - 1, m, u - m) + _ways(n, m - 1, u)


def mann_whitney(old, new):
    """The exact two-sided p. Ties count half, which makes it a little cautious; above 20 samples a side,
    where the exact one takes long, every so many-th of the sorted samples are used."""
    old, new = _thin(old), _thin(new)
    n, m = len(old), len(new)
    u = sum((a > b) + (a == b) / 2 for a in old for b in new)
    smaller = int(min(u, n * m - u) + 0.5)  # a half is rounded away from significance
    total = sum(_ways(n, m, k) for k in range(n * m + 1))
    return min(1.0, 2 * sum(_ways(n, m, k) for k in range(smaller + 1)) / total)


def _thin(samples):
    if len(samples) <= 20:
        return list(samples)
    ordered = sorted(samples)
    return [ordered[round(i * (len(ordered) - 1) / 19)] for i in range(20)]


def speed(old, new):
    """How many times as good the new median is."""
    a, b = old.median, new.median
    if a <= 0 or b <= 0:
        return 1.0
    return b / a if new.more_is_better else a / b


def _size(ratio):
    return max(ratio, 1 / ratio)


class Comparison:
    """Of two lists of figures; only what is in both is compared."""

    def __init__(self, old, new, threshold=0.10):
        before = {f.about: f for f in old}
        after = {f.about: f for f in new}
        self.threshold = threshold
        self.pairs = [(before[k], after[k]) for k in before if k in after]
        self.only_old = [f for k, f in before.items() if k not in after]
        self.only_new = [f for k, f in after.items() if k not in before]
        self.noise = {}  # suite: (controls, of these moved, their drift, the 95th percentile)
        for suite in dict.fromkeys(a.suite for a, _ in self.pairs):
            moves = [(speed(a, b), self._separate(a, b)) for a, b in self.pairs
                     if a.suite == suite and a.role != "ours"]
            if moves:
                sizes = sorted(_size(r) for r, _ in moves)
                self.noise[suite] = (len(moves), sum(s for _, s in moves),
                                     statistics.median(r for r, _ in moves),
                                     sizes[min(len(sizes) - 1, int(0.95 * len(sizes)))])
        self.changed = sorted(((speed(a, b), a, b) for a, b in self.pairs
                               if a.role == "ours" and self._separate(a, b) and self._beyond(a, b)),
                              key=lambda c: c[0])
        self.ours = sum(a.role == "ours" for a, _ in self.pairs)

    def _separate(self, a, b):
        return _size(speed(a, b)) > 1 + self.threshold and mann_whitney(a.samples, b.samples) <= ALPHA

    def _beyond(self, a, b):
        controls, _, _, limit = self.noise.get(a.suite, (0, 0, 1.0, 1.0))
        return controls < FEWEST_CONTROLS or _size(speed(a, b)) > limit

    @property
    def worse(self):
        return [c for c in self.changed if c[0] < 1]

    def few_samples(self):
        """Figures of ours that cannot differ significantly, whatever they are."""
        return sum(1 for a, b in self.pairs if a.role == "ours" and
                   mann_whitney(range(len(a.samples)), range(100, 100 + len(b.samples))) > ALPHA)

    def lines(self):
        yield f"{self.ours} figures of libgpuq in both runs, {len(self.changed)} changed: " \
              f"{len(self.worse)} worse, {len(self.changed) - len(self.worse)} better."
        yield f"Changed: more than {100 * self.threshold:.0f} percent, Mann-Whitney p <= {ALPHA}, and more than 95 of " \
              f"100 controls of the suite."
        if self.few_samples():
            yield f"{self.few_samples()} have too few samples to differ by that test."
        for name, missing in (("old", self.only_old), ("new", self.only_new)):
            if missing:
                yield f"{len(missing)} figures are in the {name} run only."
        yield ""
        yield "| suite | controls | of these moved | drift (above 1: faster) | 95 of 100 within a factor |"
        yield "|---|---:|---:|---:|---:|"
        for suite in dict.fromkeys(a.suite for a, _ in self.pairs):
            if suite in self.noise:
                controls, moved, drift, limit = self.noise[suite]
                limit = f"{limit:.2f}" if controls >= FEWEST_CONTROLS else "too few to say"
                yield f"| {suite} | {controls} | {moved} | {drift:.2f} | {limit} |"
            else:
                yield f"| {suite} | 0 | - | - | none: machine and change cannot be told apart |"
        if not self.changed:
            return
        yield ""
        yield "| figure | old | new | times as good |"
        yield "|---|---:|---:|---:|"
        for factor, a, b in self.changed:
            about = ", ".join([a.case, a.name, *(f"{k} {v}" for k, v in sorted(a.parameters.items()))])
            name = f"{a.suite}: {about}: {a.metric}, {a.unit}"
            yield f"| {name} | {a.median:.4g} | {b.median:.4g} | {factor:.2f} |"
