"""Families of regressors: scikit-learn estimators, and how what they learned becomes a ``Regressor``.

The only place that imports scikit-learn. ``CANDIDATES`` lists what cross-validation (perfmodel/fit.py) chooses from,
simplest first. A fit gives the regressor and scikit-learn's own prediction, which the regressor has to agree with.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from finequery.perfmodel.trees import Floats, Regressor, Singles, complete_tree, constant

#: Interactions kept, trees and their levels: what keeps a price in the microseconds.
TERMS, TREES = 24, 48

Predict = Callable[[NDArray], NDArray]
#: Rows of features, what to learn, weights.
Fit = Callable[[NDArray, NDArray, NDArray], tuple[Regressor, Predict]]


@dataclass(frozen=True, slots=True)
class Candidate:
    """A family with its hyper-parameters, and what seconds are divided by before it learns: the "analytic" price or
    "rows"."""

    family: str
    base: str
    fit: Fit

    @property
    def name(self) -> str:
        return f"{self.family}, {self.base}"


def _factor(x: NDArray, y: NDArray, w: NDArray) -> tuple[Regressor, Predict]:
    order = np.argsort(y)
    half = np.searchsorted(np.cumsum(w[order]), w.sum() / 2)
    value = float(y[order][min(half, len(y) - 1)])
    return constant(value, *_range(x)), lambda rows: np.full(len(rows), value)


def _ridge(alpha: float) -> Fit:
    def fit(x: NDArray, y: NDArray, w: NDArray) -> tuple[Regressor, Predict]:
        from sklearn.linear_model import Ridge
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        pipe = make_pipeline(StandardScaler(), Ridge(alpha))
        pipe.fit(x, y, ridge__sample_weight=w)
        scaler, ridge = pipe[0], pipe[1]
        weight = ridge.coef_ / scaler.scale_
        bias = float(ridge.intercept_ - weight @ scaler.mean_)
        used = np.flatnonzero(weight)
        left = used.astype(np.uint16)
        return _linear(x, bias, left, np.full(len(used), x.shape[1], np.uint16), weight[used]), pipe.predict

    return fit


def _interactions(alpha: float) -> Fit:
    """Ridge over the ``TERMS`` features, squares and products that tell most by themselves."""

    def fit(x: NDArray, y: NDArray, w: NDArray) -> tuple[Regressor, Predict]:
        from sklearn.feature_selection import SelectKBest, f_regression
        from sklearn.linear_model import Ridge
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import PolynomialFeatures, StandardScaler

        products = PolynomialFeatures(2, include_bias=False)
        pipe = make_pipeline(StandardScaler(), products, SelectKBest(f_regression, k=TERMS), Ridge(alpha))
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")  # features that never change tell nothing, and are said to
            pipe.fit(x, y, ridge__sample_weight=w)
        scaler, chosen, ridge = pipe[0], pipe[2], pipe[3]
        mean, scale, one = scaler.mean_, scaler.scale_, x.shape[1]
        bias = float(ridge.intercept_)
        terms: dict[tuple[int, int], float] = {}
        for powers, c in zip(products.powers_[chosen.get_support()], ridge.coef_):
            i, *rest = np.repeat(np.arange(len(powers)), powers).tolist()
            if rest:  # (x_i - m_i)(x_j - m_j) / (s_i s_j)
                j = rest[0]
                c = c / (scale[i] * scale[j])
                parts = {(i, j): c, (j, one): -c * mean[i]}
                bias += c * mean[i] * mean[j]
                terms[i, one] = terms.get((i, one), 0.0) - c * mean[j]
            else:
                parts = {(i, one): c / scale[i]}
                bias -= c / scale[i] * mean[i]
            for key, value in parts.items():
                terms[key] = terms.get(key, 0.0) + value
        left, right = (np.array([key[side] for key in terms], np.uint16) for side in (0, 1))
        return _linear(x, bias, left, right, np.array(list(terms.values()))), pipe.predict

    return fit


def _boosting(depth: int) -> Fit:
    def fit(x: NDArray, y: NDArray, w: NDArray) -> tuple[Regressor, Predict]:
        from sklearn.ensemble import GradientBoostingRegressor

        model = GradientBoostingRegressor(
            n_estimators=TREES,
            learning_rate=0.12,
            max_depth=depth,
            min_samples_leaf=3,
            subsample=0.8,
            random_state=0,
        )
        model.fit(x, y, sample_weight=w)
        bias = float(model.init_.predict(x[:1])[0])
        return _trees(x, bias, [t.tree_ for t in model.estimators_[:, 0]], model.learning_rate, depth), model.predict

    return fit


def _forest(depth: int) -> Fit:
    def fit(x: NDArray, y: NDArray, w: NDArray) -> tuple[Regressor, Predict]:
        from sklearn.ensemble import ExtraTreesRegressor

        model = ExtraTreesRegressor(TREES // 2, max_depth=depth, min_samples_leaf=2, random_state=0)
        model.fit(x, y, sample_weight=w)
        return _trees(x, 0.0, [t.tree_ for t in model.estimators_], 1.0 / (TREES // 2), depth), model.predict

    return fit


def _both(alpha: float, depth: int) -> Fit:
    """Ridge, and boosted trees on what it leaves."""

    def fit(x: NDArray, y: NDArray, w: NDArray) -> tuple[Regressor, Predict]:
        linear, first = _interactions(alpha)(x, y, w)
        trees, second = _boosting(depth)(x, y - first(x), w)
        merged = replace(
            trees, bias=linear.bias + trees.bias, left=linear.left, right=linear.right, weight=linear.weight
        )
        return merged, lambda rows: first(rows) + second(rows)

    return fit


#: Simplest first.
CANDIDATES = (
    Candidate("factor", "analytic", _factor),
    Candidate("ridge 0.3", "analytic", _ridge(0.3)),
    Candidate("ridge 10", "analytic", _ridge(10.0)),
    Candidate("ridge 1", "rows", _ridge(1.0)),
    Candidate("products 1", "analytic", _interactions(1.0)),
    Candidate("products 1", "rows", _interactions(1.0)),
    Candidate("extra trees", "analytic", _forest(6)),
    Candidate("boosting 3", "analytic", _boosting(3)),
    Candidate("boosting 3", "rows", _boosting(3)),
    Candidate("products + boosting", "analytic", _both(1.0, 3)),
)


def _range(x: NDArray) -> tuple[Singles, Singles]:
    return x.min(axis=0).astype(np.float32), x.max(axis=0).astype(np.float32)


def _linear(x: NDArray, bias: float, left: NDArray, right: NDArray, weight: Floats) -> Regressor:
    return replace(constant(bias, *_range(x)), left=left, right=right, weight=np.asarray(weight, np.float64))


def _trees(x: NDArray, bias: float, trees: Sequence[Any], factor: float, depth: int) -> Regressor:
    depth = max([1, *(int(t.max_depth) for t in trees)])
    parts = [
        complete_tree(t.children_left, t.children_right, t.feature, t.threshold, t.value[:, 0, 0] * factor, depth)
        for t in trees
    ]
    features, thresholds, leaves = (np.stack(part) for part in zip(*parts))
    low, high = _range(x)
    none = np.zeros(0, np.uint16)
    return Regressor(low, high, bias, none, none, np.zeros(0), features, thresholds, leaves)
