/* SPDX-License-Identifier: Apache-2.0 */
/* test_notify.c - notification queues: handles, posts, compare and wait, limits, lives. */
#include "notify_support.h"

#include "child.h"
#include "host/base/sanitize.h"
#include "host/notify/state.h"

#include <malloc.h>

static const int64_t any_arg[] = { 0, 42, -1, 12345, -9999, INT64_MAX, INT64_MIN };
enum { ANY_ARGS = sizeof(any_arg) / sizeof(any_arg[0]) };

/* ---- compare and wait ------------------------------------------------------------------------ */

static void a_wait_returns_what_was_posted(void **state)
{
	NotifyQueue *nq = make_notify(NULL);
	const NotifyHandle handle = handle_of(nq);
	struct waiting w;

	(void)state;
	start_waiting(&w, nq, handle, key_of(nq, handle));
	await_waiters(nq, 1);
	assert_int_equal(post(nq, handle, 42), 1);
	pthread_join(w.thread, NULL);
	assert_status(w.status, Q_OK);
	assert_int_equal(w.event.handle, handle);
	assert_int_equal(w.event.arg, 42);
	assert_int_equal(w.event.sequence, 1);
	assert_int_equal(w.event.lost, 0);
	assert_int_equal(post(nq, handle, 43), 0);
	q_notify_destroy(nq);
}

static void a_post_before_the_wait_is_not_lost(void **state)
{
	NotifyQueue *nq = make_notify(NULL);
	const NotifyHandle handle = handle_of(nq);
	const uint64_t key = key_of(nq, handle);
	NotifyEvent event;

	(void)state;
	assert_int_equal(post(nq, handle, 5), 0);
	assert_status(q_notify_wait(nq, handle, key, &event, UINT32_MAX), Q_OK);
	assert_int_equal(event.arg, 5);
	/* The event's sequence is the next key. */
	assert_status(q_notify_wait(nq, handle, event.sequence, &event, 0), Q_ERR_EMPTY);
	q_notify_destroy(nq);
}

static void lost_says_how_many_posts_came_in_between(void **state)
{
	NotifyQueue *nq = make_notify(NULL);
	const NotifyHandle handle = handle_of(nq);
	NotifyEvent event;

	(void)state;
	post_many(nq, handle, 10, 7);
	assert_status(q_notify_wait(nq, handle, 2, &event, 0), Q_OK);
	assert_int_equal(event.sequence, 7);
	assert_int_equal(event.arg, 16);
	assert_int_equal(event.lost, 4); /* the third to the sixth */
	assert_status(q_notify_wait(nq, handle, 0, NULL, 0), Q_OK);
	q_notify_destroy(nq);
}

static void without_a_post_a_wait_says_empty_or_times_out(void **state)
{
	NotifyQueue *nq = make_notify(NULL);
	const NotifyHandle handle = handle_of(nq);
	NotifyEvent event = { .arg = 9 };

	(void)state;
	assert_status(q_notify_wait(nq, handle, 0, &event, 0), Q_ERR_EMPTY);
	assert_status(q_notify_wait(nq, handle, 0, &event, 5), Q_ERR_TIMEOUT);
	assert_int_equal(event.arg, 9);
	assert_int_equal(notify_stats(nq).waiters, 0);
	q_notify_destroy(nq);
}

static void a_key_beyond_the_sequence_is_refused(void **state)
{
	NotifyQueue *nq = make_notify(NULL);
	const NotifyHandle handle = handle_of(nq);

	(void)state;
	post(nq, handle, 1);
	assert_status(q_notify_wait(nq, handle, 2, NULL, 0), Q_ERR_INVALID_ARG);
	assert_non_null(strstr(q_last_error(), "key is 2; allowed: up to 1"));
	q_notify_destroy(nq);
}

