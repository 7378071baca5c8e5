/* SPDX-License-Identifier: Apache-2.0 */
/* tensor.c - class Tensor: what a DLPack capsule describes, kept until it is dropped. */
#include "module.h"

#include <string.h>

/* Version 0 of DLPack, which everything that has __dlpack__() can give. */
typedef struct DLTensor {
	void *data;
	int32_t device_type, device_id;
	int32_t ndim;
	uint8_t code, bits;
	uint16_t lanes;
	int64_t *shape, *strides; /* strides NULL: row after row */
	uint64_t byte_offset;
} DLTensor;

typedef struct DLManagedTensor {
	DLTensor tensor;
	void *context;
	void (*deleter)(struct DLManagedTensor *self);
} DLManagedTensor;

struct tensor {
	PyObject_HEAD DLManagedTensor *managed;
};

PyTypeObject *pq_tensor_type;

static bool is_contiguous(const DLTensor *t)
{
	int64_t wanted = 1;

	if (t->strides == NULL)
		return true;
	for (int32_t i = t->ndim - 1; i >= 0; i--) {
		if (t->shape[i] != 1 && t->strides[i] != wanted)
			return false;
		wanted *= t->shape[i];
	}
	return true;
}

static uint64_t size_of(const DLTensor *t)
{
	uint64_t count = 1;

	for (int32_t i = 0; i < t->ndim; i++)
		count *= (uint64_t)t->shape[i];
	return count * (((uint64_t)t->bits * t->lanes + 7) / 8);
}

PyObject *pq_dlpack(PyObject *module, PyObject *capsule)
{
	DLManagedTensor *managed = PyCapsule_GetPointer(capsule, "dltensor");
	struct tensor *tensor;

	(void)module;
	if (managed == NULL)
		return NULL;
	if (!is_contiguous(&managed->tensor)) {
		PyErr_SetString(PyExc_BufferError,
				"gpuq: the array must be contiguous; make a copy of it");
		return NULL;
	}
	tensor = pq_alloc(pq_tensor_type);
	if (tensor == NULL || PyCapsule_SetName(capsule, "used_dltensor") != 0) {
		pq_drop(tensor);
		return NULL;
	}
	tensor->managed = managed;
	return (PyObject *)tensor;
}

static PyObject *get_address(PyObject *self, void *unused)
{
	const DLTensor *t = &((struct tensor *)self)->managed->tensor;

	(void)unused;
	return PyLong_FromUnsignedLongLong((uint64_t)(uintptr_t)t->data + t->byte_offset);
}

static PyObject *get_nbytes(PyObject *self, void *unused)
{
	(void)unused;
	return PyLong_FromUnsignedLongLong(size_of(&((struct tensor *)self)->managed->tensor));
}

static PyObject *get_device(PyObject *self, void *unused)
{
	const DLTensor *t = &((struct tensor *)self)->managed->tensor;

	(void)unused;
	return Py_BuildValue("ii", t->device_type, t->device_id);
}

static void tensor_dealloc(PyObject *self)
{
	DLManagedTensor *managed = ((struct tensor *)self)->managed;

	if (managed != NULL && managed->deleter != NULL)
		managed->deleter(managed);
	pq_free(self);
}

static PyGetSetDef attributes[] = {
	{ "address", get_address, NULL, "Where it begins.", NULL },
	{ "nbytes", get_nbytes, NULL, "Its size, bytes.", NULL },
	{ "device", get_device, NULL, "DLPack's (device type, device number).", NULL },
	{ NULL, NULL, NULL, NULL, NULL },
};
static PyType_Slot slots[] = {
	{ Py_tp_dealloc, tensor_dealloc },
	{ Py_tp_getset, attributes },
	{ 0, NULL },
};
static PyType_Spec spec = {
	.name = "gpuq._gpuq.Tensor",
	.basicsize = sizeof(struct tensor),
	.flags = Py_TPFLAGS_DEFAULT,
	.slots = slots,
};

int pq_add_tensor_type(PyObject *module)
{
	return pq_add_type(module, &spec, &pq_tensor_type);
}
