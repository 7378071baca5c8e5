# SPDX-License-Identifier: Apache-2.0
"""Tests of reading figures, the table, the comparison and the plots, on made-up figures. Nothing is timed."""
import dataclasses
import json
import pathlib
import random
import subprocess
import sys
import tempfile
import unittest

import compare
import figures
import plots
import run
import table

LOAD = pathlib.Path(__file__).resolve().parent.parent / "load"
RING = pathlib.Path(__file__).resolve().parent.parent / "ring"
sys.path.append(str(RING))
import near  # pylint: disable=wrong-import-position


def figure(peer="gpuq", variant="many", samples=(10, 11, 12, 13, 14), case="spsc", suite="ring", metric="rate",
           unit="Mmsg/s", **parameters):
    return figures.Figure(suite, case, peer, variant, metric, unit, [float(s) for s in samples],
                          {"size": 64, "batch": 1, **parameters})


def noisy(seed, factor=1.0, peer="rte_ring", count=40, spread=0.05):
    """`count` figures of five samples each, in sizes of their own."""
    draw = random.Random(seed)
    return [figure(peer=peer, variant="", size=i,
                   samples=[factor * (10 + i) * (1 + draw.uniform(-spread, spread)) for _ in range(5)])
            for i in range(count)]


class Reading(unittest.TestCase):
    def test_a_line_is_a_figure_and_what_is_not_reserved_is_a_parameter(self):
        f = figures.figure_of({"case": "spsc", "peer": "ck_ring", "metric": "rate", "unit": "Mmsg/s", "samples": [1, 3],
                               "size": 64, "placement": "p0|c1", "runs": 2, "spread_pct": 4.0}, "ring")
        self.assertEqual((f.median, f.role, f.parameters), (2, "peer", {"size": 64, "placement": "p0|c1"}))
        self.assertTrue(f.more_is_better)

    def test_a_line_written_and_read_again_is_the_same_figure(self):
        f = figure(placement="p0|c1")
        self.assertEqual(figures.figure_of(json.loads(json.dumps(figures.line_of(f)))), f)

    def test_a_bad_line_is_named_and_the_others_count(self):
        text = '{"program":"x"}\n{"case":"a","metric":"p50","unit":"ns","median":5}\nnonsense\n' \
               '{"case":"a","metric":"p50","unit":"ns"}\n{"case":"a"}\n[1]\n' \
               '{"case":"a","metric":"p50","unit":"ns","median":5,"why":[1]}\n'
        found, context, complaints = figures.read_output(text, "s")
        self.assertEqual((len(found), len(context), len(complaints)), (1, 1, 5))
        self.assertIn("s: line 3 is no JSON", complaints[0])
        self.assertIn("line 4 has neither 'samples'", complaints[1])

    def test_google_benchmarks_names_become_case_and_parameters(self):
        document = {"benchmarks": [
            {"run_name": "floor/enqueue_local/64/iterations:400/manual_time", "run_type": "iteration", "real_time": 7.0,
             "time_unit": "ns"},
            {"run_name": "enqueue_local/64/iterations:400/manual_time", "run_type": "iteration", "real_time": 18.0,
             "time_unit": "ns"},
            {"run_name": "throughput/bytes:64/batch:32/producers:1/consumers:2/iterations:3/manual_time",
             "run_type": "iteration", "real_time": 1.0, "time_unit": "ms", "items_per_second": 5e6},
            {"run_name": "round_trip/64/manual_time", "run_type": "iteration", "real_time": 1.0, "p50_ns": 330.0,
             "p99.9_ns": 900.0},
            {"run_name": "enqueue_local/64", "run_type": "aggregate", "real_time": 1.0}]}
        found = figures.read_output(json.dumps(document), "queue")[0]
        self.assertEqual([(f.case, f.role, f.metric, f.median) for f in found],
                         [("enqueue_local", "floor", "cost", 7.0), ("enqueue_local", "ours", "cost", 18.0),
                          ("throughput", "ours", "rate", 5.0), ("round_trip", "ours", "p50", 330.0),
                          ("round_trip", "ours", "p99.9", 900.0)])
        self.assertEqual(found[2].parameters, {"size": 64, "batch": 32, "producers": 1, "consumers": 2})

    def test_every_sample_is_an_iteration_for_google_benchmark(self):
        document = figures.to_google_benchmark([figure(samples=[10, 20])], {})
        self.assertEqual([b["real_time"] for b in document["benchmarks"]], [100.0, 50.0])
        self.assertEqual([b["items_per_second"] for b in document["benchmarks"]], [10e6, 20e6])

    def test_google_benchmarks_form_read_again_is_the_same_figures(self):
        written = [figure(), figure(peer="rte_ring", variant=""), figure(case="mpsc", metric="p50", unit="ns"),
                   figure(placement="p0|c1", suite="load")]
        text = json.dumps(figures.to_google_benchmark(written, {}))
        self.assertEqual(figures.read_output(text, "queue")[0], written)

    def test_runs_of_the_same_benchmark_are_added_up(self):
        merged = figures.merge([figure(samples=[1, 2]), figure(samples=[3]), figure(variant="single")])
        self.assertEqual([f.samples for f in merged], [[1, 2, 3], [10, 11, 12, 13, 14]])

    def test_a_row_of_the_suites_is_four_fields(self):
        suites = run.read_suites("# x\n\nring 150 bench_ring bench/ring/suite BUILD/bench/ring\n")
        self.assertEqual(suites, [("ring", 150, "bench_ring", "bench/ring/suite BUILD/bench/ring")])
        with self.assertRaises(ValueError):
            run.read_suites("ring bench_ring run\n")


