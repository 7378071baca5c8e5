/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ring.c - class RingCore, of which gpuq.Ring is made.
 *
 * A call first tries with the GIL held, which takes less time than to give it up; where it has to
 * wait it gives it up, a tenth of a second at a time, and looks for signals and for a close in
 * between.
 */
#include "module.h"

struct ring {
	PyObject_HEAD RingQueue *r; /* NULL: closed */
	Py_buffer memory;           /* the caller's, or obj NULL */
	PyObject *table;            /* the regions bound, or NULL */
	uint8_t *scratch;           /* used with the GIL held */
	size_t scratch_len;
	Py_ssize_t users; /* threads inside a call without the GIL */
	bool closing;
};

static PyTypeObject *ring_type;

static RingQueue *open_ring(PyObject *self)
{
	struct ring *ring = (struct ring *)self;

	if (ring->r != NULL && !ring->closing)
		return ring->r;
	PyErr_SetString(PyExc_ValueError, "gpuq: the ring is closed");
	return NULL;
}

static void destroy(struct ring *ring)
{
	RingQueue *r = ring->r;

	ring->r = NULL;
	if (r != NULL) {
		Py_BEGIN_ALLOW_THREADS;
		q_ring_destroy(r);
		Py_END_ALLOW_THREADS;
	}
	if (ring->memory.obj != NULL)
		PyBuffer_Release(&ring->memory);
	Py_CLEAR(ring->table);
	PyMem_Free(ring->scratch);
	ring->scratch = NULL;
	ring->scratch_len = 0;
}

/* The last to leave a ring that is being closed destroys it. */
static void leave(struct ring *ring)
{
	if (--ring->users == 0 && ring->closing)
		destroy(ring);
}

static int grow(struct ring *ring, size_t len)
{
	uint8_t *larger;

	if (len <= ring->scratch_len)
		return 0;
	larger = PyMem_Realloc(ring->scratch, len);
	if (larger == NULL) {
		PyErr_NoMemory();
		return -1;
	}
	ring->scratch = larger;
	ring->scratch_len = len;
	return 0;
}

/* ---- life ------------------------------------------------------------------------------------ */

/* Whether a wait goes on. @return 1, or 0 with an exception. */
static int goes_on(struct ring *ring, QueueStatus status, int64_t until)
{
	if (ring->closing) {
		PyErr_SetString(PyExc_ValueError, "gpuq: the ring has been closed meanwhile");
		return 0;
	}
	if (status != Q_ERR_TIMEOUT || (until != PQ_FOR_EVER && pq_now_ns() >= until)) {
		pq_raise(status);
		return 0;
	}
	return PyErr_CheckSignals() == 0;
}

static int set_up(struct ring *ring)
{
	RingConfig cfg;
	QueueStatus status = q_ring_config(ring->r, &cfg);

	if (status == Q_OK)
		return grow(ring, cfg.max_msg_size);
	pq_raise(status);
	return -1;
}

/* _create(ring_size, max_msg_size, schema, flags, ageing_limit, memory): the memfd, or None */
static PyObject *ring_create(PyObject *self, PyObject *args)
{
	struct ring *ring = (struct ring *)self;
	RingConfig cfg = { 0 };
	PyObject *memory;
	QueueStatus status;
	int fd = -1;

	if (!PyArg_ParseTuple(args, "IIIIIO:_create", &cfg.ring_size, &cfg.max_msg_size,
			      &cfg.schema, &cfg.flags, &cfg.ageing_limit, &memory))
		return NULL;
	if (memory == Py_True) {
		status = q_ring_create_fd(&cfg, &fd, &ring->r);
	} else if (memory == Py_None) {
		status = q_ring_create(&cfg, NULL, 0, &ring->r);
	} else {
		if (pq_writable(memory, &ring->memory) != 0)
			return NULL;
		status = q_ring_create(&cfg, ring->memory.buf, (size_t)ring->memory.len, &ring->r);
	}
	if (status != Q_OK) {
		pq_raise(status);
		destroy(ring);
		return NULL;
	}
	if (set_up(ring) != 0)
		return NULL;
	return fd >= 0 ? PyLong_FromLong(fd) : Py_NewRef(Py_None);
}

