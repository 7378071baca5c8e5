/* SPDX-License-Identifier: Apache-2.0 */
/*
 * stress_notify.c - notifications under load: nothing is lost, nothing goes astray, counts are
 * exact, while handles and subscriptions come and go.
 */
#include "stress.h"

#include "host/base/fault.h"

#include <gpuq/notify.h>

#include <inttypes.h>
#include <poll.h>
#include <sched.h>

static const uint64_t starts[] = { 1, UINT32_MAX - 50, (UINT64_C(1) << 63) - 50, UINT64_MAX - 50 };

static NotifyQueue *make(const NotifyConfig *cfg, unsigned start)
{
	NotifyQueue *nq;

	gq__start_pos = starts[start % 4];
	must_be(Q_OK, q_notify_create(cfg, &nq));
	gq__start_pos = 1;
	return nq;
}

static NotifyHandle make_handle(NotifyQueue *nq)
{
	NotifyHandle handle;

	must_be(Q_OK, q_notify_register(nq, "stress", &handle));
	return handle;
}

static NotifyStats stats_now(NotifyQueue *nq)
{
	NotifyStats stats;

	must_be(Q_OK, q_notify_stats(nq, &stats));
	return stats;
}

/* ---- waiting and posting -----------------------------------------------------------------------
 */

enum { POSTERS = 4, WAITERS = 4 };

struct posting {
	NotifyQueue *nq;
	NotifyHandle handle;
	uint64_t posts, reached;
	uint64_t stream;
	pthread_t thread;
};

static void *post_all(void *arg)
{
	struct posting *p = arg;
	struct rng rng = rng_of(p->stream);

	for (uint64_t i = 0; i < p->posts; i++) {
		size_t reached;

		must_be(Q_OK, q_notify_post(p->nq, p->handle, (int64_t)i, &reached));
		p->reached += reached;
		if (rng_one_in(&rng, 2000))
			stress_nap_us(rng_below(&rng, 100));
	}
	return NULL;
}

struct watching {
	NotifyQueue *nq;
	NotifyHandle handle;
	uint64_t last; /* the sequence of the last post */
	uint64_t waits, seen;
	bool impatient;
	pthread_t thread;
};

static void *watch_all(void *arg)
{
	struct watching *w = arg;
	NotifyEvent event = { 0 };

	while (event.sequence != w->last) {
		const uint64_t key = event.sequence;
		QueueStatus status =
			q_notify_wait(w->nq, w->handle, key, &event, w->impatient ? 1 : 60000);

		if (status == Q_ERR_TIMEOUT && w->impatient)
			continue;
		must_be(Q_OK, status);
		must(event.sequence == key + event.lost + 1, "%" PRIu64 " after %" PRIu64,
		     event.sequence, key);
		w->seen += event.lost + 1;
		w->waits++;
	}
	return NULL;
}

static void every_waiter_sees_the_last_post(void **state)
{
	const uint32_t posts = stress_scaled(100000);

	(void)state;
	for (unsigned round = 0; round < 4; round++) {
		NotifyQueue *nq = make(NULL, round);
		const NotifyHandle handle = make_handle(nq);
		struct posting p[POSTERS];
		struct watching w[WAITERS];
		uint64_t reached = 0, waits = 0;

		stress_phase(NULL, "%" PRIu32 " posts by each of %d threads", posts, POSTERS);
		for (int i = 0; i < WAITERS; i++) {
			w[i] = (struct watching){ nq, handle, (uint64_t)posts * POSTERS,
						  0,  0,      i % 2 != 0,
						  0 };
			w[i].thread = stress_thread(watch_all, &w[i]);
		}
		for (int i = 0; i < POSTERS; i++) {
			p[i] = (struct posting){
				nq, handle, posts, 0, (uint64_t)(round * 8 + (unsigned)i), 0
			};
			p[i].thread = stress_thread(post_all, &p[i]);
		}
		for (int i = 0; i < POSTERS; i++) {
			stress_join(p[i].thread);
			reached += p[i].reached;
		}
		for (int i = 0; i < WAITERS; i++) {
			stress_join(w[i].thread);
			must(w[i].seen == w[i].last, "%" PRIu64 " seen", w[i].seen);
			waits += w[i].waits;
		}
		/* Each reached thread has returned with an event; some waits ended at once. */
		must(reached <= waits, "%" PRIu64 " reached, %" PRIu64 " waits", reached, waits);
		must(stats_now(nq).reached == reached, "%" PRIu64, stats_now(nq).reached);
		must(stats_now(nq).posts == (uint64_t)posts * POSTERS, "%" PRIu64,
		     stats_now(nq).posts);
		must(stats_now(nq).waiters == 0, "%" PRIu64, stats_now(nq).waiters);
		q_notify_destroy(nq);
	}
}

