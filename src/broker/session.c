/* SPDX-License-Identifier: Apache-2.0 */
/* session.c - a connection: accept, the handshake, serving, the end. On the reactor's thread. */
#include "session.h"
#include "broker/page/probe.h"
#include "supervise.h"

#include "host/base/clock.h"
#include "host/base/log.h"
#include "host/base/sys.h"
#include "program/socket.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#ifndef SO_PEERPIDFD
#define SO_PEERPIDFD 77
#endif

enum { TELL_NS = 1000000000 };

/* ---- messages to the client ------------------------------------------------------------------ */

/* Never waits: nothing of the handshake fills a socket. @return whether it went */
static bool say(const struct session *s, const void *message, size_t bytes)
{
	return sendto(s->socket, message, bytes, MSG_DONTWAIT | MSG_NOSIGNAL, NULL, 0) ==
	       (ssize_t)bytes;
}

static void refuse(struct session *s, QueueStatus status, const char *text)
{
	struct gq_wire_refused w = { .head = gq_wire_head_of(GQ_WIRE_REFUSED, sizeof(w)),
				     .status = status };

	snprintf(w.text, sizeof(w.text), "%s", text);
	/* What a client calls things must not look like another line, or move a terminal. */
	for (char *at = w.text; *at != '\0'; at++)
		if (*at < ' ' || *at > '~')
			*at = '?';
	gq__log(Q_LOG_INFO, "gpuqd: client %d of user %u refused: %s", (int)s->pid, s->uid, w.text);
	show_error(s->b, "refused: %s", w.text);
	PROBE3(refuse, s->pid, s->uid, (int)status);
	s->detail = LINK_GONE_REFUSED + (uint32_t)show_refused(s->b, status);
	(void)say(s, &w, sizeof(w));
}

static bool welcome(struct session *s)
{
	struct gq_wire_welcome w = { gq_wire_head_of(GQ_WIRE_WELCOME, sizeof(w)), s->bytes };
	_Alignas(struct cmsghdr) char control[CMSG_SPACE(2 * sizeof(int))] = { 0 };
	const int fds[2] = { s->memfd, s->bell };
	struct iovec io = { .iov_base = &w, .iov_len = sizeof(w) };
	struct msghdr m = { .msg_iov = &io,
			    .msg_iovlen = 1,
			    .msg_control = control,
			    .msg_controllen = sizeof(control) };
	struct cmsghdr *c = CMSG_FIRSTHDR(&m);

	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(fds));
	memcpy(CMSG_DATA(c), fds, sizeof(fds));
	s->given = sendmsg(s->socket, &m, MSG_DONTWAIT | MSG_NOSIGNAL) == (ssize_t)sizeof(w);
	return s->given;
}

/* ---- the beginning and the end --------------------------------------------------------------- */

static bool watch(struct session *s, int fd)
{
	struct epoll_event event = { .events = EPOLLIN | EPOLLRDHUP, .data.ptr = s };

	return epoll_ctl(s->b->epoll, EPOLL_CTL_ADD, fd, &event) == 0;
}

static void unwatch(struct session *s)
{
	epoll_ctl(s->b->epoll, EPOLL_CTL_DEL, s->socket, NULL);
	if (s->pidfd >= 0)
		epoll_ctl(s->b->epoll, EPOLL_CTL_DEL, s->pidfd, NULL);
}

static void close_if_open(int *fd)
{
	if (*fd >= 0)
		gq_sys_close(*fd);
	*fd = -1;
}

static void drop_token(struct session *s)
{
	if (s->token != NULL)
		explicit_bzero(s->token, s->token_bytes);
	free(s->token);
	s->token = NULL;
	s->token_bytes = 0;
}

/* gpuqd, to which the client counts. This waits if gpuqd does not listen, as long as it does not.
 */
static void tell_gone(const struct broker *b, uint64_t number, uint32_t detail)
{
	const struct link_message m = { .kind = LINK_GONE, .detail = detail, .number = number };

	(void)link_send(b->cfg.link, &m, NULL, 0, 0);
}

/* The rest of what this connection had. The socket comes last: to the client its end says that the
 * memory is left alone from now on, and that nothing counts against its user's quota any more. */
