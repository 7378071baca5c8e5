# SPDX-License-Identifier: Apache-2.0
"""Ring, RegionTable, Descriptor: between threads and between processes."""

import multiprocessing
import os
import queue as stdlib_queue
import threading
from multiprocessing import shared_memory

import pytest
from conftest import LIMIT

import gpuq


def test_messages_arrive_in_order():
    with gpuq.Ring(16, 64) as ring:
        for i in range(16):
            ring.send(b"%d" % i)
        assert len(ring) == 16
        assert [ring.recv() for _ in range(16)] == [b"%d" % i for i in range(16)]


def test_full_empty_and_time_outs():
    with gpuq.Ring(1, 64) as ring:
        with pytest.raises(stdlib_queue.Empty):
            ring.recv(timeout=0)
        with pytest.raises(TimeoutError):
            ring.recv(timeout=0.02)
        ring.send(b"x")
        with pytest.raises(stdlib_queue.Full):
            ring.send(b"y", timeout=0)
        with pytest.raises(TimeoutError):
            ring.send(b"y", timeout=0.02)
        with pytest.raises(ValueError):
            ring.send(bytes(65), timeout=0)


def test_the_higher_priority_is_received_first():
    with gpuq.Ring(8, 64) as ring:
        for priority in ("low", "normal", "high", "urgent"):
            ring.send(priority.encode(), priority)
        got = [ring.recv_message() for _ in range(4)]
        assert [m.data.decode() for m in got] == [m.priority for m in got] == ["urgent", "high", "normal", "low"]
        assert [m.sequence for m in got] == [3, 2, 1, 0]


def test_empty_and_long_messages():
    with gpuq.Ring(64, 64, large=True) as ring:
        for message in (b"", bytes(range(256)) * 10):
            ring.send(message)
            assert ring.recv(LIMIT) == message
        ring.send(b"")
        ring.send(bytes(4000))
        assert ring.recv_many() == [b"", bytes(4000)]
        assert ring.recv_many() == []


def test_waiting_receivers_get_what_is_sent():
    with gpuq.Ring(4, 64) as ring:
        got = []

        def receive():
            try:
                while True:
                    got.append(ring.recv(LIMIT))
            except gpuq.ShutdownError:
                pass

        threads = [threading.Thread(target=receive) for _ in range(2)]
        for thread in threads:
            thread.start()
        for i in range(2000):
            ring.send(b"%d" % i if i % 7 else b"")
        ring.shutdown()
        for thread in threads:
            thread.join()
        assert sorted(got) == sorted(b"%d" % i if i % 7 else b"" for i in range(2000))
        assert ring.stats().sent == ring.stats().received == 2000


def test_closing_a_handle_ends_its_waits():
    ring = gpuq.Ring(4, 64)
    errors = []

    def receive():
        try:
            ring.recv(LIMIT)
        except ValueError as error:
            errors.append(str(error))

    thread = threading.Thread(target=receive)
    thread.start()
    while thread.is_alive():
        ring.close()
        thread.join(0.01)
    assert "closed" in errors[0]
    with pytest.raises(ValueError, match="closed"):
        ring.send(b"x")


def test_completions_go_back():
    with gpuq.Ring(4, 64) as ring:
        ring.send(b"x")
        ring.complete(ring.recv_message().sequence, -13, b"why")
        assert ring.poll_completions() == [(0, -13, b"why")]
        assert ring.poll_completions() == []


def test_configuration_and_what_is_not_allowed():
    with gpuq.Ring(8, 128, schema=7, ageing_limit=0) as ring:
        assert ring.config() == (8, 128, 7, 2, 256)
    with pytest.raises(ValueError, match="ring_size"):
        gpuq.Ring(63)
    assert gpuq.Ring.required_memory(8, 128) > 8 * 128
    with pytest.raises(ValueError):
        gpuq.Ring.required_memory(63)


def _echo(name):
    memory = shared_memory.SharedMemory(name)
    with gpuq.Ring.attach(memory.buf) as ring:
        for _ in range(500):
            message = ring.recv_message(LIMIT)
            ring.complete(message.sequence, 0, message.data)
    memory.close()


def test_a_ring_in_shared_memory_serves_another_process():
    size = gpuq.Ring.required_memory(64, 64)
    memory = shared_memory.SharedMemory(create=True, size=size)
    try:
        with gpuq.Ring(64, 64, memory=memory.buf) as ring:
            child = multiprocessing.get_context("spawn").Process(target=_echo, args=(memory.name,))
            child.start()
            got = {}
            for i in range(500):
                ring.send(b"%d" % i, timeout=LIMIT)
                while len(got) < i - 60:
                    got.update((c.sequence, c.data) for c in ring.poll_completions())
            child.join(LIMIT)
            assert child.exitcode == 0
            while len(got) < 500:
                got.update((c.sequence, c.data) for c in ring.poll_completions())
            assert got == {i: b"%d" % i for i in range(500)}
            with pytest.raises(BufferError):
                memory.close()  # the ring stands on it
    finally:
        memory.close()
        memory.unlink()


def test_a_memfd_is_inherited_by_a_forked_child():
    ring = gpuq.Ring(8, 64, memory="memfd")
    child = os.fork()
    if child == 0:
        try:
            with pytest.raises(gpuq.UnsupportedError):
                ring.send(b"by the parent's handle")
            gpuq.Ring.attach(ring.fd).send(b"from the child")
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitpid(child, 0)[1] == 0
    assert ring.recv(LIMIT) == b"from the child"
    ring.close()
    assert ring.fd is None


