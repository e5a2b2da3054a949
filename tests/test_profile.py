"""SET profile: the time of each instruction, added up by the step that emitted it."""

from __future__ import annotations

import math
import time
from typing import Any

import numpy as np
import pytest

import finequery
from finequery import workloads
from finequery.operators import native
from finequery.operators.executor import execute
from finequery.operators.profile import SINK, Profile, tick
from finequery.planner import observed
from finequery.planner.subtasks import split


@pytest.fixture
def con() -> Any:
    with finequery.connect(threads=1) as con:
        con.execute("create table f as select n % 50 as k, n % 7 as v, n % 1000 as w from range(300000) r(n)")
        con.execute("create table d as select n as k, n % 3 as g from range(40) r(n)")
        yield con


SQL = "select g, sum(w * v) from f join d on f.k = d.k where v < 5 group by g"


def profiled(con: Any, sql: str, profile: bool = True) -> tuple[Any, Any, float]:
    """The plan, and the context and the seconds of its second run, in which nothing is compiled."""
    plan, session = con.sql(sql).plan, con._session
    execute(plan.root, session.context(dict(plan.lifted)))
    context = session.context(dict(plan.lifted))
    context.profile = profile
    begin = time.perf_counter()
    execute(plan.root, context)
    return plan, context, time.perf_counter() - begin


def test_a_tick_is_what_the_clock_says() -> None:
    read = native.function("read_ticks")
    begin, first = time.perf_counter(), read(0, 0, 0, 0)
    time.sleep(0.05)
    end, last = time.perf_counter(), read(0, 0, 0, 0)
    assert (last - first) * tick() == pytest.approx(end - begin, rel=0.1)


def test_instructions_take_no_longer_than_the_query(con: Any) -> None:
    _, context, wall = profiled(con, SQL)
    profiles = [m.profile for m in context.measured.values() if m.profile is not None]
    assert profiles
    assert 0 < sum(sum(p.seconds.values()) for p in profiles) <= wall
    assert all(took >= 0 for p in profiles for took in p.seconds.values())


def test_every_instruction_has_an_owner(con: Any) -> None:
    """A filter, a probe, a projection and the sink are in one program; each has instructions of its own."""
    plan, context, _ = profiled(con, SQL)
    last = next(p for p in split(plan.root) if p.breaker.kind == "aggregate")
    task = last.breaker.item
    owners = set(task.pipeline.programs[0].instance.owners)
    steps = {s.kind: id(s.item) for s in last.subtasks[1:-1]}
    assert set(steps) == {"filter", "probe", "project"}
    assert owners == {SINK, *steps.values()}
    assert set(context.measured[id(task)].profile.seconds) == owners


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("name", ["q01", "q03", "q13", "q18", "q22"])
def test_sub_tasks_add_up_to_their_pipeline(tpch_engines: Any, name: str, threads: int) -> None:
    con = finequery.connect(threads=threads)
    con._session.catalog = tpch_engines.con._session.catalog
    more: dict[int, float] = {}  # by pipeline: how much more they are, in the run that others disturbed least
    for _ in range(5):
        plan, context, _ = profiled(con, (workloads.QUERIES / "tpch" / f"{name}.sql").read_text())
        for number, pipeline in enumerate(split(plan.root)):
            spent = observed.spent(pipeline, context)
            assert spent is not None and len(spent) == len(pipeline.subtasks) and min(spent) >= 0
            total = observed.seconds(pipeline, context)
            assert sum(spent) >= 0.999 * total  # more where threads waited for each other's instructions
            more[number] = min(more.get(number, math.inf), sum(spent) - 1.02 * total)
        if threads > 1 or max(more.values()) <= 5e-5:
            return
    raise AssertionError(more)


def test_nothing_is_measured_unless_asked_for(con: Any) -> None:
    plan, context, _ = profiled(con, SQL, profile=False)
    assert all(m.profile is None for m in context.measured.values())
    assert all(observed.spent(p, context) is None for p in split(plan.root))


def test_explain_analyze_shows_the_time_of_sub_tasks(con: Any) -> None:
    def text() -> str:
        return con.sql("explain analyze " + SQL).fetchall()[0][1]

    before = text().splitlines()
    assert before[0].split()[-2:] == ["expected", "rows"]
    con.execute("set profile = true")
    lines = text().splitlines()
    assert lines[0].split()[-3:] == ["expected", "rows", "time"]
    assert max(map(len, lines)) <= 100
    for kind in ("filter", "probe", "project", "aggregate"):
        line = next(line for line in lines if line.startswith((f"├─ {kind}", f"└─ {kind}")))
        assert line.endswith(" ms")


def test_what_was_interrupted_is_nobodys() -> None:
    profile = Profile()
    profile.charge([5, SINK, 5], np.array([[10, 20, 30], [10, 20, 30]]), lost=100)
    assert profile.seconds == {5: pytest.approx(40 * tick()), SINK: pytest.approx(20 * tick())}
    assert profile.lost == pytest.approx(50 * tick())
    other = Profile()
    other.merge(profile)
    assert other.seconds == profile.seconds and other.lost == profile.lost
