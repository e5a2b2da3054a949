"""Frames of window functions on the GPU: for each position of the sorted order the first position of its frame and the
one behind its last, as ``operators.window_frames`` has them."""

# mypy: ignore-errors
# ruff: noqa: F821
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from finequery.errors import NotSupportedError
from finequery.operators.column import ColumnData
from finequery.operators.cuda.functions import bit
from finequery.operators.cuda.launch import launch
from finequery.operators.cuda.radix import ALL
from finequery.operators.cuda.scan import exclusive_scan
from finequery.operators.expr import Frame
from finequery.operators.scalar import add_months, floor_div_i64
from finequery.types import Interval

_UNITS = {"rows": 0, "groups": 1, "range": 2}
_MOST = 2**63 - 1
_DAY = 86_400_000_000


def wrapped(value: int) -> np.int64:
    """A number of any size as the int64 of its lowest bits."""
    value &= ALL
    return np.int64(value - (1 << 64) if value >> 63 else value)


def bounds(
    order: Any, keys: Sequence[tuple[ColumnData, bool, bool]], frame: Frame, length: int, device: Any
) -> tuple[Any, Any]:
    """Bounds (int64, on the device) by position. ``order``: the Positions of ``operators.cuda.window``."""
    low, high = device.empty(length, np.int64), device.empty(length, np.int64)
    where = (order.parts, order.part_starts, order.peers, order.peer_starts)
    distant = frame.unit == "range" and bool(frame.start or frame.end)
    numbers = (0 if distant or x is None else x for x in (frame.start, frame.end))
    options = (_UNITS[frame.unit], int(frame.start is not None), int(frame.end is not None), *map(wrapped, numbers))
    launch(write_bounds, device, length, *options, *where, low, high)
    if distant:
        _search_distances(order, keys[0], frame, length, device, low, high)
    return low, high


def _search_distances(
    order: Any, key: tuple[ColumnData, bool, bool], frame: Frame, length: int, device: Any, low: Any, high: Any
) -> None:
    """RANGE: the bounds that are a distance of the key's values away."""
    column, descending, nulls_first = key
    if column.kind == "int128":
        raise NotSupportedError("RANGE with a distance over numbers beyond 64 bits is not supported")
    floats, sign = column.type.is_float, -1 if descending else 1
    kind: Any = np.float64 if floats else np.int64
    values, targets = device.empty(length, kind), device.empty(length, kind)
    data = device.view(column.data)
    if floats:
        launch(list_doubles, device, length, sign, order.rows, data, values)
    else:
        numbers = wrapped(column.base), wrapped(column.scale)
        launch(list_integers, device, length, sign, *numbers, order.rows, data, values)
    nulls = valid_before(order.rows, column.validity, length, device)
    known = int(column.validity is not None)
    for distance, right, out in ((frame.start, 0, low), (frame.end, 1, high)):
        if not distance:
            continue
        if isinstance(distance, Interval):
            months, days, micros = (sign * part for part in distance)
            launch(move_dates, device, length, sign, months, wrapped(days * _DAY + micros), values, targets)
        elif floats:
            launch(move_doubles, device, length, float(distance), values, targets)
        else:
            step = max(-_MOST, min(sign * distance, _MOST))
            launch(move_integers, device, length, sign, step, values, targets)
        where = (order.parts, order.part_starts, nulls)
        launch(search_targets, device, length, right, known, int(nulls_first), *where, values, targets, out)
    launch(order_bounds, device, length, low, high)


def valid_before(rows: Any, validity: np.ndarray | None, length: int, device: Any) -> Any:
    """Rows that are not NULL before each position, and before the end (int64)."""
    counts = device.zeros(length + 1, np.int64)
    valid = device.empty(1, np.uint8) if validity is None else device.view(validity.view(np.uint8))
    launch(list_valid, device, length, int(validity is not None), rows, valid, counts)
    exclusive_scan(device, counts)
    return counts


