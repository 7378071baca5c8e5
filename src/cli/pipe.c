/* SPDX-License-Identifier: Apache-2.0 */
/* pipe.c - `gpuq pipe`: one writer from the standard input, and readers that show what they see. */
#define _GNU_SOURCE
#include "cli.h"
#include "policy.h"

#include <gpuq/pipe.h>

#include <errno.h>
#include <getopt.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

const char pipe_help[] =
	"Usage: gpuq pipe --readers N --chunk BYTES [OPTION...]\n"
	"\n"
	"Write the standard input to a pipe of libgpuq, and show what each of its readers\n"
	"sees: a line per read, with the bytes in quotes, then how its stream ended.\n"
	"\n"
	"  -r, --readers N     readers, each in a thread of its own, 1 to 1024\n"
	"  -c, --chunk BYTES   the most that a read takes, 1 to 1M\n"
	"      --policy POLICY what a full pipe does: fail, wait (for the slowest one),\n"
	"                      drop (the oldest bytes: a reader is told, and goes on), or\n"
	"                      evict (a reader that is too slow) (default: wait)\n"
	"      --max-bytes N   bytes that are kept, 1 to 1024G (default: 64M)\n"
	"  -h, --help          show this text\n"
	"\n"
	"Numbers may end in K, M or G, the same as KiB, MiB and GiB, or in KB, MB or GB.\n"
	"\n"
	"Exit codes:\n"
	"  0  every reader has seen what the policy lets it see\n"
	"  1  the pipe was full (--policy fail), or the input could not be read\n"
	"  2  wrong usage\n"
	"  3  the output could not be written\n"
	"  4  the pipe could not be created\n";

enum { OPT_POLICY = 256, OPT_MAX_BYTES };

static const struct option long_options[] = {
	{ "readers", required_argument, NULL, 'r' },
	{ "chunk", required_argument, NULL, 'c' },
	{ "policy", required_argument, NULL, OPT_POLICY },
	{ "max-bytes", required_argument, NULL, OPT_MAX_BYTES },
	{ "help", no_argument, NULL, 'h' },
	{ NULL, 0, NULL, 0 },
};

enum { MOST_READERS = 1024, MOST_CHUNK = 1 << 20, INPUT_BYTES = 64 * 1024 };

struct options {
	PipeConfig pipe;
	uint64_t readers, chunk;
	bool help;
};

static int parse_option(int option, const char *text, struct options *out)
{
	switch (option) {
	case 'r':
		if (!parse_size(text, &out->readers) || out->readers < 1 ||
		    out->readers > MOST_READERS)
			return usage_error("pipe", "--readers is '%s', must be 1 to %d", text,
					   MOST_READERS);
		return CLI_OK;
	case 'c':
		if (!parse_size(text, &out->chunk) || out->chunk < 1 || out->chunk > MOST_CHUNK)
			return usage_error("pipe", "--chunk is '%s', must be 1 to 1048576 (1M)",
					   text);
		return CLI_OK;
	case OPT_POLICY:
		return parse_policy("pipe", "--policy", text, &out->pipe.policy);
	case OPT_MAX_BYTES:
		return parse_pipe_bytes("pipe", "--max-bytes", text, &out->pipe.max_bytes);
	default:
		out->help = true;
		return CLI_OK;
	}
}

static int parse(int argc, char **argv, struct options *out)
{
	int option, code;

	*out = (struct options){ .pipe.policy = Q_PIPE_WAIT };
	opterr = 0;
	while ((option = getopt_long(argc, argv, ":r:c:h", long_options, NULL)) != -1) {
		if (option == '?' || option == ':')
			return option_error("pipe", option, argv);
		code = parse_option(option, optarg, out);
		if (code != CLI_OK || out->help)
			return code;
	}
	if (optind < argc)
		return usage_error("pipe", "'%s' is one argument too many", argv[optind]);
	if (out->readers == 0)
		return usage_error("pipe", "--readers is required");
	if (out->chunk == 0)
		return usage_error("pipe", "--chunk is required");
	return CLI_OK;
}

/* ---- readers --------------------------------------------------------------------------------- */

struct viewer {
	PipeReader *reader;
	unsigned number;
	size_t chunk;
	uint64_t position; /* of the stream: how far it has read */
	pthread_t thread;
};

/* At most four characters a byte. */
static void show(unsigned number, const unsigned char *bytes, size_t len, char *text)
{
	char *at = text;

	for (size_t i = 0; i < len; i++) {
		const unsigned char c = bytes[i];

		if (c == '\n')
			at += sprintf(at, "\\n");
		else if (c == '"' || c == '\\')
			at += sprintf(at, "\\%c", c);
		else if (c < ' ' || c > '~')
			at += sprintf(at, "\\x%02x", c);
		else
			*at++ = (char)c;
	}
	*at = '\0';
	printf("reader %u: \"%s\"\n", number, text);
}

