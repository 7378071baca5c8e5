/* SPDX-License-Identifier: Apache-2.0 */
/*
 * reader.c - class PipeReaderCore, of which gpuq.PipeReader is made.
 *
 * One thread reads at a time. close() gives a reading thread an error, which ends its wait; that
 * thread then closes the reader.
 */
#include "module.h"

#include <errno.h>

struct reader {
	PyObject_HEAD PipeReader *r; /* NULL: closed */
	bool reading;                /* a thread is inside a read */
	bool closing;
};

static PyTypeObject *reader_type;

static PipeReader *open_reader(PyObject *self)
{
	struct reader *reader = (struct reader *)self;

	if (reader->r != NULL && !reader->closing)
		return reader->r;
	pq_raise_closed("reader");
	return NULL;
}

static void end(struct reader *reader)
{
	PipeReader *r = reader->r;

	reader->r = NULL;
	if (r != NULL) {
		Py_BEGIN_ALLOW_THREADS;
		q_pipe_reader_close(r);
		Py_END_ALLOW_THREADS;
	}
}

/* ---- opening --------------------------------------------------------------------------------- */

static int not_yet(struct reader *reader)
{
	if (reader->r == NULL && !reader->closing)
		return 0;
	pq_raise_text(Q_ERR_INVALID_ARG, "the reader has been opened");
	return -1;
}

/* _open(pipe) */
static PyObject *reader_open(PyObject *self, PyObject *args)
{
	struct reader *reader = (struct reader *)self;
	struct pq_pipe *pipe;

	if (!PyArg_ParseTuple(args, "O!:reader", pq_pipe_type, (PyObject **)&pipe) ||
	    not_yet(reader) != 0)
		return NULL;
	return pq_none_or_raise(q_pipe_reader_open(pipe->p, &reader->r));
}

/* _attach(descriptor) */
static PyObject *reader_attach(PyObject *self, PyObject *args)
{
	struct reader *reader = (struct reader *)self;
	QueueStatus status;
	int fd;

	if (!PyArg_ParseTuple(args, "i:attach", &fd) || not_yet(reader) != 0)
		return NULL;
	Py_BEGIN_ALLOW_THREADS;
	status = q_pipe_attach(fd, &reader->r);
	Py_END_ALLOW_THREADS;
	return pq_none_or_raise(status);
}

/* _find(pool, name, flags, timeout) */
static PyObject *reader_find(PyObject *self, PyObject *args)
{
	struct reader *reader = (struct reader *)self;
	struct pq_pool *pool;
	PyObject *timeout;
	const char *name;
	unsigned int flags;
	QueueStatus status;
	int64_t until;
	int on = 1;

	if (!PyArg_ParseTuple(args, "O!sIO:reader", pq_pool_type, (PyObject **)&pool, &name, &flags,
			      &timeout) ||
	    pq_until(timeout, &until) != 0 || not_yet(reader) != 0)
		return NULL;
	status = q_pipe_pool_reader(pool->pool, name, flags, 0, &reader->r);
	if (status != Q_ERR_EMPTY || until == 0)
		return pq_none_or_raise(status);
	while (on == 1) {
		const uint32_t ms = pq_slice_ms(until);

		Py_BEGIN_ALLOW_THREADS;
		status = q_pipe_pool_reader(pool->pool, name, flags, ms != 0 ? ms : 1, &reader->r);
		Py_END_ALLOW_THREADS;
		on = status == Q_ERR_TIMEOUT ? pq_goes_on(until) : 0;
	}
	return on == 0 ? pq_none_or_raise(status) : NULL;
}

/* ---- reading --------------------------------------------------------------------------------- */

static QueueStatus read_once(struct reader *reader, void *to, size_t cap, size_t *out_len,
			     uint32_t ms)
{
	QueueStatus status;

	if (ms == 0 && cap < PQ_MUCH)
		return q_pipe_read(reader->r, to, cap, out_len, 0);
	Py_BEGIN_ALLOW_THREADS;
	status = q_pipe_read(reader->r, to, cap, out_len, ms);
	Py_END_ALLOW_THREADS;
	return status;
}

/* Where nothing is there it waits until `until`; 0: not at all. @return 0, or -1: an exception */
static int read_until(struct reader *reader, void *to, size_t cap, int64_t until, size_t *out_len,
		      QueueStatus *out)
{
	int on = 1;

	*out = read_once(reader, to, cap, out_len, 0);
	while ((*out == Q_ERR_EMPTY || *out == Q_ERR_TIMEOUT) && until != 0 && on == 1) {
		const uint32_t ms = pq_slice_ms(until);

		*out = read_once(reader, to, cap, out_len, ms != 0 ? ms : 1);
		if (*out == Q_ERR_TIMEOUT)
			on = reader->closing ? 0 : pq_goes_on(until);
	}
	return on < 0 ? -1 : 0;
}

