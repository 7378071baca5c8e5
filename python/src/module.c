/* SPDX-License-Identifier: Apache-2.0 */
/* module.c - the module gpuq._gpuq: its types, its functions, what Python hands over at its import.
 */
#include "module.h"

#include <string.h>

struct pq_python pq_python;

/* ---- types ----------------------------------------------------------------------------------- */

int pq_add_type(PyObject *module, PyType_Spec *spec, PyTypeObject **out)
{
	PyObject *type = PyType_FromSpec(spec);
	const char *dot = strrchr(spec->name, '.');

	if (type == NULL)
		return -1;
	*out = (PyTypeObject *)Py_NewRef(type);
	if (PyModule_AddObject(module, dot + 1, type) != 0) {
		Py_DECREF(type);
		return -1;
	}
	return 0;
}

void *pq_alloc(PyTypeObject *type)
{
	return PyType_GenericAlloc(type, 0);
}

void pq_free(PyObject *object)
{
	PyTypeObject *type = Py_TYPE(object);
	freefunc release = (freefunc)(uintptr_t)PyType_GetSlot(type, Py_tp_free);

	release(object);
	Py_DECREF(type);
}

/* ---- what Python hands over ------------------------------------------------------------------ */

static PyObject *setup(PyObject *module, PyObject *args)
{
	struct pq_python *p = &pq_python;

	(void)module;
	if (!PyArg_ParseTuple(args, "O!OOOOOOOOOO:_setup", &PyDict_Type, &p->errors, &p->open_error,
			      &p->future, &p->stdlib_future, &p->condition, &p->allocate_lock,
			      &p->cancelled_error, &p->run_callback, &p->deliver, &p->run_hook,
			      &p->main_thread))
		return NULL;
	Py_INCREF(p->errors);
	Py_INCREF(p->open_error);
	Py_INCREF(p->future);
	Py_INCREF(p->stdlib_future);
	Py_INCREF(p->condition);
	Py_INCREF(p->allocate_lock);
	Py_INCREF(p->cancelled_error);
	Py_INCREF(p->run_callback);
	Py_INCREF(p->deliver);
	Py_INCREF(p->run_hook);
	Py_INCREF(p->main_thread);
	Py_RETURN_NONE;
}

static PyObject *version(PyObject *module, PyObject *unused)
{
	(void)module;
	(void)unused;
	return PyUnicode_FromString(q_version());
}

static PyObject *status_string(PyObject *module, PyObject *number)
{
	const long status = PyLong_AsLong(number);

	(void)module;
	if (status == -1 && PyErr_Occurred() != NULL)
		return NULL;
	return PyUnicode_FromString(q_status_string((QueueStatus)status));
}

/* {name without Q_: number}: the classes of exceptions are made of it. */
static PyObject *statuses(PyObject *module, PyObject *unused)
{
	PyObject *dict = PyDict_New();

	(void)module;
	(void)unused;
#define ADD(name, value, text)                                                                     \
	if (dict != NULL) {                                                                        \
		PyObject *number = PyLong_FromLong(value);                                         \
                                                                                                   \
		if (number == NULL || PyDict_SetItemString(dict, #name, number) != 0)              \
			Py_CLEAR(dict);                                                            \
		Py_XDECREF(number);                                                                \
	}
	Q_STATUS_LIST(ADD)
#undef ADD
	return dict;
}

static PyMethodDef functions[] = {
	{ "_setup", setup, METH_VARARGS, NULL },
	{ "_serve", pq_serve, METH_O, NULL },
	{ "_serve_meanwhile", pq_serve_meanwhile_py, METH_NOARGS, NULL },
	{ "_end_hooks", pq_end_hooks, METH_NOARGS, NULL },
	{ "_statuses", statuses, METH_NOARGS, NULL },
	{ "version", version, METH_NOARGS,
	  "version()\n--\n\nThe library's version, MAJOR.MINOR.PATCH." },
	{ "status_string", status_string, METH_O,
	  "status_string(status)\n--\n\nWhat a status means, in some words." },
	{ "_dlpack", pq_dlpack, METH_O, NULL },
	{ NULL, NULL, 0, NULL },
};

/* ---- import ---------------------------------------------------------------------------------- */

static int begin(PyObject *module)
{
	/* Types and callbacks are kept in variables, and its threads belong to the main
	 * interpreter. */
	if (PyInterpreterState_GetID(PyInterpreterState_Get()) != 0) {
		PyErr_SetString(PyExc_ImportError,
				"gpuq: this module can be used in the main interpreter only; use a "
				"process in place of the sub-interpreter");
		return -1;
	}
	if (pq_queue_type != NULL) {
		PyErr_SetString(PyExc_ImportError, "gpuq: this module cannot be imported twice");
		return -1;
	}
	if (pq_init_names() != 0 || pq_add_queue_types(module) != 0 ||
	    pq_add_future_types(module) != 0 || pq_add_region_types(module) != 0 ||
	    pq_add_ring_types(module) != 0 || pq_add_notify_types(module) != 0 ||
	    pq_add_pipe_types(module) != 0)
		return -1;
	return 0;
}

static PyModuleDef_Slot slots[] = {
	{ Py_mod_exec, begin },
	{ 0, NULL },
};
static struct PyModuleDef definition = {
	PyModuleDef_HEAD_INIT,  .m_name = "gpuq._gpuq", .m_doc = "The part of gpuq in C.",
	.m_methods = functions, .m_slots = slots,
};

PyMODINIT_FUNC PyInit__gpuq(void);
PyMODINIT_FUNC PyInit__gpuq(void)
{
	return PyModuleDef_Init(&definition);
}
