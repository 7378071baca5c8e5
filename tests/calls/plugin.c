/* SPDX-License-Identifier: Apache-2.0 */
/* plugin.c - a plug-in with a processor that registers itself; with the library inside, if asked.
 */
#include <gpuq/gpuq.h>
#include <gpuq/processor.h>

#include <time.h>

/* Opcode 1: takes 200 ms. */
void process_message(const MsgView *in, ResultView *out)
{
	const struct timespec nap = { 0, 200000000 };

	if (in->opcode == 1)
		nanosleep(&nap, NULL);
	out->out[0] = 'p';
	*out->out_len = 1;
}

Q_PROCESSOR_REGISTER("plugged");

#if defined(WITH_LIBRARY)
static GpuQueue *queue;

__attribute__((visibility("default"))) int plugin_start(void);
__attribute__((visibility("default"))) int plugin_use(void);
__attribute__((visibility("default"))) void plugin_stop(void);

int plugin_start(void)
{
	const QueueConfig cfg = { .capacity = 4, .slot_bytes = 16, .device = Q_DEVICE_CPU };

	queue = q_init(&cfg);
	return queue != NULL;
}

int plugin_use(void)
{
	uint64_t id;

	return q_enqueue(queue, "x", 1, &id, 1000) == Q_OK && q_wait(queue, id, 10000) == Q_OK &&
	       q_release(queue, id) == Q_OK;
}

void plugin_stop(void)
{
	q_shutdown(queue);
}
#endif
