/* SPDX-License-Identifier: Apache-2.0 */
/* next.h - which message a consumer of the CPU device starts next. */
#ifndef GPUQ_CPU_NEXT_H
#define GPUQ_CPU_NEXT_H

#include "device/cpu/consumer.h"

/*
 * The next message, which the caller starts or cancels; GQ_NONE: it has found none.
 * @param thorough  the look before sleeping: into every other consumer's hand
 */
uint32_t gq__cpu_next(struct gq_consumer *c, bool thorough);

/* The oldest message that any consumer holds and has not started; GQ_NONE: none is held. */
uint32_t gq__cpu_take_held(GpuQueue *q);

#endif /* GPUQ_CPU_NEXT_H */
