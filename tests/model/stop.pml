/* SPDX-License-Identifier: Apache-2.0 */
/*
 * stop.pml - q_stop(): closing, settling, telling the consumers to leave; and its time-out.
 *
 * A producer enqueues, another reserves and commits or aborts; a consumer runs and completes; a
 * taker takes results. The stopper closes the pool, revokes reservations, and repeats
 * (slots in the pool, counted first) + (slots finished or revoked, slot by slot) = CAP. The rings
 * are sets here: they are other models' subject. Reaping is part of completing.
 * With HANG the consumer may hang in its processor for good, and the stopper then gives up: cancel
 * mode, the sticky sleeper, and claiming what nobody has claimed.
 *
 * Holds: after a stop without time-out, every accepted message has run, once, and no consumer is
 * needed any more; a revoked reservation is not committed. After a time-out, every accepted message
 * that was not started has ended cancelled, once.
 *
 *   BREAK_FLAG         "closed" is a flag looked at before the pop, not in the popped word
 *   BREAK_SCAN_FIRST   the pool is counted after the slots: a slot taken meanwhile counts twice
 *   BREAK_LEAVE_EARLY  the consumers leave as soon as nothing waits in the ring
 *   BREAK_NO_STICKY    (HANG) who publishes late does not look whether the stop has given up
 */
#ifndef ROUNDS
#define ROUNDS 2
#endif
mtype = { FREE, RESERVED, REVOKED, QUEUED, DONE };

mtype state[CAP] = FREE;
bool in_pool[CAP], ready[CAP];
byte pool = CAP;
bool closed, leave, cancel, sticky, stopped, gave_up;
byte accepted, ran, cancelled, started;

#define ANY_READY                                                                                  \
	(ready[0] || ready[CAP - 1] || (CAP > 2 && (ready[1 % CAP] || ready[2 % CAP])))

inline pop()
{
	got = false;
#ifdef BREAK_FLAG
	if
	:: closed -> goto out
	:: else
	fi;
#endif
	atomic {
#ifndef BREAK_FLAG
		if
		:: closed -> goto out
		:: else
		fi;
#endif
		if
		:: in_pool[0] -> slot = 0; got = true
#if CAP > 1
		:: in_pool[1] -> slot = 1; got = true
#endif
#if CAP > 2
		:: in_pool[2] -> slot = 2; got = true
		:: in_pool[3] -> slot = 3; got = true
#endif
		:: else
		fi;
		if
		:: got -> in_pool[slot] = false; pool--
		:: else
		fi
	}
}

inline give_back(s)
{
	d_step { assert(!in_pool[s]); in_pool[s] = true; pool++; }
}

/* Claims and cancels whatever waits: gq__cancel_unstarted(). */
inline cancel_unstarted()
{
	do
	:: atomic { ready[0] -> ready[0] = false; c = 0 }; finish_cancelled()
#if CAP > 1
	:: atomic { ready[1] -> ready[1] = false; c = 1 }; finish_cancelled()
#endif
#if CAP > 2
	:: atomic { ready[2] -> ready[2] = false; c = 2 }; finish_cancelled()
	:: atomic { ready[3] -> ready[3] = false; c = 3 }; finish_cancelled()
#endif
	:: !ANY_READY -> break
	od
}

inline finish_cancelled()
{
	d_step { assert(state[c] == QUEUED); cancelled++; state[c] = DONE; c = 0; }
}

inline publish()
{
	ready[slot] = true;
#ifndef BREAK_NO_STICKY
	if
	:: sticky -> cancel_unstarted()
	:: else
	fi
#endif
}

proctype producer()
{
	byte slot, c, round;
	bool got;

	do
	:: round < ROUNDS ->
		pop();
		if
		:: got ->
			d_step { state[slot] = QUEUED; accepted++; }
			publish()
		:: else
		fi;
		round++
	:: else -> break
	od;
out:
	skip
}

proctype reserver()
{
	byte slot, c;
	bool got, won;

	pop();
	if
	:: !got -> goto out
	:: else
	fi;
	state[slot] = RESERVED;
	if
	:: true -> /* q_commit() */
		d_step {
			won = (state[slot] == RESERVED);
			if
			:: won -> state[slot] = QUEUED; accepted++
			:: else -> assert(state[slot] == REVOKED)
			fi
		};
		if
		:: won -> publish()
		:: else
		fi
	:: true -> /* q_abort() */
		d_step {
			assert(state[slot] == RESERVED || state[slot] == REVOKED);
			state[slot] = FREE
		};
		give_back(slot)
	:: true -> skip /* left open */
	fi;
out:
	skip
}

proctype consumer()
{
	byte c;

end:
	do
	:: leave -> break
	:: atomic {
		!leave && ANY_READY ->
		if
		:: ready[0] -> c = 0
#if CAP > 1
		:: ready[1] -> c = 1
#endif
#if CAP > 2
		:: ready[2] -> c = 2
		:: ready[3] -> c = 3
#endif
		fi;
		ready[c] = false
		};
		if
		:: cancel -> finish_cancelled()
		:: else ->
			assert(!stopped);
			started++;
#ifdef HANG
			if
			:: true
			:: goto end_hung
			fi;
#endif
			d_step { assert(state[c] == QUEUED); ran++; state[c] = DONE; c = 0; }
		fi
	od;
	goto out;
end_hung:
	false;
out:
	skip
}

proctype taker()
{
	byte i, n;
	bool won;

	do
	:: n < 2 ->
		i = 0;
		do
		:: i < CAP ->
			d_step {
				won = (state[i] == DONE);
				if
				:: won -> state[i] = FREE
				:: else
				fi
			};
			if
			:: won -> give_back(i)
			:: else
			fi;
			i++
		:: else -> break
		od;
		n++
	:: else -> break
	od
}

proctype stopper()
{
	byte i, a, b, c;

	closed = true;
	do
	:: true ->
#ifndef BREAK_SCAN_FIRST
		b = pool;
#endif
		a = 0;
		i = 0;
		do
		:: i < CAP ->
			d_step {
				if
				:: state[i] == RESERVED -> state[i] = REVOKED
				:: else
				fi
			};
			if
			:: state[i] == DONE || state[i] == REVOKED -> a++
			:: else
			fi;
			i++
		:: else -> break
		od;
#ifdef BREAK_SCAN_FIRST
		b = pool;
#endif
		if
#ifdef BREAK_LEAVE_EARLY
		:: !ANY_READY -> break
#else
		:: a + b == CAP -> break
#endif
		:: else
		fi
#ifdef HANG
		if
		:: true
		:: goto give_up
		fi
#endif
	od;
	/* Settled: nothing is on its way any more. */
	assert(accepted == ran);
	stopped = true;
	leave = true;
	goto out;
give_up:
	gave_up = true;
	d_step { cancel = true; leave = true; }
	sticky = true;
	cancel_unstarted();
out:
	skip
}

init
{
	byte i;

	atomic {
		for (i : 0 .. CAP - 1) {
			in_pool[i] = true
		}
		run producer();
		run reserver();
		run consumer();
		run taker();
		run stopper()
	}
	timeout ->
	assert(stopped || gave_up);
	/* Once each: what was accepted was started or ended cancelled, and nothing waits. */
	assert(accepted == started + cancelled);
	assert(!ANY_READY)
}
