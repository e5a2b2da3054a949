"""Branches of a plan at the same time: that two really overlap is shown by barriers that one alone can't pass."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import test_coexecution as both

from finequery.errors import DataError, InterruptError
from finequery.operators.branches import together
from finequery.operators.context import Context, Placement
from finequery.operators.pool import get_pool
from finequery.operators.sides import Posing

con, place = both.con, both.place
answer = both.answer
ALONG = Placement("gpu", 1.0, along=True)
WAIT = 60  # seconds after which a test has failed
BUILDS = (
    "select a.g, a.n, b.m from (select g, count(*) as n from t where x > 7 group by g) a "
    "join (select g, sum(x) as m from t where x > 3 group by g) b on a.g = b.g order by a.g"
)
UNION = "select count(*) from t where x > 1 union all select sum(x) from t where x > 2 order by 1"
FULL = (
    "select a.g, b.m from (select g, count(*) as n from t where x > 7 group by g) a "
    "full join (select g, sum(x) as m from t where x > 3 and g > 1 group by g) b on a.g = b.g and a.n < b.m order by 1"
)
SHARED = (
    "with a as materialized (select g, count(*) as n from t where x > 7 group by g), "
    "b as materialized (select g, sum(x) as m from t where x > 3 group by g) "
    "select a.g, n, m from a join b on a.g = b.g union all select b.g, m, n from b join a on a.g = b.g order by 1, 2"
)
SCALARS = (
    "select count(*) from t where x > (select avg(x) from t) "
    "union all select sum(x) from t where x < (select avg(x) from t) order by 1"
)


def threads() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name == "finequery-branch"]


def numbered(work: Callable[[int, int], None]) -> Callable[[int], None]:
    """A hook that also gets the number of its call."""
    calls: list[int] = []

    def hook(first: int) -> None:
        calls.append(first)
        work(len(calls), first)

    return hook


@pytest.mark.parametrize("sql", [BUILDS, UNION, FULL, SHARED], ids=["builds", "union", "full join", "shared"])
def test_branches_overlap(sql: str, con: Any, place: Any) -> None:
    """The first two pipelines wait for each other."""
    expected = answer(con, sql)
    meeting = threading.Barrier(2, timeout=WAIT)
    contexts = place(ALONG, Posing(1, numbered(lambda call, _: meeting.wait() if call <= 2 else None)))
    assert answer(con, sql) == expected
    assert not meeting.broken
    assert all(m.departed == [] for m in contexts[0].measured.values())
    assert threads() == []


@pytest.mark.parametrize("sql", [BUILDS, UNION, FULL, SHARED, SCALARS])
def test_one_after_another_unless_placed_along(sql: str, con: Any, place: Any) -> None:
    seen: set[str] = set()
    place(Placement("gpu"), Posing(1, lambda _: seen.add(threading.current_thread().name)))
    answer(con, sql)
    assert seen == {threading.current_thread().name}


def test_each_shared_subplan_runs_once(con: Any, place: Any) -> None:
    """Two branches read both of two shared subplans, in different order."""
    expected = answer(con, SHARED)
    runs = []
    for placement in (Placement("gpu"), ALONG):
        calls: list[int] = []
        place(placement, Posing(1, calls.append))
        assert answer(con, SHARED) == expected
        runs.append(len(calls))
    assert runs[0] == runs[1]


def test_scalar_subqueries_in_branches(con: Any, place: Any) -> None:
    expected = answer(con, SCALARS)
    place(ALONG, Posing(1))
    assert answer(con, SCALARS) == expected


def test_an_error_ends_the_others(con: Any, place: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The branch without an error goes on only when the other one has failed, and stops at once."""
    ended, went_on, plain = threading.Event(), [], Context.end

    def end(self: Context) -> None:
        plain(self)
        ended.set()

    def hook(first: int) -> None:
        if threading.current_thread() is not threading.main_thread():
            went_on.append(ended.wait(WAIT) and contexts[0].halted())

    monkeypatch.setattr(Context, "end", end)
    contexts = place(ALONG, Posing(1, hook))
    with pytest.raises(DataError, match="Division by zero"):
        answer(con, "select sum(x // (i - 10)) as n from t where x > -1 union all select sum(x) from t where x > 2")
    assert went_on == [True] and threads() == []
    assert answer(con, "select count(*) from t where x >= 0") == [(both.ROWS,)]


