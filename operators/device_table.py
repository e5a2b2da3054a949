"""Tables of arrays that lie in a GPU's memory: kernels read them there, as columns, without a copy.

The host has a copy of a column's values from when a query first reads it: statistics are computed from it, and the CPU
works with it. On a device that shares the memory it may be the same bytes. Arrays whose values are no encoding of the
engine's as they lie (negative narrow integers, gaps between values) are encoded like other libraries' arrays are.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from finequery.jetson.foreign import DeviceArray
from finequery.operators.arrow_types import from_arrow
from finequery.operators.column import ColumnData, Stats
from finequery.operators.table import KeptTable
from finequery.types import SqlType

_WORDS = {"u1": np.uint8, "u2": np.uint16, "u4": np.uint32, "i1": np.uint8, "i2": np.uint16, "i4": np.uint32}


class DeviceTable(KeptTable):
    """Columns of arrays on a device and of the host's. What is on the device must not change while it is registered."""

    def __init__(self, name: str, arrays: dict[str, DeviceArray | np.ndarray], rows: int):
        import pyarrow as pa

        types = {column: from_arrow(pa.from_numpy_dtype(array.dtype)) for column, array in arrays.items()}
        super().__init__(name, list(types.items()))
        self._arrays, self._length = arrays, rows

    @property
    def rows(self) -> int:
        return self._length

    def reachable(self, column: ColumnData) -> ColumnData:
        return column if column.owner is self else super().reachable(column)

    def _encode(self, names: Sequence[str]) -> list[ColumnData]:
        return [self._column(self._arrays[name], self.type_of(name), name) for name in names]

    def _column(self, array: DeviceArray | np.ndarray, sql_type: SqlType, name: str) -> ColumnData:
        from finequery.operators.encode import encode

        host = array.host() if isinstance(array, DeviceArray) else array
        column = None
        if isinstance(array, DeviceArray) and array.contiguous:
            column = as_it_lies(host, sql_type)
        if column is None:
            import pyarrow as pa

            return encode(pa.array(np.ascontiguousarray(host)), sql_type, name)
        assert isinstance(array, DeviceArray)
        array.adopt(column.data)
        column.owner = self
        return column


def as_it_lies(values: np.ndarray, sql_type: SqlType) -> ColumnData | None:
    """A column whose stored values are these bytes; None where no encoding is like that."""
    from finequery.operators.encode import finish
    from finequery.operators.encode_kernels import measure

    form, rows = values.dtype.str[1:], len(values)
    if not rows:
        return None
    if form in ("f4", "f8"):
        kind = "float32" if form == "f4" else "float64"
        return finish(ColumnData(sql_type, kind, rows, values))
    if form == "b1":
        stored = values.view(np.uint8)
        return finish(ColumnData(sql_type, "uint", rows, stored, stats=Stats(low=0, high=1)))
    if form not in (*_WORDS, "i8"):
        return None
    found = measure(values, True)
    if form != "i8" and found.low < 0:
        return None
    stats = Stats(low=found.low, high=found.high, sorted=found.ascending, unique=found.strict)
    if found.ascending:
        stats.distinct = found.runs
    stored = values if form == "i8" else values.view(_WORDS[form])
    return finish(ColumnData(sql_type, "int64" if form == "i8" else "uint", rows, stored, stats=stats))


__all__ = ["DeviceTable", "as_it_lies"]
