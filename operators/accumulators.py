"""Accumulators: what is added up for each group, by thread.

They lie either in arrays by group number, one for each accumulator, or in rows beside the group's key (see
primitives/groups.py), where the number of a group counts the words before its row.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from finequery.jetson import memory
from finequery.operators import native
from finequery.operators.program import Symbol


@dataclass(slots=True, eq=False)
class Accumulator:
    """One accumulator of every group. ``kind`` says how threads are merged: sum, min, max, wide_sum, wide_min,
    wide_max, moments, first, exact."""

    kind: str
    dtype: Any
    words: int  # entries of its type
    start: Any
    place: int  # its first word in a row
    arrays: list[np.ndarray] = field(default_factory=list)  # by thread
    merged: np.ndarray | None = None  # the result, by number

    def array(self, groups: int) -> np.ndarray:
        """An array for so many groups, as they are before the first row."""
        count, dtype = groups * self.words + 8, np.dtype(self.dtype)
        if count * dtype.itemsize < memory.LARGE:
            data = memory.zeros(count, dtype)
        else:
            data = memory.array(count, dtype)
        if isinstance(self.start, tuple):
            data.reshape(-1, 2)[:] = self.start
        else:
            data.fill(self.start)
        return data

    def merge(self, target: np.ndarray, source: np.ndarray, where: np.ndarray | None, step: int) -> None:
        """Another thread's array into ``target``, at the numbers ``where`` there (None: the same ones), ``step``
        entries apart."""
        if self.kind == "moments" or self.words == 2:
            name = "merge_moments" if self.kind == "moments" else self.kind + "_merge"
            count = len(source) // self.words if where is None else len(where)
            address = 0 if where is None else where.ctypes.data
            native.run(name, target.ctypes.data, source.ctypes.data, address, step, n=count)
            return
        operations = {"sum": np.add, "exact": np.add, "min": np.minimum, "max": np.maximum, "first": np.minimum}
        operation: Any = operations[self.kind]
        if self.kind == "min" and self.dtype is np.float64:
            operation = np.fmin
        if where is None:
            operation(target, source, out=target)
        else:
            at = where if step == 1 else where.astype(np.int64) * step
            target[at] = operation(target[at], source[: len(where)])


class Accumulators:
    """All accumulators of an aggregation. ``in_rows``: they lie in the groups' rows. ``groups``: else, how many group
    numbers there are (0: not known beforehand)."""

    def __init__(self, in_rows: bool, groups: int = 0):
        self.in_rows = in_rows
        self.groups = groups
        self.items: list[Accumulator] = []
        self.row_words = 1  # the key is the first
        self._known: dict[Any, int] = {}

    def add(self, key: Any, kind: str, dtype: Any, start: Any = 0, words: int = 1) -> tuple[int, Symbol, bool]:
        """An accumulator (equal aggregates share one): its number, the symbol of its address, and whether it is
        new."""
        if key in self._known:
            return self._known[key], Symbol(0), False
        number = len(self.items)
        item = Accumulator(kind, dtype, words, start, self.row_words)
        self.row_words += words
        self.items.append(item)
        self._known[key] = number
        return number, Symbol(lambda t: item.arrays[t], groups=self.groups), True

    def step(self, number: int) -> int:
        """Entries of the accumulator's type from one group number to the next, which its kernels are told."""
        item = self.items[number]
        return 8 // np.dtype(item.dtype).itemsize if self.in_rows else item.words

    def template(self) -> np.ndarray:
        """The words of a row before its first row of input, but for the key."""
        row = np.zeros(self.row_words, dtype=np.int64)
        for item in self.items:
            starts = row[item.place : item.place + item.words].view(item.dtype)
            starts[: item.words] = item.start
        return row

    def release(self) -> None:
        """Let go of the run's arrays."""
        for item in self.items:
            item.arrays, item.merged = [], None
