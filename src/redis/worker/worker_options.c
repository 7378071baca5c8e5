/* SPDX-License-Identifier: Apache-2.0 */
/* worker_options.c - the command line of `gpuq-redis worker`. */
#define _GNU_SOURCE
#include "worker.h"

#include <getopt.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ME "worker"

const char worker_help[] =
	"Usage: gpuq-redis worker --stream S --processor P [OPTION...]\n"
	"\n"
	"Take messages from a Redis stream, have a processor work on each, on a GPU or on CPU\n"
	"threads, write the results to Redis and acknowledge. At least once; with --ack fenced\n"
	"at most one result per entry, whoever dies when; nothing is acknowledged before its\n"
	"result is in Redis.\n"
	"\n"
	"      --stream S             the stream to read, or the list\n"
	"      --mode M               stream, list, list-simple: what S is (stream). A list is\n"
	"                             read at its right end, for producers that use LPUSH;\n"
	"                             list-simple loses what a dead worker had\n"
	"  -p, --processor P          name, or path of a shared object or CUDA source\n"
	"      --data FILE            what the processor reads as its data\n"
	"      --url URL              redis://[user:password@]HOST:PORT[/DB] or unix:PATH;\n"
	"                             default: GPUQ_REDIS_URL, else redis://127.0.0.1:6379\n"
	"      --sentinel NAME@HOST:PORT,...   in place of --url: sentinels, and their master\n"
	"      --cluster HOST:PORT,...   in place of --url: servers of a cluster\n"
	"      --shards N             the stream is in N streams {S:0} to {S:N-1}; of a cluster\n"
	"                             it always is (what Redis says it has, else 16)\n"
	"      --password-file FILE   the password is its first line; default: REDISCLI_AUTH\n"
	"      --group G              consumer group (gpuq)\n"
	"      --consumer NAME        own name in it (host, process and a random number)\n"
	"      --field F              the field with the message (payload)\n"
	"      --priority-field F     the field with its priority: low, normal, high, urgent\n"
	"      --opcode-field F       the field with its opcode, a number\n"
	"      --results WHERE        stream:KEY, hash:PREFIX, list:KEY, none (stream:S:results)\n"
	"      --result-ttl S         seconds after which a result of hash:PREFIX expires\n"
	"      --ack HOW              fenced, atomic, plain (fenced)\n"
	"      --dlq KEY              the stream of the dead letters (S:dlq)\n"
	"      --max-deliveries N     then a message that fails is a dead letter (5)\n"
	"      --lease-ms N           after so long others may take a dead worker's messages\n"
	"                             (60000)\n"
	"      --batch N              entries that are read at once, at most (256)\n"
	"      --batch-delay-us N     how long the first of a batch waits for others (0)\n"
	"      --metrics WHERE        HOST:PORT or unix:PATH, where Prometheus finds /metrics\n"
	"      --drain-ms N           how long SIGTERM waits for the queue (25000)\n"
	"  -d, --device D             auto, cpu or cuda (auto)\n"
	"      --slots N              messages in the queue, a power of two (four batches)\n"
	"      --slot-bytes N         the longest message and result (65536)\n"
	"      --until-empty          end when the stream has nothing new and nothing pending\n"
	"      --max-messages N       end after so many messages\n"
	"  -q, --quiet                no line of progress on a terminal, no totals at the end\n"
	"  -h, --help                 show this text\n"
	"\n"
	"Exit codes: 0 ended as asked; 2 wrong usage; 4 no queue; 5 the queue failed;\n"
	"6 Redis is out of reach or refuses. See gpuq-redis(1).\n";

enum {
	OPT_DATA = 256,
	OPT_MODE,
	OPT_METRICS,
	OPT_CONSUMER,
	OPT_PRIORITY_FIELD,
	OPT_OPCODE_FIELD,
	OPT_RESULT_TTL,
	OPT_ACK,
	OPT_MAX_DELIVERIES,
	OPT_LEASE_MS,
	OPT_BATCH,
	OPT_BATCH_DELAY_US,
	OPT_DRAIN_MS,
	OPT_SLOTS,
	OPT_SLOT_BYTES,
	OPT_UNTIL_EMPTY,
	OPT_MAX_MESSAGES,
};

