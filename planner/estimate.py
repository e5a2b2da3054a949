"""How many rows a plan yields and what its columns hold, estimated from statistics of the tables and from the plan.

Estimates are remembered in the nodes, which are immutable; columns are worked out when they are first asked for.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from finequery.operators.expr import Aggregate as AggregateCall
from finequery.operators.expr import Call, Case, Cast, Column, Expr, Literal, conjuncts
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
    Union,
    Values,
    Window,
)
from finequery.planner.rules._tree import ids
from finequery.planner.sampled import sampled, share_alone

#: What is assumed where nothing is known.
TABLE_ROWS = 1000.0
DISTINCT_FRACTION = 0.1
EQUAL, RANGE, OTHER = 0.05, 1 / 3, 0.25
LIKE_PREFIX, LIKE_ANYWHERE, LIKE_SUFFIX = 0.02, 0.07, 0.15
#: A comparison outside of a column's known range keeps this share: statistics may be bounds, and plans outlive them.
OUTSIDE = 0.001


class ColumnEstimate(NamedTuple):
    """``distinct`` values among the rows; ``low``/``high`` in physical form; ``unique``: no value twice, no NULL.
    ``domain``: distinct values before any filter; ``table``/``table_rows``: the scan it comes from; ``left``: rows of
    that scan, at the most, which the rows come from; ``within``: columns of shared subplans whose values these are
    among."""

    distinct: float
    low: float | None = None
    high: float | None = None
    unique: bool = False
    nulls: float = 0.0
    domain: float = 0.0
    table: int = 0
    table_rows: float = 0.0
    left: float = 0.0
    within: frozenset[tuple[int, int]] = frozenset()


#: Functions that map many values to one.
COARSE = frozenset(["substring", "left", "right", "month", "quarter", "date_trunc", "day", "week", "hour"])


class Estimate:
    """``rows``, and ``column(id)`` for each output column."""

    __slots__ = ("_columns", "_node", "rows")

    def __init__(self, node: Node, rows: float, columns: dict[int, ColumnEstimate] | None = None):
        self.rows = rows if rows > 1.0 else 1.0
        self._node = node
        self._columns = columns if columns is not None else {}

    def column(self, id: int) -> ColumnEstimate:
        found = self._columns.get(id)
        if found is None:
            found = self._columns[id] = _column(self._node, self.rows, id)
        return found

    def has(self, id: int) -> bool:
        """Whether the column is one of the node's, and not of an enclosing query."""
        return id in ids(self._node)

    def unique(self, keys: list[int]) -> bool:
        """Whether no two rows agree in all of these columns."""
        return is_unique(self._node, frozenset(keys))


def estimate(node: Node) -> Estimate:
    """The estimate of a node, worked out once."""
    known = node.__dict__.get("_estimate")
    if known is None:
        known = node.__dict__["_estimate"] = _estimate(node)
    return known  # type: ignore[no-any-return]


def _estimate(node: Node) -> Estimate:
    if isinstance(node, Scan):
        return Estimate(node, float(node.table.rows))
    if isinstance(node, Values):
        return Estimate(node, float(len(node.rows)))
    if isinstance(node, Filter):
        below = estimate(node.input)
        known: dict[int, ColumnEstimate] = {}
        share = _selected(node, below, known)
        rows = _by_sample(node, below.rows * share)
        return Estimate(node, rows, {id: shrink(c, below.rows, max(rows, 1.0)) for id, c in known.items()})
    if isinstance(node, Join):
        return Estimate(node, _by_sample(node, join_rows(node)))
    if isinstance(node, Aggregate):
        return Estimate(node, group_count([e for _, e in node.groups], estimate(node.input)))
    if isinstance(node, Union):
        return Estimate(node, sum(estimate(p).rows for p in node.parts))
    rows = estimate(node.inputs[0]).rows
    if isinstance(node, (Sort, Limit)) and isinstance(node.limit, Literal) and node.limit.held is not None:
        rows = min(rows, float(node.limit.held))
    return Estimate(node, rows)


def _by_sample(node: Node, rule: float) -> float:
    """Rows by the sample of the node's table, where there is one; else, and for what it cannot say, ``rule``."""
    found = sampled(node, _share_of)
    return rule if found is None else found.rows(rule)


