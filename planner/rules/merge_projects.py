"""Projections on projections become one; projections that do nothing go away, and so do those of constants alone."""

from __future__ import annotations

from collections import Counter

from finequery.operators.expr import Column, Expr, Literal
from finequery.operators.expr import walk as walk_expr
from finequery.planner.logical import Join, Materialize, Node, Project, Union, Values
from finequery.planner.rules._tree import is_volatile, replace, with_inputs


def merge_projects(plan: Node) -> Node:
    """Fewer Project nodes.

    Before::

        Project c + 1 as d
          Project a * b as c
            Filter a > 1
              Project a, b
                Scan t [a, b, k]

    After::

        Project (a * b) + 1 as d
          Filter a > 1
            Scan t [a, b, k]

    SELECT of literals without FROM is a row of them, for which nothing has to be compiled or loaded.
    """
    return visit(plan, True)


def visit(node: Node, exact: bool) -> Node:
    """``exact``: the output columns and their order matter."""
    if isinstance(node, Materialize):
        return node
    if not isinstance(node, Project):
        inputs = node.inputs
        if isinstance(node, Union):
            return with_inputs(node, [visit(i, True) for i in inputs])
        # Nodes that hand their input's columns on are exact where the input is.
        same = exact and len(node.schema) > 0 and (isinstance(node, Join) or hands_on(node))
        return with_inputs(node, [visit(i, same) for i in inputs])
    below = visit(node.input, False)
    columns = node.columns
    while isinstance(below, Project) and mergeable(columns, below):
        inner: dict[int, Expr] = {c.id: e for c, e in below.columns}
        columns = tuple((c, replace(e, inner)) for c, e in columns)
        below = below.input
    if isinstance(below, Values) and not below.columns and all(type(e) is Literal for _, e in columns):
        row = tuple([e for _, e in columns])
        return Values(tuple([c for c, _ in columns]), (row,) * len(below.rows))
    nothing = not isinstance(below, Materialize) and all(type(e) is Column and e.id == c.id for c, e in columns)
    if nothing and (not exact or [c.id for c in below.schema] == [c.id for c, _ in columns]):
        return below
    return node if below is node.input and columns is node.columns else Project(below, columns)


def hands_on(node: Node) -> bool:
    return len(node.inputs) == 1 and node.schema[: len(node.inputs[0].schema)] == node.inputs[0].schema


def mergeable(columns: tuple[tuple[Column, Expr], ...], below: Project) -> bool:
    """Whether nothing would be computed twice."""
    uses = Counter(e.id for _, top in columns for e in walk_expr(top) if type(e) is Column)
    return all(type(e) in (Column, Literal) or (uses[c.id] <= 1 and not is_volatile(e)) for c, e in below.columns)
