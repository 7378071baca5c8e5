/* SPDX-License-Identifier: Apache-2.0 */
/*
 * grid_probe.cu - the resident grid around a processor, as gpuq_add_processor() makes it.
 *
 * Compiled with KERNEL_SOURCE and Q_GRANULARITY; nothing runs it.
 */
#include <gpuq/processor.h>

#include KERNEL_SOURCE

#include "device/cuda/grid/grid.cuh"
