/* SPDX-License-Identifier: Apache-2.0 */
/* supervise.c - gpuqd's processes for queues, as gpuqd sees them; see supervise.h. */
#include "supervise.h"
#include "broker/page/probe.h"

#include "host/base/clock.h"
#include "host/base/log.h"
#include "host/base/sys.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>

enum {
	FIRST_DELAY_MS = 100, /* before it is started again; twice as long each time */
	MOST_DELAY_MS = 30000,
	GOOD_MS = 10000,    /* one that has served as long as this begins anew with the delay */
	GRACE_MS = 5000,    /* beyond drain_ms: then it is killed */
	POLL_MS = 20,       /* where the kernel has no descriptors of processes */
	FULL_MS = 5,        /* until a link that was full is tried again, or a page looked at */
	ANSWER_MS = 100,    /* so long a page is looked at that often */
	LOOK_MS = 50,       /* how often whoever waits looks whether gpuqd is to end */
	REAPED_MS = 2000,   /* a process that is killed: one that hangs in a driver cannot end */
	HEARD_A_TURN = 64,  /* messages, so that one that talks does not keep the others waiting */
	HEARD_AT_ONCE = 512 /* more than a link holds */
};

/* Orders that do not fit into the link now; in the order in which they are sent. */
enum { OWES_COMMIT = 1, OWES_ABORT = 2, OWES_STOP = 4 };

enum prepare { PREPARE_NONE, PREPARE_ASKED, PREPARE_RUNS, PREPARE_GOOD, PREPARE_BAD };

struct process {
	char name[GQ_WIRE_NAME];
	enum page_process_state state;
	pid_t pid; /* 0: there is none */
	int socket, pidfd;
	bool dying;    /* it has been killed, or has let go of its socket: its end comes */
	bool stopping; /* it has been told to end */
	bool answered, good;
	uint32_t owed; /* OWES_*: clients come behind them */
	bool full;     /* its link was, in this turn */
	uint32_t delay_ms;
	uint64_t since_ns; /* in this state */
	uint64_t next_ns;  /* DOWN: it is started then; stopping: it is killed then */
	uint64_t starts, ends;
	char why[BROKER_ERROR_ROOM];           /* it will end, as far as somebody has said */
	char last[BROKER_ERROR_ROOM];          /* it ended the last time */
	uint64_t asked_ns;                     /* for its counts; 0: it has answered */
	uint64_t versions[BROKER_MOST_QUEUES]; /* of its page, then */
	uint64_t shown[BROKER_MOST_QUEUES];    /* and those that are in gpuqd's own page */
};

/* A line for whoever runs gpuqd. */
__attribute__((format(printf, 2, 3))) static void tell(const struct broker *b, const char *format,
						       ...)
{
	char line[2 * BROKER_ERROR_ROOM];
	va_list args;

	va_start(args, format);
	vsnprintf(line, sizeof(line), format, args);
	va_end(args);
	if (b->cfg.tell != NULL)
		b->cfg.tell(line);
	else
		gq__log(Q_LOG_ERROR, "gpuqd: %s", line);
}

static uint64_t ms_to_ns(uint64_t ms)
{
	return ms * UINT64_C(1000000);
}

/* ---- starting one ---------------------------------------------------------------------------- */

static void close_if_open(int *fd)
{
	if (*fd >= 0)
		gq_sys_close(*fd);
	*fd = -1;
}

extern char **environ;

/* What is said to gpuqd alone, by a service manager or by whoever starts it. */
static bool is_private(const char *variable)
{
	static const char *const names[] = {
		"GPUQ_BROKER=",   "GPUQ_TOKEN=", "NOTIFY_SOCKET=",        "WATCHDOG_PID=",
		"WATCHDOG_USEC=", "LISTEN_",     "CREDENTIALS_DIRECTORY="
	};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (strncmp(variable, names[i], strlen(names[i])) == 0)
			return true;
	return false;
}

/* @return the environment without that, to be freed; the variables are ours. NULL: no memory */
static char **its_environment(void)
{
	size_t n = 0, kept = 0;
	char **to;

	while (environ[n] != NULL)
		n++;
	to = calloc(n + 1, sizeof(*to));
	for (size_t i = 0; to != NULL && i < n; i++)
		if (!is_private(environ[i]))
			to[kept++] = environ[i];
	return to;
}

/* @return 0, or an errno value. The child has its end of the sockets as LINK_FD, and no other
 * descriptor of ours but those for output. */
