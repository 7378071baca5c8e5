/* SPDX-License-Identifier: Apache-2.0 */
/*
 * traffic.c - every call at once on one queue, each thread writing down what it was told; when all
 * is quiet the accounts are put together and have to agree, message by message.
 */
#include "stress.h"

#include <inttypes.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

enum { MAILS = 64, MAX_THREADS = 24, UNKNOWN = INT32_MAX };

struct sent {
	uint64_t id;
	uint32_t number;
	uint32_t opcode;
	bool discard, deadline;
};

struct taken {
	uint64_t id;
	uint32_t number; /* UINT32_MAX: not told */
	int32_t status;  /* UNKNOWN: released unseen */
	bool polled;     /* by who had polled it */
};

struct list {
	void *items;
	size_t n, room;
};

struct traffic;

/* One thread's account; nobody else looks before it is joined. */
struct account {
	struct traffic *t;
	struct rng rng;
	struct list sent, taken, polled, cancelled;
	uint64_t full, timed_out, aborted;
	uint64_t last_id;
	uint32_t kind;
	bool stop_timed_out;
	uint8_t buffer[4096];
};

struct traffic {
	const struct traffic_config *config;
	GpuQueue *q;
	struct ledger ledger;
	uint64_t any_mail[MAILS];  /* atomic: ids that were accepted, some time */
	uint64_t take_mail[MAILS]; /* atomic: of these, some that anybody may take */
	uint32_t stopping;         /* atomic: q_stop() has been called */
	uint32_t finish;           /* atomic: takers, end when nothing is left */
	struct account account[MAX_THREADS];
	pthread_t thread[MAX_THREADS];
	uint32_t n_threads;
};

static void *add(struct list *list, size_t size)
{
	if (list->n == list->room) {
		list->room = list->room == 0 ? 256 : 2 * list->room;
		list->items = realloc(list->items, list->room * size);
		must(list->items != NULL, "out of memory");
	}
	return (char *)list->items + size * list->n++;
}

static void add_id(struct list *list, uint64_t id)
{
	*(uint64_t *)add(list, sizeof(id)) = id;
}

/* ---- producers ----------------------------------------------------------------------------- */

/* Whoever polls such a message's result in place can be sure that nobody else takes it. */
static bool takeable(uint32_t number)
{
	return mix64(number) % 2 == 0;
}

static void accepted(struct account *a, uint32_t number, uint64_t id, const EnqueueOptions *o)
{
	struct sent *sent = add(&a->sent, sizeof(*sent));

	*sent = (struct sent){ .id = id,
			       .number = number,
			       .opcode = o->opcode,
			       .discard = (o->flags & Q_ENQUEUE_DISCARD) != 0,
			       .deadline = o->deadline_ns != 0 };
	/* Ids grow; by difference, because a test may begin just below the wrap. */
	must(a->sent.n == 1 || gq_pos_diff(id, a->last_id) > 0,
	     "message %" PRIu32 " got id %" PRIu64 " after %" PRIu64, number, id, a->last_id);
	a->last_id = id;
	put(a->t->any_mail[rng_below(&a->rng, MAILS)], id);
	if (takeable(number) || o->tag == 0)
		put(a->t->take_mail[rng_below(&a->rng, MAILS)], id);
}

static uint32_t any_timeout(struct account *a)
{
	static const uint32_t timeouts[] = { 0, 0, 1, 2, UINT32_MAX, UINT32_MAX };

	return timeouts[rng_below(&a->rng, 6)];
}

static EnqueueOptions any_options(struct account *a)
{
	static const uint32_t opcodes[] = { OP_NORMAL, OP_NORMAL, OP_NORMAL, OP_NORMAL,
					    OP_SLOW,   OP_SLOW,   OP_FAIL,   OP_TOO_LONG };
	EnqueueOptions o = { .priority = rng_below(&a->rng, 5),
			     .opcode = opcodes[rng_below(&a->rng, 8)],
			     .flags = rng_one_in(&a->rng, 6) ? Q_ENQUEUE_DISCARD : 0 };

	switch (rng_below(&a->rng, 12)) {
	case 0:
		o.deadline_ns = 1; /* long past */
		break;
	case 1:
		o.deadline_ns = gq__now_ns() + rng_below(&a->rng, 300000);
		break;
	case 2:
		o.deadline_ns = gq__now_ns() + UINT64_C(3600000000000);
		break;
	default:
		break;
	}
	return o;
}

