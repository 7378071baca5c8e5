/* SPDX-License-Identifier: Apache-2.0 */
/* run_options.c - the command line of `gpuq run`: help, defaults and ranges. */
#define _GNU_SOURCE
#include "cli.h"
#include "run.h"

#include <getopt.h>
#include <stdio.h>
#include <string.h>

#define DEFAULT_SLOTS      1024u
#define DEFAULT_SLOT_BYTES 4096u
#define MIN_RESULT_BYTES   4096u /* of the default: a digest is longer than a one-byte message */

/* Unless the user says so, slots and results together take no more than this. */
#define DEFAULT_MEMORY_BYTES ((uint64_t)256 << 20)

const char run_help[] =
	"Usage: gpuq run --processor NAME|PATH [OPTION...] FILE...\n"
	"\n"
	"Cut files into messages, process each, and write one result per message to the\n"
	"standard output. FILE is a path, or '-' for the standard input. Input of any\n"
	"size is streamed in bounded memory.\n"
	"\n"
	"  -p, --processor NAME|PATH  what to run: a name ('gpuq processors' lists them),\n"
	"                       or the path of a shared object, or of a CUDA source\n"
	"                       (.cu), which is compiled for the GPU first\n"
	"      --data FILE      the processor's data: weights, tables, a matrix\n"
	"  -s, --split HOW      lines, files, or a number of bytes (default: lines)\n"
	"                         lines  a line without its newline; a last line without\n"
	"                                one counts\n"
	"                         files  each FILE is one message\n"
	"                         BYTES  pieces of that size, 1 to 16M; the last piece of\n"
	"                                a file may be shorter\n"
	"  -d, --device DEVICE  auto, cpu or cuda (default: auto)\n"
	"      --slots N        messages in the queue at the same time, a power of two,\n"
	"                       1 to 1M (default: 1024; less if slots and results would\n"
	"                       take more than 256 MiB)\n"
	"      --slot-bytes N   largest message, 1 to 16M (default: the piece size with\n"
	"                       --split BYTES, else 4096)\n"
	"      --result-bytes N largest result, 1 to 16M (default: the larger of\n"
	"                       --slot-bytes and 4096)\n"
	"  -c, --consumers N    CPU threads or GPU blocks, 1 to 1024 (default: the\n"
	"                       device's)\n"
	"      --order ORDER    input: results in the order of their messages;\n"
	"                       completion: as they come (default: input)\n"
	"  -f, --format FORMAT  hex: a line of lowercase hex per result; text: the result\n"
	"                       and a newline; raw: the result only (default: hex)\n"
	"      --progress WHEN  auto, always or never; auto: when the standard error is a\n"
	"                       terminal and the input is not (default: auto)\n"
	"      --trace FILE     record when each message was where: a trace for Perfetto,\n"
	"                       and percentiles in the summary\n"
	"  -q, --quiet          no progress bar and no summary\n"
	"  -h, --help           show this text\n"
	"\n"
	"Numbers of bytes and slots may end in K or M (1024, 1024^2).\n"
	"\n"
	"A message that fails (too long for its slot, refused by the processor, with\n"
	"--split files also a file that cannot be read) is named on the standard error;\n"
	"hex and text have an empty line in its place, raw has nothing. The rest goes on.\n"
	"\n"
	"SIGINT, SIGTERM and SIGHUP end the input: messages in the queue are finished and\n"
	"their results written. A second one ends the program at once.\n"
	"\n"
	"Exit codes:\n"
	"  0    everything was done\n"
	"  1    some messages failed, or a file could not be read\n"
	"  2    wrong usage\n"
	"  3    the output, or the trace, could not be written\n"
	"  4    the queue could not be created: no such processor or device, no memory\n"
	"  5    the queue failed while running\n"
	"  129, 130, 143  interrupted by SIGHUP, SIGINT, SIGTERM\n"
	"  141  whoever read the output has gone\n";

enum {
	OPT_DATA = 256,
	OPT_TRACE,
	OPT_SLOTS,
	OPT_SLOT_BYTES,
	OPT_RESULT_BYTES,
	OPT_ORDER,
	OPT_PROGRESS,
};

static const struct option long_options[] = {
	{ "processor", required_argument, NULL, 'p' },
	{ "data", required_argument, NULL, OPT_DATA },
	{ "split", required_argument, NULL, 's' },
	{ "device", required_argument, NULL, 'd' },
	{ "slots", required_argument, NULL, OPT_SLOTS },
	{ "slot-bytes", required_argument, NULL, OPT_SLOT_BYTES },
	{ "result-bytes", required_argument, NULL, OPT_RESULT_BYTES },
	{ "consumers", required_argument, NULL, 'c' },
	{ "order", required_argument, NULL, OPT_ORDER },
	{ "format", required_argument, NULL, 'f' },
	{ "progress", required_argument, NULL, OPT_PROGRESS },
	{ "trace", required_argument, NULL, OPT_TRACE },
	{ "quiet", no_argument, NULL, 'q' },
	{ "help", no_argument, NULL, 'h' },
	{ NULL, 0, NULL, 0 },
};

/* One of a few words: its index goes to *out. */
static int parse_word(const char *option, const char *text, const char *const *words, size_t count,
		      const char *expected, uint32_t *out)
{
	for (size_t i = 0; i < count; i++) {
		if (strcmp(text, words[i]) == 0) {
			*out = (uint32_t)i;
			return CLI_OK;
		}
	}
	return usage_error("run", "%s is '%s', must be %s", option, text, expected);
}

