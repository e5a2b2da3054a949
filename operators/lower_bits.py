"""Lowering of bit operators, and of functions that see a TIMESTAMP as its microseconds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from finequery.operators.expr import Call, Literal
from finequery.operators.lower import I64_HIGH, I64_LOW, Lower, NeedsHost, Value
from finequery.operators.lower_expr import as_i64, binary, value


def _bits(lower: Lower, expr: Call) -> Value:
    """&, | and xor of 64-bit integers."""
    low, high = expr.type.limits
    if low < I64_LOW or high > I64_HIGH:
        raise NeedsHost(expr)
    a, b = (as_i64(lower, value(lower, x)) for x in expr.args)
    if a.low >= 0 and b.low >= 0:  # the result has no bit that neither of them has
        low, high = 0, (1 << max(a.high, b.high).bit_length()) - 1
    reg = binary(lower, f"{expr.name}_i64", a.reg, b.reg, 8)
    return Value("i64", reg, lower.both_valid(a.valid, b.valid), low, high)


def _same(lower: Lower, expr: Call) -> Value:
    """epoch_us and its inverse: the stored integer under another type."""
    if len(expr.args) != 1:
        raise NeedsHost(expr)
    return as_i64(lower, value(lower, expr.args[0]))


def _time_bucket(lower: Lower, expr: Call) -> Value:
    """The start of the bucket of a constant width in microseconds, counted from a constant origin."""
    width, moment, origin = expr.args
    if not isinstance(width, Literal) or not isinstance(origin, Literal) or None in (width.value, origin.value):
        raise NeedsHost(expr)
    if width.value.months:
        raise NeedsHost(expr)
    size = width.value.days * 86_400_000_000 + width.value.micros
    first = origin.value % size
    v = as_i64(lower, value(lower, moment))
    if v.low - size < I64_LOW:
        raise NeedsHost(expr)
    constant = lower.program.constant
    shifted = binary(lower, "sub_i64", v.reg, constant("i64", first), 8)
    whole = binary(lower, "floor_div_i64", shifted, constant("i64", size), 8)
    start = binary(lower, "mul_i64", whole, constant("i64", size), 8)
    return Value("i64", binary(lower, "add_i64", start, constant("i64", first), 8), v.valid, v.low - size, v.high)


BIT_HANDLERS: dict[str, Callable[[Lower, Any], Value]] = {
    **dict.fromkeys(("bit_and", "bit_or", "bit_xor"), _bits),
    **dict.fromkeys(("epoch_us", "make_timestamp"), _same),
    "time_bucket": _time_bucket,
}
