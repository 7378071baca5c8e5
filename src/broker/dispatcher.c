/* SPDX-License-Identifier: Apache-2.0 */
/* dispatcher.c - a dispatcher: its queue, its inbox, its turns, its sleep, its two threads. */
#include "dispatch.h"

#include "host/base/clock.h"
#include "host/base/sys.h"
#include "host/base/thread.h"
#include "host/wait/yield.h"

#include <errno.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>

/* ---- the queue ------------------------------------------------------------------------------- */

/* The second thread: it begins by standing by. */
static void *stand_by(void *arg);

/* Where there are more consumers, they run messages beside each other; and a trace of the queue
 * (GPUQ_TRACE) is to show what goes through it. */
static bool runs_messages(const struct dispatcher *d)
{
	return d->cfg.inline_us != 0 && d->q->device->kind == Q_DEVICE_CPU &&
	       d->q->cfg.consumers == 1 && d->q->trace == NULL;
}

static bool start_second(struct dispatcher *d)
{
	d->pair = pair_make(d, d->q, runs_messages(d));
	if (d->pair == NULL)
		return false;
	gq__brevity_init(&d->brevity, d->pair->runs ? d->cfg.inline_us * UINT64_C(1000) : 0);
	gq_fetch_add_seq_cst_u64(&d->pair->refs, 1); /* the thread's */
	if (gq__start_thread(&d->thread[1], stand_by, &d->pair->member[1], "gpuqd-second") == 0)
		return true;
	pair_drop(d->pair);
	pair_drop(d->pair);
	d->pair = NULL;
	return false;
}

static bool make_queue(struct dispatcher *d)
{
	const QueueConfig cfg = { .capacity = d->capacity,
				  .slot_bytes = d->slot_bytes,
				  .result_bytes = d->result_bytes,
				  .device = d->cfg.device,
				  .ordinal = d->cfg.ordinal,
				  .consumers = d->consumers,
				  .flags = Q_ONE_PRODUCER,
				  .processor = d->cfg.processor,
				  .processor_data = d->data_bytes != 0 ? d->data : NULL,
				  .processor_data_bytes = d->data_bytes };

	d->q = q_init(&cfg);
	if (d->q == NULL)
		return false;
	/* NOLINTNEXTLINE(bugprone-sizeof-expression): pointers */
	d->sent = calloc(d->q->slot_mask + 1, sizeof(struct record *));
	if (d->sent != NULL && start_second(d))
		return true;
	free(d->sent);
	d->sent = NULL;
	q_shutdown(d->q);
	d->q = NULL;
	gq__fail(Q_ERR_NO_MEMORY, "out of memory, or of threads, for a queue's dispatcher");
	return false;
}

static void end_queue(struct dispatcher *d)
{
	d->abandoned = !pair_end(d->pair);
	q_shutdown(d->q);
	free(d->sent);
	d->q = NULL;
}

void dispatcher_describe(const struct dispatcher *d, struct gq_wire_started *out)
{
	QueueInfo info;

	*out = (struct gq_wire_started){ .head = gq_wire_head_of(GQ_WIRE_STARTED, sizeof(*out)) };
	if (q_info(d->q, &info) != Q_OK)
		return;
	out->consumers = info.consumers;
	out->granularity = info.granularity;
	snprintf(out->processor, sizeof(out->processor), "%s", info.processor);
	snprintf(out->device, sizeof(out->device), "gpuqd: %.50s", info.device_name);
}

/* ---- the inbox ------------------------------------------------------------------------------- */

static void post(struct dispatcher *d, enum command_kind kind, struct client *c, uint64_t until_ns)
{
	struct command *command = calloc(1, sizeof(*command));
	const uint64_t one = 1;

	if (command == NULL)
		abort(); /* some bytes: nothing that this process does can go on */
	command->kind = kind;
	command->client = c;
	command->until_ns = until_ns;
	pthread_mutex_lock(&d->lock);
	*d->inbox_end = command;
	d->inbox_end = &command->next;
	gq_store_relaxed_u64(&d->mail, 1); /* the lock shows the command */
	pthread_mutex_unlock(&d->lock);
	(void)gq_sys_write(d->wake, &one, sizeof(one));
}

