"""Filters: masks from comparisons with constants, masks to selections, look-ups that select.

Masks are bytes, 0 or 1. Selections are uint32 row numbers relative to the tile; positions are uint32 into the space
before. All appends are branch-free; their targets have room for 64 values more than the tile.
"""

# mypy: ignore-errors
from __future__ import annotations

import numpy as np
from numba import njit

from finequery.operators.intrinsics import AVX512, POINTER, compress16, p_u8, p_u32, p_u64, popcount
from finequery.operators.primitives import kernel

CASTS = {"u8": np.uint8, "u16": np.uint16, "u32": np.uint32, "i64": np.int64}


def _define_between(source: str) -> None:
    pointer, cast = POINTER[source], CASTS[source]

    @kernel(f"between_{source}")
    def between(t, n, k, args):
        """source, stride, low, high, out"""
        x, low, high, out = pointer(args[0] + t * args[1]), cast(args[2]), cast(args[3]), p_u8(args[4])
        for j in range(np.uint64(k)):
            out[j] = np.uint8(x[j] >= low) & np.uint8(x[j] <= high)
        return k

    @kernel(f"between_and_{source}")
    def between_and(t, n, k, args):
        """source, stride, low, high, mask before, out"""
        x, low, high = pointer(args[0] + t * args[1]), cast(args[2]), cast(args[3])
        before, out = p_u8(args[4]), p_u8(args[5])
        for j in range(np.uint64(k)):
            out[j] = before[j] & np.uint8(x[j] >= low) & np.uint8(x[j] <= high)
        return k


for _name in CASTS:
    _define_between(_name)


@njit(error_model="numpy")
def positions_of(out, mask, first, count):
    """Append first + j for the set bytes j of a mask: its address and the target's; how many there are."""
    z, rows, bytes_ = np.uint64(0), p_u32(out), p_u8(mask)
    whole = count & ~np.uint64(15) if AVX512 else np.uint64(0)
    if AVX512:
        for j in range(np.uint64(0), whole, np.uint64(16)):
            z += compress16(np.int64(np.uint64(out) + z * np.uint64(4)), np.int64(np.uint64(mask) + j), first + j)
    for j in range(whole, count):
        rows[z] = np.uint32(first + j)
        z += np.uint64(bytes_[j])
    return z


@kernel("select")
def select(t, n, k, args):
    """mask, out: positions of the set bytes; the new k"""
    return np.int64(positions_of(args[1], args[0], np.uint64(0), np.uint64(k)))


