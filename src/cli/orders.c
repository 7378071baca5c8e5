/* SPDX-License-Identifier: Apache-2.0 */
/* orders.c - `gpuq services drain, resume, breaker, forget`: orders to a gpuqd that runs. */
#define _GNU_SOURCE
#include "cli.h"
#include "services.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int no_name(const char *what, const char *of)
{
	return usage_error("services", "%s needs the name of %s", what, of);
}

/* The breaker's three. */
static int read_breaker(char *const *words, int n, BrokerOrder *o)
{
	static const struct {
		const char *word;
		uint32_t kind;
	} orders[] = { { "open", Q_ORDER_BREAKER_OPEN },
		       { "close", Q_ORDER_BREAKER_CLOSE },
		       { "reset", Q_ORDER_BREAKER_RESET } };

	for (size_t i = 0; n > 1 && i < sizeof(orders) / sizeof(orders[0]); i++) {
		if (strcmp(words[1], orders[i].word) != 0)
			continue;
		o->kind = orders[i].kind;
		if (n < 3)
			return no_name("breaker", "a service");
		o->name = words[2];
		return n > 3 ? usage_error("services", "'%s' is one argument too many", words[3])
			     : CLI_OK;
	}
	return usage_error("services",
			   "breaker is followed by '%.60s'; allowed: open, close, reset",
			   n > 1 ? words[1] : "");
}

static int read_forget(const struct services_options *s, char *const *words, int n, BrokerOrder *o)
{
	if (s->all) {
		o->kind = Q_ORDER_FORGET_ALL;
		if (n > 1 || s->payload != NULL)
			return usage_error("services", "forget --all is about all ops");
		return CLI_OK;
	}
	if (n < 2)
		return usage_error("services", "forget needs the name of an op, or --all");
	o->name = words[1];
	o->kind = s->payload != NULL ? Q_ORDER_FORGET : Q_ORDER_FORGET_OP;
	if (s->has_uid && s->payload == NULL)
		return usage_error("services", "--uid is about one answer: give --payload, too");
	o->uid = s->has_uid ? s->uid : o->kind == Q_ORDER_FORGET ? (uint32_t)geteuid() : 0;
	return n > 2 ? usage_error("services", "'%s' is one argument too many", words[2]) : CLI_OK;
}

int orders_read(const struct services_options *s, char *const *words, int n, BrokerOrder *out)
{
	const bool forget = strcmp(words[0], "forget") == 0;
	int code = CLI_OK;

	*out = (BrokerOrder){ 0 };
	if (!forget && (s->all || s->payload != NULL || s->has_uid))
		return usage_error("services", "--all, --payload and --uid are of forget");
	if (s->sessions_ms != 0 && strcmp(words[0], "drain") != 0)
		return usage_error("services", "--sessions is of drain");
	if (forget)
		return read_forget(s, words, n, out);
	if (strcmp(words[0], "breaker") == 0)
		return read_breaker(words, n, out);
	if (strcmp(words[0], "drain") != 0 && strcmp(words[0], "resume") != 0)
		return usage_error("services",
				   "'%s' is no order; allowed: drain, resume, breaker, forget",
				   words[0]);
	out->kind = strcmp(words[0], "drain") == 0 ? Q_ORDER_DRAIN : Q_ORDER_RESUME;
	out->timeout_ms = s->sessions_ms;
	if (n < 2)
		return no_name(words[0], "a service");
	out->name = words[1];
	if (n > 2)
		code = usage_error("services", "'%s' is one argument too many", words[2]);
	return code;
}

/* The bytes of a request. @return an exit code */
static int read_payload(const char *path, BrokerOrder *o)
{
	static char bytes[Q_BROKER_MAX_BYTES + 1];
	FILE *f = strcmp(path, "-") == 0 ? stdin : fopen(path, "re");
	bool failed;
	size_t n;

	if (f == NULL) {
		warn_line("%s: %s", path, strerror(errno));
		return CLI_MESSAGES_FAILED;
	}
	n = fread(bytes, 1, sizeof(bytes), f);
	failed = ferror(f) != 0;
	if (f != stdin)
		fclose(f);
	if (failed || n > Q_BROKER_MAX_BYTES) {
		if (failed)
			warn_line("%s cannot be read", path);
		else
			warn_line("%s is longer than a request: allowed: 0 to %u bytes", path,
				  Q_BROKER_MAX_BYTES);
		return CLI_MESSAGES_FAILED;
	}
	o->payload = n != 0 ? bytes : NULL;
	o->bytes = n;
	return CLI_OK;
}

int orders_give(BrokerClient *c, const struct services_options *s, BrokerOrder *o)
{
	int code = s->payload != NULL ? read_payload(s->payload, o) : CLI_OK;
	QueueStatus status;

	if (code != CLI_OK)
		return code;
	status = q_broker_order(c, o);
	if (status == Q_OK)
		return CLI_OK;
	warn_line("%s", q_last_error());
	return status == Q_ERR_LOST || status == Q_ERR_TIMEOUT ? CLI_NO_QUEUE : CLI_MESSAGES_FAILED;
}
