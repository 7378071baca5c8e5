/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ring_many.pml - messages through a ring in many/many mode, from end to end: send_many() and
 * receive_many() of src/host/ring/receive.c, with pop_many(), put_many(), look_at(), choose(),
 * give_back_many().
 *
 * SENDERS senders send ROUNDS messages each, in either of two classes, up to BATCH at once;
 * RECEIVERS receivers receive up to BATCH at once, the higher class first. With DIE_SENDER or
 * DIE_RECEIVER the first of them may stop for ever, before any of its steps.
 *
 * pool.pml has the pool alone and publish_claim.pml one class with an atomic pool; added here: pool
 * and two classes together, so that a cell goes all the way round by the protocol's own steps;
 * batches in both directions; the cells, and how long a receiver may look at one; death on either
 * side.
 *
 * What is what: ring 0 is the pool, 1 and 2 are the classes. An entry's value is slot and length;
 * a message's length is told by its number. A cell's content is the message's number, filled in one
 * step and copied out in two. Where the code gives up because memory must be damaged, the model asserts.
 *
 * Abstracted: waiting (ring_close.pml) is until there is something by the ghost count in_ring[];
 * repair (ring_reclaim.pml) does not take place: what the dead have is gone.
 *
 * Holds: a cell has one owner; an accepted message is claimed once and copied whole, but for those
 * in the hands of a dead receiver; each sender's messages of a class are claimed in order, and a
 * length seen before the claim is the claimed message's; "no room", and "nothing in this class", is
 * said only at an instant at which it is so (not so of both classes together: they are looked at one
 * after the other); the living go on with the cells that the dead do not have.
 *
 *   BREAK_FETCH_ADD_PUT  (DIE_SENDER) a class's tail is advanced first and the entry written
 *                        afterwards: who dies in between leaves a hole, and hides what is behind it
 *   BREAK_LATE_HELP      (DIE_SENDER) the tail is raised by who has put, not by who goes past
 *   BREAK_PLAIN_PUT      the entry is stored, not swapped
 *   BREAK_PLAIN_HEAD     the head is stored, not swapped
 *   BREAK_CLAIM_FIRST    the entry is read (again) after the claim: it may be the next lap's
 *   BREAK_EARLY_RETURN   the cell goes back before it has been copied
 */
#include "ring.pml.h"
#ifndef SENDERS
#define SENDERS 2
#endif
#ifndef RECEIVERS
#define RECEIVERS 2
#endif
#ifndef ROUNDS
#define ROUNDS 1
#endif
#ifndef BATCH
#define BATCH 1
#endif
#define THREADS	 (SENDERS + RECEIVERS)
#define MESSAGES (SENDERS * ROUNDS)
#define SLOT(v)	 ((v)&3)
#define LEN(v)	 ((v) >> 2)
#define LEN_OF(m) ((m)&3)

int entry[3 * CAP];
byte head[3], tail[3];
byte cell[CAP]; /* the message's number + 1 */
#define E(ring, p) entry[(ring)*CAP + IDX(p)]

/* Ghosts. */
byte in_ring[3];
byte owner[CAP]; /* thread + 1; 0: in a ring */
byte last[2 * SENDERS]; /* by class: the last that was claimed, + 1 */
byte copied[MESSAGES];
byte accepted, received, finished;
byte victim; /* thread + 1 that is dead */

inline raise_tail(ring)
{
	t = tail[ring];
	do
	:: BEHIND(t, p) ->
		d_step {
			if
			:: tail[ring] == t -> tail[ring] = p
			:: else
			fi
		};
		t = tail[ring]
	:: else -> t = 0; break
	od
}

/* Once: if it fails, another has raised it. */
inline try_raise(ring)
{
	t = tail[ring];
	if
	:: BEHIND(t, p) ->
		d_step {
			if
			:: tail[ring] == t -> tail[ring] = p
			:: else
			fi
		}
	:: else
	fi;
	t = 0
}

