"""String kernels: comparison, LIKE, lengths, substrings, over string vectors (pairs of address and length) and columns.

Strings are UTF-8; byte order is code point order. Kernels may read up to 64 bytes past a string's end.

A LIKE pattern comes as words (operators.like makes them): 0 flags (1: the first segment stands at the start, 2: the
last one at the end, 4: ASCII letters match in either case), 1 number of segments; from word 4 on, eight words per
segment: 0 address of its bytes (WILD stands for ``_``; lower case where case is folded), 1 bytes, 2 characters,
3 whether it has a ``_``, 4 bytes before the first ``_``, then for the search by four of those bytes: 5 bits to set,
6 values to find, 7 offsets.
"""

# mypy: ignore-errors
from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

from finequery.operators import scalar
from finequery.operators.intrinsics import byte_swap, count_trailing_zeros, load_u64, p_i64, p_u8, popcount
from finequery.operators.primitives import kernel

#: Stands for ``_`` in a segment: no byte of UTF-8.
WILD = 0xFF
LANES = 64
SEGMENT = 8  # words of a segment
FIRST = 4  # word of the first segment
CONTINUATION = 0x0101010101010101


@intrinsic
def find_four(typingctx, address, offsets, bits, values):
    """Bit j is set where, for all i of 0 … 3, (byte at address + j + offset i) | bits i == value i; j of 0 … 63.

    Offsets, bits and values are four bytes each, packed; reads 64 bytes from each of the four places."""

    def codegen(context, builder, signature, args):
        byte, word = ir.IntType(8), ir.IntType(64)
        vector = ir.VectorType(byte, LANES)
        zeros = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)

        def pick(packed, i):
            return builder.trunc(builder.lshr(packed, ir.Constant(word, 8 * i)), byte)

        def splat(value):
            one = builder.insert_element(ir.Constant(vector, ir.Undefined), value, ir.Constant(ir.IntType(32), 0))
            return builder.shuffle_vector(one, ir.Constant(vector, ir.Undefined), zeros)

        found = None
        for i in range(4):
            place = builder.add(args[0], builder.zext(pick(args[1], i), word))
            load = builder.load(builder.inttoptr(place, vector.as_pointer()))
            load.align = 1
            hit = builder.icmp_unsigned("==", builder.or_(load, splat(pick(args[2], i))), splat(pick(args[3], i)))
            found = hit if found is None else builder.and_(found, hit)
        return builder.bitcast(found, word)

    return types.uint64(types.int64, types.int64, types.int64, types.int64), codegen


@njit(error_model="numpy")
def low_bytes(count):
    """A mask of the ``count`` (1 … 7) first bytes of a word in memory."""
    return (np.uint64(1) << np.uint64(count << 3)) - np.uint64(1)


@njit(error_model="numpy")
def same(a, b, length):
    """Whether two strings of this length are equal."""
    i = np.int64(0)
    while i + 8 <= length:
        if load_u64(a + i) != load_u64(b + i):
            return False
        i += 8
    if i < length:
        return ((load_u64(a + i) ^ load_u64(b + i)) & low_bytes(length - i)) == np.uint64(0)
    return True


@njit(error_model="numpy")
def order(a, a_length, b, b_length):
    """-1, 0, 1 by byte order."""
    length = a_length if a_length < b_length else b_length
    i = np.int64(0)
    while i < length:
        x, y = load_u64(a + i), load_u64(b + i)
        if length - i < 8:
            mask = low_bytes(length - i)
            x, y = x & mask, y & mask
        if x != y:
            return np.int64(-1) if byte_swap(x) < byte_swap(y) else np.int64(1)
        i += 8
    return np.int64(a_length > b_length) - np.int64(a_length < b_length)


@kernel("eq_s")
def eq_s(t, n, k, args):
    """a, stride, b, stride, out (u8)"""
    a, b, out = p_i64(args[0] + t * args[1]), p_i64(args[2] + t * args[3]), p_u8(args[4])
    for j in range(np.uint64(k)):
        i = j + j
        size = a[i + np.uint64(1)]
        equal = np.uint8(0)
        if size == b[i + np.uint64(1)]:
            equal = np.uint8(same(a[i], b[i], size))
        out[j] = equal
    return k


