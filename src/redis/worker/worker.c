/* SPDX-License-Identifier: Apache-2.0 */
/* worker.c - `gpuq-redis worker`: sets everything up, then turns one loop until it is told to end.
 */
#define _GNU_SOURCE
#include "crew.h"

#include "program/load.h"
#include "program/manager.h"
#include "program/signals.h"
#include "redis/server/shards.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* As in crew.c: how long finished messages wait for others. */
#define GROUP_MS 5u

extern char **program_arguments; /* main.c */

/* ---- setting up ------------------------------------------------------------------------------ */

static int make_queue(struct crew *c)
{
	const struct worker_options *o = c->options;
	QueueConfig config = {
		.capacity = c->slots,
		.slot_bytes = o->slot_bytes,
		.device = o->device,
		.processor = o->processor,
		.shutdown_timeout_ms = 1000,
	};
	void *data = NULL;
	GpuQueue *queue;
	int queue_fd = -1;

	if (o->data_path) {
		data = load_file("--data", o->data_path, false, &config.processor_data_bytes);
		if (!data)
			return EXIT_NO_QUEUE;
		if (config.processor_data_bytes > 0)
			config.processor_data = data;
	}
	queue = q_init(&config);
	free(data);
	if (queue)
		queue_fd = q_completion_fd(queue);
	for (uint32_t i = 0; i < c->count; i++) {
		c->workers[i].queue = queue;
		c->workers[i].queue_fd = queue_fd;
	}
	if (queue_fd < 0) {
		warn_lines("cannot create the queue: ", q_last_error());
		return EXIT_NO_QUEUE;
	}
	return EXIT_DONE;
}

/* A restart in the middle of an outage waits for Redis like any other loss of it. */
static void wait_for_connection(struct worker *w)
{
	while (!w->over && !worker_connected(w) && signals_caught() == 0) {
		poll(NULL, 0, 200);
		worker_connect_again(w);
	}
}

/* What was in the queue when the process before died. */
static int take_suspects(struct crew *c)
{
	bool any = false;

	for (uint32_t i = 0; i < c->count; i++) {
		struct worker *w = &c->workers[i];

		if (!poison_had_any(w))
			continue;
		wait_for_connection(w);
		if (w->over)
			return w->code;
		if (!worker_connected(w))
			return EXIT_DONE; /* it is to end, before Redis came back */
		any |= poison_begin(w);
	}
	if (any)
		return EXIT_DONE;
	warn_line("the device fails without a message in the queue");
	return EXIT_QUEUE_FAILED;
}

static int set_up(struct crew *c, struct worker_options *o)
{
	int code = shards_learn(&o->place, true);

	if (code == EXIT_DONE)
		code = crew_init(c, o);
	if (code != EXIT_DONE)
		return code;
	if (!signals_init()) {
		warn_line("no signals: %s", strerror(errno));
		return EXIT_NO_QUEUE;
	}
	code = make_queue(c);
	if (code != EXIT_DONE)
		return code;
	if (!watch_begin(c))
		return EXIT_NO_QUEUE;
	if (!suspects_arm(c->memory, program_arguments)) {
		warn_line("no signals: %s", strerror(errno));
		return EXIT_NO_QUEUE;
	}
	if (!c->restarted)
		return o->place.sharded ? EXIT_DONE : worker_connect_first(&c->workers[0]);
	return take_suspects(c);
}

/* ---- ending ---------------------------------------------------------------------------------- */

static void begin_drain(struct crew *c)
{
	manager_tell("STOPPING=1");
	c->draining = true;
	c->memory->stopping = 1; /* also for a program that is started anew meanwhile */
	crew_share(c, true);
	for (uint32_t i = 0; i < c->count; i++) {
		struct worker *w = &c->workers[i];

		w->draining = true;
		w->drain_until_ms = now_ms() + w->options->drain_ms;
		if (w->options->mode == MODE_LIST_SIMPLE)
			intake_enqueue(w); /* it is nowhere else */
		else
			intake_drop(w);
	}
}

/* What is in the queue is finished, or the time for it is over. */
static bool drained(const struct crew *c)
{
	if (crew_used(c) == crew_resting(c))
		return true;
	return now_ms() >= c->workers[0].drain_until_ms;
}

