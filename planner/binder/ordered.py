"""Aggregates that need the rows of their group in an order: quantiles, mode, arg_max, string_agg, last, ….

They are window functions over the group (PARTITION BY the groups, ordered as the aggregate needs it), whose value every
row of the group then has: the GROUP BY above takes the first.

    select g, median(x) from t group by g

is planned as

    select g, first(m) from (select g, nth_value(x, (n + 1) // 2) over (partition by g order by x …) … from
                             (select g, x, count(x) over (partition by g) as n from t)) group by g
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from finequery.errors import BindError
from finequery.operators.expr import Aggregate as PlainCall
from finequery.operators.expr import Case, Column, Expr, Literal, SortKey, WindowCall
from finequery.planner.coercion import call, cast, is_null, settle
from finequery.planner.function_rules import AggregateFunction, no_overload
from finequery.planner.logical import Aggregate, Node, Window
from finequery.planner.operations import require_constant
from finequery.types import BIGINT, BOOLEAN, DATE, DOUBLE, INTEGER, TIMESTAMP, VARCHAR, SqlType, decimal

if TYPE_CHECKING:
    from finequery.planner.binder.scope import Binder

#: Canonical names of the aggregates that are planned here, whatever their arguments.
ORDERED = frozenset("last arg_max arg_min mode median quantile_cont quantile_disc string_agg comoment".split())
#: Those that are planned here if they have an ORDER BY of their own; to the other aggregates order means nothing.
BY_ORDER = frozenset(("first", "any_value"))
_WHOLE = frozenset(("first", "last", "any_value", "arg_max", "arg_min"))  # to which DISTINCT means nothing


@dataclass(frozen=True)
class OrderedCall:
    """An aggregate call of this kind; ``args`` are cast, a separator and a quantile's share are literals."""

    type: SqlType
    name: str
    args: tuple[Expr, ...]
    distinct: bool
    filter: Expr | None
    order: tuple[SortKey, ...]


def ordered_call(
    entry: AggregateFunction, name: str, args: list[Expr], distinct: bool, keep: Expr | None, order: list[SortKey]
) -> OrderedCall:
    """The call, typed as DuckDB types it."""
    kind = entry.canonical
    wanted = {"arg_max": (2, 2), "arg_min": (2, 2), "string_agg": (1, 2), "quantile_cont": (2, 2)}
    least, most = wanted.get("quantile_cont" if kind == "quantile_disc" else kind, (1, 1))
    if not least <= len(args) <= most:
        raise no_overload(entry, name, args)
    args = [cast(a, INTEGER) if is_null(a) else settle(a) for a in args]
    value, terms = args[0], tuple(order)
    if kind == "string_agg":
        separator = require_constant(cast(args[1], VARCHAR), f"The separator of {name}") if len(args) == 2 else ","
        return OrderedCall(VARCHAR, kind, (cast(value, VARCHAR), Literal(VARCHAR, separator)), distinct, keep, terms)
    if kind in ("median", "quantile_cont", "quantile_disc"):
        share = args[1] if len(args) == 2 else Literal(decimal(2, 1), 5)
        if kind == "median":
            kind = "quantile_cont" if value.type.is_numeric or value.type.is_temporal else "quantile_disc"
        return _quantile(entry, name, kind, value, share, distinct, keep, terms)
    if kind == "comoment":
        value = cast(value, DOUBLE)
    return OrderedCall(value.type, kind, tuple(args), distinct and kind not in _WHOLE, keep, terms)


def _quantile(
    entry: AggregateFunction,
    name: str,
    kind: str,
    value: Expr,
    share: Expr,
    distinct: bool,
    keep: Expr | None,
    order: tuple[SortKey, ...],
) -> OrderedCall:
    number = require_constant(share, f"The share of {name}")
    if not share.type.is_numeric or not isinstance(number, (int, float)):
        raise no_overload(entry, name, [value, share])
    if not abs(number) <= 10**share.type.scale:
        raise BindError(f"The share of {name} is a number from 0 to 1.")
    result = value.type
    if kind == "quantile_cont":
        if not (result.is_numeric or result.is_temporal):
            raise no_overload(entry, name, [value, share])
        result = DOUBLE if result.is_integer else TIMESTAMP if result == DATE else result
    descending = number < 0 or any(k.descending for k in order)
    share = Literal(share.type, abs(number))
    return OrderedCall(result, kind, (value, share), distinct, keep, (SortKey(value, descending, False),))


