/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pause.pml - q_pause() and q_resume() of src/host/queue/control.c, consume() and stand_still() of
 * src/device/cpu/cpu_device.c.
 *
 * The control word holds an epoch and the pause bit; every change makes a new epoch. PAUSERS
 * threads each pause once, the first without a time-out, and resume what they were granted; one more
 * resumes at any time; a producer publishes MESSAGES messages; CONSUMERS consumers claim, run,
 * sleep when idle, and stand still while paused. A time-out may strike whenever it is waited for.
 *
 * Abstracted: what happens under the control lock is one step (consumers see only the one store to
 * the control word in it). The rings are a count. An event is one flag a sleeper: register sets
 * it, a wake-up clears it, sleeping waits until it is clear; park.pml shows that gq_event is that.
 * Each wait registers, looks again, and sleeps, as gq__wait_next() does; the look before that is left
 * out: it cannot miss what the second finds.
 *
 * Holds: from the moment a pause is granted until it is resumed nobody is inside a message and
 * nobody claims one; a pause without a time-out ends; when nothing can move any more, the pause bit
 * is off (everybody who was granted a pause has resumed it, everybody else was refused), and every
 * message has run.
 *
 *   BREAK_ACK_BOOL       the acknowledgement is a flag, cleared by the next pause, without the
 *                        epoch: one that comes late speaks for the next pause
 *   BREAK_ACK_EARLY      a consumer that has claimed acknowledges before it runs
 *   BREAK_NO_WAKE        the pause does not wake who sleeps for work: no acknowledgement
 *   BREAK_LOOK_WORK      an idle consumer's second look is for messages only, not for the control
 *                        word
 *   BREAK_QUIET_WITHDRAW a pause that times out withdraws, but wakes nobody
 *   BREAK_KEEP_PAUSED    a pause that times out does not withdraw
 *   BREAK_MIXED_PAUSERS  those who wait for a pause are counted over epochs: one who was overtaken
 *                        by a resume, and has not noticed, keeps a later pause from being withdrawn
 */
#ifndef CONSUMERS
#define CONSUMERS 2
#endif
#ifndef PAUSERS
#define PAUSERS 2
#endif
#ifndef MESSAGES
#define MESSAGES 1
#endif

#ifdef ALL_TIME_OUT
#define TIMES_OUT true
#else
#define TIMES_OUT (me == 1) /* the other pauser waits for ever */
#endif

#define PAUSE 1
byte control; /* epoch << 1 | PAUSE */
byte ack[CONSUMERS];
byte pausers; /* who wait for the pause of this epoch; under the lock */
byte work;    /* published, unclaimed */
bool for_work[CONSUMERS], for_resume[CONSUMERS], for_answer[PAUSERS]; /* registered sleepers */

/* Ghosts. */
byte inside, ran, pausing;
bool granted;

#ifdef BREAK_ACK_BOOL
#define ACK(c) 1
#else
#define ACK(c) (c)
#endif
#if CONSUMERS == 1
#define ALL_ACKED(c) (ack[0] == ACK(c))
#else
#define ALL_ACKED(c) (ack[0] == ACK(c) && ack[1] == ACK(c))
#endif

/* Inside a step. */
inline set_control(flags)
{
	control = (((control >> 1) + 1) << 1) | flags;
#ifndef BREAK_MIXED_PAUSERS
	pausers = 0;
#endif
#ifndef BREAK_ACK_BOOL
	ack[0] = 0;
	ack[CONSUMERS - 1] = 0;
#endif
	granted = false
}

inline broadcast_work()
{
	d_step { for_work[0] = false; for_work[CONSUMERS - 1] = false }
}

inline broadcast_resumed()
{
	d_step { for_resume[0] = false; for_resume[CONSUMERS - 1] = false }
}

inline broadcast_answered()
{
	d_step { for_answer[0] = false; for_answer[PAUSERS - 1] = false }
}

/* The acknowledgement of an epoch that is over is as good as none: forget it, for fewer states. */
inline acknowledge(c)
{
#ifdef BREAK_ACK_BOOL
	ack[me] = 1
#else
	ack[me] = (c == control -> c : 0)
#endif
}

