/* SPDX-License-Identifier: Apache-2.0 */
/* kernels.h - the kernels as the tests call them: on the CPU, and their GPU code on threads. */
#ifndef GPUQ_TEST_KERNELS_H
#define GPUQ_TEST_KERNELS_H

#include <gpuq/processor.h>

#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Processes `count` messages one after the other. @return false: out of threads. */
typedef bool (*kernel_fn)(const MsgView *in, ResultView *out, uint32_t count);

#define KERNEL_UNITS(kernel)                                                                       \
	bool kernel_##kernel##_cpu(const MsgView *in, ResultView *out, uint32_t count);            \
	bool kernel_##kernel##_thread(const MsgView *in, ResultView *out, uint32_t count);         \
	bool kernel_##kernel##_warp(const MsgView *in, ResultView *out, uint32_t count);           \
	bool kernel_##kernel##_block(const MsgView *in, ResultView *out, uint32_t count)

KERNEL_UNITS(echo);
KERNEL_UNITS(crc32c);
KERNEL_UNITS(sha256);
KERNEL_UNITS(vecdot);

/* One path each; false where this CPU cannot go it. */
uint32_t crc32c_path_portable(const MsgView *in);
bool crc32c_path_sse42(const MsgView *in, uint32_t *crc);
void sha256_path_portable(const MsgView *in, uint8_t *digest);
bool sha256_path_ni(const MsgView *in, uint8_t *digest);
/* In two pieces, the first of `cut` bytes, whole blocks. */
void sha256_path_portable_in_two(const MsgView *in, uint32_t cut, uint8_t *digest);
bool sha256_path_ni_in_two(const MsgView *in, uint32_t cut, uint8_t *digest);

#ifdef __cplusplus
}
#endif

#endif /* GPUQ_TEST_KERNELS_H */
