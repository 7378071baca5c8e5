/* SPDX-License-Identifier: Apache-2.0 */
/*
 * keeper.c - what the main thread does while the others serve.
 *
 * Once in an interval it asks the threads to write their counts. A thread that does is one that
 * turns. One that has been asked and has not done so for HANGS_NS hangs: then gpuqd is not alive,
 * and the service manager's watchdog hears nothing more. If this thread hangs itself, nobody says
 * any more until when gpuqd is alive, and that time passes.
 */
#include "keeper.h"

#include "broker/page/page.h"
#include "exposition.h"
#include "host/base/clock.h"
#include "host/base/thread.h"
#include "program/manager.h"
#include "program/program.h"
#include "program/signals.h"

#include <inttypes.h>
#include <poll.h>
#include <sys/stat.h>

enum { MOST_MS = 1000, ANSWER_MS = 5, LOOK_MS = 10, FIRST_MS = 10000, RELOAD_MS = 120000 };
#define HANGS_NS UINT64_C(3000000000)

/* A section of another thread. */
struct watched {
	uint64_t versions; /* that have been seen */
	uint64_t asked_ns; /* when it was first asked for another; 0: it has answered */
};

struct keeper {
	struct broker_config *cfg;
	configure_fn *configure;
	const void *user;
	struct page *page;
	struct metrics_server *server;
	struct broker *broker;
	struct router *router;
	struct page_daemon counts;
	struct page_view view;
	struct watched clients, services, queue[BROKER_MOST_QUEUES];
	uint32_t watchdog_ms;
	uint64_t next_ns; /* when the threads are asked again */
	uint64_t tell_ns; /* when what they have answered is told; 0: it has been */
	uint64_t fed_ns;
};

/* ---- starting and stopping ------------------------------------------------------------------- */

/* The mode of a socket that a service manager has made is the manager's choice. */
static uint32_t mode_of_socket(const char *path, int listener, uint32_t ours)
{
	struct stat st;

	return listener != 0 && stat(path, &st) == 0 ? st.st_mode & 0777 : ours;
}

/* Whoever may connect may read what there is to read. */
static uint32_t mode_of(const struct broker_config *cfg)
{
	const struct router_config *s = &cfg->services;
	const uint32_t mode = cfg->queues != 0
				      ? mode_of_socket(cfg->socket, cfg->listener, cfg->socket_mode)
				      : mode_of_socket(s->socket, s->listener, s->socket_mode);

	return 0600 | ((mode & 0060) != 0 ? 0040 : 0) | ((mode & 0006) != 0 ? 0004 : 0);
}

static bool make_page(struct keeper *k, char error[BROKER_ERROR_ROOM])
{
	const struct broker_config *cfg = k->cfg;
	const char *sockets[2] = { cfg->queues != 0 ? cfg->socket : "", cfg->services.socket };
	char paths[2][BROKER_STATS_ROOM];
	const char *path[2] = { NULL, NULL };
	uint32_t n = 0;

	if (strcmp(cfg->stats, "off") != 0 && cfg->stats[0] != '\0') {
		path[n++] = cfg->stats;
	} else if (cfg->stats[0] == '\0') {
		for (uint32_t i = 0; i < 2; i++)
			if (sockets[i][0] != '\0' &&
			    page_path_of(sockets[i], paths[n], sizeof(paths[n]))) {
				path[n] = paths[n];
				n++;
			}
	}
	k->page = page_create(path[0], path[1], mode_of(cfg), error);
	if (k->page == NULL)
		return false;
	if (path[1] != NULL && !page_has_both_names(k->page))
		warn_line("the page of counts has no name %s, which is on another file system than "
			  "%s",
			  path[1], path[0]);
	return true;
}

