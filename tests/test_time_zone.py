"""TIMESTAMP WITH TIME ZONE: every way in, functions, every way out. The oracle is DuckDB with its time zone at UTC."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

import numpy as np
import older_duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from compare import type_names
from conftest import leave
from pyarrow import parquet

import finequery
from finequery import errors
from finequery.operators.column import Stats
from finequery.operators.export import column_to_arrow
from finequery.operators.parquet_decode import decode
from finequery.operators.parquet_table import ParquetTable
from finequery.shell import formats
from finequery.types import BIGINT, TIMESTAMPTZ

UTC = datetime.timezone.utc
ROWS, GROUP = 20_000, 2_000
NAME = "TIMESTAMP WITH TIME ZONE"
MORNING = datetime.datetime(2024, 1, 1, 8, tzinfo=UTC)


def events() -> pa.Table:
    """``z``: sorted, from 1874 to 2027, with NULLs, shown in Berlin; ``u``: whole minutes in UTC, ``p``: whole
    milliseconds without a zone and ``d``: days, all of the same moments; ``k``: some numbers, ``n``: the row."""
    rng = np.random.default_rng(7)
    micros = np.sort(rng.integers(-3_000_000_000, 1_800_000_000, ROWS)) * 1_000_000 + rng.integers(0, 1_000_000, ROWS)
    columns = {
        "n": pa.array(np.arange(ROWS)),
        "k": pa.array(rng.integers(0, 50, ROWS), pa.int32()),
        "z": pa.array(micros, mask=rng.random(ROWS) < 0.05).cast(pa.timestamp("us", "Europe/Berlin")),
        "u": pa.array(micros // 60_000_000 * 60_000_000).cast(pa.timestamp("us", "UTC")),
        "p": pa.array(micros // 1000 * 1000).cast(pa.timestamp("us")),
        "d": pa.array((micros // 86_400_000_000).astype(np.int32)).cast(pa.date32()),
    }
    return pa.table(columns)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The events as Parquet in ten row groups: coded and compressed with Arrow's schema, and plain without it, as other
    programs write them."""
    folder = tmp_path_factory.mktemp("events")
    table = events()
    parquet.write_table(table, folder / "coded.parquet", row_group_size=GROUP)
    parquet.write_table(
        table,
        folder / "plain.parquet",
        row_group_size=GROUP,
        use_dictionary=False,
        compression="none",
        store_schema=False,
    )
    return folder


@pytest.fixture(params=["parquet", "plain", "table", "arrow"])
def both(request: pytest.FixtureRequest, con: Any, duck: Any, files: Path) -> tuple[Any, Any]:
    """Both engines with the events as ``e``, and as ``f`` in another order."""
    for engine in (con, duck):
        if request.param == "arrow":
            engine.register("e", events())
        else:
            kind = "table" if request.param == "table" else "view"
            file = "plain" if request.param == "plain" else "coded"
            engine.execute(f"create {kind} e as select * from '{files / file}.parquet'")
        engine.execute(f"create table f as select * from '{files}/plain.parquet' order by k, n")
    return con, duck


def rows(table: pa.Table) -> list[tuple[Any, ...]]:
    return list(zip(*(column.to_pylist() for column in table.columns)))


def assert_same(con: Any, duck: Any, sql: str) -> None:
    """The same types and rows, by way of Arrow: DuckDB makes Python's values of this type with pytz alone."""
    want, got = duck.sql(sql), con.sql(sql)
    assert type_names(got.types) == type_names(want.types), sql
    assert rows(got.arrow()) == rows(want.to_arrow_table()), sql


def value(con: Any, expression: str) -> Any:
    (row,) = con.sql(f"select {expression}").fetchall()
    return row[0]


# --- queries ---------------------------------------------------------------------------------------------------------

