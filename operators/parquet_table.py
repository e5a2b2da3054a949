"""Parquet files as a table: only the columns that a query reads, row groups decoded and encoded in parallel."""

from __future__ import annotations

import os
from collections.abc import Sequence

from finequery.jetson import accounts
from finequery.operators import files
from finequery.operators.arrow_types import require
from finequery.operators.column import ColumnData, Stats
from finequery.operators.parquet_batches import SHARE, ParquetBatches, load_bytes
from finequery.operators.parquet_files import ParquetFiles
from finequery.operators.table import KeptTable, RangeTest

#: Columns are loaded if they take no more than this part of the memory that is left: queries need some, too.
COLUMNS = 0.75


class ParquetTable(KeptTable):
    """One or more Parquet files with the columns of the first, matched by name (columns that only others have are left
    out). Changed files, and files that a glob newly matches, are seen at the next ``version``."""

    def __init__(self, source: str | os.PathLike | Sequence[str | os.PathLike], name: str | None = None):
        self._source = source
        super().__init__(name or files.table_name(source) or "parquet", [])
        self._version = 0
        self._open()

    def _open(self) -> None:
        self.files = ParquetFiles(self._source, self.name)
        self.columns = tuple(self.files.types.items())
        self._kept.clear()
        self._early: dict[str, Stats | None] = {}
        self._sizes: dict[str, int] = {}

    @property
    def version(self) -> int:  # type: ignore[override]
        """Grows when a file changed since it was last asked for; the columns are then read anew."""
        with self._lock:
            if files.fingerprint(files.expand(self._source)) != self.files.seen:
                self._open()
                self._version += 1
            return self._version

    @property
    def rows(self) -> int:
        return self.files.rows

    def _encode(self, names: list[str]) -> list[ColumnData]:
        return self.files.read(names, self.files.groups)

    def stats(self, name: str) -> Stats | None:
        """From the loaded column, else from the row groups' statistics."""
        kept = self._kept.get(name)
        if kept is not None:
            return kept.stats
        if name not in self._early:
            self._early[name] = self.files.stats(name)
        return self._early[name]

    def batches(self, names: Sequence[str], tests: Sequence[RangeTest], evict: bool = True) -> ParquetBatches | None:
        with self._lock:
            missing = [n for n in dict.fromkeys(names) if n not in self._kept]
            limit = accounts.limit()
            if not missing or limit is None:
                return None
            for name in missing:
                require(self.type_of(name), name, self.name)
            room = limit - accounts.live()
            needed = sum(map(self._size_of, missing))
            if needed <= room * COLUMNS:
                return None
            unread = [n for n in self._kept if n not in names]
            if needed <= (room + sum(self._kept[n].nbytes for n in unread)) * COLUMNS:
                for name in unread if evict else ():
                    del self._kept[name]
                return None
            found = ParquetBatches(self.files, list(dict.fromkeys(names)), tests)
            if evict and found.largest * SHARE > room:
                self._kept.clear()
            return found

    def _size_of(self, name: str) -> int:
        if name not in self._sizes:
            self._sizes[name] = load_bytes(self.files, name)
        return self._sizes[name]
