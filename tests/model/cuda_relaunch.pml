/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cuda_relaunch.pml - launches come and go, and runs stay where they are: for a pause, for room for
 * another queue, and at a stop. See grid.cuh (gq_turn_near, gq_turn_far, gq_report_residence) and
 * device.c (how the host takes what the last grid has left).
 *
 * LAUNCHES launches of UNITS units each, one after another in the stream. The host orders each to
 * depart at any time; a unit looks at the order between two messages. A unit that finds a run with
 * something left takes of it; else it claims up to MOST entries for all, and takes nothing. When the
 * last launch has left and MESSAGES are published, the host ends what no unit has taken: first what
 * is left in the runs, by their copies, then what lies behind the newest run.
 *
 * Holds: each message is taken once, by a unit or by the host; and whenever all units of a launch
 * have left, the copies that are held are those of the messages left in the runs.
 *
 *   BREAK_RESET        a launch begins with its words as they were before the first message
 *   BREAK_HOST_CURSOR  the host ends what lies behind the newest run, and no more
 *   BREAK_HOST_ALL     the host ends all of the runs it finds, also what units have taken
 *   BREAK_HOLD         a unit that leaves has not said that it has read its copy
 */
#ifndef UNITS
#define UNITS 2
#endif
#ifndef LAUNCHES
#define LAUNCHES 2
#endif
#ifndef MESSAGES
#define MESSAGES 4
#endif
#ifndef MOST
#define MOST 2
#endif

byte published;
bool ran[MESSAGES];
/* Run words. Positions begin at 1, the message's number and one. */
byte base[2], count[2], taken[2];
byte held[2], near[2 * MOST];
bool depart;
byte gone;

inline end_message(p)
{
	assert(p >= 1 && p <= published && !ran[p - 1]);
	ran[p - 1] = true
}

inline look()
{
	d_step { b[0] = base[0]; n[0] = count[0]; t[0] = taken[0] };
	d_step { b[1] = base[1]; n[1] = count[1]; t[1] = taken[1] };
	d_step {
		if
		:: b[1] + n[1] > b[0] + n[0] -> k = 0; end = b[1] + n[1]
		:: else -> k = 1; end = b[0] + n[0]
		fi;
		oldest = 2;
		if
		:: n[k] > t[k] -> oldest = k
		:: else ->
			if
			:: n[1 - k] > t[1 - k] -> oldest = 1 - k
			:: else
			fi
		fi;
		i = 0
	}
}

proctype producer()
{
	do
	:: published == MESSAGES -> break
	:: else -> published++
	od
}

proctype unit()
{
	byte b[2], n[2], t[2], k, end, oldest, m, i, pos;
	bool ok;

turn:
	if
	:: depart -> goto leave
	:: else
	fi;
	look();
	if
	:: oldest != 2 -> goto take
	:: oldest == 2 && published > end - 1 -> goto claim
	/* again when it may be otherwise */
	:: oldest == 2 && (depart || published > end - 1 || base[0] != b[0] || base[1] != b[1] ||
			   taken[0] != t[0] || taken[1] != t[1]) -> goto again
	fi;
claim:
	skip;
	m = published - (end - 1);
	m = (m > MOST -> MOST : m);
	d_step { /* gq_hold_run() */
		ok = (held[k] == 0);
		if
		:: ok -> held[k] = m
		:: else
		fi;
		i = 0
	};
	if
	:: !ok -> goto again
	:: else
	fi;
	i = 0;
	do
	:: i < m -> near[k * MOST + i] = end + i; i++
	:: else -> break
	od;
	skip;
	d_step { /* gq_claim_run() */
		ok = (base[k] == b[k] && count[k] == n[k] && taken[k] == t[k]);
		if
		:: ok -> base[k] = end; count[k] = m; taken[k] = 0
		:: else
		fi;
		i = 0
	};
	if
	:: !ok -> held[k] = held[k] - m
	:: else
	fi;
	goto again;
take:
	skip;
	d_step {
		k = oldest;
		ok = (count[k] > taken[k]);
		pos = base[k] + taken[k];
		i = taken[k];
		taken[k]++
	};
	if
	:: !ok -> goto again
	:: else
	fi;
	d_step {
		assert(near[k * MOST + i] == pos);
		end_message(pos)
	};
#ifdef BREAK_HOLD
	if
	:: depart -> goto leave
	:: else
	fi;
#endif
	held[k]--; /* gq_let_go() */
again:
	skip;
	d_step { ok = false; m = 0; i = 0; pos = 0; oldest = 0; end = 0 };
	goto turn;
leave:
	gone++
}

proctype host()
{
	byte launch = 1, k, i, end;

	do
	:: depart = true;
		(gone == UNITS);
		d_step {
			for (k : 0 .. 1) {
				assert(held[k] == (count[k] > taken[k] -> count[k] - taken[k] : 0))
			}
			k = 0
		};
		if
		:: launch == LAUNCHES -> break
		:: else
		fi;
		atomic {
			depart = false;
			gone = 0;
			launch++;
#ifdef BREAK_RESET
			base[0] = 0;
			base[1] = 1;
			count[0] = 0;
			count[1] = 0;
			taken[0] = 0;
			taken[1] = 0;
#endif
			for (k : 1 .. UNITS) {
				run unit()
			}
		}
	od;
	(published == MESSAGES);
	skip;
	d_step {
		end = (base[1] + count[1] > base[0] + count[0] -> base[1] + count[1] :
								  base[0] + count[0]);
#ifndef BREAK_HOST_CURSOR
		for (k : 0 .. 1) {
#ifdef BREAK_HOST_ALL
			i = 0;
#else
			i = taken[k];
#endif
			do
			:: i < count[k] ->
				assert(near[k * MOST + i] == base[k] + i);
				end_message(base[k] + i);
				i++
			:: else -> break
			od
		}
#endif
		do
		:: end <= published -> end_message(end); end++
		:: else -> break
		od;
		for (i : 0 .. (MESSAGES - 1)) {
			assert(ran[i])
		}
	}
}

init
{
	byte i;

	atomic {
		/* Used up, and in an order: gq_run_first(). */
		base[0] = 0;
		base[1] = 1;
		for (i : 1 .. UNITS) {
			run unit()
		}
		run producer();
		run host()
	}
}
