/* SPDX-License-Identifier: Apache-2.0 */
/* router.c - starting and stopping the router, its doors, its thread, its clock. */
#include "router.h"

#include "device/protocol/atomics.h"
#include "host/base/clock.h"
#include "host/base/sys.h"
#include "host/base/thread.h"

#include <poll.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/random.h>

enum { EVENTS = 64, LAST_WORDS_MS = 200 };
#define FORGET_NS UINT64_C(300000000000)
#define FINE_NS   UINT64_C(10000000)

/* ---- the doors ------------------------------------------------------------------------------- */

const struct transport *const router_transports[TRANSPORTS] = {
	[TRANSPORT_UNIX] = &unix_transport,
	[TRANSPORT_IN_PROCESS] = &in_process_transport,
	[TRANSPORT_NETLINK] = &netlink_transport,
	[TRANSPORT_CHARDEV] = &chardev_transport,
};

static bool open_doors(struct router *r, char error[ROUTER_ERROR_ROOM])
{
	for (int i = 0; i < TRANSPORTS; i++) {
		r->door[i] =
			(struct door){ .transport = router_transports[i], .fd = -1, .pump_fd = -1 };
		if (!r->door[i].transport->open(&r->door[i], &r->cfg, error))
			return false;
	}
	return true;
}

/* Errors are told of in any case, but once: a flood may leave one at a netlink socket. */
static bool watch_door(struct router *r, struct door *d, int how, bool on)
{
	struct epoll_event event = { .events = on ? (uint32_t)EPOLLIN : (uint32_t)EPOLLET,
				     .data.ptr = d };

	d->watched = on;
	return d->fd < 0 || epoll_ctl(r->epoll, how, d->fd, &event) == 0;
}

static bool watch_pump(struct router *r, struct door *d)
{
	struct epoll_event event = { .events = EPOLLIN, .data.ptr = &d->pump_fd };

	return d->pump_fd < 0 || epoll_ctl(r->epoll, EPOLL_CTL_ADD, d->pump_fd, &event) == 0;
}

/* @return whether clients have yet to read something */
static bool pump_doors(struct router *r)
{
	bool unread = false;

	for (int i = 0; i < TRANSPORTS; i++)
		if (r->door[i].pump_fd >= 0)
			unread = r->door[i].transport->pump(&r->door[i]) || unread;
	return unread;
}

/* Somebody comes: unless there are no descriptors for others. */
static void answer_door(struct router *r, struct door *d)
{
	if (d->again_ns == 0) /* else this may be an error: that can wait */
		peer_accept(r, d);
	/* Those that were held may have made it rest while it is watched. Once it is not, it is not
	 * asked for again: that would tell of a standing error again. */
	if (d->again_ns != 0 && d->watched)
		watch_door(r, d, EPOLL_CTL_MOD, false);
}

/* @return when a door that is not watched is to be looked at again */
static uint64_t door_tick(struct router *r, uint64_t now_ns)
{
	uint64_t next_ns = UINT64_MAX;

	for (int i = 0; i < TRANSPORTS; i++) {
		struct door *d = &r->door[i];

		if (d->again_ns != 0 && now_ns >= d->again_ns) {
			d->again_ns = 0;
			watch_door(r, d, EPOLL_CTL_MOD, true);
		}
		if (d->again_ns != 0 && d->again_ns < next_ns)
			next_ns = d->again_ns;
	}
	return next_ns;
}

static void stop_doors(struct router *r)
{
	for (int i = 0; i < TRANSPORTS; i++) {
		struct door *d = &r->door[i];

		if (d->own == NULL)
			continue;
		d->again_ns = 0;
		watch_door(r, d, EPOLL_CTL_DEL, false);
		d->transport->stop(d);
	}
}

static void free_doors(struct router *r)
{
	for (int i = 0; i < TRANSPORTS; i++)
		if (r->door[i].own != NULL)
			r->door[i].transport->free(&r->door[i]);
}

int router_connect(struct router *r)
{
	return in_process_connect(&r->door[TRANSPORT_IN_PROCESS]);
}

/* ---- the thread ------------------------------------------------------------------------------ */

static struct door *door_of(struct router *r, const void *pointer)
{
	for (int i = 0; i < TRANSPORTS; i++)
		if (pointer == &r->door[i])
			return &r->door[i];
	return NULL;
}

static struct door *pump_of(struct router *r, const void *pointer)
{
	for (int i = 0; i < TRANSPORTS; i++)
		if (pointer == &r->door[i].pump_fd)
			return &r->door[i];
	return NULL;
}

