/* SPDX-License-Identifier: Apache-2.0 */
/*
 * remote_device.c - the remote device: the table of calls that a queue makes (struct gq_device).
 * Its consumer is a thread of gpuqd, in another process.
 *
 * Slots, results and rings lie in a memfd that gpuqd has made, and the host's half of the queue
 * works on them as on any memory. Nothing on a message's way is a system call, but for waking a
 * side that sleeps.
 */
#include "device/remote/remote.h"

#include "device/device.h"
#include "device/protocol/batch.h"
#include "host/base/error.h"
#include "host/base/sys.h"

#include <inttypes.h>
#include <sys/socket.h>

/* ---- open and close -------------------------------------------------------------------------- */

static bool describe_self(GpuQueue *q, struct gq_remote *r)
{
	const char *processor = q->cfg.processor != NULL ? q->cfg.processor : "";
	struct gq_wire_hello *h = &r->hello;

	if (strlen(processor) >= sizeof(h->processor)) {
		gq__failf(Q_ERR_INVALID_ARG,
			  "processor is '%.80s', %zu bytes; allowed on the remote device: at most "
			  "%zu",
			  processor, strlen(processor), sizeof(h->processor) - 1);
		return false;
	}
	if (q->cfg.processor_data_bytes > GQ_REMOTE_MAX_DATA) {
		gq__failf(Q_ERR_INVALID_ARG,
			  "processor_data_bytes is %zu; allowed on the remote device: 0 to %d",
			  q->cfg.processor_data_bytes, GQ_REMOTE_MAX_DATA);
		return false;
	}
	*h = (struct gq_wire_hello){ .head = gq_wire_head_of(GQ_WIRE_HELLO, sizeof(*h)),
				     .capacity = q->cfg.capacity,
				     .slot_bytes = q->cfg.slot_bytes,
				     .result_bytes = q->cfg.result_bytes,
				     .traced = (q->cfg.flags & Q_TRACE) != 0,
				     .start_pos = q->start_pos,
				     .data_bytes = q->cfg.processor_data_bytes,
				     .consumers = q->cfg.consumers };
	memcpy(h->queue, r->queue, sizeof(h->queue));
	memcpy(h->processor, processor, strlen(processor));
	r->layout = gq_remote_lay_out(h);
	return true;
}

static bool open_remote(GpuQueue *q)
{
	struct gq_remote *r = gq__alloc(sizeof(*r), "the remote device");

	if (r == NULL)
		return false;
	r->q = q;
	r->socket = r->bell = -1;
	q->device_state = r;
	return gq__remote_parse(q->cfg.endpoint, r) && describe_self(q, r) && gq__remote_connect(r);
}

static void close_remote(GpuQueue *q)
{
	struct gq_remote *r = gq_remote_of(q);

	if (r == NULL)
		return;
	gq__remote_disconnect(r);
	gq__free(r, sizeof(*r));
	q->device_state = NULL;
}

/* ---- memory ---------------------------------------------------------------------------------- */

/* The queue asks for its parts one by one; all lie in the memfd. Two of one size are told apart by
 * who has one already. */
static void *alloc(GpuQueue *q, size_t bytes, const char *what)
{
	struct gq_remote *r = gq_remote_of(q);
	const struct gq_remote_layout *l = &r->layout;
	const uint64_t n = q->cfg.capacity;

	if (q->words == NULL && bytes == l->words_bytes)
		return r->memory + l->words;
	if (q->ch.slots == NULL && bytes == n * l->slot_stride)
		return r->memory + l->slots;
	if (q->ch.results == NULL && bytes == n * l->result_stride)
		return r->memory + l->results;
	if (bytes == l->stamps_bytes)
		return r->memory + l->stamps;
	gq__failf(Q_ERR_NO_MEMORY, "gpuqd has no memory for %s", what);
	return NULL;
}

static void free_memory(GpuQueue *q, void *memory, size_t bytes)
{
	(void)q;
	(void)memory; /* unmapped by close_remote() */
	(void)bytes;
}

/* ---- bells ----------------------------------------------------------------------------------- */

/* gpuqd looks once more after it has said that it sleeps: [wake.look], [sleep.look]. @return
 * whether it was woken. */
static bool ring(struct gq_remote *r)
{
	const uint64_t one = 1;

	if (gq_load_seq_cst_u64(&r->page->daemon_asleep) == 0 || /* [wake.look] */
	    gq_exchange_seq_cst_u64(&r->page->daemon_asleep, 0) == 0)
		return false;
	(void)gq_sys_write(r->bell, &one, sizeof(one));
	return true;
}

static void sleeping(GpuQueue *q)
{
	struct gq_remote *r = gq_remote_of(q);

	gq_fetch_add_seq_cst_u64(&r->sleepers, 1);
	gq__remote_want_bell(r);
}

static void awake(GpuQueue *q)
{
	gq_fetch_add_seq_cst_u64(&gq_remote_of(q)->sleepers, 0 - UINT64_C(1));
}

static void published(GpuQueue *q)
{
	struct gq_remote *r = gq_remote_of(q);

	if (__builtin_expect(gq_is_lost(r), 0))
		gq__cancel_unstarted(q);
	else if (ring(r))
		gq_fetch_add_relaxed_u64(&q->count.wakeups, 1);
}

/* ---- start and end --------------------------------------------------------------------------- */

