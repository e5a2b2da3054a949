"""Columns as the planner sees them before a run: their encoding and width, for the attributes of sub-tasks."""

from __future__ import annotations

from typing import Any, NamedTuple

from finequery.operators.column import ColumnData
from finequery.operators.expr import Column
from finequery.types import SqlType

#: Bytes assumed for a string where nothing is known: an offset and some characters.
TEXT_WIDTH = 24.0
#: Bytes of a value by encoding.
WIDTHS = {"u8": 1.0, "u16": 2.0, "u32": 4.0, "i64": 8.0, "i128": 16.0, "f32": 4.0, "f64": 8.0, "text": TEXT_WIDTH}
WIDTHS["interval"] = 16.0


class Attribute(NamedTuple):
    """A column as a sub-task sees it. ``encoding``: u8, u16, u32, i64, i128, f32, f64, text, interval; ``dict`` before
    it where these are codes. ``distinct``: values expected in the table, where known."""

    id: int
    name: str
    type: SqlType
    encoding: str
    width: float
    distinct: float | None = None
    nulls: float = 0.0  # share of NULLs
    low: float | None = None  # ends of its values in the table, where known
    high: float | None = None


def stored(column: Column, name: str, table: Any) -> Attribute:
    """A table's column: as it is encoded, or as its statistics let expect where it was not loaded yet."""
    stats, data = table.stats(name), table.encoded(name)
    distinct = None if stats is None or stats.distinct is None else float(stats.distinct)
    nulls = 0.0 if stats is None else min(stats.nulls / max(table.rows, 1), 1.0)
    low, high = (None, None) if stats is None else (stats.low, stats.high)
    if data is not None:
        return Attribute(column.id, name, column.type, encoding_of(data), width_of(data), distinct, nulls, low, high)
    if column.type.is_exact and isinstance(low, int) and isinstance(high, int):
        encoding = integer_encoding(low, high)
    else:
        encoding = plain_encoding(column.type)
    return Attribute(column.id, name, column.type, encoding, WIDTHS[encoding], distinct, nulls, low, high)


def computed(column: Column, wide: bool = False) -> Attribute:
    """A column that a query computes, at its type's own width; though 128 bits where its inputs have them (``wide``):
    bounds mostly prove that 64 are enough for what is computed from narrower ones."""
    encoding = plain_encoding(column.type)
    if encoding == "i128" and not wide:
        encoding = "i64"
    return Attribute(column.id, column.name, column.type, encoding, WIDTHS[encoding])


def plain_encoding(type_: SqlType) -> str:
    """How values of a type are kept when their range is unknown."""
    if type_.is_string:
        return "text"
    if type_.is_float:
        return "f32" if type_.name == "FLOAT" else "f64"
    if type_.name == "INTERVAL":
        return "interval"
    if type_.name == "BOOLEAN":
        return "u8"
    return integer_encoding(*type_.limits)


def integer_encoding(low: int, high: int) -> str:
    """The narrowest encoding of exact values in a range."""
    bits = (high - low).bit_length()
    return "u8" if bits <= 8 else "u16" if bits <= 16 else "u32" if bits <= 32 else "i64" if bits <= 64 else "i128"


def encoding_of(data: ColumnData) -> str:
    """The encoding of a column that is there."""
    if data.kind in ("uint", "dict"):
        return f"{'dict ' if data.kind == 'dict' else ''}u{8 * data.data.itemsize}"
    return {"int64": "i64", "int128": "i128", "float32": "f32", "float64": "f64", "string": "text"}.get(
        data.kind, data.kind
    )


def width_of(data: ColumnData) -> float:
    """Bytes of a row; for strings their offsets and the mean of their characters."""
    if data.kind == "string" and data.chars is not None and data.length:
        return 8.0 + len(data.chars) / data.length
    return float(data.width)


def renamed(attribute: Attribute, column: Column) -> Attribute:
    """The same column under another id."""
    return attribute._replace(id=column.id, name=column.name or attribute.name)
