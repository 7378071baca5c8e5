# SPDX-License-Identifier: Apache-2.0
"""class Queue: messages, results, options, errors, the queue's life."""

import array
import asyncio
import concurrent.futures
import gc
import hashlib
import mmap
import queue as stdlib_queue
import threading
import time
import zlib

import pytest
from conftest import LIMIT, LONG, python_processor

import gpuq


# ---- messages and results ----------------------------------------------------------------------


def test_a_result_is_what_the_processor_made():
    with gpuq.Queue("sha256") as queue:
        assert queue.submit(b"hello").result(LIMIT) == hashlib.sha256(b"hello").digest()


def test_an_empty_message_is_a_message(echo):
    assert echo.submit(b"").result(LIMIT) == b""


def test_the_largest_message_fits_and_one_more_byte_does_not(echo):
    assert echo.submit(bytes(1024)).result(LIMIT) == bytes(1024)
    with pytest.raises(ValueError, match="1025 bytes; this queue takes 0 to 1024"):
        echo.submit(bytes(1025))


@pytest.mark.parametrize("size", [1 << 20, 128 * 1024, 128 * 1024 - 1])
def test_messages_of_any_size_come_back_whole(size):
    data = bytes(i & 0xFF for i in range(251)) * (size // 251 + 1)
    with gpuq.Queue("echo", capacity=4, slot_bytes=1 << 20) as queue:
        assert queue.submit(data[:size]).result(LIMIT) == data[:size]


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview, lambda b: array.array("B", b)])
def test_whatever_has_the_buffer_protocol_is_a_message(echo, kind):
    assert echo.submit(kind(b"some bytes")).result(LIMIT) == b"some bytes"


def test_items_of_an_array_are_sent_as_their_bytes(echo):
    numbers = array.array("d", [1.5, -2.0])
    assert echo.submit(numbers).result(LIMIT) == numbers.tobytes()


def test_a_mapping_is_a_message(echo):
    with mmap.mmap(-1, 64) as memory:
        memory[:5] = b"hello"
        assert echo.submit(memory).result(LIMIT) == b"hello" + bytes(59)


def test_a_message_may_change_once_submit_has_returned(echo):
    data = bytearray(b"first")
    future = echo.submit(data)
    data[:] = b"later"
    assert future.result(LIMIT) == b"first"


def test_numpy_arrays_are_messages_and_strided_ones_are_refused(echo):
    numpy = pytest.importorskip("numpy")
    matrix = numpy.arange(12, dtype=numpy.float32).reshape(3, 4)
    assert echo.submit(matrix).result(LIMIT) == matrix.tobytes()
    for strided in (matrix[:, ::2], matrix.T, numpy.asfortranarray(matrix)):
        with pytest.raises(BufferError, match="must be contiguous memory.*numpy.ascontiguousarray"):
            echo.submit(strided)
    assert echo.submit(numpy.ascontiguousarray(matrix.T)).result(LIMIT) == matrix.T.tobytes()


def test_a_strided_memoryview_is_refused(echo):
    with pytest.raises(BufferError, match="must be contiguous memory"):
        echo.submit(memoryview(b"abcdef")[::2])


@pytest.mark.parametrize("what", ["text", 5, None, [b"list"]])
def test_what_has_no_bytes_is_refused_by_type(echo, what):
    with pytest.raises(TypeError, match="a message is an object with the buffer protocol"):
        echo.submit(what)


def test_into_writes_the_result_and_gives_its_length(echo):
    room = bytearray(8)
    assert echo.submit(b"hello", into=room).result(LIMIT) == 5
    assert room == b"hello\0\0\0"
    room.append(1)  # it is not held any longer


def test_into_too_small_is_an_error_that_says_how_much_is_needed(echo):
    with pytest.raises(gpuq.BufferTooSmallError, match="the result has 5 bytes, and there is room for 4"):
        echo.submit(b"hello", into=bytearray(4)).result(LIMIT)


def test_into_needs_memory_that_can_be_written(echo):
    with pytest.raises(BufferError, match="can be written"):
        echo.submit(b"hello", into=b"const")


