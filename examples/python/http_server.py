# SPDX-License-Identifier: Apache-2.0
"""An HTTP server that answers each POST with the SHA-256 of its body, and a load test of it.

usage: python http_server.py [--port N]
       python http_server.py --load [--connections N] [--requests N]

Each request awaits its own message, and nothing here makes batches: what is under way at one time fills the
queue. It speaks as much of HTTP/1.1 as the load test needs, and is an example, not a server for strangers.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import time

import gpuq

LARGEST = 1 << 16


async def read_request(reader: asyncio.StreamReader) -> tuple[str, bytes] | None:
    """Method and body, or None at the end of the connection."""
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    except asyncio.IncompleteReadError:
        return None
    fields = dict(line.lower().split(": ", 1) for line in head[1:] if ": " in line)
    length = int(fields.get("content-length", "0"))
    if not 0 <= length <= LARGEST:
        return head[0].split(" ")[0], b"\0" * (LARGEST + 1)
    return head[0].split(" ")[0], await reader.readexactly(length)


def response(status: str, body: bytes) -> bytes:
    return b"HTTP/1.1 %s\r\nContent-Length: %d\r\n\r\n%s" % (status.encode(), len(body), body)


class Server:
    """One queue for all connections."""

    def __init__(self, queue: gpuq.Queue) -> None:
        self.queue = queue
        self.most = 0  # messages that were under way at one time
        self.under_way = 0

    async def answer(self, method: str, body: bytes) -> bytes:
        if method != "POST":
            return response("405 Method Not Allowed", b"")
        if len(body) > LARGEST:
            return response("413 Content Too Large", b"")
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        try:
            return response("200 OK", (await self.queue(body)).hex().encode())
        except gpuq.Error as error:
            return response("503 Service Unavailable", str(error).encode())
        finally:
            self.under_way -= 1

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while (request := await read_request(reader)) is not None:
                writer.write(await self.answer(*request))
                await writer.drain()
        except (ConnectionError, ValueError, asyncio.LimitOverrunError, asyncio.IncompleteReadError):
            pass  # a client that left, or that does not speak HTTP
        finally:
            writer.close()


async def client(port: int, requests: int, who: int, times: list[float]) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for i in range(requests):
        body = b"%d %d " % (who, i) * 8
        began = time.perf_counter()
        writer.write(b"POST / HTTP/1.1\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
        head = await reader.readuntil(b"\r\n\r\n")
        digest = await reader.readexactly(64)
        times.append(time.perf_counter() - began)
        if b" 200 " not in head or digest.decode() != hashlib.sha256(body).hexdigest():
            raise SystemExit(f"request {i} of client {who} got a wrong answer: {head!r} {digest!r}")
    writer.close()
    await writer.wait_closed()


async def load(connections: int, requests: int) -> None:
    async with gpuq.Queue("sha256", capacity=1024, slot_bytes=LARGEST, result_bytes=32) as queue:
        server = Server(queue)
        listening = await asyncio.start_server(server.serve, "127.0.0.1", 0)
        port = listening.sockets[0].getsockname()[1]
        times: list[float] = []
        began = time.perf_counter()
        await asyncio.gather(*(client(port, requests, who, times) for who in range(connections)))
        took = time.perf_counter() - began
        listening.close()
        times.sort()
        print(
            f"{len(times)} requests of {connections} connections, all answered right: "
            f"{len(times) / took:.0f} a second, p50 {times[len(times) // 2] * 1e3:.2f} ms, "
            f"p99 {times[len(times) * 99 // 100] * 1e3:.2f} ms, at most {server.most} under way"
        )


async def run(port: int) -> None:
    async with gpuq.Queue("sha256", capacity=1024, slot_bytes=LARGEST, result_bytes=32) as queue:
        server = await asyncio.start_server(Server(queue).serve, "127.0.0.1", port)
        print(f"http://127.0.0.1:{port}/")
        async with server:
            await server.serve_forever()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--port", type=int, default=8080)
    parser.add_argument("--load", action="store_true")
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--requests", type=int, default=100, help="of each connection")
    arguments = parser.parse_args()
    if arguments.load:
        asyncio.run(load(arguments.connections, arguments.requests))
    else:
        try:
            asyncio.run(run(arguments.port))
        except KeyboardInterrupt:
            pass


if __name__ == "__main__":
    main()
