"""Sub-tasks that run: what the planner's DAG is made of. Each gives a Frame, once per execution.

A task whose work is a pipeline holds its source, its steps and its sink; the others (sort, window, union, …) are
breakers that see whole frames.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from finequery.errors import DataError, InternalError
from finequery.operators.aggregate import AggregateSink, Call, NeedsNumbers
from finequery.operators.build import padded, radix_partition
from finequery.operators.column import ColumnData, Frame, Stats
from finequery.operators.evaluate import evaluate
from finequery.operators.expr import Column, Expr, WindowCall
from finequery.operators.filter import lower_filter
from finequery.operators.lower import Lower
from finequery.operators.pipeline import Context, Filter, Measured, Pipeline, Project, Step, materialize
from finequery.operators.probe import Probe, intern, lower_probe, number_keys, valid_flags
from finequery.operators.program import too_many_rows
from finequery.types import BIGINT

#: More groups than this (by estimate) are partitioned before they are told apart (reference: cpu-execution 4.11).
RADIX_GROUPS = 200_000


@dataclass(eq=False)
class Task:
    """Base. ``columns``: what the frame holds, in order. ``estimate``: rows the planner expects. ``node``: the part of
    the logical plan that it stands for, for the planner's own use."""

    columns: tuple[Column, ...]
    estimate: float | None = field(default=None, kw_only=True)
    node: Any = field(default=None, kw_only=True)

    @property
    def inputs(self) -> tuple[Task, ...]:
        return ()

    def execute(self, context: Context) -> Frame:
        raise NotImplementedError

    def measure(self, context: Context) -> Measured:
        return context.measured.setdefault(id(self), Measured())


@dataclass(eq=False)
class Scan(Task):
    """Columns of a table."""

    table: Any
    names: tuple[str, ...]
    alias: str = ""

    def execute(self, context: Context) -> Frame:
        begin = time.perf_counter()
        loaded = self.table.load(self.names) if self.names else []
        rows = loaded[0].length if loaded else self.table.rows
        record = self.measure(context)
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
    from finequery.operators.aggregate import exact_column, float_column
    from finequery.operators.concat import concat_columns, constant_column

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

        return encode(pa.array(values, type=pa.large_string()), type_)
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

    def execute(self, context: Context) -> Frame:
        if self.pipeline is None:
            self.pipeline = materialize(list(self.columns), self.steps)
        frame = self.source.execute(context)
        prepare_probes(self.steps, context, frame.length)
        try:
            return self.pipeline.run(context, frame, self.measure(context))
        finally:
            release_probes(self.steps)


def release_probes(steps: list[Step]) -> None:
    """Let go of the look-ups of a finished run: the plan may stay in the cache for long."""
    for step in steps:
        if isinstance(step, Probe):
            step.lookup = None


def prepare_probes(steps: list[Step], context: Context, rows: int) -> None:
    """Run the build sides of a pipeline's probes; ``rows`` will probe at the most."""
    for step in steps:
        if isinstance(step, Probe):
            frame = step.build.execute(context)
            begin = time.perf_counter()

            def calculate(exprs: list[Expr], frame: Frame) -> list[ColumnData]:
                return evaluate(exprs, frame, context.constant, context.pool)

            step.prepare(frame, calculate, context.pool, rows)
            record = context.measured.setdefault(id(step), Measured())
            record.rows_in = frame.length
            record.seconds += time.perf_counter() - begin
            record.bytes = step.current().nbytes


