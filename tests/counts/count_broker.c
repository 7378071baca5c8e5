/* SPDX-License-Identifier: Apache-2.0 */
/*
 * count_broker.c - OB-6: what it costs gpuqd to count a message of a queue, at its claim and at its
 * end. What all of it costs is measured by hand (docs/results); here is held what that depends on:
 * some instructions, no locked operation, and few lines.
 *
 * path_ob_6_counting() is collected in alone by callgrind; one call of it is OPS messages.
 */
#include "broker/client.c" /* its counting is its own */

#include "count.h"

enum { OPS = 32, ROUNDS = 64 };

/* Where they lie in their lines is not left to what is declared before them. */
static GQ_ALIGNED(GQ_LINE) struct page_queue shown;
static GQ_ALIGNED(GQ_LINE) struct client client = { .counts = &shown };
static GQ_ALIGNED(GQ_LINE) struct record records[OPS];
static uint32_t outcomes[OPS];

PATH(ob_6_counting)
{
	for (int i = 0; i < OPS; i++)
		count_claim(&client, &records[i]);
	for (int i = 0; i < OPS; i++)
		count_end(&client, &records[i], outcomes[i]);
}

int main(void)
{
	client.now_ns = 1u << 20;
	for (uint32_t i = 0; i < OPS; i++) {
		records[i].options.priority = 1 + i % GQ_CLASSES;
		records[i].len = 64;
		records[i].claimed_ns = client.now_ns - (i << i % 16);
		outcomes[i] = i % 8 == 7 ? GQ_OUTCOME_EXPIRED : 64;
	}
	for (int i = 0; i < ROUNDS; i++) {
		forget_lines();
		path_ob_6_counting();
	}
	must(client.ended == (uint64_t)OPS * ROUNDS, "it has counted");
	printf("ob_6_counting %d\n", OPS * ROUNDS);
	return 0;
}
