/* SPDX-License-Identifier: Apache-2.0 */
/* test_hooks.c - completions as events of subscriptions, and as calls of hooks. */
#include "support.h"

#include "child.h"
#include "host/base/fault.h"
#include "host/queue/tell.h"

#include <gpuq/notify.h>

#include <inttypes.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- short calls ----------------------------------------------------------------------------- */

static NotifySubscription *subscribed(GpuQueue *q, const CompletionFilter *filter,
				      uint32_t capacity, NotifyPolicy policy)
{
	NotifySubscription *sub = NULL;

	if (q_subscribe(q, filter, capacity, policy, &sub) != Q_OK)
		fail_msg("q_subscribe: %s", q_last_error());
	return sub;
}

static void expect_id(NotifySubscription *sub, uint64_t id)
{
	NotifyEvent event;

	if (q_notify_recv(sub, &event, LONG_MS) != Q_OK)
		fail_msg("q_notify_recv: %s", q_last_error());
	assert_int_equal((uint64_t)event.arg, id);
}

static uint64_t send_tagged(GpuQueue *q, uint64_t tag, QueuePriority priority)
{
	const EnqueueOptions options = { .priority = priority, .tag = tag };

	return send_with(q, &options, "x", 1);
}

static void finish_and_release(GpuQueue *q, uint64_t id)
{
	assert_status(q_wait(q, id, LONG_MS), Q_OK);
	assert_status(q_release(q, id), Q_OK);
}

/* What a hook has seen. Written by the hooks' thread alone; the count is atomic. */
struct seen {
	GpuQueue *q;
	uint32_t count; /* atomic */
	uint64_t ids[64], tags[64];
	QueueStatus status[64];
	uint32_t nap_ms;
	uint32_t hold;   /* atomic: the hook does not return */
	uint64_t remove; /* atomic: the hook removes this hook, once */
	QueueStatus removed;
	bool take, shut;
};

static void see(const Completion *c, void *user)
{
	struct seen *s = user;
	const uint32_t n = __atomic_load_n(&s->count, __ATOMIC_RELAXED);
	const uint64_t remove = __atomic_exchange_n(&s->remove, 0, __ATOMIC_ACQUIRE);
	char buf[64];
	size_t len = sizeof(buf);

	if (n < 64) {
		s->ids[n] = c->msg_id;
		s->tags[n] = c->tag;
		s->status[n] = c->status;
	}
	if (s->nap_ms != 0)
		nap_ms(s->nap_ms);
	while (__atomic_load_n(&s->hold, __ATOMIC_ACQUIRE) != 0)
		nap_ms(1);
	if (s->take && q_try_dequeue_result(s->q, c->msg_id, buf, &len) != Q_OK)
		s->removed = Q_ERR_FAILED;
	if (remove != 0)
		s->removed = q_remove_hook(s->q, remove);
	if (s->shut)
		q_shutdown(s->q); /* which must do nothing */
	__atomic_store_n(&s->count, n + 1, __ATOMIC_RELEASE);
}

static uint32_t count_of(const struct seen *s)
{
	return __atomic_load_n(&s->count, __ATOMIC_ACQUIRE);
}

static void await_count(const struct seen *s, uint32_t n)
{
	for (uint32_t ms = 0; count_of(s) < n; ms++) {
		assert_in_range(ms, 0, LONG_MS);
		nap_ms(1);
	}
}

static uint64_t hooked(GpuQueue *q, const CompletionFilter *filter, struct seen *s)
{
	uint64_t hook = 0;

	s->q = q;
	if (q_on_completion(q, filter, see, s, &hook) != Q_OK)
		fail_msg("q_on_completion: %s", q_last_error());
	assert_true(hook != 0);
	return hook;
}

/* The log, which several threads write. */
static pthread_mutex_t log_lock = PTHREAD_MUTEX_INITIALIZER;
static char logged[4096];

static void keep_log(int level, const char *text, void *user)
{
	(void)level;
	(void)user;
	pthread_mutex_lock(&log_lock);
	snprintf(logged + strlen(logged), sizeof(logged) - strlen(logged), "%s\n", text);
	pthread_mutex_unlock(&log_lock);
}

