"""Memory: look-ups that stay small, and the guards that find kernels writing where they must not."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from stops import stopping

ROOT = Path(__file__).resolve().parent.parent


def test_a_few_keys_of_many_rows_in_a_wide_range() -> None:
    """The hash table is as large as the rows are many, however unevenly their keys hash."""
    from finequery.operators.column import ColumnData, Frame
    from finequery.operators.join_keys import make_lookup
    from finequery.operators.pool import get_pool
    from finequery.types import BIGINT

    rows = 100_000
    data = np.zeros(rows + 8, dtype=np.int64)
    data[:rows] = np.arange(rows) % 3 * 2**40
    keys = ColumnData(BIGINT, "int64", rows, data[:rows])
    lookup = make_lookup(Frame({}, rows), [keys], False, True, get_pool(2), rows)
    assert lookup.kind == "chains"
    assert lookup.nbytes < 100 * rows


DAMAGE = """
import ctypes, sys
from finequery.jetson import guards, memory
block = memory.array(100, "u1")
address = block.ctypes.data
if "late" in sys.argv:
    del block
    ctypes.memset(address + 7, 1, 1)
    guards.check()
else:
    ctypes.memset(address + 100, 1, 1)
    del block
print("unnoticed")
"""


def test_guards() -> None:
    """A byte behind a block and a byte in a released one are noticed."""
    environment = dict(os.environ, FINEQUERY_GUARD="1", PYTHONPATH=str(ROOT))
    for argument, words in (("past", "1 bytes written past the end"), ("late", "written after its release")):
        done = subprocess.run(
            [sys.executable, "-c", DAMAGE, argument], env=environment, capture_output=True, text=True, timeout=60
        )
        assert words in done.stderr and "unnoticed" not in done.stdout, done.stderr


FORK = """
import os, signal
import finequery
import numpy as np
import pytest

rows = {"k": np.arange(150_000) % 1000, "s": np.array([f"n{i % 50}" for i in range(150_000)], dtype=object)}
query = "select s, count(*), sum(k) from t group by s order by s"

def answer():
    con = finequery.connect(threads=2)
    con.register("rows", rows)
    con.execute("create table t as select * from rows")
    return con.sql(query).fetchall()

before = answer()
child = os.fork()
if child == 0:
    signal.alarm(60)
    os._exit(0 if answer() == before else 1)
assert os.waitpid(child, 0)[1] == 0
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_forked_child_has_threads_of_its_own() -> None:
    subprocess.run([sys.executable, "-c", FORK], env=dict(os.environ, PYTHONPATH=str(ROOT)), check=True, timeout=100)


def test_results_outlive_their_table_and_connection() -> None:
    """Arrow results are views: what is freed and taken again must not show in them."""
    import finequery

    rows = 300_000
    con = finequery.connect(threads=2)
    con.register("source", {"k": np.arange(rows), "w": np.arange(rows) * 10**9, "f": np.arange(rows) / 4})
    con.execute("create table t as select * from source")
    results = [
        con.sql("select * from t").arrow(),
        con.sql("select k + 1 as k, w, f * 2 as f from t where k % 3 > 0").arrow(),
    ]
    want = [table.slice(1000, 5000).to_pylist() for table in results]
    con.execute("drop table t")
    con.close()
    del con
    other = finequery.connect(threads=2)
    other.register("source", {name: np.full(rows, 7) for name in "kwf"})
    other.execute("create table t as select * from source")
    other.sql("select k + 1 as k, w * 2 as w, f from t where k > 0").arrow()
    assert [table.slice(1000, 5000).to_pylist() for table in results] == want


def test_threads_share_a_connection_and_a_database() -> None:
    """Queries of several threads, on one connection and on cursors with pools of their own."""
    import finequery

    rows = 150_000
    con = finequery.connect(threads=2)
    con.register("source", {"k": np.arange(rows) % 7001, "g": np.arange(rows) % 13, "v": np.arange(rows)})
    con.execute("create table t as select * from source")
    queries = [
        "select g, count(*), sum(v) from t group by g order by g",
        "select count(*), sum(a.v) from t a join (select * from t where g = 3) b on a.k = b.k",
        "select k, v from t order by k desc, v limit 20",
        "select count(*) from (select distinct k, g from t) x",
        "select count(*) from t a where not exists (select 1 from t b where b.g = 5 and b.k = a.k and b.v > a.v)",
    ]
    want = [con.sql(sql).fetchall() for sql in queries]
    wrong: list[str] = []

    def work(connection: finequery.Connection, start: int) -> None:
        try:
            for n in range(start, start + 15):
                if connection.sql(queries[n % len(queries)]).fetchall() != want[n % len(queries)]:
                    wrong.append(queries[n % len(queries)])
        except BaseException as error:
            wrong.append(repr(error))

    others = [con.cursor() for _ in range(3)]
    for number, cursor in enumerate(others):
        cursor.execute(f"set threads = {number + 1}")
    threads = [threading.Thread(target=work, args=(c, n)) for n, c in enumerate([con, con, *others])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_interrupts_leave_the_connection_as_it_was() -> None:
    """Stopped anywhere in a join with many partners, also by Ctrl-C; the plan that was stopped runs again."""
    import finequery
    from finequery.errors import InterruptError

    rows = 150_000
    con = finequery.connect(threads=2)
    con.register("source", {"g": np.arange(rows) % 20, "v": np.arange(rows)})
    con.execute("create table t as select * from source")
    long, short = "select count(*), sum(a.v - b.v) from t a join t b on a.g = b.g", "select sum(v) from t where g = 3"
    want = con.sql(short).fetchall()
    for n in range(8):
        stop = con.interrupt if n % 2 else lambda: os.kill(os.getpid(), signal.SIGINT)
        with stopping(stop, 0.2 + 0.03 * n, 0.5), pytest.raises((InterruptError, KeyboardInterrupt)):
            con.sql(long).fetchall()
        assert con.sql(short).fetchall() == want
