/* SPDX-License-Identifier: Apache-2.0 */
/* abi_check.cc - src/device/cuda/driver/driver_api.h says of the driver what cuda.h says, and
 * nvrtc.h there of NVRTC what nvrtc.h of the toolkit says. Compiling it is the test. */
#include <cuda.h>
#include <cudaTypedefs.h>
#include <nvrtc.h>

#include "device/cuda/driver/driver_api.h"
#include "device/cuda/driver/nvrtc.h"

#include <cstdint>
#include <type_traits>

/* What driver_api.h passes as int, and cuda.h as an enumeration or a type of its own. */
template <typename T> struct plain {
	using type = std::conditional_t<std::is_enum_v<T>, int, T>;
};
template <typename T> struct plain<T *> {
	using type = typename plain<T>::type *;
};
template <> struct plain<cuuint64_t> {
	using type = uint64_t;
};
template <> struct plain<const CUlaunchConfig> {
	using type = const struct gq_cu_launch_config;
};

template <typename T> struct signature;
template <typename R, typename... A> struct signature<R (*)(A...)> {
	using type = typename plain<R>::type(typename plain<A>::type...);
};

template <typename Ours, typename Theirs> constexpr bool same()
{
	return std::is_same_v<typename signature<Ours>::type, typename signature<Theirs>::type>;
}

