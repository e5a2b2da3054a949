"""The plans that the experiments place: pipelines with what was expected of them and what a run counted, kept as JSON.

Every query runs once, on the CPU of this machine, for its answer and the true numbers of rows; from then on its
pipelines are numbers. ``plans`` makes them or reads what it made before. ``continued`` makes those of a larger scale.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from bench_data import Data
from experiments_synthetic import synthetic

from finequery import growth, workloads
from finequery.operators.context import Placement
from finequery.perfmodel.features import Features
from finequery.perfmodel.model import Model
from finequery.planner.candidates import Asked
from finequery.planner.placement import Schedule, place
from finequery.planner.scheduler import BY_KEY, Ended, far, known
from finequery.planner.stages import Part, Site, cut_in_features

ROOT = Path(__file__).resolve().parent.parent
#: What is kept of a plan depends on these; if one changes, queries are run again.
SOURCES = (
    "scripts/experiments_plans.py",
    "scripts/experiments_synthetic.py",
    "planner/**/*.py",
    "perfmodel/features.py",
)
#: But not on these, which place what is kept.
PLACING = ("placement", "candidates", "overlap", "stages", "scheduler", "prices", "timeline", "explain")
_DEFAULTS = asdict(Features(""))


@dataclass(eq=False)
class Kept:
    """A pipeline as placement and the stages of a simulation read it (planner.subtasks.PipelineInfo)."""

    number: int
    after: tuple[int, ...]
    subtasks: list[Any]
    runs: tuple[Any, ...] = ()

    def __post_init__(self) -> None:
        self.runs = (SimpleNamespace(steps=[s.item for s in self.subtasks[1:-1]]),)

    @property
    def source(self) -> Any:
        return self.subtasks[0]

    @property
    def breaker(self) -> Any:
        return self.subtasks[-1]


@dataclass(eq=False)
class Plan:
    """A query's pipelines at a scale. ``expected`` by the planner's estimates, ``true`` with the rows that a run
    counted; ``scaled``: these were not counted but continued from smaller scales."""

    name: str
    scale: float
    expected: list[Part]
    true: list[Part]
    reasons: dict[int, tuple[str, ...]]
    cuts: dict[int, tuple[int, ...]]
    scaled: bool = False

    def asked(self, **changes: Any) -> Asked:
        """What is to be placed."""
        return replace(Asked(reasons=self.reasons, cuts=self.cuts), **changes)

    def second_run(self, site: Site, model: Model, **changes: Any) -> Schedule:
        """The placement of a plan that has run before: its rows are known."""
        return place(self.true, site, model, self.asked(**changes))

    def first_run(self, site: Site, model: Model) -> list[Placement]:
        """Placements as the scheduler arrives at them in the first run: by estimates, and what is left anew whenever
        rows that were counted are far from them."""
        schedule = place(self.expected, site, model, self.asked())
        ended: dict[int, Ended] = {}
        chosen = []
        for number, (expected, true) in enumerate(zip(self.expected, self.true)):
            chosen.append(schedule.placed[number].chosen.placement)
            ended[expected.info.number] = _ended(expected, true)
            if far(expected.rows_given, true.rows_given):
                schedule = place(known(self.expected, ended), site, model, self.asked())
        return chosen


def _ended(expected: Part, true: Part) -> Ended:
    """What the scheduler knows of a pipeline that has ended."""
    rows = (true.rows_given + 1.0) / (expected.rows_given + 1.0)
    planned, built = expected.features[-1], true.features[-1]
    if planned.kind != "build" or not planned.table_bytes:
        return Ended(rows, 1.0 if planned.algorithm in BY_KEY else rows)
    return Ended(rows, built.table_bytes / planned.table_bytes, built.algorithm.partition(":")[0])


def plans(suite: str, scale: float, data: Data, cache: Path) -> list[Plan]:
    """The plans of a suite ("tpch", "ssb", or "synthetic") at a scale, in the order of their names."""
    path = cache / f"plans-{suite}-sf{scale:g}.json"
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError):
        document = {}
    if document.get("sources") != _sources():
        document = {"sources": _sources(), "suite": suite, "scale": scale, "plans": _collect(suite, scale, data)}
        cache.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(document, indent=0) + "\n", encoding="utf-8")
    return [_plan(kept, scale) for kept in document["plans"]]


@functools.cache
def _sources() -> str:
    """A hash of what plans depend on."""
    files = sorted(f for pattern in SOURCES for f in ROOT.glob(pattern) if f.stem not in PLACING)
    return hashlib.sha256(b"".join(f.read_bytes() for f in files)).hexdigest()[:16]


def _collect(suite: str, scale: float, data: Data) -> list[dict[str, Any]]:
    """Run every query once."""
    import finequery

    with finequery.connect(board="agx-xavier") as connection:  # any with a GPU: statistics are the data's
        connection.execute("set device = 'cpu'")
        if suite == "synthetic":
            queries = synthetic(connection, max(1000, int(scale * data.fraction * 6_000_000)))
        else:
            tables = data.tpch(scale) if suite == "tpch" else data.ssb(scale)
            for table, path in tables.items():
                connection.execute(f"create table {table} as select * from '{path}'")
            queries = workloads.queries(suite)
        return [{"name": name, "pipelines": _pipelines(connection, sql)} for name, sql in queries.items()]


def _pipelines(connection: Any, sql: str) -> list[dict[str, Any]]:
    from finequery.planner.features import features

    relation = connection.sql(sql)
    relation.arrow()
    (scheduler,) = relation.plan.schedulers.values()
    kept = []
    for info, part in zip(scheduler.pipelines, scheduler.parts):
        cuts = [cut_in_features(part, cut) for cut in scheduler.asked.cuts.get(info.number, ())]
        kept.append(
            {
                "number": info.number,
                "after": list(info.after),
                "reasons": list(scheduler.asked.reasons.get(info.number, ())),
                "cuts": sorted(set(cuts)),
                "table": info.source.item.table.name if info.source.kind == "scan" else "",
                "expected": [_numbers(features(s), s) for s in info.subtasks],
                "true": [_numbers(f, s) for f, s in zip(part.features, part.info.subtasks)],
            }
        )
    return kept


def _numbers(f: Features, subtask: Any) -> dict[str, Any]:
    short = {k: v if isinstance(v, str) else float(f"{v:.9g}") for k, v in asdict(f).items() if v != _DEFAULTS[k]}
    return short | ({"reads": list(subtask.reads)} if subtask.reads else {})


def _plan(kept: Mapping[str, Any], scale: float) -> Plan:
    expected, true, reasons, cuts = [], [], {}, {}
    for p in kept["pipelines"]:
        expected.append(_part(p, p["expected"]))
        true.append(_part(p, p["true"]))
        if p["reasons"]:
            reasons[p["number"]] = tuple(p["reasons"])
        cuts[p["number"]] = tuple(at - 1 for at in p["cuts"])  # every sub-task in between is a step of a ``Kept``
    return Plan(kept["name"], scale, expected, true, reasons, cuts)


def _part(p: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> Part:
    table = SimpleNamespace(name=p["table"])
    subtasks = [
        SimpleNamespace(kind=f["kind"], reads=tuple(f.get("reads", ())), item=SimpleNamespace(table=table))
        for f in rows
    ]
    info: Any = Kept(p["number"], tuple(p["after"]), subtasks)
    return Part(info, tuple(Features(**{k: v for k, v in f.items() if k != "reads"}) for f in rows))


def continued(small: Plan, large: Plan, scale: float) -> Plan:
    """A plan at a larger scale, by *scaled statistics* (finequery/growth.py): each number of rows, keys, groups and
    bytes goes on growing as it did between two scales that ran."""
    step, times = large.scale / small.scale, scale / large.scale
    expected = growth.continued(small.expected, large.expected, step, times)
    true = growth.continued(small.true, large.true, step, times)
    return Plan(large.name, scale, expected, true, large.reasons, large.cuts, True)
