/* SPDX-License-Identifier: Apache-2.0 */
/*
 * grid.cuh - the resident grid: the kernel that serves a queue, around the user's
 * process_message().
 *
 * Included at the end of every processor image, so that the user's function is inlined; compiled by
 * nvcc, by NVRTC and, for the stand-in driver, by a host compiler.
 *
 * Lanes are written out: a warp's step is a GQ_EACH_LANE loop over values declared as v[GQ_OWN].
 * On a GPU a thread owns one lane, and the loop runs once. Under the stand-in driver one thread
 * owns all 32 and runs them in turn. Everything between loops is the same in all lanes.
 *
 * A unit works on `batch` messages at once: a warp of Q_PER_THREAD on up to 32, one a lane; the
 * others on one. Its places (staging memory, journal) are numbered from unit * batch on.
 */
#ifndef GPUQ_DEVICE_CUDA_GRID_CUH
#define GPUQ_DEVICE_CUDA_GRID_CUH

#include <gpuq/processor.h>

#include "device/cuda/grid.h"

#ifndef Q_GRANULARITY
#define Q_GRANULARITY 0
#endif
#ifndef GQ_BLOCK_THREADS
#define GQ_BLOCK_THREADS (Q_GRANULARITY == 2 ? 256 : 128)
#endif

#define GQ_WARPS (GQ_BLOCK_THREADS / 32)
#define GQ_UNITS (Q_GRANULARITY == 2 ? 1 : GQ_WARPS) /* in a block */
#define GQ_DEV   static __device__ __forceinline__

/* ---- lanes ----------------------------------------------------------------------------------- */

#if defined(GQ_STANDIN)

#define GQ_UNROLL
#define GQ_OWN            32
#define GQ_EACH_LANE(l)   for (uint32_t l = 0; l < 32; l++)
#define GQ_AT(l)          (l)
#define GQ_SHARED(s)      struct gq_shared *s = (struct gq_shared *)gq_standin_shared()
#define GQ_IS_LANE_0      true
#define gq_sync_warp()    ((void)0)
#define gq_sync_block()   gq_standin_barrier()
#define gq_warp_in_block  (gq_standin_thread() / 32)
#define gq_block          gq_standin_block()
#define gq_blocks         gq_standin_blocks()
#define gq_rank_of(l)     (gq_standin_thread() + (l))
#define gq_threads        (gq_standin_threads())
#define gq_clock_ns()     gq_standin_clock_ns()
#define gq_nap(ns)        gq_standin_nap(ns)
#define gq_fetch_wide(at) (*(at))
#define gq_result_first() gq_standin_coin()
#define gq_took_whole()   gq_standin_took_whole()
#define gq_took_hint()    gq_standin_took_hint()

struct alignas(16) gq_wide {
	uint64_t a, b;
};

/* Racy by design, which ThreadSanitizer need not see: what is read is believed only if sealed. */
__attribute__((noinline, no_sanitize("thread"))) static gq_wide gq_read_ahead(const gq_wide *at)
{
	gq_wide v;

	v.a = __atomic_load_n(&at->a, __ATOMIC_RELAXED);
	v.b = __atomic_load_n(&at->b, __ATOMIC_RELAXED);
	return v;
}

__attribute__((noinline, no_sanitize("thread"))) static uint64_t gq_read_hint(const uint64_t *at)
{
	return __atomic_load_n(at, __ATOMIC_ACQUIRE); /* J2: pairs with J1 */
}

/* A hint has been believed: it must be true, and ThreadSanitizer may know what it has shown. */
GQ_DEV void gq_witness(const uint64_t *entry, uint64_t word)
{
	if (gq_load_acquire_u64(entry) != word) /* T2: T1 */
		__builtin_trap();
}

GQ_DEV void gq_post_wide(gq_wide *to, gq_wide v)
{
	gq_store_relaxed_u64(&to->a, v.a);
	gq_store_relaxed_u64(&to->b, v.b);
}

GQ_DEV uint64_t gq_sum(const uint64_t (&v)[GQ_OWN])
{
	uint64_t sum = 0;

	GQ_EACH_LANE(l)
	sum += v[l];
	return sum;
}

template <typename T> GQ_DEV T gq_from(const T (&v)[GQ_OWN], uint32_t lane)
{
	return v[lane];
}

template <typename T> GQ_DEV T gq_rotated(const T (&v)[GQ_OWN], uint32_t l, uint32_t by)
{
	return v[(l + by) % 32];
}

GQ_DEV uint32_t gq_vote(const bool (&v)[GQ_OWN])
{
	uint32_t votes = 0;

	GQ_EACH_LANE(l)
	votes |= (uint32_t)v[l] << l;
	return votes;
}

/* What lane 0 has; the others' is not looked at. */
GQ_DEV uint32_t gq_from_lane_0(uint32_t value)
{
	return value;
}

#else

#define GQ_UNROLL       _Pragma("unroll")
#define GQ_OWN          1
#define GQ_EACH_LANE(l) for (uint32_t l = threadIdx.x % 32, once_ = 1; once_ != 0; once_ = l & 0)
#define GQ_AT(l)        0
#define GQ_SHARED(s)                                                                               \
	__shared__ struct gq_shared s##_;                                                          \
	struct gq_shared *s = &s##_
#define GQ_IS_LANE_0      (threadIdx.x % 32 == 0)
#define gq_sync_warp()    __syncwarp()
#define gq_sync_block()   __syncthreads()
#define gq_warp_in_block  (threadIdx.x / 32)
#define gq_block          blockIdx.x
#define gq_blocks         gridDim.x
#define gq_rank_of(l)     threadIdx.x
#define gq_threads        blockDim.x
#define gq_nap(ns)        __nanosleep(ns)
/* Posted stores cross PCIe in any order; the stand-in tries both. */
#define gq_result_first() true
#define gq_took_whole()   ((void)0)
#define gq_took_hint()    ((void)0)
#define gq_witness(e, w)  ((void)(e), (void)(w))

struct __align__(16) gq_wide
{
	uint64_t a, b;
};

GQ_DEV uint64_t gq_clock_ns(void)
{
	uint64_t now;

	asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(now));
	return now;
}

/* A plain load that stays where it is written, ahead of what it is to overlap with. */
GQ_DEV gq_wide gq_fetch_wide(const gq_wide *at)
{
	gq_wide v;

	asm volatile("ld.global.v2.u64 {%0, %1}, [%2];"
		     : "=l"(v.a), "=l"(v.b)
		     : "l"(at)
		     : "memory");
	return v;
}

/* The words of a vector access are single-copy atomic each, and so is each half of a piece. */
GQ_DEV gq_wide gq_read_ahead(const gq_wide *at)
{
	gq_wide v;

	asm volatile("ld.relaxed.sys.v2.u64 {%0, %1}, [%2];"
		     : "=l"(v.a), "=l"(v.b)
		     : "l"(at)
		     : "memory");
	return v;
}

GQ_DEV uint64_t gq_read_hint(const uint64_t *at)
{
	return gq_load_acquire_u64(at); /* J2: pairs with J1 */
}

GQ_DEV void gq_post_wide(gq_wide *to, gq_wide v)
{
	asm volatile("st.relaxed.sys.v2.u64 [%0], {%1, %2};" ::"l"(to), "l"(v.a), "l"(v.b)
		     : "memory");
}

GQ_DEV uint64_t gq_sum(const uint64_t (&v)[GQ_OWN])
{
	uint64_t sum = v[0];

	GQ_UNROLL
	for (int by = 16; by != 0; by /= 2)
		sum += __shfl_xor_sync(0xffffffffu, sum, by);
	return sum;
}

template <typename T> GQ_DEV T gq_from(const T (&v)[GQ_OWN], uint32_t lane)
{
	return __shfl_sync(0xffffffffu, v[0], (int)lane);
}

