#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Run a command, and serve what it writes to any number of TCP clients.

usage: follow.py [--port PORT] [--keep BYTES] [--check] COMMAND [ARGUMENT...]

Each client gets the whole output from its first byte, whenever it connects, then what comes, then the end: try
`nc localhost PORT` in several terminals. A client that is slow holds up neither the command nor other clients. If
the output is more than --keep, clients that come late, or are too slow, begin where it is still kept.

--check: no server; connects clients of its own, early and late, and says whether all of them got the same.
"""

import argparse
import asyncio
import errno

import gpuq


async def run_command(command: list[str], pipe: gpuq.Pipe) -> int:
    """The command's output into the pipe; its exit status."""
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    while data := await process.stdout.read(65536):
        pipe.write(data)
    status = await process.wait()
    if status != 0:
        pipe.set_error(errno.EIO)  # no client takes the half of it for the whole
    pipe.close()
    return status


async def serve(pipe: gpuq.Pipe, writer: asyncio.StreamWriter) -> None:
    """The stream to one client."""
    with pipe.reader() as reader:
        try:
            while True:
                try:
                    data = await reader.aread()
                except gpuq.LaggedError:
                    data = f"[here {reader.offset} bytes are not kept any more]\n".encode()
                if not data:
                    break
                writer.write(data)
                await writer.drain()
        except gpuq.FailedError:
            writer.write(b"[the command has failed]\n")
        except ConnectionError:
            pass  # this client has gone
    writer.close()


async def receive(port: int) -> bytes:
    reader, writer = await asyncio.open_connection("localhost", port)
    data = await reader.read()
    writer.close()
    return data


async def main() -> int:
    parser = argparse.ArgumentParser(description="Serve a command's output to any number of TCP clients.")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--keep", type=int, default=1 << 26, metavar="BYTES")
    parser.add_argument("--check", action="store_true")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    options = parser.parse_args()
    if not options.command:
        parser.error("there is no command")

    with gpuq.Pipe(options.keep, policy="drop_history") as pipe:
        server = await asyncio.start_server(lambda _, writer: serve(pipe, writer), "localhost", options.port)
        port = server.sockets[0].getsockname()[1]
        async with server:
            early = [asyncio.create_task(receive(port)) for _ in range(3 if options.check else 0)]
            if not options.check:
                print(f"localhost:{port}", flush=True)
            status = await run_command(options.command, pipe)
            if not options.check:
                await server.serve_forever()
            results = await asyncio.gather(*early, *(receive(port) for _ in range(3)))
    if len(set(results)) != 1:
        raise SystemExit("follow.py: the clients got different streams")
    print(f"{len(results)} clients got the same {len(results[0])} bytes")
    return status


if __name__ == "__main__":
    try:
        raise SystemExit(asyncio.run(main()))
    except KeyboardInterrupt:
        pass
