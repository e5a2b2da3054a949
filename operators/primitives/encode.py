"""Encoding: measuring integers (range, order, common factor) and narrowing them.

Sources are i32, i64, the unsigned widths, and ``w``: the low words of 128-bit values that all fit 64 bits.
"""

# mypy: ignore-errors
from __future__ import annotations

import numpy as np
from numba import njit

from finequery.operators.intrinsics import POINTER, count_trailing_zeros, p_i64
from finequery.operators.primitives import kernel

TILE = np.uint64(2048)
ZERO, ONE, TWO = np.uint64(0), np.uint64(1), np.uint64(2)


@njit(error_model="numpy", inline="always")
def _inverse(odd):
    """The inverse of an odd number modulo 2**64 (each step doubles the correct bits)."""
    x = odd * np.uint64(3) ^ TWO
    for _ in range(4):
        x *= TWO - odd * x
    return x


@njit(error_model="numpy", inline="always")
def _gcd(a, b):
    while b != ZERO:
        a, b = b, a % b
    return a


def _define_measure(name: str, pointer, step) -> None:
    @kernel(f"measure_{name}")
    def measure(t, n, k, args):
        """source, out, order (0/1), factor (0/1): over n > 0 rows, out (i64 words) = lowest, highest, descents (0 or
        more), neighbours that are equal, common factor of all values (0: all are 0; only grown from out[4])"""
        x, out = pointer(args[0]), p_i64(args[1])
        rows, factor = np.uint64(n), np.uint64(out[4])
        order, wanted = args[2] != 0, args[3] != 0
        lowest = highest = np.int64(x[ZERO])
        descents = equal = ZERO
        for begin in range(ZERO, rows, TILE):
            end = min(begin + TILE, rows)
            low = high = np.int64(x[begin * step])
            for j in range(begin, end):
                v = np.int64(x[j * step])
                low = min(low, v)
                high = max(high, v)
            lowest, highest = min(lowest, low), max(highest, high)
            if order:
                last = min(end, rows - ONE)
                for j in range(begin, last):
                    a, b = np.int64(x[j * step]), np.int64(x[(j + ONE) * step])
                    descents += np.uint64(b < a)
                    equal += np.uint64(b == a)
                order = descents == ZERO
            if wanted and factor != ONE:
                bottom = np.uint64(low)
                factor = _gcd(np.uint64(-low) if low < 0 else bottom, factor)
                if high != low and factor != ONE:
                    j = begin
                    if factor == ZERO:
                        factor = np.uint64(high) - bottom
                    shift = count_trailing_zeros(factor)
                    inverse = _inverse(factor >> shift)
                    limit = np.uint64(0xFFFFFFFFFFFFFFFF) // factor
                    back = (np.uint64(64) - shift) & np.uint64(63)
                    bad = ZERO
                    for i in range(begin, end):
                        q = (np.uint64(np.int64(x[i * step])) - bottom) * inverse
                        q = (q >> shift) | (q << back)
                        bad += np.uint64(q > limit)
                    if bad != ZERO:
                        while j < end and factor != ONE:
                            factor = _gcd(factor, np.uint64(np.int64(x[j * step])) - bottom)
                            j += ONE
        out[0], out[1], out[2], out[3], out[4] = lowest, highest, np.int64(descents), np.int64(equal), np.int64(factor)
        return np.int64(0)


def _define_narrow(name: str, pointer, step, target: str) -> None:
    out_type = {"u8": np.uint8, "u16": np.uint16, "u32": np.uint32, "i64": np.int64}[target]
    out_pointer = POINTER[target]

    @kernel(f"narrow_{name}_{target}")
    def narrow(t, n, k, args):
        """source, out, base, shift, inverse: out = (x - base) >> shift times inverse, which is exact division"""
        x, out, base = pointer(args[0]), out_pointer(args[1]), np.uint64(args[2])
        shift, inverse = np.uint64(args[3]), np.uint64(args[4])
        if shift == ZERO and inverse == ONE:
            for j in range(np.uint64(n)):
                out[j] = out_type(np.uint64(np.int64(x[j * step])) - base)
        else:
            for j in range(np.uint64(n)):
                out[j] = out_type(((np.uint64(np.int64(x[j * step])) - base) >> shift) * inverse)
        return np.int64(0)


def _define_narrow_signed(name: str, pointer, step) -> None:
    @kernel(f"narrow_{name}_i64")
    def narrow(t, n, k, args):
        """source, out, (base 0), shift, inverse: out = (x >> shift) * inverse"""
        x, out, shift, inverse = pointer(args[0]), p_i64(args[1]), args[3], args[4]
        for j in range(np.uint64(n)):
            out[j] = (np.int64(x[j * step]) >> shift) * inverse
        return np.int64(0)


for _name in ("i32", "i64", "u8", "u16", "u32"):
    _define_measure(_name, POINTER[_name], ONE)
    for _target in ("u8", "u16", "u32"):
        _define_narrow(_name, POINTER[_name], ONE, _target)
    _define_narrow_signed(_name, POINTER[_name], ONE)
_define_measure("w", p_i64, TWO)
for _target in ("u8", "u16", "u32"):
    _define_narrow("w", p_i64, TWO, _target)
_define_narrow_signed("w", p_i64, TWO)


def _define_words(name: str, pointer) -> None:
    @kernel(f"words_{name}")
    def words(t, n, k, args):
        """128-bit values of stored ones: source, factor, shift, out (low word, high word)"""
        x, factor, shift, out = pointer(args[0]), args[1], args[2], p_i64(args[3])
        for j in range(np.uint64(n)):
            v = np.int64(x[j]) * factor + shift
            out[j * TWO] = v
            out[j * TWO + ONE] = v >> np.int64(63)
        return np.int64(0)


for _name in ("u8", "u16", "u32", "i64"):
    _define_words(_name, POINTER[_name])
