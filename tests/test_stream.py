"""Parquet files that don't fit into memory: every answer equals DuckDB's, and memory stays below the limit."""

from __future__ import annotations

import gc
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from compare import assert_same
from conftest import Engines, connect, connect_duckdb, leave

from finequery.errors import FileError, InterruptError, OutOfMemoryError
from finequery.jetson import accounts, memory
from finequery.operators import parquet_batches, partial_groups, stream
from finequery.operators.parquet_table import ParquetTable
from finequery.workloads import queries

FILES, ROWS = 40, 25_000


def part(number: int, rng: np.random.Generator) -> pa.Table:
    """One file. Dictionaries differ from file to file; only some files have NULLs; one column is in time order."""
    words = np.array([f"w{number % 7}_{k}" for k in range(20)] + ["same"])
    first = number * ROWS
    hidden = rng.random(ROWS) < 0.3 if number % 3 == 0 else None
    return pa.table(
        {
            "id": pa.array(np.arange(first, first + ROWS)),
            "g": pa.array(rng.integers(0, 50, ROWS), pa.int32()),
            "x": pa.array(rng.normal(size=ROWS)),
            "d": pa.array(rng.integers(0, 10**6, ROWS)),
            "p": pa.array(rng.integers(0, 20_000, ROWS) * 5).cast(pa.decimal128(21, 2)).cast(pa.decimal128(18, 2)),
            "w": pa.array(words[rng.integers(0, 21, ROWS)]),
            "s": pa.array([f"text {k}" for k in rng.integers(0, 3000, ROWS)]),
            "n": pa.array(rng.integers(0, 100, ROWS), pa.int64(), mask=hidden),
            "t": pa.array(np.datetime64("2024-01-01") + np.arange(first, first + ROWS).astype("timedelta64[s]")),
        }
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("folder")
    rng = np.random.default_rng(1)
    for number in range(FILES):
        pq.write_table(part(number, rng), found / f"{number:02}.parquet", row_group_size=10_000)
    return found


def size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir())


