/* SPDX-License-Identifier: Apache-2.0 */
/*
 * message.cuh - what a unit does with the messages it has claimed: it brings them over, decides on
 * them, processes and completes them.
 *
 * A unit works on `batch` messages at once: a warp of Q_PER_THREAD on up to 32, one a lane; the
 * others on one. Its places (staging memory, journal) are numbered from unit * batch on.
 */
#ifndef GPUQ_CUDA_GRID_MESSAGE_CUH
#define GPUQ_CUDA_GRID_MESSAGE_CUH

#include <gpuq/processor.h>

#include "device/cuda/grid/look.cuh"

/* ---- a message ------------------------------------------------------------------------------- */

GQ_DEV uint8_t *gq_stage(const struct gq_grid *g, uint32_t place)
{
	return g->staging + place * g->stage_bytes;
}

enum { GQ_IN_FLIGHT = 8 }; /* loads across PCIe that a thread has under way at once */

/* All threads of the unit copy together, 16 bytes each. Up to 15 bytes beyond `len` are copied too.
 */
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
				gq_store_wide(&to_wide[i + k * step], v[k]);
	}
}

/* The threads that share a message's copying. */
#if Q_GRANULARITY == 2
#define GQ_COPY_RANK(l) gq_rank_of(l)
#define GQ_COPY_STEP    GQ_THREADS
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
	bool in_place; /* where the processor reads it: nothing to bring over */
};

/* If a unit has several messages, each lane has a place of its own, decides and completes. If it
 * has one, the unit's first thread does. */
#if Q_GRANULARITY == 0
#define GQ_PLACE(l)      (l)
#define GQ_IS_MINE(l, n) ((l) < (n))
#define GQ_SEES_TO(l, n) ((l) < (n))
#else
#define GQ_PLACE(l)      0
#define GQ_IS_MINE(l, n) ((void)(n), true)
#define GQ_SEES_TO(l, n) ((void)(n), GQ_COPY_RANK(l) == 0)
#endif

/* A message has been claimed. `place` is its place in the grid, `at` in the block. */
GQ_DEV void gq_begin_message(const struct gq_grid *g, struct gq_shared *s, uint32_t place,
			     uint32_t at, uint64_t id, uint64_t now)
{
	gq_store_relaxed_u64(&g->journal[place].since_ns, now);
	gq_store_relaxed_u64(&g->journal[place].msg_id, id);
	s->out_len[at] = 0;
	s->status[at] = 0;
}

/* Tell all units how far the ids are ahead of the positions passed. A message of a run says nothing
 * of that: it was passed before the look. */
