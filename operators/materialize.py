"""Materialize: a pipeline's end that writes columns.

Without filters every row keeps its place and threads write into one array; columns that merely pass are handed on as
they are. With filters or expansions each thread appends to buffers of its own, and the pieces are put in order of their
morsels: the result has the order of the input whatever the threads did.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from finequery.jetson import memory
from finequery.operators.column import ColumnData, Dictionary, Frame, Stats
from finequery.operators.expr import Column
from finequery.operators.lower import Lower, Stored, Value, stored_item
from finequery.operators.lower_expr import value
from finequery.operators.pool import Pool
from finequery.operators.program import Out, Reg, Symbol
from finequery.types import SqlType

#: Results up to this many rows get exact bounds of their narrow columns.
BOUNDED_ROWS = 1 << 20


@dataclass(slots=True, eq=False)
class Target:
    """One output column: how it is stored, and the threads' arrays while the pipeline runs."""

    id: int
    type: SqlType
    kind: str
    dtype: Any
    words: int = 1  # entries per row (2 for 128-bit values)
    base: int = 0
    scale: int = 1
    dictionary: Dictionary | None = None
    low: int | None = None
    high: int | None = None
    ascii: bool = False
    nullable: bool = False
    sorted: bool = False
    unique: bool = False
    arrays: list[np.ndarray] = field(default_factory=list)
    chars: list[np.ndarray] = field(default_factory=list)
    flags: list[np.ndarray] = field(default_factory=list)


