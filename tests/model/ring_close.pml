/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ring_close.pml - blocking sends and receives on a ring, and closing it: try_until(), wake_single(),
 * gq__flag_wake_shared(), q_ring_close(), gq__ring_settle(), answer_nothing() and
 * answer_no_room() of src/host.
 *
 * SENDERS senders send ROUNDS messages each, RECEIVERS receivers receive until SHUTDOWN, both
 * without a time-out; a closer closes at any time, or with CLOSE_LATE when nothing else can move.
 * Nobody naps: in the code a sleep ends after 100 ms, for the sake of the dead, and nothing here may
 * need it, but with CLOSER_DIES, where the closer ends before any of its steps. With STOP_SENDER the
 * first sender may stand still for ever with a cell that it has not published.
 *
 * SINGLE: Q_RING_SINGLE, one on each side, plain stores; else many/many, where the swaps of entries
 * and pool head are locked. In both, every thread's stores wait in a store buffer (TSO), in order,
 * until they drain; a locked operation drains the thread's own, and barrier(), gq__barrier(),
 * everybody's. Loads go ahead of buffered stores.
 *
 * Settling: in single mode a barrier, and nobody is inside a send; else a bar in each of the two
 * classes, set in the word that publications swap, and whoever finds the ring closed sets what is not
 * set yet.
 *
 * Abstracted: pool and classes are counts, and a publication or a bar is one step (ring_many.pml has
 * the rings, and the bars in their words); a send's word `op` is the bit "inside" and the lowest bit of
 * its count. Spinning before a sleep is more of the same attempts.
 *
 * Holds: nobody gets SHUTDOWN while an accepted message is in the ring or on its way, nor is one
 * accepted afterwards; no sleeper sleeps while there is something for it; after a close all end, in
 * many/many mode wherever a sender stands still.
 *
 *   BREAK_NO_BARRIER        (SINGLE, CLOSE_LATE) the sleeper looks again without a barrier: the message
 *                           is in the sender's store buffer, who has looked at the flag already
 *   BREAK_ONE_LOOK          arm, sleep
 *   BREAK_WAKE_FIRST        look for sleepers, then publish
 *   BREAK_SETTLE_NO_BARRIER (SINGLE) a sender is inside, but its `op` is in its store buffer
 *   BREAK_UNREACHED         (SINGLE) the barrier does not reach the first sender's process, which makes
 *                           a locked operation before it looks for sleepers, but none when it begins
 *   BREAK_STATE_FIRST       (SINGLE) the sender looks at the state before it says that it is inside
 *   BREAK_NO_SETTLE         SHUTDOWN when the ring is closed and nothing is in it
 *   BREAK_NO_LAST_LOOK      SHUTDOWN without looking once more when it is settled
 *   BREAK_QUIET_LEAVER      (SINGLE) a sender that leaves a closed ring with nothing sent wakes no
 *                           receiver: closer and receivers have found it inside, and sleep
 *   BREAK_EARLY_SETTLE      (many) settled before the second class is barred
 */
#ifndef CAP
#define CAP 1
#endif
#ifndef SENDERS
#define SENDERS 1
#endif
#ifndef RECEIVERS
#define RECEIVERS 1
#endif
#ifndef ROUNDS
#define ROUNDS 2
#endif
#define THREADS (SENDERS + RECEIVERS)

#define OPEN	0
#define CLOSED	1
#define SETTLED 2

#define AWAKE	0
#define ON_DATA 1
#define ON_ROOM 2

/* In store buffers: a sender's op of that value, an entry of the class, an entry of the pool. */
#define STORE_ENTRY 4
#define STORE_ROOM  5
#define INSIDE(op)  ((op)&1)

chan buffer[THREADS] = [4] of { byte };
byte room = CAP, queued, state, data_armed, room_armed; /* queued: of both classes */
bool barred[2];
byte op[SENDERS];
byte asleep[THREADS];
/* Ghosts. */
byte accepted, taken;
bool shut, closer_dead;

/* In an atomic: the oldest of a store buffer reaches memory. */
inline drain_one(t)
{
	buffer[t]?store;
	if
	:: store == STORE_ENTRY -> queued++
	:: store == STORE_ROOM -> room++
	:: else -> op[t] = store
	fi;
	store = 0
}

inline drain(t)
{
	do
	:: nempty(buffer[t]) -> drain_one(t)
	:: empty(buffer[t]) -> break
	od
}

/* In an atomic. */
inline barrier()
{
	t = 0;
	do
	:: t < THREADS ->
#ifdef BREAK_UNREACHED
		if
		:: t == 0
		:: else -> drain(t)
		fi;
#else
		drain(t);
#endif
		t++
	:: else -> break
	od;
	t = 0
}

