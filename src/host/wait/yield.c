/* SPDX-License-Identifier: Apache-2.0 */
/* yield.c - sched_yield() where it is cheap: yields are timed, by CPU. */
#include "host/wait/yield.h"

#include "device/protocol/atomics.h"
#include "device/protocol/layout.h"
#include "host/base/clock.h"

#include <sched.h>

/*
 * sched_yield() costs a microsecond where no other thread wants this CPU, and a little more where
 * another waiting thread does. Where a busy thread wants it, the yield costs that thread's time
 * slice: milliseconds for what a futex does in ten microseconds. The kernel does not say which it
 * will be, so yields are timed. After a slow one no thread yields on that CPU (the CPU is busy, not
 * the process) until so many yields have been refused, and so many times what the slow one took has
 * passed; then the next thread tries again. Each slow yield in a row makes both longer by a factor
 * of four, and a run of fast ones makes both shorter by it. So on a CPU that stays busy at most one
 * wait in a thousand is slow, and waits lose at most a thousandth of their time to yields (more if
 * a yield takes longer than 2 ms).
 *
 * All accesses are relaxed: this is advice, and a lost update costs one more slow yield, or one
 * more refusal. Nothing is written while yields are fast.
 */
struct yields {
	GQ_ALIGNED(GQ_LINE) uint64_t level; /* 0: never slow, or long ago */
	uint64_t retry_ns;                  /* not before */
	uint64_t refusals;                  /* to come */
	uint64_t fast;                      /* in a row */
};

enum {
	/* Between waiting threads a yield took at most 52 us in 99 of 100 cases on a loaded
	 * machine; beside busy ones it came back at once or after milliseconds: see docs/results.
	 */
	SLOW_YIELD_NS = 100000,
	MAX_LEVEL = 4,
	FAST_IN_A_ROW = 64, /* beside a busy thread there were at most 6 */
	KNOWN_CPUS = 64,    /* larger numbers share */
};
#define LONGEST_RETRY_NS UINT64_C(2000000000)

static struct yields yields_on[KNOWN_CPUS];

static void note_slow(struct yields *y, uint64_t now, uint64_t took)
{
	uint64_t level = gq_load_relaxed_u64(&y->level), factor, pause;

	level = level < MAX_LEVEL ? level + 1 : MAX_LEVEL;
	factor = UINT64_C(4) << 2 * level; /* 16 to 1024 */
	pause = took < LONGEST_RETRY_NS / factor ? took * factor : LONGEST_RETRY_NS;
	gq_store_relaxed_u64(&y->retry_ns, now + pause);
	gq_store_relaxed_u64(&y->refusals, factor);
	gq_store_relaxed_u64(&y->fast, 0);
	gq_store_relaxed_u64(&y->level, level);
}

static void note_fast(struct yields *y)
{
	const uint64_t level = gq_load_relaxed_u64(&y->level);
	const uint64_t fast = gq_load_relaxed_u64(&y->fast) + 1;

	if (level == 0)
		return;
	gq_store_relaxed_u64(&y->fast, fast % FAST_IN_A_ROW);
	if (fast >= FAST_IN_A_ROW)
		gq_store_relaxed_u64(&y->level, level - 1);
}

static bool may_yield(struct yields *y, uint64_t now)
{
	uint64_t refusals;

	if (gq_load_relaxed_u64(&y->level) == 0)
		return true;
	refusals = gq_load_relaxed_u64(&y->refusals);
	if (refusals != 0)
		gq_store_relaxed_u64(&y->refusals, refusals - 1);
	return refusals == 0 && now >= gq_load_relaxed_u64(&y->retry_ns);
}

static struct yields *yields_here(void)
{
	return &yields_on[(unsigned)sched_getcpu() % KNOWN_CPUS];
}

bool gq__yields_are_slow(void)
{
	return gq_load_relaxed_u64(&yields_here()->level) != 0;
}

bool gq__yield_if_cheap(uint64_t now)
{
	struct yields *y = yields_here();
	uint64_t after;

	if (!may_yield(y, now))
		return false;
	sched_yield();
	after = gq__now_ns();
	if (after - now > SLOW_YIELD_NS)
		note_slow(y, after, after - now);
	else
		note_fast(y);
	return true;
}
