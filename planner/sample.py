"""Samples of tables: some thousand rows, by which predicates are tried out when a query is planned.

A sample is one row of each of ``ROWS`` equal parts of a table, at a place drawn from a fixed seed, so that patterns
that repeat along the table don't mislead. Its values are fetched column by column when they are first asked for and
kept with the table, whose contents never change under one array; a column that is not encoded yet has none. The rows
that a sample's rows look up by a unique key of another table are a sample of their own (``partner``), aligned with it:
so a predicate of one table can be seen together with one of another.
"""

from __future__ import annotations

import weakref
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from finequery.operators.column import ColumnData

#: Rows of a sample, and the first ones of them, spread over the table as well, for what is done by string.
ROWS, TEXTS = 2048, 1024
#: Tables of up to so many rows are their own sample.
WHOLE = 4096
#: Range of numbers whose occurrences are counted.
NARROW = 8192
#: Dictionaries up to this size are looked at as a whole.
WORDS = 4096


@dataclass(slots=True, eq=False)
class Values:
    """Values of the rows of a sample, or of its first ``TEXTS``. Of exact types ``numbers`` are physical values; text
    is ``numbers`` into the sorted ``words``, or ``texts``. ``null``: rows without a value; None: there are none.
    ``least``: the least of numbers that are whole and lie in a range of ``NARROW``; else None."""

    numbers: NDArray | None
    words: list[str] | None = None
    texts: list[str] | None = None
    null: NDArray[np.bool_] | None = None
    least: int | None = None

    def __post_init__(self) -> None:
        if self.numbers is not None and self.numbers.dtype == np.int64 and len(self.numbers):
            least = int(self.numbers.min())
            if int(self.numbers.max()) - least < NARROW:
                self.least = least


class Sample:
    """Rows of a table, by position; -1 is no row (of a partner). ``whole``: all rows of the table, each once."""

    def __init__(self, table: Any, at: NDArray[np.int64], whole: bool):
        self.table, self.at, self.whole = weakref.ref(table), at, whole
        self.rows = table.rows
        self.found = at >= 0
        self._values: dict[str, tuple[weakref.ref, Values | None]] = {}
        self._partners: dict[tuple[str, str], tuple[weakref.ref, weakref.ref, Sample | None]] = {}
        self.masks: dict[int, Any] = {}  # results of predicates, by the id of what stands with them

    def __len__(self) -> int:
        return len(self.at)

    def values(self, name: str) -> Values | None:
        """The values of a column; None where it is not encoded, or of a type that no predicate here looks into."""
        table = self.table()
        data = None if table is None else table.encoded(name)
        if data is None or data.length != self.rows:
            return None
        kept = self._values.get(name)
        if kept is None or kept[0]() is not data.data:
            kept = self._values[name] = weakref.ref(data.data), _fetched(data, np.maximum(self.at, 0))
        return kept[1]

    def partner(self, name: str, table: Any, key: str) -> Sample | None:
        """The rows of another table whose unique ``key`` is the value of column ``name`` here. None where the key is
        not unique or not encoded."""
        kept = self._partners.get((name, key))
        mine, other = self.values(name), table.encoded(key)
        if mine is None or mine.numbers is None or mine.words is not None or other is None:
            return None
        if kept is None or kept[0]() is not table or kept[1]() is not other.data:
            at = _places(mine, other)
            if at is not None:
                at[~self.found] = -1
            made = None if at is None else Sample(table, at, False)
            kept = self._partners[name, key] = weakref.ref(table), weakref.ref(other.data), made
        return kept[2]


_samples: weakref.WeakKeyDictionary[Any, Sample] = weakref.WeakKeyDictionary()


def sample_of(table: Any) -> Sample | None:
    """The sample of a table, made once; None of an empty one."""
    rows = table.rows
    if rows < 1:
        return None
    found = _samples.get(table)
    if found is None or found.rows != rows:
        found = _samples[table] = Sample(table, _spread(rows), rows <= WHOLE)
    return found


def _spread(rows: int) -> NDArray[np.int64]:
    """Positions of a sample: those of every ``ROWS / TEXTS``-th part of the table first."""
    if rows <= WHOLE:
        return np.random.default_rng(rows).permutation(rows)
    at = (np.arange(ROWS) + np.random.default_rng(rows).random(ROWS)) * (rows / ROWS)
    return np.minimum(at.astype(np.int64), rows - 1).reshape(TEXTS, -1).T.ravel()


def _fetched(data: ColumnData, at: NDArray[np.int64]) -> Values | None:
    null = None
    if data.validity is not None:
        null = (data.validity[at >> 3] >> (at & 7).astype(np.uint8)) & 1 == 0
    if data.kind in ("uint", "int64"):
        numbers = data.data[at].astype(np.int64)
        if data.scale != 1 or data.base:
            numbers = numbers * data.scale + data.base
        return Values(numbers, null=null)
    if data.kind in ("float32", "float64"):
        return Values(data.data[at].astype(np.float64), null=null)
    few = null if null is None else null[:TEXTS]
    if data.kind == "dict" and data.dictionary is not None:
        codes = data.data[at].astype(np.int64)
        if len(data.dictionary) <= WORDS:
            return Values(codes, data.dictionary.strings(), null=null)
        texts = _texts(data.dictionary.offsets, data.dictionary.chars, codes[:TEXTS])
        return Values(None, texts=texts, null=few)
    if data.kind == "string" and data.chars is not None:
        return Values(None, texts=_texts(data.data, data.chars, at[:TEXTS]), null=few)
    return None


def _texts(offsets: NDArray, chars: NDArray, at: NDArray[np.int64]) -> list[str]:
    begins, ends = offsets[at].tolist(), offsets[at + 1].tolist()
    return [chars[a:b].tobytes().decode("utf-8", "replace") for a, b in zip(begins, ends)]


def _places(mine: Values, key: ColumnData) -> NDArray[np.int64] | None:
    """Where the values stand in a unique key, -1 for those that don't."""
    stats, wanted = key.stats, mine.numbers
    if not stats.unique or key.kind not in ("uint", "int64") or wanted is None or wanted.dtype != np.int64:
        return None
    stored, rest = np.divmod(wanted - key.base, key.scale)
    held = key.data[: key.length]
    within = (rest == 0) & (stored >= 0 if key.kind == "uint" else True)
    if mine.null is not None:
        within &= ~mine.null
    if stats.sorted:
        top = np.iinfo(held.dtype).max
        within &= stored <= top
        at = np.minimum(np.searchsorted(held, np.where(within, stored, 0).astype(held.dtype)), key.length - 1)
    else:
        if key.length > 64 * ROWS:  # what has to be sorted for it is not worth it
            return None
        order = np.argsort(held)
        at = order[np.minimum(np.searchsorted(held, stored, sorter=order), key.length - 1)]
    return np.where(within & (held[at] == stored), at, -1).astype(np.int64)
