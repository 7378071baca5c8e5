/* SPDX-License-Identifier: Apache-2.0 */
/*
 * future.c - class FutureCore, the part of gpuq.Future in C.
 *
 * gpuq.Future derives from it and from concurrent.futures.Future, whose state lives here, under the
 * names that the standard library uses (_state, _condition, _waiters, ...). The condition, which
 * costs most of making a future there, is made when somebody asks for it: concurrent.futures.wait()
 * does. As long as there is none, a future is finished here, with the GIL as the lock; once there
 * is one, the standard library's own methods finish it. A thread in result() waits on a lock of its
 * own.
 */
#include "module.h"

PyTypeObject *pq_future_type;

struct pq_future *pq_future_new(PyObject *queue)
{
	struct pq_future *future = pq_alloc((PyTypeObject *)pq_python.future);

	if (future != NULL)
		future->queue = queue != NULL ? Py_NewRef(queue) : NULL;
	return future;
}

/* ---- waiting --------------------------------------------------------------------------------- */

static void forget_lock(PyObject *locks, PyObject *lock)
{
	for (Py_ssize_t i = 0; locks != NULL && i < PyList_Size(locks); i++) {
		if (PyList_GetItem(locks, i) == lock) {
			PyList_SetSlice(locks, i, i + 1, NULL);
			return;
		}
	}
}

/* Below 0: for ever. */
static int acquire_for(PyObject *lock, double seconds)
{
	PyObject *got;
	int truth;

	got = seconds == 0 ? PyObject_CallMethod(lock, "acquire", "O", Py_False)
			   : PyObject_CallMethod(lock, "acquire", "Od", Py_True, seconds);
	truth = got != NULL ? PyObject_IsTrue(got) : -1;
	Py_XDECREF(got);
	return truth;
}

static int acquire(PyObject *lock, PyObject *timeout)
{
	double seconds = -1;

	if (timeout != NULL && timeout != Py_None) {
		seconds = PyFloat_AsDouble(timeout);
		if (seconds == -1.0 && PyErr_Occurred() != NULL)
			return -1;
		seconds = seconds > 1e9 ? 1e9 : seconds > 0 ? seconds : 0;
	}
	return acquire_for(lock, seconds);
}

/* acquire() in a callback: what is waited for may be a result that this thread has to take. */
static int acquire_in_callback(PyObject *lock, PyObject *timeout)
{
	int64_t until;
	int got;

	if (pq_until(timeout, &until) != 0)
		return -1;
	do {
		pq_serve_meanwhile();
		got = acquire_for(lock, until != 0 ? PQ_MEANWHILE_MS / 1e3 : 0);
	} while (got == 0 && (until == PQ_FOR_EVER || pq_now_ns() < until));
	return got;
}

int pq_wait_until(PyObject **locks, bool (*done)(const void *), const void *of, PyObject *timeout)
{
	int (*take)(PyObject * lock, PyObject * timeout) = acquire;
	PyObject *lock, *list;
	int got = -1;

	if (done(of))
		return 1;
	if (pq_serve_meanwhile())
		take = acquire_in_callback;
	lock = PyObject_CallFunctionObjArgs(pq_python.allocate_lock, NULL);
	list = lock != NULL && acquire(lock, NULL) == 1 ? PyList_New(0) : NULL;
	if (list == NULL) {
		Py_XDECREF(lock);
		return -1;
	}
	/* From here to the end of the append nothing runs but this. */
	if (done(of)) {
		got = 1;
	} else {
		if (*locks == NULL)
			*locks = Py_NewRef(list);
		if (PyList_Append(*locks, lock) == 0)
			got = take(lock, timeout);
		if (got != 1)
			forget_lock(*locks, lock);
		if (got == 0 && done(of))
			got = 1;
	}
	Py_DECREF(list);
	Py_DECREF(lock);
	return got;
}

void pq_wake(PyObject **locks)
{
	PyObject *list = *locks;

	*locks = NULL;
	for (Py_ssize_t i = 0; list != NULL && i < PyList_Size(list); i++) {
		PyObject *none = PyObject_CallMethod(PyList_GetItem(list, i), "release", NULL);

		if (none == NULL)
			PyErr_WriteUnraisable(list);
		Py_XDECREF(none);
	}
	Py_XDECREF(list);
}

/* ---- the end --------------------------------------------------------------------------------- */

void pq_call_back(struct pq_future *future, PyObject *callbacks)
{
	for (Py_ssize_t i = 0; i < PyList_Size(callbacks); i++) {
		PyObject *callback = Py_NewRef(PyList_GetItem(callbacks, i));
		PyObject *none = PyObject_CallFunctionObjArgs(pq_python.run_callback, callback,
							      (PyObject *)future, NULL);

		if (none == NULL)
			PyErr_WriteUnraisable(callback);
		Py_XDECREF(none);
		Py_DECREF(callback);
	}
}

