"""What crosses between CPU and GPU: queries over a fake device's memory, by kernels in Numba's simulator."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import tiny
from compare import assert_same
from conftest import connect, connect_duckdb, set_morsel
from fake_cuda import H100, ORIN, Library, Simulated, install

import finequery
from finequery import workloads
from finequery.errors import DataError
from finequery.jetson import cuda, gpu, memory
from finequery.operators import run, sides
from finequery.operators.context import Placement
from finequery.session import Session

SIMULATED = cuda.simulated()  # the fake driver takes the variable away that says so
QUERIES = [("tpch", name) for name in ("q01", "q03", "q06", "q09", "q13", "q16", "q18", "q22")] + [("ssb", "q4.1")]


class Fake(NamedTuple):
    """A connection on a machine with a fake device, and DuckDB with the same tables."""

    con: Any
    duck: Any
    device: Simulated
    library: Library


def machine(attributes: dict[int, int], patch: pytest.MonkeyPatch, limit: int | None = None) -> Fake:
    if not SIMULATED:
        pytest.skip("kernels of a chip do not reach the fake device's memory")
    cuda.cuda()  # while the environment still asks for the simulator
    library = Library(attributes, memory=1 << 32, late=True)
    device = Simulated(install(patch, library, limit))
    patch.setattr(gpu, "open_device", lambda: device)
    con = connect()
    con.execute("set device = 'gpu'")
    return Fake(con, connect_duckdb(), device, library)


@pytest.fixture(scope="module")
def boards(tpch_dir: Path, ssb_dir: Path) -> Iterator[dict[str, Fake]]:
    """A Jetson with TPC-H and with SSB."""
    with pytest.MonkeyPatch.context() as patch:
        first = machine(ORIN, patch)
        second = first._replace(con=connect(), duck=connect_duckdb())
        second.con.execute("set device = 'gpu'")
        found = {"tpch": first, "ssb": second}
        for (benchmark, fake), folder in zip(found.items(), (tpch_dir, ssb_dir)):
            tiny.fill(fake.duck, benchmark, folder)
            tiny.load(fake.con, fake.duck, benchmark)
        yield found


@pytest.fixture
def jetson(monkeypatch: pytest.MonkeyPatch) -> Fake:
    return machine(ORIN, monkeypatch)


@pytest.fixture
def discrete(monkeypatch: pytest.MonkeyPatch) -> Fake:
    return machine(H100, monkeypatch)


def fill(fake: Fake, rows: int = 500) -> None:
    for engine in (fake.con, fake.duck):
        engine.execute(f"""create table t as select i::integer as i, (i % 7)::integer as g, i * 0.5::double as d,
            case when i % 3 > 0 then i * 2 end as n, 'word ' || (i % 5) as s from range({rows}) r(i)""")


@pytest.mark.parametrize(("benchmark", "name"), QUERIES, ids=[name for _, name in QUERIES])
def test_nothing_moves_on_a_board(boards: dict[str, Fake], benchmark: str, name: str) -> None:
    """Columns, look-ups, tables of groups, sorted rows and results, cold and hot."""
    board, sql = boards[benchmark], (workloads.QUERIES / benchmark / f"{name}.sql").read_text()
    board.con.execute("set strict = true")
    assert_same(board.con, board.duck, sql)
    assert "0 B moved to the GPU, 0 B back." in board.con.sql(sql).explain(analyze=True)
    assert board.device.moved.total == 0 and not board.library.copies


@pytest.mark.parametrize(
    "call",
    [
        "row_number() over (partition by g order by d desc)",
        "sum(n) over (partition by g order by i)",
        "avg(n) over (order by i rows between 3 preceding and current row)",
        "min(d) over (order by i rows between 2 preceding and 2 following)",
        "lag(i, 2) over (order by d)",
        "nth_value(n, 2 ignore nulls) over (partition by s order by i)",
        "rank() over (order by u)",
    ],
)
def test_windows_move_nothing(jetson: Fake, call: str) -> None:
    fill(jetson, 120)
    sql = f"select i, {call} as w from (select *, s || '!' as u from t) order by i"
    assert_same(jetson.con, jetson.duck, sql)
    assert jetson.device.moved.total == 0


@pytest.mark.parametrize(
    "sql",
    [
        "select s || i as k, count(*), sum(n) from t group by k",  # groups that are numbered
        "select d, n, count(*) from t group by d, n",
        "select * from t order by d desc",  # rows fetched by number
        "select s || i as u, n from t order by u limit 20",
        "select a.i, b.s from t a join t b on a.g = b.g and a.s = b.s where a.i < 50",  # packed keys
        "select a.i, b.d from t a join t b on a.n = b.n",
        "select a.s from t a left join t b on a.i * 1000000007::bigint = b.i * 1000000007::bigint + 1",
        "select distinct g, s from t union all select g, s from t where i < 5",
    ],
)
def test_breakers_move_nothing(jetson: Fake, sql: str) -> None:
    fill(jetson, 300)
    assert_same(jetson.con, jetson.duck, sql)
    assert jetson.device.moved.total == 0


def test_results_of_the_cpu_are_read_where_they_lie(jetson: Fake) -> None:
    """A pipeline that is no kernel writes to where the next one's kernel reads."""
    fill(jetson)
    sql = "select g, sum(i) from t where reverse(s || i::varchar) > '1' group by g"
    assert_same(jetson.con, jetson.duck, sql)
    assert "reverse is a host function" in jetson.con.sql(sql).explain(analyze=True)
    assert jetson.device.moved.total == 0


