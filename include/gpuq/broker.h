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
 * Threads    A BrokerClient is a connection, and is used by one thread at a time; each thread may
 *            have its own. No call starts a thread.
 * Forks      It belongs to the process that made it; a child makes its own.
 * Cancelling No call is a cancellation point.
 * Signals    No call of this header may be made in a signal handler, or left by longjmp(). A signal
 *            that comes meanwhile makes no call fail and no wait end early. No call raises SIGPIPE.
 * Limits     A name has 1 to 64 bytes of A-Z a-z 0-9 . _ -; a request or a reply at most
 *            Q_BROKER_MAX_BYTES bytes, but for a request's that lie in a region; a connection has
 *            as many requests without an answer as gpuqd allows (window, 64).
 * Errors     Every call may return Q_ERR_INVALID_ARG, Q_ERR_NO_MEMORY, and Q_ERR_LOST: gpuqd has
 *            gone, and from then on every call says so; connect again. Every call that sends may
 *            return Q_ERR_TIMEOUT: gpuqd took nothing for BrokerConfig.timeout_ms, and nothing was
 *            sent. q_last_error() says more.
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
	Q_REASON_CANCELLED = 7,    /* Q_ERR_CANCELLED */
	Q_REASON_RATE = 8,         /* Q_ERR_LIMIT: its token's rate; try after retry_after_ms */
	Q_REASON_UNKNOWN_PEER = 9, /* Q_ERR_POLICY: its token is not good any more */
	Q_REASON_DENIED = 10,      /* Q_ERR_POLICY: its token does not allow that */
	Q_REASON_LOST = 11,        /* Q_ERR_LOST: its worker died, and may have run it */
	Q_REASON_SHUTDOWN = 12,    /* Q_ERR_SHUTDOWN: gpuqd, or the service, ends */
	Q_REASON_CHECKSUM = 13,    /* Q_ERR_FAILED */
	Q_REASON_UNSUPPORTED = 14, /* Q_ERR_UNSUPPORTED */
	Q_REASON_BREAKER = 15, /* Q_ERR_NOT_READY: its services fail; try after retry_after_ms */
	Q_REASON_DESCRIPTORS = 16, /* Q_ERR_LIMIT: gpuqd, or the worker, has no room for the
				      region's descriptor now */
	Q_REASON_REVOKED = 17,     /* Q_ERR_STALE: the region has been given back */
} BrokerReason;

/* In every field zero means the default. */
typedef struct BrokerConfig {
	const char *endpoint; /* of gpuqd's services: "unix:PATH"; "netlink:PORT", of a gpuqd of
				 root's or of this process's effective user, or
				 "netlink:PORT@UID", of that one's; "chardev:PATH", its device;
				 "fd:NUMBER", a SEQPACKET socket that is connected to it, which is
				 the connection's from then on, also if connecting fails. NULL:
				 $GPUQ_BROKER, which has the same form */
	const char *name;     /* of this client, for people; NULL: none */
	uint32_t timeout_ms;  /* for connecting, for gpuqd to take what is sent, and for its answers
				 to anything but requests: 5000 */
	uint32_t reserved32;  /* 0 */
	const char *token;    /* what this client may do, as `gpuq token` prints it: 2 to 8192
				 hexadecimal digits; NULL: $GPUQ_TOKEN, or none. For a gpuqd whose
				 configuration has keys for tokens; others do not look at it */
	uint32_t reserved[2]; /* 0 */
} BrokerConfig;

/* Where a payload lies that stays where it is. */
typedef struct BrokerExtent {
	uint64_t region; /* BrokerRegion.id, of the same connection; sealed */
	uint64_t offset; /* bytes from its beginning */
} BrokerExtent;