static void raise_failure(struct reader *reader, QueueStatus status)
{
	int number = 0;

	if (reader->closing) {
		pq_raise_closed("reader");
	} else if (status == Q_ERR_FAILED) {
		PyObject *error = pq_make_error(status, q_last_error());

		q_pipe_reader_error(reader->r, &number);
		if (error == NULL)
			return;
		Py_DECREF(error);
		pq_raise_with(status, "value", number);
	} else {
		pq_raise(status);
	}
}

/* @return how many bytes have been read; -1: an exception; -2: none, but it is no failure */
static Py_ssize_t read_into(struct reader *reader, void *to, size_t cap, int64_t until, bool quiet)
{
	Py_ssize_t result = -1;
	QueueStatus status;
	size_t len;

	reader->reading = true;
	if (read_until(reader, to, cap, until, &len, &status) == 0) {
		if (status == Q_OK && !reader->closing)
			result = (Py_ssize_t)len;
		else if (status == Q_ERR_EMPTY && quiet && !reader->closing)
			result = -2;
		else
			raise_failure(reader, status);
	}
	reader->reading = false;
	if (reader->closing)
		end(reader);
	return result;
}

static int begin(PyObject *self)
{
	if (open_reader(self) == NULL)
		return -1;
	if (!((struct reader *)self)->reading)
		return 0;
	pq_raise_text(Q_ERR_POLICY, "another thread reads from this reader");
	return -1;
}

static PyObject *read_bytes(PyObject *self, Py_ssize_t size, int64_t until, bool quiet)
{
	PyObject *result = NULL;
	Py_ssize_t len;
	char *to;

	if (begin(self) != 0)
		return NULL;
	if (size < 1)
		return PyErr_Format(PyExc_ValueError, "gpuq: size is %zd; allowed: 1 or more",
				    size);
	to = PyMem_Malloc((size_t)size);
	if (to == NULL)
		return PyErr_NoMemory();
	len = read_into((struct reader *)self, to, (size_t)size, until, quiet);
	if (len >= 0)
		result = PyBytes_FromStringAndSize(to, len);
	else if (len == -2)
		result = Py_NewRef(Py_None);
	PyMem_Free(to);
	return result;
}

static PyObject *reader_read(PyObject *self, PyObject *args, PyObject *kwargs)
{
	static char *names[] = { "size", "timeout", NULL };
	PyObject *timeout = Py_None;
	Py_ssize_t size = 65536;
	int64_t until;

	if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|nO:read", names, &size, &timeout) ||
	    pq_until(timeout, &until) != 0)
		return NULL;
	return read_bytes(self, size, until, false);
}

/* _take(size): None if there is nothing */
static PyObject *reader_take(PyObject *self, PyObject *args)
{
	Py_ssize_t size;

	if (!PyArg_ParseTuple(args, "n:read", &size))
		return NULL;
	return read_bytes(self, size, 0, true);
}

static PyObject *reader_readinto(PyObject *self, PyObject *args, PyObject *kwargs)
{
	static char *names[] = { "buffer", "timeout", NULL };
	PyObject *object, *timeout = Py_None;
	Py_ssize_t len = -1;
	Py_buffer buffer;
	int64_t until;

	if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|O:readinto", names, &object, &timeout) ||
	    pq_until(timeout, &until) != 0 || begin(self) != 0 || pq_writable(object, &buffer) != 0)
		return NULL;
	if (buffer.len == 0)
		pq_raise_text(Q_ERR_INVALID_ARG, "there is no room in the buffer");
	else
		len = read_into((struct reader *)self, buffer.buf, (size_t)buffer.len, until,
				false);
	PyBuffer_Release(&buffer);
	return len >= 0 ? PyLong_FromSsize_t(len) : NULL;
}

/* ---- the rest -------------------------------------------------------------------------------- */

static PyObject *reader_set_error(PyObject *self, PyObject *args)
{
	PipeReader *r = open_reader(self);
	int error;

	if (r == NULL || !PyArg_ParseTuple(args, "i:set_error", &error))
		return NULL;
	return pq_none_or_raise(q_pipe_reader_set_error(r, error));
}

static PyObject *get_error(PyObject *self, void *unused)
{
	PipeReader *r = open_reader(self);
	QueueStatus status;
	int error;

	(void)unused;
	if (r == NULL)
		return NULL;
	status = q_pipe_reader_error(r, &error);
	return status == Q_OK ? PyLong_FromLong(error) : pq_raise(status);
}

