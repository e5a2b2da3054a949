"""Timeouts, ``interrupt`` and Ctrl-C, in every kind of long work. Each test stops work that would take minutes, or is
made to, and asks that it ends at all: no clock says how fast."""

from __future__ import annotations

import builtins
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from stops import stopping

import finequery
from finequery import progress
from finequery.errors import InterfaceError, InterruptError, TimeoutError
from finequery.operators import watch

#: Seconds after which a test gives up on a stop: the work itself would take far longer.
BOUND = 20.0
ROWS = 1_500_000
#: A join of all pairs: minutes, or hours.
ENDLESS = "select sum(a.f * b.f) from t a, t b"


@pytest.fixture(scope="module")
def con() -> Iterator[Any]:
    rng = np.random.default_rng(5)
    with finequery.connect(threads=2) as con:
        columns = {
            "k": rng.permutation(ROWS).astype(np.int64),
            "w": rng.integers(-(2**62), 2**62, ROWS),
            "s": rng.integers(0, 100, ROWS),
            "f": rng.random(ROWS),
        }
        con.register("source", columns)
        con.execute("create table t as select *, 'row ' || (k % 400000) as x from source")
        yield con


def stopped(con: Any, work: Callable[[], Any], stop: Callable[[], Any] | None = None, after: float = 0.15) -> None:
    """``work`` ends with InterruptError when it is stopped; it is stopped again where the first came too early."""
    begin = time.monotonic()
    with stopping(stop or con.interrupt, after, 0.5), pytest.raises(InterruptError, match="stopped"):
        work()
        while time.monotonic() - begin < BOUND:  # quicker than the stop: again
            work()
    assert time.monotonic() - begin < BOUND


KINDS = {
    "probe": ENDLESS,
    "sort": "select k, f from t order by w, f",
    "sort of text": "select k from t order by x, w",
    "window": "select sum(f) over (partition by s order by f) from t",
    "moving frame": "select max(k) over (order by f rows between 9 preceding and 9 following) from t",
    "build by text": "select count(*) from t a join t b on a.x = b.x and a.w = b.w",
    "groups": "select w, sum(f) from t group by w",
    "groups of two columns": "select w, f, count(*) from t group by w, f",
    "distinct": "select s, count(distinct w) from t group by s",
    "host function": "select max(cast(w as varchar)) from t",
    "pattern": "select count(*) from t where regexp_matches(x, '(1.*2)|(3.*4)|(5.*6)')",
    "pairs with a condition": "select count(*) from t a left join t b on a.k = b.k and a.f < b.f",
}


@pytest.mark.parametrize("kind", KINDS)
def test_interrupt_from_another_thread(kind: str, con: Any) -> None:
    stopped(con, lambda: con.sql(KINDS[kind]).execute())
    assert con.sql("select count(*) from t").fetchall() == [(ROWS,)]


@pytest.mark.parametrize("kind", ["probe", "sort", "moving frame", "host function"])
def test_control_c(kind: str, con: Any) -> None:
    stopped(con, lambda: con.sql(KINDS[kind]).execute(), lambda: os.kill(os.getpid(), signal.SIGINT))
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert con.sql("select count(*) from t").fetchall() == [(ROWS,)]


