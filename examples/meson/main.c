/* SPDX-License-Identifier: Apache-2.0 */
/* main.c - as in ../minimal: one message through the queue. */
#include <gpuq/gpuq.h>

#include <stdio.h>
#include <string.h>

static int failed(const char *what)
{
	fprintf(stderr, "%s: %s\n", what, q_last_error());
	return 1;
}

int main(int argc, char **argv)
{
	const QueueConfig cfg = { .capacity = 64, .slot_bytes = 256 };
	const char *text = argc > 1 ? argv[1] : "hello, queue";
	char result[256];
	size_t len = sizeof(result);
	uint64_t id;
	GpuQueue *q;

	q = q_init(&cfg); /* cfg.processor is NULL: the one linked into this program */
	if (q == NULL)
		return failed("q_init");
	if (q_enqueue(q, text, strlen(text), &id, UINT32_MAX) != Q_OK)
		return failed("q_enqueue");
	if (q_wait(q, id, UINT32_MAX) != Q_OK)
		return failed("q_wait");
	if (q_try_dequeue_result(q, id, result, &len) != Q_OK)
		return failed("q_try_dequeue_result");
	printf("%.*s\n", (int)len, result);
	q_shutdown(q);
	return 0;
}
