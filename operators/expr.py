"""Typed, bound expressions: what the binder makes of SQL, and what the operators compute.

Expressions are immutable and hash by value, so equal sub-expressions are one object to every table keyed by them.
Columns are named by an id that is unique in a query, never by a position: a rule may move an expression anywhere
where its columns are still produced.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from operator import is_
from typing import Any

from finequery.operators.trace import Trace, same
from finequery.types import BOOLEAN, SqlType


@dataclass(frozen=True, slots=True)
class Expr:
    """Base. Every expression knows its SQL type; all casts are explicit by the time an Expr exists."""

    type: SqlType

    @property
    def children(self) -> tuple[Expr, ...]:
        return ()

    def rebuild(self, children: tuple[Expr, ...]) -> Expr:
        """The same node over other children."""
        return self


@dataclass(frozen=True, slots=True)
class Column(Expr):
    """A column by its query-wide id. ``name`` is for people and takes no part in equality of plans."""

    id: int
    name: str = ""

    def __hash__(self) -> int:
        return hash((Column, self.id))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Column) and other.id == self.id


@dataclass(frozen=True, slots=True)
class Literal(Expr):
    """A constant in physical form (see finequery.types); ``None`` is NULL.

    A literal of a text that may come again with others has a place in that text's trace (``operators.trace``). Reading
    its ``value`` ties the plan to it; ``test`` and ``derived`` keep the plan open. ``held`` is the value for
    those whose choice changes no result: estimates and display.
    """

    held: Any
    origin: tuple[Trace, int] | None = None

    @property
    def value(self) -> Any:
        if self.origin is not None:
            self.origin[0].fix(self.origin[1], self.held)
        return self.held

    @property
    def is_null(self) -> bool:
        """Whether it is NULL: what is lifted never is."""
        return self.held is None

    def test(self, question: Callable[[Any], Any]) -> Any:
        """What ``question`` says of the value."""
        answer = question(self.held)
        if self.origin is not None:
            self.origin[0].test(question, (self.origin[1],), answer)
        return answer

    def retyped(self, type: SqlType) -> Literal:
        """The same value, no longer open, as a type with the same physical form."""
        return Literal(type, self.held, self.origin)

    def __hash__(self) -> int:
        return hash((Literal, self.type, self.held, type(self.held)))

    def __eq__(self, other: object) -> bool:
        # 0.0 and -0.0 and NaN must not be merged with each other, nor 1 with True.
        if not (
            isinstance(other, Literal)
            and self.type == other.type
            and type(self.held) is type(other.held)
            and repr(self.held) == repr(other.held)
        ):
            return False  # to keep apart what is equal for other literals is no mistake
        a, b = self.origin, other.origin
        if a is None and b is None:
            return True
        if a is None or b is None:
            self.value, other.value  # noqa: B018
        elif a[1] != b[1]:
            a[0].test(same, (a[1], b[1]), True)
        return True


def derived(type: SqlType, compute: Callable[..., Any], *literals: Literal) -> Literal | None:
    """The literal that ``compute`` makes of the values of others; None where it makes None of them."""
    value = compute(*[e.held for e in literals])
    origins = [e.origin for e in literals if e.origin is not None]
    if not origins:
        return None if value is None else Literal(type, value)
    trace = origins[0][0]
    if len(origins) < len(literals):  # mixed with constants
        fixed = [None if e.origin is not None else e.held for e in literals]
        lifted = [e.origin is not None for e in literals]
        inner = compute

        def compute(*values: Any) -> Any:
            rest = iter(values)
            return inner(*[next(rest) if open_ else held for open_, held in zip(lifted, fixed)])

    places = [place for _, place in origins]
    place = trace.step(compute, places)
    trace.test(_is_none, (place,), value is None)
    return None if value is None else Literal(type, value, (trace, place))


def _is_none(value: Any) -> bool:
    return value is None


@dataclass(frozen=True, slots=True)
class Parameter(Expr):
    """A value that is known when the plan runs: a user's parameter or a literal lifted out of the text.

    ``key`` is a 0-based int (positional, or a lifted literal) or a name.
    """

    key: int | str


@dataclass(frozen=True, slots=True)
class ScalarSubquery(Expr):
    """The one value of an uncorrelated subquery, computed before the pipeline that uses it.

    ``plan`` is a logical plan with one output column (opaque here). No row gives NULL; two raise ``DataError``.
    """

    plan: Any

    def __hash__(self) -> int:
        return hash((ScalarSubquery, id(self.plan)))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ScalarSubquery) and other.plan is self.plan


@dataclass(frozen=True, slots=True)
class Cast(Expr):
    """``CAST(child AS type)``; with ``safe`` TRY_CAST: NULL instead of an error."""

    child: Expr
    safe: bool = False

    @property
    def children(self) -> tuple[Expr, ...]:
        return (self.child,)

    def rebuild(self, children: tuple[Expr, ...]) -> Expr:
        return Cast(self.type, children[0], self.safe)


@dataclass(frozen=True, slots=True)
class Call(Expr):
    """A function or operator of the registry, by its canonical name (see ARCHITECTURE.md for the list)."""

    name: str
    args: tuple[Expr, ...]

    @property
    def children(self) -> tuple[Expr, ...]:
        return self.args

    def rebuild(self, children: tuple[Expr, ...]) -> Expr:
        return Call(self.type, self.name, children)


@dataclass(frozen=True, slots=True)
class Case(Expr):
    """Searched CASE. ``default`` is a NULL literal where ELSE is missing. A branch is only computed where it is taken:
    an error in it shows only for rows that reach it."""

    whens: tuple[tuple[Expr, Expr], ...]
    default: Expr

    @property
    def children(self) -> tuple[Expr, ...]:
        return tuple(e for when in self.whens for e in when) + (self.default,)

    def rebuild(self, children: tuple[Expr, ...]) -> Expr:
        pairs = tuple((children[i], children[i + 1]) for i in range(0, len(children) - 1, 2))
        return Case(self.type, pairs, children[-1])


@dataclass(frozen=True, slots=True)
class SortKey:
    """One ORDER BY term with its direction and its place for NULLs spelled out."""

    expr: Expr
    descending: bool
    nulls_first: bool


@dataclass(frozen=True, slots=True)
class Aggregate:
    """An aggregate call. Not an Expr: it stands only in Aggregate nodes.

    Names: count_star, count, sum, avg, min, max, stddev_samp, stddev_pop, var_samp, var_pop, bool_and, bool_or,
    any_value (the first non-NULL), first (of whatever value). ``filter`` keeps the rows where it is true.
    """

    type: SqlType
    name: str
    args: tuple[Expr, ...] = ()
    distinct: bool = False
    filter: Expr | None = None


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame that moves with the row. ``unit``: rows, range or groups. ``start`` and ``end``: how far from the current
    row, negative before it, 0 the row itself (for range and groups its peers too), None the partition's end. A
    distance of RANGE is in the physical form of the one order key, or an Interval."""

    unit: str
    start: Any
    end: Any


