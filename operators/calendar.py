"""Dates in Python integers: days and microseconds since 1970, the proleptic Gregorian calendar, intervals, units."""

from __future__ import annotations

from finequery.types import Interval

SECOND = 1_000_000
HOUR = 3600 * SECOND
DAY = 24 * HOUR

#: What one of a unit is in (months, days, micros), by singular name.
UNITS: dict[str, Interval] = {
    "millennium": Interval(12000), "century": Interval(1200), "decade": Interval(120), "year": Interval(12),
    "quarter": Interval(3), "month": Interval(1), "week": Interval(0, 7), "day": Interval(0, 1),
    "hour": Interval(0, 0, HOUR), "minute": Interval(0, 0, 60 * SECOND), "second": Interval(0, 0, SECOND),
    "millisecond": Interval(0, 0, 1000), "microsecond": Interval(0, 0, 1),
}  # fmt: skip
_ALIASES = {
    "y": "year", "yr": "year", "yrs": "year", "mon": "month", "mons": "month", "d": "day", "w": "week", "h": "hour",
    "hr": "hour", "hrs": "hour", "m": "minute", "min": "minute", "mins": "minute", "s": "second", "sec": "second",
    "secs": "second", "ms": "millisecond", "msec": "millisecond", "msecs": "millisecond", "us": "microsecond",
    "usec": "microsecond", "usecs": "microsecond", "centuries": "century", "millennia": "millennium",
    "dec": "decade", "decs": "decade", "cent": "century", "c": "century", "mil": "millennium", "mils": "millennium",
}  # fmt: skip
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
MONTHS = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November",
    "December",
)  # fmt: skip


def unit_name(text: str) -> str | None:
    """The singular name of a unit of time; None where it is none."""
    name = text.lower()
    for candidate in (_ALIASES.get(name, name), name[:-1] if name.endswith("s") else name):
        if candidate in UNITS:
            return candidate
    return None


def offset(text: str) -> int:
    """By how many microseconds clocks are ahead of UTC.

    >>> offset("+02:30"), offset("-0100"), offset("+00")
    (9000000000, -3600000000, 0)
    """
    digits = text[1:].replace(":", "").ljust(6, "0")
    hours, minutes, seconds = int(digits[:2]), int(digits[2:4]), int(digits[4:])
    ahead = ((hours * 60 + minutes) * 60 + seconds) * SECOND
    return -ahead if text[0] == "-" else ahead


def month_length(year: int, month: int) -> int:
    if month == 2:
        return 29 if year % 4 == 0 and (year % 100 != 0 or year % 400 == 0) else 28
    return 30 if month in (4, 6, 9, 11) else 31


def days_of(year: int, month: int, day: int) -> int | None:
    """Day number of a civil date; None where there is no such day.

    >>> days_of(1970, 1, 1), days_of(2000, 3, 1), days_of(1999, 2, 29)
    (0, 11017, None)
    """
    if not 1 <= month <= 12 or not 1 <= day <= month_length(year, month):
        return None
    shifted = year - (month <= 2)  # the year then ends with its leap day
    era, of_era = divmod(shifted, 400)
    of_year = (153 * ((month + 9) % 12) + 2) // 5 + day - 1
    return era * 146097 + of_era * 365 + of_era // 4 - of_era // 100 + of_year - 719468


