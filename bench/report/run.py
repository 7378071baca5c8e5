# SPDX-License-Identifier: Apache-2.0
"""Runs the suites of bench/suites, notes the machine, and writes what has been measured."""
import collections
import ctypes
import datetime
import json
import os
import pathlib
import resource
import shlex
import signal
import subprocess
import sys
import time

import figures as lines
import plots
import table

PR_SET_CHILD_SUBREAPER = 36
SKIPPED = 77  # exit status: cannot run on this machine
OTHERS_CPUS = 0.1  # of one CPU; what else the system does takes less

Suite = collections.namedtuple("Suite", "name seconds target command")


def read_suites(text):
    suites = []
    for row in text.splitlines():
        if row.strip() and not row.startswith("#"):
            fields = row.split(None, 3)
            if len(fields) != 4 or not fields[1].isdigit():
                raise ValueError(f"bench/suites: not name, seconds, target, command: {row}")
            suites.append(Suite(fields[0], int(fields[1]), fields[2], fields[3]))
    return suites


def _first(command):
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.split("\n")[0].strip()
    except OSError:
        return ""


def describe(build):
    """What the machine, the compiler and the tree are."""
    cpu = kind = ""
    for row in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if row.startswith("model name"):
            cpu = row.split(":", 1)[1].strip()
            break
    for row in (build / "CMakeCache.txt").read_text().splitlines() if (build / "CMakeCache.txt").exists() else []:
        if row.startswith("CMAKE_BUILD_TYPE:"):
            kind = row.split("=", 1)[1]
    cpus = len(os.sched_getaffinity(0))
    commit = _first(["git", "describe", "--always", "--dirty"]) or "none"
    compiler = _first(["cc", "--version"])
    date = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {"machine": cpu, "cpus": cpus, "kernel": os.uname().release, "compiler": compiler, "build": kind,
            "commit": commit, "date": date,
            "lines": [f"date {date}, commit {commit}",
                      f"machine {cpu}, {cpus} CPUs, kernel {os.uname().release}",
                      f"compiler {compiler}; {kind}"]}


def _cpu_seconds():
    """(that all programs and the kernel have used, that children we have waited for have used), since some time.
    Servers that a suite has left to nobody are our children, see measure(), and are waited for here."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0] != 0:
            pass
    except ChildProcessError:
        pass
    all_cpus = pathlib.Path("/proc/stat").read_text().split("\n", 1)[0].split()
    user, nice, system, _, _, irq, softirq = map(int, all_cpus[1:8])
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return ((user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK"), children.ru_utime + children.ru_stime)


def run_suite(suite, build, smoke):
    """(figures, context, complaints, seconds). A suite that cannot run, fails or takes too long is a complaint;
    what it has printed until then counts."""
    command = suite.command.replace("BUILD", shlex.quote(str(build))) + (" --smoke" if smoke else "")
    begin = time.monotonic()
    process = subprocess.Popen(["sh", "-c", command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                               start_new_session=True)
    complaints = []
    try:
        out, err = process.communicate(timeout=suite.seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        out, err = process.communicate()
        complaints.append(f"{suite.name}: stopped after {suite.seconds} s")
    except BaseException:
        os.killpg(process.pid, signal.SIGKILL)
        raise
    found, context, bad = lines.read_output(out, suite.name)
    said = err.strip().splitlines()[-1:] or ["says nothing"]
    if process.returncode == SKIPPED and not found:
        complaints.append(f"{suite.name}: skipped: {said[0]}")
    elif process.returncode != 0 and not complaints:
        complaints.append(f"{suite.name}: exit status {process.returncode}: {said[0]}")
    elif not found and not complaints:
        complaints.append(f"{suite.name}: no figures")
    return found, context, complaints + bad, time.monotonic() - begin


def measure(suites, build, folder, smoke):
    """Runs them and appends to figures.jsonl in the folder. Returns how many failed."""
    folder.mkdir(parents=True, exist_ok=True)
    failed = 0
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    with open(folder / "figures.jsonl", "a", encoding="utf-8") as file:
        machine = describe(build)
        for suite in suites:
            all_before, ours_before = _cpu_seconds()
            found, context, complaints, took = run_suite(suite, build, smoke)
            all_after, ours_after = _cpu_seconds()
            others = max(0.0, (all_after - all_before - (ours_after - ours_before)) / took)
            for complaint in complaints:
                print(f"scripts/bench: {complaint}", file=sys.stderr)
            failed += any("skipped:" not in c for c in complaints)
            note = {**machine, "suite": suite.name, "seconds": round(took, 1), "others_cpus": round(others, 3),
                    "complaints": complaints}
            for line in [note, *({**c, "suite": suite.name} for c in context), *map(lines.line_of, found)]:
                file.write(json.dumps(line) + "\n")
            file.flush()
            print(f"{suite.name}: {len(found)} figures, {took:.0f} s", file=sys.stderr)
    return failed


def read_run(path):
    """(figures, lines of context) of a folder's figures.jsonl, of all in the folders below, or of a file: JSON
    lines, or Google Benchmark's JSON."""
    path = pathlib.Path(path)
    files = sorted(path.rglob("*.jsonl")) if path.is_dir() else [path]
    if not files:
        raise FileNotFoundError(f"there is no .jsonl in {path}")
    found, context = [], []
    for file in files:
        more, about, complaints = lines.read_output(file.read_text(encoding="utf-8"), "queue")
        if complaints:
            raise ValueError(f"{file}: {complaints[0]}")
        found += more
        context += about
    return lines.merge(found), context


