/* SPDX-License-Identifier: Apache-2.0 */
/*
 * config.c - the configuration file: sections, keys and values, one a line.
 *
 *     # a comment
 *     [gpuqd]
 *     socket = /run/gpuq/gpuqd.sock
 *     [queue default]
 *     processor = echo
 *
 * Strict: a section or a key that is not known, comes twice, or has a value out of range is an
 * error, with its line. So a word that is spelt wrong never means "the default".
 */
#include "broker.h"

#include "host/base/netlink.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <pwd.h>
#include <stdarg.h>

enum { MOST_BYTES = 1 << 16, MOST_LINE = 2048 };

void broker_queue_defaults(struct broker_queue *q, const char *name)
{
	*q = (struct broker_queue){ .capacity = 1024,
				    .slot_bytes = 4096,
				    .result_bytes = 4096,
				    .window = 256,
				    .inline_us = 20 };
	snprintf(q->name, sizeof(q->name), "%s", name);
}

void broker_config_defaults(struct broker_config *cfg)
{
	*cfg = (struct broker_config){ .socket_mode = 0600,
				       .uid_connections = 64,
				       .uid_connect_rate = 100,
				       .uid_connect_burst = 256,
				       .uid_bytes = UINT64_C(1) << 30,
				       .uid_slots = UINT64_C(1) << 20,
				       .drain_ms = 25000,
				       .hang_ms = 10000,
				       .start_ms = 50000,
				       .wait_ms = 4000,
				       .stats_ms = 1000,
				       .services = ROUTER_DEFAULTS };
	if (!gq_remote_default_path(cfg->socket, sizeof(cfg->socket)))
		cfg->socket[0] = '\0';
}

/* ---- where reading stands -------------------------------------------------------------------- */

struct reader {
	const char *path;
	unsigned line;
	struct broker_config *cfg;
	struct broker_queue *queue; /* NULL: another section, or none yet */
	struct router_op *op;       /* the same */
	bool in_section, in_services, had_gpuqd, had_services;
	uint32_t seen;           /* a bit a key of this section */
	unsigned tokens_line[2]; /* of [gpuqd], of [services] */
	char *error;
};

#define WRONG(r, ...) wrong_at((r), __VA_ARGS__)

__attribute__((format(printf, 2, 3))) static bool wrong_at(struct reader *r, const char *format,
							   ...)
{
	char what[420];
	va_list args;

	va_start(args, format);
	/* NOLINTNEXTLINE(clang-analyzer-valist.Uninitialized): it has been started */
	vsnprintf(what, sizeof(what), format, args);
	va_end(args);
	if (r->line == 0) /* it is about the file, not one of its lines */
		snprintf(r->error, BROKER_ERROR_ROOM, "%.150s: %s", r->path, what);
	else
		snprintf(r->error, BROKER_ERROR_ROOM, "%.150s:%u: %s", r->path, r->line, what);
	return false;
}

/* ---- values ---------------------------------------------------------------------------------- */

enum kind {
	TEXT,
	CHARDEV,
	NUMBER,
	TIME,
	OCTAL,
	YES_NO,
	DEVICE,
	POWER,
	BALANCE,
	CACHE,
	CONCURRENCY,
	SESSIONS,
	SCHEDULE,
	PROCESS,
	TOKEN,
	SIZES
};

struct key {
	const char *name;
	enum kind kind;
	size_t offset, room; /* room: bytes of a text, or of a number */
	uint64_t min, max;
};

#define OF_CONFIG(field)                                                                           \
	offsetof(struct broker_config, field), sizeof(((struct broker_config *)0)->field)
#define OF_QUEUE(field)                                                                            \
	offsetof(struct broker_queue, field), sizeof(((struct broker_queue *)0)->field)

