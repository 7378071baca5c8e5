/* SPDX-License-Identifier: Apache-2.0 */
/* notify_support.h - what the tests of notifications share: short calls, and threads that wait. */
#ifndef GPUQ_TEST_NOTIFY_SUPPORT_H
#define GPUQ_TEST_NOTIFY_SUPPORT_H

#include "support.h"

#include "host/base/fault.h"
#include "host/base/memory.h"

#include <gpuq/notify.h>

#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <string.h>
#include <unistd.h>

static inline NotifyQueue *make_notify(const NotifyConfig *cfg)
{
	NotifyQueue *nq = NULL;

	if (q_notify_create(cfg, &nq) != Q_OK)
		fail_msg("q_notify_create: %s", q_last_error());
	return nq;
}

static inline NotifyHandle handle_of(NotifyQueue *nq)
{
	NotifyHandle handle = 0;

	assert_status(q_notify_register(nq, "a test's", &handle), Q_OK);
	assert_true(handle != 0);
	return handle;
}

static inline uint64_t key_of(NotifyQueue *nq, NotifyHandle handle)
{
	uint64_t key = UINT64_MAX;

	assert_status(q_notify_observe(nq, handle, &key), Q_OK);
	return key;
}

/* Posts. @return how many it reached. */
static inline size_t post(NotifyQueue *nq, NotifyHandle handle, int64_t arg)
{
	size_t reached = 77;

	assert_status(q_notify_post(nq, handle, arg, &reached), Q_OK);
	return reached;
}

static inline void post_many(NotifyQueue *nq, NotifyHandle handle, int64_t first, int64_t n)
{
	for (int64_t i = 0; i < n; i++)
		post(nq, handle, first + i);
}

static inline NotifySubscription *subscription(NotifyQueue *nq, NotifyHandle handle,
					       uint32_t capacity, NotifyPolicy policy)
{
	NotifySubscription *sub = NULL;

	if (q_notify_subscribe(nq, handle, capacity, policy, &sub) != Q_OK)
		fail_msg("q_notify_subscribe: %s", q_last_error());
	return sub;
}

static inline void expect_event(NotifySubscription *sub, uint64_t sequence, int64_t arg,
				uint64_t lost)
{
	NotifyEvent event;

	assert_status(q_notify_recv(sub, &event, 0), Q_OK);
	assert_int_equal(event.sequence, sequence);
	assert_int_equal(event.arg, arg);
	assert_int_equal(event.lost, lost);
}

static inline NotifyStats notify_stats(NotifyQueue *nq)
{
	NotifyStats stats;

	assert_status(q_notify_stats(nq, &stats), Q_OK);
	return stats;
}

static inline void await_waiters(NotifyQueue *nq, uint64_t n)
{
	for (uint32_t ms = 0; notify_stats(nq).waiters != n; ms++) {
		assert_in_range(ms, 0, LONG_MS);
		nap_ms(1);
	}
}

static inline bool is_readable(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };

	return poll(&p, 1, 0) == 1;
}

/* A thread in q_notify_wait(). */
struct waiting {
	NotifyQueue *nq;
	NotifyHandle handle;
	uint64_t key;
	uint32_t timeout_ms;
	QueueStatus status;
	NotifyEvent event;
	pthread_t thread;
};

static inline void *wait_in_thread(void *arg)
{
	struct waiting *w = arg;

	w->status = q_notify_wait(w->nq, w->handle, w->key, &w->event, w->timeout_ms);
	return NULL;
}

static inline void start_waiting(struct waiting *w, NotifyQueue *nq, NotifyHandle handle,
				 uint64_t key)
{
	*w = (struct waiting){ .nq = nq, .handle = handle, .key = key, .timeout_ms = LONG_MS };
	assert_int_equal(pthread_create(&w->thread, NULL, wait_in_thread, w), 0);
}

#endif /* GPUQ_TEST_NOTIFY_SUPPORT_H */
