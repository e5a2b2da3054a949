"""Equalities between the two sides of a join become its keys."""

from __future__ import annotations

from finequery.operators.expr import Call, Expr, conjunction, conjuncts
from finequery.planner.logical import Join, Node
from finequery.planner.rules._tree import bottom_up, ids, is_volatile, reads


def extract_keys(plan: Node) -> Node:
    """Split ``left = right`` terms off join conditions.

    Before::

        Join inner if (k = k#2) and (a < b)

    After::

        Join inner on k = k#2 if a < b

    Without any, terms with IS NOT DISTINCT FROM become the keys, and NULL equals NULL in all of them.
    """
    return bottom_up(plan, lambda node: with_keys(node) if isinstance(node, Join) else node)


def with_keys(node: Join) -> Join:
    if node.condition is None or node.null_safe or node.null_aware:
        return node
    terms, null_safe = conjuncts(node.condition), False
    keys, rest = split_keys(terms, ids(node.left), ids(node.right))
    if not keys and not node.keys:
        keys, rest = split_keys(terms, ids(node.left), ids(node.right), "not_distinct_from")
        null_safe = bool(keys)
    if not keys:
        return node
    keys = [*node.keys, *keys]
    return Join(node.kind, node.left, node.right, tuple(keys), conjunction(rest), null_safe, mark=node.mark)


def split_keys(
    terms: list[Expr], left: frozenset[int], right: frozenset[int], name: str = "eq"
) -> tuple[list[tuple[Expr, Expr]], list[Expr]]:
    """Pairs (left expression, right expression) that the terms equate, and the other terms. ``name``: the comparison
    that is meant, = or IS NOT DISTINCT FROM."""
    keys: list[tuple[Expr, Expr]] = []
    rest: list[Expr] = []
    for t in terms:
        if type(t) is Call and t.name == name and t.args[0].type == t.args[1].type and not is_volatile(t):
            if t.args[0].type.name == "INTERVAL" and name != "eq":  # they compare, but are no keys
                rest.append(t)
                continue
            a, b = t.args
            x, y = reads(a), reads(b)
            if x and y:
                if x <= left and y <= right:
                    keys.append((a, b))
                    continue
                if y <= left and x <= right:
                    keys.append((b, a))
                    continue
        rest.append(t)
    return keys, rest
