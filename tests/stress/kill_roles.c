/* SPDX-License-Identifier: Apache-2.0 */
/* kill_roles.c - what clients, callers, workers and liars do until they are killed; kill_roles.h.
 */
#include "kill_roles.h"

#include "device/protocol/atomics.h"
#include "host/base/clock.h"

#include "hostile.h"

#include <gpuq/broker.h>

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define OP "work"

enum { OPEN = 64, MESSAGE_WORDS = 28, PATIENCE_MS = 60000 };

/* Who runs, and its dice. */
struct self {
	const struct role_args *a;
	struct board *board;
	struct board_child *count;
	uint64_t random;
};

static uint64_t roll(struct self *s) /* xorshift (Marsaglia, 2003) */
{
	s->random ^= s->random << 13;
	s->random ^= s->random >> 7;
	s->random ^= s->random << 17;
	return s->random >> 11;
}

static bool stopping(const struct self *s)
{
	return gq_load_seq_cst_u32(&s->board->stop) != 0;
}

static void nap_us(unsigned us)
{
	const struct timespec t = { .tv_nsec = (long)us * 1000 };

	nanosleep(&t, NULL);
}

/* The first wrong thing ends everything: stress_kill sees it. @return 1 */
__attribute__((format(printf, 2, 3))) static int wrong(const struct self *s, const char *format,
						       ...)
{
	va_list args;

	if (gq_exchange_seq_cst_u32(&s->board->wrong_set, 1) != 0)
		return 1;
	va_start(args, format);
	vsnprintf(s->board->wrong, sizeof(s->board->wrong), format, args);
	va_end(args);
	return 1;
}

static enum end end_of(QueueStatus status)
{
	switch (status) {
	case Q_OK:
		return END_OK;
	case Q_ERR_EXPIRED:
		return END_EXPIRED;
	case Q_ERR_CANCELLED:
		return END_CANCELLED;
	case Q_ERR_LOST:
		return END_LOST;
	default:
		return END_FAILED;
	}
}

static uint64_t ended(const struct board_child *c)
{
	uint64_t n = 0;

	for (int i = 0; i < ENDS; i++)
		n += c->ended[i];
	return n;
}

/* ---- a client of a queue --------------------------------------------------------------------- */

static void fill(uint64_t words[MESSAGE_WORDS], uint64_t tag)
{
	for (uint64_t i = 0; i < MESSAGE_WORDS; i++)
		words[i] = tag * 0x9e3779b97f4a7c15u + i;
}

/* Messages of one connection: by tag, which one is inside. */
struct sent {
	uint64_t first, next; /* tags */
	uint8_t inside[4096]; /* by tag, modulo; a window is smaller */
	uint64_t open;
};

static int take_results(struct self *s, GpuQueue *q, struct sent *sent)
{
	Completion done[32];
	size_t n = 0;

	if (q_poll_results(q, done, 32, &n) != Q_OK)
		return 0;
	for (size_t i = 0; i < n; i++) {
		const uint64_t tag = done[i].tag;
		uint64_t words[MESSAGE_WORDS];

		if (tag < sent->first || tag >= sent->next || sent->inside[tag % 4096] == 0)
			return wrong(s, "a message ended that is not inside: tag %llu, %s",
				     (unsigned long long)tag, q_status_string(done[i].status));
		fill(words, tag);
		if (done[i].status == Q_OK && (done[i].result_len != sizeof(words) ||
					       memcmp(done[i].result, words, sizeof(words)) != 0))
			return wrong(s, "message %llu has another's result",
				     (unsigned long long)tag);
		sent->inside[tag % 4096] = 0;
		sent->open--;
		s->count->ended[end_of(done[i].status)]++;
		q_release(q, done[i].msg_id);
	}
	return 0;
}

