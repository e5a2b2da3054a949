"""Hash tables over 64-bit keys: build sides of joins; radix partitioning.

A slot is two words: key, value + 1 (0: empty, so every key is allowed). Slot numbers are the top bits of the hash, so
that a radix partition by the top 8 bits is a contiguous range of slots; probing is linear and wraps inside the
region (a 256th of the table) that the top bits name.
"""

# mypy: ignore-errors
from __future__ import annotations

import numpy as np
from numba import njit

from finequery.operators.intrinsics import (
    POINTER,
    load_u64,
    p_i64,
    p_u8,
    p_u16,
    p_u32,
    p_u64,
    popcount,
    prefetch,
)
from finequery.operators.primitives import kernel


@njit(error_model="numpy")
def mix(x):
    """Multiplicative hash, folded once: good top bits for any regular keys."""
    h = np.uint64(x) * np.uint64(0x9E3779B97F4A7C15)
    h ^= h >> np.uint64(32)
    return h * np.uint64(0xD6E8FEB86659FD93)


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


@kernel("build_region")
def build_region(first, end, thread, args):
    """Insert one partition (range = rows of a region): keys (partitioned), values (u32, partitioned), table, shift,
    region mask, Bloom words or 0, Bloom mask, flags out: args[7] address of a word that is set to 1 on a duplicate key.

    Values of equal keys: the first stays."""
    keys, values, table = p_u64(args[0]), p_u32(args[1]), p_u64(args[2])
    shift, region = np.uint64(args[3]), np.uint64(args[4])
    for j in range(np.uint64(first), np.uint64(end)):
        key = keys[j]
        slot = mix(key) >> shift
        while True:
            value = table[slot * np.uint64(2) + np.uint64(1)]
            if value == np.uint64(0):
                table[slot * np.uint64(2)] = key
                table[slot * np.uint64(2) + np.uint64(1)] = np.uint64(values[j]) + np.uint64(1)
                break
            if table[slot * np.uint64(2)] == key:
                p_i64(args[7])[0] = 1
                break
            slot = (slot & ~region) | ((slot + np.uint64(1)) & region)
    return np.int64(0)


@kernel("build_bloom")
def build_bloom(first, end, thread, args):
    """Set two bits per key of one region in the filter: keys (partitioned), Bloom words (u32), shift to a word. A
    region's words are its own (the word is chosen by the top bits), so regions do not race."""
    keys, words, shift = p_u64(args[0]), p_u32(args[1]), np.uint64(args[2])
    for j in range(np.uint64(first), np.uint64(end)):
        h = mix(keys[j])
        words[h >> shift] |= (np.uint32(1) << np.uint32(h & np.uint64(31))) | (
            np.uint32(1) << np.uint32((h >> np.uint64(5)) & np.uint64(31))
        )
    return np.int64(0)


@kernel("probe_bloom")
def probe_bloom(t, n, k, args):
    """keys (i64), stride, Bloom words, shift, out (u8 mask)"""
    keys, words, shift, out = p_u64(args[0] + t * args[1]), p_u32(args[2]), np.uint64(args[3]), p_u8(args[4])
    for j in range(np.uint64(k)):
        h = mix(keys[j])
        word = words[h >> shift]
        a = word >> np.uint32(h & np.uint64(31))
        b = word >> np.uint32((h >> np.uint64(5)) & np.uint64(31))
        out[j] = np.uint8(a & b & np.uint32(1))
    return k


@kernel("probe_hash")
def probe_hash(t, n, k, args):
    """keys (i64), stride, table, shift, region mask, scratch for k hashes, out (u32: the value; 0xFFFFFFFF: no
    match)"""
    keys, table, shift, region = p_u64(args[0] + t * args[1]), p_u64(args[2]), np.uint64(args[3]), np.uint64(args[4])
    hashes, out = p_u64(args[5]), p_u32(args[6])
    for j in range(np.uint64(k)):
        hashes[j] = mix(keys[j]) >> shift
    ahead = np.uint64(16)
    for j in range(np.uint64(k)):
        if j + ahead < np.uint64(k):
            prefetch(args[2] + np.int64(hashes[j + ahead]) * 16)
        key, slot, found = keys[j], hashes[j], np.uint32(0xFFFFFFFF)
        while True:
            value = table[slot * np.uint64(2) + np.uint64(1)]
            if table[slot * np.uint64(2)] == key and value != np.uint64(0):
                found = np.uint32(value - np.uint64(1))
                break
            if value == np.uint64(0):
                break
            slot = (slot & ~region) | ((slot + np.uint64(1)) & region)
        out[j] = found
    return k


