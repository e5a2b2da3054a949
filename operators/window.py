"""Window functions: sort once by partition and order, then one scan over the sorted positions for each call."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from finequery.errors import DataError, NotSupportedError, OutOfRangeError
from finequery.jetson import memory
from finequery.operators import native, window_frames
from finequery.operators.arrow_arrays import of_numpy, scalar
from finequery.operators.column import ColumnData, Stats
from finequery.operators.concat import concat_columns, mask_of
from finequery.operators.dictionary import build, code_type
from finequery.operators.encode import mask_of as validity
from finequery.operators.export import column_to_arrow, column_to_python, integers
from finequery.operators.expr import Frame
from finequery.operators.pool import Pool
from finequery.operators.slice import slice_column
from finequery.operators.sort import Sort, all_fields, dense_ranks, known_order, mark_changes
from finequery.operators.sort_keys import TILE_WORDS, Field, Key, Piece, Program, chunk_program, cut
from finequery.operators.take import NO_ROW, take
from finequery.types import DOUBLE, SqlType

_PEER, _PARTITION = 1, 3
_RANKS = {"row_number": 0, "rank": 1, "dense_rank": 2}
_SHARES = {"percent_rank": 0, "cume_dist": 1}
_BIG = 1 << 33


class _Order(NamedTuple):
    """Rows sorted by partition and order keys; a byte of flags per position (primitives.windows); ranges of whole
    partitions."""

    rows: np.ndarray
    flags: np.ndarray
    bounds: np.ndarray
    kept: object  # the key columns: the cache names them by identity


def evaluate_window(
    name: str,
    args: Sequence[ColumnData],
    partition: Sequence[ColumnData],
    order: Sequence[tuple[ColumnData, bool, bool]],
    running: bool,
    type: SqlType,
    length: int,
    pool: Pool,
    order_cache: dict[Any, Any],
    frame: Frame | None = None,
    ignore_nulls: bool = False,
    device: Any = None,
) -> ColumnData:
    """One window call over ``length`` rows, in their own order. ``order``: (column, descending, nulls first).
    ``running``: the frame ends with the current row's peers; else it is the whole partition, or a ``frame`` that moves
    with the row. ``order_cache``: kept by the caller for the calls over the same columns, so that equal windows sort
    once. ``device``: the GPU that computes, if not the CPU.
    """
    moves = frame is not None or ignore_nulls
    what = running and bool(order), type, length, pool
    if device is not None and length:
        from finequery.operators.cuda.framed import FRAMED, Framed
        from finequery.operators.cuda.window import GpuCall, positions

        places = positions(partition, order, length, pool, order_cache, device)
        if name in FRAMED:
            whole = Frame("range", None, 0 if running and order else None)
            return Framed(places, order, frame or whole, *what[1:], device).evaluate(name, args, ignore_nulls)
        if moves:
            raise NotSupportedError(f"{name} over a moving frame is not supported")
        call: WindowCall = GpuCall(places, *what, device)
    else:
        ordered = _sorted(partition, order, length, pool, order_cache)
        if moves:
            moving = frame or Frame("range", None, 0 if running and order else None)
            rows = window_frames.Ordered(ordered.rows, ordered.flags, type, length, pool)
            return window_frames.evaluate(name, args, rows, order, moving, ignore_nulls)
        call = WindowCall(ordered, *what)
    if name in _RANKS:
        return call.numbers("window_rank", _RANKS[name], low=1)
    if name in ("count", "count_star"):
        counted = args[0].validity if name == "count" else None
        return call.numbers("window_count", int(call.running), counted, low=0)
    if name in _SHARES:
        data = memory.array(length, np.float64)
        call.run("window_share", data, _SHARES[name])
        return ColumnData(type, "float64", length, data, stats=Stats(low=0.0, high=1.0))
    if name == "ntile":
        return call.ntile(args[0])
    if name in ("lag", "lead"):
        return call.shift(args, -1 if name == "lag" else 1)
    if name in ("first_value", "last_value", "nth_value"):
        return call.nth(name, args)
    if name in ("min", "max"):
        return call.least(args[0], name == "max")
    if name in ("sum", "avg"):
        return call.sum(args[0], name == "avg")
    if name == "string_agg":
        return call.joined(args[0], args[1])
    raise NotSupportedError(f"{name} as a window function is not supported")


def _sorted(
    partition: Sequence[ColumnData],
    order: Sequence[tuple[ColumnData, bool, bool]],
    length: int,
    pool: Pool,
    cache: dict[Any, Any],
) -> _Order:
    name = (tuple(map(id, partition)), tuple((id(c), *flags) for c, *flags in order))
    found: _Order | None = cache.get(name)
    if found is not None:
        return found
    if length >= NO_ROW:
        raise NotSupportedError(f"window functions over {length} rows: fewer than {NO_ROW} are supported")
    groups, terms = [Key(c, False, False) for c in partition], [Key(*key) for key in order]
    group_fields, fields = all_fields(groups, length, pool), all_fields(terms, length, pool)
    rows = known_order([*groups, *terms], length, length)
    if rows is None:
        rows = Sort(length, pool).by_fields([*group_fields, *fields])
    flags = np.zeros(length, np.uint8)
    mark_changes(group_fields, rows, flags, _PARTITION, pool)
    mark_changes(fields, rows, flags, _PEER, pool)
    least = max(16384, length // (64 * pool.threads))
    bounds = np.zeros(length // least + 2, np.int64)
    count = native.run("window_bounds", flags.ctypes.data, length, least, bounds.ctypes.data + 8)
    found = cache[name] = _Order(rows, flags, bounds[: count + 1], (list(partition), list(order)))
    return found


class WindowCall:
    """What the kernels of one call share."""

    device: Any = None  # the GPU, where the call is there

    def __init__(self, order: Any, running: bool, type: SqlType, length: int, pool: Pool):
        self.order, self.running, self.type, self.length, self.pool = order, running, type, length, pool

    def run(self, kernel: str, out: np.ndarray, *words: int | np.ndarray | None) -> int:
        """A kernel over all partitions. Arrays among the words are passed as addresses, 0 for None."""
        head = (self.order.rows.ctypes.data, self.order.flags.ctypes.data, out.ctypes.data)
        addresses = [_at(w) if w is None or isinstance(w, np.ndarray) else w for w in words]
        return self.pool.range(kernel, (*head, *addresses), self.length, bounds=self.order.bounds)

    def numbers(self, kernel: str, *words: int | np.ndarray | None, low: int) -> ColumnData:
        """Numbers of rows."""
        data = memory.array(self.length, np.uint32)
        self.run(kernel, data, *words)
        return ColumnData(self.type, "uint", self.length, data, stats=Stats(low=low, high=self.length))

    def rows(self, column: ColumnData, source: np.ndarray) -> ColumnData:
        """The values of the rows that a call chose."""
        return take(column, source, self.pool, missing=True, device=self.device)

    def ntile(self, buckets: ColumnData) -> ColumnData:
        constant, by_row, null = constant_or_rows(buckets)
        valid = slice(None) if null is None else ~null
        if int((np.array([constant]) if by_row is None else by_row[valid]).min(initial=1)) < 1:
            raise DataError("the argument of ntile must be greater than zero")
        if by_row is not None and null is not None:
            by_row[null] = 1
        data = memory.array(self.length, np.int64)
        self.run("window_ntile", data, constant, by_row)
        column = ColumnData(self.type, "int64", self.length, data, stats=Stats(low=1, high=max(self.length, 1)))
        return column if null is None else with_nulls(column, ~null)

    def shift(self, args: Sequence[ColumnData], sign: int) -> ColumnData:
        constant, by_row, null = constant_or_rows(args[1]) if len(args) > 1 else (1, None, None)
        column, above = args[0], 0
        if len(args) > 2 and self.length and args[2].stats.nulls < self.length:
            above = self.length
            if 2 * above >= NO_ROW:
                raise NotSupportedError(
                    f"lag and lead with a default over {above} rows: fewer than 2**31 are supported"
                )
            column = concat_columns([column, args[2]], statistics=False, device=self.device)
        source = memory.array(self.length, np.uint32)
        self.run("window_shift", source, constant, by_row, sign, above)
        if null is not None:
            source[null] = NO_ROW
        return self.rows(column, source)

    def nth(self, name: str, args: Sequence[ColumnData]) -> ColumnData:
        constant, by_row, null = {"first_value": 1, "last_value": 0}.get(name, 0), None, None
        if name == "nth_value":
            constant, by_row, null = constant_or_rows(args[1])
            constant = constant if constant > 0 else -1
        source = memory.array(self.length, np.uint32)
        self.run("window_nth", source, int(self.running), constant, by_row)
        if null is not None:
            source[null] = NO_ROW
        return self.rows(args[0], source)

    def least(self, column: ColumnData, greatest: bool) -> ColumnData:
        fields = all_fields([Key(column, greatest, False)], self.length, self.pool)
        if sum(field.bits for field in fields) > 64:
            sort = Sort(self.length, self.pool)
            changes = np.zeros(self.length, np.uint8)
            mark_changes(fields, sort.by_fields(fields), changes, 1, self.pool)
            fields = [dense_ranks(sort.order, 1 - changes, self.pool)]
        pieces = [piece for chunk in cut(fields, 64) for piece in chunk]
        if not pieces:  # all rows are equal: any will do
            pieces = [Piece(Field("none", column.data, 1), 0, 1)]
        program = chunk_program(pieces, 0, self.order.rows)
        tiles = np.empty((self.pool.threads, TILE_WORDS), np.uint64)
        source = memory.array(self.length, np.uint32)
        self.run("window_least", source, int(self.running), program.address, tiles.ctypes.data)
        return self.rows(column, source)

    def joined(self, text: ColumnData, separator: ColumnData) -> ColumnData:
        """The texts of each partition one after another, in the window's order: one dictionary value a partition."""
        import pyarrow as pa
        import pyarrow.compute as pc

        starts = np.flatnonzero(self.order.flags & 2)
        between = column_to_python(slice_column(separator, 0, 1))[0] if self.length else None
        values = column_to_arrow(text).cast(pa.large_string()).take(of_numpy(self.order.rows))
        known = pc.is_valid(values)
        mask = validity(values)
        before = np.concatenate([[0], np.cumsum(np.ones(len(values), np.bool_) if mask is None else mask)])
        ends = before[np.append(starts, self.length)]
        lists = pa.LargeListArray.from_arrays(of_numpy(ends), values.filter(known))
        parts = pc.binary_join(lists, scalar(between, pa.large_string()))
        dictionary, codes = build(pc.fill_null(parts, scalar("", parts.type)))
        partition = np.cumsum(self.order.flags >> 1 & 1) - 1
        data = memory.array(self.length, code_type(len(dictionary)))
        data[self.order.rows] = codes[partition]
        empty = (ends[1:] == ends[:-1]) | (between is None)
        column = ColumnData(self.type, "dict", self.length, data, dictionary=dictionary)
        valid = np.empty(self.length, np.bool_)
        valid[self.order.rows] = ~empty[partition]
        return with_nulls(column, None if valid.all() else valid)

    def sum(self, column: ColumnData, mean: bool) -> ColumnData:
        kind = column.type
        if not (kind.is_numeric or kind.name in ("BOOLEAN", "NULL")) or (mean and self.type != DOUBLE):
            raise NotSupportedError(f"{'avg' if mean else 'sum'} of {kind} as a window function is not supported")
        length, mask = self.length, column.validity
        valid = None if mask is None else np.empty(length, np.uint8)
        tiles = np.empty((self.pool.threads, 2 * TILE_WORDS), np.uint64)
        head, tail = (int(self.running),), (tiles.ctypes.data, _at(mask))
        if kind.is_float:
            doubles = column.data if column.kind == "float64" else column.data.astype(np.float64)
            program, data = _raw("u64", doubles, 0, self.order.rows), memory.array(length, np.float64)
            self.run("window_sum_float", data, *head, program.address, 0, *tail, 0, 0, 2 if mean else 1, _at(valid))
            return with_nulls(ColumnData(self.type, "float64", length, data), valid)
        low, high = total_bounds(column, length)
        narrow = low >= -(2**63) and high < 2**63
        mode = 2 if mean else 0 if narrow else 1
        data = memory.array(2 * length if mode == 1 else length, (np.int64, np.uint64, np.float64)[mode])
        upper = None
        if column.kind == "int128":
            lower, upper = (
                _raw("low", column.data, 0, self.order.rows),
                _raw("high", column.data, 1 << 63, self.order.rows),
            )
        elif column.kind == "int64":
            lower = _raw("i64", column.data, 1 << 63, self.order.rows)
        else:
            lower = _raw(f"u{8 * column.data.itemsize}", column.data, 0, self.order.rows)
        divisor = struct.unpack("q", struct.pack("d", 10.0**kind.scale))[0]
        words = (lower.address, 0 if upper is None else upper.address, *tail, column.base, column.scale, mode)
        status = self.run("window_sum", data, *head, *words, _at(valid), divisor)
        wide = low <= -(10**38) or high >= 10**38
        if status < 0 or (mode == 1 and self.type.is_decimal and wide and beyond_decimal(data)):
            raise OutOfRangeError(f"overflow in {'avg' if mean else 'sum'}: a total does not fit {self.type}")
        stats = Stats() if mean or wide else Stats(low=low, high=high)
        return with_nulls(ColumnData(self.type, ("int64", "int128", "float64")[mode], length, data, stats=stats), valid)


