/* SPDX-License-Identifier: Apache-2.0 */
/*
 * look.cuh - what a unit sees of the queue, across PCIe or in the mirror, and what it claims of it.
 */
#ifndef GPUQ_CUDA_GRID_LOOK_CUH
#define GPUQ_CUDA_GRID_LOOK_CUH

#include "device/cuda/grid/lanes.cuh"
#include "device/cuda/grid/tally.cuh"

/* ---- a block and its units ------------------------------------------------------------------- */

/* What a unit knows of its one message. */
struct gq_header {
	const uint8_t *payload;
	uint64_t id, tag;
	uint32_t len, opcode;
};

/* What a unit seldom needs: its lane 0 alone touches it. */
struct gq_rare {
	uint64_t begun_ns;  /* when the launch began */
	uint64_t looked_ns; /* of the first unit: when it last found nothing; 0: it did not */
	uint64_t pong;      /* of the first unit: the last ping that it has answered */
};

struct gq_shared {
	struct gq_ageing ageing[GQ_UNITS];
	struct gq_header header[GQ_UNITS];
	uint32_t out_len[GQ_UNITS * 32];
	uint32_t status[GQ_UNITS * 32];
	uint32_t decided[GQ_UNITS * 32]; /* 0: run it; else the outcome */
	uint32_t verdict, slot;          /* Q_PER_BLOCK: what the first warp has found for all */
	struct gq_rare rare[GQ_UNITS];
	GQ_TALLY_OF_UNITS
};

/* How a turn of the loop ended. */
enum gq_verdict {
	GQ_CLAIMED,
	GQ_CLAIMED_WHOLE, /* one message, which came with the look: staged and decided */
	GQ_NOTHING,
	GQ_LEAVE,
};

/* A unit's own, the same in all lanes of its first warp, but for `seen`. */
struct gq_unit {
	/* What it read when it last looked, or of the orders since: the orders in lanes
	 * GQ_LANE_ORDERS and the next, entries of the pool from that at pool_pos on, or the one
	 * before, in lanes GQ_LANE_POOL to GQ_LANE_POOL + 3. */
	gq_wide seen[GQ_OWN];
	uint64_t pool_pos;      /* where it last looked into the pool */
	uint64_t passed;        /* positions passed by all classes, when it last looked */
	uint64_t pool_lead;     /* counters.pool_lead, then */
	uint64_t idle_since_ns; /* since when that has not changed; 0: not idle */
	uint64_t ordered_ns;    /* when it last read the orders */
	uint64_t told;          /* a control word that it may be a little late to go by */
	uint32_t number;        /* in the grid */
	uint32_t held,
		held_run;       /* so many messages, of the run in this word, it reads entries of */
	uint32_t noted;         /* places of which the journal has something */
	uint32_t found_nothing; /* turns since it last had a message */
	uint32_t hints;         /* so many turns look at the mirror before one looks across PCIe */
	bool scout;
	bool measured; /* the host measures the unit, which does not nap then */
	bool has_fed;  /* it has looked in place of taking what was there */
	bool has_left; /* it has left a message to others that would have it sooner */
	GQ_TALLY_OF_UNIT
};

/* ---- look ------------------------------------------------------------------------------------ */

/* The lanes of a look, a piece of 16 bytes each. */
enum {
	GQ_LANE_SLOT = 0,   /* the first 128 bytes of the slot that the next message may be in */
	GQ_LANE_ORDERS = 8, /* struct gq_orders: control, depart; ping, ahead_ns */
	GQ_LANE_POOL = 10,  /* the next slots to come, in pairs */
	GQ_LANE_CLASS =
		16, /* four lanes a class: entries from the one at its cursor on, in pairs */
	GQ_PAIRS = 4,
	GQ_FRONT = 2 * GQ_PAIRS, /* so many entries of a class, or one fewer */
	GQ_AHEADS = 2,           /* pieces of the next message that a lane reads */
};
#define GQ_FRONTS 0x01010101u /* the votes on the entries at the four cursors */

/* The lanes of gq_look.told: counters of that name; of `feeding` a lane a place. */
enum {
	GQ_TOLD_GONE,
	GQ_TOLD_LEAD,
	GQ_TOLD_WAITS,
	GQ_TOLD_FEEDING,
	GQ_TOLD_CONTROL = GQ_TOLD_FEEDING + GQ_CLASSES * GQ_FEEDERS,
	GQ_TOLD_DEPART,
};

/* counters.control: one word, so that nobody takes an old control word for a new one. */
enum { GQ_TOLD_FLAGS = 8 };

GQ_DEV uint64_t gq_told_control(uint64_t control, uint64_t since_ns)
{
	return since_ns * GQ_TOLD_FLAGS | (control & (GQ_TOLD_FLAGS - 1));
}

/* How old a control word is that was told. */
GQ_DEV uint64_t gq_told_age_ns(uint64_t told, uint64_t now_ns)
{
	return (now_ns * GQ_TOLD_FLAGS - (told & ~(uint64_t)(GQ_TOLD_FLAGS - 1))) / GQ_TOLD_FLAGS;
}

/* Words of the orders, as gq_order() counts them. */
enum { GQ_CONTROL, GQ_DEPART, GQ_PING, GQ_AHEAD_NS };

/*
 * One read across PCIe: the next entries of every class, the orders, the next free slots, and, if
 * the unit knows from its last look in which slot the next message will be, that slot.
 */
struct gq_look {
	/* In lane GQ_RUNS * c + k: run k of class c. The next three are of the class, and the same
	 * in all its lanes. */
	uint64_t run[GQ_OWN];
	uint64_t cursor[GQ_OWN]; /* where the newest run ends: positions before are claimed */
	uint32_t oldest[GQ_OWN]; /* the lane of the oldest run with some left */
	uint32_t next[GQ_OWN];   /* the lane of the word that the next run goes into */
	uint32_t live;           /* classes with something claimed that no unit has taken: bits */
	uint32_t left_in_all;    /* so much is claimed and not taken */
	uint64_t told[GQ_OWN];   /* what units tell each other: lanes GQ_TOLD_* */
	uint64_t passed;         /* positions, of all classes */
	gq_wide seen[GQ_OWN];    /* by lanes as above */
	uint64_t guess;          /* the id of the message that `ahead` may be; 0: none */
	gq_wide ahead[GQ_AHEADS][GQ_OWN]; /* pieces l, 32 + l of its slot */
	/* Bit GQ_FRONT * c + k: the entry of class c, k behind its cursor, is published. */
	uint32_t published;
	bool closed;
};