static const struct key config_keys[] = {
	{ "socket", TEXT, OF_CONFIG(socket), 1, 107 },
	{ "socket_mode", OCTAL, OF_CONFIG(socket_mode), 0, 0777 },
	{ "uid_connections", NUMBER, OF_CONFIG(uid_connections), 1, 4096 },
	{ "uid_connect_rate", NUMBER, OF_CONFIG(uid_connect_rate), 0, 1000000 },
	{ "uid_connect_burst", NUMBER, OF_CONFIG(uid_connect_burst), 1, 1000000 },
	{ "uid_bytes", NUMBER, OF_CONFIG(uid_bytes), 4096, UINT64_C(1) << 46 },
	{ "uid_slots", NUMBER, OF_CONFIG(uid_slots), 1, UINT64_C(1) << 32 },
	{ "drain_ms", TIME, OF_CONFIG(drain_ms), 0, 3600000 },
	{ "hang_ms", TIME, OF_CONFIG(hang_ms), 0, 3600000 },
	{ "start_ms", TIME, OF_CONFIG(start_ms), 1, 3600000 },
	{ "child_user", TEXT, OF_CONFIG(child_user), 1, BROKER_USER_ROOM - 1 },
	{ "wait_ms", TIME, OF_CONFIG(wait_ms), 0, 4000 }, /* a client hangs up after 5 s */
	{ "stats", TEXT, OF_CONFIG(stats), 1, BROKER_STATS_ROOM - 1 },
	{ "stats_ms", TIME, OF_CONFIG(stats_ms), 10, 60000 },
	{ "tokens", TEXT, OF_CONFIG(tokens), 1, ROUTER_PATH_ROOM - 1 },
	{ "metrics", TEXT, OF_CONFIG(metrics), 1, BROKER_STATS_ROOM - 1 },
	{ NULL, TEXT, 0, 0, 0, 0 },
};

static const struct key queue_keys[] = {
	{ "processor", TEXT, OF_QUEUE(processor), 1, GQ_WIRE_PROCESSOR - 1 },
	{ "device", DEVICE, OF_QUEUE(device), 0, 0 },
	{ "ordinal", NUMBER, OF_QUEUE(ordinal), 0, 1023 },
	{ "capacity", POWER, OF_QUEUE(capacity), 1, Q_MAX_CAPACITY },
	{ "slot_bytes", NUMBER, OF_QUEUE(slot_bytes), 1, Q_MAX_SLOT_BYTES },
	{ "result_bytes", NUMBER, OF_QUEUE(result_bytes), 1, Q_MAX_SLOT_BYTES },
	{ "consumers", NUMBER, OF_QUEUE(consumers), 0, Q_MAX_CONSUMERS },
	{ "window", NUMBER, OF_QUEUE(window), 1, Q_MAX_CAPACITY },
	{ "inline_us", NUMBER, OF_QUEUE(inline_us), 0, 1000 },
	{ "token", TOKEN, OF_QUEUE(token), 0, 0 },
	{ "per_client", YES_NO, OF_QUEUE(per_client), 0, 0 },
	{ "process", PROCESS, OF_QUEUE(process), 1, GQ_WIRE_NAME - 1 },
	{ NULL, TEXT, 0, 0, 0, 0 },
};

#define OF_SERVICES(field)                                                                         \
	offsetof(struct router_config, field), sizeof(((struct router_config *)0)->field)

