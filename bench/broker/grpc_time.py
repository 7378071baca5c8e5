# SPDX-License-Identifier: Apache-2.0
"""grpc_time.py ADDRESS [--smoke]: 64 bytes there and back by gRPC, client and server in Python.

The server is a process of its own with one worker thread; messages are bytes without protobuf. One
call at a time, and a stream whose client has 32 messages outstanding. Prints JSON lines.
"""
import json
import queue
import statistics
import subprocess
import sys
import time
from concurrent import futures

import grpc

PAYLOAD = b"x" * 64
BATCH = 32


def serve(address):
    handlers = {
        "one": grpc.unary_unary_rpc_method_handler(lambda request, _: request),
        "many": grpc.stream_stream_rpc_method_handler(lambda requests, _: requests),
    }
    server = grpc.server(futures.ThreadPoolExecutor(1))
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("echo", handlers),))
    server.add_insecure_port(address)
    server.start()
    sys.stdin.read()  # until the client closes it
    server.stop(0)


def round_trips(one, count):
    took = []
    for _ in range(count):
        before = time.monotonic_ns()
        assert one(PAYLOAD) == PAYLOAD
        took.append(time.monotonic_ns() - before)
    return statistics.median(took)


def stream(many, batches):
    """Messages a second in millions: batches of 32, the next when the one before is back."""
    ready = queue.SimpleQueue()

    def requests():
        for _ in range(batches):
            ready.get()
            for _ in range(BATCH):
                yield PAYLOAD

    before = time.monotonic_ns()
    ready.put(None)
    replies = many(requests())
    for number, reply in enumerate(replies, 1):
        assert reply == PAYLOAD
        if number % BATCH == 0:
            ready.put(None)
    return batches * BATCH * 1e3 / (time.monotonic_ns() - before)


def main():
    if sys.argv[1] == "--serve":
        serve(sys.argv[2])
        return
    smoke = "--smoke" in sys.argv
    rounds, trips, batches = (1, 5, 2) if smoke else (7, 1000, 100)
    server = subprocess.Popen([sys.executable, __file__, "--serve", sys.argv[1]], stdin=subprocess.PIPE)
    with grpc.insecure_channel(sys.argv[1]) as channel:
        grpc.channel_ready_future(channel).result(60)
        one, many = channel.unary_unary("/echo/one"), channel.stream_stream("/echo/many")
        figures = [(round_trips(one, trips), stream(many, batches)) for _ in range(rounds)]
    server.stdin.close()
    server.wait()
    for case, batch, metric, unit, which in (
        ("round_trip", 1, "p50", "ns", 0),
        ("throughput", BATCH, "rate", "Mmsg/s", 1),
    ):
        print(
            json.dumps(
                {
                    "case": case,
                    "peer": "grpc",
                    "variant": "python",
                    "size": len(PAYLOAD),
                    "batch": batch,
                    "metric": metric,
                    "unit": unit,
                    "samples": [round(figure[which], 6) for figure in figures],
                }
            )
        )


main()
