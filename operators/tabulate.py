"""Expressions over one column with few possible values, or over two dictionary columns with few pairs of them, are
computed once per value and then looked up.

The possible values are a dictionary's strings, or the range of a narrow integer column. The table is an ordinary
column, computed by the engine itself over a small frame; so this serves host functions as well as date parts, with
NULLs as one more entry.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from finequery.errors import DataError
from finequery.operators.column import ColumnData, Dictionary, Frame, Stats
from finequery.operators.expr import Call, Case, Cast, Column, Expr, Literal, transform, walk
from finequery.operators.lower import Coded, Lower, Rows, Stored, Value, stored_item
from finequery.operators.program import Out, Reg

#: Widest range of a narrow integer column that is tabulated.
MOST_ENTRIES = 65536
#: Instructions that a look-up in a small table beats.
DEAR = frozenset(
    "year month day doy isodow week isoyear dow quarter date_trunc last_day intdiv mod".split()
    + ["add_interval", "sub_interval"]
)
_ranges: dict[Any, ColumnData | None] = {}


def tabulated(lower: Lower, expr: Expr) -> Value | None:
    """The value through a table, or None where that is not possible or not worth it."""
    if not lower.tabulate or not isinstance(expr, (Call, Case, Cast)):
        return None
    columns = list(dict.fromkeys(e for e in walk(expr) if isinstance(e, Column)))
    if len(columns) == 2:
        return _by_pair(lower, expr, columns[0], columns[1])
    if len(columns) != 1:
        return None
    column = columns[0]
    found = _source(lower, column)
    if found is None:
        return None
    data = found.data
    table: ColumnData | None
    if data.kind == "dict":
        assert data.dictionary is not None
        table = dictionary_table(lower, expr, column, data)
    elif data.kind == "uint" and data.stats.high is not None and _is_dear(expr):
        assert data.stats.low is not None
        count = (int(data.stats.high) - data.base) // data.scale + 1
        if not 0 < count <= MOST_ENTRIES:
            return None
        table = _range_table(lower, expr, column, data, count)
    else:
        return None
    if table is None:
        return None
    digits = digits_with_null(lower, found, table.length - 1)
    if table.stats.nulls == 1 and table.validity is not None and _never_null(lower, found):
        last = table.length - 1
        if (int(table.validity[last >> 3]) >> (last & 7)) & 1 == 0:  # NULL for NULL alone, and there is none
            table = replace(table, validity=None)
    lower.kept.append(table)
    rows = Rows(reg=digits, space=lower.space)
    return lower.load(Stored(table, rows))


def _source(lower: Lower, column: Column) -> Stored | Coded | None:
    """The column in memory that a column is."""
    try:
        found = lower.resolve(column)
    except KeyError:
        return None
    return found if isinstance(found, (Stored, Coded)) else None


def _by_pair(lower: Lower, expr: Expr, first: Column, second: Column) -> Value | None:
    """A host function of two dictionary columns, computed once for each pair of their strings (and NULLs)."""
    sides = [side for side in (_source(lower, first), _source(lower, second)) if side is not None]
    dictionaries = [side.data.dictionary for side in sides if side.data.dictionary is not None]
    if len(dictionaries) != 2 or not (_is_dear(expr) or any(map(_compares_texts, walk(expr)))):
        return None
    one, other = dictionaries
    rows, width = (len(one) + 1) * (len(other) + 1), len(other) + 1
    if rows > (MOST_ENTRIES if lower.gpu else min(MOST_ENTRIES, lower.expected_rows)):
        return None
    places = {first: Column(first.type, -1), second: Column(second.type, -2)}
    key = (lower.fold(transform(expr, lambda e: places.get(e) if isinstance(e, Column) else None)), other)
    if key not in one._cache:
        digits = np.divmod(np.arange(rows), width)
        frame = {-1 - i: _coded(c, d, digits[i]) for i, (c, d) in enumerate(((first, one), (second, other)))}
        one._cache[key] = _evaluate(lower, key[0], Frame(frame, rows))
    table = one._cache[key]
    if not isinstance(table, ColumnData):
        return None
    high, below = (digits_with_null(lower, s, len(d)) for s, d in zip(sides, dictionaries))
    out = Reg(4)
    lower.emit("muladd_u32", below, 0, high, 0, lower.program.constant("u32", width), 0, Out(out))
    lower.kept.append(table)
    return lower.load(Stored(table, Rows(reg=out, space=lower.space)))


def _coded(column: Column, dictionary: Dictionary, digits: np.ndarray) -> ColumnData:
    """A column of codes; NULL where they are behind the last."""
    from finequery.operators.result_columns import code_column

    known = digits < len(dictionary)
    return code_column(column.type, np.where(known, digits, 0), dictionary, known)


def _never_null(lower: Lower, found: Stored | Coded) -> bool:
    return isinstance(found, Coded) or lower.validity(found) is None


def _is_dear(expr: Expr) -> bool:
    from finequery.operators.lower_expr import handler_of

    return any(isinstance(e, Call) and (e.name in DEAR or handler_of(e.name) is None) for e in walk(expr)) or any(
        isinstance(e, Cast) and (e.type.is_string or e.child.type.is_string) for e in walk(expr)
    )


def _compares_texts(expr: Expr) -> bool:
    """Whether it is a function of text whose further arguments are no constants: it has no instructions."""
    from finequery.operators.lower_strings import STRING_HANDLERS

    if not isinstance(expr, Call) or expr.name not in STRING_HANDLERS:
        return False
    return any(not isinstance(arg, Literal) for arg in expr.args[1:])


def digits_with_null(lower: Lower, found: Stored | Coded, null_entry: int) -> Reg:
    """Stored values as digits (u32), NULL rows as ``null_entry``."""
    if isinstance(found, Coded):
        return lower.digits_of(found)
    digits, valid = stored_digits(lower, found), lower.validity(found)
    if valid is None:
        return digits
    out = Reg(4)
    null = lower.program.constant("u32", null_entry)
    lower.emit("blend_u32", valid, 0, digits, 0, null, 0, Out(out))
    return out


def stored_digits(lower: Lower, stored: Stored) -> Reg:
    """The stored values of a narrow column as u32."""
    key = ("digits", stored.data, stored.rows, lower.space)
    memo = lower.memo.get(key)
    if memo is not None:
        return memo[1].reg
    base, stride = lower.source(stored)
    index, item, out = lower.index(stored.rows), stored_item(stored.data), Reg(4)
    if index is None:
        lower.emit(f"digits_{item}", base, stride, 0, Out(out))
    else:
        lower.emit(f"gather_digits_{item}", base, stride, index, 0, Out(out))
    lower.memo[key] = (lower.space, Value("u32", out))
    return out


def _canonical(lower: Lower, expr: Expr, column: Column) -> Expr:
    one = Column(column.type, -1)
    return lower.fold(transform(expr, lambda e: one if isinstance(e, Column) else None))


def dictionary_table(lower: Lower, expr: Expr, column: Column, data: ColumnData) -> ColumnData | None:
    """The expression over every string of a dictionary, and over NULL as the last entry; kept with the dictionary."""
    dictionary = data.dictionary
    assert dictionary is not None
    key = _canonical(lower, expr, column)
    if key not in dictionary._cache:
        strings = dictionary_column(dictionary, column)
        dictionary._cache[key] = _evaluate(lower, key, Frame({-1: strings}, strings.length))
    found = dictionary._cache[key]
    assert found is None or isinstance(found, ColumnData)
    return found


def dictionary_column(dictionary: Dictionary, column: Column) -> ColumnData:
    """A dictionary's strings as a column, with one NULL at the end."""
    count = len(dictionary)
    offsets = np.empty(count + 2 + 8, dtype=np.int64)
    offsets[: count + 1] = dictionary.offsets[: count + 1]
    offsets[count + 1 :] = dictionary.offsets[count]
    stats = Stats(nulls=1, ascii=dictionary.ascii)
    return ColumnData(
        column.type,
        "string",
        count + 1,
        offsets[: count + 2],
        validity=_all_but_last(count + 1),
        chars=dictionary.chars,
        stats=stats,
        owner=offsets,
    )