/* @return false: nothing more comes. */
static bool show_status(struct viewer *v, QueueStatus status)
{
	uint64_t offset = v->position;
	int error = 0;
	bool more;

	(void)q_pipe_reader_offset(v->reader, &offset);
	if (status == Q_OK)
		printf("reader %u: end after %llu bytes\n", v->number, (unsigned long long)offset);
	else if (status != Q_ERR_LAGGED && q_pipe_reader_error(v->reader, &error) == Q_OK &&
		 error != 0)
		printf("reader %u: ends with error %d after %llu bytes\n", v->number, error,
		       (unsigned long long)offset);
	else
		printf("reader %u: %s\n", v->number, q_last_error());
	/* One that is cut off gets no further, and is told the same again. */
	more = status == Q_ERR_LAGGED && offset != v->position;
	v->position = offset;
	return more;
}

/* One reader says something, and sees whether it could be written. @return false: nothing more
 * comes. */
static bool say(struct viewer *v, QueueStatus status, const unsigned char *bytes, size_t len,
		char *text)
{
	/* The stream has a lock of its own for each call; ThreadSanitizer does not see that one. */
	static pthread_mutex_t output = PTHREAD_MUTEX_INITIALIZER;
	bool more = true;

	pthread_mutex_lock(&output);
	if (len != 0)
		show(v->number, bytes, len, text);
	else
		more = show_status(v, status);
	if (flush_output() != 0)
		more = false; /* main() says why */
	pthread_mutex_unlock(&output);
	return more;
}

static void *view(void *arg)
{
	struct viewer *v = arg;
	unsigned char *bytes = malloc(v->chunk);
	char *text = malloc(4 * v->chunk + 1);
	QueueStatus status = Q_OK;
	size_t len = 0;
	bool more = bytes && text;

	if (!more)
		warn_line("reader %u: no memory", v->number);
	while (more) {
		status = q_pipe_read(v->reader, bytes, v->chunk, &len, UINT32_MAX);
		v->position += len;
		more = say(v, status, bytes, len, text);
	}
	free(text);
	free(bytes);
	q_pipe_reader_close(v->reader);
	return NULL;
}

/* ---- the writer ------------------------------------------------------------------------------ */

static int copy_input(Pipe *pipe)
{
	static char bytes[INPUT_BYTES];

	for (;;) {
		const ssize_t n = read(STDIN_FILENO, bytes, sizeof(bytes));
		QueueStatus status;

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0) {
			warn_line("cannot read the standard input: %s", strerror(errno));
			(void)q_pipe_set_error(pipe, EIO);
			return CLI_MESSAGES_FAILED;
		}
		if (n == 0)
			return CLI_OK;
		status = q_pipe_write(pipe, bytes, (size_t)n, NULL, UINT32_MAX);
		if (status == Q_ERR_BROKEN) /* all have been cut off */
			return CLI_OK;
		if (status != Q_OK) {
			warn_line("%s", status == Q_ERR_FULL
						? "the pipe is full: see --max-bytes and --policy"
						: q_last_error());
			(void)q_pipe_set_error(pipe, ENOSPC);
			return CLI_MESSAGES_FAILED;
		}
	}
}

static int run_pipe(const struct options *o, Pipe *pipe, struct viewer *viewers)
{
	int code = CLI_OK;
	size_t n = 0;

	for (; n < o->readers && code == CLI_OK; n++) {
		struct viewer *v = &viewers[n];

		*v = (struct viewer){ .number = (unsigned)n + 1, .chunk = o->chunk };
		if (q_pipe_reader_open(pipe, &v->reader) != Q_OK) {
			code = CLI_NO_QUEUE;
			break;
		}
		if (pthread_create(&v->thread, NULL, view, v) != 0) {
			q_pipe_reader_close(v->reader);
			code = CLI_NO_QUEUE;
			break;
		}
	}
	if (code != CLI_OK)
		warn_line("cannot start reader %zu", n + 1);
	else
		code = copy_input(pipe);
	(void)q_pipe_close(pipe);
	for (size_t i = 0; i < n; i++)
		pthread_join(viewers[i].thread, NULL);
	return code;
}

int cmd_pipe(int argc, char **argv)
{
	struct viewer *viewers;
	struct options options;
	Pipe *pipe = NULL;
	int code = parse(argc, argv, &options);

	if (code != CLI_OK)
		return code;
	if (options.help) {
		fputs(pipe_help, stdout);
		return CLI_OK;
	}
	/* At least one reader. NOLINTNEXTLINE(clang-analyzer-optin.portability.UnixAPI) */
	viewers = calloc(options.readers, sizeof(viewers[0]));
	if (!viewers || q_pipe_create(&options.pipe, &pipe) != Q_OK) {
		warn_line("the pipe cannot be created: %s", viewers ? q_last_error() : "no memory");
		code = CLI_NO_QUEUE;
	} else {
		code = run_pipe(&options, pipe, viewers);
	}
	q_pipe_destroy(pipe);
	free(viewers);
	return code;
}
