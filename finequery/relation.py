"""A query's answer: bound already, computed when first asked for, kept from then on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

from finequery import display
from finequery.errors import NotSupportedError
from finequery.operators import watch
from finequery.types import INTEGER, Interval, SqlType

if TYPE_CHECKING:
    import numpy
    import pandas
    import polars
    import pyarrow

    from finequery.connection import Connection
    from finequery.device_export import DeviceResult
    from finequery.energy import Energy
    from finequery.interop import Array
    from finequery.operators.column import Frame
    from finequery.operators.context import Context
    from finequery.operators.table import Table
    from finequery.plan_cache import Plan
    from finequery.planner.timeline import Timeline
    from finequery.session import Session

Row = tuple[Any, ...]

#: Most rows that ``show`` and ``repr`` print, half from the start and half from the end.
SHOWN_ROWS = 20

#: Rows whose conversion is not worth being watched.
FEW = 10_000
_NOTHING: AbstractContextManager[Any] = nullcontext()

#: Rows turned into Python values at once, when they are fetched one by one.
CHUNK = 1024


class Relation:
    """The rows of a query.

    The first call that needs rows runs the query. ``fetchone``, ``fetchmany`` and iteration go on where the last of
    them stopped; ``arrow``, ``df``, ``pl``, ``numpy`` and ``show`` always give everything.
    """

    def __init__(
        self,
        session: Session,
        plan: Plan | None,
        values: dict[int | str, Any],
        variables: Mapping[str, Any] | None = None,
    ) -> None:
        self.plan = plan
        #: Rows that INSERT, CREATE TABLE AS and COPY changed or wrote; None for others.
        self.changed: int | None = None
        #: The connection that gave it: one that nobody holds any more is closed.
        self.connection: Connection | None = None
        #: Seconds after which its query, or a conversion of its rows, is stopped; None: as the setting says; 0: never.
        self.timeout: float | None = None
        self._session = session
        self._values = values
        self._variables = variables or {}  # of the caller, in case the query has to be planned again
        self._frame: Frame | None = None
        self._ran: Context | None = None
        self._constant: list[Row] | None = None
        self._next = 0  # first row that was not fetched from the frame
        self._fetched: list[Row] = []
        self._taken = 0  # how many of _fetched the user has
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

    def _working(self) -> AbstractContextManager[Any]:
        """What runs inside can be interrupted, and has the relation's timeout; not worth it for few rows that are
        there."""
        if self._frame is not None and self._frame.length <= FEW:
            return _NOTHING
        return self._session.working("" if self.plan is None else self.plan.text, self.timeout)

    def _computed(self) -> Frame:
        if self._frame is None:
            if self._constant is not None:
                self._frame = self._constant_frame()
            else:
                assert self.plan is not None
                with self._session.lock, self._working():
                    self._refresh()
                    self._frame = self._session.execute(self.plan, self._values)
                    self._ran = self._session.ran
                    self._variables = {}
        return self._frame

    def _refresh(self) -> None:
        """Plan again if a table was changed since."""
        assert self.plan is not None
        self.plan = self._session.refreshed(self.plan, self._variables)
        self._names, self._types = self.plan.query.names, self.plan.query.types

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
        from finequery.operators.slice import slice_frame

        with self._working():
            frame, ids = self._computed(), self._ids()
            if start or stop is not None:
                frame = slice_frame(frame, ids, start, frame.length if stop is None else stop)
            return frame_to_python(frame, ids)

    def __len__(self) -> int:
        """Number of rows."""
        return len(self._constant) if self._constant is not None else self._computed().length

    def __bool__(self) -> bool:
        return True

    # Rows, one after another

    def fetchall(self) -> list[Row]:
        """All rows that were not fetched yet."""
        rows = self._fetched[self._taken :]
        rest = self._slice(self._next, None)
        self._next, self._fetched, self._taken = len(self), [], 0
        return rows + rest if rows else rest

    def fetchmany(self, size: int = 1) -> list[Row]:
        """The next ``size`` rows, fewer at the end."""
        rows = self._fetched[self._taken : self._taken + max(0, size)]
        self._taken += len(rows)
        if len(rows) < size:
            missing = size - len(rows)
            self._fetched = self._slice(self._next, self._next + max(missing, CHUNK))
            self._next += len(self._fetched)
            self._taken = min(missing, len(self._fetched))
            rows += self._fetched[: self._taken]
        return rows

    def fetchone(self) -> Row | None:
        """The next row, None after the last."""
        rows = self.fetchmany(1)
        return rows[0] if rows else None

    def __iter__(self) -> Iterator[Row]:
        while rows := self.fetchmany(CHUNK):
            yield from rows

    # Everything at once

    def arrow(self) -> pyarrow.Table:
        """A pyarrow Table."""
        from finequery.operators.export import frame_to_arrow

        with self._working():
            return frame_to_arrow(self._computed(), self._ids(), self.columns)

    def record_batches(self, rows: int = 65536) -> pyarrow.RecordBatchReader:
        """A pyarrow RecordBatchReader with at most ``rows`` rows in a batch."""
        return self.arrow().to_reader(max_chunksize=rows)

    def df(self) -> pandas.DataFrame:
        """A pandas DataFrame."""
        from finequery.operators.export import arrow_to_pandas

        with self._working():
            return arrow_to_pandas(self.arrow())

    def pl(self) -> polars.DataFrame:
        """A polars DataFrame."""
        import polars

        with self._working():
            table = self.arrow()
            frame = watch.aside(table.num_rows, polars.from_arrow, table)
        assert isinstance(frame, polars.DataFrame)
        return frame

    def numpy(self) -> dict[str, numpy.ndarray]:
        """Column name to array; a masked array where the column has NULLs."""
        from finequery.operators.export import frame_to_numpy

        with self._working():
            return frame_to_numpy(self._computed(), self._ids(), self.columns)

    def arrays(self, device: str = "cpu") -> dict[str, Array]:
        """Column name to an array that CuPy, PyTorch, JAX and numpy take without a copy where they can. ``device``
        says where DLPack finds them, ``cpu`` or ``cuda``; ``__cuda_array_interface__`` is always the GPU's. Types are
        those of ``numpy``, with dates and times as integer microseconds; where there are NULLs, ``valid`` of the array
        is False."""
        from finequery.interop import arrays

        frame = self._computed()
        return arrays([frame.columns[i] for i in self._ids()], self.columns, self._blocks_of_tables(), device)

    def _blocks_of_tables(self) -> set[int]:
        """The identities of the memory blocks of all columns that the query read from tables."""
        from finequery.jetson.memory import block_of

        blocks: set[int] = set()
        nodes: list[Any] = [] if self.plan is None else [self.plan.logical]
        while nodes:
            node = nodes.pop()
            nodes.extend(node.inputs)
            if hasattr(node, "table"):
                columns = (node.table.encoded(name) for name, _ in node.table.columns)
                blocks |= {id(block_of(column.data)) for column in columns if column is not None}
        return blocks

    def __arrow_c_device_array__(self, requested_schema: object | None = None, **options: Any) -> tuple[object, object]:
        """Arrow's device interface, all columns as one record batch: on the GPU for sessions that use it, else on the
        CPU."""
        there = self._on_device()
        if there is not None:
            return there.array()
        table = self.arrow().combine_chunks()
        batches = table.to_batches()
        if not batches:
            import pyarrow

            batches = [pyarrow.RecordBatch.from_pylist([], table.schema)]
        return batches[0].__arrow_c_device_array__(requested_schema, **options)

    def __arrow_c_device_stream__(self, requested_schema: object | None = None, **options: Any) -> object:
        """Arrow's device interface, as a stream of one record batch on the GPU."""
        there = self._on_device()
        if there is None:
            raise NotSupportedError(
                "The result is not on a GPU", hint="SET device = 'gpu', or take __arrow_c_stream__ of it."
            )
        return there.stream()

    def _on_device(self) -> DeviceResult | None:
        """The result where the GPU reaches it, for sessions that use one."""
        device = self._session.device()
        if device is None or device.info.simulated:
            return None
        from finequery.device_export import DeviceResult

        return DeviceResult(device, self._computed(), self._ids(), self.columns)

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        """Arrow's PyCapsule interface: ``pyarrow.table(relation)``, ``polars.DataFrame(relation)``, …"""
        return self.record_batches().__arrow_c_stream__(requested_schema)

    def as_table(self, name: str) -> Table:
        """The rows as a table of another query."""
        if self._table is None:
            from finequery.commands import stored_columns, unique_names
            from finequery.operators.table import MemoryTable

            frame = self._computed()
            table = MemoryTable(name, tuple(zip(unique_names(self.columns), self.types)))
            table.append(stored_columns(frame, self._ids()))
            self._table = table
        return self._table

    # To look at

    def shown_rows(self, start: int = 0, stop: int | None = None) -> list[Row]:
        """Rows to be printed: intervals keep their months, which Python's timedelta does not have."""
        rows = self._slice(start, stop)
        for place, type_ in enumerate(self._types):
            if type_.name == "INTERVAL" and self._constant is None:
                column = self._computed().columns[self._ids()[place]]
                pairs = column.data[: 2 * column.length].reshape(-1, 2)[start:stop]
                parts = pairs[:, 0].astype("int32"), pairs[:, 0] >> 32, pairs[:, 1]
                spans = map(Interval, *(part.tolist() for part in parts))
                rows = [
                    row if row[place] is None else (*row[:place], span, *row[place + 1 :])
                    for row, span in zip(rows, spans)
                ]
        return rows

    def _sample(self, rows: int) -> tuple[list[Row], list[Row], int]:
        total = len(self)
        if total <= rows:
            return self.shown_rows(), [], total
        return self.shown_rows(0, (rows + 1) // 2), self.shown_rows(total - rows // 2), total

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
            raise NotSupportedError("Only a query has a plan to explain")
        if self._frame is None:  # else its variables are gone: what ran is explained
            self._refresh()
        return self._session.explain(self.plan, self._values, analyze)

    def timeline(self) -> Timeline:
        """When each pipeline ran on which device: ``text()``, ``svg()``, ``save("a.svg")`` or ``"a.png"``. The query
        is run unless it was. On a simulated board the times are the simulator's, and the picture says so.

        Raises NotSupportedError where there is no query.
        """
        if self.plan is None:
            raise NotSupportedError("Only a query has a timeline")
        self._computed()
        assert self._ran is not None
        from finequery.planner.timeline import of_run

        return of_run(self.plan.root, self._ran)

    def energy(self, at_least_s: float = 2.0, at_most_s: float = 30.0) -> Energy:
        """The joules of a run: the query runs again and again, for ``at_least_s`` seconds and until the figure means
        something, at most ``at_most_s``; the machine's rest is measured before and shown (finequery/energy.py). On a
        simulated board the joules are the simulator's, and it says so. Without a sensor ``note`` says what is missing.

        Raises NotSupportedError where there is no query.
        """
        if self.plan is None:
            raise NotSupportedError("Only a query has an energy")
        self._computed()
        assert self._ran is not None
        from finequery.energy import measure, of_simulated

        simulated = getattr(self._ran.scheduler, "run", None)
        if simulated is not None:
            return of_simulated(simulated)
        plan = self.plan
        return measure(lambda: self._session.execute(plan, self._values), None, at_least_s, at_most_s)

    def __repr__(self) -> str:
        return self.box() if self._names else "<finequery.Relation without rows>"

    def _repr_html_(self) -> str:
        return display.html(self.columns, self.types, *self._sample(SHOWN_ROWS))


_ARROW = {"BIGINT": "int64", "BOOLEAN": "bool_"}
