"""GROUP BY columns that others determine need no grouping."""

from __future__ import annotations

from finequery.operators.expr import Aggregate as AggregateCall
from finequery.operators.expr import Call, Column, Expr, conjuncts, substitute, walk
from finequery.planner.logical import Aggregate, Filter, Join, Limit, Node, Project, Scan, Sort, Window
from finequery.planner.rules._tree import as_schema, bottom_up, fresh_like, ids, is_volatile, reads


def aggregate_dependency(plan: Node) -> Node:
    """Group by a key alone; columns that it determines are the same in the whole group, so any row has them. What is
    computed of the other groups is computed afterwards.

    Before::

        Aggregate by custkey, name, custkey + 1 [count(*)]
          Scan customer [custkey, name]

    After::

        Project custkey, name, custkey + 1, count
          Aggregate by custkey [first(name), count(*)]
            Scan customer [custkey, name]
    """

    def change(node: Node) -> Node:
        return reduce_groups(node) if isinstance(node, Aggregate) and len(node.groups) > 1 else node

    return as_schema(bottom_up(plan, change), plan.schema)


def reduce_groups(node: Aggregate) -> Node:
    if any(is_volatile(e) for _, e in node.groups):
        return node
    facts = Dependencies()
    facts.collect(node.input)
    if not facts.keys and all(isinstance(e, Column) for _, e in node.groups):
        return node
    kept = [c for c, _ in node.groups]
    exprs = {c.id: e for c, e in node.groups}
    # Throw out first what is expensive to group by and no key itself.
    order = sorted(kept, key=lambda c: (facts.is_key(exprs[c.id]), not exprs[c.id].type.is_string))
    for column in order:
        others = [exprs[c.id] for c in kept if c is not column]
        if others and facts.determine(others, exprs[column.id]):
            kept.remove(column)
    if len(kept) == len(node.groups):
        return node
    groups = tuple((c, e) for c, e in node.groups if c in kept)
    result: dict[int, Expr] = {e.id: c for c, e in groups if isinstance(e, Column)}  # what a group's rows share
    names: dict[int, Expr] = {}
    calls: list[tuple[Column, AggregateCall]] = []
    for c, e in node.groups:
        if c in kept:
            continue
        if reads(e) <= result.keys():
            names[c.id] = substitute(e, result)
            continue
        inner = c
        if c.id in ids(node.input):  # a group column may pass an id through; an aggregate may not
            inner = names[c.id] = fresh_like(c)
        calls.append((inner, AggregateCall(c.type, "first", (e,))))
    new = Aggregate(node.input, groups, tuple(calls) + node.aggregates)
    if not names:
        return as_schema(new, node.schema)
    return Project(new, tuple((c, names.get(c.id, c)) for c in node.schema))


def is_exact(e: Expr) -> bool:
    """Whether equal columns give equal values: 1 / x is one thing of 0.0 and another of -0.0, which are equal, and a
    month is 30 days."""
    return isinstance(e, Column) or all(c.type.is_exact or c.type.is_string for c in walk(e) if isinstance(c, Column))


class Dependencies:
    """Which columns determine which, below an aggregate."""

    def __init__(self) -> None:
        self.keys: list[tuple[frozenset[int], frozenset[int]]] = []  # key columns -> all columns of the same input
        self.rules: list[tuple[frozenset[int], int]] = []  # columns -> column

    def collect(self, node: Node) -> None:
        if isinstance(node, Scan):
            everything = ids(node)
            for column, name in node.columns:
                stats = node.table.stats(name)
                if stats is not None and stats.unique:
                    self.keys.append((frozenset([column.id]), everything))
        elif isinstance(node, Aggregate):
            self.keys.append((frozenset(c.id for c, _ in node.groups), ids(node)))
        elif isinstance(node, Project):
            self.collect(node.input)
            for column, e in node.columns:
                if not is_volatile(e) and is_exact(e):
                    self.rules.append((frozenset(reads(e)), column.id))
                    if isinstance(e, Column):
                        self.rules.append((frozenset([column.id]), e.id))
        elif isinstance(node, Filter):
            self.collect(node.input)
            for t in conjuncts(node.predicate):
                if type(t) is Call and t.name == "eq":
                    self.equal(t.args[0], t.args[1])
        elif isinstance(node, Join):
            self.collect(node.left)
            if node.kind in ("inner", "left", "single"):
                self.collect(node.right)
                for a, b in node.keys:
                    self.equal(a, b, both=node.kind == "inner")
        elif isinstance(node, (Sort, Limit, Window)):
            self.collect(node.inputs[0])

    def equal(self, a: Expr, b: Expr, both: bool = True) -> None:
        """``a = b`` in every row; after a left join only for rows with a match, and then a still determines b only if
        having a match depends on a alone: that is not known, so nothing follows."""
        if both and isinstance(a, Column) and isinstance(b, Column):
            self.rules.append((frozenset([a.id]), b.id))
            self.rules.append((frozenset([b.id]), a.id))

    def is_key(self, e: Expr) -> bool:
        return isinstance(e, Column) and any(e.id in key for key, _ in self.keys)

    def determine(self, given: list[Expr], target: Expr) -> bool:
        known = {e.id for e in given if isinstance(e, Column)}
        if not is_exact(target):
            return False
        wanted = reads(target)
        changed = True
        while changed:
            if wanted <= known:
                return True
            changed = False
            for key, columns in self.keys:
                if key <= known and not columns <= known:
                    known |= columns
                    changed = True
            for source, column in self.rules:
                if column not in known and source <= known:
                    known.add(column)
                    changed = True
        return wanted <= known