/* ---- there and back: a post for each wait ------------------------------------------------------
 */

struct pair {
	NotifyQueue *nq;
	NotifyHandle ping, pong;
	uint64_t rounds;
	pthread_t thread[2];
};

static void *serve(void *arg)
{
	struct pair *p = arg;
	size_t reached;

	for (uint64_t i = 0; i < p->rounds; i++) {
		must_be(Q_OK, q_notify_wait(p->nq, p->ping, i, NULL, 60000));
		must_be(Q_OK, q_notify_post(p->nq, p->pong, (int64_t)i, &reached));
		must(reached <= 1, "%zu reached", reached);
	}
	return NULL;
}

static void *play(void *arg)
{
	struct pair *p = arg;
	NotifyEvent event;

	for (uint64_t i = 0; i < p->rounds; i++) {
		must_be(Q_OK, q_notify_post(p->nq, p->ping, (int64_t)i, NULL));
		must_be(Q_OK, q_notify_wait(p->nq, p->pong, i, &event, 60000));
		must(event.sequence == i + 1 && event.arg == (int64_t)i && event.lost == 0,
		     "%" PRIu64 " %" PRIi64, event.sequence, event.arg);
	}
	return NULL;
}

static void no_post_and_no_wake_up_gets_lost_between_pairs(void **state)
{
	NotifyQueue *nq = make(NULL, 3);
	struct pair p[4];

	(void)state;
	stress_phase(NULL, "four pairs");
	for (int i = 0; i < 4; i++) {
		p[i] = (struct pair){
			nq, make_handle(nq), make_handle(nq), stress_scaled(8000), { 0 }
		};
		p[i].thread[0] = stress_thread(serve, &p[i]);
		p[i].thread[1] = stress_thread(play, &p[i]);
	}
	for (int i = 0; i < 4; i++)
		for (int j = 0; j < 2; j++)
			stress_join(p[i].thread[j]);
	q_notify_destroy(nq);
}

/* ---- handles that come and go ------------------------------------------------------------------
 */

enum { OWNERS = 3, STRANGERS = 3 };

static struct {
	NotifyQueue *nq;
	NotifyHandle current[OWNERS]; /* atomic; may be stale by the time it is used */
	uint32_t quit;
} lives;

/* Posts what the handle is, on handles that may have ended. */
static void *post_to_anybody(void *arg)
{
	struct rng rng = rng_of((uint64_t)(uintptr_t)arg);

	while (get(lives.quit) == 0) {
		const NotifyHandle handle = get(lives.current[rng_below(&rng, OWNERS)]);
		QueueStatus status;

		if (handle == 0)
			continue;
		if (rng_one_in(&rng, 4)) /* it ages */
			stress_nap_us(rng_below(&rng, 20));
		status = q_notify_post(lives.nq, handle, (int64_t)handle, NULL);
		must(status == Q_OK || status == Q_ERR_STALE, "%s", q_status_string(status));
	}
	return NULL;
}

struct owner {
	unsigned index;
	uint32_t rounds;
	pthread_t thread;
};

