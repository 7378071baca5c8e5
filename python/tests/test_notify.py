# SPDX-License-Identifier: Apache-2.0
"""Notify, NotifyHandle, Subscription; a queue's completions as events and hooks."""

import asyncio
import gc
import logging
import os
import threading
import time
import weakref

import pytest
from conftest import LIMIT, python_processor
from test_asyncio import run  # noqa: F401

import gpuq


@pytest.fixture
def notify():
    with gpuq.Notify() as notify:
        yield notify


def until(condition):
    end = time.monotonic() + LIMIT
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.001)


def start(function):
    thread = threading.Thread(target=function)
    thread.start()
    return thread


# ---- handles -------------------------------------------------------------------------------------


def test_a_post_after_the_observation_ends_the_wait_at_once(notify):
    handle = notify.register("x")
    key = handle.observe()
    with pytest.raises(gpuq.EmptyError):
        handle.wait(key, timeout=0)
    with pytest.raises(TimeoutError):
        handle.wait(key, timeout=0.02)
    assert handle.post(-5) == 0
    assert handle.post(1 << 62) == 0
    assert handle.wait(key) == (handle.number, 2, 1 << 62, 1)
    assert handle.wait(1).lost == 0
    with pytest.raises(ValueError):
        handle.wait(3, timeout=0)
    with pytest.raises(OverflowError):
        handle.post(1 << 63)


def test_a_post_wakes_every_thread_that_waits_and_says_how_many(notify):
    handle = notify.register()
    got = []
    threads = [start(lambda: got.append(handle.wait(0, LIMIT).arg)) for _ in range(3)]
    until(lambda: notify.stats().waiters == 3)
    assert handle.post(7) == 3
    for thread in threads:
        thread.join()
    assert got == [7, 7, 7]
    assert notify.stats().posts == 1 and notify.stats().reached == 3


def test_the_main_thread_waits_too(notify):
    handle = notify.register()
    thread = start(lambda: (time.sleep(0.25), handle.post(1)))
    assert handle.wait(0).arg == 1
    thread.join()


def test_a_snapshot_says_since_when_a_thread_waits(notify):
    begun = time.monotonic_ns()
    handle = notify.register("for a delivery, déjà vu " + "é" * 40)
    thread = start(lambda: handle.wait(0))
    until(lambda: notify.snapshot()[0].waiters == 1)
    time.sleep(0.25)  # longer than a thread that looks for signals would wait in one go
    (info,) = notify.snapshot()
    assert info.hint.startswith("for a delivery, déjà") and info.handle == handle.number
    assert begun < info.waiting_since_ns < time.monotonic_ns() - 200_000_000
    handle.post(3)
    thread.join()
    assert notify.snapshot()[0][2:4] == (1, 3)
    assert notify.snapshot()[0].waiting_since_ns == 0


@pytest.mark.parametrize("end", ["unregister", "close"])
def test_the_end_of_a_handle_ends_its_waits_and_subscriptions(end):
    notify = gpuq.Notify()
    handle = notify.register()
    subscription = handle.subscribe()
    errors = []

    def wait():
        try:
            handle.wait(0)
        except gpuq.ShutdownError as error:
            errors.append(error)

    thread = start(wait)
    until(lambda: notify.stats().waiters == 1)
    handle.unregister() if end == "unregister" else notify.close()
    thread.join()
    assert len(errors) == 1
    assert list(subscription) == []
    with pytest.raises(gpuq.ShutdownError):
        subscription.recv()
    with pytest.raises(gpuq.StaleError if end == "unregister" else ValueError):
        handle.post()
    notify.close()
    assert notify.closed
    with pytest.raises(ValueError, match="closed"):
        notify.register()


def test_handles_are_known_by_their_numbers(notify):
    handle = notify.register()
    again = gpuq.NotifyHandle(notify, handle.number)
    again.post(5)
    assert handle.wait(0).arg == 5
    with pytest.raises(gpuq.StaleError):
        gpuq.NotifyHandle(notify, handle.number + (1 << 32)).post()
    with pytest.raises(TypeError):
        gpuq.NotifyHandle(None, 1)