static void describe(struct keeper *k, const char *config_path)
{
	struct page_daemon *d = &k->counts;

	snprintf(d->version, sizeof(d->version), "%s", q_version());
	if (k->cfg->queues != 0)
		snprintf(d->socket, sizeof(d->socket), "%s", k->cfg->socket);
	snprintf(d->services, sizeof(d->services), "%s", k->cfg->services.socket);
	snprintf(d->config, sizeof(d->config), "%s", config_path != NULL ? config_path : "");
	d->pid = (uint64_t)getpid();
	d->started_ns = gq__now_ns();
}

static void write_own(struct keeper *k, uint64_t now_ns)
{
	k->counts.queues = k->cfg->queues;
	k->counts.interval_ns = k->cfg->stats_ms * UINT64_C(1000000);
	k->counts.queues_ended = k->broker != NULL && broker_has_ended(k->broker);
	k->counts.services_ended = k->router != NULL && router_has_ended(k->router);
	k->counts.turned_ns = now_ns;
	page_write(k->page, PAGE_DAEMON, 0, &k->counts);
}

struct keeper *keeper_start(struct broker_config *cfg, const char *config_path,
			    configure_fn *configure, const void *user,
			    char error[BROKER_ERROR_ROOM])
{
	struct keeper *k = calloc(1, sizeof(*k));

	if (k == NULL) {
		snprintf(error, BROKER_ERROR_ROOM, "out of memory");
		return NULL;
	}
	k->cfg = cfg;
	k->configure = configure;
	k->user = user;
	k->watchdog_ms = manager_watchdog_ms();
	describe(k, config_path);
	if (make_page(k, error)) {
		write_own(k, gq__now_ns());
		cfg->page = cfg->services.page = k->page;
		snprintf(error, BROKER_ERROR_ROOM, "no metrics at %s", cfg->metrics);
		if (cfg->metrics[0] == '\0' || (k->server = metrics_serve(cfg->metrics)) != NULL)
			return k;
	}
	keeper_stop(k);
	return NULL;
}

void keeper_stop(struct keeper *k)
{
	metrics_stop(k->server);
	page_destroy(k->page);
	free(k);
}

/* ---- who turns ------------------------------------------------------------------------------- */

/* @return whether that thread turns */
static bool look(const struct keeper *k, struct watched *w, enum page_section section,
		 uint32_t index, uint64_t now_ns)
{
	const uint64_t versions = page_versions(k->page, section, index);

	if (versions != w->versions) {
		w->versions = versions;
		w->asked_ns = 0;
	}
	return w->asked_ns == 0 || now_ns - w->asked_ns < HANGS_NS;
}

static bool all_turn(struct keeper *k, uint64_t now_ns)
{
	bool all = true;

	if (k->router != NULL && !router_has_ended(k->router))
		all = look(k, &k->services, PAGE_SERVICES_ALL, 0, now_ns) && all;
	if (k->broker == NULL || broker_has_ended(k->broker))
		return all;
	all = look(k, &k->clients, PAGE_CLIENTS_OF_QUEUES, 0, now_ns) && all;
	/* What hangs in a process of its own is killed, and started again: supervise.c. */
	for (uint32_t i = 0; i < k->cfg->queues; i++)
		if (broker_has(k->cfg, i))
			all = look(k, &k->queue[i], PAGE_QUEUE, i, now_ns) && all;
	return all;
}

static bool has_first(const struct keeper *k)
{
	if (k->router != NULL && page_versions(k->page, PAGE_SERVICES_ALL, 0) == 0)
		return false;
	if (k->broker == NULL)
		return true;
	if (page_versions(k->page, PAGE_CLIENTS_OF_QUEUES, 0) == 0)
		return false;
	for (uint32_t i = 0; i < k->cfg->queues; i++)
		if (page_versions(k->page, PAGE_QUEUE, i) == 0)
			return false;
	return true;
}

/* ---- what is told ---------------------------------------------------------------------------- */

