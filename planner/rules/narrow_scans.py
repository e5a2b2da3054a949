"""Columns of tables that a query does not name anywhere go first, so that all other rules carry fewer."""

from __future__ import annotations

from finequery.planner.logical import Node, Scan, Union
from finequery.planner.rules._everywhere import Everywhere
from finequery.planner.rules._tree import plans_in, reads, walk_all


def narrow_scans(plan: Node) -> Node:
    """Keep of each table what any of its scans is read for. Equal subplans stay equal (``share_subplans``); what a
    single scan or a projection has too much is for ``prune_columns``, when the plan has its form.

    Before::

        Project a
          Filter b = 1
            Scan t [a, b, c, d]

    After::

        Project a
          Filter b = 1
            Scan t [a, b]
    """
    read = {c.id for c in plan.schema}
    scans: list[Scan] = []
    for node in walk_all(plan):
        for e in node.expressions:
            read |= reads(e)
            read.update([c.id for below in plans_in(e) for c in below.schema])
        if isinstance(node, Union):  # by place
            read.update([c.id for part in node.parts for c in part.schema])
        elif isinstance(node, Scan):
            scans.append(node)
    names: dict[int, set[str]] = {}
    for scan in scans:
        names.setdefault(id(scan.table), set()).update([name for c, name in scan.columns if c.id in read])

    def narrowed(node: Node) -> Node:
        if not isinstance(node, Scan):
            return node
        kept = tuple([pair for pair in node.columns if pair[1] in names[id(node.table)]]) or node.columns[:1]
        return node if len(kept) == len(node.columns) else Scan(node.table, kept, node.alias)

    return Everywhere(change_node=narrowed).node(plan)
