"""Features of sub-tasks: from the planner's estimates, and from what a finished run has seen."""

from __future__ import annotations

from dataclasses import dataclass

from finequery.operators.aggregate_sink import FEW
from finequery.operators.context import Context
from finequery.perfmodel.features import NAMES_ONLY, Features
from finequery.planner import observed as run
from finequery.planner.algorithms import group_bytes
from finequery.planner.subtasks import (
    NULLS,
    RANDOM_READ,
    RANDOM_WRITE,
    STREAMED_WRITE,
    Operand,
    PipelineInfo,
    SubTask,
)

#: Bytes that memory is read by.
LINE = 64.0
#: Share of a column's rows below which reading them in order is reading lines at random: nothing foresees them.
SPARSE = 0.125


@dataclass(frozen=True, slots=True)
class Observed:
    """A pipeline of a finished run. ``features`` has one entry for each of its sub-tasks in the order in which they
    ran, ``seconds`` what each took (None: the run was not profiled), ``total`` what the pipeline took."""

    pipeline: PipelineInfo
    features: tuple[Features, ...]
    seconds: tuple[float, ...] | None
    total: float
    threads: int


def features(subtask: SubTask) -> Features:
    """The input attributes of a sub-task as a model reads them."""
    s, rows = subtask, max(subtask.rows_in, 1.0)
    # what builds and aggregations are told of a table is that of their own alone
    own = s.kind in ("build", "aggregate")
    read = written = random = tables = 0.0
    for o in () if s.kind in NAMES_ONLY else s.operands:
        if o.near:
            continue
        if o.access in (RANDOM_READ, RANDOM_WRITE):
            random += o.nbytes
            tables += o.table
        elif o.access == STREAMED_WRITE:
            written += o.nbytes
        elif _sparse(o, s.among):
            random += o.rows * LINE
            tables += 0.0 if own else s.among * o.width
        else:
            read += _fetched(o, s.among)
    count = max(len(s.inputs), 1)
    kinds = [a.encoding for a in s.inputs]
    return Features(
        kind=s.kind,
        algorithm=_algorithm(s),
        rows=s.rows_in,
        rows_out=s.rows_out,
        bytes_in=read / rows,
        bytes_out=written / rows,
        random_width=random / rows,
        table_bytes=tables,
        selectivity=1.0 if s.selectivity is None else s.selectivity,
        match_rate=1.0 if s.match_rate is None else s.match_rate,
        distinct=s.distinct or 0.0,
        groups=s.groups or 0.0,
        nulls=max((a.nulls for a in s.inputs), default=0.0),
        steps=float(s.steps),
        columns=float(len(s.inputs)),
        wide=kinds.count("i128") / count,
        floats=(kinds.count("f32") + kinds.count("f64")) / count,
        strings=kinds.count("text") / count,
    )


def _algorithm(subtask: SubTask) -> str:
    """How it is done, where that is not one way for all."""
    choice = subtask.choice
    if subtask.written:
        return f"{choice.name}:written" if choice is not None else "written"
    if choice is not None:
        if choice.name == "dense" and choice.nbytes <= group_bytes("dense", 0, 0, FEW, len(subtask.item.calls)):
            return "few"  # added up by masked vector sums
        return choice.name
    if subtask.kind != "filter":
        return ""
    if any(a.encoding == "text" for a in subtask.inputs):
        return "text"
    tests = len(subtask.inputs) + NULLS * sum(a.nulls > 0 for a in subtask.inputs)
    return "ranges" if subtask.steps <= tests else "computed"


def _sparse(operand: Operand, among: float) -> bool:
    """Whether so few rows of a column are read that each has a line of its own."""
    return operand.rows < SPARSE * among and operand.width < LINE * SPARSE * 4


def _fetched(operand: Operand, among: float) -> float:
    """Bytes that come from memory where ``operand.rows`` entries are read in order out of ``among``: whole lines, of
    which some hold no entry that is read, were these spread evenly."""
    if not 0 < operand.rows < among:
        return operand.nbytes
    per_line = max(LINE / operand.width, 1.0)
    return among * operand.width * (1.0 - (1.0 - operand.rows / among) ** per_line)


def observed(pipelines: list[PipelineInfo], context: Context) -> list[Observed]:
    """What a finished run of these pipelines has seen, for all that ran."""
    found = []
    for planned, pipeline in zip(pipelines, run.seen(pipelines, context)):
        records = run.records(planned, context)
        if not records:
            continue
        spent = run.spent(pipeline, context)
        found.append(
            Observed(
                pipeline,
                tuple(map(features, pipeline.subtasks)),
                None if spent is None else tuple(spent),
                run.seconds(planned, context),
                max(r.threads for r in records),
            )
        )
    return found
