"""The keys of a join's build side: one 64-bit integer a row, and the look-up made of them.

Values of any kind are brought to digits (the physical value, its code, its number among the distinct ones), several
digits are packed by their ranges.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from finequery.operators import native
from finequery.operators.build import KeyPart, Lookup, build_lookup, padded
from finequery.operators.column import ColumnData, Frame
from finequery.operators.distinct import number_texts
from finequery.operators.group_modes import MOST_PACKED
from finequery.operators.lower import NONE
from finequery.operators.pool import Pool
from finequery.operators.take import FEW_ROWS
from finequery.types import BIGINT


@dataclass(eq=False)
class Interned:
    """Distinct byte strings of a build side, numbered: what a probe needs to number its own."""

    offsets: np.ndarray
    chars: np.ndarray
    table: np.ndarray
    mask: int
    firsts: np.ndarray
    count: int


def make_lookup(
    frame: Frame,
    columns: list[ColumnData],
    null_safe: bool,
    need_rows: bool,
    pool: Pool,
    probes: int,
    device: Any = None,
) -> Lookup:
    """A look-up over key columns (none: every row matches every row)."""
    if not columns:
        lookup = Lookup("groups", frame, frame.length, [], 0, 1, unique=frame.length <= 1, reason="no keys: all pairs")
        lookup.starts = np.array([0, frame.length, frame.length, 0, 0], dtype=np.uint32)
        lookup.most = max(frame.length, 1)
        lookup.listed = None
        return lookup
    has_null = any(c.validity is not None and _nulls(c) > 0 for c in columns)
    if as_stored(columns, null_safe):
        column = columns[0]
        part = KeyPart(0, 0, dictionary=column.dictionary)
        return build_lookup(frame, column, [part], None, need_rows, pool, has_null, probes, device)
    packed = None
    if device is not None and frame.length >= FEW_ROWS:
        from finequery.operators.cuda.keys import pack_on_gpu

        packed = pack_on_gpu(columns, null_safe, device)
    keys, parts, rows = packed or pack(columns, null_safe, pool)
    return build_lookup(frame, keys, parts, rows, need_rows, pool, has_null, probes, device)


def as_stored(columns: list[ColumnData], null_safe: bool) -> bool:
    """Whether the keys are one column whose stored values, moved by its base, are the look-up's keys."""
    return (
        len(columns) == 1 and not null_safe and columns[0].kind in ("uint", "int64", "dict") and columns[0].scale == 1
    )


def _nulls(column: ColumnData) -> int:
    if column.validity is None:
        return 0
    return column.length - int(np.unpackbits(column.validity.view(np.uint8), bitorder="little")[: column.length].sum())


def valid_flags(column: ColumnData) -> np.ndarray | None:
    """Validity as booleans (None: all valid)."""
    if column.validity is None:
        return None
    return np.unpackbits(column.validity.view(np.uint8), bitorder="little")[: column.length].astype(bool)


def pack(columns: list[ColumnData], null_safe: bool, pool: Pool) -> tuple[ColumnData, list[KeyPart], np.ndarray | None]:
    """Several key columns as one int64 column; positions kept where rows with NULL were dropped."""
    count = columns[0].length
    packed = padded(count, np.int64)
    parts: list[KeyPart] = []
    factor = 1
    keep: np.ndarray | None = None
    null = 1 if null_safe else 0
    for column in columns:
        alone = len(columns) == 1 and not null_safe
        digits, part = _digits(column, alone, pool)
        if not alone and factor * (part.span + null) > MOST_PACKED and part.span > max(count, 1):
            digits, part = _numbers(digits if part.span > MOST_PACKED else digits + part.low, pool)
        if factor * (part.span + null) > MOST_PACKED:
            numbered, before = _numbers(packed, pool)
            packed[:], factor, part.before = numbered, before.span, before.interned
        flags = valid_flags(column)
        if null_safe:
            digits = digits + 1
            if flags is not None:
                digits[~flags] = 0
        elif flags is not None:
            keep = flags if keep is None else keep & flags
        part.factor = factor
        parts.append(part)
        if alone:
            packed[:] = digits
        else:
            packed += digits * np.int64(factor)
        factor *= part.span + null
    rows: np.ndarray | None = None
    if keep is not None and not keep.all():
        rows = np.flatnonzero(keep).astype(np.uint32)
        kept = padded(len(rows), np.int64, zero=False)
        kept[:] = packed[:count][keep]
        packed = kept
    data = ColumnData(columns[0].type, "int64", len(packed) if rows is not None else count, packed)
    return data, parts, rows


