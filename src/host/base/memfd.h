/* SPDX-License-Identifier: Apache-2.0 */
/* memfd.h - memory of the library that processes share: a file that nobody can execute. (Programs
 * do not stand on this room: program/memfd.h.) */
#ifndef GPUQ_BASE_MEMFD_H
#define GPUQ_BASE_MEMFD_H

#include <errno.h>
#include <sys/mman.h>

#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 8u
#endif

/* An empty one. With vm.memfd_noexec = 2 the kernel makes no others than these. @return -1: errno
 */
static inline int gq_sys_memfd(const char *name, unsigned flags)
{
	const int fd = memfd_create(name, flags | MFD_NOEXEC_SEAL);

	if (fd >= 0 || errno != EINVAL)
		return fd;
	return memfd_create(name, flags); /* Linux before 6.3 */
}

#endif /* GPUQ_BASE_MEMFD_H */
