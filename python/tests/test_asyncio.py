# SPDX-License-Identifier: Apache-2.0
"""Event loops: awaited messages on asyncio and on uvloop."""

import asyncio
import threading

import pytest
from conftest import LIMIT, python_processor

import gpuq


def _loops():
    yield pytest.param(asyncio.new_event_loop, id="asyncio")
    try:
        import uvloop
    except ImportError:
        yield pytest.param(None, id="uvloop", marks=pytest.mark.skip(reason="there is no uvloop"))
    else:
        yield pytest.param(uvloop.new_event_loop, id="uvloop")


@pytest.fixture(params=list(_loops()))
def run(request):
    def run(main):
        loop = request.param()
        try:
            return loop.run_until_complete(asyncio.wait_for(main, LIMIT))
        finally:
            loop.run_until_complete(loop.shutdown_default_executor())
            loop.close()

    return run


def test_ten_thousand_awaited_messages_come_back_as_they_are(run):
    async def main():
        async with gpuq.Queue("echo", capacity=64, slot_bytes=16) as queue:
            results = await asyncio.gather(*(queue(b"%d" % i) for i in range(10_000)))
            assert results == [b"%d" % i for i in range(10_000)]
        assert queue.closed

    run(main())


def test_awaited_messages_need_no_thread_of_python(run):
    async def main():
        async with gpuq.Queue("echo") as queue:
            await queue(b"x")
            assert not any(t.name == "gpuq-complete" for t in threading.enumerate())

    run(main())


def test_awaited_and_submitted_messages_side_by_side(run):
    async def main():
        async with gpuq.Queue("echo", capacity=32) as queue:
            for _ in range(20):
                awaited = [asyncio.ensure_future(queue(b"a%d" % i)) for i in range(50)]
                await asyncio.sleep(0)
                futures = await asyncio.get_running_loop().run_in_executor(
                    None, lambda: [queue.submit(b"s%d" % i) for i in range(50)]
                )
                assert await asyncio.gather(*awaited) == [b"a%d" % i for i in range(50)]
                assert [await f for f in futures] == [b"s%d" % i for i in range(50)]

    run(main())


def test_a_cancelled_task_cancels_its_message(run, gate):
    async def main():
        async with gpuq.Queue(python_processor(gate.process), capacity=4, consumers=1, device="cpu") as queue:
            first = asyncio.ensure_future(queue(b"first"))
            await asyncio.sleep(0)
            await asyncio.get_running_loop().run_in_executor(None, gate.await_start)
            second = asyncio.ensure_future(queue(b"second"))
            await asyncio.sleep(0)
            second.cancel()
            with pytest.raises(asyncio.CancelledError):
                await second
            gate.open.set()
            assert await first == b"first"
        assert gate.seen == [b"first"]

    run(main())


def test_a_task_cancelled_while_it_waits_for_a_slot_leaves_it_to_the_next(run, gate):
    async def main():
        async with gpuq.Queue(python_processor(gate.process), capacity=1, consumers=1, device="cpu") as queue:
            tasks = [asyncio.ensure_future(queue(b"%d" % i)) for i in range(4)]
            for _ in range(3):
                await asyncio.sleep(0)
            tasks[1].cancel()
            gate.open.set()
            results = await asyncio.gather(*tasks, return_exceptions=True)
            assert isinstance(results[1], asyncio.CancelledError)
            assert [results[i] for i in (0, 2, 3)] == [b"0", b"2", b"3"]

    run(main())


def test_a_time_out_of_the_loop(run, gate):
    async def main():
        async with gpuq.Queue(python_processor(gate.process), capacity=4, consumers=1, device="cpu") as queue:
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(queue(b"x"), 0.02)
            gate.open.set()
            assert await queue(b"y") == b"y"

    run(main())


def test_failures_are_raised_where_they_are_awaited(run):
    async def main():
        async with gpuq.Queue(python_processor(lambda data, m: 3), device="cpu") as queue:
            with pytest.raises(gpuq.FailedError, match="failure 3"):
                await queue(b"x")
            with pytest.raises(ValueError):
                await queue(bytes(5000))
            with pytest.raises(TypeError):
                await queue(b"x", timeout=1)

    run(main())


def test_views_are_awaited_too(run):
    async def main():
        async with gpuq.Queue("echo", capacity=1) as queue:
            for i in range(3):
                with await queue(b"%d" % i, view=True) as view:
                    assert view == b"%d" % i

    run(main())


def test_two_loops_of_two_threads_share_a_queue():
    with gpuq.Queue("echo", capacity=16) as queue:
        results = {}

        async def main(who):
            return await asyncio.gather(*(queue(b"%d %d" % (who, i)) for i in range(2000)))

        def work(who):
            results[who] = asyncio.run(main(who))

        threads = [threading.Thread(target=work, args=(who,)) for who in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert all(results[who] == [b"%d %d" % (who, i) for i in range(2000)] for who in range(2))


def test_a_queue_serves_one_loop_after_another():
    with gpuq.Queue("echo") as queue:

        async def main():
            return await queue(b"x")

        assert [asyncio.run(main()) for _ in range(3)] == [b"x"] * 3


def test_closing_a_queue_under_a_loop_ends_what_is_awaited(run, gate):
    async def main():
        queue = gpuq.Queue(python_processor(gate.process), capacity=4, consumers=1, device="cpu")
        first, second = (asyncio.ensure_future(queue(m)) for m in (b"first", b"second"))
        await asyncio.sleep(0)
        await asyncio.get_running_loop().run_in_executor(None, gate.await_start)
        with pytest.raises(TimeoutError):
            await queue.aclose(0.01)
        with pytest.raises(asyncio.CancelledError):
            await second
        gate.open.set()
        assert await first == b"first"
        await queue.aclose()
        assert queue.closed

    run(main())
