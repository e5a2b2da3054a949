"""Accumulation: over groups numbered by a uint32 vector, and over everything.

Grouped kernels: group, source, stride, index or 0, validity or 0, accumulator. ``index`` gathers from a column at its
stored width. Totals: the same without group; the accumulator is one entry. ``step``: entries of the accumulator's type
from one group number to the next; 1 where it is not given. (In row tables numbers count words: see groups.py.)
"""

# mypy: ignore-errors
from __future__ import annotations

import numpy as np
from numba import njit

from finequery.operators import scalar
from finequery.operators.intrinsics import POINTER, p_f64, p_i64, p_u8, p_u32
from finequery.operators.primitives import kernel


@kernel("count")
def count(t, n, k, args):
    """group, accumulator"""
    group, acc = p_u32(args[0]), p_i64(args[1])
    for j in range(np.uint64(k)):
        acc[group[j]] += 1
    return k


@kernel("count_valid")
def count_valid(t, n, k, args):
    """group, validity, accumulator"""
    group, ok, acc = p_u32(args[0]), p_u8(args[1]), p_i64(args[2])
    for j in range(np.uint64(k)):
        acc[group[j]] += np.int64(ok[j])
    return k


@kernel("total_count")
def total_count(t, n, k, args):
    """accumulator"""
    p_i64(args[0])[0] += k
    return k


@kernel("total_count_valid")
def total_count_valid(t, n, k, args):
    """validity, accumulator"""
    ok, total = p_u8(args[0]), np.int64(0)
    for j in range(np.uint64(k)):
        total += np.int64(ok[j])
    p_i64(args[1])[0] += total
    return k


def _define_sum(source: str) -> None:
    pointer = POINTER[source]
    zero = np.float64(0) if source == "f64" else np.int64(0)
    cast = np.float64 if source == "f64" else np.int64
    accumulator = p_f64 if source == "f64" else p_i64

    @kernel(f"sum_{source}")
    def sum_groups(t, n, k, args):
        group, x, acc = p_u32(args[0]), pointer(args[1] + t * args[2]), accumulator(args[5])
        if args[3] != 0:
            index = p_u32(args[3])
            if args[4] != 0:
                ok = p_u8(args[4])
                for j in range(np.uint64(k)):
                    acc[group[j]] += cast(x[index[j]]) if ok[j] != 0 else zero
            else:
                for j in range(np.uint64(k)):
                    acc[group[j]] += cast(x[index[j]])
        elif args[4] != 0:
            ok = p_u8(args[4])
            for j in range(np.uint64(k)):
                acc[group[j]] += cast(x[j]) if ok[j] != 0 else zero
        else:
            for j in range(np.uint64(k)):
                acc[group[j]] += cast(x[j])
        return k

    @kernel(f"total_sum_{source}")
    def total_sum(t, n, k, args):
        """source, stride, index or 0, validity or 0, accumulator"""
        x, total = pointer(args[0] + t * args[1]), zero
        if args[2] != 0:
            index = p_u32(args[2])
            if args[3] != 0:
                ok = p_u8(args[3])
                for j in range(np.uint64(k)):
                    total += cast(x[index[j]]) if ok[j] != 0 else zero
            else:
                for j in range(np.uint64(k)):
                    total += cast(x[index[j]])
        elif args[3] != 0:
            ok = p_u8(args[3])
            for j in range(np.uint64(k)):
                total += cast(x[j]) if ok[j] != 0 else zero
        else:
            for j in range(np.uint64(k)):
                total += cast(x[j])
        accumulator(args[4])[0] += total
        return k


for _name in ("u8", "u16", "u32", "i64", "f64"):
    _define_sum(_name)


@kernel("sum_w_i64")
def sum_w_i64(t, n, k, args):
    """64-bit values into 128-bit sums: group or 0, source (i64), validity or 0, accumulator (low, high), step"""
    x, acc, step = p_i64(args[1]), p_i64(args[3]), np.uint64(args[4])
    for j in range(np.uint64(k)):
        g = np.uint64(p_u32(args[0])[j]) * step if args[0] != 0 else np.uint64(0)
        if args[2] == 0 or p_u8(args[2])[j] != 0:
            low = acc[g] + x[j]
            acc[g + np.uint64(1)] += (x[j] >> np.int64(63)) + np.int64(np.uint64(low) < np.uint64(x[j]))
            acc[g] = low
    return k


