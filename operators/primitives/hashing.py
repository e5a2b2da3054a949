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
    prefetch,
)
from finequery.operators.primitives import kernel

mix = njit(error_model="numpy")(scalar.mix)
#: Rows ahead of which offsets and characters are fetched.
FAR, NEAR = np.uint64(24), np.uint64(12)
LOW = np.uint64(0xFFFFFFFF)


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


@njit(error_model="numpy")
def is_null(validity, row):
    """Whether the bit of a row is not set in a bitmap, if there is one."""
    if validity == 0:
        return False
    return ((p_u8(validity)[row >> np.uint64(3)] >> np.uint8(row & np.uint64(7))) & np.uint8(1)) == 0


@njit(error_model="numpy")
def first_slot(h, slots):
    """Where a search begins: the middle of a hash, brought to the number of slots; parts are by its top."""
    return (((h >> np.uint64(16)) & LOW) * slots) >> np.uint64(32)


@kernel("hash_texts")
def hash_texts(first, end, thread, args):
    """As a range kernel: offsets, chars, validity bitmap or 0, out (u64). NULL has hash 0."""
    offsets, out = p_i64(args[0]), p_u64(args[3])
    for j in range(np.uint64(first), np.uint64(end)):
        if is_null(args[2], j):
            out[j] = np.uint64(0)
        else:
            out[j] = hash_bytes(args[1] + offsets[j], offsets[j + np.uint64(1)] - offsets[j])
    return np.int64(0)


@kernel("first_texts")
def first_texts(first, end, thread, args):
    """The row that has a text first, for rows of one part. As a range kernel over all parts: rows (u32, ascending in a
    part), their hashes, table (a word for each slot, two slots for each row: the high half of the hash, and the row +
    1), out (u32, by row; NULL: 0xFFFFFFFF), offsets, chars, validity bitmap or 0."""
    rows, hashes, offsets, out = p_u32(args[0]), p_u64(args[1]), p_i64(args[4]), p_u32(args[3])
    chars, table, slots = args[5], p_u64(args[2] + first * 16), np.uint64(end - first) * np.uint64(2)
    for r in range(np.uint64(first), np.uint64(end)):
        if r + FAR < np.uint64(end):
            prefetch(args[4] + np.int64(rows[r + FAR]) * 8)
            prefetch(chars + offsets[np.uint64(rows[r + NEAR])])
        row = np.uint64(rows[r])
        if is_null(args[6], row):
            out[row] = np.uint32(0xFFFFFFFF)
            continue
        begin, h = offsets[row], hashes[r]
        size = offsets[row + np.uint64(1)] - begin
        slot = first_slot(h, slots)
        while True:
            entry = table[slot]
            if entry == np.uint64(0):
                table[slot] = (h & ~LOW) | (row + np.uint64(1))
                out[row] = np.uint32(row)
                break
            if (entry ^ h) >> np.uint64(32) == np.uint64(0):
                other = (entry & LOW) - np.uint64(1)
                if offsets[other + np.uint64(1)] - offsets[other] == size and same_bytes(
                    chars + offsets[other], chars + begin, size
                ):
                    out[row] = np.uint32(other)
                    break
            slot = np.uint64(0) if slot + np.uint64(1) == slots else slot + np.uint64(1)
    return np.int64(0)


@kernel("first_keys")
def first_keys(first, end, thread, args):
    """The same of integers: rows, their keys (i64), table (two words for each row: place among these keys + 1), out."""
    rows, keys, out = p_u32(args[0]), p_u64(args[1]), p_u32(args[3])
    table, slots = p_u64(args[2] + first * 16), np.uint64(end - first) * np.uint64(2)
    for r in range(np.uint64(first), np.uint64(end)):
        key = keys[r]
        slot = first_slot(mix(key), slots)
        while True:
            entry = table[slot]
            if entry == np.uint64(0):
                table[slot] = r + np.uint64(1)
                out[np.uint64(rows[r])] = rows[r]
                break
            if keys[entry - np.uint64(1)] == key:
                out[np.uint64(rows[r])] = rows[entry - np.uint64(1)]
                break
            slot = np.uint64(0) if slot + np.uint64(1) == slots else slot + np.uint64(1)
    return np.int64(0)


@kernel("renumber")
def renumber(first, end, thread, args):
    """As a range kernel: numbers by place (u32), places (u32, become the numbers), a place that stays as it is."""
    numbers, places, kept = p_u32(args[0]), p_u32(args[1]), np.uint32(args[2])
    for j in range(np.uint64(first), np.uint64(end)):
        if places[j] != kept:
            places[j] = numbers[np.uint64(places[j])]
    return np.int64(0)


@kernel("index_texts")
def index_texts(t, n, k, args):
    """A table of n distinct texts: hash of each row, first row of each text (u32), table (2 words a slot: hash, number
    + 1), mask. It has at least twice as many slots as texts."""
    hashes, firsts, table, mask = p_u64(args[0]), p_u32(args[1]), p_u64(args[2]), np.uint64(args[3])
    for j in range(np.uint64(n)):
        h = hashes[np.uint64(firsts[j])]
        slot = (h >> np.uint64(20)) & mask
        while table[slot * np.uint64(2) + np.uint64(1)] != np.uint64(0):
            slot = (slot + np.uint64(1)) & mask
        table[slot * np.uint64(2)] = h
        table[slot * np.uint64(2) + np.uint64(1)] = j + np.uint64(1)
    return n


@kernel("find_interned")
def find_interned(t, n, k, args):
    """Numbers of strings in a table made by index_texts: strings (s), offsets, chars, table, mask, first rows, out
    (i64; -1: not there)"""
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
