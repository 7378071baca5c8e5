# SPDX-License-Identifier: Apache-2.0
"""Descriptors in event loops."""

import asyncio
import collections
import threading
import time


def remove_reader(loop, descriptor):
    """Take a descriptor out of a loop, from any thread, before it is closed."""
    if loop.is_closed():
        return
    try:
        running = asyncio.get_running_loop()
    except RuntimeError:
        running = None
    if loop is running or not loop.is_running():
        loop.remove_reader(descriptor)
        return
    removed = threading.Event()

    def remove():
        loop.remove_reader(descriptor)
        removed.set()

    try:
        loop.call_soon_threadsafe(remove)
    except RuntimeError:
        return  # closed meanwhile
    end = time.monotonic() + 5
    while loop.is_running() and not removed.wait(0.05) and time.monotonic() < end:
        pass


def _end(waiter):
    if not waiter.done():
        waiter.set_result(None)


class Readable:
    """Tasks that wait until a descriptor is readable, in any number of event loops.

    A loop watches the descriptor while a task of it waits. The descriptor stays readable as long as there
    is something to take, so it is enough to wake one task at a time: it is cancelled, or takes what there is,
    and as long as others wait the loop comes back.
    """

    def __init__(self, descriptor, what):
        self._descriptor = descriptor
        self._what = what
        self._lines = {}  # event loop: futures of the tasks that wait
        self._lock = threading.Lock()  # of close() against wait(), which are in different threads
        self._closed = False

    async def wait(self):
        """Until it is readable. Raises ValueError: closed."""
        loop = asyncio.get_running_loop()
        waiter = loop.create_future()
        with self._lock:
            if self._closed:
                raise ValueError(f"gpuq: the {self._what} is closed")
            line = self._lines.get(loop)
            if line is None:
                for old in [old for old in self._lines if old.is_closed()]:
                    del self._lines[old]
                line = self._lines[loop] = collections.deque()
                loop.add_reader(self._descriptor, self._on_readable, loop)
            line.append(waiter)
        try:
            await waiter
        finally:
            if waiter in line:  # cancelled, or closed
                line.remove(waiter)
                self._leave(loop, line)

    def _on_readable(self, loop):
        line = self._lines.get(loop)
        if line:
            _end(line.popleft())
            self._leave(loop, line)

    def _leave(self, loop, line):
        with self._lock:
            if not line and self._lines.get(loop) is line:
                del self._lines[loop]
                loop.remove_reader(self._descriptor)

    def close(self):
        """Wake everybody, before the descriptor is closed."""
        with self._lock:
            self._closed = True
            lines, self._lines = self._lines, {}
        for loop, line in lines.items():
            remove_reader(loop, self._descriptor)
            for waiter in tuple(line):
                try:
                    loop.call_soon_threadsafe(_end, waiter)
                except RuntimeError:
                    break  # closed meanwhile