@dataclass(eq=False)
class Aggregate(Task):
    """A pipeline that ends in groups. Groups and arguments are plain columns (the planner projects expressions)."""

    source: Task
    steps: list[Step]
    groups: tuple[Column, ...]
    calls: tuple[Call, ...]
    expected_groups: float | None = None
    pipeline: Pipeline | None = None
    strategy: str = ""
    reason: str = ""
    numbers: bool = False

    @property
    def inputs(self) -> tuple[Task, ...]:
        return (self.source, *(s.build for s in self.steps if isinstance(s, Probe)))

    @property
    def reads(self) -> list[Column]:
        found = {c.id: c for c in self.groups}
        for call in self.calls:
            for column in (call.argument, call.filter):
                if column is not None:
                    found[column.id] = column
        return list(found.values())

    def execute(self, context: Context) -> Frame:
        frame = self.source.execute(context)
        prepare_probes(self.steps, context, frame.length)
        record = self.measure(context)
        try:
            if not self.numbers:
                try:
                    return self._stream(context, frame, record)
                except NeedsNumbers:
                    self.numbers = True
            return self._numbered(context, frame, record)
        finally:
            release_probes(self.steps)

    def _stream(self, context: Context, frame: Frame, record: Measured) -> Frame:
        many = (self.expected_groups or 0) > RADIX_GROUPS and bool(self.groups)
        if self.pipeline is None:

            def sink() -> AggregateSink:
                made = AggregateSink(list(self.groups), list(self.calls))
                if many:
                    made.refuse_hash = True
                return made

            self.pipeline = Pipeline(self.steps, sink, {c.id for c in self.reads})
        result = self.pipeline.run(context, frame, record)
        if self.pipeline.compiled is not None:
            made: Any = self.pipeline.compiled.sink
            self.strategy, self.reason = made.mode, made.reason
        return result

    def _numbered(self, context: Context, frame: Frame, record: Measured) -> Frame:
        """Write the rows out, number their groups, then add up by number."""
        from finequery.operators.concat import expand

        if self.pipeline is None or not isinstance(self.pipeline, _Rows):
            self.pipeline = _Rows(materialize(self.reads, self.steps))
        rows = self.pipeline.inner.run(context, frame, record)
        begin = time.perf_counter()
        before = rows.columns
        rows = Frame({i: _orderable(c, self.calls, i) for i, c in before.items()}, rows.length)
        groups = [rows.columns[c.id] for c in self.groups]
        number = Column(BIGINT, -50)
        single = len(groups) == 1 and _plain_key(groups[0])
        if not groups:
            result = self._add_up(context, rows, None, 1)
        elif (single or _packable(groups)) and rows.length > RADIX_GROUPS and self._simple():
            result = self._radix(context, rows, groups)
        else:
            numbers, count, firsts = number_groups(groups, rows.length)
            data = ColumnData(BIGINT, "uint", rows.length, numbers, stats=Stats(low=0, high=max(count - 1, 0)))
            result = self._add_up(context, Frame({**rows.columns, number.id: data}, rows.length), number, max(count, 1))
            from finequery.operators.take import take

            for column, data in zip(self.groups, groups):
                result.columns[column.id] = take(data, firsts, context.pool)
            self.strategy, self.reason = "numbered", "keys of text or of wide types: rows numbered first"
        for call in self.calls:  # what was made codes for the comparison alone
            if call.argument is not None and before[call.argument.id].kind == "string":
                found = result.columns[call.output.id]
                result.columns[call.output.id] = expand(found) if found.kind == "dict" else found
        record.seconds += time.perf_counter() - begin
        record.rows_out = result.length
        return result

    def _simple(self) -> bool:
        """Whether all arguments can travel through the radix partitions: of fixed width, without NULLs is not
        needed."""
        return all(c.name not in ("first", "any_value") for c in self.calls)

    def _add_up(
        self,
        context: Context,
        frame: Frame,
        number: Column | None,
        count: int,
        bounds: np.ndarray | None = None,
        firsts: np.ndarray | None = None,
    ) -> Frame:
        def sink() -> AggregateSink:
            return AggregateSink([], list(self.calls), None if number is None else (number, count), firsts)

        reads = {c.id for c in (*self.reads, *((number,) if number else ()))}
        pipeline = Pipeline([], sink, reads)
        pipeline.bounds = bounds
        result = pipeline.run(context, frame)
        compiled = pipeline.compiled
        assert compiled is not None
        self.picked = compiled.sink.picked  # type: ignore[attr-defined]
        return result

    def _radix(self, context: Context, rows: Frame, groups: list[ColumnData]) -> Frame:
        """Partition rows by their key's hash, number groups inside each partition, add up partition by partition."""
        from finequery.operators.take import take

        pool = context.pool
        keys, decode = pack_groups(groups)
        arguments = [c for c in self.reads if c.id not in {g.id for g in self.groups} or self._is_argument(c)]
        payloads = [rows.columns[c.id] for c in arguments]
        direct = all(p.validity is None and p.kind != "string" for p in payloads)
        if direct:
            parted, moved, bounds = radix_partition(keys, [p.data for p in payloads], pool)
            frame = Frame(
                {
                    c.id: ColumnData(
                        *(p.type, p.kind, p.length, m, p.base, p.scale), dictionary=p.dictionary, stats=p.stats
                    )
                    for c, p, m in zip(arguments, payloads, moved)
                },
                rows.length,
            )
        else:
            order = padded(len(keys), np.uint32)
            order[:] = np.arange(len(keys))
            parted, moved, bounds = radix_partition(keys, [order], pool)
            frame = Frame({c.id: take(p, moved[0], pool) for c, p in zip(arguments, payloads)}, rows.length)
        total = rows.length
        largest = int(np.diff(bounds).max())
        table_bytes = 16 << max(11, int(max(3 * largest, 1)).bit_length() + 1)
        list_bytes = 8 * largest + 64
        scratch = padded(pool.threads * (table_bytes + list_bytes) + 128, np.uint8, zero=False)
        lists = scratch.ctypes.data + pool.threads * table_bytes
        numbers, listed = padded(total, np.uint32, zero=False), padded(total, np.uint64, zero=False)
        count, firsts = np.zeros(1, dtype=np.int64), np.zeros(257, dtype=np.int64)
        words = [parted.ctypes.data, scratch.ctypes.data, table_bytes, numbers.ctypes.data, listed.ctypes.data]
        words += [count.ctypes.data, lists, list_bytes, bounds.ctypes.data, firsts.ctypes.data]
        if pool.range("partition_groups", words, total, bounds=bounds) < 0:
            raise InternalError("a partition's table is too small")
        found_groups = int(count[0])
        number = Column(BIGINT, -50)
        data = ColumnData(BIGINT, "uint", total, numbers, stats=Stats(low=0, high=max(found_groups - 1, 0)))
        source = Frame({**frame.columns, number.id: data}, total)
        result = self._add_up(context, source, number, found_groups, bounds, firsts)
        found = listed[self.picked].view(np.int64)
        for column, values in zip(self.groups, decode(found)):
            result.columns[column.id] = values
        self.strategy, self.reason = "radix", "many groups: 256 partitions, a small table each"
        return result

    def _is_argument(self, column: Column) -> bool:
        return any(column.id in (c.argument and c.argument.id, c.filter and c.filter.id) for c in self.calls)


