/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ring.h - rings of messages between host threads and processes, and regions of memory that
 * messages can point into. The guide is docs/guide/rings.md.
 */
#ifndef GPUQ_RING_H
#define GPUQ_RING_H

#include <gpuq/gpuq.h>

#ifdef __cplusplus
extern "C" {
#endif

/*
 * Conventions: those of gpuq.h, with these differences.
 *
 * Threads    Any number of threads of any number of processes may call anything on one ring at the
 *            same time, without an outer lock; up to 256 threads at once may send or receive (one
 *            that does so through two handles counts twice), until they end or destroy the handle.
 *            A thread's first call on a handle allocates and takes a lock of the process. On a
 *            ring made with Q_RING_SINGLE one thread at a time sends and one at a time receives
 *            (each may be a different one later); everything else is as free as on any ring.
 *            q_ring_destroy() and q_region_table_destroy() alone need that no other thread uses
 *            the same handle.
 * Peers      If a thread dies inside a call, other threads of its PID namespace find it out,
 *            whichever time or mount namespace they are in. Peers of other PID namespaces can use
 *            the ring, and cannot know whether it lives: RingStats.unjudged, q_ring_recover().
 * Cancelling No call is a cancellation point: a thread that is cancelled inside one comes back from
 *            it first. A validator runs with cancellation off.
 * Signals    No call of this header may be made in a signal handler, or left by longjmp(). A signal
 *            that comes meanwhile makes no call fail and no wait end early. No call raises SIGPIPE,
 *            or changes what a signal does or the caller's mask; only q_ring_fd() starts a thread.
 * Ordering   What a sender wrote before it sent a message is visible to the thread that receives
 *            it, and what a receiver wrote before q_ring_complete() to the thread that polls the
 *            completion, as far as both can reach the memory.
 * Progress   After a thread's first call, nothing on the way of a message takes a lock: a thread
 *            that stalls or dies anywhere delays no other thread. (A thread that stalls in its
 *            first call delays the first calls of its own process. A handle with q_ring_fd() takes
 *            a lock of its own when a receive finds nothing. Entries of a dead thread are recovered
 *            only once no thread is stopped inside a call. With Q_RING_SINGLE, see also
 *            q_ring_close().)
 * Time       No call waits, except those with `timeout_ms`, and these: q_ring_recover() waits some
 *            milliseconds for threads of this process. q_ring_destroy() waits for the thread of
 *            q_ring_fd() to end. Creating and attaching take 10 ms where the kernel refuses
 *            membarrier. No peer, whatever it writes into the shared memory, keeps a call longer
 *            than about ring_size and 65536 steps a message: a call that others overtake that often
 *            returns Q_ERR_FULL or Q_ERR_EMPTY.
 * Errors     Every call on a ring may return Q_ERR_INVALID_ARG (ring is NULL), Q_ERR_UNSUPPORTED
 *            (the handle is of the process that forked this one: attach in the child),
 *            Q_ERR_LIMIT (all 256 peers belong to threads that live, or that this process cannot
 *            judge), Q_ERR_POLICY (two threads at once on one side of a ring made with
 *            Q_RING_SINGLE, or one that has died there and is not replaced yet: q_last_error() says
 *            which), and Q_ERR_FAILED: the shared memory holds what no correct peer writes. They
 *            are not repeated below.
 */

/* ---- messages -------------------------------------------------------------------------------- */

#define Q_DEFAULT_RING_SIZE    64u
#define Q_DEFAULT_MESSAGE_SIZE 4096u
#define Q_MAX_RING_SIZE        (1u << 20)
#define Q_MAX_MESSAGE_SIZE     (1u << 20) /* bytes; of one entry */
#define Q_RING_MAX_THREADS     256u
#define Q_RING_INLINE_BYTES    16u  /* of a completion */
#define Q_RING_MAX_PARTS       256u /* entries that one message takes, with Q_RING_LARGE */

/* RingConfig.flags */
#define Q_RING_SINGLE                                                                              \
	UINT32_C(1) /* one sending thread and one receiving thread at a time: faster */
#define Q_RING_AGEING UINT32_C(2) /* strict priority with a bound: see ageing_limit */
#define Q_RING_LARGE                                                                               \
	UINT32_C(4) /* messages above max_msg_size are sent in several entries: at most            \
		     * Q_RING_MAX_PARTS, and at most ring_size */

/* In every field zero means the default. Copied by q_ring_create(). */
typedef struct RingConfig {
	uint32_t ring_size;    /* messages queued; power of two, 1 to 2^20; 0: 64 */
	uint32_t max_msg_size; /* largest message of one entry, bytes; 1 to 2^20; 0: 4096 */
	uint32_t schema;       /* what the messages are; the program's own number */
	uint32_t flags;        /* Q_RING_* */
	uint32_t ageing_limit; /* with Q_RING_AGEING: messages of higher classes that one receiver
				* may take past a waiting one; 0: 256. Else must be 0 */
	uint32_t reserved[11]; /* zero */
} RingConfig;

typedef struct RingQueue RingQueue;

typedef struct RegionHandle {
	uint32_t id;
	uint32_t generation; /* never 0: a zeroed handle is never valid */
} RegionHandle;

/* A message that stays where it is: `length` bytes at `offset` of a registered region. */
struct MessageDescriptor {
	RegionHandle region;
	uint64_t offset; /* bytes from the region's beginning */
	uint32_t length; /* bytes, not 0 */
	uint32_t flags;  /* none defined: 0 */
};
GPUQ_STATIC_ASSERT(sizeof(struct MessageDescriptor) == 24, "layout is shared between processes");

typedef enum RingMessageKind { Q_MESSAGE_INLINE = 0, Q_MESSAGE_DESCRIPTOR = 1 } RingMessageKind;

typedef struct RingMessage {
	RingMessageKind kind;
	uint32_t length;              /* bytes; of a descriptor: what it describes */
	QueuePriority priority;       /* never Q_PRIORITY_DEFAULT */
	uint64_t sequence;            /* see q_ring_sequence() */
	size_t offset;                /* q_ring_recv_batch(): where in `buf` it begins */
	MessageDescriptor descriptor; /* zero for an inline message */
} RingMessage;

typedef struct RingCompletion {
	uint64_t sequence;  /* as given to q_ring_complete() */
	QueueStatus status; /* as given to q_ring_complete() */
	uint32_t length;    /* bytes in data */
	uint8_t data[Q_RING_INLINE_BYTES];
} RingCompletion;

/*
 * Since q_ring_create(), over all processes; exact when the ring is quiet, with one exception: a
 * thread that is killed after it has published or taken messages, and before it has counted them,
 * leaves their bytes, descriptors and discards uncounted.
 */
typedef struct RingStats {
	uint64_t sent;           /* messages accepted, over all classes */
	uint64_t received;       /* messages taken, those discarded included */
	uint64_t bytes_sent;     /* of inline messages and of what descriptors describe */
	uint64_t bytes_received; /* likewise, those discarded included; equal when all is taken,
				  * unless a thread was killed in a call */
	uint64_t descriptors;    /* of the sent, messages by descriptor */
	uint64_t discarded;      /* of the received, by q_ring_discard() */
	uint64_t full;           /* times a send found no room */
	uint64_t empty;          /* times a receive found nothing */
	uint64_t refused;        /* messages refused by the schema's validator */
	uint64_t completed;      /* completions accepted */
	uint64_t polled;         /* completions taken */
	uint64_t repairs;        /* peers found dead inside a call */
	uint64_t reclaimed;      /* messages lost in the hands of dead peers: entries put back. With
				  * Q_RING_SINGLE they are not counted */
	uint32_t threads;  /* bound to the ring: have used it, and are not known to have ended */
	uint32_t unjudged; /* of those, threads of which this process cannot know whether they live:
			    * see q_ring_recover() */
	uint64_t reserved[10];
} RingStats;

GPUQ_STATIC_ASSERT(sizeof(RingConfig) == 64, "RingConfig is frozen");
GPUQ_STATIC_ASSERT(sizeof(RingMessage) == 56, "RingMessage is frozen");
GPUQ_STATIC_ASSERT(sizeof(RingCompletion) == 32, "RingCompletion is frozen");
GPUQ_STATIC_ASSERT(sizeof(RingStats) == 192, "RingStats is frozen");

/* ---- a ring's life --------------------------------------------------------------------------- */

/**
 * Bytes of memory a ring needs; 0, with q_last_error() set, if `cfg` is not valid.
 *
 * Per message: max_msg_size rounded up to 64, and 112: 16 bytes for its place in each of the four
 * priority classes and in the pool, 8 for its number, 24 for a descriptor (with Q_RING_LARGE 8
 * more); per completion 104; and 34 KiB for headers and peers. Nothing else is kept per class: all
 * share one pool of entries.
 *
 * @param cfg  NULL: all defaults
 */
Q_API size_t q_ring_required_memory(const RingConfig *cfg);

/**
 * Make a ring.
 *
 * In shared memory that is a file's (a memfd, a file of a tmpfs) all of it is taken now: a file
 * that is too short, or a file system that is full, is an error here and no SIGBUS later
 * (Linux 5.14 and newer). Against peers that cut the file use q_ring_create_fd().
 *
 * @param cfg     NULL: all defaults
 * @param memory  where it shall live, aligned to 128 bytes; kept by the caller for as long as any
 *                process uses the ring, whatever its content. Shared memory makes a ring between
 *                processes. NULL: the library's own memory, for threads of this process
 * @param bytes   size of `memory`; 0 with NULL
 * @param out     the handle; give it to q_ring_destroy()
 * @return Q_OK; Q_ERR_INVALID_ARG: a field is out of range, or memory is misaligned, cannot be
 *         written, or is a private mapping of a file; Q_ERR_NO_MEMORY: `bytes` is below
 *         q_ring_required_memory(), or not all of it could be had.
 */
Q_API QueueStatus q_ring_create(const RingConfig *cfg, void *memory, size_t bytes, RingQueue **out);

/**
 * Use a ring that another process (or this one) has made in shared memory.
 *
 * Everything read from the memory is checked: a peer that writes nonsense there harms this ring's
 * messages and nothing else of the process.
 *
 * The file behind the memory cannot be checked so: if a peer cuts it, a thread that touches a page
 * beyond the end gets SIGBUS. Where peers are not trusted, use q_ring_attach_fd().
 *
 * @return Q_OK; Q_ERR_INVALID_ARG: no ring, of another version or layout, damaged, or misaligned;
 *         memory cannot be written, or is private: a mapping of a file, or a forked child's copy;
 *         Q_ERR_NO_MEMORY: `bytes` is less than the ring takes, or the file behind it is shorter;
 *         Q_ERR_NOT_READY: its creator has not finished.
 */
Q_API QueueStatus q_ring_attach(void *memory, size_t bytes, RingQueue **out);

/**
 * q_ring_create() in a memfd that the library makes, allocates, and seals against any change of its
 * size (F_SEAL_SHRINK, F_SEAL_GROW, F_SEAL_SEAL): no peer can cut it.
 *
 * @param out_fd  the memfd, for q_ring_attach_fd() in other processes; the caller's to close, at
 *                any time: the ring lives on in its handles. Closed by execve()
 * @param out     the handle; q_ring_destroy() also unmaps what the call has mapped
 * @return Q_OK; Q_ERR_INVALID_ARG: a field is out of range; Q_ERR_NO_MEMORY: also descriptors used
 *         up, or more than RLIMIT_FSIZE; Q_ERR_UNSUPPORTED: the kernel has no sealed memfds.
 */
Q_API QueueStatus q_ring_create_fd(const RingConfig *cfg, int *out_fd, RingQueue **out);

/**
 * q_ring_attach() to a memfd that is sealed against shrinking, as q_ring_create_fd() makes them.
 * Children made by fork() attach so, by the descriptor that they inherit.
 *
 * @param fd   stays the caller's, and may be closed afterwards
 * @param out  the handle; q_ring_destroy() also unmaps what the call has mapped
 * @return as q_ring_attach(); further Q_ERR_POLICY: fd is no memfd, or one without F_SEAL_SHRINK,
 *         or cannot be mapped for writing.
 */
Q_API QueueStatus q_ring_attach_fd(int fd, RingQueue **out);

/**
 * Give the handle back, and what its threads have bound of the ring; NULL does nothing. Call it
 * before the memory is unmapped. It unmaps what q_ring_create_fd() or q_ring_attach_fd() has mapped
 * for the handle.
 *
 * On a ring in the library's own memory, also drops what is queued and frees the memory. A ring in
 * the caller's memory lives on in other handles and is not closed.
 */
Q_API void q_ring_destroy(RingQueue *r);

/**
 * Accept no more messages and wake all waiting threads. Idempotent, final, for all processes.
 *
 * What was accepted before can still be received; then receivers get Q_ERR_SHUTDOWN. A send that is
 * under way is accepted, or gets Q_ERR_SHUTDOWN. A thread that is stopped in the middle of a send
 * delays no other, except with Q_RING_SINGLE: there receivers find nothing (Q_ERR_EMPTY,
 * Q_ERR_TIMEOUT) until the sender goes on or has died. If a caller dies in here, the next thread
 * that uses the ring does the rest. Completions are not affected.
 *
 * @return Q_OK.
 */
Q_API QueueStatus q_ring_close(RingQueue *r);

/**
 * Say that no other process will use the ring any more: each process that had it attached has
 * ended, or will never make another call on it. What such threads held is given back: entries,
 * their places among the 256 threads, and in single mode their side.
 *
 * For rings with peers of which this process cannot find out whether they live (of another PID
 * namespace: RingStats.unjudged), after one of them was killed. If another process does use the
 * ring, this call destroys it: the entries that a living thread is at are handed to others. Threads
 * of this process, through any handle, may use the ring meanwhile. May wait some milliseconds for
 * them.
 *
 * @return Q_OK; Q_ERR_NOT_READY: threads of this process stand inside calls; call it again.
 */
Q_API QueueStatus q_ring_recover(RingQueue *r);

/* ---- sending --------------------------------------------------------------------------------- */

/**
 * Send one message. The data has been copied when the call returns.
 *
 * @param data      NULL is legal when len is 0
 * @param len       bytes, at most max_msg_size; with Q_RING_LARGE at most
 *                  min(ring_size, Q_RING_MAX_PARTS) * max_msg_size
 * @param priority  of equal priority: first sent, first received. Higher: received first
 * @return Q_OK; Q_ERR_FULL: no room; Q_ERR_SHUTDOWN: closed; Q_ERR_INVALID_ARG: data, len or
 *         priority; or what the schema's validator said.
 */
Q_API QueueStatus q_ring_send(RingQueue *r, const void *data, size_t len, QueuePriority priority);

/**
 * q_ring_send(), waiting for room.
 * @return further: Q_ERR_TIMEOUT in place of Q_ERR_FULL; with timeout_ms 0, Q_ERR_FULL.
 */
Q_API QueueStatus q_ring_send_timeout(RingQueue *r, const void *data, size_t len,
				      QueuePriority priority, uint32_t timeout_ms);

/**
 * Send `count` messages of one priority, in order, numbered consecutively unless other senders
 * come between. All are checked before the first is accepted.
 *
 * @param out_sent  how many were accepted; may be NULL
 * @return Q_OK: all; Q_ERR_FULL: those that found room; Q_ERR_SHUTDOWN: those before the close;
 *         Q_ERR_INVALID_ARG or the validator's status: none, q_last_error() names the item.
 */
Q_API QueueStatus q_ring_send_batch(RingQueue *r, const EnqueueItem *items, size_t count,
				    QueuePriority priority, size_t *out_sent);

/**
 * Send a message that stays in its region: nothing is copied. The region stays alive until the
 * receiver has called q_region_release() with the descriptor (or discards the message).
 *
 * @return Q_OK; Q_ERR_UNSUPPORTED: no regions bound; Q_ERR_STALE: the region has been retired, or
 *         never was; Q_ERR_POLICY: a slab; Q_ERR_INVALID_ARG: length 0, flags, or beyond the
 *         region's end (append-only: beyond what has been appended); or as q_ring_send().
 */
Q_API QueueStatus q_ring_send_descriptor(RingQueue *r, const MessageDescriptor *descriptor,
					 QueuePriority priority);

/**
 * q_ring_send_descriptor(), waiting for room. The region is held meanwhile.
 * @return further: Q_ERR_TIMEOUT in place of Q_ERR_FULL; with timeout_ms 0, Q_ERR_FULL.
 */
Q_API QueueStatus q_ring_send_descriptor_timeout(RingQueue *r, const MessageDescriptor *descriptor,
						 QueuePriority priority, uint32_t timeout_ms);

/**
 * The sequence that the next message will have.
 *
 * Sequences begin with 0 after q_ring_create(); no two messages have the same, and each sender's
 * increase. There is a gap only where a sender died in the middle of a send, or was overtaken there
 * by q_ring_close(); without one this is also the number of messages accepted, which
 * RingStats.sent always is. A snapshot: exact while no thread sends.
 */
Q_API uint64_t q_ring_sequence(RingQueue *r);

/* ---- receiving ------------------------------------------------------------------------------- */

/**
 * Receive the message at the front: of the highest class that has one, the oldest. (Q_ERR_EMPTY:
 * each class was found empty, from the highest down; with several receivers not all at one
 * instant.)
 *
 * @param buf        where to copy it
 * @param inout_len  in: room in buf, bytes; out: the message's length (with
 *                   Q_ERR_BUFFER_TOO_SMALL the room needed, and the message stays), else 0
 * @return Q_OK; Q_ERR_EMPTY; Q_ERR_BUFFER_TOO_SMALL; Q_ERR_SHUTDOWN: closed and nothing left;
 *         Q_ERR_POLICY: a descriptor is at the front, which stays: q_ring_recv_typed() takes it.
 */
Q_API QueueStatus q_ring_recv(RingQueue *r, void *buf, size_t *inout_len);

/**
 * q_ring_recv(), waiting for a message.
 * @return further: Q_ERR_TIMEOUT in place of Q_ERR_EMPTY; with timeout_ms 0, Q_ERR_EMPTY.
 */
Q_API QueueStatus q_ring_recv_timeout(RingQueue *r, void *buf, size_t *inout_len,
				      uint32_t timeout_ms);

/**
 * Receive whatever is there, up to max_count messages that fit, inline ones and descriptors.
 *
 * @param buf        inline messages are packed here, each beginning at a multiple of 8
 * @param cap        room in buf, bytes
 * @param out        one a message; out[i].offset says where in buf it begins
 * @param max_count  room in out, messages; at least 1
 * @param out_count  how many
 * @return Q_OK: at least one; Q_ERR_EMPTY; Q_ERR_SHUTDOWN: closed and nothing left;
 *         Q_ERR_BUFFER_TOO_SMALL: not even the first fits; out[0].length says how long it is, and
 *         it stays; Q_ERR_INVALID_ARG: out or out_count is NULL, max_count is 0, or buf is NULL and
 *         cap is not 0.
 */
Q_API QueueStatus q_ring_recv_batch(RingQueue *r, void *buf, size_t cap, RingMessage *out,
				    size_t max_count, size_t *out_count);

/**
 * Receive the message at the front, inline or descriptor, and what there is to know of it.
 *
 * @param buf  for an inline message; may be NULL when cap is 0
 * @param out  also written with Q_ERR_BUFFER_TOO_SMALL, when the message stays
 * @return as q_ring_recv(); a descriptor needs no room: see q_region_resolve(), and give it back
 *         with q_region_release().
 */
Q_API QueueStatus q_ring_recv_typed(RingQueue *r, void *buf, size_t cap, RingMessage *out);

/**
 * q_ring_recv_typed(), waiting for a message.
 * @return further: Q_ERR_TIMEOUT in place of Q_ERR_EMPTY; with timeout_ms 0, Q_ERR_EMPTY.
 */
Q_API QueueStatus q_ring_recv_typed_timeout(RingQueue *r, void *buf, size_t cap, RingMessage *out,
					    uint32_t timeout_ms);

/**
 * A file descriptor for poll(), select() and epoll, readable (level-triggered) from when there is
 * something to receive, or the ring is closed, until a receive through this handle has found
 * nothing. So receive until Q_ERR_EMPTY. One wake-up with nothing to receive may happen when
 * another receiver has been faster; on a closed ring with nothing left it stays readable, and
 * receives give Q_ERR_SHUTDOWN.
 *
 * It is served by one library thread a handle, made by the first call, which sleeps as a receiver
 * does: it becomes readable within the time that thread needs to be scheduled.
 *
 * @return the descriptor, owned by the handle and closed by q_ring_destroy(); -1 on failure, and
 *         q_last_error() says why: r is NULL or of the process that forked this one, or no
 *         descriptor or thread could be had.
 */
Q_API int q_ring_fd(RingQueue *r);

/**
 * Drop the message at the front; a descriptor's region is released.
 * @return Q_OK; Q_ERR_EMPTY; Q_ERR_SHUTDOWN: closed and nothing left; Q_ERR_UNSUPPORTED: it is a
 *         descriptor and no regions are bound here.
 */
Q_API QueueStatus q_ring_discard(RingQueue *r);

/**
 * What is at the front, leaving it there; another receiver may take it at any time.
 * @return Q_OK; Q_ERR_EMPTY; Q_ERR_SHUTDOWN: closed and nothing left.
 */
Q_API QueueStatus q_ring_peek(RingQueue *r, RingMessage *out);

/* ---- completions: from receivers back to senders --------------------------------------------- */

/**
 * Say what became of a message. There is room for ring_size completions that no call has polled.
 *
 * @param sequence  RingMessage.sequence of the message; passed through, not checked
 * @param data      up to 16 bytes, copied; NULL is legal when len is 0
 * @return Q_OK; Q_ERR_FULL: completions wait to be polled; Q_ERR_INVALID_ARG: data or len.
 */
Q_API QueueStatus q_ring_complete(RingQueue *r, uint64_t sequence, QueueStatus status,
				  const void *data, size_t len);

/**
 * Send `count` completions, in order, which costs less than as many calls. All are checked before
 * the first is accepted.
 *
 * @param completions  as they will be polled: `data` is passed on whole, behind `length` too
 * @param out_sent     how many were accepted; may be NULL
 * @return Q_OK: all; Q_ERR_FULL: those that found room; Q_ERR_INVALID_ARG: none, `completions` is
 *         NULL and `count` is not 0, or a length is above Q_RING_INLINE_BYTES.
 */
Q_API QueueStatus q_ring_complete_batch(RingQueue *r, const RingCompletion *completions,
					size_t count, size_t *out_sent);

/**
 * Take completions, in the order of q_ring_complete(); each comes once over all callers.
 * @param out        room for max_count completions; NULL is legal when max_count is 0
 * @param out_count  how many; 0 with Q_OK when there is nothing
 * @return Q_OK; Q_ERR_INVALID_ARG: out_count is NULL, or out is with max_count not 0.
 */
Q_API QueueStatus q_ring_poll_completions(RingQueue *r, RingCompletion *out, size_t max_count,
					  size_t *out_count);

/* ---- observation ------------------------------------------------------------------------------
 */

/* Snapshots; exact when the ring is quiet; 0 (or true) for a NULL or a forked parent's ring. Only
 * the status of a send or a receive says what the next call will find. */
Q_API uint32_t q_ring_len(RingQueue *r);       /* messages queued */
Q_API uint32_t q_ring_available(RingQueue *r); /* entries free */
Q_API uint32_t q_ring_is_empty(RingQueue *r);
Q_API uint32_t q_ring_is_full(RingQueue *r);

/** Counters over all processes; see RingStats. @return Q_OK; Q_ERR_INVALID_ARG: out is NULL. */
Q_API QueueStatus q_ring_stats(RingQueue *r, RingStats *out);

/**
 * The configuration the ring was made with, defaults filled in.
 * @return Q_OK; Q_ERR_INVALID_ARG: out is NULL.
 */
Q_API QueueStatus q_ring_config(RingQueue *r, RingConfig *out);

/* ---- schema and regions of a ring ---------------------------------------------------------------
 */

/**
 * Check every message that this handle sends. Install it before sending.
 *
 * @param schema    must be the ring's: a program that means another kind of message is refused here
 * @param validate  called by every send, on the caller's data (of a descriptor: on the described
 *                  bytes), with `user`; any status but Q_OK is returned by the send, and nothing
 *                  is sent. NULL removes it. May be called by several threads at once
 * @return Q_OK; Q_ERR_INVALID_ARG: not the ring's schema.
 * Threads: no thread may send through this handle meanwhile.
 */
Q_API QueueStatus q_ring_set_schema(RingQueue *r, uint32_t schema,
				    QueueStatus (*validate)(const void *data, size_t len,
							    void *user),
				    void *user);

typedef struct RegionTable RegionTable;

/**
 * The regions that descriptors sent and discarded through this handle refer to; NULL unbinds.
 * The table must outlive the handle or the binding. Bind before sending.
 *
 * @return Q_OK.
 * Threads: no thread may use this handle meanwhile.
 */
Q_API QueueStatus q_ring_bind_regions(RingQueue *r, RegionTable *table);

/* ---- regions ----------------------------------------------------------------------------------
 */

/*
 * Any thread of any process may call anything on one table at the same time, without an outer lock;
 * only q_region_table_destroy() needs that no other thread uses the handle. Registering, mapping
 * and appending take a lock of the handle, all other calls none.
 *
 * Every call on a table may return Q_ERR_INVALID_ARG (table or an output is NULL), Q_ERR_FAILED
 * (its memory holds what no correct peer writes) and, with a region, Q_ERR_NOT_READY (others
 * changed its state 65536 times within the call, which has done nothing: try again); they are not
 * repeated below. A child made by fork() goes on with its copy of the handle, and destroys it for
 * itself. References are counted for all processes together: those of one that dies are never given
 * back.
 */
#define Q_MAX_REGIONS 65536u

/* What may happen to a region's bytes while a thread reads them through a descriptor. */
typedef enum RegionPolicy {
	Q_REGION_IMMUTABLE = 0,   /* nothing: all of it may be described */
	Q_REGION_APPEND_ONLY = 1, /* bytes are added at the end: those before it may be described */
	Q_REGION_SLAB = 2,        /* bytes are overwritten: never described */
} RegionPolicy;

typedef struct RegionInfo {
	uint64_t size;       /* bytes */
	uint64_t cursor;     /* bytes that may be described: size, if immutable; 0, if a slab */
	uint64_t references; /* descriptors sent and not yet released */
	RegionPolicy policy;
	uint32_t retired; /* 1: freed when the last reference is released */
	uint64_t reserved[4];
} RegionInfo;

GPUQ_STATIC_ASSERT(sizeof(RegionInfo) == 64, "RegionInfo is frozen");

/**
 * A table of regions, in memory that children made by fork() share.
 *
 * @param max_regions  registered at one time; 1 to 65536
 * @return Q_OK; Q_ERR_INVALID_ARG: max_regions is out of range, or out is NULL; Q_ERR_NO_MEMORY.
 */
Q_API QueueStatus q_region_table_create(uint32_t max_regions, RegionTable **out);

/** Bytes for q_region_table_create_in(); 0 if max_regions is out of range. */
Q_API size_t q_region_table_required_memory(uint32_t max_regions);

/**
 * q_region_table_create() in the caller's memory, for processes that attach.
 *
 * @param memory  aligned to 128 bytes, shared; the caller's, kept for as long as any process uses
 *                the table, whatever its content
 * @param bytes   size of `memory`
 * @return Q_OK; Q_ERR_INVALID_ARG: max_regions is out of range, or memory is misaligned, cannot be
 *         written, or is a private mapping of a file; Q_ERR_NO_MEMORY: `bytes` is below
 *         q_region_table_required_memory(), or not all of it could be had.
 */
Q_API QueueStatus q_region_table_create_in(uint32_t max_regions, void *memory, size_t bytes,
					   RegionTable **out);

/**
 * Use a table that another process has made. Regions must be mapped here, by
 * q_region_map(), before they can be resolved. Everything read from the memory is checked; that no
 * peer cuts the file behind it is for the caller to see to: F_SEAL_SHRINK.
 * @return as q_ring_attach().
 */
Q_API QueueStatus q_region_table_attach(void *memory, size_t bytes, RegionTable **out);

/** Give the handle back; NULL does nothing. Descriptors outstanding in this process are void: what
 *  q_region_register_fd() has mapped is unmapped, and their references stay counted for the others.
 */
Q_API void q_region_table_destroy(RegionTable *t);

/**
 * Register memory of this process.
 *
 * An immutable region must be one that cannot change: private memory is taken at the caller's word
 * (no other process can reach it), shared memory must be a memfd sealed against writing and cutting
 * (F_SEAL_WRITE, F_SEAL_SHRINK), of which this process has a descriptor open. A private mapping of
 * a file shows what others write there, and counts as shared, but for the data of the program and
 * of the libraries it has loaded.
 *
 * @param base    kept by the caller until q_region_info() says Q_ERR_STALE; append-only: writable.
 *                A peer that lies can bring that about: where peers are not trusted, keep it until
 *                no thread of this process reads it, too
 * @param size    bytes, not 0. Append-only: the room; appended bytes begin at 0
 * @param out     the handle
 * @return Q_OK; Q_ERR_INVALID_ARG: policy or size is out of range, or not all of it is memory of
 *         this process that can be read (append-only: written); Q_ERR_LIMIT: max_regions are
 *         registered; Q_ERR_POLICY: immutable, but in shared memory that can still be written;
 *         Q_ERR_UNSUPPORTED: that cannot be found out (no /proc).
 */
Q_API QueueStatus q_region_register(RegionTable *t, void *base, uint64_t size, RegionPolicy policy,
				    RegionHandle *out);

/**
 * Register memory of a GPU (cudaMalloc(), ...), immutable at the caller's word, for
 * q_enqueue_descriptor() on a queue of the CUDA device that has it. The host never touches it:
 * q_region_resolve() gives the device's address, in this process only; a ring's schema is not
 * checked against it. Regions may overlap.
 *
 * @param address  kept by the caller until q_region_info() says Q_ERR_STALE, and written before
 * @param size     bytes, not 0
 * @return Q_OK; Q_ERR_INVALID_ARG: address is NULL, or size is out of range; Q_ERR_LIMIT:
 *         max_regions are registered.
 */
Q_API QueueStatus q_region_register_device(RegionTable *t, const void *address, uint64_t size,
					   RegionHandle *out);

/**
 * Register a memfd of its whole size; the table maps it, and unmaps it when the region is freed.
 *
 * Immutable: seals it against writing and resizing, which fails while any process has it mapped
 * writable; mapped read-only. Append-only: seals it against resizing; mapped for q_region_append().
 *
 * @param fd  stays the caller's; seals stay, also when the call fails later
 * @return as q_region_register(); Q_ERR_INVALID_ARG: fd is none, or the file is empty;
 *         Q_ERR_POLICY: it could not be sealed, or not mapped for writing, and q_last_error() says
 *         why; Q_ERR_NO_MEMORY: it could not be mapped.
 */
Q_API QueueStatus q_region_register_fd(RegionTable *t, int fd, RegionPolicy policy,
				       RegionHandle *out);

/**
 * Say where in this process a region is, that another process has registered; only reading is
 * needed. After fork() in a child: only for regions registered since.
 *
 * That its bytes do not change, or vanish with a SIGBUS, is the peer's word. The kernel's is in the
 * memfd: look at F_GET_SEALS before mapping it.
 *
 * @param base  where it is mapped in this process; kept by the caller until q_region_info() says
 *              Q_ERR_STALE
 * @param size  bytes that are mapped here; a descriptor must lie within them
 * @return Q_OK; Q_ERR_STALE: freed, or never was; Q_ERR_INVALID_ARG: base is NULL, size is 0, or it
 *         is mapped here already, elsewhere or with another size.
 */
Q_API QueueStatus q_region_map(RegionTable *t, RegionHandle region, const void *base,
			       uint64_t size);

/**
 * Add bytes to an append-only region. One process appends, the one that has registered it, and not
 * its children; its threads one after the other.
 *
 * @param data        NULL is legal when len is 0
 * @param len         bytes
 * @param out_offset  where they begin, bytes from the region's beginning
 * @return Q_OK: they may be described; Q_ERR_FULL: not that much room, nothing written;
 *         Q_ERR_POLICY: not append-only; Q_ERR_STALE: retired or never registered;
 *         Q_ERR_UNSUPPORTED: not registered by this process; Q_ERR_INVALID_ARG.
 */
Q_API QueueStatus q_region_append(RegionTable *t, RegionHandle region, const void *data, size_t len,
				  uint64_t *out_offset);

/**
 * The bytes a descriptor refers to, in this process. A retired region's outstanding descriptors
 * still resolve.
 *
 * @param out  valid until q_region_release(), for a descriptor that was received; for any other
 *             while the region is registered
 * @return Q_OK; Q_ERR_STALE: freed, or never was; Q_ERR_POLICY: a slab; Q_ERR_INVALID_ARG: its
 *         length is 0, its flags are not, or it ends beyond the region (append-only: beyond what
 *         has been appended); Q_ERR_UNSUPPORTED: the region has not been mapped in this process.
 */
Q_API QueueStatus q_region_resolve(RegionTable *t, const MessageDescriptor *descriptor,
				   const void **out);

/**
 * The receiver is done with a descriptor: once for each one received.
 * @return Q_OK; Q_ERR_STALE: freed, or never was; Q_ERR_INVALID_ARG: no descriptor of this region
 *         is outstanding.
 */
Q_API QueueStatus q_region_release(RegionTable *t, const MessageDescriptor *descriptor);

/**
 * Accept no new descriptors of a region, and free it when the last outstanding one is released.
 * @return Q_OK: also if it was freed at once; Q_ERR_STALE: already freed, or never was. Idempotent
 *         until it is freed.
 */
Q_API QueueStatus q_region_retire(RegionTable *t, RegionHandle region);

/** What a region is, and how many refer to it. @return Q_OK; Q_ERR_STALE: freed, or never was. */
Q_API QueueStatus q_region_info(RegionTable *t, RegionHandle region, RegionInfo *out);

#ifdef __cplusplus
}
#endif
#endif /* GPUQ_RING_H */
