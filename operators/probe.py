"""Probe: the left side of a join looks its rows up in a built side, inside its pipeline.

Inner and semi joins on a stored column select directly: one look-up and a branch-free append per row, the build side's
columns being fetched where somebody reads them, for the rows that are left then. Other kinds compute row numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from finequery.operators import native
from finequery.operators.build import KeyPart, Lookup, build_lookup, number_keys, padded
from finequery.operators.column import ColumnData, Dictionary, Frame
from finequery.operators.expr import Column, Expr, Literal
from finequery.operators.filter import lower_filter
from finequery.operators.lower import NONE, Coded, Computed, Lower, Rows, Stored, Value, bounds_of, stored_item
from finequery.operators.lower_expr import as_f64, as_i64, as_views, as_wide, value
from finequery.operators.pool import Pool
from finequery.operators.program import Optional, Out, Reg, Symbol
from finequery.types import BIGINT, BOOLEAN

MOST_PACKED = 2**62
#: Largest table of a payload by key: it should stay in the second-level cache.
PAYLOAD_BYTES = 1 << 19


@dataclass(eq=False)
class Interned:
    """Distinct byte strings of a build side, numbered: what a probe needs to number its own."""

    offsets: np.ndarray
    chars: np.ndarray
    table: np.ndarray
    mask: int
    firsts: np.ndarray
    count: int


@dataclass(eq=False)
class Probe:
    """One probe step of a pipeline: the logical join's kind, keys and columns, and the look-up of the current run."""

    kind: str
    build: Any  # the operator that produces the right side
    keys: tuple[tuple[Expr, Expr], ...]
    payload: tuple[Column, ...]  # right columns that are read above
    condition: Expr | None = None
    null_safe: bool = False
    null_aware: bool = False
    mark: Column | None = None
    estimate: float | None = None
    lookup: Lookup | None = None
    built: tuple[str, str, int] | None = None  # kind, reason and bytes of the last run's look-up
    track: Symbol | None = None  # full joins: a byte per build row that found a partner

    @property
    def need_rows(self) -> bool:
        return self.kind not in ("semi", "anti", "mark")

    def prepare(
        self, frame: Frame, evaluate: Callable[[list[Expr], Frame], list[ColumnData]], pool: Pool, probes: int
    ) -> None:
        """Build the look-up from the right side's rows, for at most ``probes`` probing rows."""
        columns = evaluate([right for _, right in self.keys], frame) if self.keys else []
        self.lookup = make_lookup(frame, columns, self.null_safe, self.need_rows, pool, probes)
        if self.kind == "inner" and self.lookup.kind == "rows" and _as_stored(columns, self.null_safe):
            self._add_payloads(self.lookup, columns[0], probes)
        self.built = self.lookup.kind, self.lookup.reason, self.lookup.nbytes

    def _add_payloads(self, lookup: Lookup, keys: ColumnData, probes: int) -> None:
        """Narrow columns of the build side by key, so that one look-up gives the value."""
        if lookup.span * 4 > probes or keys.validity is not None:
            return
        for column in self.payload:
            data = lookup.frame.columns[column.id]
            if data.kind not in ("uint", "dict") or data.validity is not None or data.data.itemsize > 2:
                continue
            if lookup.span * data.data.itemsize <= PAYLOAD_BYTES:
                table = padded(lookup.span + 1, data.data.dtype)
                table[keys.data[: keys.length].astype(np.int64) - (lookup.low - keys.base)] = data.data[: data.length]
                lookup.payloads[column.id] = table

    @property
    def signature(self) -> tuple[Any, ...]:
        assert self.lookup is not None
        columns = tuple(
            column_signature(self.lookup.frame.columns[c.id]) for c in self.payload if c.id in self.lookup.frame.columns
        )
        return self.lookup.signature + columns

    def current(self) -> Lookup:
        assert self.lookup is not None
        return self.lookup