static int spawn(int its_end, pid_t *pid)
{
	char **const environment = its_environment();
	static char name[] = "gpuqd", option[] = "--process";
	char *const argv[] = { name, option, NULL };
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attributes;
	sigset_t none;
	int rc;

	if (environment == NULL)
		return ENOMEM;
	sigemptyset(&none);
	posix_spawn_file_actions_init(&actions);
	posix_spawnattr_init(&attributes);
	posix_spawnattr_setsigmask(&attributes, &none);
	/* A process group of its own: what a terminal sends is gpuqd's alone. In gpuqd's session:
	 * if gpuqd is killed while this process is stopped, the kernel has it go on (as of a group
	 * that has lost its parent, if its new one is of another session; see also child.c), and it
	 * finds that gpuqd has gone. */
	posix_spawnattr_setpgroup(&attributes, 0);
	posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETPGROUP);
	rc = posix_spawn_file_actions_adddup2(&actions, its_end, LINK_FD);
	if (rc == 0)
		rc = posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY,
						      0);
	/* What runs, also if the file at its path is another by now. */
	if (rc == 0)
		rc = posix_spawn(pid, "/proc/self/exe", &actions, &attributes, argv, environment);
	posix_spawnattr_destroy(&attributes);
	posix_spawn_file_actions_destroy(&actions);
	free(environment);
	return rc;
}

/* Its configuration, the page, the ledger. They wait in its socket until it has started. */
static bool configure(const struct broker *b, const struct process *p,
		      const struct broker_config *cfg)
{
	struct link_message m = { .kind = LINK_CONFIGURE };
	const int fds[LINK_DESCRIPTORS] = { link_pack(cfg), page_share(b->shared), b->ledger_fd };
	bool sent = false;

	snprintf(m.text, sizeof(m.text), "%s", p->name);
	if (fds[0] >= 0 && fds[1] >= 0)
		sent = link_send(p->socket, &m, fds, LINK_DESCRIPTORS, MSG_DONTWAIT);
	for (int i = 0; i < 2; i++)
		if (fds[i] >= 0)
			gq_sys_close(fds[i]);
	return sent;
}

/* @return false, with errno: there is none */
static bool start(const struct broker *b, struct process *p, const struct broker_config *cfg)
{
	int pair[2], rc;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0)
		return false;
	p->socket = pair[0];
	rc = configure(b, p, cfg) ? spawn(pair[1], &p->pid) : errno;
	gq_sys_close(pair[1]);
	if (rc != 0) {
		p->pid = 0;
		close_if_open(&p->socket);
		errno = rc;
		return false;
	}
	p->pidfd = (int)syscall(SYS_pidfd_open, p->pid, 0);
	p->state = PAGE_PROCESS_STARTS;
	p->since_ns = gq__now_ns();
	p->starts++;
	PROBE2(process_begin, p->pid, p->starts);
	p->dying = p->stopping = p->full = false;
	p->owed = 0;
	p->asked_ns = 0;
	return true;
}

/* @return whether it has ended; then `status` is as waitpid() says it, -1: unknown */
static bool reap(struct process *p, int *status, int flags)
{
	pid_t rc;

	do
		rc = waitpid(p->pid, status, flags);
	while (rc < 0 && errno == EINTR);
	if (rc == 0)
		return false;
	if (rc < 0)
		*status = -1;
	p->pid = 0;
	return true;
}

#define TOO_SLOW "it did not serve in time (start_ms)"

static void explain_end(struct process *p, int status)
{
	if (p->why[0] != '\0')
		return; /* it has said it itself, or we have */
	if (status != -1 && WIFSIGNALED(status))
		snprintf(p->why, sizeof(p->why), "signal %d (%s)", WTERMSIG(status),
			 strsignal(WTERMSIG(status)));
	else
		snprintf(p->why, sizeof(p->why), "exit status %d",
			 status != -1 ? WEXITSTATUS(status) : -1);
}

/* @return its status; -1: it does not end, in a driver that hangs, and nobody waits for it */
static int kill_and_reap(struct process *p)
{
	int status = -1;

	(void)kill(p->pid, SIGKILL);
	for (int ms = 0; ms < REAPED_MS && !reap(p, &status, WNOHANG); ms++)
		poll(NULL, 0, 1);
	p->pid = 0;
	return status;
}

static bool is_interrupted(const struct broker *b)
{
	return b->cfg.interrupted != NULL && b->cfg.interrupted();
}

