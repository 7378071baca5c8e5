/* SPDX-License-Identifier: Apache-2.0 */
/* policy.c - what options say about a pipe. */
#include "policy.h"

#include "cli.h"

#include <gpuq/pipe.h>

#include <stddef.h>
#include <string.h>

int parse_policy(const char *command, const char *option, const char *text, uint32_t *out)
{
	static const char *const words[] = { "fail", "wait", "drop", "evict" }; /* as Q_PIPE_* */

	for (uint32_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
		if (strcmp(text, words[i]) == 0) {
			*out = i;
			return CLI_OK;
		}
	}
	return usage_error(command, "%s is '%s', must be fail, wait, drop or evict", option, text);
}

int parse_pipe_bytes(const char *command, const char *option, const char *text, uint64_t *out)
{
	uint64_t value;

	if (!parse_size(text, &value) || value < 1 || value > Q_MAX_PIPE_BYTES)
		return usage_error(command, "%s is '%s', must be 1 to 1024G", option, text);
	*out = value;
	return CLI_OK;
}
