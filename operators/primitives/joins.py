"""Look-ups of joins: hash tables of keys, byte maps, bits and row numbers by key, ranks, rows of repeated keys.

A hash table is 256 regions (the top bits of the hash, so that a region is filled by one thread from one radix
partition) of lines. A line is a cache line: five keys, then five values + 1 (u32; 0: no key) and a word that is set
when a key went on to the next line for want of room. All keys of a line are compared at once; a look-up that ends in
its first line, as nearly all do, takes no branch that depends on data.
"""

# mypy: ignore-errors
from __future__ import annotations

import numpy as np
from numba import njit

from finequery.operators.intrinsics import (
    POINTER,
    count_trailing_zeros,
    equal8,
    p_i64,
    p_u8,
    p_u32,
    p_u64,
    popcount,
    prefetch,
)
from finequery.operators.primitives import kernel
from finequery.operators.primitives.hashing import mix
from finequery.operators.primitives.select import positions_of

#: Keys of a line; their values begin behind them.
KEYS = 5
VALUES = 8 * KEYS
#: Rows whose lines are fetched before the first of them is searched.
BATCH = 256
#: A tile of which more than 3/4 pass the Bloom filter turns it off for so many tiles.
RESPITE = 31


@njit(error_model="numpy")
def line_of(h, lines):
    """A hash's line among 256 x ``lines``: its region's by the top byte, within it by the next 32 bits."""
    within = ((h >> np.uint64(24)) & np.uint64(0xFFFFFFFF)) * lines
    return (h >> np.uint64(56)) * lines + (within >> np.uint64(32))


@njit(error_model="numpy")
def in_line(address, key):
    """The value + 1 of a key in a line, or 0."""
    bits = equal8(address, key) & np.uint64((1 << KEYS) - 1)
    value = p_u32(address + VALUES)[count_trailing_zeros(bits | np.uint64(1 << KEYS))]
    return value if bits != np.uint64(0) else np.uint32(0)


@njit(error_model="numpy")
def overflowed(address):
    """Whether a key of this line went on to the next."""
    return p_u32(address + VALUES)[np.uint64(KEYS)] != np.uint32(0)


@njit(error_model="numpy")
def next_line(table, address, lines):
    """The line behind, within the region."""
    line = np.uint64(address - table) >> np.uint64(6)
    first = line // lines * lines
    line = line + np.uint64(1) if line + np.uint64(1) < first + lines else first
    return table + np.int64(line) * 64


@njit(error_model="numpy")
def search(table, address, lines, key):
    """The value + 1 of a key whose own line is at ``address``, or 0."""
    found = in_line(address, key)
    while found == np.uint32(0) and overflowed(address):
        address = next_line(table, address, lines)
        found = in_line(address, key)
    return found


@njit(error_model="numpy")
def insert(table, lines, key, value):
    """Put a key with its value + 1 into the table unless it is there: the value + 1 found, 0 if it was new."""
    address = table + np.int64(line_of(mix(key), lines)) * 64
    while True:
        keys, values = p_u64(address), p_u32(address + VALUES)
        for s in range(np.uint64(KEYS)):
            if values[s] == np.uint32(0):
                keys[s], values[s] = key, value
                return np.uint32(0)
            if keys[s] == key:
                return values[s]
        values[np.uint64(KEYS)] = np.uint32(1)
        address = next_line(table, address, lines)


@njit(error_model="numpy")
def most_keys(lines):
    """Most keys of a region: a line always has room, so every search ends."""
    return np.int64(lines) * np.int64(KEYS) * np.int64(3) // np.int64(4)


@njit(error_model="numpy")
def clear(table, lines, key):
    """Empty the region of a key."""
    words = p_u64(table + np.int64((mix(key) >> np.uint64(56)) * lines) * 64)
    for i in range(lines * np.uint64(8)):
        words[i] = np.uint64(0)


@kernel("build_lines")
def build_lines(first, end, thread, args):
    """Insert a partition (a range kernel, a range is a region's rows): keys, values (u32), table, lines of a region,
    whether repeated keys matter: -1 at the first, else the first of equal keys stays. -3 where a region is full.
    Regions need not be empty before."""
    if end <= first:
        return np.int64(0)
    keys, values, table, lines = p_u64(args[0]), p_u32(args[1]), args[2], np.uint64(args[3])
    clear(table, lines, keys[np.uint64(first)])
    room = most_keys(lines)
    for j in range(np.uint64(first), np.uint64(end)):
        found = insert(table, lines, keys[j], values[j] + np.uint32(1))
        if found == np.uint32(0):
            room -= np.int64(1)
            if room < 0:
                return np.int64(-3)
        elif args[4] != 0:
            return np.int64(-1)
    return np.int64(0)


