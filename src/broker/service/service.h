/* SPDX-License-Identifier: Apache-2.0 */
/* service.h - the router of gpuqd as a part of a process: its configuration, starting and ending.
 */
#ifndef GPUQ_BROKER_SERVICE_SERVICE_H
#define GPUQ_BROKER_SERVICE_SERVICE_H

#include <stdbool.h>
#include <stdint.h>

enum {
	ROUTER_SOCKET_ROOM = 108,
	ROUTER_NAME_ROOM = 32,
	ROUTER_ERROR_ROOM = 600,
	ROUTER_OP_ROOM = 65,
	ROUTER_OPS = 32,
	ROUTER_PREFERRED = 8, /* sizes of an op's batches */
	ROUTER_BATCH_MAX = 256,
	ROUTER_PATH_ROOM = 200,
	ROUTER_KEYS = 2,     /* of tokens: two while they are changed */
	ROUTER_DENIED = 256, /* tokens */
};

/* What tokens are checked with. Without a key nobody needs one. */
struct router_tokens {
	uint32_t keys, denied;
	struct {
		uint8_t number;
		uint8_t key[32];
	} key[ROUTER_KEYS];
	uint8_t deny[ROUTER_DENIED][16];
};

/* Whose requests an answer of the cache is for. */
enum router_cache { ROUTER_CACHE_NO, ROUTER_CACHE_USER, ROUTER_CACHE_PUBLIC };

/* How many requests a service has at once: its capacity, or what is learned, if that is less. */
enum router_concurrency {
	ROUTER_CONCURRENCY_AS_ALL, /* of an op: what [services] says */
	ROUTER_CONCURRENCY_FIXED,
	ROUTER_CONCURRENCY_VEGAS,
	ROUTER_CONCURRENCY_GRADIENT2,
	ROUTER_CONCURRENCY_AIMD,
};

/* Where a session stays: with the service that it began with, as long as that can take it; with one
 * that is computed; with the service that it began with, or nowhere. */
enum router_sessions { ROUTER_SESSIONS_TABLE, ROUTER_SESSIONS_MAGLEV, ROUTER_SESSIONS_STRICT };

/* What goes first: classes share by weight, and users take turns; or strictly by class, then by
 * arrival. */
enum router_schedule { ROUTER_SCHEDULE_WEIGHTED, ROUTER_SCHEDULE_STRICT };
#define ROUTER_SCHEDULES                                                                           \
	{                                                                                          \
		"weighted", "strict", NULL                                                         \
	}

/* What the configuration says of one op. */
struct router_op {
	char name[ROUTER_OP_ROOM];
	uint32_t cache;                 /* enum router_cache */
	bool cache_errors;              /* an answer "I could not" is kept, too */
	char balance[ROUTER_NAME_ROOM]; /* "": that of all */
	uint32_t concurrency;           /* enum router_concurrency */
	uint32_t sessions;              /* enum router_sessions */
	uint32_t user_percent; /* of what its workers take at once, for one user; 0: as for all */
	/* Requests that go to a worker together. 0 and 1: each goes by itself */
	uint32_t batch;
	uint64_t batch_bytes;                       /* of their payloads, at most; 0: any */
	uint32_t batch_delay_us;                    /* how long the first waits for others */
	uint32_t batch_preferred[ROUTER_PREFERRED]; /* sizes, ascending; 0: no more */
};

