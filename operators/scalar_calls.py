"""Every scalar function on physical values, one at a time: for constants, and for rows where nothing quicker exists.

``bind(name, types, type)`` gives a function of physical values. It does what the instructions of operators.scalar do,
to the bit; NULLs go in and come out as None.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from typing import Any

from finequery.errors import ConversionError, DataError, InternalError, OutOfRangeError
from finequery.operators import calendar
from finequery.operators.calendar import DAY, UNITS
from finequery.operators.host_dates import strftime, strptime, try_strptime
from finequery.operators.host_numbers import DOUBLES, bit_count, factorial, lcm, shift_left, shift_right
from finequery.operators.host_strings import SCALAR as STRINGS
from finequery.operators.host_text import LIMITS, format_value, round_half_away, single
from finequery.types import TIMESTAMPTZ, Interval, SqlType

Function = Callable[..., Any]
Maker = Callable[[str, Sequence[SqlType], SqlType], Function]


def bind(name: str, types: Sequence[SqlType], type_: SqlType) -> Function:
    """The function of a Call: its arguments' types, its result's."""
    if name in _NULL_AWARE:
        return _NULL_AWARE[name](name, types, type_)
    if name in STRINGS:
        function = STRINGS[name]
    elif name in calendar.PARTS:
        function = _of_moments(lambda micros: calendar.part(name, micros), types)
    elif name in _MAKERS:
        function = _MAKERS[name](name, types, type_)
    elif name.startswith("to_"):
        function = _to_interval(name, types, type_)
    else:
        raise InternalError(f"the function {name} has no form for single values")
    return lambda *args: None if None in args else function(*args)


# --- numbers ---------------------------------------------------------------------------------------------------------


def within(value: int, type_: SqlType, what: str) -> int:
    """``value`` if it is one of an exact type's."""
    low, high = LIMITS.get(type_.name) or type_.limits
    if not low <= value <= high:
        text = format_value(value, type_) if not type_.is_temporal else ""
        raise OutOfRangeError(
            f"{what} is out of the range of {type_}{': ' + text if text else ''}.",
            hint="Cast the arguments to a wider type.",
        )
    return value


def _arithmetic(name: str, types: Sequence[SqlType], type_: SqlType) -> Function:
    compute = {"add": operator.add, "sub": operator.sub, "mul": operator.mul}[name]
    word = {"add": "a sum", "sub": "a difference", "mul": "a product"}[name]
    if type_.name == "INTERVAL":
        if name == "mul":
            return _mul_interval(name, types, type_)
        return lambda a, b: _interval(*(compute(x, y) for x, y in zip(a, b)))
    if type_.is_float:
        return _rounded_float(compute, type_)
    return lambda a, b: within(compute(a, b), type_, word)


def _rounded_float(function: Function, type_: SqlType) -> Function:
    """A function of doubles with IEEE results instead of Python's errors; FLOAT is rounded."""

    def safe(*args: Any) -> float:
        try:
            result = float(function(*args))
        except OverflowError:
            result = math.inf
        except (ValueError, ZeroDivisionError):
            result = math.nan
        return single(result) if type_.name == "FLOAT" else result

    return safe


def _divide(name: str, types: Sequence[SqlType], type_: SqlType) -> Function:
    """div, intdiv, mod. Doubles as IEEE 754 has it, but // by zero is an error, as it is for exact numbers."""
    if type_.is_float:
        if name == "mod":
            return _rounded_float(math.fmod, type_)

        def quotient(a: float, b: float) -> float:
            if b == 0:
                if name == "intdiv":
                    raise DataError("Division by zero")
                return math.nan if a == 0 or a != a else math.copysign(math.inf, a) * math.copysign(1.0, b)
            return float(a) / b

        return _rounded_float(quotient, type_)

    def exact(a: int, b: int) -> int:
        if b == 0:
            raise DataError("Division by zero")
        quotient = abs(a) // abs(b)
        if name == "mod":
            rest = abs(a) - quotient * abs(b)
            return -rest if a < 0 else rest
        return within(quotient if (a < 0) == (b < 0) else -quotient, type_, "a quotient")

    return exact


def _negate(name: str, types: Sequence[SqlType], type_: SqlType) -> Function:
    if type_.is_float:
        return operator.neg
    if type_.name == "INTERVAL":
        return lambda a: _interval(*(-part for part in a))
    return lambda a: within(-a, type_, "a negated value")


