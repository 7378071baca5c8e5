/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ring_many.pml - messages through a ring in many/many mode, from end to end, by extents:
 * send_many() and receive_many() of src/host/ring, with pop_many(), put_many(), look_at(), choose(),
 * give_back_many(), and the reading of a ring for a repair (mark()).
 *
 * SENDERS senders send ROUNDS messages each, in either of two classes (ONE_CLASS: in one), up to
 * BATCH at once; RECEIVERS receivers receive up to TAKE at once, the higher class first. With
 * DIE_SENDER or DIE_RECEIVER the first of them may stop for ever, before any of its steps. With MARK
 * a thread reads one ring, as a repair does.
 *
 * pool.pml has words of one cell each and publish_claim.pml one class with an atomic pool; added
 * here: extents, of one or two cells; partial takes; hints, by which a putter knows of the ring's
 * end, and which are as old as its last put; tails that are raised only where a putter crosses a
 * multiple of LAZY; words inside of an extent, which no put writes; pool and two classes together,
 * so that a cell goes all the way round by the protocol's own steps; the cells, and how long a
 * receiver may look at one; death on either side.
 *
 * What is what: ring 0 is the pool, 1 and 2 are the classes. A ring has WORDS words. A head is the
 * position of an extent, and how many of its cells are taken. A value is a slot, whether the extent
 * has a second cell, and a length, which is told by the sender. A cell's content is the message's
 * number, filled in one step and copied out in two. Where the code gives up because memory must be
 * damaged, the model asserts.
 *
 * Abstracted: waiting (ring_close.pml) is until there is something by the ghost count in_ring[];
 * repair (ring_reclaim.pml) does not take place: what the dead have is gone. Words inside of an
 * extent are wiped in every lap; the code does so in one of many.
 *
 * Holds: a cell has one owner; an accepted message is claimed once and copied whole, but for those
 * in the hands of a dead receiver; each sender's messages of a class are claimed in order, and a
 * length seen before the claim is the claimed message's; positions count the cells; "no room", and
 * "nothing in this class", is said only at an instant at which it is so (not so of both classes
 * together: they are looked at one after the other); the living go on with the cells that the dead
 * do not have; a reading finds every cell that is in the ring all the time, and none that is not
 * there at any time.
 *
 *   BREAK_FETCH_ADD_PUT  (DIE_SENDER) a class's tail is advanced first and the entry written
 *                        afterwards: who dies in between leaves a hole, and hides what is behind it
 *   BREAK_LONG_LAZY      the tail is raised so seldom that it falls a lap behind
 *   BREAK_PLAIN_PUT      the entry is stored, not swapped
 *   BREAK_PLAIN_HEAD     the head is stored, not swapped
 *   BREAK_NO_OFFSET      the swap of the head does not compare how many of the cells are taken
 *   BREAK_CLAIM_FIRST    the entry is read (again) after the claim: it may be the next lap's
 *   BREAK_EARLY_RETURN   the cell goes back before it has been copied
 *   BREAK_SHORT_RING     a ring has as many words as cells: the word of an extent that is partly
 *                        taken is overwritten
 *   BREAK_STEP           a putter goes past an extent by one position
 *   BREAK_NO_WIPE        (LAPS=4) words inside of extents are never written: old, they look new
 *   BREAK_MARK_WHOLE     (MARK) a reading takes all cells of an extent that is partly taken
 *   BREAK_MARK_CELLS     (MARK) a reading goes on by one position
 */
