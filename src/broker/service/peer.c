/* SPDX-License-Identifier: Apache-2.0 */
/* peer.c - a connection: its beginning, frames in, frames out, its end. */
#include "router.h"

#include "host/base/clock.h"
#include "host/base/log.h"
#include "host/base/netlink.h"
#include "host/base/sys.h"

#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

enum { FRAMES_A_TURN = 64, ACCEPTED_A_TURN = 64 };
#define HANDSHAKE_NS      UINT64_C(2000000000)
#define UNREAD_NS         UINT64_C(30000000000)
#define UNTAKEN_NS        UINT64_C(300000000000)
#define NO_DESCRIPTORS_NS UINT64_C(100000000)
/* Each try copies a frame, so they become rare. */
#define AGAIN_LEAST_NS UINT64_C(2000000)
#define AGAIN_MOST_NS  UINT64_C(128000000)
#define LOOK_NS        (GQ_NETLINK_LOOK_MS * UINT64_C(1000000))
/* A worker's death is known within 100 ms. One that lives costs a bind() that fails. */
#define WORKER_LOOK_NS UINT64_C(50000000)

static const struct answer none_left = { .status = GQ_WIRE_FD_EXHAUSTED,
					 .retry_ns = NO_DESCRIPTORS_NS,
					 .text = "gpuqd has no descriptor or memory left for it" };

static const struct answer ending = { .status = GQ_WIRE_SHUTTING_DOWN, .text = "gpuqd ends" };

/* ---- the beginning --------------------------------------------------------------------------- */

/* Whether what is queued waits until it has read descriptors: of that epoll does not tell. */
static bool awaits_reader(const struct peer *p)
{
	return p->out != NULL && p->out->region != NULL && away_is_full(p);
}

void peer_listen(struct router *r, struct peer *p)
{
	const bool hears = !p->muted && !p->last_words;
	const bool full = p->out != NULL && !awaits_reader(p);
	struct epoll_event event = { .events = p->link.transport->events(hears, full),
				     .data.ptr = p };

	epoll_ctl(r->epoll, EPOLL_CTL_MOD, p->link.fd, &event);
}

static bool watch(struct router *r, struct peer *p, int fd, uint32_t events)
{
	struct epoll_event event = { .events = events, .data.ptr = p };

	return epoll_ctl(r->epoll, EPOLL_CTL_ADD, fd, &event) == 0;
}

/* Whether one more connection of this user may not come in; then `a` says why. */
static bool objects(struct router *r, const struct link *l, const struct user *user,
		    struct answer *a)
{
	*a = (struct answer){ .status = GQ_WIRE_OVERLOADED, .retry_ns = UINT64_C(1000000000) };
	if (!gq__arrivals_pass(&r->arrivals, user->uid, gq__now_ns(), &a->retry_ns)) {
		a->status = GQ_WIRE_RATE_LIMITED;
		a->text = "this user connects too often (uid_connect_rate, uid_connect_burst)";
		return true;
	}
	if (l->objection != NULL)
		*a = (struct answer){ .status = GQ_WIRE_DENIED, .text = l->objection };
	else if (user->peers >= r->cfg.uid_connections)
		a->text = "this user has too many connections (uid_connections)";
	else if (r->connected >= r->cfg.connections)
		a->text = "there are too many connections (connections)";
	r->counts.connections_refused += a->text != NULL;
	return a->text != NULL;
}

/* One that has to wait costs this thread as much as one that is refused. */
static void pause_if_many(struct router *r, struct door *d)
{
	if (d->again_ns == 0)
		d->again_ns = gq__arrivals_refused(&r->arrivals, gq__now_ns());
}

/* A refusal costs some microseconds, and no memory. */
static void turn_away(struct router *r, struct door *d, struct link *l, const struct answer *a)
{
	answer_at_the_door(r, l, a);
	r->counts.connections_too_often += a->status == GQ_WIRE_RATE_LIMITED;
	report_error(r, "a connection was refused: %s", a->text);
	pause_if_many(r, d);
}

/* Who waits at the door waits on, and this thread must not spin. */
static void rest(struct router *r, struct door *d)
{
	report_error(r, "a peer cannot be let in: %s", strerror(errno));
	d->again_ns = gq__now_ns() + NO_DESCRIPTORS_NS;
}

static void unwatch_link(struct router *r, struct link *l)
{
	if (l->pidfd >= 0) {
		epoll_ctl(r->epoll, EPOLL_CTL_DEL, l->pidfd, NULL);
		gq_sys_close(l->pidfd);
	}
	epoll_ctl(r->epoll, EPOLL_CTL_DEL, l->fd, NULL);
}