/* What the lanes of class `c` have. */
template <typename T> GQ_DEV T gq_of_class(const T (&v)[GQ_OWN], uint32_t c)
{
	return gq_from(v, c * GQ_RUNS);
}

/* Word k of pieces that lanes have. */
GQ_DEV uint64_t gq_word_of(const gq_wide (&v)[GQ_OWN], uint32_t k)
{
	uint64_t word[GQ_OWN];

	GQ_EACH_LANE(l)
	word[GQ_AT(l)] = k % 2 == 0 ? v[GQ_AT(l)].a : v[GQ_AT(l)].b;
	return gq_from(word, k / 2);
}

/* The words of a slot's header, as struct gq_slot lays them out, and of the orders. */
struct gq_words {
	uint64_t id, tag, deadline_ns, cancel, len_opcode, flags_class, last;
};

/* Of a header in lanes 0 to 3. */
GQ_DEV void gq_words_of(const gq_wide (&v)[GQ_OWN], struct gq_words *w)
{
	w->id = gq_a_of(v, 0);
	w->tag = gq_b_of(v, 0);
	w->deadline_ns = gq_a_of(v, 1);
	w->cancel = gq_b_of(v, 1);
	w->len_opcode = gq_a_of(v, 2);
	w->flags_class = gq_b_of(v, 2);
	w->last = gq_b_of(v, 3);
}

/* The orders of the unit's last look across PCIe, or of a read of them since. */
GQ_DEV uint64_t gq_order(const struct gq_unit *u, uint32_t k)
{
	return k % 2 == 0 ? gq_a_of(u->seen, GQ_LANE_ORDERS + k / 2)
			  : gq_b_of(u->seen, GQ_LANE_ORDERS + k / 2);
}

/* The unit has read the orders; it began at `since_ns`. `tell`: others take of runs, and go by it.
 */
GQ_DEV void gq_have_orders(const struct gq_grid *g, struct gq_unit *u, uint64_t since_ns, bool tell)
{
	const uint64_t control = gq_order(u, GQ_CONTROL), depart = gq_order(u, GQ_DEPART);

	u->ordered_ns = since_ns;
	u->told = gq_told_control(control, since_ns);
	if (GQ_IS_LANE_0 && tell) {
		gq_store_relaxed_device_u64(&g->counters->control, u->told);
		gq_store_relaxed_device_u64(&g->counters->depart, depart);
	}
}

/* The id that the next message will have if one has been published in the order of the pool. */
GQ_DEV uint64_t gq_guess(const struct gq_grid *g, const struct gq_unit *u, uint64_t pos)
{
	/* An id holds the lower bits of a position. */
	const uint64_t k = (gq_word_ring_tag(&g->pool, pos - u->pool_pos) >> g->pool.shift) +
			   (u->pool_pos & 1);
	const uint64_t word = gq_word_of(u->seen, 2 * GQ_LANE_POOL + (uint32_t)(k % GQ_FRONT));

	return k < GQ_FRONT && gq_word_ring_is_at(&g->pool, word, pos) ? word : 0;
}

/* Pieces from lane `first` on of the slot of message `look->guess`, if there is one, or of its
 * mirror: it may just be being written. */
GQ_DEV void gq_look_ahead(const struct gq_grid *g, struct gq_look *look, const void *at,
			  uint32_t first)
{
	const gq_wide *piece = (const gq_wide *)at;

	GQ_EACH_LANE(l)
	{
		GQ_UNROLL
		for (uint32_t j = 0; j < GQ_AHEADS; j++) {
			look->ahead[j][GQ_AT(l)] = GQ_NO_PIECE;
			if (look->guess != 0 && l + 32 * j >= first &&
			    (l + 32 * j) * GQ_PIECE < g->ch.ahead_bytes)
				look->ahead[j][GQ_AT(l)] = gq_read_ahead(&piece[l + 32 * j]);
		}
	}
}

GQ_DEV uint32_t gq_guessed_slot(const struct gq_grid *g, const struct gq_look *look)
{
	return (uint32_t)(look->guess & g->ch.slot_mask);
}