def test_limits_are_named():
    with gpuq.Notify(max_handles=2, max_subscribers=1) as notify:
        one = notify.register()
        notify.register()
        with pytest.raises(gpuq.LimitError, match="max_handles"):
            notify.register()
        with one.subscribe():
            with pytest.raises(gpuq.LimitError, match="max_subscribers"):
                one.subscribe()
        one.subscribe().close()
    with pytest.raises(ValueError, match="max_handles"):
        gpuq.Notify(max_handles=1 << 20)


# ---- subscriptions -------------------------------------------------------------------------------


def test_a_subscription_has_every_event_in_order(notify):
    handle = notify.register()
    handle.post(0)  # before it: not its
    with handle.subscribe(4) as subscription:
        for i in range(4):
            assert handle.post(i) == 1
        assert [subscription.recv().arg for _ in range(4)] == [0, 1, 2, 3]
        with pytest.raises(gpuq.EmptyError):
            subscription.recv(0)
        with pytest.raises(gpuq.TimeoutError):
            subscription.recv(0.02)
        thread = start(lambda: (time.sleep(0.15), handle.post(9)))
        assert subscription.recv(LIMIT) == (handle.number, 6, 9, 0)
        thread.join()
    assert subscription.closed
    with pytest.raises(ValueError, match="closed"):
        subscription.recv()


@pytest.mark.parametrize(
    "policy, events",
    [("drop_oldest", [(3, 2), (4, 0)]), ("drop_newest", [(1, 0), (2, 0)]), ("coalesce", [(4, 3)])],
)
def test_a_full_subscription_does_what_its_policy_says(notify, policy, events):
    handle = notify.register()
    subscription = handle.subscribe(2, policy)
    for i in range(1, 5):
        handle.post(i)
    handle.unregister()
    assert [(event.arg, event.lost) for event in subscription] == events


def test_policy_close_ends_a_subscription_that_overflows(notify):
    handle = notify.register()
    subscription = handle.subscribe(1, "close")
    handle.post(1)
    handle.post(2)
    assert subscription.recv().arg == 1
    with pytest.raises(gpuq.LimitError):
        subscription.recv()
    with pytest.raises(ValueError, match="drop_oldest"):
        handle.subscribe(1, "none")
    with pytest.raises(ValueError, match="capacity"):
        handle.subscribe(1 << 20)


def test_closing_a_subscription_ends_the_waits_in_it(notify):
    subscription = notify.register().subscribe()
    errors = []

    def receive():
        try:
            subscription.recv()
        except ValueError as error:
            errors.append(str(error))

    thread = start(receive)
    time.sleep(0.05)
    subscription.close()
    thread.join()
    assert "closed" in errors[0]


def test_subscriptions_outlive_their_queue():
    notify = gpuq.Notify()
    handle = notify.register()
    subscription = handle.subscribe()
    handle.post(1)
    del notify, handle
    gc.collect()
    assert [event.arg for event in subscription] == [1]


def test_tasks_receive_what_other_threads_post(run, notify):  # noqa: F811
    handle = notify.register()
    subscription = handle.subscribe(1000)

    async def take():
        return [event.arg async for event in subscription]

    async def main():
        tasks = [asyncio.ensure_future(take()) for _ in range(3)]
        await asyncio.sleep(0.01)

        def post():
            for i in range(500):
                handle.post(i)
                if i % 100 == 0:
                    time.sleep(0.002)
            handle.unregister()

        thread = start(post)
        got = await asyncio.gather(*tasks)
        thread.join()
        assert sorted(sum(got, [])) == list(range(500))
        assert all(one == sorted(one) for one in got)

    run(main())


