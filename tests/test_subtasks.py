"""The split into pipelines and sub-tasks, on plans that are not run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from finequery import workloads
from finequery.planner.subtasks import (
    BREAKERS,
    RANDOM_READ,
    RANDOM_WRITE,
    STREAMED_READ,
    STREAMED_WRITE,
    PipelineInfo,
    split,
)


def pipelines(con: Any, sql: str) -> list[PipelineInfo]:
    found = split(con.sql(sql).plan.root)
    check(found)
    return found


def check(found: list[PipelineInfo]) -> None:
    """What holds for every split."""
    assert [p.number for p in found] == list(range(1, len(found) + 1))
    assert found[-1].purpose == "result"
    for p in found:
        assert p.breaker.kind in BREAKERS and p.source.kind in ("scan", "values", "read", "union")
        assert not any(k in BREAKERS for k in p.kinds[:-1])
        assert all(number < p.number for number in p.after)
        assert {n for s in p.subtasks for n in s.reads} == set(p.after)
        for before, s in zip(p.subtasks, p.subtasks[1:]):
            assert s.rows_in == before.rows_out
        for s in p.subtasks:
            assert s.device == "cpu" and s.rows_out >= 0
            assert all(o.rows >= 0 and o.width > 0 for o in s.operands)


def operands(subtask: Any, access: str) -> list[str]:
    return [o.name for o in subtask.operands if o.access == access]


def test_one_pass_with_groups(tpch_engines: Any) -> None:
    """TPC-H Q1: one pipeline into an array of groups, then a sort of its four rows."""
    first, second = pipelines(tpch_engines.con, (workloads.QUERIES / "tpch" / "q01.sql").read_text())
    assert first.kinds == ["scan", "filter", "project", "aggregate"] and first.after == ()
    assert second.kinds[0] == "read" and second.breaker.kind == "sort" and second.after == (1,)
    scan, filter_, project, aggregate = first.subtasks
    assert {o.access for o in scan.operands} == {STREAMED_READ}
    widths = {a.name: (a.encoding, a.width) for a in scan.inputs}
    assert widths["l_returnflag"] == ("dict u8", 1) and widths["l_shipdate"] == ("u16", 2)
    assert scan.access(STREAMED_READ) == scan.rows_out * sum(a.width for a in scan.inputs)
    assert filter_.selectivity is not None and 0.9 < filter_.selectivity <= 1
    assert operands(filter_, STREAMED_READ) == ["l_shipdate"] and operands(filter_, STREAMED_WRITE) == ["selection"]
    assert project.rows_in == project.rows_out
    assert aggregate.choice is not None and aggregate.choice.name == "dense"
    assert aggregate.groups is not None and 3 <= aggregate.groups <= 10
    assert operands(aggregate, RANDOM_WRITE) == ["accumulators"] and not operands(aggregate, RANDOM_READ)


def test_chain_of_joins(tpch_engines: Any) -> None:
    """TPC-H Q3: customers are built and probed by orders, these by lineitem; the first ten of the groups."""
    found = pipelines(tpch_engines.con, (workloads.QUERIES / "tpch" / "q03.sql").read_text())
    assert [p.breaker.kind for p in found] == ["build", "build", "aggregate", "top-k"]
    assert [p.after for p in found] == [(), (1,), (2,), (3,)]
    customers, orders, lines, last = found
    assert customers.kinds == ["scan", "filter", "build"]
    assert orders.kinds == ["scan", "filter", "probe", "build"]
    assert lines.kinds == ["scan", "filter", "probe", "project", "aggregate"]
    build = customers.breaker
    assert "c_custkey" in operands(build, STREAMED_READ) and build.choice is not None
    assert operands(build, RANDOM_WRITE) == [build.choice.name] and build.table_bytes
    probe = orders.subtasks[2]
    assert operands(probe, STREAMED_READ) == ["o_custkey"] and operands(probe, RANDOM_READ) == ["rows of pipeline 1"]
    assert probe.match_rate is not None and 0.1 < probe.match_rate < 0.4
    assert set(operands(lines.breaker, RANDOM_READ)) == {"o_orderdate", "o_shippriority"}  # fetched from the build side
    assert last.breaker.rows_out == 10


def test_groups_of_groups(tpch_engines: Any) -> None:
    """TPC-H Q18: an aggregation is the build side of a semi-join."""
    found = pipelines(tpch_engines.con, (workloads.QUERIES / "tpch" / "q18.sql").read_text())
    first, second = found[0], found[1]
    assert first.kinds == ["scan", "aggregate"] and first.breaker.groups is not None
    assert second.kinds == ["read", "filter", "build"] and second.after == (1,)
    probes = [s for p in found for s in p.subtasks if s.kind == "probe"]
    assert sorted(s.item.kind for s in probes) == ["inner", "inner", "semi"]
    semi = next(s for s in probes if s.item.kind == "semi")
    assert semi.choice is not None and semi.choice.name in ("map", "bits", "hash")
    assert found[-1].breaker.kind == "top-k"


def test_star(ssb_engines: Any) -> None:
    """SSB Q2.1: three dimensions, one pass over the facts."""
    found = pipelines(ssb_engines.con, (workloads.QUERIES / "ssb" / "q2.1.sql").read_text())
    assert [p.breaker.kind for p in found] == ["build", "build", "build", "aggregate", "sort"]
    assert all(p.after == () for p in found[:3]) and found[3].after == (1, 2, 3)
    facts = found[3]
    assert facts.kinds == ["scan", "probe", "probe", "probe", "aggregate"]
    assert all(operands(s, RANDOM_READ) and operands(s, STREAMED_READ) for s in facts.subtasks[1:4])
    assert facts.breaker.choice is not None and facts.breaker.choice.name == "dense"


def test_set_operations_windows_and_scalars(tpch_engines: Any) -> None:
    con = tpch_engines.con
    found = pipelines(con, "select n_name from nation union all select r_name from region")
    assert [p.kinds[0] for p in found] == ["scan", "scan", "union"] and found[-1].after == (1, 2)
    found = pipelines(con, "select row_number() over (partition by n_regionkey order by n_name) from nation")
    window = next(s for p in found for s in p.subtasks if s.kind == "window")
    assert operands(window, RANDOM_WRITE) and window.rows_in == window.rows_out == 25
    found = pipelines(con, "select n_name from nation where n_regionkey = (select max(r_regionkey) from region)")
    assert found[0].purpose == "scalar subquery" and found[1].after == (1,)
    found = pipelines(con, "select * from nation full join region on n_regionkey = r_regionkey")
    assert found[-1].breaker.kind == "pairs" and found[-1].kinds[-2] == "probe"
    found = pipelines(con, "select n_name from nation limit 3")
    assert found[-1].breaker.kind == "limit" and found[-1].breaker.rows_out == 3


@pytest.mark.parametrize("path", sorted((workloads.QUERIES / "tpch").glob("q*.sql")), ids=lambda path: path.stem)
def test_every_query(tpch_engines: Any, path: Path) -> None:
    pipelines(tpch_engines.con, path.read_text())
