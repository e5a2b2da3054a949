"""The points that calibration measures: small queries over generated tables, spread over what sub-tasks can meet.

Point ``n`` is of family ``n % len(FAMILIES)``, its parameters drawn from a generator seeded with ``n``. So every prefix
of the points covers all families, a point is the same on every machine, and a budget of time is a number of points.
A family varies what its kind of sub-task depends on: rows, widths, selectivity, distinct keys, match rate, groups,
operations, NULLs, skew, text. ``table`` makes a point's rows.
"""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pyarrow

#: Rows of the table that a query streams, least and most; and most where it has text.
ROWS, TEXT_ROWS = (1_000, 4_000_000), 1_000_000
#: Different values that make a column of 1, 2, 4, 8 bytes, with some room.
WIDTHS = {1: 250, 2: 60_000, 4: 1 << 31, 8: 1 << 40}


@dataclass(frozen=True, slots=True)
class Made:
    """A generated column of numbers below ``distinct``, times ``spacing``.

    ``kind``: ``int`` (at random), ``row`` (0, 1, 2, …), ``perm`` (the same in disorder), ``run`` (ascending, ``each``
    rows the same), ``wide`` (128 bits), ``float``; ``code`` is text of ``distinct`` values, ``text`` text of ``each``
    characters. ``nulls`` is the share of NULLs, ``skew`` that of the first value beside its even share."""

    name: str
    kind: str = "int"
    distinct: int = 1
    spacing: int = 1
    nulls: float = 0.0
    skew: float = 0.0
    each: int = 1


@dataclass(frozen=True, slots=True)
class Point:
    """A query over the tables ``p`` and, in joins, ``q`` …: columns and rows by name. ``skew``: of the keys that it
    groups or probes by."""

    family: str
    number: int
    sql: str
    tables: tuple[tuple[str, int, tuple[Made, ...]], ...]
    skew: float = 0.0

    @property
    def key(self) -> str:
        """The same for the same work."""
        text = repr((self.sql, self.tables))
        return f"{self.family}-{self.number}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"

    @property
    def rows(self) -> int:
        """Rows of the largest table."""
        return max(rows for _, rows, _ in self.tables)


def point(number: int) -> Point:
    """Point ``number``."""
    family = FAMILIES[number % len(FAMILIES)]
    draw = Draw(number)
    sql, tables = family(draw)
    keyed = [c.skew for _, _, columns in tables for c in columns]
    return Point(family.__name__.strip("_"), number, sql, tables, max(keyed, default=0.0))


class Draw:
    """The parameters of one point."""

    def __init__(self, number: int):
        self.random = random.Random(f"point {number}")
        self.choice = self.random.choice

    def between(self, low: float, high: float) -> float:
        """Evenly distributed in its logarithm."""
        return math.exp(self.random.uniform(math.log(low), math.log(high)))

    def rows(self, most: int = ROWS[1]) -> int:
        """Very few at times, few as often as many, and among the many more of those that count."""
        return int(self.between(self.choice((5, ROWS[0], ROWS[0], 50_000, 50_000, 50_000)), most))

    def chance(self, share: float) -> bool:
        return self.random.random() < share

    def share(self) -> float:
        """A selectivity or a match rate: often low, sometimes all."""
        return self.choice((self.between(0.001, 1.0), self.random.random(), 0.5, 0.98, 1.0))

    def nulls(self) -> float:
        return self.choice((0.0, 0.0, 0.0, 0.05, 0.5))

    def numbers(self, name: str) -> Made:
        """A column of some width."""
        return Made(name, "int", WIDTHS[self.choice((1, 1, 2, 2, 4, 4, 8))], nulls=self.nulls())

    def values(self, name: str) -> Made:
        """A column to compute with."""
        kind = self.choice(("int", "int", "int", "float", "wide"))
        if kind != "int":
            return Made(name, kind, 1 << 31, nulls=self.nulls())
        return self.numbers(name)


