/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pool.pml - the pool of free slots of src/device/protocol/pool.h: gq_pool_pop() with its closed bit,
 * gq_pool_return() with its helped tail, and the bit set by q_stop().
 *
 * THREADS threads each take up to BATCH slots by one compare-and-swap and return them, ROUNDS times:
 * each by itself, with the tail raised behind it, or with TAIL_ONCE as gq_pool_return() puts many:
 * neighbours as one extent, and the tail raised when all are put. With CLOSER one more thread closes
 * the pool at any time. With DIE, so many threads may stop for good between publishing their last
 * entry and raising the tail: there is nothing in their hands then, so nobody else may notice.
 *
 * An extent is of one or two slots; the pool begins with the longest. A head is the position of an
 * extent, and how many of its slots are taken. Words inside of extents are never written.
 *
 * Abstracted: the slots' contents; what a thread does with a slot is two looks at its owner.
 * `in_ring` is a ghost: what has been published and not taken. Where the code reads again because
 * what it read was old, the model waits for that to be so; it then is an invalid end state, not an
 * endless loop, when it never comes.
 *
 * Holds: a slot has one owner; an entry is put only where there is room (no overflow), and never over
 * the word of an extent that is taken in part; the slots that are taken come at the positions that
 * their ids say; "empty" is said only at an instant at which nothing was in the ring, so a thread that
 * has returned a slot never finds the pool falsely empty; exactly CAP slots can be held; nobody
 * takes a slot from a closed pool; at the end all slots are back, and, when nobody has died, the
 * tail is where the entries are (which is what q_stop() counts by).
 *
 *   BREAK_FETCH_ADD_POP  the head is advanced first and the entry read afterwards: two owners
 *   BREAK_FETCH_ADD_PUT  the tail is advanced first and the entry written afterwards: a stalled
 *                        returner hides what others have returned: false "empty"
 *   BREAK_NO_LAP         takers do not look at the lap: a taken entry reads as published
 *   BREAK_NO_HELP        nobody raises the tail past another's entry: it stays behind for ever
 *   BREAK_LATE_HELP      (DIE) the tail is raised by who has put, not by who goes past: it falls more
 *                        than a lap behind the dead, and who starts there waits for ever
 *   BREAK_CLOSED_APART   (CLOSER) "closed" is a word of its own, looked at before the pop
 *   BREAK_NO_OFFSET      the swap of the head does not compare how many of the slots are taken
 *   BREAK_SHORT_RING     as many words as slots: the word of an extent that is taken in part is
 *                        overwritten
 *   BREAK_STEP           who returns goes past an extent by one position
 *   BREAK_WHOLE          an extent that is taken in part is taken anew from its first slot
 *   BREAK_ANY_TAG        who returns puts over any word but that of its position, a newer one too
 *   BREAK_PLAIN_PUT      and by a store, whatever is there by then
 *   BREAK_LAP_BEFORE     an older word is one of exactly the lap before: one inside of an extent has
 *                        stayed for longer, and never gives way
 */
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
#ifndef START
#define START 254
#endif
#ifdef BREAK_SHORT_RING
#define WORDS CAP
#else
#define WORDS (2 * CAP)
#endif
/* Positions are bytes: they wrap at 256, and START puts that wrap into every run. */
#define POS(p)	     ((p)&255)
#define IDX(p)	     ((p) & (WORDS - 1))
#define LAPS	     (256 / WORDS)
#define BEHIND(a, b) (POS((a) - (b)) >= 128)
#define LAP(p)	     ((POS(p) / WORDS) & (LAPS - 1))

/* A word: lap, whether there is a second slot, the first one in two bits. */
#define WORD(p, slot, n) ((LAP(p) << 3) | (((n)-1) << 2) | (slot))
#define SLOT(w)	     ((w)&3)
#define COUNT(w)     (1 + (((w) >> 2) & 1))
#define AGE(w, p)    ((LAP(p) - ((w) >> 3)) & (LAPS - 1)) /* in laps */
#define IS_AT(w, p)  (AGE(w, p) == 0)
#ifdef BREAK_LAP_BEFORE
#define IS_OLD(w, p) (AGE(w, p) == 1)
#else
#define IS_OLD(w, p) (AGE(w, p) != 0 && AGE(w, p) <= LAPS / 2)
#endif

/* A head: position, and in one bit slots taken. */
#define AT(h)	     ((h) >> 1)
#define TAKEN(h)     ((h)&1)
#define HEAD_POS(h)  POS(AT(h) + TAKEN(h))

int entry[WORDS];
short head = START << 1;
byte tail = POS(START + CAP);
bool closed; /* the lowest bit of the head's word */
byte owner[CAP];
byte in_ring = CAP, finished, dead;
byte popped; /* slots that have ever been taken */

