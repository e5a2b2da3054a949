"""Features of sub-tasks: of chosen plans worked out by hand, and those seen in a run against EXPLAIN ANALYZE."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import finequery
from finequery import workloads
from finequery.jetson.simulator import Touch, Work
from finequery.perfmodel.features import CACHES, NAMES, Features, vector
from finequery.perfmodel.work import works
from finequery.planner.features import features
from finequery.planner.subtasks import split


@pytest.fixture
def con() -> Any:
    """t: 1,000 rows of one byte (a: 0 … 199), two bytes (b, and c with NULLs) and text; d: 100 unique keys."""
    with finequery.connect(threads=1) as con:
        con.execute(
            "create table t as select n % 200 as a, n as b, case when n % 10 = 0 then null else n end as c, "
            "'text number ' || n as s, n % 100 as k from range(1000) r(n)"
        )
        con.execute("create table d as select n as k, n * 3 as p from range(100) r(n)")
        yield con


def planned(con: Any, sql: str) -> list[list[Features]]:
    return [[features(s) for s in p.subtasks] for p in split(con.sql(sql).plan.root)]


def seen(con: Any, sql: str) -> list[Any]:
    plan = con.sql(sql).plan
    return con._session.observe(plan, {})


def test_a_filter_and_a_sum(con: Any) -> None:
    """Half of a one-byte column passes; of two-byte values every other one is read, which are all lines."""
    ((scan, filter_, aggregate),) = planned(con, "select sum(b) from t where a < 100")
    assert scan == Features("scan", rows=1000, rows_out=1000, columns=2)
    assert filter_ == Features(
        "filter", "ranges", 1000, 500, bytes_in=1, selectivity=0.5, steps=1, columns=1
    )  # the selection stays in the tile
    assert aggregate.rows == 500 and aggregate.bytes_in == pytest.approx(4.0, rel=1e-6)
    assert (aggregate.algorithm, aggregate.groups, aggregate.steps) == ("scalar", 1, 1)
    assert aggregate.random_width == 0


def test_what_was_read_before_is_near(con: Any) -> None:
    ((_, filter_, project, aggregate),) = planned(con, "select sum(a * 2 + b) from t where a < 100")
    assert filter_.bytes_in == 1 and filter_.steps == 1
    assert project.bytes_in == pytest.approx(4.0, rel=1e-6)  # b alone: a lies in the caches
    assert project.steps == 2
    assert aggregate.bytes_in == 0 and aggregate.columns == 1


def test_a_join(con: Any) -> None:
    """The build fills a table by key, which is emptied first; a probe reads 4 bytes of it for each row."""
    (scan, build), (_, probe, aggregate) = planned(con, "select sum(d.p) from t join d on t.k = d.k")
    assert scan.kind == "scan" and (build.kind, build.algorithm, build.rows, build.distinct) == (
        "build",
        "rows",
        100,
        100,
    )
    assert build.random_width == 4 and build.table_bytes == 4 * 100
    assert build.bytes_in == 1 and build.bytes_out == pytest.approx(4.0)  # k; p is handed on; the empty table
    assert (probe.kind, probe.algorithm, probe.rows, probe.match_rate) == ("probe", "rows", 1000, 1)
    assert probe.bytes_in == 1 and probe.random_width == 4 and probe.table_bytes == 4 * 100
    assert aggregate.random_width == 2 and aggregate.table_bytes == 2 * 100  # p of d, by row number


def test_kinds_of_filters_and_groups(con: Any) -> None:
    def second(sql: str) -> Features:
        return planned(con, sql)[0][1]

    assert second("select count(*) from t where a < 100 and a > 3 and b = 7").steps == 2  # a's range is one test
    assert second("select count(*) from t where s like '%1%'").algorithm == "ranges"  # by code
    con.execute("create table long as select 'a rather long text of its own ' || n as s from range(70000) r(n)")
    text = second("select count(*) from long where s like '%1%'")
    assert (text.algorithm, text.strings) == ("text", 1) and text.steps == text.bytes_in > 30
    assert second("select count(*) from t where a * a < 50").algorithm == "computed"
    with_nulls = second("select count(*) from t where c < 500")
    assert (with_nulls.nulls, with_nulls.steps, with_nulls.algorithm) == (pytest.approx(0.1), 5, "ranges")
    con.execute("create table g as select n % 3 as few, n % 900 as many, n as v from range(3000) r(n)")
    assert planned(con, "select few, sum(v) from g group by few")[0][-1].algorithm == "few"
    assert planned(con, "select many, sum(v) from g group by many")[0][-1].algorithm == "dense"


def test_columns_that_are_handed_on_are_not_written(con: Any) -> None:
    ((_, all_rows),) = planned(con, "select a, b from t")
    assert all_rows.bytes_in == all_rows.bytes_out == 0
    ((_, _, some),) = planned(con, "select a, b from t where a < 100")
    assert some.bytes_out == 3


@pytest.mark.parametrize("name", ["q01", "q03", "q05", "q13", "q16", "q18", "q21"])
def test_rows_seen_are_those_of_explain_analyze(tpch_engines: Any, name: str) -> None:
    con, sql = tpch_engines.con, (workloads.QUERIES / "tpch" / f"{name}.sql").read_text()
    found = [f for p in seen(con, sql) for f in p.features]
    con.execute("set threads = 2")
    text = con.sql("explain analyze " + sql).fetchall()[0][1]
    shown = re.findall(r"^[├└]─ (\S+) .*?~?[\d,]+ +([\d,]+)$", text, re.MULTILINE)
    rows = sorted((kind, int(n.replace(",", ""))) for kind, n in shown if kind not in ("project", "pairs", "scan"))
    ours = sorted(
        (f.kind, int(f.rows if f.kind == "build" else f.rows_out))
        for f in found
        if f.kind not in ("project", "pairs", "scan")
    )
    assert ours == rows


def test_probes_are_seen_in_the_order_in_which_they_ran() -> None:
    """The probe that keeps fewer rows goes first, whatever the plan says; the other then sees these rows alone."""
    with finequery.connect(threads=1) as con:
        con.execute("create table f as select n % 1000 as x, n % 500 as y, n as v from range(50000) r(n)")
        con.execute("create table wide as select n as k, n % 7 as w from range(900) r(n)")
        con.execute("create table thin as select n * 10 as k, n % 7 as w from range(5) r(n)")
        sql = "select sum(f.v + wide.w + thin.w) from f join wide on f.x = wide.k join thin on f.y = thin.k"
        probes = [f for p in seen(con, sql) for f in p.features if f.kind == "probe"]
        assert [int(p.rows) for p in probes] == [50000, int(probes[0].rows_out)]
        assert probes[0].rows_out == 500 and probes[1].rows_out <= 500


def test_nothing_runs_where_no_row_can_come_through(con: Any) -> None:
    """The build is empty, so the program that probes it has no instruction."""
    con.execute("create table none as select k from d where k > 1000")
    (*_, last) = seen(con, "select sum(t.b) from t join none on t.k = none.k")
    assert [f.rows for f in last.features if f.kind in ("probe", "aggregate")] == [0, 0]


def test_vector() -> None:
    f = Features("probe", "hash", rows=1023, rows_out=511, table_bytes=64 << 20, match_rate=0.5, columns=2)
    x = dict(zip(NAMES, vector(f, 4, 2.5, 0.25)))
    assert len(x) == len(NAMES) == len(vector(f, 1, 1.0, 0.0))
    assert (x["log_rows"], x["log_rows_out"]) == (10.0, 9.0)
    assert x["over_last"] == pytest.approx(np.log2((64 << 20) / CACHES[-1]))
    assert (x["threads"], x["clock_ghz"], x["load"]) == (4.0, 2.5, 0.25)
    assert np.isfinite(vector(Features("scan"), 1, 0.0, 0.0)).all()
    assert dict(zip(NAMES, vector(f, 1, 1.0, 0.0, [1 << 20])))["over_first"] == 6.0  # one level stands for all
    streaming = replace(f, table_bytes=0.0, rows=1e6, bytes_in=3.0, bytes_out=1.0)
    assert streaming.working_set == 4096 * 4


def test_work() -> None:
    f = Features(
        "build", "hash", 100, 100, bytes_in=4, bytes_out=2, random_width=64, table_bytes=8192, steps=1, columns=2
    )
    assert works(f, "device") == Work(
        "build:hash",
        100,
        1,
        (
            Touch(400, 2.0, False, False, 400, "device"),
            Touch(200, 2.0, False, True, 200, "device"),
            Touch(6400, 64, True, True, 8192, "device"),
        ),
        100,
    )
    assert works(Features("scan", rows=5, columns=3), "mapped") == Work("scan", 5, 0.0)
