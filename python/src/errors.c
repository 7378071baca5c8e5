/* SPDX-License-Identifier: Apache-2.0 */
/* errors.c - a status of the library as a Python exception. */
#include "module.h"

PyObject *pq_make_error(QueueStatus status, const char *text)
{
	PyObject *number = PyLong_FromLong(status), *class, *sentence, *error = NULL;

	if (number == NULL)
		return NULL;
	sentence = PyUnicode_DecodeFSDefault(text); /* there may be a file's name in it */
	class = PyDict_GetItemWithError(pq_python.errors, number); /* borrowed */
	if (class != NULL && sentence != NULL)
		error = PyObject_CallFunctionObjArgs(class, sentence, NULL);
	else if (PyErr_Occurred() == NULL)
		PyErr_Format(PyExc_SystemError, "gpuq: status %d is not known: %s", (int)status,
			     text);
	Py_XDECREF(sentence);
	Py_DECREF(number);
	return error;
}

PyObject *pq_raise_text(QueueStatus status, const char *text)
{
	PyObject *error = pq_make_error(status, text);

	if (error != NULL) {
		PyErr_SetObject((PyObject *)Py_TYPE(error), error);
		Py_DECREF(error);
	}
	return NULL;
}

PyObject *pq_raise(QueueStatus status)
{
	return pq_raise_text(status, q_last_error());
}

PyObject *pq_raise_with(QueueStatus status, const char *name, long long value)
{
	PyObject *error = pq_make_error(status, q_last_error());
	PyObject *number = PyLong_FromLongLong(value);

	if (error != NULL && number != NULL && PyObject_SetAttrString(error, name, number) == 0)
		PyErr_SetObject((PyObject *)Py_TYPE(error), error);
	Py_XDECREF(error);
	Py_XDECREF(number);
	return NULL;
}

PyObject *pq_raise_closed(const char *what)
{
	return PyErr_Format(PyExc_ValueError, "gpuq: the %s is closed", what);
}

PyObject *pq_none_or_raise(QueueStatus status)
{
	if (status != Q_OK)
		return pq_raise(status);
	Py_RETURN_NONE;
}

PyObject *pq_take_exception(void)
{
	PyObject *type, *value, *traceback;

	PyErr_Fetch(&type, &value, &traceback);
	PyErr_NormalizeException(&type, &value, &traceback);
	if (value != NULL && traceback != NULL)
		PyException_SetTraceback(value, traceback);
	Py_XDECREF(type);
	Py_XDECREF(traceback);
	return value;
}
