/* SPDX-License-Identifier: Apache-2.0 */
/* test_protocol.c - the protocol's steps by themselves: tags, laps, wraps, events. */
#include "device/protocol/protocol.h"

#include "support.h"

#include <stdlib.h>
#include <string.h>

static const uint64_t starts[] = { 1,
				   (UINT64_C(1) << 32) - 2,
				   (UINT64_C(1) << 44) - 2,
				   (UINT64_C(1) << 56) - 2,
				   (UINT64_C(1) << 57) - 2,
				   (UINT64_C(1) << 59) - 2,
				   UINT64_C(0x4933338188b99bbc),
				   (UINT64_C(1) << 63) - 2,
				   0 - UINT64_C(2),
				   0 - UINT64_C(1) };
enum { STARTS = sizeof(starts) / sizeof(starts[0]) };

struct ring_memory {
	struct gq_word_ring r;
	uint64_t head, tail;
};

static void set_up(struct ring_memory *m, uint32_t order, uint32_t shift, uint32_t drop,
		   uint64_t start)
{
	m->head = m->tail = start;
	m->r = gq_word_ring_of(calloc((size_t)1 << order, sizeof(uint64_t)), &m->head, &m->tail,
			       order, shift, drop);
	for (uint64_t i = 0; i < gq_word_ring_size(&m->r); i++) {
		uint64_t pos = start - gq_word_ring_size(&m->r) + i;

		*gq_word_ring_entry(&m->r, pos) = gq_word_ring_tag(&m->r, pos);
	}
}

static void a_ring_gives_back_what_was_put_lap_after_lap(void **state)
{
	(void)state;
	for (int s = 0; s < STARTS; s++)
		for (uint32_t order = 0; order <= 5; order++) {
			struct ring_memory m;
			uint64_t n = UINT64_C(1) << order;

			set_up(&m, order, gq_id_shift(order), 0, starts[s]);
			for (int lap = 0; lap < 5; lap++) {
				assert_int_equal(gq_claim_from(&m.r, UINT32_MAX), GQ_NONE);
				assert_false(gq_word_ring_may_hold(&m.r));
				for (uint64_t i = 0; i < n; i++)
					gq_word_ring_put_one(&m.r, n - 1 - i);
				assert_true(gq_word_ring_may_hold(&m.r));
				for (uint64_t i = 0; i < n; i++)
					assert_int_equal(gq_claim_from(&m.r, UINT32_MAX),
							 n - 1 - i);
			}
			assert_int_equal(m.tail, starts[s] + 5 * n);
			free(m.r.entry);
		}
}

static void neighbouring_laps_have_different_tags_for_every_capacity(void **state)
{
	(void)state;
	for (uint32_t order = 0; order <= GQ_MAX_ORDER; order++)
		for (int s = 0; s < STARTS; s++) {
			const struct gq_word_ring pool =
				gq_word_ring_of(NULL, NULL, NULL, order, gq_id_shift(order), 0);
			const struct gq_word_ring done = gq_word_ring_of(
				NULL, NULL, NULL, order, order + GQ_OUTCOME_BITS, order);

			for (uint64_t lap = 1; lap <= 4; lap++) {
				uint64_t back = lap << order;

				assert_int_not_equal(gq_word_ring_tag(&pool, starts[s]),
						     gq_word_ring_tag(&pool, starts[s] - back));
				assert_int_not_equal(gq_word_ring_tag(&done, starts[s]),
						     gq_word_ring_tag(&done, starts[s] - back));
			}
		}
}

