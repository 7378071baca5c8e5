/* SPDX-License-Identifier: Apache-2.0 */
/*
 * stress_fair.c - four senders and four receivers of different rates on one ring, and on one queue:
 * nobody waits for more than a bound that is counted in messages and turns, not in time.
 *
 *   A message, once accepted, is received before N + TAKE others at most, where N is how many the
 *   ring or the queue holds. For at most N - 1 lie before it, and TAKE are in the hands of the one
 *   that receives now.
 *   A receiver whose turn it is gets something if something has been accepted and not received. (Of
 * a queue: or is inside a processor.) A sender whose turn it is gets in if there is room. Without
 * turns senders race for it. Everybody gets on: a run ends when each of the eight has had its
 * share, and no more than STARVED times a share goes by before that. What one sender sends is
 * received in its order, and whole.
 *
 * Receivers take turns, in the order in which they ask, because the order of receiving has to be
 * known; each rests between its turns for as long as its rate says.
 */
#include "stress.h"

#include "host/base/fault.h"

#include <inttypes.h>
#include <sched.h>
#include <string.h>

#include <gpuq/ring.h>

enum { SENDERS = 4, RECEIVERS = 4, TAKE = 3, MAX_BATCH = 8, REMEMBERED = 4096, STARVED = 2048 };

/* Turns, in the order in which they were asked for. */
struct turns {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	uint64_t asked, given;
};

struct message {
	uint32_t sender, number;
};

struct party {
	struct fair *f;
	uint32_t index;
	uint32_t moved; /* atomic: messages sent or received */
};

/* What is tried: a ring or a queue of so many messages. */
struct fair {
	RingQueue *ring;
	GpuQueue *q; /* one of the two is NULL */
	uint32_t capacity, share;
	bool in_turns; /* senders, too */
	struct turns sending, receiving;
	uint64_t accepted, received; /* atomic */
	uint32_t next[SENDERS];      /* the number that is received next; by the receiver's turn */
	/* By sender and number: how many had been received when it was accepted, or UNKNOWN yet. */
	uint64_t received_before[SENDERS][REMEMBERED]; /* atomic */
	struct party sender[SENDERS], receiver[RECEIVERS];
};

#define UNKNOWN UINT64_MAX

static void turn_begin(struct turns *t)
{
	uint64_t mine;

	pthread_mutex_lock(&t->lock);
	mine = t->asked++;
	while (t->given != mine)
		pthread_cond_wait(&t->changed, &t->lock);
	pthread_mutex_unlock(&t->lock);
}

static void turn_end(struct turns *t)
{
	pthread_mutex_lock(&t->lock);
	t->given++;
	pthread_cond_broadcast(&t->changed);
	pthread_mutex_unlock(&t->lock);
}

/* ---- the two kinds --------------------------------------------------------------------------- */

/* How many of `n` messages were accepted, without waiting. */
static size_t send_some(struct fair *f, const struct message *m, size_t n)
{
	EnqueueItem items[MAX_BATCH];
	QueueStatus status;
	size_t sent = 0;

	for (size_t i = 0; i < n; i++)
		items[i] = (EnqueueItem){ &m[i], sizeof(m[i]) };
	status = f->ring != NULL ? q_ring_send_batch(f->ring, items, n, Q_PRIORITY_NORMAL, &sent)
				 : q_enqueue_batch(f->q, items, n, NULL, &sent, 0);
	must(status == Q_OK || status == Q_ERR_FULL, "sending gave %s; %s", q_status_string(status),
	     q_last_error());
	return sent;
}

/* How many were received, of up to `max`. */
static size_t receive_some(struct fair *f, struct message *m, size_t max)
{
	GQ_ALIGNED(16) uint8_t buffer[TAKE * 16];
	size_t n = 0;

	if (f->ring != NULL) {
		RingMessage got[TAKE];
		const QueueStatus status =
			q_ring_recv_batch(f->ring, buffer, sizeof(buffer), got, max, &n);

		must(status == Q_OK || status == Q_ERR_EMPTY, "receiving gave %s; %s",
		     q_status_string(status), q_last_error());
		for (size_t i = 0; i < n; i++)
			memcpy(&m[i], buffer + got[i].offset, sizeof(m[i]));
	} else {
		Completion done[TAKE];

		must_be(Q_OK, q_take_results(f->q, done, max, buffer, sizeof(buffer), &n));
		for (size_t i = 0; i < n; i++)
			memcpy(&m[i], done[i].result, sizeof(m[i]));
	}
	return n;
}

