/* SPDX-License-Identifier: Apache-2.0 */
/* reactor.c - starting and stopping gpuqd, its socket, and the thread that has all connections. */
#include "session.h"
#include "supervise.h"

#include "host/base/clock.h"
#include "host/base/log.h"
#include "host/base/sys.h"
#include "host/base/thread.h"

#include <errno.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

enum { HANDSHAKE_NS = 2000000000, LOOK_MS = 500, BACKLOG = 512 };

/* ---- the socket ------------------------------------------------------------------------------ */

/* A path that a service manager listens at is the manager's. */
static bool lock_path(struct broker *b, char error[BROKER_ERROR_ROOM])
{
	const bool ours = b->cfg.listener == 0 && b->cfg.link == 0;

	if (ours && b->lock_fd < 0)
		b->lock_fd = socket_lock(b->cfg.socket, error);
	return !ours || b->lock_fd >= 0;
}

/* What a gpuqd has left there. Anything but a socket is somebody's. */
static bool remove_old(const struct broker *b, char error[BROKER_ERROR_ROOM])
{
	struct stat old;

	if (lstat(b->cfg.socket, &old) != 0)
		return true; /* bind() says what else is wrong */
	if (!S_ISSOCK(old.st_mode)) {
		snprintf(error, BROKER_ERROR_ROOM,
			 "socket is '%s', where there is something that is no socket; allowed: a "
			 "path where there is nothing, or an old socket",
			 b->cfg.socket);
		return false;
	}
	unlink(b->cfg.socket);
	return true;
}

static void stop_listening(struct broker *b)
{
	if (b->listener < 0)
		return;
	if (b->listening && b->cfg.listener == 0) /* else it is the service manager's */
		unlink(b->cfg.socket);
	/* A service manager has the same socket: without this the reactor would go on hearing of
	 * it, as long as anybody waits in its backlog. */
	epoll_ctl(b->epoll, EPOLL_CTL_DEL, b->listener, NULL);
	gq_sys_close(b->listener); /* who waits in the backlog of ours is told */
	b->listener = -1;
}

static bool listen_there(struct broker *b, char error[BROKER_ERROR_ROOM])
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };

	if (b->cfg.link != 0)
		return true;        /* gpuqd gives us our clients */
	if (b->cfg.listener != 0) { /* who connected before we came waits in it */
		b->listener = b->cfg.listener;
		b->listening = true;
		return true;
	}
	if (!remove_old(b, error))
		return false;
	memcpy(address.sun_path, b->cfg.socket, sizeof(address.sun_path));
	b->listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (b->listener < 0 ||
	    bind(b->listener, (const struct sockaddr *)&address, sizeof(address)) != 0 ||
	    chmod(b->cfg.socket, b->cfg.socket_mode) != 0 || listen(b->listener, BACKLOG) != 0) {
		snprintf(error, BROKER_ERROR_ROOM, "%s: %s", b->cfg.socket, strerror(errno));
		return false;
	}
	b->listening = true;
	return true;
}

/* ---- the thread ------------------------------------------------------------------------------ */

static struct session *session_of(const struct broker *b, const void *pointer)
{
	for (struct session *s = b->sessions; s != NULL; s = s->next)
		if (s == pointer)
			return s;
	return NULL; /* forgotten by an event before this one */
}

/* In a process for queues: what a device that has failed leaves behind in a process is of no use,
 * also to its other queues. gpuqd starts another one. */
static void end_with_device(const struct broker *b, const char *queue)
{
	char text[BROKER_ERROR_ROOM];

	snprintf(text, sizeof(text), "the device of queue '%.100s' has failed", queue);
	(void)link_say(b->cfg.link, LINK_FAILED, text, 0);
	_exit(1);
}

static void read_notes(struct broker *b)
{
	struct note *all;

	pthread_mutex_lock(&b->lock);
	all = b->notes;
	b->notes = NULL;
	b->notes_end = &b->notes;
	pthread_mutex_unlock(&b->lock);
	for (struct note *n = all, *next; n != NULL; n = next) {
		next = n->next;
		if (n->client != NULL)
			session_note(n->client->session, n);
		else if (b->cfg.link != 0)
			end_with_device(b, n->text);
		free(n);
	}
}

/* Whether there is something of it that we have not read yet: then it is we who are slow. */
static bool has_spoken(const struct session *s)
{
	struct pollfd socket = { .fd = s->socket, .events = POLLIN };

	return poll(&socket, 1, 0) > 0;
}

