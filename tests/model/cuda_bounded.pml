/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cuda_bounded.pml - launches that end: no grid stays. A thread that publishes launches a grid for
 * enough messages, a thread that waits launches one for what is left. See launch.c
 * (gq__launch_next, launch_bounded, gq__launch_wake, gq__launch_send_away, gq__launch_bring_back),
 * device.c (tend, acknowledged) and grid.cuh (gq_has_served, gq_turn_of, gq_stand_still).
 *
 * PUBLISHERS publish ROUNDS messages each; every THRESHOLD that no launch covers get one. A launch
 * ends when it finds all passed that had been published by then, or its time is over: that happens
 * to TIMES launches, and each unit notices at a moment of its own. A stream runs launches one after
 * the other, so several may wait in it. One thread waits for all the messages (WAITER) and tends.
 * Another pauses PAUSES times, which ends with the grid's departure. One more QUIETS times sends it
 * away without a pause, as who allocates does, or lets the application load (quiet.c): it keeps
 * grids away, and the lock is free meanwhile; with IMPATIENT it may give up, as when a message is
 * long, and bring the grid back before it has left. Reads and writes are sequentially consistent, one a step;
 * a look is two (the cursor, then entries and orders).
 *
 * Holds: with a waiter every message is run and the waiter returns; without one, and with no launch
 * whose time ends, fewer than THRESHOLD messages wait at the end; every launch ends; there are no
 * more launches than there is cause for; a pause is acknowledged, and stays so, only with no
 * unit inside a message and no claim; a departure ends, after at most one more message a unit;
 * nothing is launched while grids are kept away.
 *
 *   BREAK_LATE_COVER   what a launch covers is counted once more when it has been launched
 *   BREAK_EARLY_COUNT  who publishes counts before it takes the lock
 *   BREAK_EARLY_LOOK   who publishes looks before its message counts
 *   BREAK_NO_FOLLOW_UP the waiter goes by what no launch covers, and not by what time has ended
 *   BREAK_NOT_LEFT     what time may have left is launched for while a grid is there
 *   BREAK_NO_REAP      the waiter goes by the messages that had been reaped before
 *   BREAK_KEEP_COVER   what a launch covered when it was sent away stays covered
 *   BREAK_NOT_BEHIND   who gave up brings back only what no launch covers
 *   BREAK_WAKE_PAUSED  a grid is launched on a paused queue
 *   BREAK_STAND_STILL  who stands still for a pause stays when the launch's time is over
 *   BREAK_NOT_KEPT     who publishes launches though grids are kept away
 *   BREAK_RESUME_KEPT  a resume brings the grid back though grids are kept away
 *   BREAK_LET_BACK     who lets grids back does not launch for what came meanwhile, where none was
 *   BREAK_DEPART_LAST  the order to depart is for the last launch, not for those before it too
 */
#ifndef UNITS
#define UNITS 2
#endif
#ifndef PUBLISHERS
#define PUBLISHERS 2
#endif
#ifndef ROUNDS
#define ROUNDS 1
#endif
#ifndef THRESHOLD
#define THRESHOLD 1
#endif
#ifndef TIMES
#define TIMES 0
#endif
#ifndef PAUSES
#define PAUSES 0
#endif
#ifndef QUIETS
#define QUIETS 0
#endif
#ifdef WAITER
#define WAITERS 1
#else
#define WAITERS 0
#endif
#define MESSAGES (PUBLISHERS * ROUNDS)
/* Each covers a message more, or follows one whose time was over, or a departure. */
#define LAUNCHES (MESSAGES + TIMES + PAUSES + QUIETS)

/* Shared by host and grid. */
byte published, control, depart;
byte ack[UNITS];
byte until[LAUNCHES + 2];
/* In device memory. */
byte cursor, done;
/* The host's. */
byte launched, covered, finished;
bool locked, departed, quiet; /* quiet: a pause is acknowledged */
bool kept, loading; /* grids are kept away; and have left */
byte hosts = PUBLISHERS + WAITERS + (PAUSES > 0 -> 1 : 0) + (QUIETS > 0 -> 1 : 0);
/* The stream's: units that are there, of which launch, and whether its time is over. */
byte inside, current, times = TIMES;
bool late;
byte since_depart[UNITS]; /* messages claimed after the order */