active proctype drainer()
{
	byte store;

end:
	do
	:: atomic { nempty(buffer[0]) -> drain_one(0) }
	:: atomic { nempty(buffer[1]) -> drain_one(1) }
#if THREADS > 2
	:: atomic { nempty(buffer[2]) -> drain_one(2) }
#endif
#if THREADS > 3
	:: atomic { nempty(buffer[3]) -> drain_one(3) }
#endif
	od
}

#define WAKE_ONE(i, on) \
	if \
	:: asleep[i] == on -> asleep[i] = AWAKE \
	:: else \
	fi

/* A flag: ARMED, WAKING, and a count: see flag.pml. */
#define ARMED	   1
#define WAKING	   2
#define BITS	   3
#define NEXT_COUNT 4

/* gq__flag_wake_shared(), by who has a store buffer and who has none; its two looks as one: who finds the
 * word odd and then even has seen no more than who finds it even. */
#define FLAG_WAKE(flag, on, DRAIN_OWN) \
	if \
	:: atomic { !(flag & ARMED) -> skip } \
	:: atomic { (flag & ARMED) -> DRAIN_OWN; v = flag | WAKING; flag = v }; \
		d_step { \
			for (t : 0 .. THREADS - 1) { \
				WAKE_ONE(t, on) \
			} \
			t = 0 \
		}; \
		d_step { \
			if \
			:: flag == v -> flag = flag & ~BITS \
			:: else \
			fi; \
			v = 0 \
		} \
	fi

/* The sleeper's side of it: [sleep.look]. */
#define ARM(flag) \
	atomic { \
		drain(me); \
		if \
		:: (flag & BITS) != ARMED -> flag = ((flag & ~BITS) + NEXT_COUNT) | ARMED \
		:: else \
		fi; \
		key = flag \
	}

#define SLEEP(flag, on) \
	d_step { \
		if \
		:: flag == key -> asleep[me] = on \
		:: else \
		fi; \
		key = 0 \
	}; \
	AWAKEN

/* A nap ends by itself. */
#ifdef CLOSER_DIES
#define AWAKEN d_step { asleep[me] == AWAKE || closer_dead -> asleep[me] = AWAKE }
#else
#define AWAKEN asleep[me] == AWAKE
#endif

/* The publisher's side of it: [wake.look]. */
#ifdef BREAK_UNREACHED
#define SIGNAL_AFTER(flag, on) \
	atomic { drain(me) }; \
	FLAG_WAKE(flag, on, drain(me))
#else
#define SIGNAL_AFTER(flag, on) FLAG_WAKE(flag, on, drain(me))
#endif

/* gq__ring_settle(). DRAIN_OWN as above. */
#ifdef SINGLE
#define SETTLE(DRAIN_OWN) \
	settled = (state == SETTLED); \
	if \
	:: settled \
	:: else -> \
		SETTLE_BARRIER; \
		settled = !INSIDE(op[0]); \
		if \
		:: settled -> \
			state = SETTLED; \
			FLAG_WAKE(data_armed, ON_DATA, DRAIN_OWN) \
		:: else \
		fi \
	fi
#else
#define SETTLE(DRAIN_OWN) \
	settled = (state == SETTLED); \
	if \
	:: settled \
	:: else -> \
		BARS; \
		settled = true; \
		state = SETTLED; \
		LATE_BAR; \
		FLAG_WAKE(data_armed, ON_DATA, DRAIN_OWN) \
	fi
#endif
#ifdef BREAK_SETTLE_NO_BARRIER
#define SETTLE_BARRIER skip
#else
#define SETTLE_BARRIER atomic { barrier() }
#endif
#ifdef BREAK_EARLY_SETTLE
#define BARS	 barred[0] = true
#define LATE_BAR barred[1] = true
#else
#define BARS \
	barred[0] = true; \
	barred[1] = true
#define LATE_BAR skip
#endif

inline op_end()
{
	atomic {
		count = 2 - count;
		buffer[me]!count
	}
}

inline give_up()
{
	got = false;
	s = CLOSED;
#ifdef SINGLE
	op_end()
#else
	if
	:: popped -> atomic { drain(me); room++; popped = false }
	:: else
	fi;
	op_end()
#endif
}

