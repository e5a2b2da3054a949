"""A probe in a program: selections and look-ups by the structure of the build side, pairs, and the columns they bind.

Inner and semi joins on a stored column select directly: one look-up and a branch-free append per row, the build side's
columns being fetched where somebody reads them, for the rows that are left then. Other kinds compute row numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from finequery.operators.build import Lookup
from finequery.operators.column import ColumnData
from finequery.operators.expr import Column, Literal
from finequery.operators.filter import lower_filter
from finequery.operators.lower import NONE, Coded, Computed, Lower, Rows, Stored, Value
from finequery.operators.probe import Probe
from finequery.operators.probe_keys import Key, again, present_of, probe_key, register_of, symbol_of
from finequery.operators.program import Optional, Out, Reg, Symbol
from finequery.types import BOOLEAN


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
    key = probe_key(lower, probe)
    if kind in ("inner", "semi"):
        return _select(lower, probe, lookup, key)
    if kind in ("anti", "mark"):
        hit = _membership(lower, probe, lookup, key)
        if kind == "anti":
            mask = lower.negate(hit)
            present = present_of(key)
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


def _bind_mark(lower: Lower, probe: Probe, lookup: Lookup, key: Key, hit: Reg) -> None:
    assert probe.mark is not None
    valid: Reg | None = None
    if probe.null_aware:
        if lookup.has_null:
            valid = hit
        elif present_of(key) is not None:
            valid = Reg(1)
            lower.emit("or_u8", hit, 0, present_of(key), 0, Out(valid))
    lower.environment[probe.mark.id] = Computed(Value("u8", hit, valid, 0, 1), lower.space)


def _select(lower: Lower, probe: Probe, lookup: Lookup, key: Key) -> bool:
    """Keep the rows with a partner; bind the build side's columns."""
    if key.valid is not None:
        lower.select(key.valid)
        key = again(lower, probe, key)
    always = lookup.complete and key.low >= lookup.low and key.high < lookup.low + lookup.span
    home = lower.space
    if lookup.kind in ("map", "bits", "rows", "rank"):
        if lookup.complete and not always:
            lower.select(_in_range(lower, lookup, key))
        elif not always:
            table = "bits" if lookup.marks is None else "marks"
            name = "probe_bits" if lookup.marks is None else "probe_map"
            out, positions = Reg(4), Reg(4)
            symbol = symbol_of(probe, table)
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
        bloom: Any = symbol_of(probe, "bloom") if lookup.bloom is not None else 0
        keys = (*register_of(lower, key, lookup), symbol_of(probe, "table"), lookup.lines, bloom, lookup.bloom_shift, 0)
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


def _find(lower: Lower, probe: Probe, lookup: Lookup, keys: tuple[Any, int]) -> Reg:
    found = Reg(4)
    lower.emit("find_lines", *keys, symbol_of(probe, "table"), lookup.lines, Out(Reg(8)), Out(found))
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
        lower.emit(f"{name}_{item}", base, stride, symbol_of(probe, table), key.shift, lookup.span, Out(hit))
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
        found = _find(lower, probe, lookup, register_of(lower, key, lookup))
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
        listed: Any = symbol_of(probe, "listed") if lookup.listed is not None else 0
        lower.emit("single_match", numbers, symbol_of(probe, "starts"), listed, Out(out), pure=False)
        return out
    if lookup.kind == "hash":
        found = _find(lower, probe, lookup, register_of(lower, key, lookup))
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
    lower.emit("gather_4", symbol_of(probe, "row_map"), 0, _clamped(lower, lookup, key), Out(entries))
    lower.emit("row_of_entry", entries, key.valid if key.valid is not None else 0, Out(out))
    return out


def _ranked(lower: Lower, probe: Probe, lookup: Lookup, digits: Reg) -> Reg:
    """Row numbers of keys by their rank in the bitmap (of keys that are not in it: any row)."""
    out = Reg(4)
    lower.emit("rank_u32", digits, 0, symbol_of(probe, "bits"), symbol_of(probe, "prefix"), 0, lookup.span, Out(out))
    if lookup.listed is None:
        return out
    rows = Reg(4)
    lower.emit("gather_4", symbol_of(probe, "listed"), 0, out, Out(rows))
    return rows


def _expand(lower: Lower, probe: Probe, lookup: Lookup, groups: Reg, keep: bool) -> Rows:
    """One row for each pair; enters a new space."""
    from finequery.operators.program import TILE

    positions, rows = Reg(4), Reg(4)
    listed: Any = symbol_of(probe, "listed") if lookup.listed is not None else 0
    lower.emit(
        *("expand", 0, 0, 0, 0, groups, symbol_of(probe, "starts"), listed, 1 if keep else 0, TILE),
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
        lower.emit("single_match", zero, symbol_of(probe, "starts"), 0, Out(out), pure=False)
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
        low.emit("gather_4", symbol_of(probe, "row_map"), 0, clamped(low), Out(entries))
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
