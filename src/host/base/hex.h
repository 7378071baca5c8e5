/* SPDX-License-Identifier: Apache-2.0 */
/* hex.h - bytes as hexadecimal digits, which is how tokens are written. */
#ifndef GPUQ_HOST_BASE_HEX_H
#define GPUQ_HOST_BASE_HEX_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum { GQ_TOKEN_BYTES = 4096 }; /* most, of a token */

static inline int gq_hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* @return the bytes that a text of 2 to 2 * `room` digits says; 0: it is none */
static inline size_t gq_hex_decode(const char *text, uint8_t *to, size_t room)
{
	const size_t n = strlen(text);

	if (n == 0 || n % 2 != 0 || n / 2 > room)
		return 0;
	for (size_t i = 0; i < n; i += 2) {
		const int high = gq_hex_digit(text[i]), low = gq_hex_digit(text[i + 1]);

		if (high < 0 || low < 0)
			return 0;
		to[i / 2] = (uint8_t)(high << 4 | low);
	}
	return n / 2;
}

#endif /* GPUQ_HOST_BASE_HEX_H */
