/* SPDX-License-Identifier: Apache-2.0 */
/* layout.h - static assertions, the size of a line, and alignment, in C, C++ and CUDA. */
#ifndef GPUQ_PROTOCOL_LAYOUT_H
#define GPUQ_PROTOCOL_LAYOUT_H

#include <stddef.h>

#if defined(__cplusplus)
#define GQ_STATIC_ASSERT(condition, text) static_assert(condition, text)
#else
#define GQ_STATIC_ASSERT(condition, text) _Static_assert(condition, text)
#endif

/* Bytes: a GPU's cache line, and two of the CPU's, which it fetches in pairs. */
#define GQ_LINE       128
#define GQ_ALIGNED(n) __attribute__((aligned(n)))

#endif /* GPUQ_PROTOCOL_LAYOUT_H */
