"""Instructions that accumulate in totals and in groups by number, for one row.

A count or sum of all rows is a thread's own variable. Every other accumulator that fits is a block's own, in shared
memory, and added to the one in memory once, when the block has seen its rows: what many threads add to the same few
words of memory waits in line there. Lanes add to copies of their own as far as ``FAST_BYTES`` go, so that those of a
warp never meet. Whether an accumulator fits is known here, while translating; the others, and those of hash tables,
are added to in memory row by row. Integers are exact either way; sums of doubles differ in their last bits with the
order, but for exact ones (``sum_exact``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from finequery.operators.cuda import functions, private
from finequery.operators.cuda.instructions import element
from finequery.operators.cuda.translate import SHARED_BYTES, Translation, template
from finequery.operators.program import Instruction, Reg
from finequery.operators.scalar import EXACT_WORDS, exact_mantissa, exact_square

LEAST, MOST = -(2**63), 2**63 - 1


@dataclass(frozen=True, slots=True)
class Own:
    """A block's own accumulator: its first word, words of a group, groups."""

    first: int
    words: int
    groups: int

    def at(self, group: str, lane: str = " + lane") -> str:
        """Index of a group's first word, of the lane's copy."""
        number = group if self.words == 1 else f"{self.words} * {group}"
        return f"copies * ({self.first} + {number}){lane}"

    def halves(self, group: str, lane: str = " + lane") -> str:
        """The same, of words of 32 bits."""
        return f"2 * {self.at(group, lane)}"

    def each(self, words: bool = False) -> str:
        """Share the groups, or their words, among the threads."""
        return f"for s in range(cuda.threadIdx.x, {self.groups * (self.words if words else 1)}, cuda.blockDim.x):"


def _own(t: Translation, group: Any, accumulator: Any, *starts: int) -> Own | None:
    """Room for an accumulator in shared memory, whose words start as told; None where it does not fit."""
    groups = accumulator.groups if isinstance(group, Reg) else 1
    if not groups or 8 * (t.own_words + groups * len(starts)) > SHARED_BYTES:
        return None
    own = Own(t.own_words, len(starts), groups)
    t.own_words += groups * len(starts)
    t.own_starts.append((own.first, groups, starts))
    return own


def _number(t: Translation, group: Any) -> str:
    return f"np.int64({t.one(group)})" if isinstance(group, Reg) else "0"


def _where(t: Translation, ok: Any) -> None:
    """Begin a block for the rows whose value counts."""
    t.line(f"if {t.one(ok)} != 0:" if isinstance(ok, Reg) else "if True:")
    t.indent += 1


def _flush(t: Translation, *lines: str) -> None:
    t.flush += lines


# --- sums and counts -----------------------------------------------------------------------------------------------


def _add(t: Translation, group: Any, accumulator: Any, item: str, value: str) -> None:
    """Add to an accumulator of one word a group: a sum of integers or doubles."""
    array = t.array(accumulator, item, written=True)
    own = _own(t, group, accumulator, 0)
    total = not isinstance(group, Reg)
    if total:
        name = f"t{len(t.totals)}"
        t.totals.append(f"{name} = np.{'float64' if item == 'f64' else 'int64'}(0)")
        t.line(f"{name} += {value}")
        value = name
    if own is None:
        line = f"cuda.atomic.add({array}, {_number(t, group)}, {value})"
    elif item == "f64":
        line = f"cuda.atomic.add(own64, {own.at(_number(t, group))}, {value})"
        t.use(private.own_sum_f64)
        _flush(t, own.each(), f"    share = own_sum_f64(own64, {own.at('s', '')}, copies)", "    if share != 0:")
        _flush(t, f"        cuda.atomic.add({array}, s, share)")
    else:
        line = f"add_own(own32, {own.halves(_number(t, group))}, copies, {value})"
        _flush_words(t, own, array)
    if total:
        t.after.append(line)
    else:
        t.line(line)


def _flush_words(t: Translation, own: Own, array: str) -> None:
    """Add all words, which are integers."""
    t.use(private.add_own, private.own_sum)
    words = Own(own.first, 1, own.groups * own.words)
    _flush(t, words.each(), f"    part = own_sum(own32, {words.halves('s', '')}, copies)", "    if part != 0:")
    _flush(t, f"        cuda.atomic.add({array}, s, part)")


def _summed(x: str, ok: Any, t: Translation, item: str) -> str:
    cast = "float64" if item == "f64" else "int64"
    value = f"np.{cast}({x})"
    return f"({value} if {t.one(ok)} != 0 else np.{cast}(0))" if isinstance(ok, Reg) else value