static void a_completion_carries_any_slot_and_any_outcome(void **state)
{
	static const uint32_t outcomes[] = { 0,
					     1,
					     (1u << 24) - 1,
					     GQ_OUTCOME_MAX_LEN,
					     GQ_OUTCOME_FAILED,
					     GQ_OUTCOME_EXPIRED,
					     GQ_OUTCOME_CANCELLED,
					     GQ_OUTCOME_REPORTED + GQ_OUTCOME_MAX_STATUS };

	(void)state;
	for (int s = 0; s < STARTS; s++)
		for (uint32_t order = 0; order <= 8; order += 4)
			for (int posted = 0; posted < 3; posted++) {
				struct gq_channel ch = { 0 };
				struct ring_memory m;
				uint32_t slot, outcome, last = (1u << order) - 1;

				set_up(&m, order, order + GQ_OUTCOME_BITS, order, starts[s]);
				ch.done = m.r;
				for (int i = 0; i < 700; i++) {
					uint32_t wanted = outcomes[i % 8];

					assert_false(gq_reap(&ch, &slot, &outcome));
					assert_false(gq_done_waits(&ch));
					if (posted == 0)
						gq_complete(&ch, last, wanted);
					else
						gq_complete_posted(&ch, last, wanted, posted == 2);
					assert_true(gq_done_waits(&ch));
					assert_true(gq_reap(&ch, &slot, &outcome));
					assert_int_equal(slot, last);
					assert_int_equal(outcome, wanted);
				}
				free(m.r.entry);
			}
}

static void a_putter_with_an_old_tail_walks_on(void **state)
{
	struct ring_memory m;
	uint64_t old = 100;

	(void)state;
	set_up(&m, 2, 4, 0, 100);
	gq_word_ring_put_one(&m.r, 1);
	gq_word_ring_put(&m.r, &old, 2); /* sees 100 published, puts at 101 */
	assert_int_equal(old, 102);
	assert_int_equal(m.tail, 101);
	gq_word_ring_raise_tail(&m.r, 102);
	gq_word_ring_raise_tail(&m.r, 100); /* never back */
	assert_int_equal(m.tail, 102);
	assert_int_equal(gq_claim_from(&m.r, UINT32_MAX), 1);
	assert_int_equal(gq_claim_from(&m.r, UINT32_MAX), 2);
	for (int lap = 0; lap < 3; lap++) {
		for (uint64_t i = 0; i < 4; i++)
			gq_word_ring_put_one(&m.r, i);
		for (uint64_t i = 0; i < 4; i++)
			assert_int_equal(gq_claim_from(&m.r, UINT32_MAX), i);
	}
	old = 101; /* laps behind */
	gq_word_ring_put(&m.r, &old, 3);
	assert_int_equal(old, 115);
	free(m.r.entry);
}

struct pool_memory {
	struct gq_pool pool;
	uint64_t head, tail;
};

static void set_up_pool(struct pool_memory *m, uint32_t order, bool runs, uint64_t start)
{
	uint64_t *words = calloc(gq_pool_words(order, runs), sizeof(*words));

	m->pool = gq_pool_of(words, &m->head, &m->tail, order, runs);
	gq_pool_fill(&m->pool, start);
}

/* Positions of a pool of runs have 57 bits: what an id of one has above them says nothing. */
static uint64_t id_of(uint64_t id, uint32_t shift, bool runs)
{
	return runs && 57 + shift < 64 ? id & ((UINT64_C(1) << (57 + shift)) - 1) : id;
}

static void the_pool_gives_up_to_what_it_has_and_nothing_when_closed(void **state)
{
	(void)state;
	for (int s = 0; s < STARTS; s++)
		for (int runs = 0; runs < 2; runs++) {
			struct pool_memory m;
			uint64_t ids[8];
			bool closed;

			set_up_pool(&m, 2, runs == 1, starts[s]);
			assert_int_equal(gq_pool_free(&m.pool, m.tail, m.head), 4);
			assert_int_equal(gq_pool_pop(&m.pool, ids, 3, &closed), 3);
			assert_false(closed);
			for (uint64_t i = 0; i < 3; i++)
				assert_int_equal(id_of(ids[i], 4, runs),
						 id_of((starts[s] + i) << 4 | i, 4, runs));
			gq_pool_return(&m.pool, ids, 1);
			assert_int_equal(gq_pool_free(&m.pool, m.tail, m.head), 2);
			assert_int_equal(gq_pool_pop(&m.pool, ids, 8, &closed), 2);
			assert_int_equal(id_of(ids[0], 4, runs),
					 id_of((starts[s] + 3) << 4 | 3, 4, runs));
			assert_int_equal(id_of(ids[1], 4, runs),
					 id_of((starts[s] + 4) << 4 | 0, 4, runs));
			assert_int_equal(gq_pool_pop(&m.pool, ids, 8, &closed), 0);
			assert_false(closed);
			gq_pool_return(&m.pool, ids, 1);
			m.head |= GQ_POOL_CLOSED;
			assert_int_equal(gq_pool_pop(&m.pool, ids, 8, &closed), 0);
			assert_true(closed);
			assert_int_equal(gq_pool_free(&m.pool, m.tail, m.head), 1);
			free(m.pool.ring.entry);
		}
}