static void one_post_releases_every_waiter_and_says_how_many(void **state)
{
	NotifyQueue *nq = make_notify(NULL);
	const NotifyHandle handle = handle_of(nq);
	NotifySubscription *sub = subscription(nq, handle, 1, Q_NOTIFY_DROP_OLDEST);
	struct waiting w[3];

	(void)state;
	for (int i = 0; i < 3; i++)
		start_waiting(&w[i], nq, handle, 0);
	await_waiters(nq, 3);
	assert_int_equal(post(nq, handle, 123), 4);
	/* Those on their way out are reached once only. */
	assert_int_equal(post(nq, handle, 124), 1);
	for (int i = 0; i < 3; i++) {
		pthread_join(w[i].thread, NULL);
		assert_status(w[i].status, Q_OK);
		assert_true(w[i].event.arg == 123 || w[i].event.arg == 124);
		assert_int_equal(w[i].event.lost, w[i].event.arg - 123);
	}
	expect_event(sub, 2, 124, 1);
	assert_int_equal(notify_stats(nq).reached, 5);
	assert_int_equal(notify_stats(nq).posts, 2);
	q_notify_unsubscribe(sub);
	q_notify_destroy(nq);
}

static void every_argument_is_legal(void **state)
{
	NotifyQueue *nq = make_notify(NULL);
	const NotifyHandle handle = handle_of(nq);
	NotifySubscription *sub = subscription(nq, handle, 0, Q_NOTIFY_DROP_OLDEST);
	NotifyEvent event;

	(void)state;
	for (unsigned i = 0; i < ANY_ARGS; i++) {
		post(nq, handle, any_arg[i]);
		assert_status(q_notify_wait(nq, handle, i, &event, 0), Q_OK);
		assert_true(event.arg == any_arg[i]);
		expect_event(sub, i + 1, any_arg[i], 0);
	}
	/* None of them ends anything. */
	assert_status(q_notify_recv(sub, NULL, 0), Q_ERR_EMPTY);
	q_notify_unsubscribe(sub);
	q_notify_destroy(nq);
}

static void a_post_publishes_what_was_written_before(void **state)
{
	NotifyQueue *nq = make_notify(NULL);
	const NotifyHandle handle = handle_of(nq);
	struct waiting w;

	(void)state;
	for (uint64_t i = 0; i < 200; i++) {
		start_waiting(&w, nq, handle, i);
		post(nq, handle, (int64_t)i);
		pthread_join(w.thread, NULL);
		assert_status(w.status, Q_OK);
		assert_int_equal(w.event.arg, i);
	}
	q_notify_destroy(nq);
}

/* ---- the end of a handle --------------------------------------------------------------------- */

static void unregistering_wakes_every_waiter(void **state)
{
	NotifyQueue *nq = make_notify(NULL);
	const NotifyHandle handle = handle_of(nq);
	struct waiting w[3];

	(void)state;
	for (int i = 0; i < 3; i++)
		start_waiting(&w[i], nq, handle, 0);
	await_waiters(nq, 3);
	assert_status(q_notify_unregister(nq, handle), Q_OK);
	for (int i = 0; i < 3; i++) {
		pthread_join(w[i].thread, NULL);
		assert_status(w[i].status, Q_ERR_SHUTDOWN);
	}
	q_notify_destroy(nq);
}

static void what_was_posted_before_the_end_is_not_lost(void **state)
{
	NotifyQueue *nq = make_notify(NULL);

	(void)state;
	for (int i = 0; i < 100; i++) {
		const NotifyHandle handle = handle_of(nq);
		struct waiting w;

		start_waiting(&w, nq, handle, 0);
		await_waiters(nq, 1);
		post(nq, handle, -1);
		assert_status(q_notify_unregister(nq, handle), Q_OK);
		pthread_join(w.thread, NULL);
		assert_status(w.status, Q_OK);
		assert_int_equal(w.event.arg, -1);
	}
	q_notify_destroy(nq);
}

