"""Exact sums of doubles, which do not depend on the order they are added up in (the setting ``deterministic``).

A sum is an integer of 2**-1074 in fixed point (``scalar.exact_digits``), added up by integer instructions; so any
threads, blocks and devices give the same bits. Here it is rounded, once: sums are the doubles nearest to the real
sums, variances and deviations those nearest to the real ones of the given values. Squares are cut at 2**-1074, which
shows where variances are as small as that alone.
"""

from __future__ import annotations

import numpy as np

from finequery.operators.scalar import EXACT_BITS, EXACT_DIGITS

#: The first digit's place: the smallest double is 2**-1074.
PLACE = 1074


def rounded(words: np.ndarray) -> np.ndarray:
    """The sums of rows of EXACT_WORDS words, as doubles: infinite where they pass the largest or had an infinite
    summand; NaN where NaN or both infinities were among the summands."""
    totals, shift = _integers(words)
    found = np.fromiter((_double(t, shift) for t in totals), np.float64, len(totals))
    return _with_special(words, found)


def variances(words: np.ndarray, squares: np.ndarray, counts: np.ndarray, less: int) -> np.ndarray:
    """From sums of values and of their squares: the sums of squared deviations from the mean, over ``counts`` less
    ``less``. (n * sum of squares - square of the sum) / (n * (n - less)), in integers until the division. NaN where
    a square is no finite double."""
    totals, shift = _integers(words)
    square_totals, square_shift = _integers(squares)
    both = min(2 * shift - PLACE, square_shift)  # squares of 2**(shift - 1074) are of 2**(2 * shift - 2148)
    found = np.zeros(len(totals))
    for g, (total, square, n) in enumerate(zip(totals, square_totals, counts.tolist())):
        if n > less:
            above = n * (square << (square_shift - both)) - (total * total << (2 * shift - PLACE - both))
            found[g] = _double(max(above, 0), both, n * (n - less))
    return np.where(np.isfinite(_with_special(squares, found)), found, np.nan)


def _integers(words: np.ndarray) -> tuple[list[int], int]:
    """The sums as integers of 2**(shift - 1074), and the shift."""
    digits = words[:, :EXACT_DIGITS]
    used = np.flatnonzero(digits.any(axis=0))
    if not len(used):
        return [0] * len(words), 0
    totals = np.zeros(len(words), dtype=object)
    for digit in range(int(used[-1]), int(used[0]) - 1, -1):
        totals = totals * (1 << EXACT_BITS) + digits[:, digit].astype(object)
    return totals.tolist(), EXACT_BITS * int(used[0])


def _double(total: int, shift: int, divisor: int = 1) -> float:
    """total * 2**(shift - 1074) / divisor, rounded once (Python divides integers so)."""
    try:
        if shift >= PLACE:
            return (total << (shift - PLACE)) / divisor
        return total / (divisor << (PLACE - shift))
    except OverflowError:
        return float("inf") if total > 0 else float("-inf")


def _with_special(words: np.ndarray, found: np.ndarray) -> np.ndarray:
    above, below, nan = (words[:, EXACT_DIGITS + n] > 0 for n in range(3))
    found = np.where(above, np.inf, np.where(below, -np.inf, found))
    return np.where(nan | (above & below), np.nan, found)
