/* SPDX-License-Identifier: Apache-2.0 */
/*
 * nvrtc_headers.c - the headers that a processor's source needs, inside the library.
 *
 * So that a source compiles at run time without the installed headers, and with those of this very
 * library. NVRTC has no system headers either; nvrtc/ has what these need of them.
 */
#include "device/cuda/driver/nvrtc.h"
#include "nvrtc_headers_root.h"

/* GQ_HEADERS_ROOT is the source tree's folder; CMakeLists.txt writes it into that header, and lists
 * these files once more, as what this one depends on. */
#define EMBED(symbol, path)                                                                        \
	__asm__(".pushsection .rodata." #symbol ",\"a\",@progbits\n"                               \
		".globl " #symbol "\n"                                                             \
		".hidden " #symbol "\n" #symbol ":\n"                                              \
		".incbin \"" GQ_HEADERS_ROOT "/" path "\"\n"                                       \
		".byte 0\n"                                                                        \
		".popsection\n");                                                                  \
	extern __attribute__((visibility("hidden"))) const char symbol[]

EMBED(gq__header_stddef, "src/device/cuda/driver/nvrtc/stddef.h");
EMBED(gq__header_stdint, "src/device/cuda/driver/nvrtc/stdint.h");
EMBED(gq__header_stdbool, "src/device/cuda/driver/nvrtc/stdbool.h");
EMBED(gq__header_processor, "include/gpuq/processor.h");
EMBED(gq__header_atomics, "src/device/protocol/atomics.h");
EMBED(gq__header_protocol, "src/device/protocol/protocol.h");
EMBED(gq__header_grid_h, "src/device/cuda/grid/grid.h");
EMBED(gq__header_lanes, "src/device/cuda/grid/lanes.cuh");
EMBED(gq__header_look, "src/device/cuda/grid/look.cuh");
EMBED(gq__header_message, "src/device/cuda/grid/message.cuh");
EMBED(gq__header_grid, "src/device/cuda/grid/grid.cuh");

const char *const gq__nvrtc_header_names[GQ_NVRTC_HEADERS] = {
	"stddef.h",
	"stdint.h",
	"stdbool.h",
	"gpuq/processor.h",
	"device/protocol/atomics.h",
	"device/protocol/protocol.h",
	"device/cuda/grid/grid.h",
	"device/cuda/grid/lanes.cuh",
	"device/cuda/grid/look.cuh",
	"device/cuda/grid/message.cuh",
	"device/cuda/grid/grid.cuh",
};

const char *const gq__nvrtc_header_texts[GQ_NVRTC_HEADERS] = {
	gq__header_stddef,  gq__header_stdint,   gq__header_stdbool, gq__header_processor,
	gq__header_atomics, gq__header_protocol, gq__header_grid_h,  gq__header_lanes,
	gq__header_look,    gq__header_message,  gq__header_grid,
};
