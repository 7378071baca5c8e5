/* SPDX-License-Identifier: Apache-2.0 */
/*
 * stress_ring.c - rings between threads and between processes, some of which are killed.
 *
 * Every message is made from its number, so that every byte can be checked, and is marked in a
 * ledger when it is received: exactly once is proved by content. The ledger and the ring lie in
 * shared memory; the processes of a test are this program again, started as
 * `stress_ring --peer FD BYTES INDEX`.
 */
#include "stress.h"

#include "host/base/fault.h"
#include "host/ring/repair.h"
#include "host/ring/ring.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

enum { MAX_WORKERS = 16, HEADER = 16, MAX_BATCH = 8, CLASSES = 4 };

enum role { SENDER, RECEIVER, SCRIBBLER };

struct worker {
	uint32_t role;
	uint32_t first;    /* a sender's messages: from this number on ... */
	uint32_t messages; /* ... so many; a sender that is killed goes on where it was */
	uint32_t begun;    /* of these, sends begun; atomic, like all below */
	uint32_t accepted; /* and accepted */
	uint32_t received;
	uint32_t done;
	uint32_t killed; /* times */
};

/* What the threads or processes of one test share, in front of the ring. */
struct arena {
	RingConfig cfg;
	uint64_t start_pos;
	uint64_t stream;
	uint32_t n_workers, total;
	bool endless;  /* senders wait for `quit`, and go round their numbers */
	bool complete; /* receivers complete, senders poll */
	uint32_t quit;
	uint32_t completed, polled; /* atomic */
	size_t ring_at, seen_at, bytes;
	struct worker worker[MAX_WORKERS];
};

static RingQueue *ring; /* of this process */

static uint8_t *seen_of(struct arena *a)
{
	return (uint8_t *)a + a->seen_at;
}

/* By sequence: 1 received, 2 completion polled. */
static uint8_t *sequences_of(struct arena *a)
{
	return seen_of(a) + a->total;
}

static uint32_t max_length(const struct arena *a)
{
	uint32_t parts = (a->cfg.flags & Q_RING_LARGE) != 0
				 ? (a->cfg.ring_size < 5 ? a->cfg.ring_size : 5)
				 : 1;

	return a->cfg.max_msg_size * parts;
}

static uint32_t length_of(const struct arena *a, uint32_t number)
{
	return HEADER + (uint32_t)(mix64(number ^ a->stream) % (max_length(a) - HEADER + 1));
}

static QueuePriority priority_of(const struct arena *a, uint32_t number)
{
	return (QueuePriority)(1 + mix64(number ^ a->stream ^ 0x5eed) % CLASSES);
}

static void write_message(const struct arena *a, uint32_t number, uint32_t sender, uint8_t *to)
{
	const uint32_t len = length_of(a, number);
	uint64_t head[2] = { (uint64_t)sender << 32 | number, mix64(number + a->stream) };

	memcpy(to, head, sizeof(head));
	for (uint32_t i = HEADER; i < len; i++)
		to[i] = (uint8_t)(head[1] >> i % 8 * 8) ^ (uint8_t)i;
}

/* Checks every byte. @return the number. */
static uint32_t read_message(const struct arena *a, const uint8_t *from, uint32_t len,
			     uint32_t *sender)
{
	uint64_t head[2];
	uint32_t number;

	must(len >= HEADER, "a message of %" PRIu32 " bytes", len);
	memcpy(head, from, sizeof(head));
	number = (uint32_t)head[0];
	*sender = (uint32_t)(head[0] >> 32);
	must(number < a->total && *sender < a->n_workers, "message %" PRIx64, head[0]);
	must(head[1] == mix64(number + a->stream), "torn message %" PRIu32, number);
	must(len == length_of(a, number), "message %" PRIu32 " has %" PRIu32 " bytes, not %" PRIu32,
	     number, len, length_of(a, number));
	for (uint32_t i = HEADER; i < len; i++)
		must(from[i] == ((uint8_t)(head[1] >> i % 8 * 8) ^ (uint8_t)i),
		     "byte %" PRIu32 " of message %" PRIu32, i, number);
	return number;
}

/* ---- senders --------------------------------------------------------------------------------- */