class _Rows(Pipeline):
    """The pipeline that writes out the rows of a numbered aggregation."""

    def __init__(self, inner: Pipeline):
        self.inner = inner
        self.compiled = None


def _plain_key(column: ColumnData) -> bool:
    return column.validity is None and column.kind in ("uint", "int64", "dict", "float64")


def _packable(columns: list[ColumnData]) -> bool:
    total = 1
    for c in columns:
        if c.validity is not None or c.kind not in ("uint", "dict"):
            return False
        total *= 2 ** (8 * c.data.itemsize) if c.kind == "uint" else max(len(c.dictionary or ()), 1)
    return 0 < total < 2**62


def pack_groups(columns: list[ColumnData]) -> tuple[np.ndarray, Any]:
    """Group keys without NULLs as one int64, and the way back."""
    from finequery.operators.aggregate import float_column

    count = columns[0].length
    keys = padded(count, np.int64)
    if len(columns) == 1:
        column = columns[0]
        if column.kind == "float64":
            doubles = column.data[:count] + 0.0
            doubles[np.isnan(doubles)] = np.nan
            keys[:] = doubles.view(np.int64)
            return keys, lambda found: [
                float_column(column.type, found.view(np.float64), np.ones(len(found), dtype=bool))
            ]
        keys[:] = column.data[:count]
        return keys, lambda found: [_stored_column(column, found)]
    spans = [len(c.dictionary or ()) if c.kind == "dict" else int(c.data[:count].max(initial=0)) + 1 for c in columns]
    for column, span in zip(columns, spans):
        keys *= span
        keys += column.data[:count]

    def decode(found: np.ndarray) -> list[ColumnData]:
        result = []
        for column, span in zip(reversed(columns), reversed(spans)):
            result.append(_stored_column(column, found % span))
            found = found // span
        return result[::-1]

    return keys, decode


