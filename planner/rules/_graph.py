"""A tree of joins as a graph: relations, the joins that only look up (semi, left, mark, …), equalities and predicates.

Every inner join order of the relations is possible; an operator may stand anywhere above the relations that it reads.
"""

from __future__ import annotations

from dataclasses import dataclass

from finequery.operators.expr import Call, Column, Expr, conjuncts
from finequery.planner.estimate import (
    ColumnEstimate,
    Estimate,
    estimate,
    expression,
    join_rows,
    match_share,
    share,
    values_of,
)
from finequery.planner.logical import Filter, Join, Node
from finequery.planner.rules._tree import ids, is_volatile, reads
from finequery.types import BOOLEAN

OPERATORS = ("semi", "anti", "left", "mark", "single")


@dataclass(slots=True, eq=False)
class Item:
    """A relation, or with ``operator`` the right side of a join that is not inner. ``requires``: the items it reads,
    as a bit set."""

    node: Node
    rows: float
    operator: Join | None = None
    requires: int = 0


@dataclass(slots=True, eq=False)
class Member:
    """An expression of one relation in a class of equal ones."""

    item: int
    expr: Expr
    column: ColumnEstimate


@dataclass(slots=True, eq=False)
class Term:
    """A predicate and the items it reads."""

    expr: Expr
    mask: int
    share: float


class Graph(Estimate):
    """``classes``: expressions that are equal in every result row; ``terms``: all other predicates."""

    __slots__ = ("classes", "items", "owner", "terms")

    def __init__(self, node: Node):
        super().__init__(node, 1.0)
        self.items: list[Item] = []
        self.classes: list[list[Member]] = []
        self.terms: list[Term] = []
        self.owner: dict[int, int] = {}  # column -> item

    def has(self, id: int) -> bool:
        return id in self.owner

    def column(self, id: int) -> ColumnEstimate:
        item = self.items[self.owner[id]]
        if item.operator is not None and item.operator.mark is not None:
            return ColumnEstimate(2.0, 0, 1)
        return estimate(item.node).column(id)


def is_graph(node: Node) -> bool:
    """Whether the node is a join tree of which there is anything to order."""
    if isinstance(node, Filter):
        return is_graph(node.input) and not is_volatile(node.predicate)
    return isinstance(node, Join) and (node.kind in OPERATORS or (node.kind == "inner" and not node.null_safe))


def build_graph(root: Node, visit) -> Graph:  # type: ignore[no-untyped-def]
    """Take a join tree apart. ``visit`` is applied to every relation and every operator's right side."""
    graph = Graph(root)
    predicates: list[Expr] = []

    def add(item: Item, columns: frozenset[int]) -> None:
        for id in columns:
            graph.owner[id] = len(graph.items)
        graph.items.append(item)

    def gather(node: Node) -> None:
        if not is_graph(node):
            leaf = visit(node)
            add(Item(leaf, estimate(leaf).rows), ids(leaf))
        elif isinstance(node, Filter):
            gather(node.input)
            predicates.extend(conjuncts(node.predicate))
        elif isinstance(node, Join) and node.kind == "inner":
            gather(node.left)
            gather(node.right)
            predicates.extend(Call(BOOLEAN, "eq", key) for key in node.keys)
            predicates.extend(conjuncts(node.condition))
        else:
            assert isinstance(node, Join)
            first = len(graph.items)
            gather(node.left)
            right = visit(node.right)
            used: set[int] = set()
            for a, _ in node.keys:
                used |= reads(a)
            if node.condition is not None:
                used |= reads(node.condition) - ids(right)
            requires = mask_of(graph, used) or 1 << first
            made = frozenset([node.mark.id]) if node.mark is not None else ids(right)
            add(
                Item(right, operator_factor(graph, node, right), node, requires),
                frozenset() if node.kind in ("semi", "anti") else made,
            )

    gather(root)
    sort_predicates(graph, list(dict.fromkeys(predicates)))
    return graph


def mask_of(graph: Graph, columns: set[int]) -> int:
    mask = 0
    for id in columns:
        if id in graph.owner:
            mask |= 1 << graph.owner[id]
    return mask


def operator_factor(graph: Graph, node: Join, right: Node) -> float:
    """By how much the operator multiplies the rows of its left side."""
    if node.kind in ("mark", "single"):
        return 1.0
    left = estimate(node.left)
    if right is not node.right:
        node = Join(node.kind, node.left, right, node.keys, node.condition, node.null_safe, node.null_aware)
    return join_rows(node) / left.rows


def sort_predicates(graph: Graph, predicates: list[Expr]) -> None:
    classes: dict[Expr, list[Member]] = {}
    for t in predicates:
        if type(t) is Call and t.name == "eq" and t.args[0].type == t.args[1].type:
            a, b = member(graph, t.args[0]), member(graph, t.args[1])
            if a is not None and b is not None and a.item != b.item:
                merged = classes.get(a.expr, [a])
                other = classes.get(b.expr, [b])
                if other is not merged:
                    merged = merged + [m for m in other if all(m.expr != k.expr for k in merged)]
                    for m in merged:
                        classes[m.expr] = merged
                continue
        mask = mask_of(graph, reads(t))
        graph.terms.append(Term(t, mask, max(share(t, graph), 1e-6)))
    seen: set[int] = set()
    for members in classes.values():
        if id(members) in seen:
            continue
        seen.add(id(members))
        graph.classes.append(members)
        for m in members:  # members of one relation are equal to each other, too
            first = next(k for k in members if k.item == m.item)
            if first is not m:
                equal = Call(BOOLEAN, "eq", (first.expr, m.expr))
                graph.terms.append(Term(equal, 1 << m.item, 1 / max(first.column.distinct, m.column.distinct)))


def member(graph: Graph, e: Expr) -> Member | None:
    """The expression as a class member, where it reads exactly one relation."""
    mask = mask_of(graph, reads(e))
    if mask == 0 or mask & (mask - 1):
        return None
    at = mask.bit_length() - 1
    if graph.items[at].operator is not None:
        return None
    column = graph.column(e.id) if isinstance(e, Column) else expression(e, graph)
    return Member(at, e, column)


def pair_corrections(graph: Graph) -> list[tuple[int, float]]:
    """Where two relations share several classes, these are not independent: factors for sets with both."""
    shared: dict[tuple[int, int], list[tuple[ColumnEstimate, ColumnEstimate]]] = {}
    for members in graph.classes:
        for i, a in enumerate(members):
            for b in members[i + 1 :]:
                if a.item != b.item:
                    x, y = (a, b) if a.item < b.item else (b, a)
                    shared.setdefault((x.item, y.item), []).append((x.column, y.column))
    result = []
    for (i, j), keys in shared.items():
        if len(keys) > 1:
            independent = 1.0
            for left, right in keys:
                independent /= values_of(left, right)
            result.append((1 << i | 1 << j, match_share(keys) / independent))
    return result
