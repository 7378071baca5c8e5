/* SPDX-License-Identifier: Apache-2.0 */
/*
 * nvrtc_headers.c - the headers that a processor's source needs, inside the library.
 *
 * With them a source compiles at run time without the installed headers, and with those of this
 * very library. NVRTC has no system headers either: nvrtc/ has what these headers need of them.
 *
 * nvrtc_headers.inc is made by cmake/GpuqDeviceHeaders.cmake, which has the list.
 */
#include "device/cuda/driver/nvrtc.h"

/* The bytes of a file, with a zero behind them. */
#define HEADER(symbol, name, path)                                                                 \
	__asm__(".pushsection .rodata." #symbol ",\"a\",@progbits\n"                               \
		".globl " #symbol "\n"                                                             \
		".hidden " #symbol "\n" #symbol ":\n"                                              \
		".incbin \"" path "\"\n"                                                           \
		".byte 0\n"                                                                        \
		".popsection\n");                                                                  \
	extern __attribute__((visibility("hidden"))) const char symbol[];
#include "nvrtc_headers.inc"
#undef HEADER

const char *const gq__nvrtc_header_names[] = {
#define HEADER(symbol, name, path) name,
#include "nvrtc_headers.inc"
#undef HEADER
};

const char *const gq__nvrtc_header_texts[] = {
#define HEADER(symbol, name, path) symbol,
#include "nvrtc_headers.inc"
#undef HEADER
};

const int gq__nvrtc_header_count =
	sizeof(gq__nvrtc_header_names) / sizeof(gq__nvrtc_header_names[0]);
