# SPDX-License-Identifier: Apache-2.0
#
# table.awk LOG...: the tables of scripts/gpu-check, for docs/results/, from its logs.
#
# A cell is the median of the repeats with their spread: largest less smallest, over the median. What was
# not measured is "-".

function remember(key, value) {
	n[key]++
	v[key, n[key]] = value + 0
}
function sorted(key, i, j, t) {
	if (done[key] == n[key])
		return
	for (i = 2; i <= n[key]; i++)
		for (j = i; j > 1 && v[key, j - 1] > v[key, j]; j--) {
			t = v[key, j]
			v[key, j] = v[key, j - 1]
			v[key, j - 1] = t
		}
	done[key] = n[key]
}
function median(key) {
	if (n[key] == 0)
		return 0
	sorted(key)
	return n[key] % 2 ? v[key, (n[key] + 1) / 2] : (v[key, n[key] / 2] + v[key, n[key] / 2 + 1]) / 2
}
function spread(key, m) {
	m = median(key)
	return m == 0 || n[key] < 2 ? "" : sprintf(" ~%.0f%%", 100 * (v[key, n[key]] - v[key, 1]) / m)
}
function cell(key, scale, digits) {
	if (n[key] == 0)
		return "-"
	return sprintf("%.*f", digits, median(key) / scale) spread(key)
}
function member(text, name, at, rest) {
	at = index(text, "\"" name "\":")
	if (at == 0)
		return ""
	rest = substr(text, at + length(name) + 3)
	if (substr(rest, 1, 1) == "\"") {
		rest = substr(rest, 2)
		return substr(rest, 1, index(rest, "\"") - 1)
	}
	sub(/[,}].*/, "", rest)
	return rest
}
# what: value, its unit, the bar, whether it is met
function bar(what, measured, limit, met) {
	printf "| %s | %s | %s | %s |\n", what, measured, limit, met
}
function at_most(value, limit) { return value <= limit ? "met" : "**not met**" }
function at_least(value, limit) { return value >= limit ? "met" : "**not met**" }

# of a case of tune with these settings, or with these beside the usual ones
function tuned_as(c, settings) { return c "/" settings "/64" }
function beside(c, setting) { return tuned_as(c, setting ", " usual[c]) }
# A line of the decisions: by how much b is larger than a, and from where on that says something.
function decide(what, a, b, least, then, r) {
	if (n[a] == 0 || n[b] == 0 || median(a) == 0)
		return
	r = median(b) / median(a)
	decision(what, sprintf("%.2f x", r), r >= least, sprintf(">= %.2f", least), then)
}
function decision(what, measured, so, when, then) {
	printf "| %s | %s | %s | %s |\n", what, measured, when, so ? "**" then "**" : "-"
}

BEGIN { n_counted = split("p99 looks claims failed missed fed whole turn_cycles fetch_cycles run_cycles deliver_cycles", counted, " ") }
/^(commit|date|host|gpu|state|driver|command): / {
	at = index($0, ": ")
	name = substr($0, 1, at - 1)
	value = substr($0, at + 2)
	if (index(head[name], value) == 0)
		head[name] = head[name] (head[name] == "" ? "" : "; ") value
}
/^stage: / { stages[++n_stages] = substr($0, 8) }
/^(PASS|FAIL) / { checks[++n_checks] = $0 }
/^left out / { left[++n_left] = substr($0, 10) }
/^\{"case":"/ {
	c = member($0, "case")
	size = member($0, "size_bytes")
	if (c ~ /^c[0-9]+_/) {
		calibrations[++n_calibrations] = $0
		if (c == "c3_release" && member($0, "domain") == "remote" && member($0, "beside") == "nothing")
			remember("fence/" member($0, "outstanding"), member($0, "value"))
		if (c == "c12_small_reads" && member($0, "ctas") >= 16)
			remember("small_reads/" member($0, "run_bytes"), member($0, "value"))
		if (c == "c14_nap")
			remember("nap/" member($0, "asked_ns"), member($0, "value"))
	} else if (c == "tune_flag") {
		remember("tune_flag", member($0, "p50"))
		remember("canary_full", member($0, "canary_full_ns"))
		all_blocks = member($0, "multiprocessors") " blocks"
	} else if (c ~ /^tune_/) {
		key = c "/" member($0, "settings") "/" size
		if (n[key] == 0)
			tuned[++n_tuned] = key
		if (usual[c] == "")
			usual[c] = member($0, "settings")
		remember(key, c == "tune_lone" ? member($0, "p50") : member($0, "value"))
		for (i = 1; i <= n_counted; i++)
			remember(key "/" counted[i], member($0, counted[i]))
	} else if (c == "smoke_queue") {
		primitives[++n_primitives] = $0
	} else if (c == "throughput") {
		remember("ours_rate" member($0, "granularity") "/" size, member($0, "value"))
	} else if (c == "copy_engine") {
		remember(c "/" member($0, "direction"), member($0, "value"))
	} else if (c ~ /_rate$/) {
		remember(c "/" size, member($0, "value"))
	} else if (member($0, "p50") != "") {
		remember(c "/" size, member($0, "p50"))
		remember(c "99/" size, member($0, "p99"))
	}
}

