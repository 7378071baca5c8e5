/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pool.pml - the pool of free slots: gq_pool_pop() with its closed bit, gq_word_ring_put_one() with its
 * helped tail, and the bit set by q_stop().
 *
 * THREADS threads each take up to BATCH slots by one compare-and-swap and return them, ROUNDS times:
 * one by one, or with TAIL_ONCE as gq_publish() puts them, raising the tail when all are put. With
 * CLOSER one more thread closes the pool at any time. With DIE, so many threads may stop for good
 * between publishing their last entry and raising the tail: there is nothing in their hands then,
 * so nobody else may notice.
 *
 * Abstracted: the slots' contents; what a thread does with a slot is two looks at its owner.
 * `in_ring` is a ghost: what has been published and not taken. Where the code reads again because
 * what it read was old, the model waits for that to be so; it then is an invalid end state, not an
 * endless loop, when it never comes.
 *
 * Holds: a slot has one owner; an entry is put only where the previous lap's has been taken (no
 * overflow); "empty" is said only at an instant at which nothing was in the ring, so a thread that
 * has returned a slot never finds the pool falsely empty; exactly CAP slots can be held; nobody
 * takes a slot from a closed pool; at the end all slots are back, and, when nobody has died, the
 * tail is where the entries are (which is what q_stop() counts by).
 *
 *   BREAK_FETCH_ADD_POP  the head is advanced first and the entry read afterwards: two owners
 *   BREAK_FETCH_ADD_PUT  the tail is advanced first and the entry written afterwards: a stalled
 *                        returner hides what others have returned: false "empty"
 *   BREAK_NO_LAP         the tag leaves out the lap: a taken entry reads as published
 *   BREAK_NO_HELP        nobody raises the tail past another's entry: it stays behind for ever
 *   BREAK_LATE_HELP      (DIE) the tail is raised by who has put, not by who goes past: it falls more
 *                        than a lap behind the dead, and who starts there waits for ever
 *   BREAK_CLOSED_APART   (CLOSER) "closed" is a word of its own, looked at before the pop
 */
#include "ring.pml.h"
#ifndef THREADS
#define THREADS 3
#endif
#ifndef ROUNDS
#define ROUNDS 2
#endif
#ifndef BATCH
#define BATCH 1
#endif
#ifndef DIE
#define DIE 0
#endif

int entry[CAP];
byte head = START, tail = POS(START + CAP);
bool closed; /* the lowest bit of the head's word */
byte owner[CAP];
byte in_ring = CAP, finished, dead;

inline raise_tail()
{
	t = tail;
	do
#ifdef BREAK_NO_HELP
	:: t == POS(p - 1) ->
#else
	:: BEHIND(t, p) ->
#endif
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

/* Once: if it fails, another has raised it. */
inline try_raise()
{
	t = tail;
	if
	:: BEHIND(t, p) ->
		d_step {
			if
			:: tail == t -> tail = p
			:: else
			fi
		}
	:: else
	fi
}

/* From p on; p moves past it. */
inline put(v)
{
#ifdef BREAK_FETCH_ADD_PUT
	d_step { p = tail; tail = POS(tail + 1); }
	d_step { entry[IDX(p)] = WORD(p, v); in_ring++; p = POS(p + 1); }
#else
	do
	:: true ->
		old = entry[IDX(p)];
		if
		:: TAG(old) == TAG_OF(p) ->
			p = POS(p + 1);
#if !defined(BREAK_LATE_HELP) && !defined(BREAK_NO_HELP)
			try_raise()
#endif
		:: TAG(old) != TAG_OF(p) && TAG(old) == TAG_OF(p - CAP) ->
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
		:: TAG(old) != TAG_OF(p) && TAG(old) != TAG_OF(p - CAP) ->
			BEHIND(p, tail) -> p = tail /* lapped */
		fi
	od
#endif
}

/* Up to BATCH of them; n: how many, held[]: which. */
inline pop()
{
	do
	:: true ->
#ifdef BREAK_FETCH_ADD_POP
		d_step { h = head; head = POS(head + 1); }
		d_step { old = entry[IDX(h)]; in_ring--; held[0] = VALUE(old); n = 1; }
		break
#else
#ifdef BREAK_CLOSED_APART
		if
		:: closed -> n = 0; break
		:: else
		fi;
		h = head;
#else
		atomic {
			n = 0;
			h = head;
			if
			:: closed -> break
			:: else
			fi
		};
#endif
		do
		:: n < BATCH ->
			d_step {
				p = POS(h + n);
				old = entry[IDX(p)];
				/* The claim about "empty", checked at the instant of the read. */
				if
				:: n == 0 && TAG(old) == TAG_OF(p - CAP) -> assert(in_ring == 0)
				:: else
				fi
			};
			if
			:: TAG(old) == TAG_OF(p) -> held[n] = VALUE(old); n++
			:: else -> break
			fi
		:: else -> break
		od;
		if
		:: n == 0 && TAG(old) == TAG_OF(p - CAP) -> break /* empty */
		:: n == 0 && TAG(old) != TAG_OF(p - CAP) -> head != h /* h was old */
		:: n > 0 ->
			atomic { /* of the head's word: position and closed bit */
#ifdef BREAK_CLOSED_APART
				got = (head == h);
#else
				got = (head == h && !closed);
#endif
				if
				:: got ->
					assert(!closed);
					head = POS(h + n);
					assert(in_ring >= n);
					in_ring = in_ring - n;
					break
				:: else -> n = 0
				fi
			}
		fi
#endif
	od
}

proctype thread(byte me)
{
	byte h, p, t, n, round, held[BATCH];
	int old;
	bool cas, got, some;

	do
	:: round < ROUNDS ->
		pop();
		/* n == 0: others hold them all, or the pool is closed. */
		atomic {
			h = 0;
			do
			:: h < n -> assert(owner[held[h]] == 0); owner[held[h]] = me; h++
			:: else -> break
			od;
			h = 0
		};
		/* Back, one by one; or as gq_publish() does it: all, then the tail once. */
		if
		:: n > 0 -> p = tail; some = true
		:: else -> some = false
		fi;
		do
		:: n > 0 ->
			atomic {
				n--;
				assert(owner[held[n]] == me);
				owner[held[n]] = 0
			};
			put(held[n]);
#ifndef TAIL_ONCE
			if
			:: atomic { n == 0 && dead < DIE -> dead++ }; goto end
			:: true
			fi;
			raise_tail();
			atomic { old = 0; t = 0; p = (n > 0 -> tail : 0) }
#endif
		:: else -> break
		od;
#ifdef TAIL_ONCE
		if
		:: atomic { some && dead < DIE -> dead++ }; goto end
		:: some -> raise_tail()
		:: !some
		fi;
		atomic { old = 0; t = 0; p = 0 };
#endif
		round++
	:: else -> break
	od;
end:
	finished++
}

#ifdef CLOSER
proctype closer()
{
	closed = true
}
#endif

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
#ifdef CLOSER
		run closer()
#endif
	}
	finished == THREADS;
	assert(in_ring == CAP);
#if DIE == 0
	assert(tail == POS(head + CAP))
#endif
}