/* From p on; p moves past it. */
inline put(ring, value)
{
	do
#ifdef BREAK_FETCH_ADD_PUT
	:: ring > 0 ->
		d_step { p = tail[ring]; tail[ring] = POS(p + 1); }
		atomic {
			E(ring, p) = WORD(p, value);
			owner[SLOT(value)] = 0;
			in_ring[ring]++;
			accepted++;
			p = POS(p + 1);
			break
		}
	:: ring == 0 ->
#else
	:: true ->
#endif
		word = E(ring, p);
		if
		:: TAG(word) == TAG_OF(p) ->
			p = POS(p + 1);
#ifndef BREAK_LATE_HELP
			try_raise(ring)
#endif
		:: TAG(word) != TAG_OF(p) && TAG(word) == TAG_OF(p - CAP) ->
			d_step {
#ifdef BREAK_PLAIN_PUT
				swapped = true;
#else
				swapped = (E(ring, p) == word);
#endif
				if
				:: swapped ->
					assert(owner[SLOT(value)] == me + 1);
					E(ring, p) = WORD(p, value);
					owner[SLOT(value)] = 0;
					in_ring[ring]++;
					if
					:: ring > 0 -> accepted++
					:: else
					fi;
					p = POS(p + 1)
				:: else
				fi
			};
			if
			:: swapped -> break
			:: else
			fi
		:: else ->
			/* lapped */
			d_step {
				assert(BEHIND(p, tail[ring]));
				p = tail[ring]
			}
		fi
	od;
	atomic { word = 0; swapped = false }
}

#define MESSAGE(i) (me * ROUNDS + sent + (i))

inline sends()
{
	byte class, sent, h, p, t, n, i;
	int word, slots; /* slots: four bits each */
	bool swapped;

	do
	:: sent < ROUNDS ->
		if
		:: class = 1
		:: class = 2
		fi;
		/* pop_many() */
		do
		:: true ->
			h = head[0];
			do
			:: n < BATCH && sent + n < ROUNDS ->
				d_step {
					p = POS(h + n);
					word = E(0, p);
					/* FULL is said at this instant. */
					assert(n > 0 || TAG(word) != TAG_OF(p - CAP) || in_ring[0] == 0)
				};
				if
				:: TAG(word) == TAG_OF(p) ->
					atomic { slots = slots | (SLOT(word) << (4 * n)); n++ }
				:: else -> break
				fi
			:: else -> break
			od;
			if
			:: n == 0 && TAG(word) == TAG_OF(p - CAP) -> /* FULL */
				atomic { h = 0; p = 0; word = 0 };
end_full:
				in_ring[0] > 0
			:: n == 0 && TAG(word) != TAG_OF(p - CAP) ->
				assert(head[0] != h)
			:: n > 0 ->
				atomic {
					if
					:: head[0] == h ->
						head[0] = POS(h + n);
						in_ring[0] = in_ring[0] - n;
						i = 0;
						do
						:: i < n ->
							assert(owner[SLOT(slots >> (4 * i))] == 0);
							owner[SLOT(slots >> (4 * i))] = me + 1;
							i++
						:: else -> break
						od;
						i = 0;
						h = 0;
						word = 0;
						break
					:: else -> n = 0; slots = 0
					fi
				}
			fi
		od;
		/* fill() */
		do
		:: i < n ->
			atomic {
				assert(owner[SLOT(slots >> (4 * i))] == me + 1);
				cell[SLOT(slots >> (4 * i))] = MESSAGE(i) + 1;
				i++
			}
		:: else -> break
		od;
		i = 0;
		/* publish() */
		p = tail[class];
		do
		:: i < n ->
			put(class, SLOT(slots >> (4 * i)) | (LEN_OF(MESSAGE(i)) << 2));
			i++
		:: else -> break
		od;
#ifndef BREAK_FETCH_ADD_PUT
		raise_tail(class);
#endif
		atomic { sent = sent + n; n = 0; i = 0; p = 0; slots = 0; class = 0 }
	:: else -> break
	od;
	finished++
}

inline give_back()
{
	p = tail[0];
	i = 0;
	do
	:: i < n -> put(0, SLOT(values >> (4 * i))); i++
	:: else -> break
	od;
	raise_tail(0);
	i = 0
}

inline copy_out()
{
	do
	:: i < n ->
		m = cell[SLOT(values >> (4 * i))];
		d_step {
#ifndef BREAK_EARLY_RETURN
			assert(owner[SLOT(values >> (4 * i))] == me + 1);
#endif
			assert(m > 0 && cell[SLOT(values >> (4 * i))] == m);
			copied[m - 1]++;
			assert(copied[m - 1] == 1);
			received++;
			m = 0;
			i++
		}
	:: else -> break
	od
}

