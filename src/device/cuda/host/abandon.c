/* SPDX-License-Identifier: Apache-2.0 */
/* abandon.c - a grid that does not leave: a thread waits until its memory can be freed. */
#include "device/cuda/host/abandon.h"

#include "device/cuda/host/launch.h"
#include "device/cuda/host/quiet.h"
#include "host/base/sys.h"
#include "host/base/thread.h"

static void *wait_for_grid(void *arg)
{
	GpuQueue *q = arg;
	struct gq_cuda *c = gq_cuda_of(q);
	bool left;

	GQ_NO_CANCEL();
	gq__name_this_thread("gpuq-grid");
	do {
		gq_sys_nap(5000000);
		pthread_mutex_lock(&c->lock);
		left = !gq__launch_is_resident(c);
		pthread_mutex_unlock(&c->lock);
	} while (!left);
	gq__quiet_unlist(c);
	gq__drop_ref(q);
	return NULL;
}

void gq__abandon_grid(struct gq_cuda *c)
{
	pthread_t thread;

	if (gq__start_thread(&thread, wait_for_grid, c->q, "gpuq-grid") == 0)
		pthread_detach(thread);
	else
		gq__log(Q_LOG_ERROR, "CUDA: no thread to wait for a grid that does not leave: its "
				     "memory is kept for ever");
}