/* What is in device memory: the runs, and what units tell each other. */
GQ_DEV void gq_look_at_runs(const struct gq_grid *g, struct gq_look *look)
{
	struct gq_counters *k = g->counters;
	uint64_t near[GQ_OWN], live[GQ_OWN], last[GQ_OWN];
	uint32_t left[GQ_OWN];
	bool shut[GQ_OWN], some[GQ_OWN];

	GQ_EACH_LANE(l)
	{
		look->run[GQ_AT(l)] = gq_load_relaxed_device_u64(&k->run[l / GQ_RUNS][l % GQ_RUNS]);
		near[GQ_AT(l)] = gq_load_relaxed_device_u64(&k->cursor[l / GQ_RUNS]);
		look->told[GQ_AT(l)] = gq_load_relaxed_device_u64(
			l == GQ_TOLD_GONE     ? &k->gone
			: l == GQ_TOLD_LEAD   ? &k->pool_lead
			: l == GQ_TOLD_WAITS  ? &k->waits
			: l < GQ_TOLD_CONTROL ? &k->feeding[(l - GQ_TOLD_FEEDING) / GQ_FEEDERS]
							   [(l - GQ_TOLD_FEEDING) % GQ_FEEDERS]
			: l == GQ_TOLD_CONTROL ? &k->control
					       : &k->depart);
	}
	GQ_EACH_LANE(l) /* the lanes of a class may have read different positions: one counts */
	near[GQ_AT(l)] = gq_from_other(near, l, l - l % GQ_RUNS);
	GQ_EACH_LANE(l)
	{
		const uint64_t word = look->run[GQ_AT(l)],
			       behind = gq_run_behind(word, near[GQ_AT(l)]);

		left[GQ_AT(l)] = gq_run_left(word);
		live[GQ_AT(l)] = left[GQ_AT(l)] != 0 ? behind << 5 | l : UINT64_MAX;
		last[GQ_AT(l)] = ~((behind + gq_run_count(word)) << 5 | l);
		shut[GQ_AT(l)] = (word & GQ_RUN_CLOSED) != 0;
	}
	look->closed = gq_vote(shut) != 0;
	gq_least_of_8(live);
	gq_least_of_8(last);
	gq_sum_of_8(left);
	GQ_EACH_LANE(l)
	{
		const uint32_t newest = (uint32_t)~last[GQ_AT(l)] & 31, first = l - l % GQ_RUNS;

		look->cursor[GQ_AT(l)] =
			near[GQ_AT(l)] + (~last[GQ_AT(l)] >> 5) - GQ_RUN_POSITIONS / 2;
		look->oldest[GQ_AT(l)] = (uint32_t)live[GQ_AT(l)] & 31;
		look->next[GQ_AT(l)] = first + (newest + 1 - first) % GQ_RUNS;
		some[GQ_AT(l)] = left[GQ_AT(l)] != 0 && l % GQ_RUNS == 0;
	}
	const uint32_t votes = gq_vote(some);

	look->passed = 0;
	look->left_in_all = 0;
	look->live = 0;
	look->published = 0;
	GQ_UNROLL
	for (uint32_t c = 0; c < GQ_CLASSES; c++) {
		look->passed += gq_of_class(look->cursor, c) - g->start_pos;
		look->left_in_all += gq_of_class(left, c);
		look->live |= (votes >> (c * GQ_RUNS) & 1) << c;
	}
}

/* Two entries of a ring, from an even position on. One entry's ring has it twice. */
GQ_DEV const gq_wide *gq_pair_at(const struct gq_word_ring *r, uint64_t even)
{
	const uintptr_t at = (uintptr_t)gq_word_ring_entry(r, even);

	return (const gq_wide *)(at & ~(uintptr_t)(GQ_PIECE - 1));
}

GQ_DEV gq_wide gq_as_pair(const struct gq_word_ring *r, gq_wide v)
{
	const uint64_t only = ((uintptr_t)r->entry & 8) == 0 ? v.a : v.b;

	return r->mask == 0 ? gq_wide{ only, only } : v;
}

/* Where lane `l` of a look reads. `pos`: the pool's position of the next message. */
GQ_DEV const gq_wide *gq_place_of_look(const struct gq_grid *g, const struct gq_look *look,
				       uint32_t l, uint64_t cursor, uint64_t pos)
{
	const uint64_t even = ~UINT64_C(1);

	if (l >= GQ_LANE_CLASS)
		return gq_pair_at(&g->ch.ready[(l - GQ_LANE_CLASS) / GQ_PAIRS],
				  (cursor & even) + l % GQ_PAIRS * 2);
	if (l >= GQ_LANE_POOL)
		return gq_pair_at(&g->pool, (pos & even) + (l - GQ_LANE_POOL) % GQ_PAIRS * 2);
	if (l < GQ_LANE_ORDERS && look->guess != 0)
		return (const gq_wide *)(const void *)gq_slot_at(&g->ch, gq_guessed_slot(g, look)) +
		       l;
	return (const gq_wide *)(const void *)g->orders + l % 2;
}

/* Bit i of the lower half goes to bit 2 * i. */
GQ_DEV uint32_t gq_spread(uint32_t bits)
{
	bits = (bits | bits << 8) & 0x00ff00ffu;
	bits = (bits | bits << 4) & 0x0f0f0f0fu;
	bits = (bits | bits << 2) & 0x33333333u;
	return (bits | bits << 1) & 0x55555555u;
}

/* gq_look.published, by votes of the lanes of all classes: on a pair's entries, and whether a
 * class's cursor is odd, so that the first entry comes before it. */
GQ_DEV uint32_t gq_published(uint32_t even, uint32_t odd, uint32_t skip)
{
	const uint32_t all = gq_spread(even >> GQ_LANE_CLASS) | gq_spread(odd >> GQ_LANE_CLASS)
									<< 1,
		       skips = gq_spread(skip >> GQ_LANE_CLASS & 0x1111u) * 0xffu;

	return (all & ~skips) | ((all & skips) >> 1 & 0x7f7f7f7fu & skips);
}

/*
 * A look across PCIe, behind gq_look_at_runs(). All addresses come first, then all loads, then the
 * acquire: what a lane reads of the slot is to be no older than the entries, or it would seldom be
 * the message. The slot's first line comes by the very load that brings the entries, and its other
 * lines right behind it. So the loads are relaxed and a fence acquires: nothing passes an acquiring
 * load, and what came before it would be older than the entries.
 */
