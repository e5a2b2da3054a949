"""Element-wise instructions, each as its tile primitive, against what they mean in Python's numbers and dates.

A reference gets Python values (64- and 128-bit integers are ints, strings of bits are floats) and gives the result, a
tuple where there are two, or None for an error.
"""

from __future__ import annotations

import calendar
import datetime
import itertools
import math
import random
import struct
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from kernels import DTYPES, Out, run

from finequery.operators.scalar import INSTRUCTIONS

TILE = 4096
OVERFLOW = -2
BEFORE = 37  # rows of a column before the tile
WORD, WIDE = 1 << 64, 1 << 128
CYCLE, EPOCH = 146_097, datetime.date(1970, 1, 1).toordinal()  # days in 400 years

Domain = Callable[[random.Random], list[Any]]
Reference = Callable[..., Any]


# --- values ----------------------------------------------------------------------------------------------------------


def integers(bits: int) -> list[int]:
    """Signed ones at the edges of ``bits`` bits."""
    tens = [10**i for i in (1, 2, 9, 18, 19, 37, 38)]
    powers = [1 << i for i in (31, 32, 53, 62, 63, 64, 95, 126)]
    near = [v + d for v in [0, *tens, *powers] for d in (-1, 0, 1)]
    top = 1 << (bits - 1)
    edges = {v * s for v in near for s in (1, -1)} | {-top, 1 - top, top - 1, top - 2, 3, 7, -7}
    return sorted(v for v in edges if -top <= v < top)


def signed(rng: random.Random, bits: int) -> int:
    """Of any length."""
    size = rng.getrandbits(rng.randint(1, bits))
    top = 1 << (bits - 1)
    return (size + top) % (2 * top) - top


FLOATS = [
    0.0,
    0.5,
    1.0,
    1.5,
    2.5,
    0.49999999999999994,
    3.4028234e38,
    3.4028236e38,
    1e-40,
    5e-324,
    2.2e-308,
    1e308,
    1e16,
]
FLOATS += [2.0**52 + 0.5, 2.0**53, 2.0**63, 2.0**63 - 1024, 2.0**64, 2.0**127, 1.7e38, 0.1, 1e22, math.inf, math.nan]
FLOATS += [-v for v in FLOATS]


def double(rng: random.Random) -> float:
    kind = rng.randrange(4)
    if kind == 0:
        return float(struct.unpack("<d", rng.randbytes(8))[0])
    return rng.gauss(0, 3) if kind == 1 else rng.randint(-9, 9) / 2 if kind == 2 else rng.uniform(-1e20, 1e20)


def days(rng: random.Random) -> list[int]:
    """Before 1970, leap days, ends of years, months and centuries; the whole range of DATE."""
    years = (
        -4713,
        -400,
        -1,
        0,
        1,
        4,
        1582,
        1600,
        1899,
        1900,
        1969,
        1970,
        1972,
        1999,
        2000,
        2023,
        2024,
        2100,
        5_881_000,
    )
    found = [from_civil(y, m, d) for y in years for m, d in ((1, 1), (2, 28), (3, 1), (6, 30), (12, 31))]
    found += [from_civil(y, 2, 29) for y in (-4, 0, 4, 1600, 1972, 2000, 2024)]
    found += [v for d in (-(2**31), 2**31 - 1, 0, CYCLE) for v in (d, d + 1, d - 1)]
    found += range(from_civil(2019, 12, 20), from_civil(2020, 1, 15))
    return found + [rng.randint(-200_000, 200_000) for _ in range(400)] + [signed(rng, 32) for _ in range(100)]


def i64(rng: random.Random) -> list[int]:
    return integers(64) + [signed(rng, 64) for _ in range(60)]


def w(rng: random.Random) -> list[int]:
    return integers(128) + [signed(rng, 128) for _ in range(60)]


def f64(rng: random.Random) -> list[float]:
    return FLOATS + [double(rng) for _ in range(60)]


def u32(rng: random.Random) -> list[int]:
    return [0, 1, 2, 255, 256, 65535, 2**31 - 1, 2**31, 2**32 - 1] + [rng.getrandbits(32) for _ in range(60)]


