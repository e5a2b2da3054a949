"""Window functions: range kernels over the positions of a sorted order.

``flags`` has a byte for each position: 1 where its row's order keys differ from the row's before, 2 where a partition
starts. A range always holds whole partitions. Results go to the rows where they belong.
"""

# mypy: ignore-errors
from __future__ import annotations

import numpy as np
from numba import njit

from finequery.operators.intrinsics import (
    add128,
    double_of,
    mul128,
    p_f64,
    p_i64,
    p_u8,
    p_u32,
    p_u64,
)
from finequery.operators.primitives import kernel
from finequery.operators.primitives.sort_keys import TILE, encode

NO_ROW = np.uint32(0xFFFFFFFF)
ONE = np.uint64(1)
_step = njit(error_model="numpy")


@_step
def next_start(flags, p, end, bit):
    """The first position from ``p`` that has the bit, or ``end``."""
    x = p_u8(flags)
    while p < end and x[np.uint64(p)] & bit == 0:
        p += 1
    return p


@kernel("window_bounds")
def window_bounds(t, n, k, args):
    """flags, rows, least rows of a range, out: ends of ranges of whole partitions; gives their number"""
    p, count, out = np.int64(0), np.int64(0), p_i64(args[3])
    while p < args[1]:
        p = next_start(args[0], min(p + args[2], args[1]), args[1], np.uint8(2))
        out[np.uint64(count)] = p
        count += 1
    return count


@kernel("window_rank")
def window_rank(first, end, thread, args):
    """order, flags, out (u32), 0 row_number, 1 rank, 2 dense_rank"""
    order, flags, out, mode = p_u32(args[0]), p_u8(args[1]), p_u32(args[2]), args[3]
    number, rank, dense = np.uint32(0), np.uint32(0), np.uint32(0)
    for p in range(np.uint64(first), np.uint64(end)):
        flag = flags[p]
        if flag & np.uint8(2):
            number, dense = np.uint32(0), np.uint32(0)
        number += np.uint32(1)
        if flag != np.uint8(0):
            rank = number
            dense += np.uint32(1)
        out[np.uint64(order[p])] = number if mode == 0 else rank if mode == 1 else dense
    return np.int64(0)


@kernel("window_share")
def window_share(first, end, thread, args):
    """order, flags, out (f64), 0 percent_rank, 1 cume_dist"""
    order, out, s = p_u32(args[0]), p_f64(args[2]), first
    while s < end:
        e = next_start(args[1], s + 1, end, np.uint8(2))
        g = s
        while g < e:
            h = next_start(args[1], g + 1, e, np.uint8(1))
            if args[3] == 1:
                share = np.float64(h - s) / np.float64(e - s)
            else:
                share = np.float64(g - s) / np.float64(max(e - s - 1, np.int64(1)))
            for p in range(np.uint64(g), np.uint64(h)):
                out[np.uint64(order[p])] = share
            g = h
        s = e
    return np.int64(0)


@kernel("window_ntile")
def window_ntile(first, end, thread, args):
    """order, flags, out (i64), buckets, buckets by row (i64) or 0"""
    order, out, s = p_u32(args[0]), p_i64(args[2]), first
    while s < end:
        e = next_start(args[1], s + 1, end, np.uint8(2))
        for p in range(np.uint64(s), np.uint64(e)):
            row = np.uint64(order[p])
            buckets = args[3] if args[4] == 0 else p_i64(args[4])[row]
            at, small = np.int64(p) - s, (e - s) // buckets
            large = (e - s) - small * buckets  # so many buckets have one row more
            if at < large * (small + 1):
                out[row] = at // (small + 1) + 1
            else:
                out[row] = large + (at - large * (small + 1)) // max(small, np.int64(1)) + 1
        s = e
    return np.int64(0)


