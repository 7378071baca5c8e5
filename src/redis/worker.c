/* SPDX-License-Identifier: Apache-2.0 */
/* worker.c - `gpuq-redis worker`: sets everything up, then turns one loop until it is told to end.
 */
#define _GNU_SOURCE
#include "worker.h"
#include "outcome.h"

#include "notify.h"
#include "program/load.h"
#include "program/signals.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* The longest command: a script's words, and four for each of 256 entries. */
#define WORDS_MOST 1400u

/* Results go to Redis in groups of GROUP_MOST, or when the first of them has waited for so long. */
#define GROUP_US 5000u

extern char **program_arguments; /* main.c */

/* ---- setting up ------------------------------------------------------------------------------ */

static uint32_t slots_of(const struct worker_options *o)
{
	uint32_t slots = 1;

	while (slots < 4 * o->batch && slots < Q_MAX_CAPACITY)
		slots *= 2;
	return o->slots != 0 ? o->slots : slots;
}

static int make_queue(struct worker *w)
{
	const struct worker_options *o = w->options;
	QueueConfig config = {
		.capacity = slots_of(o),
		.slot_bytes = o->slot_bytes,
		.device = o->device,
		.processor = o->processor,
		.shutdown_timeout_ms = 1000,
	};
	void *data = NULL;

	if (o->data_path) {
		data = load_file("--data", o->data_path, false, &config.processor_data_bytes);
		if (!data)
			return EXIT_NO_QUEUE;
		if (config.processor_data_bytes > 0)
			config.processor_data = data;
	}
	w->queue = q_init(&config);
	free(data);
	if (w->queue)
		w->queue_fd = q_completion_fd(w->queue);
	if (!w->queue || w->queue_fd < 0) {
		warn_line("cannot create the queue: %s", q_last_error());
		return EXIT_NO_QUEUE;
	}
	return EXIT_DONE;
}

static void name_consumer(struct worker *w)
{
	char host[64] = "host";
	char *to = w->memory->consumer;

	if (w->options->consumer) {
		snprintf(to, CONSUMER_BYTES, "%s", w->options->consumer);
		return;
	}
	gethostname(host, sizeof(host) - 1);
	snprintf(to, CONSUMER_BYTES, "%s-%d-%08" PRIx32, host, (int)getpid(),
		 (uint32_t)(w->random ^ (w->random >> 32)));
}

static bool make_room(struct worker *w)
{
	const uint32_t slots = slots_of(w->options);

	w->memory = suspects_open(slots, &w->restarted);
	w->held = calloc(slots, sizeof(redisReply *)); /* NOLINT(bugprone-sizeof-expression) */
	w->staged = calloc(slots, sizeof(w->staged[0]));
	w->finished = calloc(slots, sizeof(w->finished[0]));
	w->batch = (struct batch){ .most = w->options->batch < slots ? w->options->batch : slots,
				   .delay_us = w->options->batch_delay_us };
	w->group = (struct batch){ .most = GROUP_MOST, .delay_us = GROUP_US };
	if (w->memory && w->held && w->staged && w->finished && book_init(&w->book, slots) &&
	    words_init(&w->words, WORDS_MOST))
		return true;
	warn_line("no memory");
	return false;
}

static void free_room(struct worker *w)
{
	free(w->held);
	free(w->staged);
	free(w->finished);
	book_free(&w->book);
	words_free(&w->words);
	link_close(&w->command);
	link_close(&w->reader);
}

static int set_up(struct worker *w)
{
	int code;

	w->random = (clock_ns() * 0x9e3779b97f4a7c15u) ^ ((uint64_t)getpid() << 32) ^ 1u;
	if (!make_room(w))
		return EXIT_NO_QUEUE;
	if (!w->restarted)
		name_consumer(w);
	if (w->options->mode != MODE_STREAM && !list_init(w)) {
		warn_line("no memory");
		return EXIT_NO_QUEUE;
	}
	if (!signals_init()) {
		warn_line("no signals: %s", strerror(errno));
		return EXIT_NO_QUEUE;
	}
	code = make_queue(w);
	if (code != EXIT_DONE)
		return code;
	if (!watch_begin(w))
		return EXIT_NO_QUEUE;
	if (!suspects_arm(w->memory, program_arguments)) {
		warn_line("no signals: %s", strerror(errno));
		return EXIT_NO_QUEUE;
	}
	/* a restart in the middle of an outage waits for Redis like any other loss of it */
	code = worker_connect_first(w);
	if (code != EXIT_DONE && !(w->restarted && !w->over))
		return code;
	if (w->restarted && !worker_connected(w)) {
		while (!w->over && !worker_connected(w) && signals_caught() == 0) {
			poll(NULL, 0, 200);
			worker_connect_again(w);
		}
		if (w->over)
			return w->code;
	}
	if (w->restarted && worker_connected(w) && !poison_begin(w))
		return EXIT_QUEUE_FAILED;
	return EXIT_DONE;
}

/* ---- ending ---------------------------------------------------------------------------------- */

static void begin_drain(struct worker *w)
{
	notify_systemd("STOPPING=1");
	w->draining = true;
	w->memory->stopping = 1; /* also for a program that is started anew meanwhile */
	w->drain_until_ms = now_ms() + w->options->drain_ms;
	if (w->options->mode == MODE_LIST_SIMPLE)
		intake_enqueue(w); /* it is nowhere else */
	else
		intake_drop(w);
}

/* What is in the queue is finished, or the time for it is over. */
static bool drained(const struct worker *w)
{
	if (w->book.used == w->book.count[LEASE_RESTING])
		return true;
	return now_ms() >= w->drain_until_ms;
}

