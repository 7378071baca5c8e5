/* SPDX-License-Identifier: Apache-2.0 */
/*
 * publish_claim.pml - a message's way: publish (gq_publish), claim (gq_claim_from), complete
 * (gq_complete), reap (gq_reap), and the reuse of entries and slots lap after lap.
 *
 * PRODUCERS producers send ROUNDS messages each through one class ring, CONSUMERS consumers run
 * them, one reaper returns the slots. The pool is one atomic step here: it is pool.pml's subject.
 * A producer may stop for good between taking its slot and publishing (STALL): the others must
 * finish all the same, as long as there is another slot.
 *
 * Holds: every message runs exactly once, with its own content; with one consumer each producer's
 * messages run in order; neither ring overflows; everything published is finished.
 *
 * ALONE: the only producer publishes by plain stores (gq_publish_alone()). With a second producer that
 * must fail.
 *
 * LAZY: a consumer puts completions from where its last one went, and raises the tail when it comes to
 * an even position (gq_complete_next()). Holds, too: the tail is less than a lap behind.
 *
 *   BREAK_LAZY_TAIL    (LAZY) it never raises the tail for its own
 *   BREAK_PLAIN_HEAD   the cursor is stored, not swapped: one message, two consumers
 *   BREAK_TICKET       consumers take positions by fetch-add and wait there: one that dozes lets
 *                      its entry be overwritten
 *   BREAK_FILL_LATE    the slot is filled after it was published: another's content
 *   BREAK_EARLY_FREE   the slot returns before its completion is reaped: the completion ring
 *                      overflows
 *   BREAK_NO_LAP       tags leave out the lap
 *   BREAK_PLAIN_TOUCH  a consumer writes the entry back as it was by a load and a store; the code's
 *                      gq_word_ring_touch() is one step that changes nothing, so it is none here
 */
#include "ring.pml.h"
#ifndef PRODUCERS
#define PRODUCERS 2
#endif
#ifndef CONSUMERS
#define CONSUMERS 2
#endif
#ifndef ROUNDS
#define ROUNDS 2
#endif
#define MESSAGES (PRODUCERS * ROUNDS)

int ready[CAP], done[CAP];
byte ready_head = START, ready_tail = START, done_head = START, done_tail = START;
bool free[CAP];
byte slot_msg[CAP];    /* message number + 1; 0: cleared by who freed it */
byte ran[MESSAGES];
byte last[PRODUCERS];  /* last round that ran, + 1 */
byte finished, published, stalled;

#define RAISE_TAIL(ring_tail) \
	t = ring_tail; \
	do \
	:: BEHIND(t, p) -> \
		d_step { \
			if \
			:: ring_tail == t -> ring_tail = p \
			:: else \
			fi \
		}; \
		t = ring_tail \
	:: else -> break \
	od

#ifdef BREAK_LAZY_TAIL
#define IS_RAISED(p) false
#else
#define IS_RAISED(p) ((p) % 2 == 0)
#endif
#ifdef LAZY
#define LESS_THAN_A_LAP(a, b) BEHIND(a, POS((b) + CAP))
#else
#define LESS_THAN_A_LAP(a, b) true
#endif

/* Macros: Spin does not pass arrays to inlines. */
#define PUT(ring, ring_tail, ring_head, v) \
	p = ring_tail; \
	PUT_FROM(ring, ring_tail, ring_head, v); \
	RAISE_TAIL(ring_tail)

#define PUT_FROM(ring, ring_tail, ring_head, v) \
	do \
	:: true -> \
		old = ring[IDX(p)]; \
		if \
		:: TAG(old) == TAG_OF(p) -> p = POS(p + 1); RAISE_TAIL(ring_tail) \
		:: else -> \
			if \
			:: TAG(old) == TAG_OF(p - CAP) -> \
				d_step { \
					cas = (ring[IDX(p)] == old); \
					if \
					:: cas -> \
						assert(BEHIND(p - CAP, ring_head)); \
						assert(LESS_THAN_A_LAP(p, ring_tail)); \
						ring[IDX(p)] = WORD(p, v); \
						p = POS(p + 1) \
					:: else \
					fi \
				}; \
				if \
				:: cas -> break \
				:: else \
				fi \
			:: else -> p = ring_tail \
			fi \
		fi \
	od

inline pool_pop()
{
	atomic {
		if
		:: free[0] -> slot = 0
#if CAP > 1
		:: free[1] -> slot = 1
#endif
#if CAP > 2
		:: free[2] -> slot = 2
		:: free[3] -> slot = 3
#endif
		fi; /* waits until there is one */
		free[slot] = false
	}
}