/* A request as its caller sends it. In every field but `service` zero means the default. */
typedef struct BrokerCall {
	const char *service; /* an op, or the name of a service that has registered without one */
	const void *payload;
	size_t bytes;
	const void *session; /* requests with the same bytes, 1 to 64, go to the same service while
				that is well and has room */
	size_t session_bytes;
	uint32_t timeout_ms; /* it ends Q_ERR_EXPIRED after that, at most 24 h; 0: gpuqd's default,
				30 s */
	uint8_t priority;    /* 1 to 255: 255 critical, from 192 high, from 128 normal, below that
				low; 0: 128 */
	bool idempotent;     /* running it twice does no harm: so gpuqd may, when a worker dies */
	bool cache;          /* the answer to the same request of before, or of one that runs now,
				will do, if gpuqd's configuration allows that for this op; not with a
				session */
	bool all_or_nothing; /* of q_broker_submit_batch(): if there is no room for one of its items
				none runs */
	const void *key;  /* of idempotency: requests with the same 1 to 64 bytes, of one user, run
			     once, and all get that run's answer, as long as gpuqd remembers it
			     (key_ttl_ms, 300 s). With another payload, service or session the key
			     is refused: Q_ERR_INVALID_ARG. A gpuqd that ends forgets all keys:
			     with the next one they run again. NULL: none */
	size_t key_bytes; /* of it; 0: none */
	const BrokerExtent *extent; /* the payload is `bytes` bytes there, at least 1; `payload` and
				       `key` are NULL, and `cache` says nothing. NULL: none */
	uint64_t reserved[1];       /* 0 */
} BrokerCall;

/* A request of a batch. */
typedef struct BrokerItem {
	const void *payload;
	size_t bytes;
} BrokerItem;

/* What became of a request. */
typedef struct BrokerReply {
	uint64_t id;
	QueueStatus status;
	uint32_t reason;         /* BrokerReason */
	uint32_t retry_after_ms; /* not before that, if it is tried again; 0: says nothing */
	bool may_retry;          /* no worker has seen it: trying again does no harm */
	bool may_have_run;       /* it was not answered, and a worker may have run it, or may yet:
				    trying again does no harm only if running twice does not */
	bool reused;             /* it has not run for this request: this is the answer of another
				    one, the same or with the same key */
	uint8_t reserved8[1];
	size_t bytes;         /* of the reply */
	char text[120];       /* in words, if it failed; "" otherwise */
	uint64_t reserved[4]; /* 0 */
} BrokerReply;

/* A worker, as it registers. In every field but `name` zero means the default. */
typedef struct BrokerService {
	const char *name;       /* this worker's own: no two have the same */
	const char *capability; /* words such as "op=embed:3 dims=128..512"; NULL: none. Workers
				   with the same op share its requests */
	const char *token;      /* whoever registers the same name with the same token, as the same
				   user, takes over from one that is still there; NULL: nobody can */
	uint32_t capacity;      /* requests that it has at once, at most 256: 16 */
	uint32_t heartbeat_ms;  /* how often q_service_recv() says that it lives: 1000 */
	uint8_t priority;       /* for balance = priority: 128 */
	uint8_t reserved8[7];
	uint64_t reserved[4]; /* 0 */
} BrokerService;

/* How busy a worker is. */
typedef struct BrokerLoad {
	uint32_t cpu, memory;     /* 1/1000 */
	uint32_t depth, capacity; /* requests that it has, and may have */
} BrokerLoad;

/* A request as its worker sees it. */
typedef struct BrokerRequest {
	uint64_t id;
	const void *payload; /* until q_service_reply() to it. It may not be written: it may lie in
				memory that its caller has sealed */
	size_t bytes;
	char op[Q_BROKER_NAME_BYTES];
	bool idempotent;
	uint8_t priority;
	uint8_t reserved8[5];
	uint32_t timeout_ms;  /* of its time so much is left, rounded up */
	void *frame;          /* the library's */
	const void *key;      /* its key of idempotency, until q_service_reply() to it; NULL: none.
				 For a worker that keeps what it has done longer than gpuqd, which
				 forgets keys when it ends */
	size_t key_bytes;     /* of it */
	uint64_t reserved[2]; /* 0 */
} BrokerRequest;

/* What whoever runs gpuqd may order. Numbers never change. */
typedef enum BrokerOrderKind {
	Q_ORDER_DRAIN = 1, /* a service gets nothing new, until Q_ORDER_RESUME or until it registers
			      again; what it has it answers */
	Q_ORDER_RESUME = 2,        /* a service that drains does not any more */
	Q_ORDER_BREAKER_OPEN = 3,  /* a service gets nothing new, as if it had failed, until the
				      breaker is closed or reset, also if it registers again */
	Q_ORDER_BREAKER_CLOSE = 4, /* a service gets requests however often it fails, until the
				      breaker is opened or reset, also if it registers again */
	Q_ORDER_BREAKER_RESET = 5, /* a service's breaker is closed, decides by itself, and knows of
				      no fault */
	Q_ORDER_FORGET = 6,        /* the answer of an op, in the version that is served now, to one
				      request leaves the cache */
	Q_ORDER_FORGET_OP = 7,     /* all answers of an op */
	Q_ORDER_FORGET_ALL = 8,    /* all answers */
} BrokerOrderKind;

