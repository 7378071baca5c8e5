/* SPDX-License-Identifier: Apache-2.0 */
/*
 * count_broker.c - OB-6: what it costs gpuqd to count a message of a queue, at its claim and at its
 * end. What all of it costs is measured by hand (docs/results); here is held what that depends on:
 * some instructions, no locked operation, and few lines.
 *
 * path_ob_6_counting() is collected in alone by callgrind; one call of it is OPS messages.
 * `count_broker time` prints what a message takes here: CPU time in ns, the best of five.
 */
#include "broker/tally.h"

#include "count.h"

#include <string.h>
#include <time.h>

enum { OPS = 32, ROUNDS = 64, TIMED_ROUNDS = 60000 };

/* Where they lie in their lines is not left to what is declared before them. */
static GQ_ALIGNED(GQ_LINE) struct page_queue shown;
static GQ_ALIGNED(GQ_LINE) struct tally tally = { .counts = &shown };
struct message {
	uint64_t claimed_ns;
	uint32_t class, len, outcome;
};
static GQ_ALIGNED(GQ_LINE) struct message messages[OPS], mixed[OPS];
static uint64_t now_ns = 1u << 20;

/* As a dispatcher does that runs very short messages: the clock is read once for eight of them. */
static inline __attribute__((always_inline)) void count(const struct message m[OPS])
{
	for (int i = 0; i < OPS; i += 8) {
		for (int k = i; k < i + 8; k++)
			tally_claimed(&tally, m[k].class, m[k].len);
		for (int k = i; k < i + 8; k++)
			tally_ended(&tally, m[k].class, m[k].outcome, m[k].claimed_ns, now_ns);
		tally_settle(&tally, now_ns);
	}
}

PATH(ob_6_counting)
{
	count(messages);
}

/* Of all classes, claimed at different times, and one in eight expires: each is counted alone. */
PATH(ob_6_mixed)
{
	count(mixed);
}

static uint64_t cpu_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

static double best_ns(void)
{
	uint64_t best = UINT64_MAX;

	for (int i = 0; i < 5; i++) {
		const uint64_t before = cpu_ns();
		uint64_t took;

		for (int k = 0; k < TIMED_ROUNDS; k++)
			path_ob_6_counting();
		took = cpu_ns() - before;
		best = took < best ? took : best;
	}
	return (double)best / TIMED_ROUNDS / OPS;
}

static uint64_t accepted(void)
{
	uint64_t n = 0;

	for (uint32_t k = 0; k < PAGE_CLASSES; k++)
		n += shown.accepted[k];
	return n;
}

static uint64_t ended(void)
{
	uint64_t n = 0;

	for (uint32_t k = 0; k < PAGE_CLASSES; k++)
		for (uint32_t i = 0; i < PAGE_OUTCOMES; i++)
			n += shown.ended[k][i];
	return n;
}

int main(int argc, char **argv)
{
	const bool timed = argc > 1 && strcmp(argv[1], "time") == 0;

	for (uint32_t i = 0; i < OPS; i++) {
		messages[i] = (struct message){ .claimed_ns = now_ns -
							      i / 8 * 1000u, /* eight at a time */
						.class = Q_PRIORITY_NORMAL - 1,
						.len = 64,
						.outcome = 64 };
		mixed[i] = (struct message){ .claimed_ns = now_ns - (i << i % 16),
					     .class = i % GQ_CLASSES,
					     .len = 64,
					     .outcome = i % 8 == 7 ? GQ_OUTCOME_EXPIRED : 64 };
	}
	if (timed) {
		printf("ob_6_counting %.2f ns\n", best_ns());
		return 0;
	}
	for (int i = 0; i < ROUNDS; i++) {
		forget_lines();
		path_ob_6_counting();
		forget_lines();
		path_ob_6_mixed();
	}
	must(accepted() == (uint64_t)2 * OPS * ROUNDS && ended() == accepted(), "it has counted");
	printf("ob_6_counting %d\nob_6_mixed %d\n", OPS * ROUNDS, OPS * ROUNDS);
	return 0;
}
