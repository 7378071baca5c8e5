/* SPDX-License-Identifier: Apache-2.0 */
/*
 * maglev.c - consistent hashing by a table (Eisenbud and others, NSDI 2016): each service has an
 * order of preference of the table's entries, and the services take turns in taking the first that
 * is free.
 */
#include "sticky.h"

#include <string.h>

void gq__maglev_fill(struct gq_maglev *m, const struct gq_places *members, const uint64_t *names)
{
	uint32_t at[GQ_PLACES] = { 0 };
	uint32_t step[GQ_PLACES] = { 0 };
	uint32_t filled = 0;

	m->empty = gq_places_empty(members);
	if (m->empty)
		return;
	memset(m->place, 0xff, sizeof(m->place));
	for (uint32_t p = gq_places_next(members, 0); p < GQ_PLACES;
	     p = gq_places_next(members, p + 1)) {
		at[p] = (uint32_t)(names[p] % GQ_MAGLEV_SIZE);
		step[p] = (uint32_t)(names[p] / GQ_MAGLEV_SIZE % (GQ_MAGLEV_SIZE - 1)) + 1;
	}
	for (uint32_t p = GQ_PLACES; filled < GQ_MAGLEV_SIZE; filled++) {
		p = gq_places_next(members, p == GQ_PLACES ? 0 : p + 1);
		if (p == GQ_PLACES)
			p = gq_places_next(members, 0);
		while (m->place[at[p]] != UINT8_MAX)
			at[p] = (at[p] + step[p]) % GQ_MAGLEV_SIZE;
		m->place[at[p]] = (uint8_t)p;
	}
}

uint32_t gq__maglev_at(const struct gq_maglev *m, uint64_t hash)
{
	return m->empty ? GQ_PLACES : m->place[hash % GQ_MAGLEV_SIZE];
}
