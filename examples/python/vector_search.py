# SPDX-License-Identifier: Apache-2.0
"""The rows of a matrix that are most alike to each of many queries, by the stock processor vecdot.

usage: python vector_search.py [--rows N] [--dim N] [--queries N] [--best N]

Needs NumPy, against which every answer is checked.
"""

from __future__ import annotations

import argparse
import struct
import time

import numpy as np
from numpy.typing import NDArray

import gpuq

HIT = np.dtype([("index", "<u4"), ("score", "<f4")])


class Index:
    """Search in a matrix of float32, rows by dimensions."""

    def __init__(self, matrix: NDArray[np.float32], best: int) -> None:
        rows, dim = matrix.shape
        # The header of kernels/vecdot.h, then the matrix.
        header = struct.pack("<16I", 0x544F4456, 1, rows, dim, best, *[0] * 11)
        data = header + np.ascontiguousarray(matrix, dtype=np.float32).tobytes()
        self.queue = gpuq.Queue("vecdot", slot_bytes=4 * dim, result_bytes=HIT.itemsize * best, data=data)

    def search(self, queries: NDArray[np.float32]) -> list[NDArray[np.void]]:
        """For each query its best rows, the highest score first."""
        messages = [np.ascontiguousarray(query, dtype=np.float32) for query in queries]
        return [np.frombuffer(result, dtype=HIT) for result in self.queue.submit_many(messages).results()]

    def close(self) -> None:
        self.queue.close()


def check(matrix: NDArray[np.float32], queries: NDArray[np.float32], found: list[NDArray[np.void]]) -> None:
    """NumPy adds in another order, so scores may differ in their last bits."""
    scores = queries.astype(np.float64) @ matrix.T.astype(np.float64)
    for row, hits in zip(scores, found):
        expected = np.sort(row)[::-1][: len(hits)]
        np.testing.assert_allclose(hits["score"], expected, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(row[hits["index"]], hits["score"], rtol=1e-4, atol=1e-4)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, value in (("rows", 10_000), ("dim", 128), ("queries", 200), ("best", 10)):
        parser.add_argument(f"--{name}", type=int, default=value)
    arguments = parser.parse_args()
    random = np.random.default_rng(1)
    matrix = random.standard_normal((arguments.rows, arguments.dim), dtype=np.float32)
    queries = random.standard_normal((arguments.queries, arguments.dim), dtype=np.float32)
    index = Index(matrix, arguments.best)
    began = time.perf_counter()
    found = index.search(queries)
    took = time.perf_counter() - began
    index.close()
    check(matrix, queries, found)
    print(f"{len(found)} queries in {took:.3f} s, all as NumPy finds them")


if __name__ == "__main__":
    main()
