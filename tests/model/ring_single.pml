/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ring_single.pml - messages through a ring in single mode, from end to end: send_single() and
 * receive_single() of src/host/ring with reuse.h, and what a repair does after the death of the
 * sender (gq__ring_free_unsent()).
 *
 * One sender sends ROUNDS messages, in either of two classes, up to BATCH at once; with LONG each
 * message takes one cell or two. One receiver receives up to TAKE at once, the higher class first.
 * The sender dies up to DEATHS times, before any of its steps, also while it repairs what it has
 * left when it died before: it is the successor as well. The receiver dies up to RECEIVER_DEATHS
 * times, and begins again.
 *
 * With SCRAMBLED the new ring's cells are in the pool one by one, backwards, so that a batch has two entries.
 *
 * What is what: ring 0 is the pool, 1 and 2 are the classes. A ring has WORDS words. A head is the
 * position of an extent, and how many of its cells are taken; reused[0] is the pool's. A value is a
 * slot, whether the extent has a second cell, and whether the message has: its slot is in chain[].
 * A cell's content is the message's number, filled in one step and copied out in two.
 *
 * Abstracted: waiting is until there is something by the ghost count `used`.
 *
 * Holds: a cell that is filled is no unread message's, and in nobody's hands; each published message
 * is received whole and in order, and passed by the head once; of a batch all or none is published;
 * "no room" is said only of an instant at which it is so; in the end all cells are free.
 *
 *   BREAK_HEAD_FIRST     the receiver stores its head before it has read the cells
 *   BREAK_FIRST_FIRST    (SCRAMBLED) a batch is published first entry first
 *   BREAK_NO_UNPUBLISH   (SCRAMBLED) a repair leaves the later entries of a batch whose first is not there
 *   BREAK_REUSED_KEPT    a repair puts what is free into the pool, and leaves it in the classes too
 *   BREAK_REUSED_START   the next sender begins with the first cell of the extent at the head
 *   BREAK_REUSED_LATE    a repair reads the head again when it has read the class
 *   BREAK_WHOLE_EXTENT   the sender takes all cells of an extent that is received in part
 *   BREAK_SHORT_RING     a ring has as many words as cells
 *   BREAK_NO_RETURN      (LONG) one cell, where two are needed, is not put back
 */
#ifndef CAP
#define CAP 2
#endif
#ifndef ROUNDS
#define ROUNDS 4
#endif
#ifndef BATCH
#define BATCH 2
#endif
#ifndef TAKE
#define TAKE 1
#endif
#ifndef DEATHS
#define DEATHS 0
#endif
#ifndef RECEIVER_DEATHS
#define RECEIVER_DEATHS 0
#endif
#ifndef START
#define START 252
#endif
#ifdef BREAK_SHORT_RING
#define WORDS CAP
#else
#define WORDS (2 * CAP)
#endif
#define LAPS	  (256 / WORDS)
#define POS(p)	  ((p)&255)
#define IDX(p)	  ((p) & (WORDS - 1))
#define LAP(p)	  (POS(p) / WORDS)
#define WORD(p, v) ((LAP(p) << 5) | (v))
#define IS_AT(w, p) (LAP(p) == (w) >> 5)
/* Whether head a is beyond head b. */
#define AHEAD(a, b) ((((a) - (b)) & 1023) != 0 && (((a) - (b)) & 1023) < 512)

/* Values: slot in two bits, a second cell of the extent in one, of the message in one. */
#define VALUE_OF(slot, two, parts) ((slot) | ((two) << 2) | ((parts) << 3))
#define SLOT(v)	  ((v)&3)
#define COUNT(v)  (1 + (((v) >> 2) & 1))
#define PARTS(v)  (((v) >> 3) & 1)

int entry[3 * WORDS];
short head[3];	 /* of the classes: the receiver's */
short reused[3]; /* the sender's */
byte tail[3];
byte cell[CAP]; /* the message's number + 1 */
byte chain[CAP];
byte sequence;
#define E(ring, p) entry[(ring)*WORDS + IDX(p)]
#define AT(h)	   ((h) >> 2)
#define OFFSET(h)  ((h)&3)

/* Ghosts. */
bool in_use[CAP]; /* by a message that is published and not passed by the head */
byte used;	  /* how many are */
bool published[ROUNDS], passed[ROUNDS];
byte class_of[ROUNDS], batch_of[ROUNDS]; /* the first of the batch */
byte last[3];	  /* the last that was passed, + 1 */
bool finished, die, receiver_dies;