def test_sessions_without_the_gpu_never_start_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fake = machine(ORIN, monkeypatch)
    calls = fake.library.calls
    calls.clear()  # of the device that the fixture made
    memory._slabs.clear()
    fake.con.execute("set device = 'cpu'")
    fill(fake)
    for engine in (fake.con, fake.duck):
        engine.execute("insert into t select * from t where i > 10")
    assert_same(fake.con, fake.duck, "select count(*), sum(t.d) from t join t u using (i)")
    for form in ("arrow", "df", "numpy", "arrays", "fetchall"):
        getattr(fake.con.sql("select * exclude s from t order by d"), form)()
    with finequery.connect(str(tmp_path / "db"), device="cpu") as con:
        con.execute("create table t as select 1 as x")
    assert not calls and not memory._slabs


def test_columns_of_a_session_without_the_gpu_move_once(jetson: Fake) -> None:
    """Into memory that the GPU reaches, when it first reads them: said, and never again."""
    jetson.con.execute("set device = 'cpu'")
    fill(jetson)
    assert jetson.con.sql("select sum(i) from t").fetchone() == (124_750,)
    jetson.con.execute("set device = 'gpu'")
    assert "1.0 KB moved to the GPU" in jetson.con.sql("select sum(i) from t").explain(analyze=True)
    for _ in range(2):
        assert "0 B moved to the GPU" in jetson.con.sql("select max(i) from t").explain(analyze=True)
    assert jetson.device.moved.total == 0  # by the CPU


def test_columns_of_a_stored_table(jetson: Fake, tmp_path: Path) -> None:
    """The pages of a file are read once into memory that the GPU reaches."""
    with finequery.connect(str(tmp_path / "db"), device="cpu") as con:
        con.execute("create table t as select i, i % 5 as g from range(3000) r(i)")
    for _ in range(2):
        with finequery.connect(str(tmp_path / "db"), device="gpu") as con:
            for moved in ("9.0 KB", "0 B"):
                text = con.sql("select g, sum(i) from t group by g").explain(analyze=True)
                assert f"{moved} moved to the GPU, 0 B back" in text


# Devices with memory of their own


def test_hot_columns_stay(discrete: Fake) -> None:
    fill(discrete)
    sql = "select sum(i), min(d), count(n) from t"
    assert_same(discrete.con, discrete.duck, sql)
    assert discrete.device.resident.nbytes >= 500 * (2 + 8)
    before = discrete.device.moved.to_device
    discrete.con.execute(sql)
    hot = discrete.device.moved.to_device - before
    assert hot < 500