static void run_callbacks(struct pq_future *future)
{
	PyObject *callbacks = future->callbacks;

	future->callbacks = NULL;
	if (callbacks == NULL)
		return;
	if (pq_in_inner_round())
		pq_put_off(future, callbacks);
	else
		pq_call_back(future, callbacks);
	Py_DECREF(callbacks);
}

/* The standard library's method, on a future that has a condition. It may find that another thread
 * has ended the future meanwhile: then it raises, and that is that. */
static void by_method(struct pq_future *future, const char *name, PyObject *value)
{
	PyObject *callbacks = NULL, *result;

	if (pq_in_inner_round()) { /* the method would call them */
		callbacks = future->callbacks;
		future->callbacks = NULL;
	}
	result = value != NULL
			 ? PyObject_CallMethod(pq_python.stdlib_future, name, "OO", future, value)
			 : PyObject_CallMethod(pq_python.stdlib_future, name, "O", future);
	if (callbacks != NULL)
		pq_put_off(future, callbacks);
	Py_XDECREF(callbacks);
	if (result == NULL && future->state != PQ_PENDING)
		PyErr_Clear();
	else if (result == NULL)
		PyErr_WriteUnraisable((PyObject *)future);
	Py_XDECREF(result);
}

static void let_go(struct pq_future *future)
{
	PyObject *queue = future->queue;
	Py_buffer *into = future->into;

	future->queue = NULL;
	future->into = NULL;
	if (into != NULL) {
		PyBuffer_Release(into);
		PyMem_Free(into);
	}
	Py_XDECREF(queue);
}

void pq_future_forget_threads(struct pq_future *future)
{
	Py_CLEAR(future->condition);
	Py_CLEAR(future->waiters);
	Py_CLEAR(future->locks);
}

static void finish_cancelled(struct pq_future *future)
{
	if (future->condition != NULL) {
		by_method(future, "cancel", NULL);
		by_method(future, "set_running_or_notify_cancel", NULL);
		pq_wake(&future->locks);
		return;
	}
	future->state = PQ_CANCELLED_NOTIFIED;
	pq_wake(&future->locks);
	run_callbacks(future);
}

void pq_future_finish(struct pq_future *future, PyObject *value, bool failed)
{
	pq_hold(future);
	if (future->state != PQ_PENDING) { /* cancelled: nobody wants it */
		Py_DECREF(value);
	} else if (failed && PyErr_GivenExceptionMatches(value, pq_python.cancelled_error)) {
		Py_DECREF(value);
		finish_cancelled(future);
	} else if (future->condition != NULL) {
		by_method(future, failed ? "set_exception" : "set_result", value);
		Py_DECREF(value);
		pq_wake(&future->locks);
	} else {
		*(failed ? &future->exception : &future->result) = value;
		future->state = PQ_FINISHED;
		pq_wake(&future->locks);
		run_callbacks(future);
	}
	let_go(future);
	pq_drop(future);
}

/* ---- methods --------------------------------------------------------------------------------- */

static bool is_done(const void *of)
{
	return ((const struct pq_future *)of)->state != PQ_PENDING;
}

/* @return 0: it has ended well or with an exception; -1 with an exception. */
static int await_end(struct pq_future *future, PyObject *args, PyObject *kwargs, const char *format)
{
	static char *names[] = { "timeout", NULL };
	PyObject *timeout = Py_None;
	int done;

	if (!PyArg_ParseTupleAndKeywords(args, kwargs, format, names, &timeout))
		return -1;
	done = pq_wait_until(&future->locks, is_done, future, timeout);
	if (done == 0)
		pq_raise_text(Q_ERR_TIMEOUT, "the message has not finished in time");
	if (done <= 0)
		return -1;
	if (future->state == PQ_FINISHED)
		return 0;
	pq_raise_text(Q_ERR_CANCELLED, "the message was cancelled");
	return -1;
}

static PyObject *future_result(PyObject *self, PyObject *args, PyObject *kwargs)
{
	struct pq_future *future = (struct pq_future *)self;

	if (await_end(future, args, kwargs, "|O:result") != 0)
		return NULL;
	if (future->exception != NULL) {
		PyErr_SetObject((PyObject *)Py_TYPE(future->exception), future->exception);
		return NULL;
	}
	return Py_NewRef(future->result);
}

static PyObject *future_exception(PyObject *self, PyObject *args, PyObject *kwargs)
{
	struct pq_future *future = (struct pq_future *)self;

	if (await_end(future, args, kwargs, "|O:exception") != 0)
		return NULL;
	return Py_NewRef(future->exception != NULL ? future->exception : Py_None);
}

