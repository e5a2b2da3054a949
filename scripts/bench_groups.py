"""What bench.py measures: the queries of each group, the data they need, and the targets."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from bench_data import BUILDS, GROUPS, MATCHES, Data, short

from finequery.bench.engines import ARROW, ROWS
from finequery.workloads import queries


@dataclass
class Case:
    """One query. ``order`` names the columns whose sequence ORDER BY fixes; ``fresh``: engines that keep what they read
    from files forget it before every run."""

    name: str
    sql: str
    form: str = ROWS
    order: tuple[str, ...] = ()
    fresh: bool = False


@dataclass
class Stage:
    """Tables that are loaded, queried and dropped again."""

    tables: dict[str, Path]
    cases: list[Case]


@dataclass
class Group:
    """``target`` is the wanted geometric mean of DuckDB's time over ours, ``floor`` the wanted least ratio."""

    name: str
    title: str
    target: float | None = None
    floor: float | None = None
    stages: list[Stage] = field(default_factory=list)


def over_files(sql: str, tables: dict[str, Path]) -> str:
    """The query with table names in FROM replaced by paths of Parquet files."""

    def replace(match: re.Match[str]) -> str:
        names = [name.strip() for name in match[2].split(",")]
        return match[1] + ", ".join(f"'{tables[name]}' as {name}" if name in tables else name for name in names)

    return re.sub(r"(\bfrom\s+)([a-z_]+(?:\s*,\s*[a-z_]+)*)", replace, sql, flags=re.IGNORECASE)


def cases(benchmark: str) -> list[Case]:
    return [Case(name, sql) for name, sql in queries(benchmark).items()]


def ssb_group(data: Data, scale: float, five: bool = False) -> Group:
    name, target, floor = ("ssb5", 3.5, None) if five else ("ssb", 4.0, 2.0)
    return Group(name, f"SSB SF{scale:g}", target, floor, [Stage(data.ssb(scale), cases("ssb"))])


def tpch_group(data: Data) -> Group:
    return Group("tpch", "TPC-H SF1", 2.5, 1.0, [Stage(data.tpch(), cases("tpch"))])


def groupby_group(data: Data) -> Group:
    def case(groups: int) -> Case:
        form = ROWS if groups <= 1_000 else ARROW
        return Case(f"{short(groups)} groups", "select k, sum(v) as s from t group by k", form)

    stages = [Stage({"t": data.grouped(groups)}, [case(groups)]) for groups in GROUPS]
    return Group("groupby", "GROUP BY a random BIGINT key, sum of an INTEGER, 10 M rows", 2.5, 1.5, stages)


def join_group(data: Data) -> Group:
    sql = "select count(*) as n, sum(payload) as s from p, b where p.k = b.k"
    stages = []
    for size in BUILDS:
        for match in MATCHES:
            tables = {"b": data.build(size), "p": data.probe(size, match)}
            stages.append(Stage(tables, [Case(f"build {short(size)}, match {match}%", sql)]))
    return Group("join", "Join of 10 M probes with unique random BIGINT keys, sum of a payload", 2.0, 1.2, stages)


def sort_group(data: Data) -> Group:
    wanted = [
        Case("order by a", "select * from t order by a", ARROW, ("a",)),
        Case("order by b desc", "select * from t order by b desc", ARROW, ("b",)),
        Case("order by a, b", "select * from t order by a, b", ARROW, ("a", "b")),
        Case("top 100", "select * from t order by a, b, c limit 100", ARROW, ("a", "b", "c")),
    ]
    stages = [Stage({"t": data.unsorted()}, wanted)]
    return Group("sort", "ORDER BY of 6 M rows of three columns, result as Arrow", None, 1.0, stages)


def like_group(data: Data) -> Group:
    orders = {"orders": data.tpch()["orders"]}
    sql = "select count(*) as n from orders where o_comment {}like '%special%requests%'"
    wanted = [Case("like", sql.format("")), Case("not like", sql.format("not "))]
    return Group("like", "LIKE '%special%requests%' on o_comment, TPC-H SF1", 2.0, None, [Stage(orders, wanted)])


def parquet_group(data: Data, scale: float) -> Group:
    files = data.tpch()
    texts = {f"TPC-H {name}": over_files(queries("tpch")[name], files) for name in ("q01", "q06")}
    texts["SSB q1.1"] = over_files(queries("ssb")["q1.1"], data.ssb(scale))
    wanted = [Case(name, sql, fresh=True) for name, sql in texts.items()]
    wanted += [Case(f"{name}, again", sql) for name, sql in texts.items()]
    return Group("parquet", "Queries straight over Parquet files", None, 0.8, [Stage({}, wanted)])


#: The groups whose cases are queries. "load" and "overhead" are measured by functions of their own in bench.py.
NAMES = ("ssb", "ssb5", "tpch", "groupby", "join", "sort", "like", "load", "parquet", "overhead")


def query_groups(data: Data, names: list[str], ssb_scale: float) -> Iterator[Group]:
    """The chosen groups, one at a time: data of a group is made when its turn comes."""
    makers = {
        "ssb": lambda: ssb_group(data, ssb_scale),
        "ssb5": lambda: ssb_group(data, 5.0, five=True),
        "tpch": lambda: tpch_group(data),
        "groupby": lambda: groupby_group(data),
        "join": lambda: join_group(data),
        "sort": lambda: sort_group(data),
        "like": lambda: like_group(data),
        "parquet": lambda: parquet_group(data, ssb_scale),
    }
    for name in names:
        if name in makers:
            yield makers[name]()
