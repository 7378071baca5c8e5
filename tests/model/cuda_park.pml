/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cuda_park.pml - the resident grid: park, relaunch by the thread that publishes, pause. See
 * grid.cuh (gq_try_park), launch.c (gq__launch_park, gq__launch_wake) and device.c (published,
 * acknowledged, paused, resumed).
 *
 * UNITS units are the blocks of one grid; PUBLISHERS publish ROUNDS messages each, into CLASSES
 * classes in turn; a host thread pauses and resumes PAUSES times. Another one QUIETS times keeps the
 * grid away (quiet.c), and the lock is free meanwhile. A stream starts a launched grid
 * when the one before has left. Each unit tries PARKS times a launch to park, so that the search
 * also ends with an idle grid that stays. Reads and writes are sequentially consistent, one a step;
 * a look is two (the cursors, then entries and orders).
 *
 * Holds: nothing is launched while the grid before may go on, nor while it is kept away; a pause is acknowledged, and stays
 * so, only with no unit inside a message and no claim; and when nothing can move any more,
 * every message has been claimed and completed and no host thread waits.
 *
 *   BREAK_NO_LOOK      the grid leaves without a second look
 *   BREAK_WORD_FIRST   LOOKING and the second look come before the cursors are closed
 *   BREAK_NO_CHECK     who publishes does not read the park word
 *   BREAK_NO_WAIT      LOOKING is taken for GONE: the next grid is launched
 *   BREAK_NO_COUNT     the grid parks with a unit inside a message
 *   BREAK_STAND_STILL  a unit that stands still does not leave with its grid
 *   BREAK_RESUME_KEPT  a resume brings the grid back though it is kept away
 *   BREAK_BACK_PAUSED  the grid is brought back though the queue is paused
 *   BREAK_AWAY_IS_LEFT a grid that is ordered away counts as one that has left
 */
#ifndef UNITS
#define UNITS 2
#endif
#ifndef PUBLISHERS
#define PUBLISHERS 1
#endif
#ifndef ROUNDS
#define ROUNDS 2
#endif
#ifndef CLASSES
#define CLASSES 1
#endif
#ifndef PAUSES
#define PAUSES 1
#endif
#ifndef QUIETS
#define QUIETS 0
#endif
#ifndef PARKS
#define PARKS 1
#endif

#define RUNNING 0
#define LOOKING 1
#define GONE    2

#if CLASSES == 1
#define ANY_CLOSED (closed[0])
#define NOTHING    (published[0] == cursor[0])
#define CLAIMED    (cursor[0])
#else
#define ANY_CLOSED (closed[0] || closed[1])
#define NOTHING    (published[0] == cursor[0] && published[1] == cursor[1])
#define CLAIMED    (cursor[0] + cursor[1])
#endif
#if UNITS == 1
#define ALL_ACKED (ack[0] == control)
#else
#define ALL_ACKED (ack[0] == control && ack[1] == control)
#endif
#define PAUSED (control % 2 == 1)

/* Shared by host and grid. */
byte published[CLASSES], control, depart;
byte ack[UNITS];
byte park_launch, park; /* one word */
/* In device memory. */
byte cursor[CLASSES], done, resident, gone;
bool closed[CLASSES];
/* The host's. */
byte launched = 1; /* the last launch's number */
bool locked, departed, quiet; /* quiet: a pause is acknowledged */
#if QUIETS > 0
byte hosts = PUBLISHERS + 2;
bool kept, loading; /* the grid is kept away; and has left */
/* Without quiet sections a grid that is ordered away is waited for under the lock. */
#ifdef BREAK_AWAY_IS_LEFT
#define AWAY departed
#else
#define AWAY (departed && LEFT)
#endif
#else
byte hosts = PUBLISHERS + 1;
#define AWAY departed
#endif
/* The stream's: units that are there, of which launch. */
byte inside = UNITS, current = 1;

/* The stream starts the next grid when the last unit of this one has left. */
#define LEFT (inside == 0 && current == launched)

inline launch()
{
	d_step {
		assert(gone == launched || (departed && inside == 0));
#if QUIETS > 0
		assert(!loading);
#endif
		launched++;
		departed = false;
		if
		:: inside == 0 -> inside = UNITS; current = launched
		:: else
		fi
	}
}

inline leave()
{
	d_step {
		inside--;
		if
		:: inside == 0 && current != launched -> inside = UNITS; current++
		:: else
		fi
	}
}

inline reopen(n)
{
	for (c : 1 .. n) {
		closed[c - 1] = false
	}
	c = 0
}

inline second_look()
{
	d_step { park_launch = mine; park = LOOKING };
#ifdef BREAK_NO_LOOK
	all = true;
#else
	all = (control == seen_control);
	for (c : 1 .. CLASSES) {
		all = all && published[c - 1] == cursor[c - 1]
	}
	c = 0;
#endif
	if
	:: !all -> d_step { park_launch = mine; park = RUNNING }
	:: else
	fi
}

