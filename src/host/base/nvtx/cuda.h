/* SPDX-License-Identifier: Apache-2.0 */
/* cuda.h - what nvtx3/nvToolsExtCuda.h wants of the file of that name: types of handles. */
#ifndef GPUQ_HOST_NVTX_CUDA_H
#define GPUQ_HOST_NVTX_CUDA_H

/* As CUDA has them, and src/device/cuda/driver, which repeats some. */
typedef int CUdevice;
typedef struct CUctx_st *CUcontext;
typedef struct CUstream_st *CUstream;
typedef struct CUevent_st *CUevent;

#endif /* GPUQ_HOST_NVTX_CUDA_H */