static bool log_says(const char *words)
{
	bool says;

	pthread_mutex_lock(&log_lock);
	says = strstr(logged, words) != NULL;
	pthread_mutex_unlock(&log_lock);
	return says;
}

static void begin_log(void)
{
	logged[0] = '\0';
	q_set_log(keep_log, NULL);
}

/* ---- subscriptions --------------------------------------------------------------------------- */

static void each_completion_is_an_event_though_nobody_polls(void **state)
{
	GpuQueue *q = make_queue(8, 64);
	NotifySubscription *sub = subscribed(q, NULL, 0, Q_NOTIFY_CLOSE);
	uint64_t ids[8];

	(void)state;
	for (int i = 0; i < 8; i++)
		ids[i] = send(q, "x", 1);
	for (int i = 0; i < 8; i++)
		expect_id(sub, ids[i]); /* one consumer: in their order */
	assert_status(q_notify_recv(sub, NULL, 0), Q_ERR_EMPTY);
	/* It took nothing. */
	for (int i = 0; i < 8; i++)
		expect_echo(q, ids[i], "x", 1);
	q_notify_unsubscribe(sub);
	q_shutdown(q);
}

static void who_learns_of_a_completion_can_take_it(void **state)
{
	GpuQueue *q = make_queue(4, 64);
	NotifySubscription *sub = subscribed(q, NULL, 0, Q_NOTIFY_CLOSE);

	(void)state;
	for (int i = 0; i < 2000; i++) {
		const uint64_t id = send(q, "x", 1);
		NotifyEvent event;
		char buf[64];
		size_t len = sizeof(buf);

		assert_status(q_notify_recv(sub, &event, LONG_MS), Q_OK);
		assert_int_equal((uint64_t)event.arg, id);
		assert_int_equal(event.sequence, i + 1);
		assert_status(q_try_dequeue_result(q, id, buf, &len), Q_OK);
	}
	q_notify_unsubscribe(sub);
	q_shutdown(q);
}

static void filters_pass_what_meets_all_conditions(void **state)
{
	const CompletionFilter tags = { .flags = Q_FILTER_TAGS, .tag_min = 5, .tag_max = 7 };
	const CompletionFilter tag_0 = { .flags = Q_FILTER_TAGS };
	const CompletionFilter high = { .priorities = Q_FILTER_PRIORITY(Q_PRIORITY_HIGH) };
	const CompletionFilter normal = { .priorities = Q_FILTER_PRIORITY(Q_PRIORITY_DEFAULT) };
	const CompletionFilter failed = { .statuses = Q_FILTER_STATUS(Q_ERR_FAILED) |
						      Q_FILTER_STATUS(Q_ERR_EXPIRED) };
	const CompletionFilter both = { .flags = Q_FILTER_TAGS,
					.tag_min = 5,
					.tag_max = UINT64_MAX,
					.priorities = Q_FILTER_PRIORITY(Q_PRIORITY_HIGH),
					.statuses = Q_FILTER_STATUS(Q_OK) };
	const CompletionFilter *filters[] = { &tags, &tag_0, &high, &normal, &failed, &both, NULL };
	enum { N = sizeof(filters) / sizeof(filters[0]) };
	const EnqueueOptions late = { .tag = 6, .deadline_ns = 1 };
	GpuQueue *q = make_queue(16, 64);
	NotifySubscription *sub[N];
	uint64_t id[6];

	(void)state;
	for (int i = 0; i < N; i++)
		sub[i] = subscribed(q, filters[i], 0, Q_NOTIFY_CLOSE);
	id[0] = send_tagged(q, 0, Q_PRIORITY_DEFAULT);
	finish_and_release(q, id[0]);
	id[1] = send_tagged(q, 5, Q_PRIORITY_HIGH);
	finish_and_release(q, id[1]);
	id[2] = send_tagged(q, 7, Q_PRIORITY_LOW);
	finish_and_release(q, id[2]);
	id[3] = send_tagged(q, 8, Q_PRIORITY_HIGH);
	finish_and_release(q, id[3]);
	id[4] = send_with(q, &late, "x", 1);
	finish_and_release(q, id[4]);
	id[5] = send_op(q, OP_FAIL, 4, "x", 1);
	finish_and_release(q, id[5]);
	assert_status(q_stop(q, LONG_MS), Q_OK);

#define EXPECT(i, ...)                                                                             \
	do {                                                                                       \
		const int wanted_[] = { __VA_ARGS__ };                                             \
		for (unsigned j_ = 0; j_ < sizeof(wanted_) / sizeof(wanted_[0]); j_++)             \
			expect_id(sub[i], id[wanted_[j_]]);                                        \
		assert_status(q_notify_recv(sub[i], NULL, LONG_MS), Q_ERR_SHUTDOWN);               \
	} while (0)
	EXPECT(0, 1, 2, 4);
	EXPECT(1, 0);
	EXPECT(2, 1, 3);
	EXPECT(3, 0, 4, 5);
	EXPECT(4, 4, 5);
	EXPECT(5, 1, 3);
	EXPECT(6, 0, 1, 2, 3, 4, 5);
#undef EXPECT
	q_shutdown(q);
	for (int i = 0; i < N; i++)
		q_notify_unsubscribe(sub[i]);
}

