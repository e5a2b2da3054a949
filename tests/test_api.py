"""What a user imports and types: connections, relations, tables by name, files, databases on disk, settings."""

from __future__ import annotations

import datetime
import gc
import json
import re
import subprocess
import sys
import threading
import time
import weakref
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from stops import stopping

import finequery
from finequery import errors
from finequery.convert import parameters, physical
from finequery.types import BOOLEAN, DATE, DOUBLE, INTERVAL, NULL, TIMESTAMP, TIMESTAMPTZ, VARCHAR, Interval, decimal

FRUIT = pa.table({"a": [1, 2, None], "b": ["x", None, "z"]})
ROWS = [(1, "x"), (2, None), (None, "z")]


# Relations


def test_relation_gives_rows_in_every_form(con: Any) -> None:
    relation = con.sql("select a, b from FRUIT order by b nulls last")
    assert relation.columns == ["a", "b"]
    assert [str(t) for t in relation.types] == ["BIGINT", "VARCHAR"]
    want = [(1, "x"), (None, "z"), (2, None)]
    assert relation.fetchall() == want
    assert relation.fetchall() == []
    assert relation.arrow().to_pydict() == {"a": [1, None, 2], "b": ["x", "z", None]}
    assert relation.record_batches().read_all().num_rows == 3
    assert pa.table(relation).num_rows == 3
    assert relation.pl().rows() == want
    assert relation.df()["b"].tolist()[:2] == ["x", "z"]
    arrays = relation.numpy()
    assert isinstance(arrays["a"], np.ma.MaskedArray)
    assert arrays["a"].tolist() == [1, None, 2]
    assert len(relation) == 3


def test_fetching_goes_on_where_it_stopped(con: Any) -> None:
    relation = con.sql("from (values (1), (2), (3), (4), (5)) t(x) order by x")
    assert relation.fetchone() == (1,)
    assert relation.fetchmany(2) == [(2,), (3,)]
    assert relation.fetchmany() == [(4,)]
    assert relation.fetchall() == [(5,)]
    assert relation.fetchone() is None
    assert list(con.sql("select 1 union all select 1")) == [(1,), (1,)]


def test_many_rows_one_by_one(con: Any) -> None:
    numbers = pa.table({"x": range(5000)})
    relation = con.sql("select x from numbers order by x")
    assert relation.fetchmany(1500) == [(i,) for i in range(1500)]
    assert [row[0] for row in relation] == list(range(1500, 5000))
    assert numbers.num_rows == 5000


def test_relation_is_bound_at_once_and_run_later(con: Any) -> None:
    con.execute("create table t (a integer)")
    with pytest.raises(errors.BindError, match="nope"):
        con.sql("select nope from t")
    relation = con.sql("select count(*) from t")
    con.execute("insert into t values (1), (2)")
    assert relation.fetchall() == [(2,)]


def test_relation_over_a_replaced_table_is_bound_anew(con: Any) -> None:
    con.execute("create table t as select 1 as a")
    relation = con.sql("select * from t")
    con.execute("create or replace table t as select 'x' as a")
    assert relation.fetchall() == [("x",)]
    assert [str(t) for t in relation.types] == ["VARCHAR"]


def test_repr_show_and_html(con: Any, capsys: pytest.CaptureFixture[str]) -> None:
    relation = con.sql("select a, b from FRUIT order by a nulls last")
    assert repr(relation).splitlines() == [
        "┌────────┬─────────┐",
        "│   a    │    b    │",
        "│ bigint │ varchar │",
        "├────────┼─────────┤",
        "│      1 │ x       │",
        "│      2 │ NULL    │",
        "│   NULL │ z       │",
        "└────────┴─────────┘",
    ]
    relation.show(max_width=80)
    assert capsys.readouterr().out == repr(relation) + "\n"
    assert "<em>NULL</em>" in relation._repr_html_()


