/* SPDX-License-Identifier: Apache-2.0 */
/*
 * waker.c - wakes a dispatcher that sleeps when something completes in its queue.
 *
 * A dispatcher sleeps on descriptors, for its clients ring by them. q_completion_fd() would be one,
 * but its thread is woken by every completion, also while the dispatcher looks by itself. This
 * thread waits for completions only when the dispatcher has armed it on its way to sleep.
 */
#include "dispatch.h"

#include "host/base/sys.h"
#include "host/base/thread.h"

enum { LOOK_MS = 500 }; /* how long a processor that hangs can hold up the end */

static void *wait_and_wake(void *arg)
{
	struct dispatcher *d = arg;
	const uint64_t one = 1;

	for (;;) {
		while (sem_wait(&d->arm) != 0)
			;
		while (gq_load_seq_cst_u32(&d->quit) == 0 &&
		       q_wait_any(d->q, LOOK_MS) == Q_ERR_TIMEOUT)
			;
		if (gq_load_seq_cst_u32(&d->quit) != 0)
			return NULL;
		gq_exchange_seq_cst_u32(&d->armed, 0);
		(void)gq_sys_write(d->wake, &one, sizeof(one));
	}
}

bool waker_start(struct dispatcher *d)
{
	sem_init(&d->arm, 0, 0);
	if (gq__start_thread(&d->waker, wait_and_wake, d, "gpuqd-waker") == 0)
		return true;
	sem_destroy(&d->arm);
	return false;
}

void waker_arm(struct dispatcher *d)
{
	if (gq_exchange_seq_cst_u32(&d->armed, 1) == 0)
		sem_post(&d->arm);
}

void waker_end(struct dispatcher *d)
{
	gq_exchange_seq_cst_u32(&d->quit, 1);
	sem_post(&d->arm);
	pthread_join(d->waker, NULL);
	sem_destroy(&d->arm);
}
