/* SPDX-License-Identifier: Apache-2.0 */
/*
 * notify.c - a worker fills a shelf; three clients wait until there is enough for them.
 *
 * Each client observes the handle, tests the shelf, and waits with what it has observed, so it
 * misses no delivery and holds no lock. A subscription beside them keeps the last four deliveries,
 * and says how many it has lost.
 */
#include <gpuq/notify.h>

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

enum { DELIVERIES = 1000, CLIENTS = 3 };

static NotifyQueue *nq;
static NotifyHandle delivered;
static int shelf; /* atomic */

static void must(QueueStatus status, const char *what)
{
	if (status != Q_OK) {
		fprintf(stderr, "%s: %s: %s\n", what, q_status_string(status), q_last_error());
		exit(1);
	}
}

static void *client(void *arg)
{
	const int *wanted = arg;

	for (;;) {
		uint64_t key;

		must(q_notify_observe(nq, delivered, &key), "q_notify_observe");
		if (__atomic_load_n(&shelf, __ATOMIC_RELAXED) >= *wanted)
			return NULL;
		must(q_notify_wait(nq, delivered, key, NULL, UINT32_MAX), "q_notify_wait");
	}
}

int main(void)
{
	static int wanted[CLIENTS] = { 1, DELIVERIES / 2, DELIVERIES };
	pthread_t thread[CLIENTS];
	NotifySubscription *last;
	NotifyEvent event;
	QueueStatus status;

	must(q_notify_create(NULL, &nq), "q_notify_create");
	must(q_notify_register(nq, "a delivery", &delivered), "q_notify_register");
	must(q_notify_subscribe(nq, delivered, 4, Q_NOTIFY_DROP_OLDEST, &last),
	     "q_notify_subscribe");
	for (int i = 0; i < CLIENTS; i++)
		if (pthread_create(&thread[i], NULL, client, &wanted[i]) != 0)
			return 1;
	for (int i = 1; i <= DELIVERIES; i++) {
		__atomic_fetch_add(&shelf, 1, __ATOMIC_RELAXED);
		must(q_notify_post(nq, delivered, i, NULL), "q_notify_post");
	}
	for (int i = 0; i < CLIENTS; i++)
		pthread_join(thread[i], NULL);
	must(q_notify_unregister(nq, delivered), "q_notify_unregister");
	while ((status = q_notify_recv(last, &event, UINT32_MAX)) == Q_OK)
		printf("delivery %d, %d lost before it\n", (int)event.arg, (int)event.lost);
	q_notify_unsubscribe(last);
	q_notify_destroy(nq);
	return status == Q_ERR_SHUTDOWN ? 0 : 1; /* the handle has ended: that is all */
}
