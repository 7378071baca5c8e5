# SPDX-License-Identifier: Apache-2.0
"""Pipe, PipeReader, PipePool: between threads, tasks and processes."""

import asyncio
import errno
import gc
import os
import select
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
import warnings

import pytest
from conftest import LIMIT
from test_asyncio import run  # noqa: F401

import gpuq


def start(function):
    thread = threading.Thread(target=function)
    thread.start()
    return thread


def test_every_reader_sees_all_of_it_whenever_it_joins():
    with gpuq.Pipe() as pipe:
        early = pipe.reader()
        assert pipe.write(b"one ") == 4
        middle = pipe.reader()
        assert pipe.writev([b"two ", bytearray(b"three"), b""]) == 9
    late = pipe.reader()
    assert [b"".join(reader) for reader in (early, middle, late)] == [b"one two three"] * 3
    assert early.read() == b"" and early.offset == 13
    assert pipe.closed and pipe.stats().written == 13


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview, "array", "mmap", "numpy"])
def test_any_contiguous_memory_is_written(kind):
    data = bytes(range(256)) * 8
    if kind == "array":
        import array

        data = array.array("I", data)
    elif kind == "mmap":
        import mmap

        data = mmap.mmap(-1, 4096)
        data[:5] = b"there"
    elif kind == "numpy":
        data = pytest.importorskip("numpy").arange(1000)
    else:
        data = kind(data)
    with gpuq.Pipe() as pipe:
        pipe.write(data)
    assert b"".join(pipe.reader()) == bytes(memoryview(data).cast("B"))
    if kind == "numpy":
        with pytest.raises(BufferError):
            pipe.write(data[::2])
    with pytest.raises(TypeError):
        pipe.write("text")


def test_reads_give_what_is_there():
    pipe = gpuq.Pipe()
    reader = pipe.reader()
    with pytest.raises(gpuq.EmptyError):
        reader.read(timeout=0)
    with pytest.raises(gpuq.TimeoutError):
        reader.read(timeout=0.02)
    pipe.write(b"0123456789")
    assert reader.read(4) == b"0123" and reader.offset == 4
    room = bytearray(16)
    assert reader.readinto(room) == 6 and room[:6] == b"456789"
    with pytest.raises(ValueError, match="size"):
        reader.read(0)
    with pytest.raises(ValueError):
        reader.readinto(bytearray())
    with pytest.raises(BufferError):
        reader.readinto(b"constant")
    big = os.urandom(1 << 20)
    thread = start(lambda: (time.sleep(0.15), pipe.write(big), pipe.close()))
    assert b"".join(iter(lambda: reader.read(1 << 18), b"")) == big
    thread.join()


def test_a_pipe_that_fails_when_full_says_how_much_it_took():
    pipe = gpuq.Pipe(10)
    assert pipe.write(b"12345") == 5
    with pytest.raises(gpuq.FullError) as caught:
        pipe.write(b"678901234")
    assert caught.value.written == 5
    with pytest.raises(gpuq.FullError) as caught:
        pipe.writev([b"x", b"y"])
    assert caught.value.written == 0
    pipe.close()
    assert b"".join(pipe.reader()) == b"1234567890"
    with pytest.raises(ValueError, match="max_bytes"):
        gpuq.Pipe(1 << 50)
    with pytest.raises(ValueError, match="policy"):
        gpuq.Pipe(policy="none")
    with pytest.raises(ValueError, match="1024"):
        pipe.writev([b""] * 1025)


def test_a_pipe_that_waits_loses_nothing_and_keeps_writes_together():
    pipe = gpuq.Pipe(100, policy="wait")
    readers = [pipe.reader() for _ in range(2)]
    with pytest.raises(gpuq.FullError) as caught:
        pipe.write(bytes(150), timeout=0)
    assert caught.value.written == 100
    with pytest.raises(gpuq.TimeoutError) as caught:
        pipe.write(bytes(10), timeout=0.25)
    assert caught.value.written == 0
    got = [[], []]
    writers = [
        start(lambda who=who: [pipe.write(bytes([who]) * 350) for _ in range(40)]) for who in (b"a"[0], b"b"[0])
    ]
    threads = [start(lambda i=i: got[i].extend(readers[i])) for i in range(2)]
    for thread in writers:
        thread.join()
    pipe.close()
    for thread in threads:
        thread.join()
    whole = b"".join(got[0])
    assert whole == b"".join(got[1]) and whole[:100] == bytes(100)
    pieces = {whole[i : i + 350] for i in range(100, len(whole), 350)}
    assert pieces == {b"a" * 350, b"b" * 350} and len(whole) == 100 + 80 * 350


