/* SPDX-License-Identifier: Apache-2.0 */
/*
 * slip.h - keeping the two sides of a busy ring apart; private to the ring.
 *
 * Where a receiver has caught up with a sender, or a full ring's sender with a receiver, both use
 * the same lines at the same time, and each message costs several trips of a line between the
 * cores. A few hundred nanoseconds of distance and neither meets the other's lines for many
 * messages. So on a ring on which messages come one after the other
 *
 *   - a receiver that finds nothing looks once more, 32 pauses later, before it says so;
 *   - a sender that comes near the end of the free cells waits a little until more of them are
 * back.
 *
 * Both are short, say nothing about the answer (EMPTY and FULL are as exact as without), and stop
 * themselves for a while where they were in vain. A receiver waits only where messages come in long
 * runs: it has received at least GQ_SLIP_STREAK since it found nothing. So a message that comes
 * alone is not delayed.
 *
 * Short runs are of two kinds, and nothing tells them apart from outside: either messages come
 * slowly, or the two sides have got into lockstep, in which each message is taken as it comes and
 * the lines that they share cost more than the messages. So a receiver makes a trial once in many
 * messages: it waits, and if a long run follows, it was lockstep. If not, the next trial comes
 * twice as late, so that few messages are delayed for it.
 */
#ifndef GPUQ_RING_SLIP_H
#define GPUQ_RING_SLIP_H

#include "host/ring/extent.h"

enum {
	GQ_SLIP_STREAK = 16,        /* messages in a row after which a receiver waits */
	GQ_SLIP_TRIAL = 64,         /* messages in short runs before a trial: */
	GQ_SLIP_TRIALS = 6,         /* doubled after each in vain, so many times */
	GQ_SLIP_PAUSES = 32,        /* how long */
	GQ_SLIP_RECEIVE_REST = 16,  /* after a wait in vain, receives without one */
	GQ_SLIP_SEND_TURNS = 32,    /* of eight pauses: how long a sender waits */
	GQ_SLIP_SEND_REST = 64,     /* after a wait in vain, sends without one */
	GQ_SLIP_SMALLEST_RING = 512 /* cells: tails say too little of a smaller one */
};

/* A receiver has found nothing. @return whether to look again. *waited: to begin with false. */
static inline bool gq_slip_receive(struct gq_ring_pace *pace, bool *waited)
{
	if (*waited) {
		pace->rest = GQ_SLIP_RECEIVE_REST;
		return false;
	}
	if (pace->streak >= GQ_SLIP_STREAK) {
		pace->trials = 0;
		if (pace->rest != 0) {
			pace->rest--;
			return false;
		}
	} else {
		pace->untried += pace->streak;
		if (pace->untried < (uint32_t)GQ_SLIP_TRIAL << pace->trials)
			return false;
		if (pace->trials < GQ_SLIP_TRIALS)
			pace->trials++;
	}
	pace->untried = 0;
	*waited = true;
	for (int i = 0; i < GQ_SLIP_PAUSES; i++)
		gq_cpu_relax();
	return true;
}

/* Single mode: how many messages' cells are free. */
static inline int64_t gq_slip_received(const struct gq_box *b)
{
	int64_t sum = 0;

	for (uint32_t c = 0; c < b->classes; c++)
		sum += gq_head_distance(gq_head_pos(gq_load_relaxed_u64(b->ready[c].head)),
					gq_load_relaxed_u64(&b->reused[c]));
	return sum;
}

/* Learn how much is free behind `pos` of the pool, and wait a little if that is little. */
static __attribute__((noinline)) void gq_slip_send_slowly(const struct gq_box *b,
							  struct gq_ring_local *local, uint64_t pos)
{
	const int64_t enough = (int64_t)(gq_box_cells(b) / 4);
	const uint64_t head = gq_head_of(pos);
	uint64_t before = gq_load_acquire_u64(b->pool.tail), tail = before; /* [tail.read] */

	if (gq_box_cells(b) < GQ_SLIP_SMALLEST_RING) {
		local->free_until = pos + GQ_SLIP_SMALLEST_RING;
		return;
	}
	if (gq_head_distance(tail, head) < enough && local->send_rest != 0) {
		local->send_rest--;
	} else if (gq_head_distance(tail, head) < enough) {
		for (int i = 0; i < GQ_SLIP_SEND_TURNS && gq_head_distance(tail, head) < enough;
		     i++) {
			for (int k = 0; k < 8; k++)
				gq_cpu_relax();
			tail = gq_load_acquire_u64(b->pool.tail); /* [tail.read] */
		}
		if (tail == before)
			local->send_rest = GQ_SLIP_SEND_REST;
	}
	local->free_until = gq_head_distance(tail, head) < enough ? pos + 16 : tail;
}

/* The same in single mode: the sender has used up what it knew to be free. */
static inline void gq_slip_reuse(const struct gq_box *b, struct gq_ring_local *local)
{
	const int64_t enough = (int64_t)(gq_box_cells(b) / 4);
	int64_t before = gq_slip_received(b), now = before;

	if (gq_box_cells(b) < GQ_SLIP_SMALLEST_RING || now >= enough)
		return;
	if (local->send_rest != 0) {
		if (now > 0)
			local->send_rest--;
		return;
	}
	for (int i = 0; i < GQ_SLIP_SEND_TURNS && now < enough; i++) {
		for (int k = 0; k < 8; k++)
			gq_cpu_relax();
		now = gq_slip_received(b);
	}
	if (now < enough)
		local->send_rest = now == before ? GQ_SLIP_SEND_REST : 16;
}

/* Before a sender takes cells. */
GQ_ALWAYS_INLINE void gq_slip_send(const struct gq_box *b, struct gq_ring_local *local)
{
	const uint64_t head = gq_load_relaxed_u64(b->pool.head);

	if (__builtin_expect(gq_head_distance(local->free_until, head) <= 0, 0))
		gq_slip_send_slowly(b, local, gq_head_pos(head));
}

#endif /* GPUQ_RING_SLIP_H */