#ifndef CAP
#define CAP 2
#endif
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
#ifndef TAKE
#define TAKE BATCH
#endif
#ifndef START
#define START 254
#endif
#ifdef BREAK_SHORT_RING
#define WORDS CAP
#else
#define WORDS (2 * CAP)
#endif
#ifdef BREAK_LONG_LAZY
#define LAZY (4 * CAP)
#else
#define LAZY CAP
#endif
#ifndef LAPS
#define LAPS (256 / WORDS) /* a word's tag says the lap, modulo this */
#endif
#define THREADS	  (SENDERS + RECEIVERS)
#define MESSAGES  (SENDERS * ROUNDS)
#define POS(p)	  ((p)&255)
#define IDX(p)	  ((p) & (WORDS - 1))
#define LAP(p)	  ((POS(p) / WORDS) & (LAPS - 1))
#define BEHIND(a, b) (POS((a) - (b)) >= 128)
#define CROSSES(a, b) ((POS(a) / LAZY) != (POS(b) / LAZY))

/* Values: slot in two bits, a second cell in one, length in one. */
#define VALUE_OF(slot, two, length) ((slot) | ((two) << 2) | ((length) << 3))
#define SLOT(v)	   ((v)&3)
#define COUNT(v)   (1 + (((v) >> 2) & 1))
#define LEN(v)	   (((v) >> 3) & 1)
#define LEN_OF(m)  (((m) / ROUNDS) & 1)
#define WORD(p, v) ((LAP(p) << 4) | (v))
#define AGE(w, p)  ((LAP(p) - ((w) >> 4)) & (LAPS - 1)) /* in laps */
#define IS_AT(w, p)  (AGE(w, p) == 0)
#define IS_OLD(w, p) (AGE(w, p) != 0 && AGE(w, p) <= LAPS / 2)

int entry[3 * WORDS];
short head[3]; /* position and, in two bits, cells taken */
byte tail[3];
byte cell[CAP]; /* the message's number + 1 */
#define E(ring, p) entry[(ring)*WORDS + IDX(p)]
#define AT(h)	   ((h) >> 2)
#define OFFSET(h)  ((h)&3)

/* Ghosts. */
byte in_ring[3];
byte popped;	 /* cells that have left the pool */
byte owner[CAP]; /* thread + 1; 0: in a ring */
byte last[2 * SENDERS]; /* by class: the last that was claimed, + 1 */
byte copied[MESSAGES];
byte accepted, received, finished;
byte victim; /* thread + 1 that is dead */
#ifdef MARK
byte where[CAP];   /* the ring that it is in; 3: none */
bool stayed[CAP], seen[CAP];
byte marked = 3;   /* the ring that is read */
#define GHOST_PUT(ring, s)  where[s] = ring; seen[s] = seen[s] || marked == ring
#define GHOST_TAKE(s) where[s] = 3; stayed[s] = false
#else
#define GHOST_PUT(ring, s)  skip
#define GHOST_TAKE(s) skip
#endif

/* Until the tail is at p; if it is beyond, go on from there. */
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
	:: else -> p = t; t = 0; break
	od
}

/* In a d_step: cells of value v leave the hands of this thread. */
inline let_go(ring, v)
{
	assert(owner[SLOT(v)] == me + 1);
	owner[SLOT(v)] = 0;
	GHOST_PUT(ring, SLOT(v));
	if
	:: COUNT(v) == 2 ->
		assert(owner[SLOT(v) + 1] == me + 1);
		owner[SLOT(v) + 1] = 0;
		GHOST_PUT(ring, SLOT(v) + 1)
	:: else
	fi;
	in_ring[ring] = in_ring[ring] + COUNT(v);
	if
	:: ring > 0 -> accepted = accepted + COUNT(v)
	:: else
	fi
}

/* Words inside of the extent that ends at p. */
inline wipe(ring, v)
{
#ifndef BREAK_NO_WIPE
	if
	:: COUNT(v) == 2 ->
		word = E(ring, p - 1);
		if
		:: AGE(word, p - 1) > 1 && IS_OLD(word, p - 1) ->
			d_step {
				if
				:: E(ring, p - 1) == word -> E(ring, p - 1) = WORD(p - 1 - WORDS, 0)
				:: else
				fi
			}
		:: else
		fi
	:: else
	fi
#else
	skip
#endif
}

