/* SPDX-License-Identifier: Apache-2.0 */
/* numbers.c - the numbers of the command line. */
#include "cli.h"

bool parse_size(const char *text, uint64_t *out_value)
{
	uint64_t value = 0;
	unsigned int shift = 0;
	const char *at = text;

	for (; *at >= '0' && *at <= '9'; at++) {
		const uint64_t digit = (uint64_t)(*at - '0');

		if (value > (UINT64_MAX - digit) / 10)
			return false;
		value = value * 10 + digit;
	}
	if (at == text)
		return false;
	if (*at == 'K' || *at == 'k')
		shift = 10;
	else if (*at == 'M' || *at == 'm')
		shift = 20;
	if (shift != 0)
		at++;
	if (*at != '\0' || value > UINT64_MAX >> shift)
		return false;
	*out_value = value << shift;
	return true;
}