static void discarded_messages_make_no_event(void **state)
{
	const EnqueueOptions discard = { .flags = Q_ENQUEUE_DISCARD };
	GpuQueue *q = make_queue(4, 64);
	NotifySubscription *sub = subscribed(q, NULL, 0, Q_NOTIFY_CLOSE);
	uint64_t id;

	(void)state;
	for (int i = 0; i < 20; i++)
		send_with(q, &discard, "x", 1);
	id = send(q, "x", 1);
	expect_id(sub, id);
	q_shutdown(q);
	q_notify_unsubscribe(sub);
}

static void a_stop_ends_subscriptions_after_the_last_completion(void **state)
{
	GpuQueue *q = make_queue(8, 64);
	NotifySubscription *sub = subscribed(q, NULL, 0, Q_NOTIFY_CLOSE), *late;
	uint64_t ids[8];

	(void)state;
	for (int i = 0; i < 8; i++)
		ids[i] = send(q, "x", 1);
	assert_status(q_stop(q, LONG_MS), Q_OK);
	for (int i = 0; i < 8; i++)
		expect_id(sub, ids[i]);
	assert_status(q_notify_recv(sub, NULL, LONG_MS), Q_ERR_SHUTDOWN);
	assert_status(q_subscribe(q, NULL, 0, Q_NOTIFY_CLOSE, &late), Q_ERR_SHUTDOWN);
	assert_status(q_on_completion(q, NULL, see, NULL, NULL), Q_ERR_SHUTDOWN);
	q_shutdown(q);
	q_notify_unsubscribe(sub);
}

static void a_subscription_outlives_its_queue(void **state)
{
	const size_t before = gq__alloc_live_bytes();
	GpuQueue *q = make_queue(8, 64);
	NotifySubscription *sub = subscribed(q, NULL, 4, Q_NOTIFY_DROP_OLDEST);
	const int fd = q_notify_fd(sub);
	struct pollfd ready = { .fd = fd, .events = POLLIN };
	uint64_t id = 0;

	(void)state;
	for (int i = 0; i < 6; i++)
		id = send(q, "x", 1);
	q_shutdown(q); /* all are processed, and told */
	assert_int_equal(poll(&ready, 1, 0), 1);
	for (int i = 0; i < 3; i++)
		assert_status(q_notify_recv(sub, NULL, 0), Q_OK);
	expect_id(sub, id);
	assert_status(q_notify_recv(sub, NULL, LONG_MS), Q_ERR_SHUTDOWN);
	assert_int_equal(poll(&ready, 1, 0), 1);
	q_notify_unsubscribe(sub);
	assert_int_equal(gq__alloc_live_bytes(), before);
}

static void a_descriptor_wakes_an_event_loop_for_each_completion(void **state)
{
	GpuQueue *q = make_queue(4, 64);
	NotifySubscription *sub = subscribed(q, NULL, 0, Q_NOTIFY_CLOSE);
	struct pollfd ready = { .fd = q_notify_fd(sub), .events = POLLIN };

	(void)state;
	for (int i = 0; i < 300; i++) {
		const uint64_t id = send(q, "x", 1);

		assert_int_equal(poll(&ready, 1, (int)LONG_MS), 1);
		expect_id(sub, id);
		assert_status(q_release(q, id), Q_OK);
	}
	q_notify_unsubscribe(sub);
	q_shutdown(q);
}