class Running(unittest.TestCase):
    def suite(self, command, seconds=60):
        return run.run_suite(run.Suite("s", seconds, "", command), pathlib.Path("B"), False)

    def test_a_failing_suite_keeps_its_figures_and_says_why(self):
        line = '{"case":"a","metric":"p50","unit":"ns","median":5}'
        found, _, complaints, _ = self.suite(f"echo '{line}'; echo no room >&2; exit 3")
        self.assertEqual((len(found), complaints), (1, ["s: exit status 3: no room"]))

    def test_a_suite_that_cannot_run_is_skipped(self):
        self.assertEqual(self.suite("echo two CPUs are needed >&2; exit 77")[2], ["s: skipped: two CPUs are needed"])

    def test_a_suite_that_hangs_is_stopped_with_all_its_processes(self):
        self.assertEqual(self.suite("sleep 1000 & sleep 1000", 1)[2], ["s: stopped after 1 s"])

    def test_a_suite_without_figures_has_failed(self):
        self.assertEqual(self.suite("true")[2], ["s: no figures"])


class Tables(unittest.TestCase):
    def test_ratios_are_to_the_best_peer_and_the_floor_is_no_peer(self):
        t = table.tables([figure(samples=[10]), figure(peer="rte_ring", samples=[20]), figure(peer="ck", samples=[5]),
                          figure(peer="reference", samples=[40])])[0]
        text = "\n".join(t.lines())
        self.assertIn("| **gpuq many, of the best peer** | **0.50** rte_ring many |", text)
        self.assertIn("| gpuq many, times the floor | 0.25 |", text)

    def test_of_a_latency_less_is_better(self):
        latency = {"metric": "p50", "unit": "ns", "case": "pingpong"}
        t = table.tables([figure(samples=[200], **latency), figure(peer="a", samples=[400], **latency),
                          figure(peer="b", samples=[800], **latency),
                          figure(peer="reference", variant="flag", samples=[100], **latency)])[0]
        text = "\n".join(t.lines())
        self.assertIn("**2.00** a many", text)
        self.assertIn("| gpuq many, times the floor | 2.00 |", text)

    def test_numbers_become_columns_and_words_titles(self):
        found = table.tables([figure(size=s, placement=p) for s in (64, 256) for p in ("p0|c1", "p0p0|c1")])
        self.assertEqual([len(t.columns) for t in found], [2, 2])
        self.assertIn("p0p0|c1", found[1].title)
        self.assertEqual(next(line for line in found[0].lines() if line.startswith("|  |")), "|  | 64 B | 256 B |")
        self.assertIn("x1", found[0].title)

    def test_a_wide_table_is_turned_round(self):
        wide = table.tables([figure(size=i, slots=j) for i in range(3) for j in range(4)])[0]
        self.assertEqual([line.count("|") for line in wide.lines() if line.startswith("|")], [3] * 14)

    def test_percentiles_stand_in_their_order(self):
        found = [figure(metric=m, unit="ns", case="x") for m in ("p99.9", "p50", "p99")]
        self.assertEqual(table.tables(found)[0].metrics, ["p50", "p99", "p99.9"])

    def test_a_page_has_machine_summary_and_tables(self):
        page = table.page([figure(slots=1024), figure(peer="ck_ring", variant="", samples=[20], slots=1024)],
                          {"date": "2026-01-02T", "lines": ["machine m", "compiler c"], "notes": ["Shared."]},
                          [("cost", "What it costs.")])
        for part in ("## Cost", "What it costs.", "![Cost](cost.svg)","# Benchmarks, 2026-01-02", "    machine m", "Shared.", "20 M/s, ck_ring | 0.60 |", "slots 1024"):
            self.assertIn(part, page)