/* cuda.h makes of some names macros for the version whose prototype this is. */
#define SAME(name, version, parameters)                                                            \
	static_assert(same<decltype(gq_cu::name), decltype(&::name)>(), #name);
GQ_CU_ENTRIES(SAME)
/* And the driver hands out this very prototype for the version that it is asked for. */
#define SAME_VERSION(name, version, parameters)                                                    \
	static_assert(same<decltype(gq_cu::name), PFN_##name##_v##version>(), #name " " #version);
GQ_CU_ENTRIES(SAME_VERSION)
static_assert(same<gq_cu_get_proc_address_fn, PFN_cuGetProcAddress_v12000>(), "cuGetProcAddress");
#define SAME_NVRTC(type, name, parameters)                                                         \
	static_assert(same<decltype(gq_nvrtc::name), decltype(&::name)>(), #name);
GQ_NVRTC_ENTRIES(SAME_NVRTC)

#define SAME_MEMBER(ours, our_member, theirs, their_member)                                        \
	static_assert(offsetof(ours, our_member) == offsetof(theirs, their_member) &&              \
			      sizeof(ours::our_member) == sizeof(theirs::their_member),            \
		      #their_member)
static_assert(sizeof(gq_cu_launch_config) == sizeof(CUlaunchConfig), "CUlaunchConfig");
SAME_MEMBER(gq_cu_launch_config, grid_x, CUlaunchConfig, gridDimX);
SAME_MEMBER(gq_cu_launch_config, grid_y, CUlaunchConfig, gridDimY);
SAME_MEMBER(gq_cu_launch_config, grid_z, CUlaunchConfig, gridDimZ);
SAME_MEMBER(gq_cu_launch_config, block_x, CUlaunchConfig, blockDimX);
SAME_MEMBER(gq_cu_launch_config, block_y, CUlaunchConfig, blockDimY);
SAME_MEMBER(gq_cu_launch_config, block_z, CUlaunchConfig, blockDimZ);
SAME_MEMBER(gq_cu_launch_config, shared_bytes, CUlaunchConfig, sharedMemBytes);
SAME_MEMBER(gq_cu_launch_config, stream, CUlaunchConfig, hStream);
SAME_MEMBER(gq_cu_launch_config, attributes, CUlaunchConfig, attrs);
SAME_MEMBER(gq_cu_launch_config, n_attributes, CUlaunchConfig, numAttrs);
static_assert(sizeof(gq_cu_launch_attribute) == sizeof(CUlaunchAttribute), "CUlaunchAttribute");
SAME_MEMBER(gq_cu_launch_attribute, id, CUlaunchAttribute, id);
SAME_MEMBER(gq_cu_launch_attribute, of, CUlaunchAttribute, value);
SAME_MEMBER(gq_cu_launch_attribute, of.value, CUlaunchAttribute, value.cooperative);
SAME_MEMBER(gq_cu_launch_attribute, of.value, CUlaunchAttribute, value.memSyncDomain);

#define EQUAL(ours, theirs) static_assert((int)(ours) == (int)(theirs), #theirs)
EQUAL(GQ_CU_SUCCESS, CUDA_SUCCESS);
EQUAL(GQ_CU_INVALID_VALUE, CUDA_ERROR_INVALID_VALUE);
EQUAL(GQ_CU_READ_ONLY_HOST_REGISTER, CU_DEVICE_ATTRIBUTE_READ_ONLY_HOST_REGISTER_SUPPORTED);
EQUAL(GQ_CU_64_BIT_STREAM_MEM_OPS, CU_DEVICE_ATTRIBUTE_CAN_USE_64_BIT_STREAM_MEM_OPS);
EQUAL(GQ_CU_DMA_BUF_SUPPORTED, CU_DEVICE_ATTRIBUTE_DMA_BUF_SUPPORTED);
EQUAL(GQ_CU_NOT_SUPPORTED, CUDA_ERROR_NOT_SUPPORTED);
EQUAL(GQ_CU_RANGE_DMA_BUF_FD, CU_MEM_RANGE_HANDLE_TYPE_DMA_BUF_FD);
#if CUDA_VERSION >= 12080
EQUAL(GQ_CU_RANGE_MAPPED_BY_PCIE, CU_MEM_RANGE_FLAG_DMA_BUF_MAPPING_TYPE_PCIE);
#endif
EQUAL(GQ_CU_POINTER_DEVICE_ADDRESS, CU_POINTER_ATTRIBUTE_DEVICE_POINTER);
EQUAL(GQ_CU_POINTER_DEVICE_ORDINAL, CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL);
EQUAL(GQ_CU_MEMHOSTREGISTER_PORTABLE, CU_MEMHOSTREGISTER_PORTABLE);
EQUAL(GQ_CU_MEMHOSTREGISTER_DEVICEMAP, CU_MEMHOSTREGISTER_DEVICEMAP);
EQUAL(GQ_CU_MEMHOSTREGISTER_READ_ONLY, CU_MEMHOSTREGISTER_READ_ONLY);
EQUAL(GQ_NVRTC_SUCCESS, NVRTC_SUCCESS);
EQUAL(GQ_NVRTC_OUT_OF_MEMORY, NVRTC_ERROR_OUT_OF_MEMORY);
EQUAL(GQ_NVRTC_INVALID_OPTION, NVRTC_ERROR_INVALID_OPTION);
EQUAL(GQ_NVRTC_COMPILATION, NVRTC_ERROR_COMPILATION);
EQUAL(GQ_NVRTC_INTERNAL_ERROR, NVRTC_ERROR_INTERNAL_ERROR);
EQUAL(GQ_CU_OUT_OF_MEMORY, CUDA_ERROR_OUT_OF_MEMORY);
EQUAL(GQ_CU_NO_DEVICE, CUDA_ERROR_NO_DEVICE);
EQUAL(GQ_CU_INVALID_DEVICE, CUDA_ERROR_INVALID_DEVICE);
EQUAL(GQ_CU_NO_BINARY_FOR_GPU, CUDA_ERROR_NO_BINARY_FOR_GPU);
EQUAL(GQ_CU_INVALID_PTX, CUDA_ERROR_INVALID_PTX);
EQUAL(GQ_CU_UNSUPPORTED_PTX_VERSION, CUDA_ERROR_UNSUPPORTED_PTX_VERSION);
EQUAL(GQ_CU_NOT_FOUND, CUDA_ERROR_NOT_FOUND);
EQUAL(GQ_CU_NOT_READY, CUDA_ERROR_NOT_READY);
EQUAL(GQ_CU_COOPERATIVE_LAUNCH_TOO_LARGE, CUDA_ERROR_COOPERATIVE_LAUNCH_TOO_LARGE);
EQUAL(GQ_CU_UNKNOWN, CUDA_ERROR_UNKNOWN);
EQUAL(GQ_CU_MULTIPROCESSOR_COUNT, CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT);
EQUAL(GQ_CU_KERNEL_EXEC_TIMEOUT, CU_DEVICE_ATTRIBUTE_KERNEL_EXEC_TIMEOUT);
EQUAL(GQ_CU_UNIFIED_ADDRESSING, CU_DEVICE_ATTRIBUTE_UNIFIED_ADDRESSING);
EQUAL(GQ_CU_COMPUTE_CAPABILITY_MAJOR, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR);
EQUAL(GQ_CU_COMPUTE_CAPABILITY_MINOR, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR);
EQUAL(GQ_CU_COOPERATIVE_LAUNCH, CU_DEVICE_ATTRIBUTE_COOPERATIVE_LAUNCH);
EQUAL(GQ_CU_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN,
      CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN);
EQUAL(GQ_CU_MEM_SYNC_DOMAIN_COUNT, CU_DEVICE_ATTRIBUTE_MEM_SYNC_DOMAIN_COUNT);
EQUAL(GQ_CU_NUM_REGS, CU_FUNC_ATTRIBUTE_NUM_REGS);
EQUAL(GQ_CU_MAX_DYNAMIC_SHARED_SIZE_BYTES, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES);
EQUAL(GQ_CU_LAUNCH_COOPERATIVE, CU_LAUNCH_ATTRIBUTE_COOPERATIVE);
EQUAL(GQ_CU_LAUNCH_MEM_SYNC_DOMAIN, CU_LAUNCH_ATTRIBUTE_MEM_SYNC_DOMAIN);
EQUAL(GQ_CU_DOMAIN_REMOTE, CU_LAUNCH_MEM_SYNC_DOMAIN_REMOTE);
EQUAL(GQ_CU_LAUNCH_OUT_OF_RESOURCES, CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES);
EQUAL(GQ_CU_MODULE_LAZY_LOADING, CU_MODULE_LAZY_LOADING);
EQUAL(GQ_CU_STREAM_NON_BLOCKING, CU_STREAM_NON_BLOCKING);
EQUAL(GQ_CU_MEMHOSTALLOC_PORTABLE, CU_MEMHOSTALLOC_PORTABLE);
EQUAL(GQ_CU_MEMHOSTALLOC_DEVICEMAP, CU_MEMHOSTALLOC_DEVICEMAP);
EQUAL(GQ_CU_JIT_ERROR_LOG_BUFFER, CU_JIT_ERROR_LOG_BUFFER);
EQUAL(GQ_CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES, CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES);