static void expect_stale(NotifyQueue *nq, NotifyHandle handle)
{
	NotifySubscription *sub;
	uint64_t key;

	assert_status(q_notify_post(nq, handle, 1, NULL), Q_ERR_STALE);
	assert_status(q_notify_observe(nq, handle, &key), Q_ERR_STALE);
	assert_status(q_notify_wait(nq, handle, 0, NULL, 0), Q_ERR_STALE);
	assert_status(q_notify_wait(nq, handle, 0, NULL, UINT32_MAX), Q_ERR_STALE);
	assert_status(q_notify_unregister(nq, handle), Q_ERR_STALE);
	assert_status(q_notify_subscribe(nq, handle, 1, Q_NOTIFY_CLOSE, &sub), Q_ERR_STALE);
}

static void a_stale_handle_stays_stale_and_reaches_nobody(void **state)
{
	const NotifyConfig cfg = { .max_handles = 1 };
	NotifyQueue *nq = make_notify(&cfg);
	NotifyHandle old[200];

	(void)state;
	for (int i = 0; i < 200; i++) { /* each place has several lives */
		NotifySubscription *sub;

		old[i] = handle_of(nq);
		sub = subscription(nq, old[i], 4, Q_NOTIFY_DROP_OLDEST);
		for (int j = 0; j < i; j++)
			expect_stale(nq, old[j]);
		assert_int_equal(key_of(nq, old[i]), 0);
		assert_status(q_notify_recv(sub, NULL, 0), Q_ERR_EMPTY);
		assert_int_equal(post(nq, old[i], i), 1);
		expect_event(sub, 1, i, 0);
		assert_status(q_notify_unregister(nq, old[i]), Q_OK);
		q_notify_unsubscribe(sub);
	}
	q_notify_destroy(nq);
}

static void no_handle_comes_twice_even_after_four_billion_lives(void **state)
{
	const NotifyConfig cfg = { .max_handles = 1 };
	NotifyQueue *nq = make_notify(&cfg);
	const NotifyHandle first = handle_of(nq);
	NotifyHandle last, other;

	(void)state;
	assert_status(q_notify_unregister(nq, first), Q_OK);
	for (uint32_t i = 0; i < nq->n_places; i++) /* as if each had had all lives but one */
		nq->places[i].life = (uint64_t)(UINT32_MAX - 1) << 2 | GQ_NOTIFY_ENDED;
	for (uint32_t i = 0; i < nq->n_places; i++) {
		last = handle_of(nq);
		assert_int_equal(last >> 32, UINT32_MAX);
		assert_status(q_notify_unregister(nq, last), Q_OK);
		expect_stale(nq, last);
	}
	assert_status(q_notify_register(nq, NULL, &other), Q_ERR_LIMIT);
	assert_non_null(strstr(q_last_error(), "2^32 times"));
	q_notify_destroy(nq);
}

static void no_handle_at_all_is_an_invalid_argument(void **state)
{
	NotifyQueue *nq = make_notify(NULL);

	(void)state;
	assert_status(q_notify_post(nq, 0, 1, NULL), Q_ERR_INVALID_ARG);
	assert_status(q_notify_wait(nq, 0, 0, NULL, 0), Q_ERR_INVALID_ARG);
	assert_status(q_notify_unregister(nq, 0), Q_ERR_INVALID_ARG);
	expect_stale(nq, UINT64_C(1) << 32 | 5);
	expect_stale(nq, UINT64_C(1) << 32 | UINT32_MAX);
	expect_stale(nq, UINT64_MAX);
	q_notify_destroy(nq);
}

