/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_session.c - peers of gpuqd's services that send whatever they like, in any order: before a
 * hello, after it, as callers and as workers. The input is a program: frames, sockets that are full
 * or hang up, and time that passes. The router runs here, without its thread, by a clock of the
 * input's and a transport that is memory.
 *
 * What must hold: who has not said hello has nothing, and is told nothing but no; every frame that
 * the router sends is one; what was accepted ends once; and when all peers have gone, nothing of
 * theirs is left.
 */
#include "fuzz.h"

#include <sys/random.h>

static ssize_t same_random(void *to, size_t bytes);
#define getrandom(to, bytes, flags) same_random(to, bytes)
#include "broker/service/router.c" /* its turn, and what it begins and ends with */
#undef getrandom

#include "broker/policy/crc32c.h"

enum { PEERS = 3, FRAME_ROOM = 2048 };

static uint64_t clock_ns;

/* In place of gq__now_ns(), by the linker (--wrap). NOLINTBEGIN(bugprone-reserved-identifier) */
uint64_t __wrap_gq__now_ns(void);

uint64_t __wrap_gq__now_ns(void)
{
	return clock_ns;
}
/* NOLINTEND(bugprone-reserved-identifier) */

static ssize_t same_random(void *to, size_t bytes)
{
	memset(to, 7, bytes);
	return (ssize_t)bytes;
}

static uint32_t same_word(void)
{
	return 7;
}

static void same_bytes(void *const to, const size_t bytes)
{
	memset(to, 7, bytes);
}

static const char *same_name(void)
{
	return "the same each time";
}

static struct randombytes_implementation same = {
	.implementation_name = same_name,
	.random = same_word,
	.buf = same_bytes,
};

static void check(bool condition, const char *what)
{
	if (!condition) {
		fprintf(stderr, "fuzz_session: %s\n", what);
		abort();
	}
}

#define CHECK(condition) check(condition, #condition)

/* ---- a transport that is memory -------------------------------------------------------------- */

/* A peer's end of its connection. */
static struct end {
	int fd; /* for epoll alone */
	const uint8_t *frame;
	size_t bytes; /* 0: nothing has come */
	bool full, hangs_up, is_there;
	bool greeted; /* it has been answered hello */
} ends[PEERS];

static struct end *coming;

static enum transport_result accept_end(struct door *door, struct link *out)
{
	if (coming == NULL)
		return TRANSPORT_NOT_NOW;
	*out = (struct link){ .transport = door->transport,
			      .fd = coming->fd,
			      .pidfd = -1,
			      .uid = (uid_t)(coming - ends) / 2,
			      .own = coming };
	coming = NULL;
	return TRANSPORT_DONE;
}

static enum transport_result begin_end(struct link *l)
{
	struct end *e = l->own;

	e->is_there = true;
	return TRANSPORT_DONE;
}

/* One that is not let in hears one frame. */
static void refuse_end(struct link *l, const void *frame, size_t bytes)
{
	const struct gq_frame_rules rules = { .receiver = GQ_FRAME_AT_PEER };
	struct gq_frame f;

	(void)l;
	CHECK(gq__frame_decode(frame, bytes, &rules, &f) == GQ_FRAME_OK);
	CHECK(f.type == GQ_MESSAGE_NACK);
}

static bool end_has_left(struct link *l)
{
	return ((struct end *)l->own)->hangs_up;
}

static uint32_t end_events(bool hears, bool full)
{
	return (hears ? (uint32_t)EPOLLIN : 0) | (full ? (uint32_t)EPOLLOUT : 0);
}

static enum transport_result receive_end(struct link *l, void *to, size_t room, size_t *bytes)
{
	struct end *e = l->own;

	if (e->bytes == 0)
		return e->hangs_up ? TRANSPORT_GONE : TRANSPORT_NOT_NOW;
	*bytes = e->bytes < room ? e->bytes : room;
	memcpy(to, e->frame, *bytes);
	e->bytes = 0;
	return TRANSPORT_DONE;
}

