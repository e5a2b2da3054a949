"""Random queries over random tables: FineQuery and DuckDB agree, and FineQuery agrees with itself."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from compare import assert_same, row_difference, time_limit
from conftest import connect, connect_duckdb
from generate import Tables, partitions, queries, tables
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

QUERIES_PER_EXAMPLE = 6
QUIET = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example, HealthCheck.filter_too_much]
#: In CI the same examples each time, for about a minute; the slow run is random.
CI = settings(max_examples=250, deadline=None, derandomize=True, database=None, suppress_health_check=QUIET)
LONG = settings(max_examples=4000, deadline=None, suppress_health_check=QUIET)
#: At most this share of the random queries may be refused as not supported.
MOST_REFUSED = 0.05

outcomes: Counter[str] = Counter()


@pytest.fixture(scope="module")
def both() -> tuple[Any, Any]:
    return connect(), connect_duckdb()


def agree(con: Any, duck: Any, sql: str) -> None:
    """The same answer, or an error from both."""
    import duckdb

    from finequery.errors import Error, NotSupportedError

    try:
        duck.sql(sql).fetchall()
    except duckdb.Error as theirs:
        outcomes["error"] += 1
        try:
            with time_limit():
                rows = con.sql(sql).fetchall()
        except Error:
            return
        raise AssertionError(f"\n{sql}\nDuckDB: {theirs}\nFineQuery has an answer: {rows[:5]}") from theirs
    try:
        assert_same(con, duck, sql)
        outcomes["same"] += 1
    except NotSupportedError:
        outcomes["refused"] += 1
    except Error as mine:
        raise AssertionError(f"\n{sql}\nDuckDB has an answer; FineQuery: {type(mine).__name__}: {mine}") from mine


def make(con: Any, duck: Any, data: Tables) -> None:
    for statement in data.setup:
        con.execute(statement)
        duck.execute(statement)


def check_queries(both: tuple[Any, Any], data: Tables, texts: list[str]) -> None:
    make(*both, data)
    for sql in texts:
        agree(*both, sql)


def check_partition(both: tuple[Any, Any], data: Tables, query: str, predicate: str) -> None:
    """Every row is in exactly one of: WHERE p, WHERE NOT p, WHERE p IS NULL. And counting p counts the first part."""
    from finequery.errors import NotSupportedError

    con, duck = both
    make(con, duck, data)
    parts = [predicate, f"not ({predicate})", f"({predicate}) is null"]
    try:
        whole = con.sql(query).fetchall()
        rows = [con.sql(f"{query} where {part}").fetchall() for part in parts]
        together = con.sql(" union all ".join(f"{query} where {part}" for part in parts)).fetchall()
        source = query[query.index(" from ") :]
        flags = f"select sum(case when {predicate} then 1 else 0 end), count(*) {source}"
        counted = con.sql(flags).fetchall()
    except NotSupportedError:
        outcomes["refused"] += 1
        return
    outcomes["same"] += 1
    label = f"\n{query}\nwhere {predicate}\n"
    difference = row_difference([row for part in rows for row in part], whole, ordered=False)
    assert difference is None, f"{label}parts: {difference}"
    difference = row_difference(together, whole, ordered=False)
    assert difference is None, f"{label}union: {difference}"
    expected = (len(rows[0]) if whole else None, len(whole))
    assert counted == [expected], f"{label}counted {counted}, expected {expected}"


@CI
@given(tables(), st.lists(queries(), min_size=QUERIES_PER_EXAMPLE, max_size=QUERIES_PER_EXAMPLE))
def test_queries(both: tuple[Any, Any], data: Tables, texts: list[str]) -> None:
    check_queries(both, data, texts)


@CI
@given(tables(), partitions())
def test_partition(both: tuple[Any, Any], data: Tables, partition: tuple[str, str]) -> None:
    check_partition(both, data, *partition)


@pytest.mark.slow
@LONG
@given(tables(), st.lists(queries(), min_size=QUERIES_PER_EXAMPLE, max_size=QUERIES_PER_EXAMPLE))
def test_queries_long(both: tuple[Any, Any], data: Tables, texts: list[str]) -> None:
    check_queries(both, data, texts)


@pytest.mark.slow
@LONG
@given(tables(), partitions())
def test_partition_long(both: tuple[Any, Any], data: Tables, partition: tuple[str, str]) -> None:
    check_partition(both, data, *partition)


def test_little_is_refused() -> None:
    """The tests above say something only if most queries ran."""
    total = sum(outcomes.values())
    if not total:
        pytest.skip("the random queries did not run in this process")
    assert outcomes["refused"] <= MOST_REFUSED * total, f"outcomes of random queries: {dict(outcomes)}"