class Comparing(unittest.TestCase):
    def test_the_exact_p_of_small_samples(self):
        self.assertAlmostEqual(compare.mann_whitney([1, 2, 3, 4, 5], [6, 7, 8, 9, 10]), 2 / 252)
        self.assertAlmostEqual(compare.mann_whitney([1, 2, 3, 4, 6], [5, 7, 8, 9, 10]), 4 / 252)
        self.assertEqual(compare.mann_whitney([1, 2, 3], [1, 2, 3]), 1.0)
        self.assertAlmostEqual(compare.mann_whitney([1, 2, 3], [4, 5, 6]), 0.1)

    def test_the_same_tree_twice_shows_no_change(self):
        old = noisy(1) + noisy(2, peer="gpuq")
        new = noisy(3) + noisy(4, peer="gpuq")
        self.assertEqual(compare.Comparison(old, new).changed, [])

    def test_a_change_beyond_the_noise_is_found_in_its_direction(self):
        old = noisy(1) + noisy(2, peer="gpuq")
        new = noisy(3) + noisy(4, 1.4, peer="gpuq", count=20) + noisy(4, 0.7, peer="gpuq")[20:]
        found = compare.Comparison(old, new)
        self.assertEqual((len(found.changed), len(found.worse)), (40, 20))

    def test_of_a_latency_the_larger_is_the_worse(self):
        a = figure(metric="p50", unit="ns", samples=[100, 101, 102, 103, 104])
        found = compare.Comparison([a], [dataclasses.replace(a, samples=[2 * s for s in a.samples])])
        self.assertEqual([round(c[0], 2) for c in found.worse], [0.5])

    def test_ten_percent_is_no_change_however_certain(self):
        a = figure(samples=[100, 100.1, 100.2, 100.3, 100.4])
        b = dataclasses.replace(a, samples=[s * 1.09 for s in a.samples])
        self.assertEqual(compare.Comparison([a], [b]).changed, [])
        self.assertEqual(len(compare.Comparison([a], [b], 0.05).changed), 1)

    def test_overlapping_samples_are_no_change_however_far_the_medians(self):
        a, b = figure(samples=[10, 10, 10, 50, 50]), figure(samples=[10, 10, 50, 50, 50])
        self.assertEqual(compare.Comparison([a], [b]).changed, [])

    def test_a_slower_machine_is_not_blamed_on_the_tree(self):
        old = noisy(1) + noisy(2, peer="gpuq")
        new = noisy(3, 0.6) + noisy(4, 0.6, peer="gpuq")
        found = compare.Comparison(old, new)
        self.assertEqual(found.noise["ring"][1], 40)  # all controls have moved, and that is said
        self.assertIn("| ring | 40 | 40 | 0.60 |", "\n".join(found.lines()))
        self.assertLess(len(found.changed), 5)

    def test_three_samples_a_side_cannot_differ_and_that_is_said(self):
        a, b = figure(samples=[1, 2, 3]), figure(samples=[10, 20, 30])
        found = compare.Comparison([a], [b])
        self.assertEqual(found.changed, [])
        self.assertIn("1 have too few samples", "\n".join(found.lines()))

    def test_what_is_in_one_run_only_is_counted_and_not_compared(self):
        found = compare.Comparison([figure()], [figure(size=128)])
        self.assertEqual((len(found.only_old), len(found.only_new), found.pairs), (1, 1, []))

    def test_many_samples_take_no_time(self):
        self.assertLess(compare.mann_whitney(range(500), range(1000, 1500)), 1e-6)


