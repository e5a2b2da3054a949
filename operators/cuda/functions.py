"""Device functions of the kernels, for one row each. Their source goes into the kernels that call them; they call
nothing but numpy's scalar types, each other, and ``cuda``, which a kernel's module has."""

# mypy: ignore-errors
# ruff: noqa: F821, SIM110
from __future__ import annotations

import numpy as np

from finequery.operators.scalar import exact_digits, mix, substring_window


def bit(bitmap, i):
    """Bit ``i`` of a bitmap, 0 or 1."""
    return (bitmap[i >> 3] >> np.uint8(i & 7)) & np.uint8(1)


def rank(bits, prefix, v):
    """Set bits before bit ``v``."""
    word = bits[v >> np.uint64(6)] & ((np.uint64(1) << (v & np.uint64(63))) - np.uint64(1))
    return prefix[v >> np.uint64(6)] + np.uint32(cuda.popc(word))


def search(keys, values, lines, key):
    """The value + 1 of a key in a table of lines (primitives.joins), or 0. The table is seen as words and as halves:
    a line is eight words, five keys and then five values and the word that says that keys went on."""
    h = mix(key)
    region = (h >> np.uint64(56)) * lines
    line = ((h >> np.uint64(24)) & np.uint64(0xFFFFFFFF)) * lines >> np.uint64(32)
    while True:
        at = (region + line) * np.uint64(8)
        below = at * np.uint64(2) + np.uint64(10)
        for s in range(5):
            value = values[below + np.uint64(s)]
            if value == np.uint32(0):
                return np.uint32(0)
            if keys[at + np.uint64(s)] == key:
                return value
        if values[below + np.uint64(5)] == np.uint32(0):
            return np.uint32(0)
        line += np.uint64(1)
        if line == lines:
            line = np.uint64(0)


def find_row(table, empty, key, shift, mask, words, groups, most):
    """The place of a key's row in a row table (primitives.groups), entered if it is new; the row behind the last slot
    for ``empty``, the key that marks free rows; -1 where the table is too full. ``groups`` counts the rows entered."""
    if key == empty:
        cuda.atomic.max(groups, 1, np.int64(1))
        return (mask + 1) * words
    slot = np.int64((mix(key) >> np.uint64(shift)) & np.uint64(mask))
    # A key is there as soon as it is swapped in: its row's accumulators were made before the launch. ``groups`` is
    # counted after that, so as many threads as run at once may pass ``most``, and fill every slot of a small table:
    # the search ends after one round.
    for _ in range(mask + 1):
        at = slot * words
        found = table[at]
        if found == empty:
            if groups[0] > most:
                return np.int64(-1)
            found = cuda.atomic.cas(table, at, empty, key)
            if found == empty:
                cuda.atomic.add(groups, 0, np.int64(1))
                return at
        if found == key:
            return at
        slot = (slot + 1) & mask
    return np.int64(-1)


def add_wide(acc, at, low, high):
    """Add to a 128-bit sum: the carry of the lower word is known from what it held before. True on overflow."""
    old = cuda.atomic.add(acc, at, low)
    more = high + np.int64(np.uint64(old) + np.uint64(low) < np.uint64(low))
    before = cuda.atomic.add(acc, at + 1, more)
    after = before + more
    return ((before ^ after) & (more ^ after)) < 0


def add_digits(acc, at, mantissa, place):
    """Add a summand to an exact sum (scalar.EXACT_BITS)."""
    word, low, middle, high = exact_digits(mantissa, place)
    at += word
    if low != 0:
        cuda.atomic.add(acc, at, low)
    if middle != 0:
        cuda.atomic.add(acc, at + 1, middle)
    if high != 0:
        cuda.atomic.add(acc, at + 2, high)


def extreme_wide(acc, at, step, low, high, least, locks, lock):
    """The least or greatest 128-bit value; its words are ``step`` apart. Values whose upper word decides against them
    are not looked at further (an older one is only further away); the others take a lock. What is done under it stands
    inside the loop that waits: no thread of the holder's warp can keep it from going on."""
    seen = acc[at + step]
    if (high > seen) if least else (high < seen):
        return
    waits = True
    while waits:
        if cuda.atomic.cas(locks, lock, np.int64(0), np.int64(1)) == 0:
            cuda.threadfence()
            seen, below = acc[at + step], acc[at]
            less = high < seen or (high == seen and np.uint64(low) < np.uint64(below))
            same = high == seen and low == below
            if (less if least else not less) and not same:
                acc[at] = low
                acc[at + step] = high
            cuda.threadfence()
            cuda.atomic.exch(locks, lock, np.int64(0))
            waits = False


def double_of(word):
    """The double of a bit pattern."""
    bits = cuda.local.array(1, np.int64)
    bits[0] = word
    return bits.view(np.float64)[0]


def hash_word(h, word):
    """A step of primitives.hashing.hash_bytes."""
    h = (h ^ word) * np.uint64(0xD6E8FEB86659FD93)
    return h ^ (h >> np.uint64(32))


def find_wide(low, high, words, table, mask, firsts):
    """The number of a 128-bit value among interned ones, -1 where it is not (primitives.hashing.find_interned)."""
    h = np.uint64(16) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(1)
    h = hash_word(hash_word(h, np.uint64(low)), np.uint64(high)) * np.uint64(0x9E3779B97F4A7C15)
    slot = (h >> np.uint64(20)) & np.uint64(mask)
    while True:
        value = table[slot * np.uint64(2) + np.uint64(1)]
        if value == np.uint64(0):
            return np.int64(-1)
        if table[slot * np.uint64(2)] == h:
            other = np.int64(firsts[np.int64(value) - 1]) * 2
            if words[other] == low and words[other + 1] == high:
                return np.int64(value) - 1
        slot = (slot + np.uint64(1)) & np.uint64(mask)


