"""The types that SQL text names."""

from __future__ import annotations

from typing import Any

from finequery.errors import BindError, CatalogError, nearest
from finequery.planner.binder.scope import at, checked, refuse, text_of
from finequery.types import SqlType, decimal

_TYPES = {
    "BOOLEAN": "BOOLEAN",
    "TINYINT": "TINYINT",
    "SMALLINT": "SMALLINT",
    "INT": "INTEGER",
    "BIGINT": "BIGINT",
    "INT128": "HUGEINT",
    "UTINYINT": "UTINYINT",
    "USMALLINT": "USMALLINT",
    "UINT": "UINTEGER",
    "UBIGINT": "UBIGINT",
    "FLOAT": "FLOAT",
    "DOUBLE": "DOUBLE",
    "DATE": "DATE",
    "TIMESTAMP": "TIMESTAMP",
    "TIMESTAMPNTZ": "TIMESTAMP",
    "DATETIME": "TIMESTAMP",
    "TIMESTAMPTZ": "TIMESTAMP WITH TIME ZONE",
    "INTERVAL": "INTERVAL",
    "TEXT": "VARCHAR",
    "VARCHAR": "VARCHAR",
    "CHAR": "VARCHAR",
}
_NAMED = {
    "int16": "SMALLINT",
    "int32": "INTEGER",
    "int64": "BIGINT",
    "int128": "HUGEINT",
    "uint8": "UTINYINT",
    "uint16": "USMALLINT",
    "uint32": "UINTEGER",
    "uint64": "UBIGINT",
}
SUPPORTED = (
    "BOOLEAN",
    "TINYINT",
    "SMALLINT",
    "INTEGER",
    "BIGINT",
    "HUGEINT",
    "UTINYINT",
    "USMALLINT",
    "UINTEGER",
    "UBIGINT",
    "FLOAT",
    "DOUBLE",
    "DECIMAL",
    "DATE",
    "TIMESTAMP",
    "TIMESTAMP WITH TIME ZONE",
    "INTERVAL",
    "VARCHAR",
)


def bind_type(node: Any, place: Any) -> SqlType:
    """The SQL type that a DataType node names; ``place`` is where an error points."""
    args = checked(node, "this", "expressions", "kind", "nested")
    kind = args["this"].name if hasattr(args["this"], "name") else str(args["this"])
    if kind == "DECIMAL":
        numbers = [int(text_of(checked(p, "this")["this"])) for p in args.get("expressions") or []]
        precision, scale = (numbers + [18, 3])[:2] if len(numbers) != 1 else (numbers[0], 0)
        if not 1 <= precision <= 38 or scale > precision:
            raise at(BindError(f"DECIMAL({precision},{scale}): precision is 1 to 38, scale at most precision."), place)
        return decimal(precision, scale)
    if kind in _TYPES:
        return SqlType(_TYPES[kind])
    if kind == "USERDEFINED":
        name = str(args.get("kind"))
        if name.lower() in _NAMED:
            return SqlType(_NAMED[name.lower()])
        raise at(CatalogError(f'There is no type "{name}".', hint=nearest(name, SUPPORTED) or None), place)
    shown = {"VARBINARY": "BLOB", "UINT128": "UHUGEINT", "ARRAY": "LIST"}
    raise refuse(f"The type {shown.get(kind, kind)}", place, f"FineQuery has {', '.join(SUPPORTED)}.")