static void poll_completions(struct arena *a, struct rng *r)
{
	RingCompletion done[MAX_BATCH];
	size_t n;

	must_be(Q_OK, q_ring_poll_completions(ring, done, 1 + rng_below(r, MAX_BATCH), &n));
	for (size_t i = 0; i < n; i++) {
		uint64_t data;

		must(done[i].sequence < a->total && done[i].length == sizeof(data) &&
			     done[i].status == Q_ERR_EXPIRED,
		     "completion of %" PRIu64, done[i].sequence);
		memcpy(&data, done[i].data, sizeof(data));
		must(data == mix64(done[i].sequence), "completion of %" PRIu64, done[i].sequence);
		must(__atomic_fetch_add(&sequences_of(a)[done[i].sequence], 2, __ATOMIC_RELAXED) <
			     2,
		     "completion of %" PRIu64 " came twice", done[i].sequence);
	}
	bump(a->polled, (uint32_t)n);
}

static bool transient(QueueStatus status)
{
	return status == Q_ERR_FULL || status == Q_ERR_TIMEOUT;
}

static void send_all(struct arena *a, uint32_t index)
{
	struct worker *w = &a->worker[index];
	struct rng r = rng_of(a->stream * MAX_WORKERS + index + get(w->killed) * 7919);
	uint8_t *text = malloc((size_t)MAX_BATCH * max_length(a));
	uint32_t at = get(w->begun); /* not again, what may have been accepted */

	must(text != NULL, "memory");
	while (at < w->messages && !get(a->quit)) {
		uint32_t n = rng_one_in(&r, 3) ? 1 + rng_below(&r, MAX_BATCH) : 1;
		QueuePriority priority = priority_of(a, w->first + at);
		EnqueueItem items[MAX_BATCH];
		QueueStatus status;
		size_t sent = 0;

		n = n > w->messages - at ? w->messages - at : n;
		for (uint32_t i = 0; i < n; i++) {
			uint32_t number = w->first + at + i;

			if (priority_of(a, number) != priority) {
				n = i;
				break;
			}
			items[i].data = text + (size_t)i * max_length(a);
			items[i].len = length_of(a, number);
			write_message(a, number, index, text + (size_t)i * max_length(a));
		}
		put(w->begun, at + n);
		while (sent < n) {
			size_t some = 0;

			if (n == 1 && rng_one_in(&r, 2)) {
				status = q_ring_send_timeout(ring, items[0].data, items[0].len,
							     priority, rng_below(&r, 3));
				some = status == Q_OK;
			} else {
				status = q_ring_send_batch(ring, items + sent, n - sent, priority,
							   &some);
			}
			sent += some;
			put(w->accepted, at + (uint32_t)sent);
			must(status == Q_OK || transient(status), "send: %s; %s",
			     q_status_string(status), q_last_error());
			if (a->complete)
				poll_completions(a, &r);
			if (transient(status)) {
				if (get(a->quit))
					break;
				sched_yield();
			}
		}
		at += n;
		if (rng_one_in(&r, 512))
			stress_nap_us(rng_below(&r, 300));
	}
	while (a->complete && !get(a->quit) && get(a->polled) < a->total) {
		poll_completions(a, &r);
		sched_yield();
	}
	free(text);
	put(w->done, 1);
}

/* ---- receivers ------------------------------------------------------------------------------- */

struct order {
	uint32_t next[MAX_WORKERS][CLASSES]; /* a sender's numbers come in order within a class */
};

static void received(struct arena *a, uint32_t index, struct order *order, const uint8_t *text,
		     uint32_t len, const RingMessage *m)
{
	uint32_t sender, number = read_message(a, text, len, &sender);
	uint32_t class = priority_of(a, number) - Q_PRIORITY_LOW;

	must(__atomic_exchange_n(&seen_of(a)[number], 1, __ATOMIC_RELAXED) == 0,
	     "message %" PRIu32 " came twice", number);
	must(number >= order->next[sender][class], "message %" PRIu32 " came after %" PRIu32,
	     number, order->next[sender][class] - 1);
	order->next[sender][class] = number + 1;
	if (m != NULL) {
		must(m->kind == Q_MESSAGE_INLINE && m->length == len &&
			     m->priority == priority_of(a, number),
		     "what is said of message %" PRIu32, number);
		if (!a->endless) {
			must(m->sequence < a->total, "sequence %" PRIu64, m->sequence);
			must(__atomic_fetch_or(&sequences_of(a)[m->sequence], 1, __ATOMIC_RELAXED) %
					     2 ==
				     0,
			     "sequence %" PRIu64 " came twice", m->sequence);
		}
	}
	bump(a->worker[index].received, 1);
}

