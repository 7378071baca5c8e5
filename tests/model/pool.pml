/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pool.pml - the pool of free slots: gq_pool_pop() and gq_ring_put_one() with its helped tail.
 *
 * THREADS threads each take a slot and return it, ROUNDS times. Abstracted: one slot a pop; the
 * closed bit is in stop.pml. `in_ring` is a ghost: what has been published and not taken.
 *
 * Holds: a slot has one owner; an entry is put only where the previous lap's has been taken (no
 * overflow); "empty" is said only at an instant at which nothing was in the ring, so a thread that
 * has returned a slot never finds the pool falsely empty; at the end all slots are back.
 *
 *   BREAK_FETCH_ADD_POP  the head is advanced first and the entry read afterwards: two owners
 *   BREAK_FETCH_ADD_PUT  the tail is advanced first and the entry written afterwards: a stalled
 *                        returner hides what others have returned: false "empty"
 *   BREAK_NO_LAP         the tag leaves out the lap: a taken entry reads as published
 */
#include "ring.pml.h"
#ifndef THREADS
#define THREADS 3
#endif
#ifndef ROUNDS
#define ROUNDS 2
#endif

int entry[CAP];
byte head = START, tail = POS(START + CAP);
byte owner[CAP];
byte in_ring = CAP, finished;

inline raise_tail()
{
	t = tail;
	do
	:: BEHIND(t, p) ->
		d_step {
			if
			:: tail == t -> tail = p
			:: else
			fi
		};
		t = tail
	:: else -> break
	od
}

inline put(v)
{
#ifdef BREAK_FETCH_ADD_PUT
	d_step { p = tail; tail = POS(tail + 1); }
	d_step { entry[IDX(p)] = WORD(p, v); in_ring++; }
#else
	p = tail;
	do
	:: true ->
		old = entry[IDX(p)];
		if
		:: TAG(old) == TAG_OF(p) -> p = POS(p + 1); raise_tail()
		:: else ->
			if
			:: TAG(old) == TAG_OF(p - CAP) ->
				d_step {
					cas = (entry[IDX(p)] == old);
					if
					:: cas ->
						assert(BEHIND(p - CAP, head));
						entry[IDX(p)] = WORD(p, v);
						in_ring++;
						p = POS(p + 1)
					:: else
					fi
				};
				if
				:: cas -> break
				:: else
				fi
			:: else -> p = tail
			fi
		fi
	od;
	raise_tail()
#endif
}

inline pop()
{
	do
	:: true ->
#ifdef BREAK_FETCH_ADD_POP
		d_step { p = head; head = POS(head + 1); }
		d_step { old = entry[IDX(p)]; in_ring--; }
		got = true;
		break
#else
		p = head;
		d_step {
			old = entry[IDX(p)];
			/* The claim about "empty", checked at the instant of the read. */
			if
			:: TAG(old) == TAG_OF(p - CAP) -> assert(in_ring == 0)
			:: else
			fi
		};
		if
		:: TAG(old) == TAG_OF(p) ->
			d_step {
				got = (head == p);
				if
				:: got -> head = POS(p + 1); in_ring--
				:: else
				fi
			};
			if
			:: got -> break
			:: else
			fi
		:: else ->
			if
			:: TAG(old) == TAG_OF(p - CAP) -> got = false; break
			:: else
			fi
		fi
#endif
	od
}

proctype thread(byte me)
{
	byte p, t, round, slot;
	int old;
	bool cas, got;

	do
	:: round < ROUNDS ->
		pop();
		if
		:: got ->
			slot = VALUE(old);
			d_step { assert(owner[slot] == 0); owner[slot] = me; }
			d_step { assert(owner[slot] == me); owner[slot] = 0; }
			put(slot)
		:: else /* full: others hold them all */
		fi;
		round++
	:: else -> break
	od;
	finished++
}

init
{
	byte i;

	atomic {
		for (i : 0 .. CAP - 1) {
			entry[IDX(START + i)] = WORD(START + i, i)
		}
		for (i : 1 .. THREADS) {
			run thread(i)
		}
	}
	finished == THREADS;
	assert(in_ring == CAP)
}
