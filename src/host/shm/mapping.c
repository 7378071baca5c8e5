/* SPDX-License-Identifier: Apache-2.0 */
/* mapping.c - what the kernel says of memory: /proc/self/maps, loaded objects, pages to be had. */
#include "host/shm/mapping.h"

#include "host/base/error.h"
#include "host/base/sys.h"

#include <errno.h>
#include <inttypes.h>
#include <link.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

/* ---- /proc/self/maps ------------------------------------------------------------------------ */

enum { LINE_ROOM = 256 }; /* all that is read of a line comes before its path's 180th byte */

static bool starts_with(const char *text, const char *with)
{
	return strncmp(text, with, strlen(with)) == 0;
}

static bool parse_line(const char *text, struct gq_mapping *m)
{
	char mode[5];
	int path = 0;

	/* The kernel's own text, never out of range. NOLINTNEXTLINE(cert-err34-c) */
	if (sscanf(text, "%" SCNx64 "-%" SCNx64 " %4s %*x %" SCNx32 ":%" SCNx32 " %" SCNu64 " %n",
		   &m->begin, &m->end, mode, &m->major, &m->minor, &m->inode, &path) < 6)
		return false;
	m->readable = mode[0] == 'r';
	m->writable = mode[1] == 'w';
	m->shared = mode[3] == 's';
	m->memfd = starts_with(text + path, "/memfd:");
	/* Those are anonymous memory, which the kernel keeps in a file that cannot be opened. */
	m->of_file = m->inode != 0 && !starts_with(text + path, "/dev/zero") &&
		     !starts_with(text + path, "/anon_hugepage");
	return true;
}

/* Read the next line; a long one loses its end. */
static bool read_line(FILE *file, char *text)
{
	if (fgets(text, LINE_ROOM, file) == NULL)
		return false;
	if (strchr(text, '\n') == NULL)
		for (int c = getc(file); c != '\n' && c != EOF; c = getc(file))
			;
	return true;
}

FILE *gq__mappings_open(void)
{
	return fopen("/proc/self/maps", "re");
}

bool gq__mappings_next(FILE *file, struct gq_mapping *out)
{
	char text[LINE_ROOM];

	while (read_line(file, text))
		if (parse_line(text, out))
			return true;
	return false;
}

/* ---- loaded objects ------------------------------------------------------------------------- */

static uint64_t page_bytes(void)
{
	return (uint64_t)sysconf(_SC_PAGESIZE);
}

static int is_of_object(struct dl_phdr_info *info, size_t size, void *arg)
{
	const struct gq_mapping *m = arg;
	const uint64_t page = page_bytes();

	(void)size;
	for (int i = 0; i < info->dlpi_phnum; i++) {
		const uint64_t begin = info->dlpi_addr + info->dlpi_phdr[i].p_vaddr;
		const uint64_t end = begin + info->dlpi_phdr[i].p_memsz;

		if (info->dlpi_phdr[i].p_type == PT_LOAD && m->begin >= begin / page * page &&
		    m->end <= (end + page - 1) / page * page)
			return 1;
	}
	return 0;
}

bool gq__mapping_is_loaded(const struct gq_mapping *m)
{
	struct gq_mapping copy = *m;

	return dl_iterate_phdr(is_of_object, &copy) != 0;
}

/* ---- memory for rings and tables ------------------------------------------------------------- */

/* @return false: a page of [begin, end) cannot be had, and touching it would raise SIGBUS. */
static bool populate(uint64_t begin, uint64_t end)
{
	const uint64_t page = page_bytes();
	void *first;
	int failed;

	begin = begin / page * page;
	end = (end + page - 1) / page * page;
	memcpy(&first, &begin, sizeof(first));
	do {
		failed = madvise(first, (size_t)(end - begin), MADV_POPULATE_WRITE);
	} while (failed != 0 && errno == EINTR);
	/* Any other error (EINVAL: an older kernel, a device's memory) tells nothing. */
	return failed == 0 || (errno != EFAULT && errno != ENOMEM && errno != EHWPOISON);
}

static QueueStatus look_at(const struct gq_mapping *m, uint64_t begin, uint64_t end, bool all)
{
	const uint64_t page = page_bytes();
	bool there;

	if (!m->readable || !m->writable)
		return gq__failf(Q_ERR_INVALID_ARG,
				 "the memory at %#" PRIx64 " cannot be read and written", begin);
	if (!m->of_file)
		return Q_OK;
	if (!m->shared)
		return gq__mapping_is_loaded(m)
			       ? Q_OK
			       : gq__failf(Q_ERR_INVALID_ARG,
					   "the memory at %#" PRIx64
					   " is a private mapping of a file: what one process "
					   "writes there no other sees; map it with MAP_SHARED",
					   begin);
	if (all || end - begin <= 2 * page)
		there = populate(begin, end);
	else
		there = populate(begin, begin + 1) && populate(end - 1, end);
	if (there)
		return Q_OK;
	return gq__failf(Q_ERR_NO_MEMORY,
			 "the memory at %#" PRIx64 " is a file's, and not all of %" PRIu64
			 " bytes can be had: the file is shorter, or its file system is full",
			 begin, end - begin);
}

QueueStatus gq__mapping_check(const void *memory, size_t bytes, bool all, bool *is_private)
{
	const uint64_t end = (uint64_t)(uintptr_t)memory + bytes;
	uint64_t covered = (uint64_t)(uintptr_t)memory;
	QueueStatus status = Q_OK;
	struct gq_mapping m;
	FILE *file;

	GQ_NO_CANCEL();
	*is_private = false;
	file = gq__mappings_open();
	if (file == NULL)
		return look_at(&(struct gq_mapping){ .readable = true,
						     .writable = true,
						     .shared = true,
						     .of_file = true },
			       covered, end, all);
	while (status == Q_OK && covered < end && gq__mappings_next(file, &m)) {
		if (m.end <= covered)
			continue;
		if (m.begin > covered)
			break;
		status = look_at(&m, covered, m.end < end ? m.end : end, all);
		*is_private |= !m.shared;
		covered = m.end;
	}
	fclose(file);
	if (status == Q_OK && covered < end)
		return gq__failf(Q_ERR_INVALID_ARG, "there is no memory at %#" PRIx64, covered);
	return status;
}