/* Waits for its word, for start_ms at most. @return false: it has ended, p->why */
static bool await(const struct broker *b, struct process *p, uint32_t start_ms)
{
	const uint64_t until_ns = p->since_ns + ms_to_ns(start_ms);
	struct pollfd link = { .fd = p->socket, .events = POLLIN };
	struct link_message m;

	for (;;) {
		if (link_receive(p->socket, &m, NULL, MSG_DONTWAIT)) {
			if (m.kind == LINK_READY)
				return true;
			if (m.kind == LINK_FAILED)
				memcpy(p->why, m.text, sizeof(p->why));
		} else if (errno != EAGAIN) {
			break;
		} else if (is_interrupted(b) || gq__now_ns() >= until_ns) {
			snprintf(p->why, sizeof(p->why), "%s",
				 is_interrupted(b) ? "gpuqd is to end" : TOO_SLOW);
			break;
		} else {
			(void)poll(&link, 1, LOOK_MS);
		}
	}
	explain_end(p, kill_and_reap(p));
	return false;
}

static void end_now(struct process *p)
{
	if (p->pid != 0)
		(void)kill_and_reap(p);
	close_if_open(&p->pidfd);
	close_if_open(&p->socket);
	free(p);
}

/* ---- the ledger, and the page in a process's place ------------------------------------------- */

/*
 * Before the first process is there: it runs strangers' messages as gpuqd's user, if nobody has
 * named another one, and must not be able to trace gpuqd, or to read and write its memory.
 */
static void hide(void)
{
	(void)prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
}

/* What processes write, in memory that they cannot cut: counts of queues, and a page of their own,
 * of which gpuqd copies their sections into its page. */
static bool make_ledger(struct broker *b)
{
	char error[PAGE_ERROR];

	if (b->ledger != NULL)
		return true;
	hide();
	if (b->shared == NULL)
		b->shared = page_create(NULL, NULL, 0600, error);
	if (b->shared == NULL)
		return false;
	b->ledger_fd = link_make_ledger();
	b->ledger = b->ledger_fd >= 0 ? link_map_ledger(b->ledger_fd) : NULL;
	if (b->ledger == NULL)
		close_if_open(&b->ledger_fd);
	return b->ledger != NULL;
}

/* What its process has shown of a queue goes into gpuqd's own page. Of that it has the numbers;
 * what the queue is, gpuqd knows. */
static void copy_counts(struct page *page, const struct broker_queue *q, uint32_t index,
			const struct page *from)
{
	struct page_queue now;

	if (!page_read(from, PAGE_QUEUE, index, &now))
		return;
	snprintf(now.name, sizeof(now.name), "%s", q->name);
	broker_tell_processor(now.processor, sizeof(now.processor), q->processor);
	snprintf(now.process, sizeof(now.process), "%s", q->process);
	page_write(page, PAGE_QUEUE, index, &now);
}

/* @return whether all its queues have been written since it was asked */
static bool collect(struct broker *b, struct process *p)
{
	bool all = true;

	for (uint32_t i = 0; i < b->cfg.queues; i++) {
		uint64_t versions;

		if (strcmp(b->cfg.queue[i].process, p->name) != 0)
			continue;
		versions = page_versions(b->shared, PAGE_QUEUE, i);
		if (versions != p->shown[i])
			copy_counts(b->cfg.page, &b->cfg.queue[i], i, b->shared);
		p->shown[i] = versions;
		all = all && versions != p->versions[i];
	}
	return all;
}

/*
 * The section of a queue that no process has now. What is not known to have ended is lost: that is
 * what its clients are told.
 */
static void write_for(struct page *page, const struct broker_queue *q, uint32_t index,
		      struct page_queue *ledger, bool failed)
{
	struct page_queue now;

	if (q->per_client) /* its dispatchers counted on their own: what they have shown */
		(void)page_read(page, PAGE_QUEUE, index, ledger);
	for (uint32_t k = 0; k < PAGE_CLASSES; k++) {
		const uint64_t ended = page_ended(ledger->ended[k]);

		if (ledger->accepted[k] > ended)
			ledger->ended[k][PAGE_LOST] += ledger->accepted[k] - ended;
	}
	ledger->clients = ledger->running = 0;
	memset(ledger->inside, 0, sizeof(ledger->inside));
	memset(ledger->client, 0, sizeof(ledger->client));
	now = *ledger;
	snprintf(now.name, sizeof(now.name), "%s", q->name);
	broker_tell_processor(now.processor, sizeof(now.processor), q->processor);
	snprintf(now.process, sizeof(now.process), "%s", q->process);
	now.per_client = q->per_client;
	now.failed = failed;
	now.capacity = q->capacity;
	now.window = q->window;
	now.slot_bytes = q->slot_bytes;
	now.result_bytes = q->result_bytes;
	now.turned_ns = gq__now_ns();
	page_write(page, PAGE_QUEUE, index, &now);
}

