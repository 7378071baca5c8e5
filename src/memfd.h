/* SPDX-License-Identifier: Apache-2.0 */
/* memfd.h - memory that the library, or a program, shares with other processes: a file that nobody
 * can execute. */
#ifndef GPUQ_MEMFD_H
#define GPUQ_MEMFD_H

#include <errno.h>
#include <sys/mman.h>

#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 8u
#endif

/* An empty one. With vm.memfd_noexec = 2 the kernel makes no others than these. @return -1: errno
 */
static inline int gq_memfd(const char *name, unsigned flags)
{
	const int fd = memfd_create(name, flags | MFD_NOEXEC_SEAL);

	if (fd >= 0 || errno != EINVAL)
		return fd;
	return memfd_create(name, flags); /* Linux before 6.3 */
}

#endif /* GPUQ_MEMFD_H */