/* Complete `n` messages: one by one, or as many at once as there is room for. */
static void complete_all(struct arena *a, const RingMessage *m, size_t n, bool at_once)
{
	RingCompletion completion[MAX_BATCH];

	for (size_t i = 0; i < n; i++) {
		const uint64_t data = mix64(m[i].sequence);

		completion[i] = (RingCompletion){ .sequence = m[i].sequence,
						  .status = Q_ERR_EXPIRED,
						  .length = sizeof(data) };
		memcpy(completion[i].data, &data, sizeof(data));
	}
	for (size_t done = 0, sent; done < n; done += sent) {
		const RingCompletion *c = &completion[done];
		QueueStatus status;

		if (at_once) {
			status = q_ring_complete_batch(ring, c, n - done, &sent);
		} else {
			status = q_ring_complete(ring, c->sequence, c->status, c->data, c->length);
			sent = status == Q_OK;
		}
		must(status == Q_OK || status == Q_ERR_FULL, "complete: %s; %s",
		     q_status_string(status), q_last_error());
		bump(a->completed, (uint32_t)sent);
		if (sent == 0)
			sched_yield();
	}
}

static void receive_all(struct arena *a, uint32_t index)
{
	struct rng r =
		rng_of(a->stream * MAX_WORKERS + index + get(a->worker[index].killed) * 7919);
	const size_t cap = (size_t)MAX_BATCH * (max_length(a) + 8);
	uint8_t *text = malloc(cap);
	struct order *order = calloc(1, sizeof(*order));
	QueueStatus status = Q_OK;

	must(text != NULL && order != NULL, "memory");
	while (status != Q_ERR_SHUTDOWN) {
		RingMessage m[MAX_BATCH];
		size_t n = 0, len = max_length(a);
		/* With completions every message's sequence must be known. */
		uint32_t how = rng_below(&r, a->complete ? 2 : 4);

		if (how == 0) {
			status = q_ring_recv_batch(ring, text, cap, m, 1 + rng_below(&r, MAX_BATCH),
						   &n);
			for (size_t i = 0; i < n; i++)
				received(a, index, order, text + m[i].offset, m[i].length, &m[i]);
		} else if (how == 1) {
			status = q_ring_recv_typed(ring, text, cap, &m[0]);
			n = status == Q_OK;
			if (n != 0)
				received(a, index, order, text, m[0].length, &m[0]);
		} else {
			status = q_ring_recv_timeout(ring, text, &len, how == 2 ? 0 : 2);
			if (status == Q_OK)
				received(a, index, order, text, (uint32_t)len, NULL);
		}
		must(status == Q_OK || status == Q_ERR_EMPTY || status == Q_ERR_TIMEOUT ||
			     status == Q_ERR_SHUTDOWN,
		     "receive: %s; %s", q_status_string(status), q_last_error());
		if (a->complete)
			complete_all(a, m, n, rng_one_in(&r, 2));
		if (rng_one_in(&r, 64)) {
			RingMessage front;
			QueueStatus peeked = q_ring_peek(ring, &front);

			must(peeked != Q_OK ||
				     (front.kind == Q_MESSAGE_INLINE && front.length >= HEADER &&
				      front.length <= max_length(a)),
			     "peek: %" PRIu32 " bytes", front.length);
		}
		if (status == Q_ERR_EMPTY)
			sched_yield();
		if (rng_one_in(&r, 512))
			stress_nap_us(rng_below(&r, 300));
	}
	free(order);
	free(text);
	put(a->worker[index].done, 1);
}

static void work(struct arena *a, uint32_t index)
{
	if (a->worker[index].role == SENDER)
		send_all(a, index);
	else
		receive_all(a, index);
}

/* ---- arenas ---------------------------------------------------------------------------------- */

struct plan {
	uint32_t ring_size, max_msg_size, flags, senders, receivers, messages;
	uint64_t start_pos, stream;
	bool complete, endless;
};

static size_t up(size_t n)
{
	return (n + 4095) & ~(size_t)4095;
}

