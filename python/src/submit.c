/* SPDX-License-Identifier: Apache-2.0 */
/*
 * submit.c - messages with futures.
 *
 * A message's entry in the table must be there before its completion can be seen. So an enqueue
 * does not wait: it is made with the GIL held, as is every look at completions, and the entry is
 * added before the GIL is given up. Where there is no slot a reservation is waited for without the
 * GIL; the entry is added between reserving and committing.
 */
#include "module.h"

#include <string.h>

/* Too long: said here, for a message of a batch is refused before the first is accepted. */
static int check_length(const struct pq_handle *handle, size_t len)
{
	if (len <= handle->slot_bytes)
		return 0;
	PyErr_Format(PyExc_ValueError, "gpuq: the message has %zu bytes; this queue takes 0 to %u",
		     len, handle->slot_bytes);
	return -1;
}

int pq_reserve_slot(struct pq_handle *handle, size_t len, const struct pq_options *options,
		    void **out, uint64_t *out_id)
{
	QueueStatus status;

	for (;;) {
		const bool in_callback = pq_serve_meanwhile();
		uint32_t slice = pq_slice_ms(options->until);

		if (in_callback && slice > PQ_MEANWHILE_MS)
			slice = PQ_MEANWHILE_MS;
		if (slice == 0 && options->until != 0)
			slice = 1; /* it is a time-out that ends it, not a full queue */

		Py_BEGIN_ALLOW_THREADS;
		status = q_reserve(handle->q, len, &options->c, out, out_id, slice);
		Py_END_ALLOW_THREADS;
		if (status == Q_OK)
			return 0;
		if (status != Q_ERR_TIMEOUT ||
		    (options->until != PQ_FOR_EVER && pq_now_ns() >= options->until)) {
			pq_raise(status);
			return -1;
		}
		if (PyErr_CheckSignals() != 0)
			return -1;
	}
}

/* One message by reservation. @return 0, or -1 with an exception: nothing was accepted. */
static int place(struct pq_handle *handle, const void *data, size_t len,
		 const struct pq_options *options, uint64_t *out_id, PyObject *owner,
		 Py_ssize_t index)
{
	struct pq_pending taken;
	QueueStatus status;
	void *payload;

	if (pq_reserve_slot(handle, len, options, &payload, out_id) != 0)
		return -1;
	pq_copy(payload, data, len);
	pq_table_add(&handle->pending, *out_id, owner, index);
	status = q_commit(handle->q, *out_id);
	if (status == Q_OK)
		return 0;
	if (pq_table_take(&handle->pending, *out_id, &taken))
		Py_DECREF(taken.owner);
	pq_raise(status);
	q_abort(handle->q, *out_id);
	return -1;
}

static int send_bytes(struct pq_handle *handle, PyObject *object, const struct pq_options *options,
		      uint64_t *out_id, PyObject *owner, Py_ssize_t index)
{
	struct pq_message message;
	QueueStatus status = Q_ERR_FULL;
	int ok = -1;

	if (pq_message_get(object, &message) != 0)
		return -1;
	if (check_length(handle, message.len) == 0) {
		if (message.len < PQ_MUCH)
			status = q_enqueue_ex(handle->q, message.data, message.len, &options->c,
					      out_id, 0);
		if (status == Q_OK) {
			pq_table_add(&handle->pending, *out_id, owner, index);
			ok = 0;
		} else if (status == Q_ERR_FULL &&
			   (options->until != 0 || message.len >= PQ_MUCH)) {
			ok = place(handle, message.data, message.len, options, out_id, owner,
				   index);
		} else {
			pq_raise(status);
		}
	}
	pq_message_release(&message);
	return ok;
}

/* Waits until there may be a slot, for what cannot be reserved. */
static int await_slot(struct pq_handle *handle, const struct pq_options *options)
{
	void *payload;
	uint64_t id;

	if (pq_reserve_slot(handle, 0, options, &payload, &id) != 0)
		return -1;
	q_abort(handle->q, id);
	return 0;
}

static int send_descriptor(struct pq_handle *handle, struct pq_descriptor *descriptor,
			   const struct pq_options *options, uint64_t *out_id, PyObject *owner,
			   Py_ssize_t index)
{
	for (;;) {
		QueueStatus status =
			q_enqueue_descriptor(handle->q, &descriptor->c, &options->c, out_id, 0);

		if (status == Q_OK) {
			pq_table_add(&handle->pending, *out_id, owner, index);
			return 0;
		}
		if (status != Q_ERR_FULL || options->until == 0) {
			pq_raise(status);
			return -1;
		}
		if (await_slot(handle, options) != 0)
			return -1;
	}
}

