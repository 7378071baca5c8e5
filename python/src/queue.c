/* SPDX-License-Identifier: Apache-2.0 */
/* queue.c - classes Handle and QueueCore, of which gpuq.Queue is made. */
#include "module.h"

#include <gpuq/processor.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

PyTypeObject *pq_handle_type, *pq_queue_type;

struct pq_handle *pq_handle_any(struct pq_queue *queue)
{
	return queue->handle != NULL ? (struct pq_handle *)Py_NewRef((PyObject *)queue->handle)
				     : NULL;
}

struct pq_handle *pq_handle_of(struct pq_queue *queue)
{
	if (queue->handle == NULL)
		pq_raise_text(Q_ERR_SHUTDOWN, "the queue is closed");
	return pq_handle_any(queue);
}

struct pq_handle *pq_handle_open(struct pq_queue *queue)
{
	if (queue->handle != NULL && queue->closing) {
		pq_raise_text(Q_ERR_SHUTDOWN, "the queue is being closed");
		return NULL;
	}
	return pq_handle_of(queue);
}

/* ---- the handle ------------------------------------------------------------------------------ */

/* What a handle leaves behind. */
struct remains {
	GpuQueue *q;
	struct pq_table pending;
	struct pq_hook *hooks;
	PyObject *keep;
};

/* Its hooks are still called for what has completed, and take the GIL for it. */
static void shut_down(struct remains *r)
{
	struct pq_pending left;
	size_t at = 0;

	if (r->q != NULL) {
		Py_BEGIN_ALLOW_THREADS;
		q_shutdown(r->q);
		Py_END_ALLOW_THREADS;
	}
	while (r->pending.entries != NULL && pq_table_take_next(&r->pending, &at, &left))
		Py_DECREF(left.owner);
	pq_table_free(&r->pending);
	pq_hooks_free(r->hooks);
	Py_XDECREF(r->keep);
}

static void shut_down_elsewhere(void *arg)
{
	const PyGILState_STATE gil = PyGILState_Ensure();

	shut_down(arg);
	PyMem_Free(arg);
	PyGILState_Release(gil);
}

static void handle_dealloc(PyObject *self)
{
	struct pq_handle *handle = (struct pq_handle *)self;
	struct remains r = { handle->q, handle->pending, handle->hooks, handle->keep };

	if (pq_in_hook_of(r.q)) { /* where q_shutdown() could not wait for the hook */
		struct remains *copy = PyMem_Malloc(sizeof(r));

		if (copy != NULL) {
			*copy = r;
			if (PyThread_start_new_thread(shut_down_elsewhere, copy) ==
			    (unsigned long)-1)
				PyMem_Free(copy); /* the queue stays as it is */
		}
	} else {
		shut_down(&r);
	}
	pq_free(self);
}

static PyType_Slot handle_slots[] = {
	{ Py_tp_doc, "The library's queue; it is freed with the last reference to this." },
	{ Py_tp_dealloc, handle_dealloc },
	{ 0, NULL },
};
static PyType_Spec handle_spec = {
	.name = "gpuq._gpuq.Handle",
	.basicsize = sizeof(struct pq_handle),
	.flags = Py_TPFLAGS_DEFAULT,
	.slots = handle_slots,
};

/* ---- opening --------------------------------------------------------------------------------- */

static const struct {
	const char *name;
	size_t offset;
} settings[] = {
#define SETTING(name)                                                                              \
	{                                                                                          \
#name, offsetof(QueueConfig, name)                                                 \
	}
	SETTING(capacity),     SETTING(slot_bytes),
	SETTING(result_bytes), SETTING(device),
	SETTING(ordinal),      SETTING(granularity),
	SETTING(consumers),    SETTING(reserve_sms),
	SETTING(idle_park_ms), SETTING(transport),
	SETTING(copy_from),    SETTING(bounded_messages),
	SETTING(bounded_ms),   SETTING(shutdown_timeout_ms),
#undef SETTING
};

static int read_setting(PyObject *values, const char *name, uint32_t *out)
{
	PyObject *value = PyDict_GetItemString(values, name); /* borrowed */
	uint64_t number;

	if (value == NULL)
		return 0;
	if (pq_parse_number(value, name, UINT32_MAX, &number) != 0)
		return -1;
	*out = (uint32_t)number;
	return 0;
}

