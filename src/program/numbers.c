/* SPDX-License-Identifier: Apache-2.0 */
/* numbers.c - the numbers of the command line. */
#include "program.h"

#include <stddef.h>
#include <string.h>

/* "K", "KiB" and "KB" as the GNU tools understand them. 0: none of these. */
static uint64_t unit_of(const char *suffix)
{
	static const char letters[] = "KMGkmg";
	const char *found = suffix[0] != '\0' ? strchr(letters, suffix[0]) : NULL;
	uint64_t base = 1024;
	uint64_t unit = 1;

	if (suffix[0] == '\0')
		return 1;
	if (!found)
		return 0;
	if (strcmp(suffix + 1, "B") == 0)
		base = 1000;
	else if (suffix[1] != '\0' && strcmp(suffix + 1, "iB") != 0)
		return 0;
	for (size_t n = 0; n <= (size_t)(found - letters) % 3; n++)
		unit *= base;
	return unit;
}

bool parse_size(const char *text, uint64_t *out_value)
{
	const char *at = text;
	uint64_t value = 0;
	uint64_t unit;

	for (; *at >= '0' && *at <= '9'; at++) {
		const uint64_t digit = (uint64_t)(*at - '0');

		if (value > (UINT64_MAX - digit) / 10)
			return false;
		value = value * 10 + digit;
	}
	unit = unit_of(at);
	if (at == text || unit == 0 || value > UINT64_MAX / unit)
		return false;
	*out_value = value * unit;
	return true;
}
