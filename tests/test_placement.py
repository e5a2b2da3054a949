"""Placement: candidates, the search over plans, settings, and what is done when rows turn out otherwise. Times here are
simulated boards'; prices are the analytic ones, so that no fitted model decides what a test expects."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

import finequery
from finequery import scheduling
from finequery.errors import DataError, FileError, NotSupportedError, OperationalError
from finequery.jetson import board
from finequery.operators.context import CPU, GPU, Placement
from finequery.perfmodel.model import Model
from finequery.planner import candidates, placement
from finequery.planner.candidates import Asked
from finequery.planner.placement import place
from finequery.planner.scheduler import Ended, Scheduler, corrected, known, simulate
from finequery.planner.stages import Part, Site, stages
from finequery.planner.subtasks import split
from finequery.planner.timeline import Bar, Timeline, merged

ROWS = 4_000_000
JOINED = (
    "select d.name, sum(t.x), count(*) from t join d on t.k = d.k where t.x > 100 "
    "group by d.name order by d.name limit 5"
)
BRANCHED = (
    "select a.name, sum(t.x) from t join d a on t.k = a.k join d b on t.i = b.k join (select y, max(i) as m from t "
    "where x < 500 group by y) c on t.y = c.y where b.name <> 'n5' and a.name < 'n7' group by a.name"
)
SCANNED = "select sum(x * y), count(*) from t where x between 100 and 600"


@pytest.fixture(scope="module")
def con() -> Iterator[Any]:
    with finequery.connect(threads=2) as con:
        con.execute(
            f"create table t as select i, (i * 7919) % 1000 as x, i % 97 as y, (i * 31) % 50021 as k "
            f"from range({ROWS}) r(i)"
        )
        con.execute("create table d as select i as k, 'n' || (i % 13) as name from range(50021) r(i)")
        yield con


@pytest.fixture(autouse=True)
def analytic(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scheduling, "model_of", Model)


def site(name: str = "agx-xavier", **load: float) -> Site:
    found = board.load(name)
    return Site(found, found.cpu.cores, load)


def scheduler(con: Any, sql: str, where: Site, asked: Asked | None = None) -> Scheduler:
    pipelines = split(con.sql(sql).plan.root)
    return Scheduler(pipelines, where, Model(where.board), asked or Asked(), True)


def seconds(made: Scheduler, placements: list[Placement]) -> float:
    return simulate(made.parts, placements, made.site).timeline.seconds


def chosen(made: Scheduler) -> list[Placement]:
    return [p.chosen.placement for p in made.schedule.placed]


# --- the search -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sql", [JOINED, SCANNED], ids=["joined", "scanned"])
@pytest.mark.parametrize("name", ["agx-xavier", "agx-xavier:10W", "agx-orin", "orin-nano", "h100", "rtx-2080-ti"])
def test_chosen_against_all_plans(sql: str, name: str, con: Any) -> None:
    """Regret against every combination of candidates, the simulator being the judge."""
    made = scheduler(con, sql, site(name))
    ways = [[c.placement for c in p.candidates] for p in made.schedule.placed]
    best = min(seconds(made, list(plan)) for plan in itertools.islice(itertools.product(*ways), 4000))
    assert seconds(made, chosen(made)) <= 1.15 * best


@pytest.mark.parametrize("name", ["agx-xavier", "h100"])
def test_single_devices_are_always_candidates(name: str, con: Any) -> None:
    made = scheduler(con, JOINED, site(name))
    for item in made.schedule.placed:
        assert [c.placement.device for c in item.candidates[:2]] == ["cpu", "gpu"]
    assert set(made.schedule.alone) == {"cpu", "gpu"}
    assert made.schedule.price.seconds <= min(p.seconds for p in made.schedule.alone.values())


def test_large_scan_is_shared_out(con: Any) -> None:
    """On one memory, both devices together reach more of its bandwidth than either."""
    con.execute(f"create table large as select i % 1000 as x, i % 97 as y from range({8 * ROWS}) r(i)")
    made = scheduler(con, SCANNED.replace("from t", "from large"), site())
    con.execute("drop table large")
    (first, *_) = chosen(made)
    assert first.device == "both" and 0.0 < first.share < 1.0
    assert seconds(made, chosen(made)) < 0.95 * min(seconds(made, [CPU] * len(made.parts)), seconds(made, [GPU]))


def test_small_pipelines_are_not_taken_apart(con: Any) -> None:
    made = scheduler(con, JOINED, site())
    small = [p for p in made.schedule.placed if p.part.rows < candidates.FEW_ROWS]
    assert small and all({c.placement.device for c in p.candidates} == {"cpu", "gpu"} for p in small)


def test_cold_discrete_gpu_pays_for_the_link(con: Any) -> None:
    """What a GPU does fastest when the columns are there, it does not when they come over PCIe 3."""
    warm, found = site("v100"), board.load("v100")
    cold = Site(found, found.cpu.cores, {}, resident=False)
    gpu = [seconds(scheduler(con, SCANNED, s), [GPU]) for s in (warm, cold)]
    assert gpu[1] > 1.3 * gpu[0]
    prices = [scheduler(con, SCANNED, s).schedule.alone["gpu"].seconds for s in (warm, cold)]
    assert prices[1] > 1.3 * prices[0]


@pytest.mark.parametrize("resident", [True, False], ids=["resident", "cold"])
def test_copies_beside_other_work_are_priced_as_the_simulator_runs_them(resident: bool, con: Any) -> None:
    """Every plan of single devices, with branches beside each other and not, on a board that has to copy results."""
    found = board.load("rtx-3090")
    made = scheduler(con, BRANCHED, Site(found, found.cpu.cores, {}, resident=resident))
    offers = made.schedule.placed[0].offers
    singles = [p.candidates[:2] for p in made.schedule.placed]
    # each that does not read the one before it, or goes on with such a branch
    beside: set[int] = set()
    for n, part in enumerate(made.parts):
        if n > 0 and (made.parts[n - 1].info.number not in part.info.after or n - 1 in beside):
            beside.add(n)
    assert beside, "the plan has branches"
    copied, errors = 0, []
    for plan in itertools.product(*singles):
        for along in (set(), beside):
            choice = [c._replace(along=n in along) for n, c in enumerate(plan)]
            priced, one_by_one = placement.elapsed(offers, choice)
            took = seconds(made, [c.placement for c in choice])
            errors.append(abs(priced / took - 1.0))
            copied += priced < 0.97 * one_by_one
    assert copied > len(errors) / 4, "what runs beside something else is not paid for"
    assert sorted(errors)[len(errors) // 2] < 0.03 and max(errors) < 0.15


def test_busy_gpu_pushes_work_to_the_cpu(con: Any) -> None:
    free, busy = scheduler(con, SCANNED, site()), scheduler(con, SCANNED, site(gpu=0.8))

    def share(made: Scheduler) -> float:
        found = chosen(made)[0]
        return {"gpu": 1.0, "cpu": 0.0}.get(found.device, found.share)

    assert share(busy) < share(free)
    assert seconds(busy, chosen(busy)) < seconds(busy, [GPU])


def test_objectives(con: Any) -> None:
    made = {o: scheduler(con, SCANNED, site(), Asked(objective=o)) for o in placement.OBJECTIVES}
    joules = {o: simulate(m.parts, chosen(m), m.site).timeline.joules for o, m in made.items()}
    times = {o: seconds(m, chosen(m)) for o, m in made.items()}
    assert joules["energy"] <= joules["latency"] and times["latency"] <= times["energy"]


@pytest.mark.parametrize("device", ["cpu", "gpu"])
def test_forced(device: str, con: Any) -> None:
    made = scheduler(con, JOINED, site(), Asked(forced=device))
    assert {p.device for p in chosen(made)} == {device}


def test_reasons_leave_the_cpu(con: Any) -> None:
    first = split(con.sql(JOINED).plan.root)[0].number
    made = scheduler(con, JOINED, site(), Asked(reasons={first: ("it has no form",)}))
    assert made.schedule.placed[0].chosen.placement == CPU
    assert placement.why(made.schedule.placed[0], "latency") == "it has no form"
    assert "gpu" not in made.schedule.alone


def test_wide_intervals_prefer_the_safer_plan(con: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(placement, "MARGIN", -0.99)  # nothing is safe enough
    made = scheduler(con, SCANNED, site())
    assert {p.device for p in chosen(made)} <= {"cpu", "gpu"}


# --- stages -----------------------------------------------------------------------------------------------------------


def test_stages_of_a_shared_pipeline(con: Any) -> None:
    made = scheduler(con, SCANNED, site())
    found, owners = stages(made.parts, [Placement("both", 0.25)], made.site)
    assert [s.engine for s in found] == ["gpu", "cpu", "cpu"] and owners == [0, 0, 0]
    assert set(found[2].after) == {0, 1}
    gpu, cpu = (next(w.rows for w in s.works if w.kind.startswith("filter")) for s in found[:2])
    assert gpu == pytest.approx(0.25 * (gpu + cpu))


def test_stages_of_phases_follow_each_other(con: Any) -> None:
    made = scheduler(con, SCANNED, site())
    found, _ = stages(made.parts, [Placement("phases", cut=1, first="cpu", batch=ROWS // 4)], made.site)
    assert [(s.engine, s.batches, s.follows) for s in found] == [("cpu", 4, None), ("gpu", 4, 0)]


def test_results_are_handed_over_on_a_discrete_board(con: Any) -> None:
    made = scheduler(con, JOINED, site("h100"))
    count = len(made.parts)
    engines = [s.engine for s in stages(made.parts, [CPU] + [GPU] * (count - 1), made.site)[0]]
    assert engines.count("h2d") == 1 and engines.count("d2h") == 1
    integrated = scheduler(con, JOINED, site())
    engines = [s.engine for s in stages(integrated.parts, [CPU] + [GPU] * (count - 1), integrated.site)[0]]
    assert not {"h2d", "d2h"} & set(engines)


# --- a run ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def boarded(con: Any) -> Iterator[Any]:
    con.execute("set board = 'agx-xavier'")
    yield con
    con.execute("reset board")
    con.execute("reset gpu_load")
    con.execute("reset objective")
    con.execute("reset device")
    con.execute("reset strict")


@pytest.mark.parametrize("sql", [JOINED, SCANNED], ids=["joined", "scanned"])
@pytest.mark.parametrize("device", ["auto", "cpu", "gpu"])
def test_answers_on_a_board_are_this_machine_s(sql: str, device: str, con: Any, boarded: Any) -> None:
    con.execute("reset board")
    want = con.sql(sql).fetchall()
    boarded.execute("set board = 'agx-xavier'")
    boarded.execute(f"set device = '{device}'")
    for _ in range(3):
        assert boarded.sql(sql).fetchall() == want


def test_explain_says_what_was_simulated(boarded: Any) -> None:
    before = boarded.sql(SCANNED).explain()
    assert "NVIDIA Jetson AGX Xavier (32 GB), simulated; model:" in before
    assert re.search(r"Pipeline 1 \[.*simulated\]", before) and ", 8 threads" in before
    assert "candidates: CPU" in before and "memory: " in before and " mapped" in before
    after = boarded.sql(SCANNED).explain(analyze=True)
    assert "│  simulated " in after and "(error " in after and "1 row in" in after
    assert re.search(r"GPU  1+", after) and "simulated (" in after
    boarded.execute("set objective = 'energy'")
    assert re.search(r"times\s(│\s+)?thriftier", boarded.sql(SCANNED).explain())


def test_timeline(boarded: Any, tmp_path: Any) -> None:
    found = boarded.sql(SCANNED).timeline()
    assert found.simulated and "simulated" in found.heading and found.engines == ["cpu", "gpu"]
    found.save(tmp_path / "a.svg")
    assert (tmp_path / "a.svg").read_text().startswith("<svg") and "simulated" in found.svg()
    with pytest.raises(ValueError, match=r"\.svg or \.png"):
        found.save(tmp_path / "a.gif")
    with pytest.raises(FileError, match="No such file"):
        found.save(tmp_path / "none" / "a.svg")
    boarded.execute("reset board")
    real = boarded.sql(SCANNED).timeline()
    assert not real.simulated and real.engines == ["cpu"]
    with pytest.raises(NotSupportedError):
        boarded.sql("show settings").timeline()


def test_picture() -> None:
    bars = merged([Bar("cpu", 1, 0.0, 0.5), Bar("cpu", 1, 0.5, 1.0), Bar("gpu", 2, 1.0, 2.0)])
    assert len(bars) == 2
    lines = Timeline(bars, 2.0, "a board", True).text(29).splitlines()
    assert lines[0] == "a board: 2000.00 ms, simulated (100000 us a column)"
    assert "(0.1 us a column)" in Timeline((), 2e-6, "a board", True).text(29)
    assert Timeline((), 0.0, "here", False).text() == "here: 0.00 ms"  # nothing ran that has a time
    assert lines[1:] == ["    CPU  1111111111··········", "    GPU  ··········2222222222"]


def test_settings(con: Any) -> None:
    with pytest.raises(OperationalError, match='no board "agx-xaver"'):
        con.execute("set board = 'agx-xaver'")
    for name, value in (("objective", "speed"), ("gpu_load", "1"), ("gpu_load", "-0.1")):
        with pytest.raises(DataError, match=f"Setting {name} must be"):
            con.execute(f"set {name} = '{value}'")
    con.execute("set gpu_load = 0.8")
    assert con.sql("show gpu_load").fetchall() == [("0.8",)]
    con.execute("reset gpu_load")
    with finequery.connect(board="orin-nano") as other:
        assert other.sql("select 42").fetchall() == [(42,)]


def test_a_second_run_expects_what_the_first_has_counted(boarded: Any) -> None:
    """A filter whose estimate is far off; the plan is the same, and is not placed anew again and again."""
    sql = "select count(*) from t join d on t.k = d.k where t.x * 3 % 1000 = 7 and t.y * 5 % 97 = 3"
    relation = boarded.sql(sql)
    for _ in range(3):
        boarded.sql(sql).fetchall()
    (made,) = relation.plan.schedulers.values()
    assert made.known and made.run is not None and made.anew == 0
    settled = made.parts
    boarded.sql(sql).fetchall()
    assert made.parts == settled and made.spent < made.schedule.seconds + 1.0


def test_corrected_features(con: Any) -> None:
    """A build side with a tenth of the keys: a tenth of the rows behind the probe, and the table that was built."""
    made = scheduler(con, "select sum(t.x) from t join d on t.k = d.k where d.name = 'n3'", site())
    part = made.parts[-1]
    probe = next(n for n, s in enumerate(part.info.subtasks) if s.kind == "probe")
    found = corrected(part, {part.info.subtasks[probe].reads[0]: Ended(0.1, 0.3, "hash")})
    before, after = part.features[probe], found[probe]
    assert after.table_bytes == pytest.approx(0.3 * before.table_bytes) and after.rows == before.rows
    assert (before.algorithm, after.algorithm) == ("rows", "hash")
    assert after.rows_out == pytest.approx(0.1 * before.rows_out)
    assert found[-1].rows == pytest.approx(0.1 * part.features[-1].rows)


def test_tables_by_key_keep_their_size(con: Any) -> None:
    """Of a build that reads a pipeline with a tenth of its rows, an array by key is as large, a hash table is not."""
    few = "select d.k from d join (select k from d where k < 900) e on d.k = e.k"
    sql = f"select sum(t.x) from t join ({few}) f on t.k = f.k"
    made = scheduler(con, sql, site())
    first, second, _ = made.parts
    for algorithm, table in (("rows", 1.0), ("hash", 0.1)):
        end = replace(second.features[-1], algorithm=algorithm)
        parts = [first, Part(second.info, (*second.features[:-1], end)), made.parts[-1]]
        found = known(parts, {first.info.number: Ended(0.1, 1.0)})
        assert found[1].features[-1].table_bytes == pytest.approx(table * end.table_bytes)
        assert found[1].rows_given == pytest.approx(0.1 * second.rows_given)


def test_what_is_left_is_placed_anew(boarded: Any) -> None:
    """The build side gives a small part of what was expected: the pipeline that reads it is placed by that."""
    few = "select k from t where i * 7 % 1000 < 3 and i * 3 % 1000 < 3"
    relation = boarded.sql(f"select sum(t.x) from t join ({few}) e on t.k = e.k")
    relation.fetchall()
    (made,) = relation.plan.schedulers.values()
    assert made.anew == 1


def test_place_is_a_function_of_its_arguments(con: Any) -> None:
    made = scheduler(con, JOINED, site())
    parts = [Part(p.info, p.features) for p in made.parts]
    again = place(parts, made.site, made.model, made.asked)
    assert [p.chosen for p in again.placed] == [p.chosen for p in made.schedule.placed]
