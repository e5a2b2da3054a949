"""Compiled inference against scikit-learn and against plain loops."""

from __future__ import annotations

import numpy as np
import pytest

from finequery.perfmodel import families
from finequery.perfmodel.trees import Bank, Regressor, alone, complete_tree, constant


def by_hand(r: Regressor, x: np.ndarray) -> tuple[float, float]:
    """One row through a regressor, as its docstring says."""
    far = 0.0
    row = []
    for v, low, high in zip(x.tolist(), r.low.tolist(), r.high.tolist()):
        inside = min(max(v, low), high)
        far += 0.0 if inside == v else min(abs(v - inside) / (high - low), 1.0) if high > low else 1.0
        row.append(inside)
    row.append(1.0)
    value = r.bias + sum(w * row[a] * row[b] for a, b, w in zip(r.left, r.right, r.weight.tolist()))
    for features, thresholds, leaves in zip(r.feature, r.threshold, r.leaf):
        place = 0
        while place < len(features):
            place = 2 * place + 1 + int(row[features[place]] > thresholds[place])
        value += float(leaves[place - len(features)])
    return value, far


def random_regressor(rng: np.random.Generator, features: int, depth: int, trees: int, terms: int) -> Regressor:
    low = rng.normal(0, 1, features).astype(np.float32)
    return Regressor(
        low,
        low + rng.uniform(0, 3, features).astype(np.float32),
        float(rng.normal()),
        rng.integers(0, features + 1, terms).astype(np.uint16),
        rng.integers(0, features + 1, terms).astype(np.uint16),
        rng.normal(0, 1, terms),
        rng.integers(0, features, (trees, (1 << depth) - 1)).astype(np.uint16),
        rng.normal(0, 1, (trees, (1 << depth) - 1)).astype(np.float32),
        rng.normal(0, 1, (trees, 1 << depth)).astype(np.float32),
    )


def test_kernel_is_what_the_arrays_say() -> None:
    rng = np.random.default_rng(5)
    shapes = [(1, 1, 0), (3, 7, 4), (0, 0, 9), (5, 40, 30), (0, 2, 0)]  # depth, trees, terms
    regressors = [random_regressor(rng, 6, *shape) for shape in shapes]
    which = np.array([0, 0, 3, 3, 3, 1, 2, 4, 4, 0, 2], np.int64)
    x = rng.normal(0, 3, (len(which), 6)).astype(np.float32)
    rows = np.ones((len(which), 7), np.float32)
    rows[:, :-1] = x
    values, outside = Bank(regressors).evaluate(rows, which)
    for i, m in enumerate(which):
        value, far = by_hand(regressors[m], x[i])
        assert values[i] == pytest.approx(value, rel=1e-6, abs=1e-6)
        assert outside[i] == pytest.approx(far, rel=1e-5, abs=1e-6)
    assert len(Bank(regressors).evaluate(np.ones((0, 7), np.float32), np.zeros(0, np.int64))[0]) == 0


@pytest.mark.parametrize("candidate", families.CANDIDATES, ids=lambda c: c.name)
def test_same_as_scikit_learn(candidate: families.Candidate) -> None:
    rng = np.random.default_rng(2)
    x = rng.normal(0, 2, (150, 8)).astype(np.float32).astype(np.float64)
    x[:, 3] = 1.0  # never changes
    x[:, 4] = np.round(x[:, 4])  # ties: thresholds half way between values that occur
    y = np.sin(x[:, 0]) + x[:, 1] * x[:, 2] + 0.1 * rng.normal(size=150)
    regressor, predict = candidate.fit(x, y, rng.uniform(0.5, 1.5, 150))
    assert regressor.check() is None
    inside = rng.uniform(x.min(axis=0), x.max(axis=0), (400, 8)).astype(np.float32).astype(np.float64)
    np.testing.assert_allclose(alone(regressor, inside), predict(inside), atol=2e-5, rtol=1e-5)


def test_thresholds_send_every_float32_the_same_way() -> None:
    """Between two neighbouring float32 there are float64 thresholds; rounding them up would turn rows around."""
    below = np.float32(0.1)
    above = np.nextafter(below, np.float32(1))
    for threshold in (float(below), (float(below) + float(above)) / 2, np.nextafter(float(above), 0)):
        part = complete_tree(
            np.array([1, -1, -1]), np.array([2, -1, -1]), np.array([0, -2, -2]), np.array([threshold, 0, 0]),
            np.array([0.0, 10.0, 20.0]), 2,
        )  # fmt: skip
        tree = Regressor(
            np.array([0], np.float32), np.array([1], np.float32), 0.0, *(np.zeros(0, np.uint16),) * 2, np.zeros(0),
            *(p[None] for p in part),
        )  # fmt: skip
        assert alone(tree, np.array([[below], [above]])).tolist() == [10.0, 20.0]


def test_what_is_outside_is_clamped_and_said() -> None:
    r = constant(0.0, np.array([0, 5], np.float32), np.array([10, 5], np.float32))
    rows = np.array([[5, 5, 1], [12, 5, 1], [-50, 5, 1], [5, 6, 1]], np.float32)
    _, outside = Bank([r]).evaluate(rows, np.zeros(4, np.int64))
    assert outside.tolist() == pytest.approx([0.0, 0.2, 1.0, 1.0])
    assert rows[:, 0].tolist() == [5, 10, 0, 5]


def test_wrong_rows_are_refused() -> None:
    bank = Bank([constant(1.0, np.zeros(2, np.float32), np.ones(2, np.float32))])
    with pytest.raises(ValueError, match="2 features"):
        bank.evaluate(np.ones((1, 2), np.float32), np.zeros(1, np.int64))
    with pytest.raises(ValueError, match="0 to 0"):
        bank.evaluate(np.ones((1, 3), np.float32), np.ones(1, np.int64))
    with pytest.raises(ValueError, match="float32"):
        bank.evaluate(np.ones((1, 3)), np.zeros(1, np.int64))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="deeper"):
        complete_tree(
            np.array([1, -1, -1]), np.array([2, -1, -1]), np.zeros(3, int), np.zeros(3), np.zeros(3), 0
        )  # fmt: skip
