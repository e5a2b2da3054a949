"""Filter: predicates as masks, cheapest first, then one selection.

Comparisons of a stored column with constants become one range test on stored values; predicates over one
dictionary column become a byte per code; everything else is computed as a BOOLEAN vector.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from typing import Any

from finequery.operators.column import ColumnData
from finequery.operators.expr import Call, Case, Cast, Column, Expr, Literal, conjuncts, walk
from finequery.operators.lower import Lower, Stored, stored_item
from finequery.operators.lower_expr import handler_of, is_true
from finequery.operators.program import Out, Reg

FLIP = {"lt": "gt", "gt": "lt", "le": "ge", "ge": "le", "eq": "eq", "ne": "ne"}


def lower_filter(
    lower: Lower, predicate: Expr | None, ranges: Sequence[tuple[Stored, int, int]] = (), defer: bool = False
) -> bool:
    """Go on with the rows for which the predicate is true; False where there can be none. ``ranges``: further tests of
    stored values (from the build sides of the probes that follow). ``defer``: leave the mask in ``lower.deferred``
    instead of selecting, where cheap tests are all there is."""
    terms = conjuncts(lower.fold(predicate)) if predicate is not None else []
    narrow: list[tuple[Expr | None, tuple[Stored, int, int]]] = [(None, r) for r in ranges]
    codes, others = [], []
    for term in terms:
        if isinstance(term, Literal):
            if not term.value:
                return False
            continue
        test = range_test(lower, term)
        if test is not None:
            narrow.append((term, test))
        elif _cost(lower, term) <= 1:
            codes.append(term)
        else:
            others.append(term)
    mask: Reg | None = None
    for stored, low, high in _merge(narrow).values():
        if low > high:
            return False
        top = 2 ** (8 * stored.data.data.itemsize) - 1 if stored.data.kind != "int64" else 2**63 - 1
        floor = 0 if stored.data.kind != "int64" else -(2**63)
        valid = lower.validity(stored)
        if low > floor or high < top:
            mask = _between(lower, stored, low, high, mask)
        if valid is not None:
            mask = valid if mask is None else _and(lower, mask, valid)
    for term in codes:
        flags = is_true(lower, term)
        mask = flags if mask is None else _and(lower, mask, flags)
    if mask is not None and defer and not others:
        lower.deferred = mask
    elif mask is not None:
        lower.select(mask)
    for term in sorted(others, key=lambda t: _cost(lower, t)):
        lower.select(is_true(lower, term))
    return True


def _and(lower: Lower, a: Reg, b: Reg) -> Reg:
    out = Reg(1)
    lower.emit("and_u8", a, 0, b, 0, Out(out))
    return out


def _between(lower: Lower, stored: Stored, low: int, high: int, mask: Reg | None) -> Reg:
    base, stride = lower.source(stored)
    item, index, out = stored_item(stored.data), lower.index(stored.rows), Reg(1)
    source: tuple[Any, int] = (base, stride)
    if index is not None:
        gathered = Reg(stored.data.width)
        lower.emit(f"gather_{stored.data.width}", base, stride, index, Out(gathered))
        source = (gathered, 0)
    if mask is None:
        lower.emit(f"between_{item}", *source, low, high, Out(out))
    else:
        lower.emit(f"between_and_{item}", *source, low, high, mask, Out(out))
    return out


def _merge(tests: list[tuple[Expr | None, tuple[Stored, int, int]]]) -> dict[int, tuple[Stored, int, int]]:
    """One range per column."""
    merged: dict[int, tuple[Stored, int, int]] = {}
    for _, (stored, low, high) in tests:
        key = id(stored)
        if key in merged:
            _, a, b = merged[key]
            low, high = max(low, a), min(high, b)
        merged[key] = (stored, low, high)
    return merged


def range_test(lower: Lower, term: Expr) -> tuple[Stored, int, int] | None:
    """``term`` as "stored value between low and high" of a column, if it is that. An empty range has low > high."""
    if not isinstance(term, Call) or term.name not in FLIP or term.name == "ne":
        return None
    left, right = term.args
    name = term.name
    if isinstance(left, Literal):
        left, right, name = right, left, FLIP[name]
    if not isinstance(right, Literal):
        return None
    stored = lower.stored(left)
    if stored is None or stored.data.kind not in ("uint", "int64", "dict"):
        return None
    if right.value is None:
        return stored, 1, 0
    if stored.data.kind == "dict":
        return _code_range(stored, name, str(right.value))
    if not stored.data.type.is_exact or isinstance(right.value, float):
        return None
    low, high = stored_range(stored.data, name, int(right.value))
    return stored, low, high


def stored_range(data: ColumnData, name: str, constant: int) -> tuple[int, int]:
    """Bounds of stored values for ``value <op> constant``, clamped to what the storage holds."""
    floor, top = (-(2**63), 2**63 - 1) if data.kind == "int64" else (0, 2 ** (8 * data.data.itemsize) - 1)
    low, high = floor, top
    if name in ("ge", "gt", "eq"):
        least = constant + 1 if name == "gt" else constant
        low = max(low, -(-(least - data.base) // data.scale))
    if name in ("le", "lt", "eq"):
        most = constant - 1 if name == "lt" else constant
        high = min(high, (most - data.base) // data.scale)
    return (low, high) if low <= high else (1, 0)


def _code_range(stored: Stored, name: str, text: str) -> tuple[Stored, int, int]:
    dictionary = stored.data.dictionary
    assert dictionary is not None
    key = ("bytes",)
    encoded = dictionary._cache.get(key)
    if encoded is None:
        encoded = dictionary._cache[key] = [s.encode() for s in dictionary.strings()]
    assert isinstance(encoded, list)
    wanted = text.encode()
    low, high = 0, len(encoded) - 1
    if name in ("ge", "gt", "eq"):
        low = bisect_right(encoded, wanted) if name == "gt" else bisect_left(encoded, wanted)
    if name in ("le", "lt", "eq"):
        high = (bisect_left(encoded, wanted) if name == "lt" else bisect_right(encoded, wanted)) - 1
    return (stored, low, high) if low <= high else (stored, 1, 0)


def _cost(lower: Lower, term: Expr) -> int:
    """0 a constant, 1 a look-up by code, 2 arithmetic, 3 text."""
    columns = {e for e in walk(term) if isinstance(e, Column)}
    if len(columns) == 1:
        stored = lower.stored(next(iter(columns)))
        if stored is not None and stored.data.kind == "dict":
            return 1
    for e in walk(term):
        if isinstance(e, (Call, Cast, Case, Column)) and e.type.is_string:
            return 3
        if isinstance(e, Call) and handler_of(e.name) is None:
            return 3
    return 2
