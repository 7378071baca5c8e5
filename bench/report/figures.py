# SPDX-License-Identifier: Apache-2.0
"""Figures: what benchmarks print, read and written. bench/README.md describes the lines."""
import dataclasses
import json
import re
import statistics

# Members of a line that say how a figure was measured. All others say what was measured.
MEASURED = ("metric", "unit", "samples", "median", "min", "max", "spread_pct", "runs", "far_runs", "floors")
NAMED = ("suite", "peer", "variant", "case")


@dataclasses.dataclass
class Figure:
    suite: str
    case: str
    peer: str
    variant: str
    metric: str
    unit: str
    samples: list
    parameters: dict

    @property
    def name(self):
        return f"{self.peer} {self.variant}".strip()

    @property
    def median(self):
        return statistics.median(self.samples)

    @property
    def spread(self):
        """(max - min) / median, percent."""
        return 100 * (max(self.samples) - min(self.samples)) / self.median if self.median else 0.0

    @property
    def more_is_better(self):
        return self.unit.endswith("/s")

    @property
    def role(self):
        """ours, floor (what the machine can do: no peer) or peer."""
        if self.peer.startswith("gpuq"):
            return "ours"
        return "floor" if self.peer in ("reference", "floor") else "peer"

    @property
    def about(self):
        """What was measured, as a key: equal in two runs of the same benchmark."""
        return (self.suite, self.case, self.peer, self.variant, self.metric, self.unit,
                tuple(sorted(self.parameters.items())))


class BadLine(Exception):
    """A line that is no figure; says why."""


def figure_of(line, suite=""):
    """The figure of a parsed JSON line; None for a line of context."""
    if not isinstance(line, dict):
        raise BadLine("is no JSON object")
    if "metric" not in line:
        if "program" in line or "machine" in line:
            return None
        raise BadLine("has neither 'metric' nor 'program'")
    for key in ("case", "unit"):
        if not isinstance(line.get(key), str):
            raise BadLine(f"has no '{key}'")
    samples = line.get("samples", [line["median"]] if "median" in line else [])
    if not isinstance(samples, list) or not samples or not all(
            isinstance(s, (int, float)) and not isinstance(s, bool) for s in samples):
        raise BadLine("has neither 'samples', which are numbers, nor 'median'")
    parameters = {k: v for k, v in line.items() if k not in MEASURED + NAMED}
    if not all(isinstance(v, (str, int, float)) for v in parameters.values()):
        raise BadLine("has a parameter that is neither a number nor a string")
    return Figure(line.get("suite", suite), line["case"], line.get("peer", "gpuq"),
                  line.get("variant", ""), line["metric"], line["unit"],
                  [float(s) for s in samples], parameters)


def line_of(figure):
    """The JSON line of a figure."""
    return {"suite": figure.suite, "case": figure.case, "peer": figure.peer,
            "variant": figure.variant, **figure.parameters, "metric": figure.metric,
            "unit": figure.unit, "median": figure.median, "samples": figure.samples}


def from_google_benchmark(document, suite):
    """The figures of Google Benchmark's JSON: a name is CASE/BYTES/PARAMETER:VALUE..., "floor/" before it
    makes it a floor, counters p50_ns and the like are latencies. Of to_google_benchmark()'s what it was made of."""
    found = {}
    for run in document["benchmarks"]:
        if run.get("run_type", "iteration") != "iteration":
            continue
        if "figure" in run:
            figure = figure_of(run["figure"], suite)
            found.setdefault(figure.about, dataclasses.replace(figure, samples=[])).samples.extend(figure.samples)
            continue
        parts = (run.get("run_name") or run["name"]).split("/")
        floor = parts[0] == "floor"
        case, *rest = parts[1:] if floor else parts
        variant, parameters = "", {}
        if case == "flag_bounce":  # what a round trip cannot be faster than
            case, variant, parameters = "round_trip", "flag", {"size": 64}
        for part in rest:
            key, colon, value = part.rpartition(":")
            if value.isdigit() and key != "iterations":
                parameters[{"": "size", "bytes": "size"}.get(key, key) if colon else "size"] = int(value)
        latencies = {key[:-3]: (value, "ns") for key, value in run.items() if re.fullmatch(r"p[\d.]+_ns", key)}
        if latencies:
            values = latencies
        elif case == "throughput":
            values = {"rate": (run["items_per_second"] / 1e6, "Mmsg/s")}
        else:
            scale = {"ns": 1, "us": 1e3, "ms": 1e6, "s": 1e9}[run.get("time_unit", "ns")]
            values = {"cost": (run["real_time"] * scale, "ns")}
        for metric, (value, unit) in values.items():
            figure = Figure(suite, case, "reference" if floor else "gpuq", variant, metric, unit, [], parameters)
            found.setdefault(figure.about, figure).samples.append(float(value))
    return list(found.values())


def to_google_benchmark(figures, context):
    """A document as Google Benchmark writes it: every sample is an iteration. Each has its line too, as a name does
    not say all, and a rate becomes a time."""
    benchmarks = []
    for index, f in enumerate(figures):
        name = "/".join([f.suite, f.case, f.name.replace(" ", "_"),
                         *(f"{k}:{v}" for k, v in sorted(f.parameters.items())), f.metric]).replace(" ", "_")
        for repetition, sample in enumerate(f.samples):
            per_item = {"Mmsg/s": 1e3, "s": 1e9, "ms": 1e6, "us": 1e3}.get(f.unit, 1.0)
            ns = per_item / sample if f.more_is_better and sample else sample * per_item
            entry = {"name": name, "family_index": index, "per_family_instance_index": 0, "run_name": name,
                     "run_type": "iteration", "repetitions": len(f.samples), "repetition_index": repetition,
                     "threads": 1, "iterations": 1, "real_time": ns, "cpu_time": ns, "time_unit": "ns",
                     "figure": line_of(dataclasses.replace(f, samples=[sample]))}
            if f.unit == "Mmsg/s":
                entry["items_per_second"] = sample * 1e6
            benchmarks.append(entry)
    return {"context": context, "benchmarks": benchmarks}


def read_output(text, suite):
    """(figures, lines of context, complaints) of what a benchmark has printed."""
    try:
        document = json.loads(text)
    except ValueError:
        document = None
    if isinstance(document, dict) and "benchmarks" in document:
        try:
            return from_google_benchmark(document, suite), [], []
        except (BadLine, KeyError) as why:
            return [], [], [f"{suite}: is not as Google Benchmark writes it: {why}"]
    figures, context, complaints = [], [], []
    for number, row in enumerate(text.splitlines(), 1):
        if not row.strip():
            continue
        try:
            line = json.loads(row)
            figure = figure_of(line, suite)
        except ValueError:
            complaints.append(f"{suite}: line {number} is no JSON: {row[:60]}")
            continue
        except BadLine as why:
            complaints.append(f"{suite}: line {number} {why}: {row[:60]}")
            continue
        if figure is None:
            context.append(line)
        else:
            figures.append(figure)
    return figures, context, complaints


def merge(figures):
    """Figures about the same thing become one, with the samples of all."""
    merged = {}
    for figure in figures:
        if figure.about in merged:
            merged[figure.about].samples.extend(figure.samples)
        else:
            merged[figure.about] = dataclasses.replace(figure, samples=list(figure.samples))
    return list(merged.values())
