/* SPDX-License-Identifier: Apache-2.0 */
/* copy.h - copying a message, and handing its lines on. */
#ifndef GPUQ_BASE_COPY_H
#define GPUQ_BASE_COPY_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

/*
 * Copy a message. Up to 64 bytes go in at most four pieces, which overlap: a call of memcpy() would
 * take longer than the copy.
 */
static inline __attribute__((always_inline)) void gq_copy(uint8_t *to, const uint8_t *from,
							  size_t n)
{
	typedef struct {
		uint64_t half[2];
	} piece; /* moved as one */

	if (n > 64 || n < sizeof(piece)) {
		if (n != 0)
			memcpy(to, from, n);
		return;
	}
	piece first, last;

	memcpy(&first, from, sizeof(piece));
	memcpy(&last, from + n - sizeof(piece), sizeof(piece));
	if (n > 2 * sizeof(piece)) {
		piece second, third;

		memcpy(&second, from + sizeof(piece), sizeof(piece));
		memcpy(&third, from + n - 2 * sizeof(piece), sizeof(piece));
		memcpy(to + sizeof(piece), &second, sizeof(piece));
		memcpy(to + n - 2 * sizeof(piece), &third, sizeof(piece));
	}
	memcpy(to, &first, sizeof(piece));
	memcpy(to + n - sizeof(piece), &last, sizeof(piece));
}

static inline __attribute__((always_inline)) void gq_write_back_u8(uint8_t *byte)
{
	uint8_t same = *byte;

	__asm__("" : "+r"(same)); /* for all that the compiler knows, another one */
	*byte = same;
}

enum { GQ_TOUCHED = 64 }; /* bytes that move between cores together */

/*
 * Write a byte of each line of a message that has been read back, as it is. A line that this core
 * has only read is shared, and the core that writes it next has to ask for it, which is dearer than
 * to get a line that the last core has written. Only for the owner of these bytes.
 */
static inline __attribute__((always_inline)) void gq_touch(uint8_t *bytes, size_t n)
{
	size_t i = GQ_TOUCHED;

	/* The last byte of each line, and of the message. */
	for (; i < n; i += GQ_TOUCHED)
		gq_write_back_u8(bytes + i - 1);
	if (n != 0)
		gq_write_back_u8(bytes + n - 1);
}

#endif /* GPUQ_BASE_COPY_H */
