"""Parquet files as they were when they were opened: footers, and columns of any of their row groups.

Columns are decoded in place where that can be (parquet_decode.py), else read through Arrow. Nothing is kept here: who
reads decides whether it is (parquet_table.py) or is one batch of many (parquet_batches.py).
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from finequery.errors import FileError
from finequery.operators import files, watch
from finequery.operators.arrow_types import from_arrow, supported
from finequery.operators.column import ColumnData, Dictionary, Stats
from finequery.operators.parquet_decode import Group, decode, leaf
from finequery.operators.threads import parallel
from finequery.types import SqlType

if TYPE_CHECKING:
    import pyarrow.parquet as pq

#: Rows worth a task of their own: smaller row groups are read together.
_TASK_ROWS = 65536


class Range(NamedTuple):
    """What a footer says of a column in one row group: physical bounds (None: all its rows are NULL) and NULLs."""

    low: int | None
    high: int | None
    nulls: int


class ParquetFiles:
    """Opened files. The columns are those of the first, which all others must have; ``groups``: all their row groups
    with rows, in order."""

    def __init__(self, source: str | os.PathLike | Sequence[str | os.PathLike], name: str):
        self.name = name
        self.paths = files.expand(source)
        self.seen = files.fingerprint(self.paths)
        self.metadata = parallel(_metadata, self.paths)
        self._types = [_columns(path, metadata) for path, metadata in zip(self.paths, self.metadata)]
        self.types = self._types[0]
        for path, types in zip(self.paths[1:], self._types[1:]):
            for column, sql_type in self.types.items():
                if column not in types:
                    raise FileError(f'"{path}" has no column "{column}", which "{self.paths[0]}" has')
                if not _compatible(types[column], sql_type):
                    raise FileError(
                        f'column "{column}" has type {types[column]} in "{path}", but {sql_type} in "{self.paths[0]}"'
                    )
        self.groups = [
            Group(file, g, rows)
            for file, metadata in enumerate(self.metadata)
            for g in range(metadata.num_row_groups)
            if (rows := metadata.row_group(g).num_rows)
        ]
        self._ranges: dict[str, list[Range] | None] = {}
        self._coded: dict[tuple[int, str], bool] = {}
        self._places: dict[tuple[int, str], int | None] = {}

    @property
    def rows(self) -> int:
        """Rows of all files."""
        return sum(m.num_rows for m in self.metadata)

    def read(
        self, names: Sequence[str], groups: Sequence[Group], known: dict[str, Dictionary] | None = None
    ) -> list[ColumnData]:
        """Columns of some row groups. ``known``: dictionaries of batches before, which are taken again as long as they
        hold all values; those of this batch are put there."""
        used = {group.file for group in groups}
        coded = {n for n in names if self.types[n].is_string and all(self.looks_coded(f, n) for f in used)}
        wanted = [(n, self.types[n], self.stats(n)) for n in names if n in coded or self.types[n].is_exact]
        done = decode(self.paths, self.metadata, wanted, groups, known)
        rest = [n for n in names if n not in done]
        done.update(zip(rest, self._through_arrow(rest, groups)))
        if files.fingerprint(self.paths) != self.seen:
            raise FileError(f'the files of "{self.name}" changed while they were read', hint="Run the query again.")
        return [done[n] for n in names]

    def _through_arrow(self, names: list[str], groups: Sequence[Group]) -> list[ColumnData]:
        """The columns by way of Arrow arrays: whatever types, encodings and codecs Arrow knows."""
        from finequery.operators.concat import concat_columns, empty_column

        pieces: dict[str, list[tuple[int, ColumnData]]] = {name: [] for name in names}
        plain: set[str] = set()  # string columns found not to repeat: later row groups need not try a dictionary
        local = threading.local()

        def read(task: tuple[int, list[int], str, int]) -> None:
            file, numbers, name, order = task
            from finequery.operators.encode import encode

            path = self.paths[file]
            try:
                key, reader = getattr(local, "open", (None, None))
                if key != file:
                    reader = self._reader(file, names)
                    local.open = (file, reader)
                assert reader is not None
                table = reader.read_row_groups(numbers, columns=[name], use_threads=False)
            except (OSError, ValueError) as error:
                if isinstance(error, FileNotFoundError) or not os.path.exists(path):
                    raise FileError(f'"{path}" is gone since its table was made') from None
                raise FileError(f'"{path}", row groups {numbers[0]} to {numbers[-1]}: {_first_line(error)}') from None
            piece = encode(table.column(name), self._types[file][name], name, part=True, plain=name in plain)
            if piece.kind == "string":
                plain.add(name)
            pieces[name].append((order, _relabel(piece, self.types[name], path, name)))
            if stage is not None:
                stage.done += 1

        tasks = _tasks(names, groups)
        stage = watch.counting(len(tasks)) if tasks else None
        parallel(read, tasks)

        def join(name: str) -> ColumnData:
            parts = [piece for _, piece in sorted(pieces.pop(name), key=lambda p: p[0])]
            return concat_columns(parts) if parts else empty_column(self.types[name])

        return parallel(join, names)

    def _reader(self, file: int, names: list[str]) -> pq.ParquetFile:
        import pyarrow.parquet as pq

        coded = [n for n in names if self._types[file][n].is_string and self.looks_coded(file, n)]
        return pq.ParquetFile(
            self.paths[file],
            metadata=self.metadata[file],
            memory_map=True,
            read_dictionary=coded or None,
            coerce_int96_timestamp_unit="us",
        )

    def looks_coded(self, file: int, name: str) -> bool:
        """Whether the file stores a string column as dictionary codes: under four bytes a value, the size that alone
        the length of a plain string takes."""
        if (file, name) not in self._coded:
            metadata = self.metadata[file]
            place = leaf(metadata, name)
            sizes = 0 if place is None else sum(_size(metadata, g, place) for g in range(metadata.num_row_groups))
            self._coded[file, name] = place is not None and metadata.num_rows > 0 and sizes < 4 * metadata.num_rows
        return self._coded[file, name]

    def stats(self, name: str) -> Stats | None:
        """Range and NULLs of all rows, by the files' own words; None where one of them leaves doubt."""
        ranges = self.ranges(name)
        if ranges is None:
            return None
        lows = [r.low for r in ranges if r.low is not None]
        highs = [r.high for r in ranges if r.high is not None]
        stats = Stats(nulls=sum(r.nulls for r in ranges))
        if lows:
            stats.low, stats.high = min(lows), max(highs)
        return stats

    def ranges(self, name: str) -> list[Range] | None:
        """Range and NULLs of each of the ``groups``. Strings are left out (may be cut), and floats (may hide NaN)."""
        if name not in self._ranges:
            self._ranges[name] = self._from_metadata(name)
        return self._ranges[name]

    def _from_metadata(self, name: str) -> list[Range] | None:
        sql_type = self.types[name]
        if not supported(sql_type) or not sql_type.is_exact:
            return None
        ranges: list[Range] = []
        places = [leaf(metadata, name) for metadata in self.metadata]
        for group in self.groups:
            place, metadata = places[group.file], self.metadata[group.file]
            if place is None:
                return None
            found = metadata.row_group(group.number).column(place).statistics
            if found is None or not found.has_null_count:
                return None
            if found.null_count == group.rows:
                ranges.append(Range(None, None, group.rows))
                continue
            if not found.has_min_max:
                return None
            kind = metadata.schema.column(place)
            low, high = _exact(found, "min", kind), _exact(found, "max", kind)
            if low is None or high is None:
                return None
            ranges.append(Range(low, high, found.null_count))
        return ranges

    def chunk_bytes(self, name: str, group: Group) -> int:
        """Bytes of a column in a row group, before compression."""
        key = group.file, name
        if key not in self._places:
            self._places[key] = leaf(self.metadata[group.file], name)
        place = self._places[key]
        return 0 if place is None else _size(self.metadata[group.file], group.number, place)