def u8(rng: random.Random) -> list[int]:
    return [0, 1]


DOMAINS: dict[str, Domain] = {"i64": i64, "w": w, "f64": f64, "u32": u32, "u8": u8}


def only(domain: Domain, keep: Callable[[Any], bool]) -> Domain:
    return lambda rng: [v for v in domain(rng) if keep(v)]


def among(*values: Any) -> Domain:
    return lambda rng: list(values)


def positive(domain: Domain) -> Domain:
    return only(domain, lambda v: v > 0)


# --- meanings --------------------------------------------------------------------------------------------------------


def wrap(value: int, modulus: int = WORD) -> int:
    return (value + modulus // 2) % modulus - modulus // 2


def fits(value: int, modulus: int = WIDE) -> int | None:
    return value if -modulus // 2 <= value < modulus // 2 else None


def toward_zero(a: int, b: int) -> int:
    return 0 if b == 0 else abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)


def remainder(a: int, b: int) -> int:
    return 0 if b == 0 else abs(a) % abs(b) * (-1 if a < 0 else 1)


def half_away(a: Fraction) -> int:
    return math.floor(abs(a) + Fraction(1, 2)) * (-1 if a < 0 else 1)


def half_even(a: float, below: int) -> int | None:
    """A double as an integer of at most ``below`` (a power of two)."""
    return fits(round(a), 2 * below) if math.isfinite(a) else None


def to_w(a: float) -> int | None:
    """-2**127 is refused, as by DuckDB."""
    found = half_even(a, 1 << 127)
    return None if found == -(1 << 127) else found


def nan_last(a: float) -> tuple[bool, float]:
    return (True, 0.0) if math.isnan(a) else (False, a)


def whole(convert: Callable[[Any], int]) -> Reference:
    """A rounding of doubles: zeros keep their sign, what is not finite stays."""
    return lambda a: math.copysign(float(convert(a)), a) if math.isfinite(a) else a


def ieee(function: Callable[..., Any]) -> Reference:
    """numpy's, which knows infinities and NaN where Python raises."""

    def reference(*values: float) -> float:
        with np.errstate(all="ignore"):
            return float(function(*map(np.float64, values)))

    return reference


def power(a: float, b: float) -> float:
    """C's pow."""
    sign = -1.0 if math.copysign(1, a) < 0 and b % 2 == 1 else 1.0
    try:
        return math.pow(a, b)
    except OverflowError:
        return sign * math.inf
    except ValueError:
        return sign * math.inf if a == 0 else math.nan


def single(a: float) -> float:
    try:
        return float(struct.unpack("<f", struct.pack("<f", a))[0])
    except OverflowError:
        return math.copysign(math.inf, a)


def logic(a: bool | None, b: bool | None, absorbing: bool) -> tuple[int, int]:
    """AND (false absorbs) or OR (true does) of booleans or NULL: value and validity."""
    if absorbing in (a, b):
        return int(absorbing), 1
    return (0, 0) if None in (a, b) else (int(not absorbing), 1)


def null(value: int, valid: int) -> bool | None:
    return bool(value) if valid else None