/* q_resume() */
inline resume()
{
	d_step {
		if
		:: (control & PAUSE) != 0 -> set_control(0)
		:: else
		fi
	};
	d_step { broadcast_resumed(); broadcast_answered() }
}

proctype pauser(byte me)
{
	byte mine;
	bool ok, withdrawn;

#ifdef BREAK_ACK_BOOL
	d_step { /* under the lock, as what follows, but a step of its own for the consumers */
		if
		:: (control & PAUSE) == 0 -> ack[0] = 0; ack[CONSUMERS - 1] = 0
		:: else
		fi
	};
#endif
	d_step { /* under the lock */
		if
		:: (control & PAUSE) == 0 -> set_control(PAUSE)
		:: else
		fi;
		mine = control;
		pausers++
	};
#ifndef BREAK_NO_WAKE
	broadcast_work();
#endif
	do
	:: for_answer[me] = true;
		if
		:: ALL_ACKED(mine) || control != mine -> for_answer[me] = false; break
		:: else
		fi;
		if
		:: !for_answer[me]			  /* woken */
		:: TIMES_OUT -> for_answer[me] = false; break
		fi
	od;
	atomic { /* under the lock */
#ifdef BREAK_MIXED_PAUSERS
		pausers--;
#else
		if
		:: control == mine -> pausers--
		:: else
		fi;
#endif
		if
		:: control != mine -> skip /* SHUTDOWN or CANCELLED */
		:: else ->
			if
			:: ALL_ACKED(mine) ->
				assert(inside == 0);
				ok = true;
				granted = true
			:: else ->
				assert(TIMES_OUT);
#ifndef BREAK_KEEP_PAUSED
				if
				:: pausers == 0 -> set_control(0); withdrawn = true
				:: else
				fi
#endif
			fi
		fi
	};
#ifndef BREAK_QUIET_WITHDRAW
	if
	:: withdrawn -> broadcast_resumed()
	:: else
	fi;
#endif
	if
	:: ok -> resume()
	:: else
	fi;
	pausing--
}

proctype resumer()
{
	resume()
}

proctype producer()
{
	byte n;

	do
	:: n < MESSAGES ->
		work++;
		/* Wake any one who is registered. */
		atomic {
			if
			:: for_work[0] -> for_work[0] = false
#if CONSUMERS > 1
			:: for_work[1] -> for_work[1] = false
#endif
			:: else
			fi
		};
		n++
	:: else -> break
	od
}

proctype consumer(byte me)
{
	byte c;
	bool got;

again:
	atomic { got = false; c = control };
	if
	:: (c & PAUSE) != 0 ->
		acknowledge(c);
		broadcast_answered();
		do
		:: for_resume[me] = true;
			if
			:: control != c -> for_resume[me] = false; break
			:: else
			fi;
end_paused:
			!for_resume[me]
		od;
		goto again
	:: else
	fi;
	atomic { /* gq_claim() */
		got = (work > 0);
		if
		:: got -> work--; assert(!granted); inside++
		:: else
		fi
	};
	if
	:: got ->
#ifdef BREAK_ACK_EARLY
		if
		:: (control & PAUSE) != 0 -> acknowledge(control)
		:: else
		fi;
#endif
		d_step { assert(!granted); inside--; ran++ };
		goto again
	:: else
	fi;
	for_work[me] = true;
#ifdef BREAK_LOOK_WORK
	if
	:: work > 0 -> for_work[me] = false; goto again
#else
	if
	:: work > 0 || control != c -> for_work[me] = false; goto again
#endif
	:: else
	fi;
end_idle:
	!for_work[me];
	goto again
}

init
{
	atomic {
		pausing = PAUSERS;
		run pauser(0);
#if PAUSERS > 1
		run pauser(1);
#endif
		run resumer();
		run producer();
		run consumer(0);
#if CONSUMERS > 1
		run consumer(1)
#endif
	}
	timeout ->
	assert(pausing == 0);
	assert((control & PAUSE) == 0);
	assert(work == 0 && inside == 0 && ran == MESSAGES)
}
