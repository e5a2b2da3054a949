"""A reference interpreter of logical plans: Python rows, one at a time. Slow and obviously right.

``run(plan)`` gives a list of tuples in physical form. It knows every node, correlated Subquery expressions included, so
a plan can be compared before and after each rule. Tables are ``RowTable`` or anything whose ``load`` gives ColumnData.
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Callable, Iterable, Sequence
from datetime import date, timedelta
from typing import Any

from finequery.errors import ConversionError, DataError
from finequery.operators.column import ColumnData, Stats
from finequery.operators.expr import (
    Aggregate as AggregateCall,
)
from finequery.operators.expr import (
    Call,
    Case,
    Cast,
    Column,
    Expr,
    Literal,
    Parameter,
    ScalarSubquery,
    SortKey,
    WindowCall,
)
from finequery.operators.table import Table
from finequery.planner.logical import (
    Aggregate,
    Filter,
    Join,
    Limit,
    Materialize,
    Node,
    Project,
    Scan,
    Sort,
    Subquery,
    Union,
    Values,
    Window,
)
from finequery.types import SqlType

Row = dict[int, Any]


class RowTable(Table):
    """A table of Python rows in physical form, with statistics computed from them."""

    def __init__(self, name: str, columns: Sequence[tuple[str, SqlType]], rows: Iterable[Sequence[Any]] = ()):
        self.name = name
        self.columns = tuple(columns)
        self.data = [tuple(r) for r in rows]

    @property
    def rows(self) -> int:
        return len(self.data)

    def stats(self, name: str) -> Stats | None:
        at = [n for n, _ in self.columns].index(name)
        values = [r[at] for r in self.data]
        there = [v for v in values if v is not None]
        numeric = there and not isinstance(there[0], (str, tuple))
        return Stats(
            low=min(there) if numeric else None,
            high=max(there) if numeric else None,
            nulls=len(values) - len(there),
            distinct=len(set(there)),
            unique=len(set(there)) == len(values),
        )


class StatsTable(Table):
    """A table without rows in it: only statistics, for planning at any scale."""

    def __init__(self, name: str, columns: Sequence[tuple[str, SqlType]], rows: int, stats: dict[str, Stats]):
        self.name, self.columns, self._rows, self._stats = (name, tuple(columns), rows, stats)

    @property
    def rows(self) -> int:
        return self._rows

    def stats(self, name: str) -> Stats | None:
        return self._stats.get(name)


class TooMuchWork(Exception):
    """The plan makes more rows than the caller's limit."""


def run(plan: Node, parameters: dict[int | str, Any] | None = None, limit: int = 10**9) -> list[tuple[Any, ...]]:
    """All rows of the plan's result. ``limit`` bounds the rows that all nodes make together."""
    machine = Machine(parameters or {}, limit)
    return [tuple(row[c.id] for c in plan.schema) for row in machine.rows(plan, {})]


def null_key(value: Any) -> tuple[bool, Any]:
    return (value is None, 0 if value is None else value)


