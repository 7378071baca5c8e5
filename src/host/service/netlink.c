/* SPDX-License-Identifier: Apache-2.0 */
/*
 * netlink.c - connected to gpuqd by NETLINK_USERSOCK; host/base/netlink.h says what goes over it.
 * Whoever has gpuqd's port must be a user that is believed before it is told anything, and every
 * message of it is held against that.
 */
#include "transport.h"

#include "host/base/clock.h"
#include "host/base/error.h"
#include "host/base/netlink.h"
#include "host/base/sys.h"

#include <linux/netlink.h>
#include <poll.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/timerfd.h>

#define AGAIN_NS UINT64_C(5000000) /* between two tries at a door that is full */
#define KNOCK_NS (GQ_NETLINK_LOOK_MS * UINT64_C(1000000))

/* ---- whom to believe ------------------------------------------------------------------------- */

struct endpoint {
	uint32_t port;
	bool names_user;
	uid_t uid, nobody;
};

/* Digits up to `end`. @return false: there are none, or they are more than `most` */
static bool parse_number(const char **at, char end, uint64_t most, uint64_t *out)
{
	const char *text = *at;

	*out = 0;
	if (*text == '\0' || *text == end)
		return false;
	for (; *text != '\0' && *text != end; text++) {
		if (*text < '0' || *text > '9')
			return false;
		*out = 10 * *out + (uint64_t)(*text - '0');
		if (*out > most)
			return false;
	}
	*at = text;
	return true;
}

static bool parse(const char *text, struct endpoint *out)
{
	const char *at = text;
	uint64_t port, uid = 0;
	bool good = parse_number(&at, '@', GQ_NETLINK_PORT_MOST, &port) &&
		    port >= GQ_NETLINK_PORT_LEAST;

	*out = (struct endpoint){ .nobody = gq__netlink_nobody() };
	if (good && *at == '@') {
		at++;
		out->names_user = true;
		good = parse_number(&at, '\0', UINT32_MAX - 1, &uid) && uid != out->nobody;
	}
	if (good) {
		out->port = (uint32_t)port;
		out->uid = (uid_t)uid;
		return true;
	}
	gq__failf(Q_ERR_INVALID_ARG,
		  "endpoint is 'netlink:%.40s'; allowed: netlink:PORT or netlink:PORT@UID, PORT %d "
		  "to %d, UID a user's number, but not %u, which is nobody's in particular",
		  text, GQ_NETLINK_PORT_LEAST, GQ_NETLINK_PORT_MOST, (unsigned)out->nobody);
	return false;
}

/* Any process may have taken the port. */
static bool is_believed(const struct endpoint *e, uid_t uid)
{
	if (uid == (uid_t)-1 || uid == e->nobody)
		return false;
	return e->names_user ? uid == e->uid : uid == 0 || uid == geteuid();
}

static bool refuse_owner(const struct endpoint *e, uid_t uid)
{
	if (uid == e->nobody)
		gq__failf(Q_ERR_POLICY,
			  "netlink port %u is a process's of user %u, which is nobody in "
			  "particular: no user whose number is not known in this user namespace "
			  "can be told from others. Use a socket's path here",
			  e->port, (unsigned)uid);
	else
		gq__failf(Q_ERR_POLICY,
			  "a process of user %u has netlink port %u; allowed: gpuqd as %s",
			  (unsigned)uid, e->port,
			  e->names_user ? "the user of the endpoint"
					: "root or as this user (netlink:PORT@UID names another)");
	return false;
}

/* ---- the beginning --------------------------------------------------------------------------- */

static bool fail_at(const struct endpoint *e, const char *why)
{
	gq__failf(Q_ERR_LOST, "gpuqd's services at netlink port %u: %s", e->port, why);
	return false;
}

/* Waits until something comes, or `until_ns`. @return false: `deadline_ns` is over */
static bool wait_until(const BrokerClient *c, uint64_t until_ns, uint64_t deadline_ns)
{
	struct pollfd at = { .fd = c->socket, .events = POLLIN };
	const uint64_t now_ns = gq__now_ns();
	const uint64_t left_ns = until_ns > now_ns ? until_ns - now_ns : 0;
	const struct timespec left = { (time_t)(left_ns / 1000000000),
				       (long)(left_ns % 1000000000) };

	if (now_ns >= deadline_ns)
		return false;
	(void)syscall(SYS_ppoll, &at, 1, &left, NULL, 0);
	return true;
}

static bool knock(BrokerClient *c, const struct endpoint *e, uint64_t deadline_ns)
{
	while (!gq__netlink_send(c->socket, e->port, GQ_NETLINK_KNOCK, c->cookie, NULL, 0)) {
		const uint64_t again_ns = gq__now_ns() + AGAIN_NS;

		if (errno == ECONNREFUSED)
			return fail_at(e, "nobody of this network namespace has it: is gpuqd "
					  "running?");
		if (errno != EAGAIN && errno != EINTR && errno != ENOBUFS && errno != ENOMEM)
			return fail_at(e, strerror(errno));
		if (!wait_until(c, again_ns < deadline_ns ? again_ns : deadline_ns, deadline_ns))
			return fail_at(e, "its queue was full for timeout_ms");
	}
	return true;
}

