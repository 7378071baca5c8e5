/* SPDX-License-Identifier: Apache-2.0 */
/* tend.c - waiting on a queue whose consumers may be unable to wake anybody. */
#include "host/queue/tend.h"

/* The loads are sequentially consistent for a thread that is about to sleep because nothing is
 * under way ([sleep.look]). */
uint64_t gq__accepted(const GpuQueue *q)
{
	uint64_t n = 0;

	for (uint32_t c = 0; c < GQ_CLASSES; c++)
		n += gq_load_seq_cst_u64(q->ch.ready[c].tail) - q->start_pos; /* [tail.read] */
	return n;
}

void gq__tend_now_and_then(GpuQueue *q)
{
	static _Thread_local uint32_t turns;

	if (++turns % 64 == 0)
		q->device->tend(q);
}

static void tend(void *q)
{
	((GpuQueue *)q)->device->tend(q);
}

/* Whether nothing is under way: then a thread that waits for a completion can only be woken by a
 * publication. */
static bool is_idle(void *arg, const struct gq_event *event)
{
	const GpuQueue *q = arg;

	return event == &q->any && gq__accepted(q) == gq_load_relaxed_u64(&q->reaped.finished);
}

const struct gq_tender gq__queue_tender = { .tend = tend, .is_idle = is_idle };

static void sleeping(void *q)
{
	((GpuQueue *)q)->device->sleeping(q);
}

static void awake(void *q)
{
	((GpuQueue *)q)->device->awake(q);
}

/* Of a device that wakes, once it has been told that somebody sleeps. */
const struct gq_tender gq__queue_sleeper = { .sleeping = sleeping, .awake = awake };