static void a_place_is_not_used_again_while_a_thread_is_inside(void **state)
{
	const NotifyConfig cfg = { .max_handles = 1 };
	NotifyQueue *nq = make_notify(&cfg);
	NotifyHandle handle = handle_of(nq), next;
	struct gq_notify_place *p = &nq->places[(uint32_t)handle];

	(void)state;
	p->inside++; /* a thread that has not come back from its wait */
	assert_status(q_notify_unregister(nq, handle), Q_OK);
	for (uint32_t i = 0; i < 3 * nq->n_places; i++) {
		next = handle_of(nq);
		assert_true((uint32_t)next != (uint32_t)handle);
		assert_status(q_notify_unregister(nq, next), Q_OK);
	}
	/* Threads inside all of them: then, and only then, there is no place. */
	for (uint32_t i = 1; i < nq->n_places; i++) {
		next = handle_of(nq);
		nq->places[(uint32_t)next].inside++;
		assert_status(q_notify_unregister(nq, next), Q_OK);
	}
	assert_status(q_notify_register(nq, NULL, &next), Q_ERR_LIMIT);
	assert_non_null(strstr(q_last_error(), "come back"));
	p->inside--;
	next = handle_of(nq);
	assert_int_equal((uint32_t)next, (uint32_t)handle);
	assert_status(q_notify_unregister(nq, next), Q_OK);
	q_notify_destroy(nq);
}

/* ---- limits ---------------------------------------------------------------------------------- */

static void timed_out_waiters_leave_their_places(void **state)
{
	const NotifyConfig cfg = { .max_waiters = 1 };
	NotifyQueue *nq = make_notify(&cfg);
	const NotifyHandle handle = handle_of(nq);

	(void)state;
	for (int i = 0; i < 1100; i++)
		assert_status(q_notify_wait(nq, handle, 0, NULL, 1), Q_ERR_TIMEOUT);
	assert_int_equal(notify_stats(nq).waiters, 0);
	q_notify_destroy(nq);
}

static void a_cancelled_waiter_leaves_its_place(void **state)
{
	const NotifyConfig cfg = { .max_waiters = 1 };
	NotifyQueue *nq = make_notify(&cfg);
	const NotifyHandle handle = handle_of(nq);

	(void)state;
	for (int i = 0; i < 3; i++) {
		struct waiting w = { nq, handle, 0, 50, Q_OK, { 0 }, 0 };

		assert_int_equal(pthread_create(&w.thread, NULL, wait_in_thread, &w), 0);
		await_waiters(nq, 1);
		pthread_cancel(w.thread);
		pthread_join(w.thread, NULL);
		assert_int_equal(notify_stats(nq).waiters, 0);
	}
	q_notify_destroy(nq);
}

static void each_limit_has_its_own_sentence_and_changes_nothing(void **state)
{
	const NotifyConfig cfg = { .max_handles = 2, .max_waiters = 1, .max_subscribers = 1 };
	NotifyQueue *nq = make_notify(&cfg);
	const NotifyHandle a = handle_of(nq), b = handle_of(nq);
	NotifySubscription *sub = subscription(nq, a, 1, Q_NOTIFY_DROP_OLDEST), *other = NULL;
	NotifyStats before, after;
	struct waiting w;
	NotifyHandle c;

	(void)state;
	start_waiting(&w, nq, b, 0);
	await_waiters(nq, 1);
	before = notify_stats(nq);
	assert_status(q_notify_register(nq, NULL, &c), Q_ERR_LIMIT);
	assert_string_equal(q_last_error(), "max_handles is 2: as many are registered");
	assert_status(q_notify_wait(nq, b, 0, NULL, 1000), Q_ERR_LIMIT);
	assert_string_equal(q_last_error(),
			    "max_waiters is 1: as many threads wait on this handle");
	assert_status(q_notify_subscribe(nq, a, 1, Q_NOTIFY_CLOSE, &other), Q_ERR_LIMIT);
	assert_string_equal(q_last_error(), "max_subscribers is 1: the handle has as many");
	assert_null(other);
	after = notify_stats(nq);
	assert_memory_equal(&before, &after, sizeof(before));
	post(nq, b, 1);
	pthread_join(w.thread, NULL);
	q_notify_unsubscribe(sub);
	sub = subscription(nq, a, 1, Q_NOTIFY_CLOSE);
	q_notify_unsubscribe(sub);
	q_notify_destroy(nq);
}

