"""Encoding from Arrow, joining and export: whatever goes in comes out, in the layout that the values allow."""

from __future__ import annotations

import datetime
import gc
import itertools
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finequery import types as t
from finequery.errors import NotSupportedError, OutOfMemoryError, OutOfRangeError
from finequery.jetson import memory
from finequery.operators import dictionary as dictionaries
from finequery.operators.column import BLOCK, ColumnData, Frame
from finequery.operators.concat import compact, concat_columns, constant_column, empty_column, expand
from finequery.operators.encode import encode
from finequery.operators.export import (
    column_to_arrow,
    column_to_numpy,
    column_to_python,
    frame_to_arrow,
    frame_to_batches,
    frame_to_numpy,
    frame_to_python,
)


def check(column: ColumnData) -> ColumnData:
    """The promises of ColumnData and Stats, by brute force."""
    values = column_to_python(column)
    assert len(values) == column.length
    present = [v for v in values if v is not None]
    stats = column.stats
    assert stats.nulls == len(values) - len(present)
    assert (column.validity is not None) == bool(stats.nulls)
    if column.validity is not None:
        assert column.validity.dtype == np.uint8 and len(column.validity) == (column.length + 63) // 64 * 8
    assert column.length == 0 or column.data.ctypes.data % 64 == 0
    per_row = 2 if column.kind in ("int128", "interval") else 1
    stored = column.data.reshape(-1, per_row)
    for row, value in enumerate(values):
        if value is None and column.kind != "string":
            assert (stored[row] == 0).all()
        elif value is None:
            assert column.data[row] == column.data[row + 1]
    if column.kind in ("uint", "dict"):
        assert column.data.dtype in (np.uint8, np.uint16, np.uint32)
    if column.type.is_exact and present:
        physical = [v for v in _physical(column) if v is not None]
        assert stats.low is not None and stats.low <= min(physical)
        assert stats.high is not None and stats.high >= max(physical)
    if column.type.is_float and stats.low is not None and present:
        assert stats.low <= min(present) and stats.high is not None and stats.high >= max(present)
    if stats.sorted:
        assert present == values and all(a <= b for a, b in itertools.pairwise(values))
    if stats.unique:
        assert present == values and len(set(values)) == len(values)
    if column.type.is_string and stats.ascii:
        assert all(v.isascii() for v in present)
    if stats.block_low is not None and stats.block_high is not None:
        for block in range(0, column.length, BLOCK):
            part = column.data[block : min(block + BLOCK, column.length)]
            assert stats.block_low[block // BLOCK] == part.min() and stats.block_high[block // BLOCK] == part.max()
    if column.kind == "dict":
        assert column.dictionary is not None and len(column.dictionary) >= 1
        items = [s.encode() for s in column.dictionary.strings()]
        assert items == sorted(set(items))
    return column


def _physical(column: ColumnData) -> list[int | None]:
    values = column_to_python(column)
    if column.type.is_decimal:
        return [None if v is None else int(v.scaleb(column.type.scale)) for v in values]
    if column.type.name == "DATE":
        return [None if v is None else (v - datetime.date(1970, 1, 1)).days for v in values]
    if column.type.name == "TIMESTAMP":
        epoch = datetime.datetime(1970, 1, 1)
        return [None if v is None else (v - epoch) // datetime.timedelta(microseconds=1) for v in values]
    return [None if v is None else int(v) for v in values]


def roundtrip(array: pa.Array | pa.ChunkedArray, expected: list | None = None) -> ColumnData:
    column = check(encode(array))
    expected = array.to_pylist() if expected is None else expected
    assert column_to_python(column) == expected
    assert column_to_arrow(column).to_pylist() == expected
    column_to_arrow(column).validate(full=True)
    return column


ARROW_TYPES = [
    (pa.int8(), st.integers(-128, 127)),
    (pa.int16(), st.integers(-(2**15), 2**15 - 1)),
    (pa.int32(), st.integers(-(2**31), 2**31 - 1)),
    (pa.int64(), st.integers(-(2**63), 2**63 - 1)),
    (pa.int64(), st.integers(10**12, 10**12 + 300)),
    (pa.uint8(), st.integers(0, 255)),
    (pa.uint64(), st.integers(0, 2**64 - 1)),
    (pa.bool_(), st.booleans()),
    (pa.float64(), st.floats(allow_nan=False)),
    (pa.float32(), st.floats(allow_nan=False, width=32)),
    (pa.string(), st.text(max_size=5)),
    (pa.large_string(), st.text(max_size=20)),
    (pa.string_view(), st.text(max_size=20)),
    (pa.date32(), st.dates()),
    (pa.timestamp("us"), st.datetimes()),
    (pa.timestamp("s"), st.datetimes().map(lambda d: d.replace(microsecond=0))),
    (pa.decimal128(15, 2), st.integers(-(10**15) + 1, 10**15 - 1).map(lambda n: Decimal(n).scaleb(-2))),
    (pa.decimal128(9, 2), st.integers(-50, 50).map(lambda n: Decimal(n).scaleb(0))),
    (pa.decimal128(38, 4), st.integers(-(10**37), 10**37).map(lambda n: Decimal(n).scaleb(-4))),
    (pa.decimal64(12, 3), st.integers(0, 10**6).map(lambda n: Decimal(n).scaleb(-3))),
    (pa.decimal32(7, 1), st.integers(-(10**6), 10**6).map(lambda n: Decimal(n).scaleb(-1))),
    (pa.decimal256(30, 2), st.integers(-(10**20), 10**20).map(lambda n: Decimal(n).scaleb(-2))),
]


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_roundtrip_of_anything(data):
    kind, values = data.draw(st.sampled_from(ARROW_TYPES))
    optional = st.one_of(st.none(), values) if data.draw(st.booleans()) else values
    chunks = data.draw(st.lists(st.lists(optional, max_size=12), min_size=1, max_size=4))
    skip = data.draw(st.integers(0, 3))
    arrays = [pa.array(chunk, kind).slice(min(skip, len(chunk))) for chunk in chunks]
    whole = roundtrip(pa.chunked_array(arrays, kind))
    joined = check(concat_columns([encode(array, part=True) for array in arrays]))
    assert column_to_python(joined) == column_to_python(whole)
    assert joined.kind == whole.kind or whole.type.is_string or not whole.length
    check(compact(joined))


@pytest.mark.parametrize(
    "values, dtype, base",
    [
        ([0, 200], np.uint8, 0),
        ([100, 300], np.uint8, 100),
        ([1000, 60000], np.uint16, 0),
        ([-5, 200], np.uint8, -5),
        ([70000, 70010], np.uint8, 70000),
        ([0, 2**32 - 1], np.uint32, 0),
        ([-(2**31), 2**31 - 1], np.uint32, -(2**31)),
    ],
)
def test_integers_are_narrow(values, dtype, base):
    column = roundtrip(pa.array(values, pa.int64()))
    assert (column.kind, column.data.dtype, column.base) == ("uint", dtype, base)


def test_wide_integers():
    assert roundtrip(pa.array([0, 2**40])).kind == "int64"
    assert roundtrip(pa.array([-(2**63), 2**63 - 1])).kind == "int64"
    assert roundtrip(pa.array([2**64 - 1, 0, None], pa.uint64())).kind == "int128"
    assert roundtrip(pa.array([Decimal(10**37), Decimal(-(10**37))], pa.decimal128(38, 0))).kind == "int128"


def test_decimals_lose_their_common_factor():
    column = roundtrip(pa.array([Decimal("5.00"), Decimal("17.00"), None], pa.decimal128(15, 2)))
    assert (column.data.dtype, column.scale, column.base) == (np.uint8, 100, 0)
    values = [Decimal(n) for n in range(70_000)] + [Decimal("0.50")]  # the exception comes late
    column = roundtrip(pa.array(values, pa.decimal128(15, 2)))
    assert column.scale == 50


def test_many_chunks_and_blocks():
    rows = 3 * BLOCK + 17
    values = np.arange(rows) * 3
    column = encode(pa.chunked_array([values[:100], values[100:70_000], values[70_000:]]))
    assert column.stats.sorted and column.stats.unique and column.stats.distinct == rows
    assert column.stats.block_low is not None and len(column.stats.block_low) == 4
    assert np.array_equal(column_to_numpy(column), values)
    shuffled = np.random.default_rng(1).permutation(values // 3)
    assert encode(pa.array(shuffled)).stats.unique
    shuffled[5] = shuffled[100_000]
    again = encode(pa.array(shuffled)).stats
    assert not again.unique and not again.sorted
    repeated = encode(pa.array(values // 12)).stats
    assert repeated.sorted and not repeated.unique and repeated.distinct == len(np.unique(values // 12))


def test_distinct_estimates():
    rng = np.random.default_rng(3)
    for distinct in (3, 200, 50_000):
        found = encode(pa.array(rng.integers(0, distinct, 400_000))).stats.distinct
        assert found is not None and distinct * 0.7 <= found <= distinct * 1.3


def test_strings_choose_their_form():
    few = roundtrip(pa.array(["b", "a", None, "c"] * 1000))
    assert few.kind == "dict" and few.data.dtype == np.uint8 and few.stats.distinct == 3
    many = roundtrip(pa.array([f"value {i}" for i in range(5000)]))
    assert many.kind == "string" and many.stats.ascii
    wide = roundtrip(pa.array([f"v{i % 1000:04}" for i in range(5000)]))
    assert wide.kind == "dict" and wide.data.dtype == np.uint16
    assert not roundtrip(pa.array(["é"])).stats.ascii
    assert roundtrip(pa.array(["a", "a", "b"])).stats.sorted
    # a sample that looks repetitive, but more values than a dictionary may have
    late = [f"{i // 4:07}" for i in range(400_000)]
    column = encode(pa.array(late))
    assert column.kind == "string" and column_to_python(column) == late


def test_dictionary_arrays():
    source = pa.array(["x", "y", None, "x", "z"]).dictionary_encode()
    assert roundtrip(source).kind == "dict"
    assert roundtrip(source.slice(3)).stats.distinct == 2
    chunks = pa.chunked_array([pa.array(["b", "a"]).dictionary_encode(), pa.array(["c", "a"]).dictionary_encode()])
    assert roundtrip(chunks).dictionary.strings() == ["a", "b", "c"]
    inner_null = pa.DictionaryArray.from_arrays(pa.array([0, 1, 0]), pa.array(["a", None]))
    roundtrip(inner_null, ["a", None, "a"])
    roundtrip(pa.array([5, 6, 5]).dictionary_encode(), [5, 6, 5])


def test_times():
    assert roundtrip(pa.array([0, 86_400_000, None], pa.date64())).type == t.DATE
    ns = pa.array([-1, -499, -500, -1500, 500, 499, 1500, None], pa.timestamp("ns"))
    column = check(encode(ns))
    epoch = datetime.datetime(1970, 1, 1)
    micros = [v if v is None else (v - epoch) // datetime.timedelta(microseconds=1) for v in column_to_python(column)]
    assert micros == [0, 0, -1, -2, 1, 0, 2, None]
    assert roundtrip(pa.array([3_600_000, None], pa.timestamp("ms"))).scale > 1
    with pytest.raises(OutOfRangeError):
        encode(pa.array([2**62], pa.timestamp("s")))


def test_intervals():
    column = check(encode(pa.array([(1, 2, 3_000), (-1, -2, -5_000), None], pa.month_day_nano_interval())))
    day = datetime.timedelta(days=1)
    us = datetime.timedelta(microseconds=1)
    assert column_to_python(column) == [32 * day + 3 * us, -32 * day - 5 * us, None]
    assert column_to_arrow(column).to_pylist()[1] == (-1, -2, -5_000)
    assert column_to_python(check(encode(pa.array([5, None], pa.duration("ms"))))) == [5000 * us, None]


def test_other_types():
    roundtrip(pa.array([1.5, None], pa.float16()))
    assert column_to_python(encode(pa.nulls(3))) == [None] * 3
    nan = encode(pa.array([1.0, float("nan")]))
    assert nan.stats.low is None and nan.stats.block_low is None
    for array, name in [
        (pa.array([b"a"]), "BLOB"),
        (pa.array([[1]]), "LIST"),
        (pa.array([{"a": 1}]), "STRUCT"),
        (pa.array([0], pa.time64("us")), "TIME"),
    ]:
        with pytest.raises(NotSupportedError, match=name):
            encode(array, name="c")


def test_null_rows_may_hide_anything():
    garbage = pa.Array.from_buffers(pa.int64(), 3, [pa.py_buffer(b"\x05"), pa.py_buffer(np.array([1, 2**60, 3]))])
    assert roundtrip(garbage).data.dtype == np.uint8
    text = pa.Array.from_buffers(
        pa.string(),
        3,
        [pa.py_buffer(b"\x05"), pa.py_buffer(np.array([0, 1, 4, 5], np.int32)), pa.py_buffer(b"axxxb")],
    )
    roundtrip(text)
    check(expand(encode(text)))
    long = pa.array([None if i % 7 == 0 else f"text {i}" for i in range(3000)])
    assert roundtrip(long).kind == "string"


def test_concat():
    pieces = [encode(pa.array(v, pa.int64()), part=True) for v in ([1, 2], [], [300, None], [-7], [10**12])]
    joined = check(concat_columns(pieces))
    assert column_to_python(joined) == [1, 2, 300, None, -7, 10**12]
    texts = [encode(pa.array(v)) for v in (["b", None], ["a", "c"], [f"{i:05}" for i in range(3000)])]
    assert [p.kind for p in texts] == ["dict", "dict", "string"]
    assert column_to_python(check(concat_columns(texts)))[:5] == ["b", None, "a", "c", "00000"]
    two = check(concat_columns(texts[:2]))
    assert two.kind == "dict" and two.dictionary.strings() == ["a", "b", "c"]
    nothing = constant_column(t.NULL, None, 2)
    assert column_to_python(check(concat_columns([nothing, texts[0]]))) == [None, None, "b", None]
    again = concat_columns([texts[0], texts[0]])
    assert again.dictionary is texts[0].dictionary
    big = encode(pa.array([Decimal(10**30)], pa.decimal128(38, 0)))
    small = encode(pa.array([Decimal(-3), None], pa.decimal128(38, 0)))
    assert column_to_python(check(concat_columns([small, big]))) == [Decimal(-3), None, Decimal(10**30)]


def test_compact_narrows_what_operators_make():
    wide = ColumnData(t.decimal(38, 2), "int64", 4, memory.array(4, np.int64))
    wide.data[:] = [100, 300, 500, 700]
    column = check(compact(wide))
    assert column.data.dtype == np.uint8 and column.scale == 100
    names = encode(pa.array([f"name {i}" for i in range(20_000)]), t.VARCHAR)
    assert names.kind == "string" and compact(names) is names  # encode has found them to be different
    repeated = expand(encode(pa.array(["a", "b"] * 5000), t.VARCHAR))
    assert check(compact(repeated)).kind == "dict"
    words = ColumnData(t.HUGEINT, "int128", 2, memory.array(4, np.uint64))
    words.data[:] = [2**64 - 5, 2**64 - 1, 7, 0]
    column = check(compact(words))
    assert column_to_python(column) == [-5, 7] and column.data.dtype == np.uint8


@pytest.mark.parametrize(
    "sql_type, value, expected",
    [
        (t.INTEGER, 5, 5),
        (t.BIGINT, -(2**62), -(2**62)),
        (t.HUGEINT, 2**100, 2**100),
        (t.HUGEINT, -(2**100), -(2**100)),
        (t.decimal(5, 2), 150, Decimal("1.50")),
        (t.BOOLEAN, True, True),
        (t.DOUBLE, -0.5, -0.5),
        (t.VARCHAR, "é", "é"),
        (t.DATE, 1, datetime.date(1970, 1, 2)),
        (t.TIMESTAMP, 1, datetime.datetime(1970, 1, 1, 0, 0, 0, 1)),
        (t.INTERVAL, t.Interval(-1, -2, 3), datetime.timedelta(days=-32, microseconds=3)),
        (t.NULL, None, None),
    ],
)
def test_constants(sql_type, value, expected):
    for item, wanted in ((value, expected), (None, None)):
        column = check(constant_column(sql_type, item, 3))
        assert column_to_python(column) == [wanted] * 3
    assert check(empty_column(sql_type)).length == 0
    assert column_to_arrow(empty_column(sql_type)).to_pylist() == []
    column_to_numpy(empty_column(sql_type))


def test_dictionary_lookup():
    built, codes = dictionaries.from_strings(["pear", "apple", "pear", "fig", ""])
    assert built.strings() == ["", "apple", "fig", "pear"] and codes.tolist() == [3, 1, 3, 2, 0]
    assert dictionaries.code_of(built, "fig") == 2 and dictionaries.code_of(built, "figs") is None
    assert dictionaries.lower_bound(built, "b") == 2 and dictionaries.upper_bound(built, "fig") == 3
    assert dictionaries.lower_bound(built, "zzz") == 4
    other, _ = dictionaries.from_strings(["fig", "kiwi"])
    merged, maps = dictionaries.merge([built, other, built])
    assert merged.strings() == ["", "apple", "fig", "kiwi", "pear"]
    assert maps[1].tolist() == [2, 3] and maps[0].tolist() == maps[2].tolist() == [0, 1, 2, 4]
    part, _ = dictionaries.from_strings(["fig"])
    assert dictionaries.merge([part, built])[0] is built


def test_export_of_frames():
    columns = {3: encode(pa.array([1, 2, None])), 7: encode(pa.array(["a", "b", "a"]))}
    frame = Frame(columns, 3)
    assert frame_to_python(frame, [7, 3]) == [("a", 1), ("b", 2), ("a", None)]
    assert frame_to_arrow(frame, [3, 7], ["n", "n"]).column_names == ["n", "n"]
    kept = frame_to_arrow(frame, [7], ["s"], dictionary=True)
    assert pa.types.is_dictionary(kept.schema.field(0).type) and kept.column(0).to_pylist() == ["a", "b", "a"]
    assert [b.num_rows for b in frame_to_batches(frame, [3], ["n"], rows=2)] == [2, 1]
    empty = Frame({1: empty_column(t.VARCHAR)}, 0)
    assert [b.num_rows for b in frame_to_batches(empty, [1], ["s"])] == [0]
    assert frame_to_python(Frame({}, 2), []) == [(), ()]
    arrays = frame_to_numpy(frame, [3], ["n"])
    assert arrays["n"].tolist() == [1, 2, None]


def test_export_without_a_copy():
    column = encode(pa.array([0.5, 1.5]))
    assert column_to_arrow(column).buffers()[1].address == column.data.ctypes.data


def test_numpy_forms():
    assert column_to_numpy(encode(pa.array([Decimal("1.50")]))).tolist() == [1.5]
    assert column_to_numpy(encode(pa.array([datetime.date(2020, 1, 1)]))).dtype == "datetime64[us]"
    assert column_to_numpy(encode(pa.array([10**18, 2**64 - 1], pa.uint64()))).tolist() == [10**18, 2**64 - 1]


def test_memory_is_counted_and_limited(monkeypatch):
    gc.collect()  # what earlier tests left is not counted in this one
    before = memory.live()
    block = memory.allocate(1 << 20)
    assert memory.live() - before >= 1 << 20 and block.ctypes.data % 64 == 0
    part = block[10:20].view(np.int16)
    del block
    assert memory.live() > before
    del part
    assert memory.live() == before
    memory.set_limit(before + 1000)
    try:
        with pytest.raises(OutOfMemoryError, match=r"host memory.*memory_limit"):
            memory.allocate(1 << 20)
    finally:
        memory.set_limit(None)
    for name in ("FINEQUERY_CUDA", "NUMBA_ENABLE_CUDASIM"):  # the simulator has every kind
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(NotSupportedError, match="device"):
        memory.allocate(8, kind="device")
