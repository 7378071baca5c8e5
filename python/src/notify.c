/* SPDX-License-Identifier: Apache-2.0 */
/*
 * notify.c - classes NotifyCore and NotifyHandleCore, of which gpuq.Notify and gpuq.NotifyHandle
 * are made.
 *
 * A wait in a thread that is not the main one is one call of the library, so that a snapshot says
 * since when it waits; a close ends it by unregistering every handle. The main thread looks for
 * signals, a tenth of a second at a time.
 */
#include "module.h"

#include <string.h>

struct notify {
	PyObject_HEAD NotifyQueue *nq; /* NULL: not made, or closed */
	Py_ssize_t users;              /* threads inside a call without the GIL */
	bool closing;
};
struct handle {
	PyObject_HEAD PyObject *notify; /* struct notify; NULL: not made */
	NotifyHandle number;
};

PyTypeObject *pq_notify_type;
static PyTypeObject *handle_type;

static NotifyQueue *open_notify(PyObject *self)
{
	struct notify *notify = (struct notify *)self;

	if (notify->nq != NULL && !notify->closing)
		return notify->nq;
	pq_raise_closed("notification queue");
	return NULL;
}

static NotifyQueue *queue_of(PyObject *self)
{
	struct handle *handle = (struct handle *)self;

	if (handle->notify != NULL)
		return open_notify(handle->notify);
	pq_raise_closed("notification queue");
	return NULL;
}

static void destroy(struct notify *notify)
{
	NotifyQueue *nq = notify->nq;

	notify->nq = NULL;
	q_notify_destroy(nq);
}

/* ---- the queue ------------------------------------------------------------------------------- */

/* _create(max_handles, max_waiters, max_subscribers, max_bytes) */
static PyObject *notify_create(PyObject *self, PyObject *args)
{
	struct notify *notify = (struct notify *)self;
	NotifyConfig cfg = { 0 };
	unsigned long long bytes;

	if (!PyArg_ParseTuple(args, "IIIK:_create", &cfg.max_handles, &cfg.max_waiters,
			      &cfg.max_subscribers, &bytes))
		return NULL;
	if (notify->nq != NULL || notify->closing)
		return pq_raise_text(Q_ERR_INVALID_ARG, "it has been made");
	cfg.max_bytes = bytes;
	return pq_none_or_raise(q_notify_create(&cfg, &notify->nq));
}

/* What every handle is, for the caller to free; NULL with an exception. */
static NotifyHandleInfo *snapshot(NotifyQueue *nq, size_t *out_count)
{
	NotifyHandleInfo *info = NULL;
	size_t room = 0;
	QueueStatus status;

	while ((status = q_notify_snapshot(nq, info, room, out_count)) == Q_OK) {
		if (*out_count <= room && info != NULL)
			return info;
		PyMem_Free(info);
		room = *out_count + 1;
		info = PyMem_Malloc(room * sizeof(*info));
		if (info == NULL) {
			PyErr_NoMemory();
			return NULL;
		}
	}
	pq_raise(status);
	PyMem_Free(info);
	return NULL;
}

/* Ends every wait. */
static void unregister_all(NotifyQueue *nq)
{
	size_t count;
	NotifyHandleInfo *info = snapshot(nq, &count);

	for (size_t i = 0; info != NULL && i < count; i++)
		q_notify_unregister(nq, info[i].handle);
	if (info == NULL)
		PyErr_Clear(); /* a forked child's, where nobody waits */
	PyMem_Free(info);
}

static PyObject *notify_close(PyObject *self, PyObject *unused)
{
	struct notify *notify = (struct notify *)self;

	(void)unused;
	if (notify->nq != NULL && !notify->closing) {
		notify->closing = true;
		if (notify->users == 0)
			destroy(notify);
		else
			unregister_all(notify->nq);
	}
	Py_RETURN_NONE;
}

static PyObject *notify_register(PyObject *self, PyObject *args)
{
	NotifyQueue *nq = open_notify(self);
	const char *hint;
	NotifyHandle number;
	QueueStatus status;

	if (nq == NULL || !PyArg_ParseTuple(args, "s:register", &hint))
		return NULL;
	status = q_notify_register(nq, hint, &number);
	return status == Q_OK ? PyLong_FromUnsignedLongLong(number) : pq_raise(status);
}

static PyObject *info_object(const NotifyHandleInfo *i)
{
	PyObject *hint = PyUnicode_DecodeUTF8(i->hint, (Py_ssize_t)strlen(i->hint), "replace");

	if (hint == NULL)
		return NULL;
	return Py_BuildValue("KNKLKKKII", (unsigned long long)i->handle, hint,
			     (unsigned long long)i->sequence, (long long)i->last_arg,
			     (unsigned long long)i->reached, (unsigned long long)i->dropped,
			     (unsigned long long)i->waiting_since_ns, i->waiters, i->subscriptions);
}

