/* SPDX-License-Identifier: Apache-2.0 */
/* fork.c - counting forks. Each module that has a lock which a child needs guards that lock itself.
 */
#include "host/base/fork.h"

#include <pthread.h>
#include <stddef.h>

uint64_t gq__generation;

/* In the child, which has one thread. */
static void count_fork(void)
{
	gq__generation++;
}

static void register_count_fork(void)
{
	pthread_atfork(NULL, NULL, count_fork);
}

void gq__watch_forks(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	pthread_once(&once, register_count_fork);
}