def test_a_view_holds_its_slot_until_it_is_released():
    with gpuq.Queue("echo", capacity=1, slot_bytes=16) as queue:
        view = queue.submit(b"first", view=True).result(LIMIT)
        assert view == b"first" and view.readonly
        with pytest.raises(gpuq.FullError):
            queue.submit(b"next", timeout=0)
        part = view[1:3]
        view.release()
        with pytest.raises(gpuq.FullError):
            queue.submit(b"next", timeout=0)
        part.release()
        assert queue.submit(b"next", timeout=0).result(LIMIT) == b"next"


def test_a_view_that_is_dropped_frees_its_slot():
    with gpuq.Queue("echo", capacity=1, slot_bytes=16) as queue:
        queue.submit(b"first", view=True).result(LIMIT)
        gc.collect()
        assert queue.submit(b"next", timeout=LIMIT).result(LIMIT) == b"next"


def test_a_view_outlives_its_queue():
    with gpuq.Queue("echo", capacity=1, slot_bytes=16) as queue:
        view = queue.submit(b"still here", view=True).result(LIMIT)
    assert bytes(view) == b"still here"
    view.release()


# ---- reservations --------------------------------------------------------------------------------


def test_a_reservation_is_sent_at_the_end_of_its_block(echo):
    reservation = echo.reserve(5)
    with reservation as memory:
        memory[:] = b"hello"
        assert not reservation.future.done()
    assert reservation.future.result(LIMIT) == b"hello"


def test_a_block_that_raises_gives_the_slot_back():
    with gpuq.Queue("echo", capacity=1, slot_bytes=16) as queue:
        reservation = queue.reserve(5)
        with pytest.raises(RuntimeError), reservation:
            raise RuntimeError("no")
        assert reservation.future.cancelled()
        assert queue.submit(b"next", timeout=0).result(LIMIT) == b"next"


def test_a_reservation_in_use_is_not_committed_and_its_memory_stays():
    with gpuq.Queue("echo", capacity=1, slot_bytes=16) as queue:
        reservation = queue.reserve(5)
        with pytest.raises(BufferError), reservation as memory:
            part = memory[1:3]
        with pytest.raises(gpuq.FullError):
            queue.submit(b"next", timeout=0)
        part[:] = b"xx"
        part.release()
        memory.release()
        assert queue.submit(b"next", timeout=0).result(LIMIT) == b"next"


def test_a_reservation_that_is_dropped_gives_the_slot_back():
    with gpuq.Queue("echo", capacity=1, slot_bytes=16) as queue:
        queue.reserve(5)
        assert queue.submit(b"next", timeout=LIMIT).result(LIMIT) == b"next"


# ---- many ----------------------------------------------------------------------------------------


def test_submit_many_keeps_the_order_of_the_messages(echo):
    messages = [b"%d" % i for i in range(1000)]
    futures = echo.submit_many(messages)
    assert len(futures) == 1000
    assert futures.results(LIMIT) == messages
    assert futures.done()


def test_futures_of_many_are_futures(echo):
    futures = echo.submit_many([b"a", b"b", b"c"])
    assert isinstance(futures[0], gpuq.Future) and futures[0] is futures[0]
    assert [f.result(LIMIT) for f in futures] == [b"a", b"b", b"c"]
    assert [f.result() for f in futures[::-1]] == [b"c", b"b", b"a"]
    assert futures[-1].result() == b"c"
    with pytest.raises(IndexError):
        futures[3]
    assert len(concurrent.futures.wait(futures, LIMIT).done) == 3


def test_submit_many_of_nothing(echo):
    assert echo.submit_many([]).results(0) == []


def test_submit_many_accepts_nothing_if_one_message_is_wrong(echo):
    before = echo.stats().enq_count
    with pytest.raises(ValueError, match=r"message 1 of 3"):
        echo.submit_many([b"a", bytes(2000), b"c"])
    with pytest.raises(TypeError):
        echo.submit_many([b"a", "text"])
    assert echo.stats().enq_count == before


def test_submit_many_says_of_each_message_whether_it_found_a_slot(gate, gated):
    futures = gated.submit_many([b"%d" % i for i in range(10)], timeout=0.01)
    gate.open.set()
    results = futures.results(LIMIT, return_exceptions=True)
    assert results[:8] == [b"%d" % i for i in range(8)]
    assert all(isinstance(r, gpuq.TimeoutError) for r in results[8:])
    with pytest.raises(gpuq.TimeoutError):
        futures.results()