static const struct key services_keys[] = {
	{ "socket", TEXT, OF_SERVICES(socket), 1, ROUTER_SOCKET_ROOM - 1 },
	{ "socket_mode", OCTAL, OF_SERVICES(socket_mode), 0, 0777 },
	{ "chardev", CHARDEV, OF_SERVICES(chardev), 1, ROUTER_SOCKET_ROOM - 1 },
	{ "connections", NUMBER, OF_SERVICES(connections), 1, 65536 },
	{ "netlink", NUMBER, OF_SERVICES(netlink), GQ_NETLINK_PORT_LEAST, GQ_NETLINK_PORT_MOST },
	{ "uid_connections", NUMBER, OF_SERVICES(uid_connections), 1, 4096 },
	{ "uid_connect_rate", NUMBER, OF_SERVICES(uid_connect_rate), 0, 1000000 },
	{ "uid_connect_burst", NUMBER, OF_SERVICES(uid_connect_burst), 1, 1000000 },
	{ "window", NUMBER, OF_SERVICES(window), 1, 1024 },
	{ "heartbeat_ms", TIME, OF_SERVICES(heartbeat_ms), 10, 3600000 },
	{ "check_ms", TIME, OF_SERVICES(check_ms), 0, 3600000 },
	{ "check_timeout_ms", TIME, OF_SERVICES(check_timeout_ms), 10, 3600000 },
	{ "timeout_ms", TIME, OF_SERVICES(timeout_ms), 1, 86400000 },
	{ "queued", NUMBER, OF_SERVICES(queued), 1, 4000 },
	{ "schedule", SCHEDULE, OF_SERVICES(schedule), 0, 0 },
	{ "user_percent", NUMBER, OF_SERVICES(user_percent), 1, 100 },
	{ "attempts", NUMBER, OF_SERVICES(attempts), 1, 16 },
	{ "breaker_open_ms", TIME, OF_SERVICES(breaker_open_ms), 10, 300000 },
	{ "drain_ms", TIME, OF_SERVICES(drain_ms), 0, 3600000 },
	{ "balance", BALANCE, OF_SERVICES(balance), 0, 0 },
	{ "concurrency", CONCURRENCY, OF_SERVICES(concurrency), 0, 0 },
	{ "cache_entries", NUMBER, OF_SERVICES(cache_entries), 1, 1000000 },
	{ "cache_bytes", NUMBER, OF_SERVICES(cache_bytes), 65536, UINT64_C(1) << 40 },
	{ "cache_ttl_ms", TIME, OF_SERVICES(cache_ttl_ms), 1, 86400000 },
	{ "keys", NUMBER, OF_SERVICES(keys), 4, 1000000 },
	{ "key_bytes", NUMBER, OF_SERVICES(key_bytes), 1048576, UINT64_C(1) << 40 },
	{ "tokens", TEXT, OF_SERVICES(tokens), 1, ROUTER_PATH_ROOM - 1 },
	{ "key_ttl_ms", TIME, OF_SERVICES(key_ttl_ms), 1, 86400000 },
	{ "uid_regions", NUMBER, OF_SERVICES(uid_regions), 0, 4096 },
	{ "uid_region_bytes", NUMBER, OF_SERVICES(uid_region_bytes), 4096, UINT64_C(1) << 40 },
	{ NULL, TEXT, 0, 0, 0, 0 },
};

#define OF_OP(field) offsetof(struct router_op, field), sizeof(((struct router_op *)0)->field)

static const struct key op_keys[] = {
	{ "cache", CACHE, OF_OP(cache), 0, 0 },
	{ "cache_errors", YES_NO, OF_OP(cache_errors), 0, 0 },
	{ "balance", BALANCE, OF_OP(balance), 0, 0 },
	{ "concurrency", CONCURRENCY, OF_OP(concurrency), 0, 0 },
	{ "sessions", SESSIONS, OF_OP(sessions), 0, 0 },
	{ "user_percent", NUMBER, OF_OP(user_percent), 1, 100 },
	{ "batch", NUMBER, OF_OP(batch), 1, ROUTER_BATCH_MAX },
	{ "batch_bytes", NUMBER, OF_OP(batch_bytes), 1, UINT64_C(1) << 30 },
	{ "batch_delay_us", NUMBER, OF_OP(batch_delay_us), 0, 60000000 },
	{ "batch_preferred", SIZES, OF_OP(batch_preferred), 1, ROUTER_BATCH_MAX },
	{ NULL, TEXT, 0, 0, 0, 0 },
};

static void put_number(void *to, size_t room, uint64_t value)
{
	const uint32_t small = (uint32_t)value;

	memcpy(to, room == sizeof(small) ? (const void *)&small : (const void *)&value, room);
}

struct unit {
	const char *name;
	uint64_t value;
};

