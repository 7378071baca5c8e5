/* SPDX-License-Identifier: Apache-2.0 */
/* futures.c - class Futures: the futures of many messages, each made when it is asked for. */
#include "module.h"

PyTypeObject *pq_futures_type;

struct pq_futures *pq_futures_new(PyObject *queue, Py_ssize_t count)
{
	struct pq_futures *futures = pq_alloc(pq_futures_type);

	if (futures == NULL)
		return NULL;
	futures->items = PyMem_Calloc((size_t)count + 1, sizeof(*futures->items));
	if (futures->items == NULL) {
		pq_drop(futures);
		PyErr_NoMemory();
		return NULL;
	}
	futures->count = count;
	futures->left = count;
	if (count != 0)
		futures->queue = Py_NewRef(queue);
	return futures;
}

void pq_futures_finish(struct pq_futures *futures, Py_ssize_t index, PyObject *value, bool failed)
{
	struct pq_futures_item *item = &futures->items[index];
	struct pq_future *made = futures->made != NULL ? futures->made[index] : NULL;
	PyObject *queue = NULL;

	item->value = value;
	item->failed = failed;
	/* All of this before callbacks are called: one may ask for the results. */
	if (--futures->left == 0) {
		queue = futures->queue;
		futures->queue = NULL;
		pq_wake(&futures->locks);
	}
	if (made != NULL)
		pq_future_finish(made, Py_NewRef(value), failed);
	Py_XDECREF(queue);
}

static bool all_done(const void *of)
{
	return ((const struct pq_futures *)of)->left == 0;
}

static struct pq_future *make_future(struct pq_futures *futures, Py_ssize_t i)
{
	struct pq_futures_item *item = &futures->items[i];
	struct pq_future *future;

	if (futures->made == NULL)
		futures->made = PyMem_Calloc((size_t)futures->count, sizeof(*futures->made));
	if (futures->made == NULL) {
		PyErr_NoMemory();
		return NULL;
	}
	if (futures->made[i] != NULL)
		return (struct pq_future *)Py_NewRef((PyObject *)futures->made[i]);
	future = pq_future_new(futures->queue);
	if (future == NULL)
		return NULL;
	if (futures->made[i] != NULL) { /* another thread has been faster */
		pq_drop(future);
		return (struct pq_future *)Py_NewRef((PyObject *)futures->made[i]);
	}
	future->id = item->id;
	future->view = futures->view;
	if (item->value != NULL)
		pq_future_finish(future, Py_NewRef(item->value), item->failed);
	futures->made[i] = (struct pq_future *)Py_NewRef((PyObject *)future);
	return future;
}

static Py_ssize_t futures_len(PyObject *self)
{
	return ((struct pq_futures *)self)->count;
}

static PyObject *futures_item(PyObject *self, Py_ssize_t i)
{
	struct pq_futures *futures = (struct pq_futures *)self;

	if (i < 0 || i >= futures->count) {
		PyErr_SetString(PyExc_IndexError, "gpuq: no such future");
		return NULL;
	}
	return (PyObject *)make_future(futures, i);
}

static PyObject *futures_slice(struct pq_futures *futures, PyObject *slice)
{
	Py_ssize_t start, stop, step, count;
	PyObject *list;

	if (PySlice_Unpack(slice, &start, &stop, &step) != 0)
		return NULL;
	count = PySlice_AdjustIndices(futures->count, &start, &stop, step);
	list = PyList_New(count);
	for (Py_ssize_t i = 0; list != NULL && i < count; i++) {
		PyObject *future = (PyObject *)make_future(futures, start + i * step);

		if (future == NULL)
			Py_CLEAR(list);
		else
			PyList_SetItem(list, i, future);
	}
	return list;
}

static PyObject *futures_subscript(PyObject *self, PyObject *key)
{
	struct pq_futures *futures = (struct pq_futures *)self;
	Py_ssize_t i;

	if (PySlice_Check(key))
		return futures_slice(futures, key);
	i = PyNumber_AsSsize_t(key, PyExc_IndexError);
	if (i == -1 && PyErr_Occurred() != NULL)
		return NULL;
	return futures_item(self, i < 0 ? i + futures->count : i);
}

static PyObject *list_of(struct pq_futures *futures, bool exceptions)
{
	PyObject *list = PyList_New(futures->count);

	for (Py_ssize_t i = 0; list != NULL && i < futures->count; i++) {
		const struct pq_futures_item *item = &futures->items[i];

		if (item->failed && !exceptions) {
			PyErr_SetObject((PyObject *)Py_TYPE(item->value), item->value);
			Py_CLEAR(list);
		} else {
			PyList_SetItem(list, i, Py_NewRef(item->value));
		}
	}
	return list;
}

