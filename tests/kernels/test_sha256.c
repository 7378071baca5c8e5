/* SPDX-License-Identifier: Apache-2.0 */
/* test_sha256.c - the sha256 kernel against FIPS 180-4 and a second implementation. */
#include "runner.h"

UNITS_OF(sha256);

static _Alignas(16) uint8_t bytes[1000];

static void fill_bytes(void)
{
	for (uint32_t i = 0; i < sizeof(bytes); i++)
		bytes[i] = (uint8_t)(i * 31 + (i >> 8) * 7 + 5);
}

/* ---- the standard, word for word ----------------------------------------------------------- */

static uint32_t rotr(uint32_t x, int n)
{
	return x >> n | x << (32 - n);
}

/*
 * The round constants are the first 32 bits of the fractional parts of the cube roots of the first
 * 64 primes, the initial hash value those of the square roots of the first eight: found here in
 * integers, so that they share nothing with the kernel's table.
 */
static uint32_t fraction_of_root(uint64_t prime, int power)
{
	uint64_t low = 0, high = (uint64_t)1 << 36; /* root * 2^32 is between them */

	while (high - low > 1) {
		const uint64_t middle = low + (high - low) / 2;
		unsigned __int128 left = (unsigned __int128)middle * middle;
		unsigned __int128 right = (unsigned __int128)prime << 64;

		/* middle^3 <= prime * 2^96, as middle^2 <= prime * 2^96 / middle */
		if (power == 3)
			right = middle == 0 ? ~(unsigned __int128)0
					    : ((unsigned __int128)prime << 96) / middle;
		if (left <= right)
			low = middle;
		else
			high = middle;
	}
	return (uint32_t)low;
}

static uint32_t k[64], initial[8];

static void make_constants(void)
{
	uint64_t prime = 2;

	for (int i = 0; i < 64; prime++) {
		bool is_prime = true;

		for (uint64_t d = 2; d * d <= prime; d++)
			is_prime = is_prime && prime % d != 0;
		if (!is_prime)
			continue;
		if (i < 8)
			initial[i] = fraction_of_root(prime, 2);
		k[i++] = fraction_of_root(prime, 3);
	}
}

/* `before` bytes, whole blocks, have led to `hash` already; it becomes the final one. */
static void finish_by_the_standard(uint32_t hash[8], uint64_t before, const uint8_t *data,
				   uint32_t len, uint8_t digest[32])
{
	const size_t blocks = ((size_t)len + 1 + 8 + 63) / 64;
	uint8_t *padded = calloc(blocks, 64);

	assert_non_null(padded);
	if (len > 0)
		memcpy(padded, data, len);
	padded[len] = 0x80;
	for (size_t i = 0; i < 8; i++)
		padded[blocks * 64 - 1 - i] = (uint8_t)((before + len) * 8 >> 8 * i);

	for (size_t block = 0; block < blocks; block++) {
		const uint8_t *m = padded + block * 64;
		uint32_t w[64], v[8];

		for (int t = 0; t < 16; t++)
			w[t] = (uint32_t)m[4 * t] << 24 | (uint32_t)m[4 * t + 1] << 16 |
			       (uint32_t)m[4 * t + 2] << 8 | m[4 * t + 3];
		for (int t = 16; t < 64; t++)
			w[t] = (rotr(w[t - 2], 17) ^ rotr(w[t - 2], 19) ^ w[t - 2] >> 10) +
			       w[t - 7] +
			       (rotr(w[t - 15], 7) ^ rotr(w[t - 15], 18) ^ w[t - 15] >> 3) +
			       w[t - 16];
		memcpy(v, hash, sizeof(v));
		for (int t = 0; t < 64; t++) {
			const uint32_t t1 = v[7] +
					    (rotr(v[4], 6) ^ rotr(v[4], 11) ^ rotr(v[4], 25)) +
					    ((v[4] & v[5]) ^ (~v[4] & v[6])) + k[t] + w[t];
			const uint32_t t2 = (rotr(v[0], 2) ^ rotr(v[0], 13) ^ rotr(v[0], 22)) +
					    ((v[0] & v[1]) ^ (v[0] & v[2]) ^ (v[1] & v[2]));

			memmove(v + 1, v, 7 * sizeof(v[0]));
			v[4] += t1;
			v[0] = t1 + t2;
		}
		for (int i = 0; i < 8; i++)
			hash[i] += v[i];
	}
	for (int i = 0; i < 32; i++)
		digest[i] = (uint8_t)(hash[i / 4] >> (24 - 8 * (i % 4)));
	free(padded);
}