static PyObject *notify_snapshot(PyObject *self, PyObject *unused)
{
	NotifyQueue *nq = open_notify(self);
	NotifyHandleInfo *info;
	PyObject *list;
	size_t count;

	(void)unused;
	if (nq == NULL)
		return NULL;
	info = snapshot(nq, &count);
	if (info == NULL)
		return NULL;
	list = PyList_New(0);
	for (size_t i = 0; list != NULL && i < count; i++) {
		PyObject *item = info_object(&info[i]);

		if (item == NULL || PyList_Append(list, item) != 0)
			Py_CLEAR(list);
		Py_XDECREF(item);
	}
	PyMem_Free(info);
	return list;
}

static PyObject *notify_stats(PyObject *self, PyObject *unused)
{
	NotifyQueue *nq = open_notify(self);
	QueueStatus status;
	NotifyStats s;

	(void)unused;
	if (nq == NULL)
		return NULL;
	status = q_notify_stats(nq, &s);
	if (status != Q_OK)
		return pq_raise(status);
#define STAT(name) #name, (unsigned long long)s.name
	return Py_BuildValue("{sKsKsKsKsKsKsKsK}", STAT(handles), STAT(waiters),
			     STAT(subscriptions), STAT(bytes), STAT(registered), STAT(posts),
			     STAT(reached), STAT(dropped));
#undef STAT
}

static PyObject *get_closed(PyObject *self, void *unused)
{
	struct notify *notify = (struct notify *)self;

	(void)unused;
	return PyBool_FromLong(notify->nq == NULL || notify->closing);
}

static void notify_dealloc(PyObject *self)
{
	destroy((struct notify *)self);
	pq_free(self);
}

static PyMethodDef notify_methods[] = {
	{ "_create", notify_create, METH_VARARGS, NULL },
	{ "_register", notify_register, METH_VARARGS, NULL },
	{ "_snapshot", notify_snapshot, METH_NOARGS, NULL },
	{ "_stats", notify_stats, METH_NOARGS, NULL },
	{ "close", notify_close, METH_NOARGS,
	  "close()\n--\n\n"
	  "Unregister every handle: threads that wait raise gpuq.ShutdownError, and subscriptions "
	  "end "
	  "after\nwhat they hold." },
	{ NULL, NULL, 0, NULL },
};
static PyGetSetDef notify_attributes[] = {
	{ "closed", get_closed, NULL, "Whether close() has been called.", NULL },
	{ NULL, NULL, NULL, NULL, NULL },
};
static PyType_Slot notify_slots[] = {
	{ Py_tp_dealloc, notify_dealloc },
	{ Py_tp_methods, notify_methods },
	{ Py_tp_getset, notify_attributes },
	{ 0, NULL },
};
static PyType_Spec notify_spec = {
	.name = "gpuq._gpuq.NotifyCore",
	.basicsize = sizeof(struct notify),
	.flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
	.slots = notify_slots,
};

/* ---- handles --------------------------------------------------------------------------------- */

/* _use(notify, number) */
static PyObject *handle_use(PyObject *self, PyObject *args)
{
	struct handle *handle = (struct handle *)self;
	unsigned long long number;
	PyObject *notify, *old = handle->notify;

	if (!PyArg_ParseTuple(args, "O!K:NotifyHandle", pq_notify_type, &notify, &number))
		return NULL;
	handle->notify = Py_NewRef(notify);
	handle->number = number;
	Py_XDECREF(old);
	Py_RETURN_NONE;
}

static PyObject *event_object(const NotifyEvent *e)
{
	return Py_BuildValue("KKLK", (unsigned long long)e->handle, (unsigned long long)e->sequence,
			     (long long)e->arg, (unsigned long long)e->lost);
}

static PyObject *handle_post(PyObject *self, PyObject *args)
{
	struct handle *handle = (struct handle *)self;
	NotifyQueue *nq = queue_of(self);
	long long arg = 0;
	QueueStatus status;
	size_t reached;

	if (nq == NULL || !PyArg_ParseTuple(args, "|L:post", &arg))
		return NULL;
	status = q_notify_post(nq, handle->number, arg, &reached);
	return status == Q_OK ? PyLong_FromSize_t(reached) : pq_raise(status);
}

static PyObject *handle_observe(PyObject *self, PyObject *unused)
{
	struct handle *handle = (struct handle *)self;
	NotifyQueue *nq = queue_of(self);
	QueueStatus status;
	uint64_t key;

	(void)unused;
	if (nq == NULL)
		return NULL;
	status = q_notify_observe(nq, handle->number, &key);
	return status == Q_OK ? PyLong_FromUnsignedLongLong(key) : pq_raise(status);
}

