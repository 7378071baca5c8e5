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

int socket_lock(const char *socket, char error[ROUTER_ERROR_ROOM])
{
	char path[ROUTER_SOCKET_ROOM + 8];
	int fd;

	make_folder(socket);
	snprintf(path, sizeof(path), "%s.lock", socket);
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0) {
		snprintf(error, ROUTER_ERROR_ROOM, "%s: %s", path, strerror(errno));
		return -1;
	}
	if (lock_patiently(fd, LOCK_EX))
		return fd;
	snprintf(error, ROUTER_ERROR_ROOM, "%s is in use by another gpuqd", socket);
	close(fd);
	return -1;
}
