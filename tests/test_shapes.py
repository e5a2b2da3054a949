"""Plans by shape: a text that differs from an earlier one in literals has the answer of a plan made for it alone.

Every query of the test data and of the sqllogictest files runs with its literals changed, so that its own plan comes
from that of the changed one, and the other way round.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import slt

import finequery
from finequery.errors import Error
from finequery.operators.expr import Literal, derived
from finequery.operators.trace import Trace
from finequery.planner.shape import Lifting, shape_of
from finequery.types import INTEGER

HERE = Path(__file__).parent
FILES = sorted((HERE / "slt").glob("*.test"))


def varied(text: str, random: random.Random) -> str:
    """The text with other literals of the same types."""
    shape = shape_of(text)
    if shape is None:
        return text
    parts, end = [], 0
    for start, literal in zip(shape.starts, shape.texts):
        parts += [text[end:start], literal if random.random() < 0.3 else other(literal, random)]
        end = start + len(literal)
    return "".join(parts) + text[end:]


def other(literal: str, random: random.Random) -> str:
    digits = [i for i, c in enumerate(literal) if c.isdigit()]
    if literal.startswith("'") and not digits:
        return random.choice(["'a'", "'x%'", "'%b'", "''", literal.upper(), literal[:-1] + "z'"])
    at = random.choice(digits)
    return literal[:at] + str(random.randrange(10 if at else 9)) + literal[at + 1 :]


def outcome(con: Any, text: str) -> Any:
    """Names, types and rows, or the error."""
    try:
        relation = con.sql(text)
        return relation.columns, [str(t) for t in relation.types], sorted(map(repr, relation.fetchall()))
    except Error as error:
        return type(error).__name__, str(error)


@pytest.fixture
def pair() -> Iterator[tuple[Any, Any]]:
    with finequery.connect(threads=1) as kept, finequery.connect(threads=1, plan_cache_size=0) as fresh:
        yield kept, fresh


@pytest.mark.parametrize("named", [True, False], ids=["named", "unnamed"])
@pytest.mark.parametrize("path", FILES, ids=[f.stem for f in FILES])
def test_the_same_answers(path: Path, named: bool, pair: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """``unnamed``: literals in the names of columns are not held fast, so that more plans are for others, too."""
    kept, fresh = pair
    if not named:
        monkeypatch.setattr(Lifting, "name", lambda self, node: None)
    dice = random.Random(path.stem)
    for record in slt.parse(path.read_text(), "finequery"):
        if record.kind != "query":
            for con in pair:
                outcome(con, record.sql)
            continue
        if re.search(r"random\(|now\(|current_", record.sql):
            continue
        for text in (varied(record.sql, dice), record.sql, varied(record.sql, dice)):
            got, want = outcome(kept, text), outcome(fresh, text)
            assert got[0 if named else 1 :] == want[0 if named else 1 :], text


TABLE = (
    "create table t (x integer, s varchar, d date, p decimal(8, 2))",
    "insert into t values (1, 'a', date '1995-01-01', 0.50), (2, 'b', date '1995-01-31', 2.00), "
    "(3, 'it''s', null, 7.25)",
)


@pytest.fixture
def con() -> Iterator[Any]:
    with finequery.connect(threads=1) as con:
        for text in TABLE:
            con.execute(text)
        yield con


def hits(con: Any, *texts: str) -> list[int]:
    """For each text in turn whether its plan came from another's."""
    found = []
    for text in texts:
        before = con._session.plans.shape_hits
        outcome(con, text)
        found.append(con._session.plans.shape_hits - before)
    return found


SHARED = [
    ("select x from t where x > 1", "select x from t where x > 2"),
    ("select x from t where s = 'a'", "select x from t where s = 'it''s'"),
    ("select x from t where s like 'a%'", "select x from t where s like '%s'"),
    ("select x from t where d < date '1995-01-02'", "select x from t where d < date '1996-02-29'"),
    (
        "select x from t where d < date '1995-03-31' - interval '1' month",
        "select x from t where d < date '1995-03-31' - interval '2' month",
    ),
    ("select x from t where p < 1.50", "select x from t where p < 7.99"),
    ("select x from t where p between 0.10 + 0.40 and 2", "select x from t where p between 0.10 + 0.50 and 8"),
    ("select x from t where x < 1.5", "select x from t where x < 2.5"),
    ("select x from t where x in (1, 3)", "select x from t where x in (2, 2)"),
    ("select x from t order by x limit 1", "select x from t order by x limit 2"),
    (
        "select x + 1 as y, count(*) as n from t group by x + 1",
        "select x + 2 as y, count(*) as n from t group by x + 2",
    ),
    ("insert into t values (4, 'c', null, 1.00)", "insert into t values (5, 'd', null, 2.00)"),
    ("select x from t where x > -1", "select x from t where x > -2"),
    ("from t where x = ? and p > 1.00", "from t where x = ? and p > 2.00"),
]
APART = [
    ("select x from t where x > 1", "select x from t where x > 3000000000"),  # INTEGER, BIGINT
    ("select p * 1.5 as y from t", "select p * 1.25 as y from t"),  # DECIMAL(2,1), DECIMAL(3,2)
    ("select x + 1 from t", "select x + 2 from t"),  # names
    ("select x, s from t order by 1", "select x, s from t order by 2"),  # ordinals
    ("select x from t where x < 1.5", "select x from t where x < 2.0"),  # < 2 is not <= 1
    ("select cast(p as decimal(9, 1)) as y from t", "select cast(p as decimal(9, 2)) as y from t"),
    ("select round(p, 1) as y from t", "select round(p, 0) as y from t"),
    ("select x from t where 1 = 1", "select x from t where 1 = 2"),
    ("select x + 1 as y from t group by x + 1", "select x + 1 as y from t group by x + 2"),
    ("select x from t where d < date '1995-01-02'", "select x from t where d < date '1995-99-02'"),
]


