"""Columns of Parquet files that don't fit into memory: row groups in batches, those left out that no row can pass from.

All batches of a column have the layout that the range of the whole column asks for, and a dictionary that holds all
values met so far is taken again, so that a program compiled for one batch mostly serves the next ones too.
"""

from __future__ import annotations

from collections.abc import Sequence

from finequery.errors import OutOfMemoryError
from finequery.jetson import accounts
from finequery.operators.column import ColumnData, Dictionary
from finequery.operators.encode import layout
from finequery.operators.parquet_decode import Group
from finequery.operators.parquet_files import ParquetFiles
from finequery.operators.table import RangeTest

#: Of the memory that is left, a batch takes this part: two are there at a time, with what is computed of one.
SHARE = 6
#: Bytes a value that a batch is reckoned with at the least: what is computed of narrow columns is mostly wider.
WIDTH = 8
#: Bytes of a batch where there is room for more: beyond, threads have enough to do, and caches nothing more to gain.
LARGEST = 128 << 20


def estimated_bytes(files: ParquetFiles, name: str) -> list[int]:
    """Bytes that a column takes in memory, by row group, as far as the footers tell."""
    sql_type, ranges = files.types[name], files.ranges(name)
    if sql_type.is_string:
        found: list[int] = []
        for group in files.groups:
            size = files.chunk_bytes(name, group)
            if files.looks_coded(group.file, name):
                found.append(group.rows * (1 if size <= group.rows else 2 if size <= 2 * group.rows else 4))
            else:
                found.append(size + 8 * group.rows)
        return found
    if ranges is None:
        wide = sql_type.name in ("HUGEINT", "INTERVAL") or sql_type.precision > 18
        width, nulls = 16 if wide else 8, True
    else:
        stats = files.stats(name)
        assert stats is not None
        low, high = int(stats.low or 0), int(stats.high or 0)
        kind, dtype, *_ = layout(sql_type, low, high, 1)
        width, nulls = 16 if kind == "int128" else dtype.itemsize, stats.nulls > 0
    if sql_type.is_float:
        width = 4 if sql_type.name == "FLOAT" else 8
    return [group.rows * width + group.rows // 8 * nulls for group in files.groups]


def load_bytes(files: ParquetFiles, name: str) -> int:
    """Bytes that loading a whole column takes: pieces that come through Arrow are put together in the end; those that
    are decoded in place have a byte for each row that may be NULL meanwhile."""
    ranges, final = files.ranges(name), sum(estimated_bytes(files, name))
    if ranges is not None:
        return final + (files.rows if any(r.nulls for r in ranges) else 0)
    coded = files.types[name].is_string and all(files.looks_coded(group.file, name) for group in files.groups)
    return final + files.rows if coded else 2 * final


class ParquetBatches:
    """The columns ``names`` of the row groups that may hold rows for which all ``tests`` are true."""

    def __init__(self, files: ParquetFiles, names: list[str], tests: Sequence[RangeTest]):
        self.files = files
        self.names = names
        passing = [not out for out in _ruled_out(files, tests)]
        sizes = [sum(of_group) for of_group in zip(*(estimated_bytes(files, name) for name in names))]
        self.groups: Sequence[Group] = [group for group, keep in zip(files.groups, passing) if keep]
        self.sizes = [size for size, keep in zip(sizes, passing) if keep]
        self.skipped = len(files.groups) - len(self.groups)
        self._dictionaries: dict[str, Dictionary] = {}

    @property
    def rows(self) -> int:
        """Rows of all batches."""
        return sum(group.rows for group in self.groups)

    @property
    def nbytes(self) -> int:
        """Bytes of the columns of all batches, by estimate."""
        return sum(self.sizes)

    @property
    def largest(self) -> int:
        """Bytes of the largest row group."""
        return max(self.sizes, default=0)

    def cut(self, room: int) -> list[list[Group]]:
        """The row groups by batch, for so many bytes of memory. ``OutOfMemoryError`` where one row group is more."""
        if self.largest > room:
            raise OutOfMemoryError(
                f'host memory: a row group of "{self.files.name}" takes about {accounts.readable(self.largest)}, '
                f"{accounts.readable(max(room, 0))} are left of the memory_limit",
                hint="Raise it with SET memory_limit = '…', read fewer columns, or write the files with smaller row "
                "groups.",
            )
        most = min(room // SHARE, LARGEST)
        batches: list[list[Group]] = []
        held = 0
        for group, size in zip(self.groups, self.sizes):
            size = max(size, WIDTH * group.rows * len(self.names))
            if not batches or held + size > most:
                batches.append([])
                held = 0
            batches[-1].append(group)
            held += size
        return batches

    def read(self, groups: list[Group]) -> list[ColumnData]:
        """The columns of a batch."""
        columns = self.files.read(self.names, groups, self._dictionaries)
        for column in columns:
            if column.type.is_float:  # bounds that differ from batch to batch would have every batch compiled for anew
                column.stats.low = column.stats.high = None
        return columns


def _ruled_out(files: ParquetFiles, tests: Sequence[RangeTest]) -> list[bool]:
    """By row group: whether its statistics show that no row passes all tests (NULL passes none)."""
    out = [False] * len(files.groups)
    for test in tests:
        for place, found in enumerate(files.ranges(test.name) or ()):
            out[place] |= found.low is None or found.high is None or not test.possible(found.low, found.high)
    return out
