/* SPDX-License-Identifier: Apache-2.0 */
/*
 * park.pml - struct gq_event: publish, look for sleepers, wake; register, look again, sleep.
 *
 * PRODUCERS producers publish ROUNDS messages each and wake one sleeper: gq_event_bump(), the futex
 * call, and taking off who was woken are three steps. CONSUMERS consumers claim, or register, look
 * again and sleep; a barger takes a message without ever sleeping; sleepers may time out (TIMEOUTS of
 * them), take themselves off, try once more and go. `work` counts published messages: rings are other
 * models' subject. The futex is the kernel's: compare and enqueue in one step, wakes any one queued.
 * With STALL the first producer stands still for good in the middle of waking; the others begin then.
 * With BATCH a producer publishes that many at once, and wakes one sleeper all the same; a consumer that
 * has slept, or was about to after its second look, and then claims, wakes the next if there is more; a
 * claimed message may run for good (LONG of them); and who times out goes on, as a consumer does.
 *
 * Holds: when nothing can move any more, no message waits while somebody sleeps (no lost wake-up, and
 * no waker that stands still keeps others' messages waiting); and sleepers are counted exactly.
 *
 *   BREAK_LOOK_FIRST    look, then register: what comes in between is missed
 *   BREAK_WAKE_FIRST    look for sleepers, then publish
 *   BREAK_TAKE_FIRST    (STALL) the sleeper is taken off before it is woken: the waker that stands
 *                       still has it, and nobody else wakes it
 *   BREAK_TWICE         a woken sleeper takes itself off too: another's registration
 *   BREAK_NO_BUMP       waking does not change the futex word: who is about to sleep misses it
 *   BREAK_NO_NEXT       (BATCH) a woken consumer wakes nobody: a message waits behind one that runs for good
 *   BREAK_STOREBUFFER   publication and registration wait in a store buffer while the look goes
 *                       ahead: what acquire and release alone would allow
 */
#ifndef PRODUCERS
#define PRODUCERS 2
#endif
#ifndef CONSUMERS
#define CONSUMERS 2
#endif
#ifndef ROUNDS
#define ROUNDS 2
#endif

#ifdef BATCH
#define MESSAGES BATCH
#else
#define MESSAGES 1
#endif
#ifndef LONG
#define LONG 1
#endif
#ifndef TIMEOUTS
#define TIMEOUTS 1
#endif
#if CONSUMERS == 1
#define ANY_ASLEEP asleep[0]
#elif CONSUMERS == 2
#define ANY_ASLEEP (asleep[0] || asleep[1])
#else
#define ANY_ASLEEP (asleep[0] || asleep[1] || asleep[2])
#endif

byte work, seq, sleepers, timed_out, running;
bool stalled;
bool asleep[CONSUMERS];
#ifdef BREAK_STOREBUFFER
byte buffered_work;	/* published, not yet visible */
byte buffered_sleepers; /* registered, not yet visible */
#endif

inline futex_wake_one()
{
	atomic {
		woken = 1;
		if
		:: asleep[0] -> asleep[0] = false
#if CONSUMERS > 1
		:: asleep[1] -> asleep[1] = false
#endif
#if CONSUMERS > 2
		:: asleep[2] -> asleep[2] = false
#endif
		:: else -> woken = 0
		fi
	}
}

proctype producer(byte me)
{
	byte round, n, woken;

#ifdef STALL
	me == 0 || stalled;
#endif
	do
	:: round < ROUNDS ->
#if defined(BREAK_STOREBUFFER)
		buffered_work++;
#elif !defined(BREAK_WAKE_FIRST)
		work = work + MESSAGES;
#endif
		d_step { /* gq_event_bump(): one compare-and-swap */
			n = (sleepers > 0);
			if
			:: n > 0 ->
#ifdef BREAK_TAKE_FIRST
				sleepers--;
#endif
#ifndef BREAK_NO_BUMP
				seq++
#endif
			:: else
			fi
		};
#ifdef BREAK_WAKE_FIRST
		work++;
#endif
#ifdef STALL
		if
		:: me == 0 -> stalled = true; goto out
		:: else
		fi;
#endif
		if
		:: n > 0 ->
			futex_wake_one();
#ifndef BREAK_TAKE_FIRST
			d_step { assert(sleepers >= woken); sleepers = sleepers - woken; }
#endif
		:: else
		fi;
		round++
	:: else -> break
	od;
#ifdef STALL
out:
#endif
	skip
}

