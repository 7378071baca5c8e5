/* SPDX-License-Identifier: Apache-2.0 */
/*
 * claim.pml - what a consumer remembers from one claim to the next (struct gq_claimer of claim.h):
 * gq_claim_of() with the entry at which a class was found empty, and with the starvation guard.
 *
 * A producer sends MESSAGES messages, of any class, through two class rings; CONSUMERS consumers run
 * them. Publishing is one atomic step here, as is the pool: they are publish_claim.pml's and pool.pml's
 * subjects. So is the wait for a message (park.pml). A message runs, and its slot is free,
 * at the step that claims it, so entries are reused as early as they can be. Each load of a head, each load
 * of an entry, and each swap of a head is a step of its own, so any head may be old.
 *
 * Holds: where a consumer takes a class to be empty still, it is. A message of the higher class that
 * waits before a claim begins, and is not claimed by another meanwhile, is not passed over for one of the
 * lower class, except by the guard. Every message runs exactly once, and all do. GUARD, there is one: a consumer passes a
 * message at the front of the lower class over at most LIMIT times.
 *
 *   BREAK_REMEMBER_HEAD  it remembers the position of the head, and not the word of the entry there: a
 *                        message has been published, and nobody has claimed it
 *   BREAK_STALE_HEAD     an entry that does not hold the position's message is taken for an empty one, also
 *                        if it has been lapped
 *   BREAK_NOTE_AGAIN     it remembers the word of another load than the one that it has looked at
 *   BREAK_SLEEP_ALONE    it waits for a message of the class that it remembers alone
 *   BREAK_NOT_LOWER      it compares higher classes alone, so that the guard does not count (GUARD)
 *   BREAK_NO_GUARD       it counts, and never looks at the count (GUARD)
 */
#include "ring.pml.h"
#ifndef CONSUMERS
#define CONSUMERS 2
#endif
#ifndef MESSAGES
#define MESSAGES 4
#endif
#ifndef LIMIT
#define LIMIT 1 /* GQ_PASS_LIMIT */
#endif
#define LOW      0
#define HIGH     1
#define OTHER(c) (1 - (c))

int ready[2 * CAP];
byte head[2] = START, tail[2] = START;
bool free[CAP];
byte slot_msg[CAP]; /* message number + 1; 0: cleared by who freed it */
bool ran[MESSAGES];
byte finished;

#define ENTRY(c, p)    ready[(c) * CAP + IDX(p)]
#define HOLDS(c)       (TAG(ENTRY(c, head[c])) == TAG_OF(head[c]))
#define MAY_HOLD(c)    (TAG(ENTRY(c, head[c])) != TAG_OF(POS(head[c] - CAP))) /* gq_word_ring_may_hold */
#ifdef BREAK_STALE_HEAD
#define WAS_EMPTY(w, p) (TAG(w) != TAG_OF(p))
#else
#define WAS_EMPTY(w, p) (TAG(w) == TAG_OF(POS(p - CAP)))
#endif

proctype producer()
{
	byte sent, slot, c;

	do
	:: sent < MESSAGES ->
		atomic {
			if
			:: free[0] -> slot = 0
#if CAP > 1
			:: free[1] -> slot = 1
#endif
			fi; /* waits until there is one */
			if
			:: c = LOW
			:: c = HIGH
			fi;
			free[slot] = false;
			slot_msg[slot] = sent + 1;
			assert(TAG(ENTRY(c, tail[c])) == TAG_OF(POS(tail[c] - CAP)));
			ENTRY(c, tail[c]) = WORD(tail[c], slot);
			tail[c] = POS(tail[c] + 1);
			slot = 0;
			c = 0;
			sent++
		}
	:: else -> break
	od
}

/* What a message is passed over by: a claim of the higher class that began when it was at the front. */
#ifdef GUARD
#define NOTE_FRONT \
	; front = HOLDS(LOW); \
	if \
	:: front && front_pos != head[LOW] -> front_pos = head[LOW]; over = 0 \
	:: else \
	fi
#define COUNT_OVER(c) \
	; if \
	:: c == HIGH && front && front_pos == head[LOW] -> over++; assert(over <= LIMIT) \
	:: else \
	fi
#define COUNT_PASSED(n) passed = (n)
#else
#define NOTE_FRONT
#define COUNT_PASSED(n) skip
#define COUNT_OVER(c)
#endif

#define RUN(slot) \
	assert(slot_msg[slot] != 0 && !ran[slot_msg[slot] - 1]); \
	ran[slot_msg[slot] - 1] = true; \
	slot_msg[slot] = 0; \
	free[slot] = true; \
	finished++

