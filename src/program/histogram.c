/* SPDX-License-Identifier: Apache-2.0 */
/* histogram.c - a log-linear histogram: any 64-bit values, fixed memory, 3 % resolution. */
#include "histogram.h"

#include <stddef.h>
#include <string.h>

void histogram_add(struct histogram *h, uint64_t value)
{
	h->buckets[histogram_bucket(value)]++;
	h->count++;
	if (value > h->max)
		h->max = value;
}

void histogram_load(struct histogram *h, const uint64_t buckets[HISTOGRAM_BUCKETS], uint64_t max)
{
	h->count = 0;
	h->max = max;
	memcpy(h->buckets, buckets, sizeof(h->buckets));
	for (size_t i = 0; i < HISTOGRAM_BUCKETS; i++)
		h->count += buckets[i];
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
			const uint64_t bound = histogram_bound((uint32_t)i);

			return bound < h->max ? bound : h->max;
		}
	}
	return h->max;
}
