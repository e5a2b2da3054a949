"""Sorting words: buckets, radix sort, runs of ties, strings, the least words (words: primitives.sort_keys)."""

# mypy: ignore-errors
from __future__ import annotations

import numpy as np

from finequery.operators.intrinsics import (
    byte_swap,
    count_leading_zeros,
    load_u64,
    p_i64,
    p_u8,
    p_u32,
    p_u64,
)
from finequery.operators.primitives import kernel
from finequery.operators.primitives.sort_keys import ONE, TILE, _step, encode, text_word


@kernel("sort_words")
def sort_words(first, end, thread, args):
    """program, out: the words of all rows"""
    t = first
    while t < end:
        n = min(np.int64(TILE), end - t)
        encode(args[0], t, n, args[1] + t * 8)
        t += n
    return np.int64(0)


@kernel("sort_histogram")
def sort_histogram(first, end, thread, args):
    """program, scratch, histograms (one per morsel), rows per morsel, shift, buckets, first row of all: rows by
    bucket"""
    words = args[1] + thread * ((TILE + 1) * 8)
    counts, x = p_i64(args[2] + first // args[3] * args[5] * 8), p_u64(words)
    shift, mask = np.uint64(args[4]), np.uint64(args[5] - 1)
    t = first
    while t < end:
        n = min(np.int64(TILE), end - t)
        encode(args[0], t + args[6], n, words)
        for j in range(np.uint64(n)):
            counts[(x[j] >> shift) & mask] += 1
        t += n
    return np.int64(0)


@kernel("sort_scatter")
def sort_scatter(first, end, thread, args):
    """As sort_histogram, whose counts are cursors now, and out"""
    words = args[1] + thread * ((TILE + 1) * 8)
    cursors, x, out = p_u64(args[2] + first // args[3] * args[5] * 8), p_u64(words), p_u64(args[7])
    shift, mask = np.uint64(args[4]), np.uint64(args[5] - 1)
    t = first
    while t < end:
        n = min(np.int64(TILE), end - t)
        encode(args[0], t + args[6], n, words)
        for j in range(np.uint64(n)):
            word = x[j]
            bucket = (word >> shift) & mask
            at = cursors[bucket]
            out[at] = word
            cursors[bucket] = at + ONE
        t += n
    return np.int64(0)


@_step
def insertion_sort(a, m, budget):
    """Sort; 0 if it would take more than ``budget`` moves (then half done)."""
    x = p_u64(a)
    for i in range(ONE, np.uint64(m)):
        word, j = x[i], i
        while j > np.uint64(0) and x[j - ONE] > word:
            x[j] = x[j - ONE]
            j -= ONE
        x[j] = word
        budget -= np.int64(i - j)
        if budget < 0:
            return 0
    return 1


@_step
def radix_passes(a, b, m, low, high, counts_at):
    """Stable sort of ``m`` words by bits ``low`` to ``high``; where the result is, ``a`` or ``b``."""
    most = np.uint64(8) if m < 2048 else np.uint64(11)
    passes = (np.uint64(high - low) + most - ONE) // most
    width = (np.uint64(high - low) + passes - ONE) // passes
    size = ONE << width
    mask = size - ONE
    counts = p_u32(counts_at)
    for i in range(passes * size):
        counts[i] = np.uint32(0)
    x = p_u64(a)
    for i in range(np.uint64(m)):
        word = x[i] >> np.uint64(low)
        for p in range(passes):
            counts[p * size + (word & mask)] += np.uint32(1)
            word >>= width
    # the last digit may reach above ``high``: there all words are equal (bits of the bucket)
    source, target = a, b
    for p in range(passes):
        shift = np.uint64(low) + p * width
        digit = p_u32(counts_at + np.int64(p * size) * 4)
        x = p_u64(source)
        if digit[(x[np.uint64(0)] >> shift) & mask] == np.uint32(m):
            continue
        total = np.uint32(0)
        for i in range(size):
            count = digit[i]
            digit[i] = total
            total += count
        out = p_u64(target)
        for i in range(np.uint64(m)):
            word = x[i]
            d = (word >> shift) & mask
            at = digit[d]
            out[np.uint64(at)] = word
            digit[d] = at + np.uint32(1)
        source, target = target, source
    return source


@_step
def radix_sort(a, b, m, low, high, counts):
    """Sort ``m`` words, equal above bit ``high`` and in order below bit ``low``; where the result is, ``a`` or
    ``b``."""
    if high <= low or m < 2:
        return a
    if m <= 32:
        insertion_sort(a, m, np.int64(1 << 62))
        return a
    # Enough bits to leave almost nothing for an insertion sort.
    enough = np.int64(64) - np.int64(count_leading_zeros(np.uint64(m))) + 4
    start = high - enough
    if start <= low + 6:
        return radix_passes(a, b, m, low, high, counts)
    result = radix_passes(a, b, m, start, high, counts)
    if insertion_sort(result, m, m * 4):
        return result
    return radix_passes(result, a + b - result, m, low, high, counts)


@_step
def write_rows(words, m, row_bits, order, ties):
    """Row numbers of sorted words, and a byte for each: 1 where its chunk is the one before's."""
    x, rows, mask = p_u64(words), p_u32(order), (ONE << np.uint64(row_bits)) - ONE
    for i in range(np.uint64(m)):
        rows[i] = np.uint32(x[i] & mask)
    if ties != 0:
        flags = p_u8(ties)
        flags[np.uint64(0)] = np.uint8(0)
        for i in range(ONE, np.uint64(m)):
            flags[i] = np.uint8(((x[i] ^ x[i - ONE]) >> np.uint64(row_bits)) == np.uint64(0))


@kernel("sort_buckets")
def sort_buckets(first, end, thread, args):
    """words, first word of each bucket (one more), row bits, top bit, scratch, its words per thread, counts (131072
    bytes per thread), order, ties or 0: sort each bucket that fits the scratch (the others are the host's)"""
    starts, size = p_i64(args[1]), args[5]
    scratch, counts = args[4] + thread * size * 8, args[6] + thread * 131072
    for bucket in range(np.uint64(first), np.uint64(end)):
        start = starts[bucket]
        m = starts[bucket + ONE] - start
        if m == 0 or m > size:
            continue
        words = radix_sort(args[0] + start * 8, scratch, m, args[2], args[3], counts)
        write_rows(words, m, args[2], args[7] + start * 4, 0 if args[8] == 0 else args[8] + start)
    return np.int64(0)


@_step
def next_tie(flags, p, end, last):
    """The first row from ``p`` and before ``end`` that starts a run of ties, or ``end``; ``last`` is the end of all
    rows."""
    x = p_u8(flags)
    while p < end:
        if p + 9 <= last and load_u64(flags + p + 1) == np.uint64(0):
            p += 8
            continue
        if p + 1 < last and x[np.uint64(p)] == 0 and x[np.uint64(p + 1)] != 0:
            return p
        p += 1
    return end


@_step
def tie_end(flags, p, last):
    x = p_u8(flags)
    e = p + 1
    while e < last and x[np.uint64(e)] != 0:
        e += 1
    return e


@kernel("sort_ties")
def sort_ties(first, end, thread, args):
    """program over the order, order, ties, ties to write, row bits, top bit, scratch, most rows (the scratch of a
    thread is twice that), counts, first of all rows, end of all rows, list (per thread 4096 words: number, pairs): sort
    each run of ties by the next chunk; longer runs are listed"""
    most, last = args[7], args[10]
    a = args[6] + thread * most * 16
    b, counts, listed = a + most * 8, args[8] + thread * 131072, p_i64(args[11] + thread * 32768)
    stop = args[9] + end
    p = next_tie(args[2], args[9] + first, stop, last)
    while p < stop:
        e = tie_end(args[2], p, last)
        m = e - p
        if m > most:
            at = listed[0]
            listed[at + at + 1], listed[at + at + 2], listed[0] = p, e, at + 1
        else:
            encode(args[0], p, m, a)
            words = radix_sort(a, b, m, args[4], args[5], counts)
            write_rows(words, m, args[4], args[1] + p * 4, args[3] + p)
        p = next_tie(args[2], e, stop, last)
    return np.int64(0)


@_step
def compare_text(offsets, chars, left, right, depth):
    """Negative, 0 or positive: the bytes from ``depth`` of two strings."""
    i, j = offsets[left] + depth, offsets[right] + depth
    n, m = offsets[left + ONE] - i, offsets[right + ONE] - j
    at, both = np.int64(0), min(n, m)
    while at < both:
        x, y = load_u64(chars + i + at), load_u64(chars + j + at)
        if x != y:
            x, y, rest = byte_swap(x), byte_swap(y), both - at
            if rest < 8:
                cut = np.uint64(64) - (np.uint64(rest) << np.uint64(3))
                x, y = x >> cut, y >> cut
            if x != y:
                return np.int64(-1) if x < y else np.int64(1)
        at += 8
    return n - m


@_step
def shared_bytes(offsets, chars, left, right, depth, most):
    """How many bytes from ``depth`` two strings share, at most ``most``."""
    i, j = offsets[left] + depth, offsets[right] + depth
    most = min(most, min(offsets[left + ONE] - i, offsets[right + ONE] - j))
    at = np.int64(0)
    while at < most:
        x = byte_swap(load_u64(chars + i + at) ^ load_u64(chars + j + at))
        if x != np.uint64(0):
            return min(most, at + np.int64(count_leading_zeros(x) >> np.uint64(3)))
        at += 8
    return max(most, np.int64(0))


@kernel("sort_text_prefix")
def sort_text_prefix(first, end, thread, args):
    """offsets, chars, order or 0, first row of all, depth, 8 words per thread (shared bytes, least and greatest
    length): of all rows with the first row"""
    offsets, rows, found = p_i64(args[0]), p_u32(args[2]), p_i64(args[5] + thread * 64)
    start = np.uint64(args[3])
    one = start if args[2] == 0 else np.uint64(rows[start])
    shared, low, high = found[0], found[1], found[2]
    for i in range(start + np.uint64(first), start + np.uint64(end)):
        row = i if args[2] == 0 else np.uint64(rows[i])
        size = offsets[row + ONE] - offsets[row]
        low, high = min(low, size), max(high, size)
        shared = shared_bytes(offsets, args[1], one, row, args[4], shared)
    found[0], found[1], found[2] = shared, low, high
    return np.int64(0)


@kernel("sort_text_ties")
def sort_text_ties(first, end, thread, args):
    """offsets, order, ties, ties to write, row bits, chars, scratch, most rows (the scratch of a thread is four times
    that), counts, first of all rows, end of all rows, list as for sort_ties, depth, width: sort runs of ties by all the
    bytes from depth"""
    offsets, order, done = p_i64(args[0]), p_u32(args[1]), p_u8(args[3])
    chars, most, last, width, row_bits = args[5], args[7], args[10], args[13], args[4]
    a = args[6] + thread * most * 32
    b, stack, counts = a + most * 8, p_i64(a + most * 16), args[8] + thread * 131072
    listed = p_i64(args[11] + thread * 32768)
    stop, words_mask = args[9] + end, (ONE << np.uint64(row_bits)) - ONE
    x = p_u64(a)
    p = next_tie(args[2], args[9] + first, stop, last)
    while p < stop:
        e = tie_end(args[2], p, last)
        if e - p > most:
            at = listed[0]
            listed[at + at + 1], listed[at + at + 2], listed[0] = p, e, at + 1
            p = next_tie(args[2], e, stop, last)
            continue
        # runs to sort: start | length << 32, depth
        stack[0], stack[1] = p | ((e - p) << 32), args[12]
        held = np.int64(1)
        while held > 0:
            held -= 1
            s, depth = stack[held + held] & 0xFFFFFFFF, stack[held + held + 1]
            m = stack[held + held] >> 32
            base = np.uint64(s)
            if m <= 16:
                for i in range(ONE, np.uint64(m)):
                    row, j = order[base + i], i
                    while j > np.uint64(0) and compare_text(offsets, chars, order[base + j - ONE], row, depth) > 0:
                        order[base + j] = order[base + j - ONE]
                        j -= ONE
                    order[base + j] = row
                done[base] = np.uint8(0)
                for i in range(ONE, np.uint64(m)):
                    left, right = order[base + i - ONE], order[base + i]
                    done[base + i] = np.uint8(compare_text(offsets, chars, left, right, depth) == 0)
                continue
            one = np.uint64(order[base])
            shared = offsets[one + ONE] - offsets[one] - depth
            equal = True
            for i in range(np.uint64(m)):
                row = np.uint64(order[base + i])
                shared = shared_bytes(offsets, chars, one, row, depth, shared)
                equal = equal and offsets[row + ONE] - offsets[row] == offsets[one + ONE] - offsets[one]
            done[base] = np.uint8(0)
            if equal and shared >= offsets[one + ONE] - offsets[one] - depth:
                for i in range(ONE, np.uint64(m)):
                    done[base + i] = np.uint8(1)
                continue
            depth += shared
            for i in range(np.uint64(m)):
                row = order[base + i]
                word = text_word(offsets, chars, np.uint64(row), depth, width)
                x[i] = (word << np.uint64(row_bits)) | np.uint64(row)
            words = p_u64(radix_sort(a, b, m, row_bits, row_bits + width * 8 + 4, counts))
            i = np.uint64(0)
            while i < np.uint64(m):
                chunk = words[i] >> np.uint64(row_bits)
                j = i
                while j < np.uint64(m) and words[j] >> np.uint64(row_bits) == chunk:
                    order[base + j] = np.uint32(words[j] & words_mask)
                    done[base + j] = np.uint8(1)
                    j += ONE
                done[base + i] = np.uint8(0)
                # runs that end inside this chunk are equal strings
                if j - i > ONE and np.int64(chunk & np.uint64(15)) == width + 1:
                    stack[held + held] = (s + np.int64(i)) | (np.int64(j - i) << 32)
                    stack[held + held + 1] = depth + width
                    held += 1
                i = j
        p = next_tie(args[2], e, stop, last)
    return np.int64(0)


@kernel("sort_ranks")
def sort_ranks(first, end, thread, args):
    """order, ties, rows per morsel, rank before each morsel, out (u32): dense ranks by row"""
    order, ties, out = p_u32(args[0]), p_u8(args[1]), p_u32(args[4])
    rank = np.uint32(p_i64(args[3])[first // args[2]])
    for i in range(np.uint64(first), np.uint64(end)):
        rank += np.uint32(1) - np.uint32(ties[i])
        out[np.uint64(order[i])] = rank - np.uint32(1)
    return np.int64(0)


@kernel("sort_select")
def sort_select(first, end, thread, args):
    """program, scratch, greatest word, out, room per thread, 8 words per thread (number found): words up to the
    greatest; -1: no room"""
    words = args[1] + thread * ((TILE + 1) * 8)
    x, greatest, found = p_u64(words), np.uint64(args[2]), p_i64(args[5] + thread * 64)
    out, held, block = p_u64(args[3] + thread * args[4] * 8), np.uint64(found[0]), np.uint64(128)
    t = first
    while t < end:
        n = min(np.int64(TILE), end - t)
        encode(args[0], t, n, words)
        start = np.uint64(0)
        while start < np.uint64(n):
            stop = min(start + block, np.uint64(n))
            hits = np.uint64(0)
            for j in range(start, stop):
                hits += np.uint64(x[j] <= greatest)
            if hits:
                if np.int64(held + block) > args[4]:
                    return np.int64(-1)
                for j in range(start, stop):
                    out[held] = x[j]
                    held += np.uint64(x[j] <= greatest)
            start = stop
        t += n
    found[0] = np.int64(held)
    return np.int64(0)


@kernel("sort_boundaries")
def sort_boundaries(first, end, thread, args):
    """flags, value, scratch, number of programs, programs: or the value into the flags where a row's words differ from
    those before (the first row's too)"""
    flags, value = p_u8(args[0]), np.uint8(args[1])
    words = args[2] + thread * ((TILE + 1) * 8)
    x, t = p_u64(words), first
    while t < end:
        n = min(np.int64(TILE), end - t)
        for program in range(np.uint64(args[3])):
            if t == 0:
                encode(args[np.uint64(4) + program], t, n, words + 8)
                x[np.uint64(0)] = ~x[ONE]
            else:
                encode(args[np.uint64(4) + program], t - 1, n + 1, words)
            for j in range(np.uint64(n)):
                flags[np.uint64(t) + j] |= value * np.uint8(x[j] != x[j + ONE])
        t += n
    return np.int64(0)
