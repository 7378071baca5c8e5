# SPDX-License-Identifier: Apache-2.0
import builtins
import io
import os
import queue
import sys
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import CancelledError as _CancelledError
from concurrent.futures import Future as _Future
from types import TracebackType
from typing import Any, Literal, NamedTuple, Protocol, Union, overload

if sys.version_info >= (3, 12):
    from collections.abc import Buffer
else:
    from typing_extensions import Buffer
if sys.version_info >= (3, 11):
    from typing import Self
else:
    from typing_extensions import Self

__version__: str

_Priority = Union[Literal["low", "normal", "high", "urgent"], int]
_Device = Literal["auto", "cpu", "cuda", "remote"]
_Policy = Literal["immutable", "append_only", "slab"]
_NotifyPolicy = Literal["drop_oldest", "drop_newest", "coalesce", "close"]
_PipePolicy = Literal["fail", "wait", "drop_history", "evict"]
_PriorityName = Literal["low", "normal", "high", "urgent"]
_Outcome = Literal["ok", "failed", "expired", "cancelled", "lost"]
_Path = Union[str, bytes, os.PathLike[str], os.PathLike[bytes]]

class _Array(Protocol):  # NumPy's have the buffer protocol, and say so in their stubs from 3.12 on only
    def tobytes(self) -> bytes: ...

_Bytes = Union[Buffer, _Array]
_Message = Union[Buffer, _Array, "Descriptor"]

class _HasDlpack(Protocol):
    def __dlpack__(self) -> Any: ...

class _HasCudaArray(Protocol):
    @property
    def __cuda_array_interface__(self) -> dict[str, Any]: ...

class _HasAddress(Protocol):
    @property
    def address(self) -> int: ...

class Error(Exception):
    status: int | None
    written: int

class OpenError(Error, ValueError): ...
class InvalidArgError(Error, ValueError): ...
class FullError(Error, queue.Full): ...
class TimeoutError(Error, builtins.TimeoutError): ...
class CudaError(Error, RuntimeError): ...
class ShutdownError(Error, RuntimeError): ...
class NotReadyError(Error, RuntimeError): ...
class NotFoundError(Error, LookupError): ...
class BufferTooSmallError(Error, ValueError): ...
class EmptyError(Error, queue.Empty): ...
class LimitError(Error, RuntimeError): ...
class StaleError(Error, LookupError): ...
class PolicyError(Error, ValueError): ...

class FailedError(Error, RuntimeError):
    value: int

class ExpiredError(TimeoutError): ...
class CancelledError(Error, _CancelledError): ...
class NoMemoryError(Error, MemoryError): ...
class UnsupportedError(Error, RuntimeError): ...
class FileError(Error, OSError): ...
class BrokenError(Error, BrokenPipeError): ...
class LaggedError(Error, RuntimeError): ...
class LostError(Error, ConnectionError): ...

class Future(_Future[Any]):
    @property
    def id(self) -> int: ...
    def __await__(self) -> Generator[Any, None, Any]: ...

class Futures(Sequence[Future]):
    def __len__(self) -> int: ...
    @overload
    def __getitem__(self, index: int) -> Future: ...
    @overload
    def __getitem__(self, index: slice) -> list[Future]: ...
    def results(self, timeout: float | None = None, return_exceptions: bool = False) -> list[Any]: ...
    def done(self) -> bool: ...
    def cancel(self) -> None: ...

class Stats(NamedTuple):
    enq_count: int
    deq_count: int
    dropped_full: int
    retries: int
    queue_depth: int
    discarded: int
    finished: int
    failed: int
    expired: int
    cancelled: int
    timed_out: int
    reserved_now: int
    aborted: int
    wakeups: int
    lost: int

class Info(NamedTuple):
    capacity: int
    slot_bytes: int
    result_bytes: int
    device: Literal["cpu", "cuda", "remote"]
    ordinal: int
    granularity: Literal["thread", "warp", "block"]
    consumers: int
    reserve_sms: int
    idle_park_ms: int
    shutdown_timeout_ms: int
    state: Literal["running", "paused", "stopping", "stopped"]
    protocol_version: int
    memory_bytes: int
    processor: str
    device_name: str
    transport: str
    reason: str
    hung: int
    hung_msg_id: int
    hung_ns: int
    stalls: int
    device_bytes: int

