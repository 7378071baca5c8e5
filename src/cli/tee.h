/* SPDX-License-Identifier: Apache-2.0 */
/* tee.h - `gpuq run --tee`: results go to several outputs, each at its own speed. */
#ifndef GPUQ_CLI_TEE_H
#define GPUQ_CLI_TEE_H

#include "output.h"

#include <gpuq/pipe.h>

#include <stdbool.h>
#include <stddef.h>

#define TEE_OUTPUTS 64 /* --tee may be given so often */

/* What the options say. */
struct tee_options {
	const char *paths[TEE_OUTPUTS];
	size_t count;
	PipeConfig pipe;
};

struct tee;

/*
 * Open the files, without changing them. *out stays NULL where there is no --tee.
 * Returns CLI_OK, or an exit code: it has been said why.
 */
int tee_open(const struct tee_options *o, struct tee **out);

/* The descriptor of the n-th file, for who wants to know which file that is. */
int tee_fd(const struct tee *t, size_t n);

/* The run ends before it begins: close all files but the output's own, and remove those that were
 * not there before. */
void tee_take_back(struct tee *t);

/* Empty the files, and let `output` write to all of them and to its own descriptor from now on.
 * Likewise. */
int tee_start(struct tee *t, struct output *output);

/*
 * Wait until all is written, and close the files. What went wrong with the output's own descriptor
 * is then in output->error. False: one of the files is not complete; it has been said why.
 */
bool tee_finish(struct tee *t, struct output *output);

/* NULL does nothing. */
void tee_free(struct tee *t);

#endif /* GPUQ_CLI_TEE_H */