/* gq_claim_or_note(): `got`; else the class was empty at position p, entry word w. */
#define CLAIM(c) \
	got = false; \
	do \
	:: true -> \
		p = head[c]; \
		w = ENTRY(c, p); \
		if \
		:: TAG(w) == TAG_OF(p) -> \
			d_step { \
				if \
				:: head[c] == p -> \
					head[c] = POS(p + 1); \
					got = true; \
					assert(c == HIGH || guarded || !high_waited || high_pos != head[HIGH]) \
					COUNT_OVER(c); \
					RUN(VALUE(w)) \
				:: else \
				fi \
			}; \
			if \
			:: got -> break \
			:: else \
			fi \
		:: else -> \
			if \
			:: WAS_EMPTY(w, p) -> break \
			:: else /* the head was old */ \
			fi \
		fi \
	od

/* Two classes, so one other: `at` and `word` are of the class that is not `alone_in`. */
#ifdef BREAK_NOTE_AGAIN
#define NOTE(c) at = p; word = ENTRY(c, p)
#else
#define NOTE(c) at = p; word = w
#endif
#ifdef BREAK_REMEMBER_HEAD
#define SAME(c) (head[c] == at)
#else
#define SAME(c) (ENTRY(c, at) == word)
#endif
#ifdef BREAK_NOT_LOWER
#define IS_STILL_EMPTY(c) ((c) == LOW || SAME(c))
#else
#define IS_STILL_EMPTY(c) SAME(c)
#endif
#ifdef BREAK_SLEEP_ALONE
#define WORK_WAITS ((!alone && (MAY_HOLD(LOW) || MAY_HOLD(HIGH))) || (alone && MAY_HOLD(alone_in)))
#else
#define WORK_WAITS (MAY_HOLD(LOW) || MAY_HOLD(HIGH))
#endif

proctype consumer()
{
	byte p, at, alone_in;
	int w, word;
	bool alone, got, guarded, same;
	bool high_waited; /* before this claim a message of the higher class waited, at high_pos */
	byte high_pos;
#ifdef GUARD
	byte passed; /* gq_ageing */
	bool front;
	byte front_pos, over;
#endif

end:
	do
	:: WORK_WAITS ->
		d_step {
			guarded = false;
			high_waited = HOLDS(HIGH);
			high_pos = head[HIGH]
			NOTE_FRONT
		};
		if
		:: alone ->
			d_step {
				same = IS_STILL_EMPTY(OTHER(alone_in));
#ifndef BREAK_NOT_LOWER
				assert(!same || !HOLDS(OTHER(alone_in)))
#endif
			};
			if
			:: same -> CLAIM(alone_in); goto claimed
			:: else -> alone = false
			fi
		:: else
		fi;
#if defined(GUARD) && !defined(BREAK_NO_GUARD)
		if
		:: passed >= LIMIT ->
			guarded = true;
			CLAIM(LOW);
			passed = 0;
			if
			:: got -> goto claimed
			:: else -> guarded = false
			fi
		:: else
		fi;
#endif
		CLAIM(HIGH);
		if
		:: got -> /* gq_count_passed_over() */
			p = head[LOW];
			w = ENTRY(LOW, p);
			NOTE(LOW);
			if
			:: WAS_EMPTY(w, p) -> alone = true; COUNT_PASSED(0)
			:: else -> alone = false; COUNT_PASSED(passed < LIMIT -> passed + 1 : LIMIT)
			fi;
			alone_in = HIGH;
			goto claimed
		:: else -> NOTE(HIGH)
		fi;
		CLAIM(LOW);
		if
		:: got -> COUNT_PASSED(0); alone = true; alone_in = LOW
		:: else
		fi;
claimed:
		atomic { /* Spin lets nobody jump to a d_step */
			/* nothing of this claim lives on */
			got = false; guarded = false; same = false; high_waited = false;
			high_pos = 0; p = 0; w = 0;
			if
			:: !alone -> at = 0; word = 0; alone_in = 0
			:: else
			fi
		}
	od
}

init
{
	byte i;

	atomic {
		for (i : 0 .. CAP - 1) {
			ENTRY(LOW, START + i) = WORD(START - CAP + i, 0);
			ENTRY(HIGH, START + i) = WORD(START - CAP + i, 0);
			free[i] = true
		}
		run producer();
		for (i : 1 .. CONSUMERS) {
			run consumer()
		}
	}
	/* Nothing can move any more. */
	timeout ->
	assert(finished == MESSAGES)
}