@kernel("group_lines")
def group_lines(first, end, thread, args):
    """Number the distinct keys of a partition (a range kernel, as above) and list their rows: keys, rows (u32), table,
    lines of a region, most rows of a key by thread (i64), number of each row (u32, scratch), starts by number (u32),
    rows in order of their number (u32). -3 where a region is full.

    A partition's numbers begin with its first position, so that partitions need not wait for one another; the start
    behind a partition's last number is its end."""
    if end <= first:
        return np.int64(0)
    keys, rows, table, lines = p_u64(args[0]), p_u32(args[1]), args[2], np.uint64(args[3])
    most, numbers, starts, listed = p_i64(args[4]), p_u32(args[5]), p_u32(args[6]), p_u32(args[7])
    clear(table, lines, keys[np.uint64(first)])
    next_, room = np.uint32(first), most_keys(lines)
    for j in range(np.uint64(first), np.uint64(end)):
        found = insert(table, lines, keys[j], next_ + np.uint32(1))
        if found == np.uint32(0):
            starts[np.uint64(next_)] = np.uint32(0)
            next_ += np.uint32(1)
            found = next_
            if np.int64(next_) - np.int64(first) > room:
                return np.int64(-3)
        numbers[j] = found - np.uint32(1)
        starts[np.uint64(numbers[j])] += np.uint32(1)
    at = np.uint32(first)
    for g in range(np.uint64(first), np.uint64(next_)):
        count = starts[g]
        most[np.uint64(thread)] = max(most[np.uint64(thread)], np.int64(count))
        starts[g] = at
        at += count
    for j in range(np.uint64(first), np.uint64(end)):
        g = np.uint64(numbers[j])
        listed[np.uint64(starts[g])] = rows[j]
        starts[g] += np.uint32(1)
    g = np.uint64(next_)
    if np.int64(g) < end:  # else the place is the next partition's, which writes the same there
        starts[g] = np.uint32(end)
    g -= np.uint64(1)
    while g > np.uint64(first):
        starts[g] = starts[g - np.uint64(1)]
        g -= np.uint64(1)
    starts[g] = np.uint32(first)
    return np.int64(0)


@njit(error_model="numpy")
def two_bits(h):
    """A hash's bits in its word of the Bloom filter."""
    one = np.uint32(1)
    return (one << np.uint32(h & np.uint64(31))) | (one << np.uint32((h >> np.uint64(5)) & np.uint64(31)))


@kernel("build_bloom")
def build_bloom(first, end, thread, args):
    """Set two bits per key of one region in the filter: keys (partitioned), Bloom words (u32), shift to a word. A
    region's words are its own (the word is chosen by the top bits), so regions do not race."""
    keys, words, shift = p_u64(args[0]), p_u32(args[1]), np.uint64(args[2])
    for j in range(np.uint64(first), np.uint64(end)):
        h = mix(keys[j])
        words[h >> shift] |= two_bits(h)
    return np.int64(0)


@kernel("find_lines")
def find_lines(t, n, k, args):
    """Values of keys: keys (i64), stride, table, lines of a region, scratch (u64), out (u32; NONE: not there)"""
    keys, table, lines = p_u64(args[0] + t * args[1]), args[2], np.uint64(args[3])
    scratch, out = p_u64(args[4]), p_u32(args[5])
    for start in range(np.uint64(0), np.uint64(k), np.uint64(BATCH)):
        end = min(start + np.uint64(BATCH), np.uint64(k))
        for j in range(start, end):
            scratch[j] = np.uint64(table) + line_of(mix(keys[j]), lines) * np.uint64(64)
        for j in range(start, end):
            prefetch(np.int64(scratch[j]))
        for j in range(start, end):
            out[j] = search(table, np.int64(scratch[j]), lines, keys[j]) - np.uint32(1)
    return k


@kernel("probe_lines")
def probe_lines(t, n, k, args):
    """Keep the rows whose key is there: keys (i64), stride, table, lines of a region, Bloom words or 0, shift to a
    word, tiles left without Bloom filter (state), scratch (u64, u32, u8, u32, u32), out positions (u32), out values
    (u32) or 0; the new k"""
    keys, table, lines = p_u64(args[0] + t * args[1]), args[2], np.uint64(args[3])
    words, shift, scratch = p_u32(args[4]), np.uint64(args[5]), p_u64(args[7])
    word, hits, passed, bits = p_u32(args[8]), p_u8(args[9]), p_u32(args[10]), p_u32(args[11])
    positions = p_u32(args[12])
    values = p_u32(args[13]) if args[13] != 0 else word
    filtered = args[4] != 0 and args[6] == 0
    if args[6] > 0:
        args[6] -= 1
    z, through = np.uint64(0), np.uint64(0)
    for start in range(np.uint64(0), np.uint64(k), np.uint64(BATCH)):
        end = min(start + np.uint64(BATCH), np.uint64(k))
        if filtered:
            for j in range(start, end):
                h = mix(keys[j])
                word[j] = np.uint32(h >> shift)
                bits[j] = two_bits(h)
            for j in range(start, end):
                hits[j] = np.uint8((words[np.uint64(word[j])] & bits[j]) == bits[j])
            c = start + positions_of(args[10] + np.int64(start) * 4, args[9] + np.int64(start), start, end - start)
            for i in range(start, c):
                scratch[i] = np.uint64(table) + line_of(mix(keys[np.uint64(passed[i])]), lines) * np.uint64(64)
                prefetch(np.int64(scratch[i]))
            for i in range(start, c):
                j = np.uint64(passed[i])
                found = search(table, np.int64(scratch[i]), lines, keys[j])
                positions[z] = np.uint32(j)
                values[z] = found - np.uint32(1)
                z += np.uint64(found != np.uint32(0))
            through += c - start
        else:
            for j in range(start, end):
                scratch[j] = np.uint64(table) + line_of(mix(keys[j]), lines) * np.uint64(64)
            for j in range(start, end):
                prefetch(np.int64(scratch[j]))
            for j in range(start, end):
                found = search(table, np.int64(scratch[j]), lines, keys[j])
                positions[z] = np.uint32(j)
                values[z] = found - np.uint32(1)
                z += np.uint64(found != np.uint32(0))
    if filtered and through * np.uint64(4) > np.uint64(k) * np.uint64(3):
        args[6] = RESPITE
    return np.int64(z)


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
