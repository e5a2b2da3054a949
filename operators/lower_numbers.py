"""Arithmetic and rounding as instructions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from finequery.operators.expr import Call, Case, Literal
from finequery.operators.lower import I64_HIGH, I64_LOW, Lower, NeedsHost, Value
from finequery.operators.lower_expr import (
    WIDE,
    as_f64,
    as_i64,
    as_wide,
    binary,
    cast,
    fits,
    rescale,
    unary,
    value,
    within,
)
from finequery.operators.program import Out, Reg
from finequery.types import BOOLEAN


def _arithmetic(lower: Lower, expr: Call) -> Value:
    a, b = value(lower, expr.args[0]), value(lower, expr.args[1])
    valid = lower.both_valid(a.valid, b.valid)
    name = expr.name
    if expr.type.is_float:
        a, b = as_f64(lower, a), as_f64(lower, b)
        reg = binary(lower, f"{name}_f64", a.reg, b.reg, 8)
        if expr.type.name == "FLOAT":
            reg = unary(lower, "round_f32", reg, 8)
        return Value("f64", reg, valid)
    if expr.type.name == "INTERVAL":
        raise NeedsHost(expr)
    corners = (
        [a.low + b.low, a.high + b.high]
        if name == "add"
        else [a.low - b.high, a.high - b.low]
        if name == "sub"
        else [a.low * b.low, a.low * b.high, a.high * b.low, a.high * b.high]
    )
    low, high = min(corners), max(corners)
    limits = expr.type.limits
    narrow = a.kind != "w" and b.kind != "w"
    if narrow and low >= I64_LOW and high <= I64_HIGH:
        a, b = as_i64(lower, a), as_i64(lower, b)
        result = Value("i64", binary(lower, f"{name}_i64", a.reg, b.reg, 8), valid, low, high)
        return fits(lower, result, expr.type)
    if narrow and name == "mul":
        a, b = as_i64(lower, a), as_i64(lower, b)
        result = Value("w", binary(lower, "mul_i64_w", a.reg, b.reg, 16), valid, low, high)
        return fits(lower, result, expr.type)
    if narrow and limits[0] >= I64_LOW and limits[1] <= I64_HIGH:
        a, b = as_i64(lower, a), as_i64(lower, b)
        out = Reg(8)
        lower.emit(f"{name}_i64_checked", a.reg, 0, b.reg, 0, lower.checked(valid), 0, Out(out), pure=False)
        return fits(lower, Value("i64", out, valid), expr.type)
    a, b = as_wide(lower, a), as_wide(lower, b)
    out = Reg(16)
    lower.emit(f"{name}_w", a.reg, 0, b.reg, 0, lower.checked(valid), 0, Out(out), pure=False)
    return fits(lower, Value("w", out, valid, *within(low, high, *WIDE)), expr.type)


def _negate(lower: Lower, expr: Call) -> Value:
    if expr.type.is_float:
        a = as_f64(lower, value(lower, expr.args[0]))
        return Value("f64", unary(lower, "neg_f64", a.reg, 8), a.valid)
    if expr.type.name == "INTERVAL":
        raise NeedsHost(expr)
    zero = Literal(expr.type, 0)
    return _arithmetic(lower, Call(expr.type, "sub", (zero, expr.args[0])))


def _absolute(lower: Lower, expr: Call) -> Value:
    a = value(lower, expr.args[0])
    if expr.type.is_float:
        return Value("f64", unary(lower, "abs_f64", as_f64(lower, a).reg, 8), a.valid)
    negative = Call(expr.type, "neg", expr.args)
    zero = Literal(expr.args[0].type, 0)
    return value(lower, Case(expr.type, ((Call(BOOLEAN, "lt", (expr.args[0], zero)), negative),), expr.args[0]))


def _check_divisor(lower: Lower, b: Value, valid: Reg | None) -> None:
    """// and % by zero are errors."""
    if b.kind != "f64" and (b.low > 0 or b.high < 0):
        return
    if b.kind == "f64":
        zero = binary(lower, "eq_f64", b.reg, lower.program.constant("f64", 0.0), 1)
    elif b.kind == "w":
        zero = binary(lower, "eq_w", b.reg, lower.program.constant("w", 0), 1)
    else:
        zero = binary(lower, "eq_i64", b.reg, lower.program.constant("i64", 0), 1)
    out = Reg(1)
    lower.emit("divisor", zero, 0, lower.checked(valid), 0, Out(out), pure=False)


def _check_negation(lower: Lower, a: Value, b: Value, valid: Reg | None) -> None:
    """The least HUGEINT // -1 is none."""
    a, b = as_wide(lower, a), as_wide(lower, b)
    constant = lower.program.constant
    least = binary(lower, "eq_w", a.reg, constant("w", -(2**127)), 1)
    minus = binary(lower, "eq_w", b.reg, constant("w", -1), 1)
    both = binary(lower, "and_u8", least, minus, 1)
    zero, out = constant("w", 0), Reg(16)
    shown = Reg(16)  # negating the least value reports the overflow; other rows negate 0
    lower.emit("blend_w", both, 0, a.reg, 0, zero, 0, Out(shown))
    lower.emit("neg_w", shown, 0, lower.checked(valid), 0, Out(out), pure=False)


