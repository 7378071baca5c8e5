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
		for (uint32_t k = 0; k < GQ_IN_FLIGHT; k++) {
			v[k] = GQ_NO_PIECE;
			if (i + k * step < n)
				v[k] = gq_fetch_wide(&from_wide[i + k * step]);
		}
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

/*
 * The journal has one write a message: it is cleared when the unit has nothing more to do, not when
 * the message has completed. In between the host sees that it has. What is written is known before
 * the message is fetched, so that it crosses PCIe meanwhile: behind a message whose processor may
 * have written elsewhere comes a fence, which waits for it.
 */
GQ_DEV void gq_note(const struct gq_grid *g, uint32_t place, uint64_t noted, uint64_t since_ns)
{
	if (g->journal != nullptr)
		gq_post_wide((gq_wide *)(void *)&g->journal[place], { since_ns, noted });
}

/*
 * The unit has claimed or taken `n` messages: note them.
 * @param slot  of lane l: what the entry of the l-th says; then its slot
 */
GQ_DEV void gq_note_messages(const struct gq_grid *g, struct gq_unit *u, uint32_t (&slot)[GQ_OWN],
			     uint32_t n)
{
	const uint32_t mask = (uint32_t)g->ch.slot_mask, first = u->number * g->batch;
	const uint64_t now = gq_clock_ns();

#if Q_GRANULARITY != 0
	if (GQ_IS_LANE_0)
		gq_note(g, first, GQ_NOTED | slot[0], now);
	slot[0] &= mask;
#else
	GQ_EACH_LANE(l)
	{
		if (l < n)
			gq_note(g, first + l, GQ_NOTED | slot[GQ_AT(l)], now);
		else if (l < u->noted) /* the last batch was larger */
			gq_note(g, first + l, 0, 0);
		slot[GQ_AT(l)] &= mask;
	}
#endif
	u->noted = n;
}

