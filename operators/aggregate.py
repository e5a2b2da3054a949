"""Aggregate: the task of a pipeline that ends in groups.

Most ways to tell groups apart work inside the pipeline (aggregate_sink.py). Where the keys do not fit one word, or
there are many groups, the rows are written out first, and a second pipeline adds them up: by number, or partition by
partition.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from finequery.operators import watch
from finequery.operators.aggregate_calls import Call
from finequery.operators.aggregate_sink import KEEPS_ROWS, AggregateSink, Given
from finequery.operators.build import padded
from finequery.operators.column import ColumnData, Frame, Stats
from finequery.operators.concat import expand
from finequery.operators.context import CPU, Context, Measured, Placement
from finequery.operators.expr import Column
from finequery.operators.group_keys import NeedsNumbers
from finequery.operators.group_modes import MOST_PACKED, GroupMode, group_mode
from finequery.operators.join_keys import valid_flags
from finequery.operators.materialize import pack_validity
from finequery.operators.numbered_groups import as_codes, number_groups
from finequery.operators.partial_groups import in_parts
from finequery.operators.partition import partition
from finequery.operators.pipeline import Pipeline, materialize
from finequery.operators.probe import Probe
from finequery.operators.profile import SINK
from finequery.operators.result_columns import float_column
from finequery.operators.steps import Step
from finequery.operators.stream import Stream, collect
from finequery.operators.take import take
from finequery.operators.tasks import Task, gather, prepare, release_probes
from finequery.types import BIGINT

#: The column of group numbers, or of packed keys, that the second pipeline reads.
NUMBER = Column(BIGINT, -50)


@dataclass(eq=False)
class Aggregate(Task):
    """A pipeline that ends in groups. Groups and arguments are plain columns (the planner projects expressions)."""

    source: Task
    steps: list[Step]
    groups: tuple[Column, ...]
    calls: tuple[Call, ...]
    expected_groups: float | None = None
    pipeline: Pipeline | None = None
    rows: Pipeline | None = None  # writes the rows out, where groups can't be told apart inside the pipeline
    mode: GroupMode | None = None  # how the last run told groups apart
    owner: Aggregate | None = None  # whose part or whose parts' end this is (partial_groups.py): it is placed like that

    @property
    def inputs(self) -> tuple[Task, ...]:
        return (self.source, *(s.build for s in self.steps if isinstance(s, Probe)))

    @property
    def arguments(self) -> list[Column]:
        """Columns that the calls read."""
        found = [column for call in self.calls for column in (call.argument, call.filter) if column is not None]
        return list({c.id: c for c in found}.values())

    @property
    def reads(self) -> list[Column]:
        return list({c.id: c for c in (*self.groups, *self.arguments)}.values())

    def execute(self, context: Context) -> Frame:
        record = self.measure(context)
        try:
            stream = self.source.stream(context, self.steps)
            if stream is None:
                return self.grouped(context, gather(self.source, self.steps, context), record)
            prepare(self.steps, context, stream.rows)
            took = Measured()
            if any(call.exact for call in self.calls):  # what was rounded can't be added up exactly
                result = self._all_at_once(context, stream, took)
            else:
                result = in_parts(self, context, stream, took)
            record.add(took)
            record.rows_out = result.length
            return result
        finally:
            release_probes(self.steps)

    def grouped(self, context: Context, frame: Frame, record: Measured) -> Frame:
        """The groups of a frame of the source; the look-ups of probes are built."""
        if self.rows is None:
            try:
                return self._inside(context, frame, record)
            except NeedsNumbers:
                self.pipeline, self.rows = None, materialize(self.reads, self.steps)
        rows = self.rows.run(context, frame, record, self._where(context))
        return self._written(context, rows, record)

    def _all_at_once(self, context: Context, stream: Stream, record: Measured) -> Frame:
        """The groups of all frames of the source, whose rows are written out."""
        rows, where = self.rows or materialize(self.reads, self.steps), self._where(context)
        parts = (rows.run(context, frame, record, where) for frame in stream.frames)
        return self._written(context, collect(Stream(stream.rows, parts), self.reads), record)

    def _where(self, context: Context) -> Placement:
        return context.where(self.owner or self)

    def _inside(self, context: Context, frame: Frame, record: Measured) -> Frame:
        """Groups inside the pipeline."""
        if self.pipeline is None:

            def sink() -> AggregateSink:
                return AggregateSink(list(self.groups), list(self.calls), self.expected_groups)

            self.pipeline = Pipeline(self.steps, sink, {c.id for c in self.reads})
        result = self.pipeline.run(context, frame, record, self._where(context))
        if self.pipeline.compiled is not None:
            self.mode = self.pipeline.compiled.sink.mode  # type: ignore[attr-defined]
        return result

    def _written(self, context: Context, rows: Frame, record: Measured) -> Frame:
        """Number or partition rows that were written out, then add them up."""
        begin = time.perf_counter()
        before = rows.columns
        rows = watch.aside(rows.length, self._ordered, rows)
        groups = [rows.columns[c.id] for c in self.groups]
        whole = all(c.name not in KEEPS_ROWS and not c.exact for c in self.calls)  # no partitions for the others
        one_device = self._where(context).device != "gpu"  # a kernel reads all rows at once, not partition by partition
        packed = bool(groups) and _packable(groups) and whole and one_device
        self.mode = group_mode(len(groups), rows.length, math.inf, None, packed=packed)
        if self.mode.name == "scalar":
            result = self._add_up(context, rows, None, record)[0]
        elif self.mode.name == "numbered":

            def number(device: Any) -> tuple[np.ndarray, int, dict[int, ColumnData]]:
                numbers, count, firsts = number_groups(groups, rows.length, context.pool, device)
                keys = {c.id: take(data, firsts, context.pool, device=device) for c, data in zip(self.groups, groups)}
                return numbers, count, keys

            what, size = "The numbering of groups", rows.length
            numbers, count, keys = context.placed(self.owner or self, record, what, size, number)
            result = self.by_number(context, rows, numbers, count, record)
            result.columns |= keys
        else:
            result = watch.aside(rows.length, self._partitioned, context, rows, groups, record)
        for call in self.calls:  # what was made codes for the comparison alone
            if call.argument is not None and before[call.argument.id].kind == "string":
                found = result.columns[call.output.id]
                result.columns[call.output.id] = expand(found) if found.kind == "dict" else found
        spent = time.perf_counter() - begin
        if record.profile is not None:
            record.profile.add(SINK, spent)
        record.seconds += spent
        record.rows_out = result.length
        return result

    def _ordered(self, rows: Frame) -> Frame:
        return Frame({i: _orderable(c, self.calls, i) for i, c in rows.columns.items()}, rows.length)

    def by_number(self, context: Context, rows: Frame, numbers: np.ndarray, count: int, record: Measured) -> Frame:
        """The calls over rows whose groups are numbered."""
        return self._add_up(context, _with_number(rows, numbers, count), Given(NUMBER, max(count, 1)), record)[0]

    def _add_up(
        self,
        context: Context,
        frame: Frame,
        given: Given | None,
        record: Measured,
        bounds: np.ndarray | None = None,
    ) -> tuple[Frame, np.ndarray]:
        """The calls over rows whose groups are known; what tells the groups apart."""
        reads = {c.id for c in (*self.arguments, *(() if given is None else (given.column,)))}
        sink = AggregateSink([], list(self.calls), given=given)
        pipeline = Pipeline([], lambda: sink, reads)
        pipeline.bounds = bounds
        where, inner = self._where(context), Measured()
        result = pipeline.run(context, frame, inner, where if where.device == "gpu" else CPU)
        record.join(inner)
        return result, sink.picked

    def _partitioned(self, context: Context, rows: Frame, groups: list[ColumnData], record: Measured) -> Frame:
        """Partition rows by their key's hash, add up partition by partition."""
        pool = context.pool
        keys, decode = pack_groups(groups)
        payloads = [rows.columns[c.id] for c in self.arguments]
        if all(p.kind != "string" for p in payloads):
            valid = {p: flags for p, column in enumerate(payloads) if (flags := valid_flags(column)) is not None}
            parted, moved, bounds = partition(keys, [*(p.data for p in payloads), *valid.values()], pool)
            columns = [_like(p, m) for p, m in zip(payloads, moved)]
            for p, flags in zip(valid, moved[len(payloads) :]):
                columns[p].validity, columns[p].stats.nulls = pack_validity(flags, rows.length)
        else:
            order = padded(len(keys), np.uint32)
            order[:] = np.arange(len(keys))
            parted, moved, bounds = partition(keys, [order], pool)
            columns = [take(p, moved[0], pool) for p in payloads]
        frame = Frame({c.id: column for c, column in zip(self.arguments, columns)}, rows.length)
        frame.columns[NUMBER.id] = ColumnData(BIGINT, "int64", rows.length, parted)
        expected = min(int(self.expected_groups or rows.length), rows.length)
        result, found = self._add_up(context, frame, Given(NUMBER, expected, partitioned=True), record, bounds)
        for column, values in zip(self.groups, decode(found)):
            result.columns[column.id] = values
        return result