static struct command *read_inbox(struct dispatcher *d)
{
	struct command *all;

	if (gq_load_relaxed_u64(&d->mail) == 0)
		return NULL;
	pthread_mutex_lock(&d->lock);
	gq_store_relaxed_u64(&d->mail, 0);
	all = d->inbox;
	d->inbox = NULL;
	d->inbox_end = &d->inbox;
	pthread_mutex_unlock(&d->lock);
	return all;
}

/* ---- clients come and go --------------------------------------------------------------------- */

/* Edge-triggered, and never read: a write is an event, and no write of the client's can make this
 * thread wait. */
#define BELL_EVENTS ((uint32_t)EPOLLIN | EPOLLET)

static void add(struct dispatcher *d, struct client *c)
{
	struct epoll_event event = { .events = BELL_EVENTS, .data.ptr = c };
	struct client **end = &d->clients;
	struct gq_fair_user *fresh;

	c->tally.counts = d->counts;
	if (d->failed) {
		d->note(d->user, c, NOTE_FAILED, "the device of this queue has failed");
		return;
	}
	if (epoll_ctl(d->epoll, EPOLL_CTL_ADD, c->bell, &event) != 0) {
		d->note(d->user, c, NOTE_FAILED, strerror(errno));
		return;
	}
	fresh = malloc(sizeof(*fresh));
	if (fresh == NULL) {
		epoll_ctl(d->epoll, EPOLL_CTL_DEL, c->bell, NULL);
		d->note(d->user, c, NOTE_FAILED, "out of memory");
		return;
	}
	c->user = gq__fair_join(&d->fair, fresh, c->uid);
	if (c->user != fresh)
		free(fresh);
	while (*end != NULL)
		end = &(*end)->next;
	c->next = NULL;
	*end = c;
	d->counts->clients_ever++;
	d->note(d->user, c, NOTE_READY, "");
}

static void let_go(struct dispatcher *d, struct client *c)
{
	for (struct client **at = &d->clients; *at != NULL; at = &(*at)->next) {
		if (*at != c)
			continue;
		*at = c->next;
		epoll_ctl(d->epoll, EPOLL_CTL_DEL, c->bell, NULL);
		serve_forget(d, c);
		free(gq__fair_leave(&d->fair, c->user));
		break;
	}
	if (c == d->alone)
		d->ending = true; /* and says so when its queue has ended */
	else
		d->note(d->user, c, NOTE_GONE, "");
}

/* Clients whose messages have ended, have had the time to, or never will: the queue has failed. */
static void let_go_of_drained(struct dispatcher *d)
{
	for (struct client *c = d->clients, *next; c != NULL; c = next) {
		next = c->next;
		if (c->leaving && (c->broken || c->inside == 0 || gq__now_ns() >= c->until_ns))
			let_go(d, c);
	}
}

static bool is_served(const struct dispatcher *d, const struct client *c)
{
	for (const struct client *at = d->clients; at != NULL; at = at->next)
		if (at == c)
			return true;
	return false;
}

static void start_leaving(struct dispatcher *d, struct client *c, uint64_t until_ns)
{
	c->leaving = true;
	c->until_ns = until_ns;
	/* One that could not be added has nothing to wait for, and nobody would look at it again.
	 */
	if (until_ns == 0 || c->broken || !is_served(d, c)) {
		let_go(d, c);
		return;
	}
	c->draining = true;
	c->now_ns = gq__now_ns();
	for (struct record *r = c->first, *next; r != NULL; r = next) {
		next = r->next;
		if (r->state == RECORD_HELD)
			client_complete(c, r, GQ_OUTCOME_CANCELLED, NULL);
	}
	client_ring(c);
}

/* ---- what is told about it ------------------------------------------------------------------- */

