"""Groups of input that is sorted by its one key: runs of equal keys, numbered as they come. No table is needed."""

from __future__ import annotations

from typing import Any

import numpy as np

from finequery.operators.accumulators import Accumulator, Accumulators
from finequery.operators.build import padded
from finequery.operators.lower import Lower, Stored, stored_item
from finequery.operators.program import TILE, Out, Reg, Symbol


class RunGroups:
    """Runs of one sorted column of the pipeline's own source. Every thread numbers its own."""

    wants_segments = True
    all_occur = True

    def __init__(self, lower: Lower, found: Stored):
        self.instance: Any = None
        self.states = np.zeros((1, 8), dtype=np.int64)
        self.keys: list[np.ndarray] = []  # by thread and number
        base, stride = lower.source(found)
        index, keys, self.number = lower.index(found.rows), Reg(8), Reg(4)
        if index is None:
            lower.emit(f"widen_{stored_item(found.data)}", base, stride, 0, 1, Out(keys))
        else:
            lower.emit(f"gather_widen_{stored_item(found.data)}", base, stride, index, 0, 1, Out(keys))
        lower.emit("run_group", keys, Symbol(lambda t: self.states[t]), Out(self.number), self._morsel(), pure=False)

    def _morsel(self) -> Symbol:
        """The word with the number of a thread's morsel."""
        return Symbol(lambda t: self.instance.states[t], 12 * 8)

    def cursor(self, thread: int) -> int:
        """Where a thread counts its runs."""
        return self.states[thread].ctypes.data

    def prepare(self, workers: int, rows: int, accumulators: Accumulators) -> None:
        size = max(1024, rows // 4) + TILE
        self.accumulators = accumulators
        self.states = np.zeros((workers, 8), dtype=np.int64)
        self.keys = [padded(size, np.int64, zero=False) for _ in range(workers)]
        for item in accumulators.items:
            item.arrays = [item.array(size) for _ in range(workers)]
        for thread in range(workers):
            self.states[thread, 1], self.states[thread, 2] = size, self.keys[thread].ctypes.data

    def discard(self, worker: int, accumulators: Accumulators) -> None:
        """A worker's runs are none again."""
        size = int(self.states[worker, 1])
        self.states[worker, 0] = 0
        for item in accumulators.items:
            item.arrays[worker] = item.array(size)

    def grow(self, thread: int) -> None:
        """Room for more runs of a thread."""
        used = int(self.states[thread, 0])
        size = 4 * used + TILE
        keys = padded(size, np.int64, zero=False)
        keys[:used] = self.keys[thread][:used]
        self.keys[thread] = keys
        self.states[thread, 1], self.states[thread, 2] = size, keys.ctypes.data
        for item in self.accumulators.items:
            bigger = item.array(size)
            bigger[: used * item.words] = item.arrays[thread][: used * item.words]
            item.arrays[thread] = bigger
        self.instance.bind()

    @property
    def entries(self) -> int:
        """Runs of all threads."""
        return int(self.states[:, 0].sum())

    def finish(self, accumulators: Accumulators, segments: np.ndarray) -> tuple[np.ndarray, None]:
        """All threads' runs in the order of their morsels; a run that a morsel's end cut in two becomes one."""
        pieces: list[tuple[int, int, int]] = []  # thread, first run, end
        for thread, start, end in segments.tolist():
            if end <= start:
                continue
            if pieces:
                before, _, last = pieces[-1]
                if self.keys[before][last - 1] == self.keys[thread][start]:
                    for item in accumulators.items:
                        _merge_run(item, before, last - 1, thread, start)
                    start += 1
                    if start == end:
                        continue
            pieces.append((thread, start, end))
        for item in accumulators.items:
            words = item.words
            item.merged = _join([item.arrays[t][start * words : end * words] for t, start, end in pieces], item.dtype)
        return _join([self.keys[t][start:end] for t, start, end in pieces], np.int64), None

    def release(self) -> None:
        """Let go of the run's arrays."""
        self.keys = []


def _merge_run(item: Accumulator, target: int, into: int, source: int, run: int) -> None:
    """Run ``run`` of thread ``source`` into run ``into`` of thread ``target``."""
    part = np.ascontiguousarray(item.arrays[source][run * item.words : (run + 1) * item.words])
    item.merge(item.arrays[target], part, np.array([into], dtype=np.uint32), item.words)


def _join(parts: list[np.ndarray], dtype: Any) -> np.ndarray:
    """The parts one after another."""
    joined = padded(sum(map(len, parts)), dtype, zero=False)
    if parts:
        np.concatenate(parts, out=joined)
    return joined
