"""Sub-tasks that run: what the planner's DAG is made of. Each gives a Frame, once per execution.

A task whose work is a pipeline holds its source, its steps and its sink; the others (sort, window, union, …) are
breakers that see whole frames.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from finequery.errors import DataError
from finequery.operators.arrow_arrays import of_values
from finequery.operators.branches import together
from finequery.operators.build import padded
from finequery.operators.column import ColumnData, Frame
from finequery.operators.context import Context, Measured
from finequery.operators.evaluate import evaluate
from finequery.operators.expr import Column, Expr, WindowCall
from finequery.operators.pipeline import Pipeline, materialize
from finequery.operators.probe import Probe
from finequery.operators.run import filter_tests
from finequery.operators.steps import Step
from finequery.operators.stream import Stream, collect, joined, refused, scanned, upto
from finequery.operators.table import Batches, RangeTest


@dataclass(eq=False)
class Task:
    """Base. ``columns``: what the frame holds, in order. ``estimate``: rows the planner expects. ``node``: the part of
    the logical plan that it stands for, for the planner's own use. ``spoiled``, of a plan's last task: something that a
    stop has left behind may still work on the plan, which is not to be run again."""

    columns: tuple[Column, ...]
    estimate: float | None = field(default=None, kw_only=True)
    node: Any = field(default=None, kw_only=True)
    spoiled: bool = field(default=False, kw_only=True)

    @property
    def inputs(self) -> tuple[Task, ...]:
        return ()

    def execute(self, context: Context) -> Frame:
        raise NotImplementedError

    def stream(self, context: Context, steps: Sequence[Step] = ()) -> Stream | None:
        """The rows frame by frame, where they come out of a scan that does not fit; None: ``execute`` gives them.
        ``steps``: what they pass next, for the scan to leave out what can't pass."""
        return None

    def measure(self, context: Context) -> Measured:
        return context.measured.setdefault(id(self), Measured())


@dataclass(eq=False)
class Scan(Task):
    """Columns of a table."""

    table: Any
    names: tuple[str, ...]
    alias: str = ""

    def batches(self, context: Context, steps: Sequence[Step] = (), evict: bool = True) -> Batches | None:
        """The table's rows in batches, where its columns don't fit (``Table.batches``)."""
        names = {c.id: name for c, name in zip(self.columns, self.names)}
        tests = [RangeTest(names[i], comparison, value) for i, comparison, value in filter_tests(steps, context, names)]
        found: Batches | None = self.table.batches(self.names, tests, evict) if names else None
        return found

    def stream(self, context: Context, steps: Sequence[Step] = ()) -> Stream | None:
        found = self.batches(context, steps)
        if found is None:
            return None
        return Stream(found.rows, scanned(found, self.columns, self.names, context, self.measure(context)))

    def execute(self, context: Context) -> Frame:
        begin = time.perf_counter()
        record = self.measure(context)
        with refused():
            loaded = self.table.load(self.names) if self.names else []
        rows = loaded[0].length if loaded else self.table.rows
        record.rows_out, record.seconds = rows, time.perf_counter() - begin
        return Frame({c.id: data for c, data in zip(self.columns, loaded)}, rows)


@dataclass(eq=False)
class Values(Task):
    """Constant rows."""

    rows: tuple[tuple[Expr, ...], ...]

    def execute(self, context: Context) -> Frame:
        from finequery.operators.expr import Literal

        columns: dict[int, ColumnData] = {}
        for i, column in enumerate(self.columns):
            values = [r[i].value if isinstance(r[i], Literal) else context.constant(r[i]) for r in self.rows]  # type: ignore[attr-defined]
            columns[column.id] = column_of_values(column.type, values)
        return Frame(columns, len(self.rows))


