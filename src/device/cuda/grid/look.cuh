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
	uint64_t control;       /* orders.control, when it last read the orders ... */
	uint64_t depart;        /* orders.depart, then */
	uint64_t ordered_ns;    /* ... and when that was */
	uint64_t begun_ns;      /* when the launch began */
	uint64_t looked_ns;     /* when it last found nothing */
	uint64_t pong;          /* of the first unit: the last ping that it has answered */
	uint64_t pool_pos;      /* where it last looked into the pool ... */
	uint64_t pool[GQ_OWN];  /* ... and what it found: lane GQ_LANE_POOL + k, k behind it */
	uint32_t number;        /* in the grid */
	uint32_t naps;          /* since the last look of a unit that is no scout */
	uint32_t held,
		held_run;       /* so many messages, of the run in this word, it reads entries of */
	uint32_t found_nothing; /* turns since it last had a message */
	uint32_t hints;         /* so many turns look at the mirror before one looks across PCIe */
	bool scout;
	bool measured; /* the host measures the unit, which does not nap then */
	bool has_fed;  /* it has looked in place of taking what was there */
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
	uint64_t run[GQ_OWN];        /* lane GQ_RUNS * c + k: run k of class c */
	uint64_t cursor[GQ_CLASSES]; /* where the newest run ends: positions before are claimed */
	uint32_t left[GQ_CLASSES];   /* claimed, and taken by no unit yet ... */
	uint32_t oldest[GQ_CLASSES]; /* ... the lane of the oldest run with some left */
	uint32_t next[GQ_CLASSES];   /* the lane of the word that the next run goes into */
	uint32_t left_in_all;
	uint32_t waits;     /* counters.waits */
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

/* Of one class, without an index that would put the array into local memory. */
template <typename T> GQ_DEV T gq_from_classes(const T (&v)[GQ_CLASSES], uint32_t c)
{
	T value = v[0];

	GQ_UNROLL
	for (uint32_t d = 1; d < GQ_CLASSES; d++)
		value = c == d ? v[d] : value;
	return value;
}

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

/* Where a class's runs are, from keys that the lanes of its words have in common. */
GQ_DEV void gq_sort_runs(struct gq_look *look, uint32_t c, uint64_t near, uint64_t live,
			 uint64_t last, uint32_t left)
{
	const uint32_t newest = (uint32_t)~last & 31, first = c * GQ_RUNS;

	look->cursor[c] = near + (~last >> 5) - GQ_RUN_POSITIONS / 2;
	look->left[c] = left;
	look->oldest[c] = (uint32_t)live & 31;
	look->next[c] = first + (newest + 1 - first) % GQ_RUNS;
}

/* What is in device memory: the runs, and what units tell each other. */
GQ_DEV void gq_look_at_runs(const struct gq_grid *g, struct gq_look *look)
{
	struct gq_counters *k = g->counters;
	uint64_t told[GQ_OWN], live[GQ_OWN], last[GQ_OWN], near[GQ_CLASSES];
	uint32_t left[GQ_OWN];
	bool shut[GQ_OWN];

	GQ_EACH_LANE(l)
	{
		look->run[GQ_AT(l)] = gq_load_relaxed_device_u64(&k->run[l / GQ_RUNS][l % GQ_RUNS]);
		told[GQ_AT(l)] = gq_load_relaxed_device_u64(l == GQ_CLASSES       ? &k->gone
							    : l == GQ_CLASSES + 1 ? &k->pool_lead
							    : l == GQ_CLASSES + 2
								    ? &k->waits
								    : &k->cursor[l % GQ_CLASSES]);
	}
	GQ_UNROLL
	for (uint32_t c = 0; c < GQ_CLASSES; c++)
		near[c] = gq_from(told, c);
	look->gone = gq_from(told, GQ_CLASSES);
	look->pool_lead = gq_from(told, GQ_CLASSES + 1);
	look->waits = (uint32_t)gq_from(told, GQ_CLASSES + 2);
	GQ_EACH_LANE(l)
	{
		const uint64_t word = look->run[GQ_AT(l)];
		uint64_t behind = 0;

		GQ_UNROLL
		for (uint32_t c = 0; c < GQ_CLASSES; c++)
			if (l / GQ_RUNS == c)
				behind = gq_run_behind(word, near[c]);
		left[GQ_AT(l)] = gq_run_left(word);
		live[GQ_AT(l)] = left[GQ_AT(l)] != 0 ? behind << 5 | l : UINT64_MAX;
		last[GQ_AT(l)] = ~((behind + gq_run_count(word)) << 5 | l);
		shut[GQ_AT(l)] = (word & GQ_RUN_CLOSED) != 0;
	}
	look->closed = gq_vote(shut) != 0;
	gq_least_of_8(live);
	gq_least_of_8(last);
	gq_sum_of_8(left);
	look->passed = 0;
	look->left_in_all = 0;
	look->published = 0;
	GQ_UNROLL
	for (uint32_t c = 0; c < GQ_CLASSES; c++) {
		gq_sort_runs(look, c, near[c], gq_from(live, c * GQ_RUNS),
			     gq_from(last, c * GQ_RUNS), gq_from(left, c * GQ_RUNS));
		look->passed += look->cursor[c] - g->start_pos;
		look->left_in_all += look->left[c];
	}
}

