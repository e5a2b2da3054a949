"""Estimates by samples, against the true counts: predicates, what joins let through, values and groups that are left,
and what they are used for: structures, the order of a star's probes, tests of ranges."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import finequery
from finequery.planner.estimate import ColumnEstimate, drawn, estimate, group_count, match_share
from finequery.planner.sample import ROWS, TEXTS, WHOLE, Sample, sample_of
from finequery.planner.sampled import SURE, Sampled
from finequery.planner.subtasks import split

ROWS_OF_F = 300_000


@pytest.fixture(scope="module")
def con() -> Iterator[Any]:
    with finequery.connect(threads=2) as con:
        con.execute(
            "create table small as select i, i % 7 as a, case when i % 5 = 0 then null else i % 11 end as n, "
            "(i % 100) / 10.0 as x, cast(i % 13 as decimal(9, 2)) + 0.25 as d, "
            "date '2020-01-01' + cast(i as integer) as day, date '2020-02-01' + cast(i * 37 % 400 as integer) as due, "
            "'w' || (i % 9) as word, case when i % 3 = 0 then null else 'k' || (i * 7919 % 2503) || 'xyz' end as text "
            "from range(1000) r(i)"
        )
        con.execute(
            "create table dates as select i, date '2020-01-01' + cast(i as integer) as day from range(2500) r(i)"
        )
        # orders come before they are shipped; a brand belongs to one category
        con.execute(
            "create table o as select i as ok, i // 40 as placed, i % 300 as cust, i % 5 as kind "
            "from range(100000) r(i)"
        )
        con.execute(
            f"create table f as select i, i // 3 as ok, (i // 3) // 40 + 1 + i * 7919 % 20 as shipped, "
            f"i * 7919 % 40000 as pk, i * 31 % 97 as v, i % 2500 as day from range({ROWS_OF_F}) r(i)"
        )
        con.execute(
            "create table p as select i as pk, i * 7919 % 1000 as brand, (i * 7919 % 1000) // 40 as category, "
            "'name ' || (i * 31 % 9973) as name from range(40000) r(i)"
        )
        yield con


_number = itertools.count()


def rows(con: Any, sql: str) -> float:
    """Expected rows of a query's result: of a plan of its own, not of one made for other literals."""
    return float(con.sql(f"select *, null as c{next(_number)} from ({sql})").plan.root.estimate)


@pytest.mark.parametrize(
    "predicate",
    [
        "a = 3", "a <> 3", "a < 3 and i >= 100", "a between 2 and 4", "a in (1, 5, 99)", "n = 4", "n <> 4", "n is null",
        "n is not null", "not (n = 4)", "n = 4 or a = 3", "n = 4 and a = 3", "not (n = 4 or a = 3)", "n in (1, 2)",
        "not (n in (1, 2))", "d > 5.25", "d = 5.25", "d + 1.00 < 4.25", "d * 2 > 20", "x < 2.5", "day < due",
        "day >= due",
        "day > date '2022-01-01'", "extract(year from day) = 2021", "word = 'w3'", "word < 'w3'", "word <= 'w31'",
        "word >= 'w31'", "word = 'nothing'", "word <> 'nothing'", "word in ('w1', 'w2', 'zz')", "word like 'w%'",
        "word like '_3'", "text like 'k1%'", "text like '%99%'", "text like '%9%x%'", "text like '%9xyz'",
        "not (text like '%9%')", "text is null", "text = 'k7919xyz'", "text > 'k2'",
        "substring(text, 1, 2) in ('k1', 'k3')",
        "a * 2 - 1 > n", "i < 10 or text like 'k1%'", "a = n",
    ],
)  # fmt: skip
def test_a_small_table_is_its_own_sample(predicate: str, con: Any) -> None:
    """What is tried on all rows is exact, NULLs included."""
    (true,) = con.sql(f"select count(*) from small where {predicate}").fetchone()
    assert rows(con, f"select * from small where {predicate}") == max(true, 1)


@pytest.mark.parametrize(
    ("sql", "factor"),
    [
        ("select * from f where ok < 30000 and shipped < 751", 1.1),  # the same rows: not 0.3 times 0.3
        ("select * from f where shipped * 40 > ok + 400", 1.1),
        ("select * from p where name like '%77%'", 1.5),
        ("select * from p where brand < 40 and category = 0", 1.3),
        ("select * from o, f where o.ok = f.ok and placed < 1250 and shipped > 1250", 1.5),  # across a join
        ("select * from f where shipped > 1250 and exists (select 1 from o where o.ok = f.ok and placed < 1250)", 1.5),
        (
            "select * from f where shipped > 1250 and not exists (select 1 from o where o.ok = f.ok and placed < 1250)",
            1.1,
        ),
        ("select * from o, f where o.ok = f.ok and kind = 1 and cust < 30 and v < 50", 1.3),
        ("select * from p, f, o where p.pk = f.pk and f.ok = o.ok and category = 3 and kind = 2", 1.3),
        ("select distinct brand from p where category = 3", 1.1),
    ],
)
def test_near_the_truth(sql: str, factor: float, con: Any) -> None:
    (true,) = con.sql(f"select count(*) from ({sql})").fetchone()
    found = rows(con, sql)
    assert true / factor <= found <= true * factor, (found, true)


