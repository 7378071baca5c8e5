/* SPDX-License-Identifier: Apache-2.0 */
/*
 * standin_nvrtc.h - the stand-in for libnvrtc: the entry points that libgpuq uses. It compiles
 * nothing, but keeps what it was asked and gives back what a test has set.
 */
#ifndef GPUQ_TEST_STANDIN_NVRTC_H
#define GPUQ_TEST_STANDIN_NVRTC_H

#include <stddef.h>
#include <stdint.h>

/* For tests, by dlsym() of "standin_nvrtc" from the library that GPUQ_LIBNVRTC names. */
struct standin_nvrtc {
	/* The n-th call from now (from 1) fails with `result`; 0: none. */
	void (*fail_nth)(uint32_t n, int result);
	/* The call that failed so, or NULL. */
	const char *(*failed_call)(void);
	/* What compiling gives: the image, as machine code and as PTX; its bytes are copied when
	 * they are asked for. */
	void (*set_image)(const void *image, size_t bytes);
	/* What compiling returns, and the log that it leaves. */
	void (*set_outcome)(int result, const char *log);
	/* Version 13.1 is 13010, as the driver counts. */
	void (*set_version)(int version);
	/* The compute capabilities known: n of them. */
	void (*set_known)(const int *capabilities, int n);
	/* Programs not destroyed. */
	uint32_t (*live)(void);
	/* Compilations so far. */
	uint32_t (*compilations)(void);
	/* Of the last program: name, source, options, each followed by a newline; header `name`,
	 * or NULL. */
	const char *(*name)(void);
	const char *(*source)(void);
	const char *(*options)(void);
	const char *(*header)(const char *name);
	/* Called in the middle of each compilation; NULL: nothing is. */
	void (*set_hook)(void (*hook)(void));
};

#endif /* GPUQ_TEST_STANDIN_NVRTC_H */
