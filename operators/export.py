"""Columns out of the engine: Arrow (without a copy where the stored form is Arrow's), numpy, Python values."""

from __future__ import annotations

import datetime
import itertools
from collections.abc import Iterator, Sequence
from decimal import Context, Decimal
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from finequery.errors import NotSupportedError, OutOfRangeError
from finequery.operators import dictionary as dictionaries
from finequery.operators import native, watch
from finequery.operators.arrow_types import to_arrow
from finequery.operators.build import padded
from finequery.operators.column import ColumnData, Frame
from finequery.operators.concat import mask_of
from finequery.operators.encode_kernels import rebase, source_of
from finequery.types import SqlType

if TYPE_CHECKING:
    import pandas
    import pyarrow as pa

_EPOCH = datetime.datetime(1970, 1, 1)
_EPOCH_UTC = _EPOCH.replace(tzinfo=datetime.timezone.utc)
_FIRST_DAY = datetime.date(1970, 1, 1).toordinal()
_EXACT = Context(prec=60)
_NUMPY = {
    "NULL": np.int32,
    "BOOLEAN": np.bool_,
    "TINYINT": np.int8,
    "SMALLINT": np.int16,
    "INTEGER": np.int32,
    "BIGINT": np.int64,
    "UTINYINT": np.uint8,
    "USMALLINT": np.uint16,
    "UINTEGER": np.uint32,
    "UBIGINT": np.uint64,
    "DATE": np.int32,
    "TIMESTAMP": np.int64,
    "TIMESTAMP WITH TIME ZONE": np.int64,
    "DECIMAL": np.int64,
    "HUGEINT": np.int64,
}


def integers(column: ColumnData, dtype: Any = None) -> np.ndarray:
    """Physical values of an exact column as integers of ``dtype`` (default: the SQL type's own width). A view of the
    data where that is the same. 128-bit columns only where each value fits the width."""
    dtype = np.dtype(dtype or _NUMPY[column.type.name])
    if column.kind == "int128":
        high = column.data[1::2].view(np.int64)
        low = column.data[::2]
        fits = high == (low.view(np.int64) >> 63) if dtype.kind == "i" else high == 0
        if not bool(fits.all()):
            raise OutOfRangeError(f"a value of type {column.type} does not fit {dtype}")
        return low.astype(dtype)
    stored = column.data[: column.length]
    if column.base == 0 and column.scale == 1:
        return stored.astype(dtype, copy=False)
    out = np.empty(column.length, np.int64)
    rebase(stored, column.scale, column.base, out)
    return out.astype(dtype, copy=False)


def column_to_arrow(column: ColumnData, *, dictionary: bool = False) -> pa.Array:
    """An Arrow array. ``dictionary``: keep dictionary columns as such; otherwise they become plain strings."""
    import pyarrow as pa

    rows, kind = column.length, to_arrow(column.type)
    validity = None if column.validity is None else pa.py_buffer(column.validity)
    if column.kind == "string":
        assert column.chars is not None
        offsets, chars = column.data, column.chars
        wide = rows > 0 and int(offsets[rows]) > 2**31 - 1
        if wide or column.data.dtype != np.int64:
            kind = pa.large_string()
        else:
            offsets = offsets[: rows + 1].astype(np.int32)
        return pa.Array.from_buffers(kind, rows, [validity, pa.py_buffer(offsets), pa.py_buffer(chars)])
    if column.kind == "dict":
        return _dictionary_to_arrow(column, dictionary)
    if column.type.name == "BOOLEAN":
        bits = np.packbits(column.data[:rows], bitorder="little")
        return pa.Array.from_buffers(kind, rows, [validity, pa.py_buffer(bits)])
    if column.type.is_float:
        return pa.Array.from_buffers(kind, rows, [validity, pa.py_buffer(column.data)])
    if column.kind == "interval":
        record = np.empty(rows, [("months", "i4"), ("days", "i4"), ("nanos", "i8")])
        months, days, micros = _interval_parts(column)
        if rows and int(np.abs(micros).max()) > (2**63 - 1) // 1000:
            raise OutOfRangeError("an INTERVAL is too long for Arrow's nanoseconds")
        record["months"], record["days"], record["nanos"] = months, days, micros * 1000
        return pa.Array.from_buffers(kind, rows, [validity, pa.py_buffer(record)])
    if column.type.is_decimal or column.type.name == "HUGEINT":
        return pa.Array.from_buffers(kind, rows, [validity, pa.py_buffer(_words(column))])
    return pa.Array.from_buffers(kind, rows, [validity, pa.py_buffer(integers(column))])


def _words(column: ColumnData) -> np.ndarray:
    """128-bit values as Arrow's decimals hold them, which is how int128 columns do."""
    if column.kind == "int128":
        return column.data
    words = padded(2 * column.length, np.int64, zero=False)
    values, form = source_of(column.data[: column.length])
    native.run(f"words_{form}", values.ctypes.data, column.scale, column.base, words.ctypes.data, n=column.length)
    return words


