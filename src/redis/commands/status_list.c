/* SPDX-License-Identifier: Apache-2.0 */
/* status_list.c - `gpuq-redis status` of a list: its messages, and its workers. */
#include "status.h"

#include "redis/server/show.h"

#include <stdlib.h>
#include <string.h>

struct list_worker {
	const char *name;
	long long held;
	long long lives_ms; /* 0: it has not been heard of for a lease */
};

/* A command with one key, whose answer is a number. */
static int number_of(struct looker *l, const char *command, const char *middle, const char *name,
		     long long *out)
{
	char *key = joined3(l->place.stream, middle, name);
	redisReply *reply = key ? link_say(&l->link, command, key, NULL) : NULL;

	free(key);
	if (!reply || reply->type != REDIS_REPLY_INTEGER)
		return refused(&l->link, command, reply);
	*out = reply->integer;
	freeReplyObject(reply);
	return EXIT_DONE;
}

int status_is_list(struct looker *l, bool *out)
{
	redisReply *reply = link_say(&l->link, "TYPE", l->place.stream, NULL);
	long long workers = 0;
	int code = EXIT_DONE;

	if (!reply || reply->type != REDIS_REPLY_STATUS)
		return refused(&l->link, "TYPE", reply);
	*out = strcmp(reply->str, "list") == 0;
	/* an empty list is no key */
	if (strcmp(reply->str, "none") == 0) {
		code = number_of(l, "EXISTS", ":workers", "", &workers);
		*out = workers > 0;
	}
	freeReplyObject(reply);
	return code;
}

static int look_at_workers(struct looker *l, const redisReply *names, struct list_worker *workers,
			   long long *held)
{
	int code = EXIT_DONE;

	for (size_t i = 0; i < names->elements && code == EXIT_DONE; i++) {
		struct list_worker *w = &workers[i];

		w->name = names->element[i]->str;
		code = number_of(l, "LLEN", ":proc:", w->name, &w->held);
		if (code == EXIT_DONE)
			code = number_of(l, "PTTL", ":alive:", w->name, &w->lives_ms);
		if (w->lives_ms < 0)
			w->lives_ms = 0;
		*held += w->held;
	}
	return code;
}

static void print_json(const struct looker *l, long long length, long long held, long long dead,
		       const struct list_worker *workers, size_t count)
{
	fputs("{\"list\":", stdout);
	show_json(stdout, l->place.stream, strlen(l->place.stream));
	printf(",\"length\":%lld,\"held\":%lld,\"dead_letters\":%lld,\"workers\":[", length, held,
	       dead);
	for (size_t i = 0; i < count; i++) {
		fputs(i == 0 ? "{\"name\":" : ",{\"name\":", stdout);
		show_json(stdout, workers[i].name, strlen(workers[i].name));
		printf(",\"held\":%lld,\"alive\":%s}", workers[i].held,
		       workers[i].lives_ms > 0 ? "true" : "false");
	}
	fputs("]}\n", stdout);
}

static void print_text(const struct looker *l, long long length, long long held, long long dead,
		       const struct list_worker *workers, size_t count)
{
	printf("list          %s\n", l->place.stream);
	printf("not yet read  %lld\n", length);
	printf("held          %lld\n", held);
	printf("dead letters  %lld in %s\n", dead, l->dead);
	printf("workers       %zu\n", count);
	for (size_t i = 0; i < count; i++)
		printf("  %s: %lld held, %s\n", workers[i].name, workers[i].held,
		       workers[i].lives_ms > 0 ? "alive" : "not heard of for a lease");
}

int status_list(struct looker *l)
{
	char *key = joined(l->place.stream, ":workers");
	redisReply *names = key ? link_say(&l->link, "ZRANGE", key, "0", "-1", NULL) : NULL;
	struct list_worker *workers = NULL;
	long long length = 0;
	long long held = 0;
	long long dead = 0;
	int code;

	free(key);
	if (!names || names->type != REDIS_REPLY_ARRAY)
		return refused(&l->link, "ZRANGE", names);
	workers = calloc(names->elements + 1, sizeof(workers[0]));
	code = workers ? number_of(l, "LLEN", "", "", &length) : EXIT_REDIS;
	if (code == EXIT_DONE)
		code = status_length(l, l->dead, &dead);
	if (code == EXIT_DONE)
		code = look_at_workers(l, names, workers, &held);
	if (code == EXIT_DONE && l->json)
		print_json(l, length, held, dead, workers, names->elements);
	else if (code == EXIT_DONE)
		print_text(l, length, held, dead, workers, names->elements);
	free(workers);
	freeReplyObject(names);
	return code;
}
