/* SPDX-License-Identifier: Apache-2.0 */
/* test_subscription.c - subscriptions: order, policies, what is lost, descriptors, ends. */
#include "notify_support.h"

#include "host/notify/state.h"

static const NotifyPolicy every_policy[] = { Q_NOTIFY_DROP_OLDEST, Q_NOTIFY_DROP_NEWEST,
					     Q_NOTIFY_COALESCE, Q_NOTIFY_CLOSE };

/* ---- what is received ------------------------------------------------------------------------ */

static void every_event_comes_in_order(void **state)
{
	NotifyQueue *nq = make_notify(NULL);
	const NotifyHandle handle = handle_of(nq);
	NotifySubscription *sub[4];

	(void)state;
	post(nq, handle, 1000); /* before anybody has subscribed */
	for (int i = 0; i < 4; i++)
		sub[i] = subscription(nq, handle, 0,
				      i == 2 ? Q_NOTIFY_DROP_OLDEST : every_policy[i]);
	for (int64_t i = 1; i <= 64; i++)
		assert_int_equal(post(nq, handle, i), 4);
	for (int i = 0; i < 4; i++) {
		for (int64_t j = 1; j <= 64; j++)
			expect_event(sub[i], (uint64_t)j + 1, j, 0);
		assert_status(q_notify_recv(sub[i], NULL, 0), Q_ERR_EMPTY);
		q_notify_unsubscribe(sub[i]);
	}
	q_notify_destroy(nq);
}

static void flood(uint32_t capacity, NotifyPolicy policy)
{
	NotifyQueue *nq = make_notify(NULL);
	const NotifyHandle handle = handle_of(nq);
	NotifySubscription *sub = subscription(nq, handle, capacity, policy);
	const uint64_t kept = policy == Q_NOTIFY_COALESCE ? 1 : capacity, n = 100;
	const bool newest = policy == Q_NOTIFY_DROP_OLDEST || policy == Q_NOTIFY_COALESCE;
	const uint64_t first = newest ? n - kept + 1 : 1;

	for (uint64_t i = 1; i <= n; i++)
		assert_int_equal(post(nq, handle, (int64_t)i), newest || i <= kept ? 1 : 0);
	for (uint64_t i = 0; i < kept; i++)
		expect_event(sub, first + i, (int64_t)(first + i), i == 0 ? first - 1 : 0);
	if (policy == Q_NOTIFY_CLOSE) {
		assert_status(q_notify_recv(sub, NULL, 0), Q_ERR_LIMIT);
		assert_non_null(strstr(q_last_error(), "overflowed"));
		assert_int_equal(post(nq, handle, 1), 0);
		assert_status(q_notify_recv(sub, NULL, LONG_MS), Q_ERR_LIMIT);
	} else {
		assert_status(q_notify_recv(sub, NULL, 0), Q_ERR_EMPTY);
		assert_int_equal(post(nq, handle, 7), 1);
		expect_event(sub, n + 1, 7, newest ? 0 : n - kept);
		assert_int_equal(notify_stats(nq).dropped, n - kept);
	}
	q_notify_unsubscribe(sub);
	q_notify_destroy(nq);
}

static void a_full_subscription_does_what_its_policy_says(void **state)
{
	static const uint32_t capacity[] = { 1, 2, 3, 4, 5, 64, 65 };

	(void)state;
	for (unsigned c = 0; c < sizeof(capacity) / sizeof(capacity[0]); c++)
		for (int i = 0; i < 4; i++)
			flood(capacity[c], every_policy[i]);
}

static void what_was_lost_is_exact(void **state)
{
	NotifyQueue *nq = make_notify(NULL);
	const NotifyHandle handle = handle_of(nq);
	uint64_t random = 12345;

	(void)state;
	for (int policy = 0; policy < 3; policy++) {
		NotifySubscription *sub = subscription(nq, handle, 3, every_policy[policy]);
		const uint64_t from = key_of(nq, handle);
		uint64_t seen = 0, sequence = from;
		NotifyEvent event;

		for (int i = 0; i < 20000; i++) {
			random = random * UINT64_C(6364136223846793005) + 1;
			if (random >> 62 != 0) {
				post(nq, handle, i);
			} else if (q_notify_recv(sub, &event, 0) == Q_OK) {
				seen += 1 + event.lost;
				sequence += 1 + event.lost;
				assert_int_equal(event.sequence, sequence);
			}
		}
		while (q_notify_recv(sub, &event, 0) == Q_OK)
			seen += 1 + event.lost;
		post(nq, handle, 0); /* the last of what DROP_NEWEST dropped is told by the next */
		assert_status(q_notify_recv(sub, &event, 0), Q_OK);
		seen += 1 + event.lost;
		assert_int_equal(seen, key_of(nq, handle) - from);
		q_notify_unsubscribe(sub);
	}
	q_notify_destroy(nq);
}

