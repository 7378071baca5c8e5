/* SPDX-License-Identifier: Apache-2.0 */
/* status_shards.h - `gpuq-redis status` of a stream in shards. */
#ifndef GPUQ_REDIS_STATUS_SHARDS_H
#define GPUQ_REDIS_STATUS_SHARDS_H

#include "redis/server/redis.h"

/** Show the sum and a line for each shard; `dead`: as --dlq. The number of shards is known. */
int status_shards(const struct place *p, const char *group, const char *dead, bool json);

#endif /* GPUQ_REDIS_STATUS_SHARDS_H */