def aggregated(
    binder: Binder, plan: Node, groups: Sequence[tuple[Column, Expr]], calls: dict[PlainCall | OrderedCall, Column]
) -> Node:
    """GROUP BY with its aggregate calls."""
    plain: list[tuple[Column, PlainCall]] = []
    levels = _Levels(binder, tuple(e for _, e in groups))
    for item, column in calls.items():
        plain.append((column, item if isinstance(item, PlainCall) else levels.plain(item)))
    for level in levels.levels:
        if level:
            plan = Window(plan, tuple((c, w) for w, c in level.items()))
    return Aggregate(plan, tuple(groups), tuple(plain))


class _Levels:
    """The window functions below one GROUP BY: those of a level read columns of the levels before it."""

    def __init__(self, binder: Binder, partition: tuple[Expr, ...]):
        self.binder, self.partition = binder, partition
        self.levels: tuple[dict[WindowCall, Column], ...] = ({}, {}, {})

    def over(
        self, level: int, t: SqlType, name: str, args: tuple[Expr, ...], order: tuple[SortKey, ...] = (),
        within: tuple[Expr, ...] = (),
    ) -> Column:  # fmt: skip
        """A window function over the group, or over its rows that agree in ``within`` too."""
        window = WindowCall(t, name, args, self.partition + within, order, False)
        columns = self.levels[level]
        if window not in columns:
            columns[window] = self.binder.column(t, name)
        return columns[window]

    def plain(self, item: OrderedCall) -> PlainCall:
        """The call as a plain aggregate over the windows' columns."""
        if item.name == "comoment":
            return self.comoment(item)
        return PlainCall(item.type, "first", (self.value(item),))

    def value(self, item: OrderedCall) -> Expr:
        """The aggregate's value, in every row of the group."""
        t, keep = item.type, item.filter
        value = _where(keep, item.args[0])
        if item.distinct:  # all but the first of equal values count as NULL
            number = self.over(0, BIGINT, "row_number", (), (), (value,))
            value = _where(call(BOOLEAN, "eq", number, Literal(BIGINT, 1)), value)
        if item.name == "string_agg":
            return self.over(2, t, "string_agg", (value, item.args[1]), item.order)
        if item.name in ("quantile_cont", "quantile_disc"):
            return self.quantile(item, value)
        if item.name == "mode":
            count = self.over(1, BIGINT, "count", (value,), (), (value,))
            return self.over(2, t, "first_value", (value,), (SortKey(count, True, False), *item.order))
        if item.name in ("arg_max", "arg_min"):
            by = item.args[1]
            known = [call(BOOLEAN, "not", call(BOOLEAN, "is_null", e)) for e in item.args]
            counted = call(BOOLEAN, "and", *known, *([] if keep is None else [keep]))
            key = SortKey(_where(counted, by), item.name == "arg_max", False)
            return self.over(2, t, "first_value", (_where(counted, item.args[0]),), (key,))
        ranked = keep
        if item.name == "any_value":
            known_value = call(BOOLEAN, "not", call(BOOLEAN, "is_null", item.args[0]))
            ranked = known_value if keep is None else call(BOOLEAN, "and", known_value, keep)
        first = () if ranked is None else (SortKey(_flag(ranked), item.name != "last", False),)
        name = "last_value" if item.name == "last" else "first_value"
        return self.over(2, t, name, (value,), (*first, *item.order))

    def quantile(self, item: OrderedCall, value: Expr) -> Expr:
        """The value at a share of the sorted values; quantile_cont lies between two of them."""
        count = self.over(1, BIGINT, "count", (value,))
        order = tuple(SortKey(value, k.descending, False) for k in item.order)
        share = item.args[1]
        assert isinstance(share, Literal)
        if item.name == "quantile_disc":
            return self.nth(value, _discrete(count, share), order)
        place = call(DOUBLE, "mul", cast(call(BIGINT, "sub", count, Literal(BIGINT, 1)), DOUBLE), cast(share, DOUBLE))
        below = call(DOUBLE, "floor", place)
        part = call(DOUBLE, "sub", place, below)
        low, high = (
            self.nth(value, call(BIGINT, "add", cast(call(DOUBLE, cut, place), BIGINT), Literal(BIGINT, 1)), order)
            for cut in ("floor", "ceil")
        )
        exact = call(BOOLEAN, "eq", part, Literal(DOUBLE, 0.0))
        return Case(item.type, ((exact, cast(low, item.type)),), _between(low, high, part, item.type))

    def nth(self, value: Expr, number: Expr, order: tuple[SortKey, ...]) -> Column:
        at_least_one = call(BIGINT, "greatest", number, Literal(BIGINT, 1))
        return self.over(2, value.type, "nth_value", (value, at_least_one), order)

    def comoment(self, item: OrderedCall) -> PlainCall:
        """The sum of the products of deviations from the mean, of rows in which both are known."""
        known = [call(BOOLEAN, "not", call(BOOLEAN, "is_null", e)) for e in item.args]
        both = call(BOOLEAN, "and", *known, *([] if item.filter is None else [item.filter]))
        parts = []
        for e in item.args:
            value = _where(both, e)
            parts.append(call(DOUBLE, "sub", value, self.over(1, DOUBLE, "avg", (value,))))
        return PlainCall(DOUBLE, "sum", (call(DOUBLE, "mul", *parts),))