/* An order. In every field but `kind` zero means none. */
typedef struct BrokerOrder {
	uint32_t kind;       /* BrokerOrderKind */
	uint32_t timeout_ms; /* Q_ORDER_DRAIN: sessions that it has go on with it for so long, at
				most 24 h; 0: they go elsewhere with their next request */
	const char *name;    /* of the service; of the op; Q_ORDER_FORGET_ALL: NULL */
	const void *payload; /* Q_ORDER_FORGET: of the request */
	size_t bytes;        /* of it */
	uint32_t uid; /* Q_ORDER_FORGET: the user whose answer it is, where gpuqd keeps those of
			 each user apart; where it does not, this is not looked at */
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
	uint64_t generation;
	uint64_t revision;         /* watching: of the change; 0: it was there at the start */
	uint32_t active, capacity; /* requests that it has, and may have */
	uint64_t done, faults;     /* requests */
	uint64_t reserved[4];
} BrokerServiceInfo;

/* ---- both ---- */

/**
 * Connects to gpuqd.
 * @param cfg  copied; NULL: all defaults
 * @return NULL with q_last_error(): no such endpoint, no gpuqd, another version, too many
 * connections, a user that is not let in, a token that is needed, or is not good; of netlink also:
 * who has the port is no user that is believed
 */
Q_API BrokerClient *q_broker_connect(const BrokerConfig *cfg);

/** Ends the connection: what it has asked for is cancelled, what it has registered and its regions
 * are gone. NULL is allowed. */
Q_API void q_broker_close(BrokerClient *c);

/** A descriptor that can be read when something has come, for poll(2) and epoll(7): then call
 * q_broker_wait(), q_service_recv() or q_broker_watch() until it says Q_ERR_TIMEOUT. Every other
 * call may take from it what is for another one, and keep it: after each, call these with a timeout
 * of 0 before you wait for the descriptor. A worker calls q_service_recv() every heartbeat_ms.
 * The library's: do not read or close it. -1: c is NULL. */
Q_API int q_broker_fd(const BrokerClient *c);

/* ---- callers ---- */

/**
 * Sends a request and waits for its end.
 * @param reply   gets the reply's bytes; may be NULL if *bytes is 0
 * @param bytes   in: the room; out: the reply's bytes. A request that failed may have a reply, too:
 *                then what was written, which is 0 if there was no room for it
 * @param out     what became of it; may be NULL
 * If gpuqd is silent for BrokerConfig.timeout_ms after call->timeout_ms, the connection is given
 * up: Q_ERR_LOST. With a call->timeout_ms of 0 only gpuqd's own limit holds, and a gpuqd that is
 * stopped is waited for.
 * @return Q_OK; what became of it, as BrokerReason says; Q_ERR_BUFFER_TOO_SMALL: it is done, and
 *         *bytes says how much room its reply needs, but the reply is gone
 */
Q_API QueueStatus q_broker_call(BrokerClient *c, const BrokerCall *call, void *reply, size_t *bytes,
				BrokerReply *out);

/**
 * Sends a request. q_broker_wait() tells of its end.
 * @return Q_OK; Q_ERR_LIMIT: as many have no answer yet as gpuqd allows
 */
Q_API QueueStatus q_broker_submit(BrokerClient *c, const BrokerCall *call, uint64_t *out_id);

/**
 * Sends many requests at once: each is a request of its own, goes to whichever worker has room, and
 * ends by itself, whatever becomes of the others. Their ids follow one another: item i is out_id +
 * i, for q_broker_wait() and q_broker_cancel(). All that is said in `call` is said of each;
 * call->payload and call->key are NULL, as each item has its own payload, and none has a key.
 * @param count  1 to Q_BROKER_MAX_BATCH; their bytes, and 16 for each, at most Q_BROKER_MAX_BYTES
 * @return Q_OK: q_broker_wait() tells of each item, also of those for which there was no room
 *         (Q_ERR_FULL) and, with call->all_or_nothing, of the others then; of those none has run,
 * but what the cache has answered is done. Q_ERR_LIMIT: with these more would have no answer yet
 * than gpuqd allows; none was sent
 */
