/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ring_reclaim.pml - a repair of src/host/ring/repair.c: which cells does nobody have any more?
 *
 *     judge; note the numbers; three times { read all rings; grace period }; compare the numbers and
 *     put back, unless another has repaired meanwhile
 *
 * LIVING threads send and receive for ever over CELLS cells, and DYING more do until they die, at any
 * step of an operation; once its peer has been repaired, another comes in the place of a dead one.
 * A sender takes a cell from the pool and either fills and publishes it or gives it back unused; a
 * receiver takes it from the class and returns it to the pool. The repairer begins when somebody has
 * died inside an operation, and may stop at any step itself, or run out of time: the next one starts
 * over.
 *
 * To judge is to read a peer that says that its thread is inside, to ask the kernel whether that
 * thread is alive, and to read the peer again. With REBIND a thread that might die may also end
 * outside of an operation, and another takes its peer over (replaced[]). With OTHER there is another
 * repairer, whose whole repair, of everybody who is dead, is one step at any time.
 *
 * A repair is made in steps by whoever comes by; as nobody waits for them, where this process waits a
 * condition is looked at now and then.
 *
 * What is what: inside[] is whether a peer's `op` says so; awaited[], that it said so when grace()
 * looked and has not changed since. A number never recurs, so of each only whether it was stored since
 * it was noted is kept: changed[]. A thread's beginning and its taking of a cell are one step, and so
 * are its giving the cell away and its end: between them it is awaited, but has nothing in its hands.
 *
 * Abstracted: the rings are sets, so cells come in any order. mark_class() reads the head, then the
 * entries one by one: a cell that was in the ring at the first and still is at the second is found,
 * one that came meanwhile (late[]) may lie outside of the positions looked at: found or not. One cell
 * an operation; the argument is about each cell alone. The kernel's word on who is dead is true.
 *
 * Holds: what is put back was in the hands of a dead thread; and a repair that comes to its end
 * leaves nothing in the hands of those that were dead when it began.
 *
 *   BREAK_TWO_READINGS    two readings and grace periods: a cell may be missed by both on its way
 *                         from a sender over a receiver to the pool
 *   BREAK_NO_NUMBERS      the numbers are not compared: a cell may have gone round meanwhile
 *   BREAK_NO_GRACE        nobody is waited for
 *   BREAK_NO_LAST_GRACE   nobody after the last reading: a sender has a cell and not yet numbered it
 *   BREAK_NO_BARRIER      grace() looks at `op` without a barrier: who has a cell already may still
 *                         seem to be outside
 *   BREAK_QUIET_GIVE_BACK a cell given back unused keeps its number
 *   BREAK_GIVE_BACK_WRAPS giving back is counted in a few bits of the number: so many times, and it is
 *                         the same number again (here: twice)
 *
 *   BREAK_NO_RECHECK      (REBIND) the peer is not read again after the verdict: its thread had ended
 *                         its operation before it ended, and another is inside
 *   BREAK_NO_EPOCH        (OTHER) what has been found out is done though another has repaired meanwhile
 *
 * Holds as well, so none of it is relied on:
 *   POOL_FIRST            the pool is read before the class
 *   NO_FIRST_READING      note, grace, read, grace, read, grace: the grace periods are what counts
 *   SKIP_NEWLY_DEAD       (DYING=2) who dies during a grace period is not waited for: the dead do not
 *                         act
 */
#ifndef CELLS
#define CELLS 1
#endif
#ifndef LIVING
#define LIVING 2
#endif
#ifndef DYING
#define DYING 1
#endif
#ifdef BREAK_TWO_READINGS
#define READINGS 2
#else
#define READINGS 3
#endif
#define THREADS (DYING + LIVING)

#define POOL  0
#define HANDS 1
#define CLASS 2
#define NONE  3