/* For all at the same time, so that this thread need not wake for each. */
static uint64_t next_look(const struct peer *p, uint64_t now_ns)
{
	const uint64_t every_ns = p->has_served ? WORKER_LOOK_NS : LOOK_NS;

	return now_ns / every_ns * every_ns + every_ns;
}

void peer_serves(struct peer *p)
{
	p->has_served = true;
	if (p->look_ns != 0)
		p->look_ns = next_look(p, gq__now_ns());
}

/* NULL: it has gone, or has been turned away. */
static struct peer *let_in(struct router *r, struct door *d, struct link *l, struct user *user)
{
	struct peer *p = calloc(1, sizeof(*p));
	const enum transport_result begun = p != NULL ? l->transport->begin(l) : TRANSPORT_SHORT;

	if (begun != TRANSPORT_DONE) {
		if (begun == TRANSPORT_SHORT)
			turn_away(r, d, l, &none_left);
		free(p);
		return NULL;
	}
	*p = (struct peer){ .next = r->peers,
			    .link = *l,
			    .user = user,
			    .number = ++r->peers_ever,
			    .since_ns = gq__now_ns() };
	if (l->transport->look != NULL)
		p->look_ns = next_look(p, p->since_ns);
	p->out_end = &p->out;
	r->peers = p;
	r->connected++;
	user->peers++;
	r->counts.connections++;
	if (!watch(r, p, l->fd, l->transport->events(true, false)) ||
	    (l->pidfd >= 0 && !watch(r, p, l->pidfd, EPOLLIN)))
		p->doomed = true;
	return p;
}

/* Without a word. What is kept of it are a descriptor or two, mostly. */
static bool hold(struct router *r, struct door *d, const struct link *l, const struct answer *why)
{
	const uint32_t place = gq_tarpit_place(&r->tarpit);
	const int most = l->fd > l->pidfd ? l->fd : l->pidfd;

	if (why->status != GQ_WIRE_RATE_LIMITED ||
	    !gq__tarpit_hold(&r->tarpit, most > 0 ? most : 0, l->uid, gq__now_ns()))
		return false;
	r->held_back[place] = (struct held_back){ *l, d };
	return true;
}

/* Nothing is spent on one that may not come in. */
static void begin(struct router *r, struct door *d, struct link *l, bool may_wait)
{
	struct user *user = user_of(r, l->uid);
	struct answer refusal;

	if (user == NULL) {
		turn_away(r, d, l, &none_left);
		return;
	}
	if (objects(r, l, user, &refusal)) {
		if (may_wait && hold(r, d, l, &refusal))
			pause_if_many(r, d);
		else
			turn_away(r, d, l, &refusal);
		user_put(r, user);
	} else if (let_in(r, d, l, user) == NULL) {
		user_put(r, user);
	}
}

/* One that has hung up would take the place of one that is there, as often as its user may connect.
 */
uint64_t peer_accept_held(struct router *r, uint64_t now_ns)
{
	for (;;) {
		struct held_back *h = &r->held_back[r->tarpit.first];

		if (gq__tarpit_due(&r->tarpit, now_ns) < 0)
			return gq__tarpit_next_ns(&r->tarpit);
		if (r->draining || h->link.transport->has_left(&h->link))
			answer_at_the_door(r, &h->link, &ending);
		else
			begin(r, h->door, &h->link, false);
	}
}

void peer_accept(struct router *r, struct door *d)
{
	for (int i = 0; i < ACCEPTED_A_TURN && d->again_ns == 0; i++) {
		struct link l;

		switch (d->transport->accept(d, &l)) {
		case TRANSPORT_DONE:
			begin(r, d, &l, true);
			break;
		case TRANSPORT_FORGED:
			r->counts.forged++;
			break;
		case TRANSPORT_NOBODY:
			break;
		case TRANSPORT_SHORT:
			rest(r, d);
			return;
		default:
			return;
		}
	}
}

/* ---- frames out ------------------------------------------------------------------------------ */

/* One frame, with a region's descriptor (NULL: none), if there is room now. */
static enum transport_result put(struct router *r, struct peer *p, const uint8_t *data,
				 size_t bytes, struct region *g)
{
	enum transport_result sent = g != NULL ? away_objection(r, p) : TRANSPORT_DONE;

	if (sent == TRANSPORT_DONE)
		sent = p->link.transport->send(&p->link, data, bytes, g != NULL ? g->fd : -1);
	if (sent == TRANSPORT_DONE && g != NULL)
		away_sent(r, p, g);
	return sent;
}

static bool may_go_later(enum transport_result sent)
{
	return sent == TRANSPORT_NOT_NOW || sent == TRANSPORT_HELD;
}