/* What an enqueue that took none had to say. @return false: the queue is closed. */
static bool refused(struct account *a, QueueStatus status, uint32_t timeout_ms, size_t items)
{
	switch (status) {
	case Q_ERR_FULL:
		must(timeout_ms == 0, "FULL with timeout_ms %" PRIu32, timeout_ms);
		a->full += items;
		sched_yield();
		return true;
	case Q_ERR_TIMEOUT:
		must(timeout_ms != 0 && timeout_ms != UINT32_MAX,
		     "TIMEOUT with timeout_ms %" PRIu32, timeout_ms);
		a->timed_out++;
		return true;
	case Q_ERR_SHUTDOWN:
		must(get(a->t->stopping) != 0, "SHUTDOWN before q_stop()");
		return false;
	default:
		must(false, "an enqueue gave %s: %s", q_status_string(status), q_last_error());
		return false;
	}
}

/* Each takes up to n numbers, does with them what it likes, and says how many are dealt with, or
 * -1 when the queue is closed. */
static int send_one(struct account *a, uint32_t number)
{
	static const EnqueueOptions none;
	const struct ledger *l = &a->t->ledger;
	uint32_t len = ledger_length(l, number), timeout_ms = any_timeout(a);
	uint64_t id = 0;
	QueueStatus status;

	ledger_write(l, number, a->buffer, len);
	if (rng_one_in(&a->rng, 3)) {
		timeout_ms = 0;
		status = q_enqueue_async(a->t->q, a->buffer, len, &id);
	} else {
		status = q_enqueue(a->t->q, a->buffer, len, &id, timeout_ms);
	}
	if (status != Q_OK)
		return refused(a, status, timeout_ms, 1) ? 0 : -1;
	accepted(a, number, id, &none);
	if (rng_one_in(&a->rng, 4)) {
		status = q_wait_enqueue(a->t->q, id, any_timeout(a));
		must(status == Q_OK || status == Q_ERR_NOT_FOUND,
		     "q_wait_enqueue of an accepted message gave %s", q_status_string(status));
	}
	return 1;
}

static int send_one_ex(struct account *a, uint32_t number)
{
	const struct ledger *l = &a->t->ledger;
	EnqueueOptions o = any_options(a);
	uint32_t len = rng_one_in(&a->rng, 8) ? 0 : ledger_length(l, number);
	uint32_t timeout_ms = any_timeout(a);
	uint64_t id = 0;
	QueueStatus status;

	o.tag = number + UINT64_C(1);
	ledger_write(l, number, a->buffer, len);
	status = q_enqueue_ex(a->t->q, len != 0 ? a->buffer : NULL, len, &o, &id, timeout_ms);
	if (status != Q_OK)
		return refused(a, status, timeout_ms, 1) ? 0 : -1;
	memset(a->buffer, 0xee, len); /* copied when the call returned */
	accepted(a, number, id, &o);
	return 1;
}

static int send_batch(struct account *a, const uint32_t *numbers, uint32_t n)
{
	static const EnqueueOptions none;
	const struct ledger *l = &a->t->ledger;
	EnqueueOptions o = rng_one_in(&a->rng, 2) ? none : any_options(a);
	EnqueueItem items[8];
	uint64_t ids[8];
	uint32_t timeout_ms = any_timeout(a);
	size_t at = 0, done = 0;
	QueueStatus status;

	o.opcode = o.opcode == OP_FAIL ? OP_NORMAL : o.opcode; /* FAILED would tell no number */
	for (uint32_t i = 0; i < n; i++) {
		items[i] = (EnqueueItem){ a->buffer + at, ledger_length(l, numbers[i]) };
		must(at + items[i].len <= sizeof(a->buffer), "buffer");
		ledger_write(l, numbers[i], a->buffer + at, (uint32_t)items[i].len);
		at += items[i].len;
	}
	status = q_enqueue_batch_ex(a->t->q, items, n, &o, ids, &done, timeout_ms);
	must((status == Q_OK) == (done == n), "a batch gave %s with %zu of %" PRIu32,
	     q_status_string(status), done, n);
	for (size_t i = 0; i < done; i++)
		accepted(a, numbers[i], ids[i], &o);
	if (status == Q_OK)
		return (int)n;
	/* On SHUTDOWN what was accepted has been written down. */
	return refused(a, status, timeout_ms, n - done) ? (int)done : -1;
}

