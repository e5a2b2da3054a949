"""Implicit and explicit casts: which type two expressions meet in, and casts of constants done while binding."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import Any

from finequery.errors import ConversionError
from finequery.operators.expr import Call, Cast, Expr, Literal, Parameter, derived
from finequery.planner.literals import DAY, integer_type, parse_value, round_half_away
from finequery.types import (
    BIGINT,
    BOOLEAN,
    DATE,
    DOUBLE,
    FLOAT,
    HUGEINT,
    INTEGER,
    NULL,
    SMALLINT,
    TIMESTAMP,
    TIMESTAMPTZ,
    VARCHAR,
    Interval,
    SqlType,
    decimal,
)

#: Decimal digits that hold every value of an integer type.
DIGITS = {
    "TINYINT": 3,
    "SMALLINT": 5,
    "INTEGER": 10,
    "BIGINT": 19,
    "HUGEINT": 38,
    "UTINYINT": 3,
    "USMALLINT": 5,
    "UINTEGER": 10,
    "UBIGINT": 20,
}

_SIGNED = (SMALLINT, INTEGER, BIGINT, HUGEINT)


class Untyped(Literal):
    """A literal as the user wrote it: an integer, a string or NULL takes on the type of what it meets."""

    __slots__ = ()


NULL_LITERAL = Untyped(NULL, None)
TRUE = Literal(BOOLEAN, True)
FALSE = Literal(BOOLEAN, False)


def fits(e: Expr, target: SqlType) -> bool:
    """Whether an integer literal is a value of an integer type."""
    low, high = target.limits
    return isinstance(e, Literal) and bool(e.test(lambda v: low <= v <= high))


def is_null(e: Expr) -> bool:
    return isinstance(e, Literal) and e.is_null and e.type == NULL


def is_integer_literal(e: Expr) -> bool:
    return isinstance(e, Untyped) and e.type.is_integer


def is_string_literal(e: Expr) -> bool:
    """A string whose type is open: a literal, or the user's parameter."""
    return e.type == VARCHAR and isinstance(e, (Untyped, Parameter))


def as_decimal(t: SqlType) -> SqlType:
    """The DECIMAL that holds every value of an integer type (HUGEINT: up to 38 digits)."""
    return t if t.is_decimal else decimal(DIGITS[t.name], 0)


@lru_cache(maxsize=4096)
def combine(a: SqlType, b: SqlType) -> SqlType | None:
    """The type that values of two types are compared in and that a column of both has; None where there is none."""
    if a == b or b == NULL:
        return a
    if a == NULL:
        return b
    if a.is_integer and b.is_integer:
        (low, high), (low_b, high_b) = a.limits, b.limits
        if low <= low_b and high >= high_b:
            return a
        if low_b <= low and high_b >= high:
            return b
        return next(t for t in _SIGNED if t.limits[0] <= min(low, low_b) and t.limits[1] >= max(high, high_b))
    if a.is_numeric and b.is_numeric:
        if a.is_float or b.is_float:
            return DOUBLE if DOUBLE in (a, b) else FLOAT
        x, y = as_decimal(a), as_decimal(b)
        scale = max(x.scale, y.scale)
        whole = max(x.precision - x.scale, y.precision - y.scale)
        if whole + scale <= 38:
            return decimal(whole + scale, scale)
        return decimal(38, scale if a.is_integer or b.is_integer else 38 - whole)
    if a.is_temporal and b.is_temporal:
        return TIMESTAMPTZ if TIMESTAMPTZ in (a, b) else TIMESTAMP
    if a == BOOLEAN and b.is_integer:
        return b
    if b == BOOLEAN and a.is_integer:
        return a
    return None


def common_type(exprs: Iterable[Expr]) -> SqlType | None:
    """The type that all the expressions meet in. Open literals follow the others; NULL where all are NULL."""
    result: SqlType | None = None
    integers: list[Any] = []
    strings = False
    for e in exprs:
        if is_null(e):
            continue
        if is_integer_literal(e):
            integers.append(e)
        elif is_string_literal(e):
            strings = True
        else:
            result = e.type if result is None else combine(result, e.type)
            if result is None:
                return None
    for e in integers:
        if result is None:
            result = e.type
        elif not (result.is_integer and fits(e, result)):
            result = combine(result, e.type)
            if result is None:
                return None
    return result or (VARCHAR if strings else NULL)


def set_operation_type(a: SqlType, b: SqlType) -> SqlType | None:
    """The type of a column of UNION, INTERSECT and EXCEPT: as ``combine``, but text takes in everything."""
    if VARCHAR in (a, b):
        return VARCHAR
    return combine(a, b)