static struct arena *make_arena(const struct plan *p, int *fd)
{
	RingConfig cfg = { .ring_size = p->ring_size,
			   .max_msg_size = p->max_msg_size,
			   .flags = p->flags };
	const uint32_t total = p->messages * p->senders;
	const size_t ring_at = up(sizeof(struct arena)),
		     seen_at = ring_at + up(q_ring_required_memory(&cfg)),
		     bytes = seen_at + up(2 * (size_t)total);
	struct arena *a;

	*fd = memfd_create("stress_ring", 0); /* goes to the peers */
	must(*fd >= 0 && ftruncate(*fd, (off_t)bytes) == 0, "memfd: %s", strerror(errno));
	a = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, *fd, 0);
	must(a != MAP_FAILED, "mmap: %s", strerror(errno));
	a->cfg = cfg;
	a->start_pos = p->start_pos;
	a->stream = p->stream;
	a->n_workers = p->senders + p->receivers;
	a->total = total;
	a->complete = p->complete;
	a->endless = p->endless;
	a->ring_at = ring_at;
	a->seen_at = seen_at;
	a->bytes = bytes;
	for (uint32_t i = 0; i < p->senders; i++)
		a->worker[i] = (struct worker){ .role = SENDER,
						.first = i * p->messages,
						.messages = p->messages };
	for (uint32_t i = p->senders; i < a->n_workers; i++)
		a->worker[i] = (struct worker){ .role = RECEIVER };
	gq__start_pos = p->start_pos;
	must_be(Q_OK, q_ring_create(&cfg, (char *)a + ring_at, seen_at - ring_at, &ring));
	return a;
}

static void free_arena(struct arena *a, int fd)
{
	q_ring_destroy(ring);
	munmap(a, a->bytes);
	close(fd);
}

static bool senders_done(const struct arena *a)
{
	for (uint32_t i = 0; i < a->n_workers; i++)
		if (a->worker[i].role == SENDER && get(a->worker[i].done) == 0)
			return false;
	return true;
}

static void check_all_received(struct arena *a)
{
	RingStats stats;
	uint64_t bytes = 0;

	must_be(Q_OK, q_ring_stats(ring, &stats));
	for (uint32_t i = 0; i < a->total; i++) {
		must(seen_of(a)[i] == 1, "message %" PRIu32 " never came", i);
		bytes += length_of(a, i);
	}
	must(stats.sent == a->total && stats.received == a->total,
	     "sent %" PRIu64 ", received %" PRIu64, stats.sent, stats.received);
	must(stats.bytes_sent == bytes && stats.bytes_received == bytes,
	     "%" PRIu64 " bytes sent, %" PRIu64 " received, %" PRIu64 " made", stats.bytes_sent,
	     stats.bytes_received, bytes);
	must(!a->complete || (stats.completed == a->total && stats.polled == a->total),
	     "completed %" PRIu64 ", polled %" PRIu64, stats.completed, stats.polled);
	must(q_ring_len(ring) == 0 && q_ring_available(ring) == a->cfg.ring_size,
	     "%" PRIu32 " queued, %" PRIu32 " free", q_ring_len(ring), q_ring_available(ring));
	for (uint32_t i = 0; a->complete && i < a->total; i++)
		must(sequences_of(a)[i] == 3, "sequence %" PRIu32 ": %d", i, sequences_of(a)[i]);
}

/* ---- threads --------------------------------------------------------------------------------- */

struct thread_arg {
	struct arena *a;
	uint32_t index;
};

static void *run_worker(void *arg)
{
	const struct thread_arg *t = arg;

	work(t->a, t->index);
	return NULL;
}

static void run_threads(const struct plan *p)
{
	pthread_t thread[MAX_WORKERS];
	struct thread_arg arg[MAX_WORKERS];
	int fd;
	struct arena *a = make_arena(p, &fd);

	stress_phase(NULL,
		     "ring of %" PRIu32 " x %" PRIu32 ", flags %" PRIu32 ", %" PRIu32
		     " senders, %" PRIu32 " receivers, from %" PRIx64,
		     p->ring_size, p->max_msg_size, p->flags, p->senders, p->receivers,
		     p->start_pos);
	for (uint32_t i = 0; i < a->n_workers; i++) {
		arg[i] = (struct thread_arg){ a, i };
		thread[i] = stress_thread(run_worker, &arg[i]);
	}
	must_come(senders_done(a), "senders do not end");
	must_be(Q_OK, q_ring_close(ring));
	for (uint32_t i = 0; i < a->n_workers; i++)
		stress_join(thread[i]);
	check_all_received(a);
	free_arena(a, fd);
}

