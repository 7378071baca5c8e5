/* SPDX-License-Identifier: Apache-2.0 */
/* test_vecdot.c - the vecdot kernel against a search that is written out in full. */
#include "runner.h"

#include "vecdot.h"

#include <math.h>

UNITS_OF(vecdot);

/* ---- data and the reference ----------------------------------------------------------------- */

static uint32_t seed = 1;

static float random_float(void)
{
	seed ^= seed << 13;
	seed ^= seed >> 17;
	seed ^= seed << 5;
	return (float)((int32_t)seed >> 8) / 8388608.0f; /* -1 to 1, exact */
}

/* processor_data in memory of exactly its size; the floats are zero. */
static size_t data_bytes; /* of the last new_data() */

static VecdotHeader *new_data(uint32_t rows, uint32_t dim, uint32_t hits)
{
	const size_t bytes = vecdot_data_bytes(rows, dim);
	VecdotHeader *data = aligned_bytes(bytes);

	memset(data, 0, bytes);
	data_bytes = bytes;
	data->magic = Q_VECDOT_MAGIC;
	data->version = Q_VECDOT_VERSION;
	data->rows = rows;
	data->dim = dim;
	data->k = hits;
	return data;
}

static float *row_of(VecdotHeader *data, uint32_t row)
{
	return (float *)(data + 1) + (size_t)row * data->dim;
}

/* The sum in the order that vecdot.h promises; volatile, so that nothing is fused or reordered. */
static float score_as_promised(const float *a, const float *b, uint32_t dim)
{
	volatile float sum[32] = { 0 };

	for (uint32_t i = 0; i < dim; i++) {
		volatile float product = a[i] * b[i];

		sum[i % 32] = sum[i % 32] + product;
	}
	for (uint32_t width = 16; width > 0; width /= 2)
		for (uint32_t j = 0; j < width; j++)
			sum[j] = sum[j] + sum[j + width];
	return sum[0];
}

static double score_in_double(const float *a, const float *b, uint32_t dim, double *magnitude)
{
	double sum = 0;

	*magnitude = 0;
	for (uint32_t i = 0; i < dim; i++) {
		sum += (double)a[i] * (double)b[i];
		*magnitude += fabs((double)a[i] * (double)b[i]);
	}
	return sum;
}

static bool is_better(VecdotHit a, VecdotHit b)
{
	if (isnan(a.score) || isnan(b.score)) {
		if (isnan(a.score) && isnan(b.score))
			return a.index < b.index;
		return isnan(b.score);
	}
	return a.score != b.score ? a.score > b.score : a.index < b.index;
}

/* All rows, sorted by insertion; the caller frees them. */
static VecdotHit *all_hits(VecdotHeader *data, const float *query)
{
	VecdotHit *hits = calloc(data->rows + 1, sizeof(*hits));

	assert_non_null(hits);
	for (uint32_t row = 0; row < data->rows; row++) {
		VecdotHit hit = { row, score_as_promised(query, row_of(data, row), data->dim) };
		uint32_t place = row;

		for (; place > 0 && is_better(hit, hits[place - 1]); place--)
			hits[place] = hits[place - 1];
		hits[place] = hit;
	}
	return hits;
}

static struct answer search(const struct unit *unit, const VecdotHeader *data, const float *query,
			    uint32_t cap)
{
	return ask_with(unit, 0, query, data->dim * (uint32_t)sizeof(float), data, data_bytes, cap);
}

/* Everything matches the reference: indices, order, and each score to the bit. */
static void expect_reference_hits(const struct unit *unit, VecdotHeader *data, const float *query)
{
	const uint32_t count = data->k < data->rows ? data->k : data->rows;
	VecdotHit *want = all_hits(data, query);
	struct answer answer = search(unit, data, query, 8 * Q_VECDOT_MAX_K);

	assert_int_equal(answer.status, Q_VECDOT_OK);
	assert_int_equal(answer.len, count * sizeof(VecdotHit));
	for (uint32_t i = 0; i < count; i++) {
		VecdotHit got;

		memcpy(&got, answer.out + i * sizeof(got), sizeof(got));
		assert_int_equal(got.index, want[i].index);
		if (isnan(want[i].score))
			assert_true(isnan(got.score));
		else
			assert_true(got.score == want[i].score);
	}
	assert_canary_lives(answer.out + answer.len, answer.cap - answer.len);
	answer_free(&answer);
	free(want);
}