def column_signature(data: ColumnData) -> tuple[Any, ...]:
    """All of a column that a program compiled over it depends on, addresses apart."""
    return (
        *(data.type, data.kind, data.data.itemsize, data.base, data.scale, data.validity is None),
        *(data.dictionary, data.stats.low, data.stats.high, data.stats.ascii, data.stats.sorted),
        *(data.stats.code_low, data.stats.code_high),
    )


def make_lookup(
    frame: Frame, columns: list[ColumnData], null_safe: bool, need_rows: bool, pool: Pool, probes: int
) -> Lookup:
    """A look-up over key columns (none: every row matches every row)."""
    if not columns:
        lookup = Lookup("groups", frame, frame.length, [], 0, 1, unique=frame.length <= 1, reason="no keys: all pairs")
        lookup.starts = np.array([0, frame.length, frame.length, 0, 0], dtype=np.uint32)
        lookup.most = max(frame.length, 1)
        lookup.listed = None
        return lookup
    has_null = any(c.validity is not None and _nulls(c) > 0 for c in columns)
    if _as_stored(columns, null_safe):
        column = columns[0]
        part = KeyPart(0, 0, dictionary=column.dictionary)
        return build_lookup(frame, column, [part], None, need_rows, pool, has_null, probes)
    keys, parts, rows = pack(columns, null_safe, pool)
    return build_lookup(frame, keys, parts, rows, need_rows, pool, has_null, probes)


def _as_stored(columns: list[ColumnData], null_safe: bool) -> bool:
    """Whether the keys are one column whose stored values, moved by its base, are the look-up's keys."""
    return (
        len(columns) == 1 and not null_safe and columns[0].kind in ("uint", "int64", "dict") and columns[0].scale == 1
    )


def _nulls(column: ColumnData) -> int:
    if column.validity is None:
        return 0
    return column.length - int(np.unpackbits(column.validity.view(np.uint8), bitorder="little")[: column.length].sum())


def valid_flags(column: ColumnData) -> np.ndarray | None:
    """Validity as booleans (None: all valid)."""
    if column.validity is None:
        return None
    return np.unpackbits(column.validity.view(np.uint8), bitorder="little")[: column.length].astype(bool)


def pack(columns: list[ColumnData], null_safe: bool, pool: Pool) -> tuple[ColumnData, list[KeyPart], np.ndarray | None]:
    """Several key columns as one int64 column; positions kept where rows with NULL were dropped."""
    count = columns[0].length
    packed = padded(count, np.int64)
    parts: list[KeyPart] = []
    factor = 1
    keep: np.ndarray | None = None
    null = 1 if null_safe else 0
    for column in columns:
        alone = len(columns) == 1 and not null_safe
        digits, part = _digits(column, alone)
        if not alone and factor * (part.span + null) > MOST_PACKED and part.span > max(count, 1):
            digits, part = _numbers(digits if part.span > MOST_PACKED else digits + part.low)
        if factor * (part.span + null) > MOST_PACKED:
            numbered, before = _numbers(packed)
            packed[:], factor, part.before = numbered, before.span, before.interned
        flags = valid_flags(column)
        if null_safe:
            digits = digits + 1
            if flags is not None:
                digits[~flags] = 0
        elif flags is not None:
            keep = flags if keep is None else keep & flags
        part.factor = factor
        parts.append(part)
        if alone:
            packed[:] = digits
        else:
            packed += digits * np.int64(factor)
        factor *= part.span + null
    rows: np.ndarray | None = None
    if keep is not None and not keep.all():
        rows = np.flatnonzero(keep).astype(np.uint32)
        kept = padded(len(rows), np.int64, zero=False)
        kept[:] = packed[:count][keep]
        packed = kept
    data = ColumnData(columns[0].type, "int64", len(packed) if rows is not None else count, packed)
    return data, parts, rows


