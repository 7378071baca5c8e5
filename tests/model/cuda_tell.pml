/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cuda_tell.pml - the resident grid: who looks across PCIe, and what those tell who do not. See
 * grid.cuh (gq_start_scouting, gq_stop_scouting, gq_is_called, gq_idle, gq_turn_far).
 *
 * UNITS units; K of them, and the first, are scouts, which look again and again. The others nap
 * until there is room for a scout, or they are called: by orders that a look has told, or because
 * nobody has told for long. Here that time is over when nothing else moves. A look reads whether a
 * message waits, and the orders; then it tells, unless it has found a message, which is not kept
 * waiting; UNFED: a grid without feeders, where every look tells. A unit gives its place back
 * before it works, stands still for a pause, or leaves. HANGS units stay inside a message, STALLS
 * stand still in a look, with their place. LEAVES: at some moment all are to leave. PAUSES: so many
 * times all are asked to stand still, and wait for it.
 *
 * Holds: when nothing can move any more every message has been run, and every unit that neither
 * hangs nor stands still has left, or has acknowledged, and for that nobody needs the silence
 * unless a scout stands still. There are never more scouts than K beside the first. In a grid
 * without feeders no unit looks twice because nobody has told.
 *
 *   BREAK_NO_SILENCE   who naps looks only when told to
 *   BREAK_KEEP_PLACE   a unit keeps its place while it works
 *   BREAK_PAUSE_PLACE  ... while it stands still for a pause
 *   BREAK_LEAVE_PLACE  ... when it has left
 *   BREAK_NO_UNDO      one that was too late for a place does not take its count back
 *   BREAK_LOOK_ONLY    a place is free if it was when the unit looked at the count
 *   BREAK_TELL_EMPTY   without feeders, too, only looks that find no message tell
 */
#ifndef UNITS
#define UNITS 3
#endif
#ifndef K
#define K 1
#endif
#ifndef MESSAGES
#define MESSAGES 2
#endif
#ifndef HANGS
#define HANGS 0
#endif
#ifndef STALLS
#define STALLS 0
#endif
#ifndef PAUSES
#define PAUSES 0
#endif
#if defined(UNFED) && !defined(BREAK_TELL_EMPTY)
#define TELLS(front) true
#else
#define TELLS(front) (!(front))
#endif

#define RUN    0
#define PAUSE  1
#define DEPART 2

byte published, claimed, done;
byte order = RUN, told = RUN; /* the host's word; what the last look has told of it */
bool untold = true;           /* nobody has told for long: the grid has just begun */
byte scouts;                  /* the count */
byte live;                    /* those that it stands for */
byte hung, stalled, left, paused;
#ifdef UNFED
byte by_silence[UNITS];       /* looks since it was told */
#endif

#ifdef BREAK_NO_SILENCE
#define CALLED (told != RUN)
#else
#define CALLED (untold || told != RUN)
#endif
#define FREE       (UNITS - hung - stalled)
#define ALL_SERVED (FREE == 0 || order != PAUSE && (order == DEPART -> left == FREE : done + hung == MESSAGES))

inline give_place_back()
{
	d_step {
		if
		:: scout && me != 0 -> scouts--; live--
		:: else
		fi;
		scout = false
	}
}

proctype producer()
{
	do
	:: published == MESSAGES -> break
	:: else -> published++
	od
}

proctype host()
{
	byte i;

#ifdef LEAVES
	order = DEPART;
#endif
	do
	:: i == PAUSES -> break
	:: else ->
		order = PAUSE;
end_wait:
		(paused == UNITS);
		order = RUN;
		(paused == 0);
		i++
	od
}

proctype unit(byte me)
{
	byte at, i, seen;
	bool scout, front;

turn:
	/* gq_start_scouting(): the count is looked at, then added to. What is here one step touches
	 * one word of the others. */
	atomic {
		at = 0; i = 0; seen = 0; front = false;
		if
		:: !scout && me == 0 -> scout = true; goto look
		:: !scout && me != 0 && scouts < K
		:: else -> goto look
		fi
	};
	atomic {
		at = scouts;
		scouts++;
#ifdef BREAK_LOOK_ONLY
		at = 0;
#endif
		if
		:: at < K -> scout = true; live++; assert(live <= K); goto look
		:: else
		fi
	};
#ifndef BREAK_NO_UNDO
	scouts--;
#endif
look:
end_nap:
	atomic {
		if
		:: scout || CALLED
		:: !scout && !CALLED && me != 0 && scouts < K -> goto turn
		fi;
		at = claimed;
		front = (published > claimed);
		seen = order;
#ifdef UNFED
		if
		:: !scout && told == RUN ->
			by_silence[me]++;
			assert(by_silence[me] <= 1)
		:: else
		fi;
#endif
		if
		:: stalled < STALLS -> stalled++; goto out /* it stands still, with its place */
		:: true
		fi
	};
	d_step {
		if
		:: TELLS(front) ->
			told = seen;
			untold = false;
#ifdef UNFED
			for (i : 0 .. UNITS - 1) {
				by_silence[i] = 0
			}
			i = 0
#endif
		:: else
		fi
	};
	if
	:: seen == DEPART ->
#ifndef BREAK_LEAVE_PLACE
		give_place_back();
#endif
		left++;
		goto out
	:: seen == PAUSE ->
#ifndef BREAK_PAUSE_PLACE
		give_place_back();
#endif
		paused++;
		atomic { order != PAUSE -> paused--; goto turn }
	:: atomic { seen == RUN && front ->
			if
			:: claimed == at -> claimed++
			:: else -> goto turn
			fi
		};
#ifndef BREAK_KEEP_PLACE
		give_place_back();
#endif
		atomic {
			if
			:: hung < HANGS -> hung++; goto out
			:: true
			fi;
			done++
		};
#ifdef BREAK_KEEP_PLACE
		give_place_back();
#endif
		goto turn
	:: else
	fi;
	/* Again when it may be otherwise. */
end_idle:
	atomic { (published > claimed || order != RUN || !scout) -> goto turn };
out:
	skip
}

init
{
	byte i;

	atomic {
		for (i : 1 .. UNITS) {
			run unit(i - 1)
		}
		run host();
		run producer();
		i = 0
	}
	timeout ->
	assert(stalled != 0 || ALL_SERVED);
	untold = true;
	timeout ->
	assert(ALL_SERVED && live <= K);
	assert(scouts == live || order == DEPART || hung != 0)
}
