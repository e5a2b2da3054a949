"""Hash tables over 64-bit keys: groups of an aggregation, build sides of joins; radix partitioning.

A slot is two words: key, value + 1 (0: empty, so every key is allowed). Slot numbers are the top bits of the hash, so
that a radix partition by the top 8 bits is a contiguous range of slots; probing is linear and wraps inside the
region (a 256th of the table) that the top bits name.
"""

# mypy: ignore-errors
from __future__ import annotations

import numpy as np
from numba import njit

from finequery.operators.intrinsics import (
    atomic_add,
    load_u64,
    p_i64,
    p_u8,
    p_u16,
    p_u32,
    p_u64,
    prefetch,
)
from finequery.operators.primitives import kernel

REGIONS = 256
#: Tables below this many slots stay near the core: no prefetching.
NEAR_SLOTS = 1 << 15


@njit(error_model="numpy")
def mix(x):
    """Multiplicative hash, folded once: good top bits for any regular keys."""
    h = np.uint64(x) * np.uint64(0x9E3779B97F4A7C15)
    h ^= h >> np.uint64(32)
    return h * np.uint64(0xD6E8FEB86659FD93)


@kernel("find_group")
def find_group(t, n, k, args):
    """keys (i64), stride, state, out (u32): number of each key's group; new keys get the next number; -1 where the
    table must grow.

    state: 0 groups, 1 most groups, 2 table, 3 shift (64 - log2 slots), 4 keys by group, 5 scratch for k hashes, 6 mask
    of slots."""
    keys, state, out = p_u64(args[0] + t * args[1]), p_i64(args[2]), p_u32(args[3])
    groups = state[0]
    if groups + k > state[1]:
        return np.int64(-1)
    table, shift, listed, hashes = p_u64(state[2]), np.uint64(state[3]), p_u64(state[4]), p_u64(state[5])
    mask = np.uint64(state[6])
    near = mask < np.uint64(NEAR_SLOTS)
    if not near:
        for j in range(np.uint64(k)):
            hashes[j] = mix(keys[j]) >> shift
    ahead = np.uint64(12)
    for j in range(np.uint64(k)):
        key = keys[j]
        if near:
            slot = mix(key) >> shift
        else:
            if j + ahead < np.uint64(k):
                prefetch(state[2] + np.int64(hashes[j + ahead]) * 16)
            slot = hashes[j]
        while True:
            value = table[slot * np.uint64(2) + np.uint64(1)]
            if value == np.uint64(0):
                table[slot * np.uint64(2)] = key
                groups += 1
                value = np.uint64(groups)
                table[slot * np.uint64(2) + np.uint64(1)] = value
                listed[np.uint64(groups - 1)] = key
                break
            if table[slot * np.uint64(2)] == key:
                break
            slot = (slot + np.uint64(1)) & mask
        out[j] = np.uint32(value - np.uint64(1))
    state[0] = groups
    return k


@kernel("rehash_groups")
def rehash_groups(t, n, k, args):
    """Fill an empty, larger table with the keys in the list: state as above"""
    state = args
    table, shift, listed, mask = p_u64(state[2]), np.uint64(state[3]), p_u64(state[4]), np.uint64(state[6])
    for g in range(np.uint64(state[0])):
        key = listed[g]
        slot = mix(key) >> shift
        while table[slot * np.uint64(2) + np.uint64(1)] != np.uint64(0):
            slot = (slot + np.uint64(1)) & mask
        table[slot * np.uint64(2)] = key
        table[slot * np.uint64(2) + np.uint64(1)] = g + np.uint64(1)
    return np.int64(0)