Drawn = tuple[str, tuple[tuple[str, int, tuple[Made, ...]], ...]]


def _below(column: Made, share: float) -> str:
    """The predicate that this share of a column's values pass."""
    return f"{column.name} < {max(int(column.distinct * share), 1)}"


def _expression(draw: Draw, columns: list[Made], steps: int) -> str:
    """Arithmetic of about so many operations."""
    names = [c.name for c in columns]
    text = names[0]
    for number in range(steps):
        other = names[(number + 1) % len(names)] if draw.chance(0.6) else str(draw.choice((2, 3, 7)))
        multiplies = number < 2 and not any(c.kind == "wide" for c in columns)  # DECIMAL(38, 0) must not overflow
        text = f"({text} {draw.choice('+-*') if multiplies else draw.choice('+-')} {other})"
    if draw.chance(0.2):
        text = f"case when {names[0]} > 100 then {text} else 0 end"
    return text


def _calls(draw: Draw, columns: list[Made], most: int) -> str:
    names = draw.random.choices(("sum", "sum", "count", "min", "max", "avg"), k=draw.random.randint(1, most))
    return ", ".join(f"{name}({draw.choice(columns).name}) as r{number}" for number, name in enumerate(names))


def _filter(draw: Draw) -> Drawn:
    """Comparisons of stored columns; what is left is counted or added up."""
    rows, terms, share = draw.rows(), draw.random.randint(1, 3), draw.share()
    columns = [draw.numbers(f"a{i}") for i in range(terms)]
    where = " and ".join(_below(c, share ** (1 / terms)) for c in columns)
    added = draw.numbers("v")
    what = draw.choice(("count(*)", "sum(v)"))
    return f"select {what} from p where {where}", (("p", rows, (*columns, added)),)


def _filter_computed(draw: Draw) -> Drawn:
    """Comparisons of what has to be computed."""
    rows, steps = draw.rows(), draw.random.randint(1, 5)
    columns = [draw.values("a"), draw.values("b")]
    text = _expression(draw, columns, steps)
    bound = int(draw.between(1, columns[0].distinct * 2))
    return f"select count(*) from p where {text} < {bound}", (("p", rows, tuple(columns)),)


def _filter_codes(draw: Draw) -> Drawn:
    """Predicates over text that is stored as codes."""
    rows, distinct = draw.rows(), int(draw.between(2, 3000))
    column, added = Made("a", "code", distinct, nulls=draw.nulls()), draw.numbers("v")
    some = ", ".join(f"'{_word(i)}'" for i in range(max(int(distinct * draw.share()) % 20, 1)))
    where = draw.choice((f"a in ({some})", f"a like '%{draw.choice('0123')}'", f"a < '{_word(distinct // 2)}'"))
    return f"select {draw.choice(('count(*)', 'sum(v)'))} from p where {where}", (("p", rows, (column, added)),)


def _filter_text(draw: Draw) -> Drawn:
    """Predicates over text."""
    rows, column = draw.rows(TEXT_ROWS), Made("a", "text", each=int(draw.between(4, 80)))
    where = draw.choice(("a like '%ab%'", "a like 'a%'", "a < 'm'", "a like '%x%y%'", "length(a) > 3"))
    return f"select count(*) from p where {where}", (("p", rows, (column,)),)


def _project(draw: Draw) -> Drawn:
    """Arithmetic, over all rows or over those that a filter lets through."""
    rows, count = draw.rows(), draw.random.randint(1, 3)
    columns = [draw.values(f"a{i}") for i in range(count)]
    chosen = Made("c", "int", 60_000)
    sums = ", ".join(
        f"sum({_expression(draw, columns, draw.random.randint(1, 6))}) as r{i}" for i in range(draw.choice((1, 1, 2)))
    )
    where = f" where {_below(chosen, draw.share())}" if draw.chance(0.6) else ""
    return f"select {sums} from p{where}", (("p", rows, (*columns, chosen)),)


