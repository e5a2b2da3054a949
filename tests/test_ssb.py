"""The 13 SSB queries at a small scale: every value equals DuckDB's. And the generator itself."""

from __future__ import annotations

from pathlib import Path

import pytest
from compare import assert_same
from conftest import Engines

from finequery.workloads import queries, ssb

QUERIES = queries("ssb")


def test_all_queries_are_here() -> None:
    names = [
        f"q{flight}.{number}" for flight, count in ((1, 3), (2, 3), (3, 4), (4, 3)) for number in range(1, count + 1)
    ]
    assert list(QUERIES) == names


@pytest.mark.parametrize("name", QUERIES)
def test_loaded(name: str, ssb_engines: Engines) -> None:
    for _ in range(2):  # the second run comes from the plan cache
        assert_same(*ssb_engines, QUERIES[name])


def test_generator(ssb_dir: Path, tmp_path: Path) -> None:
    """Cardinalities, ranges and the formulas between columns, checked with DuckDB."""
    import duckdb

    duck = duckdb.connect()
    for table in ssb.TABLES:
        duck.execute(f"create view {table} as select * from '{ssb_dir / table}.parquet'")
    sizes = ssb.cardinalities(0.05)
    for table in ("date", "supplier", "customer", "part"):
        assert duck.sql(f"select count(*) from {table}").fetchall() == [(sizes[table],)], table
    per_order = "select lo_orderkey, count(*) as n from lineorder group by all"
    orders, lines, widest = duck.sql(f"select count(*), sum(n), max(n) from ({per_order})").fetchall()[0]
    assert orders == sizes["orders"]
    assert widest == 7 and 3.9 < lines / orders < 4.1
    wrong = (
        duck.sql("""
        select count(*) from lineorder, date, part, supplier, customer
        where lo_orderdate = d_datekey and lo_partkey = p_partkey and lo_suppkey = s_suppkey and lo_custkey = c_custkey
          and lo_quantity between 1 and 50 and lo_discount between 0 and 10 and lo_tax between 0 and 8
          and lo_revenue = lo_extendedprice::bigint * (100 - lo_discount) // 100
          and lo_supplycost = lo_extendedprice // lo_quantity * 6 // 10
          and lo_commitdate > lo_orderdate and lo_custkey % 3 <> 0""").fetchall()[0][0]
        - lines
    )
    assert wrong == 0
    correlated = "count(distinct (lo_custkey, lo_orderdate, lo_ordtotalprice))"
    assert duck.sql(f"select lo_orderkey from lineorder group by all having {correlated} > 1").fetchall() == []
    places = "select max(length(c_city)), count(distinct c_nation), count(distinct c_region) from customer"
    assert duck.sql(places).fetchall() == [(10, 25, 5)]
    again = ssb.generate(0.05, tmp_path)
    both = f"select * from '{again}/part.parquet' except all select * from '{ssb_dir}/part.parquet'"
    assert duck.sql(both).fetchall() == []