static int read_settings(PyObject *values, QueueConfig *cfg)
{
	PyObject *trace = PyDict_GetItemString(values, "trace_records");

	for (size_t i = 0; i < sizeof(settings) / sizeof(settings[0]); i++)
		if (read_setting(values, settings[i].name,
				 (uint32_t *)(void *)((char *)cfg + settings[i].offset)) != 0)
			return -1;
	if (trace != NULL) {
		cfg->flags = Q_TRACE;
		return pq_parse_number(trace, "trace_records", UINT64_MAX, &cfg->trace_records);
	}
	return 0;
}

/* A queue for a function at an address: it is a processor of the program's while q_init() runs. */
static GpuQueue *init_by_address(QueueConfig *cfg, void *address, char name[64])
{
	QProcessorImage image = { .magic = Q_PROCESSOR_MAGIC,
				  .protocol_version = Q_PROTOCOL_VERSION,
				  .name = name,
				  .cpu = (QProcessorFn)(uintptr_t)address };
	GpuQueue *q;

	cfg->processor = name;
	q_register_processor(&image);
	q = q_init(cfg);
	q_unregister_processor(&image);
	return q;
}

static GpuQueue *init(QueueConfig *cfg, void *address)
{
	static unsigned long number; /* under the GIL */
	char name[64];
	GpuQueue *q;

	snprintf(name, sizeof(name), "cfunc-%lu", ++number);
	Py_BEGIN_ALLOW_THREADS;
	q = address != NULL ? init_by_address(cfg, address, name) : q_init(cfg);
	Py_END_ALLOW_THREADS;
	return q;
}

struct names {
	const char *processor, *endpoint; /* or NULL */
};

static int open_handle(struct pq_handle *handle, PyObject *values, const struct names *names,
		       PyObject *data, void *address)
{
	QueueConfig cfg = { .processor = names->processor, .endpoint = names->endpoint };
	Py_buffer view = { 0 };

	if (read_settings(values, &cfg) != 0)
		return -1;
	if (data != Py_None) {
		if (PyObject_GetBuffer(data, &view, PyBUF_SIMPLE) != 0)
			return -1;
		cfg.processor_data = view.buf;
		cfg.processor_data_bytes = (size_t)view.len;
	}
	handle->q = init(&cfg, address);
	if (handle->q == NULL) {
		PyObject *why = PyUnicode_DecodeFSDefault(q_last_error());

		if (why != NULL)
			PyErr_SetObject(pq_python.open_error, why);
		Py_XDECREF(why);
	}
	if (data != Py_None)
		PyBuffer_Release(&view);
	if (handle->q == NULL)
		return -1;
	handle->capacity = cfg.capacity;
	handle->slot_bytes = cfg.slot_bytes;
	handle->result_bytes = cfg.result_bytes != 0 ? cfg.result_bytes : cfg.slot_bytes;
	return pq_table_init(&handle->pending, cfg.capacity);
}

/* A name, or a path in the file system's encoding. None: NULL. */
static int to_name(PyObject *object, void *out)
{
	PyObject **bytes = out;

	*bytes = NULL;
	return object == Py_None || PyUnicode_FSConverter(object, out);
}

static const char *text_of(PyObject *bytes)
{
	return bytes != NULL ? PyBytes_AsString(bytes) : NULL;
}

static PyObject *queue_open(PyObject *self, PyObject *args)
{
	struct pq_queue *queue = (struct pq_queue *)self;
	struct pq_handle *handle;
	PyObject *values, *data, *keep, *processor = NULL, *endpoint = NULL;
	unsigned long long address = 0;
	struct names names;
	int ok = -1;

	if (queue->handle != NULL) {
		PyErr_SetString(PyExc_RuntimeError, "gpuq: the queue is open");
		return NULL;
	}
	handle = pq_alloc(pq_handle_type);
	if (handle == NULL)
		return NULL;
	if (PyArg_ParseTuple(args, "O!O&OKOO&:_open", &PyDict_Type, &values, to_name, &processor,
			     &data, &address, &keep, to_name, &endpoint)) {
		handle->keep = Py_NewRef(keep);
		names = (struct names){ text_of(processor), text_of(endpoint) };
		ok = open_handle(handle, values, &names, data, (void *)(uintptr_t)address);
	}
	Py_XDECREF(endpoint);
	Py_XDECREF(processor);
	if (ok != 0) {
		pq_drop(handle);
		return NULL;
	}
	queue->handle = handle;
	Py_RETURN_NONE;
}