static void memory_is_bounded_and_comes_back(void **state)
{
	const size_t before = gq__alloc_live_bytes();
	const NotifyConfig cfg = { .max_handles = 1, .max_bytes = 200000 };
	NotifyQueue *nq = make_notify(&cfg);
	const NotifyHandle handle = handle_of(nq);
	const uint64_t empty = notify_stats(nq).bytes;
	NotifySubscription *sub[100], *other;
	unsigned n = 0;
	size_t full;

	(void)state;
	while (n < 100 && q_notify_subscribe(nq, handle, 1000, Q_NOTIFY_CLOSE, &sub[n]) == Q_OK)
		n++;
	assert_in_range(n, 5, 99);
	assert_non_null(strstr(q_last_error(), "max_bytes is 200000: the subscription takes"));
	assert_true(notify_stats(nq).bytes <= 200000);
	full = gq__alloc_live_bytes();
	for (int i = 0; i < 1000; i++) /* refused calls, and a place given back, keep nothing */
		assert_status(q_notify_subscribe(nq, handle, 60000, Q_NOTIFY_CLOSE, &other),
			      Q_ERR_LIMIT);
	for (int i = 0; i < 1000; i++) {
		q_notify_unsubscribe(sub[0]);
		sub[0] = subscription(nq, handle, 1000, Q_NOTIFY_CLOSE);
	}
	assert_int_equal(gq__alloc_live_bytes(), full);
	while (n != 0)
		q_notify_unsubscribe(sub[--n]);
	assert_int_equal(notify_stats(nq).bytes, empty);
	q_notify_destroy(nq);
	assert_int_equal(gq__alloc_live_bytes(), before);
}

/* ---- posts wait for nobody ------------------------------------------------------------------- */

static void a_post_takes_no_lock_that_a_client_can_hold(void **state)
{
	NotifyQueue *nq = make_notify(NULL);
	const NotifyHandle handle = handle_of(nq);
	NotifySubscription *sub = subscription(nq, handle, 2, Q_NOTIFY_DROP_OLDEST);

	(void)state;
	assert_true(q_notify_fd(sub) >= 0);
	/* A thread that stands still while it receives, and one while it subscribes. */
	pthread_mutex_lock(&sub->lock);
	pthread_mutex_lock(&nq->lock);
	post_many(nq, handle, 1, 100);
	pthread_mutex_unlock(&nq->lock);
	pthread_mutex_unlock(&sub->lock);
	expect_event(sub, 99, 99, 98);
	expect_event(sub, 100, 100, 0);
	q_notify_unsubscribe(sub);
	q_notify_destroy(nq);
}

/* How often this process has called malloc(), which what is freed again does not show by. */
static uint64_t mallocs;

#if !GQ_ASAN && !GQ_TSAN
extern void *__libc_malloc(size_t bytes); /* NOLINT(bugprone-reserved-identifier): glibc's */

void *malloc(size_t bytes)
{
	gq_fetch_add_relaxed_u64(&mallocs, 1);
	return __libc_malloc(bytes);
}
#endif

static void a_post_allocates_nothing(void **state)
{
	uint64_t calls;
	NotifyQueue *nq = make_notify(NULL);
	const NotifyHandle handle = handle_of(nq);
	NotifySubscription *sub[40];
	struct waiting w;
	size_t heap;

	(void)state;
	for (int i = 0; i < 40; i++) {
		sub[i] = subscription(nq, handle, 2, (NotifyPolicy)(i % 4));
		assert_true(q_notify_fd(sub[i]) >= 0);
	}
	start_waiting(&w, nq, handle, 0);
	await_waiters(nq, 1);
	heap = mallinfo2().uordblks;
	calls = gq_load_relaxed_u64(&mallocs);
	gq__fault_set(1); /* the next to ask for memory, or a descriptor, or a thread, gets none */
	post_many(nq, handle, 1, 1000);
	assert_true(gq__fault()); /* nobody has asked */
	assert_int_equal(gq_load_relaxed_u64(&mallocs), calls);
	assert_int_equal(mallinfo2().uordblks, heap);
	pthread_join(w.thread, NULL);
	for (int i = 0; i < 40; i++)
		q_notify_unsubscribe(sub[i]);
	q_notify_destroy(nq);
}