static enum transport_result send_end(struct link *l, const void *frame, size_t bytes, int fd)
{
	struct gq_frame_rules rules = { .receiver = GQ_FRAME_AT_PEER };
	struct end *e = l->own;
	struct gq_frame f;

	(void)fd;
	if (e->hangs_up)
		return TRANSPORT_GONE;
	if (e->full)
		return TRANSPORT_NOT_NOW;
	rules.state = e->greeted ? GQ_FRAME_AFTER_HELLO : GQ_FRAME_BEFORE_HELLO;
	CHECK(gq__frame_decode(frame, bytes, &rules, &f) == GQ_FRAME_OK);
	CHECK(e->greeted || f.type == GQ_MESSAGE_HELLO || f.type == GQ_MESSAGE_NACK);
	if (f.type == GQ_MESSAGE_HELLO) {
		e->greeted = true;
		fuzz_counts(false); /* from now on quotas say what it may have */
	}
	return TRANSPORT_DONE;
}

static void end_end(struct link *l)
{
	struct end *e = l->own;

	e->is_there = e->greeted = e->hangs_up = e->full = false;
	e->bytes = 0;
}

static const struct transport memory = {
	.name = "memory",
	.passes_regions = true,
	.tells_room = true,
	.accept = accept_end,
	.begin = begin_end,
	.refuse = refuse_end,
	.has_left = end_has_left,
	.events = end_events,
	.receive = receive_end,
	.send = send_end,
	.end = end_end,
};

/* ---- the router, without its thread ---------------------------------------------------------- */

static struct router *begin_router(int epoll)
{
	const struct router_config cfg = ROUTER_DEFAULTS;
	char error[ROUTER_ERROR_ROOM];
	struct router *r = calloc(1, sizeof(*r));

	CHECK(r != NULL);
	r->cfg = cfg;
	r->cfg.uid_connect_rate = 0;
	r->cfg.queued = 16;
	r->cfg.keys = 16;
	r->cfg.cache_entries = 16;
	r->cfg.uid_region_bytes = 1 << 16;
	r->cfg.ops = 2;
	r->cfg.op[0] = (struct router_op){
		.name = "batch", .batch = 3, .batch_delay_us = 1000, .user_percent = 50
	};
	r->cfg.op[1] = (struct router_op){ .name = "embed",
					   .cache = ROUTER_CACHE_USER,
					   .sessions = ROUTER_SESSIONS_STRICT,
					   .user_percent = 1 };
	pthread_mutex_init(&r->lock, NULL);
	r->epoll = epoll;
	r->wake = -1;
	for (int i = 0; i < TRANSPORTS; i++)
		r->door[i] =
			(struct door){ .transport = router_transports[i], .fd = -1, .pump_fd = -1 };
	CHECK(make_tables(r, error));
	return r;
}

static struct peer *peer_of(const struct router *r, const struct end *e)
{
	struct peer *p = r->peers;

	while (p != NULL && p->link.own != e)
		p = p->next;
	return p;
}

/* In which groups a request counts for its user. */
static struct gq_places counts_in(const struct router *r, const struct request *q)
{
	const bool is_there = (q->state == REQUEST_RUNS || q->state == REQUEST_LATE) &&
			      q->place != NOBODY && r->served[q->place].counts;
	struct gq_places set = { { 0 } };

	if (q->state == REQUEST_GATHERS)
		gq_places_add(&set, q->group);
	for (uint32_t i = 0; is_there && i < r->served[q->place].groups; i++)
		gq_places_add(&set, r->served[q->place].group[i]);
	return set;
}

