"""Parquet columns decoded in place: the same values as through Arrow, or given up."""

from __future__ import annotations

import datetime
import random
from contextlib import suppress
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_encode import check

import finequery
from finequery.errors import Error, FileError
from finequery.operators.export import column_to_python
from finequery.operators.parquet_decode import decode
from finequery.operators.parquet_table import ParquetTable

ROWS = 3000


def nullable(values: Any, sql_type: pa.DataType, share: float, rng: np.random.Generator) -> pa.Array:
    return pa.array(values, sql_type, mask=rng.random(len(values)) < share if share else None)


def forms(rows: int, share: float, seed: int = 0) -> dict[str, pa.Array]:
    """A column of every form that is decoded in place."""
    rng = np.random.default_rng(seed)

    def numbers(low: int, high: int, sql_type: pa.DataType) -> pa.Array:
        return nullable(rng.integers(low, high, rows, dtype=np.int64), sql_type, share, rng)

    def decimals(high: int, factor: int, precision: int, scale: int) -> pa.Array:
        values = [Decimal(int(v) * factor).scaleb(-scale) for v in rng.integers(-high // 2, high, rows)]
        return nullable(np.array(values), pa.decimal128(precision, scale), share, rng)

    words = np.array(["", "a", "bb", "émile", "zz" * 20])
    return {
        "i8": numbers(-128, 128, pa.int8()),
        "i16": numbers(-3, 300, pa.int16()),
        "i32": numbers(-(2**31), 2**31, pa.int32()),
        "i64": numbers(-(2**62), 2**62, pa.int64()),
        "around": numbers(10**12, 10**12 + 50, pa.int64()),
        "u8": numbers(0, 256, pa.uint8()),
        "u16": numbers(0, 2**16, pa.uint16()),
        "u32": numbers(0, 2**32, pa.uint32()),
        "u64": numbers(0, 2**62, pa.uint64()),
        "d4": decimals(10**4, 100, 9, 2),
        "d8": decimals(10**9, 1, 15, 2),
        "day": nullable(rng.integers(-10_000, 20_000, rows).astype("datetime64[D]"), pa.date32(), share, rng),
        "us": nullable(rng.integers(0, 10**15, rows).astype("datetime64[us]"), pa.timestamp("us"), share, rng),
        "ms": nullable(rng.integers(0, 10**12, rows).astype("datetime64[ms]"), pa.timestamp("ms"), share, rng),
        "s": nullable(rng.integers(0, 10**9, rows).astype("datetime64[s]"), pa.timestamp("s"), share, rng),
        "one": nullable(np.full(rows, 7), pa.int32(), share, rng),
        "zero": nullable(np.array([Decimal(0)] * rows), pa.decimal128(9, 2), share, rng),
        "key": nullable(np.arange(rows), pa.int64(), share, rng),
        "word": nullable(words[rng.integers(0, len(words), rows)], pa.string(), share, rng),
        "same": nullable(np.array(["only"] * rows), pa.string(), share, rng),
    }


def in_place(table: ParquetTable) -> set[str]:
    """The columns that are decoded in place."""
    wanted = [(n, t, table.stats(n)) for n, t in table.columns if t.is_exact or t.is_string]
    return set(decode(table.files.paths, table.files.metadata, wanted, table.files.groups))


def agree(table: ParquetTable, source: pa.Table) -> None:
    """The table's columns hold the source's values, and keep the promises of columns."""
    for name, column in zip(source.column_names, table.load(source.column_names)):
        check(column)
        assert column_to_python(column) == source.column(name).to_pylist(), name


@pytest.mark.parametrize("share", [0, 0.1, 0.95])
@pytest.mark.parametrize("dictionary", [True, False])
@pytest.mark.parametrize("version", ["1.0", "2.0"])
@pytest.mark.parametrize("codec", ["snappy", "none"])
def test_every_form(tmp_path, share, dictionary, version, codec):
    source = pa.table(forms(ROWS, share))
    options = {"use_dictionary": dictionary, "data_page_version": version, "compression": codec}
    pq.write_table(
        source,
        tmp_path / "t.parquet",
        row_group_size=1100,
        data_page_size=2000,
        store_decimal_as_integer=True,
        **options,
    )
    table = ParquetTable(tmp_path / "t.parquet")
    expected = set(source.column_names) - (set() if dictionary else {"word", "same"})
    assert in_place(table) == expected
    agree(table, source)


def test_layouts_are_those_of_encode(tmp_path):
    source = pa.table(forms(ROWS, 0))
    pq.write_table(source, tmp_path / "t.parquet", store_decimal_as_integer=True)
    table = ParquetTable(tmp_path / "t.parquet")
    columns = dict(zip(source.column_names, table.load(source.column_names)))
    assert columns["around"].data.dtype == np.uint8 and columns["around"].base == 10**12
    assert columns["d4"].scale == 100 and columns["d4"].data.dtype == np.uint16
    assert columns["ms"].scale == 1000 and columns["s"].scale == 1_000_000 and columns["zero"].scale == 1
    assert columns["key"].stats.sorted and columns["key"].stats.unique and columns["key"].stats.distinct == ROWS
    assert columns["i64"].stats.block_low is not None and not columns["i64"].stats.sorted
    assert columns["word"].kind == "dict" and len(columns["word"].dictionary or ()) == 5


def test_a_dictionary_that_overflows(tmp_path):
    """Writers end a dictionary that grows too large: the pages after it are plain."""
    rng = np.random.default_rng(1)
    values = rng.integers(0, 10**7, 200_000)
    source = pa.table({"n": values, "d": pa.array([Decimal(int(v)).scaleb(-2) for v in values], pa.decimal128(15, 2))})
    limit = {"dictionary_pagesize_limit": 100_000, "data_page_size": 50_000, "store_decimal_as_integer": True}
    pq.write_table(source, tmp_path / "t.parquet", **limit)
    table = ParquetTable(tmp_path / "t.parquet")
    assert in_place(table) == {"n", "d"}
    agree(table, source)


def test_a_factor_that_the_first_rows_only_seem_to_have(tmp_path):
    values = np.full(20_000, 100)
    values[-2] = 101
    source = pa.table({"d": pa.array([Decimal(int(v)).scaleb(-2) for v in values], pa.decimal128(9, 2))})
    pq.write_table(source, tmp_path / "t.parquet", store_decimal_as_integer=True, write_statistics=True)
    agree(ParquetTable(tmp_path / "t.parquet"), source)
    values[0], values[-2], values[-1] = 0, 107, 200
    source = pa.table({"d": pa.array([Decimal(int(v)).scaleb(-2) for v in values], pa.decimal128(9, 2))})
    pq.write_table(source, tmp_path / "t.parquet", store_decimal_as_integer=True)
    table = ParquetTable(tmp_path / "t.parquet")
    assert in_place(table) == set()  # the range and the first rows have the factor 100
    agree(table, source)


@pytest.mark.parametrize(
    "options",
    [
        {"compression": "zstd"},
        {"compression": "gzip"},
        {"write_statistics": False},
        {"use_dictionary": False, "column_encoding": {"i32": "DELTA_BINARY_PACKED", "word": "DELTA_BYTE_ARRAY"}},
        {"use_dictionary": False, "column_encoding": {"i32": "BYTE_STREAM_SPLIT", "word": "DELTA_LENGTH_BYTE_ARRAY"}},
        {"use_deprecated_int96_timestamps": True},
    ],
)
def test_other_forms_go_through_arrow(tmp_path, options):
    columns = forms(ROWS, 0.1)
    source = pa.table({name: columns[name] for name in ("i32", "word", "us")})
    pq.write_table(source, tmp_path / "t.parquet", **options)
    agree(ParquetTable(tmp_path / "t.parquet"), source)


def test_files_of_different_forms(tmp_path):
    """Each file has its own physical types, order, units and dictionaries."""
    one, two = forms(ROWS, 0, 1), forms(700, 0.2, 2)
    first = pa.table({"a": one["i16"].cast(pa.int64()), "t": one["us"], "w": one["word"], "d": one["d8"]})
    second = pa.table({"w": two["same"], "a": two["i16"], "d": two["d4"].cast(pa.decimal128(9, 2)), "t": two["ms"]})
    pq.write_table(first, tmp_path / "1.parquet", store_decimal_as_integer=True)
    pq.write_table(second, tmp_path / "2.parquet", store_decimal_as_integer=True)
    pq.write_table(first.slice(0, 0), tmp_path / "3.parquet")
    table = ParquetTable(tmp_path / "*.parquet")
    assert in_place(table) == {"a", "w", "d"}  # microseconds and milliseconds have no one factor
    for name in first.column_names:
        expected = first.column(name).to_pylist() + second.column(name).to_pylist()
        assert column_to_python(table.load([name])[0]) == expected
        check(table.load([name])[0])


def test_all_null_and_empty(tmp_path):
    source = pa.table(
        {"a": pa.nulls(5, pa.int32()), "w": pa.nulls(5, pa.string()), "d": pa.nulls(5, pa.decimal128(9, 2))}
    )
    pq.write_table(source, tmp_path / "t.parquet")
    agree(ParquetTable(tmp_path / "t.parquet"), source)
    pq.write_table(source.slice(0, 0), tmp_path / "t.parquet")
    agree(ParquetTable(tmp_path / "t.parquet"), source.slice(0, 0))
    some = pa.table({"a": pa.array([None] * 1000 + [5] + [None] * 999, pa.int32())})
    pq.write_table(some, tmp_path / "t.parquet", row_group_size=500)
    agree(ParquetTable(tmp_path / "t.parquet"), some)


def test_nested_columns_beside_flat_ones(tmp_path):
    source = pa.table({"l": [[1, 2], []], "s": [{"x": 1}, {"x": 2}], "s.x": [5, 6], "a": [3, 4]})
    pq.write_table(source, tmp_path / "t.parquet")
    table = ParquetTable(tmp_path / "t.parquet")
    assert column_to_python(table.load(["a"])[0]) == [3, 4]


@pytest.mark.parametrize("codec", ["snappy", "uncompressed"])
def test_files_that_duckdb_wrote(tmp_path, codec):
    path = tmp_path / "t.parquet"
    duckdb.sql(
        f"""copy (select i, i % 7 as small, (i % 1000)::decimal(15, 2) as d, (i % 3)::utinyint as u,
        'word ' || i % 11 as w, date '1992-01-01' + (i % 2000)::int as day,
        case when i % 5 = 0 then null else i end as n,
        timestamp_ms '2001-02-03 04:05:06.789' as ms, (i * 1000000000)::hugeint as h
        from range(250000) t(i)) to '{path}' (compression {codec})"""
    )
    table = ParquetTable(path)
    names = [name for name, _ in table.columns]
    rows = duckdb.sql(f"from '{path}'").fetchall()
    assert list(zip(*map(column_to_python, table.load(names)))) == rows
    for column in table.load(["i", "d", "n", "w"]):
        check(column)


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_anything_written_is_read(tmp_path_factory, data):
    """Values, NULLs and sizes of row groups and pages as they come."""
    path = tmp_path_factory.mktemp("p") / "t.parquet"
    draw = data.draw
    bits = draw(st.sampled_from([1, 7, 8, 9, 16, 17, 31, 33, 62]))
    base = draw(st.integers(-(2**62), 2**62))
    few = draw(st.lists(st.integers(0, 2**bits - 1), min_size=1, max_size=40))
    seed, rows, runs = draw(st.integers(0, 2**30)), draw(st.integers(1, 3000)), draw(st.booleans())
    rng = random.Random(seed)
    values: list[int | None] = []
    while len(values) < rows:
        value = None if rng.random() < 0.2 else base + rng.choice(few)
        values += [value] * (rng.randint(1, 60) if runs else 1)
    values = values[:rows]
    source = pa.table({"n": pa.array(values, pa.int64()), "w": [None if v is None else str(v) for v in values]})
    pq.write_table(
        source,
        path,
        row_group_size=draw(st.integers(1, 4000)) if rows < 300 else 1000,
        data_page_size=draw(st.sampled_from([64, 1000, 1 << 20])),
        write_batch_size=draw(st.sampled_from([1, 64, 1000])),
        use_dictionary=draw(st.booleans()),
        data_page_version=draw(st.sampled_from(["1.0", "2.0"])),
        compression=draw(st.sampled_from(["snappy", "none"])),
    )
    agree(ParquetTable(path), source)


def test_damage_is_an_error_or_harmless(tmp_path):
    """Whatever a byte of the pages becomes: no crash, and no error but ours."""
    source = pa.table(forms(500, 0.1))
    whole = tmp_path / "whole.parquet"
    pq.write_table(source, whole, data_page_size=500, store_decimal_as_integer=True)
    data = whole.read_bytes()
    footer = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
    rng = random.Random(0)
    damaged: Path = tmp_path / "t.parquet"
    for _ in range(150):
        changed = bytearray(data)
        for _ in range(rng.randint(1, 20)):
            changed[rng.randrange(4, footer)] = rng.randrange(256)
        damaged.write_bytes(changed)
        table = ParquetTable(damaged)
        for name, _ in table.columns:
            with suppress(Error, UnicodeDecodeError, pa.ArrowException):
                table.load([name])


def test_statistics_that_are_untrue(tmp_path):
    """A range in the footer that the values leave is noticed, not believed."""
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"a": pa.array([100] * 999 + [77777], pa.int32())}), path, compression="none")
    data = path.read_bytes()
    found = data.rindex((77777).to_bytes(4, "little"))  # in the footer
    lied = data.replace((77777).to_bytes(4, "little"), (50).to_bytes(4, "little"))
    first = data.index((77777).to_bytes(4, "little"))
    assert first < found
    path.write_bytes(lied[:first] + (77777).to_bytes(4, "little") + lied[first + 4 :])
    table = ParquetTable(path)
    assert in_place(table) == set()


