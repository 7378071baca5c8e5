/* SPDX-License-Identifier: Apache-2.0 */
/* poll_fd.c - q_ring_fd(): a descriptor that is readable while there may be something to receive.
 * Its thread sleeps on the ring's flag as a receiver would. */
#include "host/ring/poll_fd.h"

#include "host/ring/close.h"
#include "host/ring/extent.h"
#include "host/ring/fence.h"

/* Whether a receive would return something else than Q_ERR_EMPTY. */
static bool is_worth_a_look(void *handle)
{
	RingQueue *r = handle;

	for (uint32_t c = 0; c < r->messages.classes; c++)
		if (gq_extent_may_hold(&r->messages.ready[c])) /* [sleep.look] */
			return true;
	return gq_load_seq_cst_u64(&r->head->signals.state) != GQ_RING_OPEN && gq__ring_settle(r);
}

static void await_message(void *handle)
{
	RingQueue *r = handle;
	struct gq_wait wait;

	gq__wait_begin_shared(&wait, &r->head->signals.data_armed, GQ_FOR_EVER, gq_ring_nap_ns(r));
	wait.spin_ns = 0; /* what a sleeper's wake-up costs is not worth a CPU */
	while (!gq_poll_fd_has_to_quit(&r->poll) && !gq__poll_fd_announce(&r->poll) &&
	       gq__wait_next(&wait))
		wait.nap_ns = gq_ring_reach_before_look(r, &wait);
	gq__wait_end(&wait);
}

static void rouse(void *handle)
{
	gq__flag_wake_shared(&((RingQueue *)handle)->head->signals.data_armed);
}

void gq__ring_poll_begin(RingQueue *r)
{
	static const struct gq_poll_fd_kind kind = {
		.call = "q_ring_fd",
		.thread = "gpuq-ring-fd",
		.finds_something = is_worth_a_look,
		.await = await_message,
		.rouse = rouse,
	};

	gq__poll_fd_begin(&r->poll, &kind, r);
}

void gq__ring_poll_end(RingQueue *r)
{
	gq__poll_fd_end(&r->poll, r->generation != gq__generation);
}

int q_ring_fd(RingQueue *r)
{
	return gq_ring_enter(r) == Q_OK ? gq__poll_fd_get(&r->poll) : -1;
}
