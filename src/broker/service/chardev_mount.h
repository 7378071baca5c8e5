/* SPDX-License-Identifier: Apache-2.0 */
/*
 * chardev_mount.h - where the character device is: a file that is mounted over one of ours (FUSE),
 * or a node in /dev (CUSE). What goes over it is chardev.c's.
 */
#ifndef GPUQ_BROKER_SERVICE_CHARDEV_MOUNT_H
#define GPUQ_BROKER_SERVICE_CHARDEV_MOUNT_H

#define FUSE_USE_VERSION 35

#include "service.h"

#include <fuse3/cuse_lowlevel.h>
#include <fuse3/fuse_lowlevel.h>

struct chardev_mount {
	char path[ROUTER_SOCKET_ROOM + 8];
	uint32_t mode;                /* of the file, or of the node */
	int lock;                     /* beside the path; -1, also before it is made: none */
	bool mounted, made;           /* made: the file below the mount is ours */
	bool ended;                   /* the kernel has said that nothing more comes */
	struct fuse_session *session; /* NULL: none */
};

/*
 * Puts the device where the configuration says. What clients ask for comes with the session, whose
 * descriptor does not wait, and `user` is what its requests have for their own.
 * @return false: `error` says why; chardev_mount_remove() follows all the same
 */
bool chardev_mount_make(struct chardev_mount *m, const struct router_config *cfg,
			const struct fuse_lowlevel_ops *file, const struct cuse_lowlevel_ops *node,
			void *user, char error[ROUTER_ERROR_ROOM]);

/* Nobody reaches it any more, and nothing of it is left. All of its files' requests are answered.
 */
void chardev_mount_remove(struct chardev_mount *m);

#endif /* GPUQ_BROKER_SERVICE_CHARDEV_MOUNT_H */
