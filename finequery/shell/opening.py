"""What the paths behind ``finequery`` and ``.open`` mean: a database, or Parquet and CSV files as tables."""

from __future__ import annotations

import glob
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finequery.errors import Error, FileError, nearest

if TYPE_CHECKING:
    from finequery.connection import Connection

#: Files that become tables.
DATA = (".parquet", ".pq", ".csv", ".tsv", ".csv.gz", ".tsv.gz")
#: Files that hold something else, and so are not the name of a new database.
OTHERS = (".json", ".jsonl", ".ndjson", ".txt", ".xlsx", ".arrow", ".feather", ".avro", ".orc", ".sql", ".py")


def connect_to(
    paths: Sequence[str], settings: Mapping[str, Any], create: bool = False, programs: Sequence[str] = ()
) -> Connection:
    """A connection to the one database among the paths, or to one in memory, with the data files as tables. FileError
    where a path is neither; ``programs``: the words that may have been meant. A database that is not there is made if
    its name looks like a path, or with ``create``."""
    from finequery.connection import connect

    data, databases = [], []
    for path in map(os.path.expanduser, paths):
        files = _files(path)
        data += files
        databases += [] if files else [path]
    if len(databases) > 1:
        raise FileError(
            "Only one database can be opened", hint=f"{databases[1]} is neither Parquet nor CSV by its name."
        )
    for database in databases:
        _check(database, create, programs)
    connection = connect(databases[0] if databases else ":memory:", **settings)
    try:
        for file in data:
            connection.register(os.path.basename(file).partition(".")[0], Path(file))
    except Error:
        connection.close()
        raise
    return connection


def _files(path: str) -> list[str]:
    """The data files that a path or a pattern names; none if it names a database."""
    if os.path.exists(path):
        return [path] if os.path.isfile(path) and path.lower().endswith(DATA) else []
    if glob.has_magic(path):
        found = [name for name in sorted(glob.glob(path)) if name.lower().endswith(DATA) and os.path.isfile(name)]
        if not found:
            raise FileError(f"No Parquet or CSV file fits '{path}'")
        return found
    if path.lower().endswith(DATA):
        raise FileError(f"There is no file '{path}'", hint=_near(path))
    if path.lower().endswith(OTHERS):
        raise FileError(f"There is no file '{path}', and FineQuery reads Parquet and CSV files alone")
    return []


def _near(path: str) -> str | None:
    """The data file of the same folder whose name is nearest."""
    folder, name = os.path.split(path)
    try:
        found = [other for other in os.listdir(folder or ".") if other.lower().endswith(DATA)]
    except OSError:
        return None
    return nearest(name, found) or None


def _check(path: str, create: bool, programs: Sequence[str]) -> None:
    """Whether this may be opened as a database: no mistyped word makes a directory."""
    if path == ":memory:" or create:
        return
    if os.path.isdir(path):
        inside = os.listdir(path)
        if "catalog.json" not in inside and any(name.lower().endswith(DATA) for name in inside):
            hint = f"finequery {os.path.join(path, '*')} makes a table of each file in it."
            raise FileError(f"{path} is a directory of data files, not a FineQuery database", hint=hint)
    elif not os.path.exists(path):
        folder = os.path.dirname(path.rstrip(os.sep))
        if any(c.isspace() for c in path):
            raise FileError(f"There is no database '{path}'", hint='A query stands behind -c: finequery -c "select 42"')
        if not folder and not os.path.splitext(path)[1]:
            meant = nearest(path, programs)
            made = f"A new database has an ending or a slash in its name: {path}.fq, ./{path}; or --create."
            raise FileError(f'There is no database or program "{path}"', hint=f"{meant}\n{made}".strip())
        if folder and not os.path.isdir(folder):
            raise FileError(
                f'Can\'t make the database {path}: there is no folder "{folder}"', hint="--create makes it."
            )
