/* SPDX-License-Identifier: Apache-2.0 */
/* region.c - classes RegionTableCore and Descriptor: messages that stay where they are. */
#include "module.h"

static PyTypeObject *pq_regions_type;
PyTypeObject *pq_descriptor_type;

RegionTable *pq_regions_of(PyObject *table)
{
	if (!PyObject_TypeCheck(table, pq_regions_type)) {
		PyErr_Format(PyExc_TypeError, "gpuq: this must be a RegionTable, not %R",
			     (PyObject *)Py_TYPE(table));
		return NULL;
	}
	if (((struct pq_regions *)table)->table == NULL)
		PyErr_SetString(PyExc_ValueError, "gpuq: the RegionTable was not made");
	return ((struct pq_regions *)table)->table;
}

/* ---- tables ---------------------------------------------------------------------------------- */

/* _open(max_regions, memory, attach) */
static PyObject *regions_open(PyObject *self, PyObject *args)
{
	struct pq_regions *regions = (struct pq_regions *)self;
	PyObject *memory;
	unsigned long max;
	int attach;
	QueueStatus status;

	if (!PyArg_ParseTuple(args, "kOp:_open", &max, &memory, &attach))
		return NULL;
	if (regions->table != NULL || regions->memory.obj != NULL) {
		PyErr_SetString(PyExc_RuntimeError, "gpuq: the RegionTable has been made");
		return NULL;
	}
	regions->devices = PySet_New(NULL);
	if (regions->devices == NULL ||
	    (memory != Py_None && pq_writable(memory, &regions->memory) != 0))
		return NULL;
	max = max > UINT32_MAX ? UINT32_MAX : max;
	if (memory == Py_None)
		status = q_region_table_create((uint32_t)max, &regions->table);
	else if (attach != 0)
		status = q_region_table_attach(regions->memory.buf, (size_t)regions->memory.len,
					       &regions->table);
	else
		status = q_region_table_create_in((uint32_t)max, regions->memory.buf,
						  (size_t)regions->memory.len, &regions->table);
	if (status != Q_OK && regions->memory.obj != NULL)
		PyBuffer_Release(&regions->memory);
	return pq_none_or_raise(status);
}

static PyObject *handle_tuple(const RegionHandle *handle)
{
	return Py_BuildValue("II", handle->id, handle->generation);
}

/* _register(memory, policy): the memory is the caller's to keep. */
static PyObject *regions_register(PyObject *self, PyObject *args)
{
	RegionTable *table = pq_regions_of(self);
	RegionHandle handle;
	PyObject *memory;
	Py_buffer view;
	QueueStatus status;
	int policy;

	if (table == NULL || !PyArg_ParseTuple(args, "Oi:_register", &memory, &policy))
		return NULL;
	if (policy == Q_REGION_IMMUTABLE ? PyObject_GetBuffer(memory, &view, PyBUF_SIMPLE) != 0
					 : pq_writable(memory, &view) != 0)
		return NULL;
	status = q_region_register(table, view.buf, (uint64_t)view.len, (RegionPolicy)policy,
				   &handle);
	PyBuffer_Release(&view);
	return status == Q_OK ? handle_tuple(&handle) : pq_raise(status);
}

/* _register_device(address, size) */
static PyObject *regions_register_device(PyObject *self, PyObject *args)
{
	RegionTable *table = pq_regions_of(self);
	unsigned long long address, size;
	RegionHandle handle;
	PyObject *id;
	QueueStatus status;
	int ok;

	if (table == NULL || !PyArg_ParseTuple(args, "KK:_register_device", &address, &size))
		return NULL;
	status = q_region_register_device(table, (const void *)(uintptr_t)address, size, &handle);
	if (status != Q_OK)
		return pq_raise(status);
	id = PyLong_FromUnsignedLong(handle.id);
	ok = id != NULL ? PySet_Add(((struct pq_regions *)self)->devices, id) : -1;
	Py_XDECREF(id);
	if (ok == 0)
		return handle_tuple(&handle);
	q_region_retire(table, handle);
	return NULL;
}

/* _register_fd(fd, policy) */
static PyObject *regions_register_fd(PyObject *self, PyObject *args)
{
	RegionTable *table = pq_regions_of(self);
	RegionHandle handle;
	QueueStatus status;
	int fd, policy;

	if (table == NULL || !PyArg_ParseTuple(args, "ii:_register_fd", &fd, &policy))
		return NULL;
	status = q_region_register_fd(table, fd, (RegionPolicy)policy, &handle);
	return status == Q_OK ? handle_tuple(&handle) : pq_raise(status);
}