static void without_an_event_receiving_says_empty_or_times_out(void **state)
{
	NotifyQueue *nq = make_notify(NULL);
	const NotifyHandle handle = handle_of(nq);
	NotifySubscription *sub = subscription(nq, handle, 0, Q_NOTIFY_DROP_OLDEST);

	(void)state;
	assert_status(q_notify_recv(sub, NULL, 0), Q_ERR_EMPTY);
	assert_status(q_notify_recv(sub, NULL, 5), Q_ERR_TIMEOUT);
	post(nq, handle, 1);
	assert_status(q_notify_recv(sub, NULL, 5), Q_OK);
	q_notify_unsubscribe(sub);
	q_notify_destroy(nq);
}

/* ---- threads --------------------------------------------------------------------------------- */

enum { EVENTS = 2000 };

struct receiver {
	NotifySubscription *sub;
	uint64_t received, lost, sum;
	QueueStatus status;
	pthread_t thread;
};

static void *receive_all(void *arg)
{
	struct receiver *r = arg;
	NotifyEvent event;

	while ((r->status = q_notify_recv(r->sub, &event, LONG_MS)) == Q_OK) {
		r->received++;
		r->lost += event.lost;
		r->sum += (uint64_t)event.arg;
	}
	return NULL;
}

static void start_receiving(struct receiver *r, NotifySubscription *sub)
{
	*r = (struct receiver){ .sub = sub };
	assert_int_equal(pthread_create(&r->thread, NULL, receive_all, r), 0);
}

static void receivers_of_one_subscription_get_each_event_once(void **state)
{
	NotifyQueue *nq = make_notify(NULL);
	const NotifyHandle handle = handle_of(nq);
	NotifySubscription *sub = subscription(nq, handle, EVENTS, Q_NOTIFY_CLOSE);
	struct receiver r[3];
	uint64_t n = 0, sum = 0;

	(void)state;
	for (int i = 0; i < 3; i++)
		start_receiving(&r[i], sub);
	post_many(nq, handle, 1, EVENTS);
	assert_status(q_notify_unregister(nq, handle), Q_OK);
	for (int i = 0; i < 3; i++) {
		pthread_join(r[i].thread, NULL);
		assert_status(r[i].status, Q_ERR_SHUTDOWN);
		assert_int_equal(r[i].lost, 0);
		n += r[i].received;
		sum += r[i].sum;
	}
	assert_int_equal(n, EVENTS);
	assert_int_equal(sum, (uint64_t)EVENTS * (EVENTS + 1) / 2);
	q_notify_unsubscribe(sub);
	q_notify_destroy(nq);
}

/* The older queue's sketch had a thread of its own for each wait. */
static void neither_a_wait_nor_a_descriptor_takes_a_thread(void **state)
{
	enum { SUBS = 8 };
	NotifyQueue *nq = make_notify(NULL);
	const NotifyHandle handle = handle_of(nq);
	const unsigned threads = threads_now();
	NotifySubscription *sub[SUBS];
	struct receiver r[SUBS];

	(void)state;
	for (int i = 0; i < SUBS; i++) {
		sub[i] = subscription(nq, handle, 4, Q_NOTIFY_DROP_OLDEST);
		assert_true(q_notify_fd(sub[i]) >= 0);
	}
	assert_int_equal(threads_now(), threads);
	for (int i = 0; i < SUBS; i++)
		start_receiving(&r[i], sub[i]);
	assert_int_equal(threads_now(), threads + SUBS); /* the test's */
	post(nq, handle, 1);
	assert_int_equal(threads_now(), threads + SUBS);
	assert_status(q_notify_unregister(nq, handle), Q_OK);
	for (int i = 0; i < SUBS; i++) {
		pthread_join(r[i].thread, NULL);
		assert_status(r[i].status, Q_ERR_SHUTDOWN);
		assert_int_equal(r[i].received, 1);
		q_notify_unsubscribe(sub[i]);
	}
	q_notify_destroy(nq);
}