/* @return false: the queue takes nothing any more */
static bool send_one(struct self *s, GpuQueue *q, struct sent *sent)
{
	EnqueueOptions o = { .tag = sent->next, .priority = 1 + (uint32_t)(roll(s) % 3) };
	const uint64_t tag = sent->next;
	uint64_t words[MESSAGE_WORDS], id = 0;
	QueueStatus status;

	if (roll(s) % 8 == 0)
		o.deadline_ns = gq__now_ns() + roll(s) % 2000000;
	fill(words, tag);
	status = q_enqueue_ex(q, words, sizeof(words), &o, &id, 0);
	if (status == Q_ERR_FULL || status == Q_ERR_TIMEOUT)
		return true;
	if (status != Q_OK)
		return false;
	sent->next++;
	sent->inside[tag % 4096] = 1;
	sent->open++;
	s->count->accepted++;
	if (roll(s) % 16 == 0)
		(void)q_cancel(q, id);
	return true;
}

/* All that is inside ends, whatever has become of gpuqd. */
static int settle(struct self *s, GpuQueue *q, struct sent *sent)
{
	int code = 0;

	while (sent->open != 0 && code == 0) {
		const QueueStatus status = q_wait_any(q, PATIENCE_MS);

		if (status == Q_ERR_TIMEOUT)
			return wrong(s, "%llu messages have not ended in a minute",
				     (unsigned long long)sent->open);
		code = take_results(s, q, sent);
	}
	return code;
}

static int check_counts(struct self *s, GpuQueue *q, const struct sent *sent)
{
	QueueStats st;

	if (q_stats(q, &st) != Q_OK || st.enq_count != sent->next - sent->first ||
	    st.finished != st.enq_count || st.queue_depth != 0)
		return wrong(s, "the queue counts %llu accepted, %llu finished, %llu inside",
			     (unsigned long long)st.enq_count, (unsigned long long)st.finished,
			     (unsigned long long)st.queue_depth);
	return 0;
}

static GpuQueue *connect_queue(struct self *s)
{
	char endpoint[120];
	const QueueConfig cfg = { .capacity = 1u << (4 + roll(s) % 5),
				  .slot_bytes = MESSAGE_WORDS * 8,
				  .processor = s->a->role == ROLE_OWN ? "echo" : NULL,
				  .device = Q_DEVICE_REMOTE,
				  .flags = roll(s) % 4 == 0 ? Q_TRACE : 0,
				  .shutdown_timeout_ms = PATIENCE_MS,
				  .endpoint = endpoint };
	GpuQueue *q;

	snprintf(endpoint, sizeof(endpoint), "%s#%s", s->a->endpoint,
		 s->a->role == ROLE_OWN ? "own" : "default");
	q = q_init(&cfg);
	if (q == NULL)
		nap_us(2000); /* no gpuqd now, or no room */
	else
		s->count->connects++;
	return q;
}

static int be_a_client(struct self *s)
{
	uint64_t tag = 1;
	int code = 0;

	while (!stopping(s) && code == 0) {
		GpuQueue *q = connect_queue(s);
		struct sent sent = { .first = tag, .next = tag };
		uint64_t turns = 1000 + roll(s) % 100000;

		if (q == NULL)
			continue;
		for (; turns != 0 && !stopping(s) && code == 0; turns--) {
			if (!send_one(s, q, &sent))
				break;
			if (roll(s) % 64 == 0)
				(void)q_wait_any(q, 1);
			if (roll(s) % 4096 == 0 && q_pause(q, 5) == Q_OK)
				(void)q_resume(q);
			code = take_results(s, q, &sent);
		}
		(void)q_resume(q);
		if (code == 0)
			code = settle(s, q, &sent);
		if (code == 0)
			code = check_counts(s, q, &sent);
		q_shutdown(q);
		tag = sent.next;
	}
	return code;
}

/* ---- a caller of a service ------------------------------------------------------------------- */

struct payload {
	uint32_t number, bytes;
	uint8_t rest[4096];
};

struct asked {
	uint64_t id;
	uint32_t number;
	bool once;
	bool twin; /* another request is the same: what it says of itself says nothing of the run */
};