byte place[CELLS];  /* POOL, HANDS, CLASS */
byte holder[CELLS]; /* while in HANDS, else 0 */
bool changed[CELLS], late[CELLS];
bool inside[THREADS], awaited[THREADS];
bool dead[DYING]; /* inside an operation, and not yet repaired */
bool repairing;
bool ended[DYING];    /* the operation that the repairer has read is over */
bool replaced[DYING]; /* the thread that the repairer asks for has ended, and another has its peer */
bool locked; /* the repairer changes the rings */
bool other; /* another has repaired since this repair began */
byte reads = NONE; /* the ring that the repairer is reading */

#define EACH_CELL(c)   for (c : 0 .. CELLS - 1)
#define EACH_THREAD(t) for (t : 0 .. THREADS - 1)

/* In an atomic: begin, and take a cell. */
#define TAKE(n, from) place[n] == from -> place[n] = HANDS; holder[n] = me; inside[me] = true; c = n

#if CELLS == 1
#define TAKE_ONE(from) \
	if \
	:: TAKE(0, from) \
	fi
#elif CELLS == 2
#define TAKE_ONE(from) \
	if \
	:: TAKE(0, from) \
	:: TAKE(1, from) \
	fi
#else
#define TAKE_ONE(from) \
	if \
	:: TAKE(0, from) \
	:: TAKE(1, from) \
	:: TAKE(2, from) \
	:: TAKE(3, from) \
	fi
#endif

/* Put it, and end. */
inline put(to)
{
	d_step {
		assert(place[c] == HANDS && holder[c] == me);
		place[c] = to;
		holder[c] = 0;
		late[c] = late[c] || reads == to;
		inside[me] = false;
		awaited[me] = false;
		if
		:: me < DYING -> ended[me] = true
		:: else
		fi;
		c = 0
	}
}

/* Nobody hears of it, but the kernel knows. */
#define DIE atomic { me < DYING -> dead[me] = true; inside[me] = true; goto died }

proctype thread(byte me)
{
	byte c;

end:
	do
	:: atomic { TAKE_ONE(POOL) }; /* send */
		if
		:: changed[c] = repairing; /* fill */
			if
			:: put(CLASS)
			:: DIE
			fi
#if defined(BREAK_GIVE_BACK_WRAPS)
		:: changed[c] = repairing && !changed[c];
#elif defined(BREAK_QUIET_GIVE_BACK)
		:: true ->
#else
		:: changed[c] = repairing; /* give_up */
#endif
			if
			:: put(POOL)
			:: DIE
			fi
		:: DIE
		fi
	:: atomic { TAKE_ONE(CLASS) }; /* receive */
		if
		:: put(POOL)
		:: DIE
		fi
	:: DIE /* inside, with nothing in its hands */
#ifdef REBIND
	:: atomic { me < DYING && !replaced[me] -> replaced[me] = true }
#endif
	:: false ->
died:
		atomic { !dead[me] -> c = 0 }
	od
}

#define MAY_START_OVER \
	if \
	:: true \
	:: goto again \
	fi

inline read_ring(ring)
{
	atomic { /* the head */
		reads = ring;
		EACH_CELL(c) {
			late[c] = false
		}
		c = 0
	};
	do
	:: c < CELLS -> /* the entries */
		atomic {
			if
			:: place[c] == ring -> found[c] = true
			:: place[c] == ring && late[c] /* outside of what is looked at */
			:: else
			fi;
			late[c] = false;
			c++
		}
	:: else -> break
	od;
	atomic { reads = NONE; c = 0 }
}

/* Also while its peer says the same. */
#define KNOWN(t) (known[t] && (t >= DYING || !ended[t]))

inline grace()
{
#ifdef BREAK_NO_GRACE
	skip
#else
	do
	:: t < THREADS ->
		atomic {
			if
			:: awaited[t] = inside[t] && !KNOWN(t)
#ifdef BREAK_NO_BARRIER
			:: true /* its store of `op` is not seen yet */
#endif
			fi;
			t++
		}
	:: else -> break
	od;
	t = 0;
	do
	:: t < THREADS ->
		if
		:: !awaited[t] -> t++
		:: t < DYING && awaited[t] && dead[t] -> /* never: the time runs out */
#ifdef SKIP_NEWLY_DEAD
			t++
#else
			goto again
#endif
		fi
	:: else -> break
	od;
	t = 0
#endif
}

