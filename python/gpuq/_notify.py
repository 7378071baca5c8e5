# SPDX-License-Identifier: Apache-2.0
"""Notifications: something that threads and event loops wait for; and a queue's completions as such."""

import collections
import logging

from . import _errors, _gpuq, _loop
from ._ring import PRIORITIES

logger = logging.getLogger("gpuq")

POLICIES = {"drop_oldest": 0, "drop_newest": 1, "coalesce": 2, "close": 3}
OUTCOMES = {
    "ok": 0,
    "failed": _errors.status["Q_ERR_FAILED"],
    "expired": _errors.status["Q_ERR_EXPIRED"],
    "cancelled": _errors.status["Q_ERR_CANCELLED"],
    "lost": _errors.status["Q_ERR_LOST"],
}
_outcome_names = {number: name for name, number in OUTCOMES.items()}

NotifyEvent = collections.namedtuple("NotifyEvent", "handle sequence arg lost")
NotifyEvent.__doc__ = """A post, or a completion.

handle: the number of what was posted to. sequence: of the post; a handle's first has 1. arg: as posted; a
completion's is the message's id. lost: of NotifyHandle.wait(): posts between the key and this one; of
Subscription.recv(): events dropped since the one received before.
"""
NotifyStats = collections.namedtuple(
    "NotifyStats", "handles waiters subscriptions bytes registered posts reached dropped"
)
NotifyStats.__doc__ = "Counters of a notification queue; see NotifyStats in gpuq/notify.h."
NotifyHandleInfo = collections.namedtuple(
    "NotifyHandleInfo",
    "handle hint sequence last_arg reached dropped waiting_since_ns waiters subscriptions",
)
NotifyHandleInfo.__doc__ = """What a handle is and has done: Notify.snapshot().

waiting_since_ns: on time.monotonic_ns(), since when a thread has been waiting, 0: none waits. The main thread
begins anew ten times a second.
"""
Completion = collections.namedtuple("Completion", "id tag status length")
Completion.__doc__ = """What a hook is called with: Queue.on_completion().

id: the message's, as Future.id. tag: as submitted. status: "ok", "failed", "expired", "cancelled" or "lost".
length: of the result, bytes.
"""


def policy_number(policy, policies):
    if policy in policies:
        return policies[policy]
    raise ValueError(f"gpuq: policy is {policy!r}; allowed: {', '.join(policies)}")


def _bits(what, names, numbers):
    bits = 0
    for name in (names,) if isinstance(names, str) else names or ():
        if name not in numbers:
            raise ValueError(f"gpuq: {what} has {name!r}; allowed: {', '.join(numbers)}")
        bits |= 1 << abs(numbers[name])
    return bits


def make_filter(tags, priorities, statuses):
    """The fields of a CompletionFilter."""
    if tags is None:
        flags, least, most = 0, 0, 0
    else:
        flags = 1
        span = tags if isinstance(tags, range) else range(tags, tags + 1)
        if span.step != 1 or span.start < 0 or span.stop > 1 << 64 or span.start >= span.stop:
            raise ValueError(
                f"gpuq: tags is {tags!r}; allowed: a tag, or a range of tags with step 1 that is not empty, "
                f"from 0 up to {(1 << 64) - 1}"
            )
        least, most = span.start, span.stop - 1
    numbers = {name: number for number, name in enumerate(PRIORITIES) if name}
    return flags, least, most, _bits("priorities", priorities, numbers), _bits("statuses", statuses, OUTCOMES)


class Subscription(_gpuq.SubscriptionCore):
    """Events held for a reader, in order: NotifyHandle.subscribe() and Queue.subscribe() make it.

    Iterating, with ``for`` or ``async for``, gives the events until the end: the handle is unregistered, the
    queue closed. Several threads and tasks may receive; each event goes to one of them.
    """

    _readable = None

    def recv(self, timeout=None):
        """The next event: a NotifyEvent.

        timeout: seconds to wait for one; None: for ever, 0: not at all. The GIL is released meanwhile.

        Raises gpuq.EmptyError (timeout 0), gpuq.TimeoutError; gpuq.ShutdownError: the end, all is received;
        gpuq.LimitError: policy "close", and it has overflowed.
        """
        return NotifyEvent(*self._recv(timeout))

    async def arecv(self):
        """recv() for event loops; asyncio.wait_for() limits its time."""
        while True:
            event = self._take()
            if event is not None:
                return NotifyEvent(*event)
            if self._readable is None:
                self._readable = _loop.Readable(self.fileno(), "subscription")
            await self._readable.wait()

    def __iter__(self):
        return self

    def __next__(self):
        try:
            return self.recv()
        except _errors.ShutdownError:
            raise StopIteration from None

    def __aiter__(self):
        return self

    async def __anext__(self):
        try:
            return await self.arecv()
        except _errors.ShutdownError:
            raise StopAsyncIteration from None

    def close(self):
        """End the subscription and free its place; who waits in it raises ValueError."""
        if self._readable is not None:
            self._readable.close()
        self._close()

    def __enter__(self):
        return self

    def __exit__(self, kind, error, traceback):
        self.close()

    def __repr__(self):
        return f"<gpuq.Subscription{' closed' if self.closed else ''}>"


