/* SPDX-License-Identifier: Apache-2.0 */
/* services.h - what the files of `gpuq services` share. */
#ifndef GPUQ_CLI_SERVICES_H
#define GPUQ_CLI_SERVICES_H

#include <gpuq/broker.h>

struct services_options {
	const char *endpoint, *filter;
	bool watch, stats, help;
	/* of orders */
	const char *payload; /* a file, or "-" */
	bool all, has_uid;
	uint32_t uid, sessions_ms;
};

/* ---- orders.c ---- */

/* What the words of the command line, one at least, order. @return an exit code */
int orders_read(const struct services_options *s, char *const *words, int n, BrokerOrder *out);
/* Gives it. @return an exit code */
int orders_give(BrokerClient *c, const struct services_options *s, BrokerOrder *o);

#endif /* GPUQ_CLI_SERVICES_H */