/* From here on the kernel refuses what others send here. */
static bool settle(BrokerClient *c, const struct endpoint *e, const struct gq_netlink_message *m)
{
	const struct sockaddr_nl to = { .nl_family = AF_NETLINK, .nl_pid = m->port };

	c->port = m->port;
	c->uid = m->uid;
	return syscall(SYS_connect, c->socket, &to, sizeof(to)) == 0 || fail_at(e, strerror(errno));
}

/* The answer does not come if others have sent so much here that there was no room for it: so it
 * knocks again. */
static bool await_answer(BrokerClient *c, const struct endpoint *e, uint64_t deadline_ns)
{
	uint64_t again_ns = gq__now_ns() + KNOCK_NS;
	struct gq_netlink_message m;

	for (;;) {
		if (!gq__netlink_receive(c->socket, &m, c->in, sizeof(c->in))) {
			if (errno != EAGAIN && errno != EINTR)
				return fail_at(e, strerror(errno));
			if (!wait_until(c, again_ns < deadline_ns ? again_ns : deadline_ns,
					deadline_ns))
				return fail_at(e, "it has not answered within timeout_ms");
			if (again_ns <= gq__now_ns()) {
				if (!knock(c, e, deadline_ns))
					return false;
				again_ns = gq__now_ns() + KNOCK_NS;
			}
			continue;
		}
		/* Only who has read the knock knows the cookie. Others may go on for ever. */
		if (gq__now_ns() >= deadline_ns)
			return fail_at(e, "it has not answered within timeout_ms");
		if ((m.type != GQ_NETLINK_HERE && m.type != GQ_NETLINK_AWAY) ||
		    m.cookie != c->cookie || m.port == 0)
			continue;
		if (!is_believed(e, m.uid))
			return refuse_owner(e, m.uid);
		if (m.type == GQ_NETLINK_HERE)
			return settle(c, e, &m);
		c->away = m.bytes;
		return fail_at(e, "it does not let this process in, and does not say why");
	}
}

/* What q_broker_fd() is readable by: what comes, and that it is time to look for gpuqd. */
static bool make_events(BrokerClient *c)
{
	const struct timespec often = { GQ_NETLINK_LOOK_MS / 1000,
					GQ_NETLINK_LOOK_MS % 1000 * 1000000L };
	const struct itimerspec every = { often, often };
	struct epoll_event in = { .events = EPOLLIN };

	c->probe = gq__netlink_open();
	c->timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	c->events = epoll_create1(EPOLL_CLOEXEC);
	return c->probe >= 0 && c->timer >= 0 && c->events >= 0 &&
	       timerfd_settime(c->timer, 0, &every, NULL) == 0 &&
	       epoll_ctl(c->events, EPOLL_CTL_ADD, c->socket, &in) == 0 &&
	       epoll_ctl(c->events, EPOLL_CTL_ADD, c->timer, &in) == 0;
}

static bool open_port(BrokerClient *c, const char *address)
{
	const uint64_t deadline_ns = gq__deadline_ns(c->timeout_ms);
	struct endpoint e;

	if (!parse(address, &e))
		return false;
	c->socket = gq__netlink_open_somewhere();
	if (c->socket < 0 || !make_events(c) ||
	    syscall(SYS_getrandom, &c->cookie, sizeof(c->cookie), 0) != sizeof(c->cookie))
		return fail_at(&e, strerror(errno));
	return knock(c, &e, deadline_ns) && await_answer(c, &e, deadline_ns);
}

/* ---- frames ---------------------------------------------------------------------------------- */

static long send_frame(BrokerClient *c, const void *frame, size_t bytes)
{
	return gq__netlink_send(c->socket, 0, GQ_NETLINK_FRAME, c->cookie, frame, bytes)
		       ? (long)bytes
		       : -1;
}

/* The timer says that it is time; after that it has to be read for q_broker_fd() to be quiet. */
static bool has_gone(BrokerClient *c)
{
	uint64_t times;

	if (c->gone || gq_sys_read(c->timer, &times, sizeof(times)) <= 0 ||
	    gq__netlink_is_taken(c->probe, c->port))
		return c->gone;
	gq_sys_close(c->probe); /* or it would take what is sent there */
	c->probe = -1;
	c->gone = true;
	return true;
}

static long receive(BrokerClient *c, void *to, size_t room, int *fd)
{
	struct gq_netlink_message m;
	bool had_gone = false;

	*fd = -1;
	for (;;) {
		if (gq__netlink_receive(c->socket, &m, to, room)) {
			if (m.port != c->port || m.uid != c->uid || m.cookie != c->cookie)
				continue; /* it came before connect() */
			return m.type == GQ_NETLINK_FRAME ? (long)m.bytes : 0;
		}
		if (errno != EAGAIN || had_gone)
			return errno == EAGAIN ? 0 : -1;
		had_gone = has_gone(c); /* what it said last is read first */
		if (!had_gone) {
			errno = EAGAIN;
			return -1;
		}
	}
}

/* A last word for which there is no room is not needed: gpuqd looks, too. */
static void end(BrokerClient *c)
{
	if (c->port != 0)
		(void)gq__netlink_send(c->socket, 0, GQ_NETLINK_BYE, c->cookie, NULL, 0);
}

const struct gq_client_transport gq__client_netlink = {
	.prefix = "netlink:",
	.open = open_port,
	.send = send_frame,
	.receive = receive,
	.end = end,
};