static PyObject *futures_results(PyObject *self, PyObject *args, PyObject *kwargs)
{
	static char *names[] = { "timeout", "return_exceptions", NULL };
	struct pq_futures *futures = (struct pq_futures *)self;
	PyObject *timeout = Py_None;
	int exceptions = 0, done;

	if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|Op:results", names, &timeout, &exceptions))
		return NULL;
	done = pq_wait_until(&futures->locks, all_done, futures, timeout);
	if (done < 0)
		return NULL;
	if (done == 0)
		return pq_raise_text(Q_ERR_TIMEOUT, "not all messages have finished in time");
	return list_of(futures, exceptions != 0);
}

static PyObject *futures_done(PyObject *self, PyObject *unused)
{
	(void)unused;
	return PyBool_FromLong(((struct pq_futures *)self)->left == 0);
}

static PyObject *futures_cancel(PyObject *self, PyObject *unused)
{
	struct pq_futures *futures = (struct pq_futures *)self;
	struct pq_handle *handle;

	(void)unused;
	if (futures->queue == NULL)
		Py_RETURN_NONE;
	handle = pq_handle_any((struct pq_queue *)futures->queue);
	if (handle == NULL)
		Py_RETURN_NONE;
	for (Py_ssize_t i = 0; i < futures->count; i++)
		if (futures->items[i].value == NULL && futures->items[i].id != 0)
			q_cancel(handle->q, futures->items[i].id);
	pq_drop(handle);
	Py_RETURN_NONE;
}

static int futures_traverse(PyObject *self, visitproc visit, void *arg)
{
	struct pq_futures *futures = (struct pq_futures *)self;

	Py_VISIT(Py_TYPE(self));
	Py_VISIT(futures->queue);
	Py_VISIT(futures->locks);
	for (Py_ssize_t i = 0; i < futures->count && futures->items != NULL; i++) {
		Py_VISIT(futures->items[i].value);
		if (futures->made != NULL)
			Py_VISIT(futures->made[i]);
	}
	return 0;
}

static int futures_clear(PyObject *self)
{
	struct pq_futures *futures = (struct pq_futures *)self;

	Py_CLEAR(futures->queue);
	Py_CLEAR(futures->locks);
	for (Py_ssize_t i = 0; futures->items != NULL && i < futures->count; i++) {
		Py_CLEAR(futures->items[i].value);
		if (futures->made != NULL)
			Py_CLEAR(futures->made[i]);
	}
	return 0;
}

static void futures_dealloc(PyObject *self)
{
	struct pq_futures *futures = (struct pq_futures *)self;

	PyObject_GC_UnTrack(self);
	futures_clear(self);
	PyMem_Free(futures->items);
	PyMem_Free(futures->made);
	pq_free(self);
}

static PyMethodDef methods[] = {
	{ "results", PQ_FAST(futures_results), METH_VARARGS | METH_KEYWORDS,
	  "results(timeout=None, return_exceptions=False)\n--\n\n"
	  "All results, in the order of the messages.\n\n"
	  "Waits at most `timeout` seconds for all of them; None: for ever. The first message that "
	  "failed raises\nits exception, unless return_exceptions is true: then exceptions stand "
	  "in "
	  "the list.\n\n"
	  "Raises gpuq.TimeoutError, and what the messages' futures would raise." },
	{ "done", futures_done, METH_NOARGS, "done()\n--\n\nWhether all messages have ended." },
	{ "cancel", futures_cancel, METH_NOARGS,
	  "cancel()\n--\n\nAsk that those not started yet be not started: they end with "
	  "concurrent.futures.CancelledError." },
	{ NULL, NULL, 0, NULL },
};

static PyType_Slot slots[] = {
	{ Py_tp_doc,
	  "The futures of the messages of one submit_many(), as a sequence.\n\n"
	  "results() hands all results out at once and makes no futures; each is made when it "
	  "is asked for." },
	{ Py_tp_dealloc, futures_dealloc },
	{ Py_tp_traverse, futures_traverse },
	{ Py_tp_clear, futures_clear },
	{ Py_tp_methods, methods },
	{ Py_sq_length, futures_len },
	{ Py_sq_item, futures_item },
	{ Py_mp_length, futures_len },
	{ Py_mp_subscript, futures_subscript },
	{ 0, NULL },
};
static PyType_Spec spec = {
	.name = "gpuq.Futures",
	.basicsize = sizeof(struct pq_futures),
	.flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
	.slots = slots,
};

int pq_add_futures_type(PyObject *module)
{
	return pq_add_type(module, &spec, &pq_futures_type);
}