@template("total_count")
def total_count(t: Translation, i: Instruction) -> None:
    if not t.counting:
        _add(t, None, i.words[0], "i64", "np.int64(1)")


@template("total_count_valid")
def total_count_valid(t: Translation, i: Instruction) -> None:
    if not t.counting:
        _add(t, None, i.words[1], "i64", f"np.int64({t.one(i.words[0])})")


@template("count", "few_count")
def count(t: Translation, i: Instruction) -> None:
    _add(t, i.words[0], i.words[-1], "i64", "np.int64(1)")


@template("count_valid")
def count_valid(t: Translation, i: Instruction) -> None:
    group, ok, accumulator = i.words
    _add(t, group, accumulator, "i64", f"np.int64({t.one(ok)})")


def _define_sums(item: str) -> None:
    target = "f64" if item == "f64" else "i64"

    @template(f"total_sum_{item}")
    def total_sum(t: Translation, i: Instruction) -> None:
        base, stride, index, ok, accumulator = i.words
        _add(t, None, accumulator, target, _summed(element(t, base, stride, index, item), ok, t, item))

    @template(f"sum_{item}")
    def sum_groups(t: Translation, i: Instruction) -> None:
        group, base, stride, index, ok, accumulator = i.words
        _add(t, group, accumulator, target, _summed(element(t, base, stride, index, item), ok, t, item))

    if item != "f64":

        @template(f"few_sum_{item}")
        def few_sum(t: Translation, i: Instruction) -> None:
            group, base, stride, _, accumulator = i.words
            _add(t, group, accumulator, "i64", f"np.int64({element(t, base, stride, None, item)})")


for _item in ("u8", "u16", "u32", "i64", "f64"):
    _define_sums(_item)


# --- group numbers: rows that a filter left to the sink rejects go no further ----------------------------------------


@template("byte_group")
def byte_group(t: Translation, i: Instruction) -> None:
    t.set(i.words[1], t.one(i.words[0]))


@template("masked_group", "trash_group")
def masked_group(t: Translation, i: Instruction) -> None:
    group, mask, _, out = i.words
    t.keep(f"{t.one(mask)} != 0")
    t.set(out, t.one(group))


# --- accumulators of several words: group or 0, value, validity or 0, accumulator, step ------------------------------


def _define_wide_sum(name: str) -> None:
    @template(name)
    def sum_wide(t: Translation, i: Instruction) -> None:
        group, x, ok, accumulator, step = i.words
        array, own = t.array(accumulator, "i64", written=True), _own(t, group, accumulator, 0, 0, 0)
        low, high = t.register(x, "w") if name == "sum_w" else (t.one(x), f"{t.one(x)} >> np.int64(63)")
        number = _number(t, group)
        t.use(functions.add_wide)
        _where(t, ok)
        if own is None:
            t.fail(f"add_wide({array}, {number} * {step}, {low}, {high})", -2, t.number)
        else:
            t.use(private.add_own_wide, private.own_sum_wide)
            t.line(f"add_own_wide(own32, {own.halves(number)}, copies, {low}, {high})")
            _flush(t, own.each(), f"    low, high, top = own_sum_wide(own32, {own.halves('s', '')}, copies)")
            test = f"top != high >> np.int64(63) or add_wide({array}, 2 * s, low, high)"
            _flush(t, *(f"    {line}" for line in t.failure(test, -2, t.number)))
        t.indent -= 1


_define_wide_sum("sum_w_i64")
_define_wide_sum("sum_w")


def _define_exact(name: str) -> None:
    @template(name)
    def sum_exact(t: Translation, i: Instruction) -> None:
        group, x, ok, accumulator, step = i.words
        array, own = t.array(accumulator, "i64", written=True), _own(t, group, accumulator, *[0] * EXACT_WORDS)
        number = _number(t, group)
        parts = [("m", "place")]
        t.use(exact_mantissa, functions.double_bits)
        _where(t, ok)
        t.line(f"m, place = exact_mantissa(double_bits({t.one(x)}))")
        if name == "sum_exact_squares":
            t.use(exact_square)
            t.line("m0, place0, m1, place1, m2, place2 = exact_square(m, place)")
            parts = [(f"m{n}", f"place{n}") for n in range(3)]
        for mantissa, place in parts:
            if own is None:
                t.use(functions.add_digits)
                t.line(f"add_digits({array}, {number} * {step}, {mantissa}, {place})")
            else:
                t.use(private.add_own_digits)
                t.line(f"add_own_digits(own32, {own.halves(number)}, copies, {mantissa}, {place})")
        if own is not None:
            _flush_words(t, own, array)
        t.indent -= 1


