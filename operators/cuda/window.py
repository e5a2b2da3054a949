"""Window functions on the GPU: every position of the sorted order finds its partition and its peers by number, so that
each call is one look at where these begin and end, or at prefix sums there."""

# mypy: ignore-errors
# ruff: noqa: F821
from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from finequery.jetson import memory
from finequery.operators.column import ColumnData
from finequery.operators.cuda.launch import launch
from finequery.operators.cuda.scan import exclusive_scan
from finequery.operators.cuda.sort import by_chunks, device_fields, number, words_of
from finequery.operators.cuda.translate import Unsupported
from finequery.operators.pool import Pool
from finequery.operators.sort import known_order
from finequery.operators.sort_keys import Field, Key, cut
from finequery.operators.window import WindowCall


class Positions(NamedTuple):
    """Rows sorted by partition and order keys; for each position the number of its partition and of its peers, and
    where these begin; what names the order."""

    rows: Any
    parts: Any
    part_starts: Any
    peers: Any
    peer_starts: Any
    kept: object


def positions(
    partition: Sequence[ColumnData],
    order: Sequence[tuple[ColumnData, bool, bool]],
    length: int,
    pool: Pool,
    cache: dict[Any, Any],
    device: Any,
) -> Positions:
    """The positions of an order, kept in the cache."""
    name = ("gpu", tuple(map(id, partition)), tuple((id(c), *flags) for c, *flags in order))
    found = cache.get(name)
    if found is None:
        groups, terms = [Key(c, False, False) for c in partition], [Key(*key) for key in order]
        group_fields, fields = (device_fields(keys, length, pool, device) for keys in (groups, terms))
        known = known_order([*groups, *terms], length, length)
        if known is None:
            rows = device.empty(length, np.uint32)
            launch(number, device, length, rows)
            rows = by_chunks(device, cut([*group_fields, *fields], 64), rows)
        else:
            rows = device.view(memory.placed(known))
        parts = _numbered(device, group_fields, rows)
        peers = _numbered(device, [*group_fields, *fields], rows) if fields else parts
        found = cache[name] = Positions(rows, *parts, *peers, (list(partition), list(order)))
    return found


def _numbered(device: Any, fields: Sequence[Field], rows: Any) -> tuple[Any, Any]:
    """Numbers of runs of rows in which all fields are equal, by position, and where the runs begin."""
    count = rows.size
    marks, numbers = device.zeros(count, np.int64), device.empty(count, np.uint32)
    for chunk in cut(fields, 64):
        launch(mark_changes, device, count, words_of(device, chunk, rows), marks)
    before = device.empty(count, np.int64)
    launch(copy_marks, device, count, marks, before)
    runs = int(device.to_host(exclusive_scan(device, before))[0]) + 1
    starts = device.empty(runs + 1, np.uint32)
    launch(number_runs, device, count, marks, before, numbers, starts)
    return numbers, starts


class GpuCall(WindowCall):
    """A call of a window function whose kernels run on the device."""

    def __init__(self, order: Positions, running: bool, type: SqlType, length: int, pool: Pool, device: Any):
        super().__init__(order, running, type, length, pool)
        self.device = device

    def run(self, kernel: str, out: np.ndarray, *words: Any) -> int:
        """A kernel over all positions; an array that may be missing is passed behind whether it is there."""
        function = _KERNELS[kernel]
        arguments = []
        for word in words:
            if word is None or isinstance(word, np.ndarray):
                array = self.device.empty(1, np.int64) if word is None else self.device.view(word)
                arguments += [int(word is not None), array]
            else:
                arguments.append(word)
        return self._write(function, out, *arguments)

    def joined(self, text: ColumnData, separator: ColumnData) -> ColumnData:
        raise Unsupported("string_agg joins text on the CPU")

    def _write(self, kernel: Any, out: np.ndarray, *words: Any) -> int:
        order = self.order
        result = self.device.empty(len(out), out.dtype, "result")
        where = (order.rows, order.parts, order.part_starts, order.peers, order.peer_starts)
        launch(kernel, self.device, self.length, *where, result, *words)
        out[:] = self.device.to_host(result)
        return 0