def test_a_ring_can_be_waited_for_by_poll():
    import select

    with gpuq.Ring(8, 64) as ring:
        poll = select.poll()
        poll.register(ring, select.POLLIN)
        assert poll.poll(0) == []
        ring.send(b"x")
        assert poll.poll(LIMIT * 1000)
        assert ring.recv_many() == [b"x"]


# ---- regions -------------------------------------------------------------------------------------


def test_a_descriptor_shows_the_region_and_holds_it():
    table = gpuq.RegionTable(4)
    region = table.register(b"0123456789abcdef" * 2)
    with gpuq.Ring(8, 64) as ring:
        ring.bind(table)
        ring.send(region.descriptor(16, 10))
        assert region.info().references == 1
        got = ring.recv(LIMIT)
        assert isinstance(got, gpuq.Descriptor) and len(got) == 10 and got.offset == 16
        with memoryview(got) as view:
            assert view == b"0123456789" and view.readonly
            with pytest.raises(BufferError):
                got.release()
            region.retire()
            assert region.info().retired
        got.release()
        got.release()
        with pytest.raises(gpuq.StaleError):
            region.info()
        with pytest.raises(gpuq.StaleError):
            ring.send(region.descriptor(0, 4))


def test_a_dropped_descriptor_is_released():
    table = gpuq.RegionTable(4)
    region = table.register(bytes(64))
    with gpuq.Ring(8, 64) as ring:
        ring.bind(table)
        ring.send(region.descriptor())
        ring.recv(LIMIT)
        assert region.info().references == 0


def test_append_only_regions_grow():
    table = gpuq.RegionTable(4)
    region = table.register(bytearray(64), "append_only")
    assert region.append(b"first") == 0 and region.append(b"second") == 5
    assert bytes(region.descriptor(5, 6)) == b"second"
    assert region.info()[:4] == (64, 11, 0, "append_only")
    with pytest.raises(gpuq.FullError):
        region.append(bytes(60))
    with pytest.raises(ValueError):
        memoryview(region.descriptor(5, 60))


def test_regions_keep_their_memory_until_they_are_freed():
    table = gpuq.RegionTable(1)
    memory = bytearray(64)
    region = table.register(memory)
    with pytest.raises(BufferError):
        memory.append(1)
    with pytest.raises(gpuq.LimitError):
        table.register(bytes(16))
    region.retire()
    memory.append(1)
    table.register(bytes(16))


def test_a_table_in_shared_memory_and_a_sealed_memfd():
    memory = shared_memory.SharedMemory(create=True, size=1 << 16)
    table = other = None
    fd = os.memfd_create("region", os.MFD_ALLOW_SEALING)
    try:
        os.write(fd, b"sealed bytes")
        table = gpuq.RegionTable(4, memory=memory.buf)
        region = table.register_fd(fd)
        assert bytes(region.descriptor()) == b"sealed bytes"
        other = gpuq.RegionTable.attach(memory.buf)
        with pytest.raises(gpuq.UnsupportedError):
            bytes(gpuq.Descriptor(other, *region.handle, 0, 4))
        import mmap

        there = other.map(region.handle, mmap.mmap(fd, 12, prot=mmap.PROT_READ))
        assert bytes(there.descriptor(7, 5)) == b"bytes"
        with pytest.raises(OSError):
            os.write(fd, b"no more")
        del region, there
    finally:
        del table, other
        os.close(fd)
        memory.close()
        memory.unlink()


def test_a_queue_reads_registered_memory_in_place():
    import hashlib

    data = bytearray(os.urandom(1 << 20))
    with gpuq.Queue("sha256", slot_bytes=16, result_bytes=32) as queue:
        region = queue.register(data)
        future = queue.submit(region.descriptor())
        assert future.result(LIMIT) == hashlib.sha256(data).digest()
        second = queue.register(bytes(4096))
        assert queue.submit(second.descriptor(16, 32)).result(LIMIT) == hashlib.sha256(bytes(32)).digest()
        with pytest.raises(ValueError):
            queue.submit(region.descriptor(1, 15))  # not at a multiple of 16
        region.retire()
        with pytest.raises(gpuq.StaleError):
            queue.submit(region.descriptor())


def test_numpy_arrays_are_registered_by_dlpack_or_buffer():
    numpy = pytest.importorskip("numpy")
    array = numpy.arange(64, dtype=numpy.uint8)
    with gpuq.Queue("echo", slot_bytes=64) as queue:
        region = queue.register(array)
        assert queue.submit(region.descriptor()).result(LIMIT) == array.tobytes()
        with pytest.raises(BufferError):
            queue.register(array[::2])


def test_dlpack_tells_address_and_size():
    numpy = pytest.importorskip("numpy")
    from gpuq import _gpuq

    array = numpy.arange(24, dtype=numpy.float32).reshape(4, 6)
    tensor = _gpuq._dlpack(array.__dlpack__())
    assert (tensor.address, tensor.nbytes, tensor.device) == (array.ctypes.data, 96, (1, 0))
    with pytest.raises(BufferError):
        _gpuq._dlpack(array[:, ::2].__dlpack__())