END {
	split("0 64 512 2048 65536", sizes, " ")
	day = substr(head["date"], 1, 10)
	print "# GPU, " day
	print ""
	print "date " head["date"] ", commit " head["commit"]
	print "host " head["host"]
	print "gpu " (head["gpu"] == "" ? "-" : head["gpu"])
	if (head["driver"] != "")
		print "driver " head["driver"]
	if (head["state"] != "")
		print "state " head["state"]
	print "command " head["command"]
	print ""
	print "| stage | result | time |"
	print "|---|---|---:|"
	for (i = 1; i <= n_stages; i++)
		print "| " stages[i] " |"

	flag = median("bare_flag/")
	if (n["round_trip/64"] != 0 || n["ours_rate1/64"] != 0) {
		print "\n## Against the bars\n"
		print "| what | measured | bar | |"
		print "|---|---|---|---|"
	}
	for (i = 2; i <= 3; i++) {
		s = sizes[i]
		if (n["round_trip/" s] == 0)
			continue
		p = median("round_trip/" s)
		bar("round trip p50, " s " B", sprintf("%.2f us", p / 1000), "<= 2.5 us on H200",
		    at_most(p, 2500))
		q = median("round_trip99/" s)
		bar("round trip p99, " s " B", sprintf("%.2f us", q / 1000), "<= 4 us on H200",
		    at_most(q, 4000))
		if (flag != 0)
			bar("round trip p50, " s " B, over the bare flag",
			    sprintf("%.2f / %.2f us = %.2f x", p / 1000, flag / 1000, p / flag),
			    "<= 1.25 x", at_most(p / flag, 1.25))
	}
	ours = median("ours_rate1/64")
	if (ours != 0) {
		bar("messages/s, 64 B, batched, one producer, `Q_PER_WARP`",
		    sprintf("%.2f M/s", ours / 1e6), ">= 20 M/s on H200", at_least(ours, 20e6))
		split("launch graph", others, " ")
		split("launch per message|CUDA graph per message", titles, "|")
		for (i = 1; i <= 2; i++) {
			o = median(others[i] "_rate/64")
			if (o != 0)
				bar("the same over " titles[i],
				    sprintf("%.2f / %.3f M/s = %.0f x", ours / 1e6, o / 1e6, ours / o),
				    ">= 100 x", at_least(ours / o, 100))
		}
	}
	big = median("ours_rate1/65536") * 65536
	copy = median("copy_engine/both")
	if (big != 0 && copy != 0)
		bar("bytes/s each way, 64 KiB, over the copy engine, both ways at once",
		    sprintf("%.2f / %.2f GB/s = %.2f x", big / 1e9, copy / 1e9, big / copy),
		    ">= 0.95 x", at_least(big / copy, 0.95))

	if (n["round_trip/64"] != 0 || n["launch/64"] != 0) {
		print "\n## One message at a time\n"
		print "Microseconds from before the first call until the host has the result; the bare flag " \
		      "carries no message. All published: without `Q_RESULT_ONLY`. Cells are medians of the repeats, ~ is their spread: largest less " \
		      "smallest, over the median.\n"
		print "| bytes | | gpuq | gpuq, all published | bare flag | launch | graph | launch on " \
		      "pinned memory |"
		print "|---:|---|---:|---:|---:|---:|---:|---:|"
		for (i = 1; i <= 5; i++)
			for (k = 1; k <= 2; k++) {
				p = k == 1 ? "" : "99"
				s = sizes[i]
				printf "| %s | %s | %s | %s | %s | %s | %s | %s |\n", s,
					k == 1 ? "p50" : "p99", cell("round_trip" p "/" s, 1000, 2),
					cell("round_trip_all" p "/" s, 1000, 2),
					cell("bare_flag" p "/", 1000, 2), cell("launch" p "/" s, 1000, 2),
					cell("graph" p "/" s, 1000, 2), cell("zero_copy" p "/" s, 1000, 2)
			}
		print "\n## Many at once\n"
		print "Million messages a second; gpuq: one thread enqueues batches of 128 and takes the " \
		      "results.\n"
		print "| bytes | gpuq, a warp each | gpuq, a thread each | launch | graph | launch on " \
		      "pinned memory |"
		print "|---:|---:|---:|---:|---:|---:|"
		for (i = 1; i <= 5; i++) {
			s = sizes[i]
			printf "| %s | %s | %s | %s | %s | %s |\n", s, cell("ours_rate1/" s, 1e6, 3),
				cell("ours_rate0/" s, 1e6, 3), cell("launch_rate/" s, 1e6, 3),
				cell("graph_rate/" s, 1e6, 3), cell("zero_copy_rate/" s, 1e6, 3)
		}
		printf "\nThe copy engine alone, 64 KiB at a time, GB/s: to the device %s, from it %s, " \
		       "both at once %s each.\n", cell("copy_engine/in", 1e9, 2),
		       cell("copy_engine/out", 1e9, 2), cell("copy_engine/both", 1e9, 2)
	}
	if (n_tuned != 0) {
		print "\n## Settings\n"
		print "Of `GPUQ_TUNE`, by `gpu_check tune`. One at a time: microseconds; many: million messages a second, the " \
		      "queue having been filled before. Counts and cycles are for each message.\n"
		printf "| settings | p50 or rate | p99 |"
		for (i = 2; i <= n_counted; i++)
			printf " %s |", counted[i]
		printf "\n|---|---:|---:|"
		for (i = 2; i <= n_counted; i++)
			printf "---:|"
		print ""
	}
	ways["tune_lone"] = "one at a time"
	ways["tune_warp"] = "a warp each"
	ways["tune_thread"] = "a thread each"
	for (i = 1; i <= n_tuned; i++) {
		key = tuned[i]
		split(key, part, "/")
		printf "| %s, %s B, %s | %s | %s |", part[2], part[3], ways[part[1]],
			part[1] == "tune_lone" ? cell(key, 1000, 2) : cell(key, 1e6, 2),
			part[1] == "tune_lone" ? cell(key "/p99", 1000, 2) : "-"
		for (k = 2; k <= n_counted; k++)
			printf " %.4g |", median(key "/" counted[k])
		print ""
	}
	if (n_tuned != 0 || n_calibrations != 0) {
		print "\n## Decisions\n"
		print "What the design assumed, and what to do if it is not so.\n"
		print "| measured | | when | then |"
		print "|---|---:|---|---|"
		lone = tuned_as("tune_lone", usual["tune_lone"])
		warp = tuned_as("tune_warp", usual["tune_warp"])
		decide("one message over the bare flag of the same thread", "tune_flag", lone, 1.25, \
		       "see its cycles: turn, fetch, run, deliver")
		if (n[lone] != 0)
			decision("messages read ahead whole", sprintf("%.2f", median(lone "/whole")), \
				 median(lone "/whole") < 0.9, "< 0.90", "read the slot later: gq_take_look()")
		decide("p50, 16 scouts over 4", beside("tune_lone", "scouts:4"), lone, 1.05, "4 scouts by default")
		decide("p50, 16 scouts over 2", beside("tune_lone", "scouts:2"), lone, 1.05, "2 scouts by default")
		decide("p50, a block on each multiprocessor over few", lone, tuned_as("tune_lone", all_blocks), 1.05, \
		       "idle units are in the way: longer naps")
		decide("p50, with the journal over without", beside("tune_lone", "journal:0"), lone, 1.05, \
		       "another journal, or another lane writes it")
		decide("p50, with seals over without", beside("tune_lone", "seal:0"), lone, 1, "no seals")
		decide("p50, reading ahead over not", beside("tune_lone", "ahead:0"), lone, 1, "do not read ahead")
		decide("p50, in the other domain over in the usual one", beside("tune_lone", "domain:0"), lone, 1.02, \
		       "launch in the usual domain")
		decide("rate, few blocks over one on each multiprocessor", tuned_as("tune_warp", all_blocks), warp, 1.25, \
		       "it collapses: see its failed claims and looks")
		decide("rate, a block on each multiprocessor over few", warp, tuned_as("tune_warp", all_blocks), 1.25, \
		       "more blocks by default")
		decide("rate, 4 feeders over 1", warp, beside("tune_warp", "feeders:4"), 1.1, "more feeders by default")
		decide("rate, without the journal over with it", warp, beside("tune_warp", "journal:0"), 1.1, \
		       "one word a claim in place of the journal")
		decide("rate, without seals over with them", warp, beside("tune_warp", "seal:0"), 1.1, \
		       "no seals under load")
		decide("reads a second, 32 B over 128 B", "small_reads/128", "small_reads/32", 1.25, \
		       "bytes are the limit: narrower reads")
		decide("the same", "small_reads/32", "small_reads/128", 0.8, "tags are the limit: fewer, wider reads")
		if (n["fence/3"] != 0 && n["fence/0"] != 0) {
			d = median("fence/3") - median("fence/0")
			decision("a release behind 3 stores less one behind none", sprintf("%.0f ns", d), d > 500, \
				 "> 500 ns", "no store between journal and release")
		}
		if (n["nap/1000"] != 0)
			decision("a nap of 1000 ns", sprintf("%.0f ns", median("nap/1000")), \
				 median("nap/1000") > 1500, "> 1500 ns", "ask for shorter ones")
		if (n["canary_full"] != 0)
			decision("a kernel that fills a multiprocessor, beside the grid", \
				 median("canary_full") < 0 ? "waits" : sprintf("%.1f us", median("canary_full") / 1000), \
				 median("canary_full") < 0 || median("canary_full") > 1e6, "> 1 ms", \
				 "fewer blocks by default")
	}
	if (n_checks != 0)
		print "\n## Checks\n"
	for (i = 1; i <= n_checks; i++)
		print "- " checks[i]
	if (n_primitives != 0) {
		print "\n## What q_init measured\n"
		print "Nanoseconds; of the queues that `smoke` opened. 0: not measured.\n"
		print "| granularity | flag | read | release | pull | copy | copy, 16 B | canary | copies from |"
		print "|---|---:|---:|---:|---:|---:|---:|---:|---:|"
	}
	split("thread warp block", granularities, " ")
	for (i = 1; i <= n_primitives; i++) {
		text = primitives[i]
		copies = member(text, "copy_from")
		printf "| %s | %s | %s | %s | %s | %s | %s | %s | %s |\n",
			granularities[member(text, "granularity") + 1], member(text, "flag_ns"),
			member(text, "read_ns"), member(text, "release_ns"), member(text, "pull_ns"),
			member(text, "copy_ns"), member(text, "copy_small_ns"), member(text, "canary_ns"),
			copies == "-1" ? "-" : copies
	}
	if (n_left != 0)
		print "\n## Left out\n"
	for (i = 1; i <= n_left; i++)
		if (!said[left[i]]++)
			print "- " left[i]
	if (n_calibrations != 0) {
		print "\n## Calibrations\n"
		print "| what | of | unit | median | min | max |"
		print "|---|---|---|---:|---:|---:|"
	}
	for (i = 1; i <= n_calibrations; i++) {
		text = calibrations[i]
		of = text
		gsub(/[{}"]/, "", of)
		sub(/^case:[^,]*,?/, "", of)
		sub(/,?unit:.*/, "", of)
		gsub(/,/, ", ", of)
		gsub(/:/, " ", of)
		value = member(text, "value")
		if (value == "")
			value = member(text, "p50")
		low = member(text, "min")
		high = member(text, "max")
		if (value ~ /e\+/) {
			value = sprintf("%.4g", value + 0)
		}
		if (member(text, "unit") == "") { # a statement, not a figure
			value = ""
		}
		printf "| %s | %s | %s | %s | %s | %s |\n", member(text, "case"), of,
			member(text, "unit"), value, low, high
	}
}