class Materialize:
    """The sink. ``lower_into`` adds its instructions; ``prepare``/``grow``/``finish`` serve one run. ``appends``: rows
    come in batches, and have no places of their own. ``alike``: all results have the same encodings and bounds,
    whatever rows are in them, so that one program reads them all."""

    def __init__(self, columns: list[Column], *, appends: bool = False, alike: bool = False):
        self.columns = columns
        self.appends, self.alike = appends, alike
        self.instance: Any = None
        self.targets: list[Target] = []
        self.passed: list[tuple[int, Stored]] = []
        self.dense = False
        self.state = np.zeros((1, 8), dtype=np.int64)
        self.char_states: np.ndarray = np.zeros((1, 1, 8), dtype=np.int64)
        self.addresses = np.zeros((1, 1, 4), dtype=np.int64)
        self.bases: tuple[int, ...] = (0, 0, 0)  # addresses of the three arrays above
        self.rows = 0

    def lower_into(self, lower: Lower) -> None:
        whole = lower.space == 0 and not self.appends  # every row of the source comes out, in its place
        # a device writes back what is its own: it gets arrays of its own where the CPU writes too
        self.dense = whole and not lower.shared
        values: list[tuple[Column, Stored | Value]] = []
        for column in self.columns:
            stored = lower.stored(column)
            if stored is not None and stored.rows is None and whole:
                self.passed.append((column.id, stored))
            elif stored is not None and _copies(lower, stored):
                values.append((column, stored))
            else:
                values.append((column, value(lower, column)))
        if not values:
            self.dense = whole
            if not whole:
                lower.emit("reserve", Symbol(lambda t: self.bases[0] + 64 * t), pure=False)
            return
        strings = 0
        cursor = Symbol(lambda t: self.bases[0] + 64 * t, 16)
        for _, v in values:  # rooms for strings come first: after the first write nothing may be asked for
            if isinstance(v, Value) and v.kind == "s":
                state = Symbol(lambda t, i=strings: self.bases[1] + 64 * (t * self.char_states.shape[1] + i))
                lower.emit("string_bytes", v.reg, v.valid or 0, state, pure=False)
                strings += 1
        if self.dense:
            lower.emit("cursor_at_tile", Symbol(lambda t: self.bases[0] + 64 * t), pure=False)
        else:
            lower.emit("reserve", Symbol(lambda t: self.bases[0] + 64 * t), pure=False)
        strings = 0
        for number, (column, v) in enumerate(values):
            where = self._place(number, 0)
            if isinstance(v, Stored):
                valid = lower.validity(v)
                target = _target_like(column, v.data)
                if v.rows is None:  # picking rows keeps their order
                    target.sorted = v.data.stats.sorted
                    target.unique = v.data.stats.unique and not lower.expanded
                target.nullable = valid is not None
                base, stride = lower.source(v)
                index = lower.index(v.rows)
                if index is None:
                    lower.emit(f"store_{v.data.width}", base, stride, where, cursor, pure=False)
                else:
                    lower.emit(f"store_gather_{v.data.width}", base, stride, index, where, cursor, pure=False)
            else:
                valid = v.valid
                target = _store(lower, column, v, where, cursor, self, strings)
                strings += v.kind == "s"
                target.nullable = valid is not None
            if valid is not None:
                flag = self._place(number, 1)
                lower.emit("store_1", valid, 0, flag, cursor, pure=False)
            self.targets.append(target)

    def _place(self, number: int, part: int) -> Symbol:
        """Where the address of an array of a column lies: part 0 its values, 1 its flags, 2 its bytes."""

        def content(thread: int) -> np.ndarray:
            target = self.targets[number]
            return (target.arrays, target.flags, target.chars)[part][thread]

        where = lambda t: self.bases[2] + 32 * (t * self.addresses.shape[1] + number)  # noqa: E731
        return Symbol(where, 8 * part, content)

    def empty(self) -> Frame:
        """What comes out when no row can."""
        from finequery.operators.concat import empty_column

        return Frame({c.id: empty_column(c.type) for c in self.columns}, 0)

    # --- one run -----------------------------------------------------------------------------------------------------

    def prepare(self, workers: int, rows: int) -> None:
        strings = sum(1 for t in self.targets if t.kind == "string")
        self.state = np.zeros((workers, 8), dtype=np.int64)
        self.char_states = np.zeros((workers, max(strings, 1), 8), dtype=np.int64)
        self.addresses = np.zeros((workers, max(len(self.targets), 1), 4), dtype=np.int64)
        self.bases = tuple(memory.address(a) for a in (self.state, self.char_states, self.addresses))
        self.rows = rows
        self.filled: set[int] = set()
        room = rows  # of virtual memory: pages that nobody writes cost nothing
        for target in self.targets:
            target.arrays, target.flags, target.chars = [], [], []
        kind = None if self.dense else "pageable"
        for thread in range(workers):
            for target in self.targets:
                shared = self.dense and thread > 0
                target.arrays.append(target.arrays[0] if shared else _room(room * target.words, target.dtype, kind))
                if target.nullable:
                    target.flags.append(target.flags[0] if shared else _room(room, np.uint8, kind))
                if target.kind == "string":
                    target.chars.append(_room(max(room * 32, 4096), np.uint8, "pageable"))
            self.state[thread, 1] = room if (not self.dense) else 1 << 62
            self._publish(thread)

    def _publish(self, thread: int) -> None:
        strings = 0
        for number, target in enumerate(self.targets):
            self.addresses[thread, number, 0] = memory.address(target.arrays[thread])
            if target.nullable:
                self.addresses[thread, number, 1] = memory.address(target.flags[thread])
            if target.kind == "string":
                self.char_states[thread, strings, 1] = len(target.chars[thread])
                self.addresses[thread, number, 2] = memory.address(target.chars[thread])
                strings += 1

    def discard(self, worker: int) -> None:
        """Throw away what a worker has written."""
        self.state[worker, 0] = 0
        self.char_states[worker, :, 0] = 0

    def grow(self, thread: int) -> None:
        """Make room: at least one more tile in every array, or the bytes that were asked for."""
        from finequery.operators.program import TILE

        state = self.state[thread]
        if not self.dense and state[1] - state[0] < TILE:
            room = max(int(state[1]) * 2, int(state[0]) + TILE)
            for target in self.targets:
                target.arrays[thread] = _enlarge(
                    target.arrays[thread], int(state[0]) * target.words, room * target.words
                )
                if target.nullable:
                    target.flags[thread] = _enlarge(target.flags[thread], int(state[0]), room)
            state[1] = room
        strings = 0
        for target in self.targets:
            if target.kind == "string":
                used = self.char_states[thread, strings]
                need = int(used[0] + used[3])
                if need > len(target.chars[thread]):
                    target.chars[thread] = _enlarge(
                        target.chars[thread], int(used[0]), max(need, 2 * len(target.chars[thread]))
                    )
                used[3] = 0
                strings += 1
        self._publish(thread)

    def slot(self, worker: int) -> int:
        """The worker as which a device writes its next batch: a new one for each after the first, since a kernel
        fills its arrays from end to end."""
        if self.dense or not self.targets or worker not in self.filled:
            self.filled.add(worker)
            return worker
        for target in self.targets:
            for arrays in (target.arrays, target.flags, target.chars):
                if arrays:
                    arrays.append(arrays[0])  # make_room puts its own there
        return len(self.targets[0].arrays) - 1

    def make_room(self, worker: int, rows: int, texts: list[int]) -> None:
        """Arrays of one worker for just so many rows, and bytes of each string column."""
        sizes = iter(texts)
        for target in self.targets:
            if not self.dense:
                target.arrays[worker] = _room(rows * target.words, target.dtype)
                if target.nullable:
                    target.flags[worker] = _room(rows, np.uint8)
            if target.kind == "string":
                target.chars[worker] = _room(next(sizes), np.uint8)

    def outputs(self, worker: int, first: int, end: int) -> list[tuple[np.ndarray, slice, bool]]:
        """Arrays that a worker's run over rows ``first`` to before ``end`` writes and reads nothing of, which of their
        bytes it writes, and whether they become the result as they are. Where no row is left out all workers write
        into the same arrays."""
        found: list[tuple[np.ndarray, slice, bool]] = []
        for target in self.targets:
            stays = target.kind != "string" and not target.nullable
            for arrays, words, kept in ((target.arrays, target.words, stays), (target.flags, 1, False)):
                if arrays:
                    array, part = arrays[worker], slice(None)
                    if self.dense:
                        size = array.itemsize * words
                        part, kept = slice(first * size, end * size), kept and (first, end) == (0, self.rows)
                    found.append((array, part, kept))
            found += [(array, slice(None), True) for array in target.chars[worker : worker + 1]]
        return found

    def cursor(self, thread: int) -> int:
        return self.bases[0] + 64 * thread

    @property
    def wants_segments(self) -> bool:
        return not self.dense or any(t.kind == "string" for t in self.targets)

    @property
    def entries(self) -> int:
        """Rows that were written and have to be put together."""
        return 0 if self.dense else int(self.state[:, 0].sum())

    def finish(self, segments: np.ndarray, rows: int, pool: Pool) -> Frame:
        """The columns of all workers' pieces, in order."""
        columns: dict[int, ColumnData] = {}
        total = rows
        pieces = [(a, b, c) for a, b, c in segments.tolist() if c > b] if self.wants_segments else []
        if not self.dense:
            total = sum(end - start for _, start, end in pieces)
        self._count()
        if self.targets:
            for target in self.targets:
                columns[target.id] = self._column(target, pieces, total)
        for number, stored in self.passed:
            columns[number] = stored.fetch() if stored.fetch is not None else stored.data
        return Frame(columns, total)

    def _count(self) -> None:
        """Count what the workers wrote into rooms for more."""
        strings = 0
        for target in self.targets:
            rows = zip(target.arrays, target.flags or target.arrays, self.state[:, 0].tolist())
            for values, flags, count in () if self.dense else rows:
                memory.used(values, count * target.words * values.itemsize)
                memory.used(flags, count)
            if target.kind == "string":
                for chars, size in zip(target.chars, self.char_states[:, strings, 0].tolist()):
                    memory.used(chars, size)
                strings += 1

    def release(self) -> None:
        """Let go of the run's arrays."""
        for target in self.targets:
            target.arrays, target.flags, target.chars = [], [], []

    def _column(self, target: Target, pieces: list[tuple[int, int, int]], total: int) -> ColumnData:
        if self.dense:
            data, flags = target.arrays[0], target.flags[0] if target.nullable else None
        else:
            data = _join(target.arrays, pieces, target.words, total, target.dtype)
            flags = _join(target.flags, pieces, 1, total, np.uint8) if target.nullable else None
        validity, nulls = pack_validity(flags, total, self.alike)
        low, high = target.low, target.high
        stats = Stats(low=low, high=high, nulls=nulls, ascii=target.ascii, sorted=target.sorted, unique=target.unique)
        if target.kind == "string":
            lengths = data[:total]
            offsets = _room(total + 1, np.int64)
            offsets[0] = 0
            np.cumsum(lengths, out=offsets[1 : total + 1])
            chars = self._chars(target, pieces, lengths, int(offsets[total]))
            return ColumnData(
                *(target.type, "string", total, offsets[: total + 1]), validity=validity, chars=chars, stats=stats
            )
        if nulls and flags is not None:
            _clear(data, flags[:total], target.words)
        narrow = target.kind in ("uint", "dict") and target.type.name != "BOOLEAN"
        if narrow and 0 < total <= BOUNDED_ROWS and not self.alike:
            seen = data[:total]
            first, last = int(seen.min()), int(seen.max())  # of a build side: they shrink look-ups and group domains
            if target.kind == "dict":
                stats.code_low, stats.code_high = first, last
            else:
                stats.low, stats.high = target.base + target.scale * first, target.base + target.scale * last
        result = ColumnData(
            *(target.type, target.kind, total, data[: total * target.words], target.base, target.scale),
            validity=validity,
            dictionary=target.dictionary,
            stats=stats,
        )
        return result

    def _chars(self, target: Target, pieces: list[tuple[int, int, int]], lengths: np.ndarray, size: int) -> np.ndarray:
        """Bytes of all pieces; a worker's bytes lie in the order in which it wrote its rows."""
        if _written_in_order(pieces):
            one = target.chars[pieces[0][0] if pieces else 0]
            if memory.default_kind() in ("pageable", memory.kind_of(one)):
                return one
        out = _room(size, np.uint8)
        rows = np.cumsum([0, *(end - start for _, start, end in pieces)]).tolist()
        counts = [int(lengths[a:b].sum()) for a, b in itertools.pairwise(rows)]
        places = np.cumsum([0, *counts]).tolist()
        taken = [0] * len(target.chars)
        for number in sorted(range(len(pieces)), key=lambda n: pieces[n][1]):
            worker, at, count = pieces[number][0], places[number], counts[number]
            out[at : at + count] = target.chars[worker][taken[worker] : taken[worker] + count]
            taken[worker] += count
        return out


