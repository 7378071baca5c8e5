/* SPDX-License-Identifier: Apache-2.0 */
/*
 * produce.c - a producer for gpuq-redis, with hiredis: sends its arguments, waits for each result.
 *
 * cc produce.c -lhiredis -o produce && ./produce one two
 * The workers write results to hashes: gpuq-redis worker --stream asked --results hash:answer: ...
 */
#include <hiredis/hiredis.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* The result of the entry of this id; NULL: Redis has gone. */
static redisReply *wait_for(redisContext *redis, const char *id)
{
	for (;;) {
		redisReply *reply = redisCommand(redis, "HGET answer:%s result", id);

		if (!reply || reply->type == REDIS_REPLY_STRING)
			return reply;
		freeReplyObject(reply);
		usleep(10000);
	}
}

int main(int argc, char **argv)
{
	const char *port = getenv("REDIS_PORT");
	redisContext *redis = redisConnect("127.0.0.1", port ? atoi(port) : 6379);

	if (!redis || redis->err) {
		fprintf(stderr, "Redis: %s\n", redis ? redis->errstr : "no memory");
		return 1;
	}
	for (int i = 1; i < argc; i++) {
		redisReply *id =
			redisCommand(redis, "XADD asked * payload %b", argv[i], strlen(argv[i]));
		redisReply *result;

		if (!id || id->type != REDIS_REPLY_STRING)
			return 1;
		result = wait_for(redis, id->str);
		if (!result)
			return 1;
		printf("%s: %zu bytes:", argv[i], (size_t)result->len);
		for (size_t n = 0; n < (size_t)result->len; n++)
			printf(" %02x", (unsigned char)result->str[n]);
		putchar('\n');
		freeReplyObject(result);
		freeReplyObject(id);
	}
	redisFree(redis);
	return 0;
}