static void sha256_by_the_standard(const uint8_t *data, uint32_t len, uint8_t digest[32])
{
	uint32_t hash[8];

	memcpy(hash, initial, sizeof(hash));
	finish_by_the_standard(hash, 0, data, len, digest);
}

/* ---- helpers ------------------------------------------------------------------------------- */

static void digest_from_hex(const char *hex, uint8_t digest[32])
{
	for (int i = 0; i < 32; i++) {
		const char pair[3] = { hex[2 * i], hex[2 * i + 1], 0 };

		digest[i] = (uint8_t)strtoul(pair, NULL, 16);
	}
}

static void expect_digest(const struct unit *unit, const void *data, uint32_t len,
			  const uint8_t digest[32])
{
	struct answer answer = ask(unit, data, len, NULL, 48);

	assert_int_equal(answer.status, 0);
	assert_int_equal(answer.len, 32);
	assert_memory_equal(answer.out, digest, 32);
	assert_canary_lives(answer.out + 32, answer.cap - 32);
	answer_free(&answer);
}

static void expect_hex(const struct unit *unit, const void *data, uint32_t len, const char *hex)
{
	uint8_t digest[32];

	digest_from_hex(hex, digest);
	expect_digest(unit, data, len, digest);
}

static MsgView view_of(const void *data, uint32_t len)
{
	const MsgView in = { data, len, 1, 0, 0, NULL, 0 };

	return in;
}

/* ---- tests --------------------------------------------------------------------------------- */