def _where(condition: Expr | None, value: Expr) -> Expr:
    """``value`` where the condition holds, else NULL."""
    return value if condition is None else Case(value.type, ((condition, value),), Literal(value.type, None))


def _flag(condition: Expr) -> Expr:
    return Case(INTEGER, ((condition, Literal(INTEGER, 1)),), Literal(INTEGER, 0))


def _discrete(count: Expr, share: Literal) -> Expr:
    """n - floor(n - share * n), exact for a decimal share."""
    if share.type.is_float:
        n = cast(count, DOUBLE)
        rest = call(DOUBLE, "floor", call(DOUBLE, "sub", n, call(DOUBLE, "mul", n, cast(share, DOUBLE))))
        return call(BIGINT, "sub", count, cast(rest, BIGINT))
    scale = 10**share.type.scale
    rest = call(BIGINT, "mul", count, Literal(BIGINT, scale - share.value))
    return call(BIGINT, "sub", count, call(BIGINT, "intdiv", rest, Literal(BIGINT, scale)))


def _between(low: Expr, high: Expr, part: Expr, t: SqlType) -> Expr:
    """low + (high - low) * part: of decimals cut off, of moments rounded."""
    if t.is_timestamp:
        ends = [cast(call(BIGINT, "epoch_us", cast(e, TIMESTAMP)), DOUBLE) for e in (low, high)]
    elif t.is_decimal:
        scale = Literal(DOUBLE, float(10**t.scale))
        ends = [call(DOUBLE, "round", call(DOUBLE, "mul", cast(e, DOUBLE), scale)) for e in (low, high)]
    else:
        ends = [cast(e, DOUBLE) for e in (low, high)]
    found = call(DOUBLE, "add", ends[0], call(DOUBLE, "mul", call(DOUBLE, "sub", ends[1], ends[0]), part))
    if t.is_timestamp:
        return call(t, "make_timestamp", cast(call(DOUBLE, "round", found), BIGINT))
    if t.is_decimal:
        return cast(call(DOUBLE, "div", call(DOUBLE, "trunc", found), scale), t)
    return cast(found, t)
