# SPDX-License-Identifier: Apache-2.0
"""Plots of a run, as SVG by gnuplot: throughput, latency, load, cost and scaling."""
import dataclasses
import math
import shutil
import subprocess

from table import best, pick

# Name: colour, dash type, point type, line width. Told apart without colour too, by points and dashes.
STYLES = {
    "gpuq single": ("#0072b2", 1, 7, 2.5), "gpuq single ring": ("#0072b2", 1, 7, 2.5),
    "gpuq many": ("#56b4e9", 1, 5, 2.5), "gpuq ring": ("#56b4e9", 1, 5, 2.5),
    "gpuq": ("#0072b2", 1, 7, 2.5), "gpuq queue": ("#003d66", 1, 9, 2.5),
    "rte_ring": ("#d55e00", 2, 4, 1.5), "rte_ring single": ("#d55e00", 2, 4, 1.5),
    "rte_ring hts": ("#d55e00", 3, 12, 1.5), "ck_ring": ("#009e73", 3, 6, 1.5),
    "moodycamel_cq": ("#cc79a7", 4, 8, 1.5), "moodycamel_rwq": ("#8a6d00", 5, 10, 1.5),
    "boost_spsc": ("#7f3fbf", 2, 12, 1.5), "boost_queue": ("#7f3fbf", 4, 14, 1.5),
    "reference": ("#666666", 3, 2, 1.2), "mutex": ("#666666", 4, 2, 1.2),
    "reference flag": ("#666666", 3, 1, 1.2),
}
OTHERS = [("#444444", 5, 3, 1.2), ("#994455", 2, 11, 1.2), ("#117733", 4, 13, 1.2)]


@dataclasses.dataclass
class Panel:
    title: str
    x: str
    y: str
    series: dict  # name: [(x, y)...]
    time: bool = False  # y is in nanoseconds, and labelled so
    log_x: int = 2  # base; 0: linear
    tics: list = dataclasses.field(default_factory=list)  # of x: (text, value)


def _style(name, others):
    if name not in STYLES and name not in others:
        others[name] = OTHERS[len(others) % len(OTHERS)]
    colour, dash, point, width = STYLES.get(name) or others[name]
    return f"lc rgb '{colour}' dt {dash} pt {point} lw {width} ps 0.7"


def _quoted(text):
    return '"' + text.replace("\\", "").replace('"', "'") + '"'


def _data(points, places=()):
    """Inline data. The line is broken, by an empty row, where it would pass a place at which others have a point."""
    rows = ""
    for (x, y), (before, _) in zip(points, points[:1] + points[:-1]):
        rows += "\n" if any(before < place < x for place in places) else ""
        rows += f"{x} {y}\n"
    return rows + "e\n"


def _duration(ns):
    """A time in nanoseconds as a label: 20 ns, 5 \u00b5s."""
    for unit, size in (("s", 1e9), ("ms", 1e6), ("\u00b5s", 1e3)):
        if ns >= size:
            return f"{ns / size:g} {unit}"
    return f"{ns:g} ns"


def _axis(axis, values, label):
    """A logarithmic axis that is no longer than its values, with labels at 1, 2, 5, at powers of ten where these are
    many, and closer together where it is so short that it would have less than two. An axis that ends at powers of ten
    may be empty by half."""
    low, high = min(values) / 1.3, max(values) * 1.3
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    tics = []
    for steps in ((1, 2, 5), range(1, 10), [1 + k / 5 for k in range(45)]) if high / low < 400 else ((1,),):
        tics = [t for t in (s * 10.0 ** e for e in decades for s in steps) if low <= t <= high]
        if len(tics) > 1:
            break
    return (f"set logscale {axis} 10\nset {axis}range [{low:.6g}:{high:.6g}]\nset m{axis}tics 1\n"
            f"set {axis}tics ({', '.join(f'{_quoted(label(t))} {t:g}' for t in tics)})\n")


def _head(path, title, width, height):
    return (f"set terminal svg size {width},{height} dynamic font 'sans-serif,13' background '#ffffff'\n"
            f"set output {_quoted(str(path))}\nset encoding utf8\n"
            "set border 3 lc rgb '#444444'\nset tics nomirror\nset grid lc rgb '#dddddd' lw 0.7\n"
            f"set label 99 {_quoted(title)} at screen 0.5,screen {1 - 20 / height:.4f} center font ',15'\n")