def _scalar(draw: Draw) -> Drawn:
    """Aggregates of everything."""
    rows = draw.rows()
    columns = [draw.values(f"a{i}") for i in range(draw.random.randint(1, 3))]
    return f"select {_calls(draw, columns, 6)} from p", (("p", rows, tuple(columns)),)


def _grouped(draw: Draw, keys: list[Made], rows: int, values: int = 2) -> Drawn:
    columns = [draw.numbers(f"a{i}") for i in range(draw.random.randint(1, values))]
    if draw.chance(0.15):
        columns[0] = Made("a0", "float", 1000)
    chosen = Made("c", "int", 60_000)
    where = f" where {_below(chosen, draw.share())}" if draw.chance(0.4) else ""
    names = ", ".join(k.name for k in keys)
    order = draw.choice(("", "", f" order by r0, {names}", f" order by r0 desc, {names} limit 10"))
    sql = f"select {names}, {_calls(draw, columns, 5)} from p{where} group by {names}{order}"
    return sql, (("p", rows, (*keys, *columns, chosen)),)


def _dense(draw: Draw) -> Drawn:
    """Groups in an array by key."""
    rows, groups = draw.rows(), int(draw.between(2, 1_000_000))
    skew = draw.choice((0.0, 0.0, 0.3, 0.9))
    if groups < 300 and draw.chance(0.4):
        pair = [Made("g", "code", max(groups // 4, 2), skew=skew), Made("h", "int", 4)]
        return _grouped(draw, pair, rows)
    return _grouped(draw, [Made("g", "int", groups, nulls=draw.choice((0.0, 0.0, 0.1)), skew=skew)], rows)


def _hashed(draw: Draw) -> Drawn:
    """Groups in hash tables, and by partitions where there are many."""
    rows = draw.rows()
    groups = int(min(draw.between(2, 2_000_000), rows))
    key = Made("g", "int", groups, draw.choice((1_000_003, 7_000_000_001)), skew=draw.choice((0.0, 0.0, 0.3)))
    return _grouped(draw, [key], rows)


def _runs(draw: Draw) -> Drawn:
    """Groups that stand together in sorted rows."""
    rows = int(draw.between(10_000, ROWS[1]))
    return _grouped(draw, [Made("g", "run", rows, draw.choice((1, 4)), each=int(draw.between(1, 50)))], rows)


def _numbered(draw: Draw) -> Drawn:
    """Groups by text."""
    rows = draw.rows(TEXT_ROWS // 2)
    return _grouped(draw, [Made("g", "text", each=int(draw.between(2, 20)))], rows, 1)


def _keys(draw: Draw, built: int, probed: int, match: float) -> tuple[Made, Made]:
    """Key columns of a join: the build side's, and the other's, of which ``match`` find a partner."""
    domain = max(int(built / match), 1)
    spacing = draw.choice((1, 1, 1, 3, 60, 60, 1_000_003))
    if draw.chance(0.7):
        right = Made("k", draw.choice(("row", "perm")), built, spacing)
    else:
        right = Made("k", "int", max(int(built / draw.between(1.2, 8)), 1), spacing)
        domain = max(int(right.distinct / match), 1)
    skew = draw.choice((0.0, 0.0, 0.0, 0.4))
    return right, Made("k", "int", domain, spacing, draw.choice((0.0, 0.0, 0.05)), skew)


def _chosen(draw: Draw, column: Made, name: str = "q") -> str:
    """A build side: mostly what a filter leaves of its table."""
    return f"(select * from {name} where {_below(column, draw.share())})" if draw.chance(0.7) else name


def _join(draw: Draw) -> Drawn:
    """A build and a probe that takes columns of it."""
    rows = draw.rows()
    built = int(draw.between(10, min(rows, 1_000_000)))
    right, left = _keys(draw, built, rows, max(draw.share(), 0.01))
    payload = [draw.numbers(f"b{i}") for i in range(draw.random.randint(0, 3))]
    added, chosen, picked = draw.numbers("v"), Made("c", "int", 60_000), Made("d", "int", 60_000)
    sums = ", ".join(f"sum(q.{c.name})" for c in payload) or draw.choice(("count(*)", "sum(p.v)"))
    where = f" where {_below(chosen, draw.share())}" if draw.chance(0.5) else ""
    kind = draw.choice(("join", "join", "join", "left join"))
    sql = f"select {sums} from p {kind} {_chosen(draw, picked)} q on p.k = q.k{where}"
    return sql, (("p", rows, (left, added, chosen)), ("q", built, (right, *payload, picked)))


def _semi(draw: Draw) -> Drawn:
    """A probe for membership alone."""
    rows = draw.rows()
    built = int(draw.between(10, min(rows, 1_000_000)))
    right, left = _keys(draw, built, rows, max(draw.share(), 0.01))
    what, picked = draw.choice(("count(*)", "sum(v)")), Made("d", "int", 60_000)
    more = f" and {_below(picked, draw.share())}" if draw.chance(0.6) else ""
    sql = f"select {what} from p where {draw.choice(('', 'not '))}exists (select 1 from q where q.k = p.k{more})"
    return sql, (("p", rows, (left, draw.numbers("v"))), ("q", built, (right, picked)))


def _star(draw: Draw) -> Drawn:
    """A filter, two probes and groups: one pipeline of many sub-tasks."""
    rows = draw.rows()
    sizes = [int(draw.between(10, min(rows, 200_000))) for _ in range(2)]
    keys = [_keys(draw, size, rows, max(draw.share(), 0.02)) for size in sizes]
    left = [Made(f"k{i}", k.kind, k.distinct, k.spacing, k.nulls, k.skew) for i, (_, k) in enumerate(keys)]
    group, chosen, added = Made("g", "int", int(draw.between(2, 200))), Made("c", "int", 60_000), draw.numbers("v")
    picked = Made("d", "int", 60_000)
    sides = _chosen(draw, picked), _chosen(draw, picked, "r")
    where = f" where {_below(chosen, draw.share())}" if draw.chance(0.7) else ""
    joins = f"join {sides[0]} q on p.k0 = q.k join {sides[1]} r on p.k1 = r.k"
    sql = f"select q.g, sum(p.v) from p {joins}{where} group by q.g"
    first, second = (keys[0][0], group, picked), (keys[1][0], picked)
    return sql, (("p", rows, (*left, added, chosen)), ("q", sizes[0], first), ("r", sizes[1], second))


def _sort(draw: Draw) -> Drawn:
    """ORDER BY, with and without a limit."""
    rows = int(draw.between(5, 1000)) if draw.chance(0.4) else draw.rows(2_000_000)
    keys = [draw.numbers(f"a{i}") for i in range(draw.random.randint(1, 3))]
    if draw.chance(0.2):
        rows, keys[0] = min(rows, TEXT_ROWS // 4), Made("a0", "text", each=int(draw.between(3, 20)))
    elif draw.chance(0.2):
        keys[0] = Made("a0", "float", 1 << 31)
    payload = [draw.numbers(f"b{i}") for i in range(draw.random.randint(0, 3))]
    by = ", ".join(k.name + draw.choice(("", " desc")) for k in keys)
    limit = f" limit {int(draw.between(1, 1000))}" if draw.chance(0.5) else ""
    what = ", ".join(c.name for c in (*keys, *payload))
    return f"select {what} from p order by {by}{limit}", (("p", rows, (*keys, *payload)),)


def _window(draw: Draw) -> Drawn:
    """Window functions over partitions."""
    rows = draw.rows(1_000_000)
    group, key, value = Made("g", "int", int(draw.between(2, rows))), draw.numbers("a"), draw.numbers("v")
    call = draw.choice(("row_number()", "rank()", "sum(v)", "lag(v)"))
    return f"select g, {call} over (partition by g order by a) from p", (("p", rows, (group, key, value)),)


def _written(draw: Draw) -> Drawn:
    """Rows that are written out: of a filter, of a join, of a projection."""
    rows = draw.rows()
    columns = [draw.values(f"a{i}") for i in range(draw.random.randint(1, 4))]
    chosen = Made("c", "int", 60_000)
    what = ", ".join(c.name for c in columns)
    if draw.chance(0.3):
        what += f", {_expression(draw, columns, draw.random.randint(1, 3))} as e"
    return f"select {what} from p where {_below(chosen, draw.share())}", (("p", rows, (*columns, chosen)),)


def _written_join(draw: Draw) -> Drawn:
    """The rows of a join, text among them."""
    rows = draw.rows(TEXT_ROWS)
    built = int(draw.between(10, min(rows, 300_000)))
    right, left = _keys(draw, built, rows, max(draw.share(), 0.01))
    text = Made("t", draw.choice(("code", "text")), 300, each=12)
    sql = f"select p.v, q.t, q.b from p join q on p.k = q.k where {_below(Made('c', 'int', 60_000), draw.share())}"
    return sql, (
        ("p", rows, (left, draw.numbers("v"), Made("c", "int", 60_000))),
        ("q", built, (right, text, draw.numbers("b"))),
    )


def _union(draw: Draw) -> Drawn:
    """Inputs one after another, and the first rows of the whole."""
    rows, column = draw.rows(1_000_000), draw.numbers("a")
    limit = f" limit {int(draw.between(1, rows))}" if draw.chance(0.5) else ""
    return f"select a from p union all select a from p{limit}", (("p", rows, (column,)),)


#: Twice where queries spend most.
FAMILIES: tuple[Callable[[Draw], Drawn], ...] = (
    *(_filter, _join, _dense, _project, _hashed, _star, _filter_computed, _semi, _written, _scalar),
    *(_filter, _join, _dense, _sort, _runs, _filter_codes, _written_join, _star, _filter_text, _numbered),
    *(_join, _window, _project, _union),
)


# --- rows ------------------------------------------------------------------------------------------------------------


def table(rows: int, columns: tuple[Made, ...], seed: str) -> pyarrow.Table:
    """The rows of a point's table."""
    import pyarrow as pa

    made = {c.name: _column(c, rows, np.random.default_rng(_seed(f"{seed} {c.name}"))) for c in columns}
    return pa.table(made)


def _seed(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little")


def _word(code: int) -> str:
    return f"word {code:06d}"


def _column(column: Made, rows: int, rng: np.random.Generator) -> pyarrow.Array:
    import pyarrow as pa

    mask = rng.random(rows) < column.nulls if column.nulls else None
    if column.kind == "text":
        width = column.each
        letters = rng.integers(97, 123, size=rows * width, dtype=np.uint8)
        offsets = np.arange(rows + 1, dtype=np.int32) * width
        return pa.StringArray.from_buffers(rows, pa.py_buffer(offsets), pa.py_buffer(letters))
    if column.kind == "row":
        values = np.arange(rows, dtype=np.int64)
    elif column.kind == "perm":
        values = rng.permutation(rows).astype(np.int64)
    elif column.kind == "run":
        values = np.arange(rows, dtype=np.int64) // column.each
    else:
        values = rng.integers(0, column.distinct, size=rows, dtype=np.int64)
        if column.skew:
            values[rng.random(rows) < column.skew] = 0
    if column.kind == "code":
        words = pa.array([_word(i) for i in range(column.distinct)])
        return words.take(pa.array(values, mask=mask))
    if column.kind == "float":
        return pa.array(values + rng.random(rows), mask=mask)
    if column.kind == "wide":
        pairs = np.empty((rows, 2), dtype=np.int64)
        pairs[:, 0], pairs[:, 1] = values, values & 0xFFFF
        return pa.Array.from_buffers(pa.decimal128(38, 0), rows, [None, pa.py_buffer(pairs)])
    return pa.array(values * column.spacing, mask=mask)
