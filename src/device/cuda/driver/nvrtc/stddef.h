/* SPDX-License-Identifier: Apache-2.0 */
/* stddef.h - for NVRTC, which has no system headers; see nvrtc_headers.c. */
#ifndef GPUQ_CUDA_DRIVER_NVRTC_STDDEF_H
#define GPUQ_CUDA_DRIVER_NVRTC_STDDEF_H

typedef decltype(sizeof(0)) size_t;
typedef decltype((char *)0 - (char *)0) ptrdiff_t;
typedef decltype(nullptr) nullptr_t;

#ifndef NULL
#define NULL nullptr
#endif
#undef offsetof /* libcu++ has one that is no constant */
#define offsetof(type, member) ((size_t)__INTADDR__(&((type *)0)->member))

#endif /* GPUQ_CUDA_DRIVER_NVRTC_STDDEF_H */
