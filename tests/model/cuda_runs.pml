/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cuda_runs.pml - the resident grid: units claim runs of messages, and take of what is claimed. See
 * run.h, look.cuh (gq_feed, gq_serve_meal, gq_claim_run, gq_take) and grid.cuh (gq_close_class).
 *
 * UNITS units serve one class of MESSAGES messages; a ring of CAP entries, so one is published when
 * fewer than CAP are under way. A class has two run words, in turn. A
 * unit reads the words one by one, then up to MOST entries, from the cursor on or from beyond, as
 * others may claim first; then the words again. It holds the copies of the word that is next, copies
 * what it has read from the cursor on that it knows now, and swaps the word; or it adds to the oldest word with something left, and reads
 * the copy of what it got: BATCH messages at once. OWN: a unit that claims takes the first one
 * itself, if nothing is left in a run; if others hold the copies it claims that one alone. One that
 * has read for others, and finds them held, looks and claims so. Each unit may try to close the class, TRIES times: it counts
 * what has completed, says LOOKING, and looks at the entries once more. HANG: one unit stays inside
 * the first message that it gets, HANG_READ before it has read its copy, HANG_HOLD one that holds
 * copies and has not claimed. PAUSES: so many times all units are asked to stand still; what
 * they are told of that may be old until they look themselves, and they acknowledge the word that
 * they have looked at, later. A pause may be withdrawn before all have.
 *
 * Holds: each message is taken once, as the entry says that was published; nothing is claimed while
 * the class is closed for good; it closes for good only with all that was claimed completed; and
 * when nothing can move any more every message has been taken, unless the class has closed (then
 * nothing that was claimed is left, and the publisher of what was not has seen it). While all units
 * have acknowledged a pause none is inside a message.
 *
 *   BREAK_NO_HOLD     copies are overwritten though a unit has still to read its own
 *   BREAK_FREE_EARLY  a unit says that it has read before it has
 *   BREAK_ADD_ONLY    what the addition returns is not looked at: the look says what was got
 *   BREAK_COPY_LATE   the word is swapped before the entries are copied
 *   BREAK_GAP         a unit claims what it has read, wherever the cursor is now
 *   BREAK_NO_COUNT    the class closes for good with a unit inside a message
 *   BREAK_OWN_COPY    a unit copies the entry of its own message too, which it does not hold
 *   BREAK_OWN_LEFT    a unit takes the first of what it claims, and leaves it in the run
 *   BREAK_BATCH       a unit takes a batch, also of a run that has fewer left
 *   BREAK_NO_LOOK     the class closes for good without a second look
 *   BREAK_LOOK_FIRST  the second look comes before LOOKING
 *   BREAK_GO_ON       a unit that has acknowledged a pause takes what is claimed
 *   BREAK_ACK_BOOL    a unit acknowledges a pause, whichever it is
 *   BREAK_NO_OWN      a unit whose claim needs copies that are held claims nothing
 *   BREAK_OWN_HELD    ... claims as if they were not
 *   BREAK_ACK_INSIDE  a unit acknowledges a pause before its message has completed
 */
#ifndef UNITS
#define UNITS 2
#endif
#ifndef CAP
#define CAP 2
#endif
#ifndef MESSAGES
#define MESSAGES 4
#endif
#ifndef MOST
#define MOST 2
#endif
#ifndef TRIES
#define TRIES 1
#endif
#ifndef BATCH
#define BATCH 1
#endif
#ifndef OWN
#define OWN 0
#endif
#ifndef PAUSES
#define PAUSES 0
#endif

#define LEFT(k) (count[k] - taken[k])
#define HAS_LEFT(k) (count[k] > taken[k])

byte published;       /* positions */
bool ran[MESSAGES];
byte done;
/* Run words: count, base, taken, closed are one. */
byte base[2], count[2], taken[2];
bool closed[2], looking, shut_for_good, woken;
byte held[2], near[2 * MOST];
bool hung;
#if PAUSES > 0
byte control; /* a pause is odd */
byte ack[UNITS], inside;
#ifdef BREAK_ACK_BOOL
#define ACKED(i) (ack[i] % 2 == 1)
#else
#define ACKED(i) (ack[i] == control)
#endif
#define INSIDE(n) inside = inside + n
#define OUTSIDE(n) inside = inside - n
#else
#define INSIDE(n) skip
#define OUTSIDE(n) skip
#endif

proctype producer()
{
	do
	:: published == MESSAGES -> break
	:: else ->
end_room:
		(published - done < CAP);
		published++;
		!looking; /* [wake.look] */
		if
		:: shut_for_good -> woken = true
		:: else
		fi
	od
}

#if PAUSES > 0
#if UNITS != 2
#error two units acknowledge
#endif
proctype pauser()
{
	byte i;

	do
	:: i == PAUSES -> break
	:: else ->
		control++;
end_wait:
		if
		:: ACKED(0) && ACKED(1) ->
			assert(inside == 0);
			skip;
			assert(inside == 0) /* and it stays so */
		:: i + 1 < PAUSES /* its time is over */
		fi;
#ifdef BREAK_ACK_BOOL
		ack[0] = 0;
		ack[1] = 0;
#endif
		control++;
		i++
	od
}
#endif