#ifdef BREAK_STOREBUFFER
/* The store buffers empty some time. */
active proctype drain()
{
end:
	do
	:: d_step { buffered_work > 0 -> work++; buffered_work--; }
	:: d_step { buffered_sleepers > 0 -> sleepers++; buffered_sleepers--; }
	od
}
#endif

inline claim()
{
	d_step {
		got = (work > 0);
		if
		:: got -> work--
		:: else
		fi
	}
}

inline unregister()
{
#ifdef BREAK_STOREBUFFER
	d_step { sleepers > 0 -> sleepers--; } /* our own store is out by then */
#else
	d_step { assert(sleepers > 0); sleepers--; }
#endif
}

/* gq__wake_next_consumer(): each look is a step, then those of a producer. */
inline wake_next()
{
	if
	:: sleepers > 0 ->
		if
		:: work > 0 ->
			d_step {
				n = (sleepers > 0);
				if
				:: n > 0 -> seq++
				:: else
				fi
			};
			if
			:: n > 0 ->
				futex_wake_one();
				d_step { assert(sleepers >= woken); sleepers = sleepers - woken; }
			:: else
			fi
		:: else
		fi
	:: else
	fi
}

proctype consumer(byte me)
{
	byte key;
	bool got;
#ifdef BATCH
	byte n, woken;
	bool slept;
#endif

again:
	claim();
#ifdef BATCH
	if
	:: got ->
#ifndef BREAK_NO_NEXT
		if
		:: slept -> wake_next()
		:: else
		fi;
#endif
		d_step { slept = false; got = false; key = 0; n = 0; woken = 0 };
		if
		:: true -> goto again
		:: atomic { running < LONG -> running++ };
end_running:
			false /* inside of the message for good */
		fi
	:: else
	fi;
#else
	if
	:: got -> goto again
	:: else
	fi;
#endif
#ifdef BREAK_LOOK_FIRST
	got = (work > 0);
#endif
#if defined(BREAK_STOREBUFFER)
	d_step { key = seq; buffered_sleepers++; }
#else
	d_step { key = seq; sleepers++; }
#endif
#ifndef BREAK_LOOK_FIRST
	got = (work > 0);
#endif
	if
	:: got -> unregister(); goto again
	:: else
	fi;
#ifdef BATCH
	slept = true;
#endif
	d_step { /* FUTEX_WAIT: compare and enqueue */
		got = (seq == key);
		asleep[me] = got
	};
	if
	:: !got -> unregister(); goto again
	:: else
	fi;
end:
	if
	:: !asleep[me] -> /* woken, and taken off by who woke us */
#ifdef BREAK_TWICE
		unregister();
#endif
		goto again
	:: atomic { asleep[me] && timed_out < TIMEOUTS -> asleep[me] = false; timed_out++ };
		unregister();
#ifdef BATCH
		goto again
#endif
		claim() /* a last attempt; then it goes away, as a producer whose time is over does */
	fi
}

/* Takes what it sees, once, without sleeping. */
proctype barger()
{
	bool got;

	claim()
}

init
{
	byte i;

	atomic {
		for (i : 0 .. PRODUCERS - 1) {
			run producer(i)
		}
		for (i : 0 .. CONSUMERS - 1) {
			run consumer(i)
		}
		run barger()
	}
	timeout ->
	assert(work == 0 || !ANY_ASLEEP);
	assert((sleepers > 0) == ANY_ASLEEP)
}
