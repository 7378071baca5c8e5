/* SPDX-License-Identifier: Apache-2.0 */
/* gpuq.h - the host API of libgpuq: everything an application calls. */
#ifndef GPUQ_GPUQ_H
#define GPUQ_GPUQ_H

#include <stddef.h>
#include <stdint.h>

/* The one place that holds the version; CMake, pkg-config and q_version() read it from here. */
#define GPUQ_VERSION_MAJOR 0
#define GPUQ_VERSION_MINOR 1
#define GPUQ_VERSION_PATCH 0

#if defined(__GNUC__)
#define Q_API __attribute__((visibility("default")))
#else
#define Q_API
#endif

#ifdef __cplusplus
extern "C" {
#define GPUQ_STATIC_ASSERT(condition, text) static_assert(condition, text)
#else
#define GPUQ_STATIC_ASSERT(condition, text) _Static_assert(condition, text)
#endif

/*
 * Conventions that hold for every call below.
 *
 * Threads    Any number of threads may call anything on one queue at the same time, without an
 *            outer lock. Only q_shutdown() needs that no other thread is inside a call, or makes
 *            one later: the handle is dead.
 * Cancelling No call is a cancellation point: a thread that is cancelled inside one comes back from
 *            it first. A thread whose cancellation is asynchronous must make no call. What the
 *            library calls of yours (the log's sink, a processor) runs with cancellation off.
 * Signals    A signal handler may call q_version() and q_status_string(), and nothing else. It must
 *            not leave a call by longjmp(). A handler that runs meanwhile makes no call fail and no
 *            wait end early. No call raises SIGPIPE or SIGXFSZ, or changes what a signal does; the
 *            caller's mask is as before when a call returns. The library's own threads block all
 *            signals but those of a thread's own faults (SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP,
 *            SIGSYS): for a fault in a processor the program's handler runs, on the consumer's
 *            thread. For profilers they take SIGPROF if the thread that made them does.
 * Unloading  The shared library stays loaded once it is; dlclose() does nothing. A plug-in that
 *            holds the static library, or a processor, stays while a queue needs it. A process may
 *            end with live queues.
 * Errors     A call that can fail returns a QueueStatus, or, where it returns a handle or a
 *            descriptor, NULL or -1. q_last_error() then holds a sentence about the calling
 *            thread's most recent failure. A failing call leaves the queue as it was, and one that
 *            succeeds leaves that sentence as it was. errno says nothing, and a call may change it.
 *            Every call on a queue may return Q_ERR_INVALID_ARG (queue is NULL), Q_ERR_UNSUPPORTED
 *            (called in a forked child on a queue of the parent), and, once the CUDA device has
 *            failed, Q_ERR_CUDA (not q_stats(), q_info() and the trace's calls); they are not
 *            repeated below.
 * Outputs    Written on success only, except counts and lengths (`*out_enqueued`, `*out_count`,
 *            `*inout_len`), which are written whatever the status.
 * Units      Sizes and offsets are bytes, times are milliseconds where a name ends in _ms and
 *            nanoseconds where it ends in _ns, counts are messages unless the comment says
 *            otherwise.
 * Reserved   Fields called `reserved` in what a caller fills in must be 0; another value is refused
 *            by name, because it would mean something to a newer library. In what a call fills in
 *            they are 0. docs/reference/limits.md says what may change from version to version.
 * Time       `timeout_ms`: 0 tries once, UINT32_MAX waits for ever; all waiting is on
 *            CLOCK_MONOTONIC. A waiting call spins for some microseconds, yields where
 *            that is cheap, then sleeps.
 * Work       A call that does not wait takes notice of at most 1024 completions, and passes over at
 *            most as many finished messages that are not to be polled (discarded, or taken by id),
 *            beside those it hands out. If there are more it may find nothing yet: count 0, or
 *            Q_ERR_NOT_READY or Q_ERR_TIMEOUT for a message that finished since a call last took
 *            notice. The next call goes on from there, and a call that waits does so by itself.
 *            Enqueueing has no such bound while a message to be discarded is inside and no slot is
 *            free, so that Q_ERR_FULL is always true. Nor have q_init(), q_stop(), q_shutdown(),
 *            q_drain(), q_bind_regions() and the trace's calls.
 * Ids        64-bit, unique, strictly increasing in the order of allocation, not contiguous.
 *            0 is never the id of a message. An id value can repeat only after 2^44 further
 *            messages at the largest capacity (2^52 at capacity 4096, 2^60 at 16 and below).
 */

/* ---- status ---------------------------------------------------------------------------- */

/* X(name, value, text): the one list behind the enum and q_status_string(). Never renumbered. */
#define Q_STATUS_LIST(X)                                                                           \
	X(Q_OK, 0, "ok")                                                                           \
	X(Q_ERR_INVALID_ARG, -1, "invalid argument")                                               \
	X(Q_ERR_FULL, -2, "queue full")                                                            \
	X(Q_ERR_TIMEOUT, -3, "timed out")                                                          \
	X(Q_ERR_CUDA, -4, "CUDA device failure")                                                   \
	X(Q_ERR_SHUTDOWN, -5, "queue is stopped")                                                  \
	X(Q_ERR_NOT_READY, -6, "message not finished yet")                                         \
	X(Q_ERR_NOT_FOUND, -7, "no such message")                                                  \
	X(Q_ERR_BUFFER_TOO_SMALL, -8, "buffer too small")                                          \
	X(Q_ERR_EMPTY, -9, "nothing there")                                                        \
	X(Q_ERR_LIMIT, -10, "limit reached")                                                       \
	X(Q_ERR_STALE, -11, "stale handle")                                                        \
	X(Q_ERR_POLICY, -12, "not allowed by policy")                                              \
	X(Q_ERR_FAILED, -13, "processor reported failure")                                         \
	X(Q_ERR_EXPIRED, -14, "deadline passed before the message was started")                    \
	X(Q_ERR_CANCELLED, -15, "cancelled")                                                       \
	X(Q_ERR_NO_MEMORY, -16, "out of memory")                                                   \
	X(Q_ERR_UNSUPPORTED, -17, "not supported here")                                            \
	X(Q_ERR_IO, -18, "a file could not be written")                                            \
	X(Q_ERR_BROKEN, -19, "nobody reads any more")                                              \
	X(Q_ERR_LAGGED, -20, "bytes were dropped before they were read")                           \
	X(Q_ERR_LOST, -21, "gpuqd has gone; the message may have run")

typedef enum QueueStatus {
#define Q_STATUS_ENUM(name, value, text) name = value,
	Q_STATUS_LIST(Q_STATUS_ENUM)
#undef Q_STATUS_ENUM
} QueueStatus;

/**
 * A short, constant description of a status; "unknown status" for a value that is none.
 * Async-signal-safe.
 */
Q_API const char *q_status_string(QueueStatus status);

/**
 * The calling thread's most recent failure as one sentence: what was wrong, the value, the range.
 *
 * Never NULL; "" before the first failure. Successful calls leave it alone, whatever they tried on
 * the way. Where there is no memory for a sentence it is q_status_string() of the failure.
 * Lifetime: valid until the calling thread's next failing call.
 */
Q_API const char *q_last_error(void);

/** The library's version, "MAJOR.MINOR.PATCH". Async-signal-safe. */
Q_API const char *q_version(void);

enum { Q_LOG_ERROR = 0, Q_LOG_WARNING = 1, Q_LOG_INFO = 2, Q_LOG_DEBUG = 3 };

/**
 * Install the sink for the library's log lines; NULL removes it.
 *
 * The library writes nowhere by itself, except to stderr when the environment variable GPUQ_LOG
 * is error, warning, info or debug and no sink is installed.
 *
 * When the call returns, no other thread is inside the sink that was there before, and none will
 * be, so `user` of that sink may be freed. The call waits for lines under way in that sink, so make
 * it without any lock that the sink takes.
 *
 * The sink is called from any thread, also the library's own, and from several at once. It must not
 * call libgpuq, except q_set_log(). It must return: a sink that ends its thread, or leaves by
 * longjmp(), counts as under way for good.
 *
 * @param fn    called with the level, one line without newline, and its own `user`
 * @param user  passed through
 * Threads: any.
 */
Q_API void q_set_log(void (*fn)(int level, const char *text, void *user), void *user);

/* ---- configuration --------------------------------------------------------------------- */

typedef struct GpuQueue GpuQueue;
typedef struct RegionTable RegionTable;             /* ring.h */
typedef struct MessageDescriptor MessageDescriptor; /* ring.h */

/* REMOTE: the queue of a gpuqd, which other processes use, too; cfg.endpoint says which. */
enum { Q_DEVICE_AUTO = 0, Q_DEVICE_CPU = 1, Q_DEVICE_CUDA = 2, Q_DEVICE_REMOTE = 3 };
enum { Q_PER_THREAD = 0, Q_PER_WARP = 1, Q_PER_BLOCK = 2 };
/*
 * How messages get to a GPU: the grid reads them across PCIe; or the copy engine brings those of
 * `copy_from` bytes and more, which costs the sender a driver call; or (BAR1) the CPU writes the
 * short ones into device memory, where the library was built with GPUQ_BAR1 and driver and GPU let
 * it. AUTO chooses between the first two by calibration.
 */
enum { Q_TRANSPORT_AUTO = 0, Q_TRANSPORT_PULL = 1, Q_TRANSPORT_COPY = 2, Q_TRANSPORT_BAR1 = 3 };

#define Q_MAX_CAPACITY                (1u << 20) /* messages */
#define Q_MAX_SLOT_BYTES              (1u << 24)
#define Q_MAX_CONSUMERS               1024u
#define Q_DEFAULT_SHUTDOWN_TIMEOUT_MS 5000u
#define Q_MAX_TRACE_RECORDS           (1u << 24)
#define Q_DEFAULT_TRACE_RECORDS       (1u << 18)

/* Record when each message was where: q_trace_write(), q_trace_summary(). */
#define Q_TRACE (UINT64_C(1) << 0)

/*
 * One thread alone enqueues: the first that makes a call which does. Its messages are then
 * published by plain stores, which is cheaper, most of all in batches. The calls of other threads
 * that would enqueue, reserve or commit are refused with Q_ERR_POLICY; all other calls are any
 * thread's, as ever. A call that fails also makes its thread the producer. When the producer has
 * ended let no other thread follow: it is refused, unless it has got the ended thread's pthread_t.
 */
#define Q_ONE_PRODUCER (UINT64_C(1) << 1)

/*
 * `capacity` and `slot_bytes` are required; in every other field zero means the default. The
 * struct is copied by q_init(); the strings and buffers it points to are copied too.
 */
typedef struct QueueConfig {
	uint32_t capacity;     /* messages outstanding; power of two, 1 to 2^20 */
	uint32_t slot_bytes;   /* largest message, bytes; 1 to 2^24, any value */
	uint32_t result_bytes; /* largest result, bytes; 0 to 2^24; 0: same as slot_bytes */
	uint32_t device;       /* Q_DEVICE_*; AUTO: CUDA when usable, else CPU */
	uint32_t ordinal;      /* CUDA device number; must be 0 on the CPU device */
	uint32_t granularity;  /* Q_PER_*: GPU threads that work on one message; 0: Q_PER_THREAD, or
				* what the processor has an image for; no effect on the CPU device */
	uint32_t consumers;    /* CPU threads or GPU blocks, at most 1024; 0: device default */
	uint32_t reserve_sms;  /* CUDA: multiprocessors left to others; 0 on the CPU device */
	uint32_t idle_park_ms; /* idle time before consumers sleep; UINT32_MAX: never */
	uint32_t shutdown_timeout_ms; /* q_shutdown()'s wait; 0: 5000; UINT32_MAX: for ever */
	uint64_t flags;               /* Q_TRACE, Q_ONE_PRODUCER */
	const char *processor;      /* name, or path: see q_init(); NULL: the one that is linked */
	const void *processor_data; /* what the processor reads as in.user; copied */
	size_t processor_data_bytes;
	uint64_t trace_records; /* with Q_TRACE: messages recorded, at most 2^24; 0: 2^18 */
	/* The rest is of the CUDA device; the CPU device does without. */
	uint32_t transport; /* Q_TRANSPORT_* */
	uint32_t copy_from; /* with Q_TRANSPORT_COPY: bytes from which it copies; 0: 1. Else 0 */
	/* 0: a grid stays resident. 1 to 2^20: none does. A launch serves what waits, once that is
	 * so many messages, or fewer when a thread waits or polls, and ends. For profilers and
	 * tests. */
	uint32_t bounded_messages;
	uint32_t bounded_ms; /* a bounded launch ends after that; 0: 1000. Else 0 */
	/* REMOTE: "unix:PATH" or "unix:PATH#QUEUE"; NULL: gpuqd's own default. Else NULL. */
	const char *endpoint;
	uint64_t reserved[12]; /* zero */
} QueueConfig;

typedef enum QueuePriority {
	Q_PRIORITY_DEFAULT = 0, /* normal */
	Q_PRIORITY_LOW = 1,
	Q_PRIORITY_NORMAL = 2,
	Q_PRIORITY_HIGH = 3,
	Q_PRIORITY_URGENT = 4,
} QueuePriority;

/* Free the slot at completion: no result is kept, the id is never polled. */
#define Q_ENQUEUE_DISCARD (UINT64_C(1) << 0)

typedef struct EnqueueOptions {
	uint32_t priority;    /* QueuePriority */
	uint32_t opcode;      /* the processor's own, passed through */
	uint64_t tag;         /* the caller's own, passed through to processor and Completion */
	uint64_t deadline_ns; /* CLOCK_MONOTONIC; not started by then: ends EXPIRED; 0: none */
	uint64_t flags;       /* Q_ENQUEUE_* */
	uint64_t reserved[4]; /* zero */
} EnqueueOptions;

typedef struct EnqueueItem {
	const void *data; /* NULL is legal when len is 0 */
	size_t len;       /* bytes, at most slot_bytes */
} EnqueueItem;

typedef struct Completion {
	uint64_t msg_id;
	uint64_t tag;        /* from EnqueueOptions */
	QueueStatus status;  /* Q_OK, Q_ERR_FAILED, _EXPIRED, _CANCELLED or _LOST */
	uint32_t result_len; /* bytes; 0 unless Q_OK */
	const void *result; /* read-only, until the message is taken or released; 16-byte aligned */
} Completion;

/*
 * Counters since q_init(). They are read one by one while traffic goes on; when the queue is
 * quiet, enq_count = deq_count + discarded + queue_depth holds exactly. What has finished is
 * counted when a call takes notice of it: q_stats() itself does, of as much as a call that does not
 * wait, and q_drain() of all.
 */
typedef struct QueueStats {
	uint64_t enq_count; /* messages accepted */
	uint64_t deq_count; /* results taken: q_try_dequeue_result(), q_release*(), q_take_results()
			     */
	uint64_t dropped_full; /* items and reservations refused with Q_ERR_FULL */
	uint64_t retries;      /* times a producer found no room and tried again */
	uint64_t queue_depth;  /* accepted and not yet taken or discarded */
	uint64_t discarded;    /* Q_ENQUEUE_DISCARD messages that have finished */
	uint64_t finished;     /* completions seen, whatever the outcome */
	uint64_t failed;       /* of these, ended Q_ERR_FAILED */
	uint64_t expired;      /* of these, ended Q_ERR_EXPIRED */
	uint64_t cancelled;    /* of these, ended Q_ERR_CANCELLED */
	uint64_t timed_out;    /* enqueue and reserve calls that ended Q_ERR_TIMEOUT */
	uint64_t reserved_now; /* reservations neither committed nor aborted */
	uint64_t aborted;      /* reservations aborted */
	uint64_t wakeups;      /* times a sleeping consumer, or a grid, was woken for messages */
	uint64_t lost;         /* of `finished`, ended Q_ERR_LOST */
	uint64_t reserved[17];
} QueueStats;

enum { Q_STATE_RUNNING = 0, Q_STATE_PAUSED = 1, Q_STATE_STOPPING = 2, Q_STATE_STOPPED = 3 };

typedef struct QueueInfo {
	uint32_t capacity;
	uint32_t slot_bytes;
	uint32_t result_bytes;
	uint32_t device; /* Q_DEVICE_*, not AUTO: what that became */
	uint32_t ordinal;
	uint32_t granularity;
	uint32_t consumers;
	uint32_t reserve_sms;
	uint32_t idle_park_ms; /* as asked; 0: the device's default */
	uint32_t shutdown_timeout_ms;
	uint32_t state;            /* Q_STATE_* */
	uint32_t protocol_version; /* of queue and processor image */
	uint64_t memory_bytes;     /* of the host: slots, results and rings */
	char processor[64];        /* its name */
	char device_name[64];
	char transport[32]; /* how messages reach the consumer */
	char reason[192];   /* why this device was chosen */
	/* Of the CUDA device; 0 where not known. Nanoseconds, as measured at q_init(). */
	uint64_t flag_ns;       /* a flag to the resident grid and back */
	uint64_t read_ns;       /* the GPU reads pinned memory */
	uint64_t release_ns;    /* the GPU's system-scope release behind a store to pinned memory */
	uint64_t pull_ns;       /* a warp pulls a message of slot_bytes, at most 65536 */
	uint64_t copy_ns;       /* the copy engine brings it: call to seen by the grid */
	uint64_t copy_small_ns; /* the same for 16 bytes */
	uint64_t canary_ns; /* a kernel of another stream beside the grid; UINT64_MAX: none ran */
	uint64_t copy_from; /* bytes from which messages are copied; UINT64_MAX: none */
	/* A message is hung when its processor has run for 5 s or more, or when its result has not
	 * arrived whole for as long. */
	uint64_t hung_msg_id;  /* the one hung for longest; valid if hung_ns is not 0 */
	uint64_t hung_ns;      /* for how long it has run, or has not arrived; 0: none is hung */
	uint64_t stalls;       /* times the idle grid stood still for 1 ms or more */
	uint64_t hung;         /* messages that are hung now */
	uint64_t device_bytes; /* of the GPU's memory, allocated by the queue */
	uint64_t reserved[3];
} QueueInfo;

/* The stages of a message's way, by which a trace divides its time. */
enum {
	Q_STAGE_ENQUEUE = 0, /* from the entry of the enqueue call (or q_commit) to publication */
	Q_STAGE_WAIT = 1,    /* from publication to a consumer's claim */
	Q_STAGE_PROCESS = 2, /* from the claim to the processor's end; of messages that ran */
	Q_STAGE_NOTICE = 3,  /* from there until a call of the host took notice */
	Q_STAGE_TOTAL = 4,   /* all of it */
	Q_STAGES = 5,
};

/* Percentiles by the nearest-rank method, exact; nanoseconds. */
typedef struct TraceStage {
	uint64_t count; /* messages of which both ends are known */
	uint64_t p50_ns;
	uint64_t p90_ns;
	uint64_t p99_ns;
	uint64_t p999_ns;
	uint64_t max_ns;
} TraceStage;

typedef struct TraceSummary {
	uint64_t recorded;       /* messages that have finished, and that the figures are about */
	uint64_t dropped;        /* that finished when there was no room left for their record */
	uint64_t adjusted;       /* of the recorded: whose consumer's times had to be moved */
	uint64_t clock_error_ns; /* how far those may be off, but for drift; 0: one clock */
	TraceStage stage[5];     /* by Q_STAGE_* */
	uint64_t reserved[14];
} TraceSummary;

GPUQ_STATIC_ASSERT(sizeof(TraceStage) == 48, "TraceStage is frozen");
GPUQ_STATIC_ASSERT(sizeof(TraceSummary) == 384, "TraceSummary is frozen");
GPUQ_STATIC_ASSERT(sizeof(QueueConfig) == 200, "QueueConfig is frozen");
GPUQ_STATIC_ASSERT(sizeof(EnqueueOptions) == 64, "EnqueueOptions is frozen");
GPUQ_STATIC_ASSERT(sizeof(EnqueueItem) == 16, "EnqueueItem is frozen");
GPUQ_STATIC_ASSERT(sizeof(Completion) == 32, "Completion is frozen");
GPUQ_STATIC_ASSERT(sizeof(QueueStats) == 256, "QueueStats is frozen");
GPUQ_STATIC_ASSERT(sizeof(QueueInfo) == 536, "QueueInfo is frozen");

/* ---- life cycle ------------------------------------------------------------------------ */

/**
 * Create a queue and start its consumers.
 *
 * Environment variables override defaults, never explicit settings; empty means unset:
 * GPUQ_DEVICE (auto, cpu, cuda, unix:PATH[#QUEUE]), GPUQ_CONSUMERS, GPUQ_IDLE_PARK_MS, GPUQ_LOG,
 * GPUQ_TRANSPORT (auto, pull, copy, bar1), GPUQ_BOUNDED (bounded_messages, 1 to 2^20, with a colon
 * bounded_ms behind it), GPUQ_TUNE (settings of a GPU's grid, for measuring). GPUQ_TRACE=FILE sets
 * Q_TRACE, GPUQ_TRACE_RECORDS its size, and q_shutdown() writes the file: see q_trace_write().
 *
 * cfg.processor is a path if it has a '/' or ends in .so (a shared object, for the devices it was
 * built for), .fatbin, .cubin, .ptx (an image for a GPU) or .cu (CUDA source, compiled by NVRTC for
 * this GPU and cfg.granularity while the call lasts, which takes seconds; GPUQ_LIBNVRTC names the
 * library, GPUQ_NVRTC_OPTIONS further options such as -I and -D); else it is a name.
 *
 * @param cfg  not kept; every out-of-range field is refused
 * @return the queue, or NULL; q_last_error() then names the field, the value and the range, or
 *         the resource that could not be had, or quotes the compiler's first errors, whose whole
 *         log is in the log. Nothing is left behind on failure.
 * Threads:  any. Lifetime: until q_shutdown().
 */
Q_API GpuQueue *q_init(const QueueConfig *cfg);

/**
 * Stop the queue (q_stop() with cfg.shutdown_timeout_ms), then free everything. NULL: nothing.
 *
 * Results not taken are lost. If a processor is still running when the time is over, the handle is
 * dead all the same and the memory it uses is freed when the last consumer leaves.
 *
 * Threads: no other call on this queue may run or follow. In a forked child it does nothing.
 * Blocking: for cfg.shutdown_timeout_ms, on the remote device up to a second more; for hooks that
 *           run; and for another thread's q_preload().
 */
Q_API void q_shutdown(GpuQueue *q);

/**
 * Close the queue for new messages and wait until every accepted one has finished and the
 * consumers have left. Results can still be read afterwards.
 *
 * Reservations not yet committed are revoked: their q_commit() gives Q_ERR_SHUTDOWN. Implies
 * q_resume(). Waiters that can never succeed any more wake with Q_ERR_SHUTDOWN.
 *
 * @return Q_OK; Q_ERR_TIMEOUT: the queue is closed, messages that had not been started have ended
 *         CANCELLED (on the CUDA and the remote device they end so as soon as a consumer is free to
 *         do it), those being processed still are; call again to go on waiting. On the remote
 *         device also: gpuqd has not answered, for which the call waits up to a second more.
 * Threads: any, also several at once and against everything but q_shutdown().
 */
Q_API QueueStatus q_stop(GpuQueue *q, uint32_t timeout_ms);

/**
 * Keep the consumers from starting further messages, and wait until none is being processed.
 *
 * Idempotent. While paused, messages are accepted up to capacity; they are processed after
 * q_resume().
 *
 * On the CUDA device the grid then leaves the GPU, so that the application may call what waits for
 * every kernel of the context. The call waits for that up to two seconds more, whatever timeout_ms
 * says. If the grid has not left by then the call returns Q_OK all the same, as no message is being
 * processed, and the log has a warning: "the paused grid is still resident".
 *
 * @return Q_OK; Q_ERR_TIMEOUT: withdrawn, the queue runs on (unless another pause stands);
 *         Q_ERR_CANCELLED: q_resume() came first; Q_ERR_SHUTDOWN: stopped or being stopped.
 */
Q_API QueueStatus q_pause(GpuQueue *q, uint32_t timeout_ms);

/**
 * Let the consumers go on after q_pause(). Idempotent.
 * @return Q_OK; Q_ERR_SHUTDOWN: stopped or being stopped.
 */
Q_API QueueStatus q_resume(GpuQueue *q);

/**
 * Call `load(user)` while no grid of this process is on the queue's GPU.
 *
 * For kernels and libraries of the application's own that run beside the queue: unless
 * CUDA_MODULE_LOADING is EAGER the driver loads them when they are first used, and that may wait
 * for every kernel of the context, so for ever beside a resident grid. `load` uses them once: it
 * asks for their attributes (cudaFuncGetAttributes()), launches each and waits for it, makes the
 * library's handle, allocates. The queue's primary context is current meanwhile.
 *
 * All queues on that GPU start no message from before the call of `load` to its return, and accept
 * messages up to their capacity. Their other calls keep their timeouts: q_pause() finds that all
 * consumers stand still, and what has not been started when the time of a q_stop() is over ends
 * CANCELLED once `load` has returned. (A message that the copy engine is to bring is handed to the
 * driver, which may be busy with what `load` does.) Only q_init(), q_shutdown() and
 * q_bind_regions(), on all GPUs, block until `load` returns. A queue that is paused stays paused.
 * On the CPU device, and on the remote one, there is no grid in this process, and `load` is called
 * at once.
 *
 * `load` must not call libgpuq, nor wait for a thread that does, as what that waits for may come
 * only after `load` has returned; nor must it throw, leave by longjmp(), or leave another context
 * current. The thread cannot be cancelled meanwhile.
 *
 * @param load  called once if the call returns Q_OK, else not at all
 * @return Q_OK; Q_ERR_INVALID_ARG: load is NULL; Q_ERR_TIMEOUT: a queue on the GPU is inside a
 *         message for more than two seconds; Q_ERR_CUDA.
 * Threads: any; `load` runs in the calling one.
 * Blocking: for another thread's q_preload(), q_init(), q_shutdown() or q_bind_regions(); for what
 *           is being processed on that GPU, two seconds at most; and for `load`.
 */
Q_API QueueStatus q_preload(GpuQueue *q, void (*load)(void *user), void *user);

/**
 * Wait until every message accepted before this call has finished. Reservations not yet committed
 * are ignored; results need not have been taken.
 * @return Q_OK; Q_ERR_TIMEOUT (always, with work waiting, while the queue is paused).
 */
Q_API QueueStatus q_drain(GpuQueue *q, uint32_t timeout_ms);

/* ---- enqueue --------------------------------------------------------------------------- */

/**
 * Hand one message over. `data` has been copied when the call returns.
 *
 * If one enqueue returned before another of the same priority began, its message is claimed first;
 * with one consumer thread of the CPU device it also starts first. (With several, one can be held
 * up between its claim and the processor's first instruction. A GPU always has several: a block is
 * four units, or one with Q_PER_BLOCK, and a warp of Q_PER_THREAD claims up to 32 messages at
 * once.) The same holds for the messages of a batch among themselves, for descriptors, and for
 * reservations from their q_commit() on; pausing changes nothing in it. The ids of concurrent
 * enqueues say nothing about order.
 *
 * @param data        len bytes; NULL is legal when len is 0
 * @param len         bytes, 0 to slot_bytes
 * @param out_msg_id  the id; may be NULL
 * @param timeout_ms  how long to wait for a free slot
 * @return Q_OK; Q_ERR_INVALID_ARG: data is NULL and len is not 0, or len is above slot_bytes;
 *         Q_ERR_FULL: no free slot and timeout_ms was 0; Q_ERR_TIMEOUT: none within timeout_ms;
 *         Q_ERR_SHUTDOWN: stopped or being stopped; Q_ERR_POLICY: with Q_ONE_PRODUCER, another
 *         thread is the producer; Q_ERR_LOST: gpuqd has gone.
 * Ordering: release: everything written before the call is visible to the processor.
 * Blocking: only while the queue is full. One futex call when a consumer sleeps.
 */
Q_API QueueStatus q_enqueue(GpuQueue *q, const void *data, size_t len, uint64_t *out_msg_id,
			    uint32_t timeout_ms);

/**
 * q_enqueue() with options.
 *
 * @param options  not kept; NULL: all zero
 * @return as q_enqueue(); Q_ERR_INVALID_ARG: also a field of the options that is out of range.
 */
Q_API QueueStatus q_enqueue_ex(GpuQueue *q, const void *data, size_t len,
			       const EnqueueOptions *options, uint64_t *out_msg_id,
			       uint32_t timeout_ms);

/**
 * q_enqueue() that does not wait: not for a free slot, nor until the device can see the message;
 * q_wait_enqueue() waits for that. `data` has been copied when the call returns, as ever.
 *
 * @return as q_enqueue(); Q_ERR_FULL: no free slot. Never Q_ERR_TIMEOUT.
 */
Q_API QueueStatus q_enqueue_async(GpuQueue *q, const void *data, size_t len, uint64_t *out_msg_id);

/**
 * Wait until the device can see the message (a reservation: until it has been committed).
 * @return Q_OK, also for a finished message; Q_ERR_NOT_FOUND: never issued, aborted or taken;
 *         Q_ERR_TIMEOUT; Q_ERR_SHUTDOWN: a reservation that a stop revoked.
 */
Q_API QueueStatus q_wait_enqueue(GpuQueue *q, uint64_t msg_id, uint32_t timeout_ms);

/**
 * Hand `count` messages over, in order. All are validated before the first is accepted.
 *
 * @param items         count items; NULL is legal when count is 0
 * @param out_msg_ids   count ids, the accepted ones first; may be NULL
 * @param out_enqueued  items accepted, always a prefix; may be NULL
 * @return Q_OK: all; Q_ERR_INVALID_ARG: none; Q_ERR_FULL (timeout_ms 0) or Q_ERR_TIMEOUT: the
 *         first *out_enqueued of them; Q_ERR_SHUTDOWN: likewise, the queue was closed meanwhile.
 */
Q_API QueueStatus q_enqueue_batch(GpuQueue *q, const EnqueueItem *items, size_t count,
				  uint64_t *out_msg_ids, size_t *out_enqueued, uint32_t timeout_ms);

/**
 * q_enqueue_batch() with one set of options for all.
 *
 * @param options  not kept; NULL: all zero
 * @return as q_enqueue_batch().
 */
Q_API QueueStatus q_enqueue_batch_ex(GpuQueue *q, const EnqueueItem *items, size_t count,
				     const EnqueueOptions *options, uint64_t *out_msg_ids,
				     size_t *out_enqueued, uint32_t timeout_ms);

/**
 * Take a slot and write the message in place, without a copy.
 *
 * A reservation holds a slot and an id and counts toward capacity; it holds no place in line:
 * it is ordered by its commit, delays no other message, and q_drain() ignores it.
 *
 * @param len          bytes that will be written, 0 to slot_bytes
 * @param out_payload  where to write them: 16-byte aligned host memory, the caller's until
 *                     q_commit() or q_abort(); contents undefined
 * @param out_msg_id   required: commit and abort need it
 * @return as q_enqueue_ex(); Q_ERR_INVALID_ARG: also out_payload or out_msg_id is NULL.
 */
Q_API QueueStatus q_reserve(GpuQueue *q, size_t len, const EnqueueOptions *options,
			    void **out_payload, uint64_t *out_msg_id, uint32_t timeout_ms);

/**
 * Hand a reserved message over.
 * @return Q_OK; Q_ERR_NOT_FOUND: not an open reservation; Q_ERR_SHUTDOWN: revoked by a stop.
 */
Q_API QueueStatus q_commit(GpuQueue *q, uint64_t msg_id);

/**
 * Give a reservation back; also one that a stop has revoked.
 * @return Q_OK; Q_ERR_NOT_FOUND: not an open reservation.
 */
Q_API QueueStatus q_abort(GpuQueue *q, uint64_t msg_id);

/**
 * Ask that a message not be started. Decided when a consumer claims it (on a GPU by what it read
 * just before; with transport BAR1 up to some tens of microseconds before): a message already
 * claimed runs to its end. On the remote device the call waits until gpuqd has looked, at most a
 * second.
 * @return Q_OK: recorded (without effect on a finished message); the completion says what came of
 *         it; Q_ERR_NOT_FOUND: never issued, aborted or taken.
 */
Q_API QueueStatus q_cancel(GpuQueue *q, uint64_t msg_id);

/* ---- messages that stay where they are ------------------------------------------------- */

/**
 * The regions that q_enqueue_descriptor() refers to; NULL unbinds. Regions are made with the calls
 * of ring.h. Bind before enqueueing.
 *
 * On the CUDA device the regions there are become known to the GPU: those registered later are not
 * until the table is bound again, and the memory of those bound must stay mapped until then. The
 * grid leaves for the moment, so this waits for the messages being processed, at most 2 s.
 *
 * If it fails the binding is as it was.
 *
 * @param table  must outlive the queue, or the binding
 * @return Q_OK; Q_ERR_NOT_READY: a message by descriptor has not finished, or is just being
 *         enqueued, or another thread is binding; Q_ERR_TIMEOUT: on the CUDA device, a message took
 *         longer than that; Q_ERR_NO_MEMORY, Q_ERR_CUDA: on the CUDA device.
 */
Q_API QueueStatus q_bind_regions(GpuQueue *q, RegionTable *table);

/**
 * Hand over a message that stays in its region: nothing is copied, the processor's payload is the
 * region's bytes, and the length may exceed slot_bytes. All else is as for q_enqueue_ex().
 *
 * The region stays referenced until the message has finished, whatever the outcome. If it is
 * retired meanwhile, it is freed then. The reference is dropped by the call that takes notice of
 * the end: one that polls, waits, takes, drains, stops, binds regions, or needs a slot and finds
 * none. If q_shutdown() gives up on a processor, the reference of its message is never dropped, and
 * the region's memory must outlive the processor.
 *
 * While another thread binds regions on the CUDA device this waits for that, too.
 *
 * @param descriptor  not kept
 * @param timeout_ms  how long to wait for a free slot, and for that
 * @return as q_enqueue_ex(), Q_ERR_TIMEOUT also for that; Q_ERR_NOT_READY: regions are being bound,
 *         and timeout_ms is 0; Q_ERR_INVALID_ARG: further, descriptor is NULL, its length 0, its
 *         flags not 0, it ends beyond the region (append-only: beyond what has been appended), or
 *         its bytes do not begin at a multiple of 16 in memory; Q_ERR_STALE: the region has been
 *         retired, or never was; Q_ERR_POLICY: a slab; Q_ERR_UNSUPPORTED: no regions bound, the
 *         region is not mapped in this process, or the device cannot reach it (on a GPU: it was
 *         registered after the binding, could not be pinned, or is pinned only in part; on the CPU:
 *         it is memory of a GPU); Q_ERR_LIMIT: 2^28 - 1 of its descriptors are outstanding;
 *         Q_ERR_FAILED: the table's memory is damaged.
 */
Q_API QueueStatus q_enqueue_descriptor(GpuQueue *q, const MessageDescriptor *descriptor,
				       const EnqueueOptions *options, uint64_t *out_msg_id,
				       uint32_t timeout_ms);

/* ---- results --------------------------------------------------------------------------- */

/**
 * Take a finished message's result by id and free its slot.
 *
 * @param out_buf    where to copy it; NULL with *inout_len 0 asks for the length (and takes a
 *                   message whose result is empty, or that failed)
 * @param inout_len  in: room in out_buf, bytes; out: the result's length (with
 *                   Q_ERR_BUFFER_TOO_SMALL the room needed), else 0
 * @return Q_OK: copied, slot freed; Q_ERR_NOT_READY: unfinished or reserved;
 *         Q_ERR_NOT_FOUND: never issued, aborted, discarded or taken;
 *         Q_ERR_BUFFER_TOO_SMALL: the result stays;
 *         Q_ERR_FAILED, Q_ERR_EXPIRED, Q_ERR_CANCELLED, Q_ERR_LOST: how the message ended, slot
 *         freed; Q_ERR_INVALID_ARG: inout_len is NULL, or out_buf is with *inout_len not 0.
 * Ordering: acquire: all that the processor wrote is visible.
 */
Q_API QueueStatus q_try_dequeue_result(GpuQueue *q, uint64_t msg_id, void *out_buf,
				       size_t *inout_len);

/**
 * Ids that have finished since, in completion order. Frees nothing.
 *
 * Over all callers of this and q_poll_results(), each finished id comes at most once, and exactly
 * once unless its result was taken first; discarded ones never.
 *
 * @param out_msg_ids  room for max_count ids; NULL is legal when max_count is 0
 * @param out_count    ids written; 0 with Q_OK when there is nothing (yet: see Work, above)
 * @return Q_OK; Q_ERR_INVALID_ARG: out_count is NULL, or out_msg_ids is with max_count not 0.
 */
Q_API QueueStatus q_poll_completions(GpuQueue *q, uint64_t *out_msg_ids, size_t max_count,
				     size_t *out_count);

/**
 * q_poll_completions() with outcome, tag and result in place; release each when done with it.
 *
 * Of n results, n calls of q_release() or one of q_release_batch() free the slots, in any order and
 * by any thread.
 *
 * The bytes are the library's: never write to them, and do not read them once the message is taken
 * or released, because they are another message's from then on. On a GPU a program that writes to
 * them may keep that other message from ever finishing, and so all that complete after it: the log
 * and q_info() (`hung`) say so.
 *
 * @param out        room for max_count completions; NULL is legal when max_count is 0
 * @param out_count  completions written; 0 with Q_OK when there is nothing (yet: see Work, above)
 * @return Q_OK; Q_ERR_INVALID_ARG: out_count is NULL, or out is with max_count not 0.
 * Ordering: acquire: all that the processors wrote is visible.
 */
Q_API QueueStatus q_poll_results(GpuQueue *q, Completion *out, size_t max_count, size_t *out_count);

/**
 * Poll and take in one call: results are copied, and their slots freed, in one go. This is the
 * cheapest way to take many; taken messages need no q_release().
 *
 * Over all callers of this, q_poll_results() and q_poll_completions(), each finished id comes at
 * most once.
 *
 * With a buffer the results are copied into it in completion order, each at a multiple of 16 bytes
 * from its begin, and Completion.result of each points to its copy. The message is taken, also one
 * that did not end Q_OK, which takes no room: Completion.status says how it ended. (Of one that
 * FAILED, the value of q_processor_status() is lost with it; poll in place where you need that.) It
 * stops early at a result for which there is no room left; the next call begins with that one. A
 * buffer of max_count times result_bytes, rounded up to a multiple of 16, has room for any. A
 * result is copied without any lock, so other callers go on meanwhile.
 *
 * With buffer NULL and buffer_bytes 0 results stay in place and nothing is freed: this is
 * q_poll_results(), and each message needs a q_release(), or all of them a q_release_batch().
 *
 * @param out           room for max_count completions; NULL is legal when max_count is 0
 * @param buffer        buffer_bytes bytes; aligned to 16, if the copies are to be. The caller's
 * @param buffer_bytes  0 with a buffer: only messages without a result are taken
 * @param out_count     completions written; 0 with Q_OK when there is nothing (yet: see Work,
 *                      above)
 * @return Q_OK; Q_ERR_BUFFER_TOO_SMALL: the first result is longer than buffer_bytes, and nothing
 *         has been taken (q_last_error() has its length); Q_ERR_INVALID_ARG: out_count is NULL, or
 *         out is with max_count not 0, or buffer is with buffer_bytes not 0.
 * Ordering: acquire: all that the processors wrote is visible.
 */
Q_API QueueStatus q_take_results(GpuQueue *q, Completion *out, size_t max_count, void *buffer,
				 size_t buffer_bytes, size_t *out_count);

/**
 * Look at a finished message's result in place.
 *
 * @param out         the result, 16-byte aligned, until the message is taken or released;
 *                    read-only, as that of q_poll_results()
 * @param out_len     its length, bytes; 0 unless *out_status is Q_OK
 * @param out_status  how the message ended; each of the three may be NULL
 * @return Q_OK; Q_ERR_NOT_READY: unfinished or reserved; Q_ERR_NOT_FOUND: never issued, aborted,
 *         discarded or taken.
 * Ordering: acquire: all that the processor wrote is visible.
 */
Q_API QueueStatus q_peek_result(GpuQueue *q, uint64_t msg_id, const void **out, size_t *out_len,
				QueueStatus *out_status);

/**
 * The value with which a processor has reported failure: what it stored in *ResultView.status.
 *
 * @param out_value  0: it reported none (the message ended otherwise, or FAILED by a result of more
 *                   than result_bytes, or with the device); above 0xffff00 it comes as 0xffff00
 * @return Q_OK; Q_ERR_INVALID_ARG: out_value is NULL; Q_ERR_NOT_READY: unfinished or reserved;
 *         Q_ERR_NOT_FOUND: never issued, aborted, discarded or taken. So ask before the message is
 *         taken; q_last_error() has the value too when q_try_dequeue_result() gives Q_ERR_FAILED.
 */
Q_API QueueStatus q_processor_status(GpuQueue *q, uint64_t msg_id, uint32_t *out_value);

/**
 * Free a finished message's slot without copying its result.
 * @return Q_OK; Q_ERR_NOT_READY: unfinished or reserved; Q_ERR_NOT_FOUND: never issued, aborted,
 *         discarded or taken.
 */
Q_API QueueStatus q_release(GpuQueue *q, uint64_t msg_id);

/**
 * q_release() for each of `count` ids. One failing does not stop the others.
 * @return Q_OK: all freed; else the first failure, and q_last_error() says which id it was.
 */
Q_API QueueStatus q_release_batch(GpuQueue *q, const uint64_t *ids, size_t count);

/**
 * Wait until a message has finished, whatever the outcome. It stays to be taken.
 * @return Q_OK; Q_ERR_TIMEOUT; Q_ERR_NOT_FOUND: never issued, aborted, or already taken or
 *         discarded when the call began (a reservation: also when it was committed, finished and
 *         taken before this thread looked again); Q_ERR_SHUTDOWN: a revoked reservation.
 * Ordering: acquire: all that the processor wrote is visible.
 */
Q_API QueueStatus q_wait(GpuQueue *q, uint64_t msg_id, uint32_t timeout_ms);

/**
 * Wait until polling would return something.
 * @return Q_OK; Q_ERR_TIMEOUT; Q_ERR_SHUTDOWN: stopped and nothing is left to come.
 */
Q_API QueueStatus q_wait_any(GpuQueue *q, uint32_t timeout_ms);

/**
 * A file descriptor for poll(), select() and epoll, readable (level-triggered) while polling
 * would return something.
 *
 * It is served by one library thread, created by the first call. It becomes readable within the
 * time that thread needs to be scheduled after a completion (typically under 0.2 ms on an idle
 * machine); one wake-up with nothing to poll may happen when results are taken by id meanwhile.
 * Poll until nothing comes: that is what makes it unreadable again.
 *
 * @return the descriptor, owned by the queue and closed by q_shutdown(); -1 on failure.
 */
Q_API int q_completion_fd(GpuQueue *q);

/* ---- observation ----------------------------------------------------------------------- */

/** Counters; see QueueStats. @return Q_OK; Q_ERR_INVALID_ARG: out is NULL. */
Q_API QueueStatus q_stats(GpuQueue *q, QueueStats *out);

/** What the queue is and how it was set up. @return Q_OK; Q_ERR_INVALID_ARG: out is NULL. */
Q_API QueueStatus q_info(GpuQueue *q, QueueInfo *out);

/* ---- trace ----------------------------------------------------------------------------- */

/**
 * Write what a queue made with Q_TRACE has recorded so far, in the trace event format of Chrome, as
 * JSON that Perfetto (ui.perfetto.dev) and chrome://tracing open. docs/guide/profiling.md says what
 * is in it.
 *
 * Of each message that has finished: when it was enqueued, visible to consumers, claimed, done and
 * seen, on CLOCK_MONOTONIC. A consumer's times are the device's, aligned (TraceSummary says how
 * well) and, where they still contradict the host's, moved between them together. The first
 * cfg.trace_records are kept and all further ones only counted.
 *
 * With the environment variable GPUQ_TRACE=FILE, q_shutdown() does this by itself, with failures in
 * the log: "%p" in FILE becomes the process's number, and the n-th such queue of a process, from
 * the second on, appends ".n".
 *
 * Works also after a failure of the device, which the trace may show.
 *
 * @param path  made or overwritten; after a failure what is in it is no trace
 * @return Q_OK; Q_ERR_INVALID_ARG: path is NULL or empty; Q_ERR_UNSUPPORTED: without Q_TRACE;
 *         Q_ERR_IO: q_last_error() has the system's reason; Q_ERR_NO_MEMORY.
 * Threads: any; traffic goes on meanwhile.
 */
Q_API QueueStatus q_trace_write(GpuQueue *q, const char *path);

/**
 * How long messages took from stage to stage, over all that q_trace_write() would write.
 * @return Q_OK; Q_ERR_INVALID_ARG: out is NULL; Q_ERR_UNSUPPORTED: without Q_TRACE;
 *         Q_ERR_NO_MEMORY: 8 bytes a message are needed.
 */
Q_API QueueStatus q_trace_summary(GpuQueue *q, TraceSummary *out);

#ifdef __cplusplus
}
#endif
#endif /* GPUQ_GPUQ_H */