static const struct option long_options[] = {
	COMMON_OPTIONS,
	{ "group", required_argument, NULL, OPT_GROUP },
	{ "field", required_argument, NULL, OPT_FIELD },
	{ "results", required_argument, NULL, OPT_RESULTS },
	{ "dlq", required_argument, NULL, OPT_DLQ },
	{ "processor", required_argument, NULL, 'p' },
	{ "data", required_argument, NULL, OPT_DATA },
	{ "mode", required_argument, NULL, OPT_MODE },
	{ "metrics", required_argument, NULL, OPT_METRICS },
	{ "consumer", required_argument, NULL, OPT_CONSUMER },
	{ "priority-field", required_argument, NULL, OPT_PRIORITY_FIELD },
	{ "opcode-field", required_argument, NULL, OPT_OPCODE_FIELD },
	{ "result-ttl", required_argument, NULL, OPT_RESULT_TTL },
	{ "ack", required_argument, NULL, OPT_ACK },
	{ "max-deliveries", required_argument, NULL, OPT_MAX_DELIVERIES },
	{ "lease-ms", required_argument, NULL, OPT_LEASE_MS },
	{ "batch", required_argument, NULL, OPT_BATCH },
	{ "batch-delay-us", required_argument, NULL, OPT_BATCH_DELAY_US },
	{ "drain-ms", required_argument, NULL, OPT_DRAIN_MS },
	{ "device", required_argument, NULL, 'd' },
	{ "slots", required_argument, NULL, OPT_SLOTS },
	{ "slot-bytes", required_argument, NULL, OPT_SLOT_BYTES },
	{ "until-empty", no_argument, NULL, OPT_UNTIL_EMPTY },
	{ "max-messages", required_argument, NULL, OPT_MAX_MESSAGES },
	{ "quiet", no_argument, NULL, 'q' },
	{ "help", no_argument, NULL, 'h' },
	{ NULL, 0, NULL, 0 },
};

/* Numbers: their range, and where they go. */
static const struct number {
	int option;
	const char *name;
	uint64_t least;
	uint64_t most;
	size_t at;
	size_t bytes;
} numbers[] = {
#define NUMBER(option, name, least, most, field)                                                   \
	{                                                                                          \
		option, name, least, most, offsetof(struct worker_options, field),                 \
			sizeof(((struct worker_options *)0)->field)                                \
	}
	NUMBER(OPT_RESULT_TTL, "--result-ttl", 1, 1u << 30, result_ttl_s),
	NUMBER(OPT_MAX_DELIVERIES, "--max-deliveries", 1, 1000, max_deliveries),
	NUMBER(OPT_LEASE_MS, "--lease-ms", 100, 86400000, lease_ms),
	NUMBER(OPT_BATCH, "--batch", 1, 65536, batch),
	NUMBER(OPT_BATCH_DELAY_US, "--batch-delay-us", 0, 10000000, batch_delay_us),
	NUMBER(OPT_DRAIN_MS, "--drain-ms", 0, 3600000, drain_ms),
	NUMBER(OPT_SLOTS, "--slots", 1, Q_MAX_CAPACITY, slots),
	NUMBER(OPT_SLOT_BYTES, "--slot-bytes", 1, Q_MAX_SLOT_BYTES, slot_bytes),
	NUMBER(OPT_MAX_MESSAGES, "--max-messages", 1, UINT64_MAX, max_messages),
#undef NUMBER
};

/* -1: the option is no number. */
static int take_number(int option, const char *text, struct worker_options *o)
{
	for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
		const struct number *n = &numbers[i];
		uint64_t value = 0;
		int code;

		if (n->option != option)
			continue;
		code = parse_range(ME, n->name, text, n->least, n->most, &value);
		if (code != EXIT_DONE)
			return code;
		if (n->bytes == sizeof(uint32_t)) {
			const uint32_t narrow = (uint32_t)value;

			memcpy((char *)o + n->at, &narrow, sizeof(narrow));
		} else {
			memcpy((char *)o + n->at, &value, sizeof(value));
		}
		return EXIT_DONE;
	}
	return -1;
}

static int take_word(const char *name, const char *text, const char *const *words,
		     const char *expected, uint32_t *out)
{
	for (uint32_t i = 0; i < 3; i++) {
		if (strcmp(text, words[i]) == 0) {
			*out = i;
			return EXIT_DONE;
		}
	}
	return usage_error(ME, "%s is '%s', must be %s", name, text, expected);
}

static int take_ack(const char *text, struct worker_options *o)
{
	static const char *const words[] = { "plain", "atomic", "fenced" };
	uint32_t word = 0;
	const int code = take_word("--ack", text, words, "fenced, atomic or plain", &word);

	o->ack = (enum ack_mode)word;
	return code;
}

static int take_mode(const char *text, struct worker_options *o)
{
	static const char *const words[] = { "stream", "list", "list-simple" };
	uint32_t word = 0;
	const int code = take_word("--mode", text, words, "stream, list or list-simple", &word);

	o->mode = (enum read_mode)word;
	return code;
}

static int take_metrics(const char *text, struct worker_options *o)
{
	const char *wrong = metrics_check(text);

	if (wrong)
		return usage_error(ME, "--metrics is '%s', which %s", text, wrong);
	o->metrics = text;
	return EXIT_DONE;
}

static int take_consumer(const char *text, struct worker_options *o)
{
	if (strlen(text) >= CONSUMER_BYTES)
		return usage_error(ME, "--consumer is longer than %d bytes", CONSUMER_BYTES - 1);
	return parse_name(ME, "--consumer", text, &o->consumer);
}

