"""EXPLAIN and EXPLAIN ANALYZE."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from finequery import workloads
from finequery.planner.explain import WIDTH

PATHS = sorted((workloads.QUERIES / "tpch").glob("q*.sql")) + sorted((workloads.QUERIES / "ssb").glob("q*.sql"))


def rows_of(text: str, operator: str) -> list[int]:
    """The real rows in the lines of an operator."""
    lines = [line for line in text.splitlines() if re.match(rf"[├└]─ {operator} ", line)]
    return [int(line.split()[-1].replace(",", "")) for line in lines]


def test_sql_and_python_agree(tpch_engines: Any) -> None:
    con, sql = tpch_engines.con, "select count(*) from nation where n_regionkey < 2"
    text = con.sql(sql).explain()
    assert con.sql(f"explain {sql}").fetchall() == [("physical_plan", text)]
    assert "Pipeline 1 [cpu] result" in text and "n_regionkey < 2" in text and "rows" not in text.split("\n")[0]
    key, analyzed = con.sql(f"explain analyze {sql}").fetchall()[0]
    assert key == "analyzed_plan" and "program compiled" in analyzed and "Planning" in analyzed


def test_real_rows(tpch_engines: Any) -> None:
    con = tpch_engines.con
    both = "from customer join nation on c_nationkey = n_nationkey where c_mktsegment = 'BUILDING' and n_regionkey = 1"
    text = con.sql(f"select n_name, count(*) {both} group by n_name order by n_name").explain(analyze=True)
    duck = tpch_engines.duck
    passed = duck.sql("select count(*) from customer where c_mktsegment = 'BUILDING'").fetchall()[0][0]
    joined = duck.sql(f"select count(*) {both}").fetchall()[0][0]
    assert passed in rows_of(text, "filter") and 5 in rows_of(text, "filter")
    assert rows_of(text, "probe") == [joined]
    assert rows_of(text, "build") == [5] and rows_of(text, "aggregate") == [5] and rows_of(text, "sort") == [5]
    assert "5 rows in" in text


def test_programs_are_kept(tpch_engines: Any) -> None:
    relation = tpch_engines.con.sql("select sum(l_quantity) from lineitem where l_discount between 0.02 and 0.03")
    assert "program compiled in" in relation.explain(analyze=True)
    again = relation.explain(analyze=True)
    assert "program kept from before" in again and "GB/s" in again
    read = re.search(r"([\d.]+) (KB|MB) read", again)
    assert read is not None
    scanned = re.search(r"scan +lineitem: (.+?)  ", again)
    assert scanned is not None and set(scanned[1].replace(",", "").split()) == {"l_quantity", "l_discount", "u8"}
    rows = len(tpch_engines.con.sql("select l_quantity from lineitem"))
    assert float(read[1]) == pytest.approx(2 * rows / 1000, rel=0.05)  # a byte for each of two columns


def test_scalar_subqueries_count_once(tpch_engines: Any) -> None:
    text = tpch_engines.con.sql(
        "select count(*) from lineitem where l_quantity > (select avg(l_quantity) from lineitem)"
    ).explain(analyze=True)
    assert "Pipeline 1 [cpu] scalar subquery" in text and "(pipeline 1)" in text
    found = re.search(r"in ([\d.]+) ms: pipelines ([\d.]+) ms", text)
    assert found is not None and float(found[2]) <= float(found[1]) + 0.05


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_every_query(tpch_engines: Any, ssb_engines: Any, path: Path) -> None:
    engines = tpch_engines if path.parent.name == "tpch" else ssb_engines
    relation = engines.con.sql(path.read_text())
    for analyze in (False, True):
        lines = relation.explain(analyze=analyze).splitlines()
        assert max(map(len, lines)) <= WIDTH
        assert not any(word == "column" for line in lines for word in line.split())  # a name was not found


@pytest.mark.parametrize(
    "sql",
    [
        "select 1",
        "select * from (values (1, 'a'), (2, 'b')) t(a, b) where a > 1",
        "with t as (select n_regionkey r, count(*) n from nation group by 1) select * from t a join t b on a.n = b.n",
        "select * from nation full join region on n_regionkey = r_regionkey and n_name < r_name",
        "select n_name from nation union select r_name from region order by 1 limit 3",
        "select rank() over (order by n_name), sum(n_nationkey) over (partition by n_regionkey) from nation",
        "select count(*) from nation, region",
        "select * from nation limit 0",
        "select upper(n_comment) x, count(*) from nation where reverse(n_name) > 'A' group by x",
    ],
)
def test_shapes(tpch_engines: Any, sql: str) -> None:
    relation = tpch_engines.con.sql(sql)
    assert "Pipeline 1" in relation.explain()
    assert max(map(len, relation.explain(analyze=True).splitlines())) <= WIDTH


def test_one_device_runs_nothing_along(tpch_engines: Any) -> None:
    """EXPLAIN prices pipelines for the CPU, which runs one after another."""
    text = tpch_engines.con.sql(workloads.queries("tpch")["q02"]).explain()
    assert text.count("[cpu]") > 2 and "along" not in text


def test_after_the_rows() -> None:
    """A result lets go of the variables that it was made from, but can still be explained."""
    import pyarrow as pa

    import finequery

    readings = pa.table({"machine": ["press", "saw"], "celsius": [71.5, 41.75]})  # noqa: F841
    with finequery.connect() as con:
        hot = con.sql("select machine from readings where celsius > 50")
        assert hot.fetchall() == [("press",)]
        con.execute("create table another as select 1 as a")
        assert "readings" in hot.explain() and "rows" in hot.explain(analyze=True)
