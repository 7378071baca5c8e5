/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pipe.c - classes PipeCore and PipePoolCore, of which gpuq.Pipe and gpuq.PipePool are made.
 *
 * The bytes of one write stand together, also where it waits for room a tenth of a second at a
 * time: a write of a pipe that waits has the pipe's lock meanwhile. All writes are made here, since
 * the library's handle leaves this file only for a pool's pipe, which is one object.
 */
#include "module.h"

PyTypeObject *pq_pipe_type, *pq_pool_type;

static Pipe *made(PyObject *self)
{
	struct pq_pipe *pipe = (struct pq_pipe *)self;

	if (pipe->p == NULL)
		PyErr_SetString(PyExc_ValueError, "gpuq: the pipe has not been made");
	return pipe->p;
}

static int set_up(struct pq_pipe *pipe, uint32_t policy)
{
	pipe->waits = policy == Q_PIPE_WAIT;
	pipe->lock = PyThread_allocate_lock();
	if (pipe->lock != NULL)
		return 0;
	PyErr_NoMemory();
	return -1;
}

/* _create(max_bytes, policy) */
static PyObject *pipe_create(PyObject *self, PyObject *args)
{
	struct pq_pipe *pipe = (struct pq_pipe *)self;
	PipeConfig cfg = { 0 };
	unsigned long long bytes;

	if (!PyArg_ParseTuple(args, "KI:_create", &bytes, &cfg.policy))
		return NULL;
	if (pipe->p != NULL)
		return pq_raise_text(Q_ERR_INVALID_ARG, "the pipe has been made");
	cfg.max_bytes = bytes;
	if (set_up(pipe, cfg.policy) != 0)
		return NULL;
	return pq_none_or_raise(q_pipe_create(&cfg, &pipe->p));
}

/* ---- writing --------------------------------------------------------------------------------- */

struct writing {
	struct iovec *pieces;
	int count;
	size_t left, written;
};

/* Leaves the first `len` bytes out from now on. */
static void skip(struct writing *w, size_t len)
{
	w->written += len;
	w->left -= len;
	while (w->count > 0 && len >= w->pieces->iov_len) {
		len -= w->pieces->iov_len;
		w->pieces++;
		w->count--;
	}
	if (len != 0) {
		w->pieces->iov_base = (char *)w->pieces->iov_base + len;
		w->pieces->iov_len -= len;
	}
}

static QueueStatus write_once(struct pq_pipe *pipe, struct writing *w, uint32_t ms)
{
	QueueStatus status;
	size_t written;

	/* While another thread writes without the GIL this may wait for it. */
	if (pipe->users == 0 && w->left < PQ_MUCH && ms == 0) {
		status = q_pipe_writev(pipe->p, w->pieces, w->count, &written, 0);
	} else {
		pipe->users++;
		Py_BEGIN_ALLOW_THREADS;
		status = q_pipe_writev(pipe->p, w->pieces, w->count, &written, ms);
		Py_END_ALLOW_THREADS;
		pipe->users--;
	}
	skip(w, written);
	return status;
}

/* @return 1: it is this thread's; 0: not in time; -1: an exception */
static int take_lock(struct pq_pipe *pipe, int64_t until)
{
	PyLockStatus got = PyThread_acquire_lock_timed(pipe->lock, 0, 0);
	int on = 1;

	if (got != PY_LOCK_ACQUIRED && pipe->owner == PyThread_get_thread_ident()) {
		PyErr_SetString(PyExc_RuntimeError,
				"gpuq: a signal's handler cannot write to the pipe that the write "
				"it has interrupted is for");
		return -1;
	}
	while (got != PY_LOCK_ACQUIRED && on == 1) {
		const PY_TIMEOUT_T us = (PY_TIMEOUT_T)pq_slice_ms(until) * 1000;
		PipeStats stats;
		QueueStatus status = q_pipe_stats(pipe->p, &stats);

		if (status != Q_OK) { /* in a forked child nobody gives the lock back */
			pq_raise(status);
			return -1;
		}
		Py_BEGIN_ALLOW_THREADS;
		got = PyThread_acquire_lock_timed(pipe->lock, us, 0);
		Py_END_ALLOW_THREADS;
		on = got == PY_LOCK_ACQUIRED ? 1 : pq_goes_on(until);
	}
	if (got == PY_LOCK_ACQUIRED)
		pipe->owner = PyThread_get_thread_ident();
	return on;
}

