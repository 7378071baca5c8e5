# SPDX-License-Identifier: Apache-2.0
"""Regions: memory that messages can point into."""

import collections
import threading

from . import _errors, _gpuq

Descriptor = _gpuq.Descriptor

POLICIES = {"immutable": 0, "append_only": 1, "slab": 2}

RegionInfo = collections.namedtuple("RegionInfo", "size cursor references policy retired")
RegionInfo.__doc__ = "What a region is: bytes, bytes that may be described, descriptors outstanding."


class Region:
    """Memory registered in a RegionTable, which makes it.

    handle: (id, generation), which other processes know it by. size: bytes. address: where it begins in
    this process, or on the GPU; 0 if that is not known. A processor may be sent it, to write there.
    """

    def __init__(self, table, handle, size, address):
        self._table = table
        self.handle = handle
        self.size = size
        self.address = address

    def descriptor(self, offset=0, length=None):
        """A message of `length` bytes at `offset`; to the end, if length is None.

        On a queue it must begin at a multiple of 16 in memory.
        """
        length = self.size - offset if length is None else length
        return Descriptor(self._table, *self.handle, offset, length)

    def append(self, data):
        """Add bytes to an append-only region; returns their offset. Raises gpuq.FullError."""
        return self._table._append(*self.handle, data)

    def retire(self):
        """Accept no new descriptors; the memory is given up when the last outstanding one is released."""
        self._table._retire(*self.handle)
        self._table._sweep()

    def info(self):
        """A RegionInfo. Raises gpuq.StaleError once it is freed."""
        found = self._table._info(*self.handle)
        if found is None:
            raise _errors.StaleError("the region has been freed")
        names = {number: name for name, number in POLICIES.items()}
        return RegionInfo(*found[:3], names[found[3]], found[4])

    def __repr__(self):
        return f"<gpuq.Region {self.handle} size={self.size}>"


def _address_of(view):
    """Where a memoryview's memory begins."""
    import ctypes

    if view.readonly:
        return 0
    return ctypes.addressof(ctypes.c_char.from_buffer(view)) if view.nbytes else 0


class RegionTable(_gpuq.RegionTableCore):
    """A table of regions: Queue.bind() and Ring.bind() take it.

    max_regions: registered at one time, 1 to 65536. memory: writable memory that processes share, such as
    a SharedMemory's buf, of required_memory() bytes; None: of this process and the children it forks.
    """

    def __init__(self, max_regions=64, memory=None):
        self._start(max_regions, memory, False)

    def _start(self, max_regions, memory, attach):
        self._kept = {}  # handle: what keeps its memory
        self._lock = threading.Lock()
        self._open(max_regions, memory, attach)

    @classmethod
    def attach(cls, memory):
        """Use a table that another process has made in this memory."""
        table = cls.__new__(cls)
        table._start(0, memory, True)
        return table

    def register(self, memory, policy="immutable"):
        """Register memory of this process: bytes-like and contiguous; writable, if it is append-only.

        policy: "immutable", "append_only" or "slab". The memory is kept until the region is freed, and an
        immutable one must not be written to meanwhile. Memory that processes share must be a sealed
        memfd's: see register_fd(). Raises gpuq.PolicyError, gpuq.LimitError.
        """
        if policy not in POLICIES:
            raise ValueError(f"gpuq: policy is {policy!r}; allowed: {', '.join(POLICIES)}")
        view = memoryview(memory)
        view = view.cast("B") if view.c_contiguous else view
        return self._keep(self._register(view, POLICIES[policy]), view.nbytes, _address_of(view), view)

    def register_device(self, address, size, *, keep=None):
        """Register memory of a GPU by its address; `keep` is kept until the region is freed."""
        return self._keep(self._register_device(address, size), size, address, keep)

    def register_fd(self, fd, policy="immutable"):
        """Register a memfd, which is sealed by it. Raises gpuq.PolicyError: it could not be."""
        handle = self._register_fd(fd, POLICIES[policy])
        return self._keep(handle, self._info(*handle)[0], 0, None)

    def map(self, handle, memory):
        """Say where in this process a region of another process is."""
        self._map(*handle, memory)
        return self._keep(tuple(handle), memoryview(memory).nbytes, 0, memory)

    def _keep(self, handle, size, address, keep):
        self._sweep()
        with self._lock:
            self._kept[handle] = keep
        return Region(self, handle, size, address)

    def _sweep(self):
        """Let go of the memory of regions that have been freed."""
        with self._lock:
            for handle in [h for h in self._kept if self._info(*h) is None]:
                del self._kept[handle]