def _interval_parts(column: ColumnData) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    pairs = column.data[: 2 * column.length].reshape(-1, 2)
    return pairs[:, 0].astype(np.int32), pairs[:, 0] >> 32, pairs[:, 1]


def _dictionary_to_arrow(column: ColumnData, keep: bool) -> pa.Array:
    import pyarrow as pa

    assert column.dictionary is not None
    codes, rows = column.data, column.length
    validity = None if column.validity is None else pa.py_buffer(column.validity)
    indices = pa.Array.from_buffers(pa.from_numpy_dtype(codes.dtype), rows, [validity, pa.py_buffer(codes)])
    values = dictionaries.to_arrow(column.dictionary)
    lengths = np.diff(column.dictionary.offsets)
    total = int(lengths.max(initial=0)) * rows
    if total > 2**31 - 1:
        total = int(lengths[codes[:rows]].sum())
    if keep:
        if codes.dtype == np.uint32:
            indices = indices.cast(pa.int32())
        return pa.DictionaryArray.from_arrays(indices, values.cast(pa.large_string()).cast(pa.string()))
    kind = pa.large_string() if total > 2**31 - 1 else pa.string()
    return values.cast(pa.large_string()).cast(kind).take(indices)


def frame_to_arrow(frame: Frame, ids: Sequence[int], names: Sequence[str], *, dictionary: bool = False) -> pa.Table:
    """The columns ``ids`` as an Arrow table under ``names`` (which may repeat)."""
    import pyarrow as pa

    columns = watch.staged("converting to Arrow", (frame.columns[i] for i in ids), len(ids))
    arrays = [watch.aside(frame.length, partial(column_to_arrow, column, dictionary=dictionary)) for column in columns]
    schema = pa.schema([pa.field(name, array.type) for name, array in zip(names, arrays)])
    return pa.Table.from_arrays(arrays, schema=schema)


def arrow_to_pandas(table: pa.Table) -> pandas.DataFrame:
    """``table.to_pandas()``; a large one column by column, and those that become Python objects piece by piece, so that
    it can be stopped."""
    if table.num_rows <= watch.PIECE:
        return table.to_pandas()
    import pandas
    import pyarrow.types as kinds

    def converted(column: pa.ChunkedArray) -> pandas.Series:
        kind = column.type
        if not (kinds.is_string(kind) or kinds.is_large_string(kind) or kinds.is_decimal(kind) or kinds.is_date(kind)):
            return watch.aside(len(column), column.to_pandas)
        parts = [column.slice(first, end - first).to_pandas() for first, end in watch.pieces(len(column))]
        return pandas.concat(parts, ignore_index=True)

    columns = watch.staged("converting to pandas", table.columns, table.num_columns)
    frame = pandas.DataFrame(dict(enumerate(map(converted, columns))), copy=False)
    frame.columns = pandas.Index(table.column_names)
    return frame


def frame_to_batches(
    frame: Frame, ids: Sequence[int], names: Sequence[str], rows: int = 1 << 17
) -> Iterator[pa.RecordBatch]:
    """Record batches of at most ``rows`` rows; at least one, so that the schema is known."""
    table = frame_to_arrow(frame, ids, names)
    batches = table.to_batches(max_chunksize=rows)
    if batches:
        yield from batches
    else:
        import pyarrow as pa

        yield pa.RecordBatch.from_arrays([pa.array([], f.type) for f in table.schema], schema=table.schema)