@kernel("lt_s")
def lt_s(t, n, k, args):
    """a, stride, b, stride, out (u8)"""
    a, b, out = p_i64(args[0] + t * args[1]), p_i64(args[2] + t * args[3]), p_u8(args[4])
    for j in range(np.uint64(k)):
        i = j + j
        out[j] = np.uint8(order(a[i], a[i + np.uint64(1)], b[i], b[i + np.uint64(1)]) < 0)
    return k


@kernel("le_s")
def le_s(t, n, k, args):
    """a, stride, b, stride, out (u8)"""
    a, b, out = p_i64(args[0] + t * args[1]), p_i64(args[2] + t * args[3]), p_u8(args[4])
    for j in range(np.uint64(k)):
        i = j + j
        out[j] = np.uint8(order(a[i], a[i + np.uint64(1)], b[i], b[i + np.uint64(1)]) <= 0)
    return k


@kernel("eq_text_s")
def eq_text_s(t, n, k, args):
    """a, stride, address and length of the constant, out (u8)"""
    a, text, size, out = p_i64(args[0] + t * args[1]), args[2], args[3], p_u8(args[4])
    for j in range(np.uint64(k)):
        i = j + j
        out[j] = np.uint8(same(a[i], text, size)) if a[i + np.uint64(1)] == size else np.uint8(0)
    return k


@kernel("starts_with_s")
def starts_with_s(t, n, k, args):
    """a, stride, address and length of the constant, out (u8)"""
    a, text, size, out = p_i64(args[0] + t * args[1]), args[2], args[3], p_u8(args[4])
    for j in range(np.uint64(k)):
        i = j + j
        out[j] = np.uint8(same(a[i], text, size)) if a[i + np.uint64(1)] >= size else np.uint8(0)
    return k


@kernel("ends_with_s")
def ends_with_s(t, n, k, args):
    """a, stride, address and length of the constant, out (u8)"""
    a, text, size, out = p_i64(args[0] + t * args[1]), args[2], args[3], p_u8(args[4])
    for j in range(np.uint64(k)):
        i = j + j
        rest = a[i + np.uint64(1)] - size
        out[j] = np.uint8(same(a[i] + rest, text, size)) if rest >= 0 else np.uint8(0)
    return k


# --- lengths and substrings ------------------------------------------------------------------------------------------


@njit(error_model="numpy")
def characters(address, length):
    """Characters of a UTF-8 string: the bytes that are no continuation."""
    count, i = length, np.int64(0)
    ones = np.uint64(CONTINUATION)
    while i < length:
        word = load_u64(address + i)
        tails = (word >> np.uint64(7)) & ~(word >> np.uint64(6)) & ones
        if length - i < 8:
            tails &= low_bytes(length - i)
        count -= np.int64(popcount(tails))
        i += 8
    return count


@njit(error_model="numpy")
def skip(address, length, count):
    """Bytes of the first ``count`` characters (all bytes where there are fewer)."""
    text, i = p_u8(address), np.int64(0)
    while i < length and count > 0:
        i += 1
        while i < length and (text[np.uint64(i)] & np.uint8(0xC0)) == np.uint8(0x80):
            i += 1
        count -= 1
    return i


window = njit(error_model="numpy")(scalar.substring_window)


@kernel("byte_length_s")
def byte_length_s(t, n, k, args):
    """a, stride, out (i64)"""
    a, out = p_i64(args[0] + t * args[1]), p_i64(args[2])
    for j in range(np.uint64(k)):
        out[j] = a[j + j + np.uint64(1)]
    return k


@kernel("length_s")
def length_s(t, n, k, args):
    """a, stride, out (i64): characters"""
    a, out = p_i64(args[0] + t * args[1]), p_i64(args[2])
    for j in range(np.uint64(k)):
        out[j] = characters(a[j + j], a[j + j + np.uint64(1)])
    return k


