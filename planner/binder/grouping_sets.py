"""GROUPING SETS, ROLLUP and CUBE: one GROUP BY for each set over a shared input, one after another.

    select a, b, sum(x), grouping(b) from t group by rollup (a, b)

is planned as

    Union
      Aggregate by a, b [sum(x)], with grouping = 0
      Aggregate by a [sum(x)], with b = NULL, grouping = 1
      Aggregate [sum(x)], with a, b = NULL, grouping = 1
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations, product
from typing import TYPE_CHECKING, Any

from finequery.errors import BindError
from finequery.operators.expr import Column, Expr, Literal, SortKey
from finequery.planner.binder.ordered import OrderedCall, aggregated
from finequery.planner.binder.scope import at, checked, items_of, refuse
from finequery.planner.logical import Materialize, Node, Project, Union
from finequery.planner.rules._tree import map_aggregate, replace
from finequery.types import BIGINT

if TYPE_CHECKING:
    from finequery.planner.binder.expressions import QueryState
    from finequery.planner.binder.scope import Binder

#: More sets than these are a mistake: CUBE of twelve columns.
MOST_SETS = 4096
_SETS = ("Rollup", "Cube", "GroupingSets")


def has_sets(terms: Sequence[Any]) -> bool:
    return any(type(t).__name__ in _SETS for t in terms)


def expand(terms: Sequence[Any]) -> list[list[Any]]:
    """The grouping sets of a GROUP BY clause: each a list of the expressions to group by."""
    sets = [[e for part in choice for e in part] for choice in product(*map(_alternatives, terms))]
    if len(sets) > MOST_SETS:
        raise at(BindError(f"GROUP BY has {len(sets)} grouping sets; {MOST_SETS} are the most."), terms[0])
    return sets


def _alternatives(node: Any) -> list[list[Any]]:
    kind = type(node).__name__
    if kind not in _SETS:
        return [items_of(node)]
    items = checked(node, "expressions").get("expressions") or []
    if kind == "GroupingSets":
        return [choice for item in items for choice in _alternatives(item)]
    parts = [items_of(item) for item in items]
    if kind == "Rollup":
        chosen = [parts[:count] for count in range(len(parts), -1, -1)]
    else:
        if len(parts) > 12:
            raise refuse("CUBE of more than 12 columns", node)
        chosen = [list(some) for count in range(len(parts), -1, -1) for some in combinations(parts, count)]
    return [[e for part in choice for e in part] for choice in chosen]


def union_of_sets(
    binder: Binder, plan: Node, query: QueryState, groups: Sequence[tuple[Column, Expr]], sets: Sequence[frozenset[int]]
) -> Node:
    """The groups, aggregates and grouping() numbers of all sets; a set is given by the places of its groups."""
    shared = Materialize(plan, "grouping sets") if len(sets) > 1 else None
    columns = (
        *(c for c, _ in groups),
        *query.aggregates.values(),
        *query.groupings.values(),
    )
    places = {e: i for i, (_, e) in enumerate(groups)}
    parts: list[Node] = []
    for chosen in sets:
        mapping: dict[int, Expr] = {}
        source = plan
        if shared is not None:
            renamed = [(binder.column(c.type, c.name), c) for c in shared.schema]
            source = Project(shared, tuple(renamed))
            mapping = {c.id: new for new, c in renamed}
        own = [(binder.column(c.type, c.name), replace(e, mapping)) for c, e in groups]
        calls = {
            _mapped(call, lambda e: replace(e, mapping)): binder.column(c.type, c.name)  # noqa: B023
            for call, c in query.aggregates.items()
        }
        grouped = aggregated(binder, source, [own[i] for i in sorted(chosen)], calls)
        values: list[Expr] = [own[i][0] if i in chosen else Literal(c.type, None) for i, (c, _) in enumerate(groups)]
        values += calls.values()
        for args in query.groupings:
            bits = "".join(str(int(places[a] not in chosen)) for a in args)
            values.append(Literal(BIGINT, int(bits, 2)))
        new = columns if len(sets) == 1 else tuple(binder.column(c.type, c.name) for c in columns)
        parts.append(Project(grouped, tuple(zip(new, values))))
    return parts[0] if len(parts) == 1 else Union(tuple(parts), columns)


def _mapped(call: Any, change: Callable[[Expr], Expr]) -> Any:
    if not isinstance(call, OrderedCall):
        return map_aggregate(call, change)
    keep = None if call.filter is None else change(call.filter)
    order = tuple(SortKey(change(k.expr), k.descending, k.nulls_first) for k in call.order)
    return OrderedCall(call.type, call.name, tuple(map(change, call.args)), call.distinct, keep, order)


def grouping_column(query: QueryState, binder: Binder, args: tuple[Expr, ...]) -> Column:
    """The column of grouping(…): a bit for each argument, 1 where the row's set lacks it."""
    if args not in query.groupings:
        query.groupings[args] = binder.column(BIGINT, "grouping")
    return query.groupings[args]


def check_groupings(query: QueryState, groups: Sequence[tuple[Column, Expr]]) -> None:
    known = {e for _, e in groups}
    for args in query.groupings:
        for e in args:
            if e not in known:
                raise BindError("grouping takes expressions of GROUP BY.", hint="Name a column that is grouped by.")
