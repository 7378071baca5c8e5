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
 * the copy of what it got. Each unit may try to close the class, TRIES times. HANG: one unit stays
 * inside the first message that it gets.
 *
 * Holds: each message is taken once, as the entry says that was published; nothing is claimed while
 * the class is closed for good; it closes for good only with all that was claimed completed; and
 * when nothing can move any more every message has been taken, unless the class has closed (then
 * nothing that was claimed is left).
 *
 *   BREAK_NO_HOLD     copies are overwritten though a unit has still to read its own
 *   BREAK_FREE_EARLY  a unit says that it has read before it has
 *   BREAK_ADD_ONLY    what the addition returns is not looked at: the look says what was got
 *   BREAK_COPY_LATE   the word is swapped before the entries are copied
 *   BREAK_GAP         a unit claims what it has read, wherever the cursor is now
 *   BREAK_NO_COUNT    the class closes for good with a unit inside a message
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

#define LEFT(k) (count[k] > taken[k])

byte published;       /* positions */
bool ran[MESSAGES];
byte done;
/* Run words: count, base, taken, closed are one. */
byte base[2], count[2], taken[2];
bool closed[2], shut_for_good;
byte held[2], near[2 * MOST];
bool hung;

proctype producer()
{
	do
	:: published == MESSAGES -> break
	:: else ->
end_room:
		(published - done < CAP);
		published++
	od
}

proctype unit()
{
	byte b[2], n[2], t[2], k, m, i, pos, end, begin, got, tries, oldest;
	bool c[2], ok, hangs;

turn:
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
	/* again when it may be otherwise */
	:: (published > end - 1 || base[0] != b[0] || base[1] != b[1] || taken[0] != t[0] ||
	    taken[1] != t[1] || closed[0] != c[0] || closed[1] != c[1]) -> goto again
	fi;
claim:
	skip;
#ifdef FEEDERS
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
#else
	/* What the look has shown. */
	m = published - (end - 1);
	m = (m > MOST -> MOST : m);
#endif
	/* gq_hold_run() */
#ifndef BREAK_NO_HOLD
	d_step {
		ok = (held[k] == 0);
		if
		:: ok -> held[k] = m
		:: else
		fi;
		i = 0
	};
	if
	:: !ok -> (held[k] == 0 || base[k] != b[k] || taken[k] != t[k] || closed[k]); goto again
	:: else
	fi;
#endif
#ifndef BREAK_COPY_LATE
	i = 0;
	do
	:: i < m -> near[k * MOST + i] = end + i; i++
	:: else -> break
	od;
	skip;
#endif
	d_step { /* gq_claim_run() */
		ok = (base[k] == b[k] && count[k] == n[k] && taken[k] == t[k] && !closed[k]);
		if
		:: ok -> assert(!shut_for_good); base[k] = end; count[k] = m; taken[k] = 0
		:: else
		fi;
		i = 0
	};
#ifdef BREAK_COPY_LATE
	i = 0;
	do
	:: ok && i < m -> near[k * MOST + i] = end + i; i++
	:: else -> break
	od;
	skip;
#endif
#ifndef BREAK_NO_HOLD
	if
	:: !ok -> held[k] = held[k] - m
	:: else
	fi;
#endif
	goto again;
take:
	skip;
	d_step {
		k = oldest;
#ifdef BREAK_ADD_ONLY
		pos = b[k] + t[k];
		i = t[k];
		got = 1;
#else
		got = LEFT(k);
		pos = base[k] + taken[k];
		i = taken[k];
#endif
		taken[k]++
	};
	if
	:: !got -> goto again
	:: else
	fi;
#ifdef BREAK_FREE_EARLY
	held[k]--;
#endif
	d_step { /* reads the copy */
		assert(near[k * MOST + i] == pos);
		pos--;
		assert(!ran[pos] && pos < published);
		ran[pos] = true
	};
#if !defined(BREAK_FREE_EARLY) && !defined(BREAK_NO_HOLD)
	held[k]--; /* gq_let_go() */
#endif
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
	done++;
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
	ok = (published == end - 1);
#else
	ok = (done == end - 1 && published == end - 1);
#endif
	if
	:: ok ->
		d_step {
			shut_for_good = true;
			assert(done == end - 1 && !LEFT(0) && !LEFT(1))
		};
		goto out
	:: else -> closed[k] = false
	fi;
again:
	skip;
	d_step { ok = false; m = 0; i = 0; pos = 0; got = 0 };
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
			run unit()
		}
		run producer()
	}
	timeout ->
	assert(shut_for_good || done + hung >= MESSAGES);
	assert(shut_for_good == false || (!LEFT(0) && !LEFT(1)));
#ifndef BREAK_NO_HOLD
	assert(held[0] == 0 && held[1] == 0)
#endif
}