static int send_object(struct pq_handle *handle, PyObject *object, const struct pq_options *options,
		       uint64_t *out_id, PyObject *owner, Py_ssize_t index)
{
	if (Py_TYPE(object) == pq_descriptor_type)
		return send_descriptor(handle, (struct pq_descriptor *)object, options, out_id,
				       owner, index);
	return send_bytes(handle, object, options, out_id, owner, index);
}

/* The completion thread begins with the first message that needs it. */
static int serve(PyObject *self)
{
	struct pq_queue *queue = (struct pq_queue *)self;
	PyObject *none;

	if (queue->served)
		return 0;
	none = PyObject_CallMethod(self, "_serve", NULL);
	if (none == NULL)
		return -1;
	Py_DECREF(none);
	queue->served = true;
	return 0;
}

static struct pq_future *future_for(PyObject *self, const struct pq_options *options)
{
	struct pq_future *future = pq_future_new(self);

	if (future == NULL)
		return NULL;
	future->view = options->view;
	if (options->into == NULL)
		return future;
	future->into = PyMem_Calloc(1, sizeof(*future->into));
	if (future->into == NULL)
		PyErr_NoMemory();
	else if (pq_writable(options->into, future->into) == 0)
		return future;
	PyMem_Free(future->into);
	future->into = NULL;
	pq_drop(future);
	return NULL;
}

static int one_argument(Py_ssize_t n, Py_ssize_t wanted, const char *name)
{
	if (n == wanted)
		return 0;
	PyErr_Format(PyExc_TypeError, "gpuq: %s() takes %zd positional argument(s), not %zd", name,
		     wanted, n);
	return -1;
}

PyObject *pq_queue_submit(PyObject *self, PyObject *const *args, Py_ssize_t n, PyObject *names)
{
	struct pq_options options;
	struct pq_future *future;
	struct pq_handle *handle;

	if (one_argument(n, 1, "submit") != 0 || pq_parse_options(args + n, names, &options) != 0 ||
	    serve(self) != 0)
		return NULL;
	handle = pq_handle_open((struct pq_queue *)self);
	if (handle == NULL)
		return NULL;
	future = future_for(self, &options);
	if (future != NULL && send_object(handle, args[0], &options, &future->id,
					  (PyObject *)future, PQ_FUTURE) != 0) {
		pq_drop(future);
		future = NULL;
	}
	pq_drop(handle);
	return (PyObject *)future;
}

/* An event loop's future, args[0], for a message, args[1]. The id, or None: no slot is free. */
PyObject *pq_queue_submit_loop(PyObject *self, PyObject *const *args, Py_ssize_t n, PyObject *names)
{
	struct pq_options options;
	struct pq_handle *handle;
	PyObject *result = NULL;
	uint64_t id;

	if (one_argument(n, 2, "_submit_loop") != 0 ||
	    pq_parse_options(args + n, names, &options) != 0)
		return NULL;
	if (options.into != NULL || options.until != PQ_FOR_EVER) {
		PyErr_SetString(PyExc_TypeError, "gpuq: an awaited message takes neither into nor "
						 "timeout: see asyncio.wait_for()");
		return NULL;
	}
	handle = pq_handle_open((struct pq_queue *)self);
	if (handle == NULL)
		return NULL;
	options.until = 0;
	if (send_object(handle, args[1], &options, &id, args[0],
			options.view ? PQ_LOOP_VIEW : PQ_LOOP) == 0)
		result = PyLong_FromUnsignedLongLong(id);
	pq_drop(handle);
	return result;
}

/* ---- many ------------------------------------------------------------------------------------ */

enum { CHUNK = 256, CHUNK_BYTES = 512 * 1024 };

struct many {
	struct pq_handle *handle;
	struct pq_futures *futures;
	PyObject *objects; /* tuple; NULL: all have been got */
	EnqueueItem *items;
	Py_buffer *views; /* of those that are not bytes */
	Py_ssize_t n_views;
};

static void many_free(struct many *many)
{
	for (Py_ssize_t i = 0; i < many->n_views; i++)
		PyBuffer_Release(&many->views[i]);
	PyMem_Free(many->views);
	PyMem_Free(many->items);
	Py_XDECREF(many->objects);
	pq_drop(many->handle);
}

static int hold_view(struct many *many, Py_ssize_t count, struct pq_message *message)
{
	if (message->view.obj == NULL)
		return 0;
	if (many->views == NULL)
		many->views = PyMem_Calloc((size_t)count, sizeof(*many->views));
	if (many->views == NULL) {
		pq_message_release(message);
		PyErr_NoMemory();
		return -1;
	}
	many->views[many->n_views++] = message->view;
	return 0;
}

