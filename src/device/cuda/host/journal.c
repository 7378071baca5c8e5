/* SPDX-License-Identifier: Apache-2.0 */
/* journal.c - which messages the grid is processing, by its journal, and since when. */
#include "device/cuda/host/journal.h"

#include <inttypes.h>
#include <stdio.h>

/*
 * The message that a note is of, if it has not been reaped; else 0. A unit leaves its last one in
 * the journal until it takes the next, or finds nothing. The note has lower bits of the id; the
 * slot has the rest, if it is still that message's.
 */
static uint64_t message_of(const GpuQueue *q, uint64_t noted)
{
	const uint64_t slot = noted & q->slot_mask, bits = q->ch.ready[0].value_mask & UINT32_MAX;
	uint64_t state, id;

	if ((noted & GQ_NOTED) == 0 || slot >= q->cfg.capacity)
		return 0;
	state = gq_load_acquire_u64(&q->host_slots[slot].state); /* [state.read] */
	id = (state & ~q->slot_mask) | slot;
	return gq_phase_of(state) == GQ_QUEUED && ((id ^ noted) & bits) == 0 ? id : 0;
}

/*
 * The message that a place is processing, 0: none; and since when, on the host's clock. The grid
 * writes both by one store. The note is read again: if it has changed, the time may belong to
 * another message. PTX promises each word of the store by itself, so in the moment of the store the
 * time may be that of the message before; a message is then called late once too early.
 */
static uint64_t read_place(const struct gq_cuda *c, uint32_t place, uint64_t *since_ns)
{
	const struct gq_journal *j = &c->journal[place];
	const uint64_t noted = gq_load_relaxed_u64(&j->noted);

	*since_ns =
		gq_load_relaxed_u64(&j->since_ns) + gq_load_relaxed_u64(&c->link->orders.ahead_ns);
	return noted == gq_load_relaxed_u64(&j->noted) ? message_of(c->q, noted) : 0;
}

size_t gq__journal_list(const struct gq_cuda *c, uint64_t before_ns, char *text, size_t room)
{
	size_t used = 0;
	unsigned n = 0;

	text[0] = '\0';
	for (uint32_t i = 0; i < c->places && used + 24 < room; i++) {
		uint64_t since_ns;
		const uint64_t id = read_place(c, i, &since_ns);

		if (id != 0 && since_ns <= before_ns)
			used += (size_t)snprintf(text + used, room - used, "%s%" PRIu64,
						 n++ == 0 ? "" : ", ", id);
	}
	return n;
}

struct gq_hung gq__journal_find_hung(const struct gq_cuda *c, uint64_t now_ns)
{
	struct gq_hung h = { 0, 0, UINT64_MAX, 0 };

	for (uint32_t i = 0; i < c->places; i++) {
		uint64_t since_ns;
		const uint64_t id = read_place(c, i, &since_ns);

		if (id == 0 || since_ns + GQ_HUNG_AFTER_NS > now_ns)
			continue;
		h.n++;
		if (since_ns < h.since_ns) {
			h.id = id;
			h.since_ns = since_ns;
		}
		if (since_ns > h.last_ns)
			h.last_ns = since_ns;
	}
	return h;
}
