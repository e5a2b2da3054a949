"""Columns from columns: joined end to end, constant, empty, made compact."""

from __future__ import annotations

from collections.abc import Sequence
from math import gcd
from typing import Any

import numpy as np

from finequery.errors import InternalError
from finequery.jetson import memory
from finequery.operators import dictionary as dictionaries
from finequery.operators import encode_kernels as kernels
from finequery.operators.arrow_arrays import of_numpy
from finequery.operators.column import ColumnData, Dictionary, Stats
from finequery.operators.encode import finish, has_factor, layout
from finequery.operators.take import FEW_ROWS
from finequery.operators.threads import parallel
from finequery.types import SqlType


def concat_columns(pieces: Sequence[ColumnData], *, statistics: bool = True, device: Any = None) -> ColumnData:
    """One column of all rows in order, in the narrowest layout that holds them. ``statistics``: also those that take a
    pass of their own (bounds of blocks, distinct values). ``device``: the GPU that copies the rows unless they are few;
    their layout and the statistics are the CPU's there too."""
    if not pieces:
        raise InternalError("no columns to join")
    sql_type = next((p.type for p in pieces if p.type.name != "NULL"), pieces[0].type)
    pieces = [p if p.type == sql_type else _retyped(p, sql_type) for p in pieces]
    filled = [p for p in pieces if p.length] or [pieces[0]]
    if len(filled) == 1 and filled[0].owner is None:
        only = filled[0]
        return finish(only) if statistics and only.stats.block_low is None else only
    rows = sum(p.length for p in filled)
    if rows < FEW_ROWS:
        device = None
    validity, nulls = _join_validity(filled, rows, device)
    if sql_type.is_string:
        column = _join_strings(filled, rows, device)
    elif sql_type.is_float or sql_type.name == "INTERVAL":
        column = _join_plain(filled, rows, device)
    else:
        column = join_exact(filled, rows, device)
    column.validity, column.stats.nulls = validity, nulls
    if nulls:
        column.stats.sorted = column.stats.unique = False
    return finish(column) if statistics else column


def compact(column: ColumnData) -> ColumnData:
    """The column as ``encode`` would have made it: narrow integers, a dictionary where strings repeat, statistics."""
    if column.length == 0 or column.kind == "dict":
        return finish(column) if column.stats.block_low is None else column
    if column.kind == "string":
        from finequery.operators.encode import encode
        from finequery.operators.encode_strings import largest_dictionary
        from finequery.operators.export import column_to_arrow

        if (column.stats.distinct or 0) > largest_dictionary(column.length):
            return column  # as it was encoded: too many different ones for a dictionary
        return encode(column_to_arrow(column), column.type)
    if column.kind in ("int64", "int128"):
        nulls = null_count(column)
        narrow = join_exact([column], column.length)
        narrow.validity, narrow.stats.nulls = column.validity, nulls
        column = narrow
    return finish(column) if column.stats.block_low is None else column