def test_a_cancelled_task_takes_no_event(run, notify):  # noqa: F811
    handle = notify.register()
    subscription = handle.subscribe()

    async def main():
        one, two = (asyncio.ensure_future(subscription.arecv()) for _ in range(2))
        await asyncio.sleep(0)
        one.cancel()
        handle.post(1)
        assert (await two).arg == 1
        with pytest.raises(asyncio.CancelledError):
            await one
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(subscription.arecv(), 0.02)
        handle.post(2)
        assert (await subscription.arecv()).arg == 2

    run(main())


@pytest.mark.parametrize("where", ["here", "elsewhere"])
def test_closing_a_subscription_wakes_the_tasks_in_it(run, notify, where):  # noqa: F811
    handle = notify.register()

    async def main():
        for i in range(30):  # a close in another thread comes at any step of a task that wakes
            subscription = handle.subscribe()
            tasks = [asyncio.ensure_future(subscription.arecv()) for _ in range(9)]
            await asyncio.sleep(0)
            if i % 2:
                handle.post()
            if where == "here":
                subscription.close()
            else:
                await asyncio.get_running_loop().run_in_executor(None, subscription.close)
            results = await asyncio.gather(*tasks, return_exceptions=True)
            assert all(isinstance(one, gpuq.NotifyEvent) or "closed" in str(one) for one in results)
            assert sum(isinstance(one, ValueError) for one in results) >= 8

    run(main())


def test_loops_of_several_threads_share_a_subscription(notify):
    handle = notify.register()
    subscription = handle.subscribe(1000)
    got = []

    async def take():
        async for event in subscription:
            got.append(event.arg)

    threads = [start(lambda: asyncio.run(take())) for _ in range(2)]
    for i in range(300):
        handle.post(i)
    handle.unregister()
    for thread in threads:
        thread.join()
    assert sorted(got) == list(range(300))


def test_a_forked_child_is_told_so(notify):
    handle = notify.register()
    subscription = handle.subscribe()
    child = os.fork()
    if child == 0:
        try:
            for call in (handle.post, handle.observe, lambda: subscription.recv(0), notify.stats, notify.register):
                with pytest.raises(gpuq.UnsupportedError):
                    call()
            with gpuq.Notify() as own:
                own.register().post()
            notify.close()
            subscription.close()
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitpid(child, 0)[1] == 0
    handle.post(1)
    assert subscription.recv(0).arg == 1


# ---- a queue's completions -----------------------------------------------------------------------


def test_completions_are_events_by_the_ids_of_futures():
    with gpuq.Queue("echo", device="cpu") as queue:
        with queue.subscribe(capacity=1000) as subscription:
            futures = [queue.submit(b"%d" % i) for i in range(50)] + list(queue.submit_many([b"x"] * 50))
            ids = {subscription.recv(LIMIT).arg for _ in futures}
            assert ids == {future.id for future in futures}
            assert [future.result(LIMIT) for future in futures[:50]] == [b"%d" % i for i in range(50)]


def test_filters_choose_by_tag_priority_and_outcome():
    processor = python_processor(lambda data, m: 3 if data == b"bad" else data)
    with gpuq.Queue(processor, device="cpu") as queue:
        tagged = queue.subscribe(tags=range(10, 20))
        one = queue.subscribe(tags=7)
        high = queue.subscribe(priorities=["high", "urgent"])
        failed = queue.subscribe(statuses="failed")
        sent = {
            "a": queue.submit(b"a", tag=10),
            "b": queue.submit(b"b", tag=19, priority="high"),
            "c": queue.submit(b"c", tag=20),
            "d": queue.submit(b"bad", tag=7, priority="low"),
        }
        ids = {name: future.id for name, future in sent.items()}
    assert {event.arg for event in tagged} == {ids["a"], ids["b"]}
    assert [event.arg for event in one] == [ids["d"]]
    assert [event.arg for event in high] == [ids["b"]]
    assert [event.arg for event in failed] == [ids["d"]]