GQ_DEV void gq_learn_pool_lead(const struct gq_grid *g, const struct gq_unit *u, uint64_t id)
{
	const uint64_t pool_lead = (id >> g->pool.shift) - u->passed;

	if (u->held == 0 &&
	    gq_word_ring_tag(&g->pool, pool_lead) != gq_word_ring_tag(&g->pool, u->pool_lead))
		gq_store_relaxed_device_u64(&g->counters->pool_lead, pool_lead);
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

enum { GQ_FRESH_NS = 5000 }; /* orders so old are not read again with a message */

/* ---- messages claimed ------------------------------------------------------------------------ */

/* Wait until the copy engine has brought the message, which takes microseconds. @return false: the
 * device has failed. */
GQ_DEV bool gq_await_arrival(const struct gq_grid *g, uint64_t arrival)
{
	/* [copy.await] acquire: the copied bytes. */
	for (uint32_t turns = 1;
	     gq_pos_diff(gq_load_acquire_u64(&g->counters->arrived), arrival) < 0; turns++) {
		if (turns % 64 == 0 && gq_load_relaxed_u64(&g->orders->failed) != 0)
			return false;
		gq_nap(32);
	}
	return true;
}

/*
 * Bring the messages over and decide on them. This is one function, and a long one, because all its
 * loads across PCIe are to be under way at the same time: what needs their values comes behind
 * them.
 */
GQ_DEV void gq_fetch(const struct gq_grid *g, struct gq_shared *s, const struct gq_unit *u,
		     uint32_t unit_in_block, const uint32_t (&slot)[GQ_OWN], uint32_t n,
		     struct gq_message (&m)[GQ_OWN])
{
	const uint32_t first = u->number * g->batch;
	/* [control.read]: read again, with the messages, unless what the unit knows is fresh: a
	 * message that is claimed later than GQ_FRESH_NS after a stop has given up must not start.
	 */
	const uint64_t control = gq_clock_ns() - u->ordered_ns < GQ_FRESH_NS
					 ? u->control
					 : gq_load_relaxed_u64(&g->orders->control);

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
		mine->in_place = false;
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
		mine->in_place = (flags & (GQ_SLOT_DESCRIBED | GQ_SLOT_COPIED)) != 0;
		if (early)
			((gq_wide *)(void *)gq_stage(g, first))[GQ_COPY_RANK(l)] = piece;
		if (GQ_SEES_TO(l, n)) {
			const uint32_t at = unit_in_block * 32 + GQ_PLACE(l);
			const uint64_t now = gq_clock_ns();

			if (GQ_PLACE(l) == 0)
				gq_let_go(g, u);
			gq_begin_message(g, s, first + GQ_PLACE(l), at, mine->id, now);
			if (GQ_PLACE(l) == 0)
				gq_learn_pool_lead(g, u, mine->id);
			outcome = gq_decide_on(mine->id, cancel, deadline_ns, control,
					       now + u->ahead_ns);
			s->decided[at] = outcome;
		}
		if ((flags & GQ_SLOT_DESCRIBED) != 0) {
			mine->payload = from->described;
		} else if (mine->in_place) {
			mine->payload =
				g->copied + slot[GQ_AT(l)] * g->ch.slot_stride + GQ_PAYLOAD_OFFSET;
			/* The unit's other threads wait at its barrier. A message that has not come
			 * must not be run: the host has ended it FAILED already. */
			if (GQ_SEES_TO(l, n) && outcome == 0 && !gq_await_arrival(g, arrival))
				s->decided[unit_in_block * 32 + GQ_PLACE(l)] = GQ_OUTCOME_FAILED;
		}
	}
#if Q_GRANULARITY == 0
	uint32_t len[GQ_OWN];

	GQ_EACH_LANE(l)
	len[GQ_AT(l)] = m[GQ_AT(l)].in_place ? 0 : m[GQ_AT(l)].len;
	for (uint32_t i = 0; i < n; i++) {
		const uint32_t bytes = gq_from(len, i), from = gq_from(slot, i);

		GQ_EACH_LANE(l)
		gq_move(gq_stage(g, first + i), gq_payload_at(&g->ch, from), bytes, l, 32);
	}
#else
	GQ_EACH_LANE(l)
	if (!m[GQ_AT(l)].in_place && m[GQ_AT(l)].len > GQ_COPY_STEP * GQ_PIECE)
		gq_move(gq_stage(g, first) + GQ_COPY_STEP * GQ_PIECE,
			gq_payload_at(&g->ch, slot[GQ_AT(l)]) + GQ_COPY_STEP * GQ_PIECE,
			m[GQ_AT(l)].len - GQ_COPY_STEP * GQ_PIECE, GQ_COPY_RANK(l), GQ_COPY_STEP);
#endif
}

/* The same for a message that came with the look, which is staged and decided on already. */
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
			gq_learn_pool_lead(g, u, header->id);
	}
}

/* ---- results --------------------------------------------------------------------------------- */

enum { GQ_SEALED_PIECES = 2 }; /* of a sealed result a lane moves */

/* Whether a completion needs a fence. Not if the processor has said that it writes nothing but its
 * result. */
#if defined(Q_RESULT_ONLY)
#define GQ_FENCED false
#else
#define GQ_FENCED true
#endif

/*
 * [message.complete] release: what the processor wrote elsewhere than into its result, by all
 * threads of the unit, whose barrier has come in between, by way of the entry. Before anything else
 * of the completion is stored to the host, as the fence would wait for that to have crossed PCIe.
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
		gq_store_posted_u64(gq_result_seal_at(ch, slot), seal); /* [seal.write] */
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
		if (Q_GRANULARITY != 2 || GQ_WARP_IN_BLOCK == 0) {
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
		/* [message.complete] */
		gq_complete_posted(&g->ch, slot[GQ_AT(l)], m[GQ_AT(l)].outcome, GQ_FENCED);
	}
}

/* Tell the trace, on the host's clock. By the threads that complete: [message.complete] releases
 * it. */
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

#endif /* GPUQ_CUDA_GRID_MESSAGE_CUH */
