/* SPDX-License-Identifier: Apache-2.0 */
/*
 * notify.pml - a handle of a notification queue: observe, test, wait; post; unregister, register.
 *
 * POSTERS posters post ROUNDS times each. WAITERS waiters observe the sequence, and wait for it to move; of
 * them TIMEOUTS give up asleep. With END a thread unregisters the handle, and then registers the place's
 * next life, on which nobody posts. The steps are those of post.c, compare.c and notify.c; the
 * event is park.pml's subject, and here with all its steps again: a wake-up is a bump, the futex call, and
 * taking off those who were woken. The futex compares and enqueues in one step.
 *
 * Holds: when nothing can move any more, who waits has observed the last post, and the handle has not ended
 * (nothing is lost, no deadlock); a wait that says "posted" has been posted to, one that says "ended" has
 * not; who a post has counted as reached returns with an event, and no other post counts it; nothing is
 * posted to a handle that has ended, or to the next life of its place; and nobody is inside the life before
 * when the next begins.
 *
 *   BREAK_LOOK_FIRST   a waiter looks, then registers with the event, and does not look again
 *   BREAK_WAKE_FIRST   a post looks for sleepers, then publishes
 *   BREAK_NO_BUMP      waking does not change the futex word
 *   BREAK_CLAIM_LATE   a post publishes, then claims the waiters: those of the next post, too
 *   BREAK_LEAVE_BLIND  a waiter gives its place back although a post has claimed it
 *   BREAK_ONE_LOOK     a waiter that finds the handle ended does not look at the sequence again
 *   BREAK_NO_RECHECK   a post looks whether the handle is open before it locks, and not after
 *   BREAK_END_UNLOCKED the handle ends without the lock
 *   BREAK_NO_INSIDE    a place has its next life while threads are inside the one before
 *   BREAK_LATE_INSIDE  a waiter looks whether the handle is open, then says that it is inside
 */
#ifndef POSTERS
#define POSTERS 2
#endif
#ifndef WAITERS
#define WAITERS 2
#endif
#ifndef ROUNDS
#define ROUNDS 1
#endif
#ifndef TIMEOUTS
#define TIMEOUTS 1
#endif

#define OPEN  1
#define ENDED 2
#define NEXT  3 /* the next life is open */

byte life = OPEN;
byte seq, claims, count;     /* the word; the waiters' word */
bool locked;                 /* the word's lowest bit */
byte bumps, sleepers;        /* the event */
byte inside;
byte base;                   /* seq when the next life began */
byte reached, claimed;       /* what posts have counted; waiters who found themselves claimed */
byte timed_out;
bool asleep[WAITERS], done[WAITERS];
byte key[WAITERS];

inline wake()
{
	d_step { /* gq_event_bump() */
		n = (sleepers > 0);
		if
		:: n > 0 ->
#ifndef BREAK_NO_BUMP
			bumps++
#else
			skip
#endif
		:: else
		fi
	};
	if
	:: n > 0 ->
		d_step { /* FUTEX_WAKE of all */
			n = 0;
			for (i : 0 .. WAITERS - 1) {
				if
				:: asleep[i] -> asleep[i] = false; n++
				:: else
				fi
			}
		};
		d_step { assert(sleepers >= n); sleepers = sleepers - n; n = 0; i = 0 }
	:: else
	fi
}

inline claim()
{
	n = count;
	if
	:: n > 0 -> d_step { reached = reached + count; count = 0; claims++; n = 0 }
	:: else
	fi
}

proctype poster()
{
	byte round, n, i;

	do
	:: round < ROUNDS ->
		if
		:: life != OPEN -> goto stale
		:: else
		fi;
		atomic { !locked -> locked = true };
#ifndef BREAK_NO_RECHECK
		if
		:: life != OPEN -> locked = false; goto stale
		:: else
		fi;
#endif
#ifndef BREAK_CLAIM_LATE
		claim();
#endif
#ifdef BREAK_WAKE_FIRST
		wake();
#endif
		d_step {
			assert(life == OPEN);
			seq++;
#ifndef BREAK_CLAIM_LATE
			locked = false
#endif
		};
#ifdef BREAK_CLAIM_LATE
		claim();
		locked = false;
#endif
#ifndef BREAK_WAKE_FIRST
		wake();
#endif
		round++
	:: else -> break
	od;
stale:
	skip
}

