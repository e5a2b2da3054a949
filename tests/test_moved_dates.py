"""Dates and timestamps plus and minus a number of units, computed in the pipeline: DuckDB's answers, and its errors."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, time
from typing import Any

import numpy as np
import pytest
from compare import assert_same

import finequery
from finequery.errors import OutOfRangeError
from finequery.operators import scalar_calls

duckdb = pytest.importorskip("duckdb")

ROWS = 40
#: Moments before and after 1970 and at ends of months; NULLs among them and among the numbers.
MADE = f"""
select i, case when i % 5 <> 3 then timestamp '1970-01-31 23:59:59.5' + to_hours(i * 1000 - 13000) end as ts,
  case when i % 7 <> 2 then date '1968-02-29' + (i * 13 - 50)::integer end as d,
  case when i % 4 <> 1 then i * 3 - 40 end as n, (i - 20)::smallint as s, i * 1000000000000 as big
from range({ROWS}) r(i)
"""
UNITS = "decade year quarter month week day hour minute second millisecond microsecond".split()


@pytest.fixture(scope="module")
def both() -> Iterator[tuple[finequery.Connection, Any]]:
    con, duck = finequery.connect(threads=2), duckdb.connect()
    duck.execute(f"create table t as {MADE}")
    con.register("made", duck.sql("select * from t order by i").to_arrow_table())
    con.execute("create table t as select * from made")
    yield con, duck
    con.close()


@pytest.fixture
def no_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """Adding row by row is an error."""

    def refused(*_: Any) -> Any:
        raise AssertionError("row by row")

    for name in ("add_interval", "sub_interval"):
        monkeypatch.setitem(scalar_calls._MAKERS, name, refused)


@pytest.mark.parametrize("column", ["ts", "d"])
@pytest.mark.parametrize("unit", UNITS)
def test_units(both: tuple[Any, Any], no_host: None, unit: str, column: str) -> None:
    assert_same(*both, f"select {column} + to_{unit}s(n::integer), {column} - to_{unit}s(s::integer) from t order by i")


@pytest.mark.parametrize(
    "query",
    [
        "select ts + n * interval '1 day', d - interval '3 month' * n from t order by i",
        "select ts + interval (s) minute - to_days(n::integer) from t order by i",
        "select count(*) from t where ts + to_days(n::integer) > timestamp '1970-03-01'",
        "select date_trunc('month', d + to_months(s::integer)), count(*) from t group by 1 order by 1",
        "select ts + to_days(n::integer) as x from t where n is not null order by x, i limit 5",
        "select ts - to_days((big // 100000000)::integer) from t order by i",
        "select date_add(d, to_weeks(s::integer)) from t order by i",
    ],
)
def test_answers(both: tuple[Any, Any], no_host: None, query: str) -> None:
    assert_same(*both, query)


def test_two_parts_at_once(both: tuple[Any, Any]) -> None:
    """The day of a month that a date comes to depends on both: row by row."""
    assert_same(*both, "select d + n * interval '1 month 2 days' from t order by i")


@pytest.mark.parametrize(
    "expression",
    [
        "ts + to_days(big)",
        "d + to_months(big)",
        "ts + interval '2000000000 months'",
        "ts - interval '2000000000 months'",
        "d + interval '2000000000 months'",
        "timestamp '290000-01-01' + to_days(n * 1000000)",
        "ts + to_hours(big)",
    ],
)
def test_what_is_out_of_range(both: tuple[Any, Any], expression: str) -> None:
    for one, error in zip(both, (OutOfRangeError, duckdb.Error)):
        with pytest.raises(error):
            one.sql(f"select {expression} from t").fetchall()


@pytest.mark.parametrize("device", ["cpu", "gpu"])
def test_devices(device: str, no_host: None) -> None:
    """The instructions are those of either device."""
    days = np.arange(-5, 6)
    with finequery.connect(board="agx-xavier") as con:
        con.register("t", {"n": days})
        con.execute(f"set device = '{device}'")
        found = con.sql("select timestamp '2020-01-31 01:00:00' + to_months(n) - to_days(n) from t").fetchall()
    lasts = [np.datetime64(np.datetime64("2020-01") + int(n) + 1, "D") - 1 - int(n) for n in days]  # ends of months
    assert found == [(datetime.combine(last.item(), time(1)),) for last in lasts]
