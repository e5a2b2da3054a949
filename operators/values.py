"""Single values of columns."""

from __future__ import annotations

from typing import Any

from finequery.operators.column import ColumnData
from finequery.types import Interval


def physical_value(column: ColumnData, row: int) -> Any:
    """The physical value in a row; None for NULL."""
    if column.validity is not None and not (int(column.validity[row >> 3]) >> (row & 7)) & 1:
        return None
    data = column.data
    if column.kind == "dict":
        assert column.dictionary is not None
        return column.dictionary.strings()[int(data[row])]
    if column.kind == "string":
        assert column.chars is not None
        return column.chars[int(data[row]) : int(data[row + 1])].tobytes().decode()
    if column.kind in ("float32", "float64"):
        return float(data[row])
    if column.kind == "int128":
        low, high = int(data[2 * row]), int(data[2 * row + 1])
        value = (high << 64) | low
        return value - (1 << 128) if high >> 63 else value
    if column.kind == "interval":
        word, micros = int(data[2 * row]), int(data[2 * row + 1])
        months, days = word & 0xFFFFFFFF, (word >> 32) & 0xFFFFFFFF
        return Interval(months - (1 << 32) * (months >> 31), days - (1 << 32) * (days >> 31), micros)
    value = column.base + column.scale * int(data[row])
    return bool(value) if column.type.name == "BOOLEAN" else value