@kernel("substring_ascii_s")
def substring_ascii_s(t, n, k, args):
    """a, stride, start, length, out (s): as substring_s, for strings of one byte per character"""
    a, start, length, out = p_i64(args[0] + t * args[1]), args[2], args[3], p_i64(args[4])
    for j in range(np.uint64(k)):
        i = j + j
        first, end = window(a[i + np.uint64(1)], start, length)
        out[i] = a[i] + first
        out[i + np.uint64(1)] = end - first
    return k


@kernel("substring_s")
def substring_s(t, n, k, args):
    """a, stride, start, length (neither beyond 2**62; that length: to the end), out (s): a view"""
    a, start, length, out = p_i64(args[0] + t * args[1]), args[2], args[3], p_i64(args[4])
    for j in range(np.uint64(k)):
        i = j + j
        address, size = a[i], a[i + np.uint64(1)]
        if start > 0 and length >= 0:  # no need to count what follows
            first = skip(address, size, start - 1)
            bytes_ = skip(address + first, size - first, length)
        else:
            c_first, c_end = window(characters(address, size), start, length)
            first = skip(address, size, c_first)
            bytes_ = skip(address + first, size - first, c_end - c_first)
        out[i] = address + first
        out[i + np.uint64(1)] = bytes_
    return k


# --- LIKE ------------------------------------------------------------------------------------------------------------


@njit(error_model="numpy")
def segment_at(address, length, pattern, at, fold):
    """Bytes that the segment at word ``at`` matches from the start of a string; -1 where it does not match."""
    text, size = pattern[at], pattern[at + np.uint64(1)]
    if length < size:
        return np.int64(-1)
    if pattern[at + np.uint64(3)] == 0 and not fold:
        return size if same(address, text, size) else np.int64(-1)
    x, y, i = p_u8(address), p_u8(text), np.int64(0)
    for j in range(np.uint64(size)):
        if i >= length:
            return np.int64(-1)
        byte, wanted = x[np.uint64(i)], y[j]
        i += 1
        if wanted == np.uint8(WILD):
            while i < length and (x[np.uint64(i)] & np.uint8(0xC0)) == np.uint8(0x80):
                i += 1
        else:
            if fold and byte >= np.uint8(65) and byte <= np.uint8(90):
                byte += np.uint8(32)
            if byte != wanted:
                return np.int64(-1)
    return i


@njit(error_model="numpy")
def find_segment(address, length, start, pattern, at, fold):
    """First place from ``start`` on where the segment matches; -1: nowhere."""
    last = length - pattern[at + np.uint64(1)]
    fixed, bits = pattern[at + np.uint64(4)], pattern[at + np.uint64(5)]
    values, offsets = pattern[at + np.uint64(6)], pattern[at + np.uint64(7)]
    sure = fixed == pattern[at + np.uint64(1)] and fixed <= 4 and not fold
    place = start
    if fixed == 0:  # begins with "_": at every character
        text = p_u8(address)
        while place <= last:
            if segment_at(address + place, length - place, pattern, at, fold) >= 0:
                return place
            place += 1
            while place < length and (text[np.uint64(place)] & np.uint8(0xC0)) == np.uint8(0x80):
                place += 1
        return np.int64(-1)
    while place <= last:
        hits = find_four(address + place, offsets, bits, values)
        while hits != np.uint64(0):
            found = place + np.int64(count_trailing_zeros(hits))
            if found > last:
                return np.int64(-1)
            if sure or segment_at(address + found, length - found, pattern, at, fold) >= 0:
                return found
            hits &= hits - np.uint64(1)
        place += LANES
    return np.int64(-1)


@njit(error_model="numpy")
def match_from(address, length, place, number, pattern):
    """Whether segments ``number`` … match what is left of a string from ``place`` on."""
    flags, count = pattern[0], pattern[1]
    fold = (flags & 4) != 0
    floating = count - 1 if (flags & 2) != 0 else count
    at = np.uint64(FIRST + SEGMENT * number)
    while number < floating:
        found = find_segment(address, length, place, pattern, at, fold)
        if found < 0:
            return False
        place = found + segment_at(address + found, length - found, pattern, at, fold)
        number += 1
        at += np.uint64(SEGMENT)
    if (flags & 2) != 0:
        if number == count:  # the segment at the start is the one at the end
            return place == length
        if pattern[at + np.uint64(3)] == 0:
            start = length - pattern[at + np.uint64(1)]
        else:
            start, left, text = length, pattern[at + np.uint64(2)], p_u8(address)
            while left > 0 and start > place:
                start -= 1
                while start > place and (text[np.uint64(start)] & np.uint8(0xC0)) == np.uint8(0x80):
                    start -= 1
                left -= 1
            if left > 0:
                return False
        if start < place:
            return False
        return segment_at(address + start, length - start, pattern, at, fold) == length - start
    return True