static int send_reserved(struct account *a, uint32_t number)
{
	const struct ledger *l = &a->t->ledger;
	EnqueueOptions o = any_options(a);
	uint32_t len = ledger_length(l, number), timeout_ms = any_timeout(a);
	uint64_t id = 0;
	void *payload;
	QueueStatus status;

	o.tag = number + UINT64_C(1);
	status = q_reserve(a->t->q, len, &o, &payload, &id, timeout_ms);
	if (status != Q_OK)
		return refused(a, status, timeout_ms, 1) ? 0 : -1;
	must(((uintptr_t)payload & 15) == 0, "payload at %p", payload);
	memset(payload, 0x55, len);
	if (rng_one_in(&a->rng, 4))
		stress_nap_us(rng_below(&a->rng, 200));
	ledger_write(l, number, payload, len);
	if (rng_one_in(&a->rng, 4)) {
		must_be(Q_OK, q_abort(a->t->q, id));
		must_be(Q_ERR_NOT_FOUND, q_commit(a->t->q, id));
		a->aborted++;
		return 0;
	}
	status = q_commit(a->t->q, id);
	if (status == Q_ERR_SHUTDOWN) {
		must(get(a->t->stopping) != 0, "revoked before q_stop()");
		if (rng_one_in(&a->rng, 2)) {
			must_be(Q_OK, q_abort(a->t->q, id));
			a->aborted++;
		}
		return -1;
	}
	must(status == Q_OK, "q_commit gave %s", q_status_string(status));
	accepted(a, number, id, &o);
	return 1;
}

static void *produce(void *arg)
{
	struct account *a = arg;
	struct traffic *t = a->t;
	uint32_t numbers[8], n = 0;

	for (;;) {
		uint32_t want = rng_one_in(&a->rng, 4) ? 1 + rng_below(&a->rng, 4) : 1;
		int done;

		while (n < want) {
			uint32_t number = bump(t->ledger.next, 1);

			if (number >= t->config->messages)
				break;
			numbers[n++] = number;
		}
		if (n == 0)
			return NULL;
		if (n > 1)
			done = send_batch(a, numbers, n);
		else if (rng_one_in(&a->rng, 3))
			done = send_one(a, numbers[0]);
		else if (rng_one_in(&a->rng, 3))
			done = send_reserved(a, numbers[0]);
		else
			done = send_one_ex(a, numbers[0]);
		if (done < 0)
			return NULL;
		n -= (uint32_t)done;
		memmove(numbers, numbers + done, n * sizeof(*numbers));
		if (t->config->gaps && rng_one_in(&a->rng, 32))
			stress_nap_us(rng_below(&a->rng, 3000));
	}
}

/* ---- takers --------------------------------------------------------------------------------- */

static void took(struct account *a, uint64_t id, int32_t status, uint32_t number, bool polled)
{
	struct taken *taken = add(&a->taken, sizeof(*taken));

	*taken = (struct taken){ id, number, status, polled };
}

/* Take by id what may be taken by others too. */
static void take(struct account *a, uint64_t id, bool polled)
{
	for (;;) {
		size_t len =
			rng_one_in(&a->rng, 4) ? rng_below(&a->rng, 40) : a->t->ledger.result_bytes;
		const size_t room = len;
		QueueStatus status =
			q_try_dequeue_result(a->t->q, id, len != 0 ? a->buffer : NULL, &len);

		switch (status) {
		case Q_OK:
			took(a, id, status, ledger_read(&a->t->ledger, a->buffer, len), polled);
			return;
		case Q_ERR_FAILED:
		case Q_ERR_EXPIRED:
		case Q_ERR_CANCELLED:
			must(len == 0, "%s with length %zu", q_status_string(status), len);
			took(a, id, status, UINT32_MAX, polled);
			return;
		case Q_ERR_BUFFER_TOO_SMALL:
			must(len > room && len <= a->t->ledger.result_bytes,
			     "%zu bytes are too few, %zu needed", room, len);
			break;
		case Q_ERR_NOT_READY:
			must(!polled, "a polled message is not ready");
			return;
		case Q_ERR_NOT_FOUND:
			return;
		default:
			must(false, "q_try_dequeue_result gave %s", q_status_string(status));
		}
	}
}

static uint64_t one_of(struct account *a, const uint64_t *mail)
{
	return get(mail[rng_below(&a->rng, MAILS)]);
}

static size_t poll_and_take(struct account *a)
{
	uint64_t ids[16];
	size_t n, max = 1 + rng_below(&a->rng, 16);

	must_be(Q_OK, q_poll_completions(a->t->q, ids, max, &n));
	for (size_t i = 0; i < n; i++)
		add_id(&a->polled, ids[i]);
	for (size_t i = 0; i < n; i++)
		take(a, ids[i], true);
	return n;
}

/* As many as the buffer, which has room for any one, has room for. */
static size_t poll_and_take_at_once(struct account *a)
{
	Completion done[16];
	size_t n, max = 1 + rng_below(&a->rng, 16);

	must_be(Q_OK, q_take_results(a->t->q, done, max, a->buffer, a->t->ledger.result_bytes, &n));
	for (size_t i = 0; i < n; i++) {
		const Completion *c = &done[i];

		add_id(&a->polled, c->msg_id);
		took(a, c->msg_id, c->status,
		     c->status == Q_OK ? ledger_read(&a->t->ledger, c->result, c->result_len)
				       : UINT32_MAX,
		     true);
	}
	return n;
}