static int write_all(struct pq_pipe *pipe, struct writing *w, int64_t until, QueueStatus *out)
{
	int on = 1;

	*out = write_once(pipe, w, 0);
	while (*out == Q_ERR_FULL && pipe->waits && until != 0 && on == 1) {
		const uint32_t ms = pq_slice_ms(until);

		*out = write_once(pipe, w, ms != 0 ? ms : 1);
		if (*out == Q_ERR_TIMEOUT) {
			on = pq_goes_on(until);
			if (on == 1)
				*out = Q_ERR_FULL;
		}
	}
	return on < 0 ? -1 : 0;
}

static PyObject *write_pieces(struct pq_pipe *pipe, struct iovec *pieces, int count, int64_t until)
{
	struct writing w = { .pieces = pieces, .count = count };
	QueueStatus status = Q_ERR_TIMEOUT;
	int ok;

	for (int i = 0; i < count; i++)
		w.left += pieces[i].iov_len;
	if (pipe->waits) {
		ok = take_lock(pipe, until);
		if (ok == 0)
			return pq_raise_text(until == 0 ? Q_ERR_FULL : Q_ERR_TIMEOUT,
					     "another thread is writing");
		if (ok < 0)
			return NULL;
	}
	ok = write_all(pipe, &w, until, &status);
	if (ok == 0 && status != Q_OK)
		pq_raise_with(status, "written", (long long)w.written);
	if (pipe->waits) {
		pipe->owner = 0;
		PyThread_release_lock(pipe->lock);
	}
	return ok == 0 && status == Q_OK ? PyLong_FromSize_t(w.written) : NULL;
}

static PyObject *pipe_write(PyObject *self, PyObject *args, PyObject *kwargs)
{
	static char *names[] = { "data", "timeout", NULL };
	PyObject *object, *timeout = Py_None, *result;
	struct pq_message data;
	struct iovec piece;
	int64_t until;

	if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|O:write", names, &object, &timeout) ||
	    pq_until(timeout, &until) != 0 || made(self) == NULL ||
	    pq_message_get(object, &data) != 0)
		return NULL;
	piece = (struct iovec){ (void *)(uintptr_t)data.data, data.len };
	result = write_pieces((struct pq_pipe *)self, &piece, 1, until);
	pq_message_release(&data);
	return result;
}

/* A buffer of `list`, which keeps it. */
static int get_piece(PyObject *list, Py_ssize_t i, struct pq_message *data, struct iovec *piece)
{
	PyObject *object = PySequence_GetItem(list, i);
	int ok;

	if (object == NULL)
		return -1;
	ok = pq_message_get(object, data);
	Py_DECREF(object);
	if (ok == 0)
		*piece = (struct iovec){ (void *)(uintptr_t)data->data, data->len };
	return ok;
}

enum { MOST_PIECES = 1024 };
struct pieces {
	struct pq_message data[MOST_PIECES];
	struct iovec piece[MOST_PIECES];
};

static PyObject *write_list(PyObject *self, PyObject *list, int64_t until)
{
	const Py_ssize_t count = PySequence_Size(list);
	PyObject *result = NULL;
	Py_ssize_t got = 0;
	struct pieces *p;

	if (count > MOST_PIECES)
		return pq_raise_text(Q_ERR_INVALID_ARG, "writev() takes at most 1024 pieces");
	p = PyMem_Malloc(sizeof(*p));
	if (p == NULL)
		return PyErr_NoMemory();
	while (got < count && get_piece(list, got, &p->data[got], &p->piece[got]) == 0)
		got++;
	if (got == count)
		result = write_pieces((struct pq_pipe *)self, p->piece, (int)count, until);
	while (got-- > 0)
		pq_message_release(&p->data[got]);
	PyMem_Free(p);
	return result;
}

static PyObject *pipe_writev(PyObject *self, PyObject *args, PyObject *kwargs)
{
	static char *names[] = { "pieces", "timeout", NULL };
	PyObject *object, *timeout = Py_None, *list, *result;
	int64_t until;

	if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|O:writev", names, &object, &timeout) ||
	    pq_until(timeout, &until) != 0 || made(self) == NULL)
		return NULL;
	list = PySequence_Tuple(object);
	if (list == NULL)
		return NULL;
	result = write_list(self, list, until);
	Py_DECREF(list);
	return result;
}