def _selected(node: Filter, below: Estimate, known: dict[int, ColumnEstimate]) -> float:
    """Share of the rows that pass a filter over what no sample follows: by samples where a predicate is about one
    table's columns, by rule for the others."""
    terms = conjuncts(node.predicate)
    rule = selectivity(terms, below, known)
    if sampled(node.input, _share_of) is not None:
        return rule
    result, left = 1.0, []
    for term in terms:
        seen = share_alone(term, node.input)
        if seen is None:
            left.append(term)
        else:
            result *= seen
    return result * selectivity(left, below) if len(left) < len(terms) else rule


def _share_of(terms: list[Expr], node: Node) -> float:
    return selectivity(terms, estimate(node))


def _seen(node: Node, rows: float, id: int, c: ColumnEstimate) -> ColumnEstimate:
    """The column as the sample of the node's table has it."""
    found = sampled(node, _share_of)
    if found is None or (c.unique and not found.root.whole):
        return c
    distinct, ends = (None if c.unique else found.distinct(id, rows)), found.range(id)
    if ends is not None:
        c = c._replace(low=ends[0], high=ends[1])
    return c if distinct is None else c._replace(distinct=max(1.0, min(distinct, rows)))


def shrink(c: ColumnEstimate, before: float, after: float) -> ColumnEstimate:
    """The column when ``after`` of ``before`` rows are left (or it was multiplied)."""
    if after >= before:
        return c if after == before or not c.unique else c._replace(unique=False)
    left = c.left * after / before
    if c.unique:
        return c._replace(distinct=after, left=left)
    distinct = c.distinct
    if distinct > 1.0:
        per_value = before / distinct
        distinct = distinct * (1.0 - (1.0 - after / before) ** per_value)
    return c._replace(distinct=max(1.0, min(distinct, after)), left=left)


def drawn(values: float, times: float) -> float:
    """How many of so many values are expected to occur where one is drawn so many times."""
    return values * -math.expm1(-times / values) if values > 1.0 else values


def _key_column(node: Join, id: int, c: ColumnEstimate, left: bool) -> ColumnEstimate:
    """A column of one side of a join: the values of a key that may find a partner, were they all among those of the
    other side, which has fewer."""
    for a, b in node.keys:
        mine, other, below = (a, b, node.right) if left else (b, a, node.left)
        if type(mine) is Column and mine.id == id:
            partner = expression(other, estimate(below))
            c = c._replace(distinct=min(c.distinct, partner.distinct), within=c.within | partner.within)
    return c


def _column(node: Node, rows: float, id: int) -> ColumnEstimate:
    if isinstance(node, Scan):
        return _scan_column(node, rows, id)
    if isinstance(node, Project):
        below = estimate(node.input)
        for column, e in node.columns:
            if column.id == id:
                return expression(e, below)
    if isinstance(node, Join):
        if node.mark is not None and id == node.mark.id:
            return ColumnEstimate(2.0, 0, 1)
        left = id in ids(node.left)
        side, _other = (node.left, node.right) if left else (node.right, node.left)
        below = estimate(side)
        c = before = below.column(id)
        if node.kind in ("inner", "semi"):
            c = _key_column(node, id, c, left)
        c = shrink(c, below.rows * c.distinct / before.distinct, rows)
        if c.unique:
            kept = node.kind != "full" and _unique_match(node) if left else _unique_match(node, left_side=True)
            if not kept or (not left and node.kind != "inner"):
                # a row may match several times, or none does
                c = c._replace(unique=False, distinct=max(1.0, drawn(c.distinct, rows)))
        return c if c.unique else _seen(node, rows, id, c)
    if isinstance(node, Aggregate):
        below = estimate(node.input)
        for column, e in node.groups:
            if column.id == id:
                c = expression(e, below)
                unique = len(node.groups) == 1 and c.nulls == 0.0
                return c._replace(distinct=min(c.distinct, rows), unique=unique)
        for column, call in node.aggregates:
            if column.id == id:
                return _aggregate_column(call, below, rows)
    if isinstance(node, Union):
        at = [c.id for c in node.columns].index(id)
        parts = [estimate(p).column(p.schema[at].id) for p in node.parts]
        return ColumnEstimate(
            min(rows, sum(p.distinct for p in parts)),
            None if any(p.low is None for p in parts) else min(p.low for p in parts if p.low is not None),
            None if any(p.high is None for p in parts) else max(p.high for p in parts if p.high is not None),
        )
    if isinstance(node, (Filter, Sort, Limit, Materialize, Window)) and id in ids(node.input):
        below = estimate(node.input)
        c = shrink(below.column(id), below.rows, rows)
        if isinstance(node, Materialize):
            return c._replace(within=c.within | {(node_key(node), id)})
        return _seen(node, rows, id, c) if isinstance(node, Filter) else c
    return ColumnEstimate(max(1.0, rows * DISTINCT_FRACTION))


