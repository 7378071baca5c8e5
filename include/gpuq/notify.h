/* SPDX-License-Identifier: Apache-2.0 */
/*
 * notify.h - telling waiting threads that something has happened, without ever waiting for them;
 * and a queue's completions as events. The guide is docs/guide/notify.md.
 */
#ifndef GPUQ_NOTIFY_H
#define GPUQ_NOTIFY_H

#include <gpuq/gpuq.h>

#ifdef __cplusplus
extern "C" {
#endif

/*
 * Conventions: those of gpuq.h, with these differences.
 *
 * Threads    Any number of threads may call anything on one notification queue, its handles and its
 *            subscriptions at the same time, without an outer lock. q_notify_destroy() alone needs
 *            that no other thread is inside a call on the queue, and q_notify_unsubscribe() the
 *            same of the subscription.
 * Progress   q_notify_post() makes no system call but to wake threads that sleep, allocates
 *            nothing, calls no code of yours, and waits for no client: no state that a waiter or a
 *            receiver can be in, stopped or ended or slow, delays it. Posts on one handle come one
 *            after the other: each makes the others wait for as long as it takes to note the event
 *            in every subscription. So does a call that subscribes, unsubscribes or unregisters,
 *            for a few stores.
 * Cancelling No call is a cancellation point: a thread that is cancelled inside one comes back from
 *            it first, and the place that it had as a waiter is free.
 * Signals    No call of this header may be made in a signal handler, or left by longjmp(). A signal
 *            that comes meanwhile makes no call fail and no wait end early. No call raises SIGPIPE,
 *            or changes what a signal does or the caller's mask; only q_subscribe() and
 *            q_on_completion() start threads, which block signals as the queue's do.
 * Lives      A handle is valid from q_notify_register() until q_notify_unregister(). After that
 *            every call on it gives Q_ERR_STALE, for ever: no later handle has the same value.
 * Limits     max_handles, max_waiters, max_subscribers and max_bytes bound what clients can make
 *            the queue hold. A call that would go beyond gives Q_ERR_LIMIT, changes nothing, and
 *            q_last_error() names the limit.
 * Errors     The calls on a GpuQueue (q_subscribe(), q_on_completion(), q_remove_hook()) may return
 *            what gpuq.h says of every such call. Of the others, every call may return
 *            Q_ERR_INVALID_ARG (the queue or subscription is NULL, the handle is 0) and
 *            Q_ERR_UNSUPPORTED (it belongs to the process that forked this one); every call that
 *            takes a handle Q_ERR_STALE. They are not repeated below.
 */

#define Q_NOTIFY_MAX_HANDLES      65536u
#define Q_NOTIFY_MAX_WAITERS      (1u << 20) /* a handle */
#define Q_NOTIFY_MAX_SUBSCRIBERS  65536u     /* a handle */
#define Q_NOTIFY_MAX_CAPACITY     65536u     /* events that a subscription holds */
#define Q_NOTIFY_DEFAULT_CAPACITY 64u
#define Q_NOTIFY_HINT_BYTES       64u /* of a hint, with the NUL */

typedef struct NotifyQueue NotifyQueue;
typedef struct NotifySubscription NotifySubscription;

/* An index and a generation; 0: none. */
typedef uint64_t NotifyHandle;

/* In every field zero means the default. Copied by q_notify_create(). */
typedef struct NotifyConfig {
	uint32_t max_handles;     /* registered at a time; 1 to 65536; 0: 65536 */
	uint32_t max_waiters;     /* threads that wait on one handle; 1 to 2^20; 0: 1024 */
	uint32_t max_subscribers; /* of one handle; 1 to 65536; 0: 1024 */
	uint32_t flags;           /* none defined: 0 */
	uint64_t max_bytes;       /* handles and subscriptions, all together; 0: 64 MiB */
	uint64_t reserved[4];     /* zero */
} NotifyConfig;

/* What becomes of an event that finds a subscription full. */
typedef enum NotifyPolicy {
	Q_NOTIFY_DROP_OLDEST = 0, /* the oldest event that it holds makes room */
	Q_NOTIFY_DROP_NEWEST = 1, /* the event is dropped */
	Q_NOTIFY_COALESCE = 2, /* it holds one event at most, the newest, whatever its capacity */
	Q_NOTIFY_CLOSE = 3,    /* the subscription ends: what it holds, then Q_ERR_LIMIT */
} NotifyPolicy;

typedef struct NotifyEvent {
	NotifyHandle handle;
	uint64_t sequence; /* of the post; a handle's first post has 1, the next 2 */
	int64_t arg;       /* as posted; every value is legal */
	uint64_t lost; /* q_notify_wait(): posts between `key` and this one; q_notify_recv(): events
			* dropped since the one returned before */
	uint64_t reserved[2];
} NotifyEvent;

/* Read one by one while threads go on; exact when the queue is quiet. */
typedef struct NotifyStats {
	uint64_t handles;       /* registered now */
	uint64_t waiters;       /* threads that wait now */
	uint64_t subscriptions; /* to handles registered now */
	uint64_t bytes;         /* of max_bytes in use */
	uint64_t registered;    /* handles since q_notify_create() */
	uint64_t posts;         /* since q_notify_create() */
	uint64_t reached;       /* the sum of what these posts have reached */
	uint64_t dropped;       /* events that subscriptions have dropped */
	uint64_t reserved[8];
} NotifyStats;

typedef struct NotifyHandleInfo {
	NotifyHandle handle;
	uint64_t sequence;         /* of the latest post; 0: none yet */
	int64_t last_arg;          /* of the latest post; 0: none yet */
	uint64_t reached;          /* the sum of what the posts have reached */
	uint64_t dropped;          /* events that its subscriptions have dropped */
	uint64_t waiting_since_ns; /* CLOCK_MONOTONIC; since then a thread has been waiting, though
				    * not always the same one; 0: none waits */
	uint32_t waiters;
	uint32_t subscriptions;
	char hint[64]; /* cut to 63 bytes */
	uint64_t reserved[6];
} NotifyHandleInfo;

GPUQ_STATIC_ASSERT(sizeof(NotifyConfig) == 56, "NotifyConfig is frozen");
GPUQ_STATIC_ASSERT(sizeof(NotifyEvent) == 48, "NotifyEvent is frozen");
GPUQ_STATIC_ASSERT(sizeof(NotifyStats) == 128, "NotifyStats is frozen");
GPUQ_STATIC_ASSERT(sizeof(NotifyHandleInfo) == 168, "NotifyHandleInfo is frozen");

/* ---- queue and handles ----------------------------------------------------------------------- */

/**
 * Create a notification queue.
 *
 * The memory for all handles is set aside at once; the kernel gives it as handles are used.
 *
 * @param cfg  NULL: all defaults
 * @param out  the queue
 * @return Q_OK; Q_ERR_INVALID_ARG (q_last_error() names field, value and range; also max_bytes too
 *         small for max_handles); Q_ERR_NO_MEMORY
 * Lifetime: until q_notify_destroy().
 */
Q_API QueueStatus q_notify_create(const NotifyConfig *cfg, NotifyQueue **out);

/**
 * Unregister every handle and give up the queue; NULL: nothing.
 *
 * Subscriptions outlive it: each gives the events it holds, then Q_ERR_SHUTDOWN, and has still to
 * be ended by q_notify_unsubscribe(). The last of them takes the queue's memory with it.
 *
 * Threads: no other call on this queue may run or follow. In a forked child it does nothing.
 */
Q_API void q_notify_destroy(NotifyQueue *nq);

/**
 * Register a handle: something that can be waited for.
 *
 * @param hint  what it is, in words, for q_notify_snapshot(); copied, cut to 63 bytes; NULL: ""
 * @param out   the handle, never 0
 * @return Q_OK; Q_ERR_INVALID_ARG (out is NULL); Q_ERR_LIMIT (max_handles are registered; or all
 *         free places are of handles that were unregistered and that a thread has not yet come back
 *         from waiting on; or every place has been used 2^32 times)
 */
Q_API QueueStatus q_notify_register(NotifyQueue *nq, const char *hint, NotifyHandle *out);

/**
 * End a handle.
 *
 * Every thread that waits on it returns with Q_ERR_SHUTDOWN, unless a post came first: then with
 * that event. Its subscriptions give the events they hold, then Q_ERR_SHUTDOWN.
 *
 * @return Q_OK
 */
Q_API QueueStatus q_notify_unregister(NotifyQueue *nq, NotifyHandle handle);

/* ---- compare and wait ------------------------------------------------------------------------ */

/**
 * How many posts a handle has had: the key to wait with.
 *
 * Observe, then test what you wait for, then q_notify_wait() with the key. If a post comes after
 * the observation, the wait returns at once; so a test that came too early loses nothing, and no
 * lock is needed around it.
 *
 * @return Q_OK; Q_ERR_INVALID_ARG (out_key is NULL)
 * Ordering: acquire: what the poster wrote before the last post counted is visible.
 */
Q_API QueueStatus q_notify_observe(NotifyQueue *nq, NotifyHandle handle, uint64_t *out_key);

/**
 * Wait until a handle has been posted to since `key` was observed.
 *
 * @param key         from q_notify_observe(), or the `sequence` of an event
 * @param out         the latest event; `lost` says how many came between; may be NULL
 * @param timeout_ms  0: only look; UINT32_MAX: for ever
 * @return Q_OK; Q_ERR_INVALID_ARG (key is beyond the handle's sequence); Q_ERR_EMPTY (timeout_ms 0,
 *         and no post since); Q_ERR_TIMEOUT; Q_ERR_SHUTDOWN (unregistered meanwhile); Q_ERR_LIMIT
 *         (max_waiters threads wait on the handle)
 * Ordering: acquire: what the poster wrote before its post is visible.
 */
Q_API QueueStatus q_notify_wait(NotifyQueue *nq, NotifyHandle handle, uint64_t key,
				NotifyEvent *out, uint32_t timeout_ms);

/**
 * Tell everybody who waits on a handle, or has subscribed to it, that something has happened.
 *
 * A post that nobody waits for is not remembered, but for the sequence: q_notify_observe().
 *
 * @param arg          any value
 * @param out_reached  the threads that this post ended the wait of, and the subscriptions that took
 *                     the event; NULL: not wanted. Written whatever the status
 * @return Q_OK, also when it reaches nobody
 * Ordering: release: everything written before the call is visible to those who learn of it.
 * Blocking: never for a client: see Progress in the conventions. A futex call when a thread sleeps
 *           on the handle, and a write when a descriptor of q_notify_fd() is to become readable.
 */
Q_API QueueStatus q_notify_post(NotifyQueue *nq, NotifyHandle handle, int64_t arg,
				size_t *out_reached);

/* ---- subscriptions --------------------------------------------------------------------------- */

/**
 * Subscribe to a handle: every event from now on, in order.
 *
 * @param capacity  events held for the reader; 1 to 65536; 0: 64
 * @param policy    what happens to an event that finds no room
 * @param out       the subscription
 * @return Q_OK; Q_ERR_INVALID_ARG (capacity, policy, or out is NULL); Q_ERR_LIMIT (max_subscribers,
 *         max_bytes); Q_ERR_NO_MEMORY
 * Lifetime: until q_notify_unsubscribe(), whatever becomes of handle and queue.
 */
Q_API QueueStatus q_notify_subscribe(NotifyQueue *nq, NotifyHandle handle, uint32_t capacity,
				     NotifyPolicy policy, NotifySubscription **out);

/**
 * End a subscription and free its place; NULL: nothing. Its descriptor is closed.
 *
 * Threads: no other call on this subscription may run or follow. In a forked child it does nothing.
 */
Q_API void q_notify_unsubscribe(NotifySubscription *sub);

/**
 * Take the next event of a subscription, waiting for one if there is none.
 *
 * Several threads may receive from one subscription; each event goes to one of them.
 *
 * @param out         the event; may be NULL
 * @param timeout_ms  0: only look; UINT32_MAX: for ever
 * @return Q_OK; Q_ERR_EMPTY (timeout_ms 0, nothing there); Q_ERR_TIMEOUT; Q_ERR_SHUTDOWN (the
 *         handle, or the queue it came from, has ended, and all is received); Q_ERR_LIMIT (policy
 *         CLOSE: it has overflowed, and all it held is received)
 * Ordering: acquire: what the poster wrote before its post is visible.
 */
Q_API QueueStatus q_notify_recv(NotifySubscription *sub, NotifyEvent *out, uint32_t timeout_ms);

/**
 * A descriptor to poll: readable while q_notify_recv() has something to say, an event or the end.
 *
 * Level-triggered. Do not read from it: q_notify_recv() makes it unreadable when nothing is left.
 * One wake-up in vain is possible: then q_notify_recv() finds nothing, and the descriptor is
 * unreadable again.
 *
 * @return the descriptor, the same at each call, closed by q_notify_unsubscribe(); -1 with
 *         q_last_error() (Q_ERR_LIMIT: no descriptor is to be had)
 */
Q_API int q_notify_fd(NotifySubscription *sub);

/* ---- what there is --------------------------------------------------------------------------- */

/**
 * Counters of a notification queue.
 *
 * @return Q_OK; Q_ERR_INVALID_ARG (out is NULL)
 */
Q_API QueueStatus q_notify_stats(NotifyQueue *nq, NotifyStats *out);

/**
 * What each registered handle is and has done.
 *
 * @param out        room for max_count; NULL only with max_count 0
 * @param out_count  how many handles are registered, also if that is more than max_count; written
 *                   whatever the status
 * @return Q_OK; Q_ERR_INVALID_ARG (out_count is NULL, or out is NULL with max_count above 0)
 */
Q_API QueueStatus q_notify_snapshot(NotifyQueue *nq, NotifyHandleInfo *out, size_t max_count,
				    size_t *out_count);

/* ---- completions of a queue ------------------------------------------------------------------ */

#define Q_MAX_COMPLETION_SUBSCRIPTIONS 256u /* of one queue */
#define Q_MAX_HOOKS                    64u  /* of one queue */

/* CompletionFilter.flags */
#define Q_FILTER_TAGS UINT32_C(1) /* tag_min and tag_max hold */
/* Bits of CompletionFilter.priorities and .statuses. Q_PRIORITY_DEFAULT means normal. */
#define Q_FILTER_PRIORITY(priority) (UINT32_C(1) << (priority))
#define Q_FILTER_STATUS(status)     (UINT32_C(1) << -(status))

/* Which completions: those that meet all three conditions. All zero: every one. */
typedef struct CompletionFilter {
	uint64_t tag_min; /* with Q_FILTER_TAGS: the lowest tag, and ... */
	uint64_t tag_max; /* ... the highest */
	uint32_t flags;
	uint32_t priorities;  /* Q_FILTER_PRIORITY(...) | ...; 0: every priority */
	uint32_t statuses;    /* Q_FILTER_STATUS(...) | ..., of Q_OK, Q_ERR_FAILED, Q_ERR_EXPIRED,
			       * Q_ERR_CANCELLED and Q_ERR_LOST; 0: every status */
	uint32_t reserved0;   /* zero */
	uint64_t reserved[4]; /* zero */
} CompletionFilter;

GPUQ_STATIC_ASSERT(sizeof(CompletionFilter) == 64, "CompletionFilter is frozen");

/**
 * Subscribe to the completions of a queue: each is an event, whose arg is the message's id.
 *
 * It says that a message has finished, and changes nothing: it is polled, waited for and taken as
 * ever, by whoever does so, and may have been taken when the event is received. Discarded messages
 * make no event. The first subscription, or hook, of a queue starts a thread that takes notice of
 * completions.
 *
 * When the queue has stopped and all that was accepted has finished, when its device has failed, or
 * when it is shut down, the subscription gives what it holds, then Q_ERR_SHUTDOWN. It may outlive
 * the queue, and is always to be ended by q_notify_unsubscribe().
 *
 * @param filter    NULL: every completion
 * @param capacity  events held; 1 to 65536; 0: 64
 * @param policy    what happens to an event that finds no room
 * @param out       for q_notify_recv(), q_notify_fd() and q_notify_unsubscribe(). An event's handle
 *                  is the subscription's own; its sequence counts the completions that passed the
 *                  filter
 * @return Q_OK; Q_ERR_INVALID_ARG (out is NULL; a field of the filter; capacity; policy);
 *         Q_ERR_SHUTDOWN (nothing completes any more); Q_ERR_LIMIT (256 subscriptions, or no thread
 *         is to be had); Q_ERR_NO_MEMORY
 */
Q_API QueueStatus q_subscribe(GpuQueue *q, const CompletionFilter *filter, uint32_t capacity,
			      NotifyPolicy policy, NotifySubscription **out);

/**
 * Have a function called for each completion of a queue, from now on, in their order.
 *
 * All hooks of a queue run on one thread of its own, never on a consumer's, and one at a time. So a
 * slow hook holds up other hooks, and nothing else: no consumer, no subscription, no other call. A
 * call that takes 100 ms or longer is named in the log with its time. Behind a slow hook
 * completions wait, four times as many as the queue's capacity, but at least 4096 and at most
 * 65536; beyond that hooks miss some, and the log says how many. A hook that must not miss any
 * polls instead.
 *
 * The Completion is the hook's for the call. Its result stays until the message is taken or
 * released, which the hook may do itself; with takers beside it the result may be gone.
 *
 * The hook may make every call on the queue but q_shutdown(), which does nothing there, and should
 * not wait for other completions. It runs with cancellation off, and must return.
 *
 * @param filter    NULL: every completion
 * @param fn        called with the completion and `user`
 * @param out_hook  the hook's number, never 0, for q_remove_hook(); NULL: not wanted
 * @return Q_OK; Q_ERR_INVALID_ARG (fn is NULL; a field of the filter); Q_ERR_SHUTDOWN (nothing
 *         completes any more); Q_ERR_LIMIT (64 hooks, or no thread is to be had); Q_ERR_NO_MEMORY
 * Lifetime: until q_remove_hook(). q_shutdown() calls it for all completions there are, and waits
 *           until it has returned.
 */
Q_API QueueStatus q_on_completion(GpuQueue *q, const CompletionFilter *filter,
				  void (*fn)(const Completion *completion, void *user), void *user,
				  uint64_t *out_hook);

/**
 * Remove a hook: it is not called any more, and when the call returns it is not running, so that
 * `user` may be freed. From within the hook itself the call does not wait.
 *
 * It works also after a failure of the device.
 *
 * @param hook  from q_on_completion()
 * @return Q_OK; Q_ERR_NOT_FOUND (there is no such hook)
 * Blocking: until the hook returns, if it is running on its thread.
 */
Q_API QueueStatus q_remove_hook(GpuQueue *q, uint64_t hook);

#ifdef __cplusplus
}
#endif

#endif /* GPUQ_NOTIFY_H */
