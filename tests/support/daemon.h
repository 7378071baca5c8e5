/* SPDX-License-Identifier: Apache-2.0 */
/* daemon.h - a gpuqd as a process of its own, and what it has open. */
#ifndef GPUQ_TEST_DAEMON_H
#define GPUQ_TEST_DAEMON_H

#include <sys/types.h>

struct daemon {
	pid_t pid; /* 0: none runs */
	char folder[32], config[40], socket[40], services[40];
	char endpoint[48], broker[48]; /* "unix:" and the two sockets */
};

/* The path of the gpuqd that was built beside this test; or GPUQ_TEST_GPUQD, such as a script that
 * runs it below valgrind. */
const char *daemon_program(void);

/* Makes the folder and the configuration, and starts it. `keys` follow `socket` of [gpuqd];
 * `services` those of [services], NULL: no such section. */
void daemon_set_up(struct daemon *d, const char *keys, const char *services);
/* Other keys; it reads them when it gets to it (SIGHUP). */
void daemon_reload(struct daemon *d, const char *keys, const char *services);
/* Starts it (again); it listens when this returns. */
void daemon_start(struct daemon *d);
/* Sends a signal, and waits for the end. @return as waitpid() says it */
int daemon_end(struct daemon *d, int how);
/* Stops it (SIGSTOP), and waits until all its threads stand. */
void daemon_stop(struct daemon *d);
/* Ends it by SIGTERM, which must succeed, and removes the folder. */
void daemon_tear_down(struct daemon *d);

/* Its processes for queues. @return how many */
unsigned daemon_processes(const struct daemon *d, pid_t *to, unsigned most);

/* What a gpuqd holds that clients have caused, its processes for queues included. */
struct daemon_held {
	unsigned descriptors, mappings, threads;
};
struct daemon_held daemon_held(const struct daemon *d);
/* Waits until it holds just that. */
void daemon_await_held(const struct daemon *d, const struct daemon_held *what);

#endif /* GPUQ_TEST_DAEMON_H */
