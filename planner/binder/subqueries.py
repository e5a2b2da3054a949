"""Subqueries in expressions: IN, EXISTS, = ANY, <> ALL and scalar ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from finequery.errors import BindError
from finequery.operators.expr import Expr
from finequery.planner.binder.query import bind_subquery, convert
from finequery.planner.binder.scope import at, checked, refuse
from finequery.planner.coercion import call, cast
from finequery.planner.logical import Subquery
from finequery.planner.operations import SYMBOLS, meet
from finequery.types import BOOLEAN

if TYPE_CHECKING:
    from finequery.planner.binder.expressions import Expressions


def quantified(env: Expressions, node: Any, op: str, quantifier: str) -> Expr:
    if (op, quantifier) not in (("eq", "Any"), ("ne", "All")):
        raise refuse(f"{SYMBOLS[op]} {quantifier.upper()}", node, "Compare with min or max in a subquery.")
    inner = checked(node.args["expression"], "this")["this"]
    found = membership(env, node, env.bind(node.args["this"]), inner)
    return found if op == "eq" else call(BOOLEAN, "not", found)


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
