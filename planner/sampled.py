"""Plans over samples: which rows of a table's sample come through filters and joins.

A filter's predicate is tried on the sample of its table. A join in which each row of one side looks up at most one row
of the other, by a unique key of that side's table, keeps sampled rows of the first: those that find a partner which
comes through its own filters and joins. So what conditions of several tables have to do with each other shows: lines
that were shipped after a day belong to orders that were seldom placed before it (Leis et al., "Cardinality Estimation
Done Right: Index-Based Join Sampling", CIDR 2017, for the idea; here samples and what they look up are kept with the
tables, so that a query pays for comparisons alone).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from finequery.operators.expr import Call, Column, Expr, columns_of, conjuncts
from finequery.planner.logical import Filter, Join, Materialize, Node, Project, Scan
from finequery.planner.sample import Sample, sample_of
from finequery.planner.sample_predicates import Columns, Mask, Unknown, holds
from finequery.types import BOOLEAN

#: Standard deviations by which a sample may be off.
CHANCE = 2.0
#: Rows of a sample that have to come through for their number to be believed as it is.
SURE = 10
#: How far fewer of them may be off, either way.
SPREAD = 3.0
#: What a predicate that no sampled row fulfils keeps at most, in sampled rows: more would show in seven of eight.
NONE = 2.0
#: Results of predicates that a sample remembers.
REMEMBERED = 256

#: Share of the rows of a node for which predicates hold, by rule.
Rule = Callable[[list[Expr], Node], float]


@dataclass(slots=True, eq=False)
class Sampled:
    """What comes through a node: ``mask`` of the rows of ``root``, of which a share ``rest`` fulfils what could not be
    tried. ``columns``: by id, where values of the same rows are."""

    root: Sample
    mask: Mask
    rest: float
    columns: Columns
    _at: NDArray[np.intp] | None = None

    @property
    def at(self) -> NDArray[np.intp]:
        """Places of the rows that come through."""
        if self._at is None:
            self._at = self.mask.nonzero()[0]
        return self._at

    @property
    def hits(self) -> int:
        return len(self.at)

    def rows(self, rule: float) -> float:
        """Rows that come through: what is said without the sample, by ``rule``, unless the sample disagrees by more
        than chance. The fewer it has, the more the rule counts."""
        hits, weight = self.hits, self.root.rows / len(self.root) * self.rest
        if self.root.whole:
            return hits * weight
        likely = rule / weight if weight else 0.0
        if abs(hits - likely) <= CHANCE * math.sqrt(likely + 1.0):
            return rule
        if hits >= SURE:
            return hits * weight
        if not hits:
            return min(rule, NONE * weight)
        sure, seen = hits / SURE, hits * weight
        kept = min(max(rule, seen / SPREAD), seen * SPREAD)
        return float(seen**sure * kept ** (1.0 - sure))

    def distinct(self, id: int, rows: float) -> float | None:
        """Different values of a column among the ``rows`` that come through, by Chao's estimator from those seen once
        and twice (Scandinavian Journal of Statistics 11, 1984); None where too few rows are seen for it."""
        found = self.columns.get(id)
        values = None if found is None else found[0].values(found[1])
        if values is None or values.least is None or values.numbers is None or self.hits < SURE:
            return None
        times = np.bincount(np.bincount(values.numbers[self.at] - values.least), minlength=3).tolist()
        seen, once, twice = sum(times[1:]), times[1], times[2]
        if self.root.whole:
            return float(seen)
        if 2 * seen > self.hits:  # most values occur more seldom than once in the sample
            return None
        return min(rows, seen + once * max(once - 1, 0) / (2.0 * (twice + 1)))

    def range(self, id: int) -> tuple[int | float, int | float] | None:
        """Least and greatest value of a column, where the sample is the whole table."""
        found = self.columns.get(id)
        values = (
            None if found is None or not self.root.whole or found[0] is not self.root else found[0].values(found[1])
        )
        if values is None or values.numbers is None or values.words is not None or not self.hits:
            return None
        held = values.numbers[self.at if values.null is None else self.mask & ~values.null]
        return (held.min().item(), held.max().item()) if len(held) else None


def sampled(node: Node, rule: Rule, root: Sample | None = None) -> Sampled | None:
    """What comes through a node of the sample of its table, or of ``root``, other rows of this table; None where no
    sample follows the node."""
    if root is not None:
        return _sampled(node, rule, root)
    if "_sampled" not in node.__dict__:
        node.__dict__["_sampled"] = _sampled(node, rule, None)
    return node.__dict__["_sampled"]  # type: ignore[no-any-return]


def _sampled(node: Node, rule: Rule, root: Sample | None) -> Sampled | None:
    if isinstance(node, Scan):
        found = sample_of(node.table) if root is None else root
        if found is None:
            return None
        return Sampled(found, found.found, 1.0, {c.id: (found, name) for c, name in node.columns})
    if isinstance(node, Filter):
        below = sampled(node.input, rule, root)
        return None if below is None else _filtered(below, node, rule)
    if isinstance(node, Project):
        below = sampled(node.input, rule, root)
        if below is None:
            return None
        kept = {c.id: below.columns[e.id] for c, e in node.columns if type(e) is Column and e.id in below.columns}
        return Sampled(below.root, below.mask, below.rest, kept, below._at)
    if isinstance(node, Materialize):
        return sampled(node.input, rule, root)
    if isinstance(node, Join) and node.keys and not node.null_safe:
        return _joined(node, rule, root)
    return None


def _filtered(below: Sampled, node: Filter, rule: Rule) -> Sampled:
    mask, rest, of_text = below.mask, below.rest, None
    untried = []
    for term in conjuncts(node.predicate):
        held = _tried(term, below.columns, below.root)
        if held is None:
            untried.append(term)
        elif len(held) == len(mask):
            mask = mask & held
        else:
            of_text = held if of_text is None else of_text & held
    if of_text is not None:
        hits = int(np.count_nonzero(of_text))
        rest *= max(hits, 0.5) / len(of_text)
    if untried:
        rest *= rule(untried, node.input)
    return Sampled(below.root, mask, rest, below.columns)


def _tried(term: Expr, columns: Columns, root: Sample) -> Mask | None:
    """For which rows a predicate holds; None where the sample cannot say. Rules ask for the same again and again."""
    known = root.masks.get(id(term))
    if known is None or known[0] is not term:
        try:
            mask = holds(term, columns) if columns_of(term) else None  # one value for all rows tells nothing of them
        except Unknown:
            mask = None
        if len(root.masks) >= REMEMBERED:
            root.masks.clear()
        known = root.masks[id(term)] = term, mask
    return known[1]  # type: ignore[no-any-return]


def share_alone(term: Expr, node: Node) -> float | None:
    """Share of the rows for which a predicate about columns of one table holds, by that table's sample, whatever else
    there is about the rows; None where it is about others, or too few sampled rows fulfil it."""
    columns: dict[int, tuple[Sample, str]] = {}
    root: Sample | None = None
    for id in columns_of(term):
        found = _origin(node, id)
        root = None if found is None else sample_of(found[0])
        if found is None or root is None or any(other is not root for other, _ in columns.values()):
            return None
        columns[id] = root, found[1]
    if root is None:
        return None
    held = _tried(term, columns, next(iter(columns.values()))[0])
    hits = 0 if held is None else int(np.count_nonzero(held))
    return None if held is None or hits < SURE else hits / len(held)


def _origin(node: Node, id: int) -> tuple[Any, str] | None:
    """The table and the column there that a column of a node has its values from."""
    while not isinstance(node, Scan):
        if isinstance(node, Project):
            made = next((e for c, e in node.columns if c.id == id), None)
            if type(made) is not Column:
                return None
            node, id = node.input, made.id
        elif isinstance(node, (Filter, Join, Materialize)):
            below = [n for n in node.inputs if any(c.id == id for c in n.schema)]
            if not below:
                return None
            node = below[0]
        else:
            return None
    return next(((node.table, name) for c, name in node.columns if c.id == id), None)


def _joined(node: Join, rule: Rule, root: Sample | None) -> Sampled | None:
    """Rows of one side with the row of the other that each looks up."""
    left, right = sampled(node.left, rule), sampled(node.right, rule)
    if left is None:
        return None
    if node.kind in ("mark", "single"):
        return left if root is None else sampled(node.left, rule, root)
    if right is None or node.kind == "full":
        return None
    sides = [(node.left, left, node.right, right, node.keys)]
    if node.kind == "inner":
        sides.append((node.right, right, node.left, left, tuple((b, a) for a, b in node.keys)))
    for many, of_many, one, of_one, keys in sides:
        for a, b in keys:
            if type(a) is not Column or type(b) is not Column:
                continue
            key = of_one.columns.get(b.id)
            table = of_one.root.table()
            if key is None or key[0] is not of_one.root or table is None or a.id not in of_many.columns:
                continue
            stats = table.stats(key[1])
            if stats is None or not stats.unique:
                continue
            rows = of_many if root is None else sampled(many, rule, root)
            if rows is None:
                return None
            of, name = rows.columns[a.id]
            partners = of.partner(name, table, key[1])
            found = None if partners is None else sampled(one, rule, partners)
            if found is not None:
                return _together(node, rows, found, [k for k in keys if k[1] is not b])
    return None


def _together(node: Join, rows: Sampled, found: Sampled, keys: list[tuple[Expr, Expr]]) -> Sampled | None:
    columns: Mapping = {**rows.columns, **found.columns}
    partner, rest = found.mask, found.rest
    terms = [Call(BOOLEAN, "eq", (a, b)) for a, b in keys] + conjuncts(node.condition)
    for term in terms:
        try:
            held = holds(term, columns)
        except Unknown:
            return None
        if len(held) != len(partner):
            return None
        partner = partner & held
    if node.kind == "left":
        return rows
    if node.kind == "anti":
        return Sampled(rows.root, rows.mask & ~partner, rows.rest, rows.columns) if rest == 1.0 else None
    kept = columns if node.kind == "inner" else rows.columns
    return Sampled(rows.root, rows.mask & partner, rows.rest * rest, kept)