static void write_all_for(struct broker *b, const struct broker_config *cfg, uint32_t first,
			  const struct process *p, bool failed)
{
	for (uint32_t i = first; i < cfg->queues; i++)
		if (strcmp(cfg->queue[i].process, p->name) == 0)
			write_for(b->cfg.page, &cfg->queue[i], i, &b->ledger[i], failed);
}

/* ---- many ------------------------------------------------------------------------------------ */

static struct process *find(struct process *const *in, uint32_t n, const char *name)
{
	for (uint32_t i = 0; i < n; i++)
		if (strcmp(in[i]->name, name) == 0)
			return in[i];
	return NULL;
}

static bool fail(char error[BROKER_ERROR_ROOM], const char *name, const char *why)
{
	snprintf(error, BROKER_ERROR_ROOM, "process '%s': %.500s", name, why);
	return false;
}

/* @return NULL: `error` */
static struct process *start_one(struct broker *b, const struct broker_config *cfg,
				 const char *name, char error[BROKER_ERROR_ROOM])
{
	struct process *p = calloc(1, sizeof(*p));

	if (p == NULL) {
		(void)fail(error, name, "out of memory");
		return NULL;
	}
	snprintf(p->name, sizeof(p->name), "%s", name);
	p->socket = p->pidfd = -1;
	p->delay_ms = FIRST_DELAY_MS;
	if (!start(b, p, cfg))
		(void)fail(error, name, strerror(errno));
	else if (!await(b, p, cfg->start_ms))
		(void)fail(error, name, p->why);
	else
		return p;
	end_now(p);
	return NULL;
}

bool supervise_start(struct broker *b, const struct broker_config *cfg, uint32_t first,
		     struct process **to, uint32_t *n, char error[BROKER_ERROR_ROOM])
{
	*n = 0;
	for (uint32_t i = first; i < cfg->queues; i++) {
		const char *name = cfg->queue[i].process;

		if (broker_has(cfg, i) || find(b->process, b->processes, name) != NULL ||
		    find(to, *n, name) != NULL)
			continue;
		if (!make_ledger(b)) {
			supervise_drop(to, *n);
			return fail(error, name, strerror(errno));
		}
		to[*n] = start_one(b, cfg, name, error);
		if (to[*n] == NULL) {
			supervise_drop(to, *n);
			return false;
		}
		write_all_for(b, cfg, 0, to[*n], false);
		to[*n]->state = PAGE_PROCESS_SERVES;
		to[*n]->since_ns = gq__now_ns();
		++*n;
	}
	return true;
}

void supervise_drop(struct process **which, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++)
		end_now(which[i]);
}

static bool watch(const struct broker *b, struct process *p)
{
	struct epoll_event event = { .events = EPOLLIN | EPOLLRDHUP, .data.ptr = p };

	return epoll_ctl(b->epoll, EPOLL_CTL_ADD, p->socket, &event) == 0 &&
	       (p->pidfd < 0 || epoll_ctl(b->epoll, EPOLL_CTL_ADD, p->pidfd, &event) == 0);
}

bool supervise_take(struct broker *b, struct process *const *which, uint32_t n)
{
	bool all = true;

	for (uint32_t i = 0; i < n; i++) {
		b->process[b->processes++] = which[i];
		all = watch(b, which[i]) && all;
	}
	return all;
}

struct process *supervise_find(const struct broker *b, const struct broker_queue *queue)
{
	return find(b->process, b->processes, queue->process);
}

static bool serves(const struct process *p)
{
	return p->state == PAGE_PROCESS_SERVES && !p->dying && !p->stopping;
}

void supervise_explain(const struct process *p, char text[GQ_WIRE_TEXT])
{
	if (p->stopping)
		snprintf(text, GQ_WIRE_TEXT, "gpuqd ends");
	else if (serves(p))
		snprintf(text, GQ_WIRE_TEXT,
			 "the process '%s' of the queue does not take clients: it is too slow, or "
			 "hangs",
			 p->name);
	else if (p->last[0] == '\0')
		snprintf(text, GQ_WIRE_TEXT, "the process '%s' of the queue is being started",
			 p->name);
	else
		snprintf(text, GQ_WIRE_TEXT,
			 "the process '%s' of the queue has ended (%.150s) and is being started "
			 "again",
			 p->name, p->last);
}