@kernel("window_shift")
def window_shift(first, end, thread, args):
    """order, flags, out (u32), offset, offsets by row (i64) or 0, sign, number of rows or 0: the row to read. Where
    there is none: the row's own number above the number of rows (its default), or NO_ROW."""
    order, out, s = p_u32(args[0]), p_u32(args[2]), first
    while s < end:
        e = next_start(args[1], s + 1, end, np.uint8(2))
        for p in range(np.uint64(s), np.uint64(e)):
            row = np.uint64(order[p])
            offset = args[3] if args[4] == 0 else p_i64(args[4])[row]
            q = np.int64(p) + offset * args[5]
            if s <= q < e:
                out[row] = order[np.uint64(q)]
            else:
                out[row] = np.uint32(row + np.uint64(args[6])) if args[6] != 0 else NO_ROW
        s = e
    return np.int64(0)


@kernel("window_nth")
def window_nth(first, end, thread, args):
    """order, flags, out (u32), running, number from 1 or 0 for the last, numbers by row (i64) or 0: the row to read, or
    NO_ROW"""
    order, out, s = p_u32(args[0]), p_u32(args[2]), first
    bit = np.uint8(1) if args[3] else np.uint8(2)
    while s < end:
        e = next_start(args[1], s + 1, end, np.uint8(2))
        g = s
        while g < e:
            h = next_start(args[1], g + 1, e, bit)
            for p in range(np.uint64(g), np.uint64(h)):
                row = np.uint64(order[p])
                number = args[4] if args[5] == 0 else p_i64(args[5])[row]
                if args[5] == 0 and number == 0:
                    out[row] = order[np.uint64(h - 1)]
                elif 1 <= number <= h - s:
                    out[row] = order[np.uint64(s + number - 1)]
                else:
                    out[row] = NO_ROW
            g = h
        s = e
    return np.int64(0)


@kernel("window_least")
def window_least(first, end, thread, args):
    """order, flags, out (u32), running, program over the order, scratch: the row with the least word of the frame"""
    order, flags, out = p_u32(args[0]), p_u8(args[1]), p_u32(args[2])
    words = args[5] + thread * ((TILE + 1) * 8)
    x, close = p_u64(words), np.uint8(3) if args[3] else np.uint8(2)
    best, least, group, t = NO_ROW, np.uint64(0), np.uint64(first), first
    while t < end:
        n = min(np.int64(TILE), end - t)
        encode(args[4], t, n, words)
        for j in range(np.uint64(n)):
            p = np.uint64(t) + j
            if flags[p] & close:
                for i in range(group, p):
                    out[np.uint64(order[i])] = best
                group = p
            if flags[p] & np.uint8(2) or x[j] < least:
                best, least = order[p], x[j]
        t += n
    for i in range(group, np.uint64(end)):
        out[np.uint64(order[i])] = best
    return np.int64(0)


@_step
def valid_at(validity, row):
    return np.int64((p_u8(validity)[row >> np.uint64(3)] >> np.uint8(row & np.uint64(7))) & np.uint8(1))


@kernel("window_count")
def window_count(first, end, thread, args):
    """order, flags, out (u32), running, validity or 0"""
    order, flags, out = p_u32(args[0]), p_u8(args[1]), p_u32(args[2])
    close = np.uint8(3) if args[3] else np.uint8(2)
    count, group = np.int64(0), np.uint64(first)
    for p in range(np.uint64(first), np.uint64(end)):
        if flags[p] & close:
            for i in range(group, p):
                out[np.uint64(order[i])] = np.uint32(count)
            group = p
            if flags[p] & np.uint8(2):
                count = np.int64(0)
        count += 1 if args[4] == 0 else valid_at(args[4], np.uint64(order[p]))
    for i in range(group, np.uint64(end)):
        out[np.uint64(order[i])] = np.uint32(count)
    return np.int64(0)


@_step
def double_of_128(low, high):
    negative = np.int64(high) < 0
    if negative:
        low, high = add128(~low, ~high, ONE, np.uint64(0))
    size = np.float64(low) + np.float64(high) * 18446744073709551616.0
    return -size if negative else size