/* In an atomic: the claimed messages, each with its class, in order. */
inline check_claimed()
{
	i = 0;
	do
	:: i < n ->
		m = cell[SLOT(values >> (4 * i))] - 1;
		assert(owner[SLOT(values >> (4 * i))] == 0);
		owner[SLOT(values >> (4 * i))] = me + 1;
		assert(LEN((values >> (4 * i)) & 15) == LEN_OF(m));
		assert(last[2 * (m / ROUNDS) + ring - 1] <= m % ROUNDS);
		last[2 * (m / ROUNDS) + ring - 1] = m % ROUNDS + 1;
		i++
	:: else -> break
	od;
	i = 0;
	m = 0
}

inline receives()
{
	byte ring, pos, p, t, n, i, m;
	int word, values; /* values: four bits each */
	bool swapped;

	do
	:: true ->
		/* look() */
		ring = 2;
		do
		:: true ->
			pos = head[ring];
			d_step {
				word = E(ring, pos);
				/* "Nothing in this class" is said at this instant. */
				assert(TAG(word) != TAG_OF(pos - CAP) || in_ring[ring] == 0)
			};
			if
			:: TAG(word) == TAG_OF(pos) ->
				/* choose() */
				atomic { values = VALUE(word); n = 1 };
#if BATCH > 1
				word = E(ring, pos + 1);
				if
				:: TAG(word) == TAG_OF(pos + 1) ->
					atomic { values = values | (VALUE(word) << 4); n = 2 }
				:: else
				fi;
#endif
				atomic {
#ifdef BREAK_PLAIN_HEAD
					swapped = true;
#else
					swapped = (head[ring] == pos);
#endif
					if
					:: swapped ->
						head[ring] = POS(pos + n);
						in_ring[ring] = in_ring[ring] - n;
#ifndef BREAK_CLAIM_FIRST
						check_claimed();
#endif
						swapped = false;
						word = 0;
						break
					:: else -> n = 0; values = 0
					fi
				}
			:: TAG(word) == TAG_OF(pos - CAP) ->
				if
				:: ring == 2 -> ring = 1
				:: else -> /* EMPTY */
					atomic { ring = 2; pos = 0; word = 0 };
end_empty:
					in_ring[1] + in_ring[2] > 0
				fi
			:: else ->
				assert(head[ring] != pos);
				ring = 2
			fi
		od;
#ifdef BREAK_CLAIM_FIRST
		atomic { values = VALUE(E(ring, pos)); check_claimed() };
#endif
		atomic { pos = 0; ring = 0 };
#ifdef BREAK_EARLY_RETURN
		give_back();
		copy_out();
#else
		copy_out();
		give_back();
#endif
		atomic { n = 0; i = 0; p = 0; values = 0 }
	od
}

proctype sender(byte me)
{
	{
		sends()
	} unless {
		victim == me + 1
	};
end_dead:
	false
}

proctype receiver(byte me)
{
	{
		receives()
	} unless {
		victim == me + 1
	};
end_dead:
	false
}

#if defined(DIE_SENDER)
#define VICTIM 1
#elif defined(DIE_RECEIVER)
#define VICTIM (SENDERS + 1)
#endif

#ifdef VICTIM
active proctype killer()
{
	victim = VICTIM
}
#endif

init
{
	byte i, j, lost;

	atomic {
		for (j : 0 .. 2) {
			for (i : 0 .. CAP - 1) {
				if
				:: j == 0 -> E(0, START + i) = WORD(START + i, i)
				:: else -> E(j, START + i) = WORD(START - CAP + i, 0)
				fi
			}
			head[j] = START;
			tail[j] = (j == 0 -> POS(START + CAP) : START)
		}
		in_ring[0] = CAP;
		for (i : 0 .. SENDERS - 1) {
			run sender(i)
		}
		for (i : SENDERS .. THREADS - 1) {
			run receiver(i)
		}
	}
	timeout ->
	/* Nothing can move any more. */
	atomic {
		for (i : 0 .. CAP - 1) {
			assert(owner[i] == 0 || owner[i] == victim);
			lost = lost + (owner[i] != 0)
		}
		assert(in_ring[0] + in_ring[1] + in_ring[2] + lost == CAP);
		assert(in_ring[1] + in_ring[2] == 0);
		assert(lost <= BATCH);
		assert(received <= accepted && received + lost >= accepted);
#ifdef VICTIM
		assert(lost == CAP || finished >= SENDERS - (VICTIM <= SENDERS))
#else
		assert(finished == SENDERS && received == MESSAGES)
#endif
	}
}