GQ_DEV void gq_take_look(const struct gq_grid *g, struct gq_unit *u, struct gq_look *look)
{
	const gq_wide *from[GQ_OWN];
	uint64_t cursor[GQ_OWN];
	bool even[GQ_OWN], odd[GQ_OWN], skip[GQ_OWN];
	uint64_t pos;

	pos = look->passed + gq_from(look->told, GQ_TOLD_LEAD);
	look->guess = g->ch.ahead_bytes != 0 ? gq_guess(g, u, pos) : 0;
	GQ_EACH_LANE(l)
	{
		cursor[GQ_AT(l)] =
			gq_from_other(look->cursor, l, (l - GQ_LANE_CLASS) / GQ_PAIRS * GQ_RUNS);
		from[GQ_AT(l)] = gq_place_of_look(g, look, l, cursor[GQ_AT(l)], pos);
	}
	GQ_EACH_LANE(l)
	look->seen[GQ_AT(l)] = gq_look_wide(from[GQ_AT(l)], l < GQ_LANE_ORDERS && look->guess != 0);
	gq_look_ahead(g, look, gq_slot_at(&g->ch, gq_guessed_slot(g, look)), GQ_LANE_ORDERS);
	/* [message.claim] acquire: slot and payload; [control.read]: the orders. Pairs with
	 * [message.publish], [control.write]. */
	gq_acquire_look();
	GQ_EACH_LANE(l)
	{
		const bool of_class = l >= GQ_LANE_CLASS;
		const struct gq_word_ring *r =
			of_class ? &g->ch.ready[(l - GQ_LANE_CLASS) / GQ_PAIRS] : &g->pool;
		const uint64_t at = (cursor[GQ_AT(l)] & ~UINT64_C(1)) + l % GQ_PAIRS * 2;

		if (l < GQ_LANE_ORDERS)
			look->ahead[0][GQ_AT(l)] = look->seen[GQ_AT(l)];
		else if (l >= GQ_LANE_POOL)
			look->seen[GQ_AT(l)] = gq_as_pair(r, look->seen[GQ_AT(l)]);
		even[GQ_AT(l)] = of_class && gq_word_ring_is_at(r, look->seen[GQ_AT(l)].a, at);
		odd[GQ_AT(l)] = of_class && gq_word_ring_is_at(r, look->seen[GQ_AT(l)].b, at + 1);
		skip[GQ_AT(l)] = (cursor[GQ_AT(l)] & 1) != 0;
		u->seen[GQ_AT(l)] = look->seen[GQ_AT(l)];
	}
	u->pool_pos = pos;
	look->published = gq_published(gq_vote(even), gq_vote(odd), gq_vote(skip));
}

/*
 * A look at the mirror, which is in device memory, behind gq_look_at_runs(): the same entries and
 * the next message, but for what no hint has arrived of. The orders are those of the unit's last
 * look across PCIe.
 */
GQ_DEV void gq_take_hint(const struct gq_grid *g, const struct gq_unit *u, struct gq_look *look)
{
	uint64_t cursor[GQ_OWN];
	bool there[GQ_OWN];

	look->guess = gq_guess(g, u, look->passed + gq_from(look->told, GQ_TOLD_LEAD));
	GQ_EACH_LANE(l)
	{
		const uint32_t c = l >= GQ_LANE_CLASS ? (l - GQ_LANE_CLASS) / GQ_PAIRS : 0;
		uint64_t word;

		cursor[GQ_AT(l)] = gq_from_other(look->cursor, l, c * GQ_RUNS);
		word = gq_read_hint(gq_hint_at(&g->ch, c, cursor[GQ_AT(l)]));
		look->seen[GQ_AT(l)] = { word, word };
	}
	gq_look_ahead(g, look, gq_mirror_at(&g->ch, gq_guessed_slot(g, look)), 0);
	gq_acquire_look(); /* [hint.read] acquire. Pairs with [hint.write]. */
	GQ_EACH_LANE(l)
	there[GQ_AT(l)] = l >= GQ_LANE_CLASS && l % GQ_PAIRS == 0 &&
			  gq_word_ring_is_at(&g->ch.ready[(l - GQ_LANE_CLASS) / GQ_PAIRS],
					     look->seen[GQ_AT(l)].a, cursor[GQ_AT(l)]);
	look->published = gq_published(gq_vote(there), 0, 0);
}

/* The entries of class `c` from the one at its cursor on: lane l has that l behind it. After a look
 * at the mirror the first alone. */
GQ_DEV void gq_entries_of(const struct gq_look *look, uint32_t c, uint64_t (&word)[GQ_OWN])
{
	const uint32_t skip = (uint32_t)gq_of_class(look->cursor, c) & 1;

	GQ_EACH_LANE(l)
	{
		const uint32_t i = (l + skip) % GQ_FRONT,
			       from = GQ_LANE_CLASS + c * GQ_PAIRS + i / 2;
		const uint64_t even = gq_from_other_a(look->seen, l, from),
			       odd = gq_from_other_b(look->seen, l, from);

		word[GQ_AT(l)] = i % 2 == 0 ? even : odd;
	}
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

/* What an entry says of its message: as many lower bits of its id, slot first, as a word of 32 bits
 * has room for. */
GQ_DEV uint32_t gq_said_by(const struct gq_grid *g, uint64_t entry)
{
	return (uint32_t)(entry & g->ch.ready[0].value_mask);
}

/* ---- claim ----------------------------------------------------------------------------------- */

/*
 * To claim `n` messages of class `c` from look->cursor on, of which the unit takes the first `own`
 * itself, in two steps of lane 0. Between them the warp copies the entries of the others.
 *
 * gq_hold_run(): the entries of the run before may still be read by units that have taken of it.
 * Each says when it has read, so the copies may be overwritten when none holds them: then the claim
 * does, for those who will take. If it is all for the unit itself it copies nothing and holds none.
 * If others hold them, one of which may stand still, that is what can be claimed all the same.
 * @return how many: n, own or none
 *
 * gq_claim_run(): the word that the run goes into is the only one that any claim of this class
 * would swap now, and what it holds has never been there before: so the swap fails if another unit
 * has claimed since the look, or has closed it, or if a late unit has asked for what was in it.
 */
GQ_DEV uint32_t gq_hold_run(const struct gq_grid *g, uint32_t lane, uint64_t used_up, uint32_t n,
			    uint32_t own)
{
	if (gq_run_left(used_up) != 0 || (used_up & GQ_RUN_CLOSED) != 0)
		return 0; /* all words are in use */
	/* [held.read] acquire: the entries have been read. */
	return n == own || gq_cas_acq_rel_device_u64(
				   &g->counters->held[lane / GQ_RUNS][lane % GQ_RUNS], 0, n - own)
		       ? n
		       : own;
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
			gq_add_release_device_u64(&k->held[c][i], 0 - (uint64_t)(n - own));
		return false;
	}
	/* A late store of an older position does not matter: it is near enough. */
	gq_store_relaxed_device_u64(&k->cursor[c], pos + n);
	return true;
}

