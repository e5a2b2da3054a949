"""The bandwidth that a chip reaches, for ``gpu_check.py``. Imports Numba: its simulator has to be asked for before."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numba import cuda

BLOCKS, THREADS = 1056, 512


@cuda.jit
def copy(source: Any, target: Any) -> None:
    for i in range(cuda.grid(1), source.size, cuda.gridsize(1)):
        target[i] = source[i]


@cuda.jit
def read(source: Any, target: Any) -> None:
    total = np.int64(0)
    for i in range(cuda.grid(1), source.size, cuda.gridsize(1)):
        total += source[i]
    if total == np.int64(-1):  # never, but the compiler can't know
        target[0] = total


def bandwidths(simulated: bool) -> dict[str, float]:
    """GB/s of the device's memory: copying (bytes read and written), reading alone, and to and from the host."""
    count = 1000 if simulated else 1 << 28  # 2 GiB an array
    if not simulated:
        count = min(count, cuda.current_context().get_memory_info()[0] // 8 // 4)
    shape = (1, 32) if simulated else (BLOCKS, THREADS)
    source, target = cuda.to_device(np.ones(count, dtype=np.int64)), cuda.device_array(count, np.int64)
    pinned = cuda.pinned_array(count // 4, np.int64)
    pinned[:] = 1
    part = cuda.device_array(count // 4, np.int64)
    return {
        "copy": _rate(2 * 8 * count, lambda: copy[shape](source, target), simulated),
        "read": _rate(8 * count, lambda: read[shape](source, target), simulated),
        "to device": _rate(pinned.nbytes, lambda: part.copy_to_device(pinned), simulated),
        "to host": _rate(pinned.nbytes, lambda: part.copy_to_host(pinned), simulated),
    }


def _rate(nbytes: int, run: Callable[[], Any], simulated: bool) -> float:
    times = []
    for _ in range(1 if simulated else 12):
        cuda.synchronize()
        begin = time.perf_counter()
        run()
        cuda.synchronize()
        times.append(time.perf_counter() - begin)
    return nbytes / statistics.median(times[2:] or times) / 1e9
