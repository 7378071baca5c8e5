/* SPDX-License-Identifier: Apache-2.0 */
/*
 * count_queue.c - the paths of the queue whose costs check_counts counts.
 *
 * Each path is a function path_NAME(), which callgrind collects in alone; one call of it is OPS
 * messages. Around it everything is brought to the same state, so that a run counts what the next
 * one counts: the queue is paused while messages are enqueued, and before they are taken, the last
 * completion has arrived.
 *
 * `consume` is the consumer's path: claim, decide, run, hand lines on, complete. It is a loop that
 * goes on for as long as the queue lives, so its processor, which is a part of it, has the
 * collecting switched on at one message of a backlog, and off at a later one.
 */
#include "count.h"
#include "host/queue/queue.h"

#include <gpuq/gpuq.h>
#include <gpuq/processor.h>

#include <string.h>
#include <valgrind/callgrind.h>

enum { OPS = 32, ROUNDS = 8, BYTES = 64 };
enum { BACKLOG = 512, FIRST = 101, COUNTED = 320 }; /* of the consumer's path */

static GpuQueue *q, *one; /* `one` has one producer */
static uint32_t consumed; /* by a consumer that is to be counted, of its backlog */
static bool counting;
static char message[BYTES], buffer[OPS * BYTES];
static EnqueueItem items[OPS];
static Completion done[OPS];
static uint64_t ids[OPS];
static size_t n;

static void answer(const MsgView *in, ResultView *out)
{
	memcpy(out->out, in->payload, in->len);
	*out->out_len = in->len;
	if (counting && (++consumed == FIRST || consumed == FIRST + COUNTED))
		CALLGRIND_TOGGLE_COLLECT;
}

PATH(enqueue_one)
{
	for (int i = 0; i < OPS; i++)
		q_enqueue(q, message, BYTES, NULL, 0);
}

PATH(enqueue_batch)
{
	q_enqueue_batch(q, items, OPS, NULL, &n, 0);
}

PATH(one_enqueue_one)
{
	for (int i = 0; i < OPS; i++)
		q_enqueue(one, message, BYTES, NULL, 0);
}

PATH(one_enqueue_batch)
{
	q_enqueue_batch(one, items, OPS, NULL, &n, 0);
}

PATH(poll_one)
{
	for (int i = 0; i < OPS; i++)
		q_poll_results(q, done + i, 1, &n);
}

PATH(poll_batch)
{
	q_poll_results(q, done, OPS, &n);
}

PATH(release_one)
{
	for (int i = 0; i < OPS; i++)
		q_release(q, ids[i]);
}

PATH(release_batch)
{
	q_release_batch(q, ids, OPS);
}

PATH(take_one)
{
	for (int i = 0; i < OPS; i++)
		q_take_results(q, done + i, 1, buffer, sizeof(buffer), &n);
}

PATH(take_batch)
{
	q_take_results(q, done, OPS, buffer, sizeof(buffer), &n);
}

PATH(wait_and_dequeue)
{
	for (int i = 0; i < OPS; i++) {
		size_t len = BYTES;

		q_wait(q, ids[i], 0);
		q_try_dequeue_result(q, ids[i], buffer, &len);
	}
}

PATH(poll_nothing)
{
	for (int i = 0; i < OPS; i++)
		q_poll_results(q, done, OPS, &n);
}

/* `messages` that were enqueued on the paused queue are in the completion ring, and no call has
 * noticed. */
static void await_completions(GpuQueue *of, uint32_t messages)
{
	uint32_t slot, outcome;

	must(q_resume(of) == Q_OK, "q_resume");
	while (gq_look_at_done(&of->ch, gq_load_relaxed_u64(of->ch.done.head) + messages - 1, &slot,
			       &outcome) != GQ_WHOLE)
		gq__await_step(100);
	must(q_pause(of, UINT32_MAX) == Q_OK, "q_pause");
}