template <typename T> GQ_DEV T gq_rotated(const T (&v)[GQ_OWN], uint32_t l, uint32_t by)
{
	return __shfl_sync(0xffffffffu, v[0], (int)((l + by) % 32));
}

GQ_DEV uint32_t gq_vote(const bool (&v)[GQ_OWN])
{
	return __ballot_sync(0xffffffffu, v[0]);
}

GQ_DEV uint32_t gq_from_lane_0(uint32_t value)
{
	return __shfl_sync(0xffffffffu, value, 0);
}

#endif

/* ---- shared memory of a block ---------------------------------------------------------------- */

/* What a message's header says, in a message that came with the look. */
struct gq_header {
	uint64_t id, tag;
	uint32_t len, opcode;
};

struct gq_shared {
	struct gq_turn turn[GQ_UNITS];
	struct gq_header header[GQ_UNITS];
	uint32_t out_len[GQ_UNITS * 32];
	uint32_t status[GQ_UNITS * 32];
	uint32_t decided[GQ_UNITS * 32]; /* 0: run it; else the outcome */
	uint32_t verdict, slot;          /* Q_PER_BLOCK: what the first warp has found for all */
};

/* What becomes of a turn of the loop. */
enum gq_verdict {
	GQ_CLAIMED,
	GQ_CLAIMED_WHOLE, /* one message, which came with the look: staged and decided */
	GQ_NOTHING,
	GQ_LEAVE,
};

/* A unit's own; the same in all lanes of its first warp. */
struct gq_unit {
	uint64_t claimed;      /* positions passed by all classes, when it last looked */
	uint64_t uses;         /* counters.uses, then */
	uint64_t idle_since;   /* since when that has not changed; 0: not idle */
	uint64_t ahead_ns;     /* orders.ahead_ns, when it last looked across PCIe */
	uint64_t control;      /* orders.control, then */
	uint64_t begun_ns;     /* when the launch began */
	uint64_t looked_ns;    /* when it last found nothing */
	uint64_t pool_pos;     /* where it last looked into the pool ... */
	uint64_t pool[GQ_OWN]; /* ... and what it found: lane GQ_LANE_POOL + k, k behind it */
	uint32_t number;       /* in the grid */
	uint32_t naps;         /* since the last look of a unit that is no scout */
	uint32_t hints;        /* so many turns look at the mirror before one looks across PCIe */
	bool scout;
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
	uint64_t gone; /* counters.gone */
	uint64_t uses; /* counters.uses */
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
	const uint64_t k = gq_ring_tag(&g->pool, pos - u->pool_pos) >> g->pool.shift;
	const uint64_t word = gq_from(u->pool, GQ_LANE_POOL + (uint32_t)(k % GQ_POOLS));