/* _map(id, generation, memory) */
static PyObject *regions_map(PyObject *self, PyObject *args)
{
	RegionTable *table = pq_regions_of(self);
	RegionHandle handle;
	Py_buffer view;
	PyObject *memory;
	QueueStatus status;

	if (table == NULL ||
	    !PyArg_ParseTuple(args, "IIO:_map", &handle.id, &handle.generation, &memory) ||
	    PyObject_GetBuffer(memory, &view, PyBUF_SIMPLE) != 0)
		return NULL;
	status = q_region_map(table, handle, view.buf, (uint64_t)view.len);
	PyBuffer_Release(&view);
	return pq_none_or_raise(status);
}

/* _append(id, generation, data): the offset */
static PyObject *regions_append(PyObject *self, PyObject *args)
{
	RegionTable *table = pq_regions_of(self);
	struct pq_message message;
	RegionHandle handle;
	PyObject *data;
	QueueStatus status;
	uint64_t offset;

	if (table == NULL ||
	    !PyArg_ParseTuple(args, "IIO:_append", &handle.id, &handle.generation, &data) ||
	    pq_message_get(data, &message) != 0)
		return NULL;
	status = q_region_append(table, handle, message.data, message.len, &offset);
	pq_message_release(&message);
	return status == Q_OK ? PyLong_FromUnsignedLongLong(offset) : pq_raise(status);
}

static PyObject *regions_retire(PyObject *self, PyObject *args)
{
	RegionTable *table = pq_regions_of(self);
	RegionHandle handle;

	if (table == NULL || !PyArg_ParseTuple(args, "II:_retire", &handle.id, &handle.generation))
		return NULL;
	return pq_none_or_raise(q_region_retire(table, handle));
}

/* _info(id, generation): (size, cursor, references, policy, retired), or None: freed */
static PyObject *regions_info(PyObject *self, PyObject *args)
{
	RegionTable *table = pq_regions_of(self);
	RegionHandle handle;
	RegionInfo info;
	QueueStatus status;

	if (table == NULL || !PyArg_ParseTuple(args, "II:_info", &handle.id, &handle.generation))
		return NULL;
	status = q_region_info(table, handle, &info);
	if (status == Q_ERR_STALE)
		Py_RETURN_NONE;
	if (status != Q_OK)
		return pq_raise(status);
	return Py_BuildValue("KKKiN", (unsigned long long)info.size,
			     (unsigned long long)info.cursor, (unsigned long long)info.references,
			     (int)info.policy, PyBool_FromLong((long)info.retired));
}

static int regions_traverse(PyObject *self, visitproc visit, void *arg)
{
	Py_VISIT(Py_TYPE(self));
	Py_VISIT(((struct pq_regions *)self)->devices);
	Py_VISIT(((struct pq_regions *)self)->memory.obj);
	return 0;
}

static void regions_dealloc(PyObject *self)
{
	struct pq_regions *regions = (struct pq_regions *)self;

	PyObject_GC_UnTrack(self);
	q_region_table_destroy(regions->table);
	if (regions->memory.obj != NULL)
		PyBuffer_Release(&regions->memory);
	Py_XDECREF(regions->devices);
	pq_free(self);
}

static PyMethodDef regions_methods[] = {
	{ "_open", regions_open, METH_VARARGS, NULL },
	{ "_register", regions_register, METH_VARARGS, NULL },
	{ "_register_device", regions_register_device, METH_VARARGS, NULL },
	{ "_register_fd", regions_register_fd, METH_VARARGS, NULL },
	{ "_map", regions_map, METH_VARARGS, NULL },
	{ "_append", regions_append, METH_VARARGS, NULL },
	{ "_retire", regions_retire, METH_VARARGS, NULL },
	{ "_info", regions_info, METH_VARARGS, NULL },
	{ NULL, NULL, 0, NULL },
};
static PyType_Slot regions_slots[] = {
	{ Py_tp_dealloc, regions_dealloc },
	{ Py_tp_traverse, regions_traverse },
	{ Py_tp_methods, regions_methods },
	{ 0, NULL },
};
static PyType_Spec regions_spec = {
	.name = "gpuq._gpuq.RegionTableCore",
	.basicsize = sizeof(struct pq_regions),
	.flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_BASETYPE,
	.slots = regions_slots,
};

/* ---- descriptors ----------------------------------------------------------------------------- */

PyObject *pq_descriptor_new(PyObject *table, const MessageDescriptor *c, bool received)
{
	struct pq_descriptor *descriptor = pq_alloc(pq_descriptor_type);

	if (descriptor == NULL)
		return NULL;
	descriptor->table = Py_NewRef(table);
	descriptor->c = *c;
	descriptor->received = received;
	return (PyObject *)descriptor;
}

static PyObject *descriptor_make(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
	static char *names[] = { "table", "id", "generation", "offset", "length", NULL };
	MessageDescriptor c = { 0 };
	unsigned long long offset, length;
	PyObject *table;

	(void)type;
	if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OIIKK:Descriptor", names, &table,
					 &c.region.id, &c.region.generation, &offset, &length) ||
	    pq_regions_of(table) == NULL)
		return NULL;
	if (length == 0 || length > UINT32_MAX) {
		PyErr_Format(PyExc_ValueError,
			     "gpuq: a descriptor's length is %llu bytes; allowed: 1 to %u", length,
			     UINT32_MAX);
		return NULL;
	}
	c.offset = offset;
	c.length = (uint32_t)length;
	return pq_descriptor_new(table, &c, false);
}

