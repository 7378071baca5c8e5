/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cuda.h - the four types that nvtx3/nvToolsExtCuda.h takes from NVIDIA's file of this name.
 *
 * That header includes <cuda.h>, and libgpuq builds where there is none. This folder is in the
 * include path of nvtx.c alone; no other file of the tree may be called cuda.h. The types are
 * those of NVIDIA's file, as the CUDA device declares them, too: repeating an identical typedef is
 * legal.
 */
#ifndef GPUQ_BASE_NVTX_CUDA_H
#define GPUQ_BASE_NVTX_CUDA_H

typedef int CUdevice;
typedef struct CUctx_st *CUcontext;
typedef struct CUevent_st *CUevent;
typedef struct CUstream_st *CUstream;

#endif /* GPUQ_BASE_NVTX_CUDA_H */
