"""Python values a user passes as parameters, in the engine's physical form (see finequery.types)."""

from __future__ import annotations

import datetime
import sys
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from finequery.errors import DataError, NotSupportedError, ProgrammingError
from finequery.types import (
    BIGINT,
    BOOLEAN,
    DATE,
    DOUBLE,
    HUGEINT,
    INTEGER,
    INTEGER_RANGE,
    INTERVAL,
    NULL,
    TIMESTAMP,
    TIMESTAMPTZ,
    VARCHAR,
    Interval,
    SqlType,
    decimal,
)

_EPOCH_DAY = datetime.date(1970, 1, 1).toordinal()
_EPOCH = datetime.datetime(1970, 1, 1)
_EPOCH_UTC = _EPOCH.replace(tzinfo=datetime.timezone.utc)
_MICROSECOND = datetime.timedelta(microseconds=1)

#: A user's parameters: their types and their physical values, both by key (position from 0, or name).
Parameters = tuple[dict[int | str, SqlType], dict[int | str, Any]]


def physical(value: Any) -> tuple[SqlType, Any]:
    """The SQL type and the physical value of a Python value."""
    if value is None:
        return NULL, None
    kind = type(value)
    if kind is int:
        return _integer_type(value), value
    if kind is str:
        return VARCHAR, value
    if kind is float:
        return DOUBLE, value
    if kind is bool:
        return BOOLEAN, value
    if isinstance(value, Decimal):
        return _decimal(value)
    if isinstance(value, datetime.datetime):
        if value.utcoffset() is not None:
            return TIMESTAMPTZ, (value - _EPOCH_UTC) // _MICROSECOND
        return TIMESTAMP, (value - _EPOCH) // _MICROSECOND
    if isinstance(value, datetime.date):
        return DATE, value.toordinal() - _EPOCH_DAY
    if isinstance(value, datetime.timedelta):
        return INTERVAL, Interval(0, value.days, value.seconds * 1_000_000 + value.microseconds)
    if isinstance(value, Interval):
        return INTERVAL, value
    numpy = sys.modules.get("numpy")
    if numpy is not None and isinstance(value, numpy.generic):
        if isinstance(value, (numpy.datetime64, numpy.timedelta64)):
            return physical(value.astype("M8[us]" if isinstance(value, numpy.datetime64) else "m8[us]").item())
        return physical(value.item())
    for base in (bool, int, float, str):  # subclasses, such as IntEnum
        if isinstance(value, base):
            return physical(base(value))
    raise NotSupportedError(f"A parameter of Python type {kind.__name__} is not supported")


def _integer_type(value: int) -> SqlType:
    for type_ in (INTEGER, BIGINT, HUGEINT):
        low, high = INTEGER_RANGE[type_.name]
        if low <= value <= high:
            return type_
    raise DataError(f"The integer parameter {value} does not fit HUGEINT (128 bit)")


def _decimal(value: Decimal) -> tuple[SqlType, int]:
    if not value.is_finite():
        raise DataError(f"The parameter Decimal('{value}') is not a number")
    sign, digits, exponent = value.as_tuple()
    assert isinstance(exponent, int)
    number = int("".join(map(str, digits)))
    scale = max(0, -exponent)
    if exponent > 0:
        number *= 10**exponent
    precision = max(len(str(number)), scale, 1)
    if precision > 38:
        raise DataError(f"The parameter {value} needs {precision} digits; DECIMAL has at most 38")
    return decimal(precision, scale), -number if sign else number


def parameters(values: Sequence[Any] | Mapping[str, Any] | None) -> Parameters:
    """Types and physical values of what a user passed for ``?``, ``$1`` (a sequence) or ``$name`` (a mapping)."""
    types: dict[int | str, SqlType] = {}
    converted: dict[int | str, Any] = {}
    if values is None:
        return types, converted
    if isinstance(values, (str, bytes)) or not isinstance(values, (Sequence, Mapping)):
        raise ProgrammingError(
            f"Parameters must be a list, a tuple or a dict, not {type(values).__name__}",
            hint="For one value write [value].",
        )
    pairs: Any = values.items() if isinstance(values, Mapping) else enumerate(values)
    for key, value in pairs:
        types[key], converted[key] = physical(value)
    return types, converted
