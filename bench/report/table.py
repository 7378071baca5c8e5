# SPDX-License-Identifier: Apache-2.0
"""Markdown tables of figures: every peer, the floor, and ours in relation to both."""
import re

# Cells for the summary: title, suite, case, parameters, metric. Ours is the best of our variants.
SUMMARY = (
    ("ring, one sender, one receiver, 64 B, one a call", "ring", "spsc", {"size": 64, "batch": 1}, "rate"),
    ("the same, 32 a call", "ring", "spsc", {"size": 64, "batch": 32}, "rate"),
    ("ring, two senders on one core, 64 B, one a call", "ring", "mpsc",
     {"size": 64, "batch": 1, "placement": "p0p0|c1"}, "rate"),
    ("ring, two senders and two receivers, 64 B, one a call", "ring", "mpmc",
     {"size": 64, "batch": 1, "placement": "p0p0|c1c1"}, "rate"),
    ("ring, 64 B there and back", "ring", "pingpong", {"size": 64, "batch": 1}, "p50"),
    ("ring, submit to completion, one in flight", "ring", "submit", {"size": 64, "batch": 1}, "p50"),
    ("queue, 64 B there and back", "queue", "round_trip", {"size": 64}, "p50"),
    ("queue, 64 B, 32 a call, one producer and consumer", "queue", "throughput",
     {"size": 64, "batch": 32, "producers": 1, "consumers": 1}, "rate"),
    ("queue or ring, round trips that a thread waits for, beside two that compute, mean", "wait", "round_trip",
     {"busy": 2, "cpus": "all"}, "mean"),
    ("the same, each after a pause, p50", "wait", "after_pause", {"busy": 2, "cpus": "all"}, "p50"),
    ("digests of 400 files, CPU time", "command", "sha256 of files", {}, "CPU time"),
)


def number(x):
    if x == 0:
        return "0"
    if abs(x) >= 1000:
        return f"{x:.0f}"
    return f"{x:.3g}" if abs(x) >= 0.01 else f"{x:.2e}"


def count(x):
    """A parameter's value, short: 65536, 0.1 M."""
    if isinstance(x, (int, float)) and x >= 100000 and x % 10000 == 0:
        return f"{x / 1e6:g} M"
    return f"{x:g}" if isinstance(x, float) else str(x)


def column_label(column):
    values = dict(column)
    label = []
    if "size" in values:
        label.append(f"{values.pop('size')} B")
    if "batch" in values:
        label.append(f"x{values.pop('batch')}")
    label += [f"{key} {count(value)}" for key, value in values.items()]
    return ", ".join(label).replace(" B, x", " B x") or "all"


def best(figures, roles):
    """Of the figures in one column the best of those roles, by its median; None if there is none."""
    found = [f for f in figures if f.role in roles and f.median > 0]
    if not found:
        return None
    return (max if found[0].more_is_better else min)(found, key=lambda f: f.median)


def ratio(ours, theirs):
    """Above 1: ours is the better one."""
    return ours.median / theirs.median if ours.more_is_better else theirs.median / ours.median


