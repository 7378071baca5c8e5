/* SPDX-License-Identifier: Apache-2.0 */
/* merge.c - whether a gpuqd that runs may take over another configuration. */
#include "broker.h"

#include <inttypes.h>
#include <stdarg.h>

/* "What" would need a restart: @return false. */
__attribute__((format(printf, 2, 3))) static bool refuse(char error[BROKER_ERROR_ROOM],
							 const char *format, ...)
{
	char what[400];
	va_list args;

	va_start(args, format);
	vsnprintf(what, sizeof(what), format, args);
	va_end(args);
	snprintf(error, BROKER_ERROR_ROOM, "%s; that needs a restart", what);
	return false;
}

static bool same_text(const char *where, const char *key, const char *now, const char *then,
		      char error[BROKER_ERROR_ROOM])
{
	if (strcmp(now, then) == 0)
		return true;
	return refuse(error, "%s: %s would change from '%.100s' to '%.100s'", where, key, now,
		      then);
}

static bool same_number(const char *where, const char *key, uint64_t now, uint64_t then,
			char error[BROKER_ERROR_ROOM])
{
	if (now == then)
		return true;
	return refuse(error, "%s: %s would change from %" PRIu64 " to %" PRIu64, where, key, now,
		      then);
}

static bool same_queue(const struct broker_queue *now, const struct broker_queue *then,
		       char error[BROKER_ERROR_ROOM])
{
	char where[100];

	snprintf(where, sizeof(where), "queue '%s'", now->name);
	return same_text(where, "processor", now->processor, then->processor, error) &&
	       same_number(where, "device", now->device, then->device, error) &&
	       same_number(where, "ordinal", now->ordinal, then->ordinal, error) &&
	       same_number(where, "capacity", now->capacity, then->capacity, error) &&
	       same_number(where, "slot_bytes", now->slot_bytes, then->slot_bytes, error) &&
	       same_number(where, "result_bytes", now->result_bytes, then->result_bytes, error) &&
	       same_number(where, "consumers", now->consumers, then->consumers, error) &&
	       same_number(where, "inline_us", now->inline_us, then->inline_us, error) &&
	       same_text(where, "process", now->process, then->process, error) &&
	       same_number(where, "per_client", now->per_client, then->per_client, error);
}

static bool same_services(const struct router_config *now, const struct router_config *then,
			  char error[BROKER_ERROR_ROOM])
{
	static const char where[] = "[services]";
	static const char *const schedules[] = ROUTER_SCHEDULES;

	return same_text(where, "socket", now->socket, then->socket, error) &&
	       same_number(where, "socket_mode", now->socket_mode, then->socket_mode, error) &&
	       same_number(where, "netlink", now->netlink, then->netlink, error) &&
	       same_text(where, "chardev", now->chardev, then->chardev, error) &&
	       same_number(where, "heartbeat_ms", now->heartbeat_ms, then->heartbeat_ms, error) &&
	       same_number(where, "queued", now->queued, then->queued, error) &&
	       same_text(where, "schedule", schedules[now->schedule], schedules[then->schedule],
			 error) &&
	       same_number(where, "cache_entries", now->cache_entries, then->cache_entries,
			   error) &&
	       same_number(where, "cache_bytes", now->cache_bytes, then->cache_bytes, error) &&
	       same_number(where, "keys", now->keys, then->keys, error) &&
	       same_number(where, "key_bytes", now->key_bytes, then->key_bytes, error) &&
	       same_text(where, "balance", now->balance, then->balance, error);
}

static struct broker_queue *find(struct broker_config *cfg, const char *name)
{
	for (uint32_t i = 0; i < cfg->queues; i++)
		if (strcmp(cfg->queue[i].name, name) == 0)
			return &cfg->queue[i];
	return NULL;
}

/* Those that there are stand first, and in their order: who has one knows its place. */
static bool merge_queues(const struct broker_config *now, struct broker_config *fresh,
			 char error[BROKER_ERROR_ROOM])
{
	for (uint32_t i = 0; i < now->queues; i++) {
		struct broker_queue *then = find(fresh, now->queue[i].name);
		const struct broker_queue other = fresh->queue[i];

		if (then == NULL)
			return refuse(error, "queue '%s' would go", now->queue[i].name);
		if (!same_queue(&now->queue[i], then, error))
			return false;
		fresh->queue[i] = *then;
		if (then != &fresh->queue[i])
			*then = other;
	}
	if (now->queues == 0 && fresh->queues != 0)
		return refuse(error, "there would be a first queue, '%s'", fresh->queue[0].name);
	return true;
}

bool broker_config_merge(const struct broker_config *now, struct broker_config *fresh,
			 char error[BROKER_ERROR_ROOM])
{
	static const char where[] = "[gpuqd]";

	/* What no file says stays so. */
	fresh->page = now->page;
	fresh->listener = now->listener;
	fresh->link = now->link;
	fresh->tell = now->tell;
	fresh->lock = now->lock;
	fresh->services.page = now->services.page;
	fresh->services.listener = now->services.listener;
	fresh->services.lock = now->services.lock;
	return (now->queues == 0 ||
		(same_text(where, "socket", now->socket, fresh->socket, error) &&
		 same_number(where, "socket_mode", now->socket_mode, fresh->socket_mode, error))) &&
	       same_text(where, "child_user", now->child_user, fresh->child_user, error) &&
	       same_text(where, "stats", now->stats, fresh->stats, error) &&
	       same_text(where, "metrics", now->metrics, fresh->metrics, error) &&
	       same_services(&now->services, &fresh->services, error) &&
	       merge_queues(now, fresh, error);
}