@pytest.mark.parametrize("when", ["enter", "leave"])
def test_control_c_while_a_statement_begins_or_ends(when: str, con: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    real = getattr(progress, when)

    def press(one: Any) -> None:
        signal.raise_signal(signal.SIGINT)
        real(one)

    monkeypatch.setattr(progress, when, press)
    with pytest.raises(InterruptError):
        con.execute("select 42")
    monkeypatch.undo()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert not con._session.running and watch.current.get() is None
    assert con.execute("select 42").fetchall() == [(42,)]


@pytest.mark.parametrize("convert", ["df", "arrow", "numpy", "fetchall", "pl"])
def test_conversions(convert: str, con: Any) -> None:
    relation = con.sql("select k, f, x, cast(f as decimal(9, 3)) as d from t").execute()
    stopped(con, lambda: getattr(relation, convert)(), after=0.03)
    assert len(relation) == ROWS


def test_copy_leaves_no_file(con: Any, tmp_path: Path) -> None:
    for name in ("a.parquet", "a.csv"):
        stopped(con, lambda name=name: con.execute(f"copy (select * from t) to '{tmp_path / name}'"), after=0.3)
        assert not list(tmp_path.glob("*.tmp"))


@pytest.mark.parametrize("kind", ["parquet", "csv"])
def test_reading_files(kind: str, con: Any, tmp_path: Path) -> None:
    con.execute(f"copy (select k, f, x from t) to '{tmp_path}/a.{kind}'")

    def read() -> None:
        with finequery.connect() as other:
            opened.append(other)
            other.execute(f"select max(k), max(f), max(x) from '{tmp_path}/a.{kind}'")

    opened: list[Any] = []
    stopped(con, read, lambda: opened and opened[-1].interrupt(), after=0.05)
    assert con.sql(f"select count(*) from '{tmp_path}/a.{kind}'").fetchall() == [(ROWS,)]


def test_stopped_reading_begins_no_chunk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks are decoded one at a time, and none after the stop."""
    from finequery.operators import native

    pq.write_table(pa.table({"a": np.arange(400_000)}), tmp_path / "a.parquet", row_group_size=4_000)
    real, seen = native.run, []

    def run(name: str, *words: int, **more: int) -> int:
        if name == "parquet_work":
            seen.append(name)
            if len(seen) == 3:
                con.interrupt()
        return real(name, *words, **more)

    with finequery.connect(threads=1) as con:
        monkeypatch.setattr(native, "run", run)
        with pytest.raises(InterruptError):
            con.execute(f"select sum(a) from '{tmp_path}/a.parquet'")
        assert len(seen) <= 3 + os.cpu_count()  # type: ignore[operator]


def test_what_runs_aside_is_left(con: Any) -> None:
    """A call that never looks is not waited for; the plan that it may still work on is made anew."""
    held, begun, ended = threading.Event(), threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        held.wait(BOUND)
        ended.set()

    def run() -> None:
        with con._session.working("work"):
            watch.aside(watch.PIECE, work)

    stopped(con, run, lambda: begun.is_set() and con.interrupt())
    assert not ended.is_set()
    held.set()
    assert ended.wait(BOUND)
    with con._session.working("work"):
        assert watch.aside(watch.PIECE, lambda a: a + 1, 1) == 2
        with pytest.raises(ZeroDivisionError):
            watch.aside(watch.PIECE, lambda: 1 // 0)


def test_a_plan_that_was_left_is_made_anew(con: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    relation = con.sql("select k from t order by w")
    held = threading.Event()
    from finequery.operators import sort

    real = sort.sort_rows
    monkeypatch.setattr(sort, "sort_rows", lambda *a: held.wait(BOUND) and real(*a))
    stopped(con, relation.execute)
    assert relation.plan.root.spoiled
    held.set()
    monkeypatch.undo()
    before = relation.plan
    assert len(relation.fetchall()) == ROWS and relation.plan is not before


# --- timeouts --------------------------------------------------------------------------------------------------------


def test_timeout_as_a_setting(con: Any) -> None:
    con.execute("set timeout = 0.3")
    try:
        with pytest.raises(TimeoutError, match=r"after 0\.3 s.*\n.*SET timeout"):
            con.execute(ENDLESS)
        with pytest.raises(builtins.TimeoutError):
            con.sql(ENDLESS).fetchall()
        assert con.sql(ENDLESS + " where a.k < 10 and b.k < 10", timeout=0).fetchall()
        assert con.sql("select 1").fetchall() == [(1,)]
    finally:
        con.execute("reset timeout")
    assert con.settings["timeout"] is None


def test_timeout_of_a_call(con: Any) -> None:
    with pytest.raises(TimeoutError, match=r"0\.2 s"):
        con.execute(ENDLESS, timeout=0.2)
    relation = con.sql(ENDLESS, timeout=0.2)
    with pytest.raises(TimeoutError):
        relation.df()
    assert con.execute("select 1", timeout=60).fetchall() == [(1,)]
    for wrong in (-1, True, float("inf")):
        with pytest.raises(InterfaceError, match="timeout is a number of seconds"):
            con.sql("select 1", timeout=wrong)


def test_timeout_of_a_connection() -> None:
    with finequery.connect(timeout=0.2) as con:
        con.register("t", {"f": np.arange(200_000.0)})
        with pytest.raises(TimeoutError):
            con.sql(ENDLESS).execute()
        with pytest.raises(TimeoutError):  # a statement that writes
            con.execute(f"create table made as {ENDLESS}")
        assert con.sql("show tables").fetchall() == [("t",)]


def test_a_stop_beats_the_timeout(con: Any) -> None:
    with con._session.working("x", 0.01) as one:
        time.sleep(0.05)
        con.interrupt()
        assert one.stopped()
    with pytest.raises(InterruptError) as caught:
        with con._session.working("x", 0.01) as one:
            time.sleep(0.05)
            con.interrupt()
            one.check()
    assert not isinstance(caught.value, TimeoutError)


def test_interrupt_without_a_query_does_nothing(con: Any) -> None:
    con.interrupt()
    assert con.sql("select count(*) from t").fetchall() == [(ROWS,)]
