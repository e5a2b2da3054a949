"""Two devices at one pipeline: a second pool of threads stands for the device, so that hand-off, help and failure
happen between real threads. Answers are those of one device, whatever the share was and whoever failed."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from stops import stopping

import finequery
from finequery.errors import DataError, InterruptError, NotSupportedError
from finequery.operators import program
from finequery.operators.context import Context, Measured, Placement
from finequery.operators.program import Job
from finequery.operators.run import _Run
from finequery.operators.sides import Posing
from finequery.session import Session

ROWS = 700_000
QUERIES = {
    "scalar": "select count(*), sum(x), min(y), max(y), avg(x) from t where x > 100",
    "few groups": "select g, count(*), sum(x), max(s) from t group by g order by g",
    "many groups": "select k, sum(x), count(y) from t group by k order by k",
    "wide": "select g, sum(x::hugeint * 1000000000000) from t group by g order by g",
    "rows": "select i, x, s from t where x % 7 = 3",
    "all rows": "select i + 1, y * 2 from t",
    "text": "select s || '-' || g from t where x < 50",
    "join": "select d.name, sum(t.x) from t join d on t.g = d.g group by d.name order by d.name",
    "expansion": "select t.i, e.v from t join e on t.g = e.g where t.x < 20",
    "first": "select g, first(i) from t group by g order by g",
    "no rows": "select i from t where x < 0",
    "groups by text": "select s, count(*) from t group by s order by s",
}


@pytest.fixture(scope="module")
def con() -> Any:
    con = finequery.connect(threads=2)
    con.execute(
        f"create table t as select i, (i * 7919) % 1000 as x, case when i % 11 = 0 then null else i % 97 end as y, "
        f"i % 5 as g, (i * 31) % 50021 as k, 'n' || (i % 13) as s from range({ROWS}) r(i)"
    )
    con.execute("create table d as select * from (values (0, 'zero'), (1, 'one'), (2, 'two'), (3, 'three')) v(g, name)")
    con.execute("create table e as select * from (values (0, 1), (0, 2), (1, 3), (3, 4), (3, 5)) v(g, v)")
    return con


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[Context]]:
    """Put all pipelines of later queries somewhere; their contexts."""
    made: list[Context] = []
    plain = Session.context

    def choose(placement: Placement, device: Posing, strict: bool = False) -> list[Context]:
        def context(self: Session, physical: Any) -> Context:
            made.append(plain(self, physical))
            made[-1].gpu, made[-1].placement, made[-1].strict = device, placement, strict
            return made[-1]

        monkeypatch.setattr(Session, "context", context)
        return made

    return choose


def answer(con: Any, sql: str) -> list[Any]:
    return con.sql(sql).fetchall()


def devices(context: Context) -> set[str]:
    return {m.device for m in context.measured.values() if m.device}


@pytest.mark.parametrize("sql", QUERIES.values(), ids=QUERIES)
@pytest.mark.parametrize("placement", [Placement("gpu"), Placement("both", 0.5), Placement("both", 1.0)], ids=str)
def test_answers(sql: str, placement: Placement, con: Any, place: Any) -> None:
    expected = answer(con, sql)
    contexts = place(placement, Posing(2))
    assert answer(con, sql) == expected
    assert devices(contexts[0]) - {"cpu", "gpu", "cpu and gpu"} == set()


def test_both_work(con: Any, place: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The CPU begins when the device has taken something, and the device goes on when the CPU has done something."""
    begun, done, plain = threading.Event(), threading.Event(), _Run._on_cpu

    def on_cpu(self: _Run, job: Job) -> None:
        begun.wait(60)
        plain(self, job)
        done.set()

    monkeypatch.setattr(_Run, "_on_cpu", on_cpu)
    contexts = place(Placement("both", 0.5), Posing(1, fails=lambda first: (begun.set(), done.wait(60))))
    answer(con, QUERIES["many groups"])
    (record,) = [m for m in contexts[0].measured.values() if m.morsels]
    assert 0 < record.shared < record.morsels


def test_who_is_through_helps(con: Any, place: Any) -> None:
    """A share that is far off: the slow side ends up with less than it was given."""
    contexts = place(Placement("both", 1.0), Posing(1, fails=lambda first: time.sleep(0.3)))
    answer(con, QUERIES["many groups"])
    (record,) = [m for m in contexts[0].measured.values() if m.morsels]
    assert record.shared < record.morsels


@pytest.mark.parametrize("sql", QUERIES.values(), ids=QUERIES)
@pytest.mark.parametrize("after", [0, 2])
def test_the_device_fails(sql: str, after: int, con: Any, place: Any) -> None:
    """What it had done is done again by the CPU, and EXPLAIN says why."""
    expected = answer(con, sql)
    calls: list[int] = []

    def fails(first: int) -> None:
        calls.append(first)
        if len(calls) > after:
            raise MemoryError("no room")

    contexts = place(Placement("both", 0.6), Posing(1, fails))
    assert answer(con, sql) == expected
    reasons = {r for m in contexts[0].measured.values() for r in m.departed}
    assert "the device failed: no room" in reasons or len(calls) <= after


def test_failure_of_all(con: Any, place: Any) -> None:
    def fails(first: int) -> None:
        raise MemoryError("no room")

    expected = answer(con, QUERIES["scalar"])
    contexts = place(Placement("gpu"), Posing(1, fails))
    assert answer(con, QUERIES["scalar"]) == expected
    assert devices(contexts[0]) == {"cpu"}
    place(Placement("gpu"), Posing(1, fails), strict=True)
    with pytest.raises(NotSupportedError, match="the device failed: no room"):
        answer(con, QUERIES["scalar"])


@pytest.mark.parametrize("passes", [1, program.MOST_PASSES])
def test_an_error_of_the_query_ends_both(con: Any, place: Any, passes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    # so few passes that each side is inside of its program when it is stopped
    monkeypatch.setattr(program, "MOST_PASSES", passes)
    monkeypatch.setattr(program, "PASSES", min(passes, program.PASSES))
    place(Placement("both", 0.5), Posing(1))
    for row in (10, ROWS - 10):  # on the CPU's part and on the device's
        with pytest.raises(DataError, match="Division by zero"):
            answer(con, f"select sum(x // (i - {row})) from t")
    assert answer(con, "select count(*) from t") == [(ROWS,)]


def test_interrupt_ends_both(con: Any, place: Any) -> None:
    place(Placement("both", 0.5), Posing(1))
    with stopping(con.interrupt, 0.2), pytest.raises(InterruptError):
        answer(con, "select count(*) from t a join t b on a.g = b.g where a.x + b.x = 3")
    assert answer(con, "select count(*) from t") == [(ROWS,)]


def test_departures_join() -> None:
    whole, part = Measured(), Measured()
    part.ran_on("gpu")
    part.depart("why")
    whole.ran_on("cpu")
    whole.join(part)
    whole.join(part)
    assert (whole.device, whole.departed) == ("cpu and gpu", ["why"])
