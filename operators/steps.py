"""Steps of a pipeline: what its rows pass between the source and the breaker."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

from finequery.operators.expr import Column, Expr, columns_of
from finequery.operators.probe import Probe


@dataclass(eq=False)
class Filter:
    """Rows for which the predicate is true."""

    predicate: Expr
    estimate: float | None = None


@dataclass(eq=False)
class Project:
    """Names for expressions; nothing is computed before it is needed."""

    columns: tuple[tuple[Column, Expr], ...]


Step = Filter | Project | Probe


def step_reads(step: Step) -> set[int]:
    """Columns that a step reads."""
    if isinstance(step, Filter):
        return columns_of(step.predicate)
    if isinstance(step, Project):
        return set().union(*[columns_of(e) for _, e in step.columns]) if step.columns else set()
    reads = set().union(*[columns_of(left) for left, _ in step.keys]) if step.keys else set()
    if step.condition is not None:
        reads |= columns_of(step.condition)
    return reads


def rewrite(step: Step, swap: Callable[[Expr], Expr]) -> Step:
    if isinstance(step, Filter):
        return Filter(swap(step.predicate), step.estimate)
    if isinstance(step, Project):
        return Project(tuple((c, swap(e)) for c, e in step.columns))
    step = copy.copy(step)
    step.keys = tuple((swap(left), right) for left, right in step.keys)
    step.condition = None if step.condition is None else swap(step.condition)
    return step


def run_of_probes(steps: list[Step], start: int) -> list[Probe]:
    """Probes that follow each other and may be exchanged: each by a column that none of the others gives."""
    run: list[Probe] = []
    given: set[int] = set()
    for step in steps[start:]:
        if not isinstance(step, Probe) or step.kind not in ("inner", "semi") or step_reads(step) & given:
            break
        run.append(step)
        given |= {c.id for c in step.payload}
    return run