def test_results_of_many_time_out(gate, gated):
    futures = gated.submit_many([b"a"])
    with pytest.raises(TimeoutError):
        futures.results(0.01)
    gate.open.set()
    assert futures.results(LIMIT) == [b"a"]


@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize("window", [1, 7, 1000])
def test_map_gives_every_result_once(echo, ordered, window):
    messages = [b"%d" % i for i in range(500)]
    results = list(echo.map(iter(messages), ordered=ordered, window=window))
    assert (results if ordered else sorted(results)) == (messages if ordered else sorted(messages))


def test_map_reads_no_further_than_its_window(gate, gated):
    read = []
    results = gated.map((read.append(i) or b"%d" % i for i in range(100)), window=4)
    gate.open.set()
    assert next(results) == b"0"
    assert len(read) <= 5
    results.close()


def test_map_refuses_a_window_of_views_that_cannot_be(echo):
    with pytest.raises(ValueError, match="window is 64"):
        echo.map([], window=64, view=True)
    with pytest.raises(ValueError, match="window is 0"):
        echo.map([], window=0)


# ---- options -------------------------------------------------------------------------------------


def test_opcode_and_tag_reach_the_processor():
    processor = python_processor(lambda data, m: b"%d %d" % (m.opcode, m.tag))
    with gpuq.Queue(processor, device="cpu") as queue:
        assert queue.submit(b"", opcode=7, tag=1 << 40).result(LIMIT) == b"7 %d" % (1 << 40)


def test_data_reaches_the_processor():
    import ctypes

    processor = python_processor(lambda data, m: ctypes.string_at(m.user, 4))
    with gpuq.Queue(processor, device="cpu", data=bytearray(b"seed")) as queue:
        assert queue.submit(b"").result(LIMIT) == b"seed"


def test_the_higher_priority_is_started_first(gate, gated):
    first = gated.submit(b"first")
    gate.await_start()
    futures = [gated.submit(p.encode(), priority=p) for p in ("low", "normal", "high", "urgent")]
    gate.open.set()
    for future in [first, *futures]:
        future.result(LIMIT)
    assert gate.seen == [b"first", b"urgent", b"high", b"normal", b"low"]


def test_a_passed_deadline_ends_the_message(gate, gated):
    first = gated.submit(b"first")
    gate.await_start()
    future = gated.submit(b"late", deadline=0)
    gate.open.set()
    assert first.result(LIMIT) == b"first"
    with pytest.raises(gpuq.ExpiredError):
        future.result(LIMIT)
    assert isinstance(future.exception(), TimeoutError)


def test_full_and_timeout(gate, gated):
    gated.submit_many([b"x"] * 8)
    with pytest.raises(stdlib_queue.Full):
        gated.submit(b"x", timeout=0)
    began = time.monotonic()
    with pytest.raises(TimeoutError):
        gated.submit(b"x", timeout=0.05)
    assert time.monotonic() - began >= 0.05
    gate.open.set()


def test_submit_waits_for_a_slot_and_others_run_meanwhile(gate, gated):
    gated.submit_many([b"x"] * 8)
    threading.Timer(0.02, gate.open.set).start()
    assert gated.submit(b"last").result(LIMIT) == b"last"


@pytest.mark.parametrize(
    "options",
    [{"priority": "huge"}, {"priority": 5}, {"opcode": 1 << 32}, {"deadline": float("nan")}],
)
def test_options_out_of_range_are_value_errors(echo, options):
    with pytest.raises(ValueError):
        echo.submit(b"x", **options)


def test_unknown_options_are_type_errors(echo):
    with pytest.raises(TypeError, match="'colour' is no keyword argument"):
        echo.submit(b"x", colour=1)
    with pytest.raises(TypeError):
        echo.submit()
    with pytest.raises(ValueError, match="exclude each other"):
        echo.submit(b"x", into=bytearray(1), view=True)


# ---- failures, cancelling ------------------------------------------------------------------------


