/* SPDX-License-Identifier: Apache-2.0 */
/*
 * look.cuh - what a unit sees of the queue, across PCIe or in the mirror, and what it claims of it.
 */
#ifndef GPUQ_CUDA_GRID_LOOK_CUH
#define GPUQ_CUDA_GRID_LOOK_CUH

#include "device/cuda/grid/lanes.cuh"

/* ---- a block and its units ------------------------------------------------------------------- */

/* The header of a message that came with the look. */
struct gq_header {
	uint64_t id, tag;
	uint32_t len, opcode;
};

struct gq_shared {
	struct gq_ageing ageing[GQ_UNITS];
	struct gq_header header[GQ_UNITS];
	uint32_t out_len[GQ_UNITS * 32];
	uint32_t status[GQ_UNITS * 32];
	uint32_t decided[GQ_UNITS * 32]; /* 0: run it; else the outcome */
	uint32_t verdict, slot;          /* Q_PER_BLOCK: what the first warp has found for all */
};

/* How a turn of the loop ended. */
enum gq_verdict {
	GQ_CLAIMED,
	GQ_CLAIMED_WHOLE, /* one message, which came with the look: staged and decided */
	GQ_NOTHING,
	GQ_LEAVE,
};

/* A unit's own; the same in all lanes of its first warp. */
struct gq_unit {
	uint64_t passed;        /* positions passed by all classes, when it last looked */
	uint64_t pool_lead;     /* counters.pool_lead, then */
	uint64_t idle_since_ns; /* since when that has not changed; 0: not idle */
	uint64_t ahead_ns;      /* orders.ahead_ns, when it last looked across PCIe */
	uint64_t control;       /* orders.control, then */
	uint64_t begun_ns;      /* when the launch began */
	uint64_t looked_ns;     /* when it last found nothing */
	uint64_t pong;          /* of the first unit: the last ping that it has answered */
	uint64_t pool_pos;      /* where it last looked into the pool ... */
	uint64_t pool[GQ_OWN];  /* ... and what it found: lane GQ_LANE_POOL + k, k behind it */
	uint32_t number;        /* in the grid */
	uint32_t naps;          /* since the last look of a unit that is no scout */
	uint32_t hints;         /* so many turns look at the mirror before one looks across PCIe */
	bool scout;
	bool rested; /* it may look: it has just napped, or is a scout that has found nothing */
};

/* ---- look ------------------------------------------------------------------------------------ */

#define GQ_FRONTS 0x41041u /* the votes on the entries at the four cursors */

enum {
	GQ_FRONT = 6,
	GQ_LANE_CONTROL = GQ_FRONT * GQ_CLASSES,
	GQ_LANE_DEPART,
	GQ_LANE_PING,
	GQ_LANE_AHEAD,
	GQ_LANE_POOL, /* and the lanes behind it */
	GQ_POOLS = 32 - GQ_LANE_POOL,
	GQ_AHEADS = 2, /* pieces of the next message that a lane reads */
};

/*
 * One read across PCIe: the next GQ_FRONT entries of every class, the orders, the next free slots,
 * and, if the unit knows from its last look in which slot the next message will be, that slot.
 */
struct gq_look {
	uint64_t cursor[GQ_CLASSES];
	uint64_t gone;      /* counters.gone */
	uint64_t pool_lead; /* counters.pool_lead */
	uint64_t control, depart, ping, ahead_ns;
	uint64_t passed;       /* positions, of all classes */
	uint64_t word[GQ_OWN]; /* lane GQ_FRONT * c + k: entry of class c, k behind its cursor */
	uint64_t guess;        /* the id of the message that `ahead` may be; 0: none */
	gq_wide ahead[GQ_AHEADS][GQ_OWN]; /* pieces l, 32 + l of its slot */
	uint32_t published;               /* votes on these */
	bool closed;
};

/* The id that the next message will have if one has been published in the order of the pool. */
GQ_DEV uint64_t gq_guess(const struct gq_grid *g, const struct gq_unit *u, uint64_t pos)
{
	/* An id holds the lower bits of a position. */
	const uint64_t k = gq_word_ring_tag(&g->pool, pos - u->pool_pos) >> g->pool.shift;
	const uint64_t word = gq_from(u->pool, GQ_LANE_POOL + (uint32_t)(k % GQ_POOLS));

	return k < GQ_POOLS && gq_word_ring_is_at(&g->pool, word, pos) ? word : 0;
}

/* Read the slot of message `look->guess`, or its mirror, which may just be being written. */
GQ_DEV void gq_look_ahead(const struct gq_grid *g, struct gq_look *look, const void *at)
{
	const gq_wide *piece = (const gq_wide *)at;

	GQ_EACH_LANE(l)
	{
		GQ_UNROLL
		for (uint32_t j = 0; j < GQ_AHEADS; j++)
			if ((l + 32 * j) * GQ_PIECE < g->ch.ahead_bytes)
				look->ahead[j][GQ_AT(l)] = gq_read_ahead(&piece[l + 32 * j]);
	}
}

