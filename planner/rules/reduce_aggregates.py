"""Aggregates that are joined to few keys aggregate these keys' rows only."""

from __future__ import annotations

from finequery.operators.expr import Call, Column, Expr
from finequery.planner.estimate import estimate
from finequery.planner.logical import Aggregate, Filter, Join, Materialize, Node, Project, Scan
from finequery.planner.rules._graph import OPERATORS, is_graph
from finequery.planner.rules._tree import copy, ids, is_volatile, reads, with_inputs
from finequery.planner.rules.push_filters import equivalences, gather
from finequery.types import BOOLEAN

#: The reducer keeps at most this share of the keys, and the aggregate's input is at least this many times larger.
SHARE, LARGER = 0.25, 4.0


def reduce_aggregates(plan: Node) -> Node:
    """Semi join an aggregate's input with the filtered relation that its group is joined to (sideways information
    passing, "magic sets").

    Before::

        Join inner on partkey = partkey#2
          Filter brand = 'x'
            Scan part [partkey, brand]
          Aggregate by partkey#2 [avg(quantity)]
            Scan lineitem [partkey#2, quantity]

    After::

        Join inner on partkey = partkey#2
          Filter brand = 'x'
            Scan part [partkey, brand]
          Aggregate by partkey#2 [avg(quantity)]
            Join semi on partkey#2 = partkey#3
              Scan lineitem [partkey#2, quantity]
              Filter brand#2 = 'x'
                Scan part [partkey#3, brand#2]
    """
    return visit(plan)


def visit(node: Node) -> Node:
    if isinstance(node, Materialize):
        return node
    if is_graph(node):
        node = reduce(node)
    return with_inputs(node, [visit(i) for i in node.inputs])


def reduce(root: Node) -> Node:
    """One join tree: find its relations, equalities and operators; change the aggregates among them."""
    leaves: list[Node] = []
    operators: list[Join] = []
    terms: list[Expr] = []
    collect(root, leaves, operators, terms)
    targets = [n for n in leaves + [o.right for o in operators if o.kind in ("left", "semi", "single")] if grouped(n)]
    if not targets:
        return root
    for o in operators:
        if not o.null_safe and o.kind in ("left", "semi", "single"):
            terms += [Call(BOOLEAN, "eq", key) for key in o.keys]
    classes = equivalences(terms)
    sources = [n for n in leaves if is_reducer(n)]
    sources += [
        o.right
        for o in operators
        if o.kind == "semi" and not o.null_safe and o.condition is None and len(o.keys) == 1 and is_reducer(o.right)
    ]
    changed: dict[int, Node] = {}
    for target in targets:
        best = best_reducer(target, sources, classes)
        if best is not None:
            changed[id(target)] = best
    return swap(root, changed) if changed else root


def collect(node: Node, leaves: list[Node], operators: list[Join], terms: list[Expr]) -> None:
    """Like ``push_filters.gather``, and through the left sides of operators."""
    found: list[Node] = []
    gather(node, found, terms)
    for leaf in found:
        if isinstance(leaf, Join) and leaf.kind in OPERATORS:
            operators.append(leaf)
            collect(leaf.left, leaves, operators, terms)
        else:
            leaves.append(leaf)


def grouped(node: Node) -> bool:
    while isinstance(node, (Project, Filter)):
        node = node.input
    return isinstance(node, Aggregate) and bool(node.groups)


def is_reducer(node: Node) -> bool:
    """A filtered scan: cheap to read a second time."""
    return isinstance(node, Filter) and isinstance(node.input, Scan) and not is_volatile(node.predicate)


def best_reducer(target: Node, sources: list[Node], classes: dict[int, set[Column]]) -> Node | None:
    """The target with its aggregate's input reduced by the most selective source; None where none is worth it."""
    best: tuple[float, Node, Column, Column] | None = None
    for column in target.schema:
        for source in sources:
            for other in classes.get(column.id, ()):
                if source is target or other.id not in ids(source):
                    continue
                e = estimate(source)
                c = e.column(other.id)
                kept = c.distinct / max(c.domain, 1.0)
                if kept <= SHARE and (best is None or kept < best[0]):
                    best = (kept, source, other, column)
    if best is None:
        return None
    _, source, key, column = best
    return push_semi(target, column, source, key)


def push_semi(node: Node, column: Expr, source: Node, key: Column) -> Node | None:
    """Put the semi join below the aggregate, if ``column`` is one of its groups."""
    if isinstance(node, Filter):
        below = push_semi(node.input, column, source, key)
        return None if below is None else Filter(below, node.predicate)
    if isinstance(node, Project):
        exprs = {c.id: e for c, e in node.columns}
        inner = exprs.get(column.id) if isinstance(column, Column) else None
        below = None if not isinstance(inner, Column) else push_semi(node.input, inner, source, key)
        return None if below is None else Project(below, node.columns)
    assert isinstance(node, Aggregate)
    groups = {c.id: e for c, e in node.groups}
    expr = groups.get(column.id) if isinstance(column, Column) else None
    if expr is None or estimate(node.input).rows < LARGER * estimate(source).rows or not reads(expr):
        return None
    again, mapping = copy(source)
    semi = Join("semi", node.input, again, ((expr, mapping[key.id]),))
    return Aggregate(semi, node.groups, node.aggregates)


def swap(node: Node, changed: dict[int, Node]) -> Node:
    if id(node) in changed:
        return changed[id(node)]
    if isinstance(node, Materialize):
        return node
    return with_inputs(node, [swap(i, changed) for i in node.inputs])
