/* SPDX-License-Identifier: Apache-2.0 */
/* seal.h - a hash that tells whether bytes and the id they belong to have been read whole. */
#ifndef GPUQ_PROTOCOL_SEAL_H
#define GPUQ_PROTOCOL_SEAL_H

#include "device/protocol/atomics.h"

/*
 * A seal is a 64-bit hash of bytes and of the id they belong to, stored beside them. A reader that
 * reads bytes and seal in any order, perhaps while they are written, and finds that they match, has
 * read all of them. So neither the read of a message nor the arrival of a result needs ordering
 * across PCIe, which costs a round trip. A mismatch only says "not yet".
 *
 * Pieces of 16 bytes are multiplied under keys of their place, and the folded products added (the
 * NH family; Black et al., CRYPTO '99), so that lanes can take a piece each. `key` is random and
 * the queue's own: bytes half old and half new match with a probability of about 2^-60, whatever
 * the sender chooses. Self-verifying reads by a hash: Mitchell et al., Pilaf (USENIX ATC '13).
 */
#define GQ_PIECE 16u

GQ_FN uint64_t gq_multiply_fold(uint64_t a, uint64_t b)
{
#if defined(__CUDA_ARCH__)
	return (a * b) ^ __umul64hi(a, b);
#else
	__extension__ typedef unsigned __int128 wide;
	const wide product = (wide)a * b;

	return (uint64_t)product ^ (uint64_t)(product >> 64);
#endif
}

/* What the words of piece `i` add to a seal. */
GQ_FN uint64_t gq_seal_piece(uint64_t key, uint32_t i, uint64_t a, uint64_t b)
{
	const uint64_t place = key + i * UINT64_C(0x9e3779b97f4a7c15);

	return gq_multiply_fold(a ^ place, b ^ (place * UINT64_C(0xd1b54a32d192ed03)));
}

/* What the id adds to it. */
GQ_FN uint64_t gq_seal_id(uint64_t key, uint64_t msg_id)
{
	return gq_multiply_fold(msg_id ^ UINT64_C(0xa0761d6478bd642f),
				key ^ UINT64_C(0xe7037ed1a0b428db));
}

GQ_FN uint32_t gq_pieces(uint32_t bytes)
{
	return (bytes + GQ_PIECE - 1) / GQ_PIECE;
}

#endif /* GPUQ_PROTOCOL_SEAL_H */