def column_of_values(type_: Any, values: list[Any]) -> ColumnData:
    """A column of physical Python values."""
    from finequery.operators.concat import concat_columns, constant_column
    from finequery.operators.result_columns import exact_column, float_column

    if len(values) == 1 or all(v is None for v in values):
        return constant_column(type_, values[0] if values else None, len(values))
    flags = np.array([v is not None for v in values], dtype=bool)
    if type_.is_float:
        return float_column(type_, np.array([0.0 if v is None else v for v in values], dtype=np.float64), flags)
    if type_.is_exact:
        numbers = [int(v or 0) for v in values]
        small = all(-(2**62) < n < 2**62 for n in numbers)
        return exact_column(type_, np.array(numbers, dtype=np.int64 if small else object), flags)
    if type_.is_string:
        import pyarrow as pa

        from finequery.operators.encode import encode

        return encode(of_values(values, pa.string()), type_)
    return concat_columns([constant_column(type_, v, 1) for v in values])


@dataclass(eq=False)
class Pipe(Task):
    """A pipeline that ends in columns."""

    source: Task
    steps: list[Step]
    pipeline: Pipeline | None = None

    @property
    def inputs(self) -> tuple[Task, ...]:
        return (self.source, *(s.build for s in self.steps if isinstance(s, Probe)))

    def stream(self, context: Context, steps: Sequence[Step] = ()) -> Stream | None:
        stream = self.source.stream(context, self.steps or steps)
        return None if stream is None else Stream(stream.rows, self._frames(context, stream))

    def _frames(self, context: Context, stream: Stream) -> Iterator[Frame]:
        if self.pipeline is None:
            self.pipeline = materialize(list(self.columns), self.steps)
        record, where = self.measure(context), context.where(self)
        took = Measured()
        try:
            prepare(self.steps, context, stream.rows)
            for frame in stream.frames:
                result = self.pipeline.run(context, frame, took, where)
                del frame
                yield result
                del result
        finally:
            release_probes(self.steps)
            record.add(took)
            record.rows_out += took.rows_out

    def execute(self, context: Context) -> Frame:
        stream = self.stream(context)
        if stream is not None:
            return collect(stream, self.columns)
        if self.pipeline is None:
            self.pipeline = materialize(list(self.columns), self.steps)
        try:
            frame = gather(self.source, self.steps, context)
            return self.pipeline.run(context, frame, self.measure(context), context.where(self))
        finally:
            release_probes(self.steps)


def release_probes(steps: list[Step]) -> None:
    """Let go of the look-ups of a finished run: the plan may stay in the cache for long."""
    for step in steps:
        if isinstance(step, Probe):
            step.lookup = None


def gather(source: Task, steps: list[Step], context: Context) -> Frame:
    """The rows of a pipeline's source; the look-ups of its probes are built."""
    probes = [step for step in steps if isinstance(step, Probe)]
    inputs: list[tuple[Any, Task]] = [(source, source), *((p, p.build) for p in probes)]
    frame, *sides = together(context, [(item, functools.partial(task.execute, context)) for item, task in inputs])
    # how many rows will probe, which look-ups are chosen by, is known now
    rows = frame.length
    together(context, [(p, functools.partial(build, p, side, context, rows)) for p, side in zip(probes, sides)])
    return frame


def prepare(steps: Sequence[Step], context: Context, rows: int) -> None:
    """Build the look-ups of a pipeline's probes; ``rows`` will probe at the most."""
    probes = [step for step in steps if isinstance(step, Probe)]
    sides = together(context, [(p, functools.partial(p.build.execute, context)) for p in probes])
    together(context, [(p, functools.partial(build, p, side, context, rows)) for p, side in zip(probes, sides)])


def build(probe: Probe, frame: Frame, context: Context, rows: int) -> None:
    """Make the look-up of a probe's build side; ``rows`` will probe at the most."""
    begin = time.perf_counter()

    def calculate(exprs: list[Expr], frame: Frame) -> list[ColumnData]:
        return evaluate(exprs, frame, context.constant, context.pool)

    record = context.measured.setdefault(id(probe), Measured())

    def prepare(device: Any) -> None:
        probe.prepare(frame, calculate, context.pool, rows, device)

    context.placed(probe, record, "A build", frame.length, prepare)
    record.rows_in = frame.length
    record.seconds += time.perf_counter() - begin
    record.bytes = probe.current().nbytes