def about(context):
    """What the page says about the machine, from the notes of all suites."""
    notes = [c for c in context if "machine" in c]
    if not notes:
        return {"date": "unknown", "lines": [], "notes": []}
    machine = dict(notes[0])
    machine["lines"] = list(machine["lines"])
    trips = sorted(c["line_rtt_ns"] for c in context if "line_rtt_ns" in c)
    if trips:
        machine["lines"].append(f"floor: a cache line there and back, ns: median {trips[len(trips) // 2]:g}, "
                                f"{trips[0]:g} to {trips[-1]:g} over {len(trips)} programs")
    for aside in (c for c in context if "set_aside" in c):
        left_out = f"; {aside['left_out']} figures had no other" if aside["left_out"] else ""
        machine["lines"].append(f"{aside['suite']}: {aside['set_aside']} of {aside['of']} samples set aside, because a "
                                f"line took more than {aside['within']} times as long or as short as the median of "
                                f"{aside['floor_ns']:g} ns there and back{left_out}")
    machine["lines"].append("suites: " + ", ".join(f"{n['suite']} {n['seconds']:.0f} s" for n in notes))
    machine["notes"] = []
    others = [n["others_cpus"] for n in notes if "others_cpus" in n]
    if others:
        machine["lines"].append(f"other programs and the kernel used {min(others):.2f} to {max(others):.2f} CPUs while a "
                                "suite ran")
        beside = [n["suite"] for n in notes if n.get("others_cpus", 0) > OTHERS_CPUS]
        if beside:
            machine["notes"].append(f"**The machine was shared**: other programs ran beside {', '.join(beside)}.")
    machine["notes"] += [f"Incomplete: {c}." for n in notes for c in n["complaints"]]
    return machine


def report(folder):
    """table.md, benchmark.json and the plots, from figures.jsonl. Returns the names of the files."""
    folder = pathlib.Path(folder)
    found, context = read_run(folder / "figures.jsonl")
    machine = about(context)
    drawn = plots.draw(found, folder)
    if drawn is None:
        print("scripts/bench: no plots: there is no gnuplot (scripts/deps bench installs it)", file=sys.stderr)
    captions = [(n, " ".join(plots.PLOTS[n].__doc__.split())) for n in plots.PLOTS if f"{n}.svg" in (drawn or [])]
    (folder / "table.md").write_text(table.page(found, machine, captions), encoding="utf-8")
    (folder / "benchmark.json").write_text(json.dumps(
        lines.to_google_benchmark(found, {"date": machine["date"], "host_name": "", "num_cpus": machine.get("cpus", 0),
                                          "library_build_type": "release", "commit": machine.get("commit", "")}),
        indent=1), encoding="utf-8")
    return ["table.md", "benchmark.json", *(drawn or [])]
