/* SPDX-License-Identifier: Apache-2.0 */
/*
 * stop.pml - q_stop() of src/host/queue/control.c against everybody else: closing, revoking, settling
 * (gq__settled() of wake.c there), telling the consumers to leave; and its time-out.
 *
 * A producer enqueues ROUNDS messages; another thread reserves and commits, aborts or leaves open;
 * CONSUMERS consumers read the control word, claim, run, complete; a taker reaps and takes results;
 * the stopper. With HANG the first consumer may hang in its processor for good and the stopper may
 * run out of time at any point: then cancel mode, the sticky bit, and claiming what nobody has.
 *
 * Abstracted: the rings are sets of slots (other models' subject), so claims come in any order;
 * sleeping and waking is park.pml's. Kept apart, as in the code: publishing a free slot and raising
 * the pool's tail; reading the tail and reading the head; completing and reaping; reading the
 * control word and claiming.
 *
 * Holds: after a stop without time-out every accepted message has run, once, and none is claimed
 * later; a revoked reservation is not committed, nor any once the stop has returned. After a time-out
 * every accepted message was started once or ended cancelled once, at the latest when who published
 * it has returned.
 *
 *   BREAK_FLAG         "closed" is a flag looked at before the pop, not in the popped word
 *   BREAK_SCAN_FIRST   the pool is counted after the slots: a slot taken meanwhile counts twice,
 *                      and makes up for one that is still on its way (benign with CAP 1)
 *   BREAK_LEAVE_EARLY  the consumers leave as soon as nothing waits in the ring
 *   BREAK_NO_REVOKE    reservations are left open: never settled
 *   BREAK_PLAIN_COMMIT q_commit looks at the state and stores it: a revoked one goes through
 *   BREAK_NO_STICKY    (HANG) who publishes late does not look whether the stop has given up
 *   BREAK_STICKY_LATE  (HANG) the stopper cancels what it finds, then sets the sticky bit
 *   BREAK_BLIND_RESERVE (HANG) q_reserve() does not look whether the pool was closed after it has
 *                      said RESERVED: what was being reserved during the stop's last look stays open
 *
 * A stronger claim needs that consumers read the control word once more, after the claim
 * (LOOK_AGAIN), which the code does not do:
 *   STRICT_START       (HANG) what is claimed after the stop returned TIMEOUT is not started. Fails
 *                      without: a consumer may have read the control word long before it claims
 */
#ifndef ROUNDS
#define ROUNDS 1
#endif
#ifndef CONSUMERS
#define CONSUMERS 1
#endif

#define FREE	 0
#define RESERVED 1
#define REVOKED	 2
#define QUEUED	 3
#define DONE	 4

byte state[CAP];
bool pooled[CAP], ready[CAP], done[CAP];
byte tail = CAP, head; /* of the pool; as counts */
bool closed, leave, cancel, sticky;

/* Ghosts. */
bool settled, gave_up;
byte accepted, ran, cancelled, hung;
byte alive = CONSUMERS;
byte busy = 3; /* producer, reserver, taker, and consumers with a message */

#if CAP == 1
#define ANY(set) (set[0])
#elif CAP == 2
#define ANY(set) (set[0] || set[1])
#else
#define ANY(set) (set[0] || set[1] || set[2] || set[3])
#endif

/* In an atomic: one of the set, in s. Slots are alike, so the lowest will do for the pool. */
#define LOWEST(set, s) \
	s = 0; \
	do \
	:: set[s] -> break \
	:: else -> s++ \
	od

#if CAP == 1
#define ONE_OF(set, s) s = 0
#elif CAP == 2
#define ONE_OF(set, s) \
	if \
	:: set[0] -> s = 0 \
	:: set[1] -> s = 1 \
	fi
#else
#define ONE_OF(set, s) \
	if \
	:: set[0] -> s = 0 \
	:: set[1] -> s = 1 \
	:: set[2] -> s = 2 \
	:: set[3] -> s = 3 \
	fi
#endif

inline pop()
{
#ifdef BREAK_FLAG
	if
	:: closed -> goto out
	:: else
	fi;
#endif
	atomic {
		if
#ifdef BREAK_FLAG
		:: !ANY(pooled) -> goto out
#else
		:: closed || !ANY(pooled) -> goto out
#endif
		:: else
		fi;
		LOWEST(pooled, slot);
		pooled[slot] = false;
		head++
	}
}

inline give_back(s)
{
	d_step { assert(!pooled[s]); pooled[s] = true; }
	tail++
}

/* gq__cancel_unstarted() and gq__completed() */
inline cancel_unstarted()
{
	do
	:: atomic { ANY(ready) -> ONE_OF(ready, c); ready[c] = false; cancelled++; assert(!settled) };
		done[c] = true
	:: else -> break
	od
}