def _copies(lower: Lower, stored: Stored) -> bool:
    """Columns that keep their encoding when rows are picked: copied as they are stored, without decoding."""
    return stored.data.kind in ("uint", "int64", "dict", "float64", "float32") and not (
        stored.data.kind == "uint" and stored.data.type.name == "BOOLEAN" and stored.data.base != 0
    )


def _target_like(column: Column, data: ColumnData) -> Target:
    low, high = data.stats.low, data.stats.high
    exact = data.kind in ("uint", "int64") and low is not None and high is not None
    return Target(
        *(column.id, column.type, data.kind, data.data.dtype),
        base=data.base,
        scale=data.scale,
        dictionary=data.dictionary,
        low=int(low) if exact and low is not None else None,
        high=int(high) if exact and high is not None else None,
        ascii=data.stats.ascii,
    )


def _store(
    lower: Lower, column: Column, v: Value, where: Symbol, cursor: Symbol, sink: Materialize, strings: int
) -> Target:
    """Store a vector in the narrowest form its bounds allow."""
    type_ = column.type
    if v.kind == "s":
        state = Symbol(lambda t: sink.bases[1] + 64 * (t * sink.char_states.shape[1] + strings))
        chars = sink._place(len(sink.targets), 2)
        lower.emit("store_string", v.reg, chars, state, where, cursor, pure=False)
        return Target(column.id, type_, "string", np.int64)
    if v.kind == "u32" and v.dictionary is not None:
        dtype = _narrow(len(v.dictionary) - 1)
        lower.emit(f"store_digits_{np.dtype(dtype).name.replace('uint', 'u')}", v.reg, where, cursor, pure=False)
        return Target(column.id, type_, "dict", dtype, dictionary=v.dictionary, ascii=v.dictionary.ascii)
    if v.kind == "u8":
        lower.emit("store_1", v.reg, 0, where, cursor, pure=False)
        return Target(column.id, type_, "uint", np.uint8, low=0, high=1)
    if v.kind == "f64":
        if type_.name == "FLOAT":
            lower.emit("store_f32", v.reg, where, cursor, pure=False)
            return Target(column.id, type_, "float32", np.float32)
        lower.emit("store_8", v.reg, 0, where, cursor, pure=False)
        return Target(column.id, type_, "float64", np.float64)
    if v.kind == "w":
        lower.emit("store_16", v.reg, 0, where, cursor, pure=False)
        kind = "interval" if type_.name == "INTERVAL" else "int128"
        return Target(column.id, type_, kind, np.uint64 if kind == "int128" else np.int64, words=2)
    assert v.kind == "i64", v.kind
    low, high = v.low, v.high
    base = 0 if low >= 0 and high < 2**32 else low
    if high - base < 2**32:
        dtype = _narrow(high - base)
        lower.emit(f"store_narrow_{np.dtype(dtype).name.replace('uint', 'u')}", v.reg, base, where, cursor, pure=False)
        return Target(column.id, type_, "uint", dtype, base=base, low=low, high=high)
    lower.emit("store_8", v.reg, 0, where, cursor, pure=False)
    bounded = low > -(2**63) or high < 2**63 - 1
    return Target(column.id, type_, "int64", np.int64, low=low if bounded else None, high=high if bounded else None)