/* The hints know of nothing more: look. */
inline look()
{
	d_step { source = 0; known = tail[0] << 2 };
	if
	:: AHEAD(known, reused[0])
	:: else ->
		d_step { source = 1; known = head[1]; was_full = (used + n == CAP) };
		if
		:: AHEAD(known, reused[1])
		:: else ->
			d_step { source = 2; known = head[2] }
		fi
	fi
}

#define SLOT_AT(i) ((slots >> (2 * (i))) & 3)

inline add(slot)
{
	slots = slots | ((slot) << (2 * n));
	n++
}

/* Take a cell, or two of one extent. Nobody else reads what is written here. */
inline take(max)
{
	d_step {
		h = reused[source];
		word = E(source, AT(h));
		if
		:: PARTS(word) ->
			add(SLOT(word));
			if
			:: chain[SLOT(word)] != 0 ->
				E(source, AT(h)) = (word & ~3) | (chain[SLOT(word)] - 1)
			:: else -> h = POS(AT(h) + 1) << 2
			fi
		:: else ->
			do
#ifdef BREAK_WHOLE_EXTENT
			:: n < max && OFFSET(h) < COUNT(word) ->
#else
			:: n < max && OFFSET(h) < COUNT(word) && h != known ->
#endif
				add(SLOT(word) + OFFSET(h));
				h++
			:: else -> break
			od;
			if
			:: OFFSET(h) == COUNT(word) -> h = POS(AT(h) + COUNT(word)) << 2
			:: else
			fi
		fi;
		reused[source] = h;
		h = 0;
		word = 0
	}
}

inline fill(i)
{
	d_step {
		assert(!in_use[SLOT_AT(i)]);
		assert(n < 2 || SLOT_AT(0) != SLOT_AT(1));
		cell[SLOT_AT(i)] = (number + (long_one -> 0 : i)) + 1
	}
}

inline publish_ghost()
{
	i = 0;
	do
	:: i < n ->
		assert(!in_use[SLOT_AT(i)]);
		in_use[SLOT_AT(i)] = true;
		used++;
		published[number + (long_one -> 0 : i)] = true;
		class_of[number + (long_one -> 0 : i)] = class;
		batch_of[number + (long_one -> 0 : i)] = number;
		i++
	:: else -> break
	od;
	i = 0
}

inline sends()
{
	do
	:: sequence < ROUNDS ->
		/* A thread that begins knows nothing. */
		if
		:: class = 1; max = 1
		:: class = 2; max = 1
#ifdef LONG
		:: class = 1; max = 2; long_one = true
#else
		:: sequence + 1 < ROUNDS -> class = 1; max = BATCH
		:: sequence + 1 < ROUNDS -> class = 2; max = BATCH
#endif
		fi;
		/* pop_single() */
		do
		:: n < max ->
			if
			:: !AHEAD(known, reused[source]) -> look()
			:: else
			fi;
			if
			:: AHEAD(known, reused[source]) -> take(max)
			:: else -> break
			fi
		:: else -> break
		od;
		if
		:: n == 0 || (long_one && n < 2) -> /* FULL */
			assert(was_full);
#ifndef BREAK_NO_RETURN
			if
			:: n == 1 ->
				E(0, tail[0]) = WORD(tail[0], VALUE_OF(SLOT_AT(0), 0, 0));
				tail[0] = POS(tail[0] + 1)
			:: else
			fi;
#endif
			d_step { n = 0; slots = 0; was_full = false };
end_full:
			used + (long_one -> 2 : 1) <= CAP
		:: else ->
			d_step {
				number = sequence;
				sequence = sequence + (long_one -> 1 : n)
			};
			fill(0);
			if
			:: n == 2 -> fill(1)
			:: else
			fi;
			if
			:: long_one ->
				d_step {
					chain[SLOT_AT(0)] = SLOT_AT(1) + 1;
					chain[SLOT_AT(1)] = 0
				};
				d_step {
					E(class, tail[class]) =
						WORD(tail[class], VALUE_OF(SLOT_AT(0), 0, 1));
					publish_ghost()
				};
				tail[class] = POS(tail[class] + 1)
			:: !long_one && n == 2 && SLOT_AT(1) == SLOT_AT(0) + 1 ->
				d_step {
					E(class, tail[class]) =
						WORD(tail[class], VALUE_OF(SLOT_AT(0), 1, 0));
					publish_ghost()
				};
				tail[class] = POS(tail[class] + 2)
			:: !long_one && n == 2 && SLOT_AT(1) != SLOT_AT(0) + 1 ->
#ifndef BREAK_FIRST_FIRST
				E(class, tail[class] + 1) =
					WORD(tail[class] + 1, VALUE_OF(SLOT_AT(1), 0, 0));
#endif
				d_step {
					E(class, tail[class]) =
						WORD(tail[class], VALUE_OF(SLOT_AT(0), 0, 0));
					publish_ghost()
				};
#ifdef BREAK_FIRST_FIRST
				E(class, tail[class] + 1) =
					WORD(tail[class] + 1, VALUE_OF(SLOT_AT(1), 0, 0));
#endif
				tail[class] = POS(tail[class] + 2)
			:: n == 1 ->
				d_step {
					E(class, tail[class]) =
						WORD(tail[class], VALUE_OF(SLOT_AT(0), 0, 0));
					publish_ghost()
				};
				tail[class] = POS(tail[class] + 1)
			fi
		fi;
		skip;
		d_step { n = 0; slots = 0; class = 0; max = 0; number = 0; long_one = false; was_full = false }
	:: else -> break
	od
}