static void subscriptions_are_limited_and_free_their_places(void **state)
{
	GpuQueue *q = make_queue(4, 64);
	NotifySubscription *sub[Q_MAX_COMPLETION_SUBSCRIPTIONS], *other;

	(void)state;
	for (int round = 0; round < 3; round++) {
		for (unsigned i = 0; i < Q_MAX_COMPLETION_SUBSCRIPTIONS; i++)
			sub[i] = subscribed(q, NULL, 1, Q_NOTIFY_COALESCE);
		assert_status(q_subscribe(q, NULL, 1, Q_NOTIFY_COALESCE, &other), Q_ERR_LIMIT);
		assert_says("256 subscriptions to its completions");
		finish_and_release(q, send(q, "x", 1));
		for (unsigned i = 0; i < Q_MAX_COMPLETION_SUBSCRIPTIONS; i++) {
			assert_status(q_notify_recv(sub[i], NULL, LONG_MS), Q_OK);
			q_notify_unsubscribe(sub[i]);
		}
		/* One that has left is not told, and its place is another's. */
		other = subscribed(q, NULL, 1, Q_NOTIFY_COALESCE);
		finish_and_release(q, send(q, "x", 1));
		assert_status(q_notify_recv(other, NULL, LONG_MS), Q_OK);
		q_notify_unsubscribe(other);
	}
	q_shutdown(q);
}

/* ---- hooks ----------------------------------------------------------------------------------- */

static void a_hook_is_called_for_each_completion_in_order(void **state)
{
	GpuQueue *q = make_queue(8, 64);
	struct seen s = { .take = true };
	uint64_t ids[40];

	(void)state;
	hooked(q, NULL, &s);
	for (uint64_t i = 0; i < 40; i++) {
		const EnqueueOptions options = { .tag = i };

		ids[i] = send_with(q, &options, "x", 1); /* waits for the hook to take some */
	}
	await_count(&s, 40);
	for (uint64_t i = 0; i < 40; i++) {
		assert_int_equal(s.ids[i], ids[i]);
		assert_int_equal(s.tags[i], i);
		assert_status(s.status[i], Q_OK);
	}
	assert_status(s.removed, Q_OK); /* each could be taken */
	q_shutdown(q);
}

static void a_hook_sees_what_its_filter_passes_from_now_on(void **state)
{
	const CompletionFilter tags = { .flags = Q_FILTER_TAGS, .tag_min = 5, .tag_max = 7 };
	GpuQueue *q = make_queue(8, 64);
	struct seen before = { .nap_ms = 0 }, after = { .nap_ms = 0 };
	uint64_t first;

	(void)state;
	first = hooked(q, NULL, &before);
	finish_and_release(q, send_tagged(q, 6, Q_PRIORITY_LOW));
	await_count(&before, 1);
	assert_status(q_remove_hook(q, first), Q_OK);
	hooked(q, &tags, &after); /* in the same place of the table */
	finish_and_release(q, send_tagged(q, 4, Q_PRIORITY_LOW));
	finish_and_release(q, send_tagged(q, 5, Q_PRIORITY_LOW));
	await_count(&after, 1);
	q_shutdown(q);
	assert_int_equal(count_of(&before), 1);
	assert_int_equal(count_of(&after), 1);
	assert_int_equal(after.tags[0], 5);
}

static void a_slow_hook_is_named_with_its_time_and_holds_up_hooks_alone(void **state)
{
	GpuQueue *q = make_queue(8, 64);
	NotifySubscription *sub = subscribed(q, NULL, 0, Q_NOTIFY_CLOSE);
	struct seen slow = { .hold = 1 };
	uint64_t hook, ids[4];
	char words[64];

	(void)state;
	begin_log();
	hook = hooked(q, NULL, &slow);
	for (int i = 0; i < 4; i++) {
		ids[i] = send(q, "x", 1);
		expect_id(sub, ids[i]);
		expect_echo(q, ids[i], "x", 1);
	}
	assert_int_equal(count_of(&slow), 0);
	nap_ms(150);
	__atomic_store_n(&slow.hold, 0, __ATOMIC_RELEASE);
	await_count(&slow, 4);
	q_shutdown(q);
	q_set_log(NULL, NULL);
	snprintf(words, sizeof(words), "hook %" PRIu64 " (function at", hook);
	assert_true(log_says(words));
	assert_true(log_says("ms for message"));
	q_notify_unsubscribe(sub);
}

