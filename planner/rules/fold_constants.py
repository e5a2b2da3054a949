"""Arithmetic and casts of constants are done once, here."""

from __future__ import annotations

import datetime
import operator
from collections.abc import Callable

from finequery.operators.expr import Call, Cast, Expr, Literal, derived
from finequery.planner.coercion import fold
from finequery.planner.literals import days_from_civil
from finequery.planner.logical import Node
from finequery.planner.rules._everywhere import Everywhere
from finequery.types import DATE, INTERVAL, TIMESTAMP, Interval

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
    args = [a for a in e.args if type(a) is Literal and not a.is_null]
    compute = computation(e) if len(args) == len(e.args) else None
    return e if compute is None else derived(e.type, compute, *args) or e


def computation(e: Call) -> Callable[..., int | None] | None:
    """The call as a function of physical values (None: there is no such value); None where it is left to the run."""
    types = [a.type for a in e.args]
    if e.name in ("add_interval", "sub_interval") and types[1] == INTERVAL:
        sign = 1 if e.name == "add_interval" else -1
        if types[0] == DATE:
            return lambda days, span: shifted(days, 0, span, sign)
        if types[0] == TIMESTAMP:
            return lambda micros, span: shifted(micros // DAY, micros % DAY, span, sign)
        return None
    if not all(t.is_integer or t.is_decimal for t in (*types, e.type)):
        return None
    compute: Callable[..., int]
    if len(types) == 2 and e.name in ("add", "sub") and types[0].scale == types[1].scale == e.type.scale:
        compute = operator.add if e.name == "add" else operator.sub
    elif len(types) == 2 and e.name == "mul" and e.type.scale == types[0].scale + types[1].scale:
        compute = operator.mul
    elif e.name == "neg" and types[0].scale == e.type.scale:
        compute = operator.neg
    else:
        return None
    low, high = e.type.limits

    def checked(*values: int) -> int | None:
        result = compute(*values)
        return result if low <= result <= high else None

    return checked


def shifted(days: int, micros: int, span: Interval, sign: int) -> int | None:
    """A day and a time of day plus or minus an interval, in microseconds; None outside of the years 1 to 9999."""
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
