/* SPDX-License-Identifier: Apache-2.0 */
/* status.h - what `gpuq-redis status` and `doctor` look at. */
#ifndef GPUQ_REDIS_STATUS_H
#define GPUQ_REDIS_STATUS_H

#include "redis/server/redis.h"

struct looker {
	struct place place;
	struct link link;
	const char *command; /* status or doctor */
	const char *group;
	const char *dead;
	bool json;
};

/* Each returns EXIT_DONE, or has said why not. */

/** How long a stream is; 0 if there is none. */
int status_length(struct looker *l, const char *key, long long *out);

/** Whether the messages lie in a list. */
int status_is_list(struct looker *l, bool *out);

/** Show it. */
int status_list(struct looker *l);

#endif /* GPUQ_REDIS_STATUS_H */
