/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cuda_ahead.pml - a message that comes with the look: a unit reads the slot in which it expects the
 * next message before it has seen that one's entry. See look.cuh (gq_guess, gq_look_ahead,
 * gq_take_look, gq_grid_claim), message.cuh (gq_is_whole, gq_stage_whole, gq_learn_pool_lead) and the seals
 * of protocol.h.
 *
 * PRODUCERS producers take slots of a pool of CAP, give ABORTS of them back unused, and publish
 * MESSAGES between them. A slot is three words, written one by one: payload, id in the header, seal.
 * A seal fits if the three are of one message. UNITS units look, claim, run and return the slot
 * (which is one step: the ways between are publish_claim.pml's subject, as is the put into a ring).
 * A look reads the cursor, then in any order the three words of the slot it guesses, and the entry;
 * with the entry the next POOLS words of the pool, from which the next look guesses. It stops
 * reading ahead when that is in vain: a word is not the guess's, or the entry not published.
 *
 * An id is a position of the pool and a slot. No position wraps. The code's entry has 20 bits of the
 * id, the model's all.
 *
 * ANY_GUESS: a unit guesses any id at all; what follows holds whatever the guess.
 *
 * MIRROR: transport BAR1 (gq_take_hint, gq_turn_by_hint; "Hints" in docs/design/memory-model.md). A unit that
 * has found nothing may look at a copy of slots and entries instead, to which producers' stores come
 * in any order, late, or not at all: a word of the copy reads as what was stored there for the
 * message looked for, if it was, or as something else. Such a look can only claim.
 *
 * Holds: what a unit runs is all of the message it has claimed; each runs once; when nothing can
 * move any more, all have run and all slots are free.
 *
 *   BREAK_NO_USE        the entry holds the slot alone: all of an older message is run
 *   BREAK_NO_HEADER     the header's id is not compared with the guess: the same
 *   BREAK_NO_SEAL       the payload is believed by the header's id: half a message
 *   BREAK_FRESH_CURSOR  the claim swaps the cursor as it is then, not as the look found it
 *   BREAK_EARLY_RETURN  the slot is free with the claim, before it has been read again
 *   BREAK_HINT_POS      MIRROR: an entry's copy is believed whatever position it names
 *   BREAK_HALF_HINT     MIRROR: the message is claimed before it has been judged, and what does not
 *                       fit is not read again
 */
#ifndef CAP
#define CAP 2
#endif
#ifndef UNITS
#define UNITS 2
#endif
#ifndef PRODUCERS
#define PRODUCERS 2
#endif
#ifndef MESSAGES
#define MESSAGES 3
#endif
#ifndef ABORTS
#define ABORTS 0
#endif
#ifndef POOLS
#define POOLS 1
#endif

/* An id is never 0: positions of the pool begin at CAP. */
#define ID(p, s)    ((p)*CAP + (s))
#define SLOT_OF(id) ((id) % CAP)
#define POS_OF(id)  ((id) / CAP)
#define POSITIONS   (CAP + CAP + MESSAGES + ABORTS)

byte pool[CAP], pool_head = CAP, pool_tail = CAP + CAP;
byte payload[CAP], header[CAP], seal[CAP];
byte entry[CAP], entry_pos[CAP], tail; /* one word: the id, and the position + 1 */
byte cursor, uses = CAP;
#ifdef MIRROR
bool mirrored[CAP * POSITIONS]; /* by id: the stores to the copy of its slot have begun */
byte published[MESSAGES];       /* by position */
#endif
bool ran[POSITIONS];
byte unsent = MESSAGES, holding, aborts = ABORTS;

#define FREE      (pool_tail - pool_head)
#define IN_MOTION (tail != cursor || holding > 0 || (unsent > 0 && FREE > 0))

inline put_back(slot)
{
	pool[pool_tail % CAP] = ID(pool_tail, slot);
	pool_tail++
}

proctype producer()
{
	byte id;

end:
	do
	:: d_step {
		unsent > 0 && FREE > 0 ->
		id = pool[pool_head % CAP];
		assert(POS_OF(id) == pool_head);
		pool_head++;
		holding++;
		unsent--
	};
		payload[SLOT_OF(id)] = id;
		header[SLOT_OF(id)] = id;
		if
		:: d_step {
			aborts > 0 ->
			aborts--;
			unsent++;
			put_back(SLOT_OF(id));
			holding--;
			id = 0
		}
		:: seal[SLOT_OF(id)] = id;
		   d_step {
#ifdef MIRROR
			   mirrored[id] = true;
			   published[tail] = id;
#endif
			   assert(tail - cursor < CAP);
			   entry[tail % CAP] = id;
			   entry_pos[tail % CAP] = tail + 1;
			   tail++;
			   holding--;
			   id = 0
		   }
		fi
	od
}

/* What the entry lets the unit compare its guess with. */
#ifdef BREAK_NO_USE
#define ENTRY_FITS (SLOT_OF(guess) == SLOT_OF(id))
#else
#define ENTRY_FITS (guess == id)
#endif
/* The slot's words, all read. */
#ifdef BREAK_NO_HEADER
#define WHOLE (p == h && s == h)
#else
#ifdef BREAK_NO_SEAL
#define WHOLE (h == guess)
#else
#define WHOLE      (p == guess && h == guess && s == guess)
#define IN_VAIN(w) ((w) != guess)
#endif
#endif
#ifndef IN_VAIN
#define IN_VAIN(w) false
#endif

#define WORDS 7
#define ENTRY 8

#define READ_AHEAD(to, from, bit) \
	:: !by_hint && (got & bit) == 0 -> \
		d_step { \
			to = from[SLOT_OF(guess)]; \
			got = got | bit; \
			if \
			:: IN_VAIN(to) -> guess = 0; got = got | WORDS; p = 0; h = 0; s = 0 \
			:: else \
			fi \
		}

/* What has come of the copy's word, for message `guess`; else something that is of none. */
#define READ_MIRROR(to, bit) \
	:: by_hint && (got & bit) == 0 -> \
		d_step { \
			to = 0; \
			got = got | bit \
		} \
	:: by_hint && (got & bit) == 0 && mirrored[guess] -> \
		d_step { \
			to = guess; \
			got = got | bit \
		}

inline forget()
{
	p = 0;
	h = 0;
	s = 0;
	id = 0;
	guess = 0;
	got = 0;
	at = 0;
	my_uses = 0;
	seen = false;
	by_hint = false;
	ours = false
}

proctype unit()
{
	byte at, guess, p, h, s, id, my_uses, got, k;
	byte known[POOLS], known_pos;
	bool idle, seen, ours, by_hint;

turn:
	atomic {
		at = cursor;
		my_uses = uses;
		k = at + my_uses; /* of the pool; what is known of it is from the last look */
		guess = 0;
#ifdef MIRROR
		if
		:: idle -> by_hint = true
		:: true
		fi;
#endif
#ifdef ANY_GUESS
		if
		:: idle -> select(guess : CAP * CAP .. CAP * POSITIONS - 1)
		:: true
		fi;
#else
		if
		:: idle && k >= known_pos && k - known_pos < POOLS &&
		   POS_OF(known[k - known_pos]) == k ->
			guess = known[k - known_pos]
		:: else
		fi;
		if
		:: !by_hint -> known_pos = k /* what is known is of the looks across PCIe */
		:: else
		fi;
#endif
		k = 0;
		if
		:: guess == 0 -> got = WORDS; by_hint = false
		:: else
		fi
	};
	do
	READ_AHEAD(p, payload, 1)
	READ_AHEAD(h, header, 2)
	READ_AHEAD(s, seal, 4)
#ifdef MIRROR
	READ_MIRROR(p, 1)
	READ_MIRROR(h, 2)
	READ_MIRROR(s, 4)
	:: by_hint && (got & ENTRY) == 0 ->
		got = got | ENTRY /* nothing has come, or of another position */
	:: by_hint && (got & ENTRY) == 0 && tail > at ->
		d_step {
			id = published[at];
			seen = true;
			got = got | ENTRY
		}
#ifdef BREAK_HINT_POS
	:: by_hint && (got & ENTRY) == 0 && at >= CAP && tail > at - CAP ->
		d_step {
			id = published[at - CAP];
			seen = true;
			got = got | ENTRY
		}
#endif
#endif
	:: !by_hint && (got & ENTRY) == 0 ->
		d_step {
			id = entry[at % CAP];
			seen = (entry_pos[at % CAP] == at + 1);
#ifndef ANY_GUESS
			for (k : 1 .. POOLS) {
				known[k - 1] = pool[(known_pos + k - 1) % CAP]
			}
			k = 0;
#endif
			got = got | ENTRY;
			if
			:: !seen -> got = got | WORDS
			:: else
			fi
		}
	:: got == (WORDS | ENTRY) -> break
	od;
#ifdef MIRROR
	if
#ifdef BREAK_HALF_HINT
	:: by_hint && !seen ->
#else
	:: by_hint && !(seen && ENTRY_FITS && WHOLE) ->
#endif
		d_step { /* the next look is one across PCIe */
			forget();
			idle = false
		};
		goto turn
	:: else
	fi;
#endif
	if
	:: !seen ->
end_idle:
		atomic { IN_MOTION -> forget(); idle = true; goto turn }
	:: else
	fi;
	/* The claim. */
	atomic {
#ifdef BREAK_FRESH_CURSOR
		ours = (tail != cursor);
#else
		ours = (cursor == at);
#endif
		if
		:: ours ->
			cursor++;
			idle = false;
#ifdef BREAK_EARLY_RETURN
			put_back(SLOT_OF(id))
#endif
		:: else ->
			forget();
			goto turn
		fi
	};
	if
	:: guess != 0 && ENTRY_FITS && WHOLE
#ifdef BREAK_HALF_HINT
	:: by_hint && !(ENTRY_FITS && WHOLE)
#endif
	:: else -> /* again, after [message.claim] */
		h = header[SLOT_OF(id)];
		p = payload[SLOT_OF(id)]
	fi;
	atomic {
		assert(p == id && h == id); /* all of it, and of none but the one claimed */
#ifdef MIRROR
		assert(id == published[at]);
#endif
		assert(!ran[POS_OF(id)]);
		ran[POS_OF(id)] = true;
		/* gq_learn_pool_lead() */
		if
		:: POS_OF(h) - at != my_uses -> uses = POS_OF(h) - at
		:: else
		fi;
#ifndef BREAK_EARLY_RETURN
		put_back(SLOT_OF(id));
#endif
		forget();
		goto turn
	}
}

init
{
	byte i;

	atomic {
		for (i : 1 .. CAP) {
			pool[i - 1] = ID(CAP + i - 1, i - 1)
		}
		for (i : 1 .. PRODUCERS) {
			run producer()
		}
		for (i : 1 .. UNITS) {
			run unit()
		}
		i = 0
	}
	timeout ->
	assert(unsent == 0 && cursor == MESSAGES && FREE == CAP)
}