def _scan_column(node: Scan, rows: float, id: int) -> ColumnEstimate:
    name, type = next((name, c.type) for c, name in node.columns if c.id == id)
    stats = node.table.stats(name)
    if stats is None:
        return ColumnEstimate(max(1.0, rows * DISTINCT_FRACTION), table=node_key(node), table_rows=rows)
    low, high = stats.low, stats.high
    distinct = stats.distinct
    if distinct is None:
        guess = rows if stats.unique else max(1.0, rows * DISTINCT_FRACTION)
        if low is not None and high is not None and type.is_exact:
            guess = (
                min(rows, float(high - low + 1)) if type.is_integer or type.is_temporal else min(guess, high - low + 1)
            )
        distinct = int(guess)
    d = max(1.0, min(float(distinct), rows))
    nulls = stats.nulls / rows if stats.nulls else 0.0
    return ColumnEstimate(d, low, high, stats.unique, nulls, d, node_key(node), rows, rows)


def node_key(node: Node) -> int:
    """A number for a scan: the id of its first column."""
    return node.schema[0].id if node.schema else 0


def _aggregate_column(call: AggregateCall, below: Estimate, rows: float) -> ColumnEstimate:
    per_group = max(1.0, below.rows / rows)
    if call.name in ("count", "count_star"):
        return ColumnEstimate(min(rows, max(1.0, 2 * per_group)), 0, 2 * per_group)
    value = expression(call.args[0], below) if call.args else None
    if value is None or not call.args[0].type.is_numeric:
        return ColumnEstimate(rows if value is None else min(rows, value.distinct))
    low, high = value.low, value.high
    if call.name in ("min", "max", "any_value", "first"):
        return ColumnEstimate(min(rows, value.distinct), low, high)
    if call.name == "sum" and low is not None and high is not None:
        return ColumnEstimate(rows, min(low, low * per_group), max(high, high * per_group))
    return ColumnEstimate(rows)


