"""SQL types, their Python and physical values, and DuckDB's rules for combining them.

A value has two forms. The *Python* form is what a user passes in and gets out (``Decimal``, ``datetime.date``).
The *physical* form is what the engine computes with:

=================  ==========================================================
BOOLEAN            ``bool``
integers           ``int``
DECIMAL(p, s)      ``int``: the value times 10**s
DATE               ``int``: days since 1970-01-01
TIMESTAMP          ``int``: microseconds since 1970-01-01T00:00:00
…WITH TIME ZONE    ``int``: microseconds since 1970-01-01T00:00:00 in UTC
INTERVAL           ``Interval(months, days, micros)``
FLOAT, DOUBLE      ``float``
VARCHAR            ``str``
=================  ==========================================================

The time zone of every session is UTC: a TIMESTAMP WITH TIME ZONE and the TIMESTAMP of its clock in UTC have the same
physical value, and a cast between them changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


class Interval(NamedTuple):
    """A span of time in DuckDB's three independent parts."""

    months: int = 0
    days: int = 0
    micros: int = 0


@dataclass(frozen=True)
class SqlType:
    """A SQL type. ``precision`` and ``scale`` are set for DECIMAL alone."""

    name: str
    precision: int = 0
    scale: int = 0

    def __hash__(self) -> int:  # of every expression that is looked up
        return hash(self.name)

    def __str__(self) -> str:
        return f"DECIMAL({self.precision},{self.scale})" if self.name == "DECIMAL" else self.name

    @property
    def is_integer(self) -> bool:
        return self.name in INTEGER_RANGE

    @property
    def is_decimal(self) -> bool:
        return self.name == "DECIMAL"

    @property
    def is_float(self) -> bool:
        return self.name in ("FLOAT", "DOUBLE")

    @property
    def is_numeric(self) -> bool:
        return self.is_integer or self.is_decimal or self.is_float

    @property
    def is_string(self) -> bool:
        return self.name == "VARCHAR"

    @property
    def is_temporal(self) -> bool:
        return self.name == "DATE" or self.is_timestamp

    @property
    def is_timestamp(self) -> bool:
        """Whether physical values are microseconds, with a time zone or without."""
        return self.name in ("TIMESTAMP", "TIMESTAMP WITH TIME ZONE")

    @property
    def is_exact(self) -> bool:
        """Whether physical values are integers (integers, decimals, dates, timestamps, booleans)."""
        return self.is_integer or self.is_decimal or self.is_temporal or self.name == "BOOLEAN"

    @property
    def limits(self) -> tuple[int, int]:
        """Smallest and largest physical value of an exact type."""
        if self.name == "DECIMAL":
            top = 10**self.precision - 1
            return -top, top
        if self.name == "BOOLEAN":
            return 0, 1
        if self.name == "DATE":
            return -(2**31), 2**31 - 1
        if self.is_timestamp:
            return -(2**63), 2**63 - 1
        return INTEGER_RANGE[self.name]


INTEGER_RANGE: dict[str, tuple[int, int]] = {
    "TINYINT": (-(2**7), 2**7 - 1),
    "SMALLINT": (-(2**15), 2**15 - 1),
    "INTEGER": (-(2**31), 2**31 - 1),
    "BIGINT": (-(2**63), 2**63 - 1),
    "HUGEINT": (-(2**127), 2**127 - 1),
    "UTINYINT": (0, 2**8 - 1),
    "USMALLINT": (0, 2**16 - 1),
    "UINTEGER": (0, 2**32 - 1),
    "UBIGINT": (0, 2**64 - 1),
}

BOOLEAN = SqlType("BOOLEAN")
TINYINT = SqlType("TINYINT")
SMALLINT = SqlType("SMALLINT")
INTEGER = SqlType("INTEGER")
BIGINT = SqlType("BIGINT")
HUGEINT = SqlType("HUGEINT")
UTINYINT = SqlType("UTINYINT")
USMALLINT = SqlType("USMALLINT")
UINTEGER = SqlType("UINTEGER")
UBIGINT = SqlType("UBIGINT")
FLOAT = SqlType("FLOAT")
DOUBLE = SqlType("DOUBLE")
DATE = SqlType("DATE")
TIMESTAMP = SqlType("TIMESTAMP")
TIMESTAMPTZ = SqlType("TIMESTAMP WITH TIME ZONE")
INTERVAL = SqlType("INTERVAL")
VARCHAR = SqlType("VARCHAR")
#: Type of a bare NULL before anything gave it one; a result column of this type is shown as INTEGER.
NULL = SqlType("NULL")
#: Names of the one time zone that there is, in small letters.
UTC_NAMES = frozenset(("utc", "etc/utc", "gmt", "etc/gmt"))


def decimal(precision: int, scale: int) -> SqlType:
    """DECIMAL(precision, scale), precision at most 38."""
    return SqlType("DECIMAL", precision, scale)