@kernel("sum_w")
def sum_w(t, n, k, args):
    """128-bit values; -2 on overflow: group or 0, source (w), validity or 0, accumulator, step"""
    x, acc, step = p_i64(args[1]), p_i64(args[3]), np.uint64(args[4])
    for j in range(np.uint64(k)):
        g = np.uint64(p_u32(args[0])[j]) * step if args[0] != 0 else np.uint64(0)
        if args[2] == 0 or p_u8(args[2])[j] != 0:
            b, bh, ah = x[j + j], x[j + j + np.uint64(1)], acc[g + np.uint64(1)]
            low = acc[g] + b
            high = ah + bh + np.int64(np.uint64(low) < np.uint64(b))
            if ((ah ^ high) & (bh ^ high)) < 0:
                return np.int64(-2)
            acc[g] = low
            acc[g + np.uint64(1)] = high
    return k


def _define_extreme(name: str, source: str, least: bool) -> None:
    pointer = POINTER[source]
    narrow = source == "u32"

    @njit(error_model="numpy")
    def choose(v, best):
        if least:
            return v if (v < best) | ((best != best) & (v == v)) else best
        return v if (v > best) | ((v != v) & (best == best)) else best

    @kernel(f"group_{name}_{source}")
    def extreme(t, n, k, args):
        """group or 0, source, validity or 0, accumulator, step (of 32-bit accumulators); for f64 NaN is the greatest"""
        x, acc = pointer(args[1]), pointer(args[3])
        step = np.uint64(args[4]) if narrow else np.uint64(1)
        if args[0] == 0:
            best = acc[np.uint64(0)]
            if args[2] == 0:
                for j in range(np.uint64(k)):
                    best = choose(x[j], best)
            else:
                ok = p_u8(args[2])
                for j in range(np.uint64(k)):
                    best = choose(x[j], best) if ok[j] != 0 else best
            acc[np.uint64(0)] = best
            return k
        group = p_u32(args[0])
        if args[2] == 0:
            for j in range(np.uint64(k)):
                g = np.uint64(group[j]) * step
                acc[g] = choose(x[j], acc[g])
        else:
            ok = p_u8(args[2])
            for j in range(np.uint64(k)):
                g = np.uint64(group[j]) * step
                acc[g] = choose(x[j], acc[g]) if ok[j] != 0 else acc[g]
        return k


for _source in ("i64", "f64", "u32"):
    _define_extreme("min", _source, True)
    _define_extreme("max", _source, False)


def _define_extreme_wide(name: str, least: bool) -> None:
    @kernel(f"group_{name}_w")
    def extreme(t, n, k, args):
        """group or 0, source (w), validity or 0, accumulator, step"""
        x, acc, step = p_i64(args[1]), p_i64(args[3]), np.uint64(args[4])
        for j in range(np.uint64(k)):
            g = np.uint64(p_u32(args[0])[j]) * step if args[0] != 0 else np.uint64(0)
            low, high = x[j + j], x[j + j + np.uint64(1)]
            bl, bh = acc[g], acc[g + np.uint64(1)]
            less = (high < bh) | ((high == bh) & (np.uint64(low) < np.uint64(bl)))
            same = (high == bh) & (low == bl)
            better = less if least else (not less) & (not same)
            if better and (args[2] == 0 or p_u8(args[2])[j] != 0):
                acc[g] = low
                acc[g + np.uint64(1)] = high
        return k


_define_extreme_wide("min", True)
_define_extreme_wide("max", False)


@kernel("moments")
def moments(t, n, k, args):
    """Welford's running mean and sum of squared deviations: group or 0, source (f64), validity or 0, accumulator of
    three doubles (count, mean, m2), step. Knuth, The Art of Computer Programming 2, 4.2.2."""
    x, acc, step = p_f64(args[1]), p_f64(args[3]), np.uint64(args[4])
    for j in range(np.uint64(k)):
        g = np.uint64(p_u32(args[0])[j]) * step if args[0] != 0 else np.uint64(0)
        if args[2] == 0 or p_u8(args[2])[j] != 0:
            count_ = acc[g] + 1.0
            delta = x[j] - acc[g + np.uint64(1)]
            mean = acc[g + np.uint64(1)] + delta / count_
            acc[g] = count_
            acc[g + np.uint64(1)] = mean
            acc[g + np.uint64(2)] += delta * (x[j] - mean)
    return k


@kernel("first_row")
def first_row(t, n, k, args):
    """The smallest row number of each group: group or 0, rows (u32), validity or 0, accumulator (u32), step"""
    x, acc, step = p_u32(args[1]), p_u32(args[3]), np.uint64(args[4])
    for j in range(np.uint64(k)):
        g = np.uint64(p_u32(args[0])[j]) * step if args[0] != 0 else np.uint64(0)
        if (x[j] < acc[g]) and (args[2] == 0 or p_u8(args[2])[j] != 0):
            acc[g] = x[j]
    return k


_mantissa = njit(error_model="numpy")(scalar.exact_mantissa)
_square = njit(error_model="numpy")(scalar.exact_square)
_digits = njit(error_model="numpy")(scalar.exact_digits)


