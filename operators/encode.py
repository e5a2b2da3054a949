"""Arrow to columns: one pass measures (range, common factor, order), the layout is chosen, one pass narrows."""

from __future__ import annotations

import functools
import itertools
from math import gcd
from typing import TYPE_CHECKING, Any

import numpy as np

from finequery.errors import OutOfRangeError
from finequery.jetson import memory
from finequery.operators import encode_kernels as kernels
from finequery.operators.arrow_arrays import of_numpy
from finequery.operators.arrow_types import from_arrow, require
from finequery.operators.column import BLOCK, ColumnData, Stats
from finequery.operators.encode_kernels import CHUNK, Range
from finequery.operators.threads import parallel
from finequery.types import SqlType

if TYPE_CHECKING:
    import pyarrow as pa

#: Rows that one thread takes at a time.
TASK = 4 * CHUNK
_SAMPLE = 16384
_DAY = 86_400_000


def encode(
    data: Any, sql_type: SqlType | None = None, name: str = "", *, part: bool = False, plain: bool = False
) -> ColumnData:
    """A column of an Arrow array or chunked array. ``part``: it will be joined to others (operators.concat), so leave
    out the statistics that would have to be made anew. ``plain``: don't try a dictionary for strings."""
    import pyarrow as pa

    arrays = [a for a in (data.chunks if isinstance(data, pa.ChunkedArray) else [data]) if len(a)]
    sql_type = sql_type or from_arrow(data.type)
    require(sql_type, name or "?")
    arrays = [_canonical(a) for a in arrays]
    rows = sum(map(len, arrays))
    if rows == 0 or sum(a.null_count for a in arrays) == rows:
        from finequery.operators.concat import constant_column

        return constant_column(sql_type, None, rows)
    if sql_type.is_string:
        from finequery.operators.encode_strings import encode_strings

        return encode_strings(arrays, rows, part, plain)
    if sql_type.is_float:
        column = _encode_floats(arrays, sql_type, rows)
    elif sql_type.name == "INTERVAL":
        column = _encode_intervals(arrays, sql_type, rows)
    else:
        return _encode_exact(arrays, sql_type, rows, part)
    return column if part else finish(column)