/* Who connects and does not say what it wants holds a descriptor of ours: not for long. Who has not
 * read descriptors holds those, as long as it likes; but when it has, it is gone. */
static void end_slow_handshakes(struct broker *b)
{
	const uint64_t now_ns = gq__now_ns();

	for (struct session *s = b->sessions, *next; s != NULL; s = next) {
		next = s->next;
		if (s->state == SESSION_UNREAD)
			session_look(s);
		else if ((s->state == SESSION_NEW || s->state == SESSION_OFFERED) &&
			 now_ns > s->since_ns + HANDSHAKE_NS && !has_spoken(s)) {
			b->counts.silent++;
			show_error(b, "a client did not say what it wanted");
			session_end(s, 0);
		}
	}
}

static uint64_t waits_until_ns(const struct session *s)
{
	return s->since_ns + s->b->cfg.wait_ms * UINT64_C(1000000);
}

/* Whose process takes it now goes there; whose process does not in time is told. */
static void end_waiting(struct broker *b)
{
	const uint64_t now_ns = b->processes != 0 ? gq__now_ns() : 0;

	for (struct session *s = b->processes != 0 ? b->sessions : NULL, *next; s != NULL;
	     s = next) {
		char text[GQ_WIRE_TEXT];

		next = s->next;
		if (s->state != SESSION_WAITING || session_pass(s) || now_ns < waits_until_ns(s))
			continue;
		supervise_explain(s->process, text);
		session_refuse(s, Q_ERR_NOT_READY, text);
	}
}

/* Errors are told of in any case, but once. */
static void watch_listener(struct broker *b, bool on)
{
	struct epoll_event event = { .events = on ? (uint32_t)EPOLLIN : (uint32_t)EPOLLET,
				     .data.ptr = &b->listener };

	epoll_ctl(b->epoll, EPOLL_CTL_MOD, b->listener, &event);
}

static void begin_to_stop(struct broker *b)
{
	const uint64_t until_ns = gq__now_ns() + b->cfg.drain_ms * UINT64_C(1000000);

	b->stopped = true;
	stop_listening(b);
	supervise_stop(b);
	for (struct session *s = b->sessions, *next; s != NULL; s = next) {
		next = s->next;
		session_end(s, until_ns);
	}
}

/* @return ms until the first client that waits for its process is told; `ms` if that is sooner, or
 * nobody waits */
static int until_told(const struct broker *b, int ms)
{
	const uint64_t now_ns = b->processes != 0 ? gq__now_ns() : 0;

	for (const struct session *s = b->processes != 0 ? b->sessions : NULL; s != NULL;
	     s = s->next) {
		const uint64_t until_ns = waits_until_ns(s);
		const uint64_t left_ms =
			until_ns > now_ns ? (until_ns - now_ns + 999999) / 1000000 : 0;

		if (s->state == SESSION_WAITING && (ms < 0 || left_ms < (uint64_t)ms))
			ms = (int)left_ms;
	}
	return ms;
}

static int ms_until(uint64_t ns)
{
	const uint64_t now_ns = gq__now_ns();

	return ns > now_ns ? (int)((ns - now_ns) / 1000000) + 1 : 0;
}

static int patience_ms(struct broker *b)
{
	const int of_processes = supervise_turn(b);
	const uint64_t held_ns = gq__tarpit_next_ns(&b->tarpit);
	int ms = -1;

	if (b->accept_again_ns != 0)
		ms = ms_until(b->accept_again_ns);
	if (held_ns != UINT64_MAX && (ms < 0 || ms_until(held_ns) < ms))
		ms = ms_until(held_ns);
	for (const struct session *s = b->sessions; s != NULL && ms < 0; s = s->next)
		if (s->state == SESSION_NEW || s->state == SESSION_OFFERED ||
		    s->state == SESSION_UNREAD)
			ms = LOOK_MS;
	ms = until_told(b, ms);
	return ms < 0 || (of_processes >= 0 && of_processes < ms) ? of_processes : ms;
}

static void handle(struct broker *b, const struct epoll_event *event)
{
	struct process *p;
	struct session *s;
	uint64_t count;

	if (event->data.ptr == &b->listener) {
		if (b->accept_again_ns != 0)
			return; /* an error: that can wait */
		session_accept(b);
		if (b->accept_again_ns != 0)
			watch_listener(b, false);
		return;
	}
	if (event->data.ptr == &b->wake) {
		(void)gq_sys_read(b->wake, &count, sizeof(count));
		return;
	}
	p = supervise_whose(b, event->data.ptr);
	if (p != NULL) {
		supervise_hear(b, p);
		return;
	}
	s = session_of(b, event->data.ptr);
	if (s != NULL && s->state != SESSION_CLOSING)
		session_hear(s);
}

