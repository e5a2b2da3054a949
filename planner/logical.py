"""The logical plan: small immutable nodes. Columns are named by query-wide ids (operators.expr.Column).

Invariants, checked by ``planner.check``: an expression reads only ids that its node's inputs produce; no id is produced
twice in one tree, except below a shared ``Materialize``; predicates are BOOLEAN; join keys have equal types on both
sides.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from finequery.operators.expr import Aggregate as AggregateCall
from finequery.operators.expr import Column, Expr, SortKey, WindowCall


@dataclass(frozen=True, slots=True)
class Subquery(Expr):
    """A subquery in an expression, as the binder leaves it; ``planner.rules.decorrelate`` removes every one.

    ``kind``: scalar (one output column), exists, in (``operand`` = ANY of the one output column, three-valued).
    NOT EXISTS and NOT IN are ``not`` around it. ``outer``: ids of columns of enclosing queries that ``plan`` reads
    (empty: uncorrelated). ``x = ANY (..)`` is in; other quantified comparisons are rewritten by the binder or refused.
    """

    kind: str
    plan: Node
    outer: frozenset[int] = frozenset()
    operand: Expr | None = None

    @property
    def children(self) -> tuple[Expr, ...]:
        return () if self.operand is None else (self.operand,)

    def rebuild(self, children: tuple[Expr, ...]) -> Expr:
        return Subquery(self.type, self.kind, self.plan, self.outer, children[0] if children else None)

    def __hash__(self) -> int:
        return hash((Subquery, self.kind, id(self.plan), self.operand))

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Subquery)
            and (other.kind, other.operand) == (self.kind, self.operand)
            and other.plan is self.plan
        )


@dataclass(frozen=True, eq=False)
class Node:
    """Base. Nodes compare by identity; ``schema`` is the output in order."""

    @property
    def inputs(self) -> tuple[Node, ...]:
        return ()

    @property
    def schema(self) -> tuple[Column, ...]:
        raise NotImplementedError

    @property
    def expressions(self) -> tuple[Expr, ...]:
        """The expressions that stand in the node itself."""
        return ()

    def with_inputs(self, inputs: tuple[Node, ...]) -> Node:
        """The same node over other inputs."""
        return self


@dataclass(frozen=True, eq=False)
class Scan(Node):
    """Read columns of a stored or external table. ``table`` is an operators.table.Table."""

    table: Any
    columns: tuple[tuple[Column, str], ...]  # (new id, name in the table)
    alias: str = ""

    @cached_property
    def schema(self) -> tuple[Column, ...]:
        return tuple([c for c, _ in self.columns])


@dataclass(frozen=True, eq=False)
class Values(Node):
    """Constant rows. ``Values((), ((),))`` is the one row without columns that SELECT without FROM reads."""

    columns: tuple[Column, ...]
    rows: tuple[tuple[Expr, ...], ...]

    @property
    def schema(self) -> tuple[Column, ...]:
        return self.columns

    @property
    def expressions(self) -> tuple[Expr, ...]:
        return tuple([e for row in self.rows for e in row])


@dataclass(frozen=True, eq=False)
class Filter(Node):
    """Rows for which the predicate is true (not NULL)."""

    input: Node
    predicate: Expr

    @property
    def inputs(self) -> tuple[Node, ...]:
        return (self.input,)

    @property
    def schema(self) -> tuple[Column, ...]:
        return self.input.schema

    @property
    def expressions(self) -> tuple[Expr, ...]:
        return (self.predicate,)

    def with_inputs(self, inputs: tuple[Node, ...]) -> Node:
        return Filter(inputs[0], self.predicate)


@dataclass(frozen=True, eq=False)
class Project(Node):
    """Compute columns. Output is exactly ``columns``; a pass-through has its own id as expression."""

    input: Node
    columns: tuple[tuple[Column, Expr], ...]

    @property
    def inputs(self) -> tuple[Node, ...]:
        return (self.input,)

    @cached_property
    def schema(self) -> tuple[Column, ...]:
        return tuple(c for c, _ in self.columns)

    @property
    def expressions(self) -> tuple[Expr, ...]:
        return tuple([e for _, e in self.columns])

    def with_inputs(self, inputs: tuple[Node, ...]) -> Node:
        return Project(inputs[0], self.columns)


@dataclass(frozen=True, eq=False)
class Join(Node):
    """Join of two inputs; the left is the probe side.

    ``kind``: inner, left, full, semi, anti, mark, single.
    ``keys``: pairs (left expression, right expression) that must be equal (NULL equals nothing).
    ``null_safe``: then NULL equals NULL in all keys (IS NOT DISTINCT FROM).
    ``condition``: what else must hold, over columns of both sides (part of the match, not a filter after it).
    ``null_aware``: for anti and mark from NOT IN / IN, one key, no condition: SQL's three-valued logic.
    Output: left + right columns for inner, left, full, single; left for semi, anti; left + ``mark`` for mark.
    ``mark`` joins never drop or multiply left rows; the BOOLEAN mark says whether a match exists (NULL: unknown, only
    if null_aware). ``single`` is a left join that raises DataError where a left row has two matches.
    """

    kind: str
    left: Node
    right: Node
    keys: tuple[tuple[Expr, Expr], ...] = ()
    condition: Expr | None = None
    null_safe: bool = False
    null_aware: bool = False
    mark: Column | None = None

    @property
    def inputs(self) -> tuple[Node, ...]:
        return (self.left, self.right)

    @cached_property
    def schema(self) -> tuple[Column, ...]:
        if self.kind in ("semi", "anti"):
            return self.left.schema
        if self.kind == "mark":
            assert self.mark is not None
            return self.left.schema + (self.mark,)
        return self.left.schema + self.right.schema

    @property
    def expressions(self) -> tuple[Expr, ...]:
        keys = [e for key in self.keys for e in key]
        return tuple(keys if self.condition is None else [*keys, self.condition])

    def with_inputs(self, inputs: tuple[Node, ...]) -> Node:
        return Join(
            self.kind, inputs[0], inputs[1], self.keys, self.condition, self.null_safe, self.null_aware, self.mark
        )


@dataclass(frozen=True, eq=False)
class Aggregate(Node):
    """GROUP BY. Without groups: exactly one row. Without aggregates: DISTINCT."""

    input: Node
    groups: tuple[tuple[Column, Expr], ...]
    aggregates: tuple[tuple[Column, AggregateCall], ...]

    @property
    def inputs(self) -> tuple[Node, ...]:
        return (self.input,)

    @cached_property
    def schema(self) -> tuple[Column, ...]:
        return tuple(c for c, _ in self.groups) + tuple(c for c, _ in self.aggregates)

    @property
    def expressions(self) -> tuple[Expr, ...]:
        found = [e for _, e in self.groups]
        for _, call in self.aggregates:
            found += call.args if call.filter is None else (*call.args, call.filter)
        return tuple(found)

    def with_inputs(self, inputs: tuple[Node, ...]) -> Node:
        return Aggregate(inputs[0], self.groups, self.aggregates)


@dataclass(frozen=True, eq=False)
class Window(Node):
    """Adds one column for each window call; rows and their order stay."""

    input: Node
    calls: tuple[tuple[Column, WindowCall], ...]

    @property
    def inputs(self) -> tuple[Node, ...]:
        return (self.input,)

    @cached_property
    def schema(self) -> tuple[Column, ...]:
        return self.input.schema + tuple(c for c, _ in self.calls)

    @property
    def expressions(self) -> tuple[Expr, ...]:
        found: list[Expr] = []
        for _, call in self.calls:
            found += [*call.args, *call.partition, *(key.expr for key in call.order)]
        return tuple(found)

    def with_inputs(self, inputs: tuple[Node, ...]) -> Node:
        return Window(inputs[0], self.calls)


@dataclass(frozen=True, eq=False)
class Sort(Node):
    """ORDER BY, stable. With ``limit`` (constant BIGINT expression or None) and ``offset`` it is a top-k."""

    input: Node
    keys: tuple[SortKey, ...]
    limit: Expr | None = None
    offset: Expr | None = None

    @property
    def inputs(self) -> tuple[Node, ...]:
        return (self.input,)

    @property
    def schema(self) -> tuple[Column, ...]:
        return self.input.schema

    @property
    def expressions(self) -> tuple[Expr, ...]:
        return (*(key.expr for key in self.keys), *(e for e in (self.limit, self.offset) if e is not None))

    def with_inputs(self, inputs: tuple[Node, ...]) -> Node:
        return Sort(inputs[0], self.keys, self.limit, self.offset)


@dataclass(frozen=True, eq=False)
class Limit(Node):
    """LIMIT / OFFSET without ORDER BY: in input order. Constant expressions; None is no bound."""

    input: Node
    limit: Expr | None
    offset: Expr | None

    @property
    def inputs(self) -> tuple[Node, ...]:
        return (self.input,)

    @property
    def schema(self) -> tuple[Column, ...]:
        return self.input.schema

    @property
    def expressions(self) -> tuple[Expr, ...]:
        return tuple([e for e in (self.limit, self.offset) if e is not None])

    def with_inputs(self, inputs: tuple[Node, ...]) -> Node:
        return Limit(inputs[0], self.limit, self.offset)


@dataclass(frozen=True, eq=False)
class Union(Node):
    """UNION ALL: inputs one after another, column by column; types are equal already (casts inserted)."""

    parts: tuple[Node, ...]
    columns: tuple[Column, ...]

    @property
    def inputs(self) -> tuple[Node, ...]:
        return self.parts

    @property
    def schema(self) -> tuple[Column, ...]:
        return self.columns

    def with_inputs(self, inputs: tuple[Node, ...]) -> Node:
        return Union(inputs, self.columns)


@dataclass(frozen=True, eq=False)
class Materialize(Node):
    """A subplan that runs once however often it is referred to: the same object stands in several places, each time
    below a Project that gives its columns ids of their own."""

    input: Node
    name: str = ""

    @property
    def inputs(self) -> tuple[Node, ...]:
        return (self.input,)

    @property
    def schema(self) -> tuple[Column, ...]:
        return self.input.schema

    def with_inputs(self, inputs: tuple[Node, ...]) -> Node:
        return Materialize(inputs[0], self.name)
