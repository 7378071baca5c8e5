/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sha256.cu - a processor that answers with the SHA-256 (FIPS 180-4) of the message.
 *
 * Result: the 32 bytes of the digest. With less room than that the message ends FAILED, status 1.
 * A message may come in pieces, see pieces.h. The state is 48 bytes: the chaining value as a digest
 * is written, the number of bytes so far (64 bits, big-endian), 8 zero bytes. A piece too short for
 * its state, or one with more to come that is not whole blocks, ends FAILED, status 2.
 *
 * SHA-256 is sequential: on a GPU the thread of rank 0 does all the work, so Q_PER_THREAD is the
 * granularity that fits. On x86-64 the SHA instructions are used where the CPU has them.
 */
#define Q_RESULT_ONLY
#include <gpuq/processor.h>

#include "pieces.h"

#if !defined(__CUDACC__)
#include <string.h>
#if defined(__x86_64__)
#include <cpuid.h>
#include <immintrin.h>
#endif
#endif

#if defined(__CUDACC__)
#define SHA_TABLE  static __constant__ const
#define SHA_UNROLL _Pragma("unroll")
#else
#define SHA_TABLE static const
#define SHA_UNROLL
#endif

enum {
	SHA_DIGEST_BYTES = 32,
	SHA_BLOCK_BYTES = 64,
	SHA_STATUS_NO_ROOM = 1,
	SHA_STATUS_BAD_PIECE = 2,
};

SHA_TABLE uint32_t round_constants[64] = {
	0x428a2f98u, 0x71374491u, 0xb5c0fbcfu, 0xe9b5dba5u, 0x3956c25bu, 0x59f111f1u, 0x923f82a4u,
	0xab1c5ed5u, 0xd807aa98u, 0x12835b01u, 0x243185beu, 0x550c7dc3u, 0x72be5d74u, 0x80deb1feu,
	0x9bdc06a7u, 0xc19bf174u, 0xe49b69c1u, 0xefbe4786u, 0x0fc19dc6u, 0x240ca1ccu, 0x2de92c6fu,
	0x4a7484aau, 0x5cb0a9dcu, 0x76f988dau, 0x983e5152u, 0xa831c66du, 0xb00327c8u, 0xbf597fc7u,
	0xc6e00bf3u, 0xd5a79147u, 0x06ca6351u, 0x14292967u, 0x27b70a85u, 0x2e1b2138u, 0x4d2c6dfcu,
	0x53380d13u, 0x650a7354u, 0x766a0abbu, 0x81c2c92eu, 0x92722c85u, 0xa2bfe8a1u, 0xa81a664bu,
	0xc24b8b70u, 0xc76c51a3u, 0xd192e819u, 0xd6990624u, 0xf40e3585u, 0x106aa070u, 0x19a4c116u,
	0x1e376c08u, 0x2748774cu, 0x34b0bcb5u, 0x391c0cb3u, 0x4ed8aa4au, 0x5b9cca4fu, 0x682e6ff3u,
	0x748f82eeu, 0x78a5636fu, 0x84c87814u, 0x8cc70208u, 0x90befffau, 0xa4506cebu, 0xbef9a3f7u,
	0xc67178f2u,
};

/* What has been hashed so far. */
struct ShaState {
	uint32_t hash[8];
	uint64_t bytes;
};

static Q_DEVICE inline void sha256_begin(ShaState *sha)
{
	sha->hash[0] = 0x6a09e667u;
	sha->hash[1] = 0xbb67ae85u;
	sha->hash[2] = 0x3c6ef372u;
	sha->hash[3] = 0xa54ff53au;
	sha->hash[4] = 0x510e527fu;
	sha->hash[5] = 0x9b05688cu;
	sha->hash[6] = 0x1f83d9abu;
	sha->hash[7] = 0x5be0cd19u;
	sha->bytes = 0;
}

/* from, to: 4-byte aligned. */
static Q_DEVICE inline uint32_t load_be32(const uint8_t *from)
{
#if defined(__CUDACC__)
	return __byte_perm(*reinterpret_cast<const uint32_t *>(from), 0, 0x0123);
#else
	return (uint32_t)from[0] << 24 | (uint32_t)from[1] << 16 | (uint32_t)from[2] << 8 | from[3];
#endif
}

static Q_DEVICE inline void store_be32(uint8_t *to, uint32_t value)
{
#if defined(__CUDACC__)
	*reinterpret_cast<uint32_t *>(to) = __byte_perm(value, 0, 0x0123);
#else
	to[0] = (uint8_t)(value >> 24);
	to[1] = (uint8_t)(value >> 16);
	to[2] = (uint8_t)(value >> 8);
	to[3] = (uint8_t)value;
#endif
}

static Q_DEVICE inline uint32_t rotate_right(uint32_t x, uint32_t n)
{
	return x >> n | x << (32 - n);
}