class Table:
    """The figures of one suite, case, unit, and of equal parameters that are words. Parameters that are
    numbers make columns; those that are the same everywhere go into the title."""

    def __init__(self, figures):
        first = figures[0]
        self.unit, self.suite, self.case = first.unit, first.suite, first.case
        words = [v for _, v in sorted(first.parameters.items()) if isinstance(v, str)]
        keys = sorted({k for f in figures for k, v in f.parameters.items() if not isinstance(v, str)},
                      key=lambda k: (k not in ("batch", "busy", "load", "slots"), k))
        self.fixed = [k for k in keys if len({f.parameters.get(k) for f in figures}) == 1]
        if self.fixed == keys:  # a column has to be called something
            self.fixed = [k for k in keys if k not in ("size", "batch")]
        self.keys = [k for k in keys if k not in self.fixed]
        self.metrics = sorted(dict.fromkeys(f.metric for f in figures), key=self.rank)
        self.rows = list(dict.fromkeys(f.name for f in figures))
        self.cells = {}
        for f in figures:
            self.cells.setdefault((f.name, self.column_of(f)), {})[f.metric] = f
        self.columns = sorted({c for _, c in self.cells}, key=lambda c: [v for _, v in c])
        fixed = [column_label(((k, first.parameters[k]),)) for k in self.fixed]
        self.title = ", ".join([f"{self.suite}: {self.case}", *words, *fixed])

    @staticmethod
    def rank(metric):
        """Percentiles by their number, in front of all others but the mean."""
        if metric == "mean":
            return (-1, 0)
        return (0, float(metric[1:])) if re.fullmatch(r"p[\d.]+", metric) else (1, 0)

    def column_of(self, figure):
        return tuple((k, figure.parameters[k]) for k in self.keys if k in figure.parameters)

    def cell(self, row, column):
        found = self.cells.get((row, column))
        if not found:
            return "-"
        values = " / ".join(number(found[m].median) if m in found else "-" for m in self.metrics)
        return f"{values} ~{next(iter(found.values())).spread:.0f}%"

    def main(self, column):
        """The figures of a column by the first metric."""
        return [cells[self.metrics[0]] for (_, c), cells in self.cells.items()
                if c == column and self.metrics[0] in cells]

    def floor(self, column):
        """The floor's figure in a column; a bare flag is the floor of every round trip."""
        flags = [c[self.metrics[0]] for (_, _), c in self.cells.items()
                 if self.metrics[0] in c and c[self.metrics[0]].role == "floor"
                 and c[self.metrics[0]].variant == "flag"]
        return flags[0] if flags else best(self.main(column), ("floor",))

    def ratios(self, row, column):
        found = self.cells.get((row, column), {}).get(self.metrics[0])
        if found is None or found.median == 0:
            return "-", "-"
        peer, floor = best(self.main(column), ("peer",)), self.floor(column)
        to_peer = f"**{ratio(found, peer):.2f}** {peer.name}" if peer else "-"
        # For a latency: how many times the floor; for a rate: which part of it.
        to_floor = f"{found.median / floor.median:.2f}" if floor and floor.median else "-"
        return to_peer, to_floor

    def ours(self):
        return [r for r in self.rows if any(f.role == "ours" for (n, _), c in self.cells.items() if n == r
                                            for f in c.values())]

    def lines(self):
        metrics = " / ".join(self.metrics)
        yield f"### {self.title}: {metrics}, {self.unit}"
        yield ""
        rows = [[row] + [self.cell(row, c) for c in self.columns] for row in self.rows]
        for row in self.ours():
            both = [self.ratios(row, c) for c in self.columns]
            if any(peer != "-" for peer, _ in both):
                rows.append([f"**{row}, of the best peer**"] + [peer for peer, _ in both])
            if any(floor != "-" for _, floor in both):
                rows.append([f"{row}, times the floor"] + [floor for _, floor in both])
        rows.insert(0, [""] + [column_label(c) for c in self.columns])
        if len(self.columns) > 8:  # too wide to be read: columns become rows
            rows = [list(row) for row in zip(*rows)]
        for i, row in enumerate(rows):
            yield "| " + " | ".join(row) + " |"
            if i == 0:
                yield "|---|" + "---:|" * (len(row) - 1)
        yield ""


def tables(figures):
    groups = {}
    for f in figures:
        words = tuple((k, v) for k, v in sorted(f.parameters.items()) if isinstance(v, str) and k != "wait")
        groups.setdefault((f.suite, f.case, words, f.unit), []).append(f)
    return [Table(group) for group in groups.values()]


def pick(figures, suite, case, parameters, metric):
    return [f for f in figures if (f.suite, f.case, f.metric) == (suite, case, metric)
            and all(f.parameters.get(k, v) == v for k, v in parameters.items())]


def summary(figures):
    """A few figures, each with the best peer's, or with what the machine can do."""
    yield "| | libgpuq | best peer | of it | floor | times the floor |"
    yield "|---|---:|---:|---:|---:|---:|"
    for title, suite, case, parameters, metric in SUMMARY:
        found = [f for f in pick(figures, suite, case, parameters, metric) if "(static)" not in f.peer]
        ours, peer, floor = (best(found, (role,)) for role in ("ours", "peer", "floor"))
        if ours is None:
            continue
        unit = "M/s" if ours.unit == "Mmsg/s" else ours.unit
        cells = [title, f"{number(ours.median)} {unit}",
                 f"{number(peer.median)} {unit}, {peer.name}" if peer else "-",
                 f"{ratio(ours, peer):.2f}" if peer else "-",
                 f"{number(floor.median)} {unit}, {floor.variant or 'floor'}" if floor else "-",
                 f"{ours.median / floor.median:.2f}" if floor else "-"]
        yield "| " + " | ".join(cells) + " |"


def page(figures, machine, drawn=()):
    """The whole page of a run. `machine` is what run.py notes about it, `drawn` (name, caption) of each plot."""
    lines = [f"# Benchmarks, {machine['date'][:10]}", ""]
    lines += [f"    {line}" for line in machine["lines"]] + [""]
    for note in machine.get("notes", []):
        lines += [note, ""]
    lines += ["A cell is the median of the samples and, after ~, (max - min) / median. Of the best peer: above 1",
              "libgpuq is the faster one. What is called reference or floor is what the machine can do, and no peer.",
              "Compare within one table only.", "", "## Summary", "", *summary(figures), ""]
    for name, caption in drawn:
        lines += [f"## {name.capitalize()}", "", caption, "", f"![{name.capitalize()}]({name}.svg)", ""]
    lines += ["## All tables", ""]
    for table in tables(figures):
        lines += table.lines()
    return "\n".join(lines).rstrip("\n") + "\n"
