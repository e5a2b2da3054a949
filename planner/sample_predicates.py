"""Predicates over the rows of samples, in numpy: comparisons of columns, constants and arithmetic, IN, LIKE, parts of
dates and of text. What else there is makes a predicate ``Unknown``."""

from __future__ import annotations

import operator
from bisect import bisect_left
from collections.abc import Callable, Mapping
from functools import reduce
from typing import Any

import numpy as np
from numpy.typing import NDArray

from finequery.operators.expr import Call, Cast, Column, Expr, Literal
from finequery.operators.like import as_regex
from finequery.planner.sample import Sample, Values

Mask = NDArray[np.bool_]
#: By column id: the sample that it is one of, and its name there.
Columns = Mapping[int, tuple[Sample, str]]

_COMPARE: dict[str, Callable[[Any, Any], Any]] = {
    "eq": operator.eq, "ne": operator.ne, "lt": operator.lt, "le": operator.le, "gt": operator.gt, "ge": operator.ge
}  # fmt: skip
_FLIPPED = {"lt": "gt", "le": "ge", "gt": "lt", "ge": "le"}
_ARITHMETIC: dict[str, Callable[[Any, Any], Any]] = {"add": operator.add, "sub": operator.sub, "mul": operator.mul}


class Unknown(Exception):
    """The sample cannot say."""


def holds(e: Expr, columns: Columns) -> Mask:
    """For which rows a predicate is true: of the whole samples, or of their first rows where it is about text. Raises
    Unknown."""
    return _truth(e, columns)[0]


def _truth(e: Expr, columns: Columns) -> tuple[Mask, Mask | None]:
    """For which rows it is true, and for which NULL."""
    if type(e) is Column:
        v = _column(e, columns)
        if v.numbers is None or v.words is not None:
            raise Unknown
        return _but(v.numbers != 0, v.null), v.null
    if type(e) is not Call:
        raise Unknown
    if e.name in ("and", "or"):
        return _together(e.name, [_truth(a, columns) for a in e.args])
    if e.name == "not":
        true, null = _truth(e.args[0], columns)
        return _but(~true, null), null
    if e.name == "is_null":
        v = _values(e.args[0], columns)
        return (_none(v) if v.null is None else v.null), None
    if e.name in _COMPARE:
        return _compared(e.name, e.args[0], e.args[1], columns)
    if e.name == "in":
        equal = [_compared("eq", e.args[0], a, columns) for a in e.args[1:]]
        return _together("or", equal)
    if e.name == "like" and len(e.args) == 2:
        pattern = _constant(e.args[1])
        if not isinstance(pattern, str):
            raise Unknown
        return _of_text(_values(e.args[0], columns), _like(pattern))
    raise Unknown


def _together(name: str, parts: list[tuple[Mask, Mask | None]]) -> tuple[Mask, Mask | None]:
    """AND or OR, with NULL wherever one is that decides."""
    n = min(len(true) for true, _ in parts)
    trues = [true[:n] for true, _ in parts]
    nulls = [null[:n] for _, null in parts if null is not None]
    true = reduce(operator.and_ if name == "and" else operator.or_, trues)
    if not nulls:
        return true, None
    null = reduce(operator.or_, nulls)
    if name == "and":  # what is false somewhere is false
        false = reduce(operator.or_, [~t if u is None else ~(t | u[:n]) for t, (_, u) in zip(trues, parts)])
        return true, null & ~false
    return true, null & ~true


def _but(mask: Mask, null: Mask | None) -> Mask:
    return mask if null is None else mask & ~null[: len(mask)]


def _none(v: Values) -> Mask:
    return np.zeros(len(v.texts) if v.texts is not None else len(v.numbers), np.bool_)  # type: ignore[arg-type]


def _constant(e: Expr) -> Any:
    if type(e) is not Literal or e.held is None:
        raise Unknown
    return e.held


def _of_text(v: Values, test: Callable[[str], bool]) -> tuple[Mask, Mask | None]:
    """A test of strings: of each word of a dictionary that occurs, or of each row's."""
    if v.words is not None and v.numbers is not None:
        passed = np.zeros(len(v.words), np.bool_)
        for code in np.flatnonzero(np.bincount(v.numbers)).tolist():
            passed[code] = test(v.words[code])
        true = passed[v.numbers]
    elif v.texts is not None:
        true = np.fromiter(map(test, v.texts), np.bool_, len(v.texts))
    else:
        raise Unknown
    return _but(true, v.null), v.null


def _like(pattern: str) -> Callable[[str], bool]:
    """A test of LIKE: by search where nothing but per cent signs stand between texts."""
    first, *middle, last = parts if len(parts := pattern.split("%")) > 1 else (pattern, pattern)
    if "_" in pattern or len(parts) == 1:
        matches = as_regex(pattern).fullmatch
        return lambda text: matches(text) is not None
    if not first and not last and len(middle) == 1:
        return lambda text: middle[0] in text

    def test(text: str) -> bool:
        if not text.startswith(first):
            return False
        at = len(first)
        for part in middle:
            found = text.find(part, at)
            if found < 0:
                return False
            at = found + len(part)
        return len(text) - len(last) >= at and text.endswith(last)

    return test


