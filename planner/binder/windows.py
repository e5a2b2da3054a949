"""Window calls: function OVER (PARTITION BY … ORDER BY … frame)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from finequery.errors import BindError, nearest
from finequery.operators.expr import Expr, Frame, Literal, SortKey, WindowCall
from finequery.planner.binder.aggregates import arguments, call_name, sort_key
from finequery.planner.binder.ordered import ORDERED
from finequery.planner.binder.scope import at, checked, refuse, text_of
from finequery.planner.coercion import cast, is_null, settle
from finequery.planner.function_rules import no_overload
from finequery.planner.functions import AGGREGATES, aggregate_type
from finequery.planner.operations import arithmetic, boolean, case, require_constant
from finequery.types import BIGINT, BOOLEAN, DATE, DOUBLE, HUGEINT, INTEGER, INTERVAL, TIMESTAMP, Interval

if TYPE_CHECKING:
    from finequery.planner.binder.expressions import Expressions

#: Aggregates that may stand before OVER, and the window function that they are.
_AGGREGATES = {
    **{name: name for name in ("count", "sum", "avg", "min", "max")},
    "bool_and": "min",
    "bool_or": "max",
    "first": "first_value",
    "last": "last_value",
    "any_value": "first_value",
    "count_if": "sum",
}
#: Functions of the place in the partition, whatever the frame; with their results.
_PLACES = {
    "row_number": BIGINT,
    "rank": BIGINT,
    "dense_rank": BIGINT,
    "percent_rank": DOUBLE,
    "cume_dist": DOUBLE,
}
_VALUES = ("first_value", "last_value", "nth_value")


def bind_window(env: Expressions, node: Any) -> Expr:
    """The column that a window call's result will be in."""
    args = checked(node, "this", "partition_by", "order", "spec", "alias", "over")
    if not env.windows:
        hint = "Use QUALIFY, or compute it in a subquery." if env.clause == "WHERE" else "Compute it in a subquery."
        raise BindError(f"{env.clause} can't contain window functions.", hint=hint)
    inside = env.inside("a window function")
    inside.aggregates = env.aggregates
    partition, order, spec = _parts(env, inside, node)
    function, condition, ignore_nulls = args["this"], None, False
    if type(function).__name__ == "Filter":
        parts = checked(function, "this", "expression")
        function, condition = parts["this"], inside.predicate(checked(parts["expression"], "this")["this"])
    name = call_name(env, function)
    values, distinct, star, own_order = arguments(function, name)
    if own_order:
        raise refuse(f"ORDER BY inside {name}(…) OVER", function)
    for i, value in enumerate(values):
        if type(value).__name__ in ("IgnoreNulls", "RespectNulls"):
            values[i] = checked(value, "this")["this"]
            ignore_nulls = type(value).__name__ == "IgnoreNulls"
    if distinct:
        raise refuse(f"{name}(DISTINCT …) OVER", node)
    order, running, frame = _frame(inside, spec, order, node)
    call = _Call(name, tuple(partition), tuple(order), running, frame, ignore_nulls)
    window = call.bound([inside.bind(v) for v in values], star, condition)
    slots = env.query.windows
    if window not in slots:
        slots[window] = env.binder.column(window.type, name)
    return slots[window]


