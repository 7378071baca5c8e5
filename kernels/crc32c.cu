/* SPDX-License-Identifier: Apache-2.0 */
/*
 * crc32c.cu - a processor that answers with the CRC-32C (Castagnoli) of the message.
 *
 * Result: 4 bytes, little-endian, the value iSCSI and SSE4.2 know (reflected, initial value and
 * final exclusive-or all ones). With less room than that the message ends FAILED, status 1.
 * A message may come in pieces, see pieces.h. The state is 16 bytes: the CRC so far, as a result is
 * written, and 12 zero bytes. A piece too short for its state ends FAILED, status 2.
 *
 * On a GPU the threads of a unit take equal shares of a long message and join the registers. On
 * x86-64 the crc32 instruction is used where the CPU has it. Little-endian machines only.
 */
#define Q_RESULT_ONLY
#include <gpuq/processor.h>

#include "pieces.h"

#if !defined(__CUDACC__)
#include <string.h>
#if defined(__x86_64__)
#include <nmmintrin.h>
#endif
#endif

#if defined(__CUDACC__)
#define CRC_TABLE static __device__ const
#else
#define CRC_TABLE static const
#endif

enum { CRC_BYTES = 4, CRC_STATUS_NO_ROOM = 1, CRC_STATUS_BAD_PIECE = 2 };

/*
 * zeros_after[j][n]: what nibble n leaves in the register once j further nibbles have followed.
 * One row is 64 bytes, half a GPU cache line: 32 threads look up 32 places in it at once, which a
 * table of 256 entries could not offer.
 */
CRC_TABLE uint32_t zeros_after[8][16] = {
	{ 0x00000000u, 0x105ec76fu, 0x20bd8edeu, 0x30e349b1u, 0x417b1dbcu, 0x5125dad3u, 0x61c69362u,
	  0x7198540du, 0x82f63b78u, 0x92a8fc17u, 0xa24bb5a6u, 0xb21572c9u, 0xc38d26c4u, 0xd3d3e1abu,
	  0xe330a81au, 0xf36e6f75u },
	{ 0x00000000u, 0xf26b8303u, 0xe13b70f7u, 0x1350f3f4u, 0xc79a971fu, 0x35f1141cu, 0x26a1e7e8u,
	  0xd4ca64ebu, 0x8ad958cfu, 0x78b2dbccu, 0x6be22838u, 0x9989ab3bu, 0x4d43cfd0u, 0xbf284cd3u,
	  0xac78bf27u, 0x5e133c24u },
	{ 0x00000000u, 0x3fc5f181u, 0x7f8be302u, 0x404e1283u, 0xff17c604u, 0xc0d23785u, 0x809c2506u,
	  0xbf59d487u, 0xfbc3faf9u, 0xc4060b78u, 0x844819fbu, 0xbb8de87au, 0x04d43cfdu, 0x3b11cd7cu,
	  0x7b5fdfffu, 0x449a2e7eu },
	{ 0x00000000u, 0x13a29877u, 0x274530eeu, 0x34e7a899u, 0x4e8a61dcu, 0x5d28f9abu, 0x69cf5132u,
	  0x7a6dc945u, 0x9d14c3b8u, 0x8eb65bcfu, 0xba51f356u, 0xa9f36b21u, 0xd39ea264u, 0xc03c3a13u,
	  0xf4db928au, 0xe7790afdu },
	{ 0x00000000u, 0x70a27d8au, 0xe144fb14u, 0x91e6869eu, 0xc76580d9u, 0xb7c7fd53u, 0x26217bcdu,
	  0x56830647u, 0x8b277743u, 0xfb850ac9u, 0x6a638c57u, 0x1ac1f1ddu, 0x4c42f79au, 0x3ce08a10u,
	  0xad060c8eu, 0xdda47104u },
	{ 0x00000000u, 0xa541927eu, 0x4f6f520du, 0xea2ec073u, 0x9edea41au, 0x3b9f3664u, 0xd1b1f617u,
	  0x74f06469u, 0x38513ec5u, 0x9d10acbbu, 0x773e6cc8u, 0xd27ffeb6u, 0xa68f9adfu, 0x03ce08a1u,
	  0xe9e0c8d2u, 0x4ca15aacu },
	{ 0x00000000u, 0xe964b13du, 0xd725148bu, 0x3e41a5b6u, 0xaba65fe7u, 0x42c2eedau, 0x7c834b6cu,
	  0x95e7fa51u, 0x52a0c93fu, 0xbbc47802u, 0x8585ddb4u, 0x6ce16c89u, 0xf90696d8u, 0x106227e5u,
	  0x2e238253u, 0xc747336eu },
	{ 0x00000000u, 0xdd45aab8u, 0xbf672381u, 0x62228939u, 0x7b2231f3u, 0xa6679b4bu, 0xc4451272u,
	  0x1900b8cau, 0xf64463e6u, 0x2b01c95eu, 0x49234067u, 0x9466eadfu, 0x8d665215u, 0x5023f8adu,
	  0x32017194u, 0xef44db2cu },
};