class Plots(unittest.TestCase):
    def test_every_plot_names_all_series_and_has_a_point_of_each_figure(self):
        found = [figure(peer=p, variant=v, size=s, placement="p0|c1", batch=b)
                 for p, v in (("gpuq", "many"), ("rte_ring", "zc"), ("rte_ring", "mt")) for s in (64, 256) for b in (1, 32)]
        script = plots.throughput(found, "x.svg")
        for name in ("gpuq many", "rte_ring"):
            self.assertIn(f'title "{name}"', script)
        self.assertEqual(script.count("64 12.0\n"), 4)  # of a peer the best variant alone

    def test_a_figure_of_nothing_has_no_point_and_stops_nothing(self):
        zero = [figure(peer=p, size=s, placement="p0|c1", samples=[0 if p == "ck" else 5]) for p in ("gpuq", "ck")
                for s in (64, 256)]
        zero += [figure(case="threads", suite="sweep", metric="cost", unit="ns", samples=[5 * (n - 1)], senders=n, takers=1)
                 for n in (1, 2)]
        made = dict(plots.scripts(zero, pathlib.Path(".")))
        self.assertEqual(list(made), ["throughput", "scaling"])
        self.assertIn("64 5.0\n", made["throughput"])
        self.assertNotIn('title "ck"', made["throughput"])
        self.assertEqual(dict(plots.scripts([f for f in zero if f.peer == "ck"], pathlib.Path("."))), {})
        table.page(zero, {"date": "2026-01-02T", "lines": [], "notes": []}, [])

    def test_an_axis_has_labels_however_short_and_not_many_however_long(self):
        for value in (10 ** (k / 50 - 2) for k in range(200)):
            for most in (value, 1.1 * value, 50 * value, 1e6 * value):
                axis = plots._axis("y", [value, most], "{:g}".format)  # pylint: disable=protected-access
                self.assertIn(axis.split("set ytics")[1].count('"') // 2, range(2, 10), (value, most))

    def test_a_line_is_broken_where_it_would_pass_a_place_without_a_figure(self):
        data = plots._data([(1, 5.0), (2, 6.0), (16, 7.0)], [1, 2, 4, 16])  # pylint: disable=protected-access
        self.assertEqual(data, "1 5.0\n2 6.0\n\n16 7.0\ne\n")
        self.assertEqual(plots._data([(1, 5.0), (2, 6.0)], [1, 2]), "1 5.0\n2 6.0\ne\n")  # pylint: disable=protected-access

    def test_where_nothing_was_measured_there_is_no_plot(self):
        for make in plots.PLOTS.values():
            self.assertFalse(make([], "x.svg"))


class Waiting(unittest.TestCase):
    def test_what_another_build_does_not_measure_has_no_figure_in_the_table(self):
        text = "".join(json.dumps({"suite": 1, "build": b, "case": "round_trip", "peer": "condition variable", "variant": "",
                                   "busy": 2, "cpus": "all", "unit": "ns", "metric": m, "median": ns},
                                  separators=(",", ":")) + "\n"
                       for b, m, ns in (("now", "mean", 20000), ("now", "p99", 90000), ("before", "p99", 8000)))
        made = subprocess.run(["awk", "-f", RING.parent / "wait" / "table.awk"], input=text, text=True, check=True,
                              stdout=subprocess.PIPE).stdout.splitlines()
        self.assertEqual(made[2:], [
            "| 2 | all | now | condition variable | 20.0 | 20.0 to 20.0 | 90.0 | 1.00 | - | - | - |",
            "| 2 | all | before | condition variable | - | - | 8.0 | - | - | - | - |"])


def line_of(samples, floors, peer="gpuq"):
    return {"peer": peer, "case": "spsc", "metric": "rate", "unit": "Mmsg/s", "samples": samples, "floors": floors}


class NearAndFar(unittest.TestCase):
    def test_a_sample_counts_where_its_floor_is_that_of_most(self):
        lines = [line_of([10, 11, 12, 13, 2], [90, 100, 110, 129, 131]), line_of([5, 6], [100, 500], "ck_ring")]
        floor = near.median_floor(lines)
        self.assertEqual(floor, 110)
        self.assertEqual(near.near(lines[0], 100), [10, 11, 12, 13])
        self.assertEqual(near.near(lines[0], 500), [])
        self.assertEqual([m["samples"] for m in near.merged(lines, floor)], [[10, 11, 12, 13, 2], [5]])
        self.assertEqual(near.median_floor([line_of([1, 2, 3, 4], [60, 60, 200, 200])]), 60, "no floor that nobody had")
        self.assertEqual(near.near({"samples": [1, 2]}, floor), [1, 2])

    def test_a_program_with_too_few_is_run_again_and_its_samples_are_added(self):
        far, again = line_of([1, 1, 1, 9, 9], [500, 500, 500, 100, 100]), line_of([8, 8, 8, 8, 8], [100] * 5)
        self.assertTrue(near.too_few([far], 100))
        self.assertFalse(near.too_few([far, again], 100))
        self.assertFalse(near.too_few([line_of([1], [100])], 100), "of a smoke run one sample is enough")
        self.assertEqual([m["samples"] for m in near.merged([far, again], 100)], [[9, 9, 8, 8, 8, 8, 8]])

    def test_a_figure_without_any_is_left_out_and_that_is_said(self):
        lines = [line_of([1] * 5, [500] * 5), line_of([9] * 5, [100] * 5, "ck_ring")]
        self.assertEqual([m["peer"] for m in near.merged(lines, 100)], ["ck_ring"])
        told = near.told(lines, 100)
        self.assertEqual((told["set_aside"], told["of"], told["left_out"]), (5, 10, 1))
        page = run.about([{**told, "machine": "m", "lines": [], "suite": "ring", "seconds": 1,
                           "cpus": 2, "complaints": []}])
        self.assertIn("ring: 5 of 10 samples set aside", page["lines"][0])

    def test_the_suite_runs_again_what_was_far(self):
        with tempfile.TemporaryDirectory() as name:
            folder = pathlib.Path(name)
            for program, floors in (("gpuq", "500"), ("ck", "100"), ("dpdk", "101")):
                peer = {"peer": program, "case": "spsc", "metric": "rate", "unit": "Mmsg/s", "samples": [4, 4, 4]}
                rows = [json.dumps({**peer, "floors": [int(f)] * 3}) for f in (floors, "100")]
                # The second time, and ever after, it is near.
                (folder / f"ring_{program}").write_text(
                    f"#!/bin/sh\nif [ \"$1\" != spsc ]; then exit 77; fi\nif mkdir {folder}/{program}; then\n"
                    f"echo '{rows[0]}'\nelse\necho '{rows[1]}'\nfi\n")
                (folder / f"ring_{program}").chmod(0o755)
            done = subprocess.run([RING / "suite", folder], stdout=subprocess.PIPE, text=True, check=True)
            found, context, complaints = figures.read_output(done.stdout, "ring")
        self.assertEqual((complaints, [(f.peer, f.samples) for f in found]),
                         ([], [("gpuq", [4, 4, 4]), ("dpdk", [4, 4, 4]), ("ck", [4, 4, 4])]))
        self.assertEqual([(c["set_aside"], c["of"]) for c in context], [(3, 12)])

    def test_loads_are_run_again_where_they_were_far(self):
        with tempfile.TemporaryDirectory() as name:
            folder = pathlib.Path(name)
            line = {"peer": "gpuq", "case": "open_loop", "metric": "p50", "unit": "ns", "samples": [4, 5, 6]}
            first, again = (json.dumps({**line, "floors": floors}) for floors in ([100, 100, 500], [101] * 3))
            (folder / "open_loop").write_text(f"#!/bin/sh\nif mkdir {folder}/ran; then\necho '{first}'\n"
                                              f"else\necho '{again}'\nfi\n")
            (folder / "open_loop").chmod(0o755)
            done = subprocess.run([LOAD / "suite", folder / "open_loop"], stdout=subprocess.PIPE, text=True, check=True)
            found, context, complaints = figures.read_output(done.stdout, "load")
        self.assertEqual((complaints, [(f.peer, f.samples) for f in found]), ([], [("gpuq", [4, 5, 4, 5, 6])]))
        self.assertEqual([(c["set_aside"], c["of"]) for c in context], [(1, 6)])


class Reports(unittest.TestCase):
    def test_the_build_folder_may_have_a_space_and_a_quote(self):
        with tempfile.TemporaryDirectory(suffix=" a b's") as name:
            program = pathlib.Path(name) / "prints"
            program.write_text("#!/bin/sh\necho '" + json.dumps({"metric": "rate", "unit": "M/s", "case": "c", "peer": "p",
                                                                "samples": [1]}) + "'\n")
            program.chmod(0o755)
            found, _, complaints, _ = run.run_suite(run.Suite("s", 60, "", "BUILD/prints"), pathlib.Path(name), False)
        self.assertEqual((len(found), complaints), (1, []))

    def test_what_other_programs_used_is_said_and_ours_is_not_theirs(self):
        def page(*others):
            return run.about([{"machine": "m", "lines": [], "suite": "s", "seconds": 1, "complaints": [], "cpus": 2,
                               **({} if o is None else {"others_cpus": o})} for o in others])
        self.assertEqual((page(None)["lines"], page(None)["notes"]), (["suites: s 1 s"], []), "an older run")
        self.assertEqual(page(0.01, 0.05)["notes"], [])
        self.assertIn("other programs and the kernel used 0.01 to 0.50 CPUs while a suite ran", page(0.01, 0.5)["lines"])
        self.assertEqual(page(0.01, 0.5)["notes"],
                         ["**The machine was shared**: other programs ran beside s."])
        before = run._cpu_seconds()
        subprocess.run([sys.executable, "-c", "import time\nwhile time.process_time() < 0.2: pass"], check=True)
        self.assertGreaterEqual(run._cpu_seconds()[1] - before[1], 0.2, "a child's time is ours")
        self.assertGreater(run._cpu_seconds()[0], before[0])

    def test_a_folder_becomes_a_page_and_two_folders_a_comparison(self):
        with tempfile.TemporaryDirectory() as name:
            folder = pathlib.Path(name)
            for part in ("old", "new"):
                suite = run.Suite("ring", 60, "", "cat " + str(folder / "lines"))
                (folder / "lines").write_text("\n".join(json.dumps(figures.line_of(f)) for f in noisy(1)) + "\n")
                self.assertEqual(run.measure([suite], folder, folder / part, False), 0)
            self.assertIn("table.md", run.report(folder / "old"))
            self.assertIn("### ring: spsc", (folder / "old" / "table.md").read_text())
            self.assertEqual(len(json.loads((folder / "old" / "benchmark.json").read_text())["benchmarks"]), 200)
            old, new = run.read_run(folder / "old")[0], run.read_run(folder / "new")[0]
            self.assertEqual(compare.Comparison(old, new).changed, [])


if __name__ == "__main__":
    sys.exit(unittest.main())
