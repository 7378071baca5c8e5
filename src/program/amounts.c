/* SPDX-License-Identifier: Apache-2.0 */
/* amounts.c - amounts in words for people. */
#include "amounts.h"

#include <stdio.h>

const char *format_bytes(char *to, size_t size, double bytes)
{
	static const char *const units[] = { "B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB" };
	size_t unit = 0;

	while (bytes >= 999.5 && unit + 1 < sizeof(units) / sizeof(units[0])) {
		bytes /= 1024;
		unit++;
	}
	snprintf(to, size, unit == 0 || bytes >= 99.95 ? "%.0f %s" : "%.1f %s", bytes, units[unit]);
	return to;
}

const char *format_duration(char *to, size_t size, uint64_t ns)
{
	static const char *const units[] = { "ns", "us", "ms", "s" };
	double value = (double)ns;
	size_t unit = 0;

	while (value >= 999.5 && unit + 1 < sizeof(units) / sizeof(units[0])) {
		value /= 1000;
		unit++;
	}
	snprintf(to, size, unit == 0 || value >= 99.95 ? "%.0f %s" : "%.3g %s", value, units[unit]);
	return to;
}

const char *format_clock(char *to, size_t size, uint64_t seconds)
{
	const unsigned int s = (unsigned int)(seconds % 60);
	const unsigned int m = (unsigned int)(seconds / 60 % 60);
	const unsigned long long h = seconds / 3600;

	if (h > 9999)
		snprintf(to, size, "--:--");
	else if (h > 0)
		snprintf(to, size, "%llu:%02u:%02u", h, m, s);
	else
		snprintf(to, size, "%u:%02u", m, s);
	return to;
}

const char *format_count(char *to, size_t size, double count)
{
	static const char *const units[] = { "", "k", "M", "G", "T", "P", "E" };
	size_t unit = 0;

	while (count >= 999.5 && unit + 1 < sizeof(units) / sizeof(units[0])) {
		count /= 1000;
		unit++;
	}
	snprintf(to, size, unit == 0 || count >= 99.95 ? "%.0f%s" : "%.3g%s", count, units[unit]);
	return to;
}
