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
	if (suite > suites) suites = suite
	if (!(row in known)) { known[row] = 1; order[++rows] = row }
	data[number("metric"), row, suite] = number("median") + 0
	if (kind == "condition variable" && number("metric") == "p50") floor_[where, suite] = number("median") + 0
}
END {
	print "| busy threads | CPUs | build | round trip by | p50, us | min to max | p99, us | to the condition variable |"
	print "|---:|---|---|---|---:|---:|---:|---:|"
	for (i = 1; i <= rows; i++) {
		row = order[i]
		split(row, part, SUBSEP)
		for (s = 1; s <= suites; s++)
			if (("p50", row, s) in data)
				data["ratio", row, s] = data["p50", row, s] / \
					floor_[part[1], part[2], part[3], s]
		n = load("p99", row)
		p99 = v[int((n + 1) / 2)]
		n = load("ratio", row)
		ratio = v[int((n + 1) / 2)]
		n = load("p50", row)
		printf "| %s | %s | %s | %s | %s | %s to %s | %s | %.2f |\n", part[1],
			part[2], part[3], part[4], us(v[int((n + 1) / 2)]),
			us(v[1]), us(v[n]), us(p99), ratio
	}
}
