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
from collections.abc import Iterator
from math import gcd
from typing import Any, NamedTuple

import numpy as np

from finequery.jetson import memory
from finequery.operators import dictionary as dictionaries
from finequery.operators import encode_kernels as kernels
from finequery.operators import native
from finequery.operators.column import ColumnData, Stats
from finequery.operators.encode import finish, has_factor, layout
from finequery.operators.threads import parallel, size
from finequery.types import SqlType

#: What the words of primitives/parquet.py call a chunk's values.
INT32, UINT32, INT64, CODES = 0, 1, 2, 3
#: Bytes that the kernels may touch behind a source or a target, and those of a page header's fields.
SLACK, HEADER = 64, 48 * 8
#: Values that are looked at for a common factor.
_SAMPLE = 4096
_WORD = 2**64


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


class _Scratch(threading.local):
    """Each thread's memory for decompressed pages and for tables of dictionary values."""

    def __init__(self) -> None:
        self._arrays: dict[str, np.ndarray] = {}

    def take(self, what: str, nbytes: int) -> np.ndarray:
        found = self._arrays.get(what)
        if found is None or len(found) < nbytes:
            found = self._arrays[what] = np.empty(nbytes, np.uint8)
        return found


class _Filled:
    """A column that is being decoded. ``failed``: the column has to be read in the general way."""

    def __init__(self, sql_type: SqlType, rows: int, chunks: list[Chunk], nulls: bool):
        self.type, self.rows, self.chunks = sql_type, rows, chunks
        self.failed = False
        self.valid = memory.array(rows, np.uint8) if nulls else None
        self.data: np.ndarray

    def prepare(self, source: _Source) -> None:
        """Choose the layout and make the array."""
        raise NotImplementedError

    def read(self, chunk: Chunk, source: _Source) -> None:
        """Decode one chunk into its place."""
        raise NotImplementedError

    def result(self) -> ColumnData:
        """The column, when all chunks are in place."""
        raise NotImplementedError

    def validity(self) -> tuple[np.ndarray | None, int]:
        """The bitmap, and the number of NULLs."""
        nulls = 0 if self.valid is None else self.rows - int(np.count_nonzero(self.valid))
        if self.valid is None or nulls == 0:
            return None, 0
        bits = memory.array((self.rows + 63) // 64 * 8, np.uint8, zero=True)
        packed = np.packbits(self.valid, bitorder="little")
        bits[: len(packed)] = packed
        return bits, nulls


class _Source:
    """The files, mapped into memory."""

    def __init__(self, paths: list[str]):
        self._paths = paths
        self._maps: dict[int, np.ndarray] = {}
        self._lock = threading.Lock()
        self._scratch = _Scratch()

    def bytes_of(self, chunk: Chunk) -> np.ndarray | None:
        """The chunk and all behind it; None where the file is not there or too short."""
        with self._lock:
            if chunk.file not in self._maps:
                try:
                    with open(self._paths[chunk.file], "rb") as file:
                        whole = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
                except (OSError, ValueError):
                    return None
                self._maps[chunk.file] = np.frombuffer(whole, np.uint8)
            found = self._maps[chunk.file]
        return found[chunk.start :] if chunk.start + chunk.size + SLACK <= len(found) else None

    def decode(
        self,
        chunk: Chunk,
        out: np.ndarray,
        rows: int,
        *,
        low: int = 0,
        factor: int = 1,
        span: int = 0,
        add: int = 0,
        valid: np.ndarray | None = None,
        table: np.ndarray | None = None,
        entries: int = 0,
    ) -> bool:
        """Whether the first ``rows`` values of a chunk could be decoded into ``out``: ``(value - low) / factor + add``
        of integers, ``table[code]`` of strings. No quotient may be above ``span``."""
        source = self.bytes_of(chunk)
        if source is None:
            return False
        scratch = self._scratch.take("pages", chunk.expanded + HEADER + SLACK)
        if table is None:
            entries = 2 * (chunk.expanded // (8 if chunk.form == INT64 else 4)) + 2
            table = self._scratch.take("table", entries * out.itemsize)
        shift = (factor & -factor).bit_length() - 1
        inverse = pow(factor >> shift, -1, _WORD) if factor >> shift > 1 else 1
        words = np.array(
            [
                source.ctypes.data,
                chunk.size,
                chunk.snappy,
                chunk.form,
                chunk.optional,
                scratch.ctypes.data,
                len(scratch),
                table.ctypes.data,
                entries,
                low % _WORD,
                shift,
                inverse,
                span,
                add % _WORD,
                out.ctypes.data,
                0 if valid is None else valid.ctypes.data,
            ],
            np.uint64,
        )
        name = {1: "u8", 2: "u16", 4: "u32", 8: "i64"}[out.itemsize]
        return native.function(f"parquet_chunk_{name}")(0, rows, 0, words.ctypes.data) == rows

    def strings(self, chunk: Chunk) -> Any | None:
        """The dictionary of a chunk as a large_binary array; None where it has none."""
        import pyarrow as pa

        source = self.bytes_of(chunk)
        if source is None:
            return None
        scratch = self._scratch.take("pages", chunk.expanded + HEADER + SLACK)
        most = chunk.expanded // 4
        offsets, chars = np.empty(most + 1, np.int64), np.empty(chunk.expanded, np.uint8)
        count = native.run(
            "parquet_strings",
            source.ctypes.data,
            chunk.size,
            chunk.snappy,
            scratch.ctypes.data,
            len(scratch),
            offsets.ctypes.data,
            chars.ctypes.data,
            n=most,
        )
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

    def prepare(self, source: _Source) -> None:
        factor = 1
        if has_factor(self.type):
            factor = gcd(self.low, self.high, self._sampled(source)) or self.chunks[0].unit
        self.kind, dtype, self.base, self.scale = layout(self.type, self.low, self.high, factor)
        if self.kind == "int128" or any(self.scale % c.unit or self.low % c.unit for c in self.chunks):
            self.failed = True
        else:
            self.data = memory.array(self.rows, dtype)

    def _sampled(self, source: _Source) -> int:
        """The common factor of the first values; failed, if they can't be read."""
        chunk = self.chunks[0]
        rows = min(chunk.rows, _SAMPLE)
        values = np.empty(rows + SLACK, np.int64)
        flags = None if self.valid is None else np.empty(rows, np.uint8)
        low, high = self.low // chunk.unit, self.high // chunk.unit
        if not source.decode(chunk, values, rows, low=low, span=high - low, add=low, valid=flags):
            self.failed = True
            return 1
        return kernels.measure(values[:rows], False, 0).factor * chunk.unit

    def read(self, chunk: Chunk, source: _Source) -> None:
        target = self.data[chunk.row : chunk.row + chunk.rows]
        valid = None if self.valid is None else self.valid[chunk.row : chunk.row + chunk.rows]
        span, add = (self.high - self.low) // self.scale, (self.low - self.base) // self.scale
        low, factor = self.low // chunk.unit, self.scale // chunk.unit
        if not source.decode(chunk, target, chunk.rows, low=low, factor=factor, span=span, add=add, valid=valid):
            self.failed = True

    def result(self) -> ColumnData:
        validity, nulls = self.validity()
        stats = Stats(low=self.low, high=self.high, nulls=nulls)
        if nulls == 0:
            order = kernels.measure(self.data, True)
            if order.ascending:
                stats.sorted, stats.unique, stats.distinct = True, order.strict, order.runs
        column = ColumnData(self.type, self.kind, self.rows, self.data, self.base, self.scale, validity, stats=stats)
        return finish(column)


class _Codes(_Filled):
    """Strings that all row groups hold as codes of a dictionary."""

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
        if not 0 < len(self.dictionary) <= largest_dictionary(self.rows):
            self.failed = True
            return
        dtype = dictionaries.code_type(len(self.dictionary))
        tables = []
        for part in np.split(codes, np.cumsum([len(v) for v in values])[:-1]):
            table = np.zeros(1 << max(len(part) - 1, 1).bit_length(), dtype)
            table[: len(part)] = part
            tables.append((table, len(part)))
        self._tables = {chunk.row: tables[i] for chunk, i in zip(self.chunks, which)}
        self.data = memory.array(self.rows, dtype)

    def read(self, chunk: Chunk, source: _Source) -> None:
        target = self.data[chunk.row : chunk.row + chunk.rows]
        valid = None if self.valid is None else self.valid[chunk.row : chunk.row + chunk.rows]
        table, entries = self._tables[chunk.row]
        if not source.decode(chunk, target, chunk.rows, valid=valid, table=table, entries=entries):
            self.failed = True

    def result(self) -> ColumnData:
        validity, nulls = self.validity()
        stats = Stats(nulls=nulls, ascii=self.dictionary.ascii)
        if nulls == 0:
            order = kernels.measure(self.data, True)
            stats.sorted, stats.unique = order.ascending, order.strict
        return finish(
            ColumnData(
                self.type, "dict", self.rows, self.data, validity=validity, dictionary=self.dictionary, stats=stats
            )
        )


def decode(paths: list[str], metadata: list[Any], wanted: list[tuple[str, SqlType, Stats | None]]) -> dict[str, ColumnData]:
    """Those of the ``wanted`` columns that can be decoded in place: name, type, and what the footers know (None of
    exact types: such a column is left out)."""
    columns: dict[str, _Filled] = {}
    rows = sum(m.num_rows for m in metadata)
    for name, sql_type, early in wanted:
        if not rows or (not sql_type.is_string and (early is None or early.low is None or sql_type.name == "BOOLEAN")):
            continue
        chunks = _chunks(metadata, name, sql_type)
        if chunks is None:
            continue
        if sql_type.is_string:
            columns[name] = _Codes(sql_type, rows, chunks, any(c.optional for c in chunks))
        else:
            assert early is not None
            bottom, top = sql_type.limits
            if bottom <= int(early.low or 0) <= int(early.high or 0) <= top:
                columns[name] = _Integers(sql_type, rows, chunks, early)
    source = _Source(paths)
    parallel(lambda column: column.prepare(source), columns.values())
    work = iter([(c, chunk) for c in columns.values() if not c.failed for chunk in c.chunks])
    parallel(lambda _: _drain(work, source), range(size()))
    done = [name for name, column in columns.items() if not column.failed]
    return dict(zip(done, parallel(lambda name: columns[name].result(), done)))


def _drain(work: Iterator[tuple[_Filled, Chunk]], source: _Source) -> None:
    """What each thread does: take chunks from the shared list until it is empty."""
    for column, chunk in work:
        if not column.failed:
            column.read(chunk, source)


def _chunks(metadata: list[Any], name: str, sql_type: SqlType) -> list[Chunk] | None:
    """The column's chunks in order, those without rows left out; None if one has a form that is not covered."""
    chunks: list[Chunk] = []
    row = 0
    for file, one in enumerate(metadata):
        if one.num_rows == 0:
            continue
        place = leaf(one, name)
        if place is None:
            return None
        kind = one.schema.column(place)
        form = _form(kind, sql_type)
        if form is None or kind.max_repetition_level or kind.max_definition_level > 1:
            return None
        for g in range(one.num_row_groups):
            chunk = one.row_group(g).column(place)
            if chunk.file_path or chunk.compression not in ("SNAPPY", "UNCOMPRESSED"):
                return None
            rows, start = chunk.num_values, chunk.data_page_offset
            if chunk.has_dictionary_page and 0 < chunk.dictionary_page_offset < start:
                start = chunk.dictionary_page_offset
            sizes = chunk.total_compressed_size, chunk.total_uncompressed_size
            snappy = chunk.compression == "SNAPPY"
            if rows:
                chunks.append(Chunk(file, start, *sizes, snappy, *form, kind.max_definition_level == 1, row, rows))
            row += rows
    return chunks


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