/* From the hint on; the hint moves past it. */
inline put(ring, value)
{
	p = hint[ring];
	do
#ifdef BREAK_FETCH_ADD_PUT
	:: ring > 0 ->
		d_step { p = tail[ring]; tail[ring] = POS(p + COUNT(value)); }
		d_step {
			E(ring, p) = WORD(p, value);
			let_go(ring, value);
			p = POS(p + COUNT(value))
		};
		break
	:: ring == 0 ->
#else
	:: true ->
#endif
		word = E(ring, p);
		if
		:: IS_AT(word, p) ->
			d_step {
#ifdef BREAK_STEP
				t = POS(p + 1);
#else
				t = POS(p + COUNT(word));
#endif
				swapped = CROSSES(p, t);
				p = t;
				t = 0
			};
			if
			:: swapped -> swapped = false; raise_tail(ring)
			:: else
			fi
		:: IS_OLD(word, p) ->
			d_step {
#ifdef BREAK_PLAIN_PUT
				swapped = true;
#else
				swapped = (E(ring, p) == word);
#endif
				if
				:: swapped ->
					E(ring, p) = WORD(p, value);
					let_go(ring, value);
					t = POS(p + COUNT(value))
				:: else
				fi
			};
			if
			:: swapped ->
				d_step {
					swapped = CROSSES(p, t);
					p = t;
					t = 0
				};
				wipe(ring, value);
				if
				:: swapped -> raise_tail(ring)
				:: else
				fi;
				break
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
	skip;
	d_step { hint[ring] = p; p = 0; word = 0; swapped = false }
}

/* In a d_step: cells of the extent at s, from o on, as far as they are wanted; then s, o. Slots of
 * two bits. */
inline cells_of(v, want)
{
	do
	:: n < (want) && o < COUNT(v) ->
		slots = slots | ((SLOT(v) + o) << (2 * n));
		lens = lens | (LEN(v) << n);
		n++;
		o++
	:: else -> break
	od;
	if
	:: o == COUNT(v) -> s = POS(s + COUNT(v)); o = 0
	:: else
	fi;
	skip
}

#define SLOT_AT(i) ((slots >> (2 * (i))) & 3)
#define MESSAGE(i) (me * ROUNDS + sent + (i))

/* Swap the head from h to (s, o). */
inline swap_head(ring)
{
#if defined(BREAK_PLAIN_HEAD)
	swapped = true;
#elif defined(BREAK_NO_OFFSET)
	swapped = (AT(head[ring]) == AT(h));
#else
	swapped = (head[ring] == h);
#endif
	if
	:: swapped ->
		head[ring] = (s << 2) | o;
		in_ring[ring] = in_ring[ring] - n
	:: else
	fi
}

inline take(i)
{
	assert(owner[SLOT_AT(i)] == 0);
	owner[SLOT_AT(i)] = me + 1;
	GHOST_TAKE(SLOT_AT(i))
}

/* Put the n slots: as one extent, if they are neighbours. */
inline put_slots(ring, length)
{
	if
	:: n == 2 && SLOT_AT(1) == SLOT_AT(0) + 1 ->
		put(ring, VALUE_OF(SLOT_AT(0), 1, length))
	:: else ->
		put(ring, VALUE_OF(SLOT_AT(0), 0, length));
		if
		:: n == 2 -> put(ring, VALUE_OF(SLOT_AT(1), 0, length))
		:: else
		fi
	fi
}