static PyObject *get_offset(PyObject *self, void *unused)
{
	PipeReader *r = open_reader(self);
	QueueStatus status;
	uint64_t offset;

	(void)unused;
	if (r == NULL)
		return NULL;
	status = q_pipe_reader_offset(r, &offset);
	return status == Q_OK ? PyLong_FromUnsignedLongLong(offset) : pq_raise(status);
}

static PyObject *get_closed(PyObject *self, void *unused)
{
	struct reader *reader = (struct reader *)self;

	(void)unused;
	return PyBool_FromLong(reader->r == NULL || reader->closing);
}

static PyObject *reader_fileno(PyObject *self, PyObject *unused)
{
	PipeReader *r = open_reader(self);
	int fd;

	(void)unused;
	if (r == NULL)
		return NULL;
	fd = q_pipe_reader_fd(r);
	return fd >= 0 ? PyLong_FromLong(fd) : pq_raise(Q_ERR_LIMIT);
}

static PyObject *reader_close(PyObject *self, PyObject *unused)
{
	struct reader *reader = (struct reader *)self;

	(void)unused;
	if (!reader->closing) {
		reader->closing = true;
		if (!reader->reading)
			end(reader);
		else
			q_pipe_reader_set_error(reader->r, ECANCELED);
	}
	Py_RETURN_NONE;
}

static void reader_dealloc(PyObject *self)
{
	end((struct reader *)self);
	pq_free(self);
}

static PyMethodDef methods[] = {
	{ "_open", reader_open, METH_VARARGS, NULL },
	{ "_attach", reader_attach, METH_VARARGS, NULL },
	{ "_find", reader_find, METH_VARARGS, NULL },
	{ "_take", reader_take, METH_VARARGS, NULL },
	{ "_close", reader_close, METH_NOARGS, NULL },
	{ "read", PQ_FAST(reader_read), METH_VARARGS | METH_KEYWORDS,
	  "read(size=65536, timeout=None)\n--\n\n"
	  "The next bytes: what is there, 1 to `size` of them; b'' at the end of the stream.\n\n"
	  "timeout: seconds to wait while nothing is there; None: for ever, 0: not at all. The GIL "
	  "is "
	  "released\nmeanwhile. One thread reads at a time.\n\n"
	  "Raises gpuq.EmptyError (timeout 0), gpuq.TimeoutError; gpuq.FailedError: the reader's "
	  "own "
	  "error, or\nafter all data the writer's, with the number as ``value`` (errno.EOWNERDEAD: "
	  "its "
	  "process has died);\ngpuq.LaggedError: bytes were forgotten before they were read; "
	  "gpuq.PolicyError: another thread reads." },
	{ "readinto", PQ_FAST(reader_readinto), METH_VARARGS | METH_KEYWORDS,
	  "readinto(buffer, timeout=None)\n--\n\n"
	  "read() into memory that can be written; returns the number of bytes, 0 at the end." },
	{ "set_error", reader_set_error, METH_VARARGS,
	  "set_error(error, /)\n--\n\n"
	  "Make this reader fail, from any thread: reads raise gpuq.FailedError with this "
	  "``value`` at "
	  "once, before\nwhat is there. 0 takes it back, and reading goes on where it was." },
	{ "fileno", reader_fileno, METH_NOARGS,
	  "fileno()\n--\n\n"
	  "A descriptor that is readable while read() would not have to wait.\n\n"
	  "For event loops. It is the reader's: never read it or close it. Raises gpuq.LimitError: "
	  "no "
	  "thread or\ndescriptor is to be had." },
	{ NULL, NULL, 0, NULL },
};
static PyGetSetDef attributes[] = {
	{ "closed", get_closed, NULL, "Whether close() has been called.", NULL },
	{ "offset", get_offset, NULL,
	  "Where in the stream the next read begins, bytes; after gpuq.LaggedError the oldest that "
	  "is "
	  "kept.",
	  NULL },
	{ "error", get_error, NULL, "The number behind gpuq.FailedError; 0: there is none.", NULL },
	{ NULL, NULL, NULL, NULL, NULL },
};
static PyType_Slot slots[] = {
	{ Py_tp_dealloc, reader_dealloc },
	{ Py_tp_methods, methods },
	{ Py_tp_getset, attributes },
	{ 0, NULL },
};
static PyType_Spec spec = {
	.name = "gpuq._gpuq.PipeReaderCore",
	.basicsize = sizeof(struct reader),
	.flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
	.slots = slots,
};

int pq_add_reader_type(PyObject *module)
{
	return pq_add_type(module, &spec, &reader_type);
}