/* ---- the rest of the writer ------------------------------------------------------------------ */

static PyObject *pipe_set_error(PyObject *self, PyObject *args)
{
	Pipe *p = made(self);
	int error;

	if (p == NULL || !PyArg_ParseTuple(args, "i:set_error", &error))
		return NULL;
	return pq_none_or_raise(q_pipe_set_error(p, error));
}

static PyObject *pipe_close(PyObject *self, PyObject *unused)
{
	Pipe *p = ((struct pq_pipe *)self)->p;

	(void)unused;
	return p != NULL ? pq_none_or_raise(q_pipe_close(p)) : Py_NewRef(Py_None);
}

static PyObject *pipe_share(PyObject *self, PyObject *unused)
{
	struct pq_pipe *pipe = (struct pq_pipe *)self;
	int fd;

	(void)unused;
	if (made(self) == NULL)
		return NULL;
	pipe->users++;
	Py_BEGIN_ALLOW_THREADS;
	fd = q_pipe_share(pipe->p);
	Py_END_ALLOW_THREADS;
	pipe->users--;
	return fd >= 0 ? PyLong_FromLong(fd) : pq_raise(Q_ERR_UNSUPPORTED);
}

static PyObject *pipe_stats(PyObject *self, PyObject *unused)
{
	Pipe *p = made(self);
	QueueStatus status;
	PipeStats s;

	(void)unused;
	if (p == NULL)
		return NULL;
	status = q_pipe_stats(p, &s);
	if (status != Q_OK)
		return pq_raise(status);
#define STAT(name) #name, (unsigned long long)s.name
	return Py_BuildValue("{sKsKsKsKsKsKsKsKsKsKsNsi}", STAT(written), STAT(forgotten),
			     STAT(kept), STAT(max_bytes), STAT(slowest), STAT(full), STAT(lagged),
			     STAT(opened), STAT(readers), STAT(evicted), "closed",
			     PyBool_FromLong((long)s.closed), "error", (int)s.error);
#undef STAT
}

static PyObject *get_closed(PyObject *self, void *unused)
{
	struct pq_pipe *pipe = (struct pq_pipe *)self;
	PipeStats s;

	(void)unused;
	return PyBool_FromLong(pipe->p == NULL || q_pipe_stats(pipe->p, &s) != Q_OK ||
			       s.closed != 0);
}

static void pipe_dealloc(PyObject *self)
{
	struct pq_pipe *pipe = (struct pq_pipe *)self;

	if (pipe->pool == NULL)
		q_pipe_destroy(pipe->p);
	if (pipe->lock != NULL)
		PyThread_free_lock(pipe->lock);
	Py_XDECREF(pipe->pool);
	pq_free(self);
}

static PyMethodDef pipe_methods[] = {
	{ "_create", pipe_create, METH_VARARGS, NULL },
	{ "_stats", pipe_stats, METH_NOARGS, NULL },
	{ "write", PQ_FAST(pipe_write), METH_VARARGS | METH_KEYWORDS,
	  "write(data, timeout=None)\n--\n\n"
	  "Append bytes to the stream; they have been copied when the call returns. Returns how "
	  "many.\n\n"
	  "data: any object with the buffer protocol that is contiguous.\n"
	  "timeout: seconds to wait for room, with policy 'wait' only; None: for ever, 0: not at "
	  "all.\n\n"
	  "Any thread may call it; the bytes of one call stand together. Where it waits, or copies "
	  "much, it\nreleases the GIL.\n\n"
	  "Raises gpuq.FullError, gpuq.TimeoutError: no room for the rest; gpuq.ShutdownError: "
	  "closed;\ngpuq.FailedError: set_error(); gpuq.BrokenError: all readers have been closed. "
	  "The exception's\n``written`` is how many bytes are in the stream." },
	{ "writev", PQ_FAST(pipe_writev), METH_VARARGS | METH_KEYWORDS,
	  "writev(pieces, timeout=None)\n--\n\n"
	  "write() of several buffers, at most 1024, whose bytes stand together." },
	{ "set_error", pipe_set_error, METH_VARARGS,
	  "set_error(error, /)\n--\n\n"
	  "Say that the stream fails here: readers get what is in it, then gpuq.FailedError with "
	  "this "
	  "``value``,\nan errno number, say. 0 takes it back. Raises gpuq.ShutdownError: closed." },
	{ "close", pipe_close, METH_NOARGS,
	  "close()\n--\n\n"
	  "End the stream: readers get what is in it, then the end, or the error that was set.\n\n"
	  "Readers can still be opened. The memory is freed with this object and the last "
	  "reader." },
	{ "share", pipe_share, METH_NOARGS,
	  "share()\n--\n\n"
	  "A descriptor by which other processes read: PipeReader.attach(). With policies 'fail' "
	  "and "
	  "'drop_history'.\n\n"
	  "It is the caller's to close. Children inherit it by fork(), by pass_fds of subprocess, "
	  "or "
	  "get it by\nsocket.send_fds(). From then on each write makes a system call.\n\n"
	  "Raises gpuq.UnsupportedError: another policy, no memory, or the kernel cannot seal "
	  "it." },
	{ NULL, NULL, 0, NULL },
};
static PyGetSetDef pipe_attributes[] = {
	{ "closed", get_closed, NULL, "Whether the stream has ended.", NULL },
	{ NULL, NULL, NULL, NULL, NULL },
};
static PyType_Slot pipe_slots[] = {
	{ Py_tp_dealloc, pipe_dealloc },
	{ Py_tp_methods, pipe_methods },
	{ Py_tp_getset, pipe_attributes },
	{ 0, NULL },
};
static PyType_Spec pipe_spec = {
	.name = "gpuq._gpuq.PipeCore",
	.basicsize = sizeof(struct pq_pipe),
	.flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
	.slots = pipe_slots,
};

