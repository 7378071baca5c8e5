/* SPDX-License-Identifier: Apache-2.0 */
/*
 * complete.c - from completions to futures, a round at a time: results become objects, the slots
 * are freed together, then the futures end, which runs callbacks of anybody's.
 */
#include "module.h"

#include <stdio.h>

enum { ROUND = 256 };

struct ready {
	struct pq_pending whose;
	PyObject *value;
	bool failed;
};

static PyObject *bytes_of(const Completion *done)
{
	PyObject *bytes;
	char *to;

	if (done->result_len < PQ_MUCH)
		return PyBytes_FromStringAndSize(done->result, done->result_len);
	bytes = PyBytes_FromStringAndSize(NULL, done->result_len);
	if (bytes != NULL) {
		to = PyBytes_AsString(bytes);
		pq_copy(to, done->result, done->result_len);
	}
	return bytes;
}

static PyObject *copy_into(const Py_buffer *into, const Completion *done)
{
	char text[128];

	if ((Py_ssize_t)done->result_len <= into->len) {
		pq_copy(into->buf, done->result, done->result_len);
		return PyLong_FromUnsignedLong(done->result_len);
	}
	snprintf(text, sizeof(text),
		 "the result has %u bytes, and there is room for %lld in `into`", done->result_len,
		 (long long)into->len);
	return pq_raise_text(Q_ERR_BUFFER_TOO_SMALL, text);
}

static PyObject *result_of(struct pq_handle *handle, const struct pq_pending *whose,
			   const Completion *done, bool *kept)
{
	const struct pq_future *future = (const struct pq_future *)whose->owner;
	const struct pq_futures *futures = (const struct pq_futures *)whose->owner;
	bool view;

	if (whose->index == PQ_FUTURE && future->state != PQ_PENDING)
		return Py_NewRef(Py_None); /* cancelled */
	if (whose->index == PQ_FUTURE && future->into != NULL)
		return copy_into(future->into, done);
	view = whose->index == PQ_FUTURE ? future->view
	       : whose->index >= 0       ? futures->view
					 : whose->index == PQ_LOOP_VIEW;
	if (!view)
		return bytes_of(done);
	*kept = true;
	return pq_view_new(handle, done);
}

/* As the processor's number, and in a sentence. */
static PyObject *failure_of(struct pq_handle *handle, const Completion *done)
{
	char text[128];
	uint32_t value = 0;
	PyObject *error, *number;

	switch (done->status) {
	case Q_ERR_FAILED:
		q_processor_status(handle->q, done->msg_id, &value);
		if (value != 0)
			snprintf(text, sizeof(text), "the processor reported failure %u", value);
		else
			snprintf(text, sizeof(text),
				 "the message failed: its result has more than %u bytes, or the "
				 "device failed",
				 handle->result_bytes);
		break;
	case Q_ERR_EXPIRED:
		snprintf(text, sizeof(text), "the deadline passed before the message was started");
		break;
	default:
		snprintf(text, sizeof(text), "the message ended: %s",
			 q_status_string(done->status));
		break;
	}
	error = pq_make_error(done->status, text);
	if (error == NULL || done->status != Q_ERR_FAILED)
		return error;
	number = PyLong_FromUnsignedLong(value);
	if (number == NULL || PyObject_SetAttrString(error, "value", number) != 0)
		PyErr_Clear();
	Py_XDECREF(number);
	return error;
}

/* The value of one completion. @return whether its slot may be freed now. */
static bool make_value(struct pq_handle *handle, const Completion *done, struct ready *out)
{
	bool kept = false;

	out->failed = done->status != Q_OK;
	if (out->failed)
		out->value = failure_of(handle, done);
	else
		out->value = result_of(handle, &out->whose, done, &kept);
	if (out->value == NULL) { /* no memory, say: that is what the future tells */
		out->value = pq_take_exception();
		out->failed = true;
		kept = false;
	}
	return !kept;
}

static PyObject *call_method(PyObject *object, const char *name)
{
	return PyObject_CallMethod(object, name, NULL);
}

/* An event loop's future, in the thread of that loop. */
static void finish_here(PyObject *owner, PyObject *value, bool failed)
{
	PyObject *done = call_method(owner, "done"), *none = NULL;

	if (done == Py_False) {
		if (failed && PyErr_GivenExceptionMatches(value, pq_python.cancelled_error))
			none = call_method(owner, "cancel");
		else
			none = PyObject_CallMethod(owner, failed ? "set_exception" : "set_result",
						   "O", value);
	}
	if (done == NULL || (done == Py_False && none == NULL))
		PyErr_WriteUnraisable(owner);
	Py_XDECREF(done);
	Py_XDECREF(none);
}

