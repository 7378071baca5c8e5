/* SPDX-License-Identifier: Apache-2.0 */
/* profiler.h - what the profiler of these tests has been told; by dlsym() of "nvtx_seen". */
#ifndef GPUQ_TEST_NVTX_PROFILER_H
#define GPUQ_TEST_NVTX_PROFILER_H

#include <pthread.h>
#include <stdint.h>

enum { SEEN_NAMES = 64 };

struct seen_name {
	char text[32];
	uint64_t pushed, popped; /* ranges of this name */
	uint64_t payload;        /* of the last */
};

struct nvtx_seen {
	pthread_mutex_t lock;
	unsigned domains, ranges, threads, streams;
	char domain[4][32];
	struct seen_name range[SEEN_NAMES];
	char thread[SEEN_NAMES][32];
	char stream[SEEN_NAMES][32];
	unsigned wrong; /* a pop of nothing, a domain or string that is none, a range without a name
			 */
};

#endif /* GPUQ_TEST_NVTX_PROFILER_H */
