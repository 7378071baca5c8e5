# SPDX-License-Identifier: Apache-2.0
"""class Queue: the queue's life, iterating, event loops. submit() and its like are in C."""

import asyncio
import atexit
import collections
import concurrent.futures
import os
import queue
import threading
import time
import warnings
import weakref

from . import _array, _errors, _gpuq, _loop
from ._future import Future
from ._notify import POLICIES, Hook, Subscription, make_filter, policy_number
from ._processor import Processor

DEVICES = {"auto": 0, "cpu": 1, "cuda": 2, "remote": 3}
GRANULARITIES = {"thread": 0, "warp": 1, "block": 2}
TRANSPORTS = {"auto": 0, "pull": 1, "copy": 2, "bar1": 3}
STATES = ("running", "paused", "stopping", "stopped")

_alive = weakref.WeakSet()
_alive_lock = threading.Lock()

Stats = collections.namedtuple(
    "Stats",
    "enq_count deq_count dropped_full retries queue_depth discarded finished failed expired cancelled "
    "timed_out reserved_now aborted wakeups lost",
)
Stats.__doc__ = "Counters since the queue was made; see QueueStats in gpuq/gpuq.h."

Info = collections.namedtuple(
    "Info",
    "capacity slot_bytes result_bytes device ordinal granularity consumers reserve_sms idle_park_ms "
    "shutdown_timeout_ms state protocol_version memory_bytes processor device_name transport reason hung "
    "hung_msg_id hung_ns stalls device_bytes",
)
Info.__doc__ = "What a queue is and how it was set up; see QueueInfo in gpuq/gpuq.h."


def _choice(name, value, names):
    if isinstance(value, str) and value in names:
        return names[value]
    raise ValueError(f"gpuq: {name} is {value!r}; allowed: {', '.join(names)}")


class Reservation:
    """A slot to write a message into, without a copy: Queue.reserve() makes it.

    ``with`` gives a writable memoryview and commits the message at the end of the block; a block that
    raises gives the slot back. ``future`` is the message's future.
    """

    def __init__(self, slot, future):
        self._slot = slot
        self._view = None
        self.future = future

    def __enter__(self):
        self._view = memoryview(self._slot)
        return self._view

    def __exit__(self, kind, error, traceback):
        try:
            self._view.release()
            if kind is None:
                self._slot.commit()
        finally:
            self._view = None
            self._slot.abort()  # of an open one

    def abort(self):
        """Give the slot back; the future ends as cancelled."""
        self._slot.abort()