class _Call:
    """A window call whose window is bound."""

    def __init__(
        self, name: str, partition: tuple[Expr, ...], order: tuple[SortKey, ...], running: bool,
        frame: Frame | None, ignore_nulls: bool,
    ):  # fmt: skip
        self.name, self.entry = name, AGGREGATES[name]
        self.partition, self.order, self.running, self.frame = partition, order, running, frame
        self.ignore_nulls = ignore_nulls

    def window(self, t: Any, kind: str, args: tuple[Expr, ...], framed: bool = True) -> WindowCall:
        frame = self.frame if framed else None
        ignore = self.ignore_nulls or (self.entry.canonical == "any_value")
        return WindowCall(t, kind, args, self.partition, self.order, self.running, frame, ignore and framed)

    def bound(self, args: list[Expr], star: bool, condition: Expr | None) -> WindowCall:
        entry, name = self.entry, self.name
        kind = entry.canonical
        if not entry.window and kind not in _AGGREGATES:
            hint = "Compute it with GROUP BY in a subquery, and join." if kind in ORDERED else None
            raise refuse(f"{name} OVER", None, hint)
        if self.ignore_nulls and kind not in _VALUES:
            raise refuse(f"IGNORE NULLS in {name}", None, "first_value, last_value and nth_value have it.")
        if entry.window and condition is not None:
            raise BindError(f"FILTER does not go with {name}.")
        if kind in _PLACES:
            if args or star:
                raise no_overload(entry, name, args)
            return self.window(_PLACES[kind], kind, (), framed=False)
        if kind in ("lag", "lead"):
            return self.shifted(args)
        if kind in ("ntile", "nth_value"):
            return self.numbered(args)
        if condition is not None:  # values of rows that are left out become NULL, which no aggregate counts
            if kind in ("first", "last"):
                raise refuse(f"{name}(…) FILTER … OVER", None)
            value = settle(args[0]) if args else Literal(INTEGER, 1)
            args, star = [case([(condition, value)], Literal(value.type, None))], False
        if star:
            return self.window(BIGINT, "count_star", ())
        bound, result = aggregate_type(entry, name, args)
        if kind == "count_if":
            bound, result = [cast(boolean(bound[0]), INTEGER)], HUGEINT
        return self.window(result, _AGGREGATES.get(kind, kind), tuple(bound))

    def shifted(self, args: list[Expr]) -> WindowCall:
        """lag and lead: value, offset, default."""
        if not 1 <= len(args) <= 3:
            raise no_overload(self.entry, self.name, args)
        (value,), result = aggregate_type(self.entry, self.name, args[:1])
        offset = args[1] if len(args) > 1 else Literal(BIGINT, 1)
        if not (offset.type.is_integer or is_null(offset)):
            raise BindError(f"The offset of {self.name} must be an integer.")
        default = args[2] if len(args) > 2 else Literal(result, None)
        return self.window(
            result, self.entry.canonical, (value, cast(offset, BIGINT), cast(default, result)), framed=False
        )

    def numbered(self, args: list[Expr]) -> WindowCall:
        """ntile(n) and nth_value(x, n)."""
        kind = self.entry.canonical
        if len(args) != 1 + (kind == "nth_value") or not (args[-1].type.is_integer or is_null(args[-1])):
            raise no_overload(self.entry, self.name, args)
        number = cast(args[-1], BIGINT)
        if kind == "ntile":
            return self.window(BIGINT, kind, (number,), framed=False)
        (value,), result = aggregate_type(self.entry, self.name, args[:1])
        return self.window(result, kind, (value, number))


def _parts(env: Expressions, inside: Expressions, node: Any) -> tuple[list[Expr], list[SortKey], Any]:
    """PARTITION BY, ORDER BY and the frame, with what a named window adds."""
    args = node.args
    partition: list[Expr] = []
    order: list[SortKey] = []
    spec = args.get("spec")
    if args.get("alias"):
        name = text_of(args["alias"])
        named = env.query.named_windows.get(name.lower())
        if named is None:
            hint = nearest(name, env.query.named_windows)
            raise at(BindError(f'There is no window "{name}".', hint=hint or None), args["alias"])
        checked(named, "this", "partition_by", "order", "spec", "alias", "over")
        partition, order, named_spec = _parts(env, inside, named)
        if spec is not None and named_spec is not None:
            raise at(BindError(f'Window "{name}" has a frame already.'), node)
        spec = spec or named_spec
    if args.get("partition_by"):
        partition = [settle(inside.bind(p)) for p in args["partition_by"]]
    if args.get("order"):
        order = [sort_key(inside.bind(o.this), o) for o in checked(args["order"], "expressions")["expressions"]]
    return partition, order, spec


# --- frames --------------------------------------------------------------------------------------------------------


