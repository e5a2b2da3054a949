"""What the statements other than queries do: tables, views, settings, COPY, EXPLAIN."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from finequery.errors import CatalogError, IntegrityError, NotSupportedError
from finequery.operators.expr import Literal
from finequery.planner import statements as sql
from finequery.relation import Relation
from finequery.settings import find, shown
from finequery.types import BIGINT, INTEGER, VARCHAR, SqlType

if TYPE_CHECKING:
    import pyarrow

    from finequery.operators.column import ColumnData, Frame
    from finequery.plan_cache import Plan
    from finequery.session import Session

Values = dict[int | str, Any]


def query_of(statement: sql.Statement) -> sql.Query | None:
    """The query inside a statement that has to be planned, if there is one."""
    if isinstance(statement, sql.Query):
        return statement
    if isinstance(statement, (sql.CreateTableAs, sql.Insert, sql.Replace, sql.Copy)):
        return statement.query
    if isinstance(statement, sql.Explain):
        return query_of(statement.query)
    return None


def run(session: Session, statement: sql.Statement, plan: Plan | None, values: Values) -> Relation:
    """Do what the statement says, at once."""
    command = _COMMANDS.get(type(statement))
    if command is None:
        raise NotSupportedError(f"{type(statement).__name__} statements are not supported")
    with session.lock:
        return command(session, statement, plan, values)


def _nothing(session: Session) -> Relation:
    return Relation.constant(session, (), (), ())


def _count(session: Session, rows: int) -> Relation:
    relation = Relation.constant(session, ("Count",), (BIGINT,), [(rows,)])
    relation.changed = rows
    return relation


def unique_names(names: Sequence[str]) -> list[str]:
    """Column names of a table: where one comes again, in any case, it gets a number.

    >>> unique_names(["a", "b", "A"])
    ['a', 'b', 'A_1']
    """
    taken: set[str] = set()
    out = []
    for name in names:
        unique, number = name, 0
        while unique.lower() in taken:
            number += 1
            unique = f"{name}_{number}"
        taken.add(unique.lower())
        out.append(unique)
    return out


def stored_columns(frame: Frame, ids: Sequence[int]) -> list[ColumnData]:
    """A result's columns as a table keeps them: a column of bare NULLs is INTEGER."""
    columns = [frame.columns[i] for i in ids]
    return [replace(c, type=INTEGER) if c.type.name == "NULL" else c for c in columns]


def _create_table(session: Session, statement: sql.CreateTable, plan: Plan | None, values: Values) -> Relation:
    from finequery.operators.table import MemoryTable

    columns = tuple((name, type_) for name, type_, _ in statement.columns)
    session.catalog.create(
        MemoryTable(statement.name, columns),
        or_replace=statement.or_replace,
        if_not_exists=statement.if_not_exists,
        not_null=frozenset(name for name, _, required in statement.columns if required),
    )
    return _nothing(session)


def _create_table_as(session: Session, statement: sql.CreateTableAs, plan: Plan | None, values: Values) -> Relation:
    from finequery.operators.table import MemoryTable

    assert plan is not None
    if statement.if_not_exists and session.catalog.get(statement.name) is not None:
        return _count(session, 0)
    frame = session.execute(plan, values)
    data = stored_columns(frame, [column.id for column in plan.logical.schema])
    names = unique_names(plan.query.names)
    types = [INTEGER if t.name == "NULL" else t for t in plan.query.types]
    table = MemoryTable(statement.name, tuple(zip(names, types)))
    table.append(data)
    session.catalog.create(table, or_replace=statement.or_replace, if_not_exists=statement.if_not_exists)
    return _count(session, frame.length)


def _insert(session: Session, statement: sql.Insert, plan: Plan | None, values: Values) -> Relation:
    from finequery.operators.concat import constant_column, null_count

    assert plan is not None
    catalog = session.catalog
    name = statement.table.name
    if plan.target is None or catalog.get(plan.target[0][0][-1]) is None:
        raise CatalogError(f'Can\'t insert into "{name}": it is not a table of the database')
    frame = session.execute(plan, values)
    given = dict(zip((n.lower() for n in statement.columns), plan.logical.schema))
    with catalog.lock:
        table = catalog.get(name)
        required = catalog.not_null(name)
        assert table is not None and not isinstance(table, sql.View)
        data: list[ColumnData] = []
        for column, type_ in table.columns:
            source = given.get(column.lower())
            part = constant_column(type_, None, frame.length) if source is None else frame.columns[source.id]
            if column in required and null_count(part):
                raise IntegrityError(f'Column "{column}" of table "{table.name}" is NOT NULL, and a row has NULL')
            data.append(part)
        if frame.length:
            catalog.append(table, data)
    return _count(session, frame.length)


