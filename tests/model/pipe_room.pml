/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pipe_room.pml - a pipe's writer that waits for room (Q_PIPE_WAIT), and the one reader that wakes it:
 * src/host/pipe/pace.c, write.c.
 *
 * A writer writes TOTAL bytes into room for CAP. Without room it stores `wanted`, registers, looks at all
 * positions once more, and sleeps while no wake-up has been counted. Here it wants one byte of room, as it
 * does when it sleeps for good; while it dozes it wants more, but a doze ends by itself. Two readers take one
 * byte at a time: position, then is the writer registered, then `wanted`; a reader that has passed it looks at
 * all positions, and wakes the writer if all are there. A reader that does not stay to the end leaves at
 * any time, and then wakes the writer. The futex is the kernel's: compare and enqueue in one step.
 *
 * Holds: the writer never writes over what a reader has not read, and does not sleep on while there is room,
 * or when nobody reads any more.
 *
 *   BREAK_NO_SECOND_LOOK  the writer registers and sleeps
 *   BREAK_STALE_WANTED    the look fills the room that it finds, and the writer sleeps with the old `wanted`
 *   BREAK_LATE_WANTED     it stores `wanted` after its look
 *   BREAK_LOOK_FIRST      a reader looks at the others, then stores its position
 *   BREAK_SILENT_LEAVE    a reader leaves without a wake-up
 */
#ifndef CAP
#define CAP 1
#endif
#ifndef TOTAL
#define TOTAL 3
#endif

byte position[2], end, wanted, wakes;
bool open[2], registered, asleep, written;

inline least(into)
{
	into = end;
	if
	:: open[0] && position[0] < into -> into = position[0]
	:: else
	fi;
	if
	:: open[1] && position[1] < into -> into = position[1]
	:: else
	fi
}

inline wake()
{
	if
	:: registered -> d_step { wakes++; asleep = false; registered = false }
	:: else
	fi
}

proctype writer()
{
	byte slowest, key;

	do
	:: end == TOTAL || (!open[0] && !open[1]) -> break
	:: else ->
		least(slowest);
		if
		:: end - slowest < CAP ->
			assert(!open[0] || end - position[0] < CAP);
			assert(!open[1] || end - position[1] < CAP);
			end++
		:: else ->
#ifndef BREAK_LATE_WANTED
			wanted = end + 1 - CAP;
#endif
			d_step { registered = true; key = wakes };
#ifndef BREAK_NO_SECOND_LOOK
look:
			least(slowest);
			if
			:: !open[0] && !open[1] ->
				registered = false;
				goto again
			:: (open[0] || open[1]) && end < TOTAL && end - slowest < CAP ->
				end++;
#ifdef BREAK_STALE_WANTED
				goto look
#else
				registered = false;
				goto again
#endif
			:: else
			fi;
			if
			:: end == TOTAL -> registered = false; goto again
			:: else
			fi;
#endif
#ifdef BREAK_LATE_WANTED
			wanted = end + 1 - CAP;
#endif
			d_step { asleep = (wakes == key) };
			!asleep;
			registered = false;
again:
			skip
		fi
	od;
	written = true
}

proctype reader(byte me)
{
	byte from, at, want, other;
	bool stays;

	if
	:: true -> stays = true
	:: true -> stays = false
	fi;
	do
	:: position[me] < end ->
		from = position[me];
#ifdef BREAK_LOOK_FIRST
		other = position[1 - me];
#endif
		position[me] = from + 1;
		at = from + 1;
		if
		:: registered ->
			want = wanted;
			if
			:: at >= want && from < want ->
#ifndef BREAK_LOOK_FIRST
				other = position[1 - me];
#endif
				if
				:: !open[1 - me] || other >= want -> wake()
				:: else
				fi
			:: else
			fi
		:: else
		fi
	:: written && position[me] == end -> break
	:: !stays -> break
	od;
	open[me] = false;
#ifndef BREAK_SILENT_LEAVE
	wake()
#else
	skip
#endif
}

init
{
	atomic {
		open[0] = true;
		open[1] = true;
		run writer();
		run reader(0);
		run reader(1)
	}
	timeout ->
	assert(written)
}
