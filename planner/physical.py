"""The logical plan split into sub-tasks, grouped into pipelines.

A pipeline starts at a scan or a breaker's result and takes filters, projections and probes until the next breaker
(build, aggregate, sort, window, set operation). The right side of every join is a pipeline of its own that ends in a
build. Expressions that breakers need become columns by a projection in front of them.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from typing import Any

from finequery.errors import NotSupportedError
from finequery.operators.aggregate import Aggregate
from finequery.operators.aggregate_calls import Call, adds_floats
from finequery.operators.expr import Call as Call_
from finequery.operators.expr import Column, Expr, Literal, Parameter, ScalarSubquery, SortKey, columns_of, transform
from finequery.operators.pair_join import PairJoin
from finequery.operators.probe import Probe
from finequery.operators.steps import Filter, Project, Step
from finequery.operators.tasks import (
    Limit,
    Pipe,
    Scalar,
    Scan,
    Shared,
    Sort,
    Task,
    UnionAll,
    Values,
    Window,
)
from finequery.planner import logical
from finequery.planner.estimate import estimate, expression
from finequery.planner.rules._tree import plans_in
from finequery.planner.shape import lifted_key
from finequery.types import BOOLEAN

_fresh = itertools.count(1)
#: A build side has few rows (or a key few values) where the other side has so many times more.
FEW = 8.0


@dataclass
class Open:
    """A pipeline under construction."""

    source: Task
    steps: list[Step]


class Planner:
    """Builds the DAG of one plan; shared subplans become one task. ``deterministic``: floating-point values are added
    up exactly."""

    def __init__(self, deterministic: bool = False) -> None:
        self.deterministic = deterministic
        self.shared: dict[int, Shared] = {}
        self.scalars: dict[int, Scalar] = {}
        self.lifted: dict[int, None] = {}  # places of the literals that are parameters of the plan
        self.needed: dict[int, set[int]] = {}  # by node: ids of its columns that are read above it

    def expression(self, expr: Expr) -> Expr:
        """Subplans of scalar subqueries become tasks, lifted literals parameters."""

        def change(e: Expr) -> Expr | None:
            if isinstance(e, Literal) and e.origin is not None:
                self.lifted[e.origin[1]] = None
                return Parameter(e.type, lifted_key(e.origin[1]))
            if isinstance(e, ScalarSubquery) and isinstance(e.plan, logical.Node):
                found = self.scalars.get(id(e.plan))
                if found is None:
                    column = e.plan.schema[0]
                    found = self.scalars[id(e.plan)] = Scalar(self.root(e.plan), column)
                return ScalarSubquery(e.type, found)
            return None

        return transform(expr, change)

    def root(self, node: logical.Node) -> Task:
        """The task of a whole plan: all its columns."""
        self.require(node, {c.id for c in node.schema})
        return self.task(node)

    def require(self, node: logical.Node, needed: set[int]) -> None:
        """Note which of a node's columns are read above it, and what it reads itself of those below. A shared subplan
        stands in several places: it is done before any task is made."""
        known = self.needed.setdefault(id(node), set())
        if isinstance(node, logical.Materialize) and known and needed <= known:
            return
        known.update(needed)
        needed = set(known)
        for expr in node.expressions:
            for plan in plans_in(expr):
                if id(plan) not in self.needed:
                    self.require(plan, {c.id for c in plan.schema})
        if isinstance(node, logical.Join):
            reads = set(needed)
            for left, right in node.keys:
                reads |= columns_of(left) | columns_of(right)
            if node.condition is not None:
                reads |= columns_of(node.condition)
        elif isinstance(node, logical.Project):
            reads = set().union(*(columns_of(e) for c, e in node.columns if c.id in needed))
        elif isinstance(node, logical.Filter):
            reads = needed | columns_of(node.predicate)
        elif isinstance(node, logical.Sort):
            reads = needed.union(*(columns_of(k.expr) for k in node.keys))
        elif isinstance(node, (logical.Limit, logical.Materialize)):
            reads = needed
        elif isinstance(node, logical.Aggregate):
            parts = [e for _, e in node.groups]
            for _, call in node.aggregates:
                parts += [*call.args, *([] if call.filter is None else [call.filter])]
            reads = set().union(*map(columns_of, parts))
        elif isinstance(node, logical.Window):
            parts = []
            for _, over in node.calls:
                parts += [*over.args, *over.partition, *(k.expr for k in over.order)]
            reads = needed.union(*map(columns_of, parts))
        else:
            reads = {c.id for child in node.inputs for c in child.schema}
        for child in node.inputs:
            self.require(child, reads & {c.id for c in child.schema})

    def columns(self, node: logical.Node) -> tuple[Column, ...]:
        """The node's columns that are read above it."""
        return tuple(c for c in node.schema if c.id in self.needed[id(node)])

    def task(self, node: logical.Node) -> Task:
        """A task that gives the node's columns."""
        return self.close(self.open(node), node)

    def close(self, open_: Open, node: logical.Node) -> Task:
        columns = self.columns(node)
        if not open_.steps and {c.id for c in columns} <= {c.id for c in open_.source.columns}:
            return open_.source
        return Pipe(columns, open_.source, open_.steps, **_known(node))

    def open(self, node: logical.Node) -> Open:
        handler = getattr(self, "_" + type(node).__name__.lower(), None)
        if handler is None:
            raise NotSupportedError(f"plan node {type(node).__name__}")
        result: Open = handler(node)
        return result

    def _scan(self, node: logical.Scan) -> Open:
        names = tuple(name for _, name in node.columns)
        return Open(Scan(node.schema, node.table, names, node.alias, **_known(node)), [])

    def _values(self, node: logical.Values) -> Open:
        rows = tuple(tuple(self.expression(e) for e in row) for row in node.rows)
        return Open(Values(node.schema, rows, **_known(node)), [])

    def _filter(self, node: logical.Filter) -> Open:
        open_ = self.open(node.input)
        open_.steps.append(Filter(self.expression(node.predicate), _rows(node)))
        return open_

    def _project(self, node: logical.Project) -> Open:
        open_ = self.open(node.input)
        columns = tuple((c, self.expression(e)) for c, e in node.columns)
        if any(not (isinstance(e, Column) and e.id == c.id) for c, e in columns):
            open_.steps.append(Project(columns))
        return open_

    def _join(self, node: logical.Join) -> Open:
        left, right = self.open(node.left), self.task(node.right)
        keys = tuple((self.expression(a), self.expression(b)) for a, b in node.keys)
        condition = None if node.condition is None else self.expression(node.condition)
        payload = () if node.kind in ("semi", "anti", "mark") else self.columns(node.right)
        probe = Probe(
            *(node.kind, right, keys, payload, condition, node.null_safe, node.null_aware, node.mark, _rows(node))
        )
        if condition is not None and node.kind in ("semi", "anti") and not node.null_aware and _unique(node):
            # At most one partner a row: a plain look-up and a filter say the same, inside the pipeline.
            if node.kind == "semi":
                left.steps.append(replace(probe, kind="inner", payload=self.columns(node.right)))
                return left
            left.steps.append(replace(probe, kind="left", payload=self.columns(node.right), condition=None))
            partner = Call_(BOOLEAN, "not", (Call_(BOOLEAN, "is_null", (keys[0][1],)),))
            match = Call_(BOOLEAN, "coalesce", (Call_(BOOLEAN, "and", (partner, condition)), Literal(BOOLEAN, False)))
            left.steps.append(Filter(Call_(BOOLEAN, "not", (match,)), _rows(node)))
            return left
        leading = leading_key(node)
        if leading is not None:
            if not isinstance(right, (Scan, Shared)):
                probe.build = Shared(right.columns, right, **_known(node.right))
            best, share = leading
            few = max(estimate(node.left).rows * share, estimate(node).rows)
            left.steps.append(Probe("semi", probe.build, (keys[best],), (), estimate=few))
        if node.kind == "full" or (condition is not None and node.kind != "inner"):
            pairs = replace(probe, kind="inner", payload=self.columns(node.right))
            task = self.close(left, node.left)
            return Open(
                PairJoin(
                    self.columns(node), node.kind, task, self.columns(node.left), pairs, node.mark, **_known(node)
                ),
                [],
            )
        left.steps.append(probe)
        return left

    def _aggregate(self, node: logical.Aggregate) -> Open:
        open_ = self.open(node.input)
        named = _Namer(self)
        groups = tuple(named.define(c, e) for c, e in node.groups)
        calls = []
        for column, call in node.aggregates:
            if call.distinct:
                raise NotSupportedError(f"{call.name}(DISTINCT) was not rewritten by the planner")
            argument = named.name(call.args[0]) if call.args else None
            keep = None if call.filter is None else named.name(call.filter)
            calls.append(
                Call(column, call.name, argument, keep, self.deterministic and adds_floats(call.name, argument))
            )
        named.append_to(open_)
        task = Aggregate(node.schema, open_.source, open_.steps, groups, tuple(calls), _rows(node), **_known(node))
        return Open(task, [])

    def _window(self, node: logical.Window) -> Open:
        named = _Namer(self)
        calls: list[Any] = []
        for output, call in node.calls:
            args = tuple(named.name(a) for a in call.args)
            partition = tuple(named.name(p) for p in call.partition)
            order = tuple((named.name(k.expr), k.descending, k.nulls_first) for k in call.order)
            calls.append((output, call, args, partition, order))
        source = self._with(node.input, named)
        return Open(Window(self.columns(node), source, tuple(calls), **_known(node)), [])

    def _sort(self, node: logical.Sort) -> Open:
        named = _Namer(self)
        keys = tuple(self._key(named, k) for k in node.keys)
        source = self._with(node.input, named)
        limit = None if node.limit is None else self.expression(node.limit)
        offset = None if node.offset is None else self.expression(node.offset)
        return Open(Sort(self.columns(node), source, keys, limit, offset, **_known(node)), [])

    def _key(self, named: _Namer, key: SortKey) -> tuple[Column, bool, bool]:
        return named.name(key.expr), key.descending, key.nulls_first

    def _with(self, node: logical.Node, named: _Namer) -> Task:
        """The node's task, with the named expressions as further columns."""
        if not named.columns:
            return self.task(node)
        open_ = self.open(node)
        columns = self.columns(node)
        open_.steps.append(Project(tuple((c, c) for c in columns) + tuple(named.columns)))
        return Pipe(columns + tuple(c for c, _ in named.columns), open_.source, open_.steps, **_known(node))

    def _limit(self, node: logical.Limit) -> Open:
        limit = None if node.limit is None else self.expression(node.limit)
        offset = None if node.offset is None else self.expression(node.offset)
        return Open(Limit(self.columns(node), self.task(node.input), limit, offset, **_known(node)), [])

    def _union(self, node: logical.Union) -> Open:
        parts = tuple(self.task(p) for p in node.parts)
        return Open(UnionAll(node.columns, parts, tuple(p.schema for p in node.parts), **_known(node)), [])

    def _materialize(self, node: logical.Materialize) -> Open:
        found = self.shared.get(id(node))
        if found is None:
            found = self.shared[id(node)] = Shared(self.columns(node), self.task(node.input), **_known(node))
        return Open(found, [])