/* How much one user may have: its share of what services take that are well, and not on trial. */
static void look_at_room(const struct router *r, uint32_t group)
{
	const struct group *g = r->groups[group];
	const uint32_t percent = g->op.user_percent != 0 ? g->op.user_percent : r->cfg.user_percent;
	uint32_t room = 0;

	for (uint32_t i = 0; i < GQ_PLACES; i++) {
		const struct served *s = &r->served[i];

		if (!gq_places_has(&g->balance.joined, i))
			continue;
		CHECK(!s->counts || gq_places_has(&g->balance.well, i));
		room += s->counts ? s->limit : 0;
	}
	room = room * percent / 100;
	CHECK(g->user_most == (percent == 100 ? UINT32_MAX : room != 0 ? room : 1));
}

/* Users have at work what their requests say, and who has as much as it may is held. */
static void look_at_shares(const struct router *r)
{
	uint32_t held = 0;

	for (uint32_t i = 0; i < GROUPS; i++)
		if (r->groups[i] != NULL)
			look_at_room(r, i);
	for (uint32_t i = 0; i < r->used; i++) {
		const struct gq_places in = counts_in(r, &r->requests[i]);

		CHECK(gq_places_equal(&r->requests[i].at_work, &in));
	}
	for (const struct user *u = r->users; u != NULL; u = u->next) {
		uint32_t at_work[GROUPS] = { 0 }, asked = 0;

		for (uint32_t i = 0; i < r->used; i++) {
			const struct request *q = &r->requests[i];

			if (q->state == REQUEST_FREE || q->asker != u)
				continue;
			asked++;
			held += q->state == REQUEST_WAITS && share_is_used_up(r, u, q->group);
			for (uint32_t k = 0; k < GROUPS; k++)
				at_work[k] += gq_places_has(&q->at_work, k);
		}
		CHECK(asked == u->asked);
		CHECK(u->peers != 0 || u->requests != 0 || asked != 0 || u->keys != 0 ||
		      u->regions != 0);
		CHECK(memcmp(at_work, u->at_work, sizeof(at_work)) == 0);
	}
	CHECK(held == r->admission.held);
}

/* Those that rest for room are in a list, and no others. */
static void look_at_resting(const struct router *r)
{
	uint32_t listed = 0, flagged = 0;

	for (const struct user *u = r->users; u != NULL; u = u->next) {
		const struct request *before = NULL;

		for (const struct request *q = u->rests; q != NULL;
		     before = q, q = q->rests_after) {
			CHECK(q->state == REQUEST_RESTS && q->rests_for_room && q->asker == u);
			CHECK(q->rests_before == before && q->again_ns != UINT64_MAX);
			listed++;
		}
		CHECK(u->rests_last == before);
	}
	for (uint32_t i = 0; i < r->used; i++)
		flagged += r->requests[i].rests_for_room;
	CHECK(listed == flagged && listed == r->rests);
}

/* What holds after each turn. */
static void look(const struct router *r)
{
	const struct counts *c = &r->counts;

	for (const struct peer *p = r->peers; p != NULL; p = p->next) {
		const struct end *e = p->link.own;

		CHECK(p->greeted || (p->inside == 0 && p->asked == NULL && p->regions == NULL &&
				     !p->watches && !p->has_served));
		CHECK(!e->greeted || p->greeted);
	}
	CHECK(c->accepted ==
	      c->ok + c->failed + c->expired + c->cancelled + c->lost + request_inside(r));
	look_at_shares(r);
	look_at_resting(r);
}

static void hear(struct router *r, struct end *e)
{
	struct peer *p = peer_of(r, e);

	if (p != NULL && e->hangs_up && (p->muted || p->last_words))
		p->doomed = true; /* as the router's thread does */
	if (p != NULL && !p->doomed)
		peer_hear(r, p);
	e->bytes = 0; /* one that is not heard any more has said it in vain */
	(void)turn(r);
	look(r);
}

static void come(struct router *r, struct end *e)
{
	struct door door = { .transport = &memory, .fd = -1, .pump_fd = -1 };

	if (e->is_there)
		return;
	coming = e;
	peer_accept(r, &door);
}