static void expect_status(const struct unit *unit, const VecdotHeader *data, uint32_t len,
			  uint32_t cap, uint32_t status)
{
	static const float query[256];
	struct answer answer =
		ask_with(unit, 0, query, len, data, data != NULL ? data_bytes : 0, cap);

	assert_int_equal(answer.status, status);
	assert_int_equal(answer.len, 0);
	assert_canary_lives(answer.out, cap);
	answer_free(&answer);
}

/* ---- what it finds -------------------------------------------------------------------------- */

static void random_case(const struct unit *unit, uint32_t rows, uint32_t dim, uint32_t hits)
{
	VecdotHeader *data = new_data(rows, dim, hits);
	float *query = calloc(dim, sizeof(*query));

	assert_non_null(query);
	for (uint32_t i = 0; i < dim; i++)
		query[i] = random_float();
	for (size_t i = 0; i < (size_t)rows * dim; i++)
		row_of(data, 0)[i] = random_float();
	expect_reference_hits(unit, data, query);
	free(query);
	free(data);
}

static void vecdot_hits_match_the_promised_order_of_sums_to_the_bit(void **state)
{
	const struct unit *unit = *state;
	static const uint32_t dims[] = { 1, 2, 3, 15, 16, 17, 31, 32, 33, 63, 64, 65, 100, 256 };
	static const uint32_t counts[] = { 1, 2, 31, 32, 33, 64 };

	for (size_t i = 0; i < sizeof(dims) / sizeof(dims[0]); i++)
		random_case(unit, unit->slow ? 13 : 211, dims[i], 5);
	for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++)
		random_case(unit, 70, 24, counts[i]);
}

static void vecdot_rows_not_a_multiple_of_anything_are_all_seen(void **state)
{
	const struct unit *unit = *state;

	for (uint32_t rows = 1; rows <= 20; rows += unit->slow ? 3 : 1)
		random_case(unit, rows, 5, 64);
}

static void vecdot_scores_are_near_those_in_double_precision(void **state)
{
	enum { ROWS = 50, DIM = 301 };
	VecdotHeader *data = new_data(ROWS, DIM, ROWS);
	float query[DIM];
	struct answer answer;
	double last = INFINITY;

	for (uint32_t i = 0; i < DIM; i++)
		query[i] = random_float();
	for (size_t i = 0; i < ROWS * DIM; i++)
		row_of(data, 0)[i] = random_float();
	answer = search(*state, data, query, 8 * ROWS);
	assert_int_equal(answer.len, 8 * ROWS);
	for (uint32_t i = 0; i < ROWS; i++) {
		VecdotHit hit;
		double magnitude, exact;

		memcpy(&hit, answer.out + 8 * i, 8);
		assert_true(hit.index < ROWS);
		exact = score_in_double(query, row_of(data, hit.index), DIM, &magnitude);
		/* ceil(301 / 32) additions a sum, 5 to join, 1 product: 16 roundings of 2^-24 */
		assert_true(fabs((double)hit.score - exact) <= 16 * magnitude / 16777216);
		assert_true((double)hit.score <= last);
		last = (double)hit.score;
	}
	answer_free(&answer);
	free(data);
}

static void vecdot_equal_scores_come_by_the_lower_index(void **state)
{
	static const float query[3] = { 1, 2, 3 };
	VecdotHeader *data = new_data(40, 3, 7);

	expect_reference_hits(*state, data, query); /* all zero: rows 0 to 6 */
	for (uint32_t row = 0; row < 40; row++)
		row_of(data, row)[row % 3] = (float)(row / 10);
	expect_reference_hits(*state, data, query);
	data->k = 40;
	expect_reference_hits(*state, data, query);
	free(data);
}

static void vecdot_better_and_better_rows_push_the_others_out(void **state)
{
	static const float query[2] = { 1, 1 };
	VecdotHeader *data = new_data(80, 2, 33);

	for (uint32_t row = 0; row < 80; row++)
		row_of(data, row)[0] = (float)row;
	expect_reference_hits(*state, data, query);
	for (uint32_t row = 0; row < 80; row++)
		row_of(data, row)[0] = -(float)row;
	expect_reference_hits(*state, data, query);
	free(data);
}

static void vecdot_nan_ranks_below_minus_infinity(void **state)
{
	static const float query[1] = { 1 };
	static const uint32_t order[6] = { 3, 1, 4, 2, 0, 5 };
	static const uint32_t bits[6] = { 0x7f800000, 0x3f800000, 0xbf800000,
					  0xff800000, 0x7fc00000, 0x7fc00000 };
	VecdotHeader *data = new_data(6, 1, 6);
	struct answer answer;

	*row_of(data, 0) = NAN;
	*row_of(data, 1) = 1;
	*row_of(data, 2) = -INFINITY;
	*row_of(data, 3) = INFINITY;
	*row_of(data, 4) = -1;
	*row_of(data, 5) = -NAN;
	answer = search(*state, data, query, 48);
	assert_int_equal(answer.status, Q_VECDOT_OK);
	assert_int_equal(answer.len, 48);
	for (uint32_t i = 0; i < 6; i++) {
		uint32_t words[2];

		memcpy(words, answer.out + 8 * i, 8);
		assert_int_equal(words[0], order[i]);
		assert_int_equal(words[1], bits[i]);
	}
	answer_free(&answer);
	free(data);
}

