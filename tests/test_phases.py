"""Pipelines in two phases: a second pool of threads does one of them, batch by batch. Answers are those of one device,
wherever the cut is and whoever failed; the buffer between the phases stays small."""

from __future__ import annotations

import signal
import threading
from types import SimpleNamespace
from typing import Any

import pytest
import test_coexecution as both

from finequery.errors import DataError, InterruptError, NotSupportedError
from finequery.operators.aggregate_calls import Call as Aggregated
from finequery.operators.context import BOTH, Context, Measured, Placement
from finequery.operators.cuts import cuts
from finequery.operators.expr import Call, Column
from finequery.operators.phases import DEPTH, Channel
from finequery.operators.pipeline import Pipeline
from finequery.operators.probe import Probe
from finequery.operators.sides import Posing, PosingSide, SideFailed
from finequery.operators.steps import Filter, Project
from finequery.types import BIGINT, BOOLEAN, VARCHAR

con, place = both.con, both.place
answer = both.answer
BATCH = 65536
BATCHES = -(-both.ROWS // BATCH)
QUERIES = {
    **both.QUERIES,
    "runs": "select i, sum(x), count(y) from t where x < 900 group by i order by i",
    "NULLs in one batch": "select sum(z), count(z), count(*) from (select x, case when i < 9 then null else i end as z "
    "from t) where x > 1",
    "beyond 64 bits": "select sum(x * 35184372088832) from t where x > 1",
    "many of them": "select k * 8 + g as q, sum(x), min(y) from t where x > 5 group by q order by q",
    "text of groups": "select s || 'x' as z, count(*), max(s) from t where x > 5 group by z order by z",
    "left": "select t.i, d.name from t left join d on t.g = d.g where x < 100",
    "semi": "select count(*), sum(y) from t where g in (select g from d where name <> 'one') and x > 3",
    "mark": "select count(*), sum(y) from t where (g in (select g from d) or x < 7) and x > 3",
    "expanded": "select d.name, count(*), sum(e.v * t.x) from t join e on t.g = e.g join d on d.g = t.g "
    "where t.x + e.v > 20 group by d.name order by d.name",
    "further condition": "select sum(t.x), count(*) from t join e on t.g = e.g and e.v + t.x > 40 where t.x < 300",
    "computed before": "select w, count(*) from (select x * 3 + g as w, y from t) where w > 50 group by w order by w",
    "blocks skipped": "select g, sum(x), count(*) from t where i >= 600000 and x > 3 group by g order by g",
    "nothing passes": "select g, sum(x) from t where x > 5000 group by g",
    "nothing passes, one row": "select sum(x), count(*) from t where x + g > 5000",
    "no columns": "select count(*) from t where x % 3 = 1",
}


def cut_at(cut: int, first: str = "cpu", batch: int = BATCH) -> Placement:
    return Placement("phases", cut=cut, first=first, batch=batch)


def threads() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name == "finequery-branch"]


