"""Sort keys: columns as fields of order-preserving bits, fields cut into chunks, chunks made by programs of kernels.

The bits of all keys of a row, most significant key first, form one long number whose order is the order asked for. A
chunk is as much of it as fits into a 64-bit word above the row number (primitives.sort_keys).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from finequery.jetson import memory
from finequery.operators import native
from finequery.operators.column import ColumnData
from finequery.operators.pool import Pool

ALL = (1 << 64) - 1
SIGN = 1 << 63
#: Words of scratch for the tile that a thread encodes (primitives.sort_keys.TILE + 1).
TILE_WORDS = 1025
_BY_WIDTH = {1: "u8", 2: "u16", 4: "u32"}
#: From a load, its source, the column, rows: the least and the greatest word.
Measure = Callable[[str, np.ndarray, ColumnData, int, Pool], tuple[int, int]]


class Key(NamedTuple):
    """One ORDER BY term."""

    column: ColumnData
    descending: bool
    nulls_first: bool


@dataclass(slots=True)
class Field:
    """``bits`` bits for each row: ((x ^ flip) + add) of what ``load`` reads of ``source``, ``null`` where a row is
    NULL."""

    load: str
    source: np.ndarray
    bits: int
    flip: int = 0
    add: int = 0
    validity: np.ndarray | None = None
    null: int = 0


class Piece(NamedTuple):
    """``bits`` bits of a field, those from bit ``shift``."""

    field: Field
    shift: int
    bits: int


class Program:
    """The steps that make words (primitives.sort_keys), and the arrays that they point to.

    ``rows``: row numbers, where words are made of these rows in turn; else of all rows. ``row_bits``: bits of the row
    number that ends each word, or 0 for none.
    """

    def __init__(self, row_bits: int, rows: np.ndarray | None):
        self.row_bits = row_bits
        self.rows = rows
        self._steps: list[int] = []
        self._kept: list[np.ndarray] = [] if rows is None else [rows]
        self.words = np.zeros(1, np.int64)

    def step(self, kernel: str, source: np.ndarray | None, *operands: int, keep: Sequence[np.ndarray] = ()) -> None:
        """Add a step; its first two operands are the source and the rows."""
        at = 0 if source is None else source.ctypes.data
        rows = 0 if self.rows is None else self.rows.ctypes.data
        arguments = np.array([at, rows, *map(signed, operands)], np.int64)
        self._kept += [arguments, *keep, *([] if source is None else [source])]
        self._steps += [native.address(kernel), arguments.ctypes.data]

    def finish(self) -> Program:
        """Add the row number and lay the steps out."""
        if self.row_bits:
            self.step("sort_key_row", None, self.row_bits)
        self.words = np.array([len(self._steps) // 2, *self._steps], np.int64)
        return self

    @property
    def address(self) -> int:
        return self.words.ctypes.data


def signed(word: int) -> int:
    """A 64-bit word as the int64 of the same bits."""
    word &= ALL
    return word - (1 << 64) if word >= SIGN else word


def words_program(words: np.ndarray) -> Program:
    """Words that are there already."""
    program = Program(0, None)
    program.step("sort_key_u64", words, 0, 0, 0, 0, 0, ALL, 0, 0)
    return program.finish()


def chunk_program(pieces: Sequence[Piece], row_bits: int, rows: np.ndarray | None = None) -> Program:
    """The words of one chunk."""
    program = Program(row_bits, rows)
    for number, (field, shift, bits) in enumerate(pieces):
        validity = 0 if field.validity is None else field.validity.ctypes.data
        keep = 0 if number == 0 else ALL
        mask = (1 << bits) - 1
        kept = [] if field.validity is None else [field.validity]
        operands = (field.flip, field.add, validity, field.null, shift, mask, bits if number else 0, keep)
        program.step(f"sort_key_{field.load}", field.source, *operands, keep=kept)
    return program.finish()


def cut(fields: Sequence[Field], room: int) -> list[list[Piece]]:
    """The fields in chunks of at most ``room`` bits."""
    chunks: list[list[Piece]] = []
    free = 0
    for field in fields:
        left = field.bits
        while left:
            if free == 0:
                chunks.append([])
                free = room
            bits = min(left, free)
            left -= bits
            free -= bits
            chunks[-1].append(Piece(field, left, bits))
    return chunks


def row_bits_of(length: int) -> int:
    """Bits that number ``length`` rows, at least one."""
    return max(1, (length - 1).bit_length())


def fields_of(
    key: Key, length: int, pool: Pool, text: Field | None = None, measured: Measure | None = None
) -> list[Field]:
    """The fields of one key; none where all rows are equal. ``text``: stands for the values of a column of kind string
    (its load, source and bits). ``measured``: gives ranges that statistics do not, in place of ``measure``."""
    column, measured = key.column, measured or measure
    if column.kind == "string":
        assert text is not None
        return _field(text.load, text.source, 0, (1 << text.bits) - 1, key)
    if column.kind == "dict":
        assert column.dictionary is not None
        return _field(_BY_WIDTH[column.data.itemsize], column.data, 0, max(len(column.dictionary) - 1, 0), key)
    if column.kind == "uint":
        low, high = _stored_range(column, 0, (1 << 8 * column.data.itemsize) - 1)
        return _field(_BY_WIDTH[column.data.itemsize], column.data, low, high, key)
    if column.kind == "int64":
        stats = column.stats
        if stats.low is None or stats.high is None:
            low, high = measured("i64", column.data, column, length, pool)
        else:
            low, high = _stored_range(column, -SIGN, SIGN - 1)
            low, high = low + SIGN, high + SIGN
        return _field("i64", column.data, low, high, key)
    if column.kind in ("float32", "float64"):
        load = "f" + column.kind[5:]
        return _field(load, column.data, *measured(load, column.data, column, length, pool), key)
    data = column.data
    if column.kind == "interval":
        data = memory.array(2 * length, np.int64)
        pool.range("sort_interval", (column.data.ctypes.data, data.ctypes.data), length)
    elif column.stats.low is not None and column.stats.high is not None:
        low, size = int(column.stats.low) & ALL, int(column.stats.high) - int(column.stats.low)
        if 0 <= size < 1 << 63:
            return _field("low", data, low, low + size, key)
    low, high = measured("high", data, column, length, pool)
    if low == high:
        return _field("low", data, 0, ALL, key)
    lower = Field("low", data, 64, *((ALL, 0) if key.descending else (0, 0)), validity=column.validity)
    return [*_field("high", data, low, high, key), lower]


def _field(load: str, source: np.ndarray, low: int, high: int, key: Key) -> list[Field]:
    size = high - low
    flip, add = (ALL, high + 1) if key.descending else (0, -low)
    validity, null = key.column.validity, 0
    if validity is None:
        return [Field(load, source, size.bit_length(), flip, add)] if size else []
    if size == ALL:  # no value is left for NULL: a bit of its own
        first = int(key.nulls_first)
        flag = Field("none", source, 1, 0, first, validity, 1 - first)
        return [flag, Field(load, source, 64, flip, add, validity)]
    size += 1
    if key.nulls_first:
        add += 1
    else:
        null = size
    return [Field(load, source, size.bit_length(), flip, add, validity, null)]


def _stored_range(column: ColumnData, least: int, most: int) -> tuple[int, int]:
    """Bounds of the stored values from the statistics."""
    low, high = column.stats.low, column.stats.high
    if low is None or high is None:
        return least, most
    first = max(least, (int(low) - column.base) // column.scale)
    last = min(most, -((column.base - int(high)) // column.scale))
    return (first, last) if first <= last else (0, 0)


def measure(load: str, data: np.ndarray, column: ColumnData, length: int, pool: Pool) -> tuple[int, int]:
    """Least and greatest of the words that ``load`` reads, of the rows that are not NULL; (0, 0) if there are none."""
    found = np.zeros((pool.threads, 8), np.uint64)
    found[:, 0] = ALL
    validity = 0 if column.validity is None else column.validity.ctypes.data
    pool.range(f"sort_range_{load}", (data.ctypes.data, validity, found.ctypes.data), length)
    low, high = int(found[:, 0].min()), int(found[:, 1].max())
    return (low, high) if low <= high else (0, 0)
