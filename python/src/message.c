/* SPDX-License-Identifier: Apache-2.0 */
/* message.c - the bytes of a message, and the keyword arguments it is sent with. */
#include "module.h"

#include <string.h>

int pq_message_get(PyObject *object, struct pq_message *out)
{
	out->view.obj = NULL;
	if (PyBytes_CheckExact(object)) {
		char *data;
		Py_ssize_t len;

		PyBytes_AsStringAndSize(object, &data, &len);
		out->data = data;
		out->len = (size_t)len;
		return 0;
	}
	if (!PyObject_CheckBuffer(object)) {
		PyErr_Format(PyExc_TypeError,
			     "gpuq: a message is an object with the buffer protocol (bytes, "
			     "bytearray, memoryview, an array), not %R",
			     (PyObject *)Py_TYPE(object));
		return -1;
	}
	if (PyObject_GetBuffer(object, &out->view, PyBUF_SIMPLE) != 0) {
		PyObject *why = pq_take_exception();

		out->view.obj = NULL;
		PyErr_Format(PyExc_BufferError,
			     "gpuq: a message must be contiguous memory; make a copy of this %R, "
			     "by bytes() or numpy.ascontiguousarray(): %S",
			     (PyObject *)Py_TYPE(object), why);
		Py_XDECREF(why);
		return -1;
	}
	out->data = out->view.buf;
	out->len = (size_t)out->view.len;
	return 0;
}

void pq_message_release(struct pq_message *message)
{
	if (message->view.obj != NULL)
		PyBuffer_Release(&message->view);
}

int pq_writable(PyObject *object, Py_buffer *out)
{
	PyObject *why;

	if (PyObject_GetBuffer(object, out, PyBUF_WRITABLE) == 0)
		return 0;
	why = pq_take_exception();
	PyErr_Format(PyExc_BufferError,
		     "gpuq: this needs memory that can be written and is contiguous, not %R: %S",
		     (PyObject *)Py_TYPE(object), why);
	Py_XDECREF(why);
	return -1;
}

void pq_copy(void *to, const void *from, size_t len)
{
	if (len < PQ_MUCH) {
		if (len != 0)
			memcpy(to, from, len);
		return;
	}
	Py_BEGIN_ALLOW_THREADS;
	memcpy(to, from, len);
	Py_END_ALLOW_THREADS;
}

int pq_parse_priority(PyObject *value, uint32_t *out)
{
	static const char *const names[] = { "low", "normal", "high", "urgent" };

	if (PyUnicode_Check(value)) {
		for (uint32_t i = 0; i < 4; i++) {
			if (PyUnicode_CompareWithASCIIString(value, names[i]) == 0) {
				*out = Q_PRIORITY_LOW + i;
				return 0;
			}
		}
	} else {
		const long number = PyLong_AsLong(value);

		if (number == -1 && PyErr_Occurred() != NULL)
			return -1;
		if (number >= Q_PRIORITY_DEFAULT && number <= Q_PRIORITY_URGENT) {
			*out = (uint32_t)number;
			return 0;
		}
	}
	PyErr_Format(PyExc_ValueError,
		     "gpuq: priority is %R; allowed: low, normal, high, urgent, or 0 to 4", value);
	return -1;
}

static int parse_deadline(PyObject *value, struct pq_options *out)
{
	int64_t at;

	if (value == Py_None)
		return 0;
	if (pq_until(value, &at) != 0)
		return -1;
	out->c.deadline_ns = at == 0 ? 1 : (uint64_t)at; /* 1: has passed */
	return 0;
}

int pq_parse_number(PyObject *value, const char *name, uint64_t most, uint64_t *out)
{
	const unsigned long long number = PyLong_AsUnsignedLongLong(value);

	if (PyErr_Occurred() != NULL && PyErr_ExceptionMatches(PyExc_TypeError)) {
		PyErr_Format(PyExc_TypeError, "gpuq: %s is %R; it must be an integer", name, value);
		return -1;
	}
	if (PyErr_Occurred() != NULL || number > most) { /* negative, or beyond 64 bits */
		PyErr_Clear();
		PyErr_Format(PyExc_ValueError, "gpuq: %s is %R; allowed: 0 to %llu", name, value,
			     (unsigned long long)most);
		return -1;
	}
	*out = number;
	return 0;
}

enum { PRIORITY, DEADLINE, TIMEOUT, OPCODE, TAG, INTO, VIEW, NAMES };
static PyObject *known[NAMES];

int pq_init_names(void)
{
	static const char *const names[NAMES] = { "priority", "deadline", "timeout", "opcode",
						  "tag",      "into",     "view" };

	for (int i = 0; i < NAMES; i++) {
		if (known[i] == NULL)
			known[i] = PyUnicode_InternFromString(names[i]);
		if (known[i] == NULL)
			return -1;
	}
	return 0;
}

static int which(PyObject *name)
{
	for (int i = 0; i < NAMES; i++)
		if (name == known[i])
			return i;
	for (int i = 0; i < NAMES; i++)
		if (PyUnicode_Compare(name, known[i]) == 0)
			return i;
	return -1;
}

static int parse_option(PyObject *name, PyObject *value, struct pq_options *out)
{
	uint64_t number = 0;
	int truth;

	switch (which(name)) {
	case PRIORITY:
		return pq_parse_priority(value, &out->c.priority);
	case DEADLINE:
		return parse_deadline(value, out);
	case TIMEOUT:
		return pq_until(value, &out->until);
	case OPCODE:
		if (pq_parse_number(value, "opcode", UINT32_MAX, &number) != 0)
			return -1;
		out->c.opcode = (uint32_t)number;
		return 0;
	case TAG:
		return pq_parse_number(value, "tag", UINT64_MAX, &out->c.tag);
	case INTO:
		out->into = value == Py_None ? NULL : value;
		return 0;
	case VIEW:
		truth = PyObject_IsTrue(value);
		out->view = truth == 1;
		return truth < 0 ? -1 : 0;
	default:
		PyErr_Format(PyExc_TypeError,
			     "gpuq: %R is no keyword argument of this; there are priority, "
			     "deadline, timeout, opcode, tag, into and view",
			     name);
		return -1;
	}
}

int pq_parse_options(PyObject *const *values, PyObject *names, struct pq_options *out)
{
	const Py_ssize_t count = names != NULL ? PyTuple_Size(names) : 0;

	*out = (struct pq_options){ .until = PQ_FOR_EVER };
	for (Py_ssize_t i = 0; i < count; i++)
		if (parse_option(PyTuple_GetItem(names, i), values[i], out) != 0)
			return -1;
	if (out->into != NULL && out->view) {
		PyErr_SetString(PyExc_ValueError, "gpuq: into and view exclude each other");
		return -1;
	}
	return 0;
}