/* ---- stopping -------------------------------------------------------------------------------- */

/* Until all that was accepted has finished, or time is over; signals are looked at. */
static int drain_until(struct pq_handle *handle, int64_t until, QueueStatus *out)
{
	for (;;) {
		const uint32_t slice = pq_slice_ms(until);
		QueueStatus status;

		Py_BEGIN_ALLOW_THREADS;
		status = q_drain(handle->q, slice);
		Py_END_ALLOW_THREADS;
		*out = status;
		if (status != Q_ERR_TIMEOUT || (until != PQ_FOR_EVER && pq_now_ns() >= until))
			return 0;
		if (PyErr_CheckSignals() != 0)
			return -1;
	}
}

/* True: the queue has stopped; False: not in time, and what had not been started is cancelled. */
static PyObject *queue_stop(PyObject *self, PyObject *timeout)
{
	struct pq_queue *queue = (struct pq_queue *)self;
	struct pq_handle *handle = queue->handle;
	QueueStatus status;
	int64_t until;
	int ok;

	if (pq_until(timeout, &until) != 0)
		return NULL;
	if (handle == NULL)
		Py_RETURN_TRUE;
	pq_hold(handle);
	queue->closing = true;
	q_resume(handle->q);
	ok = drain_until(handle, until, &status);
	if (ok == 0) {
		const uint32_t ms = status == Q_OK ? UINT32_MAX : 0;

		Py_BEGIN_ALLOW_THREADS;
		status = q_stop(handle->q, ms);
		Py_END_ALLOW_THREADS;
	} else {
		queue->closing = false;
	}
	pq_drop(handle);
	if (ok != 0)
		return NULL;
	return PyBool_FromLong(status != Q_ERR_TIMEOUT);
}

static PyObject *queue_drain(PyObject *self, PyObject *timeout)
{
	struct pq_handle *handle;
	QueueStatus status;
	int64_t until;
	int ok;

	if (pq_until(timeout, &until) != 0)
		return NULL;
	handle = pq_handle_of((struct pq_queue *)self);
	if (handle == NULL)
		return NULL;
	ok = drain_until(handle, until, &status);
	pq_drop(handle);
	return ok == 0 ? pq_none_or_raise(status) : NULL;
}

/* Gives the handle up. It lives on in threads that are inside a call, and in views. */
static PyObject *queue_detach(PyObject *self, PyObject *unused)
{
	struct pq_queue *queue = (struct pq_queue *)self;
	struct pq_handle *handle = queue->handle;

	(void)unused;
	queue->handle = NULL;
	pq_drop(handle);
	Py_RETURN_NONE;
}

/* In a forked child: what is under way there ends with `error`. */
static PyObject *queue_forked(PyObject *self, PyObject *error)
{
	struct pq_handle *handle = pq_handle_any((struct pq_queue *)self);

	if (handle != NULL)
		pq_fail_all(handle, error, true);
	pq_drop(handle);
	Py_RETURN_NONE;
}

/* ---- the rest -------------------------------------------------------------------------------- */

static PyObject *queue_handle(PyObject *self, PyObject *unused)
{
	struct pq_queue *queue = (struct pq_queue *)self;

	(void)unused;
	return Py_NewRef(queue->handle != NULL ? (PyObject *)queue->handle : Py_None);
}

static PyObject *queue_pause(PyObject *self, PyObject *timeout)
{
	struct pq_handle *handle;
	QueueStatus status;
	uint32_t ms;

	if (pq_timeout_ms(timeout, &ms) != 0)
		return NULL;
	handle = pq_handle_of((struct pq_queue *)self);
	if (handle == NULL)
		return NULL;
	Py_BEGIN_ALLOW_THREADS;
	status = q_pause(handle->q, ms);
	Py_END_ALLOW_THREADS;
	pq_drop(handle);
	return pq_none_or_raise(status);
}