static void round_of(void (*enqueue)(void), void (*take)(void), void (*release)(void))
{
	forget_lines();
	enqueue();
	await_completions(q, OPS);
	forget_lines();
	take();
	for (int i = 0; i < OPS; i++) {
		must(done[i].status == Q_OK && done[i].result_len == BYTES, "a result");
		ids[i] = done[i].msg_id;
	}
	if (release != NULL) {
		forget_lines();
		release();
	}
	forget_lines();
	path_poll_nothing();
	must(n == 0, "nothing is left");
}

static void round_of_waiting(void)
{
	must(q_enqueue_batch(q, items, OPS, ids, &n, 0) == Q_OK && n == OPS, "q_enqueue_batch");
	await_completions(q, OPS);
	memset(buffer, 1, BYTES);
	forget_lines();
	path_wait_and_dequeue();
	must(memcmp(buffer, message, BYTES) == 0, "a result");
}

/* Off the queue again, by no path. */
static void take_all(GpuQueue *of, uint32_t messages)
{
	for (uint32_t taken = 0; taken < messages; taken += (uint32_t)n)
		must(q_take_results(of, done, OPS, buffer, sizeof(buffer), &n) == Q_OK && n != 0,
		     "q_take_results");
}

static void round_of_one_producer(void (*enqueue)(void))
{
	forget_lines();
	enqueue();
	await_completions(one, OPS);
	take_all(one, OPS);
}

static void round_of_consumer(void)
{
	for (int i = 0; i < BACKLOG; i += OPS)
		must(q_enqueue_batch(q, items, OPS, NULL, &n, 0) == Q_OK && n == OPS,
		     "q_enqueue_batch");
	consumed = 0;
	counting = true; /* the consumer stands still until it is told to go on */
	forget_lines();
	await_completions(q, BACKLOG);
	counting = false;
	must(consumed == BACKLOG, "the consumer's messages");
	take_all(q, BACKLOG);
}

static GpuQueue *make(uint64_t flags)
{
	const QueueConfig cfg = { .capacity = 1024,
				  .slot_bytes = BYTES,
				  .device = Q_DEVICE_CPU,
				  .consumers = 1,
				  .flags = flags,
				  .processor = "answer" };
	GpuQueue *made = q_init(&cfg);

	must(made != NULL, "q_init");
	must(q_pause(made, UINT32_MAX) == Q_OK, "q_pause");
	return made;
}

int main(void)
{
	static const QProcessorImage image = { .magic = Q_PROCESSOR_MAGIC,
					       .protocol_version = Q_PROTOCOL_VERSION,
					       .name = "answer",
					       .cpu = answer };

	q_register_processor(&image);
	q = make(0);
	one = make(Q_ONE_PRODUCER);
	for (int i = 0; i < OPS; i++)
		items[i] = (EnqueueItem){ message, BYTES };
	for (int i = 0; i < ROUNDS; i++) {
		round_of(path_enqueue_one, path_poll_one, path_release_one);
		round_of(path_enqueue_batch, path_poll_batch, path_release_batch);
		round_of(path_enqueue_batch, path_take_batch, NULL);
		round_of(path_enqueue_batch, path_take_one, NULL);
		round_of_one_producer(path_one_enqueue_one);
		round_of_one_producer(path_one_enqueue_batch);
	}
	for (int i = 0; i < ROUNDS; i++) /* a later poll would pass over what these have taken */
		round_of_waiting();
	round_of_consumer();
	/* Each path, and how many messages it was called for. */
	printf("enqueue_one %d\npoll_one %d\nrelease_one %d\n", OPS * ROUNDS, OPS * ROUNDS,
	       OPS * ROUNDS);
	printf("enqueue_batch %d\npoll_batch %d\nrelease_batch %d\n", 3 * OPS * ROUNDS,
	       OPS * ROUNDS, OPS * ROUNDS);
	printf("take_batch %d\ntake_one %d\npoll_nothing %d\n", OPS * ROUNDS, OPS * ROUNDS,
	       4 * OPS * ROUNDS);
	printf("wait_and_dequeue %d\none_enqueue_one %d\none_enqueue_batch %d\n", OPS * ROUNDS,
	       OPS * ROUNDS, OPS * ROUNDS);
	printf("consume %d\n", COUNTED);
	q_shutdown(one);
	q_shutdown(q);
	return 0;
}
