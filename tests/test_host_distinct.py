"""Functions of the host over the distinct rows of their arguments: DuckDB's answers, and few calls."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import finequery
from finequery.operators import host_distinct, scalar_calls
from finequery.operators.host_dates import grain

duckdb = pytest.importorskip("duckdb")

ROWS = 12_000

#: Moments before and after 1970, of years with fewer and more than four digits, with and without fractions; NULLs.
MADE = f"""
select i,
  case when i % 11 <> 3 then timestamp '1969-12-30 21:00:59.999999' + to_seconds((i % 400) * 977) end as ts,
  timestamp '0044-03-15 11:59:59.5' + to_days((i % 60 * 18000)::integer) as far,
  timestamp '1950-01-01' + to_microseconds(i * 77777777) as us,
  case when i % 7 <> 0 then date '1968-02-20' + (i % 900)::integer end as d,
  case when i % 5 <> 0 then (i % 3 - 1) * 0.5::double else -0.0::double end as f,
  case when i % 4 <> 0 then i % 9 end as k,
  case when i % 6 <> 5 then 'w' || (i % 13) end as s
from range({ROWS}) t(i)
"""


@pytest.fixture(scope="module")
def both() -> Iterator[tuple[finequery.Connection, Any]]:
    duck = duckdb.connect()
    duck.execute(f"create table t as {MADE}")
    con = finequery.connect(threads=2)
    con.register("made", duck.sql("select * from t order by i").to_arrow_table())
    con.execute("create table t as select * from made")
    yield con, duck
    con.close()


@pytest.mark.parametrize(
    "expression",
    [
        *(f"strftime({c}, '{form}')" for c in ("ts", "far", "us") for form in ("%Y-%m-%d", "%H:%M", "%p %j", "x%%y")),
        *(
            f"strftime(us, '{form}')"
            for form in ("%S", "%g", "%H:%M:%S.%f", "%I%p", "%y %U %W %V %G %u", "%%", "%B %-d")
        ),
        "strftime(d, '%Y-%m-%d %H')",
        "strptime(strftime(ts, '%d/%m/%Y %H'), '%d/%m/%Y %H')",
        "try_strptime(s, '%Y')",
        "dayname(ts) || monthname(d)",
        "dayname(us)",
        "ts::varchar",
        "date_trunc('hour', us)::varchar",
        "f::varchar",
        "age(ts, d::timestamp)::varchar",
        "last_day(d)",
        "make_date(2000 + k, k + 1, 3)",
        "concat_ws('-', s, k::varchar)",
    ],
)
@pytest.mark.parametrize("where", ["true", "i < 0", "ts is null"])
def test_answers(both: tuple[finequery.Connection, Any], expression: str, where: str) -> None:
    con, duck = both
    query = f"select i, {expression} as x from t where {where} order by i"
    assert con.sql(query).fetchall() == duck.execute(query).fetchall()


@pytest.mark.parametrize(
    ("expression", "most"),
    [
        ("strftime(us, '%H')", 24),
        ("strftime(us, '%Y')", ROWS * 77777777 // 86_400_000_000 + 2),
        ("strftime(ts, '%Y-%m-%d %H:%M:%S')", 401),
        ("dayname(us)", ROWS * 77777777 // 86_400_000_000 + 2),
        ("age(ts, far)", 1200 + 60),
    ],
)
def test_calls(
    both: tuple[finequery.Connection, Any], expression: str, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, calls = expression.partition("(")[0], []
    make = scalar_calls._MAKERS[name]

    def counting(*of: Any) -> Any:
        function = make(*of)

        def one(*args: Any) -> Any:
            calls.append(args)
            return function(*args)

        return one

    monkeypatch.setitem(scalar_calls._MAKERS, name, counting)
    assert len(both[0].sql(f"select {expression} from t").fetchall()) == ROWS
    assert 0 < len(calls) <= most  # NULLs are not asked for


def test_rows_that_mostly_differ_are_not_taken_apart() -> None:
    import pyarrow as pa

    numbers = np.arange(ROWS, dtype=np.int64)
    seen: list[int] = []

    def function(args: list[Any], rows: int) -> Any:
        seen.append(rows)
        return args[0]

    for values, rows in ((numbers, ROWS), (numbers % 50, 50), (numbers[:10] % 2, 10)):
        array = pa.Array.from_buffers(pa.int64(), len(values), [None, pa.py_buffer(values)])
        assert host_distinct.over_distinct(function, [array, 7], len(values)).equals(array)
        assert seen.pop() == rows


def test_first_failure_is_the_first_row() -> None:
    con = finequery.connect()
    con.register("words", {"w": np.array(["2001"] * 3000 + ["never", "nothing"], dtype=object)})
    with pytest.raises(finequery.Error, match="'never' does not have the format '%Y'"):
        con.sql("select count(distinct strptime(w, '%Y')) from words").fetchall()


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        ("%Y %m", (86_400_000_000, True)),
        ("%H:%M", (60_000_000, False)),
        ("%c", (1_000_000, True)),
        ("%X.%f", (1, False)),
        ("%% %Z", (86_400_000_000, False)),
    ],
)
def test_grain(form: str, expected: tuple[int, bool]) -> None:
    assert grain("strftime", [form]) == expected
