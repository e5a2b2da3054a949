"""Text to physical values, as DuckDB reads the text of a literal: dates, timestamps, intervals, numbers, booleans."""

from __future__ import annotations

import re
from decimal import Decimal, InvalidOperation
from typing import Any

from finequery.operators import host_text
from finequery.types import BIGINT, DOUBLE, HUGEINT, INTEGER, Interval, SqlType, decimal

MICROS = 1_000_000
DAY = 86_400 * MICROS

_NUMBER = re.compile(r"[+-]?(\d[\d_]*\.?\d*|\.\d+)([eE][+-]?\d+)?$")
_DECIMAL = re.compile(r"(\d*)\.(\d*)$")
_SPAN = re.compile(r"\s*(?:([+-]?\d+)(?:\.(\d+))?\s*([a-zA-Z]+)|([+-]?)(\d+):(\d{1,2})(?::(\d{1,2})(?:\.(\d{1,6}))?)?)")

#: What one of a unit is in (months, days, micros); singular names, the plural and these aliases are accepted too.
UNITS: dict[str, Interval] = {
    "millennium": Interval(12000),
    "century": Interval(1200),
    "decade": Interval(120),
    "year": Interval(12),
    "quarter": Interval(3),
    "month": Interval(1),
    "week": Interval(0, 7),
    "day": Interval(0, 1),
    "hour": Interval(0, 0, 3600 * MICROS),
    "minute": Interval(0, 0, 60 * MICROS),
    "second": Interval(0, 0, MICROS),
    "millisecond": Interval(0, 0, 1000),
    "microsecond": Interval(0, 0, 1),
}
_UNIT_ALIASES = {
    "y": "year",
    "yr": "year",
    "yrs": "year",
    "mon": "month",
    "mons": "month",
    "d": "day",
    "w": "week",
    "h": "hour",
    "hr": "hour",
    "hrs": "hour",
    "m": "minute",
    "min": "minute",
    "mins": "minute",
    "s": "second",
    "sec": "second",
    "secs": "second",
    "ms": "millisecond",
    "msec": "millisecond",
    "msecs": "millisecond",
    "us": "microsecond",
    "usec": "microsecond",
    "usecs": "microsecond",
    "centuries": "century",
    "millennia": "millennium",
    "dec": "decade",
    "decs": "decade",
    "cent": "century",
    "c": "century",
    "mil": "millennium",
    "mils": "millennium",
}


def unit_name(text: str) -> str | None:
    """The singular name of a unit of time; None where it is none."""
    name = text.lower()
    for candidate in (_UNIT_ALIASES.get(name, name), name[:-1] if name.endswith("s") else name):
        if candidate in UNITS:
            return candidate
    return None


def days_from_civil(year: int, month: int, day: int) -> int | None:
    """Days since 1970-01-01 in the proleptic Gregorian calendar; None where there is no such day.

    >>> days_from_civil(1970, 1, 1), days_from_civil(2000, 3, 1), days_from_civil(1999, 2, 29)
    (0, 11017, None)
    """
    leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
    if not 1 <= month <= 12 or not 1 <= day <= (31, 28 + leap, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)[month - 1]:
        return None
    shifted = year - (month <= 2)  # the year then ends with its leap day
    era, of_era = divmod(shifted, 400)
    of_year = (153 * ((month + 9) % 12) + 2) // 5 + day - 1
    return era * 146097 + of_era * 365 + of_era // 4 - of_era // 100 + of_year - 719468


def parse_interval(text: str) -> Interval | None:
    """``1 year 2 days``, ``3 hours``, ``04:05:06.5`` and their sums; None where it is something else."""
    months = days = micros = end = 0
    while end < len(text.rstrip()):
        match = _SPAN.match(text, end)
        if match is None:
            return None
        end = match.end()
        if match[5]:
            value = ((int(match[5]) * 60 + int(match[6])) * 60 + int(match[7] or 0)) * MICROS
            value += int((match[8] or "0").ljust(6, "0"))
            micros += -value if match[4] == "-" else value
            continue
        unit = unit_name(match[3])
        if unit is None:
            return None
        one, count = UNITS[unit], int(match[1])
        months, days, micros = months + count * one.months, days + count * one.days, micros + count * one.micros
        if match[2]:
            part = Decimal("0." + match[2]) * (-1 if match[1].startswith("-") else 1)
            if one.months:  # a part of a year is months, of a month days: DuckDB counts 30 of them
                whole = int(part * one.months)
                months += whole
                rest = (part * one.months - whole) * 30
                days += int(rest)
                micros += int((rest - int(rest)) * DAY)
            elif one.days:
                whole = int(part * one.days)
                days += whole
                micros += int((part * one.days - whole) * DAY)
            else:
                micros += int(part * one.micros)
    return Interval(months, days, micros) if text.strip() else None


def round_half_away(value: int, divisor: int) -> int:
    """``value / divisor`` rounded to the nearest integer, halves away from zero."""
    half = (abs(value) * 2 + divisor) // (2 * divisor)
    return -half if value < 0 else half


def parse_number(text: str, scale: int = 0) -> int | None:
    """The number in ``text`` times 10**scale, rounded half away from zero; None where it is not a number."""
    text = text.strip()
    if re.match(r"0[xX][0-9a-fA-F]+$", text):
        return int(text, 16) * 10**scale
    if not _NUMBER.match(text):
        return None
    try:
        sign, digits, exponent = Decimal(text.replace("_", "")).as_tuple()
    except InvalidOperation:
        return None
    shift = int(exponent) + scale
    if shift > 400:
        return None
    value = int("".join(map(str, digits)) or "0") * (-1 if sign else 1)
    return value * 10**shift if shift >= 0 else round_half_away(value, 10 ** min(-shift, 500))


def parse_literal(digits: str) -> tuple[SqlType, Any]:
    """Type and physical value of a number as it is written: an integer of the narrowest of INTEGER, BIGINT and
    HUGEINT, else a DECIMAL of at most 38 digits, else a DOUBLE. An integer beyond HUGEINT is an OverflowError."""
    plain = digits.replace("_", "")
    if plain.isdigit():
        value = int(plain)
        return integer_type(value), value
    match = _DECIMAL.match(plain)
    if match:
        precision = len(match[1]) + len(match[2])  # .5 has one digit, 0.5 two
        if precision <= 38:
            return decimal(max(precision, 1), len(match[2])), int(match[1] + match[2] or "0")
    return DOUBLE, float(plain)


def integer_type(value: int) -> SqlType:
    """The narrowest of INTEGER, BIGINT, HUGEINT that holds a value."""
    for candidate in (INTEGER, BIGINT, HUGEINT):
        low, high = candidate.limits
        if low <= value <= high:
            return candidate
    raise OverflowError(value)


def parse_value(text: str, target: SqlType) -> Any:
    """The physical value of ``text`` as ``target``; None where the text does not fit the type."""
    if target.is_string:
        return text
    if target.name == "BOOLEAN":
        return {
            "true": True,
            "t": True,
            "1": True,
            "yes": True,
            "y": True,
            "false": False,
            "f": False,
            "0": False,
            "no": False,
            "n": False,
        }.get(text.lower())
    if target.is_temporal:
        return host_text.parse(text, target)
    if target.name == "INTERVAL":
        return parse_interval(text)
    if target.is_float:
        plain = text.strip().replace("_", "")
        try:
            return float(plain)
        except ValueError:
            return None
    value = parse_number(text, target.scale)
    if value is None:
        return None
    low, high = target.limits
    return value if low <= value <= high else None