static PyObject *future_done(PyObject *self, PyObject *unused)
{
	(void)unused;
	return PyBool_FromLong(((struct pq_future *)self)->state != PQ_PENDING);
}

static PyObject *future_cancelled(PyObject *self, PyObject *unused)
{
	const unsigned state = ((struct pq_future *)self)->state;

	(void)unused;
	return PyBool_FromLong(state == PQ_CANCELLED || state == PQ_CANCELLED_NOTIFIED);
}

static PyObject *future_running(PyObject *self, PyObject *unused)
{
	(void)self;
	(void)unused;
	Py_RETURN_FALSE;
}

static PyObject *future_cancel(PyObject *self, PyObject *unused)
{
	struct pq_future *future = (struct pq_future *)self;
	struct pq_handle *handle;

	(void)unused;
	if (future->state != PQ_PENDING)
		return PyBool_FromLong(future->state != PQ_FINISHED);
	handle = future->queue != NULL ? pq_handle_any((struct pq_queue *)future->queue) : NULL;
	if (handle != NULL) {
		q_cancel(handle->q, future->id); /* it may be too late, which its end will show */
		pq_drop(handle);
	}
	finish_cancelled(future);
	/* `into` stays held: the message may be running, and its result is thrown away. */
	return PyBool_FromLong(future->state != PQ_FINISHED);
}

static PyObject *future_add_done_callback(PyObject *self, PyObject *callback)
{
	struct pq_future *future = (struct pq_future *)self;
	PyObject *list = NULL;

	if (future->state == PQ_PENDING && future->callbacks == NULL) {
		list = PyList_New(0);
		if (list == NULL)
			return NULL;
	}
	if (future->state != PQ_PENDING) {
		Py_XDECREF(list);
		return PyObject_CallFunctionObjArgs(pq_python.run_callback, callback, self, NULL);
	}
	if (future->callbacks == NULL)
		future->callbacks = list;
	else
		Py_XDECREF(list);
	if (PyList_Append(future->callbacks, callback) != 0)
		return NULL;
	Py_RETURN_NONE;
}

/* ---- the names that the standard library uses ------------------------------------------------ */

static const char *const state_names[] = { "PENDING", "CANCELLED", "CANCELLED_AND_NOTIFIED",
					   "FINISHED" };

static PyObject *get_state(PyObject *self, void *unused)
{
	(void)unused;
	return PyUnicode_InternFromString(state_names[((struct pq_future *)self)->state]);
}

static int set_state(PyObject *self, PyObject *value, void *unused)
{
	(void)unused;
	for (unsigned i = 0; value != NULL && i < sizeof(state_names) / sizeof(state_names[0]);
	     i++) {
		if (PyUnicode_Check(value) &&
		    PyUnicode_CompareWithASCIIString(value, state_names[i]) == 0) {
			((struct pq_future *)self)->state = (uint8_t)i;
			return 0;
		}
	}
	PyErr_SetString(PyExc_ValueError, "gpuq: a future has no such state");
	return -1;
}

/* What a closure of a PyGetSetDef points to: where the field is. */
#define FIELD(name) ((void *)offsetof(struct pq_future, name))

static PyObject **field(PyObject *self, void *offset)
{
	return (PyObject **)(void *)((char *)self + (size_t)offset);
}

static PyObject *get_field(PyObject *self, void *offset)
{
	PyObject *value = *field(self, offset);

	return Py_NewRef(value != NULL ? value : Py_None);
}

static int set_field(PyObject *self, PyObject *value, void *offset)
{
	PyObject **at = field(self, offset), *old = *at;

	*at = value != NULL && value != Py_None ? Py_NewRef(value) : NULL;
	Py_XDECREF(old);
	return 0;
}

static int set_result(PyObject *self, PyObject *value, void *offset)
{
	PyObject **at = field(self, offset), *old = *at;

	*at = value != NULL ? Py_NewRef(value) : NULL; /* None is a result */
	Py_XDECREF(old);
	return 0;
}

static PyObject *get_list(PyObject *self, void *offset)
{
	PyObject **at = field(self, offset);

	if (*at == NULL) {
		PyObject *list = PyList_New(0);

		if (list == NULL)
			return NULL;
		if (*at == NULL)
			*at = list;
		else
			Py_DECREF(list);
	}
	return Py_NewRef(*at);
}

static PyObject *get_condition(PyObject *self, void *unused)
{
	struct pq_future *future = (struct pq_future *)self;

	(void)unused;
	if (future->condition == NULL) {
		PyObject *condition = PyObject_CallFunctionObjArgs(pq_python.condition, NULL);

		if (condition == NULL)
			return NULL;
		if (future->condition == NULL)
			future->condition = condition;
		else
			Py_DECREF(condition);
	}
	return Py_NewRef(future->condition);
}