def civil(days: int) -> tuple[int, int, int]:
    """(year, month, day) of a day number."""
    era, day_of_era = divmod(days + 719468, 146097)
    year_of_era = (day_of_era - day_of_era // 1460 + day_of_era // 36524 - day_of_era // 146096) // 365
    of_year = day_of_era - (365 * year_of_era + year_of_era // 4 - year_of_era // 100)
    shifted = (5 * of_year + 2) // 153
    month = shifted + 3 if shifted < 10 else shifted - 9
    return era * 400 + year_of_era + (month <= 2), month, of_year - (153 * shifted + 2) // 5 + 1


def add_months(days: int, months: int) -> int:
    """The same day of a later month, or that month's last."""
    year, month, day = civil(days)
    year, month = divmod(year * 12 + month - 1 + months, 12)
    found = days_of(year, month + 1, min(day, month_length(year, month + 1)))
    assert found is not None
    return found


def iso_week(days: int) -> tuple[int, int]:
    """(year, week) by ISO 8601: those of the week's Thursday."""
    thursday = days - (days + 3) % 7 + 3
    year = civil(thursday)[0]
    first = days_of(year, 1, 1)
    assert first is not None
    return year, (thursday - first) // 7 + 1


def day_of_year(days: int) -> int:
    first = days_of(civil(days)[0], 1, 1)
    assert first is not None
    return days - first + 1


def cut_to_zero(value: int, size: int) -> int:
    """The quotient, towards zero (years before Christ)."""
    return value // size if value >= 0 else -(-value // size)


def truncate(unit: str, micros: int) -> int:
    """The start of the unit that a timestamp lies in."""
    size = UNITS[unit]
    if size.micros:
        return micros - micros % size.micros
    days = micros // DAY
    if unit == "week":
        return (days - (days + 3) % 7) * DAY
    if unit == "day":
        return days * DAY
    year, month, _ = civil(days)
    if size.months >= 120:  # years are cut towards zero
        years = size.months // 12
        year, month = cut_to_zero(year, years) * years, 1
    else:
        month = (month - 1) // size.months * size.months + 1
    first = days_of(year, month, 1)
    assert first is not None
    return first * DAY


def difference(unit: str, a: int, b: int) -> int:
    """Borders of the unit between two timestamps."""
    size = UNITS[unit]
    if size.micros:
        return b // size.micros - a // size.micros
    first, last = a // DAY, b // DAY
    if unit == "week":  # whole weeks, not borders
        return (last - first) // 7 if last >= first else -((first - last) // 7)
    if unit == "day":
        return last - first
    (year_a, month_a, _), (year_b, month_b, _) = civil(first), civil(last)
    if size.months >= 12:
        years = size.months // 12
        return cut_to_zero(year_b, years) - cut_to_zero(year_a, years)
    if unit == "quarter":
        return cut_to_zero(year_b * 12 + month_b - 1, 3) - cut_to_zero(year_a * 12 + month_a - 1, 3)
    return year_b * 12 + month_b - year_a * 12 - month_a


def add_interval(micros: int, span: Interval) -> int:
    """A timestamp moved: months first, then days, then microseconds."""
    if span.months:
        days, rest = divmod(micros, DAY)
        micros = add_months(days, span.months) * DAY + rest
    return micros + span.days * DAY + span.micros


def months_between(first: int, last: int) -> int:
    """Whole months from one timestamp to a later one: the day of the month and the time have to be reached; the last
    day of a month will do for days that it lacks."""
    (days_a, time_a), (days_b, time_b) = divmod(first, DAY), divmod(last, DAY)
    (year_a, month_a, day_a), (year_b, month_b, day_b) = civil(days_a), civil(days_b)
    months = (year_b - year_a) * 12 + month_b - month_a
    reached = day_b if day_b < month_length(year_b, month_b) else max(day_a, day_b)
    return months - ((reached, time_b) < (day_a, time_a))


def whole_units(unit: str, a: int, b: int) -> int:
    """Whole units from one timestamp to the other."""
    size = UNITS[unit]
    if size.months:
        months = months_between(a, b) if a <= b else -months_between(b, a)
        return cut_to_zero(months, size.months)
    return cut_to_zero(b - a, size.days * DAY + size.micros)


def age(a: int, b: int) -> Interval:
    """``a - b`` in years, months, days and time, by the calendar."""
    if a < b:
        return Interval(*(-part for part in age(b, a)))
    (days_a, time_a), (days_b, time_b) = divmod(a, DAY), divmod(b, DAY)
    (year_a, month_a, day_a), (year_b, month_b, day_b) = civil(days_a), civil(days_b)
    months, days, micros = (year_a - year_b) * 12 + month_a - month_b, day_a - day_b, time_a - time_b
    if micros < 0:
        days, micros = days - 1, micros + DAY
    if days < 0:
        months, days = months - 1, days + month_length(year_b, month_b)
    return Interval(months, days, micros)


def bucket(width: Interval, micros: int, origin: int) -> int:
    """The start of the bucket of a width that a timestamp lies in, counted from an origin; months from its month."""
    if not width.months:
        size = width.days * DAY + width.micros
        return micros - (micros - origin) % size
    year, month, _ = civil(micros // DAY)
    first_year, first_month, _ = civil(origin // DAY)
    since = (year - first_year) * 12 + month - first_month
    start = first_year * 12 + first_month - 1 + since // width.months * width.months
    days = days_of(start // 12, start % 12 + 1, 1)
    assert days is not None
    return days * DAY


def interval_order(span: Interval) -> tuple[int, int, int]:
    """What intervals are compared by: a month is 30 days, a day 24 hours."""
    days, micros = divmod(span.micros, DAY)
    months, days = divmod(span.days + days, 30)
    return span.months + months, days, micros


def part(name: str, micros: int) -> int | float:
    """A part of a timestamp by its canonical name."""
    days, of_day = divmod(micros, DAY)
    if name == "hour":
        return of_day // HOUR
    if name == "minute":
        return of_day // (60 * SECOND) % 60
    if name == "second":
        return of_day // SECOND % 60
    if name == "millisecond":
        return of_day // 1000 % 60_000
    if name == "microsecond":
        return of_day % (60 * SECOND)
    if name == "epoch":
        return micros / SECOND
    if name == "isodow":
        return (days + 3) % 7 + 1
    if name == "dow":
        return (days + 4) % 7
    if name in ("isoyear", "week"):
        return iso_week(days)[name == "week"]
    if name == "doy":
        return day_of_year(days)
    year, month, day = civil(days)
    if name == "decade":
        return cut_to_zero(year, 10)
    if name == "century":
        return (year - 1) // 100 + 1 if year > 0 else -(-year // 100) - 1
    if name == "millennium":
        return (year - 1) // 1000 + 1 if year > 0 else -(-year // 1000) - 1
    if name == "era":
        return int(year > 0)
    return {"year": year, "month": month, "day": day, "quarter": (month + 2) // 3}[name]


#: Names that ``part`` knows.
PARTS = frozenset(
    "year month day hour minute second millisecond microsecond quarter week isoyear dow isodow doy epoch decade "
    "century millennium era".split()
)
