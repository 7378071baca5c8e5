/* SPDX-License-Identifier: Apache-2.0 */
/*
 * count_queue.c - the paths of the queue whose instructions check_counts counts.
 *
 * Each path is a function path_NAME(), which callgrind collects in alone; one call of it is OPS
 * messages. Around it everything is brought to the same state, so that a run counts what the next
 * one counts: the queue is paused while messages are enqueued, and before they are taken, the last
 * completion has arrived.
 */
#include "host/queue/queue.h"

#include <gpuq/gpuq.h>
#include <gpuq/processor.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { OPS = 32, ROUNDS = 8, BYTES = 64 };

static GpuQueue *q;
static char message[BYTES], buffer[OPS * BYTES];
static EnqueueItem items[OPS];
static Completion done[OPS];
static uint64_t ids[OPS];
static size_t n;

static void must(bool held, const char *what)
{
	if (held)
		return;
	fprintf(stderr, "%s: %s\n", what, q_last_error());
	exit(1);
}

static void answer(const MsgView *in, ResultView *out)
{
	memcpy(out->out, in->payload, in->len);
	*out->out_len = in->len;
}

#define PATH(name) __attribute__((noinline, noclone)) void path_##name(void)

PATH(enqueue_one);
PATH(enqueue_one)
{
	for (int i = 0; i < OPS; i++)
		q_enqueue(q, message, BYTES, NULL, 0);
}

PATH(enqueue_batch);
PATH(enqueue_batch)
{
	q_enqueue_batch(q, items, OPS, NULL, &n, 0);
}

PATH(poll_one);
PATH(poll_one)
{
	for (int i = 0; i < OPS; i++)
		q_poll_results(q, done + i, 1, &n);
}

PATH(poll_batch);
PATH(poll_batch)
{
	q_poll_results(q, done, OPS, &n);
}

PATH(release_one);
PATH(release_one)
{
	for (int i = 0; i < OPS; i++)
		q_release(q, ids[i]);
}

PATH(release_batch);
PATH(release_batch)
{
	q_release_batch(q, ids, OPS);
}

PATH(take_one);
PATH(take_one)
{
	for (int i = 0; i < OPS; i++)
		q_take_results(q, done + i, 1, buffer, sizeof(buffer), &n);
}

PATH(take_batch);
PATH(take_batch)
{
	q_take_results(q, done, OPS, buffer, sizeof(buffer), &n);
}

PATH(poll_nothing);
PATH(poll_nothing)
{
	for (int i = 0; i < OPS; i++)
		q_poll_results(q, done, OPS, &n);
}

/* All is in the completion ring, and no call has noticed. */
static void await_completions(void)
{
	uint32_t slot, outcome;

	must(q_resume(q) == Q_OK, "q_resume");
	while (gq_look_at_done(&q->ch, gq_load_relaxed_u64(q->ch.done.head) + OPS - 1, &slot,
			       &outcome) != GQ_WHOLE)
		gq__await_step(100);
	must(q_pause(q, UINT32_MAX) == Q_OK, "q_pause");
}

static void round_of(void (*enqueue)(void), void (*take)(void), void (*release)(void))
{
	enqueue();
	await_completions();
	take();
	for (int i = 0; i < OPS; i++) {
		must(done[i].status == Q_OK && done[i].result_len == BYTES, "a result");
		ids[i] = done[i].msg_id;
	}
	if (release != NULL)
		release();
	path_poll_nothing();
	must(n == 0, "nothing is left");
}

int main(void)
{
	static const QProcessorImage image = { .magic = Q_PROCESSOR_MAGIC,
					       .protocol_version = Q_PROTOCOL_VERSION,
					       .name = "answer",
					       .cpu = answer };
	const QueueConfig cfg = { .capacity = 1024,
				  .slot_bytes = BYTES,
				  .device = Q_DEVICE_CPU,
				  .consumers = 1,
				  .processor = "answer" };

	q_register_processor(&image);
	q = q_init(&cfg);
	must(q != NULL, "q_init");
	must(q_pause(q, UINT32_MAX) == Q_OK, "q_pause");
	for (int i = 0; i < OPS; i++)
		items[i] = (EnqueueItem){ message, BYTES };
	for (int i = 0; i < ROUNDS; i++) {
		round_of(path_enqueue_one, path_poll_one, path_release_one);
		round_of(path_enqueue_batch, path_poll_batch, path_release_batch);
		round_of(path_enqueue_batch, path_take_batch, NULL);
		round_of(path_enqueue_batch, path_take_one, NULL);
	}
	/* Each path, and how many messages it was called for. */
	printf("enqueue_one %d\npoll_one %d\nrelease_one %d\n", OPS * ROUNDS, OPS * ROUNDS,
	       OPS * ROUNDS);
	printf("enqueue_batch %d\npoll_batch %d\nrelease_batch %d\n", 3 * OPS * ROUNDS,
	       OPS * ROUNDS, OPS * ROUNDS);
	printf("take_batch %d\ntake_one %d\npoll_nothing %d\n", OPS * ROUNDS, OPS * ROUNDS,
	       4 * OPS * ROUNDS);
	q_shutdown(q);
	return 0;
}