/* The unit has read the entries of what it has taken. One lane, before it stores anything to the
 * host but the note of what it works on, as the release waits for that. */
GQ_DEV void gq_let_go(const struct gq_grid *g, const struct gq_unit *u)
{
	/* [held.write] release: the entries have been read. */
	if (u->held != 0)
		gq_add_release_device_u64(
			&g->counters->held[u->held_run / GQ_RUNS][u->held_run % GQ_RUNS],
			0 - (uint64_t)u->held);
}

/* counters.waits: a bit for each class of which more waits than was claimed, and above these a
 * count for each: so many reads for others, one after another, have found all published that they
 * read. */
enum {
	GQ_FULL_BITS = 3,
	GQ_FULL_MAX = (1 << GQ_FULL_BITS) - 1,
	GQ_FULL_ENOUGH = 6, /* then there is more than one unit brings */
};

GQ_DEV uint32_t gq_full_shift(uint32_t c)
{
	return GQ_CLASSES + GQ_FULL_BITS * c;
}

GQ_DEV uint32_t gq_waits(const struct gq_look *look)
{
	return (uint32_t)gq_from(look->told, GQ_TOLD_WAITS) & ((1u << GQ_CLASSES) - 1);
}

/* So many units may read for others of class `c` at once. While one keeps up, a second would read
 * beyond what is published, and meanwhile be in the place of one that reads at the cursor. */
GQ_DEV uint32_t gq_feeders_of(const struct gq_grid *g, const struct gq_look *look, uint32_t c)
{
	const uint32_t told = (uint32_t)gq_from(look->told, GQ_TOLD_WAITS);

	return (told >> gq_full_shift(c) & GQ_FULL_MAX) >= GQ_FULL_ENOUGH ? g->feeders : 1;
}

/* Tell the units which classes have more than was claimed: of those in `of`, those in `waits`. */
GQ_DEV void gq_tell_waits(const struct gq_grid *g, const struct gq_look *look, uint32_t of,
			  uint32_t waits)
{
	const uint32_t told = (uint32_t)gq_from(look->told, GQ_TOLD_WAITS),
		       all = (told & ~of) | (waits & of);

	if (GQ_IS_LANE_0 && all != told)
		gq_store_relaxed_device_u64(&g->counters->waits, all);
}

GQ_DEV uint32_t gq_first_zero(uint32_t votes)
{
	uint32_t n = 0;

	while (n < 32 && (votes >> n & 1) != 0)
		n++;
	return n;
}

GQ_DEV uint32_t gq_ones(uint32_t votes)
{
	uint32_t n = 0;

	for (; votes != 0; votes &= votes - 1)
		n++;
	return n;
}

/* The lanes of a read for others. */
enum {
	/* A lane a class: the entry at its cursor, and its neighbour. The class that is read for
	 * has no need of it, and gives it to the next two of the class that comes first of all. */
	GQ_FEED_FRONT = 0,
	GQ_FEED_ORDERS = 4, /* as GQ_LANE_ORDERS */
	GQ_FEED_PAIRS = 6,  /* the entries of the class that the unit claims of */
};
GQ_STATIC_ASSERT(GQ_FED == 2 * (32 - GQ_FEED_PAIRS) && GQ_FED <= GQ_DEEP, "a pair a lane");

/* Such a read. */
struct gq_meal {
	gq_wide seen[GQ_OWN];
	uint64_t pos;  /* the first entry wanted; the first read is at an even position */
	uint32_t read; /* so many entries were read from there on ... */
	uint32_t n;    /* ... and so many of them are published, one after another */
	uint32_t
		fronts; /* classes of which the entry at the cursor is, at `pos` of its own: bits */
};

enum { GQ_LINE_ENTRIES = GQ_LINE / 8 };

/* So many entries are read from position `pos` on if `max` are wanted: all that share a line with
 * them, as far as the lanes reach. */
GQ_DEV uint32_t gq_meal_of(uint64_t pos, uint32_t max)
{
	const uint32_t first = (uint32_t)pos % GQ_LINE_ENTRIES, skip = first % 2,
		       wide = (first + max + GQ_LINE_ENTRIES - 1) & ~(GQ_LINE_ENTRIES - 1u);

	return wide - first < GQ_FED - skip ? wide - first : GQ_FED - skip;
}

/* Read `read` entries of class `c` from position `pos` on; and the orders. */
GQ_DEV void gq_read_meal(const struct gq_grid *g, struct gq_unit *u, const struct gq_look *look,
			 uint32_t c, uint64_t pos, uint32_t read, struct gq_meal *meal)
{
	const uint64_t first = pos & ~UINT64_C(1), since_ns = gq_clock_ns();
	const uint32_t skip = (uint32_t)(pos - first);
	/* Lanes from this one on read once more what the last one before it does. */
	const uint32_t end = GQ_FEED_PAIRS + (skip + read) / 2;
	bool even[GQ_OWN], odd[GQ_OWN], front[GQ_OWN];
	uint32_t evens, odds;

	GQ_EACH_LANE(l)
	{
		const bool wanted = l >= GQ_FEED_PAIRS;
		const uint32_t d = l % GQ_CLASSES == c ? GQ_CLASSES - 1 : l % GQ_CLASSES;
		const struct gq_word_ring *r = &g->ch.ready[wanted ? c : d];
		const uint64_t cursor = gq_from_other(look->cursor, l, d * GQ_RUNS),
			       at = wanted ? first + 2 * ((l < end ? l : end - 1) - GQ_FEED_PAIRS)
					   : (cursor & ~UINT64_C(1)) + (l == c ? 2 : 0);
		const gq_wide *orders = (const gq_wide *)(const void *)g->orders;
		gq_wide v;

		/* [message.claim] acquire: slot and payload; [control.read]: the orders. */
		v = gq_load_entries(!wanted && l >= GQ_FEED_ORDERS ? &orders[l - GQ_FEED_ORDERS]
								   : gq_pair_at(r, at));
		if (wanted || l < GQ_FEED_ORDERS)
			v = gq_as_pair(r, v);
		meal->seen[GQ_AT(l)] = v;
		even[GQ_AT(l)] = wanted && l < end &&
				 (gq_pos_diff(at, pos) < 0 || gq_word_ring_is_at(r, v.a, at));
		odd[GQ_AT(l)] = wanted && l < end && gq_word_ring_is_at(r, v.b, at + 1);
		front[GQ_AT(l)] = l < GQ_FEED_ORDERS && l != c &&
				  gq_word_ring_is_at(r, cursor % 2 == 0 ? v.a : v.b, cursor);
	}
	GQ_EACH_LANE(l)
	{
		const gq_wide v = {
			gq_from_other_a(meal->seen, l, l - GQ_LANE_ORDERS + GQ_FEED_ORDERS),
			gq_from_other_b(meal->seen, l, l - GQ_LANE_ORDERS + GQ_FEED_ORDERS)
		};

		if (l >= GQ_LANE_ORDERS && l < GQ_LANE_POOL)
			u->seen[GQ_AT(l)] = v;
	}
	gq_have_orders(g, u, since_ns, g->feed != 0);
	evens = 2 * gq_first_zero(gq_vote(even) >> GQ_FEED_PAIRS);
	odds = 2 * gq_first_zero(gq_vote(odd) >> GQ_FEED_PAIRS) + 1;
	meal->pos = pos;
	meal->read = read;
	meal->n = (evens < odds ? evens : odds) - skip;
	meal->fronts = gq_vote(front) | (meal->n != 0 ? 1u << c : 0);
	gq_sync_warp(); /* what all lanes have acquired, before lane 0 releases it */
}