/* More that is queued does not put it off. */
static void try_later(struct peer *p, bool moved)
{
	if (p->link.transport->tells_room)
		return;
	p->again_after_ns = moved ? AGAIN_LEAST_NS : 2 * p->again_after_ns;
	if (p->again_after_ns > AGAIN_MOST_NS)
		p->again_after_ns = AGAIN_MOST_NS;
	p->again_ns = gq__now_ns() + p->again_after_ns;
}

static bool queue_frame(struct router *r, struct peer *p, const void *data, size_t bytes,
			uint64_t serial, struct region *region)
{
	struct outgoing *o = malloc(sizeof(*o) + bytes);

	if (o == NULL) {
		p->doomed = true; /* it would miss something, and never know */
		return false;
	}
	o->next = NULL;
	o->serial = serial;
	o->region = region != NULL ? region_hold(region) : NULL;
	o->bytes = bytes;
	memcpy(o->data, data, bytes);
	if (p->out == NULL) {
		p->moved_ns = gq__now_ns();
		try_later(p, true);
	}
	*p->out_end = o;
	p->out_end = &o->next;
	p->out_count++;
	p->out_bytes += bytes;
	if (p->out_count > OUT_FRAMES || p->out_bytes > OUT_BYTES)
		p->muted = true;
	peer_listen(r, p);
	return true;
}

bool peer_send_region(struct router *r, struct peer *p, const struct gq_frame *frame,
		      uint64_t serial, struct region *region)
{
	size_t bytes;

	if (p->doomed || p->last_words ||
	    gq__frame_encode(frame, r->out, sizeof(r->out), &bytes) != GQ_FRAME_OK)
		return false;
	p->turn_bytes += bytes;
	r->counts.copied_bytes += payload_bytes(frame);
	if (p->out == NULL) {
		const enum transport_result sent = put(r, p, r->out, bytes, region);

		if (sent == TRANSPORT_DONE)
			return true;
		if (!may_go_later(sent)) {
			p->doomed = true;
			return false;
		}
	}
	r->counts.copied_bytes += payload_bytes(frame);
	return queue_frame(r, p, r->out, bytes, serial, region);
}

bool peer_send(struct router *r, struct peer *p, const struct gq_frame *frame, uint64_t serial)
{
	return peer_send_region(r, p, frame, serial, NULL);
}

bool peer_has_enough(const struct peer *p)
{
	return p->doomed || p->last_words || p->muted || p->turn_bytes > TURN_BYTES;
}

static struct outgoing *take_first(struct peer *p)
{
	struct outgoing *o = p->out;

	p->out = o->next;
	if (p->out == NULL)
		p->out_end = &p->out;
	p->out_count--;
	p->out_bytes -= o->bytes;
	p->moved_ns = gq__now_ns();
	return o;
}

/* A frame whose descriptor cannot be sent holds up those behind it, which may have none. */
static void give_up(struct router *r, struct peer *p)
{
	struct outgoing *o = take_first(p);

	if (o->serial != 0)
		request_unsent(r, p, o->serial);
	else
		region_unsent(r, p, o->region);
	region_put(r, o->region);
	free(o);
}

void peer_flush(struct router *r, struct peer *p)
{
	const struct outgoing *first = p->out;

	while (p->out != NULL && !p->doomed) {
		struct outgoing *o = p->out;
		const enum transport_result sent = put(r, p, o->data, o->bytes, o->region);

		if (sent == TRANSPORT_DONE) {
			(void)take_first(p);
			region_put(r, o->region);
			free(o);
		} else if (sent == TRANSPORT_HELD && o->region != NULL) {
			give_up(r, p);
		} else {
			p->doomed = !may_go_later(sent);
			break;
		}
	}
	if (p->out == NULL) {
		p->muted = false;
		p->again_ns = 0;
	} else {
		try_later(p, p->out != first);
	}
	if (!p->doomed)
		peer_listen(r, p);
}

void peer_last_words(struct router *r, struct peer *p)
{
	p->last_words = true;
	peer_listen(r, p);
}

/* ---- frames in ------------------------------------------------------------------------------- */

/* A descriptor of a process can be read once that has ended. */
static bool has_died(const struct peer *p)
{
	struct pollfd process = { .fd = p->link.pidfd, .events = POLLIN };

	return p->link.pidfd >= 0 && poll(&process, 1, 0) > 0;
}

