/* SPDX-License-Identifier: Apache-2.0 */
/* peer.c - a connection: its beginning, frames in, frames out, its end. */
#include "router.h"

#include "host/base/clock.h"
#include "host/base/log.h"
#include "host/base/sys.h"

#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#ifndef SO_PEERPIDFD
#define SO_PEERPIDFD 77
#endif

enum { FRAMES_A_TURN = 64, ACCEPTED_A_TURN = 64 };
#define HANDSHAKE_NS      UINT64_C(2000000000)
#define UNREAD_NS         UINT64_C(30000000000)
#define UNTAKEN_NS        UINT64_C(300000000000)
#define NO_DESCRIPTORS_NS UINT64_C(100000000)

/* ---- the beginning --------------------------------------------------------------------------- */

/* Whether what is queued waits until it has read descriptors: of that epoll does not tell. */
static bool awaits_reader(const struct peer *p)
{
	return p->out != NULL && p->out->region != NULL && away_is_full(p);
}

/* What is not going to be read must not be told of, or epoll would tell of it for ever. */
static void listen_for(struct router *r, struct peer *p)
{
	const bool hears = !p->muted && !p->last_words;
	const bool awaits_room = p->out != NULL && !awaits_reader(p);
	struct epoll_event event = { .events = (hears ? (uint32_t)(EPOLLIN | EPOLLRDHUP) : 0) |
					       (awaits_room ? (uint32_t)EPOLLOUT : 0),
				     .data.ptr = p };

	epoll_ctl(r->epoll, EPOLL_CTL_MOD, p->socket, &event);
	p->listens_for_room = awaits_room;
}

/* A descriptor of the process: a copy of its socket that a child holds keeps nothing alive. */
static int open_pidfd(int socket, pid_t pid)
{
	socklen_t length = sizeof(int);
	int fd = -1;

	if (getsockopt(socket, SOL_SOCKET, SO_PEERPIDFD, &fd, &length) == 0)
		return fd;
	return (int)syscall(SYS_pidfd_open, pid, 0); /* Linux before 6.5 */
}

static bool watch(struct router *r, struct peer *p, int fd)
{
	struct epoll_event event = { .events = EPOLLIN | EPOLLRDHUP, .data.ptr = p };

	return epoll_ctl(r->epoll, EPOLL_CTL_ADD, fd, &event) == 0;
}

/* Whether one more connection of this user may not come in; then `a` says why. */
static bool objects(struct router *r, const struct user *user, struct answer *a)
{
	*a = (struct answer){ .status = GQ_WIRE_OVERLOADED, .retry_ns = UINT64_C(1000000000) };
	if (!gq__arrivals_pass(&r->arrivals, user->uid, gq__now_ns(), &a->retry_ns)) {
		a->status = GQ_WIRE_RATE_LIMITED;
		a->text = "this user connects too often (uid_connect_rate, uid_connect_burst)";
		r->counts.connections_too_often++;
		return true;
	}
	if (user->peers >= r->cfg.uid_connections)
		a->text = "this user has too many connections (uid_connections)";
	else if (r->connected >= r->cfg.connections)
		a->text = "there are too many connections (connections)";
	r->counts.connections_refused += a->text != NULL;
	return a->text != NULL;
}

/* A refusal costs some microseconds, and no memory. */
static void turn_away(struct router *r, int socket, struct user *user, const struct answer *a)
{
	answer_at_the_door(r, socket, a);
	report_error(r, "a connection was refused: %s", a->text);
	gq_sys_close(socket);
	user_put(r, user);
	r->accept_again_ns = gq__arrivals_refused(&r->arrivals, gq__now_ns());
}

static void begin(struct router *r, int socket)
{
	struct ucred who = { 0 };
	socklen_t length = sizeof(who);
	struct answer refusal;
	struct user *user;
	struct peer *p;

	if (getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &who, &length) != 0 ||
	    (user = user_of(r, who.uid)) == NULL) {
		gq_sys_close(socket);
		return;
	}
	if (objects(r, user, &refusal)) {
		turn_away(r, socket, user, &refusal);
		return;
	}
	p = calloc(1, sizeof(*p));
	if (p == NULL) {
		gq_sys_close(socket);
		user_put(r, user);
		return;
	}
	*p = (struct peer){ .next = r->peers,
			    .socket = socket,
			    .pidfd = open_pidfd(socket, who.pid),
			    .user = user,
			    .uid = who.uid,
			    .pid = who.pid,
			    .number = ++r->peers_ever,
			    .since_ns = gq__now_ns() };
	p->out_end = &p->out;
	r->peers = p;
	r->connected++;
	user->peers++;
	r->counts.connections++;
	if (!watch(r, p, socket) || (p->pidfd >= 0 && !watch(r, p, p->pidfd)))
		p->doomed = true;
}

void peer_accept(struct router *r)
{
	for (int i = 0; i < ACCEPTED_A_TURN && r->accept_again_ns == 0; i++) {
		const int fd = accept4(r->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

		if (fd < 0) {
			/* Out of descriptors: who waits in the backlog waits on, and this thread
			 * must not spin. */
			if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED) {
				report_error(r, "a peer cannot be let in: %s", strerror(errno));
				r->accept_again_ns = gq__now_ns() + NO_DESCRIPTORS_NS;
			}
			return;
		}
		begin(r, fd);
	}
}

/* ---- frames out ------------------------------------------------------------------------------ */

