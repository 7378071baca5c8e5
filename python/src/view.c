/* SPDX-License-Identifier: Apache-2.0 */
/*
 * view.c - memory of the queue's under a memoryview: a result in place, whose slot is freed when
 * the last memoryview of it is released; and a reservation, which is written to before it is
 * committed.
 */
#include "module.h"

/* ---- results --------------------------------------------------------------------------------- */

struct view {
	PyObject_HEAD struct pq_handle *handle; /* NULL: the slot has been freed */
	const void *data;
	Py_ssize_t len;
	uint64_t id;
	Py_ssize_t exports;
};

PyTypeObject *pq_view_type, *pq_reservation_type;

static void view_release(struct view *view)
{
	struct pq_handle *handle = view->handle;

	if (handle == NULL)
		return;
	view->handle = NULL;
	q_release(handle->q, view->id);
	pq_drop(handle);
}

PyObject *pq_view_new(struct pq_handle *handle, const Completion *done)
{
	struct view *view = pq_alloc(pq_view_type);
	PyObject *memory;

	if (view == NULL)
		return NULL;
	view->data = done->result;
	view->len = done->result_len;
	view->id = done->msg_id;
	memory = PyMemoryView_FromObject((PyObject *)view);
	if (memory != NULL)
		view->handle = (struct pq_handle *)Py_NewRef((PyObject *)handle);
	pq_drop(view);
	return memory;
}

static int view_get(PyObject *self, Py_buffer *out, int flags)
{
	struct view *view = (struct view *)self;

	if (PyBuffer_FillInfo(out, self, (void *)(uintptr_t)view->data, view->len, 1, flags) != 0)
		return -1;
	view->exports++;
	return 0;
}

static void view_give_back(PyObject *self, Py_buffer *buffer)
{
	struct view *view = (struct view *)self;

	(void)buffer;
	if (--view->exports == 0)
		view_release(view);
}

static void view_dealloc(PyObject *self)
{
	view_release((struct view *)self);
	pq_free(self);
}

static PyType_Slot view_slots[] = {
	{ Py_tp_doc, "What a memoryview of a result in place stands on." },
	{ Py_tp_dealloc, view_dealloc },
	{ Py_bf_getbuffer, view_get },
	{ Py_bf_releasebuffer, view_give_back },
	{ 0, NULL },
};
static PyType_Spec view_spec = {
	.name = "gpuq._gpuq.ResultView",
	.basicsize = sizeof(struct view),
	.flags = Py_TPFLAGS_DEFAULT,
	.slots = view_slots,
};

int pq_add_view_type(PyObject *module)
{
	return pq_add_type(module, &view_spec, &pq_view_type);
}

/* ---- reservations ---------------------------------------------------------------------------- */

enum reservation_state { OPEN, ABANDONED, OVER };

struct reservation {
	PyObject_HEAD struct pq_handle *handle;
	struct pq_future *future;
	void *payload;
	Py_ssize_t len, exports;
	uint64_t id;
	enum reservation_state state;
};

PyObject *pq_queue_reserve(PyObject *self, PyObject *const *args, Py_ssize_t n, PyObject *names)
{
	struct pq_options options;
	struct reservation *reservation;
	Py_ssize_t len;

	if (n != 2) { /* Queue.reserve() makes the call: the length and a future */
		PyErr_SetString(PyExc_TypeError, "gpuq: _reserve() takes a length and a future");
		return NULL;
	}
	len = PyNumber_AsSsize_t(args[0], PyExc_OverflowError);
	if ((len == -1 && PyErr_Occurred() != NULL) ||
	    pq_parse_options(args + n, names, &options) != 0)
		return NULL;
	reservation = pq_alloc(pq_reservation_type);
	if (reservation == NULL)
		return NULL;
	reservation->state = OVER;
	reservation->handle = pq_handle_open((struct pq_queue *)self);
	if (reservation->handle == NULL || len < 0 ||
	    pq_reserve_slot(reservation->handle, (size_t)len, &options, &reservation->payload,
			    &reservation->id) != 0) {
		if (PyErr_Occurred() == NULL)
			PyErr_SetString(PyExc_ValueError, "gpuq: a length cannot be negative");
		pq_drop(reservation);
		return NULL;
	}
	reservation->state = OPEN;
	reservation->len = len;
	reservation->future = (struct pq_future *)Py_NewRef(args[1]);
	reservation->future->id = reservation->id;
	reservation->future->view = options.view;
	return (PyObject *)reservation;
}

