/* SPDX-License-Identifier: Apache-2.0 */
/* journal.h - which messages the grid is processing, by its journal, and since when. */
#ifndef GPUQ_CUDA_HOST_JOURNAL_H
#define GPUQ_CUDA_HOST_JOURNAL_H

#include "device/cuda/host/state.h"

#define GQ_HUNG_AFTER_NS UINT64_C(5000000000)

/* The messages that have been processed for GQ_HUNG_AFTER_NS and more. */
struct gq_hung {
	uint64_t n;
	uint64_t id, since_ns; /* of the one that has taken longest */
	uint64_t last_ns;      /* when the one began that has taken least */
};
struct gq_hung gq__journal_find_hung(const struct gq_cuda *c, uint64_t now_ns);

/* The ids of the messages being processed that began by `before_ns`, as many as there is room for.
 * @return how many are in the text */
size_t gq__journal_list(const struct gq_cuda *c, uint64_t before_ns, char *text, size_t room);

#endif /* GPUQ_CUDA_HOST_JOURNAL_H */