static const uint64_t starts[] = { 1, (UINT64_C(1) << 32) - 3, (UINT64_C(1) << 63) - 3,
				   0 - UINT64_C(3) };
static const uint32_t sizes[] = { 1, 2, 4, 16, 1024 };
static const uint32_t lengths[] = { 16, 24, 64, 100, 500 };
enum { N_STARTS = 4, N_SIZES = 5, N_LENGTHS = 5 };

static struct plan draw(uint32_t n, uint32_t messages)
{
	struct rng r = rng_of(n + 0x417);

	return (struct plan){
		.ring_size = sizes[n % N_SIZES],
		.start_pos = starts[n / N_SIZES % N_STARTS],
		.max_msg_size = lengths[rng_below(&r, N_LENGTHS)],
		.flags = (rng_one_in(&r, 3) ? Q_RING_AGEING : 0) |
			 (rng_one_in(&r, 3) ? Q_RING_LARGE : 0),
		.messages = stress_scaled(messages),
		.complete = rng_one_in(&r, 3),
		.stream = n,
	};
}

static void threads_of_each_number_receive_every_message_once_and_in_order(void **state)
{
	static const uint32_t shapes[][2] = { { 1, 1 }, { 4, 1 }, { 1, 4 }, { 4, 4 } };

	(void)state;
	for (uint32_t shape = 0; shape < 4; shape++) {
		for (uint32_t n = 0; n < stress_scaled(2) * N_SIZES * N_STARTS; n++) {
			struct plan p = draw(n + shape * 1000, 1000);

			p.senders = shapes[shape][0];
			p.receivers = shapes[shape][1];
			run_threads(&p);
		}
	}
}

static void a_ring_for_one_sender_and_one_receiver_does_the_same(void **state)
{
	(void)state;
	for (uint32_t n = 0; n < stress_scaled(4) * N_SIZES * N_STARTS; n++) {
		struct plan p = draw(n + 9000, 2000);

		p.flags |= Q_RING_SINGLE;
		p.senders = p.receivers = 1;
		run_threads(&p);
	}
}

/* ---- exact answers --------------------------------------------------------------------------- */

/*
 * One sender and one receiver, each of which knows what calls of the other have returned before its
 * own call began. What it is told has to fit: nothing is there, or a batch has all that was there,
 * only if what was sent before has been received; there is no room only if the ring is full of what
 * has not. Acquire and release: "before" is what the promise is about.
 */
struct told {
	uint32_t messages, size;
	uint64_t sent, received;
};

static void *send_and_be_told(void *arg)
{
	struct told *t = arg;
	struct rng r = rng_of(t->size);

	for (uint64_t i = 0; i < t->messages;) {
		const uint64_t received = __atomic_load_n(&t->received, __ATOMIC_ACQUIRE);
		const uint32_t one_of_six = rng_below(&r, 6);
		const QueueStatus status = q_ring_send(
			ring, &i, sizeof(i),
			(QueuePriority)(one_of_six < CLASSES ? Q_PRIORITY_LOW + one_of_six
							     : Q_PRIORITY_NORMAL));

		if (status == Q_ERR_FULL) {
			must(i - received >= t->size,
			     "full, and %" PRIu64 " of %" PRIu32 " cells are taken", i - received,
			     t->size);
			sched_yield();
		} else {
			must(status == Q_OK, "send: %s", q_last_error());
			__atomic_store_n(&t->sent, ++i, __ATOMIC_RELEASE);
		}
	}
	return NULL;
}