@kernel("matched")
def matched(t, n, k, args):
    """row numbers or 0xFFFFFFFF, out (u8: 1 where there is one), out (u32: the row number, 0 where there is none)"""
    x, ok, row = p_u32(args[0]), p_u8(args[1]), p_u32(args[2])
    for j in range(np.uint64(k)):
        hit = x[j] != np.uint32(0xFFFFFFFF)
        ok[j] = np.uint8(hit)
        row[j] = x[j] if hit else np.uint32(0)
    return k


@kernel("mark_matched")
def mark_matched(t, n, k, args):
    """rows (u32, NONE: none), byte per build row: set to 1 where a row was matched"""
    x, flags = p_u32(args[0]), p_u8(args[1])
    for j in range(np.uint64(k)):
        if x[j] != np.uint32(0xFFFFFFFF):
            flags[np.uint64(x[j])] = np.uint8(1)
    return k


@kernel("views_of_w")
def views_of_w(t, n, k, args):
    """128-bit values as 16-byte strings: values, out (s)"""
    out = p_i64(args[1])
    for j in range(np.uint64(k)):
        out[j + j] = args[0] + np.int64(j) * 16
        out[j + j + np.uint64(1)] = 16
    return k


@kernel("mark_rows")
def mark_rows(t, n, k, args):
    """row numbers (u32), byte per row: set to 1"""
    x, flags = p_u32(args[0]), p_u8(args[1])
    for j in range(np.uint64(k)):
        flags[x[j]] = np.uint8(1)
    return k


@kernel("expand")
def expand(t, n, k, args):
    """Rows of each group of matches, at most ``capacity`` at a time: 0 more, 1 k kept, 2 position, 3 offset in the
    group, 4 groups (u32; 0xFFFFFFFF: none), 5 starts (u32, groups + 1), 6 rows by start (u32; 0: the number itself), 7
    keep rows without match, 8 capacity, 9 out positions, 10 out build rows (0xFFFFFFFF for a kept row)."""
    group, starts, listed = p_u32(args[4]), p_u32(args[5]), p_u32(args[6])
    positions, rows = p_u32(args[9]), p_u32(args[10])
    z, room = np.int64(0), args[8]
    j, offset = np.int64(0), np.int64(0)
    if args[0] != 0:
        j, offset = args[2], args[3]
    else:
        args[1] = k
    keep = args[7] != 0
    while j < k and z < room:
        g = group[np.uint64(j)]
        if g == np.uint32(0xFFFFFFFF):
            if keep:
                positions[np.uint64(z)] = np.uint32(j)
                rows[np.uint64(z)] = np.uint32(0xFFFFFFFF)
                z += 1
            j += 1
            continue
        begin = np.int64(starts[np.uint64(g)]) + offset
        end = np.int64(starts[np.uint64(g) + np.uint64(1)])
        if begin == end:
            if keep and offset == 0:
                positions[np.uint64(z)] = np.uint32(j)
                rows[np.uint64(z)] = np.uint32(0xFFFFFFFF)
                z += 1
            j += 1
            offset = np.int64(0)
            continue
        take = min(end - begin, room - z)
        for i in range(np.uint64(take)):
            positions[np.uint64(z) + i] = np.uint32(j)
            if args[6] != 0:
                rows[np.uint64(z) + i] = listed[np.uint64(begin) + i]
            else:
                rows[np.uint64(z) + i] = np.uint32(np.uint64(begin) + i)
        z += take
        if begin + take < end:
            offset += take
        else:
            j += 1
            offset = np.int64(0)
    args[2], args[3] = j, offset
    args[0] = np.int64(j < k)
    return z


