/* SPDX-License-Identifier: Apache-2.0 */
/*
 * child.c - the main thread of a process that has some of gpuqd's queues: it does what gpuqd says.
 *
 * It is a gpuqd without a socket of its own: its clients come from gpuqd, which has let them in. It
 * ends when gpuqd says so, or is gone: then the kernel ends their link, and whoever starts gpuqd
 * anew finds nothing of this process in its way.
 */
#include "broker.h"

#include "host/base/sys.h"
#include "host/base/thread.h"
#include "link.h"
#include "program/program.h"

#include <errno.h>
#include <grp.h>
#include <poll.h>
#include <pwd.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>

enum { ENDED_MS = 20 }; /* how often it looks whether all has ended */

struct child {
	struct broker_config cfg;
	struct broker *broker;
	bool ending;
	/* ---- a reload: made on a thread of its own, as a device takes its time ---- */
	pthread_t maker;
	bool making; /* it has been started, and not joined */
	struct broker_config fresh_cfg;
	struct fresh *fresh;
};

static int reserve = -1; /* the main thread's */

/* ---- reloading ------------------------------------------------------------------------------- */

static void *make(void *arg)
{
	struct child *c = arg;
	char error[BROKER_ERROR_ROOM] = "";

	c->fresh = broker_prepare(c->broker, &c->fresh_cfg, error);
	(void)link_say(LINK_FD, c->fresh != NULL ? LINK_PREPARED : LINK_UNPREPARED, error, 0);
	return NULL;
}

static void own(const struct child *c, struct broker_config *cfg)
{
	cfg->page = c->cfg.page;
	cfg->ledger = c->cfg.ledger;
	cfg->link = LINK_FD;
	memcpy(cfg->process, c->cfg.process, sizeof(cfg->process));
}

/* @return NULL, or why not */
static const char *prepare(struct child *c, int fd)
{
	int rc;

	if (fd < 0 || c->making)
		return "a reload is under way";
	if (!link_unpack(fd, &c->fresh_cfg))
		return strerror(errno);
	own(c, &c->fresh_cfg);
	rc = gq__start_thread(&c->maker, make, c, "gpuqd-reload");
	c->making = rc == 0;
	return rc != 0 ? strerror(rc) : NULL;
}

/* @return whether there was something to commit, or to abort */
static bool end_making(struct child *c)
{
	if (!c->making)
		return false;
	pthread_join(c->maker, NULL);
	c->making = false;
	return c->fresh != NULL;
}

/* ---- gpuqd's orders -------------------------------------------------------------------------- */

/*
 * A descriptor that is given up for the moment in which a client's socket comes: so one comes also
 * if this process has none left, and the client is told. @return whether there is one
 */
static bool keep_reserve(void)
{
	if (reserve < 0)
		reserve = open("/dev/null", O_RDONLY | O_CLOEXEC);
	return reserve >= 0;
}

static bool receive(struct link_message *m, int fds[LINK_DESCRIPTORS], int flags)
{
	if (reserve >= 0)
		gq_sys_close(reserve);
	reserve = -1;
	return link_receive(LINK_FD, m, fds, flags);
}

/* This process has no descriptors left: the client is told so or, if another thread was faster and
 * its socket is not even here, finds its end. gpuqd must know, or the client would count against
 * its user's quota for ever. */
static void lose(uint64_t number, int *socket)
{
	const struct link_message m = { .kind = LINK_GONE,
					.detail = LINK_GONE_REFUSED + PAGE_REFUSED_LIMIT,
					.number = number };

	const struct gq_wire_refused w = { .head = gq_wire_head_of(GQ_WIRE_REFUSED, sizeof(w)),
					   .status = Q_ERR_LIMIT,
					   .text = "the process of the queue has no descriptors "
						   "left" };

	if (*socket >= 0) {
		(void)sendto(*socket, &w, sizeof(w), MSG_DONTWAIT | MSG_NOSIGNAL, NULL, 0);
		gq_sys_close(*socket);
		*socket = -1;
	}
	(void)link_send(LINK_FD, &m, NULL, 0, 0);
}

static void obey(struct child *c, const struct link_message *m, int fds[LINK_DESCRIPTORS])
{
	const char *why;

	switch (m->kind) {
	case LINK_CLIENT:
		if (fds[0] >= 0 && keep_reserve())
			broker_adopt(c->broker, fds[0], m->number, m->detail, &m->hello);
		else
			lose(m->number, &fds[0]);
		fds[0] = -1;
		return;
	case LINK_SHOW:
		broker_show(c->broker);
		return;
	case LINK_PREPARE:
		why = prepare(c, fds[0]);
		fds[0] = -1;
		if (why != NULL)
			(void)link_say(LINK_FD, LINK_UNPREPARED, why, 0);
		return;
	case LINK_COMMIT:
		if (!end_making(c))
			_exit(1); /* it was another process that had prepared */
		broker_commit(c->broker, c->fresh);
		return;
	case LINK_ABORT:
		if (end_making(c))
			broker_abort(c->broker, c->fresh);
		return;
	case LINK_STOP:
		c->ending = true;
		broker_begin_stop(c->broker);
		return;
	default:
		return;
	}
}

/* Waits until gpuqd says something; while this process is ending, for ENDED_MS at most.
 * @return false: gpuqd has said nothing */