/* What gpuqd writes, and what it reads, lies in the page. */
static void move_words(GpuQueue *q, struct gq_remote *r)
{
	for (uint32_t c = 0; c < GQ_CLASSES; c++) {
		r->page->claimed[c] = q->start_pos;
		q->ch.ready[c].head = &r->page->claimed[c];
	}
	r->page->done_tail = q->start_pos;
	q->ch.done.tail = &r->page->done_tail;
	r->woken_pos = q->start_pos;
	q->ch.control = &r->page->control;
	if (q->cfg.processor_data != NULL)
		memcpy(r->memory + r->layout.data, q->cfg.processor_data,
		       q->cfg.processor_data_bytes);
	/* Every publication asks whether gpuqd sleeps: published(). */
	gq_fetch_or_seq_cst_u64(&q->work.word, GQ_EVENT_STICKY);
}

static bool start(GpuQueue *q)
{
	struct gq_remote *r = gq_remote_of(q);
	struct gq_wire_started started;

	move_words(q, r);
	if (!gq__remote_begin(r, &started))
		return false;
	q->cfg.consumers = started.consumers;
	q->cfg.granularity = started.granularity;
	snprintf(q->processor.name, sizeof(q->processor.name), "%s", started.processor);
	snprintf(q->device_name, sizeof(q->device_name), "%s", started.device);
	snprintf(q->transport, sizeof(q->transport), "shared with gpuqd");
	return gq__remote_listen(r);
}

enum { GOODBYE_NS = 2000000000 };

/* Say goodbye, and wait until gpuqd has let go of all that it had for this queue, which it does at
 * once, unless it hangs. */
static void join(GpuQueue *q, bool abandon)
{
	struct gq_remote *r = gq_remote_of(q);
	const uint64_t until = gq__now_ns() + (abandon ? 0 : (uint64_t)GOODBYE_NS);

	gq_exchange_seq_cst_u32(&r->closing, 1);
	shutdown(r->socket, SHUT_WR);
	for (uint32_t step = 0; gq_load_seq_cst_u32(&r->heard) == 0 && gq__now_ns() < until; step++)
		gq__await_step(step);
	shutdown(r->socket, SHUT_RDWR);
	if (r->listening)
		pthread_join(r->listener, NULL);
	r->listening = false;
}

/* ---- control --------------------------------------------------------------------------------- */

static void controlled(GpuQueue *q)
{
	ring(gq_remote_of(q));
}

static bool acknowledged(GpuQueue *q, uint64_t control)
{
	struct gq_remote *r = gq_remote_of(q);

	return gq_is_lost(r) || gq_load_seq_cst_u64(&r->page->ack) == control; /* [ack.read] */
}

static bool left(GpuQueue *q)
{
	struct gq_remote *r = gq_remote_of(q);

	return gq_is_lost(r) || gq_load_seq_cst_u64(&r->page->left) != 0; /* [ack.read] */
}

enum { CANCEL_NS = 1000000000 };

/*
 * A message may already be in gpuqd's own queue. So that it is not started after q_cancel() has
 * returned, the call waits until gpuqd has looked: [cancel.ask], [cancel.done]. If gpuqd takes too
 * long the request stands all the same.
 */
static void cancelled(GpuQueue *q)
{
	struct gq_remote *r = gq_remote_of(q);
	/* [cancel.ask] release: the slot's word */
	const uint64_t mine = gq_fetch_add_seq_cst_u64(&r->page->cancels, 1) + 1;
	const uint64_t until = gq__now_ns() + CANCEL_NS;

	ring(r);
	/* [cancel.done] acquire: what gpuqd has done about it */
	for (uint32_t step = 0; !gq_is_lost(r) && gq__now_ns() < until &&
				gq_pos_diff(gq_load_acquire_u64(&r->page->cancels_seen), mine) < 0;
	     step++)
		gq__await_step(step);
}

/* gpuqd does it, as it sees the control word. So that nothing is started after q_stop() has
 * returned, the call waits for that as q_cancel() does. */
static void cancel_unstarted(GpuQueue *q)
{
	if (!gq_is_lost(gq_remote_of(q)))
		cancelled(q);
	if (gq_is_lost(gq_remote_of(q)))
		gq__cancel_unstarted(q);
}

/* ---- regions --------------------------------------------------------------------------------- */

static QueueStatus bind_regions(GpuQueue *q, RegionTable *table)
{
	(void)q;
	if (table == NULL)
		return Q_OK;
	return gq__fail(Q_ERR_UNSUPPORTED, "regions cannot be bound to a queue of gpuqd: it does "
					   "not read this process's memory; copy messages in");
}

static const void *locate(GpuQueue *q, const MessageDescriptor *d, const void *bytes)
{
	(void)q;
	(void)d;
	(void)bytes;
	gq__fail(Q_ERR_UNSUPPORTED, "gpuqd does not read this process's memory");
	return NULL;
}

const struct gq_device gq__remote_device = {
	.kind = Q_DEVICE_REMOTE,
	.is_elsewhere = true,
	.open = open_remote,
	.close = close_remote,
	.alloc = alloc,
	.free = free_memory,
	.start = start,
	.join = join,
	.acknowledged = acknowledged,
	.left = left,
	.cancel_unstarted = cancel_unstarted,
	.bind = bind_regions,
	.binds_at_once = true,
	.locate = locate,
	.published = published,
	.controlled = controlled,
	.cancelled = cancelled,
	.sleeping = sleeping,
	.awake = awake,
};