/* Claim the first `n` entries at look->cursor, which the unit has read, for others: copy them.
 * `skip`: what it read before them. @return whether they are claimed. */
GQ_DEV bool gq_serve_meal(const struct gq_grid *g, const struct gq_look *look, uint32_t c,
			  const struct gq_meal *meal, uint64_t pos, uint32_t n)
{
	const uint32_t lane = gq_of_class(look->next, c);
	const uint64_t used_up = gq_from(look->run, lane), first = meal->pos & ~UINT64_C(1);
	uint64_t *near = g->counters->near[lane / GQ_RUNS][lane % GQ_RUNS];
	bool ours = false;

	if (GQ_IS_LANE_0)
		ours = gq_hold_run(g, lane, used_up, n, 0) != 0;
	if (gq_from_lane_0(ours) == 0)
		return false;
	gq_sync_warp(); /* what lane 0 has acquired: nobody reads the copies */
	GQ_EACH_LANE(l)
	{
		const uint64_t at = first + 2 * ((uint64_t)l - GQ_FEED_PAIRS) - pos;

		if (l >= GQ_FEED_PAIRS && at < n)
			gq_store_relaxed_device_u64(&near[at], meal->seen[GQ_AT(l)].a);
		if (l >= GQ_FEED_PAIRS && at + 1 < n)
			gq_store_relaxed_device_u64(&near[at + 1], meal->seen[GQ_AT(l)].b);
	}
	gq_sync_warp(); /* the copies, which lane 0 releases */
	if (GQ_IS_LANE_0)
		ours = gq_claim_run(g, lane, pos, used_up, n, 0);
	return gq_from_lane_0(ours) != 0;
}

enum { GQ_MEALS = 6 }; /* tries to claim what was read, as others claim before it */

/*
 * Where to read for others: at the cursor, or, if others read there now, beyond what they read. One
 * lane. That others do may no longer be true; whoever reads in vain says so (gq_forget_fed()), and
 * the next one begins at the cursor. One that begins beyond others draws its place by an addition,
 * as several may begin at once.
 * @param max   so many are wanted
 * @param read  set: so many are to be read
 */
GQ_DEV uint64_t gq_place_to_feed(const struct gq_grid *g, uint32_t c, uint64_t cursor, bool others,
				 uint32_t max, uint32_t *read)
{
	uint64_t *fed = &g->counters->fed[c];

	if (others) {
		/* Where others end is even, and so is this: the lanes have room for all of it. */
		const uint32_t n = gq_meal_of(0, max);
		const uint64_t pos = gq_fetch_add_relaxed_device_u64(fed, n);
		const int64_t beyond = gq_pos_diff(pos, cursor);

		if (pos % 2 == 0 && beyond > 0 && beyond <= (int64_t)g->feeders * (int64_t)GQ_FED) {
			*read = n;
			return pos;
		}
	}
	*read = gq_meal_of(cursor, max);
	gq_store_relaxed_device_u64(fed, cursor + *read);
	return cursor;
}

/* So much may be left of what is claimed for others when one claims. */
GQ_DEV uint32_t gq_may_be_left(const struct gq_grid *g)
{
	return g->feed + g->feed / 2;
}

GQ_DEV void gq_forget_fed(const struct gq_grid *g, uint32_t c, uint64_t cursor)
{
	if (GQ_IS_LANE_0)
		gq_store_relaxed_device_u64(&g->counters->fed[c], cursor);
}

/* So many entries of class `d` a read for others of a lower one brings, from the cursor on. */
GQ_DEV uint32_t gq_front_of(uint32_t d, uint64_t cursor)
{
	return (d == GQ_CLASSES - 1 ? 4u : 2u) - (uint32_t)(cursor & 1);
}

/*
 * A read for others of class `c` has found the front of class `d`, which comes first, at the cursor
 * `front` that it had then: claim what it has seen of that for others, here and now. It costs no
 * read, and those who take next take it.
 * @return whether all that waits of class `d` is claimed, by this unit or another one. Else the
 * next read is of that class.
 */