#define PAUSED (control % 2 == 1)
#define LEFT   (inside == 0 && current == launched)
#if UNITS == 1
#define ALL_ACKED (ack[0] == control)
#else
#define ALL_ACKED (ack[0] == control && ack[1] == control)
#endif
#ifdef BREAK_DEPART_LAST
#define MUST_DEPART (depart == mine)
#else
#define MUST_DEPART (depart >= mine)
#endif
/* For who waits: nothing is there that would serve what is not finished. */
#ifdef BREAK_NOT_LEFT
#define SERVED_BY_NONE true
#else
#define SERVED_BY_NONE LEFT
#endif
#ifdef BREAK_NO_FOLLOW_UP
#define SEEN covered
#else
#define SEEN finished
#endif
/* A unit that finds its launch over by the clock. */
#define TIME_IS_OVER (late && current == mine)

/* The stream starts the next grid when the last unit of this one has left. */
inline start_next()
{
	if
	:: inside == 0 && current != launched ->
		current++;
		inside = UNITS;
		late = false
	:: else
	fi
}

proctype clock()
{
end:
	do
	:: d_step { times > 0 && inside > 0 && !late -> late = true; times-- }
	od
}

proctype unit(byte me)
{
	byte mine, at, seen_control;
	bool over, leave, work;

end_start:
	do
	:: atomic { current > mine && inside > 0 -> mine = current };
		do
		:: at = cursor;
			if /* gq_has_served(): what is in device memory says it */
			:: at >= until[mine] || TIME_IS_OVER -> break
			:: at < until[mine]
			fi;
			d_step {
				seen_control = control;
				leave = MUST_DEPART;
				work = (published > at)
			};
			if
			:: leave -> break
			:: !leave && seen_control % 2 == 1 ->
				ack[me] = seen_control;
#ifdef BREAK_STAND_STILL
				(control != seen_control || MUST_DEPART)
#else
				(control != seen_control || MUST_DEPART || TIME_IS_OVER ||
				 cursor >= until[mine])
#endif
			:: !leave && seen_control % 2 == 0 && work ->
				atomic {
					if
					:: cursor == at ->
						assert(!quiet);
						cursor++;
						if
						:: depart >= mine -> since_depart[me]++;
							assert(since_depart[me] <= 1)
						:: else
						fi
					:: else -> work = false
					fi
				};
				if
				:: work -> done++
				:: else
				fi
			:: !leave && seen_control % 2 == 0 && !work ->
				/* Until it may be otherwise. */
				(published > cursor || cursor >= until[mine] || control != seen_control ||
				 MUST_DEPART || TIME_IS_OVER)
			fi;
			d_step { at = 0; seen_control = 0; leave = false; work = false }
		od;
		skip;
		d_step {
			at = 0; seen_control = 0; leave = false; work = false;
			since_depart[me] = 0;
			inside--;
			start_next()
		}
	od
}

inline lock()
{
	atomic { !locked -> locked = true }
}

/* Under the lock. What is covered by now may be more than what made for the launch. */
inline launch()
{
	all = published;
	atomic {
		assert(!quiet && !loading);
		assert(launched < LAUNCHES);
		launched++;
		until[launched] = all;
		departed = false;
		start_next()
	};
#ifdef BREAK_LATE_COVER
	covered = published
#else
	covered = all
#endif
}

/* Under the lock: what has been claimed has completed. */
inline cover_what_is_done()
{
#ifndef BREAK_NO_REAP
	finished = done;
#endif
	covered = finished
}

/* Under the lock. */
inline launch_bounded(awaited)
{
	serve_all = (awaited && SERVED_BY_NONE);
#ifndef BREAK_NO_FOLLOW_UP
	if
	:: serve_all -> cover_what_is_done()
	:: else
	fi;
#endif
#ifndef BREAK_EARLY_COUNT
	all = published;
#endif
	if
	:: ((all - covered) & 255) >= (serve_all -> 1 : THRESHOLD) /* unsigned */ ->
		assert(all > covered);
		launch()
	:: else
	fi;
	all = 0;
	serve_all = false
}

