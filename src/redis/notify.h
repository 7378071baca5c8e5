/* SPDX-License-Identifier: Apache-2.0 */
/* notify.h - what systemd is told: the protocol of sd_notify(3), which is one datagram. */
#ifndef GPUQ_REDIS_NOTIFY_H
#define GPUQ_REDIS_NOTIFY_H

/** Tell systemd, e.g. "READY=1". Without NOTIFY_SOCKET, or if it cannot be told: nothing. */
void notify_systemd(const char *text);

#endif /* GPUQ_REDIS_NOTIFY_H */
