"""Tables over memory, Arrow, pandas, polars, numpy, datasets, Parquet and CSV."""

from __future__ import annotations

import datetime
import os
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import duckdb
import numpy as np
import older_duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from finequery import connect
from finequery import types as t
from finequery.errors import FileError, InternalError, NotSupportedError
from finequery.operators.csv_table import CsvTable
from finequery.operators.encode import encode
from finequery.operators.export import column_to_python
from finequery.operators.parquet_table import ParquetTable
from finequery.operators.sources import table_of
from finequery.operators.table import ArrowTable, MemoryTable, Table


def rows_of(table: Table, *names: str) -> list[tuple]:
    columns = table.load(names or [name for name, _ in table.columns])
    assert all(c.length == table.rows for c in columns)
    return list(zip(*map(column_to_python, columns)))


def types_of(table: Table) -> list[str]:
    return [str(sql_type) for _, sql_type in table.columns]


# Memory


def test_memory_table_appends():
    table = MemoryTable("m", [("a", t.BIGINT), ("s", t.VARCHAR)])
    assert rows_of(table) == [] and table.rows == 0
    seen = {table.version}
    for i in range(5):
        table.append([encode(pa.array([i, None])), encode(pa.array([f"s{i}", "x"]))])
        seen.add(table.version)
    assert len(seen) == 6 and table.rows == 10
    assert rows_of(table)[:3] == [(0, "s0"), (None, "x"), (1, "s1")]
    column = table.load(["a"])[0]
    table.append([encode(pa.array([10**12])), encode(pa.array([None], pa.string()))])
    assert column.length == 10  # what a reader holds does not change
    assert rows_of(table)[-1] == (10**12, None)
    stats = table.stats("a")
    assert stats is not None and (stats.low, stats.high, stats.nulls) == (0, 10**12, 5)
    with pytest.raises(InternalError):
        table.append([encode(pa.array([1]))])


# Arrow and other libraries


def test_arrow_table_is_usable_beside_columns_it_cannot_read():
    table = ArrowTable("t", pa.table({"a": [1, 2], "l": [[1], [2]], "b": ["x", None]}))
    assert types_of(table) == ["BIGINT", "LIST", "VARCHAR"] and table.rows == 2
    assert rows_of(table, "b", "a") == [("x", 1), (None, 2)]
    with pytest.raises(NotSupportedError, match=r'"l" of "t".*LIST'):
        table.load(["a", "l"])
    assert table.load(["a"])[0] is table.load(["a"])[0]


def test_pandas():
    frame = pd.DataFrame(
        {
            "f": [1.5, np.nan],
            "o": ["a", None],
            "i": pd.array([1, None], dtype="Int64"),
            "t": pd.to_datetime(["2020-01-01", None]),
            "c": pd.Categorical(["x", "y"]),
            "d": [datetime.date(2020, 1, 1), None],
            "n": [Decimal("1.50"), Decimal("2.25")],
            "b": [True, False],
            "e": pd.to_timedelta(["1 day", None]),
            3: np.array([1, 2], np.int8),
        }
    )
    table = table_of(frame, "df")
    assert table is not None and table.rows == 2
    assert types_of(table) == [
        "DOUBLE",
        "VARCHAR",
        "BIGINT",
        "TIMESTAMP",
        "VARCHAR",
        "DATE",
        "DECIMAL(3,2)",
        "BOOLEAN",
        "INTERVAL",
        "TINYINT",
    ]
    day = datetime.timedelta(days=1)
    one = datetime.datetime(2020, 1, 1)
    assert rows_of(table) == [
        (1.5, "a", 1, one, "x", one.date(), Decimal("1.50"), True, day, 1),
        (None, None, None, None, "y", None, Decimal("2.25"), False, None, 2),
    ]
    with pytest.raises(NotSupportedError, match=r'"o" of "df".*object'):
        table_of(pd.DataFrame({"o": [1, "a"]}), "df")
    assert rows_of(table_of(pd.DataFrame({"a": [1, 2, 3]})[::2], "df")) == [(1,), (3,)]
    assert table_of(pd.DataFrame({"a": []}), "df").rows == 0