class Processor:
    def __init__(self, name: str) -> None: ...
    @classmethod
    def from_path(cls, path: _Path) -> Processor: ...
    @classmethod
    def from_cuda(
        cls, source: str, *, include: Iterable[_Path] = (), options: Iterable[str] = ()
    ) -> Processor: ...
    @classmethod
    def from_cfunc(cls, address: int | _HasAddress, *, keep: object = None) -> Processor: ...

class Reservation:
    future: Future
    def __enter__(self) -> memoryview: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None: ...
    def abort(self) -> None: ...

class Queue:
    capacity: int
    slot_bytes: int
    result_bytes: int
    def __init__(
        self,
        processor: _Path | Processor,
        *,
        capacity: int = 1024,
        slot_bytes: int = 4096,
        result_bytes: int = 0,
        device: _Device = "auto",
        consumers: int = 0,
        data: _Bytes | None = None,
        trace_records: int = 0,
        idle_park_ms: int = 0,
        ordinal: int = 0,
        granularity: Literal["thread", "warp", "block"] = "thread",
        reserve_sms: int = 0,
        transport: Literal["auto", "pull", "copy", "bar1"] = "auto",
        copy_from: int = 0,
        bounded_messages: int = 0,
        bounded_ms: int = 0,
        endpoint: _Path | None = None,
    ) -> None: ...
    @property
    def closed(self) -> bool: ...
    def submit(
        self,
        message: _Message,
        /,
        *,
        priority: _Priority = "normal",
        deadline: float | None = None,
        timeout: float | None = None,
        opcode: int = 0,
        tag: int = 0,
        into: _Bytes | None = None,
        view: bool = False,
    ) -> Future: ...
    def submit_many(
        self,
        messages: Iterable[_Bytes],
        /,
        *,
        priority: _Priority = "normal",
        deadline: float | None = None,
        timeout: float | None = None,
        opcode: int = 0,
        tag: int = 0,
        view: bool = False,
    ) -> Futures: ...
    def reserve(
        self,
        length: int,
        *,
        priority: _Priority = "normal",
        deadline: float | None = None,
        timeout: float | None = None,
        opcode: int = 0,
        tag: int = 0,
        view: bool = False,
    ) -> Reservation: ...
    def map(
        self,
        messages: Iterable[_Message],
        *,
        ordered: bool = True,
        window: int = 1024,
        priority: _Priority = "normal",
        deadline: float | None = None,
        timeout: float | None = None,
        opcode: int = 0,
        tag: int = 0,
        view: bool = False,
    ) -> Iterator[Any]: ...
    async def __call__(
        self,
        message: _Message,
        *,
        priority: _Priority = "normal",
        deadline: float | None = None,
        opcode: int = 0,
        tag: int = 0,
        view: bool = False,
    ) -> Any: ...
    def register(self, array: _Bytes | _HasDlpack | _HasCudaArray, policy: _Policy = "immutable") -> Region: ...
    def bind(self, table: RegionTable) -> None: ...
    def subscribe(
        self,
        *,
        tags: int | range | None = None,
        priorities: _PriorityName | Iterable[_PriorityName] = (),
        statuses: _Outcome | Iterable[_Outcome] = (),
        capacity: int = 64,
        policy: _NotifyPolicy = "drop_oldest",
    ) -> Subscription: ...
    def on_completion(
        self,
        function: Callable[[Completion], object],
        *,
        tags: int | range | None = None,
        priorities: _PriorityName | Iterable[_PriorityName] = (),
        statuses: _Outcome | Iterable[_Outcome] = (),
    ) -> Hook: ...
    def stats(self) -> Stats: ...
    def info(self) -> Info: ...
    def pause(self, timeout: float | None = None) -> None: ...
    def resume(self) -> None: ...
    def drain(self, timeout: float | None = None) -> None: ...
    def fileno(self) -> int: ...
    def trace_write(self, path: _Path, /) -> None: ...
    def close(self, timeout: float | None = None) -> None: ...
    async def aclose(self, timeout: float | None = None) -> None: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None: ...
    async def __aenter__(self) -> Self: ...
    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None: ...

