"""Results that were begun and not finished leave nothing behind: no account, watch, lock, or handler of Ctrl-C."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import leave

import finequery
from finequery import dbapi
from finequery.errors import NotSupportedError
from finequery.jetson import accounts
from finequery.operators import watch

ROWS = 400_000


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = tmp_path_factory.mktemp("suspended") / "rows.parquet"
    table = pa.table({"i": np.arange(ROWS), "v": np.arange(ROWS) * 0.5})
    pq.write_table(table, path, row_group_size=20_000)
    return path


@pytest.fixture(params=["table", "parquet", "streamed"])
def con(request: pytest.FixtureRequest, path: Path) -> Iterator[finequery.Connection]:
    """Rows ``t`` in memory, in a file, and in a file that does not fit."""
    before = accounts.limit()
    con = finequery.connect(threads=2)
    create = "create table" if request.param == "table" else "create view"
    con.execute(f"{create} t as select * from '{path}'")
    if request.param == "streamed":
        leave(con, 4_000_000)
    yield con
    con.close()
    accounts.set_limit(before)


def row(con: finequery.Connection, query: str) -> Any:
    relation = con.sql(query)
    assert relation.fetchone() is not None
    return relation


def rows(con: finequery.Connection, query: str) -> Any:
    found = iter(con.sql(query))
    next(found)
    return found


def batches(con: finequery.Connection, query: str) -> Any:
    reader = con.sql(query).record_batches(1000)
    assert reader.read_next_batch().num_rows == 1000
    return reader


def c_stream(con: finequery.Connection, query: str) -> Any:
    import pyarrow as pa

    reader = pa.RecordBatchReader.from_stream(con.sql(query))
    reader.read_next_batch()
    return reader


def untaken(con: finequery.Connection, query: str) -> Any:
    return con.sql(query).__arrow_c_stream__()


def cursor(con: finequery.Connection, query: str) -> Any:
    other = con.cursor()
    relation = other.sql(query)
    relation.fetchmany(10)
    return other, relation


def db_api(con: finequery.Connection, query: str) -> Any:
    opened = dbapi.connect()
    left = opened.cursor()
    left.execute("select range from range(10000)")
    left.fetchone()
    next(iter(left))
    reader = left.fetch_record_batch()
    reader.read_next_batch()
    return opened, left, reader


def frames(con: finequery.Connection, query: str) -> Any:
    """What COPY takes, where it is left and ended."""
    relation = con.sql(query)
    assert relation.plan is not None
    taken = con._session.frames(relation.plan, {})
    next(taken)
    assert accounts.current.get() is None, "while somebody else has the rows"
    taken.close()
    return taken


def failed_copy(con: finequery.Connection, query: str) -> Any:
    """The error's traceback has all that the statement had."""
    with pytest.raises(NotSupportedError, match="INTERVAL") as error:
        con.execute("copy (select i, v, interval 1 day as d from t) to 'never.parquet' (format parquet)")
    return error


@pytest.mark.parametrize(
    "begin", [row, rows, batches, c_stream, untaken, cursor, db_api, frames, failed_copy], ids=lambda f: f.__name__
)
@pytest.mark.parametrize("thread", [False, True], ids=["here", "thread"])
def test_nothing_is_left(
    con: finequery.Connection,
    begin: Callable[[finequery.Connection, str], Any],
    thread: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    query = "select i, v from t where i % 4 <> 1 limit 5000"
    kept: list[Any] = []

    def work() -> None:
        kept.append(begin(con, query))
        kept.append((accounts.current.get(), watch.current.get()))

    in_thread(work) if thread else work()
    assert kept[1] == (None, None)
    assert accounts.current.get() is None and watch.current.get() is None
    assert con._session.running == []
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert not list(tmp_path.iterdir())
    answer: list[Any] = []
    in_thread(lambda: answer.append(con.sql("select count(*), sum(i) from t").fetchall()))
    assert answer == [[(ROWS, ROWS * (ROWS - 1) // 2)]]


def in_thread(work: Callable[[], None]) -> None:
    """Do the work in another thread, which has to end."""
    done = threading.Thread(target=work, daemon=True)
    done.start()
    done.join(20)
    assert not done.is_alive(), "it waits for a lock"
