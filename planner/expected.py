"""What is expected of builds and groups before a run: structures, key ranges, sizes of entries."""

from __future__ import annotations

from collections.abc import Iterable

from finequery.operators.expr import Column, Expr
from finequery.operators.probe import Probe
from finequery.planner import algorithms
from finequery.planner.algorithms import Choice
from finequery.planner.estimate import ColumnEstimate, Estimate, estimate, expression
from finequery.types import SqlType


def expected_lookup(step: Probe, rows: float, probes: float) -> tuple[Choice, float | None]:
    """The structure that a build is expected to choose, and the number of different keys."""
    if not step.keys:
        return Choice("pairs", "no keys: all pairs", 0.0), None
    node = step.build.node
    if node is None:
        return algorithms.lookup(rows, None, False, step.need_rows, probes), None
    below: Estimate = estimate(node)
    found = [(key, expression(key, below)) for _, key in step.keys]
    distinct = min(rows, _times(c.distinct for _, c in found))
    plain = [e.id for e, _ in found if isinstance(e, Column) and below.has(e.id)]
    unique = bool(plain) and below.unique(plain)
    return algorithms.lookup(rows, domain_of(found), unique, step.need_rows, probes), distinct


def domain_of(keys: list[tuple[Expr, ColumnEstimate]]) -> float | None:
    """How many combinations of key values there can be: the ranges of exact types, the dictionaries of strings."""
    result = 1.0
    for e, c in keys:
        span = _span(e.type, c)
        if span is None:
            return None
        result *= span + (1.0 if c.nulls else 0.0)
    return result


def _span(type_: SqlType, c: ColumnEstimate) -> float | None:
    if type_.is_string:
        return max(c.domain, c.distinct)
    if not type_.is_exact or c.low is None or c.high is None:
        return max(c.distinct, 1.0) if type_.name in ("BOOLEAN", "BIGINT", "INTEGER") and c.distinct < 4096 else None
    return float(c.high - c.low + 1)


def _times(numbers: Iterable[float]) -> float:
    result = 1.0
    for n in numbers:
        result *= n
    return result


def entry_bytes(choice: Choice) -> float:
    """Bytes of one entry of a look-up structure."""
    return {"map": 1.0, "bits": 0.125, "rows": 4.0, "rank": 4.0, "groups": 8.0, "hash": 64.0, "chains": 72.0}.get(
        choice.name, 4.0
    )