static PyObject *wait_for(struct notify *notify, NotifyHandle number, uint64_t key, int64_t until)
{
	PyObject *result = NULL;
	QueueStatus status;
	NotifyEvent event;
	int on;

	notify->users++;
	do {
		const uint32_t ms = pq_wait_ms(until);

		Py_BEGIN_ALLOW_THREADS;
		status = q_notify_wait(notify->nq, number, key, &event, ms);
		Py_END_ALLOW_THREADS;
		on = status == Q_ERR_TIMEOUT ? pq_goes_on(until) : 0;
	} while (on == 1);
	if (status == Q_OK)
		result = event_object(&event);
	else if (status == Q_ERR_STALE) /* it was unregistered while this looked for signals */
		pq_raise_text(Q_ERR_SHUTDOWN, "the handle has been unregistered");
	else if (on == 0)
		pq_raise(status);
	if (--notify->users == 0 && notify->closing)
		destroy(notify);
	return result;
}

/* _wait(key, timeout) */
static PyObject *handle_wait(PyObject *self, PyObject *args)
{
	struct handle *handle = (struct handle *)self;
	NotifyQueue *nq = queue_of(self);
	PyObject *timeout, *result, *notify = handle->notify;
	unsigned long long key;
	NotifyEvent event;
	QueueStatus status;
	int64_t until;

	if (nq == NULL || !PyArg_ParseTuple(args, "KO:wait", &key, &timeout) ||
	    pq_until(timeout, &until) != 0)
		return NULL;
	status = q_notify_wait(nq, handle->number, key, &event, 0);
	if (status == Q_OK)
		return event_object(&event);
	if (status != Q_ERR_EMPTY || until == 0)
		return pq_raise(status);
	Py_INCREF(notify);
	result = wait_for((struct notify *)notify, handle->number, key, until);
	Py_DECREF(notify);
	return result;
}

/* _subscribe(capacity, policy, subscription) */
static PyObject *handle_subscribe(PyObject *self, PyObject *args)
{
	struct handle *handle = (struct handle *)self;
	NotifyQueue *nq = queue_of(self);
	struct pq_subscription *s;
	unsigned int capacity;
	int policy;

	if (nq == NULL || !PyArg_ParseTuple(args, "IiO!:subscribe", &capacity, &policy,
					    pq_subscription_type, (PyObject **)&s))
		return NULL;
	return pq_none_or_raise(
		q_notify_subscribe(nq, handle->number, capacity, (NotifyPolicy)policy, &s->sub));
}

static PyObject *handle_unregister(PyObject *self, PyObject *unused)
{
	struct handle *handle = (struct handle *)self;
	NotifyQueue *nq = queue_of(self);

	(void)unused;
	return nq != NULL ? pq_none_or_raise(q_notify_unregister(nq, handle->number)) : NULL;
}

static PyObject *get_number(PyObject *self, void *unused)
{
	(void)unused;
	return PyLong_FromUnsignedLongLong(((struct handle *)self)->number);
}

static void handle_dealloc(PyObject *self)
{
	Py_XDECREF(((struct handle *)self)->notify);
	pq_free(self);
}

static PyMethodDef handle_methods[] = {
	{ "_use", handle_use, METH_VARARGS, NULL },
	{ "_wait", handle_wait, METH_VARARGS, NULL },
	{ "_subscribe", handle_subscribe, METH_VARARGS, NULL },
	{ "post", handle_post, METH_VARARGS,
	  "post(arg=0, /)\n--\n\n"
	  "Tell everybody who waits, and every subscription; arg: any number of 64 bits with a "
	  "sign.\n\n"
	  "Returns how many threads and subscriptions it has reached. It waits for none of them, "
	  "runs "
	  "no code of\ntheirs and keeps the GIL. Raises gpuq.StaleError: unregistered." },
	{ "observe", handle_observe, METH_NOARGS,
	  "observe()\n--\n\n"
	  "How many posts there have been: the key for wait(). Raises gpuq.StaleError." },
	{ "unregister", handle_unregister, METH_NOARGS,
	  "unregister()\n--\n\n"
	  "End the handle. Threads that wait raise gpuq.ShutdownError, subscriptions end after "
	  "what "
	  "they hold,\nand every later call raises gpuq.StaleError." },
	{ NULL, NULL, 0, NULL },
};
static PyGetSetDef handle_attributes[] = {
	{ "number", get_number, NULL, "What events and snapshots call it; used once, never again.",
	  NULL },
	{ NULL, NULL, NULL, NULL, NULL },
};
static PyType_Slot handle_slots[] = {
	{ Py_tp_dealloc, handle_dealloc },
	{ Py_tp_methods, handle_methods },
	{ Py_tp_getset, handle_attributes },
	{ 0, NULL },
};
static PyType_Spec handle_spec = {
	.name = "gpuq._gpuq.NotifyHandleCore",
	.basicsize = sizeof(struct handle),
	.flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
	.slots = handle_slots,
};

int pq_add_notify_types(PyObject *module)
{
	if (pq_add_type(module, &notify_spec, &pq_notify_type) != 0 ||
	    pq_add_type(module, &handle_spec, &handle_type) != 0)
		return -1;
	return pq_add_subscription_type(module);
}
