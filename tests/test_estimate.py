"""Estimates: near the truth where statistics say so, sane where they are missing, never zero or infinite."""

from __future__ import annotations

import math

import pytest
from plans import RandomPlans
from reference import StatsTable
from schemas import SSB, TPCH, bound

from finequery.planner.estimate import estimate
from finequery.planner.logical import Aggregate, Node, Scan
from finequery.planner.optimizer import optimize
from finequery.planner.rules._tree import walk_all
from finequery.types import INTEGER, VARCHAR
from finequery.workloads import queries


def rows(sql: str, tables: dict[str, StatsTable] = TPCH) -> float:
    return estimate(optimize(bound(sql, tables))).rows


@pytest.mark.parametrize(
    ("sql", "truth", "factor"),
    [
        ("select * from lineitem", 6_001_215, 1.0),
        ("select * from orders where o_orderkey = 7", 1, 1.0),
        ("select * from customer where c_mktsegment = 'BUILDING'", 30_142, 1.2),
        ("select * from orders where o_orderdate < date '1995-03-15'", 727_305, 1.2),
        (
            "select * from lineitem where l_shipdate >= date '1994-01-01' and l_shipdate < date '1995-01-01'",
            909_455,
            1.3,
        ),
        ("select * from lineitem where l_shipmode in ('AIR', 'MAIL')", 1_714_000, 1.2),
        ("select * from lineitem where l_shipmode <> 'AIR'", 5_143_000, 1.2),
        ("select * from part where p_type like '%BRASS'", 39_880, 2.0),
        ("select * from orders, lineitem where o_orderkey = l_orderkey", 6_001_215, 1.1),
        ("select * from partsupp, lineitem where ps_partkey = l_partkey and ps_suppkey = l_suppkey", 6_001_215, 1.1),
        (
            "select * from customer, orders, lineitem where c_custkey = o_custkey and o_orderkey = l_orderkey "
            "and c_mktsegment = 'BUILDING'",
            1_200_000,
            1.3,
        ),
        ("select distinct l_returnflag, l_linestatus from lineitem", 4, 1.6),
        ("select l_orderkey, count(*) from lineitem group by l_orderkey", 1_500_000, 1.1),
        ("select * from orders where o_custkey in (select c_custkey from customer)", 1_500_000, 1.6),
        ("select * from customer left join nation on c_nationkey = n_nationkey", 150_000, 1.0),
        ("select * from lineitem order by l_orderkey limit 10", 10, 1.0),
        ("select count(*) from lineitem", 1, 1.0),
    ],
)
def test_near_the_truth(sql: str, truth: float, factor: float) -> None:
    guess = rows(sql)
    assert truth / factor <= guess * 1.000001 and guess <= truth * factor * 1.000001, guess


def test_columns() -> None:
    plan = optimize(bound("select o_orderdate, o_orderkey from orders where o_orderdate < date '1993-01-01'", TPCH))
    date, key = (estimate(plan).column(c.id) for c in plan.schema)
    assert date.distinct <= 366 and date.high == 8401 - 1 and not date.unique
    assert key.unique and key.distinct == pytest.approx(estimate(plan).rows)


def test_unique_survives_a_lookup_only() -> None:
    plan = optimize(bound("select o_orderkey, c_custkey from orders, customer where o_custkey = c_custkey", TPCH))
    order, customer = (estimate(plan).column(c.id) for c in plan.schema)
    assert order.unique and not customer.unique


def test_group_is_unique() -> None:
    plan = optimize(bound("select l_orderkey, count(*) as n from lineitem group by l_orderkey", TPCH))
    group = next(n for n in walk_all(plan) if isinstance(n, Aggregate))
    assert estimate(group).unique([group.schema[0].id]) and not estimate(group).unique([group.schema[1].id])


def test_without_statistics() -> None:
    blank = StatsTable("blank", [("a", INTEGER), ("s", VARCHAR)], 1000, {})
    for condition in ("a = 1", "a < 5", "s like '%x%'", "a is null", "a in (1, 2, 3)", "s = 'x' or a > 7"):
        assert 1 <= rows(f"select * from blank where {condition}", {"blank": blank}) < 1000
    assert rows("select * from blank b, blank c where b.a = c.a", {"blank": blank}) <= 1e6


def every_node(plan: Node) -> None:
    for node in walk_all(plan):
        e = estimate(node)
        assert 1 <= e.rows < math.inf, node
        for c in node.schema:
            column = e.column(c.id)
            assert 0 <= column.distinct < math.inf
            if isinstance(node, Scan):
                assert column.distinct <= max(e.rows, 1)


@pytest.mark.parametrize("seed", range(60))
def test_always_finite(seed: int) -> None:
    every_node(RandomPlans(seed).query())


@pytest.mark.parametrize("folder", ["tpch", "ssb"])
def test_benchmarks_are_finite(folder: str) -> None:
    for sql in queries(folder).values():
        plan = bound(sql, TPCH if folder == "tpch" else SSB)
        every_node(plan)
        every_node(optimize(plan))
