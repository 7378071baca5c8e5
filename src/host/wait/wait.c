/* SPDX-License-Identifier: Apache-2.0 */
/* wait.c - how host threads wait: spin, yield (yield.c), sleep on a futex; how they are woken. */
#include "host/wait/wait.h"

#include "host/wait/yield.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum slept { WOKEN, NOT_SLEPT, TIMED_OUT };

/* Sleep while *word is `value`. WOKEN: a futex_wake() has woken and counted us. */
static enum slept futex_wait(const uint32_t *word, uint32_t value, uint64_t deadline_ns,
			     bool shared)
{
	struct timespec until = { .tv_sec = (time_t)(deadline_ns / 1000000000u),
				  .tv_nsec = (long)(deadline_ns % 1000000000u) };
	/* The bitset form takes an absolute time, on CLOCK_MONOTONIC. */
	long rc = syscall(SYS_futex, word, shared ? FUTEX_WAIT_BITSET : FUTEX_WAIT_BITSET_PRIVATE,
			  value, deadline_ns == GQ_FOR_EVER ? NULL : &until, NULL,
			  FUTEX_BITSET_MATCH_ANY);

	if (rc == 0)
		return WOKEN;
	return errno == ETIMEDOUT ? TIMED_OUT : NOT_SLEPT;
}

/* @return how many were woken. */
static uint32_t futex_wake(const uint32_t *word, uint32_t n, bool shared)
{
	long rc = syscall(SYS_futex, word, shared ? FUTEX_WAKE : FUTEX_WAKE_PRIVATE,
			  n > INT_MAX ? INT_MAX : (int)n, NULL, NULL, 0);

	return rc > 0 ? (uint32_t)rc : 0;
}

static const uint32_t *lower_half(const uint64_t *word)
{
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
	return (const uint32_t *)(const void *)word;
#else
	return (const uint32_t *)(const void *)word + 1;
#endif
}

/* The half of an event's word that counts wake-ups. */
static const uint32_t *event_futex(const struct gq_event *e)
{
	return lower_half(&e->word);
}

uint32_t gq__event_wake(struct gq_event *e, uint32_t max)
{
	uint32_t n;

	if (!gq_event_bump(e))
		return 0;
	GQ_WINDOW();
	n = futex_wake(event_futex(e), max, false);
	GQ_WINDOW();
	if (n != 0)
		gq_event_unregister(e, n);
	return n;
}

/* @return whether the flag is armed; then *key is what to sleep with. False: another thread has
 * just changed it, so look once more and try again. */
static bool flag_arm(uint32_t *flag, uint32_t *key)
{
	uint32_t value = gq_load_seq_cst_u32(flag); /* [sleep.look] */

	*key = value;
	if ((value & GQ_FLAG_BITS) == GQ_FLAG_ARMED)
		return true; /* armed, and no waker has begun since: sleep beside those that sleep
			      */
	*key = ((value | GQ_FLAG_BITS) + 1) | GQ_FLAG_ARMED;
	return gq_cas_seq_cst_u32(flag, value, *key); /* [sleep.look] */
}

static void flag_wake(uint32_t *flag, bool shared)
{
	uint32_t value;

	if ((gq_load_seq_cst_u32(flag) & GQ_FLAG_ARMED) == 0) /* [wake.look] */
		return;
	value = gq_fetch_or_seq_cst_u32(flag, GQ_FLAG_WAKING);
	if ((value & GQ_FLAG_ARMED) == 0)
		return; /* another waker has woken all, and cleared it */
	GQ_WINDOW();
	futex_wake(flag, UINT32_MAX, shared);
	GQ_WINDOW();
	value |= GQ_FLAG_WAKING;
	gq_cas_seq_cst_u32(flag, value, value & ~GQ_FLAG_BITS); /* unless armed again since */
}

void gq__flag_wake(uint32_t *flag)
{
	flag_wake(flag, false);
}

void gq__flag_wake_shared(uint32_t *flag)
{
	flag_wake(flag, true);
}

uint32_t gq__watch_rouse(const uint64_t *counter)
{
	return futex_wake(lower_half(counter), UINT32_MAX, true);
}

uint32_t gq__watch_wake(uint64_t *counter)
{
	gq_fetch_add_seq_cst_u64(counter, 1); /* [wake.look] */
	GQ_WINDOW();
	return gq__watch_rouse(counter);
}

/* ---- letting time pass ----------------------------------------------------------------------- */

enum { RELAX_TURNS = 64, SHORT_RELAX_TURNS = 16, YIELD_TURNS = 1024 };

void gq__await_step(uint32_t step)
{
	const struct timespec nap = { .tv_nsec = 50000 };

	if (step < RELAX_TURNS)
		gq_cpu_relax();
	else if (step >= RELAX_TURNS + YIELD_TURNS || !gq__yield_if_cheap(gq__now_ns()))
		/* Not nanosleep(), which is a cancellation point. */
		syscall(SYS_clock_nanosleep, CLOCK_MONOTONIC, 0, &nap, NULL);
}

/* ---- waiting --------------------------------------------------------------------------------- */

static void begin(struct gq_wait *w, uint64_t deadline_ns, uint64_t spin_ns)
{
	*w = (struct gq_wait){ .deadline_ns = deadline_ns,
			       .spin_ns = spin_ns,
			       .nap_ns = GQ_FOR_EVER };
}

void gq__wait_begin(struct gq_wait *w, struct gq_event *event, uint64_t deadline_ns,
		    uint64_t spin_ns)
{
	begin(w, deadline_ns, spin_ns);
	w->event = event;
}

void gq__wait_begin_flag(struct gq_wait *w, uint32_t *flag, uint64_t deadline_ns)
{
	begin(w, deadline_ns, GQ_SPIN_NS);
	w->flag = flag;
}

