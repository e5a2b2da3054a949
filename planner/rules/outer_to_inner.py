"""Outer joins whose NULL-extended rows are thrown away above become inner joins."""

from __future__ import annotations

from finequery.operators.expr import Call, Cast, Column, Expr, Literal
from finequery.planner.logical import Aggregate, Filter, Join, Limit, Materialize, Node, Project, Sort, Union, Window
from finequery.planner.rules._tree import as_schema, ids, with_inputs

COMPARISONS = frozenset(["eq", "ne", "lt", "le", "gt", "ge", "like", "in"])
#: Functions that give NULL for any NULL argument.
STRICT = COMPARISONS | {
    "add",
    "sub",
    "mul",
    "div",
    "neg",
    "mod",
    "abs",
    "year",
    "month",
    "day",
    "substring",
    "lower",
    "upper",
}


def outer_to_inner(plan: Node) -> Node:
    """Turn left and full joins into inner or left ones under filters that no NULL passes.

    Before::

        Filter b > 1
          Join left on k = k#2
            Scan t [k, a]
            Scan u [k#2, b]

    After::

        Filter b > 1
          Join inner on k = k#2
            Scan t [k, a]
            Scan u [k#2, b]
    """
    return visit(plan, frozenset())


def strict(e: Expr) -> frozenset[int]:
    """Columns that make the expression NULL where they are NULL."""
    if type(e) is Column:
        return frozenset([e.id])
    if type(e) is Cast:
        return strict(e.child)
    if type(e) is Call and e.name in STRICT:
        if e.name == "in":
            return strict(e.args[0])
        return frozenset().union(*[strict(a) for a in e.args])
    return frozenset()


def rejected(predicate: Expr | None) -> frozenset[int]:
    """Columns that make the predicate not true where they are NULL."""
    if type(predicate) is not Call:
        return frozenset() if predicate is None else strict(predicate)
    if predicate.name == "and":
        return frozenset().union(*[rejected(a) for a in predicate.args])
    if predicate.name == "or":
        found = [rejected(a) for a in predicate.args]
        return found[0].intersection(*found[1:])
    if predicate.name == "not":
        inner = predicate.args[0]
        return strict(inner.args[0] if type(inner) is Call and inner.name == "is_null" else inner)
    if predicate.name == "coalesce" and type(predicate.args[-1]) is Literal and predicate.args[-1].value is False:
        return strict(predicate.args[0]) if len(predicate.args) == 2 else frozenset()
    return strict(predicate)


def visit(node: Node, strong: frozenset[int]) -> Node:
    """``strong``: columns whose NULL rows are of no use above."""
    if isinstance(node, Materialize):
        return node
    if isinstance(node, Filter):
        return with_inputs(node, [visit(node.input, strong | rejected(node.predicate))])
    if isinstance(node, Project):
        below = frozenset().union(*[strict(e) for c, e in node.columns if c.id in strong])
        return with_inputs(node, [visit(node.input, below)])
    if isinstance(node, Join):
        return visit_join(node, strong)
    if isinstance(node, Aggregate):
        below = frozenset().union(*[strict(e) for c, e in node.groups if c.id in strong])
        return with_inputs(node, [visit(node.input, below)])
    if isinstance(node, Window):
        parts = [frozenset().union(*[strict(p) for p in w.partition]) for _, w in node.calls]
        return with_inputs(node, [visit(node.input, strong.intersection(*parts))])
    if isinstance(node, Union):
        columns = [c.id for c in node.columns]
        return with_inputs(
            node, [visit(p, frozenset(c.id for c, out in zip(p.schema, columns) if out in strong)) for p in node.parts]
        )
    if isinstance(node, Limit) or (isinstance(node, Sort) and (node.limit is not None or node.offset is not None)):
        strong = frozenset()
    return with_inputs(node, [visit(i, strong) for i in node.inputs])


def visit_join(node: Join, strong: frozenset[int]) -> Node:
    left_ids, right_ids = ids(node.left), ids(node.right)
    kind, left, right, keys = node.kind, node.left, node.right, node.keys
    if kind == "full":
        keep_left, keep_right = not strong.isdisjoint(left_ids), not strong.isdisjoint(right_ids)
        if keep_left or keep_right:
            kind = "inner" if keep_left and keep_right else "left"
            if not keep_left:
                left, right, keys = right, left, tuple((b, a) for a, b in keys)
                left_ids, right_ids = right_ids, left_ids
    if kind == "left" and not strong.isdisjoint(right_ids):
        kind = "inner"
    matched: frozenset[int] = frozenset()  # not NULL in a match
    if kind != "full" and not node.null_aware:
        matched = rejected(node.condition)
        if not node.null_safe:
            matched = matched.union(*[strict(a) | strict(b) for a, b in keys])
    if kind in ("inner", "semi"):
        strong |= matched
    new_left = visit(left, strong & left_ids if kind != "full" else frozenset())
    if kind == "inner":
        new_right = visit(right, strong & right_ids)
    else:
        new_right = visit(right, matched & right_ids)
    if kind == node.kind and new_left is node.left and new_right is node.right:
        return node
    new = Join(kind, new_left, new_right, keys, node.condition, node.null_safe, node.null_aware, node.mark)
    return as_schema(new, node.schema)  # a full join may have swapped its sides
