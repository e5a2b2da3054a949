"""strftime, strptime, and the names of days and months, over microseconds since 1970."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

from finequery.errors import DataError
from finequery.operators.calendar import DAY, DAYS, MONTHS, SECOND, civil, day_of_year, days_of, iso_week, offset

Fields = tuple[int, int, int, int, int]  # year, month, day, day number, microseconds of the day


def _clock(of_day: int, size: int, modulus: int) -> int:
    return of_day // size % modulus


def _hour12(of_day: int) -> int:
    return (of_day // (3600 * SECOND) + 11) % 12 + 1


def _year(year: int) -> str:
    return f"{year:04d}" if year >= 0 else str(year)


_WRITE: dict[str, Callable[[Fields], str]] = {
    "Y": lambda f: _year(f[0]),
    "y": lambda f: f"{abs(f[0]) % 100:02d}",
    "m": lambda f: f"{f[1]:02d}",
    "d": lambda f: f"{f[2]:02d}",
    "j": lambda f: f"{day_of_year(f[3]):03d}",
    "H": lambda f: f"{_clock(f[4], 3600 * SECOND, 24):02d}",
    "I": lambda f: f"{_hour12(f[4]):02d}",
    "M": lambda f: f"{_clock(f[4], 60 * SECOND, 60):02d}",
    "S": lambda f: f"{_clock(f[4], SECOND, 60):02d}",
    "p": lambda f: "PM" if f[4] >= DAY // 2 else "AM",
    "f": lambda f: f"{f[4] % SECOND:06d}",
    "g": lambda f: f"{f[4] % SECOND // 1000:03d}",
    "a": lambda f: DAYS[(f[3] + 3) % 7][:3],
    "A": lambda f: DAYS[(f[3] + 3) % 7],
    "b": lambda f: MONTHS[f[1] - 1][:3],
    "B": lambda f: MONTHS[f[1] - 1],
    "w": lambda f: str((f[3] + 4) % 7),
    "u": lambda f: str((f[3] + 3) % 7 + 1),
    "U": lambda f: f"{(day_of_year(f[3]) + 6 - (f[3] + 4) % 7) // 7:02d}",
    "W": lambda f: f"{(day_of_year(f[3]) + 6 - (f[3] + 3) % 7) // 7:02d}",
    "V": lambda f: f"{iso_week(f[3])[1]:02d}",
    "G": lambda f: _year(iso_week(f[3])[0]),
    "z": lambda f: "+00",
    "%": lambda f: "%",
}
_LONG = {"c": "%Y-%m-%d %H:%M:%S", "x": "%Y-%m-%d", "X": "%H:%M:%S", "T": "%H:%M:%S"}
#: Specifiers that may have a - : without the zeros in front.
_SHORT = "ydmHIMSj"


@lru_cache(maxsize=256)
def _parts(form: str) -> list[str | tuple[str, bool]]:
    """A format as literal text and (specifier, short) pairs."""
    parts: list[str | tuple[str, bool]] = []
    i = 0
    while i < len(form):
        if form[i] != "%":
            end = form.find("%", i)
            end = len(form) if end < 0 else end
            parts.append(form[i:end])
            i = end
            continue
        match = re.compile(r"%(-?)(.)", re.DOTALL).match(form, i)
        if match is None:
            raise DataError(f"the format '{form}' ends with %")
        short, name = bool(match[1]), match[2]
        if name in _LONG and not short:
            parts.extend(_parts(_LONG[name]))
        elif (name in _WRITE or name == "Z") and (not short or name in _SHORT):
            parts.append((name, short))
        else:
            raise DataError(f"the format '{form}' has {match[0]}, which is not known")
        i = match.end()
    return parts


def strftime(micros: int, form: str, zone: str = "") -> str:
    """A timestamp by a format; ``zone`` is the name of its time zone."""
    days, of_day = divmod(micros, DAY)
    fields = (*civil(days), days, of_day)
    out = []
    for part in _parts(form):
        if isinstance(part, str):
            out.append(part)
        elif part[0] == "Z":
            out.append(zone)
        else:
            text = _WRITE[part[0]](fields)
            out.append(text.lstrip("0") or "0" if part[1] else text)
    return "".join(out)


#: Microseconds below which a specifier tells nothing apart; 0: it shows no part of a time. Others show the day.
_GRAINS = {"H": 3600 * SECOND, "I": 3600 * SECOND, "p": DAY // 2, "M": 60 * SECOND, "S": SECOND, "g": 1000, "f": 1}
_GRAINS |= {"z": 0, "Z": 0, "%": 0}


def grain(name: str, args: Sequence[Any]) -> tuple[int, bool] | None:
    """What a function with these further arguments looks at of a timestamp: multiples of how many microseconds, and
    whether also at the day; None: all of it, or not known.

    >>> grain("strftime", ["%H:%M"])
    (60000000, False)
    """
    if name in ("dayname", "monthname"):
        return DAY, True
    if name != "strftime" or not isinstance(args[0], str):
        return None
    names = [part[0] for part in _parts(args[0]) if not isinstance(part, str)]
    units = [_GRAINS[n] for n in names if _GRAINS.get(n)]
    return min(units, default=DAY), any(n not in _GRAINS for n in names)


_READ = {
    "Y": r"(-?\d{1,4})", "y": r"(\d{1,2})", "m": r"(\d{1,2})", "d": r"(\d{1,2})", "H": r"(\d{1,2})", "I": r"(\d{1,2})",
    "M": r"(\d{1,2})", "S": r"(\d{1,2})", "j": r"(\d{1,3})", "p": r"([AaPp][Mm])", "f": r"(\d{1,9})", "g": r"(\d{1,3})",
    "a": "(" + "|".join(d[:3] for d in DAYS) + ")", "A": "(" + "|".join(DAYS) + ")",
    "b": "(" + "|".join(m[:3] for m in MONTHS) + ")", "B": "(" + "|".join(MONTHS) + ")", "%": "(%)",
    "z": r"([+-]\d{2}(?::?\d{2}(?::\d{2})?)?)",
}  # fmt: skip


def has_offset(form: str) -> bool:
    """Whether a format of strptime says how far a clock is ahead of UTC: what it reads has a time zone."""
    return any(part[0] == "z" for part in _parts(form) if not isinstance(part, str))


@lru_cache(maxsize=256)
def _reader(form: str, zoned: bool) -> tuple[re.Pattern[str], list[str]]:
    pattern, names = r"\s*", []
    for part in _parts(form):
        if isinstance(part, str):
            pattern += "".join(r"\s+" if c.isspace() else re.escape(c) for c in part)
        elif part[0] in _READ and (zoned or part[0] != "z"):
            pattern += _READ[part[0]]
            names.append(part[0])
        else:
            raise DataError(f"strptime can't read %{part[0]} of the format '{form}'")
    return re.compile(pattern + r"\s*", re.IGNORECASE | re.ASCII), names


def try_strptime(text: str, form: str, zoned: bool = False) -> int | None:
    """The timestamp that a text shows in a format, None where it does not have it. Fields that are missing are those of
    1900-01-01 00:00:00. An offset is read where the result is to be ``zoned``: a time in UTC."""
    pattern, names = _reader(form, zoned)
    match = pattern.fullmatch(text)
    return None if match is None else _assemble(dict(zip(names, match.groups())))


def strptime(text: str, form: str, zoned: bool = False) -> int:
    """As ``try_strptime``, but text without the format is a DataError."""
    micros = try_strptime(text, form, zoned)
    if micros is None:
        raise DataError(f"'{text}' does not have the format '{form}'")
    return micros


def _assemble(field: dict[str, str]) -> int | None:
    year = int(field.get("Y", 1900))
    if "y" in field:
        short = int(field["y"])
        year = short + (1900 if short >= 69 else 2000)
    month = int(field.get("m", 1))
    for name, cut in (("b", 3), ("B", 9)):
        if name in field:
            month = [m[:cut].lower() for m in MONTHS].index(field[name].lower()) + 1
    days = days_of(year, month, int(field.get("d", 1)))
    if "j" in field:
        first = days_of(year, 1, 1)
        days = None if first is None else first + int(field["j"]) - 1
    hour = int(field.get("H", 0))
    if "I" in field:
        hour = int(field["I"])
        if not 1 <= hour <= 12:
            return None
    if "p" in field:
        hour = hour % 12 + (12 if field["p"].lower() == "pm" else 0)
    minute, second = int(field.get("M", 0)), int(field.get("S", 0))
    if days is None or hour > 23 or minute > 59 or second > 59:
        return None
    micros = (
        int((field["f"] + "00000")[:6]) if "f" in field else int((field["g"] + "00")[:3]) * 1000 if "g" in field else 0
    )
    clock = days * DAY + ((hour * 60 + minute) * 60 + second) * SECOND + micros
    return clock - offset(field["z"]) if "z" in field else clock
