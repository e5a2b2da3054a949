"""Joins whose match has a further condition, and full joins: pairs first, then what found no partner."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from finequery.operators import watch
from finequery.operators.build import padded
from finequery.operators.column import ColumnData, Frame, Stats
from finequery.operators.context import Context, Measured
from finequery.operators.expr import Column
from finequery.operators.pipeline import Pipeline, materialize
from finequery.operators.pool import Pool
from finequery.operators.probe import Probe
from finequery.operators.program import too_many_rows
from finequery.operators.result_columns import exact_column
from finequery.operators.steps import Step
from finequery.operators.stream import Stream, collect
from finequery.operators.take import take
from finequery.operators.tasks import Task, gather, prepare, release_probes
from finequery.types import BIGINT

#: Row numbers of the left and of the right side, as columns of the pairs.
ROW, RIGHT_ROW = Column(BIGINT, -60), Column(BIGINT, -61)


@dataclass(eq=False)
class PairJoin(Task):
    """The join of a task with the build side of a probe."""

    kind: str
    left: Task
    left_columns: tuple[Column, ...]
    probe: Probe  # an inner probe with the condition
    mark: Column | None = None
    pipeline: Pipeline | None = None

    @property
    def inputs(self) -> tuple[Task, ...]:
        return (self.left, self.probe.build)

    def stream(self, context: Context, steps: Sequence[Step] = ()) -> Stream | None:
        """Left rows have their partners each for itself, but those of a full join, which right rows wait for."""
        stream = None if self.kind == "full" else self.left.stream(context)
        return None if stream is None else Stream(stream.rows, self._frames(context, stream))

    def _frames(self, context: Context, stream: Stream) -> Iterator[Frame]:
        took = Measured()
        try:
            with _Numbered(self.probe):
                prepare([self.probe], context, stream.rows)
            for frame in stream.frames:
                yield self._join(context, frame, took)
                del frame
        finally:
            release_probes([self.probe])
            record = self.measure(context)
            record.add(took)
            record.rows_out += took.rows_out

    def execute(self, context: Context) -> Frame:
        stream = self.stream(context)
        if stream is not None:
            return collect(stream, self.columns)
        try:
            with _Numbered(self.probe):
                left = gather(self.left, [self.probe], context)
            return self._join(context, left, self.measure(context))
        finally:
            release_probes([self.probe])

    def _join(self, context: Context, left: Frame, record: Measured) -> Frame:
        """The join of some left rows; the look-up of the right side is built."""
        payload = self.probe.payload
        self.probe.payload = (*payload, RIGHT_ROW)
        wide = Frame({**left.columns, ROW.id: _row_column(left.length)}, left.length)
        if self.pipeline is None:
            self.pipeline = materialize([ROW, RIGHT_ROW], [self.probe])
        try:
            pairs = self.pipeline.run(context, wide, record, context.where(self))
        finally:
            self.probe.payload = payload
        return watch.aside(left.length + pairs.length, self._answer, left, pairs, context.pool)

    def _answer(self, left: Frame, pairs: Frame, pool: Pool) -> Frame:
        """What the kind of join makes of the pairs of rows."""
        lefts, rights = _row_numbers(pairs.columns[ROW.id]), _row_numbers(pairs.columns[RIGHT_ROW.id])
        hit = np.zeros(left.length, dtype=bool)
        hit[lefts] = True
        kind, payload = self.kind, self.probe.payload
        if kind in ("semi", "anti"):
            rows = _as_rows(np.flatnonzero(hit if kind == "semi" else ~hit))
            return Frame({c.id: take(left.columns[c.id], rows, pool) for c in self.left_columns}, len(rows))
        if kind == "mark":
            assert self.mark is not None
            mark = exact_column(self.mark.type, hit.astype(np.int64))
            return Frame({**left.columns, self.mark.id: mark}, left.length)
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
        left_rows, right_rows = _as_rows(np.concatenate(all_left)), _as_rows(np.concatenate(all_right))
        columns = {c.id: take(left.columns[c.id], left_rows, pool, missing=True) for c in self.left_columns}
        columns |= {c.id: take(right.columns[c.id], right_rows, pool, missing=True) for c in payload}
        return Frame(columns, len(left_rows))


class _Numbered:
    """While a probe's build side is read, its rows have their numbers as one more column."""

    def __init__(self, probe: Probe):
        self._probe, self._build = probe, probe.build

    def __enter__(self) -> None:
        self._probe.build = _WithRow(self._build.columns, self._build, RIGHT_ROW)

    def __exit__(self, *_: object) -> None:
        self._probe.build = self._build


@dataclass(eq=False)
class _WithRow(Task):
    """A task's frame with its row numbers as one more column."""

    source: Task
    row: Column

    def execute(self, context: Context) -> Frame:
        frame = self.source.execute(context)
        return Frame({**frame.columns, self.row.id: _row_column(frame.length)}, frame.length)


def _row_column(count: int) -> ColumnData:
    """0, 1, 2, …"""
    data = padded(count, np.uint32)
    data[:] = np.arange(count, dtype=np.uint32)
    return ColumnData(BIGINT, "uint", count, data, stats=Stats(low=0, high=max(count - 1, 0)))


def _row_numbers(column: ColumnData) -> np.ndarray:
    return column.data[: column.length].astype(np.int64) + column.base


def _as_rows(numbers: np.ndarray) -> np.ndarray:
    rows = padded(len(numbers), np.uint32)
    rows[:] = numbers
    return rows