/* data: 4-byte aligned. */
static Q_DEVICE inline uint32_t load_u32(const uint8_t *data)
{
#if defined(__CUDACC__)
	return *reinterpret_cast<const uint32_t *>(data);
#else
	uint32_t value;

	memcpy(&value, data, sizeof(value));
	return value;
#endif
}

/* Moves the register over len bytes. data: 4-byte aligned. */
static Q_DEVICE uint32_t crc32c_portable(uint32_t crc, const uint8_t *data, uint32_t len)
{
	for (; len >= 4; data += 4, len -= 4) {
		crc ^= load_u32(data);
		crc = zeros_after[7][crc & 15] ^ zeros_after[6][(crc >> 4) & 15] ^
		      zeros_after[5][(crc >> 8) & 15] ^ zeros_after[4][(crc >> 12) & 15] ^
		      zeros_after[3][(crc >> 16) & 15] ^ zeros_after[2][(crc >> 20) & 15] ^
		      zeros_after[1][(crc >> 24) & 15] ^ zeros_after[0][crc >> 28];
	}
	for (; len > 0; data++, len--) {
		crc ^= *data;
		crc = (crc >> 8) ^ zeros_after[1][crc & 15] ^ zeros_after[0][(crc >> 4) & 15];
	}
	return crc;
}

#if defined(__CUDACC__)
#if defined(Q_GRANULARITY) && Q_GRANULARITY > 0

#define ALL_LANES 0xffffffffu

/* x to the power 2^n modulo the polynomial, reflected; the 31st is the 0th again. */
CRC_TABLE uint32_t power_of_x[31] = {
	0x40000000u, 0x20000000u, 0x08000000u, 0x00800000u, 0x00008000u, 0x82f63b78u, 0x6ea2d55cu,
	0x18b8ea18u, 0x510ac59au, 0xb82be955u, 0xb8fdb1e7u, 0x88e56f72u, 0x74c360a4u, 0xe4172b16u,
	0x0d65762au, 0x35d73a62u, 0x28461564u, 0xbf455269u, 0xe2ea32dcu, 0xfe7740e6u, 0xf946610bu,
	0x3c204f8fu, 0x538586e3u, 0x59726915u, 0x734d5309u, 0xbc1ac763u, 0x7d0722ccu, 0xd289cabeu,
	0xe94ca9bcu, 0x05b74f3fu, 0xa51e1f42u,
};

/* The product of two polynomials, reflected. */
static __device__ uint32_t multiply(uint32_t a, uint32_t b)
{
	uint32_t product = 0;

	for (int bit = 31; bit >= 0; bit--) {
		product ^= (a >> bit & 1) ? b : 0;
		b = (b >> 1) ^ ((b & 1) ? 0x82f63b78u : 0);
	}
	return product;
}

/*
 * Joins the registers of a warp's 32 neighbouring shares of 2^share_log2 bytes. Lane 0 gets the
 * register of all of them, the other lanes get nothing of use.
 */
static __device__ uint32_t join_warp(uint32_t crc, uint32_t share_log2)
{
	for (uint32_t level = 0; level < 5; level++) {
		const uint32_t right = __shfl_down_sync(ALL_LANES, crc, 1u << level);

		crc = multiply(crc, power_of_x[(share_log2 + 3 + level) % 31]) ^ right;
	}
	return crc;
}