#ifdef ALONE
#define PUBLISH(v) \
	p = ready_tail; \
	d_step { \
		assert(TAG(ready[IDX(p)]) == TAG_OF(p - CAP)); \
		assert(BEHIND(p - CAP, ready_head)); \
		ready[IDX(p)] = WORD(p, v) \
	}; \
	p = POS(p + 1); \
	ready_tail = p
#else
#define PUBLISH(v) PUT(ready, ready_tail, ready_head, v)
#endif

proctype producer(byte me)
{
	byte p, t, round, slot;
	int old;
	bool cas;

	do
	:: round < ROUNDS ->
		pool_pop();
#ifdef STALL
		if
		:: true
		:: atomic { stalled == 0 -> stalled = 1 }; goto end /* for good, slot in hand */
		fi;
#endif
#ifdef BREAK_FILL_LATE
		PUBLISH(slot);
		slot_msg[slot] = me * ROUNDS + round + 1;
#else
		slot_msg[slot] = me * ROUNDS + round + 1;
		PUBLISH(slot);
#endif
		published++;
		round++
	:: else -> break
	od;
end:
	skip
}

inline run_message()
{
	d_step {
		m = slot_msg[slot];
		assert(m != 0);
		m--;
		ran[m]++;
		assert(ran[m] == 1);
#if CONSUMERS == 1
		assert(last[m / ROUNDS] == m % ROUNDS);
		last[m / ROUNDS] = m % ROUNDS + 1;
#endif
		m = 0
	}
}

proctype consumer()
{
	byte p, t, m, slot;
	int old;
	bool cas;
#ifdef LAZY
	byte last_put = START;
#endif

end:
	do
#ifdef BREAK_TICKET
	:: d_step { p = ready_head; ready_head = POS(p + 1); }
end_ticket:
		atomic { TAG(ready[IDX(p)]) == TAG_OF(p) -> old = ready[IDX(p)] };
		slot = VALUE(old);
#else
	:: TAG(ready[IDX(ready_head)]) != TAG_OF(POS(ready_head - CAP)) ->
		p = ready_head;
		old = ready[IDX(p)];
		if
		:: TAG(old) != TAG_OF(p) -> goto end
		:: else
		fi;
#ifdef BREAK_PLAIN_HEAD
		ready_head = POS(p + 1);
#else
		d_step {
			cas = (ready_head == p);
			if
			:: cas -> ready_head = POS(p + 1)
			:: else
			fi
		};
		if
		:: !cas -> goto end
		:: else
		fi;
#endif
		slot = VALUE(old);
#endif
#ifdef BREAK_PLAIN_TOUCH
		old = ready[IDX(p)];
		ready[IDX(p)] = old;
#endif
		run_message();
#ifdef BREAK_EARLY_FREE
		d_step { slot_msg[slot] = 0; free[slot] = true; }
#endif
#ifdef LAZY
		p = last_put;
		PUT_FROM(done, done_tail, done_head, slot);
		last_put = p;
		if
		:: IS_RAISED(p) -> RAISE_TAIL(done_tail)
		:: else
		fi
#else
		PUT(done, done_tail, done_head, slot)
#endif
	od
}

proctype reaper()
{
	byte slot;

end:
	do
	:: TAG(done[IDX(done_head)]) == TAG_OF(done_head) ->
		d_step {
			slot = VALUE(done[IDX(done_head)]);
			done_head = POS(done_head + 1)
		};
		finished++;
#ifndef BREAK_EARLY_FREE
		d_step { slot_msg[slot] = 0; assert(!free[slot]); free[slot] = true; }
#endif
	od
}

init
{
	byte i;

	atomic {
		for (i : 0 .. CAP - 1) {
			ready[IDX(START + i)] = WORD(START - CAP + i, 0);
			done[IDX(START + i)] = WORD(START - CAP + i, 0);
			free[i] = true
		}
		for (i : 0 .. PRODUCERS - 1) {
			run producer(i)
		}
		for (i : 1 .. CONSUMERS) {
			run consumer()
		}
		run reaper()
	}
	/* Nothing can move any more: then everything published has finished, and, unless a stalled
	 * producer held the only slot, the other producer has sent all it had. */
	timeout ->
	assert(finished == published);
#if defined(STALL) && CAP > 1
	assert(stalled == 0 || published >= ROUNDS);
#endif
#ifndef STALL
	assert(published == MESSAGES)
#endif
}