def _absolute(name: str, types: Sequence[SqlType], type_: SqlType) -> Function:
    return abs if type_.is_float else lambda a: within(abs(a), type_, "an absolute value")


def _half_away(value: float) -> float:
    whole = float(math.trunc(value))
    return whole + math.copysign(1.0, value) if abs(value - whole) >= 0.5 else whole


def _cut(quotient: str) -> Callable[[int, int], int]:
    return {
        "round": round_half_away,
        "trunc": lambda v, d: v // d if v >= 0 else -(-v // d),
        "floor": lambda v, d: v // d,
        "ceil": lambda v, d: -(-v // d),
    }[quotient]


def _round(name: str, types: Sequence[SqlType], type_: SqlType) -> Function:
    """round, trunc, floor, ceil, with digits or without."""
    source = types[0]
    if source.is_float:
        cuts: dict[str, Function] = {"round": _half_away, "trunc": math.trunc, "floor": math.floor, "ceil": math.ceil}
        whole = cuts[name]

        def to_float(value: float, digits: int = 0) -> float:
            if not math.isfinite(value):
                return value
            try:
                factor = 10.0 ** abs(digits)
            except OverflowError:
                return value if digits > 0 else 0.0
            result = math.inf
            scaled = value * factor if digits >= 0 else value / factor
            if math.isfinite(scaled):
                result = math.copysign(float(whole(scaled)), value)
                result = result / factor if digits >= 0 else result * factor
            if not math.isfinite(result):
                result = value if digits >= 0 else 0.0
            return single(result) if type_.name == "FLOAT" else result

        return to_float
    cut = _cut(name)

    def exact(value: int, digits: int = 0) -> int:
        drop = source.scale - digits
        if drop <= 0:
            return value * 10 ** (type_.scale - source.scale)
        result = cut(value, 10**drop) * 10 ** max(-digits, 0) if drop < 80 else 0
        return within(result, type_, "a rounded value")

    return exact


def _sign(name: str, types: Sequence[SqlType], type_: SqlType) -> Function:
    return lambda a: (a > 0) - (a < 0)


def _math(function: Function) -> Maker:
    return lambda name, types, type_: _rounded_float(function, type_)


def _logarithm(function: Function) -> Maker:
    return _math(lambda a: -math.inf if a == 0 else function(a))


def _power(a: float, b: float) -> float:
    if a == 0 and b < 0:
        odd = b == math.trunc(b) and math.fmod(b, 2) != 0
        return math.copysign(math.inf, a) if odd else math.inf
    try:
        return math.pow(a, b)
    except OverflowError:
        return -math.inf if a < 0 and math.fmod(b, 2) != 0 else math.inf


# --- comparison and logic --------------------------------------------------------------------------------------------


def order_key(type_: SqlType) -> Function:
    """A key by which values of a type are equal and ordered as in SQL: NaN is equal to itself and the greatest."""
    if type_.is_float:
        return lambda v: (v != v, 0.0 if v != v else v)
    if type_.name == "INTERVAL":
        return calendar.interval_order
    return lambda v: v  # strings too: code point order is byte order


_COMPARE = {
    "eq": operator.eq, "ne": operator.ne, "lt": operator.lt, "le": operator.le, "gt": operator.gt, "ge": operator.ge,
}  # fmt: skip


def _compare(name: str, types: Sequence[SqlType], type_: SqlType) -> Function:
    key, compare = order_key(types[0]), _COMPARE[name]
    return lambda a, b: compare(key(a), key(b))


def _distinct(name: str, types: Sequence[SqlType], type_: SqlType) -> Function:
    key, same = order_key(types[0]), name == "not_distinct_from"

    def distinct(a: Any, b: Any) -> bool:
        equal = a is b if a is None or b is None else key(a) == key(b)
        return bool(equal) == same

    return distinct


def _in(name: str, types: Sequence[SqlType], type_: SqlType) -> Function:
    key = order_key(types[0])

    def member(value: Any, *items: Any) -> bool | None:
        if value is None:
            return None
        wanted = key(value)
        if any(item is not None and key(item) == wanted for item in items):
            return True
        return None if None in items else False

    return member


def _logic(name: str, types: Sequence[SqlType], type_: SqlType) -> Function:
    decisive = name == "or"

    def logic(*args: Any) -> bool | None:
        if any(a is not None and bool(a) is decisive for a in args):
            return decisive
        return None if None in args else not decisive

    return logic


def _extreme(name: str, types: Sequence[SqlType], type_: SqlType) -> Function:
    key, pick = order_key(type_), max if name == "greatest" else min

    def extreme(*args: Any) -> Any:
        present = [a for a in args if a is not None]
        return pick(present, key=key) if present else None

    return extreme


def _concat_ws(separator: Any, *parts: Any) -> str | None:
    return None if separator is None else separator.join(p for p in parts if p is not None)


# --- dates -----------------------------------------------------------------------------------------------------------


def _of_moments(function: Function, types: Sequence[SqlType]) -> Function:
    """A function of microseconds over DATE and TIMESTAMP arguments; others pass."""
    factors = [DAY if t.name == "DATE" else 1 for t in types]
    if all(f == 1 for f in factors):
        return function
    return lambda *args: function(*(a * f if f != 1 else a for a, f in zip(args, factors)))


def _moment(micros: int, type_: SqlType) -> int:
    return within(micros // DAY if type_.name == "DATE" else micros, type_, "a date")


def _date_trunc(name: str, types: Sequence[SqlType], type_: SqlType) -> Function:
    function = _of_moments(lambda unit, micros: calendar.truncate(_unit(unit), micros), types)
    return lambda unit, x: _moment(function(unit, x), type_)


def _unit(text: str) -> str:
    found = calendar.unit_name(text)
    if found is None:
        raise DataError(f"'{text}' is not a unit of time")
    return found


def _date_diff(name: str, types: Sequence[SqlType], type_: SqlType) -> Function:
    return _of_moments(lambda unit, a, b: calendar.difference(_unit(unit), a, b), types)


def _add_interval(name: str, types: Sequence[SqlType], type_: SqlType) -> Function:
    sign = -1 if name == "sub_interval" else 1
    move = _of_moments(lambda x, span: calendar.add_interval(x, Interval(*(sign * p for p in span))), types)
    return lambda x, span: _moment(move(x, span), type_)


def _timestamp_diff(name: str, types: Sequence[SqlType], type_: SqlType) -> Function:
    def difference(a: int, b: int) -> Interval:
        days, micros = divmod(abs(a - b), DAY)
        return Interval(0, days, micros) if a >= b else Interval(0, -days, -micros)

    return _of_moments(difference, types)


def _interval(months: int, days: int, micros: int) -> Interval:
    if max(abs(months), abs(days)) >= 2**31 or abs(micros) >= 2**63:
        raise OutOfRangeError("An interval is out of range.")
    return Interval(months, days, micros)


def _mul_interval(name: str, types: Sequence[SqlType], type_: SqlType) -> Function:
    return lambda span, factor: _interval(*(part * factor for part in span))


def _to_interval(name: str, types: Sequence[SqlType], type_: SqlType) -> Function:
    unit = calendar.unit_name(name[3:])
    if unit is None:
        raise InternalError(f"the function {name} has no form for single values")
    one = UNITS[unit]
    return lambda count: _interval(*(int(part * count) for part in one))


def _make_date(name: str, types: Sequence[SqlType], type_: SqlType) -> Function:
    def make(year: int, month: int, day: int) -> int:
        days = calendar.days_of(year, month, day) if abs(year) < 10**7 else None
        if days is None or not LIMITS["DATE"][0] <= days <= LIMITS["DATE"][1]:
            raise ConversionError(f"make_date({year}, {month}, {day}): there is no such day.")
        return days

    return make


def _make_timestamp(name: str, types: Sequence[SqlType], type_: SqlType) -> Function:
    """Of microseconds, or of year, month, day, hour, minute and second."""

    def make(year: int, month: int, day: int, hour: int, minute: int, second: float) -> int:
        days = calendar.days_of(year, month, day) if abs(year) < 10**7 else None
        if days is None or not (0 <= hour < 24 and 0 <= minute < 60 and 0 <= second <= 60):
            shown = ", ".join(map(str, (year, month, day, hour, minute, second)))
            raise ConversionError(f"make_timestamp({shown}): there is no such time.")
        micros = days * DAY + (hour * 60 + minute) * 60 * calendar.SECOND + round(second * calendar.SECOND)
        return _moment(micros, type_)

    return make if len(types) == 6 else lambda micros: _moment(micros, type_)


def _strftime(name: str, types: Sequence[SqlType], type_: SqlType) -> Function:
    zone = "UTC" if TIMESTAMPTZ in types else ""
    return _of_moments(lambda micros, form: strftime(micros, form, zone), types)


def _strptime(name: str, types: Sequence[SqlType], type_: SqlType) -> Function:
    read, zoned = strptime if name == "strptime" else try_strptime, type_ == TIMESTAMPTZ
    return lambda text, form: read(text, form, zoned)


def _last_day(micros: int) -> int:
    days = micros // DAY
    year, month, day = calendar.civil(days)
    return days - day + calendar.month_length(year, month)


def _moments(function: Function) -> Maker:
    return lambda name, types, type_: _of_moments(function, types)


def _plain(function: Function) -> Maker:
    return lambda name, types, type_: function


_MAKERS: dict[str, Maker] = {
    **dict.fromkeys(("add", "sub", "mul"), _arithmetic),
    **dict.fromkeys(("div", "intdiv", "mod"), _divide),
    "neg": _negate,
    "abs": _absolute,
    **dict.fromkeys(("round", "trunc", "floor", "ceil"), _round),
    "sign": _sign,
    "sqrt": _math(math.sqrt),
    "exp": _math(math.exp),
    "ln": _logarithm(math.log),
    "log10": _logarithm(math.log10),
    "log2": _logarithm(math.log2),
    **{n: _math(getattr(math, n)) for n in ("sin", "cos", "tan", "asin", "acos", "atan", "atan2")},
    "pow": _math(_power),
    **{n: _math(function) for n, function in DOUBLES.items()},
    "signbit": lambda name, types, type_: lambda a: math.copysign(1.0, a) < 0,
    "gcd": _plain(math.gcd),
    "lcm": lambda name, types, type_: lambda a, b: within(lcm(a, b), type_, "a least common multiple"),
    "factorial": _plain(factorial),
    "bit_and": _plain(operator.and_),
    "bit_or": _plain(operator.or_),
    "bit_xor": _plain(operator.xor),
    "bit_count": lambda name, types, type_: lambda a: bit_count(a, types[0]),
    "shift_left": lambda name, types, type_: lambda a, b: shift_left(a, b, type_),
    "shift_right": lambda name, types, type_: lambda a, b: shift_right(a, b, type_),
    **dict.fromkeys(_COMPARE, _compare),
    "not": lambda name, types, type_: lambda a: not a,
    "date_trunc": _date_trunc,
    "date_diff": _date_diff,
    **dict.fromkeys(("add_interval", "sub_interval"), _add_interval),
    "add_intervals": lambda name, types, type_: lambda a, b: _interval(*(x + y for x, y in zip(a, b))),
    "mul_interval": _mul_interval,
    "timestamp_diff": _timestamp_diff,
    "make_date": _make_date,
    "strftime": _strftime,
    **dict.fromkeys(("strptime", "try_strptime"), _strptime),
    "date_sub": lambda name, types, type_: _of_moments(
        lambda unit, a, b: calendar.whole_units(_unit(unit), a, b), types
    ),
    "age": _moments(calendar.age),
    "time_bucket": _moments(calendar.bucket),
    "epoch_us": _moments(lambda micros: micros),
    "make_timestamp": _make_timestamp,
    "last_day": _moments(_last_day),
    "dayname": _moments(lambda micros: calendar.DAYS[(micros // DAY + 3) % 7]),
    "monthname": _moments(lambda micros: calendar.MONTHS[calendar.civil(micros // DAY)[1] - 1]),
}
_NULL_AWARE: dict[str, Maker] = {
    **dict.fromkeys(("and", "or"), _logic),
    **dict.fromkeys(("distinct_from", "not_distinct_from"), _distinct),
    **dict.fromkeys(("greatest", "least"), _extreme),
    "in": _in,
    "is_null": lambda name, types, type_: lambda a: a is None,
    "coalesce": lambda name, types, type_: lambda *args: next((a for a in args if a is not None), None),
    "concat_ws": lambda name, types, type_: _concat_ws,
}
#: Every function that ``bind`` knows, but for to_years and its kin.
NAMES = frozenset({*_MAKERS, *_NULL_AWARE, *STRINGS, *calendar.PARTS})
