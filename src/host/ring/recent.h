/* SPDX-License-Identifier: Apache-2.0 */
/*
 * recent.h - the calling thread's latest bindings, by handle: what each call asks for first;
 * private to the ring. The others are in a table of the thread (handles.c).
 *
 * They are thread-local words. In a shared library the usual way to such words is a call of
 * __tls_get_addr(), which costs a message a tenth of its time. The fast way, a fixed distance from
 * the thread's pointer, is there only where the loader had room for them beside every thread: in a
 * program that links the library always, in one that opens it late mostly. To demand that room, as
 * the initial-exec model does, would be to refuse to be opened without it. So the library asks for
 * it (recent.c), and takes the usual way where it is not given.
 */
#ifndef GPUQ_RING_RECENT_H
#define GPUQ_RING_RECENT_H

#include "host/ring/ring.h"

struct gq_ring_binding {
	uint64_t serial;
	struct gq_ring_local *local;
};
enum { GQ_RECENT = 8 };
extern _Thread_local struct gq_ring_binding gq__ring_recent[GQ_RECENT];

#if defined(__x86_64__) && !defined(__ILP32__)

/* From the thread's pointer to gq__ring_recent, of each thread; 0: there is no fixed distance.
 * Written while the library is loaded. */
extern int64_t gq__ring_recent_distance;

static inline struct gq_ring_binding *gq_ring_recent_of(const RingQueue *r)
{
	const int64_t distance = gq__ring_recent_distance;
	char *thread;

	if (__builtin_expect(distance == 0, 0))
		return &gq__ring_recent[r->serial % GQ_RECENT];
	__asm__("mov %%fs:0, %0" : "=r"(thread));
	return (struct gq_ring_binding *)(void *)(thread + distance) + r->serial % GQ_RECENT;
}

#else

static inline struct gq_ring_binding *gq_ring_recent_of(const RingQueue *r)
{
	return &gq__ring_recent[r->serial % GQ_RECENT];
}

#endif

#endif /* GPUQ_RING_RECENT_H */
