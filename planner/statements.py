"""What the binder makes of one SQL statement."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple, Protocol

from finequery.operators.expr import Expr
from finequery.planner.logical import Node
from finequery.types import SqlType


class View(NamedTuple):
    """A stored query; bound anew wherever it is used."""

    name: str
    sql: str
    columns: tuple[str, ...] = ()


class Resolver(Protocol):
    """How the binder finds tables. Names are folded (case-insensitive) by the resolver."""

    def table(self, parts: tuple[str, ...]) -> Any | None:
        """The operators.table.Table or View called ``parts`` (catalog, schema, name; last part alone is usual), a
        variable of the caller's scope, or a file path in quotes; None where there is nothing."""

    def names(self) -> Iterable[str]:
        """All table and view names, for suggestions."""

    def function(self, name: str, args: list[Any], named: dict[str, Any]) -> Any | None:
        """The table that a table function (read_parquet, read_csv, …) stands for; None where it is unknown."""


class Query(NamedTuple):
    """SELECT and everything with its shape. ``names`` are the output names as the user sees them."""

    plan: Node
    names: tuple[str, ...]
    types: tuple[SqlType, ...]
    parameters: tuple[int | str, ...] = ()  # keys of the user's parameters, in order of appearance
    cacheable: bool = True  # false where a constant of this run is in the plan (current_date, now)


class Explain(NamedTuple):
    query: Any  # another statement
    analyze: bool = False


class CreateTable(NamedTuple):
    name: str
    columns: tuple[tuple[str, SqlType, bool], ...]  # name, type, NOT NULL
    if_not_exists: bool = False
    or_replace: bool = False


class CreateTableAs(NamedTuple):
    name: str
    query: Query
    if_not_exists: bool = False
    or_replace: bool = False


class Insert(NamedTuple):
    """``query`` yields exactly ``columns`` of the table, cast to their types already; others become NULL."""

    table: Any
    columns: tuple[str, ...]
    query: Query


class Replace(NamedTuple):
    """UPDATE, DELETE, TRUNCATE: ``query`` yields what the table holds afterwards; if ``flagged`` then with a BOOLEAN
    column behind the table's own that says which rows changed."""

    table: Any
    query: Query
    flagged: bool


class CreateView(NamedTuple):
    view: View
    if_not_exists: bool = False
    or_replace: bool = False


class Drop(NamedTuple):
    kind: str  # "table" or "view"
    names: tuple[str, ...]
    if_exists: bool = False


class Describe(NamedTuple):
    """DESCRIBE table, DESCRIBE query, SHOW table: one row per output column."""

    query: Query
    name: str | None = None


class ShowTables(NamedTuple):
    pass


class Copy(NamedTuple):
    """COPY query or table TO 'path'."""

    query: Query
    path: str
    format: str  # parquet, csv, json
    options: dict[str, Any]


class SetOption(NamedTuple):
    """SET name = value; RESET name has value None."""

    name: str
    value: Expr | str | None


class ShowSetting(NamedTuple):
    """SHOW name; SHOW SETTINGS has name None."""

    name: str | None


Statement = (
    Query
    | Explain
    | CreateTable
    | CreateTableAs
    | Insert
    | Replace
    | CreateView
    | Drop
    | Describe
    | ShowTables
    | Copy
    | SetOption
    | ShowSetting
)