GQ_DEV bool gq_serve_front(const struct gq_grid *g, const struct gq_unit *u, struct gq_look *look,
			   const struct gq_meal *meal, uint32_t c, uint32_t d, uint64_t front)
{
	const struct gq_word_ring *r = &g->ch.ready[d];
	const uint32_t skip = (uint32_t)(front & 1), max = gq_front_of(d, front);
	uint64_t word[4];
	uint32_t n = 0;
	bool ours = false;

	GQ_UNROLL
	for (uint32_t k = 0; k < 4; k++) {
		const uint32_t at = GQ_FEED_FRONT + (k < 2 ? d : c);

		word[k] = k % 2 == 0 ? gq_a_of(meal->seen, at) : gq_b_of(meal->seen, at);
		if (k - skip == n && n < max && gq_word_ring_is_at(r, word[k], front + n))
			n++;
	}
	gq_look_at_runs(g, look); /* as it is now */
	const int64_t moved = gq_pos_diff(gq_of_class(look->cursor, d), front);

	if (moved != 0)
		return n < max && moved >= (int64_t)n;
	if (look->closed || look->left_in_all + n > gq_may_be_left(g))
		return false;
	const uint32_t lane = gq_of_class(look->next, d);
	const uint64_t used_up = gq_from(look->run, lane);

	if (GQ_IS_LANE_0 && gq_hold_run(g, lane, used_up, n, 0) != 0) {
		uint64_t *near = g->counters->near[d][lane % GQ_RUNS];

		GQ_UNROLL
		for (uint32_t k = 0; k < 4; k++)
			if (k >= skip && k - skip < n)
				gq_store_relaxed_device_u64(&near[k - skip], word[k]);
		ours = gq_claim_run(g, lane, front, used_up, n, 0);
	}
	(void)u; /* of images that count */
	gq_count(u, claims, 1);
	gq_count(u, failed, !ours);
	if (gq_from_lane_0(ours) == 0)
		return false;
	gq_count(u, fed, n);
	look->live |= 1u << d;
	look->left_in_all += n;
	return n < max;
}

/*
 * Read for others and claim. Several units may be at it: each reads beyond what those that began
 * before it read, and claims when they have. One that is slow, or has found a gap, has read in
 * vain.
 * @param begin  where, of class `c`
 * @param read   so many entries
 * @param most   no more of them are claimed
 * @return whether it could not claim what is there: then it looks, as what it takes itself needs no
 * copies, which a unit that stands still may hold
 */
GQ_DEV bool gq_feed(const struct gq_grid *g, struct gq_unit *u, struct gq_look *look, uint32_t c,
		    uint64_t begin, uint32_t read, uint32_t most, const struct gq_ageing *ageing)
{
	const bool at_front = begin == gq_of_class(look->cursor, c);
	struct gq_meal meal;
	uint32_t max = 0, next = 0;
	bool failed = false, is_fresh = at_front;

	gq_read_meal(g, u, look, c, begin, read, &meal);
	gq_count(u, feeds, 1);
	for (bool served = false;;
	     served = true) {       /* a newer look has not the cursors of the read */
		if (GQ_IS_LANE_0) { /* the counts are its own */
			const uint32_t waits = meal.fronts | 1u << c;

			next = gq_next_class(ageing, waits);
			max = gq_until_guard(ageing, c, waits | look->live);
		}
		next = gq_from_lane_0(next);
		if (next <= c || served || (gq_order(u, GQ_CONTROL) & GQ_CONTROL_PAUSE) != 0)
			break;
		const uint64_t front = gq_of_class(look->cursor, next);

		is_fresh = true;
		if (!gq_serve_front(g, u, look, &meal, c, next, front))
			break;
		meal.fronts &= ~(1u << next);
	}
	/* The counts of other classes are none of this read's. */
	const uint32_t of = (((1u << GQ_CLASSES) - 1) & (at_front ? ~0u : ~(1u << c))) |
			    (uint32_t)GQ_FULL_MAX << gq_full_shift(c);
	uint32_t full =
		(uint32_t)gq_from(look->told, GQ_TOLD_WAITS) >> gq_full_shift(c) & GQ_FULL_MAX;

	full = meal.n != read ? 0 : full < GQ_FULL_MAX ? full + 1 : full;
	const uint32_t seen = meal.fronts | full << gq_full_shift(c);

	gq_tell_waits(g, look, of, seen);
	GQ_EACH_LANE(l) /* that is what the unit goes on from */
	if (l == GQ_TOLD_WAITS)
		look->told[GQ_AT(l)] = (look->told[GQ_AT(l)] & ~of) | (seen & of);
	max = gq_from_lane_0(max);
	max = max < most ? max : most;
	/* If a class that comes first has been seen, or a pause, that is next. */
	if (next != c || (gq_order(u, GQ_CONTROL) & GQ_CONTROL_PAUSE) != 0)
		max = 0;
	for (uint32_t tries = 0; tries < GQ_MEALS && max != 0; tries++) {
		uint64_t pos;
		int64_t gap;
		uint32_t n;

		if (tries != 0 || !is_fresh)
			gq_look_at_runs(g, look);
		pos = gq_of_class(look->cursor, c);
		gap = gq_pos_diff(pos, begin);
		failed = false;
		if (look->closed || gap >= (int64_t)meal.n)
			break;
		if (gap < 0)
			continue;
		/* Others have claimed meanwhile: no more than one and a half of it may be left. */
		if (look->left_in_all >= gq_may_be_left(g))
			break;
		n = meal.n - (uint32_t)gap;
		n = n < max ? n : max;
		if (n > gq_may_be_left(g) - look->left_in_all)
			n = gq_may_be_left(g) - look->left_in_all;
		gq_count(u, claims, 1);
		if (!gq_serve_meal(g, look, c, &meal, pos, n)) {
			gq_count(u, failed, 1);
			failed = true;
			continue;
		}
		gq_count(u, fed, n);
		if (gap + (int64_t)n < (int64_t)meal.read) { /* not all, or there was an end */
			gq_forget_fed(g, c, pos + n);
			gq_tell_waits(g, look, 1u << c,
				      gap + (int64_t)n < (int64_t)meal.n ? 1u << c : 0);
		}
		return false;
	}
	gq_forget_fed(g, c, gq_of_class(look->cursor, c));
	return failed;
}

/*
 * Claim for the unit alone, if nobody else is to be claimed for: up to `max` messages of class `c`.
 * @return how many
 */
