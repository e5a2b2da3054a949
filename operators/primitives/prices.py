"""The performance model's regressors, evaluated for many rows in one call (perfmodel/trees.py packs the arrays)."""

# mypy: ignore-errors
from __future__ import annotations

import numpy as np

from finequery.operators.intrinsics import p_f32, p_f64, p_i32, p_i64, p_u16
from finequery.operators.primitives import kernel


@kernel("price_trees")
def price_trees(t, n, k, args):
    """x (n rows of ``stride`` f32, the last of them 1; clamped in place), stride, model (i32, one a row), low and high
    (f32, a row of stride - 1 a model), bias (f64); terms: start (i64, models + 1), left and right factor (u16), weight
    (f64); trees: start (i64, models + 1), depth (i64), first node (i64), feature (u16), threshold (f32), first leaf
    (i64), leaf (f32); out (f64): the regressor's value; outside (f64): how far the row lay outside of low to high.

    Rows of one model should stand together: its trees are then walked for all of them, one tree after another."""
    x, stride, model = p_f32(args[0]), np.uint64(args[1]), p_i32(args[2])
    low, high, bias = p_f32(args[3]), p_f32(args[4]), p_f64(args[5])
    term_start, left, right, weight = p_i64(args[6]), p_u16(args[7]), p_u16(args[8]), p_f64(args[9])
    tree_start, depths, node_start = p_i64(args[10]), p_i64(args[11]), p_i64(args[12])
    feature, threshold = p_u16(args[13]), p_f32(args[14])
    leaf_start, leaf = p_i64(args[15]), p_f32(args[16])
    out, outside = p_f64(args[17]), p_f64(args[18])
    one, rows, first = np.uint64(1), np.uint64(n), np.uint64(0)
    columns = stride - one
    while first < rows:
        m = np.uint64(model[first])
        end = first + one
        while end < rows and np.uint64(model[end]) == m:
            end += one
        term, last_term = np.uint64(term_start[m]), np.uint64(term_start[m + one])
        for row in range(first, end):
            at, far = row * stride, 0.0
            for j in range(columns):
                v, least, most = x[at + j], low[m * columns + j], high[m * columns + j]
                span = np.float64(most - least)
                if v < least:
                    far += min(np.float64(least - v) / span, 1.0) if span > 0.0 else 1.0
                    x[at + j] = least
                elif v > most:
                    far += min(np.float64(v - most) / span, 1.0) if span > 0.0 else 1.0
                    x[at + j] = most
            total = bias[m]
            for j in range(term, last_term):
                a, b = x[at + np.uint64(left[j])], x[at + np.uint64(right[j])]
                total += weight[j] * (np.float64(a) * np.float64(b))
            out[row] = total
            outside[row] = far
        depth = np.uint64(depths[m])
        leaves = one << depth
        node, at_leaf = np.uint64(node_start[m]), np.uint64(leaf_start[m])
        for _ in range(np.uint64(tree_start[m]), np.uint64(tree_start[m + one])):
            for row in range(first, end):
                at, place = row * stride, np.uint64(0)
                for _ in range(depth):
                    split = node + place
                    place = place + place + one
                    if x[at + np.uint64(feature[split])] > threshold[split]:
                        place += one
                out[row] += np.float64(leaf[at_leaf + place - (leaves - one)])
            node += leaves - one
            at_leaf += leaves
        first = end
    return n
