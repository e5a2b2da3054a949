"""Where DuckDB 1 answers otherwise than DuckDB 2, whose answers are FineQuery's.

DuckDB 2 needs Python 3.11, so the versions for Jetson (Python 3.10) are tested against DuckDB 1. There, and nowhere
else, tests leave out the comparisons that this module names; each was seen with DuckDB 1.5.6.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb

from finequery.types import SqlType

#: The oracle of this run is DuckDB 1.
OLDER = int(duckdb.__version__.partition(".")[0]) < 2

#: Texts by type that are cast otherwise.
_TEXTS = {
    "HUGEINT": {"0x1F", "0b101"},
    "DATE": {"2020-01-05 abc", "2020-01-05 25:00:00", "2020-01-05 10", "2020-01-05 10:60:00", "2020-01-05-10:00:00"},
    "DECIMAL(9,0)": {"5e-3"},
    "TIMESTAMP WITH TIME ZONE": {
        *("2024-01-01 10:00Z", "1969-12-31 23:00-01", "294247-01-10 04:00:54.775806+00"),
        "2024-01-01T08:00:00Z\n2024-01-01 08:00+02\n",
    },
}
#: Functions that are refused outside of their domain, where they are NaN or infinite now.
_DOMAINS = {"sqrt", "ln", "log10", "log2", "sin", "cos", "tan", "asin", "acos"}
_SINCE = "-- since DuckDB 2\n"


def statements(path: Path) -> Iterator[str]:
    """The statements of a script; those marked ``-- since DuckDB 2`` without their mark, and not if the oracle is
    older."""
    for sql in path.read_text().split(";\n"):
        sql = sql.lstrip()
        if sql and not (OLDER and sql.startswith(_SINCE)):
            yield sql.removeprefix(_SINCE)


def reads(text: str, type_: SqlType) -> bool:
    """Whether DuckDB 1 casts a text otherwise."""
    return OLDER and text in _TEXTS.get(str(type_), ())


def casts(source: SqlType, target: SqlType, text: str) -> bool:
    """Whether DuckDB 1 casts a floating-point number otherwise: FLOAT by arithmetic of its own 24 bits to decimals, and
    numbers within a half of an integer type's range by the sign and size that they have before they are rounded."""
    if OLDER and source.name == "DATE" and target.name == "TIMESTAMP WITH TIME ZONE":
        return text.startswith("5881580-")  # the last day, which is an error even where one tries
    if not OLDER or not source.is_float:
        return False
    if target.is_decimal:
        return source.name == "FLOAT"
    if target.is_integer:
        value, (low, high) = float(text), target.limits
        return low - 0.5 <= value < low or high < value <= high + 0.5
    return False


def calls(name: str, arguments: list[Any], found: Any, expected: Any) -> bool:
    """Whether DuckDB 1 computes a function otherwise."""
    if not OLDER:
        return False
    if name == "round" and arguments[-1] in (-1, -2):  # of what is not finite or does not fit
        return found == "error" or (isinstance(found, float) and not math.isfinite(found))
    return expected == "error" and name in _DOMAINS and isinstance(found, float) and not math.isfinite(found)