@pytest.fixture
def bounded(folder: Path) -> Iterator[Engines]:
    """A view ``t`` of the folder, with a tenth of its bytes as memory."""
    con, duck = connect(), connect_duckdb()
    for one in (con, duck):
        one.execute(f"create view t as select * from '{folder}/*.parquet'")
        one.execute("create table small as select * from (values (1, 'one'), (2, 'two'), (49, NULL)) v(g, name)")
    con.sql("select count(*) from small").fetchall()
    leave(con, size_of(folder) // 10)
    yield Engines(con, duck)
    con.close()


QUERIES = {
    "groups": "select g, count(*), count(n), sum(d), sum(p), avg(x), avg(d), avg(p), avg(n), min(x), max(t), min(n) "
    "from t group by g",
    "text keys": "select w, count(*), sum(n) from t group by w",
    "keys of text and numbers": "select w, g, max(d), any_value(w) from t group by all order by all limit 20",
    "text results": "select g, min(w), max(s) from t group by g",
    "all rows": "select count(*), count(n), sum(n), avg(n), min(w), max(s), bool_and(d >= 0), bool_or(x > 4) from t",
    "deviations": "select stddev(x), var_pop(n), stddev_samp(p), avg(x) from t",
    "deviations of groups": "select g, w, stddev(x), var_pop(n), count(*) from t group by g, w",
    "filtered aggregates": "select g, count(*) filter (where x > 0), sum(d) filter (where n > 50) from t group by g",
    "no rows": "select g, count(*) from t where id < 0 group by g",
    "no row of all": "select count(*), sum(x), stddev(x) from t where id < 0",
    "count distinct": "select count(distinct n), count(distinct w), count(distinct s) from t",
    "count distinct of groups": "select g, count(distinct w) from t group by g",
    "distinct": "select distinct w, n from t where n < 3",
    "filter and first rows": "select id, x, s from t where g = 3 order by x desc limit 10",
    "first rows": "select id, s from t order by s, id desc limit 5 offset 3",
    "first rows, NULLs first": "select n, id from t order by n desc nulls first, id limit 12",
    "limit": "select id, w from t limit 5 offset 123456",
    "one row": "select * from t where id = 700001",
    "a range": "select sum(d), min(id) from t where id between 300000 and 310000",
    "a range of times": "select count(*) from t where t >= timestamp '2024-01-05' and t < timestamp '2024-01-06'",
    "NULLs": "select g, count(*) from t where n is null group by g",
    "windows of time": "select date_trunc('hour', t) h, count(*), max(x) from t group by h",
    "join": "select name, sum(d), count(*) from t join small using (g) group by name",
    "left join": "select name, count(*) from t left join small using (g) group by name",
    "semi join": "select count(*) from t where g in (select g from small)",
    "anti join": "select count(*) from t where g not in (select g from small)",
    "anti join on a condition": "select count(*), sum(id) from t where not exists "
    "(select 1 from small where small.g = t.g and t.d > 1000)",
    "left join on a condition": "select name, count(*) from t left join small on t.g = small.g and t.d > 10 "
    "group by name",
    "streamed build side": "select name, x.c from small join (select g, count(*) c from t group by g) x using (g)",
    "scalar subquery": "select count(*) from t where x > (select avg(x) + 3 from t)",
    "union": "select k, count(*), sum(d) from (select g k, d from t union all select n, d from t) group by k",
    "host function": "select count(*) from t where regexp_matches(s, '9{2}$')",
    "shared": "with a as (select g, d from t where d % 2 = 0) "
    "select (select count(*) from a), sum(d) from a where g < 5",
}


#: Queries of few narrow columns, which fit.
FIT = {"count distinct of groups", "left join", "semi join", "anti join", "streamed build side"}


@pytest.mark.parametrize("name", QUERIES)
def test_answers_within_the_limit(bounded: Engines, name: str) -> None:
    accounts.reset_peak()
    assert_same(*bounded, QUERIES[name])
    limit = accounts.limit()
    assert limit is not None and accounts.peak() <= limit
    assert ("streamed in" in analyzed(bounded.con, QUERIES[name])) == (name not in FIT)


@pytest.mark.parametrize("name", sorted(FIT))
def test_answers_with_less_memory(bounded: Engines, name: str) -> None:
    leave(bounded.con, 900_000)
    assert_same(*bounded, QUERIES[name])
    assert "streamed in" in analyzed(bounded.con, QUERIES[name])


def analyzed(con: Any, query: str) -> str:
    return explained(con, "analyze " + query)


def explained(con: Any, query: str) -> str:
    """EXPLAIN's text in one line."""
    return " ".join(str(con.sql("explain " + query).fetchall()[0][1]).replace("│", " ").split())


def test_nothing_stays(bounded: Engines) -> None:
    """Neither the plan nor its programs hold rows of a batch."""
    con = bounded.con
    before = accounts.live()
    for name in ("groups", "filter and first rows", "join"):
        con.sql(QUERIES[name]).fetchall()
        gc.collect()
        assert accounts.live() - before < 500_000, name  # dictionaries of text, of which programs hold some


def test_a_second_run_and_other_literals(bounded: Engines) -> None:
    for value in (3, 3, 7):
        assert_same(*bounded, f"select w, sum(d) from t where g = {value} group by w")


def test_explain_says_that_it_streams(bounded: Engines) -> None:
    con = bounded.con
    text = explained(con, QUERIES["groups"])
    assert "streams in" in text and "of columns," in text and "left of the memory_limit" in text
    assert "left out" not in text
    text = explained(con, QUERIES["a range"])
    assert "streams in 1 batch " in text and "118 of 120 row groups left out by" in text
    text = analyzed(con, QUERIES["a range"])
    assert "streamed in 1 batch of at most" in text and "118 of 120 row groups left out by" in text


def test_what_fits_is_kept(folder: Path) -> None:
    with connect() as con:
        con.execute(f"create view t as select * from '{folder}/*.parquet'")
        leave(con, 100 << 20)
        assert "stream" not in analyzed(con, QUERIES["groups"])
        live = accounts.live()
        assert "stream" not in analyzed(con, QUERIES["groups"])
        assert accounts.live() <= live + 100_000


def test_other_columns_make_room(folder: Path) -> None:
    """Columns that this query does not read are let go of where it fits without them."""
    with connect() as con:
        con.execute(f"create view t as select * from '{folder}/*.parquet'")
        leave(con, 20 << 20)
        con.sql("select sum(x), min(t) from t").fetchall()
        held = accounts.live()
        assert "stream" not in con.sql("explain select sum(id), sum(d), sum(n) from t").fetchall()[0][1]
        assert accounts.live() >= held - 100_000, "EXPLAIN has let go of something"
        assert "stream" not in analyzed(con, "select sum(id), sum(d), sum(n) from t")


NEEDS_ALL = {
    "window": "select id, sum(d) over (order by x) from t",
    "sort": "select id, x, s from t order by x",
    "result": "select id, x, d from t where g < 45",
    "build side": "select count(t.s), count(t.id) from small left join t on small.g = t.d",
    "created table": "create table c as select id, x, s from t where g < 40",
}


@pytest.mark.parametrize("name", NEEDS_ALL)
def test_what_needs_all_rows_is_refused(bounded: Engines, name: str) -> None:
    text = refusal(bounded.con, NEEDS_ALL[name])
    assert "memory_limit of" in text and "for rows that are needed all at once" in text and "COPY … TO" in text
    gc.collect()
    assert_same(*bounded, QUERIES["a range"])


def refusal(con: Any, query: str) -> str:
    """What is said where memory is refused; the error, which holds what was there then, ends here."""
    try:
        con.sql(query).fetchall()
    except OutOfMemoryError as error:
        return str(error)
    return ""


def test_groups_that_do_not_fit_are_refused(bounded: Engines) -> None:
    with pytest.raises(OutOfMemoryError, match="memory_limit"):
        bounded.con.sql("select id, s, count(*) from t group by id, s").fetchall()


def test_windows_over_few_rows(bounded: Engines) -> None:
    assert_same(*bounded, "select id, sum(d) over (order by id) from t where id % 1000 = 7 order by id")


def test_copy_and_create_table(bounded: Engines, tmp_path: Path) -> None:
    """The result is larger than memory, and goes to a file nevertheless."""
    con, duck = bounded
    accounts.reset_peak()
    query = "select id, w, s, n, x, p, t from t where g < 45"
    target = tmp_path / "out.parquet"
    assert con.sql(f"copy ({query}) to '{target}'").fetchall() == duck.sql(f"select count(*) from ({query})").fetchall()
    limit = accounts.limit()
    assert limit is not None and accounts.peak() <= limit
    assert duck.sql(f"{query} except all from '{target}'").fetchall() == []
    con.execute(f"copy (select id, n, w from t) to '{tmp_path}/out.csv' (header false)")
    assert (tmp_path / "out.csv").read_bytes().count(b"\n") == FILES * ROWS
    con.execute("create table kept as select id, w from t where g = 7")
    duck.execute("create table kept as select id, w from t where g = 7")
    assert_same(con, duck, "select count(*), sum(id), min(w), max(w) from kept")
    assert list(tmp_path.glob("*.tmp")) == []


def test_a_failed_copy_leaves_nothing(bounded: Engines, tmp_path: Path) -> None:
    with pytest.raises(Exception, match=r"Overflow|range"):
        bounded.con.sql(f"copy (select (d + 9223372036854000000)::bigint from t) to '{tmp_path}/o.parquet'").fetchall()
    assert list(tmp_path.iterdir()) == []


def test_a_row_group_that_does_not_fit(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    pq.write_table(pa.table({"x": rng.normal(size=500_000)}), tmp_path / "t.parquet", row_group_size=500_000)
    with connect() as con:
        leave(con, 1 << 20)
        with pytest.raises(OutOfMemoryError, match=r'a row group of "t" takes about 3\.9 MiB') as error:
            con.sql(f"select sum(x) from '{tmp_path}/t.parquet'").fetchall()
        assert "smaller row groups" in str(error.value)
        assert "a row group is more" in con.sql(f"explain select sum(x) from '{tmp_path}/t.parquet'").fetchall()[0][1]


def test_empty_row_groups_and_files(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    some = pa.table({"k": rng.integers(0, 9, 20_000), "x": rng.normal(size=20_000)})
    for number in range(12):
        with pq.ParquetWriter(tmp_path / f"{number}.parquet", some.schema) as writer:
            for size in [0, 5000, 0, 1, 4999] if number % 3 else [0]:
                writer.write_table(some.slice(number * 100, size))
    con, duck = connect(), connect_duckdb()
    leave(con, 512 << 10)
    query = f"select k, count(*), sum(x) from '{tmp_path}/*.parquet' group by k"
    assert "streamed in" in analyzed(con, query)
    assert_same(con, duck, query)
    con.close()


def test_a_column_of_bare_nulls_in_some_files(tmp_path: Path) -> None:
    values = np.arange(50_000)
    for number in range(8):
        found = pa.array(values, mask=np.ones(50_000, bool) if number % 2 else None)
        text = pa.array([None] * 50_000 if number % 2 else [f"v{k % 5}" for k in range(50_000)], pa.string())
        pq.write_table(pa.table({"a": found, "b": text}), tmp_path / f"{number}.parquet", row_group_size=20_000)
    con, duck = connect(), connect_duckdb()
    leave(con, 1 << 20)
    for query in (
        "select b, count(*), count(a), sum(a) from '{}' group by b",
        "select count(*), max(b) from '{}' where a < 100",
        "select a, b from '{}' where a in (5, 49999) or b is null order by a nulls first, b limit 7",
    ):
        assert_same(con, duck, query.format(f"{tmp_path}/*.parquet"))
    con.close()


def test_files_of_other_integer_types(tmp_path: Path) -> None:
    """A narrower type in one file is the first file's in all; values that don't fit it are refused in mid-query."""
    values = np.arange(100_000)
    pq.write_table(pa.table({"a": values}), tmp_path / "0.parquet", row_group_size=10_000)
    pq.write_table(pa.table({"a": pa.array(values, pa.int32())}), tmp_path / "1.parquet", row_group_size=10_000)
    con, duck = connect(), connect_duckdb()
    leave(con, 256 << 10)
    query = f"select count(*), sum(a), max(a) from '{tmp_path}/*.parquet'"
    assert_same(con, duck, query)
    huge = pa.array(np.full(100_000, 2**63, np.uint64))
    pq.write_table(pa.table({"a": huge}), tmp_path / "2.parquet", row_group_size=10_000)
    with pytest.raises(FileError, match="don't fit BIGINT"):
        con.sql(query).fetchall()
    pq.write_table(pa.table({"b": values}), tmp_path / "2.parquet")
    with pytest.raises(FileError, match=r'2.parquet" has no column "a"'):
        con.sql(query).fetchall()
    con.close()


def test_a_file_that_changes_during_the_query(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(4):
        os.link(folder / f"{number:02}.parquet", tmp_path / f"{number}.parquet")
    read = parquet_batches.ParquetBatches.read
    seen: list[int] = []

    def change(self: Any, groups: Any) -> Any:
        seen.append(len(groups))
        if len(seen) == 3:
            os.unlink(tmp_path / "3.parquet")
            pq.write_table(pq.read_table(folder / "05.parquet"), tmp_path / "3.parquet", row_group_size=10_000)
        return read(self, groups)

    monkeypatch.setattr(parquet_batches.ParquetBatches, "read", change)
    with connect() as con, connect_duckdb() as duck:
        leave(con, 512 << 10)
        query = f"select sum(d), avg(x), count(*) from '{tmp_path}/*.parquet'"
        with pytest.raises(FileError, match="changed while they were read"):
            con.sql(query).fetchall()
        assert_same(con, duck, query)  # it is read anew


def test_interrupt_ends_all_threads(bounded: Engines, monkeypatch: pytest.MonkeyPatch) -> None:
    con = bounded.con
    read = parquet_batches.ParquetBatches.read

    def stop(self: Any, groups: Any) -> Any:
        con.interrupt()
        return read(self, groups)

    before = threading.active_count()
    monkeypatch.setattr(parquet_batches.ParquetBatches, "read", stop)
    with pytest.raises(InterruptError):
        con.sql(QUERIES["groups"]).fetchall()
    monkeypatch.undo()
    assert not [t for t in threading.enumerate() if t.name == "finequery-branch"], before
    assert_same(*bounded, QUERIES["a range"])


def test_progress(bounded: Engines, monkeypatch: pytest.MonkeyPatch) -> None:
    """How far a query is goes by the batches that were read."""
    con, read = bounded.con, parquet_batches.ParquetBatches.read
    seen: list[Any] = []

    def look(self: Any, groups: Any) -> Any:
        seen.append(con.progress())
        return read(self, groups)

    monkeypatch.setattr(parquet_batches.ParquetBatches, "read", look)
    con.sql(QUERIES["text results"]).fetchall()
    done = [progress.done for progress in seen if progress is not None]
    rows = [progress.pipelines[0].done_rows for progress in seen if progress is not None]
    assert len(done) > 10 and done == sorted(done) and done[0] < 0.5 < done[-1] < 1.0
    assert rows == sorted(rows) and 0 <= rows[0] < rows[-1] <= FILES * ROWS


def test_errors_in_mid_stream(bounded: Engines) -> None:
    con = bounded.con
    with pytest.raises(Exception, match=r"[Cc]onvert|cast"):
        con.sql("select sum(s::integer) from t").fetchall()
    assert not [t for t in threading.enumerate() if t.name == "finequery-branch"]
    assert_same(*bounded, QUERIES["a range"])


def test_one_thread_and_deterministic_sums(bounded: Engines) -> None:
    con = bounded.con
    con.execute("set threads = 1")
    assert_same(*bounded, QUERIES["groups"])
    con.execute("set threads = 2")
    con.execute("set deterministic = true")
    query = "select g, sum(x), avg(x) from t where id % 20 = 3 group by g order by g"
    first = con.sql(query).fetchall()
    assert "streamed in" in analyzed(con, query)
    con.execute("reset memory_limit")
    assert "streamed in" not in analyzed(con, query)
    assert first == con.sql(query).fetchall()


@pytest.fixture
def streaming(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every scan of Parquet streams, in small batches, and parts of groups are put together often."""

    def batches(self: ParquetTable, names: Any, tests: Any, evict: bool = True) -> Any:
        return parquet_batches.ParquetBatches(self.files, list(dict.fromkeys(names)), tests)

    monkeypatch.setattr(ParquetTable, "batches", batches)
    monkeypatch.setattr(parquet_batches, "LARGEST", 9 << 10)
    monkeypatch.setattr(partial_groups, "MOST", 1 << 10)


@pytest.fixture(scope="module")
def small_groups(tpch_dir: Path, ssb_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """TPC-H and SSB with row groups of 8,000 rows."""
    found = {}
    for name, source in {"tpch": tpch_dir, "ssb": ssb_dir}.items():
        found[name] = tmp_path_factory.mktemp(name)
        for path in source.glob("*.parquet"):
            pq.write_table(pq.read_table(path), found[name] / path.name, row_group_size=8_000)
    return found


@pytest.mark.parametrize("suite", ["tpch", "ssb"])
def test_benchmark_queries(streaming: None, small_groups: dict[str, Path], suite: str) -> None:
    con, duck = connect(), connect_duckdb()
    for path in small_groups[suite].glob("*.parquet"):
        for one in (con, duck):
            one.execute(f"create view {path.stem} as select * from '{path}'")
    for query in queries(suite).values():
        assert_same(con, duck, query)
    assert "streamed in" in analyzed(con, query)
    con.close()


@pytest.mark.parametrize("settings", [{"device": "gpu"}, {"board": "orin-nano"}], ids=["gpu", "board"])
def test_on_the_gpu_and_on_boards(streaming: None, tmp_path: Path, settings: dict[str, str]) -> None:
    """Batches go to the device that the pipeline is placed on."""
    import finequery

    rng = np.random.default_rng(0)
    for number in range(3):
        columns = {"g": rng.integers(0, 7, 400), "x": rng.integers(0, 999, 400), "w": [f"a{k % 5}" for k in range(400)]}
        pq.write_table(pa.table(columns), tmp_path / f"{number}.parquet", row_group_size=200)
    with finequery.connect(**settings) as con, connect_duckdb() as duck:
        for query in (
            "select w, max(x), avg(x) from '{}' where x > 9 group by w",
            "select x, g from '{}' order by 1, 2 limit 3",
        ):
            assert_same(con, duck, query.format(f"{tmp_path}/*.parquet"))
        text = analyzed(con, query.format(f"{tmp_path}/*.parquet"))
        assert "[gpu" in text and "streamed in 3 batches" in text


def test_ahead_stops_at_an_error() -> None:
    """What is made ahead is waited for when the caller stops, and errors come where their item would."""
    from finequery.operators.context import Context
    from finequery.operators.pool import get_pool

    made: list[int] = []

    def make(item: int) -> int:
        made.append(item)
        if item == 3:
            raise ValueError("three")
        return item

    got: list[int] = []
    with pytest.raises(ValueError, match="three"):
        for item in stream.ahead(Context(get_pool(2)), range(9), make):
            got.append(item)
    assert got == [0, 1, 2] and made == [0, 1, 2, 3]
    items = stream.ahead(Context(get_pool(2)), range(9), lambda i: i)
    assert next(items) == 0
    items.close()  # type: ignore[attr-defined]
    assert not [t for t in threading.enumerate() if t.name == "finequery-branch"]


def test_estimates(folder: Path) -> None:
    """Estimated bytes are near those of the columns."""
    table = ParquetTable(f"{folder}/*.parquet")
    memory.set_limit(None)
    for name, sql_type in table.columns:
        (column,) = table.load([name])
        estimate = sum(parquet_batches.estimated_bytes(table.files, name))
        most = 8 if name in "ps" else 2  # of which these files hide the range, or that values come again
        assert column.nbytes / 1.5 <= estimate <= column.nbytes * most * 1.1, (name, sql_type)
