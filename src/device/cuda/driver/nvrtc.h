/* SPDX-License-Identifier: Apache-2.0 */
/* nvrtc.h - NVRTC, opened at run time, and a processor's source compiled with it. */
#ifndef GPUQ_CUDA_DRIVER_NVRTC_H
#define GPUQ_CUDA_DRIVER_NVRTC_H

#include <gpuq/gpuq.h>
#include <stddef.h>

/* As nvrtc.h has it, but that enumerations are int; tests/cuda/abi_check.cc compares. */
typedef struct _nvrtcProgram *nvrtcProgram;

enum gq_nvrtc_result {
	GQ_NVRTC_SUCCESS = 0,
	GQ_NVRTC_OUT_OF_MEMORY = 1,
	GQ_NVRTC_INVALID_OPTION = 5,
	GQ_NVRTC_COMPILATION = 6,
	GQ_NVRTC_INTERNAL_ERROR = 11,
};

/* Every entry point used: X(type, name, parameters). */
#define GQ_NVRTC_ENTRIES(X)                                                                        \
	X(const char *, nvrtcGetErrorString, (int result))                                         \
	X(int, nvrtcVersion, (int *major, int *minor))                                             \
	X(int, nvrtcGetNumSupportedArchs, (int *count))                                            \
	X(int, nvrtcGetSupportedArchs, (int *capabilities))                                        \
	X(int, nvrtcCreateProgram,                                                                 \
	  (nvrtcProgram * program, const char *source, const char *name, int headers,              \
	   const char *const *texts, const char *const *names))                                    \
	X(int, nvrtcDestroyProgram, (nvrtcProgram * program))                                      \
	X(int, nvrtcCompileProgram, (nvrtcProgram program, int count, const char *const *options)) \
	X(int, nvrtcGetProgramLogSize, (nvrtcProgram program, size_t * bytes))                     \
	X(int, nvrtcGetProgramLog, (nvrtcProgram program, char *text))                             \
	X(int, nvrtcGetPTXSize, (nvrtcProgram program, size_t * bytes))                            \
	X(int, nvrtcGetPTX, (nvrtcProgram program, char *ptx))                                     \
	X(int, nvrtcGetCUBINSize, (nvrtcProgram program, size_t * bytes))                          \
	X(int, nvrtcGetCUBIN, (nvrtcProgram program, char *cubin))

struct gq_nvrtc {
#define GQ_NVRTC_MEMBER(type, name, parameters) type(*name) parameters;
	GQ_NVRTC_ENTRIES(GQ_NVRTC_MEMBER)
#undef GQ_NVRTC_MEMBER
	int major, minor; /* its version */
};

/* The library's own headers, under the names by which they are included: nvrtc_headers.c. */
extern const int gq__nvrtc_header_count;
extern const char *const gq__nvrtc_header_names[];
extern const char *const gq__nvrtc_header_texts[];

struct gq_compilation {
	const char *path;   /* the source's: for messages, and its folder is searched for headers */
	const char *source; /* the text */
	uint32_t granularity; /* Q_PER_* */
	uint32_t capability;  /* the device's compute capability: 90 is 9.0 */
	int driver;           /* the driver's version, 12040 is 12.4; 0: any */
};

/*
 * Compile a processor's source with the resident grid around it, for one device: machine code where
 * NVRTC knows the device, else PTX of the newest capability it knows that the device has.
 *
 * NVRTC is libnvrtc.so.13, .12, libnvrtc.so or that of /usr/local/cuda, the first that is there and
 * not of a newer major version than the driver; it stays open. GPUQ_LIBNVRTC names another.
 * GPUQ_NVRTC_OPTIONS holds further options, between white space. What the compiler says goes to the
 * log, line by line: as errors if the source does not compile, else as warnings.
 *
 * @param image  of *bytes bytes, to be given to gq__free(); written on success only
 * @return Q_OK, or with q_last_error() set: Q_ERR_INVALID_ARG: the source does not compile, or an
 *         option of GPUQ_NVRTC_OPTIONS is wrong: with the compiler's first errors;
 *         Q_ERR_UNSUPPORTED: no NVRTC that will do, or it does not compile for so old a device;
 *         Q_ERR_NO_MEMORY; Q_ERR_CUDA: NVRTC has failed, with the call and its name for it.
 * Blocking: seconds.
 */
QueueStatus gq__nvrtc_compile(const struct gq_compilation *job, void **image, size_t *bytes);

#endif /* GPUQ_CUDA_DRIVER_NVRTC_H */
