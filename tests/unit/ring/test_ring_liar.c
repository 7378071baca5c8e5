/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_ring_liar.c - a peer that writes into the ring between every two steps of a call: each call
 * comes to an end within the bound at the head of step.h, and says the right thing.
 *
 * Needs the windows of GPUQ_CHAOS, in which the liar is called. At full speed and without windows:
 * stress/stress_ring_liar.c.
 */
#include "support.h"

#include "host/base/fault.h"
#include "host/base/memory.h"
#include "host/ring/extent.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#if !defined(GPUQ_CHAOS)
int main(void)
{
	printf("skipped: there are no windows without GPUQ_CHAOS\n");
	return 77;
}
#else

enum { TRIES = 65536 }; /* GQ_TRIES of step.h */

static struct {
	const struct gq_word_ring *ring;
	uint64_t next;
	uint64_t quiet; /* windows in which it does nothing yet */
	bool moves_head, is_pool;
	uint64_t windows;
} liar;

/* Publish at the next position, always just before the victim does; with moves_head as if peers
 * were that fast: the tail is raised, and all is taken at once. */
static void publish_ahead(void)
{
	if (liar.windows++ < liar.quiet)
		return;
	if (liar.next == 0)
		liar.next = *liar.ring->tail;
	while (gq_word_ring_is_at(liar.ring, *gq_word_ring_entry(liar.ring, liar.next), liar.next))
		liar.next++;
	*gq_word_ring_entry(liar.ring, liar.next) = gq_word_ring_tag(liar.ring, liar.next);
	liar.next++;
	if (liar.moves_head) {
		*liar.ring->tail = liar.next;
		*liar.ring->head = gq_head_of(liar.next);
	}
}

/* Move the head to and fro. */
static void flap_head(void)
{
	if (liar.windows++ < liar.quiet)
		return;
	*liar.ring->head += liar.windows % 2 == 0 ? 1 : UINT64_MAX;
}

/* Move the tail to and fro, where nobody has to be. */
static void flap_tail(void)
{
	if (liar.windows++ < liar.quiet)
		return;
	*liar.ring->tail += liar.windows % 2 == 0 ? 1 : UINT64_MAX;
}

static void let_lie(const struct gq_word_ring *ring, bool is_pool, void (*what)(void),
		    bool moves_head, uint64_t quiet)
{
	memset(&liar, 0, sizeof(liar));
	liar.ring = ring;
	liar.is_pool = is_pool;
	liar.moves_head = moves_head;
	liar.quiet = quiet;
	gq__in_window = what;
}

/* @return in how many windows the liar was. */
static uint64_t stop_lying(void)
{
	gq__in_window = NULL;
	return liar.windows;
}

static RingQueue *make_ring(uint32_t size, uint32_t flags)
{
	const RingConfig cfg = { .ring_size = size, .max_msg_size = 16, .flags = flags };
	RingQueue *r = NULL;

	assert_status(q_ring_create(&cfg, NULL, 0, &r), Q_OK);
	assert_status(q_ring_send(r, "x", 1, Q_PRIORITY_HIGH), Q_OK); /* binds: without windows */
	assert_status(q_ring_discard(r), Q_OK);
	return r;
}

static const uint32_t sizes[] = { 1, 2, 4, 64, 1024 };
#define FOR_EACH_SIZE(size)                                                                        \
	for (uint32_t i_ = 0, size;                                                                \
	     i_ < sizeof(sizes) / sizeof(sizes[0]) && (size = sizes[i_], true); i_++)

/* More is in the ring than there are cells: correct peers cannot have done that. */
static void a_sender_whom_a_liar_is_always_ahead_of_says_damaged(void **state)
{
	(void)state;
	FOR_EACH_SIZE(size)
	{
		RingQueue *r = make_ring(size, 0);
		uint64_t windows;

		let_lie(&r->messages.ready[1], false, publish_ahead, false, 0);
		assert_status(q_ring_send(r, "x", 1, 0), Q_ERR_FAILED);
		assert_non_null(strstr(q_last_error(), "damaged"));
		windows = stop_lying();
		assert_true(windows <= size + TRIES + 4);
		q_ring_destroy(r);
	}
}

/* What nothing tells from peers that are fast is answered with "no room", and all goes on. */
static void a_sender_who_is_overtaken_all_the_time_says_full_and_keeps_nothing(void **state)
{
	static const uint32_t flags[] = { 0, Q_RING_LARGE };

	(void)state;
	FOR_EACH_SIZE(size)
	{
		RingQueue *r = make_ring(size, flags[size % 2]);
		char buf[8];
		size_t len;

		for (int i = 0; i < 2; i++) {
			let_lie(&r->messages.ready[1], false, publish_ahead, true, 0);
			assert_status(q_ring_send(r, "x", 1, 0), Q_ERR_FULL);
			assert_true(stop_lying() <= size + TRIES + 4);
		}
		assert_int_equal(q_ring_available(r), size); /* the cells are back */
		for (uint32_t i = 0; i < size; i++)
			assert_status(q_ring_send(r, "yes", 3, 0), Q_OK);
		for (uint32_t i = 0; i < size; i++) {
			len = sizeof(buf);
			assert_status(q_ring_recv(r, buf, &len), Q_OK);
			assert_memory_equal(buf, "yes", 3);
		}
		q_ring_destroy(r);
	}
}