Q_API QueueStatus q_broker_submit_batch(BrokerClient *c, const BrokerCall *call,
					const BrokerItem *items, size_t count, uint64_t *out_id);

/**
 * Waits for the end of a request, and takes its reply.
 * @param id  of q_broker_submit(); 0: whichever ends first
 * @param timeout_ms  0: do not wait; UINT32_MAX: for ever
 * @return as q_broker_call(); and Q_ERR_TIMEOUT: none has ended in that time, and `out` is as it
 *         was (when a request's own time is over that is Q_ERR_EXPIRED); Q_ERR_NOT_FOUND with
 *         out->id 0: there is no request of this id, or none at all
 */
Q_API QueueStatus q_broker_wait(BrokerClient *c, uint64_t id, void *reply, size_t *bytes,
				BrokerReply *out, uint32_t timeout_ms);

/** Asks that a request not be run. Its end is told as ever: Q_ERR_CANCELLED, or what it was if it
 * had ended. Q_OK, Q_ERR_NOT_FOUND. */
Q_API QueueStatus q_broker_cancel(BrokerClient *c, uint64_t id);

/* ---- callers' regions ---- */

/*
 * Memory whose bytes requests name in place of carrying them: they are not copied by anybody, and
 * may be more than Q_BROKER_MAX_BYTES. Create it, write, seal it; then any number of requests may
 * name any bytes of it (BrokerCall.extent), and the workers read them where they are. Nobody can
 * change what is sealed, its owner neither.
 */
typedef struct BrokerRegion {
	uint64_t id;
	void *memory; /* zeros at first; to be written until it is sealed, then to be read only;
			 until q_broker_region_end() or q_broker_close(), also if gpuqd has gone */
	size_t bytes; /* as asked for */
	uint64_t reserved[2]; /* 0 */
} BrokerRegion;

/**
 * Makes a region. Its pages are allocated here, so they are this process's; a child has no mapping
 * of it until it is sealed.
 * @param bytes  1 to Q_BROKER_MAX_REGION
 * @return Q_OK; Q_ERR_FULL: this user has too many, or too much in them (uid_regions,
 *         uid_region_bytes); Q_ERR_LIMIT: no descriptor is left, here or in gpuqd;
 *         Q_ERR_SHUTDOWN: gpuqd ends; Q_ERR_UNSUPPORTED: it knows no regions
 */
Q_API QueueStatus q_broker_region_create(BrokerClient *c, size_t bytes, BrokerRegion *out);

/**
 * Seals a region: from now on requests may name it, and nobody may write to it. No thread may write
 * to it meanwhile.
 * @return Q_OK; Q_ERR_NOT_FOUND: there is no such region; Q_ERR_POLICY: somebody else has it mapped
 *         for writing, or the kernel writes to it still: it can be written and sealed later;
 *         Q_ERR_INVALID_ARG: it is sealed already, or has holes; Q_ERR_TIMEOUT: do it again
 */
Q_API QueueStatus q_broker_region_seal(BrokerClient *c, uint64_t region);

/**
 * Gives a region back, sealed or not: its memory is gone here, and no request may name it any more.
 * Those that do already keep it until they have ended, and then it is freed.
 * @return Q_OK; Q_ERR_NOT_FOUND: there is no such region; Q_ERR_TIMEOUT: do it again
 */
Q_API QueueStatus q_broker_region_end(BrokerClient *c, uint64_t region);

/* ---- workers ---- */

/**
 * Registers this connection as a worker: from now on it gets requests. One service a connection.
 * @return Q_OK; Q_ERR_POLICY: another has this name, or the token does not allow it; Q_ERR_FULL:
 * there are too many, or too many of this user, or the connection's requests would be more than
 * 256; Q_ERR_TIMEOUT
 */
Q_API QueueStatus q_service_register(BrokerClient *c, const BrokerService *service);

/** No more requests come. What has come can be answered. Q_OK, Q_ERR_NOT_FOUND: it is none;
 * Q_ERR_STALE: another has taken over, or gpuqd has forgotten it; Q_ERR_TIMEOUT. */
