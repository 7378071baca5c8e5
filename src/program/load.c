/* SPDX-License-Identifier: Apache-2.0 */
/* load.c - a whole file in memory. */
#define _GNU_SOURCE
#include "load.h"

#include "program.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define LEAST_BYTES ((size_t)65536)

/* All that comes, in memory that grows. Returns 0 or an errno; the memory is the caller's anyway.
 */
static int read_all(int fd, uint8_t **out_data, size_t *out_bytes)
{
	size_t size = LEAST_BYTES;
	size_t used = 0;
	struct stat st;

	if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && (size_t)st.st_size > size)
		size = (size_t)st.st_size;
	for (;;) {
		ssize_t got;

		/* one byte more than is expected, to meet the end without growing; one for NUL */
		if (!*out_data || used == size + 1) {
			uint8_t *larger;

			if (*out_data)
				size *= 2;
			larger = realloc(*out_data, size + 2);
			if (!larger)
				return ENOMEM;
			*out_data = larger;
		}
		got = read(fd, *out_data + used, size + 1 - used);
		if (got == 0)
			break;
		if (got > 0)
			used += (size_t)got;
		else if (errno != EINTR)
			return errno;
	}
	(*out_data)[used] = '\0';
	*out_bytes = used;
	return 0;
}

uint8_t *load_file(const char *option, const char *path, bool dash, size_t *out_bytes)
{
	const bool standard = dash && strcmp(path, "-") == 0;
	const int fd = standard ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC);
	uint8_t *data = NULL;
	int error;

	if (fd < 0) {
		warn_line("%s %s: cannot open: %s", option, path, strerror(errno));
		return NULL;
	}
	error = read_all(fd, &data, out_bytes);
	if (!standard)
		close(fd);
	if (error == 0)
		return data;
	warn_line("%s %s: cannot read: %s", option, path, strerror(error));
	free(data);
	return NULL;
}
