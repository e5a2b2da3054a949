"""What the access pattern and the kind of memory are worth here: GB/s of sums over one column, the right way and the
wrong way, for CPU threads and for the GPU, in every kind of memory that the device has.

python scripts/access_patterns.py
python scripts/access_patterns.py --mebibytes 1024 --json patterns.json

CPU threads should read ranges of their own; threads that take turns all load every cache line. Neighbouring threads of
a GPU should read neighbouring values, which are one transaction; ranges of their own are a transaction per value. The
last pattern reads in random order, as probes of a table do.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402

from finequery.errors import Error  # noqa: E402
from finequery.jetson import cuda, gpu, memory  # noqa: E402
from finequery.jetson.conditions import conditions  # noqa: E402

RUNS = 5
#: One run: where, kind of memory, pattern, GB/s (None in the simulator).
Row = tuple[str, str, str, "float | None"]


def best(run: Callable[[], Any], right: Any, runs: int = RUNS) -> float:
    """Least seconds of some runs after one that is not timed. Every run must give the right sum."""
    seconds = []
    for _ in range(runs + 1):
        start = time.perf_counter()
        found = run()
        seconds.append(time.perf_counter() - start)
        assert found == right, f"a sum of {found} instead of {right}"
    return min(seconds[1:])


def cpu_rows(values: np.ndarray, order: np.ndarray, threads: int, kinds: tuple[str, ...]) -> list[Row]:
    """Sums by threads of the CPU, in each kind of memory that the machine has and the CPU reaches."""
    from numba import njit

    @njit(nogil=True)
    def streamed(values: Any, start: int, stop: int) -> int:
        total = np.int64(0)
        for i in range(start, stop):
            total += values[i]
        return total

    @njit(nogil=True)
    def stepped(values: Any, start: int, step: int) -> int:
        total = np.int64(0)
        for i in range(start, len(values), step):
            total += values[i]
        return total

    @njit(nogil=True)
    def gathered(values: Any, order: Any, start: int, stop: int) -> int:
        total = np.int64(0)
        for i in range(start, stop):
            total += values[order[i]]
        return total

    rows = len(values)
    ends = [rows * t // threads for t in range(threads + 1)]
    right = int(values.sum(dtype=np.int64))
    patterns: dict[str, Callable[[np.ndarray, int], int]] = {
        "a range per thread": lambda there, t: streamed(there, ends[t], ends[t + 1]),
        "threads take turns": lambda there, t: stepped(there, t, threads),
        "random order": lambda there, t: gathered(there, order, ends[t], ends[t + 1]),
    }
    found: list[Row] = []
    with ThreadPoolExecutor(threads) as pool:
        for kind in kinds:
            try:
                there = memory.array(rows, values.dtype, kind=kind)
            except Error as error:
                print(f"{kind}: {error.message}", file=sys.stderr)
                continue
            there[:] = values
            for name, work in patterns.items():
                sums = functools.partial(work, there)
                seconds = best(lambda sums=sums: sum(pool.map(sums, range(threads))), right)  # type: ignore[misc]
                found.append((f"CPU, {threads} threads", kind, name, values.nbytes / seconds / 1e9))
    return found


def neighbours(values: Any, order: Any, sums: Any) -> None:
    first = kernels.grid(1)
    total = np.int64(0)
    for i in range(first, values.size, kernels.gridsize(1)):
        total += values[i]
    kernels.atomic.add(sums, 0, total)


def ranges(values: Any, order: Any, sums: Any) -> None:
    each = (values.size + kernels.gridsize(1) - 1) // kernels.gridsize(1)
    start = kernels.grid(1) * each
    total = np.int64(0)
    for i in range(start, min(start + each, values.size)):
        total += values[i]
    kernels.atomic.add(sums, 0, total)


def gathered(values: Any, order: Any, sums: Any) -> None:
    total = np.int64(0)
    for i in range(kernels.grid(1), values.size, kernels.gridsize(1)):
        total += values[order[i]]
    kernels.atomic.add(sums, 0, total)


#: numba.cuda, when it is needed. Kernels must find it among their globals: that is where the simulator replaces it.
kernels: Any = None


def gpu_kernels() -> dict[str, Any]:
    """Sums by threads of the GPU, one kernel a pattern."""
    global kernels
    kernels = cuda.cuda()
    named = {"neighbouring threads": neighbours, "a range per thread": ranges, "random order": gathered}
    return {name: kernels.jit(kernel) for name, kernel in named.items()}


def gpu_rows(chip: gpu.Device, values: np.ndarray, order: np.ndarray, runs: int = RUNS) -> list[Row]:
    """Sums by the GPU over the values, in each kind of memory that the device reaches."""
    info = chip.info
    where = "GPU (simulated)" if info.simulated else info.name
    shape = chip.launch_shape(len(values))
    right = int(values.sum(dtype=np.int64))
    found: list[Row] = []
    compiled = gpu_kernels()
    for kind in ("mapped", "managed", "device"):
        with chip.query():
            try:
                there = in_kind(chip, values, kind)
                places = in_kind(chip, order, "device")
                sums = chip.empty(1, np.int64, "counters")
            except Error as error:
                print(f"{kind}: {error.message}", file=sys.stderr)
                continue
            for name, kernel in compiled.items():

                def run(kernel: Any = kernel, there: Any = there, places: Any = places, sums: Any = sums) -> int:
                    chip.fill(sums, 0)
                    kernel[(*shape, chip.stream)](there, places, sums)
                    return int(chip.to_host(sums)[0])

                seconds = best(run, right, runs)
                found.append((where, kind, name, None if info.simulated else values.nbytes / seconds / 1e9))
    return found


def in_kind(chip: gpu.Device, values: np.ndarray, kind: str) -> Any:
    """A kernel argument with the values in one kind of memory."""
    if kind == "device" and not chip.info.simulated:
        return chip.upload(values)
    argument = chip.empty(len(values), values.dtype, kind)
    chip.to_host(argument)[...] = values
    return argument


def main(arguments: list[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--mebibytes", type=int, default=256, help="size of the column; far beyond the caches")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--json", type=Path, help="write the figures here too")
    options = parser.parse_args(arguments)

    simulated = cuda.simulated()
    rows = 500 if simulated else options.mebibytes << 18
    random = np.random.default_rng(1)
    values = memory.array(rows, np.int32)
    values[:] = random.integers(0, 100, rows, dtype=np.int32)
    order = random.permutation(np.arange(rows, dtype=np.uint32 if rows < 1 << 32 else np.int64))

    found: list[Row] = []
    before = conditions()
    for text in before["warnings"]:
        print(f"warning: {text}", file=sys.stderr)
    usable, reason = cuda.available()
    if not simulated:
        kinds = ("pageable", "mapped", "managed") if usable else ("pageable",)
        found += cpu_rows(values, order, options.threads, kinds)
    if usable:
        found += gpu_rows(gpu.open_device(), values, order, runs=1 if simulated else RUNS)
    else:
        print(f"No GPU: {reason}. Only the CPU is measured.\n")

    print(f"{'where':<26} {'memory':<10} {'pattern':<22} {'GB/s':>8}")
    for where, kind, pattern, rate in found:
        print(f"{where:<26} {kind:<10} {pattern:<22} {'simulated' if rate is None else f'{rate:.2f}':>8}")
    if options.json:
        named = [dict(zip(("where", "memory", "pattern", "gigabytes_per_second"), row)) for row in found]
        record = {"conditions": before, "bytes": values.nbytes, "simulated": simulated, "rows": named}
        options.json.write_text(json.dumps(record, indent=1))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
