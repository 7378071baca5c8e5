/* SPDX-License-Identifier: Apache-2.0 */
/* manager.c - talking with a service manager: what it is told, and the sockets it hands over. */
#define _GNU_SOURCE
#include "manager.h"

#include "program.h"

#include <fcntl.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

enum { FIRST = 3, MOST = 16 };

void manager_tell(const char *text)
{
	const char *path = getenv("NOTIFY_SOCKET");
	struct sockaddr_un to = { .sun_family = AF_UNIX };
	const size_t len = path ? strlen(path) : 0;
	const struct timeval patience = { .tv_sec = 1 };
	int fd;

	if (len == 0 || len >= sizeof(to.sun_path))
		return;
	memcpy(to.sun_path, path, len);
	if (to.sun_path[0] == '@')
		to.sun_path[0] = '\0'; /* an abstract one */
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return;
	/* A manager that does not read must not hold us up: not for long, and a watchdog's word
	 * comes again anyway. */
	(void)setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
	(void)sendto(fd, text, strlen(text),
		     strcmp(text, "WATCHDOG=1") == 0 ? MSG_NOSIGNAL | MSG_DONTWAIT : MSG_NOSIGNAL,
		     (const struct sockaddr *)&to,
		     (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len));
	close(fd);
}

/* A number of the environment, if the variable `whose` names this process or is not there. */
static uint64_t number_for_us(const char *name, const char *whose, bool must)
{
	const char *text = getenv(name);
	const char *pid = getenv(whose);
	uint64_t number, process;

	if (!text || !parse_size(text, &number))
		return 0;
	if (!pid)
		return must ? 0 : number;
	return parse_size(pid, &process) && process == (uint64_t)getpid() ? number : 0;
}

uint32_t manager_watchdog_ms(void)
{
	const uint64_t us = number_for_us("WATCHDOG_USEC", "WATCHDOG_PID", false);

	return us / 1000 < UINT32_MAX ? (uint32_t)(us / 1000) : UINT32_MAX;
}

/* LISTEN_PID is for a process whose parent had descriptors handed over, too. */
static int handed_over(void)
{
	const uint64_t n = number_for_us("LISTEN_FDS", "LISTEN_PID", true);

	return (int)(n < MOST ? n : MOST);
}

static int option_of(int fd, int option)
{
	socklen_t length = sizeof(int);
	int value = -1;

	return getsockopt(fd, SOL_SOCKET, option, &value, &length) == 0 ? value : -1;
}

int manager_listener(const char *path, int type)
{
	for (int fd = FIRST; fd < FIRST + handed_over(); fd++) {
		struct sockaddr_un at = { .sun_family = AF_UNSPEC };
		socklen_t length = sizeof(at);

		if (getsockname(fd, (struct sockaddr *)&at, &length) != 0 ||
		    at.sun_family != AF_UNIX || length <= offsetof(struct sockaddr_un, sun_path) ||
		    strncmp(at.sun_path, path, sizeof(at.sun_path)) != 0 ||
		    option_of(fd, SO_TYPE) != type || option_of(fd, SO_ACCEPTCONN) != 1)
			continue;
		(void)fcntl(fd, F_SETFD, FD_CLOEXEC);
		(void)fcntl(fd, F_SETFL, O_NONBLOCK);
		return fd;
	}
	return 0;
}

uint32_t manager_listeners(void)
{
	const int n = handed_over();

	unsetenv("LISTEN_FDS");
	unsetenv("LISTEN_PID");
	unsetenv("LISTEN_FDNAMES");
	return (uint32_t)n;
}