/* Moves the register over len bytes; the outcome is in the thread of rank 0. */
static __device__ uint32_t crc32c_update(uint32_t start, const uint8_t *data, uint32_t len)
{
	const uint32_t from_last = q_size() - 1 - q_rank();
	const uint32_t whole = len & ~15u;
	uint32_t share_log2 = 6;

	while (((uint64_t)q_size() << share_log2) < whole)
		share_log2++;

	/*
	 * Shares are counted from the end: those that lie before the message are empty, and an
	 * empty share with a zero register changes nothing. The first byte's share starts with the
	 * register as it was.
	 */
	const uint64_t after = (uint64_t)from_last << share_log2;
	const uint32_t end = after < whole ? (uint32_t)(whole - after) : 0;
	const uint32_t begin = end >> share_log2 ? end - (1u << share_log2) : 0;
	const bool first = begin == 0 && (end > 0 || from_last == 0);
	uint32_t crc = crc32c_portable(first ? start : 0, data + begin, end - begin);

	crc = join_warp(crc, share_log2);
#if Q_GRANULARITY == 2
	__shared__ uint32_t of_warp[32];
	const uint32_t warp = q_rank() / 32, warps = q_size() / 32, lane = q_rank() % 32;

	if (lane == 0)
		of_warp[warp] = crc;
	q_sync();
	if (warp == 0) {
		/* At the end again, so that the lanes before them are empty shares. */
		crc = lane + warps >= 32 ? of_warp[lane + warps - 32] : 0;
		crc = join_warp(crc, share_log2 + 5);
	}
	q_sync(); /* of_warp belongs to the next message now */
#endif
	if (q_rank() == 0)
		crc = crc32c_portable(crc, data + whole, len - whole);
	return crc;
}

#else

static __device__ uint32_t crc32c_update(uint32_t start, const uint8_t *data, uint32_t len)
{
	return crc32c_portable(start, data, len);
}

#endif
#else /* the CPU */

#if defined(__x86_64__)
__attribute__((target("sse4.2"))) static uint32_t crc32c_sse42(uint32_t crc, const uint8_t *data,
							       uint32_t len)
{
	uint64_t wide = crc;

	for (; len >= 8; data += 8, len -= 8) {
		uint64_t word;

		memcpy(&word, data, sizeof(word));
		wide = _mm_crc32_u64(wide, word);
	}
	crc = (uint32_t)wide;
	for (; len > 0; data++, len--)
		crc = _mm_crc32_u8(crc, *data);
	return crc;
}
#endif

static uint32_t crc32c_update(uint32_t start, const uint8_t *data, uint32_t len)
{
#if defined(__x86_64__)
	if (__builtin_cpu_supports("sse4.2"))
		return crc32c_sse42(start, data, len);
#endif
	return crc32c_portable(start, data, len);
}

#endif

__device__ void process_message(const MsgView &in, ResultView *out)
{
	const uint32_t piece = PIECE_FLAGS(in.opcode);
	const uint32_t skip = piece & PIECE_CONTINUES ? CRC32C_STATE_BYTES : 0;
	const uint32_t answer = piece & PIECE_UNFINISHED ? CRC32C_STATE_BYTES : (uint32_t)CRC_BYTES;

	if (in.len < skip || out->cap < answer) {
		if (q_rank() == 0) {
			*out->out_len = 0;
			*out->status = in.len < skip ? CRC_STATUS_BAD_PIECE : CRC_STATUS_NO_ROOM;
		}
		return;
	}

	const uint32_t start = skip > 0 ? ~load_u32(in.payload) : 0xffffffffu;
	const uint32_t crc = ~crc32c_update(start, in.payload + skip, in.len - skip);

	if (q_rank() == 0) {
		for (uint32_t i = 0; i < answer; i++)
			out->out[i] = (uint8_t)(i < CRC_BYTES ? crc >> (8 * i) : 0);
		*out->out_len = answer;
		*out->status = 0;
	}
}
