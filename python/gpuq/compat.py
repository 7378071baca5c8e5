# SPDX-License-Identifier: Apache-2.0
"""The interface of the older binding: messages by id, no futures.

For programs that were written for it; new ones are better off with gpuq.Queue. What differs, because it
was not sound there: an id that was never issued or was taken is reported as such (try_dequeue raises
gpuq.NotFoundError, where the older one said "not ready" for ever), each finished id is polled once, and
shutdown() waits for what was accepted. Ids begin above 0 and grow, and are not contiguous.
"""

import enum
import time

from . import _errors, _gpuq, _processor

__all__ = [
    "GpuQueue",
    "QueueConfig",
    "QueueStats",
    "QueueStatus",
    "init",
    "is_available",
    "shutdown",
    "version",
]

version = _gpuq.version
is_available = _processor.is_available

QueueStatus = enum.IntEnum("QueueStatus", {name[2:]: number for name, number in _errors.status.items()})
QueueStatus.__doc__ = "The library's statuses by their names without Q_; OK is 0."


class QueueConfig:
    """capacity: a power of two; slot_bytes: the largest message. Raises ValueError."""

    def __init__(self, capacity=1024, slot_bytes=512, device="auto", processor="echo"):
        if capacity < 1 or capacity & (capacity - 1) or capacity > 1 << 20:
            raise ValueError(f"gpuq: capacity is {capacity}; allowed: a power of two, 1 to {1 << 20}")
        if not 1 <= slot_bytes <= 1 << 24:
            raise ValueError(f"gpuq: slot_bytes is {slot_bytes}; allowed: 1 to {1 << 24}")
        self.capacity = capacity
        self.slot_bytes = slot_bytes
        self.device = device
        self.processor = processor

    def is_valid(self):
        """True: one that is not valid cannot be made."""
        return True

    def __repr__(self):
        return f"QueueConfig(capacity={self.capacity}, slot_bytes={self.slot_bytes})"


class QueueStats:
    """Counters: enqueue_count, dequeue_count, dropped_full, processed_count, current_depth."""

    def __init__(self, stats):
        self.enqueue_count = stats["enq_count"]
        self.dequeue_count = stats["deq_count"]
        self.dropped_full = stats["dropped_full"]
        self.processed_count = stats["finished"]
        self.current_depth = stats["queue_depth"]

    def __repr__(self):
        return f"QueueStats({', '.join(f'{key}={value}' for key, value in vars(self).items())})"


class GpuQueue:
    """A queue whose messages are known by their ids."""

    def __init__(self, config=None, *, capacity=1024, slot_bytes=512, device="auto", processor="echo"):
        from ._queue import DEVICES

        c = config or QueueConfig(capacity, slot_bytes, device, processor)
        self.config = c
        self._core = _gpuq.QueueCore()
        name, address = _processor.Processor._of(c.processor)._resolve(c.device)
        settings = {"capacity": c.capacity, "slot_bytes": c.slot_bytes, "device": DEVICES[c.device]}
        self._core._open(settings, name, None, address, c.processor, None)
        self.is_running = True

    def _check(self):
        if not self.is_running:
            raise ValueError("gpuq: the queue has been shut down")

    def enqueue(self, data, timeout_ms=None):
        """Hand a message over; its id. Waits for a slot at most timeout_ms; None: for ever."""
        self._check()
        if len(memoryview(data).cast("B")) > self.config.slot_bytes:
            raise ValueError(f"gpuq: the message has more than {self.config.slot_bytes} bytes")
        return self._core._enqueue(data, None if timeout_ms is None else timeout_ms / 1000)

    def enqueue_nowait(self, data):
        """enqueue() that raises gpuq.FullError where it would have to wait."""
        return self.enqueue(data, 0)

    def try_dequeue(self, message_id):
        """(True, the result), whose slot is free then; (False, None): not finished yet."""
        self._check()
        try:
            return True, self._core._take(message_id)
        except _errors.NotReadyError:
            return False, None

    def dequeue(self, message_id, timeout_ms=1000):
        """The result; waits for it. Raises TimeoutError."""
        end = time.monotonic() + timeout_ms / 1000
        while True:
            done, result = self.try_dequeue(message_id)
            if done:
                return result
            if time.monotonic() >= end:
                raise _errors.TimeoutError(f"message {message_id} has not finished within {timeout_ms} ms")
            time.sleep(0.0001)

    def poll_completions(self, max_count=256):
        """Ids that have finished since, each once, as a list of at most 256."""
        self._check()
        return self._core._poll(max_count)

    @property
    def stats(self):
        """QueueStats, now."""
        self._check()
        return QueueStats(self._core._stats())

    def shutdown(self):
        """Stop it, with what was accepted done, and free it. Again: nothing."""
        if self.is_running:
            self.is_running = False
            self._core._stop(None)
            self._core._detach()

    def __enter__(self):
        return self

    def __exit__(self, kind, error, traceback):
        self.shutdown()


_default = None


def init(config=None, **settings):
    """Make the process's default queue, and return it."""
    global _default
    shutdown()
    _default = GpuQueue(config, **settings)
    return _default


def shutdown():
    """Shut the default queue down; nothing, if there is none."""
    global _default
    one, _default = _default, None
    if one is not None:
        one.shutdown()
