# SPDX-License-Identifier: Apache-2.0
"""Processors: stock ones, from source, from files, from addresses; on the stand-in driver, arrays of a GPU."""

import array
import ctypes
import os
import struct
import subprocess
import sys

import pytest
from conftest import LIMIT, python_processor

import gpuq

CAPITALS = """
#include <gpuq/processor.h>

__device__ void process_message(const MsgView &in, ResultView *out)
{
    for (uint32_t i = q_rank(); i < in.len && i < out->cap; i += q_size())
        out->out[i] = in.payload[i] >= 'a' && in.payload[i] <= 'z' ? in.payload[i] - 32 : in.payload[i];
    if (q_rank() == 0)
        *out->out_len = in.len;
}
"""


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("GPUQ_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.mark.parametrize("name", ["echo", "crc32c", "sha256"])
def test_the_stock_processors_are_inside(name):
    with gpuq.Queue(name, device="cpu") as queue:
        assert queue.info().processor == name
        queue.submit(b"x").result(LIMIT)


def test_source_is_compiled_once(cache):
    for _ in range(2):
        with gpuq.Queue(gpuq.Processor.from_cuda(CAPITALS), device="cpu") as queue:
            assert queue.submit(b"Hello 1").result(LIMIT) == b"HELLO 1"
    assert len(list(cache.glob("*.so"))) == 1


def test_a_source_file_by_its_path(tmp_path):
    (tmp_path / "small.h").write_text("#define HELLO 1\n")
    path = tmp_path / "capitals.cu"
    path.write_text('#include "small.h"\n' + CAPITALS)
    for how in (str(path), path, gpuq.Processor.from_path(path)):
        with gpuq.Queue(how, device="cpu") as queue:
            assert queue.submit(b"abc").result(LIMIT) == b"ABC"


def test_what_the_compiler_says_is_in_the_exception():
    with pytest.raises(gpuq.OpenError, match="(?s)does not accept the source.*nonsense"):
        gpuq.Queue(gpuq.Processor.from_cuda(CAPITALS + "nonsense;"), device="cpu")


def test_no_compiler_is_said_so(monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(gpuq.OpenError, match="there is no C.. compiler"):
        gpuq.Queue(gpuq.Processor.from_cuda(CAPITALS), device="cpu")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ValueError, match="none.so"):
        gpuq.Queue(tmp_path / "none.so")


def test_a_function_by_its_address():
    with gpuq.Queue(python_processor(lambda data, m: data[::-1]), device="cpu") as queue:
        assert queue.submit(b"abc").result(LIMIT) == b"cba"
        assert queue.info().processor.startswith("cfunc-")


def test_an_object_with_an_address_as_numbas():
    class CFunc:
        address = ctypes.cast(ctypes.CDLL(None).abs, ctypes.c_void_p).value

    assert gpuq.Processor.from_cfunc(CFunc)._address == CFunc.address
    for wrong in (0, -1):
        with pytest.raises(ValueError):
            gpuq.Processor.from_cfunc(wrong)


def test_vecdot_finds_the_rows_that_are_most_alike():
    rows, dim, best = 100, 8, 5
    matrix = array.array("f", [(i * i * 37) % 101 for i in range(rows * dim)])
    header = struct.pack("<16I", 0x544F4456, 1, rows, dim, best, *[0] * 11)
    query = array.array("f", [1.0, -1.0] * (dim // 2))
    data = header + matrix.tobytes()
    with gpuq.Queue("vecdot", device="cpu", slot_bytes=4 * dim, result_bytes=8 * best, data=data) as queue:
        result = queue.submit(query).result(LIMIT)
    scores = [sum(matrix[r * dim + i] * query[i] for i in range(dim)) for r in range(rows)]
    wanted = sorted(range(rows), key=lambda r: (-scores[r], r))[:best]
    assert list(struct.iter_unpack("<If", result)) == [(r, scores[r]) for r in wanted]


STANDIN = """
import ctypes, gc, os, struct, gpuq

driver = ctypes.CDLL(os.environ["GPUQ_LIBCUDA"])

def entry(name, version, *types):
    at = ctypes.c_void_p()
    assert driver.cuGetProcAddress_v2(name, ctypes.byref(at), version, ctypes.c_uint64(0), None) == 0
    return ctypes.CFUNCTYPE(ctypes.c_int, *types)(at.value)

context = ctypes.c_void_p()
assert entry(b"cuInit", 2000, ctypes.c_uint)(0) == 0
assert entry(b"cuDevicePrimaryCtxRetain", 7000, ctypes.c_void_p, ctypes.c_int)(ctypes.byref(context), 0) == 0
assert entry(b"cuCtxPushCurrent", 4000, ctypes.c_void_p)(context) == 0

def device_memory(size):
    address = ctypes.c_uint64()
    assert entry(b"cuMemAlloc", 3020, ctypes.c_void_p, ctypes.c_size_t)(ctypes.byref(address), size) == 0
    return address.value

class Array:  # as CuPy's and Numba's
    def __init__(self, content):
        self.address, self.size = device_memory(256), len(content)
        ctypes.memmove(self.address, content, len(content))  # the stand-in's device memory is the host's
    @property
    def __cuda_array_interface__(self):
        return {"data": (self.address, False), "shape": (self.size,), "typestr": "|u1", "version": 3}

class Strided(Array):
    @property
    def __cuda_array_interface__(self):
        return {**super().__cuda_array_interface__, "strides": (2,)}

class Tensor(ctypes.Structure):  # DLPack's DLManagedTensor
    pass

DELETER = ctypes.CFUNCTYPE(None, ctypes.POINTER(Tensor))
Tensor._fields_ = [("data", ctypes.c_uint64), ("device_type", ctypes.c_int32), ("device_id", ctypes.c_int32),
    ("ndim", ctypes.c_int32), ("code", ctypes.c_uint8), ("bits", ctypes.c_uint8), ("lanes", ctypes.c_uint16),
    ("shape", ctypes.POINTER(ctypes.c_int64)), ("strides", ctypes.POINTER(ctypes.c_int64)),
    ("byte_offset", ctypes.c_uint64), ("context", ctypes.c_void_p), ("deleter", DELETER)]
new_capsule = ctypes.pythonapi.PyCapsule_New
new_capsule.restype, new_capsule.argtypes = ctypes.py_object, [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
deleted = []

class Exporter(Array):  # as PyTorch's: no __cuda_array_interface__ but DLPack, 16-bit items from byte 16 on
    __cuda_array_interface__ = property()
    stride = 1
    def __dlpack_device__(self):
        return (2, 0)
    def __dlpack__(self):
        self.deleter = DELETER(lambda tensor: deleted.append(tensor.contents.data))
        self.shape, self.strides = (ctypes.c_int64 * 2)(2, 8), (ctypes.c_int64 * 2)(8 * self.stride, self.stride)
        self.tensor = Tensor(self.address, 2, 0, 2, 1, 16, 1, self.shape, self.strides, 16, None, self.deleter)
        return new_capsule(ctypes.addressof(self.tensor), b"dltensor", None)

class StridedExporter(Exporter):
    stride = 2

# Before the queue: with a resident grid, allocating may wait for ever.
one, two, answer = Array(bytes(range(64))), Array(bytes([9] * 32)), Array(bytes(4))
strided = Strided(bytes(8))
exported, strided_exported = Exporter(bytes(range(100, 164))), StridedExporter(bytes(64))
with gpuq.Queue(os.environ["GPUQ_STANDIN_SUM"], device="cuda", capacity=8, slot_bytes=64) as queue:
    assert queue.info().device == "cuda"
    assert queue.submit(b"\\1\\2\\3").result(60) == struct.pack("<I", 6)
    region, second, target = queue.register(one), queue.register(two), queue.register(answer)
    assert queue.submit(region.descriptor()).result(60) == struct.pack("<I", sum(range(64)))
    assert queue.submit(region.descriptor(16, 16)).result(60) == struct.pack("<I", sum(range(16, 32)))
    # The result, written into a registered array by the processor.
    queue.submit(second.descriptor(), tag=target.address).result(60)
    assert ctypes.string_at(answer.address, 4) == struct.pack("<I", 9 * 32)
    third = queue.register(exported)
    assert (third.address, third.size) == (exported.address + 16, 32)
    assert queue.submit(third.descriptor()).result(60) == struct.pack("<I", sum(range(116, 148)))
    try:
        memoryview(region.descriptor())
        raise SystemExit("a GPU's memory was shown")
    except BufferError:
        pass
    for array in (strided, strided_exported):
        try:
            queue.register(array)
            raise SystemExit("a strided array was registered")
        except BufferError:
            pass
    assert deleted == []
del queue, region, second, target, third
gc.collect()
assert deleted == [exported.address], deleted
print("well")
"""


@pytest.mark.skipif("GPUQ_STANDIN_SUM" not in os.environ, reason="the stand-in driver is ctest's")
def test_arrays_on_a_gpu_are_passed_by_descriptor():
    environment = {**os.environ, "GPUQ_LIBCUDA": os.environ["GPUQ_STANDIN"], "GPUQ_DEVICE": ""}
    done = subprocess.run(
        [sys.executable, "-c", STANDIN], env=environment, capture_output=True, text=True, timeout=240, check=False
    )
    assert done.stdout == "well\n", done.stderr