def list_valid(n, masked, order, valid, out):
    """1 at positions whose row is not NULL, else 0."""
    for p in range(cuda.grid(1), n, cuda.gridsize(1)):
        out[p] = np.int64(masked == 0 or bit(valid, np.int64(order[p])) != 0)


def write_bounds(n, unit, from_start, to_end, start, end, parts, part_starts, peers, peer_starts, low, high):
    """Frames by rows, by groups of peers, or from and to the peers; without a bound those of the partition."""
    for p in range(cuda.grid(1), n, cuda.gridsize(1)):
        first, last = np.int64(part_starts[parts[p]]), np.int64(part_starts[np.int64(parts[p]) + 1])
        a, b, peer = first, last, np.int64(peers[p])
        if unit == 0:
            if from_start != 0:
                a = min(max(p + start, first), last)
            if to_end != 0:
                b = min(max(p + end + 1, first), last)
        elif unit == 1:
            least, most = np.int64(peers[first]), np.int64(peers[last - 1]) + 1
            if from_start != 0:
                a = np.int64(peer_starts[min(max(peer + start, least), most)])
            if to_end != 0:
                b = np.int64(peer_starts[min(max(peer + end + 1, least), most)])
        else:
            if from_start != 0:
                a = np.int64(peer_starts[peer])
            if to_end != 0:
                b = np.int64(peer_starts[peer + 1])
        low[p] = a
        high[p] = max(a, b)


def list_doubles(n, sign, order, values, out):
    """Keys in the order's positions, so that they ascend; NaN as infinity."""
    for p in range(cuda.grid(1), n, cuda.gridsize(1)):
        value = np.float64(values[order[p]])
        if value != value:
            value = np.float64(np.inf)
        out[p] = value if sign > 0 else -value


def list_integers(n, sign, base, scale, order, values, out):
    """The same of exact numbers."""
    for p in range(cuda.grid(1), n, cuda.gridsize(1)):
        out[p] = np.int64(sign) * (base + scale * np.int64(values[order[p]]))


def move_doubles(n, distance, values, targets):
    """Keys a distance further along the order."""
    for p in range(cuda.grid(1), n, cuda.gridsize(1)):
        targets[p] = values[p] + distance


def move_integers(n, sign, step, values, targets):
    """The same of exact numbers; they end at the last of 64 bits. ``step``: of the keys as they are."""
    most = np.int64(9223372036854775807)
    for p in range(cuda.grid(1), n, cuda.gridsize(1)):
        value = np.int64(sign) * values[p]
        if step > 0 and value > most - step:
            value = most
        elif step <= 0 and value < -most - step:
            value = -most
        else:
            value += step
        targets[p] = np.int64(sign) * value


def move_dates(n, sign, months, micros, values, targets):
    """The same of times, by months and microseconds."""
    day = np.int64(86400000000)
    for p in range(cuda.grid(1), n, cuda.gridsize(1)):
        value = np.int64(sign) * values[p]
        if months != 0:
            days = floor_div_i64(value, day)
            value = add_months(days, np.int64(months)) * day + (value - days * day)
        targets[p] = np.int64(sign) * (value + micros)


def search_targets(n, right, masked, nulls_first, parts, part_starts, known, values, targets, out):
    """The first position of the partition whose key is not less (``right``: is greater) than the target. NULLs stand
    together at one end: they keep the bounds of their peers, and the others' searches leave them out."""
    for p in range(cuda.grid(1), n, cuda.gridsize(1)):
        a, b = np.int64(part_starts[parts[p]]), np.int64(part_starts[np.int64(parts[p]) + 1])
        if masked != 0:
            if known[p + 1] == known[p]:
                continue
            missing = (b - a) - (known[b] - known[a])
            if nulls_first != 0:
                a += missing
            else:
                b -= missing
        target = targets[p]
        while a < b:
            middle = (a + b) >> 1
            value = values[middle]
            if value < target or (right != 0 and value == target):
                a = middle + 1
            else:
                b = middle
        out[p] = a


def order_bounds(n, low, high):
    """No frame ends before it starts."""
    for p in range(cuda.grid(1), n, cuda.gridsize(1)):
        high[p] = max(low[p], high[p])