/* gq__ring_free_unsent() */
inline repairs()
{
	i = 0;
	do
	:: i < CAP -> marked[i] = false; i++
	:: else -> i = 0; break
	od;
	source = 1;
	do
	:: source <= 2 ->
		d_step { h = head[source]; p = AT(h); i = OFFSET(h) };
		do
		:: n < CAP && IS_AT(E(source, p), p) ->
			d_step {
				word = E(source, p);
				do
				:: i < COUNT(word) ->
					marked[SLOT(word) + i] = true;
					n++;
					i++
				:: else -> break
				od;
				if
				:: PARTS(word) && chain[SLOT(word)] != 0 ->
					marked[chain[SLOT(word)] - 1] = true
				:: else
				fi;
				i = 0;
				p = POS(p + COUNT(word));
				word = 0
			}
		:: else -> break
		od;
#ifndef BREAK_NO_UNPUBLISH
		if
		:: IS_AT(E(source, p + 1), POS(p + 1)) ->
			E(source, p + 1) = WORD(p + 1 - WORDS, 0)
		:: else
		fi;
#endif
		tail[source] = p;
#if defined(BREAK_REUSED_LATE)
		reused[source] = head[source];
#elif defined(BREAK_REUSED_START)
		reused[source] = h & ~3;
#elif !defined(BREAK_REUSED_KEPT)
		reused[source] = h;
#endif
		d_step { h = 0; p = 0; n = 0; i = 0; source++ }
	:: else -> break
	od;
	skip;
	d_step { source = 0; p = tail[0]; reused[0] = p << 2; i = 0 };
	do
	:: i < CAP ->
		if
		:: !marked[i] -> d_step { E(0, p) = WORD(p, VALUE_OF(i, 0, 0)); p = POS(p + 1) }
		:: else
		fi;
		i++
	:: else -> break
	od;
	tail[0] = p;
	d_step { p = 0; i = 0; known = reused[0] }
}

proctype sender()
{
	byte source, n, class, max, number, i, p;
	short known, h;
	int word, slots;
	bool long_one, was_full, dead, marked[CAP];

	known = START << 2;
begin:
	{
		if
		:: dead -> repairs(); dead = false
		:: else
		fi;
		sends();
		goto done
	} unless {
		atomic { die -> die = false }
	};
	d_step {
		dead = true;
		source = 0; n = 0; class = 0; max = 0; number = 0; i = 0; p = 0;
		known = 0; h = 0; word = 0; slots = 0;
		long_one = false; was_full = false
	};
	goto begin;
done:
	finished = true
}

inline copy_out(i)
{
	m = cell[SLOT_AT(i)];
	d_step {
		assert(m > 0 && cell[SLOT_AT(i)] == m);
		assert(published[m - 1] && !passed[m - 1] && class_of[m - 1] == ring);
		assert(m > last[ring])
	}
}

inline copy_all()
{
	copy_out(0);
	if
	:: n == 2 -> copy_out(1)
	:: else
	fi
}

/* In a d_step: what is chosen is passed. */
inline pass()
{
	head[ring] = (s << 2) | o;
	i = 0;
	do
	:: i < n ->
		m = cell[SLOT_AT(i)];
		assert(in_use[SLOT_AT(i)]);
		in_use[SLOT_AT(i)] = false;
		used--;
		passed[m - 1] = true;
		last[ring] = m;
		i++
	:: else -> break
	od;
	i = 0;
	m = 0
}