static void *live_and_end(void *arg)
{
	struct owner *o = arg;
	struct rng rng = rng_of(100 + o->index);

	for (uint32_t i = 0; i < o->rounds; i++) {
		const NotifyHandle handle = make_handle(lives.nq);
		NotifySubscription *sub;
		NotifyEvent event;
		QueueStatus status;
		uint64_t sequence = 0;

		must_be(Q_OK, q_notify_subscribe(lives.nq, handle, 4,
						 (NotifyPolicy)rng_below(&rng, 3), &sub));
		must(!rng_one_in(&rng, 3) || q_notify_fd(sub) >= 0, "%s", q_last_error());
		put(lives.current[o->index], handle);
		status = q_notify_wait(lives.nq, handle, 0, &event, rng_below(&rng, 3));
		if (status == Q_OK)
			must(event.arg == (int64_t)handle && event.handle == handle,
			     "%" PRIx64 " instead of %" PRIx64, event.arg, handle);
		if (!rng_one_in(&rng, 3))
			must_be(Q_OK, q_notify_unregister(lives.nq, handle));
		for (int n = 0; n < 8 && q_notify_recv(sub, &event, 0) == Q_OK; n++) {
			must(event.arg == (int64_t)handle, "%" PRIx64 " instead of %" PRIx64,
			     event.arg, handle);
			must(event.sequence == sequence + event.lost + 1, "%" PRIu64,
			     event.sequence);
			sequence = event.sequence;
		}
		q_notify_unsubscribe(sub);
		status = q_notify_unregister(lives.nq, handle);
		must(status == Q_OK || status == Q_ERR_STALE, "%s", q_status_string(status));
		must_be(Q_ERR_STALE, q_notify_post(lives.nq, handle, 0, NULL));
	}
	return NULL;
}

static void no_event_comes_to_another_handle(void **state)
{
	const NotifyConfig cfg = { .max_handles = OWNERS };
	struct owner owner[OWNERS];
	pthread_t stranger[STRANGERS];

	(void)state;
	stress_phase(NULL, "handles come and go");
	lives.nq = make(&cfg, 0);
	put(lives.quit, 0);
	for (unsigned i = 0; i < OWNERS; i++) {
		put(lives.current[i], 0);
		owner[i] = (struct owner){ i, stress_scaled(4000), 0 };
		owner[i].thread = stress_thread(live_and_end, &owner[i]);
	}
	for (unsigned i = 0; i < STRANGERS; i++)
		stranger[i] = stress_thread(post_to_anybody, (void *)(uintptr_t)(200 + i));
	for (unsigned i = 0; i < OWNERS; i++)
		stress_join(owner[i].thread);
	put(lives.quit, 1);
	for (unsigned i = 0; i < STRANGERS; i++)
		stress_join(stranger[i]);
	must(stats_now(lives.nq).handles == 0, "%" PRIu64, stats_now(lives.nq).handles);
	q_notify_destroy(lives.nq);
}

/* ---- subscriptions -----------------------------------------------------------------------------
 */

enum { READERS = 6 };

struct reader {
	NotifySubscription *sub;
	NotifyPolicy policy;
	uint64_t received, lost;
	bool by_descriptor;
	pthread_t thread;
};

static void *read_to_the_end(void *arg)
{
	struct reader *r = arg;
	struct rng rng = rng_of(300 + (uint64_t)r->policy);
	struct pollfd fd = { .events = POLLIN };
	uint64_t sequence = 0;
	NotifyEvent event;

	if (r->by_descriptor)
		fd.fd = q_notify_fd(r->sub);
	for (;;) {
		QueueStatus status;

		if (r->by_descriptor)
			must(poll(&fd, 1, 60000) == 1, "the descriptor is not readable");
		status = q_notify_recv(r->sub, &event, r->by_descriptor ? 0 : 60000);
		if (status == Q_ERR_EMPTY && r->by_descriptor)
			continue; /* in vain */
		if (status != Q_OK) {
			must_be(Q_ERR_SHUTDOWN, status);
			return NULL;
		}
		must(event.sequence == sequence + event.lost + 1, "%" PRIu64 " after %" PRIu64,
		     event.sequence, sequence);
		sequence = event.sequence;
		r->received++;
		r->lost += event.lost;
		if (rng_one_in(&rng, 500))
			stress_nap_us(rng_below(&rng, 200));
	}
}

