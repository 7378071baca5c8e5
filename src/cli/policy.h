/* SPDX-License-Identifier: Apache-2.0 */
/* policy.h - what options say about a pipe. */
#ifndef GPUQ_CLI_POLICY_H
#define GPUQ_CLI_POLICY_H

#include <stdint.h>

/** fail, wait, drop or evict: Q_PIPE_*. Returns CLI_OK, or CLI_USAGE: it has been said why. */
int parse_policy(const char *command, const char *option, const char *text, uint32_t *out);

/** What a pipe may keep. Likewise. */
int parse_pipe_bytes(const char *command, const char *option, const char *text, uint64_t *out);

#endif /* GPUQ_CLI_POLICY_H */