/* In place where nobody else may take it. */
static size_t poll_and_look(struct account *a)
{
	Completion done[16];
	uint64_t ids[16];
	size_t n, kept = 0, max = 1 + rng_below(&a->rng, 16);

	if (rng_one_in(&a->rng, 3))
		return poll_and_take_at_once(a);
	must_be(Q_OK, q_poll_results(a->t->q, done, max, &n));
	for (size_t i = 0; i < n; i++) {
		const Completion *c = &done[i];
		uint32_t number = UINT32_MAX;

		add_id(&a->polled, c->msg_id);
		if (c->tag == 0 || takeable((uint32_t)(c->tag - 1))) {
			take(a, c->msg_id, true);
			continue;
		}
		must(((uintptr_t)c->result & 15) == 0, "result at %p", c->result);
		if (c->status == Q_OK) {
			const void *again;
			size_t len;
			QueueStatus status;

			number = ledger_read(&a->t->ledger, c->result, c->result_len);
			must(c->tag == number + UINT64_C(1), "result %" PRIu32 " with tag %" PRIu64,
			     number, c->tag);
			must_be(Q_OK, q_peek_result(a->t->q, c->msg_id, &again, &len, &status));
			must(again == c->result && len == c->result_len && status == Q_OK,
			     "peeking and polling differ on %" PRIu32, number);
		} else {
			must(c->result_len == 0, "%s with length %" PRIu32,
			     q_status_string(c->status), c->result_len);
			number = (uint32_t)(c->tag - 1);
		}
		took(a, c->msg_id, c->status, number, true);
		ids[kept++] = c->msg_id;
	}
	if (rng_one_in(&a->rng, 2)) {
		must_be(Q_OK, q_release_batch(a->t->q, ids, kept));
	} else {
		for (size_t i = 0; i < kept; i++)
			must_be(Q_OK, q_release(a->t->q, ids[i]));
	}
	return n;
}

static size_t take_from_mail(struct account *a)
{
	uint64_t id = one_of(a, a->t->take_mail);

	if (id != 0 && rng_one_in(&a->rng, 8)) {
		QueueStatus status = q_release(a->t->q, id);

		must(status == Q_OK || status == Q_ERR_NOT_READY || status == Q_ERR_NOT_FOUND,
		     "q_release gave %s", q_status_string(status));
		if (status == Q_OK)
			took(a, id, UNKNOWN, UINT32_MAX, false);
	} else if (id != 0) {
		take(a, id, false);
	}
	return 0;
}

static size_t wait_and_poll(struct account *a)
{
	QueueStatus status = q_wait_any(a->t->q, rng_below(&a->rng, 3));

	must(status == Q_OK || status == Q_ERR_TIMEOUT ||
		     (status == Q_ERR_SHUTDOWN && get(a->t->stopping) != 0),
	     "q_wait_any gave %s", q_status_string(status));
	return poll_and_take(a);
}

/* The event loop of a server: sleeps in epoll, polls until nothing comes. */
static void loop_on_descriptor(struct account *a)
{
	struct epoll_event event = { .events = EPOLLIN }, got;
	int loop = epoll_create1(0), fd = q_completion_fd(a->t->q);

	must(loop >= 0 && fd >= 0, "descriptors %d and %d: %s", loop, fd, q_last_error());
	must(epoll_ctl(loop, EPOLL_CTL_ADD, fd, &event) == 0, "epoll_ctl");
	do {
		if (epoll_wait(loop, &got, 1, 20) == 1)
			while (poll_and_take(a) != 0)
				;
	} while (get(a->t->finish) == 0);
	close(loop);
}

enum { TAKE_POLL, TAKE_LOOK, TAKE_WAIT, TAKE_MAIL, TAKE_KINDS, TAKE_LOOP };

static void *consume_results(void *arg)
{
	static size_t (*const how[])(struct account *) = { poll_and_take, poll_and_look,
							   wait_and_poll, take_from_mail };
	struct account *a = arg;

	if (a->kind == TAKE_LOOP) {
		loop_on_descriptor(a);
		return NULL;
	}
	while (how[a->kind](a) != 0 || get(a->t->finish) == 0)
		if (rng_one_in(&a->rng, 8))
			sched_yield();
	return NULL;
}

/* ---- meddlers ------------------------------------------------------------------------------- */

