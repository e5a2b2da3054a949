"""Device functions over the accumulators that a block has for itself in shared memory (see ``accumulate``).

A word lies there in several copies, neighbouring lanes' side by side. Shared memory adds 32 bits at once, but 64 bits
only by compare and swap (ATOMS.ADD and ATOMS.CAST.SPIN.64 in the assembler's code); so integers that are added up are
kept as halves: the lower ones of all copies, then the upper ones. ``step`` is the number of copies."""

# mypy: ignore-errors
# ruff: noqa: F821
from __future__ import annotations

import numpy as np

from finequery.operators.cuda.functions import double_bits, double_of
from finequery.operators.scalar import exact_digits


def add_own(own, at, step, value):
    """Add to an integer whose lower half is word ``at``; gives the carry of the 64 bits."""
    low = np.uint32(np.uint64(value) & np.uint64(0xFFFFFFFF))
    more = np.uint64(value) >> np.uint64(32)
    if low != np.uint32(0):
        more += (np.uint64(cuda.atomic.add(own, at, low)) + np.uint64(low)) >> np.uint64(32)
    part = np.uint32(more & np.uint64(0xFFFFFFFF))
    if part == np.uint32(0):
        return more >> np.uint64(32)
    return (np.uint64(cuda.atomic.add(own, at + step, part)) + np.uint64(part)) >> np.uint64(32)


def add_own_wide(own, at, step, low, high):
    """Add a 128-bit value to an integer of 192 bits, which no sum of a block's rows passes."""
    carry = add_own(own, at, step, low)
    more = np.uint64(high) + carry
    carry = np.uint64(more < carry)
    if more != np.uint64(0):
        carry += add_own(own, at + 2 * step, step, more)
    top = (high >> np.int64(63)) + np.int64(carry)
    if top != np.int64(0):
        add_own(own, at + 4 * step, step, top)


def add_own_digits(own, at, step, mantissa, place):
    """Add a summand to an exact sum (scalar.EXACT_BITS)."""
    word, low, middle, high = exact_digits(mantissa, place)
    at += 2 * step * word
    add_own(own, at, step, low)
    add_own(own, at + 2 * step, step, middle)
    add_own(own, at + 4 * step, step, high)


def own_word(own, at, step):
    """An integer of a copy."""
    return np.int64(np.uint64(own[at]) | (np.uint64(own[at + step]) << np.uint64(32)))


def own_sum(own, at, step):
    """The sum of all copies of an integer. Threads begin with different ones, so that they read different banks."""
    total = np.int64(0)
    for c in range(step):
        total += own_word(own, at + ((c + cuda.threadIdx.x) & (step - 1)), step)
    return total


def own_sum_f64(own, at, step):
    """The same of doubles."""
    total = np.float64(0)
    for c in range(step):
        total += own[at + ((c + cuda.threadIdx.x) & (step - 1))]
    return total


def own_sum_wide(own, at, step):
    """The three words of the sum of all copies of a 192-bit integer."""
    low, high, top = np.uint64(0), np.uint64(0), np.int64(0)
    for c in range(step):
        copy = at + ((c + cuda.threadIdx.x) & (step - 1))
        word = np.uint64(own_word(own, copy, step))
        low += word
        carry = np.uint64(low < word)
        word = np.uint64(own_word(own, copy + 2 * step, step))
        high += carry
        more = np.int64(high < carry)
        high += word
        top += own_word(own, copy + 4 * step, step) + more + np.int64(high < word)
    return np.int64(low), np.int64(high), top


def extreme_own(own, at, value, least):
    """The least or greatest integer. What is there is looked at first: it is seldom passed."""
    if least:
        if value < own[at]:
            cuda.atomic.min(own, at, value)
    elif value > own[at]:
        cuda.atomic.max(own, at, value)


def own_extreme(own, at, step, least):
    """The least or greatest of all copies."""
    best = own[at]
    for c in range(1, step):
        value = own[at + c]
        best = min(best, value) if least else max(best, value)
    return best


def own_extreme_f64(own, at, step, least):
    """The same of doubles, NaN being the greatest."""
    best = own[at]
    for c in range(1, step):
        value = own[at + c]
        if least:
            if value < best or (best != best and value == value):
                best = value
        elif value > best or (value != value and best == best):
            best = value
    return best


def merge_moments(doubles, words, at, step, count, mean, squares):
    """Add moments (count, mean, sum of squared deviations) to others, as primitives.aggregate.merge_moments; a row has
    the moments 1, its value and 0. The count is a lock too: -1 is the pattern of no count. It is read by compare and
    swap, never from a cache, and what is done under it stands inside the loop that waits."""
    locked, waits = np.int64(-1), True
    while waits:
        old = cuda.atomic.cas(words, at, locked, locked)
        if old != locked and cuda.atomic.cas(words, at, old, locked) == old:
            cuda.threadfence()
            before = double_of(old)
            total = before + count
            delta = mean - doubles[at + step]
            doubles[at + step] += delta * count / total
            doubles[at + 2 * step] += squares + delta * delta * before * count / total
            cuda.threadfence()
            cuda.atomic.exch(words, at, double_bits(total))
            waits = False


def flush_moments(own, at, step, doubles, words, group):
    """Add all copies of a group's moments to the accumulator."""
    count, mean, squares = np.float64(0), np.float64(0), np.float64(0)
    for c in range(step):
        more = own[at + c]
        if more > 0.0:
            total = count + more
            delta = own[at + step + c] - mean
            mean += delta * more / total
            squares += own[at + 2 * step + c] + delta * delta * count * more / total
            count = total
    if count > 0.0:
        merge_moments(doubles, words, 3 * group, 1, count, mean, squares)