/* @return false: nothing more now */
static bool hear_one(struct router *r, struct peer *p)
{
	const struct transport *t = p->link.transport;
	const struct gq_frame_rules rules = { .state = p->greeted ? GQ_FRAME_AFTER_HELLO
								  : GQ_FRAME_BEFORE_HELLO,
					      .need_checksum = t->needs_checksum };
	enum gq_frame_status status;
	struct gq_frame f = { 0 };
	size_t n;

	switch (t->receive(&p->link, r->in, sizeof(r->in), &n)) {
	case TRANSPORT_DONE:
		break;
	case TRANSPORT_NOT_NOW:
		/* What it said just before it died comes first. */
		p->doomed = p->died;
		p->died = p->died || has_died(p);
		return p->died && !p->doomed;
	case TRANSPORT_FORGED:
		r->counts.forged++;
		return true;
	default:
		p->doomed = true;
		return false;
	}
	/* One that was cut is longer than any may be: its length says so, or is a lie. */
	status = gq__frame_decode(r->in, n, &rules, &f);
	if (status == GQ_FRAME_OK)
		handle_frame(r, p, &f);
	else
		answer_bad_frame(r, p, &f, status, n);
	return !peer_has_enough(p);
}

void peer_hear(struct router *r, struct peer *p)
{
	away_settle(r, p);
	if (p->out != NULL && p->link.transport->tells_room)
		peer_flush(r, p);
	if (p->last_words || p->muted) {
		p->doomed = p->doomed || p->died || has_died(p);
		return;
	}
	p->turn_bytes = 0;
	for (int i = 0; i < FRAMES_A_TURN; i++)
		if (!hear_one(r, p))
			return;
}

/* ---- the end --------------------------------------------------------------------------------- */

static void bury(struct router *r, struct peer *p)
{
	request_peer_gone(r, p);
	token_peer_gone(r, p);
	region_peer_gone(r, p);
	for (struct outgoing *o = p->out, *next; o != NULL; o = next) {
		next = o->next;
		region_put(r, o->region);
		free(o);
	}
	unwatch_link(r, &p->link);
	free(p->answers);
	if (!away_keeps(r, p))
		peer_free(r, p);
}

void peer_free(struct router *r, struct peer *p)
{
	p->link.transport->end(&p->link);
	p->user->peers--;
	r->connected--;
	user_put(r, p->user);
	free(p);
}

/* What somebody's end makes us say may doom others: so from the start, until there is none. */
bool peer_bury(struct router *r)
{
	bool some = false;

	for (struct peer **at = &r->peers; *at != NULL;) {
		struct peer *p = *at;

		p->doomed = p->doomed || (p->last_words && p->out == NULL);
		if (!p->doomed) {
			at = &p->next;
			continue;
		}
		*at = p->next;
		bury(r, p);
		some = true;
		at = &r->peers;
	}
	return some;
}

/* When its time is over; UINT64_MAX: never. */
static uint64_t ends_ns(const struct peer *p)
{
	uint64_t until_ns = UINT64_MAX, unread_ns = UINT64_MAX;

	if (!p->greeted)
		until_ns = p->since_ns + HANDSHAKE_NS;
	/* A worker that is busy reads late: it may, until a silent one is forgotten. */
	if (p->out != NULL)
		unread_ns = p->moved_ns + (awaits_reader(p) && p->out->serial != 0 && !p->last_words
						   ? UNTAKEN_NS
						   : UNREAD_NS);
	return unread_ns < until_ns ? unread_ns : until_ns;
}

/* One that has gone may have said something before. */
static void look_for(struct router *r, struct peer *p, uint64_t now_ns)
{
	p->look_ns = next_look(p, now_ns);
	p->died = p->link.transport->look(&p->link) == TRANSPORT_GONE;
	if (p->died)
		peer_hear(r, p);
}

void peer_tick(struct router *r, uint64_t now_ns)
{
	for (struct peer *p = r->peers; p != NULL; p = p->next) {
		if (ends_ns(p) <= now_ns && !p->doomed) {
			report_error(r, "%s",
				     p->greeted ? "a peer does not read what it is sent"
						: "a peer has not said hello in time");
			p->doomed = true;
		}
		if (p->again_ns != 0 && p->again_ns <= now_ns && !p->doomed)
			peer_flush(r, p);
		if (p->look_ns != 0 && p->look_ns <= now_ns && !p->doomed)
			look_for(r, p, now_ns);
	}
}

uint64_t peer_due(const struct router *r)
{
	uint64_t next_ns = UINT64_MAX;

	for (const struct peer *p = r->peers; p != NULL; p = p->next) {
		const uint64_t due[3] = { ends_ns(p), p->again_ns, p->look_ns };

		for (int i = 0; i < 3; i++)
			if (due[i] != 0 && due[i] < next_ns)
				next_ns = due[i];
	}
	return next_ns;
}