/* After the message was accepted. */
inline publish()
{
	d_step { assert(!ready[slot]); ready[slot] = true; }
#ifndef BREAK_NO_STICKY
	if
	:: sticky -> cancel_unstarted()
	:: else
	fi
#endif
}

/* gq__reap_all(): one at a time, under the lock. */
inline reap_all()
{
	do
	:: atomic { ANY(done) -> LOWEST(done, c); done[c] = false };
		d_step { assert(state[c] == QUEUED); state[c] = DONE; }
	:: else -> break
	od
}

proctype producer()
{
	byte slot, c, round;

	do
	:: round < ROUNDS ->
		pop();
		d_step { assert(state[slot] == FREE); state[slot] = QUEUED; accepted++; }
		publish();
		round++
	:: else -> break
	od;
out:
	busy--
}

proctype reserver()
{
	byte slot, c;
	bool won;

	pop();
	state[slot] = RESERVED;
#ifndef BREAK_BLIND_RESERVE
	if
	:: closed ->
		state[slot] = FREE; /* whether still RESERVED or REVOKED by now */
		give_back(slot);
		goto out
	:: else
	fi;
#endif
	if
	:: true -> /* q_commit() */
#ifdef BREAK_PLAIN_COMMIT
		won = (state[slot] == RESERVED);
		if
		:: won -> state[slot] = QUEUED; accepted++
		:: else
		fi;
#else
		d_step {
			won = (state[slot] == RESERVED);
			if
			:: won -> state[slot] = QUEUED; accepted++
			:: else -> assert(state[slot] == REVOKED)
			fi;
			assert(!won || !gave_up)
		};
#endif
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
	busy--
}

proctype consumer(byte me)
{
	byte c;
	bool cancels, late;

end:
	do
	:: atomic { leave -> break }
	:: atomic { !leave -> cancels = cancel }; /* the control word; now or much later: */
end_idle:
		if
		:: atomic {
			ANY(ready) ->
			ONE_OF(ready, c);
			ready[c] = false;
			busy++;
			late = gave_up;
			assert(!settled)
			};
#ifdef LOOK_AGAIN
			cancels = cancel;
#endif
			if
			:: cancels -> cancelled++
			:: else ->
#ifdef STRICT_START
				assert(!late);
#endif
#ifdef HANG
				if
				:: true
				:: atomic { me == 0 -> hung++ }; goto end_hung
				fi;
#endif
				ran++
			fi;
			d_step { done[c] = true; busy--; cancels = false; late = false; c = 0; }
		:: leave /* look again */
#ifdef BREAK_LEAVE_EARLY
		:: closed && !ANY(ready) -> break
#endif
		fi
	od;
	alive--;
	goto out;
end_hung:
	false;
out:
	skip
}

/* Reaps, then takes what has finished: once over all slots. */
proctype taker()
{
	byte i, c;
	bool won;

	reap_all();
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
	busy--
}

proctype stopper()
{
	byte i, a, b, c;
	bool last;

	closed = true;
	do
	:: true ->
		/* When nobody else can move any more, this pass must settle it. */
		last = (busy == 0 && (!ANY(ready) || alive == 0));
#ifndef BREAK_NO_REVOKE
		i = 0;
		do
		:: i < CAP ->
			d_step {
				if
				:: state[i] == RESERVED -> state[i] = REVOKED
				:: else
				fi;
				i++
			}
		:: else -> break
		od;
#endif
		reap_all();
#ifndef BREAK_SCAN_FIRST
		b = tail;
		b = b - head;
#endif
		i = 0;
		a = 0;
		do
		:: i < CAP ->
			d_step {
				if
				:: state[i] == DONE || state[i] == REVOKED -> a++
				:: else
				fi;
				i++
			}
		:: else -> break
		od;
#ifdef BREAK_SCAN_FIRST
		b = tail;
		b = b - head;
#endif
		atomic {
			if
			:: ((a + b) & 255) == CAP -> break
			:: else -> assert(!last || hung > 0); a = 0; b = 0; i = 0; c = 0
			fi
		};
#ifdef HANG
		if
		:: true
		:: goto give_up
		fi
#endif
	od;
	/* Settled: nothing is on its way any more. */
	atomic { settled = true; assert(accepted == ran) };
	leave = true;
	goto out;
give_up:
	atomic { cancel = true; leave = true };
#ifdef BREAK_STICKY_LATE
	cancel_unstarted();
	sticky = true;
#else
	sticky = true;
	cancel_unstarted();
#endif
	gave_up = true;
out:
	skip
}

init
{
	byte i;

	atomic {
		for (i : 0 .. CAP - 1) {
			pooled[i] = true
		}
		run producer();
		run reserver();
		run consumer(0);
#if CONSUMERS > 1
		run consumer(1);
#endif
		run taker();
		run stopper()
	}
	timeout ->
	assert(settled || gave_up);
	assert(accepted == ran + hung + cancelled);
	assert(!settled || (accepted == ran && accepted < 255));
	assert(!ANY(ready))
}
