"""The tables and views of a database.

A table in the catalog never changes: an INSERT puts another table in its place. So a query that is running, or a plan
that is cached, keeps the rows it was made for, and whether a plan is still good is a question of identity.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from finequery.errors import CatalogError, nearest
from finequery.types import SqlType

if TYPE_CHECKING:
    from finequery.operators.column import ColumnData
    from finequery.operators.table import Table
    from finequery.planner.statements import View
    from finequery.storage import Storage


class Catalog:
    """Tables and views by name in any case. With a path they are kept on disk."""

    def __init__(self, path: str | None = None) -> None:
        self.lock = threading.RLock()
        self.name = "memory"
        self._entries: dict[str, Table | View] = {}
        self._not_null: dict[str, frozenset[str]] = {}
        self._files: dict[str, str] = {}  # column file of each stored table that is up to date
        self._deferred = 0
        self._dirty = False
        self._storage: Storage | None = None
        if path is not None:
            from finequery.storage import Storage

            self._storage = Storage(path)
            self.name = self._storage.path.stem
            try:
                self._open(self._storage)
            except BaseException:
                self._storage.close()
                raise

    def _open(self, storage: Storage) -> None:
        from finequery.operators.table import MemoryTable
        from finequery.planner.statements import View

        state = storage.read()
        for name, table in state["tables"].items():
            columns = tuple((column, SqlType(*type_)) for column, type_ in table["columns"])
            self._entries[name.lower()] = MemoryTable.restored(name, columns, storage.read_columns(table["file"]))
            self._not_null[name.lower()] = frozenset(table["not_null"])
            self._files[name.lower()] = table["file"]
        for name, view in state["views"].items():
            self._entries[name.lower()] = View(name, view["sql"], tuple(view["columns"]))

    def close(self) -> None:
        """Give the database on disk back; what was committed is there."""
        if self._storage is not None:
            self._storage.close()
            self._storage = None

    @property
    def path(self) -> str | None:
        """Where it is on disk; None for one in memory."""
        return None if self._storage is None else str(self._storage.path)

    def get(self, name: str) -> Table | View | None:
        return self._entries.get(name.lower())

    def names(self) -> list[str]:
        """Names of all tables and views, sorted."""
        return sorted(entry.name for entry in list(self._entries.values()))

    def not_null(self, name: str) -> frozenset[str]:
        """Columns of a table that were declared NOT NULL."""
        return self._not_null.get(name.lower(), frozenset())

    def create(
        self,
        entry: Table | View,
        *,
        or_replace: bool = False,
        if_not_exists: bool = False,
        not_null: frozenset[str] = frozenset(),
    ) -> None:
        """Add a table or view; a name that is taken is an error unless one of the flags says otherwise."""
        key = entry.name.lower()
        with self.lock:
            old = self._entries.get(key)
            if old is not None:
                if if_not_exists and _kind(old) == _kind(entry):
                    return
                if not or_replace or _kind(old) != _kind(entry):
                    raise CatalogError(f'There is a {_kind(old)} named "{old.name}" already')
            with self._changing():
                self._entries[key] = entry
                self._not_null[key] = not_null
                self._files.pop(key, None)

    def append(self, table: Table, columns: list[ColumnData]) -> None:
        """Put ``table`` with these rows added in its place. The columns are all of the table's, in its order."""
        from finequery.operators.table import MemoryTable

        assert isinstance(table, MemoryTable)
        longer = table.copy()
        longer.append(columns)
        self.replace(table, longer)

    def replace(self, table: Table, new: Table) -> None:
        """Put another table of the same columns in the place of ``table``."""
        key = table.name.lower()
        with self.lock:
            if self._entries.get(key) is not table:
                raise CatalogError(f'Table "{table.name}" was changed by another connection at the same time')
            with self._changing():
                self._entries[key] = new
                self._files.pop(key, None)

    def drop(self, kind: str, name: str, if_exists: bool = False) -> None:
        """Remove a table or view."""
        key = name.lower()
        with self.lock:
            entry = self._entries.get(key)
            if entry is None:
                if if_exists:
                    return
                raise CatalogError(f'There is no {kind} named "{name}"', hint=nearest(name, self.names()) or None)
            if _kind(entry) != kind:
                raise CatalogError(
                    f'"{name}" is a {_kind(entry)}, not a {kind}', hint=f"Use DROP {_kind(entry).upper()}."
                )
            with self._changing():
                del self._entries[key]
                self._not_null.pop(key, None)
                self._files.pop(key, None)

    @contextmanager
    def batch(self) -> Iterator[None]:
        """Changes inside reach the disk together at the end: all of them, or none if one fails."""
        with self.lock, self._changing(False):
            yield

    @contextmanager
    def _changing(self, change: bool = True) -> Iterator[None]:
        before = dict(self._entries), dict(self._not_null), dict(self._files)
        self._deferred += 1
        try:
            yield
            self._dirty |= change
            if self._deferred == 1 and self._dirty:
                self._commit()
        except BaseException:
            self._entries, self._not_null, self._files = before
            raise
        finally:
            self._deferred -= 1
            self._dirty &= self._deferred > 0

    def _commit(self) -> None:
        storage = self._storage
        if storage is None:
            return
        tables: dict[str, Any] = {}
        views: dict[str, Any] = {}
        for key, entry in self._entries.items():
            if _kind(entry) == "view":
                views[entry.name] = {"sql": entry.sql, "columns": list(entry.columns)}  # type: ignore[union-attr]
                continue
            table: Any = entry
            if key not in self._files:
                columns = table.load([name for name, _ in table.columns])
                self._files[key] = storage.write_columns(table.name, columns)
            tables[table.name] = {
                "file": self._files[key],
                "columns": [[name, [t.name, t.precision, t.scale]] for name, t in table.columns],
                "not_null": sorted(self._not_null[key]),
            }
        storage.write(tables, views)


def _kind(entry: object) -> str:
    return "view" if hasattr(entry, "sql") else "table"