def lines_script(path, title, rows):
    """Rows of panels with lines; one legend below all of them, which is a plot of its own without points."""
    names = list(dict.fromkeys(n for row in rows for p in row for n in p.series))
    legend = 24 * ((len(names) + 3) // 4) + 14
    height = 290 * len(rows) + legend + 44
    top, bottom, others = 1 - 44 / height, legend / height, {}
    script = _head(path, title, 900, height) + "set multiplot\nunset key\n"
    for r, row in enumerate(rows):
        high = (top - bottom) / len(rows)
        for c, panel in enumerate(row):
            left, right = max((c + 0.16) / len(row), 92 / 900), (c + 0.96) / len(row)
            floor, ceiling = top - (r + 1) * high + 54 / height, top - r * high - 26 / height
            values = [y for points in panel.series.values() for _, y in points if y > 0] or [1]
            places = sorted({x for points in panel.series.values() for x, _ in points})
            script += (f"set lmargin at screen {left:.4f}\nset rmargin at screen {right:.4f}\n"
                       f"set bmargin at screen {floor:.4f}\nset tmargin at screen {ceiling:.4f}\n"
                       f"set title {_quoted(panel.title)} font ',13' offset 0,-0.6\n"
                       f"set xlabel {_quoted(panel.x)} offset 0,0.4\n"
                       f"set ylabel {_quoted(panel.y if c == 0 else '')} offset 0.5,0\n"
                       f"unset logscale\n{_axis('y', values, _duration if panel.time else '{:g}'.format)}"
                       + (f"set logscale x {panel.log_x}\n" if panel.log_x else "")
                       + "set xtics autofreq\n"
                       + (f"set xtics ({', '.join(f'{_quoted(t)} {v}' for t, v in panel.tics)})\n" if panel.tics else "")
                       + "set offsets graph 0.04, graph 0.04, 0, 0\n"
                       + "plot " + ", ".join(f"'-' using 1:2 with linespoints {_style(n, others)} notitle"
                                             for n in panel.series) + "\n"
                       + "".join(_data(points, places) for points in panel.series.values()) + "unset label 99\n")
    script += ("unset logscale\nunset border\nunset tics\nunset title\nunset xlabel\nunset ylabel\nunset grid\n"
               "set lmargin at screen 0.02\nset rmargin at screen 0.98\n"
               f"set bmargin at screen {4 / height:.4f}\nset tmargin at screen {legend / height:.4f}\n"
               "set key center center horizontal maxcols 4 samplen 4 spacing 1.2 font ',12' noenhanced\n"
               "set xrange [0:1]\nset yrange [0:1]\nplot "
               + ", ".join(f"NaN with linespoints {_style(n, others)} title {_quoted(n)}" for n in names) + "\n")
    return script + "unset multiplot\n"


def dots_script(path, title, groups, metrics, x):
    """A row a name, a point a metric. groups: (heading, [(name, {metric: value})])."""
    rows = []
    for heading, entries in groups:
        rows += [(heading, None)] + entries
    height = 23 * len(rows) + 140
    script = _head(path, title, 900, height)
    script += (f"set lmargin at screen 0.24\nset rmargin at screen 0.97\nset tmargin at screen {1 - 48 / height:.4f}\n"
               f"set bmargin at screen {88 / height:.4f}\nset xlabel {_quoted(x)}\n"
               f"{_axis('x', [v for _, entry in rows for v in (entry or {}).values()], _duration)}"
               f"set yrange [{len(rows) - 0.4}:-0.6]\n"
               f"set key at screen 0.6,{18 / height:.4f} center center horizontal noenhanced font ',12'\n"
               "set ytics noenhanced (" + ", ".join(
                   f"{_quoted(n if v is not None else n.upper().replace('KIB', 'KiB'))} {i}" for i, (n, v) in enumerate(rows)) + ")\n"
               "set grid xtics\n")
    looks = (("#0072b2", 7), ("#d55e00", 9), ("#000000", 4))
    spans = [(min(v.values()), i, max(v.values())) for i, (_, v) in enumerate(rows) if v]
    script += "plot '-' using 1:2:3:4 with vectors nohead lc rgb '#bbbbbb' lw 1.5 notitle"
    for metric, (colour, point) in zip(metrics, looks):
        script += f", '-' using 1:2 with points pt {point} ps 0.9 lc rgb '{colour}' title {_quoted(metric)}"
    script += "\n" + "".join(f"{a} {i} {b - a} 0\n" for a, i, b in spans) + "e\n"
    for metric in metrics:
        script += _data([(v[metric], i) for i, (_, v) in enumerate(rows) if v and metric in v])
    return script


def _by_peer(figures, key):
    """name: [(parameter, median)] of the best variant of each peer; ours by variant."""
    groups = {}
    for f in figures:
        name = f.name if f.role == "ours" else f.peer
        if f.name == "gpuq (static) " + f.variant:
            continue
        groups.setdefault((name, f.parameters[key]), []).append(f)
    series = {}
    for (name, x), found in sorted(groups.items(), key=lambda g: g[0][1]):
        series.setdefault(name, []).append((x, best(found, ("ours", "peer", "floor")).median))
    return _ordered(series)


def _by_name(figures, x, y=lambda f: f.median):
    series = {}
    for f in sorted(figures, key=lambda f: f.parameters[x]):
        series.setdefault(f.name, []).append((f.parameters[x], y(f)))
    return _ordered(series)


def _ordered(series):
    return dict(sorted(series.items(), key=lambda s: (not s[0].startswith("gpuq"), s[0].startswith("reference"), s[0])))


def throughput(figures, path):
    """Rings, by bytes a message, one and 32 messages a call. Of a peer the best of its variants."""
    rows = []
    for case, placement, what in (("spsc", "p0|c1", "1 sender, 1 receiver"),
                                  ("mpmc", "p0c0|p1c1", "2 senders, 2 receivers")):
        row = []
        for batch in (1, 32):
            found = pick(figures, "ring", case, {"placement": placement, "batch": batch}, "rate")
            if found:
                row.append(Panel(f"{what}, {batch} a call", "bytes a message", "million messages/s",
                                 _by_peer(found, "size"), False, 2, [(str(s), s) for s in (64, 256, 2048)]))
        if row:
            rows.append(row)
    return rows and lines_script(path, "Throughput of rings by payload and batch (higher is better)", rows)


def latency(figures, path):
    """One message there and back; p50, p99 and p99.9 are points on one line."""
    groups = []
    for heading, suite, case, parameters in (
            ("ring, 64 B", "ring", "pingpong", {"size": 64}), ("ring, 2 KiB", "ring", "pingpong", {"size": 2048}),
            ("queue", "queue", "round_trip", {"size": 64})):
        rows = {}
        for metric in ("p50", "p99", "p99.9"):
            for f in pick(figures, suite, case, parameters, metric):
                if "(static)" not in f.name:
                    rows.setdefault(f.name, {})[metric] = f.median
        if rows:
            groups.append((heading, sorted(rows.items(), key=lambda r: next(iter(r[1].values())))))
    return groups and dots_script(path, "One message there and back, between two cores (lower is better)", groups,
                                  ("p50", "p99", "p99.9"), "there and back")


def load(figures, path):
    """Messages come at a given rate, at random, whatever becomes of them; latency counts from when a message was due.
    Rings one way, the queue there and back. A way that carries less than 95 percent of what is offered ends there."""
    row = []
    for metric, title in (("p50", "median"), ("p99", "99th percentile"), ("p99.9", "99.9th percentile")):
        found = pick(figures, "load", "open_loop", {}, metric)
        if found:
            series = {n: [(x / 1e6, y) for x, y in points] for n, points in _by_name(found, "load").items()}
            row.append(Panel(title, "million messages/s offered", "since it was due", series, True, 10,
                             [(t, float(t)) for t in ("0.1", "0.3", "1", "3", "10", "30")]))
    return row and lines_script(path, "Latency from when a message was due, by offered load (lower is better)", [row])


def cost(figures, path):
    """What a message costs by how much room there is and how many are on their way."""
    row = []
    for case, title, key, x in (
            ("capacity_few", "16 outstanding at most", "slots", "capacity, messages"),
            ("capacity_full", "filled, then emptied", "slots", "capacity, messages"),
            ("outstanding", "capacity 65536", "outstanding", "outstanding at most, messages")):
        found = pick(figures, "sweep", case, {}, "cost")
        if found:
            tics = (("1", 1), ("16", 16), ("256", 256), ("4 Ki", 4096), ("64 Ki", 65536), ("1 Mi", 1 << 20))
            tics = [t for t in tics if t[1] <= max(f.parameters[key] for f in found)]
            row.append(Panel(title, x, "a message", _by_name(found, key), True, 2, tics))
    return row and lines_script(path, "Cost of a 64-byte message by capacity and messages outstanding (lower is better)",
                                [row])


def scaling(figures, path):
    """Threads that send and take, one and 32 messages a call. Where there are more than CPUs they take turns."""
    rows = []
    shapes = (("N senders, 1 taker", lambda s, t: t == 1, "senders", "N, senders"),
              ("1 sender, N takers", lambda s, t: s == 1, "takers", "N, takers"),
              ("N senders, N takers", lambda s, t: s == t, "senders", "N, of each"))
    for batch in (1, 32):
        row = []
        for title, wanted, key, label in shapes:
            found = [f for f in pick(figures, "sweep", "threads", {"batch": batch}, "cost")
                     if wanted(f.parameters["senders"], f.parameters["takers"])]
            if found:
                row.append(Panel(f"{title}, {batch} a call", label, "million messages/s",
                                 _by_name(found, key, lambda f: 1e3 / f.median), False, 2,
                                 [(str(n), n) for n in (1, 2, 4, 8)]))
        if row:
            rows.append(row)
    return rows and lines_script(path, "Throughput by threads that send and take (higher is better)", rows)


PLOTS = {"throughput": throughput, "latency": latency, "load": load, "cost": cost, "scaling": scaling}


def scripts(figures, folder):
    """(name, what gnuplot is told) of each plot there are figures for. Scales are logarithmic and have no place for
    zeros: a program that was kept from running may have carried 0.0 million messages a second."""
    found = [f for f in figures if f.median > 0]
    for name, make in PLOTS.items():
        script = make(found, folder / f"{name}.svg")
        if script:
            yield name, script


def draw(figures, folder):
    """Writes NAME.svg for each plot there are figures for. Returns the names, or None without gnuplot."""
    if shutil.which("gnuplot") is None:
        return None
    drawn = []
    for name, script in scripts(figures, folder):
        subprocess.run(["gnuplot"], input=script, text=True, check=True, stderr=subprocess.PIPE)
        drawn.append(f"{name}.svg")
    return drawn
