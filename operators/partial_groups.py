"""Groups of rows that come in batches: each batch gives groups with parts of their results, and parts are put together.

A call becomes one or more *parts* that can be: a count and a sum are added up, a mean is a sum and a count, a variance
is a count, a mean and a sum of squared distances from it (put together as Chan, Golub, LeVeque do, "Updating formulae
and a pairwise algorithm for computing sample variances", 1979). Parts are put together whenever more of them have come
than there are groups, so memory is that of the groups.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from finequery.jetson import accounts, memory
from finequery.operators import native
from finequery.operators.aggregate_calls import MEAN, MOMENTS, SQUARES, Call, finish_moments, finish_sum
from finequery.operators.column import ColumnData, Frame
from finequery.operators.context import Context, Measured
from finequery.operators.expr import Column
from finequery.operators.numbered_groups import number_groups
from finequery.operators.result_columns import float_column, wide_objects
from finequery.operators.stream import Stream, joined, owned, refused
from finequery.operators.take import take
from finequery.types import BIGINT, DOUBLE, HUGEINT, SqlType

if TYPE_CHECKING:
    from finequery.operators.aggregate import Aggregate

#: Bytes of parts that are left lying before they are put together, at the most, and as a part of memory that is left.
MOST, SHARE = 64 << 20, 16
_fresh = itertools.count(-3 * 10**12, -1)


@dataclass(eq=False)
class Parts:
    """The parts of an aggregation's calls. ``part`` gives them for a frame of its source; ``end`` puts those together
    that are added up or compared; of ``moments`` (count, mean, squares) it does the counts alone."""

    whole: Aggregate
    part: Aggregate = field(init=False)
    end: Aggregate = field(init=False)
    moments: list[tuple[Column, Column, Column]] = field(init=False)

    def __post_init__(self) -> None:
        from finequery.operators.aggregate import Aggregate

        whole = self.whole
        self._known: dict[tuple[str, int | None, int | None], Column] = {}
        self._calls: list[Call] = []
        self._ends: list[Call] = []
        self._of: dict[int, tuple[Column, ...]] = {c.output.id: self._parts(c) for c in whole.calls}
        of_moments = [self._of[c.output.id] for c in whole.calls if c.name in MOMENTS]
        self.moments = list({mean.id: (count, mean, squares) for count, mean, squares in of_moments}.values())
        columns = (*whole.groups, *(c.output for c in self._calls))
        groups, expected = whole.groups, whole.expected_groups
        self.part = Aggregate(columns, whole.source, whole.steps, groups, tuple(self._calls), expected, owner=whole)
        self.end = Aggregate(columns, whole.source, [], groups, tuple(self._ends), expected, owner=whole)

    def _parts(self, call: Call) -> tuple[Column, ...]:
        if call.name == "avg":
            assert call.argument is not None
            return self._add(call, "sum", _sum_type(call.argument.type)), self._add(call, "count", BIGINT)
        if call.name in MOMENTS:
            return self._add(call, "count", BIGINT), self._add(call, MEAN, DOUBLE), self._add(call, SQUARES, DOUBLE)
        return (self._add(call, call.name, call.output.type),)

    def _add(self, call: Call, name: str, sql_type: SqlType) -> Column:
        argument, keep = call.argument, call.filter
        key = name, None if argument is None else argument.id, None if keep is None else keep.id
        found = self._known.get(key)
        if found is None:
            found = self._known[key] = Column(sql_type, next(_fresh))
            self._calls.append(Call(found, name, argument, keep))
            if name not in (MEAN, SQUARES):
                self._ends.append(Call(found, "sum" if name in ("count", "count_star") else name, found, None))
        return found

    def together(self, context: Context, frames: list[Frame]) -> Frame:
        """One frame of parts, a row for each group, of several. The list is emptied."""
        memory.unused()  # this takes most memory, and seldom runs
        with refused():
            frame = joined(frames, self.part.columns)
        if not self.moments:
            return self.end.grouped(context, frame, Measured())
        groups = [frame.columns[c.id] for c in self.whole.groups]
        numbers, count, firsts = number_groups(groups, frame.length, context.pool)
        result = self.end.by_number(context, frame, numbers, count, Measured())
        result.columns |= {c.id: take(data, firsts, context.pool) for c, data in zip(self.whole.groups, groups)}
        for moments in self.moments:
            size, mean, squares = (_numbers(frame.columns[c.id]).astype(np.float64) for c in moments)
            source = np.ascontiguousarray(np.stack([size, mean, squares], axis=1))
            target = np.zeros((count, 3))
            addresses = (memory.address(array) for array in (target, source, numbers))
            native.run("merge_moments", *addresses, 3, n=frame.length)
            for column, values in zip(moments[1:], target.T[1:]):
                result.columns[column.id] = float_column(DOUBLE, values, np.ones(count, dtype=bool))
        return result

    def finish(self, frame: Frame) -> Frame:
        """The whole's columns of the parts of all rows."""
        columns = {c.id: frame.columns[c.id] for c in self.whole.groups}
        for call in self.whole.calls:
            parts = [frame.columns[c.id] for c in self._of[call.output.id]]
            if call.name == "avg":
                columns[call.output.id] = finish_sum(call, *map(_numbers, parts))
            elif call.name in MOMENTS:
                columns[call.output.id] = finish_moments(call, _numbers(parts[0]), _numbers(parts[2]))
            else:
                columns[call.output.id] = parts[0]
        return Frame(columns, frame.length)


def in_parts(whole: Aggregate, context: Context, stream: Stream, record: Measured) -> Frame:
    """The groups of a stream of the aggregation's source; the look-ups of probes are built."""
    parts = Parts(whole)
    held: list[Frame] = []
    waiting = done = 0  # bytes of parts, and of those that were put together
    for frame in stream.frames:
        part = parts.part.grouped(context, frame, record)
        del frame
        with refused():
            held.append(owned(part, parts.part.columns))
        del part
        waiting += _size(held[-1])
        if waiting > max(done, min(MOST, _left() // SHARE)):
            held.append(parts.together(context, held))
            waiting, done = 0, _size(held[0])
    if len(held) > 1:
        held.append(parts.together(context, held))
    whole.mode = parts.part.mode
    return parts.finish(held[0])


def _size(frame: Frame) -> int:
    """Bytes of a frame with its dictionaries."""
    columns = frame.columns.values()
    texts = {id(c.dictionary): c.dictionary.chars.nbytes + c.dictionary.offsets.nbytes for c in columns if c.dictionary}
    return sum(column.nbytes for column in columns) + sum(texts.values())


def _left() -> int:
    limit = accounts.limit()
    return MOST * SHARE if limit is None else max(limit - accounts.live(), 0)


def _sum_type(sql_type: SqlType) -> SqlType:
    if sql_type.is_float:
        return DOUBLE
    return SqlType("DECIMAL", 38, sql_type.scale) if sql_type.is_decimal else HUGEINT


def _numbers(column: ColumnData) -> np.ndarray:
    """Physical values as int64, Python integers or doubles; of NULL something."""
    if column.kind == "int128":
        return wide_objects(column.data[: 2 * column.length].view(np.int64).reshape(-1, 2))
    values = column.data[: column.length]
    if column.type.is_float:
        return values
    stored = values.astype(np.int64)
    return stored if (column.base, column.scale) == (0, 1) else stored * column.scale + column.base