static void sha256_of_nothing_matches_fips(void **state)
{
	expect_hex(*state, NULL, 0,
		   "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
}

static void sha256_of_abc_matches_fips(void **state)
{
	expect_hex(*state, "abc", 3,
		   "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

static void sha256_of_448_bits_matches_fips(void **state)
{
	expect_hex(*state, "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", 56,
		   "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
}

static void sha256_of_896_bits_matches_fips(void **state)
{
	expect_hex(*state,
		   "abcdefghbcdefghicdefghijdefghijkefghijklfghijklmghijklmn"
		   "hijklmnoijklmnopjklmnopqklmnopqrlmnopqrsmnopqrstnopqrstu",
		   112, "cf5b16a778af8380036ce59e7b0492370b249b11e8f07a51afac45037afee9d1");
}

static void sha256_of_a_million_a_matches_fips(void **state)
{
	char *data = malloc(1000000);

	assert_non_null(data);
	memset(data, 'a', 1000000);
	expect_hex(*state, data, 1000000,
		   "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
	free(data);
}

static void sha256_of_one_and_four_bytes_matches_nist(void **state)
{
	expect_hex(*state, "\xbd", 1,
		   "68325720aabd7c82f30f554b313d0570c95accbb7dc4b5aae11204c08ffe732b");
	expect_hex(*state, "\xc9\x8c\x8e\x55", 4,
		   "7abc22c0ae5af26ce93dbb94433a0e0b2e119d014f8e7f65bd56c61ccccd9504");
}

static void sha256_of_zeros_around_a_block_matches_nist(void **state)
{
	static const uint8_t zeros[64];

	expect_hex(*state, zeros, 55,
		   "02779466cdec163811d078815c633f21901413081449002f24aa3e80f0b88ef7");
	expect_hex(*state, zeros, 56,
		   "d4817aa5497628e7c77e6b606107042bbba3130888c5f47a375e6179be789fbb");
	expect_hex(*state, zeros, 57,
		   "65a16cb7861335d5ace3c60718b5052e44660726da4cd13bb745381b235a1785");
	expect_hex(*state, zeros, 64,
		   "f5a5fd42d16a20302798ef6ed309979b43003d2320d9f0e8ea9831a92759fb4b");
}

static void sha256_of_every_length_matches_the_standard(void **state)
{
	const struct unit *unit = *state;

	for (uint32_t len = 0; len <= 300; len += unit->slow ? 11 : 1) {
		uint8_t digest[32];

		sha256_by_the_standard(bytes, len, digest);
		expect_digest(unit, bytes, len, digest);
	}
}

static void sha256_with_exact_room_succeeds(void **state)
{
	struct answer answer = ask(*state, "abc", 3, NULL, 32);

	assert_int_equal(answer.status, 0);
	assert_int_equal(answer.len, 32);
	answer_free(&answer);
}

static void sha256_without_room_fails_and_writes_nothing(void **state)
{
	static const uint32_t caps[] = { 0, 1, 31 };

	for (size_t i = 0; i < sizeof(caps) / sizeof(caps[0]); i++) {
		struct answer answer = ask(*state, "abc", 3, NULL, caps[i]);

		assert_int_equal(answer.status, 1);
		assert_int_equal(answer.len, 0);
		assert_canary_lives(answer.out, caps[i]);
		answer_free(&answer);
	}
}

/* What Python's hashlib makes of the 301 digests, one after the other. */
static void sha256_by_the_standard_matches_hashlib(void **state)
{
	uint8_t all[301 * 32], got[32], want[32];

	(void)state;
	for (uint32_t len = 0; len <= 300; len++)
		sha256_by_the_standard(bytes, len, all + 32 * len);
	sha256_by_the_standard(all, sizeof(all), got);
	digest_from_hex("b3ba9daa4337a83cf03d401adb3051b0cc29e95d371b1aef9632a559fe111adb", want);
	assert_memory_equal(got, want, 32);
}

static void sha256_paths_agree_at_every_length(void **state)
{
	(void)state;
	for (uint32_t len = 0; len <= sizeof(bytes); len++) {
		const MsgView in = view_of(bytes, len);
		uint8_t want[32], got[32];

		sha256_by_the_standard(bytes, len, want);
		sha256_path_portable(&in, got);
		assert_memory_equal(got, want, 32);
		if (sha256_path_ni(&in, got))
			assert_memory_equal(got, want, 32);
	}
}

static void sha256_instructions_are_there(void **state)
{
	const MsgView in = view_of(bytes, 100);
	uint8_t want[32], got[32];

	(void)state;
	if (!sha256_path_ni(&in, got)) {
		print_message("skipped: this CPU has no SHA instructions\n");
		skip();
	}
	sha256_by_the_standard(bytes, 100, want);
	assert_memory_equal(got, want, 32);
}

/* ---- in pieces ----------------------------------------------------------------------------- */

static void expect_pieces(const struct unit *unit, uint32_t len, const uint32_t *cuts, size_t count)
{
	uint8_t digest[32];
	struct answer answer = ask_in_pieces(unit, bytes, len, cuts, count, SHA256_STATE_BYTES, 32);

	sha256_by_the_standard(bytes, len, digest);
	assert_int_equal(answer.status, 0);
	assert_int_equal(answer.len, 32);
	assert_memory_equal(answer.out, digest, 32);
	answer_free(&answer);
}

static void sha256_in_pieces_is_the_digest_of_the_whole(void **state)
{
	static const uint32_t none[] = { 0, 0 }, even[] = { 64, 128, 192 }, uneven[] = { 320, 384 };

	expect_pieces(*state, 0, none, 1); /* nothing, in two pieces of nothing */
	expect_pieces(*state, 0, none, 2);
	expect_pieces(*state, 1, none, 2);
	expect_pieces(*state, 64, even, 1); /* the last piece is empty */
	expect_pieces(*state, 192, even, 3);
	expect_pieces(*state, 193, even, 3);
	expect_pieces(*state, 247, even, 3); /* the padding fits into one block, */
	expect_pieces(*state, 248, even, 3); /* and does not */
	expect_pieces(*state, 1000, uneven, 2);
}

/* The count of bytes goes beyond 32 bits: 2^32 and 2^61 - 64 bytes are said to lie behind us. */
static void sha256_counts_the_bytes_of_all_pieces_in_64_bits(void **state)
{
	static const uint64_t befores[] = { 64, (uint64_t)1 << 32, ((uint64_t)1 << 61) - 64 };

	for (size_t i = 0; i < sizeof(befores) / sizeof(befores[0]); i++) {
		_Alignas(16) uint8_t payload[SHA256_STATE_BYTES + 10] = { 0 };
		uint8_t digest[32];
		uint32_t hash[8];

		for (uint32_t word = 0; word < 8; word++) {
			hash[word] = 0x01234567u * (word + 1);
			for (uint32_t byte = 0; byte < 4; byte++)
				payload[4 * word + byte] = (uint8_t)(hash[word] >> (24 - 8 * byte));
		}
		for (uint32_t byte = 0; byte < 8; byte++)
			payload[32 + byte] = (uint8_t)(befores[i] >> (56 - 8 * byte));
		memcpy(payload + SHA256_STATE_BYTES, "0123456789", 10);
		finish_by_the_standard(hash, befores[i], (const uint8_t *)"0123456789", 10, digest);

		struct answer answer =
			ask_opcode(*state, PIECE_LAST, payload, sizeof(payload), NULL, 32);

		assert_int_equal(answer.status, 0);
		assert_memory_equal(answer.out, digest, 32);
		answer_free(&answer);
	}
}

static void expect_refused(const struct unit *unit, uint32_t opcode, uint32_t len, uint32_t cap,
			   uint32_t status)
{
	struct answer answer = ask_opcode(unit, opcode, bytes, len, NULL, cap);

	assert_int_equal(answer.status, status);
	assert_int_equal(answer.len, 0);
	assert_canary_lives(answer.out, cap);
	answer_free(&answer);
}

static void sha256_refuses_pieces_that_cannot_be(void **state)
{
	expect_refused(*state, PIECE_LAST, SHA256_STATE_BYTES - 1, 64, 2);
	expect_refused(*state, PIECE_MIDDLE, 0, 64, 2);
	expect_refused(*state, PIECE_FIRST, 63, 64, 2);
	expect_refused(*state, PIECE_MIDDLE, SHA256_STATE_BYTES + 65, 64, 2);
	expect_refused(*state, PIECE_FIRST, 64, SHA256_STATE_BYTES - 1, 1);
	expect_refused(*state, PIECE_LAST, SHA256_STATE_BYTES, 31, 1);
}

static void sha256_takes_other_opcodes_for_whole_messages(void **state)
{
	static const uint32_t opcodes[] = {
		1, 2, 3, PIECE_OPCODES, PIECE_OPCODES - 1, PIECE_MIDDLE + 1, UINT32_MAX
	};
	uint8_t digest[32];

	sha256_by_the_standard(bytes, 100, digest);
	for (size_t i = 0; i < sizeof(opcodes) / sizeof(opcodes[0]); i++) {
		struct answer answer = ask_opcode(*state, opcodes[i], bytes, 100, NULL, 32);

		assert_int_equal(answer.status, 0);
		assert_memory_equal(answer.out, digest, 32);
		answer_free(&answer);
	}
}

static void sha256_paths_agree_in_two_pieces(void **state)
{
	(void)state;
	for (uint32_t len = 0; len <= 400; len++) {
		const MsgView in = view_of(bytes, len);

		for (uint32_t cut = 0; cut <= len; cut += SHA256_PIECE_MULTIPLE) {
			uint8_t want[32], got[32];

			sha256_by_the_standard(bytes, len, want);
			sha256_path_portable_in_two(&in, cut, got);
			assert_memory_equal(got, want, 32);
			if (sha256_path_ni_in_two(&in, cut, got))
				assert_memory_equal(got, want, 32);
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		ON_EACH_UNIT(sha256_of_nothing_matches_fips),
		ON_EACH_UNIT(sha256_of_abc_matches_fips),
		ON_EACH_UNIT(sha256_of_448_bits_matches_fips),
		ON_EACH_UNIT(sha256_of_896_bits_matches_fips),
		ON_EACH_UNIT(sha256_of_a_million_a_matches_fips),
		ON_EACH_UNIT(sha256_of_one_and_four_bytes_matches_nist),
		ON_EACH_UNIT(sha256_of_zeros_around_a_block_matches_nist),
		ON_EACH_UNIT(sha256_of_every_length_matches_the_standard),
		ON_EACH_UNIT(sha256_with_exact_room_succeeds),
		ON_EACH_UNIT(sha256_without_room_fails_and_writes_nothing),
		ON_EACH_UNIT(sha256_in_pieces_is_the_digest_of_the_whole),
		ON_EACH_UNIT(sha256_counts_the_bytes_of_all_pieces_in_64_bits),
		ON_EACH_UNIT(sha256_refuses_pieces_that_cannot_be),
		ON_EACH_UNIT(sha256_takes_other_opcodes_for_whole_messages),
		cmocka_unit_test(sha256_paths_agree_in_two_pieces),
		cmocka_unit_test(sha256_by_the_standard_matches_hashlib),
		cmocka_unit_test(sha256_paths_agree_at_every_length),
		cmocka_unit_test(sha256_instructions_are_there),
	};

	fill_bytes();
	make_constants();
	return cmocka_run_group_tests_name("kernels.sha256", tests, NULL, NULL);
}
