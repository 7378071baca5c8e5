# SPDX-License-Identifier: Apache-2.0
"""Queues of gpuqd: the same calls, and what they say when gpuqd goes. GPUQ_GPUQD is the daemon."""

import asyncio
import concurrent.futures
import hashlib
import os
import signal
import subprocess
import time

import pytest
from conftest import LIMIT

import gpuq

GPUQD = os.environ.get("GPUQ_GPUQD")
pytestmark = pytest.mark.skipif(not GPUQD or not os.path.exists(GPUQD), reason="gpuqd is not built: GPUQ_GPUQD")


class Daemon:
    def __init__(self, folder):
        self.socket = folder / "gpuqd.sock"
        config = folder / "gpuqd.conf"
        config.write_text(
            f"[gpuqd]\nsocket = {self.socket}\ndrain_ms = 0\n[queue default]\nper_client = yes\ndevice = cpu\n"
            "slot_bytes = 64KiB\nresult_bytes = 64KiB\n"
        )
        self.process = subprocess.Popen([GPUQD, "--config", config], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        assert b"listening" in self.process.stdout.readline()

    def end(self, number):
        self.process.send_signal(number)
        self.process.wait(LIMIT)
        self.process.stdout.close()


@pytest.fixture
def daemon(tmp_path):
    daemon = Daemon(tmp_path)
    yield daemon
    if daemon.process.poll() is None:
        daemon.end(signal.SIGTERM)


def test_a_queue_of_gpuqd_is_used_like_any_other(daemon):
    with gpuq.Queue("sha256", endpoint=f"unix:{daemon.socket}", capacity=64, slot_bytes=128) as queue:
        assert queue.submit(b"hello").result(LIMIT) == hashlib.sha256(b"hello").digest()
        messages = [b"%d" % i for i in range(1000)]
        digests = [hashlib.sha256(m).digest() for m in messages]
        assert queue.submit_many(messages).results(LIMIT) == digests
        assert list(queue.map(messages)) == digests
        with queue.submit(b"seen", view=True).result(LIMIT) as view:
            assert view == hashlib.sha256(b"seen").digest()
        room = bytearray(32)
        assert queue.submit(b"into", into=room).result(LIMIT) == 32
        reservation = queue.reserve(5)
        with reservation as memory:
            memory[:] = b"hello"
        assert reservation.future.result(LIMIT) == hashlib.sha256(b"hello").digest()
        info = queue.info()
        assert (info.device, info.processor, info.state) == ("remote", "sha256", "running")
        assert queue.stats().lost == 0


def test_the_environment_chooses_gpuqd(daemon, monkeypatch):
    monkeypatch.setenv("GPUQ_DEVICE", f"unix:{daemon.socket}")
    with gpuq.Queue("echo") as queue:
        assert queue.info().device == "remote" and queue.submit(b"x").result(LIMIT) == b"x"
    with gpuq.Queue("echo", device="cpu") as queue:
        assert queue.info().device == "cpu"


def test_event_loops_await_gpuqd(daemon):
    async def main():
        async with gpuq.Queue("echo", endpoint=f"unix:{daemon.socket}", capacity=16) as queue:
            return await asyncio.gather(*(queue(b"%d" % i) for i in range(500)))

    assert asyncio.run(main()) == [b"%d" % i for i in range(500)]


def test_a_gpuqd_that_is_not_there_is_named(tmp_path):
    with pytest.raises(gpuq.OpenError, match="nothing.sock"):
        gpuq.Queue("echo", endpoint=f"unix:{tmp_path}/nothing.sock")
    with pytest.raises(ValueError, match="endpoint"):
        gpuq.Queue("echo", endpoint=f"unix:{tmp_path}/nothing.sock", device="cpu")


@pytest.mark.parametrize(
    "processor", [lambda: gpuq.Processor.from_cuda("nothing"), lambda: gpuq.Processor.from_cfunc(1)]
)
def test_a_processor_of_ones_own_is_refused_clearly(daemon, processor):
    with pytest.raises(gpuq.OpenError, match="gpuqd runs its own"):
        gpuq.Queue(processor(), endpoint=f"unix:{daemon.socket}")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_everything_ends_when_gpuqd_does(daemon, number):
    """A message has its result, or is lost, or was cancelled; none is left, and no call waits for ever."""
    queue = gpuq.Queue("sha256", endpoint=f"unix:{daemon.socket}", capacity=1024, slot_bytes=1 << 16)
    outcomes = []
    hook = queue.on_completion(lambda c: outcomes.append(c.status))
    assert queue.submit(b"x").result(LIMIT) == hashlib.sha256(b"x").digest()
    futures = [queue.submit(bytes(1 << 16)) for _ in range(200)]
    many = queue.submit_many([bytes(1 << 16)] * 200)

    async def awaited():
        tasks = [asyncio.ensure_future(queue(bytes(1 << 16))) for _ in range(200)]
        await asyncio.sleep(0)
        await asyncio.to_thread(daemon.end, number)
        return await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), LIMIT)

    ends = asyncio.run(awaited()) + many.results(LIMIT, return_exceptions=True)
    assert not concurrent.futures.wait(futures, LIMIT).not_done
    ends += [f.exception() for f in futures if not f.cancelled()]
    allowed = (bytes, type(None), gpuq.LostError, gpuq.CancelledError, asyncio.CancelledError)
    assert {type(one) for one in ends if not isinstance(one, allowed)} == set()

    # Until it has been noticed a message may be accepted, and ends at once.
    end = time.monotonic() + LIMIT
    while True:
        try:
            outcome = queue.submit(b"after").exception(LIMIT)
        except gpuq.LostError:
            break
        except gpuq.CancelledError as error:
            outcome = error
        assert isinstance(outcome, gpuq.Error) and time.monotonic() < end
    with pytest.raises(gpuq.LostError):
        queue.submit_many([b"a", b"b"])
    with pytest.raises(gpuq.LostError):
        asyncio.run(queue(b"awaited"))
    with pytest.raises(ConnectionError):
        queue.reserve(3)
    stats = queue.stats()
    assert stats.queue_depth == 0 and stats.lost <= stats.finished
    hook.remove()
    queue.close()
    assert set(outcomes) <= {"ok", "lost", "cancelled"}