/* ---- wraps, forks, faults, configurations ---------------------------------------------------- */

static void sequences_and_positions_may_wrap_anywhere(void **state)
{
	static const uint64_t start[] = { 0, UINT32_MAX - 3, (UINT64_C(1) << 63) - 3,
					  UINT64_MAX - 3 };

	(void)state;
	for (unsigned s = 0; s < 4; s++) {
		NotifySubscription *sub;
		NotifyHandle handle;
		NotifyQueue *nq;
		NotifyEvent event;

		gq__start_pos = start[s];
		nq = make_notify(NULL);
		gq__start_pos = 1;
		for (int life = 0; life < 2; life++) {
			handle = handle_of(nq);
			sub = subscription(nq, handle, 2, Q_NOTIFY_DROP_OLDEST);
			assert_int_equal(key_of(nq, handle), 0);
			for (uint64_t i = 1; i <= 12; i++) {
				post(nq, handle, (int64_t)i);
				assert_status(q_notify_wait(nq, handle, i - 1, &event, 0), Q_OK);
				assert_int_equal(event.sequence, i);
				assert_int_equal(event.arg, i);
				assert_int_equal(event.lost, 0);
				if (i % 3 == 0)
					expect_event(sub, i - 1, (int64_t)i - 1, 1);
				if (i % 3 == 0)
					expect_event(sub, i, (int64_t)i, 0);
			}
			assert_status(q_notify_unregister(nq, handle), Q_OK);
			q_notify_unsubscribe(sub);
		}
		q_notify_destroy(nq);
	}
}

static void a_forked_child_is_told_so_and_the_parent_is_unharmed(void **state)
{
	NotifyQueue *nq = make_notify(NULL);
	const NotifyHandle handle = handle_of(nq);
	NotifySubscription *sub = subscription(nq, handle, 4, Q_NOTIFY_DROP_OLDEST);
	NotifyQueue *own;
	uint64_t key;

	(void)state;
	in_child({
		need(q_notify_post(nq, handle, 1, NULL) == Q_ERR_UNSUPPORTED);
		need(strstr(q_last_error(), "fork()") != NULL);
		need(q_notify_wait(nq, handle, 0, NULL, UINT32_MAX) == Q_ERR_UNSUPPORTED);
		need(q_notify_observe(nq, handle, &key) == Q_ERR_UNSUPPORTED);
		need(q_notify_recv(sub, NULL, UINT32_MAX) == Q_ERR_UNSUPPORTED);
		need(q_notify_fd(sub) == -1);
		q_notify_unsubscribe(sub);
		q_notify_destroy(nq);
		need(q_notify_create(NULL, &own) == Q_OK);
		q_notify_destroy(own);
	});
	assert_int_equal(post(nq, handle, 3), 1);
	expect_event(sub, 1, 3, 0);
	q_notify_unsubscribe(sub);
	q_notify_destroy(nq);
}

static void every_resource_may_fail(void **state)
{
	const size_t before = gq__alloc_live_bytes();
	const unsigned files = files_now();

	(void)state;
	for (unsigned n = 1; n < 20; n++) {
		NotifySubscription *sub = NULL;
		NotifyQueue *nq = NULL;
		NotifyHandle handle;

		gq__fault_set(n);
		if (q_notify_create(NULL, &nq) == Q_OK) {
			handle = handle_of(nq);
			if (q_notify_subscribe(nq, handle, 9, Q_NOTIFY_CLOSE, &sub) == Q_OK) {
				if (q_notify_fd(sub) < 0)
					assert_non_null(strstr(q_last_error(), "eventfd"));
				assert_int_equal(post(nq, handle, 1), 1);
			} else {
				assert_non_null(strstr(q_last_error(), "out of memory"));
				assert_int_equal(post(nq, handle, 1), 0);
			}
		}
		gq__fault_set(0);
		q_notify_unsubscribe(sub);
		q_notify_destroy(nq);
		assert_int_equal(gq__alloc_live_bytes(), before);
		assert_int_equal(files_now(), files);
	}
}