/* What of a new configuration may change; see broker_config_merge(). */
static void take_over(struct broker *b, struct fresh *f)
{
	b->cfg.uid_connections = f->cfg.uid_connections;
	b->cfg.uid_connect_rate = f->cfg.uid_connect_rate;
	b->cfg.uid_connect_burst = f->cfg.uid_connect_burst;
	gq__arrivals_set(&b->arrivals, b->cfg.uid_connect_rate, b->cfg.uid_connect_burst,
			 gq__now_ns());
	b->cfg.uid_bytes = f->cfg.uid_bytes;
	b->cfg.uid_slots = f->cfg.uid_slots;
	b->cfg.drain_ms = f->cfg.drain_ms;
	b->cfg.hang_ms = f->cfg.hang_ms;
	b->cfg.start_ms = f->cfg.start_ms;
	b->cfg.wait_ms = f->cfg.wait_ms;
	b->cfg.token = f->cfg.token;
	for (uint32_t i = 0; i < b->cfg.queues; i++) {
		/* For clients that come. */
		b->cfg.queue[i].token = f->cfg.queue[i].token;
		b->cfg.queue[i].window = f->cfg.queue[i].window;
		if (b->dispatcher[i] != NULL)
			dispatcher_set_window(b->dispatcher[i], f->cfg.queue[i].window);
	}
	for (uint32_t i = b->cfg.queues; i < f->cfg.queues; i++) {
		b->cfg.queue[i] = f->cfg.queue[i];
		b->dispatcher[i] = f->dispatcher[i];
	}
	b->cfg.queues = f->cfg.queues;
	supervise_commit(b);
	if (!supervise_take(b, f->process, f->processes))
		abort(); /* some bytes in the kernel: as in broker_note() */
	free(f);
}

static void take_fresh(struct broker *b)
{
	struct fresh *f;

	pthread_mutex_lock(&b->lock);
	f = b->fresh;
	pthread_mutex_unlock(&b->lock);
	if (f == NULL)
		return;
	take_over(b, f);
	/* Only now: who reloads next reads what this has written. */
	pthread_mutex_lock(&b->lock);
	b->fresh = NULL;
	pthread_mutex_unlock(&b->lock);
}

/* Clients that gpuqd has given to this process. One that comes when all ends is told by that. */
static void adopt(struct broker *b)
{
	struct adopted *all;

	if (b->cfg.link == 0)
		return;
	pthread_mutex_lock(&b->lock);
	all = b->adopted;
	b->adopted = NULL;
	b->adopted_end = &b->adopted;
	pthread_mutex_unlock(&b->lock);
	/* After that: a client may come for a queue that a reload before it has brought. */
	take_fresh(b);
	for (struct adopted *a = all, *next; a != NULL; a = next) {
		next = a->next;
		if (b->stopped)
			gq_sys_close(a->socket);
		else
			session_adopt(b, a);
		free(a);
	}
}

static void *react(void *arg)
{
	struct broker *b = arg;

	while (!b->stopped || b->sessions != NULL || !supervise_has_ended(b)) {
		struct epoll_event events[64];
		const int n = epoll_wait(b->epoll, events, 64, patience_ms(b));
		bool told;

		for (int i = 0; i < n; i++)
			handle(b, &events[i]);
		read_notes(b);
		/* The order comes first: one that follows a reload shows what that has brought. */
		told = gq_load_seq_cst_u32(&b->told) != 0 &&
		       gq_exchange_seq_cst_u32(&b->told, 0) != 0;
		adopt(b);
		take_fresh(b);
		end_slow_handshakes(b);
		end_waiting(b);
		supervise_begin_prepare(b);
		if (b->accept_again_ns != 0 && gq__now_ns() >= b->accept_again_ns) {
			b->accept_again_ns = 0;
			if (!b->stopped)
				watch_listener(b, true);
		}
		session_accept_held(b, gq__now_ns());
		if (told)
			show_counts(b);
		if (!b->stopped && gq_load_seq_cst_u32(&b->stopping) != 0)
			begin_to_stop(b);
	}
	session_accept_held(b, UINT64_MAX);
	gq_exchange_seq_cst_u32(&b->ended, 1);
	return NULL;
}

/* ---- starting and stopping ------------------------------------------------------------------- */

