/* SPDX-License-Identifier: Apache-2.0 */
/* places.h - a set of places of the registry's table, as bits. */
#ifndef GPUQ_BROKER_POLICY_PLACES_H
#define GPUQ_BROKER_POLICY_PLACES_H

#include <stdbool.h>
#include <stdint.h>

enum { GQ_PLACES = 128 };

struct gq_places {
	uint64_t bits[GQ_PLACES / 64];
};

static inline void gq_places_add(struct gq_places *set, uint32_t place)
{
	set->bits[place / 64] |= UINT64_C(1) << place % 64;
}

static inline void gq_places_remove(struct gq_places *set, uint32_t place)
{
	set->bits[place / 64] &= ~(UINT64_C(1) << place % 64);
}

static inline bool gq_places_has(const struct gq_places *set, uint32_t place)
{
	return place < GQ_PLACES && (set->bits[place / 64] >> place % 64 & 1) != 0;
}

static inline uint32_t gq_places_count(const struct gq_places *set)
{
	return (uint32_t)(__builtin_popcountll(set->bits[0]) + __builtin_popcountll(set->bits[1]));
}

static inline bool gq_places_empty(const struct gq_places *set)
{
	return (set->bits[0] | set->bits[1]) == 0;
}

static inline bool gq_places_equal(const struct gq_places *a, const struct gq_places *b)
{
	return ((a->bits[0] ^ b->bits[0]) | (a->bits[1] ^ b->bits[1])) == 0;
}

static inline struct gq_places gq_places_and(const struct gq_places *a, const struct gq_places *b)
{
	return (struct gq_places){ { a->bits[0] & b->bits[0], a->bits[1] & b->bits[1] } };
}

static inline struct gq_places gq_places_or(const struct gq_places *a, const struct gq_places *b)
{
	return (struct gq_places){ { a->bits[0] | b->bits[0], a->bits[1] | b->bits[1] } };
}

static inline struct gq_places gq_places_without(const struct gq_places *a,
						 const struct gq_places *b)
{
	return (struct gq_places){ { a->bits[0] & ~b->bits[0], a->bits[1] & ~b->bits[1] } };
}

/** The first place of the set at `from` or after it, GQ_PLACES if there is none. */
static inline uint32_t gq_places_next(const struct gq_places *set, uint32_t from)
{
	while (from < GQ_PLACES) {
		const uint64_t left = set->bits[from / 64] >> from % 64;

		if (left != 0)
			return from + (uint32_t)__builtin_ctzll(left);
		from = (from / 64 + 1) * 64;
	}
	return GQ_PLACES;
}

/** The place of the set that has n before it, 0 <= n < count. */
static inline uint32_t gq_places_nth(const struct gq_places *set, uint32_t n)
{
	const uint32_t low = (uint32_t)__builtin_popcountll(set->bits[0]);
	const uint32_t word = n < low ? 0 : 1;
	uint64_t bits = set->bits[word];

	for (n -= word != 0 ? low : 0; n > 0; n--)
		bits &= bits - 1;
	return word * 64 + (uint32_t)__builtin_ctzll(bits);
}

#endif /* GPUQ_BROKER_POLICY_PLACES_H */