proctype unit(byte me)
{
	byte b[2], n[2], t[2], k, m, i, j, pos, end, begin, got, tries, oldest, own;
	bool c[2], ok, hangs, stuck;

turn:
#if PAUSES > 0
	if /* what others have told may be old: then the unit goes on */
	:: skip
	:: control % 2 == 1 -> goto paused
	fi;
#endif
	skip;
	/* gq_look_at_runs(): two loads */
	d_step { b[0] = base[0]; n[0] = count[0]; t[0] = taken[0]; c[0] = closed[0] };
	d_step { b[1] = base[1]; n[1] = count[1]; t[1] = taken[1]; c[1] = closed[1] };
	skip;
	d_step {
		i = 0;
		if
		:: b[1] + n[1] > b[0] + n[0] -> k = 0; end = b[1] + n[1]
		:: else -> k = 1; end = b[0] + n[0]
		fi; /* k: the next word; equal ends cannot be, see init */
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
	};
end_idle:
	if
	:: oldest != 2 && !(c[0] || c[1]) -> goto take
	:: oldest == 2 && tries < TRIES && !(c[0] || c[1]) -> tries++; goto close
	:: n[k] <= t[k] && !(c[0] || c[1]) && published > end - 1 -> goto claim
	:: shut_for_good -> goto out
#if PAUSES > 0
	:: control % 2 == 1 && ack[me] != control -> goto paused
#endif
	/* again when it may be otherwise */
	:: (published > end - 1 || base[0] != b[0] || base[1] != b[1] || taken[0] != t[0] ||
	    taken[1] != t[1] || closed[0] != c[0] || closed[1] != c[1]) -> goto again
	fi;
#if PAUSES > 0
paused:
	skip;
	got = control; /* a look */
	if
	:: got % 2 == 0 -> goto again
	:: else
	fi;
	ack[me] = got;
#ifdef BREAK_GO_ON
	goto again;
#endif
end_stand:
	control != got;
	goto again;
#endif
claim:
	own = 0;
#ifdef FEEDERS
	if
	:: stuck -> goto claim_seen
	:: else
	fi;
	/* gq_read_meal(). Positions in the words are one more than the message's number. */
	if
	:: begin = end
	:: begin = end + MOST
	fi;
	d_step {
		m = (published > begin - 1 -> published - (begin - 1) : 0);
		m = (m > MOST -> MOST : m);
		i = 0
	};
	/* gq_look_at_runs(), again */
	d_step { b[0] = base[0]; n[0] = count[0]; t[0] = taken[0]; c[0] = closed[0] };
	d_step { b[1] = base[1]; n[1] = count[1]; t[1] = taken[1]; c[1] = closed[1] };
	d_step {
		if
		:: b[1] + n[1] > b[0] + n[0] -> k = 0; end = b[1] + n[1]
		:: else -> k = 1; end = b[0] + n[0]
		fi;
#ifdef BREAK_GAP
		end = begin;
#endif
		ok = (m != 0 && end >= begin && end < begin + m && n[k] <= t[k] && !c[0] && !c[1]);
		if
		:: ok -> m = m - (end - begin)
		:: else
		fi;
		begin = 0
	};
	if
	:: !ok -> goto again
	:: else
	fi;
	goto hold;
claim_seen:
#endif
	/* What the look has shown. */
	m = published - (end - 1);
	m = (m > MOST -> MOST : m);
	own = ((OWN || stuck) && oldest == 2 -> 1 : 0);
#ifdef FEEDERS
hold:
	skip;
#endif
	/* gq_hold_run() */
#ifndef BREAK_NO_HOLD
	d_step {
		ok = (m == own || held[k] == 0);
		if
		:: ok && m != own -> held[k] = m - own
#ifndef BREAK_NO_OWN
		:: !ok && own != 0 ->
#ifndef BREAK_OWN_HELD
			m = own;
#else
			held[k] = held[k] + m - own;
#endif
			ok = true
#endif
		:: else
		fi;
		i = 0
	};
#if defined(FEEDERS) && !defined(BREAK_NO_OWN)
	if
	:: !ok && !stuck -> stuck = true; goto again
	:: else
	fi;
#endif
	stuck = false;
	if
	:: !ok -> /* if something was left it looks again */
		(oldest != 2 || held[k] == 0 || base[k] != b[k] || taken[k] != t[k] || closed[k]);
		goto again
	:: else
	fi;
#ifdef HANG_HOLD
	if
	:: atomic { m != own && !hung -> hung = true }; goto out
	:: true
	fi;
#endif
#endif
#ifndef BREAK_COPY_LATE
#ifdef BREAK_OWN_COPY
	i = 0;
#else
	i = own;
#endif
	do
	:: i < m -> near[k * MOST + i] = end + i; i++
	:: else -> break
	od;
	skip;
#endif
	d_step { /* gq_claim_run() */
		ok = (base[k] == b[k] && count[k] == n[k] && taken[k] == t[k] && !closed[k]);
		if
		:: ok ->
			assert(!shut_for_good);
			base[k] = end;
			count[k] = m;
#ifdef BREAK_OWN_LEFT
			taken[k] = 0;
#else
			taken[k] = own;
#endif
			if
			:: own != 0 -> INSIDE(1)
			:: else
			fi
		:: else
		fi;
		i = 0
	};
#ifdef BREAK_COPY_LATE
	i = own;
	do
	:: ok && i < m -> near[k * MOST + i] = end + i; i++
	:: else -> break
	od;
	skip;
#endif
#ifndef BREAK_NO_HOLD
	if
	:: !ok -> held[k] = held[k] - (m - own)
	:: else
	fi;
#endif
	if
	:: ok && own != 0 ->
		d_step { /* the entry that the look has brought */
			pos = end - 1;
			assert(!ran[pos] && pos < published);
			ran[pos] = true;
			got = 1
		};
		goto inside_it
	:: else -> goto again
	fi;
take:
	skip;
	d_step {
		k = oldest;
#ifdef BREAK_ADD_ONLY
		pos = b[k] + t[k];
		i = t[k];
		got = 1;
#else
		got = (taken[k] < count[k] -> LEFT(k) : 0);
#ifdef BREAK_BATCH
		got = (got > 0 -> BATCH : 0);
#else
		got = (got > BATCH -> BATCH : got);
#endif
		pos = base[k] + taken[k];
		i = taken[k];
#endif
		taken[k] = taken[k] + BATCH;
		if
		:: got != 0 -> INSIDE(got)
		:: else
		fi
	};
	if
	:: !got -> goto again
	:: else
	fi;
#ifdef BREAK_FREE_EARLY
	held[k] = held[k] - got;
#endif
#ifdef HANG_READ
	if
	:: atomic { !hung -> hung = true }; goto out
	:: true
	fi;
#endif
	j = 0;
	do
	:: j < got ->
		d_step { /* reads the copy */
			assert(i + j < MOST && near[k * MOST + i + j] == pos + j);
			assert(!ran[pos + j - 1] && pos + j - 1 < published);
			ran[pos + j - 1] = true;
			j++
		}
	:: else -> break
	od;
#if !defined(BREAK_FREE_EARLY) && !defined(BREAK_NO_HOLD)
	held[k] = held[k] - got; /* gq_let_go() */
#endif
inside_it:
	skip;
#ifdef HANG
	d_step {
		hangs = !hung;
		hung = true
	};
	if
	:: hangs -> goto out
	:: else
	fi;
#endif
#ifdef BREAK_ACK_INSIDE
	ack[me] = control;
	skip;
#endif
	d_step { done = done + got; OUTSIDE(got) };
	goto again;
close:
	skip;
	/* gq_close_class(): the word has nothing of a later run, or the swap fails */
	d_step { b[k] = base[k]; n[k] = count[k]; t[k] = taken[k]; c[k] = closed[k] };
	ok = (!c[k] && n[k] <= t[k] && b[k] + n[k] <= end);
	if
	:: !ok -> goto again
	:: else
	fi;
	d_step {
		ok = (base[k] == b[k] && count[k] == n[k] && taken[k] == t[k] && !closed[k]);
		if
		:: ok -> closed[k] = true
		:: else
		fi;
		i = 0
	};
	if
	:: !ok -> goto again
	:: else
	fi;
#ifdef BREAK_NO_COUNT
	ok = true;
#else
	ok = (done == end - 1);
#endif
#ifdef BREAK_LOOK_FIRST
	ok = ok && published == end - 1;
#endif
	if
	:: ok ->
		looking = true; /* [sleep.look] */
#if !defined(BREAK_NO_LOOK) && !defined(BREAK_LOOK_FIRST)
		ok = (published == end - 1)
#endif
	:: else
	fi;
	if
	:: ok ->
		d_step {
			shut_for_good = true;
			looking = false;
			assert(done == end - 1 && !HAS_LEFT(0) && !HAS_LEFT(1))
		};
		goto out
	:: else -> looking = false; closed[k] = false
	fi;
again:
	skip;
	d_step { ok = false; m = 0; i = 0; j = 0; pos = 0; got = 0; own = 0 };
	goto turn;
out:
	skip
}

init
{
	byte i;

	atomic {
		/* Used up, and in an order: gq_run_first(). Positions begin at 1. */
		base[0] = 0;
		base[1] = 1;
		for (i : 1 .. UNITS) {
			run unit(i - 1)
		}
#if PAUSES > 0
		run pauser();
#endif
		run producer()
	}
	timeout ->
#ifdef HANG_HOLD
	assert(done == MESSAGES);
#else
	assert(shut_for_good || done + hung >= MESSAGES);
#endif
	assert(shut_for_good == false || (!HAS_LEFT(0) && !HAS_LEFT(1)));
	assert(!shut_for_good || woken || done == published);
#if !defined(BREAK_NO_HOLD) && !defined(HANG_HOLD) && !defined(HANG_READ)
	assert(held[0] == 0 && held[1] == 0)
#endif
}