static bool watch_processes(struct broker *b)
{
	struct process *p[BROKER_MOST_QUEUES];
	const uint32_t n = b->processes;

	memcpy(p, b->process, sizeof(p));
	b->processes = 0;
	return supervise_take(b, p, n);
}

static bool start_thread(struct broker *b, char error[BROKER_ERROR_ROOM])
{
	struct epoll_event on_listener = { .events = EPOLLIN, .data.ptr = &b->listener };
	struct epoll_event on_wake = { .events = EPOLLIN, .data.ptr = &b->wake };
	int rc;

	b->epoll = epoll_create1(EPOLL_CLOEXEC);
	b->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (b->epoll < 0 || b->wake < 0 ||
	    (b->listener >= 0 &&
	     epoll_ctl(b->epoll, EPOLL_CTL_ADD, b->listener, &on_listener) != 0) ||
	    epoll_ctl(b->epoll, EPOLL_CTL_ADD, b->wake, &on_wake) != 0 || !watch_processes(b))
		rc = errno;
	else
		rc = gq__start_thread(&b->thread, react, b, "gpuqd-reactor");
	if (rc != 0)
		snprintf(error, BROKER_ERROR_ROOM, "the reactor could not be started: %s",
			 strerror(rc));
	return rc == 0;
}

static bool start_pages(struct broker *b, char error[BROKER_ERROR_ROOM])
{
	const int rc = pages_start(&b->pages);

	if (rc != 0)
		snprintf(error, BROKER_ERROR_ROOM,
			 "the threads for clients' memory could not be started: %s", strerror(rc));
	return rc == 0;
}

/* The dispatchers of the queues from `first` on. */
static bool make_queues(struct broker *b, const struct broker_config *cfg, uint32_t first,
			struct dispatcher **to, char error[BROKER_ERROR_ROOM])
{
	char why[BROKER_ERROR_ROOM];

	for (uint32_t i = first; i < cfg->queues; i++) {
		if (cfg->queue[i].per_client || !broker_has(cfg, i))
			continue;
		to[i] = dispatcher_start(&cfg->queue[i], NULL, NULL, NULL,
					 b->ledger != NULL && b->cfg.link != 0 ? &b->ledger[i]
									       : NULL,
					 broker_note, b, why);
		if (to[i] == NULL) {
			snprintf(error, BROKER_ERROR_ROOM, "queue '%s': %.500s", cfg->queue[i].name,
				 why);
			return false;
		}
	}
	return true;
}

static void end_queues(struct dispatcher **which)
{
	for (uint32_t i = 0; i < BROKER_MOST_QUEUES; i++)
		if (which[i] != NULL)
			dispatcher_end(which[i], NULL);
}

static void free_broker(struct broker *b)
{
	if (b->fresh != NULL)
		take_over(b, b->fresh); /* the thread has ended before it could */
	end_queues(b->dispatcher);
	supervise_free(b);
	for (uint32_t i = 0; i < BROKER_MOST_QUEUES; i++)
		free(b->gone[i]);
	stop_listening(b);
	pages_end(&b->pages);
	if (b->epoll >= 0)
		gq_sys_close(b->epoll);
	if (b->wake >= 0)
		gq_sys_close(b->wake);
	if (b->lock_fd >= 0)
		gq_sys_close(b->lock_fd); /* the file stays: another gpuqd may wait for it */
	pthread_cond_destroy(&b->prepared);
	pthread_mutex_destroy(&b->lock);
	free(b);
}

/* In a process for queues: those of one client each count on from what the process before has
 * shown. */
static bool take_up_counts(struct broker *b, char error[BROKER_ERROR_ROOM])
{
	for (uint32_t i = 0; i < b->cfg.queues; i++) {
		if (!b->cfg.queue[i].per_client || !broker_has(&b->cfg, i))
			continue;
		b->gone[i] = malloc(sizeof(*b->gone[i]));
		if (b->gone[i] == NULL) {
			snprintf(error, BROKER_ERROR_ROOM, "out of memory");
			return false;
		}
		*b->gone[i] = b->ledger[i];
	}
	return true;
}

/* The reactor's thread takes them over when it starts. */
static bool make_processes(struct broker *b, char error[BROKER_ERROR_ROOM])
{
	struct process *p[BROKER_MOST_QUEUES];
	uint32_t n;

	if (b->cfg.link != 0)
		return take_up_counts(b, error);
	if (!supervise_start(b, &b->cfg, 0, p, &n, error))
		return false;
	for (uint32_t i = 0; i < n; i++)
		b->process[i] = p[i];
	b->processes = n;
	return true;
}