class NotifyHandle(_gpuq.NotifyHandleCore):
    """Something that can be waited for: Notify.register() makes it.

    notify, number: the handle of this number, where a number has been handed on in its place.
    """

    def __init__(self, notify, number):
        self._use(notify, number)

    def wait(self, key, timeout=None):
        """Wait until there has been a post since `key` was observed: a NotifyEvent, of the latest.

        key: from observe(), or the sequence of an event. timeout: seconds; None: for ever, 0: only look. The
        GIL is released meanwhile.

            key = handle.observe()          # first observe,
            while not condition():          # then test,
                key = handle.wait(key).sequence     # then wait: no post in between is missed

        Raises gpuq.EmptyError (timeout 0), gpuq.TimeoutError; gpuq.ShutdownError: unregistered meanwhile;
        gpuq.StaleError: before; gpuq.LimitError: too many wait.
        """
        return NotifyEvent(*self._wait(key, timeout))

    def subscribe(self, capacity=64, policy="drop_oldest"):
        """Every event from now on, in order: a Subscription.

        capacity: events held for the reader, 1 to 65536. policy: what happens to an event that finds no
        room: "drop_oldest", "drop_newest", "coalesce" (the newest alone is held, whatever the capacity), or
        "close" (the subscription ends). Raises gpuq.LimitError, gpuq.StaleError.
        """
        subscription = Subscription()
        self._subscribe(capacity, policy_number(policy, POLICIES), subscription)
        return subscription

    def __repr__(self):
        return f"<gpuq.NotifyHandle {self.number:#x}>"


class Notify(_gpuq.NotifyCore):
    """A notification queue: tells waiting threads that something has happened, without waiting for them.

    max_handles: registered at a time, 1 to 65536; 0: 65536. max_waiters, max_subscribers: of one handle, 1 to
    2**20 and 65536; 0: 1024. max_bytes: of handles and subscriptions together; 0: 64 MiB. Going beyond raises
    gpuq.LimitError.

        with gpuq.Notify() as notify:
            arrived = notify.register("a delivery")
            arrived.post(3)                         # in any thread

    Any thread may make any call. In a forked child calls raise gpuq.UnsupportedError.
    """

    def __init__(self, *, max_handles=0, max_waiters=0, max_subscribers=0, max_bytes=0):
        self._create(max_handles, max_waiters, max_subscribers, max_bytes)

    def register(self, hint=""):
        """A new NotifyHandle. hint: what it is, in words, for snapshot(); cut to 63 bytes."""
        return NotifyHandle(self, self._register(hint))

    def snapshot(self):
        """What every handle is and has done: a list of NotifyHandleInfo. It tells who hangs on what."""
        return [NotifyHandleInfo(*one) for one in self._snapshot()]

    def stats(self):
        """Counters, as a named tuple."""
        return NotifyStats(**self._stats())

    def __enter__(self):
        return self

    def __exit__(self, kind, error, traceback):
        self.close()


class Hook:
    """A function that is called for each completion of a queue: Queue.on_completion() makes it.

    It stays until remove() or the queue's end, also if this object is dropped.
    """

    def __init__(self, queue, number):
        self._queue = queue
        self._number = number

    def remove(self):
        """Have it called no more. When this returns it is not running, unless it is the caller itself."""
        self._queue._remove_hook(self._number)


def run_hook(function, number, tag, status, length):
    try:
        function(Completion(number, tag, _outcome_names.get(status, status), length))
    except Exception:
        logger.exception("a hook, %r, raised", function)
