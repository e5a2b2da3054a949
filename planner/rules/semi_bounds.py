"""Semi and anti joins that look for another value: the smallest and largest value of each key answer that."""

from __future__ import annotations

from finequery.operators.expr import Aggregate as AggregateCall
from finequery.operators.expr import Call, Column, Expr, conjuncts
from finequery.planner.logical import Aggregate, Join, Node
from finequery.planner.rules._tree import bottom_up, fresh, ids, is_volatile, reads
from finequery.types import BOOLEAN

MIRROR = {"ne": "ne", "lt": "gt", "gt": "lt", "le": "ge", "ge": "le"}


def semi_bounds(plan: Node) -> Node:
    """``EXISTS (same key and another value)`` needs one row per key on the right.

    Before::

        Join semi on k = k#2 if b <> b#2
          Scan t [k, b]
          Scan u [k#2, b#2]

    After::

        Join semi on k = k#2 if (b <> low) or (b <> high)
          Scan t [k, b]
          Aggregate by k#2 [min(b#2) as low, max(b#2) as high]
            Scan u [k#2, b#2]
    """
    return bottom_up(plan, lambda node: bounded(node) if isinstance(node, Join) else node)


def bounded(node: Join) -> Node:
    terms = conjuncts(node.condition)
    if node.kind not in ("semi", "anti") or node.null_safe or len(terms) != 1 or not node.keys:
        return node
    t = terms[0]
    if type(t) is not Call or t.name not in MIRROR or is_volatile(t):
        return node
    left, right = ids(node.left), ids(node.right)
    name, a, b = t.name, *t.args
    if reads(a) <= right and reads(b) <= left:
        name, a, b = MIRROR[name], b, a
    if not (reads(a) <= left and reads(b) <= right and reads(b)) or b.type.is_float:
        return node
    groups: list[tuple[Column, Expr]] = []
    for _, key in node.keys:
        fits = isinstance(key, Column) and all(c.id != key.id for c, _ in groups)
        groups.append((key if fits else fresh(key.type, "key"), key))  # type: ignore[arg-type]
    low, high = fresh(b.type, "low"), fresh(b.type, "high")
    calls = []
    tests: list[Expr] = []
    if name in ("ne", "gt", "ge"):  # a > some b: a > the smallest
        calls.append((low, AggregateCall(b.type, "min", (b,))))
        tests.append(Call(BOOLEAN, name, (a, low)))
    if name in ("ne", "lt", "le"):
        calls.append((high, AggregateCall(b.type, "max", (b,))))
        tests.append(Call(BOOLEAN, name, (a, high)))
    condition = tests[0] if len(tests) == 1 else Call(BOOLEAN, "or", tuple(tests))
    grouped = Aggregate(node.right, tuple(groups), tuple(calls))
    return Join(node.kind, node.left, grouped, tuple((k, c) for (k, _), (c, _) in zip(node.keys, groups)), condition)