def test_a_writer_waits_for_another_that_waits():
    pipe = gpuq.Pipe(10, policy="wait")
    reader = pipe.reader()
    first = start(lambda: pipe.write(b"a" * 30))
    while pipe.stats().full == 0:
        time.sleep(0.001)
    with pytest.raises(gpuq.FullError):
        pipe.write(b"b", timeout=0)
    with pytest.raises(gpuq.TimeoutError):
        pipe.write(b"b", timeout=0.02)
    second = start(lambda: pipe.write(b"c"))
    assert b"".join(reader.read(1) for _ in range(31)) == b"a" * 30 + b"c"
    first.join()
    second.join()
    pipe.close()


def test_a_signal_ends_a_write_that_waits_and_its_handler_cannot_write_there():
    pipe = gpuq.Pipe(4, policy="wait")
    reader = pipe.reader()
    errors = []

    def handler(number, frame):
        try:
            pipe.write(b"from the handler")
        except RuntimeError as error:
            errors.append(str(error))
        raise InterruptedError

    before = signal.signal(signal.SIGUSR1, handler)
    try:
        timer = threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGUSR1))
        timer.start()
        with pytest.raises(InterruptedError):
            pipe.write(b"123456")
        timer.join()
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert "handler" in errors[0]
    assert reader.read() == b"1234"
    pipe.write(b"on")
    pipe.close()
    assert b"".join(reader) == b"on"


def test_a_close_ends_a_write_that_waits():
    pipe = gpuq.Pipe(4, policy="wait")
    reader = pipe.reader()
    errors = []

    def write():
        try:
            pipe.write(b"123456")
        except gpuq.ShutdownError as error:
            errors.append(error.written)

    thread = start(write)
    while pipe.stats().full == 0:
        time.sleep(0.001)
    pipe.close()
    thread.join()
    assert errors == [4]
    assert b"".join(reader) == b"1234"


def test_readers_that_were_overtaken_are_told_so():
    pipe = gpuq.Pipe(1 << 13, policy="drop_history")
    reader = pipe.reader()
    pipe.write(bytes(1 << 13))
    pipe.write(b"x" * 5000)
    with pytest.raises(gpuq.LaggedError):
        reader.read()
    assert reader.offset == pipe.stats().forgotten > 0
    pipe.close()
    assert b"".join(reader).endswith(b"x" * 5000)

    pipe = gpuq.Pipe(1 << 13, policy="evict")
    reader = pipe.reader()
    pipe.write(bytes(1 << 13))
    pipe.write(bytes(5000))
    for _ in range(2):
        with pytest.raises(gpuq.LaggedError):
            reader.read()
    pipe.close()


def test_errors_of_either_side_carry_their_numbers():
    pipe = gpuq.Pipe()
    reader, other = pipe.reader(), pipe.reader()
    pipe.write(b"data")
    pipe.set_error(errno.EIO)
    with pytest.raises(gpuq.FailedError):
        pipe.write(b"more")
    assert reader.error == errno.EIO
    other.set_error(-7)
    with pytest.raises(gpuq.FailedError) as caught:
        other.read()
    assert caught.value.value == -7
    other.set_error(0)
    for one in (reader, other):
        assert one.read() == b"data"
        with pytest.raises(gpuq.FailedError) as caught:
            one.read()
        assert caught.value.value == errno.EIO
    pipe.set_error(0)
    pipe.write(b"on")
    assert reader.read() == b"on"
    reader.close()
    other.close()
    with pytest.raises(BrokenPipeError) as broken:
        pipe.write(b"nobody")
    assert isinstance(broken.value, gpuq.BrokenError)
    pipe.close()
    with pytest.raises(gpuq.ShutdownError):
        pipe.write(b"x")
    with pytest.raises(gpuq.ShutdownError):
        pipe.set_error(1)


@pytest.mark.parametrize("how", ["block", "dropped"])
def test_a_stream_that_is_not_complete_ends_with_an_error(how):
    if how == "block":
        with pytest.raises(KeyError):
            with gpuq.Pipe() as pipe:
                pipe.write(b"half")
                raise KeyError
        reader = pipe.reader()
    else:
        pipe = gpuq.Pipe()
        reader = pipe.reader()
        pipe.write(b"half")
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            del pipe
            gc.collect()
        assert [w.category for w in caught] == [ResourceWarning]
    assert reader.read() == b"half"
    with pytest.raises(gpuq.FailedError) as error:
        reader.read()
    assert error.value.value == errno.ECANCELED


