"""PEP 249."""

from __future__ import annotations

import datetime
from collections.abc import Iterator

import pytest

from finequery import dbapi


@pytest.fixture
def connection() -> Iterator[dbapi.Connection]:
    with dbapi.connect(threads=2) as opened:
        yield opened


def test_module() -> None:
    assert (dbapi.apilevel, dbapi.threadsafety, dbapi.paramstyle) == ("2.0", 1, "qmark")
    assert issubclass(dbapi.ProgrammingError, dbapi.DatabaseError)
    assert issubclass(dbapi.DatabaseError, dbapi.Error)
    assert issubclass(dbapi.Error, Exception) and issubclass(dbapi.Warning, Exception)
    for name in dbapi.__all__:
        assert hasattr(dbapi, name)
    assert dbapi.Date(2020, 1, 2) == datetime.date(2020, 1, 2)
    assert dbapi.DateFromTicks(0).year in (1969, 1970)
    assert dbapi.Connection.ProgrammingError is dbapi.ProgrammingError


def test_fetching(connection: dbapi.Connection) -> None:
    with connection.cursor() as cursor:
        assert cursor.description is None
        assert cursor.rowcount == -1
        assert cursor.execute("from (values (1), (2), (3), (4)) t(x) order by x") is cursor
        assert cursor.rowcount == 4
        assert cursor.fetchone() == (1,)
        assert cursor.fetchmany() == [(2,)]
        cursor.arraysize = 5
        assert cursor.fetchmany() == [(3,), (4,)]
        assert cursor.fetchall() == []
        assert cursor.fetchone() is None
        assert list(cursor.execute("select 1")) == [(1,)]


def test_description(connection: dbapi.Connection) -> None:
    cursor = connection.cursor()
    cursor.execute("select 1 as i, 'x' as s, date '2020-01-01' as d, 1.5 as n")
    description = cursor.description
    assert description is not None
    assert [column[0] for column in description] == ["i", "s", "d", "n"]
    assert all(len(column) == 7 for column in description)
    assert [column[1] for column in description] == [dbapi.NUMBER, dbapi.STRING, dbapi.DATETIME, dbapi.NUMBER]
    assert description[0][1] != dbapi.STRING
    cursor.execute("create table t (a integer)")
    assert cursor.description is None


def test_parameters(connection: dbapi.Connection) -> None:
    cursor = connection.cursor()
    cursor.execute("create table t (a integer, b varchar)")
    cursor.execute("insert into t values (?, ?)", (1, "it's"))
    assert cursor.rowcount == 1
    cursor.executemany("insert into t values (?, ?)", [(2, None), (3, "z")])
    assert cursor.rowcount == 2
    cursor.execute("select b from t where a >= $low order by a", {"low": 2})
    assert cursor.fetchall() == [(None,), ("z",)]


def test_cursors_are_independent(connection: dbapi.Connection) -> None:
    one, two = connection.cursor(), connection.cursor()
    one.execute("select 1")
    two.execute("select 2")
    assert (one.fetchall(), two.fetchall()) == ([(1,)], [(2,)])
    one.execute("create table t as select 5 as a")
    assert two.execute("select a from t").fetchall() == [(5,)]


def test_misuse(connection: dbapi.Connection) -> None:
    cursor = connection.cursor()
    with pytest.raises(dbapi.InterfaceError):
        cursor.fetchall()
    with pytest.raises(dbapi.ProgrammingError):
        cursor.execute("selec 1")
    with pytest.raises(dbapi.InterfaceError):
        cursor.fetchall()
    connection.commit()
    with pytest.raises(dbapi.NotSupportedError):
        connection.rollback()
    cursor.setinputsizes([1])
    cursor.setoutputsize(1)
    cursor.close()
    with pytest.raises(dbapi.InterfaceError):
        cursor.execute("select 1")
    other = connection.cursor()
    connection.close()
    with pytest.raises(dbapi.InterfaceError):
        other.execute("select 1")
    with pytest.raises(dbapi.InterfaceError):
        connection.commit()


def test_arrow(connection: dbapi.Connection) -> None:
    cursor = connection.cursor()
    cursor.execute("select 1 as a union all select 2")
    assert sorted(cursor.fetch_arrow_table()["a"].to_pylist()) == [1, 2]
    assert cursor.fetch_record_batch().read_all().num_rows == 2
    assert len(cursor.fetch_df()) == 2
