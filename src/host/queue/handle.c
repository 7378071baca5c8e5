/* SPDX-License-Identifier: Apache-2.0 */
/* handle.c - the statuses that say what is wrong with a handle, or with the id of a message. */
#include "host/queue/handle.h"

QueueStatus gq__refuse_handle(const GpuQueue *q)
{
	if (q == NULL)
		return gq__fail(Q_ERR_INVALID_ARG, "queue is NULL; allowed: a queue from q_init()");
	if (q->made_in == gq__generation)
		return gq__device_failed(q);
	return gq__fail(Q_ERR_UNSUPPORTED,
			"this queue belongs to the parent process: a queue cannot be used after "
			"fork(); make a new one with q_init()");
}

QueueStatus gq__device_failed(const GpuQueue *q)
{
	return gq__failf(Q_ERR_CUDA, "%s", gq_failed(q) ? q->failure : "the device has failed");
}

QueueStatus gq__unknown_message(void)
{
	return gq__fail(Q_ERR_NOT_FOUND, "msg_id was never issued, or its message is aborted, "
					 "discarded or taken");
}
