/* SPDX-License-Identifier: Apache-2.0 */
/*
 * stress_claim.c - consumers that remember which classes they found empty, where others publish and
 * claim meanwhile. On small rings a head is often laps old when it is used: once as others take
 * their steps at each load of a head, and once by threads.
 */
#include "device/protocol/atomics.h"

#include <sched.h>

static __thread uint32_t draw;

/* Stand still, now and then, for a while or a long while. */
static void linger(void)
{
	draw = draw * 1664525 + 1013904223;
	if (draw >> 23 == 0)
		sched_yield();
	else if (draw >> 29 == 0)
		for (uint32_t i = draw >> 16 & 127; i != 0; i--)
			gq_cpu_relax();
}

static void (*behind_each_load)(void) = linger;

/* In place of gq_load_relaxed_device_u64(). */
static uint64_t load_and_wait(const uint64_t *word)
{
	const uint64_t value = __atomic_load_n(word, __ATOMIC_RELAXED);

	behind_each_load();
	return value;
}

#define gq_load_relaxed_device_u64 load_and_wait
#include "device/protocol/claim.h"
#undef gq_load_relaxed_device_u64

#include "stress.h"

#include <inttypes.h>
#include <string.h>

enum { CONSUMERS = 2, MOST_ORDER = 2, ROUND = 256, LONG = 4 * GQ_CLASSES * ROUND };

struct rings {
	struct gq_channel ch;
	uint64_t entry[GQ_CLASSES][1 << MOST_ORDER];
	uint64_t head[GQ_CLASSES], tail[GQ_CLASSES];
	uint32_t messages, room;
	uint32_t published;
	uint32_t inside;  /* atomic: published, or about to be, and not claimed */
	uint32_t claimed; /* atomic */
	uint32_t begun;   /* atomic: consumers */
	uint32_t quick; /* atomic: claims before and after which a consumer knew of one class alone
			 */
	struct rng random;
};

/* One of several rings, of 1, 2 and 4 entries. */
static struct rings *set_up(uint32_t number, uint32_t messages)
{
	static const uint64_t starts[] = { 1, 0 - UINT64_C(3) };
	static struct rings f;
	const uint32_t order = number % (MOST_ORDER + 1);
	const uint64_t start = starts[number / (MOST_ORDER + 1)];

	memset(&f, 0, sizeof(f));
	f.messages = messages;
	f.random = rng_of(number);
	f.room = 1u << order;
	f.ch.slot_mask = f.room - 1;
	for (uint32_t c = 0; c < GQ_CLASSES; c++) {
		const struct gq_word_ring r =
			gq_word_ring_of(f.entry[c], &f.head[c], &f.tail[c], order, 4, 0);

		f.head[c] = f.tail[c] = start;
		for (uint32_t i = 0; i < f.room; i++)
			*gq_word_ring_entry(&r, start - f.room + i) =
				gq_word_ring_tag(&r, start - f.room + i);
		f.ch.ready[c] = r;
	}
	stress_phase(NULL, "rings of %" PRIu32 ", start %#" PRIx64, f.room, start);
	return &f;
}

static void check_end(const struct rings *f)
{
	for (uint32_t c = 0; c < GQ_CLASSES; c++)
		must(f->head[c] == f->tail[c], "class %" PRIu32 ": %" PRIu64 " are left", c,
		     f->tail[c] - f->head[c]);
	/* A quarter of the messages came while there was one class alone. */
	must(f->messages < 4 * ROUND || f->quick >= f->messages / 16,
	     "%" PRIu32 " of %" PRIu32 " claims remembered a class", f->quick, f->messages);
}

/* The next message, if there is room for it. For a while messages are of one class alone, then of
 * two, of three, of all. */
static bool publish_one(struct rings *f)
{
	const uint32_t round = f->published / ROUND, used = 1 + round % GQ_CLASSES;
	const uint32_t c = (round / GQ_CLASSES + rng_below(&f->random, used)) % GQ_CLASSES;

	if (__atomic_load_n(&f->inside, __ATOMIC_ACQUIRE) == f->room)
		return false;
	bump(f->inside, 1);
	gq_word_ring_put_one(&f->ch.ready[c], f->published++ % f->room);
	return true;
}

