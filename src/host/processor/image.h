/* SPDX-License-Identifier: Apache-2.0 */
/* image.h - processor images: what a name means, the built-in ones, checking and taking one. */
#ifndef GPUQ_PROCESSOR_IMAGE_H
#define GPUQ_PROCESSOR_IMAGE_H

#include "host/processor/processor.h"

/* The processors that the library ships. */
enum { GQ_BUILT_IN = 4 };
extern const QProcessorImage *const gq__built_in[GQ_BUILT_IN];

/* A file that holds an image for a GPU and nothing else. */
bool gq__names_image(const char *name);
/* CUDA source, which the CUDA device compiles when it is opened. */
bool gq__names_source(const char *name);
/* A file of any kind, in place of a processor that is linked or built in. */
bool gq__names_path(const char *name);

struct gq_hint {
	char text[96];
};
/* The end of an error message about a name that nothing was found for: if it has no '/', and is
 * that of a file in the current folder, how to write the path. Else "". */
struct gq_hint gq__file_here(const char *name);

/* Whether an image fits this library; if not, q_last_error() says why. @param where  to be named */
bool gq__image_check(const QProcessorImage *image, const char *where);
/* Copy a checked image. @param library  what holds it, kept loaded; or NULL */
void gq__image_take(const QProcessorImage *image, void *library, struct gq_processor *out);

/* load.c: from a shared object; from a file with an image for a GPU, or with source. */
bool gq__load_library(const char *path, struct gq_processor *out);
/* Whether the path may be that of a shared object; nothing of it is run. */
bool gq__check_library(const char *path);
bool gq__load_file(const char *path, struct gq_processor *out);

/* registry.c: linked into the program, or built in. `name` NULL: the default. */
bool gq__find_linked(const char *name, struct gq_processor *out);

#endif /* GPUQ_PROCESSOR_IMAGE_H */
