"""The inner loops of encoding. Those over single values are compiled (primitives/encode.py); the rest is numpy, which
releases the interpreter lock as well."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from finequery.operators import native

#: Rows that a numpy loop handles at a time, to stay in cache.
CHUNK = 65536
_WORD = 2**64
_SOURCES = {"i4": "i32", "i8": "i64", "u1": "u8", "u2": "u16", "u4": "u32"}
_TARGETS = {"u1": "u8", "u2": "u16", "u4": "u32", "i8": "i64"}


class Range(NamedTuple):
    """What one pass over integers finds."""

    low: int
    high: int
    ascending: bool  # no value below the one before; False where nobody asked
    strict: bool  # every value above the one before
    runs: int  # different values, where ascending
    factor: int  # common factor of all values, where asked for; 0: all are 0
    first: int
    last: int


def source_of(values: np.ndarray) -> tuple[np.ndarray, str]:
    """The array in a form that the compiled kernels read, and that form's name."""
    if values.dtype.str[1:] in ("i1", "i2"):
        values = values.astype(np.int32)
    if values.dtype == np.int64 and values.strides == (16,):
        return values, "w"
    return np.ascontiguousarray(values), _SOURCES[values.dtype.str[1:]]


def measure(values: np.ndarray, order: bool, factor: int | None = None) -> Range:
    """Range of a non-empty integer array. ``order``: also whether it ascends. ``factor``: also the greatest common
    factor of this number (0 to start with) and all values."""
    values, form = source_of(values)
    out = np.zeros(5, np.int64)
    out[4] = factor or 0
    where, count = out.ctypes.data, len(values)
    native.run(f"measure_{form}", values.ctypes.data, where, int(order), int(factor is not None), n=count)
    low, high, descents, equal, common = out.tolist()
    ascending = order and descents == 0
    return Range(
        low,
        high,
        ascending,
        ascending and equal == 0,
        count - equal,
        common % _WORD,
        int(values[0]),
        int(values[-1]),
    )


def narrow(values: np.ndarray, base: int, scale: int, out: np.ndarray) -> None:
    """out = (value - base) / scale; the caller knows that it divides and fits, and that int64 has base 0."""
    values, form = source_of(values)
    name = f"narrow_{form}_{_TARGETS[out.dtype.str[1:]]}"
    native.run(name, values.ctypes.data, out.ctypes.data, base, *exact_division(scale), n=len(values))


def exact_division(scale: int) -> tuple[int, int]:
    """Division of what ``scale`` divides: by a shift, then a product modulo 2**64 with the inverse of what is odd
    (as int64)."""
    shift = (scale & -scale).bit_length() - 1
    inverse = pow(scale >> shift, -1, _WORD) if scale >> shift > 1 else 1
    return shift, inverse - (_WORD if inverse >= _WORD // 2 else 0)


def rebase(stored: np.ndarray, factor: int, shift: int, out: np.ndarray) -> None:
    """out = stored * factor + shift, from one narrow form to another: modulo the target's width, as the end fits."""
    if factor == 1 and shift == 0:
        np.copyto(out, stored, casting="unsafe")
        return
    target = out.view(f"u{out.itemsize}")
    modulus = 1 << 8 * out.itemsize
    np.multiply(stored, target.dtype.type(factor % modulus), out=target, dtype=target.dtype, casting="unsafe")
    if shift:
        target += target.dtype.type(shift % modulus)


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
    estimate = rows if once == size else int(min(size * found / (size - once + once * size / rows), rows))
    estimate = max(found, estimate)
    return estimate if most is None else min(estimate, most)
