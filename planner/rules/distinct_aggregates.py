"""DISTINCT in aggregates becomes a grouping below."""

from __future__ import annotations

from finequery.operators.expr import Aggregate as AggregateCall
from finequery.operators.expr import Call, Case, Cast, Column, Expr, Literal
from finequery.planner.logical import Aggregate, Join, Materialize, Node, Project
from finequery.planner.rules._everywhere import Everywhere
from finequery.planner.rules._tree import as_schema, fresh, fresh_like, map_aggregate, pass_through, reads, replace
from finequery.types import HUGEINT

#: Aggregates that can be computed from partial ones, and by what.
PARTS = {
    "count": "sum",
    "count_star": "sum",
    "sum": "sum",
    "min": "min",
    "max": "max",
    "any_value": "any_value",
    "bool_and": "bool_and",
    "bool_or": "bool_or",
}
#: Aggregates that don't care for duplicates.
IDEMPOTENT = frozenset(["min", "max", "any_value", "bool_and", "bool_or"])


def distinct_aggregates(plan: Node) -> Node:
    """Group by the distinct argument first; where several arguments are distinct, once for each and join.

    Before::

        Aggregate by g [count(distinct x) as a, sum(y) as b]
          Scan t [g, x, y]

    After::

        Aggregate by g [count(x) as a, sum(b#2) as b]
          Aggregate by g, x [sum(y) as b#2]
            Scan t [g, x, y]
    """
    return Everywhere(change_node=lambda n: without_distinct(n) if isinstance(n, Aggregate) else n).node(plan)


def without_distinct(node: Aggregate) -> Node:
    if not any(call.distinct for _, call in node.aggregates):
        return node
    calls = []
    for column, call in node.aggregates:
        if call.distinct and (call.name in IDEMPOTENT or call.name in ("first", "count_star")):
            call = AggregateCall(call.type, call.name, call.args, False, call.filter)
        elif call.distinct and call.filter is not None:
            # A row that the filter drops counts as NULL, which DISTINCT aggregates ignore.
            kept = Case(call.args[0].type, ((call.filter, call.args[0]),), Literal(call.args[0].type, None))
            call = AggregateCall(call.type, call.name, (kept,) + call.args[1:], True)
        calls.append((column, call))
    sets = list(dict.fromkeys(call.args for _, call in calls if call.distinct))
    if not sets:
        return Aggregate(node.input, node.groups, tuple(calls))
    plain = [(c, call) for c, call in calls if not call.distinct]
    if len(sets) == 1 and all(partial(call) for _, call in plain):
        return two_levels(node, calls, sets[0])
    return split(node, calls, sets, plain)


def partial(call: AggregateCall) -> bool:
    return call.name in PARTS and not (call.name == "sum" and call.type.is_float)


def two_levels(node: Aggregate, calls: list[tuple[Column, AggregateCall]], args: tuple[Expr, ...]) -> Node:
    """One grouping by groups and argument, one over it by the groups."""
    # A group that passes its input's id through does so on both levels.
    lower_groups = [(c if isinstance(e, Column) and e.id == c.id else fresh_like(c), e) for c, e in node.groups]
    values = [fresh(a.type, getattr(a, "name", "") or "value") for a in args]
    lower: list[tuple[Column, AggregateCall]] = []
    upper: list[tuple[Column, AggregateCall]] = []
    counts: dict[int, Expr] = {}
    for column, call in calls:
        if call.distinct:
            upper.append((column, AggregateCall(call.type, call.name, tuple(values))))
            continue
        part = fresh_like(column)
        lower.append((part, call))
        if call.name in ("count", "count_star"):
            total = fresh(HUGEINT, column.name)
            upper.append((total, AggregateCall(HUGEINT, "sum", (part,))))
            zero = Call(HUGEINT, "coalesce", (total, Literal(HUGEINT, 0)))
            counts[column.id] = Cast(column.type, zero)
        else:
            upper.append((column, AggregateCall(call.type, PARTS[call.name], (part,))))
    below = Aggregate(node.input, tuple(lower_groups) + tuple(zip(values, args)), tuple(lower))
    groups = tuple((c, g) for (c, _), (g, _) in zip(node.groups, lower_groups))
    above = Aggregate(below, groups, tuple(upper))
    if not counts:
        return as_schema(above, node.schema)
    return Project(above, tuple((c, counts.get(c.id, c)) for c in node.schema))


def split(
    node: Aggregate,
    calls: list[tuple[Column, AggregateCall]],
    sets: list[tuple[Expr, ...]],
    plain: list[tuple[Column, AggregateCall]],
) -> Node:
    """One aggregation for the plain calls and one for each distinct argument, over a shared input, joined."""
    used: set[int] = set()
    for _, e in node.groups:
        used |= reads(e)
    for _, call in calls:
        for e in call.args + (() if call.filter is None else (call.filter,)):
            used |= reads(e)
    shared = Materialize(Project(node.input, pass_through(c for c in node.input.schema if c.id in used)), "distinct")
    columns = shared.schema

    def part(some: list[tuple[Column, AggregateCall]], first: bool) -> Aggregate:
        new = {c.id: c if first else fresh_like(c) for c in columns}
        mapping: dict[int, Expr] = dict(new)
        source = Project(shared, tuple((new[c.id], c) for c in columns))
        groups = tuple((c if first else fresh_like(c), replace(e, mapping)) for c, e in node.groups)
        return Aggregate(source, groups, tuple((c, map_aggregate(a, lambda e: replace(e, mapping))) for c, a in some))

    parts = [part(plain, True)] if plain else []
    for args in sets:
        parts.append(part([(c, call) for c, call in calls if call.distinct and call.args == args], not parts))
    result: Node = parts[0] if plain else without_distinct(parts[0])
    groups = parts[0].groups
    for other in parts[1:]:
        keys = tuple((a, b) for (a, _), (b, _) in zip(groups, other.groups))
        result = Join("inner", result, without_distinct(other), keys, None, bool(keys))
    return as_schema(result, node.schema)
