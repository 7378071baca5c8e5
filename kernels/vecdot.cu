/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vecdot.cu - a processor that finds the rows of a matrix with the largest dot product.
 *
 * vecdot.h says what goes in, what comes out, and in which order a score is summed up.
 *
 * A lone thread (the CPU's consumer, or Q_PER_THREAD) goes through the rows and keeps its hits
 * sorted in the result area. At warp granularity the 32 lanes share every row, and the sorted list
 * lies across their registers. At block granularity each warp takes part of the rows, and the first
 * warp merges the lists. A block must be a multiple of 32 threads.
 */
#define Q_RESULT_ONLY
#include <gpuq/processor.h>

#include "vecdot.h"

#if !defined(__CUDACC__)
#include <string.h>
#endif

enum { SUMS = 32 }; /* a score's partial sums; a GPU's warp size, one a lane */

static Q_DEVICE inline uint32_t bits_of(float value)
{
#if defined(__CUDACC__)
	return __float_as_uint(value);
#else
	uint32_t bits;

	memcpy(&bits, &value, sizeof(bits));
	return bits;
#endif
}

/*
 * A hit as one number that is larger for the better hit: the score's bits, turned so that they
 * sort as unsigned and NaN comes out as 0, above the index, turned over. No hit has the key 0. No
 * score is -0, which would sort below 0: the sums start from 0, and 0 + -0 is 0.
 */
static Q_DEVICE inline uint64_t key_of(float score, uint32_t index)
{
	uint32_t bits = bits_of(score);

	if ((bits & 0x7fffffffu) > 0x7f800000u)
		bits = 0;
	else
		bits = bits >> 31 ? ~bits : bits | 0x80000000u;
	return (uint64_t)bits << 32 | (uint32_t)~index;
}

/* The VecdotHit of a key, as the 8 bytes it is in memory. */
static Q_DEVICE inline uint64_t hit_of(uint64_t key)
{
	const uint32_t turned = (uint32_t)(key >> 32);
	const uint32_t bits = turned == 0    ? 0x7fc00000u
			      : turned >> 31 ? turned & 0x7fffffffu
					     : ~turned;

	return (uint64_t)bits << 32 | (uint32_t) ~(uint32_t)key;
}

static Q_DEVICE uint32_t check(const MsgView &in, const ResultView *out)
{
	const VecdotHeader *header = static_cast<const VecdotHeader *>(in.user);

	if (header == nullptr)
		return Q_VECDOT_NO_DATA;
	if (in.user_bytes < sizeof(*header))
		return Q_VECDOT_BAD_DATA;
	if (header->magic != Q_VECDOT_MAGIC || header->version != Q_VECDOT_VERSION ||
	    header->dim == 0)
		return Q_VECDOT_BAD_DATA;
	for (uint32_t i = 0; i < sizeof(header->reserved) / sizeof(header->reserved[0]); i++)
		if (header->reserved[i] != 0)
			return Q_VECDOT_BAD_DATA;
	if (header->k == 0 || header->k > Q_VECDOT_MAX_K)
		return Q_VECDOT_BAD_K;
	if (in.len != (uint64_t)header->dim * sizeof(float))
		return Q_VECDOT_BAD_LEN;
	/* In floats: their number fits 64 bits, their size may not. */
	if ((uint64_t)header->rows * header->dim >
	    (in.user_bytes - sizeof(*header)) / sizeof(float))
		return Q_VECDOT_BAD_DATA;

	const uint32_t hits = header->k < header->rows ? header->k : header->rows;

	if (out->cap < hits * sizeof(VecdotHit))
		return Q_VECDOT_NO_ROOM;
	return Q_VECDOT_OK;
}

#if defined(__CUDACC__) && defined(Q_GRANULARITY) && Q_GRANULARITY > 0

#define ALL_LANES 0xffffffffu

enum { ROWS_AT_ONCE = 4 }; /* so that more loads are under way */

/* 64 keys over a warp, in descending order: entry p is in lane p % 32, in `low` if p < 32. */
struct List {
	uint64_t low, high;
	uint64_t worst; /* the k-th, the same in every lane; 0 while there are fewer */
};

static __device__ inline void insert(List *list, uint64_t key, uint32_t lane, uint32_t k)
{
	uint64_t above_low = __shfl_up_sync(ALL_LANES, list->low, 1);
	uint64_t above_high = __shfl_up_sync(ALL_LANES, list->high, 1);
	const uint64_t last_low = __shfl_sync(ALL_LANES, list->low, 31);

	if (lane == 0) {
		above_low = ~(uint64_t)0;
		above_high = last_low;
	}
	/* Better entries stay, the next place takes the key, the rest move down by one. */
	if (list->low < key)
		list->low = above_low > key ? key : above_low;
	if (list->high < key)
		list->high = above_high > key ? key : above_high;
	list->worst = __shfl_sync(ALL_LANES, k <= 32 ? list->low : list->high, (int)(k - 1) % 32);
}

/* The best hits of every warps-th group of rows, from the warp-th on. */
static __device__ List search(const float *query, const VecdotHeader *header, uint32_t lane,
			      uint32_t warp, uint32_t warps)
{
	const float *matrix = reinterpret_cast<const float *>(header + 1);
	const uint32_t rows = header->rows, dim = header->dim, k = header->k;
	List list = { 0, 0, 0 };

	for (uint64_t first = (uint64_t)warp * ROWS_AT_ONCE; first < rows;
	     first += (uint64_t)warps * ROWS_AT_ONCE) {
		const float *row[ROWS_AT_ONCE];
		float sum[ROWS_AT_ONCE];

		/* A group that goes beyond the matrix computes its last row more than once. */
		_Pragma("unroll") for (uint32_t j = 0; j < ROWS_AT_ONCE; j++)
		{
			row[j] = matrix + (first + j < rows ? first + j : rows - 1) * dim;
			sum[j] = 0;
		}
		for (uint32_t i = lane; i < dim; i += SUMS) {
			const float element = query[i];

			_Pragma("unroll") for (uint32_t j = 0; j < ROWS_AT_ONCE; j++) sum[j] =
				__fadd_rn(sum[j], __fmul_rn(element, row[j][i]));
		}
		_Pragma("unroll") for (uint32_t j = 0; j < ROWS_AT_ONCE; j++)
		{
			_Pragma("unroll") for (int width = SUMS / 2; width > 0; width /= 2) sum[j] =
				__fadd_rn(sum[j], __shfl_xor_sync(ALL_LANES, sum[j], width));

			const uint64_t key = key_of(sum[j], (uint32_t)(first + j));

			if (first + j < rows && key > list.worst)
				insert(&list, key, lane, k);
		}
	}
	return list;
}

static __device__ void find_hits(const MsgView &in, uint64_t *hits, uint32_t count)
{
	const VecdotHeader *header = static_cast<const VecdotHeader *>(in.user);
	const float *query = reinterpret_cast<const float *>(in.payload);
	const uint32_t lane = q_rank() % 32, warp = q_rank() / 32, warps = q_size() / 32;
	List list = search(query, header, lane, warp, warps);

#if Q_GRANULARITY == 2
	__shared__ uint64_t of_warp[32][Q_VECDOT_MAX_K];

	of_warp[warp][lane] = list.low;
	of_warp[warp][lane + 32] = list.high;
	q_sync();
	if (warp == 0) {
		for (uint32_t other = 1; other < warps; other++)
			for (uint32_t i = 0; i < header->k && of_warp[other][i] > list.worst; i++)
				insert(&list, of_warp[other][i], lane, header->k);
	}
	q_sync(); /* of_warp belongs to the next message now */
	if (warp != 0)
		return;
#endif
	if (lane < count)
		hits[lane] = hit_of(list.low);
	if (lane + 32 < count)
		hits[lane + 32] = hit_of(list.high);
}

#else /* a lone thread */

#if defined(__CUDACC__)
#define MULTIPLY_ADD(sum, a, b) __fadd_rn((sum), __fmul_rn((a), (b)))
#define ROUNDED_SUMS
#elif defined(__clang__)
#pragma clang fp contract(off)
#define MULTIPLY_ADD(sum, a, b) ((sum) + (a) * (b))
#define ROUNDED_SUMS
#else
#define MULTIPLY_ADD(sum, a, b) ((sum) + (a) * (b))
#define ROUNDED_SUMS            __attribute__((optimize("O3", "fp-contract=off")))
#endif

ROUNDED_SUMS static Q_DEVICE float dot(const float *a, const float *b, uint32_t dim)
{
	float sum[SUMS] = { 0 };
	uint32_t i = 0;

	for (; dim - i >= SUMS; i += SUMS)
		for (uint32_t j = 0; j < SUMS; j++)
			sum[j] = MULTIPLY_ADD(sum[j], a[i + j], b[i + j]);
	for (uint32_t j = 0; j < SUMS; j++)
		if (i + j < dim)
			sum[j] = MULTIPLY_ADD(sum[j], a[i + j], b[i + j]);
	for (uint32_t width = SUMS / 2; width > 0; width /= 2)
		for (uint32_t j = 0; j < width; j++)
			sum[j] += sum[j + width];
	return sum[0];
}

static Q_DEVICE void find_hits(const MsgView &in, uint64_t *hits, uint32_t count)
{
	const VecdotHeader *header = static_cast<const VecdotHeader *>(in.user);
	const float *matrix = reinterpret_cast<const float *>(header + 1);
	const float *query = reinterpret_cast<const float *>(in.payload);
	uint32_t found = 0; /* keys in hits, in descending order */

	for (uint32_t row = 0; row < header->rows; row++) {
		const float score = dot(query, matrix + (uint64_t)row * header->dim, header->dim);
		const uint64_t key = key_of(score, row);
		uint32_t place;

		if (found < count)
			place = found++;
		else if (key > hits[count - 1])
			place = count - 1;
		else
			continue;
		for (; place > 0 && hits[place - 1] < key; place--)
			hits[place] = hits[place - 1];
		hits[place] = key;
	}
	for (uint32_t i = 0; i < count; i++)
		hits[i] = hit_of(hits[i]);
}

#endif

__device__ void process_message(const MsgView &in, ResultView *out)
{
	const uint32_t status = check(in, out);
	uint32_t count = 0;

	if (status == Q_VECDOT_OK) {
		const VecdotHeader *header = static_cast<const VecdotHeader *>(in.user);

		count = header->k < header->rows ? header->k : header->rows;
		find_hits(in, reinterpret_cast<uint64_t *>(out->out), count);
	}
	if (q_rank() == 0) {
		*out->out_len = count * (uint32_t)sizeof(VecdotHit);
		*out->status = status;
	}
}
