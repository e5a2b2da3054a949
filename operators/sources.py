"""Tables of other libraries' objects: Arrow, datasets, pandas, polars, numpy, and dicts of arrays on a device (CuPy,
PyTorch). Recognising one imports none of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from finequery.errors import NotSupportedError
from finequery.jetson import foreign
from finequery.operators.arrow_types import from_arrow
from finequery.operators.column import ColumnData
from finequery.operators.device_table import DeviceTable
from finequery.operators.table import ArrowTable, KeptTable, Table
from finequery.types import SqlType

if TYPE_CHECKING:
    import pyarrow as pa


def table_of(source: Any, name: str) -> Table | None:
    """The table that an object of another library stands for; None where it stands for none.

    The table reads the object as it is now: of an object that can be changed (pandas, numpy), make a new one a query.
    """
    if isinstance(source, Table):
        return source
    library = type(source).__module__.partition(".")[0]
    kind = type(source).__name__
    if library == "pyarrow":
        import pyarrow as pa

        if isinstance(source, (pa.Table, pa.RecordBatch)):
            return ArrowTable(name, source)
        if isinstance(source, pa.RecordBatchReader):
            return ArrowTable(name, source.read_all())
        if hasattr(source, "to_table") and hasattr(source, "count_rows"):
            return DatasetTable(name, source)
        return None
    if library == "pandas" and kind == "DataFrame":
        return ColumnsTable(
            name, {str(label): source.iloc[:, i] for i, label in enumerate(source.columns)}, len(source)
        )
    if library == "polars" and kind in ("DataFrame", "LazyFrame"):
        return ArrowTable(name, _polars(source))
    if isinstance(source, dict) and source and all(_is_array(v) or foreign.is_array(v) for v in source.values()):
        source = {k: v if _is_array(v) else foreign.array_of(v) for k, v in source.items()}
        there = any(isinstance(v, foreign.DeviceArray) for v in source.values())
        lengths = {v.count if isinstance(v, foreign.DeviceArray) else len(v) for v in source.values()}
        if len(lengths) > 1:
            raise NotSupportedError(f'the arrays of "{name}" have different lengths: {sorted(lengths)}')
        columns = {str(k): v for k, v in source.items()}
        return (DeviceTable if there else ColumnsTable)(name, columns, lengths.pop())
    if hasattr(source, "__arrow_c_stream__"):
        import pyarrow as pa

        return ArrowTable(name, pa.RecordBatchReader.from_stream(source).read_all())
    return None


def _is_array(value: Any) -> bool:
    return type(value).__module__.partition(".")[0] == "numpy" and hasattr(value, "dtype") and value.ndim == 1


def _polars(frame: Any) -> pa.Table:
    if type(frame).__name__ == "LazyFrame":
        frame = frame.collect()
    return frame.to_arrow()


class DatasetTable(KeptTable):
    """A pyarrow dataset: only the columns asked for are read."""

    def __init__(self, name: str, dataset: Any):
        super().__init__(name, [(field.name, from_arrow(field.type)) for field in dataset.schema])
        self._dataset = dataset
        self._rows: int | None = None

    @property
    def rows(self) -> int:
        if self._rows is None:
            self._rows = self._dataset.count_rows()
        return self._rows

    def _encode(self, names: list[str]) -> list[ColumnData]:
        from finequery.operators.encode import encode

        table = self._dataset.to_table(columns=names)
        return [encode(table.column(i), self.type_of(n), n) for i, n in enumerate(names)]


class ColumnsTable(KeptTable):
    """Columns that each become Arrow on their own: pandas series, numpy arrays. NaN of a pandas series is NULL."""

    def __init__(self, name: str, columns: dict[str, Any], rows: int):
        self.name = name
        self._sources = columns
        self._length = rows
        self._arrow: dict[str, Any] = {}
        super().__init__(name, [(column, self._type(column)) for column in columns])

    @property
    def rows(self) -> int:
        return self._length

    def _type(self, column: str) -> SqlType:
        source = self._sources[column]
        if source.dtype == object:  # only the values know
            return from_arrow(self._to_arrow(column).type)
        return from_arrow(_convert(source[:0], column, self.name).type)

    def _to_arrow(self, column: str) -> Any:
        if column not in self._arrow:
            self._arrow[column] = _convert(self._sources[column], column, self.name)
        return self._arrow[column]

    def _encode(self, names: Sequence[str]) -> list[ColumnData]:
        from finequery.operators.encode import encode

        result = []
        for name in names:
            result.append(encode(self._to_arrow(name), self.type_of(name), name))
            self._arrow.pop(name, None)
        return result


def _convert(values: Any, column: str, table: str) -> Any:
    """An Arrow array of a series or a numpy array."""
    import numpy as np
    import pyarrow as pa

    numpy_values = isinstance(values, np.ndarray)
    try:
        if isinstance(values, np.ma.MaskedArray):
            return pa.array(values.data, mask=np.ma.getmaskarray(values))
        if numpy_values and values.dtype.kind in "mM" and values.dtype == values.dtype.newbyteorder("="):
            unit = np.datetime_data(values.dtype)[0]
            if values.dtype.kind == "M" and unit != "D" and unit not in ("s", "ms", "us", "ns"):
                values = values.astype("datetime64[us]")
        if numpy_values and values.dtype.kind in "biuf":
            values = np.ascontiguousarray(values.astype(values.dtype.newbyteorder("="), copy=False))
        return pa.array(values, from_pandas=not numpy_values or values.dtype == object)
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError) as error:
        text = str(error).partition("\n")[0]
        raise NotSupportedError(
            f'column "{column}" of "{table}" (dtype {values.dtype}) has no SQL type: {text}',
            hint="Convert it first, for instance with .astype(str).",
        ) from None
