"""What a name in FROM stands for, asked in this order: a registered object, a table or view of the database, a variable
of the caller, a file.

A source that may change behind the engine's back (pandas, numpy, polars, a Dataset) is read anew by every query; one
that can't (Arrow tables, a Relation, a file with the same size and time of change) is encoded once.
"""

from __future__ import annotations

import os
import sys
import weakref
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from finequery.errors import BindError, CatalogError

if TYPE_CHECKING:
    from types import FrameType

    from finequery.catalog import Catalog
    from finequery.operators.table import Table
    from finequery.planner.statements import View

_PACKAGE = os.path.dirname(os.path.abspath(__file__))
_PARQUET = (".parquet", ".pq")
_CSV = (".csv", ".tsv", ".csv.gz", ".tsv.gz")
_MISSING = object()

#: Classes of pyarrow whose objects never change (what a reader gave is kept: it can be read only once).
_CONSTANT = ("Table", "RecordBatch", "RecordBatchReader")


def caller() -> FrameType | None:
    """The frame outside this package that called it."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_globals.get("__name__", "").partition(".")[0] == "finequery":
        frame = frame.f_back
    return frame


class Sources:
    """Tables made of objects and files, kept while their source is the same."""

    def __init__(self) -> None:
        self._objects: dict[int, tuple[weakref.ref[Any], Table]] = {}
        self._files: dict[tuple[Any, ...], tuple[tuple[Any, ...], Table]] = {}
        #: Whether an object is gone whose table a cached plan may still hold.
        self.gone = False

    def of_object(self, name: str, value: Any) -> tuple[Table, bool] | None:
        """The table that a Python object stands for and whether it may be kept; None where it is no table."""
        if type(value).__module__ == "finequery.relation":
            return value.as_table(name), False
        if isinstance(value, os.PathLike):
            path = os.fspath(value)
            return self.of_files("read_csv" if path.lower().endswith(_CSV) else "read_parquet", path, {}), True
        from finequery.operators.sources import table_of

        if type(value).__module__.partition(".")[0] != "pyarrow" or type(value).__name__ not in _CONSTANT:
            table = table_of(value, name)
            return None if table is None else (table, table is value)
        key = id(value)
        known = self._objects.get(key)
        if known is not None and known[0]() is value:
            return known[1], True
        # Another object over the same columns, so that what is kept here keeps the user's object from nobody's hands.
        table = table_of(value.slice() if hasattr(value, "slice") else value, name)
        assert table is not None

        def forget(_: object) -> None:
            self._objects.pop(key, None)
            self.gone = True

        self._objects[key] = (weakref.ref(value, forget), table)
        return table, True

    def of_files(self, function: str, pattern: str | list[str], options: dict[str, Any]) -> Table:
        """The table in one or more Parquet or CSV files."""
        from finequery.operators import files

        paths = files.expand(pattern)
        key = (function, str(pattern), repr(sorted(options.items())))
        signature = files.fingerprint(paths)
        known = self._files.get(key)
        if known is not None and known[0] == signature:
            return known[1]
        if function == "read_parquet":
            from finequery.operators.parquet_table import ParquetTable

            if options:
                raise BindError(f'read_parquet has no option "{next(iter(options))}"')
            table: Table = ParquetTable(paths)
        else:
            from finequery.operators.csv_table import CsvTable

            table = CsvTable(paths, **options)
        if len(self._files) >= 64:
            del self._files[next(iter(self._files))]
        self._files[key] = (signature, table)
        return table


#: What was asked for (name parts; or a function, its arguments and named arguments) and what it stood for.
Found = tuple[tuple[Any, ...], Any]


class Resolver:
    """Finds tables for the binder (planner.statements.Resolver) and remembers what it found, for the plan cache."""

    def __init__(
        self, catalog: Catalog, registered: Mapping[str, tuple[str, Any]], sources: Sources, scope: Scope
    ) -> None:
        self._catalog = catalog
        self._registered = registered
        self._sources = sources
        self._scope = scope
        #: (question, answer) of every look-up; the plan cache asks again and compares.
        self.found: list[Found] = []
        #: The caller's variables that were used, by name.
        self.variables: dict[str, Any] = {}
        #: Whether a later query would find the same by the same names; ``found`` has only what would be.
        self.lasting = True
        self._fleeting = False

    def table(self, parts: tuple[str, ...]) -> Table | View | None:
        self._fleeting = False
        entry = self._find(parts)
        if self._fleeting:
            self.lasting = False
        elif entry is not None:
            self.found.append(((parts,), entry))
        return entry

    def ask(self, question: tuple[Any, ...]) -> Table | View | None:
        """What a question recorded in ``found`` is answered with now."""
        return self._find(*question) if len(question) == 1 else self._call(*question)

    def _find(self, parts: tuple[str, ...]) -> Table | View | None:
        name = parts[-1]
        if len(parts) > 1:
            known = (("main",), (self._catalog.name.lower(), "main"), (self._catalog.name.lower(),))
            return self._catalog.get(name) if tuple(p.lower() for p in parts[:-1]) in known else None
        if name.lower() in self._registered:
            return self._object(*self._registered[name.lower()])
        entry = self._catalog.get(name)
        if entry is not None:
            return entry
        value = self._scope.get(name)
        if value is not _MISSING:
            self.variables[name] = value
            return self._object(name, value)
        if name.lower().endswith(_PARQUET):
            return self._sources.of_files("read_parquet", name, {})
        if name.lower().endswith(_CSV):
            return self._sources.of_files("read_csv", name, {})
        return None

    def _object(self, name: str, value: Any) -> Table:
        found = self._sources.of_object(name, value)
        if found is None:
            raise CatalogError(
                f'There is no table "{name}", and the Python variable of that name is of type '
                f"{type(value).__name__}, which is no table",
                hint="Tables are pyarrow, pandas and polars frames, dicts of numpy arrays and Relations.",
            )
        table, lasting = found
        self._fleeting = not lasting
        return table

    def names(self) -> Iterable[str]:
        return [*self._catalog.names(), *(name for name, _ in self._registered.values())]

    def function(self, name: str, args: list[Any], named: dict[str, Any]) -> Table | None:
        name = {"parquet_scan": "read_parquet", "read_csv_auto": "read_csv"}.get(name.lower(), name.lower())
        if name not in ("read_parquet", "read_csv"):
            return None
        table = self._call(name, args, named)
        self.found.append(((name, args, named), table))
        return table

    def _call(self, name: str, args: list[Any], named: dict[str, Any]) -> Table:
        if len(args) != 1 or not isinstance(args[0], (str, list)):
            raise BindError(f"{name} takes one path or a list of paths", hint=f"{name}('data/*.parquet')")
        return self._sources.of_files(name, args[0], named)


class Scope:
    """The variables a query may name: locals, then globals of the caller's frame, or what an earlier query used."""

    __slots__ = ("_frame", "_values")

    def __init__(self, frame: FrameType | None = None, values: Mapping[str, Any] | None = None) -> None:
        self._frame = frame
        self._values = values

    def get(self, name: str) -> Any:
        if self._values is not None:
            return self._values.get(name, _MISSING)
        if self._frame is None:
            return _MISSING
        value = self._frame.f_locals.get(name, _MISSING)
        return self._frame.f_globals.get(name, _MISSING) if value is _MISSING else value