def phased(context: Context) -> Measured:
    """The record of the pipeline that ran on both devices."""
    (record,) = [m for m in context.measured.values() if m.device == BOTH]
    return record


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The tasks and Probes that were asked for their placement."""
    items: list[Any] = []
    plain = Context.where

    def where(self: Context, item: Any) -> Placement:
        items.append(item)
        return plain(self, item)

    monkeypatch.setattr(Context, "where", where)
    return items


@pytest.mark.parametrize("sql", QUERIES.values(), ids=QUERIES)
@pytest.mark.parametrize("cut", [1, 2, 3])
@pytest.mark.parametrize("first", ["cpu", "gpu"])
def test_answers(sql: str, cut: int, first: str, con: Any, place: Any, asked: list[Any]) -> None:
    expected = answer(con, sql)
    asked.clear()
    contexts = place(cut_at(cut, first), Posing(2))
    assert answer(con, sql) == expected
    for item in asked:
        record = contexts[0].measured.get(id(item))
        if record is not None and cut in cuts(item) and getattr(item, "rows", None) is None:
            assert record.departed == []
    assert threads() == []


@pytest.mark.parametrize("batch", [0, 3 * BATCH, 10**9])
@pytest.mark.parametrize("first", ["cpu", "gpu"])
def test_both_work(batch: int, first: str, con: Any, place: Any) -> None:
    seen: list[int] = []
    contexts = place(cut_at(1, first, batch), Posing(1, seen.append))
    assert answer(con, QUERIES["join"])
    record = phased(contexts[0])
    assert record.departed == [] and record.morsels == BATCHES and 0 < record.shared <= BATCHES
    assert seen == list(range(0, BATCHES, {0: 1, 3 * BATCH: 3, 10**9: BATCHES}[batch]))
    assert record.rows_in == both.ROWS and record.bytes > both.ROWS
    assert sorted(device for device, _, _ in record.spans) == ["cpu"] * len(seen) + ["gpu"] * len(seen)


def test_rows_behind_steps_are_counted(con: Any, place: Any) -> None:
    contexts = place(Placement(), Posing(1))
    answer(con, QUERIES["expanded"])
    place(cut_at(2, "gpu"), Posing(1))
    answer(con, QUERIES["expanded"])
    one, two = contexts[0], contexts[-1]
    assert phased(two) and one.passed and sorted(one.passed.values()) == sorted(two.passed.values())


def test_programs_are_kept(con: Any, place: Any) -> None:
    sql = "select g, sum(x) from t where x > 17 group by g order by g"
    contexts = place(cut_at(1), Posing(1))
    assert answer(con, sql) == answer(con, sql)
    assert [phased(c).compiled for c in contexts] == [True, False]


def test_back_pressure(con: Any, place: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """However slow the second phase is, the first is a few batches ahead at the most."""
    change, counts, ahead = threading.Condition(), {"offered": 0, "taken": 0}, []
    plain = Channel.put

    def put(self: Channel, item: Any) -> bool:
        with change:
            counts["offered"] += 1
            ahead.append(counts["offered"] - counts["taken"])
            change.notify_all()
        return plain(self, item)

    def slow(first: int) -> None:
        """Take no batch before the first phase has gone as far as it gets."""
        with change:
            counts["taken"] += 1
            most = min(counts["taken"] + DEPTH + 1, BATCHES)
            assert change.wait_for(lambda: counts["offered"] >= most, 60)

    monkeypatch.setattr(Channel, "put", put)
    expected = answer(con, QUERIES["join"])
    contexts = place(cut_at(1, "cpu"), Posing(1, slow))
    assert answer(con, QUERIES["join"]) == expected
    assert phased(contexts[0]).departed == [] and counts == {"offered": BATCHES, "taken": BATCHES}
    # what is offered and not taken: in the channel, one before it, and one that was taken from it a moment ago
    assert DEPTH + 1 <= max(ahead) <= DEPTH + 2


@pytest.mark.parametrize("sql", QUERIES.values(), ids=QUERIES)
@pytest.mark.parametrize("first", ["cpu", "gpu"])
@pytest.mark.parametrize("after", [0, 3])
def test_a_device_fails(sql: str, first: str, after: int, con: Any, place: Any) -> None:
    """The CPU goes on from the batch at which the device failed, and EXPLAIN says why."""
    expected = answer(con, sql)
    calls: list[int] = []

    def fails(batch: int) -> None:
        calls.append(batch)
        if len(calls) > after:
            raise MemoryError("no room")

    contexts = place(cut_at(1, first), Posing(1, fails))
    assert answer(con, sql) == expected
    reasons = {r for m in contexts[0].measured.values() for r in m.departed}
    assert ("the device failed: no room" in reasons) == (len(calls) > after)
    assert threads() == []


def test_the_batch_is_not_done_twice(con: Any, place: Any) -> None:
    for first in ("cpu", "gpu"):
        calls: list[int] = []

        def fails(batch: int, calls: list[int] = calls) -> None:
            calls.append(batch)
            if len(calls) == 4:
                raise MemoryError("no room")

        contexts = place(cut_at(1, first), Posing(1, fails))
        answer(con, QUERIES["join"])
        record = phased(contexts[-1])
        assert calls == [0, 1, 2, 3] and record.shared == 3 and record.morsels == BATCHES


@pytest.mark.parametrize("first", ["cpu", "gpu"])
@pytest.mark.parametrize("name", ["join", "expansion", "many of them", "runs"])
def test_a_device_fails_half_way(first: str, name: str, con: Any, place: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it has left in the sink can't be told from what was there before: all is done anew by the CPU. In the first
    phase, whose sink is new for every batch, only that batch."""
    expected = answer(con, QUERIES[name])
    plain, calls = PosingSide.batch, []

    def batch(self: PosingSide, *arguments: Any) -> None:
        plain(self, *arguments)
        calls.append(arguments[1])
        if len(calls) == 3:
            raise SideFailed("lost the connection")

    monkeypatch.setattr(PosingSide, "batch", batch)
    contexts = place(cut_at(1, first), Posing(1))
    assert answer(con, QUERIES[name]) == expected
    (record,) = [m for m in contexts[0].measured.values() if m.departed]
    assert record.departed == ["lost the connection"]
    assert record.device == (BOTH if first == "gpu" else "cpu") and len(calls) == 3


def test_strict(con: Any, place: Any) -> None:
    def fails(first: int) -> None:
        raise MemoryError("no room")

    for first in ("cpu", "gpu"):
        place(cut_at(1, first), Posing(1, fails), strict=True)
        with pytest.raises(NotSupportedError, match="the device failed: no room"):
            answer(con, QUERIES["join"])
        place(cut_at(9, first), Posing(1), strict=True)
        with pytest.raises(NotSupportedError, match="no 9 steps"):
            answer(con, QUERIES["join"])
    assert threads() == []


