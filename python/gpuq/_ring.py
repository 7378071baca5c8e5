# SPDX-License-Identifier: Apache-2.0
"""class Ring: messages between threads and processes."""

import collections
import os

from . import _gpuq

PRIORITIES = ("", "low", "normal", "high", "urgent")
SINGLE, AGEING, LARGE = 1, 2, 4  # Q_RING_*

RingMessage = collections.namedtuple("RingMessage", "data priority sequence")
RingMessage.__doc__ = "A message with its priority and its number: Ring.recv_message()."
RingCompletion = collections.namedtuple("RingCompletion", "sequence status data")
RingCompletion.__doc__ = "What a receiver said of a message: Ring.poll_completions()."
RingConfig = collections.namedtuple("RingConfig", "ring_size max_msg_size schema flags ageing_limit")
RingStats = collections.namedtuple(
    "RingStats",
    "sent received bytes_sent bytes_received descriptors discarded full empty refused completed polled repairs "
    "reclaimed threads unjudged",
)
RingStats.__doc__ = "Counters since the ring was made, over all processes; see RingStats in gpuq/ring.h."


def _flags(single, ageing_limit, large):
    return SINGLE * bool(single) + AGEING * (ageing_limit is not None) + LARGE * bool(large)


class Ring(_gpuq.RingCore):
    """A ring of messages between threads, or between processes.

    ring_size: messages queued, a power of two, up to 2**20; 0: 64.
    max_msg_size: the largest message, bytes, up to 2**20; 0: 4096. large: longer ones take several entries.
    memory: where it lives. None: this process. Writable memory that processes share, such as
        SharedMemory.buf, of at least required_memory() bytes: other processes attach() to it. "memfd": a
        sealed memfd that the ring makes; its number is ``fd``, for attach() in children, which inherit it.
    single: one sending and one receiving thread at a time, which is faster.
    ageing_limit: of strict priorities; 0: 256; None: strict without a bound.
    schema: the program's own number.

    Any number of threads of any number of processes may use it. Memory is kept until close().
    """

    fd = None

    def __init__(
        self, ring_size=0, max_msg_size=0, *, memory=None, schema=0, single=False, ageing_limit=None, large=False
    ):
        where = True if isinstance(memory, str) and memory == "memfd" else memory
        flags = _flags(single, ageing_limit, large)
        self.fd = self._create(ring_size, max_msg_size, schema, flags, ageing_limit or 0, where)

    @classmethod
    def attach(cls, memory):
        """Use a ring that another process has made: in this memory, or in the memfd of this number."""
        ring = cls.__new__(cls)
        ring._attach(memory)
        return ring

    @staticmethod
    def required_memory(ring_size=0, max_msg_size=0, *, schema=0, single=False, ageing_limit=None, large=False):
        """The bytes of memory that a ring needs."""
        flags = _flags(single, ageing_limit, large)
        return _gpuq.RingCore._required_memory(ring_size, max_msg_size, schema, flags, ageing_limit or 0)

    def recv_message(self, timeout=None):
        """recv(), with priority and sequence: a RingMessage."""
        data, priority, sequence = self._recv_message(timeout)
        return RingMessage(data, PRIORITIES[priority], sequence)

    def poll_completions(self):
        """What receivers have said of messages by complete(), at most 64 at a time: RingCompletions."""
        return [RingCompletion(*one) for one in self._poll_completions()]

    def config(self):
        """What the ring was made with, defaults filled in."""
        return RingConfig(*self._config())

    def stats(self):
        """Counters over all processes, as a named tuple."""
        return RingStats(**self._stats())

    def close(self):
        """Give this handle back; other handles go on. Threads that wait in a call raise ValueError."""
        super().close()
        fd, self.fd = self.fd, None
        if fd is not None:
            os.close(fd)

    def __del__(self):
        fd = self.fd
        if fd is not None:
            self.fd = None
            os.close(fd)

    def __enter__(self):
        return self

    def __exit__(self, kind, error, traceback):
        self.close()
