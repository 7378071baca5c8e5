/* SPDX-License-Identifier: Apache-2.0 */
/* load.c - a processor from a file: a shared object, an image for a GPU, or CUDA source. */
#include "host/processor/image.h"

#include "host/base/error.h"
#include "host/base/fault.h"
#include "host/base/memory.h"
#include "host/base/sys.h"

#include <dlfcn.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

bool gq__load_library(const char *path, struct gq_processor *out)
{
	void *library = gq__fault() ? NULL : dlopen(path, RTLD_NOW | RTLD_LOCAL);
	const QProcessorImage *image;

	if (library == NULL) {
		const char *why = dlerror();

		gq__failf(Q_ERR_NOT_FOUND, "processor: cannot load '%s': %s%s", path,
			  why != NULL ? why : "no reason given", gq__file_here(path).text);
		return false;
	}
	image = dlsym(library, "gpuq_processor_image");
	if (image == NULL)
		gq__failf(Q_ERR_INVALID_ARG,
			  "processor: '%s' has no symbol gpuq_processor_image; build it with "
			  "gpuq_add_processor() on a MODULE library, or end its source with "
			  "Q_PROCESSOR_IMAGE(\"name\")",
			  path);
	if (image == NULL || !gq__image_check(image, path)) {
		dlclose(library);
		return false;
	}
	gq__image_take(image, library, out);
	return true;
}

bool gq__check_library(const char *path)
{
	static const char elf[4] = { 0x7f, 'E', 'L', 'F' };
	const int fd = gq_sys_open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK, 0);
	struct stat about;
	char begin[4];
	bool ok;

	if (fd < 0) {
		gq__failf(Q_ERR_NOT_FOUND, "processor: cannot load '%s': %s", path,
			  strerror(errno));
		return false;
	}
	ok = fstat(fd, &about) == 0 && S_ISREG(about.st_mode) &&
	     gq_sys_read(fd, begin, sizeof(begin)) == (ssize_t)sizeof(begin) &&
	     memcmp(begin, elf, sizeof(elf)) == 0;
	gq_sys_close(fd);
	if (!ok)
		gq__failf(Q_ERR_INVALID_ARG, "processor: '%s' is no shared object", path);
	return ok;
}

static bool read_all(int fd, char *to, size_t bytes)
{
	while (bytes != 0) {
		const ssize_t n = gq_sys_read(fd, to, bytes);

		if (n <= 0)
			return false;
		to += n;
		bytes -= (size_t)n;
	}
	return true;
}

enum { MAX_IMAGE_BYTES = 1 << 30, MAX_SOURCE_BYTES = 16 << 20 };

/* The whole file, and a zero behind it: PTX and source are strings. */
static bool read_file(int fd, const char *path, struct gq_processor *out)
{
	const off_t most = out->is_source ? MAX_SOURCE_BYTES : MAX_IMAGE_BYTES;
	struct stat about;
	size_t length;

	if (fstat(fd, &about) != 0 || !S_ISREG(about.st_mode)) {
		gq__failf(Q_ERR_INVALID_ARG, "processor: '%s' is not a file", path);
		return false;
	}
	if (about.st_size < 1 || about.st_size > most) {
		gq__failf(Q_ERR_INVALID_ARG, "processor: '%s' has %jd bytes; allowed: 1 to %jd",
			  path, (intmax_t)about.st_size, (intmax_t)most);
		return false;
	}
	length = (size_t)about.st_size;
	out->file_bytes = length + 1;
	out->file = gq__alloc(out->file_bytes, "the processor's file");
	if (out->file == NULL)
		return false;
	if (!read_all(fd, out->file, length))
		gq__failf(Q_ERR_INVALID_ARG, "processor: '%s' cannot be read", path);
	else if (out->is_source && memchr(out->file, '\0', length) != NULL)
		gq__failf(Q_ERR_INVALID_ARG, "processor: '%s' is not source: it has a zero byte",
			  path);
	else
		return true;
	gq__free(out->file, out->file_bytes);
	out->file = NULL;
	return false;
}

/* An image for a GPU, or source, by path; its name is the file's, without folder and extension. */
bool gq__load_file(const char *path, struct gq_processor *out)
{
	const char *slash = strrchr(path, '/'), *name = slash != NULL ? slash + 1 : path;
	/* Without O_NONBLOCK open() would wait for a writer of a pipe. */
	const int flags = O_RDONLY | O_CLOEXEC | O_NONBLOCK;
	int fd;
	bool ok;

	*out = (struct gq_processor){ .image.name = out->name,
				      .is_source = gq__names_source(path) };
	errno = EMFILE;
	fd = gq__fault() ? -1 : gq_sys_open(path, flags, 0);
	if (fd < 0) {
		gq__failf(Q_ERR_NOT_FOUND, "processor: cannot load '%s': %s", path,
			  strerror(errno));
		return false;
	}
	ok = read_file(fd, path, out);
	gq_sys_close(fd);
	snprintf(out->name, sizeof(out->name), "%.*s", (int)(strrchr(name, '.') - name), name);
	return ok;
}
