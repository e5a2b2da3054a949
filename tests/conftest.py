"""Data and connections that the tests share."""

from __future__ import annotations

import gc
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

# Kernels run in Numba's simulator, which has to be said before anybody imports Numba. The engine's own builders do that
# in processes of their own. scripts/gpu_check.py sets FINEQUERY_CUDA=device to use a chip.
os.environ.setdefault("FINEQUERY_CUDA", "simulator")
if os.environ["FINEQUERY_CUDA"] == "simulator":
    os.environ["NUMBA_ENABLE_CUDASIM"] = "1"

# A shell's background processes, and theirs, ignore Ctrl-C, which some tests press.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

ROOT = Path(__file__).resolve().parent.parent
for folder in (ROOT, ROOT / "scripts", ROOT / "tests"):
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))

TPCH_SCALE = 0.01
SSB_SCALE = 0.05


class Engines(NamedTuple):
    """FineQuery and DuckDB over the same data."""

    con: Any
    duck: Any


def set_morsel(monkeypatch: pytest.MonkeyPatch, rows: int) -> None:
    """Morsels of so many rows, so that small tables have several."""
    from finequery.operators import evaluate, phases, program, row_tables, run, sides

    for module in (evaluate, phases, program, row_tables, run, sides):
        monkeypatch.setattr(module, "MORSEL", rows)


def leave(con: Any, nbytes: int) -> None:
    """So many bytes more than those that are in use may be taken; what earlier tests left would make room."""
    from finequery.jetson import accounts

    gc.collect()
    con.execute(f"set memory_limit = {accounts.live() + nbytes}")


def only_gpu(con: Any, duck: Any, statement: str) -> tuple[Any, Any]:
    """Both engines after a statement; FineQuery's queries run on the GPU or not at all."""
    for engine in (con, duck):
        engine.execute(statement)
    con.execute("set device = 'gpu'")
    con.execute("set strict = true")
    return con, duck


def connect() -> Any:
    import finequery
    from finequery.operators import native

    native.load()  # kernels that have to be built are built here, not in a query whose time is limited
    return finequery.connect(threads=2)


def connect_duckdb() -> Any:
    import duckdb

    duck = duckdb.connect(config={"threads": 2})
    duck.execute("set timezone = 'UTC'")
    return duck


def load(folder: Path, tables: tuple[str, ...]) -> Engines:
    """Both engines with ``tables`` loaded from the Parquet files in ``folder``."""
    engines = Engines(connect(), connect_duckdb())
    for engine in engines:
        for table in tables:
            engine.execute(f"create table {table} as select * from '{folder / table}.parquet'")
    return engines


@pytest.fixture(scope="session")
def tpch_dir() -> Path:
    """TPC-H at scale 0.01, one Parquet file a table. Made once and kept in the cache folder."""
    from finequery.workloads import tpch

    return tpch.generate(TPCH_SCALE)


@pytest.fixture(scope="session")
def ssb_dir() -> Path:
    """SSB at scale 0.05, one Parquet file a table. Made once and kept in the cache folder."""
    from finequery.workloads import ssb

    return ssb.generate(SSB_SCALE)


@pytest.fixture(scope="session")
def tpch_engines(tpch_dir: Path) -> Engines:
    from finequery.workloads import tpch

    return load(tpch_dir, tpch.TABLES)


@pytest.fixture(scope="session")
def ssb_engines(ssb_dir: Path) -> Engines:
    from finequery.workloads import ssb

    return load(ssb_dir, ssb.TABLES)


@pytest.fixture
def con() -> Iterator[Any]:
    """An empty FineQuery connection."""
    connection = connect()
    yield connection
    connection.close()


@pytest.fixture
def duck() -> Iterator[Any]:
    """An empty DuckDB connection."""
    connection = connect_duckdb()
    yield connection
    connection.close()


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "slow: takes minutes; run with -m slow")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("-m"):
        return
    skip = pytest.mark.skip(reason="slow; run with -m slow")
    for item in items:
        if item.get_closest_marker("slow"):
            item.add_marker(skip)


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    """Files of the sqllogictest format are tests too."""
    if file_path.suffix in (".test", ".slt"):
        return SltFile.from_parent(parent, path=file_path)
    return None


class SltFile(pytest.File):
    def collect(self) -> Iterator[pytest.Item]:
        yield SltItem.from_parent(self, name=self.path.stem)


class SltItem(pytest.Item):
    """One file of the sqllogictest format; all of its failing records are reported, not just the first."""

    def runtest(self) -> None:
        import slt

        report = slt.run_file(self.path, slt.FineQuery(connect()))
        if report.failures:
            raise slt.SltFailure(report)
        if not report.passed:
            pytest.skip(report.skip_reason or "no record applies to FineQuery")

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        import slt

        if isinstance(excinfo.value, slt.SltFailure):
            return str(excinfo.value)
        return super().repr_failure(excinfo)

    def reportinfo(self) -> tuple[Path, int, str]:
        return self.path, 0, self.path.name