def _divide(lower: Lower, expr: Call) -> Value:
    """Division of doubles, as IEEE 754 has it: by zero it is infinite or NaN."""
    a, b = as_f64(lower, value(lower, expr.args[0])), as_f64(lower, value(lower, expr.args[1]))
    reg = binary(lower, "div_f64", a.reg, b.reg, 8)
    if expr.type.name == "FLOAT":
        reg = unary(lower, "round_f32", reg, 8)
    return Value("f64", reg, lower.both_valid(a.valid, b.valid))


def _integer_divide(lower: Lower, expr: Call) -> Value:
    a, b = value(lower, expr.args[0]), value(lower, expr.args[1])
    valid = lower.both_valid(a.valid, b.valid)
    if expr.type.is_float:
        a, b = as_f64(lower, a), as_f64(lower, b)
        if expr.name == "mod":
            return Value("f64", binary(lower, "mod_f64", a.reg, b.reg, 8), valid)
        _check_divisor(lower, b, valid)
        reg = binary(lower, "div_f64", a.reg, b.reg, 8)  # DuckDB's // of doubles does not round
        if expr.type.name == "FLOAT":
            reg = unary(lower, "round_f32", reg, 8)
        return Value("f64", reg, valid)
    _check_divisor(lower, b, valid)
    most = max(abs(a.low), abs(a.high))
    if expr.name == "mod":
        most = min(most, max(abs(b.low), abs(b.high)))
    if a.kind == "w" or b.kind == "w" or (expr.name == "intdiv" and a.low == I64_LOW and b.low < 0):
        if expr.name == "intdiv" and a.low == -(2**127) and b.low < 0:
            _check_negation(lower, a, b, valid)
        a, b = as_wide(lower, a), as_wide(lower, b)
        reg = binary(lower, f"{expr.name}_w", a.reg, b.reg, 16)
        return fits(lower, Value("w", reg, valid, -most, min(most, 2**127 - 1)), expr.type)
    a, b = as_i64(lower, a), as_i64(lower, b)
    result = Value("i64", binary(lower, f"{expr.name}_i64", a.reg, b.reg, 8), valid, -most, most)
    return fits(lower, result, expr.type)


def _float_function(name: str) -> Callable[[Lower, Call], Value]:
    def handler(lower: Lower, expr: Call) -> Value:
        if not expr.type.is_float or any(not a.type.is_float for a in expr.args):
            raise NeedsHost(expr)
        args = [as_f64(lower, value(lower, a)) for a in expr.args]
        reg = Reg(8)
        lower.emit(f"{name}_f64", *[w for a in args for w in (a.reg, 0)], Out(reg))
        if expr.type.name == "FLOAT":
            reg = unary(lower, "round_f32", reg, 8)
        return Value("f64", reg, lower.both_valid(*[a.valid for a in args]))

    return handler


def _sign(lower: Lower, expr: Call) -> Value:
    a = value(lower, expr.args[0])
    if a.kind == "i64" and expr.type.is_integer:
        return Value("i64", unary(lower, "sign_i64", a.reg, 8), a.valid, -1, 1)
    raise NeedsHost(expr)


def _round(lower: Lower, expr: Call) -> Value:
    """round, floor, ceil, trunc of exact numbers and doubles, to 0 digits; other digits by the host."""
    source = expr.args[0].type
    digits = 0
    if len(expr.args) > 1:
        if not isinstance(expr.args[1], Literal) or expr.args[1].value is None:
            raise NeedsHost(expr)
        digits = int(expr.args[1].value)
    if source.is_integer and digits >= 0 and expr.type == source:
        return value(lower, expr.args[0])
    if source.is_decimal and expr.name == "round" and expr.type.is_decimal:
        drop = source.scale - max(digits, 0)
        if digits < 0:
            raise NeedsHost(expr)
        if drop <= 0:
            return cast(lower, value(lower, expr.args[0]), source, expr.type, expr)
        return rescale(lower, value(lower, expr.args[0]), source.scale, expr.type.scale, expr.type)
    if source.is_float and digits == 0:
        return _float_function(expr.name)(lower, Call(expr.type, expr.name, expr.args[:1]))
    raise NeedsHost(expr)


def _extreme(lower: Lower, expr: Call) -> Value:
    """greatest, least: NULLs are passed over."""
    less = expr.name == "least"
    for arg in expr.args:
        value(lower, arg)  # if that needs the host, then outside of the CASE
    result = expr.args[0]
    for other in expr.args[1:]:
        compare = Call(BOOLEAN, "le" if less else "ge", (result, other))
        other_null, this_null = Call(BOOLEAN, "is_null", (other,)), Call(BOOLEAN, "is_null", (result,))
        take = Call(BOOLEAN, "or", (other_null, Call(BOOLEAN, "and", (Call(BOOLEAN, "not", (this_null,)), compare))))
        result = Case(expr.type, ((take, result),), other)
    return value(lower, result)


NUMBER_HANDLERS: dict[str, Callable[[Lower, Any], Value]] = {
    **dict.fromkeys(("add", "sub", "mul"), _arithmetic),
    "neg": _negate,
    "abs": _absolute,
    "div": _divide,
    "intdiv": _integer_divide,
    "mod": _integer_divide,
    "sign": _sign,
    **{name: _float_function(name) for name in ("sqrt_", "exp", "sin", "cos", "tan", "pow_")},
    **dict.fromkeys(("round", "floor", "ceil", "trunc"), _round),
    **dict.fromkeys(("greatest", "least"), _extreme),
}