/* A look across PCIe, behind gq_look_at_runs(). */
GQ_DEV void gq_take_look(const struct gq_grid *g, struct gq_unit *u, struct gq_look *look)
{
	bool there[GQ_OWN];
	uint64_t pos;

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
				at += look->cursor[c];
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
 * A look at the mirror, which is in device memory, behind gq_look_at_runs(): the same entries and
 * the next message, but for what no hint has arrived of. The orders are those of the unit's last
 * look across PCIe.
 */
GQ_DEV void gq_take_hint(const struct gq_grid *g, const struct gq_unit *u, struct gq_look *look)
{
	bool there[GQ_OWN];

	look->guess = gq_guess(g, u, look->passed + look->pool_lead);
	if (look->guess != 0)
		gq_look_ahead(g, look, gq_mirror_at(&g->ch, gq_guessed_slot(g, look)));
	GQ_EACH_LANE(l)
	{
		const uint32_t c = l < GQ_LANE_CONTROL ? l / GQ_FRONT : 0;
		uint64_t at = look->cursor[0];

		GQ_UNROLL
		for (uint32_t d = 1; d < GQ_CLASSES; d++)
			if (c == d)
				at = look->cursor[d];
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
 * To claim `n` messages of class `c` from look->cursor on, of which the unit takes the first `own`
 * itself, in two steps of lane 0. Between them the warp copies the entries of the others.
 *
 * gq_hold_run(): the entries of the run before may still be read by units that have taken of it.
 * Each says when it has read, so the copies may be overwritten when none holds them: then the claim
 * does, for those who will take. If it is all for the unit itself it copies nothing and holds none.
 *
 * gq_claim_run(): the word that the run goes into is the only one that any claim of this class
 * would swap now, and what it holds has never been there before: so the swap fails if another unit
 * has claimed since the look, or has closed it, or if a late unit has asked for what was in it.
 */
GQ_DEV bool gq_hold_run(const struct gq_grid *g, uint32_t lane, uint64_t used_up, uint32_t others)
{
	if (gq_run_left(used_up) != 0 || (used_up & GQ_RUN_CLOSED) != 0)
		return false; /* all words are in use */
	/* [held.read] acquire: the entries have been read. */
	return others == 0 ||
	       gq_cas_acq_rel_device_u64(&g->counters->held[lane / GQ_RUNS][lane % GQ_RUNS], 0,
					 others);
}

GQ_DEV bool gq_claim_run(const struct gq_grid *g, uint32_t lane, uint64_t pos, uint64_t used_up,
			 uint32_t n, uint32_t own)
{
	struct gq_counters *k = g->counters;
	const uint32_t c = lane / GQ_RUNS, i = lane % GQ_RUNS;

	GQ_WINDOW();
	/* [run.write] release: the copies of the entries, and what [message.claim] has acquired. */
	if (!gq_cas_acq_rel_device_u64(&k->run[c][i], used_up, gq_run_of(pos, n, own))) {
		if (n != own) /* [held.write]: nobody reads them */
			gq_fetch_add_acq_rel_device_u64(&k->held[c][i], 0 - (uint64_t)(n - own));
		return false;
	}
	/* A late store of an older position does not matter: it is near enough. */
	gq_store_relaxed_device_u64(&k->cursor[c], pos + n);
	return true;
}

/* The unit has read the entries of what it has taken. One lane, before it stores anything to the
 * host, as the release would wait for that. */
GQ_DEV void gq_let_go(const struct gq_grid *g, const struct gq_unit *u)
{
	/* [held.write] release: the entries have been read. */
	if (u->held != 0)
		gq_fetch_add_acq_rel_device_u64(
			&g->counters->held[u->held_run / GQ_RUNS][u->held_run % GQ_RUNS],
			0 - (uint64_t)u->held);
}

/* Tell the units which classes have more than was claimed. */
GQ_DEV void gq_tell_waits(const struct gq_grid *g, const struct gq_look *look, uint32_t waits)
{
	if (GQ_IS_LANE_0 && waits != look->waits)
		gq_store_relaxed_device_u64(&g->counters->waits, waits);
}

GQ_DEV uint32_t gq_first_zero(uint32_t votes)
{
	uint32_t n = 0;

	while (n < 32 && (votes >> n & 1) != 0)
		n++;
	return n;
}

/* The slots in the entries that a unit alone has claimed. `skip`: entries before the first. */
GQ_DEV void gq_slots_of(const struct gq_grid *g, const gq_wide (&pair)[GQ_OWN], uint32_t skip,
			uint32_t (&slot)[GQ_OWN])
{
	uint64_t a[GQ_OWN], b[GQ_OWN];

	GQ_EACH_LANE(l)
	{
		a[GQ_AT(l)] = pair[GQ_AT(l)].a;
		b[GQ_AT(l)] = pair[GQ_AT(l)].b;
	}
	GQ_EACH_LANE(l)
	{
		const uint32_t i = (skip + l) % 64;
		const uint64_t even = gq_from(a, i / 2), odd = gq_from(b, i / 2);

		slot[GQ_AT(l)] = (uint32_t)((i % 2 == 0 ? even : odd) & g->ch.slot_mask);
	}
	/* Another lane reads what this one acquired, and a shuffle orders no memory. */
	gq_sync_warp();
}

/*
 * Claim for others, or, where a unit claims for itself alone, for the unit: up to `max` messages of
 * class `c` behind look->cursor, by one more read across PCIe.
 * @param slot  as gq_grid_claim()'s
 * @param own   how many the unit has taken
 * @return how many were published there, up to what the read has shown; they are claimed, unless
 *         another unit was faster.
 */
GQ_DEV uint32_t gq_feed(const struct gq_grid *g, const struct gq_look *look, uint32_t c,
			uint32_t max, uint32_t (&slot)[GQ_OWN], uint32_t *own)
{
	const bool alone =
		g->feed == 0; /* then `max` is a batch at most, and nobody reads copies */
	const struct gq_word_ring *r = &g->ch.ready[c];
	const uint64_t pos = gq_from_classes(look->cursor, c), first = pos & ~UINT64_C(1);
	const uint32_t lane = gq_from_classes(look->next, c);
	const uint64_t used_up = gq_from(look->run, lane);
	uint64_t *near = g->counters->near[lane / GQ_RUNS][lane % GQ_RUNS];
	gq_wide pair[GQ_OWN];
	bool even[GQ_OWN], odd[GQ_OWN];
	uint32_t n, evens, odds;
	bool ours = false;

	*own = 0;
	GQ_EACH_LANE(l)
	{
		const uint64_t at = first + 2 * (uint64_t)l;

		pair[GQ_AT(l)] = gq_load_entries(gq_word_ring_entry(r, at)); /* [message.claim] */
		even[GQ_AT(l)] =
			gq_pos_diff(at, pos) < 0 || gq_word_ring_is_at(r, pair[GQ_AT(l)].a, at);
		odd[GQ_AT(l)] = gq_word_ring_is_at(r, pair[GQ_AT(l)].b, at + 1);
	}
	evens = 2 * gq_first_zero(gq_vote(even));
	odds = 2 * gq_first_zero(gq_vote(odd)) + 1;
	n = (evens < odds ? evens : odds);
	n = (n < GQ_DEEP ? n : (uint32_t)GQ_DEEP) - (uint32_t)(pos - first);
	n = n < max ? n : max;
	if (n != 0 && GQ_IS_LANE_0)
		ours = gq_hold_run(g, lane, used_up, alone ? 0 : n);
	if (gq_from_lane_0(ours) == 0)
		return n;
	gq_sync_warp(); /* what lane 0 has acquired: nobody reads the copies */
	GQ_EACH_LANE(l)
	{
		const uint64_t at = first + 2 * (uint64_t)l - pos; /* of l 0 perhaps one before */

		if (!alone && at < n)
			gq_store_relaxed_device_u64(&near[at], pair[GQ_AT(l)].a);
		if (!alone && at + 1 < n)
			gq_store_relaxed_device_u64(&near[at + 1], pair[GQ_AT(l)].b);
	}
	gq_sync_warp(); /* the copies, which lane 0 releases */
	if (GQ_IS_LANE_0)
		ours = gq_claim_run(g, lane, pos, used_up, n, alone ? n : 0);
	if (!alone || gq_from_lane_0(ours) == 0)
		return n;
	gq_slots_of(g, pair, (uint32_t)(pos - first), slot);
	*own = n;
	return n;
}

/* The classes of which something is claimed and not taken: a bit each. */
GQ_DEV uint32_t gq_live(const struct gq_look *look)
{
	uint32_t live = 0;

	GQ_UNROLL
	for (uint32_t c = 0; c < GQ_CLASSES; c++)
		live |= (uint32_t)(look->left[c] != 0) << c;
	return live;
}

/*
 * Claim what the look has seen: consecutive messages of one class, up to `batch` of which the unit
 * takes itself, if none that are claimed already come before them. A look that claims nothing says
 * what waits, too: units that believe an older look would look again, and for ever.
 * @param slot  of lane l: the slot of the l-th
 * @param use   what the first one's entry says: lower bits of its id
 * @return how many it has taken
 */
GQ_DEV uint32_t gq_grid_claim(const struct gq_grid *g, const struct gq_look *look,
			      struct gq_ageing *ageing, uint32_t (&slot)[GQ_OWN], uint64_t *use)
{
	uint64_t pos, used_up, word[GQ_OWN];
	const uint32_t live = gq_live(look);
	uint32_t waits = 0, c = 0, n, own = 0, max = 0, seen, lane;
	bool ours = false;

	GQ_UNROLL
	for (uint32_t d = 0; d < GQ_CLASSES; d++)
		waits |= (look->published >> (d * GQ_FRONT) & 1) << d;
	if (GQ_IS_LANE_0) { /* the counts are its own */
		c = gq_next_class(ageing, waits);
		max = gq_until_guard(ageing, c, waits | live);
		if ((live >> c & 1) == 0 && gq_next_class(ageing, waits | live) == c)
			own = max < g->batch ? max : g->batch;
	}
	c = gq_from_lane_0(c);
	max = gq_from_lane_0(max);
	own = gq_from_lane_0(own);

	const struct gq_word_ring *r = &g->ch.ready[c];

	pos = gq_from_classes(look->cursor, c);
	lane = gq_from_classes(look->next, c);
	used_up = gq_from(look->run, lane);
	seen = gq_leading(look->published >> (c * GQ_FRONT), GQ_FRONT);
	if (own + g->feed < max)
		max = own + g->feed;
	if (seen == GQ_FRONT && max > GQ_FRONT && gq_word_ring_size(r) >= GQ_DEEP) {
		n = gq_feed(g, look, c, max, slot, &own);
		if (GQ_IS_LANE_0 && own != 0)
			gq_count_passed(ageing, c, waits | live, own);
		gq_tell_waits(g, look, n < max && n < GQ_DEEP - 1 ? waits & ~(1u << c) : waits);
		return own; /* 0: take of it next */
	}
	n = seen < max ? seen : max;
	own = n < own ? n : own;
	if (n != 0 && GQ_IS_LANE_0)
		ours = gq_hold_run(g, lane, used_up, n - own);
	if (gq_from_lane_0(ours) == 0) {
		gq_tell_waits(g, look, waits);
		return 0;
	}
	gq_sync_warp(); /* what lane 0 has acquired: nobody reads the copies */
	GQ_EACH_LANE(l)
	{
		word[GQ_AT(l)] = gq_rotated(look->word, l, c * GQ_FRONT);
		if (l >= own && l < n)
			gq_store_relaxed_device_u64(&g->counters->near[c][lane % GQ_RUNS][l],
						    word[GQ_AT(l)]);
	}
	gq_sync_warp(); /* the copies, which lane 0 releases */
	if (GQ_IS_LANE_0) {
		ours = gq_claim_run(g, lane, pos, used_up, n, own);
		if (ours && own != 0)
			gq_count_passed(ageing, c, waits | live, own);
	}
	if (gq_from_lane_0(ours) == 0) { /* the unit that was faster says what more waits */
		gq_tell_waits(g, look, waits & look->waits);
		return 0;
	}
	gq_tell_waits(g, look, n == seen && seen < GQ_FRONT ? waits & ~(1u << c) : waits);
	GQ_EACH_LANE(l)
	slot[GQ_AT(l)] = (uint32_t)(word[GQ_AT(l)] & g->ch.slot_mask);
	*use = gq_word_ring_value(r, gq_from(word, 0));
	/* Another lane reads what this one acquired, and a shuffle orders no memory. */
	gq_sync_warp();
	return own;
}

/* ---- take ------------------------------------------------------------------------------------ */

/* The class that is served next, when all that is known is in device memory. GQ_NONE: one whose
 * messages nobody has claimed yet comes first, so somebody has to look. @param must  take all the
 * same */
GQ_DEV uint32_t gq_class_to_take(const struct gq_ageing *ageing, const struct gq_look *look,
				 bool must)
{
	const uint32_t live = gq_live(look), c = gq_next_class(ageing, live | look->waits);

	if ((live >> c & 1) != 0)
		return c;
	return must ? gq_next_class(ageing, live) : GQ_NONE;
}

/*
 * Take of class `c` what is claimed already: up to `batch` messages of its oldest run.
 * @param slot  of lane l: the slot of the l-th
 * @return how many; 0: others were faster.
 */
GQ_DEV uint32_t gq_take(const struct gq_grid *g, struct gq_unit *u, const struct gq_look *look,
			struct gq_ageing *ageing, uint32_t c, uint32_t (&slot)[GQ_OWN])
{
	const uint32_t lane = gq_from_classes(look->oldest, c);
	const uint64_t *near = g->counters->near[lane / GQ_RUNS][lane % GQ_RUNS];
	uint32_t n = 0, first = 0;

	if (GQ_IS_LANE_0) {
		const uint32_t waits = look->waits | gq_live(look);
		uint64_t run;

		n = gq_until_guard(ageing, c, waits);
		n = n < g->batch ? n : g->batch;
		GQ_WINDOW();
		/* [run.read] acquire: the copies of the entries, and slot and payload. What comes
		 * back may be of a later run than the look's: a message is a message. */
		run = gq_fetch_add_acquire_device_u64(
			&g->counters->run[lane / GQ_RUNS][lane % GQ_RUNS], n);
		first = gq_run_taken(run);
		n = gq_run_left(run) < n ? gq_run_left(run) : n;
		if (n != 0)
			gq_count_passed(ageing, c, waits, n);
	}
	n = gq_from_lane_0(n);
	if (n == 0)
		return 0;
	first = gq_from_lane_0(first);
	gq_sync_warp(); /* what lane 0 has acquired */
	GQ_WINDOW();
	GQ_EACH_LANE(l)
	slot[GQ_AT(l)] =
		l < n ? (uint32_t)(gq_load_relaxed_device_u64(&near[first + l]) & g->ch.slot_mask)
		      : 0;
	u->held = n;
	u->held_run = lane;
	gq_sync_warp(); /* read, which lane 0 releases */
	return n;
}

#endif /* GPUQ_CUDA_GRID_LOOK_CUH */