class Queue(_gpuq.QueueCore):
    """A queue whose consumers run a processor on every message, on a GPU or on CPU threads.

    processor: the name of a stock processor ("echo", "crc32c", "sha256", "vecdot"), the path of a
        shared object, of a GPU's image or of CUDA source, or a gpuq.Processor.
    capacity: messages outstanding, a power of two, 1 to 2**20.
    slot_bytes, result_bytes: the largest message and result, bytes, up to 2**24; results have
        slot_bytes if result_bytes is 0.
    device: "auto" (a GPU if there is one that can be used; or what GPUQ_DEVICE says), "cpu", "cuda",
        "remote": a queue of gpuqd, which other processes use as well.
    endpoint: of gpuqd, "unix:PATH" or "unix:PATH#QUEUE"; it makes the device "remote". None: gpuqd's default.
    consumers: CPU threads or GPU blocks; 0: as many as fit the device.
    data: bytes-like; what the processor reads as in.user. It is copied.
    trace_records: not 0: record the ways of so many messages, for trace_write().
    idle_park_ms, ordinal, granularity ("thread", "warp", "block"), reserve_sms, transport ("auto",
        "pull", "copy", "bar1"), copy_from, bounded_messages, bounded_ms: as in gpuq/gpuq.h.

    Any thread may use it. A child made by fork() cannot: every call there raises
    gpuq.UnsupportedError, and the futures the child has copies of end with it.

    Close it by ``with``, ``async with`` or close(). One that is dropped without is closed too, with a
    ResourceWarning; one that is left open at the end of the program is closed then.

    When gpuqd goes, what it may have run ends with gpuq.LostError, what it had not begun with
    gpuq.CancelledError, and calls that send raise LostError: make another queue.

    Raises gpuq.OpenError, which is a ValueError: the sentence says which setting, its value and what is
    allowed, or what the compiler said.
    """

    def __init__(
        self,
        processor,
        *,
        capacity=1024,
        slot_bytes=4096,
        result_bytes=0,
        device="auto",
        consumers=0,
        data=None,
        trace_records=0,
        idle_park_ms=0,
        ordinal=0,
        granularity="thread",
        reserve_sms=0,
        transport="auto",
        copy_from=0,
        bounded_messages=0,
        bounded_ms=0,
        endpoint=None,
    ):
        if endpoint is not None and device == "auto":
            device = "remote"
        self._thread = None
        self._readers = {}  # event loop: descriptor
        self._clocks = {}  # event loop: its timer, while coroutines wait for a slot
        self._room = collections.deque()  # futures of coroutines that wait for a slot
        self._regions = None
        self._thread_lock = threading.Lock()
        settings = {
            "capacity": capacity,
            "slot_bytes": slot_bytes,
            "result_bytes": result_bytes,
            "device": _choice("device", device, DEVICES),
            "consumers": consumers,
            "idle_park_ms": idle_park_ms,
            "ordinal": ordinal,
            "granularity": _choice("granularity", granularity, GRANULARITIES),
            "reserve_sms": reserve_sms,
            "transport": _choice("transport", transport, TRANSPORTS),
            "copy_from": copy_from,
            "bounded_messages": bounded_messages,
            "bounded_ms": bounded_ms,
        }
        if trace_records:
            settings["trace_records"] = trace_records
        name, address = Processor._of(processor)._resolve(device)
        self._open(settings, name, data, address, processor, endpoint)
        self.capacity = capacity
        self.slot_bytes = slot_bytes
        self.result_bytes = result_bytes or slot_bytes
        with _alive_lock:
            _alive.add(self)

    # ---- the completion thread --------------------------------------------------------------

    def _serve(self):
        with self._thread_lock:
            handle = self._handle()
            if handle is None:
                raise _errors.ShutdownError("the queue is closed")
            if self._thread is None:
                thread = threading.Thread(target=_gpuq._serve, args=(handle,), name="gpuq-complete", daemon=True)
                thread.start()
                self._thread = thread

    # ---- life --------------------------------------------------------------------------------

    @property
    def closed(self):
        """Whether close() has ended."""
        return self._handle() is None

    def close(self, timeout=None):
        """Accept nothing more, wait until all that was accepted has ended, and free the queue.

        timeout: seconds; None: for ever. If there are messages left by then, those that have not been
        started end with gpuq.CancelledError, the call raises gpuq.TimeoutError, and another close()
        goes on waiting. Closing a closed queue does nothing.

        Memory that views of results stand on is freed with the last of them.
        """
        if self.closed:
            return
        if not self._stop(timeout):
            raise _errors.TimeoutError("messages are still being processed; close() again goes on waiting")
        self._end()

    def _end(self):
        handle = self._handle()
        if handle is not None:
            self._remove_readers()
            if self._thread is None:
                _gpuq._serve(handle)  # what is left for event loops
            elif self._thread is not threading.current_thread():
                self._thread.join()
            self._wake_room(len(self._room))
        del handle
        self._detach()

    def __enter__(self):
        return self

    def __exit__(self, kind, error, traceback):
        self.close()

    def __del__(self):
        if self._handle() is None:
            return
        warnings.warn(f"unclosed {self!r}", ResourceWarning, source=self, stacklevel=2)
        # Nobody has a future of it, so nothing is lost: the completion thread, if any, frees it.
        self._stop(5)
        self._detach()

    def __repr__(self):
        if self.closed:
            return "<gpuq.Queue closed>"
        return f"<gpuq.Queue capacity={self.capacity} slot_bytes={self.slot_bytes}>"

    # ---- observation ---------------------------------------------------------------------------

    def stats(self):
        """Counters since the queue was made, as a named tuple."""
        return Stats(**self._stats())

    def info(self):
        """What the queue is and how it was set up, as a named tuple."""
        fields = self._info()
        for name, names in (("device", DEVICES), ("granularity", GRANULARITIES)):
            fields[name] = next(key for key, value in names.items() if value == fields[name])
        fields["state"] = STATES[fields["state"]]
        return Info(**fields)

    def pause(self, timeout=None):
        """Keep the consumers from starting messages, and wait until none is being processed."""
        self._pause(timeout)

    def drain(self, timeout=None):
        """Wait until all that has been accepted so far has ended. Raises gpuq.TimeoutError."""
        self._drain(timeout)

    # ---- sending -------------------------------------------------------------------------------

    def reserve(self, length, **options):
        """Take a slot and write a message of `length` bytes into it, without a copy.

            with queue.reserve(5) as memory:
                memory[:] = b"hello"

        The options are those of submit(), but for into. Returns a Reservation, whose ``future`` is the
        message's. Raises as submit().
        """
        self._serve()
        future = Future()
        return Reservation(self._reserve(length, future, **options), future)

    def map(self, messages, *, ordered=True, window=1024, **options):
        """Send the messages of an iterable, and yield their results.

        ordered: in the order of the messages; else as they come. window: how many are under way at
        once, 1 or more; with view=True less than the capacity. The options are those of submit().

        The iterable is read as far ahead as the window, by the thread that asks for the next result. An
        exception of a message is raised in its place, and ends the iteration; so does dropping it. What
        is under way then is cancelled.
        """
        if window < 1:
            raise ValueError(f"gpuq: window is {window}; allowed: 1 or more")
        if options.get("view") and window >= self.capacity:
            raise ValueError(
                f"gpuq: window is {window}; with view=True results hold their slots, so it must be "
                f"less than the capacity, {self.capacity}"
            )
        return (self._map_ordered if ordered else self._map_unordered)(iter(messages), window, options)

    def _map_ordered(self, messages, window, options):
        futures = collections.deque()
        try:
            for message in messages:
                futures.append(self.submit(message, **options))
                while futures and (len(futures) >= window or futures[0].done()):
                    yield futures.popleft().result()
            while futures:
                yield futures.popleft().result()
        finally:
            for future in futures:
                future.cancel()

    def _map_unordered(self, messages, window, options):
        done = queue.SimpleQueue()
        under_way = set()
        try:
            for message in messages:
                future = self.submit(message, **options)
                under_way.add(future)
                future.add_done_callback(done.put)
                while under_way and (len(under_way) >= window or not done.empty()):
                    yield self._next_done(done, under_way).result()
            while under_way:
                yield self._next_done(done, under_way).result()
        finally:
            for future in under_way:
                future.cancel()

    @staticmethod
    def _next_done(done, under_way):
        while True:
            if _gpuq._serve_meanwhile():  # in a callback: those that fill `done` come after it
                future = next((one for one in under_way if one.done()), None)
                if future is None:
                    time.sleep(0.001)
            else:
                future = done.get()
            if future in under_way:
                under_way.discard(future)
                return future

    # ---- arrays ----------------------------------------------------------------------------------

    def register(self, array, policy="immutable"):
        """Register memory, so that messages may refer to it without a copy. Returns a gpuq.Region.

        array: bytes-like memory; or an array on a GPU, with __cuda_array_interface__ or __dlpack__, for
        a queue on that GPU. It is kept, and must not be changed while messages refer to it.

            region = queue.register(matrix)
            future = queue.submit(region.descriptor(0, 4096))

        On the CUDA device register before sending: while messages by descriptor are under way it raises
        gpuq.NotReadyError.
        """
        from ._region import RegionTable

        with self._thread_lock:
            if self._regions is None:
                table = RegionTable(1024)
                self._bind(table)
                self._regions = table
        region = _array.register(self._regions, array, policy)
        try:
            self._bind(self._regions)
        except _errors.NotReadyError:
            if self._info()["device"] == DEVICES["cuda"]:
                region.retire()
                raise
        return region

    def bind(self, table):
        """Use the regions of this gpuq.RegionTable, in place of those of register()."""
        self._bind(table)
        self._regions = table

    # ---- completions as events -------------------------------------------------------------------

    def subscribe(self, *, tags=None, priorities=(), statuses=(), capacity=64, policy="drop_oldest"):
        """The completions from now on as events of a gpuq.Subscription: arg is the message's id (Future.id).

        tags: a tag, or a range of tags; None: every tag. priorities: "low", "normal", "high", "urgent"; none:
        every priority. statuses: "ok", "failed", "expired", "cancelled", "lost"; none: every outcome. capacity, policy:
        as NotifyHandle.subscribe().

        It says that a message has ended, and changes nothing: results go to their futures as ever. It ends
        when the queue is closed, after the last completion. Raises gpuq.LimitError, gpuq.ShutdownError.
        """
        subscription = Subscription()
        number = policy_number(policy, POLICIES)
        self._subscribe(make_filter(tags, priorities, statuses), capacity, number, subscription)
        return subscription

    def on_completion(self, function, *, tags=None, priorities=(), statuses=()):
        """Have function(gpuq.Completion) called for each completion from now on, in order. Returns a gpuq.Hook.

        tags, priorities, statuses: which, as subscribe().

        All hooks of a queue run on one thread of the library's, so a slow one holds up other hooks and nothing
        else; one that is far behind misses completions, which the log tells. It must return, or the queue is
        never closed. What it raises is logged (logger gpuq). close() calls it for what has completed. The
        queue has the function until then: an open queue with a hook that refers to it is not collected.

        Raises gpuq.LimitError: 64 hooks; gpuq.ShutdownError.
        """
        return Hook(self, self._add_hook(make_filter(tags, priorities, statuses), function))

    # ---- event loops -----------------------------------------------------------------------------

    async def __call__(self, message, **options):
        """Send one message and await its result, in an event loop.

        The options are those of submit(), but for timeout and into. While no slot is free it waits
        without holding the loop up. Cancelling the task cancels the message.
        """
        loop = asyncio.get_running_loop()
        if loop not in self._readers:
            self._add_reader(loop)
        future = loop.create_future()
        first = False
        full = bool(self._room)  # others wait, and have been here before
        try:
            while True:
                if full:
                    await self._wait_for_room(loop, first)
                try:
                    number = self._submit_loop(future, message, **options)
                    break
                except _errors.FullError:
                    first = full
                    full = True
        finally:
            if self._room:
                self._wake_room(1)  # there may be a slot for the next one
        try:
            return await future
        except asyncio.CancelledError:
            self._cancel(number)
            raise

    async def __aenter__(self):
        loop = asyncio.get_running_loop()
        if loop not in self._readers:
            self._add_reader(loop)
        return self

    async def __aexit__(self, kind, error, traceback):
        await self.aclose()

    async def aclose(self, timeout=None):
        """close() for event loops: the loop goes on meanwhile."""
        if self.closed:
            return
        loop = asyncio.get_running_loop()
        if not await loop.run_in_executor(None, self._stop, timeout):
            raise _errors.TimeoutError("messages are still being processed; aclose() again goes on waiting")
        self._remove_readers()
        await loop.run_in_executor(None, self._end)

    def _add_reader(self, loop):
        for old in [old for old in self._readers if old.is_closed()]:
            del self._readers[old]
        descriptor = self.fileno()
        loop.add_reader(descriptor, self._on_readable, loop)
        self._readers[loop] = descriptor

    def _on_readable(self, loop):
        count = self._complete(loop)
        if self._room:
            self._wake_room(count)

    async def _wait_for_room(self, loop, first):
        """Until a slot may be free. Completions found by this loop tell; for others there is a clock."""
        waiter = loop.create_future()
        (self._room.appendleft if first else self._room.append)(waiter)
        if loop not in self._clocks:
            self._clocks[loop] = loop.call_later(0.01, self._tick, loop)
        try:
            await waiter
        except asyncio.CancelledError:
            if waiter in self._room:
                self._room.remove(waiter)
            raise

    def _tick(self, loop):
        self._clocks.pop(loop, None)
        if self._room:
            self._wake_room(1)
        if self._room:
            self._clocks[loop] = loop.call_later(0.01, self._tick, loop)

    @staticmethod
    def _set_if_pending(waiter):
        if not waiter.done():
            waiter.set_result(None)

    def _wake_room(self, count):
        running = asyncio._get_running_loop()
        while count > 0 and self._room:
            waiter = self._room.popleft()
            if waiter.done():
                continue
            count -= 1
            if waiter.get_loop() is running:
                waiter.set_result(None)
            else:
                try:
                    waiter.get_loop().call_soon_threadsafe(self._set_if_pending, waiter)
                except RuntimeError:
                    count += 1  # the loop is closed

    def _remove_readers(self):
        """Before the descriptor is closed."""
        while self._readers:
            loop, descriptor = self._readers.popitem()
            _loop.remove_reader(loop, descriptor)


_gone = "the queue belongs to the process that forked this one; make another in the child"


def _after_fork_in_child():
    global _alive_lock
    _alive_lock = threading.Lock()
    for one in list(_alive):
        one._forked(_errors.UnsupportedError(_gone))
        one._thread_lock = threading.Lock()


_at_exit_seconds = 5


def _close_all():
    """At the end of the program, after its threads: whatever is left, for so long at most."""
    with _alive_lock:
        left = list(_alive)
    for one in left:
        try:
            one.close(_at_exit_seconds)
        except Exception:
            pass  # hung, or a forked child's: the process may end all the same
    _gpuq._end_hooks()


os.register_at_fork(after_in_child=_after_fork_in_child)
atexit.register(_close_all)