static bool nothing_left(struct worker *w)
{
	const struct worker_options *o = w->options;

	if (w->book.used > 0 || !w->replayed || poison_searching(w) ||
	    (w->list && w->list->aside.count > 0))
		return false;
	if (o->max_messages > 0 && w->memory->taken >= o->max_messages)
		return true;
	return o->until_empty && w->saw_nothing && worker_may_ask(w) && leases_pending(w) == 0;
}

static void say_totals(const struct worker *w)
{
	const struct worker_totals *t = &w->totals;

	if (w->options->quiet)
		return;
	fprintf(stderr,
		"%s: %" PRIu64 " done, %" PRIu64 " dead letters, %" PRIu64 " retried, %" PRIu64
		" redelivered, %" PRIu64 " reclaimed, %" PRIu64 " lost their lease, %" PRIu64
		" trimmed, %" PRIu64 " handed back\n",
		program_name, t->done, t->dead, t->retried, t->redelivered, t->reclaimed, t->lost,
		t->trimmed, t->handed_back);
}

static void finish(struct worker *w)
{
	if (!w->over) {
		if (w->draining && !worker_connected(w))
			worker_connect_again(w);
		intake_stop(w);
		if (w->command.context)
			leases_hand_back(w);
	}
	q_shutdown(w->queue);
	line_clear(&w->watch.line);
	say_totals(w);
}

/* ---- the loop -------------------------------------------------------------------------------- */

static int least(int a, uint64_t until_ms, uint64_t now)
{
	const uint64_t left = until_ms > now ? until_ms - now : 0;

	return left < (uint64_t)a ? (int)left : a;
}

/* How long nothing has to be done unless something comes. */
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
	else if (w->finished_count > 0)
		ms = least(ms, now + GROUP_US / 1000u, now);
	if (batch_us != UINT64_MAX)
		ms = least(ms, now + (batch_us + 999) / 1000, now);
	if (w->reading)
		ms = least(ms, w->read_deadline_ms, now);
	if (w->list)
		ms = least(ms, w->list->rest_until_ms, now);
	if (w->draining)
		ms = least(ms, w->drain_until_ms, now);
	if (w->replayed && book_room(&w->book) > 0 && !poison_searching(w) &&
	    w->resume_at_ms <= now)
		ms = least(ms, w->reclaim_at_ms, now);
	return least(ms, w->renew_at_ms > now ? w->renew_at_ms : now + 500, now);
}

static void wait_for_something(struct worker *w)
{
	struct pollfd fds[3] = {
		{ .fd = w->draining ? -1 : signals_fd(), .events = POLLIN },
		{ .fd = w->book.count[LEASE_RUNNING] > 0 ? w->queue_fd : -1, .events = POLLIN },
		{ .fd = w->reading ? w->reader.context->fd : -1, .events = POLLIN },
	};

	if (poll(fds, 3, wait_ms(w)) < 0 && errno != EINTR)
		warn_line("poll: %s", strerror(errno));
	if (fds[1].revents != 0)
		outcome_collect(w);
	if (fds[2].revents != 0 && w->reading) {
		intake_take(w);
	} else if (w->reading && now_ms() >= w->read_deadline_ms) {
		intake_lost(w, "the server did not answer in time");
	}
}

static void turn(struct worker *w)
{
	if (!worker_connected(w) && !w->over)
		worker_connect_again(w);
	outcome_settle(w);
	leases_renew(w);
	if (!w->draining) {
		leases_replay(w);
		leases_reclaim(w);
		if (w->list)
			list_step(w);
		poison_step(w);
		if (batch_due(&w->batch, book_room(&w->book), clock_ns() / 1000u))
			intake_enqueue(w);
		intake_ask(w);
	}
	if (book_stalled(&w->book, w->options->lease_ms, now_ms()))
		poison_restart(w, "nothing has finished for as long as a lease lasts");
}

/* systemd's watchdog: this loop turns at least twice a second. */
static void show_life(struct worker *w)
{
	const uint64_t now = now_ms();

	/* A process that was stopped has not had its chance to finish anything. */
	if (w->turned_ms != 0 && now - w->turned_ms > w->options->lease_ms / 2)
		w->book.progress_ms = now;
	w->turned_ms = now;
	if (now < w->life_at_ms)
		return;
	notify_systemd(w->life_at_ms == 0 ? "READY=1\nWATCHDOG=1" : "WATCHDOG=1");
	w->life_at_ms = now + 1000;
}

static int run(struct worker *w)
{
	while (!w->over) {
		if ((signals_caught() != 0 || w->memory->stopping) && !w->draining)
			begin_drain(w);
		if (w->draining && drained(w))
			break;
		if (!w->draining && nothing_left(w))
			break;
		show_life(w);
		watch_turn(w);
		turn(w);
		if (!w->over)
			wait_for_something(w);
	}
	finish(w);
	return w->over ? w->code : EXIT_DONE;
}

int cmd_worker(int argc, char **argv)
{
	return worker_main(argc, argv, NULL);
}

int worker_main(int argc, char **argv, struct worker_totals *totals)
{
	struct worker_options options;
	struct worker *w;
	int code = worker_parse(argc, argv, &options);

	if (code != EXIT_DONE)
		return code;
	if (options.help) {
		fputs(worker_help, stdout);
		return EXIT_DONE;
	}
	w = calloc(1, sizeof(*w));
	if (!w) {
		warn_line("no memory");
		return EXIT_NO_QUEUE;
	}
	w->options = &options;
	code = set_up(w);
	if (code == EXIT_DONE)
		code = run(w);
	else
		q_shutdown(w->queue);
	watch_end(w);
	if (totals)
		*totals = w->totals;
	list_free(w);
	free_room(w);
	free(options.dead);
	free(w);
	return code;
}