/* In a d_step: cells of the extent at s, from o on. */
inline choose()
{
	do
	:: n < TAKE && o < COUNT(word) -> add(SLOT(word) + o); o++
	:: else -> break
	od;
	if
	:: o == COUNT(word) -> s = POS(s + COUNT(word)); o = 0
	:: else
	fi
}

inline receives()
{
	do
	:: true ->
		ring = 2;
		do
		:: true ->
			d_step {
				s = AT(head[ring]);
				o = OFFSET(head[ring]);
				word = E(ring, s)
			};
			if
			:: IS_AT(word, s) -> break
			:: else ->
				if
				:: ring == 2 -> ring = 1
				:: else ->
					d_step { ring = 2; s = 0; o = 0; word = 0 };
end_empty:
					used > 0
				fi
			fi
		od;
		if
		:: PARTS(word) ->
			d_step {
				add(SLOT(word));
				if
				:: chain[SLOT(word)] != 0 -> add(chain[SLOT(word)] - 1)
				:: else
				fi;
				s = POS(s + 1)
			}
		:: else ->
			d_step { choose(); };
			if
			:: n < TAKE ->
				d_step {
					word = E(ring, s);
					if
					:: IS_AT(word, s) && !PARTS(word) -> choose()
					:: else
					fi
				}
			:: else
			fi
		fi;
#ifdef BREAK_HEAD_FIRST
		d_step { head[ring] = (s << 2) | o; i = 0 };
#endif
		copy_all();
		d_step { pass(); n = 0; slots = 0; s = 0; o = 0; word = 0; ring = 0 }
	od
}

proctype receiver()
{
	byte ring, s, o, n, i, m;
	int word, slots;

begin:
	{
		receives()
	} unless {
		atomic { receiver_dies -> receiver_dies = false }
	};
	d_step { ring = 0; s = 0; o = 0; n = 0; i = 0; m = 0; word = 0; slots = 0 };
	goto begin
}

#if DEATHS + RECEIVER_DEATHS > 0
proctype killer()
{
	byte deaths, receiver_deaths;

	do
	:: deaths < DEATHS ->
		d_step { die = true; deaths++ };
end_sender_is_done:
		!die
	:: receiver_deaths < RECEIVER_DEATHS ->
		d_step { receiver_dies = true; receiver_deaths++ };
		!receiver_dies
	:: break
	od
}
#endif

init
{
	byte i, j;
	short h;
	int word;
	bool found[CAP];

	atomic {
		for (j : 0 .. 2) {
			for (i : 0 .. WORDS - 1) {
				E(j, START + i) = WORD(START + i - WORDS, 0)
			}
			head[j] = START << 2;
			reused[j] = START << 2;
			tail[j] = (j == 0 -> POS(START + CAP) : START)
		}
#ifdef SCRAMBLED
		for (i : 0 .. CAP - 1) {
			E(0, START + i) = WORD(START + i, VALUE_OF(CAP - 1 - i, 0, 0))
		};
#else
		for (i : 0 .. CAP / 2 - 1) {
			E(0, START + 2 * i) = WORD(START + 2 * i, VALUE_OF(2 * i, 1, 0))
		};
#endif
		run sender();
		run receiver();
#if DEATHS + RECEIVER_DEATHS > 0
		run killer()
#endif
	}
	timeout ->
	/* Nothing can move any more. */
	d_step {
		assert(finished && used == 0);
		for (i : 0 .. ROUNDS - 1) {
			assert(published[i] == passed[i]);
			/* All of a batch, or none. */
			assert(!published[i] || published[batch_of[i]])
		}
		/* What the next sender finds: each cell, once. */
		for (j : 0 .. 2) {
			h = reused[j];
			do
			:: h != (j == 0 -> tail[0] << 2 : head[j]) ->
				word = E(j, AT(h));
				i = SLOT(word) + OFFSET(h);
				assert(!found[i]);
				found[i] = true;
				if
				:: PARTS(word) && chain[i] != 0 ->
					assert(!found[chain[i] - 1]);
					found[chain[i] - 1] = true
				:: else
				fi;
				h++;
				if
				:: OFFSET(h) == COUNT(word) -> h = POS(AT(h) + COUNT(word)) << 2
				:: else
				fi
			:: else -> break
			od
		}
		for (i : 0 .. CAP - 1) {
			assert(found[i])
		}
	}
}