/* The compression function over one block, its 16 words in w, which is used up. */
static Q_DEVICE inline void sha256_block(uint32_t state[8], uint32_t w[16])
{
	uint32_t a = state[0], b = state[1], c = state[2], d = state[3];
	uint32_t e = state[4], f = state[5], g = state[6], h = state[7];

	SHA_UNROLL
	for (uint32_t i = 0; i < 64; i++) {
		if (i >= 16) {
			const uint32_t x = w[(i + 1) & 15], y = w[(i + 14) & 15];

			w[i & 15] += w[(i + 9) & 15] +
				     (rotate_right(x, 7) ^ rotate_right(x, 18) ^ x >> 3) +
				     (rotate_right(y, 17) ^ rotate_right(y, 19) ^ y >> 10);
		}

		const uint32_t t1 =
			h + (rotate_right(e, 6) ^ rotate_right(e, 11) ^ rotate_right(e, 25)) +
			(g ^ (e & (f ^ g))) + round_constants[i] + w[i & 15];
		const uint32_t t2 =
			(rotate_right(a, 2) ^ rotate_right(a, 13) ^ rotate_right(a, 22)) +
			((a & b) | (c & (a | b)));

		h = g;
		g = f;
		f = e;
		e = d + t1;
		d = c;
		c = b;
		b = a;
		a = t1 + t2;
	}
	state[0] += a;
	state[1] += b;
	state[2] += c;
	state[3] += d;
	state[4] += e;
	state[5] += f;
	state[6] += g;
	state[7] += h;
}

/* The message's word at byte `offset`: message, then the byte 0x80, then zeros. */
static Q_DEVICE inline uint32_t padded_word(const uint8_t *data, uint32_t len, uint32_t offset)
{
	uint32_t word = 0;

	if (offset + 4 <= len)
		return load_be32(data + offset);
	for (uint32_t at = offset; at < offset + 4; at++)
		word = word << 8 | (at < len ? data[at] : at == len ? 0x80u : 0u);
	return word;
}

/*
 * One thread. Moves the state over len bytes, at most Q_MAX_SLOT_BYTES, so that 32-bit offsets do;
 * with `last` over the padding too, else len is a multiple of a block.
 */
static Q_DEVICE void sha256_portable(ShaState *sha, const uint8_t *data, uint32_t len, bool last)
{
	const uint32_t blocks = last ? (len + 8) / SHA_BLOCK_BYTES + 1 : len / SHA_BLOCK_BYTES;

	sha->bytes += len;
	for (uint32_t block = 0; block < blocks; block++) {
		uint32_t w[16];

		SHA_UNROLL
		for (uint32_t i = 0; i < 16; i++)
			w[i] = padded_word(data, len, block * SHA_BLOCK_BYTES + i * 4);
		if (last && block + 1 == blocks) {
			w[14] = (uint32_t)(sha->bytes >> 29);
			w[15] = (uint32_t)(sha->bytes << 3);
		}
		sha256_block(sha->hash, w);
	}
}

#if !defined(__CUDACC__) && defined(__x86_64__)
#define SHA_NI __attribute__((target("sha,sse4.1,ssse3")))

/* Asked once, before main() or in dlopen(): in a virtual machine cpuid takes microseconds. */
static bool ask_for_sha_ni()
{
	unsigned int a, b, c, d;

	if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & bit_SSSE3) || !(c & bit_SSE4_1))
		return false;
	return __get_cpuid_count(7, 0, &a, &b, &c, &d) && (b & (1u << 29));
}

static const bool cpu_has_sha_ni = ask_for_sha_ni();

static inline __m128i load_128(const void *from)
{
	__m128i value;

	memcpy(&value, from, sizeof(value));
	return value;
}

/* The CPU wants the state as two registers, named by their words from the highest down. */
SHA_NI static void sha256_ni_blocks(__m128i *state_abef, __m128i *state_cdgh, const uint8_t *data,
				    uint32_t blocks)
{
	const __m128i big_endian = _mm_set_epi64x(0x0c0d0e0f08090a0b, 0x0405060700010203);
	__m128i abef = *state_abef, cdgh = *state_cdgh;

	for (; blocks > 0; blocks--, data += SHA_BLOCK_BYTES) {
		const __m128i abef_before = abef, cdgh_before = cdgh;
		__m128i w0 = _mm_shuffle_epi8(load_128(data), big_endian);
		__m128i w1 = _mm_shuffle_epi8(load_128(data + 16), big_endian);
		__m128i w2 = _mm_shuffle_epi8(load_128(data + 32), big_endian);
		__m128i w3 = _mm_shuffle_epi8(load_128(data + 48), big_endian);

		/* Four rounds a turn; w0 holds their words, w1 to w3 the twelve after. */
		for (uint32_t i = 0; i < 64; i += 4) {
			const __m128i sum = _mm_add_epi32(w0, load_128(round_constants + i));
			__m128i next = _mm_sha256msg1_epu32(w0, w1);

			cdgh = _mm_sha256rnds2_epu32(cdgh, abef, sum);
			abef = _mm_sha256rnds2_epu32(abef, cdgh, _mm_shuffle_epi32(sum, 0x0e));
			next = _mm_add_epi32(next, _mm_alignr_epi8(w3, w2, 4));
			next = _mm_sha256msg2_epu32(next, w3);
			w0 = w1;
			w1 = w2;
			w2 = w3;
			w3 = next;
		}
		abef = _mm_add_epi32(abef, abef_before);
		cdgh = _mm_add_epi32(cdgh, cdgh_before);
	}
	*state_abef = abef;
	*state_cdgh = cdgh;
}

