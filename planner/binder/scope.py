"""What names mean at a place in a query: relations, their columns, the enclosing queries, CTEs."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from finequery import errors
from finequery.operators.expr import Column, Expr, Parameter, columns_of
from finequery.planner.coercion import NULL_LITERAL
from finequery.planner.logical import Node
from finequery.types import NULL, SqlType

if TYPE_CHECKING:
    from finequery.operators.trace import Trace
    from finequery.planner.binder.expressions import Expressions
    from finequery.planner.shape import Lifting
    from finequery.planner.statements import Resolver

_E = TypeVar("_E", bound=errors.Error)


def position(node: Any) -> int | None:
    """Where a node of the syntax tree begins in the SQL text: its first token that has a place."""
    while node is not None:
        starts = [n.meta["start"] for n in node.walk() if "start" in n.meta]
        if starts:
            return int(min(starts))
        node = node.parent
    return None


def checked(node: Any, *known: str) -> dict[str, Any]:
    """The arguments of a node; one that is set and not among ``known`` is refused. Every node goes through here."""
    args: dict[str, Any] = node.args
    for key, value in args.items():
        if value and key not in known:
            unsupported(node, value, key)
    return args


def text_of(node: Any) -> str:
    """The text of a leaf: a name, a keyword, a literal; of a column that is nothing but a name."""
    if type(node).__name__ == "Column":
        node = checked(node, "this")["this"]
    return str(checked(node, "this", "quoted", "is_string")["this"])


def items_of(node: Any) -> list[Any]:
    """The members of a row; another expression is a row of one."""
    return list(checked(node, "expressions").get("expressions") or []) if type(node).__name__ == "Tuple" else [node]


def unsupported(node: Any, value: Any, key: str) -> NoReturn:
    """Refuse an argument that nobody asked for, by its name and at its place."""
    inner = value[0] if isinstance(value, list) else value
    place = inner if hasattr(inner, "walk") else node
    if type(inner).__name__ == "Properties":
        inner = inner.expressions[0]
        raise refuse(f"{title(inner).removesuffix('PROPERTY')} in {title(node)}", node)
    word = {"locks": "FOR UPDATE", "pivots": "PIVOT", "limit_options": "A percentage", "conflict": "ON CONFLICT"}.get(
        key
    )
    raise refuse(f"{word or key.strip('_').replace('_', ' ').upper()} in {title(node)}", place)


_TITLES = {
    "BitwiseXor": "xor",
    "Star": "*",
    "WindowSpec": "a frame",
    "Bracket": "[…]",
    "Array": "A list",
    "Struct": "A struct",
    "JSONExtract": "->",
    "Tuple": "A row of several values",
    "Pivot": "PIVOT or UNPIVOT",
    "TableSample": "TABLESAMPLE",
    "PrimaryKeyColumnConstraint": "PRIMARY KEY",
}


def title(node: Any) -> str:
    """The SQL name of a kind of node."""
    kind = type(node).__name__
    if kind in _TITLES:
        return _TITLES[kind]
    return str(getattr(node, "sql_name", lambda: kind)()).replace("_", " ").upper()


def refuse(what: str, node: Any, hint: str | None = None) -> errors.NotSupportedError:
    """The error for SQL that is not supported."""
    error = errors.NotSupportedError(f"{what} is not supported.", hint=hint)
    error.node = node  # type: ignore[attr-defined]
    return error


def at(error: _E, node: Any) -> _E:
    """``error`` with its place, unless it has one."""
    if not hasattr(error, "node"):
        error.node = node  # type: ignore[attr-defined]
    return error


@dataclass(slots=True)
class BoundQuery:
    """A bound query expression. ``exprs`` are the output columns, or NULL literals where a column is nothing else."""

    plan: Node
    names: list[str]
    exprs: list[Expr]
    outer: set[int] = field(default_factory=set)

    @property
    def types(self) -> list[SqlType]:
        return [e.type for e in self.exprs]


def output_exprs(columns: Iterable[Column], types: Iterable[SqlType]) -> list[Expr]:
    """Columns, with the ones of open type replaced by NULL."""
    return [NULL_LITERAL if t == NULL else c for c, t in zip(columns, types)]


class Relation:
    """One item of FROM under the name it has in the query."""

    def __init__(self, name: str, columns: Sequence[tuple[str, Expr]], path: tuple[str, ...] = ()):
        self.name = name
        self.path = path  # the whole name of a table, folded, for references such as main.t.a
        self.columns = unique_names(columns)

    @cached_property
    def fields(self) -> dict[str, Expr]:
        """Its columns by name, folded."""
        return {n.lower(): e for n, e in self.columns}


def unique_names(columns: Sequence[tuple[str, Expr]]) -> list[tuple[str, Expr]]:
    """Columns of a derived table: a name that comes again gets a number, as in a, a_1."""
    if len({name.lower() for name, _ in columns}) == len(columns):
        return list(columns)
    seen: dict[str, int] = {}
    result = []
    for name, e in columns:
        lower = name.lower()
        if lower in seen:
            while f"{lower}_{seen[lower]}" in seen:
                seen[lower] += 1
            name = f"{name}_{seen[lower]}"
            seen[lower] += 1
            lower = name.lower()
        seen[lower] = 1
        result.append((name, e))
    return result


class Scope:
    """The relations that are visible together, and what a bare column name means among them."""

    def __init__(self, relations: Sequence[Relation] = ()):
        self.relations = list(relations)
        #: What * stands for.
        self.star: list[tuple[Relation, str, Expr]] = [(r, name, e) for r in self.relations for name, e in r.columns]

    @cached_property
    def bare(self) -> dict[str, list[tuple[Relation, Expr]]]:
        """By name, folded: the columns that it may mean."""
        found: dict[str, list[tuple[Relation, Expr]]] = {}
        for relation, name, e in self.star:
            found.setdefault(name.lower(), []).append((relation, e))
        return found

    @staticmethod
    def joined(left: Scope, right: Scope) -> Scope:
        """Both sides' names; a table name that comes twice is an error when it is used."""
        both = Scope()
        both.relations = left.relations + right.relations
        both.star = left.star + right.star
        return both

    def merge(self, name: str, e: Expr) -> None:
        """Make ``name`` one column: what USING does to the two it compares."""
        lower = name.lower()
        self.bare[lower] = [(self.bare[lower][0][0], e)]
        star, seen = [], False
        for relation, other, old in self.star:
            if other.lower() != lower:
                star.append((relation, other, old))
            elif not seen:
                seen = True
                star.append((relation, other, e))
        self.star = star

    def stored_name(self, node: Any) -> str:
        """A column reference's name as its table spells it."""
        name, lower = str(node.name), str(node.name).lower()
        if node.args.get("table"):
            relations = self.relation([str(node.args["table"].name)])
        else:
            relations = [relation for relation, _ in self.bare.get(lower, ())]
        return next((n for r in relations[:1] for n, _ in r.columns if n.lower() == lower), name)

    def relation(self, parts: Sequence[str]) -> list[Relation]:
        """Relations that a qualifier names."""
        lower = [p.lower() for p in parts]
        if len(lower) == 1:
            return [r for r in self.relations if r.name.lower() == lower[0]]
        return [r for r in self.relations if r.path[-len(lower) :] == tuple(lower)]


