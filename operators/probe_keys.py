"""The keys of a join's probe side, in a form that compares with the build side's: a stored column, or a register."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from finequery.operators.build import KeyPart, Lookup
from finequery.operators.column import ColumnData, Dictionary
from finequery.operators.expr import Expr
from finequery.operators.join_keys import Interned, intern
from finequery.operators.lower import Lower, Rows, Value, bounds_of, stored_item
from finequery.operators.lower_expr import as_f64, as_i64, as_views, as_wide, value
from finequery.operators.pool import get_pool
from finequery.operators.probe import Probe
from finequery.operators.program import Out, Reg, Symbol


@dataclass(slots=True)
class Key:
    """The probe key as a source of 64-bit look-ups: a stored column, or a register of the current space."""

    item: str
    base: Any
    stride: int
    index: Reg | None
    shift: int
    valid: Reg | None
    low: int
    high: int
    register: Reg | None = None
    rows: Rows | None = None  # where the index comes from, if not from the tile's rows
    present: Reg | None = None  # of a register: the rows whose key is not NULL


def symbol_of(probe: Probe, name: str) -> Symbol:
    return Symbol(lambda thread: getattr(probe.current(), name))


def probe_key(lower: Lower, probe: Probe) -> Key:
    lookup = probe.current()
    if len(probe.keys) == 1 and not probe.null_safe and lookup.parts[0].interned is None:
        expr = lower.fold(probe.keys[0][0])
        stored = lower.stored(expr)
        part = lookup.parts[0]
        if stored is not None and stored.data.scale == 1 and stored.data.kind in ("uint", "int64", "dict"):
            data = stored.data
            if data.kind != "dict" or data.dictionary is part.dictionary:
                low, high = (0, len(data.dictionary or ()) - 1) if data.kind == "dict" else bounds_of(data)
                base, stride = lower.source(stored)
                index, shift = lower.index(stored.rows), lookup.low - data.base
                valid = lower.validity(stored)
                return Key(stored_item(data), base, stride, index, shift, valid, low, high, rows=stored.rows)
        v, inside = digit(lower, expr, part)
        able = lower.both_valid(v.valid, inside)
        return Key("i64", v.reg, 0, None, lookup.low, able, v.low, v.high, register=v.reg, present=v.valid)
    packed: Reg | None = None
    present: Reg | None = None
    within: list[Reg | None] = []
    one = lower.program.constant("u8", 1)
    for number, ((left, _), part) in enumerate(zip(probe.keys, lookup.parts)):
        v, inside = digit(lower, lower.fold(left), part, lambda n=number: probe.current().parts[n].interned)  # type: ignore[misc]
        within.append(
            inside if v.valid is None or not probe.null_safe or inside is None else _or_null(lower, inside, v.valid)
        )
        if part.before is not None:
            assert packed is not None
            fetch = lambda n=number: probe.current().parts[n].before  # noqa: E731
            together = find_interned(lower, Value("i64", packed), part.before, fetch)
            packed, after = Reg(8), Reg(1)
            lower.emit("copy_1", one, 0, Out(after))
            words = (0, together.reg, 0, part.before.count, 1, after, 0, 0, Out(packed))
            lower.emit("pack_keys", *words, pure=False)
            within.append(after)
        out = Reg(8)
        after = Reg(1)
        lower.emit("copy_1", one, 0, Out(after))
        flags = v.valid if probe.null_safe and v.valid is not None else 0
        lower.emit(
            *("pack_keys", packed if packed is not None else 0, v.reg, part.low, part.span, part.factor, after),
            *(1 if probe.null_safe else 0, flags, Out(out)),
            pure=False,
        )
        packed = out
        within.append(after)
        if not probe.null_safe:
            present = lower.both_valid(present, v.valid)
    assert packed is not None
    matchable = lower.both_valid(present, *within)
    return Key("i64", packed, 0, None, lookup.low, matchable, -(2**63), 2**63 - 1, register=packed, present=present)


def _or_null(lower: Lower, inside: Reg, valid: Reg) -> Reg:
    out = Reg(1)
    lower.emit("or_u8", inside, 0, lower.negate(valid), 0, Out(out))
    return out


def digit(
    lower: Lower, expr: Expr, part: KeyPart, fetch: Callable[[], Interned] | None = None
) -> tuple[Value, Reg | None]:
    """One key part of the probe as int64, comparable with the build side's: values, codes of its dictionary, numbers;
    and which rows can be equal to any key at all (None: all). ``fetch`` gives the part's numbers of the current run."""
    v = value(lower, expr)
    if part.interned is not None:
        if v.kind == "f64":
            reg = Reg(8)
            lower.emit("normal_f64", v.reg, 0, Out(reg))
            v = Value("i64", reg, v.valid)
        return find_interned(lower, v, part.interned, fetch), None
    if v.kind == "u32" and v.dictionary is part.dictionary:
        return as_i64(lower, v), None
    if part.dictionary is not None:
        return _foreign_codes(lower, v, part.dictionary), None
    if v.kind == "f64":
        reg = Reg(8)
        lower.emit("normal_f64", as_f64(lower, v).reg, 0, Out(reg))
        return Value("i64", reg, v.valid), None
    if v.kind == "w":
        low, sign, ok = Reg(8), Reg(16), Reg(1)
        lower.emit("low_of_w", v.reg, 0, Out(low))
        lower.emit("w_of_i64", low, 0, Out(sign))
        lower.emit("eq_w", sign, 0, v.reg, 0, Out(ok))
        return Value("i64", low, v.valid), ok
    return as_i64(lower, v), None


