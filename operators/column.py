"""Columns: Arrow at the borders, narrow inside (DESIGN section 3).

A stored value ``s`` of an exact type stands for the physical value ``base + scale * s``. Storage is as narrow as the
range allows; every array is 64-byte aligned and readable for 64 bytes past its end, so that kernels may load whole
vectors.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from finequery.types import SqlType

#: Rows per block of the block statistics (zone map); morsels are whole blocks.
BLOCK = 65536


@dataclass(slots=True)
class Stats:
    """What is known of a column's values. None means unknown.

    ``low``/``high`` are physical values of exact types (bounds: no value lies outside; they need not occur), floats for
    floating types with no NaN among the values. ``distinct`` is an estimate. ``sorted``: ascending, NULL nowhere.
    ``unique``: no value twice, NULL nowhere. ``ascii``: all bytes below 128. ``block_low``/``block_high`` hold *stored*
    values per block of BLOCK rows for skipping; NULL rows take part with the value stored for them.
    """

    low: int | float | None = None
    high: int | float | None = None
    nulls: int = 0
    distinct: int | None = None
    sorted: bool = False
    unique: bool = False
    ascii: bool = False
    block_low: np.ndarray | None = None
    block_high: np.ndarray | None = None
    code_low: int | None = None  # bounds of the codes of a dictionary column
    code_high: int | None = None


@dataclass(slots=True, eq=False)
class Dictionary:
    """Distinct strings in ascending byte order: code order is value order. Compared by identity."""

    offsets: np.ndarray  # int64, length + 1
    chars: np.ndarray  # uint8, padded
    ascii: bool = False
    _strings: list[str] | None = None
    _cache: dict[object, object] = field(default_factory=dict)  # results of functions over the values, by expression

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def strings(self) -> list[str]:
        """The values as Python strings, decoded once."""
        if self._strings is None:
            raw, ends = self.chars.tobytes(), self.offsets.tolist()
            self._strings = [raw[a:b].decode("utf-8", "replace") for a, b in zip(ends, ends[1:])]  # noqa: RUF007 (pairwise is slower)
        return self._strings


@dataclass(slots=True, eq=False)
class ColumnData:
    """One column of ``length`` rows.

    ``kind`` and what ``data`` holds:

    ========  =================================================================================
    uint      uint8/uint16/uint32: exact types (BOOLEAN too: 0/1), value = base + scale * stored
    int64     int64: exact types, value = base + scale * stored (base 0, scale 1 unless a decimal has a gcd)
    int128    uint64 of shape (2 * length,): low word, high word of two's complement; base 0, scale 1
    float32   float32 (FLOAT)
    float64   float64 (DOUBLE)
    dict      uint8/uint16/uint32 codes into ``dictionary`` (VARCHAR)
    string    int64 offsets (length + 1) into ``chars`` (VARCHAR)
    interval  int64 of shape (2 * length,): months | days << 32 (each 32 bit, signed), micros
    ========  =================================================================================

    ``validity``: packed bits, 1 is valid, LSB first, padded to whole 64-bit words (uint8 array); None: no NULLs.
    Where a row is NULL the stored value is 0 (empty string; code 0), so that kernels may compute on it.
    """

    type: SqlType
    kind: str
    length: int
    data: np.ndarray
    base: int = 0
    scale: int = 1
    validity: np.ndarray | None = None
    dictionary: Dictionary | None = None
    chars: np.ndarray | None = None
    stats: Stats = field(default_factory=Stats)
    owner: object = None  # keeps foreign memory alive

    @property
    def width(self) -> int:
        """Bytes of one stored value (offsets for strings)."""
        return 16 if self.kind in ("int128", "interval") else self.data.itemsize

    @property
    def nbytes(self) -> int:
        total = self.data.nbytes
        for part in (self.validity, self.chars):
            total += 0 if part is None else part.nbytes
        return total


def outline(column: ColumnData) -> ColumnData:
    """The column without its rows: what a program is made for, which outlives them."""
    stats = replace(column.stats, block_low=None, block_high=None)
    validity = None if column.validity is None else np.empty(0, np.uint8)
    chars = None if column.chars is None else np.empty(0, np.uint8)
    data = np.empty(0, column.data.dtype)
    return replace(column, length=0, data=data, validity=validity, chars=chars, stats=stats, owner=None)


@dataclass(slots=True, eq=False)
class Frame:
    """Rows in columns, by column id: what sub-tasks hand to each other."""

    columns: dict[int, ColumnData]
    length: int