static void describe(struct dispatcher *d, struct page_queue *counts)
{
	snprintf(counts->name, sizeof(counts->name), "%s", d->cfg.name);
	broker_tell_processor(counts->processor, sizeof(counts->processor), d->cfg.processor);
	snprintf(counts->process, sizeof(counts->process), "%s", d->cfg.process);
	counts->per_client = d->cfg.per_client;
	counts->failed = d->failed;
	counts->capacity = d->capacity;
	counts->window = gq_load_relaxed_u32(&d->window);
	counts->slot_bytes = d->slot_bytes;
	counts->result_bytes = d->result_bytes;
	counts->turned_ns = gq__now_ns();
}

/* What has not ended is counted anew, message by message. So if the counts of what came, of what
 * ended and of what is inside do not add up, somebody can see it. */
static void write_counts(struct dispatcher *d)
{
	struct page_queue *counts = d->counts;
	struct page *page = d->page;
	const uint32_t section = d->section;
	uint32_t n = 0;

	describe(d, counts);
	counts->running = d->inside + d->is_away;
	memset(counts->inside, 0, sizeof(counts->inside));
	memset(counts->client, 0, sizeof(counts->client));
	for (const struct client *c = d->clients; c != NULL; c = c->next, n++) {
		client_count(c, counts->inside);
		if (n < PAGE_CLIENTS)
			counts->client[n] =
				(struct page_client){ c->pid, c->uid, client_accepted(c),
						      client_ended(c), c->inside + c->held };
	}
	counts->clients = n;
	gq_exchange_seq_cst_u32(&d->asked, 0); /* from here on d->page is dispatcher_show()'s */
	if (page != NULL) {
		page_write(page, PAGE_QUEUE, section, counts);
		return;
	}
	pthread_mutex_lock(&d->lock);
	d->shown = *counts;
	pthread_mutex_unlock(&d->lock);
}

static void obey(struct dispatcher *d)
{
	for (struct command *c = read_inbox(d), *next; c != NULL; c = next) {
		next = c->next;
		if (c->kind == COMMAND_ADD)
			add(d, c->client);
		else if (c->kind == COMMAND_REMOVE)
			start_leaving(d, c->client, c->until_ns);
		else if (c->kind == COMMAND_TELL)
			write_counts(d);
		else
			d->ending = true;
		free(c);
	}
	let_go_of_drained(d);
}

/* The queue's device has failed. What it had may have run: the clients are told by the end of
 * their connections. Nothing completes any more, so nothing of it is waited for. */
static void give_up(struct dispatcher *d)
{
	d->inside = 0;
	if (!d->failure_told)
		d->note(d->user, NULL, NOTE_DEVICE, d->cfg.name);
	d->failure_told = true;
	for (struct client *c = d->clients; c != NULL; c = c->next) {
		if (c->broken)
			continue;
		c->broken = true;
		d->note(d->user, c, NOTE_LOST, "");
	}
}

/* ---- sleeping -------------------------------------------------------------------------------- */

static bool is_there_work(const struct dispatcher *d)
{
	for (const struct client *c = d->clients; c != NULL; c = c->next)
		if (serve_would(d, c))
			return true;
	return false;
}

/* A client that rests wakes nobody, and one that has broken the protocol is about to be
 * disconnected. */
static bool is_to_be_muted(const struct client *c)
{
	return c->broken || client_rests(c);
}

/* Its bell has been rung meanwhile, or not: that it is watched again is an event, once it has ever
 * been rung. Errors are told of even where nothing is asked for: a bell that its client has made to
 * overflow (by asynchronous I/O) is one, and without EPOLLET it would be told of all the time. */
static void mute(struct dispatcher *d, struct client *c, bool muted)
{
	struct epoll_event event = { .events = muted ? (uint32_t)EPOLLET : BELL_EVENTS,
				     .data.ptr = c };

	c->muted = muted;
	c->unmuted = !muted;
	epoll_ctl(d->epoll, EPOLL_CTL_MOD, c->bell, &event);
}

static void say_asleep(struct dispatcher *d)
{
	for (struct client *c = d->clients; c != NULL; c = c->next) {
		if (c->muted != is_to_be_muted(c))
			mute(d, c, !c->muted);
		if (!c->muted)
			gq_exchange_seq_cst_u64(&c->page->daemon_asleep, 1); /* [sleep.look] */
	}
}

