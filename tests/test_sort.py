"""Sorting, top-k and gathering against plain Python: every kind of column, NULLs, ties, directions."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finequery import types as t
from finequery.jetson import memory
from finequery.operators import dictionary as dictionaries
from finequery.operators import sort as sorting
from finequery.operators.column import ColumnData, Frame, Stats
from finequery.operators.export import column_to_python
from finequery.operators.pool import get_pool
from finequery.operators.sort import sort_rows
from finequery.operators.take import NO_ROW, slice_column, take, take_frame

KINDS = ("u8", "u16", "u32", "int64", "int128", "float32", "float64", "dict", "string", "interval")
TEXTS = [
    "",
    "a",
    "a\0",
    "a\0\0",
    "b",
    "Customer#000000001",
    "Customer#000000002",
    "Customer#0000000011",
    "ä",
    "日本",
    "\0",
]


def padded(values: Any, dtype: Any) -> np.ndarray:
    """A copy in padded memory."""
    array = np.asarray(values, dtype)
    result = memory.array(len(array), array.dtype)
    result[:] = array
    return result


def make(kind: str, values: Sequence[Any], bounds: bool = True) -> ColumnData:
    """A column of this kind; None is NULL. ``bounds``: with low and high in its statistics."""
    rows, present = len(values), [v for v in values if v is not None]
    stats = Stats(nulls=rows - len(present))
    validity = None
    if stats.nulls:
        validity = memory.array((rows + 63) // 64 * 8, np.uint8, zero=True)
        bits = np.packbits([v is not None for v in values], bitorder="little")
        validity[: len(bits)] = bits
    if kind in ("u8", "u16", "u32", "int64", "int128") and bounds and present:
        stats.low, stats.high = min(present), max(present)
    rest: dict[str, Any] = {"validity": validity, "stats": stats}
    if kind in ("u8", "u16", "u32"):
        data = padded([0 if v is None else v + 7 for v in values], f"u{int(kind[1:]) // 8}")
        return ColumnData(t.BIGINT, "uint", rows, data, -7, **rest)
    if kind == "int64":
        return ColumnData(t.BIGINT, kind, rows, padded([v or 0 for v in values], np.int64), **rest)
    if kind == "int128":
        words = [w for v in values for w in ((v or 0) % 2**64, ((v or 0) >> 64) % 2**64)]
        return ColumnData(t.HUGEINT, kind, rows, padded(words, np.uint64), **rest)
    if kind in ("float32", "float64"):
        sql_type = t.FLOAT if kind == "float32" else t.DOUBLE
        return ColumnData(sql_type, kind, rows, padded([v or 0 if v is None else v for v in values], kind), **rest)
    if kind == "interval":
        pairs = [
            w
            for v in values
            for w in (((v or t.Interval())[0] & 0xFFFFFFFF) | (v or t.Interval())[1] << 32, (v or t.Interval())[2])
        ]
        return ColumnData(t.INTERVAL, kind, rows, padded(pairs, np.int64), **rest)
    texts = [v or "" for v in values]
    if kind == "dict":
        dictionary, codes = dictionaries.from_strings(texts)
        codes = codes.copy()
        codes[[v is None for v in values]] = 0
        data = padded(codes, dictionaries.code_type(len(dictionary)))
        return ColumnData(t.VARCHAR, kind, rows, data, dictionary=dictionary, **rest)
    raw = [v.encode() for v in texts]
    offsets = padded(np.cumsum([0, *map(len, raw)]), np.int64)
    return ColumnData(t.VARCHAR, kind, rows, offsets, chars=padded(list(b"".join(raw)), np.uint8), **rest)


def comparable(value: Any) -> Any:
    """A value as Python compares it in the order that SQL has."""
    if isinstance(value, float):
        return (1, 0.0) if math.isnan(value) else (0, value)
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, t.Interval):
        return (value.months * 30 + value.days) * 86_400_000_000 + value.micros
    return value


def expected(keys: Sequence[tuple[Sequence[Any], bool, bool]], rows: int) -> list[int]:
    """The order, by one stable sort for each key."""
    order = list(range(rows))
    for values, descending, nulls_first in reversed(keys):
        nulls = [i for i in order if values[i] is None]
        others = [i for i in order if values[i] is not None]
        others.sort(key=lambda i: comparable(values[i]), reverse=descending)
        order = nulls + others if nulls_first else others + nulls
    return order


def values_of(kind: str) -> st.SearchStrategy[Any]:
    """Values with ties and extremes."""
    if kind == "u8":
        return st.integers(-7, 248)
    if kind == "u16":
        return st.integers(-7, 3) | st.integers(-7, 65528)
    if kind == "u32":
        return st.integers(-7, 3) | st.integers(-7, 2**32 - 8)
    if kind == "int64":
        return st.sampled_from([-(2**63), 2**63 - 1, 0, -1, 1]) | st.integers(-(2**63), 2**63 - 1)
    if kind == "int128":
        return st.sampled_from([-(2**127), 2**127 - 1, 0, -1, 2**64, -(2**64)]) | st.integers(-(2**127), 2**127 - 1)
    if kind in ("float32", "float64"):
        width = int(kind[5:])
        special = [0.0, -0.0, math.nan, -math.nan, math.inf, -math.inf, 5e-324 if width == 64 else 1e-45]
        return st.sampled_from([float(np.dtype(kind).type(x)) for x in special]) | st.floats(width=width)  # type: ignore[arg-type]
    if kind == "interval":
        small = st.integers(-100, 100)
        wide = st.integers(-(2**31), 2**31 - 1)
        micros = st.sampled_from([0, 86_400_000_000, -1]) | st.integers(-(2**63), 2**63 - 1)
        return st.builds(t.Interval, small | wide, small | wide, micros)
    return st.sampled_from(TEXTS) | st.text(st.sampled_from("ab\0é"), max_size=12)


@st.composite
def tables(draw: st.DrawFn) -> tuple[list[tuple[str, list[Any], bool, bool]], int]:
    rows = draw(st.integers(0, 70))
    keys = []
    for _ in range(draw(st.integers(1, 3))):
        kind = draw(st.sampled_from(KINDS))
        item = values_of(kind)
        if draw(st.booleans()):
            item = st.none() | item
        keys.append(
            (kind, draw(st.lists(item, min_size=rows, max_size=rows)), draw(st.booleans()), draw(st.booleans()))
        )
    return keys, rows


@settings(max_examples=300, deadline=None)
@given(tables(), st.booleans())
def test_sort(table: Any, bounds: bool) -> None:
    keys, rows = table
    columns = [(make(kind, values, bounds), descending, first) for kind, values, descending, first in keys]
    order = sort_rows(columns, rows, get_pool(2))
    assert order.dtype == np.uint32
    assert order.tolist() == expected([key[1:] for key in keys], rows)
    assert sort_rows(columns, rows, get_pool(2), limit=5).tolist() == order.tolist()[:5]


def random_values(kind: str, rows: int, seed: int, nulls: bool) -> list[Any]:
    """Many values with repeats."""
    source = random.Random(seed)
    some: list[Any] = {
        "u8": lambda: [source.randrange(-7, 248) for _ in range(100)],
        "u16": lambda: [source.randrange(-7, 65528) for _ in range(3000)],
        "u32": lambda: [source.randrange(-7, 2**32 - 8) for _ in range(rows)],
        "int64": lambda: [source.randrange(-(2**63), 2**63) for _ in range(rows)],
        "int128": lambda: [source.randrange(-(2**127), 2**127) for _ in range(rows // 2)],
        "float32": lambda: [float(np.float32(source.gauss(0, 1))) for _ in range(rows)] + [math.nan, -0.0, 0.0],
        "float64": lambda: [source.gauss(0, 1) for _ in range(rows)] + [math.nan, -0.0, 0.0],
        "dict": lambda: [f"n{source.randrange(500)}" for _ in range(500)],
        "string": lambda: [f"Customer#{source.randrange(rows):09d}{'x' * source.randrange(4)}" for _ in range(rows)],
        "interval": lambda: [t.Interval(source.randrange(-9, 9), source.randrange(-99, 99), 0) for _ in range(rows)],
    }[kind]()
    return [None if nulls and source.random() < 0.1 else source.choice(some) for _ in range(rows)]


@pytest.mark.parametrize("alone", [64, sorting.ALONE])
@pytest.mark.parametrize(
    "kinds", [(k,) for k in KINDS] + [("u8", "string"), ("u8", "int64", "dict"), ("string", "u16"), ("int128", "u8")]
)
def test_sort_many(kinds: tuple[str, ...], alone: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """More than one bucket and morsel; with a small limit for what one thread sorts, all the ways of cutting up."""
    monkeypatch.setattr(sorting, "ALONE", alone)
    rows = 30_000
    for nulls, descending in ((False, False), (True, True)):
        values = [random_values(kind, rows, 7 + i, nulls) for i, kind in enumerate(kinds)]
        columns = [(make(kind, column), descending, not nulls) for kind, column in zip(kinds, values)]
        want = expected([(column, descending, not nulls) for column in values], rows)
        assert sort_rows(columns, rows, get_pool(2)).tolist() == want


def test_sort_skewed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Almost all rows in one bucket."""
    monkeypatch.setattr(sorting, "ALONE", 1000)
    rng = np.random.default_rng(1)
    data = rng.integers(0, 1000, 300_000)
    data[17] = 2**62
    column = ColumnData(t.BIGINT, "int64", len(data), padded(data, np.int64))
    assert np.array_equal(sort_rows([(column, False, False)], len(data), get_pool(2)), np.argsort(data, kind="stable"))


