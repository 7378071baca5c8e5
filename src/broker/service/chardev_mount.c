/* SPDX-License-Identifier: Apache-2.0 */
/* chardev_mount.c - making and removing the file, or the node, that is the character device. */
#include "chardev_mount.h"

#include "broker/policy/wire.h"
#include "host/base/sys.h"

#include <errno.h>
#include <poll.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>

enum {
	STALE = 8, /* mounts over each other that are left behind */
	NODE_MS = 5000,
};

/* In front of the name of a node. */
static const char CUSE[] = "cuse:";

/* The last that libfuse had to say. Mounting is done by one thread at a time. */
static _Thread_local char words[160];

static void keep_words(enum fuse_log_level level, const char *format, va_list arguments)
{
	if (level <= FUSE_LOG_ERR)
		vsnprintf(words, sizeof(words), format, arguments);
	words[strcspn(words, "\n")] = '\0';
}

/* ---- what is at a path ----------------------------------------------------------------------- */

/* Where not we but a program with the rights has mounted it, that one ends it. */
static bool unmount(const char *path)
{
	char *const arguments[] = { "fusermount3", "-u", "-q", "-z", "--", (char *)path, NULL };
	char *const environment[] = { "PATH=/usr/bin:/bin", NULL };
	int status;
	pid_t pid;

	/* Forced: also where a child has a copy of our descriptor, nobody waits for us any more. */
	if (umount2(path, MNT_FORCE | UMOUNT_NOFOLLOW) == 0 ||
	    umount2(path, MNT_DETACH | UMOUNT_NOFOLLOW) == 0)
		return true;
	if (geteuid() == 0 ||
	    posix_spawn(&pid, "/usr/bin/fusermount3", NULL, NULL, arguments, environment) != 0)
		return false;
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return false;
	return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

/* Whether there is a mount that nobody serves any more. */
static bool is_stale(const char *path)
{
	struct stat st;
	int fd;

	if (lstat(path, &st) == 0 && !S_ISREG(st.st_mode))
		return false; /* a device may do something when it is opened */
	fd = open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC | O_NOFOLLOW | O_NOCTTY);
	if (fd >= 0)
		gq_sys_close(fd);
	return fd < 0 && (errno == ENOTCONN || errno == ECONNABORTED);
}

/* As one that a gpuqd has made to mount on: empty, and its owner's. */
static bool may_be_ours(const char *path)
{
	struct stat st;

	return lstat(path, &st) == 0 && S_ISREG(st.st_mode) && st.st_size == 0 &&
	       st.st_uid == geteuid();
}

/* An empty file to mount on. We have the lock, so what another gpuqd has left is nobody's. */
static bool clear_path(struct chardev_mount *m, char error[ROUTER_ERROR_ROOM])
{
	int fd;

	for (int i = 0; i < STALE && is_stale(m->path); i++)
		if (!unmount(m->path))
			break;
	fd = open(m->path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd >= 0) {
		m->made = true;
		gq_sys_close(fd);
		return true;
	}
	if (errno != EEXIST) {
		snprintf(error, ROUTER_ERROR_ROOM, "%s: %s", m->path, strerror(errno));
		return false;
	}
	m->made = may_be_ours(m->path); /* of a gpuqd that was killed */
	if (!m->made)
		snprintf(error, ROUTER_ERROR_ROOM,
			 "chardev is '%s', where there is something else; allowed: a path where "
			 "there is nothing, or an empty file of this user",
			 m->path);
	return m->made;
}

/* ---- a file ---------------------------------------------------------------------------------- */

static bool does_not_wait(const struct chardev_mount *m)
{
	const int fd = fuse_session_fd(m->session);

	return fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK) == 0;
}

static bool mount_there(struct chardev_mount *m, const struct fuse_lowlevel_ops *file, void *user,
			char error[ROUTER_ERROR_ROOM])
{
	const bool shared = geteuid() == 0 || (m->mode & 0066) != 0;
	char options[120];
	char *arguments[] = { "gpuqd", "-o", options, NULL };
	struct fuse_args args = FUSE_ARGS_INIT(3, arguments);

	/* A machine that was booted has it; a bare root has not. fusermount3 would mount, and not
	 * unmount. */
	if (geteuid() != 0 && access("/etc/mtab", R_OK) != 0) {
		snprintf(error, ROUTER_ERROR_ROOM,
			 "%s cannot be mounted: without /etc/mtab fusermount3 cannot unmount; "
			 "'ln -s ../proc/self/mounts /etc/mtab' as root makes it",
			 m->path);
		return false;
	}
	snprintf(options, sizeof(options), "fsname=gpuqd,default_permissions,nosuid,nodev,noexec%s",
		 shared ? ",allow_other" : "");
	words[0] = '\0';
	fuse_set_log_func(keep_words);
	m->session = fuse_session_new(&args, file, sizeof(*file), user);
	fuse_opt_free_args(&args);
	if (m->session != NULL && fuse_session_mount(m->session, m->path) == 0) {
		m->mounted = true;
		if (does_not_wait(m))
			return true;
	}
	snprintf(error, ROUTER_ERROR_ROOM, "%s cannot be mounted: %s%s", m->path,
		 words[0] != '\0' ? words : strerror(errno),
		 shared && geteuid() != 0 ? " (other users than root need user_allow_other in "
					    "/etc/fuse.conf for a socket_mode that lets others in)"
					  : "");
	return false;
}