def test_a_failure_brings_the_processors_number():
    with gpuq.Queue(python_processor(lambda data, m: 42), device="cpu") as queue:
        future = queue.submit(b"x")
        with pytest.raises(gpuq.FailedError, match="failure 42") as caught:
            future.result(LIMIT)
        assert caught.value.value == 42
        assert caught.value.status == -13


def test_cancelling_a_future_cancels_its_message(gate, gated):
    first = gated.submit(b"first")
    gate.await_start()
    future = gated.submit(b"never")
    called = []
    future.add_done_callback(called.append)
    assert future.cancel() and future.cancelled() and future.done()
    assert called == [future]
    with pytest.raises(concurrent.futures.CancelledError):
        future.result()
    gate.open.set()
    first.result(LIMIT)
    gated.drain(LIMIT)
    assert gate.seen == [b"first"]
    assert not first.cancel()


def test_cancelling_many(gate, gated):
    gated.submit(b"first")
    gate.await_start()
    futures = gated.submit_many([b"a", b"b"])
    futures.cancel()
    gate.open.set()
    results = futures.results(LIMIT, return_exceptions=True)
    assert all(isinstance(r, gpuq.CancelledError) for r in results)
    assert futures[0].cancelled()


# ---- futures -------------------------------------------------------------------------------------


def test_a_future_is_one_of_the_standard_library(echo):
    future = echo.submit(b"x")
    assert isinstance(future, concurrent.futures.Future)
    assert concurrent.futures.wait([future], LIMIT).done == {future}
    assert list(concurrent.futures.as_completed([future], LIMIT)) == [future]
    assert future.exception() is None and not future.running() and future.done()
    assert "finished" in repr(future)


@pytest.mark.parametrize("when", [concurrent.futures.FIRST_COMPLETED, concurrent.futures.ALL_COMPLETED])
def test_the_standard_library_waits_for_futures_under_way(gate, gated, when):
    futures = [gated.submit(b"%d" % i) for i in range(4)]
    threading.Timer(0.02, gate.open.set).start()
    done = concurrent.futures.wait(futures, LIMIT, when).done
    assert len(done) >= (4 if when == concurrent.futures.ALL_COMPLETED else 1)
    assert {f.result(LIMIT) for f in concurrent.futures.as_completed(futures, LIMIT)} == {b"0", b"1", b"2", b"3"}


def test_a_cancelled_future_ends_the_standard_librarys_wait(gate, gated):
    gated.submit(b"first")
    gate.await_start()
    future = gated.submit(b"x")
    threading.Timer(0.02, future.cancel).start()
    assert concurrent.futures.wait([future], LIMIT).done == {future}
    gate.open.set()


def test_result_times_out_and_the_message_goes_on(gate, gated):
    future = gated.submit(b"x")
    began = time.monotonic()
    with pytest.raises(TimeoutError):
        future.result(timeout=0.05)
    assert time.monotonic() - began >= 0.05
    with pytest.raises(concurrent.futures.TimeoutError):
        future.result(timeout=0)
    gate.open.set()
    assert future.result(LIMIT) == b"x"


def test_several_threads_wait_for_one_future(gate, gated):
    future = gated.submit(b"x")
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        waits = [pool.submit(future.result, LIMIT) for _ in range(4)]
        gate.open.set()
        assert [w.result(LIMIT) for w in waits] == [b"x"] * 4


def test_a_callback_that_raises_is_logged_and_harms_nothing(echo, caplog):
    def bad(future):
        raise RuntimeError("bad callback")

    seen = threading.Event()
    future = echo.submit(b"x")
    future.add_done_callback(bad)
    future.add_done_callback(lambda f: seen.set())
    assert seen.wait(LIMIT)
    assert echo.submit(b"y").result(LIMIT) == b"y"
    future.add_done_callback(bad)  # of a future that has ended
    assert "bad callback" in caplog.text


def test_a_callback_may_use_the_queue(echo):
    done = threading.Event()
    results = []

    def again(future):
        results.append(future.result())
        if len(results) < 200:
            echo.submit(b"%d" % len(results)).add_done_callback(again)
        else:
            done.set()

    echo.submit(b"0").add_done_callback(again)
    assert done.wait(LIMIT)
    assert results == [b"%d" % i for i in range(200)]


