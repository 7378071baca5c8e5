/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cuda_result.pml - a result that validates itself: stores of which none waits for another. See
 * message.cuh (gq_deliver_sealed, gq_deliver) and protocol.h (gq_complete_posted, gq_reap,
 * gq_result_is_whole).
 *
 * MESSAGES messages use CAP slots, one after the other. A delivery takes its place in the completion
 * ring; then its stores arrive: two words of result, seal and entry in any order, or, as a longer
 * result does it, without a seal and the entry last. DELIVERIES are under way at once: one for each
 * slot is all there can be, one more for stores that are late. The reaper takes the entries in order,
 * reading seal and words one by one; once it has believed a result, it is taken and the slot used
 * again, at any time.
 *
 * The processor has written elsewhere too, which a fence ahead of these stores waits for; without a seal
 * the entry, which is last, does.
 *
 * The first word of a result is that of every second message, so what has not arrived may already
 * look so. Then its store may be under way when the slot is used again, and must still come before
 * the next store of that word.
 *
 * Holds: what is taken is the message's result, all of it, and what the processor wrote elsewhere is
 * there; completions are taken in order; when nothing can move any more, all messages have finished.
 *
 *   BREAK_NO_SEAL     the entry is believed
 *   BREAK_NO_ID       the seal is of the bytes alone: an older result in the slot is believed
 *   BREAK_SEAL_ALONE  the seal is of the id alone: bytes that have not arrived are believed
 *   BREAK_PASS_OVER   an entry whose result has not arrived is passed over
 *   BREAK_WORD_ORDER  two stores of one word arrive in either order
 *   BREAK_NO_FENCE    what was written elsewhere arrives when it will: Q_RESULT_ONLY, and not true
 */
#ifndef CAP
#define CAP 1
#endif
#ifndef DELIVERIES
#define DELIVERIES (CAP + 1)
#endif
#ifndef MESSAGES
#define MESSAGES 4
#endif

#define FREE     0
#define QUEUED   1
#define RUNNING  2
#define FINISHED 3

#define FIRST(id)  ((id) / 2 + 1)
#define SECOND(id) (id)

byte state[CAP], msg[CAP];
byte first[CAP], second[CAP], seal[CAP], elsewhere[CAP];
byte entry_pos[CAP], entry_slot[CAP]; /* one word, with the next; position + 1 */
bool entry_sealed[CAP];
byte done_tail, done_head, next = CAP + 1, under_way, taken;
bool busy[DELIVERIES];
byte issued[CAP], arrived[CAP]; /* stores of the first word */

#define FITS(seal_word, a, b, id) ((seal_word) == (id) && (a) == FIRST(id) && (b) == SECOND(id))

#ifdef BREAK_WORD_ORDER
#define MAY_ARRIVE true
#else
#define MAY_ARRIVE (arrived[slot] == turn)
#endif

#ifdef BREAK_NO_FENCE
#define FENCED true
#else
#define FENCED ((left & 16) == 0)
#endif

#define MY_TURN (me == 0 || busy[me - 1])

/* They are alike: the first that is idle takes the next message. */
proctype delivery(byte me)
{
	byte slot, id, at, turn, left;
	bool sealed;

end:
	do
	:: atomic {
		if
		:: MY_TURN && state[0] == QUEUED -> slot = 0
#if CAP > 1
		:: MY_TURN && state[1] == QUEUED -> slot = 1
#endif
#if CAP > 2
		:: MY_TURN && state[2] == QUEUED -> slot = 2
		:: MY_TURN && state[3] == QUEUED -> slot = 3
#endif
		fi;
		busy[me] = true;
		state[slot] = RUNNING;
		id = msg[slot];
		at = done_tail;
		done_tail++;
		assert(done_tail - done_head <= CAP);
		turn = issued[slot];
		issued[slot]++;
		if
		:: sealed = true; left = 31
		:: sealed = false; left = 27
		fi;
		under_way++
	};
		do
		:: d_step { (left & 16) != 0 -> elsewhere[slot] = id; left = left & 15 }
		:: d_step { (left & 1) != 0 && MAY_ARRIVE && (FENCED || !sealed) ->
			first[slot] = FIRST(id); arrived[slot]++; left = left & 30 }
		:: d_step { (left & 2) != 0 && (FENCED || !sealed) -> second[slot] = SECOND(id); left = left & 29 }
		:: d_step { (left & 4) != 0 && FENCED -> seal[slot] = id; left = left & 27 }
		:: d_step { (left & 8) != 0 && (sealed && FENCED || left == 8) ->
			entry_pos[at % CAP] = at + 1;
			entry_slot[at % CAP] = slot;
			entry_sealed[at % CAP] = sealed;
			left = left & 23 }
		:: d_step { left == 0 ->
			slot = 0; id = 0; at = 0; turn = 0; sealed = false; busy[me] = false; under_way-- }
			break
		od
	od
}

proctype reaper()
{
	byte slot, found, a, b;
	bool sealed;

end:
	do
	:: atomic {
		entry_pos[done_head % CAP] == done_head + 1 ->
		slot = entry_slot[done_head % CAP];
		sealed = entry_sealed[done_head % CAP]
	};
#ifndef BREAK_NO_SEAL
		if
		:: sealed ->
			found = seal[slot];
			a = first[slot];
			b = second[slot];
#ifdef BREAK_NO_ID
			sealed = !(FITS(found, a, b, found));
#else
#ifdef BREAK_SEAL_ALONE
			sealed = (found != msg[slot]);
#else
			sealed = !(FITS(found, a, b, msg[slot]));
#endif
#endif
			d_step { found = 0; a = 0; b = 0 }
		:: else
		fi;
		if
		:: sealed -> /* not yet */
			sealed = false;
#ifdef BREAK_PASS_OVER
			done_head++;
#endif
			(under_way > 0 || FITS(seal[slot], first[slot], second[slot], msg[slot]))
		:: else ->
#else
		if
		:: true ->
#endif
			atomic { done_head++; assert(state[slot] == RUNNING); state[slot] = FINISHED }
		fi;
		d_step { slot = 0; sealed = false }
	od
}

/* Takes a result, and uses the slot for the next message. */
proctype host()
{
	byte slot;

end:
	do
	:: atomic {
		if
		:: state[0] == FINISHED -> slot = 0
#if CAP > 1
		:: state[1] == FINISHED -> slot = 1
#endif
#if CAP > 2
		:: state[2] == FINISHED -> slot = 2
		:: state[3] == FINISHED -> slot = 3
#endif
		fi;
		assert(first[slot] == FIRST(msg[slot]) && second[slot] == SECOND(msg[slot]));
		assert(elsewhere[slot] == msg[slot]);
		taken++;
		if
		:: next <= MESSAGES -> msg[slot] = next; next++; state[slot] = QUEUED
		:: else -> state[slot] = FREE
		fi;
		slot = 0
	}
	od
}

init
{
	byte i;

	atomic {
		for (i : 1 .. CAP) {
			msg[i - 1] = i;
			state[i - 1] = QUEUED
		}
		for (i : 1 .. DELIVERIES) {
			run delivery(i - 1)
		}
		run reaper();
		run host();
		i = 0
	}
	timeout ->
	assert(taken == MESSAGES && under_way == 0)
}
