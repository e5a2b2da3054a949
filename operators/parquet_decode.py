"""Parquet columns decoded straight into their final arrays (primitives/parquet.py).

The footer's statistics give the range of a column before anything is read, so its layout is chosen, its array is made,
and every column chunk is decoded and narrowed into its place in one pass, on all cores. Every value is checked against
the range. A column gives up where this does not work out (statistics missing or untrue, other encodings or codecs,
damaged pages), and is then read through Arrow, which also finds the words for what is damaged.
"""

from __future__ import annotations

import json
import mmap
import threading
from collections.abc import Sequence
from math import gcd
from typing import Any, NamedTuple

import numpy as np

from finequery.jetson import memory
from finequery.operators import dictionary as dictionaries
from finequery.operators import encode_kernels as kernels
from finequery.operators import native, watch
from finequery.operators.column import ColumnData, Dictionary, Stats
from finequery.operators.encode import finish, has_factor, layout
from finequery.operators.threads import parallel, size
from finequery.types import SqlType

#: What the words of primitives/parquet.py call a chunk's values.
INT32, UINT32, INT64, CODES = 0, 1, 2, 3
#: Bytes that the kernels may touch behind a source or a target, and those of a page header's fields.
SLACK, HEADER = 64, 48 * 8
#: Values that are looked at for a common factor.
_SAMPLE = 4096
#: Chunks that a thread decodes before it returns to Python, where a stop is seen.
_TURN = 1
_WORD = 2**64
_TARGETS = {1: "u8", 2: "u16", 4: "u32", 8: "i64"}


class Group(NamedTuple):
    """A row group of a file, by number."""

    file: int
    number: int
    rows: int


class Chunk(NamedTuple):
    """One column of one row group."""

    file: int
    start: int  # bytes in the file
    size: int
    expanded: int  # bytes without compression
    snappy: bool
    form: int
    unit: int  # physical values (microseconds) in one of the file's
    optional: bool
    row: int  # where its rows go
    rows: int