static void never_less(const QueueStats *now, const QueueStats *before)
{
#define GROWS(field)                                                                               \
	must(now->field >= before->field, #field " went from %" PRIu64 " to %" PRIu64,             \
	     before->field, now->field)
	GROWS(enq_count);
	GROWS(dropped_full);
	GROWS(retries);
	GROWS(discarded);
	GROWS(finished);
	GROWS(failed);
	GROWS(expired);
	GROWS(cancelled);
	GROWS(timed_out);
	GROWS(aborted);
	GROWS(wakeups);
#undef GROWS
}

static void cancel_something(struct account *a)
{
	uint64_t id = rng_one_in(&a->rng, 4) ? rng_next(&a->rng) : one_of(a, a->t->any_mail);
	QueueStatus status = q_cancel(a->t->q, id);

	must(status == Q_OK || status == Q_ERR_NOT_FOUND, "q_cancel gave %s",
	     q_status_string(status));
	if (status == Q_OK)
		add_id(&a->cancelled, id);
}

/* What a call that produces says to this thread, if it would say `otherwise` to the producer. */
static QueueStatus by_the_producer(struct traffic *t, QueueStatus otherwise)
{
	const uint64_t producer = get(t->q->producer); /* 0: none has come yet */

	return producer == 0 || producer == (uint64_t)pthread_self() ? otherwise : Q_ERR_POLICY;
}

static void ask_about_something(struct account *a)
{
	uint64_t id = one_of(a, a->t->any_mail);
	GpuQueue *q = a->t->q;
	QueueStatus status;

	if (id == 0)
		return;
	switch (rng_below(&a->rng, 5)) {
	case 0:
		status = q_wait(q, id, rng_below(&a->rng, 3));
		must(status == Q_OK || status == Q_ERR_TIMEOUT || status == Q_ERR_NOT_FOUND,
		     "q_wait gave %s", q_status_string(status));
		break;
	case 1:
		status = q_peek_result(q, id, NULL, NULL, NULL);
		must(status == Q_OK || status == Q_ERR_NOT_READY || status == Q_ERR_NOT_FOUND,
		     "q_peek_result gave %s", q_status_string(status));
		break;
	case 2: /* neither is an open reservation any more */
		must_be(by_the_producer(a->t, Q_ERR_NOT_FOUND), q_commit(q, id));
		break;
	case 3:
		must_be(Q_ERR_NOT_FOUND, q_abort(q, id));
		break;
	default:
		status = q_wait_enqueue(q, id, 1);
		must(status == Q_OK || status == Q_ERR_NOT_FOUND, "q_wait_enqueue gave %s",
		     q_status_string(status));
	}
}

static void *meddle(void *arg)
{
	struct account *a = arg;
	QueueStats before = { 0 }, now;
	QueueInfo info;

	while (get(a->t->finish) == 0) {
		switch (rng_below(&a->rng, 8)) {
		case 0:
			must_be(Q_OK, q_stats(a->t->q, &now));
			never_less(&now, &before);
			before = now;
			break;
		case 1:
			must_be(Q_OK, q_info(a->t->q, &info));
			must(info.capacity == a->t->config->capacity, "capacity %" PRIu32,
			     info.capacity);
			break;
		case 2: {
			QueueStatus status = q_drain(a->t->q, rng_below(&a->rng, 3));

			must(status == Q_OK || status == Q_ERR_TIMEOUT, "q_drain gave %s",
			     q_status_string(status));
			break;
		}
		case 3:
		case 4:
			ask_about_something(a);
			break;
		default:
			cancel_something(a);
		}
		if (rng_one_in(&a->rng, 4))
			stress_nap_us(rng_below(&a->rng, 100));
	}
	return NULL;
}

static void *pause_now_and_then(void *arg)
{
	static const uint32_t timeouts[] = { 0, 1, 20, UINT32_MAX };
	struct account *a = arg;
	struct ledger *l = &a->t->ledger;

	while (get(a->t->finish) == 0) {
		QueueStatus status = q_pause(a->t->q, timeouts[rng_below(&a->rng, 4)]);

		if (status == Q_ERR_SHUTDOWN) {
			must(get(a->t->stopping) != 0, "SHUTDOWN before q_stop()");
			return NULL;
		}
		must(status == Q_OK || status == Q_ERR_TIMEOUT, "q_pause gave %s",
		     q_status_string(status));
		if (status == Q_OK) {
			uint32_t before = ledger_running(l), after;

			stress_nap_us(rng_below(&a->rng, 300));
			after = ledger_running(l);
			status = q_resume(a->t->q);
			must(status == Q_OK || get(a->t->stopping) != 0, "q_resume gave %s",
			     q_status_string(status));
			must(status != Q_OK || (before == 0 && after == 0),
			     "%" PRIu32 ", then %" PRIu32 " messages in process while paused",
			     before, after);
		}
		stress_nap_us(rng_below(&a->rng, 500));
	}
	return NULL;
}