static void forget(struct session *s)
{
	unwatch(s);
	if (s->begun)
		PROBE2(client_end, s->pid, s->uid);
	if (s->b->cfg.link != 0)
		tell_gone(s->b, s->number, s->detail);
	for (struct session **at = &s->b->sessions; *at != NULL; at = &(*at)->next) {
		if (*at == s) {
			*at = s->next;
			break;
		}
	}
	close_if_open(&s->pidfd);
	close_if_open(&s->socket);
	drop_token(s);
	free(s);
}

void session_look(struct session *s)
{
	if (!socket_has_unread(s->socket))
		forget(s);
}

/* Its memory is unmapped here. Whoever does not read the descriptors of it that he was sent keeps
 * it: then he keeps his place, too, or connecting anew would bring him more and more. */
static void forget_when_read(struct session *s)
{
	if (!s->given || s->b->stopped || !socket_has_unread(s->socket)) {
		forget(s);
		return;
	}
	(void)shutdown(s->socket, SHUT_RDWR); /* he reads what he was sent, and then the end */
	close_if_open(&s->pidfd);
	s->state = SESSION_UNREAD;
}

/* No other thread has it any more: its memory goes, and then it. */
static void release(struct session *s)
{
	if (s->own_dispatcher && s->dispatcher != NULL) {
		dispatcher_end(s->dispatcher, &s->b->one);
		show_gone(s->b, s, &s->b->one);
	}
	s->own_dispatcher = false;
	pages_unmake(&s->b->pages, s);
}

void session_end(struct session *s, uint64_t until_ns)
{
	const enum session_state state = s->state;

	if (state == SESSION_CLOSING || state == SESSION_GUEST)
		return; /* a guest's process ends it */
	if (state == SESSION_NEW || state == SESSION_WAITING || state == SESSION_UNREAD) {
		forget(s);
		return;
	}
	s->state = SESSION_CLOSING;
	unwatch(s);
	if (state == SESSION_MAKING)
		gq_exchange_seq_cst_u32(&s->abandoned, 1); /* NOTE_MADE comes soon */
	else if (state == SESSION_OFFERED)
		release(s);
	else
		dispatcher_remove(s->dispatcher, &s->client, until_ns);
}

/* The process at the other end, by a descriptor: a copy of its socket that a child holds does not
 * keep a connection alive, and a number that is used again means nobody else. @return false: there
 * is none, with errno. `fd` -1: this kernel has none. */
static bool open_pidfd(int socket, pid_t pid, int *fd)
{
	socklen_t length = sizeof(int);

	if (getsockopt(socket, SOL_SOCKET, SO_PEERPIDFD, fd, &length) == 0)
		return true;
	*fd = -1;
	if (errno != ENOPROTOOPT)
		return false;
	*fd = (int)syscall(SYS_pidfd_open, pid, 0); /* Linux before 6.5 */
	return *fd >= 0 || errno == ENOSYS;
}

/* In some microseconds, and without a line of the log each. */
static void turn_away(struct broker *b, int socket, const struct ucred *peer, const char *why)
{
	struct gq_wire_refused w = { .head = gq_wire_head_of(GQ_WIRE_REFUSED, sizeof(w)),
				     .status = Q_ERR_LIMIT };
	const uint64_t now_ns = gq__now_ns();

	snprintf(w.text, sizeof(w.text), "%s", why);
	b->counts.refused[PAGE_REFUSED_RATE]++;
	(void)sendto(socket, &w, sizeof(w), MSG_DONTWAIT | MSG_NOSIGNAL, NULL, 0);
	gq_sys_close(socket);
	if (now_ns < b->refusals_told_ns + TELL_NS && b->refusals_told_ns != 0)
		return;
	b->refusals_told_ns = now_ns;
	gq__log(Q_LOG_WARNING, "gpuqd: client %d refused: %s; others like it are only counted",
		(int)peer->pid, why);
}

/* Whoever has left a process counts no more: he may have seen its end before we have. */
static bool has_room(struct broker *b, uid_t uid)
{
	if (admit_connection(b, uid))
		return true;
	supervise_hear_all(b);
	return admit_connection(b, uid);
}

/* @return NULL, or why this connection cannot be served */
static const char *refuse_peer(struct session *s, char text[GQ_WIRE_TEXT])
{
	if (!has_room(s->b, s->uid))
		return "this user has too many connections (uid_connections)";
	if (open_pidfd(s->socket, s->pid, &s->pidfd))
		return NULL;
	snprintf(text, GQ_WIRE_TEXT, "gpuqd cannot watch the client's process: %s",
		 strerror(errno));
	return text;
}

