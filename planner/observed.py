"""What a run says about the sub-tasks of its plan: rows that really came through, structures really chosen."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from finequery.operators import tasks
from finequery.operators.aggregate import Aggregate
from finequery.operators.context import Context, Measured
from finequery.operators.probe import Probe
from finequery.planner import algorithms
from finequery.planner.algorithms import Choice
from finequery.planner.subtasks import SOURCES, STREAMED_WRITE, Operand, PipelineInfo, SubTask

#: Seconds of starting a program that are each sub-task's in it.
START = 30e-6


def real_rows(subtask: SubTask, pipelines: list[PipelineInfo], context: Context) -> int | None:
    """Rows that came out of a sub-task (a build: that went in); None where nobody counted them."""
    item = subtask.item
    if subtask.kind in ("filter", "probe"):
        return context.passed.get(id(item))
    if subtask.kind == "read" and subtask.reads:
        return real_rows(pipelines[subtask.reads[0] - 1].breaker, pipelines, context)
    record = context.measured.get(id(item))
    if record is None or subtask.kind == "pairs":
        return None
    return record.rows_in if subtask.kind == "build" else record.rows_out


def chosen(subtask: SubTask, context: Context) -> Choice | None:
    """The algorithm that the last run took; None where there is none to choose, or it is not known."""
    item, planned = subtask.item, subtask.choice
    if planned is None:
        return None
    if isinstance(item, Probe) and item.built is not None:
        return Choice(*item.built)
    record = context.measured.get(id(item))
    if isinstance(item, Aggregate) and item.mode is not None and record is not None:
        name, groups = item.mode.name, record.rows_out
        nbytes = algorithms.group_bytes(name, record.rows_in, groups, None, len(item.calls))
        if name == planned.name == "dense":  # by the keys' ranges, however many occur
            nbytes = planned.nbytes
        return Choice(name, item.mode.reason, nbytes)
    if isinstance(item, tasks.Sort) and record is not None:
        return algorithms.sorting(record.rows_in, None if item.limit is None else record.rows_out)
    return None


def records(pipeline: PipelineInfo, context: Context) -> list[Measured]:
    """What the tasks of a pipeline took."""
    return [context.measured[id(t)] for t in pipeline.runs if id(t) in context.measured]


def seconds(pipeline: PipelineInfo, context: Context) -> float:
    """Time of a pipeline, without compiling its program and without what interrupted a profiled one."""
    found = records(pipeline, context)
    lost = sum(r.profile.lost for r in found if r.profile is not None)
    return max(sum(r.seconds - r.compile_seconds for r in found) - lost, 0.0)


def spent(pipeline: PipelineInfo, context: Context) -> list[float] | None:
    """Seconds of each sub-task in a run under ``SET profile = true``; together they are the pipeline's. A step has the
    time of its instructions, the breaker the sink's and that of its own work outside of the program. Each has its share
    of what it takes to start a program, up to ``START``; beyond that it is the source's, as is loading columns: the
    more rows went through the caches, the less of the executor is left in them. None where nothing was profiled: by the
    setting, or because a program ran elsewhere."""
    found = {id(t): context.measured[id(t)] for t in pipeline.runs if id(t) in context.measured}
    if not context.profile or any("gpu" in r.device for r in found.values()):
        return None
    times: dict[int, float] = {}
    for record in found.values():
        for owner, took in record.profile.seconds.items() if record.profile is not None else ():
            times[owner] = times.get(owner, 0.0) + took
    first = found.pop(id(pipeline.source.item), None)  # a scan, or the inputs of a union put together
    source = 0.0 if first is None or first.profile is not None else first.seconds
    breaker = sum(r.seconds for r in found.values() if r.profile is None and r.rows_in)  # a build, a sort, a window
    steps = [times.pop(id(s.item), 0.0) for s in pipeline.subtasks[1:-1]]
    # steps that are no sub-task (bare names), and what a host function made of them, belong to the end
    breaker += sum(times.values())
    rest = max(seconds(pipeline, context) - source - sum(steps) - breaker, 0.0)
    share = min(rest / (len(steps) + 1), START)
    return [source + rest - share * (len(steps) + 1), *(took + share for took in steps), breaker + share]


def counts(pipelines: list[PipelineInfo], context: Context) -> Any:
    """All that ``seen`` reads of a run. Where it is equal, runs have seen the same."""
    rows = {key: (m.rows_in, m.rows_out, m.morsels, m.skipped) for key, m in context.measured.items()}
    structures: list[Any] = []
    for item in (s.item for pipeline in pipelines for s in pipeline.subtasks if s.choice is not None):
        if isinstance(item, Probe):
            structures.append(item.built)
        elif isinstance(item, Aggregate):
            structures.append(None if item.mode is None else (item.mode.name, item.mode.reason))
    return rows, [*context.passed.items()], structures


def seen(pipelines: list[PipelineInfo], context: Context) -> list[PipelineInfo]:
    """The pipelines of a finished run, with the rows that came through in the order in which they did (probes may
    change places), and with the structures chosen."""
    found = []
    for pipeline in pipelines:
        rows = among = 0.0
        subtasks: list[SubTask] = []
        for subtask in _in_order(pipeline, context):
            real = real_rows(subtask, pipelines, context)
            if subtask.kind in SOURCES:
                rows = float(subtask.rows_out if real is None else real)
                rows *= _not_skipped(pipeline, context)
                among = before = rows
            else:
                before = rows
                if real is not None and subtask.kind != "build":
                    rows = float(real)
            subtasks.append(_with_rows(subtask, before, rows, among, chosen(subtask, context)))
        found.append(replace(pipeline, subtasks=subtasks))
    return found


def _in_order(pipeline: PipelineInfo, context: Context) -> list[SubTask]:
    """Steps in the order in which their rows were counted; others keep their places."""
    place = {step: number for number, step in enumerate(context.passed)}
    counted = [s for s in pipeline.subtasks if s.kind in ("filter", "probe") and id(s.item) in place]
    ordered = iter(sorted(counted, key=lambda s: place[id(s.item)]))
    return [next(ordered) if s in counted else s for s in pipeline.subtasks]


def _not_skipped(pipeline: PipelineInfo, context: Context) -> float:
    """Share of the morsels that were not skipped: none where it was known beforehand that no row comes through."""
    morsels = sum(r.morsels for r in records(pipeline, context))
    if not morsels:
        return 0.0 if any(s.kind in ("filter", "probe") for s in pipeline.subtasks) else 1.0
    return 1.0 - sum(r.skipped for r in records(pipeline, context)) / morsels


def _with_rows(subtask: SubTask, before: float, after: float, among: float, choice: Choice | None) -> SubTask:
    """A sub-task as it would have been planned with these rows."""
    planned = subtask.choice
    grows_in, grows_out = before / max(subtask.rows_in, 1.0), after / max(subtask.rows_out, 1.0)

    def scaled(o: Operand) -> Operand:
        out = o.rows == subtask.rows_out and (o.rows != subtask.rows_in or o.access == STREAMED_WRITE)
        table = o.table
        if planned is not None and choice is not None and table == planned.nbytes:
            table = choice.nbytes
            if o.width == planned.nbytes:  # as a whole
                return o._replace(width=table, table=table)
        elif subtask.kind in ("sort", "top-k", "window", "pairs"):  # its own input, which it takes rows from
            table *= grows_in
        return o._replace(rows=o.rows * (grows_out if out else grows_in), table=table)

    share = after / before if before else 1.0
    return replace(
        subtask,
        rows_in=before,
        rows_out=after,
        among=among,
        choice=planned if choice is None else choice,
        operands=tuple(map(scaled, subtask.operands)),
        selectivity=None if subtask.selectivity is None else share,
        match_rate=None if subtask.match_rate is None else share,
        groups=None if subtask.groups is None else after,
        distinct=None if subtask.distinct is None else min(subtask.distinct, before),
    )
