/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vecdot.h - what a host hands to the vecdot processor and what it gets back; for C, C++ and CUDA.
 *
 * QueueConfig.processor_data is one VecdotHeader followed by rows * dim floats, row after row:
 *
 *     size_t bytes = vecdot_data_bytes(rows, dim);
 *     VecdotHeader *data = calloc(1, bytes);
 *     *data = (VecdotHeader){Q_VECDOT_MAGIC, Q_VECDOT_VERSION, rows, dim, k, {0}};
 *     memcpy(data + 1, matrix, bytes - sizeof(*data));
 *     cfg.processor_data = data;
 *     cfg.processor_data_bytes = bytes;
 *
 * A header that promises more floats than follow it makes every message FAILED.
 *
 * A message is one query, dim floats. Its result is the best min(k, rows) hits, the highest score
 * first, equal scores by the lower index. A score that is not a number ranks below all others,
 * minus infinity included, and is reported as the quiet NaN 0x7fc00000. No score is -0.
 *
 * A score is computed in single precision in one order on every device and at every granularity:
 * products are rounded, then added (never fused) into 32 sums, element i into sum i mod 32 in
 * ascending order, and sum j is then joined with sum j+16, j+8, j+4, j+2 and j+1. So the same query
 * gives the same bits everywhere, unless the processor is compiled with options like -ffast-math,
 * or -use_fast_math in nvcc, that allow other arithmetic.
 *
 * All numbers are little-endian, all floats IEEE 754 single precision.
 */
#ifndef GPUQ_KERNELS_VECDOT_H
#define GPUQ_KERNELS_VECDOT_H

#include <stddef.h>
#include <stdint.h>

#define Q_VECDOT_MAGIC   0x544f4456u /* "VDOT" */
#define Q_VECDOT_VERSION 1u
#define Q_VECDOT_MAX_K   64u

typedef struct VecdotHeader {
	uint32_t magic;        /* Q_VECDOT_MAGIC */
	uint32_t version;      /* Q_VECDOT_VERSION */
	uint32_t rows;         /* 0 to 2^32 - 1 */
	uint32_t dim;          /* floats in a row, at least 1 */
	uint32_t k;            /* hits in a result, 1 to Q_VECDOT_MAX_K */
	uint32_t reserved[11]; /* zero */
} VecdotHeader;

typedef struct VecdotHit {
	uint32_t index; /* of the row */
	float score;
} VecdotHit;

/* The status a message ends with; all but Q_VECDOT_OK make it FAILED. */
enum {
	Q_VECDOT_OK = 0,
	Q_VECDOT_NO_DATA = 1,  /* processor_data is NULL */
	Q_VECDOT_BAD_DATA = 2, /* magic, version or reserved words are wrong, dim is 0, or the data
				* is shorter than the header promises */
	Q_VECDOT_BAD_K = 3,    /* k is 0 or above Q_VECDOT_MAX_K */
	Q_VECDOT_BAD_LEN = 4,  /* the message is not dim floats long */
	Q_VECDOT_NO_ROOM = 5,  /* the hits do not fit the result area (result_bytes) */
};

#if !defined(__CUDACC_RTC__)
#ifdef __cplusplus
static_assert(sizeof(VecdotHeader) == 64, "VecdotHeader is frozen");
static_assert(sizeof(VecdotHit) == 8, "VecdotHit is frozen");
#else
_Static_assert(sizeof(VecdotHeader) == 64, "VecdotHeader is frozen");
_Static_assert(sizeof(VecdotHit) == 8, "VecdotHit is frozen");
#endif

/* The size of the processor data, bytes. */
static inline size_t vecdot_data_bytes(uint32_t rows, uint32_t dim)
{
	return sizeof(VecdotHeader) + (size_t)rows * dim * sizeof(float);
}
#endif

#endif /* GPUQ_KERNELS_VECDOT_H */