def mark_changes(n, words, marks):
    """1 where a word differs from the one before."""
    for i in range(cuda.grid(1), n, cuda.gridsize(1)):
        if i > 0 and words[i] != words[i - 1]:
            marks[i] = 1


def copy_marks(n, marks, out):
    """A copy."""
    for i in range(cuda.grid(1), n, cuda.gridsize(1)):
        out[i] = marks[i]


def number_runs(n, marks, before, numbers, starts):
    """The run of each position, from 0, where each begins, and where the last ends."""
    for i in range(cuda.grid(1), n, cuda.gridsize(1)):
        run = before[i] + marks[i]
        numbers[i] = np.uint32(run)
        if i == 0 or marks[i] != 0:
            starts[run] = np.uint32(i)
        if i == n - 1:
            starts[run + 1] = np.uint32(n)


def write_rank(n, order, parts, part_starts, peers, peer_starts, out, mode):
    """primitives.windows.window_rank"""
    for p in range(cuda.grid(1), n, cuda.gridsize(1)):
        start = np.int64(part_starts[parts[p]])
        if mode == 0:
            value = p - start + 1
        elif mode == 1:
            value = np.int64(peer_starts[peers[p]]) - start + 1
        else:
            value = np.int64(peers[p]) - np.int64(peers[start]) + 1
        out[order[p]] = np.uint32(value)


def write_share(n, order, parts, part_starts, peers, peer_starts, out, mode):
    """primitives.windows.window_share"""
    for p in range(cuda.grid(1), n, cuda.gridsize(1)):
        start, end = np.int64(part_starts[parts[p]]), np.int64(part_starts[np.int64(parts[p]) + 1])
        first, last = np.int64(peer_starts[peers[p]]), np.int64(peer_starts[np.int64(peers[p]) + 1])
        if mode == 1:
            out[order[p]] = np.float64(last - start) / np.float64(end - start)
        else:
            out[order[p]] = np.float64(first - start) / np.float64(max(end - start - 1, np.int64(1)))


def write_ntile(n, order, parts, part_starts, peers, peer_starts, out, constant, by_row, buckets_of):
    """primitives.windows.window_ntile"""
    for p in range(cuda.grid(1), n, cuda.gridsize(1)):
        start, end, row = np.int64(part_starts[parts[p]]), np.int64(part_starts[np.int64(parts[p]) + 1]), order[p]
        buckets = np.int64(constant)
        if by_row != 0:
            buckets = buckets_of[row]
        at, small = np.int64(p) - start, (end - start) // buckets
        large = (end - start) - small * buckets
        if at < large * (small + 1):
            out[row] = at // (small + 1) + 1
        else:
            out[row] = large + (at - large * (small + 1)) // max(small, np.int64(1)) + 1


def write_shift(n, order, parts, part_starts, peers, peer_starts, out, constant, by_row, offsets, sign, above):
    """primitives.windows.window_shift"""
    for p in range(cuda.grid(1), n, cuda.gridsize(1)):
        start, end, row = np.int64(part_starts[parts[p]]), np.int64(part_starts[np.int64(parts[p]) + 1]), order[p]
        offset = np.int64(constant)
        if by_row != 0:
            offset = offsets[row]
        other = p + offset * sign
        if start <= other and other < end:
            out[row] = order[other]
        elif above != 0:
            out[row] = np.uint32(np.int64(row) + above)
        else:
            out[row] = np.uint32(0xFFFFFFFF)


_KERNELS = {
    "window_rank": write_rank,
    "window_share": write_share,
    "window_ntile": write_ntile,
    "window_shift": write_shift,
}
