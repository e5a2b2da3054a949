"""The invariants of logical plans, as planner/logical.py states them. For tests; not run on queries."""

from __future__ import annotations

from finequery.errors import InternalError
from finequery.operators.expr import Column, Expr, ScalarSubquery
from finequery.operators.expr import walk as walk_expr
from finequery.planner.logical import Aggregate, Filter, Join, Materialize, Node, Project, Sort, Subquery, Union, Values
from finequery.planner.rules._tree import free, plans_in
from finequery.types import BOOLEAN, NULL


def check(plan: Node, outer: frozenset[int] = frozenset(), subqueries: bool = True) -> None:
    """Raise InternalError where the plan breaks an invariant. ``subqueries``: whether Subquery may still occur."""
    _Checker(subqueries).visit(plan, outer)


class _Checker:
    def __init__(self, subqueries: bool):
        self.subqueries = subqueries
        self.types: dict[int, object] = {}
        self.shared: set[int] = set()

    def visit(self, node: Node, outer: frozenset[int]) -> None:
        if isinstance(node, Materialize):
            if id(node) in self.shared:
                return
            self.shared.add(id(node))
        for child in node.inputs:
            beside = {c.id for c in node.left.schema} if isinstance(node, Join) and child is node.right else set()
            self.visit(child, outer | beside)  # a lateral join's right side reads the left one
        below = [{c.id for c in child.schema} for child in node.inputs]
        if len(below) == 2 and isinstance(node, Join) and below[0] & below[1]:
            raise InternalError(f"both inputs of a join produce {below[0] & below[1]}")
        visible = set(outer).union(*below)
        for e in node.expressions:
            self.expression(e, visible, node)
        self.node(node, below, outer)
        made = self.made(node)
        for column in made:
            self.types[column.id] = column.type

    def made(self, node: Node) -> list[Column]:
        """Columns that first appear in this node (a Project's pass-through does not count)."""
        below = {c.id for child in node.inputs for c in child.schema}
        return [c for c in node.schema if c.id not in below]

    def expression(self, e: Expr, visible: set[int], node: Node) -> None:
        for part in walk_expr(e):
            if isinstance(part, Column):
                if part.id not in visible:
                    raise InternalError(f"{type(node).__name__} reads {part.name}#{part.id}, which its input lacks")
                if self.types.get(part.id, part.type) != part.type:
                    raise InternalError(f"{part.name}#{part.id} has two types")
            if isinstance(part, Subquery):
                if not self.subqueries:
                    raise InternalError("a Subquery is left")
                if not part.outer <= visible:
                    raise InternalError("a Subquery's outer columns are not visible")
                if part.kind in ("scalar", "in") and len(part.plan.schema) != 1:
                    raise InternalError("a scalar or IN subquery has one column")
                if not free(part.plan) <= visible:
                    raise InternalError(f"a Subquery reads {set(free(part.plan))}, which is not all visible")
            if isinstance(part, ScalarSubquery) and len(part.plan.schema) != 1:
                raise InternalError("a ScalarSubquery has one column")
        for plan in plans_in(e):
            self.visit(plan, frozenset(visible))

    def node(self, node: Node, below: list[set[int]], outer: frozenset[int]) -> None:
        if isinstance(node, Filter) and node.predicate.type != BOOLEAN:
            raise InternalError("a predicate is not BOOLEAN")
        if isinstance(node, Project):
            for column, e in node.columns:
                if column.type != e.type and e.type != NULL:
                    raise InternalError(f"{column.name} has type {column.type}, its expression {e.type}")
                if column.id in below[0] and getattr(e, "id", None) != column.id:
                    raise InternalError(f"a Project gives {column.name}#{column.id} a second meaning")
        if isinstance(node, Join):
            self.join(node, below, outer)
        if isinstance(node, Aggregate):
            for column, e in node.groups:
                if column.id in below[0] and getattr(e, "id", None) != column.id:
                    raise InternalError(f"an Aggregate gives {column.name}#{column.id} a second meaning")
            for column, call in node.aggregates:
                if column.type != call.type:
                    raise InternalError(f"{column.name} has type {column.type}, its aggregate {call.type}")
                if column.id in below[0]:
                    raise InternalError(f"an Aggregate gives {column.name}#{column.id} a second meaning")
        if isinstance(node, Sort) and not node.keys:
            raise InternalError("a Sort without keys")
        if isinstance(node, Union):
            for part in node.parts:
                if [c.type for c in part.schema] != [c.type for c in node.columns]:
                    raise InternalError("a part of a Union has other types")
        if isinstance(node, Values) and any(len(row) != len(node.columns) for row in node.rows):
            raise InternalError("a row of Values has another width")
        ids = [c.id for c in node.schema]
        if len(set(ids)) != len(ids):
            raise InternalError(f"{type(node).__name__} has a column twice")

    def join(self, node: Join, below: list[set[int]], outer: frozenset[int]) -> None:
        if node.kind not in ("inner", "left", "full", "semi", "anti", "mark", "single"):
            raise InternalError(f"no such join: {node.kind}")
        for a, b in node.keys:
            if a.type != b.type:
                raise InternalError(f"join key types differ: {a.type}, {b.type}")
            self.expression(a, below[0] | outer, node)
            self.expression(b, below[1] | outer, node)
        if node.condition is not None and node.condition.type != BOOLEAN:
            raise InternalError("a join condition is not BOOLEAN")
        if node.null_aware and (node.kind not in ("anti", "mark") or len(node.keys) != 1 or node.condition is not None):
            raise InternalError("null_aware is for anti and mark joins with one key and no condition")
        if (node.kind == "mark") != (node.mark is not None):
            raise InternalError("a mark column is for mark joins")
