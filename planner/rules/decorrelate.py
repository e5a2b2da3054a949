"""Subqueries become joins and constants: no Subquery is left."""

from __future__ import annotations

from finequery.errors import InternalError, NotSupportedError
from finequery.operators.expr import (
    Aggregate as AggregateCall,
)
from finequery.operators.expr import (
    Call,
    Case,
    Column,
    Expr,
    Literal,
    ScalarSubquery,
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
    Subquery,
    Union,
    Values,
    Window,
)
from finequery.planner.rules._correlation import Pairs, Unnested, dependent_join, not_false, pull_up, total_aggregates
from finequery.planner.rules._tree import (
    as_schema,
    copy,
    filtered,
    free,
    fresh,
    has_subquery,
    ids,
    map_expressions,
    reads,
    replace,
    with_inputs,
)
from finequery.types import BIGINT, BOOLEAN


def decorrelate(plan: Node) -> Node:
    """Remove every Subquery: an uncorrelated one becomes a constant of the run or a semi join, a correlated one a semi,
    anti, mark, left or single join with the correlation as its keys.

    Before::

        Filter quantity < (Subquery 1)
          Scan lineitem [partkey, quantity]
        Subquery 1:
          Aggregate [avg(quantity#2)]
            Filter partkey#2 = partkey
              Scan lineitem [partkey#2, quantity#2]

    After::

        Filter quantity < avg
          Join left on partkey = partkey#2
            Scan lineitem [partkey, quantity]
            Aggregate by partkey#2 [avg(quantity#2) as avg]
              Scan lineitem [partkey#2, quantity#2]
    """
    result = _Decorrelator().root(plan)
    if free(result):
        raise InternalError("a correlated column is left after decorrelation")
    return result


