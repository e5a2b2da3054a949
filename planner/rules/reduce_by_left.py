"""Aggregates that few rows of a join's left side look up aggregate the groups of these rows only."""

from __future__ import annotations

from finequery.operators.expr import Column, Expr
from finequery.planner.estimate import estimate, expression
from finequery.planner.logical import Aggregate, Filter, Join, Materialize, Node, Project
from finequery.planner.rules._everywhere import Everywhere
from finequery.planner.rules._tree import fresh, is_volatile, pass_through, reads

#: At most this share of the groups is looked up, and the aggregate reads so many times more rows than look them up.
SHARE, LARGER = 0.25, 8.0
#: Kinds in which a right row without a partner never shows.
KINDS = ("inner", "left", "semi", "anti", "single")


def reduce_by_left(plan: Node) -> Node:
    """Keep the left side, and semi join the aggregate's input with it ("magic sets": Mumick and Pirahesh 1994). Where
    ``reduce_aggregates`` finds a filtered table to read twice, this rule takes the rows of any plan.

    Before::

        Join semi on k = k#2 if b <> low
          Join inner on k = t_k
            Scan t [k, b]
            Filter x = 1
              Scan u [t_k, x]
          Aggregate by k#2 [min(b#2) as low]
            Scan w [k#2, b#2]

    After::

        Join semi on k = k#2 if b <> low
          Project k, b
            Materialize 1 rows
              Join inner on k = t_k
                Scan t [k, b]
                Filter x = 1
                  Scan u [t_k, x]
          Aggregate by k#2 [min(b#2) as low]
            Join semi on k#2 = k#3
              Scan w [k#2, b#2]
              Project k as k#3
                Materialize 1 rows
    """
    return Everywhere(change_node=reduced).node(plan)


def reduced(node: Node) -> Node:
    if not isinstance(node, Join) or node.kind not in KINDS or node.null_safe or node.null_aware:
        return node
    left = estimate(node.left)
    for ours, theirs in node.keys:
        found = group_of(node.right, theirs)
        if found is None or not reads(ours):
            continue
        target, group = found
        below = estimate(target.input)
        looked_up = min(expression(ours, left).distinct, left.rows) / expression(group, below).distinct
        if below.rows < LARGER * left.rows or looked_up > SHARE:
            continue
        rows = Materialize(node.left, "rows")
        key = fresh(ours.type, ours.name if isinstance(ours, Column) else "key")
        semi = reduced_input(target.input, Project(rows, ((key, ours),)), group, key, looked_up)
        right = with_aggregate(node.right, Aggregate(semi, target.groups, target.aggregates))
        return node.with_inputs((Project(rows, pass_through(node.left.schema)), right))
    return node


def reduced_input(node: Node, keys: Node, group: Expr, key: Column, share: float) -> Node:
    """The semi join, below filters that keep more than its ``share``."""
    if isinstance(node, Filter) and not is_volatile(node.predicate):
        kept = estimate(node).rows / estimate(node.input).rows
        if kept > share:
            return Filter(reduced_input(node.input, keys, group, key, share), node.predicate)
    return Join("semi", node, keys, ((group, key),))


def group_of(node: Node, key: Expr) -> tuple[Aggregate, Expr] | None:
    """The aggregate below filters and projections, and what it groups by where ``key`` is one of its groups."""
    if isinstance(node, Project) and isinstance(key, Column):
        return group_of(node.input, next(e for c, e in node.columns if c.id == key.id))
    if isinstance(node, Filter):
        return group_of(node.input, key)
    if not isinstance(node, Aggregate) or not isinstance(key, Column):
        return None
    return next(((node, e) for c, e in node.groups if c.id == key.id and reads(e)), None)


def with_aggregate(node: Node, aggregate: Aggregate) -> Node:
    if isinstance(node, Aggregate):
        return aggregate
    return node.with_inputs((with_aggregate(node.inputs[0], aggregate),))
