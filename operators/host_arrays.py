"""Arrow arrays and Python lists of physical values, both ways, for the functions that go value by value."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from finequery.errors import OutOfRangeError
from finequery.operators.arrow_arrays import bitmap, of_values, valid_of
from finequery.operators.arrow_types import to_arrow
from finequery.types import Interval, SqlType

if TYPE_CHECKING:
    import pyarrow as pa


def to_physical(array: pa.Array, type_: SqlType) -> list[Any]:
    """Physical values; None for NULL."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if isinstance(array, pa.ChunkedArray):
        array = array.combine_chunks()
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    if type_.name == "NULL":
        return [None] * len(array)
    if type_.name == "DATE":
        return pc.cast(array, pa.date32()).view(pa.int32()).to_pylist()
    if type_.is_timestamp:
        return pc.cast(array, to_arrow(type_)).view(pa.int64()).to_pylist()
    if type_.is_decimal or type_.name == "HUGEINT":
        return _wide_integers(array, type_)
    if type_.name == "INTERVAL":
        return [None if v is None else Interval(v[0], v[1], v[2] // 1000) for v in array.to_pylist()]
    return array.to_pylist()


def _wide_integers(array: pa.Array, type_: SqlType) -> list[Any]:
    import pyarrow as pa

    if not pa.types.is_decimal128(array.type):
        array = array.cast(to_arrow(type_))
    raw = array.buffers()[1]
    words = (
        np.frombuffer(raw, dtype="<u8")[2 * array.offset : 2 * (array.offset + len(array))]
        if raw
        else np.zeros(0, "<u8")
    )
    low, high = words[::2].tolist(), words[1::2].view("<i8").tolist()
    values = [h << 64 | w for w, h in zip(low, high)]
    if not array.null_count:
        return values
    return [v if ok else None for v, ok in zip(values, array.is_valid().to_pylist())]


def from_physical(values: Sequence[Any], type_: SqlType) -> pa.Array:
    """The Arrow array of physical values."""
    import pyarrow as pa

    target = to_arrow(type_)
    if type_.is_decimal or type_.name == "HUGEINT":
        raw = b"".join([(v or 0).to_bytes(16, "little", signed=True) for v in values])
        bits, nulls = bitmap(valid_of(values))
        return pa.Array.from_buffers(target, len(values), [bits, pa.py_buffer(raw)], nulls)
    if type_.name == "INTERVAL":
        parts = [(0, 0, 0) if v is None else (v.months, v.days, v.micros * 1000) for v in values]
        try:
            triples = np.array(parts, [("months", "<i4"), ("days", "<i4"), ("nanos", "<i8")])
        except OverflowError as error:
            raise OutOfRangeError("an interval is too long") from error
        bits, nulls = bitmap(valid_of(values))
        return pa.Array.from_buffers(target, len(values), [bits, pa.py_buffer(triples)], nulls)
    if type_.name == "DATE":
        return of_values(values, pa.int32()).view(target)
    if type_.is_timestamp:
        return of_values(values, pa.int64()).view(target)
    return of_values(values, target)


def to_text(value: Any) -> pa.Array:
    """A string array as ``pa.string()`` or ``pa.large_string()``, dictionaries and views decoded."""
    import pyarrow as pa

    if isinstance(value, pa.ChunkedArray):
        value = value.combine_chunks()
    if pa.types.is_dictionary(value.type):
        value = value.dictionary_decode()
    if not (pa.types.is_string(value.type) or pa.types.is_large_string(value.type)):
        value = value.cast(pa.large_string())
    return value