def _replace(session: Session, statement: sql.Replace, plan: Plan | None, values: Values) -> Relation:
    """UPDATE, DELETE, TRUNCATE: another table in the place of the old one."""
    from finequery.operators.concat import null_count
    from finequery.operators.export import column_to_numpy
    from finequery.operators.table import MemoryTable

    assert plan is not None
    catalog = session.catalog
    old: Any = statement.table
    current: Any = catalog.get(old.name)
    if current is not old:
        raise CatalogError(f'Can\'t change "{old.name}": it is not a table of the database')
    frame = session.execute(plan, values)
    columns = stored_columns(frame, [column.id for column in plan.logical.schema])
    changed = old.rows - frame.length
    if statement.flagged:
        changed = int(column_to_numpy(columns.pop()).sum()) if frame.length else 0
    required = catalog.not_null(old.name)
    for column, (name, _) in zip(columns, old.columns):
        if name in required and null_count(column):
            raise IntegrityError(f'Column "{name}" of table "{old.name}" is NOT NULL, and a row has NULL')
    if changed:
        table = MemoryTable(old.name, old.columns)
        table.append(columns)
        catalog.replace(old, table)
    return _count(session, changed)


def _create_view(session: Session, statement: sql.CreateView, plan: Plan | None, values: Values) -> Relation:
    session.catalog.create(statement.view, or_replace=statement.or_replace, if_not_exists=statement.if_not_exists)
    return _nothing(session)


def _drop(session: Session, statement: sql.Drop, plan: Plan | None, values: Values) -> Relation:
    with session.catalog.batch():
        for name in statement.names:
            session.catalog.drop(statement.kind, name, statement.if_exists)
    return _nothing(session)


def _describe(session: Session, statement: sql.Describe, plan: Plan | None, values: Values) -> Relation:
    required = session.catalog.not_null(statement.name) if statement.name else frozenset()
    rows = [
        (name, str(INTEGER if type_.name == "NULL" else type_), "NO" if name in required else "YES", None, None, None)
        for name, type_ in zip(statement.query.names, statement.query.types)
    ]
    names = ("column_name", "column_type", "null", "key", "default", "extra")
    return Relation.constant(session, names, (VARCHAR,) * 6, rows)


def _show_tables(session: Session, statement: sql.ShowTables, plan: Plan | None, values: Values) -> Relation:
    names = sorted({*session.catalog.names(), *(name for name, _ in session.registered.values())})
    return Relation.constant(session, ("name",), (VARCHAR,), [(name,) for name in names])


def _set(session: Session, statement: sql.SetOption, plan: Plan | None, values: Values) -> Relation:
    value = statement.value
    if isinstance(value, Literal):
        value = value.value / 10**value.type.scale if value.type.name == "DECIMAL" else value.value
    elif value is not None and not isinstance(value, str):
        raise NotSupportedError(f"The value of setting {statement.name} must be a literal")
    session.settings.set(statement.name, value)
    session.plans.clear()
    return _nothing(session)


def _show_setting(session: Session, statement: sql.ShowSetting, plan: Plan | None, values: Values) -> Relation:
    if statement.name is None:
        names = ("name", "value", "type", "source", "description")
        return Relation.constant(session, names, (VARCHAR,) * 5, session.settings.rows())
    setting = find(statement.name)
    type_ = VARCHAR if setting.type == "VARCHAR" else SqlType(setting.type)
    value = session.settings[setting.name]
    return Relation.constant(session, (setting.name,), (type_,), [(shown(value) if type_ is VARCHAR else value,)])


def _explain(session: Session, statement: sql.Explain, plan: Plan | None, values: Values) -> Relation:
    if plan is None:
        raise NotSupportedError("EXPLAIN needs a query")
    kind = "analyzed_plan" if statement.analyze else "physical_plan"
    text = session.explain(plan, values, statement.analyze)
    return Relation.constant(session, ("explain_key", "explain_value"), (VARCHAR, VARCHAR), [(kind, text)])


def _arrow(session: Session, plan: Plan, values: Values) -> Generator[pyarrow.Table]:
    """The result, in several tables where what is read does not fit into memory."""
    from finequery.operators.export import frame_to_arrow

    ids = [column.id for column in plan.logical.schema]
    with closing(session.frames(plan, values)) as frames:
        for frame in frames:
            yield frame_to_arrow(frame, ids, plan.query.names)


def _copy(session: Session, statement: sql.Copy, plan: Plan | None, values: Values) -> Relation:
    from finequery.copy_to import write

    assert plan is not None
    types = [INTEGER if t.name == "NULL" else t for t in plan.query.types]
    # An error's traceback must not keep the query, which has the session's lock, from its end.
    with closing(_arrow(session, plan, values)) as tables:
        rows = write(tables, types, statement.path, statement.format, statement.options)
    return _count(session, rows)


_COMMANDS: dict[type, Callable[[Session, Any, Plan | None, Values], Relation]] = {
    sql.CreateTable: _create_table,
    sql.CreateTableAs: _create_table_as,
    sql.Insert: _insert,
    sql.Replace: _replace,
    sql.CreateView: _create_view,
    sql.Drop: _drop,
    sql.Describe: _describe,
    sql.ShowTables: _show_tables,
    sql.SetOption: _set,
    sql.ShowSetting: _show_setting,
    sql.Explain: _explain,
    sql.Copy: _copy,
}
