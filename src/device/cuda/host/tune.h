/* SPDX-License-Identifier: Apache-2.0 */
/* tune.h - settings of the grid that GPUQ_TUNE names, for measuring. */
#ifndef GPUQ_CUDA_HOST_TUNE_H
#define GPUQ_CUDA_HOST_TUNE_H

#include <stdbool.h>
#include <stdint.h>

/* X(name, value when it is not named, least, greatest). GQ_TUNE_UNSET: the library chooses. */
#define GQ_TUNE_UNSET UINT32_MAX
#define GQ_TUNE_LIST(X)                                                                            \
	X(scouts, 16, 1, 4096)                                                                     \
	X(batch, 32, 1, 32)                                                                        \
	X(feed, GQ_TUNE_UNSET, 0, 416)                                                             \
	X(feeders, GQ_TUNE_UNSET, 1, 4)                                                            \
	X(nap, 1000, 32, 1000000)                                                                  \
	X(journal, 1, 0, 1)                                                                        \
	X(seal, 1, 0, 1)                                                                           \
	X(ahead, 1, 0, 1)                                                                          \
	X(cooperative, 1, 0, 1)                                                                    \
	X(domain, 1, 0, 1)                                                                         \
	X(priority, 1, 0, 1)

struct gq_tune {
#define GQ_TUNE_MEMBER(name, value, least, greatest) uint32_t name;
	GQ_TUNE_LIST(GQ_TUNE_MEMBER)
#undef GQ_TUNE_MEMBER
};

/*
 * The settings: what the environment variable GPUQ_TUNE names, and the default of each other one.
 * docs/reference/cuda.md says what they do.
 * @return false, with q_last_error(), if the variable is wrong
 */
bool gq__tune_read(struct gq_tune *out);

#endif /* GPUQ_CUDA_HOST_TUNE_H */