def leading_key(node: logical.Join) -> tuple[int, float] | None:
    """Of several keys that few right rows have, the one by which the most left rows are sorted out, and the share of
    them that is left. A look-up of it alone is cheap; the keys are packed for what is left."""
    left, right = estimate(node.left), estimate(node.right)
    if node.kind not in ("inner", "semi") or node.null_safe or len(node.keys) < 2 or right.rows * FEW > left.rows:
        return None
    shares = [expression(b, right).distinct / max(expression(a, left).distinct, 1.0) for a, b in node.keys]
    best = min(range(len(shares)), key=shares.__getitem__)
    plain = all(isinstance(e, Column) and (e.type.is_integer or e.type.is_temporal) for e in node.keys[best])
    return (best, shares[best]) if plain and shares[best] * FEW <= 1.0 else None


def _unique(node: logical.Join) -> bool:
    """Whether a left row finds at most one right row: the right side is grouped by the very keys."""
    right = node.right
    while isinstance(right, (logical.Filter, logical.Project)):
        if isinstance(right, logical.Project) and any(
            not isinstance(e, Column) or e.id != c.id for c, e in right.columns
        ):
            return False
        right = right.input
    if not isinstance(right, logical.Aggregate) or node.null_safe or not node.keys:
        return False
    wanted = {c.id for c, _ in right.groups}
    return wanted <= {e.id for _, e in node.keys if isinstance(e, Column)}


