"""Parquet files as a table: only the columns that a query reads, row groups decoded and encoded in parallel."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from finequery.errors import FileError
from finequery.operators import files, watch
from finequery.operators.arrow_types import from_arrow, supported
from finequery.operators.column import ColumnData, Stats
from finequery.operators.parquet_decode import decode, leaf
from finequery.operators.table import KeptTable
from finequery.operators.threads import parallel
from finequery.types import SqlType

if TYPE_CHECKING:
    import pyarrow.parquet as pq

#: Rows worth a task of their own: smaller row groups are read together.
_TASK_ROWS = 65536


class ParquetTable(KeptTable):
    """One or more Parquet files with the columns of the first, matched by name (columns that only others have are left
    out). Changed files, and files that a glob newly matches, are seen at the next ``version``."""

    def __init__(self, source: str | os.PathLike | Sequence[str | os.PathLike], name: str | None = None):
        self._source = source
        super().__init__(name or os.path.basename(str(source)).partition(".")[0] or "parquet", [])
        self._seen: tuple[tuple[str, int, int], ...] = ()
        self._version = 0
        self._open()

    def _open(self) -> None:
        paths = files.expand(self._source)
        self._seen = files.fingerprint(paths)
        self._paths = paths
        self._metadata = parallel(_metadata, paths)
        self._types = [_columns(path, metadata) for path, metadata in zip(paths, self._metadata)]
        self.columns = tuple(self._types[0].items())
        for path, types in zip(paths[1:], self._types[1:]):
            for column, sql_type in self.columns:
                if column not in types:
                    raise FileError(f'"{path}" has no column "{column}", which "{paths[0]}" has')
                if not _compatible(types[column], sql_type):
                    raise FileError(
                        f'column "{column}" has type {types[column]} in "{path}", but {sql_type} in "{paths[0]}"'
                    )
        self._kept.clear()
        self._early: dict[str, Stats | None] = {}

    @property
    def version(self) -> int:  # type: ignore[override]
        """Grows when a file changed since it was last asked for; the columns are then read anew."""
        with self._lock:
            if files.fingerprint(self._paths_now()) != self._seen:
                self._open()
                self._version += 1
            return self._version

    def _paths_now(self) -> list[str]:
        return files.expand(self._source)

    @property
    def rows(self) -> int:
        return sum(m.num_rows for m in self._metadata)

    def _encode(self, names: list[str]) -> list[ColumnData]:
        coded = {n for n in names if self.type_of(n).is_string and self._all_coded(n)}
        wanted = [(n, self.type_of(n), self.stats(n)) for n in names if n in coded or self.type_of(n).is_exact]
        done = decode(self._paths, self._metadata, wanted)
        rest = [n for n in names if n not in done]
        done.update(zip(rest, self._through_arrow(rest)))
        if files.fingerprint(self._paths) != self._seen:
            raise FileError(f'the files of "{self.name}" changed while they were read', hint="Run the query again.")
        return [done[n] for n in names]

    def _through_arrow(self, names: list[str]) -> list[ColumnData]:
        """The columns by way of Arrow arrays: whatever types, encodings and codecs Arrow knows."""
        from finequery.operators.concat import concat_columns, empty_column

        pieces: dict[str, list[tuple[int, ColumnData]]] = {name: [] for name in names}
        plain: set[str] = set()  # string columns found not to repeat: later row groups need not try a dictionary
        local = threading.local()

        def read(task: tuple[int, list[int], str, int]) -> None:
            file, groups, name, order = task
            from finequery.operators.encode import encode

            path = self._paths[file]
            try:
                key, reader = getattr(local, "open", (None, None))
                if key != file:
                    reader = self._reader(file, names)
                    local.open = (file, reader)
                assert reader is not None
                table = reader.read_row_groups(groups, columns=[name], use_threads=False)
            except (OSError, ValueError) as error:
                if isinstance(error, FileNotFoundError) or not os.path.exists(path):
                    raise FileError(f'"{path}" is gone since its table was made') from None
                raise FileError(f'"{path}", row groups {groups[0]} to {groups[-1]}: {_first_line(error)}') from None
            piece = encode(table.column(name), self._types[file][name], name, part=True, plain=name in plain)
            if piece.kind == "string":
                plain.add(name)
            pieces[name].append((order, _relabel(piece, self.type_of(name), path, name)))
            if stage is not None:
                stage.done += 1

        tasks = self._tasks(names)
        stage = watch.counting(len(tasks)) if tasks else None
        parallel(read, tasks)

        def join(name: str) -> ColumnData:
            parts = [piece for _, piece in sorted(pieces.pop(name), key=lambda p: p[0])]
            return concat_columns(parts) if parts else empty_column(self.type_of(name))

        return parallel(join, names)

    def _reader(self, file: int, names: list[str]) -> pq.ParquetFile:
        import pyarrow.parquet as pq

        coded = [n for n in names if self._types[file][n].is_string and self._looks_coded(file, n)]
        return pq.ParquetFile(
            self._paths[file],
            metadata=self._metadata[file],
            memory_map=True,
            read_dictionary=coded or None,
            coerce_int96_timestamp_unit="us",
        )

    def _all_coded(self, name: str) -> bool:
        return all(self._looks_coded(file, name) for file, m in enumerate(self._metadata) if m.num_rows)

    def _looks_coded(self, file: int, name: str) -> bool:
        """Whether the file stores a string column as dictionary codes: under four bytes a value, the size that alone
        the length of a plain string takes."""
        metadata = self._metadata[file]
        place = leaf(metadata, name)
        if place is None or metadata.num_rows == 0:
            return False
        total = sum(metadata.row_group(g).column(place).total_uncompressed_size for g in range(metadata.num_row_groups))
        return total < 4 * metadata.num_rows

    def _tasks(self, names: list[str]) -> list[tuple[int, list[int], str, int]]:
        """What to read: (file, row groups, column, order). Small row groups go together; a column at a time stays in
        cache between decoding and encoding."""
        tasks: list[tuple[int, list[int], str, int]] = []
        order = 0
        for file, metadata in enumerate(self._metadata):
            groups: list[int] = []
            held = 0
            for g in range(metadata.num_row_groups):
                groups.append(g)
                held += metadata.row_group(g).num_rows
                if held >= _TASK_ROWS or g + 1 == metadata.num_row_groups:
                    tasks += [(file, groups, name, order) for name in names]
                    order += 1
                    groups, held = [], 0
        return tasks

    def stats(self, name: str) -> Stats | None:
        """From the loaded column, else from the row groups' statistics."""
        kept = self._kept.get(name)
        if kept is not None:
            return kept.stats
        if name not in self._early:
            self._early[name] = self._from_metadata(name)
        return self._early[name]

    def _from_metadata(self, name: str) -> Stats | None:
        """Range and NULLs by the files' own words. Strings are left out (may be cut), and floats (may hide NaN)."""
        sql_type = self.type_of(name)
        if not supported(sql_type) or not sql_type.is_exact:
            return None
        stats = Stats()
        lows: list[int] = []
        highs: list[int] = []
        for metadata in self._metadata:
            place = leaf(metadata, name)
            if place is None:
                return None
            kind = metadata.schema.column(place)
            for g in range(metadata.num_row_groups):
                group = metadata.row_group(g)
                if group.num_rows == 0:
                    continue
                found = group.column(place).statistics
                if found is None or not found.has_null_count:
                    return None
                stats.nulls += found.null_count
                if found.null_count == group.num_rows:
                    continue
                if not found.has_min_max:
                    return None
                low, high = _exact(found, "min", kind), _exact(found, "max", kind)
                if low is None or high is None:
                    return None
                lows.append(low)
                highs.append(high)
        if lows:
            stats.low, stats.high = min(lows), max(highs)
        return stats


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