@dataclass(eq=False)
class Sort(Task):
    """ORDER BY with an optional limit. Keys are columns of the input."""

    source: Task
    keys: tuple[tuple[Column, bool, bool], ...]  # column, descending, NULLs first
    limit: Expr | None = None
    offset: Expr | None = None

    @property
    def inputs(self) -> tuple[Task, ...]:
        return (self.source,)

    def execute(self, context: Context) -> Frame:
        limit, offset = bound(context, self.limit), bound(context, self.offset) or 0
        keep = None if limit is None else limit + offset
        record, took = self.measure(context), Measured()
        stream = None if keep is None else self.source.stream(context)
        if stream is None:
            result = self._sorted(context, self.source.execute(context), keep, offset, took)
        else:
            result = self._first(context, stream, keep, offset, took)
        record.add(took)
        record.rows_out = result.length
        return result

    def _first(self, context: Context, stream: Stream, keep: int | None, offset: int, took: Measured) -> Frame:
        """The first rows of all frames: those of each beside those of all before. Ties stay in the rows' order."""
        columns = list({c.id: c for c in (*self.columns, *(key for key, *_ in self.keys))}.values())
        first: list[Frame] = []
        for frame in stream.frames:
            first.append(self._sorted(context, frame, keep, 0, took, columns))
            del frame
            if len(first) > 1:
                rows = joined(first, columns)
                first.append(self._sorted(context, rows, keep, 0, Measured(), columns))
        return self._sorted(context, first[0], keep, offset, Measured())

    def _sorted(
        self,
        context: Context,
        frame: Frame,
        keep: int | None,
        offset: int,
        took: Measured,
        columns: Sequence[Column] | None = None,
    ) -> Frame:
        """Rows ``offset`` to ``keep`` of a frame's order (None: to the last)."""
        from finequery.operators.sort import sort_rows
        from finequery.operators.take import take

        begin = time.perf_counter()
        keys = [(frame.columns[c.id], descending, first) for c, descending, first in self.keys]

        def sort(device: Any) -> Frame:
            rows = sort_rows(keys, frame.length, context.pool, keep, device)
            if keep is not None or offset:
                picked = rows[offset:keep]
                rows = padded(len(picked), np.uint32)
                rows[:] = picked
            wanted = self.columns if columns is None else columns
            return Frame(
                {c.id: take(frame.columns[c.id], rows, context.pool, device=device) for c in wanted}, len(rows)
            )

        result = context.placed(self, took, "A sort", frame.length, sort)
        took.rows_in += frame.length
        took.seconds += time.perf_counter() - begin
        return result


def bound(context: Context, expr: Expr | None) -> int | None:
    """The value of a LIMIT or OFFSET."""
    value = None if expr is None else context.constant(expr)
    if value is not None and value < 0:
        raise DataError("LIMIT and OFFSET must not be negative")
    return None if value is None else int(value)


@dataclass(eq=False)
class Limit(Task):
    """The first rows of the input, in its order."""

    source: Task
    limit: Expr | None
    offset: Expr | None

    @property
    def inputs(self) -> tuple[Task, ...]:
        return (self.source,)

    def execute(self, context: Context) -> Frame:
        from finequery.operators.slice import slice_frame

        limit, offset = bound(context, self.limit), bound(context, self.offset) or 0
        stream = self.source.stream(context)
        frame = self.source.execute(context) if stream is None else self._first(stream, limit, offset)
        start = min(offset, frame.length)
        stop = frame.length if limit is None else min(start + limit, frame.length)
        record = self.measure(context)
        record.rows_in, record.rows_out = frame.length, stop - start
        if (start, stop) == (0, frame.length):
            return frame
        if not self.columns:
            return Frame({}, stop - start)
        return slice_frame(frame, [c.id for c in self.columns], start, stop)

    def _first(self, stream: Stream, limit: int | None, offset: int) -> Frame:
        """The frames up to the last row asked for."""
        return collect(Stream(stream.rows, upto(stream.frames, limit, offset)), self.source.columns)