static void every_wrong_call_is_refused_by_name(void **state)
{
	static const struct {
		NotifyConfig cfg;
		const char *words;
	} wrong[] = {
		{ { .max_handles = 65537 }, "max_handles is 65537; allowed: 1 to 65536" },
		{ { .max_waiters = (1u << 20) + 1 }, "max_waiters is 1048577" },
		{ { .max_subscribers = 65537 }, "max_subscribers is 65537" },
		{ { .flags = 4 }, "flags is 0x4; allowed: 0" },
		{ { .max_bytes = 1 }, "max_bytes is 1; allowed: at least" },
		{ { .reserved = { 0, 0, 7, 0 } }, "reserved[2] is 7; allowed: 0" },
	};
	NotifySubscription *sub;
	NotifyQueue *nq = NULL;
	NotifyHandle handle;
	size_t n = 5;

	(void)state;
	for (unsigned i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		assert_status(q_notify_create(&wrong[i].cfg, &nq), Q_ERR_INVALID_ARG);
		if (strstr(q_last_error(), wrong[i].words) == NULL)
			fail_msg("'%s' has no '%s'", q_last_error(), wrong[i].words);
	}
	assert_null(nq);
	assert_status(q_notify_create(NULL, NULL), Q_ERR_INVALID_ARG);
	nq = make_notify(NULL);
	handle = handle_of(nq);
	assert_status(q_notify_register(nq, "x", NULL), Q_ERR_INVALID_ARG);
	assert_status(q_notify_register(NULL, "x", &handle), Q_ERR_INVALID_ARG);
	assert_status(q_notify_observe(nq, handle, NULL), Q_ERR_INVALID_ARG);
	assert_status(q_notify_subscribe(nq, handle, 65537, Q_NOTIFY_CLOSE, &sub),
		      Q_ERR_INVALID_ARG);
	assert_non_null(strstr(q_last_error(), "capacity is 65537; allowed: 1 to 65536"));
	assert_status(q_notify_subscribe(nq, handle, 1, (NotifyPolicy)4, &sub), Q_ERR_INVALID_ARG);
	assert_non_null(strstr(q_last_error(), "policy is 4"));
	assert_status(q_notify_subscribe(nq, handle, 1, Q_NOTIFY_CLOSE, NULL), Q_ERR_INVALID_ARG);
	assert_status(q_notify_recv(NULL, NULL, 0), Q_ERR_INVALID_ARG);
	assert_int_equal(q_notify_fd(NULL), -1);
	assert_status(q_notify_stats(nq, NULL), Q_ERR_INVALID_ARG);
	assert_status(q_notify_snapshot(nq, NULL, 1, &n), Q_ERR_INVALID_ARG);
	assert_int_equal(n, 0);
	assert_status(q_notify_snapshot(nq, NULL, 0, NULL), Q_ERR_INVALID_ARG);
	n = 5;
	assert_status(q_notify_post(nq, 0, 1, &n), Q_ERR_INVALID_ARG);
	assert_int_equal(n, 0);
	q_notify_destroy(NULL);
	q_notify_unsubscribe(NULL);
	q_notify_destroy(nq);
}

/* ---- what there is --------------------------------------------------------------------------- */

