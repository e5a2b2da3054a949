"""Subqueries in expressions: IN, EXISTS, = ANY, <> ALL and scalar ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from finequery.errors import BindError
from finequery.operators.expr import Aggregate, Case, Expr, Literal, columns_of
from finequery.planner.binder.query import bind_subquery, convert
from finequery.planner.binder.scope import at, checked, refuse
from finequery.planner.coercion import FALSE, TRUE, call, cast
from finequery.planner.logical import Aggregate as Grouping
from finequery.planner.logical import Filter, Subquery
from finequery.planner.operations import SYMBOLS, meet
from finequery.types import BIGINT, BOOLEAN

if TYPE_CHECKING:
    from finequery.planner.binder.expressions import Expressions


#: The aggregate of a subquery's values that a comparison with ANY of them is one with.
_BOUNDS = {"lt": ("max",), "le": ("max",), "gt": ("min",), "ge": ("min",), "ne": ("min", "max")}
_INVERSE = {"lt": "ge", "le": "gt", "gt": "le", "ge": "lt", "eq": "ne", "ne": "eq"}


def quantified(env: Expressions, node: Any, op: str, quantifier: str) -> Expr:
    """``x op ANY (query)``, and ``x op ALL (query)`` as NOT of the opposite comparison with ANY."""
    if op not in _INVERSE:
        raise refuse(f"{SYMBOLS[op]} {quantifier.upper()}", node)
    inner = checked(node.args["expression"], "this")["this"]
    if quantifier == "All":
        op = _INVERSE[op]
    if type(node.args["this"]).__name__ == "Tuple":
        if op != "eq":
            raise refuse("A comparison of rows with a quantifier", node, "Write it as IN, or as EXISTS.")
        found = row_membership(env, env.row(node.args["this"]), inner)
    elif op == "eq":
        found = membership(env, node, env.bind(node.args["this"]), inner)
    else:
        found = _any(env, op, env.bind(node.args["this"]), inner)
    return found if quantifier == "Any" else call(BOOLEAN, "not", found)


def _any(env: Expressions, op: str, operand: Expr, query: Any) -> Expr:
    """True where the greatest or least value does; else NULL where a comparison is NULL; else false."""

    def total(name: str) -> tuple[Expr, Expr]:
        """The operand and an aggregate of the subquery, in one type."""
        bound = bind_subquery(env, query)
        if len(bound.exprs) != 1:
            raise at(BindError(f"The subquery has {len(bound.exprs)} columns instead of one."), query)
        target = meet([operand, bound.exprs[0]])
        plan = convert(env.binder, bound, [target])
        value = plan.schema[0]
        aggregate = Aggregate(target, name, (value,))
        if name == "count_star":
            aggregate = Aggregate(BIGINT, name, (), False, None)
        elif name == "nulls":
            aggregate = Aggregate(BIGINT, "count_star", (), False, call(BOOLEAN, "is_null", value))
        column = env.binder.column(aggregate.type, name)
        found = Subquery(column.type, "scalar", Grouping(plan, (), ((column, aggregate),)), frozenset(bound.outer))
        return cast(operand, target), found

    true = [call(BOOLEAN, op, *total(name)) for name in _BOUNDS[op]]
    none = call(BOOLEAN, "eq", total("count_star")[1], Literal(BIGINT, 0))
    null = call(BOOLEAN, "gt", total("nulls")[1], Literal(BIGINT, 0))
    unknown = call(BOOLEAN, "or", call(BOOLEAN, "is_null", operand), null)
    match = true[0] if len(true) == 1 else call(BOOLEAN, "or", *true)
    return Case(BOOLEAN, ((match, TRUE), (none, FALSE), (unknown, Literal(BOOLEAN, None))), FALSE)


def row_membership(env: Expressions, row: list[Expr], query: Any) -> Expr:
    """``(a, b) IN (query)``: true where a row is equal; else NULL where one is equal but for NULLs; else false."""

    def exists_where(unknown: bool) -> Expr:
        bound = bind_subquery(env, query)
        if len(bound.exprs) != len(row):
            raise at(BindError(f"The subquery has {len(bound.exprs)} columns instead of {len(row)}."), query)
        types = [meet([a, b], "IN") for a, b in zip(row, bound.exprs)]
        plan = convert(env.binder, bound, types)
        terms: list[Expr] = []
        for a, b, t in zip(row, plan.schema, types):
            equal = call(BOOLEAN, "eq", cast(a, t), b)
            terms.append(call(BOOLEAN, "coalesce", equal, TRUE) if unknown else equal)
        outer = bound.outer.union(*(columns_of(e) for e in row))
        filtered = Filter(plan, call(BOOLEAN, "and", *terms) if len(terms) > 1 else terms[0])
        return Subquery(BOOLEAN, "exists", filtered, frozenset(outer))

    found, maybe = exists_where(False), exists_where(True)
    return Case(BOOLEAN, ((found, TRUE), (maybe, Literal(BOOLEAN, None))), FALSE)


def membership(env: Expressions, node: Any, operand: Expr, query: Any) -> Expr:
    """``operand IN (query)``."""
    bound = bind_subquery(env, query)
    if len(bound.exprs) != 1:
        raise at(BindError(f"The subquery of IN has {len(bound.exprs)} columns instead of one."), query)
    target = meet([operand, bound.exprs[0]], "IN")
    plan = convert(env.binder, bound, [target])
    return Subquery(BOOLEAN, "in", plan, frozenset(bound.outer), cast(operand, target))


def exists(env: Expressions, node: Any) -> Expr:
    bound = bind_subquery(env, checked(node, "this")["this"])
    return Subquery(BOOLEAN, "exists", bound.plan, frozenset(bound.outer))


def scalar(env: Expressions, node: Any) -> Expr:
    bound = bind_subquery(env, node)
    if len(bound.exprs) != 1:
        raise at(BindError(f"A subquery in an expression has one column, this one has {len(bound.exprs)}."), node)
    t = meet(bound.exprs)
    return Subquery(t, "scalar", convert(env.binder, bound, [t]), frozenset(bound.outer))
