"""Aggregate and window calls, and the rewriting of expressions above a GROUP BY."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from finequery.errors import BindError, CatalogError, nearest
from finequery.operators.expr import Aggregate, Column, Expr, Literal, SortKey, WindowCall, columns_of, walk
from finequery.planner.binder.scope import at, checked, refuse, text_of
from finequery.planner.coercion import cast, is_null, settle
from finequery.planner.function_rules import no_overload
from finequery.planner.functions import AGGREGATES, FUNCTIONS, UNSUPPORTED, aggregate_type
from finequery.planner.logical import Subquery
from finequery.planner.operations import boolean, case, require_constant
from finequery.types import BIGINT, HUGEINT, INTEGER

if TYPE_CHECKING:
    from finequery.planner.binder.expressions import Expressions

#: Aggregates that may stand before OVER.
_WINDOW_AGGREGATES = ("count", "sum", "avg", "min", "max", "first")


def bind_aggregate(env: Expressions, node: Any, name: str | None, condition: Any = None) -> Expr:
    """The column that an aggregate call's result will be in; the call itself is noted in the query."""
    name = name or _call_name(env, node)
    entry = AGGREGATES[name]
    if entry.window:
        raise BindError(f"{name} needs OVER (…).")
    if env.clause in ("an aggregate", "FILTER"):
        raise BindError("Aggregates can't be nested.", hint="Compute the inner one in a subquery.")
    if not env.aggregates:
        remedy = "HAVING" if env.clause == "WHERE" else "a subquery"
        raise BindError(f"{env.clause} can't contain aggregates.", hint=f"Use {remedy} to work with {name}.")
    args, distinct, star = _arguments(node, name)
    inside = env.inside("an aggregate")
    bound = [inside.bind(a) for a in args]
    if bound and not any(isinstance(e, Literal) for e in bound):
        ids = set().union(*(columns_of(e) for e in bound))
        if ids and ids <= env.query.outer and not any(isinstance(x, Subquery) for e in bound for x in walk(e)):
            raise refuse(f"{name} over columns of an enclosing query alone", node)
    keep = env.inside("FILTER").predicate(condition) if condition is not None else None
    if entry.canonical == "count_if":
        (truth,), _ = aggregate_type(entry, name, bound)
        return _count_if(env, truth, distinct, keep)
    return _slot(env, _aggregate(name, bound, distinct, star, keep), name)


def _slot(env: Expressions, aggregate: Aggregate, name: str) -> Column:
    """The column of an aggregate's result: one for all its equals."""
    slots = env.query.aggregates
    if aggregate not in slots:
        slots[aggregate] = env.binder.column(aggregate.type, name)
    return slots[aggregate]


def _count_if(env: Expressions, e: Expr, distinct: bool, keep: Expr | None) -> Expr:
    """count_if(x) is the sum of x as 0 and 1: NULL where no x is true or false."""
    if distinct:
        raise BindError("count_if(DISTINCT …) does not exist.")
    return _slot(env, Aggregate(HUGEINT, "sum", (cast(boolean(e), INTEGER),), False, keep), "count_if")


def _call_name(env: Expressions, node: Any) -> str:
    kind = type(node).__name__
    name = str(node.name).lower() if kind == "Anonymous" else ""
    if name not in AGGREGATES:
        if kind in ("IgnoreNulls", "RespectNulls"):
            raise refuse("IGNORE NULLS" if kind == "IgnoreNulls" else "RESPECT NULLS", node)
        if name in FUNCTIONS or not name:
            raise at(BindError(f"{name or kind} is not an aggregate.", hint="FILTER and OVER follow aggregates."), node)
        if name in UNSUPPORTED:
            raise refuse(f"The function {name}", node)
        raise at(CatalogError(f'There is no aggregate "{node.name}".', hint=nearest(name, AGGREGATES) or None), node)
    return name