static void say_awake(struct dispatcher *d)
{
	for (struct client *c = d->clients; c != NULL; c = c->next)
		gq_exchange_seq_cst_u64(&c->page->daemon_asleep, 0); /* [sleep.look] */
}

/* How long this thread may sleep for a client's sake; -1: for ever. */
static int patience_of(const struct client *c, uint64_t now_ns)
{
	const uint64_t left_ns = c->rests_until_ns > now_ns ? c->rests_until_ns - now_ns : 0;

	if (c->leaving || (c->rings && !c->muted))
		return 10; /* a drain's time may be over; a bell did not go */
	/* One that rests cannot wake this thread; of one that is broken it has nothing to do. */
	return c->muted && !c->broken ? (int)(left_ns / 1000000) + 1 : -1;
}

static int patience_ms(const struct dispatcher *d)
{
	const uint64_t now_ns = gq__now_ns();
	int least = -1;

	for (const struct client *c = d->clients; c != NULL; c = c->next) {
		const int ms = patience_of(c, now_ns);

		if (ms >= 0 && (least < 0 || ms < least))
			least = ms;
	}
	return least;
}

/* What was rung before it was watched again says nothing. */
static void hear(struct client *c)
{
	c->rung = c->rung || !c->unmuted;
	c->unmuted = false;
}

static void sleep_until_rung(struct dispatcher *d)
{
	struct epoll_event events[16];
	uint64_t count;
	int n;

	say_asleep(d);
	if (!is_there_work(d)) {
		if (d->inside != 0)
			pair_arm(d->pair);
		n = epoll_wait(d->epoll, events, 16, patience_ms(d));
		for (int i = 0; i < n; i++)
			if (events[i].data.ptr != NULL) /* else it is `wake` */
				hear(events[i].data.ptr);
		pair_disarm(d->pair);
		(void)gq_sys_read(d->wake, &count, sizeof(count));
	}
	say_awake(d);
}

/* ---- the thread ------------------------------------------------------------------------------ */

/* Those of which something has gone into the queue stand behind all others, in their order. */
static void put_behind(struct dispatcher *d)
{
	struct client *went = NULL, **end = &went, **at = &d->clients;

	while (*at != NULL) {
		struct client *c = *at;

		if (c->went) {
			*at = c->next;
			*end = c;
			end = &c->next;
		} else {
			at = &c->next;
		}
	}
	*end = NULL;
	*at = went;
}

/*
 * Each client once; first the one that has got nothing into the queue for longest. So while the
 * queue is full, what becomes free goes round: a client that waits gets its share after each other
 * has had one at most, wherever it was in the list. Where clients are of several users each has its
 * portion of what its user may have; what the clients of one user get does not change the order of
 * the others'.
 */
static enum served serve_clients(struct dispatcher *d)
{
	const struct share share = serve_share(d);
	enum served all = SERVED_NOTHING;
	bool some_went = false;

	for (struct client *c = d->clients; c != NULL; c = c->next) {
		const uint32_t before = d->inside;
		const enum served one = serve_client(d, c, share);

		if (one == SERVED_TOO_LONG)
			return one;
		if (one == SERVED_SOME)
			all = one;
		c->went = d->inside != before;
		some_went = some_went || c->went;
	}
	if (some_went)
		put_behind(d);
	return all;
}

/* A turn that finds nothing takes as long as some relaxes: so many turns are what other threads
 * that wait spin before they yield. Where CPUs are fewer than threads, more of them only keep a
 * consumer of the queue, or a client, from running. */
enum { RELAX_TURNS = 16 };