/* What it is owed goes, as far as there is room. */
static void send_owed(struct process *p)
{
	static const struct {
		uint32_t owed;
		enum link_kind kind;
	} orders[] = { { OWES_COMMIT, LINK_COMMIT },
		       { OWES_ABORT, LINK_ABORT },
		       { OWES_STOP, LINK_STOP } };

	for (size_t i = 0; i < sizeof(orders) / sizeof(orders[0]); i++) {
		if ((p->owed & orders[i].owed) == 0)
			continue;
		if (!link_say(p->socket, orders[i].kind, NULL, MSG_DONTWAIT))
			return; /* it is full; or it has ended, of which there is an event */
		p->owed &= ~orders[i].owed;
	}
}

static void owe(struct process *p, uint32_t what)
{
	p->owed |= what;
	send_owed(p);
}

static bool give(const struct process *p, const struct session *s)
{
	const struct link_message m = { .kind = LINK_CLIENT,
					.detail = s->rights.best,
					.number = s->number,
					.hello = s->hello };

	return link_send(p->socket, &m, &s->socket, 1, MSG_DONTWAIT);
}

bool supervise_give(struct process *p, const struct session *s)
{
	if (!serves(p) || p->owed != 0 || p->full)
		return false;
	p->full = !give(p, s);
	return !p->full;
}

struct process *supervise_whose(const struct broker *b, const void *pointer)
{
	for (uint32_t i = 0; i < b->processes; i++)
		if (b->process[i] == pointer)
			return b->process[i];
	return NULL;
}

/* ---- its end --------------------------------------------------------------------------------- */

static void kill_it(struct process *p, const char *why)
{
	if (why != NULL && p->why[0] == '\0')
		snprintf(p->why, sizeof(p->why), "%s", why);
	p->dying = true;
	/* It is our child: the number is its own until we reap it. */
	if (p->pid != 0 && kill(p->pid, SIGKILL) != 0 && errno == EPERM)
		gq__log(Q_LOG_ERROR,
			"gpuqd: process '%s' cannot be ended: it has another user (child_user), "
			"and gpuqd no CAP_KILL",
			p->name);
}

static void answer(struct process *p, bool good, const char *why, struct broker *b);

/* It has ended, and the kernel has closed all that it had: also its clients' connections. */
static void bury(struct broker *b, struct process *p, int status)
{
	const uint64_t now_ns = gq__now_ns();
	const bool was_good =
		p->state == PAGE_PROCESS_SERVES && now_ns - p->since_ns >= ms_to_ns(GOOD_MS);

	close_if_open(&p->pidfd);
	close_if_open(&p->socket);
	p->state = PAGE_PROCESS_DOWN;
	p->since_ns = now_ns;
	PROBE2(process_end, (int)p->ends, status);
	explain_end(p, status);
	memcpy(p->last, p->why, sizeof(p->last));
	p->why[0] = '\0';
	for (struct session *s = b->sessions, *next; s != NULL; s = next) {
		next = s->next;
		if (s->state == SESSION_GUEST && s->process == p)
			session_forget(s);
	}
	(void)collect(b, p); /* what it has shown last */
	write_all_for(b, &b->cfg, 0, p, !p->stopping);
	answer(p, false, p->last, b);
	if (p->stopping || b->stopped)
		return;
	p->ends++;
	show_error(b, "process '%s' has ended: %s", p->name, p->last);
	p->delay_ms = was_good ? FIRST_DELAY_MS : p->delay_ms;
	p->next_ns = now_ns + ms_to_ns(p->delay_ms);
	tell(b, "process '%s' has ended: %s; it is started again in %" PRIu32 " ms", p->name,
	     p->last, p->delay_ms);
	p->delay_ms = p->delay_ms * 2 < MOST_DELAY_MS ? p->delay_ms * 2 : MOST_DELAY_MS;
}

