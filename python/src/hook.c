/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hook.c - a queue's completions as events of a subscription, and functions called for them.
 *
 * The library calls hooks on a thread of its own, which takes the GIL for the call. A hook belongs
 * to the queue's handle, and its memory is freed where it cannot be running: after q_remove_hook(),
 * which waits for it without the GIL, and after q_shutdown(). It is not shown the result: the
 * completion thread may take that meanwhile, and the slot would be another message's.
 */
#include "module.h"

struct pq_hook {
	struct pq_hook *next;
	GpuQueue *q;
	PyObject *function; /* counted */
	uint64_t id;
};

/* The queue that this thread runs a hook of, or NULL. */
static _Thread_local const GpuQueue *inside;
/* The interpreter ends: what the library's threads call then finds no GIL any more. */
static _Atomic bool ended;

bool pq_in_hook_of(const GpuQueue *q)
{
	return inside != NULL && inside == q;
}

PyObject *pq_end_hooks(PyObject *module, PyObject *unused)
{
	(void)module;
	(void)unused;
	ended = true;
	Py_RETURN_NONE;
}

/* The hook may remove itself: nothing of it is touched after the call. */
static void run(const Completion *c, void *user)
{
	const struct pq_hook *hook = user;
	PyGILState_STATE gil;
	PyObject *function, *none;

	if (ended)
		return;
	gil = PyGILState_Ensure();
	inside = hook->q;
	function = Py_NewRef(hook->function);
	none = PyObject_CallFunction(pq_python.run_hook, "OKKiI", function,
				     (unsigned long long)c->msg_id, (unsigned long long)c->tag,
				     (int)c->status, (unsigned int)c->result_len);
	if (none == NULL)
		PyErr_WriteUnraisable(function);
	Py_XDECREF(none);
	Py_DECREF(function);
	inside = NULL;
	PyGILState_Release(gil);
}

static void free_hook(struct pq_hook *hook)
{
	Py_DECREF(hook->function);
	PyMem_Free(hook);
}

void pq_hooks_free(struct pq_hook *hooks)
{
	while (hooks != NULL) {
		struct pq_hook *next = hooks->next;

		free_hook(hooks);
		hooks = next;
	}
}

/* (flags, tag_min, tag_max, priorities, statuses), as the header has them */
static int to_filter(PyObject *object, void *out)
{
	CompletionFilter *f = out;
	unsigned long long least, most;

	*f = (CompletionFilter){ 0 };
	if (!PyArg_ParseTuple(object, "IKKII", &f->flags, &least, &most, &f->priorities,
			      &f->statuses))
		return 0;
	f->tag_min = least;
	f->tag_max = most;
	return 1;
}

/* _subscribe(filter, capacity, policy, subscription) */
PyObject *pq_queue_subscribe(PyObject *self, PyObject *args)
{
	struct pq_subscription *s;
	struct pq_handle *handle;
	CompletionFilter filter;
	unsigned int capacity;
	QueueStatus status;
	int policy;

	if (!PyArg_ParseTuple(args, "O&IiO!:_subscribe", to_filter, &filter, &capacity, &policy,
			      pq_subscription_type, (PyObject **)&s))
		return NULL;
	handle = pq_handle_of((struct pq_queue *)self);
	if (handle == NULL)
		return NULL;
	Py_BEGIN_ALLOW_THREADS;
	status = q_subscribe(handle->q, &filter, capacity, (NotifyPolicy)policy, &s->sub);
	Py_END_ALLOW_THREADS;
	pq_drop(handle);
	return pq_none_or_raise(status);
}

/* _add_hook(filter, function): its number */
PyObject *pq_queue_add_hook(PyObject *self, PyObject *args)
{
	struct pq_handle *handle;
	CompletionFilter filter;
	PyObject *function;
	struct pq_hook *hook;
	QueueStatus status;

	if (!PyArg_ParseTuple(args, "O&O:_add_hook", to_filter, &filter, &function))
		return NULL;
	handle = pq_handle_of((struct pq_queue *)self);
	if (handle == NULL)
		return NULL;
	hook = PyMem_Malloc(sizeof(*hook));
	if (hook == NULL) {
		pq_drop(handle);
		return PyErr_NoMemory();
	}
	hook->q = handle->q;
	hook->function = Py_NewRef(function);
	Py_BEGIN_ALLOW_THREADS;
	status = q_on_completion(handle->q, &filter, run, hook, &hook->id);
	Py_END_ALLOW_THREADS;
	if (status == Q_OK) {
		hook->next = handle->hooks;
		handle->hooks = hook;
		args = PyLong_FromUnsignedLongLong(hook->id);
	} else {
		free_hook(hook);
		args = pq_raise(status);
	}
	pq_drop(handle);
	return args;
}

static void unlink_hook(struct pq_handle *handle, uint64_t id)
{
	for (struct pq_hook **at = &handle->hooks; *at != NULL; at = &(*at)->next) {
		struct pq_hook *hook = *at;

		if (hook->id == id) {
			*at = hook->next;
			free_hook(hook);
			return;
		}
	}
}

/* Does nothing when it has been removed, or the queue is closed. */
PyObject *pq_queue_remove_hook(PyObject *self, PyObject *number)
{
	const uint64_t id = PyLong_AsUnsignedLongLong(number);
	struct pq_handle *handle;
	QueueStatus status;

	if (PyErr_Occurred() != NULL)
		return NULL;
	handle = pq_handle_any((struct pq_queue *)self);
	if (handle == NULL)
		Py_RETURN_NONE;
	Py_BEGIN_ALLOW_THREADS;
	status = q_remove_hook(handle->q, id);
	Py_END_ALLOW_THREADS;
	if (status == Q_OK)
		unlink_hook(handle, id);
	pq_drop(handle);
	return status == Q_ERR_NOT_FOUND ? Py_NewRef(Py_None) : pq_none_or_raise(status);
}