def _stored_column(column: ColumnData, stored: np.ndarray) -> ColumnData:
    data = padded(len(stored), column.data.dtype)
    data[:] = stored
    stats = Stats(low=column.stats.low, high=column.stats.high, ascii=column.stats.ascii)
    return ColumnData(
        *(column.type, column.kind, len(stored), data, column.base, column.scale),
        dictionary=column.dictionary,
        stats=stats,
    )


def _orderable(column: ColumnData, calls: tuple[Call, ...], number: int) -> ColumnData:
    """Text that MIN or MAX runs over becomes codes, which are in order."""
    if column.kind != "string" or not any(
        c.argument is not None and c.argument.id == number and c.name in ("min", "max") for c in calls
    ):
        return column
    return as_codes(column)


def as_codes(column: ColumnData) -> ColumnData:
    """A text column as codes of a sorted dictionary of its own."""
    from finequery.operators import dictionary as dictionaries
    from finequery.operators.aggregate import code_column
    from finequery.operators.export import column_to_arrow

    coded = column_to_arrow(column).dictionary_encode()
    dictionary, ranks = dictionaries.build(coded.dictionary)
    codes = ranks[coded.indices.fill_null(0).to_numpy()] if len(ranks) else np.zeros(column.length, dtype=np.int64)
    return code_column(column.type, codes, dictionary, valid_flags(column))


def number_groups(columns: list[ColumnData], count: int) -> tuple[np.ndarray, int, np.ndarray]:
    """Number the rows' groups in order of appearance: numbers (u32), how many, first row of each (u32). NULL is a
    value."""
    numbers: np.ndarray | None = None
    size = 1
    for column in columns:
        digits, span = _group_digits(column, count)
        if numbers is None:
            packed = digits
        else:
            packed = padded(count, np.int64)
            packed[:] = numbers.astype(np.int64) * span + digits
        size, numbers, *_ = number_keys(packed)
    if numbers is None:
        return padded(count, np.uint32), 1, padded(1, np.uint32)
    firsts = padded(size, np.uint32)
    firsts[numbers[:count][::-1]] = np.arange(count - 1, -1, -1, dtype=np.uint32)
    return numbers, size, firsts