static void start_again(struct broker *b, struct process *p)
{
	if (start(b, p, &b->cfg) && watch(b, p))
		return;
	show_error(b, "process '%s' cannot be started: %s", p->name, strerror(errno));
	tell(b, "process '%s' cannot be started: %s", p->name, strerror(errno));
	if (p->pid != 0) {
		kill_it(p, NULL);
		return;
	}
	p->next_ns = gq__now_ns() + ms_to_ns(p->delay_ms);
	p->delay_ms = p->delay_ms * 2 < MOST_DELAY_MS ? p->delay_ms * 2 : MOST_DELAY_MS;
}

/* ---- what it says ---------------------------------------------------------------------------- */

static void serves_now(struct broker *b, struct process *p)
{
	if (p->state != PAGE_PROCESS_STARTS || p->dying)
		return;
	write_all_for(b, &b->cfg, 0, p, false);
	p->state = PAGE_PROCESS_SERVES;
	p->since_ns = gq__now_ns();
	tell(b, "process '%s' serves again", p->name);
	for (struct session *s = b->sessions, *next; s != NULL; s = next) {
		next = s->next;
		if (s->state == SESSION_WAITING && s->process == p)
			(void)session_pass(s); /* who does not fit now does in a later turn */
	}
}

static void forget_guest(struct broker *b, const struct process *p, const struct link_message *m)
{
	for (struct session *s = b->sessions; s != NULL; s = s->next) {
		if (s->state == SESSION_GUEST && s->process == p && s->number == m->number) {
			show_ended(b, m->detail);
			if (m->detail == LINK_GONE_BROKEN)
				gq__arrivals_fine(&b->arrivals, s->uid, gq__now_ns());
			session_forget(s);
			return;
		}
	}
}

static void obey(struct broker *b, struct process *p, const struct link_message *m)
{
	switch (m->kind) {
	case LINK_READY:
		serves_now(b, p);
		return;
	case LINK_FAILED:
		snprintf(p->why, sizeof(p->why), "%s", m->text);
		return;
	case LINK_GONE:
		forget_guest(b, p, m);
		return;
	case LINK_PREPARED:
		answer(p, true, "", b);
		return;
	case LINK_UNPREPARED:
		answer(p, false, m->text, b);
		return;
	default:
		kill_it(p, "it has said what no process of gpuqd's says");
	}
}

/* @return false: no more will come */
static bool read_some(struct broker *b, struct process *p, int most)
{
	struct link_message m;

	for (int i = 0; i < most && p->socket >= 0; i++) {
		if (!link_receive(p->socket, &m, NULL, MSG_DONTWAIT))
			return errno == EAGAIN;
		obey(b, p, &m);
	}
	return true;
}

static void hear(struct broker *b, struct process *p, int most)
{
	int status;

	if (!read_some(b, p, most)) {
		/* No more is heard of it. Without this the event would come again and again. */
		epoll_ctl(b->epoll, EPOLL_CTL_DEL, p->socket, NULL);
		if (!p->dying)
			kill_it(p, NULL);
	}
	if (!reap(p, &status, WNOHANG))
		return;
	p->dying = true;
	(void)read_some(b, p, HEARD_AT_ONCE); /* why it has ended, perhaps */
	bury(b, p, status);
}

void supervise_hear(struct broker *b, struct process *p)
{
	if (p->pid != 0)
		hear(b, p, HEARD_A_TURN);
}

void supervise_hear_all(struct broker *b)
{
	for (uint32_t i = 0; i < b->processes; i++)
		if (b->process[i]->pid != 0)
			hear(b, b->process[i], HEARD_AT_ONCE);
}

/* ---- time ------------------------------------------------------------------------------------ */

static int sooner(int ms, uint64_t at_ns, uint64_t now_ns)
{
	const uint64_t left = at_ns > now_ns ? (at_ns - now_ns + 999999) / 1000000 : 0;

	return ms < 0 || left < (uint64_t)ms ? (int)left : ms;
}

