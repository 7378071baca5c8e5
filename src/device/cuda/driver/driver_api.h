/* SPDX-License-Identifier: Apache-2.0 */
/*
 * driver_api.h - what libgpuq uses of the CUDA driver's binary interface, declared by ourselves.
 *
 * libgpuq builds where there is no CUDA at all and finds the driver at run time, so cuda.h cannot
 * be included. Names and types are those of cuda.h (repeating an identical typedef is legal);
 * tests/cuda/abi_check.cc compares every prototype and constant with it, where it is there.
 */
#ifndef GPUQ_CUDA_DRIVER_DRIVER_API_H
#define GPUQ_CUDA_DRIVER_DRIVER_API_H

#include <stddef.h>
#include <stdint.h>

typedef int CUdevice;
typedef unsigned long long CUdeviceptr;
typedef struct CUctx_st *CUcontext;
typedef struct CUmod_st *CUmodule;
typedef struct CUfunc_st *CUfunction;
typedef struct CUstream_st *CUstream;

/* Enumerations are passed as int. */
enum gq_cu_result {
	GQ_CU_SUCCESS = 0,
	GQ_CU_INVALID_VALUE = 1,
	GQ_CU_OUT_OF_MEMORY = 2,
	GQ_CU_NO_DEVICE = 100,
	GQ_CU_INVALID_DEVICE = 101,
	GQ_CU_NO_BINARY_FOR_GPU = 209,
	GQ_CU_INVALID_PTX = 218,
	GQ_CU_UNSUPPORTED_PTX_VERSION = 222,
	GQ_CU_NOT_FOUND = 500,
	GQ_CU_NOT_READY = 600,
	GQ_CU_LAUNCH_OUT_OF_RESOURCES = 701,
	GQ_CU_COOPERATIVE_LAUNCH_TOO_LARGE = 720,
	GQ_CU_NOT_SUPPORTED = 801,
	GQ_CU_UNKNOWN = 999,
};

enum gq_cu_device_attribute {
	GQ_CU_MULTIPROCESSOR_COUNT = 16,
	GQ_CU_KERNEL_EXEC_TIMEOUT = 17,
	GQ_CU_UNIFIED_ADDRESSING = 41,
	GQ_CU_COMPUTE_CAPABILITY_MAJOR = 75,
	GQ_CU_COMPUTE_CAPABILITY_MINOR = 76,
	GQ_CU_COOPERATIVE_LAUNCH = 95,
	GQ_CU_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN = 97,
	GQ_CU_READ_ONLY_HOST_REGISTER = 113,
	GQ_CU_64_BIT_STREAM_MEM_OPS = 122,
	GQ_CU_DMA_BUF_SUPPORTED = 124,
	GQ_CU_MEM_SYNC_DOMAIN_COUNT = 126,
};

enum gq_cu_function_attribute {
	GQ_CU_NUM_REGS = 4,
	GQ_CU_MAX_DYNAMIC_SHARED_SIZE_BYTES = 8,
};

enum gq_cu_launch_attribute_id {
	GQ_CU_LAUNCH_COOPERATIVE = 2,
	GQ_CU_LAUNCH_MEM_SYNC_DOMAIN = 10,
};
enum gq_cu_mem_sync_domain { GQ_CU_DOMAIN_REMOTE = 1 };

/* CUlaunchAttribute and CUlaunchConfig, as far as they are used. */
struct gq_cu_launch_attribute {
	int id;
	char pad[4];
	union {
		int value;
		char room[64];
	} of;
};
struct gq_cu_launch_config {
	unsigned int grid_x, grid_y, grid_z, block_x, block_y, block_z, shared_bytes;
	CUstream stream;
	struct gq_cu_launch_attribute *attributes;
	unsigned int n_attributes;
};

enum gq_cu_pointer_attribute {
	GQ_CU_POINTER_DEVICE_ADDRESS = 3,
	GQ_CU_POINTER_DEVICE_ORDINAL = 9,
};

enum gq_cu_flags {
	GQ_CU_STREAM_NON_BLOCKING = 1,
	GQ_CU_MEMHOSTALLOC_PORTABLE = 1,
	GQ_CU_MEMHOSTALLOC_DEVICEMAP = 2,
	GQ_CU_MEMHOSTREGISTER_PORTABLE = 1,
	GQ_CU_MEMHOSTREGISTER_DEVICEMAP = 2,
	GQ_CU_MEMHOSTREGISTER_READ_ONLY = 8,
	GQ_CU_RANGE_DMA_BUF_FD = 1,
	GQ_CU_RANGE_MAPPED_BY_PCIE = 1,
	GQ_CU_JIT_ERROR_LOG_BUFFER = 5,
	GQ_CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES = 6,
	GQ_CU_MODULE_LAZY_LOADING = 2,
};

/*
 * Every entry point used: X(name, CUDA version whose prototype this is, parameters). The version
 * is what cuGetProcAddress() is asked for, so that a later driver gives the same function.
 */