/* Slots are taken and returned at random, in part and out of order, for many laps: positions follow
 * each other, slots come in the order in which they were returned, and FULL is said when none is
 * there. */
static void the_pool_gives_slots_in_the_order_of_their_return(void **state)
{
	enum { STEPS = 3000, MOST = 64 };
	uint32_t random = 1;

	(void)state;
	for (int s = 0; s < STARTS; s++)
		for (uint32_t order = 0; order <= 7; order++) {
			const bool runs = s % 2 == 0 || order % 2 == 0;
			const uint32_t n = 1u << order, shift = gq_id_shift(order);
			uint64_t held[1 << 7], ids[MOST], pos = starts[s], put = n, got = 0;
			uint32_t line[1 << 7], holds = 0; /* the slots that are free, in order */
			struct pool_memory m;

			set_up_pool(&m, order, runs, starts[s]);
			for (uint32_t i = 0; i < n; i++)
				line[i] = i;
			for (int step = 0; step < STEPS; step++) {
				uint32_t want, k;
				bool closed;

				random = random * 1664525 + 1013904223;
				want = 1 + (random >> 16) % (n < MOST ? n : MOST);
				if (random >> 31 != 0) {
					k = gq_pool_pop(&m.pool, ids, want, &closed);
					assert_int_equal(k, want < put - got ? want : put - got);
					for (uint32_t i = 0; i < k; i++, got++, pos++) {
						assert_int_equal(id_of(ids[i], shift, runs),
								 id_of(pos << shift | line[got % n],
								       shift, runs));
						held[holds++] = ids[i];
					}
					continue;
				}
				if (want > holds)
					want = holds;
				if ((random >> 8) % 4 != 0) { /* the first held, as they came */
					memcpy(ids, held, want * sizeof(*ids));
					memmove(held, held + want, (holds - want) * sizeof(*held));
				} else { /* the last, backwards */
					for (uint32_t i = 0; i < want; i++)
						ids[i] = held[holds - 1 - i];
				}
				holds -= want;
				for (uint32_t i = 0; i < want; i++, put++)
					line[put % n] = (uint32_t)(ids[i] & (n - 1));
				if (want != 0)
					gq_pool_return(&m.pool, ids, want);
				assert_int_equal(m.tail, starts[s] + put);
				assert_int_equal(gq_pool_free(&m.pool, m.tail, m.head), put - got);
			}
			free(m.pool.ring.entry);
		}
}

/* One swap returns a run of neighbours, and a thread whose tail is old finds the end. */
static void a_run_is_one_extent(void **state)
{
	struct pool_memory m;
	uint64_t ids[64], old;
	bool closed;

	(void)state;
	set_up_pool(&m, 6, true, 100);
	assert_int_equal(gq_pool_pop(&m.pool, ids, 64, &closed), 64);
	old = m.tail;
	gq_pool_return(&m.pool, ids + 5, 10); /* slots 5 to 14 */
	assert_int_equal(gq_pool_run(&m.pool, *gq_word_ring_entry(&m.pool.ring, old)), 10);
	assert_false(gq_pool_try_put(&m.pool, &old, 20, 3)); /* past it */
	assert_int_equal(old, 100 + 64 + 10);
	assert_true(gq_pool_try_put(&m.pool, &old, 20, 3));
	assert_int_equal(m.tail, old - 3);
	gq_word_ring_raise_tail(&m.pool.ring, old);
	assert_int_equal(gq_pool_pop(&m.pool, ids, 64, &closed), 13);
	assert_int_equal(ids[12], (100 + 64 + 12) << 6 | 22);
	for (int far = 0; far < 2;
	     far++) { /* from a position whose word is there still; from laps behind */
		const uint64_t behind = m.tail;

		for (int step = 0; step < (far ? 100 : 4); step++) {
			gq_pool_return(&m.pool, ids, 13);
			assert_int_equal(gq_pool_pop(&m.pool, ids, 64, &closed), 13);
		}
		old = behind;
		while (!gq_pool_try_put(&m.pool, &old, 63, 1))
			;
		assert_int_equal(old, m.tail + 1);
		gq_word_ring_raise_tail(&m.pool.ring, old);
		assert_int_equal(gq_pool_pop(&m.pool, &old, 1, &closed), 1);
		assert_int_equal(old & 63, 63);
	}
	free(m.pool.ring.entry);
}