static void release_received(struct pq_descriptor *descriptor)
{
	RegionTable *table = ((struct pq_regions *)descriptor->table)->table;

	if (!descriptor->received)
		return;
	descriptor->received = false;
	if (table != NULL)
		q_region_release(table, &descriptor->c);
}

static int on_device(const struct pq_descriptor *descriptor)
{
	PyObject *id = PyLong_FromUnsignedLong(descriptor->c.region.id);
	int found = id != NULL
			    ? PySet_Contains(((struct pq_regions *)descriptor->table)->devices, id)
			    : -1;

	Py_XDECREF(id);
	if (found == 1)
		PyErr_SetString(
			PyExc_BufferError,
			"gpuq: the descriptor is of a GPU's memory, which Python cannot read");
	return found;
}

static int descriptor_get(PyObject *self, Py_buffer *out, int flags)
{
	struct pq_descriptor *descriptor = (struct pq_descriptor *)self;
	RegionTable *table = pq_regions_of(descriptor->table);
	const void *data;
	QueueStatus status;

	if (table == NULL || on_device(descriptor) != 0)
		return -1;
	status = q_region_resolve(table, &descriptor->c, &data);
	if (status != Q_OK) {
		pq_raise(status);
		return -1;
	}
	if (PyBuffer_FillInfo(out, self, (void *)(uintptr_t)data, descriptor->c.length, 1, flags) !=
	    0)
		return -1;
	descriptor->exports++;
	return 0;
}

static void descriptor_give_back(PyObject *self, Py_buffer *buffer)
{
	(void)buffer;
	((struct pq_descriptor *)self)->exports--;
}

static PyObject *descriptor_release(PyObject *self, PyObject *unused)
{
	struct pq_descriptor *descriptor = (struct pq_descriptor *)self;

	(void)unused;
	if (descriptor->exports != 0) {
		PyErr_SetString(PyExc_BufferError,
				"gpuq: a view of the descriptor is in use; release that first");
		return NULL;
	}
	release_received(descriptor);
	Py_RETURN_NONE;
}

static void descriptor_dealloc(PyObject *self)
{
	struct pq_descriptor *descriptor = (struct pq_descriptor *)self;

	release_received(descriptor);
	Py_XDECREF(descriptor->table);
	pq_free(self);
}

static Py_ssize_t descriptor_len(PyObject *self)
{
	return ((struct pq_descriptor *)self)->c.length;
}

static PyObject *get_region(PyObject *self, void *unused)
{
	(void)unused;
	return handle_tuple(&((struct pq_descriptor *)self)->c.region);
}

static PyObject *get_offset(PyObject *self, void *unused)
{
	(void)unused;
	return PyLong_FromUnsignedLongLong(((struct pq_descriptor *)self)->c.offset);
}

static PyMethodDef descriptor_methods[] = {
	{ "release", descriptor_release, METH_NOARGS,
	  "release()\n--\n\n"
	  "Say that a received descriptor is not needed any more; done by itself when it is "
	  "dropped.\n\n"
	  "Raises BufferError while a memoryview of it is in use." },
	{ NULL, NULL, 0, NULL },
};
static PyGetSetDef descriptor_attributes[] = {
	{ "region", get_region, NULL, "The region's (id, generation).", NULL },
	{ "offset", get_offset, NULL, "Where the message begins in the region, bytes.", NULL },
	{ NULL, NULL, NULL, NULL, NULL },
};
static PyType_Slot descriptor_slots[] = {
	{ Py_tp_doc,
	  "A message that stays where it is: len() bytes at an offset of a region.\n\n"
	  "memoryview(descriptor) shows them, read-only, where the region is memory of this "
	  "process." },
	{ Py_tp_new, descriptor_make },
	{ Py_tp_dealloc, descriptor_dealloc },
	{ Py_tp_methods, descriptor_methods },
	{ Py_tp_getset, descriptor_attributes },
	{ Py_sq_length, descriptor_len },
	{ Py_bf_getbuffer, descriptor_get },
	{ Py_bf_releasebuffer, descriptor_give_back },
	{ 0, NULL },
};
static PyType_Spec descriptor_spec = {
	.name = "gpuq.Descriptor",
	.basicsize = sizeof(struct pq_descriptor),
	.flags = Py_TPFLAGS_DEFAULT,
	.slots = descriptor_slots,
};

int pq_add_region_types(PyObject *module)
{
	if (pq_add_type(module, &regions_spec, &pq_regions_type) != 0 ||
	    pq_add_type(module, &descriptor_spec, &pq_descriptor_type) != 0)
		return -1;
	return pq_add_tensor_type(module);
}