def total_bounds(column: ColumnData, length: int) -> tuple[int, int]:
    """Bounds of sums of at least one and at most ``length`` values."""
    low, high = column.stats.low, column.stats.high
    if low is None or high is None:
        low, high = column.type.limits if column.type.is_exact else (0, 0)
        if column.kind == "uint":
            low, high = column.base, column.base + column.scale * (2 ** (8 * column.data.itemsize) - 1)
        elif column.kind == "int64":
            low, high = column.base - column.scale * 2**63, column.base + column.scale * 2**63
    low, high, many = int(low), int(high), max(length, 1)
    return min(low, low * many), max(high, high * many)


def beyond_decimal(words: np.ndarray) -> bool:
    """Whether any 128-bit value lies outside of 38 digits."""
    high, low = words[1::2].view(np.int64), words[::2]
    top, rest = divmod(10**38, 1 << 64)
    above = (high > top) | ((high == top) & (low >= np.uint64(rest)))
    bottom, rest = divmod(-(10**38), 1 << 64)
    return bool((above | (high < bottom) | ((high == bottom) & (low <= np.uint64(rest)))).any())


def _raw(load: str, data: np.ndarray, flip: int, rows: np.ndarray) -> Program:
    """The stored values of the rows as words."""
    return chunk_program([Piece(Field(load, data, 64, flip), 0, 64)], 0, rows)


def constant_or_rows(column: ColumnData) -> tuple[int, np.ndarray | None, np.ndarray | None]:
    """A whole-number argument: its constant value, or 0 and the values by row; and where it is NULL."""
    mask = mask_of(column)
    values = np.clip(integers(column, np.int64), -_BIG, _BIG)
    if mask is None and len(values) and bool((values == values[0]).all()):
        return int(values[0]), None, None
    return 0, values, None if mask is None else ~mask


def with_nulls(column: ColumnData, valid: np.ndarray | None) -> ColumnData:
    """The column with NULL where ``valid`` is 0, and stored 0 there."""
    if valid is None:
        return column
    nulls = column.length - int(np.count_nonzero(valid))
    if nulls:
        column.validity = memory.array((column.length + 63) // 64 * 8, np.uint8, zero=True)
        bits = np.packbits(valid.astype(np.bool_), bitorder="little")
        column.validity[: len(bits)] = bits
        column.data.reshape(column.length, -1)[~valid.astype(np.bool_)] = 0
        column.stats.nulls = nulls
    return column


def _at(array: np.ndarray | None) -> int:
    return 0 if array is None else array.ctypes.data