static void *come_and_go(void *arg)
{
	struct posting *p = arg;
	struct rng rng = rng_of(400);

	while (get(lives.quit) == 0) {
		NotifySubscription *sub[4];

		for (int i = 0; i < 4; i++) {
			must_be(Q_OK, q_notify_subscribe(p->nq, p->handle, 1 + rng_below(&rng, 5),
							 (NotifyPolicy)i, &sub[i]));
			must(rng_one_in(&rng, 2) || q_notify_fd(sub[i]) >= 0, "%s", q_last_error());
		}
		q_notify_recv(sub[0], NULL, rng_below(&rng, 2));
		for (int i = 0; i < 4; i++)
			q_notify_unsubscribe(sub[i]);
	}
	return NULL;
}

static void begin_reading(struct reader *r, NotifyQueue *nq, NotifyHandle handle)
{
	for (int i = 0; i < READERS; i++) {
		r[i] = (struct reader){ .policy = (NotifyPolicy)(i % 3), .by_descriptor = i >= 3 };
		must_be(Q_OK,
			q_notify_subscribe(nq, handle, i < 3 ? 7 : 64, r[i].policy, &r[i].sub));
		must(q_notify_fd(r[i].sub) >= 0 || !r[i].by_descriptor, "%s", q_last_error());
		r[i].thread = stress_thread(read_to_the_end, &r[i]);
	}
}

static void each_event_is_received_or_counted_as_lost(void **state)
{
	const uint32_t posts = stress_scaled(20000);

	(void)state;
	for (unsigned round = 0; round < 4; round++) {
		NotifyQueue *nq = make(NULL, round);
		const NotifyHandle handle = make_handle(nq);
		struct posting p[2], visitor = { .nq = nq, .handle = handle };
		struct reader r[READERS];

		stress_phase(NULL, "subscriptions of every policy");
		put(lives.quit, 0);
		begin_reading(r, nq, handle);
		visitor.thread = stress_thread(come_and_go, &visitor);
		for (int i = 0; i < 2; i++) {
			p[i] = (struct posting){ nq, handle, posts, 0, 500 + (uint64_t)i, 0 };
			p[i].thread = stress_thread(post_all, &p[i]);
		}
		for (int i = 0; i < 2; i++)
			stress_join(p[i].thread);
		put(lives.quit, 1);
		stress_join(visitor.thread);
		must_be(Q_OK, q_notify_unregister(nq, handle));
		for (int i = 0; i < READERS; i++) {
			const uint64_t all = r[i].policy == Q_NOTIFY_DROP_NEWEST ? 0 : 2 * posts;

			stress_join(r[i].thread);
			/* What DROP_NEWEST drops last, no later event tells of. */
			must(r[i].received + r[i].lost == all ||
				     (all == 0 && r[i].received + r[i].lost <= 2 * posts),
			     "policy %d: %" PRIu64 " received, %" PRIu64 " lost", r[i].policy,
			     r[i].received, r[i].lost);
			q_notify_unsubscribe(r[i].sub);
		}
		q_notify_destroy(nq);
	}
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_waiter_sees_the_last_post),
		cmocka_unit_test(no_post_and_no_wake_up_gets_lost_between_pairs),
		cmocka_unit_test(no_event_comes_to_another_handle),
		cmocka_unit_test(each_event_is_received_or_counted_as_lost),
	};

	stress_begin(argc, argv);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
