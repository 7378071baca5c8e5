# SPDX-License-Identifier: Apache-2.0
"""Random sequences of calls against a model, and references counted over many calls."""

import gc
import sys
import sysconfig
import time

import pytest
from conftest import LIMIT, LONG

import gpuq

hypothesis = pytest.importorskip("hypothesis")
from hypothesis import stateful  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

CAPACITY = 8
# Without one, what another thread frees is counted until the thread that had got it looks for memory.
HAS_GIL = not sysconfig.get_config_var("Py_GIL_DISABLED")


class AnyCalls(stateful.RuleBasedStateMachine):
    """Every message is echoed; the model is what each future was sent with, and which slots are held."""

    def __init__(self):
        super().__init__()
        self.queue = gpuq.Queue("echo", capacity=CAPACITY, slot_bytes=32, device="cpu")
        self.sent = []
        self.views = []
        self.reserved = []
        self.paused = False
        self.closed = False

    def room(self):
        """Slots that are surely free, once what is under way has ended."""
        return CAPACITY - len(self.views) - len(self.reserved)

    messages = st.binary(max_size=32)

    @stateful.precondition(lambda self: not self.closed and not self.paused and self.room() > 0)
    @stateful.rule(message=messages, priority=st.sampled_from(["low", "normal", "high", "urgent"]))
    def submit(self, message, priority):
        self.sent.append((self.queue.submit(message, priority=priority), message))

    @stateful.precondition(lambda self: not self.closed and not self.paused and self.room() > 0)
    @stateful.rule(messages=st.lists(messages, max_size=20))
    def submit_many(self, messages):
        futures = self.queue.submit_many(messages)
        assert len(futures) == len(messages)
        self.sent += zip(futures, messages)

    @stateful.precondition(lambda self: not self.closed and not self.paused and self.room() > 1)
    @stateful.rule(message=messages)
    def view(self, message):
        view = self.queue.submit(message, view=True).result(LIMIT)
        assert view == message
        self.views.append((view, message))

    @stateful.precondition(lambda self: self.views)
    @stateful.rule(data=st.data())
    def release(self, data):
        view, message = self.views.pop(data.draw(st.integers(0, len(self.views) - 1)))
        assert view == message  # untouched, whatever came later
        view.release()

    @stateful.precondition(lambda self: not self.closed and not self.paused and self.room() > 1)
    @stateful.rule(message=messages)
    def reserve(self, message):
        self.reserved.append((self.queue.reserve(len(message)), message))

    @stateful.precondition(lambda self: self.reserved and not self.closed)
    @stateful.rule(commit=st.booleans())
    def end_reservation(self, commit):
        reservation, message = self.reserved.pop()
        if commit:
            with reservation as memory:
                memory[:] = message
            self.sent.append((reservation.future, message))
        else:
            reservation.abort()
            assert reservation.future.cancelled()

    @stateful.precondition(lambda self: not self.closed and not self.paused)
    @stateful.rule()
    def pause(self):
        self.queue.pause(LIMIT)
        self.paused = True

    @stateful.precondition(lambda self: self.paused and not self.closed)
    @stateful.rule(message=messages)
    def submit_while_paused(self, message):
        try:
            self.sent.append((self.queue.submit(message, timeout=0), message))
        except gpuq.FullError:
            pass

    @stateful.precondition(lambda self: self.paused and not self.closed)
    @stateful.rule()
    def resume(self):
        self.queue.resume()
        self.paused = False

    # What has been sent depends on time, too: no precondition may.
    @stateful.rule()
    def cancel(self):
        if not self.sent:
            return
        future, message = self.sent.pop()
        if future.cancel():
            assert future.cancelled()
        else:
            assert future.result(0) == message

    @stateful.precondition(lambda self: not self.paused)
    @stateful.rule()
    def results(self):
        for future, message in self.sent:
            assert future.result(LIMIT) == message
        self.sent = []

    @stateful.precondition(lambda self: not self.closed and not self.reserved)
    @stateful.rule()
    def close(self):
        self.queue.close()
        self.closed, self.paused = True, False
        with pytest.raises(gpuq.ShutdownError):
            self.queue.submit(b"")

    @stateful.precondition(lambda self: self.closed)
    @stateful.rule()
    def close_again(self):
        self.queue.close()
        assert self.queue.closed

    def teardown(self):
        for reservation, _ in self.reserved:
            reservation.abort()
        self.queue.close()
        for future, message in self.sent:
            assert future.result(LIMIT) == message
        for view, message in self.views:
            assert view == message