@pytest.mark.parametrize("alone", [64, sorting.ALONE])
def test_long_equal_strings(alone: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sorting, "ALONE", alone)
    source = random.Random(3)
    texts = ["x" * 1000 + tail for tail in ("", "\0", "\0\0", "a", "b" * 500, "b" * 500 + "c")]
    values = [source.choice(texts) for _ in range(3000)]
    order = sort_rows([(make("string", values), False, False)], len(values), get_pool(2))
    assert order.tolist() == expected([(values, False, False)], len(values))


def test_sort_known_order() -> None:
    column = make("u16", list(range(100)))
    column.stats.sorted = column.stats.unique = True
    assert sort_rows([(column, False, False)], 100, get_pool(2)).tolist() == list(range(100))
    assert sort_rows([(column, True, False)], 100, get_pool(2)).tolist() == list(range(99, -1, -1))
    assert sort_rows([], 4, get_pool(2)).tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize(
    "kinds",
    [("u8",), ("u16",), ("u16", "int64"), ("float64",), ("int64", "u8"), ("u32", "string"), ("string",), ("dict",)],
)
@pytest.mark.parametrize("limit", [0, 1, 100, 3000, 90_000])
def test_top(kinds: tuple[str, ...], limit: int) -> None:
    rows = 80_000
    values = [random_values(kind, rows, 3 + i, True) for i, kind in enumerate(kinds)]
    columns = [make(kind, column) for kind, column in zip(kinds, values)]
    for descending, first in ((False, False), (True, True)):
        want = expected([(column, descending, first) for column in values], rows)[:limit]
        terms = [(column, descending, first) for column in columns]
        assert sort_rows(terms, rows, get_pool(2), limit).tolist() == want


