# SPDX-License-Identifier: Apache-2.0
"""Futures, and how the part in C gets what it needs of the standard library."""

import _thread
import asyncio
import collections.abc
import concurrent.futures
import logging
import threading

from . import _errors, _gpuq, _notify

logger = logging.getLogger("gpuq")


class Future(_gpuq.FutureCore, concurrent.futures.Future):
    """What became of a message: a concurrent.futures.Future that can also be awaited.

    Queue.submit() makes it. concurrent.futures.wait(), as_completed() and asyncio.wrap_future() take
    it like any other. Dropping it does not cancel its message.
    """

    def __init__(self):
        pass  # the state is FutureCore's

    def __await__(self):
        """The result, in an event loop. Queue.__call__() costs less."""
        return asyncio.wrap_future(self).__await__()


Futures = _gpuq.Futures
collections.abc.Sequence.register(Futures)


def _run_callback(callback, future):
    try:
        callback(future)
    except Exception:
        logger.exception("a callback of %r raised", future)


def _finish_many(items):
    for future, value, failed in items:
        if future.done():
            continue
        if not failed:
            future.set_result(value)
        elif isinstance(value, concurrent.futures.CancelledError):
            future.cancel()
        else:
            future.set_exception(value)


def _deliver(items):
    """(event loop's future, value, whether it failed), found in a thread that is none of their loops'."""
    by_loop = {}
    for item in items:
        by_loop.setdefault(item[0].get_loop(), []).append(item)
    for loop, its in by_loop.items():
        try:
            loop.call_soon_threadsafe(_finish_many, its)
        except RuntimeError:
            pass  # the loop is closed, and nobody waits


_gpuq._setup(
    _errors.by_status,
    _errors.OpenError,
    Future,
    concurrent.futures.Future,
    threading.Condition,
    _thread.allocate_lock,
    concurrent.futures.CancelledError,
    _run_callback,
    _deliver,
    _notify.run_hook,
    threading.main_thread,
)