/* @return false: another thread leads now */
static bool turn(struct dispatcher *d)
{
	uint64_t since_ns = 0;
	uint32_t idle = 0;
	bool worked = true; /* since it slept */

	for (;;) {
		enum served clients, completions;

		obey(d);
		if (d->ending)
			return true; /* what has woken it for that has been read: nothing else would
				      */
		completions = serve_completions(d);
		clients = serve_clients(d);
		if (clients == SERVED_TOO_LONG)
			return false;
		if (d->failed)
			give_up(d);
		if (clients == SERVED_SOME || completions == SERVED_SOME) {
			idle = 0;
			worked = true;
			continue;
		}
		if (++idle < RELAX_TURNS) {
			gq_cpu_relax();
			continue;
		}
		since_ns = idle == RELAX_TURNS ? gq__now_ns() : since_ns;
		/* After a wake-up for nothing there is nothing to look out for. */
		if (worked && gq__now_ns() - since_ns < GQ_SPIN_NS &&
		    gq__yield_if_cheap(gq__now_ns()))
			continue;
		sleep_until_rung(d);
		idle = 0;
		worked = false;
	}
}

/* The message that the former leader has not come back from is the other thread's now. */
static void take_over(struct dispatcher *d, uint64_t used_ns)
{
	struct client *c = d->running->client;

	/* What it had run before took no part of this time. */
	c->unclocked = 0;
	client_settle(c);
	d->is_away = true;
	d->away = d->running;
	d->cut = true;
	gq__brevity_failed(&d->brevity, used_ns);
	gq_store_relaxed_u64(&d->q->producer, 0); /* the one producer is this thread now */
}

/* All is said: nothing of this dispatcher's is touched after that. */
static void finish(struct dispatcher *d)
{
	if (d->alone != NULL)
		d->note(d->user, d->alone, NOTE_GONE, "");
	sem_post(&d->over);
}

/* A thread of the pair leads and stands by, until the end, which is the leader's to make. */
static void take_part(struct dispatcher *d, struct pair *p, uint32_t me, bool leads)
{
	uint64_t used_ns;

	GQ_NO_CANCEL(); /* the processor is the application's code */
	pair_join(p, me);
	for (;; leads = false) {
		if (!leads) {
			if (!pair_stand_by(p, me, &used_ns))
				break;
			take_over(d, used_ns);
		}
		if (!turn(d))
			continue;
		d->last = me;
		end_queue(d);
		finish(d);
		break;
	}
	pair_drop(p);
}

static void *stand_by(void *arg)
{
	struct member *m = arg;

	take_part(m->d, m->pair, 1, false);
	return NULL;
}

static void *run(void *arg)
{
	struct dispatcher *d = arg;

	if (d->alone != NULL && !make_queue(d)) {
		d->note(d->user, d->alone, NOTE_FAILED, q_last_error());
		while (!d->ending) {
			struct epoll_event event;
			uint64_t count;

			epoll_wait(d->epoll, &event, 1, 100);
			(void)gq_sys_read(d->wake, &count, sizeof(count));
			obey(d);
		}
		finish(d);
		return NULL;
	}
	if (d->alone != NULL)
		add(d, d->alone);
	gq_fetch_add_seq_cst_u64(&d->pair->refs, 1);
	take_part(d, d->pair, 0, true);
	return NULL;
}

static bool open_descriptors(struct dispatcher *d)
{
	struct epoll_event event = { .events = EPOLLIN };

	d->epoll = epoll_create1(EPOLL_CLOEXEC);
	d->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	return d->epoll >= 0 && d->wake >= 0 &&
	       epoll_ctl(d->epoll, EPOLL_CTL_ADD, d->wake, &event) == 0;
}

static void free_dispatcher(struct dispatcher *d)
{
	if (d->epoll >= 0)
		gq_sys_close(d->epoll);
	if (d->wake >= 0)
		gq_sys_close(d->wake);
	for (struct command *c = d->inbox, *next; c != NULL; c = next) {
		next = c->next;
		free(c);
	}
	if (d->pair != NULL)
		pair_drop(d->pair);
	sem_destroy(&d->over);
	pthread_mutex_destroy(&d->lock);
	free(d);
}

/* The most consumers that a client gets of its own queue, where the configuration says none. */
enum { CLIENTS_CONSUMERS = 8 };

