"""Nothing is read, computed or carried that nobody uses."""

from __future__ import annotations

from finequery.operators.expr import Call, Column, Expr, ScalarSubquery, same_objects
from finequery.planner.logical import Aggregate, Join, Materialize, Node, Project, Scan, Union, Values, Window
from finequery.planner.rules._tree import map_expressions, plans_in, reads, with_inputs


def prune_columns(plan: Node) -> Node:
    """Keep in scans, projections, aggregates and windows only what is used above.

    Before::

        Project a
          Project a, b + c as d
            Scan t [a, b, c]

    After::

        Project a
          Project a
            Scan t [a]
    """
    pruner = _Pruner()
    everything = {c.id for c in plan.schema}
    pruner.survey(plan, everything)
    return pruner.node(plan, everything)


class _Pruner:
    """Shared subplans are cut to what all their users need together: a first pass finds that out."""

    def __init__(self) -> None:
        self.needed: dict[int, set[int]] = {}  # shared Materialize -> ids
        self.shared: dict[int, Node] = {}
        self.plans: dict[int, tuple[Node, Node]] = {}
        self.surveyed: set[int] = set()

    def survey(self, node: Node, used: set[int]) -> None:
        if isinstance(node, Materialize):
            known = self.needed.get(id(node))
            if known is not None and used <= known:
                return
            used = used | (known or set())
            self.needed[id(node)] = used
        for child, below in zip(node.inputs, self.below(node, used)):
            self.survey(child, below)
        for e in self.kept_expressions(node, used):
            for plan in plans_in(e):
                if id(plan) not in self.surveyed:
                    self.surveyed.add(id(plan))
                    self.survey(plan, {c.id for c in plan.schema})

    def kept_expressions(self, node: Node, used: set[int]) -> list[Expr]:
        if isinstance(node, Project):
            return [e for c, e in node.columns if c.id in used]
        return list(node.expressions)

    def below(self, node: Node, used: set[int]) -> list[set[int]]:
        """What the node needs of its inputs where ``used`` of its columns are."""
        if isinstance(node, Project):
            need: set[int] = set()
            for c, e in node.columns:
                if c.id in used:
                    need |= reads(e)
            return [need]
        if isinstance(node, Aggregate):
            need = set()
            for _, e in node.groups:
                need |= reads(e)
            for c, call in node.aggregates:
                if c.id in used:
                    for e in call.args + (() if call.filter is None else (call.filter,)):
                        need |= reads(e)
            return [need]
        if isinstance(node, Window):
            need = set(used)
            for c, w in node.calls:
                if c.id in used:
                    for e in (*w.args, *w.partition, *(k.expr for k in w.order)):
                        need |= reads(e)
            return [need]
        if isinstance(node, Union):
            at = [i for i, c in enumerate(node.columns) if c.id in used]
            return [{p.schema[i].id for i in at} for p in node.parts]
        need = set(used)
        for e in node.expressions:
            need |= reads(e)
        return [need] * len(node.inputs)

    def node(self, node: Node, used: set[int]) -> Node:
        if isinstance(node, Materialize):
            if id(node) not in self.shared:
                self.shared[id(node)] = with_inputs(node, [self.node(node.input, self.needed[id(node)])])
            return self.shared[id(node)]
        if isinstance(node, Scan):
            kept = tuple(pair for pair in node.columns if pair[0].id in used)
            return node if len(kept) == len(node.columns) else Scan(node.table, kept, node.alias)
        if isinstance(node, Values):
            at = [i for i, c in enumerate(node.columns) if c.id in used]
            if len(at) < len(node.columns):
                rows = tuple(tuple(row[i] for i in at) for row in node.rows)
                node = Values(tuple(node.columns[i] for i in at), rows)
            return self.subplans(node)
        if isinstance(node, Join) and node.kind == "mark" and node.mark is not None and node.mark.id not in used:
            return self.node(node.left, used)
        if isinstance(node, Union):
            return self.union(node, used)
        inputs = [self.node(i, below) for i, below in zip(node.inputs, self.below(node, used))]
        if isinstance(node, Project):
            columns = tuple(pair for pair in node.columns if pair[0].id in used)
            node = node if len(columns) == len(node.columns) else Project(node.input, columns)
        elif isinstance(node, Aggregate):
            calls = tuple(pair for pair in node.aggregates if pair[0].id in used)
            node = node if len(calls) == len(node.aggregates) else Aggregate(node.input, node.groups, calls)
        elif isinstance(node, Window):
            kept_calls = tuple(pair for pair in node.calls if pair[0].id in used)
            if not kept_calls:
                return inputs[0]
            node = node if len(kept_calls) == len(node.calls) else Window(node.input, kept_calls)
        return self.subplans(with_inputs(node, inputs))

    def union(self, node: Union, used: set[int]) -> Node:
        """Parts are matched by place: they are cut to the very same columns."""
        at = [i for i, c in enumerate(node.columns) if c.id in used]
        parts = []
        for part in node.parts:
            keep = [part.schema[i] for i in at]
            new = self.node(part, {c.id for c in keep})
            if [c.id for c in new.schema] != [c.id for c in keep]:
                new = Project(new, tuple((c, c) for c in keep))
            parts.append(new)
        return Union(tuple(parts), tuple(node.columns[i] for i in at))

    def subplans(self, node: Node) -> Node:
        return map_expressions(node, self.expr)

    def expr(self, e: Expr) -> Expr:
        kind = type(e)
        if kind is Column:
            return e
        if kind is ScalarSubquery:
            plan = e.plan  # type: ignore[attr-defined]
            if id(plan) not in self.plans:
                self.plans[id(plan)] = plan, self.node(plan, {c.id for c in plan.schema})
            new_plan = self.plans[id(plan)][1]
            return e if new_plan is plan else ScalarSubquery(e.type, new_plan)
        children = e.args if kind is Call else e.children  # type: ignore[attr-defined]
        if not children:
            return e
        new = tuple([self.expr(c) for c in children])
        return e if same_objects(new, children) else e.rebuild(new)