/* @return ms, or -1, as supervise_turn() */
static int turn(struct broker *b, struct process *p, uint64_t now_ns, int ms)
{
	int status;

	if (p->pid == 0) {
		if (b->stopped || p->stopping)
			return ms;
		if (now_ns >= p->next_ns)
			start_again(b, p);
		return p->pid == 0 ? sooner(ms, p->next_ns, now_ns) : ms;
	}
	if (p->pidfd < 0 && reap(p, &status, WNOHANG)) {
		bury(b, p, status);
		return sooner(ms, p->next_ns, now_ns);
	}
	p->full = false;
	send_owed(p);
	if (p->state == PAGE_PROCESS_STARTS && !p->dying) {
		const uint64_t until_ns = p->since_ns + ms_to_ns(b->cfg.start_ms);

		if (now_ns >= until_ns)
			kill_it(p, TOO_SLOW);
		else
			ms = sooner(ms, until_ns, now_ns);
	}
	if (p->stopping && now_ns >= p->next_ns)
		kill_it(p, "it did not end in time");
	if (p->stopping && !p->dying)
		ms = sooner(ms, p->next_ns, now_ns);
	if (p->owed != 0)
		ms = sooner(ms, now_ns + ms_to_ns(FULL_MS), now_ns);
	if (p->asked_ns != 0 && p->state == PAGE_PROCESS_SERVES &&
	    now_ns < p->asked_ns + ms_to_ns(ANSWER_MS)) {
		if (collect(b, p))
			p->asked_ns = 0;
		else
			ms = sooner(ms, now_ns + ms_to_ns(FULL_MS), now_ns);
	}
	return p->pidfd < 0 ? sooner(ms, now_ns + ms_to_ns(POLL_MS), now_ns) : ms;
}

/* Those that wait for a link that was full. */
static bool somebody_waits(const struct broker *b)
{
	for (const struct session *s = b->sessions; s != NULL; s = s->next)
		if (s->state == SESSION_WAITING && serves(s->process))
			return true;
	return false;
}

static void end_prepare(struct broker *b, bool good, const char *why);

/* One that hangs as it makes a new queue turns, and so hang_ms does not see it. */
static int turn_prepare(struct broker *b, uint64_t now_ns, int ms)
{
	const uint64_t until_ns = b->prepare_ns + ms_to_ns(b->prepare_ms);

	if (!b->preparing)
		return ms;
	if (is_interrupted(b)) {
		end_prepare(b, false, "gpuqd is to end");
		return ms;
	}
	for (uint32_t i = 0; i < b->processes && now_ns >= until_ns; i++) {
		struct process *p = b->process[i];

		if (!p->answered && p->pid != 0 && !p->dying)
			kill_it(p, "it did not make its new queues in time (start_ms)");
	}
	return sooner(ms, now_ns + ms_to_ns(LOOK_MS), now_ns);
}

int supervise_turn(struct broker *b)
{
	const uint64_t now_ns = b->processes != 0 ? gq__now_ns() : 0;
	int ms = turn_prepare(b, now_ns, -1);

	if (b->processes != 0 && somebody_waits(b))
		ms = sooner(ms, now_ns + ms_to_ns(FULL_MS), now_ns);
	for (uint32_t i = 0; i < b->processes; i++)
		ms = turn(b, b->process[i], now_ns, ms);
	return ms;
}

/* ---- counts ---------------------------------------------------------------------------------- */

static void ask(struct broker *b, struct process *p, uint64_t now_ns)
{
	if (collect(b, p))
		p->asked_ns = 0;
	if (p->asked_ns == 0) {
		for (uint32_t i = 0; i < b->cfg.queues; i++)
			p->versions[i] = page_versions(b->shared, PAGE_QUEUE, i);
		p->asked_ns = now_ns;
	} else if (b->cfg.hang_ms != 0 && now_ns - p->asked_ns > ms_to_ns(b->cfg.hang_ms)) {
		kill_it(p, "it did not turn for hang_ms");
		return;
	}
	(void)link_say(p->socket, LINK_SHOW, NULL, MSG_DONTWAIT);
}

void supervise_show(struct broker *b)
{
	const uint64_t now_ns = gq__now_ns();

	b->counts.processes = b->processes;
	for (uint32_t i = 0; i < b->processes; i++) {
		struct process *p = b->process[i];
		struct page_process *to = &b->counts.process[i];

		if (p->state == PAGE_PROCESS_SERVES && !p->dying && !p->stopping)
			ask(b, p, now_ns);
		snprintf(to->name, sizeof(to->name), "%s", p->name);
		snprintf(to->why, sizeof(to->why), "%s", p->last);
		to->pid = (uint64_t)p->pid;
		to->state = p->state;
		to->since_ns = p->since_ns;
		to->starts = p->starts;
		to->ends = p->ends;
	}
}

/* ---- the end --------------------------------------------------------------------------------- */

void supervise_stop(struct broker *b)
{
	for (uint32_t i = 0; i < b->processes; i++) {
		struct process *p = b->process[i];
		const bool served = serves(p);

		p->stopping = true;
		p->next_ns = gq__now_ns() + ms_to_ns(b->cfg.drain_ms + (uint64_t)GRACE_MS);
		if (served)
			owe(p, OWES_STOP);
		else if (p->pid != 0 && !p->dying)
			kill_it(p, NULL);
	}
}

