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
 * Stores of the leader's lie in its core's buffer until they come out, one by one, at any time, or until the other
 * makes them come out (reach(): a membarrier). With FENCED there is no membarrier, and the leader waits at fence().
 * A thread knows what it has stored itself; what it changes by an exchange or a compare-and-swap is there at once.
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
 *   BREAK_NO_REACH    the other looks whether the leader is back without having reached it
 *   BREAK_NO_REACH_DOZE  the same, of the turn, before it dozes
 *   BREAK_NO_FENCE    (FENCED) the leader makes no fence
 *   BREAK_WANTS_FIRST the leader looks whether the lead is wanted, then says that it is back
 *   BREAK_EVEN_FIRST  the leader makes the turn even before it is decided who leads
 *   BREAK_BOTH        who leads is not decided where both want to
 *   BREAK_BACK_EQUAL  the other takes a leader that is back from a later turn for one that is not back
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
byte ran[2], wants[2], decided;
chan buffer[2] = [3] of { byte, byte }; /* which word, value */
#define TURN 0
#define RAN  1
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

inline store(word, value)
{
	buffer[me]!word, value
}

/* One store of a member's comes out of its buffer. */
inline come_out(m)
{
	buffer[m]?word_out, value_out;
	if
	:: word_out == TURN -> turn = value_out
	:: else -> ran[m] = value_out
	fi;
	word_out = 0;
	value_out = 0
}

proctype drain(byte m)
{
	byte word_out, value_out;

end:
	do
	:: d_step { nempty(buffer[m]); come_out(m) }
	od
}

inline fence()
{
#if defined(FENCED) && !defined(BREAK_NO_FENCE)
	empty(buffer[me])
#else
	skip
#endif
}

inline reach()
{
#ifndef FENCED
	d_step {
		do
		:: nempty(buffer[1 - me]) -> come_out(1 - me)
		:: else -> break
		od
	}
#else
	skip
#endif
}

/* Both want to lead after turn `before`. */
inline decide()
{
	d_step {
#ifdef BREAK_BOTH
		won = true;
#else
		won = (decided != before);
#endif
		decided = before
	}
}

inline keep_lead()
{
#ifdef BREAK_EVEN_FIRST
	store(TURN, before + 1);
#endif
#ifdef BREAK_WANTS_FIRST
	won = (wants[1 - me] != before);
	store(RAN, before);
	fence();
#else
	store(RAN, before);
	fence();
	won = (wants[1 - me] != before);
#endif
	if
	:: won
	:: else -> decide()
	fi;
	if
	:: won ->
#ifndef BREAK_EVEN_FIRST
		store(TURN, before + 1)
#else
		skip
#endif
	:: else
	fi
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

proctype member(byte me; bool leads)
{
	byte seen, before, mine, word_out, value_out; /* `mine`: the turn, while this thread leads */
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
#ifndef BREAK_NO_REACH_DOZE
			reach();
#endif
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
	wants[me] = before;
#ifndef BREAK_NO_REACH
	reach();
#endif
	if
#ifdef BREAK_BACK_EQUAL
	:: ran[1 - me] == before -> goto look
#else
	:: ran[1 - me] >= before -> goto look
#endif
	:: else -> decide()
	fi;
	if
	:: !won -> goto look
	:: else
	fi;
	store(TURN, before + 1);
	mine = before + 1;
	away = true;
lead:
	skip;
	d_step { working++; assert(working == 1) };
	d_step { seen = 0; again = false; before = 0; won = false };
	do
	:: inside == 0 && !away && runs < RUNS -> /* pair_run() */
		d_step { runs++; before = mine + 1; working-- };
#ifdef BREAK_LOOK_FIRST
		look_whether_it_dozes();
		store(TURN, before);
#else
		store(TURN, before);
		fence();
		look_whether_it_dozes();
#endif
		if /* the processor */
		:: true
#if HANG > 0
		:: !hangs -> hangs = true;
end_hang:
#if HANG == 1
			decided == before
#else
			false
#endif
#endif
		fi;
		keep_lead();
		if
		:: !won -> d_step { before = 0; mine = 0 }; late = true; wake = true; goto stand_by
		:: else -> d_step { working++; assert(working == 1); mine = before + 1; won = false; before = 0 }
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
		run member(0, true);
		run member(1, false);
		run drain(0);
		run drain(1);
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
