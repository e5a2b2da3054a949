"""Whether two engines gave the same answer, in words where they did not."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from decimal import Decimal
from typing import Any

Row = tuple[Any, ...]
#: What floats may differ by, relative to their size: sums in another order.
RELATIVE = 1e-9


def difference(got: list[Row], want: list[Row], keys: list[int], exact: bool = True) -> str | None:
    """What differs between two answers to a query whose ORDER BY has the result columns ``keys``, in words, or None.
    Rows that tie may stand in another order. ``exact``: values are of the same types, too; else decimals and floats are
    the same if they are equal as far as the decimal's digits go."""
    slack = () if exact else _last_digits(got, want)
    if not exact:
        got, want = loosely(got), loosely(want)
    problem = row_difference(got, want, False, slack)
    if problem is None and keys:
        mine, theirs = ([tuple(row[key] for key in keys) for row in rows] for rows in (got, want))
        problem = row_difference(mine, theirs, True, [slack[key] for key in keys] if slack else ())
        return f"order: {problem}" if problem else None
    return problem


def order_keys(sql: str, names: list[str]) -> list[int]:
    """The result columns that ORDER BY names, up to the first key that is not a result column."""
    import sqlglot
    from sqlglot import exp

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


def row_difference(got: list[Row], want: list[Row], ordered: bool, slack: Sequence[float] = ()) -> str | None:
    """What differs between two results, in words, or None. ``slack``: by column, what floats may differ by."""
    if len(got) != len(want):
        return f"{len(got)} rows, expected {len(want)}. {extra_rows(got, want)}"
    if ordered:
        for number, (row, expected) in enumerate(zip(got, want, strict=True)):
            if not same_row(row, expected, slack):
                return f"row {number} is {row!r}, expected {expected!r}"
        return None
    if len(got) > 1000 and column_types(got) == column_types(want) and Counter(got) == Counter(want):
        return None
    left, right = unmatched(got, want), unmatched(want, got)
    # what is left differs in the last bits of floats, or truly; line up by the exact columns, then by the floats
    left.sort(key=sort_key)
    right.sort(key=sort_key)
    if all(same_row(mine, theirs, slack) for mine, theirs in zip(left, right)):
        return None
    for row in left:  # floats that nearly tie can sort apart
        match = next((other for other in right if same_row(row, other, slack)), None)
        if match is None:
            return extra_rows(got, want)
        right.remove(match)
    return None


def column_types(rows: list[Row]) -> list[set[type]]:
    """The Python types in each column."""
    return [set(map(type, values)) for values in zip(*rows, strict=True)]


def unmatched(rows: list[Row], others: list[Row]) -> list[Row]:
    """Rows that remain when each is struck out against an equal one of ``others``."""
    counts = Counter(map(canonical, others))
    left = []
    for row in rows:
        key = canonical(row)
        if counts[key]:
            counts[key] -= 1
        else:
            left.append(row)
    return left


def extra_rows(got: list[Row], want: list[Row], shown: int = 5) -> str:
    extra, missing = unmatched(got, want), unmatched(want, got)
    return f"Unexpected: {extra[:shown]!r} ({len(extra)} rows); missing: {missing[:shown]!r} ({len(missing)} rows)"


def canonical(row: Row) -> Row:
    """A key for the row: equal only for equal values of equal Python types (1, 1.0 and True differ)."""
    return tuple((type(value), value) for value in map(plain, row))


def plain(value: Any) -> Any:
    """The value so that it compares by ``==`` and hashes: NaN is one value, an interval is one span of time."""
    if isinstance(value, float):
        return math.nan if math.isnan(value) else value  # the one object math.nan: it is found by identity
    if hasattr(value, "months") and hasattr(value, "micros"):
        return timedelta(days=value.months * 30 + value.days, microseconds=value.micros)
    if isinstance(value, (list, dict)):
        return repr(value)
    return value


def sort_key(row: Row) -> tuple[list[tuple[str, str]], list[tuple[bool, float]]]:
    exact = [(type(value).__name__, str(value)) for value in row if not isinstance(value, float)]
    floats = [(math.isnan(value), 0.0 if math.isnan(value) else value) for value in row if isinstance(value, float)]
    return exact, floats


def same_row(mine: Row, theirs: Row, slack: Sequence[float] = ()) -> bool:
    return len(mine) == len(theirs) and all(map(same_value, mine, theirs, slack or [0.0] * len(mine)))


def same_value(mine: Any, theirs: Any, slack: float = 0.0) -> bool:
    """Equal and of one Python type; floats within 1e-9 of each other, relative to their size, or within ``slack``."""
    mine, theirs = plain(mine), plain(theirs)
    if isinstance(mine, float) and isinstance(theirs, float):
        if math.isnan(mine) or math.isnan(theirs):
            return math.isnan(mine) and math.isnan(theirs)
        return math.isclose(mine, theirs, rel_tol=RELATIVE, abs_tol=max(slack, 1e-300))
    return type(mine) is type(theirs) and mine == theirs


def loosely(rows: list[Row]) -> list[Row]:
    """Rows with decimals as floats: other engines have other result types."""
    return [tuple(float(value) if isinstance(value, Decimal) else value for value in row) for row in rows]


def _last_digits(*answers: list[Row]) -> list[float]:
    """By column, a unit in the last digit of its decimals if another answer has floats there, else 0. Engines differ in
    how many digits the mean of a decimal has, and in whether the last one is rounded or cut off."""
    slack = []
    for values in zip(*(list(zip(*rows)) for rows in answers)):
        decimals = [-int(v.as_tuple().exponent) for column in values for v in column if isinstance(v, Decimal)]
        floats = any(isinstance(value, float) for column in values for value in column)
        slack.append(10.0 ** -min(decimals) if decimals and floats else 0.0)
    return slack