def test_a_callback_may_close_the_queue():
    queue = gpuq.Queue("echo")
    closed = threading.Event()

    def close(future):
        queue.close()
        closed.set()

    queue.submit(b"x").add_done_callback(close)
    assert closed.wait(LIMIT) and queue.closed


def test_a_future_can_be_awaited(echo):
    async def main():
        return await echo.submit(b"x")

    assert asyncio.run(main()) == b"x"


# ---- the queue's life ----------------------------------------------------------------------------


def test_closing_waits_for_what_was_accepted():
    with gpuq.Queue("crc32c", capacity=256) as queue:
        futures = [queue.submit(b"%d" % i) for i in range(200)]
    assert all(f.done() and len(f.result()) == 4 for f in futures)
    assert queue.closed
    queue.close()


def test_a_closed_queue_refuses(echo):
    echo.close()
    for call in (lambda: echo.submit(b"x"), lambda: echo.submit_many([b"x"]), lambda: echo.reserve(1), echo.stats):
        with pytest.raises(gpuq.ShutdownError, match="closed"):
            call()
    assert repr(echo) == "<gpuq.Queue closed>"


def test_a_close_that_times_out_cancels_the_rest_and_can_go_on(gate):
    queue = gpuq.Queue(python_processor(gate.process), capacity=8, consumers=1, device="cpu")
    first = queue.submit(b"first")
    gate.await_start()
    second = queue.submit(b"second")
    with pytest.raises(TimeoutError):
        queue.close(timeout=0.01)
    with pytest.raises(concurrent.futures.CancelledError):
        second.result(LIMIT)
    assert not queue.closed and not first.done()
    gate.open.set()
    queue.close()
    assert first.result(LIMIT) == b"first"


def test_close_while_others_wait_for_a_slot(gate):
    queue = gpuq.Queue(python_processor(gate.process), capacity=1, consumers=1, device="cpu")
    queue.submit(b"x")
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        waiting = pool.submit(queue.submit, b"y")
        gate.await_start()
        closing = pool.submit(queue.close)
        gate.open.set()
        closing.result(LIMIT)
        try:
            assert waiting.result(LIMIT).result(LIMIT) == b"y"
        except gpuq.ShutdownError:
            pass
    assert queue.closed


def test_a_dropped_queue_finishes_its_futures():
    gpuq_queue = gpuq.Queue("echo", capacity=64)
    futures = [gpuq_queue.submit(b"%d" % i) for i in range(64)]
    with pytest.warns(ResourceWarning, match="unclosed"):
        del gpuq_queue
        assert [f.result(LIMIT) for f in futures] == [b"%d" % i for i in range(64)]
        del futures
        gc.collect()
        end = time.monotonic() + LIMIT
        while any(t.name == "gpuq-complete" for t in threading.enumerate()) and time.monotonic() < end:
            time.sleep(0.01)
    assert not any(t.name == "gpuq-complete" for t in threading.enumerate())


def test_a_queue_in_a_cycle_is_collected():
    class Holder:
        pass

    holder = Holder()
    holder.self = holder
    holder.queue = gpuq.Queue("echo", capacity=2)
    holder.queue.submit(b"x").result(LIMIT)
    holder.future = holder.queue.submit(b"y")
    holder.future.result(LIMIT)
    holder.future.add_done_callback(lambda f: f)
    with pytest.warns(ResourceWarning):
        del holder
        gc.collect()
        end = time.monotonic() + LIMIT
        while any(t.name == "gpuq-complete" for t in threading.enumerate()) and time.monotonic() < end:
            time.sleep(0.01)


@pytest.mark.parametrize(
    "settings, sentence",
    [
        ({"capacity": 100}, "capacity"),
        ({"capacity": 0}, "capacity"),
        ({"slot_bytes": 0}, "slot_bytes"),
        ({"slot_bytes": 1 << 25}, "slot_bytes"),
        ({"capacity": -1}, "capacity is -1"),
        ({"consumers": 5000}, "consumers"),
        ({"device": "tpu"}, "allowed: auto, cpu, cuda"),
    ],
)
def test_settings_out_of_range_are_value_errors(settings, sentence):
    with pytest.raises(ValueError, match=sentence):
        gpuq.Queue("echo", **settings)