def _digits(column: ColumnData, single: bool) -> tuple[np.ndarray, KeyPart]:
    """A key column as int64 digits from 0, and how a probe makes its own."""
    count = column.length
    if column.kind == "dict":
        assert column.dictionary is not None
        return column.data[:count].astype(np.int64), KeyPart(
            0, max(len(column.dictionary), 1), dictionary=column.dictionary
        )
    if column.kind in ("uint", "int64"):
        stored = column.data[:count]
        flags = valid_flags(column)
        seen = stored if flags is None else stored[flags]
        if len(seen) == 0:
            return np.zeros(count, dtype=np.int64), KeyPart(0, 1)
        low = column.base + column.scale * int(seen.min())
        high = column.base + column.scale * int(seen.max())
        values = stored.astype(np.int64)
        if column.scale != 1:
            values *= column.scale
        if single:
            values += column.base
            return values, KeyPart(0, 0)
        span = high - low + 1
        values += column.base - (low if span <= MOST_PACKED else 0)
        return values, KeyPart(low, span)
    if column.kind in ("float32", "float64"):
        doubles = column.data[:count].astype(np.float64) + 0.0
        doubles[np.isnan(doubles)] = np.nan
        bits = doubles.view(np.int64)
        if single:
            return bits, KeyPart(0, 0)
        low, high = int(bits.min(initial=0)), int(bits.max(initial=0))
        span = high - low + 1
        return bits - low if span <= MOST_PACKED else bits, KeyPart(low, span)
    if column.kind == "interval":
        from finequery.errors import NotSupportedError

        raise NotSupportedError("A join on an INTERVAL is not supported.", hint="Compare dates, or numbers of days.")
    interned, numbers = intern(column)
    return numbers.astype(np.int64), KeyPart(0, max(interned.count, 1), interned=interned)


def _numbers(values: np.ndarray) -> tuple[np.ndarray, KeyPart]:
    """Digits for values of any range: the numbers of the distinct ones."""
    count = len(values)
    words = padded(2 * count, np.uint64)
    words[::2], words[1::2] = values.view(np.uint64), (values >> 63).view(np.uint64)
    interned, numbers = intern(ColumnData(BIGINT, "int128", count, words))
    return numbers.astype(np.int64), KeyPart(0, max(interned.count, 1), interned=interned)


def intern(column: ColumnData) -> tuple[Interned, np.ndarray]:
    """Number the distinct values of a string or 128-bit column."""
    count = column.length
    if column.kind == "string":
        offsets, chars = column.data, column.chars
    else:
        if column.kind == "interval":  # a month is 30 days, a day 24 hours: equal spans of time are one value
            parts = column.data[: 2 * count : 2]
            days = parts.astype(np.int32).astype(np.int64) * 30 + (parts >> 32)
            micros = column.data[1 : 2 * count : 2]
            data = padded(2 * count, np.int64)
            data[::2], data[1::2] = days + micros // 86_400_000_000, micros % 86_400_000_000
            column = ColumnData(column.type, "int128", count, data, validity=column.validity)
        offsets = np.arange(count + 1, dtype=np.int64) * 16
        chars = np.zeros(count * 16 + 64, dtype=np.uint8)
        chars[: count * 16] = column.data.view(np.uint8)[: count * 16]
    assert chars is not None
    slots = 1 << max(6, int(2 * count).bit_length())
    table, firsts = padded(slots * 2, np.uint64), padded(count, np.uint32)
    numbers = padded(count, np.uint32)
    valid = 0 if column.validity is None else column.validity.ctypes.data
    words = (offsets.ctypes.data, chars.ctypes.data, valid, table.ctypes.data, slots - 1)
    found = native.run("intern", *words, numbers.ctypes.data, firsts.ctypes.data, n=count)
    if column.validity is not None:
        numbers[numbers == NONE] = 0
    return Interned(offsets, chars, table, slots - 1, firsts, found), numbers


# --- lowering --------------------------------------------------------------------------------------------------------


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


def _symbol(probe: Probe, name: str) -> Symbol:
    return Symbol(lambda thread: getattr(probe.current(), name))


def _key(lower: Lower, probe: Probe) -> Key:
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
        found = dictionary._cache[key] = intern(column)[0]
    assert isinstance(found, Interned)
    return find_interned(lower, v, found)


