# SPDX-License-Identifier: Apache-2.0
"""Message queue whose consumer is a GPU, or CPU threads; rings, notifications and pipes.

    import gpuq

    with gpuq.Queue("sha256") as queue:
        print(queue.submit(b"hello").result().hex())

docs/guide/python.md is the tutorial.
"""

from ._errors import (
    BrokenError,
    BufferTooSmallError,
    CancelledError,
    CudaError,
    EmptyError,
    Error,
    ExpiredError,
    FailedError,
    FileError,
    FullError,
    InvalidArgError,
    LaggedError,
    LimitError,
    LostError,
    NoMemoryError,
    NotFoundError,
    NotReadyError,
    OpenError,
    PolicyError,
    ShutdownError,
    StaleError,
    TimeoutError,
    UnsupportedError,
)
from ._future import Future, Futures
from ._gpuq import version
from ._notify import (
    Completion,
    Hook,
    Notify,
    NotifyEvent,
    NotifyHandle,
    NotifyHandleInfo,
    NotifyStats,
    Subscription,
)
from ._pipe import Pipe, PipePool, PipeReader, PipeStats
from ._processor import Processor, get_include, is_available
from ._queue import Info, Queue, Reservation, Stats
from ._region import Descriptor, Region, RegionInfo, RegionTable
from ._ring import Ring, RingCompletion, RingConfig, RingMessage, RingStats

__version__ = version()
__all__ = [name for name in dir() if name[0] != "_" and name != "annotations"]