def find_text(text, start, size, offsets, chars, table, mask, firsts):
    """The number of a string among interned ones, -1 where it is not."""
    h = np.uint64(size) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(1)
    word = np.uint64(0)
    for i in range(size):
        word |= np.uint64(text[start + i]) << np.uint64(8 * (i & 7))
        if (i & 7) == 7 or i == size - 1:
            h = hash_word(h, word)
            word = np.uint64(0)
    h *= np.uint64(0x9E3779B97F4A7C15)
    slot = (h >> np.uint64(20)) & np.uint64(mask)
    while True:
        value = table[slot * np.uint64(2) + np.uint64(1)]
        if value == np.uint64(0):
            return np.int64(-1)
        if table[slot * np.uint64(2)] == h:
            other = np.int64(firsts[np.int64(value) - 1])
            begin = offsets[other]
            if offsets[other + 1] - begin == size:
                same = True
                for i in range(size):
                    if chars[begin + i] != text[start + i]:
                        same = False
                        break
                if same:
                    return np.int64(value) - 1
        slot = (slot + np.uint64(1)) & np.uint64(mask)


def extreme_f64(acc, at, bits, value, least):
    """The least or greatest double, NaN being the greatest; ``bits`` are the accumulator's words. What is compared
    again is what the swap found, not what a cache may still hold."""
    seen = double_bits(acc[at])
    while True:
        old = double_of(seen)
        if least:
            if not ((value < old) or (old != old and value == value)):
                return
        elif not ((value > old) or (value != value and old == old)):
            return
        found = cuda.atomic.cas(bits, at, seen, double_bits(value))
        if found == seen:
            return
        seen = found


def double_bits(a):
    """The bit pattern of a double."""
    word = cuda.local.array(1, np.float64)
    word[0] = a
    return word.view(np.int64)[0]


def text_order(a, i, m, b, j, n):
    """-1, 0, 1: two strings by byte order."""
    for s in range(min(m, n)):
        x, y = a[i + s], b[j + s]
        if x != y:
            return -1 if x < y else 1
    return 0 if m == n else (-1 if m < n else 1)


def characters(chars, start, length):
    """Characters of a UTF-8 string: the bytes that are no continuation."""
    count = np.int64(0)
    for s in range(length):
        count += np.int64((chars[start + s] & np.uint8(0xC0)) != np.uint8(0x80))
    return count


def skip_characters(chars, start, length, count):
    """Bytes of the first ``count`` characters."""
    at = np.int64(0)
    while at < length and count > 0:
        at += 1
        while at < length and (chars[start + at] & np.uint8(0xC0)) == np.uint8(0x80):
            at += 1
        count -= 1
    return at


def substring_ascii(chars, at, size, start, length):
    """Start and length of a substring, one byte per character."""
    first, end = substring_window(size, start, length)
    return at + first, end - first


def substring(chars, at, size, start, length):
    """Start and length of a substring of characters."""
    first, end = substring_window(characters(chars, at, size), start, length)
    skipped = skip_characters(chars, at, size, first)
    return at + skipped, skip_characters(chars, at + skipped, size - skipped, end - first)


def same_text(a, i, b, n):
    """Whether the bytes from ``i`` on are those of a constant."""
    for s in range(n):
        if a[i + s] != b[s]:
            return False
    return True


def segment_at(chars, at, length, pattern, word, text, fold):
    """primitives.strings.segment_at: bytes that a segment of a LIKE pattern matches here; -1 where it does not."""
    begin, size = pattern[word] - pattern[4], pattern[word + 1]
    i = np.int64(0)
    for j in range(size):
        if i >= length:
            return np.int64(-1)
        byte, wanted = chars[at + i], text[begin + j]
        i += 1
        if wanted == np.uint8(255):
            while i < length and (chars[at + i] & np.uint8(0xC0)) == np.uint8(0x80):
                i += 1
        else:
            if fold and byte >= np.uint8(65) and byte <= np.uint8(90):
                byte = np.uint8(byte + np.uint8(32))
            if byte != wanted:
                return np.int64(-1)
    return i


def like(chars, start, length, pattern, text):
    """primitives.strings.match: whether a string matches a pattern, leftmost segments first."""
    flags, count = pattern[0], pattern[1]
    fold = (flags & 4) != 0
    place, number = np.int64(0), np.int64(0)
    if (flags & 1) != 0:
        place = segment_at(chars, start, length, pattern, 4, text, fold)
        if place < 0:
            return np.uint8(0)
        number = np.int64(1)
    floating = count - 1 if (flags & 2) != 0 else count
    while number < floating:
        word = 4 + 8 * number
        taken = np.int64(-1)
        while place + pattern[word + 1] <= length:
            if (chars[start + place] & np.uint8(0xC0)) != np.uint8(0x80):
                taken = segment_at(chars, start + place, length - place, pattern, word, text, fold)
                if taken >= 0:
                    break
            place += 1
        if taken < 0:
            return np.uint8(0)
        place += taken
        number += 1
    if (flags & 2) == 0:
        return np.uint8(1)
    if number == count:  # the segment at the start is the one at the end
        return np.uint8(place == length)
    word = 4 + 8 * number
    at, left = length, pattern[word + 2]
    while left > 0 and at > place:
        at -= 1
        while at > place and (chars[start + at] & np.uint8(0xC0)) == np.uint8(0x80):
            at -= 1
        left -= 1
    if left > 0:
        return np.uint8(0)
    return np.uint8(segment_at(chars, start + at, length - at, pattern, word, text, fold) == length - at)


def copy_text(target, at, chars, start, length):
    """Copy the bytes of a string."""
    for s in range(length):
        target[at + s] = chars[start + s]
