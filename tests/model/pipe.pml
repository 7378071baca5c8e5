/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pipe.pml - a pipe that overwrites (Q_PIPE_DROP_HISTORY), and its readers: src/host/pipe/write.c,
 * look.c, read.c. Byte o of the stream has the value o + 1 and lies at o % CAP.
 *
 * A writer writes TOTAL bytes, one at a time: `begin` past what it overwrites, the byte, a swap of
 * `end`, the count of `changes`, a wake-up. A closer sets the closed bit, which is part of `end`, at any
 * time, and counts and wakes likewise. READERS readers load the key (the count), look, copy all there is,
 * look at `begin` again, and sleep while the count is the key. The futex is the kernel's: compare and
 * enqueue in one step, wakes all.
 *
 * Holds: a reader gets each byte's own value, in order, and skips none unless `begin` says so; what it
 * copies is at most CAP long; it is told of the end at the end, and not before; and all come there.
 *
 *   BREAK_NO_SECOND_LOOK  a copy is taken without a look at `begin` behind it
 *   BREAK_LATE_BEGIN      the byte is overwritten, then `begin` is moved
 *   BREAK_COUNT_FIRST     count and wake, then publish
 *   BREAK_LATE_KEY        look, then load the key
 *   BREAK_STORE_END       the writer stores `end`, also if it has been closed since it looked
 *   BREAK_CLOSED_APART    a reader loads the offset, then the closed bit
 */
#ifndef CAP
#define CAP 2
#endif
#ifndef TOTAL
#define TOTAL 4
#endif
#ifndef READERS
#define READERS 1
#endif

byte data[CAP];
byte begin, end, changes;
bool closed;
bool asleep[READERS], done[READERS];
byte ended_at[READERS];

inline count_and_wake()
{
	changes++;
	d_step {
		asleep[0] = false;
#if READERS > 1
		asleep[1] = false;
#endif
	}
}

proctype writer()
{
	byte at;

	do
	:: d_step { at < TOTAL && !closed -> at = end };
#ifdef BREAK_LATE_BEGIN
		data[at % CAP] = at + 1;
#endif
		if
		:: at + 1 - begin > CAP -> begin = at + 1 - CAP
		:: else
		fi;
#ifndef BREAK_LATE_BEGIN
		data[at % CAP] = at + 1;
#endif
#ifdef BREAK_COUNT_FIRST
		count_and_wake();
#endif
		d_step {
			if
#ifdef BREAK_STORE_END
			:: true -> end = at + 1
#else
			:: !closed -> end = at + 1
			:: else
#endif
			fi;
			at = end
		};
#ifndef BREAK_COUNT_FIRST
		count_and_wake();
#endif
	:: else -> break
	od
}

proctype closer()
{
#ifdef BREAK_COUNT_FIRST
	count_and_wake();
	closed = true
#else
	closed = true;
	count_and_wake()
#endif
}

proctype reader(byte me)
{
	byte position, key, last, first, n, i;
	bool shut;
	byte got[CAP];

again:
	skip;
#ifndef BREAK_LATE_KEY
	key = changes;
#endif
#ifdef BREAK_CLOSED_APART
	last = end;
	shut = closed;
#else
	d_step { last = end; shut = closed };
#endif
	first = begin;
	if
	:: position < first -> position = first; goto again
	:: else
	fi;
	assert(last >= position && last - position <= CAP);
	n = last - position;
	if
	:: n == 0 && shut -> goto finish
	:: n == 0 && !shut -> goto sleep
	:: else
	fi;
	i = 0;
	do
	:: i < n -> got[i] = data[(position + i) % CAP]; i++
	:: else -> break
	od;
#ifndef BREAK_NO_SECOND_LOOK
	first = begin;
	if
	:: position < first -> position = first; goto again
	:: else
	fi;
#endif
	skip;
	d_step {
		i = 0;
		do
		:: i < n -> assert(got[i] == position + i + 1); i++
		:: else -> break
		od;
		position = position + n;
		i = 0
	};
	goto again;
sleep:
#ifdef BREAK_LATE_KEY
	key = changes;
#endif
	skip;
	d_step { asleep[me] = (changes == key) };
endwait:
	!asleep[me];
	goto again;
finish:
	skip;
	d_step { ended_at[me] = position; done[me] = true }
}

init
{
	byte i;

	atomic {
		run writer();
		run closer();
		for (i : 0 .. READERS - 1) {
			run reader(i)
		}
	}
	timeout ->
	for (i : 0 .. READERS - 1) {
		assert(done[i] && ended_at[i] == end)
	}
}
