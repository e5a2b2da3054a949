"""Values as text and text as values, in DuckDB's forms: what casts from and to VARCHAR do with one value."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from finequery.errors import NotSupportedError
from finequery.operators.calendar import DAY, SECOND, UNITS, civil, days_of, offset, unit_name
from finequery.types import UTC_NAMES, Interval, SqlType

_DATE = r"(-?\d+)([-/ \\])(\d{1,2})\2(\d{1,2})( \(BC\))?"
_ZONE = r"(?P<zone>\s*(?:Z|[+-]\d{2}(?::?\d{2}(?::?\d{2})?)?|\s[A-Za-z][\w/+-]*)?)"
_OFFSET = re.compile(r"[+-]\d{2}(?::?\d{2}(?::\d{2})?)?", re.ASCII)
_TIME = r"(\d{1,2}):(\d{1,2})(?::(\d{1,2})(?:\.(\d*))?)?"
_DATE_ONLY = re.compile(rf"\s*{_DATE}\s*", re.ASCII)
_TIMESTAMP = re.compile(rf"\s*{_DATE}(?:(?:T|\s+){_TIME}{_ZONE}\s*)?", re.ASCII)
_NUMBER = re.compile(r"([+-]?)(\d+(?:_\d+)*)?(\.(\d+(?:_\d+)*)?)?(?:[eE]([+-]?\d+))?", re.ASCII)
_FLOAT = re.compile(
    r"[+-]?(\d+(_\d+)*\.?(\d+(_\d+)*)?|\.\d+(_\d+)*)([eE][+-]?\d+)?|[+-]?(inf|infinity|nan)", re.ASCII | re.I
)
_SPAN = re.compile(r"\s*(?:(-?\d+)(?:\.(\d*))?\s*([a-zA-Z]+)|(-?)(\d+):(\d{1,2})(?::(\d{1,2})(?:\.(\d+))?)?)", re.ASCII)
_BOOLEANS = {
    "true": True, "t": True, "1": True, "yes": True, "y": True,
    "false": False, "f": False, "0": False, "no": False, "n": False,
}  # fmt: skip

#: Least and greatest value of the types whose outermost ones stand for infinity in DuckDB.
LIMITS = {
    "DATE": (-(2**31) + 2, 2**31 - 2),
    **dict.fromkeys(("TIMESTAMP", "TIMESTAMP WITH TIME ZONE"), (-9223372022400000000, 2**63 - 2)),
}


def parse(text: str, target: SqlType) -> Any:
    """The physical value of ``text`` as ``target``; None where the text is not one or does not fit."""
    name = target.name
    if name == "VARCHAR":
        return text
    if name == "BOOLEAN":
        return _BOOLEANS.get(text.lower())
    if target.is_float:
        return parse_float(text, name == "FLOAT")
    if name == "INTERVAL":
        return parse_interval(text)
    read = _MOMENTS.get(name)
    value = parse_exact(text, target.scale, target.is_integer) if read is None else read(text)
    if value is None:
        return None
    low, high = LIMITS.get(name) or target.limits
    if not low <= value <= high:
        return None
    if low == 0 == value and "-" in text and re.match(r"\s*-[0_.]*[1-9]", text):
        return None  # -0.4 is below the range of an unsigned type before it is rounded
    return value


def parse_exact(text: str, scale: int = 0, prefixes: bool = False) -> int | None:
    """A number times 10**scale, rounded half away from zero; ``prefixes``: 0x and 0b are understood."""
    text = text.strip()
    match = _NUMBER.fullmatch(text)
    if match is None or not (match[2] or match[4]):
        if prefixes and re.fullmatch(r"0[xX][0-9a-fA-F]+|0[bB][01]+", text):
            return int(text, 0)
        return None
    whole, fraction = (match[2] or "").replace("_", ""), (match[4] or "").replace("_", "")
    if len(match[5] or "") > 6:
        return None
    exponent = int(match[5] or 0)
    digits, shift = whole + fraction, exponent - len(fraction)
    value, shift = int(digits or "0"), shift + scale
    if shift >= 0:
        value = 0 if value == 0 else value * 10**shift if shift < 100 else 10**100
    else:
        value = round_half_away(value, 10**-shift) if -shift <= len(digits) else 0
    return -value if match[1] == "-" else value


def round_half_away(value: int, divisor: int) -> int:
    """``value / divisor`` rounded to the nearest integer, halves away from zero."""
    half = (abs(value) * 2 + divisor) // (2 * divisor)
    return -half if value < 0 else half


def single(value: float) -> float:
    """The nearest FLOAT."""
    try:
        return float(struct.unpack("f", struct.pack("f", value))[0])
    except OverflowError:
        return float("inf") if value > 0 else float("-inf")


def parse_float(text: str, is_single: bool = False) -> float | None:
    text = text.strip()
    if not _FLOAT.fullmatch(text):
        return None
    value = float(text.replace("_", ""))
    return single(value) if is_single else value


def _days(match: re.Match[str]) -> int | None:
    year = int(match[1])
    if len(match[1]) > 9:
        return None
    return days_of(1 - year if match[5] else year, int(match[3]), int(match[4]))


def parse_date(text: str) -> int | None:
    if text.strip().lower() == "epoch":
        return 0
    match = _DATE_ONLY.fullmatch(text)
    if match is not None:
        return _days(match)
    parts = _moment(text)
    return None if parts is None else parts[0]


def parse_timestamp(text: str) -> int | None:
    if text.strip().lower() == "epoch":
        return 0
    parts = _moment(text)
    return None if parts is None else parts[0] * DAY + parts[1]


def _moment(text: str) -> tuple[int, int] | None:
    """Day and microseconds of a timestamp. A time zone behind it is passed over, as DuckDB does for TIMESTAMP."""
    match = _TIMESTAMP.fullmatch(text)
    if match is None:
        return None
    days = _days(match)
    hour, minute, second = (int(match[i] or 0) for i in (6, 7, 8))
    micros = int(((match[9] or "") + "000000")[:6])
    if days is None or minute > 59 or second > 59 or (hour > 23 and (hour, minute, second, micros) != (24, 0, 0, 0)):
        return None
    return days, ((hour * 60 + minute) * 60 + second) * SECOND + micros


def parse_instant(text: str) -> int | None:
    """Microseconds since 1970 in UTC, in which a time without a zone is understood."""
    clock, match = parse_timestamp(text), _TIMESTAMP.fullmatch(text)
    if clock is None or match is None:
        return clock
    ahead = _ahead(match["zone"] or "", text)
    return None if ahead is None else clock - ahead


def _ahead(zone: str, text: str) -> int | None:
    """By how many microseconds the clocks of a zone are ahead of UTC; None where it is not written as DuckDB wants it:
    offsets right behind the time, names after a space."""
    if zone.isspace() or zone in ("", "Z"):
        return 0
    if _OFFSET.fullmatch(zone):
        return offset(zone)
    name = zone.strip()
    if len(name) == 1 or not name[0].isalpha():
        return None
    if name.lower() not in UTC_NAMES:
        raise NotSupportedError(
            f"The time zone {name} of '{text}' is not supported.", hint="There are UTC and offsets, as in 10:00:00+02."
        )
    return 0


_MOMENTS: dict[str, Callable[[str], int | None]] = {
    "DATE": parse_date,
    "TIMESTAMP": parse_timestamp,
    "TIMESTAMP WITH TIME ZONE": parse_instant,
}


def parse_interval(text: str) -> Interval | None:
    """``1 year 2 days``, ``3 hours``, ``04:05:06.5`` and their sums, ``@`` in front and ``ago`` behind."""
    months = days = micros = 0
    text = text.strip()
    sign, end = 1, 0
    if text.startswith("@"):
        text = text[1:].strip()
    if text[-4:].lower() == " ago":
        sign, text = -1, text[:-4].rstrip()
    if re.fullmatch(r"-?\d+(\.\d*)?", text, re.ASCII):
        text += " seconds"
    if not text:
        return None
    while end < len(text):
        match = _SPAN.match(text, end)
        if match is None:
            return None
        end = match.end()
        if match[5]:
            if int(match[6]) > 59 or int(match[7] or 0) > 59:
                return None
            value = ((int(match[5]) * 60 + int(match[6])) * 60 + int(match[7] or 0)) * SECOND
            value += int(((match[8] or "") + "000000")[:6])
            micros += -value if match[4] == "-" else value
            continue
        unit = unit_name(match[3])
        if unit is None:
            return None
        one, count = UNITS[unit], int(match[1])
        months, days, micros = months + count * one.months, days + count * one.days, micros + count * one.micros
        if match[2]:
            part = Decimal("0." + match[2]) * (-1 if match[1].startswith("-") else 1)
            if one.months:  # a part of a year is months, of a month days: 30 of them
                whole = int(part * one.months)
                rest = (part * one.months - whole) * 30
                months, days = months + whole, days + int(rest)
                micros += int((rest - int(rest)) * DAY)
            elif one.days:
                whole = int(part * one.days)
                days += whole
                micros += int((part * one.days - whole) * DAY)
            else:
                micros += int(part * one.micros)
    if max(abs(months), abs(days)) >= 2**31 or abs(micros) >= 2**63:
        return None
    return Interval(sign * months, sign * days, sign * micros)


# --- values to text --------------------------------------------------------------------------------------------------


def format_value(value: Any, source: SqlType) -> str:
    """A physical value (not None) as CAST(… AS VARCHAR) writes it."""
    name = source.name
    if name == "VARCHAR":
        return str(value)
    if name == "BOOLEAN":
        return "true" if value else "false"
    if name == "DECIMAL":
        return format_decimal(value, source)
    if name == "DOUBLE":
        return repr(float(value))
    if name == "FLOAT":
        return _format_single(value)
    if name == "DATE":
        return format_date(value)
    if source.is_timestamp:
        return format_timestamp(value) + ("" if name == "TIMESTAMP" else "+00")
    if name == "INTERVAL":
        return format_interval(value)
    return str(int(value))


def _format_single(value: float) -> str:
    """The shortest digits that tell a FLOAT from its neighbours, laid out as Python lays out a double."""
    import numpy as np

    number = np.float32(value)
    if value == 0 or not np.isfinite(number):
        return repr(float(value))
    text = np.format_float_scientific(number, unique=True, trim="-", exp_digits=2)
    if -4 <= int(text.partition("e")[2]) < 16:
        return np.format_float_positional(number, unique=True, trim="0")
    return text


def format_decimal(value: int, source: SqlType) -> str:
    if not source.scale:
        return str(value)
    digits = str(abs(value)).rjust(source.scale + (source.precision > source.scale), "0")
    whole = digits[: -source.scale] if len(digits) > source.scale else ""
    return f"{'-' if value < 0 else ''}{whole}.{digits[-source.scale :]}"


def format_date(days: int) -> str:
    year, month, day = civil(days)
    if year > 0:
        return f"{year:04d}-{month:02d}-{day:02d}"
    return f"{1 - year:04d}-{month:02d}-{day:02d} (BC)"


def _fraction(micros: int) -> str:
    return f".{micros:06d}".rstrip("0") if micros else ""


def format_timestamp(micros: int) -> str:
    days, rest = divmod(micros, DAY)
    seconds, rest = divmod(rest, SECOND)
    minutes, second = divmod(seconds, 60)
    return f"{format_date(days)} {minutes // 60:02d}:{minutes % 60:02d}:{second:02d}{_fraction(rest)}"


def format_interval(span: Interval) -> str:
    """``1 year 2 months 3 days 04:05:06.5``; each part with its own sign.

    >>> format_interval(Interval(-14, 1, -1_500_000))
    '-1 year -2 months 1 day -00:00:01.5'
    """
    years, months = divmod(abs(span.months), 12)
    sign = -1 if span.months < 0 else 1
    parts = [
        f"{count} {unit}{'' if abs(count) == 1 else 's'}"
        for count, unit in ((sign * years, "year"), (sign * months, "month"), (span.days, "day"))
        if count
    ]
    if span.micros or not parts:
        seconds, rest = divmod(abs(span.micros), SECOND)
        minutes, second = divmod(seconds, 60)
        mark = "-" if span.micros < 0 else ""
        parts.append(f"{mark}{minutes // 60:02d}:{minutes % 60:02d}:{second:02d}{_fraction(rest)}")
    return " ".join(parts)