def _with_number(rows: Frame, numbers: np.ndarray, count: int) -> Frame:
    data = ColumnData(BIGINT, "uint", rows.length, numbers, stats=Stats(low=0, high=max(count - 1, 0)))
    return Frame({**rows.columns, NUMBER.id: data}, rows.length)


def _packable(columns: list[ColumnData]) -> bool:
    """Whether ``pack_groups`` can make one word of the columns."""
    if len(columns) == 1 and columns[0].kind in ("int64", "float64"):
        return columns[0].validity is None
    total = 1
    for c in columns:
        if c.kind not in ("uint", "dict"):
            return False
        total *= (2 ** (8 * c.data.itemsize) if c.kind == "uint" else max(len(c.dictionary or ()), 1)) + 1
    return total < MOST_PACKED


def pack_groups(columns: list[ColumnData]) -> tuple[np.ndarray, Callable[[np.ndarray], list[ColumnData]]]:
    """Group keys as one int64, and the way back. In narrow columns with NULLs, 0 stands for NULL."""
    count, column = columns[0].length, columns[0]
    if column.kind == "int64":
        return column.data[:count], lambda found: [_like(column, found)]
    keys = padded(count, np.int64, zero=False)
    if column.kind == "float64":
        doubles = column.data[:count] + 0.0
        doubles[np.isnan(doubles)] = np.nan
        keys[:] = doubles.view(np.int64)
        return keys, lambda found: [float_column(column.type, found.view(np.float64), np.ones(len(found), dtype=bool))]
    spans = [len(c.dictionary or ()) if c.kind == "dict" else int(c.data[:count].max(initial=0)) + 1 for c in columns]
    for number, (column, span) in enumerate(zip(columns, spans)):
        flags = valid_flags(column)
        digits: np.ndarray = column.data[:count]
        if flags is not None:
            spans[number] = span = span + 1
            digits = np.where(flags, digits.astype(np.int64) + 1, 0)
        if number:
            keys *= span
            keys += digits
        else:
            keys[:] = digits

    def decode(found: np.ndarray) -> list[ColumnData]:
        result = []
        for column, span in zip(reversed(columns), reversed(spans)):
            result.append(_stored_column(column, found % span if len(columns) > 1 else found))
            found = found // span
        return result[::-1]

    return keys, decode


def _stored_column(column: ColumnData, digits: np.ndarray) -> ColumnData:
    """Digits of ``pack_groups`` as a column of its width."""
    data = padded(len(digits), column.data.dtype, zero=False)
    if column.validity is None:
        data[:] = digits
        return _like(column, data)
    data[:] = np.maximum(digits - 1, 0)
    made = _like(column, data)
    made.validity, made.stats.nulls = pack_validity(digits > 0, len(digits))
    return made


def _like(column: ColumnData, data: np.ndarray) -> ColumnData:
    """Other stored values of a column without NULLs, within its bounds."""
    length = len(data) // 2 if column.kind in ("int128", "interval") else len(data)
    stats = Stats(low=column.stats.low, high=column.stats.high, ascii=column.stats.ascii)
    return ColumnData(
        *(column.type, column.kind, length, data, column.base, column.scale), dictionary=column.dictionary, stats=stats
    )


def _orderable(column: ColumnData, calls: tuple[Call, ...], number: int) -> ColumnData:
    """Text that MIN or MAX runs over becomes codes, which are in order."""
    if column.kind != "string" or not any(
        c.argument is not None and c.argument.id == number and c.name in ("min", "max") for c in calls
    ):
        return column
    return as_codes(column)
