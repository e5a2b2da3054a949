"""TPC-H and SSB without data: tables with the statistics of scale factor 1, and the queries' plans."""

from __future__ import annotations

import datetime
from pathlib import Path

from reference import StatsTable

from finequery.operators.column import Stats
from finequery.planner.logical import Node
from finequery.types import BIGINT, DATE, INTEGER, VARCHAR, SqlType, decimal

MONEY = decimal(15, 2)
DATA = Path(__file__).parent / "data"


def days(text: str) -> int:
    return (datetime.date.fromisoformat(text) - datetime.date(1970, 1, 1)).days


def key(n: int, type: SqlType = BIGINT) -> tuple[SqlType, Stats]:
    """A primary key from 1 to n."""
    return type, Stats(low=1, high=n, distinct=n, unique=True)


def number(low: int, high: int, distinct: int | None = None, type: SqlType = BIGINT) -> tuple[SqlType, Stats]:
    return type, Stats(low=low, high=high, distinct=distinct or high - low + 1)


def money(low: float, high: float, distinct: int) -> tuple[SqlType, Stats]:
    return MONEY, Stats(low=round(low * 100), high=round(high * 100), distinct=distinct)


def date(low: str, high: str) -> tuple[SqlType, Stats]:
    return DATE, Stats(low=days(low), high=days(high), distinct=days(high) - days(low) + 1)


def text(distinct: int, unique: bool = False) -> tuple[SqlType, Stats]:
    return VARCHAR, Stats(distinct=distinct, unique=unique)


def table(name: str, rows: int, /, **columns: tuple[SqlType, Stats]) -> StatsTable:
    return StatsTable(name, [(n, t) for n, (t, _) in columns.items()], rows, {n: s for n, (_, s) in columns.items()})


TPCH = {
    t.name: t
    for t in [
        table("region", 5, r_regionkey=number(0, 4, 5, INTEGER), r_name=text(5, True), r_comment=text(5)),
        table(
            "nation", 25, n_nationkey=(INTEGER, Stats(0, 24, 0, 25, unique=True)), n_name=text(25, True),
            n_regionkey=number(0, 4, 5, INTEGER), n_comment=text(25),
        ),
        table(
            "supplier", 10_000, s_suppkey=key(10_000), s_name=text(10_000, True), s_address=text(10_000),
            s_nationkey=number(0, 24, 25, INTEGER), s_phone=text(10_000), s_acctbal=money(-999, 9999, 9955),
            s_comment=text(10_000),
        ),
        table(
            "customer", 150_000, c_custkey=key(150_000), c_name=text(150_000, True), c_address=text(150_000),
            c_nationkey=number(0, 24, 25, INTEGER), c_phone=text(150_000), c_acctbal=money(-999, 9999, 140_187),
            c_mktsegment=text(5), c_comment=text(149_968),
        ),
        table(
            "part", 200_000, p_partkey=key(200_000), p_name=text(199_997), p_mfgr=text(5), p_brand=text(25),
            p_type=text(150), p_size=number(1, 50, 50, INTEGER), p_container=text(40),
            p_retailprice=money(901, 2098, 20_899), p_comment=text(131_753),
        ),
        table(
            "partsupp", 800_000, ps_partkey=number(1, 200_000), ps_suppkey=number(1, 10_000),
            ps_availqty=number(1, 9999, 9999, INTEGER), ps_supplycost=money(1, 1000, 99_865), ps_comment=text(799_124),
        ),
        table(
            "orders", 1_500_000, o_orderkey=(BIGINT, Stats(1, 6_000_000, 0, 1_500_000, unique=True)),
            o_custkey=number(1, 149_999, 99_996), o_orderstatus=text(3), o_totalprice=money(857, 555_285, 1_464_556),
            o_orderdate=date("1992-01-01", "1998-08-02"), o_orderpriority=text(5), o_clerk=text(1000),
            o_shippriority=number(0, 0, 1, INTEGER), o_comment=text(1_482_071),
        ),
        table(
            "lineitem", 6_001_215, l_orderkey=number(1, 6_000_000, 1_500_000), l_partkey=number(1, 200_000),
            l_suppkey=number(1, 10_000), l_linenumber=number(1, 7, 7, INTEGER), l_quantity=money(1, 50, 50),
            l_extendedprice=money(901, 104_949, 933_900), l_discount=money(0, 0.10, 11), l_tax=money(0, 0.08, 9),
            l_returnflag=text(3), l_linestatus=text(2), l_shipdate=date("1992-01-02", "1998-12-01"),
            l_commitdate=date("1992-01-31", "1998-10-31"), l_receiptdate=date("1992-01-04", "1998-12-31"),
            l_shipinstruct=text(4), l_shipmode=text(7), l_comment=text(4_580_667),
        ),
    ]
}  # fmt: skip