def test_polars():
    frame = pl.DataFrame(
        {"a": [1, None], "s": ["x", "long enough to be outside of the view"], "f": [1.5, float("nan")]}
    )
    for source in (frame, frame.lazy()):
        table = table_of(source, "p")
        got = rows_of(table)
        assert got[0] == (1, "x", 1.5) and got[1][:2] == (None, frame["s"][1]) and np.isnan(got[1][2])
    category = pl.DataFrame({"c": ["a", "b", "a"]}, schema={"c": pl.Categorical})
    assert rows_of(table_of(category, "p")) == [("a",), ("b",), ("a",)]


def test_numpy():
    table = table_of(
        {
            "i": np.arange(3),
            "f": np.array([0.5, np.nan, 1]),
            "s": np.array(["x", "y", "z"]),
            "d": np.array(["2020-01-01"] * 3, "datetime64[D]"),
            "m": np.ma.masked_array([1, 2, 3], [False, True, False]),
            "strided": np.arange(6)[::2],
            "big": np.arange(3, dtype=">i4"),
            "b": np.array([True, False, True]),
        },
        "n",
    )
    assert types_of(table) == ["BIGINT", "DOUBLE", "VARCHAR", "DATE", "BIGINT", "BIGINT", "INTEGER", "BOOLEAN"]
    assert rows_of(table, "i", "s", "d", "m", "strided", "big", "b")[1] == (
        1,
        "y",
        datetime.date(2020, 1, 1),
        None,
        2,
        1,
        False,
    )
    with pytest.raises(NotSupportedError, match="different lengths"):
        table_of({"a": np.arange(2), "b": np.arange(3)}, "n")
    assert table_of({"a": 5}, "n") is None and table_of(5, "n") is None


def test_readers_and_datasets(tmp_path):
    source = pa.table({"a": [1, 2, 3], "b": ["x", "y", None]})
    assert rows_of(table_of(source.to_reader(), "r")) == rows_of(ArrowTable("t", source))
    assert rows_of(table_of(source.to_batches()[0], "r"), "a") == [(1,), (2,), (3,)]
    pq.write_table(source, tmp_path / "d.parquet")
    table = table_of(ds.dataset(tmp_path / "d.parquet"), "d")
    assert table.rows == 3 and rows_of(table, "b", "a") == [("x", 1), ("y", 2), (None, 3)]


# Parquet


def sample(rows: int, seed: int = 0) -> pa.Table:
    rng = np.random.default_rng(seed)
    null = rng.random(rows) < 0.1
    return pa.table(
        {
            "key": np.arange(rows) + seed * rows,
            "small": pa.array(rng.integers(-3, 200, rows), pa.int32(), mask=null),
            "price": pa.array([Decimal(int(n)).scaleb(-2) for n in rng.integers(0, 10**7, rows)], pa.decimal128(15, 2)),
            "day": pa.array(rng.integers(8000, 9000, rows).astype("datetime64[D]"), mask=null),
            "at": pa.array(rng.integers(0, 10**15, rows).astype("datetime64[us]")),
            "kind": pa.array(rng.choice(["red", "green", "blue"], rows), mask=null),
            "text": pa.array([f"text number {n}" for n in rng.integers(0, 10**9, rows)], mask=null),
            "real": pa.array(rng.random(rows), mask=null),
            "flag": pa.array(rng.random(rows) < 0.5, mask=null),
            "huge": pa.array([Decimal(int(n)) * 10**20 for n in rng.integers(0, 10**7, rows)], pa.decimal128(38, 0)),
        }
    )


@pytest.mark.parametrize("group", [1000, 7000, 10**6])
@pytest.mark.parametrize("dictionary", [True, False])
def test_parquet_reads_what_was_written(tmp_path, group, dictionary):
    source = sample(20_000)
    path = tmp_path / "t.parquet"
    pq.write_table(source, path, row_group_size=group, use_dictionary=dictionary)
    table = ParquetTable(path)
    assert table.name == "t" and table.rows == 20_000
    early = {name: table.stats(name) for name, _ in table.columns}
    assert rows_of(table) == [tuple(r.values()) for r in source.to_pylist()]
    for name, column in zip([n for n, _ in table.columns], table.load([n for n, _ in table.columns])):
        before, after = early[name], column.stats
        if before is not None:
            assert (before.low, before.high, before.nulls) == (after.low, after.high, after.nulls)
    assert {n for n, s in early.items() if s is not None} >= {"key", "small", "day", "at", "flag"}
    kinds = dict(zip([n for n, _ in table.columns], [c.kind for c in table.load([n for n, _ in table.columns])]))
    assert kinds["kind"] == "dict" and kinds["text"] == "string" and kinds["huge"] == "int128"