static bool nothing_left(struct crew *c)
{
	const struct worker_options *o = c->options;
	struct worker *w = &c->workers[0];

	if (crew_used(c) > 0 || crew_searching(c) || (w->list && w->list->aside.count > 0) ||
	    (!o->place.sharded && !w->replayed))
		return false;
	if (crew_full(c))
		return true;
	if (!o->until_empty)
		return false;
	for (uint32_t i = 0; i < c->count; i++) {
		const struct worker *one = &c->workers[i];

		if (one->leased && (!one->replayed || !one->saw_nothing || !worker_may_ask(one)))
			return false;
	}
	return o->place.sharded ? crew_empty(c) : leases_pending(w) == 0;
}

static void say_totals(const struct crew *c)
{
	const struct worker_totals sum = crew_totals(c);
	const struct worker_totals *t = &sum;

	if (c->options->quiet)
		return;
	fprintf(stderr,
		"%s: %" PRIu64 " done, %" PRIu64 " dead letters, %" PRIu64 " retried, %" PRIu64
		" redelivered, %" PRIu64 " reclaimed, %" PRIu64 " lost their lease, %" PRIu64
		" trimmed, %" PRIu64 " handed back\n",
		program_name, t->done, t->dead, t->retried, t->redelivered, t->reclaimed, t->lost,
		t->trimmed, t->handed_back);
}

static void finish_one(struct worker *w)
{
	if (w->draining && !worker_connected(w) && crew_active(w))
		worker_connect_again(w);
	intake_stop(w);
	publish_finish(w);
	if (w->command.context)
		leases_hand_back(w);
}

static void finish(struct crew *c)
{
	if (!crew_over(c)) {
		for (uint32_t i = 0; i < c->count; i++)
			finish_one(&c->workers[i]);
		crew_share(c, true);
	}
	q_shutdown(c->workers[0].queue);
	line_clear(&c->watch.line);
	say_totals(c);
}

/* ---- the loop -------------------------------------------------------------------------------- */

static int least(int a, uint64_t until_ms, uint64_t now)
{
	const uint64_t left = until_ms > now ? until_ms - now : 0;

	return left < (uint64_t)a ? (int)left : a;
}

/* How long nothing has to be done for it unless something comes. */
static int wait_ms(const struct worker *w)
{
	const uint64_t now = now_ms();
	const uint64_t batch_us = batch_wait_us(&w->batch, clock_ns() / 1000u);
	int ms = 500;

	if (!worker_connected(w))
		return least(ms, w->connect_at_ms, now);
	if (w->resume_at_ms > now)
		ms = least(ms, w->resume_at_ms, now);
	else if (outcome_due(w))
		return 0;
	else if (w->group.count > 0)
		ms = least(ms, now + GROUP_MS, now);
	if (publish_under_way(w))
		ms = least(ms, publish_deadline_ms(w), now);
	if (batch_us != UINT64_MAX)
		ms = least(ms, now + (batch_us + 999) / 1000, now);
	if (w->reading)
		ms = least(ms, w->read_deadline_ms, now);
	if (w->list)
		ms = least(ms, w->list->rest_until_ms, now);
	if (w->draining)
		ms = least(ms, w->drain_until_ms, now);
	if (w->leased && w->replayed && crew_room(w) > 0 && !crew_searching(w->crew) &&
	    w->resume_at_ms <= now)
		ms = least(ms, w->reclaim_at_ms, now);
	return least(ms, w->renew_at_ms > now ? w->renew_at_ms : now + 500, now);
}

static void see_reader(struct worker *w, bool readable)
{
	if (readable && w->reading) {
		intake_take(w);
	} else if (w->reading && now_ms() >= w->read_deadline_ms) {
		intake_lost(w, "the server did not answer in time");
	}
}