inline sends()
{
	byte class, sent, s, o, p, t, n, hint[3];
	short h;
	int word, slots, lens;
	bool swapped;

	d_step { hint[0] = POS(START + CAP); hint[1] = START; hint[2] = START; };
	do
	:: sent < ROUNDS ->
#ifdef ONE_CLASS
		class = 1;
#else
		if
		:: class = 1
		:: class = 2
		fi;
#endif
		/* pop_many() */
		do
		:: true ->
			d_step { h = head[0]; s = AT(h); o = OFFSET(h); };
			do
			:: n < BATCH && sent + n < ROUNDS ->
				d_step {
					word = E(0, s);
					/* FULL is said at this instant. */
					assert(n > 0 || !IS_OLD(word, s) || in_ring[0] == 0);
					p = IS_AT(word, s);
					if
					:: p -> cells_of(word, (ROUNDS - sent < BATCH -> ROUNDS - sent : BATCH))
					:: else
					fi
				};
				if
				:: p -> p = 0
				:: else -> break
				fi
			:: else -> break
			od;
			if
			:: n == 0 && IS_OLD(word, s) -> /* FULL */
				d_step { h = 0; s = 0; o = 0; word = 0 };
end_full:
				in_ring[0] > 0
			:: n == 0 && !IS_OLD(word, s) ->
				assert(head[0] != h)
			:: n > 0 ->
				d_step {
					swap_head(0);
					if
					:: swapped ->
						assert(AT(h) + OFFSET(h) - START == popped || POS(AT(h) + OFFSET(h) - START) == popped);
						popped = popped + n;
						take(0);
						if
						:: n == 2 -> take(1)
						:: else
						fi;
						h = 0
					:: else -> n = 0; slots = 0
					fi;
					s = 0;
					o = 0;
					lens = 0;
					word = 0
				};
				if
				:: swapped -> swapped = false; break
				:: else
				fi
			fi
		od;
		/* fill() */
		skip;
	d_step { cell[SLOT_AT(0)] = MESSAGE(0) + 1; };
		if
		:: n == 2 -> cell[SLOT_AT(1)] = MESSAGE(1) + 1
		:: else
		fi;
		/* publish */
		put_slots(class, LEN_OF(MESSAGE(0)));
		skip;
	d_step { sent = sent + n; n = 0; slots = 0; class = 0 }
	:: else -> break
	od;
	finished++
}