/* ---- pools ----------------------------------------------------------------------------------- */

static PyObject *pool_create(PyObject *self, PyObject *unused)
{
	struct pq_pool *pool = (struct pq_pool *)self;

	(void)unused;
	if (pool->pool != NULL)
		return pq_raise_text(Q_ERR_INVALID_ARG, "the pool has been made");
	return pq_none_or_raise(q_pipe_pool_create(&pool->pool));
}

/* _writer(name, max_bytes, policy, pipe): `pipe` becomes the pipe of that name */
static PyObject *pool_writer(PyObject *self, PyObject *args)
{
	struct pq_pool *pool = (struct pq_pool *)self;
	PipeConfig cfg = { 0 };
	struct pq_pipe *pipe;
	unsigned long long bytes;
	const char *name;
	QueueStatus status;

	if (!PyArg_ParseTuple(args, "sKIO!:writer", &name, &bytes, &cfg.policy, pq_pipe_type,
			      (PyObject **)&pipe))
		return NULL;
	cfg.max_bytes = bytes;
	if (set_up(pipe, cfg.policy) != 0)
		return NULL;
	status = q_pipe_pool_writer(pool->pool, name, &cfg, &pipe->p);
	if (status != Q_OK)
		return pq_raise(status);
	pipe->pool = Py_NewRef(self);
	Py_RETURN_NONE;
}

static PyObject *pool_close(PyObject *self, PyObject *unused)
{
	(void)unused;
	return pq_none_or_raise(q_pipe_pool_close(((struct pq_pool *)self)->pool));
}

static void pool_dealloc(PyObject *self)
{
	q_pipe_pool_destroy(((struct pq_pool *)self)->pool);
	pq_free(self);
}

static PyMethodDef pool_methods[] = {
	{ "_create", pool_create, METH_NOARGS, NULL },
	{ "_writer", pool_writer, METH_VARARGS, NULL },
	{ "close", pool_close, METH_NOARGS,
	  "close()\n--\n\n"
	  "Take no new names: whoever waits for a writer gets gpuq.ShutdownError. Pipes that are "
	  "there "
	  "go on,\nand can still be read from their first byte." },
	{ NULL, NULL, 0, NULL },
};
static PyType_Slot pool_slots[] = {
	{ Py_tp_dealloc, pool_dealloc },
	{ Py_tp_methods, pool_methods },
	{ 0, NULL },
};
static PyType_Spec pool_spec = {
	.name = "gpuq._gpuq.PipePoolCore",
	.basicsize = sizeof(struct pq_pool),
	.flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
	.slots = pool_slots,
};

int pq_add_pipe_types(PyObject *module)
{
	if (pq_add_type(module, &pipe_spec, &pq_pipe_type) != 0 ||
	    pq_add_type(module, &pool_spec, &pq_pool_type) != 0)
		return -1;
	return pq_add_reader_type(module);
}