GQ_DEV uint32_t gq_claim_deep(const struct gq_grid *g, struct gq_unit *u,
			      const struct gq_look *look, uint32_t c, uint32_t max,
			      uint32_t (&said)[GQ_OWN])
{
	const uint32_t lane = gq_of_class(look->next, c);
	const uint64_t used_up = gq_from(look->run, lane);
	struct gq_meal meal;
	uint32_t n;
	bool ours = false;

	gq_read_meal(g, u, look, c, gq_of_class(look->cursor, c),
		     gq_meal_of(gq_of_class(look->cursor, c), max), &meal);
	n = meal.n < max ? meal.n : max;
	if (n != 0 && GQ_IS_LANE_0)
		ours = gq_hold_run(g, lane, used_up, n, n) != 0 &&
		       gq_claim_run(g, lane, meal.pos, used_up, n, n);
	gq_count(u, claims, 1);
	gq_count(u, failed, !ours);
	if (gq_from_lane_0(ours) == 0)
		return 0;
	GQ_EACH_LANE(l)
	{
		const uint32_t i = ((uint32_t)meal.pos & 1) + l, from = GQ_FEED_PAIRS + i / 2;
		const uint64_t even = gq_from_other_a(meal.seen, l, from),
			       odd = gq_from_other_b(meal.seen, l, from);

		said[GQ_AT(l)] = gq_said_by(g, i % 2 == 0 ? even : odd);
	}
	/* Another lane reads what this one acquired, and a shuffle orders no memory. */
	gq_sync_warp();
	return n;
}

/*
 * Claim what the look has seen: consecutive messages of one class, up to `batch` of which the unit
 * takes itself, if none that are claimed already come before them. A look that claims nothing says
 * what waits, too: units that believe an older look would look again, and for ever.
 * @param said  of lane l: what the l-th one's entry says, gq_said_by()
 * @param use   what the first one's entry says: lower bits of its id
 * @return how many it has taken
 */
GQ_DEV uint32_t gq_grid_claim(const struct gq_grid *g, struct gq_unit *u,
			      const struct gq_look *look, struct gq_ageing *ageing,
			      uint32_t (&said)[GQ_OWN], uint64_t *use)
{
	uint64_t pos, used_up, word[GQ_OWN];
	const uint32_t live = look->live;
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
	seen = gq_leading(look->published >> (c * GQ_FRONT), GQ_FRONT);
	if (own + g->feed < max)
		max = own + g->feed;
	if (g->feed == 0 && seen >= GQ_FRONT - 1 && own > seen) {
		n = gq_claim_deep(g, u, look, c, own, said);
		if (GQ_IS_LANE_0 && n != 0)
			gq_count_passed(ageing, c, waits | live, n);
		*use = 0;
		return n;
	}
	pos = gq_of_class(look->cursor, c);
	lane = gq_of_class(look->next, c);
	used_up = gq_from(look->run, lane);
	n = seen < max ? seen : max;
	own = n < own ? n : own;
	if (n != 0 && GQ_IS_LANE_0)
		n = gq_hold_run(g, lane, used_up, n, own);
	n = gq_from_lane_0(n);
	gq_count(u, claims, 1);
	if (n == 0) {
		gq_count(u, failed, 1);
		gq_tell_waits(g, look, ~0u, waits);
		return 0;
	}
	gq_sync_warp(); /* what lane 0 has acquired: nobody reads the copies */
	gq_entries_of(look, c, word);
	if (n != own)
		GQ_EACH_LANE(l)
	if (l >= own && l < n)
		gq_store_relaxed_device_u64(&g->counters->near[c][lane % GQ_RUNS][l],
					    word[GQ_AT(l)]);
	gq_sync_warp(); /* the copies, which lane 0 releases */
	if (GQ_IS_LANE_0) {
		ours = gq_claim_run(g, lane, pos, used_up, n, own);
		if (ours && own != 0)
			gq_count_passed(ageing, c, waits | live, own);
	}
	if (gq_from_lane_0(ours) == 0) { /* the unit that was faster says what more waits */
		gq_count(u, failed, 1);
		gq_tell_waits(g, look, ~0u, waits & gq_waits(look));
		return 0;
	}
	gq_tell_waits(g, look, ~0u, n == seen && seen < GQ_FRONT - 1 ? waits & ~(1u << c) : waits);
	GQ_EACH_LANE(l)
	said[GQ_AT(l)] = gq_said_by(g, word[GQ_AT(l)]);
	*use = gq_word_ring_value(&g->ch.ready[c], gq_from(word, 0));
	/* Another lane reads what this one acquired, and a shuffle orders no memory. */
	gq_sync_warp();
	return own;
}

/* ---- take ------------------------------------------------------------------------------------ */

/*
 * Take of class `c` what is claimed already: up to `batch` messages of its oldest run.
 * @param said  of lane l: what the l-th one's entry says, gq_said_by()
 * @return how many; 0: others were faster.
 */
GQ_DEV uint32_t gq_take(const struct gq_grid *g, struct gq_unit *u, const struct gq_look *look,
			struct gq_ageing *ageing, uint32_t c, uint32_t (&said)[GQ_OWN])
{
	const uint32_t lane = gq_of_class(look->oldest, c);
	const uint64_t *near = g->counters->near[lane / GQ_RUNS][lane % GQ_RUNS];
	const uint32_t told = gq_waits(look);
	uint32_t n = 0, first = 0;

	if (GQ_IS_LANE_0) {
		const uint32_t waits = told | look->live;
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
	gq_count(u, takes, 1);
	gq_count(u, missed, n == 0);
	if (n == 0)
		return 0;
	first = gq_from_lane_0(first);
	gq_sync_warp(); /* what lane 0 has acquired */
	GQ_WINDOW();
	GQ_EACH_LANE(l)
	said[GQ_AT(l)] = l < n ? gq_said_by(g, gq_load_relaxed_device_u64(&near[first + l])) : 0;
	u->held = n;
	u->held_run = lane;
	gq_sync_warp(); /* read, which lane 0 releases */
	return n;
}

#endif /* GPUQ_CUDA_GRID_LOOK_CUH */