@dataclass(slots=True)
class Cte:
    """One WITH query: its tree and what it sees; ``shared`` once it is bound for several references."""

    name: str
    tree: Any
    columns: list[str]
    ctes: dict[str, Cte]
    enclosing: Expressions | None
    uses: int
    materialize: bool
    shared: BoundQuery | None = None


class Binder:
    """What is common to the binding of one statement: ids, parameters, where tables come from."""

    def __init__(
        self,
        sql: str,
        resolver: Resolver,
        parameters: Mapping[int | str, SqlType] | None,
        lifting: Lifting | None = None,
    ):
        self.sql = sql
        self.resolver = resolver
        self.parameters = parameters
        self.lifting = lifting
        self.used: dict[int | str, None] = {}
        self.cacheable = True
        self.views: tuple[str, ...] = ()
        self.insert_types: list[SqlType] | None = None  # of the columns that the next VALUES is inserted into
        self._ids = 0

    @cached_property
    def moment(self) -> int:
        """The time of the statement, in microseconds since 1970 in UTC. A plan with it must not be kept."""
        self.cacheable = False
        return time.time_ns() // 1000

    def column(self, t: SqlType, name: str = "") -> Column:
        """A column with an id of its own."""
        self._ids += 1
        return Column(t, self._ids, name)

    def origin(self, node: Any) -> tuple[Trace, int] | None:
        """Where a literal comes from, if texts with others in its place may share the plan."""
        return None if self.lifting is None or self.views else self.lifting.origin(node)

    def named_by(self, node: Any) -> None:
        """Note that a column's name is the text of ``node``."""
        if self.lifting is not None and not self.views:
            self.lifting.name(node)

    def keys(self) -> tuple[int | str, ...]:
        """Keys of the parameters used: numbers in order, names as they were met."""
        return tuple(sorted(self.used) if all(isinstance(k, int) for k in self.used) else self.used)  # type: ignore[type-var]

    def parameter(self, name: str, node: Any) -> Expr:
        """A parameter by its name or its number from 1."""
        key: int | str = int(name) - 1 if name.isdigit() else name
        if any(isinstance(k, str) != isinstance(key, str) for k in self.used):
            raise at(errors.BindError("Parameters are either all named or all numbered."), node)
        shown = f"${key + 1}" if isinstance(key, int) else f"${key}"
        if self.parameters is None or key not in self.parameters:
            hint = f"Pass a value for {shown}."
            if self.parameters:
                hint += " " + errors.nearest(str(key), [str(k) for k in self.parameters])
            raise at(errors.BindError(f"Parameter {shown} has no value.", hint=hint.strip()), node)
        self.used[key] = None
        t = self.parameters[key]
        return NULL_LITERAL if t == NULL else Parameter(t, key)


