"""Keys of groups: digits that pack into one number, and their way back to columns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from finequery.operators.column import ColumnData, Dictionary
from finequery.operators.expr import Column
from finequery.operators.group_modes import MOST_PACKED
from finequery.operators.lower import Coded, Lower, Stored, Value, bounds_of
from finequery.operators.lower_expr import value
from finequery.operators.program import Out, Reg
from finequery.operators.result_columns import code_column, exact_column, float_column
from finequery.operators.tabulate import stored_digits


class NeedsNumbers(Exception):
    """The groups can't be told apart inside the pipeline (text, wide values): number the rows' groups first."""


@dataclass(slots=True, eq=False)
class GroupKey:
    """How a digit of the group number turns back into a value."""

    column: Column
    span: int
    low: int  # digit 0 (or 1, with NULLs) stands for this value
    scale: int
    nullable: bool
    dictionary: Dictionary | None = None
    kind: str = "exact"  # exact, dict, float, stored (the column's own stored values)
    factor: int = 1

    def decode(self, packed: np.ndarray, first: bool) -> ColumnData:
        """The column of packed keys; ``first``: nothing is packed above this digit."""
        type_ = self.column.type
        if self.kind == "float":
            return float_column(type_, packed.view(np.float64), np.ones(len(packed), dtype=bool))
        if self.span == 2**64:
            return exact_column(type_, packed)
        if self.kind == "stored":
            values = packed * self.scale if self.scale != 1 else packed
            column = exact_column(type_, values + self.low if self.low else values)
            column.stats.sorted = column.stats.unique = True
            return column
        digits = packed.astype(np.int64)
        digits = digits // self.factor if self.factor > 1 else digits
        digits = digits % self.span if not first else digits
        flags: np.ndarray | None = None
        if self.nullable:
            flags = digits > 0
            digits = np.maximum(digits - 1, 0)
        if self.kind == "dict":
            assert self.dictionary is not None
            codes = digits + self.low if self.low else digits
            if flags is not None and self.low:
                codes = np.where(flags, codes, 0)
            return code_column(type_, codes, self.dictionary, flags)
        if self.scale != 1:
            digits = digits * self.scale
        return exact_column(type_, digits + self.low, flags)


@dataclass(slots=True, eq=False)
class Digits:
    """The digits of all group columns of a tile, and what they pack to: numbers below ``domain``."""

    parts: list[tuple[Reg, GroupKey, bool]]  # the vector (u32, or i64 where ``True`` stands with it) and its key
    domain: int

    @property
    def keys(self) -> list[GroupKey]:
        return [key for _, key, _ in self.parts]

    @property
    def narrow(self) -> bool:
        return not any(wide for _, _, wide in self.parts)

    @property
    def packable(self) -> bool:
        """Whether they fit one signed word: below MOST_PACKED, or one word as it is."""
        return self.domain <= MOST_PACKED or (len(self.parts) == 1 and self.parts[0][2])

    def pack(self, lower: Lower, wide: bool) -> Reg:
        """One number from all digits: u32, or i64 if ``wide``."""
        item, size = ("i64", 8) if wide else ("u32", 4)
        packed: Reg | None = None
        for digit, key, widened in self.parts:
            part = digit
            if wide and not widened:
                part = Reg(8)
                lower.emit("i64_of_u32", digit, 0, Out(part))
            if packed is None and key.factor == 1:
                packed = part
                continue
            out = Reg(size)
            factor, zero = lower.program.constant(item, key.factor), lower.program.constant(item, 0)
            lower.emit(f"muladd_{item}", packed if packed is not None else zero, 0, part, 0, factor, 0, Out(out))
            packed = out
        assert packed is not None
        return packed


def digits_of(lower: Lower, columns: list[Column]) -> Digits:
    """The digits of the group columns."""
    parts = [_digit(lower, column, len(columns) == 1) for column in columns]
    domain = 1
    for _, key, _ in reversed(parts):
        key.factor = domain
        domain *= key.span
    return Digits(parts, domain)


def plain_source(lower: Lower, column: Column) -> tuple[Any, int] | None:
    """Address and stride of a column in memory that holds the keys of the whole tile as they are."""
    found = lower.resolve(column)
    if not isinstance(found, Stored) or found.data.kind != "int64" or found.data.validity is not None:
        return None
    if (found.data.base, found.data.scale) != (0, 1) or lower.index(found.rows) is not None:
        return None
    return lower.source(found)


def _digit(lower: Lower, column: Column, single: bool) -> tuple[Reg, GroupKey, bool]:
    """A group column's digit. ``single``: it is the only one."""
    found = lower.resolve(column)
    data = found.data if isinstance(found, (Stored, Coded)) else None
    if data is not None and data.kind in ("uint", "dict"):
        if isinstance(found, Stored):
            reg, valid = stored_digits(lower, found), lower.validity(found)
        else:
            assert isinstance(found, Coded)
            reg, valid = lower.digits_of(found), None
        if data.kind == "dict":
            first, last = data.stats.code_low or 0, data.stats.code_high
            last = len(data.dictionary or ()) - 1 if last is None else last
            key = GroupKey(column, max(last - first + 1, 1), first, 1, False, data.dictionary, "dict")
        else:
            low, high = bounds_of(data)
            first = (low - data.base) // data.scale
            span = (high - low) // data.scale + 1
            key = GroupKey(column, span, low, data.scale, False)
            if valid is not None and span >= 2**32:  # NULL has no digit of 32 bits left
                raise NeedsNumbers
        if first:
            moved = Reg(4)
            shift = lower.program.constant("u32", (-first) & 0xFFFFFFFF)
            one = lower.program.constant("u32", 1)
            lower.emit("muladd_u32", reg, 0, shift, 0, one, 0, Out(moved))
            reg = moved
        return _with_null(lower, reg, key, valid)
    v = value(lower, column)
    if v.kind == "u32" and v.dictionary is not None:
        key = GroupKey(column, max(len(v.dictionary), 1), 0, 1, False, v.dictionary, "dict")
        return _with_null(lower, v.reg, key, v.valid)
    if v.kind == "u8":
        wide = Reg(8)
        lower.emit("i64_of_u8", v.reg, 0, Out(wide))
        v = Value("i64", wide, v.valid, 0, 1)
    if v.kind == "f64" and single and v.valid is None:
        bits = Reg(8)
        lower.emit("normal_f64", v.reg, 0, Out(bits))
        return bits, GroupKey(column, 2**64, 0, 1, False, None, "float"), True
    if v.kind == "i64":
        span = v.high - v.low + 1
        if span < 2**31:
            moved, reg = Reg(8), Reg(4)
            shift = lower.program.constant("i64", v.low)
            lower.emit("sub_i64", v.reg, 0, shift, 0, Out(moved))
            lower.emit("u32_of_i64", moved, 0, Out(reg))
            return _with_null(lower, reg, GroupKey(column, span, v.low, 1, False), v.valid)
        if v.valid is None and (single or span < MOST_PACKED):
            if single:
                return v.reg, GroupKey(column, 2**64, 0, 1, False), True
            moved = Reg(8)
            shift = lower.program.constant("i64", v.low)
            lower.emit("sub_i64", v.reg, 0, shift, 0, Out(moved))
            return moved, GroupKey(column, span, v.low, 1, False), True
    raise NeedsNumbers


def _with_null(lower: Lower, reg: Reg, key: GroupKey, valid: Reg | None) -> tuple[Reg, GroupKey, bool]:
    if valid is None:
        return reg, key, False
    one, zero = lower.program.constant("u32", 1), lower.program.constant("u32", 0)
    moved, out = Reg(4), Reg(4)
    lower.emit("muladd_u32", reg, 0, one, 0, one, 0, Out(moved))
    lower.emit("blend_u32", valid, 0, moved, 0, zero, 0, Out(out))
    key.nullable = True
    key.span += 1
    return out, key, False
