/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hand.pml - claiming several messages by one swap: gq_claim_many() and the hand (gq_hand_fill(),
 * gq_hand_take()) of src/device/protocol/hand.h, with consume() of src/device/cpu/cpu_device.c.
 *
 * A producer publishes MESSAGES messages; two consumers claim up to MOST at a time, hold them in
 * their hands, and take from them one by one. A consumer with nothing of its own takes from the
 * front of the other's hand; with nothing there it registers, looks again, and sleeps. One consumer
 * may hang in its processor for good (HANG).
 *
 * Abstracted: the class ring is a count of published messages and a head, as publish_claim.pml
 * shows that an entry is read before the head passes it. An event is one flag a sleeper, as in
 * pause.pml. Slots are numbered like messages. Kept apart: each store of a slot into the hand, the
 * store of the hand's word, the wake-up; in a taking the load of the word, of the slot, the swap.
 *
 * Holds: no message is started twice; when nothing can move any more every message has been
 * started, though a consumer hangs with others in its hand: nobody sleeps while one is held.
 *
 *   BREAK_PLAIN_CLAIM  the head is stored, not swapped
 *   BREAK_PLAIN_TAKE   a consumer takes from its own hand by a store
 *   BREAK_NO_BATCH     the hand's word does not say which filling it is of
 *   BREAK_WORD_FIRST   the word is stored before the slots
 *   BREAK_QUIET_FILL   a consumer that fills its hand wakes nobody
 *   BREAK_LOOK_RING    the second look before sleeping is at the class ring only
 */
#ifndef MESSAGES
#define MESSAGES 4
#endif
#ifndef MOST
#define MOST 2
#endif

byte published, head;
int word[2];		/* batch << 4 | next << 2 | end */
byte held[2 * MOST];	/* two hands */
bool asleep[2];		/* registered: a wake-up clears it */

/* Ghosts. */
byte ran[MESSAGES], started;
bool hung;

#define NEXT(w)	 (((w) >> 2) & 3)
#define END(w)	 ((w)&3)
#define EMPTY(w) (NEXT(w) == END(w))
#ifdef BREAK_NO_BATCH
#define FILLED(w, n) (n)
#else
#define FILLED(w, n) (((((w) >> 4) + 1) << 4) | (n))
#endif

inline wake_one()
{
	d_step {
		if
		:: asleep[0] -> asleep[0] = false
		:: else ->
			if
			:: asleep[1] -> asleep[1] = false
			:: else
			fi
		fi
	}
}

proctype producer()
{
	do
	:: published < MESSAGES ->
		published++;
		wake_one()
	:: else -> break
	od
}

/* The front of hand `whose`, into m; got says whether. */
inline take_from(whose)
{
	do
	:: true ->
		w = word[whose];
		got = false;
		if
		:: EMPTY(w) -> break
		:: else
		fi;
		m = held[(whose) * MOST + NEXT(w)];
#ifdef BREAK_PLAIN_TAKE
		if
		:: (whose) == me -> word[whose] = w + 4; got = true; break
		:: else
		fi;
#endif
		d_step {
			got = (word[whose] == w);
			if
			:: got -> word[whose] = w + 4
			:: else
			fi
		};
		if
		:: got -> break
		:: else
		fi
	od
}

inline fill_hand()
{
#ifdef BREAK_WORD_FIRST
	word[me] = FILLED(word[me], n);
#endif
	i = 0;
	do
	:: i < n -> held[me * MOST + i] = h + i; i++
	:: else -> break
	od;
#ifndef BREAK_WORD_FIRST
	word[me] = FILLED(word[me], n);
#endif
	i = 0
}

inline claim_many()
{
	h = head;
	n = published - h;
	if
	:: n > MOST -> n = MOST
	:: else
	fi;
#ifdef BREAK_PLAIN_CLAIM
	head = h + n
#else
	d_step {
		if
		:: head == h -> head = h + n
		:: else -> n = 0
		fi
	}
#endif
}

proctype consumer(byte me)
{
	byte m, n, h, i;
	int w;
	bool got;

again:
	take_from(me);
	if
	:: !got && head != published ->
		claim_many();
		if
		:: n == 1 -> m = h; got = true
		:: n > 1 ->
			fill_hand();
#ifndef BREAK_QUIET_FILL
			wake_one();
#endif
			goto again
		:: else -> goto again /* another was faster */
		fi
	:: else
	fi;
	if
	:: !got -> take_from(1 - me)
	:: else
	fi;
	if
	:: got ->
		d_step {
			ran[m]++;
			assert(ran[m] == 1);
			started++;
			m = 0;
			n = 0;
			h = 0;
			w = 0
		};
#ifdef HANG
		if
		:: true
		:: atomic { !hung -> hung = true }; goto end_hung
		fi;
#endif
		goto again
	:: else
	fi;
	asleep[me] = true;
#ifdef BREAK_LOOK_RING
	if
	:: head != published -> asleep[me] = false; goto again
#else
	if
	:: head != published || !EMPTY(word[1 - me]) -> asleep[me] = false; goto again
#endif
	:: else
	fi;
end_idle:
	!asleep[me];
	goto again;
end_hung:
	false
}

init
{
	atomic {
		run producer();
		run consumer(0);
		run consumer(1)
	}
	timeout ->
	assert(started == MESSAGES)
}
