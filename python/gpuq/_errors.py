# SPDX-License-Identifier: Apache-2.0
"""The exceptions: one class for each status of the library."""

import concurrent.futures
import queue

from . import _gpuq

status = _gpuq._statuses()  # {"Q_ERR_FULL": -2, ...}


class Error(Exception):
    """What gpuq raises by itself.

    status: the library's number, or None. written: of Pipe.write(), how many bytes are in the stream.
    """

    status = None
    written = 0


class OpenError(Error, ValueError):
    """A queue could not be made; the sentence names the setting, its value and the range."""


class InvalidArgError(Error, ValueError):
    """An argument is out of range."""

    status = status["Q_ERR_INVALID_ARG"]


class FullError(Error, queue.Full):
    """There is no free slot, and the call was not to wait for one."""

    status = status["Q_ERR_FULL"]


_timeouts = (concurrent.futures.TimeoutError,)
if not issubclass(concurrent.futures.TimeoutError, TimeoutError):  # before Python 3.11
    _timeouts += (TimeoutError,)


class TimeoutError(Error, *_timeouts):
    """It did not happen in time."""

    status = status["Q_ERR_TIMEOUT"]


class CudaError(Error, RuntimeError):
    """The CUDA device has failed, and with it all that was under way."""

    status = status["Q_ERR_CUDA"]


class ShutdownError(Error, RuntimeError):
    """The queue is closed, or being closed; a ring was shut down and nothing is left in it."""

    status = status["Q_ERR_SHUTDOWN"]


class NotReadyError(Error, RuntimeError):
    """It is not finished yet."""

    status = status["Q_ERR_NOT_READY"]


class NotFoundError(Error, LookupError):
    """There is no such message."""

    status = status["Q_ERR_NOT_FOUND"]


class BufferTooSmallError(Error, ValueError):
    """The result has more bytes than there is room for."""

    status = status["Q_ERR_BUFFER_TOO_SMALL"]


class EmptyError(Error, queue.Empty):
    """There is nothing, and the call was not to wait."""

    status = status["Q_ERR_EMPTY"]


class LimitError(Error, RuntimeError):
    """A limit of the library has been reached."""

    status = status["Q_ERR_LIMIT"]


class StaleError(Error, LookupError):
    """The region has been retired."""

    status = status["Q_ERR_STALE"]


class PolicyError(Error, ValueError):
    """What was made, or sealed, does not allow it."""

    status = status["Q_ERR_POLICY"]


class FailedError(Error, RuntimeError):
    """The processor has failed on this message, or a pipe's stream has failed.

    value: the number that the processor, the pipe's writer or the reader reported; 0: none.
    """

    status = status["Q_ERR_FAILED"]
    value = 0


class ExpiredError(TimeoutError):
    """The message's deadline passed before it was started."""

    status = status["Q_ERR_EXPIRED"]


class CancelledError(Error, concurrent.futures.CancelledError):
    """The message was cancelled: by cancel(), or because the queue was closed before it was started."""

    status = status["Q_ERR_CANCELLED"]


class NoMemoryError(Error, MemoryError):
    """Memory could not be had."""

    status = status["Q_ERR_NO_MEMORY"]


class UnsupportedError(Error, RuntimeError):
    """It cannot be done here: in a forked child, say, or on this device."""

    status = status["Q_ERR_UNSUPPORTED"]


class FileError(Error, OSError):
    """A file could not be written."""

    status = status["Q_ERR_IO"]


class BrokenError(Error, BrokenPipeError):
    """The pipe had readers, and all have been closed."""

    status = status["Q_ERR_BROKEN"]


class LaggedError(Error, RuntimeError):
    """Bytes of the pipe were forgotten before they were read."""

    status = status["Q_ERR_LAGGED"]


class LostError(Error, ConnectionError):
    """gpuqd has gone. A message that it had taken may have run, and may not."""

    status = status["Q_ERR_LOST"]


def _all_below(cls):
    for sub in cls.__subclasses__():
        yield sub
        yield from _all_below(sub)


by_status = {cls.status: cls for cls in _all_below(Error) if cls is not OpenError}
