/* SPDX-License-Identifier: Apache-2.0 */
/* crew.h - the workers of one process: one for each shard of its stream, and one queue for all. */
#ifndef GPUQ_REDIS_CREW_H
#define GPUQ_REDIS_CREW_H

#include "redis/server/shares.h"
#include "worker.h"

struct crew {
	const struct worker_options *options;
	struct worker_options *own; /* of each worker */
	struct worker *workers;
	uint32_t count;
	uint32_t slots; /* of the queue */
	uint32_t room;  /* messages that one worker may hold, at most, whatever the others do */
	uint32_t first; /* whose turn comes first */
	struct suspects *memory; /* that of the first */
	bool restarted;
	bool draining;
	struct shares shares; /* which shards this process may read */
	uint64_t turned_ms;   /* when the loop last turned */
	uint64_t life_at_ms;  /* when systemd is to hear from us; 0: never so far */
	uint64_t look_at_ms;  /* when to look next whether all shards are empty */
	struct watch watch;
};

/** Reads what the options leave open; makes the workers, which are connected to nothing yet. */
int crew_init(struct crew *c, struct worker_options *o);
void crew_free(struct crew *c);

/** How many more messages this worker may ask Redis for. */
uint32_t crew_room(const struct worker *w);

/** How many more --max-messages leaves to it; UINT32_MAX: as many as it likes. */
uint32_t crew_left(const struct worker *w);

/** As many messages as --max-messages wants have been taken in. */
bool crew_full(const struct crew *c);

/** Messages that any of them holds; and of these, those that wait to be run once more. */
uint32_t crew_used(const struct crew *c);
uint32_t crew_resting(const struct crew *c);

/** One of them searches for what kills the device: then nobody reads. */
bool crew_searching(const struct crew *c);

/** Whose message a completion is about: the tag that crew_tag() has made. */
struct worker *crew_owner(const struct crew *c, uint64_t tag, uint32_t *out_lease);
static inline uint64_t crew_tag(const struct worker *w, uint32_t lease)
{
	return (uint64_t)w->number << 32 | lease;
}

/** A message has finished: the queue is not stuck, for any of them. */
void crew_progress(struct crew *c, uint64_t now);

/** One of them has ended; NULL: none. */
const struct worker *crew_over(const struct crew *c);

/** The sum of all. */
struct worker_totals crew_totals(const struct crew *c);

/** Ask again which shards to read, if it is time. `leave`: none any more. */
void crew_share(struct crew *c, bool leave);

/** This worker has something to do: its shard is leased, or it still holds something of it. */
bool crew_active(const struct worker *w);

/** Whether no shard has anything new or pending, as of a look just now. */
bool crew_empty(struct crew *c);

#endif /* GPUQ_REDIS_CREW_H */