/* _attach(memory or descriptor) */
static PyObject *ring_attach(PyObject *self, PyObject *memory)
{
	struct ring *ring = (struct ring *)self;
	QueueStatus status;

	if (PyLong_Check(memory)) {
		const int fd = (int)PyLong_AsLong(memory);

		if (PyErr_Occurred() != NULL)
			return NULL;
		status = q_ring_attach_fd(fd, &ring->r);
	} else {
		if (pq_writable(memory, &ring->memory) != 0)
			return NULL;
		status = q_ring_attach(ring->memory.buf, (size_t)ring->memory.len, &ring->r);
	}
	if (status != Q_OK) {
		pq_raise(status);
		destroy(ring);
		return NULL;
	}
	if (set_up(ring) != 0)
		return NULL;
	Py_RETURN_NONE;
}

static PyObject *ring_close(PyObject *self, PyObject *unused)
{
	struct ring *ring = (struct ring *)self;

	(void)unused;
	ring->closing = true;
	if (ring->users == 0)
		destroy(ring);
	Py_RETURN_NONE;
}

static PyObject *ring_shutdown(PyObject *self, PyObject *unused)
{
	RingQueue *r = open_ring(self);

	(void)unused;
	return r != NULL ? pq_none_or_raise(q_ring_close(r)) : NULL;
}

static PyObject *ring_recover(PyObject *self, PyObject *unused)
{
	RingQueue *r = open_ring(self);
	QueueStatus status;

	(void)unused;
	if (r == NULL)
		return NULL;
	((struct ring *)self)->users++;
	Py_BEGIN_ALLOW_THREADS;
	status = q_ring_recover(r);
	Py_END_ALLOW_THREADS;
	leave((struct ring *)self);
	return pq_none_or_raise(status);
}

/* ---- sending --------------------------------------------------------------------------------- */

struct sending {
	struct pq_message message;
	const MessageDescriptor *descriptor; /* NULL: the message */
	QueuePriority priority;
};

static QueueStatus send_once(RingQueue *r, const struct sending *s, uint32_t ms)
{
	if (s->descriptor != NULL)
		return q_ring_send_descriptor_timeout(r, s->descriptor, s->priority, ms);
	return q_ring_send_timeout(r, s->message.data, s->message.len, s->priority, ms);
}

static PyObject *send(struct ring *ring, const struct sending *s, int64_t until)
{
	QueueStatus status = send_once(ring->r, s, 0);
	bool on = status == Q_ERR_FULL && until != 0;
	PyObject *result = NULL;

	if (!on)
		return pq_none_or_raise(status);
	ring->users++;
	while (on) {
		const uint32_t ms = pq_slice_ms(until);

		Py_BEGIN_ALLOW_THREADS;
		status = send_once(ring->r, s, ms != 0 ? ms : 1);
		Py_END_ALLOW_THREADS;
		if (status == Q_OK)
			result = Py_NewRef(Py_None);
		on = status != Q_OK && goes_on(ring, status, until);
	}
	leave(ring);
	return result;
}

static PyObject *ring_send(PyObject *self, PyObject *args, PyObject *kwargs)
{
	static char *names[] = { "message", "priority", "timeout", NULL };
	PyObject *object, *priority = NULL, *timeout = Py_None, *result;
	struct sending s = { 0 };
	uint32_t number = Q_PRIORITY_DEFAULT;
	int64_t until;

	if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|OO:send", names, &object, &priority,
					 &timeout) ||
	    pq_until(timeout, &until) != 0 || open_ring(self) == NULL ||
	    (priority != NULL && pq_parse_priority(priority, &number) != 0))
		return NULL;
	s.priority = (QueuePriority)number;
	if (Py_TYPE(object) == pq_descriptor_type)
		s.descriptor = &((struct pq_descriptor *)object)->c;
	else if (pq_message_get(object, &s.message) != 0)
		return NULL;
	result = send((struct ring *)self, &s, until);
	pq_message_release(&s.message);
	return result;
}

/* ---- receiving ------------------------------------------------------------------------------- */

static PyObject *message_object(struct ring *ring, const RingMessage *m, const uint8_t *data)
{
	if (m->kind == Q_MESSAGE_INLINE)
		return PyBytes_FromStringAndSize((const char *)data, m->length);
	if (ring->table != NULL)
		return pq_descriptor_new(ring->table, &m->descriptor, true);
	PyErr_SetString(PyExc_ValueError, "gpuq: a descriptor has come, and no regions are bound");
	return NULL;
}

/* @return Q_OK, with *out; Q_ERR_EMPTY; other failures. */
static QueueStatus receive_once(struct ring *ring, RingMessage *out)
{
	QueueStatus status = q_ring_recv_typed(ring->r, ring->scratch, ring->scratch_len, out);

	while (status == Q_ERR_BUFFER_TOO_SMALL) {
		if (grow(ring, out->length) != 0)
			return Q_ERR_NO_MEMORY;
		status = q_ring_recv_typed(ring->r, ring->scratch, ring->scratch_len, out);
	}
	return status;
}