static void receive_and_be_told(struct told *t)
{
	struct rng r = rng_of(t->size + 1);
	RingMessage m[MAX_BATCH];
	uint64_t data[MAX_BATCH], got = 0;

	while (got < t->messages) {
		const uint64_t sent = __atomic_load_n(&t->sent, __ATOMIC_ACQUIRE);
		const size_t max = 1 + rng_below(&r, MAX_BATCH);
		size_t n = 0, len = sizeof(data);
		QueueStatus status;

		if (rng_below(&r, 3) == 0) {
			status = q_ring_recv(ring, data, &len);
			n = status == Q_OK;
		} else {
			status = q_ring_recv_batch(ring, data, sizeof(data), m, max, &n);
			must(status != Q_OK || n == max || got + n >= sent,
			     "%zu of at most %zu, but %" PRIu64 " more were sent before", n, max,
			     sent - got - n);
		}
		must(status == Q_OK || (status == Q_ERR_EMPTY && got >= sent),
		     "%s, with %" PRIu64 " received and %" PRIu64 " sent before",
		     q_status_string(status), got, sent);
		got += n;
		__atomic_store_n(&t->received, got, __ATOMIC_RELEASE);
		if (status == Q_ERR_EMPTY)
			sched_yield();
	}
}

static void nothing_there_and_no_room_are_exact_and_so_is_a_short_batch(void **state)
{
	(void)state;
	for (uint32_t n = 0; n < 4; n++) {
		struct told t = { .messages = stress_scaled(20000), .size = n / 2 == 0 ? 4 : 64 };
		const RingConfig cfg = { .ring_size = t.size,
					 .max_msg_size = sizeof(uint64_t),
					 .flags = n % 2 == 0 ? 0 : Q_RING_SINGLE };
		pthread_t sender;

		stress_phase(NULL, "answers of a ring of %" PRIu32 " flags %" PRIu32, t.size,
			     cfg.flags);
		must_be(Q_OK, q_ring_create(&cfg, NULL, 0, &ring));
		sender = stress_thread(send_and_be_told, &t);
		receive_and_be_told(&t);
		stress_join(sender);
		q_ring_destroy(ring);
	}
}

/* ---- processes ------------------------------------------------------------------------------- */

static pid_t start_peer(const struct arena *a, int fd, uint32_t index)
{
	char fd_text[16], bytes_text[32], index_text[16], seed_text[32];
	char *argv[] = { (char *)"stress_ring",
			 (char *)"--peer",
			 fd_text,
			 bytes_text,
			 index_text,
			 seed_text,
			 NULL };
	pid_t pid;
	int rc;

	snprintf(fd_text, sizeof(fd_text), "%d", fd);
	snprintf(bytes_text, sizeof(bytes_text), "%zu", a->bytes);
	snprintf(index_text, sizeof(index_text), "%" PRIu32, index);
	snprintf(seed_text, sizeof(seed_text), "%" PRIu64, stress_seed);
	rc = posix_spawn(&pid, "/proc/self/exe", NULL, NULL, argv, environ);
	must(rc == 0, "posix_spawn: %s", strerror(rc));
	return pid;
}

/* A peer that writes nonsense over the whole ring, as fast as it can. */
static void scribble(struct arena *a)
{
	uint8_t *memory = (uint8_t *)a + a->ring_at;
	const size_t bytes = a->seen_at - a->ring_at;
	struct rng r = rng_of(a->stream);

	for (; !get(a->quit); bump(a->worker[0].begun, 1)) {
		size_t at = rng_below(&r, 2) == 0 ? rng_below(&r, (uint32_t)bytes)
						  : rng_below(&r, sizeof(struct gq_ring_head));
		uint64_t value = rng_next(&r);

		/* A word plus or minus a little, a byte, or a random word. */
		if (rng_one_in(&r, 2)) {
			at &= ~(size_t)7;
			if (rng_one_in(&r, 2))
				value = *(volatile uint64_t *)(void *)(memory + at) + value % 5 - 2;
			*(volatile uint64_t *)(void *)(memory + at) = value;
		} else {
			*(volatile uint8_t *)(memory + at) = (uint8_t)value;
		}
	}
}

/* The program as a peer. */
static int be_peer(char **argv)
{
	const int fd = atoi(argv[2]);
	const size_t bytes = strtoull(argv[3], NULL, 10);
	struct arena *a = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	char *seed[] = { argv[0], argv[5], NULL };

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	stress_quiet = true;
	stress_begin(2, seed);
	must(a != MAP_FAILED, "mmap: %s", strerror(errno));
	must_be(Q_OK, q_ring_attach((char *)a + a->ring_at, a->seen_at - a->ring_at, &ring));
	stress_phase(NULL, "peer %s", argv[4]);
	if (a->worker[0].role == SCRIBBLER) {
		scribble(a);
		return 0;
	}
	work(a, (uint32_t)atoi(argv[4]));
	q_ring_destroy(ring);
	return 0;
}

