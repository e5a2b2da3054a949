"""The engines that benchmarks time, behind one small interface. Each runs on the same number of threads."""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import pyarrow as pa

#: How a result is fetched: Python rows, or one Arrow table.
ROWS, ARROW = "rows", "arrow"
OURS = "finequery"
DUCKDB, DUCKDB_FILE = "duckdb", "duckdb file"


class Engine(Protocol):
    name: str

    def load(self, tables: dict[str, Path]) -> None:
        """Make tables from Parquet files."""

    def drop(self, tables: dict[str, Path]) -> None:
        """Give the tables' memory back."""

    def run(self, sql: str, form: str = ROWS) -> Any:
        """The whole result of a query: a list of tuples, or an Arrow table."""

    def explain(self, sql: str) -> None:
        """Plan the query and show the plan, without running it."""

    def close(self) -> None: ...


class Reference(Engine, Protocol):
    """An engine with whose answers others are compared."""

    def columns(self, sql: str) -> list[str]:
        """The names of a query's columns."""


class DuckDB:
    """DuckDB in memory or, with ``path``, in a database file."""

    def __init__(self, threads: int, path: Path | None = None, name: str = ""):
        import duckdb

        self.name = name or (DUCKDB_FILE if path else DUCKDB)
        self.con: Any = duckdb.connect(str(path or ":memory:"), config={"threads": threads})

    def load(self, tables: dict[str, Path]) -> None:
        for table, path in tables.items():
            self.con.execute(f"create table {table} as select * from '{path}'")
        self.con.execute("checkpoint")

    def drop(self, tables: dict[str, Path]) -> None:
        for table in tables:
            self.con.execute(f"drop table {table}")

    def run(self, sql: str, form: str = ROWS) -> Any:
        if form == ARROW:
            return self.con.sql(sql).to_arrow_table()
        return self.con.execute(sql).fetchall()

    def columns(self, sql: str) -> list[str]:
        return list(self.con.sql(sql).columns)

    def explain(self, sql: str) -> None:
        self.con.execute(f"explain {sql}").fetchall()

    def close(self) -> None:
        self.con.close()


class FineQuery:
    """FineQuery in memory."""

    name = OURS

    def __init__(self, threads: int, device: str = "auto"):
        import finequery

        self.options: dict[str, Any] = {"threads": threads, "device": device, "progress": "off"}
        self.con: Any = finequery.connect(**self.options)

    def load(self, tables: dict[str, Path]) -> None:
        for table, path in tables.items():
            self.con.execute(f"create table {table} as select * from '{path}'")

    def drop(self, tables: dict[str, Path]) -> None:
        for table in tables:
            self.con.execute(f"drop table {table}")

    def run(self, sql: str, form: str = ROWS) -> Any:
        relation = self.con.sql(sql)
        return relation.arrow() if form == ARROW else relation.fetchall()

    def forget(self) -> None:
        """A new connection: columns read from files are kept while the files stay the same, plans too."""
        import finequery

        self.con.close()
        self.con = finequery.connect(**self.options)

    def columns(self, sql: str) -> list[str]:
        return list(self.con.sql(sql).columns)

    def explain(self, sql: str) -> None:
        self.con.sql(sql).explain()

    def close(self) -> None:
        self.con.close()


class Polars:
    """Polars' SQL over frames in memory. The number of threads is fixed when polars is first imported."""

    name = "polars"

    def __init__(self, threads: int):
        os.environ.setdefault("POLARS_MAX_THREADS", str(threads))
        import polars

        self.polars, self.context = polars, polars.SQLContext()

    def load(self, tables: dict[str, Path]) -> None:
        for table, path in tables.items():
            self.context.register(table, self.polars.read_parquet(path))

    def drop(self, tables: dict[str, Path]) -> None:
        self.context.unregister(list(tables))

    def run(self, sql: str, form: str = ROWS) -> Any:
        frame = self.context.execute(sql, eager=True)
        return frame.to_arrow() if form == ARROW else frame.rows()

    def explain(self, sql: str) -> None:
        self.context.execute(sql).explain()

    def close(self) -> None:
        pass


class DataFusion:
    """DataFusion over Arrow batches in memory."""

    name = "datafusion"

    def __init__(self, threads: int):
        import datafusion

        self.threads = threads
        self.context = datafusion.SessionContext(datafusion.SessionConfig().with_target_partitions(threads))

    def load(self, tables: dict[str, Path]) -> None:
        import pyarrow.parquet as pq

        for table, path in tables.items():
            batches = pq.read_table(path).to_batches(max_chunksize=65_536)
            parts = [batches[n :: self.threads] for n in range(self.threads)]
            self.context.register_record_batches(table, [part for part in parts if part])

    def drop(self, tables: dict[str, Path]) -> None:
        for table in tables:
            self.context.deregister_table(table)

    def run(self, sql: str, form: str = ROWS) -> Any:
        table: pa.Table = self.context.sql(sql).to_arrow_table()
        return table if form == ARROW else [tuple(row.values()) for row in table.to_pylist()]

    def explain(self, sql: str) -> None:
        self.context.sql(sql).explain()

    def close(self) -> None:
        pass


def stand_in(threads: int) -> DuckDB:
    """DuckDB under FineQuery's name: tests the benchmark itself. All ratios must be near 1."""
    return DuckDB(threads, name=OURS)


#: Engines that are no reference: they have types of their own.
OTHERS = ("polars", "datafusion")
#: All that FineQuery can be compared with.
RIVALS = (DUCKDB, *OTHERS)


def installed() -> list[str]:
    """The rivals that are there."""
    return [name for name in RIVALS if find_spec(name) is not None]


def rival(name: str, threads: int) -> Engine:
    """A rival by its name, in memory."""
    makers: dict[str, Callable[[int], Engine]] = {DUCKDB: DuckDB, "polars": Polars, "datafusion": DataFusion}
    return makers[name](threads)