static void a_snapshot_says_what_each_handle_is(void **state)
{
	NotifyQueue *nq = make_notify(NULL);
	const uint64_t began_ns = gq__now_ns();
	NotifyHandle a, b, gone;
	NotifyHandleInfo info[3];
	NotifySubscription *sub;
	char hint[200];
	struct waiting w;
	size_t n;

	(void)state;
	memset(hint, 'h', sizeof(hint));
	hint[199] = '\0';
	assert_status(q_notify_register(nq, hint, &a), Q_OK);
	assert_status(q_notify_register(nq, "gone", &gone), Q_OK);
	assert_status(q_notify_register(nq, NULL, &b), Q_OK);
	assert_status(q_notify_unregister(nq, gone), Q_OK);
	sub = subscription(nq, a, 1, Q_NOTIFY_DROP_NEWEST);
	post_many(nq, a, -7, 3);
	start_waiting(&w, nq, a, 3);
	await_waiters(nq, 1);

	assert_status(q_notify_snapshot(nq, info, 1, &n), Q_OK);
	assert_int_equal(n, 2); /* all, though there was room for one */
	assert_status(q_notify_snapshot(nq, info, 3, &n), Q_OK);
	assert_int_equal(n, 2);
	assert_int_equal(info[0].handle, a);
	assert_int_equal(info[0].sequence, 3);
	assert_int_equal(info[0].last_arg, -5);
	assert_int_equal(info[0].reached, 1);
	assert_int_equal(info[0].dropped, 2);
	assert_int_equal(info[0].waiters, 1);
	assert_int_equal(info[0].subscriptions, 1);
	assert_in_range(info[0].waiting_since_ns, began_ns, gq__now_ns());
	assert_int_equal(strlen(info[0].hint), 63);
	assert_int_equal(info[1].handle, b);
	assert_int_equal(info[1].sequence, 0);
	assert_int_equal(info[1].last_arg, 0);
	assert_int_equal(info[1].waiting_since_ns, 0);
	assert_string_equal(info[1].hint, "");
	post(nq, a, 0);
	pthread_join(w.thread, NULL);

	assert_status(q_notify_unregister(nq, a), Q_OK);
	assert_int_equal(notify_stats(nq).handles, 1);
	assert_int_equal(notify_stats(nq).registered, 3);
	assert_int_equal(notify_stats(nq).posts, 4); /* also of handles that are gone */
	assert_int_equal(notify_stats(nq).reached, 2);
	assert_int_equal(notify_stats(nq).dropped, 3);
	assert_int_equal(notify_stats(nq).subscriptions, 0);
	q_notify_unsubscribe(sub);
	q_notify_destroy(nq);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_wait_returns_what_was_posted),
		cmocka_unit_test(a_post_before_the_wait_is_not_lost),
		cmocka_unit_test(lost_says_how_many_posts_came_in_between),
		cmocka_unit_test(without_a_post_a_wait_says_empty_or_times_out),
		cmocka_unit_test(a_key_beyond_the_sequence_is_refused),
		cmocka_unit_test(one_post_releases_every_waiter_and_says_how_many),
		cmocka_unit_test(every_argument_is_legal),
		cmocka_unit_test(a_post_publishes_what_was_written_before),
		cmocka_unit_test(unregistering_wakes_every_waiter),
		cmocka_unit_test(what_was_posted_before_the_end_is_not_lost),
		cmocka_unit_test(a_stale_handle_stays_stale_and_reaches_nobody),
		cmocka_unit_test(no_handle_comes_twice_even_after_four_billion_lives),
		cmocka_unit_test(no_handle_at_all_is_an_invalid_argument),
		cmocka_unit_test(a_place_is_not_used_again_while_a_thread_is_inside),
		cmocka_unit_test(timed_out_waiters_leave_their_places),
		cmocka_unit_test(a_cancelled_waiter_leaves_its_place),
		cmocka_unit_test(each_limit_has_its_own_sentence_and_changes_nothing),
		cmocka_unit_test(memory_is_bounded_and_comes_back),
		cmocka_unit_test(a_post_takes_no_lock_that_a_client_can_hold),
		cmocka_unit_test(a_post_allocates_nothing),
		cmocka_unit_test(sequences_and_positions_may_wrap_anywhere),
		cmocka_unit_test(a_forked_child_is_told_so_and_the_parent_is_unharmed),
		cmocka_unit_test(every_resource_may_fail),
		cmocka_unit_test(every_wrong_call_is_refused_by_name),
		cmocka_unit_test(a_snapshot_says_what_each_handle_is),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