struct broker *broker_start(const struct broker_config *cfg, char error[BROKER_ERROR_ROOM])
{
	struct broker *b = calloc(1, sizeof(*b));

	if (b == NULL) {
		snprintf(error, BROKER_ERROR_ROOM, "out of memory");
		return NULL;
	}
	b->cfg = *cfg;
	gq__arrivals_init(&b->arrivals, cfg->uid_connect_rate, cfg->uid_connect_burst);
	gq__tarpit_init(&b->tarpit, gq_sys_descriptors());
	b->known = cfg->queues;
	b->epoll = b->wake = b->listener = -1;
	b->lock_fd = cfg->lock > 0 ? cfg->lock : -1;
	b->notes_end = &b->notes;
	b->adopted_end = &b->adopted;
	b->ledger_fd = -1;
	b->ledger = cfg->ledger;
	pthread_mutex_init(&b->lock, NULL);
	pthread_cond_init(&b->prepared, NULL);
	/* Whoever can connect is served: the queues come first. */
	if (lock_path(b, error) && make_queues(b, &b->cfg, 0, b->dispatcher, error) &&
	    make_processes(b, error) && start_pages(b, error) && listen_there(b, error) &&
	    start_thread(b, error))
		return b;
	free_broker(b);
	return NULL;
}

static void wake(struct broker *b)
{
	const uint64_t one = 1;

	(void)gq_sys_write(b->wake, &one, sizeof(one));
}

void broker_show(struct broker *b)
{
	gq_exchange_seq_cst_u32(&b->told, 1);
	wake(b);
}

struct fresh *broker_prepare(struct broker *b, const struct broker_config *cfg,
			     char error[BROKER_ERROR_ROOM])
{
	struct fresh *f = calloc(1, sizeof(*f));
	bool over;

	if (f == NULL) {
		snprintf(error, BROKER_ERROR_ROOM, "out of memory");
		return NULL;
	}
	f->cfg = *cfg;
	/* The number of queues changes by this thread's orders only, and those before are done. */
	pthread_mutex_lock(&b->lock);
	over = b->fresh == NULL;
	pthread_mutex_unlock(&b->lock);
	if (!over)
		snprintf(error, BROKER_ERROR_ROOM, "the reload before this one is not over");
	if (over && make_queues(b, cfg, b->known, f->dispatcher, error) &&
	    (cfg->link != 0 || supervise_start(b, cfg, b->known, f->process, &f->processes, error)))
		return f;
	end_queues(f->dispatcher);
	free(f);
	return NULL;
}

void broker_commit(struct broker *b, struct fresh *f)
{
	b->known = f->cfg.queues;
	pthread_mutex_lock(&b->lock);
	b->fresh = f;
	pthread_mutex_unlock(&b->lock);
	wake(b);
}

void broker_abort(struct broker *b, struct fresh *f)
{
	(void)b;
	end_queues(f->dispatcher);
	supervise_drop(f->process, f->processes);
	free(f);
}

/* All that can fail comes first, so that a reload happens as a whole or not at all. */
bool broker_reload(struct broker *b, const struct broker_config *cfg, char error[BROKER_ERROR_ROOM])
{
	struct fresh *f = broker_prepare(b, cfg, error);

	if (f == NULL)
		return false;
	if (supervise_prepare(b, cfg, error)) {
		broker_commit(b, f);
		return true;
	}
	broker_abort(b, f);
	return false;
}

void broker_adopt(struct broker *b, int socket, uint64_t number, uint32_t best,
		  const struct gq_wire_hello *hello)
{
	struct adopted *a = calloc(1, sizeof(*a));

	if (a == NULL)
		abort(); /* as in broker_note() */
	*a = (struct adopted){ .socket = socket, .number = number, .best = best, .hello = *hello };
	pthread_mutex_lock(&b->lock);
	*b->adopted_end = a;
	b->adopted_end = &a->next;
	pthread_mutex_unlock(&b->lock);
	wake(b);
}

void broker_begin_stop(struct broker *b)
{
	gq_exchange_seq_cst_u32(&b->stopping, 1);
	wake(b);
}

bool broker_has_ended(struct broker *b)
{
	return gq_load_seq_cst_u32(&b->ended) != 0;
}

void broker_stop(struct broker *b)
{
	broker_begin_stop(b);
	pthread_join(b->thread, NULL);
	free_broker(b);
}
