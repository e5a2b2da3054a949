"""Arithmetic and casts of constants are done once, here."""

from __future__ import annotations

import datetime

from finequery.operators.expr import Call, Cast, Expr, Literal
from finequery.planner.coercion import fold
from finequery.planner.literals import days_from_civil
from finequery.planner.logical import Node
from finequery.planner.rules._everywhere import Everywhere
from finequery.types import TIMESTAMP, Interval

DAY = 86_400_000_000
EPOCH = datetime.date(1970, 1, 1)


def fold_constants(plan: Node) -> Node:
    """Compute what is constant and can't fail; the rest is left to the run.

    Before::

        Filter shipdate <= sub_interval(date '1998-12-01', interval '90 days')

    After::

        Filter shipdate <= timestamp '1998-09-02 00:00:00'
    """
    return Everywhere(folded).node(plan)


def folded(e: Expr) -> Expr:
    if type(e) is Cast:
        child = e.child
        if type(child) is Literal and not child.type.is_string:
            done = fold(child, e.type, e.safe)
            return e if done is None else done
        return e
    if type(e) is not Call or not 1 <= len(e.args) <= 2:
        return e
    for a in e.args:
        if type(a) is not Literal or a.value is None:
            return e
    values = [a.value for a in e.args]  # type: ignore[attr-defined]
    if len(values) == 2 and e.name in ("add_interval", "sub_interval") and isinstance(values[1], Interval):
        moved = shifted(e.args[0], values[1], 1 if e.name == "add_interval" else -1)
        return e if moved is None else Literal(TIMESTAMP, moved)
    types = [a.type for a in e.args]
    if not all(t.is_integer or t.is_decimal for t in (*types, e.type)):
        return e
    if len(values) == 2 and e.name in ("add", "sub") and types[0].scale == types[1].scale == e.type.scale:
        result = values[0] + values[1] if e.name == "add" else values[0] - values[1]
    elif len(values) == 2 and e.name == "mul" and e.type.scale == types[0].scale + types[1].scale:
        result = values[0] * values[1]
    elif e.name == "neg" and types[0].scale == e.type.scale:
        result = -values[0]
    else:
        return e
    low, high = e.type.limits
    return Literal(e.type, result) if low <= result <= high else e


def shifted(moment: Expr, span: Interval, sign: int) -> int | None:
    """A DATE or TIMESTAMP literal plus or minus an interval, in microseconds; None outside of the years 1 to 9999."""
    assert isinstance(moment, Literal)
    days, micros = (moment.value, 0) if moment.type.name == "DATE" else divmod(moment.value, DAY)
    if moment.type.name not in ("DATE", "TIMESTAMP"):
        return None
    try:
        if span.months:
            date = EPOCH + datetime.timedelta(days)
            year, month = divmod(date.year * 12 + date.month - 1 + sign * span.months, 12)
            day = date.day
            found = days_from_civil(year, month + 1, day)
            while found is None and day > 28:  # the last day of a shorter month
                day -= 1
                found = days_from_civil(year, month + 1, day)
            if found is None:
                return None
            days = found
        days += sign * span.days
        EPOCH + datetime.timedelta(days)
    except OverflowError:
        return None
    return int(days * DAY + micros + sign * span.micros)
