"""The comparison itself: what counts as the same answer."""

from __future__ import annotations

import math
import time
from decimal import Decimal
from typing import Any

import pytest
from compare import assert_same, order_keys, row_difference, time_limit


class Fake:
    """A connection that has one answer."""

    def __init__(self, rows: list[tuple[Any, ...]], columns: list[str], types: list[str]):
        self.rows, self.columns, self.types = rows, columns, types

    def sql(self, text: str) -> Fake:
        return self

    def fetchall(self) -> list[tuple[Any, ...]]:
        return self.rows


SAME = [
    ([(1, "a"), (2, "b")], [(2, "b"), (1, "a")]),
    ([(1.0,)], [(1.0 + 1e-12,)]),
    ([(math.nan,), (1.0,)], [(1.0,), (math.nan,)]),
    ([(0.0,)], [(-0.0,)]),
    ([(0.1 + 0.2, 1), (0.3, 1)], [(0.3, 1), (0.3, 1)]),
    ([(None,)], [(None,)]),
]
DIFFERENT = [
    ([(1,)], [(1,), (1,)]),
    ([(1,)], [(True,)]),
    ([(1,)], [(1.0,)]),
    ([(1,)], [(Decimal(1),)]),
    ([(1.0,)], [(1.0 + 1e-8,)]),
    ([(math.nan,)], [(None,)]),
    ([(math.nan,)], [(math.inf,)]),
    ([("",)], [(None,)]),
    ([(1, "a"), (2, "b")], [(1, "b"), (2, "a")]),
]


@pytest.mark.parametrize(("mine", "theirs"), SAME)
def test_same(mine: list[tuple[Any, ...]], theirs: list[tuple[Any, ...]]) -> None:
    assert row_difference(mine, theirs, ordered=False) is None


@pytest.mark.parametrize(("mine", "theirs"), DIFFERENT)
def test_different(mine: list[tuple[Any, ...]], theirs: list[tuple[Any, ...]]) -> None:
    assert row_difference(mine, theirs, ordered=False) is not None


def test_order_is_compared_up_to_ties() -> None:
    want = Fake([(1, "a"), (1, "b"), (2, "c")], ["k", "v"], ["INTEGER", "VARCHAR"])
    tied = Fake([(1, "b"), (1, "a"), (2, "c")], ["k", "v"], ["INTEGER", "VARCHAR"])
    wrong = Fake([(2, "c"), (1, "a"), (1, "b")], ["k", "v"], ["INTEGER", "VARCHAR"])
    assert_same(tied, want, "select k, v from t order by k")
    assert_same(wrong, want, "select k, v from t")
    for sql in ("select k, v from t order by k", "select k, v from t order by 1", "select k, v from t order by t.k"):
        if "t.k" not in sql:  # a key that may be hidden by an alias is not looked at
            with pytest.raises(AssertionError, match="order"):
                assert_same(wrong, want, sql)
    with pytest.raises(AssertionError, match="row 0"):
        assert_same(tied, want, "select k, v from t", ordered=True)


def test_names_and_types_are_compared() -> None:
    want = Fake([(1,)], ["k"], ["INTEGER"])
    with pytest.raises(AssertionError, match="named"):
        assert_same(Fake([(1,)], ["K"], ["INTEGER"]), want, "select k from t")
    with pytest.raises(AssertionError, match="types"):
        assert_same(Fake([(1,)], ["k"], ["BIGINT"]), want, "select k from t")
    assert_same(Fake([(1,)], ["a + 1"], ["INTEGER"]), Fake([(1,)], ["(a + 1)"], ["INTEGER"]), "select a + 1 from t")


def test_order_keys() -> None:
    assert order_keys("select a, b from t order by b, a", ["a", "b"]) == [1, 0]
    assert order_keys("select a + 1, b from t order by a + 1, c, b", ["x", "b"]) == [0]
    assert order_keys("select a from t", ["a"]) == []
    assert order_keys("select a from t union select b from u order by 1", ["a"]) == [0]


def test_time_limit() -> None:
    with pytest.raises(TimeoutError, match="within"), time_limit(0.05):
        time.sleep(5)
    with time_limit(5):
        pass
