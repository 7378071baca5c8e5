/* SPDX-License-Identifier: Apache-2.0 */
/*
 * stress_ring_liar.c - a process that writes into one ring's memory at full speed, while this
 * process uses it, and honest threads use another ring: every call comes back, and the other ring
 * loses nothing. The same step by step: unit/ring/test_ring_liar.c.
 */
#include "support.h"

#include "host/ring/extent.h"
#include "host/ring/ring.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

enum { ROUNDS = 3000, HONEST = 20000 };

/* What the liar does for ever, to the words of one ring of entries. */
static void lie(struct gq_word_ring *ring, int how)
{
	uint64_t x = 88172645463325252u, next = *ring->tail;

	for (;;) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		switch (how) {
		case 0: /* publishes ahead of the tail */
			if (gq_pos_diff(next, *ring->tail + ring->mask) >= 0)
				next = gq_load_relaxed_u64(ring->tail);
			gq_store_relaxed_u64(gq_word_ring_entry(ring, next),
					     gq_word_ring_tag(ring, next));
			next++;
			break;
		case 1: /* moves the head to and fro */
			gq_fetch_add_relaxed_u64(ring->head, 2);
			gq_fetch_add_relaxed_u64(ring->head, (uint64_t)-2);
			break;
		case 2: /* and the tail */
			gq_fetch_add_relaxed_u64(ring->tail, 1 + x % 3);
			gq_fetch_add_relaxed_u64(ring->tail, 0 - x % 4);
			break;
		case 3: /* moves the head by a cell that is not there yet */
			gq_fetch_add_relaxed_u64(ring->head, gq_head_of(1));
			gq_fetch_add_relaxed_u64(ring->head, 0 - gq_head_of(1));
			break;
		default: /* anything anywhere */
			gq_store_relaxed_u64(x % 4 == 0   ? ring->head
					     : x % 4 == 1 ? ring->tail
							  : gq_word_ring_entry(ring, x >> 8),
					     x % 3 == 0 ? x
							: gq_word_ring_tag(ring, *ring->head) | 1);
		}
	}
}

struct honest {
	RingQueue *r;
	uint64_t wrong;
};

static void *send_numbers(void *arg)
{
	struct honest *h = arg;

	for (uint64_t i = 0; i < HONEST; i++)
		if (q_ring_send_timeout(h->r, &i, sizeof(i), 0, LONG_MS) != Q_OK)
			gq_fetch_add_relaxed_u64(&h->wrong, 1);
	return NULL;
}

static void *receive_numbers(void *arg)
{
	struct honest *h = arg;

	for (uint64_t i = 0, got; i < HONEST; i++) {
		size_t len = sizeof(got);

		if (q_ring_recv_timeout(h->r, &got, &len, LONG_MS) != Q_OK || got != i)
			gq_fetch_add_relaxed_u64(&h->wrong, 1);
	}
	return NULL;
}

static void use(RingQueue *r, int rounds)
{
	const RingCompletion completions[3] = { { .sequence = 1 } };
	RingCompletion done[4];
	RingMessage m[4];
	char buf[256];

	for (int i = 0; i < rounds; i++) {
		size_t len = sizeof(buf), n;

		q_ring_send(r, buf, (size_t)i % 16, (QueuePriority)(i % 5));
		q_ring_send(r, buf, 100, 0);
		if (q_ring_recv(r, buf, &len) == Q_OK)
			len = sizeof(buf);
		q_ring_recv_typed(r, buf, sizeof(buf), m);
		q_ring_recv_batch(r, buf, sizeof(buf), m, 4, &n);
		q_ring_discard(r);
		q_ring_peek(r, m);
		q_ring_complete(r, 0, Q_OK, buf, 8);
		q_ring_complete_batch(r, completions, 3, NULL);
		q_ring_poll_completions(r, done, 4, &n);
		q_ring_len(r);
	}
}

/* What the `k`th liar lies about: a class, the pool, or what a sender in single mode takes again.
 */
static struct gq_word_ring part_of(const RingQueue *victim, int k)
{
	struct gq_word_ring ring = k % 3 == 1 ? victim->messages.pool : victim->messages.ready[1];

	if (k % 3 == 2)
		ring.head = &victim->messages.reused[1];
	return ring;
}

static void a_liar_at_full_speed_harms_its_own_ring_only(void **state)
{
	static const uint32_t flags[] = { 0, Q_RING_SINGLE | Q_RING_LARGE, Q_RING_LARGE,
					  Q_RING_SINGLE };
	struct honest h = { 0 };
	pthread_t sender, receiver;

	(void)state;
	assert_status(q_ring_create(NULL, NULL, 0, &h.r), Q_OK);
	assert_int_equal(pthread_create(&sender, NULL, send_numbers, &h), 0);
	assert_int_equal(pthread_create(&receiver, NULL, receive_numbers, &h), 0);
	for (int k = 0; k < 30; k++) { /* each part of a ring in each way */
		const RingConfig cfg = { .ring_size = 1u << k % 8,
					 .max_msg_size = 16,
					 .flags = k % 3 == 2 ? flags[k % 2 == 0 ? 1 : 3]
							     : flags[k / 2 % 4] };
		RingQueue *r, *victim;
		pid_t child;
		int fd;

		assert_status(q_ring_create_fd(&cfg, &fd, &r), Q_OK);
		child = fork();
		if (child == 0) {
			struct gq_word_ring part;

			if (q_ring_attach_fd(fd, &victim) != Q_OK)
				_exit(1);
			part = part_of(victim, k);
			lie(&part, k % 5);
		}
		use(r, ROUNDS);
		assert_int_equal(kill(child, SIGKILL), 0);
		assert_int_equal(waitpid(child, NULL, 0), child);
		q_ring_close(r);
		q_ring_destroy(r);
		close(fd);
	}
	pthread_join(sender, NULL);
	pthread_join(receiver, NULL);
	assert_int_equal(h.wrong, 0);
	q_ring_destroy(h.r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_liar_at_full_speed_harms_its_own_ring_only),
	};

	return cmocka_run_group_tests_name("stress.ring_liar", tests, NULL, NULL);
}
