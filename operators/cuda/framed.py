"""Window functions over frames on the GPU: counts and exact sums are differences of prefix sums, minima, maxima and
sums of doubles come from a tree over the positions. A whole partition, or all up to the row's peers, is a frame too."""

# mypy: ignore-errors
# ruff: noqa: F821
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from finequery.errors import NotSupportedError, OutOfRangeError
from finequery.jetson import memory
from finequery.operators.column import ColumnData, Stats
from finequery.operators.cuda import tree
from finequery.operators.cuda.frames import bounds, valid_before, wrapped
from finequery.operators.cuda.functions import bit
from finequery.operators.cuda.launch import launch
from finequery.operators.cuda.scan import exclusive_scan
from finequery.operators.cuda.sort import by_chunks, device_fields, number
from finequery.operators.expr import Frame
from finequery.operators.pool import Pool
from finequery.operators.scalar import add_w, f64_of_w, mul_w
from finequery.operators.sort_keys import Key, cut
from finequery.operators.take import NO_ROW, take
from finequery.operators.window import beyond_decimal, constant_or_rows, total_bounds, with_nulls
from finequery.types import DOUBLE, SqlType

#: The functions that are computed here.
FRAMED = frozenset(("count", "count_star", "first_value", "last_value", "nth_value", "min", "max", "sum", "avg"))