/*
 * A claim. What was published before it, and is not claimed yet, is not of a higher class than what
 * it has got, unless the guard may have taken that; and if it got nothing, there is no such
 * message.
 */
static bool claim_one(struct rings *f, struct gq_claimer *k)
{
	uint64_t published[GQ_CLASSES]; /* all positions below this were */
	const struct gq_ageing before = k->ageing;
	const bool alone = k->alone;
	uint32_t slot, class = 0;

	for (uint32_t c = 0; c < GQ_CLASSES; c++)
		published[c] = gq_load_acquire_u64(&f->tail[c]);
	slot = gq_claim_of(&f->ch, k, &class);
	for (uint32_t c = slot == GQ_NONE ? 0 : class + 1; c < GQ_CLASSES; c++) {
		const uint64_t head = gq_load_acquire_u64(&f->head[c]);

		must(gq_pos_diff(head, published[c]) >= 0 ||
			     (slot != GQ_NONE && before.passed[class] >= GQ_PASS_LIMIT),
		     "of class %" PRIu32 " %" PRIu64 " messages waited, and %s was claimed", c,
		     published[c] - head, slot == GQ_NONE ? "nothing" : "a lower one");
	}
	if (slot == GQ_NONE)
		return false;
	if (alone && k->alone)
		bump(f->quick, 1);
	bump(f->claimed, 1);
	must(get(f->inside) != 0, "more was claimed than published");
	__atomic_fetch_sub(&f->inside, 1, __ATOMIC_RELEASE);
	return true;
}

/* ---- one thread ------------------------------------------------------------------------------ */

static struct rings *now;
static struct gq_claimer others;

static void nothing(void)
{
}

static void others_go_on(void)
{
	behind_each_load = nothing;
	for (uint32_t n = rng_one_in(&now->random, 4) ? rng_below(&now->random, 12) : 0; n != 0;
	     n--) {
		if (rng_one_in(&now->random, 2))
			(void)(now->published < now->messages && publish_one(now));
		else
			(void)claim_one(now, &others);
	}
	behind_each_load = others_go_on;
}

static void whatever_others_do_at_a_load_no_message_is_overlooked(void **state)
{
	(void)state;
	for (uint32_t n = 0; n < 2 * (MOST_ORDER + 1); n++) {
		struct gq_claimer k = { 0 };

		now = set_up(n, LONG);
		memset(&others, 0, sizeof(others));
		behind_each_load = others_go_on;
		while (now->claimed < LONG) {
			if (now->published < LONG && rng_one_in(&now->random, 2))
				(void)publish_one(now);
			(void)claim_one(now, &k);
		}
		behind_each_load = linger;
		check_end(now);
	}
}

/* ---- threads --------------------------------------------------------------------------------- */

static void relax(uint32_t *spins)
{
	gq_cpu_relax();
	if (++*spins % 256 == 0)
		sched_yield();
}

static void *publish(void *arg)
{
	struct rings *f = arg;
	uint32_t spins = 0;

	while (f->published != f->messages)
		if (!publish_one(f))
			relax(&spins);
	return NULL;
}

static void *consume(void *arg)
{
	struct rings *f = arg;
	struct gq_claimer k = { 0 };
	uint32_t spins = 0;

	draw = (uint32_t)rng_of(bump(f->begun, 1)).state;
	while (get(f->claimed) < f->messages)
		if (!claim_one(f, &k))
			relax(&spins);
	return NULL;
}

static void nobody_takes_a_class_for_empty_in_which_a_message_waits(void **state)
{
	(void)state;
	for (uint32_t n = 0; n < 2 * (MOST_ORDER + 1); n++) {
		struct rings *f = set_up(n, stress_scaled(LONG / 2));
		pthread_t thread[CONSUMERS + 1];

		for (uint32_t i = 0; i < CONSUMERS; i++)
			thread[i] = stress_thread(consume, f);
		thread[CONSUMERS] = stress_thread(publish, f);
		for (uint32_t i = 0; i <= CONSUMERS; i++)
			stress_join(thread[i]);
		check_end(f);
	}
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(whatever_others_do_at_a_load_no_message_is_overlooked),
		cmocka_unit_test(nobody_takes_a_class_for_empty_in_which_a_message_waits),
	};

	stress_begin(argc, argv);
	return cmocka_run_group_tests_name("stress.claim", tests, NULL, NULL);
}
