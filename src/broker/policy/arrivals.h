/* SPDX-License-Identifier: Apache-2.0 */
/*
 * arrivals.h - how often each user may connect: a limiter (limiter.h) for each user that has
 * connected lately; and when to accept nobody for a while. Pure; of a fixed size.
 */
#ifndef GPUQ_BROKER_POLICY_ARRIVALS_H
#define GPUQ_BROKER_POLICY_ARRIVALS_H

#include "limiter.h"

enum {
	GQ_ARRIVALS_USERS = 256,
	GQ_ARRIVALS_FINE = 10,  /* connections: the first one */
	GQ_ARRIVALS_MOST_S = 2, /* a fine is at most what may come in so many seconds */
	GQ_ARRIVALS_REFUSALS = 8,
	GQ_ARRIVALS_FLOOD_NS = 8000000,
};
#define GQ_ARRIVALS_FORGIVE_NS UINT64_C(10000000000)

struct gq_arrival_user {
	struct gq_limiter limiter;
	uint32_t uid;
	bool let_in;        /* since its last fine */
	uint32_t doublings; /* of the next fine; time undoes them, from then on: */
	uint64_t since_ns;
};

struct gq_arrivals {
	uint64_t rate, burst;
	uint32_t users;
	uint32_t refusals; /* since then: */
	uint64_t refusals_since_ns;
	struct gq_arrival_user user[GQ_ARRIVALS_USERS];
};

/**
 * Nobody has come yet.
 * @param rate, burst  of each user, as gq__limiter_init() takes them: in range
 */
void gq__arrivals_init(struct gq_arrivals *a, uint64_t rate, uint64_t burst);

/** Another rate from now on, for those who have come already, too. */
void gq__arrivals_set(struct gq_arrivals *a, uint64_t rate, uint64_t burst, uint64_t now_ns);

/**
 * A user comes. Of more than GQ_ARRIVALS_USERS the one that has most left is forgotten, which is
 * one that has all left, unless so many come at once.
 * @param out_retry_ns  if it has come too often: after how long it may come again
 * @return whether it may come in; if so, it counts
 */
bool gq__arrivals_pass(struct gq_arrivals *a, uint32_t uid, uint64_t now_ns,
		       uint64_t *out_retry_ns);

/**
 * A connection has broken the protocol: its user may connect GQ_ARRIVALS_FINE times less, and if it
 * does so again after it has been let in again, twice as many times less. (Many connections that
 * one client breaks at once are one fault.) What came of that connection cost the others more than
 * a handshake, and a client that breaks one connection after the other costs them that each time.
 * So it is let in ever more seldom. The fine is no more than what the rate lets in within
 * GQ_ARRIVALS_MOST_S, or GQ_ARRIVALS_FINE if that is more. Each GQ_ARRIVALS_FORGIVE_NS undo one
 * doubling.
 *
 * A user that has nothing left owes it: else a client that lies all the time, and so never has
 * anything left, would lie as often as others connect. It owes no more than one fine, however many
 * of its connections have been broken at once.
 */
void gq__arrivals_fine(struct gq_arrivals *a, uint32_t uid, uint64_t now_ns);

/**
 * Somebody has been refused, or has to wait (tarpit.h). A user who floods would keep the thread
 * that accepts at that, and for as long at a time as it has a CPU, which others wait for. So after
 * GQ_ARRIVALS_REFUSALS of them in GQ_ARRIVALS_FLOOD_NS nobody is to be accepted for as long again.
 * A flood of connections fills the backlog, and then the kernel has whoever blocks in
 * connect() wait; one that waits for its refusal before it tries again waits for that. Others who
 * connect need a place of the backlog, too: for a backlog of 512 half a second, or longer, as a
 * full one is not served in order.
 * @return when to accept again; 0: there is no need to stop
 */
uint64_t gq__arrivals_refused(struct gq_arrivals *a, uint64_t now_ns);

#endif /* GPUQ_BROKER_POLICY_ARRIVALS_H */