def test_patterns_along_a_table_do_not_mislead(con: Any) -> None:
    """Every tenth row of 100,000: a sample of every n-th row would see all of them, or none."""
    con.execute("create or replace table periodic as select i % 10 as k, i % 1000 as l from range(204800) r(i)")
    assert rows(con, "select * from periodic where k + 0 = 0") == pytest.approx(20480, rel=0.25)
    assert rows(con, "select * from periodic where l + 0 < 100") == pytest.approx(20480, rel=0.25)


def test_what_is_not_encoded_is_estimated_by_rule(tmp_path: Any, con: Any) -> None:
    con.execute(f"copy (select * from f) to '{tmp_path}/f.parquet' (format parquet)")
    sql = f"select * from '{tmp_path}/f.parquet' where shipped * 40 > ok + 400"
    assert rows(con, sql) == pytest.approx(ROWS_OF_F / 3)  # no statistics say more of it
    con.sql(sql).fetchall()
    (true,) = con.sql(f"select count(*) from ({sql})").fetchone()
    assert rows(con, sql + " and 1 = 1") == pytest.approx(true, rel=0.1)  # its columns are there now


def test_changed_tables_have_other_samples(con: Any) -> None:
    con.execute("create or replace table growing as select i as k from range(1000) r(i)")
    assert rows(con, "select * from growing where k + 0 < 10") == 10
    con.execute("insert into growing select 5 from range(500)")
    assert rows(con, "select * from growing where k + 0 < 10") == 510
    con.execute("update growing set k = 50 where k = 5")
    assert rows(con, "select * from growing where k + 0 < 10") == 9


def table(con: Any, name: str) -> Any:
    return split(con.sql(f"select * from {name}").plan.root)[0].source.item.table