_define_exact("sum_exact")
_define_exact("sum_exact_squares")


@template("moments")
def moments(t: Translation, i: Instruction) -> None:
    group, x, ok, accumulator, step = i.words
    doubles, words = t.array(accumulator, "f64", written=True), t.array(accumulator, "i64", written=True)
    own, number = _own(t, group, accumulator, 0, 0, 0), _number(t, group)
    t.use(private.merge_moments)
    row = f"np.float64(1), {t.one(x)}, np.float64(0)"
    _where(t, ok)
    if own is None:
        t.line(f"merge_moments({doubles}, {words}, {number} * {step}, 1, {row})")
    else:
        t.use(private.flush_moments)
        t.line(f"merge_moments(own64, own, {own.at(number)}, copies, {row})")
        _flush(t, own.each(), f"    flush_moments(own64, {own.at('s', '')}, copies, {doubles}, {words}, s)")
    t.indent -= 1


# --- least and greatest --------------------------------------------------------------------------------------------


def _least(t: Translation, i: Instruction, name: str, item: str, start: int) -> None:
    """An extreme of integers, which accumulators of 32 bits hold too."""
    group, x, ok, accumulator, step = i.words
    array, own, number = t.array(accumulator, item, written=True), _own(t, group, accumulator, start), _number(t, group)
    least = name == "min"
    cast = "np.uint32" if item == "u32" else "np.int64"
    _where(t, ok)
    if own is None:
        at = number if item == "i64" else f"{number} * {step}"
        t.line(f"cuda.atomic.{name}({array}, {at}, {t.one(x)})")
    else:
        t.use(private.extreme_own, private.own_extreme)
        t.line(f"extreme_own(own, {own.at(number)}, np.int64({t.one(x)}), {least})")
        _flush(t, own.each(), f"    best = own_extreme(own, {own.at('s', '')}, copies, {least})")
        _flush(t, f"    if best != np.int64({start}):", f"        cuda.atomic.{name}({array}, s, {cast}(best))")
    t.indent -= 1


def _define_extremes(name: str) -> None:
    least = name == "min"

    @template(f"group_{name}_i64")
    def extreme(t: Translation, i: Instruction) -> None:
        _least(t, i, name, "i64", MOST if least else LEAST)

    @template(f"group_{name}_u32")
    def extreme_code(t: Translation, i: Instruction) -> None:
        _least(t, i, name, "u32", 0xFFFFFFFF if least else 0)

    @template(f"group_{name}_f64")
    def extreme_double(t: Translation, i: Instruction) -> None:
        group, x, ok, accumulator, _ = i.words
        doubles, words = t.array(accumulator, "f64", written=True), t.array(accumulator, "i64", written=True)
        start = int(np.array([np.nan if least else -np.inf]).view(np.int64)[0])
        own, number = _own(t, group, accumulator, start), _number(t, group)
        t.use(functions.extreme_f64)
        _where(t, ok)
        if own is None:
            t.line(f"extreme_f64({doubles}, {number}, {words}, {t.one(x)}, {least})")
        else:
            t.use(private.own_extreme_f64)
            t.line(f"extreme_f64(own64, {own.at(number)}, own, {t.one(x)}, {least})")
            _flush(t, own.each(), f"    top64 = own_extreme_f64(own64, {own.at('s', '')}, copies, {least})")
            _flush(t, f"    extreme_f64({doubles}, s, {words}, top64, {least})")
        t.indent -= 1

    @template(f"group_{name}_w")
    def extreme_wide(t: Translation, i: Instruction) -> None:
        group, x, ok, accumulator, step = i.words
        array = t.array(accumulator, "i64", written=True)
        own = _own(t, group, accumulator, *((-1, MOST) if least else (0, LEAST)), 0)  # and a lock
        (low, high), number = t.register(x, "w"), _number(t, group)
        t.use(functions.extreme_wide)
        _where(t, ok)
        if own is None:
            t.line(f"extreme_wide({array}, {number} * {step}, 1, {low}, {high}, {least}, status, 2)")
        else:
            t.line(f"at = {own.at(number)}")
            t.line(f"extreme_wide(own, at, copies, {low}, {high}, {least}, own, at + 2 * copies)")
            _flush(t, own.each(), "    for c in range(copies):", f"        at = {own.at('s', ' + c')}")
            _flush(t, f"        extreme_wide({array}, 2 * s, 1, own[at], own[at + copies], {least}, status, 2)")
        t.indent -= 1


_define_extremes("min")
_define_extremes("max")


@template("first_row")
def first_row(t: Translation, i: Instruction) -> None:
    _least(t, i, "min", "u32", 0xFFFFFFFF)
