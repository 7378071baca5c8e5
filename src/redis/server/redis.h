/* SPDX-License-Identifier: Apache-2.0 */
/* redis.h - what the parts of gpuq-redis share: exit codes, subcommands, common options. */
#ifndef GPUQ_REDIS_REDIS_H
#define GPUQ_REDIS_REDIS_H

#include "finder.h"
#include "link.h"
#include "program/program.h"
#include "redis/policy/address.h"

#include <stdbool.h>
#include <stdint.h>

/* Documented in `gpuq-redis help` and gpuq-redis(1). */
enum {
	EXIT_DONE = 0,
	EXIT_FOUND = 1, /* dead letters came, or doctor found something */
	EXIT_USAGE = PROGRAM_USAGE,
	EXIT_OUTPUT = PROGRAM_OUTPUT_FAILED,
	EXIT_NO_QUEUE = 4,
	EXIT_QUEUE_FAILED = 5,
	EXIT_REDIS = 6, /* Redis is out of reach, or refuses */
};

int cmd_worker(int argc, char **argv);
int cmd_send(int argc, char **argv);
int cmd_results(int argc, char **argv);
int cmd_dlq(int argc, char **argv);
int cmd_status(int argc, char **argv);
int cmd_doctor(int argc, char **argv);
int cmd_bench(int argc, char **argv);

extern const char worker_help[];
extern const char send_help[];
extern const char results_help[];
extern const char dlq_help[];
extern const char status_help[];
extern const char doctor_help[];
extern const char bench_help[];

/* The options that most subcommands have, and their getopt codes. */
enum {
	OPT_URL = 512,
	OPT_SENTINEL,
	OPT_CLUSTER,
	OPT_SHARDS,
	OPT_PASSWORD_FILE,
	OPT_STREAM,
	OPT_GROUP,
	OPT_FIELD,
	OPT_RESULTS,
	OPT_DLQ,
};
#define COMMON_OPTIONS                                                                             \
	{ "url", required_argument, NULL, OPT_URL },                                               \
		{ "sentinel", required_argument, NULL, OPT_SENTINEL },                             \
		{ "cluster", required_argument, NULL, OPT_CLUSTER },                               \
		{ "shards", required_argument, NULL, OPT_SHARDS },                                 \
		{ "password-file", required_argument, NULL, OPT_PASSWORD_FILE },                   \
	{                                                                                          \
		"stream", required_argument, NULL, OPT_STREAM                                      \
	}

#define SHARDS_MOST 256u /* of a stream */

struct place {
	struct address address;
	const char *url; /* NULL: GPUQ_REDIS_URL, else the default */
	const char *sentinel;
	const char *cluster;
	const char *password_file;
	const char *stream; /* of one shard: its own */
	struct finder *finder;
	uint32_t shards; /* 0: not said, and not learned yet */
	uint32_t slot;   /* in a cluster, of the stream */
	bool sharded;
	bool url_given;
};

/* Lines of the help, for all commands. */
#define PLACE_HELP                                                                                 \
	"      --url URL, --sentinel NAME@HOST:PORT,..., --cluster HOST:PORT,..., --shards N,\n"   \
	"      --password-file FILE   as of gpuq-redis worker\n"

enum results_kind { RESULTS_STREAM, RESULTS_HASH, RESULTS_LIST, RESULTS_NONE };

struct results_place {
	enum results_kind kind;
	const char *key; /* NULL until resolved: the stream's name and ":results" */
};

/** Takes a common option. Returns EXIT_DONE, EXIT_USAGE; -1: it is none of these. */
int place_option(const char *command, int option, char *text, struct place *p);

/**
 * After all options: the stream is there (if it is needed), the address is read, with password
 * from the URL, the file or REDISCLI_AUTH.
 */
int place_resolve(const char *command, struct place *p, bool needs_stream);

/** Of a list: the options may not say that it has shards. EXIT_DONE, or it has said so. */
int place_refuse_shards(const char *command, const struct place *p);

/** --results: stream:KEY, hash:PREFIX, list:KEY or none. */
int parse_results(const char *command, const char *text, struct results_place *out);

/** A name that may not be empty. */
int parse_name(const char *command, const char *option, const char *text, const char **out);

/** A number with the suffixes of parse_size(). */
int parse_range(const char *command, const char *option, const char *text, uint64_t least,
		uint64_t most, uint64_t *out);

/** `name` and `suffix` as one new string, NULL: no memory. */
char *joined(const char *name, const char *suffix);

/** The same of three. */
char *joined3(const char *name, const char *middle, const char *suffix);

/** Connect for a command that is done soon. Returns EXIT_DONE, or says why not: EXIT_REDIS. */
int place_connect(const struct place *p, struct link *l);

/**
 * What is wrong with a server that has just been connected to, or NULL: a server by itself must not
 * be a part of a cluster. For --url and --sentinel.
 */
const char *place_mismatch(const struct place *p, struct link *l);

/** Whether a reply to ROLE is that of a master, which takes writes. */
bool role_is_master(const redisReply *reply);

/** How to give what an error of Redis asks for, behind it; "": it asks for nothing. */
const char *refused_hint(const char *error);

/** What a reply says that is not what was asked for, on stderr. Frees it. Returns EXIT_REDIS. */
int refused(const struct link *l, const char *what, redisReply *reply);

/** CLOCK_MONOTONIC and CLOCK_REALTIME, ms. */
uint64_t now_ms(void);
uint64_t wall_ms(void);

#endif /* GPUQ_REDIS_REDIS_H */
