"""The engine over tables of several morsels, on two threads: every answer equals DuckDB's.

Small tables never leave one tile. What goes wrong only beyond that (outputs that grow, joins that expand, tables that
are rebuilt, threads that are merged) is looked for here.
"""

# ruff: noqa: E501
from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from compare import assert_same
from conftest import Engines, connect, connect_duckdb

ROWS = 140_000

FACTS = f"""
select
  i::bigint as id,
  (hash(i) % 100)::integer as small,
  (hash(i * 7) % 70000)::integer as many,
  case when hash(i * 3) % 10 = 0 then null else (hash(i * 11) % 1000)::smallint end as holes,
  (hash(i * 13) % 1000000000000)::bigint * 1000003 as wide,
  (hash(i * 17) % 100000)::decimal(12, 2) / 100 as price,
  (((hash(i * 19) % 1000)::hugeint * 12345678901234567890)::varchar || '.0123456789')::decimal(38, 10) as huge,
  ((hash(i * 23) % 1000)::hugeint * 100000000000000000000 - 50000000000000000000000::hugeint)::decimal(38, 0) as giant_,
  case when hash(i * 29) % 50 = 0 then 'nan'::double
       when hash(i * 29) % 50 = 1 then -0.0::double
       when hash(i * 29) % 50 = 2 then null
       else (hash(i * 31) % 2000)::double / 8 - 100 end as real_,
  (hash(i * 37) % 500)::float / 4 as single,
  date '1950-01-01' + (hash(i * 41) % 30000)::integer as day_,
  timestamp '1960-01-01' + to_seconds((hash(i * 43) % 3000000000)::bigint) as moment,
  case when hash(i * 47) % 7 = 0 then null else hash(i * 53) % 2 = 0 end as flag,
  ['red', 'green', 'blue', 'żółty', '', 'a somewhat longer word'][1 + (hash(i * 59) % 6)::integer] as colour,
  case when hash(i * 61) % 20 = 0 then null else 'name ' || (hash(i * 67) % 50000) end as name_,
  'unique ' || i || repeat('é', (hash(i * 71) % 20)::integer) as text_
from range({ROWS}) t(i)
"""
KEYS = """
select (i * 3 % 50000)::integer as key_, 'name ' || (i * 5 % 50000) as name_, i::integer as value_,
  case when i % 9 = 0 then null else i % 100 end::integer as holes, (i % 1000)::smallint as group_,
  date '1950-01-01' + (i % 30000)::integer as day_, (i * 1000003)::bigint as wide,
  ((i % 1000)::hugeint * 100000000000000000000 - 50000000000000000000000::hugeint)::decimal(38, 0) as giant_,
  case when i % 11 = 0 then null else (i % 2000)::double / 8 - 100 end as real_
from range(20000) t(i)
"""


@pytest.fixture(scope="module")
def engines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engines]:
    folder: Path = tmp_path_factory.mktemp("engine")
    pair = Engines(connect(), connect_duckdb())
    for name, text in (("facts", FACTS), ("keys", KEYS)):
        pair.duck.execute(f"copy ({text}) to '{folder / name}.parquet'")
        for engine in pair:
            engine.execute(f"create table {name} as select *, giant_::hugeint as giant from '{folder / name}.parquet'")
    yield pair
    pair.con.close()
    pair.duck.close()


COLUMNS = "small many holes wide price huge giant real_ single day_ moment flag colour name_ text_".split()
AGGREGATES = ["count(*)", "count({0})", "min({0})", "max({0})"]
NUMBERS = ["small", "many", "holes", "wide", "price", "huge", "giant"]


@pytest.mark.parametrize("column", COLUMNS)
def test_group_by(column: str, engines: Engines) -> None:
    assert_same(*engines, f"select {column}, count(*), sum(small), min(id), max(price) from facts group by {column}")
    assert_same(*engines, f"select small, count(distinct {column}) from facts group by small")
    assert_same(*engines, f"select count(*) from (select distinct {column} from facts)")


@pytest.mark.parametrize("column", COLUMNS)
def test_arguments(column: str, engines: Engines) -> None:
    """Every type as an argument, over everything, few groups, many groups, and with a filter."""
    calls = [call.format(column) for call in AGGREGATES]
    if column in NUMBERS:
        calls += [f"sum({column})", f"avg({column})", f"stddev_pop({column})", f"sum({column}) filter (where flag)"]
    calls += [f"count({column}) filter (where small < 10)", f"max({column}) filter (where holes is null)"]
    shown = ", ".join(calls)
    assert_same(*engines, f"select {shown} from facts")
    assert_same(*engines, f"select colour, {shown} from facts group by colour")
    assert_same(*engines, f"select many, {shown} from facts group by many")
    assert_same(*engines, f"select name_, {shown} from facts group by name_")
    assert_same(*engines, f"select {shown} from facts where id < 0")
    assert_same(*engines, f"select small, {shown} from facts where many > 150 group by small")


