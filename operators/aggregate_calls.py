"""The calls of an aggregation: instructions that accumulate, and columns of results."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from finequery.errors import NotSupportedError, OutOfRangeError
from finequery.operators import exact_sums
from finequery.operators.accumulators import Accumulators
from finequery.operators.build import padded
from finequery.operators.column import ColumnData
from finequery.operators.expr import Column
from finequery.operators.group_keys import NeedsNumbers
from finequery.operators.lower import I64_HIGH, I64_LOW, Coded, Lower, Stored, Value, bounds_of, stored_item
from finequery.operators.lower_expr import as_f64, as_i64, is_true, value
from finequery.operators.pool import Pool
from finequery.operators.program import Out, Reg
from finequery.operators.result_columns import (
    code_column,
    decoded,
    exact_column,
    float_column,
    wide_objects,
)
from finequery.operators.row_tables import RowTables
from finequery.operators.scalar import EXACT_WORDS
from finequery.operators.take import take
from finequery.types import SqlType

#: Makes a call's column: of the picked groups (None: all of them, in order).
Final = Callable[["np.ndarray | None", Pool], ColumnData]


MOMENTS = ("stddev_samp", "stddev_pop", "var_samp", "var_pop")
#: What these are made of besides the count, for groups of which each batch of rows gives a part (partial_groups.py).
MEAN, SQUARES = "moments_mean", "moments_squares"


@dataclass(slots=True, eq=False)
class Call:
    """One aggregate: output column, function, argument column, filter column. ``exact``: doubles are added up without
    rounding (exact_sums)."""

    output: Column
    name: str
    argument: Column | None
    filter: Column | None
    exact: bool = False


def adds_floats(name: str, argument: Column | None) -> bool:
    """Whether an aggregate adds up floating-point values, so that its last bits depend on the order."""
    return name in MOMENTS or (name in ("sum", "avg") and argument is not None and argument.type.is_float)


class CallLowering:
    """Lowers the calls of one aggregation into a program.

    ``groups``: how groups are told apart; ``few``: the group number as a byte, for masked sums over ``domain`` groups;
    ``rows``: most rows there can be."""

    def __init__(self, lower: Lower, accumulators: Accumulators, groups: Any, few: Reg | None, domain: int, rows: int):
        self.lower = lower
        self.accumulators = accumulators
        self.groups = groups
        self.few = few
        self.domain = domain
        self.rows = rows

    @property
    def group(self) -> Reg | None:
        number: Reg | None = self.groups.number
        return number

    def lower_call(self, call: Call) -> Final:
        """Emit a call's instructions; gives what makes its column."""
        lower, name, type_ = self.lower, call.name, call.output.type
        keep = None if call.filter is None else is_true(lower, call.filter)
        if name == "count_star":
            number = self.count(keep)
            return lambda pick, pool: self._exact(type_, number, None, pick, pool)
        assert call.argument is not None
        stored = lower.stored(call.argument)
        if name in ("first", "any_value"):
            found = lower.resolve(call.argument)
            return self._first(call, found.rows if isinstance(found, Coded) else stored, keep)
        if name == "count":
            valid = lower.validity(stored) if stored is not None else value(lower, call.argument).valid
            number = self.count(lower.both_valid(valid, keep))
            return lambda pick, pool: self._exact(type_, number, None, pick, pool)
        if name in ("sum", "avg") and stored is not None and stored.data.kind in ("uint", "int64"):
            final = self._stored_sum(call, stored, keep)
            if final is not None:
                return final
        v = value(lower, call.argument)
        valid = lower.both_valid(v.valid, keep)
        if name in ("sum", "avg"):
            return self._sum(call, v, valid)
        if name in ("min", "max", "bool_and", "bool_or"):
            return self._extreme(call, v, valid)
        if name in (*MOMENTS, MEAN, SQUARES):
            return self._moments(call, v, valid)
        raise NotSupportedError(f"aggregate {name}()")

    # --- counts ------------------------------------------------------------------------------------------------------

    def count(self, valid: Reg | None) -> int:
        """The accumulator that counts rows (those that are ``valid``)."""
        number, where, new = self.accumulators.add(("count", valid), "sum", np.int64)
        emit = self.lower.emit
        if not new:
            return number
        if valid is None and isinstance(self.groups, RowTables):
            if not self.groups.find_and_add("count", 0, 0, self.accumulators.items[number].place):
                emit("count", self.group, where, pure=False)
        elif valid is None:
            if self.group is None:
                emit("total_count", where, pure=False)
            elif self.few is not None:
                emit("few_count", self.few, self.domain, where, pure=False)
            else:
                emit("count", self.group, where, pure=False)
        elif self.group is None:
            emit("total_count_valid", valid, where, pure=False)
        else:
            emit("count_valid", self.group, valid, where, pure=False)
        return number

    def _counts(self, valid: Reg | None, needed: bool = False) -> int | None:
        """The counts that tell which results are NULL; None where every group has a row that counts."""
        if valid is None and not needed and self.groups.all_occur:
            return None
        return self.count(valid)

    def _merged(self, number: int, pick: np.ndarray | None) -> np.ndarray:
        """The picked groups' entries of an accumulator; a row for each if a group has several."""
        item = self.accumulators.items[number]
        assert item.merged is not None
        found = item.merged
        if item.words > 1:
            found = found[: len(found) // item.words * item.words].reshape(-1, item.words)
        return found if pick is None else found[pick]

    def _flags(self, counts: int | None, pick: np.ndarray | None, rows: int) -> np.ndarray:
        """Which results are not NULL."""
        return np.ones(rows, dtype=bool) if counts is None else self._merged(counts, pick) > 0

    def _exact(
        self,
        type_: SqlType,
        number: int,
        counts: int | None,
        pick: np.ndarray | None,
        pool: Pool,
        base: int = 0,
        scale: int = 1,
    ) -> ColumnData:
        """A column of int64 accumulators, NULL where the count is 0."""
        sums = self.accumulators.items[number].merged
        weights = None if counts is None else self.accumulators.items[counts].merged
        assert sums is not None
        return decoded(type_, sums, pick, weights, base, scale, pool)

    # --- sums --------------------------------------------------------------------------------------------------------

    def _stored_sum(self, call: Call, stored: Stored, keep: Reg | None) -> Final | None:
        """Sums of stored values, decoded at the end: sum = base * count + scale * sum of stored. None where they may
        pass 64 bits."""
        lower, data, type_ = self.lower, stored.data, call.output.type
        low, high = bounds_of(data)
        most = max(abs((low - data.base) // data.scale), abs((high - data.base) // data.scale), 1)
        if most * max(self.rows, 1) > I64_HIGH:
            return None
        valid = lower.both_valid(lower.validity(stored), keep)
        counts = self._counts(valid, data.base != 0 or call.name == "avg")
        number, where, new = self.accumulators.add(("sum", id(stored), valid), "sum", np.int64)
        if new:
            self._add_stored(number, where, stored, valid)
        base, scale = data.base, data.scale
        if call.name == "sum" and abs(base) + scale * most < 2**62 // max(self.rows, 1):
            return lambda pick, pool: self._exact(type_, number, counts, pick, pool, base, scale)

        def final(pick: np.ndarray | None, _: Pool) -> ColumnData:
            total = self._merged(number, pick)
            n = np.ones(len(total), dtype=np.int64) if counts is None else self._merged(counts, pick)
            if int(n.max(initial=0)) * (abs(base) + scale * most) < I64_HIGH:
                return finish_sum(call, n * base + total * scale if base else total * scale, n)
            return finish_sum(call, n.astype(object) * base + total.astype(object) * scale, n)

        return final

    def _add_stored(self, number: int, where: Any, stored: Stored, valid: Reg | None) -> None:
        """Add up the stored values of a column."""
        lower = self.lower
        source: Any
        source, stride = lower.source(stored)
        index, item = lower.index(stored.rows), stored_item(stored.data)
        whole = index is None and valid is None
        if whole and isinstance(self.groups, RowTables):
            if self.groups.find_and_add(item, source, stride, self.accumulators.items[number].place):
                return
        elif self.few is not None and valid is None:
            if index is not None:
                gathered = Reg(stored.data.width)
                lower.emit(f"gather_{stored.data.width}", source, stride, index, Out(gathered))
                source, stride = gathered, 0
            lower.emit(f"few_sum_{item}", self.few, source, stride, self.domain, where, pure=False)
            return
        words = (source, stride, index if index is not None else 0, valid if valid is not None else 0, where)
        if self.group is None:
            lower.emit(f"total_sum_{item}", *words, pure=False)
        else:
            lower.emit(f"sum_{item}", self.group, *words, pure=False)

    def _sum(self, call: Call, v: Value, valid: Reg | None) -> Final:
        """Sums of computed values: doubles, int64 if no sum can pass it, else 128 bits."""
        lower, type_ = self.lower, call.output.type
        counts = self._counts(valid, call.name == "avg")
        if v.kind == "f64" and call.exact:
            number = self._add_exact("sum_exact", v.reg, valid)
            return lambda pick, _: self._finish(call, exact_sums.rounded(self._merged(number, pick)), counts, pick)
        if v.kind == "f64":
            number = self._add_value("f64", v.reg, valid)
            return lambda pick, _: self._finish(call, self._merged(number, pick), counts, pick)
        if v.kind in ("u8", "u32"):
            v = as_i64(lower, v)
        if v.kind == "i64" and max(abs(v.low), abs(v.high), 1) * max(self.rows, 1) <= I64_HIGH:
            number = self._add_value("i64", v.reg, valid)
            if call.name == "sum":
                return lambda pick, pool: self._exact(type_, number, counts, pick, pool)
            return lambda pick, _: self._finish(call, self._merged(number, pick), counts, pick)
        number, where, new = self.accumulators.add(("wide", v.reg, valid), "wide_sum", np.int64, 0, 2)
        if new:
            name = "sum_w_i64" if v.kind == "i64" else "sum_w"
            self._emit_grouped(name, v.reg, valid, where, number)
        return lambda pick, _: self._finish(call, wide_objects(self._merged(number, pick)), counts, pick)

    def _add_value(self, item: str, reg: Reg, valid: Reg | None) -> int:
        """Add up a vector of doubles or int64."""
        dtype, start = (np.float64, 0.0) if item == "f64" else (np.int64, 0)
        number, where, new = self.accumulators.add(("sum", reg, valid), "sum", dtype, start)
        if new:
            words = (reg, 0, 0, valid if valid is not None else 0, where)
            if item == "i64" and self.few is not None and valid is None:
                self.lower.emit("few_sum_i64", self.few, reg, 0, self.domain, where, pure=False)
            elif self.group is None:
                self.lower.emit(f"total_sum_{item}", *words, pure=False)
            else:
                self.lower.emit(f"sum_{item}", self.group, *words, pure=False)
        return number

    def _add_exact(self, name: str, reg: Reg, valid: Reg | None) -> int:
        """Add up doubles, or their squares, without rounding."""
        number, where, new = self.accumulators.add((name, reg, valid), "exact", np.int64, 0, EXACT_WORDS)
        if new:
            self._emit_grouped(name, reg, valid, where, number)
        return number

    def _emit_grouped(self, name: str, reg: Reg, valid: Reg | None, where: Any, number: int) -> None:
        """An accumulation for one group or many, whose numbers count steps of the accumulator."""
        group: Any = self.group if self.group is not None else 0
        ok: Any = valid if valid is not None else 0
        self.lower.emit(name, group, reg, ok, where, self.accumulators.step(number), pure=False)

    def _finish(self, call: Call, totals: Any, counts: int | None, pick: np.ndarray | None) -> ColumnData:
        if counts is None:
            return finish_sum(call, totals, np.ones(len(totals), dtype=np.int64))
        return finish_sum(call, totals, self._merged(counts, pick))

    # --- others ------------------------------------------------------------------------------------------------------

    def _extreme(self, call: Call, v: Value, valid: Reg | None) -> Final:
        lower, type_ = self.lower, call.output.type
        least = call.name in ("min", "bool_and")
        name = "min" if least else "max"
        if type_.name == "INTERVAL":
            raise NotSupportedError(f"{call.name} of an INTERVAL is not supported.", hint="Aggregate numbers of days.")
        if v.kind == "s":
            raise NeedsNumbers
        counts = self._counts(valid)
        if v.kind == "u8":
            v = as_i64(lower, v)
        choices: dict[str, tuple[str, Any, Any, int]] = {
            "i64": (name, np.int64, I64_HIGH if least else I64_LOW, 1),
            "u32": (name, np.uint32, 0xFFFFFFFF if least else 0, 1),
            "f64": (name, np.float64, np.nan if least else -np.inf, 1),
            "w": (f"wide_{name}", np.int64, (-1, I64_HIGH) if least else (0, I64_LOW), 2),
        }
        number, where, new = self.accumulators.add((call.name, v.reg, valid), *choices[v.kind])
        if new:
            self._emit_grouped(f"group_{name}_{v.kind}", v.reg, valid, where, number)
        dictionary, kind = v.dictionary, v.kind

        def final(pick: np.ndarray | None, pool: Pool) -> ColumnData:
            if kind == "i64":
                return self._exact(type_, number, counts, pick, pool)
            found = self._merged(number, pick)
            flags = self._flags(counts, pick, len(found))
            if dictionary is not None:
                return code_column(type_, np.where(flags, found, 0), dictionary, flags)
            if kind == "f64":
                return float_column(type_, np.where(flags, found, 0.0), flags)
            return exact_column(type_, wide_objects(found) if kind == "w" else found.astype(np.int64), flags)

        return final

    def _moments(self, call: Call, v: Value, valid: Reg | None) -> Final:
        v = as_f64(self.lower, v)
        less = _less(call)
        if call.exact:
            counts, sums = self.count(valid), self._add_exact("sum_exact", v.reg, valid)
            number = self._add_exact("sum_exact_squares", v.reg, valid)
        else:
            number, where, new = self.accumulators.add(("moments", v.reg, valid), "moments", np.float64, 0.0, 3)
            if new:
                self._emit_grouped("moments", v.reg, valid, where, number)

        def final(pick: np.ndarray | None, _: Pool) -> ColumnData:
            parts = self._merged(number, pick)
            if call.name in (MEAN, SQUARES):
                values = parts[:, 1 if call.name == MEAN else 2]
                return float_column(call.output.type, values, np.ones(len(values), dtype=bool))
            if not call.exact:
                return finish_moments(call, parts[:, 0], parts[:, 2])
            n = self._merged(counts, pick)
            return _finish_variance(call, exact_sums.variances(self._merged(sums, pick), parts, n, less), n > less)

        return final

    def _first(self, call: Call, stored: Stored | None, keep: Reg | None) -> Final:
        lower = self.lower
        if stored is None or (stored.rows is not None and stored.rows.matched is not None):
            raise NeedsNumbers
        valid = lower.both_valid(lower.validity(stored) if call.name == "any_value" else None, keep)
        key = ("first", id(stored.rows), valid)
        number, where, new = self.accumulators.add(key, "first", np.uint32, 0xFFFFFFFF)
        if new:
            if stored.rows is None:
                rows = Reg(4)
                index = lower.rows()
                lower.emit("row_numbers", Out(rows), index if index is not None else 0)
            else:
                rows = lower.row_numbers(stored.rows)
            self._emit_grouped("first_row", rows, valid, where, number)

        def final(pick: np.ndarray | None, pool: Pool) -> ColumnData:
            found = self._merged(number, pick)
            rows = padded(len(found), np.uint32)
            rows[:] = found
            data = stored.fetch() if stored.fetch is not None else stored.data
            return take(data, rows, pool, missing=True)

        return final


def finish_sum(call: Call, totals: Any, counts: np.ndarray) -> ColumnData:
    """Sums or means of decoded sums."""
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


def finish_moments(call: Call, counts: np.ndarray, squares: np.ndarray) -> ColumnData:
    """Variances or deviations of sums of squared distances from the mean."""
    less = _less(call)
    with np.errstate(all="ignore"):
        variance = squares / np.maximum(counts - less, 1)
    return _finish_variance(call, variance, counts > less)


def _less(call: Call) -> int:
    return 1 if call.name.endswith("samp") else 0


def _finish_variance(call: Call, variance: np.ndarray, flags: np.ndarray) -> ColumnData:
    if np.isinf(variance[flags]).any() or np.isnan(variance[flags]).any():
        raise OutOfRangeError(f"{call.name.split('_')[0].upper()} is out of range")
    return float_column(call.output.type, np.sqrt(variance) if "stddev" in call.name else variance, flags)