static void vecdot_of_only_nan_gives_the_first_rows(void **state)
{
	static const float query[2] = { NAN, 1 };
	VecdotHeader *data = new_data(9, 2, 4);

	expect_reference_hits(*state, data, query);
	free(data);
}

static void vecdot_products_of_minus_zero_score_zero(void **state)
{
	static const float query[1] = { -1e-30f };
	VecdotHeader *data = new_data(2, 1, 2);
	struct answer answer;

	*row_of(data, 0) = 1e-30f; /* -1e-60 rounds to -0 */
	*row_of(data, 1) = 0;
	answer = search(*state, data, query, 16);
	assert_int_equal(answer.len, 16);
	for (uint32_t i = 0; i < 2; i++) {
		uint32_t words[2];

		memcpy(words, answer.out + 8 * i, 8);
		assert_int_equal(words[0], i);
		assert_int_equal(words[1], 0);
	}
	answer_free(&answer);
	free(data);
}

static void vecdot_k_above_rows_gives_all_rows(void **state)
{
	random_case(*state, 3, 8, 64);
	random_case(*state, 3, 8, 4);
	random_case(*state, 3, 8, 3);
}

static void vecdot_of_no_rows_is_empty(void **state)
{
	static const float query[4];
	VecdotHeader *data = new_data(0, 4, 5);
	struct answer answer = search(*state, data, query, 0);

	assert_int_equal(answer.status, Q_VECDOT_OK);
	assert_int_equal(answer.len, 0);
	answer_free(&answer);
	free(data);
}

static void vecdot_of_queries_back_to_back_is_each_ones_own(void **state)
{
	enum { COUNT = 4, ROWS = 40, DIM = 3 };
	const struct unit *unit = *state;
	VecdotHeader *data = new_data(ROWS, DIM, 10);
	struct answer answer[COUNT];
	MsgView in[COUNT];
	ResultView out[COUNT];
	float *query[COUNT];

	for (size_t i = 0; i < ROWS * DIM; i++)
		row_of(data, 0)[i] = random_float();
	for (uint32_t i = 0; i < COUNT; i++) {
		query[i] = aligned_bytes(DIM * sizeof(float));
		for (uint32_t j = 0; j < DIM; j++)
			query[i][j] = random_float();
		in[i] = (MsgView){ (const uint8_t *)query[i], DIM * 4, i, 0, 0, data, data_bytes };
		out[i] = result_view(&answer[i], 80);
	}
	assert_true(unit->run(in, out, COUNT));
	for (uint32_t i = 0; i < COUNT; i++) {
		VecdotHit *want = all_hits(data, query[i]);

		assert_int_equal(answer[i].status, Q_VECDOT_OK);
		assert_int_equal(answer[i].len, 80);
		for (uint32_t j = 0; j < 10; j++) {
			VecdotHit got;

			memcpy(&got, answer[i].out + 8 * j, 8);
			assert_int_equal(got.index, want[j].index);
		}
		free(want);
		free(query[i]);
		answer_free(&answer[i]);
	}
	free(data);
}

/* ---- what it refuses ------------------------------------------------------------------------ */

static void vecdot_without_data_fails(void **state)
{
	expect_status(*state, NULL, 16, 64, Q_VECDOT_NO_DATA);
}

static void vecdot_with_a_wrong_header_fails(void **state)
{
	VecdotHeader *data = new_data(2, 4, 1);

	data->magic ^= 1;
	expect_status(*state, data, 16, 64, Q_VECDOT_BAD_DATA);
	data->magic ^= 1;
	data->version = 2;
	expect_status(*state, data, 16, 64, Q_VECDOT_BAD_DATA);
	data->version = Q_VECDOT_VERSION;
	data->reserved[10] = 1;
	expect_status(*state, data, 16, 64, Q_VECDOT_BAD_DATA);
	data->reserved[10] = 0;
	data->dim = 0;
	expect_status(*state, data, 0, 64, Q_VECDOT_BAD_DATA);
	free(data);
}