inline copy_out(i)
{
	m = cell[SLOT_AT(i)];
	d_step {
#ifndef BREAK_EARLY_RETURN
		assert(owner[SLOT_AT(i)] == me + 1);
#endif
		assert(m > 0 && cell[SLOT_AT(i)] == m);
		copied[m - 1]++;
		assert(copied[m - 1] == 1);
		received++;
		m = 0
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

/* In a d_step: the claimed messages, each with its class, in order. */
inline check_claimed()
{
	i = 0;
	do
	:: i < n ->
		m = cell[SLOT_AT(i)] - 1;
		take(i);
		assert(((lens >> i) & 1) == LEN_OF(m));
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
	byte ring, s, o, p, t, n, i, m, hint[3];
	short h;
	int word, slots, lens;
	bool swapped;

	d_step { hint[0] = POS(START + CAP); };
	do
	:: true ->
		/* look() */
		ring = 2;
		do
		:: true ->
			d_step { h = head[ring]; s = AT(h); o = OFFSET(h); };
			d_step {
				word = E(ring, s);
				/* "Nothing in this class" is said at this instant. */
				assert(!IS_OLD(word, s) || in_ring[ring] == 0)
			};
			if
			:: IS_AT(word, s) ->
				/* choose() */
#ifdef BREAK_CLAIM_FIRST
				d_step {
					n = 1;
					o++;
					if
					:: o == COUNT(word) -> s = POS(s + o); o = 0
					:: else
					fi
				};
#else
				d_step { p = 0; cells_of(word, TAKE); };
#if TAKE > 1
				if
				:: n < TAKE ->
					d_step {
						word = E(ring, s);
						if
						:: IS_AT(word, s) -> cells_of(word, TAKE)
						:: else
						fi
					}
				:: else
				fi;
#endif
#endif
				skip;
				d_step {
					p = 0;
					swap_head(ring);
					if
#ifdef BREAK_CLAIM_FIRST
					:: swapped -> s = AT(h); o = OFFSET(h); word = 0; h = 0
					:: else -> n = 0; h = 0
#else
					:: swapped ->
						check_claimed();
						h = 0; s = 0; o = 0; word = 0
					:: else -> n = 0; slots = 0; lens = 0; h = 0
#endif
					fi
				};
				if
				:: swapped -> swapped = false; break
				:: else
				fi
			:: IS_OLD(word, s) ->
				if
				:: ring == 2 -> ring = 1
				:: else -> /* EMPTY */
					d_step { ring = 2; h = 0; s = 0; o = 0; word = 0 };
end_empty:
					in_ring[1] + in_ring[2] > 0
				fi
			:: else ->
				assert(head[ring] != h);
				ring = 2
			fi
		od;
#ifdef BREAK_CLAIM_FIRST
		skip;
		d_step {
			n = 0;
			word = E(ring, s);
			cells_of(word, 1);
			check_claimed();
			s = 0;
			o = 0;
			word = 0
		};
#endif
		skip;
	d_step { ring = 0; lens = 0 };
#ifdef BREAK_EARLY_RETURN
		put_slots(0, 0);
		copy_all();
#else
		copy_all();
		put_slots(0, 0);
#endif
		skip;
	d_step { n = 0; slots = 0 }
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

#ifdef MARK
/* gq__ring_mark_found(), of one ring. */
proctype marker()
{
	byte ring, s, o, i, n;
	int word;
	bool found[CAP];

	if
	:: ring = 0
	:: ring = 1
	fi;
	d_step {
		s = AT(head[ring]);
		o = OFFSET(head[ring]);
		marked = ring;
		for (i : 0 .. CAP - 1) {
			stayed[i] = (where[i] == ring);
			seen[i] = stayed[i]
		}
		i = 0
	};
	do
	:: n < CAP ->
		d_step {
			word = E(ring, s);
			if
			:: IS_AT(word, s) ->
#ifdef BREAK_MARK_WHOLE
				o = 0;
#endif
				n = n + COUNT(word) - o;
				do
				:: o < COUNT(word) ->
					/* A cell that has left is not in anybody's hands by this
					 * reading alone. */
					found[SLOT(word) + o] = true;
					assert(seen[SLOT(word) + o]);
					o++
				:: else -> break
				od;
				o = 0;
#ifdef BREAK_MARK_CELLS
				s = POS(s + 1)
#else
				s = POS(s + COUNT(word))
#endif
			:: else -> n = CAP
			fi
		}
	:: else -> break
	od;
	skip;
	d_step {
		skip;
		for (i : 0 .. CAP - 1) {
			assert(!stayed[i] || found[i]);
			stayed[i] = false;
			seen[i] = false;
			found[i] = false
		}
		marked = 3;
		ring = 0; s = 0; n = 0; i = 0; word = 0
	}
}
#endif

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
			for (i : 0 .. WORDS - 1) {
				E(j, START + i) = WORD(START + i - WORDS, 0)
			}
			head[j] = START << 2;
			tail[j] = (j == 0 -> POS(START + CAP) : START)
		}
#if CAP == 1
		E(0, START) = WORD(START, VALUE_OF(0, 0, 0));
#else
		for (i : 0 .. CAP / 2 - 1) {
			E(0, START + 2 * i) = WORD(START + 2 * i, VALUE_OF(2 * i, 1, 0))
		}
#endif
		in_ring[0] = CAP;
		for (i : 0 .. SENDERS - 1) {
			run sender(i)
		}
		for (i : SENDERS .. THREADS - 1) {
			run receiver(i)
		}
#ifdef MARK
		run marker()
#endif
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
		assert(lost <= (BATCH > TAKE -> BATCH : TAKE));
		assert(received <= accepted && received + lost >= accepted);
#ifdef VICTIM
		assert(lost == CAP || finished >= SENDERS - (VICTIM <= SENDERS))
#else
		assert(finished == SENDERS && received == MESSAGES)
#endif
	}
}