def test_intervals_are_shown_with_their_months(con: Any) -> None:
    relation = con.sql("select interval 14 month as i union all select null union all select interval '-3' day")
    assert [line.strip("│ ") for line in repr(relation).splitlines()[4:-1]] == ["1 year 2 months", "NULL", "-3 days"]
    assert relation.fetchall() == [(datetime.timedelta(days=420),), (None,), (datetime.timedelta(days=-3),)]


def test_long_results_are_cut_in_the_middle(con: Any) -> None:
    numbers = pa.table({"x": range(1000)})
    lines = repr(con.sql("select x from numbers order by x")).splitlines()
    assert lines[-1] == "  1,000 rows (20 shown)"
    assert "│  999 │" in [line.replace("bigint", "") for line in lines][-3] or "999" in lines[-3]
    assert sum("·" in line for line in lines) == 3
    assert numbers.num_rows == 1000


def test_several_statements(con: Any) -> None:
    assert con.execute("create table t as select 1 a; insert into t values (2); from t order by a").fetchall() == [
        (1,),
        (2,),
    ]
    assert con.execute("").columns == []
    with pytest.raises(errors.ProgrammingError, match="single statement"):
        con.execute("select ?; select ?", [1])


def test_explain(con: Any) -> None:
    text = con.sql("select a from FRUIT where a > 1").explain()
    assert "FRUIT" in text.upper()
    assert con.execute("explain select a from FRUIT").fetchall()[0][1]


# Parameters


@pytest.mark.parametrize(
    ("value", "type_", "stored"),
    [
        (None, NULL, None),
        (True, BOOLEAN, True),
        (1.5, DOUBLE, 1.5),
        ("x", VARCHAR, "x"),
        (Decimal("-1.50"), decimal(3, 2), -150),
        (Decimal("0.001"), decimal(3, 3), 1),
        (Decimal("1E3"), decimal(4, 0), 1000),
        (datetime.date(1970, 1, 2), DATE, 1),
        (datetime.datetime(1969, 12, 31, 23, 59, 59), TIMESTAMP, -1_000_000),
        (datetime.datetime(1970, 1, 1, 0, 0, 1, tzinfo=datetime.timezone.utc), TIMESTAMPTZ, 1_000_000),
        (datetime.timedelta(days=1, microseconds=5), INTERVAL, Interval(0, 1, 5)),
        (np.float32(0.5), DOUBLE, 0.5),
        (np.datetime64("1970-01-02"), TIMESTAMP, 86_400_000_000),
    ],
)
def test_parameter_values(value: Any, type_: Any, stored: Any) -> None:
    assert physical(value) == (type_, stored)


def test_integer_parameters_are_as_wide_as_needed() -> None:
    assert [str(physical(v)[0]) for v in (1, 2**31, 2**63, np.int8(1))] == ["INTEGER", "BIGINT", "HUGEINT", "INTEGER"]
    with pytest.raises(errors.DataError):
        physical(2**127)


@pytest.mark.parametrize("value", [b"x", object()])
def test_unsupported_parameters_are_refused(value: Any) -> None:
    with pytest.raises(errors.NotSupportedError):
        physical(value)


def test_a_string_is_no_list_of_parameters() -> None:
    with pytest.raises(errors.ProgrammingError, match="list, a tuple or a dict"):
        parameters("abc")


def test_parameters(con: Any) -> None:
    assert con.sql("select ? + 1, ?", [1, "x"]).fetchall() == [(2, "x")]
    assert con.sql("select $2, $1", [1, "x"]).fetchall() == [("x", 1)]
    assert con.sql("select $a + $b + $a", {"a": 1, "b": 2}).fetchall() == [(4,)]
    assert con.sql("select a from FRUIT where b = ?", ["x"]).fetchall() == [(1,)]
    with pytest.raises(errors.ProgrammingError):
        con.sql("select ?, ?", [1])
    with pytest.raises(errors.ProgrammingError):
        con.sql("select ?", [1, 2])
    with pytest.raises(errors.ProgrammingError):
        con.sql("select $a", {"b": 1})


