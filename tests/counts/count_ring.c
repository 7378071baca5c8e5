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

static RingQueue *many, *single;
static char message[BYTES], buffer[OPS * BYTES];
static EnqueueItem items[OPS];
static RingMessage got[OPS];
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

#define PATHS(mode)                                                                                \
	PATH(mode##_send_one)                                                                      \
	{                                                                                          \
		send_one(mode);                                                                    \
	}                                                                                          \
	PATH(mode##_send_batch)                                                                    \
	{                                                                                          \
		send_batch(mode);                                                                  \
	}                                                                                          \
	PATH(mode##_recv_one)                                                                      \
	{                                                                                          \
		recv_one(mode);                                                                    \
	}                                                                                          \
	PATH(mode##_recv_batch)                                                                    \
	{                                                                                          \
		recv_batch(mode);                                                                  \
	}
PATHS(many)
PATHS(single)

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

int main(void)
{
	static const char *const names[] = { "send_one", "send_batch", "recv_one", "recv_batch" };

	many = make(0);
	single = make(Q_RING_SINGLE);
	for (int i = 0; i < OPS; i++)
		items[i] = (EnqueueItem){ message, BYTES };
	for (int i = 0; i < ROUNDS; i++) {
		round_of(many, path_many_send_one, path_many_recv_one, BYTES);
		round_of(many, path_many_send_batch, path_many_recv_batch, OPS);
		round_of(single, path_single_send_one, path_single_recv_one, BYTES);
		round_of(single, path_single_send_batch, path_single_recv_batch, OPS);
	}
	/* Each path, and how many messages it was called for. */
	for (size_t i = 0; i < 4; i++)
		printf("many_%s %d\nsingle_%s %d\n", names[i], OPS * ROUNDS, names[i],
		       OPS * ROUNDS);
	q_ring_destroy(many);
	q_ring_destroy(single);
	return 0;
}