def _tasks(names: list[str], groups: Sequence[Group]) -> list[tuple[int, list[int], str, int]]:
    """What to read: (file, row groups, column, order). Small row groups go together; a column at a time stays in
    cache between decoding and encoding."""
    tasks: list[tuple[int, list[int], str, int]] = []
    numbers: list[int] = []
    order = held = 0
    for place, group in enumerate(groups):
        numbers.append(group.number)
        held += group.rows
        if held >= _TASK_ROWS or place + 1 == len(groups) or groups[place + 1].file != group.file:
            tasks += [(group.file, numbers, name, order) for name in names]
            order += 1
            numbers, held = [], 0
    return tasks


def _size(metadata: Any, group: int, place: int) -> int:
    return int(metadata.row_group(group).column(place).total_uncompressed_size)


def _exact(found: Any, name: str, kind: Any) -> int | None:
    """The statistic ``min`` or ``max`` as a physical value; None where the file's form leaves doubt. Older versions of
    pyarrow (21) refuse to give a decimal's value, so the raw one is asked for."""
    if found.physical_type not in ("INT32", "INT64", "BOOLEAN"):
        return None
    logical = kind.logical_type.type
    if logical in ("NONE", "DECIMAL", "DATE"):
        return int(getattr(found, f"{name}_raw"))
    if logical == "INT":
        return int(getattr(found, name))
    if logical == "TIMESTAMP":
        factor = {"microseconds": 1, "milliseconds": 1000}.get(json.loads(kind.logical_type.to_json())["timeUnit"])
        return None if factor is None else int(getattr(found, f"{name}_raw")) * factor
    return None


def _metadata(path: str) -> Any:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.read_metadata(path, memory_map=True)
    except FileNotFoundError:
        raise FileError(f'there is no file "{path}"') from None
    except PermissionError:
        raise FileError(f'"{path}" may not be read by this user') from None
    except (pa.ArrowException, OSError) as error:
        raise FileError(f'"{path}" is not a readable Parquet file: {_first_line(error)}') from None


def _columns(path: str, metadata: Any) -> dict[str, SqlType]:
    try:
        schema = metadata.schema.to_arrow_schema()
    except Exception as error:
        raise FileError(f'"{path}" has a schema that can\'t be read: {_first_line(error)}') from None
    columns: dict[str, SqlType] = {}
    for field in schema:
        if field.name in columns:
            raise FileError(f'"{path}" has two columns "{field.name}"')
        columns[field.name] = from_arrow(field.type)
    return columns


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0]


def _compatible(mine: SqlType, first: SqlType) -> bool:
    """Whether values of another file's column can stand in the column of the first file."""
    if mine == first or (mine.is_integer and first.is_integer):
        return True
    return mine.is_decimal and first.is_decimal and mine.scale == first.scale


def _relabel(piece: ColumnData, sql_type: SqlType, path: str, name: str) -> ColumnData:
    if piece.type != sql_type:
        bottom, top = sql_type.limits
        low, high = piece.stats.low, piece.stats.high
        if low is not None and high is not None and (low < bottom or high > top):
            raise FileError(
                f'column "{name}" of "{path}" holds values that don\'t fit {sql_type}, the first file\'s type'
            )
        piece.type = sql_type
    return piece
