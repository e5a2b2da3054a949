"""Exclusive prefix sums: each block sums a tile, the tiles' sums are summed the same way, and added."""

# mypy: ignore-errors
# ruff: noqa: F821
from __future__ import annotations

from typing import Any

import numpy as np

from finequery.operators.cuda.launch import launch_runs, tiles

#: Rows of a thread's run (32 bytes of counts, one sector), rows of a tile at most, threads of a block.
RUN, MOST, THREADS = 4, 1 << 20, 256


def exclusive_scan(device: Any, values: Any) -> Any:
    """Put the sum of all values before it in place of each of an int64 array on the device (sums wrap around); the sum
    of all, in an array of one."""
    rows = values.size
    _, count, _ = tiles(device, rows, RUN, MOST, THREADS)
    sums = device.empty(count, np.int64, "counters" if count == 1 else "scratch")  # one: the CPU will ask for it
    launch_runs(scan_tiles, device, rows, RUN, MOST, THREADS, values, sums)
    if count == 1:
        return sums
    total = exclusive_scan(device, sums)
    launch_runs(add_to_tiles, device, rows, RUN, MOST, THREADS, values, sums)
    return total


def scan_tiles(n, each, tiles, values, sums):
    """Exclusive sums within each tile, and the tile's sum."""
    for tile in range(cuda.blockIdx.x, tiles, cuda.gridDim.x):
        first = min((tile * cuda.blockDim.x + cuda.threadIdx.x) * each, n)
        end = min(first + each, n)
        total = np.int64(0)
        for i in range(first, end):
            total += values[i]
        before, whole = block_scan(total)
        for i in range(first, end):
            value = values[i]
            values[i] = before
            before += value
        if cuda.threadIdx.x == 0:
            sums[tile] = whole


def add_to_tiles(n, each, tiles, values, sums):
    """Add to each value what stands for its tile."""
    size = each * cuda.blockDim.x
    for tile in range(cuda.blockIdx.x, tiles, cuda.gridDim.x):
        before = sums[tile]
        for i in range(tile * size + cuda.threadIdx.x, min((tile + 1) * size, n), cuda.blockDim.x):
            values[i] += before


def block_scan(value):
    """The sum of a value over the block's threads before this one, and over all (Hillis and Steele, 1986)."""
    shared = cuda.shared.array(256, np.int64)
    thread = cuda.threadIdx.x
    shared[thread] = value
    cuda.syncthreads()
    step = 1
    while step < cuda.blockDim.x:
        left = np.int64(0)
        if thread >= step:
            left = shared[thread - step]
        cuda.syncthreads()
        shared[thread] += left
        cuda.syncthreads()
        step <<= 1
    before, total = shared[thread] - value, shared[cuda.blockDim.x - 1]
    cuda.syncthreads()
    return before, total
