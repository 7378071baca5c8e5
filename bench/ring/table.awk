# SPDX-License-Identifier: Apache-2.0
#
# table.awk - markdown tables from the JSON lines of the ring benchmarks, of one or more suites.
#
# A cell is the median of the suites' medians and, after ~, (max - min) / median between the suites;
# of a single suite, between its runs. Below each table: libgpuq's share of the best peer's figure,
# so that above 1 libgpuq is the faster. What we wrote ourselves (gpuq, reference) is no peer.

function field(key) {
	if (match($0, "\"" key "\":\"[^\"]*\""))
		return substr($0, RSTART + length(key) + 4, RLENGTH - length(key) - 5)
	if (match($0, "\"" key "\":[^,}]*"))
		return substr($0, RSTART + length(key) + 3, RLENGTH - length(key) - 3)
	return ""
}

# Sorts what is noted under `key` into sorted[1..]; returns how many.
function sort_notes(key,   i, j, t) {
	for (i = 1; i <= n[key]; i++) {
		sorted[i] = value[key, i]
		for (j = i; j > 1 && sorted[j - 1] > sorted[j]; j--) {
			t = sorted[j]; sorted[j] = sorted[j - 1]; sorted[j - 1] = t
		}
	}
	return n[key] + 0
}

function median(key,   c) {
	c = sort_notes(key)
	return c == 0 ? 0 : (sorted[int((c + 1) / 2)] + sorted[int(c / 2) + 1]) / 2
}

function percent(key,   m) {
	m = median(key)
	if (n[key] == 1)
		return spread[key]
	return m > 0 ? 100 * (sorted[n[key]] - sorted[1]) / m : 0
}

function number(x) {
	return x < 1000 ? sprintf("%.3g", x) : sprintf("%.0f", x)
}

function key_of(row, column, metric) {
	return row SUBSEP column SUBSEP metric
}

function cell(row, column, rates,   key) {
	key = key_of(row, column, rates ? "rate" : "p50")
	if (!(key in n))
		return "-"
	if (rates)
		return sprintf("%s ~%.0f%%", number(median(key)), percent(key))
	return sprintf("%s / %s / %s ~%.0f%%", number(median(key)),
		number(median(key_of(row, column, "p99"))), number(median(key_of(row, column, "p99.9"))),
		percent(key))
}

# The best peer's figure in a column of a table; its name in best_name.
function best(table, column, rates,   r, key, m, b) {
	b = 0
	best_name = ""
	for (r = 1; r <= rows[table]; r++) {
		key = key_of(row[table, r], column, rates ? "rate" : "p50")
		if (peer[row[table, r]] ~ /^(gpuq|reference)/ || !(key in n))
			continue
		m = median(key)
		if (b == 0 || (rates ? m > b : m < b)) {
			b = m
			best_name = name[row[table, r]]
		}
	}
	return b
}

function print_table(t, rates,   against, c, r, i, mine, theirs, line, rule, flag) {
	against = t # descriptors stand beside peers that copy the same bytes
	sub(/^descriptor_/, "", against)
	printf "\n### %s\n\n", title[t] ": " (rates ? "Mmsg/s" : "ns, p50 / p99 / p99.9 (spread of p50)")
	line = "| ring |"; rule = "|---|"
	for (c = 1; c <= columns[t]; c++) {
		split(column[t, c], i, SUBSEP)
		line = line " " i[2] " B x" i[1] " |"
		rule = rule "---:|"
	}
	print line "\n" rule
	for (r = 1; r <= rows[t]; r++) {
		line = "| " name[row[t, r]] " |"
		for (c = 1; c <= columns[t]; c++)
			line = line " " cell(row[t, r], column[t, c], rates) " |"
		print line
	}
	for (r = 1; r <= rows[t]; r++) {
		if (peer[row[t, r]] != "gpuq")
			continue
		line = "| **" name[row[t, r]] ", of the best peer" (against != t ? ", which copies" : "") "** |"
		for (c = 1; c <= columns[t]; c++) {
			mine = median(key_of(row[t, r], column[t, c], rates ? "rate" : "p50"))
			theirs = best(against, column[t, c], rates)
			line = line (mine == 0 || theirs == 0 ? " - |" : \
				sprintf(" **%.2f** %s |", rates ? mine / theirs : theirs / mine, best_name))
		}
		print line
	}
	flag = median(key_of(against SUBSEP "reference flag", 1 SUBSEP 64, "p50"))
	for (r = 1; r <= rows[t] && flag > 0 && !rates; r++) {
		if (peer[row[t, r]] != "gpuq")
			continue
		line = "| " name[row[t, r]] ", times the bare flag |"
		for (c = 1; c <= columns[t]; c++)
			line = line sprintf(" %.2f |", \
				median(key_of(row[t, r], column[t, c], "p50")) / flag)
		print line
	}
}

/"program":/ {
	rtt = "line round trip"
	value[rtt, ++n[rtt]] = field("line_rtt_ns") + 0
	next
}

/"case":/ {
	t = field("case") SUBSEP field("placement")
	if (field("placement") == "0" || field("placement") == "0<->1")
		t = field("case")
	sub(SUBSEP, ", ", t)
	if (!(t in title)) {
		title[t] = t
		order[++tables] = t
	}
	label = field("peer") (field("variant") != "" ? " " field("variant") : "")
	id = t SUBSEP label
	if (!(id in name)) {
		name[id] = label
		peer[id] = field("peer")
		row[t, ++rows[t]] = id
	}
	col = field("batch") + 0 SUBSEP field("size") + 0
	if (!((t, col) in seen)) {
		seen[t, col] = 1
		for (c = ++columns[t]; c > 1; c--) {
			split(column[t, c - 1], p, SUBSEP)
			split(col, q, SUBSEP)
			if (p[1] + 0 < q[1] + 0 || (p[1] == q[1] && p[2] + 0 < q[2] + 0))
				break
			column[t, c] = column[t, c - 1]
		}
		column[t, c] = col
	}
	metric = field("metric")
	kinds[t, metric] = 1
	key = key_of(id, col, metric)
	value[key, ++n[key]] = field("median") + 0
	spread[key] = field("spread_pct") + 0
	# All the metrics of a case say the same.
	if (metric == "rate" || metric == "p99.9") {
		cases++
		far += field("far_runs")
	}
}

END {
	c = sort_notes("line round trip")
	printf "line round trip between the cores, ns: median %s, %s to %s over %d programs; ", \
		number(median("line round trip")), number(sorted[1]), number(sorted[c]), c
	printf "%d runs of %d cases repeated, as the cores were far apart\n", far, cases
	for (i = 1; i <= tables; i++) {
		if ((order[i], "p50") in kinds)
			print_table(order[i], 0)
		if ((order[i], "rate") in kinds)
			print_table(order[i], 1)
	}
}