void gq__wait_begin_shared(struct gq_wait *w, uint32_t *flag, uint64_t deadline_ns, uint64_t nap_ns)
{
	begin(w, deadline_ns, GQ_SPIN_NS);
	w->flag = flag;
	w->nap_ns = nap_ns;
	w->shared = true;
}

void gq__wait_begin_watch(struct gq_wait *w, const uint64_t *counter, uint64_t deadline_ns,
			  uint64_t nap_ns)
{
	begin(w, deadline_ns, GQ_SPIN_NS);
	w->watched = counter;
	w->nap_ns = nap_ns;
	w->shared = true;
}

/* One turn of spinning. @return false when it has lasted long enough, or does no good. */
static bool spin(struct gq_wait *w)
{
	uint64_t now;

	if (w->spin_ns == 0)
		return false;
	if (w->turns < RELAX_TURNS) {
		/* Where other threads want this CPU, the one waited for may be among them. */
		if (++w->turns == SHORT_RELAX_TURNS && gq__yields_are_slow())
			w->turns = RELAX_TURNS;
		gq_cpu_relax();
		return true;
	}
	/* There may be more threads than CPUs, and the thread waited for may be one without a CPU:
	 * let others run. */
	now = gq__now_ns();
	if (w->spin_until_ns == 0)
		w->spin_until_ns = now > UINT64_MAX - w->spin_ns ? UINT64_MAX : now + w->spin_ns;
	if (now >= w->deadline_ns) {
		w->expired = true;
		return true;
	}
	return now < w->spin_until_ns && gq__yield_if_cheap(now);
}

/* A nap is a sixteenth of the time waited so far, within the first two bounds. The last is its
 * length while no message is under way: then only a publication can change anything, and it wakes
 * the sleeper. */
enum { SHORTEST_NAP_NS = 50000, LONGEST_NAP_NS = 2000000, IDLE_NAP_NS = 100000000 };
/* The nap of a wait that was to spin longer than that, on a CPU where yields are slow. */
enum { IMPATIENT_NAP_NS = 1000000 };

/* When to tend again a device that cannot wake anybody. */
static uint64_t next_tending(struct gq_wait *w, uint64_t now)
{
	uint64_t nap;

	if (w->tended_since_ns == 0)
		w->tended_since_ns = now;
	nap = (now - w->tended_since_ns) / 16;
	nap = nap < SHORTEST_NAP_NS ? SHORTEST_NAP_NS : nap > LONGEST_NAP_NS ? LONGEST_NAP_NS : nap;
	if (w->tender->is_idle(w->tended, w->event))
		nap = IDLE_NAP_NS;
	return now + nap;
}

/* When to look again without having been woken. */
static uint64_t nap_end(struct gq_wait *w)
{
	uint64_t now;

	if ((w->tender == NULL || w->tender->sleeping != NULL) && w->nap_ns == GQ_FOR_EVER &&
	    w->spin_ns <= GQ_SPIN_NS)
		return GQ_FOR_EVER;
	now = gq__now_ns();
	if (w->tender != NULL && w->tender->sleeping == NULL)
		return next_tending(w, now);
	if (w->nap_ns != GQ_FOR_EVER)
		return now + w->nap_ns;
	/* With fast yields this wait would still be looking, so it looks after a short nap. */
	return now < w->spin_until_ns ? now + IMPATIENT_NAP_NS : GQ_FOR_EVER;
}

static void sleep_until_woken(struct gq_wait *w)
{
	const uint64_t end = nap_end(w);
	const bool nap = end < w->deadline_ns;
	const uint32_t *word = w->flag;
	enum slept slept;

	w->registered = false;
	GQ_WINDOW();
	if (word == NULL)
		word = w->watched != NULL ? lower_half(w->watched) : event_futex(w->event);
	slept = futex_wait(word, w->key, nap ? end : w->deadline_ns, w->shared);
	/* A wake-up without a waker, which the kernel may make, counts as woken: at worst an event
	 * keeps one sleeper too many, which costs each publisher a futile call. */
	if (slept != WOKEN && w->event != NULL)
		gq_event_unregister(w->event, 1);
	w->expired = slept == TIMED_OUT && !nap;
	if (w->tender == NULL)
		return;
	if (w->tender->awake != NULL) {
		w->tender->awake(w->tended);
		return;
	}
	if (slept == WOKEN) {
		w->tended_since_ns = 0; /* something is under way again: be quick at first */
		w->turns = 0;
		w->spin_until_ns = 0;
	}
	w->tender->tend(w->tended);
}

bool gq__wait_next(struct gq_wait *w)
{
	if (w->registered) {
		sleep_until_woken(w);
		return true;
	}
	if (w->expired || w->deadline_ns == 0)
		return false;
	if (spin(w))
		return true;
	if (w->watched != NULL) {
		w->key = (uint32_t)gq_load_seq_cst_u64(w->watched); /* [sleep.look] */
		w->registered = true;
	} else if (w->flag == NULL) {
		w->key = gq_event_register(w->event);
		w->registered = true;
	} else {
		w->registered = flag_arm(w->flag, &w->key);
		/* In shared memory a hostile process may change it for ever, to keep us here. */
		w->expired = !w->registered && gq__now_ns() >= w->deadline_ns;
	}
	if (w->registered && w->tender != NULL && w->tender->sleeping != NULL)
		w->tender->sleeping(w->tended);
	return true;
}

void gq__wait_end(struct gq_wait *w)
{
	/* A slot's word may stay odd. That costs the slot's next completion one futile wake-up. */
	if (w->registered && w->event != NULL)
		gq_event_unregister(w->event, 1);
	if (w->registered && w->tender != NULL && w->tender->awake != NULL)
		w->tender->awake(w->tended);
	w->registered = false;
}
