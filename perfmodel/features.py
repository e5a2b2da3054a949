"""What a model is told about a sub-task: plain numbers, the same for every device.

``Features`` holds the input attributes of one sub-task, whether estimated (``planner.features``) or seen in a run;
``vector`` makes the numbers of them that a regressor reads, together with the state of the device it would run on.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

#: Sub-tasks whose random accesses write into their table.
WRITES_TABLE = frozenset(["build", "aggregate", "sort", "top-k", "window"])
#: Sub-tasks that only name columns: who reads one first streams it.
NAMES_ONLY = frozenset(["scan", "read", "values"])
#: Rows that are worked on at a time: what a streaming sub-task keeps in the caches (operators/program.py).
TILE = 4096
#: First to last level of the caches assumed where a caller names none, in bytes: a core's share on common servers.
CACHES = (32 << 10, 1 << 20, 16 << 20)


@dataclass(frozen=True, slots=True)
class Features:
    """One sub-task on any device. Widths are bytes a row of its input, shares lie in 0 … 1."""

    kind: str  # a planner.subtasks kind
    algorithm: str = ""  # the structure or method where there is a choice, else ""
    rows: float = 0.0  # in
    rows_out: float = 0.0
    bytes_in: float = 0.0  # streamed from memory for each row in
    bytes_out: float = 0.0  # written in order for each row in
    random_width: float = 0.0  # read or written at random for each row in
    table_bytes: float = 0.0  # of the structure that random accesses go to
    selectivity: float = 1.0  # share of rows that pass a filter
    match_rate: float = 1.0  # rows out for each row that probes
    distinct: float = 0.0  # different keys of a build or a sort
    groups: float = 0.0  # of an aggregation
    nulls: float = 0.0  # largest share of NULLs among the columns read
    skew: float = 0.0  # share of the most frequent key, where it is known
    steps: float = 0.0  # arithmetic steps a row: operations of its expressions, or one for each aggregate
    columns: float = 0.0  # columns read
    wide: float = 0.0  # share of the columns read that are 128 bits wide
    floats: float = 0.0  # share that is FLOAT or DOUBLE
    strings: float = 0.0  # share that is text without codes

    @property
    def model(self) -> str:
        """The model that prices it: one for each kind and algorithm."""
        return f"{self.kind}:{self.algorithm}" if self.algorithm else self.kind

    @property
    def working_set(self) -> float:
        """Bytes that it comes back to: its table, or the vectors of a tile where there is none."""
        if self.table_bytes:
            return self.table_bytes
        return min(self.rows, TILE) * (self.bytes_in + self.bytes_out)


#: Columns of ``vector``. ``log_…`` is log2(1 + x); ``over_…`` is log2 of the working set over a level of the caches.
NAMES = (
    *("log_rows", "log_rows_out", "bytes_in", "bytes_out", "random_width", "log_table_bytes"),
    *("over_first", "over_second", "over_last", "selectivity", "uncertain", "match_rate"),
    *("log_distinct", "log_groups", "rows_a_group", "nulls", "skew", "steps", "columns"),
    *("wide", "floats", "strings", "threads", "clock_ghz", "load"),
)


def vector(
    features: Features, threads: int, clock_ghz: float, load: float, caches: Sequence[float] = CACHES
) -> np.ndarray:
    """The row of ``NAMES`` for a sub-task on a device. ``threads``: that work on it; ``load``: share of the device that
    others keep busy; ``caches``: bytes of each level, first to last, of what one thread can reach (fewer than three
    levels: the last stands for those missing)."""
    f = features
    levels = [*caches, *([caches[-1]] * 3)][:3] if caches else list(CACHES)
    working_set = max(f.working_set, 1.0)
    return np.array(
        [
            _log(f.rows),
            _log(f.rows_out),
            f.bytes_in,
            f.bytes_out,
            f.random_width,
            _log(f.table_bytes),
            *(math.log2(working_set / level) for level in levels),
            f.selectivity,
            4.0 * f.selectivity * (1.0 - min(f.selectivity, 1.0)),  # what a branch cannot be predicted by
            f.match_rate,
            _log(f.distinct),
            _log(f.groups),
            _log(f.rows / f.groups) if f.groups else 0.0,
            f.nulls,
            f.skew,
            f.steps,
            f.columns,
            f.wide,
            f.floats,
            f.strings,
            float(threads),
            clock_ghz,
            load,
        ],
        dtype=np.float64,
    )


def _log(x: float) -> float:
    return math.log2(1.0 + max(x, 0.0))
