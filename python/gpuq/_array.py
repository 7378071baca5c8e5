# SPDX-License-Identifier: Apache-2.0
"""Arrays of other libraries, on a GPU or not, as addresses and sizes."""

import math

from . import _gpuq

_CPU, _CUDA, _CUDA_HOST, _CUDA_MANAGED = 1, 2, 3, 13  # DLPack's device types


def _from_interface(interface):
    """(address, bytes) of a __cuda_array_interface__."""
    shape = interface["shape"]
    item = int(interface["typestr"][2:])
    strides = interface.get("strides")
    if strides is not None:
        wanted = item
        for length, stride in zip(reversed(shape), reversed(strides)):
            if length != 1 and stride != wanted:
                raise BufferError("gpuq: the array must be contiguous; make a copy of it")
            wanted *= length
    return interface["data"][0], math.prod(shape) * item


def _device_memory(array):
    """(address, bytes, what keeps it) if it is memory of a GPU, else None."""
    interface = getattr(array, "__cuda_array_interface__", None)
    if interface is not None:
        return (*_from_interface(interface), array)
    if not hasattr(array, "__dlpack__"):
        return None
    if hasattr(array, "__dlpack_device__") and array.__dlpack_device__()[0] not in (_CUDA, _CUDA_MANAGED):
        return None
    tensor = _gpuq._dlpack(array.__dlpack__())
    if tensor.device[0] not in (_CUDA, _CUDA_MANAGED):
        return None
    return tensor.address, tensor.nbytes, (tensor, array)


def register(table, array, policy):
    """A region of the table, for Queue.register()."""
    device = _device_memory(array)
    if device is None:
        return table.register(array, policy)
    address, size, keep = device
    return table.register_device(address, size, keep=keep)