static void all_go(struct router *r)
{
	for (int i = 0; i < PEERS; i++) {
		ends[i].hangs_up = true;
		hear(r, &ends[i]);
		ends[i].hangs_up = false;
	}
	CHECK(r->peers == NULL && r->connected == 0);
	CHECK(request_inside(r) == 0 && r->registry.count == 0 && r->regions == 0);
}

/* ---- the input ------------------------------------------------------------------------------- */

struct input {
	const uint8_t *at, *end;
};

static uint8_t take(struct input *in)
{
	return in->at < in->end ? *in->at++ : 0;
}

/* The liar knows how to compute a checksum, and what a frame begins with. */
static void put_right(uint8_t *frame, uint32_t bytes)
{
	const uint32_t magic = GQ_WIRE_MAGIC, version = GQ_WIRE_VERSION;
	uint32_t sum = 0;

	memcpy(frame + GQ_WIRE_AT_MAGIC, &magic, sizeof(magic));
	memcpy(frame + GQ_WIRE_AT_VERSION, &version, sizeof(version));
	memcpy(frame + GQ_WIRE_AT_LENGTH, &bytes, sizeof(bytes));
	memcpy(frame + GQ_WIRE_AT_CHECKSUM, &sum, sizeof(sum));
	if ((frame[GQ_WIRE_AT_FLAGS] & GQ_FLAG_CHECKSUM) == 0)
		return;
	sum = gq__crc32c(0, frame, bytes);
	sum = sum != 0 ? sum : UINT32_MAX;
	memcpy(frame + GQ_WIRE_AT_CHECKSUM, &sum, sizeof(sum));
}

static void say(struct router *r, struct end *e, struct input *in, bool right)
{
	static uint8_t frame[FRAME_ROOM];
	const unsigned low = take(in);
	size_t bytes = (low | (unsigned)take(in) << 8) % FRAME_ROOM;

	if (bytes > (size_t)(in->end - in->at))
		bytes = (size_t)(in->end - in->at);
	memcpy(frame, in->at, bytes);
	in->at += bytes;
	if (right && bytes >= GQ_WIRE_HEADER_BYTES)
		put_right(frame, (uint32_t)bytes);
	come(r, e);
	e->frame = frame;
	e->bytes = bytes;
	hear(r, e);
}

static void step(struct router *r, struct input *in)
{
	static const uint64_t passes_ns[4] = { 1000, 2000000, UINT64_C(6000000000),
					       UINT64_C(400000000000) };
	const uint8_t what = take(in);
	struct end *e = &ends[(what >> 4) % PEERS];

	clock_ns += 1000;
	switch (what % 16) {
	case 8:
		e->hangs_up = e->is_there;
		hear(r, e);
		e->hangs_up = false;
		break;
	case 9:
		e->full = e->is_there && !e->full;
		hear(r, e);
		break;
	case 10:
	case 11:
		clock_ns += passes_ns[(what >> 4) % 4];
		(void)turn(r);
		look(r);
		break;
	default:
		say(r, e, in, what % 4 != 3);
	}
}

void fuzz_one(const uint8_t *data, size_t size)
{
	struct input in = { data, data + size };
	static int epoll = -1;
	struct router *r;

	fuzz_counts(false); /* the router's own tables are as large for all */
	if (epoll < 0) {
		epoll = epoll_create1(EPOLL_CLOEXEC);
		for (int i = 0; i < PEERS; i++)
			ends[i].fd = eventfd(0, EFD_CLOEXEC);
		CHECK(randombytes_set_implementation(&same) == 0 && sodium_init() >= 0);
	}
	clock_ns = UINT64_C(1000000000000);
	r = begin_router(epoll);
	fuzz_counts(true);
	while (in.at < in.end)
		step(r, &in);
	all_go(r);
	fuzz_counts(false);
	r->epoll = -1;
	free_router(r);
}