def test_types_that_are_missing_say_what_to_do():
    structs = pa.table({"s": [{"a": 1}], "b": [2]})
    with connect() as con:
        con.register("frame", structs)
        with pytest.raises(NotSupportedError, match=r"flatten\(\)"):
            con.sql("select * from frame").fetchall()
        con.register("frame", structs.flatten())
        assert con.sql('select "s.a", b from frame').fetchall() == [(1, 2)]


def test_parquet_forms(tmp_path):
    source = pa.table(
        {
            "l": [[1], [2]],
            "s": [{"x": 1}, {"x": 2}],
            "a.b": [1, 2],
            "ns": pa.array([1500, 2499], pa.timestamp("ns")),
            "z": pa.array([0, 1], pa.time64("us")),
            "u": pa.array([2**64 - 1, 1], pa.uint64()),
            "n": pa.nulls(2),
        }
    )
    pq.write_table(source, tmp_path / "f.parquet")
    table = ParquetTable(tmp_path / "f.parquet")
    assert rows_of(table, "a.b", "u", "n") == [(1, 2**64 - 1, None), (2, 1, None)]
    assert [row[0].microsecond for row in rows_of(table, "ns")] == [2, 2]
    stats = table.stats("u")
    assert stats is not None and stats.high == 2**64 - 1
    for name in "lsz":
        assert table.stats(name) is None
        with pytest.raises(NotSupportedError, match=f'"{name}" of "f"'):
            table.load([name])
    pq.write_table(source.slice(0, 0), tmp_path / "e.parquet")
    empty = ParquetTable(tmp_path / "e.parquet")
    assert empty.rows == 0 and rows_of(empty, "u", "a.b") == []


def test_parquet_globs(tmp_path):
    for i, seed in enumerate([2, 0, 1]):
        pq.write_table(sample(100, seed), tmp_path / f"{i}.parquet")
    table = ParquetTable(str(tmp_path / "*.parquet"))
    expected = [seed * 100 + i for seed in (2, 0, 1) for i in range(100)]
    assert [row[0] for row in rows_of(table, "key")] == expected
    both = ParquetTable([tmp_path / "1.parquet", tmp_path / "0.parquet"])
    assert rows_of(both, "key")[0] == (0,) and both.rows == 200


def test_parquet_files_must_agree(tmp_path):
    pq.write_table(pa.table({"a": [1], "b": ["x"]}), tmp_path / "1.parquet")
    pq.write_table(pa.table({"b": ["y"], "a": pa.array([2], pa.int32()), "c": [0]}), tmp_path / "2.parquet")
    assert rows_of(ParquetTable(tmp_path / "*.parquet")) == [(1, "x"), (2, "y")]
    pq.write_table(pa.table({"a": [1]}), tmp_path / "2.parquet")
    with pytest.raises(FileError, match=r'2.parquet" has no column "b".*1.parquet'):
        ParquetTable(tmp_path / "*.parquet")
    pq.write_table(pa.table({"a": ["1"], "b": ["x"]}), tmp_path / "2.parquet")
    with pytest.raises(FileError, match=r'"a" has type VARCHAR in .*2.parquet", but BIGINT in .*1.parquet'):
        ParquetTable(tmp_path / "*.parquet")
    pq.write_table(pa.table({"a": pa.array([2**63], pa.uint64()), "b": ["x"]}), tmp_path / "2.parquet")
    with pytest.raises(FileError, match="don't fit BIGINT"):
        ParquetTable(tmp_path / "*.parquet").load(["a"])


