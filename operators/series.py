"""range and generate_series: a table of one column of numbers or timestamps."""

from __future__ import annotations

import numpy as np

from finequery.errors import BindError, OutOfRangeError
from finequery.operators.calendar import add_interval
from finequery.operators.column import ColumnData
from finequery.operators.concat import compact
from finequery.operators.table import MemoryTable
from finequery.types import BIGINT, Interval, SqlType

#: Rows of one series: as many as a column can have.
_MOST = 2**32 - 2


def numbers(name: str, start: int, stop: int, step: int, inclusive: bool) -> MemoryTable:
    """start, start + step, … up to ``stop``, which is in it where it is inclusive."""
    if step == 0:
        raise BindError(f"The step of {name} can't be 0.")
    stop += (1 if step > 0 else -1) if inclusive else 0
    values = range(start, stop, step)
    if len(values) > _MOST:
        raise OutOfRangeError(f"{name} would give {len(values):,} rows; {_MOST:,} are the most.")
    if values and not all(-(2**63) <= v < 2**63 for v in (values[0], values[-1])):
        raise OutOfRangeError(f"{name} goes beyond BIGINT.")
    data = np.arange(len(values), dtype=np.int64) * step + start
    return _table(name, ColumnData(BIGINT, "int64", len(data), data))


def moments(kind: SqlType, name: str, start: int, stop: int, step: Interval, inclusive: bool) -> MemoryTable:
    """Timestamps with a time zone or without, each an interval after the one before it."""
    signs = {(part > 0) - (part < 0) for part in step} - {0}
    if len(signs) != 1:
        raise BindError(f"The step of {name} goes one way, forwards or backwards.")
    (sign,) = signs
    values, current = [], start
    if not step.months:
        size = step.days * 86_400_000_000 + step.micros
        table = numbers(name, start, stop, size, inclusive)
        (column,) = table.load([name])
        column.type = kind
        return _table(name, column)
    while sign * current < sign * stop or (inclusive and current == stop):
        values.append(current)
        current = add_interval(current, step)
    data = np.array(values, np.int64)
    return _table(name, ColumnData(kind, "int64", len(data), data))


def _table(name: str, column: ColumnData) -> MemoryTable:
    return MemoryTable.restored(name, [(name, column.type)], [compact(column)])
