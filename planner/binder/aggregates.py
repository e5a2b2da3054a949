"""Aggregate calls, and the rewriting of expressions above a GROUP BY."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from finequery.errors import BindError, CatalogError, nearest
from finequery.operators.expr import Aggregate, Case, Column, Expr, Literal, SortKey, WindowCall, columns_of, walk
from finequery.planner.binder.ordered import BY_ORDER, ORDERED, OrderedCall, ordered_call
from finequery.planner.binder.scope import at, checked, refuse
from finequery.planner.coercion import call, cast, is_null, settle
from finequery.planner.function_rules import no_overload
from finequery.planner.functions import AGGREGATES, FUNCTIONS, INSTEAD, UNSUPPORTED, aggregate_type
from finequery.planner.logical import Subquery
from finequery.planner.operations import boolean
from finequery.types import BIGINT, BOOLEAN, DOUBLE, HUGEINT, INTEGER, UINTEGER

if TYPE_CHECKING:
    from finequery.planner.binder.expressions import Expressions


def bind_aggregate(
    env: Expressions, node: Any, name: str | None, condition: Any = None, within: Sequence[Any] = ()
) -> Expr:
    """The column that an aggregate call's result will be in; the call itself is noted in the query. ``within``: the
    terms of WITHIN GROUP (ORDER BY …)."""
    name = name or call_name(env, node)
    entry = AGGREGATES[name]
    if entry.window:
        raise BindError(f"{name} needs OVER (…).")
    if env.clause in ("an aggregate", "FILTER"):
        raise BindError("Aggregates can't be nested.", hint="Compute the inner one in a subquery.")
    if not env.aggregates:
        remedy = "HAVING" if env.clause == "WHERE" else "a subquery"
        raise BindError(f"{env.clause} can't contain aggregates.", hint=f"Use {remedy} to work with {name}.")
    args, distinct, star, terms = arguments(node, name)
    if args and type(args[0]).__name__ in ("IgnoreNulls", "RespectNulls"):
        raise refuse("IGNORE NULLS" if type(args[0]).__name__ == "IgnoreNulls" else "RESPECT NULLS", args[0])
    inside = env.inside("an aggregate")
    bound = [inside.bind(a) for a in args]
    order = [sort_key(inside.bind(o.this), o) for o in [*terms, *within]]
    if within and entry.canonical in ("mode", "quantile_cont", "quantile_disc"):
        bound.insert(0, order[0].expr)
    if bound and not any(isinstance(e, Literal) for e in bound):
        ids = set().union(*(columns_of(e) for e in bound))
        if ids and ids <= env.query.outer and not any(isinstance(x, Subquery) for e in bound for x in walk(e)):
            raise refuse(f"{name} over columns of an enclosing query alone", node)
    keep = env.inside("FILTER").predicate(condition) if condition is not None else None
    kind = entry.canonical
    if kind in _COMOMENTS:
        return _of_pairs(env, name, bound, distinct, keep)
    if kind in ORDERED or (order and kind in BY_ORDER):
        return _slot(env, ordered_call(entry, name, bound, distinct, keep, order), name)
    if kind == "count_if":
        (truth,), _ = aggregate_type(entry, name, bound)
        return _count_if(env, truth, distinct, keep)
    return _slot(env, _aggregate(name, bound, distinct, star, keep), name)


def _slot(env: Expressions, aggregate: Aggregate | OrderedCall, name: str) -> Column:
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


#: Aggregates of pairs of numbers that are computed from sums of products of deviations.
_COMOMENTS = frozenset(("corr", "covar_pop", "covar_samp", "regr_slope", "regr_count"))


def _of_pairs(env: Expressions, name: str, args: list[Expr], distinct: bool, keep: Expr | None) -> Expr:
    entry = AGGREGATES[name]
    if len(args) != 2 or not all(a.type.is_numeric or is_null(a) for a in args):
        raise no_overload(entry, name, args)
    if distinct:
        raise refuse(f"{name}(DISTINCT …)", None)
    y, x = (cast(a, DOUBLE) for a in args)
    known = [call(BOOLEAN, "not", call(BOOLEAN, "is_null", e)) for e in (x, y)]
    both = call(BOOLEAN, "and", *known, *([] if keep is None else [keep]))
    count = _slot(env, Aggregate(BIGINT, "count_star", (), False, both), "count")
    if name == "regr_count":
        return cast(count, UINTEGER)

    def moment(a: Expr, b: Expr) -> Expr:
        # the condition makes both sides NULL together, also where a and b are one column
        pair = tuple(Case(DOUBLE, ((both, e),), Literal(DOUBLE, None)) for e in (a, b))
        return _slot(env, OrderedCall(DOUBLE, "comoment", pair, False, None, ()), "comoment")

    if name == "corr":
        return call(DOUBLE, "div", moment(x, y), call(DOUBLE, "sqrt", call(DOUBLE, "mul", moment(x, x), moment(y, y))))
    if name == "regr_slope":
        return call(DOUBLE, "div", moment(x, y), moment(x, x))
    if name == "covar_pop":
        return call(DOUBLE, "div", moment(x, y), cast(count, DOUBLE))
    several = call(BOOLEAN, "gt", count, Literal(BIGINT, 1))
    rest = call(DOUBLE, "sub", cast(count, DOUBLE), Literal(DOUBLE, 1.0))
    return Case(DOUBLE, ((several, call(DOUBLE, "div", moment(x, y), rest)),), Literal(DOUBLE, None))


def call_name(env: Expressions, node: Any) -> str:
    kind = type(node).__name__
    name = str(node.name).lower() if kind == "Anonymous" else ""
    if name not in AGGREGATES:
        if kind in ("IgnoreNulls", "RespectNulls"):
            raise refuse(
                "IGNORE NULLS" if kind == "IgnoreNulls" else "RESPECT NULLS",
                node,
                "Write it inside, as in f(x IGNORE NULLS).",
            )
        if name in FUNCTIONS or not name:
            raise at(BindError(f"{name or kind} is not an aggregate.", hint="FILTER and OVER follow aggregates."), node)
        if name in UNSUPPORTED:
            raise refuse(f"The function {name}", node, INSTEAD.get(name))
        raise at(CatalogError(f'There is no aggregate "{node.name}".', hint=nearest(name, AGGREGATES) or None), node)
    return name


def arguments(node: Any, name: str) -> tuple[list[Any], bool, bool, list[Any]]:
    """(arguments, DISTINCT, whether it is count(*), the terms of an ORDER BY inside)."""
    values = list(checked(node, "this", "expressions").get("expressions") or [])
    distinct, terms = False, []
    if values and type(values[-1]).__name__ == "Order":
        parts = checked(values[-1], "this", "expressions")
        values[-1], terms = parts["this"], parts["expressions"]
    if len(values) == 1 and type(values[0]).__name__ == "Distinct":
        values, distinct = list(checked(values[0], "expressions")["expressions"]), True
    star = name == "count" and (not values or (len(values) == 1 and type(values[0]).__name__ == "Star"))
    if star and values:
        checked(values[0])
    return ([] if star else values), distinct, star, terms


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
            w.frame,
            w.ignore_nulls,
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