static bool is_peer(const struct router *r, const void *pointer)
{
	const struct peer *p = r->peers;

	while (p != NULL && p != pointer)
		p = p->next;
	return p != NULL;
}

static void handle_event(struct router *r, const struct epoll_event *event)
{
	struct door *d = door_of(r, event->data.ptr), *pump = pump_of(r, event->data.ptr);
	uint64_t count;

	if (d != NULL) {
		answer_door(r, d);
	} else if (pump != NULL) {
		(void)pump->transport->pump(pump);
	} else if (event->data.ptr == &r->wake) {
		(void)gq_sys_read(r->wake, &count, sizeof(count));
	} else if (is_peer(r, event->data.ptr)) {
		struct peer *p = event->data.ptr;

		/* A socket that has hung up and is not listened to would be told of for ever. */
		if ((event->events & EPOLLHUP) != 0 && (p->muted || p->last_words))
			p->doomed = true;
		if (!p->doomed)
			peer_hear(r, p);
	}
}

/* What time brings, and what can go. @return when the next of it is due */
static uint64_t turn(struct router *r)
{
	const uint64_t now_ns = gq__now_ns();
	uint64_t due[9], next_ns = UINT64_MAX;

	due[0] = registered_tick(r, now_ns);
	peer_tick(r, now_ns);
	do {
		request_pump(r);
		report_changes(r);
		batch_flush(r);
	} while (peer_bury(r));
	due[2] = request_tick(r, now_ns); /* the last: what it moves goes in the next turn */
	due[4] = reuse_tick(r, now_ns);
	due[5] = away_tick(r, now_ns);
	due[6] = region_tick(r, now_ns);
	due[7] = peer_accept_held(r, now_ns); /* doors may have to rest after it */
	due[3] = door_tick(r, now_ns);
	due[1] = peer_due(r);
	due[8] = r->gather_due_ns;
	for (int i = 0; i < 9; i++)
		next_ns = due[i] < next_ns ? due[i] : next_ns;
	return next_ns;
}

static int patience_ms(uint64_t next_ns)
{
	const uint64_t now_ns = gq__now_ns();

	if (next_ns == UINT64_MAX)
		return -1;
	if (next_ns <= now_ns)
		return 0;
	if (next_ns - now_ns > UINT64_C(3600000000000))
		return 3600000;
	return (int)((next_ns - now_ns + 999999) / 1000000);
}

/* epoll_wait() counts in milliseconds; a batch may wait for less. */
static int await_events(const struct router *r, struct epoll_event *events, uint64_t next_ns)
{
	const uint64_t now_ns = gq__now_ns();
	const uint64_t left_ns = next_ns > now_ns ? next_ns - now_ns : 0;
	const struct timespec left = { .tv_nsec = (long)left_ns };
	struct pollfd at = { .fd = r->epoll, .events = POLLIN };

	if (next_ns != r->gather_due_ns || left_ns == 0 || left_ns >= FINE_NS)
		return epoll_wait(r->epoll, events, EVENTS, patience_ms(next_ns));
	(void)ppoll(&at, 1, &left, NULL);
	return epoll_wait(r->epoll, events, EVENTS, 0);
}

/* Whoever asks there from now on would wait for this thread. */
static void close_pumps(struct router *r)
{
	for (int i = 0; i < TRANSPORTS; i++)
		if (r->door[i].pump_fd >= 0)
			r->door[i].transport->free(&r->door[i]);
}

/* Answers to all, and some time for the sockets to take them. */
static void say_goodbye(struct router *r)
{
	const uint64_t until_ns = gq__now_ns() + LAST_WORDS_MS * UINT64_C(1000000);

	request_end_all(r);
	for (struct peer *p = r->peers; p != NULL; p = p->next)
		p->last_words = true;
	while ((pump_doors(r) || r->peers != NULL) && gq__now_ns() < until_ns) {
		const struct timespec nap = { .tv_nsec = 1000000 };

		for (struct peer *p = r->peers; p != NULL; p = p->next)
			peer_flush(r, p);
		if (!peer_bury(r))
			nanosleep(&nap, NULL);
	}
	for (struct peer *p = r->peers; p != NULL; p = p->next)
		p->doomed = true;
	(void)peer_bury(r);
}

/* There are keys in it. */
static void free_config(struct router_config *cfg)
{
	if (cfg != NULL)
		sodium_memzero(cfg, sizeof(*cfg));
	free(cfg);
}

