/* SPDX-License-Identifier: Apache-2.0 */
/* call.h - driver calls: in the queue's context, with their errors; memory of the driver's. */
#ifndef GPUQ_CUDA_HOST_CALL_H
#define GPUQ_CUDA_HOST_CALL_H

#include "device/cuda/host/state.h"

/* A driver call. @return false, with q_last_error(), if it fails. (gq__fault() does not ask here:
 * the stand-in driver has a countdown of its own.) */
#define CU(c, name, ...) gq__cuda_check((c)->cu, #name, (c)->cu->name(__VA_ARGS__))

bool gq__cuda_check(const struct gq_cu *cu, const char *call, int result);

/* The queue's context becomes the thread's; gq_context_leave() brings the caller's back. */
static inline bool gq_context_enter(const struct gq_cuda *c)
{
	return CU(c, cuCtxPushCurrent, c->context);
}

static inline void gq_context_leave(const struct gq_cuda *c)
{
	CUcontext ours;

	c->cu->cuCtxPopCurrent(&ours);
}

/* The same, to give something back. That cannot be put off, so it is tried twice, and no error is
 * recorded. */
bool gq__context_enter_to_free(struct gq_cuda *c);

/* An address of the driver's, or a number that it wants to be passed as one, as a pointer. */
static inline void *gq_cuda_pointer(uint64_t address)
{
	void *p;

	GQ_STATIC_ASSERT(sizeof(p) == sizeof(address), "an address is a word");
	memcpy(&p, &address, sizeof(p));
	return p;
}

/*
 * Pinned memory, mapped for the GPU and visible to every context; zeroed (the driver zeroes what it
 * gives to processes, but does not say so of what it has pooled). No grid may be resident.
 * @param what  what it is for: a word for q_last_error()
 * @return NULL with q_last_error()
 */
void *gq__cuda_allocate_pinned(struct gq_cuda *c, size_t bytes, const char *what);
/* Device memory, in the current context; no grid may be resident. @return as above. */
bool gq__cuda_allocate(struct gq_cuda *c, CUdeviceptr *out, size_t bytes, const char *what);

#endif /* GPUQ_CUDA_HOST_CALL_H */
