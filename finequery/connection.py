"""Connections: what ``finequery.connect`` gives, and the functions on a default one."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from typing import Any

from finequery import logs, progress
from finequery.catalog import Catalog
from finequery.errors import CatalogError, InterfaceError, nearest
from finequery.progress import Progress
from finequery.relation import Relation
from finequery.resolver import Scope, caller
from finequery.session import Session, Values
from finequery.settings import Settings


def connect(
    database: str = ":memory:", threads: int | None = None, memory_limit: str | int | None = None, **settings: Any
) -> Connection:
    """Open a database: ``":memory:"``, or the path of a directory that keeps its tables (made if it is not there).

    ``settings`` are those of ``SHOW SETTINGS``.

    >>> with connect(threads=2) as con:
    ...     con.execute("create table t as select 1 as a")
    ...     con.sql("select a + 1 as b from t").fetchall()
    [(2,)]
    """
    logs.check_environment()
    chosen = Settings({"threads": threads, "memory_limit": memory_limit, **settings})
    return Connection(_Database(Catalog(None if database in (":memory:", "") else str(database))), chosen)


class _Database:
    """A catalog and how many connections use it: the last one closes it."""

    def __init__(self, catalog: Catalog) -> None:
        self.catalog = catalog
        self.users = 0
        self.lock = threading.Lock()

    def enter(self) -> None:
        with self.lock:
            self.users += 1

    def leave(self) -> None:
        with self.lock:
            self.users -= 1
            if not self.users:
                self.catalog.close()


class Connection:
    """A handle on a database. Threads may share it: their queries run one after another. For queries side by side give
    each thread its own ``cursor()``."""

    def __init__(self, database: _Database, settings: Settings) -> None:
        self._database = database
        self._session = Session(database.catalog, settings)
        database.enter()

    def sql(self, query: str, params: Values = None, *, timeout: float | None = None) -> Relation:
        """Bind a query now and run it when rows are asked for. Other statements run at once.

        ``params`` are the values of ``?`` and ``$1`` (a list) or ``$name`` (a dict). Tables may be Python variables of
        the caller and files: ``from df``, ``from 'data/*.parquet'``. After ``timeout`` seconds of running, or of
        converting the answer, the query is stopped with a TimeoutError (default: the setting ``timeout``; 0: never).
        """
        return self._run(query, params, Scope(caller()), timeout)

    def execute(self, query: str, params: Values = None, *, timeout: float | None = None) -> Relation:
        """Run one or more statements, separated by ``;``, at once. The last one's result. ``timeout`` is for all of
        them together, in seconds."""
        scope = Scope(caller())
        with self._session.lock, self._session.working(query, _limit(timeout)):
            return self._run(query, params, scope, timeout).execute()

    def _run(self, query: str, params: Values, scope: Scope, timeout: float | None = None) -> Relation:
        session = self._session
        with session.lock, session.working(query, _limit(timeout)):
            relation = session.run(query, params, scope)
        relation.connection, relation.timeout = self, timeout
        return relation

    def executemany(self, query: str, params: Iterable[Values]) -> int:
        """Run a statement once for each set of parameters, all or none; the number of rows changed."""
        scope = Scope(caller())
        changed = 0
        with self._session.lock, self._session.working(query), self._session.catalog.batch():
            for values in params:
                changed += self._session.run(query, values, scope).execute().changed or 0
        return changed

    def prepare(self, query: str) -> Prepared:
        """A statement to run often with other parameters.

        >>> with connect() as con:
        ...     twice = con.prepare("select 2 * ? as x")
        ...     [twice(n).fetchone() for n in (1, 2)]
        [(2,), (4,)]
        """
        from finequery.planner.parse import parse

        if len(parse(query)) != 1:
            raise InterfaceError("prepare takes exactly one statement")
        return Prepared(self, query)

    def register(self, name: str, table: Any) -> Connection:
        """Give a name to a pyarrow, pandas or polars table, a dict of arrays or a Relation. It is not copied: a query
        sees what the object holds then. Only arrays on a GPU (of CuPy, PyTorch, JAX, …) must not change while they are
        registered: the GPU reads them where they lie, and the host keeps a copy."""
        session = self._session
        with session.lock, session.accounting():
            found = session.sources.of_object(name, table)
            if found is None:
                raise CatalogError(
                    f"An object of type {type(table).__name__} is no table",
                    hint="Tables are pyarrow, pandas and polars frames, dicts of numpy arrays and Relations.",
                )
            session.registered[name.lower()] = (name, found[0] if _on_device(table) else table)
        return self

    def unregister(self, name: str) -> Connection:
        """Forget a registered name."""
        session = self._session
        with session.lock:
            if session.registered.pop(name.lower(), None) is None:
                names = [known for known, _ in session.registered.values()]
                raise CatalogError(f'No object is registered as "{name}"', hint=nearest(name, names) or None)
        return self

    def cursor(self) -> Connection:
        """Another handle on the same database, with these settings and registered objects, for another thread."""
        self._check_open()
        other = Connection(self._database, self._session.settings.copy())
        other._session.registered = dict(self._session.registered)
        return other

    def interrupt(self) -> None:
        """Stop the running query; call it from another thread. The query raises InterruptError."""
        self._session.interrupt()

    def progress(self) -> Progress | None:
        """How far the running statement is; call it from another thread. None where nothing runs."""
        return progress.of_session(self._session)

    @property
    def settings(self) -> Mapping[str, Any]:
        """Name and value of every setting."""
        return self._session.settings.values()

    def close(self) -> None:
        """Close this handle; closing it again does nothing."""
        with self._session.lock:
            if not self._session.closed:
                self._session.closed = True
                self._session.plans.clear()
                self._database.leave()

    def _check_open(self) -> None:
        if self._session.closed:
            raise InterfaceError("The connection is closed")

    def __enter__(self) -> Connection:
        self._check_open()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        if hasattr(self, "_session"):
            self.close()


class Prepared:
    """A statement with parameters; calling it with their values runs it."""

    def __init__(self, connection: Connection, query: str) -> None:
        self._connection = connection
        self.query = query

    def __call__(self, *values: Any, **named: Any) -> Relation:
        """Run with positional values, or with named ones."""
        if values and named:
            raise InterfaceError("Parameters are either positional or named")
        params = named or (values if values else None)
        return self._connection._run(self.query, params, Scope(caller())).execute()


def _limit(timeout: float | None) -> float | None:
    """``timeout`` as a caller gave it."""
    if timeout is not None and (isinstance(timeout, bool) or not 0.0 <= timeout < float("inf")):
        raise InterfaceError(f"timeout is a number of seconds, or 0 for no limit, not {timeout!r}")
    return timeout


def _on_device(table: Any) -> bool:
    """Whether a dict has arrays of a GPU."""
    from finequery.jetson.foreign import lies_on_device

    return isinstance(table, dict) and any(map(lies_on_device, table.values()))


_default: Connection | None = None
_default_lock = threading.Lock()


def default_connection() -> Connection:
    """The connection in memory behind ``finequery.sql``; made when first asked for."""
    global _default
    with _default_lock:
        if _default is None or _default._session.closed:
            _default = connect()
        return _default


def sql(query: str, params: Values = None, *, timeout: float | None = None) -> Relation:
    """``Connection.sql`` on the default connection."""
    return default_connection().sql(query, params, timeout=timeout)


def execute(query: str, params: Values = None, *, timeout: float | None = None) -> Relation:
    """``Connection.execute`` on the default connection."""
    return default_connection().execute(query, params, timeout=timeout)


def register(name: str, table: Any) -> Connection:
    """``Connection.register`` on the default connection."""
    return default_connection().register(name, table)


def unregister(name: str) -> Connection:
    """``Connection.unregister`` on the default connection."""
    return default_connection().unregister(name)


def interrupt() -> None:
    """``Connection.interrupt`` on the default connection."""
    default_connection().interrupt()
