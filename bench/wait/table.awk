# SPDX-License-Identifier: Apache-2.0
# Turns the lines of scripts/bench wait into a Markdown table.
function number(name,   s) {
	s = $0
	if (!sub(".*\"" name "\":", "", s)) return ""
	if (sub(/^"/, "", s)) sub(/".*/, "", s)
	else sub(/[,}].*/, "", s)
	return s
}
function us(ns) {
	return ns < 99950 ? sprintf("%.1f", ns / 1000) : sprintf("%.0f", ns / 1000)
}
# v[1..n], sorted in place
function sort(n,   i, j, t) {
	for (i = 2; i <= n; i++)
		for (j = i; j > 1 && v[j - 1] > v[j]; j--) { t = v[j]; v[j] = v[j - 1]; v[j - 1] = t }
}
function load(what, row,   s, n) {
	n = 0
	for (s = 1; s <= suites; s++)
		if ((what, row, s) in data) v[++n] = data[what, row, s]
	sort(n)
	return n
}
{
	suite = number("suite") + 0
	where = number("busy") SUBSEP number("cpus") SUBSEP number("build")
	kind = number("peer") == "gpuq" ? number("variant") : number("peer")
	row = where SUBSEP kind
	what = number("case") SUBSEP number("metric")
	if (suite > suites) suites = suite
	if (!(row in known)) { known[row] = 1; order[++rows] = row }
	data[what, row, suite] = number("median") + 0
	if (kind == "condition variable") floor_[what, where, suite] = number("median") + 0
}
# The median over the suites of a row's figure, or of its ratio to the condition variable.
function middle(what, row, where, relative,   s, n) {
	n = 0
	for (s = 1; s <= suites; s++)
		if ((what, row, s) in data)
			v[++n] = data[what, row, s] / (relative ? floor_[what, where, s] : 1)
	sort(n)
	return n == 0 ? "" : v[int((n + 1) / 2)]
}
# What the program of another build does not measure has no figure.
function cell(what, row,   figure) {
	figure = middle(what, row, "", 0)
	return figure == "" ? "-" : us(figure)
}
function ratio(what, row, where,   figure) {
	figure = middle(what, row, where, 1)
	return figure == "" ? "-" : sprintf("%.2f", figure)
}
END {
	mean = "round_trip" SUBSEP "mean"; p99 = "round_trip" SUBSEP "p99"
	paused = "after_pause" SUBSEP "p50"; paused99 = "after_pause" SUBSEP "p99"
	print "| busy threads | CPUs | build | round trip by | one after the other, us | min to max | p99, us | to the condition variable | after a pause, p50, us | p99, us | to the condition variable |"
	print "|---:|---|---|---|---:|---:|---:|---:|---:|---:|---:|"
	for (i = 1; i <= rows; i++) {
		row = order[i]
		split(row, part, SUBSEP)
		where = part[1] SUBSEP part[2] SUBSEP part[3]
		n = load(mean, row)
		least = v[1]; most = v[n]
		printf "| %s | %s | %s | %s | %s | %s | %s | %s | %s | %s | %s |\n", part[1],
			part[2], part[3], part[4], cell(mean, row), n == 0 ? "-" : us(least) " to " us(most),
			cell(p99, row), ratio(mean, row, where), cell(paused, row), cell(paused99, row),
			ratio(paused, row, where)
	}
}