@pytest.mark.parametrize("one, two", SHARED)
def test_texts_that_share_a_plan(con: Any, one: str, two: str) -> None:
    if "?" in one:
        con.execute(one, [1]).fetchall()
        assert [r[0] for r in con.execute(two, [3]).fetchall()] == [3]
        assert con._session.plans.shape_hits == 1
        return
    assert hits(con, one, two, one, two) == [0, 1, 0, 0]


@pytest.mark.parametrize("one, two", APART)
def test_texts_that_do_not(con: Any, one: str, two: str) -> None:
    assert hits(con, one, two) == [0, 0]
    with finequery.connect(threads=1, plan_cache_size=0) as fresh:
        for text in TABLE:
            fresh.execute(text)
        for text in (one, two, one):
            assert outcome(con, text) == outcome(fresh, text)


def test_inserts(con: Any) -> None:
    for x in (4, 5, 6):
        con.execute(f"insert into t values ({x}, 'n{x}', date '2000-01-0{x}', {x}.25)")
    assert con._session.plans.shape_hits == 2
    rows = con.sql("select x, s, d::varchar, p::double from t where x > 3").fetchall()
    assert rows == [(x, f"n{x}", f"2000-01-0{x}", x + 0.25) for x in (4, 5, 6)]


def test_explain_shows_the_literals_of_its_text(con: Any) -> None:
    con.sql("select x from t where x > 1").fetchall()
    relation = con.sql("select x from t where x > 2")
    assert "x > 2" in relation.explain() and "x > 2" in relation.explain(analyze=True)
    assert "x > 1" in con.sql("select x from t where x > 1").explain()


def test_a_plan_by_shape_ends_with_its_table(con: Any) -> None:
    con.sql("select x from t where x > 1").fetchall()
    con.execute("create or replace table t as select 'text' as x")
    with pytest.raises(Error):
        con.sql("select y from t where x > 2")
    assert con.sql("select x from t where x > 'a'").fetchall() == [("text",)]


def test_an_error_in_a_literal_has_its_place(con: Any) -> None:
    con.sql("select x from t where d < date '1995-01-02'").fetchall()
    with pytest.raises(Error, match="1995-99-02") as info:
        con.sql("select x from t where d < date '1995-99-02'")
    assert "LINE 1" in str(info.value)


def test_a_relation_keeps_its_literals(con: Any) -> None:
    one, two = con.sql("select x from t where x >= 2"), con.sql("select x from t where x >= 3")
    assert two.fetchall() == [(3,)] and one.fetchall() == [(2,), (3,)]


def test_programs_of_several_texts_are_kept(con: Any) -> None:
    texts = [f"select x from t where x > {i}" for i in range(3)]
    for text in texts:
        con.sql(text).fetchall()
    for text in texts:
        assert "program kept" in con.sql(text).explain(analyze=True)


@pytest.mark.parametrize(
    "text, key",
    [
        ("select 1, 'a'", "select \0INTEGER, \0s"),
        ("select t1.x2, 70000000000 from t1 -- 5", "select t1.x2, \0BIGINT from t1 -- 5"),
        ('select .5, 0.25e1, "1" /* 2 */', 'select \0DECIMAL(1,1), \0DOUBLE, "1" /* 2 */'),
        ("select $1, 'it''s'", "select $1, \0s"),
        ("select E'\\n'", None),
        ("select $$text$$, 1", None),
        ("select 0x1F", None),
        ("create table t as select 1", None),
        ("select x from t", None),
    ],
)
def test_shapes(text: str, key: str | None) -> None:
    shape = shape_of(text)
    assert (shape and shape.key) == key


def lifted(*values: int) -> tuple[Trace, list[Literal]]:
    trace = Trace(len(values))
    return trace, [Literal(INTEGER, v, (trace, i)) for i, v in enumerate(values)]


def test_a_trace_keeps_what_was_derived_and_tested() -> None:
    trace, (a, b) = lifted(3, 4)
    total = derived(INTEGER, lambda x, y: x + y, a, b)
    more = derived(INTEGER, lambda x, y: x * y, total, Literal(INTEGER, 10))
    assert more is not None and more.held == 70 and more.origin is not None
    assert more.test(lambda v: v > 50) is True
    trace.close({more.origin[1]})
    values = trace.replay([30, 40])
    assert values is not None and values[more.origin[1]] == 700
    assert trace.replay([1, 1]) is None


@pytest.mark.parametrize(
    "look, fits, fails",
    [
        (lambda a, b: a.value, [3, 9], [4, 3]),
        (lambda a, b: a == Literal(INTEGER, 3), [3, 9], [4, 3]),
        (lambda a, b: a == b, [5, 5], [5, 6]),
        (lambda a, b: derived(INTEGER, lambda v: 10 // v, a), [4, 3], [0, 3]),
        (lambda a, b: derived(INTEGER, lambda v: v if v < 5 else None, b), [9, 4], [3, 7]),
    ],
    ids=["value", "equal to a constant", "equal", "that fails", "that is none"],
)
def test_what_ties_a_plan_to_a_value(look: Any, fits: list[int], fails: list[int]) -> None:
    trace, (a, b) = lifted(3, 3)
    look(a, b)
    trace.close({2} if trace.size > 2 else set())
    assert trace.replay([3, 3]) is not None and trace.replay(fits) is not None
    assert trace.replay(fails) is None


def test_hashes_and_estimates_leave_no_trace() -> None:
    trace, (a, b) = lifted(3, 4)
    assert len({a, b, a}) == 2 and a != b and a.held == 3 and not a.is_null
    trace.close(set())
    assert trace.replay([7, 8]) is not None
