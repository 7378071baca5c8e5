/* SPDX-License-Identifier: Apache-2.0 */
/*
 * raw.c - messages by id, without futures, for gpuq.compat. A queue is used in this way or with
 * futures, not both: whoever polls first would take the other's completions.
 */
#include "module.h"

/* (message, timeout): the id */
PyObject *pq_raw_enqueue(PyObject *self, PyObject *args)
{
	struct pq_options options = { 0 };
	struct pq_message message;
	struct pq_handle *handle;
	PyObject *object, *timeout, *result = NULL;
	QueueStatus status;
	uint64_t id;

	if (!PyArg_ParseTuple(args, "OO:_enqueue", &object, &timeout) ||
	    pq_until(timeout, &options.until) != 0)
		return NULL;
	handle = pq_handle_of((struct pq_queue *)self);
	if (handle == NULL)
		return NULL;
	if (pq_message_get(object, &message) == 0) {
		status = q_enqueue(handle->q, message.data, message.len, &id, 0);
		if (status == Q_ERR_FULL && options.until != 0) {
			void *payload;

			status = Q_ERR_SHUTDOWN;
			if (pq_reserve_slot(handle, message.len, &options, &payload, &id) == 0) {
				pq_copy(payload, message.data, message.len);
				status = q_commit(handle->q, id);
			}
		}
		if (status == Q_OK)
			result = PyLong_FromUnsignedLongLong(id);
		else if (PyErr_Occurred() == NULL)
			pq_raise(status);
		pq_message_release(&message);
	}
	pq_drop(handle);
	return result;
}

/* Result and slot of a message by id: bytes. */
PyObject *pq_raw_take(PyObject *self, PyObject *number)
{
	const uint64_t id = PyLong_AsUnsignedLongLong(number);
	struct pq_handle *handle;
	PyObject *result = NULL;
	const void *data;
	QueueStatus status, outcome;
	size_t len;

	if (PyErr_Occurred() != NULL)
		return NULL;
	handle = pq_handle_of((struct pq_queue *)self);
	if (handle == NULL)
		return NULL;
	status = q_peek_result(handle->q, id, &data, &len, &outcome);
	if (status == Q_OK && outcome == Q_OK) {
		result = PyBytes_FromStringAndSize(data, (Py_ssize_t)len);
		if (result != NULL)
			q_release(handle->q, id);
	} else if (status == Q_OK) {
		size_t none = 0;

		pq_raise(q_try_dequeue_result(handle->q, id, NULL, &none));
	} else {
		pq_raise(status);
	}
	pq_drop(handle);
	return result;
}

/* Ids that have finished since. */
PyObject *pq_raw_poll(PyObject *self, PyObject *most)
{
	struct pq_handle *handle;
	uint64_t ids[256];
	PyObject *list;
	QueueStatus status;
	size_t count = 0, max = PyLong_AsSize_t(most);

	if (PyErr_Occurred() != NULL)
		return NULL;
	handle = pq_handle_of((struct pq_queue *)self);
	if (handle == NULL)
		return NULL;
	status = q_poll_completions(handle->q, ids, max < 256 ? max : 256, &count);
	pq_drop(handle);
	if (status != Q_OK)
		return pq_raise(status);
	list = PyList_New((Py_ssize_t)count);
	for (size_t i = 0; list != NULL && i < count; i++) {
		PyObject *id = PyLong_FromUnsignedLongLong(ids[i]);

		if (id == NULL)
			Py_CLEAR(list);
		else
			PyList_SetItem(list, (Py_ssize_t)i, id);
	}
	return list;
}