static PyObject *queue_resume(PyObject *self, PyObject *unused)
{
	struct pq_handle *handle = pq_handle_of((struct pq_queue *)self);
	QueueStatus status;

	(void)unused;
	if (handle == NULL)
		return NULL;
	Py_BEGIN_ALLOW_THREADS;
	status = q_resume(handle->q);
	Py_END_ALLOW_THREADS;
	pq_drop(handle);
	return pq_none_or_raise(status);
}

static PyObject *queue_cancel(PyObject *self, PyObject *number)
{
	const uint64_t id = PyLong_AsUnsignedLongLong(number);
	struct pq_handle *handle;

	if (PyErr_Occurred() != NULL)
		return NULL;
	handle = pq_handle_any((struct pq_queue *)self);
	if (handle != NULL)
		q_cancel(handle->q, id);
	pq_drop(handle);
	Py_RETURN_NONE;
}

/* Also of a queue that is being closed: it is how its loops hear of the last results. */
static PyObject *queue_complete(PyObject *self, PyObject *loop)
{
	struct pq_handle *handle = ((struct pq_queue *)self)->handle;
	Py_ssize_t count;

	if (handle == NULL)
		return PyLong_FromLong(0);
	pq_hold(handle);
	count = pq_complete(handle, loop == Py_None ? NULL : loop);
	pq_drop(handle);
	return count >= 0 ? PyLong_FromSsize_t(count) : NULL;
}

static PyObject *queue_fileno(PyObject *self, PyObject *unused)
{
	struct pq_handle *handle = pq_handle_of((struct pq_queue *)self);
	int fd;

	(void)unused;
	if (handle == NULL)
		return NULL;
	fd = q_completion_fd(handle->q);
	pq_drop(handle);
	return fd >= 0 ? PyLong_FromLong(fd) : pq_raise(Q_ERR_UNSUPPORTED);
}

static PyObject *queue_bind(PyObject *self, PyObject *table)
{
	struct pq_queue *queue = (struct pq_queue *)self;
	struct pq_handle *handle = pq_handle_of(queue);
	RegionTable *regions = pq_regions_of(table);
	QueueStatus status;

	if (handle == NULL || regions == NULL) {
		pq_drop(handle);
		return NULL;
	}
	Py_BEGIN_ALLOW_THREADS;
	status = q_bind_regions(handle->q, regions);
	Py_END_ALLOW_THREADS;
	if (status == Q_OK) {
		PyObject *old = handle->keep;

		handle->keep = Py_BuildValue("OO", old, table);
		if (handle->keep == NULL) {
			handle->keep = old;
			pq_drop(handle);
			return NULL;
		}
		Py_XDECREF(old);
	}
	pq_drop(handle);
	return pq_none_or_raise(status);
}

static int put(PyObject *dict, const char *name, uint64_t value)
{
	PyObject *number = PyLong_FromUnsignedLongLong(value);
	const int ok = number != NULL ? PyDict_SetItemString(dict, name, number) : -1;

	Py_XDECREF(number);
	return ok;
}

static PyObject *queue_stats(PyObject *self, PyObject *unused)
{
	struct pq_handle *handle = pq_handle_of((struct pq_queue *)self);
	QueueStats s;
	PyObject *dict;
	QueueStatus status;

	(void)unused;
	if (handle == NULL)
		return NULL;
	status = q_stats(handle->q, &s);
	pq_drop(handle);
	if (status != Q_OK)
		return pq_raise(status);
	dict = PyDict_New();
	if (dict == NULL ||
#define STAT(name) put(dict, #name, s.name) != 0
	    STAT(enq_count) || STAT(deq_count) || STAT(dropped_full) || STAT(retries) ||
	    STAT(queue_depth) || STAT(discarded) || STAT(finished) || STAT(failed) ||
	    STAT(expired) || STAT(cancelled) || STAT(timed_out) || STAT(reserved_now) ||
	    STAT(aborted) || STAT(wakeups) || STAT(lost))
#undef STAT
		Py_CLEAR(dict);
	return dict;
}

