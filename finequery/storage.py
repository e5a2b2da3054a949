"""A database on disk: a directory with ``catalog.json`` and one file for the columns of each table.

A change writes new column files first and then replaces ``catalog.json`` by renaming, which is the moment it happens: a
process killed at any point leaves the database as it was before or as it is after. Column files are never changed, and
hold the engine's own encoded columns, so that opening a table maps its file and decodes nothing. One process at a time
opens a database.
"""

from __future__ import annotations

import json
import mmap
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from finequery.errors import FileError, OperationalError
from finequery.types import SqlType

if TYPE_CHECKING:
    from finequery.operators.column import ColumnData

FORMAT = 1
_MAGIC = b"FINEQRY\x01"
_ALIGN = 64
_ARRAYS = ("data", "validity", "chars")
_STATS = ("low", "high", "nulls", "distinct", "sorted", "unique", "ascii")


class Storage:
    """The directory of one database, locked while it is open."""

    def __init__(self, path: str) -> None:
        self.path = Path(path)
        if self.path.exists() and not self.path.is_dir():
            raise FileError(f"{path} is a file; a FineQuery database is a directory")
        names = {p.name for p in self.path.iterdir()} if self.path.exists() else set()
        if names - {"lock"} and "catalog.json" not in names:
            raise FileError(f"{path} is a directory with other files in it, not a FineQuery database")
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock: IO[str] | None = open(self.path / "lock", "a+")  # noqa: SIM115 (held while open)
        except OSError as error:
            raise FileError(f"Can't open the database {path}: {error.strerror}") from error
        import fcntl

        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._lock.close()
            raise OperationalError(
                f"The database {path} is open in another process or connection",
                hint="Close it there, or share one connection: connection.cursor() gives another handle.",
            ) from None

    def close(self) -> None:
        """Give the directory back."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def read(self) -> dict[str, Any]:
        """What ``catalog.json`` says, empty for a new database."""
        try:
            state = json.loads((self.path / "catalog.json").read_text("utf-8"))
        except FileNotFoundError:
            return {"format": FORMAT, "tables": {}, "views": {}}
        except ValueError as error:
            raise FileError(f"{self.path / 'catalog.json'} is damaged: {error}") from None
        if state.get("format") != FORMAT:
            raise FileError(
                f"{self.path} was written in format {state.get('format')}; this version reads format {FORMAT}"
            )
        return dict(state)

    def write(self, tables: dict[str, Any], views: dict[str, Any]) -> None:
        """Make this the catalog, and remove column files it no longer names."""
        state = {"format": FORMAT, "tables": tables, "views": views}
        temporary = self.path / "catalog.json.new"
        with open(temporary, "w", encoding="utf-8") as file:
            json.dump(state, file, indent=1, ensure_ascii=False)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, self.path / "catalog.json")
        self._sync_directory()
        wanted = {table["file"] for table in tables.values()}
        for path in self.path.glob("*.columns"):
            if path.name not in wanted:
                path.unlink(missing_ok=True)

    def _sync_directory(self) -> None:
        handle = os.open(self.path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)

    def write_columns(self, table: str, columns: Iterable[ColumnData]) -> str:
        """Write a table's columns to a new file and return its name."""
        stem = re.sub(r"[^a-z0-9_]", "_", table.lower())[:60]
        serial = 1 + max((_serial(p.name) for p in self.path.glob("*.columns")), default=0)
        name = f"{stem}.{serial}.columns"
        with open(self.path / name, "wb") as file:
            write_columns(file, columns)
            file.flush()
            os.fsync(file.fileno())
        return name

    def read_columns(self, name: str) -> list[ColumnData]:
        """Map a table's columns."""
        return read_columns(self.path / name)


def _serial(name: str) -> int:
    return int(name.split(".")[-2])


def write_columns(file: IO[bytes], columns: Iterable[ColumnData]) -> None:
    """Magic, length and JSON of the header, then every array at a multiple of 64 bytes with 64 spare bytes after it."""
    import numpy as np

    arrays: list[Any] = []
    offset = 0

    def place(array: Any) -> list[Any] | None:
        nonlocal offset
        if array is None:
            return None
        where = [offset, str(array.dtype), len(array)]
        arrays.append(np.ascontiguousarray(array))
        offset += -(-array.nbytes // _ALIGN) * _ALIGN + _ALIGN
        return where

    headers: list[dict[str, Any]] = []
    for column in columns:
        header: dict[str, Any] = {
            "type": [column.type.name, column.type.precision, column.type.scale],
            "kind": column.kind,
            "length": column.length,
            "base": column.base,
            "scale": column.scale,
            "stats": {name: getattr(column.stats, name) for name in _STATS},
            "blocks": [place(column.stats.block_low), place(column.stats.block_high)],
        }
        header |= {name: place(getattr(column, name)) for name in _ARRAYS}
        if column.dictionary is not None:
            words = column.dictionary
            header["dictionary"] = [place(words.offsets), place(words.chars), words.ascii]
        headers.append(header)
    text = json.dumps(headers, default=_plain).encode()
    start = -(-(16 + len(text)) // _ALIGN) * _ALIGN
    file.write(_MAGIC + len(text).to_bytes(8, "little") + text + bytes(start - 16 - len(text)))
    for array in arrays:
        file.write(array.data)
        file.write(bytes(-array.nbytes % _ALIGN + _ALIGN))


def _plain(value: Any) -> Any:
    """numpy scalars among the statistics."""
    return value.item()


def read_columns(path: Path) -> list[ColumnData]:
    """The columns of a file, as views on its mapped pages."""
    import numpy as np

    from finequery.jetson.memory import steady
    from finequery.operators.column import ColumnData, Dictionary, Stats

    try:
        with open(path, "rb") as file:
            pages = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except (OSError, ValueError) as error:
        raise FileError(f"Can't read {path}: {error}") from error
    if pages[:8] != _MAGIC:
        raise FileError(f"{path} is not a column file of this version")
    size = int.from_bytes(pages[8:16], "little")
    start = -(-(16 + size) // _ALIGN) * _ALIGN

    def array(where: list[Any] | None) -> Any:
        if where is None:
            return None
        offset, dtype, count = where
        return steady(np.frombuffer(pages, dtype, count, start + offset))

    columns = []
    for header in json.loads(pages[16 : 16 + size]):
        name, precision, scale = header["type"]
        words = None
        if "dictionary" in header:
            offsets, chars, is_ascii = header["dictionary"]
            words = Dictionary(array(offsets), array(chars), is_ascii)
        low, high = header["blocks"]
        columns.append(
            ColumnData(
                type=SqlType(name, precision, scale),
                kind=header["kind"],
                length=header["length"],
                base=header["base"],
                scale=header["scale"],
                stats=Stats(**header["stats"], block_low=array(low), block_high=array(high)),
                dictionary=words,
                owner=pages,
                **{part: array(header[part]) for part in _ARRAYS},
            )
        )
    return columns
