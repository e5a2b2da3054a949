"""What wrong SQL is answered with: the cause, a caret under the place, and what to do.

``tests/data/binder/errors.txt`` holds statements and answers. After a change that is meant, write it anew with
``python tests/test_binder_errors.py`` and read the difference.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from test_binder import DATA, QUERIES, Fake, bound, make

from finequery.errors import BindError, Error, NotSupportedError

GOLDEN = DATA / "binder" / "errors.txt"
SCHEMAS = {
    "t": "a INTEGER, b BIGINT, s VARCHAR, d DECIMAL(10,2), dt DATE, f DOUBLE",
    "u": "a INTEGER, c VARCHAR, e DECIMAL(8,1)",
    "w": "k BIGINT, s VARCHAR",
}


def blocks() -> list[tuple[str, str]]:
    """(statement, answer) pairs: a statement, its answer indented below it."""
    result: list[tuple[str, list[str]]] = []
    for line in GOLDEN.read_text().splitlines():
        if line.startswith("    "):
            result[-1][1].append(line[4:])
        elif line:
            result.append((line, []))
    return [(sql, "\n".join(answer)) for sql, answer in result]


def answer(sql: str, resolver: Fake) -> str:
    try:
        bound(sql, resolver)
    except Error as error:
        return "\n".join(line.rstrip() for line in f"{type(error).__name__}: {error}".splitlines())
    return "no error"


@pytest.fixture(scope="module")
def resolver() -> Fake:
    return make(SCHEMAS)[1]


@pytest.mark.parametrize(("sql", "expected"), blocks() if GOLDEN.exists() else [], ids=lambda x: x[:50])
def test_error(sql: str, expected: str, resolver: Fake) -> None:
    assert answer(sql, resolver) == expected
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
    resolver = make(SCHEMAS)[1]
    lines: list[str] = []
    for sql, _ in blocks():
        lines += [sql, *("    " + line for line in answer(sql, resolver).splitlines()), ""]
    Path(GOLDEN).write_text("\n".join(lines))


if __name__ == "__main__":
    write()
