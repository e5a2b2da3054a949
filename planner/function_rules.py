"""How single functions are typed and rewritten where a signature can't say it.

A rule gets the function's entry, the name that the user wrote and the bound arguments, and gives the expression.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from finequery.errors import BindError, NotSupportedError, nearest
from finequery.operators.expr import Case, Expr, Literal, derived
from finequery.operators.host_dates import has_offset
from finequery.planner.coercion import call, cast, cast_all, implicit_cost, is_null, is_string_literal, settle
from finequery.planner.literals import UNITS, unit_name
from finequery.planner.operations import arithmetic, as_zoned, case, clock, compare, meet, require_constant
from finequery.types import (
    BIGINT,
    BOOLEAN,
    DATE,
    DOUBLE,
    INTEGER,
    INTERVAL,
    NULL,
    TIMESTAMP,
    TIMESTAMPTZ,
    TINYINT,
    UTC_NAMES,
    VARCHAR,
    Interval,
    SqlType,
    decimal,
)

Rule = Callable[["Function", str, list[Expr]], Expr]


@dataclass(frozen=True)
class Function:
    """One scalar function. ``canonical`` is the Call's name; ``names`` is what the user may write, best name first."""

    names: tuple[str, ...]
    canonical: str
    signatures: tuple[str, ...]
    description: str
    rule: Rule | None = None
    category: str = ""


@dataclass(frozen=True)
class AggregateFunction:
    """One aggregate function, or window function where ``window`` is true (it then needs OVER)."""

    names: tuple[str, ...]
    canonical: str
    signatures: tuple[str, ...]
    description: str
    window: bool = False


def no_overload(function: Function | AggregateFunction, name: str, args: Sequence[Expr]) -> BindError:
    given = ", ".join(str(a.type) for a in args)
    forms = " or ".join(f"{name}{s}" for s in function.signatures)
    hint = "Cast the argument to a type that it takes." if args else None
    return BindError(f"{name}({given}) does not exist; it is {forms}.", hint=hint)


def _constant_int(e: Expr, what: str) -> int:
    value = require_constant(e, what)
    if not isinstance(value, int) or isinstance(value, bool) or not e.type.is_integer:
        raise BindError(f"{what} must be an integer.")
    return value


def rounded(function: Function, name: str, args: list[Expr]) -> Expr:
    """round, trunc: with digits; DECIMAL(p, s) becomes DECIMAL(p, digits)."""
    if not 1 <= len(args) <= 2 or not (args[0].type.is_numeric or is_null(args[0])):
        raise no_overload(function, name, args)
    x = cast(args[0], BIGINT) if is_null(args[0]) else settle(args[0])
    digits = _constant_int(args[1], f"The number of digits of {name}") if len(args) == 2 else 0
    if x.type.is_decimal:
        if digits >= x.type.scale:
            return x
        result = decimal(x.type.precision, max(digits, 0))
    else:
        result = x.type
        if result.is_integer and digits >= 0:
            return x
    return call(result, name, x, Literal(INTEGER, digits)) if len(args) == 2 else call(result, name, x)


def floor(function: Function, name: str, args: list[Expr]) -> Expr:
    if len(args) != 1 or not (args[0].type.is_numeric or is_null(args[0])):
        raise no_overload(function, name, args)
    x = args[0]
    if x.type.is_decimal:
        if x.type.scale == 0:
            return x
        return call(decimal(x.type.precision, 0), function.canonical, x)
    if x.type.is_integer or is_null(x):
        return cast(x, DOUBLE)
    return call(x.type, function.canonical, x)


def same_type(function: Function, name: str, args: list[Expr]) -> Expr:
    if len(args) != 1 or not (args[0].type.is_numeric or is_null(args[0])):
        raise no_overload(function, name, args)
    x = cast(args[0], BIGINT) if is_null(args[0]) else args[0]
    return call(x.type, function.canonical, x)


def sign(function: Function, name: str, args: list[Expr]) -> Expr:
    if len(args) != 1 or not (args[0].type.is_numeric or is_null(args[0])):
        raise no_overload(function, name, args)
    return call(TINYINT, "sign", cast(args[0], BIGINT) if is_null(args[0]) else args[0])


def variadic(canonical: str, context: str) -> Rule:
    def rule(function: Function, name: str, args: list[Expr]) -> Expr:
        if not args:
            raise no_overload(function, name, args)
        target = meet(args, context)
        if len(args) == 1:
            return cast(args[0], target)
        return call(target, canonical, *cast_all(args, target))

    return rule


