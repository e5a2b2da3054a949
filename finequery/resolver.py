"""What a name in FROM stands for, asked in this order: a registered object, a table or view of the database, a variable
of the caller, a file.

A source that may change behind the engine's back (pandas, numpy, polars, a Dataset) is read anew by every query; one
that can't (Arrow tables, a Relation, a file with the same size and time of change) is encoded once.
"""

from __future__ import annotations

import glob
import os
import sys
import weakref
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from finequery.errors import BindError, CatalogError, FileError

if TYPE_CHECKING:
    from types import FrameType

    from finequery.catalog import Catalog
    from finequery.operators.table import Table
    from finequery.planner.statements import View

_PACKAGE = os.path.dirname(os.path.abspath(__file__))
_PARQUET = (".parquet", ".pq")
_CSV = (".csv", ".tsv", ".csv.gz", ".tsv.gz")
_MISSING = object()


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
        from finequery.operators.table import ArrowTable

        root = type(value).__module__.partition(".")[0]
        if root == "finequery" and hasattr(value, "as_table"):
            return value.as_table(name), False
        if isinstance(value, os.PathLike):
            path = os.fspath(value)
            return self.of_files("read_csv" if path.lower().endswith(_CSV) else "read_parquet", path, {}), True
        if root == "pyarrow" and type(value).__name__ in ("Table", "RecordBatch"):
            known = self._objects.get(id(value))
            if known is not None and known[0]() is value:
                return known[1], True
            table = ArrowTable(name, _arrow(value))
            key = id(value)

            def forget(_: object) -> None:
                self._objects.pop(key, None)
                self.gone = True

            self._objects[key] = (weakref.ref(value, forget), table)
            return table, True
        arrow = _arrow(value)
        return None if arrow is None else (ArrowTable(name, arrow), False)

    def of_files(self, function: str, pattern: str | list[str], options: dict[str, Any]) -> Table:
        """The table in one or more Parquet or CSV files."""
        from finequery.operators.table import CsvTable, ParquetTable

        paths = _expand(pattern)
        key = (function, str(pattern), repr(sorted(options.items())))
        signature = tuple((path, *_stamp(path)) for path in paths)
        known = self._files.get(key)
        if known is not None and known[0] == signature:
            return known[1]
        stem = os.path.basename(paths[0]).partition(".")[0]
        if function == "read_parquet":
            if options:
                raise BindError(f'read_parquet has no option "{next(iter(options))}"')
            table: Table = ParquetTable(stem, paths)
        else:
            table = CsvTable(stem, paths, **_csv_options(options))
        if len(self._files) >= 64:
            del self._files[next(iter(self._files))]
        self._files[key] = (signature, table)
        return table


def _arrow(value: Any) -> Any:
    """A pyarrow Table of a Python object that holds a table, else None."""
    root = type(value).__module__.partition(".")[0]
    if isinstance(value, Mapping):
        numpy = sys.modules.get("numpy")
        if numpy is None or not value or not all(isinstance(v, numpy.ndarray) for v in value.values()):
            return None
        import pyarrow

        return pyarrow.table({str(k): pyarrow.array(_unmasked(v), mask=_mask(v)) for k, v in value.items()})
    kind = type(value).__name__
    if root == "pyarrow":
        import pyarrow

        if kind == "Table":
            return value.slice()  # another object over the same columns, so that the cache keeps nobody's alive
        if kind == "RecordBatch":
            return pyarrow.Table.from_batches([value])
        if kind == "RecordBatchReader":
            raise BindError("A RecordBatchReader can be read only once", hint="Use reader.read_all().")
        return value.to_table() if hasattr(value, "to_table") else None
    if root == "pandas" and kind == "DataFrame":
        import pyarrow

        return pyarrow.Table.from_pandas(value, preserve_index=False)
    if root == "polars" and kind in ("DataFrame", "LazyFrame"):
        return (value.collect() if kind == "LazyFrame" else value).to_arrow()
    if hasattr(value, "__arrow_c_stream__"):
        import pyarrow

        return pyarrow.table(value)
    return None


def _unmasked(array: Any) -> Any:
    return getattr(array, "data", array) if hasattr(array, "mask") else array


def _mask(array: Any) -> Any:
    import numpy

    return numpy.ma.getmaskarray(array) if hasattr(array, "mask") else None


def _expand(pattern: str | list[str]) -> list[str]:
    paths: list[str] = []
    for one in [pattern] if isinstance(pattern, str) else pattern:
        one = os.path.expanduser(one)
        found = sorted(glob.glob(one, recursive=True)) if any(c in one for c in "*?[") else [one]
        if os.path.exists(one):
            found = [one]
        if not found:
            raise FileError(f"No file matches '{one}'")
        for path in found:
            if os.path.isdir(path):
                raise FileError(
                    f"'{path}' is a directory", hint=f"Name its files: '{os.path.join(path, '*.parquet')}'."
                )
            paths.append(path)
    if not paths:
        raise FileError("No file was named")
    return paths


def _stamp(path: str) -> tuple[int, int, int]:
    try:
        stat = os.stat(path)
    except OSError as error:
        raise FileError(f"Can't read '{path}': {error.strerror}") from None
    return stat.st_mtime_ns, stat.st_size, stat.st_ino


_CSV_OPTIONS = {"header": "header", "delim": "delimiter", "delimiter": "delimiter", "sep": "delimiter"}


def _csv_options(options: dict[str, Any]) -> dict[str, Any]:
    out = {}
    for name, value in options.items():
        if name.lower() not in _CSV_OPTIONS:
            raise BindError(f'read_csv has no option "{name}"', hint="It has header and delim.")
        out[_CSV_OPTIONS[name.lower()]] = value
    return out


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
        #: Whether a later query would find the same by the same names.
        self.lasting = True

    def table(self, parts: tuple[str, ...]) -> Table | View | None:
        entry = self._find(parts)
        if entry is not None:
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
        self.lasting &= lasting
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
