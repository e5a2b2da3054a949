"""A query's answer: bound already, computed when first asked for, kept from then on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from finequery import display
from finequery.types import INTEGER, SqlType

if TYPE_CHECKING:
    import numpy
    import pandas
    import polars
    import pyarrow

    from finequery.operators.column import Frame
    from finequery.operators.table import Table
    from finequery.plan_cache import Plan
    from finequery.session import Session

Row = tuple[Any, ...]

#: Most rows that ``show`` and ``repr`` print, half from the start and half from the end.
SHOWN_ROWS = 20


class Relation:
    """The rows of a query.

    The first call that needs rows runs the query. ``fetchone``, ``fetchmany`` and iteration go on where the last of
    them stopped; ``arrow``, ``df``, ``pl``, ``numpy`` and ``show`` always give everything.
    """

    def __init__(self, session: Session, plan: Plan | None, values: dict[int | str, Any]) -> None:
        self.plan = plan
        #: Rows that INSERT, CREATE TABLE AS and COPY changed or wrote; None for others.
        self.changed: int | None = None
        self._session = session
        self._values = values
        self._frame: Frame | None = None
        self._constant: list[Row] | None = None
        self._next = 0
        self._table: Table | None = None
        if plan is not None:
            self._names: tuple[str, ...] = plan.query.names
            self._types: tuple[SqlType, ...] = plan.query.types

    @classmethod
    def constant(
        cls, session: Session, names: Sequence[str], types: Sequence[SqlType], rows: Sequence[Sequence[Any]]
    ) -> Relation:
        """Rows that are there already, such as those of DESCRIBE."""
        relation = cls(session, None, {})
        relation._names, relation._types = tuple(names), tuple(types)
        relation._constant = [tuple(row) for row in rows]
        return relation

    @property
    def columns(self) -> list[str]:
        """Names of the columns."""
        return list(self._names)

    @property
    def types(self) -> list[SqlType]:
        """SQL types of the columns; ``str()`` gives their names."""
        return [INTEGER if t.name == "NULL" else t for t in self._types]

    @property
    def description(self) -> list[tuple[Any, ...]] | None:
        """Names and types as PEP 249 wants them; None for a statement without rows."""
        return [(n, t, None, None, None, None, None) for n, t in zip(self.columns, self.types)] or None

    def execute(self) -> Relation:
        """Run the query now unless it was run before."""
        if self._constant is None:
            self._computed()
        return self

    def _computed(self) -> Frame:
        if self._frame is None:
            if self._constant is not None:
                self._frame = self._constant_frame()
            else:
                assert self.plan is not None
                with self._session.lock:
                    self.plan = self._session.refreshed(self.plan)
                    self._frame = self._session.execute(self.plan, self._values)
        return self._frame

    def _ids(self) -> list[int]:
        if self.plan is None:
            return list(range(len(self._names)))
        return [column.id for column in self.plan.logical.schema]

    def _constant_frame(self) -> Frame:
        import pyarrow

        from finequery.operators.column import Frame
        from finequery.operators.table import ArrowTable

        rows = self._constant or []
        kinds = [pyarrow.string() if t.is_string else getattr(pyarrow, _ARROW[t.name])() for t in self._types]
        arrays = [pyarrow.array([row[i] for row in rows], kind) for i, kind in enumerate(kinds)]
        names = [str(i) for i in range(len(arrays))]
        columns = ArrowTable("", pyarrow.table(arrays, names)).load(names) if names else []
        return Frame(dict(enumerate(columns)), len(rows))

    def _slice(self, start: int, stop: int | None) -> list[Row]:
        """Rows from ``start`` up to ``stop`` as Python values."""
        if self._constant is not None:
            return self._constant[start:stop]
        from finequery.operators.export import frame_to_python

        frame = self._computed()
        end = frame.length if stop is None else min(stop, frame.length)
        return frame_to_python(frame, self._ids(), start, end) if start < end else []

    def __len__(self) -> int:
        """Number of rows."""
        return len(self._constant) if self._constant is not None else self._computed().length

    def __bool__(self) -> bool:
        return True

    # Rows, one after another

    def fetchall(self) -> list[Row]:
        """All rows that were not fetched yet."""
        rows = self._slice(self._next, None)
        self._next += len(rows)
        return rows

    def fetchmany(self, size: int = 1) -> list[Row]:
        """The next ``size`` rows, fewer at the end."""
        rows = self._slice(self._next, self._next + max(0, size))
        self._next += len(rows)
        return rows

    def fetchone(self) -> Row | None:
        """The next row, None after the last."""
        rows = self.fetchmany(1)
        return rows[0] if rows else None

    def __iter__(self) -> Iterator[Row]:
        while rows := self.fetchmany(4096):
            yield from rows

    # Everything at once

    def arrow(self) -> pyarrow.Table:
        """A pyarrow Table."""
        from finequery.operators.export import frame_to_arrow

        return frame_to_arrow(self._computed(), self._ids(), self.columns)

    def record_batches(self, rows: int = 65536) -> pyarrow.RecordBatchReader:
        """A pyarrow RecordBatchReader with at most ``rows`` rows in a batch."""
        from finequery.operators.export import frame_to_batches

        return frame_to_batches(self._computed(), self._ids(), self.columns, rows)

    def df(self) -> pandas.DataFrame:
        """A pandas DataFrame."""
        return self.arrow().to_pandas()

    def pl(self) -> polars.DataFrame:
        """A polars DataFrame."""
        import polars

        frame = polars.from_arrow(self.arrow())
        assert isinstance(frame, polars.DataFrame)
        return frame

    def numpy(self) -> dict[str, numpy.ndarray]:
        """Column name to array; a masked array where the column has NULLs."""
        from finequery.operators.export import frame_to_numpy

        return frame_to_numpy(self._computed(), self._ids(), self.columns)

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        """Arrow's PyCapsule interface: ``pyarrow.table(relation)``, ``polars.DataFrame(relation)``, …"""
        return self.record_batches().__arrow_c_stream__(requested_schema)

    def as_table(self, name: str) -> Table:
        """The rows as a table of another query."""
        if self._table is None:
            from finequery.commands import stored_columns, unique_names
            from finequery.operators.table import MemoryTable

            frame = self._computed()
            columns = tuple(zip(unique_names(self.columns), self.types))
            self._table = MemoryTable(name, columns, stored_columns(frame, self._ids()))
        return self._table

    # To look at

    def _sample(self, rows: int) -> tuple[list[Row], list[Row], int]:
        total = len(self)
        if total <= rows:
            return self._slice(0, None), [], total
        return (self._slice(0, (rows + 1) // 2), self._slice(total - rows // 2, None), total)

    def box(self, max_rows: int = SHOWN_ROWS, max_width: int = 120) -> str:
        """The first and last rows in a frame."""
        head, tail, total = self._sample(max_rows)
        return display.box(self.columns, self.types, head, tail, total, max_width)

    def show(self, max_rows: int = SHOWN_ROWS, max_width: int | None = None) -> None:
        """Print the first and last rows."""
        if max_width is None:
            import shutil

            max_width = max(40, shutil.get_terminal_size((120, 24)).columns)
        print(self.box(max_rows, max_width))

    def explain(self, analyze: bool = False) -> str:
        """The plan; with ``analyze`` the query is run and what it took stands beside what was predicted."""
        if self.plan is None:
            from finequery.errors import NotSupportedError

            raise NotSupportedError("Only a query has a plan to explain")
        return self._session.explain(self.plan, self._values, analyze)

    def __repr__(self) -> str:
        return self.box() if self._names else "<finequery.Relation without rows>"

    def _repr_html_(self) -> str:
        return display.html(self.columns, self.types, *self._sample(SHOWN_ROWS))


_ARROW = {"BIGINT": "int64", "BOOLEAN": "bool_"}