static const struct unit amounts[] = {
	{ "", 1 },
	{ "KiB", UINT64_C(1) << 10 },
	{ "MiB", UINT64_C(1) << 20 },
	{ "GiB", UINT64_C(1) << 30 },
	{ "K", UINT64_C(1) << 10 }, /* as the commands have them */
	{ "M", UINT64_C(1) << 20 },
	{ "G", UINT64_C(1) << 30 },
	{ NULL, 0 },
};
static const struct unit times[] = {
	{ "", 1 }, { "ms", 1 }, { "s", 1000 }, { "min", 60000 }, { NULL, 0 },
};
static const struct unit octals[] = { { "", 1 }, { NULL, 0 } };

/* Digits, and a unit behind them. */
static bool parse_number(const char *text, int base, const struct unit *unit, uint64_t *value)
{
	char *end;

	if (!isdigit((unsigned char)text[0]))
		return false;
	errno = 0;
	*value = strtoull(text, &end, base);
	if (errno != 0)
		return false;
	for (; unit->name != NULL; unit++) {
		if (strcmp(end, unit->name) != 0)
			continue;
		if (*value > UINT64_MAX / unit->value)
			return false;
		*value *= unit->value;
		return true;
	}
	return false;
}

/* Whether somebody has tried to say how many thousands. */
static bool has_units(const char *text)
{
	const size_t digits = strspn(text, "0123456789");

	return digits != 0 && text[digits] != '\0';
}

static bool set_number(struct reader *r, const struct key *k, void *to, const char *text)
{
	const struct unit *units = k->kind == OCTAL ? octals : k->kind == TIME ? times : amounts;
	uint64_t value;

	if (!parse_number(text, k->kind == OCTAL ? 8 : 10, units, &value) || value < k->min ||
	    value > k->max || (k->kind == POWER && (value & (value - 1)) != 0)) {
		if (k->kind == OCTAL)
			return WRONG(r, "%s is '%.60s'; allowed: an octal number, 0 to 0777",
				     k->name, text);
		return WRONG(r, "%s is '%.60s'; allowed: %s%" PRIu64 " to %" PRIu64 "%s", k->name,
			     text, k->kind == POWER ? "a power of two, " : "", k->min, k->max,
			     k->kind == TIME   ? " ms, or so many s or min"
			     : has_units(text) ? ", or so many KiB, MiB or GiB"
					       : "");
	}
	put_number(to, k->room, value);
	return true;
}

static bool set_text(struct reader *r, const struct key *k, char *to, const char *text)
{
	const size_t n = strlen(text);

	if (n < k->min || n > k->max)
		return WRONG(r, "%s has %zu bytes; allowed: %" PRIu64 " to %" PRIu64, k->name, n,
			     k->min, k->max);
	memcpy(to, text, n + 1);
	return true;
}

/* Numbers with commas between them, each above the one before. */
static bool set_sizes(struct reader *r, const struct key *k, uint32_t *to, const char *text)
{
	const uint32_t room = (uint32_t)(k->room / sizeof(*to));
	char words[MOST_LINE], *at = words;
	uint32_t n = 0;
	uint64_t value;

	snprintf(words, sizeof(words), "%s", text);
	while (at != NULL) {
		const char *word = strsep(&at, ",");

		word += strspn(word, " \t");
		if (n == room || !parse_number(word, 10, octals, &value) || value < k->min ||
		    value > k->max || (n != 0 && value <= to[n - 1]))
			return WRONG(r,
				     "%s is '%.60s'; allowed: 1 to %" PRIu32
				     " numbers, ascending, with commas between them, each %" PRIu64
				     " to %" PRIu64,
				     k->name, text, room, k->min, k->max);
		to[n++] = (uint32_t)value;
	}
	return true;
}

/* Its place in a list of names; -1: it is none of them. */
static int place_in(const char *const names[], const char *text)
{
	for (int i = 0; names[i] != NULL; i++)
		if (strcmp(names[i], text) == 0)
			return i;
	return -1;
}

