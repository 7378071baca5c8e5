/* SPDX-License-Identifier: Apache-2.0 */
/*
 * count_policy.c - what a decision of the broker costs, in instructions: LB-9, choosing one of 100
 * services, by each algorithm; RL-7, asking a limiter.
 *
 * Each path is a function path_CRITERION_NAME(), which callgrind collects in alone; one call of it
 * is OPS decisions. `count_policy time` prints what they take here, in ns.
 */
#include "broker/policy/balance.h"
#include "broker/policy/limiter.h"

#include "count.h"

#include <inttypes.h>
#include <string.h>
#include <time.h>

enum { OPS = 32, ROUNDS = 64, SERVICES = 100, TIMED_ROUNDS = 20000 };
#define MS UINT64_C(1000000)

static struct gq_balance balances[GQ_BALANCE_ALGORITHMS];
static struct gq_limiter limiter;
static uint64_t now_ns, seed, surplus[GQ_PLACES];

/* They come and go, a request each 100 us, and say how they fare. */
static inline void choose(enum gq_balance_algorithm algorithm)
{
	const struct gq_balance_request want = { .surplus = surplus };
	struct gq_balance *b = &balances[algorithm];
	uint32_t place[OPS];

	for (int i = 0; i < OPS; i++)
		must(gq__balance_pick(b, &want, now_ns += MS / 10, &seed, &place[i]) ==
			     GQ_BALANCE_OK,
		     "nothing could be chosen");
	for (int i = 0; i < OPS; i++)
		gq__balance_done(b, place[i], MS + place[i], now_ns);
}

#define LB_9(name, algorithm)                                                                      \
	PATH(lb_9_##name)                                                                          \
	{                                                                                          \
		choose(algorithm);                                                                 \
	}
LB_9(round_robin, GQ_BALANCE_ROUND_ROBIN)
LB_9(weighted, GQ_BALANCE_WEIGHTED)
LB_9(least_conn, GQ_BALANCE_LEAST_CONNECTIONS)
LB_9(least_response, GQ_BALANCE_LEAST_RESPONSE)
LB_9(load, GQ_BALANCE_LOAD)
LB_9(random, GQ_BALANCE_RANDOM)
LB_9(priority, GQ_BALANCE_PRIORITY)
LB_9(capability, GQ_BALANCE_CAPABILITY)

PATH(rl_7_limiter)
{
	uint64_t retry_ns;

	for (int i = 0; i < OPS; i++) {
		now_ns += MS / 1000;
		if (gq__limiter_peek(&limiter, 1, now_ns, &retry_ns))
			gq__limiter_commit(&limiter, 1, now_ns);
	}
}

static const struct {
	const char *name;
	void (*path)(void);
} paths[] = {
	{ "lb_9_round_robin", path_lb_9_round_robin },
	{ "lb_9_weighted", path_lb_9_weighted },
	{ "lb_9_least_conn", path_lb_9_least_conn },
	{ "lb_9_least_response", path_lb_9_least_response },
	{ "lb_9_load", path_lb_9_load },
	{ "lb_9_random", path_lb_9_random },
	{ "lb_9_priority", path_lb_9_priority },
	{ "lb_9_capability", path_lb_9_capability },
	{ "rl_7_limiter", path_rl_7_limiter },
};

static void set_up(void)
{
	for (uint32_t k = 0; k < GQ_BALANCE_ALGORITHMS; k++) {
		const struct gq_balance_config config = { .algorithm = (enum gq_balance_algorithm)k,
							  .inner = GQ_BALANCE_LEAST_CONNECTIONS };

		must(gq__balance_init(&balances[k], &config) == GQ_BALANCE_OK, "init");
		for (uint32_t i = 0; i < SERVICES; i++) {
			must(gq__balance_join(&balances[k], i, 1 + i % 7, (uint8_t)(i % 3), 0) ==
				     GQ_BALANCE_OK,
			     "join");
			gq__balance_report(&balances[k], i, i * 10, 1000, 1);
			surplus[i] = i % 9;
		}
	}
	must(gq__limiter_init(&limiter, 500000, 100), "limiter");
	now_ns = 1;
	seed = 1;
}

static uint64_t clock_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

int main(int argc, char **argv)
{
	const bool timed = argc > 1 && strcmp(argv[1], "time") == 0;

	set_up();
	for (size_t k = 0; k < sizeof(paths) / sizeof(paths[0]); k++) {
		const int rounds = timed ? TIMED_ROUNDS : ROUNDS;
		const uint64_t before_ns = clock_ns();

		for (int i = 0; i < rounds; i++) {
			if (!timed)
				forget_lines();
			paths[k].path();
		}
		if (timed)
			printf("%s %.1f ns\n", paths[k].name,
			       (double)(clock_ns() - before_ns) / rounds / OPS);
		else
			printf("%s %d\n", paths[k].name, rounds * OPS);
	}
	return 0;
}