static uint32_t place_of(uint32_t number)
{
	return number % BOARD_REQUESTS;
}

/* A request that nobody has asked for before. @param once  whether it must not run twice */
static uint32_t make_payload(struct self *s, struct payload *p, uint32_t most, bool once)
{
	const uint32_t number = __atomic_fetch_add(&s->board->next, 1, __ATOMIC_SEQ_CST);

	p->number = number;
	p->bytes = (uint32_t)(roll(s) % most);
	memset(p->rest, (int)(number & 0xff), p->bytes);
	/* A place is used again after four million requests, long after their ends. */
	__atomic_store_n(&s->board->ran[place_of(number)], 0, __ATOMIC_SEQ_CST);
	__atomic_store_n(&s->board->unseen[place_of(number)], 0, __ATOMIC_SEQ_CST);
	__atomic_store_n(&s->board->once[place_of(number)], once, __ATOMIC_SEQ_CST);
	return number;
}

/* One request, or the same one twice: with a key, which lets it run once, or for the cache. */
static bool ask(struct self *s, BrokerClient *c, struct asked asked[OPEN], uint32_t *open)
{
	const bool idempotent = roll(s) % 2 == 0, keyed = roll(s) % 4 == 0,
		   cached = !keyed && idempotent && roll(s) % 4 == 0;
	const unsigned times = (keyed || cached) && *open + 2 <= OPEN ? 2 : 1;
	struct payload p;
	const uint32_t number = make_payload(s, &p, roll(s) % 16 == 0 ? 4096 : 64, !idempotent);
	const BrokerCall call = { .service = OP,
				  .payload = &p,
				  .bytes = 8 + p.bytes,
				  .session = &s->a->index,
				  .session_bytes =
					  !cached && roll(s) % 4 == 0 ? sizeof(s->a->index) : 0,
				  .timeout_ms = 1 + (uint32_t)(roll(s) % 300),
				  .priority = (uint8_t)(1 + roll(s) % 255),
				  .idempotent = idempotent,
				  .cache = cached,
				  .key = keyed ? &p.number : NULL,
				  .key_bytes = keyed ? sizeof(p.number) : 0 };

	for (unsigned i = 0; i < times; i++) {
		struct asked *mine = &asked[*open];

		*mine = (struct asked){ .number = number, .once = !idempotent, .twin = times == 2 };
		if (q_broker_submit(c, &call, &mine->id) != Q_OK)
			return false;
		++*open;
		s->count->accepted++;
		if (roll(s) % 16 == 0)
			(void)q_broker_cancel(c, mine->id);
	}
	return true;
}

static bool ask_batch(struct self *s, BrokerClient *c, struct asked asked[OPEN], uint32_t *open)
{
	enum { ITEMS = 4 };
	const BrokerCall call = { .service = OP,
				  .timeout_ms = 1 + (uint32_t)(roll(s) % 300),
				  .all_or_nothing = roll(s) % 2 == 0 };
	struct payload p[ITEMS];
	BrokerItem items[ITEMS];
	uint64_t id;

	for (uint32_t i = 0; i < ITEMS; i++) {
		asked[*open + i] =
			(struct asked){ .number = make_payload(s, &p[i], 64, true), .once = true };
		items[i] = (BrokerItem){ &p[i], 8 + p[i].bytes };
	}
	if (q_broker_submit_batch(c, &call, items, ITEMS, &id) != Q_OK)
		return false;
	for (uint32_t i = 0; i < ITEMS; i++)
		asked[*open + i].id = id + i;
	*open += ITEMS;
	s->count->accepted += ITEMS;
	return true;
}