static int put_text(PyObject *dict, const char *name, const char *value)
{
	PyObject *text = PyUnicode_DecodeLocale(value, "surrogateescape");
	const int ok = text != NULL ? PyDict_SetItemString(dict, name, text) : -1;

	Py_XDECREF(text);
	return ok;
}

static PyObject *queue_info(PyObject *self, PyObject *unused)
{
	struct pq_handle *handle = pq_handle_of((struct pq_queue *)self);
	QueueInfo s;
	PyObject *dict;
	QueueStatus status;

	(void)unused;
	if (handle == NULL)
		return NULL;
	status = q_info(handle->q, &s);
	pq_drop(handle);
	if (status != Q_OK)
		return pq_raise(status);
	dict = PyDict_New();
	if (dict == NULL ||
#define INFO(name) put(dict, #name, s.name) != 0
#define TEXT(name) put_text(dict, #name, s.name) != 0
	    INFO(capacity) || INFO(slot_bytes) || INFO(result_bytes) || INFO(device) ||
	    INFO(ordinal) || INFO(granularity) || INFO(consumers) || INFO(reserve_sms) ||
	    INFO(idle_park_ms) || INFO(shutdown_timeout_ms) || INFO(state) ||
	    INFO(protocol_version) || INFO(memory_bytes) || TEXT(processor) || TEXT(device_name) ||
	    TEXT(transport) || TEXT(reason) || INFO(hung) || INFO(hung_msg_id) || INFO(hung_ns) ||
	    INFO(stalls) || INFO(device_bytes))
#undef INFO
#undef TEXT
		Py_CLEAR(dict);
	return dict;
}

static PyObject *queue_trace_write(PyObject *self, PyObject *path)
{
	struct pq_handle *handle;
	PyObject *bytes;
	QueueStatus status;
	const char *name;

	if (!PyUnicode_FSConverter(path, &bytes))
		return NULL;
	handle = pq_handle_of((struct pq_queue *)self);
	if (handle == NULL) {
		Py_DECREF(bytes);
		return NULL;
	}
	name = PyBytes_AsString(bytes);
	Py_BEGIN_ALLOW_THREADS;
	status = q_trace_write(handle->q, name);
	Py_END_ALLOW_THREADS;
	Py_DECREF(bytes);
	pq_drop(handle);
	return pq_none_or_raise(status);
}

static int queue_traverse(PyObject *self, visitproc visit, void *arg)
{
	Py_VISIT(Py_TYPE(self));
	Py_VISIT(((struct pq_queue *)self)->table);
	(void)arg;
	return 0;
}

static int queue_clear(PyObject *self)
{
	Py_CLEAR(((struct pq_queue *)self)->table);
	return 0;
}

static void queue_dealloc(PyObject *self)
{
	PyObject_GC_UnTrack(self);
	pq_drop(((struct pq_queue *)self)->handle);
	queue_clear(self);
	pq_free(self);
}

