/* SPDX-License-Identifier: Apache-2.0 */
/* event.h - an event count: how threads of one process sleep until something has happened. */
#ifndef GPUQ_PROTOCOL_EVENT_H
#define GPUQ_PROTOCOL_EVENT_H

#include "device/protocol/atomics.h"

/*
 * An event count: threads sleep until something has been published, and publishers wake them.
 *
 * One word: the lower half counts wake-ups and is the futex, the upper half counts the registered
 * sleepers. A sleeper registers, looks again, and sleeps only if the lower half is still what it
 * was at registration. A publisher looks at the upper half ([wake.look]) after it has published.
 * If that is not zero, it bumps the lower half, wakes, and takes those it woke off the upper half.
 * A sleeper that goes on without having been woken takes itself off. So:
 *
 *  - nothing is lost: publish and look, register and look again are sequentially consistent, so
 *    at least one side sees the other; a wake-up that comes between registration and sleep has
 *    changed the futex word; and a sleeper is counted for as long as it sleeps;
 *  - no waker can keep a sleeper from others: one that stands still between its steps leaves the
 *    sleeper counted, and the next publisher wakes it;
 *  - wake-ups are bounded by sleeps, not by messages: it is the waker that takes a sleeper off, not
 *    the sleeper once it has been scheduled, so until it registers again nobody makes a system
 *    call for it. (Between registration and sleep, each publisher may make one in vain.)
 */
struct gq_event {
	uint64_t word;
};

#define GQ_EVENT_SLEEPER (UINT64_C(1) << 32)
/* Set for good on a queue whose stop timed out: then every publisher takes the slow path. */
#define GQ_EVENT_STICKY (UINT64_C(1) << 63)

GQ_FN uint32_t gq_event_sleepers(uint64_t word)
{
	return (uint32_t)((word & ~GQ_EVENT_STICKY) >> 32);
}

/* @return the key to sleep with. Look again, with _seq_cst loads, before sleeping. */
GQ_FN uint32_t gq_event_register(struct gq_event *e)
{
	return (uint32_t)gq_fetch_add_seq_cst_u64(&e->word, GQ_EVENT_SLEEPER); /* [sleep.look] */
}

/* Take off a sleeper that has not been woken, or those that a waker has woken. */
GQ_FN void gq_event_unregister(struct gq_event *e, uint32_t n)
{
	gq_fetch_add_seq_cst_u64(&e->word, 0 - n * GQ_EVENT_SLEEPER);
}

/* Whether a publisher has to call gq__event_wake(). */
GQ_FN bool gq_event_armed(const struct gq_event *e)
{
	return gq_load_seq_cst_u64(&e->word) >> 32 != 0; /* [wake.look] */
}

/* Change the futex word, if there are sleepers. @return whether there are; then wake them. */
GQ_FN bool gq_event_bump(struct gq_event *e)
{
	for (;;) {
		uint64_t word = gq_load_seq_cst_u64(&e->word); /* [wake.look] */
		uint32_t bumped = (uint32_t)word + 1;          /* carries into nothing */

		if (gq_event_sleepers(word) == 0)
			return false;
		if (gq_cas_seq_cst_u64(&e->word, word, (word >> 32) << 32 | bumped))
			return true;
	}
}

#endif /* GPUQ_PROTOCOL_EVENT_H */