/* What may change while it runs: for requests, connections and services that come. */
static void take_fresh(struct router *r)
{
	struct router_config *fresh;

	pthread_mutex_lock(&r->lock);
	fresh = r->fresh;
	r->fresh = NULL;
	pthread_mutex_unlock(&r->lock);
	if (fresh == NULL)
		return;
	r->cfg.connections = fresh->connections;
	r->cfg.uid_connections = fresh->uid_connections;
	r->cfg.uid_connect_rate = fresh->uid_connect_rate;
	r->cfg.uid_connect_burst = fresh->uid_connect_burst;
	gq__arrivals_set(&r->arrivals, fresh->uid_connect_rate, fresh->uid_connect_burst,
			 gq__now_ns());
	r->cfg.window = fresh->window;
	r->cfg.check_ms = fresh->check_ms;
	r->cfg.check_timeout_ms = fresh->check_timeout_ms;
	r->cfg.timeout_ms = fresh->timeout_ms;
	r->cfg.user_percent = fresh->user_percent;
	r->cfg.attempts = fresh->attempts;
	r->cfg.breaker_open_ms = fresh->breaker_open_ms;
	r->cfg.drain_ms = fresh->drain_ms;
	r->cfg.concurrency = fresh->concurrency;
	r->cfg.cache_ttl_ms = fresh->cache_ttl_ms;
	r->cfg.key_ttl_ms = fresh->key_ttl_ms;
	r->cfg.uid_regions = fresh->uid_regions;
	r->cfg.uid_region_bytes = fresh->uid_region_bytes;
	r->cfg.ops = fresh->ops;
	memcpy(r->cfg.op, fresh->op, sizeof(r->cfg.op));
	r->retry.attempts = fresh->attempts;
	for (uint32_t i = 0; i < GROUPS; i++) {
		if (r->groups[i] == NULL)
			continue;
		group_configure(r, i);
		group_put(r, i);
	}
	limit_configure(r);
	registered_configure(r);
	reuse_configure(r);
	r->cfg.token = fresh->token;
	token_configure(r);
	free_config(fresh);
}

static void wake(struct router *r)
{
	const uint64_t one = 1;

	(void)gq_sys_write(r->wake, &one, sizeof(one));
}

static void begin_to_drain(struct router *r)
{
	r->draining = true;
	r->until_ns = gq__now_ns() + r->cfg.drain_ms * UINT64_C(1000000);
	(void)peer_accept_held(r, UINT64_MAX); /* they are told so */
	stop_doors(r);
	wake(r); /* what gathers goes now */
}

static bool has_drained(struct router *r)
{
	if (!r->draining && gq_load_seq_cst_u32(&r->stopping) != 0)
		begin_to_drain(r);
	return r->draining && (request_inside(r) == 0 || gq__now_ns() >= r->until_ns);
}

static void *route(void *arg)
{
	struct router *r = arg;
	uint64_t next_ns = UINT64_MAX;

	while (!has_drained(r)) {
		struct epoll_event events[EVENTS];
		const int n = await_events(r, events, next_ns);

		for (int i = 0; i < n; i++)
			handle_event(r, &events[i]);
		take_fresh(r);
		next_ns = turn(r);
		if (r->draining && r->until_ns < next_ns)
			next_ns = r->until_ns;
		if (gq_load_seq_cst_u32(&r->told) != 0 && gq_exchange_seq_cst_u32(&r->told, 0) != 0)
			report_show(r);
	}
	say_goodbye(r);
	close_pumps(r);
	gq_exchange_seq_cst_u32(&r->ended, 1);
	return NULL;
}

/* ---- starting and stopping ------------------------------------------------------------------- */

static bool make_tables(struct router *r, char error[ROUTER_ERROR_ROOM])
{
	const uint64_t heartbeat_ns = r->cfg.heartbeat_ms * UINT64_C(1000000);
	/* Not before it has been called unhealthy, however rarely it is to be heard of. */
	const struct gq_registry_config registry = { .heartbeat_ns = heartbeat_ns,
						     .forget_ns = 10 * heartbeat_ns > FORGET_NS
									  ? 10 * heartbeat_ns
									  : FORGET_NS };
	const struct gq_admission_config admission = { .global_most = r->cfg.queued,
						       .service_most = r->cfg.queued / 8 + 1,
						       .class_most = r->cfg.queued / 2 + 1,
						       /* What rests counts as running: one user's
							* must not keep the others' from going. */
						       .running_most = REQUESTS,
						       .strict = r->cfg.schedule ==
								 ROUTER_SCHEDULE_STRICT };

	gq__arrivals_init(&r->arrivals, r->cfg.uid_connect_rate, r->cfg.uid_connect_burst);
	gq__tarpit_init(&r->tarpit, gq_sys_descriptors());
	r->requests = calloc(REQUESTS, sizeof(*r->requests));
	r->retry.attempts = r->cfg.attempts;
	if (getrandom(r->secret, sizeof(r->secret), 0) != (ssize_t)sizeof(r->secret) ||
	    getrandom(&r->epoch, sizeof(r->epoch), 0) != (ssize_t)sizeof(r->epoch) ||
	    r->requests == NULL || gq__registry_init(&r->registry, &registry) != GQ_REGISTRY_OK ||
	    gq__admission_init(&r->admission, &admission, gq__now_ns()) != GQ_ADMISSION_OK) {
		snprintf(error, ROUTER_ERROR_ROOM, "services: out of memory");
		return false;
	}
	r->random = r->epoch ^ r->secret[0];
	return reuse_start(r, error);
}