class Descriptor:
    def __init__(self, table: RegionTable, id: int, generation: int, offset: int, length: int) -> None: ...
    @property
    def region(self) -> tuple[int, int]: ...
    @property
    def offset(self) -> int: ...
    def release(self) -> None: ...
    def __len__(self) -> int: ...
    def __buffer__(self, flags: int, /) -> memoryview: ...

class RegionInfo(NamedTuple):
    size: int
    cursor: int
    references: int
    policy: _Policy
    retired: bool

class Region:
    handle: tuple[int, int]
    size: int
    address: int
    def descriptor(self, offset: int = 0, length: int | None = None) -> Descriptor: ...
    def append(self, data: Buffer) -> int: ...
    def retire(self) -> None: ...
    def info(self) -> RegionInfo: ...

class RegionTable:
    def __init__(self, max_regions: int = 64, memory: Buffer | None = None) -> None: ...
    @classmethod
    def attach(cls, memory: Buffer) -> RegionTable: ...
    def register(self, memory: _Bytes, policy: _Policy = "immutable") -> Region: ...
    def register_device(self, address: int, size: int, *, keep: object = None) -> Region: ...
    def register_fd(self, fd: int, policy: _Policy = "immutable") -> Region: ...
    def map(self, handle: tuple[int, int], memory: Buffer) -> Region: ...

class RingMessage(NamedTuple):
    data: bytes | Descriptor
    priority: Literal["low", "normal", "high", "urgent"]
    sequence: int

class RingCompletion(NamedTuple):
    sequence: int
    status: int
    data: bytes

class RingConfig(NamedTuple):
    ring_size: int
    max_msg_size: int
    schema: int
    flags: int
    ageing_limit: int

class RingStats(NamedTuple):
    sent: int
    received: int
    bytes_sent: int
    bytes_received: int
    descriptors: int
    discarded: int
    full: int
    empty: int
    refused: int
    completed: int
    polled: int
    repairs: int
    reclaimed: int
    threads: int
    unjudged: int

class Ring:
    fd: int | None
    def __init__(
        self,
        ring_size: int = 0,
        max_msg_size: int = 0,
        *,
        memory: Buffer | Literal["memfd"] | None = None,
        schema: int = 0,
        single: bool = False,
        ageing_limit: int | None = None,
        large: bool = False,
    ) -> None: ...
    @classmethod
    def attach(cls, memory: Buffer | int) -> Ring: ...
    @staticmethod
    def required_memory(
        ring_size: int = 0,
        max_msg_size: int = 0,
        *,
        schema: int = 0,
        single: bool = False,
        ageing_limit: int | None = None,
        large: bool = False,
    ) -> int: ...
    def send(self, message: _Message, priority: _Priority = "normal", timeout: float | None = None) -> None: ...
    def recv(self, timeout: float | None = None) -> bytes | Descriptor: ...
    def recv_message(self, timeout: float | None = None) -> RingMessage: ...
    def recv_many(self, most: int = 256, /) -> list[bytes | Descriptor]: ...
    def complete(self, sequence: int, status: int = 0, data: bytes = b"") -> None: ...
    def poll_completions(self) -> list[RingCompletion]: ...
    def bind(self, table: RegionTable, /) -> None: ...
    def config(self) -> RingConfig: ...
    def stats(self) -> RingStats: ...
    def fileno(self) -> int: ...
    def shutdown(self) -> None: ...
    def recover(self) -> None: ...
    def close(self) -> None: ...
    def __len__(self) -> int: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None: ...

class NotifyEvent(NamedTuple):
    handle: int
    sequence: int
    arg: int
    lost: int

class NotifyStats(NamedTuple):
    handles: int
    waiters: int
    subscriptions: int
    bytes: int
    registered: int
    posts: int
    reached: int
    dropped: int

class NotifyHandleInfo(NamedTuple):
    handle: int
    hint: str
    sequence: int
    last_arg: int
    reached: int
    dropped: int
    waiting_since_ns: int
    waiters: int
    subscriptions: int