def ifnull(function: Function, name: str, args: list[Expr]) -> Expr:
    if len(args) != 2:
        raise no_overload(function, name, args)
    target = meet(args, name)
    return call(target, "coalesce", *cast_all(args, target))


def nullif(function: Function, name: str, args: list[Expr]) -> Expr:
    if len(args) != 2:
        raise no_overload(function, name, args)
    a = cast(args[0], INTEGER) if is_null(args[0]) else args[0]
    result = settle(a)
    return Case(result.type, ((compare("eq", a, args[1]), Literal(result.type, None)),), result)


def if_(function: Function, name: str, args: list[Expr]) -> Expr:
    if not 2 <= len(args) <= 3:
        raise no_overload(function, name, args)
    return case([(args[0], args[1])], args[2] if len(args) == 3 else Literal(NULL, None))


def operator(op: str) -> Rule:
    def rule(function: Function, name: str, args: list[Expr]) -> Expr:
        if len(args) != 2:
            raise no_overload(function, name, args)
        return arithmetic(op, args[0], args[1])

    return rule


def factor(factor: float) -> Rule:
    def rule(function: Function, name: str, args: list[Expr]) -> Expr:
        if len(args) != 1 or implicit_cost(args[0], DOUBLE) is None:
            raise no_overload(function, name, args)
        return call(DOUBLE, "mul", cast(args[0], DOUBLE), Literal(DOUBLE, factor))

    return rule


def pi(function: Function, name: str, args: list[Expr]) -> Expr:
    if args:
        raise no_overload(function, name, args)
    return Literal(DOUBLE, math.pi)


def typeof(function: Function, name: str, args: list[Expr]) -> Expr:
    """The name of a type is known before anything runs."""
    if len(args) != 1:
        raise no_overload(function, name, args)
    return Literal(VARCHAR, '"NULL"' if is_null(args[0]) else str(settle(args[0]).type))


def float_class(function: Function, name: str, args: list[Expr]) -> Expr:
    """isnan, isinf, isfinite as comparisons: NaN is equal to itself."""
    if len(args) != 1 or not (args[0].type.is_numeric or is_null(args[0])):
        raise no_overload(function, name, args)
    value = args[0] if args[0].type.is_float else cast(args[0], DOUBLE)
    equal = [call(BOOLEAN, "eq", value, Literal(value.type, x)) for x in (math.nan, math.inf, -math.inf)]
    if name == "isnan":
        return equal[0]
    infinite = call(BOOLEAN, "or", *equal[1:])
    return infinite if name == "isinf" else call(BOOLEAN, "not", call(BOOLEAN, "or", *equal))


def bitwise(function: Function, name: str, args: list[Expr]) -> Expr:
    """&, |, xor, << and >>: of integers, in the type in which they would be added."""
    args = [cast(a, BIGINT) if is_string_literal(a) else a for a in args]
    if len(args) != 2 or not all(a.type.is_integer or is_null(a) for a in args):
        raise no_overload(function, name, args)
    both = arithmetic("add", *args)
    return call(both.type, function.canonical, *(cast(a, both.type) for a in args))


def bit_not(function: Function, name: str, args: list[Expr]) -> Expr:
    """~x by subtraction: -1 - x, and without a sign the largest number - x."""
    if len(args) != 1 or not (args[0].type.is_integer or is_null(args[0])):
        raise no_overload(function, name, args)
    x = cast(args[0], BIGINT) if is_null(args[0]) else settle(args[0])
    low, high = x.type.limits
    return call(x.type, "sub", Literal(x.type, high if low == 0 else -1), x)


def bit_count(function: Function, name: str, args: list[Expr]) -> Expr:
    if len(args) != 1 or not (args[0].type.is_integer or is_null(args[0])):
        raise no_overload(function, name, args)
    return call(TINYINT, "bit_count", cast(args[0], BIGINT) if is_null(args[0]) else args[0])


def bit_length(function: Function, name: str, args: list[Expr]) -> Expr:
    if len(args) != 1 or implicit_cost(args[0], VARCHAR) is None:
        raise no_overload(function, name, args)
    return call(BIGINT, "mul", call(BIGINT, "strlen", cast(args[0], VARCHAR)), Literal(BIGINT, 8))


def logarithm(function: Function, name: str, args: list[Expr]) -> Expr:
    if not 1 <= len(args) <= 2 or any(implicit_cost(a, DOUBLE) is None for a in args):
        raise no_overload(function, name, args)
    return call(DOUBLE, "log10" if len(args) == 1 else "log_of", *cast_all(args, DOUBLE))


