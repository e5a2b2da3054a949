"""What of a plan has no form on the GPU, and why: known from the plan alone, before anything runs.

Every expression of a plan is lowered as it will be when the query runs, over columns that stand for the real ones:
those of tables as they are encoded, those that are computed with the kind, the dictionary and the bounds that their
vectors have. Lowering decides what a host function is, so the reasons are those of the run. Where the encoding of a
column depends on data (a dictionary is made only of texts that repeat, and functions of dictionaries are looked up), a
reason may turn out not to be one; it then is not ``certain``. Where there are no rows nothing runs: the columns of a
build side without any are constants, and what would be computed of none is not. That is not foreseen.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from finequery.errors import DataError
from finequery.operators import tasks
from finequery.operators.aggregate import Aggregate
from finequery.operators.column import ColumnData, Stats
from finequery.operators.context import Context
from finequery.operators.expr import (
    Column,
    Expr,
    Literal,
    ScalarSubquery,
    columns_of,
    conjuncts,
    substitute,
    transform,
    walk,
)
from finequery.operators.lower import Lower, NeedsHost, Rows, Stored, Value, host_reason, register_kind
from finequery.operators.lower_expr import value
from finequery.operators.pair_join import PairJoin
from finequery.operators.probe import Probe
from finequery.operators.steps import Filter, Project, Step
from finequery.operators.tabulate import MOST_ENTRIES
from finequery.operators.tasks import Task
from finequery.types import Interval, SqlType

#: Functions over windows that the GPU lacks, and why.
WINDOWS = {"string_agg": "string_agg joins text on the CPU"}
#: Functions that give a value of their first argument.
_PICKING = frozenset(("min", "max", "first", "any_value", "lag", "lead", "first_value", "last_value", "nth_value"))
_checked: weakref.WeakSet[Task] = weakref.WeakSet()


@dataclass(frozen=True, slots=True)
class Reason:
    """Why something is not done on the GPU. ``certain``: whatever the data turn out to be, if there are any rows."""

    text: str
    certain: bool = True


def reasons(root: Task, context: Context) -> dict[int, list[Reason]]:
    """All reasons by id of the task that a run would note them for (``Context.measured``)."""
    survey = _Survey(context)
    survey.columns(root)
    return survey.found


def require(root: Task, context: Context) -> None:
    """Raise NotSupportedError with all reasons if some are certain and the plan is placed there; for a plan that has
    none, they are looked for once. A scheduler places while the plan runs, so its departures are told then."""
    if root in _checked or context.scheduler is not None:
        return
    found = reasons(root, context)
    placed = [each for item, each in found.items() if context.placements.get(item, context.placement).device != "cpu"]
    certain = dict.fromkeys(reason.text for each in placed for reason in each if reason.certain)
    if certain:
        context.depart(None, "; ".join(certain), "The query")
    if not found:
        _checked.add(root)


@dataclass(slots=True, eq=False)
class _Known:
    """A column that stands for a real one. ``guessed``: the real one may be narrower, or have a dictionary."""

    data: ColumnData
    guessed: bool = False


class _Survey:
    """One walk over a plan: the columns of every task, and the reasons."""

    def __init__(self, context: Context):
        self.context = context
        self.found: dict[int, list[Reason]] = {}
        self.done: dict[int, dict[int, _Known]] = {}

    def note(self, owner: object, text: str, certain: bool) -> None:
        noted = self.found.setdefault(id(owner), [])
        if all(text != reason.text for reason in noted):
            noted.append(Reason(text, certain))
        elif certain:
            noted[:] = [Reason(text) if reason.text == text else reason for reason in noted]

    def columns(self, task: Task) -> dict[int, _Known]:
        """The columns that a task will give."""
        found = self.done.get(id(task))
        if found is None:
            found = self.done[id(task)] = self._columns(task)
        return found

    def _columns(self, task: Task) -> dict[int, _Known]:
        if isinstance(task, tasks.Scan):
            columns = zip(task.columns, map(task.table.encoded, task.names))
            return {c.id: _guess(c.type) if data is None else _Known(data) for c, data in columns}
        if isinstance(task, tasks.Values):
            self.constants([e for row in task.rows for e in row])
            return {c.id: _guess(c.type) for c in task.columns}
        if isinstance(task, tasks.Pipe):
            return self.pipeline(task, self.columns(task.source), task.steps, task.columns)
        if isinstance(task, Aggregate):
            below = self.pipeline(task, self.columns(task.source), task.steps, task.reads)
            made = {c.output.id: _chosen(c.name, c.argument, c.output.type, below) for c in task.calls}
            return {c.id: made[c.id] if c.id in made else below[c.id] for c in task.columns}
        if isinstance(task, tasks.UnionAll):
            parts = [self.columns(p) for p in task.parts]
            rows = zip(task.columns, *task.part_columns)
            return {c.id: _joined(c.type, [p[own.id] for p, own in zip(parts, owns)]) for c, *owns in rows}
        if isinstance(task, tasks.Window):
            below = dict(self.columns(task.source))
            for output, call, args, *_ in task.calls:
                if call.name in WINDOWS:
                    self.note(task, WINDOWS[call.name], True)
                below[output.id] = _chosen(call.name, args[0] if len(args) in (1, 2) else None, output.type, below)
            return below
        if isinstance(task, PairJoin):
            return self.pairs(task)
        if isinstance(task, (tasks.Sort, tasks.Limit)):
            self.constants([e for e in (task.limit, task.offset) if e is not None])
        below = {}
        for source in task.inputs:
            below |= self.columns(source)
        return below

    def pairs(self, task: PairJoin) -> dict[int, _Known]:
        """Both sides' columns; the pipeline writes row numbers alone."""
        left = self.columns(task.left)
        self.pipeline(task, left, [task.probe], ())
        both = left | self.columns(task.probe.build)
        return both if task.mark is None else {**both, task.mark.id: _guess(task.mark.type)}

    def constants(self, exprs: Iterable[Expr]) -> None:
        """Look at the plans of scalar subqueries."""
        for expr in exprs:
            for e in walk(expr):
                if isinstance(e, ScalarSubquery) and isinstance(e.plan, tasks.Scalar):
                    self.columns(e.plan.task)

    def pipeline(
        self, owner: Task, below: dict[int, _Known], steps: list[Step], outputs: Iterable[Column]
    ) -> dict[int, _Known]:
        """Lower what a pipeline computes; the columns it gives."""
        lowering = _Lowering(self, owner, dict(below))
        alive = True
        for step in steps:
            if isinstance(step, Project):
                lowering.define(step)
            elif isinstance(step, Probe):
                build = self.columns(step.build)
                self.constants(right for _, right in step.keys)
                lowering.probe(step, build)
            elif alive:
                alive = lowering.filter(step)
        return {c.id: lowering.output(c) if alive else _guess(c.type) for c in outputs}