def test_top_clustered() -> None:
    """A sample that misleads: the least values lie where none is taken, or nearly all rows tie."""
    data = np.full(400_000, 1000, np.int64)
    data[5000:5010] = np.arange(10)[::-1]
    for second in (None, np.arange(400_000)[::-1].copy()):
        terms = [(ColumnData(t.BIGINT, "int64", len(data), padded(data, np.int64)), False, False)]
        if second is not None:
            terms.append((ColumnData(t.BIGINT, "int64", len(data), padded(second, np.int64)), False, False))
        want = np.lexsort((data,) if second is None else (second, data))[:50]
        assert np.array_equal(sort_rows(terms, len(data), get_pool(2), 50), want)


def same(left: list[Any], right: list[Any]) -> bool:
    return len(left) == len(right) and all(a == b or (a != a and b != b) for a, b in zip(left, right))


def check_nulls(column: ColumnData) -> None:
    """What ColumnData promises of NULLs."""
    values = column_to_python(column)
    assert column.stats.nulls == sum(v is None for v in values)
    assert (column.validity is not None) == bool(column.stats.nulls)
    assert column.validity is None or len(column.validity) == (column.length + 63) // 64 * 8
    per_row = 2 if column.kind in ("int128", "interval") else 1
    for row, value in enumerate(values):
        if value is None and column.kind != "string":
            assert not column.data[row * per_row : (row + 1) * per_row].any()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("nulls", [False, True])
def test_take(kind: str, nulls: bool) -> None:
    pool, rows = get_pool(2), 5000
    column = make(kind, random_values(kind, rows, 5, nulls))
    values = column_to_python(column)
    rng = np.random.default_rng(2)
    for count in (0, 1, 63, 64, 65, 140_000):
        chosen = rng.integers(0, rows, count).astype(np.uint32)
        got = take(column, chosen, pool)
        check_nulls(got)
        assert got.type == column.type and (count == 0 or got.data.ctypes.data % 64 == 0)
        assert same(column_to_python(got), [values[i] for i in chosen.tolist()])
        chosen[rng.random(count) < 0.2] = NO_ROW
        got = take(column, chosen, pool, missing=True)
        check_nulls(got)
        assert same(column_to_python(got), [None if i == NO_ROW else values[i] for i in chosen.tolist()])
    for start, length in ((0, rows), (0, 0), (7, 100), (64, 64), (rows, 0), (4999, 1)):
        part = slice_column(column, start, length)
        check_nulls(part)
        assert same(column_to_python(part), values[start : start + length])
    empty = make(kind, [])
    assert column_to_python(take(empty, np.full(3, NO_ROW, np.uint32), pool, missing=True)) == [None] * 3
    assert take_frame(Frame({4: column}, rows), chosen, pool, True).length == len(chosen)


def test_take_keeps_order() -> None:
    column = make("u16", list(range(100)))
    column.stats.sorted = column.stats.unique = True
    rows = np.arange(0, 100, 3, dtype=np.uint32)
    assert take(column, rows, get_pool(2), ascending=True).stats.unique
    assert not take(column, rows, get_pool(2)).stats.sorted


def test_top_prefixes() -> None:
    """Strings of which many share what the first threshold looks at: the threshold is taken again among those."""
    source = random.Random(4)
    words = ["carefully", "careful", "express", "deposits"]
    values = [" ".join(source.choice(words) for _ in range(8)) for _ in range(70_000)]
    column = make("string", values)
    for descending in (False, True):
        want = expected([(values, descending, False)], len(values))[:100]
        assert sort_rows([(column, descending, False)], len(values), get_pool(2), 100).tolist() == want