/* ---- a node ---------------------------------------------------------------------------------- */

/* The kernel asks at once what it is to be, and has made it when it has been told. */
static bool await_node(const struct chardev_mount *m)
{
	struct pollfd at = { .fd = fuse_session_fd(m->session), .events = POLLIN };
	struct fuse_buf request = { 0 };
	struct stat st;

	if (poll(&at, 1, NODE_MS) == 1 && fuse_session_receive_buf(m->session, &request) > 0)
		fuse_session_process_buf(m->session, &request);
	free(request.mem);
	return stat(m->path, &st) == 0 && S_ISCHR(st.st_mode) && chmod(m->path, m->mode) == 0;
}

static bool make_node(struct chardev_mount *m, const char *name,
		      const struct cuse_lowlevel_ops *node, void *user,
		      char error[ROUTER_ERROR_ROOM])
{
	char *arguments[] = { "gpuqd", NULL }, text[ROUTER_SOCKET_ROOM + 8], number[24];
	const char *info_text = text;
	struct fuse_args args = FUSE_ARGS_INIT(1, arguments);
	const struct cuse_info info = { .dev_info_argc = 1, .dev_info_argv = &info_text };
	struct stat st;
	int fd;

	snprintf(m->path, sizeof(m->path), "/dev/%s", name);
	if (!gq__name_valid(name, strlen(name)) || lstat(m->path, &st) == 0) {
		snprintf(error, ROUTER_ERROR_ROOM,
			 "chardev is 'cuse:%s'; allowed: cuse:NAME, NAME of 1 to 64 of A-Z a-z 0-9 "
			 ". _ -, and none that is in /dev",
			 name);
		return false;
	}
	fd = open("/dev/cuse", O_RDWR | O_CLOEXEC);
	if (fd < 0) {
		snprintf(error, ROUTER_ERROR_ROOM,
			 "chardev is 'cuse:%s': /dev/cuse: %s%s. A PATH has no need of it", name,
			 strerror(errno),
			 errno == ENOENT || errno == ENODEV || errno == ENXIO
				 ? " (this kernel has no CUSE, or its module cuse is not loaded)"
				 : "");
		return false;
	}
	snprintf(text, sizeof(text), "DEVNAME=%s", name);
	snprintf(number, sizeof(number), "/dev/fd/%d", fd); /* libfuse takes it as it is */
	words[0] = '\0';
	fuse_set_log_func(keep_words);
	m->session = cuse_lowlevel_new(&args, &info, node, user);
	if (m->session == NULL || fuse_session_mount(m->session, number) != 0)
		gq_sys_close(fd);
	else if (does_not_wait(m) && await_node(m))
		return true;
	snprintf(error, ROUTER_ERROR_ROOM, "%s cannot be made: %s", m->path,
		 words[0] != '\0' ? words : strerror(errno));
	return false;
}

/* ---- both ------------------------------------------------------------------------------------ */

bool chardev_mount_make(struct chardev_mount *m, const struct router_config *cfg,
			const struct fuse_lowlevel_ops *file, const struct cuse_lowlevel_ops *node,
			void *user, char error[ROUTER_ERROR_ROOM])
{
	m->mode = cfg->socket_mode & 0222;
	m->mode |= m->mode << 1; /* a socket asks for the right to write, this for both */
	if (strncmp(cfg->chardev, CUSE, strlen(CUSE)) == 0)
		return make_node(m, cfg->chardev + strlen(CUSE), node, user, error);
	memcpy(m->path, cfg->chardev, sizeof(cfg->chardev));
	m->lock = socket_lock(m->path, error);
	return m->lock >= 0 && clear_path(m, error) && mount_there(m, file, user, error);
}

/* Once the session has ended, somebody may have unmounted it, and have put something else there. */
static bool end_mount(const struct chardev_mount *m)
{
	if (!m->ended || is_stale(m->path))
		return unmount(m->path);
	return may_be_ours(m->path);
}

void chardev_mount_remove(struct chardev_mount *m)
{
	if (m->mounted && !end_mount(m))
		m->made = false;
	if (m->session != NULL) {
		fuse_session_unmount(m->session); /* it frees something, and finds no mount */
		fuse_session_destroy(m->session);
	}
	if (m->made)
		unlink(m->path); /* the lock's file stays: another gpuqd may wait for it */
	if (m->lock >= 0)
		gq_sys_close(m->lock);
}
