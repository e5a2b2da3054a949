"""Rows in 256 partitions by the hash of their key (reference: cpu-execution 4.11)."""

from __future__ import annotations

import numpy as np

from finequery.jetson import memory
from finequery.operators.pool import Pool

PARTITIONS = 256
#: Rows whose places are found at a time (primitives.partition.BATCH).
BATCH = 1024


def partition(
    keys: np.ndarray, payloads: list[np.ndarray], pool: Pool
) -> tuple[np.ndarray, list[np.ndarray], np.ndarray]:
    """Keys (int64) and payloads in the order of their partitions; the partitions' bounds (257 words)."""
    count = len(keys)
    morsel = max(65536, -(-count // (4 * pool.threads)))
    ranges = max(1, -(-count // morsel))
    histogram = np.zeros((ranges, PARTITIONS), dtype=np.int64)
    pool.range("partition_count", [keys.ctypes.data, histogram.ctypes.data, morsel], count, morsel)
    bounds = np.zeros(PARTITIONS + 1, dtype=np.int64)
    np.cumsum(histogram.sum(axis=0), out=bounds[1:])
    cursors = bounds[:-1] + np.cumsum(histogram, axis=0) - histogram
    out = memory.array(count, np.int64, kind="pageable")  # partitions are read by the CPU
    scratch = np.empty(pool.threads * BATCH, dtype=np.uint64)
    words = [keys.ctypes.data, cursors.ctypes.data, morsel, out.ctypes.data, scratch.ctypes.data, len(payloads)]
    targets = []
    for source in payloads:
        target = memory.array(len(source), source.dtype, kind="pageable")
        targets.append(target)
        words += [source.ctypes.data, target.ctypes.data, source.itemsize * (len(source) // max(count, 1))]
    pool.range("partition_rows", words, count, morsel)
    return out, targets, bounds
