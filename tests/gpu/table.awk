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
