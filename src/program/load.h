/* SPDX-License-Identifier: Apache-2.0 */
/* load.h - a whole file in memory. */
#ifndef GPUQ_PROGRAM_LOAD_H
#define GPUQ_PROGRAM_LOAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/**
 * The whole of a file, with a NUL behind it that does not count. "-" is the standard input if
 * `dash` says so.
 * @param option  the option that named it, for what is said when it cannot be read
 * @return to be freed; NULL: it has been said why
 */
uint8_t *load_file(const char *option, const char *path, bool dash, size_t *out_bytes);

#endif /* GPUQ_PROGRAM_LOAD_H */
