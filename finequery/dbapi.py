"""PEP 249: ``finequery.dbapi.connect``, for tools that speak Python's database API.

Parameters are ``?`` with a sequence or ``$name`` with a mapping. Every statement is its own transaction, so ``commit``
has nothing to do and ``rollback`` is refused. Arrow methods of a cursor are named as in ADBC.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from finequery import connection as native
from finequery.errors import (
    DatabaseError,
    DataError,
    Error,
    IntegrityError,
    InterfaceError,
    InternalError,
    NotSupportedError,
    OperationalError,
    ProgrammingError,
    Warning,
)
from finequery.relation import Relation
from finequery.types import SqlType

if TYPE_CHECKING:
    import pyarrow

__all__ = [
    "BINARY",
    "Binary",
    "Connection",
    "Cursor",
    "DATETIME",
    "DataError",
    "DatabaseError",
    "Date",
    "DateFromTicks",
    "Error",
    "IntegrityError",
    "InterfaceError",
    "InternalError",
    "NUMBER",
    "NotSupportedError",
    "OperationalError",
    "ProgrammingError",
    "ROWID",
    "STRING",
    "Time",
    "TimeFromTicks",
    "Timestamp",
    "TimestampFromTicks",
    "Warning",
    "apilevel",
    "connect",
    "paramstyle",
    "threadsafety",
]

apilevel = "2.0"
threadsafety = 1
paramstyle = "qmark"

Date = datetime.date
Time = datetime.time
Timestamp = datetime.datetime
Binary = bytes
DateFromTicks = datetime.date.fromtimestamp
TimestampFromTicks = datetime.datetime.fromtimestamp


def TimeFromTicks(ticks: float) -> datetime.time:
    """The time of day of a Unix time."""
    return datetime.datetime.fromtimestamp(ticks).time()


class _TypeGroup:
    """Equal to every SQL type of a group, as PEP 249 wants its type objects."""

    def __init__(self, *names: str) -> None:
        self._names = frozenset(names)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, SqlType):
            return other.name in self._names
        return isinstance(other, _TypeGroup) and other._names == self._names

    def __hash__(self) -> int:
        return hash(self._names)


STRING = _TypeGroup("VARCHAR")
BINARY = _TypeGroup()
NUMBER = _TypeGroup(
    "TINYINT",
    "SMALLINT",
    "INTEGER",
    "BIGINT",
    "HUGEINT",
    "UTINYINT",
    "USMALLINT",
    "UINTEGER",
    "UBIGINT",
    "DECIMAL",
    "FLOAT",
    "DOUBLE",
    "BOOLEAN",
)
DATETIME = _TypeGroup("DATE", "TIMESTAMP", "TIMESTAMP WITH TIME ZONE")
ROWID = _TypeGroup("ROWID")


def connect(database: str = ":memory:", **settings: Any) -> Connection:
    """Open a database (see ``finequery.connect``)."""
    return Connection(native.connect(database, **settings))


class Connection:
    """A PEP 249 connection. Its cursors are handles of their own on the same database."""

    Warning = Warning
    Error = Error
    InterfaceError = InterfaceError
    DatabaseError = DatabaseError
    DataError = DataError
    OperationalError = OperationalError
    IntegrityError = IntegrityError
    InternalError = InternalError
    ProgrammingError = ProgrammingError
    NotSupportedError = NotSupportedError

    def __init__(self, connection: native.Connection) -> None:
        self._connection = connection
        self._cursors: list[Cursor] = []

    def cursor(self) -> Cursor:
        """A new cursor."""
        cursor = Cursor(self, self._connection.cursor())
        self._cursors = [c for c in self._cursors if not c.closed]
        self._cursors.append(cursor)
        return cursor

    def commit(self) -> None:
        """Every statement is committed already."""
        self._connection._check_open()

    def rollback(self) -> None:
        """Refused: there is nothing that could be undone."""
        self._connection._check_open()
        raise NotSupportedError("FineQuery commits every statement; there is nothing to roll back")

    def close(self) -> None:
        """Close the connection and its cursors."""
        for cursor in self._cursors:
            cursor.close()
        self._connection.close()

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Cursor:
    """A PEP 249 cursor."""

    def __init__(self, connection: Connection, handle: native.Connection) -> None:
        self.connection = connection
        self.arraysize = 1
        self.closed = False
        self._handle = handle
        self._relation: Relation | None = None
        self._changed = -1

    @property
    def description(self) -> list[tuple[Any, ...]] | None:
        """Name and type of every column; None where the statement gave no rows."""
        return None if self._relation is None else self._relation.description

    @property
    def rowcount(self) -> int:
        """Rows of the result, or rows that were changed; -1 where nothing was run."""
        return self._changed

    def execute(self, operation: str, parameters: Sequence[Any] | Mapping[str, Any] | None = None) -> Cursor:
        """Run one or more statements."""
        self._check_open()
        self._relation, self._changed = None, -1
        relation = self._handle.execute(operation, parameters)
        if relation.changed is not None:
            self._changed = relation.changed
        elif relation.columns:
            self._relation, self._changed = relation, len(relation)
        return self

    def executemany(self, operation: str, seq_of_parameters: Iterable[Sequence[Any] | Mapping[str, Any]]) -> Cursor:
        """Run a statement once for each set of parameters, all or none."""
        self._check_open()
        self._relation, self._changed = None, -1
        self._changed = self._handle.executemany(operation, seq_of_parameters)
        return self

    def fetchone(self) -> tuple[Any, ...] | None:
        """The next row, None after the last."""
        return self._rows().fetchone()

    def fetchmany(self, size: int | None = None) -> list[tuple[Any, ...]]:
        """The next ``size`` rows (``arraysize`` by default), fewer at the end."""
        return self._rows().fetchmany(self.arraysize if size is None else size)

    def fetchall(self) -> list[tuple[Any, ...]]:
        """The rows that are left."""
        return self._rows().fetchall()

    def fetch_arrow_table(self) -> pyarrow.Table:
        """All rows as a pyarrow Table."""
        return self._rows().arrow()

    def fetch_record_batch(self) -> pyarrow.RecordBatchReader:
        """All rows as a pyarrow RecordBatchReader."""
        return self._rows().record_batches()

    def fetch_df(self) -> Any:
        """All rows as a pandas DataFrame."""
        return self._rows().df()

    def setinputsizes(self, sizes: Sequence[Any]) -> None:
        """Does nothing, as PEP 249 allows."""

    def setoutputsize(self, size: int, column: int | None = None) -> None:
        """Does nothing, as PEP 249 allows."""

    def cancel(self) -> None:
        """Stop the running statement; call it from another thread."""
        self._handle.interrupt()

    def close(self) -> None:
        """Close the cursor."""
        self.closed = True
        self._relation = None
        self._handle.close()

    def _check_open(self) -> None:
        if self.closed:
            raise InterfaceError("The cursor is closed")

    def _rows(self) -> Relation:
        self._check_open()
        if self._relation is None:
            raise InterfaceError("There is no result to fetch", hint="Run a query with execute first.")
        return self._relation

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        return iter(self._rows())

    def __enter__(self) -> Cursor:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