static bool is_known(int socket, struct ucred *peer)
{
	socklen_t length = sizeof(*peer);

	return getsockopt(socket, SOL_SOCKET, SO_PEERCRED, peer, &length) == 0;
}

/* @return NULL: it is gone */
static struct session *begin(struct broker *b, int socket, const struct ucred *peer)
{
	struct session *s = calloc(1, sizeof(*s));
	char text[GQ_WIRE_TEXT];
	const char *why;

	if (s == NULL) {
		gq_sys_close(socket);
		return NULL;
	}
	s->b = b;
	s->socket = socket;
	s->bell = s->memfd = s->pidfd = -1;
	s->uid = peer->uid;
	s->pid = peer->pid;
	s->client.session = s;
	s->rights.best = GQ_CLASSES - 1;
	s->since_ns = gq__now_ns();
	why = refuse_peer(s, text);
	if (why != NULL) {
		refuse(s, Q_ERR_LIMIT, why);
		close_if_open(&s->pidfd);
		close_if_open(&s->socket);
		free(s);
		return NULL;
	}
	s->next = b->sessions;
	b->sessions = s;
	b->counts.connections_ever++;
	if (watch(s, socket) && (s->pidfd < 0 || watch(s, s->pidfd)))
		return s;
	forget(s);
	return NULL;
}

enum { ACCEPTED_A_TURN = 64, NO_DESCRIPTORS_NS = 100000000 };

static void let_in(struct broker *b, int socket)
{
	char text[GQ_WIRE_TEXT];
	struct ucred peer;

	if (!is_known(socket, &peer)) {
		gq_sys_close(socket);
	} else if (admit_arrival(b, peer.uid, text)) {
		(void)begin(b, socket, &peer);
	} else {
		if (!gq__tarpit_hold(&b->tarpit, socket, peer.uid, gq__now_ns()))
			turn_away(b, socket, &peer, text);
		b->accept_again_ns = gq__arrivals_refused(&b->arrivals, gq__now_ns());
	}
}

void session_accept(struct broker *b)
{
	for (int i = 0; i < ACCEPTED_A_TURN && b->accept_again_ns == 0; i++) {
		const int fd = accept4(b->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

		if (fd >= 0) {
			let_in(b, fd);
			continue;
		}
		/* Out of descriptors: who waits in the backlog waits on, and this thread must not
		 * spin. */
		if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED) {
			b->counts.accept_failures++;
			show_error(b, "a client cannot be let in: %s", strerror(errno));
			b->accept_again_ns = gq__now_ns() + NO_DESCRIPTORS_NS;
		}
		return;
	}
}

/* One that has hung up would take the place of one that is there, as often as its user may connect.
 */
void session_accept_held(struct broker *b, uint64_t now_ns)
{
	int fd;

	while ((fd = gq__tarpit_due(&b->tarpit, now_ns)) >= 0) {
		char text[GQ_WIRE_TEXT];
		struct ucred peer;

		if (b->stopped || socket_has_hung_up(fd) || !is_known(fd, &peer))
			gq_sys_close(fd);
		else if (admit_arrival(b, peer.uid, text))
			(void)begin(b, fd, &peer);
		else
			turn_away(b, fd, &peer, text);
	}
}

/* ---- the handshake --------------------------------------------------------------------------- */

bool session_pass(struct session *s)
{
	s->number = s->b->numbers + 1;
	if (!supervise_give(s->process, s))
		return false;
	s->b->numbers++;
	unwatch(s);
	s->state = SESSION_GUEST;
	close_if_open(&s->pidfd);
	close_if_open(&s->socket);
	return true;
}

void session_refuse(struct session *s, QueueStatus status, const char *text)
{
	refuse(s, status, text);
	session_end(s, 0);
}

void session_forget(struct session *s)
{
	forget(s);
}

