"""UNION, INTERSECT and EXCEPT."""

from __future__ import annotations

from typing import Any

from finequery.errors import BindError
from finequery.operators.expr import Column, Expr, WindowCall
from finequery.planner.binder.expressions import QueryState
from finequery.planner.binder.query import bind_query, convert
from finequery.planner.binder.scope import Binder, BoundQuery, at, checked, output_exprs
from finequery.planner.coercion import NULL_LITERAL, set_operation_type
from finequery.planner.logical import Aggregate, Join, Node, Project, Union, Window
from finequery.types import BIGINT, INTEGER, NULL, SqlType


def bind_set_operation(binder: Binder, node: Any, state: QueryState) -> BoundQuery:
    """A set operation without its ORDER BY and LIMIT."""
    kind = type(node).__name__
    operands = []
    current = node
    # A chain of UNION ALL is one Union of many parts.
    while True:
        args = checked(current, "this", "expression", "distinct", "by_name", "order", "limit", "offset", "with_")
        operands.append(bind_query(binder, args["expression"], state.enclosing, state.ctes))
        left = args["this"]
        if kind == "Union" and _same(node, left):
            current = left
            continue
        operands.append(bind_query(binder, left, state.enclosing, state.ctes))
        break
    operands.reverse()
    for operand in operands:
        state.outer |= operand.outer
    if node.args.get("by_name"):
        operands = _by_name(operands)
    names, types = operands[0].names, operands[0].types
    for operand in operands[1:]:
        types = _meet(kind, node, types, operand)
    physical = [INTEGER if t == NULL else t for t in types]
    plans = [convert(binder, operand, physical) for operand in operands]
    if kind == "Union":
        columns = tuple(binder.column(t, n) for n, t in zip(names, physical))
        plan: Node = Union(tuple(plans), columns)
        if node.args.get("distinct"):
            plan = _distinct(plan)
    else:
        plan = _matched(binder, node, plans)
        columns = plan.schema
    return BoundQuery(plan, list(names), output_exprs(columns, types), state.outer)


def _same(node: Any, left: Any) -> bool:
    """Whether ``left`` is the same kind of UNION with nothing of its own, so that the two are one."""
    return (
        type(left).__name__ == "Union"
        and all(bool(left.args.get(k)) == bool(node.args.get(k)) for k in ("distinct", "by_name"))
        and not any(left.args.get(k) for k in ("order", "limit", "offset", "with_"))
    )


def _meet(kind: str, node: Any, types: list[SqlType], operand: BoundQuery) -> list[SqlType]:
    if len(types) != len(operand.types):
        raise at(
            BindError(
                f"{kind.upper()}: one side has {len(types)} columns, the other {len(operand.types)}.",
                hint="Name the columns instead of *, or use UNION BY NAME." if kind == "Union" else None,
            ),
            node.args["expression"],
        )
    result = []
    for i, (a, b) in enumerate(zip(types, operand.types)):
        t = set_operation_type(a, b)
        if t is None:
            raise at(
                BindError(
                    f"{kind.upper()}: column {i + 1} is {a} on one side and {b} on the other.", hint="Cast one of them."
                ),
                node.args["expression"],
            )
        result.append(t)
    return result


def _by_name(operands: list[BoundQuery]) -> list[BoundQuery]:
    """The operands with the columns of all, matched by name; NULL where one is missing."""
    names: dict[str, str] = {}
    for operand in operands:
        for name in operand.names:
            names.setdefault(name.lower(), name)
    result = []
    for operand in operands:
        own = {n.lower(): e for n, e in zip(operand.names, operand.exprs)}
        if len(own) != len(operand.names):
            raise BindError("UNION BY NAME: a name occurs twice on one side.", hint="Give the columns aliases.")
        exprs: list[Expr] = [own.get(lower, NULL_LITERAL) for lower in names]
        result.append(BoundQuery(operand.plan, list(names.values()), exprs, operand.outer))
    return result


def _distinct(plan: Node) -> Node:
    return Aggregate(plan, tuple((c, c) for c in plan.schema), ())


def _matched(binder: Binder, node: Any, plans: list[Node]) -> Node:
    """INTERSECT and EXCEPT as joins on all columns, in which NULL equals NULL. With ALL, the n-th copy of a row on the
    left meets the n-th copy on the right."""
    left, right = plans
    kind = "semi" if type(node).__name__ == "Intersect" else "anti"
    if node.args.get("distinct"):
        left, right = _distinct(left), _distinct(right)
        keys = tuple(zip(left.schema, right.schema))
        return Join(kind, left, right, keys, null_safe=True)
    columns = left.schema
    left, right = _numbered(binder, left), _numbered(binder, right)
    keys = tuple(zip(left.schema, right.schema))
    return Project(Join(kind, left, right, keys, null_safe=True), tuple((c, c) for c in columns))


def _numbered(binder: Binder, plan: Node) -> Node:
    """The plan with a number for each copy of a row."""
    number: Column = binder.column(BIGINT, "copy")
    return Window(plan, ((number, WindowCall(BIGINT, "row_number", (), plan.schema, (), False)),))