def find_interned(lower: Lower, v: Value, interned: Interned, fetch: Callable[[], Interned] | None = None) -> Value:
    """Numbers of strings or numbers among the build side's distinct ones (-1: not there)."""
    bytes_: list[Reg] = []  # what the views point into has to live as long as they are read
    if v.kind in ("w", "i64", "u8"):
        wide, views = as_wide(lower, v), Reg(16)
        lower.emit("views_of_w", wide.reg, Out(views))
        v, bytes_ = Value("s", views, v.valid), [wide.reg]
    strings, out = as_views(lower, v), Reg(8)
    if fetch is None:
        lower.kept.append(interned)
        offsets, chars, table, firsts = (
            lower.symbol(a) for a in (interned.offsets, interned.chars, interned.table, interned.firsts)
        )
    else:
        offsets, chars, table, firsts = (
            Symbol(lambda thread, n=n: getattr(fetch(), n)) for n in ("offsets", "chars", "table", "firsts")
        )
    lower.emit("find_interned", strings.reg, offsets, chars, table, interned.mask, firsts, Out(out), *bytes_)
    return Value("i64", out, v.valid, -1, interned.count)


def _foreign_codes(lower: Lower, v: Value, dictionary: Dictionary) -> Value:
    """Strings as codes of another dictionary (-1: not in it)."""
    if v.kind == "u32":
        assert v.dictionary is not None
        codes = {s: i for i, s in enumerate(dictionary.strings())}
        table = np.array([codes.get(s, -1) for s in v.dictionary.strings()] + [-1] * 8, dtype=np.int64)
        lower.kept.append(table)
        out = Reg(8)
        lower.emit("gather_8", lower.symbol(table), 0, v.reg, Out(out))
        return Value("i64", out, v.valid, -1, len(dictionary))
    key = ("interned",)
    found = dictionary._cache.get(key)
    if found is None:
        from finequery.types import VARCHAR

        column = ColumnData(VARCHAR, "string", len(dictionary), dictionary.offsets, chars=dictionary.chars)
        found = dictionary._cache[key] = intern(column, get_pool())[0]
    assert isinstance(found, Interned)
    return find_interned(lower, v, found)


def present_of(key: Key) -> Reg | None:
    """The rows whose key is not NULL; ``key.valid`` leaves out those as well that can't have a partner."""
    return key.present if key.register is not None else key.valid


def again(lower: Lower, probe: Probe, key: Key) -> Key:
    """The same key in the space just entered."""
    if key.register is not None:
        moved = lower.carry(key.register, lower.spaces[lower.space].parent)
        return Key("i64", moved, 0, None, key.shift, None, key.low, key.high, register=moved)
    stored = lower.stored(lower.fold(probe.keys[0][0]))
    assert stored is not None
    index = lower.index(stored.rows)
    return Key(key.item, key.base, key.stride, index, key.shift, None, key.low, key.high, rows=stored.rows)


def register_of(lower: Lower, key: Key, lookup: Lookup) -> tuple[Any, int]:
    """The key's 64-bit physical values as operand and stride: the column itself where it holds them."""
    if key.register is not None:
        return key.register, 0
    out, base = Reg(8), lookup.low - key.shift
    if key.index is None:
        if key.item == "i64" and base == 0:
            return key.base, key.stride
        lower.emit(f"widen_{key.item}", key.base, key.stride, base, 1, Out(out))
    else:
        lower.emit(f"gather_widen_{key.item}", key.base, key.stride, key.index, base, 1, Out(out))
    return out, 0