static void size(struct dispatcher *d, const struct gq_wire_hello *h)
{
	const struct broker_queue *cfg = &d->cfg;
	const uint32_t most = cfg->consumers != 0 ? cfg->consumers : CLIENTS_CONSUMERS;
	const long cpus = sysconf(_SC_NPROCESSORS_ONLN);

	d->capacity = cfg->capacity;
	d->slot_bytes = cfg->slot_bytes;
	d->result_bytes = cfg->result_bytes;
	d->consumers = cfg->consumers;
	d->window = cfg->window;
	if (h == NULL)
		return;
	d->capacity = h->capacity < d->capacity ? h->capacity : d->capacity;
	d->slot_bytes = h->slot_bytes;
	d->result_bytes = h->result_bytes;
	if (h->consumers != 0) /* which are threads of ours */
		d->consumers = h->consumers < most ? h->consumers : most;
	else if (d->consumers == 0 && cfg->device != Q_DEVICE_CUDA) /* as many as it would be */
		d->consumers = cpus <= 2 ? 1 : cpus - 1 < (long)most ? (uint32_t)cpus - 1 : most;
	if (d->cfg.processor[0] == '\0')
		memcpy(d->cfg.processor, h->processor, sizeof(h->processor));
}

struct dispatcher *dispatcher_start(const struct broker_queue *cfg, const struct gq_wire_hello *h,
				    struct client *alone, const void *data,
				    struct page_queue *counts, note_fn *note, void *user,
				    char error[BROKER_ERROR_ROOM])
{
	struct dispatcher *d = calloc(1, sizeof(*d));
	const char *why = "out of memory";
	bool started;

	if (d == NULL) {
		snprintf(error, BROKER_ERROR_ROOM, "%s", why);
		return NULL;
	}
	d->cfg = *cfg;
	d->alone = alone;
	d->data = data;
	d->data_bytes = h != NULL ? h->data_bytes : 0;
	d->counts = counts != NULL ? counts : &d->own;
	d->note = note;
	d->user = user;
	d->epoll = d->wake = -1;
	d->inbox_end = &d->inbox;
	pthread_mutex_init(&d->lock, NULL);
	sem_init(&d->over, 0, 0);
	size(d, h);
	started = open_descriptors(d);
	why = strerror(errno);
	if (started && alone == NULL && !make_queue(d)) {
		started = false;
		why = q_last_error();
	}
	if (started) {
		const int rc = gq__start_thread(&d->thread[0], run, d, "gpuqd-dispatch");

		why = strerror(rc);
		started = rc == 0;
		if (!started && d->q != NULL) {
			end_queue(d);
			pthread_join(d->thread[1], NULL);
		}
	}
	if (started)
		return d;
	snprintf(error, BROKER_ERROR_ROOM, "%s", why);
	free_dispatcher(d);
	return NULL;
}

void dispatcher_add(struct dispatcher *d, struct client *c)
{
	post(d, COMMAND_ADD, c, 0);
}

void dispatcher_remove(struct dispatcher *d, struct client *c, uint64_t until_ns)
{
	post(d, COMMAND_REMOVE, c, until_ns);
}

void dispatcher_set_window(struct dispatcher *d, uint32_t window)
{
	gq_exchange_seq_cst_u32(&d->window, window);
}

void dispatcher_show(struct dispatcher *d, struct page *page, uint32_t section)
{
	if (gq_exchange_seq_cst_u32(&d->asked, 1) != 0)
		return; /* it has not done so since the last time */
	d->page = page; /* the command's lock shows it to the thread */
	d->section = section;
	post(d, COMMAND_TELL, NULL, 0);
}

void dispatcher_counts(struct dispatcher *d, struct page_queue *out)
{
	pthread_mutex_lock(&d->lock);
	*out = d->shown;
	pthread_mutex_unlock(&d->lock);
}

void dispatcher_end(struct dispatcher *d, struct page_queue *counts)
{
	post(d, COMMAND_END, NULL, 0);
	while (sem_wait(&d->over) != 0)
		;
	for (uint32_t i = 0; i < 2; i++) {
		if (i == 1 && d->pair == NULL)
			continue; /* there was no queue */
		if (i != d->last && d->abandoned)
			pthread_detach(d->thread[i]);
		else
			pthread_join(d->thread[i], NULL);
	}
	if (counts != NULL)
		*counts = *d->counts;
	free_dispatcher(d);
}
