/* SPDX-License-Identifier: Apache-2.0 */
/*
 * stress_exactly_once.c - with everything racing with everything, each message is processed once
 * and delivered once, with its own result.
 *
 * Every pair of a capacity and a start position comes up in every round; the rest is drawn.
 */
#include "stress.h"

#include <inttypes.h>

static const uint32_t capacities[] = { 1, 2, 4, 64, 1024 };
static const uint64_t starts[] = { 1, (UINT64_C(1) << 32) - 3, (UINT64_C(1) << 63) - 3,
				   0 - UINT64_C(3), 0 - UINT64_C(1) };
static const uint32_t slot_bytes[] = { 16, 24, 64, 100, 1000 };
static const uint32_t result_bytes[] = { 16, 64, 333 };
static const uint32_t parks[] = { 0, 0, 1, UINT32_MAX };

enum { N_CAPACITIES = 5, N_STARTS = 5 };

static struct traffic_config draw(uint32_t n, uint32_t messages)
{
	struct rng r = rng_of(n + 0xd4a3);
	struct traffic_config config = {
		.capacity = capacities[n % N_CAPACITIES],
		.start_pos = starts[n / N_CAPACITIES % N_STARTS],
		.consumers = 1 + rng_below(&r, 4),
		.producers = 1 + rng_below(&r, 4),
		.takers = 1 + rng_below(&r, 4),
		.slot_bytes = slot_bytes[rng_below(&r, 5)],
		.result_bytes = result_bytes[rng_below(&r, 3)],
		.idle_park_ms = parks[rng_below(&r, 4)],
		.messages = stress_scaled(messages),
		.pauses = rng_one_in(&r, 3),
		.gaps = rng_one_in(&r, 3),
		.descriptor = rng_one_in(&r, 3),
		.stream = n,
	};

	config.one_producer = rng_one_in(&r, 4);
	if (config.one_producer)
		config.producers = 1;
	return config;
}

static void every_message_is_processed_and_delivered_exactly_once(void **state)
{
	const uint32_t rounds = stress_scaled(6);

	(void)state;
	for (uint32_t n = 0; n < rounds * N_CAPACITIES * N_STARTS; n++) {
		struct traffic_config config = draw(n, 1500);

		traffic_run(&config);
	}
}

static void a_stop_in_the_middle_loses_nothing_and_delivers_nothing_twice(void **state)
{
	static const uint32_t timeouts[] = { 0, 1, 20, UINT32_MAX };
	const uint32_t rounds = stress_scaled(6);

	(void)state;
	for (uint32_t n = 0; n < rounds * N_CAPACITIES * N_STARTS; n++) {
		struct traffic_config config = draw(n + 10000 * N_CAPACITIES * N_STARTS, 4000);
		struct rng r = rng_of(config.stream);

		config.stop_midway = true;
		config.stoppers = 1 + rng_below(&r, 4);
		config.stop_timeout_ms = timeouts[rng_below(&r, 4)];
		traffic_run(&config);
	}
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_message_is_processed_and_delivered_exactly_once),
		cmocka_unit_test(a_stop_in_the_middle_loses_nothing_and_delivers_nothing_twice),
	};

	stress_begin(argc, argv);
	return cmocka_run_group_tests_name("stress.exactly_once", tests, NULL, NULL);
}
