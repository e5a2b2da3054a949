"""The CUDA path, in Numba's simulator or on a chip: answers equal DuckDB's, pipelines run where they were asked to, and
what can't is said."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import older_duckdb
import pytest
import slt
import tiny
from compare import assert_same
from conftest import Engines, connect, connect_duckdb, set_morsel

from finequery import workloads
from finequery.errors import DataError, Error, NotSupportedError
from finequery.jetson import device
from finequery.operators import run as run_module
from finequery.operators import sides
from finequery.operators.context import Measured, Placement
from finequery.operators.cuda import run
from finequery.session import Session

DATA = Path(__file__).parent / "data"
EDGES = sorted((DATA / "edges").glob("*.sql"))
#: Those that the simulator is through with in seconds.
QUICK = {"intervals", "null_safe_joins", "payloads_by_packed_key", "text", "untaken_branches", "wide_numbers"}
#: What stays on the CPU in the edge scripts. A reason that ends otherwise is new.
KNOWN = ("is a host function", "string_agg joins text on the CPU")
#: A script of joins with build sides that turn out to have no rows: their columns are then constants.
NO_PARTNERS = "outer_joins_with_nothing"
#: Queries of which a part gets no rows, so that nothing of it runs anywhere.
NO_ROWS = {
    "select string_agg(s, '') from t where a > 100",
    "select median(a), string_agg(s, ',') from t where false",
}


def engines(benchmark: str, folder: Path) -> Engines:
    """Both engines with a few thousand rows of each table, and the GPU asked for without departures."""
    made = Engines(connect(), connect_duckdb())
    tiny.fill(made.duck, benchmark, folder)
    tiny.load(made.con, made.duck, benchmark)
    made.con.execute("set device = 'gpu'")
    made.con.execute("set strict = true")
    return made


@pytest.fixture(scope="module")
def tpch_tiny(tpch_dir: Path) -> Engines:
    return engines("tpch", tpch_dir)


@pytest.fixture(scope="module")
def ssb_tiny(ssb_dir: Path) -> Engines:
    return engines("ssb", ssb_dir)


@pytest.fixture
def devices(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Where programs ran."""
    found: set[str] = set()
    note = Measured.ran_on
    monkeypatch.setattr(Measured, "ran_on", lambda self, name: (found.add(name), note(self, name)))
    return found


@pytest.fixture
def foreseen(monkeypatch: pytest.MonkeyPatch) -> list[tuple[dict[str, bool], set[str]]]:
    """Of every query: the reasons that its plan shows, each with whether it is certain, and those of its run."""
    from finequery.operators import executor
    from finequery.operators.cuda import support

    found: list[tuple[dict[str, bool], set[str]]] = []
    run_plan = executor.execute

    def execute(root: Any, context: Any) -> Any:
        if context.gpu is None:
            return run_plan(root, context)
        shown = {r.text: r.certain for each in support.reasons(root, context).values() for r in each}
        assert not context.results and not context.measured  # nothing ran for that
        result = run_plan(root, context)
        found.append((shown, {reason for m in context.measured.values() for reason in m.departed}))
        return result

    monkeypatch.setattr(executor, "execute", execute)
    return found


@pytest.fixture
def gpu(con: Any) -> Any:
    con.execute("create table t as select * from (values (1, 10, 'a'), (2, 20, 'b'), (3, null, 'a')) v(i, x, s)")
    con.execute("set device = 'gpu'")
    return con


@pytest.mark.parametrize("path", sorted((workloads.QUERIES / "tpch").glob("*.sql")), ids=lambda path: path.stem)
def test_tpch(path: Path, tpch_tiny: Engines, devices: set[str], foreseen: list[Any]) -> None:
    assert_same(*tpch_tiny, path.read_text())
    assert devices == {"gpu"} and foreseen == [({}, set())]


@pytest.mark.parametrize("path", sorted((workloads.QUERIES / "ssb").glob("*.sql")), ids=lambda path: path.stem)
def test_ssb(path: Path, ssb_tiny: Engines, devices: set[str], foreseen: list[Any]) -> None:
    assert_same(*ssb_tiny, path.read_text())
    assert devices == {"gpu"} and foreseen == [({}, set())]