static void wait_for_something(struct crew *c)
{
	struct pollfd fds[2 + 2 * SHARDS_MOST];
	bool running = false;
	int ms = 500;

	for (uint32_t i = 0; i < c->count; i++) {
		const struct worker *w = &c->workers[i];
		const int one = crew_active(w) ? wait_ms(w) : ms;

		ms = one < ms ? one : ms;
		running |= w->book.count[LEASE_RUNNING] > 0;
		fds[2 + 2 * i] = (struct pollfd){ .fd = w->reading ? w->reader.context->fd : -1,
						  .events = POLLIN };
		fds[3 + 2 * i] = (struct pollfd){ .fd = publish_under_way(w) && w->command.context
								? w->command.context->fd
								: -1,
						  .events = POLLIN };
	}
	fds[0] = (struct pollfd){ .fd = c->draining ? -1 : signals_fd(), .events = POLLIN };
	fds[1] = (struct pollfd){ .fd = running ? c->workers[0].queue_fd : -1, .events = POLLIN };
	if (poll(fds, 2 + 2 * c->count, ms) < 0 && errno != EINTR)
		warn_line("poll: %s", strerror(errno));
	if (fds[1].revents != 0)
		outcome_collect(&c->workers[0]);
	for (uint32_t i = 0; i < c->count; i++)
		publish_take(&c->workers[i], fds[3 + 2 * i].revents != 0);
	for (uint32_t i = 0; i < c->count; i++)
		see_reader(&c->workers[i], fds[2 + 2 * i].revents != 0);
}

/* It neither reads this shard nor holds anything of it: it leaves the group, and the server. */
static void rest(struct worker *w)
{
	if (!w->command.context && !w->reader.context)
		return;
	if (worker_may_ask(w))
		leases_leave(w);
	link_close(&w->command);
	link_close(&w->reader);
}

static void turn(struct worker *w)
{
	if (!crew_active(w)) {
		rest(w);
		return;
	}
	if (!worker_connected(w) && !w->over)
		worker_connect_again(w);
	worker_watch(w);
	publish_take(w, false);
	outcome_settle(w);
	leases_renew(w);
	if (!w->draining) {
		if (w->leased) {
			leases_replay(w);
			leases_reclaim(w);
		}
		if (w->list)
			list_step(w);
		poison_step(w);
		if (batch_due(&w->batch, crew_room(w), clock_ns() / 1000u))
			intake_enqueue(w);
		if (w->leased)
			intake_ask(w);
	}
	if (book_stalled(&w->book, w->options->lease_ms, now_ms()))
		poison_restart(w, "nothing has finished for as long as a lease lasts");
}

/* systemd's watchdog: this loop turns at least twice a second. */
static void show_life(struct crew *c)
{
	const uint64_t now = now_ms();

	/* A process that was stopped has not had its chance to finish anything. */
	if (c->turned_ms != 0 && now - c->turned_ms > c->options->lease_ms / 2)
		crew_progress(c, now);
	c->turned_ms = now;
	if (now < c->life_at_ms)
		return;
	manager_tell(c->life_at_ms == 0 ? "READY=1\nWATCHDOG=1" : "WATCHDOG=1");
	c->life_at_ms = now + 1000;
}

/* Each time another one is the first. */
static void take_turns(struct crew *c)
{
	for (uint32_t i = c->first; i < c->count; i++)
		turn(&c->workers[i]);
	for (uint32_t i = 0; i < c->first; i++)
		turn(&c->workers[i]);
	c->first = c->first + 1 < c->count ? c->first + 1 : 0;
}

static int run(struct crew *c)
{
	while (!crew_over(c)) {
		if ((signals_caught() != 0 || c->memory->stopping) && !c->draining)
			begin_drain(c);
		if (c->draining && drained(c))
			break;
		if (!c->draining && nothing_left(c))
			break;
		show_life(c);
		watch_turn(c);
		if (!c->draining)
			crew_share(c, false);
		take_turns(c);
		if (!crew_over(c))
			wait_for_something(c);
	}
	finish(c);
	return crew_over(c) ? crew_over(c)->code : EXIT_DONE;
}

int cmd_worker(int argc, char **argv)
{
	return worker_main(argc, argv, NULL);
}

int worker_main(int argc, char **argv, struct worker_totals *totals)
{
	struct worker_options options;
	struct crew crew = { .count = 0 };
	int code;

	if (!worker_parse(argc, argv, &options, &code))
		return code;
	crew.options = &options;
	code = set_up(&crew, &options);
	if (code == EXIT_DONE)
		code = run(&crew);
	else if (crew.workers)
		q_shutdown(crew.workers[0].queue);
	watch_end(&crew);
	if (totals)
		*totals = crew_totals(&crew);
	crew_free(&crew);
	free(options.dead);
	return code;
}
