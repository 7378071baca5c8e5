/* SPDX-License-Identifier: Apache-2.0 */
/*
 * room.pml - a producer that waits for room while a message that frees its own slot completes:
 * attempt_slots() and gq__await_slots() of src/host/queue/produce.c, gq_fill() of produce.h there.
 *
 * One slot. A sender has it and publishes a message that is to be discarded; a consumer completes it
 * and looks for a sleeper; a producer pops, asks whether such a message has been accepted, reaps if
 * so, and else registers, tries once more, and sleeps. Nobody else ever publishes or reaps.
 *
 * Abstracted: the rings (pool.pml, publish_claim.pml), the futex (park.pml).
 *
 * Holds: the producer gets the slot.
 *
 *   BREAK_COUNT_LATE    the message is counted after its publication
 *   BREAK_NO_ASK_AGAIN  a producer that has registered goes by what it asked before
 */
bool published, completed, registered, got;
byte discards; /* accepted */

proctype sender()
{
#ifdef BREAK_COUNT_LATE
	published = true;
	discards++
#else
	discards++;
	published = true
#endif
}

proctype consumer()
{
	published;
	completed = true;
	if
	:: registered -> registered = false /* woken */
	:: else
	fi
}

inline attempt()
{
	/* The pool is empty: only reaping can fill it. */
#ifndef BREAK_NO_ASK_AGAIN
	asked = discards;
#endif
	if
	:: asked == 0
	:: else ->
		if
		:: completed -> got = true
		:: else
		fi
	fi
}

proctype producer()
{
	byte asked = discards;

	do
	:: attempt();
		if
		:: got -> break
		:: else -> registered = true
		fi;
		attempt();
		if
		:: got -> break
		:: else -> !registered /* asleep until woken */
		fi
	od
}

init
{
	atomic {
		run sender();
		run consumer();
		run producer()
	};
	timeout;
	assert(got)
}