def _frame(env: Expressions, spec: Any, order: list[SortKey], node: Any) -> tuple[list[SortKey], bool, Frame | None]:
    """(order, running, frame): the order key of a RANGE with a distance is cast to a type the distance fits."""
    if spec is None:
        return order, bool(order), None
    args = checked(spec, "kind", "start", "start_side", "end", "end_side")
    unit = str(args.get("kind") or "RANGE").lower()
    ends: list[Any] = []  # an expression to be added to the key, 0 for the current row, None for the partition's end
    for key, side in (("start", "PRECEDING"), ("end", "FOLLOWING")):
        value, given = args.get(key) or "CURRENT ROW", str(args.get(f"{key}_side") or "").upper()
        if isinstance(value, str):
            if value.upper() == "UNBOUNDED" and given != side:
                raise at(BindError(f"A frame can't {key} at UNBOUNDED {given}."), node)
            ends.append(None if value.upper() == "UNBOUNDED" else 0)
        else:
            ends.append((value, given == "PRECEDING"))
    sides = [0 if e == 0 else -1 if e[1] else 1 for e in ends if e is not None]
    if len(sides) == 2 and sides[0] > sides[1]:
        raise at(BindError("A frame can't end before it starts.", hint="Exchange the two ends."), node)
    if ends == [None, None]:
        return order, False, None
    if ends == [None, 0] and unit != "rows":
        return order, bool(order), None
    if unit == "groups" and not order:
        raise at(BindError("A frame of GROUPS needs an ORDER BY.", hint="Add ORDER BY to the window."), node)
    if unit != "range":
        start, end = (_count(env, e) if isinstance(e, tuple) else e for e in ends)
        return order, False, Frame(unit, start, end)
    if any(isinstance(e, tuple) for e in ends):
        if len(order) != 1:
            hint = "Write one ORDER BY expression, or ROWS for a number of rows."
            raise at(BindError("RANGE with a distance is by one order key.", hint=hint), node)
        order, ends = _distances(env, order[0], ends)
    return order, False, Frame(unit, *ends)


def _count(env: Expressions, end: tuple[Any, bool]) -> int:
    """The number of rows or groups of a frame's end."""
    node, preceding = end
    e = env.bind(node)
    value = require_constant(e, "The distance of a frame")
    if not e.type.is_integer or not isinstance(value, int):
        raise at(BindError("A frame of ROWS or GROUPS is given in whole numbers."), node)
    if value < 0:
        raise at(
            BindError("The distance of a frame can't be negative.", hint="PRECEDING and FOLLOWING say where."), node
        )
    return -value if preceding else value


def _distances(env: Expressions, key: SortKey, ends: list[Any]) -> tuple[list[SortKey], list[Any]]:
    """The order key and the distances in one type."""
    bound = [env.bind(e[0]) if isinstance(e, tuple) else None for e in ends]
    x = key.expr
    for e, end in zip(bound, ends):
        if e is None:
            continue
        require_constant(e, "The distance of a frame")
        try:
            x = cast(x, TIMESTAMP) if e.type == INTERVAL and x.type.is_temporal else arithmetic("sub", x, e).args[0]  # type: ignore[attr-defined]
        except BindError as error:
            raise at(error, end[0]) from None
    result: list[Any] = []
    for e, end in zip(bound, ends):
        if e is None:
            result.append(end)
            continue
        literal = e if e.type == INTERVAL else cast(e, INTEGER if x.type == DATE else x.type)
        value = require_constant(literal, "The distance of a frame")
        if value is None or (min(value) if isinstance(value, Interval) else value) < 0:  # type: ignore[operator]
            raise at(
                BindError("The distance of a frame can't be negative.", hint="PRECEDING and FOLLOWING say where."),
                end[0],
            )
        if isinstance(value, Interval):
            result.append(Interval(*(-p for p in value)) if end[1] else value)
        else:
            result.append(-value if end[1] else value)  # type: ignore[operator]
    if x.type == BOOLEAN:
        raise BindError("RANGE with a distance is by numbers or times.")
    return [SortKey(x, key.descending, key.nulls_first)], [_zero(v) for v in result]


def _zero(value: Any) -> Any:
    """A distance of nothing as 0: the current row."""
    return 0 if isinstance(value, Interval) and not any(value) else value