class _Filled:
    """A column that is being decoded. ``failed``: it has to be read in the general way."""

    def __init__(self, sql_type: SqlType, rows: int, chunks: list[Chunk], nulls: bool):
        self.type, self.rows, self.chunks = sql_type, rows, chunks
        self.failed = False
        self.valid = memory.array(rows, np.uint8) if nulls else None
        self.data: np.ndarray

    def sampling(self) -> list[_Task]:
        """What to read before the layout can be chosen."""
        return []

    def prepare(self, source: _Source) -> None:
        """Choose the layout and make the array."""
        raise NotImplementedError

    def task(self, chunk: Chunk) -> _Task:
        """What decodes a chunk into its place."""
        raise NotImplementedError

    def result(self) -> ColumnData:
        """The column, when all chunks are in place."""
        raise NotImplementedError

    def _place(self, chunk: Chunk) -> tuple[np.ndarray, np.ndarray | None]:
        """The chunk's part of the data, and of the flags of valid rows."""
        rows = slice(chunk.row, chunk.row + chunk.rows)
        return self.data[rows], None if self.valid is None else self.valid[rows]

    def _finished(self, column: ColumnData) -> ColumnData:
        """Add the bitmap and the statistics."""
        stats = column.stats
        if self.valid is not None:
            stats.nulls = self.rows - int(np.count_nonzero(self.valid))
        if self.valid is not None and stats.nulls:
            packed = np.packbits(self.valid, bitorder="little")
            column.validity = memory.array((self.rows + 63) // 64 * 8, np.uint8, zero=True)
            column.validity[: len(packed)] = packed
        else:
            order = kernels.measure(self.data, True)
            if order.ascending:
                stats.sorted, stats.unique, stats.distinct = True, order.strict, order.runs
        return finish(column)


class _Task(NamedTuple):
    """The first ``rows`` values of a chunk into ``out``: ``(value - low) / factor + add`` of integers, where no
    quotient may be above ``span``; ``table[code]`` of strings."""

    column: _Filled
    chunk: Chunk
    out: np.ndarray
    valid: np.ndarray | None  # a byte a row
    rows: int
    low: int = 0
    factor: int = 1
    span: int = 0
    add: int = 0
    table: np.ndarray | None = None
    entries: int = 0

    def words(self, source: int) -> list[int]:
        """The arguments of the kernel; the scratch memory is for the thread to fill in."""
        chunk = self.chunk
        shift = (self.factor & -self.factor).bit_length() - 1
        odd = self.factor >> shift
        return [
            source,
            chunk.size,
            chunk.snappy,
            chunk.form,
            chunk.optional,
            0,
            0,
            0 if self.table is None else self.table.ctypes.data,
            most_entries(chunk) if self.table is None else self.entries,
            self.low % _WORD,
            shift,
            pow(odd, -1, _WORD) if odd > 1 else 1,
            self.span,
            self.add % _WORD,
            self.out.ctypes.data,
            0 if self.valid is None else self.valid.ctypes.data,
        ]


def most_entries(chunk: Chunk) -> int:
    """How long a table for the dictionary of a chunk of integers can become: the next power of two."""
    return 2 * (chunk.expanded // (8 if chunk.form == INT64 else 4)) + 2


class _Source:
    """The files, mapped into memory."""

    def __init__(self, paths: list[str]):
        self._paths = paths
        self._maps: dict[int, np.ndarray | None] = {}
        self._lock = threading.Lock()  # a second map of a file would end the first one, which threads read by address

    def open(self, file: int) -> None:
        """Map a file."""
        try:
            with open(self._paths[file], "rb") as opened:
                whole = mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ)
            self._maps[file] = np.frombuffer(whole, np.uint8)
        except (OSError, ValueError):
            self._maps[file] = None

    def address(self, chunk: Chunk) -> int | None:
        """Where the chunk is in memory; None if the file is gone, or shorter than it was."""
        with self._lock:
            if chunk.file not in self._maps:
                self.open(chunk.file)
        found = self._maps[chunk.file]
        if found is None or chunk.start + chunk.size + SLACK > len(found):
            return None
        return found.ctypes.data + chunk.start

    def run(self, tasks: list[_Task]) -> None:
        """Run the tasks on all cores. Columns of those that can't be done are failed."""
        words, rows, failed = [], [], {id(task.column): 0 for task in tasks}
        places = {column: i for i, column in enumerate(failed)}
        kept = []
        for task in tasks:
            address = self.address(task.chunk)
            if address is None:
                task.column.failed = True
            elif not task.column.failed:
                words.append(task.words(address))
                kept.append(task)
        arguments, flags = np.array(words, np.uint64).reshape(-1, 16), np.zeros(len(places), np.int64)
        for i, task in enumerate(kept):
            kernel = native.address(f"parquet_chunk_{_TARGETS[task.out.itemsize]}")
            flag = flags.ctypes.data + 8 * places[id(task.column)]
            rows.append((kernel, task.rows, arguments.ctypes.data + 128 * i, flag))
        table, counter = np.array(rows, np.int64), np.zeros(1, np.int64)
        pages = max((task.chunk.expanded for task in kept), default=0) + HEADER + SLACK
        entries = max((most_entries(task.chunk) * task.out.itemsize for task in kept), default=0)

        def work(_: int) -> None:
            scratch, room = np.empty(pages, np.uint8), np.empty(entries, np.uint8)
            addresses = (a.ctypes.data for a in (counter, table))
            what = [*addresses, len(kept), scratch.ctypes.data, pages, room.ctypes.data]
            try:
                while native.run("parquet_work", *what, n=_TURN):
                    watch.check()
            except BaseException:
                counter[0] = len(kept)  # nobody begins another chunk
                raise

        if kept:
            watch.counting(len(kept), lambda: counter[0])
            parallel(work, range(min(size(), len(kept))))
        for task in kept:
            task.column.failed |= bool(flags[places[id(task.column)]])

    def strings(self, chunk: Chunk) -> Any | None:
        """The dictionary of a chunk as a large_binary array; None where it has none."""
        import pyarrow as pa

        address = self.address(chunk)
        if address is None:
            return None
        most = chunk.expanded // 4
        scratch, chars = np.empty(chunk.expanded + HEADER + SLACK, np.uint8), np.empty(chunk.expanded, np.uint8)
        offsets = np.empty(most + 1, np.int64)
        targets = [scratch.ctypes.data, len(scratch), offsets.ctypes.data, chars.ctypes.data]
        count = native.run("parquet_strings", address, chunk.size, chunk.snappy, *targets, n=most)
        if count < 0:
            return None
        offsets, chars = offsets[: count + 1].copy(), chars[: offsets[count]].copy()
        return pa.Array.from_buffers(pa.large_binary(), count, [None, pa.py_buffer(offsets), pa.py_buffer(chars)])


class _Integers(_Filled):
    """Integers, decimals, dates and times of known range."""

    def __init__(self, sql_type: SqlType, rows: int, chunks: list[Chunk], early: Stats):
        super().__init__(sql_type, rows, chunks, early.nulls > 0)
        assert early.low is not None and early.high is not None
        self.low, self.high = int(early.low), int(early.high)
        self._sample = np.zeros(0, np.int64)

    def sampling(self) -> list[_Task]:
        if not has_factor(self.type):
            return []
        chunk = self.chunks[0]
        self._sample = np.empty(min(chunk.rows, _SAMPLE), np.int64)
        valid = None if self.valid is None else self.valid[: len(self._sample)]
        low, span = self.low // chunk.unit, (self.high - self.low) // chunk.unit
        return [_Task(self, chunk, self._sample, valid, len(self._sample), low=low, span=span, add=low)]

    def prepare(self, source: _Source) -> None:
        factor = 1
        if has_factor(self.type):
            unit = self.chunks[0].unit
            seen = kernels.measure(self._sample, False, 0).factor * unit
            factor = gcd(self.low, self.high, seen) or unit
        self.kind, dtype, self.base, self.scale = layout(self.type, self.low, self.high, factor)
        if self.kind == "int128" or any(self.scale % c.unit or self.low % c.unit for c in self.chunks):
            self.failed = True
        else:
            self.data = memory.array(self.rows, dtype)

    def task(self, chunk: Chunk) -> _Task:
        span, add = (self.high - self.low) // self.scale, (self.low - self.base) // self.scale
        low, factor = self.low // chunk.unit, self.scale // chunk.unit
        return _Task(self, chunk, *self._place(chunk), chunk.rows, low, factor, span, add)

    def result(self) -> ColumnData:
        stats = Stats(low=self.low, high=self.high)
        return self._finished(
            ColumnData(self.type, self.kind, self.rows, self.data, self.base, self.scale, stats=stats)
        )


class _Codes(_Filled):
    """Strings that all row groups hold as codes of a dictionary. ``known``: one that is taken if it holds them all."""

    def __init__(self, sql_type: SqlType, rows: int, chunks: list[Chunk], nulls: bool, known: Dictionary | None):
        super().__init__(sql_type, rows, chunks, nulls)
        self.known = known

    def prepare(self, source: _Source) -> None:
        import pyarrow as pa

        from finequery.operators.encode_strings import largest_dictionary

        different: dict[tuple[bytes, bytes], int] = {}
        values: list[Any] = []
        which: list[int] = []
        for chunk in self.chunks:
            found = source.strings(chunk)
            if found is None:
                self.failed = True
                return
            key = (found.buffers()[1].to_pybytes(), found.buffers()[2].to_pybytes())
            which.append(different.setdefault(key, len(values)))
            if different[key] == len(values):
                values.append(found)
        self.dictionary, codes = dictionaries.build(pa.concat_arrays(values))
        most = largest_dictionary(self.rows)
        if not 0 < len(self.dictionary) <= most:
            self.failed = True
            return
        if self.known is not None:
            both, maps = dictionaries.merge([self.known, self.dictionary])
            if len(both) <= most:
                self.dictionary, codes = both, codes if maps[1] is None else maps[1][codes]
        dtype = dictionaries.code_type(len(self.dictionary))
        tables = []
        for part in np.split(codes, np.cumsum([len(v) for v in values])[:-1]):
            table = np.zeros(1 << max(len(part) - 1, 1).bit_length(), dtype)
            table[: len(part)] = part
            tables.append((table, len(part)))
        self._tables = {chunk.row: tables[i] for chunk, i in zip(self.chunks, which)}
        self.data = memory.array(self.rows, dtype)

    def task(self, chunk: Chunk) -> _Task:
        table, entries = self._tables[chunk.row]
        return _Task(self, chunk, *self._place(chunk), chunk.rows, table=table, entries=entries)

    def result(self) -> ColumnData:
        stats = Stats(ascii=self.dictionary.ascii)
        return self._finished(
            ColumnData(self.type, "dict", self.rows, self.data, dictionary=self.dictionary, stats=stats)
        )


def decode(
    paths: list[str],
    metadata: list[Any],
    wanted: list[tuple[str, SqlType, Stats | None]],
    groups: Sequence[Group],
    known: dict[str, Dictionary] | None = None,
) -> dict[str, ColumnData]:
    """Those of the ``wanted`` columns that can be decoded in place, of some row groups: name, type, and what the
    footers know (None of exact types: such a column is left out). ``known``: dictionaries of batches before; those of
    this one are put there."""
    columns: dict[str, _Filled] = {}
    rows = sum(group.rows for group in groups)
    for name, sql_type, early in wanted:
        if not rows or (not sql_type.is_string and (early is None or early.low is None or sql_type.name == "BOOLEAN")):
            continue
        chunks = _chunks(metadata, name, sql_type, groups)
        if chunks is None:
            continue
        if sql_type.is_string:
            before = None if known is None else known.get(name)
            columns[name] = _Codes(sql_type, rows, chunks, any(c.optional for c in chunks), before)
        else:
            assert early is not None
            bottom, top = sql_type.limits
            if bottom <= int(early.low or 0) <= int(early.high or 0) <= top:
                columns[name] = _Integers(sql_type, rows, chunks, early)
    source = _Source(paths)
    source.run([task for column in columns.values() for task in column.sampling()])
    parallel(lambda column: column.prepare(source), [column for column in columns.values() if not column.failed])
    source.run([column.task(chunk) for column in columns.values() if not column.failed for chunk in column.chunks])
    done = [name for name, column in columns.items() if not column.failed]
    for name in done:
        column = columns[name]
        if known is not None and isinstance(column, _Codes):
            known[name] = column.dictionary
    return dict(zip(done, parallel(lambda name: columns[name].result(), done)))


def _chunks(metadata: list[Any], name: str, sql_type: SqlType, groups: Sequence[Group]) -> list[Chunk] | None:
    """The column's chunks in the groups; None if one has a form that is not covered."""
    chunks: list[Chunk] = []
    forms: dict[int, tuple[int, int, int, bool] | None] = {}
    row = 0
    for group in groups:
        if group.file not in forms:
            forms[group.file] = _leaf_form(metadata[group.file], name, sql_type)
        known = forms[group.file]
        if known is None:
            return None
        place, form, unit, optional = known
        chunk = metadata[group.file].row_group(group.number).column(place)
        start = chunk.data_page_offset
        if chunk.file_path or chunk.compression not in ("SNAPPY", "UNCOMPRESSED") or chunk.num_values != group.rows:
            return None
        if chunk.has_dictionary_page and 0 < chunk.dictionary_page_offset < start:
            start = chunk.dictionary_page_offset
        sizes = chunk.total_compressed_size, chunk.total_uncompressed_size
        snappy = chunk.compression == "SNAPPY"
        chunks.append(Chunk(group.file, start, *sizes, snappy, form, unit, optional, row, group.rows))
        row += group.rows
    return chunks


def _leaf_form(metadata: Any, name: str, sql_type: SqlType) -> tuple[int, int, int, bool] | None:
    """A column's place among a file's leaves, form and unit of its values, and whether they may be NULL; None where it
    is not flat or has no form of ours."""
    place = leaf(metadata, name)
    if place is None:
        return None
    kind = metadata.schema.column(place)
    form = _form(kind, sql_type)
    if form is None or kind.max_repetition_level or kind.max_definition_level > 1:
        return None
    return place, *form, kind.max_definition_level == 1


def _form(kind: Any, sql_type: SqlType) -> tuple[int, int] | None:
    """Form and unit of a leaf's values; None where it has none of ours."""
    if kind.physical_type == "BYTE_ARRAY":
        return (CODES, 1) if sql_type.is_string else None
    logical = json.loads(kind.logical_type.to_json())
    if kind.physical_type == "INT32":
        unsigned = logical["Type"] == "Int" and not logical["isSigned"] and logical["bitWidth"] == 32
        return UINT32 if unsigned else INT32, 1
    if kind.physical_type == "INT64":
        return INT64, 1000 if logical.get("timeUnit") == "milliseconds" else 1
    return None


def leaf(metadata: Any, name: str) -> int | None:
    """Position of a flat column among the file's leaves."""
    schema = metadata.schema
    for place in range(len(schema)):
        if schema.column(place).path == name:
            return place
    return None
