/* SPDX-License-Identifier: Apache-2.0 */
/* histogram.h - a log-linear histogram: any 64-bit values, fixed memory, 3 % resolution. */
#ifndef GPUQ_PROGRAM_HISTOGRAM_H
#define GPUQ_PROGRAM_HISTOGRAM_H

#include <stdint.h>

/* Each power of two is cut into 2^5 equal buckets; below 2^5 every value has its own. */
#define HISTOGRAM_SUB_BITS 5
#define HISTOGRAM_BUCKETS  ((64 - HISTOGRAM_SUB_BITS + 1) << HISTOGRAM_SUB_BITS)

struct histogram {
	uint64_t count;
	uint64_t max;
	uint64_t buckets[HISTOGRAM_BUCKETS];
};

/** Where a value is counted: the smallest bucket whose bound it does not exceed. */
static inline uint32_t histogram_bucket(uint64_t value)
{
	uint32_t shift;

	if (value < 1u << HISTOGRAM_SUB_BITS)
		return (uint32_t)value;
	/* value >> shift is in [32, 64): the leading one selects the octave, the rest the bucket */
	shift = 63u - (uint32_t)__builtin_clzll(value) - HISTOGRAM_SUB_BITS;
	return (shift << HISTOGRAM_SUB_BITS) + (uint32_t)(value >> shift);
}

/** The largest value that is counted there. */
static inline uint64_t histogram_bound(uint32_t bucket)
{
	uint32_t shift;

	if (bucket < 1u << HISTOGRAM_SUB_BITS)
		return bucket;
	shift = (bucket >> HISTOGRAM_SUB_BITS) - 1;
	return ((uint64_t)(bucket % (1u << HISTOGRAM_SUB_BITS) + (1u << HISTOGRAM_SUB_BITS))
		<< shift) +
	       ((UINT64_C(1) << shift) - 1);
}

/** Count one value. A zeroed histogram is an empty one. */
void histogram_add(struct histogram *h, uint64_t value);

/** A histogram of what others have counted in `buckets`, with their largest value. */
void histogram_load(struct histogram *h, const uint64_t buckets[HISTOGRAM_BUCKETS], uint64_t max);

/**
 * The smallest bucket bound that at least numerator/denominator of the values do not exceed:
 * never below the true quantile, above it by less than 1/32 of it. 0 when empty.
 */
uint64_t histogram_quantile(const struct histogram *h, uint32_t numerator, uint32_t denominator);

#endif /* GPUQ_PROGRAM_HISTOGRAM_H */
