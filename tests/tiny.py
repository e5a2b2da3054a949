"""TPC-H and SSB with a few thousand rows in the fact tables: what Numba's CUDA simulator can take."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from finequery.workloads import ssb, tpch

if TYPE_CHECKING:
    import pyarrow as pa

#: Which rows of the tables to take. A simulated thread needs a fifth of a millisecond a row. SSB's rows are those of
#: some orders, and those that the most selective queries look for.
ROWS = {
    "tpch": {"orders": "o_orderkey < 4500", "lineitem": "l_orderkey < 4500", "partsupp": "ps_partkey % 4 < 2"},
    "ssb": {
        "part": "p_partkey % 3 = 0",
        "lineorder": """lo_orderkey % 90 = 0
            or lo_partkey in (select p_partkey from part where p_brand1 = 'MFGR#2239')
            or lo_custkey in (select c_custkey from customer where c_city in ('UNITED KI1', 'UNITED KI5'))
            and lo_suppkey in (select s_suppkey from supplier where s_city in ('UNITED KI1', 'UNITED KI5'))""",
    },
}


def fill(duck: Any, benchmark: str, folder: Path) -> None:
    """Make the tables of a benchmark in DuckDB from its Parquet files."""
    rows = ROWS[benchmark]
    tables = tpch.TABLES if benchmark == "tpch" else ssb.TABLES
    for table in sorted(tables, key=list(rows).__contains__):
        condition = rows.get(table, "true")
        duck.execute(f"create table {table} as select * from '{folder / table}.parquet' where {condition}")


def arrow_tables(duck: Any, benchmark: str) -> dict[str, pa.Table]:
    """The tables of ``fill``."""
    import pyarrow as pa

    found = {}
    for table in tpch.TABLES if benchmark == "tpch" else ssb.TABLES:
        data = duck.sql(f"select * from {table}").arrow()
        found[table] = data.read_all() if isinstance(data, pa.RecordBatchReader) else data
    return found


def load(con: Any, duck: Any, benchmark: str) -> None:
    """Make them in FineQuery as well."""
    for table, source in arrow_tables(duck, benchmark).items():
        con.register("source", source)
        con.execute(f"create table {table} as select * from source")


def folder(benchmark: str) -> Path:
    """The folder of the benchmark's Parquet files at the tests' scale."""
    return tpch.generate(0.01) if benchmark == "tpch" else ssb.generate(0.05)
