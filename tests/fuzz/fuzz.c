/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz.c - where libFuzzer, AFL++ and replay.c come in. It holds each input to what it may have
 * allocated at a time (P-4): 1 MiB, so that a short input cannot cost much memory. The sanitizers'
 * run time tells of each allocation; a build without one does not look.
 *
 * GPUQ_FUZZ_LONG=1: the input is looked at once more, repeated until it has 64 KiB.
 */
#include "fuzz.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_BYTES = 1 << 20, LONG_BYTES = 1 << 16, PLACES = 1 << 16 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* NULL: there is no sanitizer. gcc has no header for it.
 * NOLINTNEXTLINE(bugprone-reserved-identifier) */
__attribute__((weak)) int
__sanitizer_install_malloc_and_free_hooks(void (*allocated)(const volatile void *p, size_t bytes),
					  void (*freed)(const volatile void *p));

static bool counting;
static uint64_t input; /* the number of this one */
static size_t live, entries;

/* What it has allocated and not given back, by address: the next free place from there on. */
static struct {
	uintptr_t name;
	size_t bytes;
	uint64_t input; /* another one's: the place is free */
} table[PLACES];

/* Not the address itself: what lies here would be no leak. */
static uintptr_t name_of(const volatile void *p)
{
	return ~(uintptr_t)p;
}

static size_t place_of(uintptr_t name)
{
	return (name >> 4) * UINT64_C(0x9E3779B97F4A7C15) >> 48;
}

static size_t next(size_t i)
{
	return (i + 1) % PLACES;
}

static void allocated(const volatile void *p, size_t bytes)
{
	size_t i = place_of(name_of(p));

	if (!counting)
		return;
	live += bytes;
	if (live > MOST_BYTES || ++entries == PLACES) {
		counting = false; /* what says so allocates, too */
		fprintf(stderr,
			"one input has %zu bytes allocated, in %zu pieces; allowed: %d, %d\n", live,
			entries, MOST_BYTES, PLACES - 1);
		abort();
	}
	while (table[i].input == input)
		i = next(i);
	table[i].name = name_of(p);
	table[i].bytes = bytes;
	table[i].input = input;
}

/* Those behind it come nearer to where they are looked for. */
static void close_gap(size_t gap)
{
	for (size_t i = next(gap); table[i].input == input; i = next(i)) {
		const size_t home = place_of(table[i].name);

		if ((i - home) % PLACES < (i - gap) % PLACES)
			continue;
		table[gap] = table[i];
		gap = i;
	}
	table[gap].input = 0;
}

static void freed(const volatile void *p)
{
	const uintptr_t name = name_of(p);

	for (size_t i = place_of(name); table[i].input == input; i = next(i)) {
		if (table[i].name != name)
			continue;
		live -= table[i].bytes;
		entries--;
		close_gap(i);
		return;
	}
}

void fuzz_counts(bool counts)
{
	counting = counts;
}

static void look_at(const uint8_t *data, size_t size)
{
	static bool installed;

	if (!installed && __sanitizer_install_malloc_and_free_hooks != NULL &&
	    __sanitizer_install_malloc_and_free_hooks(allocated, freed) == 0) {
		fprintf(stderr, "the sanitizer does not tell of allocations\n");
		abort();
	}
	installed = true;
	input++;
	live = entries = 0;
	counting = true;
	fuzz_one(data, size);
	counting = false;
}

static void look_at_repeated(const uint8_t *data, size_t size)
{
	uint8_t *all = malloc(LONG_BYTES);

	if (all == NULL)
		abort();
	for (size_t i = 0; i < LONG_BYTES; i += size)
		memcpy(all + i, data, size < LONG_BYTES - i ? size : LONG_BYTES - i);
	look_at(all, LONG_BYTES);
	free(all);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	look_at(data, size);
	if (size != 0 && getenv("GPUQ_FUZZ_LONG") != NULL)
		look_at_repeated(data, size);
	return 0;
}
