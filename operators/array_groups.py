"""Groups whose numbers are known beforehand: none at all, packed digits of the keys (dense), numbers computed for the
whole input (numbered). The accumulators are arrays by number, for each thread."""

from __future__ import annotations

import numpy as np

from finequery.operators import native
from finequery.operators.accumulators import Accumulators
from finequery.operators.build import padded
from finequery.operators.program import Reg


class ArrayGroups:
    """Numbers below ``domain``; ``number`` is the vector that holds those of the tile's rows (None: all rows are one
    group)."""

    wants_segments = False

    def __init__(self, number: Reg | None, domain: int):
        self.number = number
        self.domain = domain
        self.presence = -1  # the accumulator that tells which groups occur
        self.all_occur = number is not None  # whether every group of the result has a row

    def prepare(self, workers: int, rows: int, accumulators: Accumulators) -> None:
        """Arrays for a run; the group behind the last takes rows that are thrown away."""
        for item in accumulators.items:
            item.arrays = [item.array(self.domain + 1) for _ in range(workers)]

    def discard(self, worker: int, accumulators: Accumulators) -> None:
        """A worker's arrays as they were before the first row."""
        for item in accumulators.items:
            item.arrays[worker] = item.array(self.domain + 1)

    def grow(self, thread: int) -> None:
        raise AssertionError("arrays by number do not grow")

    @property
    def entries(self) -> int:
        """Numbers that a group may have."""
        return self.domain

    def finish(self, accumulators: Accumulators, segments: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Merge the threads' arrays: the packed keys of the groups that occur, and the same as numbers."""
        for item in accumulators.items:
            item.merged, *others = item.arrays
            for other in others:
                item.merge(item.merged, other, None, item.words)
        if self.number is None:
            pick = np.zeros(1, dtype=np.uint32)
        else:
            counts = accumulators.items[self.presence].merged
            assert counts is not None
            pick = padded(self.domain, np.uint32, zero=False)
            pick = pick[: native.run("find_groups", counts.ctypes.data, pick.ctypes.data, n=self.domain)]
        return pick, pick

    def release(self) -> None:
        """Nothing is kept but the accumulators."""
