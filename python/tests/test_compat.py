# SPDX-License-Identifier: Apache-2.0
"""gpuq.compat: what the older binding's 28 tests asked for, and what it got wrong."""

import time

import pytest
from conftest import LIMIT

import gpuq
from gpuq import compat


@pytest.fixture
def queue():
    with compat.GpuQueue(capacity=64, slot_bytes=64, device="cpu") as queue:
        yield queue


def await_result(queue, number):
    return queue.dequeue(number, timeout_ms=LIMIT * 1000)


def test_a_valid_configuration():
    config = compat.QueueConfig(256, 512)
    assert (config.capacity, config.slot_bytes) == (256, 512) and config.is_valid()


@pytest.mark.parametrize("capacity, slot_bytes", [(100, 512), (0, 512), (256, 0)])
def test_an_invalid_configuration_is_a_value_error(capacity, slot_bytes):
    with pytest.raises(ValueError):
        compat.QueueConfig(capacity, slot_bytes)
    with pytest.raises(ValueError):
        compat.GpuQueue(capacity=capacity, slot_bytes=slot_bytes)


def test_the_representation_names_the_settings():
    assert "capacity=256" in repr(compat.QueueConfig(256, 512))
    assert "slot_bytes=512" in repr(compat.QueueConfig(256, 512))


def test_status_names():
    assert {"OK", "ERR_FULL", "ERR_TIMEOUT", "ERR_SHUTDOWN", "ERR_NOT_READY"} <= set(compat.QueueStatus.__members__)


def test_ok_is_zero():
    assert compat.QueueStatus.OK == 0


def test_the_fields_of_the_statistics(queue):
    for field in ("enqueue_count", "dequeue_count", "dropped_full", "processed_count", "current_depth"):
        assert getattr(queue.stats, field) == 0
    assert "enqueue_count=0" in repr(queue.stats)


def test_create_and_shut_down():
    queue = compat.GpuQueue(device="cpu")
    assert queue.is_running
    queue.shutdown()
    assert not queue.is_running


def test_as_a_context_manager():
    with compat.GpuQueue(device="cpu") as queue:
        assert queue.is_running
    assert not queue.is_running


def test_shutting_down_twice(queue):
    queue.shutdown()
    queue.shutdown()


def test_an_id_is_a_number_and_the_next_is_larger(queue):
    first = queue.enqueue(b"a")
    second = queue.enqueue(b"b")
    assert isinstance(first, int) and 0 < first < second


def test_there_and_back(queue):
    assert await_result(queue, queue.enqueue(b"hello")) == b"hello"


def test_an_empty_message(queue):
    assert await_result(queue, queue.enqueue(b"")) == b""


def test_dequeue_at_once_says_whether_it_is_done(queue):
    done, result = queue.try_dequeue(queue.enqueue(b"x"))
    assert isinstance(done, bool) and result in (None, b"x")


def test_statistics_count(queue):
    for number in [queue.enqueue(b"a"), queue.enqueue(b"b")]:
        await_result(queue, number)
    assert queue.stats.enqueue_count == queue.stats.dequeue_count == queue.stats.processed_count == 2


def test_the_depth_is_what_has_not_been_taken(queue):
    numbers = [queue.enqueue(b"a") for _ in range(3)]
    assert queue.stats.current_depth == 3
    for number in numbers:
        await_result(queue, number)
    assert queue.stats.current_depth == 0


def test_polling_gives_each_finished_id_once(queue):
    numbers = {queue.enqueue(b"%d" % i) for i in range(10)}
    polled = []
    end = time.monotonic() + LIMIT
    while len(polled) < 10 and time.monotonic() < end:
        polled += queue.poll_completions()
    assert sorted(polled) == sorted(numbers)
    assert queue.poll_completions() == []


def test_an_oversize_message_is_a_value_error(queue):
    with pytest.raises(ValueError):
        queue.enqueue(bytes(1000))


def test_after_shutdown_calls_are_value_errors(queue):
    queue.shutdown()
    for call in (lambda: queue.enqueue(b"x"), lambda: queue.poll_completions(), lambda: queue.stats):
        with pytest.raises(ValueError):
            call()


@pytest.mark.parametrize("kind", [bytearray, memoryview])
def test_buffers_are_messages(queue, kind):
    assert await_result(queue, queue.enqueue(kind(b"bytes"))) == b"bytes"


def test_numpy_arrays_are_messages(queue):
    numpy = pytest.importorskip("numpy")
    numbers = numpy.arange(4, dtype=numpy.int32)
    assert await_result(queue, queue.enqueue(numbers)) == numbers.tobytes()


def test_a_full_queue_does_not_wait_when_told_not_to():
    with compat.GpuQueue(capacity=2, slot_bytes=8, device="cpu") as queue:
        numbers = [queue.enqueue(b"x"), queue.enqueue(b"y")]
        with pytest.raises(gpuq.FullError):
            queue.enqueue_nowait(b"z")
        with pytest.raises(TimeoutError):
            queue.enqueue(b"z", timeout_ms=10)
        assert queue.stats.dropped_full >= 1
        for number in numbers:
            await_result(queue, number)


def test_an_id_taken_or_never_issued_is_not_found(queue):
    number = queue.enqueue(b"x")
    await_result(queue, number)
    for unknown in (number, number + 1000):
        with pytest.raises(gpuq.NotFoundError):
            queue.try_dequeue(unknown)


def test_results_are_taken_in_any_order(queue):
    numbers = [queue.enqueue(b"%d" % i) for i in range(64)]
    for i in reversed(range(64)):
        assert await_result(queue, numbers[i]) == b"%d" % i
    assert await_result(queue, queue.enqueue(b"next")) == b"next"


def test_is_available_says_yes_or_no():
    assert isinstance(compat.is_available(), bool)
    assert compat.is_available("cpu")


def test_the_default_queue():
    queue = compat.init(capacity=16, device="cpu")
    assert await_result(queue, queue.enqueue(b"x")) == b"x"
    compat.shutdown()
    compat.shutdown()
    assert not queue.is_running


def test_the_version_is_the_librarys():
    assert compat.version() == gpuq.__version__ and compat.version().count(".") == 2