class _Namer:
    """Gives columns to expressions, one to each."""

    def __init__(self, planner: Planner):
        self.planner = planner
        self.columns: list[tuple[Column, Expr]] = []
        self.names: dict[Expr, Column] = {}

    def name(self, expr: Expr) -> Column:
        if isinstance(expr, Column):
            return expr
        found = self.names.get(expr)
        if found is None:
            found = self.names[expr] = Column(expr.type, -1_000_000 - next(_fresh))
            self.columns.append((found, self.planner.expression(expr)))
        return found

    def define(self, column: Column, expr: Expr) -> Column:
        """A column of a given id for an expression (several may name one expression)."""
        if not (isinstance(expr, Column) and expr.id == column.id):
            self.columns.append((column, self.planner.expression(expr)))
        return column

    def append_to(self, open_: Open) -> None:
        if self.columns:
            open_.steps.append(Project(tuple(self.columns)))


def _rows(node: logical.Node) -> float | None:
    return float(estimate(node).rows)


def _known(node: logical.Node) -> dict[str, Any]:
    """What every task keeps of its node."""
    return {"estimate": _rows(node), "node": node}


def physical_plan(plan: logical.Node, deterministic: bool = False) -> tuple[Task, tuple[int, ...]]:
    """The DAG of sub-tasks for an optimised plan, and the places of the lifted literals that it reads."""
    planner = Planner(deterministic)
    return planner.root(plan), tuple(planner.lifted)