def test_closing_a_reader_ends_its_read():
    pipe = gpuq.Pipe()
    reader, other = pipe.reader(), pipe.reader()
    errors = []

    def read():
        try:
            reader.read()
        except ValueError as error:
            errors.append(str(error))

    thread = start(read)
    while thread.is_alive():
        reader.close()
        thread.join(0.01)
    assert "closed" in errors[0] and reader.closed
    pipe.write(b"on")
    assert other.read() == b"on"
    for call in (reader.read, reader.fileno, lambda: reader.offset, lambda: reader.error):
        with pytest.raises(ValueError, match="closed"):
            call()
    pipe.close()


def test_a_second_thread_that_reads_is_refused():
    pipe = gpuq.Pipe()
    reader = pipe.reader()
    thread = start(reader.read)
    while True:
        try:
            reader.read(timeout=0)
        except gpuq.PolicyError:
            break
        except gpuq.EmptyError:
            time.sleep(0.001)
    pipe.write(b"x")
    thread.join()
    pipe.close()


def test_the_standard_librarys_files_read_and_write_pipes():
    pipe = gpuq.Pipe()
    reader, binary = pipe.reader(), pipe.reader()
    with pipe.makefile(encoding="utf-8") as file:
        print("first, für sich", file=file)
        print("second", file=file)
    assert not pipe.closed
    with pipe.makefile("wb") as file:
        file.write(b"third\n")
    pipe.close()
    with reader.makefile(encoding="utf-8") as file:
        assert list(file) == ["first, für sich\n", "second\n", "third\n"]
    assert not reader.closed
    assert binary.makefile("rb").read() == "first, für sich\nsecond\nthird\n".encode()
    for wrong in (lambda: pipe.makefile("r"), lambda: reader.makefile("w"), lambda: reader.makefile("rb", newline="")):
        with pytest.raises(ValueError):
            wrong()


# ---- event loops ---------------------------------------------------------------------------------


def test_tasks_follow_a_stream_that_a_thread_writes(run):  # noqa: F811
    pipe = gpuq.Pipe()

    async def follow():
        with pipe.reader() as reader:
            return b"".join([piece async for piece in reader])

    async def main():
        tasks = [asyncio.ensure_future(follow()) for _ in range(3)]

        def write():
            for i in range(100):
                pipe.write(b"%d " % i)
                if i % 20 == 0:
                    time.sleep(0.002)
            pipe.close()

        await asyncio.sleep(0)
        thread = start(write)
        assert await asyncio.gather(*tasks) == [b"".join(b"%d " % i for i in range(100))] * 3
        thread.join()
        assert await follow() == b"".join(b"%d " % i for i in range(100))

    run(main())


def test_a_tasks_read_can_time_out_and_be_closed(run):  # noqa: F811
    async def main():
        pipe = gpuq.Pipe()
        reader = pipe.reader()
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(reader.aread(), 0.02)
        pipe.write(b"x")
        assert await reader.aread(10) == b"x"
        task = asyncio.ensure_future(reader.aread())
        await asyncio.sleep(0.01)
        reader.close()
        with pytest.raises(ValueError, match="closed"):
            await task
        pipe.close()

    run(main())


def test_a_reader_can_be_waited_for_by_poll():
    pipe = gpuq.Pipe()
    reader = pipe.reader()
    poll = select.poll()
    poll.register(reader, select.POLLIN)
    assert poll.poll(0) == []
    pipe.write(b"x")
    assert poll.poll(LIMIT * 1000)
    assert reader.read() == b"x"
    pipe.close()
    assert poll.poll(LIMIT * 1000)
    assert reader.read() == b""


# ---- processes -----------------------------------------------------------------------------------

READ = """
import errno, gpuq, os, sys
data, error = b"", 0
with gpuq.PipeReader.attach(int(sys.argv[1])) as reader:
    os.close(int(sys.argv[1]))
    try:
        data = b"".join(reader)
    except gpuq.FailedError as failed:
        error = failed.value
print(len(data), sum(data), error)
"""


