# SPDX-License-Identifier: Apache-2.0
"""What the tests share: queues on the CPU device, a limit of time, a processor that waits."""

import ctypes
import faulthandler
import os
import threading

import pytest

import gpuq

os.environ.setdefault("GPUQ_DEVICE", "cpu")

LIMIT = 60  # seconds: ends what hangs, and is no measure of anything
STDERR = int(os.environ.get("GPUQ_STDERR", 2))  # pytest takes 2 for itself
LONG = os.environ.get("GPUQ_PYTHON_LONG") == "1"  # the long forms, by hand


@pytest.fixture(autouse=True)
def ends():
    faulthandler.dump_traceback_later(300, exit=True, file=STDERR)
    yield
    faulthandler.cancel_dump_traceback_later()


@pytest.fixture
def echo():
    with gpuq.Queue("echo", capacity=64, slot_bytes=1024) as queue:
        yield queue


class MsgView(ctypes.Structure):
    _fields_ = [
        ("payload", ctypes.POINTER(ctypes.c_uint8)),
        ("len", ctypes.c_uint32),
        ("msg_id", ctypes.c_uint64),
        ("opcode", ctypes.c_uint32),
        ("tag", ctypes.c_uint64),
        ("user", ctypes.c_void_p),
        ("user_bytes", ctypes.c_uint64),
    ]


class ResultView(ctypes.Structure):
    _fields_ = [
        ("out", ctypes.POINTER(ctypes.c_uint8)),
        ("cap", ctypes.c_uint32),
        ("out_len", ctypes.POINTER(ctypes.c_uint32)),
        ("status", ctypes.POINTER(ctypes.c_uint32)),
    ]


PROCESS = ctypes.CFUNCTYPE(None, ctypes.POINTER(MsgView), ctypes.POINTER(ResultView))


def python_processor(function):
    """A processor of a Python function: (bytes, message) to bytes, or a number: failure."""

    def process(message, result):
        m, r = message.contents, result.contents
        answer = function(ctypes.string_at(m.payload, m.len), m)
        if isinstance(answer, int):
            r.status[0] = answer
            return
        ctypes.memmove(r.out, answer, min(len(answer), r.cap))
        r.out_len[0] = len(answer)

    native = PROCESS(process)
    return gpuq.Processor.from_cfunc(ctypes.cast(native, ctypes.c_void_p).value, keep=native)


class Gate:
    """A processor that answers with its message once the gate is open."""

    def __init__(self):
        self.open = threading.Event()
        self.started = threading.Semaphore(0)
        self.seen = []

    def process(self, data, message):
        self.seen.append(data)
        self.started.release()
        self.open.wait(LIMIT)
        return data

    def await_start(self):
        assert self.started.acquire(timeout=LIMIT)


@pytest.fixture
def gate():
    gate = Gate()
    yield gate
    gate.open.set()


@pytest.fixture
def gated(gate):
    """A queue of one consumer that stands at the gate."""
    with gpuq.Queue(python_processor(gate.process), capacity=8, slot_bytes=64, consumers=1, device="cpu") as queue:
        yield queue
        gate.open.set()