static void *stop(void *arg)
{
	struct account *a = arg;
	QueueStatus status;

	status = q_stop(a->t->q, a->t->config->stop_timeout_ms);
	must(status == Q_OK || status == Q_ERR_TIMEOUT, "q_stop gave %s", q_status_string(status));
	a->stop_timed_out = status == Q_ERR_TIMEOUT;
	must_be(Q_OK, q_stop(a->t->q, UINT32_MAX));
	return NULL;
}

/* ---- putting the accounts together ----------------------------------------------------------- */

static int by_id(const void *x, const void *y)
{
	const uint64_t a = *(const uint64_t *)x, b = *(const uint64_t *)y;

	return a < b ? -1 : a > b;
}

/* All threads' lists of one kind, sorted by id, the first member of each item. */
static struct list collect(struct traffic *t, size_t which, size_t size)
{
	struct list all = { 0 };

	for (uint32_t i = 0; i < t->n_threads; i++) {
		struct list *part = (struct list *)(void *)((char *)&t->account[i] + which);

		for (size_t j = 0; j < part->n; j++)
			memcpy(add(&all, size), (char *)part->items + size * j, size);
		free(part->items);
	}
	if (all.n != 0)
		qsort(all.items, all.n, size, by_id);
	for (size_t i = 1; i < all.n && which != offsetof(struct account, cancelled); i++)
		must(by_id((char *)all.items + size * (i - 1), (char *)all.items + size * i) != 0,
		     "id %" PRIu64 " twice among what was %s",
		     *(uint64_t *)(void *)((char *)all.items + size * i),
		     which == offsetof(struct account, sent)    ? "accepted"
		     : which == offsetof(struct account, taken) ? "taken"
								: "polled");
	return all;
}
#define COLLECT(t, which, type) collect(t, offsetof(struct account, which), sizeof(type))

static const void *find(const struct list *list, uint64_t id, size_t size)
{
	return list->n == 0 ? NULL : bsearch(&id, list->items, list->n, size, by_id);
}

struct totals {
	uint64_t sent, discarded, taken, failed, expired, cancelled, ended_discarded;
	uint64_t full, timed_out, aborted;
	bool stop_timed_out;
};

/* One accepted message against all that is known of it. */
static void check_message(const struct traffic *t, const struct sent *s, const struct list *taken,
			  const struct list *polled, const struct list *cancelled,
			  struct totals *sum)
{
	const struct taken *got = find(taken, s->id, sizeof(*got));
	const bool was_polled = find(polled, s->id, sizeof(uint64_t)) != NULL;
	const bool may_cancel =
		sum->stop_timed_out || find(cancelled, s->id, sizeof(uint64_t)) != NULL;
	const uint32_t runs = t->ledger.runs[s->number];

	sum->sent++;
	must(runs <= 1, "message %" PRIu32 " ran %" PRIu32 " times", s->number, runs);
	must(runs == 1 || s->deadline || may_cancel,
	     "message %" PRIu32 " (id %" PRIu64 ") was accepted and never processed", s->number,
	     s->id);
	if (s->discard) {
		sum->discarded++;
		sum->ended_discarded += runs == 0;
		sum->ended_discarded += runs == 1 && s->opcode != OP_NORMAL && s->opcode != OP_SLOW;
		must(got == NULL && !was_polled,
		     "message %" PRIu32 " was discarded and yet delivered", s->number);
		return;
	}
	must(got != NULL, "message %" PRIu32 " (id %" PRIu64 ", %" PRIu32 " runs) was never %s",
	     s->number, s->id, runs, was_polled ? "taken" : "polled nor taken");
	must(was_polled || !got->polled, "message %" PRIu32, s->number);
	must(got->number == UINT32_MAX || got->number == s->number,
	     "id %" PRIu64 " is message %" PRIu32 ", its result is that of %" PRIu32, s->id,
	     s->number, got->number);
	sum->taken++;
	switch (got->status) {
	case Q_OK:
		must(runs == 1 && s->opcode != OP_FAIL && s->opcode != OP_TOO_LONG,
		     "message %" PRIu32 " (opcode %" PRIu32 ", %" PRIu32 " runs) ended OK",
		     s->number, s->opcode, runs);
		break;
	case Q_ERR_FAILED:
		must(runs == 1 && (s->opcode == OP_FAIL || s->opcode == OP_TOO_LONG),
		     "message %" PRIu32 " (opcode %" PRIu32 ") ended FAILED", s->number, s->opcode);
		sum->failed++;
		break;
	case Q_ERR_EXPIRED:
		must(runs == 0 && s->deadline, "message %" PRIu32 " ended EXPIRED", s->number);
		sum->expired++;
		break;
	case Q_ERR_CANCELLED:
		must(runs == 0 && may_cancel, "message %" PRIu32 " ended CANCELLED", s->number);
		sum->cancelled++;
		break;
	default: /* released unseen */
		sum->ended_discarded++;
	}
}

