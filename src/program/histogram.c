/* SPDX-License-Identifier: Apache-2.0 */
/* histogram.c - a log-linear histogram: any 64-bit values, fixed memory, 3 % resolution. */
#include "histogram.h"

#include <stddef.h>

#define SUB_BUCKETS (1u << HISTOGRAM_SUB_BITS)

static size_t bucket_of(uint64_t value)
{
	unsigned int shift;

	if (value < SUB_BUCKETS)
		return (size_t)value;
	/* value >> shift is in [32, 64): the leading one selects the octave, the rest the bucket */
	shift = 63u - (unsigned int)__builtin_clzll(value) - HISTOGRAM_SUB_BITS;
	return (size_t)shift * SUB_BUCKETS + (size_t)(value >> shift);
}

/* The largest value that falls into a bucket. */
static uint64_t bucket_bound(size_t bucket)
{
	unsigned int shift;

	if (bucket < SUB_BUCKETS)
		return bucket;
	shift = (unsigned int)(bucket / SUB_BUCKETS) - 1;
	return ((uint64_t)(bucket % SUB_BUCKETS + SUB_BUCKETS) << shift) +
	       ((UINT64_C(1) << shift) - 1);
}

void histogram_add(struct histogram *h, uint64_t value)
{
	h->buckets[bucket_of(value)]++;
	h->count++;
	if (value > h->max)
		h->max = value;
}

uint64_t histogram_quantile(const struct histogram *h, uint32_t numerator, uint32_t denominator)
{
	/* rounded up, without n * numerator overflowing for any count that can occur */
	const uint64_t whole = h->count / denominator * numerator;
	const uint64_t part = h->count % denominator * numerator;
	uint64_t rank = whole + (part + denominator - 1) / denominator;
	uint64_t seen = 0;

	if (h->count == 0)
		return 0;
	if (rank == 0)
		rank = 1;
	for (size_t i = 0; i < HISTOGRAM_BUCKETS; i++) {
		seen += h->buckets[i];
		if (seen >= rank) {
			const uint64_t bound = bucket_bound(i);

			return bound < h->max ? bound : h->max;
		}
	}
	return h->max;
}