def lower_probe(lower: Lower, probe: Probe) -> bool:
    """Add the probe to the program; False if no row can come out."""
    lookup = probe.current()
    kind = probe.kind
    if lookup.rows == 0 and kind in ("inner", "semi"):
        return False
    if lookup.rows == 0 and kind in ("left", "single", "full"):  # there is no row 0 to read for want of a partner
        for column in probe.payload:
            lower.environment[column.id] = Literal(column.type, None)
        return True
    if not probe.keys:
        return _all_pairs(lower, probe)
    if kind in ("anti", "mark") and probe.null_aware and lookup.rows == 0:
        if kind == "mark":
            assert probe.mark is not None

            lower.environment[probe.mark.id] = Literal(BOOLEAN, False)
        return True
    if kind == "anti" and probe.null_aware and lookup.has_null:
        return False
    key = _key(lower, probe)
    if kind in ("inner", "semi"):
        return _select(lower, probe, lookup, key)
    if kind in ("anti", "mark"):
        hit = _membership(lower, probe, lookup, key)
        if kind == "anti":
            mask = lower.negate(hit)
            present = _present(key)
            if probe.null_aware and present is not None:
                both = Reg(1)
                lower.emit("and_u8", mask, 0, present, 0, Out(both))
                mask = both
            lower.select(mask)
        else:
            _bind_mark(lower, probe, lookup, key, hit)
        return True
    assert kind in ("left", "single", "full")
    rows = _row_numbers(lower, probe, lookup, key)
    _bind_outer(lower, probe, lookup, rows)
    return True


def _present(key: Key) -> Reg | None:
    """The rows whose key is not NULL; ``key.valid`` leaves out those as well that can't have a partner."""
    return key.present if key.register is not None else key.valid


def _bind_mark(lower: Lower, probe: Probe, lookup: Lookup, key: Key, hit: Reg) -> None:
    assert probe.mark is not None
    valid: Reg | None = None
    if probe.null_aware:
        if lookup.has_null:
            valid = hit
        elif _present(key) is not None:
            valid = Reg(1)
            lower.emit("or_u8", hit, 0, _present(key), 0, Out(valid))
    lower.environment[probe.mark.id] = Computed(Value("u8", hit, valid, 0, 1), lower.space)


def _select(lower: Lower, probe: Probe, lookup: Lookup, key: Key) -> bool:
    """Keep the rows with a partner; bind the build side's columns."""
    if key.valid is not None:
        lower.select(key.valid)
        key = _again(lower, probe, key)
    always = lookup.complete and key.low >= lookup.low and key.high < lookup.low + lookup.span
    home = lower.space
    if lookup.kind in ("map", "bits", "rows", "rank"):
        if lookup.complete and not always:
            lower.select(_in_range(lower, lookup, key))
        elif not always:
            table = "bits" if lookup.marks is None else "marks"
            name = "probe_bits" if lookup.marks is None else "probe_map"
            out, positions = Reg(4), Reg(4)
            symbol = _symbol(probe, table)
            if key.index is not None:
                # ``out`` holds the selected index values: the tile's rows, or rows of the side that the key comes from
                words = (key.base, key.stride, symbol, key.shift, lookup.span, key.index, Out(out), Optional(positions))
                lower.emit(f"{name}_{key.item}", *words, pure=False)
                lower.enter(positions, out if key.rows is None else None)
                if key.rows is not None:
                    key.rows.cache[lower.space] = out
            else:
                lower.emit(
                    *(f"{name}_{key.item}", key.base, key.stride, symbol, key.shift, lookup.span, 0, Out(out), 0),
                    pure=False,
                )
                lower.enter(out)
        if probe.kind == "inner":
            _bind_direct(lower, probe, lookup, key, home)
        return True
    if lookup.kind == "hash":
        positions, found = Reg(4), Reg(4)
        bloom: Any = _symbol(probe, "bloom") if lookup.bloom is not None else 0
        keys = (*_register(lower, key, lookup), _symbol(probe, "table"), lookup.lines, bloom, lookup.bloom_shift, 0)
        scratch = (Out(Reg(8)), Out(Reg(4)), Out(Reg(1)), Out(Reg(4)), Out(Reg(4)))
        lower.emit("probe_lines", *keys, *scratch, Out(positions), Optional(found), pure=False)
        lower.enter(positions)
        if probe.kind == "inner":
            _bind(lower, probe, Rows(reg=found, space=lower.space))
        return True
    groups = _groups(lower, probe, lookup, key, None)
    _bind(lower, probe, _expand(lower, probe, lookup, groups, keep=False))
    return True


