/* SPDX-License-Identifier: Apache-2.0 */
/* test_crc32c.c - the crc32c kernel against RFC 3720 and against one bit at a time. */
#include "runner.h"

UNITS_OF(crc32c);

static _Alignas(16) uint8_t bytes[70000];

static void fill_bytes(void)
{
	uint32_t x = 2463534242u;

	for (uint32_t i = 0; i < sizeof(bytes); i++) {
		x ^= x << 13;
		x ^= x >> 17;
		x ^= x << 5;
		bytes[i] = (uint8_t)x;
	}
}

static uint32_t crc32c_by_bits(const uint8_t *data, uint32_t len)
{
	uint32_t crc = 0xffffffffu;

	for (uint32_t i = 0; i < len; i++) {
		crc ^= data[i];
		for (int bit = 0; bit < 8; bit++)
			crc = crc & 1 ? crc >> 1 ^ 0x82f63b78u : crc >> 1;
	}
	return ~crc;
}

static void expect_crc(const struct unit *unit, const void *data, uint32_t len, uint32_t crc)
{
	struct answer answer = ask(unit, data, len, NULL, 16);
	const uint8_t little[4] = { (uint8_t)crc, (uint8_t)(crc >> 8), (uint8_t)(crc >> 16),
				    (uint8_t)(crc >> 24) };

	assert_int_equal(answer.status, 0);
	assert_int_equal(answer.len, 4);
	assert_memory_equal(answer.out, little, 4);
	assert_canary_lives(answer.out + 4, answer.cap - 4);
	answer_free(&answer);
}

static void crc32c_of_the_check_string_is_e3069283(void **state)
{
	expect_crc(*state, "123456789", 9, 0xe3069283u);
}

static void crc32c_of_nothing_is_zero(void **state)
{
	expect_crc(*state, NULL, 0, 0);
}

static void crc32c_of_rfc3720_vectors_matches(void **state)
{
	static const uint8_t scsi_read[48] = {
		0x01, 0xc0, [16] = 0x14, [22] = 0x04, [27] = 0x14, [31] = 0x18, 0x28, [40] = 0x02,
	};
	uint8_t data[32];

	memset(data, 0, sizeof(data));
	expect_crc(*state, data, 32, 0x8a9136aau);
	memset(data, 0xff, sizeof(data));
	expect_crc(*state, data, 32, 0x62a8ab43u);
	for (uint8_t i = 0; i < 32; i++)
		data[i] = i;
	expect_crc(*state, data, 32, 0x46dd794eu);
	for (uint8_t i = 0; i < 32; i++)
		data[i] = (uint8_t)(31 - i);
	expect_crc(*state, data, 32, 0x113fdb5cu);
	expect_crc(*state, scsi_read, sizeof(scsi_read), 0xd9963a56u);
}

static void crc32c_of_every_length_matches_one_bit_at_a_time(void **state)
{
	const struct unit *unit = *state;

	for (uint32_t len = 0; len <= 600; len += unit->slow ? 13 : 1)
		expect_crc(unit, bytes, len, crc32c_by_bits(bytes, len));
}

static void crc32c_of_long_messages_matches_one_bit_at_a_time(void **state)
{
	/* Around the places where a GPU's unit changes the size of its shares. */
	static const uint32_t lens[] = { 2047,  2048,  2049,  2064,  4095,  4096,  4097,
					 6144,  6160,  8192,  8208,  12288, 12304, 16385,
					 24575, 24592, 65535, 65536, 65552, 70000 };

	for (size_t i = 0; i < sizeof(lens) / sizeof(lens[0]); i++)
		expect_crc(*state, bytes, lens[i], crc32c_by_bits(bytes, lens[i]));
}

static void crc32c_with_exact_room_succeeds(void **state)
{
	struct answer answer = ask(*state, "123456789", 9, NULL, 4);

	assert_int_equal(answer.status, 0);
	assert_int_equal(answer.len, 4);
	answer_free(&answer);
}

static void crc32c_without_room_fails_and_writes_nothing(void **state)
{
	for (uint32_t cap = 0; cap < 4; cap++) {
		struct answer answer = ask(*state, "123456789", 9, NULL, cap);

		assert_int_equal(answer.status, 1);
		assert_int_equal(answer.len, 0);
		assert_canary_lives(answer.out, cap);
		answer_free(&answer);
	}
}

