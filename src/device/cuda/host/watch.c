/* SPDX-License-Identifier: Apache-2.0 */
/*
 * watch.c - what the host says of the running grid: in the log, messages that take long and results
 * that do not arrive; in q_info(), these and what was measured.
 */
#include "device/cuda/host/watch.h"

#include "device/cuda/host/journal.h"

#include <inttypes.h>
#include <stdio.h>

#define WATCH_EVERY_NS UINT64_C(1000000000)

/* Say in the log which messages have come to take long since the last look. Under the lock. */
static void watch_journal(struct gq_cuda *c, uint64_t now_ns)
{
	const struct gq_hung h = gq__journal_find_hung(c, now_ns);
	char others[224] = "", ids[160];

	if (h.n == 0 || h.last_ns + GQ_HUNG_AFTER_NS <= c->watched_ns)
		return;
	if (h.n > 1) {
		gq__journal_list(c, h.last_ns, ids, sizeof(ids));
		snprintf(others, sizeof(others), ", the longest of %" PRIu64 ": msg_id %s", h.n,
			 ids);
	}
	gq__log(Q_LOG_WARNING, "CUDA: message %" PRIu64 " has been processed for %" PRIu64 " s%s",
		h.id, (now_ns - h.since_ns) / 1000000000, others);
}

/* Say in the log that a result does not arrive: everything behind it waits. Under the lock. */
static void watch_results(struct gq_cuda *c, uint64_t now_ns)
{
	uint64_t id = 0;
	const uint64_t ns = gq__torn_ns(c->q, now_ns, &id);

	if (ns < GQ_HUNG_AFTER_NS || id == c->torn_id)
		return;
	c->torn_id = id;
	gq__log(Q_LOG_ERROR,
		"CUDA: the result of message %" PRIu64 " has not been whole for %" PRIu64
		" s, and all completions behind it wait: has a result been written to that was "
		"released?",
		id, ns / 1000000000);
}

void gq__watch(struct gq_cuda *c, uint64_t now_ns)
{
	/* Threads take turns here, so `now_ns` may be earlier than the last one's. */
	if (now_ns <= c->watched_ns + WATCH_EVERY_NS)
		return;
	watch_journal(c, now_ns);
	watch_results(c, now_ns);
	c->watched_ns = now_ns;
}

void gq__watch_describe(GpuQueue *q, QueueInfo *out)
{
	const struct gq_cuda *c = q->device_state;
	const uint64_t now_ns = gq__now_ns();
	uint64_t torn_ns, torn_id = 0;
	struct gq_hung hung;

	out->flag_ns = gq_load_relaxed_u64(&c->measured.flag);
	out->read_ns = c->measured.read;
	out->release_ns = c->measured.release;
	out->pull_ns = c->measured.pull;
	out->copy_ns = c->measured.copy;
	out->copy_small_ns = c->measured.copy_small;
	out->canary_ns = c->measured.canary;
	out->copy_from = c->copy_from == UINT32_MAX ? UINT64_MAX : c->copy_from;
	out->device_bytes = c->device_bytes;
	hung = gq__journal_find_hung(c, now_ns);
	out->hung = hung.n;
	out->hung_msg_id = hung.id;
	out->hung_ns = hung.n != 0 ? now_ns - hung.since_ns : 0;
	torn_ns = gq__torn_ns(q, now_ns, &torn_id);
	if (torn_ns >= GQ_HUNG_AFTER_NS) {
		out->hung++;
		if (torn_ns > out->hung_ns) {
			out->hung_msg_id = torn_id;
			out->hung_ns = torn_ns;
		}
	}
	out->stalls = gq_load_relaxed_u64(&c->link->report.stalls);
}
