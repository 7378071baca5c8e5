/* SPDX-License-Identifier: Apache-2.0 */
/*
 * capability.h - what a service can do, what a request wants, and whether the one meets the other.
 * Pure. Both come as text from a peer, as words between spaces:
 *
 *   dims=128..8192   dims=128,256,512    dimensions: ranges and single ones
 *   types=f32,f16                        of f32, f16, i8, i16, binary
 *   batch=1000                           items in one batch
 *   slot=4096  result=1024               bytes of a message and of its result
 *   op=embed:3                           an op and its version; several times, for several
 *   tag=gpu                              several times; a request wants all of its tags
 *   load=700  priority=10                a request only: at most, in 1/1000; at least
 *
 * A service that leaves out a key has no limit there; one without an op has none. A request that
 * leaves out a key does not care.
 */
#ifndef GPUQ_BROKER_POLICY_CAPABILITY_H
#define GPUQ_BROKER_POLICY_CAPABILITY_H

#include "wire.h"

enum {
	GQ_CAPABILITY_RANGES = 16,
	GQ_CAPABILITY_OPS = 16,
	GQ_CAPABILITY_TAGS = 16,
	GQ_CAPABILITY_WORDS = 64,
	GQ_DIMENSION_MAX = 8192,
};

enum gq_data_type { GQ_TYPE_F32, GQ_TYPE_F16, GQ_TYPE_I8, GQ_TYPE_I16, GQ_TYPE_BINARY, GQ_TYPES };

struct gq_name {
	char text[GQ_WIRE_NAME_MAX + 1];
};

struct gq_op {
	struct gq_name name;
	uint32_t version; /* 0 in a request: any */
};

/* What a service can do, or what a request wants. */
struct gq_capability {
	struct {
		uint32_t low;
		uint32_t high;
	} dims[GQ_CAPABILITY_RANGES];
	uint32_t ranges;
	uint32_t types; /* a bit for each gq_data_type; 0: any */
	uint32_t batch; /* 0: any */
	uint64_t slot_bytes;
	uint64_t result_bytes;
	struct gq_op ops[GQ_CAPABILITY_OPS];
	uint32_t op_count;
	struct gq_name tags[GQ_CAPABILITY_TAGS];
	uint32_t tag_count;
	uint32_t load_most;      /* 1/1000; 0: any */
	uint32_t priority_least; /* 0: any */
};

/* What is wrong with a text. X(NAME, text) */
#define GQ_CAPABILITY_STATUS_LIST(X)                                                               \
	X(OK, "good")                                                                              \
	X(LONG, "a word of more than 256 bytes")                                                   \
	X(MANY, "more than 64 words, or more than 16 ranges, ops or tags")                         \
	X(KEY, "an unknown key, or a word that is not key=value")                                  \
	X(TWICE, "a key that may come once came twice")                                            \
	X(NUMBER, "not a number, or out of its range")                                             \
	X(RANGE, "a range whose end is below its start")                                           \
	X(TYPE, "not one of f32, f16, i8, i16, binary")                                            \
	X(NAME, "a name is 1 to 64 of A-Z, a-z, 0-9, '.', '_', '-'")

#define GQ_AS_CAPABILITY_STATUS(name, text) GQ_CAPABILITY_##name,
enum gq_capability_status { GQ_CAPABILITY_STATUS_LIST(GQ_AS_CAPABILITY_STATUS) };
#undef GQ_AS_CAPABILITY_STATUS

/**
 * Reads a text. Linear in its bytes; allocates nothing.
 * @param at   after an error: where the word that is wrong begins, in bytes; may be NULL
 * @param out  written in any case; after an error of no use
 */
enum gq_capability_status gq__capability_parse(const char *text, size_t bytes,
					       struct gq_capability *out, size_t *at);

/** What is wrong, in words. */
const char *gq__capability_status_text(enum gq_capability_status status);

/**
 * Whether a service that can do `has` may be given a request that wants `want`. Load and priority
 * are not looked at here, for they are not part of what a service can do.
 */
bool gq__capability_meets(const struct gq_capability *has, const struct gq_capability *want);

/**
 * How much more than wanted a service can do: the smaller, the tighter it fits. Only of services
 * that meet the wish.
 */
uint64_t gq__capability_surplus(const struct gq_capability *has, const struct gq_capability *want);

#endif /* GPUQ_BROKER_POLICY_CAPABILITY_H */