class Completion(NamedTuple):
    id: int
    tag: int
    status: _Outcome
    length: int

class Subscription:
    @property
    def closed(self) -> bool: ...
    def recv(self, timeout: float | None = None) -> NotifyEvent: ...
    async def arecv(self) -> NotifyEvent: ...
    def fileno(self) -> int: ...
    def close(self) -> None: ...
    def __iter__(self) -> Self: ...
    def __next__(self) -> NotifyEvent: ...
    def __aiter__(self) -> Self: ...
    async def __anext__(self) -> NotifyEvent: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None: ...

class NotifyHandle:
    def __init__(self, notify: Notify, number: int) -> None: ...
    @property
    def number(self) -> int: ...
    def post(self, arg: int = 0, /) -> int: ...
    def observe(self) -> int: ...
    def wait(self, key: int, timeout: float | None = None) -> NotifyEvent: ...
    def subscribe(self, capacity: int = 64, policy: _NotifyPolicy = "drop_oldest") -> Subscription: ...
    def unregister(self) -> None: ...

class Notify:
    def __init__(
        self, *, max_handles: int = 0, max_waiters: int = 0, max_subscribers: int = 0, max_bytes: int = 0
    ) -> None: ...
    @property
    def closed(self) -> bool: ...
    def register(self, hint: str = "") -> NotifyHandle: ...
    def snapshot(self) -> list[NotifyHandleInfo]: ...
    def stats(self) -> NotifyStats: ...
    def close(self) -> None: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None: ...

class Hook:
    def __init__(self, queue: Queue, number: int) -> None: ...
    def remove(self) -> None: ...

class PipeStats(NamedTuple):
    written: int
    forgotten: int
    kept: int
    max_bytes: int
    slowest: int
    full: int
    lagged: int
    opened: int
    readers: int
    evicted: int
    closed: bool
    error: int

class PipeReader:
    @classmethod
    def attach(cls, descriptor: int) -> PipeReader: ...
    @property
    def closed(self) -> bool: ...
    @property
    def offset(self) -> int: ...
    @property
    def error(self) -> int: ...
    def read(self, size: int = 65536, timeout: float | None = None) -> bytes: ...
    def readinto(self, buffer: _Bytes, timeout: float | None = None) -> int: ...
    async def aread(self, size: int = 65536) -> bytes: ...
    @overload
    def makefile(
        self,
        mode: Literal["r"] = "r",
        *,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
    ) -> io.TextIOWrapper: ...
    @overload
    def makefile(self, mode: Literal["rb"]) -> io.BufferedReader: ...
    def set_error(self, error: int, /) -> None: ...
    def fileno(self) -> int: ...
    def close(self) -> None: ...
    def __iter__(self) -> Self: ...
    def __next__(self) -> bytes: ...
    def __aiter__(self) -> Self: ...
    async def __anext__(self) -> bytes: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None: ...

class Pipe:
    def __init__(self, max_bytes: int = 0, policy: _PipePolicy = "fail") -> None: ...
    @property
    def closed(self) -> bool: ...
    def write(self, data: _Bytes, timeout: float | None = None) -> int: ...
    def writev(self, pieces: Iterable[_Bytes], timeout: float | None = None) -> int: ...
    @overload
    def makefile(
        self,
        mode: Literal["w"] = "w",
        *,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
        line_buffering: bool = False,
        write_through: bool = False,
    ) -> io.TextIOWrapper: ...
    @overload
    def makefile(self, mode: Literal["wb"]) -> io.BufferedWriter: ...
    def reader(self) -> PipeReader: ...
    def set_error(self, error: int, /) -> None: ...
    def share(self) -> int: ...
    def stats(self) -> PipeStats: ...
    def close(self) -> None: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None: ...

class PipePool:
    def __init__(self) -> None: ...
    def writer(self, name: str, max_bytes: int = 0, policy: _PipePolicy = "fail") -> Pipe: ...
    def reader(self, name: str, timeout: float | None = None, existing: bool = False) -> PipeReader: ...
    def close(self) -> None: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None: ...

def version() -> str: ...
def get_include() -> str: ...
def is_available(device: Literal["cuda", "cpu"] = "cuda") -> bool: ...
