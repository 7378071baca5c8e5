# SPDX-License-Identifier: Apache-2.0
"""Pipes: streams of bytes with one writer and any number of readers, each of which sees all of it."""

import collections
import errno
import io
import threading
import warnings
import weakref

from . import _gpuq, _loop
from ._notify import policy_number

POLICIES = {"fail": 0, "wait": 1, "drop_history": 2, "evict": 3}

PipeStats = collections.namedtuple(
    "PipeStats", "written forgotten kept max_bytes slowest full lagged opened readers evicted closed error"
)
PipeStats.__doc__ = "What a pipe holds and has done, in bytes; see PipeStats in gpuq/pipe.h."


class _Raw(io.RawIOBase):
    """A pipe's end for the standard library's files."""

    def __init__(self, end):
        self._end = end

    def readable(self):
        return isinstance(self._end, PipeReader)

    def writable(self):
        return isinstance(self._end, Pipe)

    def readinto(self, buffer):
        return self._end.readinto(buffer)

    def write(self, data):
        return self._end.write(data)


def _make_file(end, buffered, mode, options):
    file = buffered(_Raw(end))
    if "b" not in mode:
        return io.TextIOWrapper(file, **options)
    if options:
        raise ValueError(f"gpuq: a binary file takes no {', '.join(options)}")
    return file


class PipeReader(_gpuq.PipeReaderCore):
    """A reader of a pipe: Pipe.reader(), PipePool.reader() or attach() makes it.

    It begins at the first byte of the stream, whenever it joins. Iterating, with ``for`` or ``async for``,
    gives the stream in pieces as they come, until its end.
    """

    _readable = None

    @classmethod
    def attach(cls, descriptor):
        """Read another process's pipe, by the descriptor of Pipe.share(), which may be closed afterwards.

        A writer that dies is noticed within half a second: gpuq.FailedError with value errno.EOWNERDEAD.
        Raises ValueError: no pipe; gpuq.PolicyError: memory that its writer could cut.
        """
        reader = cls()
        reader._attach(descriptor)
        return reader

    async def aread(self, size=65536):
        """read() for event loops; asyncio.wait_for() limits its time."""
        while True:
            data = self._take(size)
            if data is not None:
                return data
            if self._readable is None:
                self._readable = _loop.Readable(self.fileno(), "reader")
            await self._readable.wait()

    def makefile(self, mode="r", **options):
        """A file of the standard library that reads from here: buffered; text unless there is a "b" in mode.

        options: those of io.TextIOWrapper, as encoding. Closing the file leaves the reader open.
        """
        if mode not in ("r", "rb"):
            raise ValueError(f"gpuq: mode is {mode!r}; allowed: r, rb")
        return _make_file(self, io.BufferedReader, mode, options)

    def close(self):
        """Close this reader; others do not notice. Who waits in it raises ValueError."""
        if self._readable is not None:
            self._readable.close()
        self._close()

    def __iter__(self):
        return self

    def __next__(self):
        data = self.read()
        if data:
            return data
        raise StopIteration

    def __aiter__(self):
        return self

    async def __anext__(self):
        data = await self.aread()
        if data:
            return data
        raise StopAsyncIteration

    def __enter__(self):
        return self

    def __exit__(self, kind, error, traceback):
        self.close()

    def __repr__(self):
        return f"<gpuq.PipeReader{' closed' if self.closed else f' offset={self.offset}'}>"


class Pipe(_gpuq.PipeCore):
    """A stream of bytes with one writing side and any number of readers, each of which sees all of it.

    max_bytes: kept at a time, 1 to 2**40; 0: 64 MiB. policy: what a write does when they are:
        "fail": raises gpuq.FullError; nothing is ever forgotten
        "wait": waits for the slowest reader
        "drop_history": forgets the oldest bytes; a reader that needed them gets gpuq.LaggedError once, and
            goes on at the oldest byte kept
        "evict": likewise, but such a reader gets gpuq.LaggedError from then on

        with gpuq.Pipe() as pipe:
            reader = pipe.reader()          # now or later, in any thread
            pipe.write(b"bytes")
        assert b"".join(reader) == b"bytes"

    ``with`` closes it at the end of the block. If the block raises, the stream ends with the error
    errno.ECANCELED, as it is not complete; so it does if the pipe is dropped without close().
    """

    _of_pool = False

    def __init__(self, max_bytes=0, policy="fail"):
        self._create(max_bytes, policy_number(policy, POLICIES))

    def reader(self):
        """A PipeReader at the first byte of the stream, also when that has been closed."""
        reader = PipeReader()
        reader._open(self)
        return reader

    def stats(self):
        """What it holds and has done, as a named tuple."""
        return PipeStats(**self._stats())

    def makefile(self, mode="w", **options):
        """A file of the standard library that writes here: buffered; text unless there is a "b" in mode.

        options: those of io.TextIOWrapper, as encoding. Closing the file leaves the pipe open.
        """
        if mode not in ("w", "wb"):
            raise ValueError(f"gpuq: mode is {mode!r}; allowed: w, wb")
        return _make_file(self, io.BufferedWriter, mode, options)

    def __enter__(self):
        return self

    def __exit__(self, kind, error, traceback):
        if kind is not None and not self.closed:
            self.set_error(errno.ECANCELED)
        self.close()

    def __del__(self):
        if self._of_pool or self.closed:
            return
        warnings.warn(f"unclosed {self!r}", ResourceWarning, source=self, stacklevel=2)
        self.set_error(errno.ECANCELED)
        self.close()

    def __repr__(self):
        return f"<gpuq.Pipe{' closed' if self.closed else ''}>"


class PipePool(_gpuq.PipePoolCore):
    """Pipes by name, where neither side knows whether the other is there yet.

    ``with`` closes it. Pipes that nobody has closed end with the error errno.ECANCELED when the pool and its
    pipes are dropped.
    """

    def __init__(self):
        self._pipes = weakref.WeakValueDictionary()
        self._policies = {}
        self._lock = threading.Lock()
        self._create()

    def writer(self, name, max_bytes=0, policy="fail"):
        """The Pipe of that name, 1 to 255 bytes of UTF-8; the first call makes it, later ones give the same.

        max_bytes and policy count when it is made. Raises gpuq.ShutdownError: the pool is closed and has none.
        """
        number = policy_number(policy, POLICIES)
        with self._lock:
            pipe = self._pipes.get(name)
            if pipe is None:
                pipe = Pipe.__new__(Pipe)
                pipe._of_pool = True
                self._writer(name, max_bytes, self._policies.get(name, number), pipe)
                self._policies.setdefault(name, number)
                self._pipes[name] = pipe
        return pipe

    def reader(self, name, timeout=None, existing=False):
        """A PipeReader by name; waits until there is such a pipe.

        timeout: seconds; None: for ever, 0: not at all. existing: only if there is one: else it raises
        gpuq.NotFoundError. Raises gpuq.EmptyError (timeout 0), gpuq.TimeoutError, gpuq.ShutdownError: the pool
        was closed and has none.
        """
        reader = PipeReader()
        reader._find(self, name, 1 if existing else 0, timeout)
        return reader

    def __enter__(self):
        return self

    def __exit__(self, kind, error, traceback):
        self.close()