def fdiv(function: Function, name: str, args: list[Expr]) -> Expr:
    if len(args) != 2:
        raise no_overload(function, name, args)
    return call(DOUBLE, "floor", arithmetic("div", *(cast(a, DOUBLE) for a in args)))


def concat(function: Function, name: str, args: list[Expr]) -> Expr:
    if not args:
        raise no_overload(function, name, args)
    parts: list[Expr] = []
    for e in args:
        text = cast(e, VARCHAR)
        if not isinstance(text, Literal):
            parts.append(call(VARCHAR, "coalesce", text, Literal(VARCHAR, "")))
        else:
            parts.append(Literal(VARCHAR, "") if text.is_null else text)
    return call(VARCHAR, "concat", *parts) if len(parts) > 1 else parts[0]


def concat_ws(function: Function, name: str, args: list[Expr]) -> Expr:
    if len(args) < 2:
        raise no_overload(function, name, args)
    return call(VARCHAR, "concat_ws", *[cast(a, VARCHAR) for a in args])


PART_ALIASES = {
    "y": "year",
    "yr": "year",
    "yrs": "year",
    "years": "year",
    "mon": "month",
    "mons": "month",
    "months": "month",
    "d": "day",
    "days": "day",
    "dayofmonth": "day",
    "h": "hour",
    "hr": "hour",
    "hrs": "hour",
    "hours": "hour",
    "m": "minute",
    "min": "minute",
    "mins": "minute",
    "minutes": "minute",
    "s": "second",
    "sec": "second",
    "secs": "second",
    "seconds": "second",
    "ms": "millisecond",
    "msec": "millisecond",
    "milliseconds": "millisecond",
    "us": "microsecond",
    "usec": "microsecond",
    "microseconds": "microsecond",
    "w": "week",
    "weeks": "week",
    "weekofyear": "week",
    "quarters": "quarter",
    "dayofweek": "dow",
    "weekday": "dow",
    "dayofyear": "doy",
    "decades": "decade",
    "centuries": "century",
}
_PARTS = (
    "year",
    "month",
    "day",
    "hour",
    "minute",
    "second",
    "millisecond",
    "microsecond",
    "quarter",
    "week",
    "isoyear",
    "dow",
    "isodow",
    "doy",
    "epoch",
    "decade",
    "century",
    "millennium",
    "era",
)
_TIME_PARTS = ("hour", "minute", "second", "millisecond", "microsecond", "epoch")


def date_part(part: str, x: Expr) -> Expr:
    """EXTRACT(part FROM x): BIGINT, epoch DOUBLE."""
    lower = part.lower()
    name = PART_ALIASES.get(lower, lower)
    if name not in _PARTS:
        raise NotSupportedError(
            f'"{part}" is not a part of a date that can be extracted.', hint=nearest(lower, _PARTS) or None
        )
    if is_string_literal(x) or is_null(x):
        x = cast(x, TIMESTAMP)
    if not x.type.is_temporal:
        if x.type == INTERVAL:
            raise NotSupportedError(f"{name} of an INTERVAL is not supported.")
        raise BindError(
            f"{name} is taken of a DATE or TIMESTAMP, not of {x.type}.", hint="Cast it, as in CAST(x AS DATE)."
        )
    x = cast(x, TIMESTAMP) if name in _TIME_PARTS else clock(x)
    return call(DOUBLE if name == "epoch" else BIGINT, name, x)


def date_part_call(function: Function, name: str, args: list[Expr]) -> Expr:
    if len(args) != 2 or args[0].type != VARCHAR:
        raise no_overload(function, name, args)
    return date_part(str(require_constant(args[0], f"The part of {name}")), args[1])


def part(function: Function, name: str, args: list[Expr]) -> Expr:
    if len(args) != 1:
        raise no_overload(function, name, args)
    return date_part(name, args[0])


_TRUNC_UNITS = (
    "millennium",
    "century",
    "decade",
    "year",
    "quarter",
    "month",
    "week",
    "day",
    "hour",
    "minute",
    "second",
    "millisecond",
    "microsecond",
)


def _unit(name: str, e: Expr) -> Literal:
    text = str(require_constant(e, f"The unit of {name}"))
    unit = unit_name(text)
    if unit is None or unit not in UNITS:
        raise BindError(f'"{text}" is not a unit of time.', hint=nearest(text, _TRUNC_UNITS) or None)
    return Literal(VARCHAR, unit)


def _temporal(name: str, e: Expr) -> Expr:
    if is_string_literal(e) or is_null(e):
        return cast(e, TIMESTAMP)
    if not e.type.is_temporal:
        raise BindError(f"{name} takes a DATE or TIMESTAMP, not {e.type}.", hint="Cast it, as in CAST(x AS DATE).")
    return e