/* What it asks for is known. @return false: end the connection */
static bool greet(struct session *s)
{
	char text[GQ_WIRE_TEXT];
	const QueueStatus status = admit(s, text);

	drop_token(s);
	if (status != Q_OK) {
		refuse(s, status, text);
		return false;
	}
	if (strcmp(s->queue->process, s->b->cfg.process) != 0) {
		s->state = SESSION_WAITING;
		s->since_ns = gq__now_ns();
		s->process = supervise_find(s->b, s->queue);
		(void)session_pass(s); /* or later */
		return true;
	}
	s->state = SESSION_MAKING;
	pages_make(&s->b->pages, s);
	return true;
}

void session_adopt(struct broker *b, const struct adopted *a)
{
	struct session *s = NULL;
	struct ucred peer;

	if (is_known(a->socket, &peer))
		s = begin(b, a->socket, &peer);
	else
		gq_sys_close(a->socket);
	if (s == NULL) {
		tell_gone(b, a->number, LINK_GONE_PLAIN);
		return;
	}
	s->number = a->number;
	s->rights.best = a->best < GQ_CLASSES ? a->best : 0;
	s->hello = a->hello;
	if (!greet(s))
		session_end(s, 0);
}

/* It has broken the protocol, which costs its user connections. In a process for queues it is gpuqd
 * that keeps these accounts. */
static void fine(struct session *s)
{
	gq__arrivals_fine(&s->b->arrivals, s->uid, gq__now_ns());
	s->detail = LINK_GONE_BROKEN;
}

/* What it says, or does before it is served, breaks the protocol. @return false: end the connection
 */
static bool lies(struct session *s)
{
	fine(s);
	s->b->counts.broken++;
	show_error(s->b, "what a client says makes no sense");
	return false;
}

/* What it may do, before it says what it wants. @return false: end the connection */
static bool on_token(struct session *s, const union gq_wire *w, ssize_t n)
{
	const size_t bytes = (size_t)n - sizeof(w->head);

	if (w->head.version != GQ_WIRE_VERSION) /* is told when it says hello */
		return true;
	if ((size_t)n != w->head.bytes || bytes == 0 || bytes > sizeof(w->token.token) ||
	    s->token != NULL)
		return lies(s);
	s->token = malloc(bytes);
	if (s->token == NULL)
		return false;
	memcpy(s->token, w->token.token, bytes);
	s->token_bytes = (uint32_t)bytes;
	return true;
}

static bool on_hello(struct session *s, const union gq_wire *w, ssize_t n)
{
	char text[GQ_WIRE_TEXT];

	if (w->head.version != GQ_WIRE_VERSION) {
		snprintf(text, sizeof(text),
			 "gpuqd speaks version %" PRIu32 " of the protocol, the client version "
			 "%" PRIu32,
			 GQ_WIRE_VERSION, w->head.version);
		refuse(s, Q_ERR_UNSUPPORTED, text);
		return false;
	}
	if (n != (ssize_t)sizeof(w->hello) || w->head.type != GQ_WIRE_HELLO)
		return lies(s);
	s->hello = w->hello;
	supervise_hear_all(s->b); /* whoever has left a process counts no more */
	return greet(s);
}

/* Its memory has been made, or could not be. @return false: end the connection */
static bool on_made(struct session *s)
{
	char text[GQ_WIRE_TEXT];

	s->state = SESSION_OFFERED;
	if (s->error != 0) {
		snprintf(text, sizeof(text), "%" PRIu64 " bytes of shared memory: %s", s->bytes,
			 strerror(s->error));
		refuse(s, Q_ERR_LIMIT, text);
		return false;
	}
	s->client.socket = s->socket;
	s->client.bell = s->bell;
	s->client.pid = (uint32_t)s->pid;
	s->client.uid = s->uid;
	s->client.best = s->rights.best;
	if (!welcome(s)) {
		snprintf(text, sizeof(text), "gpuqd could not send it its memory: %s",
			 errno == ETOOMANYREFS
				 ? "too many descriptors are on their way (RLIMIT_NOFILE)"
				 : strerror(errno));
		refuse(s, Q_ERR_LIMIT, text);
		return false;
	}
	s->since_ns = gq__now_ns();
	return true;
}

void broker_note(void *user, struct client *c, enum note_kind kind, const char *text)
{
	struct broker *b = user;
	struct note *n = calloc(1, sizeof(*n));
	const uint64_t one = 1;

	if (n == NULL)
		abort(); /* some bytes: nothing that this process does can go on */
	n->client = c;
	n->kind = kind;
	snprintf(n->text, sizeof(n->text), "%s", text);
	pthread_mutex_lock(&b->lock);
	*b->notes_end = n;
	b->notes_end = &n->next;
	pthread_mutex_unlock(&b->lock);
	(void)gq_sys_write(b->wake, &one, sizeof(one));
}

