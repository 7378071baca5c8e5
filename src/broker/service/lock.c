/* SPDX-License-Identifier: Apache-2.0 */
/* lock.c - the lock beside a socket. */
#define _GNU_SOURCE
#include "service.h"

#include "broker/page/lock.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* The default's folder: /run is empty after every start of the machine. */
static void make_folder(const char *socket)
{
	static const char folder[] = "/run/gpuq/";

	if (strncmp(socket, folder, strlen(folder)) == 0 &&
	    strchr(socket + strlen(folder), '/') == NULL)
		mkdir(folder, 0755);
}

/* What to do about it, as far as the reason says. */
static void cannot_lock(const char *socket, const char *path, int reason,
			char error[ROUTER_ERROR_ROOM])
{
	const char *slash = strrchr(socket, '/');

	if (reason == ENOENT && slash != NULL)
		snprintf(error, ROUTER_ERROR_ROOM,
			 "socket is '%s', and there is no folder '%.*s'; allowed: a path in a "
			 "folder that is there (gpuqd makes /run/gpuq, no other)",
			 socket, (int)(slash - socket), socket);
	else if (reason == EACCES || reason == EPERM || reason == EROFS)
		snprintf(error, ROUTER_ERROR_ROOM,
			 "socket is '%s', and gpuqd cannot write its lock, '%s': %s; allowed: a "
			 "path in a folder of gpuqd's user, without a lock of another user",
			 socket, path, strerror(reason));
	else
		snprintf(error, ROUTER_ERROR_ROOM, "socket is '%s'; its lock, '%s': %s", socket,
			 path, strerror(reason));
}

int socket_lock(const char *socket, char error[ROUTER_ERROR_ROOM])
{
	char path[ROUTER_SOCKET_ROOM + 8];
	int fd;

	make_folder(socket);
	snprintf(path, sizeof(path), "%s.lock", socket);
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0) {
		cannot_lock(socket, path, errno, error);
		return -1;
	}
	if (lock_patiently(fd, LOCK_EX))
		return fd;
	snprintf(error, ROUTER_ERROR_ROOM, "%s is in use by another gpuqd", socket);
	close(fd);
	return -1;
}
