"""Sides that are simulated: queries run once here for their true numbers of rows, then on as many boards as are asked
for they are placed and simulated (planner/scheduler.py).

Nothing of what this gives was measured. A simulated run is one time, without a spread: the simulator is a function of
the plan and the board.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from finequery import scheduling, simulation
from finequery.compare.result import Answered, Result, Run
from finequery.compare.sides import Side, board_facts
from finequery.compare.work import Work, digest
from finequery.jetson.board import Board
from finequery.operators.context import Placement
from finequery.perfmodel.features import Features
from finequery.perfmodel.model import Model
from finequery.perfmodel.work import works
from finequery.planner.candidates import Asked
from finequery.planner.stages import Part, Site
from finequery.planner.subtasks import PipelineInfo
from finequery.planner.timeline import Timeline, of_simulation

#: A board that plans are made for: any with a GPU, for what could not run on one. Statistics are the data's.
_ANY = "agx-xavier"


@dataclass(frozen=True, slots=True)
class Counted:
    """A query that has run: its pipelines with the rows that were counted, and what may be done with them."""

    name: str
    text: str
    rows: int
    parts: Sequence[Part]
    asked: Asked


def counted(work: Work, progress: Callable[[str], None] = lambda name: None) -> list[Counted]:
    """Run every query once, on this machine's CPU."""
    found = []
    with work.open(board=_ANY, device="cpu", plan_cache_size=0) as connection:
        for name, sql in work.queries.items():
            progress(name)
            relation = connection.sql(sql)
            rows = len(relation)
            assert relation.plan is not None
            (scheduler,) = relation.plan.schedulers.values()
            found.append(Counted(name, digest(sql), rows, scheduler.parts, replace(scheduler.asked, forced="auto")))
    return found


def simulated(side: Side, work: Work, queries: Sequence[Counted], objective: str = "latency") -> Result:
    """A board's side, in every way and regime. What is not told apart on a board, whose CPU and GPU share the memory,
    is the same: cold columns are where both read them."""
    board = side.board
    assert board is not None
    model = scheduling.model_of(board, simulated=True)
    alone = ("cpu", "gpu") if board.gpu is not None else ("cpu",)
    found = {}
    for query in queries:
        by_device = {d: _runs(query, board, model, d, objective) for d in dict.fromkeys((side.device, *alone))}
        runs = {"placed": by_device[side.device], **{device: by_device[device] for device in alone}}
        words = tuple(in_words(part.info) for part in query.parts)
        found[query.name] = Answered(query.rows, runs, query.text, words)
    facts = board_facts(board, side.device, simulated=True)
    facts = replace(facts, model=model.source, objective=objective)
    return Result(facts, work.suite, work.scale, found, {"name": board.title, "mode": board.mode})


def _runs(query: Counted, board: Board, model: Model, device: str, objective: str) -> dict[str, Run]:
    """By regime. ``device``: for everything, or "auto"."""
    forms = query.asked.forms if device == "auto" else frozenset()
    asked = replace(query.asked, forced=device, objective=objective, forms=forms)

    def run(resident: bool) -> Run:
        ran = simulation.run(query, Site(board, board.cpu.cores, resident=resident), model, asked)
        t = ran.simulated.timeline
        return Run(
            seconds=(t.seconds,),
            low=ran.low,
            high=ran.high,
            joules=t.joules,
            idle_joules=t.idle_joules,
            operands=operand_bytes(part.features for part in query.parts),
            traffic=t.memory_bytes,
            plan=" ".join(map(short, ran.placements)),
            timeline=stretches(of_simulation(ran.simulated)),
        )

    if not board.discrete:
        return dict.fromkeys(("resident", "cold"), run(True))
    cold = run(False)
    if simulation.fits(simulation.stored([query]), board):
        return {"resident": run(True), "cold": cold}
    return {"resident": replace(cold, note="the columns do not fit into the GPU's memory: copied"), "cold": cold}


def stretches(timeline: Timeline) -> tuple[tuple[str, int, float, float], ...]:
    """A timeline as a result keeps it."""
    return tuple((b.engine, b.pipeline, b.start, b.end) for b in timeline.bars)


def in_words(pipeline: PipelineInfo) -> str:
    """What a pipeline reads and ends in: ``lineorder → aggregate``."""
    source = pipeline.source
    if source.kind == "scan":
        read = source.item.table.name or "rows"
    else:
        read = " and ".join(f"pipeline {number}" for number in source.reads) or source.kind
    return f"{read} → {pipeline.breaker.kind}"


def operand_bytes(pipelines: Iterable[Sequence[Features]]) -> float:
    """Bytes of the inputs and outputs of a plan's sub-tasks, as FineStream counts them (USENIX ATC 2020, eq. 11),
    wherever they came from: columns and results as they are streamed, tables that are touched at random once at most.
    """
    touches = (t for features in pipelines for f in features for t in works(f, "mapped").touches)
    return sum(min(t.nbytes, t.working_set) for t in touches)


def short(p: Placement) -> str:
    """A placement in a few letters: C (CPU), G (GPU), Bn (both, n % of the rows on the GPU), Pn (in phases, cut before
    step n, c or g first); a: beside the one before it."""
    text = {"cpu": "C", "gpu": "G", "both": f"B{p.share * 100:.0f}", "phases": f"P{p.cut}{p.first[0]}"}[p.device]
    return text + ("a" if p.along else "")
