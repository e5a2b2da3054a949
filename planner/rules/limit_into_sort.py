"""Sort and Limit together are a top-k."""

from __future__ import annotations

from finequery.operators.expr import Literal
from finequery.planner.logical import Limit, Node, Project, Sort
from finequery.planner.rules._tree import bottom_up


def limit_into_sort(plan: Node) -> Node:
    """Give a Sort the Limit above it, and push a Limit below projections.

    Before::

        Limit limit 10
          Project a + 1 as b
            Sort a
              Scan t [a]

    After::

        Project a + 1 as b
          Sort a limit 10
            Scan t [a]
    """
    return bottom_up(plan, sink)


def sink(node: Node) -> Node:
    if isinstance(node, Limit):
        below = node.input
        if isinstance(below, Project):
            return Project(sink(Limit(below.input, node.limit, node.offset)), below.columns)
        if isinstance(below, Sort) and below.limit is None and below.offset is None:
            return Sort(below.input, below.keys, node.limit, node.offset)
        if node.offset is None and (node.limit is None or (isinstance(node.limit, Literal) and node.limit.is_null)):
            return below
    return node
