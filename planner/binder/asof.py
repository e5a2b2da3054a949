"""ASOF JOIN: for each row of the left side the one row of the right side that comes last before it (or first after it),
among those with equal keys.

Both sides' rows stand in one list, ordered by keys and time, and each left row takes the last right row before it:

    Join on right.number = match
      Join on left.number = number
        left
        Window last_value(right.number ignore nulls) over (partition by keys order by time, side …)
          Union of the keys, times and row numbers of both sides
      right
"""

from __future__ import annotations

from typing import Any

from finequery.errors import BindError
from finequery.operators.expr import (
    Call,
    Column,
    Expr,
    Frame,
    Literal,
    SortKey,
    WindowCall,
    columns_of,
    conjunction,
    conjuncts,
)
from finequery.planner.binder.scope import Binder, at
from finequery.planner.coercion import call
from finequery.planner.logical import Filter, Join, Materialize, Node, Project, Union, Window
from finequery.types import BIGINT, BOOLEAN, INTEGER

_FLIPPED = {"eq": "eq", "ge": "le", "gt": "lt", "le": "ge", "lt": "gt"}
_LEFT, _RIGHT = 0, 1


def asof_join(binder: Binder, left: Node, right: Node, condition: Expr, kind: str, node: Any) -> Node:
    """``kind``: inner, or left to keep rows that find no partner."""
    keys, (op, left_time, right_time) = _terms(left, right, condition, node)
    number = {_LEFT: binder.column(BIGINT, "left_row"), _RIGHT: binder.column(BIGINT, "right_row")}
    shared = {side: _numbered(plan, number[side]) for side, plan in ((_LEFT, left), (_RIGHT, right))}
    columns = tuple(
        binder.column(t, name)
        for t, name in [
            *((a.type, "key") for a, _ in keys),
            (left_time.type, "time"),
            *((BIGINT, "left_row"), (BIGINT, "right_row"), (INTEGER, "side")),
        ]
    )
    *key_columns, time, left_number, right_number, side = columns
    # A right row with the left row's very time belongs to it or not: it stands before it, or behind it.
    places = {_LEFT: 1, _RIGHT: 0 if op in ("ge", "le") else 2}
    parts = []
    for which, exprs in ((_LEFT, (*(a for a, _ in keys), left_time)), (_RIGHT, (*(b for _, b in keys), right_time))):
        source = shared[which]
        new = {c.id: binder.column(c.type, c.name) for c in source.schema}
        renamed: Node = Project(source, tuple((new[c.id], c) for c in source.schema))
        values = [_renamed(e, new) for e in exprs]
        if which == _RIGHT:  # NULL is neither equal to nor before anything
            known = [call(BOOLEAN, "not", call(BOOLEAN, "is_null", e)) for e in values]
            predicate = conjunction(list(known))
            assert predicate is not None
            renamed = Filter(renamed, predicate)
        row = new[number[which].id]
        nothing = Literal(BIGINT, None)
        values += [row if which == _LEFT else nothing, row if which == _RIGHT else nothing]
        values.append(Literal(INTEGER, places[which]))
        parts.append(Project(renamed, tuple((binder.column(c.type, c.name), e) for c, e in zip(columns, values))))
    match = binder.column(BIGINT, "match")
    order = (SortKey(time, op in ("le", "lt"), True), SortKey(side, False, False))
    last = WindowCall(
        *(BIGINT, "last_value", (right_number,), tuple(key_columns), order, False, Frame("rows", None, 0), True)
    )
    matched: Node = Window(Union(tuple(parts), columns), ((match, last),))
    matched = Filter(matched, call(BOOLEAN, "eq", side, Literal(INTEGER, places[_LEFT])))
    matched = Project(matched, ((left_number, left_number), (match, match)))
    first = Join("inner", _again(shared[_LEFT]), matched, condition=call(BOOLEAN, "eq", number[_LEFT], left_number))
    return Join(kind, first, _again(shared[_RIGHT]), condition=call(BOOLEAN, "eq", match, number[_RIGHT]))


def _numbered(plan: Node, number: Column) -> Materialize:
    return Materialize(Window(plan, ((number, WindowCall(BIGINT, "row_number", (), (), (), False)),)), "asof")


def _again(shared: Materialize) -> Node:
    """The use of a shared plan that keeps its columns' ids."""
    return Project(shared, tuple((c, c) for c in shared.schema))


def _renamed(e: Expr, new: dict[int, Column]) -> Expr:
    from finequery.planner.rules._tree import replace

    return replace(e, dict(new))


def _terms(
    left: Node, right: Node, condition: Expr, node: Any
) -> tuple[list[tuple[Expr, Expr]], tuple[str, Expr, Expr]]:
    """The equal keys, and the one inequality as (operator, left time, right time)."""
    here, there = {c.id for c in left.schema}, {c.id for c in right.schema}
    keys: list[tuple[Expr, Expr]] = []
    orders: list[tuple[str, Expr, Expr]] = []
    hint = "Write ON a.key = b.key AND a.time >= b.time."
    for term in conjuncts(condition):
        if isinstance(term, Call) and term.name in _FLIPPED and len(term.args) == 2:
            (a, b), op = term.args, term.name
            if columns_of(a) <= there and columns_of(b) <= here:
                a, b, op = b, a, _FLIPPED[op]
            if columns_of(a) and columns_of(b) and columns_of(a) <= here and columns_of(b) <= there:
                if op == "eq":
                    keys.append((a, b))
                else:
                    orders.append((op, a, b))
                continue
        raise at(
            BindError(
                "ASOF JOIN compares columns of one side with columns of the other, by = and one inequality.", hint=hint
            ),
            node,
        )
    if len(orders) != 1:
        raise at(BindError(f"ASOF JOIN needs one inequality, not {len(orders)}.", hint=hint), node)
    return keys, orders[0]