def _arguments(node: Any, name: str) -> tuple[list[Any], bool, bool]:
    """(arguments, DISTINCT, whether it is count(*))."""
    args = checked(node, "this", "expressions")
    values = list(args.get("expressions") or []) if type(node).__name__ == "Anonymous" else [args["this"]]
    distinct = False
    if len(values) == 1 and type(values[0]).__name__ == "Distinct":
        values, distinct = list(checked(values[0], "expressions")["expressions"]), True
    for value in values:
        kind = type(value).__name__
        if kind == "Order":
            raise refuse(f"ORDER BY inside {name}", value)
        if kind in ("IgnoreNulls", "RespectNulls"):
            raise refuse("IGNORE NULLS" if kind == "IgnoreNulls" else "RESPECT NULLS", value)
    star = name == "count" and (not values or (len(values) == 1 and type(values[0]).__name__ == "Star"))
    if star and values:
        checked(values[0])
    return ([] if star else values), distinct, star


def _aggregate(name: str, args: list[Expr], distinct: bool, star: bool, keep: Expr | None) -> Aggregate:
    entry = AGGREGATES[name]
    if star:
        if distinct:
            raise BindError("count(DISTINCT *) does not exist.", hint="Name the column to count.")
        return Aggregate(BIGINT, "count_star", (), False, keep)
    cast_args, result = aggregate_type(entry, name, args)
    if distinct and entry.canonical in ("min", "max", "bool_and", "bool_or", "any_value", "first"):
        distinct = False  # repeating a value changes none of these
    return Aggregate(result, entry.canonical, tuple(cast_args), distinct, keep)


# --- windows -------------------------------------------------------------------------------------------------------


def bind_window(env: Expressions, node: Any) -> Expr:
    """The column that a window call's result will be in."""
    args = checked(node, "this", "partition_by", "order", "spec", "alias", "over")
    if not env.windows:
        hint = "Use QUALIFY, or compute it in a subquery." if env.clause == "WHERE" else "Compute it in a subquery."
        raise BindError(f"{env.clause} can't contain window functions.", hint=hint)
    inside = env.inside("a window function")
    inside.aggregates = env.aggregates
    partition, order, spec = _window_parts(env, inside, node)
    function, condition = args["this"], None
    if type(function).__name__ == "Filter":
        parts = checked(function, "this", "expression")
        function, condition = parts["this"], inside.predicate(checked(parts["expression"], "this")["this"])
    name = _call_name(env, function)
    running = _frame(spec, bool(order), node)
    values, distinct, star = _arguments(function, name)
    if distinct:
        raise refuse(f"{name}(DISTINCT …) OVER", node)
    bound = [inside.bind(v) for v in values]
    window = _window_call(name, bound, star, condition, tuple(partition), tuple(order), running)
    slots = env.query.windows
    if window not in slots:
        slots[window] = env.binder.column(window.type, name)
    return slots[window]


def _window_call(
    name: str,
    args: list[Expr],
    star: bool,
    condition: Expr | None,
    partition: tuple[Expr, ...],
    order: tuple[SortKey, ...],
    running: bool,
) -> WindowCall:
    entry = AGGREGATES[name]
    kind = entry.canonical
    if not entry.window and kind not in _WINDOW_AGGREGATES:
        raise refuse(f"{name} OVER", None)
    if entry.window and condition is not None:
        raise BindError(f"FILTER does not go with {name}.")
    if kind in ("row_number", "rank", "dense_rank"):
        if args or star:
            raise no_overload(entry, name, args)
        return WindowCall(BIGINT, kind, (), partition, order, running)
    if kind in ("lag", "lead"):
        return _shifted(name, args, partition, order, running)
    if condition is not None:  # values of rows that are left out become NULL, which no aggregate counts
        if kind == "first":
            raise refuse("first(…) FILTER … OVER", None)
        value = settle(args[0]) if args else Literal(INTEGER, 1)
        args, star = [case([(condition, value)], Literal(value.type, None))], False
    if star:
        return WindowCall(BIGINT, "count_star", (), partition, order, running)
    bound, result = aggregate_type(entry, name, args)
    return WindowCall(result, "first_value" if kind == "first" else kind, tuple(bound), partition, order, running)