def _in_range(lower: Lower, lookup: Lookup, key: Key) -> Reg:
    """A mask of the keys that lie in the build side's range."""
    width = {"u8": 1, "u16": 2, "u32": 4, "i64": 8}[key.item]
    floor, top = (-(2**63), 2**63 - 1) if key.item == "i64" else (0, 2 ** (8 * width) - 1)
    low, high = max(key.shift, floor), min(key.shift + lookup.span - 1, top)
    base, stride, out = key.base, key.stride, Reg(1)
    if low > high:
        return lower.program.constant("u8", 0)
    if key.index is not None:
        gathered = Reg(width)
        lower.emit(f"gather_{width}", base, stride, key.index, Out(gathered))
        base, stride = gathered, 0
    lower.emit(f"between_{key.item}", base, stride, low, high, Out(out))
    return out


def _again(lower: Lower, probe: Probe, key: Key) -> Key:
    """The same key in the space just entered."""
    if key.register is not None:
        moved = lower.carry(key.register, lower.spaces[lower.space].parent)
        return Key("i64", moved, 0, None, key.shift, None, key.low, key.high, register=moved)
    stored = lower.stored(lower.fold(probe.keys[0][0]))
    assert stored is not None
    index = lower.index(stored.rows)
    return Key(key.item, key.base, key.stride, index, key.shift, None, key.low, key.high, rows=stored.rows)


def _register(lower: Lower, key: Key, lookup: Lookup) -> tuple[Any, int]:
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


def _find(lower: Lower, probe: Probe, lookup: Lookup, keys: tuple[Any, int]) -> Reg:
    found = Reg(4)
    lower.emit("find_lines", *keys, _symbol(probe, "table"), lookup.lines, Out(Reg(8)), Out(found))
    return found


def _membership(lower: Lower, probe: Probe, lookup: Lookup, key: Key) -> Reg:
    """A mask of the rows with a partner."""
    if lookup.kind in ("map", "bits", "rank"):
        name, table = ("test_bits", "bits") if lookup.marks is None else ("test_map", "marks")
        base, stride = key.base, key.stride
        item = key.item
        if key.index is not None:
            gathered = Reg({"u8": 1, "u16": 2, "u32": 4, "i64": 8}[item])
            lower.emit(f"gather_{gathered.width}", base, stride, key.index, Out(gathered))
            base, stride = gathered, 0
        hit = Reg(1)
        lower.emit(f"{name}_{item}", base, stride, _symbol(probe, table), key.shift, lookup.span, Out(hit))
    else:
        found = _row_numbers(lower, probe, lookup, key, groups=True)
        hit, safe = Reg(1), Reg(4)
        lower.emit("matched", found, Out(hit), Out(safe))
        return hit
    if key.valid is not None:
        both = Reg(1)
        lower.emit("and_u8", hit, 0, key.valid, 0, Out(both))
        hit = both
    return hit


def _clamped(lower: Lower, lookup: Lookup, key: Key) -> Reg:
    out = Reg(4)
    index = key.index if key.index is not None else 0
    lower.emit(f"clamp_{key.item}", key.base, key.stride, index, key.shift, lookup.span, Out(out))
    return out


def _groups(lower: Lower, probe: Probe, lookup: Lookup, key: Key, valid: Reg | None) -> Reg:
    """Group numbers of repeated keys (NONE: no partner)."""
    if lookup.kind == "chains":
        found = _find(lower, probe, lookup, _register(lower, key, lookup))
        if valid is not None:
            none = lower.program.constant("u32", NONE)
            out = Reg(4)
            lower.emit("blend_u32", valid, 0, found, 0, none, 0, Out(out))
            found = out
        return found
    out = Reg(4)
    lower.emit("group_of_entry", _clamped(lower, lookup, key), lookup.span, valid if valid is not None else 0, Out(out))
    return out