/* Three consumers claim at random of four classes that are filled at random. Whatever each
 * remembers, it gets the first message of the highest class that holds any, or by its guard that of
 * a class which it has passed over GQ_PASS_LIMIT times. */
static void a_consumer_that_remembers_claims_as_one_that_looks(void **state)
{
	enum { ORDER = 3, CONSUMERS = 3, STEPS = 60000 };
	struct gq_claimer claims[CONSUMERS] = { 0 };
	uint32_t passed[CONSUMERS][GQ_CLASSES] = { 0 };
	uint64_t put[GQ_CLASSES] = { 0 }, taken[GQ_CLASSES] = { 0 };
	struct ring_memory m[GQ_CLASSES];
	struct gq_channel ch = { .slot_mask = (1u << ORDER) - 1 };
	uint32_t random = 12345, guarded = 0, alone = 0;

	(void)state;
	for (uint32_t c = 0; c < GQ_CLASSES; c++) {
		set_up(&m[c], ORDER, 4, 0, starts[c]);
		ch.ready[c] = m[c].r;
	}
	for (uint32_t step = 0; step < STEPS; step++) {
		/* For a while messages come in one class alone, then in two, in all. */
		const uint32_t used = 1 + step / 2048 % GQ_CLASSES, k = step / 7 % CONSUMERS;
		uint32_t c, class = GQ_NONE, expected = GQ_NONE, slot;

		random = random * 1664525 + 1013904223;
		c = (step / 8192 + (random >> 24) % used) % GQ_CLASSES;
		if ((random >> 16) % 8 < 5) {
			if (put[c] - taken[c] < 1u << ORDER)
				gq_word_ring_put_one(&m[c].r, put[c]++ % (1u << ORDER));
			continue;
		}
		for (c = 0; c < GQ_CLASSES; c++) /* the highest that holds any */
			if (put[c] != taken[c])
				expected = c;
		for (c = 0; c < GQ_CLASSES - 1; c++) { /* unless its guard says otherwise */
			if (passed[k][c] < GQ_PASS_LIMIT)
				continue;
			passed[k][c] = 0;
			if (put[c] == taken[c])
				continue;
			expected = c + GQ_CLASSES;
			break;
		}
		slot = gq_claim_of(&ch, &claims[k], &class);
		if (expected == GQ_NONE) {
			assert_int_equal(slot, GQ_NONE);
			continue;
		}
		assert_int_equal(class, expected % GQ_CLASSES);
		assert_int_equal(slot, taken[class]++ % (1u << ORDER));
		guarded += expected >= GQ_CLASSES;
		alone += claims[k].alone;
		if (expected >= GQ_CLASSES)
			continue;
		passed[k][class] = 0;
		for (c = 0; c < class; c++)
			passed[k][c] = put[c] != taken[c] ? passed[k][c] + 1 : 0;
	}
	assert_in_range(guarded, 5, STEPS);
	assert_in_range(alone, 1000, STEPS);
	for (uint32_t c = 0; c < GQ_CLASSES; c++)
		free(m[c].r.entry);
}