static void three_subscriptions_get_all_of_five_posts_beside_waiters(void **state)
{
	NotifyQueue *nq = make_notify(NULL);
	const NotifyHandle handle = handle_of(nq);
	struct receiver r[3];
	struct waiting w[3];

	(void)state;
	for (int i = 0; i < 3; i++) {
		start_receiving(&r[i], subscription(nq, handle, 5, Q_NOTIFY_DROP_OLDEST));
		start_waiting(&w[i], nq, handle, 0);
	}
	post_many(nq, handle, 1, 5);
	assert_status(q_notify_unregister(nq, handle), Q_OK);
	for (int i = 0; i < 3; i++) {
		pthread_join(w[i].thread, NULL);
		/* A thread that came after the end finds the handle stale. */
		assert_true(w[i].status == Q_OK || w[i].status == Q_ERR_STALE);
		pthread_join(r[i].thread, NULL);
		assert_int_equal(r[i].received, 5);
		assert_int_equal(r[i].sum, 15);
		q_notify_unsubscribe(r[i].sub);
	}
	q_notify_destroy(nq);
}

/* ---- ends ------------------------------------------------------------------------------------ */

static void after_the_end_a_subscription_gives_what_it_holds(void **state)
{
	(void)state;
	for (int by_destroy = 0; by_destroy < 2; by_destroy++) {
		const size_t before = gq__alloc_live_bytes();
		NotifyQueue *nq = make_notify(NULL);
		const NotifyHandle handle = handle_of(nq);
		NotifySubscription *sub[4];

		for (int i = 0; i < 4; i++)
			sub[i] = subscription(nq, handle, 2, every_policy[i]);
		post_many(nq, handle, 8, 2);
		if (by_destroy)
			q_notify_destroy(nq);
		else
			assert_status(q_notify_unregister(nq, handle), Q_OK);
		for (int i = 0; i < 4; i++) {
			if (i != 2)
				expect_event(sub[i], 1, 8, 0);
			expect_event(sub[i], 2, 9, i == 2 ? 1 : 0);
			assert_status(q_notify_recv(sub[i], NULL, LONG_MS), Q_ERR_SHUTDOWN);
			assert_true(is_readable(q_notify_fd(sub[i])));
		}
		if (!by_destroy)
			q_notify_destroy(nq);
		for (int i = 0; i < 4; i++)
			q_notify_unsubscribe(sub[i]);
		assert_int_equal(gq__alloc_live_bytes(), before);
	}
}

static void a_dropped_subscription_frees_its_place(void **state)
{
	const NotifyConfig cfg = { .max_subscribers = 2 };
	NotifyQueue *nq = make_notify(&cfg);
	const NotifyHandle handle = handle_of(nq);
	NotifySubscription *stays = subscription(nq, handle, 1, Q_NOTIFY_DROP_OLDEST);

	(void)state;
	for (int i = 0; i < 2000; i++) {
		NotifySubscription *sub = subscription(nq, handle, 4, Q_NOTIFY_DROP_NEWEST);

		assert_int_equal(post(nq, handle, i), 2);
		q_notify_unsubscribe(sub);
		assert_int_equal(post(nq, handle, i), 1);
	}
	q_notify_unsubscribe(stays);
	assert_int_equal(post(nq, handle, 1), 0);
	q_notify_destroy(nq);
}

/* ---- descriptors ----------------------------------------------------------------------------- */

static void a_descriptor_is_readable_while_there_is_something(void **state)
{
	NotifyQueue *nq = make_notify(NULL);
	const NotifyHandle handle = handle_of(nq);
	NotifySubscription *sub = subscription(nq, handle, 4, Q_NOTIFY_DROP_OLDEST);
	const unsigned files = files_now();
	int fd;

	(void)state;
	post(nq, handle, 1); /* before there is a descriptor */
	fd = q_notify_fd(sub);
	assert_true(fd >= 0);
	assert_int_equal(q_notify_fd(sub), fd);
	assert_true(is_readable(fd));
	expect_event(sub, 1, 1, 0);
	assert_false(is_readable(fd));
	for (int round = 0; round < 20; round++) {
		const uint64_t base = (uint64_t)round * 3 + 1;

		post_many(nq, handle, 0, 3);
		assert_true(is_readable(fd)); /* level-triggered: for as long */
		assert_true(is_readable(fd));
		expect_event(sub, base + 1, 0, 0);
		expect_event(sub, base + 2, 1, 0);
		assert_true(is_readable(fd));
		expect_event(sub, base + 3, 2, 0);
		assert_false(is_readable(fd));
		assert_status(q_notify_recv(sub, NULL, 0), Q_ERR_EMPTY);
		assert_false(is_readable(fd));
	}
	q_notify_unsubscribe(sub);
	assert_int_equal(files_now(), files);
	q_notify_destroy(nq);
}