#define SAME(what, wanted)                                                                         \
	must((what) == (wanted), #what " is %" PRIu64 ", and should be %" PRIu64, (what),          \
	     (uint64_t)(wanted))

static void check_stats(const struct traffic *t, const struct totals *sum)
{
	QueueStats s;
	uint64_t ended;

	must_be(Q_OK, q_stats(t->q, &s));
	SAME(s.enq_count, sum->sent);
	SAME(s.deq_count, sum->taken);
	SAME(s.discarded, sum->discarded);
	SAME(s.queue_depth, 0);
	SAME(s.finished, sum->sent);
	SAME(s.dropped_full, sum->full);
	SAME(s.timed_out, sum->timed_out);
	SAME(s.aborted, sum->aborted);
	SAME(s.reserved_now, 0);
	/* Of messages discarded or released unseen nobody was told how they ended. */
	ended = s.failed + s.expired + s.cancelled;
	must(s.failed >= sum->failed && s.expired >= sum->expired && s.cancelled >= sum->cancelled,
	     "failed %" PRIu64 ", expired %" PRIu64 ", cancelled %" PRIu64, s.failed, s.expired,
	     s.cancelled);
	must(ended <= sum->failed + sum->expired + sum->cancelled + sum->ended_discarded,
	     "%" PRIu64 " ended otherwise than OK, too many", ended);
}

static void check_accounts(struct traffic *t)
{
	struct totals sum = { 0 };
	struct list sent, taken, polled, cancelled;
	const struct sent *s;
	uint64_t ran = 0;

	for (uint32_t i = 0; i < t->n_threads; i++) {
		sum.full += t->account[i].full;
		sum.timed_out += t->account[i].timed_out;
		sum.aborted += t->account[i].aborted;
		sum.stop_timed_out |= t->account[i].stop_timed_out;
	}
	sent = COLLECT(t, sent, struct sent);
	taken = COLLECT(t, taken, struct taken);
	polled = COLLECT(t, polled, uint64_t);
	cancelled = COLLECT(t, cancelled, uint64_t);
	s = sent.items;
	for (size_t i = 0; i < sent.n; i++) {
		check_message(t, &s[i], &taken, &polled, &cancelled, &sum);
		ran += t->ledger.runs[s[i].number];
	}
	for (uint32_t i = 0; i < t->ledger.max; i++)
		ran -= t->ledger.runs[i];
	must(ran == 0, "%" PRIu64 " messages ran that were not accepted", 0 - ran);
	must(taken.n == sum.taken, "%zu results were taken, of %" PRIu64 " messages", taken.n,
	     sum.taken);
	for (size_t i = 0; i < polled.n; i++)
		must(find(&sent, ((uint64_t *)polled.items)[i], sizeof(*s)) != NULL,
		     "id %" PRIu64 " was polled and never accepted", ((uint64_t *)polled.items)[i]);
	must(t->config->stop_midway || sum.sent == t->config->messages,
	     "%" PRIu64 " of %" PRIu32 " messages were accepted", sum.sent, t->config->messages);
	check_stats(t, &sum);
	free(sent.items);
	free(taken.items);
	free(polled.items);
	free(cancelled.items);
}

/* ---- the run --------------------------------------------------------------------------------- */

static struct account *launch(struct traffic *t, void *(*run)(void *), uint32_t kind)
{
	struct account *a = &t->account[t->n_threads];

	must(t->n_threads < MAX_THREADS, "too many threads");
	a->t = t;
	a->kind = kind;
	a->rng = rng_of(t->config->stream * MAX_THREADS + t->n_threads);
	t->thread[t->n_threads++] = stress_thread(run, a);
	return a;
}

static void join(struct traffic *t, uint32_t from, uint32_t to)
{
	for (uint32_t i = from; i < to; i++)
		stress_join(t->thread[i]);
}

static void stop_midway(struct traffic *t, struct rng *r)
{
	uint32_t from = t->n_threads;

	stress_nap_us(rng_below(r, 20000));
	put(t->stopping, 1);
	for (uint32_t i = 0; i < t->config->stoppers; i++)
		launch(t, stop, 0);
	join(t, from, t->n_threads);
}

