/* SPDX-License-Identifier: Apache-2.0 */
/* label.h - which message a result belongs to, as --names writes it and sha256sum(1) reads it. */
#ifndef GPUQ_CLI_LABEL_H
#define GPUQ_CLI_LABEL_H

#include <stdbool.h>
#include <stddef.h>

/* Of the longest name that can be opened (PATH_MAX) with all of it escaped, and what may follow. */
#define LABEL_BYTES (2 * 4096 + 32)

/**
 * Write `name` to `to`, LABEL_BYTES large, with backslash, newline and carriage return as "\\",
 * "\n" and "\r", then `suffix`. A name too long for that is cut.
 * @return whether something had to be escaped: the line begins with a backslash then
 */
bool label_write(char *to, const char *name, const char *suffix);

#endif /* GPUQ_CLI_LABEL_H */