def implicit_cost(e: Expr, target: SqlType) -> int | None:
    """How far an argument is from a parameter's type, for choosing an overload; None where it can't be passed."""
    source = e.type
    if source == target:
        return 0
    if source == NULL:
        return 1
    if is_string_literal(e):
        return 20
    if is_integer_literal(e) and target.is_integer:
        return 1 if fits(e, target) else None
    if source.is_integer and target.is_integer:
        (low, high), (low_t, high_t) = source.limits, target.limits
        return 2 + DIGITS[target.name] if low_t <= low and high <= high_t else None
    if source.is_numeric and target.is_numeric:
        if target.is_float:
            return None if source == DOUBLE else (50 if target == DOUBLE else 60)
        return 40 if target.is_decimal and source.is_integer else None
    return 5 if source == DATE and target == TIMESTAMP else None


def cast(e: Expr, target: SqlType, safe: bool = False) -> Expr:
    """``e`` as ``target``. Literals are converted here; text that is not a value of the type is a ConversionError."""
    if e.type == target:
        return settle(e)
    if isinstance(e, Literal):
        folded = fold(e, target, safe)
        if folded is not None:
            return folded
    if type(e) is Cast and e.type.is_timestamp and target.is_timestamp and e.child.type == target:
        return e.child  # to UTC and back
    return Cast(target, e, safe)


def call(result: SqlType, name: str, *args: Expr) -> Call:
    """A Call whose open literals have settled."""
    return Call(result, name, tuple([settle(a) for a in args]))


def cast_all(exprs: Sequence[Expr], target: SqlType) -> list[Expr]:
    return [cast(e, target) for e in exprs]


def settle(e: Expr) -> Expr:
    """An open literal with the type it has on its own."""
    return e.retyped(e.type) if isinstance(e, Untyped) else e


def fold(e: Literal, target: SqlType, safe: bool = False) -> Literal | None:
    """The literal as ``target``; None where that is better left to the run (it would fail, or its text is DuckDB's
    business)."""
    source = e.type
    if e.is_null:
        return Literal(target, None)
    if source == VARCHAR:

        def parse(text: str) -> Any:
            parsed = parse_value(text, target)
            return _single(parsed) if target == FLOAT and parsed is not None else parsed

        found = derived(target, parse, e)
        if found is None and not safe:
            raise ConversionError(f"Could not convert '{e.held}' to {target}.", hint=_hint(target))
        return found or Literal(target, None)
    convert = conversion(source, target)
    return None if convert is None else derived(target, convert, e)


def conversion(source: SqlType, target: SqlType) -> Callable[[Any], Any] | None:
    """Physical values of one type as another's (None: the value has no place there); None where it is left to the
    run."""
    if source.is_integer or source.is_decimal:
        if target.is_float:
            unit = 10**source.scale
            return (lambda v: _single(v / unit)) if target == FLOAT else (lambda v: v / unit)
        if target == BOOLEAN:
            return lambda v: v != 0
        if target == VARCHAR and source.is_integer:
            return str
        if target.is_integer or target.is_decimal:
            shift, (low, high) = target.scale - source.scale, target.limits
            grow, shrink = 10 ** max(shift, 0), 10 ** max(-shift, 0)

            def rescaled(v: int) -> int | None:
                scaled = v * grow if shift >= 0 else round_half_away(v, shrink)
                return scaled if low <= scaled <= high else None

            return rescaled
    if source == BOOLEAN:
        if target == VARCHAR:
            return lambda v: "true" if v else "false"
        if target.is_integer or target.is_float:
            return float if target.is_float else int
    if source.is_timestamp and target.is_timestamp:
        return lambda v: v
    if source == DATE and target.is_timestamp:
        return lambda v: v * DAY if abs(v) < 2**62 // DAY else None
    if source.is_timestamp and target == DATE:
        return lambda v: v // DAY
    if source == FLOAT and target == DOUBLE:
        return lambda v: v
    return None


def _single(value: float) -> float:
    try:
        return float(struct.unpack("f", struct.pack("f", value))[0])
    except OverflowError:
        return float("inf") if value > 0 else float("-inf")


def _hint(target: SqlType) -> str | None:
    return {
        "DATE": "A date is written as 'YYYY-MM-DD'.",
        "TIMESTAMP": "A timestamp is written as 'YYYY-MM-DD HH:MM:SS[.ffffff]'.",
        "TIMESTAMP WITH TIME ZONE": "A timestamp is written as 'YYYY-MM-DD HH:MM:SS[.ffffff][+HH[:MM]]'.",
        "INTERVAL": "An interval is written as '1 day 2 hours'.",
        "BOOLEAN": "A boolean is written as 'true' or 'false'.",
    }.get(target.name)


def negated(e: Literal) -> Literal | None:
    """The literal with its sign changed; None where it must be computed."""
    if isinstance(e, Untyped) and e.type.is_integer:
        opposite = derived(e.test(lambda v: integer_type(-v)), lambda v: -v, e)
        return None if opposite is None else Untyped(opposite.type, opposite.held, opposite.origin)
    if not e.is_null and (e.type.is_decimal or e.type == DOUBLE):
        return derived(e.type, lambda v: -v, e)
    if isinstance(e.held, Interval):
        return derived(e.type, lambda v: Interval(*(-part for part in v)), e)
    return None