class Machine:
    def __init__(self, parameters: dict[int | str, Any], limit: int):
        self.parameters = parameters
        self.limit = limit
        self.shared: dict[int, list[Row]] = {}
        self.scalars: dict[int, Any] = {}

    # Nodes

    def rows(self, node: Node, outer: Row) -> list[Row]:
        rows: list[Row] = getattr(self, "node_" + type(node).__name__.lower())(node, outer)
        self.limit -= len(rows)
        if self.limit < 0:
            raise TooMuchWork
        return rows

    def node_scan(self, node: Scan, outer: Row) -> list[Row]:
        names = [n for n, _ in node.table.columns]
        if isinstance(node.table, RowTable):
            places = [(c.id, names.index(n)) for c, n in node.columns]
            return [{id: row[at] for id, at in places} for row in node.table.data]
        loaded = [decode(c) for c in node.table.load([n for _, n in node.columns])]
        return [{c.id: column[i] for (c, _), column in zip(node.columns, loaded)} for i in range(node.table.rows)]

    def node_values(self, node: Values, outer: Row) -> list[Row]:
        return [{c.id: self.eval(e, outer) for c, e in zip(node.columns, row)} for row in node.rows]

    def node_filter(self, node: Filter, outer: Row) -> list[Row]:
        return [r for r in self.rows(node.input, outer) if self.eval(node.predicate, {**outer, **r}) is True]

    def node_project(self, node: Project, outer: Row) -> list[Row]:
        return [{c.id: self.eval(e, {**outer, **r}) for c, e in node.columns} for r in self.rows(node.input, outer)]

    def node_materialize(self, node: Materialize, outer: Row) -> list[Row]:
        if id(node) not in self.shared:
            self.shared[id(node)] = self.rows(node.input, outer)
        return self.shared[id(node)]

    def node_union(self, node: Union, outer: Row) -> list[Row]:
        out = []
        for part in node.parts:
            ids = [c.id for c in part.schema]
            out += [{c.id: r[i] for c, i in zip(node.columns, ids)} for r in self.rows(part, outer)]
        return out

    def bounds(self, limit: Expr | None, offset: Expr | None, rows: list[Row], outer: Row) -> list[Row]:
        start = 0 if offset is None else self.eval(offset, outer) or 0
        count = None if limit is None else self.eval(limit, outer)
        return rows[start:] if count is None else rows[start : start + count]

    def node_limit(self, node: Limit, outer: Row) -> list[Row]:
        return self.bounds(node.limit, node.offset, self.rows(node.input, outer), outer)

    def node_sort(self, node: Sort, outer: Row) -> list[Row]:
        rows = self.order(self.rows(node.input, outer), node.keys, outer)
        return self.bounds(node.limit, node.offset, rows, outer)

    def order(self, rows: list[Row], keys: tuple[SortKey, ...], outer: Row) -> list[Row]:
        return sorted(rows, key=functools.cmp_to_key(lambda a, b: self.compare(a, b, keys, outer)))

    def compare(self, a: Row, b: Row, keys: tuple[SortKey, ...], outer: Row) -> int:
        for key in keys:
            x, y = (self.eval(key.expr, {**outer, **a}), self.eval(key.expr, {**outer, **b}))
            if (x is None and y is None) or x == y:
                continue
            if x is None or y is None:
                return -1 if (x is None) == key.nulls_first else 1
            less = less_than(x, y)
            return -1 if less != key.descending else 1
        return 0

    def node_join(self, node: Join, outer: Row) -> list[Row]:
        left, right = self.rows(node.left, outer), self.rows(node.right, outer)
        table: dict[Any, list[Row]] = {}
        for r in right:
            table.setdefault(self.join_key([b for _, b in node.keys], {**outer, **r}, node.null_safe), []).append(r)
        empty = {c.id: None for c in node.right.schema}
        out: list[Row] = []
        hit: set[int] = set()
        for l in left:
            key = self.join_key([a for a, _ in node.keys], {**outer, **l}, node.null_safe)
            matches = [] if key is None else table.get(key, [])
            if node.condition is not None:
                matches = [r for r in matches if self.eval(node.condition, {**outer, **l, **r}) is True]
            hit.update(id(r) for r in matches)
            if node.kind == "inner":
                out += [{**l, **r} for r in matches]
            elif node.kind in ("left", "full"):
                out += [{**l, **r} for r in matches] or [{**l, **empty}]
            elif node.kind == "single":
                if len(matches) > 1:
                    raise DataError("more than one row returned by a subquery used as an expression")
                out += [{**l, **r} for r in matches] or [{**l, **empty}]
            else:
                found: bool | None = bool(matches)
                if node.null_aware and not found and right and (key is None or None in table):
                    found = None
                if node.kind == "mark":
                    assert node.mark is not None
                    out.append({**l, node.mark.id: found})
                elif (node.kind == "semi" and found is True) or (node.kind == "anti" and found is False):
                    out.append(l)
        if node.kind == "full":
            nothing = {c.id: None for c in node.left.schema}
            out += [{**nothing, **r} for r in right if id(r) not in hit]
        return out

    def join_key(self, exprs: list[Expr], row: Row, null_safe: bool) -> tuple[Any, ...] | None:
        key = tuple(self.eval(e, row) for e in exprs)
        if None in key and not null_safe:
            return None
        return key

    def node_aggregate(self, node: Aggregate, outer: Row) -> list[Row]:
        groups: dict[Any, list[Row]] = {} if node.groups else {(): []}
        for r in self.rows(node.input, outer):
            row = {**outer, **r}
            groups.setdefault(tuple(self.eval(e, row) for _, e in node.groups), []).append(row)
        out = []
        for key, rows in groups.items():
            result = {c.id: v for (c, _), v in zip(node.groups, key)}
            for c, call in node.aggregates:
                result[c.id] = self.aggregate(call, rows)
            out.append(result)
        return out

    def aggregate(self, call: AggregateCall, rows: list[Row]) -> Any:
        if call.filter is not None:
            rows = [r for r in rows if self.eval(call.filter, r) is True]
        if call.name == "count_star":
            return len(rows)
        values = [self.eval(call.args[0], r) for r in rows]
        if call.name == "first":
            return values[0] if values else None
        values = [v for v in values if v is not None]
        if call.distinct:
            values = list(dict.fromkeys(values))
        return fold(call.name, values, call.args[0].type)

    def node_window(self, node: Window, outer: Row) -> list[Row]:
        rows = [dict(r) for r in self.rows(node.input, outer)]
        for column, call in node.calls:
            parts: dict[Any, list[Row]] = {}
            for r in rows:
                parts.setdefault(tuple(self.eval(p, {**outer, **r}) for p in call.partition), []).append(r)
            for part in parts.values():
                ordered = self.order(part, call.order, outer)
                for r, value in zip(ordered, self.window(call, ordered, outer)):
                    r[column.id] = value
        return rows

    def window(self, call: WindowCall, rows: list[Row], outer: Row) -> list[Any]:
        def arg(i: int, row: Row) -> Any:
            return self.eval(call.args[i], {**outer, **row})

        n = len(rows)
        peers = [i if i == 0 or self.compare(rows[i - 1], rows[i], call.order, outer) else None for i in range(n)]
        starts, dense, last, count = [], [], 0, 0
        for i, p in enumerate(peers):
            if p is not None:
                last, count = i, count + 1
            starts.append(last)
            dense.append(count)
        ends = [max(j for j in range(n) if starts[j] == starts[i]) for i in range(n)]
        if call.name == "row_number":
            return list(range(1, n + 1))
        if call.name == "rank":
            return [s + 1 for s in starts]
        if call.name == "dense_rank":
            return dense
        if call.name in ("lag", "lead"):
            out = []
            for i, row in enumerate(rows):
                step = arg(1, row) if len(call.args) > 1 else 1
                at = i - step if call.name == "lag" else i + step
                default = arg(2, row) if len(call.args) > 2 else None
                out.append(arg(0, rows[at]) if 0 <= at < n else default)
            return out
        results = []
        for i in range(n):
            frame = rows[: ends[i] + 1] if call.running and call.order else rows
            if call.name == "first_value":
                results.append(arg(0, frame[0]))
            elif call.name == "last_value":
                results.append(arg(0, frame[-1]))
            else:
                results.append(
                    self.aggregate(AggregateCall(call.type, call.name, call.args), [{**outer, **r} for r in frame])
                )
        return results

    # Expressions

    def eval(self, e: Expr, row: Row) -> Any:
        if isinstance(e, Column):
            return row[e.id]
        if isinstance(e, Literal):
            return e.value
        if isinstance(e, Parameter):
            return self.parameters[e.key]
        if isinstance(e, Cast):
            return cast(self.eval(e.child, row), e.child.type, e.type, e.safe)
        if isinstance(e, Case):
            for condition, value in e.whens:
                if self.eval(condition, row) is True:
                    return self.eval(value, row)
            return self.eval(e.default, row)
        if isinstance(e, ScalarSubquery):
            if id(e.plan) not in self.scalars:
                self.scalars[id(e.plan)] = self.scalar(e.plan, {})
            return self.scalars[id(e.plan)]
        if isinstance(e, Subquery):
            return self.subquery(e, row)
        assert isinstance(e, Call), e
        return self.call(e, row)

    def scalar(self, plan: Node, outer: Row) -> Any:
        rows = self.rows(plan, outer)
        if len(rows) > 1:
            raise DataError("more than one row returned by a subquery used as an expression")
        return rows[0][plan.schema[0].id] if rows else None

    def subquery(self, e: Subquery, row: Row) -> Any:
        if e.kind == "scalar":
            return self.scalar(e.plan, row)
        rows = self.rows(e.plan, row)
        if e.kind == "exists":
            return bool(rows)
        assert e.operand is not None
        value = self.eval(e.operand, row)
        results = [r[e.plan.schema[0].id] for r in rows]
        if not results:
            return False
        if value is not None and value in results:
            return True
        return None if value is None or None in results else False

    def call(self, e: Call, row: Row) -> Any:
        name = e.name
        if name in ("and", "or"):
            stop, unknown = name == "or", False
            for a in e.args:
                v = self.eval(a, row)
                if v is stop:
                    return stop
                unknown = unknown or v is None
            return None if unknown else not stop
        args = [self.eval(a, row) for a in e.args]
        if name == "is_null":
            return args[0] is None
        if name in ("not_distinct_from", "distinct_from"):
            same = args[0] == args[1] if None not in args else args[0] is args[1]
            return same == (name == "not_distinct_from")
        if name == "coalesce":
            return next((a for a in args if a is not None), None)
        if name == "in":
            value, items = args[0], args[1:]
            if value is None:
                return None
            if value in [i for i in items if i is not None]:
                return True
            return None if None in items else False
        if None in args:
            return None
        if name == "div" and e.type.is_float:
            return args[0] / args[1] if args[1] else None
        if name not in FUNCTIONS:
            raise NotImplementedError(f"function {name} in the reference interpreter")
        return FUNCTIONS[name](*args)