static bool on_start(struct session *s)
{
	struct broker *b = s->b;
	char error[BROKER_ERROR_ROOM];

	/* He cannot have read what he says that he has mapped. */
	if (socket_has_unread(s->socket) || !pages_seal(s->memfd, s->bytes))
		return lies(s);
	s->given = false;
	close_if_open(&s->memfd); /* it is mapped */
	if (!s->queue->per_client) {
		s->dispatcher = b->dispatcher[s->queue - b->cfg.queue];
		s->state = SESSION_STARTING;
		dispatcher_add(s->dispatcher, &s->client);
		return true;
	}
	s->own_dispatcher = true;
	s->dispatcher =
		dispatcher_start(s->queue, &s->hello, &s->client, s->memory + s->client.layout.data,
				 NULL, broker_note, b, error);
	if (s->dispatcher == NULL) {
		refuse(s, Q_ERR_LIMIT, error);
		return false;
	}
	s->state = SESSION_STARTING;
	return true;
}

/* @return false: end the connection */
static bool on_message(struct session *s, const union gq_wire *w, ssize_t n)
{
	if (n < (ssize_t)sizeof(w->head) || w->head.magic != GQ_WIRE_MAGIC)
		return lies(s);
	switch (s->state) {
	case SESSION_NEW:
		return w->head.type == GQ_WIRE_TOKEN ? on_token(s, w, n) : on_hello(s, w, n);
	case SESSION_OFFERED:
		return w->head.type == GQ_WIRE_START ? on_start(s) : lies(s);
	default:
		return lies(s); /* a client that is served has nothing to say */
	}
}

/* A descriptor of a process can be read once that has ended. */
static bool has_died(const struct session *s)
{
	struct pollfd process = { .fd = s->pidfd, .events = POLLIN };

	return s->pidfd >= 0 && poll(&process, 1, 0) > 0;
}

void session_hear(struct session *s)
{
	union gq_wire w;
	struct iovec io = { .iov_base = &w, .iov_len = sizeof(w) };
	/* No room for descriptors: the kernel closes what a client sends. */
	struct msghdr m = { .msg_iov = &io, .msg_iovlen = 1 };
	const ssize_t n = recvmsg(s->socket, &m, MSG_DONTWAIT);

	if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
		if (has_died(s))
			session_end(s, 0);
		return;
	}
	if (n <= 0 || !on_message(s, &w, n))
		session_end(s, 0);
}

/* ---- what other threads say ------------------------------------------------------------------ */

/* s->detail says whose fault it is. */
static void cut_off(struct session *s, const char *why)
{
	show_ended(s->b, s->detail);
	gq__log(Q_LOG_WARNING, "gpuqd: client %d of user %u: %s; the connection ends", (int)s->pid,
		s->uid, why);
	session_end(s, 0);
}

void session_note(struct session *s, const struct note *n)
{
	struct gq_wire_started started;

	switch (n->kind) {
	case NOTE_MADE:
		if (s->state == SESSION_CLOSING)
			release(s);
		else if (!on_made(s))
			session_end(s, 0);
		return;
	case NOTE_READY:
		if (s->state != SESSION_STARTING)
			return;
		s->state = SESSION_RUNNING;
		s->begun = true;
		PROBE3(client_begin, s->pid, s->uid, s->bytes);
		dispatcher_describe(s->dispatcher, &started);
		if (!say(s, &started, sizeof(started)))
			session_end(s, 0);
		return;
	case NOTE_FAILED:
		refuse(s, Q_ERR_UNSUPPORTED, n->text);
		session_end(s, 0);
		return;
	case NOTE_BROKEN:
		fine(s);
		cut_off(s, "its memory makes no sense");
		return;
	case NOTE_LOST:
		s->detail = LINK_GONE_LOST;
		cut_off(s, "its queue has failed");
		return;
	case NOTE_GONE:
		release(s);
		return;
	case NOTE_UNMADE:
		forget_when_read(s);
		return;
	case NOTE_DEVICE:
		return; /* not of a client's */
	}
}