def test_days_and_times_are_right(tmp_path):
    source = pa.table({"t": pa.array([1500, -1500, 0], pa.timestamp("ms")), "d": pa.array([0, 1, -1], pa.date32())})
    pq.write_table(source, tmp_path / "t.parquet")
    t, d = (column_to_python(c) for c in ParquetTable(tmp_path / "t.parquet").load(["t", "d"]))
    assert t[1] == datetime.datetime(1969, 12, 31, 23, 59, 58, 500000)
    assert d == [datetime.date(1970, 1, 1), datetime.date(1970, 1, 2), datetime.date(1969, 12, 31)]


def test_a_file_that_is_gone(tmp_path):
    pq.write_table(pa.table({"a": [1, 2]}), tmp_path / "t.parquet")
    table = ParquetTable(tmp_path / "t.parquet")
    (tmp_path / "t.parquet").unlink()
    with pytest.raises(FileError, match="is gone since"):
        table.load(["a"])


def test_columns_read_at_once_share_the_file(tmp_path: Path) -> None:
    """Threads that come to a file together read one map of it: a second one would unmap what the first is reading."""
    texts = {f"c{i}": pa.array([f"text {i} {j % 200}" for j in range(3000)]) for i in range(8)}
    pq.write_table(pa.table(texts), tmp_path / "t.parquet")
    for _ in range(40):
        with finequery.connect(threads=2) as con:
            row = con.execute(f"select {', '.join(f'max({c})' for c in texts)} from '{tmp_path}/t.parquet'").fetchone()
            assert row is not None and row[7] == "text 7 99"
