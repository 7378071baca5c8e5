/* SPDX-License-Identifier: Apache-2.0 */
/* service.h - the router of gpuqd as a part of a process: its configuration, starting and ending.
 */
#ifndef GPUQ_BROKER_SERVICE_SERVICE_H
#define GPUQ_BROKER_SERVICE_SERVICE_H

#include <stdbool.h>
#include <stdint.h>

enum { ROUTER_SOCKET_ROOM = 108, ROUTER_NAME_ROOM = 32, ROUTER_ERROR_ROOM = 600 };

struct router_config {
	char socket[ROUTER_SOCKET_ROOM]; /* "": no services */
	uint32_t socket_mode;
	uint32_t uid_connections; /* of one user */
	uint32_t window;          /* requests of one connection that have not ended */
	uint32_t heartbeat_ms;    /* three of them missed: a service gets nothing new */
	uint32_t timeout_ms;      /* of a request that names none */
	uint32_t queued;          /* requests that wait for a service, in all */
	uint32_t attempts;        /* of one request, the first among them */
	uint32_t breaker_open_ms; /* a service that failed five times in a row rests so long */
	char balance[ROUTER_NAME_ROOM];
};

struct router;

#define ROUTER_DEFAULTS                                                                            \
	{                                                                                          \
		.socket_mode = 0600, .uid_connections = 64, .window = 64, .heartbeat_ms = 5000,    \
		.timeout_ms = 30000, .queued = 2000, .attempts = 4, .breaker_open_ms = 30000,      \
		.balance = "least_conn"                                                            \
	}

/* The ways to choose a service. */
#define ROUTER_BALANCES                                                                            \
	{                                                                                          \
		"round_robin", "weighted", "least_conn", "least_response", "load", "random",       \
			"priority", NULL                                                           \
	}

/* Listens, and serves on a thread of its own. @return NULL: `error` says why */
struct router *router_start(const struct router_config *cfg, char error[ROUTER_ERROR_ROOM]);

/* Ends it: what has not ended yet is answered "shutting down". */
void router_stop(struct router *r);

#endif /* GPUQ_BROKER_SERVICE_SERVICE_H */
