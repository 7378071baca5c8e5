/* SPDX-License-Identifier: Apache-2.0 */
/*
 * flag.pml - gq__flag_wake() and the arming in gq__wait_next(): a word that any number of threads sleep
 * on, in a slot's header or in a ring's shared memory (src/host/wait/wait.h).
 *
 * PUBLISHERS publishers publish ROUNDS times each and then wake whoever sleeps. SLEEPERS sleepers wait
 * until something has been published that they have not seen: arm, look again, sleep. Unlike a message
 * (park.pml) a publication is for everybody. A sleep may end by itself (TIMEOUTS of them), and the sleeper
 * then goes and leaves the word as it is, as one that is killed does. The futex is the kernel's: compare and
 * enqueue in one step, wakes all. With STALL the first publisher stands still for good at some step of waking;
 * the others begin then.
 *
 * Holds: when nothing can move any more, nobody sleeps who has not seen the last publication. With STALL,
 * the last publication of those that do not stand still.
 *
 *   BREAK_CLEAR_FIRST   (STALL) the word is cleared, then the sleepers are woken: a waker that stands
 *                       still hides them
 *   BREAK_CLEAR_ALWAYS  the word is cleared also if somebody has armed it since
 *   BREAK_NO_WAKING     a waker does not say that it has begun: who arms beside a sleeper after it has
 *                       woken that one is cleared away
 *   BREAK_SAME_WORD     arming an armed word never changes it, also if a waker has begun
 *   BREAK_SAME_COUNT    arming counts nothing: the word is that of an earlier arming again
 *   BREAK_LOOK_FIRST    look, then arm
 *   BREAK_WAKE_FIRST    look at the word, then publish
 */
#ifndef PUBLISHERS
#define PUBLISHERS 2
#endif
#ifndef SLEEPERS
#define SLEEPERS 2
#endif
#ifndef ROUNDS
#define ROUNDS 1
#endif
#ifndef TIMEOUTS
#define TIMEOUTS 0
#endif

#define ARMED	   1
#define WAKING	   2
#define BITS	   3
#define NEXT_COUNT 4

byte word, published, timed_out;
bool stalled;
bool asleep[SLEEPERS];
byte seen[SLEEPERS];

inline wake_all()
{
	d_step {
		asleep[0] = false;
#if SLEEPERS > 1
		asleep[1] = false;
#endif
#if SLEEPERS > 2
		asleep[2] = false;
#endif
	}
}

/* With STALL, the first publisher may stand still here. */
inline may_stall()
{
#ifdef STALL
	if
	:: me == 0 -> stalled = true; goto out
	:: true
	fi
#else
	skip
#endif
}

proctype publisher(byte me)
{
	byte round, value;

#ifdef STALL
	me == 0 || stalled;
#endif
	do
	:: round < ROUNDS ->
#ifndef BREAK_WAKE_FIRST
		published++;
#endif
		value = word;
		if
		:: !(value & ARMED) -> goto next
		:: else
		fi;
#ifdef BREAK_CLEAR_FIRST
		d_step {
			if
			:: word == value -> word = (value & ~BITS) + NEXT_COUNT
			:: else -> value = 0
			fi
		};
		if
		:: value == 0 -> goto next /* another has cleared it */
		:: else
		fi;
		may_stall();
		wake_all();
#else
		d_step {
			value = word;
#ifndef BREAK_NO_WAKING
			word = word | WAKING
#endif
		};
		if
		:: !(value & ARMED) -> goto next
		:: else
		fi;
		may_stall();
		wake_all();
		may_stall();
		d_step {
#ifndef BREAK_NO_WAKING
			value = value | WAKING;
#endif
			if
#ifdef BREAK_CLEAR_ALWAYS
			:: true -> word = word & ~BITS
#else
			:: word == value -> word = word & ~BITS
			:: else
#endif
			fi
		};
#endif
next:
#ifdef BREAK_WAKE_FIRST
		published++;
#else
		skip;
#endif
		d_step { value = 0; round++ }
	:: else -> break
	od;
#ifdef STALL
	stalled = true;
out:
#endif
	skip
}

proctype sleeper(byte me)
{
	byte key;
	bool armed;

again:
	seen[me] = published; /* the look: what it waits for, or not yet */
	if
	:: seen[me] == PUBLISHERS * ROUNDS -> goto out
	:: else
	fi;
	/* Arming: a load and a swap. */
	key = word;
	if
#ifdef BREAK_SAME_WORD
	:: key & ARMED
#else
	:: (key & BITS) == ARMED
#endif
	:: else ->
		d_step {
			armed = (word == key);
			if
			:: armed ->
#ifdef BREAK_SAME_COUNT
				word = (word & ~BITS) | ARMED;
#else
				word = ((word & ~BITS) + NEXT_COUNT) | ARMED;
#endif
				key = word
			:: else
			fi
		};
		if
		:: !armed -> goto again
		:: else
		fi
	fi;
#ifndef BREAK_LOOK_FIRST
	if
	:: published != seen[me] -> goto again
	:: else
	fi;
#endif
	d_step { /* FUTEX_WAIT: compare and enqueue */
		asleep[me] = (word == key);
		key = 0;
		armed = false
	};
end:
	if
	:: !asleep[me] -> goto again
	:: atomic { asleep[me] && timed_out < TIMEOUTS -> asleep[me] = false; timed_out++ }
	fi;
out:
	skip
}

init
{
	byte i;

	atomic {
		for (i : 0 .. PUBLISHERS - 1) {
			run publisher(i)
		}
		for (i : 0 .. SLEEPERS - 1) {
			run sleeper(i)
		}
	}
	timeout ->
	for (i : 0 .. SLEEPERS - 1) {
		assert(!asleep[i] || seen[i] == published)
	}
}