/* Somebody could be served: by a queue whose device works, or by a service. */
static bool is_ready(const struct keeper *k)
{
	const struct page_view *v = &k->view;

	if (k->counts.state != PAGE_SERVES)
		return false;
	for (uint32_t i = 0; i < v->daemon.queues; i++)
		if (v->queue[i].failed == 0)
			return true;
	for (uint64_t i = 0; i < v->services.services; i++)
		if (exposition_is_up(&v->services.service[i]))
			return true;
	return false;
}

static void tell(struct keeper *k, uint64_t now_ns, bool alive)
{
	const uint64_t until_ns = now_ns + HANGS_NS + k->cfg->stats_ms * UINT64_C(1000000);
	struct metrics_page page = { .used = 0 };

	if (k->server == NULL)
		return;
	(void)page_view(k->page, &k->view); /* it has been written just now */
	exposition_write(&k->view, now_ns, k->broker != NULL, k->router != NULL, &page);
	metrics_publish(k->server, &page);
	if (alive)
		metrics_health(k->server, until_ns, is_ready(k));
	else
		metrics_health(k->server, 1, false);
}

static void feed_watchdog(struct keeper *k, uint64_t now_ns, bool alive)
{
	if (k->watchdog_ms == 0 || !alive ||
	    now_ns - k->fed_ns < k->watchdog_ms * UINT64_C(1000000) / 4)
		return;
	k->fed_ns = now_ns;
	manager_tell("WATCHDOG=1");
}

static void has_been_asked(struct watched *w, uint64_t now_ns)
{
	if (w->asked_ns == 0)
		w->asked_ns = now_ns;
}

static void ask(struct keeper *k)
{
	const uint64_t now_ns = gq__now_ns();

	if (k->broker != NULL) {
		has_been_asked(&k->clients, now_ns);
		for (uint32_t i = 0; i < k->cfg->queues; i++)
			has_been_asked(&k->queue[i], now_ns);
		broker_show(k->broker);
	}
	if (k->router != NULL) {
		has_been_asked(&k->services, now_ns);
		router_show(k->router);
	}
}

static void turn(struct keeper *k, bool now)
{
	const uint64_t now_ns = gq__now_ns();
	const bool alive = all_turn(k, now_ns);

	feed_watchdog(k, now_ns, alive);
	if (k->tell_ns != 0 && now_ns >= k->tell_ns) {
		k->tell_ns = 0;
		tell(k, now_ns, alive);
	}
	if (!now && now_ns < k->next_ns)
		return;
	k->next_ns = now_ns + k->cfg->stats_ms * UINT64_C(1000000);
	k->tell_ns = now_ns + ANSWER_MS * UINT64_C(1000000);
	write_own(k, now_ns);
	ask(k);
	if (now)
		tell(k, now_ns, alive);
}

static void rest(const struct keeper *k, int most_ms)
{
	struct pollfd signal = { .fd = signals_fd(), .events = POLLIN };
	const uint64_t now_ns = gq__now_ns();
	const uint64_t next_ns = k->tell_ns != 0 ? k->tell_ns : k->next_ns;
	uint64_t ms = next_ns > now_ns ? (next_ns - now_ns + 999999) / 1000000 : 0;

	if (k->watchdog_ms != 0 && k->watchdog_ms / 4 < ms)
		ms = k->watchdog_ms / 4;
	if (ms > (uint64_t)most_ms)
		ms = (uint64_t)most_ms;
	/* A signal that has come is there for ever: it must not keep this thread from resting. */
	poll(&signal, signals_caught() == 0 ? 1 : 0, (int)ms);
}

/* Also if a signal is there that is answered later. */
static void nap(int ms)
{
	poll(NULL, 0, ms);
}

/* Until all sections have a first version, or somebody hangs. */
static void await_first(struct keeper *k)
{
	const uint64_t until_ns = gq__now_ns() + FIRST_MS * UINT64_C(1000000);

	ask(k);
	while (!has_first(k) && gq__now_ns() < until_ns && signals_caught() == 0) {
		feed_watchdog(k, gq__now_ns(), true);
		nap(1);
	}
}

