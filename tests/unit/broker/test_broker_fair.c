/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_broker_fair.c - a queue that clients of several users want: a dispatcher of this process,
 * and clients in memory of the test's own.
 */
#include "ends.h"
#include "support.h"

#include <stdlib.h>
#include <string.h>

enum { MANY = 8, EACH = 512, HOLDS = 99 };

/* The messages as they run: each has its user's number in it. The first one holds all. */
static uint32_t holding, let_go, ran;
static uint64_t order[(MANY + 1) * EACH + 1];

static void record(const MsgView *in, ResultView *out)
{
	uint64_t user;

	memcpy(&user, in->payload, sizeof(user));
	if (user == HOLDS) {
		gq_exchange_seq_cst_u32(&holding, 1);
		while (gq_load_seq_cst_u32(&let_go) == 0)
			nap_ms(1);
	} else {
		order[gq_load_seq_cst_u32(&ran)] = user;
		gq_exchange_seq_cst_u32(&ran, gq_load_seq_cst_u32(&ran) + 1);
	}
	*out->out_len = 0;
}

static const QProcessorImage recorder = { .magic = Q_PROCESSOR_MAGIC,
					  .protocol_version = Q_PROTOCOL_VERSION,
					  .granularity = Q_PER_WARP,
					  .name = "record_users",
					  .cpu = record };

static unsigned runs_of(uint64_t user, uint32_t from, uint32_t to)
{
	unsigned n = 0;

	for (uint32_t i = from; i < to; i++)
		n += order[i] == user;
	return n;
}

static void send_all(struct end *e, uint64_t user)
{
	for (uint64_t i = 0; i < EACH; i++)
		end_publish(e, i, user);
}

/* The one with eight clients has no more than the one with one, as long as both want something;
 * nor does it leave anything unused afterwards. */
static void a_users_share_does_not_grow_with_its_clients(void **state)
{
	static struct end first, many[MANY], one;
	struct dispatcher *d;

	(void)state;
	q_register_processor(&recorder);
	d = ends_start("record_users", 16);
	end_open(&first, 1, 8);
	end_publish(&first, 0, HOLDS);
	end_join(d, &first);
	end_await(&holding);
	for (unsigned i = 0; i < MANY; i++) {
		end_open(&many[i], 1, EACH);
		send_all(&many[i], 1);
		end_join(d, &many[i]);
	}
	end_open(&one, 2, EACH);
	send_all(&one, 2);
	end_join(d, &one);
	gq_exchange_seq_cst_u32(&let_go, 1);
	for (unsigned i = 0; gq_load_seq_cst_u32(&ran) != (MANY + 1) * EACH; i++) {
		assert_true(i < LONG_MS);
		nap_ms(1);
	}
	/* By clients it would be a ninth. Before it: what was in the queue; at most a turn of 64
	 * messages more, and what each of eight clients has at least. */
	assert_in_range(runs_of(2, 0, 2 * EACH - 128), EACH - 200, EACH);
	for (unsigned i = 0; i < MANY; i++)
		end_leave(d, &many[i]);
	end_leave(d, &one);
	end_leave(d, &first);
	dispatcher_end(d, NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_users_share_does_not_grow_with_its_clients),
	};

	return cmocka_run_group_tests_name("broker_fair", tests, NULL, NULL);
}
