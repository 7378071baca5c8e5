/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ways.h - a router of gpuqd's services as a thread of this process, with a door of each transport,
 * and tests that run once over each. A test's *state is its `struct way`. Each function but try_*
 * fails the test if it cannot do what it says.
 */
#ifndef GPUQ_TEST_WAYS_H
#define GPUQ_TEST_WAYS_H

#include "callers.h"
#include "support.h"

#include "broker/service/service.h"
#include "host/service/state.h"

#include <gpuq/broker.h>

struct house {
	struct router *router;
	struct router_config cfg;
	char folder[40];
};

/* The one of most tests: from ways_run() on. */
extern struct house usual;
/* Whether this machine can have them: only then are they among the transports. */
extern bool has_netlink, has_chardev;

/* How often somebody connects is of some cases alone. */
struct router_config unhurried(void);
void open_house(struct house *h, const struct router_config *cfg);
void close_house(struct house *h);
/* A port of netlink that no other test has. */
uint32_t next_port(void);
/* Where the device is to be, for the configuration; one that no other test has. */
void name_chardev(struct house *h);

/* ---- the transports -------------------------------------------------------------------------- */

struct way {
	const char *name;
	void (*endpoint)(const struct house *h, char to[160]);
	bool of_this_process; /* no other process can use it */
	bool passes_regions;
	const bool *is_there; /* NULL: always */
};

enum { WAYS = 4 };
extern const struct way ways[WAYS];

void unix_endpoint(const struct house *h, char to[160]);
/* Makes a connection, for one client. */
void in_process_endpoint(const struct house *h, char to[160]);
void netlink_endpoint(const struct house *h, char to[160]);
void chardev_endpoint(const struct house *h, char to[160]);

/* Which there are here; with $GPUQ_TEST_CUSE the device is a node in /dev, and all else is left
 * out.
 * @return false: nothing can run, and why has been said */
bool ways_look(void);
bool way_is_there(const struct way *w);
/* Each of these once for each way. @return how many; to[] has room for WAYS * count */
unsigned ways_add(struct CMUnitTest *to, const struct CMUnitTest *cases, unsigned count);
/* "TEST over WAY", for ever. */
const char *way_name(const char *test, const struct way *w);
/* As cmocka_run_group_tests(), of those that argv names. */
int ways_run(const char *group, const struct CMUnitTest *tests, unsigned n, int argc, char **argv);

/* ---- clients of the usual house, by a test's way --------------------------------------------- */

/* @return NULL with q_last_error() */
BrokerClient *try_client(const struct house *h, const struct way *w, const char *token);
BrokerClient *client(void **state);
BrokerClient *worker(void **state, const char *name, const char *can, uint32_t capacity);
uint64_t count(void **state, const char *name);
void await_count(void **state, const char *name, uint64_t value);
/* What a test has left has gone, and everything that was accepted has ended once. */
void expect_quiet(void **state);

uint64_t submit(BrokerClient *c, const char *service, const void *payload, size_t bytes);
void take_one(BrokerClient *w, BrokerRequest *q);
void answer(BrokerClient *w, BrokerRequest *q, uint32_t reason);
void echo_one(BrokerClient *w);
void expect_reply(BrokerClient *c, uint64_t id, const void *data, size_t bytes);
BrokerReply expect_end(BrokerClient *c, uint64_t id, QueueStatus status);

/* ---- frames, by hand ------------------------------------------------------------------------- */

/* One that has said nothing; and one that has said hello. */
BrokerClient *raw(void **state);
BrokerClient *greeted(void **state);
/* Any bytes. @return whether they went: the connection may have ended */
bool throw_bytes(BrokerClient *c, const void *bytes, size_t n);
size_t encode(struct gq_frame *f, uint8_t *to);
void throw_frame(BrokerClient *c, struct gq_frame *f);
/* The next frame, to be freed; NULL: the connection has ended. */
struct heard *next(BrokerClient *c);
/* A NACK with this status, for this correlation. */
void expect_nack(BrokerClient *c, uint64_t correlation, uint32_t status);
void expect_closed(BrokerClient *c);
void say_hello(BrokerClient *c, uint32_t low, uint32_t high);
struct heard *expect_hello(BrokerClient *c);
void expect_it_serves(BrokerClient *c, uint64_t correlation);

#endif /* GPUQ_TEST_WAYS_H */