/* One of some words, of which the first stands for that value, the next for the one after it. */
static bool set_word(struct reader *r, const struct key *k, void *to, const char *text,
		     const char *const words[], uint64_t first)
{
	const int place = place_in(words, text);
	char allowed[80] = "";

	for (int i = 0; place < 0 && words[i] != NULL; i++)
		snprintf(allowed + strlen(allowed), sizeof(allowed) - strlen(allowed), "%s%s",
			 i != 0 ? ", " : "", words[i]);
	if (place < 0)
		return WRONG(r, "%s is '%.60s'; allowed: %s", k->name, text, allowed);
	put_number(to, k->room, first + (uint64_t)place);
	return true;
}

/* A word for queues, for their processes, and for ops. `room`: with the end. */
static bool is_name(const char *text, size_t room)
{
	size_t n = 0;

	for (; text[n] != '\0'; n++)
		if (!isalnum((unsigned char)text[n]) && strchr("._-", text[n]) == NULL)
			return false;
	return n != 0 && n < room;
}

static bool set(struct reader *r, const struct key *k, void *to, const char *text)
{
	static const char *const devices[] = { "auto", "cpu", "cuda", NULL };
	static const char *const answers[] = { "no", "yes", NULL };
	static const char *const balances[] = ROUTER_BALANCES;
	static const char *const caches[] = { "no", "user", "public", NULL };
	static const char *const limits[] = { "fixed", "vegas", "gradient2", "aimd", NULL };
	static const char *const sessions[] = { "table", "maglev", "strict", NULL };
	static const char *const schedules[] = ROUTER_SCHEDULES;
	static const char *const needs[] = { "none", "required", NULL };
	int place;

	switch (k->kind) {
	case TEXT:
		return set_text(r, k, to, text);
	case CHARDEV:
		if (strncmp(text, "cuse:", 5) == 0 && !is_name(text + 5, ROUTER_OP_ROOM))
			return WRONG(r,
				     "chardev is '%.120s'; allowed: a path, or cuse:NAME, NAME of "
				     "1 to 64 of A-Z a-z 0-9 . _ -",
				     text);
		return set_text(r, k, to, text);
	case DEVICE:
		return set_word(r, k, to, text, devices, 0);
	case BALANCE:
		place = place_in(balances, text);
		if (place < 0)
			return WRONG(r,
				     "balance is '%.60s'; allowed: round_robin, weighted, "
				     "least_conn, least_response, load, random, priority, "
				     "capability",
				     text);
		memcpy(to, text, strlen(text) + 1);
		return true;
	case CACHE:
		return set_word(r, k, to, text, caches, ROUTER_CACHE_NO);
	case CONCURRENCY:
		return set_word(r, k, to, text, limits, ROUTER_CONCURRENCY_FIXED);
	case SESSIONS:
		return set_word(r, k, to, text, sessions, ROUTER_SESSIONS_TABLE);
	case SCHEDULE:
		return set_word(r, k, to, text, schedules, ROUTER_SCHEDULE_WEIGHTED);
	case TOKEN:
		return set_word(r, k, to, text, needs, 0);
	case YES_NO:
		place = place_in(answers, text);
		if (place < 0)
			return WRONG(r, "%s is '%.60s'; allowed: yes, no", k->name, text);
		*(bool *)to = place == 1;
		return true;
	case SIZES:
		return set_sizes(r, k, to, text);
	case PROCESS:
		if (!is_name(text, GQ_WIRE_NAME))
			return WRONG(r,
				     "process is '%.80s'; allowed: none, or 1 to 63 of A-Z a-z "
				     "0-9 . _ -",
				     text);
		snprintf(to, k->room, "%s", strcmp(text, "none") == 0 ? "" : text);
		return true;
	default:
		return set_number(r, k, to, text);
	}
}

/* ---- lines ----------------------------------------------------------------------------------- */

static bool was_given(const struct reader *r, const char *name)
{
	for (unsigned i = 0; queue_keys[i].name != NULL; i++)
		if (strcmp(queue_keys[i].name, name) == 0)
			return (r->seen & UINT32_C(1) << i) != 0;
	return false;
}

