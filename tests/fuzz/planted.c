/* SPDX-License-Identifier: Apache-2.0 */
/*
 * planted.c - a target with faults, which a test has scripts/fuzz find: one of a kind, each behind
 * a word that the corpus has but for its last letter.
 */
#include "fuzz.h"

#include <stdlib.h>
#include <string.h>

static volatile uint8_t sink;

static bool is(const uint8_t *data, size_t size, const char *word)
{
	/* A letter at a time, so that an engine sees how far it has come. */
	for (size_t i = 0; i < 5; i++)
		if (i >= size || data[i] != (uint8_t)word[i])
			return false;
	return true;
}

void fuzz_one(const uint8_t *data, size_t size)
{
	uint8_t *bytes;

	if (is(data, size, "CRASH")) { /* reads beyond what it has */
		bytes = malloc(5);
		memcpy(bytes, data, 5);
		sink = bytes[size];
		free(bytes);
	}
	if (is(data, size, "CHECK")) /* what a target finds out by itself */
		abort();
	if (is(data, size, "LARGE")) { /* more than an input may allocate */
		bytes = malloc(2 << 20);
		bytes[size] = 1;
		sink = bytes[size];
		free(bytes);
	}
	if (is(data, size, "LEAKS")) { /* and never gives it back */
		bytes = malloc(100);
		bytes[0] = data[0];
		sink = bytes[0];
	}
	while (is(data, size, "HANGS"))
		sink++;
}