def constant_column(sql_type: SqlType, value: Any, length: int) -> ColumnData:
    """``length`` times the physical ``value``; None is NULL."""
    stats = Stats(nulls=length if value is None else 0, distinct=0 if value is None or not length else 1)
    stats.sorted = value is not None
    stats.unique = value is not None and length <= 1
    validity = None
    if value is None and length:
        validity = memory.array((length + 63) // 64 * 8, np.uint8, zero=True)
    if sql_type.is_string:
        text, _ = dictionaries.from_strings([value or ""])
        stats.ascii = text.ascii
        data = memory.array(length, np.uint8, zero=True)
        return ColumnData(sql_type, "dict", length, data, validity=validity, dictionary=text, stats=stats)
    if sql_type.is_float:
        kind, dtype = ("float32", np.float32) if sql_type.name == "FLOAT" else ("float64", np.float64)
        data = memory.array(length, dtype)
        data[:] = 0 if value is None else value
        if value is not None:
            stats.low = stats.high = float(value) if value == value else None
        return ColumnData(sql_type, kind, length, data, validity=validity, stats=stats)
    if sql_type.name == "INTERVAL":
        pairs = memory.array(2 * length, np.int64, zero=True)
        if value is not None:
            pairs[::2] = (value.months & 0xFFFFFFFF) | (value.days << 32)
            pairs[1::2] = value.micros
        stats.sorted = False
        return ColumnData(sql_type, "interval", length, pairs, validity=validity, stats=stats)
    number = int(value or 0)
    if value is not None:
        stats.low = stats.high = number
    kind, element, base, _ = layout(sql_type, number, number, 0)
    if kind == "int128":
        words = memory.array(2 * length, np.uint64)
        words[::2], words[1::2] = number % 2**64, (number >> 64) % 2**64
        return ColumnData(sql_type, kind, length, words, validity=validity, stats=stats)
    data = memory.array(length, element)
    data[:] = number - base
    return ColumnData(sql_type, kind, length, data, base, validity=validity, stats=stats)


def empty_column(sql_type: SqlType) -> ColumnData:
    """No rows."""
    return constant_column(sql_type, None, 0)


def null_count(column: ColumnData) -> int:
    """NULLs, counted in the bitmap."""
    if column.validity is None:
        return 0
    return column.length - int(kernels.unpack_bits(column.validity, 0, column.length).sum())


def mask_of(column: ColumnData) -> np.ndarray | None:
    """Booleans, True where valid; None where nothing is NULL."""
    return None if column.validity is None else kernels.unpack_bits(column.validity, 0, column.length)


def bounds(column: ColumnData) -> tuple[int, int] | None:
    """Physical bounds of an exact column, from its statistics or its data; None where all rows are NULL."""
    if column.stats.low is not None and column.stats.high is not None:
        return int(column.stats.low), int(column.stats.high)
    mask = mask_of(column)
    if mask is not None and not mask.any():
        return None
    if column.kind == "int128":
        words = column.data if mask is None else column.data.reshape(-1, 2)[mask].reshape(-1)
        return kernels.range128(words)
    stored = column.data if mask is None else column.data[mask]
    return column.base + column.scale * int(stored.min()), column.base + column.scale * int(stored.max())


def _retyped(column: ColumnData, sql_type: SqlType) -> ColumnData:
    if column.type.name != "NULL":
        raise InternalError(f"can't join a column of type {column.type} to one of type {sql_type}")
    return constant_column(sql_type, None, column.length)


def _join_validity(pieces: list[ColumnData], rows: int, device: Any) -> tuple[np.ndarray | None, int]:
    """The bitmap of all rows, and how many of them are NULL."""
    if all(p.validity is None for p in pieces):
        return None, 0
    if device is not None:
        return _on_gpu().validity(device, pieces)
    result = memory.array((rows + 63) // 64 * 8, np.uint8, zero=True)
    masks = [np.ones(p.length, np.bool_) if p.validity is None else mask_of(p) for p in pieces]
    packed = np.packbits(np.concatenate([m for m in masks if m is not None]), bitorder="little")
    result[: len(packed)] = packed
    return result, rows - int(kernels.unpack_bits(result, 0, rows).sum())


def _on_gpu() -> Any:
    from finequery.operators.cuda import concat

    return concat


def _starts(pieces: list[ColumnData]) -> list[int]:
    return [0, *np.cumsum([p.length for p in pieces]).tolist()]


def join_exact(pieces: list[ColumnData], rows: int, device: Any = None) -> ColumnData:
    """Integers, decimals, dates, times, booleans. The validity is the caller's."""
    sql_type = pieces[0].type
    found = [b for b in map(bounds, pieces) if b is not None]
    low, high = (min(b[0] for b in found), max(b[1] for b in found)) if found else (0, 0)
    factor = 1
    if has_factor(sql_type):
        factor = 0
        for piece in pieces:
            if bounds(piece) is not None:
                constant = bool(piece.stats.low is not None and piece.stats.low == piece.stats.high)
                factor = gcd(factor, _own_factor(piece, constant))
        factor = factor or 1
        low, high = low // factor * factor, -(-high // factor) * factor  # bounds need not be values
    kind, dtype, base, scale = layout(sql_type, low, high, factor)
    if device is not None:
        data = _on_gpu().exact(device, pieces, kind, dtype, base, scale)
    else:
        data = _store_exact(pieces, rows, kind, dtype, base, scale)
    column = ColumnData(sql_type, kind, rows, data, base, scale)
    if found:
        column.stats.low, column.stats.high = low, high
    _join_order(column, pieces)
    return column


def _store_exact(pieces: list[ColumnData], rows: int, kind: str, dtype: np.dtype, base: int, scale: int) -> np.ndarray:
    """The stored values of all pieces in one layout."""
    data = memory.array(rows * (2 if kind == "int128" else 1), dtype)

    def store(item: tuple[ColumnData, int]) -> None:
        piece, start = item
        mask = mask_of(piece)
        if kind == "int128":
            target = data[2 * start : 2 * (start + piece.length)]
            if piece.kind == "int128":
                target[:] = piece.data
            else:
                values = np.empty(piece.length, np.int64)
                kernels.rebase(piece.data, piece.scale, piece.base, values)
                target[::2], target[1::2] = values.view(np.uint64), (values >> 63).view(np.uint64)
            if mask is not None:
                target.reshape(-1, 2)[~mask] = 0
            return
        target = data[start : start + piece.length]
        if piece.kind == "int128":
            words = piece.data[::2].view(np.int64)
            kernels.narrow(words if mask is None else np.where(mask, words, base), base, scale, target)
        elif piece.scale % scale == 0 and (piece.base - base) % scale == 0:
            for at in range(0, piece.length, kernels.CHUNK):
                chunk = slice(at, at + kernels.CHUNK)
                kernels.rebase(piece.data[chunk], piece.scale // scale, (piece.base - base) // scale, target[chunk])
        else:  # a constant, or int64 whose values ``scale`` divides though its form does not show it
            values = np.empty(piece.length, np.int64)
            kernels.rebase(piece.data, piece.scale, piece.base, values)
            kernels.narrow(values if mask is None else np.where(mask, values, base), base, scale, target)
        if mask is not None:
            target *= mask

    parallel(store, zip(pieces, _starts(pieces)))
    return data


def _own_factor(piece: ColumnData, constant: bool) -> int:
    """What divides every value of a piece."""
    if constant:
        assert piece.stats.low is not None
        return int(piece.stats.low)
    if piece.kind == "int128":
        return 1
    if piece.kind == "int64" and piece.scale == 1 and piece.base == 0:  # from an operator that did not look
        mask = mask_of(piece)
        seen = piece.data if mask is None else piece.data[mask]
        return kernels.measure(seen, False, 0).factor if len(seen) else 0  # all NULL, with bounds of what it came from
    return gcd(piece.base, piece.scale)


def _join_order(column: ColumnData, pieces: list[ColumnData]) -> None:
    """sorted, unique and (of sorted columns) the exact number of distinct values, from those of the pieces."""
    stats = column.stats
    if any(p.validity is not None or not p.stats.sorted for p in pieces):
        return
    firsts = [_value(p, 0) for p in pieces]
    lasts = [_value(p, p.length - 1) for p in pieces]
    stats.sorted = all(a <= b for a, b in zip(lasts, firsts[1:]))
    stats.unique = all(p.stats.unique for p in pieces) and all(a < b for a, b in zip(lasts, firsts[1:]))
    counts = [p.stats.distinct for p in pieces]
    if stats.sorted and all(c is not None for c in counts):
        stats.distinct = sum(c for c in counts if c is not None) - sum(a == b for a, b in zip(lasts, firsts[1:]))


def _value(column: ColumnData, row: int) -> int:
    if column.kind == "int128":
        return int(column.data[2 * row]) + (int(column.data[2 * row + 1 :].view(np.int64)[0]) << 64)
    return column.base + column.scale * int(column.data[row])


def _join_plain(pieces: list[ColumnData], rows: int, device: Any) -> ColumnData:
    first = pieces[0]
    per_row = 2 if first.kind == "interval" else 1
    if device is not None:
        return ColumnData(first.type, first.kind, rows, _on_gpu().plain(device, pieces, per_row))
    data = memory.array(rows * per_row, first.data.dtype)

    def store(item: tuple[ColumnData, int]) -> None:
        piece, start = item
        data[start * per_row : (start + piece.length) * per_row] = piece.data[: piece.length * per_row]

    parallel(store, zip(pieces, _starts(pieces)))
    return ColumnData(first.type, first.kind, rows, data)


def _join_strings(pieces: list[ColumnData], rows: int, device: Any) -> ColumnData:
    from finequery.operators.encode_strings import largest_dictionary

    if all(p.kind == "dict" for p in pieces):
        known = [p.dictionary for p in pieces if p.dictionary is not None]
        dictionary, maps = dictionaries.merge(known)
        if len(dictionary) <= largest_dictionary(rows) or all(k is dictionary for k in known):
            return _join_codes(pieces, rows, dictionary, maps, device)
    if device is not None:
        data, chars = _on_gpu().texts(device, pieces)
    else:
        data, chars = _store_texts([expand(p) for p in pieces], rows)
    column = ColumnData(pieces[0].type, "string", rows, data, chars=chars)
    column.stats.ascii = all(p.stats.ascii for p in pieces)
    return column


def _join_codes(
    pieces: list[ColumnData], rows: int, dictionary: Dictionary, maps: list[np.ndarray | None], device: Any
) -> ColumnData:
    dtype = dictionaries.code_type(len(dictionary))
    if device is not None:
        data = _on_gpu().codes(device, pieces, maps, dtype)
    else:
        data = _store_codes(pieces, rows, maps, dtype)
    column = ColumnData(pieces[0].type, "dict", rows, data, dictionary=dictionary)
    column.stats.ascii = dictionary.ascii
    if all(p.stats.sorted and p.validity is None for p in pieces):
        from finequery.operators.encode_strings import order_of

        column.stats.sorted, column.stats.unique = order_of(data)
    return column


def _store_codes(pieces: list[ColumnData], rows: int, maps: list[np.ndarray | None], dtype: np.dtype) -> np.ndarray:
    data = memory.array(rows, dtype)

    def store(item: tuple[ColumnData, int, np.ndarray | None]) -> None:
        piece, start, table = item
        target = data[start : start + piece.length]
        kernels.remap(piece.data, table, target)
        mask = mask_of(piece)
        if mask is not None and table is not None:
            target *= mask

    parallel(store, zip(pieces, _starts(pieces), maps))
    return data


def _store_texts(pieces: list[ColumnData], rows: int) -> tuple[np.ndarray, np.ndarray]:
    sizes = [int(p.data[p.length] - p.data[0]) for p in pieces]
    ends = np.cumsum(sizes).tolist()
    data = memory.array(rows + 1, np.int64)
    chars = memory.array(ends[-1], np.uint8)
    data[0] = 0

    def store(item: tuple[ColumnData, int, int, int]) -> None:
        piece, start, size, end = item
        assert piece.chars is not None
        first = int(piece.data[0])
        np.add(piece.data[1 : piece.length + 1], end - size - first, out=data[start + 1 : start + 1 + piece.length])
        chars[end - size : end] = piece.chars[first : first + size]

    parallel(store, zip(pieces, _starts(pieces), sizes, ends))
    return data, chars


def expand(column: ColumnData) -> ColumnData:
    """A dictionary column as offsets and bytes."""
    if column.kind != "dict":
        return column
    assert column.dictionary is not None
    source = column.dictionary
    if len(source) == 0:
        data, chars = memory.array(column.length + 1, np.int64, zero=True), memory.array(0, np.uint8)
        return ColumnData(column.type, "string", column.length, data, validity=column.validity, chars=chars)
    lengths = np.diff(source.offsets)[column.data]
    mask = mask_of(column)
    if mask is not None:
        lengths = lengths * mask
    data = memory.array(column.length + 1, np.int64)
    data[0] = 0
    np.cumsum(lengths, out=data[1:])

    values = dictionaries.to_arrow(source)
    codes = of_numpy(column.data[: column.length], mask)
    text = values.take(codes)
    _, bytes_of = dictionaries.string_parts(text)
    chars = memory.array(int(data[-1]), np.uint8)
    chars[:] = bytes_of[: int(data[-1])]
    stats = Stats(nulls=column.stats.nulls, ascii=column.stats.ascii, distinct=column.stats.distinct)
    return ColumnData(column.type, "string", column.length, data, validity=column.validity, chars=chars, stats=stats)
