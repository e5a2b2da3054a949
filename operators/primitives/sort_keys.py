"""Sort keys as order-preserving words.

A *chunk* is up to 63 bits of the sort key; a *word* is a chunk above the row number. A *program* makes words: its
number of steps, then for each the function and the address of its arguments. A step is called as f(t, n, address of n
words, arguments) and appends bits to words t to t + n: of the rows themselves, or of those that a list of row numbers
names.
"""

# mypy: ignore-errors
from __future__ import annotations

import numpy as np
from numba import njit

from finequery.operators.intrinsics import (
    add128,
    byte_swap,
    call,
    load_u64,
    mul128,
    p_i64,
    p_u8,
    p_u16,
    p_u32,
    p_u64,
)
from finequery.operators.primitives import kernel

#: Rows encoded at a time; a thread's scratch for them is TILE + 1 words.
TILE = 1024
SIGN = np.uint64(1 << 63)
ONE = np.uint64(1)
_step = njit(error_model="numpy")


@_step
def load_word_u8(source, i):
    return np.uint64(p_u8(source)[i])


@_step
def load_word_u16(source, i):
    return np.uint64(p_u16(source)[i])


@_step
def load_word_u32(source, i):
    return np.uint64(p_u32(source)[i])


@_step
def load_word_u64(source, i):
    return p_u64(source)[i]


@_step
def load_word_i64(source, i):
    return p_u64(source)[i] ^ SIGN


@_step
def load_word_low(source, i):
    """Low word of 128 bits."""
    return p_u64(source)[i + i]


@_step
def load_word_high(source, i):
    """High word of 128 bits, signed."""
    return p_u64(source)[i + i + ONE] ^ SIGN


@_step
def load_word_f32(source, i):
    """NaN above all, -0.0 as 0.0."""
    x = p_u32(source)[i]
    size = x & np.uint32(0x7FFFFFFF)
    x = np.uint32(0x7FC00000) if size > np.uint32(0x7F800000) else x
    x = np.uint32(0) if size == np.uint32(0) else x
    return np.uint64(x ^ np.uint32(0xFFFFFFFF) if x >> np.uint32(31) else x ^ np.uint32(0x80000000))


@_step
def load_word_f64(source, i):
    x = p_u64(source)[i]
    size = x & np.uint64(0x7FFFFFFFFFFFFFFF)
    x = np.uint64(0x7FF8000000000000) if size > np.uint64(0x7FF0000000000000) else x
    x = np.uint64(0) if size == np.uint64(0) else x
    return ~x if x >> np.uint64(63) else x ^ SIGN


@_step
def load_word_none(source, i):
    return np.uint64(0)


@_step
def is_valid(bitmap, i):
    return np.uint64(p_u8(bitmap)[i >> np.uint64(3)] >> np.uint8(i & np.uint64(7))) & ONE


def _define(name, load) -> None:
    @_step
    def piece(source, i, flip, add, validity, null, shift, mask):
        e = (load(source, i) ^ flip) + add
        if validity != 0:
            e = e if is_valid(validity, i) else null
        return (e >> shift) & mask

    @kernel(f"sort_key_{name}")
    def sort_key(t, n, k, args):
        """source, rows or 0, flip, add, validity or 0, word of NULL, shift, mask, bits, mask of what to keep: append
        ((x ^ flip) + add) >> shift."""
        source, flip, add, null = args[0], np.uint64(args[2]), np.uint64(args[3]), np.uint64(args[5])
        shift, mask, bits, keep = np.uint64(args[6]), np.uint64(args[7]), np.uint64(args[8]), np.uint64(args[9])
        out, first, none = p_u64(k), np.uint64(t), np.int64(0)
        if args[1] == 0:
            if args[4] == 0:
                for j in range(np.uint64(n)):
                    e = piece(source, first + j, flip, add, none, null, shift, mask)
                    out[j] = ((out[j] & keep) << bits) | e
            else:
                for j in range(np.uint64(n)):
                    e = piece(source, first + j, flip, add, args[4], null, shift, mask)
                    out[j] = ((out[j] & keep) << bits) | e
        else:
            rows = p_u32(args[1] + t * 4)
            for j in range(np.uint64(n)):
                e = piece(source, np.uint64(rows[j]), flip, add, args[4], null, shift, mask)
                out[j] = ((out[j] & keep) << bits) | e
        return n

    @kernel(f"sort_range_{name}")
    def sort_range(first, end, thread, args):
        """source, validity or 0, 8 words per thread: least and greatest word of the valid rows"""
        found = p_u64(args[2] + thread * 64)
        low, high = found[0], found[1]
        if args[1] == 0:
            for i in range(np.uint64(first), np.uint64(end)):
                x = load(args[0], i)
                low, high = min(low, x), max(high, x)
        else:
            for i in range(np.uint64(first), np.uint64(end)):
                if is_valid(args[1], i):
                    x = load(args[0], i)
                    low, high = min(low, x), max(high, x)
        found[0], found[1] = low, high
        return np.int64(0)