bool supervise_has_ended(const struct broker *b)
{
	for (uint32_t i = 0; i < b->processes; i++)
		if (b->process[i]->pid != 0)
			return false;
	return true;
}

void supervise_free(struct broker *b)
{
	supervise_drop(b->process, b->processes);
	b->processes = 0;
	link_unmap_ledger(b->ledger);
	page_destroy(b->shared);
	close_if_open(&b->ledger_fd);
}

/* ---- reloading ------------------------------------------------------------------------------- */

static void end_prepare(struct broker *b, bool good, const char *why)
{
	b->preparing = false;
	if (!good)
		for (uint32_t i = 0; i < b->processes; i++)
			if (b->process[i]->socket >= 0)
				owe(b->process[i], OWES_ABORT);
	pthread_mutex_lock(&b->lock);
	b->prepare = good ? PREPARE_GOOD : PREPARE_BAD;
	snprintf(b->prepare_error, sizeof(b->prepare_error), "%s", why);
	pthread_cond_signal(&b->prepared);
	pthread_mutex_unlock(&b->lock);
}

static void answer(struct process *p, bool good, const char *why, struct broker *b)
{
	char error[BROKER_ERROR_ROOM];

	if (!b->preparing || p->answered)
		return;
	p->answered = true;
	p->good = good;
	if (!good)
		(void)fail(b->prepare_error, p->name, why);
	for (uint32_t i = 0; i < b->processes; i++)
		if (!b->process[i]->answered)
			return;
	good = true;
	for (uint32_t i = 0; i < b->processes; i++)
		good = good && b->process[i]->good;
	memcpy(error, b->prepare_error, sizeof(error));
	end_prepare(b, good, error);
}

void supervise_begin_prepare(struct broker *b)
{
	const struct broker_config *cfg = NULL;
	int fd;

	pthread_mutex_lock(&b->lock);
	if (b->prepare == PREPARE_ASKED) {
		b->prepare = PREPARE_RUNS;
		cfg = b->prepare_cfg;
	}
	pthread_mutex_unlock(&b->lock);
	if (cfg == NULL)
		return;
	b->preparing = true;
	b->prepare_ns = gq__now_ns();
	b->prepare_ms = cfg->start_ms;
	b->prepare_error[0] = '\0';
	for (uint32_t i = 0; i < b->processes; i++)
		b->process[i]->answered = false;
	fd = link_pack(cfg);
	for (uint32_t i = 0; i < b->processes; i++) {
		struct process *p = b->process[i];
		const struct link_message m = { .kind = LINK_PREPARE };

		if (!serves(p) || p->owed != 0)
			answer(p, false,
			       "it is being started again, or has not heard of the reload before: "
			       "reload later",
			       b);
		else if (fd < 0 || !link_send(p->socket, &m, &fd, 1, MSG_DONTWAIT))
			answer(p, false, strerror(errno), b);
	}
	close_if_open(&fd);
}

bool supervise_prepare(struct broker *b, const struct broker_config *cfg,
		       char error[BROKER_ERROR_ROOM])
{
	const uint64_t one = 1;
	bool good;

	if (b->ledger == NULL || b->processes == 0) /* only a reload adds one: this thread */
		return true;
	pthread_mutex_lock(&b->lock);
	b->prepare_cfg = cfg;
	b->prepare = PREPARE_ASKED;
	(void)gq_sys_write(b->wake, &one, sizeof(one));
	while (b->prepare != PREPARE_GOOD && b->prepare != PREPARE_BAD)
		pthread_cond_wait(&b->prepared, &b->lock);
	good = b->prepare == PREPARE_GOOD;
	b->prepare = PREPARE_NONE;
	snprintf(error, BROKER_ERROR_ROOM, "%s", b->prepare_error);
	pthread_mutex_unlock(&b->lock);
	return good;
}

void supervise_commit(struct broker *b)
{
	for (uint32_t i = 0; i < b->processes; i++) {
		struct process *p = b->process[i];

		if (p->pid == 0 || p->dying || !p->answered)
			continue; /* one that starts from now on has this configuration */
		if (p->state == PAGE_PROCESS_SERVES)
			owe(p, OWES_COMMIT);
		else
			kill_it(p, "it could not be given a new configuration");
	}
}