static void crc32c_of_messages_back_to_back_is_each_ones_own(void **state)
{
	enum { COUNT = 12 };
	const struct unit *unit = *state;
	struct answer answer[COUNT];
	MsgView in[COUNT];
	ResultView out[COUNT];

	for (uint32_t i = 0; i < COUNT; i++) {
		/* 16-byte aligned starts, lengths that use one warp's share and many. */
		in[i] = (MsgView){
			bytes + 32 * i, i % 3 == 0 ? 9 : 5000 * i + 1, i, 0, 0, NULL, 0
		};
		out[i] = result_view(&answer[i], 4);
	}
	assert_true(unit->run(in, out, COUNT));
	for (uint32_t i = 0; i < COUNT; i++) {
		const uint32_t crc = crc32c_by_bits(in[i].payload, in[i].len);
		uint32_t got;

		memcpy(&got, answer[i].out, sizeof(got));
		assert_int_equal(answer[i].status, 0);
		assert_int_equal(got, crc);
		answer_free(&answer[i]);
	}
}

static void crc32c_in_pieces_is_the_crc_of_the_whole(void **state)
{
	static const uint32_t cuts[][3] = { { 0, 0, 0 },
					    { 1, 2, 3 },
					    { 64, 65, 4096 },
					    { 5000, 5000, 40001 },
					    { 70000, 70000, 70000 } };

	for (size_t i = 0; i < sizeof(cuts) / sizeof(cuts[0]); i++) {
		struct answer answer = ask_in_pieces(*state, bytes, sizeof(bytes), cuts[i], 3,
						     CRC32C_STATE_BYTES, 4);
		const uint32_t crc = crc32c_by_bits(bytes, sizeof(bytes));
		uint32_t got;

		assert_int_equal(answer.status, 0);
		assert_int_equal(answer.len, 4);
		memcpy(&got, answer.out, sizeof(got));
		assert_int_equal(got, crc);
		answer_free(&answer);
	}
}

static void crc32c_refuses_pieces_that_cannot_be(void **state)
{
	static const struct {
		uint32_t opcode, len, cap, status;
	} cases[] = {
		{ PIECE_LAST, CRC32C_STATE_BYTES - 1, 64, 2 },
		{ PIECE_MIDDLE, 0, 64, 2 },
		{ PIECE_FIRST, 9, CRC32C_STATE_BYTES - 1, 1 },
		{ PIECE_LAST, CRC32C_STATE_BYTES, 3, 1 },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct answer answer = ask_opcode(*state, cases[i].opcode, bytes, cases[i].len,
						  NULL, cases[i].cap);

		assert_int_equal(answer.status, cases[i].status);
		assert_int_equal(answer.len, 0);
		assert_canary_lives(answer.out, cases[i].cap);
		answer_free(&answer);
	}
}

static void crc32c_paths_agree_at_every_length(void **state)
{
	(void)state;
	for (uint32_t len = 0; len <= 600; len++) {
		const MsgView in = { bytes, len, 1, 0, 0, NULL, 0 };
		const uint32_t want = crc32c_by_bits(bytes, len);
		uint32_t got = 0;

		assert_int_equal(crc32c_path_portable(&in), want);
		if (crc32c_path_sse42(&in, &got))
			assert_int_equal(got, want);
	}
}

static void crc32c_instruction_is_there(void **state)
{
	const MsgView in = { bytes, 9, 1, 0, 0, NULL, 0 };
	uint32_t crc;

	(void)state;
	if (!crc32c_path_sse42(&in, &crc)) {
		print_message("skipped: this CPU has no SSE4.2\n");
		skip();
	}
	assert_int_equal(crc, crc32c_by_bits(bytes, 9));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		ON_EACH_UNIT(crc32c_of_the_check_string_is_e3069283),
		ON_EACH_UNIT(crc32c_of_nothing_is_zero),
		ON_EACH_UNIT(crc32c_of_rfc3720_vectors_matches),
		ON_EACH_UNIT(crc32c_of_every_length_matches_one_bit_at_a_time),
		ON_EACH_UNIT(crc32c_of_long_messages_matches_one_bit_at_a_time),
		ON_EACH_UNIT(crc32c_with_exact_room_succeeds),
		ON_EACH_UNIT(crc32c_without_room_fails_and_writes_nothing),
		ON_EACH_UNIT(crc32c_of_messages_back_to_back_is_each_ones_own),
		ON_EACH_UNIT(crc32c_in_pieces_is_the_crc_of_the_whole),
		ON_EACH_UNIT(crc32c_refuses_pieces_that_cannot_be),
		cmocka_unit_test(crc32c_paths_agree_at_every_length),
		cmocka_unit_test(crc32c_instruction_is_there),
	};

	fill_bytes();
	return cmocka_run_group_tests_name("kernels.crc32c", tests, NULL, NULL);
}
