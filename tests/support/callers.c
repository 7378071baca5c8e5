/* SPDX-License-Identifier: Apache-2.0 */
#include "callers.h"

#include "support.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

BrokerClient *connect_to_services(const char *endpoint)
{
	const BrokerConfig cfg = { .endpoint = endpoint, .timeout_ms = LONG_MS };
	BrokerClient *c = q_broker_connect(&cfg);

	if (c == NULL)
		fail_msg("%s", q_last_error());
	return c;
}

BrokerClient *connect_stranger(const char *endpoint)
{
	BrokerClient *c;

	assert_int_equal(seteuid(65534), 0);
	c = connect_to_services(endpoint);
	assert_int_equal(seteuid(0), 0);
	return c;
}

BrokerClient *connect_worker(const char *endpoint, const BrokerService *service)
{
	BrokerClient *c = connect_to_services(endpoint);

	if (q_service_register(c, service) != Q_OK)
		fail_msg("%s", q_last_error());
	return c;
}

BrokerReply await_end(BrokerClient *c, uint64_t id, QueueStatus status, const char *text)
{
	BrokerReply r = { 0 };
	char reply[64];
	size_t n = sizeof(reply);

	if (q_broker_wait(c, id, reply, &n, &r, LONG_MS) != status)
		fail_msg("it ended %d: %s", (int)r.status, q_last_error());
	if (id != 0) /* else: whichever ends */
		assert_int_equal(r.id, id);
	if (text != NULL) {
		assert_int_equal(n, strlen(text));
		assert_memory_equal(reply, text, n);
	}
	return r;
}

uint64_t services_count_on(BrokerClient *c, const char *name)
{
	char text[4096] = "\n", word[64];
	size_t n = sizeof(text) - 1;
	const char *at;

	assert_status(q_broker_stats(c, text + 1, &n), Q_OK);
	snprintf(word, sizeof(word), "\n%s\t", name);
	at = strstr(text, word);
	if (at == NULL)
		fail_msg("there is no count '%s'", name);
	return strtoull(at + strlen(word), NULL, 10);
}

uint64_t services_count(const char *endpoint, const char *name)
{
	BrokerClient *c = connect_to_services(endpoint);
	const uint64_t n = services_count_on(c, name);

	q_broker_close(c);
	return n;
}

BrokerClient *connect_ready_worker(const char *endpoint, const char *name, const char *can,
				   uint32_t capacity)
{
	const BrokerService s = { .name = name, .capability = can, .capacity = capacity };
	BrokerClient *w = connect_worker(endpoint, &s);

	assert_status(q_service_heartbeat(w, NULL), Q_OK);
	return w;
}

BrokerServiceInfo services_look(BrokerClient *c, const char *name)
{
	BrokerServiceInfo info[4];
	size_t n = 0;

	assert_status(q_broker_discover(c, NULL, info, 4, &n), Q_OK);
	for (size_t i = 0; i < n; i++)
		if (strcmp(info[i].name, name) == 0)
			return info[i];
	fail_msg("there is no service '%s'", name);
	return info[0];
}

void services_await_count(const char *endpoint, const char *name, uint64_t value)
{
	for (unsigned i = 0; services_count(endpoint, name) != value; i++) {
		if (i == LONG_MS)
			fail_msg("%s is %llu", name,
				 (unsigned long long)services_count(endpoint, name));
		nap_ms(1);
	}
}

static unsigned ready_services(const char *endpoint)
{
	BrokerClient *c = connect_to_services(endpoint);
	static BrokerServiceInfo info[128];
	unsigned ready = 0;
	size_t n;

	assert_status(q_broker_discover(c, NULL, info, 128, &n), Q_OK);
	q_broker_close(c);
	for (size_t i = 0; i < n; i++)
		ready += strcmp(info[i].state, "ready") == 0 || strcmp(info[i].state, "busy") == 0;
	return ready;
}

void services_await_ready(const char *endpoint, unsigned services)
{
	unsigned ready;

	for (unsigned i = 0; (ready = ready_services(endpoint)) != services; i++) {
		if (i == LONG_MS)
			fail_msg("%u services are ready, not %u", ready, services);
		nap_ms(1);
	}
}

void services_settle(const char *endpoint, BrokerClient *c)
{
	(void)services_count_on(c, "inside");
	(void)services_count(endpoint, "inside");
}

void services_await_just(const char *endpoint, BrokerClient *c, BrokerClient *w, BrokerRequest *to,
			 unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		assert_status(q_service_recv(w, &to[i], LONG_MS), Q_OK);
	services_settle(endpoint, c);
	assert_status(q_service_recv(w, &to[n], 0), Q_ERR_TIMEOUT);
}