class _Lowering:
    """The expressions of one pipeline, over columns that stand for those it reads."""

    def __init__(self, survey: _Survey, owner: Task, known: dict[int, _Known]):
        self.survey, self.owner, self.known = survey, owner, known
        self.definitions: dict[int, Expr] = {}
        self.hosted: dict[Expr, Column] = {}  # calls that the host computes, and the columns that stand for them
        self.lower = Lower(self.constant)
        self.lower.gpu = True
        for number, column in known.items():
            self.lower.environment[number] = Stored(column.data)

    def constant(self, expr: Expr) -> Any:
        """The value of a constant; one of its type for a scalar subquery, which is not run for this."""
        return self.survey.context.constant(transform(expr, _without_subquery))

    def define(self, step: Project) -> None:
        for column, expr in step.columns:
            if not (isinstance(expr, Column) and expr.id == column.id):
                self.definitions[column.id] = substitute(expr, self.definitions)

    def filter(self, step: Filter) -> bool:
        """Whether rows may come out."""
        for term in conjuncts(self.folded(step.predicate)):
            if isinstance(term, Literal):
                if not term.value:
                    return False
                continue
            self.vector(term)
        return True

    def probe(self, step: Probe, build: dict[int, _Known]) -> None:
        for left, _ in step.keys:
            self.vector(left)
        rows = Rows(reg=self.lower.program.constant("u32", 0))
        for column in step.payload:
            self.known[column.id] = build[column.id]
            self.lower.environment[column.id] = Stored(build[column.id].data, rows)
        if step.mark is not None:
            self.bind(step.mark, _guess(step.mark.type))
        for term in conjuncts(step.condition) if step.condition is not None else ():
            self.vector(term)

    def bind(self, column: Column, known: _Known) -> None:
        self.known[column.id] = known
        self.lower.environment[column.id] = Stored(known.data)

    def folded(self, expr: Expr) -> Expr:
        self.survey.constants([expr])
        return self.lower.fold(substitute(expr, self.definitions))

    def vector(self, expr: Expr) -> tuple[Value | None, bool]:
        """The vector of an expression, and whether its form is guessed; what the host computes is noted. No vector: it
        fails for what stands for the data."""
        expr = self.folded(expr)
        while True:
            expr = transform(expr, self.hosted.get)
            guessed = any(self.known[i].guessed for i in columns_of(expr))
            try:
                return value(self.lower, expr), guessed
            except NeedsHost as need:
                certain = not any(self.known[i].guessed for i in columns_of(need.expr))
                self.survey.note(self.owner, host_reason(need.expr), certain)
                fresh = Column(need.expr.type, -(10**16) - len(self.hosted))
                self.hosted[need.expr] = fresh
                self.bind(fresh, _guess(fresh.type))
            except DataError:
                return None, True

    def output(self, column: Column) -> _Known:
        """What a column will be when it is written."""
        expr = transform(self.folded(column), self.hosted.get)
        if isinstance(expr, Column):
            return self.known[expr.id]
        found, guessed = self.vector(expr)
        return _guess(column.type) if found is None else _written(column.type, found, guessed)


