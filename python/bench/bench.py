# SPDX-License-Identifier: Apache-2.0
"""What a message costs from Python, beside C on the same queue and beside what Python has for the purpose.

usage: python bench.py [--c PROGRAM] [--rounds N]

PROGRAM is bench_c.c, compiled (see python/bench/run). The rounds are interleaved: every round measures everything
once. Prints medians with the smallest and the largest, as a Markdown table. CPU device, processor "echo".
"""

import argparse
import asyncio
import concurrent.futures
import os
import statistics
import subprocess
import time

import gpuq

BATCH, BYTES, CAPACITY = 256, 64, 4096
SETTINGS = {"device": "cpu", "capacity": CAPACITY, "slot_bytes": BYTES}
C = "C: q_enqueue_batch of 256, results copied by another thread"
MANY = "submit_many of 256, results()"
MESSAGE = bytes(BYTES)


def clock(count, work):
    began = time.perf_counter()
    work(count)
    return count / (time.perf_counter() - began)


def submit_many(queue, batches):
    messages = [MESSAGE] * BATCH
    under_way = []

    def work(count):
        for _ in range(count // BATCH):
            under_way.append(queue.submit_many(messages))
            if len(under_way) > 16:
                assert len(under_way.pop(0).results()) == BATCH
        while under_way:
            under_way.pop(0).results()

    return clock(batches * BATCH, work)


def submit(submit_one, count):
    def work(count):
        futures = [submit_one() for _ in range(count)]
        for future in futures:
            future.result()

    return clock(count, work)


def submit_only(queue, count):
    """The call alone, as a producer sees it; the results are waited for outside the time."""
    futures = []
    rate = clock(count, lambda n: futures.extend(queue.submit(MESSAGE) for _ in range(n)))
    for future in futures:
        future.result()
    return rate


async def awaited(queue, count):
    times = []
    for _ in range(count):
        began = time.perf_counter()
        await queue(MESSAGE)
        times.append(time.perf_counter() - began)
    return statistics.median(times)


async def hand_off(count):
    """To another task and back, by two asyncio queues."""
    there, back = asyncio.Queue(), asyncio.Queue()

    async def other():
        while True:
            await back.put(await there.get())

    task = asyncio.ensure_future(other())
    times = []
    for _ in range(count):
        began = time.perf_counter()
        await there.put(MESSAGE)
        await back.get()
        times.append(time.perf_counter() - began)
    task.cancel()
    return statistics.median(times)


async def gathered(queue, count):
    began = time.perf_counter()
    for _ in range(count // 1000):
        await asyncio.gather(*(queue(MESSAGE) for _ in range(1000)))
    return count / (time.perf_counter() - began)


def round_trip(queue, count):
    times = []
    for _ in range(count):
        began = time.perf_counter()
        queue.submit(MESSAGE).result()
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def pool_round_trip(pool, count):
    times = []
    for _ in range(count):
        began = time.perf_counter()
        pool.submit(int).result()
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def measure(program, rates, spans):
    if program:
        out = subprocess.run([program, "4000"], capture_output=True, text=True, check=True).stdout
        rates.setdefault(C, []).append(float(out))
    with gpuq.Queue("echo", **SETTINGS) as queue:
        rates.setdefault(MANY, []).append(submit_many(queue, 2000))
        rates.setdefault("submit, then result() of all", []).append(submit(lambda: queue.submit(MESSAGE), 50_000))
        rates.setdefault("submit, the call alone", []).append(submit_only(queue, 50_000))
        spans.setdefault("submit(...).result()", []).append(round_trip(queue, 2000))
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        rates.setdefault("ThreadPoolExecutor.submit(int), then result() of all", []).append(
            submit(lambda: pool.submit(int), 10_000)
        )
        spans.setdefault("ThreadPoolExecutor.submit(int).result()", []).append(pool_round_trip(pool, 2000))

    async def loop():
        async with gpuq.Queue("echo", **SETTINGS) as queue:
            spans.setdefault("await queue(...)", []).append(await awaited(queue, 2000))
            spans.setdefault("to a task and back by two asyncio.Queue", []).append(await hand_off(2000))
            rates.setdefault("await queue(...), 1000 at a time", []).append(await gathered(queue, 20_000))

    asyncio.run(loop())


def row(name, values, scale, form):
    middle = statistics.median(values) * scale
    return f"| {name} | {form % middle} | {form % (min(values) * scale)} to {form % (max(values) * scale)} |"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--c", metavar="PROGRAM")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    rates, spans = {}, {}
    for _ in range(arguments.rounds):
        measure(arguments.c and os.path.abspath(arguments.c), rates, spans)
    print("| 64 bytes | thousand a second, median | smallest to largest |\n|---|---:|---:|")
    for name, values in rates.items():
        print(row(name, values, 1e-3, "%.0f"))
    if C in rates:
        ratios = [ours / c for ours, c in zip(rates[MANY], rates[C])]
        print("\n| within a round | ratio, median | smallest to largest |\n|---|---:|---:|")
        print(row("submit_many to C", ratios, 1, "%.2f"))
    print("\n| one at a time, p50 | us, median | smallest to largest |\n|---|---:|---:|")
    for name, values in spans.items():
        print(row(name, values, 1e6, "%.1f"))


if __name__ == "__main__":
    main()