def test_a_stored_table_is_copied_once(discrete: Fake, tmp_path: Path) -> None:
    with finequery.connect(str(tmp_path / "db")) as con:
        con.execute("create table t as select i from range(30000) r(i)")
    with finequery.connect(str(tmp_path / "db"), device="gpu") as con:
        con.execute("select sum(i) from t")
        before = discrete.device.moved.to_device
        con.execute("select sum(i) from t")
        assert discrete.device.moved.to_device - before < 1000


def test_what_a_pipeline_writes_for_the_next_stays(discrete: Fake) -> None:
    """Its columns come to the host, and do not go back."""
    fill(discrete)
    sql = """with a as materialized (select i * 1000 + g as v, n + 1 as w from t where i % 2 = 0)
        select count(*), sum(v), (select max(v) + count(w) from a) from a where v > 3000"""
    assert_same(discrete.con, discrete.duck, sql)
    discrete.library.copies.clear()
    discrete.con.execute(sql)
    sizes = [nbytes for way, nbytes in discrete.library.copies if way == "to device"]
    assert sizes and max(sizes) <= 500, sizes  # v has 250 values of 4 bytes; w, whose NULLs the CPU clears, of 2


@pytest.mark.parametrize("attributes", [ORIN, H100], ids=["integrated", "discrete"])
@pytest.mark.parametrize(
    "sql",
    [
        "select i + 1, n * 2, d + i from t",
        "select i, s || '', n from t where g < 5",
        "select g, count(*), sum(d), max(s) from t group by g order by g",
    ],
)
def test_both_devices_at_one_pipeline(monkeypatch: pytest.MonkeyPatch, attributes: Any, sql: str) -> None:
    """The GPU takes batches from the back, the CPU the front: what the one wrote is not what the other copies."""
    fake = machine(attributes, monkeypatch)
    fill(fake, 400)
    wanted = fake.con.sql(sql).fetchall()
    begun, plain = threading.Event(), Session.context
    batch, on_cpu = sides.CudaSide.batch, run._Run._on_cpu

    def context(self: Session, physical: Any) -> Any:
        found = plain(self, physical)
        found.placement = Placement("both", 0.5)
        return found

    set_morsel(monkeypatch, 64)
    monkeypatch.setattr(Session, "context", context)
    monkeypatch.setattr(sides.CudaSide, "batch", lambda self, *a: (begun.set(), batch(self, *a)))
    monkeypatch.setattr(run._Run, "_on_cpu", lambda self, job: (begun.wait(60), on_cpu(self, job)))
    moved = fake.device.moved.total
    assert fake.con.sql(sql).fetchall() == wanted
    assert (fake.device.moved.total == moved) is (attributes is ORIN)


def test_limit(discrete: Fake) -> None:
    fill(discrete, 20_000)
    resident = discrete.device.resident
    whole = resident.limit
    discrete.con.execute("select sum(d), sum(i), sum(n) from t")
    assert resident.nbytes > 200_000
    discrete.con.execute("set gpu_memory_limit = '180kB'")
    assert discrete.con.sql("select sum(d) from t").fetchone() == (99_995_000.0,)
    assert resident.limit == 180_000 and 160_000 <= resident.nbytes <= 180_000
    assert discrete.con.sql("show gpu_memory_limit").fetchone() == ("180000",)
    discrete.con.execute("set gpu_memory_limit = '10kB'")  # less than one column: the CPU does it, and says why
    text = discrete.con.sql("select sum(d) from t").explain(analyze=True)
    assert "[cpu]" in text and "would pass the limit" in text
    discrete.con.execute("reset gpu_memory_limit")
    assert discrete.con.sql("show gpu_memory_limit").fetchone() == ("default",)
    discrete.con.execute("select sum(d) from t")
    assert resident.limit == whole
    with pytest.raises(DataError, match="gpu_memory_limit must be a size"):
        discrete.con.execute("set gpu_memory_limit = '50%'")