/* Until there is something. It may be that this takes it: a descriptor, or an empty message. */
static QueueStatus look(RingQueue *r, RingMessage *out, uint32_t ms)
{
	QueueStatus status;

	Py_BEGIN_ALLOW_THREADS;
	status = q_ring_recv_typed_timeout(r, NULL, 0, out, ms != 0 ? ms : 1);
	Py_END_ALLOW_THREADS;
	return status;
}

static PyObject *receive_waiting(struct ring *ring, int64_t until, RingMessage *m)
{
	PyObject *data = NULL;
	QueueStatus status = Q_ERR_EMPTY;

	ring->users++;
	for (;;) {
		status = look(ring->r, m, pq_slice_ms(until));
		if (status == Q_ERR_BUFFER_TOO_SMALL && !ring->closing)
			status = receive_once(ring, m);
		if (status == Q_ERR_EMPTY) /* another receiver has been faster */
			status = Q_ERR_TIMEOUT;
		if (status == Q_OK) {
			data = message_object(ring, m, ring->scratch);
			break;
		}
		if (PyErr_Occurred() != NULL || !goes_on(ring, status, until))
			break;
	}
	leave(ring);
	return data;
}

static PyObject *receive(PyObject *self, PyObject *args, PyObject *kwargs, const char *format,
			 RingMessage *m)
{
	static char *names[] = { "timeout", NULL };
	struct ring *ring = (struct ring *)self;
	PyObject *timeout = Py_None;
	QueueStatus status;
	int64_t until;

	if (!PyArg_ParseTupleAndKeywords(args, kwargs, format, names, &timeout) ||
	    pq_until(timeout, &until) != 0 || open_ring(self) == NULL)
		return NULL;
	status = receive_once(ring, m);
	if (status == Q_OK)
		return message_object(ring, m, ring->scratch);
	if (PyErr_Occurred() != NULL)
		return NULL;
	if (status != Q_ERR_EMPTY || until == 0)
		return pq_raise(status);
	return receive_waiting(ring, until, m);
}

static PyObject *ring_recv(PyObject *self, PyObject *args, PyObject *kwargs)
{
	RingMessage m;

	return receive(self, args, kwargs, "|O:recv", &m);
}

static PyObject *ring_recv_message(PyObject *self, PyObject *args, PyObject *kwargs)
{
	RingMessage m;
	PyObject *data = receive(self, args, kwargs, "|O:_recv_message", &m);

	if (data == NULL)
		return NULL;
	return Py_BuildValue("NiK", data, (int)m.priority, (unsigned long long)m.sequence);
}

enum { MANY = 256, MANY_BYTES = 256 * 1024 };

static PyObject *list_of(struct ring *ring, const RingMessage *m, size_t count)
{
	PyObject *list = PyList_New(0);

	for (size_t i = 0; list != NULL && i < count; i++) {
		PyObject *data = message_object(ring, &m[i], ring->scratch + m[i].offset);

		if (data == NULL || PyList_Append(list, data) != 0)
			Py_CLEAR(list);
		Py_XDECREF(data);
	}
	return list;
}

static PyObject *ring_recv_many(PyObject *self, PyObject *args)
{
	struct ring *ring = (struct ring *)self;
	RingMessage m[MANY];
	Py_ssize_t most = MANY;
	QueueStatus status;
	size_t count;

	if (!PyArg_ParseTuple(args, "|n:recv_many", &most) || open_ring(self) == NULL ||
	    grow(ring, MANY_BYTES) != 0)
		return NULL;
	if (most < 1) {
		PyErr_SetString(PyExc_ValueError, "gpuq: recv_many() takes 1 or more");
		return NULL;
	}
	most = most > MANY ? MANY : most;
	status = q_ring_recv_batch(ring->r, ring->scratch, ring->scratch_len, m, (size_t)most,
				   &count);
	if (status == Q_ERR_BUFFER_TOO_SMALL) {
		if (grow(ring, m[0].length) != 0)
			return NULL;
		status = q_ring_recv_batch(ring->r, ring->scratch, ring->scratch_len, m,
					   (size_t)most, &count);
	}
	if (status == Q_ERR_EMPTY)
		count = 0;
	else if (status != Q_OK)
		return pq_raise(status);
	return list_of(ring, m, count);
}

/* ---- completions ----------------------------------------------------------------------------- */