inline raise_tail()
{
	t = tail;
	do
#ifdef BREAK_NO_HELP
	:: t == POS(p - size) ->
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

/* `size` slots from v on, from p on; p moves past them. */
inline put(v)
{
#ifdef BREAK_FETCH_ADD_PUT
	d_step { p = tail; tail = POS(tail + size); }
	d_step { entry[IDX(p)] = WORD(p, v, size); in_ring = in_ring + size; p = POS(p + size); }
#else
	do
	:: true ->
		old = entry[IDX(p)];
		if
		:: IS_AT(old, p) ->
#ifdef BREAK_STEP
			p = POS(p + 1);
#else
			p = POS(p + COUNT(old));
#endif
#if !defined(BREAK_LATE_HELP) && !defined(BREAK_NO_HELP)
			try_raise()
#endif
#ifdef BREAK_ANY_TAG
		:: !IS_AT(old, p) ->
#else
		:: IS_OLD(old, p) ->
#endif
			d_step {
#ifdef BREAK_PLAIN_PUT
				got = true;
#else
				got = (entry[IDX(p)] == old);
#endif
				if
				:: got ->
					assert(POS(p + size - HEAD_POS(head)) <= CAP);
					assert(TAKEN(head) == 0 || IDX(p) != IDX(AT(head)));
					entry[IDX(p)] = WORD(p, v, size);
					in_ring = in_ring + size;
					p = POS(p + size)
				:: else
				fi
			};
			if
			:: got -> got = false; break
			:: else
			fi
#ifndef BREAK_ANY_TAG
		:: !IS_AT(old, p) && !IS_OLD(old, p) ->
			BEHIND(p, tail) -> p = tail /* lapped */
#endif
		fi
	od
#endif
}

/* Up to BATCH of them; n: how many, held[]: which. */
inline pop()
{
	do
	:: true ->
#ifdef BREAK_CLOSED_APART
		if
		:: closed -> n = 0; break
		:: else
		fi;
		d_step { n = 0; h = head; s = AT(h); o = TAKEN(h); };
#else
		atomic {
			n = 0;
			h = head;
			s = AT(h);
			o = TAKEN(h);
			if
			:: closed -> break
			:: else
			fi
		};
#endif
#ifdef BREAK_WHOLE
		o = 0;
#endif
		do
		:: n < BATCH ->
			d_step {
				old = entry[IDX(s)];
				/* The claim about "empty", checked at the instant of the read. */
				assert(n > 0 || !IS_OLD(old, s) || in_ring == 0);
#ifdef BREAK_NO_LAP
				got = true;
#else
				got = IS_AT(old, s);
#endif
				if
				:: got ->
					do
					:: n < BATCH && o < COUNT(old) ->
						held[n] = (SLOT(old) + o) % CAP;
						n++;
						o++
					:: else -> break
					od;
					if
					:: o >= COUNT(old) -> s = POS(s + COUNT(old)); o = 0
					:: else
					fi
				:: else
				fi
			};
			if
			:: got -> got = false
			:: else -> break
			fi
		:: else -> break
		od;
		if
		:: n == 0 && IS_OLD(old, s) -> break /* empty */
		:: n == 0 && !IS_OLD(old, s) -> head != h /* h was old */
		:: n > 0 ->
			atomic { /* of the head's word: position, slots taken and closed bit */
#if defined(BREAK_CLOSED_APART)
				got = (head == h);
#elif defined(BREAK_NO_OFFSET)
				got = (AT(head) == AT(h) && !closed);
#else
				got = (head == h && !closed);
#endif
				if
				:: got ->
					assert(!closed);
					assert(in_ring >= n);
					assert(POS(HEAD_POS(h) - START) == popped);
					head = (s << 1) | o;
					in_ring = in_ring - n;
					popped = popped + n;
					got = false;
					break
				:: else -> n = 0
				fi
			}
		fi
	od;
#ifdef BREAK_FETCH_ADD_POP
	if
	:: n > 0 ->
		d_step { old = entry[IDX(AT(h))]; held[0] = (SLOT(old) + TAKEN(h)) % CAP; }
	:: else
	fi;
#endif
	atomic { s = 0; o = 0; old = 0 }
}

proctype thread(byte me)
{
	short h;
	byte s, o, p, t, n, i, size, round, held[BATCH];
	int old;
	bool got, some;

	do
	:: round < ROUNDS ->
		pop();
		/* n == 0: others hold them all, or the pool is closed. */
		atomic {
			h = 0;
			i = 0;
			do
			:: i < n -> assert(owner[held[i]] == 0); owner[held[i]] = me; i++
			:: else -> break
			od;
			i = 0
		};
		if
		:: n > 0 -> p = tail; some = true
		:: else -> some = false
		fi;
		do
		:: i < n ->
			atomic {
				size = 1;
				assert(owner[held[i]] == me);
				owner[held[i]] = 0;
#if defined(TAIL_ONCE) && BATCH > 1
				if
				:: i + 1 < n && held[i + 1] == held[i] + 1 ->
					size = 2;
					assert(owner[held[i + 1]] == me);
					owner[held[i + 1]] = 0
				:: else
				fi
#endif
			};
			put(held[i]);
			i = i + size;
#ifndef TAIL_ONCE
			if
			:: atomic { i == n && dead < DIE -> dead++ }; goto end
			:: true
			fi;
			raise_tail();
			atomic { old = 0; t = 0; p = (i < n -> tail : 0) }
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
		atomic { i = 0; n = 0; size = 0; some = false; round++ }
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
		for (i : 0 .. WORDS - 1) {
			entry[IDX(START + i)] = WORD(START + i - WORDS, 0, 1)
		}
#if CAP == 1
		entry[IDX(START)] = WORD(START, 0, 1);
#else
		for (i : 0 .. CAP / 2 - 1) {
			entry[IDX(START + 2 * i)] = WORD(START + 2 * i, 2 * i, 2)
		}
#endif
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
	assert(tail == POS(HEAD_POS(head) + CAP))
#endif
}