@pytest.mark.parametrize(
    "wrong",
    [{"tags": range(5, 5)}, {"tags": range(0, 9, 2)}, {"tags": -1}, {"priorities": ["higher"]}, {"statuses": ["good"]},
     {"policy": "none"}],
)
def test_a_filter_that_is_none_is_refused(wrong):
    with gpuq.Queue("echo", device="cpu") as queue:
        with pytest.raises(ValueError, match=next(iter(wrong))):
            queue.subscribe(**wrong)


def test_a_task_follows_the_completions_of_a_queue(run):  # noqa: F811
    async def main():
        async with gpuq.Queue("echo", device="cpu") as queue:
            subscription = queue.subscribe(capacity=1000)

            async def follow():
                return [event.sequence async for event in subscription]

            task = asyncio.ensure_future(follow())
            await asyncio.gather(*(queue(b"x") for _ in range(100)))
        assert await task == list(range(1, 101))

    run(main())


def test_a_hook_is_called_for_each_completion_in_order():
    seen = []
    with gpuq.Queue("echo", device="cpu", consumers=1) as queue:
        queue.on_completion(seen.append)
        futures = [queue.submit(b"x" * i, tag=i) for i in range(100)]
        last = queue.submit(b"", deadline=0)
    assert [c.tag for c in seen[:100]] == list(range(100))
    assert [c.id for c in seen] == [future.id for future in [*futures, last]]
    assert [(c.status, c.length) for c in seen] == [("ok", i) for i in range(100)] + [("expired", 0)]


def test_a_removed_hook_does_not_run():
    inside, go = threading.Semaphore(0), threading.Event()
    seen = []

    def slow(completion):
        inside.release()
        go.wait(LIMIT)
        seen.append(completion)

    with gpuq.Queue("echo", device="cpu") as queue:
        hook = queue.on_completion(slow)
        queue.submit(b"x").result(LIMIT)
        assert inside.acquire(timeout=LIMIT)
        thread = start(hook.remove)
        time.sleep(0.02)
        assert thread.is_alive()  # until the hook has returned
        go.set()
        thread.join()
        assert len(seen) == 1
        queue.submit(b"y").result(LIMIT)
        hook.remove()
    assert len(seen) == 1
    hook.remove()  # of a queue that is closed


def test_hooks_may_remove_themselves_and_raise(caplog):
    seen = []
    with gpuq.Queue("echo", device="cpu") as queue:

        def once(completion):
            hooks[0].remove()
            seen.append(completion.id)
            raise RuntimeError("on purpose")

        hooks = [queue.on_completion(once)]
        with caplog.at_level(logging.ERROR, logger="gpuq"):
            ids = [queue.submit(b"x").id for _ in range(5)]
            queue.drain(LIMIT)
            until(lambda: caplog.records)
    assert seen == ids[:1]
    assert "on purpose" in caplog.text


def test_a_hook_may_close_its_queue():
    queue = gpuq.Queue("echo", device="cpu")
    done = threading.Event()
    seen = []

    def close(completion):
        seen.append(completion)
        if len(seen) == 1:
            queue.close()
            done.set()

    queue.on_completion(close)
    futures = queue.submit_many([b"x"] * 20)
    assert done.wait(LIMIT)
    assert queue.closed
    assert all(f.done() for f in futures)


def test_a_hook_is_let_go_of_with_its_queue():
    class Function:
        def __call__(self, completion):
            pass

    function = Function()
    gone = weakref.ref(function)
    queue = gpuq.Queue("echo", device="cpu")
    queue.on_completion(function)
    del function
    assert gone() is not None
    queue.submit(b"x").result(LIMIT)
    queue.close()
    until(lambda: gone() is None)


def test_sixty_four_hooks_are_the_limit():
    with gpuq.Queue("echo", device="cpu") as queue:
        for _ in range(64):
            queue.on_completion(str)
        with pytest.raises(gpuq.LimitError):
            queue.on_completion(str)
    with pytest.raises(gpuq.ShutdownError):
        queue.on_completion(str)
    with pytest.raises(gpuq.ShutdownError):
        queue.subscribe()
