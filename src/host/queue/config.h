/* SPDX-License-Identifier: Apache-2.0 */
/* config.h - checking a configuration and filling in its defaults. */
#ifndef GPUQ_QUEUE_CONFIG_H
#define GPUQ_QUEUE_CONFIG_H

#include <stdbool.h>

#include <gpuq/gpuq.h>

/* @return false, with q_last_error() naming the field and what it may be. */
bool gq__resolve_config(const QueueConfig *cfg, QueueConfig *out);

#endif /* GPUQ_QUEUE_CONFIG_H */