def test_an_unknown_processor_is_named():
    with pytest.raises(gpuq.OpenError, match="no processor is called 'nothing'"):
        gpuq.Queue("nothing")
    with pytest.raises(TypeError):
        gpuq.Queue(5)


@pytest.mark.parametrize(
    "option, value, sentence",
    [
        ("tag", -1, f"tag is -1; allowed: 0 to {2**64 - 1}"),
        ("tag", 1 << 64, f"tag is {1 << 64}; allowed: 0 to {2**64 - 1}"),
        ("opcode", 1 << 32, f"opcode is {1 << 32}; allowed: 0 to {2**32 - 1}"),
        ("opcode", -5, f"opcode is -5; allowed: 0 to {2**32 - 1}"),
    ],
)
def test_a_number_out_of_range_is_named(echo, option, value, sentence):
    with pytest.raises(ValueError, match=sentence):
        echo.submit(b"x", **{option: value})
    with pytest.raises(TypeError, match=f"{option} is 'x'; it must be an integer"):
        echo.submit(b"x", **{option: "x"})


def test_a_setting_out_of_range_is_named():
    for name in ("capacity", "consumers", "trace_records"):
        with pytest.raises(ValueError, match=f"{name} is -1"):
            gpuq.Queue("echo", **{name: -1})
        with pytest.raises(TypeError, match=f"{name} is 'x'; it must be an integer"):
            gpuq.Queue("echo", **{name: "x"})
    with pytest.raises(ValueError, match="device is .'cpu'.; allowed: auto, cpu, cuda, remote"):
        gpuq.Queue("echo", device=["cpu"])


@pytest.mark.parametrize("kind", [bytes, str])
def test_a_path_may_have_any_bytes(kind):
    path = b"/nowhere/\xff.so"
    with pytest.raises(gpuq.OpenError, match="cannot load '/nowhere/\udcff.so'"):
        gpuq.Queue(path if kind is bytes else path.decode("utf-8", "surrogateescape"), device="cpu")


def test_stats_and_info(echo):
    for i in range(10):
        echo.submit(b"x").result(LIMIT)
    stats = echo.stats()
    assert stats.enq_count == stats.deq_count == stats.finished == 10 and stats.queue_depth == 0
    info = echo.info()
    assert (info.capacity, info.slot_bytes, info.device, info.processor) == (64, 1024, "cpu", "echo")
    assert info.state == "running"


def test_pause_and_resume(echo):
    echo.pause(LIMIT)
    future = echo.submit(b"x")
    assert echo.info().state == "paused"
    with pytest.raises(TimeoutError):
        echo.drain(0.01)
    assert not future.done()
    echo.resume()
    echo.drain(LIMIT)
    assert future.result(LIMIT) == b"x"


def test_a_trace_is_written(tmp_path):
    import json

    with gpuq.Queue("echo", trace_records=100) as queue:
        queue.submit(b"x").result(LIMIT)
        queue.trace_write(tmp_path / "trace.json")
        with pytest.raises(OSError):
            queue.trace_write(tmp_path / "none" / "trace.json")
    assert json.loads((tmp_path / "trace.json").read_text())
    with gpuq.Queue("echo") as queue, pytest.raises(gpuq.UnsupportedError):
        queue.trace_write(tmp_path / "trace.json")


# ---- callbacks that use the queue ------------------------------------------------------------------
# They run in the thread that takes the results, so nobody else would make room, or bring what they wait for.


def test_callbacks_may_send_more_than_the_queue_holds():
    ended = []
    done = threading.Event()

    def again(future):
        ended.append(future.result())
        if len(ended) < 1000:
            for _ in range(3):
                queue.submit(b"y", timeout=LIMIT).add_done_callback(once)
            queue.submit(b"x", timeout=LIMIT).add_done_callback(again)
        else:
            done.set()

    def once(future):
        ended.append(future.result())

    with gpuq.Queue("echo", capacity=2, slot_bytes=16) as queue:
        queue.submit(b"x").add_done_callback(again)
        assert done.wait(LIMIT)