active proctype repairer()
{
	byte c, t, reading;
	bool known[THREADS], found[CELLS];

again:
	atomic {
		locked = false;
		reading = 0;
		repairing = false;
		reads = NONE;
		EACH_CELL(c) {
			found[c] = false;
			late[c] = false;
			changed[c] = false
		}
		EACH_THREAD(t) {
			awaited[t] = false;
			known[t] = false
		}
		c = 0;
		t = 0
	};
end:
	atomic {
#if defined(REBIND)
		inside[0] -> /* or one may be dead */
#elif DYING > 1
		dead[0] || dead[1] ->
#else
		dead[0] ->
#endif
		other = false
	};
	do
	:: t < DYING ->
		atomic {
			if
			:: inside[t] -> ended[t] = false; replaced[t] = false
			:: else -> ended[t] = true
			fi
		};
		known[t] = dead[t] || replaced[t];
#ifndef BREAK_NO_RECHECK
		known[t] = known[t] && !ended[t];
#endif
		t++
	:: else -> break
	od;
	t = 0;
	atomic {
		if
#if DYING > 1
		:: !known[0] && !known[1] -> goto again
#else
		:: !known[0] -> goto again
#endif
		:: else
		fi;
		repairing = true
	};
	do
	:: c < CELLS -> d_step { changed[c] = false; c++ }
	:: else -> break
	od;
	c = 0;
	do
	:: reading < READINGS ->
#ifdef NO_FIRST_READING
		if
		:: reading == 0
		:: else ->
#endif
#ifdef POOL_FIRST
		read_ring(POOL);
		read_ring(CLASS);
#else
		read_ring(CLASS);
		read_ring(POOL);
#endif
#ifdef NO_FIRST_READING
		fi;
#endif
		MAY_START_OVER;
#ifdef BREAK_NO_LAST_GRACE
		if
		:: reading + 1 == READINGS
		:: else -> grace()
		fi;
#else
		grace();
#endif
		reading++
	:: else -> break
	od;
#ifdef OTHER
	/* Here the lock is taken: the other one has repaired before, or will start over. */
	atomic {
		locked = true;
#ifndef BREAK_NO_EPOCH
		if
		:: other -> goto again
		:: else
		fi
#endif
	};
#endif
	do
	:: c < CELLS ->
		atomic {
			if
#ifdef BREAK_NO_NUMBERS
			:: !found[c] ->
#else
			:: !found[c] && !changed[c] ->
#endif
				assert(place[c] == HANDS && holder[c] < DYING && dead[holder[c]]);
				place[c] = POOL;
				holder[c] = 0
			:: else
			fi;
			c++
		};
		MAY_START_OVER
	:: else -> break
	od;
	atomic {
		EACH_CELL(c) {
			assert(place[c] != HANDS || !known[holder[c]] || holder[c] >= DYING ||
			       !dead[holder[c]])
		}
		c = 0
	};
	do /* the peers are free; others may come at once */
	:: t < DYING ->
		d_step {
			if
			:: known[t] -> inside[t] = false; dead[t] = false; ended[t] = true
			:: else
			fi;
			t++
		}
	:: else -> break
	od;
	goto again
}

#ifdef OTHER
active proctype other_repairer()
{
	byte c;

end:
	do
	:: atomic {
		!locked && dead[0] ->
		EACH_CELL(c) {
			if
			:: place[c] == HANDS && holder[c] == 0 -> place[c] = POOL; late[c] = late[c] || reads == POOL
			:: else
			fi
		}
		c = 0;
		inside[0] = false;
		awaited[0] = false;
		ended[0] = true;
		dead[0] = false;
		other = true
	}
	od
}
#endif

init
{
	byte t;

	atomic {
		EACH_THREAD(t) {
			run thread(t)
		}
	}
}