/* What says how batches are made has a meaning only where there are some. */
static bool end_op(struct reader *r)
{
	const struct router_op *op = r->op;
	const char *key = op->batch_bytes != 0          ? "batch_bytes"
			  : op->batch_delay_us != 0     ? "batch_delay_us"
			  : op->batch_preferred[0] != 0 ? "batch_preferred"
							: NULL;

	if (op->batch <= 1 && key != NULL)
		return WRONG(r, "op '%s' ends with %s and without batch; allowed: batch of 2 to %d",
			     op->name, key, ROUTER_BATCH_MAX);
	for (int i = 0; i < ROUTER_PREFERRED; i++)
		if (op->batch_preferred[i] > op->batch)
			return WRONG(r,
				     "op '%s' ends with batch_preferred %" PRIu32
				     "; allowed: 1 to %" PRIu32 ", its batch",
				     op->name, op->batch_preferred[i], op->batch);
	return true;
}

/* What a section needs, once all its lines have been read. */
static bool end_section(struct reader *r)
{
	struct broker_queue *q = r->queue;

	if (r->op != NULL)
		return end_op(r);
	if (q == NULL)
		return true;
	/* What a GPU's driver does to its process it does to one that has nothing else. */
	if (q->device == Q_DEVICE_CUDA && !was_given(r, "process"))
		snprintf(q->process, sizeof(q->process), "gpu%" PRIu32, q->ordinal);
	if (q->processor[0] == '\0' && !q->per_client)
		return WRONG(r,
			     "queue '%s' ends without a processor; allowed: only with per_client "
			     "= yes",
			     q->name);
	if (q->window <= q->capacity)
		return true;
	if (was_given(r, "window"))
		return WRONG(r,
			     "queue '%s' ends with window %" PRIu32 "; allowed: 1 to %" PRIu32
			     ", its capacity",
			     q->name, q->window, q->capacity);
	q->window = q->capacity;
	return true;
}

static bool begin_queue(struct reader *r, const char *name)
{
	struct broker_config *cfg = r->cfg;

	if (!is_name(name, GQ_WIRE_NAME))
		return WRONG(r, "queue is called '%.80s'; allowed: 1 to 63 of A-Z a-z 0-9 . _ -",
			     name);
	for (uint32_t i = 0; i < cfg->queues; i++)
		if (strcmp(cfg->queue[i].name, name) == 0)
			return WRONG(r, "queue '%s' is there already", name);
	if (cfg->queues == BROKER_MOST_QUEUES)
		return WRONG(r, "one queue too many; allowed: 1 to %d", BROKER_MOST_QUEUES);
	r->queue = &cfg->queue[cfg->queues++];
	broker_queue_defaults(r->queue, name);
	return true;
}

static bool begin_op(struct reader *r, const char *name)
{
	struct router_config *cfg = &r->cfg->services;

	if (!is_name(name, ROUTER_OP_ROOM))
		return WRONG(r, "op is called '%.80s'; allowed: 1 to 64 of A-Z a-z 0-9 . _ -",
			     name);
	for (uint32_t i = 0; i < cfg->ops; i++)
		if (strcmp(cfg->op[i].name, name) == 0)
			return WRONG(r, "op '%s' is there already", name);
	if (cfg->ops == ROUTER_OPS)
		return WRONG(r, "one op too many; allowed: 0 to %d", ROUTER_OPS);
	r->op = &cfg->op[cfg->ops++];
	*r->op = (struct router_op){ .cache = ROUTER_CACHE_NO };
	memcpy(r->op->name, name, strlen(name) + 1);
	return true;
}

