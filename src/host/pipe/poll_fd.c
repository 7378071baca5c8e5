/* SPDX-License-Identifier: Apache-2.0 */
/* poll_fd.c - q_pipe_reader_fd(): a descriptor that is readable while a read would find something.
 * Its thread sleeps as a reading one would. */
#include "host/pipe/poll_fd.h"

static bool finds_something(void *handle)
{
	struct gq_pipe_view view;

	return gq__pipe_look(handle, &view) != GQ_SEES_NOTHING;
}

static void await_something(void *handle)
{
	PipeReader *r = handle;
	struct gq_wait wait;

	gq__pipe_wait_begin(r, &wait, &r->poll_asleep, GQ_FOR_EVER);
	wait.spin_ns = 0; /* what a sleeper's wake-up costs is not worth a CPU */
	while (!gq_poll_fd_has_to_quit(&r->poll) && !gq__poll_fd_announce(&r->poll) &&
	       gq__wait_next(&wait))
		;
	gq__pipe_wait_end(r, &wait, &r->poll_asleep);
}

static void rouse(void *handle)
{
	PipeReader *r = handle;
	const uint64_t quits = 1;
	const uint64_t asleep_until = quits;

	if (r->pipe != NULL)
		gq_event_broadcast(&r->pipe->data); /* [wake.look] */
	else
		gq__pipe_rouse(r, &r->poll_asleep, &asleep_until, quits);
}

void gq__pipe_poll_begin(PipeReader *r)
{
	static const struct gq_poll_fd_kind kind = {
		.call = "q_pipe_reader_fd",
		.thread = "gpuq-pipe-fd",
		.finds_something = finds_something,
		.await = await_something,
		.rouse = rouse,
	};

	gq__poll_fd_begin(&r->poll, &kind, r);
}

void gq__pipe_poll_end(PipeReader *r)
{
	gq__poll_fd_end(&r->poll, false);
}

int q_pipe_reader_fd(PipeReader *r)
{
	return gq_pipe_reader_enter(r) == Q_OK ? gq__poll_fd_get(&r->poll) : -1;
}