def _narrow(most: int) -> Any:
    return np.uint8 if most < 256 else np.uint16 if most < 65536 else np.uint32


def _room(count: int, dtype: Any, kind: str | None = None) -> np.ndarray:
    """An array with room for a tile's careless stores behind it. Pageable where most of it will not be touched, and
    counted when it was: other memory is there whether it is used or not."""
    size = np.dtype(dtype).itemsize
    counted = kind is None and count * size >= memory.LARGE
    return memory.array(count + 128 // size, dtype, counted=counted, kind=kind)


def _enlarge(array: np.ndarray, used: int, room: int) -> np.ndarray:
    memory.require(room * array.itemsize, "an intermediate result")
    bigger = _room(room, array.dtype, "pageable")
    bigger[:used] = array[:used]
    return bigger


def _written_in_order(pieces: list[tuple[int, int, int]]) -> bool:
    """Whether one worker wrote all pieces, in their order."""
    return all(a[0] == b[0] and a[1] < b[1] for a, b in itertools.pairwise(pieces))


def _join(
    arrays: list[np.ndarray], pieces: list[tuple[int, int, int]], words: int, total: int, dtype: Any
) -> np.ndarray:
    """One array of the pieces; without a copy where one worker wrote them all in order, to where the query wants it."""
    if pieces and _written_in_order(pieces):
        one = arrays[pieces[0][0]]
        if memory.default_kind() in ("pageable", memory.kind_of(one)):
            return one
    out = _room(total * words, dtype)
    at = 0
    for thread, start, end in pieces:
        size = (end - start) * words
        out[at : at + size] = arrays[thread][start * words : end * words]
        at += size
    return out


def pack_validity(flags: np.ndarray | None, count: int, always: bool = False) -> tuple[np.ndarray | None, int]:
    """Bytes to a validity bitmap (None: all valid, unless there is ``always`` to be one) and the number of NULLs."""
    if flags is None:
        return None, 0
    packed = np.packbits(flags[:count], bitorder="little")
    valid = int(np.count_nonzero(flags[:count]))
    if valid == count and not always:
        return None, 0
    bitmap = memory.zeros(-(-count // 64) * 8 + 64, np.uint8)
    bitmap[: len(packed)] = packed
    return bitmap, count - valid


def _clear(data: np.ndarray, flags: np.ndarray, words: int) -> None:
    """NULL rows store 0."""
    if words == 1:
        data[: len(flags)][flags == 0] = 0
    else:
        data[: 2 * len(flags)].reshape(-1, 2)[flags == 0] = 0


__all__ = ["Materialize", "Out", "Reg", "pack_validity", "stored_item"]
