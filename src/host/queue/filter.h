/* SPDX-License-Identifier: Apache-2.0 */
/* filter.h - filters of completions. */
#ifndef GPUQ_QUEUE_FILTER_H
#define GPUQ_QUEUE_FILTER_H

#include <gpuq/notify.h>

/* Checks a filter; *out is the same without zeros that mean something. NULL: every completion. */
QueueStatus gq__check_filter(const CompletionFilter *filter, CompletionFilter *out);

#endif /* GPUQ_QUEUE_FILTER_H */
