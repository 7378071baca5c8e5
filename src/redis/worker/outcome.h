/* SPDX-License-Identifier: Apache-2.0 */
/* outcome.h - groups of finished messages that want the same done with them. */
#ifndef GPUQ_REDIS_OUTCOME_H
#define GPUQ_REDIS_OUTCOME_H

#include "worker.h"

#define GROUP_MOST 256u /* entries of one script */

/* Finished leases; they stand in the order of completion. */
struct group {
	uint32_t leases[GROUP_MOST];
	uint32_t count;
};

/* What became of each of a group. */
enum settled {
	SETTLED_LOST = 0, /* it was no longer ours */
	SETTLED_DONE = 1,
	SETTLED_NOT = 2,  /* not tried: it stays finished */
	SETTLED_REST = 3, /* it runs once more: its lease stays in the book */
};

/* By enum results_kind, as the scripts have them. */
extern const char *const results_kind_names[4];

/**
 * What a script has answered, for each of the group. False: nothing of use; the reply is freed.
 * *out_failed: behind the answers stands the error that stopped it.
 */
bool outcome_answer(struct worker *w, redisReply *reply, const char *what, uint32_t count,
		    uint8_t *settled, bool *out_failed);

/** The error that stopped a script half way is a reply of its own. Frees the reply. */
void outcome_refused_within(struct worker *w, const char *what, redisReply *reply);

/** Count results that were written, and those that were refused. */
void outcome_published(struct worker *w, const struct group *g, const uint8_t *settled);

/** Those of the group that are settled are finished no more; but for the resting they are let go.
 */
void outcome_close(struct worker *w, const struct group *g, const uint8_t *settled);

/** Both, after what a script has answered; and the error that stopped it, if it `failed`. Frees the
 * reply. Returns whether it did not fail. */
bool outcome_end(struct worker *w, const struct group *g, const uint8_t *settled, bool failed,
		 redisReply *reply);

/** Finished messages whose results are to be published, as many as a group has room for. */
void outcome_choose(const struct worker *w, struct group *g);
/** These are no longer among the finished ones; and they are again, as the first. */
void outcome_lift(struct worker *w, const struct group *g);
void outcome_put_back(struct worker *w, const struct group *g);

#endif /* GPUQ_REDIS_OUTCOME_H */