def _all_but_last(count: int) -> np.ndarray:
    bits = np.zeros(-(-count // 64) * 8 + 64, dtype=np.uint8)
    flags = np.ones(count, dtype=np.uint8)
    flags[-1] = 0
    packed = np.packbits(flags, bitorder="little")
    bits[: len(packed)] = packed
    return bits


def _range_table(lower: Lower, expr: Expr, column: Column, data: ColumnData, count: int) -> ColumnData | None:
    canonical = _canonical(lower, expr, column)
    key = (canonical, column.type, data.base, data.scale, count)
    if key not in _ranges:
        digits = np.zeros(count + 1 + 64, dtype=np.uint32)
        digits[:count] = np.arange(count)
        stats = Stats(low=data.base, high=data.base + data.scale * (count - 1), nulls=1)
        values = ColumnData(
            column.type,
            "uint",
            count + 1,
            digits[: count + 1],
            data.base,
            data.scale,
            validity=_all_but_last(count + 1),
            stats=stats,
            owner=digits,
        )
        found = _evaluate(lower, canonical, Frame({-1: values}, values.length))
        if len(_ranges) > 256:
            _ranges.clear()
        _ranges[key] = found
    return _ranges[key]


def _evaluate(lower: Lower, expr: Expr, frame: Frame) -> ColumnData | None:
    """None where the expression fails for a value: whether a row has that value is known only when they are
    computed."""
    from finequery.operators.evaluate import evaluate

    try:
        result = evaluate([expr], frame, lower.fold_constant, tabulate=False)[0]
    except DataError:
        return None
    return tighten(result)


def tighten(column: ColumnData) -> ColumnData:
    """A narrow column with the bounds that its values really have (small columns: it reads them all)."""
    if column.kind not in ("uint", "int64") or column.length == 0 or column.type.name == "BOOLEAN":
        return column
    stored = column.data[: column.length]
    if column.validity is not None:
        flags = np.unpackbits(column.validity, bitorder="little")[: column.length].astype(bool)
        if not flags.any():
            return column
        seen = stored[flags]
    else:
        flags, seen = None, stored
    first, last = int(seen.min()), int(seen.max())
    stats = replace(column.stats, low=column.base + column.scale * first, high=column.base + column.scale * last)
    if column.kind == "int64" and not -(2**31) < first <= last < 2**31:
        return replace(column, stats=stats)
    dtype = np.uint8 if last - first < 256 else np.uint16 if last - first < 65536 else np.uint32
    if last - first >= 2**32:
        return replace(column, stats=stats)
    room = np.zeros(column.length + 64, dtype=dtype)
    room[: column.length] = (
        stored.astype(np.int64) - first if flags is None else np.where(flags, stored.astype(np.int64) - first, 0)
    )
    base = column.base + column.scale * first
    return replace(column, kind="uint", data=room[: column.length], base=base, stats=stats, owner=room)