GQ_DEV uint32_t gq_guessed_slot(const struct gq_grid *g, const struct gq_look *look)
{
	return (uint32_t)(look->guess & g->ch.slot_mask);
}

/* What the look reads in device memory. */
GQ_DEV void gq_look_at_cursors(const struct gq_grid *g, struct gq_look *look)
{
	uint64_t cursor[GQ_OWN];

	GQ_EACH_LANE(l)
	cursor[GQ_AT(l)] = gq_load_relaxed_device_u64(
		l == GQ_CLASSES       ? &g->counters->gone
		: l == GQ_CLASSES + 1 ? &g->counters->pool_lead
				      : &g->counters->cursor[l % GQ_CLASSES]);
	look->gone = gq_from(cursor, GQ_CLASSES);
	look->pool_lead = gq_from(cursor, GQ_CLASSES + 1);
	look->closed = false;
	look->passed = 0;
	GQ_UNROLL
	for (uint32_t c = 0; c < GQ_CLASSES; c++) {
		look->cursor[c] = gq_from(cursor, c);
		look->closed = look->closed || (look->cursor[c] & GQ_CURSOR_CLOSED) != 0;
		look->passed += (look->cursor[c] >> 1) - g->start_pos;
	}
}

GQ_DEV void gq_take_look(const struct gq_grid *g, struct gq_unit *u, struct gq_look *look)
{
	bool there[GQ_OWN];
	uint64_t pos;

	gq_look_at_cursors(g, look);
	pos = look->passed + look->pool_lead;
	look->guess = u->idle_since_ns != 0 && g->ch.ahead_bytes != 0 ? gq_guess(g, u, pos) : 0;
	if (look->guess != 0) /* before the entries, whose acquire nothing that follows overtakes */
		gq_look_ahead(g, look, gq_slot_at(&g->ch, gq_guessed_slot(g, look)));
	GQ_EACH_LANE(l)
	{
		const struct gq_word_ring *r = &g->ch.ready[l < GQ_LANE_CONTROL ? l / GQ_FRONT : 0];
		const uint64_t *from = l == GQ_LANE_CONTROL  ? &g->orders->control
				       : l == GQ_LANE_DEPART ? &g->orders->depart
				       : l == GQ_LANE_PING   ? &g->orders->ping
							     : &g->orders->ahead_ns;
		uint64_t at = l % GQ_FRONT;

		GQ_UNROLL
		for (uint32_t c = 0; c < GQ_CLASSES; c++)
			if (l / GQ_FRONT == c)
				at += look->cursor[c] >> 1;
		if (l >= GQ_LANE_POOL)
			from = gq_word_ring_entry(&g->pool, pos + l - GQ_LANE_POOL);
		/* [message.claim] acquire: slot and payload; [control.read]: the orders. Pairs with
		 * [message.publish], [control.write]. */
		look->word[GQ_AT(l)] =
			gq_load_acquire_u64(l < GQ_LANE_CONTROL ? gq_word_ring_entry(r, at) : from);
		there[GQ_AT(l)] =
			l < GQ_LANE_CONTROL && gq_word_ring_is_at(r, look->word[GQ_AT(l)], at);
		u->pool[GQ_AT(l)] = look->word[GQ_AT(l)];
	}
	u->pool_pos = pos;
	look->published = gq_vote(there);
	look->control = gq_from(look->word, GQ_LANE_CONTROL);
	look->depart = gq_from(look->word, GQ_LANE_DEPART);
	look->ping = gq_from(look->word, GQ_LANE_PING);
	look->ahead_ns = gq_from(look->word, GQ_LANE_AHEAD);
}

/*
 * A look at the mirror, which is in device memory: the same entries and the next message, but for
 * what no hint has arrived of. The orders are those of the unit's last look across PCIe.
 */
GQ_DEV void gq_take_hint(const struct gq_grid *g, const struct gq_unit *u, struct gq_look *look)
{
	bool there[GQ_OWN];

	gq_look_at_cursors(g, look);
	look->guess = gq_guess(g, u, look->passed + look->pool_lead);
	if (look->guess != 0)
		gq_look_ahead(g, look, gq_mirror_at(&g->ch, gq_guessed_slot(g, look)));
	GQ_EACH_LANE(l)
	{
		const uint32_t c = l < GQ_LANE_CONTROL ? l / GQ_FRONT : 0;
		uint64_t at = look->cursor[0] >> 1;

		GQ_UNROLL
		for (uint32_t d = 1; d < GQ_CLASSES; d++)
			if (c == d)
				at = look->cursor[d] >> 1;
		look->word[GQ_AT(l)] = gq_read_hint(gq_hint_at(&g->ch, c, at));
		there[GQ_AT(l)] = l < GQ_LANE_CONTROL && l % GQ_FRONT == 0 &&
				  gq_word_ring_is_at(&g->ch.ready[c], look->word[GQ_AT(l)], at);
	}
	look->published = gq_vote(there);
	look->control = u->control;
	look->ahead_ns = u->ahead_ns;
	look->depart = 0;
	look->ping = 0;
}