@pytest.mark.parametrize(
    "path", [pytest.param(p, id=p.stem, marks=[] if p.stem in QUICK else pytest.mark.slow) for p in EDGES]
)
def test_edges(path: Path, con: Any, duck: Any, foreseen: list[Any]) -> None:
    """Answers, and departures that are known from the plan. One that is not certain may come to nothing: whether text
    that was computed is coded depends on the data."""
    import duckdb

    for sql in older_duckdb.statements(path):
        if not sql.startswith(("select", "with")):
            con.execute(sql)
            duck.execute(sql)
            continue
        con.execute("set device = 'gpu'")
        try:
            duck.execute(sql).fetchall()
        except duckdb.Error:
            with pytest.raises(Error):
                con.execute(sql).fetchall()
            continue
        assert_same(con, duck, sql)
        while foreseen:
            shown, departed = foreseen.pop()
            loose = sql.strip() in NO_ROWS or path.stem == NO_PARTNERS
            certain = set() if loose else {reason for reason, sure in shown.items() if sure}
            assert certain <= departed <= set(shown), sql
            assert all(reason.endswith(KNOWN) for reason in departed), sql


SETS = [
    "select x from t union select i from t order by all",
    "select s, i from t union all select 'new', x from t order by all",
    "select i from t intersect select i + 1 from t order by all",
    "select i from t except select 2 order by all",
    "select i from t union all select i from t intersect all select i from t order by all",
    "select s from t except all select 'a' order by all",
    "select distinct s from t order by s",
    "select distinct on (s) s, i from t order by s, i",
    "select count(distinct s), count(distinct x), sum(distinct i) from t",
    "select upper(s) || '-' || lower(s), trim(s), substring(s, 1, 1), replace(s, 'a', 'z'), count(*) from t "
    "group by all order by all",
    "select s || u, concat_ws('/', u, s), s like u, upper(u) || s, count(*) from t, (select distinct s from t) o(u) "
    "group by all order by all",
    "select coalesce(l.u, r.u) from (select s || s as u, i from t) l full join (select s as u, i + 1 as i from t) r "
    "on l.i = r.i order by 1 nulls first",
]


@pytest.mark.parametrize("sql", SETS)
def test_strictly_on_the_gpu(gpu: Any, duck: Any, sql: str) -> None:
    """Sets are joins and groups; functions of coded text are tables by code."""
    duck.execute("create table t as select * from (values (1, 10, 'a'), (2, 20, 'b'), (3, null, 'a')) v(i, x, s)")
    gpu.execute("set strict = true")
    assert_same(gpu, duck, sql)


@pytest.mark.slow
@pytest.mark.parametrize("path", sorted(Path(__file__).parent.glob("slt/*.test")), ids=lambda path: path.stem)
def test_slt(path: Path) -> None:
    connection = connect()
    connection.execute("set device = 'gpu'")
    report = slt.run_file(path, slt.FineQuery(connection))
    assert not report.failures, str(slt.SltFailure(report))


# --- errors of the query ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "sql",
    [
        "select sum(x + i * 100000000000000000000) from t where x * 1000000000 * i * 1000000000 > 1",
        "select x * 214748364 from t",
        "select x::tinyint * 100::tinyint from t",
        "select (x * 100)::tinyint from t",
        "select s::integer from t",
        "select x // (i - 1) from t",
        "select sum(x % (i - 1)) from t",
    ],
)
def test_errors_are_the_same(gpu: Any, sql: str) -> None:
    said = {}
    for name in ("cpu", "gpu"):
        gpu.execute(f"set device = '{name}'")
        with pytest.raises(DataError) as raised:
            gpu.execute(sql).fetchall()
        said[name] = (type(raised.value), str(raised.value))
    assert said["cpu"] == said["gpu"]


# --- where it runs, and why not ---------------------------------------------------------------------------------------


COMPUTED = "select min(s || 'x') from t where regexp_matches(s || i::varchar, 'a.') and reverse(s || i::varchar) > '1'"


def test_strict_names_the_reason(gpu: Any) -> None:
    gpu.execute("set strict = true")
    with pytest.raises(NotSupportedError, match=r"can't run on the GPU: regexp_matches is a host function") as raised:
        gpu.execute(COMPUTED).fetchall()
    assert "SET strict = false" in str(raised.value)
    gpu.execute("set strict = false")
    assert gpu.execute(COMPUTED).fetchall() == [("ax",)]