def frame_to_python(frame: Frame, ids: Sequence[int]) -> list[tuple[Any, ...]]:
    """Rows as tuples of Python values."""
    if not ids:
        return [()] * frame.length
    if frame.length <= watch.PIECE:
        return list(zip(*(column_to_python(frame.columns[i]) for i in ids)))
    from finequery.operators.slice import slice_frame

    rows: list[tuple[Any, ...]] = []
    with watch.stage("converting to Python", frame.length, lambda: len(rows)):
        for first, end in watch.pieces(frame.length, watch.PIECE // 64):
            rows += frame_to_python(slice_frame(frame, ids, first, end), ids)
    return rows


def column_to_python(column: ColumnData) -> list[Any]:
    """Python values: int, float, bool, str, Decimal, date, datetime, timedelta; None is NULL."""
    if column.length > watch.PIECE:
        from finequery.operators.slice import slice_column

        parts = (slice_column(column, first, end) for first, end in watch.pieces(column.length, watch.PIECE // 16))
        return [value for part in parts for value in column_to_python(part)]
    values = _python_values(column)
    mask = mask_of(column)
    if mask is not None:
        for row in np.flatnonzero(~mask).tolist():
            values[row] = None
    return values


def _python_values(column: ColumnData) -> list[Any]:
    name, rows = column.type.name, column.length
    if column.kind == "dict":
        assert column.dictionary is not None
        strings = column.dictionary.strings()
        return [strings[code] for code in column.data[:rows].tolist()] if strings else [None] * rows
    if column.kind == "string":
        return _texts(column)
    if name == "BOOLEAN":
        return column.data[:rows].astype(np.bool_).tolist()
    if column.type.is_float:
        return column.data[:rows].tolist()
    if column.kind == "interval":
        months, days, micros = (part.tolist() for part in _interval_parts(column))
        return [_timedelta(m, d, u) for m, d, u in zip(months, days, micros)]
    if column.kind == "int128":
        low, high = column.data[: 2 * rows : 2].tolist(), column.data[1 : 2 * rows : 2].view(np.int64).tolist()
        numbers = [(h << 64) + n for h, n in zip(high, low)]
    else:
        numbers = integers(column, np.int64).tolist()
    return to_python(numbers, column.type)


def to_python(numbers: list[int], sql_type: SqlType) -> list[Any]:
    """Python values of physical ones of an exact type."""
    if sql_type.is_decimal:
        shift = -sql_type.scale
        return [Decimal(n).scaleb(shift, _EXACT) for n in numbers]
    if sql_type.name == "DATE":
        return [_date(n) for n in numbers]
    if sql_type.is_timestamp:
        epoch = _EPOCH if sql_type.name == "TIMESTAMP" else _EPOCH_UTC
        return [_datetime(n, epoch) for n in numbers]
    return numbers


def _date(days: int) -> datetime.date | str:
    try:
        return datetime.date.fromordinal(days + _FIRST_DAY)
    except (ValueError, OverflowError):  # outside of years 1 to 9999: as text, which Python's dates can't hold
        return str(np.datetime64(days, "D"))


def _datetime(micros: int, epoch: datetime.datetime) -> datetime.datetime | str:
    try:
        return epoch + datetime.timedelta(microseconds=micros)
    except OverflowError:
        return str(np.datetime64(micros, "us")).replace("T", " ") + ("" if epoch is _EPOCH else "+00")


def _timedelta(months: int, days: int, micros: int) -> datetime.timedelta:
    return datetime.timedelta(days=30 * months + days, microseconds=micros)


def _texts(column: ColumnData) -> list[Any]:
    assert column.chars is not None
    if column.length == 0:
        return []
    ends = column.data[: column.length + 1]
    raw = column.chars[int(ends[0]) : int(ends[-1])].tobytes()
    cuts = (ends - ends[0]).tolist()
    if raw.isascii():
        text = raw.decode("ascii")
        return [text[a:b] for a, b in itertools.pairwise(cuts)]
    return [raw[a:b].decode("utf-8", "replace") for a, b in itertools.pairwise(cuts)]


def column_to_numpy(column: ColumnData) -> np.ndarray:
    """A numpy array, masked where there are NULLs. DECIMAL and HUGEINT become float64, DATE and TIMESTAMP datetime64
    (those with a time zone in UTC), INTERVAL timedelta64, VARCHAR objects."""
    name, mask = column.type.name, mask_of(column)
    values: np.ndarray
    if column.type.is_string:
        values = np.array(column_to_python(column) + [None], object)[:-1]
    elif name == "BOOLEAN":
        values = column.data[: column.length].astype(np.bool_)
    elif column.type.is_float:
        values = column.data[: column.length]
    elif column.kind == "interval":
        months, days, micros = _interval_parts(column)
        values = ((months.astype(np.int64) * 30 + days) * 86_400_000_000 + micros).view("timedelta64[us]")
    elif column.type.is_decimal or name == "HUGEINT":
        if column.kind == "int128":
            low, high = column.data[::2], column.data[1::2]
            negative = high.view(np.int64) < 0  # by magnitude: low words of small negative numbers are near 2**64
            high = np.where(negative, ~high + (low == 0), high)
            size = high * 2.0**64 + np.where(negative, -low, low)
            values = np.where(negative, -size, size) / 10.0**column.type.scale
        else:
            values = integers(column, np.int64) / 10.0**column.type.scale
    elif name == "DATE":
        values = integers(column, np.int64).view("datetime64[D]").astype("datetime64[us]")
    elif column.type.is_timestamp:
        values = integers(column).view("datetime64[us]")
    elif name in _NUMPY:
        values = integers(column)
    else:
        raise NotSupportedError(f"the type {column.type} has no numpy form")
    return values if mask is None else np.ma.masked_array(values, mask=~mask)


def plain_dtype(column: ColumnData) -> np.dtype[Any] | None:
    """The type that ``column_to_numpy`` gives where that only undoes the encoding; None where it computes."""
    name = column.type.name
    if column.type.is_float:
        return column.data.dtype
    if column.type.is_timestamp or (name in _NUMPY and name not in ("DATE", "DECIMAL", "HUGEINT")):
        return np.dtype(_NUMPY[name])
    return None


def frame_to_numpy(frame: Frame, ids: Sequence[int], names: Sequence[str]) -> dict[str, np.ndarray]:
    """numpy arrays by name; where a name repeats, the last column has it."""
    columns = watch.staged("converting to numpy", ids, len(ids))
    return {name: watch.aside(frame.length, column_to_numpy, frame.columns[i]) for i, name in zip(columns, names)}