static bool start_thread(struct router *r, char error[ROUTER_ERROR_ROOM])
{
	struct epoll_event on_wake = { .events = EPOLLIN, .data.ptr = &r->wake };
	bool watched = true;
	int rc;

	r->epoll = epoll_create1(EPOLL_CLOEXEC);
	r->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	for (int i = 0; r->epoll >= 0 && i < TRANSPORTS; i++)
		watched = watch_door(r, &r->door[i], EPOLL_CTL_ADD, true) &&
			  watch_pump(r, &r->door[i]) && watched;
	if (r->epoll < 0 || r->wake < 0 || !watched ||
	    epoll_ctl(r->epoll, EPOLL_CTL_ADD, r->wake, &on_wake) != 0)
		rc = errno;
	else
		rc = gq__start_thread(&r->thread, route, r, "gpuqd-router");
	if (rc != 0)
		snprintf(error, ROUTER_ERROR_ROOM, "the router could not be started: %s",
			 strerror(rc));
	return rc == 0;
}

static void free_router(struct router *r)
{
	const int fds[] = { r->epoll, r->wake };

	stop_doors(r);
	away_free(r); /* its links need their doors */
	free_doors(r);
	for (size_t i = 0; i < sizeof(fds) / sizeof(fds[0]); i++)
		if (fds[i] >= 0)
			gq_sys_close(fds[i]);
	region_free(r);
	reuse_free(r);
	token_free(r);
	for (uint32_t i = 0; i < GROUPS; i++) {
		if (r->groups[i] != NULL)
			sessions_free(r->groups[i]);
		free(r->groups[i]);
	}
	gq__registry_free(&r->registry);
	gq__admission_free(&r->admission);
	free(r->requests);
	free_config(r->fresh);
	pthread_mutex_destroy(&r->lock);
	free(r);
}

struct router *router_start(const struct router_config *cfg, char error[ROUTER_ERROR_ROOM])
{
	struct router *r = calloc(1, sizeof(*r));

	if (r == NULL) {
		snprintf(error, ROUTER_ERROR_ROOM, "services: out of memory");
		return NULL;
	}
	r->cfg = *cfg;
	pthread_mutex_init(&r->lock, NULL);
	r->epoll = r->wake = -1;
	if (open_doors(r, error)) { /* first: the lock is a door's from now on */
		if (gq__balance_named(cfg->balance) == GQ_BALANCE_ALGORITHMS)
			snprintf(error, ROUTER_ERROR_ROOM, "balance is '%s', which is none",
				 cfg->balance);
		else if (make_tables(r, error) && start_thread(r, error))
			return r;
	}
	free_router(r);
	return NULL;
}

void router_show(struct router *r)
{
	gq_exchange_seq_cst_u32(&r->told, 1);
	wake(r);
}

void router_reload(struct router *r, const struct router_config *cfg)
{
	struct router_config *fresh = malloc(sizeof(*fresh)), *before;

	if (fresh == NULL)
		abort(); /* some bytes: nothing that this process does can go on */
	*fresh = *cfg;
	pthread_mutex_lock(&r->lock);
	before = r->fresh;
	r->fresh = fresh;
	pthread_mutex_unlock(&r->lock);
	free_config(before);
	wake(r);
}

void router_begin_stop(struct router *r)
{
	gq_exchange_seq_cst_u32(&r->stopping, 1);
	wake(r);
}

bool router_has_ended(struct router *r)
{
	return gq_load_seq_cst_u32(&r->ended) != 0;
}

void router_stop(struct router *r)
{
	router_begin_stop(r);
	pthread_join(r->thread, NULL);
	free_router(r);
}