/* Every message's bytes, before the first is sent. */
static int many_get(struct many *many, Py_ssize_t count)
{
	many->items = PyMem_Calloc((size_t)count + 1, sizeof(*many->items));
	if (many->items == NULL) {
		PyErr_NoMemory();
		return -1;
	}
	for (Py_ssize_t i = 0; i < count; i++) {
		struct pq_message message;

		if (pq_message_get(PyTuple_GetItem(many->objects, i), &message) != 0 ||
		    hold_view(many, count, &message) != 0)
			return -1;
		if (check_length(many->handle, message.len) != 0) {
			PyObject *why = pq_take_exception();

			PyErr_Format(PyExc_ValueError, "%S (message %zd of %zd)", why, i, count);
			Py_XDECREF(why);
			return -1;
		}
		many->items[i] = (EnqueueItem){ message.data, message.len };
	}
	return 0;
}

static Py_ssize_t chunk_of(const struct many *many, Py_ssize_t first)
{
	size_t bytes = 0;
	Py_ssize_t n = 0;

	while (n < CHUNK && first + n < many->futures->count) {
		bytes += many->items[first + n].len;
		if (bytes > CHUNK_BYTES)
			break;
		n++;
	}
	return n;
}

/* @return how many were accepted now; 0: none, for want of slots; -1: an exception. */
static Py_ssize_t send_chunk(struct many *many, const struct pq_options *options, Py_ssize_t first)
{
	struct pq_futures *futures = many->futures;
	const Py_ssize_t count = chunk_of(many, first);
	uint64_t ids[CHUNK];
	size_t sent = 0;
	QueueStatus status;

	if (count == 0)
		return 0;
	status = q_enqueue_batch_ex(many->handle->q, many->items + first, (size_t)count,
				    &options->c, ids, &sent, 0);
	for (size_t i = 0; i < sent; i++) {
		futures->items[first + (Py_ssize_t)i].id = ids[i];
		pq_table_add(&many->handle->pending, ids[i], (PyObject *)futures,
			     first + (Py_ssize_t)i);
	}
	if (sent == 0 && status != Q_ERR_FULL) {
		pq_raise(status);
		return -1;
	}
	return (Py_ssize_t)sent;
}

/* @return how many were accepted; with an exception if it is not all. */
static Py_ssize_t send_all(struct many *many, const struct pq_options *options)
{
	Py_ssize_t at = 0;

	while (at < many->futures->count) {
		Py_ssize_t sent = send_chunk(many, options, at);

		if (sent < 0)
			return at;
		if (sent == 0) {
			const EnqueueItem *item = &many->items[at];

			if (place(many->handle, item->data, item->len, options,
				  &many->futures->items[at].id, (PyObject *)many->futures, at) != 0)
				return at;
			sent = 1;
		}
		at += sent;
	}
	return at;
}

/* The messages from `first` on were not accepted: their futures say why. */
static void refuse_rest(struct pq_futures *futures, Py_ssize_t first)
{
	PyObject *why = pq_take_exception();

	for (Py_ssize_t i = first; i < futures->count; i++)
		pq_futures_finish(futures, i, Py_NewRef(why), true);
	Py_DECREF(why);
}

static PyObject *send_many(PyObject *self, struct many *many, const struct pq_options *options)
{
	const Py_ssize_t count = PyTuple_Size(many->objects);
	Py_ssize_t sent;

	if (many_get(many, count) != 0)
		return NULL;
	many->futures = pq_futures_new(self, count);
	if (many->futures == NULL)
		return NULL;
	many->futures->view = options->view;
	sent = send_all(many, options);
	if (sent < count) {
		/* An exception that is none of ours, such as KeyboardInterrupt, goes through. */
		if (sent == 0 || !PyErr_ExceptionMatches(PyExc_Exception)) {
			many->futures->left -= count - sent;
			pq_drop(many->futures);
			return NULL;
		}
		refuse_rest(many->futures, sent);
	}
	return (PyObject *)many->futures;
}

PyObject *pq_queue_submit_many(PyObject *self, PyObject *const *args, Py_ssize_t n, PyObject *names)
{
	struct many many = { 0 };
	struct pq_options options;
	PyObject *futures = NULL;

	if (one_argument(n, 1, "submit_many") != 0 ||
	    pq_parse_options(args + n, names, &options) != 0 || serve(self) != 0)
		return NULL;
	if (options.into != NULL) {
		PyErr_SetString(PyExc_TypeError, "gpuq: submit_many() takes no into");
		return NULL;
	}
	many.handle = pq_handle_open((struct pq_queue *)self);
	if (many.handle != NULL)
		many.objects = PySequence_Tuple(args[0]);
	if (many.objects != NULL)
		futures = send_many(self, &many, &options);
	many_free(&many);
	return futures;
}