def test_parquet_errors(tmp_path):
    with pytest.raises(FileError, match=r"no file .*nope.parquet"):
        ParquetTable(tmp_path / "nope.parquet")
    with pytest.raises(FileError, match="no file matches"):
        ParquetTable(tmp_path / "*.parquet")
    with pytest.raises(FileError, match="is a directory"):
        ParquetTable(tmp_path)
    with pytest.raises(NotSupportedError, match="s3"):
        ParquetTable("s3://bucket/x.parquet")
    (tmp_path / "junk.parquet").write_bytes(b"this is no Parquet file")
    with pytest.raises(FileError, match=r"junk.parquet.*not a readable Parquet"):
        ParquetTable(tmp_path / "junk.parquet")
    pq.write_table(sample(1000), tmp_path / "cut.parquet")
    data = (tmp_path / "cut.parquet").read_bytes()
    (tmp_path / "cut.parquet").write_bytes(data[:4] + b"\xff" * 3000 + data[3004:])
    with pytest.raises(FileError, match=r"cut\.parquet"):
        ParquetTable(tmp_path / "cut.parquet").load(["key"])


def test_parquet_sees_changed_files(tmp_path):
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"a": [1]}), path)
    table = ParquetTable(str(tmp_path / "*.parquet"))
    assert rows_of(table) == [(1,)]
    version = table.version
    assert table.version == version
    pq.write_table(pa.table({"a": [1, 2], "b": [3, 4]}), path)
    os.utime(path, ns=(1, 1))
    assert table.version > version and rows_of(table) == [(1, 3), (2, 4)]
    version = table.version
    pq.write_table(pa.table({"a": [5], "b": [5]}), tmp_path / "u.parquet")
    assert table.version > version and table.rows == 3


# CSV


CSV = [
    "a,b\n1,x\n2,y\n",
    "1,x\n2,y\n",
    "x,y\nz,w\n",
    "a,b\nx,y\nz,w\nq,r\n",
    "x,1\n",
    "a|b\n1|2\n",
    "a;b\n1;2\n",
    "a\tb\n1\t2.5\n",
    "a,b\n1,\n,y\n",
    'a,b\n1,""\n2,NULL\n',
    "a,b\n1,NaN\n2,3.5\n",
    "a\n2020-01-01\n2020-02-03\n",
    "a\n2020-01-01 10:00:00\n",
    "a,b\n2020-01-01 10:00:00.25,1\n2020-01-02,2\n",
    "a\ntrue\nfalse\n",
    "f,g\nT,yes\nF,no\n",
    "a\n99999999999999999999\n",
    "a\n1.50\n2\n",
    "a\n1e5\n",
    "a,a\n1,2\n",
    "a,b\n",
    "a\n 5\n",
    "1,2\n3,4\n",
    "a,,c\n1,2,3\n",
    '"q""x",b\n"a,b",2\n',
    'a,b\n"two\nlines",2\nx,3\n',
    "a,b\n\n5,6\n",
    "f,g\n1,0123\n2,3\n",
    "f,g\n,1\n,2\n",
    "\ufeffa,b\n1,2\n",
    "a,b\r\n1,é\r\n2,ü\r\n",
    ",".join(map(str, range(11))) + "\n" + ",".join(map(str, range(11))) + "\n",
]


@pytest.mark.parametrize("text", CSV)
def test_csv_is_read_as_duckdb_does(tmp_path, text):
    if older_duckdb.OLDER and text == "a\n99999999999999999999\n":
        pytest.skip("DuckDB 1 reads it as DOUBLE")
    path = tmp_path / "t.csv"
    path.write_bytes(text.encode())
    table = CsvTable(path)
    wanted = duckdb.connect().execute(f"select * from read_csv('{path}')")
    assert [(name, str(kind)) for name, kind in table.columns] == [(d[0], str(d[1])) for d in wanted.description]
    expected = wanted.fetchall()
    got = rows_of(table)
    assert repr(got) == repr(expected)  # NaN equals NaN


