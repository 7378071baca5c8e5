/* SPDX-License-Identifier: Apache-2.0 */
/* standard.c - the standard descriptors, and why the standard output could not be written. */
#define _GNU_SOURCE
#include "program.h"
#include "write_out.h"

#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

/* errno of the first write to the standard output that failed; 0: none has. Standard streams do not
 * keep it: a write may fail within printf(), long before somebody asks. */
static atomic_int output_error;

static void note_error(int error)
{
	int none = 0;

	(void)atomic_compare_exchange_strong(&output_error, &none, error != 0 ? error : EIO);
}

static ssize_t write_output(void *cookie, const char *bytes, size_t n)
{
	const int error = write_out(STDOUT_FILENO, bytes, n);

	(void)cookie;
	if (error == 0)
		return (ssize_t)n;
	note_error(error);
	return 0; /* an error of the stream */
}

static bool take_over_stdout(void)
{
	FILE *stream = fopencookie(NULL, "w", (cookie_io_functions_t){ .write = write_output });

	if (!stream)
		return false;
	if (isatty(STDOUT_FILENO))
		setvbuf(stream, NULL, _IOLBF, 0);
	stdout = stream;
	return true;
}

bool standard_descriptors(void)
{
	for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++) {
		const int flags = fd == STDIN_FILENO ? O_WRONLY : O_RDONLY;

		if (fcntl(fd, F_GETFD) == -1 && errno == EBADF && open("/dev/null", flags) != fd)
			return false;
	}
	return take_over_stdout();
}

int flush_output(void)
{
	/* After a failure the stream has lost its bytes, and the next time all seems well. */
	if (fflush(stdout) != 0 || ferror(stdout))
		note_error(errno); /* unless write_output() has */
	return output_error;
}

int end_output(int code)
{
	const int error = flush_output();

	if (error == EPIPE) /* SIGPIPE is ignored, else we had not come here */
		return PROGRAM_READER_GONE;
	if (error == 0)
		return code;
	warn_line("cannot write to standard output: %s", strerror(error));
	return code == 0 ? PROGRAM_OUTPUT_FAILED : code;
}