@kernel("radix_count")
def radix_count(first, end, thread, args):
    """As a range kernel, one range per morsel: keys (i64), histograms (256 words for each range number), rows per
    range."""
    keys, histogram = p_u64(args[0]), p_i64(args[1] + (first // args[2]) * 2048)
    for j in range(np.uint64(first), np.uint64(end)):
        histogram[mix(keys[j]) >> np.uint64(56)] += 1
    return np.int64(0)


@kernel("radix_scatter")
def radix_scatter(first, end, thread, args):
    """keys, cursors (256 words per range), rows per range, keys out, row numbers out (u32; or 0), partition of row out
    (or 0), number of payloads, then for each payload: source, target, width."""
    keys, cursor = p_u64(args[0]), p_i64(args[1] + (first // args[2]) * 2048)
    out, rows = p_u64(args[3]), p_u32(args[4])
    payloads = args[6]
    if payloads == 1 and args[9] == 8:
        source, target = p_u64(args[7]), p_u64(args[8])
        for j in range(np.uint64(first), np.uint64(end)):
            part = mix(keys[j]) >> np.uint64(56)
            at = np.uint64(cursor[part])
            cursor[part] += 1
            out[at] = keys[j]
            target[at] = source[j]
        return np.int64(0)
    for j in range(np.uint64(first), np.uint64(end)):
        part = mix(keys[j]) >> np.uint64(56)
        at = np.uint64(cursor[part])
        cursor[part] += 1
        out[at] = keys[j]
        if args[4] != 0:
            rows[at] = np.uint32(j)
        for p in range(np.uint64(payloads)):
            s, d, w = args[7 + p * np.uint64(3)], args[8 + p * np.uint64(3)], args[9 + p * np.uint64(3)]
            if w == 8:
                p_u64(d)[at] = p_u64(s)[j]
            elif w == 4:
                p_u32(d)[at] = p_u32(s)[j]
            elif w == 2:
                p_u16(d)[at] = p_u16(s)[j]
            elif w == 1:
                p_u8(d)[at] = p_u8(s)[j]
            else:
                p_u64(d)[at * np.uint64(2)] = p_u64(s)[j * np.uint64(2)]
                p_u64(d)[at * np.uint64(2) + np.uint64(1)] = p_u64(s)[j * np.uint64(2) + np.uint64(1)]
    return np.int64(0)


@kernel("partition_groups")
def partition_groups(first, end, thread, args):
    """Group numbers inside one partition (a range kernel, a range is a partition): keys, per-thread table area, its
    bytes, out (u32: number inside the partition), keys of all groups out, address of their count (partitions take room
    from it), per-thread area for a partition's keys, its bytes, bounds of partitions, first group of each partition
    out.

    The table starts small, so that it stays in the cache, and doubles when it is a third full; -3 where its area is
    full."""
    keys, out = p_u64(args[0]), p_u32(args[3])
    if end <= first:
        return np.int64(0)
    table, listed = p_u64(args[1] + thread * args[2]), p_u64(args[6] + thread * args[7])
    bits = np.uint64(11)
    slots = np.uint64(1) << bits
    for i in range(slots * np.uint64(2)):
        table[i] = np.uint64(0)
    mask, shift = slots - np.uint64(1), np.uint64(56) - bits
    groups = np.uint64(0)
    start = np.uint64(first)
    for j in range(start, np.uint64(end)):
        key = keys[j]
        slot = (mix(key) >> shift) & mask
        while True:
            value = table[slot * np.uint64(2) + np.uint64(1)]
            if value == np.uint64(0):
                table[slot * np.uint64(2)] = key
                listed[groups] = key
                groups += np.uint64(1)
                value = groups
                table[slot * np.uint64(2) + np.uint64(1)] = value
                break
            if table[slot * np.uint64(2)] == key:
                break
            slot = (slot + np.uint64(1)) & mask
        out[j] = np.uint32(value - np.uint64(1))
        if groups * np.uint64(3) > slots:
            bits += np.uint64(1)
            slots = np.uint64(1) << bits
            if np.int64(slots) * 16 > args[2]:
                return np.int64(-3)
            mask, shift = slots - np.uint64(1), np.uint64(56) - bits
            for i in range(slots * np.uint64(2)):
                table[i] = np.uint64(0)
            for g in range(groups):
                again = listed[g]
                slot = (mix(again) >> shift) & mask
                while table[slot * np.uint64(2) + np.uint64(1)] != np.uint64(0):
                    slot = (slot + np.uint64(1)) & mask
                table[slot * np.uint64(2)] = again
                table[slot * np.uint64(2) + np.uint64(1)] = g + np.uint64(1)
    place = atomic_add(args[5], np.int64(groups))
    target, bounds = p_u64(args[4] + place * 8), p_i64(args[8])
    for g in range(groups):
        target[g] = listed[g]
    low, high = np.uint64(0), np.uint64(REGIONS)  # the last partition that begins at ``first``
    while high - low > np.uint64(1):
        middle = (low + high) >> np.uint64(1)
        if bounds[middle] <= first:
            low = middle
        else:
            high = middle
    p_i64(args[9])[low] = place
    return np.int64(0)


@kernel("partition_number")
def partition_number(t, n, k, args):
    """Numbers inside the partition to numbers among all groups: numbers (u32), first groups of partitions, address of
    the morsel's number, out (u32)"""
    x, out = p_u32(args[0]), p_u32(args[3])
    base = np.uint32(p_i64(args[1])[p_i64(args[2])[0]])
    for j in range(np.uint64(k)):
        out[j] = x[j] + base
    return k


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