@pytest.mark.parametrize(
    "text, options, names, types, rows",
    [
        ("a,b\n1,2\n3,x\n", {"types": {"b": t.VARCHAR}}, "ab", ["BIGINT", "VARCHAR"], [(1, "2"), (3, "x")]),
        ("a,b\n1,2\n3,x\n", {"nullstr": "x"}, "ab", ["BIGINT", "BIGINT"], [(1, 2), (3, None)]),
        ("a,b\n1,2\n", {"header": False}, ["column0", "column1"], ["VARCHAR"] * 2, [("a", "b"), ("1", "2")]),
        ("a,b\n1,2\n", {"all_varchar": True}, "ab", ["VARCHAR"] * 2, [("1", "2")]),
        ("# note\na:b\n1:2\n", {"delim": ":", "skip": 1}, "ab", ["BIGINT"] * 2, [(1, 2)]),
        ("a;b\n1,5;2\n", {"sep": ";", "decimal_separator": ","}, "ab", ["DOUBLE", "BIGINT"], [(1.5, 2)]),
        ("a\n1.25\n", {"types": {"a": t.decimal(9, 2)}}, "a", ["DECIMAL(9,2)"], [(Decimal("1.25"),)]),
        (
            "1,2\n",
            {"columns": {"x": t.INTEGER, "y": t.DOUBLE}, "header": False},
            "xy",
            ["INTEGER", "DOUBLE"],
            [(1, 2.0)],
        ),
        ("1,2\n", {"names": ["p", "q"]}, "pq", ["BIGINT"] * 2, [(1, 2)]),
        ("a,b\n'x,y',2\n", {"quote": "'"}, "ab", ["VARCHAR", "BIGINT"], [("x,y", 2)]),
    ],
)
def test_csv_options(tmp_path, text, options, names, types, rows):
    (tmp_path / "t.csv").write_text(text)
    table = CsvTable(tmp_path / "t.csv", **options)
    assert [name for name, _ in table.columns] == list(names)
    assert types_of(table) == types
    assert rows_of(table) == rows


def test_csv_errors(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("a,b\n" + "1,2\n" * 100_000 + "1,oops\n")
    with pytest.raises(FileError, match=r't.csv" \(column "b"\).*oops') as caught:
        CsvTable(path).load(["a"])
    assert "types" in str(caught.value)
    assert CsvTable(path, types={"b": t.VARCHAR}).rows == 100_001
    with pytest.raises(NotSupportedError, match='no option "delimeter"'):
        CsvTable(path, delimeter="|")
    with pytest.raises(FileError, match='no column "c"'):
        CsvTable(path, types={"c": t.VARCHAR})
    path.write_bytes(b"a,b\n1,\xff\xfe\n" + b"x" * 100)
    with pytest.raises(FileError, match="UTF-8"):
        CsvTable(path)
    path.write_bytes(b"PAR1\0\0")
    with pytest.raises(FileError, match="not text"):
        CsvTable(path)
    path.write_text("a,b\n" + "1,2\n" * 100_000 + "1\n")
    with pytest.raises(FileError, match=r"t\.csv"):
        CsvTable(path).load(["a"])


def test_csv_globs_and_changes(tmp_path):
    (tmp_path / "1.csv").write_text("a\n1\n")
    (tmp_path / "2.csv").write_text("a\n2\n")
    table = CsvTable(str(tmp_path / "*.csv"))
    assert rows_of(table) == [(1,), (2,)]
    version = table.version
    (tmp_path / "2.csv").write_text("a\n2\n3\n")
    assert table.version > version and table.rows == 3


def test_parquet_needs_no_pandas(tmp_path):
    """pyarrow imports it at the first conversion to numpy: tenths of a second, and tens of megabytes."""
    words = pa.array(["b", None, "a", "b"] * 30_000)
    pq.write_table(pa.table({"k": pa.array(range(120_000)), "word": words}), tmp_path / "words.parquet")
    code = (
        "import sys, finequery\n"
        "query = 'select word, min(k), count(*) from \"{}\" group by word order by word'\n"
        "finequery.sql(query.format(sys.argv[1])).fetchall()\n"
        "print('pandas' in sys.modules)"
    )
    environment = dict(os.environ, PYTHONPATH=str(Path(__file__).resolve().parent.parent))
    command = [sys.executable, "-c", code, str(tmp_path / "words.parquet")]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.stdout == "False\n", done.stderr
