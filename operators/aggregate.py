"""Aggregate: groups and accumulators at the end of a pipeline.

The number of a row's group comes from the keys' digits (dense), from a hash table per thread (hash), or was computed
before for the whole input (numbered: radix partitions, text keys). Accumulators are arrays by group number, one set per
thread, added up at the end. Sums run over stored values and are decoded once per group.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from finequery.errors import OutOfRangeError
from finequery.jetson import memory
from finequery.operators import native
from finequery.operators.build import padded
from finequery.operators.column import ColumnData, Dictionary, Frame, Stats
from finequery.operators.expr import Column
from finequery.operators.lower import I64_HIGH, I64_LOW, Coded, Lower, Stored, Value, bounds_of, stored_item
from finequery.operators.lower_expr import as_f64, as_i64, as_wide, value
from finequery.operators.materialize import pack_validity
from finequery.operators.program import TILE, Out, Reg, Symbol
from finequery.operators.tabulate import stored_digits
from finequery.types import SqlType

#: Most groups that are added up by masked vector sums (reference: cpu-execution 4.8).
FEW = 8
#: Dense arrays up to this many groups are used however few rows there are.
ALWAYS_DENSE = 1 << 16
MOST_DENSE = 1 << 28
MOST_PACKED = 2**62


#: Aggregates for which a rejected row may be added to a group that is thrown away.
ADDED_UP = frozenset(("count_star", "count", "sum", "avg", "min", "max"))


class NeedsNumbers(Exception):
    """The groups can't be told apart inside the pipeline (text, wide values): number the rows' groups first."""


@dataclass(slots=True, eq=False)
class Call:
    """One aggregate: output column, function, argument column, filter column."""

    output: Column
    name: str
    argument: Column | None
    filter: Column | None


@dataclass(slots=True, eq=False)
class GroupKey:
    """How a digit of the group number turns back into a value."""

    column: Column
    span: int
    low: int  # digit 0 (or 1, with NULLs) stands for this value
    scale: int
    nullable: bool
    dictionary: Dictionary | None = None
    kind: str = "exact"  # exact, dict, float
    factor: int = 1


@dataclass(slots=True, eq=False)
class Accumulator:
    """An array by group number for each thread. ``kind`` says how threads are merged."""

    kind: str  # sum, min, max, wide_sum, wide_min, wide_max, moments, first
    dtype: Any
    words: int
    start: Any
    arrays: list[np.ndarray] = field(default_factory=list)


class AggregateSink:
    """The sink. ``numbered``: a column with the group numbers, and how many there are; with ``firsts`` the numbers
    count inside partitions (one a morsel), whose first groups these are, and all threads share one set of
    accumulators."""

    def __init__(
        self,
        groups: list[Column],
        calls: list[Call],
        numbered: tuple[Column, int] | None = None,
        firsts: np.ndarray | None = None,
    ):
        self.groups = groups
        self.calls = calls
        self.rows = 0
        self.numbered = numbered
        self.firsts = firsts
        self.shared = firsts is not None
        self.instance: Any = None
        self.mode = "scalar"
        self.reason = ""
        self.keys: list[GroupKey] = []
        self.domain = 1
        self.accumulators: list[Accumulator] = []
        self.shared_accumulators: dict[Any, int] = {}
        self.finals: list[Callable[[np.ndarray, np.ndarray], ColumnData]] = []
        self.states = np.zeros((1, 16), dtype=np.int64)
        self.tables: list[np.ndarray] = []
        self.listed: list[np.ndarray] = []
        self.hashes: list[np.ndarray] = []
        self.refuse_hash = False
        self.presence = -1

    # --- lowering ----------------------------------------------------------------------------------------------------

    def lower_into(self, lower: Lower) -> None:
        self.rows = lower.most_rows
        group = self._group(lower)
        few = self.mode == "dense" and self.domain <= FEW and self.numbered is None
        bytes_: Reg | None = None
        mask, lower.deferred = lower.deferred, None
        if mask is not None:
            # the rows that the filter rejects are added up too, in a group behind the last one that nobody reads
            assert group is not None
            if few:
                bytes_ = Reg(1)
                lower.emit("masked_group", group, mask, self.domain, Out(bytes_))
            trash = Reg(4)
            lower.emit("trash_group", group, mask, self.domain, Out(trash))
            group = trash
            lower.active = mask
        elif few and group is not None:
            bytes_ = Reg(1)
            lower.emit("byte_group", group, Out(bytes_))
        if self.mode != "scalar" or not self.calls:
            self.presence = self._count(lower, group, bytes_, None)
        for call in self.calls:
            self.finals.append(self._call(lower, call, group, bytes_))

    def _group(self, lower: Lower) -> Reg | None:
        if self.numbered is not None:
            column, self.domain = self.numbered
            self.mode = "numbered"
            stored = lower.stored(column)
            assert stored is not None
            numbers = stored_digits(lower, stored)
            if self.firsts is None:
                return numbers
            number = Reg(4)
            morsel = Symbol(lambda t: self.instance.states[t], 12 * 8)
            lower.emit("partition_number", numbers, lower.symbol(self.firsts), morsel, Out(number))
            return number
        if not self.groups:
            self.mode = "scalar"
            return None
        runs = self._runs(lower)
        if runs is not None:
            return runs
        digits = [self._digit(lower, column) for column in self.groups]
        domain = 1
        for _, key, _ in reversed(digits):
            key.factor = domain
            domain *= key.span
        self.keys = [key for _, key, _ in digits]
        self.domain = domain
        dense = domain <= max(ALWAYS_DENSE, min(self.rows, MOST_DENSE, int(16 * lower.expected_rows)))
        if dense and all(not wide for _, _, wide in digits):
            self.mode, self.reason = "dense", f"{domain:,} possible groups: an array"
            group: Reg | None = None
            for reg, key, _ in digits:
                if group is None and key.factor == 1:
                    group = reg
                    continue
                out = Reg(4)
                factor = lower.program.constant("u32", key.factor)
                zero = lower.program.constant("u32", 0)
                lower.emit("muladd_u32", group if group is not None else zero, 0, reg, 0, factor, 0, Out(out))
                group = out
            return group
        if self.refuse_hash or (domain > MOST_PACKED and not (len(digits) == 1 and digits[0][2])):
            raise NeedsNumbers
        self.mode, self.reason = "hash", "groups spread over a wide range: hash tables"
        packed: Reg | None = None
        for reg, key, wide in digits:
            part = reg
            if not wide:
                part = Reg(8)
                lower.emit("i64_of_u32", reg, 0, Out(part))
            if packed is None and key.factor == 1:
                packed = part
                continue
            out = Reg(8)
            factor = lower.program.constant("i64", key.factor)
            zero64 = lower.program.constant("i64", 0)
            lower.emit("muladd_i64", packed if packed is not None else zero64, 0, part, 0, factor, 0, Out(out))
            packed = out
        assert packed is not None
        source: tuple[Any, int] = (packed, 0)
        found = lower.resolve(self.groups[0])
        plain = len(digits) == 1 and isinstance(found, Stored) and found.data.kind == "int64" and digits[0][2]
        if plain and isinstance(found, Stored) and (found.data.base, found.data.scale) == (0, 1):
            # the column holds the keys as they are
            source = lower.source(found) if lower.index(found.rows) is None else source
        number = Reg(4)
        lower.emit("find_group", *source, Symbol(lambda t: self.states[t]), Out(number), pure=False)
        return number

    def _runs(self, lower: Lower) -> Reg | None:
        """Groups of one sorted column of the pipeline's own source: equal keys follow each other, so no table is
        needed."""
        if len(self.groups) != 1:
            return None
        found = lower.resolve(self.groups[0])
        if not isinstance(found, Stored) or found.rows is not None or not found.data.stats.sorted:
            return None
        data = found.data
        if data.kind not in ("uint", "int64") or data.validity is not None:
            return None
        low, high = bounds_of(data)
        if (high - low) // data.scale < ALWAYS_DENSE:
            return None
        base, stride = lower.source(found)
        index, keys, number = lower.index(found.rows), Reg(8), Reg(4)
        if index is None:
            lower.emit(f"widen_{stored_item(data)}", base, stride, 0, 1, Out(keys))
        else:
            lower.emit(f"gather_widen_{stored_item(data)}", base, stride, index, 0, 1, Out(keys))
        morsel = Symbol(lambda t: self.instance.states[t], 12 * 8)
        lower.emit("run_group", keys, Symbol(lambda t: self.states[t]), Out(number), morsel, pure=False)
        self.mode, self.reason = "runs", "input sorted by the key: runs of equal keys"
        self.keys = [GroupKey(self.groups[0], high - low + 1, data.base, data.scale, False, kind="stored")]
        return number

    def _digit(self, lower: Lower, column: Column) -> tuple[Reg, GroupKey, bool]:
        """A group column's digit (u32, or i64 where ``True`` comes with it)."""
        single = len(self.groups) == 1
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
            return self._with_null(lower, reg, key, valid)
        v = value(lower, column)
        if v.kind == "u32" and v.dictionary is not None:
            key = GroupKey(column, max(len(v.dictionary), 1), 0, 1, False, v.dictionary, "dict")
            return self._with_null(lower, v.reg, key, v.valid)
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
                return self._with_null(lower, reg, GroupKey(column, span, v.low, 1, False), v.valid)
            if v.valid is None and (single or span < MOST_PACKED):
                if single:
                    return v.reg, GroupKey(column, 2**64, 0, 1, False), True
                moved = Reg(8)
                shift = lower.program.constant("i64", v.low)
                lower.emit("sub_i64", v.reg, 0, shift, 0, Out(moved))
                return moved, GroupKey(column, span, v.low, 1, False), True
        raise NeedsNumbers

    def _with_null(self, lower: Lower, reg: Reg, key: GroupKey, valid: Reg | None) -> tuple[Reg, GroupKey, bool]:
        if valid is None:
            return reg, key, False
        one, zero = lower.program.constant("u32", 1), lower.program.constant("u32", 0)
        moved, out = Reg(4), Reg(4)
        lower.emit("muladd_u32", reg, 0, one, 0, one, 0, Out(moved))
        lower.emit("blend_u32", valid, 0, moved, 0, zero, 0, Out(out))
        key.nullable = True
        key.span += 1
        return out, key, False

    def _add(self, key: Any, kind: str, dtype: Any, start: Any = 0, words: int = 1) -> tuple[int, Symbol, bool]:
        """An accumulator (shared by equal aggregates): its number, symbol, and whether it is new."""
        if key is not None and key in self.shared_accumulators:
            return self.shared_accumulators[key], Symbol(0), False
        number = len(self.accumulators)
        self.accumulators.append(Accumulator(kind, dtype, words, start))
        if key is not None:
            self.shared_accumulators[key] = number
        return number, Symbol(lambda t: self.accumulators[number].arrays[t]), True

    def _count(self, lower: Lower, group: Reg | None, bytes_: Reg | None, valid: Reg | None) -> int:
        number, where, new = self._add(("count", valid), "sum", np.int64)
        if not new:
            return number
        if valid is None:
            if group is None:
                lower.emit("total_count", where, pure=False)
            elif bytes_ is not None:
                lower.emit("few_count", bytes_, self.domain, where, pure=False)
            else:
                lower.emit("count", group, where, pure=False)
        elif group is None:
            lower.emit("total_count_valid", valid, where, pure=False)
        else:
            lower.emit("count_valid", group, valid, where, pure=False)
        return number

    def _call(
        self, lower: Lower, call: Call, group: Reg | None, bytes_: Reg | None
    ) -> Callable[[np.ndarray, np.ndarray], ColumnData]:
        name, type_ = call.name, call.output.type
        keep: Reg | None = None
        if call.filter is not None:
            from finequery.operators.lower_expr import is_true

            keep = is_true(lower, call.filter)
        if name == "count_star":
            number = self._count(lower, group, bytes_, keep)
            return lambda pick, counts: self._picked_exact(type_, number, None, pick, 0, 1)
        assert call.argument is not None
        stored = lower.stored(call.argument)
        if name in ("first", "any_value"):
            found = lower.resolve(call.argument)
            if isinstance(found, Coded):
                stored = found.rows
            return self._first(lower, call, group, stored, keep)
        if name == "count":
            valid = lower.validity(stored) if stored is not None else value(lower, call.argument).valid
            valid = lower.both_valid(valid, keep)
            number = self._count(lower, group, bytes_, valid)
            return lambda pick, counts: self._picked_exact(type_, number, None, pick, 0, 1)
        if name in ("sum", "avg") and stored is not None and stored.data.kind in ("uint", "int64"):
            return self._stored_sum(lower, call, group, bytes_, stored, keep)
        v = value(lower, call.argument)
        valid = lower.both_valid(v.valid, keep)
        counts = self._count(lower, group, bytes_, valid)
        if name in ("sum", "avg"):
            return self._sum(lower, call, v, valid, group, bytes_, counts)
        if name in ("min", "max", "bool_and", "bool_or"):
            return self._extreme(lower, call, v, valid, group, counts)
        if name in ("stddev_samp", "stddev_pop", "var_samp", "var_pop"):
            return self._moments(lower, call, v, valid, group)
        from finequery.errors import NotSupportedError

        raise NotSupportedError(f"aggregate {name}()")

    def _stored_sum(
        self, lower: Lower, call: Call, group: Reg | None, bytes_: Reg | None, stored: Stored, keep: Reg | None
    ) -> Callable[[np.ndarray, np.ndarray], ColumnData]:
        """Sums of stored values, decoded at the end: sum = base * count + scale * sum of stored."""
        data = stored.data
        low, high = bounds_of(data)
        most = max(abs((low - data.base) // data.scale), abs((high - data.base) // data.scale), 1)
        if most * max(self.rows, 1) > I64_HIGH:
            v = value(lower, call.argument)  # type: ignore[arg-type]
            valid = lower.both_valid(v.valid, keep)
            return self._sum(lower, call, v, valid, group, bytes_, self._count(lower, group, bytes_, valid))
        valid = lower.both_valid(lower.validity(stored), keep)
        counts = self._count(lower, group, bytes_, valid)
        number, where, new = self._add(("sum", id(stored), valid), "sum", np.int64)
        if new:
            base, stride = lower.source(stored)
            index: Any = lower.index(stored.rows)
            item = stored_item(data)
            if bytes_ is not None and valid is None:
                if index is not None:
                    gathered = Reg(data.width)
                    lower.emit(f"gather_{data.width}", base, stride, index, Out(gathered))
                    base, stride = gathered, 0  # type: ignore[assignment]
                lower.emit(f"few_sum_{item}", bytes_, base, stride, self.domain, where, pure=False)
            else:
                words = (base, stride, index if index is not None else 0, valid if valid is not None else 0, where)
                if group is None:
                    lower.emit(f"total_sum_{item}", *words, pure=False)
                else:
                    lower.emit(f"sum_{item}", group, *words, pure=False)

        def final(pick: np.ndarray, _: np.ndarray) -> ColumnData:
            if call.name == "sum" and abs(data.base) + data.scale * most < 2**62 // max(self.rows, 1):
                return self._picked_exact(call.output.type, number, counts, pick, data.base, data.scale)
            n, total = self._merged(counts)[pick], self._merged(number)[pick]
            biggest = int(n.max(initial=0)) * (abs(data.base) + data.scale * most)
            if biggest < I64_HIGH:
                totals: Any = n * data.base + total * data.scale if data.base else total * data.scale
            else:
                totals = n.astype(object) * data.base + total.astype(object) * data.scale
            return self._finish_sum(call, totals, n)

        return final

    def _sum(
        self, lower: Lower, call: Call, v: Value, valid: Reg | None, group: Reg | None, bytes_: Reg | None, counts: int
    ) -> Callable[[np.ndarray, np.ndarray], ColumnData]:
        ok: Any = valid if valid is not None else 0
        if v.kind == "f64":
            number, where, new = self._add(("sum", v.reg, valid), "sum", np.float64, 0.0)
            if new:
                if group is None:
                    lower.emit("total_sum_f64", v.reg, 0, 0, ok, where, pure=False)
                else:
                    lower.emit("sum_f64", group, v.reg, 0, 0, ok, where, pure=False)
            return lambda pick, _: self._finish_sum(call, self._merged(number)[pick], self._merged(counts)[pick])
        if v.kind in ("u8", "u32"):
            v = as_i64(lower, v)
        most = max(abs(v.low), abs(v.high), 1)
        if v.kind == "i64" and most * max(self.rows, 1) <= I64_HIGH:
            number, where, new = self._add(("sum", v.reg, valid), "sum", np.int64)
            if new:
                if bytes_ is not None and valid is None:
                    lower.emit("few_sum_i64", bytes_, v.reg, 0, self.domain, where, pure=False)
                elif group is None:
                    lower.emit("total_sum_i64", v.reg, 0, 0, ok, where, pure=False)
                else:
                    lower.emit("sum_i64", group, v.reg, 0, 0, ok, where, pure=False)
            if call.name == "sum":
                return lambda pick, _: self._picked_exact(call.output.type, number, counts, pick, 0, 1)
            return lambda pick, _: self._finish_sum(call, self._merged(number)[pick], self._merged(counts)[pick])
        name = "sum_w_i64" if v.kind == "i64" else "sum_w"
        number, where, new = self._add(("wide", v.reg, valid), "wide_sum", np.int64, 0, 2)
        if new:
            lower.emit(name, group if group is not None else 0, v.reg, ok, where, pure=False)
        return lambda pick, _: self._finish_sum(
            call, wide_objects(self._merged(number), pick), self._merged(counts)[pick]
        )

    def _picked_exact(
        self, type_: SqlType, number: int, counts: int | None, pick: np.ndarray, base: int, scale: int
    ) -> ColumnData:
        """A column of int64 accumulators of the picked groups, NULL where the count is 0."""
        size = len(pick)
        if pick.dtype != np.uint32:
            pick = pick.astype(np.uint32)
        out, bounds = padded(size, np.int64, zero=False), np.zeros(2, dtype=np.int64)
        weights = None if counts is None else self._merged(counts)
        words = (0 if weights is None else weights.ctypes.data, base, scale, out.ctypes.data, bounds.ctypes.data)
        nulls = native.run("pick_exact", self._merged(number).ctypes.data, pick.ctypes.data, *words, n=size)
        flags = None if not nulls or weights is None else weights[pick] > 0
        return narrowed(type_, out, int(bounds[0]), int(bounds[1]), flags)

    def _finish_sum(self, call: Call, totals: Any, counts: np.ndarray) -> ColumnData:
        type_, flags = call.output.type, counts > 0
        if call.name == "avg":
            assert call.argument is not None
            scale = 10**call.argument.type.scale if call.argument.type.is_decimal else 1
            with np.errstate(all="ignore"):
                means = totals.astype(np.float64) / np.maximum(counts, 1)
                if scale != 1:
                    means = means / scale
            return float_column(type_, means, flags)
        if type_.is_float:
            return float_column(type_, totals, flags)
        return exact_column(type_, totals, flags)

    def _extreme(
        self, lower: Lower, call: Call, v: Value, valid: Reg | None, group: Reg | None, counts: int
    ) -> Callable[[np.ndarray, np.ndarray], ColumnData]:
        least = call.name in ("min", "bool_and")
        name, kind, type_ = ("min" if least else "max"), ("min" if least else "max"), call.output.type
        g: Any = group if group is not None else 0
        ok: Any = valid if valid is not None else 0
        if type_.name == "INTERVAL":
            from finequery.errors import NotSupportedError

            raise NotSupportedError(f"{call.name} of an INTERVAL is not supported.", hint="Aggregate numbers of days.")
        if v.kind == "s":
            raise NeedsNumbers
        if v.kind == "u8":
            v = as_i64(lower, v)
        choices: dict[str, tuple[Any, Any, int]] = {
            "i64": (np.int64, I64_HIGH if least else I64_LOW, 1),
            "u32": (np.uint32, 0xFFFFFFFF if least else 0, 1),
            "f64": (np.float64, np.nan if least else -np.inf, 1),
            "w": (np.int64, None, 2),
        }
        dtype, start, words = choices[v.kind]
        if v.kind == "w":
            kind, start = f"wide_{kind}", (-1, I64_HIGH) if least else (0, I64_LOW)
        number, where, new = self._add((call.name, v.reg, valid), kind, dtype, start, words)
        if new:
            lower.emit(f"group_{name}_{v.kind}", g, v.reg, ok, where, pure=False)
        dictionary = v.dictionary

        def final(pick: np.ndarray, _: np.ndarray) -> ColumnData:
            if v.kind == "i64":
                return self._picked_exact(type_, number, counts, pick, 0, 1)
            flags = self._merged(counts)[pick] > 0
            if dictionary is not None:
                codes = self._merged(number)[pick]
                return code_column(type_, np.where(flags, codes, 0), dictionary, flags)
            if v.kind == "f64":
                return float_column(type_, np.where(flags, self._merged(number)[pick], 0.0), flags)
            if v.kind == "w":
                return exact_column(type_, wide_objects(self._merged(number), pick), flags)
            return self._picked_exact(type_, number, counts, pick, 0, 1)

        return final

    def _moments(
        self, lower: Lower, call: Call, v: Value, valid: Reg | None, group: Reg | None
    ) -> Callable[[np.ndarray, np.ndarray], ColumnData]:
        v = as_f64(lower, v)
        number, where, new = self._add(("moments", v.reg, valid), "moments", np.float64, 0.0, 3)
        if new:
            g: Any = group if group is not None else 0
            lower.emit("moments", g, v.reg, valid if valid is not None else 0, where, pure=False)

        def final(pick: np.ndarray, _: np.ndarray) -> ColumnData:
            merged = self._merged(number)
            parts = merged[: len(merged) // 3 * 3].reshape(-1, 3)[pick]
            n, m2 = parts[:, 0], parts[:, 2]
            less = 1 if call.name.endswith("samp") else 0
            flags = n > less
            with np.errstate(all="ignore"):
                variance = m2 / np.maximum(n - less, 1)
            if np.isinf(variance[flags]).any() or np.isnan(variance[flags]).any():
                raise OutOfRangeError(f"{call.name.split('_')[0].upper()} is out of range")
            return float_column(call.output.type, np.sqrt(variance) if "stddev" in call.name else variance, flags)

        return final

    def _first(
        self, lower: Lower, call: Call, group: Reg | None, stored: Stored | None, keep: Reg | None
    ) -> Callable[[np.ndarray, np.ndarray], ColumnData]:
        if stored is None or (stored.rows is not None and stored.rows.matched is not None):
            raise NeedsNumbers
        valid = lower.both_valid(lower.validity(stored) if call.name == "any_value" else None, keep)
        key = ("first", id(stored.rows), valid)
        number, where, new = self._add(key, "first", np.uint32, 0xFFFFFFFF)
        if new:
            if stored.rows is None:
                rows = Reg(4)
                index = lower.rows()
                lower.emit("row_numbers", Out(rows), index if index is not None else 0)
            else:
                rows = lower.row_numbers(stored.rows)
            ok: Any = valid if valid is not None else 0
            lower.emit("first_row", group if group is not None else 0, rows, ok, where, pure=False)

        def final(pick: np.ndarray, _: np.ndarray) -> ColumnData:
            from finequery.operators.pool import get_pool
            from finequery.operators.take import take

            rows = padded(len(pick), np.uint32)
            rows[:] = self._merged(number)[pick]
            data = stored.fetch() if stored.fetch is not None else stored.data
            return take(data, rows, get_pool(1), missing=True)

        return final

    def defers(self, lower: Lower) -> bool:
        """Whether a filter that most rows pass may be left to this sink: few groups, and known as such."""
        domain = 1
        for column in self.groups:
            stored = lower.stored(column)
            if stored is None or stored.data.kind not in ("uint", "dict"):
                return False
            low, high = bounds_of(stored.data) if stored.data.kind == "uint" else (0, len(stored.data.dictionary or ()))
            domain *= (high - low) // stored.data.scale + 2
        return bool(self.groups) and domain <= 256 and all(c.name in ADDED_UP for c in self.calls)

    def empty(self) -> Frame:
        """What comes out when no row can: no group, or the one row of an aggregate over everything."""
        from finequery.operators.concat import constant_column, empty_column

        if self.groups:
            return Frame({c.id: empty_column(c.type) for c in (*self.groups, *(k.output for k in self.calls))}, 0)
        zero = ("count", "count_star")
        return Frame(
            {c.output.id: constant_column(c.output.type, 0 if c.name in zero else None, 1) for c in self.calls}, 1
        )

    # --- one run -----------------------------------------------------------------------------------------------------

    @property
    def wants_segments(self) -> bool:
        return self.mode == "runs"

    def cursor(self, thread: int) -> int:
        return self.states[thread].ctypes.data

    def prepare(self, threads: int, rows: int) -> None:
        self.threads = threads
        self.merged: dict[int, np.ndarray] = {}
        growing = self.mode in ("hash", "runs")
        size = self.domain if not growing else 1024 if self.mode == "hash" else max(1024, rows // 4)
        for accumulator in self.accumulators:
            accumulator.arrays = []
            for thread in range(threads):
                if self.shared and thread:
                    accumulator.arrays.append(accumulator.arrays[0])
                else:
                    accumulator.arrays.append(_start(accumulator, size))
        if growing:
            self.states = np.zeros((threads, 16), dtype=np.int64)
            self.tables, self.listed, self.hashes = [], [], []
            for thread in range(threads):
                self.tables.append(padded(2 * 4 * size * 2 if self.mode == "hash" else 1, np.uint64))
                self.listed.append(padded(size + TILE, np.uint64, zero=False))
                self.hashes.append(padded(TILE, np.uint64))
                self._publish(thread, size + TILE, 8 * size)
            for accumulator in self.accumulators:
                accumulator.arrays = [_enlarge(accumulator, a, 0, size + TILE) for a in accumulator.arrays]

    def _publish(self, thread: int, groups: int, slots: int) -> None:
        state = self.states[thread]
        state[1], state[2], state[3] = groups, self.tables[thread].ctypes.data, 64 - (slots.bit_length() - 1)
        state[4], state[5], state[6] = self.listed[thread].ctypes.data, self.hashes[thread].ctypes.data, slots - 1

    def grow(self, thread: int) -> None:
        """A larger table for a thread whose groups are too many; its accumulators grow with it."""
        self._enlarge_table(thread, TILE)
        if self.instance is not None:
            self.instance.bind()

    def _enlarge_table(self, thread: int, more: int) -> None:
        used = int(self.states[thread, 0])
        size = 1 << (max(4 * used, used + more, 1024) - 1).bit_length()
        slots = 4 * size
        if self.mode == "hash":
            self.tables[thread] = padded(slots * 2, np.uint64)
        listed = padded(size + TILE, np.uint64, zero=False)
        listed[:used] = self.listed[thread][:used]
        self.listed[thread] = listed
        self._publish(thread, size + TILE, slots)
        if self.mode == "hash":
            native.function("rehash_groups")(0, 0, 0, self.states[thread].ctypes.data)
        for accumulator in self.accumulators:
            accumulator.arrays[thread] = _enlarge(accumulator, accumulator.arrays[thread], used, size + TILE)

    def _merged(self, number: int) -> np.ndarray:
        return self.merged[number]

    def finish(self, segments: np.ndarray | None, rows: int, used: int) -> Frame:
        """Merge the threads; one row per group that occurs."""
        if self.mode == "hash":
            packed = self._merge_tables()
            pick = np.arange(len(packed), dtype=np.uint32)
        elif self.mode == "runs":
            packed = self._merge_runs(segments)
            pick = np.arange(len(packed), dtype=np.uint32)
        else:
            for number, accumulator in enumerate(self.accumulators):
                target = accumulator.arrays[0]
                if not self.shared:
                    for other in accumulator.arrays[1:]:
                        _merge(accumulator, target, other, None)
                self.merged[number] = target
            if self.mode == "scalar":
                pick = np.zeros(1, dtype=np.int64)
            else:
                pick = padded(self.domain, np.uint32, zero=False)
                found = native.run(
                    "find_groups", self.merged[self.presence].ctypes.data, pick.ctypes.data, n=self.domain
                )
                pick = pick[:found]
            packed = pick
        columns: dict[int, ColumnData] = {}
        for key in self.keys:
            columns[key.column.id] = self._key_column(key, packed)
        counts = np.zeros(0, dtype=np.int64)
        for call, final in zip(self.calls, self.finals):
            columns[call.output.id] = final(pick, counts)
        self.picked = pick
        for accumulator in self.accumulators:
            accumulator.arrays = []
        return Frame(columns, len(pick))

    def release(self) -> None:
        """Let go of the run's arrays."""
        self.merged, self.tables, self.listed, self.hashes = {}, [], [], []
        for accumulator in self.accumulators:
            accumulator.arrays = []

    def _merge_runs(self, segments: np.ndarray | None) -> np.ndarray:
        """All threads' runs in the order of their morsels; a run that a morsel's end cut in two becomes one."""
        assert segments is not None
        pieces: list[tuple[int, int, int]] = []  # thread, first group, end
        for thread, start, end in segments.tolist():
            if end <= start:
                continue
            if pieces:
                before, _, last = pieces[-1]
                if self.listed[before][last - 1] == self.listed[thread][start]:
                    for accumulator in self.accumulators:
                        words = accumulator.words
                        source = np.ascontiguousarray(accumulator.arrays[thread][start * words : (start + 1) * words])
                        _merge(accumulator, accumulator.arrays[before], source, np.array([last - 1], dtype=np.uint32))
                    start += 1
                    if start == end:
                        continue
            pieces.append((thread, start, end))
        for number, accumulator in enumerate(self.accumulators):
            words = accumulator.words
            parts = [accumulator.arrays[t][start * words : end * words] for t, start, end in pieces]
            self.merged[number] = _join(parts, accumulator.dtype)
        keys = [self.listed[t][start:end] for t, start, end in pieces]
        return _join(keys, np.uint64).view(np.int64)

    def _merge_tables(self) -> np.ndarray:
        """All threads' groups in the table of the first."""
        for thread in range(1, self.threads):
            found = int(self.states[thread, 0])
            if found == 0:
                continue
            if int(self.states[0, 0]) + found > int(self.states[0, 1]):
                self._enlarge_table(0, found + TILE)
            keys = self.listed[thread]
            numbers = padded(found, np.uint32, zero=False)
            step = native.function("find_group")
            words = np.zeros(4, dtype=np.int64)
            words[2] = self.states[0].ctypes.data
            for start in range(0, found, TILE):
                words[0] = keys.ctypes.data + 8 * start
                words[3] = numbers.ctypes.data + 4 * start
                if step(0, 0, min(TILE, found - start), words.ctypes.data) < 0:
                    raise AssertionError("the group table is too small for the merge")
            for accumulator in self.accumulators:
                _merge(accumulator, accumulator.arrays[0], accumulator.arrays[thread], numbers[:found])
        groups = int(self.states[0, 0])
        for number, accumulator in enumerate(self.accumulators):
            self.merged[number] = accumulator.arrays[0]
        return self.listed[0][:groups].view(np.int64)

    def _key_column(self, key: GroupKey, packed: np.ndarray) -> ColumnData:
        if key.span == 2**64:
            if key.kind == "float":
                return float_column(key.column.type, packed.view(np.float64), np.ones(len(packed), dtype=bool))
            return exact_column(key.column.type, packed)
        if key.kind == "stored":
            values = packed * key.scale if key.scale != 1 else packed
            column = exact_column(key.column.type, values + key.low if key.low else values)
            column.stats.sorted = column.stats.unique = True
            return column
        digits = packed.astype(np.int64)
        digits = digits // key.factor if key.factor > 1 else digits
        digits = digits % key.span if key is not self.keys[0] else digits
        flags: np.ndarray | None = None
        if key.nullable:
            flags = digits > 0
            digits = np.maximum(digits - 1, 0)
        if key.kind == "dict":
            assert key.dictionary is not None
            codes = digits + key.low if key.low else digits
            if flags is not None and key.low:
                codes = np.where(flags, codes, 0)
            return code_column(key.column.type, codes, key.dictionary, flags)
        values = digits.astype(np.int64)
        if key.scale != 1:
            values = values * key.scale
        return exact_column(key.column.type, values + key.low, flags)


def _join(parts: list[np.ndarray], dtype: Any) -> np.ndarray:
    """The parts one after another."""
    joined = padded(sum(map(len, parts)), dtype, zero=False)
    if parts:
        np.concatenate(parts, out=joined)
    return joined


def _start(accumulator: Accumulator, size: int) -> np.ndarray:
    """An array of accumulators as they are before the first row."""
    count, dtype, start = size * accumulator.words + 8, np.dtype(accumulator.dtype), accumulator.start
    if count * dtype.itemsize < memory.LARGE:
        data = np.empty(count, dtype=dtype)
    else:
        memory.require(count * dtype.itemsize, "the groups' accumulators")
        data = memory.array(count, dtype, counted=False)
    if isinstance(start, tuple):
        data.reshape(-1, 2)[:] = start
    else:
        data.fill(start)
    return data


def _enlarge(accumulator: Accumulator, array: np.ndarray, used: int, size: int) -> np.ndarray:
    bigger = _start(accumulator, size)
    bigger[: used * accumulator.words] = array[: used * accumulator.words]
    return bigger


def _merge(accumulator: Accumulator, target: np.ndarray, source: np.ndarray, where: np.ndarray | None) -> None:
    """Another thread's accumulator into this one (``where``: the groups' numbers here)."""
    kind, words = accumulator.kind, accumulator.words
    if kind == "moments":
        count = len(source) // 3 if where is None else len(where)
        address = 0 if where is None else where.ctypes.data
        native.run("merge_moments", target.ctypes.data, source.ctypes.data, address, n=count)
        return
    if words == 2:
        count = len(source) // 2 if where is None else len(where)
        native.run(
            kind + "_merge", target.ctypes.data, source.ctypes.data, 0 if where is None else where.ctypes.data, n=count
        )
        return
    operation: Any = {"sum": np.add, "min": np.fmin, "max": np.maximum, "first": np.minimum}[kind]
    if kind == "min" and accumulator.dtype is not np.float64:
        operation = np.minimum
    if where is None:
        operation(target, source, out=target)
    else:
        target[where] = operation(target[where], source[: len(where)])


# --- results ---------------------------------------------------------------------------------------------------------


def wide_objects(array: np.ndarray, pick: np.ndarray) -> np.ndarray:
    """128-bit sums as Python integers."""
    pairs = array[: len(array) // 2 * 2].reshape(-1, 2)[pick]
    low, high = pairs[:, 0].view(np.uint64).astype(object), pairs[:, 1].astype(object)
    return high * (1 << 64) + low


def exact_column(type_: SqlType, values: Any, flags: np.ndarray | None = None) -> ColumnData:
    """A column of exact values (int64 or Python integers), narrow, checked against its type."""
    count = len(values)
    if flags is not None and not flags.all():
        values = np.where(flags, values, 0)
        validity, nulls = pack_validity(flags.astype(np.uint8), count)
        seen = values[flags]
    else:
        validity, nulls, seen = None, 0, values
    low = int(seen.min()) if len(seen) else 0
    high = int(seen.max()) if len(seen) else 0
    least, most = type_.limits
    if low < least or high > most:
        raise OutOfRangeError(f"Overflow: a result of {high if high > most else low} does not fit {type_}")
    stats = Stats(low=low if len(seen) else None, high=high if len(seen) else None, nulls=nulls)
    floor = min(low, 0) if validity is not None else low
    base = 0 if floor >= 0 and high < 2**32 else floor
    if high - base < 2**32 and base >= I64_LOW and high <= I64_HIGH:
        dtype = np.uint8 if high - base < 256 else np.uint16 if high - base < 65536 else np.uint32
        data = padded(count, dtype)
        if base and validity is not None:
            values = np.where(np.asarray(flags), values, base)
        data[:] = (values - base) if base else values
        return ColumnData(type_, "uint", count, data, base, validity=validity, stats=stats)
    if low >= I64_LOW and high <= I64_HIGH:
        data = padded(count, np.int64)
        data[:] = values
        return ColumnData(type_, "int64", count, data, validity=validity, stats=stats)
    words = padded(2 * count, np.uint64)
    mask = (1 << 64) - 1
    for i, number in enumerate(values.tolist()):
        words[2 * i], words[2 * i + 1] = number & mask, (number >> 64) & mask
    return ColumnData(type_, "int128", count, words, validity=validity, stats=stats)


def narrowed(type_: SqlType, values: np.ndarray, low: int, high: int, flags: np.ndarray | None) -> ColumnData:
    """A column of int64 values whose bounds (of the valid ones) are known; NULL rows hold 0."""
    count = len(values)
    if low > high:
        low = high = 0
    least, most = type_.limits
    if low < least or high > most:
        raise OutOfRangeError(f"Overflow: a result of {high if high > most else low} does not fit {type_}")
    validity, nulls = (None, 0) if flags is None else pack_validity(flags.astype(np.uint8), count)
    stats = Stats(low=low, high=high, nulls=nulls)
    floor = min(low, 0) if validity is not None else low
    base = 0 if floor >= 0 and high < 2**32 else floor
    if high - base >= 2**32:
        return ColumnData(type_, "int64", count, values, validity=validity, stats=stats)
    item = "u8" if high - base < 256 else "u16" if high - base < 65536 else "u32"
    data = padded(count, {"u8": np.uint8, "u16": np.uint16, "u32": np.uint32}[item], zero=False)
    where, cursor = np.array([data.ctypes.data, 0], dtype=np.int64), np.zeros(1, dtype=np.int64)
    words = (values.ctypes.data, base, where.ctypes.data, cursor.ctypes.data)
    native.run(f"store_narrow_{item}", *words, k=count)
    if base and flags is not None:
        data[~flags] = 0
    return ColumnData(type_, "uint", count, data, base, validity=validity, stats=stats)


def float_column(type_: SqlType, values: np.ndarray, flags: np.ndarray) -> ColumnData:
    """A column of doubles or floats."""
    count = len(values)
    data = padded(count, np.float32 if type_.name == "FLOAT" else np.float64)
    data[:] = np.where(flags, values, 0.0)
    validity, nulls = (None, 0) if flags.all() else pack_validity(flags.astype(np.uint8), count)
    kind = "float32" if type_.name == "FLOAT" else "float64"
    return ColumnData(type_, kind, count, data, validity=validity, stats=Stats(nulls=nulls))


def code_column(type_: SqlType, codes: np.ndarray, dictionary: Dictionary, flags: np.ndarray | None) -> ColumnData:
    """A column of dictionary codes."""
    size = len(dictionary)
    dtype = np.uint8 if size <= 256 else np.uint16 if size <= 65536 else np.uint32
    data = padded(len(codes), dtype)
    data[:] = codes
    validity, nulls = (None, 0) if flags is None else pack_validity(flags.astype(np.uint8), len(codes))
    stats = Stats(nulls=nulls, ascii=dictionary.ascii)
    return ColumnData(type_, "dict", len(codes), data, validity=validity, dictionary=dictionary, stats=stats)


__all__ = ["AggregateSink", "Call", "NeedsNumbers", "as_wide", "code_column", "exact_column", "float_column"]
