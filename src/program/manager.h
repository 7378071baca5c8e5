/* SPDX-License-Identifier: Apache-2.0 */
/*
 * manager.h - talking with a service manager, such as systemd, without a library of its: it is told
 * by datagrams (sd_notify(3)), and hands over sockets as descriptors from 3 on (sd_listen_fds(3)).
 */
#ifndef GPUQ_PROGRAM_MANAGER_H
#define GPUQ_PROGRAM_MANAGER_H

#include <stdint.h>

/** Tell it, e.g. "READY=1". Without NOTIFY_SOCKET, or if it cannot be told within a second:
 * nothing. */
void manager_tell(const char *text);

/** How often it wants to hear "WATCHDOG=1" of this process, in ms; 0: never. */
uint32_t manager_watchdog_ms(void);

/**
 * The descriptor of a Unix socket of `type` at `path` that listens and was handed over. It is
 * closed on exec from now on.
 * @return 0: there is none
 */
int manager_listener(const char *path, int type);

/** How many descriptors were handed over, and forget that: children are not to take them. Call it
 * last. */
uint32_t manager_listeners(void);

#endif /* GPUQ_PROGRAM_MANAGER_H */
