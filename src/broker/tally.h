/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tally.h - what gpuqd counts of a client's messages, and nothing else: so that a gpuqd that counts
 * nothing can be built beside it (bench/broker/uncounted), to see what counting costs.
 */
#ifndef GPUQ_BROKER_TALLY_H
#define GPUQ_BROKER_TALLY_H

#include "broker/page/page.h"
#include "device/protocol/protocol.h"

/* Messages of one class that were claimed at one time and have ended OK since the clock was last
 * read: they are counted together, when it is read again. */
struct tally {
	struct page_queue *counts; /* the dispatcher's */
	uint64_t claimed_ns, bytes_out;
	uint32_t class, messages;
};

static inline void tally_claimed(struct tally *t, uint32_t class, uint32_t len)
{
	t->counts->accepted[class]++;
	t->counts->bytes_in += len;
}

static inline void tally_time(struct tally *t, uint64_t messages, uint64_t claimed_ns,
			      uint64_t now_ns)
{
	struct page_queue *counts = t->counts;
	const uint64_t ns = now_ns > claimed_ns ? now_ns - claimed_ns : 0;

	counts->seconds[histogram_bucket(ns)] += messages;
	counts->seconds_ns += ns * messages;
	counts->seconds_max_ns = ns > counts->seconds_max_ns ? ns : counts->seconds_max_ns;
}

/* What has ended since the last time is counted; it took until now. */
static inline void tally_settle(struct tally *t, uint64_t now_ns)
{
	if (t->messages == 0)
		return;
	t->counts->ended[t->class][PAGE_OK] += t->messages;
	t->counts->bytes_out += t->bytes_out;
	tally_time(t, t->messages, t->claimed_ns, now_ns);
	t->messages = 0;
	t->bytes_out = 0;
}

static inline void tally_ok(struct tally *t, uint32_t class, uint32_t len, uint64_t claimed_ns,
			    uint64_t now_ns)
{
	if (t->claimed_ns != claimed_ns || t->class != class) {
		tally_settle(t, now_ns);
		t->claimed_ns = claimed_ns;
		t->class = class;
	}
	t->messages++;
	t->bytes_out += len;
}

/* A message has ended; tally_settle() has to follow, when the clock has been read. */
static inline void tally_ended(struct tally *t, uint32_t class, uint32_t outcome,
			       uint64_t claimed_ns, uint64_t now_ns)
{
	enum page_outcome how = PAGE_FAILED;

	if (outcome <= GQ_OUTCOME_MAX_LEN) {
		tally_ok(t, class, outcome, claimed_ns, now_ns);
		return;
	}
	if (outcome == GQ_OUTCOME_EXPIRED)
		how = PAGE_EXPIRED;
	else if (outcome == GQ_OUTCOME_CANCELLED)
		how = PAGE_CANCELLED;
	t->counts->ended[class][how]++;
	tally_time(t, 1, claimed_ns, now_ns);
}

/* Its client leaves. */
static inline void tally_lost(struct tally *t, uint32_t class)
{
	t->counts->ended[class][PAGE_LOST]++;
}

#endif /* GPUQ_BROKER_TALLY_H */