def find_column(env: Expressions, parts: list[str], node: Any) -> Expr | None:
    """The column called ``parts`` (qualifiers, name) here or in an enclosing query; None where there is none.

    An enclosing query's column is noted in every query between: that is what makes a subquery correlated.
    """
    crossed: list[Any] = []
    current: Expressions | None = env
    while current is not None:
        found = _find_in(current.scope, parts, node)
        if found is not None:
            if crossed:
                ids = columns_of(found)
                for level in crossed:
                    level.outer |= ids
            else:
                env.note(found, node)
            return found
        crossed.append(current.query)
        current = current.query.enclosing
    return None


def _find_in(scope: Scope, parts: list[str], node: Any) -> Expr | None:
    name = parts[-1].lower()
    if len(parts) == 1:
        found = scope.bare.get(name)
        if not found:
            return None
        if len(found) > 1:
            choices = " or ".join(f"{relation.name}.{parts[-1]}" for relation, _ in found)
            raise at(errors.BindError(f'Column "{parts[-1]}" is ambiguous.', hint=f"Write {choices}."), node)
        return found[0][1]
    relations = scope.relation(parts[:-1])
    if len(relations) > 1:
        raise at(duplicate(parts[-2]), node)
    if not relations:
        return None
    relation = relations[0]
    if name not in relation.fields:
        hint = errors.nearest(parts[-1], [n for n, _ in relation.columns])
        raise at(errors.BindError(f'Table "{relation.name}" has no column "{parts[-1]}".', hint=hint or None), node)
    return relation.fields[name]


def duplicate(name: str) -> errors.BindError:
    return errors.BindError(
        f'The name "{name}" stands for several tables.', hint="Give each its own alias, as in FROM t AS a, t AS b."
    )


def unknown_column(env: Expressions, parts: list[str], node: Any, extra: Iterable[str] = ()) -> errors.Error:
    """The error for a column that is nowhere, with the names most like it."""
    names, tables = list(extra), []
    current: Expressions | None = env
    while current is not None:
        for relation in current.scope.relations:
            tables.append(relation.name)
            names.extend(n for n, _ in relation.columns)
        current = current.query.enclosing
    if len(parts) > 1:
        hint = errors.nearest(parts[-2], tables) or (
            f"FROM has {', '.join(tables)}." if tables else "There is no FROM."
        )
        return at(errors.BindError(f'There is no table "{".".join(parts[:-1])}" in FROM.', hint=hint), node)
    if parts[0].lower() in (t.lower() for t in tables):
        return refuse(f'The whole row "{parts[0]}" as a value', node, f"Write {parts[0]}.* for all columns.")
    hint = errors.nearest(parts[0], names)
    if not tables:
        hint = (hint + " There is no FROM.").strip()
    return at(errors.BindError(f'Column "{parts[0]}" does not exist.', hint=hint or None), node)
