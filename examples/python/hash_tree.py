# SPDX-License-Identifier: Apache-2.0
"""SHA-256 of every file below the folders named, as sha256sum prints it.

usage: python hash_tree.py FOLDER...

Files of more than --largest bytes are left out, and said. Results come in the order of the names.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections import deque
from collections.abc import Iterator

import gpuq


def files(folders: list[str], largest: int) -> Iterator[tuple[str, bytes]]:
    """(path, content), one after the other: no more is in memory than is under way."""
    for top in folders:
        for folder, names, leaves in os.walk(top):
            names.sort()
            for leaf in sorted(leaves):
                path = os.path.join(folder, leaf)
                try:
                    if os.path.islink(path) or not os.path.isfile(path):
                        continue
                    if os.path.getsize(path) > largest:
                        print(f"{path}: left out, it has more than {largest} bytes", file=sys.stderr)
                        continue
                    with open(path, "rb") as file:
                        yield path, file.read(largest + 1)[:largest]
                except OSError as error:
                    print(f"{path}: {error.strerror}", file=sys.stderr)


def digests(folders: list[str], largest: int, window: int = 64) -> Iterator[tuple[str, str]]:
    """(path, digest in hexadecimal)."""
    under_way: deque[tuple[str, gpuq.Future]] = deque()
    with gpuq.Queue("sha256", capacity=window, slot_bytes=largest, result_bytes=32) as queue:
        for path, content in files(folders, largest):
            under_way.append((path, queue.submit(content)))
            while len(under_way) >= window or (under_way and under_way[0][1].done()):
                done, future = under_way.popleft()
                yield done, future.result().hex()
        for done, future in under_way:
            yield done, future.result().hex()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="+")
    parser.add_argument("--largest", type=int, default=1 << 20, metavar="BYTES")
    arguments = parser.parse_args()
    for path, digest in digests(arguments.folder, arguments.largest):
        print(f"{digest}  {path}")


if __name__ == "__main__":
    main()