static void a_decision_follows_control_cancel_and_deadline(void **state)
{
	struct gq_slot slot = { .msg_id = 5, .cancel = 6 };

	(void)state;
	assert_int_equal(gq_decide(&slot, 0, 0), 0);
	assert_int_equal(gq_decide(&slot, GQ_CONTROL_CANCEL, 0), GQ_OUTCOME_CANCELLED);
	slot.cancel = 5;
	assert_int_equal(gq_decide(&slot, 0, 0), GQ_OUTCOME_CANCELLED);
	slot.cancel = ~UINT64_C(5);
	slot.deadline_ns = 100;
	assert_int_equal(gq_decide(&slot, 0, 99), 0);
	assert_int_equal(gq_decide(&slot, 0, 100), GQ_OUTCOME_EXPIRED);
	assert_int_equal(gq_outcome_of(0, 8, 8), 8);
	assert_int_equal(gq_outcome_of(0, 9, 8), GQ_OUTCOME_FAILED);
	assert_int_equal(gq_outcome_of(1, 0, 8), GQ_OUTCOME_REPORTED + 1);
	assert_int_equal(gq_outcome_of(1, 9, 8), GQ_OUTCOME_REPORTED + 1);
}

static void a_failure_carries_the_processors_status_up_to_a_largest_one(void **state)
{
	static const struct {
		uint32_t status, told;
	} row[] = { { 1, 1 },
		    { 255, 255 },
		    { 0xfffeff, 0xfffeff },
		    { 0xffff00, 0xffff00 },
		    { 0xffff01, 0xffff00 },
		    { UINT32_MAX, 0xffff00 } };

	(void)state;
	for (size_t i = 0; i < sizeof(row) / sizeof(row[0]); i++) {
		const uint32_t outcome = gq_outcome_of(row[i].status, 0, 8);

		assert_true(gq_outcome_is_failure(outcome));
		assert_true(outcome < GQ_OUTCOME_SEALED);
		assert_int_equal(gq_reported_status(outcome), row[i].told);
	}
	for (uint32_t outcome = 0; outcome <= GQ_OUTCOME_CANCELLED; outcome++) {
		assert_int_equal(gq_reported_status(outcome), 0);
		assert_int_equal(gq_outcome_is_failure(outcome), outcome == GQ_OUTCOME_FAILED);
	}
}

static void an_event_counts_sleepers_and_wake_ups_in_one_word(void **state)
{
	struct gq_event e = { UINT32_MAX - 1 }; /* the count wraps below the sleepers */
	uint32_t a, b;

	(void)state;
	assert_false(gq_event_armed(&e));
	assert_false(gq_event_bump(&e));
	a = gq_event_register(&e);
	b = gq_event_register(&e);
	assert_int_equal(a, b);
	assert_true(gq_event_armed(&e));
	gq_event_unregister(&e, 1);
	assert_int_equal(gq_event_sleepers(e.word), 1);
	assert_true(gq_event_bump(&e));
	assert_int_not_equal((uint32_t)e.word, b); /* the futex has changed */
	assert_true(gq_event_bump(&e));        /* still counted: whoever bumped may stand still */
	assert_int_equal((uint32_t)e.word, 0); /* wrapped, and carried into nothing */
	assert_int_equal(gq_event_sleepers(e.word), 1);
	gq_event_register(&e);
	gq_event_unregister(&e, 2);
	assert_int_equal(gq_event_sleepers(e.word), 0);
	assert_false(gq_event_bump(&e));
	e.word |= GQ_EVENT_STICKY;
	assert_true(gq_event_armed(&e));
	assert_false(gq_event_bump(&e));
	gq_event_register(&e);
	assert_true(gq_event_bump(&e));
	gq_event_unregister(&e, 1);
	assert_true(gq_event_armed(&e));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_ring_gives_back_what_was_put_lap_after_lap),
		cmocka_unit_test(neighbouring_laps_have_different_tags_for_every_capacity),
		cmocka_unit_test(a_completion_carries_any_slot_and_any_outcome),
		cmocka_unit_test(a_putter_with_an_old_tail_walks_on),
		cmocka_unit_test(the_pool_gives_up_to_what_it_has_and_nothing_when_closed),
		cmocka_unit_test(the_pool_gives_slots_in_the_order_of_their_return),
		cmocka_unit_test(a_run_is_one_extent),
		cmocka_unit_test(a_consumer_that_remembers_claims_as_one_that_looks),
		cmocka_unit_test(a_decision_follows_control_cancel_and_deadline),
		cmocka_unit_test(a_failure_carries_the_processors_status_up_to_a_largest_one),
		cmocka_unit_test(an_event_counts_sleepers_and_wake_ups_in_one_word),
	};

	return cmocka_run_group_tests_name("protocol", tests, NULL, NULL);
}