static PyObject *get_id(PyObject *self, void *unused)
{
	(void)unused;
	return PyLong_FromUnsignedLongLong(((struct pq_future *)self)->id);
}

static PyGetSetDef attributes[] = {
	{ "id", get_id, NULL,
	  "The message's number, by which Queue.subscribe() and Queue.on_completion() call it.",
	  NULL },
	{ "_state", get_state, set_state, NULL, NULL },
	{ "_result", get_field, set_result, NULL, FIELD(result) },
	{ "_exception", get_field, set_field, NULL, FIELD(exception) },
	{ "_waiters", get_list, set_field, NULL, FIELD(waiters) },
	{ "_done_callbacks", get_list, set_field, NULL, FIELD(callbacks) },
	{ "_condition", get_condition, NULL, NULL, NULL },
	{ NULL, NULL, NULL, NULL, NULL },
};

static PyMethodDef methods[] = {
	{ "result", PQ_FAST(future_result), METH_VARARGS | METH_KEYWORDS,
	  "result(timeout=None)\n--\n\n"
	  "The message's result; waits for it at most `timeout` seconds (None: for ever).\n\n"
	  "bytes; with view=True a read-only memoryview, whose slot is free again when it is "
	  "released; "
	  "with\ninto=buffer the number of bytes written there.\n\n"
	  "Raises gpuq.TimeoutError if it has not finished by then (it goes on), "
	  "gpuq.CancelledError,\ngpuq.ExpiredError, gpuq.FailedError: how the message ended." },
	{ "exception", PQ_FAST(future_exception), METH_VARARGS | METH_KEYWORDS,
	  "exception(timeout=None)\n--\n\nWhat result() would raise, or None." },
	{ "done", future_done, METH_NOARGS,
	  "done()\n--\n\nWhether it has ended, or was cancelled." },
	{ "cancelled", future_cancelled, METH_NOARGS,
	  "cancelled()\n--\n\nWhether it was cancelled." },
	{ "running", future_running, METH_NOARGS,
	  "running()\n--\n\nFalse: a queue does not tell which messages have been started." },
	{ "cancel", future_cancel, METH_NOARGS,
	  "cancel()\n--\n\n"
	  "End the future as cancelled, and ask the queue not to start its message.\n\n"
	  "A message that a consumer has already taken runs to its end; its result is thrown away. "
	  "Returns False\nif the future has ended otherwise before." },
	{ "add_done_callback", future_add_done_callback, METH_O,
	  "add_done_callback(fn)\n--\n\n"
	  "Call fn(self) when the future has ended; at once, if it has.\n\n"
	  "It is called in the thread that finds the end, mostly the queue's completion thread, "
	  "which "
	  "serves all\nfutures of the queue: it should be short. What it raises is logged." },
	{ NULL, NULL, 0, NULL },
};

/* ---- life ------------------------------------------------------------------------------------ */

static int future_traverse(PyObject *self, visitproc visit, void *arg)
{
	struct pq_future *future = (struct pq_future *)self;

	Py_VISIT(Py_TYPE(self));
	Py_VISIT(future->result);
	Py_VISIT(future->exception);
	Py_VISIT(future->condition);
	Py_VISIT(future->waiters);
	Py_VISIT(future->callbacks);
	Py_VISIT(future->locks);
	Py_VISIT(future->queue);
	return 0;
}

static int future_clear(PyObject *self)
{
	struct pq_future *future = (struct pq_future *)self;

	Py_CLEAR(future->result);
	Py_CLEAR(future->exception);
	Py_CLEAR(future->condition);
	Py_CLEAR(future->waiters);
	Py_CLEAR(future->callbacks);
	Py_CLEAR(future->locks);
	let_go(future);
	return 0;
}

static void future_dealloc(PyObject *self)
{
	PyObject_GC_UnTrack(self);
	future_clear(self);
	pq_free(self);
}

static PyType_Slot slots[] = {
	{ Py_tp_dealloc, future_dealloc }, { Py_tp_traverse, future_traverse },
	{ Py_tp_clear, future_clear },     { Py_tp_methods, methods },
	{ Py_tp_getset, attributes },      { 0, NULL },
};
static PyType_Spec spec = {
	.name = "gpuq._gpuq.FutureCore",
	.basicsize = sizeof(struct pq_future),
	.flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_BASETYPE,
	.slots = slots,
};

int pq_add_future_types(PyObject *module)
{
	if (pq_add_type(module, &spec, &pq_future_type) != 0)
		return -1;
	return pq_add_futures_type(module);
}
