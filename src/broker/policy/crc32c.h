/* SPDX-License-Identifier: Apache-2.0 */
/* crc32c.h - the checksum of frames: CRC-32C (Castagnoli), as iSCSI and SSE4.2 know it. Pure. */
#ifndef GPUQ_BROKER_POLICY_CRC32C_H
#define GPUQ_BROKER_POLICY_CRC32C_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/**
 * The CRC-32C of these bytes, by the CPU's instruction where it has one.
 * @param crc  0, or the CRC of the bytes before these
 */
uint32_t gq__crc32c(uint32_t crc, const void *data, size_t bytes);

/** The same by a table, on any CPU. */
uint32_t gq__crc32c_table(uint32_t crc, const void *data, size_t bytes);

/** Whether gq__crc32c() uses the CPU's instruction. */
bool gq__crc32c_has_instruction(void);

#endif /* GPUQ_BROKER_POLICY_CRC32C_H */