static void a_descriptor_written_in_vain_is_cleared_by_the_next_receive(void **state)
{
	const uint64_t one = 1;
	NotifyQueue *nq = make_notify(NULL);
	const NotifyHandle handle = handle_of(nq);
	NotifySubscription *sub = subscription(nq, handle, 4, Q_NOTIFY_DROP_OLDEST);
	const int fd = q_notify_fd(sub);

	(void)state;
	/* What a post does that stood still before its write while the event was taken. */
	assert_int_equal(write(fd, &one, sizeof(one)), sizeof(one));
	assert_status(q_notify_recv(sub, NULL, 0), Q_ERR_EMPTY);
	assert_false(is_readable(fd));
	post(nq, handle, 1);
	assert_true(is_readable(fd));
	/* The same with the note that it has been written, from before the last clearing. */
	expect_event(sub, 1, 1, 0);
	assert_int_equal(write(fd, &one, sizeof(one)), sizeof(one));
	post(nq, handle, 2);
	expect_event(sub, 2, 2, 0);
	assert_false(is_readable(fd));
	q_notify_unsubscribe(sub);
	q_notify_destroy(nq);
}

static void the_end_makes_descriptors_readable_for_good(void **state)
{
	NotifyQueue *nq = make_notify(NULL);
	const NotifyHandle handle = handle_of(nq);
	NotifySubscription *shut = subscription(nq, handle, 1, Q_NOTIFY_DROP_OLDEST);
	NotifySubscription *full = subscription(nq, handle, 1, Q_NOTIFY_CLOSE);
	const int shut_fd = q_notify_fd(shut), full_fd = q_notify_fd(full);

	(void)state;
	assert_false(is_readable(shut_fd) || is_readable(full_fd));
	post_many(nq, handle, 1, 2);
	expect_event(shut, 2, 2, 1);
	expect_event(full, 1, 1, 0);
	assert_false(is_readable(shut_fd));
	assert_status(q_notify_unregister(nq, handle), Q_OK);
	for (int i = 0; i < 3; i++) {
		assert_true(is_readable(shut_fd) && is_readable(full_fd));
		assert_status(q_notify_recv(shut, NULL, 0), Q_ERR_SHUTDOWN);
		assert_status(q_notify_recv(full, NULL, 0), Q_ERR_LIMIT);
	}
	q_notify_unsubscribe(shut);
	q_notify_unsubscribe(full);
	q_notify_destroy(nq);
}

static void one_post_makes_any_number_of_descriptors_readable(void **state)
{
	enum { MANY = 100 };
	NotifyQueue *nq = make_notify(NULL);
	const NotifyHandle handle = handle_of(nq);
	NotifySubscription *sub[MANY];

	(void)state;
	for (int i = 0; i < MANY; i++) {
		sub[i] = subscription(nq, handle, 1, every_policy[i % 3]);
		assert_true(i % 2 != 0 || q_notify_fd(sub[i]) >= 0);
	}
	for (int round = 0; round < 3; round++) {
		assert_int_equal(post(nq, handle, round), MANY);
		for (int i = 0; i < MANY; i++) {
			assert_true(i % 2 != 0 || is_readable(q_notify_fd(sub[i])));
			expect_event(sub[i], (uint64_t)round + 1, round, 0);
			assert_true(i % 2 != 0 || !is_readable(q_notify_fd(sub[i])));
		}
	}
	for (int i = 0; i < MANY; i++)
		q_notify_unsubscribe(sub[(i + 50) % MANY]);
	q_notify_destroy(nq);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_event_comes_in_order),
		cmocka_unit_test(a_full_subscription_does_what_its_policy_says),
		cmocka_unit_test(what_was_lost_is_exact),
		cmocka_unit_test(without_an_event_receiving_says_empty_or_times_out),
		cmocka_unit_test(receivers_of_one_subscription_get_each_event_once),
		cmocka_unit_test(neither_a_wait_nor_a_descriptor_takes_a_thread),
		cmocka_unit_test(three_subscriptions_get_all_of_five_posts_beside_waiters),
		cmocka_unit_test(after_the_end_a_subscription_gives_what_it_holds),
		cmocka_unit_test(a_dropped_subscription_frees_its_place),
		cmocka_unit_test(a_descriptor_is_readable_while_there_is_something),
		cmocka_unit_test(a_descriptor_written_in_vain_is_cleared_by_the_next_receive),
		cmocka_unit_test(the_end_makes_descriptors_readable_for_good),
		cmocka_unit_test(one_post_makes_any_number_of_descriptors_readable),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