def less_than(a: Any, b: Any) -> bool:
    if isinstance(a, str):
        return a.encode() < b.encode()
    if isinstance(a, float) and math.isnan(a):
        return False
    if isinstance(b, float) and math.isnan(b):
        return True
    return bool(a < b)


def like(text: str, pattern: str, escape: str = "") -> bool:
    parts, i = [], 0
    while i < len(pattern):
        c = pattern[i]
        if escape and c == escape and i + 1 < len(pattern):
            i += 1
            parts.append(re.escape(pattern[i]))
        else:
            parts.append(".*" if c == "%" else "." if c == "_" else re.escape(c))
        i += 1
    return re.fullmatch("".join(parts), text, re.DOTALL) is not None


def day(value: int) -> date:
    return date(1970, 1, 1) + timedelta(days=value)


def substring(text: str, start: int, length: int | None = None) -> str:
    begin = max(start - 1, 0)
    return text[begin:] if length is None else text[begin : max(start - 1 + length, 0)]


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "eq": lambda a, b: a == b,
    "ne": lambda a, b: a != b,
    "lt": less_than,
    "gt": lambda a, b: less_than(b, a),
    "le": lambda a, b: not less_than(b, a),
    "ge": lambda a, b: not less_than(a, b),
    "not": lambda a: not a,
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "neg": lambda a: -a,
    "like": like,
    "not_like": lambda *a: not like(*a),
    "substring": substring,
    "substr": substring,
    "concat": lambda *a: "".join(a),
    "lower": str.lower,
    "upper": str.upper,
    "year": lambda d: day(d).year,
    "month": lambda d: day(d).month,
    "day": lambda d: day(d).day,
    "abs": abs,
}