static void a_batch_that_is_overtaken_is_accepted_as_far_as_it_came(void **state)
{
	RingQueue *r = make_ring(16, 0);
	EnqueueItem items[8];
	size_t sent;

	(void)state;
	for (int i = 0; i < 8; i++)
		items[i] = (EnqueueItem){ .data = &"abcdefgh"[i], .len = 1 + (size_t)i % 2 };
	/* An extent has one length, so each of these has its own. Windows: the pop's, one before
	 * publishing, two each put. */
	let_lie(&r->messages.ready[1], false, publish_ahead, false, 8);
	assert_status(q_ring_send_batch(r, items, 8, 0, &sent), Q_ERR_FAILED);
	assert_int_equal(sent, 0);
	assert_true(stop_lying() <= 16 + TRIES + 8);
	q_ring_destroy(r);

	r = make_ring(16, 0);
	let_lie(&r->messages.ready[1], false, publish_ahead, true, 8);
	assert_status(q_ring_send_batch(r, items, 8, 0, &sent), Q_ERR_FULL);
	assert_int_equal(sent, 3);
	assert_true(stop_lying() <= 2 * (16 + TRIES + 8));
	assert_int_equal(q_ring_available(r), 13);
	q_ring_destroy(r);
}

static void who_never_gets_a_cell_says_full(void **state)
{
	static const uint32_t large[] = { 0, Q_RING_LARGE };

	(void)state;
	for (int i = 0; i < 2; i++) {
		RingQueue *r = make_ring(8, large[i]);
		uint64_t windows;

		let_lie(&r->messages.pool, true, flap_head, false, 0);
		*r->messages.pool.head += 2; /* one is gone, or two */
		assert_status(
			q_ring_send(r, "thirty-two bytes of it: two cells", i == 0 ? 16 : 32, 0),
			Q_ERR_FULL);
		windows = stop_lying(); /* one more: the call for one message tries first */
		assert_true(windows == TRIES || windows == TRIES + 1);
		assert_status(q_ring_send(r, "x", 1, 0), Q_OK); /* then all is well again */
		q_ring_destroy(r);
	}
}

/* Nothing can be claimed, but it is there: so nobody may say that a closed ring is empty for good.
 */
static void who_never_claims_says_empty_and_never_shutdown(void **state)
{
	static const uint32_t flags[] = { 0, Q_RING_LARGE, Q_RING_AGEING };

	(void)state;
	for (int i = 0; i < 3; i++) {
		for (int closed = 0; closed < 2; closed++) {
			RingQueue *r = make_ring(8, flags[i]);
			char buf[64];
			size_t len = sizeof(buf), n;
			uint64_t windows;
			RingMessage m[4];

			for (int k = 0; k < 4; k++)
				assert_status(q_ring_send(r, "here", 4, 0), Q_OK);
			if (closed != 0)
				assert_status(q_ring_close(r), Q_OK);
			*r->messages.ready[1].head += 1;
#define EXPECT_EMPTY(call)                                                                         \
	do {                                                                                       \
		const uint64_t head_ = *r->messages.ready[1].head;                                 \
                                                                                                   \
		let_lie(&r->messages.ready[1], false, flap_head, false, 0);                        \
		assert_status(call, Q_ERR_EMPTY);                                                  \
		assert_non_null(strstr(q_last_error(), "others took"));                            \
		windows = stop_lying(); /* one more, where the call for one message tries first */ \
		assert_true(windows == TRIES || windows == TRIES + 1);                             \
		*r->messages.ready[1].head = head_;                                                \
	} while (0)
			EXPECT_EMPTY(q_ring_recv(r, buf, &len));
			assert_int_equal(len, 0);
			EXPECT_EMPTY(q_ring_recv_typed(r, buf, sizeof(buf), m));
			EXPECT_EMPTY(q_ring_recv_batch(r, buf, sizeof(buf), m, 2, &n));
			assert_int_equal(n, 0);
			EXPECT_EMPTY(q_ring_discard(r));
#undef EXPECT_EMPTY
			*r->messages.ready[1].head -= 1;
			for (int k = 0; k < 4; k++) {
				len = sizeof(buf);
				assert_status(q_ring_recv(r, buf, &len), Q_OK);
			}
			len = sizeof(buf);
			assert_status(q_ring_recv(r, buf, &len),
				      closed != 0 ? Q_ERR_SHUTDOWN : Q_ERR_EMPTY);
			q_ring_destroy(r);
		}
	}
}

