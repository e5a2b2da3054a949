"""The optimizer's rules: the same rows after each one, and the plan each is there for.

Golden plans are in golden/rules; ``UPDATE_GOLDEN=1 pytest tests/test_rules.py`` writes them anew.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from plans import Builder, RandomPlans, all_of, call, eq, isin, lit, no, scalar
from reference import RowTable, TooMuchWork, run
from schemas import SSB, TPCH, bound, key, number, table, text

from finequery.errors import DataError, InternalError, NotSupportedError
from finequery.operators.expr import Aggregate as AggregateCall
from finequery.operators.expr import Column, Literal
from finequery.planner.check import check
from finequery.planner.display import format_plan
from finequery.planner.logical import Filter, Join, Materialize, Node, Project, Scan, Union
from finequery.planner.optimizer import RULES, WHOLE, optimize
from finequery.planner.rules._tree import start_ids, walk_all
from finequery.types import BIGINT, BOOLEAN, DOUBLE, INTEGER, decimal
from finequery.workloads import queries

GOLDEN = Path(__file__).parent / "golden" / "rules"
SMALL = {
    t.name: t
    for t in [
        table("t", 1000, k=key(1000), a=number(0, 9), b=number(0, 99), s=text(20)),
        table("u", 100_000, k=key(100_000), t_k=number(1, 1000), x=number(0, 9), y=number(0, 99)),
        table("v", 50, k=key(50), name=text(50)),
    ]
}

#: rule -> query; the plan is shown as it comes to the rule and as it leaves it.
CASES = {
    "fold_constants": "select k from t where b < 10 + 5 and a * 2 > 3 + 4",
    "simplify": "select k from t where not (a <> 1 or b > 2) and ((a = 1 and b = 2) or (a = 1 and (b = 3 or b = 4)))",
    "unwrap_casts": "select k from t where a < 2.5 and cast(b as double) >= 7.5",
    "decorrelate_scalar": "select k from t where a < (select avg(x) from u where u.t_k = t.k)",
    "decorrelate_count": "select k, (select count(*) from u where u.t_k = t.k) as n from t",
    "decorrelate_exists": "select k from t where exists (select * from u where u.t_k = t.k and u.x <> t.a)",
    "decorrelate_not_in": "select k from t where a not in (select x from u)",
    "decorrelate_or": "select k from t where a = 1 or k in (select t_k from u)",
    "decorrelate_uncorrelated": "select k from t where a > (select avg(x) from u) and exists (select 1 from v)",
    "decorrelate_dependent": "select k from t where a = (select max(x) from u where u.t_k < t.b)",
    "decorrelate_limit": "select k, (select x from u where u.t_k = t.k order by y limit 1) from t",
    "inline_materialize": "with c as (select a, count(*) as n from t group by a) select * from c where n > 2",
    "distinct_aggregates": "select a, count(distinct b), sum(k) from t group by a",
    "distinct_aggregates_two": "select a, count(distinct b), count(distinct k), avg(b) from t group by a",
    "merge_projects_constants": "select 1 as a, 'x' as b",
    "merge_projects": "select c + 1 from (select a * b as c from (select a, b from t where a > 1))",
    "narrow_scans": "select t.a from t where k in (select t_k from u union all select b from t as s where s.b > 1)",
    "outer_to_inner": "select t.k from t left join u on t.k = u.t_k where u.x > 3",
    "push_filters": "select t.k from t, u where t.k = u.t_k and t.k = 5 "
    "and ((t.a = 1 and u.x = 2) or (t.a = 3 and u.x = 4))",
    "push_filters_below": "select * from (select a, count(*) as n from t group by a union all select x, y from u) as q "
    "where a = 3",
    "extract_keys": "select t.k from t full join u on t.k = u.t_k and t.a < u.x",
    "aggregate_dependency_computed": "select a + 1 as c, a, upper(s), b, s, count(*) from t "
    "group by c, a, upper(s), b, s",
    "aggregate_dependency": "select t.k, a, s, count(*) from t, u where t.k = t_k group by t.k, a, s",
    "semi_bounds": "select k from u as o where exists (select * from u where t_k = o.t_k and x <> o.x)",
    "reduce_aggregates": "select t.k from t, u where t.k = u.t_k and t.b = 7 "
    "and y < (select avg(y) from u as w where w.t_k = t.k)",
    "reduce_by_left": "select o.k from u as o, v where o.x = v.k and v.name = 'a' "
    "and exists (select * from u where k = o.k and y <> o.y)",
    "share_subplans": "select p.a, q.n from (select a, count(*) as n from t where b < 5 group by a) as p, "
    "(select a, count(*) as n from t where b < 5 group by a) as q where p.n > q.n",
    "join_order": "select v.name, t.s from v, t, u where t.k = u.t_k and v.k = u.x and t.b = 1",
    "limit_into_sort": "select a + 1 from t order by a limit 10",
    "prune_columns": "select n from (select a, count(*) as n, sum(b) as m from t group by a)",
}


def ordered(rows: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    return sorted(rows, key=lambda row: tuple((v is None, 0 if v is None else v) for v in row))


def steps(plan: Node) -> list[tuple[str, Callable[[Node], Node]]]:
    """``optimize`` one rule at a time: with shared subplans, only the rules for whole plans can run alone."""
    shared = any(isinstance(n, Materialize) for n in walk_all(plan))
    return [(rule.__name__, rule) for rule in (WHOLE if shared else RULES)]


@pytest.mark.parametrize("case", CASES)
def test_golden(case: str) -> None:
    """The plan before and after the rule that the case is named for."""
    plan = bound(CASES[case], SMALL)
    start_ids(plan)
    target = next(rule for rule in RULES if case.startswith(rule.__name__))
    shown = "never reached"
    for rule in RULES:
        before = format_plan(plan)
        plan = rule(plan)
        if rule is target:
            shown = f"{CASES[case]}\n\n{before}\n\n==>\n\n{format_plan(plan)}\n"
            break
    path = GOLDEN / f"{case}.txt"
    if os.environ.get("UPDATE_GOLDEN"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(shown)
    assert shown == path.read_text()


def test_every_rule_has_a_golden_plan() -> None:
    assert {rule.__name__ for rule in RULES} <= {
        next(r.__name__ for r in RULES if c.startswith(r.__name__)) for c in CASES
    }


@pytest.mark.parametrize("seed", range(0, 240, 12))
def test_random_plans_keep_their_rows(seed: int) -> None:
    """Rows and columns are the same after every rule, and after all of them."""
    for s in range(seed, seed + 12):
        plan = RandomPlans(s).query()
        check(plan)
        try:
            expected = ordered(run(plan, limit=20_000))
        except (DataError, TooMuchWork):
            continue
        columns = [c.id for c in plan.schema]
        try:
            whole = optimize(plan)
            check(whole, subqueries=False)
            assert [c.id for c in whole.schema] == columns
            assert ordered(run(whole)) == expected, f"seed {s}, optimize"
            start_ids(plan)
            new = plan
            for rule in RULES:
                new = rule(new)
                check(new)
                assert [c.id for c in new.schema] == columns
                assert ordered(run(new)) == expected, f"seed {s}, {rule.__name__}"
        except NotSupportedError:
            continue


def test_optimizing_is_deterministic() -> None:
    sql = queries("tpch")["q20"]
    first, second = optimize(bound(sql, TPCH)), optimize(bound(sql, TPCH))
    assert [c.id for c in first.schema] == [c.id for c in second.schema]
    assert format_plan(first) == format_plan(second)


BENCHMARK = [("tpch", n) for n in queries("tpch")] + [("ssb", n) for n in queries("ssb")]


@pytest.mark.parametrize(("folder", "name"), BENCHMARK)
def test_benchmark_plans(folder: str, name: str) -> None:
    """No subquery, no product without a key, no unused column is left; the largest table streams."""
    tables = TPCH if folder == "tpch" else SSB
    plan = bound(queries(folder)[name], tables)
    check(plan)
    start = time.perf_counter()
    new = optimize(plan)
    assert time.perf_counter() - start < 10  # a few milliseconds; minutes, if it tried all of them
    check(new, subqueries=False)
    assert [c.id for c in new.schema] == [c.id for c in plan.schema]
    for node in walk_all(new):
        if isinstance(node, Join):
            assert node.keys, format_plan(node)
    if folder == "ssb":
        assert leftmost(new).table.name == "lineorder"


def leftmost(node: Node) -> Scan:
    while not isinstance(node, Scan):
        node = node.inputs[0]
    return node


@pytest.mark.parametrize("name", ["q03", "q05", "q07", "q08", "q10", "q12", "q14", "q17", "q18", "q19", "q21"])
def test_lineitem_streams(name: str) -> None:
    assert leftmost(optimize(bound(queries("tpch")[name], TPCH))).table.name == "lineitem"


# What random plans seldom hit


def tiny() -> tuple[Builder, Scan, Scan]:
    columns = [("k", INTEGER), ("a", INTEGER)]
    left = RowTable("l", columns, [(1, 1), (2, None), (3, 3), (4, 4), (None, 5)])
    right = RowTable("r", columns, [(1, 10), (1, 11), (3, None), (None, 12)])
    build = Builder()
    return build, build.scan(left), build.scan(right)


def same(plan: Node) -> Node:
    new = optimize(plan)
    check(new, subqueries=False)
    assert ordered(run(new)) == ordered(run(plan))
    return new


def test_count_of_nothing_is_zero() -> None:
    b, l, r = tiny()
    matching = Filter(r, eq(r.schema[0], l.schema[0]))
    count = b.aggregate(matching, [], [AggregateCall(BIGINT, "count", (r.schema[1],))])
    rows = run(same(b.project(l, l.schema[0], scalar(count))))
    assert (2, 0) in rows and (3, 0) in rows and (1, 2) in rows and (None, 0) in rows


def test_not_in_with_null_is_empty() -> None:
    b, l, r = tiny()
    plan = Filter(l, no(isin(l.schema[0], b.project(r, r.schema[0]))))
    assert run(same(plan)) == []


def test_correlated_not_in_looks_at_its_own_group_only() -> None:
    b, l, r = tiny()
    matching = Filter(r, eq(r.schema[0], l.schema[0]))
    plan = Filter(l, no(isin(l.schema[1], b.project(matching, r.schema[1]))))
    assert ordered(run(same(plan))) == [(1, 1), (2, None), (4, 4), (None, 5)]


def test_two_rows_in_a_scalar_subquery_are_an_error() -> None:
    b, l, r = tiny()
    matching = Filter(r, eq(r.schema[0], l.schema[0]))
    plan = b.project(l, scalar(b.project(matching, r.schema[1])))
    new = optimize(plan)
    assert any(isinstance(n, Join) and n.kind == "single" for n in walk_all(new))
    with pytest.raises(DataError):
        run(new)


def test_union_parts_keep_their_order() -> None:
    b, l, r = tiny()
    joined = Join("inner", l, r, (), eq(l.schema[0], r.schema[0]))
    part = Project(joined, tuple((c, c) for c in (r.schema[1], l.schema[1])))
    other = b.scan(l.table)
    plan = Union((part, other), (b.column(INTEGER, "x"), b.column(INTEGER, "y")))
    same(plan)


@pytest.mark.parametrize(
    ("constant", "name", "expected"),
    [
        (lit(24.0, DOUBLE), "lt", "q < 24.00"),
        (lit(0.07, DOUBLE), "eq", "q = 0.07"),
        (lit(24.001, DOUBLE), "lt", "q <= 24.00"),
        (lit(24.001, DOUBLE), "ge", "q > 24.00"),
        (lit(-0.001, DOUBLE), "gt", "q > -0.01"),
        (lit(24.001, DOUBLE), "eq", "cast(q as DOUBLE) = 24.001"),
        (lit(1e300, DOUBLE), "lt", "cast(q as DOUBLE) < 1e+300"),
        (lit(float("nan"), DOUBLE), "lt", "cast(q as DOUBLE) < nan"),
        (lit(2_400_000, decimal(18, 5)), "le", "q <= 24.00"),
        (lit(2_400_001, decimal(18, 5)), "lt", "q <= 24.00"),
    ],
)
def test_casts_move_to_constants(constant: Literal, name: str, expected: str) -> None:
    from finequery.operators.expr import Cast
    from finequery.planner.display import format_expr
    from finequery.planner.rules.unwrap_casts import unwrap

    q = Column(decimal(15, 2), 1, "q")
    assert format_expr(unwrap(call(name, Cast(constant.type, q), constant))) == expected


def test_check_finds_what_is_wrong() -> None:
    b, l, r = tiny()
    with pytest.raises(InternalError, match="lacks"):
        check(Filter(l, eq(l.schema[0], r.schema[0])))
    with pytest.raises(InternalError, match="both inputs"):
        check(Join("inner", l, l))
    with pytest.raises(InternalError, match="BOOLEAN"):
        check(Filter(l, l.schema[0]))
    with pytest.raises(InternalError, match="types differ"):
        check(Join("inner", l, r, ((l.schema[0], lit(1, BIGINT)),)))
    with pytest.raises(InternalError, match="Subquery is left"):
        check(Filter(l, isin(l.schema[0], b.project(r, r.schema[0]))), subqueries=False)
    check(Filter(l, all_of(eq(l.schema[0], lit(1)), lit(True, BOOLEAN))))
