/* SPDX-License-Identifier: Apache-2.0 */
/* post.h - a post in its two halves, for callers that hold a lock of their own meanwhile. */
#ifndef GPUQ_NOTIFY_POST_H
#define GPUQ_NOTIFY_POST_H

#include "host/notify/state.h"

/* What a post has left to do once no lock is held. */
struct gq_noted {
	struct gq_notify_place *place;
	uint64_t reached;
	bool has_descriptors;
};

/* The first half of a post: the event is there. It wakes nobody. @return false: the handle is
 * stale. */
bool gq__notify_note(NotifyQueue *nq, NotifyHandle handle, int64_t arg, struct gq_noted *noted);

/* The second half. A place that has a new life meanwhile is woken in vain. */
static inline void gq_notify_wake(const struct gq_noted *noted)
{
	gq_event_broadcast(&noted->place->event); /* [wake.look] */
	if (__builtin_expect(noted->has_descriptors, 0))
		gq__notify_signal(noted->place);
}

#endif /* GPUQ_NOTIFY_POST_H */