static void removing_a_hook_waits_until_it_does_not_run(void **state)
{
	GpuQueue *q = make_queue(8, 64);

	(void)state;
	for (int i = 0; i < 20; i++) {
		struct seen *s = calloc(1, sizeof(*s));
		uint64_t hook;

		assert_non_null(s);
		s->nap_ms = i % 3 == 0 ? 20 : 1;
		hook = hooked(q, NULL, s);
		for (int j = 0; j < 5; j++)
			finish_and_release(q, send(q, "x", 1));
		if (i % 2 == 0)
			await_count(s, 1);
		assert_status(q_remove_hook(q, hook), Q_OK);
		memset(s, 0xff, sizeof(*s)); /* a hook that still ran would show */
		free(s);
		assert_status(q_remove_hook(q, hook), Q_ERR_NOT_FOUND);
	}
	assert_status(q_remove_hook(q, 0), Q_ERR_NOT_FOUND);
	q_shutdown(q);
}

static void a_hook_may_remove_itself_and_others(void **state)
{
	GpuQueue *q = make_queue(8, 64);
	struct seen own = { .nap_ms = 0 }, other = { .nap_ms = 0 };
	uint64_t own_hook, other_hook;

	(void)state;
	other_hook = hooked(q, NULL, &other);
	own_hook = hooked(q, NULL, &own);
	__atomic_store_n(&own.remove, other_hook, __ATOMIC_RELEASE);
	finish_and_release(q, send(q, "x", 1));
	await_count(&own, 1);
	assert_status(own.removed, Q_OK);
	assert_int_equal(count_of(&other), 1); /* the one before it in the table had its turn */
	own.removed = Q_ERR_FAILED;
	__atomic_store_n(&own.remove, own_hook, __ATOMIC_RELEASE);
	finish_and_release(q, send(q, "x", 1));
	await_count(&own, 2);
	assert_status(own.removed, Q_OK);
	finish_and_release(q, send(q, "x", 1));
	assert_status(q_remove_hook(q, own_hook), Q_ERR_NOT_FOUND);
	q_shutdown(q);
	assert_int_equal(count_of(&own), 2);
	assert_int_equal(count_of(&other), 1);
}

static void a_shutdown_shows_hooks_all_that_has_finished(void **state)
{
	GpuQueue *q = make_queue(64, 64);
	struct seen s = { .nap_ms = 1 };

	(void)state;
	hooked(q, NULL, &s);
	for (int i = 0; i < 50; i++)
		send(q, "x", 1);
	q_shutdown(q);
	assert_int_equal(count_of(&s), 50);
}

static void a_shutdown_from_within_a_hook_does_nothing(void **state)
{
	GpuQueue *q = make_queue(8, 64);
	struct seen s = { .shut = true };

	(void)state;
	begin_log();
	hooked(q, NULL, &s);
	finish_and_release(q, send(q, "x", 1));
	await_count(&s, 1);
	finish_and_release(q, send(q, "x", 1));
	q_shutdown(q);
	q_set_log(NULL, NULL);
	assert_int_equal(count_of(&s), 2);
	assert_true(log_says("q_shutdown: called by a hook"));
}

/* The descriptor's thread must end after the last hook: else it waits in freed memory. */
static void ask_for_the_descriptor(const Completion *c, void *user)
{
	(void)c;
	nap_ms(50);
	assert_true(q_completion_fd(user) >= 0);
}

static void a_hook_may_ask_for_the_descriptor_while_the_queue_is_shut_down(void **state)
{
	(void)state;
	for (int i = 0; i < 3; i++) {
		const unsigned files = files_now(), threads = threads_now();
		GpuQueue *q = make_queue(4, 64);

		assert_status(q_on_completion(q, NULL, ask_for_the_descriptor, q, NULL), Q_OK);
		send_tagged(q, 0, 0);
		q_shutdown(q);
		assert_int_equal(files_now(), files);
		assert_int_equal(threads_now(), threads);
	}
}

