"""Columns of a group-by's results: narrow, checked against their types."""

from __future__ import annotations

from typing import Any

import numpy as np

from finequery.errors import OutOfRangeError
from finequery.operators import native
from finequery.operators.build import padded
from finequery.operators.column import ColumnData, Dictionary, Stats
from finequery.operators.lower import I64_HIGH, I64_LOW
from finequery.operators.materialize import pack_validity
from finequery.operators.pool import Pool
from finequery.types import SqlType


def wide_objects(pairs: np.ndarray) -> np.ndarray:
    """128-bit values, a row of two words each, as Python integers."""
    low, high = pairs[:, 0].view(np.uint64).astype(object), pairs[:, 1].astype(object)
    return high * (1 << 64) + low


def exact_column(type_: SqlType, values: Any, flags: np.ndarray | None = None) -> ColumnData:
    """A column of exact values (int64 or Python integers), narrow, checked against its type."""
    count = len(values)
    if flags is not None and not flags.all():
        values = np.where(flags, values, 0)
        validity, nulls = pack_validity(flags.astype(np.uint8), count)
        seen = values[flags]
    else:
        validity, nulls, seen = None, 0, values
    low = int(seen.min()) if len(seen) else 0
    high = int(seen.max()) if len(seen) else 0
    least, most = type_.limits
    if low < least or high > most:
        raise OutOfRangeError(f"Overflow: a result of {high if high > most else low} does not fit {type_}")
    stats = Stats(low=low if len(seen) else None, high=high if len(seen) else None, nulls=nulls)
    floor = min(low, 0) if validity is not None else low
    base = 0 if floor >= 0 and high < 2**32 else floor
    if high - base < 2**32 and base >= I64_LOW and high <= I64_HIGH:
        dtype = np.uint8 if high - base < 256 else np.uint16 if high - base < 65536 else np.uint32
        data = padded(count, dtype)
        if base and validity is not None:
            values = np.where(np.asarray(flags), values, base)
        data[:] = (values - base) if base else values
        return ColumnData(type_, "uint", count, data, base, validity=validity, stats=stats)
    if low >= I64_LOW and high <= I64_HIGH:
        data = padded(count, np.int64)
        data[:] = values
        return ColumnData(type_, "int64", count, data, validity=validity, stats=stats)
    words = padded(2 * count, np.uint64)
    mask = (1 << 64) - 1
    for i, number in enumerate(values.tolist()):
        words[2 * i], words[2 * i + 1] = number & mask, (number >> 64) & mask
    return ColumnData(type_, "int128", count, words, validity=validity, stats=stats)


#: From this many values on, decoding is shared among the threads.
SHARED = 1 << 17


def decoded(
    type_: SqlType,
    sums: np.ndarray,
    pick: np.ndarray | None,
    counts: np.ndarray | None,
    base: int,
    scale: int,
    pool: Pool,
) -> ColumnData:
    """A column of base * count + scale * sum of the groups ``pick`` (None: all of them, in order), as narrow as its
    values are. ``counts``: NULL where 0; None: no NULLs, and no base."""
    size = len(sums) if pick is None else len(pick)
    bounds = np.zeros((pool.threads, 8), dtype=np.int64)
    bounds[:, 0], bounds[:, 1] = I64_HIGH, I64_LOW
    words = [sums.ctypes.data, 0 if pick is None else pick.ctypes.data]
    words += [0 if counts is None else counts.ctypes.data, base, scale, bounds.ctypes.data]
    _over("decoded_bounds", words, size, pool)
    low, high = int(bounds[:, 0].min()), int(bounds[:, 1].max())
    flags: np.ndarray | None = None
    if counts is not None and bounds[:, 2].any():
        flags = (counts if pick is None else counts[pick]) > 0
    if low > high:
        low = high = 0
    least, most = type_.limits
    if low < least or high > most:
        raise OutOfRangeError(f"Overflow: a result of {high if high > most else low} does not fit {type_}")
    validity, nulls = (None, 0) if flags is None else pack_validity(flags.astype(np.uint8), size)
    stats = Stats(low=low, high=high, nulls=nulls)
    floor = min(low, 0) if validity is not None else low
    shift = 0 if floor >= 0 and high < 2**32 else floor
    item = "u32"
    dtype: Any = np.uint32
    if high - shift >= 2**32:
        if pick is None and counts is None and scale == 1:
            return ColumnData(type_, "int64", size, sums, stats=stats)
        shift, item, dtype = 0, "i64", np.int64
    elif high - shift < 256:
        item, dtype = "u8", np.uint8
    elif high - shift < 65536:
        item, dtype = "u16", np.uint16
    data = padded(size, dtype, zero=False)
    _over(f"decoded_{item}", [*words[:5], shift, data.ctypes.data], size, pool)
    kind = "int64" if item == "i64" else "uint"
    return ColumnData(type_, kind, size, data, shift, validity=validity, stats=stats)


def _over(kernel: str, words: list[int], rows: int, pool: Pool) -> None:
    """Run a range kernel, alone where it is not worth waking the others."""
    if rows < SHARED:
        arguments = np.array(words, dtype=np.int64)
        native.function(kernel)(0, rows, 0, arguments.ctypes.data)
    else:
        pool.range(kernel, words, rows)


def float_column(type_: SqlType, values: np.ndarray, flags: np.ndarray) -> ColumnData:
    """A column of doubles or floats."""
    count = len(values)
    data = padded(count, np.float32 if type_.name == "FLOAT" else np.float64)
    data[:] = np.where(flags, values, 0.0)
    validity, nulls = (None, 0) if flags.all() else pack_validity(flags.astype(np.uint8), count)
    kind = "float32" if type_.name == "FLOAT" else "float64"
    return ColumnData(type_, kind, count, data, validity=validity, stats=Stats(nulls=nulls))


def code_column(type_: SqlType, codes: np.ndarray, dictionary: Dictionary, flags: np.ndarray | None) -> ColumnData:
    """A column of dictionary codes."""
    size = len(dictionary)
    dtype = np.uint8 if size <= 256 else np.uint16 if size <= 65536 else np.uint32
    data = padded(len(codes), dtype)
    data[:] = codes
    validity, nulls = (None, 0) if flags is None else pack_validity(flags.astype(np.uint8), len(codes))
    stats = Stats(nulls=nulls, ascii=dictionary.ascii)
    return ColumnData(type_, "dict", len(codes), data, validity=validity, dictionary=dictionary, stats=stats)
