/* SPDX-License-Identifier: Apache-2.0 */
/* backing.c - what the kernel knows of a region's memory: mappings and seals. */
#include "host/region/region.h"

#include "host/base/error.h"
#include "host/base/fault.h"
#include "host/base/memory.h"
#include "host/base/sys.h"
#include "host/shm/mapping.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

/* Without SHRINK, cutting the file and growing it again would write zeros over it (and readers in
 * between would get SIGBUS). */
#define UNCHANGING  (F_SEAL_WRITE | F_SEAL_SHRINK)
#define UNRESIZABLE (F_SEAL_SHRINK | F_SEAL_GROW)

/* ---- mappings ------------------------------------------------------------------------------- */

static QueueStatus cannot_find_out(const char *path)
{
	return gq__failf(Q_ERR_UNSUPPORTED,
			 "whether the memory can still be written cannot be found out: %s: %s",
			 path, strerror(errno));
}

/* ---- seals ---------------------------------------------------------------------------------- */

/* Whether the mapping's file is sealed, by a descriptor that this process has of it. */
static QueueStatus check_sealed(const struct gq_mapping *m)
{
	const struct dirent *entry;
	bool found = false, sealed = false;
	DIR *dir = NULL;

	errno = EMFILE;
	if (!gq__fault())
		dir = opendir("/proc/self/fd");
	if (dir == NULL)
		return cannot_find_out("/proc/self/fd");
	while (!sealed && (entry = readdir(dir)) != NULL) {
		struct stat st;
		char *end;
		int fd = (int)strtol(entry->d_name, &end, 10), seals;

		if (end == entry->d_name || fstat(fd, &st) != 0 || st.st_ino != m->inode ||
		    st.st_dev != makedev(m->major, m->minor))
			continue;
		found = true;
		seals = fcntl(fd, F_GET_SEALS);
		sealed = seals >= 0 && (seals & UNCHANGING) == UNCHANGING;
	}
	closedir(dir);
	if (sealed)
		return Q_OK;
	return gq__failf(Q_ERR_POLICY,
			 "base is in %s at %#" PRIx64 " that can still be written: %s; immutable "
			 "needs a memfd with F_SEAL_WRITE and F_SEAL_SHRINK",
			 m->shared  ? "shared memory"
			 : m->memfd ? "a private mapping of a memfd"
				    : "a private mapping of a file",
			 m->begin,
			 found ? "it is not sealed"
			       : "this process has no descriptor of it open that could tell");
}

static QueueStatus look_at_lines(FILE *file, uint64_t base, uint64_t size, RegionPolicy policy,
				 bool *shared)
{
	const bool append = policy == Q_REGION_APPEND_ONLY;
	const uint64_t end = base + size;
	uint64_t covered = base;
	struct gq_mapping m;

	while (covered < end && gq__mappings_next(file, &m)) {
		if (m.end <= covered)
			continue;
		if (m.begin > covered || !m.readable || (append && !m.writable))
			break;
		/* A private mapping of a file also shows what other processes write there. */
		if (policy == Q_REGION_IMMUTABLE &&
		    (m.shared || (m.of_file && !gq__mapping_is_loaded(&m)))) {
			QueueStatus status = check_sealed(&m);

			if (status != Q_OK)
				return status;
		}
		if (!m.shared)
			*shared = false;
		covered = m.end;
	}
	if (covered >= end)
		return Q_OK;
	return gq__failf(Q_ERR_INVALID_ARG,
			 "base and size are %#" PRIx64 " and %" PRIu64
			 "; there is no %s memory at %#" PRIx64,
			 base, size, append ? "writable" : "readable", covered);
}

QueueStatus gq__region_look_at_memory(const void *base, uint64_t size, RegionPolicy policy,
				      bool *shared)
{
	FILE *file = NULL;
	QueueStatus status;

	GQ_NO_CANCEL();
	*shared = true;
	errno = EMFILE;
	if (!gq__fault())
		file = gq__mappings_open();
	if (file == NULL)
		return cannot_find_out("/proc/self/maps");
	status = look_at_lines(file, (uint64_t)(uintptr_t)base, size, policy, shared);
	fclose(file);
	return status;
}

/* ---- memfds --------------------------------------------------------------------------------- */

static QueueStatus seal(int fd, RegionPolicy policy)
{
	const int needed = policy == Q_REGION_IMMUTABLE ? UNCHANGING | F_SEAL_GROW : UNRESIZABLE;
	int seals = fcntl(fd, F_GET_SEALS);

	if (seals < 0)
		return gq__failf(Q_ERR_POLICY, "fd is %d: it could not be sealed: not a memfd (%s)",
				 fd, strerror(errno));
	if ((seals & needed) == needed || fcntl(fd, F_ADD_SEALS, needed) == 0)
		return Q_OK;
	return gq__failf(Q_ERR_POLICY, "fd is %d: it could not be sealed: %s", fd,
			 errno == EBUSY   ? "somebody has it mapped writable"
			 : errno != EPERM ? strerror(errno)
			 : (seals & F_SEAL_SEAL) != 0
				 ? "it is sealed against further seals (MFD_ALLOW_SEALING?)"
				 : "it is open for reading only");
}

QueueStatus gq__region_seal_fd(int fd, RegionPolicy policy, uint64_t *size)
{
	struct stat st;
	QueueStatus status;

	GQ_NO_CANCEL();
	if (fstat(fd, &st) != 0)
		return gq__failf(Q_ERR_INVALID_ARG, "fd is %d: %s", fd, strerror(errno));
	if (S_ISREG(st.st_mode) && st.st_size == 0)
		return gq__failf(Q_ERR_INVALID_ARG, "fd is %d: the file is empty", fd);
	status = seal(fd, policy);
	if (status != Q_OK)
		return status;
	if (fstat(fd, &st) != 0 || st.st_size <= 0) /* from here on it keeps its size */
		return gq__failf(Q_ERR_INVALID_ARG, "fd is %d: the file is empty", fd);
	*size = (uint64_t)st.st_size;
	return Q_OK;
}

QueueStatus gq__region_map_fd(int fd, RegionPolicy policy, void *base, uint64_t size)
{
	const bool immutable = policy == Q_REGION_IMMUTABLE;
	void *at = MAP_FAILED;

	GQ_NO_CANCEL();
	/* Private: Linux before 6.7 maps no write-sealed memfd shared; of a memfd that
	 * no process can write, a private mapping shows the same pages. */
	errno = ENOMEM;
	if (!gq__fault())
		at = mmap(base, (size_t)size, PROT_READ | (immutable ? 0 : PROT_WRITE),
			  MAP_FIXED | (immutable ? MAP_PRIVATE : MAP_SHARED), fd, 0);
	if (at != MAP_FAILED)
		return Q_OK;
	return gq__failf(errno == EACCES || errno == EPERM ? Q_ERR_POLICY : Q_ERR_NO_MEMORY,
			 "fd is %d: %" PRIu64 " bytes could not be mapped%s: %s", fd, size,
			 immutable ? "" : " for writing", strerror(errno));
}
