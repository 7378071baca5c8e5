/* SPDX-License-Identifier: Apache-2.0 */
/*
 * park.pml - struct gq_event: publish, look for sleepers, wake; register, look again, sleep.
 *
 * PRODUCERS producers publish ROUNDS messages each and wake one sleeper (gq_event_take(1), then the
 * futex call as a step of its own); CONSUMERS consumers claim, or register, look again and sleep; a
 * barger takes a message without ever sleeping; sleepers may time out (TIMEOUTS of them), take
 * themselves off (gq_event_unregister), try once more and go. `work` counts published messages:
 * rings are other models' subject. The futex is the kernel's: compare and enqueue in one step, wakes
 * any one that is queued.
 *
 * Holds: when nothing can move any more, no message waits while somebody sleeps (no lost wake-up);
 * futex calls are at most as many as registrations.
 *
 *   BREAK_LOOK_FIRST    look, then register: what comes in between is missed
 *   BREAK_WAKE_FIRST    look for sleepers, then publish
 *   BREAK_SPLIT_KEY     register, then read the key as a second step: a wake-up in between is
 *                       taken off the count and then slept through
 *   BREAK_TIMED_OUT     a timed-out sleeper always takes one off: another's registration
 *   BREAK_NO_BUMP       taking sleepers off does not change the futex word
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

byte work, seq, sleepers, calls, registrations, timed_out;
bool asleep[CONSUMERS];
#ifdef BREAK_STOREBUFFER
byte buffered_work;	/* published, not yet visible */
byte buffered_sleepers; /* registered, not yet visible */
#endif

proctype producer()
{
	byte round, n;

	do
	:: round < ROUNDS ->
#if defined(BREAK_STOREBUFFER)
		buffered_work++;
#elif !defined(BREAK_WAKE_FIRST)
		work++;
#endif
		d_step { /* gq_event_take(): one compare-and-swap */
			n = (sleepers > 0);
			if
			:: n > 0 ->
				sleepers--;
#ifndef BREAK_NO_BUMP
				seq++
#endif
			:: else
			fi
		};
#ifdef BREAK_WAKE_FIRST
		work++;
#endif
		if
		:: n > 0 ->
			atomic { /* FUTEX_WAKE of one */
				calls++;
				assert(calls <= registrations);
				if
				:: asleep[0] -> asleep[0] = false
#if CONSUMERS > 1
				:: asleep[1] -> asleep[1] = false
#endif
#if CONSUMERS > 2
				:: asleep[2] -> asleep[2] = false
#endif
				:: else
				fi
			}
		:: else
		fi;
		round++
	:: else -> break
	od
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
	d_step { /* gq_event_unregister(): one compare-and-swap */
		if
#ifdef BREAK_TIMED_OUT
		:: sleepers > 0 -> sleepers--
#else
		:: seq == key && sleepers > 0 -> sleepers--
#endif
		:: else
		fi
	}
}

proctype consumer(byte me)
{
	byte key;
	bool got;

again:
	claim();
	if
	:: got -> goto again
	:: else
	fi;
#ifdef BREAK_LOOK_FIRST
	got = (work > 0);
#endif
#if defined(BREAK_SPLIT_KEY)
	d_step { sleepers++; registrations++; }
	key = seq;
#elif defined(BREAK_STOREBUFFER)
	d_step { key = seq; buffered_sleepers++; registrations++; }
#else
	d_step { key = seq; sleepers++; registrations++; }
#endif
#ifndef BREAK_LOOK_FIRST
	got = (work > 0);
#endif
	if
	:: got -> unregister(); goto again
	:: else
	fi;
	atomic { /* FUTEX_WAIT: compare and enqueue */
		if
		:: seq == key -> asleep[me] = true
		:: else -> goto again
		fi
	};
end:
	if
	:: !asleep[me] -> goto again /* woken */
	:: atomic { asleep[me] && timed_out < TIMEOUTS -> asleep[me] = false; timed_out++ };
		unregister();
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
		for (i : 1 .. PRODUCERS) {
			run producer()
		}
		for (i : 0 .. CONSUMERS - 1) {
			run consumer(i)
		}
		run barger()
	}
	timeout ->
	assert(work == 0 || !ANY_ASLEEP)
}
