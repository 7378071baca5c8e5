/* SPDX-License-Identifier: Apache-2.0 */
/* hooks.h - functions of the application that are called for completions, on a thread of their own.
 */
#ifndef GPUQ_QUEUE_HOOKS_H
#define GPUQ_QUEUE_HOOKS_H

#include "host/queue/tell.h"

/* A hook, to be added. */
struct gq_hook {
	uint64_t number; /* 0: none here */
	uint64_t since;  /* the position of the journal at which it came */
	void (*fn)(const Completion *completion, void *user);
	void *user;
};

/* Under the control lock: the queue's hooks, made if there are none. NULL, with the last error. */
struct gq_hooks *gq__hooks_of(GpuQueue *q, struct gq_teller *t, QueueStatus *status);

/* Under the control lock: add a hook, which gets its number. */
QueueStatus gq__add_hook(struct gq_hooks *h, const CompletionFilter *filter, struct gq_hook *hook);

/* Of the teller's thread, without a lock: there is something in the journal. */
void gq__wake_hooks(struct gq_hooks *hooks);

/* At the end of a queue: what is in the journal is shown, and the thread has ended. */
void gq__stop_hooks(struct gq_teller *t);

/* Whether the caller is a hook of this queue. */
bool gq__is_hook_thread(GpuQueue *q);

#endif /* GPUQ_QUEUE_HOOKS_H */