def date_trunc(function: Function, name: str, args: list[Expr]) -> Expr:
    if len(args) != 2 or args[0].type != VARCHAR:
        raise no_overload(function, name, args)
    unit, moment = _unit(name, args[0]), _temporal(name, args[1])
    return as_zoned(moment, call(TIMESTAMP, "date_trunc", unit, clock(moment)))


def date_diff(function: Function, name: str, args: list[Expr]) -> Expr:
    if len(args) != 3 or args[0].type != VARCHAR:
        raise no_overload(function, name, args)
    a, b = args[1], args[2]
    if is_string_literal(a) and b.type == DATE:
        a = cast(a, DATE)
    if is_string_literal(b) and a.type == DATE:
        b = cast(b, DATE)
    a, b = _temporal(name, a), _temporal(name, b)
    target = DATE if a.type == b.type == DATE else TIMESTAMP
    return call(BIGINT, "date_diff", _unit(name, args[0]), cast(a, target), cast(b, target))


def date_add(function: Function, name: str, args: list[Expr]) -> Expr:
    if len(args) != 2 or not (args[1].type == INTERVAL or args[1].type.is_integer):
        raise no_overload(function, name, args)
    return arithmetic("add", _temporal(name, args[0]), args[1])


def yearweek(function: Function, name: str, args: list[Expr]) -> Expr:
    if len(args) != 1:
        raise no_overload(function, name, args)
    year, week = date_part("isoyear", args[0]), date_part("week", args[0])
    return call(BIGINT, "add", call(BIGINT, "mul", year, Literal(BIGINT, 100)), week)


def date_sub(function: Function, name: str, args: list[Expr]) -> Expr:
    if len(args) != 3 or args[0].type != VARCHAR:
        raise no_overload(function, name, args)
    moments = [cast(_temporal(name, a), TIMESTAMP) for a in args[1:]]
    return call(BIGINT, "date_sub", _unit(name, args[0]), *moments)


def age(function: Function, name: str, args: list[Expr]) -> Expr:
    if len(args) != 2:
        raise no_overload(function, name, args)
    return call(INTERVAL, "age", *(cast(_temporal(name, a), TIMESTAMP) for a in args))


def epoch_units(per_second: int) -> Rule:
    """epoch_ms, epoch_us, epoch_ns of a moment; epoch_ms of a number is the way back."""

    def rule(function: Function, name: str, args: list[Expr]) -> Expr:
        if len(args) != 1:
            raise no_overload(function, name, args)
        if name == "epoch_ms" and args[0].type.is_integer:
            micros = call(BIGINT, "mul", cast(args[0], BIGINT), Literal(BIGINT, 1000))
            return call(TIMESTAMP, "make_timestamp", micros)
        micros = call(BIGINT, "epoch_us", cast(_temporal(name, args[0]), TIMESTAMP))
        if per_second >= 1_000_000:
            return micros if per_second == 1_000_000 else call(BIGINT, "mul", micros, Literal(BIGINT, 1000))
        before = compare("lt", micros, Literal(BIGINT, 0))
        half = case([(before, Literal(BIGINT, -500))], Literal(BIGINT, 500))  # to the nearest, halves away from zero
        return call(BIGINT, "intdiv", call(BIGINT, "add", micros, half), Literal(BIGINT, 1000))

    return rule


def to_timestamp(function: Function, name: str, args: list[Expr]) -> Expr:
    """Seconds since 1970, in UTC."""
    if len(args) != 1 or implicit_cost(args[0], DOUBLE) is None:
        raise no_overload(function, name, args)
    micros = call(DOUBLE, "mul", cast(args[0], DOUBLE), Literal(DOUBLE, 1e6))
    return call(TIMESTAMPTZ, "make_timestamp", cast(micros, BIGINT))


def timezone(function: Function, name: str, args: list[Expr]) -> Expr:
    """x AT TIME ZONE 'UTC': of a time with a zone its TIMESTAMP in UTC, of a TIMESTAMP in UTC the time with a zone."""
    if len(args) != 2 or args[0].type != VARCHAR or not (args[1].type.is_temporal):
        raise no_overload(function, name, args)
    zone = str(require_constant(args[0], "The time zone"))
    if zone.lower() not in UTC_NAMES:
        raise NotSupportedError(f"The time zone {zone} is not supported.", hint="FineQuery's time zone is UTC.")
    return cast(args[1], TIMESTAMP if args[1].type == TIMESTAMPTZ else TIMESTAMPTZ)