GROUPS = [
    "colour, flag", "many, small", "wide, small", "holes, real_", "giant, huge", "name_, colour", "text_, flag",
    "day_, moment", "wide, moment, huge", "many, small, holes, colour, flag, day_", "real_, single", "flag",
]  # fmt: skip


@pytest.mark.parametrize("keys", GROUPS)
def test_several_group_keys(keys: str, engines: Engines) -> None:
    assert_same(*engines, f"select {keys}, count(*), sum(price), max(text_), min(real_) from facts group by {keys}")
    assert_same(*engines, f"select distinct {keys} from facts where small < 50")


@pytest.mark.parametrize("column", COLUMNS)
def test_filters_and_projections(column: str, engines: Engines) -> None:
    assert_same(*engines, f"select id, {column} from facts where small < 37")
    assert_same(*engines, f"select {column} from facts where {column} is null or id % 1000 = 0")
    assert_same(*engines, f"select count(*) from facts where {column} = (select max({column}) from facts)")
    assert_same(*engines, f"select id, coalesce({column}, (select min({column}) from facts)) from facts")
    assert_same(*engines, f"select id, case when small < 50 then {column} end from facts where many < 5000")
    assert_same(*engines, f"select id, {column} from facts order by {column}, id limit 100")
    assert_same(
        *engines, f"select id, {column} from facts order by {column} desc nulls first, id limit 30 offset 70000"
    )


JOINS = [
    "facts.many = keys.key_", "facts.small = keys.holes", "facts.name_ = keys.name_", "facts.wide = keys.wide",
    "facts.day_ = keys.day_", "facts.giant = keys.giant and facts.many = keys.key_", "facts.real_ = keys.real_ and facts.id = keys.value_",
    "facts.small = keys.group_ and facts.many = keys.key_", "facts.wide = keys.wide and facts.name_ = keys.name_",
    "facts.many = keys.key_ and facts.small > keys.holes", "facts.holes = keys.holes and keys.value_ < 2000",
    "facts.giant = keys.giant and facts.wide = keys.wide and facts.real_ = keys.real_",
    "facts.price = keys.value_", "facts.many + 1 = keys.key_",
]  # fmt: skip


@pytest.mark.parametrize("on", JOINS)
@pytest.mark.parametrize("kind", ["join", "left join", "right join", "full join"])
def test_joins(kind: str, on: str, engines: Engines) -> None:
    counted = "count(*), sum(facts.id), sum(keys.value_), count(facts.text_), count(keys.name_), max(facts.text_)"
    assert_same(*engines, f"select {counted} from facts {kind} keys on {on}")
    assert_same(
        *engines,
        f"select facts.id, keys.value_, facts.text_, keys.name_, keys.real_ from facts {kind} keys on {on} "
        "where coalesce(facts.id, 0) < 30000 and coalesce(keys.value_, 0) % 10 = 0",
    )


@pytest.mark.parametrize("on", JOINS)
@pytest.mark.parametrize("kind", ["semi", "anti"])
def test_semi_joins(kind: str, on: str, engines: Engines) -> None:
    no = "" if kind == "semi" else "not "
    assert_same(*engines, f"select id, text_ from facts where {no}exists (select 1 from keys where {on})")
    assert_same(*engines, f"select value_ from keys where {no}exists (select 1 from facts where {on})")


@pytest.mark.parametrize("column", ["key_", "holes", "name_", "wide", "giant", "real_", "day_"])
def test_in(column: str, engines: Engines) -> None:
    mine = {"key_": "many"}.get(column, column)
    for no in ("", "not "):
        assert_same(*engines, f"select count(*), sum(id) from facts where {mine} {no}in (select {column} from keys)")
        assert_same(
            *engines,
            f"select count(*) from facts where {mine} {no}in (select {column} from keys where {column} is not null)",
        )
        assert_same(
            *engines, f"select {mine} {no}in (select {column} from keys) as hit, count(*) from facts group by 1"
        )
        assert_same(
            *engines, f"select count(*) from facts where {no}({mine} in (select {column} from keys) or small = 3)"
        )


