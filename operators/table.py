"""Where rows come from: tables in memory and tables outside (Arrow, pandas, Parquet, CSV), behind one interface."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from finequery.errors import InternalError
from finequery.jetson import accounts, memory
from finequery.operators import watch
from finequery.operators.column import ColumnData, Stats
from finequery.operators.threads import parallel
from finequery.types import SqlType

if TYPE_CHECKING:
    import pyarrow as pa


class RangeTest(NamedTuple):
    """A comparison (eq, lt, le, gt, ge) of a column with a physical value, which every row asked for passes."""

    name: str
    comparison: str
    value: int

    def possible(self, low: int, high: int) -> bool:
        """Whether a value between the bounds may pass."""
        least, most = {
            "eq": (self.value, self.value),
            "lt": (low, self.value - 1),
            "le": (low, self.value),
            "gt": (self.value + 1, high),
            "ge": (self.value, high),
        }[self.comparison]
        return least <= high and most >= low


class Batches(Protocol):
    """Rows of a table that don't fit into memory. Sizes are in bytes, by estimate. ``skipped``: parts of the table (row
    groups) that hold no row asked for; ``groups``: those left."""

    skipped: int

    @property
    def groups(self) -> Sequence[Any]: ...
    @property
    def rows(self) -> int: ...
    @property
    def nbytes(self) -> int: ...
    @property
    def largest(self) -> int: ...
    def cut(self, room: int) -> list[Any]: ...
    def read(self, groups: Any) -> list[ColumnData]: ...


class Table:
    """A named set of columns. Subclasses load and encode columns when they are first asked for."""

    name: str
    columns: tuple[tuple[str, SqlType], ...]
    version: int = 0  # grows with every change of the contents

    @property
    def rows(self) -> int:
        """Number of rows."""
        raise NotImplementedError

    def load(self, names: Sequence[str]) -> list[ColumnData]:
        """The encoded columns, in the order asked for; kept for the next time where the contents can't change."""
        raise NotImplementedError

    def batches(self, names: Sequence[str], tests: Sequence[RangeTest], evict: bool = True) -> Batches | None:
        """The rows in batches, where the columns would not fit beside what is in use; None: they are to be loaded. Of
        rows that don't pass the ``tests``, any may be left out. ``evict``: kept columns may make room."""
        return None

    def stats(self, name: str) -> Stats | None:
        """What is known of a column without loading it (or after it was loaded); None: nothing."""
        return None

    def encoded(self, name: str) -> ColumnData | None:
        """The column if it is encoded already."""
        return None


class KeptTable(Table):
    """Base of tables that encode columns when they are first asked for and keep them. Subclasses give ``_encode``."""

    def __init__(self, name: str, columns: Sequence[tuple[str, SqlType]]):
        self.name = name
        self.columns = tuple(columns)
        self._kept: dict[str, ColumnData] = {}
        self._lock = threading.RLock()

    def _encode(self, names: list[str]) -> list[ColumnData]:
        """Read and encode these columns."""
        raise NotImplementedError

    def _size(self) -> int:
        """About how many rows there are."""
        return self.rows

    def type_of(self, name: str) -> SqlType:
        """The type of a column."""
        for column, sql_type in self.columns:
            if column == name:
                return sql_type
        raise InternalError(f'table "{self.name}" has no column "{name}"')

    def load(self, names: Sequence[str]) -> list[ColumnData]:
        from finequery.operators.arrow_types import require

        with self._lock:
            missing = [n for n in dict.fromkeys(names) if n not in self._kept]
            for name in missing:
                require(self.type_of(name), name, self.name)
            if missing:
                with watch.stage(f"reading {self.name}", 1):
                    self._kept.update(zip(missing, watch.aside(self._size(), self._encode, missing)))
            for name in names:
                self._kept[name] = self.reachable(self._kept[name])
            return [self._kept[name] for name in names]

    def reachable(self, column: ColumnData) -> ColumnData:
        """A kept column where the query's kernels reach it."""
        return settled(column)

    def stats(self, name: str) -> Stats | None:
        kept = self._kept.get(name)
        return None if kept is None else kept.stats

    def encoded(self, name: str) -> ColumnData | None:
        return self._kept.get(name)

    def release(self) -> None:
        """Give the memory of the encoded columns back; they are encoded anew when asked for."""
        with self._lock:
            self._kept.clear()