/* One frame, with a region's descriptor (NULL: none), if there is room now. @return as sendmsg() */
static ssize_t put(struct router *r, struct peer *p, uint8_t *data, size_t bytes, struct region *g)
{
	_Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(int))] = { 0 };
	struct iovec io = { .iov_base = data, .iov_len = bytes };
	struct msghdr m = { .msg_iov = &io, .msg_iovlen = 1 };
	struct cmsghdr *c;
	ssize_t n;

	if (g != NULL) {
		const int objection = away_objection(r, p);

		if (objection != 0) {
			errno = objection;
			return -1;
		}
		m.msg_control = control;
		m.msg_controllen = sizeof(control);
		c = CMSG_FIRSTHDR(&m);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(c), &g->fd, sizeof(g->fd));
	}
	n = sendmsg(p->socket, &m, MSG_DONTWAIT | MSG_NOSIGNAL);
	if (n >= 0 && g != NULL)
		away_sent(r, p, g);
	return n;
}

/* ETOOMANYREFS: others do not take the descriptors that they have been sent. */
static bool may_go_later(int error)
{
	return error == EAGAIN || error == EINTR || error == ENOBUFS || error == ENOMEM ||
	       error == ETOOMANYREFS;
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
	if (p->out == NULL)
		p->moved_ns = gq__now_ns();
	*p->out_end = o;
	p->out_end = &o->next;
	p->out_count++;
	p->out_bytes += bytes;
	if (p->out_count > OUT_FRAMES || p->out_bytes > OUT_BYTES)
		p->muted = true;
	listen_for(r, p);
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
	if (p->out == NULL && put(r, p, r->out, bytes, region) == (ssize_t)bytes)
		return true;
	if (p->out != NULL || may_go_later(errno)) {
		r->counts.copied_bytes += payload_bytes(frame);
		return queue_frame(r, p, r->out, bytes, serial, region);
	}
	p->doomed = true;
	return false;
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
	while (p->out != NULL && !p->doomed) {
		struct outgoing *o = p->out;

		if (put(r, p, o->data, o->bytes, o->region) == (ssize_t)o->bytes) {
			(void)take_first(p);
			region_put(r, o->region);
			free(o);
		} else if (errno == ETOOMANYREFS && o->region != NULL) {
			give_up(r, p);
		} else {
			p->doomed = !may_go_later(errno);
			break;
		}
	}
	if (p->out == NULL)
		p->muted = false;
	if (!p->doomed)
		listen_for(r, p);
}

void peer_last_words(struct router *r, struct peer *p)
{
	p->last_words = true;
	listen_for(r, p);
}

/* ---- frames in ------------------------------------------------------------------------------- */

/* A descriptor of a process can be read once that has ended. */
static bool has_died(const struct peer *p)
{
	struct pollfd process = { .fd = p->pidfd, .events = POLLIN };

	return p->pidfd >= 0 && poll(&process, 1, 0) > 0;
}

/* @return false: nothing more now */
static bool hear_one(struct router *r, struct peer *p)
{
	struct iovec io = { .iov_base = r->in, .iov_len = sizeof(r->in) };
	/* No room for descriptors: the kernel closes what a peer sends. */
	struct msghdr m = { .msg_iov = &io, .msg_iovlen = 1 };
	const ssize_t n = recvmsg(p->socket, &m, MSG_DONTWAIT);
	const struct gq_frame_rules rules = { .state = p->greeted ? GQ_FRAME_AFTER_HELLO
								  : GQ_FRAME_BEFORE_HELLO };
	enum gq_frame_status status;
	struct gq_frame f = { 0 };

	if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
		p->doomed = has_died(p);
		return false;
	}
	if (n <= 0) {
		p->doomed = true;
		return false;
	}
	/* One that was cut is longer than any may be: its length says so, or is a lie. */
	status = gq__frame_decode(r->in, (size_t)n, &rules, &f);
	if (status == GQ_FRAME_OK)
		handle_frame(r, p, &f);
	else
		answer_bad_frame(r, p, &f, status, (size_t)n);
	return !peer_has_enough(p);
}

void peer_hear(struct router *r, struct peer *p)
{
	away_settle(r, p);
	if (p->out != NULL)
		peer_flush(r, p);
	if (p->last_words || p->muted) {
		p->doomed = p->doomed || has_died(p);
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
	if (p->pidfd >= 0) {
		epoll_ctl(r->epoll, EPOLL_CTL_DEL, p->pidfd, NULL);
		gq_sys_close(p->pidfd);
	}
	epoll_ctl(r->epoll, EPOLL_CTL_DEL, p->socket, NULL);
	free(p->answers);
	if (!away_keeps(r, p))
		peer_free(r, p);
}

void peer_free(struct router *r, struct peer *p)
{
	gq_sys_close(p->socket);
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

uint64_t peer_tick(struct router *r, uint64_t now_ns)
{
	uint64_t next_ns = UINT64_MAX;

	for (struct peer *p = r->peers; p != NULL; p = p->next) {
		uint64_t until_ns = UINT64_MAX, unread_ns = UINT64_MAX;

		if (!p->greeted)
			until_ns = p->since_ns + HANDSHAKE_NS;
		/* A worker that is busy reads late: it may, until a silent one is forgotten. */
		if (p->out != NULL)
			unread_ns =
				p->moved_ns +
				(awaits_reader(p) && p->out->serial != 0 ? UNTAKEN_NS : UNREAD_NS);
		until_ns = unread_ns < until_ns ? unread_ns : until_ns;
		if (until_ns <= now_ns && !p->doomed) {
			report_error(r, "%s",
				     p->greeted ? "a peer does not read what it is sent"
						: "a peer has not said hello in time");
			p->doomed = true;
		}
		next_ns = until_ns < next_ns ? until_ns : next_ns;
	}
	return next_ns;
}
