/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_service_schedule.c - in which order requests that wait go, with schedule = strict. gpuqd is
 * a process of its own; callers and the worker are connections of this one thread.
 */
#include "callers.h"
#include "daemon.h"
#include "support.h"

#include <gpuq/broker.h>

#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MANY = 60, CLASSES = 4 };

static struct daemon d;

static void begin(const char *schedule)
{
	daemon_set_up(&d, "", schedule);
	assert_int_equal(chmod(d.folder, 0755), 0);
}

static void end(void)
{
	services_await_count(d.broker, "inside", 0);
	daemon_tear_down(&d);
}

/* Its number is what the worker sees. */
static void submit(BrokerClient *c, const char *op, uint8_t priority, uint32_t number)
{
	const BrokerCall call = { .service = op,
				  .payload = &number,
				  .bytes = sizeof(number),
				  .priority = priority,
				  .timeout_ms = LONG_MS };
	uint64_t id;

	assert_status(q_broker_submit(c, &call, &id), Q_OK);
}

static uint32_t number_of(const BrokerRequest *q)
{
	uint32_t number;

	assert_int_equal(q->bytes, sizeof(number));
	memcpy(&number, q->payload, sizeof(number));
	return number;
}

static void answer(BrokerClient *w, BrokerRequest *q)
{
	assert_status(q_service_reply(w, q, Q_REASON_OK, NULL, 0), Q_OK);
}

/* The one place of the worker is taken; what comes now waits until it is answered. */
static void occupy(BrokerClient *c, BrokerClient *w, BrokerRequest *first)
{
	submit(c, "work", 128, 0);
	assert_status(q_service_recv(w, first, LONG_MS), Q_OK);
}

static void next_is(BrokerClient *w, BrokerRequest *q, uint32_t number)
{
	answer(w, q);
	assert_status(q_service_recv(w, q, LONG_MS), Q_OK);
	assert_int_equal(number_of(q), number);
}

static void all_end(BrokerClient *c, unsigned n)
{
	while (n-- > 0)
		(void)await_end(c, 0, Q_OK, NULL);
}

static void q_1_a_strict_schedule_goes_by_class_and_then_by_arrival(void **state)
{
	static const uint8_t priorities[CLASSES] = { 255, 192, 128, 1 };
	uint32_t order[CLASSES][MANY], counts[CLASSES] = { 0 }, random = 1;
	BrokerClient *c, *w;
	BrokerRequest q;

	(void)state;
	begin("schedule = strict\nheartbeat_ms = 60s\n");
	w = connect_ready_worker(d.broker, "w", "op=work op=play", 1);
	c = connect_to_services(d.broker);
	occupy(c, w, &q);
	for (uint32_t i = 1; i < MANY; i++) {
		const uint32_t k = (random = random * 1103515245 + 12345) >> 16 & 3;

		order[k][counts[k]++] = i;
		submit(c, (random >> 20 & 1) != 0 ? "work" : "play", priorities[k], i);
	}
	services_settle(d.broker, c);
	for (unsigned k = 0; k < CLASSES; k++)
		for (uint32_t i = 0; i < counts[k]; i++)
			next_is(w, &q, order[k][i]);
	answer(w, &q);
	all_end(c, MANY);
	q_broker_close(c);
	q_broker_close(w);
	end();
}

/* Its worker has sent it back: it goes before those that have come later. */
static void q_1_what_is_tried_again_keeps_its_place(void **state)
{
	BrokerClient *c, *w;
	BrokerRequest q, first;

	(void)state;
	begin("schedule = strict\nheartbeat_ms = 60s\n");
	w = connect_ready_worker(d.broker, "w", "op=work", 1);
	c = connect_to_services(d.broker);
	occupy(c, w, &q);
	for (uint32_t i = 1; i <= 5; i++)
		submit(c, "work", 128, i);
	services_settle(d.broker, c);
	next_is(w, &q, 1);
	first = q;
	assert_status(q_service_reply(w, &first, Q_REASON_OVERLOADED, NULL, 0), Q_OK);
	assert_status(q_service_recv(w, &q, LONG_MS), Q_OK);
	assert_int_equal(number_of(&q), 2);
	services_await_count(d.broker, "waiting", 4); /* it has rested */
	next_is(w, &q, 1);
	for (uint32_t i = 3; i <= 5; i++)
		next_is(w, &q, i);
	answer(w, &q);
	all_end(c, 6);
	q_broker_close(c);
	q_broker_close(w);
	end();
}

/* Where classes share by weight, users take turns. */
static void q_1_a_strict_schedule_does_not_look_at_users(void **state)
{
	BrokerClient *a, *b, *w;
	BrokerRequest q;

	(void)state;
	if (geteuid() != 0)
		skip(); /* it takes two users */
	begin("schedule = strict\nsocket_mode = 0666\nheartbeat_ms = 60s\n");
	w = connect_ready_worker(d.broker, "w", "op=work", 1);
	a = connect_to_services(d.broker);
	b = connect_stranger(d.broker);
	occupy(a, w, &q);
	for (uint32_t i = 1; i <= 20; i++)
		submit(a, "work", 128, i);
	services_settle(d.broker, a);
	submit(b, "work", 128, 21);
	services_settle(d.broker, b);
	for (uint32_t i = 1; i <= 21; i++)
		next_is(w, &q, i);
	answer(w, &q);
	all_end(a, 21);
	all_end(b, 1);
	q_broker_close(a);
	q_broker_close(b);
	q_broker_close(w);
	end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(q_1_a_strict_schedule_goes_by_class_and_then_by_arrival),
		cmocka_unit_test(q_1_what_is_tried_again_keeps_its_place),
		cmocka_unit_test(q_1_a_strict_schedule_does_not_look_at_users),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
