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

/* What a thread is at. A callback that waits begins another round in the same thread, inside this
 * one. That ends futures and leaves their callbacks to the outermost round, so rounds are two deep
 * at most, however much callbacks send. */
struct pq_round {
	struct pq_handle *handle;
	struct pq_round *outer; /* of this thread; NULL: this is the outermost */
	struct pq_round *next;  /* of this queue, in any thread */
	PyObject *loop;         /* borrowed: it runs in this thread; or NULL */
	struct ready *ready;    /* from `at` to `count`: they are in no table, and have not ended */
	size_t at, count;
	PyObject *later; /* list of (future, its callbacks), or NULL */
	bool in_wait;    /* a callback of this round waits */
};
static _Thread_local struct pq_round *innermost;

bool pq_in_inner_round(void)
{
	return innermost != NULL && (innermost->outer != NULL || innermost->in_wait);
}

void pq_put_off(struct pq_future *future, PyObject *callbacks)
{
	PyObject *item = PyTuple_Pack(2, (PyObject *)future, callbacks);
	struct pq_round *outermost = innermost;

	while (outermost->outer != NULL)
		outermost = outermost->outer;
	if (outermost->later == NULL)
		outermost->later = PyList_New(0);
	if (item == NULL || outermost->later == NULL || PyList_Append(outermost->later, item) != 0)
		PyErr_WriteUnraisable((PyObject *)future);
	Py_XDECREF(item);
}

/* What inner rounds have put off; a callback may put off more. */
static void call_later(struct pq_round *round)
{
	while (round->later != NULL) {
		PyObject *list = round->later;

		round->later = NULL;
		for (Py_ssize_t i = 0; i < PyList_Size(list); i++) {
			PyObject *item = PyList_GetItem(list, i); /* the list is nobody else's */

			pq_call_back((struct pq_future *)PyTuple_GetItem(item, 0),
				     PyTuple_GetItem(item, 1));
		}
		Py_DECREF(list);
	}
}

static void round_begin(struct pq_round *round)
{
	round->outer = innermost;
	innermost = round;
	round->next = round->handle->rounds;
	round->handle->rounds = round;
}

static void round_end(struct pq_round *round)
{
	struct pq_round **at = &round->handle->rounds;

	innermost = round->outer;
	while (*at != NULL && *at != round)
		at = &(*at)->next;
	if (*at != NULL) /* else this is a child that was forked meanwhile */
		*at = round->next;
}

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

static void finish_all(struct pq_round *round)
{
	PyObject *others = NULL;

	while (round->at < round->count) {
		struct ready *r = &round->ready[round->at++];

		if (r->whose.index == PQ_FUTURE) {
			pq_future_finish((struct pq_future *)r->whose.owner, r->value, r->failed);
		} else if (r->whose.index >= 0) {
			pq_futures_finish((struct pq_futures *)r->whose.owner, r->whose.index,
					  r->value, r->failed);
		} else {
			if (runs_in(r->whose.owner, round->loop))
				finish_here(r->whose.owner, r->value, r->failed);
			else
				put_aside(&others, r);
			Py_DECREF(r->value);
		}
		Py_DECREF(r->whose.owner);
		if (round->outer == NULL && !round->in_wait)
			call_later(round);
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
	struct pq_round round = { .handle = handle, .loop = loop, .ready = ready };
	size_t count, n_freed = 0;
	QueueStatus status = q_poll_results(handle->q, done, ROUND, &count);

	if (status != Q_OK) {
		pq_raise(status);
		return -1;
	}
	round_begin(&round);
	for (size_t i = 0; i < count; i++) {
		struct ready *r = &ready[round.count];

		/* Of nobody here: one that was sent by id. It is left to its sender. */
		if (!pq_table_take(&handle->pending, done[i].msg_id, &r->whose))
			continue;
		r->value = NULL;
		round.count++; /* a copy may give the GIL up, and a thread fork meanwhile */
		if (make_value(handle, &done[i], r))
			freed[n_freed++] = done[i].msg_id;
	}
	q_release_batch(handle->q, freed, n_freed);
	finish_all(&round);
	round_end(&round);
	return (Py_ssize_t)count;
}

bool pq_serve_meanwhile(void)
{
	struct pq_round *const in = innermost;

	for (struct pq_round *round = in; round != NULL; round = round->outer) {
		const bool was = round->in_wait;

		round->in_wait = true;
		finish_all(round); /* the rest of it: the callback may wait for these */
		if (pq_complete(round->handle, round->loop) < 0)
			PyErr_Clear(); /* the device has failed: who serves it will see it, too */
		round->in_wait = was;
	}
	return in != NULL;
}

PyObject *pq_serve_meanwhile_py(PyObject *module, PyObject *unused)
{
	(void)module;
	(void)unused;
	return PyBool_FromLong(pq_serve_meanwhile());
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

static void fail(struct pq_handle *handle, const struct pq_pending *whose, PyObject *error,
		 bool forked)
{
	struct ready one = { .whose = *whose, .value = Py_NewRef(error), .failed = true };
	struct pq_round round = { .handle = handle, .ready = &one, .count = 1 };

	if (forked && whose->index <= PQ_LOOP) { /* the loop is the parent's */
		Py_DECREF(one.value);
		Py_DECREF(whose->owner);
		return;
	}
	if (forked)
		forget_threads(whose);
	round_begin(&round);
	finish_all(&round);
	round_end(&round);
}

/* What the parent's threads had taken, and not yet ended. Those threads are not here; their stacks
 * are, until there are other threads, which a callback may begin: so all is copied first. */
static void fail_rounds(struct pq_handle *handle, PyObject *error)
{
	struct pq_pending *left;
	size_t count = 0, n = 0;

	for (struct pq_round *round = handle->rounds; round != NULL; round = round->next)
		count += round->count - round->at;
	left = PyMem_Calloc(count + 1, sizeof(*left));
	for (struct pq_round *round = handle->rounds; round != NULL && left != NULL;
	     round = round->next) {
		for (size_t i = round->at; i < round->count; i++) {
			Py_XDECREF(round->ready[i].value);
			left[n++] = round->ready[i].whose;
		}
		round->at = round->count; /* where it is this thread's, and goes on */
	}
	handle->rounds = NULL;
	for (size_t i = 0; i < n; i++)
		fail(handle, &left[i], error, true);
	PyMem_Free(left);
}

void pq_fail_all(struct pq_handle *handle, PyObject *error, bool forked)
{
	struct pq_pending whose;
	size_t at = 0;

	if (forked)
		fail_rounds(handle, error);
	while (pq_table_take_next(&handle->pending, &at, &whose))
		fail(handle, &whose, error, forked);
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
