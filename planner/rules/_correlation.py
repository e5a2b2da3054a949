"""Freeing a subquery's plan of the columns it reads from outside: by pulling predicates up, or by a dependent join.

Both give an ``Unnested``: a plan without these columns, and what makes its rows belong to a row of the outer plan.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field

from finequery.errors import NotSupportedError
from finequery.operators.expr import (
    Aggregate as AggregateCall,
)
from finequery.operators.expr import (
    Call,
    Column,
    Expr,
    Literal,
    SortKey,
    WindowCall,
    conjunction,
    conjuncts,
)
from finequery.planner.logical import (
    Aggregate,
    Filter,
    Join,
    Limit,
    Materialize,
    Node,
    Project,
    Sort,
    Union,
    Values,
    Window,
)
from finequery.planner.rules._tree import (
    as_schema,
    copy,
    filtered,
    free,
    fresh,
    fresh_like,
    ids,
    map_aggregate,
    map_expressions,
    map_window,
    pass_through,
    reads,
    replace,
)
from finequery.types import BIGINT, BOOLEAN

Pairs = list[tuple[Expr, Expr]]


@dataclass
class Unnested:
    """``plan`` reads nothing from the outer plan any more. A row of it belongs to an outer row where all ``keys``
    (outer expression, expression over ``plan``) are equal, with ``null_safe`` also where both are NULL, and all
    ``conditions`` hold. ``mapping``: outer columns inside of ``plan``, where it has them."""

    plan: Node
    keys: Pairs = field(default_factory=list)
    conditions: list[Expr] = field(default_factory=list)
    null_safe: bool = False
    mapping: dict[int, Expr] = field(default_factory=dict)


def pull_up(plan: Node, outer: frozenset[int], equalities_only: bool = False) -> Unnested | None:
    """Take the predicates that read ``outer`` columns out of the plan; None where that is not enough."""
    if free(plan).isdisjoint(outer):
        return Unnested(plan)
    found = _pull(plan, outer)
    return None if found is None or (equalities_only and found.conditions) else found


def _pull(node: Node, outer: frozenset[int]) -> Unnested | None:
    if free(node).isdisjoint(outer):
        return Unnested(node)
    if isinstance(node, Filter):
        below = _pull(node.input, outer)
        if below is None:
            return None
        terms = conjuncts(node.predicate)
        stay = [t for t in terms if reads(t).isdisjoint(outer)]
        _classify(below, [t for t in terms if not reads(t).isdisjoint(outer)], outer)
        below.plan = filtered(below.plan, stay)
        return below
    if isinstance(node, Join):
        return _pull_join(node, outer)
    own = set[int]()
    for e in node.expressions:
        own |= reads(e)
    if not own.isdisjoint(outer) or len(node.inputs) != 1 or isinstance(node, Materialize):
        return None
    below = _pull(node.inputs[0], outer)
    if below is None:
        return None
    if isinstance(node, Project):
        have = {c.id for c in node.schema}
        extra = [c for c in below.plan.schema if c.id in _needed(below) and c.id not in have]
        below.plan = Project(below.plan, node.columns + pass_through(extra))
        return below
    if isinstance(node, Sort) and node.limit is None and node.offset is None:
        return below  # its order means nothing any more
    if below.conditions:
        return None
    if isinstance(node, Aggregate) and node.groups:
        groups = list(node.groups)
        below.keys = [(a, _group(groups, b)) for a, b in below.keys]
        below.plan = Aggregate(below.plan, tuple(groups), node.aggregates)
        return below
    if isinstance(node, Window):
        more = tuple(b for _, b in below.keys)
        calls = tuple((c, dataclasses.replace(w, partition=w.partition + more)) for c, w in node.calls)
        below.plan = Window(below.plan, calls)
        return below
    if isinstance(node, (Sort, Limit)):
        order = node.keys if isinstance(node, Sort) else ()
        below.plan = first_rows(below.plan, tuple(b for _, b in below.keys), order, node.limit, node.offset)
        return below
    return None


def _needed(u: Unnested) -> set[int]:
    needed = set[int]()
    for _, b in u.keys:
        needed |= reads(b)
    for e in u.conditions:
        needed |= reads(e)
    return needed


def _classify(u: Unnested, terms: list[Expr], outer: frozenset[int]) -> None:
    """Sort predicates that read outer columns into keys and conditions."""
    inner = ids(u.plan)
    for t in terms:
        if type(t) is Call and t.name == "eq" and t.args[0].type == t.args[1].type:
            a, b = t.args
            for x, y in ((a, b), (b, a)):
                if reads(x).isdisjoint(inner) and reads(y).isdisjoint(outer) and not reads(y).isdisjoint(inner):
                    u.keys.append((x, y))
                    break
            else:
                u.conditions.append(t)
        else:
            u.conditions.append(t)


def _group(groups: list[tuple[Column, Expr]], e: Expr) -> Column:
    """The group column with this expression, added where it is missing."""
    for column, known in groups:
        if known == e:
            return column
    column = e if isinstance(e, Column) else fresh(e.type, "key")
    if isinstance(e, Column) and any(c.id == e.id for c, _ in groups):
        column = fresh_like(e)
    groups.append((column, e))
    return column


def _pull_join(node: Join, outer: frozenset[int]) -> Unnested | None:
    inner = node.kind == "inner" and not node.null_safe
    left = _pull(node.left, outer)
    right = _pull(node.right, outer) if inner else Unnested(node.right)
    if left is None or right is None or not free(right.plan).isdisjoint(outer):
        return None
    terms = [Call(BOOLEAN, "eq", key) for key in node.keys] + conjuncts(node.condition)
    correlated = [t for t in terms if not reads(t).isdisjoint(outer)]
    if correlated and not inner:
        return None
    if correlated:
        keys = tuple(k for k in node.keys if (reads(k[0]) | reads(k[1])).isdisjoint(outer))
        condition = conjunction([t for t in conjuncts(node.condition) if reads(t).isdisjoint(outer)])
    else:
        keys, condition = node.keys, node.condition
    plan = Join(node.kind, left.plan, right.plan, keys, condition, node.null_safe, node.null_aware, node.mark)
    result = Unnested(plan, left.keys + right.keys, left.conditions + right.conditions)
    _classify(result, correlated, outer)
    return result


def first_rows(
    plan: Node, partition: tuple[Expr, ...], order: tuple[SortKey, ...], limit: Expr | None, offset: Expr | None
) -> Node:
    """LIMIT and OFFSET for each partition, by row number."""
    number = fresh(BIGINT, "row_number")
    window = Window(plan, ((number, WindowCall(BIGINT, "row_number", (), partition, order, bool(order))),))
    zero: Expr = Literal(BIGINT, 0)
    start = zero if offset is None else _known(offset, zero)
    terms: list[Expr] = [] if offset is None else [Call(BOOLEAN, "gt", (number, start))]
    if limit is not None and not (isinstance(limit, Literal) and limit.is_null):
        end = _known(limit, zero)
        if offset is not None:
            end = Call(BIGINT, "add", (start, end))
        inside = Call(BOOLEAN, "le", (number, end))
        terms.append(inside if isinstance(limit, Literal) else Call(BOOLEAN, "or", (_is_null(limit), inside)))
    return filtered(window, terms)


def _known(e: Expr, default: Expr) -> Expr:
    if isinstance(e, Literal):
        return default if e.is_null else e
    return Call(BIGINT, "coalesce", (e, default))


def _is_null(e: Expr) -> Expr:
    return Call(BOOLEAN, "is_null", (e,))


def dependent_join(outer_plan: Node, plan: Node) -> tuple[Node, Unnested]:
    """Neumann and Kemper's unnesting: compute the plan for all distinct values of the outer columns that it reads, by
    joining these in below. Gives the outer plan too, which is now shared with the domain of these values."""
    columns = [c for c in outer_plan.schema if c.id in free(plan)]
    shared = Materialize(outer_plan, "outer")
    dependent = _Dependent(shared, columns)
    inner, mapping = dependent.join(plan)
    keys: Pairs = [(c, mapping[c.id]) for c in columns]
    outer = Project(shared, pass_through(outer_plan.schema))
    return outer, Unnested(inner, keys, [], True, dict(mapping))


class _Dependent:
    """``join(node)`` is the node computed for every row of the domain, whose columns it has under the ids it gives."""

    def __init__(self, source: Node, columns: list[Column]):
        self.source = source
        self.columns = columns
        self.outer = frozenset(c.id for c in columns)
        self.shared: dict[int, tuple[Node, dict[int, Column]]] = {}

    def domain(self) -> tuple[Node, dict[int, Column]]:
        mapping = {c.id: fresh_like(c) for c in self.columns}
        renamed = Project(self.source, tuple((mapping[c.id], c) for c in self.columns))
        return Aggregate(renamed, pass_through(mapping.values()), ()), mapping

    def correlated(self, node: Node) -> bool:
        return not free(node).isdisjoint(self.outer)

    def join(self, node: Node) -> tuple[Node, dict[int, Column]]:
        if not self.correlated(node):
            domain, m = self.domain()
            return Join("inner", node, domain), m
        if isinstance(node, Join):
            return self.join_join(node)
        if isinstance(node, Values):
            return self.join_values(node)
        if isinstance(node, Union):
            return self.join_union(node)
        if isinstance(node, Materialize):
            if id(node) not in self.shared:
                below, m = self.join(node.input)
                self.shared[id(node)] = Materialize(below, node.name), m
            return self.shared[id(node)]
        if isinstance(node, Aggregate) and not node.groups:
            return self.join_total(node)
        if len(node.inputs) != 1:
            raise NotSupportedError(f"a correlated subquery over {type(node).__name__} is not supported")
        below, m = self.join(node.inputs[0])
        expr_map: dict[int, Expr] = dict(m)
        if isinstance(node, Filter):
            return Filter(below, replace(node.predicate, expr_map)), m
        if isinstance(node, Project):
            out = {k: fresh_like(c) for k, c in m.items()} if isinstance(below, Materialize) else m
            columns = tuple((c, replace(e, expr_map)) for c, e in node.columns)
            return Project(below, columns + tuple((out[k], m[k]) for k in m)), out
        if isinstance(node, Aggregate):
            groups = tuple((c, replace(e, expr_map)) for c, e in node.groups)
            calls = tuple((c, map_aggregate(a, lambda e: replace(e, expr_map))) for c, a in node.aggregates)
            return Aggregate(below, groups + pass_through(m.values()), calls), m
        partition = tuple(m.values())
        if isinstance(node, Window):
            calls_ = []
            for c, w in node.calls:
                w = map_window(w, lambda e: replace(e, expr_map))
                calls_.append((c, dataclasses.replace(w, partition=w.partition + partition)))
            return Window(below, tuple(calls_)), m
        if isinstance(node, (Sort, Limit)):
            node = map_expressions(node, lambda e: replace(e, expr_map))
            assert isinstance(node, (Sort, Limit))
            if node.limit is None and node.offset is None:
                return below, m
            order = node.keys if isinstance(node, Sort) else ()
            return first_rows(below, partition, order, node.limit, node.offset), m
        raise NotSupportedError(f"a correlated subquery over {type(node).__name__} is not supported")

    def join_total(self, node: Aggregate) -> tuple[Node, dict[int, Column]]:
        """An aggregate without groups has a row for every row of the domain, even where its input is empty."""
        below, m = self.join(node.input)
        keys = {k: fresh_like(c) for k, c in m.items()}
        calls, out = total_aggregates(node, dict(m))
        grouped = Aggregate(below, tuple((keys[k], c) for k, c in m.items()), tuple(calls))
        domain, m = self.domain()
        joined = Join("left", domain, grouped, tuple((m[k], keys[k]) for k in m), None, True)
        return Project(joined, pass_through(m.values()) + tuple(out)), m

    def join_values(self, node: Values) -> tuple[Node, dict[int, Column]]:
        parts = []
        for row in node.rows:
            domain, m = self.domain()
            columns = tuple((fresh_like(c), replace(e, dict(m))) for c, e in zip(node.columns, row))
            parts.append(Project(domain, columns + pass_through(m.values())))
        out = {c.id: fresh_like(c) for c in self.columns}
        return Union(tuple(parts), node.columns + tuple(out.values())), out

    def join_union(self, node: Union) -> tuple[Node, dict[int, Column]]:
        parts = []
        for part in node.parts:
            below, m = self.join(part)
            parts.append(as_schema(below, part.schema + tuple(m[c.id] for c in self.columns)))
        out = {c.id: fresh_like(c) for c in self.columns}
        return Union(tuple(parts), node.columns + tuple(out.values())), out

    def join_join(self, node: Join) -> tuple[Node, dict[int, Column]]:
        in_right = self.correlated(node.right)
        if not in_right and node.kind != "full":
            left, m = self.join(node.left)
            return self.rejoin(node, left, node.right, dict(m)), m
        if node.kind == "inner" and not self.correlated(node.left):
            right, m = self.join(node.right)
            return self.rejoin(node, node.left, right, dict(m)), m
        left, m = self.join(node.left)
        right, n = self.join(node.right)
        mapping: dict[int, Expr] = dict(m)
        keys = tuple((replace(a, mapping), replace(b, dict(n))) for a, b in node.keys)
        condition = None if node.condition is None else replace(node.condition, mapping)
        kind, aware = node.kind, node.null_aware
        if not node.null_safe:
            equal: list[Expr] = [Call(BOOLEAN, "eq", key) for key in keys]
            if aware and kind == "mark":
                return self.join_mark(node, left, right, m, n, keys[0]), m
            if aware:
                equal = [not_false(equal[0])]
            condition, keys = conjunction(equal + conjuncts(condition)), ()
        pairs = tuple((m[k], n[k]) for k in m)
        joined = Join(kind, left, right, pairs + keys, condition, True, False, node.mark)
        if kind != "full":
            return joined, m
        out = {c.id: fresh_like(c) for c in self.columns}
        either = tuple((out[k], Call(out[k].type, "coalesce", (m[k], n[k]))) for k in m)
        return Project(joined, pass_through(node.schema) + either), out

    def join_mark(
        self, node: Join, left: Node, right: Node, m: dict[int, Column], n: dict[int, Column], key: tuple[Expr, Expr]
    ) -> Node:
        """IN with its three values: true where a match exists, NULL where a comparison was NULL, else false."""
        assert node.mark is not None
        again, mapping = copy(right)
        known, maybe = fresh(BOOLEAN, "mark"), fresh(BOOLEAN, "maybe")
        equal = Call(BOOLEAN, "eq", key)
        unknown = _is_null(replace(equal, mapping))
        pairs = tuple((m[k], n[k]) for k in m)
        left = Join("mark", left, right, pairs, equal, True, mark=known)
        left = Join("mark", left, again, tuple((a, mapping[b.id]) for a, b in pairs), unknown, True, mark=maybe)
        mark = Call(BOOLEAN, "or", (known, Call(BOOLEAN, "and", (maybe, Literal(BOOLEAN, None)))))
        return Project(left, pass_through(node.left.schema) + pass_through(m.values()) + ((node.mark, mark),))

    def rejoin(self, node: Join, left: Node, right: Node, mapping: dict[int, Expr]) -> Node:
        """The join over an input that has the domain's columns now. A key that came to read the other side moves to
        the condition."""
        new = map_expressions(
            Join(node.kind, left, right, node.keys, node.condition, node.null_safe, node.null_aware, node.mark),
            lambda e: replace(e, mapping),
        )
        assert isinstance(new, Join)
        fits = [reads(a).isdisjoint(ids(right)) and reads(b).isdisjoint(ids(left)) for a, b in new.keys]
        if all(fits):
            return new
        if node.null_safe or node.null_aware:
            raise NotSupportedError("a correlated set operation or NOT IN inside of a correlated subquery")
        moved: list[Expr] = [Call(BOOLEAN, "eq", k) for k, ok in zip(new.keys, fits) if not ok]
        kept = tuple(k for k, ok in zip(new.keys, fits) if ok)
        return Join(
            node.kind, left, right, kept, conjunction(moved + conjuncts(new.condition)), False, False, node.mark
        )


def not_false(e: Expr) -> Expr:
    """True where the BOOLEAN expression is true or NULL."""
    return Call(BOOLEAN, "coalesce", (e, Literal(BOOLEAN, True)))


def total_aggregates(
    node: Aggregate, mapping: dict[int, Expr]
) -> tuple[list[tuple[Column, AggregateCall]], list[tuple[Column, Expr]]]:
    """Aggregates of a node without groups for use below a left join: the calls under new ids, and what the old columns
    are above the join, where a missing group is an empty one."""
    calls, out = [], []
    for column, call in node.aggregates:
        inner = fresh_like(column)
        calls.append((inner, map_aggregate(call, lambda e: replace(e, mapping))))
        out.append((column, zero_if_missing(call, inner)))
    return calls, out


def zero_if_missing(call: AggregateCall, column: Column) -> Expr:
    if call.name in ("count", "count_star"):
        return Call(column.type, "coalesce", (column, Literal(column.type, 0)))
    return column