@dataclass(frozen=True, slots=True)
class WindowCall:
    """A window function over ``partition`` ordered by ``order``.

    Names: row_number, rank, dense_rank, percent_rank, cume_dist, ntile, lag, lead (args: value, offset, default),
    first_value, last_value, nth_value (args: value, number), string_agg (args: value, separator; the whole partition),
    and the aggregates sum, avg, count, count_star, min, max. ``running`` is the default frame with ORDER BY (RANGE
    UNBOUNDED PRECEDING to CURRENT ROW, peers included); otherwise the whole partition, unless there is a ``frame``.
    """

    type: SqlType
    name: str
    args: tuple[Expr, ...]
    partition: tuple[Expr, ...]
    order: tuple[SortKey, ...]
    running: bool
    frame: Frame | None = None
    ignore_nulls: bool = False


def walk(expr: Expr) -> Iterator[Expr]:
    """The expression and all below it, parents first."""
    stack = [expr]
    while stack:
        e = stack.pop()
        yield e
        stack.extend(e.children[::-1])


def columns_of(expr: Expr) -> set[int]:
    """Ids of the columns an expression reads."""
    found: set[int] = set()
    stack = [expr]
    while stack:
        e = stack.pop()
        if type(e) is Column:
            found.add(e.id)
        else:
            stack.extend(e.children)
    return found


def same_objects(a: Sequence[Any], b: Sequence[Any]) -> bool:
    """Whether two sequences of one length hold the very same objects: of a tree, whether nothing was changed."""
    return all(map(is_, a, b))


def transform(expr: Expr, change: Callable[[Expr], Expr | None]) -> Expr:
    """Rebuild bottom-up; ``change`` returns a replacement or None to keep the node."""
    children = expr.children
    if children:
        new = tuple([transform(c, change) for c in children])
        if not same_objects(new, children):
            expr = expr.rebuild(new)
    replacement = change(expr)
    return expr if replacement is None else replacement


def substitute(expr: Expr, mapping: dict[int, Expr]) -> Expr:
    """Replace columns by the expressions ``mapping`` gives for their ids."""
    return transform(expr, lambda e: mapping.get(e.id) if isinstance(e, Column) else None)


def is_constant(expr: Expr) -> bool:
    """Whether no column is read: the value is the same for every row of a run."""
    return not any(isinstance(e, Column) or (isinstance(e, Call) and e.name in VOLATILE) for e in walk(expr))


#: Functions that give another value for each row.
VOLATILE = frozenset({"random"})


def conjuncts(predicate: Expr | None) -> list[Expr]:
    """The terms of a predicate that are ANDed together."""
    if predicate is None:
        return []
    if isinstance(predicate, Call) and predicate.name == "and":
        return [term for arg in predicate.args for term in conjuncts(arg)]
    return [predicate]


def conjunction(terms: list[Expr]) -> Expr | None:
    """AND of the terms; None where there are none."""
    if not terms:
        return None
    return terms[0] if len(terms) == 1 else Call(BOOLEAN, "and", tuple(terms))
