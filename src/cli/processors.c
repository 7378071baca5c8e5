/* SPDX-License-Identifier: Apache-2.0 */
/* processors.c - `gpuq processors`: the processors that can be named, and what they do. */
#define _GNU_SOURCE
#include "cli.h"

#include <gpuq/gpuq.h>

#include <getopt.h>
#include <stdio.h>

const char processors_help[] =
	"Usage: gpuq processors\n"
	"\n"
	"List the processors that 'gpuq run --processor NAME' knows by name. Each is opened;\n"
	"one that cannot be is listed with the reason. Any other processor is given as the\n"
	"path of a shared object, see gpuq_add_processor() and Q_PROCESSOR_IMAGE(), or of\n"
	"a CUDA source (.cu), which is compiled for the GPU first.\n"
	"\n"
	"  -h, --help  show this text\n"
	"\n"
	"Exit codes:\n"
	"  0  all of them can be opened\n"
	"  2  wrong usage\n"
	"  3  the output could not be written\n"
	"  4  one cannot be opened\n";

/* The library has no call that lists them; tests/cli checks this table against it. */
static const struct {
	const char *name;
	const char *description;
} processors[] = {
	{ "crc32c", "CRC-32C (Castagnoli) of the message, 4 bytes, little-endian" },
	{ "echo", "the message itself" },
	{ "sha256", "SHA-256 digest of the message, 32 bytes" },
	{ "vecdot", "rows of the matrix in --data with the largest dot product, index and score" },
};

static bool can_be_opened(const char *name)
{
	const QueueConfig config = { .capacity = 1, .slot_bytes = 64, .processor = name };
	GpuQueue *queue = q_init(&config);

	q_shutdown(queue);
	return queue != NULL;
}

int cmd_processors(int argc, char **argv)
{
	static const struct option options[] = {
		{ "help", no_argument, NULL, 'h' },
		{ NULL, 0, NULL, 0 },
	};
	int code = CLI_OK;
	int option;

	opterr = 0;
	while ((option = getopt_long(argc, argv, ":h", options, NULL)) != -1) {
		if (option != 'h')
			return option_error("processors", option, argv);
		fputs(processors_help, stdout);
		return CLI_OK;
	}
	if (optind < argc)
		return usage_error("processors", "no argument expected, but got '%s'",
				   argv[optind]);
	for (size_t i = 0; i < sizeof(processors) / sizeof(processors[0]); i++) {
		printf("%-8s %s\n", processors[i].name, processors[i].description);
		if (!can_be_opened(processors[i].name)) {
			printf("         cannot be opened: %s\n", q_last_error());
			code = CLI_NO_QUEUE;
		}
	}
	return code;
}
