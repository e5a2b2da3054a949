"""The meaning of every element-wise instruction, written once: small functions that Numba compiles for the CPU's tile
primitives and for CUDA kernels alike. Nothing here imports Numba, and nothing may allocate, raise or divide by zero.
Integers wrap.

``INSTRUCTIONS[name] = (inputs, outputs, checked, function)``. Register types: ``u8`` (booleans, masks, validity),
``u32`` (codes, row numbers), ``i64``, ``f64``, ``w`` (128 bits: two int64 words, low and high; the function gets and
gives two arguments for each), ``s`` (a string as address and length). A *checked* function gives one more value:
nonzero means error; the primitive reports it for rows that are valid (a further ``u8`` input, after the others).
"""

# mypy: disable-error-code="no-untyped-def"
# ruff: noqa: RUF059
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

INSTRUCTIONS: dict[str, tuple[tuple[str, ...], tuple[str, ...], bool, Callable[..., Any]]] = {}


def instruction(name: str, signature: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register: ``signature`` is "i64 i64 -> i64", with a trailing "!" for checked."""

    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        checked = signature.endswith("!")
        left, right = signature.rstrip("!").split("->")
        INSTRUCTIONS[name] = (tuple(left.split()), tuple(right.split()), checked, function)
        return function

    return register


# --- what primitives and kernels share without being an instruction ---------------------------------------------------

#: The key that marks a free row in a table of groups. Any value would do; this one is no likely key.
EMPTY_KEY = 0x8C5F3A91D7E2B46D

#: An exact sum of doubles is an integer of 2**-1074, the smallest double: digits of 30 bits in words of their own, so
#: that 2**33 values can be added before a carry is due; behind them how often inf, -inf and NaN were added.
EXACT_BITS, EXACT_DIGITS = 30, 71
EXACT_WORDS = EXACT_DIGITS + 3


def mix(x):
    """Multiplicative (Fibonacci) hash: good top bits for keys in any arithmetic order (Knuth, The Art of Computer
    Programming 3, 6.4). Folded, so that its low bits depend on all of the key too."""
    h = np.uint64(x) * np.uint64(0x9E3779B97F4A7C15)
    return h ^ (h >> np.uint64(32))


def substring_window(size, start, length):
    """First and end (0-based) of SUBSTRING(s, start, length) in a string of ``size`` characters, by DuckDB's rules:
    characters in front of the first one count."""
    first = start - 1 if start > 0 else (size + start if start < 0 else np.int64(-1))
    end = first + length
    if length < 0:
        first, end = end, first
    first = min(max(first, np.int64(0)), size)
    return first, min(max(end, first), size)


def exact_mantissa(word):
    """Of a double, given its bit pattern: mantissa (with the double's sign) and place, so that it is
    mantissa * 2**(place - 1074). The place of inf and NaN is 4096."""
    place = (word >> np.int64(52)) & np.int64(2047)
    mantissa = word & np.int64(0xFFFFFFFFFFFFF)
    if place != np.int64(0):
        mantissa |= np.int64(0x10000000000000)
        place = place - np.int64(1) if place != np.int64(2047) else np.int64(4096)
    return (-mantissa if word < np.int64(0) else mantissa), place


def exact_square(mantissa, place):
    """The square of a double as three summands, each a mantissa and a place: its halves are multiplied apart. From
    2**1024 on it is inf."""
    if place >= np.int64(1534):
        infinite = np.int64(0x10000000000000)
        size = abs(mantissa) if place == np.int64(4096) else infinite
        return size, np.int64(4096), np.int64(0), np.int64(0), np.int64(0), np.int64(0)
    high, low = abs(mantissa) >> np.int64(27), abs(mantissa) & np.int64(0x7FFFFFF)
    place += place - np.int64(1074)
    return high * high, place + np.int64(54), high * low, place + np.int64(28), low * low, place


def exact_digits(mantissa, place):
    """The first of three words of an exact sum, and what is added to them for mantissa * 2**(place - 1074), where the
    mantissa has at most 54 bits and the place is at most 2069. Bits below the first word are cut off. inf, -inf and
    NaN are counted."""
    size = abs(mantissa)
    if place > np.int64(2069):
        number = np.int64(size == np.int64(0x10000000000000))
        above = number * np.int64(mantissa > np.int64(0))
        return np.int64(71), above, number - above, np.int64(1) - number
    if place < np.int64(0):
        size >>= min(-place, np.int64(63))
        place = np.int64(0)
    word = place // np.int64(30)
    shift = place - word * np.int64(30)
    digit = np.int64(0x3FFFFFFF)
    low = (size & (digit >> shift)) << shift
    middle = (size >> (np.int64(30) - shift)) & digit
    high = size >> (np.int64(60) - shift)
    if mantissa < np.int64(0):
        return word, -low, -middle, -high
    return word, low, middle, high


# --- booleans: 0 or 1; three-valued logic keeps value and validity apart -------------------------------------------


@instruction("and_u8", "u8 u8 -> u8")
def and_u8(a, b):
    return a & b


@instruction("or_u8", "u8 u8 -> u8")
def or_u8(a, b):
    return a | b


@instruction("not_u8", "u8 -> u8")
def not_u8(a):
    return a ^ np.uint8(1)


@instruction("xor_u8", "u8 u8 -> u8")
def xor_u8(a, b):
    return a ^ b


@instruction("and3", "u8 u8 u8 u8 -> u8 u8")
def and3(a, va, b, vb):
    """a AND b with NULLs: (value, valid); false AND NULL is false."""
    return a & va & b & vb, (va & vb) | (va & (a ^ np.uint8(1))) | (vb & (b ^ np.uint8(1)))


@instruction("or3", "u8 u8 u8 u8 -> u8 u8")
def or3(a, va, b, vb):
    """a OR b with NULLs: (value, valid); true OR NULL is true."""
    return (a & va) | (b & vb), (va & vb) | (va & a) | (vb & b)


# --- comparison -----------------------------------------------------------------------------------------------------


@instruction("eq_u8", "u8 u8 -> u8")
def eq_u8(a, b):
    return np.uint8(a == b)


@instruction("eq_u32", "u32 u32 -> u8")
def eq_u32(a, b):
    return np.uint8(a == b)


@instruction("lt_u32", "u32 u32 -> u8")
def lt_u32(a, b):
    return np.uint8(a < b)


@instruction("le_u32", "u32 u32 -> u8")
def le_u32(a, b):
    return np.uint8(a <= b)


@instruction("eq_i64", "i64 i64 -> u8")
def eq_i64(a, b):
    return np.uint8(a == b)


@instruction("lt_i64", "i64 i64 -> u8")
def lt_i64(a, b):
    return np.uint8(a < b)


@instruction("le_i64", "i64 i64 -> u8")
def le_i64(a, b):
    return np.uint8(a <= b)


@instruction("eq_f64", "f64 f64 -> u8")
def eq_f64(a, b):
    """NaN equals NaN."""
    return np.uint8(a == b) | (np.uint8(a != a) & np.uint8(b != b))


@instruction("lt_f64", "f64 f64 -> u8")
def lt_f64(a, b):
    """NaN is the greatest."""
    return np.uint8(a < b) | (np.uint8(a == a) & np.uint8(b != b))


@instruction("le_f64", "f64 f64 -> u8")
def le_f64(a, b):
    return np.uint8(a <= b) | np.uint8(b != b)


@instruction("eq_w", "w w -> u8")
def eq_w(a, ah, b, bh):
    return np.uint8(a == b) & np.uint8(ah == bh)


@instruction("lt_w", "w w -> u8")
def lt_w(a, ah, b, bh):
    return np.uint8(ah < bh) | (np.uint8(ah == bh) & np.uint8(np.uint64(a) < np.uint64(b)))


@instruction("le_w", "w w -> u8")
def le_w(a, ah, b, bh):
    return np.uint8(ah < bh) | (np.uint8(ah == bh) & np.uint8(np.uint64(a) <= np.uint64(b)))


# --- 64-bit integers -------------------------------------------------------------------------------------------------


@instruction("add_i64", "i64 i64 -> i64")
def add_i64(a, b):
    return a + b


@instruction("sub_i64", "i64 i64 -> i64")
def sub_i64(a, b):
    return a - b


@instruction("mul_i64", "i64 i64 -> i64")
def mul_i64(a, b):
    return a * b


@instruction("neg_i64", "i64 -> i64")
def neg_i64(a):
    return -a


@instruction("abs_i64", "i64 -> i64")
def abs_i64(a):
    return -a if a < 0 else a


@instruction("sign_i64", "i64 -> i64")
def sign_i64(a):
    return np.int64(a > 0) - np.int64(a < 0)


@instruction("add_i64_checked", "i64 i64 -> i64!")
def add_i64_checked(a, b):
    r = a + b
    return r, np.uint8(((a ^ r) & (b ^ r)) < 0)


@instruction("sub_i64_checked", "i64 i64 -> i64!")
def sub_i64_checked(a, b):
    r = a - b
    return r, np.uint8(((a ^ b) & (a ^ r)) < 0)


@instruction("in_range", "i64 i64 i64 -> i64!")
def in_range(a, low, high):
    """a itself; an error outside of low … high."""
    return a, np.uint8(a < low) | np.uint8(a > high)


@instruction("min_i64", "i64 i64 -> i64")
def min_i64(a, b):
    return a if a < b else b


@instruction("max_i64", "i64 i64 -> i64")
def max_i64(a, b):
    return a if a > b else b


@instruction("intdiv_i64", "i64 i64 -> i64")
def intdiv_i64(a, b):
    """Quotient rounded towards zero; 0 where b is 0 (the caller makes that NULL)."""
    d = b if b != 0 else np.int64(1)
    d = d if d != -1 else np.int64(1)
    q = np.int64(abs_u64(a) // abs_u64(d))
    q = q if (a < 0) == (d < 0) else -q
    q = q if b != -1 else -a
    return q if b != 0 else np.int64(0)


@instruction("mod_i64", "i64 i64 -> i64")
def mod_i64(a, b):
    """Remainder with the sign of a; 0 where b is 0."""
    d = abs_u64(b)
    d = d if d != np.uint64(0) else np.uint64(1)
    r = np.int64(abs_u64(a) % d)
    return -r if a < 0 else r


def abs_u64(a):
    """|a| without overflow."""
    return np.uint64(-a) if a < 0 else np.uint64(a)


@instruction("divisor", "u8 -> u8!")
def divisor(zero):
    """An error where a divisor is zero."""
    return zero, zero


@instruction("div_round_i64", "i64 i64 -> i64")
def div_round_i64(a, d):
    """a / d, d > 0, rounded half away from zero."""
    m = abs_u64(a)
    u = np.uint64(d)
    q = m // u
    r = m - q * u
    q = q + np.uint64(1) if r >= u - r else q
    return -np.int64(q) if a < 0 else np.int64(q)


@instruction("floor_div_i64", "i64 i64 -> i64")
def floor_div_i64(a, d):
    """floor(a / d), d > 0."""
    return (
        np.int64(np.uint64(a) // np.uint64(d))
        if a >= 0
        else -np.int64((np.uint64(-(a + 1)) // np.uint64(d)) + np.uint64(1))
    )


@instruction("floor_mod_i64", "i64 i64 -> i64")
def floor_mod_i64(a, d):
    return a - floor_div_i64(a, d) * d


@instruction("bit_and_i64", "i64 i64 -> i64")
def bit_and_i64(a, b):
    return a & b


@instruction("bit_or_i64", "i64 i64 -> i64")
def bit_or_i64(a, b):
    return a | b


@instruction("bit_xor_i64", "i64 i64 -> i64")
def bit_xor_i64(a, b):
    return a ^ b


# --- floating point --------------------------------------------------------------------------------------------------


@instruction("add_f64", "f64 f64 -> f64")
def add_f64(a, b):
    return a + b


@instruction("sub_f64", "f64 f64 -> f64")
def sub_f64(a, b):
    return a - b


@instruction("mul_f64", "f64 f64 -> f64")
def mul_f64(a, b):
    return a * b


@instruction("div_f64", "f64 f64 -> f64")
def div_f64(a, b):
    """IEEE division (error model "numpy": no exception at 0)."""
    return a / b


@instruction("mod_f64", "f64 f64 -> f64")
def mod_f64(a, b):
    return np.fmod(a, b)


@instruction("neg_f64", "f64 -> f64")
def neg_f64(a):
    return -a


@instruction("abs_f64", "f64 -> f64")
def abs_f64(a):
    return abs(a)


@instruction("sign_f64", "f64 -> f64")
def sign_f64(a):
    return np.float64(a > 0) - np.float64(a < 0)


@instruction("min_f64", "f64 f64 -> f64")
def min_f64(a, b):
    """NaN is the greatest."""
    return a if (a <= b) | (b != b) else b


@instruction("max_f64", "f64 f64 -> f64")
def max_f64(a, b):
    return b if (a <= b) | (b != b) else a


@instruction("f32_of_f64", "f64 -> f64!")
def f32_of_f64(a):
    """Rounded to a FLOAT; an error where a finite number is beyond all of them."""
    r = np.float64(np.float32(a))
    return r, np.uint8(np.isinf(r)) & np.uint8(not np.isinf(a))


@instruction("round_f32", "f64 -> f64")
def round_f32(a):
    """To the nearest FLOAT: FLOAT arithmetic is done in double and rounded, which gives the same bits."""
    return np.float64(np.float32(a))


@instruction("floor_f64", "f64 -> f64")
def floor_f64(a):
    return np.floor(a)


@instruction("ceil_f64", "f64 -> f64")
def ceil_f64(a):
    return np.ceil(a)


@instruction("trunc_f64", "f64 -> f64")
def trunc_f64(a):
    return np.trunc(a)


@instruction("round_f64", "f64 -> f64")
def round_f64(a):
    """Half away from zero."""
    t = np.trunc(a)
    up = t + np.copysign(1.0, a) if abs(a - t) >= 0.5 else t
    return up if a == a else a


@instruction("sqrt_f64", "f64 -> f64")
def sqrt_f64(a):
    return np.sqrt(a)


@instruction("exp_f64", "f64 -> f64")
def exp_f64(a):
    return np.exp(a)


@instruction("ln_f64", "f64 -> f64")
def ln_f64(a):
    return np.log(a)


@instruction("log10_f64", "f64 -> f64")
def log10_f64(a):
    return np.log10(a)


@instruction("log2_f64", "f64 -> f64")
def log2_f64(a):
    return np.log2(a)


@instruction("pow_f64", "f64 f64 -> f64")
def pow_f64(a, b):
    return np.power(a, b)


@instruction("sin_f64", "f64 -> f64")
def sin_f64(a):
    return np.sin(a)


@instruction("cos_f64", "f64 -> f64")
def cos_f64(a):
    return np.cos(a)


@instruction("tan_f64", "f64 -> f64")
def tan_f64(a):
    return np.tan(a)


@instruction("f64_of_i64", "i64 -> f64")
def f64_of_i64(a):
    return np.float64(a)


@instruction("i64_of_f64", "f64 -> i64!")
def i64_of_f64(a):
    """Rounded half to even, as DuckDB casts; an error outside of BIGINT and for NaN."""
    r = np.rint(a)
    fits = np.uint8(r >= -9223372036854775808.0) & np.uint8(r < 9223372036854775808.0)
    return np.int64(r if fits != 0 else 0.0), fits ^ np.uint8(1)


@instruction("normal_f64", "f64 -> i64")
def normal_f64(a):
    """A key for grouping and joining: one bit pattern for both zeros, one for all NaNs (order is not kept)."""
    return bits(np.float64(0.0) if a == 0.0 else (np.float64(np.nan) if a != a else a))


def bits(a):
    """Replaced by the back end: the bit pattern of a double."""
    return np.float64(a).view(np.int64)


# --- conversions, choice ---------------------------------------------------------------------------------------------


@instruction("i64_of_u8", "u8 -> i64")
def i64_of_u8(a):
    return np.int64(a)


@instruction("i64_of_u32", "u32 -> i64")
def i64_of_u32(a):
    return np.int64(a)


@instruction("u32_of_i64", "i64 -> u32")
def u32_of_i64(a):
    return np.uint32(a)


@instruction("u8_of_i64", "i64 -> u8")
def u8_of_i64(a):
    return np.uint8(a != 0)


@instruction("u8_of_f64", "f64 -> u8")
def u8_of_f64(a):
    return np.uint8(a != 0.0)


@instruction("u8_of_u32", "u32 -> u8")
def u8_of_u32(a):
    return np.uint8(a)


@instruction("blend_u8", "u8 u8 u8 -> u8")
def blend_u8(m, a, b):
    return a if m != 0 else b


@instruction("blend_u32", "u8 u32 u32 -> u32")
def blend_u32(m, a, b):
    return a if m != 0 else b


@instruction("blend_i64", "u8 i64 i64 -> i64")
def blend_i64(m, a, b):
    return a if m != 0 else b


@instruction("blend_f64", "u8 f64 f64 -> f64")
def blend_f64(m, a, b):
    return a if m != 0 else b


@instruction("blend_w", "u8 w w -> w")
def blend_w(m, a, ah, b, bh):
    return (a if m != 0 else b), (ah if m != 0 else bh)


@instruction("muladd_u32", "u32 u32 u32 -> u32")
def muladd_u32(acc, x, factor):
    """acc + x * factor: one more digit of a packed key below 2**32."""
    return acc + x * factor


@instruction("muladd_i64", "i64 i64 i64 -> i64")
def muladd_i64(acc, x, factor):
    return acc + x * factor


# --- 128-bit integers ------------------------------------------------------------------------------------------------


@instruction("w_of_i64", "i64 -> w")
def w_of_i64(a):
    return a, a >> np.int64(63)


@instruction("i64_of_w", "w -> i64!")
def i64_of_w(a, ah):
    return a, np.uint8((a >> np.int64(63)) != ah)


@instruction("f64_of_w", "w -> f64")
def f64_of_w(a, ah):
    """By magnitude: the low word of a small negative number is near 2**64, where doubles are 2048 apart."""
    x, xh = _magnitude(a, ah)
    size = np.float64(xh) * 18446744073709551616.0 + np.float64(x)
    return -size if ah < 0 else size


@instruction("add_w", "w w -> w!")
def add_w(a, ah, b, bh):
    low = a + b
    carry = np.int64(np.uint64(low) < np.uint64(a))
    high = ah + bh + carry
    return low, high, np.uint8(((ah ^ high) & (bh ^ high)) < 0)


@instruction("neg_w", "w -> w!")
def neg_w(a, ah):
    low = -a
    high = ~ah + np.int64(a == 0)
    return low, high, np.uint8((ah == np.int64(-9223372036854775808)) & (a == 0))


@instruction("sub_w", "w w -> w!")
def sub_w(a, ah, b, bh):
    low = a - b
    borrow = np.int64(np.uint64(a) < np.uint64(b))
    high = ah - bh - borrow
    return low, high, np.uint8(((ah ^ bh) & (ah ^ high)) < 0)


def mul_u64(x, y):
    """Full product of two unsigned words: (low, high)."""
    mask = np.uint64(0xFFFFFFFF)
    half = np.uint64(32)
    x0, x1, y0, y1 = x & mask, x >> half, y & mask, y >> half
    p00, p01, p10, p11 = x0 * y0, x0 * y1, x1 * y0, x1 * y1
    middle = (p00 >> half) + (p01 & mask) + (p10 & mask)
    return (p00 & mask) | (middle << half), p11 + (p01 >> half) + (p10 >> half) + (middle >> half)


@instruction("mul_i64_w", "i64 i64 -> w")
def mul_i64_w(a, b):
    """The exact product of two words; cannot overflow."""
    low, high = mul_u64(np.uint64(a), np.uint64(b))
    h = np.int64(high) - (b if a < 0 else np.int64(0)) - (a if b < 0 else np.int64(0))
    return np.int64(low), h


@instruction("mul_w", "w w -> w!")
def mul_w(a, ah, b, bh):
    """Product, an error where it needs more than 128 bits."""
    negative = (ah < 0) != (bh < 0)
    al, au = _magnitude(a, ah)
    bl, bu = _magnitude(b, bh)
    low, high = mul_u64(al, bl)
    c1l, c1h = mul_u64(al, bu)
    c2l, c2h = mul_u64(au, bl)
    bad = ((au != np.uint64(0)) & (bu != np.uint64(0))) | (c1h != np.uint64(0)) | (c2h != np.uint64(0))
    s = c1l + c2l
    bad = bad | (s < c1l)
    h = high + s
    bad = bad | (h < high)
    r, rh = _signed(negative, low, h)
    return r, rh, np.uint8(bad | ((rh < 0) != (negative & ((low | h) != np.uint64(0)))))


def divmod_u128(a, ah, b, bh):
    """Quotient and remainder of unsigned 128-bit numbers (four words), b > 0. Bit by bit: rare, so short."""
    q, qh, r, rh = np.uint64(0), np.uint64(0), np.uint64(0), np.uint64(0)
    one, top = np.uint64(1), np.uint64(63)
    for _ in range(128):
        bit = (ah >> top) & one
        ah = (ah << one) | (a >> top)
        a = a << one
        rh = (rh << one) | (r >> top)
        r = (r << one) | bit
        qh = (qh << one) | (q >> top)
        q = q << one
        if (rh > bh) | ((rh == bh) & (r >= b)):
            borrow = np.uint64(1) if r < b else np.uint64(0)
            r = r - b
            rh = rh - bh - borrow
            q = q | one
    return q, qh, r, rh


def _magnitude(a, ah):
    if ah < 0:
        return np.uint64(-a), np.uint64(~ah) + np.uint64(a == 0)
    return np.uint64(a), np.uint64(ah)


def _signed(negative, low, high):
    if negative:
        high = ~high + np.uint64(low == np.uint64(0))
        low = ~low + np.uint64(1)
    return np.int64(low), np.int64(high)


@instruction("intdiv_w", "w w -> w")
def intdiv_w(a, ah, b, bh):
    """Quotient towards zero; 0 where b is 0."""
    al, au = _magnitude(a, ah)
    bl, bu = _magnitude(b, bh)
    if (bl == np.uint64(0)) & (bu == np.uint64(0)):
        return np.int64(0), np.int64(0)
    q, qh, r, rh = divmod_u128(al, au, bl, bu)
    return _signed((ah < 0) != (bh < 0), q, qh)


@instruction("mod_w", "w w -> w")
def mod_w(a, ah, b, bh):
    al, au = _magnitude(a, ah)
    bl, bu = _magnitude(b, bh)
    if (bl == np.uint64(0)) & (bu == np.uint64(0)):
        return np.int64(0), np.int64(0)
    q, qh, r, rh = divmod_u128(al, au, bl, bu)
    return _signed(ah < 0, r, rh)


@instruction("div_round_w", "w w -> w")
def div_round_w(a, ah, b, bh):
    """a / b, b > 0, rounded half away from zero."""
    al, au = _magnitude(a, ah)
    bl, bu = np.uint64(b), np.uint64(bh)
    q, qh, r, rh = divmod_u128(al, au, bl, bu)
    borrow = np.uint64(1) if bl < r else np.uint64(0)
    dl, dh = bl - r, bu - rh - borrow  # b - r; round up where r >= b - r
    if (rh > dh) | ((rh == dh) & (r >= dl)):
        q = q + np.uint64(1)
        if q == np.uint64(0):
            qh = qh + np.uint64(1)
    return _signed(ah < 0, q, qh)


@instruction("in_range_w", "w w w -> w!")
def in_range_w(a, ah, low, lowh, high, highh):
    return a, ah, lt_w(a, ah, low, lowh) | lt_w(high, highh, a, ah)


@instruction("w_of_f64", "f64 -> w!")
def w_of_f64(a):
    """Rounded half to even; an error where it does not fit (and for NaN)."""
    r = np.rint(a)
    fits = np.uint8(r > -1.7014118346046923e38) & np.uint8(r < 1.7014118346046923e38)
    m = abs(r) if fits != 0 else 0.0
    high = np.floor(m / 18446744073709551616.0)
    low = m - high * 18446744073709551616.0
    x, xh = _signed(a < 0, f64_to_u64(low), f64_to_u64(high))
    return x, xh, fits ^ np.uint8(1)


def f64_to_u64(a):
    """A double in 0 … 2**64 to an unsigned word."""
    return (
        np.uint64(a)
        if a < 9223372036854775808.0
        else np.uint64(a - 9223372036854775808.0) + np.uint64(9223372036854775808)
    )


@instruction("low_of_w", "w -> i64")
def low_of_w(a, ah):
    return a


# --- dates: days since 1970-01-01 in the proleptic Gregorian calendar; H. Hinnant, "chrono-Compatible Low-Level Date
# Algorithms" (howardhinnant.github.io/date_algorithms.html), civil_from_days and days_from_civil ---


def civil(days):
    """(year, month, day) of a day number."""
    z = days + np.int64(719468)
    era = floor_div_i64(z, np.int64(146097))
    doe = z - era * np.int64(146097)
    yoe = (doe - doe // np.int64(1460) + doe // np.int64(36524) - doe // np.int64(146096)) // np.int64(365)
    doy = doe - (np.int64(365) * yoe + yoe // np.int64(4) - yoe // np.int64(100))
    mp = (np.int64(5) * doy + np.int64(2)) // np.int64(153)
    day = doy - (np.int64(153) * mp + np.int64(2)) // np.int64(5) + np.int64(1)
    month = mp + np.int64(3) if mp < 10 else mp - np.int64(9)
    year = yoe + era * np.int64(400) + (np.int64(1) if month <= 2 else np.int64(0))
    return year, month, day


def day_number(year, month, day):
    """Day number of a civil date."""
    y = year - np.int64(1) if month <= 2 else year
    era = floor_div_i64(y, np.int64(400))
    yoe = y - era * np.int64(400)
    mp = month - np.int64(3) if month > 2 else month + np.int64(9)
    doy = (np.int64(153) * mp + np.int64(2)) // np.int64(5) + day - np.int64(1)
    doe = yoe * np.int64(365) + yoe // np.int64(4) - yoe // np.int64(100) + doy
    return era * np.int64(146097) + doe - np.int64(719468)


@instruction("year", "i64 -> i64")
def year(days):
    y, m, d = civil(days)
    return y


@instruction("month", "i64 -> i64")
def month(days):
    y, m, d = civil(days)
    return m


@instruction("day", "i64 -> i64")
def day(days):
    y, m, d = civil(days)
    return d


@instruction("doy", "i64 -> i64")
def doy(days):
    y, m, d = civil(days)
    return days - day_number(y, np.int64(1), np.int64(1)) + np.int64(1)


@instruction("isodow", "i64 -> i64")
def isodow(days):
    """Monday 1 … Sunday 7."""
    return floor_mod_i64(days + np.int64(3), np.int64(7)) + np.int64(1)


@instruction("isoyear", "i64 -> i64")
def isoyear(days):
    """The year that this week's Thursday lies in."""
    y, m, d = civil(days - isodow(days) + np.int64(4))
    return y


@instruction("week", "i64 -> i64")
def week(days):
    """ISO week number."""
    thursday = days - isodow(days) + np.int64(4)
    y, m, d = civil(thursday)
    return (thursday - day_number(y, np.int64(1), np.int64(1))) // np.int64(7) + np.int64(1)


@instruction("trunc_month", "i64 i64 -> i64")
def trunc_month(days, span):
    """First day of the period of ``span`` months (1, 3, 12, 120, 1200, 12000) that the day lies in."""
    y, m, d = civil(days)
    total = y * np.int64(12) + m - np.int64(1)
    total = floor_div_i64(total, span) * span
    return day_number(floor_div_i64(total, np.int64(12)), floor_mod_i64(total, np.int64(12)) + np.int64(1), np.int64(1))


@instruction("trunc_week", "i64 -> i64")
def trunc_week(days):
    return days - isodow(days) + np.int64(1)


def month_length(y, m):
    """Days in a month."""
    leap = ((y % np.int64(4) == 0) & (y % np.int64(100) != 0)) | (y % np.int64(400) == 0)
    if m == 2:
        return np.int64(29) if leap else np.int64(28)
    return np.int64(30) if (m == 4) | (m == 6) | (m == 9) | (m == 11) else np.int64(31)


@instruction("add_months", "i64 i64 -> i64")
def add_months(days, months):
    """The same day of a later month, or that month's last."""
    y, m, d = civil(days)
    total = y * np.int64(12) + m - np.int64(1) + months
    y, m = floor_div_i64(total, np.int64(12)), floor_mod_i64(total, np.int64(12)) + np.int64(1)
    last = month_length(y, m)
    return day_number(y, m, d if d < last else last)


@instruction("last_day", "i64 -> i64")
def last_day(days):
    y, m, d = civil(days)
    return days - d + month_length(y, m)


@instruction("month_index", "i64 -> i64")
def month_index(days):
    """Months since year 0, for date_diff."""
    y, m, d = civil(days)
    return y * np.int64(12) + m - np.int64(1)


@instruction("make_date", "i64 i64 i64 -> i64!")
def make_date(y, m, d):
    good = (m >= 1) & (m <= 12) & (d >= 1) & (d <= 31) & (y > -290000) & (y < 290000)
    m1 = m if good else np.int64(1)
    good = good & (d <= month_length(y, m1))
    return day_number(y if good else np.int64(1970), m1, d if good else np.int64(1)), np.uint8(not good)


HELPERS = (abs_u64, bits, mul_u64, divmod_u128, _magnitude, _signed, f64_to_u64, civil, day_number, month_length)