@njit(error_model="numpy")
def _add_digits(acc, at, mantissa, place):
    word, low, middle, high = _digits(mantissa, place)
    at += np.uint64(word)
    acc[at] += low
    acc[at + np.uint64(1)] += middle
    acc[at + np.uint64(2)] += high


@kernel("sum_exact")
def sum_exact(t, n, k, args):
    """Exact sums of doubles (scalar.EXACT_BITS): group or 0, source (f64), validity or 0, accumulator, step. A sum in
    fixed point does not depend on the order: Kulisch, "Computer Arithmetic and Validity" (2013), chapter 8."""
    x, acc, step = p_i64(args[1]), p_i64(args[3]), np.uint64(args[4])
    for j in range(np.uint64(k)):
        g = np.uint64(p_u32(args[0])[j]) * step if args[0] != 0 else np.uint64(0)
        if args[2] == 0 or p_u8(args[2])[j] != 0:
            mantissa, place = _mantissa(x[j])
            _add_digits(acc, g, mantissa, place)
    return k


@kernel("sum_exact_squares")
def sum_exact_squares(t, n, k, args):
    """Exact sums of doubles' squares, cut at 2**-1074: as sum_exact"""
    x, acc, step = p_i64(args[1]), p_i64(args[3]), np.uint64(args[4])
    for j in range(np.uint64(k)):
        g = np.uint64(p_u32(args[0])[j]) * step if args[0] != 0 else np.uint64(0)
        if args[2] == 0 or p_u8(args[2])[j] != 0:
            mantissa, place = _mantissa(x[j])
            a, a_place, b, b_place, c, c_place = _square(mantissa, place)
            _add_digits(acc, g, a, a_place)
            _add_digits(acc, g, b, b_place)
            _add_digits(acc, g, c, c_place)
    return k


def _define_few(source: str) -> None:
    pointer = POINTER[source]

    @kernel(f"few_sum_{source}")
    def few_sum(t, n, k, args):
        """Masked sums for a few groups: group (u8), source, stride, number of groups, accumulator. One vectorised pass
        over the tile per group."""
        group, x, acc = p_u8(args[0]), pointer(args[1] + t * args[2]), p_i64(args[4])
        for g in range(np.uint64(args[3])):
            wanted, total = np.uint8(g), np.int64(0)
            for j in range(np.uint64(k)):
                total += np.int64(x[j]) if group[j] == wanted else np.int64(0)
            acc[g] += total
        return k


for _name in ("u8", "u16", "u32", "i64"):
    _define_few(_name)


@kernel("few_count")
def few_count(t, n, k, args):
    """group (u8), number of groups, accumulator"""
    group, acc = p_u8(args[0]), p_i64(args[2])
    for g in range(np.uint64(args[1])):
        wanted, total = np.uint8(g), np.int64(0)
        for j in range(np.uint64(k)):
            total += np.int64(group[j] == wanted)
        acc[g] += total
    return k


@kernel("masked_group")
def masked_group(t, n, k, args):
    """The group number as a byte; rejected rows get one that nobody sums: group (u32), mask, rejected group, out
    (u8)"""
    group, mask, out = p_u32(args[0]), p_u8(args[1]), p_u8(args[3])
    reject = np.uint8(args[2])
    for j in range(np.uint64(k)):
        out[j] = np.uint8(group[j]) if mask[j] != 0 else reject
    return k


@kernel("byte_group")
def byte_group(t, n, k, args):
    """group (u32), out (u8)"""
    group, out = p_u32(args[0]), p_u8(args[1])
    for j in range(np.uint64(k)):
        out[j] = np.uint8(group[j])
    return k


@kernel("trash_group")
def trash_group(t, n, k, args):
    """group (u32), mask, rejected group, out (u32)"""
    group, mask, out, reject = p_u32(args[0]), p_u8(args[1]), p_u32(args[3]), np.uint32(args[2])
    for j in range(np.uint64(k)):
        out[j] = group[j] if mask[j] != 0 else reject
    return k


@kernel("find_groups")
def find_groups(t, n, k, args):
    """Numbers of the groups that occur, of ``n`` presence counts: counts, out (u32); gives how many"""
    counts, out, z = p_i64(args[0]), p_u32(args[1]), np.uint64(0)
    for g in range(np.uint64(n)):
        out[z] = np.uint32(g)
        z += np.uint64(counts[g] != 0)
    return np.int64(z)


@kernel("merge_moments")
def merge_moments(t, n, k, args):
    """Moments of another thread into these, group by group: target, source, map (u32) or 0, step of the target. Chan,
    Golub, LeVeque, "Updating formulae and a pairwise algorithm for computing sample variances" (1979)."""
    a, b = p_f64(args[0]), p_f64(args[1])
    for j in range(np.uint64(n)):
        i = j * np.uint64(3)
        g = np.uint64(p_u32(args[2])[j]) * np.uint64(args[3]) if args[2] != 0 else i
        nb = b[i]
        if nb > 0:
            na = a[g]
            total = na + nb
            delta = b[i + np.uint64(1)] - a[g + np.uint64(1)]
            a[g + np.uint64(1)] += delta * nb / total
            a[g + np.uint64(2)] += b[i + np.uint64(2)] + delta * delta * na * nb / total
            a[g] = total
    return np.int64(0)