@kernel("single_match")
def single_match(t, n, k, args):
    """The one row of each group (NONE: none); -4 where there are two: groups, starts, rows by start or 0, out (u32)"""
    group, starts, listed, out = p_u32(args[0]), p_u32(args[1]), p_u32(args[2]), p_u32(args[3])
    for j in range(np.uint64(k)):
        g = group[j]
        row = np.uint32(0xFFFFFFFF)
        if g != np.uint32(0xFFFFFFFF):
            begin, end = starts[np.uint64(g)], starts[np.uint64(g) + np.uint64(1)]
            if end > begin + np.uint32(1):
                return np.int64(-4)
            if end > begin:
                row = listed[np.uint64(begin)] if args[2] != 0 else begin
        out[j] = row
    return k


@kernel("group_of_entry")
def group_of_entry(t, n, k, args):
    """Dense-key digits to groups: digits (u32), limit, mask (u8) or 0, out (u32): the digit, NONE at the limit or
    where masked"""
    x, limit, out = p_u32(args[0]), np.uint32(args[1]), p_u32(args[3])
    for j in range(np.uint64(k)):
        ok = x[j] < limit
        if args[2] != 0:
            ok = ok & (p_u8(args[2])[j] != 0)
        out[j] = x[j] if ok else np.uint32(0xFFFFFFFF)
    return k


@kernel("row_of_entry")
def row_of_entry(t, n, k, args):
    """Entries (row + 1; 0: none) to rows (NONE: none): entries (u32), mask (u8) or 0, out (u32)"""
    x, out = p_u32(args[0]), p_u32(args[2])
    for j in range(np.uint64(k)):
        ok = args[1] == 0 or p_u8(args[1])[j] != 0
        out[j] = x[j] - np.uint32(1) if ok else np.uint32(0xFFFFFFFF)
    return k


@kernel("count_starts")
def count_starts(t, n, k, args):
    """groups (u32) of ``n`` rows, ``k`` groups, starts (u32, k + 1, zeroed), rows out (u32): rows in order of group,
    stable"""
    group, starts, rows = p_u32(args[0]), p_u32(args[1]), p_u32(args[2])
    for j in range(np.uint64(n)):
        starts[np.uint64(group[j]) + np.uint64(1)] += np.uint32(1)
    for g in range(np.uint64(k)):
        starts[g + np.uint64(1)] += starts[g]
    for j in range(np.uint64(n)):
        g = np.uint64(group[j])
        rows[np.uint64(starts[g])] = np.uint32(j)
        starts[g] += np.uint32(1)
    g = np.uint64(k)
    while g > np.uint64(0):
        starts[g] = starts[g - np.uint64(1)]
        g -= np.uint64(1)
    starts[np.uint64(0)] = np.uint32(0)
    return np.int64(0)