QUERIES = [
    "select typeof(z), typeof(u), typeof(p), z, u from e order by n limit 50",
    "select count(*), count(z), min(z), max(z), min(u), max(u), count(distinct z), count(distinct u) from e",
    # comparisons with constants of all types, in either role
    "select count(*) from e where z >= timestamptz '2020-01-01 00:00:00+02'",
    "select count(*) from e where z between '2019-12-31 22:00:00Z' and '2021-01-01 00:00:00+05:30'",
    "select count(*) from e where z < timestamp '1960-01-01' or z >= date '2020-01-01'",
    "select count(*) from e where p >= timestamptz '2020-01-01 00:00:00+02' and d < timestamptz '2026-01-01'",
    "select count(*) from e where p in (timestamptz '2020-01-01', timestamp '2021-01-01')",
    "select n from e where u = (select max(u) from e where z < '2000-01-01 01:00:00+01') order by n",
    "select z is not distinct from p, z <> p, z < u, p <= z, z = d from e order by n limit 100",
    "select n from e where (u, p) > (timestamptz '2020-01-01', timestamp '2020-01-01') order by n limit 10",
    "select count(*) from e where z::date = '1950-05-05' or date_trunc('day', z) = '1951-05-05'",
    "select count(*) from e where cast(z as timestamp) >= '2020-05-05' and cast(p as timestamptz) < '2021-01-01'",
    # groups, orders, windows
    "select k, min(z), max(z), count(z) from e group by k order by k",
    "select u, count(*) from e group by u order by 2 desc, 1 desc limit 5",
    "select date_trunc('month', z) as month, count(*) from e group by month order by month nulls first",
    "select time_bucket(interval '15 minutes', z) as b, max(n) from e group by b order by b limit 50",
    "select time_bucket(interval '3 months', z) as b, typeof(b), count(*) from e group by all order by b limit 50",
    "select time_bucket(interval '7 days', z, timestamptz '2000-01-01 12:00:00+02') b, count(*) from e group by b "
    "order by b",
    "select z, n from e order by z desc nulls last, n limit 20",
    "select k, median(z), quantile_cont(z, 0.25), quantile_disc(u, 0.75), arg_max(n, z), arg_min(z, n) from e "
    "group by k order by k",
    "select n, lag(z) over w, u - lag(u) over w, first_value(z) over w, rank() over (order by u) from e "
    "window w as (partition by k order by n) order by n limit 200",
    "select n, count(*) over (order by z range between interval '1 month' preceding and current row) from e "
    "where z is not null order by n limit 200",
    # joins of both kinds of timestamps
    "select count(*), min(e.z), max(f.u) from e join f on e.z = f.z",
    "select e.n, f.n from e join f on e.p = f.z order by 1, 2",
    "select count(*) from e where z in (select p from f) or d in (select u from f)",
    "select e.n, y.n from e asof join (select z, n from f where k = 1 and z is not null) y on e.p >= y.z "
    "order by 1 limit 9",
    "select z from e where k = 1 union select p from e where k = 2 order by 1 limit 20",
    "select z from e where k = 1 except select u from e order by 1 limit 20",
    # what gives the type back, and what does not
    "select coalesce(z, p), greatest(z, d), least(u, p), nullif(u, p), case when k = 1 then d else z end, "
    "if(k = 1, p, z) from e order by n limit 100",
    "select z + interval '1 month 2 days 3 hours', z - interval '1 year', interval '1 day' + u, "
    "date_add(u, interval '1 hour') from e order by n limit 50",
    "select z - u, z - p, p - z, z - d, u - date '2000-01-01', age(u, p), age(d, u) from e order by n limit 50",
    "select date_trunc('week', z), date_trunc('hour', u) + interval '5 minutes', date_trunc('decade', z) from e "
    "order by n limit 50",
    "select year(z), month(z), day(z), hour(z), minute(z), second(z), dayofweek(z), week(z), extract(isodow from z), "
    "date_part('doy', z), dayname(z), monthname(z), last_day(z), yearweek(z), extract(century from u) from e "
    "order by n limit 100",
    "select epoch(u), epoch_us(z), epoch_ns(u) from e order by n limit 100",
    "select date_diff('hour', z, u), date_sub('month', u, z), date_diff('day', z, d), date_diff('month', p, z) from e "
    "order by n limit 50",
    "select strftime(z, '%Y-%m-%d %H:%M:%S.%f %z %Z%%Z'), strftime(p, '%H %Z') from e order by n limit 50",
    "select z::date, z::timestamp, z::varchar, p::timestamptz, d::timestamptz, z || 'x', concat(u, '-', p) from e "
    "order by n limit 50",
    "select u at time zone 'UTC', p at time zone 'utc', timezone('UTC', z), timezone('Etc/UTC', p) from e "
    "order by n limit 9",
    "select to_timestamp(n + 0.5), make_timestamptz(2020, 1, 2, 3, 4, k), make_timestamptz(n * 1000000), epoch_ms(n) "
    "from e order by n limit 9",
    "select string_agg(u, ',' order by n) from e where n < 5",
    # text
    "select ('2024-01-01 10:00:00+0' || k % 10)::timestamptz as x, count(*) from e group by x order by x",
    "select try_cast('2024-01-0' || k % 10 || ' 10:00:00-08:30' as timestamptz) as x, count(*) from e group by x "
    "order by x",
    "select strptime('2024-01-01 1' || k % 10 || ':00 +0230', '%Y-%m-%d %H:%M %z') as x, count(*) "
    "from e group by x order by x",
    "select try_strptime('1' || k % 10 || ':00-03:30:15', '%H:%M%z'), try_strptime('10:00', '%H:%M%z') from e "
    "order by n limit 20",
    "select * from generate_series(timestamptz '2024-01-01 00:00:00+02', timestamptz '2024-01-02', interval '5 hours')",
    "select * from range(timestamptz '2024-01-01 00:00:00+02', timestamptz '2024-06-02', interval '1 month')",
]