static void reservation_abort(struct reservation *reservation)
{
	if (reservation->exports != 0) { /* somebody may write to it: see give_back */
		reservation->state = ABANDONED;
		return;
	}
	reservation->state = OVER;
	q_abort(reservation->handle->q, reservation->id);
}

static PyObject *reservation_method_abort(PyObject *self, PyObject *unused)
{
	struct reservation *reservation = (struct reservation *)self;
	PyObject *future = (PyObject *)reservation->future;

	(void)unused;
	if (reservation->state == OPEN)
		reservation_abort(reservation);
	reservation->future = NULL;
	if (future != NULL) {
		PyObject *error = pq_make_error(Q_ERR_CANCELLED, "the reservation was given back");

		if (error != NULL)
			pq_future_finish((struct pq_future *)future, error, true);
		pq_drop(future);
		if (error == NULL)
			return NULL;
	}
	Py_RETURN_NONE;
}

static PyObject *reservation_method_commit(PyObject *self, PyObject *unused)
{
	struct reservation *r = (struct reservation *)self;
	struct pq_pending taken;
	QueueStatus status;

	(void)unused;
	if (r->state != OPEN || r->future == NULL)
		return pq_raise_text(Q_ERR_NOT_FOUND, "the reservation is not open");
	if (r->exports != 0) {
		PyErr_SetString(PyExc_BufferError,
				"gpuq: the reservation's memory is still in use; "
				"release every view of it before it is committed");
		return NULL;
	}
	r->state = OVER;
	pq_table_add(&r->handle->pending, r->id, (PyObject *)r->future, PQ_FUTURE);
	status = q_commit(r->handle->q, r->id);
	if (status != Q_OK) {
		if (pq_table_take(&r->handle->pending, r->id, &taken))
			Py_DECREF(taken.owner);
		pq_raise(status);
		q_abort(r->handle->q, r->id);
		return NULL;
	}
	Py_CLEAR(r->future);
	Py_RETURN_NONE;
}

static int reservation_get(PyObject *self, Py_buffer *out, int flags)
{
	struct reservation *r = (struct reservation *)self;

	if (r->state != OPEN) {
		PyErr_SetString(PyExc_BufferError, "gpuq: the reservation is not open");
		return -1;
	}
	if (PyBuffer_FillInfo(out, self, r->payload, r->len, 0, flags) != 0)
		return -1;
	r->exports++;
	return 0;
}

static void reservation_give_back(PyObject *self, Py_buffer *buffer)
{
	struct reservation *r = (struct reservation *)self;

	(void)buffer;
	if (--r->exports == 0 && r->state == ABANDONED)
		reservation_abort(r);
}

static void reservation_dealloc(PyObject *self)
{
	struct reservation *r = (struct reservation *)self;

	if (r->state == OPEN) {
		PyObject *none = reservation_method_abort(self, NULL);

		if (none == NULL)
			PyErr_WriteUnraisable(NULL);
		Py_XDECREF(none);
	}
	pq_drop(r->future);
	pq_drop(r->handle);
	pq_free(self);
}

static PyMethodDef reservation_methods[] = {
	{ "commit", reservation_method_commit, METH_NOARGS,
	  "commit()\n--\n\nHand the message over. Every view of its memory must have been "
	  "released." },
	{ "abort", reservation_method_abort, METH_NOARGS,
	  "abort()\n--\n\nGive the slot back; its future ends as cancelled." },
	{ NULL, NULL, 0, NULL },
};

static PyType_Slot reservation_slots[] = {
	{ Py_tp_doc, "A slot to write a message into." }, { Py_tp_dealloc, reservation_dealloc },
	{ Py_tp_methods, reservation_methods },           { Py_bf_getbuffer, reservation_get },
	{ Py_bf_releasebuffer, reservation_give_back },   { 0, NULL },
};
static PyType_Spec reservation_spec = {
	.name = "gpuq._gpuq.Slot",
	.basicsize = sizeof(struct reservation),
	.flags = Py_TPFLAGS_DEFAULT,
	.slots = reservation_slots,
};

int pq_add_reservation_type(PyObject *module)
{
	return pq_add_type(module, &reservation_spec, &pq_reservation_type);
}
