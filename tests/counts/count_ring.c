/* SPDX-License-Identifier: Apache-2.0 */
/*
 * count_ring.c - the paths of the rings whose costs check_counts counts, in both modes.
 *
 * Each path is a function path_MODE_NAME(), which callgrind collects in alone; one call of it is
 * OPS messages. One thread sends and receives, so that nothing is waited for.
 */
#include "count.h"

#include <gpuq/ring.h>

enum { OPS = 32, ROUNDS = 64, BYTES = 64 };

/* Cells that came back one by one lie in the pool so, and a batch of them costs more: batches have
 * rings of their own. */
static RingQueue *many, *single, *many_batches, *single_batches;
static char message[BYTES], array[OPS * BYTES], buffer[OPS * BYTES];
static EnqueueItem items[OPS], in_array[OPS];
static RingMessage got[OPS];
static RingCompletion completions[OPS], polled[OPS];
static size_t n;

static inline void send_one(RingQueue *r)
{
	for (int i = 0; i < OPS; i++)
		q_ring_send(r, message, BYTES, Q_PRIORITY_NORMAL);
}

static inline void send_batch(RingQueue *r)
{
	q_ring_send_batch(r, items, OPS, Q_PRIORITY_NORMAL, &n);
}

/* Messages that follow each other in memory. */
static inline void send_array(RingQueue *r)
{
	q_ring_send_batch(r, in_array, OPS, Q_PRIORITY_NORMAL, &n);
}

static inline void recv_one(RingQueue *r)
{
	for (int i = 0; i < OPS; i++) {
		n = BYTES;
		q_ring_recv(r, buffer, &n);
	}
}

static inline void recv_batch(RingQueue *r)
{
	q_ring_recv_batch(r, buffer, sizeof(buffer), got, OPS, &n);
}

static inline void recv_nothing(RingQueue *r)
{
	for (int i = 0; i < OPS; i++) {
		n = BYTES;
		q_ring_recv(r, buffer, &n);
	}
}

/* Messages that come singly, to a receiver of batches. */
static inline void one_by_batch(RingQueue *r)
{
	size_t got_one;

	for (int i = 0; i < OPS; i++) {
		q_ring_send(r, message, BYTES, Q_PRIORITY_NORMAL);
		q_ring_recv_batch(r, buffer, sizeof(buffer), got, OPS, &got_one);
	}
}

static inline void complete_one(RingQueue *r)
{
	for (int i = 0; i < OPS; i++)
		q_ring_complete(r, 0, Q_OK, NULL, 0);
}

static inline void complete_batch(RingQueue *r)
{
	q_ring_complete_batch(r, completions, OPS, &n);
}

/* As many as one call takes. */
static inline void poll_ones(RingQueue *r)
{
	q_ring_poll_completions(r, polled, OPS, &n);
}

static inline void poll_batch(RingQueue *r)
{
	q_ring_poll_completions(r, polled, OPS, &n);
}

#define RING_PATH(mode, ring, name)                                                                \
	PATH(mode##_##name)                                                                        \
	{                                                                                          \
		name(ring);                                                                        \
	}

RING_PATH(many, many, send_one)
RING_PATH(many, many_batches, send_batch)
RING_PATH(many, many_batches, send_array)
RING_PATH(many, many, recv_one)
RING_PATH(many, many_batches, recv_batch)
RING_PATH(many, many, recv_nothing)
RING_PATH(many, many, one_by_batch)
RING_PATH(many, many, complete_one)
RING_PATH(many, many, poll_ones)
RING_PATH(many, many_batches, complete_batch)
RING_PATH(many, many_batches, poll_batch)
RING_PATH(single, single, send_one)
RING_PATH(single, single_batches, send_batch)
RING_PATH(single, single_batches, send_array)
RING_PATH(single, single, recv_one)
RING_PATH(single, single_batches, recv_batch)
RING_PATH(single, single, recv_nothing)
RING_PATH(single, single, one_by_batch)
RING_PATH(single, single, complete_one)
RING_PATH(single, single, poll_ones)
RING_PATH(single, single_batches, complete_batch)
RING_PATH(single, single_batches, poll_batch)

static RingQueue *make(uint32_t flags)
{
	const RingConfig cfg = { .ring_size = 1024, .max_msg_size = BYTES, .flags = flags };
	RingQueue *r = NULL;

	must(q_ring_create(&cfg, NULL, 0, &r) == Q_OK, "q_ring_create");
	return r;
}

/* One at a time, then in batches; what was sent is received. */
static void round_of(RingQueue *r, void (*send)(void), void (*recv)(void), size_t last)
{
	forget_lines();
	send();
	must(q_ring_len(r) == OPS, "all are sent");
	n = 0;
	forget_lines();
	recv();
	must(n == last && q_ring_is_empty(r), "all are received");
}

static void completions_of(void (*complete)(void), void (*poll)(void))
{
	forget_lines();
	complete();
	forget_lines();
	n = 0;
	poll();
	must(n == OPS, "all are polled");
}

/* How often a round takes each path. */
static const struct {
	const char *name;
	int times;
} paths[] = { { "send_one", 1 },       { "send_batch", 1 },   { "send_array", 1 },
	      { "recv_one", 1 },       { "recv_batch", 2 },   { "recv_nothing", 1 },
	      { "one_by_batch", 1 },   { "complete_one", 1 }, { "poll_ones", 1 },
	      { "complete_batch", 1 }, { "poll_batch", 1 } };

int main(void)
{
	many = make(0);
	single = make(Q_RING_SINGLE);
	many_batches = make(0);
	single_batches = make(Q_RING_SINGLE);
	for (int i = 0; i < OPS; i++)
		items[i] = (EnqueueItem){ message, BYTES },
		in_array[i] = (EnqueueItem){ array + (size_t)i * BYTES, BYTES };
	for (int i = 0; i < ROUNDS; i++) {
		round_of(many, path_many_send_one, path_many_recv_one, BYTES);
		round_of(many_batches, path_many_send_array, path_many_recv_batch, OPS);
		round_of(many_batches, path_many_send_batch, path_many_recv_batch, OPS);
		forget_lines();
		path_many_recv_nothing();
		forget_lines();
		path_many_one_by_batch();
		completions_of(path_many_complete_one, path_many_poll_ones);
		completions_of(path_many_complete_batch, path_many_poll_batch);
		round_of(single, path_single_send_one, path_single_recv_one, BYTES);
		round_of(single_batches, path_single_send_array, path_single_recv_batch, OPS);
		round_of(single_batches, path_single_send_batch, path_single_recv_batch, OPS);
		forget_lines();
		path_single_recv_nothing();
		forget_lines();
		path_single_one_by_batch();
		completions_of(path_single_complete_one, path_single_poll_ones);
		completions_of(path_single_complete_batch, path_single_poll_batch);
	}
	/* Each path, and how many messages it was called for. */
	for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++)
		printf("many_%s %d\nsingle_%s %d\n", paths[i].name, paths[i].times * OPS * ROUNDS,
		       paths[i].name, paths[i].times * OPS * ROUNDS);
	q_ring_destroy(many);
	q_ring_destroy(many_batches);
	q_ring_destroy(single);
	q_ring_destroy(single_batches);
	return 0;
}
