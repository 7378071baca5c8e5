/* SPDX-License-Identifier: Apache-2.0 */
/* thread.h - starting the library's own threads. */
#ifndef GPUQ_BASE_THREAD_H
#define GPUQ_BASE_THREAD_H

#include <pthread.h>

/* Start a thread that takes no signals but those of its own faults, and SIGPROF where the caller
 * takes it, so that they go to the application's threads. @return 0 or an errno value. */
int gq__start_thread(pthread_t *thread, void *(*run)(void *), void *arg, const char *name);

#endif /* GPUQ_BASE_THREAD_H */
