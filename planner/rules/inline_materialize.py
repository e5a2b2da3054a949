"""A shared subplan with one user is no shared subplan."""

from __future__ import annotations

from collections import Counter

from finequery.planner.logical import Materialize, Node
from finequery.planner.rules._everywhere import Everywhere
from finequery.planner.rules._tree import plans_in


def inline_materialize(plan: Node) -> Node:
    """Drop Materialize nodes that stand in one place only.

    Before::

        Project a
          Materialize 1 cte
            Scan t [a]

    After::

        Project a
          Scan t [a]
    """
    uses: Counter[int] = Counter()
    count(plan, uses, set())
    if not any(n == 1 for n in uses.values()):
        return plan
    return _Inline(uses).node(plan)


class _Inline(Everywhere):
    def __init__(self, uses: Counter[int]):
        super().__init__()
        self.uses = uses

    def node(self, node: Node) -> Node:
        if isinstance(node, Materialize) and self.uses[id(node)] == 1:
            return self.node(node.input)
        return super().node(node)


def count(node: Node, uses: Counter[int], plans: set[int]) -> None:
    if isinstance(node, Materialize):
        uses[id(node)] += 1
        if uses[id(node)] > 1:
            return
    for child in node.inputs:
        count(child, uses, plans)
    for e in node.expressions:
        for plan in plans_in(e):
            if id(plan) not in plans:
                plans.add(id(plan))
                count(plan, uses, plans)