static int check_reply(struct self *s, const struct asked *asked, const BrokerReply *r,
		       const struct payload *reply)
{
	uint8_t *ran = &s->board->ran[place_of(asked->number)];
	const unsigned times = __atomic_load_n(ran, __ATOMIC_SEQ_CST);

	if (r->status == Q_OK && (r->bytes != 8 + reply->bytes || reply->number != ~asked->number))
		return wrong(s, "request %u has another's reply: %u", asked->number,
			     ~reply->number);
	if (r->status == Q_OK && times == 0)
		return wrong(s, "request %u is done, and nobody ran it", asked->number);
	if (asked->once && times > 1)
		return wrong(s, "request %u must run once, and ran %u times", asked->number, times);
	if (!r->may_retry || asked->twin)
		return 0;
	__atomic_store_n(&s->board->unseen[place_of(asked->number)], 1, __ATOMIC_SEQ_CST);
	if (__atomic_load_n(ran, __ATOMIC_SEQ_CST) != 0)
		return wrong(s, "request %u was seen by nobody, says gpuqd, and ran: reason %u",
			     asked->number, r->reason);
	return 0;
}

/* @return -1: gpuqd has gone; 0: nothing, or one has ended; 1: wrong */
static int take_reply(struct self *s, BrokerClient *c, struct asked asked[OPEN], uint32_t *open,
		      uint32_t timeout_ms)
{
	struct payload reply;
	size_t bytes = sizeof(reply);
	BrokerReply r = { 0 };
	const QueueStatus status = q_broker_wait(c, 0, &reply, &bytes, &r, timeout_ms);

	if (status == Q_ERR_LOST && r.id == 0)
		return -1;
	if (status == Q_ERR_TIMEOUT || (status == Q_ERR_NOT_FOUND && r.id == 0 && *open == 0))
		return 0;
	for (uint32_t i = 0; i < *open; i++) {
		const struct asked mine = asked[i];

		if (mine.id != r.id)
			continue;
		asked[i] = asked[--*open];
		s->count->ended[end_of(r.status)]++;
		return check_reply(s, &mine, &r, &reply);
	}
	return wrong(s, "a request ended that is not open: %llu", (unsigned long long)r.id);
}

static int call_until_lost(struct self *s, BrokerClient *c)
{
	struct asked asked[OPEN];
	uint32_t open = 0, idle = 0;
	int code = 0;

	while (code == 0 && (open != 0 || !stopping(s))) {
		const uint32_t before = open;

		if (open < OPEN && !stopping(s) && roll(s) % 3 != 0) {
			if (!(open + 4 <= OPEN && roll(s) % 8 == 0 ? ask_batch(s, c, asked, &open)
								   : ask(s, c, asked, &open)))
				break; /* it has gone: what is open is lost, below */
			continue;
		}
		code = take_reply(s, c, asked, &open, 100);
		idle = open == before && open != 0 ? idle + 1 : 0;
		if (idle > PATIENCE_MS / 100)
			return wrong(s, "%u requests have not ended in a minute", open);
	}
	s->count->ended[END_LOST] += open; /* with the connection, each as lost */
	return code;
}

static int be_a_caller(struct self *s)
{
	const BrokerConfig cfg = { .endpoint = s->a->broker };
	int code = 0;

	while (!stopping(s) && code <= 0) {
		BrokerClient *c = q_broker_connect(&cfg);

		if (c == NULL) {
			nap_us(2000);
			continue;
		}
		s->count->connects++;
		code = call_until_lost(s, c);
		q_broker_close(c);
	}
	return code > 0 ? code : 0;
}

/* ---- a worker -------------------------------------------------------------------------------- */

/* The request runs now. */
static int note_run(struct self *s, const struct payload *p)
{
	struct board *b = s->board;
	const uint32_t place = place_of(p->number);
	const unsigned before = __atomic_fetch_add(&b->ran[place], 1, __ATOMIC_SEQ_CST);

	for (uint32_t i = 0; i < p->bytes; i++)
		if (p->rest[i] != (uint8_t)(p->number & 0xff))
			return wrong(s, "request %u came with other bytes", p->number);
	if (before != 0 && __atomic_load_n(&b->once[place], __ATOMIC_SEQ_CST) != 0)
		return wrong(s, "request %u must run once, and runs again", p->number);
	if (__atomic_load_n(&b->unseen[place], __ATOMIC_SEQ_CST) != 0)
		return wrong(s, "request %u runs after its end", p->number);
	return 0;
}

