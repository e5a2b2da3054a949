"""Groups told apart by hash tables, one for each thread: a group's accumulators lie in its row (primitives/groups.py).

The tables are merged at the end, unless the morsels are partitions of the rows by the hash of their key: then a
thread's table holds one partition at a time, and the groups of the last are appended to the results when the next one
begins.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from finequery.jetson import memory
from finequery.operators import group_modes, native
from finequery.operators.accumulators import Accumulators
from finequery.operators.build import padded
from finequery.operators.group_keys import NeedsNumbers
from finequery.operators.lower import Lower
from finequery.operators.program import MORSEL, TILE, Out, Reg, Symbol
from finequery.operators.scalar import EMPTY_KEY

#: The key of a free row, as a signed word.
EMPTY = EMPTY_KEY - 2**64
#: Rows of a tile when partitions are read: as many must fit a table besides its groups.
PARTITION_TILE = 1024
#: Bits of the hash that are equal in a partition.
PARTITION_BITS = 8
#: Words of a table that stays near the core (primitives.groups.NEAR_WORDS).
NEAR_WORDS = 1 << 17
#: Most slots of a table to begin with.
FIRST_SLOTS = 1 << 18


class RowTables:
    """``source``: address and stride of the tile's keys (int64). ``partitioned``: morsels are partitions. ``gives_up``:
    the task can partition the rows, should there be more groups than expected."""

    wants_segments = False
    all_occur = True

    def __init__(
        self,
        lower: Lower,
        source: tuple[Any, Any],
        expected: float,
        *,
        partitioned: bool = False,
        gives_up: bool = False,
    ):
        self.lower: Lower | None = lower
        self.source = source
        self.expected = expected
        self.partitioned = partitioned
        self.gives_up = gives_up
        self.tile = PARTITION_TILE if partitioned else TILE
        self.instance: Any = None
        self.found: Reg | None = None
        self.states = np.zeros((1, 16), dtype=np.int64)
        self.tables: list[np.ndarray] = []

    # --- lowering ----------------------------------------------------------------------------------------------------

    @property
    def number(self) -> Reg:
        """The vector of the rows' group numbers: found when first asked for."""
        if self.found is None:
            self._find("find_rows", 0, 0, 0)
        assert self.found is not None
        return self.found

    def find_and_add(self, item: str, source: Any, stride: Any, place: int) -> bool:
        """Add up stored values of the whole tile (``item`` "count": rows) while the groups are found; False where they
        were found already."""
        if self.found is not None:
            return False
        self._find("find_rows_count" if item == "count" else f"find_rows_sum_{item}", source, stride, place)
        return True

    def _find(self, name: str, source: Any, stride: Any, place: int) -> None:
        assert self.lower is not None
        morsel: Any = Symbol(lambda t: self.instance.states[t], 12 * 8) if self.partitioned else 0
        self.found = Reg(4)
        state = Symbol(lambda t: self.states[t], content=lambda t: self.tables[t])
        self.lower.emit(name, *self.source, state, Out(self.found), morsel, source, stride, place, pure=False)

    def lowered(self) -> None:
        """Lowering ends: find the groups if nobody asked for them."""
        assert self.number is not None
        self.lower = None

    # --- one run -----------------------------------------------------------------------------------------------------

    def prepare(self, workers: int, rows: int, accumulators: Accumulators) -> None:
        self.accumulators, self.rows = accumulators, rows
        self.template = accumulators.template()
        self.template[0] = EMPTY
        self.columns: list[np.ndarray] = []  # what flushing writes, by word of a row
        self.total = np.zeros(1, dtype=np.int64)
        self.scratch = np.zeros((workers, self.tile), dtype=np.uint32)
        self.states = memory.zeros((workers, 16), np.int64)
        self.tables = [np.empty(0, dtype=np.int64)] * workers
        for item in accumulators.items:
            item.arrays = [np.empty(0, dtype=item.dtype)] * workers
        if self.partitioned:
            self._columns(rows)
        expected = min(self.expected / (1 << PARTITION_BITS) if self.partitioned else self.expected, rows)
        wanted = max(4 * expected, 2 * (expected + min(self.tile, rows)))
        slots = 1 << min(int(wanted), FIRST_SLOTS).bit_length()
        for thread in range(workers):
            self.states[thread, 6] = self.scratch[thread].ctypes.data
            self.states[thread, 7] = self.template.ctypes.data
            self.states[thread, 10] = self.total.ctypes.data
            self._table(thread, slots)

    def _table(self, thread: int, slots: int) -> None:
        """A new, clear table for a thread."""
        words, state = self.accumulators.row_words, self.states[thread]
        table = padded((slots + 2) * words, np.int64, zero=False)
        self.tables[thread] = table
        skipped = PARTITION_BITS if self.partitioned else 0
        state[1:6] = (slots // 2, table.ctypes.data, 64 - skipped - (slots.bit_length() - 1), slots - 1, words)
        native.function("clear_rows")(0, 0, 0, state.ctypes.data)
        for item in self.accumulators.items:
            item.arrays[thread] = table[item.place :].view(item.dtype)

    def discard(self, worker: int, accumulators: Accumulators) -> None:
        """A worker's table is empty again."""
        assert not self.partitioned, "a partition's groups are in the result already"
        self.states[worker, [0, 8]] = 0
        self._table(worker, int(self.states[worker, 4]) + 1)

    def grow(self, thread: int) -> None:
        """A larger table for a thread whose groups are too many; NeedsNumbers where it is not too late for another
        way."""
        if self.gives_up and self.states[thread, 0] > 2 * group_modes.RADIX_GROUPS:
            begun = int(self.instance.states[:, 12].max()) * MORSEL
            if begun < self.rows // 4:
                raise NeedsNumbers
        self._enlarge(thread)
        if self.instance is not None:
            self.instance.bind()

    def _enlarge(self, thread: int) -> None:
        state, old = self.states[thread], self.tables[thread]
        groups, slots, odd = int(state[0]), int(state[4]) + 1, int(state[8])
        near = 4 * slots * self.accumulators.row_words <= NEAR_WORDS
        self._table(thread, slots * 4 if near else slots * 2)
        native.run("rehash_rows", state.ctypes.data, old.ctypes.data, slots, groups, odd)

    def _columns(self, room: int) -> None:
        """Arrays that groups are flushed to. They are parts of one block: of the next run's blocks, the one of this
        size then has its pages where they are written, which matters more than anything else with many groups."""
        row_words = self.accumulators.row_words
        block = padded(room * row_words + 64, np.int64, zero=False, kind="pageable", room=True)
        places = np.zeros((row_words, 2), dtype=np.int64)
        self.columns = [block[:room]]
        places[0] = block.ctypes.data, 1
        for item in self.accumulators.items:
            column = block[item.place * room : (item.place + item.words) * room]
            for word in range(item.words):
                places[item.place + word] = column.ctypes.data + 8 * word, item.words
            self.columns.append(column)
        self.places = places
        self.states[:, 11] = places.ctypes.data

    def _flush(self, thread: int) -> None:
        native.function("flush_rows")(0, 0, 0, self.states[thread].ctypes.data)

    def _flushed(self) -> tuple[np.ndarray, list[np.ndarray]]:
        """Keys and accumulators as far as they are flushed."""
        total = int(self.total[0])
        memory.used(self.columns[0], 8 * total * self.accumulators.row_words)
        arrays = []
        for item, column in zip(self.accumulators.items, self.columns[1:]):
            part = column[: total * item.words].view(item.dtype)
            arrays.append(part[::2] if item.dtype is np.uint32 else part)
        return self.columns[0][:total], arrays

    def _groups(self, thread: int) -> int:
        return int(self.states[thread, 0] + self.states[thread, 8])

    @property
    def entries(self) -> int:
        """Groups of all threads, in their tables or flushed."""
        return int(self.states[:, [0, 8]].sum() + self.total[0])

    def finish(self, accumulators: Accumulators, segments: np.ndarray) -> tuple[np.ndarray, None]:
        """The groups' keys; the merged accumulators are in the same order."""
        threads = range(len(self.states))
        if self.partitioned:
            for thread in threads:
                self._flush(thread)
        else:
            for thread in threads[1:]:
                self._merge(thread)
            self._columns(self._groups(0))
            self.total[0] = 0
            self._flush(0)
        keys, arrays = self._flushed()
        for item, array in zip(accumulators.items, arrays):
            item.merged = array
        return keys, None

    def _merge(self, thread: int) -> None:
        """A thread's groups into the table of the first."""
        groups = self._groups(thread)
        if not groups:
            return
        self._columns(groups)
        self.total[0] = 0
        self._flush(thread)
        keys, arrays = self._flushed()
        numbers, words, find = padded(groups, np.uint32), np.zeros(8, dtype=np.int64), native.function("find_rows")
        for start in range(0, groups, TILE):
            words[:4] = keys[start:].ctypes.data, 0, self.states[0].ctypes.data, numbers[start:].ctypes.data
            while int(self.states[0, 1]) < self._groups(0) + groups - start:  # numbers found stay: it grows before
                assert start == 0
                self._enlarge(0)
            find(0, 0, min(TILE, groups - start), words.ctypes.data)
        for number, (item, array) in enumerate(zip(self.accumulators.items, arrays)):
            item.merge(item.arrays[0], array, numbers, self.accumulators.step(number))

    def release(self) -> None:
        """Let go of the run's arrays."""
        self.tables, self.columns = [], []