static bool await_word(const struct child *c)
{
	const struct timespec nap = { .tv_nsec = ENDED_MS * 1000000L };
	struct pollfd link = { .fd = LINK_FD, .events = POLLIN };
	const int n = poll(&link, 1, c->ending ? ENDED_MS : -1);

	if (n >= 0 || errno == EINTR)
		return n > 0;
	/* EINVAL: RLIMIT_NOFILE is 0, and poll() takes no more descriptors than that. So the call
	 * that receives waits in its place. */
	if (c->ending)
		nanosleep(&nap, NULL);
	return true;
}

/* @return whether all that it had has ended */
static bool hear(struct child *c)
{
	int fds[LINK_DESCRIPTORS];
	struct link_message m;

	if (c->ending && broker_has_ended(c->broker))
		return true;
	if (!await_word(c))
		return false;
	if (!receive(&m, fds, c->ending ? MSG_DONTWAIT : 0)) {
		if (errno == 0)
			_exit(0); /* gpuqd is gone; the clients learn it by our end */
		return false;
	}
	obey(c, &m, fds);
	for (int i = 0; i < LINK_DESCRIPTORS; i++)
		if (fds[i] >= 0)
			gq_sys_close(fds[i]);
	(void)keep_reserve();
	return false;
}

/* ---- the beginning --------------------------------------------------------------------------- */

/*
 * From root to another user, for ever, with that user's groups, which devices may belong to. The
 * kernel then takes it for a program that has something to hide; it has not, and a processor that
 * crashes should leave a core where the system wants one. @return NULL, or why not
 */
static const char *become(const char *name)
{
	const struct passwd *user;

	if (name[0] == '\0')
		return NULL;
	errno = 0;
	user = getpwnam(name);
	if (user == NULL)
		return errno != 0 ? strerror(errno) : "child_user is no user of this machine";
	if (initgroups(name, user->pw_gid) != 0 ||
	    setresgid(user->pw_gid, user->pw_gid, user->pw_gid) != 0 ||
	    setresuid(user->pw_uid, user->pw_uid, user->pw_uid) != 0)
		return strerror(errno);
	if (setuid(0) == 0)
		return "root could not be given away";
	(void)setenv("HOME", user->pw_dir, 1);
	(void)setenv("USER", name, 1);
	(void)setenv("LOGNAME", name, 1);
	(void)prctl(PR_SET_DUMPABLE, 1, 0, 0, 0);
	return NULL;
}

/* What gpuqd has put into the socket before this process was there. @return NULL, or why not */
static const char *configure(struct child *c)
{
	int fds[LINK_DESCRIPTORS];
	struct link_message m;
	const char *why;

	errno = EPROTO;
	if (!link_receive(LINK_FD, &m, fds, MSG_DONTWAIT) || m.kind != LINK_CONFIGURE || fds[2] < 0)
		return strerror(errno);
	if (!link_unpack(fds[0], &c->cfg))
		return strerror(errno);
	why = become(c->cfg.child_user); /* before anything of a stranger's, or a driver, is here */
	if (why != NULL)
		return why;
	c->cfg.page = page_adopt(fds[1]);
	if (c->cfg.page == NULL)
		return "the page of counts cannot be mapped";
	c->cfg.ledger = link_map_ledger(fds[2]);
	gq_sys_close(fds[2]);
	if (c->cfg.ledger == NULL)
		return strerror(errno);
	c->cfg.link = LINK_FD;
	snprintf(c->cfg.process, sizeof(c->cfg.process), "%.63s", m.text);
	return NULL;
}

static bool is_link(void)
{
	socklen_t length = sizeof(int);
	int type = 0;

	return getsockopt(LINK_FD, SOL_SOCKET, SO_TYPE, &type, &length) == 0 &&
	       type == SOCK_SEQPACKET && fcntl(LINK_FD, F_SETFD, FD_CLOEXEC) == 0;
}

int child_main(void)
{
	static struct child c; /* large */
	char error[BROKER_ERROR_ROOM], name[16];
	const char *why;

	if (!is_link()) {
		warn_line("--process is how gpuqd starts processes for queues; it is of no other "
			  "use");
		return PROGRAM_USAGE;
	}
	/* A terminal, or a service manager, tells all processes of gpuqd: it is gpuqd that tells
	 * this one. */
	signal(SIGTERM, SIG_IGN);
	signal(SIGINT, SIG_IGN);
	signal(SIGHUP, SIG_IGN);
	signal(SIGPIPE, SIG_IGN);
	signal(SIGTTOU, SIG_IGN); /* what it says may go to gpuqd's terminal */
	/* If gpuqd dies while this process is stopped it goes on, and finds that. Its group says so
	 * only where whoever inherits it is of another session (supervise.c). */
	(void)prctl(PR_SET_PDEATHSIG, SIGCONT, 0, 0, 0);
	/* Nothing that it runs, or that code in it starts, gets more than it has. */
	(void)prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	why = configure(&c);
	if (why != NULL) {
		(void)link_say(LINK_FD, LINK_FAILED, why, 0);
		return 1;
	}
	snprintf(name, sizeof(name), "gpuqd:%.9s", c.cfg.process);
	(void)prctl(PR_SET_NAME, name);
	c.broker = broker_start(&c.cfg, error);
	if (c.broker == NULL) {
		(void)link_say(LINK_FD, LINK_FAILED, error, 0);
		return 1;
	}
	(void)keep_reserve();
	(void)link_say(LINK_FD, LINK_READY, NULL, 0);
	while (!hear(&c))
		;
	if (end_making(&c))
		broker_abort(c.broker, c.fresh);
	broker_stop(c.broker);
	page_close(c.cfg.page);
	return 0;
}