SSB = {
    t.name: t
    for t in [
        table(
            "lineorder", 6_001_215, lo_orderkey=number(1, 6_000_000, 1_500_000, INTEGER),
            lo_linenumber=number(1, 7, 7, INTEGER), lo_custkey=number(1, 30_000, 20_000, INTEGER),
            lo_partkey=number(1, 200_000, type=INTEGER), lo_suppkey=number(1, 2_000, type=INTEGER),
            lo_orderdate=number(19920101, 19980802, 2406, INTEGER), lo_orderpriority=text(5), lo_shippriority=text(1),
            lo_quantity=number(1, 50, type=INTEGER), lo_extendedprice=number(90_000, 10_500_000, 1_000_000, INTEGER),
            lo_ordtotalprice=number(80_000, 60_000_000, 1_400_000, INTEGER), lo_discount=number(0, 10, type=INTEGER),
            lo_revenue=number(80_000, 10_500_000, 3_000_000, INTEGER),
            lo_supplycost=number(54_000, 125_000, type=INTEGER),
            lo_tax=number(0, 8, type=INTEGER), lo_commitdate=number(19920131, 19981031, 2466, INTEGER),
            lo_shipmode=text(7),
        ),
        table(
            "customer", 30_000, c_custkey=key(30_000, INTEGER), c_name=text(30_000, True), c_address=text(30_000),
            c_city=text(250), c_nation=text(25), c_region=text(5), c_phone=text(30_000), c_mktsegment=text(5),
        ),
        table(
            "supplier", 2_000, s_suppkey=key(2_000, INTEGER), s_name=text(2_000, True), s_address=text(2_000),
            s_city=text(250), s_nation=text(25), s_region=text(5), s_phone=text(2_000),
        ),
        table(
            "part", 200_000, p_partkey=key(200_000, INTEGER), p_name=text(8_464), p_mfgr=text(5), p_category=text(25),
            p_brand1=text(1000), p_color=text(92), p_type=text(150), p_size=number(1, 50, type=INTEGER),
            p_container=text(40),
        ),
        table(
            "date", 2556, d_datekey=(INTEGER, Stats(19920101, 19981230, 0, 2556, unique=True)), d_date=text(2556, True),
            d_dayofweek=text(7), d_month=text(12), d_year=number(1992, 1998, type=INTEGER),
            d_yearmonthnum=number(199201, 199812, 84, INTEGER), d_yearmonth=text(84),
            d_daynuminweek=number(1, 7, type=INTEGER), d_daynuminmonth=number(1, 31, type=INTEGER),
            d_daynuminyear=number(1, 366, type=INTEGER), d_monthnuminyear=number(1, 12, type=INTEGER),
            d_weeknuminyear=number(1, 53, type=INTEGER), d_sellingseason=text(5), d_lastdayinweekfl=text(2),
            d_lastdayinmonthfl=text(2), d_holidayfl=text(2), d_weekdayfl=text(2),
        ),
    ]
}  # fmt: skip
SSB["dates"] = SSB["ddate"] = SSB["dwdate"] = SSB["date"]


class Tables:
    """A Resolver over a dictionary of tables."""

    def __init__(self, tables: dict[str, StatsTable]):
        self.tables = tables

    def table(self, parts: tuple[str, ...]) -> StatsTable | None:
        return self.tables.get(parts[-1].lower())

    def names(self) -> list[str]:
        return list(self.tables)

    def function(self, name: str, args: list[object], named: dict[str, object]) -> None:
        return None


def bound(sql: str, tables: dict[str, StatsTable]) -> Node:
    """The plan of a query, as the binder makes it."""
    from finequery.planner.binder import bind
    from finequery.planner.parse import parse
    from finequery.planner.statements import Query

    (statement,) = parse(sql)
    query = bind(statement, Tables(tables))
    assert isinstance(query, Query)
    return query.plan