static void what_comes_after_the_end_is_refused_at_once(void **state)
{
	GpuQueue *q = make_queue(4, 64);
	NotifySubscription *sub;
	uint64_t hook;

	(void)state;
	assert_status(q_stop(q, LONG_MS), Q_OK);
	assert_status(q_subscribe(q, NULL, 1, Q_NOTIFY_DROP_OLDEST, &sub), Q_ERR_SHUTDOWN);
	assert_status(q_on_completion(q, NULL, see, &hook, &hook), Q_ERR_SHUTDOWN);
	q_shutdown(q);
}

static void what_hooks_miss_is_counted_in_the_log(void **state)
{
	GpuQueue *q = make_queue(16, 16);
	struct seen s = { .hold = 1 };
	uint64_t sent = 0;
	char words[96];
	uint64_t hook, lost = 0;

	(void)state;
	begin_log();
	hook = hooked(q, NULL, &s);
	while (lost < 10) {
		finish_and_release(q, send(q, "x", 1));
		assert_in_range(++sent, 0, 200000);
		pthread_mutex_lock(&q->reap_lock);
		lost = q->teller->filter[0].lost;
		pthread_mutex_unlock(&q->reap_lock);
	}
	__atomic_store_n(&s.hold, 0, __ATOMIC_RELEASE);
	q_shutdown(q);
	q_set_log(NULL, NULL);
	/* What it has not seen is what was said. */
	snprintf(words, sizeof(words), "hook %" PRIu64 " has missed %" PRIu64 " completions", hook,
		 sent - count_of(&s));
	if (!log_says(words))
		fail_msg("the log does not say '%s':\n%s", words, logged);
}

static void hooks_are_limited(void **state)
{
	GpuQueue *q = make_queue(4, 64);
	struct seen s = { .nap_ms = 0 };
	uint64_t hooks[Q_MAX_HOOKS], other;

	(void)state;
	for (unsigned i = 0; i < Q_MAX_HOOKS; i++)
		hooks[i] = hooked(q, NULL, &s);
	assert_status(q_on_completion(q, NULL, see, &s, &other), Q_ERR_LIMIT);
	assert_says("the queue has 64 hooks");
	finish_and_release(q, send(q, "x", 1));
	await_count(&s, Q_MAX_HOOKS);
	for (unsigned i = 0; i < Q_MAX_HOOKS; i++)
		assert_status(q_remove_hook(q, hooks[i]), Q_OK);
	hooked(q, NULL, &s);
	q_shutdown(q);
}

/* ---- refusals, faults, forks ----------------------------------------------------------------- */

static void wrong_calls_are_refused_by_name(void **state)
{
	static const struct {
		CompletionFilter filter;
		const char *words;
	} wrong[] = {
		{ { .flags = 2 }, "filter.flags is 0x2" },
		{ { .priorities = 32 }, "filter.priorities is 0x20" },
		{ { .statuses = 2 }, "filter.statuses is 0x2" },
		{ { .reserved0 = 1 }, "filter.reserved0 is 0x1" },
		{ { .reserved = { 0, 9 } }, "filter.reserved[1] is 9" },
		{ { .tag_max = 9 }, "only with Q_FILTER_TAGS" },
		{ { .flags = Q_FILTER_TAGS, .tag_min = 3, .tag_max = 2 }, "filter.tag_min is 3" },
	};
	GpuQueue *q = make_queue(4, 64);
	NotifySubscription *sub;
	const unsigned threads = threads_now();

	(void)state;
	for (unsigned i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		assert_status(q_subscribe(q, &wrong[i].filter, 0, Q_NOTIFY_CLOSE, &sub),
			      Q_ERR_INVALID_ARG);
		assert_says(wrong[i].words);
		assert_status(q_on_completion(q, &wrong[i].filter, see, NULL, NULL),
			      Q_ERR_INVALID_ARG);
	}
	assert_status(q_subscribe(q, NULL, 0, Q_NOTIFY_CLOSE, NULL), Q_ERR_INVALID_ARG);
	assert_status(q_on_completion(q, NULL, NULL, NULL, NULL), Q_ERR_INVALID_ARG);
	assert_status(q_subscribe(NULL, NULL, 0, Q_NOTIFY_CLOSE, &sub), Q_ERR_INVALID_ARG);
	assert_status(q_remove_hook(q, 1), Q_ERR_NOT_FOUND);
	assert_int_equal(threads_now(), threads);
	assert_status(q_subscribe(q, NULL, 70000, Q_NOTIFY_CLOSE, &sub), Q_ERR_INVALID_ARG);
	q_shutdown(q);
}