/* On a stopped queue nothing goes in any more, and nobody waits for it. */
static void check_stopped(struct traffic *t)
{
	QueueInfo info;
	QueueStatus status;
	uint64_t id;
	void *payload;

	must_be(by_the_producer(t, Q_ERR_SHUTDOWN), q_enqueue(t->q, NULL, 0, &id, UINT32_MAX));
	must_be(by_the_producer(t, Q_ERR_SHUTDOWN),
		q_reserve(t->q, 0, NULL, &payload, &id, UINT32_MAX));
	must_be(Q_ERR_SHUTDOWN, q_pause(t->q, UINT32_MAX));
	must_be(Q_ERR_SHUTDOWN, q_resume(t->q));
	must_be(Q_OK, q_drain(t->q, UINT32_MAX));
	must_be(Q_OK, q_info(t->q, &info));
	must(info.state == Q_STATE_STOPPED, "state %" PRIu32, info.state);
	status = q_wait_any(t->q, UINT32_MAX);
	must(status == Q_OK || status == Q_ERR_SHUTDOWN, "q_wait_any gave %s",
	     q_status_string(status));
}

void traffic_run(const struct traffic_config *config)
{
	struct traffic *t = calloc(1, sizeof(*t));
	struct rng r = rng_of(config->stream + 0x7eaff1c);
	struct account last;
	uint32_t producers, others;
	int fd = -1;

	must(t != NULL, "out of memory");
	t->config = config;
	ledger_begin(&t->ledger, config->messages, config->slot_bytes, config->result_bytes);
	t->ledger.queue_flags = config->one_producer ? Q_ONE_PRODUCER : 0;
	t->q = ledger_queue(&t->ledger, config->capacity, config->consumers, config->start_pos,
			    config->idle_park_ms);
	stress_phase(t->q,
		     "traffic %" PRIu64 ": capacity %" PRIu32 ", consumers %" PRIu32
		     ", producers %" PRIu32 ", takers %" PRIu32 ", slot_bytes %" PRIu32
		     ", result_bytes %" PRIu32 ", idle_park_ms %" PRIu32 ", start %#" PRIx64
		     ", %" PRIu32 " messages%s%s%s%s%s, %" PRIu32 " stoppers after %" PRIu32 " ms",
		     config->stream, config->capacity, config->consumers, config->producers,
		     config->takers, config->slot_bytes, config->result_bytes, config->idle_park_ms,
		     config->start_pos, config->messages, config->pauses ? ", pauses" : "",
		     config->one_producer ? ", one producer" : "", config->gaps ? ", gaps" : "",
		     config->descriptor ? ", descriptor" : "",
		     config->stop_midway ? ", stop midway" : "", config->stoppers,
		     config->stop_timeout_ms);
	for (uint32_t i = 0; i < config->producers; i++)
		launch(t, produce, 0);
	producers = t->n_threads;
	for (uint32_t i = 0; i < config->takers; i++)
		launch(t, consume_results,
		       i == 0 && config->descriptor ? TAKE_LOOP
		       : i == 0                     ? rng_below(&r, TAKE_MAIL)
						    : rng_below(&r, TAKE_KINDS));
	launch(t, meddle, 0);
	if (config->pauses)
		launch(t, pause_now_and_then, 0);
	others = t->n_threads;
	if (config->stop_midway)
		stop_midway(t, &r);
	join(t, 0, producers);
	must_be(Q_OK, q_drain(t->q, UINT32_MAX));
	put(t->finish, 1);
	join(t, producers, others);

	/* What is left, in an account of its own. */
	last = (struct account){ .t = t, .rng = rng_of(1) };
	while (poll_and_take(&last) != 0)
		;
	t->account[t->n_threads++] = last;
	if (config->stop_midway)
		check_stopped(t);
	else
		must_be(Q_ERR_TIMEOUT, q_wait_any(t->q, 0));
	if (config->descriptor) {
		struct epoll_event got, event = { .events = EPOLLIN };
		int loop = epoll_create1(0);

		fd = q_completion_fd(t->q);
		must(epoll_ctl(loop, EPOLL_CTL_ADD, fd, &event) == 0, "epoll_ctl");
		/* One spurious wake-up is allowed, and polling is what ends it. */
		if (epoll_wait(loop, &got, 1, 0) == 1) {
			size_t n;
			uint64_t id;

			must_be(Q_OK, q_poll_completions(t->q, &id, 1, &n));
			must(n == 0, "id %" PRIu64 " comes late", id);
			must(epoll_wait(loop, &got, 1, 0) == 0, "the descriptor stays readable");
		}
		close(loop);
	}
	ledger_settle(&t->ledger);
	check_accounts(t);
	stress_phase(t->q, "shutdown after traffic %" PRIu64, config->stream);
	q_shutdown(t->q);
	stress_phase(NULL, "between queues");
	ledger_end(&t->ledger);
	free(t);
}