def from_civil(y: int, m: int, d: int) -> int:
    """Python's dates end at the years 1 and 9999; the calendar repeats every 400 years."""
    return datetime.date(2000 + y % 400, m, d).toordinal() - EPOCH + (y // 400 - 5) * CYCLE


def civil(day: int) -> tuple[datetime.date, int]:
    """The date with its year in 2000 … 2399, and how many years to add."""
    first = from_civil(2000, 1, 1)
    return datetime.date.fromordinal((day - first) % CYCLE + first + EPOCH), (day - first) // CYCLE * 400


def year(day: int) -> int:
    date, shift = civil(day)
    return date.year + shift


def months(day: int) -> int:
    return year(day) * 12 + civil(day)[0].month - 1


def length(month: int) -> int:
    """Days of a month, by months since year 0."""
    return calendar.monthrange(2000 + month // 12 % 400, month % 12 + 1)[1]


def of_month(month: int, day: int) -> int:
    return from_civil(month // 12, month % 12 + 1, min(day, length(month)))


def iso_year(day: int) -> int:
    date, shift = civil(day)
    return date.isocalendar()[0] + shift


def make_date(y: int, m: int, d: int) -> int | None:
    if not -290_000 < y < 290_000 or not 1 <= m <= 12 or not 1 <= d <= length(y * 12 + m - 1):
        return None
    return from_civil(y, m, d)


MEANING: dict[str, Reference] = {
    "and_u8": lambda a, b: int(a and b),
    "or_u8": lambda a, b: int(a or b),
    "not_u8": lambda a: int(not a),
    "xor_u8": lambda a, b: int(a != b),
    "and3": lambda a, va, b, vb: logic(null(a, va), null(b, vb), False),
    "or3": lambda a, va, b, vb: logic(null(a, va), null(b, vb), True),
    **{f"eq_{k}": lambda a, b: int(a == b) for k in ("u8", "u32", "i64", "w")},
    **{f"lt_{k}": lambda a, b: int(a < b) for k in ("u32", "i64", "w")},
    **{f"le_{k}": lambda a, b: int(a <= b) for k in ("u32", "i64", "w")},
    "eq_f64": lambda a, b: int(nan_last(a) == nan_last(b)),
    "lt_f64": lambda a, b: int(nan_last(a) < nan_last(b)),
    "le_f64": lambda a, b: int(nan_last(a) <= nan_last(b)),
    "add_i64": lambda a, b: wrap(a + b),
    "sub_i64": lambda a, b: wrap(a - b),
    "mul_i64": lambda a, b: wrap(a * b),
    "neg_i64": lambda a: wrap(-a),
    "abs_i64": lambda a: wrap(abs(a)),
    "sign_i64": lambda a: (a > 0) - (a < 0),
    "add_i64_checked": lambda a, b: fits(a + b, WORD),
    "sub_i64_checked": lambda a, b: fits(a - b, WORD),
    "in_range": lambda a, low, high: a if low <= a <= high else None,
    "in_range_w": lambda a, low, high: a if low <= a <= high else None,
    "min_i64": min,
    "max_i64": max,
    "intdiv_i64": lambda a, b: wrap(toward_zero(a, b)),
    "mod_i64": remainder,
    "divisor": lambda zero: None if zero else 0,
    "div_round_i64": lambda a, b: half_away(Fraction(a, b)),
    "floor_div_i64": lambda a, b: a // b,
    "floor_mod_i64": lambda a, b: a % b,
    "bit_and_i64": lambda a, b: a & b,
    "bit_or_i64": lambda a, b: a | b,
    "bit_xor_i64": lambda a, b: a ^ b,
    "add_f64": lambda a, b: a + b,
    "sub_f64": lambda a, b: a - b,
    "mul_f64": lambda a, b: a * b,
    "div_f64": ieee(np.divide),
    "mod_f64": ieee(np.fmod),
    "neg_f64": lambda a: -a,
    "abs_f64": math.fabs,
    "sign_f64": lambda a: float((a > 0) - (a < 0)),
    "min_f64": lambda a, b: min(a, b, key=nan_last),
    "max_f64": lambda a, b: max(a, b, key=nan_last),
    "f32_of_f64": lambda a: None if math.isinf(single(a)) and not math.isinf(a) else single(a),
    "round_f32": single,
    "floor_f64": whole(math.floor),
    "ceil_f64": whole(math.ceil),
    "trunc_f64": whole(math.trunc),
    "round_f64": whole(lambda a: half_away(Fraction(a))),
    "sqrt_f64": ieee(np.sqrt),
    "exp_f64": ieee(np.exp),
    "ln_f64": ieee(np.log),
    "log10_f64": ieee(np.log10),
    "log2_f64": ieee(np.log2),
    "pow_f64": power,
    "sin_f64": ieee(np.sin),
    "cos_f64": ieee(np.cos),
    "tan_f64": ieee(np.tan),
    "f64_of_i64": float,
    "i64_of_f64": lambda a: half_even(a, 1 << 63),
    "normal_f64": lambda a: struct.unpack("<q", struct.pack("<d", math.nan if math.isnan(a) else a + 0.0))[0],
    "i64_of_u8": int,
    "i64_of_u32": int,
    "u32_of_i64": int,
    "u8_of_i64": bool,
    "u8_of_f64": bool,
    "u8_of_u32": int,
    **{f"blend_{k}": lambda m, a, b: a if m else b for k in ("u8", "u32", "i64", "f64", "w")},
    "muladd_u32": lambda acc, x, factor: (acc + x * factor) % (1 << 32),
    "muladd_i64": lambda acc, x, factor: wrap(acc + x * factor),
    "w_of_i64": int,
    "i64_of_w": lambda a: fits(a, WORD),
    "f64_of_w": float,
    "add_w": lambda a, b: fits(a + b),
    "sub_w": lambda a, b: fits(a - b),
    "neg_w": lambda a: fits(-a),
    "mul_i64_w": lambda a, b: a * b,
    "mul_w": lambda a, b: fits(a * b),
    "intdiv_w": lambda a, b: wrap(toward_zero(a, b), WIDE),
    "mod_w": remainder,
    "div_round_w": lambda a, b: half_away(Fraction(a, b)),
    "w_of_f64": to_w,
    "low_of_w": lambda a: wrap(a),
    "year": year,
    "month": lambda day: civil(day)[0].month,
    "day": lambda day: civil(day)[0].day,
    "doy": lambda day: civil(day)[0].timetuple().tm_yday,
    "isodow": lambda day: civil(day)[0].isoweekday(),
    "isoyear": iso_year,
    "week": lambda day: civil(day)[0].isocalendar()[1],
    "trunc_month": lambda day, span: of_month(months(day) // span * span, 1),
    "trunc_week": lambda day: day - civil(day)[0].weekday(),
    "add_months": lambda day, count: of_month(months(day) + count, civil(day)[0].day),
    "last_day": lambda day: of_month(months(day), 31),
    "month_index": months,
    "make_date": make_date,
}
#: Operands that an instruction is made for, where not all values of their types are.
OPERANDS: dict[str, tuple[Domain, ...]] = {
    **dict.fromkeys(("div_round_i64", "floor_div_i64", "floor_mod_i64"), (i64, positive(i64))),
    "div_round_w": (w, positive(w)),
    "u32_of_i64": (only(i64, lambda v: 0 <= v < 2**32),),
    "u8_of_u32": (among(0, 1, 127, 255),),
    **dict.fromkeys(("sin_f64", "cos_f64", "tan_f64"), (only(f64, lambda v: not 1e6 < abs(v) < math.inf),)),
    **dict.fromkeys(("year", "month", "day", "doy", "isodow", "isoyear", "week"), (days,)),
    **dict.fromkeys(("trunc_week", "last_day", "month_index"), (days,)),
    "trunc_month": (days, among(1, 3, 12, 120, 1200, 12000)),
    "add_months": (days, lambda rng: [0, 1, -1, 11, 12, -12, 13, 48_000, *(signed(rng, 24) for _ in range(40))]),
    "make_date": (
        lambda rng: [
            0,
            1,
            -1,
            -4,
            4,
            1900,
            2000,
            2023,
            2024,
            289_999,
            -289_999,
            290_000,
            -290_000,
            2**63 - 1,
            -(2**63),
        ],
        among(*range(-1, 15), 2**63 - 1, -(2**63)),
        among(*range(-1, 34), 2**63 - 1, -(2**63)),
    ),
}
#: Relative error of what is not exact by IEEE 754.
INEXACT = dict.fromkeys(
    ("exp_f64", "ln_f64", "log10_f64", "log2_f64", "pow_f64", "sin_f64", "cos_f64", "tan_f64"), 1e-14
)
INEXACT["f64_of_w"] = 2.0**-52


# --- running ---------------------------------------------------------------------------------------------------------


def vector(kind: str, values: Sequence[Any]) -> np.ndarray:
    if kind != "w":
        return np.array(values, dtype=DTYPES[kind])
    return np.array([(wrap(v), v >> 64) for v in values], dtype=np.int64).reshape(-1)


def python(kind: str, out: np.ndarray) -> list[Any]:
    values = out.tolist()
    return values if kind != "w" else [low % WORD + high * WORD for low, high in zip(values[::2], values[1::2])]


def same(name: str, got: Any, want: Any) -> bool:
    if not isinstance(want, float):
        return bool(got == want)
    if name in INEXACT:
        return (math.isnan(got) and math.isnan(want)) or math.isclose(got, want, rel_tol=INEXACT[name], abs_tol=1e-320)
    if math.isnan(want) or name in ("min_f64", "max_f64"):  # of two zeros either
        return got == want or math.isnan(got) == math.isnan(want) is True
    return got == want and math.copysign(1, got) == math.copysign(1, want)


def execute(
    name: str, rows: Sequence[tuple[Any, ...]], valid: Sequence[int], *, strided: bool
) -> tuple[int, list[Any]]:
    """Status and results of a call over these rows, as registers or as rows of columns."""
    kinds, results, checked, _ = INSTRUCTIONS[name]
    columns = [vector(kind, [row[i] for row in rows]) for i, kind in enumerate(kinds)]
    if checked:
        columns.append(np.array(valid, dtype=np.uint8))
    words: list[Any] = []
    for kind, column in zip((*kinds, "u8"), columns):
        width = 16 if kind == "w" else column.itemsize
        if strided:
            column = np.concatenate([np.full(BEFORE * width, 0x77, np.uint8).view(column.dtype), column])
        words += [column, width if strided else 0]
    outs = [Out(len(rows) * (2 if kind == "w" else 1), "i64" if kind == "w" else kind) for kind in results]
    status = run(name, *words, *outs, t=BEFORE, n=len(rows), k=len(rows))
    found = [python(kind, out.data) for kind, out in zip(results, outs)]
    return status, found[0] if len(found) == 1 else list(zip(*found))


def inputs(name: str) -> list[tuple[Any, ...]]:
    """A tile of operands: as many pairs of edges as there is room for, in random order."""
    rng = random.Random(name)
    domains = OPERANDS.get(name) or tuple(DOMAINS[kind] for kind in INSTRUCTIONS[name][0])
    values = [domain(rng) for domain in domains]
    if math.prod(map(len, values)) <= 2 * TILE:
        rows = list(itertools.product(*values))
        rng.shuffle(rows)
    else:
        rows = [tuple(rng.choice(v) for v in values) for _ in range(TILE)]
    return (rows * (TILE // len(rows) + 1))[:TILE]


def test_every_instruction_has_a_meaning() -> None:
    assert set(MEANING) == set(INSTRUCTIONS)


@pytest.mark.parametrize("name", INSTRUCTIONS)
def test_instruction(name: str) -> None:
    rows = inputs(name)
    meaning = {row: MEANING[name](*row) for row in set(rows)} if "f64" not in INSTRUCTIONS[name][0] else None
    wanted = [MEANING[name](*row) if meaning is None else meaning[row] for row in rows]
    right = [want is not None for want in wanted]
    for strided in (False, True):
        for k in (0, 1, 63, TILE):
            # rows that fail are no error where they are NULL
            status, found = execute(name, rows[:k], right[:k], strided=strided)
            assert status == k
            wrong = [i for i in range(k) if right[i] and not same(name, found[i], wanted[i])]
            assert not wrong, [(rows[i], found[i], wanted[i]) for i in wrong[:5]]
    if not INSTRUCTIONS[name][2]:
        assert all(right)
        return
    bad = [i for i in range(TILE) if not right[i]]
    assert bad and len(bad) < TILE
    for i in bad[:300]:
        assert execute(name, rows[i : i + 1], [1], strided=False)[0] == OVERFLOW, rows[i]
    for i in (bad[0], bad[-1]):  # one valid row among many
        valid = list(right)
        valid[i] = True
        assert execute(name, rows, valid, strided=True)[0] == OVERFLOW, rows[i]