def test_explain_shows_the_device(gpu: Any) -> None:
    sql = "select i, sum(x) from t where i < 3 group by i"
    info = device.probe()
    assert info is not None
    name, what = ("gpu simulated", "the simulated GPU") if info.simulated else ("gpu", "the GPU")
    for analyze in (False, True):
        assert f"Pipeline 1 [{name}] result" in gpu.sql(sql).explain(analyze=analyze)
    moved = re.search(rf"(\S+ \S+) moved to {what}, (\S+ \S+) back\.", gpu.sql(sql).explain(analyze=True))
    assert moved is not None
    if info.integrated:  # the simulator says that it is
        assert moved.groups() == ("0 B", "0 B")
    gpu.execute("set device = 'cpu'")
    assert "Pipeline 1 [cpu] result" in gpu.sql(sql).explain(analyze=True)


def test_explain_says_all_reasons(gpu: Any) -> None:
    """The plan shows them before it ran."""
    for analyze in (False, True):
        text = gpu.sql(COMPUTED).explain(analyze=analyze)
        assert "on the CPU: regexp_matches is a host function; reverse is a host function" in text


def test_strict_names_all_reasons_before_anything_runs(gpu: Any, devices: set[str]) -> None:
    """Also those of other pipelines: a subquery's, a window's."""
    gpu.execute("set strict = true")
    sql = (
        "select string_agg(reverse(s || i::varchar), ',' order by i) from t "
        "where i < (select max(length(s || x::varchar)) from t)"
    )
    with pytest.raises(NotSupportedError) as raised:
        gpu.execute(sql).fetchall()
    for reason in ("string_agg joins text on the CPU", "reverse is a host function", "concat is a host function"):
        assert reason in str(raised.value)
    assert devices == set()


def test_all_reasons_of_a_program() -> None:
    """Each instruction without a form has its reason; what reads its result has none of its own."""
    from finequery.operators.cuda.translate import Unsupported, translate
    from finequery.operators.program import Instruction, Out, Program, Reg

    lost, also = Reg(8), Reg(8)
    program = Program()
    for name, words in (("mystery", [Out(lost)]), ("abs_i64", [lost, 8, Out(also)]), ("other_mystery", [])):
        program.instructions.append(Instruction(name, list(words), pure=False))
    with pytest.raises(Unsupported) as raised:
        translate(program)
    assert str(raised.value) == "mystery has no form on the GPU; other mystery has no form on the GPU"


# --- kernels that fail ------------------------------------------------------------------------------------------------


def refused() -> Exception:
    from finequery.jetson.cuda import cuda

    return cuda().cudadrv.driver.CudaAPIError("[719] Call to cuLaunchKernel results in UNKNOWN_ERROR")


@pytest.mark.parametrize("failure", [refused, lambda: MemoryError("no 8 GB left")], ids=["launch", "memory"])
@pytest.mark.parametrize("late", [False, True], ids=["before", "after"])
def test_a_failed_kernel_ends_on_the_cpu(
    gpu: Any, monkeypatch: pytest.MonkeyPatch, failure: Callable[[], Exception], late: bool
) -> None:
    """``after``: the kernel has written into its tables, which the CPU must not find."""
    launch = run.Run._launch

    def fail(self: Any, *arguments: Any) -> bool:
        if late:
            launch(self, *arguments)
        raise failure()

    queries = {
        "select s, sum(x), count(*) from t group by s order by s": [("a", 10, 2), ("b", 20, 1)],
        "select sum(i), max(x) from t where i > 1": [(5, 20)],
        "select a.i from t a join t b on a.i = b.i where a.x > 10": [(2,)],
    }
    monkeypatch.setattr(run.Run, "_launch", fail)
    for sql, answer in queries.items():
        for _ in range(2):
            assert gpu.execute(sql).fetchall() == answer
        text = gpu.sql(sql).explain(analyze=True)
        if "order by" not in sql and "join" not in sql:  # sorts and builds have kernels of their own, which work
            assert "[gpu" not in text
        assert ("out of memory: no 8 GB left" if "8 GB" in str(failure()) else "the kernel failed: [719]") in text
    gpu.execute("set strict = true")
    with pytest.raises(NotSupportedError, match=r"on the GPU: (the kernel failed|out of memory)"):
        gpu.execute("select sum(i) from t").fetchall()
    monkeypatch.setattr(run.Run, "_launch", launch)
    for sql, answer in queries.items():
        assert gpu.execute(sql).fetchall() == answer


