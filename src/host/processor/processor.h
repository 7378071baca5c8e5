/* SPDX-License-Identifier: Apache-2.0 */
/* processor.h - finding the processor a configuration asks for. */
#ifndef GPUQ_PROCESSOR_PROCESSOR_H
#define GPUQ_PROCESSOR_PROCESSOR_H

#include <stdbool.h>

#include <gpuq/processor.h>

struct gq_processor {
	QProcessorImage image; /* checked copy */
	char name[64];
	const void *device[3]; /* images for a GPU, by granularity; NULL: none */
	void *file;            /* an image read from a file, which says its granularity itself */
	size_t file_bytes;
	bool is_source; /* `file` is not an image yet, but CUDA source, a string */
	void *library;  /* the shared object that holds it, kept loaded; or NULL */
};

/*
 * Find a processor: `name` NULL or "" is the one that the program links; with a '/' or ending in
 * ".so" it is a shared object's path, an image's for a GPU (.fatbin, .cubin, .ptx), or a CUDA
 * source's (.cu), which is read here and compiled by the device; else a name, of one the program
 * links or one of ours.
 *
 * @return false, with q_last_error() set, when there is none or it does not fit this library.
 */
bool gq__find_processor(const char *name, struct gq_processor *out);
/*
 * Whether `name`, not empty, finds a processor, as far as that is known without running code of a
 * file: of a shared object's path, that it is a file of the ELF format which can be read. One that
 * the loader would search for is taken for there.
 * @param on_cpu  whether it is for the CPU device
 * @return false, with q_last_error() set
 */
bool gq__check_processor(const char *name, bool on_cpu);
void gq__close_processor(struct gq_processor *processor);

/* The shared object of an address, kept loaded; NULL: there is none to be kept. */
void *gq__keep_loaded(const void *address);
void gq__let_go(void *library);

#endif /* GPUQ_PROCESSOR_PROCESSOR_H */