#define GQ_CU_ENTRIES(X)                                                                           \
	X(cuInit, 2000, (unsigned int flags))                                                      \
	X(cuDriverGetVersion, 2020, (int *version))                                                \
	X(cuGetErrorName, 6000, (int error, const char **text))                                    \
	X(cuGetErrorString, 6000, (int error, const char **text))                                  \
	X(cuDeviceGetCount, 2000, (int *count))                                                    \
	X(cuDeviceGet, 2000, (CUdevice * device, int ordinal))                                     \
	X(cuDeviceGetName, 2000, (char *name, int len, CUdevice device))                           \
	X(cuDeviceGetAttribute, 2000, (int *value, int attribute, CUdevice device))                \
	X(cuDevicePrimaryCtxRetain, 7000, (CUcontext * context, CUdevice device))                  \
	X(cuDevicePrimaryCtxRelease, 11000, (CUdevice device))                                     \
	X(cuCtxPushCurrent, 4000, (CUcontext context))                                             \
	X(cuCtxPopCurrent, 4000, (CUcontext * context))                                            \
	X(cuModuleLoadDataEx, 2010,                                                                \
	  (CUmodule * module, const void *image, unsigned int n, int *options, void **values))     \
	X(cuModuleUnload, 2000, (CUmodule module))                                                 \
	X(cuModuleGetFunction, 2000, (CUfunction * function, CUmodule module, const char *name))   \
	X(cuOccupancyMaxActiveBlocksPerMultiprocessor, 6050,                                       \
	  (int *blocks, CUfunction function, int block_threads, size_t shared_bytes))              \
	X(cuStreamCreate, 2000, (CUstream * stream, unsigned int flags))                           \
	X(cuStreamCreateWithPriority, 5050, (CUstream * stream, unsigned int flags, int priority)) \
	X(cuCtxGetStreamPriorityRange, 5050, (int *least, int *greatest))                          \
	X(cuStreamDestroy, 4000, (CUstream stream))                                                \
	X(cuStreamQuery, 2000, (CUstream stream))                                                  \
	X(cuStreamSynchronize, 2000, (CUstream stream))                                            \
	X(cuLaunchKernel, 4000,                                                                    \
	  (CUfunction function, unsigned int grid_x, unsigned int grid_y, unsigned int grid_z,     \
	   unsigned int block_x, unsigned int block_y, unsigned int block_z,                       \
	   unsigned int shared_bytes, CUstream stream, void **parameters, void **extra))           \
	X(cuLaunchKernelEx, 11060,                                                                 \
	  (const struct gq_cu_launch_config *config, CUfunction function, void **parameters,       \
	   void **extra))                                                                          \
	X(cuFuncGetAttribute, 2020, (int *value, int attribute, CUfunction function))              \
	X(cuFuncSetAttribute, 9000, (CUfunction function, int attribute, int value))               \
	X(cuModuleGetLoadingMode, 11070, (int *mode))                                              \
	X(cuMemAlloc, 3020, (CUdeviceptr * address, size_t bytes))                                 \
	X(cuMemFree, 3020, (CUdeviceptr address))                                                  \
	X(cuMemHostAlloc, 2020, (void **address, size_t bytes, unsigned int flags))                \
	X(cuMemFreeHost, 2000, (void *address))                                                    \
	X(cuMemHostRegister, 6050, (void *address, size_t bytes, unsigned int flags))              \
	X(cuMemHostUnregister, 4000, (void *address))                                              \
	X(cuMemGetHandleForAddressRange, 11070,                                                    \
	  (void *handle, CUdeviceptr address, size_t bytes, int type, unsigned long long flags))   \
	X(cuPointerGetAttribute, 4000, (void *data, int attribute, CUdeviceptr address))           \
	X(cuStreamWriteValue64, 11070,                                                             \
	  (CUstream stream, CUdeviceptr address, uint64_t value, unsigned int flags))              \
	X(cuMemcpyHtoDAsync, 3020,                                                                 \
	  (CUdeviceptr to, const void *from, size_t bytes, CUstream stream))                       \
	X(cuMemcpyDtoHAsync, 3020, (void *to, CUdeviceptr from, size_t bytes, CUstream stream))    \
	X(cuMemsetD8Async, 3020,                                                                   \
	  (CUdeviceptr to, unsigned char value, size_t bytes, CUstream stream))

/* How the table is filled; a symbol of every driver from 12.0 on. */
typedef int (*gq_cu_get_proc_address_fn)(const char *name, void **out, int version, uint64_t flags,
					 int *found);

struct gq_cu {
#define GQ_CU_MEMBER(name, version, parameters) int(*name) parameters;
	GQ_CU_ENTRIES(GQ_CU_MEMBER)
#undef GQ_CU_MEMBER
};

#endif /* GPUQ_CUDA_DRIVER_DRIVER_API_H */