def _define_lookup(source: str) -> None:
    """Look-ups by a stored value: entry min(x - shift, limit), the entry at ``limit`` being the miss. A value below
    the shift wraps to a large number, so both ends are checked by one comparison."""
    pointer = POINTER[source]

    @kernel(f"probe_map_{source}")
    def probe_map(t, n, k, args):
        """source, stride, byte map, shift, limit, selection or 0, out selection, out positions or 0"""
        x, table = pointer(args[0] + t * args[1]), p_u8(args[2])
        shift, limit = np.uint64(args[3]), np.uint64(args[4])
        out, z = p_u32(args[6]), np.uint64(0)
        if args[5] == 0:
            for j in range(np.uint64(k)):
                out[z] = np.uint32(j)
                z += np.uint64(table[min(np.uint64(x[j]) - shift, limit)])
        elif args[7] == 0:
            index = p_u32(args[5])
            for j in range(np.uint64(k)):
                i = index[j]
                out[z] = i
                z += np.uint64(table[min(np.uint64(x[i]) - shift, limit)])
        else:
            index, positions = p_u32(args[5]), p_u32(args[7])
            for j in range(np.uint64(k)):
                i = index[j]
                out[z] = i
                positions[z] = np.uint32(j)
                z += np.uint64(table[min(np.uint64(x[i]) - shift, limit)])
        return np.int64(z)

    @kernel(f"probe_bits_{source}")
    def probe_bits(t, n, k, args):
        """the same over a bitmap"""
        x, table = pointer(args[0] + t * args[1]), p_u8(args[2])
        shift, limit = np.uint64(args[3]), np.uint64(args[4])
        out, z = p_u32(args[6]), np.uint64(0)
        if args[5] == 0:
            for j in range(np.uint64(k)):
                out[z] = np.uint32(j)
                v = min(np.uint64(x[j]) - shift, limit)
                z += np.uint64((table[v >> np.uint64(3)] >> np.uint8(v & np.uint64(7))) & np.uint8(1))
        elif args[7] == 0:
            index = p_u32(args[5])
            for j in range(np.uint64(k)):
                i = index[j]
                out[z] = i
                v = min(np.uint64(x[i]) - shift, limit)
                z += np.uint64((table[v >> np.uint64(3)] >> np.uint8(v & np.uint64(7))) & np.uint8(1))
        else:
            index, positions = p_u32(args[5]), p_u32(args[7])
            for j in range(np.uint64(k)):
                i = index[j]
                out[z] = i
                positions[z] = np.uint32(j)
                v = min(np.uint64(x[i]) - shift, limit)
                z += np.uint64((table[v >> np.uint64(3)] >> np.uint8(v & np.uint64(7))) & np.uint8(1))
        return np.int64(z)

    @kernel(f"test_map_{source}")
    def test_map(t, n, k, args):
        """source, stride, byte map, shift, limit, out (u8): the entry itself (a mask, or a predicate per code)"""
        x, table = pointer(args[0] + t * args[1]), p_u8(args[2])
        shift, limit, out = np.uint64(args[3]), np.uint64(args[4]), p_u8(args[5])
        for j in range(np.uint64(k)):
            out[j] = table[min(np.uint64(x[j]) - shift, limit)]
        return k

    @kernel(f"test_bits_{source}")
    def test_bits(t, n, k, args):
        x, table = pointer(args[0] + t * args[1]), p_u8(args[2])
        shift, limit, out = np.uint64(args[3]), np.uint64(args[4]), p_u8(args[5])
        for j in range(np.uint64(k)):
            v = min(np.uint64(x[j]) - shift, limit)
            out[j] = (table[v >> np.uint64(3)] >> np.uint8(v & np.uint64(7))) & np.uint8(1)
        return k

    def define_map(entry: str) -> None:
        entries = POINTER[entry]

        @kernel(f"map_{entry}_{source}")
        def map_entry(t, n, k, args):
            """source, stride, table, shift, limit, out (u32): the entry"""
            x, table = pointer(args[0] + t * args[1]), entries(args[2])
            shift, limit, out = np.uint64(args[3]), np.uint64(args[4]), p_u32(args[5])
            for j in range(np.uint64(k)):
                out[j] = np.uint32(table[min(np.uint64(x[j]) - shift, limit)])
            return k

        @kernel(f"gather_map_{entry}_{source}")
        def gather_map(t, n, k, args):
            """source, stride, index, table, shift, limit, out (u32)"""
            x, index, table = pointer(args[0] + t * args[1]), p_u32(args[2]), entries(args[3])
            shift, limit, out = np.uint64(args[4]), np.uint64(args[5]), p_u32(args[6])
            for j in range(np.uint64(k)):
                out[j] = np.uint32(table[min(np.uint64(x[index[j]]) - shift, limit)])
            return k

    for entry in ("u8", "u16", "u32"):
        define_map(entry)


for _name in CASTS:
    _define_lookup(_name)


@kernel("rank_u32")
def rank_u32(t, n, k, args):
    """digits (u32), stride, bits (u64), prefix (u32), shift, limit, out (u32): rank of a key that is in the bitmap"""
    x, words, prefix = p_u32(args[0] + t * args[1]), p_u64(args[2]), p_u32(args[3])
    shift, limit, out = np.uint64(args[4]), np.uint64(args[5]), p_u32(args[6])
    for j in range(np.uint64(k)):
        v = min(np.uint64(x[j]) - shift, limit)
        word = words[v >> np.uint64(6)] & ((np.uint64(1) << (v & np.uint64(63))) - np.uint64(1))
        out[j] = prefix[v >> np.uint64(6)] + np.uint32(popcount(word))
    return k
