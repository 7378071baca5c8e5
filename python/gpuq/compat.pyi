# SPDX-License-Identifier: Apache-2.0
import enum
import sys
from types import TracebackType
from typing import Any, Literal

if sys.version_info >= (3, 12):
    from collections.abc import Buffer
else:
    from typing_extensions import Buffer

class QueueStatus(enum.IntEnum):
    OK = 0
    ERR_INVALID_ARG = -1
    ERR_FULL = -2
    ERR_TIMEOUT = -3
    ERR_CUDA = -4
    ERR_SHUTDOWN = -5
    ERR_NOT_READY = -6
    ERR_NOT_FOUND = -7
    ERR_BUFFER_TOO_SMALL = -8
    ERR_EMPTY = -9
    ERR_LIMIT = -10
    ERR_STALE = -11
    ERR_POLICY = -12
    ERR_FAILED = -13
    ERR_EXPIRED = -14
    ERR_CANCELLED = -15
    ERR_NO_MEMORY = -16
    ERR_UNSUPPORTED = -17
    ERR_IO = -18
    ERR_BROKEN = -19
    ERR_LAGGED = -20
    ERR_LOST = -21

class QueueConfig:
    capacity: int
    slot_bytes: int
    device: str
    processor: str
    def __init__(
        self, capacity: int = 1024, slot_bytes: int = 512, device: str = "auto", processor: str = "echo"
    ) -> None: ...
    def is_valid(self) -> bool: ...

class QueueStats:
    enqueue_count: int
    dequeue_count: int
    dropped_full: int
    processed_count: int
    current_depth: int

class GpuQueue:
    config: QueueConfig
    is_running: bool
    def __init__(
        self,
        config: QueueConfig | None = None,
        *,
        capacity: int = 1024,
        slot_bytes: int = 512,
        device: str = "auto",
        processor: str = "echo",
    ) -> None: ...
    def enqueue(self, data: Buffer, timeout_ms: float | None = None) -> int: ...
    def enqueue_nowait(self, data: Buffer) -> int: ...
    def try_dequeue(self, message_id: int) -> tuple[bool, bytes | None]: ...
    def dequeue(self, message_id: int, timeout_ms: float = 1000) -> bytes: ...
    def poll_completions(self, max_count: int = 256) -> list[int]: ...
    @property
    def stats(self) -> QueueStats: ...
    def shutdown(self) -> None: ...
    def __enter__(self) -> GpuQueue: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None: ...

def init(config: QueueConfig | None = None, **settings: Any) -> GpuQueue: ...
def shutdown() -> None: ...
def version() -> str: ...
def is_available(device: Literal["cuda", "cpu"] = "cuda") -> bool: ...