static void vecdot_reads_nothing_beyond_its_data(void **state)
{
	static const uint32_t most[][2] = { { 3, 4 },          { UINT32_MAX, 4 },
					    { 1u << 30, 4 },   { (1u << 30) + 2, 4 },
					    { UINT32_MAX, 1 }, { 1u << 31, 2 } };
	static const float query[4] = { 1 };
	VecdotHeader *data = new_data(2, 4, 1);

	for (size_t i = 0; i < sizeof(most) / sizeof(most[0]); i++) {
		data->rows = most[i][0];
		data->dim = most[i][1];
		expect_status(*state, data, data->dim * 4, 64, Q_VECDOT_BAD_DATA);
	}
	data->rows = 2;
	data->dim = 4;
	for (data_bytes = vecdot_data_bytes(2, 4) - 1; data_bytes > 0; data_bytes--) {
		/* so that a sanitizer sees a read beyond */
		VecdotHeader *cut = aligned_bytes(data_bytes);

		memcpy(cut, data, data_bytes);
		expect_status(*state, cut, 16, 64, Q_VECDOT_BAD_DATA);
		free(cut);
	}
	data_bytes = vecdot_data_bytes(2, 4);
	expect_reference_hits(*state, data, query);
	free(data);
}

static void vecdot_with_k_out_of_range_fails(void **state)
{
	static const uint32_t counts[] = { 0, Q_VECDOT_MAX_K + 1, UINT32_MAX };
	VecdotHeader *data = new_data(2, 4, 1);

	for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
		data->k = counts[i];
		expect_status(*state, data, 16, 1024, Q_VECDOT_BAD_K);
	}
	free(data);
}

static void vecdot_of_a_wrong_length_fails(void **state)
{
	static const uint32_t lens[] = { 0, 1, 4, 15, 17, 20, 32 };
	VecdotHeader *data = new_data(2, 4, 1);

	for (size_t i = 0; i < sizeof(lens) / sizeof(lens[0]); i++)
		expect_status(*state, data, lens[i], 64, Q_VECDOT_BAD_LEN);
	data->dim = (1u << 30) + 4; /* four times that is 16 in 32 bits */
	expect_status(*state, data, 16, 64, Q_VECDOT_BAD_LEN);
	free(data);
}

static void vecdot_without_room_fails_and_with_just_enough_succeeds(void **state)
{
	static const float query[4] = { 1 };
	VecdotHeader *data = new_data(9, 4, 3);
	struct answer answer;

	expect_status(*state, data, 16, 23, Q_VECDOT_NO_ROOM);
	expect_status(*state, data, 16, 0, Q_VECDOT_NO_ROOM);
	answer = search(*state, data, query, 24);
	assert_int_equal(answer.status, Q_VECDOT_OK);
	assert_int_equal(answer.len, 24);
	answer_free(&answer);
	free(data);

	data = new_data(2, 4, 3); /* two rows need room for two */
	answer = search(*state, data, query, 16);
	assert_int_equal(answer.status, Q_VECDOT_OK);
	assert_int_equal(answer.len, 16);
	answer_free(&answer);
	free(data);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		ON_EACH_UNIT(vecdot_hits_match_the_promised_order_of_sums_to_the_bit),
		ON_EACH_UNIT(vecdot_rows_not_a_multiple_of_anything_are_all_seen),
		ON_EACH_UNIT(vecdot_scores_are_near_those_in_double_precision),
		ON_EACH_UNIT(vecdot_equal_scores_come_by_the_lower_index),
		ON_EACH_UNIT(vecdot_better_and_better_rows_push_the_others_out),
		ON_EACH_UNIT(vecdot_nan_ranks_below_minus_infinity),
		ON_EACH_UNIT(vecdot_of_only_nan_gives_the_first_rows),
		ON_EACH_UNIT(vecdot_products_of_minus_zero_score_zero),
		ON_EACH_UNIT(vecdot_k_above_rows_gives_all_rows),
		ON_EACH_UNIT(vecdot_of_no_rows_is_empty),
		ON_EACH_UNIT(vecdot_of_queries_back_to_back_is_each_ones_own),
		ON_EACH_UNIT(vecdot_without_data_fails),
		ON_EACH_UNIT(vecdot_with_a_wrong_header_fails),
		ON_EACH_UNIT(vecdot_reads_nothing_beyond_its_data),
		ON_EACH_UNIT(vecdot_with_k_out_of_range_fails),
		ON_EACH_UNIT(vecdot_of_a_wrong_length_fails),
		ON_EACH_UNIT(vecdot_without_room_fails_and_with_just_enough_succeeds),
	};

	return cmocka_run_group_tests_name("kernels.vecdot", tests, NULL, NULL);
}
