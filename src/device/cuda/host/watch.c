/* SPDX-License-Identifier: Apache-2.0 */
/*
 * watch.c - what the host keeps an eye on while the grid runs: how far its clock is from the
 * host's, messages that take long, results that do not arrive; and what q_info() says of these.
 */
#include "device/cuda/host/state.h"

#include <inttypes.h>
#include <stdio.h>

#define ANSWER_TIMEOUT_NS UINT64_C(10000000)
#define ALIGN_EVERY_NS    UINT64_C(1000000000)
#define WATCH_EVERY_NS    UINT64_C(1000000000)
#define HUNG_AFTER_NS     UINT64_C(5000000000)

/* ---- clocks --------------------------------------------------------------------------------- */

bool gq__watch_ask_clock(struct gq_cuda *c, uint64_t patience_ns)
{
	const uint64_t asked = gq__now_ns(), ping = gq__cuda_post_ping(c, GQ_PING_CLOCK);
	uint64_t trip;

	if (!gq__cuda_await_pong(c, ping, patience_ns))
		return false;
	c->aligned_ns = gq__now_ns();
	trip = c->aligned_ns - asked;
	/* A long trip says little of when the answer was given. But if the shortest was luck, none
	 * would be short beside it ever again. */
	if (c->trip_ns != 0 && trip >= 2 * c->trip_ns) {
		c->trip_ns += c->trip_ns / 8 + 1;
		return true;
	}
	gq_store_relaxed_u64(&c->link->orders.ahead_ns,
			     asked + trip / 2 - gq_load_relaxed_u64(&c->link->report.pong_ns));
	if (trip / 2 > c->ahead_error_ns) /* others may be reading this, and the next one */
		gq_store_relaxed_u64(&c->ahead_error_ns, trip / 2);
	if (c->measured.flag == 0 || trip < c->measured.flag)
		gq_store_relaxed_u64(&c->measured.flag, trip);
	if (c->trip_ns == 0 || trip < c->trip_ns)
		c->trip_ns = trip;
	return true;
}

bool gq__watch_align(struct gq_cuda *c)
{
	unsigned answers = 0;

	for (unsigned i = 0; answers < 8 && i < 100; i++)
		answers += gq__watch_ask_clock(c, ANSWER_TIMEOUT_NS);
	c->ahead_error_ns = c->measured.flag; /* half of twice that: longer trips did not count */
	if (answers == 0)
		gq__cuda_fail_with_state(c, "the resident grid does not answer");
	return answers != 0;
}

void gq__watch_realign(struct gq_cuda *c, uint64_t now_ns)
{
	if (now_ns - c->aligned_ns > ALIGN_EVERY_NS)
		gq__watch_ask_clock(c, 20000 + 2 * c->trip_ns);
}

/* The offset is the middle of a round trip: off by half of it at most. What the clocks drift apart
 * until the next one comes on top. */
uint64_t gq__watch_clock_error_ns(GpuQueue *q)
{
	const struct gq_cuda *c = q->device_state;

	return gq_load_relaxed_u64(&c->ahead_error_ns);
}

/* ---- messages that take long ----------------------------------------------------------------- */

/* @return the message inside a place, 0: none; and since when, on the host's clock. */
static uint64_t inside(const struct gq_cuda *c, uint32_t place, uint64_t *since_ns)
{
	const struct gq_journal *j = &c->journal[place];
	const uint64_t id = gq_load_relaxed_u64(&j->msg_id);

	*since_ns =
		gq_load_relaxed_u64(&j->since_ns) + gq_load_relaxed_u64(&c->link->orders.ahead_ns);
	return id == gq_load_relaxed_u64(&j->msg_id) ? id : 0;
}

size_t gq__watch_list(const struct gq_cuda *c, uint64_t before_ns, char *text, size_t room)
{
	size_t used = 0;
	unsigned n = 0;

	text[0] = '\0';
	for (uint32_t i = 0; i < c->places && used + 24 < room; i++) {
		uint64_t since_ns;
		const uint64_t id = inside(c, i, &since_ns);

		if (id != 0 && since_ns <= before_ns)
			used += (size_t)snprintf(text + used, room - used, "%s%" PRIu64,
						 n++ == 0 ? "" : ", ", id);
	}
	return n;
}

/* Messages that have been inside for long. */
struct hung {
	uint64_t n, id, since_ns; /* id, since_ns: of the longest */
	uint64_t last_ns;         /* since when the one is that came last */
};

static struct hung find_hung(const struct gq_cuda *c, uint64_t now_ns)
{
	struct hung h = { 0, 0, UINT64_MAX, 0 };

	for (uint32_t i = 0; i < c->places; i++) {
		uint64_t since_ns;
		const uint64_t id = inside(c, i, &since_ns);

		if (id == 0 || since_ns + HUNG_AFTER_NS > now_ns)
			continue;
		h.n++;
		if (since_ns < h.since_ns) {
			h.id = id;
			h.since_ns = since_ns;
		}
		if (since_ns > h.last_ns)
			h.last_ns = since_ns;
	}
	return h;
}

/* Say so when messages have come to take long since this was last looked at. Under the lock. */
static void watch_journal(struct gq_cuda *c, uint64_t now_ns)
{
	const struct hung h = find_hung(c, now_ns);
	char others[224] = "", ids[160];

	if (h.n == 0 || h.last_ns + HUNG_AFTER_NS <= c->watched_ns)
		return;
	if (h.n > 1) {
		gq__watch_list(c, h.last_ns, ids, sizeof(ids));
		snprintf(others, sizeof(others), ", the longest of %" PRIu64 ": msg_id %s", h.n,
			 ids);
	}
	gq__log(Q_LOG_WARNING, "CUDA: message %" PRIu64 " has been processed for %" PRIu64 " s%s",
		h.id, (now_ns - h.since_ns) / 1000000000, others);
}

/* Say so when a result does not arrive: everything behind it waits. Under the lock. */
static void watch_results(struct gq_cuda *c, uint64_t now_ns)
{
	uint64_t id = 0;
	const uint64_t ns = gq__torn_ns(c->q, now_ns, &id);

	if (ns < HUNG_AFTER_NS || id == c->torn_id)
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
	/* It may be earlier than the last one's: threads take turns. */
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
	struct hung hung;

	out->flag_ns = gq_load_relaxed_u64(&c->measured.flag);
	out->read_ns = c->measured.read;
	out->release_ns = c->measured.release;
	out->pull_ns = c->measured.pull;
	out->copy_ns = c->measured.copy;
	out->copy_small_ns = c->measured.copy_small;
	out->canary_ns = c->measured.canary;
	out->copy_from = c->copy_from == UINT32_MAX ? UINT64_MAX : c->copy_from;
	out->device_bytes = c->device_bytes;
	hung = find_hung(c, now_ns);
	out->hung = hung.n;
	out->hung_msg_id = hung.id;
	out->hung_ns = hung.n != 0 ? now_ns - hung.since_ns : 0;
	torn_ns = gq__torn_ns(q, now_ns, &torn_id);
	if (torn_ns >= HUNG_AFTER_NS) {
		out->hung++;
		if (torn_ns > out->hung_ns) {
			out->hung_msg_id = torn_id;
			out->hung_ns = torn_ns;
		}
	}
	out->stalls = gq_load_relaxed_u64(&c->link->report.stalls);
}