def half_away(numerator: int, denominator: int) -> int:
    q, r = divmod(abs(numerator), denominator)
    q += 2 * r >= denominator
    return -q if numerator < 0 else q


def cast(value: Any, source: SqlType, target: SqlType, safe: bool = False) -> Any:
    """CAST between simple types, in physical form."""
    try:
        return _cast(value, source, target)
    except (ValueError, OverflowError) as e:
        if safe:
            return None
        raise ConversionError(f"can't cast {value!r} to {target}") from e


def _cast(value: Any, source: SqlType, target: SqlType) -> Any:
    if value is None or source == target:
        return value
    if target.is_string:
        return str(value)
    if source.is_string:
        if target.is_float:
            return float(value)
        if target.name == "DATE":
            return (date.fromisoformat(value) - date(1970, 1, 1)).days
        if target.is_decimal:
            return round(float(value) * 10**target.scale)
        return int(value)
    if target.name == "BOOLEAN":
        return bool(value)
    if target.is_float:
        return value / 10**source.scale if source.is_decimal else float(value)
    if source.name == "DATE" and target.name == "TIMESTAMP":
        return value * 86_400_000_000
    if source.name == "TIMESTAMP" and target.name == "DATE":
        return value // 86_400_000_000
    if source.is_float:
        result = round(value * 10**target.scale)
    elif target.scale >= source.scale:
        result = int(value) * 10 ** (target.scale - source.scale)
    else:
        result = half_away(value, 10 ** (source.scale - target.scale))
    low, high = target.limits
    if not low <= result <= high:
        raise OverflowError
    return result