def _digits(column: ColumnData, single: bool, pool: Pool) -> tuple[np.ndarray, KeyPart]:
    """A key column as int64 digits from 0, and how a probe makes its own."""
    count = column.length
    if column.kind == "dict":
        assert column.dictionary is not None
        return column.data[:count].astype(np.int64), KeyPart(
            0, max(len(column.dictionary), 1), dictionary=column.dictionary
        )
    if column.kind in ("uint", "int64"):
        stored = column.data[:count]
        flags = valid_flags(column)
        seen = stored if flags is None else stored[flags]
        if len(seen) == 0:
            return np.zeros(count, dtype=np.int64), KeyPart(0, 1)
        low = column.base + column.scale * int(seen.min())
        high = column.base + column.scale * int(seen.max())
        values = stored.astype(np.int64)
        if column.scale != 1:
            values *= column.scale
        if single:
            values += column.base
            return values, KeyPart(0, 0)
        span = high - low + 1
        values += column.base - (low if span <= MOST_PACKED else 0)
        return values, KeyPart(low, span)
    if column.kind in ("float32", "float64"):
        doubles = column.data[:count].astype(np.float64) + 0.0
        doubles[np.isnan(doubles)] = np.nan
        bits = doubles.view(np.int64)
        if single:
            return bits, KeyPart(0, 0)
        low, high = int(bits.min(initial=0)), int(bits.max(initial=0))
        span = high - low + 1
        return bits - low if span <= MOST_PACKED else bits, KeyPart(low, span)
    if column.kind == "interval":
        from finequery.errors import NotSupportedError

        raise NotSupportedError("A join on an INTERVAL is not supported.", hint="Compare dates, or numbers of days.")
    interned, numbers = intern(column, pool)
    return numbers.astype(np.int64), KeyPart(0, max(interned.count, 1), interned=interned)


def _numbers(values: np.ndarray, pool: Pool) -> tuple[np.ndarray, KeyPart]:
    """Digits for values of any range: the numbers of the distinct ones."""
    count = len(values)
    words = padded(2 * count, np.uint64)
    words[::2], words[1::2] = values.view(np.uint64), (values >> 63).view(np.uint64)
    interned, numbers = intern(ColumnData(BIGINT, "int128", count, words), pool)
    return numbers.astype(np.int64), KeyPart(0, max(interned.count, 1), interned=interned)


def intern(column: ColumnData, pool: Pool) -> tuple[Interned, np.ndarray]:
    """Number the distinct values of a string or 128-bit column, NULL as 0: the values for those who look for theirs,
    and the number of each row (u32)."""
    offsets, chars = as_bytes(column)
    numbers, firsts, hashes = number_texts(offsets, chars, column.validity, column.length, pool)
    slots = 1 << max(6, int(2 * len(firsts)).bit_length())
    table = padded(slots * 2, np.uint64)
    native.run("index_texts", *(a.ctypes.data for a in (hashes, firsts, table)), slots - 1, n=len(firsts))
    if column.validity is not None:
        numbers[numbers == NONE] = 0
    return Interned(offsets, chars, table, slots - 1, firsts, len(firsts)), numbers


def as_bytes(column: ColumnData) -> tuple[np.ndarray, np.ndarray]:
    """A string or 128-bit column as offsets and bytes."""
    count = column.length
    if column.kind == "string":
        assert column.chars is not None
        return column.data, column.chars
    if column.kind == "interval":  # a month is 30 days, a day 24 hours: equal spans of time are one value
        parts = column.data[: 2 * count : 2]
        days = parts.astype(np.int32).astype(np.int64) * 30 + (parts >> 32)
        micros = column.data[1 : 2 * count : 2]
        data = padded(2 * count, np.int64)
        data[::2], data[1::2] = days + micros // 86_400_000_000, micros % 86_400_000_000
        column = ColumnData(column.type, "int128", count, data, validity=column.validity)
    offsets = np.arange(count + 1, dtype=np.int64) * 16
    chars = np.zeros(count * 16 + 64, dtype=np.uint8)
    chars[: count * 16] = column.data.view(np.uint8)[: count * 16]
    return offsets, chars
