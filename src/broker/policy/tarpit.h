/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tarpit.h - connections of users that connect too often, which are looked at later. Refused at
 * once, a client that tries again at once keeps the thread that accepts busy, and so takes CPU time
 * from the others; one that has to wait comes as often as it waits. Pure; of a fixed size.
 */
#ifndef GPUQ_BROKER_POLICY_TARPIT_H
#define GPUQ_BROKER_POLICY_TARPIT_H

#include <stdbool.h>
#include <stdint.h>

enum { GQ_TARPIT_MOST = 256, GQ_TARPIT_MOST_OF_USER = 64, GQ_TARPIT_NS = 20000000 };

/* In the order in which they came, which is that of their times. */
struct gq_tarpit {
	int below; /* only descriptors below this number are kept */
	struct {
		uint64_t until_ns;
		uint32_t uid;
		int fd;
	} held[GQ_TARPIT_MOST];
	uint32_t first, count;
};

/**
 * There is none yet.
 * @param descriptors  that the process may have. The least one that is free is used next, so one
 * from the half of that on says that half are in use: then no connection is kept
 */
void gq__tarpit_init(struct gq_tarpit *t, uint64_t descriptors);

/**
 * A connection is kept for GQ_TARPIT_NS.
 * @param now_ns  of a monotonic clock
 * @return false: there is no place, at all or for this user, or no descriptor to spare; the
 * connection is still the caller's
 */
bool gq__tarpit_hold(struct gq_tarpit *t, int fd, uint32_t uid, uint64_t now_ns);

/** @return the first connection whose time has come, the caller's from now on; -1: there is none */
int gq__tarpit_due(struct gq_tarpit *t, uint64_t now_ns);

/** @return of the GQ_TARPIT_MOST places, which the next connection has that is kept; it has that
 * one until it is due. */
static inline uint32_t gq_tarpit_place(const struct gq_tarpit *t)
{
	return (t->first + t->count) % GQ_TARPIT_MOST;
}

/** @return when the next one is due; UINT64_MAX: never */
uint64_t gq__tarpit_next_ns(const struct gq_tarpit *t);

#endif /* GPUQ_BROKER_POLICY_TARPIT_H */
