/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_broker_fair.c - a queue that clients of several users want: a dispatcher of this process,
 * and clients in memory of the test's own.
 */
#include "ends.h"
#include "support.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MANY = 8, EACH = 512, HOLDS = 1 << 8 };

/* The messages as they run, each with a number of its client's in it, below HOLDS. One with a bit
 * more holds all others; the nth such one until `let_go` is n. */
static uint32_t holds, holding, let_go, ran, nap_us;
static uint64_t order[(MANY + 1) * EACH];

static void record(const MsgView *in, ResultView *out)
{
	const uint32_t i = gq_load_seq_cst_u32(&ran);
	uint64_t client;

	memcpy(&client, in->payload, sizeof(client));
	if ((client & HOLDS) != 0) {
		gq_exchange_seq_cst_u32(&holding, ++holds);
		while (gq_load_seq_cst_u32(&let_go) < holds)
			nap_ms(1);
	}
	if (nap_us != 0)
		usleep(nap_us);
	order[i % (sizeof(order) / sizeof(order[0]))] = client % HOLDS;
	gq_exchange_seq_cst_u32(&ran, i + 1);
	*out->out_len = 0;
}

static const QProcessorImage recorder = { .magic = Q_PROCESSOR_MAGIC,
					  .protocol_version = Q_PROTOCOL_VERSION,
					  .granularity = Q_PER_WARP,
					  .name = "record_clients",
					  .cpu = record };

static unsigned runs_of(uint64_t client, uint32_t from, uint32_t to)
{
	unsigned n = 0;

	for (uint32_t i = from; i < to; i++)
		n += order[i] == client;
	return n;
}

static void send_some(struct end *e, uint64_t client, uint32_t n)
{
	while (n-- != 0)
		end_publish(e, e->sent, client);
}

static void await_runs(uint32_t n)
{
	for (unsigned i = 0; gq_load_seq_cst_u32(&ran) < n; i++) {
		assert_true(i < LONG_MS);
		nap_ms(1);
	}
}

/* A queue whose one consumer has a message that holds it: user 0 has sent it. */
static struct dispatcher *start(struct end *holder, uint32_t inline_us)
{
	struct dispatcher *d;

	holds = holding = let_go = ran = nap_us = 0;
	d = ends_start("record_clients", 16, inline_us);
	end_open(holder, 0, 8);
	end_publish(holder, 0, HOLDS - 1 + HOLDS);
	end_join(d, holder);
	end_await(&holding);
	return d;
}

static void end(struct dispatcher *d, struct end *e, unsigned ends, struct end *holder)
{
	for (unsigned i = 0; i < ends; i++)
		end_leave(d, &e[i]);
	end_leave(d, holder);
	dispatcher_end(d, NULL);
}

/* The user with eight clients has no more than the one with one, as long as both want something;
 * nor is anything left unused afterwards. */
static void expect_equal_shares(uint32_t inline_us)
{
	static struct end holder, e[MANY + 1];
	struct dispatcher *d = start(&holder, inline_us);

	for (unsigned i = 0; i <= MANY; i++) {
		end_open(&e[i], i < MANY, EACH);
		send_some(&e[i], i, EACH - (i == 0)); /* there is room for as many in `order` */
		end_join(d, &e[i]);
	}
	gq_exchange_seq_cst_u32(&let_go, 1);
	await_runs((MANY + 1) * EACH);
	/* By clients it would be a ninth. Before it: what was in the queue; at most a turn of 64
	 * messages more, and what each of eight clients has at least. */
	assert_in_range(runs_of(MANY, 0, 2 * EACH - 128), EACH - 200, EACH);
	end(d, e, MANY + 1, &holder);
}

static void a_users_share_does_not_grow_with_its_clients(void **state)
{
	(void)state;
	expect_equal_shares(0);
}

static void nor_does_it_where_the_dispatcher_runs_messages_itself(void **state)
{
	(void)state;
	expect_equal_shares(1000);
}

/* Room comes message by message, and the user of two clients is always ahead. */
static void none_of_a_users_clients_starves_for_the_others(void **state)
{
	static struct end holder, e[3];
	struct dispatcher *d = start(&holder, 0);

	(void)state;
	nap_us = 100;
	for (unsigned i = 0; i < 3; i++) {
		end_open(&e[i], i < 2, EACH);
		send_some(&e[i], i, EACH);
		end_join(d, &e[i]);
	}
	gq_exchange_seq_cst_u32(&let_go, 1);
	await_runs(128 + EACH);
	/* A quarter is each one's share, when the user of two is once a turn ahead. */
	assert_in_range(runs_of(0, 128, 128 + EACH), EACH / 4 - 32, EACH / 4 + 32);
	assert_in_range(runs_of(1, 128, 128 + EACH), EACH / 4 - 32, EACH / 4 + 32);
	end(d, e, 3, &holder);
}

/* Its user is ahead, and nothing goes on: what a client that stops has not begun ends all the same.
 */
static void what_is_only_cancelled_waits_for_nobody(void **state)
{
	static struct end holder, e[2];
	struct dispatcher *d = start(&holder, 0);

	(void)state;
	end_open(&e[0], 1, EACH);
	send_some(&e[0], 0, EACH);
	end_open(&e[1], 2, EACH);
	send_some(&e[1], 1, EACH / 4);
	send_some(&e[1], 1 + HOLDS, 1);
	send_some(&e[1], 1, EACH / 4);
	end_join(d, &e[0]);
	end_join(d, &e[1]);
	gq_exchange_seq_cst_u32(&holding, 0);
	gq_exchange_seq_cst_u32(&let_go, 1);
	end_await(&holding);
	gq_exchange_seq_cst_u64(&e[0].page->control, GQ_CONTROL_CANCEL);
	end_ring(&e[0]);
	for (unsigned i = 0;
	     gq_load_acquire_u64(&e[0].page->done_tail) < e[0].hello.start_pos + EACH - 16; i++) {
		assert_true(i < LONG_MS);
		nap_ms(1);
	}
	gq_exchange_seq_cst_u32(&let_go, 2);
	end(d, e, 2, &holder);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_users_share_does_not_grow_with_its_clients),
		cmocka_unit_test(nor_does_it_where_the_dispatcher_runs_messages_itself),
		cmocka_unit_test(none_of_a_users_clients_starves_for_the_others),
		cmocka_unit_test(what_is_only_cancelled_waits_for_nobody),
	};

	q_register_processor(&recorder);
	return cmocka_run_group_tests_name("broker_fair", tests, NULL, NULL);
}