def test_prepared_statement(con: Any) -> None:
    add = con.prepare("select ? + ? as total")
    assert [add(i, 1).fetchone() for i in range(3)] == [(1,), (2,), (3,)]
    assert add(1.5, 1).fetchone() == (2.5,)
    assert con.prepare("select $x")(x="y").fetchall() == [("y",)]
    with pytest.raises(errors.InterfaceError):
        con.prepare("select 1; select 2")


# Tables by name


def frames() -> list[Any]:
    return [
        FRUIT,
        FRUIT.to_batches()[0],
        FRUIT.to_pandas(types_mapper=pd.ArrowDtype),
        pl.from_arrow(FRUIT),
        pl.from_arrow(FRUIT).lazy(),
    ]


@pytest.mark.parametrize("source", frames(), ids=lambda source: f"{type(source).__module__}.{type(source).__name__}")
def test_variables_are_tables(con: Any, source: Any) -> None:
    assert con.sql("select a, b from source").fetchall() == ROWS
    con.register("Named", source)
    assert con.sql("select a, b from NAMED").fetchall() == ROWS
    con.unregister("named")
    with pytest.raises(errors.CatalogError):
        con.sql("select * from named")


def test_numpy_arrays_are_tables(con: Any) -> None:
    arrays = {"x": np.arange(3), "y": np.ma.masked_array([1.0, 2.0, 3.0], mask=[False, True, False])}
    assert con.sql("select x, y from arrays").fetchall() == [(0, 1.0), (1, None), (2, 3.0)]
    assert len(arrays) == 2


def test_relations_are_tables(con: Any) -> None:
    first = con.sql("select a from FRUIT where a is not null")
    second = con.sql("select sum(a) as s from first")
    assert con.sql("select s from second").fetchall() == [(3,)]
    assert second.columns == ["s"]
    assert first.columns == ["a"]


def test_changed_objects_are_read_anew(con: Any) -> None:
    frame = pd.DataFrame({"x": [1, 2]})
    arrays = {"x": np.array([1, 2])}
    for _ in range(2):
        assert con.sql("select sum(x) from frame").fetchone() == (3,)
        assert con.sql("select sum(x) from arrays").fetchone() == (3,)
    frame.loc[0, "x"] = 10
    arrays["x"][0] = 10
    assert con.sql("select sum(x) from frame").fetchone() == (12,)
    assert con.sql("select sum(x) from arrays").fetchone() == (12,)


def test_a_variable_with_another_object_is_another_table(con: Any) -> None:
    for value in (1, 2, "x"):
        source = pa.table({"v": [value]})
        assert con.sql("select v from source").fetchall() == [(value,)]
    assert source.num_rows == 1


def test_tables_of_the_database_come_before_variables(con: Any) -> None:
    hidden = pa.table({"x": [1]})
    con.execute("create table hidden as select 2 as x")
    assert con.sql("select x from hidden").fetchall() == [(2,)]
    con.execute("drop table hidden")
    assert con.sql("select x from hidden").fetchall() == [(1,)]
    assert hidden.num_rows == 1


def test_arrow_tables_are_let_go(con: Any) -> None:
    def use() -> weakref.ref[pa.Table]:
        source = pa.table({"x": [1]})
        for _ in range(2):
            assert con.execute("select x from source").fetchall() == [(1,)]
        return weakref.ref(source)

    gone = use()
    gc.collect()
    assert gone() is None


def test_other_variables_are_refused(con: Any) -> None:
    number = 3
    with pytest.raises(errors.CatalogError, match="of type int"):
        con.sql("select * from number")
    assert number == 3


def test_default_connection() -> None:
    mine = pa.table({"x": [7]})
    assert finequery.sql("select x from mine").fetchall() == [(7,)]
    assert finequery.execute("select x from mine").fetchone() == (7,)
    finequery.register("other", mine)
    assert finequery.sql("select x from other").fetchall() == [(7,)]
    finequery.unregister("other")


# Files