static void join_peer(pid_t pid)
{
	int status;

	must(waitpid(pid, &status, 0) == pid, "waitpid: %s", strerror(errno));
	must(WIFEXITED(status) && WEXITSTATUS(status) == 0, "a peer ended with 0x%x",
	     (unsigned)status);
}

static void processes_receive_every_message_once_and_in_order(void **state)
{
	static const uint32_t shapes[][2] = { { 1, 1 }, { 2, 1 }, { 1, 2 }, { 2, 2 } };

	(void)state;
	for (uint32_t n = 0; n < stress_scaled(2) * N_SIZES; n++) {
		struct plan p = draw(n * 7 + 20000, 3000);
		pid_t pid[MAX_WORKERS];
		struct arena *a;
		int fd;

		p.senders = shapes[n % 4][0];
		p.receivers = shapes[n % 4][1];
		p.ring_size = sizes[n % N_SIZES];
		if (n % 4 == 0)
			p.flags |= Q_RING_SINGLE;
		a = make_arena(&p, &fd);
		stress_phase(NULL, "%" PRIu32 " + %" PRIu32 " processes, ring of %" PRIu32,
			     p.senders, p.receivers, p.ring_size);
		for (uint32_t i = 0; i < a->n_workers; i++)
			pid[i] = start_peer(a, fd, i);
		must_come(senders_done(a), "senders do not end");
		must_be(Q_OK, q_ring_close(ring));
		for (uint32_t i = 0; i < a->n_workers; i++)
			join_peer(pid[i]);
		check_all_received(a);
		free_arena(a, fd);
	}
}

static uint32_t all_received(const struct arena *a)
{
	uint32_t sum = 0;

	for (uint32_t i = 0; i < a->n_workers; i++)
		sum += get(a->worker[i].received);
	return sum;
}

/*
 * Kill peers at random and start others in their place; each time the rest must go on. In the end
 * nothing may be missing but what was in dead hands, and every cell must be back.
 */
static void kill_some(const struct plan *p, uint32_t kills)
{
	struct rng r = rng_of(p->stream);
	pid_t pid[MAX_WORKERS];
	uint32_t accepted = 0, arrived = 0, in_hands = 0;
	RingStats stats;
	int fd;
	struct arena *a = make_arena(p, &fd);

	for (uint32_t i = 0; i < a->n_workers; i++)
		pid[i] = start_peer(a, fd, i);
	for (uint32_t k = 0; k < kills; k++) {
		uint32_t victim = rng_below(&r, a->n_workers), before;
		int status;

		stress_phase(NULL,
			     "kill %" PRIu32 " of %" PRIu32 ", ring of %" PRIu32 " flags %" PRIu32,
			     k, kills, p->ring_size, p->flags);
		before = all_received(a);
		must_come(all_received(a) > before + 20, "no traffic before the kill");
		stress_nap_us(rng_below(&r, 2000));
		kill(pid[victim], SIGKILL);
		must(waitpid(pid[victim], &status, 0) == pid[victim] && WIFSIGNALED(status),
		     "the victim ended by itself with 0x%x", (unsigned)status);
		bump(a->worker[victim].killed, 1);
		if (a->worker[victim].role == SENDER) {
			/* What it was at may have been accepted, or not. */
			in_hands += get(a->worker[victim].begun) - get(a->worker[victim].accepted);
			put(a->worker[victim].accepted, get(a->worker[victim].begun));
		} else {
			in_hands += MAX_BATCH;
		}
		pid[victim] = start_peer(a, fd, victim);
		before = all_received(a);
		must_come(all_received(a) > before + 20 || senders_done(a),
			  "no traffic after the kill");
	}
	put(a->quit, 1);
	must_come(senders_done(a), "senders do not end");
	must_be(Q_OK, q_ring_close(ring));
	for (uint32_t i = 0; i < a->n_workers; i++)
		join_peer(pid[i]);
	must_be(Q_OK, q_ring_stats(ring, &stats));
	for (uint32_t i = 0; i < a->n_workers; i++)
		accepted += get(a->worker[i].accepted);
	for (uint32_t i = 0; i < a->total; i++)
		arrived += seen_of(a)[i];
	must(arrived <= accepted && accepted - arrived <= in_hands,
	     "%" PRIu32 " accepted, %" PRIu32 " arrived, at most %" PRIu32 " in dead hands",
	     accepted, arrived, in_hands);
	/* A call that needs no room repairs nothing: look, as a sender without room would. */
	must_come((gq__ring_watch(ring), q_ring_available(ring) == a->cfg.ring_size),
		  "%" PRIu32 " of %" PRIu32 " cells are back; %" PRIu64 " repairs, %" PRIu64
		  " reclaimed",
		  q_ring_available(ring), a->cfg.ring_size, stats.repairs, stats.reclaimed);
	free_arena(a, fd);
}

