/* SPDX-License-Identifier: Apache-2.0 */
/* search.h - the search for a message that kills the device, by bisection. Pure. */
#ifndef GPUQ_REDIS_SEARCH_H
#define GPUQ_REDIS_SEARCH_H

#include "entry.h"

#include <stdbool.h>
#include <stdint.h>

/*
 * Suspects stand in a stack of groups; the group on top runs, alone in the queue. If the device
 * dies, the group's rest is halved; a rest of one is the culprit. A culprit among n is found in at
 * most log2(n) + 1 deaths, after the one that made them suspects, and all others have run.
 *
 * All of it lies in memory that outlives the process (suspects.h), which may end at any store of
 * search_push(), search_top() and search_clear(). So it has no pointers; a group counts when it is
 * whole; and a suspect that is just being cleared may stand in its group twice, but is never lost.
 */
struct search {
	uint32_t capacity; /* suspects */
	uint32_t groups;   /* of which the topmost may be empty: see search_top() */
};

/* One suspect. `size` counts in the first of a group: how many it has. */
struct suspect {
	struct stream_id id;
	uint32_t size;
	uint32_t pad;
};

/** Add a group on top of the stack. False: no room for all of it. */
bool search_push(struct search *s, struct suspect *suspects, const struct stream_id *ids,
		 uint32_t count);

/** The group on top; its number of suspects, 0: the search is over. */
uint32_t search_top(struct search *s, const struct suspect *suspects, const struct suspect **out);

/** This suspect of the top group has finished: it is innocent. Another one: nothing happens. */
void search_clear(struct search *s, struct suspect *suspects, struct stream_id id);

/**
 * The device died while the top group ran.
 * Returns true if one suspect was left in it, which is the culprit: *out, and no longer a suspect.
 * Else the group has become two.
 */
bool search_died(struct search *s, struct suspect *suspects, struct stream_id *out);

#endif /* GPUQ_REDIS_SEARCH_H */