@pytest.mark.parametrize("sql", QUERIES)
@pytest.mark.parametrize("both", ["table"], indirect=True)
def test_queries(both: tuple[Any, Any], sql: str) -> None:
    assert_same(*both, sql)


@pytest.mark.parametrize("both", ["parquet", "plain", "arrow"], indirect=True)
def test_sources(both: tuple[Any, Any]) -> None:
    for sql in QUERIES[:14]:
        assert_same(*both, sql)


TEXTS = [
    "2024-01-01 10:00:00+02", "2024-01-01 10:00:00.5+02:30", "2024-01-01T10:00:00.123456789-0230", "2024-01-01 10:00Z",
    "2024-01-01 10:00:00", "2024-01-01", " 2024-01-01 10:00:00+02 ", "2024-01-01 10:00:00 UTC",
    "2024-01-01 10:00:00 gmt", "2024-01-01 10:00:00-02:30:15", "2024-01-01 24:00:00+00", "2024-01-01 (BC) 10:00:00+01",
    "epoch", "1969-12-31 23:00-01", "294247-01-10 04:00:54.775806+00", "0001-01-01 00:00:00+00",
    "2024-01-01 10:00:00+99", "2024-02-30 10:00:00+00", "2024-01-01 10:00:00 +02", "2024-01-01 10:00:00+2",
    "2024-01-01+02", "2024-01-01 10:00:00 Z", "2024-01-01 10:00:00z", "2024-01-01 10:00:00+02x",
    "294247-01-10 04:00:54.775807+00", "x", "",
]  # fmt: skip


@pytest.mark.parametrize("text", [text for text in TEXTS if not older_duckdb.reads(text, TIMESTAMPTZ)])
def test_texts(con: Any, duck: Any, text: str) -> None:
    """A constant, a parameter and a column of text are read alike; what is none is NULL or an error."""
    want = duck.sql(f"select try_cast('{text}' as timestamptz)::varchar").fetchall()
    assert con.sql(f"select try_cast('{text}' as timestamptz)::varchar").fetchall() == want
    assert con.sql("select try_cast(? as timestamptz)::varchar", [text]).fetchall() == want
    con.execute("create table t as select ? as text", [text])
    assert con.sql("select try_cast(text as timestamptz)::varchar from t").fetchall() == want
    if want == [(None,)]:
        with pytest.raises(errors.ConversionError, match=NAME):
            con.sql("select text::timestamptz from t").fetchall()


def test_a_cast_binds_looser_than_a_typed_constant(con: Any) -> None:
    for word in ("timestamptz", "timestamp with time zone"):
        assert value(con, f"{word} '2024-01-01 23:00:00-05'::date") == datetime.date(2024, 1, 2)
    con.execute("create table t as select date '2024-01-01' as date")
    assert con.sql("select typeof(date at time zone 'UTC'::varchar) from t").fetchall() == [(NAME,)]


def test_texts_of_one_shape_share_a_plan(con: Any) -> None:
    con.execute("create table t as select timestamptz '2024-01-01 10:00:00+02' as z")
    for text, count in (("2024-01-01 08:00:00Z", 1), ("2024-01-01 10:00:00+02", 1), ("2024-01-01 10:00:00", 0)):
        assert con.sql(f"select count(*) from t where z = '{text}'").fetchall() == [(count,)]
    for form, kind in (("%Y", "TIMESTAMP"), ("%Y%z", NAME)):
        assert [str(t) for t in con.sql(f"select try_strptime('2024', '{form}')").types] == [kind]


@pytest.mark.skipif(older_duckdb.OLDER, reason="DuckDB 1 cuts milliseconds off")
@pytest.mark.parametrize("both", ["table"], indirect=True)
def test_milliseconds_are_rounded(both: tuple[Any, Any]) -> None:
    assert_same(*both, "select epoch_ms(z), epoch_ms(p) from e order by n limit 100")