def _compared(name: str, a: Expr, b: Expr, columns: Columns) -> tuple[Mask, Mask | None]:
    if type(a) is Literal and type(b) is not Literal:
        a, b, name = b, a, _FLIPPED.get(name, name)
    compare = _COMPARE[name]
    x = _values(a, columns)
    if type(b) is Literal:
        value = _constant(b)
        if isinstance(value, str):
            if x.words is None:
                return _of_text(x, lambda text: bool(compare(text, value)))
            at = bisect_left(x.words, value)
            if at == len(x.words) or x.words[at] != value:  # it would stand between two words
                if name in ("eq", "ne"):
                    true = np.full(len(x.numbers), name == "ne")  # type: ignore[arg-type]
                    return _but(true, x.null), x.null
                compare = operator.lt if name in ("lt", "le") else operator.ge
            value = at
        elif x.numbers is None or x.words is not None or not isinstance(value, int | float) or not _alike(a, b):
            raise Unknown
        return _but(compare(x.numbers, value), x.null), x.null
    y = _values(b, columns)
    if x.numbers is None or y.numbers is None or x.words is not y.words or not _alike(a, b):
        raise Unknown
    n = min(len(x.numbers), len(y.numbers))
    nulls = [v.null[:n] for v in (x, y) if v.null is not None]
    null = reduce(operator.or_, nulls) if nulls else None
    return _but(compare(x.numbers[:n], y.numbers[:n]), null), null


def _alike(a: Expr, b: Expr) -> bool:
    """Whether physical values of both can be compared."""
    if a.type.is_float and b.type.is_float:
        return True
    return a.type.is_exact and b.type.is_exact and a.type.scale == b.type.scale


def _column(e: Column, columns: Columns) -> Values:
    found = columns.get(e.id)
    values = None if found is None else found[0].values(found[1])
    if values is None:
        raise Unknown
    return values


def _values(e: Expr, columns: Columns) -> Values:
    if type(e) is Column:
        return _column(e, columns)
    if type(e) is Cast:
        v, source = _values(e.child, columns), e.child.type
        if v.numbers is None or v.words is not None:
            raise Unknown
        if source.is_exact and e.type.is_exact and source.is_timestamp == e.type.is_timestamp:
            if e.type.scale >= source.scale:
                return Values(v.numbers * 10 ** (e.type.scale - source.scale), null=v.null)
        elif source.is_exact and e.type.is_float and not source.is_temporal:
            return Values(v.numbers / 10.0**source.scale, null=v.null)
        raise Unknown
    if type(e) is not Call:
        raise Unknown
    if e.name in _ARITHMETIC and len(e.args) == 2:
        return _computed(e, columns)
    v = _values(e.args[0], columns)
    if e.name == "year" and e.args[0].type.name == "DATE" and v.numbers is not None:
        years = v.numbers.astype("M8[D]").astype("M8[Y]").astype(np.int64) + 1970
        return Values(years, null=v.null)
    if e.name == "substring" and len(e.args) == 3:
        start, length = (_constant(a) for a in e.args[1:])
        texts = v.texts
        if texts is None and v.words is not None and v.numbers is not None:
            words = v.words
            texts = [words[c] for c in v.numbers.tolist()]
        if texts is not None and start >= 1 and length >= 0:
            return Values(None, texts=[t[start - 1 : start - 1 + length] for t in texts], null=v.null)
    raise Unknown


def _computed(e: Call, columns: Columns) -> Values:
    """Arithmetic, in doubles: near enough for a share of rows."""
    parts: list[Any] = []
    nulls: list[Mask] = []
    for a in e.args:
        if type(a) is Literal:
            value = _constant(a)
            if not isinstance(value, int | float):
                raise Unknown
            parts.append(float(value))
            continue
        v = _values(a, columns)
        if v.numbers is None or v.words is not None or not (a.type.is_numeric or a.type.name == "DATE"):
            raise Unknown
        parts.append(v.numbers.astype(np.float64))
        if v.null is not None:
            nulls.append(v.null)
    if all(isinstance(part, float) for part in parts):
        raise Unknown  # one value for all rows
    scale = e.type.scale if e.type.is_exact else 0
    of = [a.type.scale if a.type.is_exact else 0 for a in e.args]
    if (sum(of) if e.name == "mul" else max(of)) != scale or (e.name != "mul" and of[0] != of[1]):
        raise Unknown
    return Values(_ARITHMETIC[e.name](*parts), null=reduce(operator.or_, nulls) if nulls else None)
