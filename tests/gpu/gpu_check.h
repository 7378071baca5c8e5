/* SPDX-License-Identifier: Apache-2.0 */
/* gpu_check.h - what the files of gpu_check share. */
#ifndef GPUQ_GPU_CHECK_H
#define GPUQ_GPU_CHECK_H

#include "support.h"

extern const char *processor;

/* Prints PASS or FAIL. Threads: one at a time. */
void verdict(bool good, const char *what, const char *detail);
/* Something has moved on; the process fails if this is not called for HUNG_S. Threads: any. */
void alive(const char *what);

/* @return NULL if refused: q_last_error(). */
GpuQueue *open_queue(uint32_t granularity, uint32_t capacity, uint32_t slot_bytes,
		     uint32_t park_ms);

void chaos(void);
/* What the settings of GPUQ_TUNE do; ends about when `seconds` are over. */
void tune(unsigned seconds);

/* What else to say when something hangs; NULL: nothing. */
extern void (*on_hang)(void);
enum {
	SMOKE_WORKS,     /* messages came back */
	SMOKE_NO_DEVICE, /* there is no CUDA device */
	SMOKE_NOTHING,   /* no message came back */
};
int smoke(void); /* before any queue of the process */

#endif /* GPUQ_GPU_CHECK_H */