proctype unit(byte me)
{
	byte mine, c, n, seen_control, attempts;
	byte at[CLASSES];
	bool all, seen_closed, seen_gone, work, shut;

end_start:
	(current > mine);
	d_step { mine = current; attempts = 0 };
	if
	:: me == 0 -> reopen(CLASSES)
	:: else
	fi;
	resident++;
turn:
	skip;
	d_step {
		seen_gone = (gone == mine);
		seen_closed = ANY_CLOSED;
		for (c : 1 .. CLASSES) {
			at[c - 1] = cursor[c - 1]
		}
		c = 0
	};
	d_step {
		seen_control = control;
		seen_gone = seen_gone || depart == mine;
		work = false;
		for (n : 1 .. CLASSES) {
			if
			:: !work && published[n - 1] > at[n - 1] -> work = true; c = n - 1
			:: else
			fi
		}
		n = 0
	};
	if
	:: seen_gone -> goto out
	:: else
	fi;
	if
	:: seen_control % 2 == 1 ->
		ack[me] = seen_control;
#ifdef BREAK_STAND_STILL
		(control != seen_control || depart == mine);
#else
		(control != seen_control || depart == mine || gone == mine);
#endif
		goto again
	:: else
	fi;
	if
	:: seen_closed -> (!ANY_CLOSED || gone == mine || depart == mine); goto again
	:: else
	fi;
	if
	:: work ->
		d_step {
			shut = closed[c] || cursor[c] != at[c];
			if
			:: !shut -> assert(!quiet); cursor[c]++
			:: else
			fi
		};
		if
		:: !shut -> done++
		:: else
		fi;
		goto again
	:: else
	fi;
end_idle:
	if
	:: attempts < PARKS -> attempts++
	:: (!NOTHING || PAUSED || gone == mine || depart == mine) -> goto again
	fi;
	/* gq_try_park() */
#ifndef BREAK_LATE_COUNT
	if
	:: resident != mine * UNITS -> goto again
	:: else
	fi;
#endif
	all = true;
#ifdef BREAK_WORD_FIRST
	second_look();
#endif
	if
	:: !all -> goto again
	:: else
	fi;
	n = 0;
	do
	:: n < CLASSES ->
		d_step {
			shut = closed[n];
			closed[n] = true
		};
		if
		:: shut -> break
		:: else -> n++
		fi
	:: else -> break
	od;
	all = (n == CLASSES && resident == mine * UNITS); /* the second time, for BREAK_LATE_COUNT */
#ifndef BREAK_NO_COUNT
	all = all && CLAIMED == done;
#endif
#ifdef BREAK_WORD_FIRST
	if
	:: !all -> d_step { park_launch = mine; park = RUNNING }
	:: else
	fi;
#else
	if
	:: all -> second_look()
	:: else
	fi;
#endif
	if
	:: !all -> reopen(n); goto again
	:: else
	fi;
	gone = mine;
	d_step { park_launch = mine; park = GONE };
out:
	skip;
	d_step { c = 0; n = 0; all = false; work = false; shut = false; seen_closed = false;
		 seen_gone = false; seen_control = 0; at[0] = 0 };
	leave();
	goto end_start;
again:
	skip;
	d_step { c = 0; n = 0; all = false; work = false; shut = false };
	goto turn
}

inline lock()
{
	atomic { !locked -> locked = true }
}

/* Under the lock. LOOKING is waited out. */
inline park_of()
{
#ifdef BREAK_NO_WAIT
	d_step { is_gone = (park_launch == launched && park != RUNNING) }
#else
	d_step {
		(park_launch != launched || park != LOOKING) ->
		is_gone = (park_launch == launched && park == GONE)
	}
#endif
}

/* Under the lock. */
inline wake_grid()
{
	if
	:: departed || PAUSED
	:: else ->
		park_of();
		if
		:: is_gone -> launch()
		:: else
		fi
	fi
}

proctype publisher(byte first)
{
	byte round;
	bool is_gone, look;

	do
	:: round < ROUNDS ->
		published[(first + round) % CLASSES]++;
#ifndef BREAK_NO_CHECK
		look = (park_launch == launched && park != RUNNING);
		if
		:: look ->
			lock();
			wake_grid();
			locked = false
		:: else
		fi;
		d_step { look = false; is_gone = false };
#endif
		round++
	:: else -> break
	od;
	hosts--
}

proctype pauser()
{
	byte round;
	bool is_gone, acked;

	do
	:: round < PAUSES ->
		control++; /* to an odd value: pause */
		do
		:: lock();
			if
			:: AWAY -> acked = true
			:: else ->
				park_of();
				/* Read one at a time in truth; a unit's stays once it is there. */
				acked = is_gone || ALL_ACKED
			fi;
			locked = false;
			if
			:: acked -> break
			:: else -> /* again when it may be otherwise */
#if QUIETS > 0
				(LEFT || ALL_ACKED || (park_launch == launched && park == GONE))
#else
				(ALL_ACKED || (park_launch == launched && park == GONE))
#endif
			fi
		od;
		skip;
		d_step { assert(CLAIMED == done); quiet = true };
		lock();
		if
		:: !AWAY -> depart = launched; LEFT -> departed = true
		:: else
		fi;
		locked = false;
		assert(inside == 0);
		quiet = false;
		control++;
		lock();
		if
#if QUIETS > 0 && !defined(BREAK_RESUME_KEPT)
		:: kept
		:: !kept && departed -> launch()
#else
		:: departed -> launch()
#endif
		:: else -> wake_grid()
		fi;
		locked = false;
		d_step { acked = false; is_gone = false };
		round++
	:: else -> break
	od;
	hosts--
}

#if QUIETS > 0
proctype quieter()
{
	byte round;

	do
	:: round < QUIETS ->
		lock();
		kept = true;
		if
		:: !AWAY -> depart = launched; departed = true
		:: else
		fi;
		locked = false;
		d_step { LEFT -> loading = true };
		loading = false;
		lock();
		kept = false;
		if
#ifndef BREAK_BACK_PAUSED
		:: PAUSED
#endif
		:: else -> launch()
		fi;
		locked = false;
		round++
	:: else -> break
	od;
	hosts--
}
#endif

init
{
	byte i;

	atomic {
		for (i : 1 .. UNITS) {
			run unit(i - 1)
		}
		for (i : 1 .. PUBLISHERS) {
			run publisher(i)
		}
		run pauser()
#if QUIETS > 0
		;
		run quieter()
#endif
	}
	timeout ->
	assert(hosts == 0);
	assert(NOTHING && done == CLAIMED)
}
