"""Functions of numbers that have no instructions: bits, divisors, and the less common ones of the C library."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from finequery.errors import OutOfRangeError
from finequery.types import SqlType


def shift_left(a: int, count: int, type_: SqlType) -> int:
    """Only without loss: no negative number, no bit shifted out."""
    if a < 0:
        raise OutOfRangeError(f"A negative number can't be shifted to the left: {a} << {count}.")
    if count < 0:
        raise OutOfRangeError(f"The number of bits to shift by is negative: {a} << {count}.")
    result = a << count if a and count < 128 else 0
    if a and (count >= 128 or result > type_.limits[1]):
        raise OutOfRangeError(f"{a} << {count} is out of the range of {type_}.", hint="Cast it to a wider type.")
    return result


def shift_right(a: int, count: int, type_: SqlType) -> int:
    return a >> count if 0 <= count < bits_of(type_) else 0


def bits_of(type_: SqlType) -> int:
    low, high = type_.limits
    return high.bit_length() + (low < 0)


def bit_count(a: int, type_: SqlType) -> int:
    """Ones in two's complement."""
    return (a & ((1 << bits_of(type_)) - 1)).bit_count() if hasattr(int, "bit_count") else bin(a).count("1")


def lcm(a: int, b: int) -> int:
    return abs(a * b) // (math.gcd(a, b) or 1)


def factorial(a: int) -> int:
    if not 0 <= a <= 33:
        raise OutOfRangeError(f"factorial({a}) is not a number of HUGEINT.", hint="0 to 33 are.")
    return math.factorial(a)


def cbrt(a: float) -> float:
    import numpy as np

    return float(np.cbrt(a))


def even(a: float) -> float:
    """Away from zero to the next even number."""
    return math.copysign(2.0 * math.ceil(abs(a) / 2.0), a) if a else 0.0


def gamma(a: float) -> float:
    return math.inf if a == 0 else math.gamma(a)


def lgamma(a: float) -> float:
    return math.inf if a <= 0 and a == math.floor(a) else math.lgamma(a)


def cot(a: float) -> float:
    return 1.0 / math.tan(a) if a else math.inf


def atanh(a: float) -> float:
    return math.copysign(math.inf, a) if abs(a) == 1 else math.atanh(a)


def log_of(base: float, a: float) -> float:
    """Logarithm of ``a`` to a base."""
    if a == 0 or base == 0:
        return -0.0 if base == 0 else -math.inf
    return math.log10(a) / math.log10(base) if base != 1 else math.inf


def modulo(a: float, b: float) -> float:
    """With the sign of the divisor: what is left of ``a`` after ``fdiv``."""
    return a - math.floor(a / b) * b


#: Of doubles; a wrong argument is NaN.
DOUBLES: dict[str, Callable[..., Any]] = {
    "cbrt": cbrt,
    "cot": cot,
    "sinh": math.sinh,
    "cosh": math.cosh,
    "tanh": math.tanh,
    "asinh": math.asinh,
    "acosh": math.acosh,
    "atanh": atanh,
    "even": even,
    "gamma": gamma,
    "lgamma": lgamma,
    "log_of": log_of,
    "fmod": modulo,
}
