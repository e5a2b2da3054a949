"""Window functions over frames that move with the row: ROWS, RANGE and GROUPS BETWEEN … AND …, and IGNORE NULLS.

Everything is computed over positions of the sorted order. A frame is [low, high) for every position; counts and exact
sums are differences of running totals, minima, maxima and sums of doubles come from a tree over the positions
(Leis et al., "Efficient Processing of Window Functions in Analytical SQL Queries", VLDB 2015), level by level for a
stretch of rows at once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from finequery.errors import NotSupportedError
from finequery.jetson import memory
from finequery.operators import watch
from finequery.operators.column import ColumnData, Stats
from finequery.operators.concat import mask_of
from finequery.operators.export import integers
from finequery.operators.expr import Frame
from finequery.operators.sort import Sort, all_fields
from finequery.operators.sort_keys import Key
from finequery.operators.take import NO_ROW, take
from finequery.types import Interval, SqlType

if TYPE_CHECKING:
    from finequery.operators.pool import Pool

_PARTITION = 2
#: Positions that are worked on at a time: their frames stay in a cache.
STRETCH = 1 << 16
_DAY = 86_400_000_000
_MOST = 2**63 - 1


@dataclass
class Ordered:
    """The sorted rows that frames are counted over: ``flags`` as primitives.windows has them."""

    rows: np.ndarray
    flags: np.ndarray
    type: SqlType
    length: int
    pool: Pool

    def column(
        self, kind: str, values: np.ndarray, valid: np.ndarray | None = None, stats: Stats | None = None
    ) -> ColumnData:
        """A result given by position, in the order of the rows; NULL where ``valid`` is false."""
        width = 2 if kind == "int128" else 1
        data = memory.array(width * self.length, values.dtype)
        if valid is not None:
            values[~valid] = 0
        data.reshape(self.length, width)[self.rows] = values.reshape(self.length, width)
        column = ColumnData(self.type, kind, self.length, data, stats=stats or Stats())
        if valid is not None and not valid.all():
            by_row = np.empty(self.length, np.bool_)
            by_row[self.rows] = valid
            column.validity = memory.array((self.length + 63) // 64 * 8, np.uint8, zero=True)
            bits = np.packbits(by_row, bitorder="little")
            column.validity[: len(bits)] = bits
            column.stats.nulls = self.length - int(np.count_nonzero(valid))
        return column


def evaluate(
    name: str,
    args: Sequence[ColumnData],
    ordered: Ordered,
    keys: Sequence[tuple[ColumnData, bool, bool]],
    frame: Frame,
    ignore_nulls: bool,
) -> ColumnData:
    """One window call over its frames. ``keys``: the ORDER BY terms, as (column, descending, nulls first)."""
    low, high = bounds(ordered, keys, frame)
    if name == "count_star":
        return _counted(ordered, high - low)
    column = args[0]
    mask = mask_of(column)
    valid = None if mask is None else mask[ordered.rows]
    if name in ("first_value", "last_value", "nth_value"):
        seen = valid if ignore_nulls else None
        number = integers(args[1], np.int64)[ordered.rows] if name == "nth_value" else None
        if number is not None and (wanted := mask_of(args[1])) is not None:
            number[~wanted[ordered.rows]] = 0
        return _chosen(ordered, column, _nth(low, high, seen, number, name == "last_value"))
    if name in ("min", "max"):
        return _chosen(ordered, column, _extreme(ordered, column, low, high, name == "max"))
    total = _running(np.ones(ordered.length, np.int64) if valid is None else valid.astype(np.int64))
    counts = total[high] - total[low]
    if name == "count":
        return _counted(ordered, counts)
    if name in ("sum", "avg"):
        return _sum(ordered, column, valid, low, high, counts, name == "avg")
    raise NotSupportedError(f"{name} over a moving frame is not supported")


# --- frames ----------------------------------------------------------------------------------------------------------


def _edges(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The beginning and the end of each position's run; ``mask`` is true where runs begin."""
    starts = np.flatnonzero(mask)
    ends = np.append(starts[1:], len(mask))[: len(starts)]
    return np.repeat(starts, ends - starts), np.repeat(ends, ends - starts)