static bool begin_section(struct reader *r, char *text)
{
	char *end = strchr(text, ']');

	if (end == NULL || end[1] != '\0')
		return WRONG(r, "a section is [gpuqd], [queue NAME], [services] or [op NAME]");
	*end = '\0';
	if (!end_section(r))
		return false;
	r->queue = NULL;
	r->op = NULL;
	r->in_services = false;
	r->in_section = true;
	r->seen = 0;
	if (strcmp(text + 1, "gpuqd") == 0) {
		if (r->had_gpuqd)
			return WRONG(r, "section [gpuqd] is there already");
		r->had_gpuqd = true;
		return true;
	}
	if (strcmp(text + 1, "services") == 0) {
		if (r->had_services)
			return WRONG(r, "section [services] is there already");
		r->in_services = r->had_services = true;
		return true;
	}
	if (strncmp(text + 1, "queue ", 6) == 0)
		return begin_queue(r, text + 7);
	if (strncmp(text + 1, "op ", 3) == 0)
		return begin_op(r, text + 4);
	return WRONG(r, "section is [%.60s]; allowed: [gpuqd], [queue NAME], [services], [op NAME]",
		     text + 1);
}

static char *trim(char *text)
{
	char *end;

	while (isspace((unsigned char)*text))
		text++;
	end = text + strlen(text);
	while (end > text && isspace((unsigned char)end[-1]))
		*--end = '\0';
	return text;
}

/* Of a key that broker_config_check_paths() or broker_config_check_processors() may refuse. */
static void note_line(struct reader *r, const char *name)
{
	struct broker_config *cfg = r->cfg;

	if (r->queue != NULL && strcmp(name, "processor") == 0)
		r->queue->processor_line = r->line;
	else if (strcmp(name, "socket") == 0)
		*(r->in_services ? &cfg->line.services : &cfg->line.socket) = r->line;
	else if (strcmp(name, "tokens") == 0)
		r->tokens_line[r->in_services] = r->line;
	else if (strcmp(name, "stats") == 0)
		cfg->line.stats = r->line;
	else if (strcmp(name, "metrics") == 0)
		cfg->line.metrics = r->line;
	else if (strcmp(name, "chardev") == 0)
		cfg->line.chardev = r->line;
}

static bool refuse_key(struct reader *r, const struct key *keys, const char *name)
{
	char known[360] = "";
	size_t n = 0;

	for (unsigned i = 0; keys[i].name != NULL && n < sizeof(known); i++)
		n += (size_t)snprintf(known + n, sizeof(known) - n, "%s%s", i != 0 ? ", " : "",
				      keys[i].name);
	return WRONG(r, "there is no key '%.40s' in this section; allowed: %s", name, known);
}

static bool read_key(struct reader *r, char *text)
{
	const struct key *keys = r->queue != NULL ? queue_keys
				 : r->op != NULL  ? op_keys
				 : r->in_services ? services_keys
						  : config_keys;
	char *value = strchr(text, '=');
	const char *name;

	if (value == NULL)
		return WRONG(r, "'%.60s' is no section and no KEY = VALUE", text);
	if (!r->in_section)
		return WRONG(r, "a key before the first section");
	*value++ = '\0';
	name = trim(text);
	for (unsigned i = 0; keys[i].name != NULL; i++) {
		uint8_t *to = r->queue != NULL ? (uint8_t *)r->queue
			      : r->op != NULL  ? (uint8_t *)r->op
			      : r->in_services ? (uint8_t *)&r->cfg->services
					       : (uint8_t *)r->cfg;

		if (strcmp(keys[i].name, name) != 0)
			continue;
		if ((r->seen & UINT32_C(1) << i) != 0)
			return WRONG(r, "%s is there twice", name);
		r->seen |= UINT32_C(1) << i;
		note_line(r, name);
		return set(r, &keys[i], to + keys[i].offset, trim(value));
	}
	return refuse_key(r, keys, name);
}

static bool read_line(struct reader *r, char *line)
{
	char *text = trim(line);

	if (*text == '\0' || *text == '#' || *text == ';')
		return true;
	return *text == '[' ? begin_section(r, text) : read_key(r, text);
}