/* ---- senders --------------------------------------------------------------------------------- */

/* Nobody starves: it lacks its share, though so many messages have gone by that it is refused. */
static bool has_its_share(const struct fair *f, const char *what, const struct party *p)
{
	const uint32_t moved = get(p->moved);

	must(moved >= f->share || get(f->received) < (uint64_t)STARVED * f->share,
	     "%s %" PRIu32 " has had %" PRIu32 " of its %" PRIu32 " messages, all others %" PRIu64,
	     what, p->index, moved, f->share, get(f->received) - moved);
	return moved >= f->share;
}

static bool all_have_their_share(const struct fair *f)
{
	bool all = true;

	for (uint32_t i = 0; i < SENDERS; i++)
		all = has_its_share(f, "sender", &f->sender[i]) && all;
	for (uint32_t i = 0; i < RECEIVERS; i++)
		all = has_its_share(f, "receiver", &f->receiver[i]) && all;
	return all;
}

static uint64_t *memory_of(struct fair *f, uint32_t sender, uint32_t number)
{
	return &f->received_before[sender][number % REMEMBERED];
}

/* One call, in this sender's turn if there are turns. @return how many were accepted */
static size_t send_in_turn(struct fair *f, const struct message *m, size_t n)
{
	const uint64_t received = get(f->received), accepted = get(f->accepted);
	const size_t sent = send_some(f, m, n);

	/* Whatever has been received since made more room. */
	must(!f->in_turns || sent != 0 || accepted - received >= f->capacity,
	     "a sender is refused with %" PRIu64 " of %" PRIu32 " inside", accepted - received,
	     f->capacity);
	bump(f->accepted, sent);
	return sent;
}

static void *send_at_a_rate(void *arg)
{
	static const uint32_t batch[SENDERS] = { MAX_BATCH, 1, 3, 2 };
	static const uint32_t rest_us[SENDERS] = { 0, 0, 20, 100 };
	struct party *p = arg;
	struct fair *f = p->f;
	uint32_t number = 0;

	while (!all_have_their_share(f)) {
		struct message m[MAX_BATCH];
		const uint32_t n = batch[p->index];
		uint64_t received;
		size_t sent;

		for (uint32_t i = 0; i < n; i++) {
			m[i] = (struct message){ p->index, number + i };
			put(*memory_of(f, p->index, number + i), UNKNOWN);
		}
		if (f->in_turns)
			turn_begin(&f->sending);
		sent = send_in_turn(f, m, n);
		if (f->in_turns)
			turn_end(&f->sending);
		/* As of now, not of a moment ago. */
		received = __atomic_fetch_add(&f->received, 0, __ATOMIC_SEQ_CST);
		for (uint32_t i = 0; i < sent; i++)
			put(*memory_of(f, p->index, number + i), received);
		number += (uint32_t)sent;
		put(p->moved, number);
		if (rest_us[p->index] != 0 || sent == 0)
			stress_nap_us(1 + rest_us[p->index]);
	}
	return NULL;
}

/* ---- receivers ------------------------------------------------------------------------------- */

/* In the receiver's turn. */
static void check(struct fair *f, const struct message *m)
{
	const uint64_t before = get(f->received);
	uint64_t waited_from;

	must(m->sender < SENDERS && m->number == f->next[m->sender],
	     "sender %" PRIu32 "'s message %" PRIu32 " comes in place of %" PRIu32, m->sender,
	     m->number, f->next[m->sender % SENDERS]);
	f->next[m->sender]++;
	waited_from = get(*memory_of(f, m->sender, m->number));
	must(waited_from == UNKNOWN || waited_from > before ||
		     before - waited_from <= f->capacity + TAKE,
	     "a message waited for %" PRIu64 " others, %" PRIu32 " fit in", before - waited_from,
	     f->capacity);
	__atomic_fetch_add(&f->received, 1, __ATOMIC_SEQ_CST);
}

/* In turn. @return how many */
static size_t receive_in_turn(struct fair *f, size_t max)
{
	struct message m[TAKE];
	const uint64_t accepted = get(f->accepted), received = get(f->received);
	const size_t n = receive_some(f, m, max);

	must(f->q != NULL || n != 0 || accepted <= received,
	     "a receiver finds nothing with %" PRIu64 " inside", accepted - received);
	for (size_t i = 0; i < n; i++)
		check(f, &m[i]);
	return n;
}