def test_callbacks_of_two_queues_may_send_to_each_other():
    ended = []
    done = threading.Event()

    def to(other, back):
        def callback(future):
            ended.append(1)
            if len(ended) >= 2000:
                done.set()
                return
            for _ in range(2 if len(ended) < 100 else 1):
                other.submit(b"x", timeout=LIMIT).add_done_callback(back())

        return callback

    with gpuq.Queue("echo", capacity=2, slot_bytes=16) as a, gpuq.Queue("echo", capacity=2, slot_bytes=16) as b:
        def from_a():
            return to(b, from_b)

        def from_b():
            return to(a, from_a)

        for _ in range(10):
            a.submit(b"x").add_done_callback(from_a())
        assert done.wait(LIMIT)
        for queue in (a, b):
            queue.drain(LIMIT)


@pytest.mark.parametrize("condition", [False, True])
def test_a_callback_may_wait_for_results(condition):
    got = []
    done = threading.Event()

    def ask(future):
        try:
            got.append(queue.submit(b"one").result(LIMIT))
            got.append(queue.submit_many([b"a", b"b", b"c"] * 5).results(LIMIT)[-1])
            got.extend(queue.map([b"m"] * 9, window=3, ordered=False))
        finally:
            done.set()

    with gpuq.Queue("echo", capacity=4, slot_bytes=16) as queue:
        future = queue.submit(b"x")
        if condition:  # ended by the standard library's methods
            concurrent.futures.wait([future], 0)
        future.add_done_callback(ask)
        assert done.wait(LIMIT)
    assert got == [b"one", b"c"] + [b"m"] * 9


def test_a_callback_may_wait_for_what_came_with_its_own_result():
    got = []
    with gpuq.Queue("echo", capacity=4, slot_bytes=16) as queue:
        queue.pause(LIMIT)
        futures = queue.submit_many([b"1", b"2", b"3"])
        each = [queue.submit(b"4")]
        for future in (*futures, *each):
            future.add_done_callback(lambda f: got.append((futures.results(LIMIT), each[0].result(LIMIT))))
        queue.resume()
        queue.drain(LIMIT)
    assert got == [([b"1", b"2", b"3"], b"4")] * 4


def test_callbacks_of_what_ends_during_one_come_after_it():
    order = []
    done = threading.Event()

    def first(future):
        inner = queue.submit(b"inner")
        inner.add_done_callback(lambda f: (order.append("inner"), done.set()))
        assert inner.result(LIMIT) == b"inner" and inner.done()
        order.append("first")

    with gpuq.Queue("echo", capacity=4, slot_bytes=16) as queue:
        queue.pause(LIMIT)
        future = queue.submit(b"x")
        future.add_done_callback(first)
        queue.resume()
        assert done.wait(LIMIT)
    assert order == ["first", "inner"]


# ---- threads -------------------------------------------------------------------------------------


def test_four_threads_get_their_own_results():
    count = 100_000 if LONG else 10_000
    errors = []

    def work(queue, who):
        try:
            for first in range(0, count, 1000):
                messages = [b"%d %d" % (who, i) for i in range(first, first + 1000)]
                many = queue.submit_many(messages[:500])
                each = [queue.submit(m) for m in messages[500:]]
                assert many.results(LIMIT) == messages[:500]
                assert [f.result(LIMIT) for f in each] == messages[500:]
        except BaseException as error:
            errors.append(error)

    with gpuq.Queue("echo", capacity=256, slot_bytes=64) as queue:
        threads = [threading.Thread(target=work, args=(queue, i)) for i in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not errors
        stats = queue.stats()
        assert stats.enq_count == stats.deq_count == 4 * count


def test_crc32_of_every_length_up_to_a_slot():
    with gpuq.Queue("crc32c", capacity=512, slot_bytes=300) as queue:
        messages = [bytes(range(256))[:i] for i in range(257)]
        results = queue.submit_many(messages).results(LIMIT)
        assert len(set(results)) == 257 and all(len(r) == 4 for r in results)
        assert queue.submit(b"123456789").result(LIMIT) == (0xE3069283).to_bytes(4, "little")
    assert zlib.crc32(b"") == 0
