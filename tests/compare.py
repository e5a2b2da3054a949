"""Comparing FineQuery's answers with DuckDB's."""

from __future__ import annotations

import re
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import sqlglot
from sqlglot import exp

from finequery.bench.answers import row_difference

#: Seconds after which a single test query counts as hanging.
PATIENCE = 30.0
IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z_0-9]*\Z")


@contextmanager
def time_limit(seconds: float = PATIENCE) -> Iterator[None]:
    """Raise TimeoutError in the body when it takes longer. Only in the main thread; elsewhere there is no limit."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(*_: object) -> None:
        raise TimeoutError(f"no answer within {seconds:g} s")

    previous = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)


def assert_same(con: Any, duck: Any, sql: str, ordered: bool | None = None) -> None:
    """FineQuery's answer to ``sql`` equals DuckDB's: column names, types, and every value.

    ``ordered`` compares row by row (True) or as multisets (False). By default rows are multisets, and where the query
    has an ORDER BY whose keys are in the result, the sequence of those keys is compared as well: ties may differ.
    """
    want_relation = duck.sql(sql)
    want = want_relation.fetchall()
    with time_limit():
        got_relation = con.sql(sql)
        got = got_relation.fetchall()
    label = f"\n{sql.strip()}\n"
    want_names, got_names = list(want_relation.columns), list(got_relation.columns)
    assert len(got_names) == len(want_names), f"{label}columns {got_names}, DuckDB has {want_names}"
    for number, (name, expected) in enumerate(zip(got_names, want_names, strict=True)):
        if IDENTIFIER.match(expected):  # the text of a nameless expression is each engine's own
            assert name == expected, f"{label}column {number} is named {name!r}, DuckDB says {expected!r}"
    want_types, got_types = type_names(want_relation.types), type_names(got_relation.types)
    assert got_types == want_types, f"{label}types {got_types}, DuckDB has {want_types}"
    difference = row_difference(got, want, ordered=bool(ordered))
    assert difference is None, label + str(difference)
    if ordered is None:
        keys = order_keys(sql, want_names)
        if keys:
            mine, theirs = ([tuple(row[key] for key in keys) for row in rows] for rows in (got, want))
            difference = row_difference(mine, theirs, ordered=True)
            assert difference is None, f"{label}order: {difference}"


def type_names(types: list[Any]) -> list[str]:
    """Types as text; a column of bare NULLs has DuckDB's type \"NULL\", which it stores as INTEGER."""
    return ["INTEGER" if str(kind) in ('"NULL"', "NULL") else str(kind) for kind in types]


def order_keys(sql: str, names: list[str]) -> list[int]:
    """The result columns that ORDER BY names, up to the first key that is not a result column."""
    tree = sqlglot.parse_one(sql, dialect="duckdb")
    order = tree.args.get("order")
    if order is None:
        return []
    folded = [name.lower() for name in names]
    shown: dict[str, int] = {}
    if isinstance(tree, exp.Select) and len(tree.expressions) == len(names) and not tree.is_star:
        shown = {
            (item.this if isinstance(item, exp.Alias) else item).sql(): n for n, item in enumerate(tree.expressions)
        }
    keys = []
    for item in order.expressions:
        key = item.this if isinstance(item, exp.Ordered) else item
        if isinstance(key, exp.Literal) and key.is_int:
            keys.append(int(key.this) - 1)
        elif isinstance(key, exp.Column) and not key.table and folded.count(key.name.lower()) == 1:
            keys.append(folded.index(key.name.lower()))
        elif key.sql() in shown:
            keys.append(shown[key.sql()])
        else:
            break
    return keys