class MemoryTable(Table):
    """A table of the database itself. Rows are appended and never change; readers see whole appends."""

    def __init__(self, name: str, columns: Sequence[tuple[str, SqlType]]):
        from finequery.operators.concat import empty_column

        self.name = name
        self.columns = tuple(columns)
        self._data = [empty_column(sql_type) for _, sql_type in self.columns]
        self._places = {name: place for place, (name, _) in enumerate(self.columns)}
        self._pending: list[list[ColumnData]] = []  # appends not joined to the data yet
        self._rows = 0
        self._lock = threading.RLock()

    @property
    def rows(self) -> int:
        return self._rows

    def append(self, columns: Sequence[ColumnData]) -> None:
        """Add rows: one column for each of the table's, in its order and of its types."""
        if len(columns) != len(self.columns) or len({c.length for c in columns}) > 1:
            raise InternalError(f'rows for "{self.name}" need {len(self.columns)} columns of one length')
        for column, (name, sql_type) in zip(columns, self.columns):
            if column.type != sql_type and column.type.name != "NULL":
                raise InternalError(f'column "{name}" of "{self.name}" has type {sql_type}, not {column.type}')
        if not columns or columns[0].length == 0:
            return
        with self._lock:
            self._pending.append(list(columns))
            self._rows += columns[0].length
            self.version += 1

    def copy(self) -> MemoryTable:
        """Another table with the same rows. They share memory; what is appended to one is not in the other."""
        other = MemoryTable(self.name, self.columns)
        with self._lock:
            other._data, other._pending = self._data, list(self._pending)
            other._rows, other.version = self._rows, self.version
        return other

    @classmethod
    def restored(cls, name: str, columns: Sequence[tuple[str, SqlType]], data: list[ColumnData]) -> MemoryTable:
        """A table of columns that ``load`` of another gave: they are compact already."""
        table = cls(name, columns)
        table._data, table._rows = data, data[0].length if data else 0
        return table

    def load(self, names: Sequence[str]) -> list[ColumnData]:
        with self._lock:
            self._join()
            places = [self._places[name] for name in names]
            for place in places:
                self._data[place] = settled(self._data[place])
            return [self._data[place] for place in places]

    def _join(self) -> None:
        if not self._pending:
            return
        from finequery.operators.concat import compact, concat_columns

        def one(place: int) -> ColumnData:
            parts = [append[place] for append in self._pending]
            if self._data[place].length == 0 and len(parts) == 1 and parts[0].type == self.columns[place][1]:
                return compact(parts[0])
            return compact(concat_columns([self._data[place], *parts]))

        self._data = parallel(one, range(len(self.columns)))
        self._pending = []

    def stats(self, name: str) -> Stats | None:
        found = self.encoded(name)
        return None if found is None else found.stats

    def encoded(self, name: str) -> ColumnData | None:
        if self._pending:
            with self._lock:
                self._join()
        return self._data[self._places[name]]


def settled(column: ColumnData) -> ColumnData:
    """The column where the query's kernels reach it. A session that does not use the GPU may have made it, or a file of
    a database holds it."""
    if memory.default_kind() == "pageable":
        return column
    parts = {"data": column.data, "validity": column.validity, "chars": column.chars}
    found = {name: memory.settled(part) for name, part in parts.items() if part is not None}
    moved = {name: part for name, part in found.items() if part is not parts[name]}
    if not moved:
        return column
    accounts.count("to_device", sum(part.nbytes for part in moved.values()))
    return replace(column, **moved)  # type: ignore[arg-type]


class ArrowTable(KeptTable):
    """An Arrow table (or record batch). Each column is encoded when a query first reads it."""

    def __init__(self, name: str, source: pa.Table | pa.RecordBatch):
        from finequery.operators.arrow_types import from_arrow

        super().__init__(name, [(field.name, from_arrow(field.type)) for field in source.schema])
        self._source: Any = source

    @property
    def rows(self) -> int:
        return self._source.num_rows

    def _encode(self, names: list[str]) -> list[ColumnData]:
        from finequery.operators.encode import encode

        places = {field.name: i for i, field in enumerate(self._source.schema)}
        if len(names) >= 2 and self.rows < 1 << 20:  # short columns: one thread each, else threads within each
            return parallel(lambda n: encode(self._source.column(places[n]), self.type_of(n), n), names)
        return [encode(self._source.column(places[n]), self.type_of(n), n) for n in names]