GQ_DEV void gq_clear_journal(const struct gq_grid *g, struct gq_unit *u)
{
	GQ_EACH_LANE(l)
	if (l < u->noted)
		gq_note(g, u->number * g->batch + l, 0, 0);
	u->noted = 0;
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

/*
 * Whether what the look has read ahead is the message of a published entry, all of it.
 * @param use  what the entry says
 * @param w    its header
 */
GQ_DEV bool gq_is_whole(const struct gq_grid *g, const struct gq_look *look, uint64_t use,
			struct gq_words *w)
{
	const struct gq_channel *ch = &g->ch;
	const uint32_t first = GQ_PAYLOAD_OFFSET / GQ_PIECE;
	uint64_t part[GQ_OWN];
	uint32_t last;

	if (look->guess == 0 || use != (look->guess & ch->ready[0].value_mask))
		return false;

	gq_words_of(look->ahead[0], w);
	const uint32_t len = (uint32_t)w->len_opcode;

	if (w->id != look->guess || !gq_is_readable_ahead(ch, len) ||
	    ((uint32_t)w->flags_class & (GQ_SLOT_DESCRIBED | GQ_SLOT_COPIED)) != 0)
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
	return gq_sum(part) + gq_seal_id(ch->seal_key, w->id) == w->last;
}

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
 * Decide on a message, by its header. One lane.
 * @param at       its place in the block
 * @param payload  where it is read, if it is staged; else that is changed
 */
GQ_DEV void gq_open_message(const struct gq_grid *g, struct gq_shared *s, uint32_t at,
			    uint32_t slot, const struct gq_words *w, uint64_t control,
			    uint64_t ahead_ns, const uint8_t **payload)
{
	const uint32_t flags = (uint32_t)w->flags_class;
	uint32_t outcome;

	s->out_len[at] = 0;
	s->status[at] = 0;
	outcome = gq_decide_on(w->id, w->cancel, w->deadline_ns, control,
			       w->deadline_ns != 0 ? gq_clock_ns() + ahead_ns : 0);
	if ((flags & GQ_SLOT_DESCRIBED) != 0) {
		*payload = (const uint8_t *)(uintptr_t)w->last;
	} else if ((flags & GQ_SLOT_COPIED) != 0) {
		*payload = g->copied + slot * g->ch.slot_stride + GQ_PAYLOAD_OFFSET;
		/* The unit's other threads wait at its barrier. A message that has not come must
		 * not be run: the host has ended it FAILED already. */
		if (outcome == 0 && !gq_await_arrival(g, w->last))
			outcome = GQ_OUTCOME_FAILED;
	}
	s->decided[at] = outcome;
}

/* Of a unit's one message. */
GQ_DEV void gq_open_one(const struct gq_grid *g, struct gq_shared *s, const struct gq_unit *u,
			uint32_t unit_in_block, const struct gq_words *w, uint32_t slot,
			uint64_t control)
{
	const uint32_t place = u->number * g->batch;
	const uint64_t ahead_ns = gq_order(u, GQ_AHEAD_NS);
	const uint8_t *payload = gq_stage(g, place);

	if (GQ_IS_LANE_0) {
		gq_let_go(g, u);
		gq_open_message(g, s, unit_in_block * 32, slot, w, control, ahead_ns, &payload);
		s->header[unit_in_block] = { payload, w->id, w->tag, (uint32_t)w->len_opcode,
					     (uint32_t)(w->len_opcode >> 32) };
		gq_learn_pool_lead(g, u, w->id);
	}
}

/* The message read ahead has been claimed and is whole: stage it and decide on it. */
GQ_DEV void gq_stage_whole(const struct gq_grid *g, struct gq_shared *s, const struct gq_unit *u,
			   uint32_t unit_in_block, const struct gq_look *look,
			   const struct gq_words *w, uint32_t slot)
{
	const uint32_t first = GQ_PAYLOAD_OFFSET / GQ_PIECE,
		       last = first + gq_pieces((uint32_t)w->len_opcode);

	GQ_EACH_LANE(l)
	{
		gq_wide *stage = (gq_wide *)(void *)gq_stage(g, u->number * g->batch);

		GQ_UNROLL
		for (uint32_t j = 0; j < GQ_AHEADS; j++)
			if (l + 32 * j >= first && l + 32 * j < last)
				gq_store_wide(&stage[l + 32 * j - first], look->ahead[j][GQ_AT(l)]);
	}
	if (GQ_IS_LANE_0)
		gq_took_whole();
	gq_open_one(g, s, u, unit_in_block, w, slot, gq_order(u, GQ_CONTROL));
}

#if Q_GRANULARITY != 0

/* What a unit reads of a slot before it knows how much there is: each of its warps 28 pieces behind
 * the header, a warp that is a unit all of the first 512 bytes of the payload. */
#define GQ_EARLY (28 * (GQ_COPY_STEP / 32) + (Q_GRANULARITY == 1 ? 4 : 0))

/*
 * Bring a message over and decide on it: one load of each lane, header and payload in one round
 * trip.
 */
GQ_DEV void gq_fetch(const struct gq_grid *g, struct gq_shared *s, const struct gq_unit *u,
		     uint32_t unit_in_block, uint32_t slot)
{
	const gq_wide *from = (const gq_wide *)(const void *)gq_slot_at(&g->ch, slot);
	gq_wide *stage = (gq_wide *)(void *)gq_stage(g, u->number * g->batch);
	const uint32_t end = (GQ_PAYLOAD_OFFSET + g->slot_bytes) / GQ_PIECE,
		       head = GQ_PAYLOAD_OFFSET / GQ_PIECE;
	gq_wide piece[GQ_OWN], more[GQ_OWN];

	GQ_EACH_LANE(l)
	{
		const uint32_t i = l < head ? l : l + 28 * (GQ_COPY_RANK(l) / 32);

		piece[GQ_AT(l)] = more[GQ_AT(l)] = GQ_NO_PIECE;
		if (i < end)
			piece[GQ_AT(l)] = gq_fetch_piece(from, i);
		if (Q_GRANULARITY == 1 && l < head && l + 32 < end)
			more[GQ_AT(l)] = gq_fetch_piece(from, l + 32);
	}
	if (Q_GRANULARITY == 1 || GQ_WARP_IN_BLOCK == 0) {
		struct gq_words w;

		gq_words_of(piece, &w);
		gq_open_one(g, s, u, unit_in_block, &w, slot, u->told);
	}
	GQ_EACH_LANE(l)
	{
		const uint32_t i = l < head ? l : l + 28 * (GQ_COPY_RANK(l) / 32);

		if (l >= head && i < end)
			gq_store_wide(&stage[i - head], piece[GQ_AT(l)]);
		if (Q_GRANULARITY == 1 && l < head && l + 32 < end)
			gq_store_wide(&stage[l + 32 - head], more[GQ_AT(l)]);
	}
}

/* What is behind that of a long message. All threads of the unit, behind its barrier. */
GQ_DEV void gq_fetch_rest(const struct gq_grid *g, const struct gq_shared *s,
			  const struct gq_unit *u, uint32_t unit_in_block, uint32_t slot)
{
	const struct gq_header *h = &s->header[unit_in_block];
	uint8_t *stage = gq_stage(g, u->number * g->batch);
	const uint32_t done = GQ_EARLY * GQ_PIECE;

	if (h->len <= done || h->payload != stage)
		return;
	GQ_EACH_LANE(l)
	gq_move(stage + done, gq_payload_at(&g->ch, slot) + done, h->len - done, GQ_COPY_RANK(l),
		GQ_COPY_STEP);
	gq_sync_unit();
}

#else

/* What a lane keeps of its message. */
struct gq_message {
	const uint8_t *payload;
	uint64_t id, tag;
	uint32_t len, opcode, outcome;
};

enum { GQ_LINE_PIECES = 8 }; /* of a slot, that are read before its length is known */

/* So many lanes move each of `n` messages. */
GQ_DEV uint32_t gq_lanes_for_each(uint32_t n)
{
	return n <= 1 ? 32 : n <= 2 ? 16 : n <= 4 ? 8 : 4;
}

/* Bytes `from` and `to` of each of `n` messages, several at once. */
GQ_DEV void gq_move_payloads(const struct gq_grid *g, uint32_t first, uint32_t n,
			     const uint32_t (&slot)[GQ_OWN], const uint32_t (&len)[GQ_OWN],
			     uint32_t done)
{
	const uint32_t width = gq_lanes_for_each(n);

	for (uint32_t i = 0; i < n; i += 32 / width)
		GQ_EACH_LANE(l)
		{
			const uint32_t k = i + l / width, of = gq_from_other(slot, l, k),
				       bytes = gq_from_other(len, l, k);

			if (k < n && bytes > done)
				gq_move(gq_stage(g, first + k) + done,
					gq_payload_at(&g->ch, of) + done, bytes - done, l % width,
					width);
		}
}

GQ_DEV void gq_move_results(const struct gq_grid *g, uint32_t first, uint32_t n,
			    const uint32_t (&slot)[GQ_OWN], const uint32_t (&len)[GQ_OWN])
{
	const uint32_t width = gq_lanes_for_each(n);

	for (uint32_t i = 0; i < n; i += 32 / width)
		GQ_EACH_LANE(l)
		{
			const uint32_t k = i + l / width, of = gq_from_other(slot, l, k),
				       bytes = gq_from_other(len, l, k);

			if (k < n)
				gq_move(gq_result_at(&g->ch, of),
					gq_stage(g, first + k) + g->stage_result, bytes, l % width,
					width);
		}
}

/*
 * Bring a warp's messages over and decide on them. First the line of each that has the header:
 * eight lanes a message, four messages a load, all loads at once. The headers go where the results
 * will be, and each lane reads its own.
 */
GQ_DEV void gq_fetch(const struct gq_grid *g, struct gq_shared *s, const struct gq_unit *u,
		     uint32_t unit_in_block, const uint32_t (&slot)[GQ_OWN], uint32_t n,
		     struct gq_message (&m)[GQ_OWN])
{
	enum { LOADS = GQ_LINE_PIECES };
	const uint32_t first = u->number * g->batch, head = GQ_PAYLOAD_OFFSET / GQ_PIECE,
		       end = (GQ_PAYLOAD_OFFSET + g->slot_bytes) / GQ_PIECE;
	gq_wide piece[LOADS][GQ_OWN];
	uint32_t len[GQ_OWN];

	GQ_EACH_LANE(l)
	{
		const uint32_t p = l % GQ_LINE_PIECES;

		GQ_UNROLL
		for (uint32_t j = 0; j < LOADS; j++) {
			const uint32_t k = 32 / GQ_LINE_PIECES * j + l / GQ_LINE_PIECES,
				       of = gq_from_other(slot, l, k);

			piece[j][GQ_AT(l)] = GQ_NO_PIECE;
			if (k < n && p < end)
				piece[j][GQ_AT(l)] = gq_fetch_piece(
					(const gq_wide *)(const void *)gq_slot_at(&g->ch, of), p);
		}
	}
	const uint64_t control = u->told, ahead_ns = gq_order(u, GQ_AHEAD_NS);

	GQ_EACH_LANE(l)
	{
		const uint32_t p = l % GQ_LINE_PIECES;

		GQ_UNROLL
		for (uint32_t j = 0; j < LOADS; j++) {
			const uint32_t k = 32 / GQ_LINE_PIECES * j + l / GQ_LINE_PIECES;
			gq_wide *to = (gq_wide *)(void *)gq_stage(g, first + k);

			if (k < n && p < end)
				gq_store_wide(p < head ? to + g->stage_result / GQ_PIECE + p
						       : to + p - head,
					      piece[j][GQ_AT(l)]);
		}
	}
	gq_sync_warp();
	if (GQ_IS_LANE_0)
		gq_let_go(g, u);
	GQ_EACH_LANE(l)
	{
		struct gq_message *mine = &m[GQ_AT(l)];
		const gq_wide *h =
			(const gq_wide *)(const void *)(gq_stage(g, first + l) + g->stage_result);

		mine->len = len[GQ_AT(l)] = 0;
		if (l >= n)
			continue;
		const struct gq_words w = {
			h[0].a, h[0].b, h[1].a, h[1].b, h[2].a, h[2].b, h[3].b
		};

		*mine = { gq_stage(g, first + l),         w.id, w.tag, (uint32_t)w.len_opcode,
			  (uint32_t)(w.len_opcode >> 32), 0 };
		gq_open_message(g, s, unit_in_block * 32 + l, slot[GQ_AT(l)], &w, control, ahead_ns,
				&mine->payload);
		if (mine->payload == gq_stage(g, first + l))
			len[GQ_AT(l)] = mine->len;
		if (l == 0)
			gq_learn_pool_lead(g, u, w.id);
	}
	gq_move_payloads(g, first, n, slot, len, (GQ_LINE_PIECES - head) * GQ_PIECE);
}

/* The same for a message that came with the look, which is staged and decided on already. */
GQ_DEV void gq_find_staged(const struct gq_shared *s, uint32_t unit_in_block, uint32_t n,
			   struct gq_message (&m)[GQ_OWN])
{
	const struct gq_header *h = &s->header[unit_in_block];

	GQ_EACH_LANE(l)
	m[GQ_AT(l)] = { h->payload, h->id, h->tag, l < n ? h->len : 0, h->opcode, 0 };
}

#endif

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
 * tells the reaper when all have arrived. The ticket is on its way while the seal is made. By one
 * warp, all of whose stores of a result of one line are one.
 */
GQ_DEV void gq_deliver_sealed(const struct gq_grid *g, uint32_t place, uint32_t slot, uint64_t id,
			      uint32_t len)
{
	const struct gq_channel *ch = &g->ch;
	const gq_wide *from = (const gq_wide *)(const void *)(gq_stage(g, place) + g->stage_result);
	gq_wide *to = (gq_wide *)(void *)gq_result_at(ch, slot);
	gq_wide piece[GQ_SEALED_PIECES][GQ_OWN];
	const uint32_t n = gq_pieces(len), outcome = len | GQ_OUTCOME_SEALED;
	const bool result_first = gq_result_first();
	uint64_t part[GQ_OWN], pos = 0, seal;

	if (GQ_IS_LANE_0)
		pos = gq_begin_ticket(ch->done.tail);
	GQ_EACH_LANE(l)
	{
		part[GQ_AT(l)] = 0;
		GQ_UNROLL
		for (uint32_t j = 0; j < GQ_SEALED_PIECES; j++) {
			const uint32_t i = l + 32 * j;

			piece[j][GQ_AT(l)] = GQ_NO_PIECE;
			if (i >= n)
				continue;
			piece[j][GQ_AT(l)] = from[i];
			part[GQ_AT(l)] += gq_seal_piece(ch->seal_key, i, piece[j][GQ_AT(l)].a,
							piece[j][GQ_AT(l)].b);
		}
	}
	seal = gq_sum(part) + gq_seal_id(ch->seal_key, id);
	if (GQ_IS_LANE_0 && !result_first)
		gq_complete_at(ch, pos, slot, outcome, GQ_FENCED);
	GQ_EACH_LANE(l)
	{
		const bool is_seal = l == n; /* none, if all lanes have a piece */

		GQ_WINDOW();
		if (l <= n)
			gq_post_result(is_seal ? (gq_wide *)(void *)gq_result_seal_at(ch, slot)
					       : &to[l],
				       is_seal ? gq_wide{ seal, 0 } : piece[0][GQ_AT(l)], is_seal);
	}
	if (n > 32)
		GQ_EACH_LANE(l)
	if (l + 32 < n)
		gq_post_result(&to[l + 32], piece[1][GQ_AT(l)], false);
	if (GQ_IS_LANE_0) {
		if (n >= 32)
			gq_store_posted_u64(gq_result_seal_at(ch, slot), seal); /* [seal.write] */
		if (result_first)
			gq_complete_at(ch, pos, slot, outcome, GQ_FENCED);
	}
}

/* The outcome of a message, whose processor, if it was run, has returned. */
GQ_DEV uint32_t gq_outcome_at(const struct gq_grid *g, const struct gq_shared *s, uint32_t at)
{
	return s->decided[at] != 0
		       ? s->decided[at]
		       : gq_outcome_of(s->status[at], s->out_len[at], g->ch.result_bytes);
}

GQ_DEV uint32_t gq_result_len(uint32_t outcome)
{
	return outcome <= GQ_OUTCOME_MAX_LEN ? outcome : 0;
}

/* Move the one result out and complete, by a seal if it is short. @return false: it is not. */
GQ_DEV bool gq_deliver_short(const struct gq_grid *g, const struct gq_unit *u, uint32_t slot,
			     uint64_t id, uint32_t len)
{
	if (len == 0 || len > g->ch.sealed_bytes)
		return false;
	if (Q_GRANULARITY != 2 || GQ_WARP_IN_BLOCK == 0) {
		if (GQ_IS_LANE_0)
			gq_release_work();
		if (GQ_FENCED)
			gq_sync_warp(); /* no lane's piece of the result is waited for */
		gq_deliver_sealed(g, u->number * g->batch, slot, id, len);
	}
	gq_sync_unit(); /* the staged result is the next message's now */
	return true;
}

#if Q_GRANULARITY != 0

/* Move the result out and complete. */
GQ_DEV void gq_deliver(const struct gq_grid *g, const struct gq_shared *s, const struct gq_unit *u,
		       uint32_t unit_in_block, uint32_t slot)
{
	const uint32_t outcome = gq_outcome_at(g, s, unit_in_block * 32),
		       len = gq_result_len(outcome);

	if (gq_deliver_short(g, u, slot, s->header[unit_in_block].id, len))
		return;
	GQ_EACH_LANE(l)
	gq_move(gq_result_at(&g->ch, slot), gq_stage(g, u->number * g->batch) + g->stage_result,
		len, GQ_COPY_RANK(l), GQ_COPY_STEP);
	gq_sync_unit(); /* all threads' stores come before the completion, which releases them */
	GQ_EACH_LANE(l)
	if (GQ_COPY_RANK(l) == 0) {
		if (len == 0)
			gq_release_work(); /* a result's own release does that too */
		/* [message.complete] */
		gq_complete_at(&g->ch, gq_take_ticket(g->ch.done.tail, 1), slot, outcome,
			       GQ_FENCED);
	}
}

#else

/* Move the results out and complete: of several, all releases at once are cheaper than seals. They
 * get neighbouring tickets, so that their entries are one store. */
GQ_DEV void gq_deliver(const struct gq_grid *g, const struct gq_unit *u,
		       const uint32_t (&slot)[GQ_OWN], uint32_t n, struct gq_message (&m)[GQ_OWN])
{
	const uint32_t first = u->number * g->batch;
	uint32_t len[GQ_OWN];
	uint64_t id[GQ_OWN], pos = 0;

	GQ_EACH_LANE(l)
	{
		len[GQ_AT(l)] = l < n ? gq_result_len(m[GQ_AT(l)].outcome) : 0;
		id[GQ_AT(l)] = m[GQ_AT(l)].id;
	}
	if (n == 1 && gq_deliver_short(g, u, gq_from(slot, 0), gq_from(id, 0), gq_from(len, 0)))
		return;
	gq_move_results(g, first, n, slot, len);
	gq_sync_warp(); /* all lanes' stores come before the completions, which release them */
	GQ_EACH_LANE(l)
	if (l < n && len[GQ_AT(l)] == 0)
		gq_release_work(); /* a result's own release does that too */
	if (GQ_IS_LANE_0)
		pos = gq_take_ticket(g->ch.done.tail, n);
	pos = gq_wide_from_lane_0(pos);
	GQ_EACH_LANE(l)
	if (l < n) /* [message.complete] */
		gq_complete_at(&g->ch, pos + l, slot[GQ_AT(l)], m[GQ_AT(l)].outcome, GQ_FENCED);
}

#endif

/* Tell the trace, on the host's clock. By the threads that complete: [message.complete] releases
 * it. */
GQ_DEV void gq_stamp_unit(const struct gq_grid *g, const struct gq_unit *u,
			  const uint32_t (&slot)[GQ_OWN], uint32_t n, uint64_t claimed)
{
	const uint64_t done = gq_clock_ns(), ahead_ns = gq_order(u, GQ_AHEAD_NS);

	GQ_EACH_LANE(l)
	if (GQ_SEES_TO(l, n))
		gq_note_times(&g->ch, slot[GQ_AT(l)], claimed + ahead_ns, done + ahead_ns,
			      u->number * g->batch + GQ_PLACE(l));
}

/* Run the processor on a message, or on one of several. `at`: in the block; `place`: in the grid.
 */
GQ_DEV void gq_run(const struct gq_grid *g, struct gq_shared *s, uint32_t at, uint32_t place,
		   const struct gq_header *h)
{
	const MsgView in = { h->payload, h->len,     h->id,           h->opcode,
			     h->tag,     g->ch.user, g->ch.user_bytes };
	ResultView out = { gq_stage(g, place) + g->stage_result, g->ch.result_bytes,
			   &s->out_len[at], &s->status[at] };

	process_message(in, &out);
}

/*
 * Process the messages a unit has claimed.
 * @param slot   lane l's is that of the l-th; where a unit has one message, it is in all lanes
 * @param whole  it came with the look
 */
#if Q_GRANULARITY != 0
GQ_DEV void gq_serve(const struct gq_grid *g, struct gq_shared *s, struct gq_unit *u,
		     uint32_t unit_in_block, const uint32_t (&slots)[GQ_OWN], uint32_t n,
		     bool whole)
{
	const uint64_t claimed = g->ch.stamps != NULL ? gq_clock_ns() : 0;
	const uint32_t slot = slots[0];

	if (!whole)
		gq_fetch(g, s, u, unit_in_block, slot);
	gq_sync_unit();
	if (!whole)
		gq_fetch_rest(g, s, u, unit_in_block, slot);
	gq_count(u, messages, 1);
	gq_end_phase(u, fetch_cycles);
	if (s->decided[unit_in_block * 32] == 0) /* under the stand-in a unit is one caller */
		gq_run(g, s, unit_in_block * 32, u->number * g->batch, &s->header[unit_in_block]);
	gq_sync_unit();
	gq_end_phase(u, run_cycles);
	if (g->ch.stamps != NULL)
		gq_stamp_unit(g, u, slots, n, claimed);
	gq_deliver(g, s, u, unit_in_block, slot);
	gq_end_phase(u, deliver_cycles);
}
#else
GQ_DEV void gq_serve(const struct gq_grid *g, struct gq_shared *s, struct gq_unit *u,
		     uint32_t unit_in_block, const uint32_t (&slot)[GQ_OWN], uint32_t n, bool whole)
{
	const uint32_t first = u->number * g->batch, at = unit_in_block * 32;
	const uint64_t claimed = g->ch.stamps != NULL ? gq_clock_ns() : 0;
	struct gq_message m[GQ_OWN];

	if (whole)
		gq_sync_warp();
	if (whole)
		gq_find_staged(s, unit_in_block, n, m);
	else
		gq_fetch(g, s, u, unit_in_block, slot, n, m);
	gq_sync_warp();
	gq_count(u, messages, n);
	gq_end_phase(u, fetch_cycles);
	GQ_EACH_LANE(l)
	if (l < n && s->decided[at + l] == 0) {
		const struct gq_message *mine = &m[GQ_AT(l)];
		const struct gq_header h = { mine->payload, mine->id, mine->tag, mine->len,
					     mine->opcode };

		gq_run(g, s, at + l, first + l, &h);
	}
	gq_sync_warp();
	gq_end_phase(u, run_cycles);
	GQ_EACH_LANE(l)
	if (l < n)
		m[GQ_AT(l)].outcome = gq_outcome_at(g, s, at + l);
	if (g->ch.stamps != NULL)
		gq_stamp_unit(g, u, slot, n, claimed);
	gq_deliver(g, u, slot, n, m);
	gq_end_phase(u, deliver_cycles);
}
#endif

#endif /* GPUQ_CUDA_GRID_MESSAGE_CUH */
