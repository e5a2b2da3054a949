"""The types of expressions are DuckDB's, and what DuckDB refuses to bind is refused."""

from __future__ import annotations

import itertools
import random
from typing import Any

import older_duckdb
import pytest
from test_binder import DATA, Fake, bound, described, make, shown

from finequery.errors import Error
from finequery.planner.coercion import combine
from finequery.planner.functions import AGGREGATES, FUNCTIONS
from finequery.planner.literals import days_from_civil, parse_interval, parse_number, parse_value
from finequery.types import INTEGER_RANGE, TIMESTAMP, TIMESTAMPTZ, Interval

COLUMNS = (
    "ti TINYINT, si SMALLINT, i INTEGER, b BIGINT, h HUGEINT, ut UTINYINT, us USMALLINT, ui UINTEGER, ub UBIGINT,"
    " f FLOAT, d DOUBLE, dc DECIMAL(15,2), d4 DECIMAL(4,1), d38 DECIMAL(38,10), dt DATE, ts TIMESTAMP, iv INTERVAL,"
    " s VARCHAR, bo BOOLEAN"
)
LINES = [e for e in (DATA / "binder" / "expressions.sql").read_text().splitlines() if e and not e.startswith("--")]
#: What DuckDB 1 gives another type, or does not know.
SINCE_2 = ("-2147483648", "interval 1.5 milliseconds")


@pytest.fixture(scope="module")
def typed() -> tuple[Any, Fake]:
    return make({"t": COLUMNS})


def outcome(function: Any, *args: Any) -> str:
    """The type of the first column, or that it is refused."""
    try:
        return str(function(*args)[0][1])
    except Exception as error:  # whatever DuckDB raises; FineQuery only its own errors
        assert isinstance(error, Error) or type(error).__module__.startswith(("duckdb", "_duckdb")), repr(error)
        return "refused"


@pytest.mark.parametrize("expression", LINES)
def test_type(expression: str, typed: tuple[Any, Fake]) -> None:
    if older_duckdb.OLDER and expression in SINCE_2:
        pytest.skip("DuckDB 1 differs")
    con, resolver = typed
    sql = f"select {expression} from t"
    assert outcome(lambda: shown(bound(sql, resolver))) == outcome(described, con, sql)


def test_types_of_pairs() -> None:
    """Operators over random pairs of numeric types, decimals above all."""
    generator = random.Random(7)
    names = [*INTEGER_RANGE, "FLOAT", "DOUBLE"]

    def any_type() -> str:
        if generator.random() < 0.6:
            precision = generator.randint(1, 38)
            return f"DECIMAL({precision},{generator.randint(0, precision)})"
        return generator.choice(names)

    pairs = [(any_type(), any_type()) for _ in range(60)]
    con, resolver = make({f"t{n}": f"a {a}, b {b}" for n, (a, b) in enumerate(pairs)})
    forms = ["a + b", "a - b", "a * b", "a / b", "a // b", "a % b", "case when true then a else b end"]
    for n, form in itertools.product(range(len(pairs)), forms):
        sql = f"select {form} from t{n}"
        mine, theirs = outcome(lambda q=sql: shown(bound(q, resolver))), outcome(described, con, sql)
        if older_duckdb.OLDER and mine.startswith("DECIMAL(19,") and theirs.startswith("DECIMAL(18,"):
            continue  # it kept sums of such decimals in 64 bits
        assert mine == theirs, (sql, pairs[n])


def test_combine_is_symmetric() -> None:
    from test_binder import sql_type

    found = [sql_type(t) for t in [*INTEGER_RANGE, "FLOAT", "DOUBLE", "DECIMAL(15,2)", "DECIMAL(38,20)", "DATE"]]
    for a, b in itertools.product(found, found):
        assert combine(a, b) == combine(b, a)


def test_registry() -> None:
    """Every entry can be written into a reference, and no name is in both tables."""
    assert not set(FUNCTIONS) & set(AGGREGATES)
    for entry in [*FUNCTIONS.values(), *AGGREGATES.values()]:
        assert entry.description.endswith(".") and entry.signatures and all(" -> " in s for s in entry.signatures), (
            entry
        )


def test_text_of_values() -> None:
    assert days_from_civil(1992, 1, 1) == 8035 and days_from_civil(1, 1, 1) == -719162
    assert parse_interval("1 year 2 months 3 days 04:05:06.5") == Interval(14, 3, 14706500000)
    assert parse_interval("1.26 months") == Interval(1, 7, 69120000000)
    assert parse_interval("foo") is None and parse_interval("") is None
    assert parse_value("2020-01-05T10:00", TIMESTAMP) == 1578218400000000
    assert parse_value("2020-01-05T10:00+01", TIMESTAMPTZ) == 1578214800000000
    assert parse_value("2020-02-30", TIMESTAMP) is None
    assert [parse_number(t, 1) for t in ("1.25", "-1.25", "1e3", ".5", "x", "1_000")] == [
        13,
        -13,
        10000,
        5,
        None,
        10000,
    ]