def _define_tables(source: str) -> None:
    pointer = POINTER[source]

    @kernel(f"clamp_{source}")
    def clamp(t, n, k, args):
        """Key digits: source, stride, index or 0, shift, limit, out (u32) = min(x - shift, limit)"""
        x, shift, limit, out = pointer(args[0] + t * args[1]), np.uint64(args[3]), np.uint64(args[4]), p_u32(args[5])
        if args[2] == 0:
            for j in range(np.uint64(k)):
                out[j] = np.uint32(min(np.uint64(x[j]) - shift, limit))
        else:
            index = p_u32(args[2])
            for j in range(np.uint64(k)):
                out[j] = np.uint32(min(np.uint64(x[index[j]]) - shift, limit))
        return k

    @kernel(f"fill_map_{source}")
    def fill_map(t, n, k, args):
        """Byte map or row map of the ``n`` build keys: keys, shift, entries, byte map or 0, row map (u32, value row +
        1) or 0, bits or 0, validity bitmap or 0; gives how many keys fell on a set entry (duplicates) in the map"""
        x, shift, limit = pointer(args[0]), np.uint64(args[1]), np.uint64(args[2])
        marks, rows, bits_, ok = p_u8(args[3]), p_u32(args[4]), p_u8(args[5]), p_u8(args[6])
        double = np.int64(0)
        for j in range(np.uint64(n)):
            v = np.uint64(x[j]) - shift
            if v >= limit:
                continue
            if args[6] != 0 and ((ok[j >> np.uint64(3)] >> np.uint8(j & np.uint64(7))) & np.uint8(1)) == 0:
                continue
            if args[3] != 0:
                double += np.int64(marks[v])
                marks[v] = np.uint8(1)
            elif args[4] != 0:
                if rows[v] != 0:
                    double += 1
                else:
                    rows[v] = np.uint32(j) + np.uint32(1)
            else:
                bit = np.uint8(1) << np.uint8(v & np.uint64(7))
                before = bits_[v >> np.uint64(3)]
                double += np.int64((before & bit) != 0)
                bits_[v >> np.uint64(3)] = before | bit
        return double

    @kernel(f"fill_payload_{source}")
    def fill_payload(t, n, k, args):
        """A payload by key: keys, shift, entries, payload (u32: value + 1), table, its width"""
        x, shift, limit, payload = pointer(args[0]), np.uint64(args[1]), np.uint64(args[2]), p_u32(args[3])
        for j in range(np.uint64(n)):
            v = np.uint64(x[j]) - shift
            if v < limit:
                if args[5] == 1:
                    p_u8(args[4])[v] = np.uint8(payload[j])
                elif args[5] == 2:
                    POINTER_U16(args[4])[v] = np.uint16(payload[j])
                else:
                    p_u32(args[4])[v] = payload[j]
        return np.int64(0)


POINTER_U16 = POINTER["u16"]

for _name in ("u8", "u16", "u32", "i64"):
    _define_tables(_name)


@kernel("rank_prefix")
def rank_prefix(t, n, k, args):
    """bits (u64 words, n of them), prefix out (u32)"""
    words, prefix, total = p_u64(args[0]), p_u32(args[1]), np.uint32(0)
    for i in range(np.uint64(n)):
        prefix[i] = total
        total += np.uint32(popcount(words[i]))
    return np.int64(total)


@kernel("pack_keys")
def pack_keys(t, n, k, args):
    """One more part of a composite key: keys so far (i64) or 0, part (i64), low, span (of which 0 is kept for NULL
    when args[6]), factor, in-range mask in/out (u8) or 0, null mode (0: NULL never; 1: NULL is a value), validity (u8)
    or 0, out (i64).

    Values outside of low … low + span - 1 clear the mask (and become 0)."""
    part, low, span, factor = p_i64(args[1]), np.uint64(args[2]), np.uint64(args[3]), args[4]
    before, mask, ok, out = p_i64(args[0]), p_u8(args[5]), p_u8(args[7]), p_i64(args[8])
    shift = np.uint64(args[6])
    for j in range(np.uint64(k)):
        v = np.uint64(part[j]) - low
        inside = v < span
        digit = np.int64(v + shift) if inside else np.int64(0)
        if args[7] != 0 and ok[j] == 0:
            digit = np.int64(0)
            inside = shift != np.uint64(0)
        if args[5] != 0:
            mask[j] &= np.uint8(inside)
        out[j] = (before[j] if args[0] != 0 else np.int64(0)) + digit * factor
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


@kernel("rank_order")
def rank_order(t, n, k, args):
    """Rows in key order, by the rank of their keys: digits (u32), bits (u64), prefix (u32), validity bitmap or 0, rows
    out (u32); gives 1 if that is the order they have."""
    digits, words, prefix, ok, out = p_u32(args[0]), p_u64(args[1]), p_u32(args[2]), p_u8(args[3]), p_u32(args[4])
    same = np.int64(1)
    for j in range(np.uint64(n)):
        if args[3] != 0 and ((ok[j >> np.uint64(3)] >> np.uint8(j & np.uint64(7))) & np.uint8(1)) == 0:
            same = np.int64(0)
            continue
        v = np.uint64(digits[j])
        word = words[v >> np.uint64(6)] & ((np.uint64(1) << (v & np.uint64(63))) - np.uint64(1))
        r = np.uint64(prefix[v >> np.uint64(6)]) + popcount(word)
        out[r] = np.uint32(j)
        same &= np.int64(r == j)
    return same