def test_now_is_in_utc(con: Any) -> None:
    """Once for all of a statement, and anew for the next."""
    before = datetime.datetime.now(UTC)
    now, local, today, again = con.sql("select now(), localtimestamp, current_date, current_timestamp").fetchall()[0]
    assert before <= now <= datetime.datetime.now(UTC)
    assert now == again and local == now.replace(tzinfo=None) and today == now.date()
    assert value(con, "now()") > now


# --- ways in ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("file", ["coded", "plain"])
def test_parquet_is_decoded_in_place_and_pruned(con: Any, duck: Any, files: Path, file: str) -> None:
    """The kernels read its pages, and a query that streams leaves out row groups by their statistics."""
    source = ParquetTable(files / f"{file}.parquet").files
    ranges = source.ranges("z")
    assert ranges is not None and len(ranges) == ROWS // GROUP
    early = Stats(low=min(r.low for r in ranges), high=max(r.high for r in ranges), nulls=sum(r.nulls for r in ranges))
    decoded = decode(source.paths, source.metadata, [("z", TIMESTAMPTZ, early)], source.groups)
    assert column_to_arrow(decoded["z"]).equals(events()["z"].combine_chunks().cast(pa.timestamp("us", "UTC")))
    sql = f"select k, max(z) from '{files}/{file}.parquet' where z >= '2020-01-01 00:00:00+05' group by k order by k"
    leave(con, 100_000)
    text = " ".join(con.sql("explain " + sql).fetchall()[0][1].replace("│", " ").split())
    assert "9 of 10 row groups left out" in text and "timestamptz '2019-12-31 19:00:00+00'" in text
    assert_same(con, duck, sql)


def test_files_of_different_zones_are_one_table(con: Any, duck: Any, tmp_path: Path) -> None:
    for number, zone in enumerate(("UTC", "Europe/Berlin", "+05:30")):
        table = pa.table({"z": pa.array([number * 1_000_000, None], pa.timestamp("us", zone))})
        parquet.write_table(table, tmp_path / f"{number}.parquet")
    assert_same(con, duck, f"select z, count(*) from '{tmp_path}/*.parquet' group by z order by z")


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_units(con: Any, unit: str, tmp_path: Path) -> None:
    """Those of other units are microseconds, as without a zone."""
    numbers = pa.array([1_500, None, -1_500], pa.int64())
    zoned, plain = (numbers.cast(pa.timestamp(unit, zone)) for zone in ("Asia/Kolkata", None))
    con.register("t", pa.table({"z": zoned, "p": plain}))
    parquet.write_table(pa.table({"z": zoned, "p": plain}), tmp_path / "t.parquet")
    for source in ("t", f"'{tmp_path}/t.parquet'"):
        found = con.sql(f"select typeof(z), z = p, z::timestamp is not distinct from p from {source}").fetchall()
        assert found == [(NAME, True, True), (NAME, None, True), (NAME, True, True)]


def test_encoded_arrow_columns(con: Any) -> None:
    values = pa.array([5, 5, None, 7], pa.timestamp("us", "UTC"))
    table = pa.table({"coded": values.dictionary_encode(), "chunked": pa.chunked_array([values[:1], values[1:]])})
    con.register("t", table)
    assert con.sql("select coded, chunked from t").arrow().to_pydict() == {
        "coded": values.to_pylist(),
        "chunked": values.to_pylist(),
    }


def test_frames(con: Any) -> None:
    times = ["2024-01-01 10:00", "2024-07-01 10:00", None]
    pandas_frame = pd.DataFrame({"z": pd.to_datetime(times).tz_localize("Europe/Berlin")})
    objects = pd.DataFrame({"z": pd.Series([MORNING, None], dtype=object)})
    polars_frame = pl.DataFrame({"z": [MORNING, None]}).with_columns(pl.col("z").dt.convert_time_zone("Asia/Tokyo"))
    summer = datetime.datetime(2024, 7, 1, 8, tzinfo=UTC)
    for frame, expected in (
        (pandas_frame, [MORNING + datetime.timedelta(hours=1), summer, None]),
        (objects, [MORNING, None]),
        (polars_frame, [MORNING, None]),
    ):
        con.register("frame", frame)
        relation = con.sql("select z from frame")
        assert [str(t) for t in relation.types] == [NAME]
        assert [row[0] for row in relation.fetchall()] == expected


