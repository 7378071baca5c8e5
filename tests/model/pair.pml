/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pair.pml - the two threads of a dispatcher (src/broker/pair.c): who leads, and what the other sleeps on.
 *
 * RUNS messages are run by whoever leads, and SENT are put into the queue, where a consumer ends them at some
 * time; each of them in any order. At any time a client may ring (RINGS times). The leader sleeps when it has
 * nothing else to do: until a client rings, or the other has seen that something in the queue has ended, or comes back
 * from a run too late; before that, nothing is run or put into the queue. With
 * HANG one run does not end before the other leads; with HANG=2 it never ends.
 *
 * Time: the other takes the lead when it finds an odd turn that it has seen before, and dozes when it finds one
 * that it has seen before; that both take many looks only leaves states out. So it may doze too early,
 * which must do no harm. A sleep that has a time limit ends at any time. The semaphore is `call`.
 *
 * Holds: never two who work on what is the leader's; and when nothing can move any more but the clock, nobody
 * leads from inside of a processor, whoever leads has polled all that has ended in the queue, and `armed` is taken off.
 *
 *   BREAK_DOZE_ODD    the other dozes while the leader is in a processor
 *   BREAK_NO_LOOK     the other dozes without having looked at the turn again
 *   BREAK_LOOK_FIRST  the leader looks whether the other dozes, then makes the turn odd
 *   BREAK_TAKE_LATE   what is left of `call` is taken after the look at `armed`
 *   BREAK_KEEP_ARMED  who wakes of a client's bell leaves `armed` as it is
 *   BREAK_QUIET_TAKER who takes `armed` off because something has ended does not wake the leader
 *   BREAK_STORE       the leader, and the other, store the turn, whatever it is by then
 */
#ifndef RUNS
#define RUNS 2
#endif
#ifndef SENT
#define SENT 1
#endif
#ifndef RINGS
#define RINGS 1
#endif
#ifndef HANG
#define HANG 0
#endif

byte turn, call, working;    /* `working`: threads on what is the leader's */
bool dozing, armed, wake;    /* `wake`: the eventfd */
byte bell;                   /* clients' bells that nobody has heard */
byte runs, sent, inside, ended; /* messages: run, put into the queue, not polled; to be polled */
bool hangs;                  /* a run does */
bool away, late;             /* a message is with the other thread; that has come back */
bool resting;                /* the leader sleeps */

inline post()
{
	d_step { assert(call < 255); call++ }
}

/* The lead is passed on: `before` is the turn that this thread knows. */
inline swap()
{
	d_step {
#ifdef BREAK_STORE
		won = true;
		turn = before + 1
#else
		won = (turn == before);
		if
		:: won -> turn++
		:: else
		fi
#endif
	}
}

inline look_whether_it_dozes()
{
	if
	:: dozing ->
		d_step { won = dozing; dozing = false };
		if
		:: won -> post()
		:: else
		fi
	:: else
	fi
}

proctype member(bool leads)
{
	byte seen, before;
	bool won, again;

	if
	:: leads -> goto lead
	:: else
	fi;
stand_by:
	skip;
	d_step { seen = turn; again = false };
look:
#ifndef BREAK_TAKE_LATE
	do
	:: d_step { call > 0 -> call-- }
	:: else -> break
	od;
#endif
	if
	:: armed ->
#ifdef BREAK_TAKE_LATE
		do
		:: d_step { call > 0 -> call-- }
		:: else -> break
		od;
#endif
		/* q_wait_any(): until something can be polled, or for a time */
		if
		:: ended > 0 ->
			armed = false;
#ifndef BREAK_QUIET_TAKER
			wake = true
#endif
		:: ended == 0 -> assert(!(armed && resting && inside == 0 && bell == 0 && !wake))
		fi
	:: else ->
#ifdef BREAK_TAKE_LATE
		do
		:: d_step { call > 0 -> call-- }
		:: else -> break
		od;
#endif
		if
		:: true /* a tick */
#ifdef BREAK_DOZE_ODD
		:: again ->
#else
		:: again && seen % 2 == 0 ->
#endif
			dozing = true;
#ifndef BREAK_NO_LOOK
			if
			:: turn != seen -> goto awake
			:: else
			fi;
#endif
			skip;
end_doze:
			d_step { call > 0 -> call-- };
awake:
			dozing = false
		fi
	fi;
	if /* take_lead() */
	:: turn != seen -> d_step { seen = turn; again = false }; goto look
	:: else
	fi;
	if
	:: !again || seen % 2 == 0 -> again = true; goto look
	:: else
	fi;
	before = seen;
	swap();
	if
	:: !won -> goto look
	:: else
	fi;
	away = true;
lead:
	skip;
	d_step { working++; assert(working == 1) };
	d_step { seen = 0; again = false; before = 0; won = false };
	do
	:: inside == 0 && !away && runs < RUNS -> /* pair_run() */
		d_step { runs++; before = turn + 1; working-- };
#ifdef BREAK_LOOK_FIRST
		look_whether_it_dozes();
		turn = before;
#else
		turn = before;
		look_whether_it_dozes();
#endif
		if /* the processor */
		:: true
#if HANG > 0
		:: !hangs -> hangs = true;
end_hang:
#if HANG == 1
			turn != before
#else
			false
#endif
#endif
		fi;
		swap();
		if
		:: !won -> late = true; wake = true; goto stand_by
		:: else -> d_step { working++; assert(working == 1); won = false; before = 0 }
		fi
	:: !away && sent < SENT -> d_step { sent++; inside++ }
	:: d_step { late -> assert(away); late = false; away = false }
	:: ended > 0 -> d_step { ended--; inside-- }
	:: ended == 0 && !late -> /* sleep_until_rung() */
		if
		:: inside > 0 ->
			d_step { won = !armed; armed = true };
			if
			:: won -> post()
			:: else
			fi
		:: else
		fi;
		resting = true;
end_sleep:
		d_step { bell > 0 || wake -> bell = 0; wake = false; resting = false; won = false };
#ifndef BREAK_KEEP_ARMED
		armed = false
#endif
	od
}

/* The consumer of the queue, which ends all that is in it. */
proctype consumer()
{
end:
	do
	:: d_step { ended < inside -> ended++ }
	od
}

proctype client()
{
	byte n;

	do
	:: n < RINGS -> d_step { bell++; n++ }
	:: else -> break
	od
}

init
{
	atomic {
		run member(true);
		run member(false);
		run consumer();
		run client()
	}
	timeout ->
	d_step {
		assert(turn % 2 == 0);
		assert(resting && ended == 0 && !late);
		assert(!armed)
	}
}