@njit(error_model="numpy")
def match(address, length, pattern):
    """Whether a string matches a pattern."""
    if (pattern[0] & 1) != 0:
        taken = segment_at(address, length, pattern, np.uint64(FIRST), (pattern[0] & 4) != 0)
        return taken >= 0 and match_from(address, length, taken, np.int64(1), pattern)
    return match_from(address, length, np.int64(0), np.int64(0), pattern)


@kernel("like_s")
def like_s(t, n, k, args):
    """a, stride, pattern, out (u8)"""
    a, pattern, out = p_i64(args[0] + t * args[1]), p_i64(args[2]), p_u8(args[3])
    for j in range(np.uint64(k)):
        out[j] = np.uint8(match(a[j + j], a[j + j + np.uint64(1)], pattern))
    return k


@njit(error_model="numpy")
def search_rows(offsets, chars, pattern, out, first, end):
    """Rows ``first`` … ``end`` of a column against a pattern.

    A pattern that begins with % and then has a byte to look for searches the bytes of all rows at once; hits come in
    order, and a row is decided by the first one in it."""
    floats = pattern[1] > 1 or (pattern[0] & 2) == 0
    if (pattern[0] & 1) != 0 or pattern[1] == 0 or pattern[FIRST + 4] == 0 or not floats:
        for j in range(first, end):
            out[j] = np.uint8(match(chars + offsets[j], offsets[j + np.uint64(1)] - offsets[j], pattern))
        return
    for j in range(first, end):
        out[j] = np.uint8(0)
    at, fold = np.uint64(FIRST), (pattern[0] & 4) != 0
    size, bits, values, packed = pattern[FIRST + 1], pattern[FIRST + 5], pattern[FIRST + 6], pattern[FIRST + 7]
    only = pattern[1] == 1
    row, place = first, offsets[first]
    row_end, last = offsets[row + np.uint64(1)], offsets[end] - size
    while place <= last:
        hits = find_four(chars + place, packed, bits, values)
        following = place + LANES
        while hits != np.uint64(0):
            found = place + np.int64(count_trailing_zeros(hits))
            hits &= hits - np.uint64(1)
            if found > last:
                return
            while row_end <= found:
                row += np.uint64(1)
                row_end = offsets[row + np.uint64(1)]
            if found + size > row_end:
                continue
            taken = segment_at(chars + found, row_end - found, pattern, at, fold)
            if taken < 0:
                continue
            start = found + taken
            if only:
                out[row] = np.uint8(1)
            else:
                out[row] = np.uint8(match_from(chars + start, row_end - start, np.int64(0), np.int64(1), pattern))
            if row_end >= place + LANES:
                hits = np.uint64(0)
                following = row_end
            else:
                hits &= ~np.uint64(0) << np.uint64(row_end - place)
        place = following


@kernel("like_rows")
def like_rows(first, end, thread, args):
    """Range kernel over a column: offsets, chars, pattern, out (u8)"""
    search_rows(p_i64(args[0]), args[1], p_i64(args[2]), p_u8(args[3]), np.uint64(first), np.uint64(end))
    return np.int64(0)


@kernel("like_tile")
def like_tile(t, n, k, args):
    """offsets (int64), stride, chars, pattern, out (u8): the rows of a dense tile, searched as like_rows does"""
    if k > 0:
        offsets = p_i64(args[0] + t * args[1])
        search_rows(offsets, args[2], p_i64(args[3]), p_u8(args[4]), np.uint64(0), np.uint64(k))
    return k
