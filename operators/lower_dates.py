"""Dates, timestamps and intervals as instructions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from finequery.operators.calendar import DAY, UNITS, unit_name
from finequery.operators.expr import Call, Expr, Literal
from finequery.operators.lower import I64_HIGH, I64_LOW, Lower, NeedsHost, Value
from finequery.operators.lower_expr import as_i64, binary, cast, fits, unary, value
from finequery.operators.program import Out, Reg
from finequery.types import BIGINT, INTEGER, SqlType


def _days(lower: Lower, expr: Expr) -> Value:
    """A DATE or TIMESTAMP as days."""
    v = as_i64(lower, value(lower, expr))
    if expr.type.name == "TIMESTAMP":
        reg = binary(lower, "floor_div_i64", v.reg, lower.program.constant("i64", DAY), 8)
        return Value("i64", reg, v.valid, v.low // DAY, v.high // DAY)
    return v


DATE_PART_BOUNDS = {
    "month": (1, 12),
    "day": (1, 31),
    "doy": (1, 366),
    "isodow": (1, 7),
    "week": (1, 53),
    "year": (-300000, 300000),
    "isoyear": (-300000, 300000),
}


def _date_part(lower: Lower, expr: Call) -> Value:
    if not expr.args[0].type.is_temporal:
        raise NeedsHost(expr)
    days = _days(lower, expr.args[0])
    low, high = DATE_PART_BOUNDS[expr.name]
    return Value("i64", unary(lower, expr.name, days.reg, 8), days.valid, low, high)


def _derived_part(lower: Lower, expr: Call) -> Value:
    constant = lower.program.constant
    if not expr.args[0].type.is_temporal:
        raise NeedsHost(expr)
    days = _days(lower, expr.args[0])
    if expr.name == "dow":
        reg = binary(lower, "floor_mod_i64", unary(lower, "isodow", days.reg, 8), constant("i64", 7), 8)
        return Value("i64", reg, days.valid, 0, 6)
    if expr.name == "quarter":
        month = unary(lower, "month", days.reg, 8)
        moved = binary(lower, "add_i64", month, constant("i64", 2), 8)
        return Value("i64", binary(lower, "floor_div_i64", moved, constant("i64", 3), 8), days.valid, 1, 4)
    raise NeedsHost(expr)


def _time_part(lower: Lower, expr: Call) -> Value:
    if expr.args[0].type.name != "TIMESTAMP":
        if expr.args[0].type.name == "DATE":
            days = _days(lower, expr.args[0])
            return Value("i64", lower.program.constant("i64", 0), days.valid, 0, 0)
        raise NeedsHost(expr)
    constant = lower.program.constant
    v = as_i64(lower, value(lower, expr.args[0]))
    unit, modulus = {
        "hour": (3_600_000_000, 24),
        "minute": (60_000_000, 60),
        "second": (1_000_000, 60),
        "millisecond": (1000, 60_000),
        "microsecond": (1, 60_000_000),
    }[expr.name]
    reg = v.reg if unit == 1 else binary(lower, "floor_div_i64", v.reg, constant("i64", unit), 8)
    return Value("i64", binary(lower, "floor_mod_i64", reg, constant("i64", modulus), 8), v.valid, 0, modulus - 1)


def _date_trunc(lower: Lower, expr: Call) -> Value:
    unit, argument = expr.args
    if not isinstance(unit, Literal) or not argument.type.is_temporal:
        raise NeedsHost(expr)
    name = str(unit.value).lower().rstrip("s")
    constant = lower.program.constant
    spans = {"month": 1, "quarter": 3, "year": 12, "decade": 120}
    if name in spans or name in ("day", "week"):
        days = _days(lower, argument)
        if name == "day":
            reg = days.reg
        elif name == "week":
            reg = unary(lower, "trunc_week", days.reg, 8)
        else:
            reg = binary(lower, "trunc_month", days.reg, constant("i64", spans[name]), 8)
        result = Value("i64", reg, days.valid, days.low - 3700, days.high)
        if expr.type.name == "TIMESTAMP":
            return cast(lower, result, SqlType("DATE"), expr.type, expr)
        return result
    units = {"hour": 3_600_000_000, "minute": 60_000_000, "second": 1_000_000, "millisecond": 1000, "microsecond": 1}
    if name in units and argument.type.name == "TIMESTAMP":
        v = as_i64(lower, value(lower, argument))
        size = constant("i64", units[name])
        whole = binary(lower, "floor_div_i64", v.reg, size, 8)
        return Value("i64", binary(lower, "mul_i64", whole, size, 8), v.valid, v.low - units[name], v.high)
    raise NeedsHost(expr)


def _add_interval(lower: Lower, expr: Call) -> Value:
    """DATE or TIMESTAMP plus or minus an interval: months first, then days, then microseconds."""
    moment, interval = expr.args
    if expr.type.name not in ("DATE", "TIMESTAMP"):
        raise NeedsHost(expr)
    months, days, micros = _parts(lower, expr, interval, -1 if expr.name == "sub_interval" else 1)
    constant = lower.program.constant
    v, dated = as_i64(lower, value(lower, moment)), moment.type.name == "DATE"
    if months.low or months.high:
        valid = lower.both_valid(v.valid, months.valid)
        whole = v.reg if dated else binary(lower, "floor_div_i64", v.reg, constant("i64", DAY), 8)
        low, high = (v.low, v.high) if dated else (v.low // DAY, v.high // DAY)
        reg = binary(lower, "add_months", whole, months.reg, 8)
        moved = Value("i64", reg, valid, low + 31 * min(months.low, 0) - 31, high + 31 * max(months.high, 0) + 31)
        if not dated:
            rest = Value("i64", binary(lower, "floor_mod_i64", v.reg, constant("i64", DAY), 8), valid, 0, DAY - 1)
            moved = _sum(lower, cast(lower, moved, SqlType("DATE"), expr.type, expr), rest)
        v = moved
    if expr.type.name == "DATE":
        if micros.low or micros.high:
            raise NeedsHost(expr)
        return fits(lower, _sum(lower, v, days), expr.type)
    if dated:
        v = cast(lower, v, moment.type, expr.type, expr)
    return _sum(lower, _sum(lower, v, _times(lower, days, DAY)), micros)


def _parts(lower: Lower, expr: Call, interval: Expr, sign: int) -> list[Value]:
    """Months, days and microseconds of a constant, or of a constant interval with one of them times a number."""
    if isinstance(interval, Literal) and interval.value is not None:
        return [_number(lower, sign * part) for part in interval.value]
    if not isinstance(interval, Call):
        raise NeedsHost(expr)
    one, count = interval.args[0], interval.args[-1]
    if interval.name == "mul_interval" and isinstance(one, Literal) and one.value is not None:
        parts = one.value
    elif (unit := unit_name(interval.name.removeprefix("to_"))) is not None and len(interval.args) == 1:
        parts = UNITS[unit]
    else:
        raise NeedsHost(expr)
    if sum(part != 0 for part in parts) != 1:
        raise NeedsHost(expr)
    number, found = as_i64(lower, value(lower, count)), []
    for part, type_ in zip(parts, (INTEGER, INTEGER, BIGINT)):
        found.append(_times(lower, fits(lower, _times(lower, number, part), type_), sign))
    return found


def _number(lower: Lower, number: int) -> Value:
    return Value("i64", lower.program.constant("i64", number), None, number, number)


def _times(lower: Lower, v: Value, factor: int) -> Value:
    low, high = sorted((v.low * factor, v.high * factor))
    constant = lower.program.constant("i64", factor)
    if factor == 1:
        return v
    if low == high:
        return Value("i64", lower.program.constant("i64", low), v.valid, low, high)
    if low >= I64_LOW and high <= I64_HIGH:
        return Value("i64", binary(lower, "mul_i64", v.reg, constant, 8), v.valid, low, high)
    return as_i64(lower, Value("w", binary(lower, "mul_i64_w", v.reg, constant, 16), v.valid, low, high))


def _sum(lower: Lower, a: Value, b: Value) -> Value:
    low, high, valid = a.low + b.low, a.high + b.high, lower.both_valid(a.valid, b.valid)
    if b.low == b.high == 0:
        return Value("i64", a.reg, valid, a.low, a.high)
    if low >= I64_LOW and high <= I64_HIGH:
        return Value("i64", binary(lower, "add_i64", a.reg, b.reg, 8), valid, low, high)
    out = Reg(8)
    lower.emit("add_i64_checked", a.reg, 0, b.reg, 0, lower.checked(valid), 0, Out(out), pure=False)
    return Value("i64", out, valid)


def _date_diff(lower: Lower, expr: Call) -> Value:
    unit, a, b = expr.args
    if not isinstance(unit, Literal):
        raise NeedsHost(expr)
    name = str(unit.value).lower().rstrip("s")
    x, y = _days(lower, a), _days(lower, b)
    valid = lower.both_valid(x.valid, y.valid)
    if name == "day":
        return Value("i64", binary(lower, "sub_i64", y.reg, x.reg, 8), valid, y.low - x.high, y.high - x.low)
    if name in ("month", "quarter", "year"):
        size = {"month": 1, "quarter": 3, "year": 12}[name]
        parts = []
        for v in (x, y):
            index = unary(lower, "month_index", v.reg, 8)
            if size > 1:
                index = binary(lower, "floor_div_i64", index, lower.program.constant("i64", size), 8)
            parts.append(index)
        return Value("i64", binary(lower, "sub_i64", parts[1], parts[0], 8), valid, -(10**7), 10**7)
    raise NeedsHost(expr)


def _last_day(lower: Lower, expr: Call) -> Value:
    days = _days(lower, expr.args[0])
    return Value("i64", unary(lower, "last_day", days.reg, 8), days.valid, days.low, days.high + 31)


def _make_date(lower: Lower, expr: Call) -> Value:
    parts = [as_i64(lower, value(lower, a)) for a in expr.args]
    valid = lower.both_valid(*[p.valid for p in parts])
    out = Reg(8)
    words = [w for p in parts for w in (p.reg, 0)]
    lower.emit("make_date", *words, lower.checked(valid), 0, Out(out), pure=False)
    return Value("i64", out, valid, *SqlType("DATE").limits)


DATE_HANDLERS: dict[str, Callable[[Lower, Any], Value]] = {
    **dict.fromkeys(DATE_PART_BOUNDS, _date_part),
    **dict.fromkeys(("dow", "quarter"), _derived_part),
    **dict.fromkeys(("hour", "minute", "second", "millisecond", "microsecond"), _time_part),
    "date_trunc": _date_trunc,
    **dict.fromkeys(("add_interval", "sub_interval"), _add_interval),
    "date_diff": _date_diff,
    "last_day": _last_day,
    "make_date": _make_date,
}
