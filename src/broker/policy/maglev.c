/* SPDX-License-Identifier: Apache-2.0 */
/*
 * maglev.c - consistent hashing by a table (Eisenbud and others, NSDI 2016): each service has an
 * order of preference of the table's entries, and the services take turns in taking the first that
 * is free.
 */
#include "sticky.h"

#include <string.h>

/* The members by their names' hashes: by places they would take turns in the order in which they
 * have come. @return how many */
static uint32_t by_name(const struct gq_places *members, const uint64_t *names,
			uint8_t order[GQ_PLACES])
{
	uint32_t count = 0;

	for (uint32_t p = gq_places_next(members, 0); p < GQ_PLACES;
	     p = gq_places_next(members, p + 1)) {
		uint32_t i = count++;

		for (; i > 0 && names[order[i - 1]] > names[p]; i--)
			order[i] = order[i - 1];
		order[i] = (uint8_t)p;
	}
	return count;
}

void gq__maglev_fill(struct gq_maglev *m, const struct gq_places *members, const uint64_t *names)
{
	uint8_t order[GQ_PLACES] = { 0 };
	uint32_t at[GQ_PLACES];
	uint32_t step[GQ_PLACES];
	const uint32_t count = by_name(members, names, order);

	m->empty = count == 0;
	if (m->empty)
		return;
	memset(m->place, 0xff, sizeof(m->place));
	for (uint32_t i = 0; i < count; i++) {
		const uint64_t name = names[order[i]];

		at[i] = (uint32_t)(name % GQ_MAGLEV_SIZE);
		step[i] = (uint32_t)(name / GQ_MAGLEV_SIZE % (GQ_MAGLEV_SIZE - 1)) + 1;
	}
	for (uint32_t filled = 0; filled < GQ_MAGLEV_SIZE; filled++) {
		const uint32_t i = filled % count;

		while (m->place[at[i]] != UINT8_MAX)
			at[i] = (at[i] + step[i]) % GQ_MAGLEV_SIZE;
		m->place[at[i]] = order[i];
	}
}

uint32_t gq__maglev_at(const struct gq_maglev *m, uint64_t hash)
{
	return m->empty ? GQ_PLACES : m->place[hash % GQ_MAGLEV_SIZE];
}

uint32_t gq__maglev_among(const struct gq_maglev *m, uint64_t hash, const struct gq_places *some)
{
	const bool none = m->empty || gq_places_empty(some);
	uint32_t at = (uint32_t)(hash % GQ_MAGLEV_SIZE);

	for (uint32_t i = 0; !none && i < GQ_MAGLEV_SIZE; i++) {
		if (gq_places_has(some, m->place[at]))
			return m->place[at];
		at = at + 1 < GQ_MAGLEV_SIZE ? at + 1 : 0;
	}
	return GQ_PLACES;
}
