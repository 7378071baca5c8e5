/* SPDX-License-Identifier: Apache-2.0 */
/*
 * stress_ring_close.c - a ring is closed while threads send and receive: what was accepted is
 * received, once, and nothing else; everybody hears of the close. By content, round after round.
 */
#include "stress.h"

#include "host/base/fault.h"
#include "host/ring/ring.h"

#include <inttypes.h>
#include <pthread.h>
#include <sched.h>
#include <string.h>

enum { SENDERS = 2, RECEIVERS = 2, THREADS = SENDERS + RECEIVERS, MOST = 64, BATCH = 4 };

static struct {
	RingQueue *ring;
	uint32_t round, rounds;
	uint32_t accepted[SENDERS]; /* of this round */
	uint32_t seen[SENDERS][MOST + BATCH];
	pthread_barrier_t begin, end;
} shared;

static void send_until_closed(uint32_t me, struct rng *r)
{
	QueueStatus status = Q_OK;
	uint32_t n = 0;

	while (status != Q_ERR_SHUTDOWN && n < MOST) {
		const QueuePriority priority = (QueuePriority)(1 + rng_below(r, 4));
		uint32_t number[BATCH];
		EnqueueItem items[BATCH];
		size_t sent = 0, count = 1 + rng_below(r, BATCH);

		for (size_t i = 0; i < count; i++) {
			number[i] = me << 16 | (n + (uint32_t)i);
			items[i] = (EnqueueItem){ &number[i], sizeof(number[i]) };
		}
		if (count == 1) {
			status = q_ring_send_timeout(shared.ring, &number[0], sizeof(number[0]),
						     priority, rng_below(r, 2) * UINT32_MAX);
			sent = status == Q_OK;
		} else {
			status = q_ring_send_batch(shared.ring, items, count, priority, &sent);
		}
		must(status == Q_OK || status == Q_ERR_FULL || status == Q_ERR_SHUTDOWN, "send: %s",
		     q_status_string(status));
		n += (uint32_t)sent;
		if (status == Q_ERR_FULL)
			sched_yield();
	}
	shared.accepted[me] = n;
}

static void receive_until_closed(struct rng *r)
{
	QueueStatus status = Q_OK;

	while (status != Q_ERR_SHUTDOWN) {
		uint32_t number[2 * BATCH]; /* each at a multiple of 8 */
		RingMessage m[BATCH];
		size_t n = 0, len = sizeof(number[0]);

		if (rng_below(r, 2) == 0) {
			status = q_ring_recv_batch(shared.ring, number, sizeof(number), m, BATCH,
						   &n);
		} else {
			status = q_ring_recv_timeout(shared.ring, number, &len,
						     rng_below(r, 2) * UINT32_MAX);
			n = status == Q_OK;
		}
		must(status == Q_OK || status == Q_ERR_EMPTY || status == Q_ERR_SHUTDOWN,
		     "receive: %s", q_status_string(status));
		for (size_t i = 0; i < n; i++) {
			const uint32_t sender = number[2 * i] >> 16, at = number[2 * i] & 0xffff;

			must(sender < SENDERS && at < MOST + BATCH, "message %" PRIx32,
			     number[2 * i]);
			must(bump(shared.seen[sender][at], 1) == 0, "message %" PRIx32 " twice",
			     number[2 * i]);
		}
		if (status == Q_ERR_EMPTY)
			sched_yield();
	}
}

static void *run(void *arg)
{
	const uint32_t me = (uint32_t)(uintptr_t)arg;
	struct rng r = rng_of(me + 77);

	for (uint32_t round = 0; round < shared.rounds; round++) {
		pthread_barrier_wait(&shared.begin);
		if (me < SENDERS)
			send_until_closed(me, &r);
		else
			receive_until_closed(&r);
		pthread_barrier_wait(&shared.end);
	}
	return NULL;
}

static void a_close_loses_nothing_doubles_nothing_and_reaches_everybody(void **state)
{
	static const uint64_t starts[] = { 0, (UINT64_C(1) << 32) - 9, (UINT64_C(1) << 63) - 9,
					   0 - UINT64_C(9) };
	const uint64_t start = gq__start_pos;
	pthread_t thread[THREADS];
	struct rng r = rng_of(4711);

	(void)state;
	shared.rounds = stress_scaled(10000);
	pthread_barrier_init(&shared.begin, NULL, THREADS + 1);
	pthread_barrier_init(&shared.end, NULL, THREADS + 1);
	for (uint32_t i = 0; i < THREADS; i++)
		thread[i] = stress_thread(run, (void *)(uintptr_t)i);
	for (uint32_t round = 0; round < shared.rounds; round++) {
		const RingConfig cfg = { .ring_size = 1u << round % 3, .max_msg_size = 8 };
		const uint32_t turns = rng_below(&r, 200);

		if (round % 100 == 0)
			stress_phase(NULL, "round %" PRIu32, round);
		gq__start_pos = starts[round / 3 % 4];
		must_be(Q_OK, q_ring_create(&cfg, NULL, 0, &shared.ring));
		memset(shared.seen, 0, sizeof(shared.seen));
		pthread_barrier_wait(&shared.begin);
		for (uint32_t i = 0; i < turns; i++)
			if (i % 16 == 0)
				sched_yield();
			else
				gq_cpu_relax();
		must_be(Q_OK, q_ring_close(shared.ring));
		pthread_barrier_wait(&shared.end);
		for (uint32_t s = 0; s < SENDERS; s++)
			for (uint32_t i = 0; i < MOST + BATCH; i++)
				must(shared.seen[s][i] == (i < shared.accepted[s]),
				     "message %" PRIu32 " of %" PRIu32 " accepted, seen %" PRIu32
				     " times",
				     i, shared.accepted[s], shared.seen[s][i]);
		must(q_ring_available(shared.ring) == cfg.ring_size, "%" PRIu32 " free of %" PRIu32,
		     q_ring_available(shared.ring), cfg.ring_size);
		q_ring_destroy(shared.ring);
	}
	for (uint32_t i = 0; i < THREADS; i++)
		stress_join(thread[i]);
	gq__start_pos = start;
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_close_loses_nothing_doubles_nothing_and_reaches_everybody),
	};

	stress_begin(argc, argv);
	return cmocka_run_group_tests_name("stress.ring_close", tests, NULL, NULL);
}
