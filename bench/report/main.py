# SPDX-License-Identifier: Apache-2.0
"""What scripts/bench does with all suites: main.py run|report|compare|targets; scripts/bench --help says more."""
import argparse
import pathlib
import signal
import sys

import compare
import run


def chosen(names):
    suites = run.read_suites(pathlib.Path("bench/suites").read_text(encoding="utf-8"))
    unknown = set(names) - {s.name for s in suites}
    if unknown:
        sys.exit(f"scripts/bench: bench/suites has no {', '.join(sorted(unknown))}")
    return [s for s in suites if not names or s.name in names]


def main():
    parser = argparse.ArgumentParser(prog="bench/report/main.py")
    commands = parser.add_subparsers(dest="command", required=True)
    targets = commands.add_parser("targets")
    targets.add_argument("suites", nargs="*")
    runs = commands.add_parser("run")
    runs.add_argument("--smoke", action="store_true")
    runs.add_argument("build", type=pathlib.Path)
    runs.add_argument("folder", type=pathlib.Path)
    runs.add_argument("suites", nargs="*")
    reports = commands.add_parser("report")
    reports.add_argument("folder", type=pathlib.Path)
    compares = commands.add_parser("compare")
    compares.add_argument("--threshold", type=float, default=10)
    compares.add_argument("old")
    compares.add_argument("new")
    arguments = parser.parse_args()

    if arguments.command == "targets":
        print(" ".join(dict.fromkeys(s.target for s in chosen(arguments.suites))))
        return 0
    if arguments.command == "run":
        for number in (signal.SIGTERM, signal.SIGHUP):  # so that no benchmark goes on alone
            signal.signal(number, lambda n, _: sys.exit(128 + n))
        if arguments.smoke:  # its figures mean nothing: they do not pile up
            (arguments.folder / "figures.jsonl").unlink(missing_ok=True)
        failed = run.measure(chosen(arguments.suites), arguments.build, arguments.folder, arguments.smoke)
        print(f"{arguments.folder}: figures.jsonl, {', '.join(run.report(arguments.folder))}")
        return 1 if failed else 0
    if arguments.command == "report":
        print(f"{arguments.folder}: {', '.join(run.report(arguments.folder))}")
        return 0
    try:
        old, new = run.read_run(arguments.old)[0], run.read_run(arguments.new)[0]
    except OSError as why:
        print(f"scripts/bench: {f'{why.filename}: {why.strerror}' if why.filename else why}", file=sys.stderr)
        return 2
    except ValueError as why:
        print(f"scripts/bench: {why}", file=sys.stderr)
        return 2
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # who reads the first lines alone
    comparison = compare.Comparison(old, new, arguments.threshold / 100)
    print("\n".join(comparison.lines()))
    return 1 if comparison.worse else 0


if __name__ == "__main__":
    sys.exit(main())