/* ---- reloading ------------------------------------------------------------------------------- */

/* What makes queues that are new: a processor's compiler takes its time, and the device's. */
struct making {
	struct broker *broker;
	const struct broker_config *cfg;
	char *error;
	bool made;
	uint32_t over; /* the last that the thread writes */
};

static void *make_queues(void *arg)
{
	struct making *m = arg;

	m->made = broker_reload(m->broker, m->cfg, m->error);
	gq_exchange_seq_cst_u32(&m->over, 1);
	return NULL;
}

/* On a thread of its own, while this one goes on saying that gpuqd is alive; but not for ever. */
static bool reload_broker(struct keeper *k, const struct broker_config *fresh,
			  char error[BROKER_ERROR_ROOM])
{
	const uint64_t until_ns = gq__now_ns() + RELOAD_MS * UINT64_C(1000000);
	struct making m = { .broker = k->broker, .cfg = fresh, .error = error };
	pthread_t thread;
	const int rc = gq__start_thread(&thread, make_queues, &m, "gpuqd-reload");

	if (rc != 0) {
		snprintf(error, BROKER_ERROR_ROOM, "the thread that makes queues: %s",
			 strerror(rc));
		return false;
	}
	while (gq_load_seq_cst_u32(&m.over) == 0 && gq__now_ns() < until_ns) {
		turn(k, false);
		nap(LOOK_MS);
	}
	pthread_join(thread, NULL);
	return m.made;
}

static bool reload(struct keeper *k, char error[BROKER_ERROR_ROOM])
{
	static struct broker_config fresh; /* large */

	if (!k->configure(k->user, &fresh, error) || !broker_config_merge(k->cfg, &fresh, error) ||
	    (k->broker != NULL && !reload_broker(k, &fresh, error)))
		return false;
	if (k->router != NULL)
		router_reload(k->router, &fresh.services);
	*k->cfg = fresh;
	return true;
}

static void reload_and_say(struct keeper *k)
{
	char error[BROKER_ERROR_ROOM] = "";
	char state[100];

	snprintf(state, sizeof(state), "RELOADING=1\nMONOTONIC_USEC=%" PRIu64, gq__now_ns() / 1000);
	manager_tell(state);
	if (reload(k, error)) {
		await_first(k);
		k->counts.reloads++;
		printf("gpuqd: the configuration has been reloaded\n");
		fflush(stdout);
	} else {
		k->counts.reloads_failed++;
		warn_line("the configuration stays as it was: %s", error);
	}
	snprintf(k->counts.reload_error, sizeof(k->counts.reload_error), "%s", error);
	turn(k, true);
	manager_tell("READY=1");
}

/* ---- serving --------------------------------------------------------------------------------- */

/* All sections have their first version before anybody is told that gpuqd is ready. */
void keeper_begin(struct keeper *k, struct broker *broker, struct router *router)
{
	k->broker = broker;
	k->router = router;
	await_first(k);
	k->counts.state = PAGE_SERVES;
	turn(k, true);
	manager_tell("READY=1");
}

static void drain(struct keeper *k)
{
	k->counts.state = PAGE_DRAINS;
	manager_tell("STOPPING=1");
	turn(k, true);
	if (k->router != NULL)
		router_begin_stop(k->router);
	if (k->broker != NULL)
		broker_begin_stop(k->broker);
	while ((k->router != NULL && !router_has_ended(k->router)) ||
	       (k->broker != NULL && !broker_has_ended(k->broker))) {
		turn(k, false);
		rest(k, LOOK_MS);
	}
}

void keeper_run(struct keeper *k)
{
	while (signals_caught() == 0) {
		if (signals_take_hup())
			reload_and_say(k);
		turn(k, false);
		rest(k, MOST_MS);
	}
	drain(k);
}
