"""Medians of times with the bounds that their spread allows, and the bounds of a ratio of two of them."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import NamedTuple

#: How sure the bounds are meant to be.
CONFIDENCE = 0.95


class Bounds(NamedTuple):
    """A number with an interval about it."""

    value: float
    low: float
    high: float


def half_range(times: Sequence[float]) -> float:
    """Half the range of the middle half of the times: what is shown behind a median."""
    if len(times) < 2:
        return 0.0
    low, _, high = statistics.quantiles(times, n=4, method="inclusive")
    return (high - low) / 2.0


def median(times: Sequence[float]) -> Bounds:
    """The median and its interval by order statistics, whatever the times' distribution: from the k-th least to the
    k-th greatest with the largest k for which these enclose the true median with ``CONFIDENCE`` (the number below it is
    binomial with 1/2). Of fewer than six runs, the least and the greatest, which are less sure."""
    ordered, count = sorted(times), len(times)
    k, below = 1, 1.0  # ways to have fewer than k of the runs below the median
    while k < count // 2 and 2.0 * (below + math.comb(count, k)) / 2.0**count <= 1.0 - CONFIDENCE:
        below += math.comb(count, k)
        k += 1
    return Bounds(statistics.median(ordered), ordered[k - 1], ordered[count - k])


def ratio(of: Bounds, to: Bounds) -> Bounds:
    """``of`` over ``to``, with an interval recovered from those of both (MOVER: Donner and Zou, Statistical Methods in
    Medical Research 21, 2012; here of logarithms, where a ratio is a difference)."""
    value = math.log(of.value / to.value)
    low = math.hypot(math.log(of.value / of.low), math.log(to.high / to.value))
    high = math.hypot(math.log(of.high / of.value), math.log(to.value / to.low))
    return Bounds(math.exp(value), math.exp(value - low), math.exp(value + high))


def geometric_mean(ratios: Sequence[Bounds]) -> Bounds:
    """The geometric mean of ratios that are independent, each as uncertain as its interval says."""
    count = len(ratios)
    value = sum(math.log(r.value) for r in ratios) / count
    low = math.hypot(*(math.log(r.value / r.low) for r in ratios)) / count
    high = math.hypot(*(math.log(r.high / r.value) for r in ratios)) / count
    return Bounds(math.exp(value), math.exp(value - low), math.exp(value + high))