def expression(e: Expr, below: Estimate) -> ColumnEstimate:
    """What an expression's values look like over the rows of ``below``."""
    if type(e) is Column:
        if not below.has(e.id):
            return ColumnEstimate(1.0)  # a column of an enclosing query
        return below.column(e.id)
    if type(e) is Literal:
        value = e.held if isinstance(e.held, (int, float)) else None
        return ColumnEstimate(1.0, value, value)
    if type(e) is Cast:
        c = expression(e.child, below)
        if (
            e.type.is_exact
            and e.child.type.is_exact
            and e.type.scale == e.child.type.scale
            and e.type.is_timestamp == e.child.type.is_timestamp
        ):
            return c
        return c._replace(low=None, high=None, unique=False)
    if type(e) is Call and e.name == "year" and e.args:
        c = expression(e.args[0], below)
        if e.args[0].type.name == "DATE" and c.low is not None and c.high is not None:
            return ColumnEstimate(min(c.distinct, (c.high - c.low) // 365 + 1))
    if type(e) is Case:
        values = [v for _, v in e.whens] + [e.default]
        if all(type(v) is Literal for v in values):
            return ColumnEstimate(float(len(values)))
    distinct = 1.0
    for child in e.children:
        distinct *= expression(child, below).distinct
    if type(e) is Call and e.name in COARSE:
        distinct **= 0.5
    return ColumnEstimate(max(1.0, min(distinct, below.rows)))


def group_count(groups: list[Expr], below: Estimate) -> float:
    """Groups of the rows of ``below``: combinations of values, of which a table brings no more than rows drawn from it
    meet."""
    tables: dict[int, list[ColumnEstimate]] = {}
    for number, e in enumerate(groups):
        c = expression(e, below)
        tables.setdefault(c.table or -1 - number, []).append(c)
    product = 1.0
    for columns in tables.values():
        combinations = math.prod(c.distinct + (1.0 if c.nulls else 0.0) for c in columns)
        left = min(c.left or below.rows for c in columns)
        product *= drawn(combinations, left) if len(columns) > 1 else combinations
        if product > below.rows:
            return below.rows
    return product


# Predicates


def selectivity(terms: list[Expr], below: Estimate, known: dict[int, ColumnEstimate] | None = None) -> float:
    """Share of rows for which all terms hold. Ranges of one column are taken together; ``known`` is told what the
    columns look like afterwards."""
    ranges: dict[int, tuple[float, float, ColumnEstimate]] = {}
    shares: list[float] = []
    for t in terms:
        bound = _bound(t, below)
        if bound is None:
            shares.append(share(t, below, known))
            continue
        id, low, high, c = bound
        if id in ranges:
            low, high = max(low, ranges[id][0]), min(high, ranges[id][1])
        ranges[id] = (low, high, c)
    for id, (low, high, c) in ranges.items():
        assert c.low is not None and c.high is not None
        whole = c.high - c.low + (1 if isinstance(c.low, int) else 0)
        part = min(high, c.high) - max(low, c.low) + (1 if isinstance(c.low, int) else 0)
        s = OUTSIDE if part <= 0 or whole <= 0 else min(1.0, max(part / whole, min(1.0, 1 / c.distinct), OUTSIDE))
        shares.append(s * (1.0 - c.nulls))
        if known is not None and part > 0:
            known[id] = c._replace(
                low=max(low, c.low), high=min(high, c.high), distinct=max(1.0, c.distinct * s), nulls=0.0
            )
    shares.sort()
    result, weight = 1.0, 1.0
    for s in shares:
        result *= s**weight
        weight = max(0.4, weight - 0.1)  # terms are seldom independent
    return result


def _bound(t: Expr, below: Estimate) -> tuple[int, float, float, ColumnEstimate] | None:
    """``column < constant`` and its like as an interval, where the column's range is known."""
    if type(t) is not Call or t.name not in ("lt", "le", "gt", "ge"):
        return None
    column, constant = t.args
    if type(column) is not Column or type(constant) is not Literal or not isinstance(constant.held, (int, float)):
        return None
    if not below.has(column.id):
        return None
    c = below.column(column.id)
    if c.low is None or c.high is None:
        return None
    step = 1 if isinstance(c.low, int) else 0
    v = constant.held
    if t.name == "lt":
        return column.id, c.low, v - step, c
    if t.name == "le":
        return column.id, c.low, v, c
    return column.id, v + (step if t.name == "gt" else 0), c.high, c


def share(t: Expr, below: Estimate, known: dict[int, ColumnEstimate] | None = None) -> float:
    """Share of rows for which one predicate holds."""
    if type(t) is Literal:
        return 1.0 if t.held else 0.0
    if type(t) is Column:
        return 0.5
    if type(t) is not Call:
        return OTHER
    name = t.name
    if name == "and":
        return selectivity(list(t.args), below)
    if name == "or":
        miss = 1.0
        for a in t.args:
            miss *= 1.0 - share(a, below) if _bound(a, below) is None else 1.0 - selectivity([a], below)
        return 1.0 - miss
    if name == "not":
        return max(0.0, 1.0 - share(t.args[0], below))
    if name == "eq":
        return _equal(t.args[0], t.args[1], below, known)
    if name == "ne":
        return 1.0 - _equal(t.args[0], t.args[1], below, None)
    if name == "in":
        c = expression(t.args[0], below)
        count = len(t.args) - 1
        if known is not None and type(t.args[0]) is Column:
            known[t.args[0].id] = c._replace(distinct=min(c.distinct, count), nulls=0.0)
        return min(1.0, count / c.distinct) * (1.0 - c.nulls)
    if name == "is_null":
        return expression(t.args[0], below).nulls
    if name in ("lt", "le", "gt", "ge"):
        return RANGE if _bound(t, below) is None else selectivity([t], below)
    if name in ("like", "starts_with", "prefix"):
        pattern = t.args[1]
        if type(pattern) is Literal and isinstance(pattern.held, str):
            return like_share(pattern.held)
        return LIKE_ANYWHERE
    if name in ("contains", "ends_with", "suffix"):
        return LIKE_ANYWHERE if name == "contains" else LIKE_SUFFIX
    return OTHER


def like_share(pattern: str) -> float:
    body = pattern.strip("%")
    if "%" not in pattern:
        return LIKE_PREFIX
    result = LIKE_PREFIX if not pattern.startswith("%") else LIKE_ANYWHERE if pattern.endswith("%") else LIKE_SUFFIX
    return result / 2 if "%" in body else result


def _equal(a: Expr, b: Expr, below: Estimate, known: dict[int, ColumnEstimate] | None) -> float:
    x, y = expression(a, below), expression(b, below)
    if type(b) is Literal:
        if type(a) is Column and known is not None and below.has(a.id):
            value = b.held if isinstance(b.held, (int, float)) else None
            known[a.id] = x._replace(distinct=1.0, low=value, high=value, nulls=0.0)
        v = b.held
        if isinstance(v, (int, float)) and x.low is not None and x.high is not None and not x.low <= v <= x.high:
            return OUTSIDE
    return (1.0 - x.nulls) / max(x.distinct, y.distinct, 1.0)


# Joins


def spread(c: ColumnEstimate) -> float:
    """Number of values that a partner of this join key has: all of a unique key's, whatever filters left of them."""
    return max(c.distinct, c.domain) if c.unique else c.distinct


def values_of(a: ColumnEstimate, b: ColumnEstimate) -> float:
    """Number of values that both sides of a join key have theirs among: those that are left, where the same subplan has
    limited both."""
    if a.within & b.within:
        return max(a.distinct, b.distinct)
    return max(spread(a), spread(b))


def match_share(keys: list[tuple[ColumnEstimate, ColumnEstimate]]) -> float:
    """Share of all pairs of rows that agree in the keys: 1 / the larger number of distinct values; where several keys
    are one table's on either side, that is a reference from one to the other: their rows bound the combinations."""
    result = 1.0
    for a, b in keys:
        result /= values_of(a, b)
    if len(keys) > 1:
        tables = [keys[0][side].table for side in (0, 1)]
        if all(tables) and all(k[side].table == tables[side] for side in (0, 1) for k in keys):
            result = max(result, 1.0 / min(keys[0][side].table_rows for side in (0, 1)))
    return result


def join_rows(node: Join) -> float:
    left, right = estimate(node.left), estimate(node.right)
    keys = [(expression(a, left), expression(b, right)) for a, b in node.keys]
    terms = conjuncts(node.condition)
    kind = node.kind
    if kind in ("mark", "single"):
        return left.rows
    if kind in ("semi", "anti"):
        matching = 1.0 if keys else 0.9
        for a, b in keys:
            domain = 0.0 if a.within & b.within else max(a.domain, b.domain)
            matching = min(matching, b.distinct / max(domain, a.distinct, b.distinct))
        matching *= 0.7 ** len(terms)
        return left.rows * (matching if kind == "semi" else max(1.0 - matching, 0.1))
    rows = left.rows * right.rows * match_share(keys)
    if terms:
        rows *= selectivity(terms, _Both(node, left, right))
    if kind == "left":
        return max(rows, left.rows)
    return max(rows, left.rows, right.rows) if kind == "full" else rows


class _Both(Estimate):
    """Columns of both inputs of a join, before it."""

    __slots__ = ("left", "right")

    def __init__(self, node: Join, left: Estimate, right: Estimate):
        super().__init__(node, left.rows * right.rows)
        self.left, self.right = left, right

    def has(self, id: int) -> bool:
        return self.left.has(id) or self.right.has(id)

    def column(self, id: int) -> ColumnEstimate:
        return self.left.column(id) if self.left.has(id) else self.right.column(id)


def _unique_match(node: Join, left_side: bool = False) -> bool:
    """Whether a row of one input (the left; the right with ``left_side``) finds at most one partner."""
    if node.kind in ("semi", "anti", "mark", "single"):
        return True
    if node.null_safe:
        return False
    other = node.left if left_side else node.right
    exprs = [k[0 if left_side else 1] for k in node.keys]
    return is_unique(other, frozenset(e.id for e in exprs if type(e) is Column))


def is_unique(node: Node, keys: frozenset[int]) -> bool:
    """Whether no two rows of the node agree in all of these columns (proven, not estimated)."""
    if isinstance(node, Scan):
        for column, name in node.columns:
            if column.id in keys:
                stats = node.table.stats(name)
                if stats is not None and stats.unique:
                    return True
        return False
    if isinstance(node, Aggregate):
        return all(c.id in keys for c, _ in node.groups)
    if isinstance(node, Project):
        return is_unique(node.input, frozenset(e.id for c, e in node.columns if c.id in keys and type(e) is Column))
    if isinstance(node, (Filter, Sort, Limit, Window, Materialize)):
        return is_unique(node.inputs[0], keys)
    if isinstance(node, Join):
        if node.kind in ("semi", "anti", "mark", "single"):
            return is_unique(node.left, keys)
        if node.kind in ("inner", "left"):
            if is_unique(node.left, keys) and _unique_match(node):
                return True
            return node.kind == "inner" and is_unique(node.right, keys) and _unique_match(node, left_side=True)
    return isinstance(node, Values) and len(node.rows) <= 1
