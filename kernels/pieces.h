/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pieces.h - the opcodes by which crc32c and sha256 take a message that comes in pieces.
 *
 * The answer to a piece that is not the last is a state; it stands in front of the next piece, in
 * the same payload. The answer to the last is what the whole message would have given. A message
 * of any other opcode, 0 included, is a whole one.
 */
#ifndef GPUQ_KERNELS_PIECES_H
#define GPUQ_KERNELS_PIECES_H

#define PIECE_CONTINUES  1u /* the payload begins with the state that the piece before gave */
#define PIECE_UNFINISHED 2u /* there is more to come: answer with the state */

#define PIECE_OPCODES 0x71500000u /* no opcode that somebody counts up from 0 to */
#define PIECE_LAST    (PIECE_OPCODES | PIECE_CONTINUES)
#define PIECE_FIRST   (PIECE_OPCODES | PIECE_UNFINISHED)
#define PIECE_MIDDLE  (PIECE_OPCODES | PIECE_CONTINUES | PIECE_UNFINISHED)

/* The two flags of an opcode; 0: a whole message. */
#define PIECE_FLAGS(opcode) ((opcode) >= PIECE_LAST && (opcode) <= PIECE_MIDDLE ? (opcode)&3u : 0u)

/* States: multiples of 16 bytes, so that what follows one is aligned as a payload is. */
#define CRC32C_STATE_BYTES 16u
#define SHA256_STATE_BYTES 48u

/* All pieces of sha256 but the last hold whole blocks; those of crc32c may have any length. */
#define SHA256_PIECE_MULTIPLE 64u

#endif /* GPUQ_KERNELS_PIECES_H */
