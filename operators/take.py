"""Gathering rows: columns of the rows that a list of row numbers names."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from finequery.jetson import memory
from finequery.operators.column import ColumnData, Frame, Stats
from finequery.operators.pool import Pool

#: The row number that stands for no row (an outer join's missing side).
NO_ROW = 0xFFFFFFFF
#: Fewer rows are fetched, or their keys packed, by the CPU also where the GPU does what comes before and behind: it has
#: all columns, and a few rows cost it less than launching kernels and waiting for them.
FEW_ROWS = 4096


def take(
    column: ColumnData,
    rows: np.ndarray,
    pool: Pool,
    missing: bool = False,
    *,
    ascending: bool = False,
    device: Any = None,
) -> ColumnData:
    """The rows ``rows`` (uint32) of a column, in that order. ``missing``: NO_ROW among them gives NULL. ``ascending``:
    the row numbers are known to ascend strictly, so a sorted column stays one. ``device``: the GPU that fetches them
    unless they are few."""
    assert rows.dtype == np.uint32 and rows.flags.c_contiguous
    count = len(rows)
    flag = int(missing)
    if count == 0 or column.length == 0:  # all rows missing: any source of zeros does
        column = _zeros(column)
    at, source = memory.address(rows), memory.address(column.data)
    chars, validity, nulls = column.chars, None, 0
    nullable = column.validity is not None or missing
    if device is not None and count >= FEW_ROWS:
        from finequery.operators.cuda import take as on_gpu

        if column.kind == "string":
            data, chars = on_gpu.take_strings(device, column, rows, missing)
        else:
            data = on_gpu.take_items(device, column, rows, missing)
        if nullable:
            validity, nulls = on_gpu.take_validity(device, column, rows, missing)
    else:
        if column.kind == "string":
            data, chars = _take_strings(column, rows, pool)
        else:
            per_row = 2 if column.kind in ("int128", "interval") else 1
            data = memory.array(count * per_row, column.data.dtype)
            pool.range(f"take_{column.width}", (source, at, memory.address(data), flag), count)
        if nullable:
            validity = memory.array((count + 63) // 64 * 8, np.uint8)
            bitmap = 0 if column.validity is None else memory.address(column.validity)
            pool.range("take_valid", (bitmap, at, memory.address(validity), flag), count)
            nulls = count - count_valid(validity, pool)
    if nulls == 0:
        validity = None
    known = column.stats
    stats = Stats(low=known.low, high=known.high, nulls=nulls, ascii=known.ascii)
    if ascending and nulls == 0 and not missing:
        stats.sorted, stats.unique = known.sorted, known.unique
    return replace(column, length=count, data=data, chars=chars, validity=validity, stats=stats, owner=None)


def take_frame(frame: Frame, rows: np.ndarray, pool: Pool, missing: bool = False) -> Frame:
    """The rows ``rows`` of all columns."""
    return Frame({i: take(column, rows, pool, missing) for i, column in frame.columns.items()}, len(rows))


def slice_column(column: ColumnData, start: int, length: int) -> ColumnData:
    """A copy of ``length`` rows from ``start`` (which must lie in the column), aligned and padded as every column."""
    per_row = 2 if column.kind in ("int128", "interval") else 1
    known = column.stats
    stats = Stats(low=known.low, high=known.high, ascii=known.ascii)
    validity, chars = None, column.chars
    if column.validity is not None:
        bits = np.unpackbits(column.validity[start // 8 : (start + length + 7) // 8], bitorder="little")
        bits = bits[start % 8 : start % 8 + length]
        stats.nulls = length - int(np.count_nonzero(bits))
        if stats.nulls:
            validity = memory.array((length + 63) // 64 * 8, np.uint8, zero=True)
            validity[: (length + 7) // 8] = np.packbits(bits, bitorder="little")
    if stats.nulls == 0:
        stats.sorted, stats.unique = known.sorted, known.unique
    if column.kind == "string":
        assert chars is not None
        first, last = int(column.data[start]), int(column.data[start + length])
        data = memory.array(length + 1, np.int64)
        np.subtract(column.data[start : start + length + 1], first, out=data)
        chars = memory.array(last - first, np.uint8)
        chars[:] = column.chars[first:last] if column.chars is not None else 0
    else:
        data = memory.array(length * per_row, column.data.dtype)
        data[:] = column.data[start * per_row : (start + length) * per_row]
    return replace(column, length=length, data=data, chars=chars, validity=validity, stats=stats, owner=None)


def count_valid(validity: np.ndarray, pool: Pool) -> int:
    """Set bits of a bitmap of whole words."""
    found = np.zeros((pool.threads, 8), np.int64)
    pool.range("count_bits", (memory.address(validity), memory.address(found)), len(validity) // 8)
    return int(found[:, 0].sum())


def _take_strings(column: ColumnData, rows: np.ndarray, pool: Pool) -> tuple[np.ndarray, np.ndarray]:
    assert column.chars is not None
    count = len(rows)
    morsel = 65536
    offsets = memory.array(count + 1, np.int64)
    offsets[0] = 0
    starts = np.zeros(-(-count // morsel) + 1, np.int64)
    head = (memory.address(column.data), memory.address(rows), memory.address(offsets), morsel)
    pool.range("take_lengths", (*head, memory.address(starts) + 8), count, morsel)
    np.cumsum(starts, out=starts)
    size = int(starts[-1])
    chars = memory.array(size, np.uint8)
    tail = (memory.address(starts), memory.address(column.chars), memory.address(chars))
    pool.range("take_bytes", (*head, *tail), count, morsel)
    return offsets, chars


def _zeros(column: ColumnData) -> ColumnData:
    """The column with one row of stored zeros, to point at."""
    per_row = 2 if column.kind in ("int128", "interval", "string") else 1
    data = memory.array(per_row, column.data.dtype, zero=True)
    return replace(column, data=data, length=1, validity=None)