def _row_numbers(lower: Lower, probe: Probe, lookup: Lookup, key: Key, groups: bool = False) -> Reg:
    """Build rows of each probe row (NONE: no partner); with ``groups``, only whether there is one counts."""
    if lookup.kind in ("groups", "chains"):
        numbers = _groups(lower, probe, lookup, key, key.valid)
        if groups or probe.kind != "single":
            return numbers
        out = Reg(4)
        listed: Any = _symbol(probe, "listed") if lookup.listed is not None else 0
        lower.emit("single_match", numbers, _symbol(probe, "starts"), listed, Out(out), pure=False)
        return out
    if lookup.kind == "hash":
        found = _find(lower, probe, lookup, _register(lower, key, lookup))
        if key.valid is None:
            return found
        out = Reg(4)
        none = lower.program.constant("u32", NONE)
        lower.emit("blend_u32", key.valid, 0, found, 0, none, 0, Out(out))
        return out
    if lookup.kind == "rank":
        hit = _membership(lower, probe, lookup, key)
        numbers = _ranked(lower, probe, lookup, _clamped(lower, lookup, key))
        out, none = Reg(4), lower.program.constant("u32", NONE)
        lower.emit("blend_u32", hit, 0, numbers, 0, none, 0, Out(out))
        return out
    entries, out = Reg(4), Reg(4)
    lower.emit("gather_4", _symbol(probe, "row_map"), 0, _clamped(lower, lookup, key), Out(entries))
    lower.emit("row_of_entry", entries, key.valid if key.valid is not None else 0, Out(out))
    return out


def _ranked(lower: Lower, probe: Probe, lookup: Lookup, digits: Reg) -> Reg:
    """Row numbers of keys by their rank in the bitmap (of keys that are not in it: any row)."""
    out = Reg(4)
    lower.emit("rank_u32", digits, 0, _symbol(probe, "bits"), _symbol(probe, "prefix"), 0, lookup.span, Out(out))
    if lookup.listed is None:
        return out
    rows = Reg(4)
    lower.emit("gather_4", _symbol(probe, "listed"), 0, out, Out(rows))
    return rows


def _expand(lower: Lower, probe: Probe, lookup: Lookup, groups: Reg, keep: bool) -> Rows:
    """One row for each pair; enters a new space."""
    from finequery.operators.program import TILE

    positions, rows = Reg(4), Reg(4)
    listed: Any = _symbol(probe, "listed") if lookup.listed is not None else 0
    lower.emit(
        *("expand", 0, 0, 0, 0, groups, _symbol(probe, "starts"), listed, 1 if keep else 0, TILE),
        *(Out(positions), Out(rows)),
        pure=False,
        expands=True,
    )
    lower.enter(positions)
    lower.expanded = True
    lower.most_rows *= 1 << max(lookup.most - 1, 1).bit_length()
    return Rows(reg=rows, space=lower.space)


def _all_pairs(lower: Lower, probe: Probe) -> bool:
    """A join without keys: every row with every row of the other side."""
    lookup = probe.current()
    if probe.kind in ("semi", "anti", "mark"):
        if probe.kind == "mark":
            assert probe.mark is not None
            lower.environment[probe.mark.id] = Literal(BOOLEAN, lookup.rows > 0)
            return True
        return (lookup.rows > 0) == (probe.kind == "semi")
    zero = lower.program.constant("u32", 0)
    if probe.kind == "single":
        out = Reg(4)
        lower.emit("single_match", zero, _symbol(probe, "starts"), 0, Out(out), pure=False)
        _bind_outer(lower, probe, lookup, out)
        return True
    if probe.kind == "inner":
        _bind(lower, probe, _expand(lower, probe, lookup, zero, keep=False))
        return True
    rows = _expand(lower, probe, lookup, zero, keep=True)
    assert rows.reg is not None
    _bind_matched(lower, probe, rows.reg)
    return True


