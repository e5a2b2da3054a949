"""The 22 TPC-H queries at a small scale: every value equals DuckDB's."""

from __future__ import annotations

from pathlib import Path

import pytest
from compare import assert_same
from conftest import Engines

from finequery.workloads import queries

QUERIES = queries("tpch")


def test_all_queries_are_here() -> None:
    assert list(QUERIES) == [f"q{number:02}" for number in range(1, 23)]


@pytest.mark.parametrize("name", QUERIES)
def test_loaded(name: str, tpch_engines: Engines) -> None:
    for _ in range(2):  # the second run comes from the plan cache
        assert_same(*tpch_engines, QUERIES[name])


@pytest.mark.parametrize("name", ["q01", "q03", "q06", "q14"])
def test_over_parquet_views(name: str, tpch_dir: Path, tpch_engines: Engines) -> None:
    """Queries straight over the files give the same answers as over loaded tables."""
    names = {"q03": ("customer", "orders", "lineitem"), "q14": ("lineitem", "part")}.get(name, ("lineitem",))
    tables = ", ".join(f"{table} as (select * from '{tpch_dir / table}.parquet')" for table in names)
    assert_same(*tpch_engines, f"with {tables} {QUERIES[name]}")
