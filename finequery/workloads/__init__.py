"""The workloads that come with FineQuery: their data, made anywhere, and their queries.

``ssb`` is the Star Schema Benchmark, ``tpch`` TPC-H, ``clickbench-like`` a made web-analytics table with queries in
ClickBench's spirit. Each has a folder of queries and a module with ``TABLES``, ``generate(scale, folder)``, which makes
them, and ``size(scale)``, a table with the rows that it then has.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finequery.errors import CatalogError, DataError, nearest

if TYPE_CHECKING:
    from collections.abc import Sequence

#: The module of each workload, and its title.
_MODULES = {"ssb": "ssb", "tpch": "tpch", "clickbench-like": "hits"}
TITLES = {"ssb": "Star Schema Benchmark", "tpch": "TPC-H", "clickbench-like": "Web analytics, ClickBench-like"}
NAMES = tuple(_MODULES)
QUERIES = Path(__file__).parent / "queries"


def module(name: str) -> Any:
    """A workload's module; raises CatalogError where there is none of that name."""
    if name not in _MODULES:
        raise CatalogError(f'There is no workload "{name}": {", ".join(NAMES)}', hint=nearest(name, NAMES) or None)
    return import_module(f"finequery.workloads.{_MODULES[name]}")


def queries(name: str, only: Sequence[str] = ()) -> dict[str, str]:
    """The texts of a workload's queries, or of those that ``only`` names, in the order of their names (q1.1, q01)."""
    module(name)
    texts = {
        path.stem: path.read_text(encoding="utf-8").strip().rstrip(";")
        for path in sorted((QUERIES / name).glob("q*.sql"))
    }
    for query in only:
        if query not in texts:
            raise CatalogError(f'{TITLES[name]} has no query "{query}": {", ".join(texts)}')
    return {query: text for query, text in texts.items() if not only or query in only}


def generate(name: str, scale: float, folder: Path | None = None) -> dict[str, Path]:
    """Make a workload's tables where they are not there already: their Parquet files.

    ``scale`` is the benchmark's scale factor; ``folder`` one in the cache folder by default. Raises DataError for a
    folder that has tables of another scale.
    """
    import pyarrow.parquet as pq

    maker = module(name)
    where = maker.generate(scale, folder)
    table, rows = maker.size(scale)
    found = pq.read_metadata(where / f"{table}.parquet").num_rows
    if abs(found - rows) > 1:  # roundings
        raise DataError(
            f"'{where}' is not of scale {scale:g}: \"{table}\" has {found:,} rows, not {rows:,}",
            hint="Another folder is made for it.",
        )
    return {table: where / f"{table}.parquet" for table in maker.TABLES}