Q_API QueueStatus q_service_unregister(BrokerClient *c);

/** Says that this worker lives, and how busy it is (NULL: says nothing about that).
 * q_service_recv() does it by itself: call this while one request takes longer than some seconds.
 */
Q_API QueueStatus q_service_heartbeat(BrokerClient *c, const BrokerLoad *load);

/**
 * Whether this worker can do its work, which it can as long as nothing else is said: what the
 * library answers when gpuqd asks (every check_ms), within q_service_recv(), q_service_reply() and
 * q_service_heartbeat(). After three answers in a row that it is not well the worker gets nothing
 * new, after two that it is again it does. What it has it answers either way. Q_OK.
 */
Q_API QueueStatus q_service_set_health(BrokerClient *c, bool well);

/**
 * Waits for a request. Each that is received is to be answered, also after its time.
 * @return Q_OK; Q_ERR_TIMEOUT; Q_ERR_STALE: another has taken over this service, or gpuqd has
 *         forgotten it (no heartbeat for 300 s, or for ten of gpuqd's heartbeat_ms); then
 *         unregister, and register again; Q_ERR_NOT_FOUND: nothing is registered, and no request is
 * left
 */
Q_API QueueStatus q_service_recv(BrokerClient *c, BrokerRequest *out, uint32_t timeout_ms);

/**
 * Answers a request. `payload` may be the request's own. Then that is gone, unless this is
 * refused with Q_ERR_INVALID_ARG or Q_ERR_TIMEOUT.
 * @param reason  BrokerReason: Q_REASON_OK; Q_REASON_ERROR, _INVALID: its fault, it is not tried
 *                again; Q_REASON_INTERNAL: this worker's fault; Q_REASON_OVERLOADED: it has not
 *                run, another may take it
 */
Q_API QueueStatus q_service_reply(BrokerClient *c, BrokerRequest *request, uint32_t reason,
				  const void *payload, size_t bytes);

/* ---- looking ---- */

/**
 * Which services there are.
 * @param filter  words as in BrokerService.capability that they meet; NULL: all
 * @param room    of `out`, in services
 * @param out_count  how many there are; more than `room`: so many were written
 * @return Q_OK, Q_ERR_TIMEOUT; Q_ERR_INVALID_ARG: also a filter that makes no sense
 */
Q_API QueueStatus q_broker_discover(BrokerClient *c, const char *filter, BrokerServiceInfo *out,
				    size_t room, size_t *out_count);

/**
 * The next change of a service; the first calls tell what is there now. A connection that watches
 * does nothing else: every other call on it but q_broker_fd() and q_broker_close() returns
 * Q_ERR_POLICY.
 * @return Q_OK; Q_ERR_TIMEOUT; Q_ERR_LAGGED: changes have been missed; forget all, as the next
 *         calls tell what is there now
 */
Q_API QueueStatus q_broker_watch(BrokerClient *c, BrokerServiceInfo *out, uint32_t timeout_ms);

/**
 * What gpuqd has counted: lines of a name, a tab and a number. Always accepted = ok + failed +
 * expired + cancelled + lost + inside.
 * @param bytes  in: the room of `text`, with the NUL; out: what it needs
 * @return Q_OK, Q_ERR_TIMEOUT, Q_ERR_BUFFER_TOO_SMALL
 */
Q_API QueueStatus q_broker_stats(BrokerClient *c, char *text, size_t *bytes);

/* ---- orders ---- */

/**
 * Gives gpuqd an order, which it has obeyed when this returns Q_OK. It takes orders from its own
 * user and from root; where tokens are needed, also only from whose token has the right `admin` and
 * names the op, or all ops of the service.
 * An answer of the cache that is not there yet, as its request runs, is not kept either; whoever
 * waits for it gets it. What asks after Q_ORDER_FORGET_OP or _ALL does not wait for one of before.
 * @return Q_OK; Q_ERR_POLICY: this client may not; Q_ERR_NOT_FOUND: there is no such service, op or
 *         answer; Q_ERR_TIMEOUT: it is not known whether it has been obeyed
 */
Q_API QueueStatus q_broker_order(BrokerClient *c, const BrokerOrder *order);

#ifdef __cplusplus
}
#endif

#endif /* GPUQ_BROKER_H */