inline sends()
{
	byte round, key, v, t, s, count, store, class;
	bool got, registered, settled, popped;

	do
	:: round < ROUNDS ->
#ifdef BREAK_STATE_FIRST
		s = state;
		buffer[me]!count + 1;
#else
		buffer[me]!count + 1;
		s = state;
#endif
		if
		:: s != OPEN -> give_up(); break
		:: else
		fi;
		atomic {
			got = room > 0;
			if
			:: got -> room--
#ifndef SINGLE
				; popped = true; drain(me) /* by the swap of the head */
#endif
			:: else
			fi
		};
		if
		:: got ->
#ifdef BREAK_WAKE_FIRST
			SIGNAL_AFTER(data_armed, ON_DATA);
#endif
#ifdef SINGLE
			atomic {
				assert(!shut);
				accepted++;
				buffer[me]!STORE_ENTRY
			};
#else
			if
			:: class = 0
			:: class = 1
			fi;
#ifdef STOP_SENDER
			if
			:: me == 0 ->
end_stopped:
				false
			:: true
			fi;
#endif
			atomic {
				drain(me);
				if
				:: barred[class] -> got = false
				:: else ->
					assert(!shut);
					accepted++;
					queued++;
					popped = false
				fi
			};
			class = 0;
			if
			:: !got -> give_up(); break
			:: else
			fi;
#endif
			op_end();
#ifndef BREAK_WAKE_FIRST
			SIGNAL_AFTER(data_armed, ON_DATA);
#endif
			atomic { round++; registered = false; key = 0; got = false; s = 0 }
		:: else -> /* FULL */
			op_end();
			s = state; /* no_room() */
			if
			:: s != OPEN -> break
			:: else
			fi;
			if
			:: registered -> SLEEP(room_armed, ON_ROOM); registered = false
			:: else ->
				ARM(room_armed);
#if defined(SINGLE) && !defined(BREAK_NO_BARRIER)
				atomic { barrier() };
#endif
#ifdef BREAK_ONE_LOOK
				SLEEP(room_armed, ON_ROOM)
#else
				registered = true
#endif
			fi
		fi
	:: else -> break
	od;
	/* closed() */
	if
	:: s != OPEN ->
#ifdef SINGLE
#ifndef BREAK_QUIET_LEAVER
		FLAG_WAKE(data_armed, ON_DATA, drain(me))
#endif
#else
		SETTLE(drain(me))
#endif
	:: else
	fi
}

proctype sender(byte me)
{
	sends()
}

inline look()
{
	atomic {
		got = queued > 0;
		if
		:: got -> queued--; taken++
#ifndef SINGLE
			; drain(me)
#endif
		:: else
		fi
	}
}

proctype receiver(byte me)
{
	byte key, v, t, store;
	bool got, registered, settled;

	do
	:: true ->
		look();
		if
		:: !got && state != OPEN -> /* nothing() */
#ifdef BREAK_NO_SETTLE
			break;
#endif
			SETTLE(drain(me));
			if
			:: settled ->
#ifndef BREAK_NO_LAST_LOOK
				look();
#endif
				if
				:: !got -> break
				:: else -> settled = false
				fi
			:: else
			fi
		:: else
		fi;
		if
		:: got ->
#ifdef SINGLE
			buffer[me]!STORE_ROOM;
#else
			atomic { drain(me); room++ };
#endif
			SIGNAL_AFTER(room_armed, ON_ROOM);
			atomic { registered = false; got = false; key = 0 } /* another call */
		:: else -> /* EMPTY */
			if
			:: registered -> SLEEP(data_armed, ON_DATA); registered = false
			:: else ->
				ARM(data_armed);
#if defined(SINGLE) && !defined(BREAK_NO_BARRIER)
				atomic { barrier() };
#endif
#ifdef BREAK_ONE_LOOK
				SLEEP(data_armed, ON_DATA)
#else
				registered = true
#endif
			fi
		fi
	od;
	/* SHUTDOWN */
	atomic { assert(taken == accepted); shut = true }
}

inline closes()
{
	byte v, t, store;
	bool settled;

#ifdef CLOSE_LATE
	/* All that has been sent has been received, and the receivers sleep. */
	timeout ->
	assert(accepted == SENDERS * ROUNDS && taken == accepted && room == CAP);
#endif
	state = CLOSED;
	SETTLE(skip);
	FLAG_WAKE(data_armed, ON_DATA, skip);
	FLAG_WAKE(room_armed, ON_ROOM, skip)
}

proctype closer()
{
#ifdef CLOSER_DIES
	{
		closes()
	} unless {
		closer_dead
	};
	/* Another closes; the first one may not have come to it. */
	if
	:: state == OPEN -> state = CLOSED
	:: else
	fi
#else
	closes()
#endif
}

#ifdef CLOSER_DIES
active proctype killer()
{
	closer_dead = true
}
#endif

init
{
	byte i;

	atomic {
		for (i : 0 .. SENDERS - 1) {
			run sender(i)
		}
		for (i : SENDERS .. THREADS - 1) {
			run receiver(i)
		}
		run closer()
	}
	/* A thread that sleeps for ever is an invalid end state. */
}
