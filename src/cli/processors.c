/* SPDX-License-Identifier: Apache-2.0 */
/* processors.c - `gpuq processors`: the processors that can be named, and what they do. */
#define _GNU_SOURCE
#include "processors.h"

#include "../../kernels/pieces.h"
#include "../../kernels/vecdot.h"
#include "cli.h"

#include <gpuq/gpuq.h>

#include <getopt.h>
#include <stdio.h>
#include <string.h>

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

/*
 * Every message of a matrix with a wrong header fails: we look before the first.
 */
static const char *check_vecdot_data(const void *data, size_t bytes)
{
	VecdotHeader header;

	if (bytes < sizeof(header))
		return "is shorter than the 64 bytes of a matrix's header";
	memcpy(&header, data, sizeof(header));
	if (header.magic != Q_VECDOT_MAGIC || header.version != Q_VECDOT_VERSION)
		return "does not begin as a matrix of version 1 does";
	if (header.dim == 0 || header.k == 0 || header.k > Q_VECDOT_MAX_K)
		return "has a header whose dim is 0, or whose k is not 1 to 64";
	if ((bytes - sizeof(header)) / sizeof(float) / header.dim < header.rows)
		return "has fewer floats than its header says";
	for (size_t i = 0; i < sizeof(header.reserved) / sizeof(header.reserved[0]); i++) {
		if (header.reserved[i] != 0)
			return "has a header whose last eleven words are not zero";
	}
	return NULL;
}

/* The library has no call that lists them; tests/cli checks this table against it. */
static const struct named_processor processors[] = {
	{
		.name = "crc32c",
		.description = "CRC-32C (Castagnoli) of the message, 4 bytes, little-endian",
		.state_bytes = CRC32C_STATE_BYTES,
		.piece_multiple = 1,
	},
	{ .name = "echo", .description = "the message itself" },
	{
		.name = "sha256",
		.description = "SHA-256 digest of the message, 32 bytes",
		.state_bytes = SHA256_STATE_BYTES,
		.piece_multiple = SHA256_PIECE_MULTIPLE,
	},
	{
		.name = "vecdot",
		.description = "rows of the matrix in --data with the largest dot product, index "
			       "and score",
		.check_data = check_vecdot_data,
	},
};

const struct named_processor *find_processor(const char *name)
{
	for (size_t i = 0; i < sizeof(processors) / sizeof(processors[0]); i++) {
		if (strcmp(processors[i].name, name) == 0)
			return &processors[i];
	}
	return NULL;
}

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
	static const struct option_set set = {
		.command = "processors", .help = processors_help, .shorts = ":h", .longs = options
	};
	int code;

	if (!options_read(&set, argc, argv, NULL, &code))
		return code;
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