/* The message has been received, whatever becomes of its cell. */
static void who_cannot_give_the_cell_back_still_has_the_message(void **state)
{
	(void)state;
	FOR_EACH_SIZE(size)
	{
		RingQueue *r = make_ring(size, 0);
		char buf[8];
		size_t len = sizeof(buf);

		assert_status(q_ring_send(r, "here", 4, 0), Q_OK);
		let_lie(&r->messages.pool, true, publish_ahead, true, 0);
		assert_status(q_ring_recv(r, buf, &len), Q_OK);
		assert_true(stop_lying() <= size + TRIES + 4);
		assert_int_equal(len, 4);
		assert_memory_equal(buf, "here", 4);
		q_ring_destroy(r);
	}
}

static void completions_are_bounded_alike(void **state)
{
	RingQueue *r = make_ring(8, 0);
	RingCompletion done[2];
	size_t n;

	(void)state;
	let_lie(&r->completions.ready[0], false, publish_ahead, true, 0);
	assert_status(q_ring_complete(r, 0, Q_OK, NULL, 0), Q_ERR_FULL);
	assert_true(stop_lying() <= 8 + TRIES + 4);
	assert_status(q_ring_complete(r, 1, Q_OK, NULL, 0), Q_OK);
	assert_status(q_ring_complete(r, 2, Q_OK, NULL, 0), Q_OK);
	*r->completions.ready[0].head += 1;
	let_lie(&r->completions.ready[0], false, flap_head, false, 0);
	assert_status(q_ring_poll_completions(r, done, 1, &n), Q_OK);
	assert_int_equal(n, 0);
	assert_int_equal(stop_lying(), TRIES);
	q_ring_destroy(r);
}

static QueueStatus complete(RingQueue *r, bool by_batch, size_t *sent)
{
	const RingCompletion two[2] = { { .sequence = 1 }, { .sequence = 2 } };

	*sent = 0;
	return by_batch ? q_ring_complete_batch(r, two, 2, sent)
			: q_ring_complete(r, 1, Q_OK, NULL, 0);
}

/* As a message's sender: damage where no correct peers can have been, and "no room" else. */
static void who_completes_beside_a_liar_says_what_a_sender_says(void **state)
{
	(void)state;
	FOR_EACH_SIZE(size)
	{
		for (int by_batch = 0; by_batch < 2; by_batch++) {
			RingQueue *r = make_ring(size, 0);
			RingCompletion done[2];
			size_t n;

			let_lie(&r->completions.ready[0], false, publish_ahead, true, 0);
			assert_status(complete(r, by_batch != 0, &n), Q_ERR_FULL);
			assert_true(stop_lying() <= size + TRIES + 4);
			assert_int_equal(n, 0);
			for (uint32_t i = 0; i < size; i++) /* no cell is lost */
				assert_status(q_ring_complete(r, i, Q_OK, NULL, 0), Q_OK);
			assert_status(complete(r, by_batch != 0, &n), Q_ERR_FULL);
			for (uint32_t i = 0; i < size; i++) {
				assert_status(q_ring_poll_completions(r, done, 1, &n), Q_OK);
				assert_int_equal(n, 1);
				assert_int_equal(done[0].sequence, i);
			}
			let_lie(&r->completions.ready[0], false, publish_ahead, false, 0);
			assert_status(complete(r, by_batch != 0, &n), Q_ERR_FAILED);
			assert_non_null(strstr(q_last_error(), "damaged"));
			assert_true(stop_lying() <= size + TRIES + 4);
			q_ring_destroy(r);
		}
	}
}

static void a_tail_that_never_stands_still_ends_every_call(void **state)
{
	(void)state;
	FOR_EACH_SIZE(size)
	{
		RingQueue *r = make_ring(size, 0);
		char buf[8];
		size_t len = sizeof(buf);

		for (int pool = 0; pool < 2; pool++) {
			let_lie(pool != 0 ? &r->messages.pool : &r->messages.ready[1], pool != 0,
				flap_tail, false, 0);
			for (int i = 0; i < 100; i++) {
				q_ring_send(r, "x", 1, 0);
				len = sizeof(buf);
				q_ring_recv(r, buf, &len);
			}
			assert_true(stop_lying() <= 100 * 2 * (size + TRIES + 4));
		}
		q_ring_destroy(r);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_sender_whom_a_liar_is_always_ahead_of_says_damaged),
		cmocka_unit_test(
			a_sender_who_is_overtaken_all_the_time_says_full_and_keeps_nothing),
		cmocka_unit_test(a_batch_that_is_overtaken_is_accepted_as_far_as_it_came),
		cmocka_unit_test(who_never_gets_a_cell_says_full),
		cmocka_unit_test(who_never_claims_says_empty_and_never_shutdown),
		cmocka_unit_test(who_cannot_give_the_cell_back_still_has_the_message),
		cmocka_unit_test(completions_are_bounded_alike),
		cmocka_unit_test(who_completes_beside_a_liar_says_what_a_sender_says),
		cmocka_unit_test(a_tail_that_never_stands_still_ends_every_call),
	};

	return cmocka_run_group_tests_name("ring_liar", tests, NULL, NULL);
}
#endif