static int take_other(int option, char *text, struct worker_options *o)
{
	static const char *const devices[] = { "auto", "cpu", "cuda" }; /* as Q_DEVICE_* */

	switch (option) {
	case 'p':
		return parse_name(ME, "--processor", text, &o->processor);
	case OPT_DATA:
		return parse_name(ME, "--data", text, &o->data_path);
	case OPT_GROUP:
		return parse_name(ME, "--group", text, &o->group);
	case OPT_CONSUMER:
		return take_consumer(text, o);
	case OPT_FIELD:
		return parse_name(ME, "--field", text, &o->names.payload);
	case OPT_PRIORITY_FIELD:
		return parse_name(ME, "--priority-field", text, &o->names.priority);
	case OPT_OPCODE_FIELD:
		return parse_name(ME, "--opcode-field", text, &o->names.opcode);
	case OPT_RESULTS:
		return parse_results(ME, text, &o->results);
	case OPT_ACK:
		return take_ack(text, o);
	case OPT_METRICS:
		return take_metrics(text, o);
	case OPT_MODE:
		return take_mode(text, o);
	case 'd':
		return take_word("--device", text, devices, "auto, cpu or cuda", &o->device);
	case OPT_UNTIL_EMPTY:
		o->until_empty = true;
		return EXIT_DONE;
	default:
		o->quiet |= option == 'q';
		return EXIT_DONE;
	}
}

/* What options are read into. */
struct reading {
	struct worker_options *options;
	const char *dead; /* of --dlq; NULL: not given */
};

static int take_option(int option, char *text, void *to)
{
	struct reading *r = to;
	int code = place_option(ME, option, text, &r->options->place);

	if (code == -1)
		code = take_number(option, text, r->options);
	if (code != -1)
		return code;
	if (option == OPT_DLQ)
		return parse_name(ME, "--dlq", text, &r->dead);
	return take_other(option, text, r->options);
}

static const struct option_set options = {
	.command = ME,
	.help = worker_help,
	.shorts = ":p:d:qh",
	.longs = long_options,
	.take = take_option,
};

/* A name of the stream's own; crew.c puts the shard's in front, where there are shards. */
static char *own_key(const struct worker_options *o, const char *name)
{
	char *key = NULL;

	if (o->place.sharded)
		return joined(name, "");
	return asprintf(&key, "%s:%s", o->place.stream, name) < 0 ? NULL : key;
}

/* What only all of them together can be wrong in. */
static int check(struct worker_options *o, const char *dead)
{
	if (!o->processor)
		return usage_error(ME, "--processor is required ('gpuq processors' lists them)");
	if (o->slots != 0 && (o->slots & (o->slots - 1)) != 0)
		return usage_error(ME, "--slots is %u, must be a power of two", o->slots);
	if (o->slots != 0 && o->slots < o->batch)
		return usage_error(ME, "--slots is %u, must be at least the %u of --batch",
				   o->slots, o->batch);
	if (o->result_ttl_s != 0 && o->results.kind != RESULTS_HASH)
		return usage_error(ME, "--result-ttl needs --results hash:PREFIX");
	if (o->mode != MODE_STREAM &&
	    (o->names.priority || o->names.opcode || strcmp(o->names.payload, "payload") != 0))
		return usage_error(ME, "a field is named, but the messages of a list have none");
	if (o->mode != MODE_STREAM && o->place.sharded)
		return place_refuse_shards(ME, &o->place);
	if (o->mode != MODE_STREAM && strcmp(o->group, "gpuq") != 0)
		return usage_error(ME, "--group is '%s', but a list has no groups", o->group);
	if (o->names.priority && strcmp(o->names.priority, o->names.payload) == 0)
		return usage_error(ME, "--priority-field is '%s', as --field is",
				   o->names.priority);
	if (o->names.opcode && strcmp(o->names.opcode, o->names.payload) == 0)
		return usage_error(ME, "--opcode-field is '%s', as --field is", o->names.opcode);
	if (!o->results.key)
		o->results.key = own_key(o, "results");
	o->dead = dead ? joined(dead, "") : own_key(o, "dlq");
	if (!o->results.key || !o->dead) {
		warn_line("no memory");
		return EXIT_NO_QUEUE;
	}
	if (!o->place.sharded && strcmp(o->dead, o->place.stream) == 0)
		return usage_error(ME, "--dlq is '%s', as --stream is", o->dead);
	if (o->results.kind != RESULTS_NONE &&
	    ((!o->place.sharded && strcmp(o->results.key, o->place.stream) == 0) ||
	     strcmp(o->results.key, o->dead) == 0))
		return usage_error(ME, "--results is the key '%s', which is another's",
				   o->results.key);
	return EXIT_DONE;
}

bool worker_parse(int argc, char **argv, struct worker_options *out, int *code)
{
	struct reading r = { .options = out };

	*out = (struct worker_options){
		.group = "gpuq",
		.names = { .payload = "payload" },
		.slot_bytes = 65536,
		.batch = 256,
		.max_deliveries = 5,
		.drain_ms = 25000,
		.lease_ms = 60000,
		.ack = ACK_FENCED,
	};
	if (!options_read(&options, argc, argv, &r, code))
		return false;
	*code = optind < argc
			? usage_error(ME, "'%s' is too much: it takes options only", argv[optind])
			: place_resolve(ME, &out->place, true);
	if (*code == EXIT_DONE)
		*code = check(out, r.dead);
	return *code == EXIT_DONE;
}
