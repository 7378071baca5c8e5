/* SPDX-License-Identifier: Apache-2.0 */
/* wait.c - where `gpuq run` sleeps: for input, or for results. */
#define _GNU_SOURCE
#include "program/signals.h"
#include "run.h"

#include <errno.h>
#include <poll.h>

/* How long a wait for the queue may last before signals, output and progress are looked after. */
#define WAIT_MS 50

bool wait_for_input(struct run *r, const struct input_file *file)
{
	struct pollfd fds[4] = {
		{ .fd = file->fd, .events = POLLIN },
		{ .fd = signals_fd(), .events = POLLIN },
		{ .fd = -1, .events = 0 }, /* POLLERR: the pipe's reader has gone */
		{ .fd = -1, .events = POLLIN },
	};
	int timeout_ms = -1;

	if (!r->tee) /* with others it is not all that is written to */
		fds[2].fd = r->output.fd;
	if (poll(fds, 1, 0) > 0)
		return true;
	if (!output_flush(&r->output))
		return false;
	if (r->progress.enabled)
		timeout_ms = (int)(PROGRESS_INTERVAL_NS / 1000000);
	if (r->window.pending > 0) {
		if (r->poll_fd < 0)
			r->poll_fd = q_completion_fd(r->queue);
		fds[3].fd = r->poll_fd;
		if (r->poll_fd < 0)
			timeout_ms = 10;
	}
	if (poll(fds, 4, timeout_ms) < 0)
		return false; /* EINTR */
	if (fds[2].revents & POLLERR)
		r->output.error = EPIPE;
	return fds[0].revents != 0;
}

void wait_for_results(struct run *r)
{
	const struct entry *e = window_quarter(&r->window);
	QueueStatus status;

	if (!e)
		return;
	/* a file's next piece waits for the answer to the one before: do not let it wait */
	if (r->streams.begun > 0)
		status = q_wait_any(r->queue, WAIT_MS);
	else
		status = q_wait(r->queue, e->msg_id, WAIT_MS);
	if (status != Q_OK && status != Q_ERR_TIMEOUT)
		report_broken_queue(r, "q_wait", status);
}