def _group_digits(column: ColumnData, count: int) -> tuple[np.ndarray, int]:
    """A column as int64 digits below a span of 2**32, NULL as one of them."""
    flags = valid_flags(column)
    digits = padded(count, np.int64)
    if column.kind in ("uint", "dict"):
        digits[:] = column.data[:count]
    else:
        if column.kind in ("string", "int128", "interval"):
            numbers = intern(column)[1]
        else:
            keys = padded(count, np.int64)
            if column.kind in ("float32", "float64"):
                doubles = column.data[:count].astype(np.float64) + 0.0
                doubles[np.isnan(doubles)] = np.nan
                keys[:] = doubles.view(np.int64)
            else:
                keys[:] = column.data[:count]
            _, numbers, *_ = number_keys(keys)
        digits[:] = numbers[:count]
    if flags is not None:
        digits += 1
        digits[~flags] = 0
    return digits, int(digits.max(initial=0)) + 1


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
        from finequery.operators.sort import sort_rows
        from finequery.operators.take import take

        frame = self.source.execute(context)
        begin = time.perf_counter()
        limit, offset = bound(context, self.limit), bound(context, self.offset) or 0
        keep = None if limit is None else limit + offset
        keys = [(frame.columns[c.id], descending, first) for c, descending, first in self.keys]
        rows = sort_rows(keys, frame.length, context.pool, keep)
        if keep is not None or offset:
            picked = rows[offset:keep]
            rows = padded(len(picked), np.uint32)
            rows[:] = picked
        columns = {c.id: take(frame.columns[c.id], rows, context.pool) for c in self.columns}
        record = self.measure(context)
        record.rows_in, record.rows_out, record.seconds = frame.length, len(rows), time.perf_counter() - begin
        return Frame(columns, len(rows))


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

        frame = self.source.execute(context)
        limit, offset = bound(context, self.limit), bound(context, self.offset) or 0
        start = min(offset, frame.length)
        stop = frame.length if limit is None else min(start + limit, frame.length)
        record = self.measure(context)
        record.rows_in, record.rows_out = frame.length, stop - start
        if (start, stop) == (0, frame.length):
            return frame
        if not self.columns:
            return Frame({}, stop - start)
        return slice_frame(frame, [c.id for c in self.columns], start, stop)


@dataclass(eq=False)
class UnionAll(Task):
    """Inputs one after another."""

    parts: tuple[Task, ...]
    part_columns: tuple[tuple[Column, ...], ...]

    @property
    def inputs(self) -> tuple[Task, ...]:
        return self.parts

    def execute(self, context: Context) -> Frame:
        from finequery.operators.concat import concat_columns

        frames = [p.execute(context) for p in self.parts]
        begin = time.perf_counter()
        columns = {
            c.id: concat_columns([f.columns[ids[i].id] for f, ids in zip(frames, self.part_columns)])
            for i, c in enumerate(self.columns)
        }
        record = self.measure(context)
        record.rows_in = record.rows_out = sum(f.length for f in frames)
        record.seconds = time.perf_counter() - begin
        return Frame(columns, record.rows_out)


@dataclass(eq=False)
class Shared(Task):
    """A subplan that runs once an execution, however many read it."""

    source: Task

    @property
    def inputs(self) -> tuple[Task, ...]:
        return (self.source,)

    def execute(self, context: Context) -> Frame:
        found = context.results.get(id(self))
        if found is None:
            found = context.results[id(self)] = self.source.execute(context)
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

        frame = self.source.execute(context)
        begin = time.perf_counter()
        orders: dict[Any, Any] = {}
        columns = dict(frame.columns)
        for output, call, args, partition, order in self.calls:
            columns[output.id] = evaluate_window(
                call.name,
                [frame.columns[c.id] for c in args],
                [frame.columns[c.id] for c in partition],
                [(frame.columns[c.id], descending, first) for c, descending, first in order],
                call.running,
                output.type,
                frame.length,
                context.pool,
                orders,
                call.frame,
                call.ignore_nulls,
            )
        record = self.measure(context)
        record.rows_in = record.rows_out = frame.length
        record.seconds = time.perf_counter() - begin
        return Frame(columns, frame.length)


