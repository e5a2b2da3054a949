"""SQL types and Arrow types, both ways."""

from __future__ import annotations

from typing import TYPE_CHECKING

from finequery import types as t
from finequery.errors import NotSupportedError
from finequery.types import SqlType

if TYPE_CHECKING:
    import pyarrow as pa

_PLAIN = {
    "null": t.NULL,
    "bool": t.BOOLEAN,
    "int8": t.TINYINT,
    "int16": t.SMALLINT,
    "int32": t.INTEGER,
    "int64": t.BIGINT,
    "uint8": t.UTINYINT,
    "uint16": t.USMALLINT,
    "uint32": t.UINTEGER,
    "uint64": t.UBIGINT,
    "halffloat": t.FLOAT,
    "float": t.FLOAT,
    "double": t.DOUBLE,
    "string": t.VARCHAR,
    "large_string": t.VARCHAR,
    "string_view": t.VARCHAR,
    "date32[day]": t.DATE,
    "date64[ms]": t.DATE,
    "timestamp[s]": t.TIMESTAMP,
    "timestamp[ms]": t.TIMESTAMP,
    "timestamp[us]": t.TIMESTAMP,
    "timestamp[ns]": t.TIMESTAMP,
    "duration[s]": t.INTERVAL,
    "duration[ms]": t.INTERVAL,
    "duration[us]": t.INTERVAL,
    "duration[ns]": t.INTERVAL,
    "month_interval": t.INTERVAL,
    "day_time_interval": t.INTERVAL,
    "month_day_nano_interval": t.INTERVAL,
}
_SUPPORTED = {item.name for item in _PLAIN.values()} | {"DECIMAL", "HUGEINT", t.TIMESTAMPTZ.name}


def from_arrow(kind: pa.DataType) -> SqlType:
    """The SQL type of an Arrow type. One that FineQuery lacks gets a SqlType with its name, which ``load`` refuses:
    a table with such a column stays usable for queries that don't read it."""
    import pyarrow.types as kinds

    plain = _PLAIN.get(str(kind))
    if plain is not None:
        return plain
    if kinds.is_dictionary(kind):
        return from_arrow(kind.value_type)
    if kinds.is_run_end_encoded(kind):
        return from_arrow(kind.value_type)
    if kinds.is_decimal(kind):
        if 0 <= kind.scale <= kind.precision <= 38:
            return t.decimal(kind.precision, kind.scale)
        return SqlType(f"DECIMAL with precision {kind.precision} and scale {kind.scale}")
    if kinds.is_timestamp(kind):
        return t.TIMESTAMPTZ  # the zone says how values are shown; they are in UTC
    if kinds.is_time(kind):
        return SqlType("TIME")
    if kinds.is_binary(kind) or kinds.is_large_binary(kind) or kinds.is_fixed_size_binary(kind):
        return SqlType("BLOB")
    if kinds.is_struct(kind):
        return SqlType("STRUCT")
    if kinds.is_map(kind):
        return SqlType("MAP")
    if kinds.is_nested(kind):
        return SqlType("LIST")
    return SqlType(f"Arrow type {kind}")


def supported(sql_type: SqlType) -> bool:
    """Whether columns of this type can be read."""
    return sql_type.name in _SUPPORTED


#: How columns of other types are made such as FineQuery has.
_CONVERTED = {
    "STRUCT": "make columns of its fields: table.flatten() in pyarrow",
}


def require(sql_type: SqlType, column: str, table: str = "") -> None:
    """Refuse a column whose type FineQuery lacks."""
    if not supported(sql_type):
        place = f' of "{table}"' if table else ""
        raise NotSupportedError(
            f'column "{column}"{place} has the type {sql_type}, which FineQuery does not have',
            hint=f"Leave the column out, or {_CONVERTED.get(sql_type.name, 'convert it to a supported type first')}.",
        )


def to_arrow(sql_type: SqlType) -> pa.DataType:
    """The Arrow type that a result column of this type gets."""
    import pyarrow as pa

    if sql_type.is_decimal:
        return pa.decimal128(sql_type.precision, sql_type.scale)
    maker = {
        "NULL": pa.int32,
        "BOOLEAN": pa.bool_,
        "TINYINT": pa.int8,
        "SMALLINT": pa.int16,
        "INTEGER": pa.int32,
        "BIGINT": pa.int64,
        "UTINYINT": pa.uint8,
        "USMALLINT": pa.uint16,
        "UINTEGER": pa.uint32,
        "UBIGINT": pa.uint64,
        "FLOAT": pa.float32,
        "DOUBLE": pa.float64,
        "DATE": pa.date32,
        "VARCHAR": pa.string,
        "INTERVAL": pa.month_day_nano_interval,
    }.get(sql_type.name)
    if maker is not None:
        return maker()
    if sql_type.is_timestamp:
        return pa.timestamp("us", None if sql_type == t.TIMESTAMP else "UTC")
    if sql_type.name == "HUGEINT":
        return pa.decimal128(38, 0)
    raise NotSupportedError(f"the type {sql_type} has no Arrow form")