def test_samples_are_spread_over_the_table(con: Any) -> None:
    sample = sample_of(table(con, "f"))
    assert sample is not None and len(sample) == ROWS and not sample.whole and sample is sample_of(table(con, "f"))
    for at in (sample.at, sample.at[:TEXTS]):  # one of each part, the first ones too
        assert (np.sort(at) * len(at) // ROWS_OF_F == np.arange(len(at))).mean() > 0.99
    small = sample_of(table(con, "dates"))
    assert small is not None and small.whole and sorted(small.at.tolist()) == list(range(2500)) and len(small) <= WHOLE


def test_partners_are_the_rows_that_are_looked_up(con: Any) -> None:
    sample = sample_of(table(con, "f"))
    assert sample is not None
    partners = sample.partner("ok", table(con, "o"), "ok")
    assert partners is not None and (partners.at == sample.at // 3).all() and partners.found.all()
    days = sample.partner("day", table(con, "dates"), "i")
    assert days is not None and (days.at == sample.at % 2500).all()
    some = sample.partner("i", table(con, "dates"), "i")  # most find nothing
    assert some is not None and ((some.at >= 0) == (sample.at < 2500)).all()
    assert sample.partner("ok", table(con, "o"), "cust") is None  # no unique key


def test_few_hits_and_the_rule(con: Any) -> None:
    sample = sample_of(table(con, "f"))
    assert sample is not None
    weight = ROWS_OF_F / ROWS

    def hits(count: int) -> Sampled:
        mask = np.zeros(ROWS, np.bool_)
        mask[:count] = True
        return Sampled(sample, mask, 1.0, {})

    assert hits(400).rows(390 * weight) == 390 * weight, "no more than chance: the rule, which has no noise"
    assert hits(400).rows(100 * weight) == 400 * weight, "far from it: the sample"
    assert hits(0).rows(3 * weight) == 3 * weight
    assert hits(0).rows(100 * weight) == 2 * weight, "more would have shown"
    assert 2 * weight < hits(SURE // 2).rows(200 * weight) <= 3 * SURE // 2 * weight


def test_ranges_and_values_that_are_left(con: Any) -> None:
    """Of a whole table the ends are known; of others, how many values a correlated column has left."""
    sql = "select i from dates where extract(year from day) = 2021"
    node = con.sql(f"select * from ({sql}) s join f on f.day = s.i").plan.root
    build = next(p for p in split(node) if p.breaker.kind == "build")
    found = estimate(build.breaker.item.build.node)
    key = found.column(build.breaker.item.keys[0][1].id)
    assert (key.low, key.high, found.rows) == (366, 730, 365)


def test_groups_drawn_from_a_table() -> None:
    """1,000 rows of 1,000 combinations meet 632 of them; keys of different tables meet all."""

    class Below:
        rows = 1e6

        def __init__(self, *columns: ColumnEstimate):
            self.columns = columns

        def has(self, id: int) -> bool:
            return True

        def column(self, id: int) -> ColumnEstimate:
            return self.columns[id]

    from finequery.operators.expr import Column
    from finequery.types import INTEGER

    keys: list[Any] = [Column(INTEGER, 0), Column(INTEGER, 1)]
    same = Below(ColumnEstimate(25.0, table=1, left=1000.0), ColumnEstimate(40.0, table=1, left=1000.0))
    assert group_count(keys, same) == pytest.approx(drawn(1000.0, 1000.0)) == pytest.approx(632, rel=0.01)  # type: ignore[arg-type]
    other = Below(ColumnEstimate(25.0, table=1, left=1000.0), ColumnEstimate(40.0, table=2, left=1000.0))
    assert group_count(keys, other) == 1000.0  # type: ignore[arg-type]
    assert group_count(keys[:1], Below(ColumnEstimate(900.0, table=1, left=1000.0))) == 900.0  # type: ignore[arg-type]


def test_keys_of_one_reference_and_of_two_tables() -> None:
    """(part, supplier) of a line refers to one row of a table of both; a line's supplier and a customer's nation do
    not refer to a supplier together."""
    of = {"table_rows": 800.0, "distinct": 200.0}
    left = [ColumnEstimate(table=1, **of), ColumnEstimate(table=1, **of)]
    right = [ColumnEstimate(table=2, **of), ColumnEstimate(table=2, **of)]
    assert match_share(list(zip(left, right))) == pytest.approx(1 / 800)
    left[1] = ColumnEstimate(table=3, **of)
    assert match_share(list(zip(left, right))) == pytest.approx(1 / 200**2)


def test_keys_that_one_subplan_limits() -> None:
    """Values that are among the same few find each other."""

    def key(within: frozenset[tuple[int, int]]) -> ColumnEstimate:
        return ColumnEstimate(100.0, unique=True, domain=10_000.0, within=within)

    one, other = frozenset([(7, 1)]), frozenset([(9, 4)])
    assert match_share([(key(one), key(one))]) == pytest.approx(1 / 100)
    assert match_share([(key(one), key(other))]) == pytest.approx(1 / 10_000)


def test_a_join_leaves_the_keys_that_find_partners(con: Any) -> None:
    """Groups of a join's key: those of the side with fewer; of a key that is looked up, those that are drawn."""
    few = "select p.pk from p where category = 3"
    sql = f"select f.pk, sum(v) from f join ({few}) q on f.pk = q.pk group by 1"
    assert rows(con, sql) == pytest.approx(1600, rel=0.2)
    (true,) = con.sql(f"select count(*) from ({sql})").fetchone()
    assert true == 1600
    drawn_ = "select p.pk, count(*) from f join p on f.pk = p.pk where v = 3 and shipped < 100 group by 1"
    (true,) = con.sql(f"select count(*) from ({drawn_})").fetchone()
    assert true / 2 < rows(con, drawn_) < 2 * true


def test_probes_of_a_star_in_the_order_in_which_they_run(con: Any) -> None:
    """The most selective first; a narrow range of keys joins the filter before."""
    sql = (
        "select sum(v) from f join p on f.pk = p.pk join dates s on f.day = s.i "
        "where v < 60 and p.category = 3 and s.day between date '2020-10-27' and date '2020-12-15'"
    )
    pipeline = split(con.sql(sql).plan.root)[-1]
    probes = [s for s in pipeline.subtasks if s.kind == "probe"]
    wanted = [s for s in pipeline.subtasks if s.kind == "filter"]
    assert [p.item.keys[0][0].name for p in probes] == ["day", "pk"]  # a fiftieth of the days, a twenty-fifth of p
    assert probes[0].match_rate == pytest.approx(1.0)  # the range has left no others
    (true,) = con.sql("select count(*) from f where v < 60 and day between 300 and 349").fetchone()
    assert wanted[0].rows_out == pytest.approx(true, rel=0.3)
    assert probes[-1].rows_out == pytest.approx(true / 25, rel=0.5)


def test_groups_behind_a_selective_probe_are_no_array(con: Any) -> None:
    """Few rows are left of a wide range of keys: a hash table is expected, as the run chooses it."""
    few = "select ok from o where cust = 7 and kind = 2"
    sql = f"select f.ok, sum(v) from f join ({few}) q on f.ok = q.ok group by f.ok, f.pk"
    pipeline = next(p for p in split(con.sql(sql).plan.root) if p.breaker.kind == "aggregate")
    assert pipeline.breaker.choice is not None and pipeline.breaker.choice.name == "hash"


def test_a_sample_of_nothing(con: Any) -> None:
    con.execute("create or replace table nothing as select 1 as k where false")
    assert sample_of(table(con, "nothing")) is None
    assert rows(con, "select * from nothing where k + 0 < 10") == 1.0
    assert isinstance(sample_of(table(con, "small")), Sample)
