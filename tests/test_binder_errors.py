"""What wrong SQL is answered with: the cause, a caret under the place, and what to do.

``tests/data/binder/errors.txt`` holds statements and answers. After a change that is meant, write it anew with
``python tests/test_binder_errors.py`` and read the difference.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from test_binder import DATA, Fake, bound, make

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
    """A node of the tree with an argument that nobody asked for is refused, whatever it is."""
    from finequery.planner.binder import bind
    from finequery.planner.parse import parse

    (statement,) = parse("select a + 1, sum(b) from t where s like 'x' group by a + 1 order by 1 limit 3")
    nodes = [n for n in statement.tree.walk() if type(n).__name__ not in ("DataType",)]
    for node in nodes:
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