def test_an_error_beside_the_calling_thread(con: Any, place: Any) -> None:
    place(ALONG, Posing(1))
    with pytest.raises(DataError, match="Division by zero"):
        answer(con, "select sum(x) as n from t where x > 2 union all select sum(x // (i - 10)) from t where x > -1")
    assert threads() == []


def test_interrupt_ends_all(con: Any, place: Any) -> None:
    meeting = threading.Barrier(2, con.interrupt, timeout=WAIT)
    place(ALONG, Posing(1, numbered(lambda call, _: meeting.wait() if call <= 2 else None)))
    with pytest.raises(InterruptError):
        answer(con, UNION)
    assert threads() == [] and not meeting.broken
    assert answer(con, UNION)


def context(along: Any = None) -> Context:
    made = Context(get_pool(1))
    if along is not None:
        made.placements = {id(along): Placement(along=True)}
    return made


def branch(*inputs: Any) -> Any:
    return SimpleNamespace(inputs=inputs)


def test_ctrl_c_while_waiting() -> None:
    """The calling thread is through, and waits for the other one, which is told to stop."""
    one, two = branch(), branch()
    made = context(two)

    def wait() -> None:
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        assert made._ended.wait(WAIT)

    with pytest.raises(InterruptError):
        together(made, [(one, lambda: None), (two, wait)])
    assert made.halted() and threads() == []


def test_the_first_error_is_the_one_that_is_raised() -> None:
    one, two = branch(), branch()
    made = context(two)

    def second() -> None:
        assert made._ended.wait(WAIT)
        raise InterruptError("the query was stopped")

    def first() -> None:
        raise DataError("bad")

    with pytest.raises(DataError, match="bad"):
        together(made, [(one, first), (two, second)])


def test_which_branches_get_a_thread() -> None:
    """Those that begin with a pipeline that may run beside those before it; the first begins nothing."""
    caller = threading.current_thread().name

    def names(branches: list[Any], along: Any) -> list[bool]:
        run = [(b, lambda: threading.current_thread().name == caller) for b in branches]
        return together(context(along), run)

    leaf, other = branch(), branch()
    deep = branch(branch(leaf), other)
    probe = SimpleNamespace(build=deep)
    assert names([branch(), probe], leaf) == [True, False]
    assert names([branch(), probe], deep) == [True, False]
    assert names([branch(), probe], other) == [True, True]  # it may run beside its own sibling
    assert names([probe, branch()], leaf) == [True, True]
    assert names([], None) == []


def test_nobody_begins_after_the_end() -> None:
    one, two, three = branch(), branch(), branch()
    made, begun = context(two), []

    def bad() -> None:
        raise DataError("bad")

    with pytest.raises(DataError):
        together(made, [(one, bad), (two, lambda: made._ended.wait(WAIT)), (three, lambda: begun.append(3))])
    assert begun == []


def test_results_that_are_computed_once() -> None:
    """Two threads that want two results in different order, the first inside of nothing, the others not twice."""
    made, inside, counts = context(), threading.Barrier(2, timeout=WAIT), {"a": 0, "b": 0}

    def compute(key: str) -> Callable[[], str]:
        def work() -> str:
            counts[key] += 1
            inside.wait()  # both are computed at the same time: no lock is held over all results
            return key

        return work

    def ask(*keys: str) -> None:
        found.append([made.once(hash(k), compute(k)) for k in keys])

    found: list[list[str]] = []
    workers = [threading.Thread(target=ask, args=keys) for keys in (("a", "b"), ("b", "a"))]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert sorted(found) == [["a", "b"], ["b", "a"]]
    assert counts == {"a": 1, "b": 1}


def test_scalar_seconds_are_a_thread_s_own() -> None:
    """A pipeline's time is less what its own thread spent on subqueries, or on waiting for one."""
    from finequery.operators.column import Frame

    made, begun, go = context(), threading.Event(), threading.Event()
    calls: list[int] = []

    def scalar(_: Context) -> tuple[Frame, int]:
        calls.append(1)
        begun.set()
        assert go.wait(WAIT)
        return Frame({}, 0), 0

    plan, spent = SimpleNamespace(scalar=scalar), {}

    def ask(name: str) -> None:
        assert made.subquery(plan) is None
        spent[name] = made.scalar_seconds

    one = threading.Thread(target=ask, args=("one",))
    one.start()
    assert begun.wait(WAIT)
    two = threading.Thread(target=ask, args=("two",))
    two.start()
    go.set()
    one.join()
    two.join()
    assert calls == [1] and spent["one"] > 0.0 and made.scalar_seconds == 0.0