inline wake_grid(awaited)
{
	if
#ifndef BREAK_WAKE_PAUSED
	:: PAUSED
#endif
#ifndef BREAK_NOT_KEPT
	:: kept
#endif
	:: else -> launch_bounded(awaited)
	fi
}

proctype publisher()
{
	byte round, all;
	bool serve_all;

	do
	:: round < ROUNDS ->
#ifdef BREAK_EARLY_LOOK
		lock();
		wake_grid(false);
		locked = false;
		published++;
#else
		published++;
#ifdef BREAK_EARLY_COUNT
		all = published;
#endif
		lock();
		wake_grid(false);
		locked = false;
#endif
		round++
	:: else -> break
	od;
	hosts--
}

/* Waits until all have finished, with tend() whenever that might do something. */
proctype waiter()
{
	byte all;
	bool serve_all;

	do
	:: finished == MESSAGES -> break
	:: finished != done -> finished = done
	:: finished == done && finished != MESSAGES ->
		(finished != done || finished == MESSAGES || (!PAUSED && published != SEEN && SERVED_BY_NONE));
		lock();
		wake_grid(true);
		locked = false
	od;
	hosts--
}

/* Under the lock. */
inline send_away()
{
	depart = launched;
	LEFT;
	departed = true
}

inline bring_back()
{
	if
	:: LEFT ->
		departed = false;
#ifndef BREAK_KEEP_COVER
		cover_what_is_done();
#endif
		launch_bounded(false)
#ifdef BREAK_NOT_BEHIND
	:: else -> launch_bounded(false)
#else
	:: else -> launch()
#endif
	fi
}

proctype pauser()
{
	byte pauses, all;
	bool acked, serve_all;

	do
	:: pauses < PAUSES ->
		control++; /* to an odd value: pause */
		do
		:: lock();
			acked = LEFT || ALL_ACKED;
			locked = false;
			if
			:: acked -> break
			:: else -> (LEFT || ALL_ACKED)
			fi
		od;
		skip;
		d_step { assert(cursor == done); quiet = true; acked = false };
		lock();
		if
		:: launched != 0 && !(departed && LEFT) -> send_away()
		:: else
		fi;
		locked = false;
		assert(inside == 0);
		quiet = false;
		control++;
		lock();
		if
#ifndef BREAK_RESUME_KEPT
		:: kept
#endif
#ifdef BREAK_RESUME_KEPT
		:: departed -> bring_back()
#else
		:: !kept && departed -> bring_back()
#endif
		:: else -> wake_grid(false)
		fi;
		locked = false;
		pauses++
	:: pauses == PAUSES -> break
	od;
	hosts--
}

/* Keeps grids away. */
proctype quieter()
{
	byte quiets, all;
	bool serve_all;

	do
	:: quiets < QUIETS ->
		lock();
		kept = true;
		if
		:: launched != 0 && !(departed && LEFT) -> depart = launched; departed = true
		:: else
		fi;
		locked = false;
		if
		:: d_step { LEFT -> loading = true }
#ifdef IMPATIENT
		:: true
#endif
		fi;
		loading = false;
		lock();
		kept = false;
		if
		:: departed && !PAUSED -> bring_back()
		:: departed && PAUSED
#ifdef BREAK_LET_BACK
		:: !departed
#else
		:: !departed -> wake_grid(false)
#endif
		fi;
		locked = false;
		quiets++
	:: quiets == QUIETS -> break
	od;
	hosts--
}

init
{
	byte i;

	atomic {
		for (i : 1 .. UNITS) {
			run unit(i - 1)
		}
		for (i : 1 .. PUBLISHERS) {
			run publisher()
		}
		if
		:: TIMES > 0 -> run clock()
		:: else
		fi;
		if
		:: WAITERS > 0 -> run waiter()
		:: else
		fi;
		if
		:: PAUSES > 0 -> run pauser()
		:: else
		fi;
		if
		:: QUIETS > 0 -> run quieter()
		:: else
		fi;
		i = 0
	}
	timeout ->
	assert(hosts == 0);
	assert(LEFT && cursor == done && !locked);
#if WAITERS
	assert(finished == MESSAGES)
#else
	assert(TIMES > 0 || published - cursor < THRESHOLD)
#endif
}
