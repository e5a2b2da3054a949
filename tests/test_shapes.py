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
from finequery.planner.shape import Lifting, shape_of

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
def test_the_same_answers(
    path: Path, named: bool, pair: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
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
