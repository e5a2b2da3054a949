"""Subplans that do the same are run once."""

from __future__ import annotations

from collections import Counter
from typing import Any

from finequery.operators.expr import Column, Expr, Parameter, ScalarSubquery, transform
from finequery.planner.estimate import estimate
from finequery.planner.logical import (
    Aggregate,
    Filter,
    Join,
    Limit,
    Materialize,
    Node,
    Project,
    Scan,
    Sort,
    Values,
    Window,
)
from finequery.planner.rules._everywhere import Everywhere
from finequery.planner.rules._tree import is_volatile, pass_through, plans_in, walk, walk_all

#: Rows are kept where they are at most this share of what is read to find them: writing and reading them again costs
#: more than fused filters and probes do.
SHARE = 0.25


def share_subplans(plan: Node) -> Node:
    """Equal subplans become one Materialize.

    Before::

        Join inner on k = k#2
          Filter a = 1
            Scan t [k, a]
          Aggregate by b [count(*)]
            Filter a#2 = 1
              Scan t [k#2, a#2, b]

    After::

        Join inner on k = k#2
          Project k, a
            Materialize 1 shared
              Filter a = 1
                Scan t [k, a, b#2]
          Aggregate by b [count(*)]
            Project k as k#2, a as a#2, b#2 as b
              Materialize 1 shared
    """
    scanned = Counter(id(n.table) for n in walk_all(plan) if isinstance(n, Scan))
    if not any(uses > 1 for uses in scanned.values()):
        return plan
    sharing = _Sharing()
    sharing.survey(plan)
    return sharing.node(plan) if sharing.shared else plan


class _Sharing(Everywhere):
    """Top-down: the largest equal subplans are shared."""

    def __init__(self) -> None:
        super().__init__()
        self.numbers: dict[Any, int] = {}  # of structures
        self.known: dict[int, int] = {}  # structure by node
        self.seen: set[int] = set()  # structures, and plans that stand in several places already
        self.shared: set[int] = set()  # structures
        self.made: dict[int, Materialize] = {}

    def survey(self, node: Node) -> None:
        """Find what comes a second time; what is in it comes a second time only if it stands elsewhere, too."""
        structure = self.number(node)
        if structure in self.seen:
            if isinstance(node, Materialize):
                return
            if worth_keeping(node):
                self.shared.add(structure)
                return
        self.seen.add(structure)
        for child in node.inputs:
            self.survey(child)
        for plan in {id(p): p for e in node.expressions for p in plans_in(e)}.values():
            if -id(plan) not in self.seen:
                self.seen.add(-id(plan))
                self.survey(plan)

    def node(self, node: Node) -> Node:
        structure = self.known.get(id(node))
        if structure not in self.shared:
            return super().node(node)
        assert structure is not None
        shared = self.made.get(structure)
        if shared is None:
            shared = self.made[structure] = Materialize(super().node(node), "shared")
            return Project(shared, pass_through(node.schema))
        return Project(shared, tuple(zip(node.schema, shared.schema)))

    def number(self, node: Node) -> int:
        """A number for what a plan does, whatever the ids of its columns."""
        found = self.known.get(id(node))
        if found is None:
            structure = id(node) if isinstance(node, Materialize) else self.structure(node)
            found = self.known[id(node)] = self.numbers.setdefault(structure, len(self.numbers))
        return found

    def structure(self, node: Node) -> Any:
        inputs = [self.number(i) for i in node.inputs]
        places = {c.id: Column(c.type, -1 - n) for n, c in enumerate(c for i in node.inputs for c in i.schema)}

        def placed(e: Expr) -> Expr | None:
            if isinstance(e, Column):
                return places.get(e.id)
            if isinstance(e, ScalarSubquery):
                return Parameter(e.type, f"plan {self.number(e.plan)}")
            return None

        exprs = tuple(transform(e, placed) for e in node.expressions)
        return (type(node), *inputs, exprs, own(node))


def own(node: Node) -> Any:
    """What a node is besides its inputs and its expressions."""
    if isinstance(node, Scan):
        return id(node.table), tuple(name for _, name in node.columns)
    if any(is_volatile(e) for e in node.expressions):
        return id(node)
    types = tuple(c.type for c in node.schema)
    if isinstance(node, Join):
        return node.kind, len(node.keys), node.null_safe, node.null_aware
    if isinstance(node, Aggregate):
        aggregates = tuple((c.name, c.distinct, len(c.args), c.filter is None) for _, c in node.aggregates)
        return len(node.groups), aggregates, types
    if isinstance(node, Window):
        calls = tuple(
            (w.name, len(w.args), len(w.partition), w.running, tuple((k.descending, k.nulls_first) for k in w.order))
            for _, w in node.calls
        )
        return calls, types
    if isinstance(node, Sort):
        return tuple((k.descending, k.nulls_first) for k in node.keys), node.limit is None, node.offset is None
    if isinstance(node, Limit):
        return node.limit is None, node.offset is None
    if isinstance(node, Values):
        return len(node.rows), types
    return types


def worth_keeping(node: Node) -> bool:
    below = list(walk(node))
    if not any(isinstance(n, (Filter, Join, Aggregate, Window, Sort)) for n in below):
        return False
    read = sum(estimate(n).rows for n in below if isinstance(n, (Scan, Materialize)))
    return estimate(node).rows <= SHARE * read