	return k < GQ_POOLS && gq_ring_is_at(&g->pool, word, pos) ? word : 0;
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
		: l == GQ_CLASSES + 1 ? &g->counters->uses
				      : &g->counters->cursor[l % GQ_CLASSES]);
	look->gone = gq_from(cursor, GQ_CLASSES);
	look->uses = gq_from(cursor, GQ_CLASSES + 1);
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
	pos = look->passed + look->uses;
	look->guess = u->idle_since != 0 && g->ch.ahead_bytes != 0 ? gq_guess(g, u, pos) : 0;
	if (look->guess != 0) /* before the entries, whose acquire nothing that follows overtakes */
		gq_look_ahead(g, look, gq_slot_at(&g->ch, gq_guessed_slot(g, look)));
	GQ_EACH_LANE(l)
	{
		const struct gq_ring *r = &g->ch.ready[l < GQ_LANE_CONTROL ? l / GQ_FRONT : 0];
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
			from = gq_ring_entry(&g->pool, pos + l - GQ_LANE_POOL);
		/* T2 acquire: slot and payload; X2: the orders. Pairs with T1, X1. */
		look->word[GQ_AT(l)] =
			gq_load_acquire_u64(l < GQ_LANE_CONTROL ? gq_ring_entry(r, at) : from);
		there[GQ_AT(l)] = l < GQ_LANE_CONTROL && gq_ring_is_at(r, look->word[GQ_AT(l)], at);
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
 * The same of the mirror, all of it in device memory: what is published, if no hint has been
 * missed, and the next message. The orders are those of the unit's last look across PCIe.
 */
GQ_DEV void gq_take_hint(const struct gq_grid *g, const struct gq_unit *u, struct gq_look *look)
{
	bool there[GQ_OWN];

	gq_look_at_cursors(g, look);
	look->guess = gq_guess(g, u, look->passed + look->uses);
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
				  gq_ring_is_at(&g->ch.ready[c], look->word[GQ_AT(l)], at);
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

/* The class whose turn it is, as gq_claim() chooses; `waits` has a bit for each with something. */
GQ_DEV uint32_t gq_whose_turn(const struct gq_turn *turn, uint32_t waits)
{
	uint32_t c = 0;

	for (; c < GQ_CLASSES - 1; c++)
		if (turn->passed[c] >= GQ_PASS_LIMIT && (waits >> c & 1) != 0)
			return c;
	while ((waits >> c & 1) == 0)
		c--;
	return c;
}

/* How many of class `c` may be claimed before a lower class has waited long enough. */
GQ_DEV uint32_t gq_until_guard(const struct gq_turn *turn, uint32_t c, uint32_t waits)
{
	uint32_t n = GQ_PASS_LIMIT;

	for (uint32_t d = 0; d < c; d++)
		if ((waits >> d & 1) != 0 && turn->passed[d] < GQ_PASS_LIMIT &&
		    GQ_PASS_LIMIT - turn->passed[d] < n)
			n = GQ_PASS_LIMIT - turn->passed[d];
	return turn->passed[c] >= GQ_PASS_LIMIT ? 1 : n;
}

GQ_DEV void gq_count_turn(struct gq_turn *turn, uint32_t claimed, uint32_t waits, uint32_t n)
{
	const bool by_guard = turn->passed[claimed] >= GQ_PASS_LIMIT;

	turn->passed[claimed] = 0;
	if (by_guard)
		return;
	for (uint32_t d = 0; d < claimed; d++)
		turn->passed[d] = (waits >> d & 1) != 0 ? turn->passed[d] + n : 0;
}

/* ---- claim ----------------------------------------------------------------------------------- */

/*
 * Claim what the look has seen: up to `batch` consecutive messages of one class.
 * @param slot  of lane l: the slot of the l-th
 * @param use   what the first one's entry says: lower bits of its id
 * @return how many; 0: another unit was faster.
 */
GQ_DEV uint32_t gq_grid_claim(const struct gq_grid *g, const struct gq_look *look,
			      struct gq_turn *turn, uint32_t (&slot)[GQ_OWN], uint64_t *use)
{
	uint64_t cursor = 0, word[GQ_OWN];
	uint32_t waits = 0, c = 0, n, front = 0, max = 0;
	bool ours = false;

	GQ_UNROLL
	for (uint32_t d = 0; d < GQ_CLASSES; d++)
		waits |= (look->published >> (d * GQ_FRONT) & 1) << d;
	if (GQ_IS_LANE_0) { /* the turn is its own */
		c = gq_whose_turn(turn, waits);
		max = gq_until_guard(turn, c, waits);
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

	const struct gq_ring *r = &g->ch.ready[c];

	GQ_EACH_LANE(l)
	word[GQ_AT(l)] = gq_rotated(look->word, l, c * GQ_FRONT);
	n = gq_leading(front, max < GQ_FRONT ? max : (uint32_t)GQ_FRONT);
	if (n == GQ_FRONT && max > GQ_FRONT) { /* look further: one more read, many messages */
		bool there[GQ_OWN];

		GQ_EACH_LANE(l)
		{
			const uint64_t pos = (cursor >> 1) + l;

			word[GQ_AT(l)] = gq_load_acquire_u64(gq_ring_entry(r, pos)); /* T2: T1 */
			there[GQ_AT(l)] =
				l < gq_ring_size(r) && gq_ring_is_at(r, word[GQ_AT(l)], pos);
		}
		n = gq_leading(gq_vote(there), max);
	}
	if (GQ_IS_LANE_0) {
		GQ_WINDOW();
		/* Relaxed, as in gq_claim_from(). Fails on a closed cursor: none we saw was. */
		ours = n != 0 && gq_cas_relaxed_device_u64(&g->counters->cursor[c], cursor,
							   cursor + 2 * (uint64_t)n);
		if (ours)
			gq_count_turn(turn, c, waits, n);
	}
	if (gq_from_lane_0(ours) == 0)
		return 0;
	GQ_EACH_LANE(l)
	slot[GQ_AT(l)] = (uint32_t)(word[GQ_AT(l)] & g->ch.slot_mask);
	*use = gq_ring_value(r, gq_from(word, 0));
	/* What one lane acquired another reads, and a shuffle orders no memory. */
	gq_sync_warp();
	return n;
}

/* ---- park ------------------------------------------------------------------------------------ */

GQ_DEV void gq_open_cursors(struct gq_counters *k, uint32_t n)
{
	for (uint32_t c = 0; c < n; c++) {
		const uint64_t shut = gq_load_relaxed_device_u64(&k->cursor[c]);

		/* O1 release: `park`, which whoever closes next writes next; pairs with O2. */
		gq_cas_acq_rel_device_u64(&k->cursor[c], shut, shut & ~GQ_CURSOR_CLOSED);
	}
}

/*
 * Leave, if the whole grid is idle. One lane.
 *
 * Closing the four cursors is the decision's lock and makes the claims stand still; if then as many
 * messages have completed as were claimed, no unit is inside one. LOOKING, then look again (K2):
 * who publishes does so and then looks at `park` (K1), so that one of the two sees the other.
 * Whoever sees LOOKING waits for what comes of it.
 */
GQ_DEV bool gq_try_park(const struct gq_grid *g, const struct gq_look *look, uint64_t launch)
{
	struct gq_counters *k = g->counters;
	uint32_t closed = 0;
	bool gone = false;

	/* Block 0 opens the cursors when it begins, and may begin after others have been idle for
	 * long: what is closed before that would be opened again in the middle of the decision.
	 * O2 acquire: its opening; pairs with O1. (Acquiring loads are for the host's words alone,
	 * so that the check of the PTX can tell.) */
	if (gq_fetch_add_acq_rel_device_u64(&k->resident, 0) != launch * gq_blocks)
		return false;
	for (uint32_t c = 0; c < GQ_CLASSES; c++) {
		const uint64_t open = gq_load_relaxed_device_u64(&k->cursor[c]);

		/* O2 acquire: who decided before has written `park`; pairs with O1. */
		if ((open & GQ_CURSOR_CLOSED) != 0 ||
		    !gq_cas_acq_rel_device_u64(&k->cursor[c], open, open | GQ_CURSOR_CLOSED))
			break;
		closed++;
	}
	if (closed == GQ_CLASSES) {
		uint64_t sum = 0;

		for (uint32_t c = 0; c < GQ_CLASSES; c++)
			sum += (gq_load_relaxed_device_u64(&k->cursor[c]) >> 1) - g->start_pos;
		/* Positions in the cursors have 63 bits. */
		if ((sum - (gq_load_relaxed_device_u64(&k->done_tail) - g->start_pos)) << 1 == 0) {
			GQ_WINDOW();
			gq_store_seq_cst_u64(&g->report->park, /* K2: registers */
					     launch << GQ_PARK_BITS | GQ_PARK_LOOKING);
			GQ_WINDOW();
			gone = gq_load_seq_cst_u64(&g->orders->control) == look->control; /* K2 */
			for (uint32_t c = 0; c < GQ_CLASSES; c++) {
				const struct gq_ring *r = &g->ch.ready[c];
				const uint64_t pos = gq_load_relaxed_device_u64(&k->cursor[c]) >> 1;
				/* K2: pairs with K1 */
				const uint64_t word = gq_load_seq_cst_u64(gq_ring_entry(r, pos));

				gone = gone && !gq_ring_is_at(r, word, pos);
			}
			if (!gone) /* G1 release: nothing but the word; pairs with G2 */
				gq_store_release_u64(&g->report->park,
						     launch << GQ_PARK_BITS | GQ_PARK_RUNNING);
		}
	}
	if (!gone) {
		gq_open_cursors(k, closed);
		return false;
	}
	gq_store_relaxed_device_u64(&k->gone, launch);
	/* G1 release: whoever launches the next grid finds all that this one did; pairs with G2. */
	gq_store_release_u64(&g->report->park, launch << GQ_PARK_BITS | GQ_PARK_GONE);
	return true;
}

/* ---- over ------------------------------------------------------------------------------------ */

/* Whether a launch of a bounded grid has served what it was launched for, or its time is over. */
GQ_DEV bool gq_is_over(const struct gq_grid *g, const struct gq_unit *u, uint64_t passed,
		       uint64_t until)
{
	/* Cursors hold the lower 63 bits of a position. */
	return g->bounded_ns != 0 && (gq_pos_diff(passed << 1, until << 1) >= 0 ||
				      gq_clock_ns() - u->begun_ns >= g->bounded_ns);
}

/* What the cursors have passed, of all classes. */
GQ_DEV uint64_t gq_passed(const struct gq_grid *g)
{
	uint64_t passed = 0;

	for (uint32_t c = 0; c < GQ_CLASSES; c++)
		passed += (gq_load_relaxed_device_u64(&g->counters->cursor[c]) >> 1) - g->start_pos;
	return passed;
}

/* The order names the last launch. Bounded ones before it may still wait in the stream. */
GQ_DEV bool gq_must_depart(uint64_t depart, uint64_t launch)
{
	return gq_pos_diff(depart, launch) >= 0;
}

/* ---- idle ------------------------------------------------------------------------------------ */

/*
 * Few units look across PCIe without a pause, or an idle grid would fill the link with reads; the
 * others nap and look every now and then, and one of them takes over when a scout goes to work.
 * Only speed depends on it.
 */
GQ_DEV void gq_stop_scouting(const struct gq_grid *g, struct gq_unit *u)
{
	if (u->scout && u->number != 0 && GQ_IS_LANE_0)
		gq_fetch_add_relaxed_device_u64(&g->counters->scouts, 0 - UINT64_C(1));
	u->scout = false;
	u->naps = 0;
}

GQ_DEV void gq_start_scouting(const struct gq_grid *g, struct gq_unit *u)
{
	uint64_t *scouts = &g->counters->scouts;
	/* The first unit answers the host, which measures it: a scout beside those that are
	 * counted. It is hardly ever among the first to find nothing, as block 0 opens the cursors.
	 */
	bool in = u->number == 0;

	if (!in && GQ_IS_LANE_0 && gq_load_relaxed_device_u64(scouts) < g->scouts) {
		in = gq_fetch_add_relaxed_device_u64(scouts, 1) < g->scouts;
		if (!in)
			gq_fetch_add_relaxed_device_u64(scouts, 0 - UINT64_C(1));
	}
	u->scout = gq_from_lane_0(in) != 0;
}

enum { GQ_NAPS_A_LOOK = 32 };

/* Whether it is time to look. */
GQ_DEV bool gq_idle(const struct gq_grid *g, struct gq_unit *u, uint64_t idle_ns)
{
	if (!u->scout)
		gq_start_scouting(g, u);
	if (!u->scout) {
		gq_nap(1000);
		if (++u->naps < GQ_NAPS_A_LOOK)
			return false;
		u->naps = 0;
		return true;
	}
	if (idle_ns >= 100000)
		gq_nap(1000);
	else if (idle_ns >= 10000)
		gq_nap(256);
	else if (idle_ns >= 2000)
		gq_nap(32);
	return true;
}

/*
 * Acknowledge a pause and stand still until there are other orders. One lane. A grid that has
 * parked must not: the next one, already launched, waits for it to leave before it can acknowledge.
 * Nor one that is over, of which other units have left and will not acknowledge.
 */
GQ_DEV void gq_stand_still(const struct gq_grid *g, const struct gq_unit *u, uint64_t control,
			   const struct gq_launch *launch)
{
	/* A1 release: all completions of the unit; pairs with A2. */
	gq_store_release_u64(&g->ack[u->number], control);
	while (gq_load_acquire_u64(&g->orders->control) == control &&   /* X2: pairs with X1 */
	       !gq_must_depart(gq_load_acquire_u64(&g->orders->depart), /* X2: pairs with X1 */
			       launch->number) &&
	       gq_load_relaxed_device_u64(&g->counters->gone) != launch->number &&
	       !gq_is_over(g, u, gq_passed(g), launch->until))
		gq_nap(1000);
}

/* ---- a message ------------------------------------------------------------------------------- */

GQ_DEV uint8_t *gq_stage(const struct gq_grid *g, uint32_t place)
{
	return g->staging + place * g->stage_bytes;
}

enum { GQ_IN_FLIGHT = 8 }; /* loads across PCIe that a thread has under way at once */

/* All threads of the unit copy together, 16 bytes each; up to 15 bytes beyond `len` come along. */
GQ_DEV void gq_move(uint8_t *to, const uint8_t *from, uint32_t len, uint32_t rank, uint32_t step)
{
	gq_wide *to_wide = (gq_wide *)(void *)to;
	const gq_wide *from_wide = (const gq_wide *)(const void *)from;
	const uint32_t n = gq_pieces(len);

	for (uint32_t i = rank; i < n; i += step * GQ_IN_FLIGHT) {
		gq_wide v[GQ_IN_FLIGHT];

		GQ_UNROLL
		for (uint32_t k = 0; k < GQ_IN_FLIGHT; k++)
			if (i + k * step < n)
				v[k] = gq_fetch_wide(&from_wide[i + k * step]);
		GQ_UNROLL
		for (uint32_t k = 0; k < GQ_IN_FLIGHT; k++)
			if (i + k * step < n)
				to_wide[i + k * step] = v[k];
	}
}

/* The threads that share a message's copying. */
#if Q_GRANULARITY == 2
#define GQ_COPY_RANK(l) gq_rank_of(l)
#define GQ_COPY_STEP    gq_threads
#define gq_sync_unit()  gq_sync_block()
#else
#define GQ_COPY_RANK(l) (l)
#define GQ_COPY_STEP    32u
#define gq_sync_unit()  gq_sync_warp()
#endif

/* What a lane keeps of its message. */
struct gq_message {
	const uint8_t *payload;
	uint64_t id, tag;
	uint32_t len, opcode, outcome;
	bool lies_there; /* where the processor reads it: nothing to bring over */
};

/* Where there are several messages, each lane has its own place, decision and completion; where
 * there is one, the unit's first thread sees to it. */
#if Q_GRANULARITY == 0
#define GQ_PLACE(l)      (l)
#define GQ_IS_MINE(l, n) ((l) < (n))
#define GQ_SEES_TO(l, n) ((l) < (n))
#else
#define GQ_PLACE(l)      0
#define GQ_IS_MINE(l, n) ((void)(n), true)
#define GQ_SEES_TO(l, n) ((void)(n), GQ_COPY_RANK(l) == 0)
#endif

/* A message has been claimed, of which `place` is the unit's and `at` the block's. */
GQ_DEV void gq_begin_message(const struct gq_grid *g, struct gq_shared *s, uint32_t place,
			     uint32_t at, uint64_t id, uint64_t now)
{
	gq_store_relaxed_u64(&g->journal[place].since_ns, now);
	gq_store_relaxed_u64(&g->journal[place].msg_id, id);
	s->out_len[at] = 0;
	s->status[at] = 0;
}

/* Let all units know how far producers' ids have got beyond the positions passed. */
GQ_DEV void gq_learn_uses(const struct gq_grid *g, const struct gq_unit *u, uint64_t id)
{
	const uint64_t uses = (id >> g->pool.shift) - u->claimed;

	if (gq_ring_tag(&g->pool, uses) != gq_ring_tag(&g->pool, u->uses))
		gq_store_relaxed_device_u64(&g->counters->uses, uses);
}

/* ---- answers --------------------------------------------------------------------------------- */

enum { GQ_MEASURED = 16 }; /* loads or stores that a measurement takes the mean of */

/* Lane 0's. The device's clock may have steps of a microsecond. */
GQ_DEV uint64_t gq_measure_reads(const struct gq_grid *g)
{
	const uint64_t begun = gq_clock_ns();

	for (int i = 0; i < GQ_MEASURED; i++) /* nothing overtakes an acquire: one by one. X2 */
		gq_load_acquire_u64(&g->orders->ping);
	return (gq_clock_ns() - begun) / GQ_MEASURED;
}

/* Lane 0's. */
GQ_DEV uint64_t gq_measure_releases(const struct gq_grid *g)
{
	const uint64_t begun = gq_clock_ns();

	for (uint64_t i = 0; i < GQ_MEASURED; i++) {
		gq_store_relaxed_u64(&g->report->scratch, i);
		gq_store_release_u64(&g->report->measured_ns, i); /* G1: with nobody, timed */
	}
	return (gq_clock_ns() - begun) / GQ_MEASURED;
}

GQ_DEV uint64_t gq_measure_pull(const struct gq_grid *g, const struct gq_unit *u)
{
	const uint32_t bytes = g->slot_bytes < GQ_PULL_BYTES ? g->slot_bytes : GQ_PULL_BYTES;
	const uint64_t begun = gq_clock_ns();

	GQ_EACH_LANE(l)
	gq_move(gq_stage(g, u->number * g->batch), gq_payload_at(&g->ch, 0), bytes, l, 32);
	gq_sync_warp();
	return gq_clock_ns() - begun;
}

enum { GQ_ARRIVAL_NS = 100000000 }; /* for what takes microseconds */

/* Lane 0's: wait until the copy stream has written. @return a hash of what it has; 0: nothing. */
GQ_DEV uint64_t gq_measure_arrival(const struct gq_grid *g)
{
	const uint64_t begun = gq_clock_ns(),
		       wanted = gq_load_relaxed_u64(&g->orders->ping_arrival);
	const uint64_t *word = (const uint64_t *)(const void *)(g->copied + GQ_PAYLOAD_OFFSET);

	/* Y2 acquire: the copied bytes; pairs with Y1. */
	while (gq_pos_diff(gq_load_acquire_u64(&g->counters->arrived), wanted) < 0) {
		if (gq_clock_ns() - begun > GQ_ARRIVAL_NS)
			return 0;
		gq_nap(32);
	}
	return gq_seal_piece(g->ch.seal_key, 0, gq_load_relaxed_u64(&word[0]),
			     gq_load_relaxed_u64(&word[1]));
}

enum { GQ_MIRROR_NS = 2000000000 }; /* the host has less patience, and posts another ping */

/* Lane 0's: echo what comes through the CPU's mapping, line by line. @return how many lines did. */
GQ_DEV uint64_t gq_measure_mirror(const struct gq_grid *g, uint64_t ping)
{
	const gq_wide *line =
		(const gq_wide *)(const void *)((const uint8_t *)g->ch.hints - GQ_MIRROR_HEAD);
	uint64_t since = gq_clock_ns(), last = 0, n = 0;

	for (uint32_t turns = 1; n < GQ_MIRROR_TAGS; turns++) {
		uint64_t word[8];

		if (gq_clock_ns() - since > GQ_MIRROR_NS ||
		    (turns % 256 == 0 && gq_load_relaxed_u64(&g->orders->ping) != ping))
			break;

		GQ_UNROLL
		for (uint32_t i = 0; i < 4; i++) {
			const gq_wide v = gq_read_ahead(&line[i]);

			word[2 * i] = v.a;
			word[2 * i + 1] = v.b;
		}
		if (word[0] == last || gq_seal_of_line(g->ch.seal_key, word) != word[7]) {
			gq_nap(32);
			continue;
		}
		last = word[0];
		n++;
		since = gq_clock_ns();
		gq_store_relaxed_u64(&g->report->scratch, last);
	}
	return n;
}

/* The grid's first unit: say what time it is, and what else the ping asks for. */
GQ_DEV void gq_answer(const struct gq_grid *g, const struct gq_unit *u, uint64_t ping)
{
	const uint32_t what = ping & (GQ_PING_STAY - 1);
	uint64_t measured = what == GQ_PING_PULL ? gq_measure_pull(g, u) : 0;

	if (!GQ_IS_LANE_0)
		return;
	if (what == GQ_PING_READ)
		measured = gq_measure_reads(g);
	else if (what == GQ_PING_RELEASE)
		measured = gq_measure_releases(g);
	else if (what == GQ_PING_ARRIVAL)
		measured = gq_measure_arrival(g);
	else if (what == GQ_PING_MIRROR)
		measured = gq_measure_mirror(g, ping);
	gq_store_relaxed_u64(&g->report->measured_ns, measured);
	gq_store_relaxed_u64(&g->report->pong_ns, gq_clock_ns());
	gq_store_release_u64(&g->report->pong, ping); /* G1: pairs with G2 */
}

enum { GQ_STALL_NS = 1000000 };

/* The grid's first unit, with nothing to do: has it been kept from running? Other processes' turns
 * on the GPU show so. */
GQ_DEV void gq_watch_stalls(const struct gq_grid *g, const struct gq_unit *u, uint64_t now)
{
	if (GQ_IS_LANE_0 && u->looked_ns != 0 && now - u->looked_ns > GQ_STALL_NS)
		gq_store_relaxed_u64(&g->report->stalls,
				     gq_load_relaxed_u64(&g->report->stalls) + 1);
}

/*
 * How many looks at the mirror a unit may take after one across PCIe that has found nothing. It is
 * how old orders can get, and how late a message is whose hint was missed: 16 looks of about a
 * microsecond and as many naps of at most one. The first unit answers pings, which time it.
 */
enum { GQ_HINTS = 16 };

GQ_DEV uint32_t gq_hints_until_look(const struct gq_grid *g, const struct gq_unit *u,
				    const struct gq_look *look)
{
	if (g->ch.hints == nullptr || !u->scout || (look->ping & GQ_PING_STAY) != 0)
		return 0;
	return u->number == 0 ? 1 : GQ_HINTS;
}

/* Since when the unit has been idle; others' messages count, too. */
GQ_DEV void gq_count_idle(struct gq_unit *u, const struct gq_look *look, uint64_t now)
{
	if (u->idle_since == 0 || look->passed != u->claimed) {
		u->idle_since = now;
		u->claimed = look->passed;
	}
}

/* Nothing waits: answer, and leave or find out when to look again. */
GQ_DEV uint32_t gq_have_nothing(const struct gq_grid *g, struct gq_unit *u,
				const struct gq_look *look, uint64_t launch)
{
	const uint64_t now = gq_clock_ns();
	uint64_t idle_ns;
	bool gone = false;

	gq_count_idle(u, look, now);
	if (u->number == 0) {
		bool asked = false;

		gq_watch_stalls(g, u, now);
		if (GQ_IS_LANE_0)
			asked = look->ping != gq_load_relaxed_u64(&g->report->pong);
		if (gq_from_lane_0(asked) != 0)
			gq_answer(g, u, look->ping);
	}
	if (GQ_IS_LANE_0 && g->park_ns != UINT64_MAX && now - u->idle_since >= g->park_ns &&
	    (look->ping & GQ_PING_STAY) == 0)
		gone = gq_try_park(g, look, launch);
	if (gq_from_lane_0(gone) != 0)
		return GQ_LEAVE;
	/* Naps are far shorter than a stall, so that one in a nap counts, too. */
	u->looked_ns = u->number == 0 ? gq_clock_ns() : 0;
	/* Who measures the unit would measure a nap, too. */
	idle_ns = u->number == 0 && (look->ping & GQ_PING_STAY) != 0 ? 0 : now - u->idle_since;
	while (!gq_idle(g, u, idle_ns))
		;
	u->hints = gq_hints_until_look(g, u, look);
	return GQ_NOTHING;
}

/* ---- a message that came with the look ------------------------------------------------------- */

/* Word k of a slot's header, among what the look has read ahead. */
GQ_DEV uint64_t gq_ahead_word(const struct gq_look *look, uint32_t k)
{
	uint64_t word[GQ_OWN];

	GQ_EACH_LANE(l)
	word[GQ_AT(l)] = k % 2 == 0 ? look->ahead[0][GQ_AT(l)].a : look->ahead[0][GQ_AT(l)].b;
	return gq_from(word, k / 2);
}

/*
 * Whether what the look has read ahead is the message of a published entry, all of it.
 * @param use  what the entry says
 */
GQ_DEV bool gq_is_whole(const struct gq_grid *g, const struct gq_look *look, uint64_t use)
{
	const struct gq_channel *ch = &g->ch;
	const uint32_t first = GQ_PAYLOAD_OFFSET / GQ_PIECE;
	uint64_t part[GQ_OWN];
	uint32_t last;

	if (look->guess == 0 || use != (look->guess & ch->ready[0].value_mask))
		return false;

	/* As struct gq_slot lays them out. */
	const uint64_t id = gq_ahead_word(look, 0), flags_class = gq_ahead_word(look, 5),
		       seal = gq_ahead_word(look, 7);
	const uint32_t len = (uint32_t)gq_ahead_word(look, 4);

	if (id != look->guess || !gq_is_readable_ahead(ch, len) ||
	    ((uint32_t)flags_class & (GQ_SLOT_DESCRIBED | GQ_SLOT_COPIED)) != 0)
		return false;
	last = first + gq_pieces(len);
	GQ_EACH_LANE(l)
	{
		part[GQ_AT(l)] = 0;
		GQ_UNROLL
		for (uint32_t j = 0; j < GQ_AHEADS; j++) {
			const uint32_t i = l + 32 * j;
			const gq_wide v = look->ahead[j][GQ_AT(l)];

			if (i < GQ_HEADER_PIECES)
				part[GQ_AT(l)] += gq_seal_header_piece(ch->seal_key, i, v.a, v.b);
			else if (i >= first && i < last)
				part[GQ_AT(l)] += gq_seal_piece(ch->seal_key, i, v.a, v.b);
		}
	}
	return gq_sum(part) + gq_seal_id(ch->seal_key, id) == seal;
}

/* The message read ahead has been claimed and is whole: stage it and decide on it. */
GQ_DEV void gq_stage_whole(const struct gq_grid *g, struct gq_shared *s, const struct gq_unit *u,
			   uint32_t unit_in_block, const struct gq_look *look)
{
	const uint32_t first = GQ_PAYLOAD_OFFSET / GQ_PIECE, place = u->number * g->batch;
	const uint64_t id = gq_ahead_word(look, 0), tag = gq_ahead_word(look, 1),
		       deadline_ns = gq_ahead_word(look, 2), cancel = gq_ahead_word(look, 3),
		       len_opcode = gq_ahead_word(look, 4);
	const uint32_t len = (uint32_t)len_opcode, last = first + gq_pieces(len);

	GQ_EACH_LANE(l)
	{
		gq_wide *stage = (gq_wide *)(void *)gq_stage(g, place);

		GQ_UNROLL
		for (uint32_t j = 0; j < GQ_AHEADS; j++)
			if (l + 32 * j >= first && l + 32 * j < last)
				stage[l + 32 * j - first] = look->ahead[j][GQ_AT(l)];
	}
	if (GQ_IS_LANE_0) {
		const uint64_t now = gq_clock_ns();

		gq_took_whole();
		s->header[unit_in_block] = { id, tag, len, (uint32_t)(len_opcode >> 32) };
		gq_begin_message(g, s, place, unit_in_block * 32, id, now);
		s->decided[unit_in_block * 32] =
			gq_decide_on(id, cancel, deadline_ns, look->control, now + u->ahead_ns);
	}
}

/* ---- a turn ---------------------------------------------------------------------------------- */

/* What a unit remembers of the look that made it claim. */
GQ_DEV void gq_begin_work(const struct gq_grid *g, struct gq_unit *u, const struct gq_look *look)
{
	gq_stop_scouting(g, u);
	u->idle_since = 0;
	u->looked_ns = 0;
	u->claimed = look->passed;
	u->uses = look->uses;
	u->hints = 0;
}

/*
 * A turn that looks at the mirror. It can only claim one message, which is there as a whole, while
 * nothing else seems to wait; all else is for a look across PCIe, which comes after so many of
 * these, or next.
 */
GQ_DEV uint32_t gq_turn_by_hint(const struct gq_grid *g, struct gq_shared *s, struct gq_unit *u,
				uint32_t unit_in_block, const struct gq_launch *launch,
				uint32_t (&slot)[GQ_OWN], uint32_t *n)
{
	const uint64_t *entry = nullptr;
	struct gq_look look;
	uint64_t word = 0, use = 0;

	*n = 0;
	u->hints--;
	gq_take_hint(g, u, &look);
	if (look.closed || look.gone == launch->number) {
		u->hints = 0;
		return GQ_NOTHING;
	}
	if (look.published == 0) {
		const uint64_t now = gq_clock_ns();

		gq_count_idle(u, &look, now);
		while (!gq_idle(g, u, now - u->idle_since))
			;
		return GQ_NOTHING;
	}
	GQ_UNROLL
	for (uint32_t c = 0; c < GQ_CLASSES; c++) {
		if (look.published != 1u << (c * GQ_FRONT))
			continue;
		entry = gq_ring_entry(&g->ch.ready[c], look.cursor[c] >> 1);
		word = gq_from(look.word, c * GQ_FRONT);
		use = gq_ring_value(&g->ch.ready[c], word);
	}
	if (entry == nullptr || !gq_is_whole(g, &look, use)) {
		u->hints = 0;
		return GQ_NOTHING;
	}
	*n = gq_grid_claim(g, &look, &s->turn[unit_in_block], slot, &use);
	if (*n == 0)
		return GQ_NOTHING;
	gq_witness(entry, word);
	if (GQ_IS_LANE_0)
		gq_took_hint();
	gq_begin_work(g, u, &look);
	gq_stage_whole(g, s, u, unit_in_block, &look);
	return GQ_CLAIMED_WHOLE;
}

/*
 * One turn of a unit's first warp: look; then claim, nap, stand still, or find that it has to go.
 * @param slot  of lane l: the slot of the l-th message claimed
 * @param n     how many were
 */
GQ_DEV uint32_t gq_turn_of(const struct gq_grid *g, struct gq_shared *s, struct gq_unit *u,
			   uint32_t unit_in_block, const struct gq_launch *launch,
			   uint32_t (&slot)[GQ_OWN], uint32_t *n)
{
	struct gq_turn *turn = &s->turn[unit_in_block];
	struct gq_look look;
	uint64_t use;

	if (u->hints != 0)
		return gq_turn_by_hint(g, s, u, unit_in_block, launch, slot, n);
	gq_take_look(g, u, &look);
	u->ahead_ns = look.ahead_ns;
	u->control = look.control;
	*n = 0;
	/* Lanes may read different clocks: lane 0's counts. */
	if (gq_must_depart(look.depart, launch->number) || look.gone == launch->number ||
	    gq_from_lane_0(gq_is_over(g, u, look.passed, launch->until)) != 0)
		return GQ_LEAVE;
	if ((look.control & GQ_CONTROL_PAUSE) != 0) {
		gq_stop_scouting(g, u);
		gq_sync_warp(); /* all lanes' completions come before the acknowledgement */
		if (GQ_IS_LANE_0)
			gq_stand_still(g, u, look.control, launch);
		u->looked_ns = 0; /* to have been paused is no stall */
		gq_sync_warp();
		return GQ_NOTHING;
	}
	if (look.closed) { /* a park is being decided */
		gq_nap(32);
		return GQ_NOTHING;
	}
	if ((look.published & GQ_FRONTS) != 0) {
		*n = gq_grid_claim(g, &look, turn, slot, &use);
		if (*n == 0)
			return GQ_NOTHING;
		gq_begin_work(g, u, &look);
		if (*n != 1 || !gq_is_whole(g, &look, use))
			return GQ_CLAIMED;
		gq_stage_whole(g, s, u, unit_in_block, &look);
		return GQ_CLAIMED_WHOLE;
	}
	if ((look.control & GQ_CONTROL_LEAVE) != 0) /* what was there comes first: CANCEL ends it */
		return GQ_LEAVE;
	return gq_have_nothing(g, u, &look, launch->number);
}

/* ---- messages claimed ------------------------------------------------------------------------ */

/* Wait until the copy engine has brought the message: soon. @return false: the device has failed.
 */
GQ_DEV bool gq_await_arrival(const struct gq_grid *g, uint64_t arrival)
{
	/* Y2 acquire: the copied bytes; pairs with Y1. */
	for (uint32_t turns = 1;
	     gq_pos_diff(gq_load_acquire_u64(&g->counters->arrived), arrival) < 0; turns++) {
		if (turns % 64 == 0 && gq_load_relaxed_u64(&g->orders->failed) != 0)
			return false;
		gq_nap(32);
	}
	return true;
}

/* Bring the messages over and decide on them. */
GQ_DEV void gq_fetch(const struct gq_grid *g, struct gq_shared *s, const struct gq_unit *u,
		     uint32_t unit_in_block, const uint32_t (&slot)[GQ_OWN], uint32_t n,
		     struct gq_message (&m)[GQ_OWN])
{
	const uint32_t first = u->number * g->batch;
	/* Read again, with the messages: what is claimed after a stop gave up must not start. X2.
	 */
	const uint64_t control = gq_load_relaxed_u64(&g->orders->control);

	GQ_EACH_LANE(l)
	{
		struct gq_message *mine = &m[GQ_AT(l)];
		const struct gq_slot *from = gq_slot_at(&g->ch, slot[GQ_AT(l)]);
		const gq_wide *payload =
			(const gq_wide *)(const void *)gq_payload_at(&g->ch, slot[GQ_AT(l)]);
		const bool early = Q_GRANULARITY != 0 && GQ_COPY_RANK(l) * GQ_PIECE < g->slot_bytes;
		gq_wide piece = { 0, 0 };
		uint64_t cancel = 0, deadline_ns = 0, arrival;
		uint32_t flags, outcome = 0;

		mine->len = 0;
		mine->lies_there = false;
		if (!GQ_IS_MINE(l, n))
			continue;
		/* All of this in one round trip: each thread's first piece, the word, the header.
		 */
		if (early)
			piece = gq_fetch_wide(&payload[GQ_COPY_RANK(l)]);
		if (GQ_SEES_TO(l, n)) {
			cancel = gq_load_relaxed_u64(&from->cancel); /* as in gq_decide() */
			deadline_ns = from->deadline_ns;
		}
		mine->id = from->msg_id;
		mine->tag = from->tag;
		mine->len = from->len;
		mine->opcode = from->opcode;
		flags = from->flags;
		arrival = from->arrival;
		mine->payload = gq_stage(g, first + GQ_PLACE(l));
		mine->lies_there = (flags & (GQ_SLOT_DESCRIBED | GQ_SLOT_COPIED)) != 0;
		if (early)
			((gq_wide *)(void *)gq_stage(g, first))[GQ_COPY_RANK(l)] = piece;
		if (GQ_SEES_TO(l, n)) {
			const uint32_t at = unit_in_block * 32 + GQ_PLACE(l);
			const uint64_t now = gq_clock_ns();

			gq_begin_message(g, s, first + GQ_PLACE(l), at, mine->id, now);
			if (GQ_PLACE(l) == 0)
				gq_learn_uses(g, u, mine->id);
			outcome = gq_decide_on(mine->id, cancel, deadline_ns, control,
					       now + u->ahead_ns);
			s->decided[at] = outcome;
		}
		if ((flags & GQ_SLOT_DESCRIBED) != 0) {
			mine->payload = from->described;
		} else if (mine->lies_there) {
			mine->payload =
				g->copied + slot[GQ_AT(l)] * g->ch.slot_stride + GQ_PAYLOAD_OFFSET;
			/* The others wait at the unit's barrier. What has not come must not be run:
			 * the message has ended FAILED already. */
			if (GQ_SEES_TO(l, n) && outcome == 0 && !gq_await_arrival(g, arrival))
				s->decided[unit_in_block * 32 + GQ_PLACE(l)] = GQ_OUTCOME_FAILED;
		}
	}
#if Q_GRANULARITY == 0
	uint32_t len[GQ_OWN];

	GQ_EACH_LANE(l)
	len[GQ_AT(l)] = m[GQ_AT(l)].lies_there ? 0 : m[GQ_AT(l)].len;
	for (uint32_t i = 0; i < n; i++) {
		const uint32_t bytes = gq_from(len, i), from = gq_from(slot, i);

		GQ_EACH_LANE(l)
		gq_move(gq_stage(g, first + i), gq_payload_at(&g->ch, from), bytes, l, 32);
	}
#else
	GQ_EACH_LANE(l)
	if (!m[GQ_AT(l)].lies_there && m[GQ_AT(l)].len > GQ_COPY_STEP * GQ_PIECE)
		gq_move(gq_stage(g, first) + GQ_COPY_STEP * GQ_PIECE,
			gq_payload_at(&g->ch, slot[GQ_AT(l)]) + GQ_COPY_STEP * GQ_PIECE,
			m[GQ_AT(l)].len - GQ_COPY_STEP * GQ_PIECE, GQ_COPY_RANK(l), GQ_COPY_STEP);
#endif
}

/* The same for one that came with the look. */
GQ_DEV void gq_find_staged(const struct gq_grid *g, const struct gq_shared *s,
			   const struct gq_unit *u, uint32_t unit_in_block, uint32_t n,
			   struct gq_message (&m)[GQ_OWN])
{
	const struct gq_header *header = &s->header[unit_in_block];

	GQ_EACH_LANE(l)
	{
		m[GQ_AT(l)] = { gq_stage(g, u->number * g->batch),
				header->id,
				header->tag,
				GQ_IS_MINE(l, n) ? header->len : 0,
				header->opcode,
				0,
				true };
		if (GQ_SEES_TO(l, n))
			gq_learn_uses(g, u, header->id);
	}
}

/* ---- results --------------------------------------------------------------------------------- */

enum { GQ_SEALED_PIECES = 2 }; /* of a sealed result a lane moves */

/* Whether the processor has said that it writes nothing but its result. */
#if defined(Q_RESULT_ONLY)
#define GQ_FENCED false
#else
#define GQ_FENCED true
#endif

/*
 * C1 release: what the processor wrote elsewhere than into its result, by all threads of the unit,
 * whose barrier has come in between; pairs with C2, by way of the entry. Before anything else of
 * the completion is stored to the host, as the fence would wait for that to have crossed PCIe.
 */
GQ_DEV void gq_release_work(void)
{
	if (GQ_FENCED)
		gq_fence_system();
}

/*
 * Move a short result out and complete its message, with stores that wait for nothing: the seal
 * tells the reaper when all have arrived. By one warp.
 */
GQ_DEV void gq_deliver_sealed(const struct gq_grid *g, uint32_t place, uint32_t slot, uint64_t id,
			      uint32_t len)
{
	const struct gq_channel *ch = &g->ch;
	const gq_wide *from = (const gq_wide *)(const void *)(gq_stage(g, place) + g->stage_result);
	gq_wide *to = (gq_wide *)(void *)gq_result_at(ch, slot);
	uint64_t part[GQ_OWN], seal;
	const bool result_first = gq_result_first();

	if (GQ_IS_LANE_0 && !result_first)
		gq_complete_posted(ch, slot, len | GQ_OUTCOME_SEALED, GQ_FENCED);
	GQ_EACH_LANE(l)
	{
		part[GQ_AT(l)] = 0;
		GQ_UNROLL
		for (uint32_t j = 0; j < GQ_SEALED_PIECES; j++) {
			const uint32_t i = l + 32 * j;

			if (i >= gq_pieces(len))
				continue;
			GQ_WINDOW();
			part[GQ_AT(l)] += gq_seal_piece(ch->seal_key, i, from[i].a, from[i].b);
			gq_post_wide(&to[i], from[i]);
		}
	}
	seal = gq_sum(part) + gq_seal_id(ch->seal_key, id);
	if (GQ_IS_LANE_0) {
		gq_store_posted_u64(gq_result_seal_at(ch, slot), seal); /* V1: pairs with V2 */
		if (result_first)
			gq_complete_posted(ch, slot, len | GQ_OUTCOME_SEALED, GQ_FENCED);
	}
}

/* Move the results out and complete. */
GQ_DEV void gq_deliver(const struct gq_grid *g, const struct gq_unit *u,
		       const uint32_t (&slot)[GQ_OWN], uint32_t n, struct gq_message (&m)[GQ_OWN])
{
	const uint32_t first = u->number * g->batch;
	uint32_t len[GQ_OWN], only;

	GQ_EACH_LANE(l)
	len[GQ_AT(l)] = GQ_IS_MINE(l, n) && m[GQ_AT(l)].outcome <= GQ_OUTCOME_MAX_LEN
				? m[GQ_AT(l)].outcome
				: 0;
	only = n == 1 ? gq_from(len, 0) : 0; /* of several, all releases at once are cheaper */
	if (only != 0 && only <= g->ch.sealed_bytes) {
		if (Q_GRANULARITY != 2 || gq_warp_in_block == 0) {
			uint64_t id[GQ_OWN];

			GQ_EACH_LANE(l)
			id[GQ_AT(l)] = m[GQ_AT(l)].id;
			if (GQ_IS_LANE_0) {
				gq_release_work();
				gq_store_relaxed_u64(&g->journal[first].msg_id, 0);
			}
			if (GQ_FENCED)
				gq_sync_warp(); /* no lane's piece of the result is waited for */
			gq_deliver_sealed(g, first, gq_from(slot, 0), gq_from(id, 0), only);
		}
		gq_sync_unit(); /* the staged result is the next message's now */
		return;
	}
#if Q_GRANULARITY == 0
	for (uint32_t i = 0; i < n; i++) {
		const uint32_t bytes = gq_from(len, i), to = gq_from(slot, i);

		GQ_EACH_LANE(l)
		gq_move(gq_result_at(&g->ch, to), gq_stage(g, first + i) + g->stage_result, bytes,
			l, 32);
	}
#else
	GQ_EACH_LANE(l)
	gq_move(gq_result_at(&g->ch, slot[GQ_AT(l)]), gq_stage(g, first) + g->stage_result,
		len[GQ_AT(l)], GQ_COPY_RANK(l), GQ_COPY_STEP);
#endif
	gq_sync_unit(); /* all threads' stores come before the completion, which releases them */
	GQ_EACH_LANE(l)
	if (GQ_SEES_TO(l, n)) {
		if (len[GQ_AT(l)] == 0)
			gq_release_work(); /* a result's own release does that too */
		gq_store_relaxed_u64(&g->journal[first + GQ_PLACE(l)].msg_id, 0);
		gq_complete_posted(&g->ch, slot[GQ_AT(l)], m[GQ_AT(l)].outcome, GQ_FENCED); /* C1 */
	}
}

/* Tell the trace, on the host's clock. By the threads that complete: C1 releases it. */
GQ_DEV void gq_stamp_unit(const struct gq_grid *g, const struct gq_unit *u,
			  const uint32_t (&slot)[GQ_OWN], uint32_t n, uint64_t claimed)
{
	const uint64_t done = gq_clock_ns();

	GQ_EACH_LANE(l)
	if (GQ_SEES_TO(l, n))
		gq_note_times(&g->ch, slot[GQ_AT(l)], claimed + u->ahead_ns, done + u->ahead_ns,
			      u->number * g->batch + GQ_PLACE(l));
}

/*
 * Process the messages a unit has claimed.
 * @param slot   lane l's is that of the l-th; where a unit has one message, it is in all lanes
 * @param whole  it came with the look
 */
GQ_DEV void gq_serve(const struct gq_grid *g, struct gq_shared *s, const struct gq_unit *u,
		     uint32_t unit_in_block, const uint32_t (&slot)[GQ_OWN], uint32_t n, bool whole)
{
	const uint32_t first = u->number * g->batch;
	uint32_t *out_len = &s->out_len[unit_in_block * 32];
	uint32_t *status = &s->status[unit_in_block * 32];
	uint32_t *decided = &s->decided[unit_in_block * 32];
	const uint64_t claimed = g->ch.stamps != NULL ? gq_clock_ns() : 0;
	struct gq_message m[GQ_OWN];

	if (!whole)
		gq_fetch(g, s, u, unit_in_block, slot, n, m);
	gq_sync_unit();
	if (whole)
		gq_find_staged(g, s, u, unit_in_block, n, m);
#if defined(GQ_STANDIN) && Q_GRANULARITY != 0
	for (uint32_t l = 0; l < 1; l++) /* there a unit is one caller of size 1 */
#else
	GQ_EACH_LANE(l)
#endif
	{
		const struct gq_message *mine = &m[GQ_AT(l)];

		if (!GQ_IS_MINE(l, n) || decided[GQ_PLACE(l)] != 0)
			continue;

		const MsgView in = { mine->payload, mine->len, mine->id,
				     mine->opcode,  mine->tag, g->ch.user };
		ResultView out = { gq_stage(g, first + GQ_PLACE(l)) + g->stage_result,
				   g->ch.result_bytes, &out_len[GQ_PLACE(l)],
				   &status[GQ_PLACE(l)] };

		process_message(in, &out);
	}
	gq_sync_unit();
	GQ_EACH_LANE(l)
	if (GQ_IS_MINE(l, n)) {
		const uint32_t at = GQ_PLACE(l);

		m[GQ_AT(l)].outcome = decided[at] != 0 ? decided[at]
						       : gq_outcome_of(status[at], out_len[at],
								       g->ch.result_bytes);
	}
	if (g->ch.stamps != NULL)
		gq_stamp_unit(g, u, slot, n, claimed);
	gq_deliver(g, u, slot, n, m);
}

/* ---- the kernel ------------------------------------------------------------------------------ */

/* Say that the block runs; the grid's last one says so to the host. */
GQ_DEV void gq_report_residence(const struct gq_grid *g, uint64_t launch)
{
	struct gq_counters *k = g->counters;

	if (gq_block == 0)
		gq_open_cursors(k, GQ_CLASSES); /* the last grid may have closed them */
	/* O1 release: the opening; pairs with O2. */
	if (gq_fetch_add_acq_rel_device_u64(&k->resident, 1) + 1 == launch * gq_blocks)
		gq_store_release_u64(&g->report->resident, launch); /* G1: pairs with G2 */
}

GQ_DEV void gq_consume(const struct gq_grid *g, struct gq_shared *s, struct gq_launch launch)
{
	const uint32_t unit_in_block = Q_GRANULARITY == 2 ? 0 : gq_warp_in_block;
	struct gq_unit u = {};

	u.number = gq_block * (Q_GRANULARITY == 2 ? 1u : gq_threads / 32) + unit_in_block;
	u.begun_ns = gq_clock_ns();
	if (GQ_IS_LANE_0 && (Q_GRANULARITY != 2 || gq_warp_in_block == 0))
		for (uint32_t c = 0; c < GQ_CLASSES; c++)
			s->turn[unit_in_block].passed[c] = 0;
	if (gq_warp_in_block == 0 && GQ_IS_LANE_0)
		gq_report_residence(g, launch.number);
	for (;;) {
		uint32_t slot[GQ_OWN] = { 0 }, verdict = GQ_NOTHING, n = 0;

#if Q_GRANULARITY == 2
		if (gq_warp_in_block == 0) {
			verdict = gq_turn_of(g, s, &u, unit_in_block, &launch, slot, &n);
			if (GQ_IS_LANE_0) {
				s->verdict = verdict;
				s->slot = slot[0];
			}
		}
		gq_sync_block();
		verdict = s->verdict;
		n = s->slot;
		gq_sync_block(); /* these two words belong to the next turn now */
		GQ_EACH_LANE(l)
		slot[GQ_AT(l)] = n;
		n = 1;
#else
		verdict = gq_turn_of(g, s, &u, unit_in_block, &launch, slot, &n);
#endif
#if Q_GRANULARITY == 1
		n = gq_from(slot, 0);
		GQ_EACH_LANE(l)
		slot[GQ_AT(l)] = n;
		n = 1;
#endif
		if (verdict == GQ_LEAVE)
			break;
		if (verdict != GQ_NOTHING)
			gq_serve(g, s, &u, unit_in_block, slot, n, verdict == GQ_CLAIMED_WHOLE);
	}
	if (Q_GRANULARITY != 2 || gq_warp_in_block == 0)
		gq_stop_scouting(g, &u);
}

#if defined(GQ_STANDIN)
static void gpuq_grid(const struct gq_grid *g, struct gq_launch launch)
{
	GQ_SHARED(s);

	gq_consume(g, s, launch);
}
#else
/*
 * Shows that other streams get through, and, if asked, says what the image is. A variable would not
 * do for that: those of a whole program are internal to it.
 */
extern "C" __global__ void gpuq_canary(struct gq_image_info *info)
{
	if (info != nullptr)
		*info = { GQ_IMAGE_MAGIC,
			  Q_PROTOCOL_VERSION,
			  Q_GRANULARITY,
			  GQ_BLOCK_THREADS,
			  (uint32_t)sizeof(struct gq_grid),
			  0,
			  gq_clock_ns() };
}

extern "C" __global__ void __launch_bounds__(GQ_BLOCK_THREADS, 1)
	gpuq_grid(const struct gq_grid *g, struct gq_launch launch)
{
	GQ_SHARED(s);

	gq_consume(g, s, launch);
}
#endif

#endif /* GPUQ_DEVICE_CUDA_GRID_CUH */