@kernel("wide_sum_merge")
def wide_sum_merge(t, n, k, args):
    """128-bit sums of another thread into these: target, source, map (u32) or 0, step of the target"""
    a, b = p_i64(args[0]), p_i64(args[1])
    for j in range(np.uint64(n)):
        i = j * np.uint64(2)
        g = np.uint64(p_u32(args[2])[j]) * np.uint64(args[3]) if args[2] != 0 else i
        low = a[g] + b[i]
        a[g + np.uint64(1)] += b[i + np.uint64(1)] + np.int64(np.uint64(low) < np.uint64(b[i]))
        a[g] = low
    return np.int64(0)


def _define_wide_merge(name: str, least: bool) -> None:
    @kernel(f"wide_{name}_merge")
    def merge(t, n, k, args):
        """target, source, map (u32) or 0, step of the target"""
        a, b = p_i64(args[0]), p_i64(args[1])
        for j in range(np.uint64(n)):
            i = j * np.uint64(2)
            g = np.uint64(p_u32(args[2])[j]) * np.uint64(args[3]) if args[2] != 0 else i
            low, high, bl, bh = b[i], b[i + np.uint64(1)], a[g], a[g + np.uint64(1)]
            less = (high < bh) | ((high == bh) & (np.uint64(low) < np.uint64(bl)))
            same = (high == bh) & (low == bl)
            if less if least else (not less) & (not same):
                a[g] = low
                a[g + np.uint64(1)] = high
        return np.int64(0)


_define_wide_merge("min", True)
_define_wide_merge("max", False)


@njit(error_model="numpy")
def _decoded(x, counts, base, scale, g, counted):
    """base * count + scale * x of a group; 0 where it has no count."""
    if counted:
        c = counts[g]
        return base * c + scale * x[g] if c != 0 else np.int64(0)
    return scale * x[g]


@kernel("decoded_bounds")
def decoded_bounds(first, end, thread, args):
    """Bounds of the decoded sums or extremes of groups (a range kernel): accumulator (i64), picked groups (u32) or 0
    (all in order), counts (i64) or 0, base (used with counts), scale, out: 8 words per thread, of them lowest, highest
    (of groups with a count) and the number of groups without."""
    x, pick, counts = p_i64(args[0]), p_u32(args[1]), p_i64(args[2])
    base, scale, out = args[3], args[4], p_i64(args[5] + thread * 64)
    low, high, nulls = out[np.uint64(0)], out[np.uint64(1)], np.int64(0)
    picked, counted = args[1] != 0, args[2] != 0
    if not picked and not counted:
        for j in range(np.uint64(first), np.uint64(end)):
            v = scale * x[j]
            low = min(low, v)
            high = max(high, v)
    else:
        for j in range(np.uint64(first), np.uint64(end)):
            g = np.uint64(pick[j]) if picked else j
            v = _decoded(x, counts, base, scale, g, counted)
            empty = counted and counts[g] == 0
            low = low if empty else min(low, v)
            high = high if empty else max(high, v)
            nulls += np.int64(empty)
    out[np.uint64(0)], out[np.uint64(1)] = low, high
    out[np.uint64(2)] += nulls
    return np.int64(0)


def _define_decoded(item: str, cast) -> None:
    pointer = POINTER[item]

    @kernel(f"decoded_{item}")
    def decoded(first, end, thread, args):
        """Write decoded sums or extremes (a range kernel): accumulator (i64), picked groups (u32) or 0, counts (i64) or
        0, base, scale, what is taken off, out. 0 is written for groups without a count."""
        x, pick, counts = p_i64(args[0]), p_u32(args[1]), p_i64(args[2])
        base, scale, shift, out = args[3], args[4], args[5], pointer(args[6])
        picked, counted = args[1] != 0, args[2] != 0
        if not picked and not counted:
            for j in range(np.uint64(first), np.uint64(end)):
                out[j] = cast(scale * x[j] - shift)
        else:
            for j in range(np.uint64(first), np.uint64(end)):
                g = np.uint64(pick[j]) if picked else j
                empty = counted and counts[g] == 0
                v = _decoded(x, counts, base, scale, g, counted) - shift
                out[j] = cast(0) if empty else cast(v)
        return np.int64(0)


for _item, _cast in (("u8", np.uint8), ("u16", np.uint16), ("u32", np.uint32), ("i64", np.int64)):
    _define_decoded(_item, _cast)
