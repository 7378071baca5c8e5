/* SPDX-License-Identifier: Apache-2.0 */
/*
 * memfd.c - rings in memfds that the library makes, seals and maps.
 *
 * If another process cuts a file, a process that has it mapped gets SIGBUS, and no check of what is
 * in the memory helps. The kernel prevents that for a memfd sealed against shrinking. So a ring is
 * made in such a memfd, and q_ring_attach_fd() refuses every other file. The pages are allocated
 * before the memfd is handed out, because a page that cannot be had later is a SIGBUS, too.
 */
#include "host/ring/ring.h"

#include "host/base/fault.h"
#include "host/base/memory.h"
#include "host/base/sys.h"
#include "memfd.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

static int open_memfd(void)
{
	errno = ENOMEM;
	if (gq__fault())
		return -1;
	return gq_memfd("gpuq-ring", MFD_CLOEXEC | MFD_ALLOW_SEALING);
}

/* @return 0, or the reason why not. */
static int allocate(int fd, uint64_t bytes)
{
	struct rlimit limit;

	if (gq__fault())
		return ENOMEM;
	/* Beyond this limit the kernel sends a signal in place of an error. */
	if (getrlimit(RLIMIT_FSIZE, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY &&
	    limit.rlim_cur < bytes)
		return EFBIG;
	if (ftruncate(fd, (off_t)bytes) != 0)
		return errno;
	/* If a signal interrupts it, it has done nothing. A thread that is interrupted all the time
	 * gets the pages in q_ring_create(). */
	for (int tries = 0; tries < 100; tries++) {
		if (fallocate(fd, 0, 0, (off_t)bytes) == 0)
			return 0;
		if (errno != EINTR)
			return errno;
	}
	return 0;
}

static QueueStatus map(int fd, uint64_t bytes, void **out)
{
	void *memory = MAP_FAILED;

	errno = ENOMEM;
	if (!gq__fault())
		memory = mmap(NULL, (size_t)bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (memory == MAP_FAILED)
		return gq__failf(errno == EPERM || errno == EACCES ? Q_ERR_POLICY : Q_ERR_NO_MEMORY,
				 "fd is %d: %" PRIu64 " bytes could not be mapped for writing: %s",
				 fd, bytes, strerror(errno));
	*out = memory;
	return Q_OK;
}

static QueueStatus create_in_fd(const RingConfig *cfg, int fd, size_t bytes, RingQueue **out)
{
	const int reason = allocate(fd, bytes);
	QueueStatus status;
	void *memory = NULL;

	if (reason != 0)
		return gq__failf(Q_ERR_NO_MEMORY, "out of memory: %zu bytes for the ring: %s",
				 bytes, strerror(reason));
	if (fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0)
		return gq__failf(Q_ERR_UNSUPPORTED, "a memfd could not be sealed: %s",
				 strerror(errno));
	status = map(fd, bytes, &memory);
	if (status != Q_OK)
		return status;
	status = q_ring_create(cfg, memory, bytes, out);
	if (status == Q_OK)
		(*out)->mapped = bytes;
	else
		munmap(memory, bytes);
	return status;
}

QueueStatus q_ring_create_fd(const RingConfig *cfg, int *out_fd, RingQueue **out)
{
	QueueStatus status;
	size_t bytes;
	RingQueue *r = NULL;
	int fd;

	GQ_NO_CANCEL();
	if (out_fd == NULL || out == NULL)
		return gq__fail(Q_ERR_INVALID_ARG, out == NULL ? "out is NULL" : "out_fd is NULL");
	bytes = q_ring_required_memory(cfg);
	if (bytes == 0)
		return Q_ERR_INVALID_ARG;
	fd = open_memfd();
	if (fd < 0)
		return gq__failf(errno == ENOSYS ? Q_ERR_UNSUPPORTED : Q_ERR_NO_MEMORY,
				 "a memfd for the ring could not be made: %s", strerror(errno));
	status = create_in_fd(cfg, fd, bytes, &r);
	if (status != Q_OK) {
		close(fd);
		return status;
	}
	*out_fd = fd;
	*out = r;
	return Q_OK;
}

QueueStatus q_ring_attach_fd(int fd, RingQueue **out)
{
	QueueStatus status;
	struct stat st;
	void *memory = NULL;
	int seals;

	GQ_NO_CANCEL();
	seals = fcntl(fd, F_GET_SEALS);
	if (out == NULL)
		return gq__fail(Q_ERR_INVALID_ARG, "out is NULL");
	if (seals < 0 && errno == EBADF)
		return gq__failf(Q_ERR_INVALID_ARG, "fd is %d: %s", fd, strerror(errno));
	if (seals < 0)
		return gq__failf(Q_ERR_POLICY,
				 "fd is %d: not a memfd, so nothing keeps a peer from cutting it",
				 fd);
	if ((seals & F_SEAL_SHRINK) == 0)
		return gq__failf(Q_ERR_POLICY,
				 "fd is %d: the memfd is not sealed with F_SEAL_SHRINK, so nothing "
				 "keeps a peer from cutting it",
				 fd);
	if (fstat(fd, &st) != 0 || st.st_size <= 0) /* from here on it can only grow */
		return gq__failf(Q_ERR_INVALID_ARG, "fd is %d: the file is empty", fd);
	status = map(fd, (uint64_t)st.st_size, &memory);
	if (status != Q_OK)
		return status;
	status = q_ring_attach(memory, (size_t)st.st_size, out);
	if (status == Q_OK)
		(*out)->mapped = (size_t)st.st_size;
	else
		munmap(memory, (size_t)st.st_size);
	return status;
}
