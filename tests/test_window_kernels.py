"""Window functions over columns, against DuckDB."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finequery import types as t
from finequery.errors import DataError, NotSupportedError, OutOfRangeError
from finequery.operators.column import ColumnData
from finequery.operators.encode import encode
from finequery.operators.export import column_to_python
from finequery.operators.pool import get_pool
from finequery.operators.window import evaluate_window

pa = pytest.importorskip("pyarrow")
duckdb = pytest.importorskip("duckdb")

ARROW = {
    "i": pa.int32(),
    "l": pa.int64(),
    "h": pa.decimal128(38, 0),
    "d": pa.decimal128(12, 2),
    "f": pa.float64(),
    "r": pa.float32(),
    "s": pa.string(),
    "b": pa.bool_(),
}
CALLS = [
    *((name, "", "BIGINT") for name in ("row_number", "rank", "dense_rank")),
    *((name, "", "DOUBLE") for name in ("percent_rank", "cume_dist")),
    ("count_star", "", "BIGINT"),
    ("count", "i", "BIGINT"),
    *(("sum", column, "HUGEINT") for column in "ilb"),
    ("sum", "d", "DECIMAL(38,2)"),
    ("sum", "h", "DECIMAL(38,0)"),
    ("sum", "f", "DOUBLE"),
    ("sum", "r", "DOUBLE"),
    *(("avg", column, "DOUBLE") for column in "ildfr"),
    *((name, c, "") for name in ("min", "max", "first_value", "last_value", "lag", "lead") for c in "ilhdfrsb"),
]


def table_of(columns: dict[str, list[Any]]) -> Any:
    from decimal import Decimal

    def values(name: str, column: list[Any]) -> list[Any]:
        if name in "dh":
            return [None if v is None else Decimal(v).scaleb(-2 if name == "d" else 0) for v in column]
        return column

    return pa.table({n: pa.array(values(n, c), ARROW.get(n, pa.int32())) for n, c in columns.items()})


def result_type(name: str, column: str, returns: str, columns: dict[str, ColumnData]) -> t.SqlType:
    if not returns:
        return columns[column].type
    if returns.startswith("DECIMAL"):
        return t.decimal(38, int(returns[11:-1]))
    return t.SqlType(returns)


def same(left: Any, right: Any) -> bool:
    if left is None or right is None:
        return left is right
    if isinstance(left, float) and isinstance(right, float):
        return (left != left and right != right) or math.isclose(left, right, rel_tol=1e-9, abs_tol=1e-9)
    return left == right and type(left) is type(right)


def check(table: Any, partition: list[str], order: list[tuple[str, bool, bool]], running: bool, calls: Any) -> None:
    rows = table.num_rows
    columns = {name: encode(table.column(name)) for name in table.column_names}
    terms = [f"{n} {'desc' if d else 'asc'} nulls {'first' if f else 'last'}" for n, d, f in order]
    over = f"partition by {', '.join(partition)} " if partition else ""
    over += f"order by {', '.join(terms)} " if terms else ""
    if terms and not running:
        over += "range between unbounded preceding and unbounded following"
    cache: dict[Any, Any] = {}
    con = duckdb.connect()
    con.register("source", table)
    for name, column, returns, *more in calls:
        operands = [columns[c] for c in (column, *more) if c]
        function = "count(*)" if name == "count_star" else f"{name}({', '.join([column, *more])})"
        want = [r[0] for r in con.execute(f"select {function} over ({over}) from source order by id").fetchall()]
        kind = result_type(name, column, returns, columns)
        got = evaluate_window(
            name,
            operands,
            [columns[c] for c in partition],
            [(columns[c], d, f) for c, d, f in order],
            running,
            kind,
            rows,
            get_pool(2),
            cache,
        )
        assert got.type == kind and got.length == rows
        have = column_to_python(got)
        assert got.stats.nulls == sum(v is None for v in have)
        assert (got.validity is not None) == bool(got.stats.nulls)
        wrong = [i for i in range(rows) if not same(have[i], want[i])]
        assert not wrong, (function, over, [(i, have[i], want[i]) for i in wrong[:3]])


def column_values(name: str) -> st.SearchStrategy[Any]:
    whole = {
        "i": st.integers(-5, 5) | st.integers(-(2**31), 2**31 - 1),
        "l": st.integers(-(2**63), 2**63 - 1),
        "h": st.integers(-(10**36), 10**36),
        "d": st.integers(-(10**12) + 1, 10**12 - 1) | st.sampled_from([100, 200]),
        "f": st.integers(-100, 100).map(lambda x: x / 4),
        "r": st.integers(-100, 100).map(lambda x: x / 4),
        "s": st.sampled_from(["", "a", "a\0", "b", "ä", "abcdefghijkl", "abcdefghijkm"]),
        "b": st.booleans(),
    }
    return whole.get(name, st.integers(0, 3))


@st.composite
def tables(draw: st.DrawFn) -> Any:
    rows = draw(st.integers(1, 40))
    columns: dict[str, list[Any]] = {"id": list(range(rows))}
    for name in ("p", "q", "o", *ARROW):
        item = column_values(name)
        if draw(st.booleans()):
            item = st.none() | item
        columns[name] = draw(st.lists(item, min_size=rows, max_size=rows))
    return table_of(columns)


@settings(max_examples=25, deadline=None)
@given(
    tables(),
    st.sampled_from([[], ["p"], ["p", "s"], ["f"]]),
    st.lists(
        st.tuples(st.sampled_from(["o", "s", "f", "h"]), st.booleans(), st.booleans()),
        max_size=2,
        unique_by=lambda x: x[0],
    ),
    st.booleans(),
)
def test_windows(table: Any, partition: list[str], order: list[Any], running: bool) -> None:
    # The order of peers is the input's here; DuckDB's is any: the row number ends the order where it matters.
    free = ("row_number", "first_value", "last_value", "lag", "lead")
    check(table, partition, [*order, ("id", False, False)], running, [c for c in CALLS if c[0] in free])
    # Without an order keys rank all rows alike; DuckDB agrees.
    check(table, partition, order, running and bool(order), [c for c in CALLS if c[0] not in free])


def test_many_partitions_and_one() -> None:
    rng = np.random.default_rng(5)
    rows = 200_000
    table = pa.table(
        {
            "id": np.arange(rows, dtype=np.int32),
            "p": rng.integers(0, 60_000, rows).astype(np.int32),
            "o": rng.integers(0, 1000, rows).astype(np.int32),
            "l": rng.integers(-(2**62), 2**62, rows),
            "f": rng.random(rows),
        }
    )
    calls = [
        (n, c, ty)
        for n, c, ty in CALLS
        if set(c) <= set("lf") and n not in ("first_value", "last_value", "lag", "lead", "row_number")
    ]
    for partition in (["p"], []):
        check(table, partition, [("o", False, False)], True, calls)
        check(
            table,
            partition,
            [("o", True, False), ("id", False, False)],
            True,
            [("row_number", "", "BIGINT"), ("lag", "l", "")],
        )


def test_offsets_and_defaults() -> None:
    rows = 60
    rng = np.random.default_rng(6)

    def some(low: int, high: int) -> list[Any]:
        return [None if rng.random() < 0.2 else int(rng.integers(low, high)) for _ in range(rows)]

    texts = [None if v is None else f"t{v}" for v in some(0, 9)]
    table = table_of(
        {
            "id": list(range(rows)),
            "p": some(0, 4),
            "n": some(-3, 4),
            "i": some(0, 99),
            "k": some(1000, 99999),
            "s": texts,
        }
    ).append_column("u", pa.array([f"zz{i}" for i in range(rows)]))
    for constant in (0, 1, 2, -1, 2**40):
        table = table.append_column(f"c{abs(constant)}{constant < 0:d}", pa.array([constant] * rows, pa.int64()))
    calls: list[Any] = []
    for name in ("lag", "lead"):
        for offset in ("n", "c00", "c10", "c20", "c11", f"c{2**40}0"):
            calls += [(name, "i", "", offset), (name, "i", "", offset, "k"), (name, "s", "", offset, "u")]
    calls += [("nth_value", "s", "", offset) for offset in ("n", "c10", "c20", "c00")]
    calls += [("ntile", offset, "BIGINT") for offset in ("c10", "c20", f"c{2**40}0")]
    check(table, ["p"], [("id", False, False)], True, calls)
    check(table, [], [("id", True, False)], True, calls)


def evaluate(name: str, column: ColumnData, kind: t.SqlType) -> ColumnData:
    return evaluate_window(name, [column], [], [], False, kind, column.length, get_pool(2), {})


def test_empty() -> None:
    for name, column, returns, *_ in CALLS:
        table = table_of({c: [] for c in ARROW})
        columns = {c: encode(table.column(c)) for c in ARROW}
        operands = [columns[column]] if column else []
        kind = result_type(name, column, returns, columns)
        order = [(columns["s"], False, False)]
        got = evaluate_window(name, operands, [columns["i"]], order, True, kind, 0, get_pool(2), {})
        assert got.length == 0 and column_to_python(got) == []


def test_nan_and_extremes() -> None:
    column = encode(pa.array([1.0, math.nan, -math.inf, None, -0.0]))
    assert math.isnan(column_to_python(evaluate("max", column, t.DOUBLE))[0])
    assert column_to_python(evaluate("min", column, t.DOUBLE)) == [-math.inf] * 5
    whole = encode(pa.array([2**63 - 1, 2**63 - 1, 2**63 - 1]))
    assert column_to_python(evaluate("sum", whole, t.HUGEINT)) == [3 * (2**63 - 1)] * 3


def test_refused() -> None:
    from decimal import Decimal

    huge = encode(pa.array([Decimal(10**38 - 1), Decimal(1)], pa.decimal128(38, 0)))
    with pytest.raises(OutOfRangeError):
        evaluate("sum", huge, t.decimal(38, 0))
    wide = encode(pa.array([Decimal(10**38 - 1)] * 3, pa.decimal128(38, 0)))
    with pytest.raises(OutOfRangeError):
        evaluate("sum", wide, t.decimal(38, 0))
    with pytest.raises(DataError):
        evaluate("ntile", encode(pa.array([0, 0])), t.BIGINT)
    with pytest.raises(NotSupportedError):
        evaluate("median", huge, t.DOUBLE)
    with pytest.raises(NotSupportedError):
        evaluate("sum", encode(pa.array(["a"])), t.DOUBLE)