static PyObject *ring_complete(PyObject *self, PyObject *args, PyObject *kwargs)
{
	static char *names[] = { "sequence", "status", "data", NULL };
	RingQueue *r = open_ring(self);
	unsigned long long sequence;
	const char *data = NULL;
	Py_ssize_t len = 0;
	int status = Q_OK;

	if (r == NULL || !PyArg_ParseTupleAndKeywords(args, kwargs, "K|iy#:complete", names,
						      &sequence, &status, &data, &len))
		return NULL;
	return pq_none_or_raise(
		q_ring_complete(r, sequence, (QueueStatus)status, data, (size_t)len));
}

static PyObject *ring_poll_completions(PyObject *self, PyObject *unused)
{
	RingQueue *r = open_ring(self);
	RingCompletion done[64];
	QueueStatus status;
	PyObject *list;
	size_t count;

	(void)unused;
	if (r == NULL)
		return NULL;
	list = PyList_New(0);
	if (list == NULL)
		return NULL;
	status = q_ring_poll_completions(r, done, 64, &count);
	for (size_t i = 0; status == Q_OK && list != NULL && i < count; i++) {
		PyObject *item = Py_BuildValue("Kiy#", (unsigned long long)done[i].sequence,
					       (int)done[i].status, done[i].data,
					       (Py_ssize_t)done[i].length);

		if (item == NULL || PyList_Append(list, item) != 0)
			Py_CLEAR(list);
		Py_XDECREF(item);
	}
	if (status == Q_OK)
		return list;
	Py_XDECREF(list);
	return pq_raise(status);
}

/* ---- the rest -------------------------------------------------------------------------------- */

static PyObject *ring_bind(PyObject *self, PyObject *table)
{
	struct ring *ring = (struct ring *)self;
	RingQueue *r = open_ring(self);
	RegionTable *regions = pq_regions_of(table);
	PyObject *old = ring->table;
	QueueStatus status;

	if (r == NULL || regions == NULL)
		return NULL;
	status = q_ring_bind_regions(r, regions);
	if (status != Q_OK)
		return pq_raise(status);
	ring->table = Py_NewRef(table);
	Py_XDECREF(old);
	Py_RETURN_NONE;
}

static Py_ssize_t ring_len(PyObject *self)
{
	RingQueue *r = open_ring(self);

	return r != NULL ? (Py_ssize_t)q_ring_len(r) : -1;
}

static PyObject *ring_fileno(PyObject *self, PyObject *unused)
{
	RingQueue *r = open_ring(self);
	int fd;

	(void)unused;
	if (r == NULL)
		return NULL;
	fd = q_ring_fd(r);
	return fd >= 0 ? PyLong_FromLong(fd) : pq_raise(Q_ERR_UNSUPPORTED);
}

static PyObject *ring_config(PyObject *self, PyObject *unused)
{
	RingQueue *r = open_ring(self);
	RingConfig cfg;
	QueueStatus status;

	(void)unused;
	if (r == NULL)
		return NULL;
	status = q_ring_config(r, &cfg);
	if (status != Q_OK)
		return pq_raise(status);
	return Py_BuildValue("IIIII", cfg.ring_size, cfg.max_msg_size, cfg.schema, cfg.flags,
			     cfg.ageing_limit);
}

static PyObject *ring_stats(PyObject *self, PyObject *unused)
{
	RingQueue *r = open_ring(self);
	QueueStatus status;
	RingStats s;

	(void)unused;
	if (r == NULL)
		return NULL;
	status = q_ring_stats(r, &s);
	if (status != Q_OK)
		return pq_raise(status);
#define STAT(name) #name, (unsigned long long)s.name
	return Py_BuildValue("{sKsKsKsKsKsKsKsKsKsKsKsKsKsKsK}", STAT(sent), STAT(received),
			     STAT(bytes_sent), STAT(bytes_received), STAT(descriptors),
			     STAT(discarded), STAT(full), STAT(empty), STAT(refused),
			     STAT(completed), STAT(polled), STAT(repairs), STAT(reclaimed),
			     STAT(threads), STAT(unjudged));
#undef STAT
}

/* required_memory(ring_size, max_msg_size, schema, flags, ageing_limit) */
static PyObject *required_memory(PyObject *class, PyObject *args)
{
	RingConfig cfg = { 0 };
	size_t bytes;

	(void)class;
	if (!PyArg_ParseTuple(args, "IIIII:_required_memory", &cfg.ring_size, &cfg.max_msg_size,
			      &cfg.schema, &cfg.flags, &cfg.ageing_limit))
		return NULL;
	bytes = q_ring_required_memory(&cfg);
	return bytes != 0 ? PyLong_FromSize_t(bytes) : pq_raise(Q_ERR_INVALID_ARG);
}

