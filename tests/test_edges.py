"""Scripts of queries at the edges of types, NULLs, joins and branches: every answer equals DuckDB's.

A statement that DuckDB refuses with an error (an overflow, a division by zero, text that is no number) must be an
error here as well, and one of the engine's own. Statements under ``-- since DuckDB 2`` are compared with that version
or a later one.
"""

# ruff: noqa: E501
from __future__ import annotations

from pathlib import Path
from typing import Any

import older_duckdb
import pytest
from compare import assert_same

from finequery.errors import Error

SCRIPTS = sorted((Path(__file__).parent / "data" / "edges").glob("*.sql"))


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_script(path: Path, con: Any, duck: Any) -> None:
    import duckdb

    for sql in older_duckdb.statements(path):
        if not sql.startswith(("select", "with")):
            con.execute(sql)
            duck.execute(sql)
            continue
        try:
            duck.execute(sql).fetchall()
        except duckdb.Error:
            with pytest.raises(Error):
                con.execute(sql).fetchall()
            continue
        assert_same(con, duck, sql)


PARAMETERS = [
    "select a.x, b.x from a join b on a.s || 'k' = b.s || 'k' where b.x < ?",
    "select a.x, b.x from a left join (select * from b where x <= ?) b on a.s || 'k' = b.s || 'k' and a.f = b.f",
    "select a.x, b.x from a left join (select * from b where x <= ?) b on a.h = b.h",
    "select a.x from a where s not in (select s from b where x < ?)",
    "select a.x from a where h not in (select h from b where x < ?)",
    "select s, count(*), max(h) from a where x <> ? group by s",
    "select a.x, b.x from a full join (select * from b where x <> ?) b on a.u = b.u and a.f <> b.f",
    "select a.x in (select b.x from b where b.x > ?) from a",
    "select count(*) from a where s = ?::varchar",
    "select x, x + $1::integer from a",
]


@pytest.mark.parametrize("sql", PARAMETERS)
def test_parameters(sql: str, con: Any, duck: Any) -> None:
    """A plan that comes from the cache sees the build sides and the rows of its own run."""
    for engine in (con, duck):
        engine.execute(
            "create table a as select * from (values (1, 'u1', 'p', 1.5::double, 1::hugeint), "
            "(2, 'u2', 'q', 2.5, 100000000000000000000), (3, 'u3', null, null, null), (4, 'uu', 'r', 0.0, 5)) v(x, u, s, f, h)"
        )
        engine.execute(
            "create table b as select * from (values (1, 'p', 'u1', 1.5::double, 1::hugeint), "
            "(2, 'zz', 'u2', 2.5, 100000000000000000000), (3, 'r', 'u3', null, 5), (9, 'q', 'uu', -0.0, null)) v(x, s, u, f, h)"
        )
    for _ in range(2):
        for value in (1, 2, 3, 10, 0, -5, 2, 3):
            want = duck.execute(sql, [value]).fetchall()
            assert sorted(map(repr, con.execute(sql, [value]).fetchall())) == sorted(map(repr, want)), value
        for engine in (con, duck):
            engine.execute("insert into b select x + 1, s || 'z', u || 'w', f * 2, h + 1 from b")
            engine.execute("insert into a select x, u, 'pz', f, h from a")
