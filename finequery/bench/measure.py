"""Timing engines against each other, so that what disturbs the machine disturbs all of them."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Mapping
from typing import Any

LEAST_RUNS, MOST_RUNS = 5, 31


def interleave(
    runs: Mapping[str, Callable[[], Any]],
    seconds: float,
    after: Callable[[], None] | None = None,
    least: int = LEAST_RUNS,
) -> dict[str, list[float]]:
    """Times of each run. They take turns, so that a noisy moment hits all; about ``seconds`` are spent on each."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    gc.collect()
    gc.disable()
    try:
        for _ in range(MOST_RUNS):
            for name, run in runs.items():
                start = time.perf_counter()
                answer = run()
                times[name].append(time.perf_counter() - start)
                del answer  # freeing it is not part of the next engine's time
                if after:
                    after()
            spent = max(map(sum, times.values()), default=seconds)
            if not times or (spent > seconds and len(next(iter(times.values()))) >= least):
                break
    finally:
        gc.enable()
    return times