#define NOT_YET 0
#define MOVED   1
#define SHUT    2

inline look()
{
	found = (seq != key[me] -> MOVED : NOT_YET);
	if
	:: found == NOT_YET && life != OPEN ->
		found = SHUT;
#ifndef BREAK_ONE_LOOK
		if
		:: seq != key[me] -> found = MOVED
		:: else
		fi
#endif
	:: else
	fi
}

proctype waiter(byte me)
{
	byte found, mine, futex;
	bool mine_is_left;

	if /* observe; then the client tests, and something may happen */
	:: life == OPEN -> key[me] = seq
	:: life != OPEN -> goto out
	fi;
#ifdef BREAK_LATE_INSIDE
	if
	:: life != OPEN -> goto out
	:: else
	fi;
#endif
	inside++;
#ifndef BREAK_LATE_INSIDE
	if
	:: life != OPEN -> goto leave_inside
	:: else
	fi;
#endif
	if
	:: seq != key[me] -> goto leave_inside /* moved: at once */
	:: else
	fi;
	d_step { mine = claims; count++ };
again:
	skip;
#if defined(BREAK_LOOK_FIRST)
	look();
	if
	:: found != NOT_YET -> goto leave
	:: else
	fi;
	d_step { futex = bumps; sleepers++ };
#else
	d_step { futex = bumps; sleepers++ };
	look();
	if
	:: found != NOT_YET -> d_step { sleepers--; futex = 0 }; goto leave
	:: else
	fi;
#endif
	d_step { /* FUTEX_WAIT: compare and enqueue */
		if
		:: bumps == futex -> asleep[me] = true
		:: else -> sleepers--
		fi;
		futex = 0
	};
end:
	if
	:: !asleep[me] -> look()
	:: d_step { asleep[me] && timed_out < TIMEOUTS -> asleep[me] = false; sleepers--; timed_out++ };
		look();
		goto leave
	fi;
	if
	:: found == NOT_YET -> goto again
	:: else
	fi;
leave:
	skip;
	d_step {
		mine_is_left = (claims == mine);
		if
		:: mine_is_left -> count--
		:: else
		fi
	};
#ifdef BREAK_LEAVE_BLIND
	goto judged;
#endif
	if
	:: mine_is_left
	:: else ->
		claimed++;
		if
		:: found == MOVED
		:: else -> /* it is about to be published */
			do
			:: look();
				if
				:: found != NOT_YET -> break
				:: else -> locked || seq != key[me] || life != OPEN
				fi
			od;
			assert(found == MOVED)
		fi
	fi;
#ifdef BREAK_LEAVE_BLIND
judged:
	if
	:: !mine_is_left && found == MOVED -> claimed++
	:: else
	fi;
#endif
	if
	:: found == SHUT -> assert(seq == key[me])
	:: else
	fi;
leave_inside:
	skip;
	d_step { inside--; found = 0; mine = 0; mine_is_left = false };
out:
	done[me] = true
}

#ifdef END
/* Unregisters, then registers: both under the queue's lock, so the one has ended when the other begins. */
proctype registrar()
{
	byte n, i;

#ifdef BREAK_END_UNLOCKED
	life = ENDED;
#else
	atomic { !locked -> locked = true };
	life = ENDED;
	locked = false;
#endif
	wake();
#ifndef BREAK_NO_INSIDE
	inside == 0;
#endif
	atomic { !locked -> locked = true };
	d_step {
		assert(count == 0); /* (an event's sleeper is taken off by whoever woke it, when it may) */
		base = seq;
		life = NEXT
	};
	locked = false
}
#endif

init
{
	byte i;

	atomic {
		for (i : 0 .. POSTERS - 1) {
			run poster()
		}
		for (i : 0 .. WAITERS - 1) {
			run waiter(i)
		}
#ifdef END
		run registrar()
#endif
	}
	timeout ->
	d_step {
		assert(!locked);
		for (i : 0 .. WAITERS - 1) {
			assert(done[i] || (asleep[i] && key[i] == seq && life == OPEN))
		}
		assert(reached == claimed);
		assert((sleepers > 0) == (asleep[0] || asleep[WAITERS - 1]));
#ifdef END
		assert(life == NEXT && seq == base && inside == 0)
#endif
	}
}
