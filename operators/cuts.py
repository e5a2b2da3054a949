"""Where a pipeline can be cut in two phases (phases.py), and what the second reads of the first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from finequery.operators.aggregate_calls import Call
from finequery.operators.aggregate_sink import KEEPS_ROWS
from finequery.operators.column import Frame
from finequery.operators.expr import Call as Function
from finequery.operators.expr import Column, Expr, walk
from finequery.operators.lower_expr import handler_of
from finequery.operators.probe import Probe
from finequery.operators.steps import Filter, Project, Step, step_reads


def cuts(task: Any) -> list[int]:
    """After how many steps a task's pipeline may be cut (none: it can't be). Known from the plan alone. What only shows
    when the rows are there (text that a host function reads) may make the CPU do it all nevertheless."""
    steps, calls = getattr(task, "steps", []), getattr(task, "calls", ())
    if any(_on_host(e) for step in steps for e in _expressions(step)):
        return []
    grouped = hasattr(task, "calls")
    return [cut for cut in range(1, len(steps) + 1) if obstacle(steps, calls, cut, grouped) is None]


def obstacle(steps: Sequence[Step], calls: Sequence[Call], cut: int, grouped: bool) -> str | None:
    """Why a pipeline can't be cut after so many steps; None: it can. ``grouped``: it ends in an aggregation."""
    if not 0 < cut <= len(steps):
        return f"there are no {cut} steps to be a first phase"
    if not any(map(_works, steps[:cut])):
        return "nothing but names stands before the cut"
    if not grouped and not any(map(_works, steps[cut:])):
        return "nothing but names stands behind the cut"
    for call in calls:
        if call.name in KEEPS_ROWS and not _of_build_side(call.argument, steps[cut:]):
            return f"{call.name}() keeps a row's number, which has no meaning beyond its batch"
    return None


def _works(step: Step) -> bool:
    """Whether a step does more than to name columns."""
    return not isinstance(step, Project) or any(not isinstance(e, Column) for _, e in step.columns)


def _of_build_side(column: Column | None, steps: Sequence[Step]) -> bool:
    """Whether a column comes from the build side of an inner probe among the steps: its rows stay where they are."""
    for step in reversed(steps):
        if isinstance(step, Project):
            named = next((e for c, e in step.columns if column is not None and c.id == column.id), column)
            column = named if isinstance(named, Column) else None
        elif isinstance(step, Probe) and column is not None and any(c.id == column.id for c in step.payload):
            return step.kind == "inner"
    return False


def _expressions(step: Step) -> list[Expr]:
    if isinstance(step, Filter):
        return [step.predicate]
    if isinstance(step, Project):
        return [e for _, e in step.columns]
    return [left for left, _ in step.keys] + ([] if step.condition is None else [step.condition])


def _on_host(expr: Expr) -> bool:
    return any(isinstance(e, Function) and handler_of(e.name) is None for e in walk(expr))


def handed_on(steps: Sequence[Step], cut: int, reads: set[int], frame: Frame) -> list[Column]:
    """The columns that the second phase reads of the first; ``reads``: what the sink reads."""
    live = set(reads)
    for step in reversed(steps[cut:]):
        if isinstance(step, Project):
            asked = [(c, e) for c, e in step.columns if c.id in live]
            live -= {c.id for c, _ in asked}
            live |= step_reads(Project(tuple(asked)))
        elif isinstance(step, Probe):
            given = {c.id for c in _given(step)}
            live -= given
            live |= step_reads(step) - given
        else:
            live |= step_reads(step)
    known = {i: Column(data.type, i) for i, data in frame.columns.items()}
    known |= {c.id: c for step in steps[:cut] for c in _given(step)}
    return [known[i] for i in sorted(live)]


def _given(step: Step) -> list[Column]:
    """The columns that a step adds."""
    if isinstance(step, Project):
        return [c for c, _ in step.columns]
    return [*step.payload, *([step.mark] if step.mark else [])] if isinstance(step, Probe) else []