def _canonical(array: pa.Array) -> pa.Array:
    """Decode what is only a wrapping, so that few Arrow types remain."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.types as kinds

    if isinstance(array, pa.ExtensionArray):
        array = array.storage
    kind = array.type
    if kinds.is_run_end_encoded(kind):
        return _canonical(pc.run_end_decode(array))
    if kinds.is_dictionary(kind) and not (kinds.is_string(kind.value_type) and array.dictionary.null_count == 0):
        if from_arrow(kind).is_string and array.dictionary.null_count == 0:
            return pa.DictionaryArray.from_arrays(array.indices, array.dictionary.cast(pa.large_string()))
        return _canonical(array.dictionary_decode())
    if str(kind) == "string_view":
        return array.cast(pa.large_string())
    if kinds.is_decimal256(kind):
        return array.cast(pa.decimal128(kind.precision, kind.scale))
    if kinds.is_float16(kind):
        return array.cast(pa.float32())
    return array


def slices(arrays: list[Any]) -> list[tuple[Any, int]]:
    """The rows in tasks for threads, each with the row where it starts."""
    tasks = []
    start = 0
    for array in arrays:
        for offset in range(0, len(array), TASK):
            tasks.append((array.slice(offset, TASK) if len(array) > TASK else array, start + offset))
        start += len(array)
    return tasks


def mask_of(array: pa.Array) -> np.ndarray | None:
    """Booleans, True where valid; None where nothing is NULL."""
    if array.null_count == 0:
        return None
    bits = array.buffers()[0]
    if bits is None:
        return np.zeros(len(array), np.bool_)
    return kernels.unpack_bits(np.frombuffer(bits, np.uint8), array.offset, len(array))


def validity_of(arrays: list[Any], rows: int) -> tuple[np.ndarray | None, int]:
    """The packed validity of all rows, and the number of NULLs."""
    import pyarrow as pa

    nulls = sum(a.null_count for a in arrays)
    if nulls == 0:
        return None, 0
    parts = []
    for array in arrays:
        mask = mask_of(array)
        parts.append(of_numpy(np.ones(len(array), np.bool_) if mask is None else mask))
    return pack(pa.concat_arrays(parts), rows), nulls


def pack(bits: pa.Array, rows: int) -> np.ndarray:
    """An Arrow boolean array as a validity bitmap: whole words, zero past the last row."""
    if bits.offset % 8:
        import pyarrow as pa

        bits = pa.concat_arrays([bits.slice(0, 0), bits])
    result = memory.array((rows + 63) // 64 * 8, np.uint8, zero=True)
    size = (rows + 7) // 8
    result[:size] = np.frombuffer(bits.buffers()[1], np.uint8, size, bits.offset // 8)
    if rows % 8:
        result[size - 1] &= (1 << rows % 8) - 1
    return result


def _raw(array: pa.Array, dtype: Any, per_row: int = 1) -> np.ndarray:
    dtype = np.dtype(dtype)
    skip = array.offset * per_row * dtype.itemsize
    return np.frombuffer(array.buffers()[1], dtype, len(array) * per_row, skip)


_INTEGERS = {
    "int8": "i1",
    "int16": "i2",
    "int32": "i4",
    "int64": "i8",
    "uint8": "u1",
    "uint16": "u2",
    "uint32": "u4",
    "uint64": "u8",
    "date32[day]": "i4",
}


def physical(array: pa.Array) -> tuple[np.ndarray, bool]:
    """Physical values of an exact type as integers, any width, garbage under NULL; True: 128-bit words (low, high)."""
    import pyarrow.types as kinds

    kind = array.type
    plain = _INTEGERS.get(str(kind))
    if plain == "u8":
        return _unsigned(array)
    if plain is not None:
        return _raw(array, plain), False
    if kinds.is_boolean(kind):
        bits = np.frombuffer(array.buffers()[1], np.uint8)
        return kernels.unpack_bits(bits, array.offset, len(array)).view(np.uint8), False
    if kinds.is_decimal(kind):
        if kind.bit_width < 128:
            return _raw(array, f"i{kind.bit_width // 8}"), False
        words = _raw(array, np.uint64, 2)
        if kind.precision > 18:
            mask = mask_of(array)
            if mask is not None:
                words = (words.reshape(-1, 2) * mask[:, None]).reshape(-1)
            if not kernels.fits_one_word(words):
                return words, True
        return words.view(np.int64)[::2], False
    values = _raw(array, np.int64)
    if kinds.is_date64(kind):
        return values // _DAY, False
    if kind.unit == "us":  # as they are, without a copy
        return values, False
    return _microseconds(values, kind.unit, mask_of(array)), False


def _unsigned(array: pa.Array) -> tuple[np.ndarray, bool]:
    values, mask = _raw(array, "u8"), mask_of(array)
    if mask is not None:
        values = values * mask
    if int(values.max()) < 2**63:
        return values.view(np.int64), False
    words = np.zeros(2 * len(values), np.uint64)
    words[::2] = values
    return words, True


def _microseconds(values: np.ndarray, unit: str, mask: np.ndarray | None) -> np.ndarray:
    if mask is not None:
        values = values * mask
    if unit == "ns":  # to the nearest, halves away from zero
        away = np.abs(values) // 1000 + (np.abs(values) % 1000 >= 500)
        return np.where(values < 0, -away, away)
    factor = {"s": 1_000_000, "ms": 1000, "us": 1}[unit]
    if max(-int(values.min()), int(values.max())) * factor > 2**63 - 1:
        raise OutOfRangeError(f"a time in {unit} lies outside of what microseconds in 64 bits can hold")
    return values * factor


def layout(sql_type: SqlType, low: int, high: int, factor: int) -> tuple[str, np.dtype, int, int]:
    """Kind, element type, base, scale for values from ``low`` to ``high`` that ``factor`` divides (0: only zeros)."""
    if sql_type.name == "BOOLEAN":
        return "uint", np.dtype(np.uint8), 0, 1
    if low < -(2**63) or high >= 2**63:
        return "int128", np.dtype(np.uint64), 0, 1
    scale = factor if factor > 1 and has_factor(sql_type) else 1
    for dtype in (np.uint8, np.uint16, np.uint32):
        top = int(np.iinfo(dtype).max)
        if (high - low) // scale <= top:
            return "uint", np.dtype(dtype), 0 if low >= 0 and high // scale <= top else low, scale
    return "int64", np.dtype(np.int64), 0, scale


def has_factor(sql_type: SqlType) -> bool:
    """Whether a common factor of the values is divided out: prices in whole units, times in whole seconds."""
    return sql_type.is_decimal or sql_type.is_timestamp


def _encode_exact(arrays: list[Any], sql_type: SqlType, rows: int, part: bool) -> ColumnData:
    validity, nulls = validity_of(arrays, rows)
    tasks = slices(arrays)
    factored = has_factor(sql_type)
    order = nulls == 0  # one task out of order ends the question for all that start later
    common = 0  # may lag behind other threads: only a first guess of what divides

    def measure(task: tuple[Any, int]) -> Range | None:
        nonlocal order, common
        values, wide = physical(task[0])
        mask = mask_of(task[0])
        if wide:
            order = False
            low, high = kernels.range128(values if mask is None else values.reshape(-1, 2)[mask].reshape(-1))
            return Range(low, high, False, False, 0, 1, 0, 0)
        if mask is not None:
            values = values[mask]
            if len(values) == 0:
                return None
        found = kernels.measure(values, order, common if factored else None)
        order, common = order and found.ascending, found.factor
        return found

    ranges = [r for r in parallel(measure, tasks) if r is not None]
    low, high = min(r.low for r in ranges), max(r.high for r in ranges)
    kind, dtype, base, scale = layout(sql_type, low, high, gcd(*(r.factor for r in ranges)))
    data = memory.array(rows * (2 if kind == "int128" else 1), dtype)

    def store(task: tuple[Any, int]) -> None:
        chunk, start = task
        values, wide = physical(chunk)
        mask = mask_of(chunk)
        if kind == "int128":
            target = data[2 * start : 2 * (start + len(chunk))]
            if wide:
                target[:] = values
            else:
                target[::2] = values.astype(np.int64).view(np.uint64)
                target[1::2] = (values < 0).astype(np.uint64) * np.uint64(2**64 - 1)
            if mask is not None:
                target.reshape(-1, 2)[~mask] = 0
            return
        if mask is not None:
            values = np.where(mask, values, values.dtype.type(base))
        kernels.narrow(values, base, scale, data[start : start + len(chunk)])

    parallel(store, tasks)
    stats = Stats(low=low, high=high, nulls=nulls)
    if nulls == 0 and order:
        steps = [(a.last, b.first) for a, b in itertools.pairwise(ranges)]
        stats.sorted = all(a <= b for a, b in steps)
        if stats.sorted:
            stats.unique = all(r.strict for r in ranges) and all(a < b for a, b in steps)
            stats.distinct = sum(r.runs for r in ranges) - sum(a == b for a, b in steps)
    column = ColumnData(sql_type, kind, rows, data, base, scale, validity, stats=stats)
    return column if part else finish(column)


def _encode_floats(arrays: list[Any], sql_type: SqlType, rows: int) -> ColumnData:
    validity, nulls = validity_of(arrays, rows)
    single = sql_type.name == "FLOAT"
    data = memory.array(rows, np.float32 if single else np.float64)

    def store(task: tuple[Any, int]) -> None:
        chunk, start = task
        target = data[start : start + len(chunk)]
        target[:] = _raw(chunk, data.dtype)
        mask = mask_of(chunk)
        if mask is not None:
            target[~mask] = 0

    parallel(store, slices(arrays))
    return ColumnData(
        sql_type, "float32" if single else "float64", rows, data, validity=validity, stats=Stats(nulls=nulls)
    )


def _encode_intervals(arrays: list[Any], sql_type: SqlType, rows: int) -> ColumnData:
    import pyarrow.types as kinds

    validity, nulls = validity_of(arrays, rows)
    data = memory.array(2 * rows, np.int64, zero=True)
    start = 0
    for array in arrays:
        months: Any = 0
        days: Any = 0
        if kinds.is_duration(array.type):
            values = _raw(array, np.int64)
            if array.type.unit == "ns":
                micros = np.sign(values) * (np.abs(values) // 1000)
            else:
                micros = _microseconds(values, array.type.unit, mask_of(array))
        else:
            record = np.dtype([("months", "i4"), ("days", "i4"), ("nanos", "i8")])
            items = _raw(array, record)
            months, days = items["months"].astype(np.int64), items["days"].astype(np.int64)
            micros = np.sign(items["nanos"]) * (np.abs(items["nanos"]) // 1000)
        target = data[2 * start : 2 * (start + len(array))].reshape(-1, 2)
        target[:, 0] = (months & 0xFFFFFFFF) | (days << 32)
        target[:, 1] = micros
        mask = mask_of(array)
        if mask is not None:
            target[~mask] = 0
        start += len(array)
    return ColumnData(sql_type, "interval", rows, data, validity=validity, stats=Stats(nulls=nulls))


def finish(column: ColumnData) -> ColumnData:
    """Add the statistics that need the whole column: bounds of blocks, distinct values, uniqueness."""
    stats, rows = column.stats, column.length
    if rows == 0 or column.kind == "interval":
        stats.distinct = 0 if rows == 0 else stats.distinct
        return column
    if column.kind in ("uint", "int64", "float32", "float64", "dict"):
        stats.block_low, stats.block_high = kernels.block_bounds(column.data, BLOCK)
    if column.kind in ("float32", "float64"):
        assert stats.block_low is not None and stats.block_high is not None
        low, high = float(stats.block_low.min()), float(stats.block_high.max())
        if low == low:  # no NaN
            stats.low, stats.high = low, high
        else:
            stats.block_low = stats.block_high = None
    if column.kind == "dict":
        assert column.dictionary is not None
        stats.distinct = len(column.dictionary) if stats.nulls < rows else 0
    elif stats.distinct is None:
        stats.distinct = _distinct(column)
    span = None
    if column.kind == "uint" and stats.low is not None and stats.high is not None:
        span = (int(stats.high) - column.base) // column.scale + 1
    # the estimate is below the number of rows as soon as the sample holds a value twice
    if not stats.unique and stats.distinct == rows and stats.nulls == 0 and span and rows <= span <= 8 * rows:
        stats.unique = kernels.all_distinct([column.data], span, rows)
        if stats.unique:
            stats.distinct = rows
    return column


def _distinct(column: ColumnData) -> int:
    """Estimate of the distinct values, NULLs aside."""
    rows, stats = column.length, column.stats
    most = None
    if column.type.is_exact and stats.low is not None and stats.high is not None:
        most = (int(stats.high) - int(stats.low)) // column.scale + 1
        if most == 1:
            return 1
    places = sample_rows(rows, _SAMPLE // 4 if column.kind == "string" else _SAMPLE)
    sample: np.ndarray
    if column.kind == "int128":
        sample = column.data[2 * places] ^ (column.data[2 * places + 1] * np.uint64(0x9E3779B97F4A7C15))
    elif column.kind == "string":
        lengths = column.data[places + 1] - column.data[places]
        assert column.chars is not None
        chars = column.chars.data
        starts = column.data[places].tolist()
        sample = np.array([hash(bytes(chars[a : a + n])) for a, n in zip(starts, lengths.tolist())], np.int64)
    else:
        sample = column.data[places]
    if column.validity is not None:
        sample = sample[(column.validity[places >> 3] >> (places & 7)) & 1 == 1]
    return kernels.distinct_estimate(sample, rows - stats.nulls, most)


@functools.lru_cache(maxsize=8)
def sample_rows(rows: int, count: int = _SAMPLE) -> np.ndarray:
    """Row numbers of a random sample (all rows where they are few), the same at every run."""
    if rows <= 4 * count:
        return np.arange(rows)
    return np.unique(np.random.default_rng(rows).integers(0, rows, count))