_MONDAY, _JANUARY = 946_857_600_000_000, 946_684_800_000_000  # 2000-01-03 and 2000-01-01


def time_bucket(function: Function, name: str, args: list[Expr]) -> Expr:
    """Buckets are counted from Monday 2000-01-03, or an origin, or moved by an offset; months from January 2000."""
    if not 2 <= len(args) <= 3:
        raise no_overload(function, name, args)
    width = require_constant(cast(args[0], INTERVAL), f"The width of {name}")
    if width is None:
        return Literal(TIMESTAMP, None)
    if not isinstance(width, Interval) or (width.months and (width.days or width.micros)):
        raise NotSupportedError(f"{name} by months and days together is not supported.")
    if min(width) < 0 or not any(width):
        raise BindError(f"The width of {name} must be greater than zero.")
    moment = _temporal(name, args[1])
    result, x = moment.type, cast(moment, TIMESTAMP)
    origin: Expr = Literal(TIMESTAMP, _JANUARY if width.months else _MONDAY)
    if len(args) == 3 and args[2].type == INTERVAL:
        moved = call(TIMESTAMP, "sub_interval", x, args[2])
        start = call(TIMESTAMP, "time_bucket", Literal(INTERVAL, width), moved, origin)
        return cast(call(TIMESTAMP, "add_interval", start, args[2]), result)
    if len(args) == 3:
        origin = cast(_temporal(name, args[2]), TIMESTAMP)
        if isinstance(origin, Literal):  # the instructions want its value
            origin = Literal(TIMESTAMP, origin.value)
    elif width.months in (1, 3, 12):
        unit = {1: "month", 3: "quarter", 12: "year"}[width.months]
        return cast(call(TIMESTAMP, "date_trunc", Literal(VARCHAR, unit), x), result)
    return cast(call(TIMESTAMP, "time_bucket", Literal(INTERVAL, width), x, origin), result)


def of_temporal(result: SqlType) -> Rule:
    def rule(function: Function, name: str, args: list[Expr]) -> Expr:
        if len(args) != 1:
            raise no_overload(function, name, args)
        return call(result, function.canonical, clock(_temporal(name, args[0])))

    return rule


def strftime(function: Function, name: str, args: list[Expr]) -> Expr:
    if len(args) != 2:
        raise no_overload(function, name, args)
    x, form = args if args[0].type.is_temporal else (args[1], args[0])
    if form.type != VARCHAR or not x.type.is_temporal:
        raise no_overload(function, name, args)
    return call(VARCHAR, "strftime", x, form)


def strptime(function: Function, name: str, args: list[Expr]) -> Expr:
    """Text to a TIMESTAMP, or to one with a time zone where a constant format reads an offset."""
    if len(args) != 2 or any(implicit_cost(a, VARCHAR) is None for a in args):
        raise no_overload(function, name, args)
    form = args[1]
    zoned = isinstance(form, Literal) and not form.is_null and form.test(has_offset)
    return call(TIMESTAMPTZ if zoned else TIMESTAMP, function.canonical, *cast_all(args, VARCHAR))


def to_interval(unit: str, e: Expr) -> Expr:
    """``e`` of a unit of time as an INTERVAL."""
    name = (
        f"to_{unit}s"
        if unit not in ("century", "millennium")
        else {"century": "to_centuries"}.get(unit, "to_millennia")
    )
    if is_string_literal(e):
        e = cast(e, DOUBLE)
    one = UNITS[unit]
    if isinstance(e, Literal) and not e.is_null and e.type.is_numeric:
        source = e.type

        def times(value: Any) -> Interval | None:
            exact = value / 10**source.scale if source.is_decimal else value
            if not one.micros or isinstance(exact, int) or unit not in ("second", "millisecond"):
                exact = int(exact)
            span = Interval(*(int(part * exact) for part in one))
            return span if max(abs(span.months), abs(span.days)) < 2**31 and abs(span.micros) < 2**63 else None

        found = derived(INTERVAL, times, e)
        if found is not None:
            return found
    if is_null(e):
        return Literal(INTERVAL, None)
    if not e.type.is_integer:
        raise NotSupportedError(f"{name} of {e.type} is not supported.", hint="Cast it to BIGINT.")
    return call(INTERVAL, name, cast(e, BIGINT))


def interval_of(unit: str) -> Rule:
    def rule(function: Function, name: str, args: list[Expr]) -> Expr:
        if len(args) != 1:
            raise no_overload(function, name, args)
        return to_interval(unit, args[0])

    return rule