static void every_resource_may_fail(void **state)
{
	const size_t before = gq__alloc_live_bytes();
	const unsigned threads = threads_now();

	(void)state;
	for (unsigned n = 1; n < 14; n++) {
		GpuQueue *q = make_queue(4, 64);
		NotifySubscription *sub = NULL;
		struct seen s = { .nap_ms = 0 };
		QueueStatus subscribes, hooks;
		uint64_t id;

		s.q = q;
		gq__fault_set(n);
		subscribes = q_subscribe(q, NULL, 0, Q_NOTIFY_CLOSE, &sub);
		hooks = q_on_completion(q, NULL, see, &s, NULL);
		gq__fault_set(0);
		assert_true(subscribes == Q_OK || subscribes == Q_ERR_LIMIT ||
			    subscribes == Q_ERR_NO_MEMORY);
		assert_true(hooks == Q_OK || hooks == Q_ERR_LIMIT || hooks == Q_ERR_NO_MEMORY);
		id = send(q, "x", 1);
		if (subscribes == Q_OK)
			expect_id(sub, id);
		expect_echo(q, id, "x", 1);
		q_shutdown(q);
		assert_int_equal(count_of(&s), hooks == Q_OK ? 1 : 0);
		q_notify_unsubscribe(sub);
		assert_int_equal(gq__alloc_live_bytes(), before);
		assert_int_equal(threads_now(), threads);
	}
}

static void a_forked_child_is_told_so(void **state)
{
	GpuQueue *q = make_queue(4, 64);
	NotifySubscription *sub = subscribed(q, NULL, 0, Q_NOTIFY_CLOSE), *other;
	uint64_t id;

	(void)state;
	in_child({
		need(q_subscribe(q, NULL, 0, Q_NOTIFY_CLOSE, &other) == Q_ERR_UNSUPPORTED);
		need(q_on_completion(q, NULL, see, NULL, NULL) == Q_ERR_UNSUPPORTED);
		need(q_remove_hook(q, 1) == Q_ERR_UNSUPPORTED);
		need(q_notify_recv(sub, NULL, 0) == Q_ERR_UNSUPPORTED);
		q_notify_unsubscribe(sub);
		q_shutdown(q);
	});
	id = send(q, "x", 1);
	expect_id(sub, id);
	q_shutdown(q);
	q_notify_unsubscribe(sub);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_completion_is_an_event_though_nobody_polls),
		cmocka_unit_test(who_learns_of_a_completion_can_take_it),
		cmocka_unit_test(filters_pass_what_meets_all_conditions),
		cmocka_unit_test(discarded_messages_make_no_event),
		cmocka_unit_test(a_stop_ends_subscriptions_after_the_last_completion),
		cmocka_unit_test(a_subscription_outlives_its_queue),
		cmocka_unit_test(a_descriptor_wakes_an_event_loop_for_each_completion),
		cmocka_unit_test(subscriptions_are_limited_and_free_their_places),
		cmocka_unit_test(a_hook_is_called_for_each_completion_in_order),
		cmocka_unit_test(a_hook_sees_what_its_filter_passes_from_now_on),
		cmocka_unit_test(a_slow_hook_is_named_with_its_time_and_holds_up_hooks_alone),
		cmocka_unit_test(removing_a_hook_waits_until_it_does_not_run),
		cmocka_unit_test(a_hook_may_remove_itself_and_others),
		cmocka_unit_test(a_shutdown_shows_hooks_all_that_has_finished),
		cmocka_unit_test(a_shutdown_from_within_a_hook_does_nothing),
		cmocka_unit_test(a_hook_may_ask_for_the_descriptor_while_the_queue_is_shut_down),
		cmocka_unit_test(what_comes_after_the_end_is_refused_at_once),
		cmocka_unit_test(what_hooks_miss_is_counted_in_the_log),
		cmocka_unit_test(hooks_are_limited),
		cmocka_unit_test(wrong_calls_are_refused_by_name),
		cmocka_unit_test(every_resource_may_fail),
		cmocka_unit_test(a_forked_child_is_told_so),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