static int ring_traverse(PyObject *self, visitproc visit, void *arg)
{
	Py_VISIT(Py_TYPE(self));
	Py_VISIT(((struct ring *)self)->table);
	Py_VISIT(((struct ring *)self)->memory.obj);
	return 0;
}

static void ring_dealloc(PyObject *self)
{
	PyObject_GC_UnTrack(self);
	destroy((struct ring *)self);
	pq_free(self);
}

static PyMethodDef methods[] = {
	{ "_create", ring_create, METH_VARARGS, NULL },
	{ "_attach", ring_attach, METH_O, NULL },
	{ "_config", ring_config, METH_NOARGS, NULL },
	{ "_recv_message", PQ_FAST(ring_recv_message), METH_VARARGS | METH_KEYWORDS, NULL },
	{ "_required_memory", required_memory, METH_VARARGS | METH_STATIC, NULL },
	{ "_poll_completions", ring_poll_completions, METH_NOARGS, NULL },
	{ "send", PQ_FAST(ring_send), METH_VARARGS | METH_KEYWORDS,
	  "send(message, priority='normal', timeout=None)\n--\n\n"
	  "Send one message; its bytes have been copied when the call returns.\n\n"
	  "message: bytes-like and contiguous, or a gpuq.Descriptor of the regions bound.\n"
	  "timeout: seconds to wait for room; None: for ever, 0: not at all. The GIL is released "
	  "meanwhile.\n\n"
	  "Raises gpuq.FullError (timeout 0), gpuq.TimeoutError, gpuq.ShutdownError, ValueError: "
	  "too "
	  "long." },
	{ "recv", PQ_FAST(ring_recv), METH_VARARGS | METH_KEYWORDS,
	  "recv(timeout=None)\n--\n\n"
	  "Receive the message at the front, of the highest priority the oldest: bytes, or a "
	  "gpuq.Descriptor.\n\n"
	  "timeout: seconds to wait for one; None: for ever, 0: not at all.\n\n"
	  "Raises gpuq.EmptyError (timeout 0), gpuq.TimeoutError, gpuq.ShutdownError: shut down, "
	  "and "
	  "nothing\nis left." },
	{ "recv_many", ring_recv_many, METH_VARARGS,
	  "recv_many(most=256)\n--\n\n"
	  "Receive what is there, at most 256 messages, without waiting; a list, which may be "
	  "empty.\n\n"
	  "Raises gpuq.ShutdownError." },
	{ "complete", PQ_FAST(ring_complete), METH_VARARGS | METH_KEYWORDS,
	  "complete(sequence, status=0, data=b'')\n--\n\n"
	  "Tell the sender what became of a message; data: up to 16 bytes. Raises "
	  "gpuq.FullError." },
	{ "bind", ring_bind, METH_O,
	  "bind(table)\n--\n\nThe gpuq.RegionTable that descriptors sent and received here refer "
	  "to." },
	{ "fileno", ring_fileno, METH_NOARGS,
	  "fileno()\n--\n\n"
	  "A descriptor that is readable from when there is something to receive until a receive "
	  "has "
	  "found\nnothing. It is the ring's: never read it or close it." },
	{ "shutdown", ring_shutdown, METH_NOARGS,
	  "shutdown()\n--\n\n"
	  "Accept no more messages, in all processes; what was accepted can still be received." },
	{ "recover", ring_recover, METH_NOARGS,
	  "recover()\n--\n\n"
	  "Say that no other process uses the ring any more. See q_ring_recover(3) before." },
	{ "close", ring_close, METH_NOARGS,
	  "close()\n--\n\n"
	  "Give this handle back; other handles go on. Threads that wait in a call raise "
	  "ValueError." },
	{ "_stats", ring_stats, METH_NOARGS, NULL },
	{ NULL, NULL, 0, NULL },
};
static PyType_Slot slots[] = {
	{ Py_tp_dealloc, ring_dealloc },
	{ Py_tp_traverse, ring_traverse },
	{ Py_tp_methods, methods },
	{ Py_sq_length, ring_len },
	{ 0, NULL },
};
static PyType_Spec spec = {
	.name = "gpuq._gpuq.RingCore",
	.basicsize = sizeof(struct ring),
	.flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_BASETYPE,
	.slots = slots,
};

int pq_add_ring_types(PyObject *module)
{
	return pq_add_type(module, &spec, &ring_type);
}