QUERIES = [
    "select id, text_ || '!' from facts where small = 7",
    "select id, upper(text_) from facts where many < 3000",
    "select upper(text_), length(text_), substr(text_, 5, 9) from facts",
    "select count(*) from facts where text_ like '%77%é%'",
    "select count(*) from facts where text_ like 'unique 1%'",
    "select count(*) from facts where text_ like '%é'",
    "select count(*) from facts where text_ not like '%1_3%'",
    "select count(*) from facts where text_ ilike 'UNIQUE 12%'",
    "select count(*) from facts where name_ like '%99%' and text_ like '%99%'",
    "select colour, text_ like '%9' as nine, count(*) from facts group by all",
    "select text_ < 'unique 5', count(*) from facts group by 1",
    "select id, case when small < 50 then text_ else name_ end from facts",
    "select id, case when small < 50 then text_ when flag then colour else 'none' end from facts",
    "select id, text_ from facts union all select value_, name_ from keys",
    "select colour from facts union all select name_ from keys",
    "select many, wide from facts union all select key_, wide from keys",
    "select small from facts union select holes from keys",
    "select colour from facts union select name_ from keys",
    "select price from facts intersect select value_ from keys",
    "select many from facts except select key_ from keys",
    "select a.id, b.id from facts a join facts b on a.many = b.many and a.small = b.small where a.id < b.id",
    "select count(*), sum(a.id + b.value_) from facts a join keys b on a.small = b.holes",
    "select count(*), sum(a.value_ * b.value_) from keys a, keys b where a.value_ < 300 and b.value_ < 3000",
    "select a.value_, b.value_ from keys a, keys b where a.value_ < 100 and b.value_ between 200 and 3000",
    "select count(*) from facts a left join keys b on a.many = b.key_ left join keys c on b.value_ = c.key_ where c.value_ is null",
    "select k.group_, count(*), sum(f.price), min(f.text_) from facts f join keys k on f.many = k.key_ group by k.group_",
    "select k.name_, count(*), sum(f.price) from facts f join keys k on f.many = k.key_ group by k.name_",
    "select f.name_, k.day_, count(*) from facts f left join keys k on f.many = k.key_ group by 1, 2",
    "select any_value(colour) is null, first(id) is null, small from facts group by small",
    "select small, any_value(holes) filter (where holes > 990) is null from facts group by small",
    "select id, sum(price) over (partition by small order by id) from facts where many < 30000",
    "select id, row_number() over (partition by colour order by wide, id) from facts",
    "select id, rank() over (order by name_) from facts where small < 5",
    "select id, lag(text_) over (partition by small order by id) from facts",
    "select id, max(real_) over (partition by name_) from facts",
    "select * from facts order by text_ limit 10",
    "select id from facts order by name_ nulls last, giant desc, id limit 1000",
    "select id, huge from facts order by huge desc, real_, id limit 1000",
    "select id from facts order by real_ desc, single, colour, id",
    "select id from facts limit 10 offset 1000000",
    "select id from facts limit 0",
    "select sum(small * many), sum(wide::hugeint * 2), avg(price * small), sum(giant), sum(huge) from facts",
    "select flag, sum(wide::hugeint * small), sum(price * price), stddev(real_), var_pop(single) from facts where not isnan(real_) group by flag",
    "select year(day_), month(moment), count(*), min(day_), max(moment) from facts group by all",
    "select date_trunc('month', moment) as m, count(*), sum(price) from facts group by m order by m",
    "select dayofweek(day_), quarter(day_), extract('hour' from moment), count(*) from facts group by all",
    "select day_ + interval 1 month as d, count(*) from facts group by d",
    "select date_diff('day', day_, moment::date) as d, count(*) from facts group by d having count(*) > 10",
    "select text_::varchar, id::varchar, price::varchar, day_::varchar, real_::varchar, huge::varchar from facts where small < 2",
    "select cast(substr(name_, 6) as integer) as n, count(*) from facts where name_ is not null group by n",
    "select case when name_ like 'name 1%' then cast(substr(name_, 6) as integer) end as n, count(*) from facts group by n",
    "select case when colour = 'red' then 1 else cast(id as integer) end as n, count(*) from facts group by n having n < 5",
    "select count(*) from facts where holes in (1, 2, 3, null, 700) or name_ in ('name 1', 'name 77')",
    "select count(*) from facts where holes not in (1, 2, 3)",
    "select small, bool_and(flag), bool_or(flag), count(flag) from facts group by small",
    "select id, greatest(small, holes), least(real_, single) from facts",
    "select id, small / nullif(holes, 0), small % 7, many // 3 from facts",
    "select count(*) from facts f where price > (select avg(price) from facts g where g.small = f.small)",
    "select count(*) from facts f where exists (select 1 from keys k where k.key_ = f.many and k.group_ <> f.small)",
    "select count(*) from facts f where not exists (select 1 from keys k where k.key_ = f.many and k.holes > f.small)",
    "select id, (select max(value_) from keys k where k.key_ = f.many) from facts f",
    "with t as (select small, sum(price) as s from facts group by small) select * from t where s = (select max(s) from t)",
    "select sum(n) from (select count(*) as n from facts group by text_)",
    "select text_, sum(price) from facts group by text_",
    "select id, sum(price), count(*) from facts group by id",
    "select id // 3, sum(price), count(*), max(text_) from facts group by 1",
    # subplans that are shared, aggregates reduced by the rows that look them up, two keys led by one
    "select f.id from facts f join keys k on f.many = k.key_ where k.holes = 3 and exists (select 1 from facts g where g.id = f.id and g.small <> f.small + 1)",
    "select f.id from facts f join keys k on f.many = k.key_ where k.holes = 3 and not exists (select 1 from facts g where g.many = f.many and g.small <> f.small and g.flag)",
    "select f.id, (select sum(g.price) from facts g where g.many = f.many and g.holes > 1) from facts f join keys k on f.many = k.key_ where k.holes = 3 and k.group_ < 300",
    "select a.small, b.n from (select small, count(*) as n from facts where many < 900 group by small) a join (select small, count(*) as n from facts where many < 900 group by small) b on a.n = b.small + 10",
    "select a.id, b.text_ from (select * from facts where many = 7) a join (select * from facts where many = 7) b on a.id = b.id",
    "select count(*) from facts where many = 7 and price > (select avg(price) from facts where many = 7)",
    "select f.id, k.name_ from facts f join (select * from keys where holes = 5) k on f.many = k.key_ and f.small = k.group_ % 100",
    "select f.id from facts f join (select many, min(price) as p from facts where small = 5 group by many) m on f.many = m.many and f.price = m.p",
]