def _bind_outer(lower: Lower, probe: Probe, lookup: Lookup, rows: Reg) -> None:
    if lookup.kind in ("groups", "chains") and probe.kind != "single":
        expanded = _expand(lower, probe, lookup, rows, keep=True)
        assert expanded.reg is not None
        rows = expanded.reg
    _bind_matched(lower, probe, rows)


def _bind_matched(lower: Lower, probe: Probe, rows: Reg) -> None:
    ok, safe = Reg(1), Reg(4)
    lower.emit("matched", rows, Out(ok), Out(safe))
    if probe.track is not None:
        lower.emit("mark_matched", rows, probe.track, pure=False)
    _bind(lower, probe, Rows(reg=safe, space=lower.space, matched=ok))


def _bind(lower: Lower, probe: Probe, rows: Rows) -> None:
    """The build side's columns, fetched through row numbers."""
    frame = probe.current().frame
    for column in probe.payload:
        data = frame.columns[column.id]
        lower.environment[column.id] = Stored(data, rows, _fetch(probe, column))


def _fetch(probe: Probe, column: Column) -> Callable[[], ColumnData]:
    return lambda: probe.current().frame.columns[column.id]


def _bind_direct(lower: Lower, probe: Probe, lookup: Lookup, key: Key, home: int) -> None:
    """Unique keys in a small range: row numbers looked up by key wherever a column is read. ``home``: the key's
    space."""
    expr = lower.fold(probe.keys[0][0]) if len(probe.keys) == 1 else None
    stored = lower.stored(expr) if expr is not None and key.register is None else None

    def clamped(low: Lower) -> Reg:
        memo = ("clamped", id(probe), low.space)
        found = low.memo.get(memo)
        if found is None:
            out = Reg(4)
            if stored is not None:
                index = low.index(stored.rows)
                base, stride = low.source(stored)
                words = (base, stride, index if index is not None else 0, key.shift, lookup.span, Out(out))
                low.emit(f"clamp_{key.item}", *words)
            else:
                assert key.register is not None
                moved = low.carry(key.register, home)
                low.emit("clamp_i64", moved, 0, 0, key.shift, lookup.span, Out(out))
            low.memo[memo] = found = (low.space, Value("u32", out))
        return found[1].reg

    def make(low: Lower) -> Reg:
        if lookup.kind == "rank":
            return _ranked(low, probe, lookup, clamped(low))
        entries, out = Reg(4), Reg(4)
        low.emit("gather_4", _symbol(probe, "row_map"), 0, clamped(low), Out(entries))
        low.emit("row_of_entry", entries, 0, Out(out))
        return out

    rows = Rows(make=make)
    for column in probe.payload:
        data = lookup.frame.columns[column.id]
        if column.id in lookup.payloads:
            width = lookup.payloads[column.id].itemsize
            table = Symbol(lambda thread, i=column.id: probe.current().payloads[i])

            def digits(low: Lower, width: int = width, table: Symbol = table) -> Reg:
                out = Reg(4)
                if stored is not None:
                    index, entry = low.index(stored.rows), {1: "u8", 2: "u16", 4: "u32"}[width]
                    base, stride = low.source(stored)
                    if index is None:
                        low.emit(f"map_{entry}_{key.item}", base, stride, table, key.shift, lookup.span, Out(out))
                    else:
                        words = (base, stride, index, table, key.shift, lookup.span, Out(out))
                        low.emit(f"gather_map_{entry}_{key.item}", *words)
                    return out
                narrow = Reg(width)
                low.emit(f"gather_{width}", table, 0, clamped(low), Out(narrow))
                low.emit(f"digits_u{8 * width}", narrow, 0, 0, Out(out))
                return out

            lower.environment[column.id] = Coded(data, digits, rows=Stored(data, rows, _fetch(probe, column)))
        else:
            lower.environment[column.id] = Stored(data, rows, _fetch(probe, column))


def residual(lower: Lower, probe: Probe) -> bool:
    """What else must hold for a pair of an inner join: a filter behind the probe."""
    return probe.condition is None or lower_filter(lower, probe.condition)


__all__ = ["Probe", "lower_probe", "make_lookup", "number_keys", "residual"]