/* ... in another thread: all of a round at once. */
static void put_aside(PyObject **list, const struct ready *ready)
{
	PyObject *item;

	if (*list == NULL)
		*list = PyList_New(0);
	item = Py_BuildValue("OOO", ready->whose.owner, ready->value,
			     ready->failed ? Py_True : Py_False);
	if (*list == NULL || item == NULL || PyList_Append(*list, item) != 0)
		PyErr_WriteUnraisable(ready->whose.owner);
	Py_XDECREF(item);
}

static bool runs_in(PyObject *future, PyObject *loop)
{
	PyObject *its = loop != NULL ? call_method(future, "get_loop") : NULL;
	const bool same = its == loop && its != NULL;

	if (loop != NULL && its == NULL)
		PyErr_Clear();
	Py_XDECREF(its);
	return same;
}

static void finish_all(struct ready *ready, size_t count, PyObject *loop)
{
	PyObject *others = NULL;

	for (size_t i = 0; i < count; i++) {
		struct ready *r = &ready[i];

		if (r->whose.index == PQ_FUTURE) {
			pq_future_finish((struct pq_future *)r->whose.owner, r->value, r->failed);
		} else if (r->whose.index >= 0) {
			pq_futures_finish((struct pq_futures *)r->whose.owner, r->whose.index,
					  r->value, r->failed);
		} else {
			if (runs_in(r->whose.owner, loop))
				finish_here(r->whose.owner, r->value, r->failed);
			else
				put_aside(&others, r);
			Py_DECREF(r->value);
		}
		Py_DECREF(r->whose.owner);
	}
	if (others != NULL) {
		PyObject *none = PyObject_CallFunctionObjArgs(pq_python.deliver, others, NULL);

		if (none == NULL)
			PyErr_WriteUnraisable(others);
		Py_XDECREF(none);
		Py_DECREF(others);
	}
}

Py_ssize_t pq_complete(struct pq_handle *handle, PyObject *loop)
{
	Completion done[ROUND];
	struct ready ready[ROUND];
	uint64_t freed[ROUND];
	size_t count, n_ready = 0, n_freed = 0;
	QueueStatus status = q_poll_results(handle->q, done, ROUND, &count);

	if (status != Q_OK) {
		pq_raise(status);
		return -1;
	}
	for (size_t i = 0; i < count; i++) {
		struct ready *r = &ready[n_ready];

		/* Of nobody here: one that was sent by id. It is left to its sender. */
		if (!pq_table_take(&handle->pending, done[i].msg_id, &r->whose))
			continue;
		if (make_value(handle, &done[i], r))
			freed[n_freed++] = done[i].msg_id;
		n_ready++;
	}
	q_release_batch(handle->q, freed, n_freed);
	finish_all(ready, n_ready, loop);
	return (Py_ssize_t)count;
}

static void forget_threads(const struct pq_pending *whose)
{
	struct pq_futures *futures = (struct pq_futures *)whose->owner;

	if (whose->index == PQ_FUTURE) {
		pq_future_forget_threads((struct pq_future *)whose->owner);
	} else if (whose->index >= 0) {
		Py_CLEAR(futures->locks);
		if (futures->made != NULL && futures->made[whose->index] != NULL)
			pq_future_forget_threads(futures->made[whose->index]);
	}
}

void pq_fail_all(struct pq_handle *handle, PyObject *error, bool forked)
{
	struct ready one;
	size_t at = 0;

	while (pq_table_take_next(&handle->pending, &at, &one.whose)) {
		if (forked && one.whose.index <= PQ_LOOP) { /* the loop is the parent's */
			Py_DECREF(one.whose.owner);
			continue;
		}
		if (forked)
			forget_threads(&one.whose);
		one.value = Py_NewRef(error);
		one.failed = true;
		finish_all(&one, 1, NULL);
	}
}

/* The device has failed: so has every message. */
static void fail_by_exception(struct pq_handle *handle)
{
	PyObject *error = pq_take_exception();

	pq_fail_all(handle, error, false);
	Py_XDECREF(error);
}

/* The completion thread: until the queue is stopped and nothing is left to come. */
PyObject *pq_serve(PyObject *module, PyObject *object)
{
	struct pq_handle *handle = (struct pq_handle *)object;
	QueueStatus status;

	(void)module;
	if (Py_TYPE(object) != pq_handle_type) {
		PyErr_SetString(PyExc_TypeError, "gpuq: _serve() takes a Handle");
		return NULL;
	}
	do {
		Py_BEGIN_ALLOW_THREADS;
		status = q_wait_any(handle->q, UINT32_MAX);
		Py_END_ALLOW_THREADS;
		if (status != Q_OK && status != Q_ERR_SHUTDOWN)
			pq_raise(status);
		else if (pq_complete(handle, NULL) >= 0)
			continue;
		fail_by_exception(handle);
		break;
	} while (status != Q_ERR_SHUTDOWN);
	Py_RETURN_NONE;
}