static int parse_number(const char *option, const char *text, uint32_t most, const char *range,
			uint32_t *out)
{
	uint64_t value;

	if (!parse_size(text, &value) || value < 1 || value > most)
		return usage_error("run", "%s is '%s', must be %s", option, text, range);
	*out = (uint32_t)value;
	return CLI_OK;
}

static int parse_split(const char *text, struct run_options *out)
{
	uint64_t value;

	if (strcmp(text, "lines") == 0) {
		out->split = SPLIT_LINES;
		return CLI_OK;
	}
	if (strcmp(text, "files") == 0) {
		out->split = SPLIT_FILES;
		return CLI_OK;
	}
	if (!parse_size(text, &value) || value < 1 || value > Q_MAX_SLOT_BYTES)
		return usage_error("run", "--split is '%s', must be lines, files, or 1 to 16M",
				   text);
	out->split = SPLIT_BYTES;
	out->piece_bytes = (uint32_t)value;
	return CLI_OK;
}

static int parse_slots(const char *text, struct run_options *out)
{
	static const char range[] = "a power of two, 1 to 1048576 (1M)";
	uint32_t value = 0;
	const int code = parse_number("--slots", text, Q_MAX_CAPACITY, range, &value);

	if (code != CLI_OK)
		return code;
	if ((value & (value - 1)) != 0)
		return usage_error("run", "--slots is '%s', must be %s", text, range);
	out->slots = value;
	return CLI_OK;
}

static int parse_option(int option, const char *text, struct run_options *out)
{
	static const char *const devices[] = { "auto", "cpu", "cuda" };
	static const char *const orders[] = { "input", "completion" };
	static const char *const formats[] = { "hex", "raw", "text" };
	static const char *const progress[] = { "auto", "always", "never" };
	static const char bytes_range[] = "1 to 16777216 (16M)";
	uint32_t word = 0;
	int code = CLI_OK;

	switch (option) {
	case 'p':
		out->processor = text;
		break;
	case OPT_DATA:
		out->data_path = text;
		break;
	case 's':
		return parse_split(text, out);
	case 'd': /* in the order of Q_DEVICE_* */
		return parse_word("--device", text, devices, 3, "auto, cpu or cuda", &out->device);
	case OPT_SLOTS:
		return parse_slots(text, out);
	case OPT_SLOT_BYTES:
		return parse_number("--slot-bytes", text, Q_MAX_SLOT_BYTES, bytes_range,
				    &out->slot_bytes);
	case OPT_RESULT_BYTES:
		return parse_number("--result-bytes", text, Q_MAX_SLOT_BYTES, bytes_range,
				    &out->result_bytes);
	case 'c':
		return parse_number("--consumers", text, Q_MAX_CONSUMERS, "1 to 1024",
				    &out->consumers);
	case OPT_ORDER:
		code = parse_word("--order", text, orders, 2, "input or completion", &word);
		out->order = (enum run_order)word;
		break;
	case 'f':
		code = parse_word("--format", text, formats, 3, "hex, raw or text", &word);
		out->format = (enum output_format)word;
		break;
	case OPT_PROGRESS:
		code = parse_word("--progress", text, progress, 3, "auto, always or never", &word);
		out->progress = (enum run_progress)word;
		break;
	case OPT_TRACE:
		if (text[0] == '\0')
			return usage_error("run", "--trace is empty, must be a path");
		out->trace_path = text;
		break;
	case 'q':
		out->quiet = true;
		break;
	default:
		out->help = true;
		break;
	}
	return code;
}

static int fill_defaults(struct run_options *o)
{
	if (o->slot_bytes == 0)
		o->slot_bytes = o->split == SPLIT_BYTES ? o->piece_bytes : DEFAULT_SLOT_BYTES;
	if (o->split == SPLIT_BYTES && o->slot_bytes < o->piece_bytes)
		return usage_error("run", "--slot-bytes is %u, must be at least the %u of --split",
				   o->slot_bytes, o->piece_bytes);
	if (o->result_bytes == 0)
		o->result_bytes =
			o->slot_bytes > MIN_RESULT_BYTES ? o->slot_bytes : MIN_RESULT_BYTES;
	if (o->slots == 0) {
		o->slots = DEFAULT_SLOTS;
		while (o->slots * ((uint64_t)o->slot_bytes + o->result_bytes) >
		       DEFAULT_MEMORY_BYTES)
			o->slots /= 2;
	}
	return CLI_OK;
}

int run_parse(int argc, char **argv, struct run_options *out)
{
	int option;

	*out = (struct run_options){ .split = SPLIT_LINES };
	opterr = 0;
	while ((option = getopt_long(argc, argv, ":p:s:d:c:f:qh", long_options, NULL)) != -1) {
		int code;

		if (option == '?' || option == ':')
			return option_error("run", option, argv);
		code = parse_option(option, optarg, out);
		if (code != CLI_OK)
			return code;
		if (out->help)
			return CLI_OK;
	}
	out->files = argv + optind;
	out->file_count = (size_t)(argc - optind);
	if (!out->processor)
		return usage_error("run", "--processor is required ('gpuq processors' lists them)");
	if (out->processor[0] == '\0')
		return usage_error("run", "--processor is empty, must be a name or a path");
	if (out->file_count == 0)
		return usage_error("run", "no FILE given; '-' is the standard input");
	if (out->file_count > UINT32_MAX)
		return usage_error("run", "too many files");
	return fill_defaults(out);
}