def test_a_defect_is_no_departure(gpu: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> bool:
        raise IndexError("out of bounds")

    monkeypatch.setattr(run.Run, "_launch", fail)
    with pytest.raises(Exception, match="out of bounds"):
        gpu.execute("select sum(i) from t").fetchall()


def several_morsels(con: Any, monkeypatch: pytest.MonkeyPatch, placement: Placement) -> list[Any]:
    """Small morsels, so that there are several, and all pipelines placed so; the contexts of later queries."""
    set_morsel(monkeypatch, 64)
    plain, contexts = Session.context, []

    def context(self: Session, physical: Any) -> Any:
        contexts.append(plain(self, physical))
        contexts[-1].placement = placement
        return contexts[-1]

    monkeypatch.setattr(Session, "context", context)
    return contexts


def fill(con: Any) -> None:
    con.execute(
        "create table t as select i, (i * 7919) % 1000 as x, case when i % 11 = 0 then null else i % 97 end as y, "
        "i % 5 as g, (i * 31) % 50021 as k, 'n' || (i % 13) as s from range(400) r(i)"
    )
    con.execute("create table e as select * from (values (0, 1), (0, 2), (1, 3), (3, 4), (3, 5)) v(g, v)")
    con.execute("set device = 'gpu'")


@pytest.mark.parametrize("first", ["cpu", "gpu"])
@pytest.mark.parametrize(
    "sql",
    [
        "select count(*), sum(x), min(y), max(y), avg(x) from t where x > 100",
        "select g, count(*), sum(y), min(s) from t where x > 100 group by g order by g",
        "select t.i, e.v, t.s, t.y from t join e on t.g = e.g where t.x < 600",
        "select t.g, sum(e.v), count(y) from t join e on t.g = e.g where t.x + e.v > 20 group by t.g order by t.g",
    ],
)
def test_phases(sql: str, first: str, con: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Kernels over ranges of the source's rows, or over the batches that the CPU hands on."""
    fill(con)
    want = con.sql(sql).fetchall()
    contexts = several_morsels(con, monkeypatch, Placement("phases", cut=1, first=first, batch=64))
    assert con.sql(sql).fetchall() == want
    (record,) = [m for m in contexts[0].measured.values() if m.device == "cpu and gpu"]
    assert record.departed == [] and record.shared == record.morsels == 7


def test_a_table_that_may_fill_up_is_no_second_phase(con: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(con)
    sql = "select k * 100000007 as q, sum(x) from t where x > 100 group by q order by q"
    want = con.sql(sql).fetchall()
    contexts = several_morsels(con, monkeypatch, Placement("phases", cut=1, first="cpu", batch=64))
    assert con.sql(sql).fetchall() == want
    departed = [r for m in contexts[0].measured.values() for r in m.departed]
    assert departed == ["a table of groups that may fill up takes all rows at once"]


@pytest.mark.parametrize(
    "sql",
    [
        "select count(*), sum(x), min(y), max(y), avg(x) from t where x > 100",
        "select g, count(*), sum(x), max(s) from t group by g order by g",
        "select k, sum(x), count(y) from t group by k order by k",
        "select i, x, s from t where x % 7 = 3",
        "select i + 1, y * 2 from t",
        "select t.i, e.v from t join e on t.g = e.g where t.x < 200",
        "select g, first(i) from t group by g order by g",
    ],
)
def test_both_devices_at_one_pipeline(sql: str, con: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel takes batches of morsels from the back while the CPU takes others from the front."""
    fill(con)
    want = con.sql(sql).fetchall()
    begun, batch, on_cpu = threading.Event(), sides.CudaSide.batch, run_module._Run._on_cpu
    contexts = several_morsels(con, monkeypatch, Placement("both", 0.5))
    monkeypatch.setattr(sides.CudaSide, "batch", lambda self, *a: (begun.set(), batch(self, *a)))
    monkeypatch.setattr(run_module._Run, "_on_cpu", lambda self, job: (begun.wait(60), on_cpu(self, job)))
    assert con.sql(sql).fetchall() == want
    assert any(0 < m.shared < m.morsels for m in contexts[0].measured.values())