/* @return false: gpuqd has gone */
static bool answer(struct self *s, BrokerClient *c, BrokerRequest *q, int *code)
{
	struct payload p = { 0 };
	const uint64_t how = roll(s) % 64;

	memcpy(&p, q->payload, q->bytes < sizeof(p) ? q->bytes : sizeof(p));
	if (q->bytes != 8 + (size_t)p.bytes || p.bytes > sizeof(p.rest)) /* a liar's */
		return q_service_reply(c, q, Q_REASON_INVALID, NULL, 0) == Q_OK;
	if (how == 0)
		return q_service_reply(c, q, Q_REASON_OVERLOADED, NULL, 0) == Q_OK;
	*code = note_run(s, &p);
	if (how == 1)
		nap_us(20000);
	if (how == 2)
		return q_service_reply(c, q, Q_REASON_INTERNAL, NULL, 0) == Q_OK;
	if (how == 3)
		return q_service_reply(c, q, Q_REASON_ERROR, NULL, 0) == Q_OK;
	p.number = ~p.number;
	return q_service_reply(c, q, Q_REASON_OK, &p, 8 + p.bytes) == Q_OK;
}

static int be_a_worker(struct self *s)
{
	const BrokerConfig cfg = { .endpoint = s->a->broker };
	char name[32];
	const BrokerService me = {
		.name = name, .capability = "op=" OP, .capacity = 32, .heartbeat_ms = 50
	};
	int code = 0;

	snprintf(name, sizeof(name), "w%u.%d", s->a->index, (int)getpid());
	while (!stopping(s) && code == 0) {
		BrokerClient *c = q_broker_connect(&cfg);
		bool alive = c != NULL && q_service_register(c, &me) == Q_OK;

		if (alive)
			s->count->connects++;
		else
			nap_us(2000);
		while (alive && code == 0) {
			BrokerRequest q[8];
			size_t n = 1;
			const QueueStatus status =
				roll(s) % 4 == 0
					? q_service_recv(c, &q[0], 100)
					: q_service_recv_batch(c, q, 1 + roll(s) % 8, &n, 100);

			for (size_t i = 0; status == Q_OK && alive && code == 0 && i < n; i++)
				alive = answer(s, c, &q[i], &code);
			if (status != Q_OK)
				alive = status == Q_ERR_TIMEOUT && !stopping(s);
		}
		q_broker_close(c);
	}
	return code;
}

/* ---- a liar ---------------------------------------------------------------------------------- */

static int be_hostile(struct self *s)
{
	struct hostile h = { .socket = s->a->socket,
			     .services = s->a->services,
			     .queue = "default",
			     .op = OP,
			     .random = s->random };

	while (!stopping(s)) {
		const char *bad = hostile_round(&h, (enum hostile_kind)(roll(s) % HOSTILE_KINDS));

		if (bad != NULL)
			return wrong(s, "%s", bad);
		nap_us(500);
	}
	return 0;
}

int role_run(const struct role_args *a)
{
	static int (*const roles[ROLES])(struct self * s) = {
		[ROLE_CLIENT] = be_a_client, [ROLE_OWN] = be_a_client,
		[ROLE_CALLER] = be_a_caller, [ROLE_WORKER] = be_a_worker,
		[ROLE_HOSTILE] = be_hostile,
	};
	struct self s = { .a = a,
			  .board = a->board,
			  .count = &a->board->child[a->index],
			  .random = a->seed | 1 };
	int code;

	memset(s.count, 0, sizeof(*s.count));
	code = roles[a->role](&s);
	if (code == 0 && s.count->accepted != ended(s.count))
		code = wrong(&s, "accepted %llu, ended %llu", (unsigned long long)s.count->accepted,
			     (unsigned long long)ended(s.count));
	return code;
}