def _without_subquery(expr: Expr) -> Expr | None:
    return Literal(expr.type, _sample(expr.type)) if isinstance(expr, ScalarSubquery) else None


def _sample(type_: SqlType) -> Any:
    """A value of a type, in its physical form."""
    if type_.is_string:
        return "1"
    if type_.name == "INTERVAL":
        return Interval(0, 1, 0)
    return 1.0 if type_.is_float else True if type_.name == "BOOLEAN" else 1


_STORED = {"u8": "uint", "f64": "float64", "w": "int128", "s": "string", "i64": "int64"}


def _column(type_: SqlType, kind: str, stats: Stats | None = None, **more: Any) -> ColumnData:
    """A column of no rows that anybody reads."""
    if kind == "int128" and type_.name == "INTERVAL":
        kind = "interval"
    dtype = {"uint": np.uint8, "float64": np.float64, "float32": np.float32, "dict": np.uint32}.get(kind, np.int64)
    chars = np.zeros(64, np.uint8) if kind == "string" else None
    return ColumnData(type_, kind, 1, np.zeros(8, dtype), chars=chars, stats=stats or Stats(), **more)


def _guess(type_: SqlType) -> _Known:
    """A column of which the type alone is known. Text may be coded, numbers may be few enough for a table."""
    kind = "float32" if type_.name == "FLOAT" else _STORED[register_kind(type_)]
    return _Known(_column(type_, kind), guessed=type_.is_string or type_.is_exact)


def _written(type_: SqlType, v: Value, guessed: bool) -> _Known:
    """The column that a vector is written to (``operators.materialize``)."""
    if v.kind == "u32" and v.dictionary is not None:
        return _Known(_column(type_, "dict", dictionary=v.dictionary), guessed)
    if v.kind == "i64" and v.high - v.low < 2**32:  # the run will know the bounds of the rows that are left
        data = _column(type_, "uint", Stats(low=v.low, high=v.high), base=v.low)
        return _Known(replace(data, data=np.zeros(8, np.uint32)), guessed or v.high - v.low >= MOST_ENTRIES)
    kind = "float32" if type_.name == "FLOAT" else _STORED[v.kind]
    return _Known(_column(type_, kind), guessed)


def _chosen(name: str, argument: Column | None, type_: SqlType, below: dict[int, _Known]) -> _Known:
    """The result of an aggregate or a window function: a value of its argument, or a new number."""
    if name in _PICKING and argument is not None and argument.type == type_ and type_.is_string:
        return below[argument.id]
    return _guess(type_)


def _joined(type_: SqlType, parts: list[_Known]) -> _Known:
    """Columns one after another."""
    first = parts[0].data
    if all(p.data.kind == "string" for p in parts) or all(p.data.dictionary is first.dictionary for p in parts):
        return _Known(first, any(p.guessed for p in parts)) if first.kind in ("string", "dict") else _guess(type_)
    return _guess(type_)