class Framed:
    """The calls over one order and frame."""

    def __init__(
        self,
        order: Any,
        keys: Sequence[tuple[ColumnData, bool, bool]],
        frame: Frame,
        type: SqlType,
        length: int,
        pool: Pool,
        device: Any,
    ):
        self.order, self.type, self.length, self.pool, self.device = order, type, length, pool, device
        self.low, self.high = bounds(order, keys, frame, length, device)

    def evaluate(self, name: str, args: Sequence[ColumnData], ignore_nulls: bool) -> ColumnData:
        """A call of one of ``FRAMED``."""
        if name in ("count", "count_star"):
            return self.count(args[0].validity if name == "count" else None)
        if name in ("min", "max"):
            return self.extreme(args[0], name == "max")
        if name in ("sum", "avg"):
            return self.total(args[0], name == "avg")
        return self.nth(name, args, ignore_nulls)

    def count(self, validity: np.ndarray | None) -> ColumnData:
        """Rows of the frame that are not NULL."""
        counts = self._counts(validity)
        data = memory.array(self.length, np.uint32)
        self._write(write_count, data, counts)
        return ColumnData(self.type, "uint", self.length, data, stats=Stats(low=0, high=self.length))

    def nth(self, name: str, args: Sequence[ColumnData], ignore_nulls: bool) -> ColumnData:
        """The value of the frame's first, last or n-th row, of those that are not NULL if the others are ignored."""
        constant, by_row = 1, None
        if name == "nth_value":
            constant, by_row, null = constant_or_rows(args[1])
            if by_row is not None and null is not None:
                by_row[null] = 0
        validity = args[0].validity if ignore_nulls else None
        places = before = self.device.zeros(1, np.int64)
        if validity is not None:
            before, places = self._counts(validity), self.device.empty(self.length, np.int64)
            self._launch(list_places, before, places)
        numbers = self.device.empty(1, np.int64) if by_row is None else self.device.view(memory.placed(by_row))
        options = int(validity is not None), int(name == "last_value"), constant, int(by_row is not None)
        source = memory.array(self.length, np.uint32)
        self._write(write_nth, source, *options, before, places, numbers)
        return take(args[0], source, self.pool, missing=True, device=self.device)

    def extreme(self, column: ColumnData, greatest: bool) -> ColumnData:
        """The least or greatest value: rows are compared by their place in an order of all values."""
        length, device = self.length, self.device
        by_value = device.empty(length, np.uint32)
        self._launch(number, by_value)
        fields = device_fields([Key(column, greatest, False)], length, self.pool, device)
        by_value = by_chunks(device, cut(fields, 64), by_value)
        places, ranks = device.empty(length, np.uint32), tree.leaves(device, length, np.int64)
        self._launch(invert, by_value, places)
        launch(list_ranks, device, ranks.size // 2, length, self.order.rows, places, ranks)
        best = tree.fold(device, length, ranks, self.low, self.high, least=True)
        source = device.empty(length, np.uint32, "result")
        self._launch(write_best, self.order.rows, best, by_value, source)
        rows = memory.array(length, np.uint32)
        rows[:] = device.to_host(source)
        return take(column, rows, self.pool, missing=True, device=self.device)

    def total(self, column: ColumnData, mean: bool) -> ColumnData:
        """Sum or average. Exact sums are of 64 bits where the bounds prove that enough, else of 128."""
        kind = column.type
        if not (kind.is_numeric or kind.name in ("BOOLEAN", "NULL")) or (mean and self.type != DOUBLE):
            raise NotSupportedError(f"{'avg' if mean else 'sum'} of {kind} as a window function is not supported")
        counts, some = self._counts(column.validity), self.device.empty(self.length, np.uint8, "result")
        low, high = (0, 0) if kind.is_float else total_bounds(column, self.length)
        stats = Stats()
        if kind.is_float:
            data, stored = self._doubles(column, counts, some, mean), "float64"
        elif not mean and low >= -(2**63) and high < 2**63 and column.kind != "int128":
            data, stored, stats = self._narrow(column, counts, some), "int64", Stats(low=low, high=high)
        else:
            wide = low <= -(10**38) or high >= 10**38
            data, stored = self._wide(column, counts, some, mean, wide), "float64" if mean else "int128"
            stats = Stats() if mean or wide else Stats(low=low, high=high)
        valid = self.device.to_host(some)
        return with_nulls(
            ColumnData(self.type, stored, self.length, data, stats=stats), None if valid.all() else valid.copy()
        )

    def _doubles(self, column: ColumnData, counts: Any, some: Any, mean: bool) -> np.ndarray:
        sums = tree.leaves(self.device, self.length, np.float64)
        valid = column.validity
        bits = self.device.empty(1, np.uint8) if valid is None else self.device.view(valid.view(np.uint8))
        arguments = (self.order.rows, bits, self.device.view(column.data), sums)
        masked = int(column.validity is not None)
        launch(list_summands, self.device, sums.size // 2, self.length, masked, *arguments)
        totals = tree.fold(self.device, self.length, sums, self.low, self.high, least=False)
        data = memory.array(self.length, np.float64)
        self._write(write_doubles, data, int(mean), counts, totals, some)
        return data

    def _narrow(self, column: ColumnData, counts: Any, some: Any) -> np.ndarray:
        sums = self.device.zeros(self.length + 1, np.int64)
        self._launch(list_values, self.order.rows, self.device.view(column.data), sums)
        exclusive_scan(self.device, sums)
        data = memory.array(self.length, np.int64)
        self._write(write_narrow, data, wrapped(column.base), wrapped(column.scale), counts, sums, some)
        return data

    def _wide(self, column: ColumnData, counts: Any, some: Any, mean: bool, wide: bool) -> np.ndarray:
        """Sums of pieces of 32 bits, each of which fits 64 bits over all rows, put together row by row."""
        pieces = 4 if column.kind == "int128" else 2
        limbs = [self.device.zeros(self.length + 1 if i < pieces else 1, np.int64) for i in range(4)]
        values = column.data.view(np.int64) if column.data.dtype == np.uint64 else column.data
        for piece in range(pieces):
            last = int(piece == pieces - 1)
            options = pieces // 2, piece // 2, 32 * (piece % 2), last
            self._launch(list_limbs, *options, self.order.rows, self.device.view(values), limbs[piece])
            exclusive_scan(self.device, limbs[piece])
        data = memory.array(self.length if mean else 2 * self.length, np.float64 if mean else np.uint64)
        out = self.device.empty(data.size, data.dtype if mean else np.int64, "result")
        status = self.device.zeros(1, np.int64, "result")
        base, scale = column.base, column.scale
        numbers = wrapped(base), wrapped(base >> 64), wrapped(scale), wrapped(scale >> 64)
        head = (self.order.rows, self.low, self.high, *limbs, counts, *numbers)
        if mean:
            self._launch(write_means, pieces, 10.0**column.type.scale, *head, out, some, status)
        else:
            self._launch(write_wide, pieces, *head, out, some, status)
        data.view(out.dtype)[:] = self.device.to_host(out)
        beyond = not mean and self.type.is_decimal and wide and beyond_decimal(data)
        if int(self.device.to_host(status)[0]) or beyond:
            raise OutOfRangeError(f"overflow in {'avg' if mean else 'sum'}: a total does not fit {self.type}")
        return data

    def _counts(self, validity: np.ndarray | None) -> Any:
        return valid_before(self.order.rows, validity, self.length, self.device)

    def _write(self, kernel: Any, out: np.ndarray, *words: Any) -> None:
        """A kernel that writes one value for each row."""
        result = self.device.empty(out.size, out.dtype, "result")
        self._launch(kernel, self.order.rows, self.low, self.high, *words, result)
        out[:] = self.device.to_host(result)

    def _launch(self, kernel: Any, *words: Any) -> None:
        launch(kernel, self.device, self.length, *words)


def write_count(n, order, low, high, counts, out):
    """Counts of the rows before, at both ends."""
    for p in range(cuda.grid(1), n, cuda.gridsize(1)):
        out[order[p]] = np.uint32(counts[high[p]] - counts[low[p]])


def list_places(n, before, places):
    """The positions of the rows that are not NULL."""
    for p in range(cuda.grid(1), n, cuda.gridsize(1)):
        if before[p + 1] != before[p]:
            places[before[p]] = p


def write_nth(n, order, low, high, listed, last, constant, by_row, before, places, numbers, out):
    """The row chosen, or NO_ROW. ``listed``: of the rows in ``places``, ``before`` of which are before a position."""
    for p in range(cuda.grid(1), n, cuda.gridsize(1)):
        row, first, end = order[p], low[p], high[p]
        if listed != 0:
            first, end = before[first], before[end]
        wanted = np.int64(constant)
        if by_row != 0:
            wanted = numbers[row]
        at = first + wanted - 1
        if last != 0:
            at = end - 1
        found = np.uint32(0xFFFFFFFF)
        if first <= at and at < end:
            if listed != 0:
                at = places[at]
            found = np.uint32(order[at])
        out[row] = found


def invert(n, order, places):
    """The place of each row in an order."""
    for i in range(cuda.grid(1), n, cuda.gridsize(1)):
        places[order[i]] = np.uint32(i)


def list_ranks(n, count, order, places, tree):
    """Leaves: the place of each position's row; behind the last more than any."""
    for p in range(cuda.grid(1), n, cuda.gridsize(1)):
        value = np.int64(count)
        if p < count:
            value = np.int64(places[order[p]])
        tree[n + p] = value


def write_best(n, order, best, by_value, out):
    """The rows with the places found."""
    for p in range(cuda.grid(1), n, cuda.gridsize(1)):
        found = np.uint32(0xFFFFFFFF)
        if best[p] < n:
            found = np.uint32(by_value[best[p]])
        out[order[p]] = found


def list_summands(n, count, masked, order, valid, values, tree):
    """Leaves: the double of each position's row, 0 where it is NULL and behind the last."""
    for p in range(cuda.grid(1), n, cuda.gridsize(1)):
        value = np.float64(0.0)
        if p < count:
            row = np.int64(order[p])
            if masked == 0 or bit(valid, row) != 0:
                value = np.float64(values[row])
        tree[n + p] = value


def write_doubles(n, order, low, high, mean, counts, totals, some, out):
    """Sums of doubles, or averages."""
    for p in range(cuda.grid(1), n, cuda.gridsize(1)):
        row, count, total = order[p], counts[high[p]] - counts[low[p]], totals[p]
        if mean != 0:
            total /= np.float64(max(count, np.int64(1)))
        out[row] = total
        some[row] = np.uint8(count > 0)


def list_values(n, order, values, out):
    """Stored values in the order's positions."""
    for p in range(cuda.grid(1), n, cuda.gridsize(1)):
        out[p] = np.int64(values[order[p]])


def write_narrow(n, order, low, high, base, scale, counts, sums, some, out):
    """Sums of 64 bits."""
    for p in range(cuda.grid(1), n, cuda.gridsize(1)):
        row, count = order[p], counts[high[p]] - counts[low[p]]
        out[row] = base * count + scale * (sums[high[p]] - sums[low[p]])
        some[row] = np.uint8(count > 0)


def list_limbs(n, words, word, shift, last, order, values, out):
    """32 bits of the stored values, of ``words`` words a row; the last ones with their sign."""
    for p in range(cuda.grid(1), n, cuda.gridsize(1)):
        value = np.int64(values[np.int64(order[p]) * words + word]) >> np.int64(shift)
        if last == 0:
            value &= np.int64(0xFFFFFFFF)
        out[p] = value


def joined(a, b, pieces, l0, l1, l2, l3):
    """The 128-bit sum of [a, b) from the prefix sums of its pieces; whether it overflows."""
    s0, s1 = l0[b] - l0[a], l1[b] - l1[a]
    low = np.uint64(s0) + (np.uint64(s1) << np.uint64(32))
    carry = np.int64(low < np.uint64(s0))
    if pieces == 2:
        return np.int64(low), (s1 >> np.int64(32)) + carry, np.uint8(0)
    upper = np.uint64(l2[b] - l2[a]) + (np.uint64(s1) >> np.uint64(32)) + np.uint64(carry)
    top = (l3[b] - l3[a]) + np.int64(upper >> np.uint64(32))
    beyond = np.uint8(top >= np.int64(0x80000000) or top < np.int64(-0x80000000))
    return np.int64(low), (top << np.int64(32)) | np.int64(upper & np.uint64(0xFFFFFFFF)), beyond


def decoded(low, high, count, base, base_high, scale, scale_high):
    """A 128-bit sum of stored values as that of the values; whether it overflows."""
    low, high, e = mul_w(low, high, scale, scale_high)
    more, more_high, f = mul_w(base, base_high, count, np.int64(0))
    low, high, g = add_w(low, high, more, more_high)
    return low, high, np.uint8(e | f | g)


def write_wide(n, pieces, order, low, high, l0, l1, l2, l3, counts, b, bh, s, sh, out, some, status):
    """Sums of 128 bits."""
    for p in range(cuda.grid(1), n, cuda.gridsize(1)):
        row, count = np.int64(order[p]), counts[high[p]] - counts[low[p]]
        x, xh, e = joined(low[p], high[p], pieces, l0, l1, l2, l3)
        x, xh, f = decoded(x, xh, count, b, bh, s, sh)
        if (e | f) != 0:
            status[0] = 1
        out[2 * row] = x
        out[2 * row + 1] = xh
        some[row] = np.uint8(count > 0)


def write_means(n, pieces, divisor, order, low, high, l0, l1, l2, l3, counts, b, bh, s, sh, out, some, status):
    """Averages of exact numbers, as doubles."""
    for p in range(cuda.grid(1), n, cuda.gridsize(1)):
        row, count = order[p], counts[high[p]] - counts[low[p]]
        x, xh, e = joined(low[p], high[p], pieces, l0, l1, l2, l3)
        x, xh, f = decoded(x, xh, count, b, bh, s, sh)
        if (e | f) != 0:
            status[0] = 1
        out[row] = f64_of_w(x, xh) / np.float64(max(count, np.int64(1))) / divisor
        some[row] = np.uint8(count > 0)


__all__ = ["FRAMED", "NO_ROW", "Framed"]
