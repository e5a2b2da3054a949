"""Comparing FineQuery's answers with DuckDB's."""

from __future__ import annotations

import re
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from finequery.bench.answers import difference, order_keys, row_difference

#: Seconds after which a single test query counts as hanging.
PATIENCE = 300.0
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
    if ordered is None:
        problem = difference(got, want, order_keys(sql, want_names))
    else:
        problem = row_difference(got, want, ordered)
    assert problem is None, label + str(problem)


def type_names(types: list[Any]) -> list[str]:
    """Types as text; a column of bare NULLs has DuckDB's type \"NULL\", which it stores as INTEGER."""
    return ["INTEGER" if str(kind) in ('"NULL"', "NULL") else str(kind) for kind in types]