static void *receive_at_a_rate(void *arg)
{
	static const uint32_t batch[RECEIVERS] = { TAKE, 1, 2, 1 };
	static const uint32_t rest_us[RECEIVERS] = { 0, 0, 20, 100 };
	struct party *p = arg;
	struct fair *f = p->f;

	while (!all_have_their_share(f)) {
		size_t n;

		turn_begin(&f->receiving);
		n = receive_in_turn(f, batch[p->index]);
		turn_end(&f->receiving);
		bump(p->moved, (uint32_t)n);
		if (rest_us[p->index] != 0 || n == 0)
			stress_nap_us(1 + rest_us[p->index]);
	}
	return NULL;
}

/* ---- runs ------------------------------------------------------------------------------------ */

static void run_all(struct fair *f)
{
	pthread_t thread[SENDERS + RECEIVERS];

	f->sending = (struct turns){ PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, 0, 0 };
	f->receiving = f->sending;
	f->share = stress_scaled(150);
	memset(f->received_before, 0xff, sizeof(f->received_before));
	for (uint32_t i = 0; i < SENDERS; i++)
		f->sender[i] = (struct party){ f, i, 0 };
	for (uint32_t i = 0; i < RECEIVERS; i++)
		f->receiver[i] = (struct party){ f, i, 0 };
	/* Each looks at all of them. */
	for (uint32_t i = 0; i < SENDERS; i++)
		thread[i] = stress_thread(send_at_a_rate, &f->sender[i]);
	for (uint32_t i = 0; i < RECEIVERS; i++)
		thread[SENDERS + i] = stress_thread(receive_at_a_rate, &f->receiver[i]);
	for (uint32_t i = 0; i < SENDERS + RECEIVERS; i++)
		stress_join(thread[i]);
}

static const uint32_t capacities[] = { 1, 2, 4, 64 };
static const uint64_t starts[] = { (UINT64_C(1) << 32) - 3, 0 - UINT64_C(3) };

/* Of each capacity, at each start; senders racing, and in turns. */
static void try_all(void (*try_one)(struct fair *f, uint64_t start))
{
	for (uint32_t n = 0; n < 16; n++) {
		static struct fair f;

		f = (struct fair){ .capacity = capacities[n % 4], .in_turns = n / 8 != 0 };
		try_one(&f, starts[n / 4 % 2]);
	}
}

static void try_ring(struct fair *f, uint64_t start)
{
	const RingConfig cfg = { .ring_size = f->capacity, .max_msg_size = sizeof(struct message) };

	stress_phase(NULL, "a ring of %" PRIu32 ", start %#" PRIx64 "%s", f->capacity, start,
		     f->in_turns ? ", in turns" : "");
	gq__start_pos = start;
	must_be(Q_OK, q_ring_create(&cfg, NULL, 0, &f->ring));
	gq__start_pos = 1;
	run_all(f);
	q_ring_destroy(f->ring);
}

static void nobody_waits_for_more_than_the_ring_holds(void **state)
{
	(void)state;
	try_all(try_ring);
}

static void echo(const MsgView *in, ResultView *out)
{
	memcpy(out->out, in->payload, in->len);
	*out->out_len = in->len;
}

/* One consumer: with more, messages that run at the same time may end in any order. */
static void try_queue(struct fair *f, uint64_t start)
{
	const QueueConfig cfg = { .capacity = f->capacity,
				  .slot_bytes = sizeof(struct message),
				  .device = Q_DEVICE_CPU,
				  .consumers = 1,
				  .processor = "fair" };

	gq__start_pos = start;
	f->q = q_init(&cfg);
	gq__start_pos = 1;
	must(f->q != NULL, "q_init: %s", q_last_error());
	stress_phase(f->q, "a queue of %" PRIu32 ", start %#" PRIx64 "%s", f->capacity, start,
		     f->in_turns ? ", in turns" : "");
	run_all(f);
	q_shutdown(f->q);
}

static void nobody_waits_for_more_than_the_queue_holds(void **state)
{
	(void)state;
	try_all(try_queue);
}

int main(int argc, char **argv)
{
	static const QProcessorImage image = { .magic = Q_PROCESSOR_MAGIC,
					       .protocol_version = Q_PROTOCOL_VERSION,
					       .name = "fair",
					       .cpu = echo };
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(nobody_waits_for_more_than_the_ring_holds),
		cmocka_unit_test(nobody_waits_for_more_than_the_queue_holds),
	};

	stress_begin(argc, argv);
	q_register_processor(&image);
	return cmocka_run_group_tests_name("stress.fair", tests, NULL, NULL);
}