def _shifted(
    name: str, args: list[Expr], partition: tuple[Expr, ...], order: tuple[SortKey, ...], running: bool
) -> WindowCall:
    """lag and lead: value, offset, default."""
    entry = AGGREGATES[name]
    if not 1 <= len(args) <= 3:
        raise no_overload(entry, name, args)
    (value,), result = aggregate_type(entry, name, args[:1])
    offset = args[1] if len(args) > 1 else Literal(BIGINT, 1)
    if not offset.type.is_integer or not isinstance(require_constant(offset, f"The offset of {name}"), int):
        raise BindError(f"The offset of {name} must be an integer.")
    default = args[2] if len(args) > 2 else Literal(result, None)
    return WindowCall(
        result, entry.canonical, (value, cast(offset, BIGINT), cast(default, result)), partition, order, running
    )


def _window_parts(env: Expressions, inside: Expressions, node: Any) -> tuple[list[Expr], list[SortKey], Any]:
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
        partition, order, named_spec = _window_parts(env, inside, named)
        if spec is not None and named_spec is not None:
            raise at(BindError(f'Window "{name}" has a frame already.'), node)
        spec = spec or named_spec
    if args.get("partition_by"):
        partition = [settle(inside.bind(p)) for p in args["partition_by"]]
    if args.get("order"):
        order = [sort_key(inside.bind(o.this), o) for o in checked(args["order"], "expressions")["expressions"]]
    return partition, order, spec


def _frame(spec: Any, ordered: bool, node: Any) -> bool:
    """Whether the frame is the running one; the whole partition otherwise. Other frames are refused."""
    if spec is None:
        return ordered
    args = checked(spec, "kind", "start", "start_side", "end", "end_side")
    kind = str(args.get("kind") or "RANGE").upper()
    start, end = (str(args.get(k) or "CURRENT ROW").upper() for k in ("start", "end"))
    start_side, end_side = (str(args.get(k) or "").upper() for k in ("start_side", "end_side"))
    if start == "UNBOUNDED" and start_side == "PRECEDING":
        if end == "UNBOUNDED" and end_side == "FOLLOWING":
            return False
        if end == "CURRENT ROW" and kind in ("RANGE", "GROUPS"):
            return ordered
    hint = "There are the default frame and UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING."
    raise refuse(f"The frame {kind} {start} {start_side}".rstrip() + " …", node, hint)


def sort_key(e: Expr, node: Any) -> SortKey:
    """An ORDER BY term: NULLs last unless said otherwise, in both directions."""
    args = checked(node, "this", "desc", "nulls_first")
    e = cast(e, INTEGER) if is_null(e) else settle(e)
    return SortKey(e, bool(args.get("desc")), bool(args.get("nulls_first")))


# --- above GROUP BY ------------------------------------------------------------------------------------------------


class Regroup:
    """Rewrites expressions over the input of an Aggregate to expressions over its output."""

    def __init__(self, env: Expressions, groups: list[tuple[Column, Expr]], inputs: set[int]):
        self.env = env
        self.groups = {e: column for column, e in groups}
        self.plain = all(isinstance(e, Column) for e in self.groups)
        self.inputs = inputs

    def __call__(self, e: Expr) -> Expr:
        if isinstance(e, Column):
            column = self.groups.get(e)
            if column is not None:
                return column
            if e.id in self.inputs:
                raise self.missing(e)
            return e
        if isinstance(e, Literal):
            return e
        if not self.plain and e in self.groups:
            return self.groups[e]
        if isinstance(e, Subquery):
            for i in e.outer & self.inputs:
                if not any(isinstance(g, Column) and g.id == i for g in self.groups):
                    raise self.missing(Column(INTEGER, i))
        children = e.children
        if not children:
            return e
        new = tuple([self(c) for c in children])
        return e if all(a is b for a, b in zip(new, children)) else e.rebuild(new)

    def key(self, key: SortKey) -> SortKey:
        return SortKey(self(key.expr), key.descending, key.nulls_first)

    def window(self, w: WindowCall) -> WindowCall:
        return WindowCall(
            w.type,
            w.name,
            tuple(map(self, w.args)),
            tuple(map(self, w.partition)),
            tuple(map(self.key, w.order)),
            w.running,
        )

    def missing(self, column: Column) -> BindError:
        node = self.env.query.seen.get(column.id)
        name = column.name or (str(node.name) if node is not None else "?")
        return at(
            BindError(
                f'Column "{name}" is neither in GROUP BY nor inside an aggregate.',
                hint=f"Add {name} to GROUP BY, or take one value of each group with any_value({name}).",
            ),
            node,
        )