@pytest.mark.parametrize("sql", QUERIES)
def test_queries(sql: str, engines: Engines) -> None:
    for _ in range(2):  # the second run comes from the plan cache, over what was compiled before
        assert_same(*engines, sql)


def test_a_thread_that_never_wakes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Work of a thread that stopped for room and is then slow to go on must not be lost."""
    import numpy as np
    import pyarrow as pa

    from finequery.operators import native, pool

    class Slow(pool.Pool):
        """The second thread begins every other time only."""

        calls = 0

        def run(self, kernel: str, arguments: Sequence[int]) -> list[int]:
            self.calls += 1
            step = native.function(kernel)
            second = [0 if self.calls % 2 else step(0, 0, 0, a) for a in arguments[1:]]
            return [step(0, 0, 0, arguments[0]), *second]

    class Alternating(Slow):
        """The second thread first, then late."""

        def run(self, kernel: str, arguments: Sequence[int]) -> list[int]:
            self.calls += 1
            step = native.function(kernel)
            if self.calls % 3 == 0:
                return [step(0, 0, 0, arguments[0]), *(0 for _ in arguments[1:])]
            second = [step(0, 0, 0, a) for a in arguments[1:]]
            return [step(0, 0, 0, arguments[0]), *second]

    data = pa.table({"n": np.arange(150_000), "t": [f"text {i}" for i in range(150_000)]})  # read by name
    assert data.num_rows
    for kind in (Slow, Alternating):
        monkeypatch.setitem(pool._pools, 2, kind(2))
        con = connect()
        assert con.execute(
            "select count(*), sum(c), sum(s) from (select n // 3 as k, count(*) as c, sum(n) as s from data group by k)"
        ).fetchall() == [(50_000, 150_000, 11_249_925_000)]
        assert con.execute(
            "select count(*), count(distinct t), sum(n) from (select t || 'x' as t, n from data where n % 3 > 0)"
        ).fetchall() == [(100_000, 100_000, 7_500_000_000)]
        assert con.execute(
            "select count(*), sum(a.n) from data a join data b on a.n // 100 = b.n // 100 where b.n < 60000"
        ).fetchall() == [(6_000_000, 179_997_000_000)]
        con.close()