@pytest.mark.parametrize("first", ["cpu", "gpu"])
@pytest.mark.parametrize("row", [10, both.ROWS - 10])
@pytest.mark.parametrize(
    "sql",
    [
        "select g, sum(x) from t where x // (i - {}) >= -5 group by g",
        "select g, sum(x // (i - {})) from t where i >= 0 and x % 2 < 5 group by g",
    ],
    ids=["in the first phase", "in the second phase"],
)
def test_an_error_of_the_query_ends_both(sql: str, row: int, first: str, con: Any, place: Any) -> None:
    place(cut_at(1, first), Posing(1))
    with pytest.raises(DataError, match="Division by zero"):
        answer(con, sql.format(row))
    assert threads() == []
    assert answer(con, "select count(*) from t where x >= 0") == [(both.ROWS,)]


@pytest.mark.parametrize("first", ["cpu", "gpu"])
@pytest.mark.parametrize("at", [0, 5])
def test_interrupt_ends_both(first: str, at: int, con: Any, place: Any) -> None:
    def stop(batch: int) -> None:
        if batch == at:
            con.interrupt()

    place(cut_at(1, first), Posing(1, stop))
    with pytest.raises(InterruptError):
        answer(con, QUERIES["join"])
    assert threads() == []
    assert answer(con, QUERIES["few groups"])


def test_ctrl_c_ends_both(con: Any, place: Any) -> None:
    """The signal comes while the calling thread does the second phase or waits for the first."""

    def press(batch: int) -> None:
        if batch == DEPTH + 2:  # the second phase has begun
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    place(cut_at(1, "gpu"), Posing(1, press))
    with pytest.raises(InterruptError):
        answer(con, QUERIES["join"])
    assert threads() == []


def test_few_rows(con: Any, place: Any) -> None:
    con.execute("create or replace table few as select i, x, g from t where i < 1")
    con.execute("create or replace table none as select i, x, g from t where i < 0")
    for first in ("cpu", "gpu"):
        place(cut_at(1, first), Posing(1))
        assert answer(con, "select g, sum(x) from few where x % 2 = 0 group by g") == [(0, 0)]
        assert answer(con, "select g, sum(x) from few where x % 2 = 1 group by g") == []
        assert answer(con, "select sum(x), count(*) from none where x % 2 = 1") == [(None, 0)]
        assert answer(con, "select g, sum(x) from none where x % 2 = 1 group by g") == []
        assert answer(con, "select d.name from few join d on few.g = d.g where x % 2 = 0") == [("zero",)]


def test_what_can_be_cut() -> None:
    a, b, c, name = (Column(BIGINT, i) for i in (1, 2, 3, 4))
    keep = Filter(Call(BOOLEAN, "gt", (a, b)))
    named = Project(((c, a),))
    computed = Project(((c, Call(BIGINT, "add", (a, b))),))
    probe = Probe("inner", None, ((a, b),), (name,))
    outer = Probe("left", None, ((a, b),), (name,))
    host = Filter(Call(BOOLEAN, "no_such_instruction", (Column(VARCHAR, 9),)))

    def grouped(steps: list[Any], *calls: tuple[str, Column]) -> list[int]:
        made = tuple(Aggregated(Column(BIGINT, 90), call, argument, None) for call, argument in calls)
        return cuts(SimpleNamespace(steps=steps, calls=made))

    def written(steps: list[Any]) -> list[int]:
        return cuts(SimpleNamespace(steps=steps))

    assert cuts(SimpleNamespace()) == [] == written([]) == grouped([])
    assert written([keep]) == [] and grouped([keep]) == [1]
    assert written([keep, named]) == [] and written([keep, computed]) == [1] and written([named, keep]) == []
    assert written([keep, probe, keep]) == [1, 2] and grouped([named, probe, named]) == [2, 3]
    assert written([keep, host]) == [] == grouped([host, keep])
    assert grouped([keep, probe], ("sum", a)) == [1, 2]
    # a row number of the source has no meaning beyond its batch; of a build side it has, where that is probed later
    assert grouped([keep, probe], ("first", a)) == []
    assert grouped([keep, probe], ("first", name)) == [1] and grouped([keep, outer], ("first", name)) == []
    assert grouped([keep, probe, Project(((c, name),))], ("any_value", c)) == [1]


def test_parts_are_made_once(con: Any, place: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Pipeline] = []
    plain = Pipeline.run

    def run(self: Pipeline, *arguments: Any, **named: Any) -> Any:
        seen.append(self)
        return plain(self, *arguments, **named)

    monkeypatch.setattr(Pipeline, "run", run)
    place(cut_at(1), Posing(1))
    sql = "select g, sum(x) from t where x > 19 group by g"
    answer(con, sql)
    (parts,) = [p.phases[1] for p in seen if p.phases]
    answer(con, sql)
    assert [p.phases[1] for p in seen if p.phases][-1] is parts


def test_channel() -> None:
    channel = Channel(2)
    assert channel.put(1) and channel.put(2)
    taker = iter(channel)
    assert next(taker) == 1 and channel.put(3)
    channel.end()
    assert list(taker) == [2, 3]
    failed = Channel(2)
    failed.put(1)
    failed.end(DataError("bad"))
    with pytest.raises(DataError, match="bad"):
        next(iter(failed))
    full = Channel(1)
    full.put(1)
    closer = threading.Thread(target=full.close)
    closer.start()
    assert not full.put(2)  # waits for room, until nobody takes any more
    closer.join()
