"""The inner loops of encoding, each over one chunk of rows so that threads share the work and the chunk stays in cache."""

from __future__ import annotations

from math import gcd
from typing import NamedTuple

import numpy as np

#: Rows that a kernel handles at a time.
CHUNK = 65536
_WORD = 2**64


class Range(NamedTuple):
    """What one pass over a chunk's integers finds."""

    low: int
    high: int
    ascending: bool  # no value below the one before
    strict: bool  # every value above the one before
    runs: int  # values that differ from the one before, plus one; meaningful where ascending
    first: int
    last: int


def measure(values: np.ndarray, order: bool) -> Range:
    """Range of a non-empty integer array, and its order unless ``order`` says that nobody asks."""
    low, high = int(values.min()), int(values.max())
    first, last = int(values[0]), int(values[-1])
    ascending = strict = order and first <= last
    runs = 1
    if ascending and len(values) > 1:
        head = values[:1024]
        ascending = bool((head[1:] >= head[:-1]).all())
        if ascending:
            before, after = values[:-1], values[1:]
            ascending = bool((after >= before).all())
        if ascending:
            runs += int(np.count_nonzero(after != before))
        strict = ascending and runs == len(values)
    return Range(low, high, ascending, strict, runs, first, last)


def common_factor(values: np.ndarray, factor: int) -> int:
    """gcd of ``factor`` (0: none yet) and the values; gives up at 1."""
    if factor == 0 or len(values) > 256:
        factor = gcd(factor, int(np.gcd.reduce(values[:256].astype(np.int64))))
    if factor <= 1 or len(values) <= 256:
        return factor if factor == 0 or len(values) > 256 else gcd(factor, int(np.gcd.reduce(values.astype(np.int64))))
    if factor < 2**62 and bool((values % values.dtype.type(factor) == 0).all()):
        return factor
    return gcd(factor, int(np.gcd.reduce(values.astype(np.int64))))


def narrow(values: np.ndarray, base: int, scale: int, out: np.ndarray) -> None:
    """out = (value - base) / scale for integers of any width; the caller knows that it divides and fits."""
    if out.dtype == np.int64:
        if base:
            raise AssertionError("int64 columns have base 0")
        if scale == 1:
            out[:] = values
        else:
            np.floor_divide(values, scale, out=out, casting="unsafe")
        return
    if base == 0 and scale == 1:
        np.copyto(out, values, casting="unsafe")
        return
    wide = values.astype(np.int64, copy=False).view(np.uint64) - np.uint64(base % _WORD)  # exact: wraps as it should
    if scale != 1:
        np.floor_divide(wide, np.uint64(scale), out=wide)
    np.copyto(out, wide, casting="unsafe")


def rebase(stored: np.ndarray, factor: int, shift: int, out: np.ndarray) -> None:
    """out = stored * factor + shift, from one narrow form to another (wraps in between, fits in the end)."""
    if factor == 1 and shift == 0:
        np.copyto(out, stored, casting="unsafe")
        return
    wide = stored.astype(np.uint64)
    if factor != 1:
        wide *= np.uint64(factor % _WORD)
    if shift:
        wide += np.uint64(shift % _WORD)
    np.copyto(out, wide.view(np.int64) if out.dtype == np.int64 else wide, casting="unsafe")


def remap(codes: np.ndarray, table: np.ndarray | None, out: np.ndarray) -> None:
    """out = table[codes]: dictionary codes to those of another dictionary."""
    if table is None:
        np.copyto(out, codes, casting="unsafe")
    else:
        np.take(table.astype(out.dtype, copy=False), codes, out=out, mode="clip")


def fits_one_word(words: np.ndarray) -> bool:
    """Whether 128-bit values (low, high, low, high, …) all lie in the range of int64."""
    pairs = words.view(np.int64)
    return bool((pairs[1::2] == pairs[::2] >> 63).all())


def range128(words: np.ndarray) -> tuple[int, int]:
    """Smallest and largest of 128-bit values (non-empty)."""
    high = words[1::2].view(np.int64)
    low = words[::2]
    bottom, top = int(high.min()), int(high.max())
    return (bottom << 64) + int(low[high == bottom].min()), (top << 64) + int(low[high == top].max())


def all_distinct(stored: list[np.ndarray], span: int, rows: int) -> bool:
    """Whether no stored value below ``span`` occurs twice, by a byte map; stops at the first chunk with a repeat."""
    seen = np.zeros(span, np.bool_)
    done = 0
    for part in stored:
        for start in range(0, len(part), CHUNK):
            chunk = part[start : start + CHUNK]
            if done and bool(seen[chunk].any()):
                return False
            seen[chunk] = True
            if done == 0 and int(np.count_nonzero(seen)) != len(chunk):
                return False
            done += len(chunk)
    return int(np.count_nonzero(seen)) == rows


def block_bounds(stored: np.ndarray, block: int) -> tuple[np.ndarray, np.ndarray]:
    """Smallest and largest stored value of each block of rows."""
    whole = len(stored) // block * block
    blocks = stored[:whole].reshape(-1, block)
    low, high = blocks.min(axis=1), blocks.max(axis=1)
    if whole < len(stored):
        rest = stored[whole:]
        low, high = np.append(low, rest.min()), np.append(high, rest.max())
    return low, high


def unpack_bits(bits: np.ndarray, start: int, count: int) -> np.ndarray:
    """``count`` bits from position ``start`` as booleans."""
    first = start // 8
    last = (start + count + 7) // 8
    return np.unpackbits(bits[first:last], bitorder="little")[start - first * 8 :][:count].view(np.bool_)


def distinct_estimate(sample: np.ndarray, rows: int, most: int | None) -> int:
    """Distinct values among ``rows`` from a random sample of them (the estimator Duj1), at most ``most``."""
    size = len(sample)
    if size == 0:
        return 0
    counts = np.unique(sample, return_counts=True)[1]
    found, once = len(counts), int(np.count_nonzero(counts == 1))
    if size >= rows:
        return found
    estimate = size * found / (size - once + once * size / rows)
    estimate = max(found, min(estimate, rows))
    return int(estimate) if most is None else min(int(estimate), most)