@dataclass(eq=False)
class UnionAll(Task):
    """Inputs one after another."""

    parts: tuple[Task, ...]
    part_columns: tuple[tuple[Column, ...], ...]

    @property
    def inputs(self) -> tuple[Task, ...]:
        return self.parts

    def stream(self, context: Context, steps: Sequence[Step] = ()) -> Stream | None:
        streams = [part.stream(context) for part in self.parts]
        if not any(streams):
            return None
        rows = sum(int(p.estimate or 0) if s is None else s.rows for p, s in zip(self.parts, streams))
        return Stream(rows, self._frames(context, streams))

    def _frames(self, context: Context, streams: Sequence[Stream | None]) -> Iterator[Frame]:
        record = self.measure(context)
        for part, stream, own in zip(self.parts, streams, self.part_columns):
            for frame in [part.execute(context)] if stream is None else stream.frames:
                record.rows_in += frame.length
                record.rows_out += frame.length
                yield Frame({c.id: frame.columns[o.id] for c, o in zip(self.columns, own)}, frame.length)
                del frame

    def execute(self, context: Context) -> Frame:
        from finequery.operators.concat import concat_columns

        stream = self.stream(context)
        if stream is not None:
            return collect(stream, self.columns)
        frames = together(context, [(p, functools.partial(p.execute, context)) for p in self.parts])
        begin = time.perf_counter()
        record = self.measure(context)

        def join(device: Any) -> dict[int, ColumnData]:
            parts = [[f.columns[c.id] for c in own] for f, own in zip(frames, self.part_columns)]
            return {c.id: concat_columns(same, device=device) for c, *same in zip(self.columns, *parts)}

        record.rows_in = record.rows_out = rows = sum(f.length for f in frames)
        columns = context.placed(self, record, "A UNION ALL", rows, join)
        record.seconds = time.perf_counter() - begin
        return Frame(columns, record.rows_out)


@dataclass(eq=False)
class Shared(Task):
    """A subplan that runs once an execution, however many read it."""

    source: Task

    @property
    def inputs(self) -> tuple[Task, ...]:
        return (self.source,)

    def stream(self, context: Context, steps: Sequence[Step] = ()) -> Stream | None:
        """Where it does not fit, every reader reads it anew."""
        return None if id(self) in context.results else self.source.stream(context, steps)

    def execute(self, context: Context) -> Frame:
        found = context.once(id(self), lambda: self.source.execute(context))
        assert isinstance(found, Frame)
        return found


@dataclass(eq=False)
class Window(Task):
    """Window functions: columns beside the input's rows. All expressions are columns."""

    source: Task
    #: Output, call, and its arguments, partition and order (column, descending, nulls first) as columns.
    calls: tuple[tuple[Column, WindowCall, tuple[Column, ...], tuple[Column, ...], tuple[Any, ...]], ...]

    @property
    def inputs(self) -> tuple[Task, ...]:
        return (self.source,)

    def execute(self, context: Context) -> Frame:
        from finequery.operators.window import evaluate_window

        frame, record = self.source.execute(context), self.measure(context)
        begin = time.perf_counter()
        orders: dict[Any, Any] = {}
        columns = dict(frame.columns)
        for output, call, args, partition, order in self.calls:
            operands = (
                call.name,
                [frame.columns[c.id] for c in args],
                [frame.columns[c.id] for c in partition],
                [(frame.columns[c.id], descending, first) for c, descending, first in order],
                *(call.running, output.type, frame.length, context.pool, orders, call.frame, call.ignore_nulls),
            )
            work = functools.partial(evaluate_window, *operands)
            columns[output.id] = context.placed(self, record, "A window function", frame.length, work)
        record.rows_in = record.rows_out = frame.length
        record.seconds = time.perf_counter() - begin
        return Frame(columns, frame.length)


@dataclass(eq=False)
class Scalar:
    """A scalar subquery's plan: the frame and the column that holds its value."""

    task: Task
    column: Column

    def scalar(self, context: Context) -> tuple[Frame, int]:
        return self.task.execute(context), self.column.id
