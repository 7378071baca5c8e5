/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cuda_feed.pml - the resident grid: who reads entries for others, and who goes on when that one
 * stands still. See grid.cuh (gq_class_to_feed, gq_take_place_to_feed, gq_try_feed, gq_turn_near)
 * and look.cuh (gq_feed, gq_grid_claim).
 *
 * UNITS units serve two classes, of which class 1 comes first, of PUBLISHED_0 and PUBLISHED_1
 * messages. Runs are counts here: what is claimed for others, any unit takes (cuda_runs.pml has the
 * rest of it). A unit that knows of a class that waits, and finds nothing claimed of it, takes its
 * place of those that read, if it is free, or if the one in it has been there for long; here that
 * may be at any moment. It reads its class and the front of the other. If that comes first it claims
 * what it has seen of that for others, too, if it can. It tells what waits; claims of its class, if
 * it has seen the end of the other; and gives the place back, also if another has it by then. If its
 * claim fails, or nobody has told that anything waits, it looks and claims one message for itself.
 * STALLS units stand still with a place: before they read, before they claim either, or behind it.
 *
 * Holds: when nothing can move any more all messages have been run; nothing is claimed twice, nor
 * before it is published; a read that has seen a message of class 1 claims of class 0 when that one
 * is claimed, and not before.
 *
 *   BREAK_NO_TAKEOVER  a place is its unit's until that gives it back
 *   BREAK_NO_SWAP      a unit claims what it has read, whatever others have claimed since
 *   BREAK_STALE_FRONT  the same of the front of the class that comes first
 *   BREAK_HALF_FRONT   a unit that has claimed some of what it has seen there goes on with its class
 */
#ifndef UNITS
#define UNITS 2
#endif
#ifndef STALLS
#define STALLS 1
#endif
#ifndef PUBLISHED_0
#define PUBLISHED_0 2
#endif
#ifndef PUBLISHED_1
#define PUBLISHED_1 1
#endif

/* Entries, and what has been claimed of them; what is claimed and not taken. */
byte published[2], claimed[2], left[2], done;
byte waits;    /* a bit for each class: one word */
byte place[2]; /* of those that read: a unit's number, from 1; 0: free */
byte stalled;

#define BIT(c)  (1 << (c))
#define HAS(w, c) (((w) >> (c)) & 1)

proctype producer(byte c; byte n)
{
	do
	:: published[c] == n -> break
	:: else -> published[c]++
	od
}

/* The unit is one of those that stand still: here, if it does not go on. */
inline may_stall()
{
	if
	:: atomic { stalled < STALLS -> stalled++ }; goto out
	:: true
	fi
}

#ifdef BREAK_NO_SWAP
#define IS_FRESH(c) true
#else
#define IS_FRESH(c) (claimed[c] == at[c])
#endif
#ifdef BREAK_STALE_FRONT
#define IS_FRONT_FRESH true
#else
#define IS_FRONT_FRESH IS_FRESH(1)
#endif

/* LEFT of them are left for any unit to take. */
inline claim(CLASS, MANY, LEFT, FRESH)
{
	d_step {
		ours = (MANY != 0 && FRESH);
		if
		:: ours ->
			claimed[CLASS] = claimed[CLASS] + MANY;
			assert(claimed[CLASS] <= published[CLASS]);
			left[CLASS] = left[CLASS] + LEFT
		:: else
		fi
	}
}

proctype unit(byte me)
{
	byte at[2], told, holder, c, n, fronts, ahead, some;
	bool ours, found;

turn:
	/* gq_look_at_runs(), when there is a reason to. */
end_idle:
	atomic {
		(waits != 0 || left[0] != 0 || left[1] != 0 || published[0] > claimed[0] ||
		 published[1] > claimed[1]);
		at[0] = claimed[0];
		at[1] = claimed[1];
		told = waits;
		c = (HAS(told, 1) || left[1] != 0 -> 1 : 0);
		found = (left[c] != 0);
		holder = place[c]
	};
	if
	:: found -> goto take
	:: !found && !HAS(told, c) -> goto look
	:: !found && HAS(told, c)
	fi;
end_nap:
	if
	:: holder == 0
#ifndef BREAK_NO_TAKEOVER
	:: holder != 0 /* it has been there for long */
#endif
	/* Another one reads: again when it may be otherwise. */
	:: holder != 0 && (place[c] != holder || waits != told || left[0] != 0 || left[1] != 0) ->
		goto again
	fi;
	atomic {
		if
		:: place[c] == holder -> place[c] = me
		:: else -> goto again
		fi
	};
	may_stall();
	d_step { /* the read */
		n = published[c] - at[c];
		ahead = published[1] - at[1];
		fronts = (published[0] > at[0] -> BIT(0) : 0) | (published[1] > at[1] -> BIT(1) : 0)
	};
	may_stall();
	if
	:: c == 0 && HAS(fronts, 1) ->
		if
		:: true /* the copies are held, or more may wait than it has read: that class is next */
		:: true ->
			if
			:: some = 1 /* one lane's entries */
			:: some = ahead
			fi;
			claim(1, some, some, IS_FRONT_FRESH);
			d_step {
				if
				:: (!ours && claimed[1] - at[1] >= ahead) || /* others have */
#ifdef BREAK_HALF_FRONT
				   ours ->
#else
				   (ours && some == ahead) ->
#endif
					fronts = fronts & ~BIT(1)
				:: else
				fi;
				some = 0
			}
		fi
	:: else
	fi;
	may_stall();
	waits = fronts;
	if
	:: c == 0 && HAS(fronts, 1) -> ours = true; goto give_back /* claims nothing */
	:: else
	fi;
	claim(c, n, n, IS_FRESH(c));
	assert(c == 1 || claimed[1] - at[1] >= ahead);
	if
	:: ours -> waits = fronts & ~BIT(c)
	:: else
	fi;
	may_stall();
give_back:
	place[c] = 0;
	if
	:: ours || n == 0 -> goto again
	:: else
	fi;
look:
	/* gq_turn_far() */
	atomic {
		at[0] = claimed[0];
		at[1] = claimed[1]
	};
	d_step {
		fronts = (published[0] > at[0] -> BIT(0) : 0) | (published[1] > at[1] -> BIT(1) : 0);
		c = (HAS(fronts, 1) -> 1 : 0);
		n = (HAS(fronts, c) -> 1 : 0)
	};
	claim(c, n, 0, IS_FRESH(c));
	waits = fronts;
	if
	:: ours -> done++
	:: else
	fi;
	goto again;
take:
	skip;
	d_step {
		if
		:: left[c] != 0 -> left[c]--; done++
		:: else
		fi
	};
again:
	skip;
	d_step { at[0] = 0; at[1] = 0; told = 0; holder = 0; n = 0; fronts = 0; ahead = 0; c = 0; ours = false; found = false };
	goto turn;
out:
	skip
}

init
{
	byte i;

	atomic {
		for (i : 1 .. UNITS) {
			run unit(i)
		}
		run producer(0, PUBLISHED_0);
		run producer(1, PUBLISHED_1);
		i = 0
	}
	timeout ->
	assert(stalled == UNITS || done == PUBLISHED_0 + PUBLISHED_1)
}
