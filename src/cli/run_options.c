/* SPDX-License-Identifier: Apache-2.0 */
/* run_options.c - the command line of `gpuq run`: options and their ranges. */
#define _GNU_SOURCE
#include "run_options.h"

#include "cli.h"
#include "policy.h"

#include <gpuq/gpuq.h>

#include <getopt.h>
#include <stdio.h>
#include <string.h>

enum {
	OPT_DATA = 256,
	OPT_TRACE,
	OPT_SLOTS,
	OPT_SLOT_BYTES,
	OPT_RESULT_BYTES,
	OPT_ORDER,
	OPT_PROGRESS,
	OPT_LIST,
	OPT_NAMES,
	OPT_SKIP_EMPTY,
	OPT_SUMMARY,
	OPT_JSON,
	OPT_TEE,
	OPT_TEE_POLICY,
	OPT_TEE_BYTES,
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
	{ "null", no_argument, NULL, '0' },
	{ "files0-from", required_argument, NULL, OPT_LIST },
	{ "output", required_argument, NULL, 'o' },
	{ "tee", required_argument, NULL, OPT_TEE },
	{ "tee-policy", required_argument, NULL, OPT_TEE_POLICY },
	{ "tee-bytes", required_argument, NULL, OPT_TEE_BYTES },
	{ "names", no_argument, NULL, OPT_NAMES },
	{ "skip-empty", no_argument, NULL, OPT_SKIP_EMPTY },
	{ "summary", no_argument, NULL, OPT_SUMMARY },
	{ "json", no_argument, NULL, OPT_JSON },
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

	out->split_text = text;
	if (strcmp(text, "lines") == 0) {
		out->split = SPLIT_LINES;
		return CLI_OK;
	}
	if (strcmp(text, "nul") == 0) {
		out->split = SPLIT_NUL;
		return CLI_OK;
	}
	if (strcmp(text, "files") == 0) {
		out->split = SPLIT_FILES;
		return CLI_OK;
	}
	if (!parse_size(text, &value) || value < 1 || value > Q_MAX_SLOT_BYTES)
		return usage_error("run", "--split is '%s', must be lines, nul, files, or 1 to 16M",
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

static int parse_path(const char *option, const char *text, const char **out)
{
	if (text[0] == '\0')
		return usage_error("run", "%s is empty, must be a path", option);
	*out = text;
	return CLI_OK;
}

static int parse_tee(const char *text, struct tee_options *out)
{
	if (out->count == TEE_OUTPUTS)
		return usage_error("run", "--tee is given more than %d times", TEE_OUTPUTS);
	return parse_path("--tee", text, &out->paths[out->count++]);
}

/* Options whose value is one of a few words. */
static int parse_choice(int option, const char *text, struct run_options *out)
{
	static const char *const devices[] = { "auto", "cpu", "cuda" };
	static const char *const orders[] = { "input", "completion" };
	static const char *const formats[] = { "hex", "raw", "text" };
	static const char *const progress[] = { "auto", "always", "never" };
	uint32_t word = 0;
	int code;

	switch (option) {
	case 'd': /* in the order of Q_DEVICE_* */
		return parse_word("--device", text, devices, 3, "auto, cpu or cuda", &out->device);
	case OPT_ORDER:
		code = parse_word("--order", text, orders, 2, "input or completion", &word);
		out->order = (enum run_order)word;
		return code;
	case 'f':
		code = parse_word("--format", text, formats, 3, "hex, raw or text", &word);
		out->format = (enum output_format)word;
		return code;
	default:
		code = parse_word("--progress", text, progress, 3, "auto, always or never", &word);
		out->progress = (enum run_progress)word;
		return code;
	}
}

/* Options without a value. */
static int parse_flag(int option, struct run_options *out)
{
	switch (option) {
	case '0':
		out->null = true;
		break;
	case OPT_NAMES:
		out->names = true;
		break;
	case OPT_SKIP_EMPTY:
		out->skip_empty = true;
		break;
	case OPT_SUMMARY:
		out->summary = true;
		break;
	case OPT_JSON:
		out->json = true;
		break;
	case 'q':
		out->quiet = true;
		break;
	default:
		out->help = true;
		break;
	}
	return CLI_OK;
}

static int parse_option(int option, const char *text, struct run_options *out)
{
	static const char bytes_range[] = "1 to 16777216 (16M)";

	switch (option) {
	case 'p':
		out->processor = text;
		return CLI_OK;
	case OPT_DATA:
		out->data_path = text;
		return CLI_OK;
	case 's':
		return parse_split(text, out);
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
	case OPT_TRACE:
		return parse_path("--trace", text, &out->trace_path);
	case OPT_TEE:
		return parse_tee(text, &out->tee);
	case OPT_TEE_POLICY:
		out->tee_how = "--tee-policy";
		return parse_policy("run", "--tee-policy", text, &out->tee.pipe.policy);
	case OPT_TEE_BYTES:
		out->tee_how = "--tee-bytes";
		return parse_pipe_bytes("run", "--tee-bytes", text, &out->tee.pipe.max_bytes);
	case OPT_LIST:
		return parse_path("--files0-from", text, &out->list_path);
	case 'o':
		return parse_path("--output", text, &out->output_path);
	case 'd':
	case 'f':
	case OPT_ORDER:
	case OPT_PROGRESS:
		return parse_choice(option, text, out);
	default:
		return parse_flag(option, out);
	}
}

/* What only all options together can be wrong in. */
static int check_options(const struct run_options *o)
{
	if (!o->processor)
		return usage_error("run", "--processor is required ('gpuq processors' lists them)");
	if (o->processor[0] == '\0')
		return usage_error("run", "--processor is empty, must be a name or a path");
	if (o->null && o->split_text && o->split != SPLIT_NUL)
		return usage_error("run", "--null is the same as --split nul, but --split is '%s'",
				   o->split_text);
	if (o->list_path && o->file_count > 0)
		return usage_error("run", "FILE is '%s', but --files0-from names the files",
				   o->files[0]);
	if (o->file_count > UINT32_MAX)
		return usage_error("run", "too many files");
	if (o->tee_how && o->tee.count == 0)
		return usage_error("run", "%s needs --tee, which is not given", o->tee_how);
	if (o->names && o->format == OUTPUT_RAW)
		return usage_error("run", "--names needs lines, which --format raw does not have");
	if (o->split == SPLIT_BYTES && o->slot_bytes != 0 && o->slot_bytes < o->piece_bytes)
		return usage_error("run", "--slot-bytes is %u, must be at least the %u of --split",
				   o->slot_bytes, o->piece_bytes);
	return CLI_OK;
}

int run_parse(int argc, char **argv, struct run_options *out)
{
	static char *const standard_input[] = { "-" };
	int option;

	*out = (struct run_options){ .split = SPLIT_LINES, .tee.pipe.policy = Q_PIPE_WAIT };
	opterr = 0;
	while ((option = getopt_long(argc, argv, ":p:s:d:c:f:o:0qh", long_options, NULL)) != -1) {
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
	if (check_options(out) != CLI_OK)
		return CLI_USAGE;
	if (out->null)
		out->split = SPLIT_NUL;
	if (out->file_count == 0 && !out->list_path) {
		out->files = standard_input;
		out->file_count = 1;
	}
	return CLI_OK;
}
