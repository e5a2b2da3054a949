"""Comparisons of a cast column with a constant: cast the constant instead, so that the stored column is compared."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

from finequery.operators.expr import Call, Cast, Expr, Literal, derived
from finequery.planner.logical import Node
from finequery.planner.rules._everywhere import Everywhere
from finequery.types import BOOLEAN, SqlType

MICROS_PER_DAY = 86_400_000_000
COMPARISONS = ("eq", "ne", "lt", "le", "gt", "ge")
#: Decimals of at most 15 digits and integers up to 2**53 are told apart by their DOUBLE.
EXACT_DIGITS, EXACT_INTEGER = 10**15, 2**53


def unwrap_casts(plan: Node) -> Node:
    """Move the cast from the column to the constant where that keeps every result.

    Before::

        Filter cast(quantity as DOUBLE) < 24.0

    After::

        Filter quantity < 24.00
    """
    return Everywhere(unwrap).node(plan)


def unwrap(e: Expr) -> Expr:
    if type(e) is not Call or not e.args or type(e.args[0]) is not Cast:
        return e
    wide = e.args[0]
    narrow = wide.child.type
    if e.name in COMPARISONS:
        other = e.args[1]
        if type(other) is Cast:
            if other.child.type == narrow and factor(narrow, wide.type) is not None:
                return Call(BOOLEAN, e.name, (wide.child, other.child))
        elif type(other) is Literal and not other.is_null:
            return compare_narrow(e, wide.child, other)
    elif e.name == "in" and all(type(a) is Literal and not a.is_null for a in e.args[1:]):
        values = [narrowed(a, narrow) for a in e.args[1:] if type(a) is Literal]
        if None in values:
            return e
        exact = [v for v, is_exact in values if is_exact]  # type: ignore[misc]
        if exact:
            return Call(BOOLEAN, "in", (wide.child, *exact))
    return e


def compare_narrow(e: Call, child: Expr, constant: Literal) -> Expr:
    found = narrowed(constant, child.type)
    if found is None:
        return e
    value, exact = found
    name = e.name
    if not exact:  # ``value`` is the next one below the constant
        if name in ("eq", "ne"):
            return e
        name = {"lt": "le", "ge": "gt"}.get(name, name)
    return Call(BOOLEAN, name, (child, value))


def factor(narrow: SqlType, wide: SqlType) -> int | None:
    """By how much physical values grow in a cast that never loses or fails; None if it might."""
    if narrow.name == "DATE" and wide.is_timestamp:
        return MICROS_PER_DAY
    if narrow.is_timestamp and wide.is_timestamp:
        return 1
    if not (narrow.is_integer or narrow.is_decimal) or not (wide.is_integer or wide.is_decimal):
        return 1 if narrow == wide else None
    if wide.scale < narrow.scale:
        return None
    grow: int = 10 ** (wide.scale - narrow.scale)
    (low, high), (wide_low, wide_high) = narrow.limits, wide.limits
    return grow if wide_low <= low * grow and high * grow <= wide_high else None


def narrowed(constant: Literal, narrow: SqlType) -> tuple[Literal, bool] | None:
    """The constant as a value of ``narrow`` (rounded down) and whether that is exact."""

    def exactness(value: Any) -> bool | None:
        found = floor(value, constant.type, narrow)
        return None if found is None else found[1]

    exact = constant.test(exactness)
    if exact is None:
        return None
    value = derived(narrow, lambda v: floor(v, constant.type, narrow)[0], constant)  # type: ignore[index]
    assert value is not None
    return value, exact


def floor(value: Any, type_: SqlType, narrow: SqlType) -> tuple[int, bool] | None:
    """The largest physical value of ``narrow`` that is not above ``value``, and whether it is the same."""
    if type_.name == "DOUBLE":
        if not (narrow.is_integer or narrow.is_decimal) or not math.isfinite(value):
            return None
        scale = 10**narrow.scale
        found = math.floor(Fraction(value) * scale)
        bound = EXACT_DIGITS if narrow.scale else EXACT_INTEGER
        if abs(found) + 1 >= bound:
            return None
        exact = found / scale == value
        if not exact and (found + 1) / scale == value:  # 0.07 is a little below or above 7/100
            found, exact = found + 1, True
    else:
        grow = factor(narrow, type_)
        if grow is None:
            return None
        found, rest = divmod(value, grow)
        exact = rest == 0
    low, high = narrow.limits
    return (found, exact) if low <= found <= high else None