/* What has a leading underscore is for gpuq/_queue.py, which has the docstrings of the rest. */
static PyMethodDef methods[] = {
	{ "_open", queue_open, METH_VARARGS, NULL },
	{ "_stop", queue_stop, METH_O, NULL },
	{ "_detach", queue_detach, METH_NOARGS, NULL },
	{ "_forked", queue_forked, METH_O, NULL },
	{ "_handle", queue_handle, METH_NOARGS, NULL },
	{ "_complete", queue_complete, METH_O, NULL },
	{ "_cancel", queue_cancel, METH_O, NULL },
	{ "_bind", queue_bind, METH_O, NULL },
	{ "_subscribe", pq_queue_subscribe, METH_VARARGS, NULL },
	{ "_add_hook", pq_queue_add_hook, METH_VARARGS, NULL },
	{ "_remove_hook", pq_queue_remove_hook, METH_O, NULL },
	{ "_submit_loop", PQ_FAST(pq_queue_submit_loop), METH_FASTCALL | METH_KEYWORDS, NULL },
	{ "_reserve", PQ_FAST(pq_queue_reserve), METH_FASTCALL | METH_KEYWORDS, NULL },
	{ "_enqueue", pq_raw_enqueue, METH_VARARGS, NULL },
	{ "_take", pq_raw_take, METH_O, NULL },
	{ "_poll", pq_raw_poll, METH_O, NULL },
	{ "_drain", queue_drain, METH_O, NULL },
	{ "_pause", queue_pause, METH_O, NULL },
	{ "_stats", queue_stats, METH_NOARGS, NULL },
	{ "_info", queue_info, METH_NOARGS, NULL },
	{ "submit", PQ_FAST(pq_queue_submit), METH_FASTCALL | METH_KEYWORDS,
	  "submit(message, *, priority='normal', deadline=None, timeout=None, opcode=0, tag=0, "
	  "into=None, view=False)\n--\n\n"
	  "Hand one message over; its bytes have been copied when the call returns.\n\n"
	  "message: any object with the buffer protocol that is contiguous, 0 to slot_bytes bytes; "
	  "or a\n"
	  "gpuq.Descriptor, whose bytes are not copied.\n"
	  "priority: 'low', 'normal', 'high' or 'urgent': what is started next.\n"
	  "deadline: seconds from now; a message that has not been started by then ends with\n"
	  "gpuq.ExpiredError.\n"
	  "timeout: how many seconds to wait for a free slot; None: for ever, 0: not at all.\n"
	  "opcode, tag: the processor's own numbers, 32 and 64 bits.\n"
	  "into: memory to write the result to; the future's result is then the number of bytes.\n"
	  "view: the result is a read-only memoryview in place; release it, or its slot stays "
	  "taken.\n\n"
	  "Returns a gpuq.Future. Waits, without the GIL, only while no slot is free. Any thread "
	  "may "
	  "call it.\n\n"
	  "Raises gpuq.FullError (timeout 0) and gpuq.TimeoutError: no slot in time; ValueError: "
	  "too "
	  "long;\nTypeError, BufferError: no contiguous bytes; gpuq.ShutdownError: closed." },
	{ "submit_many", PQ_FAST(pq_queue_submit_many), METH_FASTCALL | METH_KEYWORDS,
	  "submit_many(messages, *, priority='normal', deadline=None, timeout=None, opcode=0, "
	  "tag=0, "
	  "view=False)\n--\n\n"
	  "Hand many messages over, in order, by few calls of the library.\n\n"
	  "messages: an iterable of what submit() takes but descriptors. All are looked at before "
	  "the "
	  "first is\naccepted. The options are for each of them; timeout is for all together.\n\n"
	  "Returns gpuq.Futures, a sequence with results(). If not all found a slot in time, or "
	  "the "
	  "queue was\nclosed meanwhile, the futures of the rest say so.\n\n"
	  "Raises as submit(), when no message has been accepted." },
	{ "fileno", queue_fileno, METH_NOARGS,
	  "fileno()\n--\n\n"
	  "A descriptor that is readable while there is something that poll() would find.\n\n"
	  "For event loops. It is the queue's: never read it or close it." },
	{ "resume", queue_resume, METH_NOARGS,
	  "resume()\n--\n\nLet the consumers go on after pause(). Raises gpuq.ShutdownError." },
	{ "trace_write", queue_trace_write, METH_O,
	  "trace_write(path)\n--\n\n"
	  "Write what a queue with trace_records has recorded, as JSON for Perfetto and "
	  "chrome://tracing.\n\n"
	  "Raises gpuq.UnsupportedError: no trace was asked for; gpuq.FileError." },
	{ NULL, NULL, 0, NULL },
};

static PyType_Slot queue_slots[] = {
	{ Py_tp_dealloc, queue_dealloc },
	{ Py_tp_traverse, queue_traverse },
	{ Py_tp_clear, queue_clear },
	{ Py_tp_methods, methods },
	{ 0, NULL },
};
static PyType_Spec queue_spec = {
	.name = "gpuq._gpuq.QueueCore",
	.basicsize = sizeof(struct pq_queue),
	.flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_BASETYPE,
	.slots = queue_slots,
};

int pq_add_queue_types(PyObject *module)
{
	if (pq_add_type(module, &handle_spec, &pq_handle_type) != 0 ||
	    pq_add_type(module, &queue_spec, &pq_queue_type) != 0 || pq_add_view_type(module) != 0)
		return -1;
	return pq_add_reservation_type(module);
}
