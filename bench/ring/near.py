# SPDX-License-Identifier: Apache-2.0
"""
Which samples can be compared: those of one state of the machine.

The host of a virtual machine has its CPUs near each other at one time and far at another, for a
program's whole run. A line then takes several times as long between them, and a figure of one state
beside a peer's of the other says nothing. So each sample has its floor, the round trip of a bare flag
around it (harness.h), and counts only if that is within WITHIN of the median of all floors.
"""
import json
import statistics
import subprocess
import sys
import time

SKIPPED = 77  # exit status: cannot run on this machine
WITHIN = 1.3
ENOUGH = 3  # samples of a figure, of the five that a program takes

NOT_ABOUT = ("samples", "floors", "runs", "median", "min", "max", "spread_pct", "far_runs")


def key_of(line):
    """What a figure is about: equal in two runs of a program."""
    return tuple(sorted((k, v) for k, v in line.items() if k not in NOT_ABOUT))


def median_floor(lines):
    """Of all samples that have a floor, one of these floors; None where there are none."""
    floors = [f for line in lines for f in line.get("floors", [])]
    return statistics.median_low(floors) if floors else None


def near(line, floor):
    """The samples of a line that count."""
    if floor is None or "floors" not in line:
        return line["samples"]
    return [s for s, f in zip(line["samples"], line["floors"]) if floor / WITHIN <= f <= floor * WITHIN]


def merged(lines, floor):
    """One line of each figure, with the samples that count of all runs; of a figure without any, none."""
    figures = {}
    for line in lines:
        if "metric" not in line:
            continue
        figures.setdefault(key_of(line), ({k: v for k, v in line.items() if k not in NOT_ABOUT}, []))[1].extend(
            near(line, floor))
    for about, samples in figures.values():
        if samples:
            middle = statistics.median(samples)
            yield {**about, "runs": len(samples), "median": middle, "min": min(samples), "max": max(samples),
                   "spread_pct": 100 * (max(samples) - min(samples)) / middle if middle else 0.0, "samples": samples}


def too_few(lines, floor):
    """Whether a figure of these lines has too few samples that count."""
    counts = {}
    for line in lines:
        if "metric" in line:
            key = key_of(line)
            counts[key] = counts.get(key, 0) + len(near(line, floor))
    least = min((len(line["samples"]) for line in lines if "metric" in line), default=0)
    return any(count < min(ENOUGH, least) for count in counts.values())


def told(lines, floor):
    """A line of context: how many samples were set aside, and how many figures are left out for it."""
    figures = [line for line in lines if "metric" in line]
    return {"program": "suite", "of": sum(len(line["samples"]) for line in figures),
            "set_aside": sum(len(line["samples"]) - len(near(line, floor)) for line in figures),
            "left_out": len({key_of(line) for line in figures}) - len(list(merged(figures, floor))),
            "within": WITHIN, "floor_ns": round(floor or 0, 1)}


def measure(commands, again, seconds):
    """Runs each command (a list of strings) once. Then it runs those with too few samples that count again, up to so
    many times, but none that would bring the whole beyond these seconds, if it took as long as the last time. Returns
    the lines of JSON to print: what the programs say of themselves, how many samples were set aside, and the figures.
    Ends the process if a program fails."""
    begin = time.monotonic()
    took = {}

    def run(command):
        start = time.monotonic()
        lines = _run(command)
        took[tuple(command)] = time.monotonic() - start
        return lines

    ran = [(command, run(command)) for command in commands]

    def everything():
        return [line for _, lines in ran for line in lines]

    # The median is that of all, and stays: else runs in the other state could move it.
    floor = median_floor(everything())
    for _ in range(again):
        for command, lines in ran:
            if too_few(lines, floor) and time.monotonic() - begin + took[tuple(command)] < seconds:
                lines += run(command)
    lines = everything()
    return [json.dumps(line, separators=(",", ":"))
            for line in [*(x for x in lines if "metric" not in x), *([told(lines, floor)] if floor else []),
                         *merged(lines, floor)]]


def _run(command):
    """The lines of a program."""
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode not in (0, SKIPPED):
        sys.exit(f"{sys.argv[0]}: {command[0]}: exit status {done.returncode}")
    return [json.loads(row) for row in done.stdout.splitlines()]