class _Decorrelator:
    def __init__(self) -> None:
        self.done: dict[int, tuple[Node, Node]] = {}  # shared subplans and subqueries' plans, by their identity

    def root(self, plan: Node) -> Node:
        """A plan whose output columns matter."""
        if id(plan) not in self.done:
            self.done[id(plan)] = plan, as_schema(self.node(plan), plan.schema)
        return self.done[id(plan)][1]

    def node(self, node: Node) -> Node:
        """May have more columns than ``node``."""
        if isinstance(node, Materialize):
            if id(node) not in self.done:
                self.done[id(node)] = node, with_inputs(node, [self.node(node.input)])
            return self.done[id(node)][1]
        if isinstance(node, Union):
            return with_inputs(node, [self.root(part) for part in node.parts])
        node = with_inputs(node, [self.node(i) for i in node.inputs])
        if isinstance(node, Join) and not free(node.right).isdisjoint(ids(node.left)):
            node = self.lateral(node)
        if not any(has_subquery(e) for e in node.expressions):
            return node
        if isinstance(node, Filter):
            return self.filter(node)
        if isinstance(node, Join):
            return self.join(node)
        if isinstance(node, (Project, Aggregate, Window, Sort)):
            source = node.input
            attached: dict[Expr, Expr] = {}

            def change(e: Expr) -> Expr:
                nonlocal source
                source, e = self.extract(source, e, attached)
                return e

            node = map_expressions(node, change)
            return node.with_inputs((source,))
        return map_expressions(node, self.uncorrelated)

    def uncorrelated(self, e: Expr) -> Expr:
        """For nodes that nothing can be attached to: VALUES, LIMIT."""
        nothing = Values((), ((),))
        source, e = self.extract(nothing, e, {})
        if source is not nothing:
            raise NotSupportedError("a correlated subquery, EXISTS or IN in VALUES or LIMIT is not supported")
        return e

    def filter(self, node: Filter) -> Node:
        terms = conjuncts(node.predicate)
        source = filtered(node.input, [t for t in terms if not has_subquery(t)])
        rest: list[Expr] = []
        attached: dict[Expr, Expr] = {}
        for term in terms:
            if not has_subquery(term):
                continue
            sub, negated = term, False
            if isinstance(term, Call) and term.name == "not":
                sub, negated = term.args[0], True
            if isinstance(sub, Subquery) and sub.kind != "scalar":
                source, left_over = self.semi(source, sub, negated)
                rest += left_over
            else:
                source, e = self.extract(source, term, attached)
                rest.append(e)
        return filtered(source, rest)

    def lateral(self, node: Join) -> Node:
        """A join whose right side reads the left one: an ordinary join on what it reads."""
        left, u = self.unnest(node.left, node.right)
        u.conditions += conjuncts(node.condition)
        return as_schema(join(node.kind, left, u), node.schema)

    def join(self, node: Join) -> Node:
        terms = conjuncts(node.condition)
        hard = [t for t in terms if has_subquery(t)]
        keep = conjunction([t for t in terms if not has_subquery(t)])
        if any(has_subquery(e) for key in node.keys for e in key):
            raise InternalError("a subquery in a join key")
        if node.kind == "inner":
            joined = Join("inner", node.left, node.right, node.keys, keep, node.null_safe)
            predicate = conjunction(hard)
            assert predicate is not None
            return self.filter(Filter(joined, predicate))
        left, right = node.left, node.right
        more: list[Expr] = []
        for term in hard:
            # Attach the subquery to the side it belongs to; the condition then reads the column it adds.
            if reads(term).isdisjoint(ids(left)):
                right, term = self.extract(right, term, {})
            elif reads(term).isdisjoint(ids(right)):
                left, term = self.extract(left, term, {})
            else:
                left, right, term = self.extract_sides(left, right, term)
            more.append(term)
        condition = conjunction(conjuncts(keep) + more)
        new = Join(node.kind, left, right, node.keys, condition, node.null_safe, node.null_aware, node.mark)
        return as_schema(new, node.schema)

    def extract_sides(self, left: Node, right: Node, e: Expr) -> tuple[Node, Node, Expr]:
        """Attach every subquery of a join condition to the one input that it reads."""
        if isinstance(e, Subquery):
            if reads(e).isdisjoint(ids(right)):
                left, new = self.extract(left, e, {})
                return left, right, new
            if reads(e).isdisjoint(ids(left)):
                right, new = self.extract(right, e, {})
                return left, right, new
            raise NotSupportedError(
                "a subquery in the ON clause of an outer join that reads both sides is not supported",
                hint="Move the condition to WHERE, or compute the subquery in a FROM clause.",
            )
        children = []
        for child in e.children:
            left, right, child = self.extract_sides(left, right, child)
            children.append(child)
        return left, right, e.rebuild(tuple(children)) if children else e

    def extract(self, source: Node, e: Expr, attached: dict[Expr, Expr]) -> tuple[Node, Expr]:
        """Replace the subqueries in an expression over ``source`` by columns that are joined to it."""
        if not has_subquery(e):
            return source, e
        if e in attached:
            return source, attached[e]
        children = []
        for child in e.children:
            source, child = self.extract(source, child, attached)
            children.append(child)
        new = e.rebuild(tuple(children)) if children else e
        if isinstance(new, Subquery):
            source, new = self.scalar(source, new) if new.kind == "scalar" else self.mark(source, new)
            attached[e] = new
        return source, new

    def unnest(self, source: Node, plan: Node, equalities_only: bool = False) -> tuple[Node, Unnested]:
        outer = free(plan) & ids(source)
        if not outer:
            return source, Unnested(plan)
        pulled = pull_up(plan, outer, equalities_only)
        return (source, pulled) if pulled is not None else dependent_join(source, plan)

    def existence(self, plan: Node) -> Expr:
        """Whether an uncorrelated plan has a row."""
        count = fresh(BIGINT, "count")
        probe = Aggregate(Limit(plan, Literal(BIGINT, 1), None), (), ((count, AggregateCall(BIGINT, "count_star")),))
        return Call(BOOLEAN, "gt", (ScalarSubquery(BIGINT, probe), Literal(BIGINT, 0)))

    def semi(self, source: Node, sub: Subquery, negated: bool) -> tuple[Node, list[Expr]]:
        """[NOT] EXISTS or [NOT] IN as a term of a filter: a semi or anti join, or a predicate."""
        plan = self.root(sub.plan)
        kind = "anti" if negated else "semi"
        if sub.kind == "exists":
            plan = existence_only(plan)
            if isinstance(plan, Aggregate) and not plan.groups:
                return source, [Literal(BOOLEAN, not negated)]
            if not free(plan):
                test = self.existence(plan)
                return source, [Call(BOOLEAN, "not", (test,)) if negated else test]
            source, u = self.unnest(source, plan)
            return join(kind, source, u), []
        assert sub.operand is not None
        source, operand = self.extract(source, sub.operand, {})
        result = plan.schema[0]
        source, u = self.unnest(source, plan)
        if negated and not u.keys and not u.conditions:
            return Join(kind, source, u.plan, ((operand, result),), null_aware=True), []
        if negated:
            u.conditions.append(not_false(Call(BOOLEAN, "eq", (operand, result))))
            return join(kind, source, u), []
        return join(kind, source, u, [(operand, result)]), []

    def mark(self, source: Node, sub: Subquery) -> tuple[Node, Expr]:
        """EXISTS or IN anywhere in an expression: a mark join."""
        plan = self.root(sub.plan)
        mark = fresh(BOOLEAN, "mark")
        if sub.kind == "exists":
            plan = existence_only(plan)
            if isinstance(plan, Aggregate) and not plan.groups:
                return source, Literal(BOOLEAN, True)
            if not free(plan):
                return source, self.existence(plan)
            source, u = self.unnest(source, plan)
            return join("mark", source, u, mark=mark), mark
        assert sub.operand is not None
        result = plan.schema[0]
        source, u = self.unnest(source, plan)
        if not u.keys and not u.conditions:
            return Join("mark", source, u.plan, ((sub.operand, result),), null_aware=True, mark=mark), mark
        # True where a match exists; else NULL where a comparison was NULL; else false.
        again, mapping = copy(u.plan)
        unknown = Unnested(
            again,
            [(a, replace(b, mapping)) for a, b in u.keys],
            [replace(c, mapping) for c in u.conditions],
            u.null_safe,
        )
        equal = Call(BOOLEAN, "eq", (sub.operand, mapping[result.id]))
        unknown.conditions.append(Call(BOOLEAN, "is_null", (equal,)))
        maybe = fresh(BOOLEAN, "maybe")
        source = join("mark", source, u, [(sub.operand, result)], mark=mark)
        source = join("mark", source, unknown, mark=maybe)
        null = Call(BOOLEAN, "and", (maybe, Literal(BOOLEAN, None)))
        return source, Call(BOOLEAN, "or", (mark, null))

    def scalar(self, source: Node, sub: Subquery) -> tuple[Node, Expr]:
        plan = self.root(sub.plan)
        if not free(plan):
            return source, ScalarSubquery(sub.type, plan)
        top = above_total(plan)
        if top is None:
            result = plan.schema[0]
            source, u = self.unnest(source, plan)
            return join("single", source, u), result
        total, value, having = top
        source, u = self.unnest_total(source, total)
        groups: list[tuple[Column, Expr]] = []
        keys: Pairs = []
        for outer, inner in u.keys:
            column = inner if isinstance(inner, Column) and inner not in [g for g, _ in groups] else None
            column = column or fresh(inner.type, "key")
            groups.append((column, inner))
            keys.append((outer, column))
        calls, out = total_aggregates(total, u.mapping)
        grouped = Aggregate(u.plan, tuple(groups), tuple(calls))
        source = Join("left", source, grouped, tuple(keys), None, u.null_safe)
        values: dict[int, Expr] = {c.id: e for c, e in out}
        value = replace(value, values)
        if having:
            condition = conjunction([replace(h, values) for h in having])
            assert condition is not None
            value = Case(value.type, ((condition, value),), Literal(value.type, None))
        return source, value

    def unnest_total(self, source: Node, total: Aggregate) -> tuple[Node, Unnested]:
        """Like ``unnest`` for the input of an aggregate without groups, which needs equalities as its group keys."""
        outer = free(total) & ids(source)
        arguments = set[int]()
        for e in total.expressions:
            arguments |= reads(e)
        if arguments.isdisjoint(outer):
            return self.unnest(source, total.input, equalities_only=True)
        if free(total.input) & outer != outer:  # make the domain hold what the aggregates read, too
            carried = [c for c in source.schema if c.id in arguments & outer]
            marker = tuple((fresh(c.type, c.name), c) for c in carried)
            keep = tuple((c, c) for c in total.input.schema)
            return dependent_join(source, Project(total.input, keep + marker))
        return dependent_join(source, total.input)


