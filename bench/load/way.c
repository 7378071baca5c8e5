/* SPDX-License-Identifier: Apache-2.0 */
/* way.c - libgpuq's rings and queue, and an array under a mutex, as ways: see way.h */
#include "way.h"

#include <gpuq/gpuq.h>
#include <gpuq/ring.h>

#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

/* Refused for want of room or messages is false; anything else is a fault. */
static bool moved(QueueStatus status, QueueStatus refused)
{
	if (__builtin_expect(status != Q_OK && status != refused, 0))
		bench_die("status %d: %s", (int)status, q_last_error());
	return status == Q_OK;
}

static void list(EnqueueItem *items, const struct way_message *messages, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		items[i].data = &messages[i];
		items[i].len = WAY_BYTES;
	}
}

/* ---- rings ----------------------------------------------------------------------------------- */

static void *open_ring(uint32_t capacity, uint32_t flags)
{
	const RingConfig cfg = { .ring_size = capacity, .max_msg_size = WAY_BYTES, .flags = flags };
	RingQueue *ring;

	moved(q_ring_create(&cfg, NULL, 0, &ring), Q_OK);
	return ring;
}

static void *open_ring_many(uint32_t capacity, unsigned consumers)
{
	(void)consumers;
	return open_ring(capacity, 0);
}

static void *open_ring_single(uint32_t capacity, unsigned consumers)
{
	(void)consumers;
	return open_ring(capacity, Q_RING_SINGLE);
}

static void close_ring(void *ring)
{
	q_ring_destroy(ring);
}

static size_t put_ring(void *ring, const struct way_message *messages, size_t n)
{
	EnqueueItem items[WAY_BATCH];
	size_t sent = 0;

	if (n == 1)
		return moved(q_ring_send(ring, messages, WAY_BYTES, Q_PRIORITY_NORMAL), Q_ERR_FULL);
	list(items, messages, n);
	moved(q_ring_send_batch(ring, items, n, Q_PRIORITY_NORMAL, &sent), Q_ERR_FULL);
	return sent;
}

static size_t take_ring(void *ring, struct way_message *messages, size_t n)
{
	RingMessage taken[WAY_BATCH];
	size_t got = 0, len = WAY_BYTES;

	if (n == 1)
		return moved(q_ring_recv(ring, messages, &len), Q_ERR_EMPTY);
	/* They lie side by side, as their size is a multiple of 8. */
	moved(q_ring_recv_batch(ring, messages, n * WAY_BYTES, taken, n, &got), Q_ERR_EMPTY);
	return got;
}

const struct way way_ring = { "gpuq",         "ring",     false,    false,
			      open_ring_many, close_ring, put_ring, take_ring };
const struct way way_ring_single = { "gpuq",           "single ring", true,     false,
				     open_ring_single, close_ring,    put_ring, take_ring };

/* ---- queue ----------------------------------------------------------------------------------- */

/* Consumers inherit the affinity: all CPUs but the first producer's, where there are others. */
static void *open_queue(uint32_t capacity, unsigned consumers)
{
	const QueueConfig cfg = { .capacity = capacity,
				  .slot_bytes = WAY_BYTES,
				  .device = Q_DEVICE_CPU,
				  .consumers = consumers,
				  .processor = "echo" };
	cpu_set_t before, theirs;
	GpuQueue *q;

	if (sched_getaffinity(0, sizeof(before), &before) != 0)
		bench_die("sched_getaffinity");
	CPU_ZERO(&theirs);
	for (int i = 1; i == 1 || i < bench_cpus(); i++)
		CPU_SET((size_t)bench_cpu(i), &theirs);
	sched_setaffinity(0, sizeof(theirs), &theirs);
	q = q_init(&cfg);
	sched_setaffinity(0, sizeof(before), &before);
	if (q == NULL)
		bench_die("q_init: %s", q_last_error());
	return q;
}

static void close_queue(void *q)
{
	q_shutdown(q);
}

static size_t put_queue(void *q, const struct way_message *messages, size_t n)
{
	EnqueueItem items[WAY_BATCH];
	size_t sent = 0;

	if (n == 1)
		return moved(q_enqueue(q, messages, WAY_BYTES, NULL, 0), Q_ERR_FULL);
	list(items, messages, n);
	moved(q_enqueue_batch(q, items, n, NULL, &sent, 0), Q_ERR_FULL);
	return sent;
}

static size_t take_queue(void *q, struct way_message *messages, size_t n)
{
	Completion done[WAY_BATCH];
	uint64_t ids[WAY_BATCH];
	size_t got = 0;

	moved(q_poll_results(q, done, n, &got), Q_OK);
	for (size_t i = 0; i < got; i++) {
		memcpy(&messages[i], done[i].result, WAY_BYTES);
		ids[i] = done[i].msg_id;
	}
	if (got > 0)
		moved(q_release_batch(q, ids, got), Q_OK);
	return got;
}

const struct way way_queue = { "gpuq",     "queue",     false,     true,
			       open_queue, close_queue, put_queue, take_queue };

/* ---- what one writes first: an array under a mutex ----------------------------------------------
 */

struct locked {
	pthread_mutex_t lock;
	uint64_t head, tail; /* next to take, next to put */
	uint32_t capacity;
	struct way_message slots[];
};

static void *open_locked(uint32_t capacity, unsigned consumers)
{
	const size_t bytes = sizeof(struct locked) + capacity * sizeof(struct way_message);
	struct locked *l = malloc(bytes);

	(void)consumers;
	if (l == NULL)
		bench_die("no memory");
	memset(l, 0, bytes);
	l->capacity = capacity;
	pthread_mutex_init(&l->lock, NULL);
	return l;
}

static size_t put_locked(void *way, const struct way_message *messages, size_t n)
{
	struct locked *l = way;

	pthread_mutex_lock(&l->lock);
	if (n > l->capacity - (l->tail - l->head))
		n = (size_t)(l->capacity - (l->tail - l->head));
	for (size_t i = 0; i < n; i++)
		l->slots[(l->tail + i) & (l->capacity - 1)] = messages[i];
	l->tail += n;
	pthread_mutex_unlock(&l->lock);
	return n;
}

static size_t take_locked(void *way, struct way_message *messages, size_t n)
{
	struct locked *l = way;

	pthread_mutex_lock(&l->lock);
	if (n > l->tail - l->head)
		n = (size_t)(l->tail - l->head);
	for (size_t i = 0; i < n; i++)
		messages[i] = l->slots[(l->head + i) & (l->capacity - 1)];
	l->head += n;
	pthread_mutex_unlock(&l->lock);
	return n;
}

const struct way way_mutex = {
	"mutex", "", false, false, open_locked, free, put_locked, take_locked
};

const struct way *const ways[] = {
	&way_ring_single, &way_ring,    &way_queue,
#ifdef BENCH_RTE
	&way_rte_single,  &way_rte_hts,
#endif
	&way_mutex,
};
const size_t way_count = sizeof(ways) / sizeof(ways[0]);
