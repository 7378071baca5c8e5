/* SPDX-License-Identifier: Apache-2.0 */
/* wait.h - how host threads wait: spin, yield, sleep on a futex; and how they are woken. */
#ifndef GPUQ_WAIT_WAIT_H
#define GPUQ_WAIT_WAIT_H

#include "device/protocol/protocol.h"
#include "host/base/clock.h"

/* About one wake-up across cores: spinning longer than that is dearer than sleeping. */
#define GQ_SPIN_NS 50000u

/*
 * How a waiting thread keeps going what cannot wake it, such as a GPU: it sleeps in naps, and calls
 * tend() after each.
 */
struct gq_tender {
	/* Not NULL: the other side wakes, but only once it knows that somebody sleeps. The first is
	 * called between registering and the second look, the other when the thread is no longer
	 * registered. The rest is NULL then. */
	void (*sleeping)(void *tended);
	void (*awake)(void *tended);
	void (*tend)(void *tended);
	/* Whether nothing is under way. Then only a call of another thread can end a wait on the
	 * event, and that call wakes the sleeper, so naps may be long. */
	bool (*is_idle)(void *tended, const struct gq_event *event);
};

/*
 * A wait, as a loop around an attempt:
 *
 *     struct gq_wait wait;
 *     gq__wait_begin(&wait, event, deadline, GQ_SPIN_NS);
 *     while (!attempt(..., wait.registered) && gq__wait_next(&wait))
 *             ;
 *     gq__wait_end(&wait);
 *
 * gq__wait_next() spins, then yields where that is cheap, then registers with the event and lets
 * the caller attempt once more (the second look of edge [sleep.look]), then sleeps. It returns
 * false when the deadline has passed and an attempt has been made since. While `registered`, the
 * attempt must look with sequentially consistent loads and must not skip anything because another
 * thread is at it.
 */
struct gq_wait {
	struct gq_event *event;  /* what to sleep on: this ... */
	uint32_t *flag;          /* ... or a slot's `armed` word */
	const uint64_t *watched; /* ... or a counter that this thread cannot write */
	uint64_t deadline_ns;
	uint64_t spin_until_ns; /* 0: not read yet */
	uint64_t spin_ns;
	uint64_t nap_ns; /* how long to sleep at a time */
	uint32_t turns;
	uint32_t key;
	bool registered;
	bool expired;
	const struct gq_tender *tender; /* NULL: what is waited for wakes */
	void *tended;
	uint64_t tended_since_ns;
	bool shared; /* the flag is in memory shared between processes */
};

void gq__wait_begin(struct gq_wait *w, struct gq_event *event, uint64_t deadline_ns,
		    uint64_t spin_ns);
void gq__wait_begin_flag(struct gq_wait *w, uint32_t *flag, uint64_t deadline_ns);
/* On a flag in shared memory; sleeps at most nap_ns at a time. */
void gq__wait_begin_shared(struct gq_wait *w, uint32_t *flag, uint64_t deadline_ns,
			   uint64_t nap_ns);
/*
 * On a counter in memory that the sleeper cannot write; also in another process's. As a sleeper
 * cannot say that it sleeps, whoever publishes calls gq__watch_wake() each time. Sleeps at most
 * nap_ns at a time. Nothing is lost: the key is the counter's lower half, read before the second
 * look, and a publisher counts after it has published and before it wakes. (A thread that stands
 * still for exactly 2^32 publications may sleep through them, until its nap ends.)
 */
void gq__wait_begin_watch(struct gq_wait *w, const uint64_t *counter, uint64_t deadline_ns,
			  uint64_t nap_ns);
bool gq__wait_next(struct gq_wait *w);
void gq__wait_end(struct gq_wait *w);

/* Wake up to `max` sleepers of an event that gq_event_armed() found armed. @return how many. */
uint32_t gq__event_wake(struct gq_event *e, uint32_t max);

/* gq_event_armed() and gq__event_wake() of all. */
static inline void gq_event_broadcast(struct gq_event *e)
{
	if (gq_event_armed(e))
		gq__event_wake(e, UINT32_MAX);
}

/*
 * A flag: a word of 32 bits that any number of threads sleep on, in shared memory also those of
 * other processes; all are woken together. It is a slot's `armed` word, and a ring's. Zero to begin
 * with; any value will do.
 *
 *     bit 0      ARMED: somebody may sleep. A publisher looks at this bit alone [wake.look].
 *     bit 1      WAKING: a waker has begun since it was armed
 *     bits 2-31  how often it was armed anew
 *
 * A sleeper that finds ARMED alone sleeps with that value as its key, beside others that do;
 * otherwise it swaps in ARMED alone with the next count ([sleep.look]). Then it looks again, and
 * sleeps only while the word is the key. A waker sets WAKING, wakes all, and then, if the word is
 * still what it was, clears both bits. So:
 *
 *  - no sleeper sleeps through a wake-up: one that armed before WAKING was set is in the kernel's
 *    queue and is woken, or comes too late and finds another word than its key;
 *  - no arming gets lost: one after WAKING was set has changed the count, so the bits stay;
 *  - a waker that stalls hides no sleeper: until it has woken them, the word is odd, and the next
 *    publisher wakes them and clears the word. A sleeper or a waker that dies leaves it odd, which
 *    costs the next publisher a futile call;
 *  - while no thread arms it, the first of several wakers to come to its end clears it, so they
 *    cannot keep each other at it;
 *  - a key comes again after 2^30 armings, with a wake-up between each two. A thread that stands
 *    still all that time (an hour of nothing but sleeps) between arming and sleeping, or between
 *    waking and clearing, and goes on at that very arming, may miss a wake-up. A ring's sleeper
 *    then looks after its nap.
 */
#define GQ_FLAG_ARMED  1u
#define GQ_FLAG_WAKING 2u
#define GQ_FLAG_BITS   (GQ_FLAG_ARMED | GQ_FLAG_WAKING)

/* Wake all threads that sleep on a flag. */
void gq__flag_wake(uint32_t *flag);
/* The same where the sleepers may be other processes. */
void gq__flag_wake_shared(uint32_t *flag);

/* Count, and wake all threads that sleep on a counter. @return how many. */
uint32_t gq__watch_wake(uint64_t *counter);
/* Wake them without having counted, as one that cannot write it: a thread that is about to sleep
 * does so. */
uint32_t gq__watch_rouse(const uint64_t *counter);

/*
 * Let time pass in a loop that waits for some instructions of another thread, or for a GPU, and
 * must not sleep until woken. It spins at first, then yields for a while where that is cheap, then
 * naps; so the loop ends also where the other thread runs only while this one does not.
 * @param step  how often the loop has called it before
 */
void gq__await_step(uint32_t step);

/*
 * Whether such a loop may give up: its time is over, and it has looked often enough. On a machine
 * so busy that this thread hardly runs, the other side may hardly run either (it is a thread, if
 * the GPU is a stand-in); there time alone says nothing. On an idle CPU so many looks take less
 * than half a second.
 * @param step  how often the loop has called gq__await_step()
 */
static inline bool gq_has_waited(uint64_t now_ns, uint64_t deadline_ns, uint32_t step)
{
	enum { ENOUGH_LOOKS = 4096 };

	return now_ns >= deadline_ns && step >= ENOUGH_LOOKS;
}

#endif /* GPUQ_WAIT_WAIT_H */