def fold(name: str, values: list[Any], type: SqlType) -> Any:
    """An aggregate over the values that are not NULL."""
    if name == "count":
        return len(values)
    if not values:
        return None
    if name in ("any_value", "first"):
        return values[0]
    if name == "sum":
        return math.fsum(values) if type.is_float else sum(values)
    if name == "min":
        return functools.reduce(lambda a, b: b if less_than(b, a) else a, values)
    if name == "max":
        return functools.reduce(lambda a, b: b if less_than(a, b) else a, values)
    if name == "bool_and":
        return all(values)
    if name == "bool_or":
        return any(values)
    numbers = [v / 10**type.scale if type.is_decimal else float(v) for v in values]
    if name == "avg":
        total = math.fsum(values) if type.is_float else sum(values) / 10**type.scale
        return total / len(values)
    mean = math.fsum(numbers) / len(numbers)
    squares = math.fsum((v - mean) ** 2 for v in numbers)
    base = len(numbers) - (1 if name.endswith("_samp") else 0)
    if base == 0:
        return None
    variance = squares / base
    return math.sqrt(variance) if name.startswith("stddev") else variance


def decode(column: ColumnData) -> list[Any]:
    """A stored column as physical values."""
    n, data = column.length, column.data
    if column.kind in ("uint", "int64"):
        values: list[Any] = [column.base + column.scale * int(v) for v in data[:n]]
    elif column.kind == "int128":
        values = [int(data[2 * i]) | (int(data[2 * i + 1].astype("int64")) << 64) for i in range(n)]
    elif column.kind in ("float32", "float64"):
        values = [float(v) for v in data[:n]]
    elif column.kind == "dict":
        assert column.dictionary is not None
        strings = column.dictionary.strings()
        values = [strings[c] for c in data[:n]]
    elif column.kind == "string":
        assert column.chars is not None
        raw = column.chars.tobytes()
        values = [raw[data[i] : data[i + 1]].decode() for i in range(n)]
    else:
        raise NotImplementedError(column.kind)
    if column.type.name == "BOOLEAN":
        values = [bool(v) for v in values]
    if column.validity is not None:
        bits = column.validity
        values = [v if bits[i >> 3] >> (i & 7) & 1 else None for i, v in enumerate(values)]
    return values
