/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gpu.h - where the tests run, and memory that they share with a real GPU.
 *
 * GPUQ_TEST_DEVICE: "cuda" is the CUDA device through the stand-in driver, which GPUQ_LIBCUDA
 * names; "gpu" a GPU. With GPUQ_LIBCUDA, "gpu" does through the stand-in all that it would do on a
 * GPU.
 */
#ifndef GPUQ_TEST_GPU_H
#define GPUQ_TEST_GPU_H

#include <stdbool.h>
#include <stddef.h>

bool on_cuda(void);    /* either */
bool on_gpu(void);     /* "gpu" */
bool on_standin(void); /* GPUQ_LIBCUDA is set */

/*
 * First of all, where on_gpu(): ends the process with 77 and the reason if there is none.
 * Everything below is for on_gpu() only, fails by ending the process, and is never given back:
 * freeing would wait for resident kernels. Allocate before the first queue.
 */
void gpu_begin(void);
void *gpu_device_memory(size_t bytes); /* zeroes; an address of the device's */
void *gpu_pinned_memory(size_t bytes); /* zeroes; the same address on both sides */

/* Zeroes device memory, beside whatever is resident. Threads: any. */
void gpu_clear(void *device, size_t bytes);
/* Copies from device memory, at most 4096 bytes, beside whatever is resident. Threads: any. */
void gpu_read(void *to, const void *from_device, size_t bytes);

#endif /* GPUQ_TEST_GPU_H */