@dataclass(eq=False)
class PairJoin(Task):
    """Joins whose match has a further condition, and full joins: pairs first, then what found no partner."""

    kind: str
    left: Task
    left_columns: tuple[Column, ...]
    probe: Probe  # an inner probe with the condition
    mark: Column | None = None
    pipeline: Pipeline | None = None

    @property
    def inputs(self) -> tuple[Task, ...]:
        return (self.left, self.probe.build)

    def execute(self, context: Context) -> Frame:
        from finequery.operators.take import take

        left = self.left.execute(context)
        row = Column(BIGINT, -60)
        right_row = Column(BIGINT, -61)
        right_source = self.probe.build
        self.probe.build = _WithRow(right_source.columns, right_source, right_row)
        try:
            prepare_probes([self.probe], context, left.length)
        finally:
            self.probe.build = right_source
        payload = self.probe.payload
        self.probe.payload = (*payload, right_row)
        wide = Frame({**left.columns, row.id: row_column(left.length)}, left.length)
        if self.pipeline is None:
            outputs = [row, right_row]
            self.pipeline = materialize(outputs, [self.probe])
        try:
            pairs = self.pipeline.run(context, wide, self.measure(context))
        finally:
            self.probe.payload = payload
        lefts, rights = row_numbers(pairs.columns[row.id]), row_numbers(pairs.columns[right_row.id])
        hit = np.zeros(left.length, dtype=bool)
        hit[lefts] = True
        pool, kind = context.pool, self.kind
        if kind in ("semi", "anti"):
            rows = as_rows(np.flatnonzero(hit if kind == "semi" else ~hit))
            return Frame({c.id: take(left.columns[c.id], rows, pool) for c in self.left_columns}, len(rows))
        if kind == "mark":
            assert self.mark is not None
            from finequery.operators.aggregate import exact_column

            return Frame(
                {**left.columns, self.mark.id: exact_column(self.mark.type, hit.astype(np.int64))}, left.length
            )
        if kind == "single" and len(lefts) != len(np.unique(lefts)):
            raise too_many_rows()
        right = self.probe.current().frame
        none = np.uint32(0xFFFFFFFF)
        missing = np.flatnonzero(~hit)
        all_left = [lefts, missing]
        all_right = [rights, np.full(len(missing), none)]
        if kind == "full":
            seen = np.zeros(right.length, dtype=bool)
            seen[rights] = True
            alone = np.flatnonzero(~seen)
            all_left.append(np.full(len(alone), none))
            all_right.append(alone)
        left_rows, right_rows = as_rows(np.concatenate(all_left)), as_rows(np.concatenate(all_right))
        columns = {c.id: take(left.columns[c.id], left_rows, pool, missing=True) for c in self.left_columns}
        columns |= {c.id: take(right.columns[c.id], right_rows, pool, missing=True) for c in payload}
        return Frame(columns, len(left_rows))


@dataclass(eq=False)
class _WithRow(Task):
    """A task's frame with its row numbers as one more column."""

    source: Task
    row: Column

    def execute(self, context: Context) -> Frame:
        frame = self.source.execute(context)
        return Frame({**frame.columns, self.row.id: row_column(frame.length)}, frame.length)


def row_column(count: int) -> ColumnData:
    """0, 1, 2, …"""
    data = padded(count, np.uint32)
    data[:] = np.arange(count, dtype=np.uint32)
    return ColumnData(BIGINT, "uint", count, data, stats=Stats(low=0, high=max(count - 1, 0)))


def row_numbers(column: ColumnData) -> np.ndarray:
    return column.data[: column.length].astype(np.int64) + column.base


def as_rows(numbers: np.ndarray) -> np.ndarray:
    rows = padded(len(numbers), np.uint32)
    rows[:] = numbers
    return rows


@dataclass(eq=False)
class Scalar:
    """A scalar subquery's plan: the frame and the column that holds its value."""

    task: Task
    column: Column

    def scalar(self, context: Context) -> tuple[Frame, int]:
        return self.task.execute(context), self.column.id


def walk_tasks(task: Task) -> Iterator[Task]:
    """The task and all below it, each once."""
    seen: set[int] = set()

    def visit(t: Task) -> Iterator[Task]:
        if id(t) in seen:
            return
        seen.add(id(t))
        yield t
        for child in t.inputs:
            yield from visit(child)

    yield from visit(task)


__all__ = ["Filter", "Lower", "Project", "lower_filter", "lower_probe"]
