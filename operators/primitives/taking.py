"""Gathering rows by number, of all kinds of columns: range kernels over the positions of the result.

Row number 0xFFFFFFFF stands for no row: it gives the stored value 0, and NULL.
"""

# mypy: ignore-errors
from __future__ import annotations

import numpy as np

from finequery.operators.intrinsics import POINTER, copy_bytes, load_u64, p_i64, p_u8, p_u32, p_u64, popcount
from finequery.operators.primitives import kernel

NO_ROW = np.uint32(0xFFFFFFFF)


def _define(width: int, pointer) -> None:
    @kernel(f"take_{width}")
    def take(first, end, thread, args):
        """source, rows, out, 1 if row numbers may be missing"""
        x, rows, out = pointer(args[0]), p_u32(args[1]), pointer(args[2])
        if args[3] == 0:
            for i in range(np.uint64(first), np.uint64(end)):
                out[i] = x[np.uint64(rows[i])]
        else:
            for i in range(np.uint64(first), np.uint64(end)):
                row = rows[i]
                out[i] = x[np.uint64(row)] if row != NO_ROW else x[np.uint64(0)] ^ x[np.uint64(0)]
        return np.int64(0)


for _width, _name in ((1, "u8"), (2, "u16"), (4, "u32"), (8, "u64")):
    _define(_width, POINTER[_name])


@kernel("take_16")
def take_16(first, end, thread, args):
    x, rows, out = p_u64(args[0]), p_u32(args[1]), p_u64(args[2])
    for i in range(np.uint64(first), np.uint64(end)):
        row, low, high = np.uint64(rows[i]), np.uint64(0), np.uint64(0)
        if args[3] == 0 or rows[i] != NO_ROW:
            low, high = x[row + row], x[row + row + np.uint64(1)]
        out[i + i], out[i + i + np.uint64(1)] = low, high
    return np.int64(0)


@kernel("take_valid")
def take_valid(first, end, thread, args):
    """bitmap or 0 (all valid), rows, out, 1 if row numbers may be missing: bits; ranges start at multiples of 64 and
    the whole last word is written"""
    bitmap, rows, out, one = p_u8(args[0]), p_u32(args[1]), p_u64(args[2]), np.uint64(1)
    i = np.uint64(first)
    while i < np.uint64(end):
        word = np.uint64(0)
        for b in range(min(np.uint64(64), np.uint64(end) - i)):
            row = rows[i + b]
            bit = np.uint64(1)
            if args[3] != 0 and row == NO_ROW:
                bit = np.uint64(0)
            elif args[0] != 0:
                r = np.uint64(row)
                bit = np.uint64(bitmap[r >> np.uint64(3)] >> np.uint8(r & np.uint64(7))) & one
            word |= bit << b
        out[i >> np.uint64(6)] = word
        i += np.uint64(64)
    return np.int64(0)


@kernel("count_bits")
def count_bits(first, end, thread, args):
    """bitmap, 8 words per thread (number): over 64-bit words"""
    x, found = p_u64(args[0]), p_i64(args[1] + thread * 64)
    total = np.uint64(0)
    for i in range(np.uint64(first), np.uint64(end)):
        total += popcount(x[i])
    found[0] += np.int64(total)
    return np.int64(0)


@kernel("take_lengths")
def take_lengths(first, end, thread, args):
    """offsets, rows, offsets of the result, rows per morsel, bytes of each morsel: ends, counted from the start of the
    morsel"""
    offsets, rows, out = p_i64(args[0]), p_u32(args[1]), p_i64(args[2])
    total = np.int64(0)
    for i in range(np.uint64(first), np.uint64(end)):
        row = np.uint64(rows[i])
        if rows[i] != NO_ROW:
            total += offsets[row + np.uint64(1)] - offsets[row]
        out[i + np.uint64(1)] = total
    p_i64(args[4])[first // args[3]] = total
    return np.int64(0)


@kernel("take_bytes")
def take_bytes(first, end, thread, args):
    """offsets, rows, offsets of the result, rows per morsel, where the bytes of each morsel start, chars, chars of the
    result: makes the offsets absolute too"""
    offsets, rows, out = p_i64(args[0]), p_u32(args[1]), p_i64(args[2])
    start = p_i64(args[4])[first // args[3]]
    at, last = start, p_i64(args[4])[first // args[3] + 1]
    for i in range(np.uint64(first), np.uint64(end)):
        upto = out[i + np.uint64(1)] + start
        out[i + np.uint64(1)] = upto
        size = upto - at
        if size > 0:
            source = args[5] + offsets[np.uint64(rows[i])]
            if size <= 16 and at + 16 <= last:
                # What goes past this string's end belongs to the next ones of this range, which are written later.
                p_u64(args[6] + at)[np.uint64(0)] = load_u64(source)
                if size > 8:
                    p_u64(args[6] + at + 8)[np.uint64(0)] = load_u64(source + 8)
            else:
                copy_bytes(args[6] + at, source, size)
        at = upto
    return np.int64(0)