def test_files(con: Any, tmp_path: Path) -> None:
    pq.write_table(FRUIT, tmp_path / "1.parquet")
    pq.write_table(FRUIT, tmp_path / "2.parquet")
    assert con.sql(f"select count(*) from '{tmp_path}/*.parquet'").fetchone() == (6,)
    assert con.sql(f"select count(*) from read_parquet('{tmp_path}/1.parquet')").fetchone() == (3,)
    assert con.sql(
        f"select count(*) from read_parquet(['{tmp_path}/1.parquet', '{tmp_path}/2.parquet'])"
    ).fetchone() == (6,)
    (tmp_path / "t.csv").write_text("p;q\n1;x\n2;y\n")
    assert con.sql(f"select p, q from read_csv('{tmp_path}/t.csv', delim=';') order by p").fetchall() == [
        (1, "x"),
        (2, "y"),
    ]
    con.register("named", tmp_path / "1.parquet")
    assert con.sql("select count(*) from named").fetchone() == (3,)
    with pytest.raises(errors.FileError):
        con.sql(f"from '{tmp_path}/missing.parquet'")
    with pytest.raises(errors.FileError):
        con.sql(f"from '{tmp_path}/*.pq'")


def test_a_file_that_changed_is_read_anew(con: Any, tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    for rows in (3, 5):
        pq.write_table(pa.table({"x": range(rows)}), path)
        for _ in range(2):
            assert con.sql(f"select count(*) from '{path}'").fetchone() == (rows,)


def test_copy_to(con: Any, tmp_path: Path) -> None:
    con.execute(f"copy (select a, b from FRUIT) to '{tmp_path}/t.parquet'")
    assert pq.read_table(tmp_path / "t.parquet").to_pydict() == FRUIT.to_pydict()
    con.execute(f"copy (select a, b from FRUIT) to '{tmp_path}/t.csv' (format csv, header, delimiter '|')")
    assert (tmp_path / "t.csv").read_text().splitlines()[1] in ('1|"x"', "1|x")
    with pytest.raises(errors.Error):
        con.execute(f"copy (select 1) to '{tmp_path}/u.parquet' (nonsense 3)")
    with pytest.raises(errors.FileError):
        con.execute(f"copy (select 1) to '{tmp_path}/none/u.parquet'")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["t.csv", "t.parquet"]


def test_copy_to_json(con: Any, tmp_path: Path) -> None:
    """Lines of objects that other readers take; as one array where it is asked for, and where there is no row."""
    path = tmp_path / "t.jsonl"
    query = """select i as a, 'ä"' || i as b, i / 2 as c, nullif(i, 1) as d, timestamp '2024-01-01 10:00' as t,
                      i = 1 as f
               from range(3) r(i) order by i"""
    con.execute(f"copy ({query}) to '{path}'")
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert lines[1] == {"a": 1, "b": 'ä"1', "c": 0.5, "d": None, "t": "2024-01-01 10:00:00", "f": True}
    assert [line["a"] for line in lines] == [0, 1, 2]
    for where, rows in (("true", [{"x": 0}, {"x": 1}]), ("false", [])):
        con.execute(
            f"copy (select i as x from range(2) r(i) where {where} order by x) to '{path}' (format json, array)"
        )
        assert json.loads(path.read_text()) == rows
    con.execute(f"copy (select 'nan'::double as n, 0.10::decimal(3, 2) as m) to '{tmp_path}/u.json'")
    assert json.loads((tmp_path / "u.json").read_text()) == {"n": "nan", "m": "0.10"}
    with pytest.raises(errors.BindError, match="nonsense"):
        con.execute(f"copy (select 1) to '{tmp_path}/v.json' (nonsense 3)")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["t.jsonl", "u.json"]


# Statements


def test_tables(con: Any) -> None:
    con.execute("create table t (a integer not null, b varchar)")
    assert con.execute("insert into t values (1, 'x'), (2, null)").changed == 2
    assert con.execute("insert into t (a) select 3").changed == 1
    assert con.sql("from t order by a").fetchall() == [(1, "x"), (2, None), (3, None)]
    with pytest.raises(errors.IntegrityError, match='"a"'):
        con.execute("insert into t values (null, 'y')")
    with pytest.raises(errors.IntegrityError):
        con.execute("insert into t (b) values ('y')")
    assert con.sql("select count(*) from t").fetchone() == (3,)
    assert con.execute("describe t").fetchall() == [
        ("a", "INTEGER", "NO", None, None, None),
        ("b", "VARCHAR", "YES", None, None, None),
    ]
    assert con.execute("show tables").fetchall() == [("t",)]
    with pytest.raises(errors.CatalogError, match="already"):
        con.execute("create table T (x integer)")
    con.execute("create table if not exists t (x integer)")
    con.execute("drop table t")
    with pytest.raises(errors.CatalogError):
        con.sql("from t")
    with pytest.raises(errors.CatalogError):
        con.execute("drop table t")
    con.execute("drop table if exists t")


def test_create_table_as_types(con: Any) -> None:
    con.execute("create table t as select 1 as a, 2.50 as b, null as n")
    assert [row[:2] for row in con.execute("describe t").fetchall()] == [
        ("a", "INTEGER"),
        ("b", "DECIMAL(3,2)"),
        ("n", "INTEGER"),
    ]
    con.execute("insert into t values (3, 4, 5)")
    assert con.sql("from t order by a").fetchall() == [(1, Decimal("2.50"), None), (3, Decimal("4.00"), 5)]


def test_repeated_names_of_a_relation_get_numbers(con: Any) -> None:
    twice = con.sql("select 1 as a, 2 as a")
    assert twice.columns == ["a", "a"]
    assert con.sql("select a, a_1 from twice").fetchall() == [(1, 2)]


def test_views(con: Any) -> None:
    con.execute("create table t as select 1 as a")
    con.execute("create view v as select a + 1 as b from t")
    assert con.sql("from v").fetchall() == [(2,)]
    con.execute("insert into t values (5)")
    assert con.sql("from v order by b").fetchall() == [(2,), (6,)]
    with pytest.raises(errors.CatalogError):
        con.execute("drop table v")
    con.execute("create or replace view v as select 'x' as b")
    assert con.sql("from v").fetchall() == [("x",)]
    con.execute("drop view v")


def test_many_inserts_are_one_change(con: Any) -> None:
    con.execute("create table t (a integer not null, b varchar)")
    assert con.executemany("insert into t values (?, ?)", [(i, str(i)) for i in range(20)]) == 20
    with pytest.raises(errors.IntegrityError):
        con.executemany("insert into t values (?, ?)", [(1, "x"), (None, "y")])
    assert con.sql("select count(*), min(b) from t").fetchone() == (20, "0")


def test_insert_from_itself(con: Any) -> None:
    con.execute("create table t as select 1 as a")
    for _ in range(3):
        con.execute("insert into t select a + 1 from t")
    assert con.sql("select count(*), max(a) from t").fetchone() == (8, 4)


# Databases on disk


def test_database_on_disk(tmp_path: Path) -> None:
    path = str(tmp_path / "shop.fq")
    with finequery.connect(path) as con:
        con.execute("create table t (a integer not null, b varchar, c decimal(10, 2), d interval, e hugeint)")
        con.execute("insert into t values (1, 'x', 1.5, interval 3 month, 170141183460469231731687303715884105727)")
        con.execute("insert into t values (2, null, null, null, null)")
        con.execute("create view v as select a from t where a > 1")
        want = con.sql("from t order by a").fetchall()
    for _ in range(2):
        with finequery.connect(path) as con:
            assert con.sql("from t order by a").fetchall() == want
            assert con.sql("from v").fetchall() == [(2,)]
            with pytest.raises(errors.IntegrityError):
                con.execute("insert into t (b) values ('y')")
    with finequery.connect(path) as con:
        con.execute("insert into t (a) values (3)")
        con.execute("drop view v")
    with finequery.connect(path) as con:
        assert con.sql("select count(*) from t").fetchone() == (3,)
        assert con.execute("show tables").fetchall() == [("t",)]
        con.execute("drop table t")
    assert sorted(p.name for p in (tmp_path / "shop.fq").iterdir()) == ["catalog.json", "lock"]


def test_a_database_is_open_once(tmp_path: Path) -> None:
    path = str(tmp_path / "d.fq")
    con = finequery.connect(path)
    with pytest.raises(errors.OperationalError, match="open in another"):
        finequery.connect(path)
    handle = con.cursor()
    con.close()
    assert handle.sql("select 1").fetchall() == [(1,)]
    handle.close()
    finequery.connect(path).close()


def test_what_is_no_database(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(errors.FileError):
        finequery.connect(str(tmp_path / "file"))
    with pytest.raises(errors.FileError):
        finequery.connect(str(tmp_path))
    (tmp_path / "bad.fq").mkdir()
    (tmp_path / "bad.fq" / "catalog.json").write_text("{")
    with pytest.raises(errors.FileError, match="damaged"):
        finequery.connect(str(tmp_path / "bad.fq"))


def test_a_failed_write_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from finequery.storage import Storage

    with finequery.connect(str(tmp_path / "d.fq")) as con:
        con.execute("create table t as select 1 as a")
        with monkeypatch.context() as patch:
            patch.setattr(Storage, "write", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
            with pytest.raises((errors.Error, OSError)):
                con.execute("insert into t values (2)")
        assert con.sql("from t").fetchall() == [(1,)]
        con.execute("insert into t values (3)")
    with finequery.connect(str(tmp_path / "d.fq")) as con:
        assert con.sql("from t order by a").fetchall() == [(1,), (3,)]


# Settings


def test_settings() -> None:
    with finequery.connect(threads=3, memory_limit="512MiB", strict=True) as con:
        assert con.settings["threads"] == 3
        assert con.settings["memory_limit"] == 512 * 2**20
        assert con.execute("show threads").fetchall() == [(3,)]
        con.execute("set threads = 2")
        con.execute("set memory_limit = '1GB'")
        assert (con.settings["threads"], con.settings["memory_limit"]) == (2, 10**9)
        con.execute("reset threads")
        assert con.settings["threads"] >= 1
        assert "strict" in [row[0] for row in con.execute("show settings").fetchall()]
        with pytest.raises(errors.CatalogError, match="treads"):
            con.execute("set treads = 1")
        with pytest.raises(errors.DataError, match="threads must be"):
            con.execute("set threads = 0")
    with pytest.raises(errors.CatalogError, match="threads"):
        finequery.connect(thread=1)
    with pytest.raises(errors.DataError):
        finequery.connect(memory_limit="lots")


# The plan cache


def test_plans_are_kept(con: Any) -> None:
    con.execute("create table t as select 1 as a")
    plans = con._session.plans
    for expected in (0, 1, 2):
        assert con.sql("select a from t").fetchall() == [(1,)]
        assert plans.hits == expected
    con.execute("insert into t values (2)")
    assert con.sql("select a from t order by 1").fetchall() == [(1,), (2,)]
    con.execute("create or replace table t as select 'x' as a")
    assert con.sql("select a from t").fetchall() == [("x",)]


def test_plans_depend_on_parameter_types(con: Any) -> None:
    assert [con.sql("select ? as x", [v]).fetchone() for v in (1, "a", 1.5, None, 2)] == [
        (1,),
        ("a",),
        (1.5,),
        (None,),
        (2,),
    ]
    assert [str(con.sql("select ? as x", [v]).types[0]) for v in (1, "a", 2**40)] == ["INTEGER", "VARCHAR", "BIGINT"]


def test_plan_cache_can_be_turned_off() -> None:
    with finequery.connect(plan_cache_size=0) as con:
        for _ in range(2):
            assert con.sql("select 1").fetchall() == [(1,)]
        assert con._session.plans.hits == 0


def test_a_cached_query_costs_little_besides_its_execution(con: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """By calls, of which a microsecond takes some: no parser, binder or optimizer is among them."""
    from finequery.operators import executor

    con.execute("create table t as select 42 as a")
    query = "select a from t where a = 42"
    frame = con.execute(query)._frame
    monkeypatch.setattr(executor, "execute", lambda *_: frame)

    calls: list[str] = []

    def note(frame: Any, event: str, _: Any) -> None:
        if event == "call":
            calls.append(frame.f_code.co_qualname if hasattr(frame.f_code, "co_qualname") else frame.f_code.co_name)

    assert con.execute(query).fetchall() == [(42,)]
    sys.setprofile(note)
    try:
        con.execute(query).fetchall()
    finally:
        sys.setprofile(None)
    assert 0 < len(calls) < 150, calls


# Connections and threads


def test_closed_connection_refuses(con: Any) -> None:
    relation = con.sql("select 1")
    con.close()
    con.close()
    for use in (lambda: con.sql("select 1"), relation.fetchall, con.cursor):
        with pytest.raises(errors.InterfaceError, match="closed"):
            use()


def test_a_result_holds_its_connection() -> None:
    assert finequery.connect().sql("select 6 * 7").fetchall() == [(42,)]
    assert finequery.connect().prepare("select ? + 1")(1).fetchall() == [(2,)]


def test_cursors_share_the_database(con: Any) -> None:
    con.execute("create table t as select 1 as a")
    other = con.cursor()
    other.execute("insert into t values (2)")
    assert con.sql("select count(*) from t").fetchone() == (2,)


def test_threads_with_cursors(con: Any) -> None:
    con.execute("create table t (a integer)")
    failures: list[BaseException] = []

    def work() -> None:
        try:
            handle = con.cursor()
            for _ in range(5):
                assert handle.sql("select 1 + 1").fetchone() == (2,)
                assert con.sql("select 2 + 2").fetchone() == (4,)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def test_interrupt_leaves_the_session_usable(con: Any) -> None:
    con.execute("create table n as from (values (0),(1),(2),(3),(4),(5),(6),(7),(8),(9)) t(x)")
    long = "select sum(a.x * b.x + c.x) from " + ", ".join(f"n as {name}" for name in "abcdefghi")
    start = time.perf_counter()
    with stopping(con.interrupt, 0.3), pytest.raises(errors.InterruptError):
        con.execute(long)
    assert time.perf_counter() - start < 5
    assert con.sql("select 1").fetchall() == [(1,)]


# Errors


def test_errors_show_the_place(con: Any) -> None:
    with pytest.raises(errors.CatalogError) as caught:
        con.sql("select *\nfrom nonesuch")
    assert "LINE 2: from nonesuch\n             ^" in str(caught.value)
    with pytest.raises(errors.ParseError):
        con.sql("selec 1")


# Import and documentation


def test_the_example_of_the_readme() -> None:
    text = (Path(__file__).parent.parent / "README.md").read_text()
    code, output = re.search(r"```python\n(.*?)```\n\n```\n(.*?)```", text, re.DOTALL).groups()  # type: ignore[union-attr]
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parent.parent
    )
    assert (result.stdout, result.stderr) == (output, "")


def test_import_is_quick_and_light() -> None:
    code = (
        "import sys, time; start = time.perf_counter(); import finequery; seconds = time.perf_counter() - start;"
        "heavy = {'pyarrow', 'pandas', 'polars', 'numpy', 'sqlglot', 'numba'} & set(sys.modules);"
        "print(seconds, *heavy)"
    )
    results = [
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True) for _ in range(3)
    ]
    words = [result.stdout.split() for result in results]
    assert words[0][1:] == []
    assert min(float(word[0]) for word in words) < 3  # hundredths; what is heavy is named above


def test_all_names_exist() -> None:
    for name in finequery.__all__:
        assert getattr(finequery, name) is not None
    assert set(finequery.__all__) <= set(dir(finequery))
    with pytest.raises(AttributeError):
        _ = finequery.nonesuch  # type: ignore[attr-defined]


def test_tables_of_files_have_their_names(con: Any, tmp_path: Path) -> None:
    for name in ("limits", "more"):
        (tmp_path / f"{name}.csv").write_text("a\n1\n")
        con.execute(f"copy (select 1 as a) to '{tmp_path}/{name}.parquet'")
    for pattern in ("limits.csv", "*.csv", "limits.parquet", "*.parquet"):
        text = con.sql(f"select sum(a) from '{tmp_path}/{pattern}'").explain()
        assert re.search(r"scan +limits ", text), text
