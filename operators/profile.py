"""Where the time of a program went: ticks by instruction, added up by the step or sink that emitted it.

``run_program_profiled`` reads a counter after every instruction (primitives/interpreter.py): the time of an instruction
is what passed on its thread, for a tile of up to 4,096 rows at once, so that the reading itself costs little. Ticks of
all threads over the number of threads are a step's share of the elapsed time, up to how evenly they were loaded.
"""

from __future__ import annotations

import time
from functools import lru_cache

import numpy as np

from finequery.operators import native

#: Owner of what ends a pipeline: its sink's instructions, and making room for and the columns of its result.
SINK = 0
#: Seconds from which on an instruction over a tile was interrupted: by the system, for another process. It takes some
#: microseconds, and the system gives the core away for milliseconds.
INTERRUPTED = 2e-3
#: Seconds over which the counter is compared with the clock.
COMPARED = 0.02


@lru_cache(maxsize=1)
def tick() -> float:
    """Seconds of one tick of the counter, compared with the clock once a process."""
    read = native.function("read_ticks")

    def both() -> tuple[float, int]:
        """The clock and the counter at one moment: the closest of some readings."""
        best = None
        for _ in range(8):
            before = time.perf_counter()
            ticks = read(0, 0, 0, 0)
            after = time.perf_counter()
            if best is None or after - before < best[0]:
                best = after - before, (before + after) / 2, ticks
        assert best is not None
        return best[1], best[2]

    begin, first = both()
    time.sleep(COMPARED)
    end, last = both()
    return (end - begin) / (last - first)


class Profile:
    """Seconds by owner (id of a step, or SINK) of one run of a pipeline: shares of the elapsed time. ``lost``: those of
    interrupted instructions, which are nobody's."""

    def __init__(self) -> None:
        self.lost = 0.0
        self.seconds: dict[int, float] = {}
        self.instructions: dict[int, int] = {}  # by owner

    def add(self, owner: int, seconds: float) -> None:
        self.seconds[owner] = self.seconds.get(owner, 0.0) + seconds

    def charge(self, owners: list[int], ticks: np.ndarray, lost: int) -> None:
        """Add what threads counted for each instruction: a row of ``ticks`` for each thread; ``lost`` of all."""
        self.lost += lost * tick() / len(ticks)
        seconds = ticks.sum(axis=0) * (tick() / len(ticks))
        for owner, spent in zip(owners, seconds.tolist()):
            self.add(owner, spent)
            self.instructions[owner] = self.instructions.get(owner, 0) + 1

    def merge(self, other: Profile) -> None:
        """What a part of the pipeline took that ran on its own."""
        self.lost += other.lost
        for owner, seconds in other.seconds.items():
            self.add(owner, seconds)
        for owner, count in other.instructions.items():
            self.instructions[owner] = self.instructions.get(owner, 0) + count