@_step
def emit_sum(order, group, end, low, high, count, base, scale, out, mode, valid, divisor):
    """Write base * count + scale * (low, high) to a group of rows: as i64, as 128 bits, or divided as a double."""
    total_low, total_high = mul128(low, high, np.uint64(scale), np.uint64(scale >> 63))
    low, high = mul128(np.uint64(base), np.uint64(base >> 63), np.uint64(count), np.uint64(0))
    low, high = add128(total_low, total_high, low, high)
    rows, some = p_u32(order), np.uint8(count > 0)
    if count == 0:
        low, high = np.uint64(0), np.uint64(0)
    mean = 0.0
    if mode == 2:
        mean = double_of_128(low, high) / np.float64(max(count, np.int64(1))) / divisor
    for i in range(group, end):
        row = np.uint64(rows[i])
        if mode == 0:
            p_u64(out)[row] = low
        elif mode == 1:
            p_u64(out)[row + row], p_u64(out)[row + row + ONE] = low, high
        else:
            p_f64(out)[row] = mean
        if valid != 0:
            p_u8(valid)[row] = some


@kernel("window_sum")
def window_sum(first, end, thread, args):
    """order, flags, out, running, program over the order (low words), program (high words) or 0 (their sign), scratch
    (2 tiles), validity or 0, base, scale, mode (0 i64, 1 i128, 2 mean as f64), valid bytes or 0, divisor of means:
    exact sums; NULL is stored as 0. -2: more than 128 bits."""
    order, flags = p_u32(args[0]), p_u8(args[1])
    words = args[6] + thread * ((TILE + 1) * 16)
    x, y, close = p_u64(words), p_i64(words + (TILE + 1) * 8), np.uint8(3) if args[3] else np.uint8(2)
    divisor = double_of(args[12])
    low, high, count = np.uint64(0), np.uint64(0), np.int64(0)
    group, t = np.uint64(first), first
    while t < end:
        n = min(np.int64(TILE), end - t)
        encode(args[4], t, n, words)
        if args[5] != 0:
            encode(args[5], t, n, words + (TILE + 1) * 8)
        for j in range(np.uint64(n)):
            p = np.uint64(t) + j
            if flags[p] & close and p > group:
                emit_sum(args[0], group, p, low, high, count, args[8], args[9], args[2], args[10], args[11], divisor)
                group = p
            if flags[p] & np.uint8(2):
                low, high, count = np.uint64(0), np.uint64(0), np.int64(0)
            top = y[j] if args[5] != 0 else np.int64(x[j]) >> 63
            before = np.int64(high)
            low, high = add128(low, high, x[j], np.uint64(top))
            if (before ^ np.int64(high)) & (top ^ np.int64(high)) < 0:
                return np.int64(-2)
            count += 1 if args[7] == 0 else valid_at(args[7], np.uint64(order[p]))
        t += n
    emit_sum(args[0], group, np.uint64(end), low, high, count, args[8], args[9], args[2], args[10], args[11], divisor)
    return np.int64(0)


@_step
def emit_float(order, group, end, total, count, out, mode, valid):
    rows, some = p_u32(order), np.uint8(count > 0)
    if mode == 2:
        total /= np.float64(max(count, np.int64(1)))
    if count == 0:
        total = 0.0
    for i in range(group, end):
        row = np.uint64(rows[i])
        p_f64(out)[row] = total
        if valid != 0:
            p_u8(valid)[row] = some


@kernel("window_sum_float")
def window_sum_float(first, end, thread, args):
    """As window_sum, of doubles: mode 1 sum, 2 mean"""
    order, flags = p_u32(args[0]), p_u8(args[1])
    words = args[6] + thread * ((TILE + 1) * 16)
    x, close = p_f64(words), np.uint8(3) if args[3] else np.uint8(2)
    total, count = 0.0, np.int64(0)
    group, t = np.uint64(first), first
    while t < end:
        n = min(np.int64(TILE), end - t)
        encode(args[4], t, n, words)
        for j in range(np.uint64(n)):
            p = np.uint64(t) + j
            if flags[p] & close and p > group:
                emit_float(args[0], group, p, total, count, args[2], args[10], args[11])
                group = p
            if flags[p] & np.uint8(2):
                total, count = 0.0, np.int64(0)
            total += x[j]
            count += 1 if args[7] == 0 else valid_at(args[7], np.uint64(order[p]))
        t += n
    emit_float(args[0], group, np.uint64(end), total, count, args[2], args[10], args[11])
    return np.int64(0)