AnyCalls.TestCase.settings = hypothesis.settings(
    max_examples=400 if LONG else 40, stateful_step_count=40, deadline=None, database=None
)
test_any_sequence_of_calls = AnyCalls.TestCase


def _references():
    gc.collect()
    return len(gc.get_objects())


@pytest.mark.parametrize(
    "call",
    [
        lambda q: q.submit(b"x").result(LIMIT),
        lambda q: q.submit(bytearray(b"x"), into=bytearray(4)).result(LIMIT),
        lambda q: q.submit(b"x", view=True).result(LIMIT).release(),
        lambda q: q.submit_many([b"x", b"y"])[1].result(LIMIT),
        lambda q: pytest.raises(ValueError, q.submit, bytes(2000)),
        lambda q: pytest.raises(TypeError, q.submit, "text"),
        lambda q: q.submit(b"x").add_done_callback(str),
        lambda q: q.submit(b"x").cancel(),
    ],
    ids=["submit", "into", "view", "many", "long", "type", "callback", "cancel"],
)
def test_no_reference_is_left_behind(echo, call):
    """Objects that the collector knows, and blocks of memory, do not grow with the number of calls."""
    count = 100_000 if LONG else 3000
    for _ in range(200):
        call(echo)
    echo.drain(LIMIT)
    objects, blocks = _references(), sys.getallocatedblocks()
    for _ in range(count):
        call(echo)
    echo.drain(LIMIT)
    end = time.monotonic() + LIMIT  # the futures end after their messages, in the completion thread
    while _references() - objects >= 100 and time.monotonic() < end:
        time.sleep(0.01)
    assert _references() - objects < 100
    assert not HAS_GIL or sys.getallocatedblocks() - blocks < count // 10


def test_no_reference_to_a_ring_message_is_left_behind():
    with gpuq.Ring(8, 64) as ring:
        for count in (200, 100_000 if LONG else 20_000):
            blocks = sys.getallocatedblocks()
            for _ in range(count):
                ring.send(b"message")
                ring.recv()
            ring.recv_many()
        assert not HAS_GIL or sys.getallocatedblocks() - blocks < count // 10


def _post(handle, subscription):
    handle.post(1 << 40)
    subscription.recv()
    pytest.raises(gpuq.EmptyError, subscription.recv, 0)


def _subscribe(handle, subscription):
    with handle.subscribe(1, "coalesce"):
        handle.post()
    subscription.recv()


def _write(pipe, reader):
    pipe.write(b"x" * 1000)
    pipe.writev([b"y", bytearray(b"z")])
    reader.read()
    pytest.raises(gpuq.EmptyError, reader.read, 1, 0)


def _open(pipe, reader):
    with pipe.reader() as other:
        pytest.raises((gpuq.LaggedError, gpuq.EmptyError), other.read, 1, 0)
    pipe.stats()


@pytest.mark.parametrize("call", [_post, _subscribe, _write, _open])
def test_no_reference_to_an_event_or_a_piece_is_left_behind(call):
    count = 100_000 if LONG else 3000
    with gpuq.Notify() as notify, gpuq.Pipe(1 << 14, policy="drop_history") as pipe:
        handle, reader = notify.register(), pipe.reader()
        of = (pipe, reader) if call in (_write, _open) else (handle, handle.subscribe())
        for _ in range(200):
            call(*of)
        objects, blocks = _references(), sys.getallocatedblocks()
        for _ in range(count):
            call(*of)
        assert _references() - objects < 100
        assert not HAS_GIL or sys.getallocatedblocks() - blocks < count // 10


def test_no_reference_to_a_hook_is_left_behind(echo):
    def cycle():
        echo.on_completion(list().append, tags=range(5)).remove()
        with echo.subscribe(statuses="ok"):
            pass

    for _ in range(50):
        cycle()
    objects, blocks = _references(), sys.getallocatedblocks()
    for _ in range(5000 if LONG else 500):
        cycle()
    assert _references() - objects < 100
    assert sys.getallocatedblocks() - blocks < 100
