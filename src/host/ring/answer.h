/* SPDX-License-Identifier: Apache-2.0 */
/*
 * answer.h - what the calls that move messages share: checks, waiting, and what they say; private
 * to the ring. Unlike those of move.h these functions set q_last_error().
 */
#ifndef GPUQ_RING_ANSWER_H
#define GPUQ_RING_ANSWER_H

#include "host/ring/move.h"

/* The class of a priority, or GQ_NONE with the error set. */
uint32_t gq__ring_class_of(QueuePriority priority);

/* Ask the schema's validator. It is code of the program: see sys.h. */
QueueStatus gq__ring_validate(const RingQueue *r, const void *data, size_t len);

/* Check one message. `i` names it in errors when there are several. */
QueueStatus gq__ring_check_item(RingQueue *r, const EnqueueItem *item, size_t i, size_t count);

/* How many cells a message takes. */
static inline uint32_t gq_ring_parts_for(const RingQueue *r, size_t len)
{
	return len <= r->cfg.max_msg_size
		       ? 1
		       : (uint32_t)((len + r->cfg.max_msg_size - 1) / r->cfg.max_msg_size);
}

/* What a call that can wait tries again and again. */
struct gq_attempt {
	QueueStatus (*once)(RingQueue *r, struct gq_attempt *a);
	struct gq_sending sending;
	EnqueueItem item;
	uint32_t parts;
	struct gq_receiving receiving;
};
QueueStatus gq__ring_send_once(RingQueue *r, struct gq_attempt *a);
QueueStatus gq__ring_receive_once(RingQueue *r, struct gq_attempt *a);

/*
 * While the answer is `busy`, which the first try has had, sleep on `armed` until another thread
 * wakes it, and try again. @return the last answer; Q_ERR_TIMEOUT
 */
QueueStatus gq__ring_try_until(RingQueue *r, struct gq_attempt *a, uint32_t *armed,
			       QueueStatus busy, uint32_t timeout_ms);

/* Try a->once(), and where the answer is `busy` as above. A try that fails is no failure of a call
 * that succeeds: that one leaves the last error as it was. */
QueueStatus gq__ring_try(RingQueue *r, struct gq_attempt *a, uint32_t *armed, QueueStatus busy,
			 uint32_t timeout_ms);

/* Do what follows from finding no room, and say it: Q_ERR_FULL, or Q_ERR_SHUTDOWN. */
QueueStatus gq__ring_answer_no_room(RingQueue *r);

/* The same of completions: Q_ERR_FULL. */
QueueStatus gq__ring_answer_unpolled(RingQueue *r);

/* Say that there is nothing, in a ring that is open: Q_ERR_EMPTY. */
QueueStatus gq__ring_say_nothing(RingQueue *r);

/* Do what follows from finding nothing, and say it. @return also Q_OK: now there was something */
QueueStatus gq__ring_answer_nothing(RingQueue *r, struct gq_receiving *q);

/* Say why the front stays. A call that was refused for another reason has said so already. */
QueueStatus gq__ring_explain(const struct gq_receiving *q, QueueStatus status);

#endif /* GPUQ_RING_ANSWER_H */