def test_parameters(con: Any) -> None:
    zone = datetime.timezone(datetime.timedelta(hours=2))
    moment = datetime.datetime(2024, 1, 1, 10, tzinfo=zone)
    for given in (moment, pd.Timestamp(moment)):
        assert con.sql("select $1, typeof($1), $1 = timestamp '2024-01-01 08:00'", [given]).fetchall() == [
            (MORNING, NAME, True)
        ]


CSV = [
    ("2024-01-01 08:00:00+00\n2024-01-02 08:00:00+02\n", NAME),
    ("2024-01-01T08:00:00Z\n2024-01-01 08:00+02\n", NAME),
    ('"2024-01-01T08:00:00.123456789Z"\n1950-01-01 00:00:00-0730\n', NAME),
    ("2024-01-01 08:00:00\n", "TIMESTAMP"),
    ("2024-01-01 08:00:00 +02\n", "VARCHAR"),
]


@pytest.mark.parametrize("text, kind", [case for case in CSV if not older_duckdb.reads(case[0], TIMESTAMPTZ)])
def test_csv(con: Any, duck: Any, tmp_path: Path, text: str, kind: str) -> None:
    path = tmp_path / "t.csv"
    path.write_text("z,i\n" + text.replace("\n", ",1\n") + (",2\n" if kind != "VARCHAR" else ""))
    assert_same(con, duck, f"select z, i from '{path}' order by z")
    assert [str(t) for t in con.sql(f"select z from '{path}'").types] == [kind]


def test_csv_with_and_without_zones_is_text(con: Any, tmp_path: Path) -> None:
    """DuckDB takes those without a zone to be in UTC. Here they stay text, which can be cast to the same."""
    path = tmp_path / "t.csv"
    path.write_text("z\n2024-01-01 08:00:00+02\n2024-01-02 00:00:00\n")
    assert con.sql(f"select typeof(z), z::timestamptz::varchar from '{path}'").fetchall() == [
        ("VARCHAR", "2024-01-01 06:00:00+00"),
        ("VARCHAR", "2024-01-02 00:00:00+00"),
    ]


# --- ways out --------------------------------------------------------------------------------------------------------


def test_results(con: Any) -> None:
    relation = con.sql(
        "select * from (values (timestamptz '2024-01-01 10:00:00.5+02', 1), (null, 2)) t(z, i) order by i"
    )
    half = MORNING + datetime.timedelta(seconds=0.5)
    fetched = relation.fetchall()
    assert fetched == [(half, 1), (None, 2)] and fetched[0][0].tzinfo is UTC
    arrow = relation.arrow()
    assert arrow.schema.field("z").type == pa.timestamp("us", "UTC") and arrow.column("z").to_pylist() == [half, None]
    frame = relation.df()
    assert isinstance(frame.z.dtype, pd.DatetimeTZDtype) and str(frame.z.dtype.tz) == "UTC"
    assert frame.z[0] == half and pd.isna(frame.z[1])
    assert relation.pl().schema["z"] == pl.Datetime("us", "UTC") and relation.pl()["z"].to_list() == [half, None]
    assert relation.numpy()["z"][0] == np.datetime64("2024-01-01T08:00:00.500000")
    assert "│ 2024-01-01 08:00:00.500000+00 │" in relation.box() and NAME.lower() in relation.box()
    assert relation.description is not None and str(relation.description[0][1]) == NAME


def test_times_that_python_lacks_are_text(con: Any) -> None:
    assert value(con, "make_timestamptz(253402300800000000)") == "10000-01-01 00:00:00.000000+00"


def test_dbapi() -> None:
    from finequery import dbapi

    with dbapi.connect() as connection:
        cursor = connection.cursor()
        cursor.execute("select ?", [MORNING])
        assert cursor.description is not None and cursor.description[0][1] == dbapi.DATETIME
        assert cursor.fetchall() == [(MORNING,)]


@pytest.mark.parametrize("form", formats.FORMATS)
def test_output_of_the_shell(form: str) -> None:
    lines = formats.FORMATS[form](["z", "i"], [TIMESTAMPTZ, BIGINT], iter([[(MORNING, 1)]]))
    assert "2024-01-01 08:00:00+00" in "\n".join(lines)