static bool read_lines(struct reader *r, FILE *file)
{
	char line[MOST_LINE];
	size_t bytes = 0;

	for (;;) {
		size_t n, read = sizeof(line);

		memset(line, 1, sizeof(line)); /* so that the last NUL is the one behind the line */
		if (fgets(line, sizeof(line), file) == NULL)
			break;
		n = strlen(line);
		while (line[read - 1] != '\0')
			read--;
		r->line++;
		if (n != read - 1)
			return WRONG(r, "the line has a NUL byte");
		bytes += n;
		if (n + 1 == sizeof(line) && line[n - 1] != '\n')
			return WRONG(r, "the line has more than %d bytes", MOST_LINE - 2);
		if (bytes > MOST_BYTES)
			return WRONG(r, "the file has more than %d bytes", MOST_BYTES);
		if (!read_line(r, line))
			return false;
	}
	if (ferror(file))
		return WRONG(r, "cannot be read: %s", strerror(errno));
	return end_section(r);
}

/* A process gives root away by itself; without it there is nothing to give away. */
static bool check_child_user(struct reader *r)
{
	const char *name = r->cfg->child_user;
	struct passwd *user;

	if (name[0] == '\0')
		return true;
	if (geteuid() != 0)
		return WRONG(r, "child_user is '%s', and gpuqd is not root; allowed: only as root",
			     name);
	errno = 0;
	user = getpwnam(name);
	if (user == NULL || user->pw_uid == 0)
		return WRONG(r, "child_user is '%s'%s; allowed: a user of this machine, not root",
			     name, user == NULL ? ", and there is no such user" : "");
	return true;
}

/* The file that `tokens` of a section names. */
static bool read_tokens(struct reader *r, bool services)
{
	const char *path = services ? r->cfg->services.tokens : r->cfg->tokens;
	char why[ROUTER_ERROR_ROOM];

	if (path[0] == '\0' ||
	    router_tokens_read(path, services ? &r->cfg->services.token : &r->cfg->token, why))
		return true;
	r->line = r->tokens_line[services];
	return WRONG(r, "tokens: %s", why);
}

/* Strict: nobody gets past others, as they have to where a user has a share. */
static bool check_schedule(struct reader *r)
{
	const struct router_config *s = &r->cfg->services;

	if (s->schedule != ROUTER_SCHEDULE_STRICT)
		return true;
	if (s->user_percent < 100)
		return WRONG(
			r, "user_percent of [services] is %u; allowed with schedule = strict: 100",
			s->user_percent);
	for (uint32_t i = 0; i < s->ops; i++)
		if (s->op[i].user_percent != 0 && s->op[i].user_percent < 100)
			return WRONG(
				r,
				"user_percent of [op %s] is %u; allowed with schedule = strict: "
				"100",
				s->op[i].name, s->op[i].user_percent);
	return true;
}

bool broker_config_read(const char *path, struct broker_config *cfg, char error[BROKER_ERROR_ROOM])
{
	struct reader r = { .path = path, .cfg = cfg, .error = error };
	FILE *file = fopen(path, "re");
	bool read;

	broker_config_defaults(cfg);
	if (file == NULL) {
		snprintf(error, BROKER_ERROR_ROOM, "%.200s: %s", path, strerror(errno));
		return false;
	}
	read = read_lines(&r, file);
	fclose(file);
	if (!read)
		return false;
	if (r.had_services && cfg->services.socket[0] == '\0')
		return WRONG(&r, "section [services] has no socket");
	if (!read_tokens(&r, true) || !read_tokens(&r, false))
		return false;
	for (uint32_t i = 0; i < cfg->queues; i++)
		if (cfg->queue[i].token != 0 && cfg->token.keys == 0)
			return WRONG(
				&r, "queue '%s' has token = required, and [gpuqd] no tokens = FILE",
				cfg->queue[i].name);
	if (cfg->services.ops != 0 && !r.had_services)
		return WRONG(&r, "there is a section [op %s], and none [services]",
			     cfg->services.op[0].name);
	if (!check_schedule(&r) || !check_child_user(&r))
		return false;
	if (cfg->queues == 0 && !r.had_services)
		return WRONG(&r, "there is no section [queue NAME], and none [services]");
	if (cfg->queues != 0 && cfg->socket[0] == '\0')
		return WRONG(&r, "there is no socket, and XDG_RUNTIME_DIR is too long for one");
	return true;
}
