/* SPDX-License-Identifier: Apache-2.0 */
/* cuda.h - what nvtx3/nvToolsExtCuda.h wants of the file of that name: types of handles. */
#ifndef GPUQ_HOST_NVTX_CUDA_H
#define GPUQ_HOST_NVTX_CUDA_H

#include "device/cuda/driver/driver_api.h"

typedef struct CUevent_st *CUevent;

#endif /* GPUQ_HOST_NVTX_CUDA_H */
