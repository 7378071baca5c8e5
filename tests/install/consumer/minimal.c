/* SPDX-License-Identifier: Apache-2.0 */
/*
 * minimal.c - minimal MASK [PROCESSOR [OPCODE]]: sends 512 bytes through the processor (default,
 * and for "": the linked one) and checks that each comes back with MASK's bits flipped.
 */
#include <gpuq/gpuq.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHECK(condition)                                                                           \
	do {                                                                                       \
		if (!(condition)) {                                                                \
			fprintf(stderr, "%s:%d: not true: %s (%s)\n", __FILE__, __LINE__,          \
				#condition, q_last_error());                                       \
			return 1;                                                                  \
		}                                                                                  \
	} while (0)

int main(int argc, char **argv)
{
	QueueConfig cfg = { .capacity = 4096, .slot_bytes = 2048 };
	EnqueueOptions options = { .opcode = 0 };
	unsigned char message[512];
	unsigned char result[512];
	size_t len = sizeof(result);
	QueueStats stats;
	uint64_t id;
	int mask;
	GpuQueue *q;

	CHECK(argc >= 2 && argc <= 4);
	mask = atoi(argv[1]);
	if (argc >= 3)
		cfg.processor = argv[2];
	if (argc == 4)
		options.opcode = (uint32_t)strtoul(argv[3], NULL, 10);
	for (size_t i = 0; i < sizeof(message); i++)
		message[i] = (unsigned char)(i * 7);

	q = q_init(&cfg);
	CHECK(q != NULL);
	CHECK(q_enqueue_ex(q, message, sizeof(message), &options, &id, 1000) == Q_OK);
	CHECK(q_wait(q, id, 10000) == Q_OK);
	CHECK(q_try_dequeue_result(q, id, result, &len) == Q_OK);
	CHECK(len == sizeof(message));
	for (size_t i = 0; i < sizeof(message); i++)
		CHECK(result[i] == (message[i] ^ mask));

	CHECK(q_stats(q, &stats) == Q_OK);
	CHECK(stats.enq_count == 1 && stats.deq_count == 1 && stats.queue_depth == 0);
	CHECK(stats.failed == 0 && stats.dropped_full == 0);
	printf("libgpuq %s: %llu message in, %llu result out\n", q_version(),
	       (unsigned long long)stats.enq_count, (unsigned long long)stats.deq_count);
	q_shutdown(q);
	return 0;
}