@pytest.mark.parametrize("format", ["parquet", "csv", "json"])
def test_copy(con: Any, duck: Any, tmp_path: Path, format: str) -> None:
    """What is written is read back, by DuckDB too."""
    path = tmp_path / f"t.{format}"
    con.register("e", events())
    con.execute(f"copy (select n, z, u, p from e where n < 500 order by n) to '{path}'")
    expected = con.sql("select n, epoch_us(z), epoch_us(u) from e where n < 500 order by n").fetchall()
    sql = f"select n, epoch_us(z), epoch_us(u) from '{path}' order by n"
    if not (older_duckdb.OLDER and format == "json"):  # whose times are text to DuckDB 1
        assert duck.sql(sql).fetchall() == expected
        assert [str(t) for t in duck.sql(f"select z, u from '{path}'").types] == [NAME, NAME]
    if format != "json":  # which FineQuery only writes
        assert con.sql(sql).fetchall() == expected
        assert [str(t) for t in con.sql(f"select z, u from '{path}'").types] == [NAME, NAME]


def test_databases_keep_the_type(tmp_path: Path) -> None:
    path = str(tmp_path / "db")
    with finequery.connect(path) as con:
        con.execute("create table t (z timestamptz, w timestamp with time zone not null)")
        con.execute("insert into t values ('2024-01-01 10:00:00+02', timestamp '2020-01-01'), (null, now())")
        con.execute("create table u as select z, date_trunc('day', z) as day from t")
    with finequery.connect(path) as con:
        described = [row[:3] for row in con.sql("describe t").fetchall()]
        assert described == [("z", NAME, "YES"), ("w", NAME, "NO")]
        assert con.sql("select z, w <= now() from t").fetchall() == [(MORNING, True), (None, True)]
        assert con.sql("from u").fetchall() == [(MORNING, MORNING.replace(hour=0)), (None, None)]
        con.execute("update t set z = z + interval '1 day' where z is not null")
        con.execute("delete from t where z is null")
        assert con.sql("select z from t").fetchall() == [(MORNING + datetime.timedelta(days=1),)]


def test_gpu(con: Any, duck: Any) -> None:
    """The same pipelines as for TIMESTAMP, all of them on the simulated GPU."""
    for engine in (con, duck):
        engine.register("e", events().slice(ROWS - 3000))
        engine.execute("create table g as select * from e")
    con.execute("set device = 'gpu'")
    con.execute("set strict = true")
    for sql in (
        "select k, min(z), max(u) from g where z >= '2000-02-01 00:00:00+01' group by k order by k",
        "select date_trunc('day', z) as day, count(*) from g group by day order by day limit 20",
        "select count(*) from g join (select u from g where k = 1) h on g.p = h.u",
        "select z + interval '1 month', year(z), hour(z) from g where z < '2003-01-01' order by z limit 20",
    ):
        assert_same(con, duck, sql)


# --- what is refused -------------------------------------------------------------------------------------------------


def test_settings(con: Any) -> None:
    con.execute("set TimeZone = 'utc'")
    assert con.sql("show timezone").fetchall() == [("UTC",)]
    with pytest.raises(errors.DataError, match="must be UTC"):
        con.execute("set TimeZone = 'Europe/Berlin'")


@pytest.mark.parametrize(
    "expression, error",
    [
        ("z at time zone 'Europe/Berlin'", "time zone Europe/Berlin is not supported"),
        ("timezone('Asia/Tokyo', p)", "time zone Asia/Tokyo is not supported"),
        ("'2024-01-01 10:00:00 Europe/Berlin'::timestamptz", "time zone Europe/Berlin of .* is not supported"),
        ("try_cast('2024-01-01 10:00:00 Etc/GMT+5' as timestamptz)", "time zone Etc/GMT.5 of .* is not supported"),
        ("strptime('2024 CET', '%Y %Z')", "can't read %Z"),
        ("strptime('2024 +01', f)", "can't read %z"),
        ("try_strptime('2024 +01', f)", "can't read %z"),
        ("z::bigint", "TIMESTAMP WITH TIME ZONE can't be cast to BIGINT"),
        ("z + 1", "no TIMESTAMP WITH TIME ZONE . INTEGER"),
        ("z + p", "no TIMESTAMP WITH TIME ZONE . TIMESTAMP"),
        ("sum(z)", r"sum\(TIMESTAMP WITH TIME ZONE\) does not exist"),
        ("z = 5", "TIMESTAMP WITH TIME ZONE and INTEGER don't go together"),
        ("z::time", "type TIME is not supported"),
    ],
)
def test_refusals(con: Any, expression: str, error: str) -> None:
    con.execute("create table t as select now() as z, localtimestamp as p, '%Y %z' as f")
    with pytest.raises(errors.Error, match=error):
        con.sql(f"select {expression} from t").fetchall()
