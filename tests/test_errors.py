"""What wrong SQL and wrong files are answered with: the cause, a caret under the place, and what to do.

``tests/data/errors`` holds statements and answers: ``binding.txt`` what the binder refuses, ``running.txt`` what goes
wrong with data and files. After a change that is meant, write them anew with ``python tests/test_errors.py`` and read
the difference.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from test_binder import DATA, QUERIES, Fake, bound, make

from finequery.errors import BindError, Error, NotSupportedError

BINDING, RUNNING = DATA / "errors" / "binding.txt", DATA / "errors" / "running.txt"
SCHEMAS = {
    "t": "a INTEGER, b BIGINT, s VARCHAR, d DECIMAL(10,2), dt DATE, f DOUBLE",
    "u": "a INTEGER, c VARCHAR, e DECIMAL(8,1)",
    "w": "k BIGINT, s VARCHAR",
}


def blocks(path: Path) -> list[tuple[str, str]]:
    """(statement, answer) pairs: a statement, its answer indented below it."""
    result: list[tuple[str, list[str]]] = []
    for line in path.read_text().splitlines():
        if line.startswith("    "):
            result[-1][1].append(line[4:])
        elif line:
            result.append((line, []))
    return [(sql, "\n".join(answer)) for sql, answer in result]


def answered(run: Any) -> str:
    """What a call raises, as it is shown."""
    try:
        run()
    except Error as error:
        return "\n".join(line.rstrip() for line in f"{type(error).__name__}: {error}".splitlines())
    return "no error"


def answer(sql: str, resolver: Fake) -> str:
    return answered(lambda: bound(sql, resolver))


def database(folder: Path) -> Any:
    """A connection with tables, and files in the folder that it runs in."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    import finequery

    pq.write_table(pa.table({"a": [1, 2, 3], "b": ["x", "y", "z"]}), folder / "good.parquet")
    whole = (folder / "good.parquet").read_bytes()
    (folder / "cut.parquet").write_bytes(whole[: len(whole) // 2])
    (folder / "text.parquet").write_text("this is not a Parquet file")
    (folder / "empty.parquet").write_text("")
    (folder / "types").mkdir()
    pq.write_table(pa.table({"a": [1]}), folder / "types" / "1.parquet")
    pq.write_table(pa.table({"a": ["x"]}), folder / "types" / "2.parquet")
    (folder / "columns").mkdir()
    pq.write_table(pa.table({"a": [1], "b": [2]}), folder / "columns" / "1.parquet")
    pq.write_table(pa.table({"a": [1]}), folder / "columns" / "2.parquet")
    (folder / "good.csv").write_text("a,b\n1,x\n2,y\n")
    (folder / "fields.csv").write_text("a,b\n1,x\n2,y,z\n3,w\n")
    (folder / "latin.csv").write_bytes("a,b\n1,ä\n".encode("latin-1"))
    con = finequery.connect()
    con.execute("create table t (a integer, b varchar, d double, n decimal(4,1), u utinyint, big bigint)")
    con.execute("insert into t values (1, 'x', 1.5, 1.5, 200, 9223372036854775807), (0, '12a', 0, 2.5, 3, 1)")
    con.execute("create table k (a integer not null)")
    con.execute("create view v as select a from t")
    return con


@pytest.fixture(scope="module")
def resolver() -> Fake:
    return make(SCHEMAS)[1]


@pytest.mark.parametrize(("sql", "expected"), blocks(BINDING), ids=lambda x: x[:50])
def test_error(sql: str, expected: str, resolver: Fake) -> None:
    assert answer(sql, resolver) == expected
    assert expected != "no error"


@pytest.fixture(scope="module")
def con(tmp_path_factory: Any) -> Any:
    folder = tmp_path_factory.mktemp("errors")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        yield database(folder)


@pytest.mark.parametrize(("sql", "expected"), blocks(RUNNING), ids=lambda x: x[:50])
def test_error_of_data_and_files(sql: str, expected: str, con: Any) -> None:
    assert answered(lambda: con.execute(sql).fetchall()) == expected
    assert expected != "no error"


def test_deep_nesting_is_an_error_not_a_crash(resolver: Fake) -> None:
    for sql in ("select " + "+".join(["1"] * 5000), "select " + "(" * 5000 + "1" + ")" * 5000):
        with pytest.raises(Error, match="too deeply"):
            bound(sql, resolver)
    many = " or ".join(f"a = {i}" for i in range(3000))
    assert bound(f"select a from t where {many}", resolver).names == ("a",)


def test_position_is_in_the_whole_text(resolver: Fake) -> None:
    from finequery.planner.binder import bind
    from finequery.planner.parse import parse

    text = "select 1;\n select nope from t"
    with pytest.raises(BindError) as caught:
        bind(parse(text)[1], resolver)
    assert caught.value.position == text.index("nope") and "LINE 2" in str(caught.value)


def test_every_unknown_argument_is_refused(resolver: Fake) -> None:
    """Any node of any tree with an argument that nobody asked for is refused: nothing is silently ignored."""
    from finequery.planner.binder import bind
    from finequery.planner.parse import parse

    others = [
        "create table x (a int not null, b decimal(3, 1))",
        "create view x(q) as select 1 as a",
        "insert into t(a) values (1)",
        "copy (select 1) to 'x' (format csv)",
        "set a = 1",
        "drop table t",
        "describe t",
        "select * exclude (a) replace (b + 1 as b) rename (s as q) from t",
        "select extract(year from dt), trim(both 'x' from s), interval '1' day, s like 'x' escape '!' from t",
    ]
    for sql in [*QUERIES, *others]:
        (statement,) = parse(sql)
        for node in list(statement.tree.walk()):
            node.args["unheard_of"] = True
            with pytest.raises(NotSupportedError, match="UNHEARD OF"):
                bind(statement, resolver)
            del node.args["unheard_of"]


def write() -> None:
    """Answer all statements anew."""
    import os
    import tempfile

    resolver = make(SCHEMAS)[1]
    with tempfile.TemporaryDirectory() as folder:
        here, running = os.getcwd(), blocks(RUNNING)
        binding = [(sql, answer(sql, resolver)) for sql, _ in blocks(BINDING)]
        os.chdir(folder)
        con = database(Path(folder))
        running = [(sql, answered(lambda: con.execute(sql).fetchall())) for sql, _ in running]  # noqa: B023
        os.chdir(here)
    for path, pairs in ((BINDING, binding), (RUNNING, running)):
        path.write_text(
            "\n".join(sql + "".join(f"\n    {line}" for line in text.splitlines()) + "\n" for sql, text in pairs)
        )


if __name__ == "__main__":
    write()
