/* SPDX-License-Identifier: Apache-2.0 */
/* inside.c - a library of somebody's with libgpuq.a inside. */
#include <gpuq/gpuq.h>

int inside_echo(void);
const void *inside_address(void);

int inside_echo(void)
{
	const QueueConfig cfg = {
		.capacity = 2, .slot_bytes = 16, .processor = "echo", .device = Q_DEVICE_CPU
	};
	GpuQueue *q = q_init(&cfg);
	char result[16];
	size_t len = sizeof(result);
	uint64_t id;
	int worked;

	if (q == NULL)
		return 0;
	worked = q_enqueue(q, "ping", 4, &id, 1000) == Q_OK && q_wait(q, id, 10000) == Q_OK &&
		 q_try_dequeue_result(q, id, result, &len) == Q_OK && len == 4;
	q_shutdown(q);
	return worked;
}

const void *inside_address(void)
{
	return (const void *)(uintptr_t)&q_init;
}