def test_other_processes_read_a_shared_pipe():
    data = os.urandom(300_000)
    with gpuq.Pipe() as pipe:
        pipe.write(data[:100_000])
        fd = pipe.share()
        children = [
            subprocess.Popen([sys.executable, "-c", READ, str(fd)], pass_fds=[fd], stdout=subprocess.PIPE, text=True)
            for _ in range(2)
        ]
        os.close(fd)
        pipe.write(data[100_000:])
    expected = f"{len(data)} {sum(data)} 0\n"
    assert [child.communicate(timeout=4 * LIMIT)[0] for child in children] == [expected] * 2


def test_a_writer_that_dies_is_noticed():
    ours, theirs = socket.socketpair()
    write = textwrap.dedent(
        """
        import gpuq, os, socket, sys
        pipe = gpuq.Pipe()
        pipe.write(b"all that came")
        link = socket.socket(fileno=int(sys.argv[1]))
        socket.send_fds(link, [b"x"], [pipe.share()])
        os._exit(0)
        """
    )
    with ours, theirs:
        subprocess.run([sys.executable, "-c", write, str(theirs.fileno())], pass_fds=[theirs.fileno()], check=True)
        _, (fd,), _, _ = socket.recv_fds(ours, 1, 1)
    with gpuq.PipeReader.attach(fd) as reader:
        os.close(fd)
        assert reader.read() == b"all that came"
        with pytest.raises(gpuq.FailedError) as caught:
            reader.read(timeout=LIMIT)
        assert caught.value.value == errno.EOWNERDEAD


def test_a_forked_child_reads_by_the_descriptor_and_is_told_so_otherwise():
    with gpuq.Pipe(policy="drop_history") as pipe:
        reader = pipe.reader()
        pipe.write(b"here")
        fd = pipe.share()
        child = os.fork()
        if child == 0:
            try:
                for call in (lambda: pipe.write(b"x"), reader.read, pipe.stats, pipe.reader, pipe.share):
                    with pytest.raises(gpuq.UnsupportedError):
                        call()
                os._exit(0 if gpuq.PipeReader.attach(fd).read() == b"here" else 1)
            finally:
                os._exit(1)
        assert os.waitpid(child, 0)[1] == 0
        os.close(fd)


def test_what_cannot_be_shared_or_attached_is_refused(tmp_path):
    with gpuq.Pipe(policy="wait") as pipe:
        with pytest.raises(gpuq.UnsupportedError):
            pipe.share()
    with open(tmp_path / "file", "w+") as file:
        with pytest.raises((gpuq.PolicyError, gpuq.InvalidArgError)):
            gpuq.PipeReader.attach(file.fileno())


# ---- pools ---------------------------------------------------------------------------------------


def test_a_pool_brings_both_sides_together_by_name():
    with gpuq.PipePool() as pool:
        got = []
        thread = start(lambda: got.append(b"".join(pool.reader("results"))))
        with pytest.raises(gpuq.EmptyError):
            pool.reader("results", timeout=0)
        with pytest.raises(gpuq.TimeoutError):
            pool.reader("results", timeout=0.02)
        with pytest.raises(gpuq.NotFoundError):
            pool.reader("results", existing=True)
        pipe = pool.writer("results", policy="wait")
        assert pool.writer("results") is pipe
        pipe.write(b"there")
        pipe.close()
        thread.join()
        assert got == [b"there"]
        with pytest.raises(ValueError):
            pool.writer("")
        with pytest.raises(ValueError):
            pool.writer("x" * 256)
    assert b"".join(pool.reader("results", existing=True)) == b"there"
    with pytest.raises(gpuq.ShutdownError):
        pool.writer("another")


def test_a_pipe_of_a_pool_outlives_its_objects():
    pool = gpuq.PipePool()
    pool.writer("one", 64, policy="wait").write(b"x" * 64)
    gc.collect()
    pipe = pool.writer("one")  # a new object for it, which waits like the first
    reader = pool.reader("one")
    with pytest.raises(gpuq.TimeoutError):
        pipe.write(b"y", timeout=0.02)
    del pool
    assert reader.read() == b"x" * 64
    pipe.write(b"z")
    assert reader.read() == b"z"
    del pipe
    with pytest.raises(gpuq.FailedError) as caught:
        reader.read()
    assert caught.value.value == errno.ECANCELED


def test_closing_a_pool_sends_those_away_that_wait():
    pool = gpuq.PipePool()
    errors = []

    def wait():
        try:
            pool.reader("never")
        except gpuq.ShutdownError as error:
            errors.append(error)

    thread = start(wait)
    time.sleep(0.02)
    pool.close()
    thread.join()
    assert len(errors) == 1