def bounds(
    ordered: Ordered, keys: Sequence[tuple[ColumnData, bool, bool]], frame: Frame
) -> tuple[np.ndarray, np.ndarray]:
    """First position, and the one behind the last, of every position's frame."""
    n, flags = ordered.length, ordered.flags
    first, end = _edges(flags & _PARTITION != 0)
    here = np.arange(n)
    if frame.unit == "rows":
        low = first if frame.start is None else np.clip(here + frame.start, first, end)
        high = end if frame.end is None else np.clip(here + frame.end + 1, first, end)
    elif frame.unit == "groups":
        begins = flags != 0
        number = np.cumsum(begins) - 1
        starts = np.append(np.flatnonzero(begins), n)
        least, most = number[first], number[end - 1] + 1
        low = first if frame.start is None else starts[np.clip(number + frame.start, least, most)]
        high = end if frame.end is None else starts[np.clip(number + frame.end + 1, least, most)]
    else:
        low, high = _range(ordered, keys, frame, first, end)
    return low, np.maximum(low, high)


def _range(
    ordered: Ordered,
    keys: Sequence[tuple[ColumnData, bool, bool]],
    frame: Frame,
    first: np.ndarray,
    end: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """RANGE: by distance of the key's values; without a distance by peers. The peers of a NULL are the NULLs."""
    peer, peer_end = _edges(ordered.flags != 0)
    low = first if frame.start is None else peer
    high = end if frame.end is None else peer_end
    if not frame.start and not frame.end:
        return low, high
    column, descending, nulls_first = keys[0]
    if column.kind == "int128":
        raise NotSupportedError("RANGE with a distance over numbers beyond 64 bits is not supported")
    floats = column.type.is_float
    values = (column.data.astype(np.float64) if floats else integers(column, np.int64))[ordered.rows]
    if floats:
        values = np.where(np.isnan(values), np.inf, values)
    sign = -1 if descending else 1
    start, stop, mask = first, end, mask_of(column)
    known = None if mask is None else mask[ordered.rows]
    if known is not None:  # NULLs stand together at one end of their partition
        nulls = _running((~known).astype(np.int64))
        missing = nulls[end] - nulls[first]
        start, stop = (first + missing, end) if nulls_first else (first, end - missing)
    for distance, right in ((frame.start, False), (frame.end, True)):
        if not distance:
            continue
        target = sign * _moved(values, distance, sign)
        found = _search(sign * values, target, start, stop, right)
        if known is not None:
            found = np.where(known, found, peer_end if right else peer)
        low, high = (low, found) if right else (found, high)
    return low, high


def _moved(values: np.ndarray, distance: Any, sign: int) -> np.ndarray:
    """The values a distance further along the order."""
    if not isinstance(distance, Interval):
        if values.dtype == np.float64:
            return values + sign * distance
        step = max(-_MOST, min(sign * distance, _MOST))
        limit = _MOST - step if step > 0 else -_MOST - step
        outside = values > limit if step > 0 else values < limit
        return np.where(outside, _MOST if step > 0 else -_MOST, values + (0 if outside.all() else step))
    months, days, micros = (sign * part for part in distance)
    if months:
        day, rest = values // _DAY, values % _DAY
        month = day.astype("datetime64[D]").astype("datetime64[M]")
        of_month = day - month.astype("datetime64[D]").astype(np.int64)
        moved = month + np.timedelta64(months, "M")
        last = (moved + np.timedelta64(1, "M")).astype("datetime64[D]").astype(np.int64) - 1
        begin = moved.astype("datetime64[D]").astype(np.int64)
        values = np.minimum(begin + of_month, last) * _DAY + rest
    return values + (days * _DAY + micros)


def _search(values: np.ndarray, targets: np.ndarray, low: np.ndarray, high: np.ndarray, right: bool) -> np.ndarray:
    """For every target the first position in [low, high) whose value is not less (``right``: is greater)."""
    result = np.empty(len(low), np.int64)
    for begin, end in watch.pieces(len(low), STRETCH):
        first, last, wanted = low[begin:end], high[begin:end], targets[begin:end]
        while (open_ := first < last).any():
            middle = (first + last) >> 1
            seen = values[np.minimum(middle, len(values) - 1)]
            before = open_ & (seen <= wanted if right else seen < wanted)
            last = np.where(open_ & ~before, middle, last)
            first = np.where(before, middle + 1, first)
        result[begin:end] = first
    return result


# --- functions -------------------------------------------------------------------------------------------------------


def _running(values: np.ndarray) -> np.ndarray:
    """The total before every position and behind the last; 64-bit integers wrap, so differences stay right."""
    out = np.zeros(len(values) + 1, values.dtype)
    np.cumsum(values, out=out[1:])
    return out


def _counted(ordered: Ordered, counts: np.ndarray) -> ColumnData:
    return ordered.column("int64", counts, stats=Stats(low=0, high=ordered.length))


def _chosen(ordered: Ordered, column: ColumnData, source: np.ndarray) -> ColumnData:
    """The values at the positions chosen for each position; -1 is NULL."""
    by_row = memory.array(ordered.length, np.uint32)
    by_row[ordered.rows] = np.where(source < 0, NO_ROW, ordered.rows[np.maximum(source, 0)])
    return take(column, by_row, ordered.pool, missing=True)


def _nth(
    low: np.ndarray, high: np.ndarray, seen: np.ndarray | None, number: np.ndarray | None, last: bool
) -> np.ndarray:
    """The position of the frame's first, last or n-th value, of those that are ``seen``; -1 where there is none."""
    places = np.arange(len(low)) if seen is None else np.flatnonzero(seen)
    before = np.arange(len(low) + 1) if seen is None else _running(seen.astype(np.int64))
    first, end = before[low], before[high]
    at = end - 1 if last else first if number is None else first + number - 1
    found = (at >= first) & (at < end)
    return np.where(found, places[np.where(found, at, 0)] if len(places) else 0, -1)


def _extreme(ordered: Ordered, column: ColumnData, low: np.ndarray, high: np.ndarray, greatest: bool) -> np.ndarray:
    """The position of the least value of every frame: rows are compared by their place in a sorted order."""
    n = ordered.length
    by_value = Sort(n, ordered.pool).by_fields(all_fields([Key(column, greatest, False)], n, ordered.pool))
    rank = np.empty(n, np.int64)
    rank[by_value] = np.arange(n)
    best = _folded(rank[ordered.rows], low, high, np.minimum, n)
    position = np.empty(n + 1, np.int64)
    position[rank[ordered.rows]] = np.arange(n)
    position[n] = -1
    return position[best]


def _folded(
    values: np.ndarray, low: np.ndarray, high: np.ndarray, combine: Callable[..., np.ndarray], nothing: Any
) -> np.ndarray:
    """``combine`` over every frame: the nodes of a binary tree that cover it, from the leaves up."""
    levels, widest = [values], int((high - low).max(initial=0))
    while widest >> len(levels):
        if len(values) & 1:
            values = np.append(values, np.array([nothing], values.dtype))
        values = combine(values[::2], values[1::2])
        levels.append(values)
    result = np.full(len(low), nothing, levels[0].dtype)
    for begin, end in watch.pieces(len(low), STRETCH):
        first, last, found = low[begin:end], high[begin:end], result[begin:end]
        for nodes in levels:
            for odd, at in ((first & 1 == 1, first), (last & 1 == 1, last - 1)):
                wanted = np.flatnonzero(odd & (first < last))
                found[wanted] = combine(found[wanted], nodes[at[wanted]])
            first, last = (first + 1) >> 1, last >> 1
            if not (first < last).any():
                break
    return result


def _sum(
    ordered: Ordered,
    column: ColumnData,
    valid: np.ndarray | None,
    low: np.ndarray,
    high: np.ndarray,
    counts: np.ndarray,
    mean: bool,
) -> ColumnData:
    known = counts > 0
    divisor = np.maximum(counts, 1)
    if column.type.is_float:
        values = column.data.astype(np.float64)[ordered.rows]
        values = values if valid is None else np.where(valid, values, 0.0)
        total = _folded(values, low, high, np.add, 0.0)
        return ordered.column("float64", total / divisor if mean else total, known)
    if column.kind == "int128":
        raise NotSupportedError("sum and avg of numbers beyond 64 bits over a moving frame are not supported")
    exact = integers(column, np.int64)[ordered.rows]
    exact = exact if valid is None else np.where(valid, exact, 0)
    most = int((high - low).max(initial=0)) * max(abs(int(exact.min(initial=0))), abs(int(exact.max(initial=0))))
    if most < 2**63:
        running = _running(exact)
        total = running[high] - running[low]
        if mean:
            return ordered.column("float64", total / divisor / 10.0**column.type.scale, known)
        return ordered.column("int64", total, known, Stats(low=-most, high=most))
    upper, lower = (_running(part) for part in (exact >> 32, exact & 0xFFFFFFFF))  # each total fits 64 bits
    tops, bottoms = upper[high] - upper[low], lower[high] - lower[low]
    if mean:
        total = (tops * 2.0**32 + bottoms) / divisor / 10.0**column.type.scale
        return ordered.column("float64", total, known)
    words = np.empty((ordered.length, 2), np.uint64)
    shifted = tops.astype(np.uint64) << np.uint64(32)
    words[:, 0] = shifted + bottoms.astype(np.uint64)
    words[:, 1] = ((tops >> 32) + (words[:, 0] < shifted)).astype(np.uint64)
    return ordered.column("int128", words, known)