/* As sha256_portable(). */
SHA_NI static void sha256_ni(ShaState *sha, const uint8_t *data, uint32_t len, bool last)
{
	const uint32_t whole = len / SHA_BLOCK_BYTES;
	const uint32_t rest = len % SHA_BLOCK_BYTES;
	const uint32_t *h = sha->hash;
	__m128i abef = _mm_set_epi32((int)h[0], (int)h[1], (int)h[4], (int)h[5]);
	__m128i cdgh = _mm_set_epi32((int)h[2], (int)h[3], (int)h[6], (int)h[7]);
	uint32_t f_e_b_a[4], h_g_d_c[4];

	sha->bytes += len;
	sha256_ni_blocks(&abef, &cdgh, data, whole);
	if (last) {
		const uint32_t blocks = rest + 1 + 8 <= SHA_BLOCK_BYTES ? 1 : 2;
		uint8_t tail[2 * SHA_BLOCK_BYTES] = { 0 };

		memcpy(tail, data + whole * SHA_BLOCK_BYTES, rest);
		tail[rest] = 0x80;
		store_be32(tail + blocks * SHA_BLOCK_BYTES - 8, (uint32_t)(sha->bytes >> 29));
		store_be32(tail + blocks * SHA_BLOCK_BYTES - 4, (uint32_t)(sha->bytes << 3));
		sha256_ni_blocks(&abef, &cdgh, tail, blocks);
	}
	memcpy(f_e_b_a, &abef, sizeof(abef));
	memcpy(h_g_d_c, &cdgh, sizeof(cdgh));
	sha->hash[0] = f_e_b_a[3];
	sha->hash[1] = f_e_b_a[2];
	sha->hash[2] = h_g_d_c[3];
	sha->hash[3] = h_g_d_c[2];
	sha->hash[4] = f_e_b_a[1];
	sha->hash[5] = f_e_b_a[0];
	sha->hash[6] = h_g_d_c[1];
	sha->hash[7] = h_g_d_c[0];
}
#endif

static Q_DEVICE inline void sha256_update(ShaState *sha, const uint8_t *data, uint32_t len,
					  bool last)
{
#if !defined(__CUDACC__) && defined(__x86_64__)
	if (cpu_has_sha_ni) {
		sha256_ni(sha, data, len, last);
		return;
	}
#endif
	sha256_portable(sha, data, len, last);
}

static Q_DEVICE inline void store_hash(uint8_t *to, const ShaState *sha)
{
	SHA_UNROLL
	for (uint32_t i = 0; i < 8; i++)
		store_be32(to + 4 * i, sha->hash[i]);
}

static Q_DEVICE inline void load_state(ShaState *sha, const uint8_t *from)
{
	SHA_UNROLL
	for (uint32_t i = 0; i < 8; i++)
		sha->hash[i] = load_be32(from + 4 * i);
	sha->bytes = (uint64_t)load_be32(from + 32) << 32 | load_be32(from + 36);
}

static Q_DEVICE inline void store_state(uint8_t *to, const ShaState *sha)
{
	store_hash(to, sha);
	store_be32(to + 32, (uint32_t)(sha->bytes >> 32));
	store_be32(to + 36, (uint32_t)sha->bytes);
	store_be32(to + 40, 0);
	store_be32(to + 44, 0);
}

__device__ void process_message(const MsgView &in, ResultView *out)
{
	const uint32_t piece = PIECE_FLAGS(in.opcode);
	const uint32_t skip = piece & PIECE_CONTINUES ? SHA256_STATE_BYTES : 0;
	const bool last = (piece & PIECE_UNFINISHED) == 0;
	const uint32_t answer = last ? (uint32_t)SHA_DIGEST_BYTES : SHA256_STATE_BYTES;
	ShaState sha;

	if (q_rank() != 0)
		return;
	*out->out_len = 0;
	*out->status = 0;
	if (in.len < skip || (!last && (in.len - skip) % SHA256_PIECE_MULTIPLE != 0))
		*out->status = SHA_STATUS_BAD_PIECE;
	else if (out->cap < answer)
		*out->status = SHA_STATUS_NO_ROOM;
	if (*out->status != 0)
		return;
	if (skip > 0)
		load_state(&sha, in.payload);
	else
		sha256_begin(&sha);
	sha256_update(&sha, in.payload + skip, in.len - skip, last);
	if (last)
		store_hash(out->out, &sha);
	else
		store_state(out->out, &sha);
	*out->out_len = answer;
}
