"""Folds over ranges of positions: a binary tree over all of them, whose nodes each row puts together for its own range
(Leis et al., "Efficient Processing of Window Functions in Analytical SQL Queries", VLDB 2015)."""

# mypy: ignore-errors
# ruff: noqa: F821
from __future__ import annotations

from typing import Any

from finequery.operators.cuda.launch import launch


def leaves(device: Any, count: int, dtype: Any) -> Any:
    """An array for a tree over ``count`` values, whose leaves are its second half, at least one more; not filled."""
    return device.empty(2 << count.bit_length(), dtype)


def fold(device: Any, count: int, tree: Any, low: Any, high: Any, least: bool) -> Any:
    """The least value, or the sum, of [low, high) for each of ``count`` ranges. ``tree``: of ``leaves``, with the
    values in the first ``count`` leaves and in the others what changes nothing. O(log n) steps a range."""
    size = tree.size // 2
    width = size // 2
    while width:
        launch(join_least if least else join_sums, device, width, tree)
        width //= 2
    found = device.empty(count, tree.dtype)
    launch(fold_least if least else fold_sums, device, count, size, low, high, tree, found)
    return found


def join_least(n, tree):
    """The nodes of one level from those below."""
    for i in range(cuda.grid(1), n, cuda.gridsize(1)):
        tree[n + i] = min(tree[2 * (n + i)], tree[2 * (n + i) + 1])


def join_sums(n, tree):
    """The same of sums."""
    for i in range(cuda.grid(1), n, cuda.gridsize(1)):
        tree[n + i] = tree[2 * (n + i)] + tree[2 * (n + i) + 1]


def fold_least(n, size, low, high, tree, found):
    """The nodes that cover each range, from the leaves up; the last leaf's value where the range is empty."""
    for p in range(cuda.grid(1), n, cuda.gridsize(1)):
        a, b, best = low[p] + size, high[p] + size, tree[2 * size - 1]
        while a < b:
            if a & 1:
                best = min(best, tree[a])
                a += 1
            if b & 1:
                b -= 1
                best = min(best, tree[b])
            a >>= 1
            b >>= 1
        found[p] = best


def fold_sums(n, size, low, high, tree, found):
    """The same of sums, in the order of ``operators.window_frames``."""
    for p in range(cuda.grid(1), n, cuda.gridsize(1)):
        a, b, total = low[p] + size, high[p] + size, tree[2 * size - 1]
        while a < b:
            if a & 1:
                total += tree[a]
                a += 1
            if b & 1:
                b -= 1
                total += tree[b]
            a >>= 1
            b >>= 1
        found[p] = total