for _name, _load in (
    ("u8", load_word_u8),
    ("u16", load_word_u16),
    ("u32", load_word_u32),
    ("u64", load_word_u64),
    ("i64", load_word_i64),
    ("low", load_word_low),
    ("high", load_word_high),
    ("f32", load_word_f32),
    ("f64", load_word_f64),
    ("none", load_word_none),
):
    _define(_name, _load)


@kernel("sort_key_row")
def sort_key_row(t, n, k, args):
    """-, rows or 0, bits: append the row number"""
    out, bits = p_u64(k), np.uint64(args[2])
    if args[1] == 0:
        for j in range(np.uint64(n)):
            out[j] = (out[j] << bits) | (np.uint64(t) + j)
    else:
        rows = p_u32(args[1] + t * 4)
        for j in range(np.uint64(n)):
            out[j] = (out[j] << bits) | np.uint64(rows[j])
    return n


@_step
def text_word(offsets, chars, row, depth, width):
    """``width`` (at most 7) bytes from ``depth``, big-endian, zeros past the end, above how many there are: at most
    width + 1."""
    start = offsets[row] + depth
    left = max(offsets[row + ONE] - start, np.int64(0))
    word, take = np.uint64(0), np.uint64(min(left, width))
    if take:
        word = byte_swap(load_u64(chars + start)) & ~(~np.uint64(0) >> (take << np.uint64(3)))
        word >>= np.uint64(64) - (np.uint64(width) << np.uint64(3))
    return (word << np.uint64(4)) | np.uint64(min(left, width + 1))


@kernel("sort_key_text")
def sort_key_text(t, n, k, args):
    """offsets, rows or 0, chars, depth, width: set the words"""
    offsets, out = p_i64(args[0]), p_u64(k)
    if args[1] == 0:
        for j in range(np.uint64(n)):
            out[j] = text_word(offsets, args[2], np.uint64(t) + j, args[3], args[4])
    else:
        rows = p_u32(args[1] + t * 4)
        for j in range(np.uint64(n)):
            out[j] = text_word(offsets, args[2], np.uint64(rows[j]), args[3], args[4])
    return n


@kernel("sort_interval")
def sort_interval(first, end, thread, args):
    """intervals, out (128 bits): microseconds, a month being 30 days"""
    x, out = p_i64(args[0]), p_u64(args[1])
    day = np.uint64(86_400_000_000)
    for i in range(np.uint64(first), np.uint64(end)):
        months_days, micros = x[i + i], x[i + i + ONE]
        days = np.int64(np.int32(months_days)) * 30 + (months_days >> 32)
        low, high = mul128(np.uint64(days), np.uint64(days >> 63), day, np.uint64(0))
        out[i + i], out[i + i + ONE] = add128(low, high, np.uint64(micros), np.uint64(micros >> 63))
    return np.int64(0)


@_step
def encode(program, t, n, words):
    steps = p_i64(program)
    for s in range(np.uint64(steps[0])):
        call(steps[ONE + s + s], t, n, words, steps[np.uint64(2) + s + s])