struct router_config {
	char socket[ROUTER_SOCKET_ROOM];  /* "": no services */
	char chardev[ROUTER_SOCKET_ROOM]; /* a file that is a device; "": none */
	uint32_t socket_mode;
	uint32_t connections;       /* of all users */
	uint32_t uid_connections;   /* of one user */
	uint32_t uid_connect_rate;  /* new ones of one user a second; 0: no limit */
	uint32_t uid_connect_burst; /* at once */
	uint32_t window;            /* requests of one connection that have not ended */
	uint32_t heartbeat_ms;      /* three of them missed: a service gets nothing new */
	uint32_t check_ms;          /* how often a service is asked whether it is well; 0: never */
	uint32_t check_timeout_ms;  /* within which it has to answer */
	uint32_t timeout_ms;        /* of a request that names none */
	uint32_t queued;            /* requests that wait for a service, in all */
	uint32_t schedule;          /* enum router_schedule */
	uint32_t user_percent;      /* of what an op's workers take at once, for one user */
	uint32_t attempts;          /* of one request, the first among them */
	uint32_t breaker_open_ms;   /* a service that failed five times in a row rests so long */
	uint32_t drain_ms; /* how long the end waits for requests that have been accepted */
	char balance[ROUTER_NAME_ROOM];
	uint32_t concurrency;          /* enum router_concurrency */
	uint32_t cache_entries;        /* most answers in the cache */
	uint64_t cache_bytes;          /* most bytes of them together */
	uint32_t cache_ttl_ms;         /* how long an answer is there */
	uint32_t keys;                 /* most keys of idempotency, of all users */
	uint64_t key_bytes;            /* most bytes of their answers together */
	uint32_t key_ttl_ms;           /* how long a key is remembered */
	uint32_t uid_regions;          /* of one user */
	uint64_t uid_region_bytes;     /* of all of them together */
	char tokens[ROUTER_PATH_ROOM]; /* the file of the keys of tokens; "": nobody needs one */
	struct router_tokens token;    /* what is in it */
	uint32_t ops;                  /* entries in `op` */
	struct router_op op[ROUTER_OPS];
	struct page *page; /* where counts are written; NULL: nowhere */
	bool in_process;   /* router_connect() may be called */
	uint32_t netlink;  /* a port of NETLINK_USERSOCK where it listens, too; 0: none */
	int listener;      /* a socket that listens already; 0: none */
	int lock;          /* of socket_lock(), if it is held already; 0: router_start() takes it */
};

struct router;
struct page;

#define ROUTER_DEFAULTS                                                                            \
	{                                                                                          \
		.socket_mode = 0600, .connections = 1024, .uid_connections = 64,                   \
		.uid_connect_rate = 100, .uid_connect_burst = 256, .window = 64,                   \
		.heartbeat_ms = 5000, .check_ms = 30000, .check_timeout_ms = 5000,                 \
		.timeout_ms = 30000, .queued = 2000, .user_percent = 100, .attempts = 4,           \
		.breaker_open_ms = 30000, .drain_ms = 25000, .balance = "least_conn",              \
		.concurrency = ROUTER_CONCURRENCY_FIXED, .cache_entries = 1000,                    \
		.cache_bytes = UINT64_C(64) << 20, .cache_ttl_ms = 300000, .keys = 10000,          \
		.key_bytes = UINT64_C(64) << 20, .key_ttl_ms = 300000, .uid_regions = 64,          \
		.uid_region_bytes = UINT64_C(256) << 20                                            \
	}

/* The ways to choose a service. */
#define ROUTER_BALANCES                                                                            \
	{                                                                                          \
		"round_robin", "weighted", "least_conn", "least_response", "load", "random",       \
			"priority", "capability", NULL                                             \
	}

/*
 * The lock beside a socket, of who listens there: it tells a socket in use from one that was left
 * behind. The kernel drops it with the process. Makes /run/gpuq, for a socket in there.
 * @return its descriptor; -1: `error` says why
 */
int socket_lock(const char *socket, char error[ROUTER_ERROR_ROOM]);

/*
 * Reads the keys of tokens, and the tokens that are not taken any more, from a file that only its
 * owner may read: lines "key NUMBER HEX", "deny HEX".
 * @return false: `error` says what is wrong, with the line
 */
bool router_tokens_read(const char *path, struct router_tokens *to, char error[ROUTER_ERROR_ROOM]);

/* Listens, and serves on a thread of its own; `cfg->lock` is its own from now on. @return NULL:
 * `error` says why */
struct router *router_start(const struct router_config *cfg, char error[ROUTER_ERROR_ROOM]);

/*
 * A connection of this process, without a path: only with cfg->in_process. Its endpoint is
 * "fd:NUMBER"; whoever has the descriptor speaks as this process, wherever it takes it. From any
 * thread, as long as router_stop() has not been called.
 * @return a descriptor, the caller's; -1 with errno: ECONNREFUSED: it is ending, EAGAIN: too many
 *         come at once, EOPNOTSUPP: not with this configuration; as socketpair()
 */
int router_connect(struct router *r);

/* Have its counts written into the page, now. From any thread. */
void router_show(struct router *r);

/* Takes over what may change while it runs: broker_config_merge() has found it good. */
void router_reload(struct router *r, const struct router_config *cfg);

/*
 * Begins to end it: nothing is accepted any more. It has ended when all that was accepted has, or
 * drain_ms later; what has not ended by then is answered "shutting down".
 */
void router_begin_stop(struct router *r);
bool router_has_ended(struct router *r);

/* Ends it, and waits for that. */
void router_stop(struct router *r);

#endif /* GPUQ_BROKER_SERVICE_SERVICE_H */
