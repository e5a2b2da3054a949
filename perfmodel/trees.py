"""Compiled inference: fitted regressors as flat arrays, evaluated by one native kernel. No scikit-learn here.

A ``Regressor`` is what training leaves of one (sub-task kind, device): a weighted sum of features and of products of
two features, plus a sum of complete binary trees of one depth. Its input is clamped to the range seen in training, so
that it never extrapolates by itself; how far a row lay outside is given with the value, and widens the interval of a
price.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from finequery.operators import native

Floats = NDArray[np.float64]
Singles = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Regressor:
    """A value from ``features`` numbers (float32). The number behind the last feature is the constant 1, so that a
    term with it as a factor is linear.

    A tree's nodes lie level by level; row ``x`` goes right where ``x[feature] > threshold``."""

    low: Singles  # features: the least and the greatest value seen in training
    high: Singles
    bias: float
    left: NDArray[np.uint16]  # a term is weight * x[left] * x[right]
    right: NDArray[np.uint16]
    weight: Floats
    feature: NDArray[np.uint16]  # trees × (2^depth - 1)
    threshold: Singles
    leaf: Singles  # trees × 2^depth

    @property
    def depth(self) -> int:
        return int(self.leaf.shape[1]).bit_length() - 1

    def check(self) -> str | None:
        """What is wrong with these arrays, None if they may be given to the kernel, which tests nothing."""
        d = len(self.low)
        trees, leaves = self.leaf.shape if self.leaf.ndim == 2 else (0, 0)
        if self.high.shape != (d,) or not 0 < d < 1 << 15:
            return "ranges of the features"
        if not (len(self.left) == len(self.right) == len(self.weight)):
            return "terms of different lengths"
        if leaves < 1 or leaves & (leaves - 1) or leaves > 1 << 16:
            return "leaves that are no complete tree"
        if self.feature.shape != (trees, leaves - 1) or self.threshold.shape != (trees, leaves - 1):
            return "nodes that do not fit the leaves"
        if any(part.size and int(part.max()) > d for part in (self.left, self.right)):
            return "a term of an unknown feature"
        if self.feature.size and int(self.feature.max()) >= d:
            return "a node of an unknown feature"
        numbers = (self.low, self.high, self.weight, self.leaf)
        if not all(np.isfinite(part).all() for part in numbers) or not np.isfinite(self.bias):
            return "numbers that are not finite"
        if np.isnan(self.threshold).any() or (self.low > self.high).any():
            return "ranges or thresholds that are not in order"
        return None


def constant(value: float, low: Singles, high: Singles) -> Regressor:
    """The regressor that always gives ``value``."""
    none = np.zeros(0, np.uint16)
    empty = np.zeros((0, 0), np.float32)
    return Regressor(
        low, high, value, none, none, np.zeros(0), empty.astype(np.uint16), empty, np.zeros((0, 1), np.float32)
    )


def complete_tree(
    children_left: NDArray, children_right: NDArray, feature: NDArray, threshold: NDArray, value: NDArray, depth: int
) -> tuple[NDArray[np.uint16], Singles, Singles]:
    """A tree of nodes with children (-1: a leaf; rows go left where ``x <= threshold``) as a complete one of ``depth``
    levels: a leaf higher up is repeated. Gives features, thresholds and leaves.

    Thresholds become the greatest float32 that is not above them, which sends every float32 the same way."""
    features = np.zeros((1 << depth) - 1, np.uint16)
    thresholds = np.full((1 << depth) - 1, np.inf, np.float32)
    leaves = np.zeros(1 << depth, np.float32)

    def fill(node: int, place: int, level: int) -> None:
        if level == depth:
            if children_left[node] >= 0:
                raise ValueError(f"a tree is deeper than {depth} levels")
            leaves[place - (1 << depth) + 1] = value[node]
        elif children_left[node] < 0:
            fill(node, 2 * place + 1, level + 1)
            fill(node, 2 * place + 2, level + 1)
        else:
            features[place] = feature[node]
            nearest = np.float32(threshold[node])
            above = float(nearest) > float(threshold[node])
            thresholds[place] = np.nextafter(nearest, np.float32(-np.inf)) if above else nearest
            fill(int(children_left[node]), 2 * place + 1, level + 1)
            fill(int(children_right[node]), 2 * place + 2, level + 1)

    fill(0, 0, 0)
    return features, thresholds, leaves


class Bank:
    """Regressors over the same features, packed for the kernels ``price_trees`` and
    ``price_subtasks``."""

    def __init__(self, regressors: Sequence[Regressor]):
        if not regressors:
            raise ValueError("a bank needs a regressor")
        wrong = [problem for problem in (r.check() for r in regressors) if problem]
        if wrong or len({len(r.low) for r in regressors}) != 1:
            raise ValueError(f"regressors can't be evaluated: {wrong or 'different numbers of features'}")
        self.features = len(regressors[0].low)
        self.count = len(regressors)
        trees = [len(r.leaf) for r in regressors]
        self._arrays = (
            np.concatenate([r.low for r in regressors]),
            np.concatenate([r.high for r in regressors]),
            np.array([r.bias for r in regressors]),
            _starts([len(r.weight) for r in regressors], end=True),
            np.concatenate([r.left for r in regressors]),
            np.concatenate([r.right for r in regressors]),
            np.concatenate([r.weight for r in regressors]),
            _starts(trees, end=True),
            np.array([r.depth for r in regressors], np.int64),
            _starts([r.feature.size for r in regressors]),
            np.concatenate([r.feature.reshape(-1) for r in regressors]),
            np.concatenate([r.threshold.reshape(-1) for r in regressors]),
            _starts([r.leaf.size for r in regressors]),
            np.concatenate([r.leaf.reshape(-1) for r in regressors]),
        )
        self.words = np.array([array.ctypes.data for array in self._arrays], np.int64)

    def evaluate(self, x: Singles, which: NDArray[np.int64]) -> tuple[Floats, Floats]:
        """The value of regressor ``which[i]`` for row ``x[i]``, and how far the row lay outside of what it was trained
        on (0: inside; 1 a feature at the most, reached by one range's length). A row has the features and then the
        constant 1, and is clamped in place. Rows of one regressor should stand together."""
        rows = len(x)
        if x.shape != (rows, self.features + 1) or which.shape != (rows,):
            raise ValueError(f"{x.shape} numbers and {which.shape} regressors for {self.features} features")
        if x.dtype != np.float32 or which.dtype != np.int64 or not (x.flags.c_contiguous and which.flags.c_contiguous):
            raise ValueError("rows have to be contiguous float32, numbers of regressors int64")
        if rows and not 0 <= int(which.min()) <= int(which.max()) < self.count:
            raise ValueError(f"regressors are numbered 0 to {self.count - 1}")
        out = np.empty((2, rows))
        native.run(
            "price_trees", x.ctypes.data, self.features + 1, which.ctypes.data, self.words.ctypes.data,
            out[0].ctypes.data, out[1].ctypes.data, n=rows,
        )  # fmt: skip
        return out[0], out[1]


def alone(regressor: Regressor, x: NDArray) -> Floats:
    """The values of one regressor for rows of features, without the constant."""
    rows = np.ones((len(x), x.shape[1] + 1), np.float32)
    rows[:, :-1] = x
    return Bank([regressor]).evaluate(rows, np.zeros(len(x), np.int64))[0]


def _starts(sizes: list[int], end: bool = False) -> NDArray[np.int64]:
    """Where each part begins in their concatenation, with the end of the last if asked."""
    sums = np.concatenate(([0], np.cumsum(sizes))).astype(np.int64)
    return sums if end else sums[:-1]