def join(kind: str, source: Node, u: Unnested, more: Pairs | None = None, mark: Column | None = None) -> Node:
    """Join an unnested plan to its outer plan; ``more`` keys hold where both sides are equal and not NULL."""
    keys, conditions = list(u.keys), list(u.conditions)
    if u.null_safe:
        conditions += [Call(BOOLEAN, "eq", pair) for pair in more or []]
    else:
        keys += more or []
    return Join(kind, source, u.plan, tuple(keys), conjunction(conditions), u.null_safe and bool(keys), False, mark)


def existence_only(plan: Node) -> Node:
    """Without the parts that don't change whether there is a row."""
    while True:
        if (
            isinstance(plan, (Project, Window))
            or (isinstance(plan, Aggregate) and plan.groups)
            or (
                isinstance(plan, (Sort, Limit)) and plan.offset is None and (plan.limit is None or positive(plan.limit))
            )
        ):
            plan = plan.input
        else:
            return plan


def positive(limit: Expr) -> bool:
    return isinstance(limit, Literal) and (limit.is_null or limit.test(lambda v: v > 0))


def above_total(plan: Node) -> tuple[Aggregate, Expr, list[Expr]] | None:
    """Where the plan is an aggregate without groups below projections and filters: the aggregate, the value over its
    columns and the filters' predicates."""
    value: Expr = plan.schema[0]
    having: list[Expr] = []
    while True:
        if isinstance(plan, Project):
            columns = {c.id: e for c, e in plan.columns}
            value = replace(value, columns)
            having = [replace(h, columns) for h in having]
            plan = plan.input
        elif isinstance(plan, Filter):
            having += conjuncts(plan.predicate)
            plan = plan.input
        elif isinstance(plan, (Sort, Limit)) and plan.offset is None and (plan.limit is None or positive(plan.limit)):
            plan = plan.input
        else:
            return (plan, value, having) if isinstance(plan, Aggregate) and not plan.groups else None
