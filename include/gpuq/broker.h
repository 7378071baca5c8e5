/* SPDX-License-Identifier: Apache-2.0 */
/*
 * broker.h - services of other processes, found and called through gpuqd: a worker registers what
 * it can do, and a caller names it, without knowing where it is or how many there are. The guide is
 * docs/guide/broker.md.
 */
#ifndef GPUQ_BROKER_H
#define GPUQ_BROKER_H

#include <gpuq/gpuq.h>

#include <stdbool.h>

#ifdef __cplusplus
extern "C" {
#endif

/*
 * Conventions: those of gpuq.h, with these differences.
 *
 * Threads    A BrokerClient is a connection. One thread at a time may use it, and the caller sees
 *            to that; each thread may have a connection of its own. No call starts a thread.
 * Forks      A connection belongs to the process that made it. In a forked child every call on it
 *            gives Q_ERR_UNSUPPORTED, and q_broker_close() frees the child's copy alone.
 * Cancelling No call is a cancellation point.
 * Signals    No call of this header may be made in a signal handler, or left by longjmp(). A signal
 *            that comes meanwhile makes no call fail and no wait end early. No call raises SIGPIPE.
 * Limits     A name has 1 to 64 bytes of A-Z a-z 0-9 . _ -. A request or a reply has at most
 *            Q_BROKER_MAX_BYTES bytes; a request whose payload lies in a region may have
 *            Q_BROKER_MAX_REGION. A connection has at most as many requests without an answer as
 *            gpuqd allows: 64, unless its key `window` says otherwise.
 * Ordering   What a caller wrote before it sent a request is visible to the worker that receives
 *            it, and what a worker wrote before its reply to the caller that takes the reply, as
 *            far as both can reach the memory. Requests may be run in any order.
 * Outputs    `*bytes` and `out` of a request are written when its end is taken, or when its reply
 *            finds no room, and at no other time. `*out_count` is written whatever the status.
 * Strings    Are copied by the call that takes them, unless the field says otherwise.
 * Errors     Every call may return Q_ERR_INVALID_ARG, also for a reserved field that is not 0,
 *            Q_ERR_UNSUPPORTED (in a forked child), Q_ERR_NO_MEMORY, and Q_ERR_LOST: gpuqd has
 *            gone, and from then on every call says so; connect again. Every call that sends may
 *            return Q_ERR_TIMEOUT: gpuqd took nothing for BrokerConfig.timeout_ms, and nothing was
 *            sent. They are not repeated below; q_last_error() says more.
 */

#define Q_BROKER_MAX_BYTES  61440u    /* of a request, or of a reply: 60 KiB */
#define Q_BROKER_MAX_BATCH  1000u     /* items of a batch */
#define Q_BROKER_MAX_REGION 16777216u /* bytes of a region: 16 MiB */
#define Q_BROKER_NAME_BYTES 65u       /* of a name, with the NUL */

typedef struct BrokerClient BrokerClient;

/* What became of a request, more exactly than a QueueStatus. Numbers never change. */
typedef enum BrokerReason {
	Q_REASON_OK = 0,
	Q_REASON_ERROR = 1,        /* Q_ERR_FAILED: the service says that it could not do it */
	Q_REASON_TIMEOUT = 2,      /* Q_ERR_EXPIRED: its time was over */
	Q_REASON_OVERLOADED = 3,   /* Q_ERR_FULL: nobody has room; try after retry_after_ms */
	Q_REASON_INVALID = 4,      /* Q_ERR_INVALID_ARG: the service, or gpuqd, cannot read it */
	Q_REASON_NOT_FOUND = 5,    /* Q_ERR_NOT_FOUND: nobody does this */
	Q_REASON_INTERNAL = 6,     /* Q_ERR_FAILED: a fault of the service's own */
	Q_REASON_CANCELLED = 7,    /* Q_ERR_CANCELLED: its caller cancelled it, or has gone */
	Q_REASON_RATE = 8,         /* Q_ERR_LIMIT: its token's rate; try after retry_after_ms */
	Q_REASON_UNKNOWN_PEER = 9, /* Q_ERR_POLICY: its token is not good any more */
	Q_REASON_DENIED = 10,      /* Q_ERR_POLICY: its token does not allow that */
	Q_REASON_LOST = 11,        /* Q_ERR_LOST: its worker died, and may have run it */
	Q_REASON_SHUTDOWN = 12,    /* Q_ERR_SHUTDOWN: gpuqd, or the service, ends */
	Q_REASON_CHECKSUM = 13,    /* Q_ERR_FAILED: its bytes were damaged on the way */
	Q_REASON_UNSUPPORTED =
		14,            /* Q_ERR_UNSUPPORTED: the service, or the transport, cannot do it */
	Q_REASON_BREAKER = 15, /* Q_ERR_NOT_READY: its services fail; try after retry_after_ms */
	Q_REASON_DESCRIPTORS = 16, /* Q_ERR_LIMIT: gpuqd, or the worker, has no room for the
				    * region's descriptor now */
	Q_REASON_REVOKED = 17,     /* Q_ERR_STALE: the region has been given back */
} BrokerReason;

/* In every field zero means the default. Read by q_broker_connect(), which keeps nothing of it. */
typedef struct BrokerConfig {
	/* Where gpuqd's services are: "unix:PATH", a socket; "netlink:PORT", a gpuqd of root's or
	 * of this process's effective user, or "netlink:PORT@UID", of that user's; "chardev:PATH",
	 * its device; "fd:NUMBER", a SEQPACKET socket that is connected to it. That descriptor is
	 * the connection's from then on, also if connecting fails. NULL: $GPUQ_BROKER, in the same
	 * form; there is no other default. */
	const char *endpoint;
	const char *name;     /* of this client, for people; NULL: none */
	uint32_t timeout_ms;  /* how long to wait until it is connected, until gpuqd takes what is
			       * sent, and for its answers to anything but requests; 0: 5000;
			       * UINT32_MAX: for ever */
	uint32_t reserved32;  /* 0 */
	const char *token;    /* what this client may do, as `gpuq token` prints it: 2 to 8192
			       * hexadecimal digits; NULL: $GPUQ_TOKEN, or none. Only a gpuqd whose
			       * configuration has keys for tokens looks at it */
	uint32_t reserved[2]; /* 0 */
} BrokerConfig;

/* Where a payload lies that stays where it is. */
typedef struct BrokerExtent {
	uint64_t region; /* BrokerRegion.id, of the same connection; sealed */
	uint64_t offset; /* bytes from its beginning */
} BrokerExtent;

/* A request as its caller sends it. In every field but `service` zero means the default. The call
 * copies what it points to, but for the bytes of an extent. */
typedef struct BrokerCall {
	const char *service;  /* an op, or the name of a service that has registered without one */
	const void *payload;  /* `bytes` bytes; NULL is legal when that is 0 */
	size_t bytes;         /* of the payload, 0 to Q_BROKER_MAX_BYTES */
	const void *session;  /* requests with the same bytes go to the same service, as long as
			       * that is well and has room; where gpuqd's configuration has it
			       * strict (see gpuqd(1)), to that or to none; NULL: none */
	size_t session_bytes; /* of it, 1 to 64; 0: none */
	uint32_t timeout_ms;  /* the request ends Q_ERR_EXPIRED after that; more than 24 h counts as
			       * 24 h; 0: gpuqd's default, 30 s */
	uint8_t priority;     /* 1 to 255: 255 critical, from 192 high, from 128 normal, below that
			       * low; 0: 128 */
	bool idempotent;      /* running it twice does no harm, so gpuqd may, when a worker dies */
	bool cache;          /* an answer to the same request will do, also one from before. gpuqd's
			      * configuration must allow it for this op. Not with a session */
	bool all_or_nothing; /* of q_broker_submit_batch(): if there is no room for one of its items
			      * none runs */
	/* A key of idempotency, 1 to 64 bytes. Requests of one user with the same key run once, and
	 * all get that run's answer, as long as gpuqd remembers it (key_ttl_ms, 300 s). The same
	 * key with another payload, service or session is refused: Q_ERR_INVALID_ARG. A gpuqd that
	 * ends forgets all keys: with the next one they run again. NULL: none. */
	const void *key;
	size_t key_bytes; /* of it; 0: none */
	/* The payload is `bytes` bytes of a region, 1 to Q_BROKER_MAX_REGION. Then `payload` and
	 * `key` are NULL, and `cache` has no effect. NULL: none. */
	const BrokerExtent *extent;
	/* What the worker must be able to do, in the words of BrokerService.capability, such as
	 * "dims=768 types=f32 tag=gpu", at most 4096 bytes; also "load=700", no more loaded than
	 * 700 thousandths, and "priority=10", of at least that. The request goes to no other
	 * worker. It ends Q_ERR_NOT_FOUND if none can do it, Q_ERR_FULL if all that can are too
	 * loaded, Q_ERR_INVALID_ARG if the words make no sense. NULL or "": any worker will do. */
	const char *needs;
} BrokerCall;

/* A request of a batch. */
typedef struct BrokerItem {
	const void *payload; /* NULL is legal when bytes is 0 */
	size_t bytes;
} BrokerItem;

/* What became of a request. */
typedef struct BrokerReply {
	uint64_t id;             /* of q_broker_submit(); 0: there was no such request */
	QueueStatus status;      /* what the call returns, unless the reply found no room */
	uint32_t reason;         /* BrokerReason */
	uint32_t retry_after_ms; /* not before that, if it is tried again; 0: says nothing */
	bool may_retry;          /* no worker has seen it: trying again does no harm */
	bool may_have_run;       /* it was not answered, and a worker may have run it, or may yet:
				  * trying again does no harm only if running twice does not */
	bool reused;             /* it has not run for this request: this is the answer of another
				  * one, the same or with the same key */
	uint8_t reserved8[1];
	size_t bytes;         /* of the reply, also of one that found no room */
	char text[120];       /* in words, if it failed; "" otherwise */
	uint64_t reserved[4]; /* 0 */
} BrokerReply;

/* A worker, as it registers. In every field but `name` zero means the default. */
typedef struct BrokerService {
	const char *name;       /* this worker's own: no two have the same */
	const char *capability; /* words such as "op=embed:3 dims=128..512", at most 16384 bytes;
				 * NULL: none. Workers with the same op share its requests */
	const char *token;      /* a secret of 1 to 4096 bytes. A worker of the same user that
				 * registers the same name with the same token takes over from one
				 * that is still there; NULL: nobody can */
	uint32_t capacity;      /* requests that it has at once, 1 to 256; 0: 16 */
	uint32_t heartbeat_ms;  /* how often q_service_recv() says that it lives; 0: 1000 */
	uint8_t priority;       /* for balance = priority: 1 to 255; 0: 128 */
	uint8_t reserved8[7];   /* 0 */
	uint64_t reserved[4];   /* 0 */
} BrokerService;

/* How busy a worker is. */
typedef struct BrokerLoad {
	uint32_t cpu, memory; /* thousandths of what there is, 0 to 1000 */
	uint32_t depth;       /* requests that it has */
	uint32_t capacity;    /* requests that it may have; 0: `depth` is not counted */
} BrokerLoad;

/* A request as its worker sees it. */
typedef struct BrokerRequest {
	uint64_t id;
	const void *payload; /* `bytes` bytes, until q_service_reply() to it; never NULL. Read-only:
			      * they may lie in memory that the caller has sealed */
	size_t bytes;
	char op[Q_BROKER_NAME_BYTES];
	bool idempotent;
	uint8_t priority; /* as in BrokerCall; never 0 */
	uint8_t reserved8[5];
	uint32_t timeout_ms;  /* what is left of its time, rounded up */
	void *frame;          /* the library's */
	const void *key;      /* its key of idempotency, until q_service_reply() to it; NULL: none.
			       * It is for a worker that remembers what it has done for longer than
			       * gpuqd, which forgets keys when it ends */
	size_t key_bytes;     /* of it */
	uint64_t reserved[2]; /* 0 */
} BrokerRequest;

/* What the user who runs gpuqd may order. Numbers never change. */
typedef enum BrokerOrderKind {
	Q_ORDER_DRAIN = 1, /* a service gets nothing new, until Q_ORDER_RESUME or until it registers
			    * again; it answers what it has */
	Q_ORDER_RESUME = 2,        /* a service that drains gets requests again */
	Q_ORDER_BREAKER_OPEN = 3,  /* a service gets nothing new, as if it had failed, until the
				    * breaker is closed or reset, also if it registers again */
	Q_ORDER_BREAKER_CLOSE = 4, /* a service gets requests however often it fails, until the
				    * breaker is opened or reset, also if it registers again */
	Q_ORDER_BREAKER_RESET = 5, /* a service's breaker is closed, forgets its faults, and decides
				    * by itself again */
	Q_ORDER_FORGET = 6,        /* one answer leaves the cache: that of an op, in the version
				    * that is served now, to one request without
				    * `needs` */
	Q_ORDER_FORGET_OP = 7,     /* all answers of an op leave the cache */
	Q_ORDER_FORGET_ALL = 8,    /* all answers leave the cache */
} BrokerOrderKind;

/* An order. In every field but `kind` zero means none. */
typedef struct BrokerOrder {
	uint32_t kind;        /* BrokerOrderKind */
	uint32_t timeout_ms;  /* Q_ORDER_DRAIN: so long the service's sessions stay with it, at most
			       * 24 h; 0: they go elsewhere with their next request */
	const char *name;     /* of the service; of the op; Q_ORDER_FORGET_ALL: NULL */
	const void *payload;  /* Q_ORDER_FORGET: of the request */
	size_t bytes;         /* of it, at most Q_BROKER_MAX_BYTES */
	uint32_t uid;         /* Q_ORDER_FORGET: the user whose answer it is. It counts only where
			       * gpuqd keeps the answers of each user apart (cache = user) */
	uint32_t reserved32;  /* 0 */
	uint64_t reserved[4]; /* 0 */
} BrokerOrder;

/* A service, as q_broker_discover() and q_broker_watch() tell of it. */
typedef struct BrokerServiceInfo {
	char name[Q_BROKER_NAME_BYTES];
	char op[Q_BROKER_NAME_BYTES]; /* its first, or its name; "" when watching */
	char state[16];   /* starting, ready, busy, overloaded, draining, failed; gone */
	char health[16];  /* healthy, degraded, unhealthy, unknown */
	char breaker[16]; /* closed, open, half_open, ...; "" when watching */
	uint8_t reserved8[6];
	uint64_t generation; /* of its registration: a service that registers again has a higher one
			      */
	uint64_t revision;   /* watching: the number of the change; 0: it was there at the start */
	uint32_t active;     /* requests that it has; 0 when watching */
	uint32_t capacity;   /* requests that it may have; 0 when watching */
	uint64_t done;       /* requests that it has answered; 0 when watching */
	uint64_t faults;     /* requests that counted as its fault; 0 when watching */
	uint32_t limit;      /* requests that gpuqd gives it at once; 0 when watching */
	uint32_t reserved32;
	uint64_t reserved[3];
} BrokerServiceInfo;

GPUQ_STATIC_ASSERT(sizeof(BrokerConfig) == 40, "BrokerConfig is frozen");
GPUQ_STATIC_ASSERT(sizeof(BrokerExtent) == 16, "BrokerExtent is frozen");
GPUQ_STATIC_ASSERT(sizeof(BrokerCall) == 80, "BrokerCall is frozen");
GPUQ_STATIC_ASSERT(sizeof(BrokerItem) == 16, "BrokerItem is frozen");
GPUQ_STATIC_ASSERT(sizeof(BrokerReply) == 184, "BrokerReply is frozen");
GPUQ_STATIC_ASSERT(sizeof(BrokerService) == 72, "BrokerService is frozen");
GPUQ_STATIC_ASSERT(sizeof(BrokerLoad) == 16, "BrokerLoad is frozen");
GPUQ_STATIC_ASSERT(sizeof(BrokerRequest) == 144, "BrokerRequest is frozen");
GPUQ_STATIC_ASSERT(sizeof(BrokerOrder) == 72, "BrokerOrder is frozen");
GPUQ_STATIC_ASSERT(sizeof(BrokerServiceInfo) == 256, "BrokerServiceInfo is frozen");

/* ---- both ---- */

/**
 * Connect to gpuqd.
 *
 * @param cfg  not kept; NULL: all defaults
 * @return the connection, or NULL; q_last_error() says why: a field is out of range, nothing
 *         listens at the endpoint, gpuqd is of another version or has too many connections, this
 *         user may not connect, or a token is needed or is not good. Over netlink also: the port
 *         belongs to a user that is not believed.
 * Threads:  any; the connection is used by one at a time.
 * Blocking: for BrokerConfig.timeout_ms at most.
 * Lifetime: until q_broker_close().
 */
Q_API BrokerClient *q_broker_connect(const BrokerConfig *cfg);

/**
 * End a connection; NULL does nothing. Requests that it has sent are cancelled, its service and its
 * regions are gone, and so are requests that it has received and not answered.
 *
 * Threads: no other thread is inside a call on it, or makes one later: the handle is dead.
 */
Q_API void q_broker_close(BrokerClient *c);

/**
 * A descriptor for poll(2) and epoll(7), readable when something has come.
 *
 * Then call q_broker_wait(), q_service_recv() or q_broker_watch() until it gives Q_ERR_TIMEOUT.
 * Any other call on the connection may take from the descriptor what is meant for one of these, and
 * keep it. So after each other call, make these once with a timeout of 0 before you poll again. A
 * worker calls q_service_recv() every heartbeat_ms all the same.
 *
 * @return the descriptor, the same at each call. It is the library's: do not read or close it.
 *         -1: c is NULL.
 */
Q_API int q_broker_fd(const BrokerClient *c);

/* ---- callers ---- */

/**
 * Send a request and wait for its end.
 *
 * If gpuqd is silent for BrokerConfig.timeout_ms after call->timeout_ms, the connection is given
 * up: Q_ERR_LOST. With a call->timeout_ms of 0 only gpuqd's own limit holds, so the call waits for
 * a gpuqd that is stopped.
 *
 * @param reply   where to copy the reply; NULL only if *bytes is 0, or `bytes` is NULL
 * @param bytes   in: room at `reply`, bytes; out: the reply's bytes (with Q_ERR_BUFFER_TOO_SMALL
 *                the room needed). A request that failed may have a reply, too: then what was
 *                copied, which is 0 if there was no room. NULL: no room
 * @param out     what became of it; may be NULL
 * @return how the request ended, as BrokerReason says; Q_ERR_BUFFER_TOO_SMALL: it is done, and its
 *         reply is gone; Q_ERR_LIMIT: as many requests have no answer yet as gpuqd allows.
 */
Q_API QueueStatus q_broker_call(BrokerClient *c, const BrokerCall *call, void *reply, size_t *bytes,
				BrokerReply *out);

/**
 * Send a request, and do not wait. q_broker_wait() tells of its end.
 *
 * @param out_id  the request's id, never 0: unique on this connection
 * @return Q_OK; Q_ERR_LIMIT: as many requests have no answer yet as gpuqd allows.
 */
Q_API QueueStatus q_broker_submit(BrokerClient *c, const BrokerCall *call, uint64_t *out_id);

/**
 * Send many requests at once.
 *
 * Each is a request of its own: it goes to whichever worker has room, and ends by itself, whatever
 * becomes of the others. What `call` says holds for each of them; call->payload, call->key and
 * call->extent are NULL, because each item has its own payload, and none has a key.
 *
 * @param count   items, 1 to Q_BROKER_MAX_BATCH; their bytes, and 16 for each, are at most
 *                Q_BROKER_MAX_BYTES
 * @param out_id  the first item's id; item i has out_id + i, for q_broker_wait() and
 *                q_broker_cancel()
 * @return Q_OK: all are sent, and q_broker_wait() tells of each. An item for which there is no room
 *         ends Q_ERR_FULL. With call->all_or_nothing all others then end so, too, and none has
 *         run, but what the cache has answered is done; Q_ERR_LIMIT: none was sent, as with these
 *         more would have no answer yet than gpuqd allows.
 */
Q_API QueueStatus q_broker_submit_batch(BrokerClient *c, const BrokerCall *call,
					const BrokerItem *items, size_t count, uint64_t *out_id);

/**
 * Wait for the end of a request, and take its reply.
 *
 * @param id          of q_broker_submit(); 0: whichever ends first
 * @param reply       as for q_broker_call()
 * @param bytes       as for q_broker_call()
 * @param out         what became of it; may be NULL
 * @param timeout_ms  0: do not wait; UINT32_MAX: for ever
 * @return as q_broker_call(); and Q_ERR_TIMEOUT: none has ended in that time (a request whose own
 *         time is over ends Q_ERR_EXPIRED); Q_ERR_NOT_FOUND with out->id 0: there is no request of
 *         this id, or none at all.
 */
Q_API QueueStatus q_broker_wait(BrokerClient *c, uint64_t id, void *reply, size_t *bytes,
				BrokerReply *out, uint32_t timeout_ms);

/**
 * Ask that a request not be run. q_broker_wait() tells of its end as ever: Q_ERR_CANCELLED, or how
 * it ended if it was faster.
 *
 * @return Q_OK: gpuqd has been asked; Q_ERR_NOT_FOUND: no such request is without an answer.
 */
Q_API QueueStatus q_broker_cancel(BrokerClient *c, uint64_t id);

/* ---- callers' regions ---- */

/*
 * Memory whose bytes requests name in place of carrying them: nobody copies them, and they may be
 * more than Q_BROKER_MAX_BYTES. Create it, write, seal it; then any number of requests may name any
 * bytes of it (BrokerCall.extent), and the workers read them where they are. Nobody can change what
 * is sealed, not even its owner.
 */
typedef struct BrokerRegion {
	uint64_t id;          /* never 0 */
	void *memory;         /* zeros at first; written until it is sealed, then only read. Mapped
			       * until q_broker_region_end() or q_broker_close(), also if gpuqd has
			       * gone */
	size_t bytes;         /* as asked for */
	uint64_t reserved[2]; /* 0 */
} BrokerRegion;

GPUQ_STATIC_ASSERT(sizeof(BrokerRegion) == 40, "BrokerRegion is frozen");

/**
 * Make a region. Its pages are allocated here, so they count against this process's control group.
 * Until it is sealed a forked child has no mapping of it.
 *
 * @param bytes  1 to Q_BROKER_MAX_REGION
 * @param out    the region; the caller's to end
 * @return Q_OK; Q_ERR_FULL: this user has too many regions, or too many bytes in them (uid_regions,
 *         uid_region_bytes); Q_ERR_LIMIT: no descriptor is left, here or in gpuqd; Q_ERR_SHUTDOWN:
 *         gpuqd ends; Q_ERR_UNSUPPORTED: this gpuqd, or the endpoint's kind, has no regions.
 */
Q_API QueueStatus q_broker_region_create(BrokerClient *c, size_t bytes, BrokerRegion *out);

/**
 * Seal a region: from now on requests may name it, and nobody may write to it. No thread may write
 * to it while the call lasts.
 *
 * @return Q_OK; Q_ERR_NOT_FOUND: there is no such region; Q_ERR_POLICY: somebody else has it mapped
 *         for writing, or the kernel still writes to it: it stays writable, try again later;
 *         Q_ERR_INVALID_ARG: it is sealed already, or has holes; Q_ERR_TIMEOUT: make the call
 *         again.
 */
Q_API QueueStatus q_broker_region_seal(BrokerClient *c, uint64_t region);

/**
 * Give a region back, sealed or not: its memory is unmapped here, and no new request may name it.
 * Requests that name it already keep it until they have ended; then it is freed.
 *
 * @return Q_OK; Q_ERR_NOT_FOUND: there is no such region; Q_ERR_TIMEOUT: make the call again.
 */
Q_API QueueStatus q_broker_region_end(BrokerClient *c, uint64_t region);

/* ---- workers ---- */

/**
 * Register this connection as a worker: from now on it gets requests. A connection has one service.
 *
 * @return Q_OK; Q_ERR_POLICY: another worker has this name, or the token does not allow it;
 *         Q_ERR_FULL: there are too many services, or too many of this user, or the connection's
 *         requests would be more than 256; Q_ERR_TIMEOUT: gpuqd has not answered.
 */
Q_API QueueStatus q_service_register(BrokerClient *c, const BrokerService *service);

/**
 * Take no more requests. Those that have come can still be received and answered.
 *
 * @return Q_OK; Q_ERR_NOT_FOUND: the connection has no service; Q_ERR_STALE: another worker has
 *         taken over, or gpuqd has forgotten this one; Q_ERR_TIMEOUT: gpuqd has not answered.
 */
Q_API QueueStatus q_service_unregister(BrokerClient *c);

/**
 * Say that this worker lives, and how busy it is. q_service_recv() says that it lives by itself:
 * call this while one request takes longer than some seconds.
 *
 * @param load  NULL: says nothing of that
 * @return Q_OK; Q_ERR_NOT_FOUND: the connection has no service.
 */
Q_API QueueStatus q_service_heartbeat(BrokerClient *c, const BrokerLoad *load);

/**
 * Say whether this worker can do its work. It counts as well until the first call.
 *
 * The library passes it on when gpuqd asks, every check_ms, inside q_service_recv(),
 * q_service_reply() and q_service_heartbeat(). After three answers in a row that it is not well the
 * worker gets nothing new; after two in a row that it is well it does again. What it has it answers
 * either way.
 *
 * @return Q_OK.
 */
Q_API QueueStatus q_service_set_health(BrokerClient *c, bool well);

/**
 * Wait for a request. Answer each one that is received, also after its time.
 *
 * @param out         the request; what it points to is the library's until q_service_reply(), or
 *                    q_broker_close()
 * @param timeout_ms  0: do not wait; UINT32_MAX: for ever
 * @return Q_OK; Q_ERR_TIMEOUT: none has come in that time; Q_ERR_STALE: another worker has taken
 *         over this service, its token is not good any more, or gpuqd has forgotten it (no
 *         heartbeat for 300 s, or for ten of gpuqd's heartbeat_ms if that is longer); then
 *         unregister, and register again; Q_ERR_NOT_FOUND: the connection has no service, and no
 *         request is left.
 */
Q_API QueueStatus q_service_recv(BrokerClient *c, BrokerRequest *out, uint32_t timeout_ms);

/**
 * Wait for requests that go together, and take them all.
 *
 * gpuqd's configuration may say of an op that its requests go in batches ([op NAME], batch). The
 * requests of a batch are handed out together, none before all of them have come. Of an op without
 * batches each request is a batch of one. Every request is answered by itself, as after
 * q_service_recv(), in any order, also after its time.
 *
 * @param out        room for `room` requests, each as in q_service_recv()
 * @param room       1 or more; what has no room is the next call's. 256 are always enough
 * @param out_count  how many there are: 1 to `room`; 0 if the call fails
 * @param timeout_ms 0: do not wait; UINT32_MAX: for ever
 * @return as q_service_recv().
 */
Q_API QueueStatus q_service_recv_batch(BrokerClient *c, BrokerRequest *out, size_t room,
				       size_t *out_count, uint32_t timeout_ms);

/**
 * Answer a request. Its payload and key are gone afterwards, unless the call gives
 * Q_ERR_INVALID_ARG or Q_ERR_TIMEOUT: then it can be answered again.
 *
 * @param request  of q_service_recv()
 * @param reason   BrokerReason: Q_REASON_OK; Q_REASON_ERROR, _INVALID: the request's fault, it is
 *                 not tried again; Q_REASON_INTERNAL: this worker's fault; Q_REASON_OVERLOADED: it
 *                 has not run, another worker may take it
 * @param payload  the reply; may be the request's own payload; NULL is legal when bytes is 0
 * @param bytes    0 to Q_BROKER_MAX_BYTES
 * @return Q_OK, also if nobody waits for the answer any more.
 */
Q_API QueueStatus q_service_reply(BrokerClient *c, BrokerRequest *request, uint32_t reason,
				  const void *payload, size_t bytes);

/* ---- looking ---- */

/**
 * List the services that there are.
 *
 * @param filter     words as in BrokerService.capability that they must meet; NULL or "": all
 * @param out        room for `room` services; NULL is legal when that is 0
 * @param out_count  how many there are; if that is more than `room`, the first `room` are written
 * @return Q_OK; Q_ERR_INVALID_ARG: also a filter that makes no sense; Q_ERR_TIMEOUT: gpuqd has not
 *         answered.
 */
Q_API QueueStatus q_broker_discover(BrokerClient *c, const char *filter, BrokerServiceInfo *out,
				    size_t room, size_t *out_count);

/**
 * Wait for the next change of a service; the first calls tell what is there now. A connection that
 * watches does nothing else: every other call on it but q_broker_fd() and q_broker_close() gives
 * Q_ERR_POLICY.
 *
 * @param timeout_ms  0: do not wait; UINT32_MAX: for ever
 * @return Q_OK; Q_ERR_TIMEOUT: nothing has changed in that time; Q_ERR_POLICY: the connection has
 *         requests or a service; Q_ERR_LAGGED: changes were missed. Forget all that was told: the
 *         next calls tell what is there now.
 */
Q_API QueueStatus q_broker_watch(BrokerClient *c, BrokerServiceInfo *out, uint32_t timeout_ms);

/**
 * What gpuqd has counted since it started, as text: lines of a name, a tab and a number. Always
 * accepted = ok + failed + expired + cancelled + lost + inside.
 *
 * @param text   gets the lines and a NUL; NULL is legal when *bytes is 0
 * @param bytes  in: room at `text`, bytes, with the NUL; out: what the text needs
 * @return Q_OK; Q_ERR_BUFFER_TOO_SMALL; Q_ERR_TIMEOUT: gpuqd has not answered.
 */
Q_API QueueStatus q_broker_stats(BrokerClient *c, char *text, size_t *bytes);

/* ---- orders ---- */

/**
 * Give gpuqd an order. When the call returns Q_OK gpuqd has obeyed it.
 *
 * gpuqd takes orders from its own user and from root. Where tokens are needed, the client's token
 * must also have the right `admin` and name the op, or all ops of the service.
 *
 * A request that runs while its answer is being forgotten is not kept either; whoever waits for it
 * gets it. A request that comes after Q_ORDER_FORGET_OP or _ALL does not wait for one from before.
 *
 * @return Q_OK; Q_ERR_POLICY: this client may not; Q_ERR_NOT_FOUND: there is no such service, op or
 *         answer; Q_ERR_TIMEOUT: it is not known whether gpuqd has obeyed.
 */
Q_API QueueStatus q_broker_order(BrokerClient *c, const BrokerOrder *order);

#ifdef __cplusplus
}
#endif

#endif /* GPUQ_BROKER_H */