static void killed_peers_take_nothing_with_them_but_what_was_in_their_hands(void **state)
{
	static const uint32_t kill_sizes[] = { 1, 2, 8, 64 };

	(void)state;
	for (uint32_t n = 0; n < stress_scaled(1) * 12; n++) {
		struct plan p = draw(n + 30000, 1);

		p.ring_size = kill_sizes[n % 4];
		p.senders = p.receivers = n % 3 == 0 ? 1 : 2;
		p.complete = false;
		p.endless = true;
		p.messages = 2000000;
		if (n % 3 == 0)
			p.flags |= Q_RING_SINGLE;
		kill_some(&p, 6);
	}
}

static void a_peer_that_scribbles_harms_only_its_ring(void **state)
{
	(void)state;
	for (uint32_t n = 0; n < stress_scaled(6); n++) {
		struct plan p = draw(n + 40000, 1);
		uint8_t text[4096];
		struct arena *a;
		pid_t pid;
		int fd;

		p.senders = p.receivers = 1;
		p.messages = 1000;
		p.flags |= n % 2 != 0 ? Q_RING_SINGLE : 0;
		a = make_arena(&p, &fd);
		a->worker[0].role = SCRIBBLER;
		stress_phase(NULL, "scribbled ring of %" PRIu32 " flags %" PRIu32, p.ring_size,
			     p.flags);
		pid = start_peer(a, fd, 0);
		memset(text, 7, sizeof(text));
		for (uint32_t i = 0; i < stress_scaled(1500) || get(a->worker[0].begun) < 100000;
		     i++) {
			RingMessage m[4];
			RingCompletion done[4];
			RingStats stats;
			size_t len = max_length(a), count;

			q_ring_send(ring, text, max_length(a), (QueuePriority)(i % 5));
			q_ring_recv(ring, text, &len);
			q_ring_send_timeout(ring, text, HEADER, 0, i % 64 == 0);
			q_ring_peek(ring, &m[0]);
			q_ring_recv_batch(ring, text, sizeof(text), m, 4, &count);
			must(count <= 4, "%zu messages", count);
			for (size_t k = 0; k < count; k++)
				must(m[k].kind != Q_MESSAGE_INLINE ||
					     m[k].offset + m[k].length <= sizeof(text),
				     "message of %" PRIu32 " at %zu", m[k].length, m[k].offset);
			q_ring_complete(ring, i, Q_OK, text, 16);
			q_ring_poll_completions(ring, done, 4, &count);
			must(count <= 4, "%zu completions", count);
			q_ring_discard(ring);
			q_ring_stats(ring, &stats);
			must(q_ring_len(ring) <= p.ring_size, "length");
		}
		q_ring_close(ring);
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
		free_arena(a, fd);
	}
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(threads_of_each_number_receive_every_message_once_and_in_order),
		cmocka_unit_test(a_ring_for_one_sender_and_one_receiver_does_the_same),
		cmocka_unit_test(nothing_there_and_no_room_are_exact_and_so_is_a_short_batch),
		cmocka_unit_test(processes_receive_every_message_once_and_in_order),
		cmocka_unit_test(killed_peers_take_nothing_with_them_but_what_was_in_their_hands),
		cmocka_unit_test(a_peer_that_scribbles_harms_only_its_ring),
	};

	if (argc == 6 && strcmp(argv[1], "--peer") == 0)
		return be_peer(argv);
	stress_begin(argc, argv);
	return cmocka_run_group_tests_name("stress.ring", tests, NULL, NULL);
}
