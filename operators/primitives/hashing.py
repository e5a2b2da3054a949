"""Hashes of keys, and texts told apart by their hash."""

# mypy: ignore-errors
from __future__ import annotations

import numpy as np
from numba import njit

from finequery.operators import scalar
from finequery.operators.intrinsics import (
    load_u64,
    p_i64,
    p_u8,
    p_u32,
    p_u64,
)
from finequery.operators.primitives import kernel

mix = njit(error_model="numpy")(scalar.mix)


@kernel("views_of_w")
def views_of_w(t, n, k, args):
    """128-bit values as 16-byte strings: values, out (s)"""
    out = p_i64(args[1])
    for j in range(np.uint64(k)):
        out[j + j] = args[0] + np.int64(j) * 16
        out[j + j + np.uint64(1)] = 16
    return k


@njit(error_model="numpy")
def hash_bytes(address, size):
    """A hash of bytes, 8 at a time; the last word is masked, so bytes past the end are read (padded) but don't
    count."""
    h = np.uint64(size) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(1)
    i = np.int64(0)
    while i + 8 <= size:
        h = (h ^ load_u64(address + i)) * np.uint64(0xD6E8FEB86659FD93)
        h ^= h >> np.uint64(32)
        i += 8
    if i < size:
        word = load_u64(address + i) & ((np.uint64(1) << np.uint64((size - i) * 8)) - np.uint64(1))
        h = (h ^ word) * np.uint64(0xD6E8FEB86659FD93)
        h ^= h >> np.uint64(32)
    return h * np.uint64(0x9E3779B97F4A7C15)


@njit(error_model="numpy")
def same_bytes(a, b, size):
    """Whether two byte ranges are equal (8 at a time, the rest masked)."""
    i = np.int64(0)
    while i + 8 <= size:
        if load_u64(a + i) != load_u64(b + i):
            return False
        i += 8
    if i < size:
        mask = (np.uint64(1) << np.uint64((size - i) * 8)) - np.uint64(1)
        return (load_u64(a + i) & mask) == (load_u64(b + i) & mask)
    return True


@kernel("intern")
def intern(t, n, k, args):
    """Number the distinct strings of ``n`` rows: offsets, chars, validity bitmap or 0, table (2 words a slot: hash,
    number + 1), mask, out (u32), first row of each number (u32); gives how many there are. NULL rows get 0xFFFFFFFF.
    The table has at least twice as many slots as rows."""
    offsets, ok, table, mask = p_i64(args[0]), p_u8(args[2]), p_u64(args[3]), np.uint64(args[4])
    out, firsts, count = p_u32(args[5]), p_u32(args[6]), np.uint64(0)
    chars = args[1]
    for j in range(np.uint64(n)):
        if args[2] != 0 and ((ok[j >> np.uint64(3)] >> np.uint8(j & np.uint64(7))) & np.uint8(1)) == 0:
            out[j] = np.uint32(0xFFFFFFFF)
            continue
        begin = offsets[j]
        size = offsets[j + np.uint64(1)] - begin
        h = hash_bytes(chars + begin, size)
        slot = (h >> np.uint64(20)) & mask
        while True:
            value = table[slot * np.uint64(2) + np.uint64(1)]
            if value == np.uint64(0):
                table[slot * np.uint64(2)] = h
                firsts[count] = np.uint32(j)
                count += np.uint64(1)
                value = count
                table[slot * np.uint64(2) + np.uint64(1)] = value
                break
            if table[slot * np.uint64(2)] == h:
                other = np.uint64(firsts[value - np.uint64(1)])
                if offsets[other + np.uint64(1)] - offsets[other] == size and same_bytes(
                    chars + offsets[other], chars + begin, size
                ):
                    break
            slot = (slot + np.uint64(1)) & mask
        out[j] = np.uint32(value - np.uint64(1))
    return np.int64(count)


@kernel("find_interned")
def find_interned(t, n, k, args):
    """Numbers of strings in a table made by intern: strings (s), offsets, chars, table, mask, first rows, out (i64;
    -1: not there)"""
    x, offsets, chars = p_i64(args[0]), p_i64(args[1]), args[2]
    table, mask, firsts, out = p_u64(args[3]), np.uint64(args[4]), p_u32(args[5]), p_i64(args[6])
    for j in range(np.uint64(k)):
        address, size = x[j + j], x[j + j + np.uint64(1)]
        h = hash_bytes(address, size)
        slot = (h >> np.uint64(20)) & mask
        found = np.int64(-1)
        while True:
            value = table[slot * np.uint64(2) + np.uint64(1)]
            if value == np.uint64(0):
                break
            if table[slot * np.uint64(2)] == h:
                other = np.uint64(firsts[value - np.uint64(1)])
                if offsets[other + np.uint64(1)] - offsets[other] == size and same_bytes(
                    chars + offsets[other], address, size
                ):
                    found = np.int64(value - np.uint64(1))
                    break
            slot = (slot + np.uint64(1)) & mask
        out[j] = found
    return k