GQ_DEV uint32_t gq_leading(uint32_t votes, uint32_t max)
{
	uint32_t n = 0;

	while (n < max && (votes >> n & 1) != 0)
		n++;
	return n;
}

/* The class that is served next, chosen as gq_claim() does. `waits` has a bit for each class in
 * which a message waits. */
GQ_DEV uint32_t gq_next_class(const struct gq_ageing *ageing, uint32_t waits)
{
	uint32_t c = 0;

	for (; c < GQ_CLASSES - 1; c++)
		if (ageing->passed[c] >= GQ_PASS_LIMIT && (waits >> c & 1) != 0)
			return c;
	while ((waits >> c & 1) == 0)
		c--;
	return c;
}

/* How many of class `c` may be claimed before a lower class has waited long enough. */
GQ_DEV uint32_t gq_until_guard(const struct gq_ageing *ageing, uint32_t c, uint32_t waits)
{
	uint32_t n = GQ_PASS_LIMIT;

	for (uint32_t d = 0; d < c; d++)
		if ((waits >> d & 1) != 0 && ageing->passed[d] < GQ_PASS_LIMIT &&
		    GQ_PASS_LIMIT - ageing->passed[d] < n)
			n = GQ_PASS_LIMIT - ageing->passed[d];
	return ageing->passed[c] >= GQ_PASS_LIMIT ? 1 : n;
}

GQ_DEV void gq_count_passed(struct gq_ageing *ageing, uint32_t claimed, uint32_t waits, uint32_t n)
{
	const bool by_guard = ageing->passed[claimed] >= GQ_PASS_LIMIT;

	ageing->passed[claimed] = 0;
	if (by_guard)
		return;
	for (uint32_t d = 0; d < claimed; d++)
		ageing->passed[d] = (waits >> d & 1) != 0 ? ageing->passed[d] + n : 0;
}

/* ---- claim ----------------------------------------------------------------------------------- */

/*
 * Claim what the look has seen: up to `batch` consecutive messages of one class.
 * @param slot  of lane l: the slot of the l-th
 * @param use   what the first one's entry says: lower bits of its id
 * @return how many; 0: another unit was faster.
 */
GQ_DEV uint32_t gq_grid_claim(const struct gq_grid *g, const struct gq_look *look,
			      struct gq_ageing *ageing, uint32_t (&slot)[GQ_OWN], uint64_t *use)
{
	uint64_t cursor = 0, word[GQ_OWN];
	uint32_t waits = 0, c = 0, n, front = 0, max = 0;
	bool ours = false;

	GQ_UNROLL
	for (uint32_t d = 0; d < GQ_CLASSES; d++)
		waits |= (look->published >> (d * GQ_FRONT) & 1) << d;
	if (GQ_IS_LANE_0) { /* the counts are its own */
		c = gq_next_class(ageing, waits);
		max = gq_until_guard(ageing, c, waits);
	}
	c = gq_from_lane_0(c);
	max = gq_from_lane_0(max);
	max = max < g->batch ? max : g->batch;
	GQ_UNROLL
	for (uint32_t d = 0; d < GQ_CLASSES; d++) {
		if (c == d) {
			cursor = look->cursor[d];
			front = look->published >> (d * GQ_FRONT);
		}
	}

	const struct gq_word_ring *r = &g->ch.ready[c];

	GQ_EACH_LANE(l)
	word[GQ_AT(l)] = gq_rotated(look->word, l, c * GQ_FRONT);
	n = gq_leading(front, max < GQ_FRONT ? max : (uint32_t)GQ_FRONT);
	if (n == GQ_FRONT && max > GQ_FRONT) { /* look further: one more read, many messages */
		bool there[GQ_OWN];

		GQ_EACH_LANE(l)
		{
			const uint64_t pos = (cursor >> 1) + l;

			/* [message.claim] */
			word[GQ_AT(l)] = gq_load_acquire_u64(gq_word_ring_entry(r, pos));
			there[GQ_AT(l)] = l < gq_word_ring_size(r) &&
					  gq_word_ring_is_at(r, word[GQ_AT(l)], pos);
		}
		n = gq_leading(gq_vote(there), max);
	}
	if (GQ_IS_LANE_0) {
		GQ_WINDOW();
		/* Relaxed, as in gq_claim_from(). It fails on a cursor that has been closed since
		 * the look, when none was. */
		ours = n != 0 && gq_cas_relaxed_device_u64(&g->counters->cursor[c], cursor,
							   cursor + 2 * (uint64_t)n);
		if (ours)
			gq_count_passed(ageing, c, waits, n);
	}
	if (gq_from_lane_0(ours) == 0)
		return 0;
	GQ_EACH_LANE(l)
	slot[GQ_AT(l)] = (uint32_t)(word[GQ_AT(l)] & g->ch.slot_mask);
	*use = gq_word_ring_value(r, gq_from(word, 0));
	/* Another lane reads what this one acquired, and a shuffle orders no memory. */
	gq_sync_warp();
	return n;
}

#endif /* GPUQ_CUDA_GRID_LOOK_CUH */
