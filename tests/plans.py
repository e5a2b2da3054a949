"""Plans by hand, and at random: for testing rules without a binder."""

from __future__ import annotations

import itertools
import random
from typing import Any

from reference import RowTable

from finequery.operators.expr import (
    Aggregate as AggregateCall,
)
from finequery.operators.expr import (
    Call,
    Case,
    Column,
    Expr,
    Literal,
    SortKey,
    WindowCall,
    conjunction,
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
    Window,
)
from finequery.planner.rules._tree import free
from finequery.types import BIGINT, BOOLEAN, INTEGER, SqlType


class Builder:
    """Gives out column ids."""

    def __init__(self) -> None:
        self.ids = itertools.count(1)

    def column(self, type: SqlType, name: str) -> Column:
        return Column(type, next(self.ids), name)

    def scan(self, table: Table, alias: str = "") -> Scan:
        return Scan(table, tuple((self.column(t, n), n) for n, t in table.columns), alias)

    def project(self, node: Node, *exprs: Expr, names: str = "") -> Project:
        labels = names.split() or [getattr(e, "name", "") or f"e{i}" for i, e in enumerate(exprs)]
        return Project(node, tuple((self.column(e.type, n), e) for n, e in zip(labels, exprs)))

    def aggregate(self, node: Node, groups: list[Expr], calls: list[AggregateCall], names: str = "") -> Aggregate:
        labels = iter(names.split() or [f"a{i}" for i in range(len(calls))])
        return Aggregate(
            node,
            tuple((self.column(g.type, getattr(g, "name", "") or "g"), g) for g in groups),
            tuple((self.column(a.type, next(labels)), a) for a in calls),
        )


def call(name: str, *args: Expr, type: SqlType = BOOLEAN) -> Call:
    return Call(type, name, args)


def eq(a: Expr, b: Expr) -> Call:
    return call("eq", a, b)


def lt(a: Expr, b: Expr) -> Call:
    return call("lt", a, b)


def all_of(*terms: Expr) -> Expr:
    predicate = conjunction(list(terms))
    assert predicate is not None
    return predicate


def any_of(*terms: Expr) -> Call:
    return call("or", *terms)


def no(e: Expr) -> Call:
    return call("not", e)


def lit(value: Any, type: SqlType = INTEGER) -> Literal:
    return Literal(type, value)


def exists(plan: Node) -> Subquery:
    return Subquery(BOOLEAN, "exists", plan, free(plan))


def scalar(plan: Node) -> Subquery:
    return Subquery(plan.schema[0].type, "scalar", plan, free(plan))


def isin(operand: Expr, plan: Node) -> Subquery:
    return Subquery(BOOLEAN, "in", plan, free(plan), operand)


COUNT_STAR = AggregateCall(BIGINT, "count_star")


class RandomPlans:
    """Random queries over three small tables of integers with duplicates and NULLs."""

    def __init__(self, seed: int):
        self.random = random.Random(seed)
        self.build = Builder()
        self.tables = [self.table(name) for name in "tuv"]
        self.budget = 4  # subqueries

    def table(self, name: str) -> RowTable:
        r = self.random
        rows = [tuple(r.choice([None, 0, 1, 2, 3]) for _ in range(2)) for _ in range(r.choice([0, 2, 4, 5, 6, 7]))]
        return RowTable(name, [("k", INTEGER), ("a", INTEGER), ("b", INTEGER)], [(i, *x) for i, x in enumerate(rows)])

    def chance(self, p: float) -> bool:
        return self.random.random() < p

    def query(self, outer: tuple[Column, ...] = (), depth: int = 0, one_row: bool = False) -> Node:
        """A plan with one column (any number at the top)."""
        r, b = self.random, self.build
        if depth and self.chance(0.08):
            parts = [self.query(outer, depth + 1), self.query(outer, depth + 1)]
            parts = [
                b.project(p, call("coalesce", p.schema[0], type=INTEGER))
                if p.schema[0].type == INTEGER
                else b.project(p, lit(1))
                for p in parts
            ]
            plan: Node = Union(tuple(parts), (b.column(INTEGER, "x"),))
        else:
            plan = self.source(outer, depth)
            if self.chance(0.9):
                plan = Filter(
                    plan, all_of(*(self.predicate(plan.schema, outer, depth) for _ in range(r.randint(1, 3))))
                )
        shape = r.random()
        if one_row:
            shape = r.uniform(0.5, 0.9)
        if shape < 0.2:
            groups = r.sample(plan.schema, r.randint(1, min(2, len(plan.schema))))
            plan = b.aggregate(
                plan, list(groups), [self.aggregate_call(plan.schema, outer) for _ in range(r.randint(0, 2))]
            )
            if self.chance(0.4):
                plan = Filter(plan, self.predicate(plan.schema, outer, depth))
        elif 0.5 < shape < 0.8:
            plan = b.aggregate(plan, [], [self.aggregate_call(plan.schema, outer) for _ in range(r.randint(1, 2))])
            if self.chance(0.2):
                plan = Filter(plan, self.predicate(plan.schema, outer, depth))
        elif 0.8 < shape < 0.9:
            keys = tuple(SortKey(c, self.chance(0.5), self.chance(0.5)) for c in plan.schema)
            plan = Sort(
                plan, keys, lit(1 if one_row else r.randint(0, 2), BIGINT), lit(1, BIGINT) if self.chance(0.3) else None
            )
        elif 0.9 < shape < 0.95:
            order = tuple(SortKey(c, False, False) for c in plan.schema)
            plan = Window(
                plan, ((b.column(BIGINT, "w"), WindowCall(BIGINT, "row_number", (), (plan.schema[0],), order, True)),)
            )
            if self.chance(0.5):
                plan = Filter(plan, lt(plan.schema[-1], lit(2, BIGINT)))
        if depth == 0:
            if self.chance(0.4):
                plan = b.project(plan, *[self.value(plan.schema, outer, depth) for _ in range(2)], *plan.schema)
            return plan
        return b.project(
            plan, self.value(plan.schema, (), 9) if self.chance(0.8) else self.value(plan.schema, outer, 9)
        )

    def source(self, outer: tuple[Column, ...], depth: int) -> Node:
        r, b = self.random, self.build
        plan: Node = b.scan(r.choice(self.tables))
        while self.chance(0.35):
            right: Node = b.scan(r.choice(self.tables))
            if self.chance(0.3):
                right = Filter(right, self.predicate(right.schema, outer if depth else (), 9))
            kind = r.choice(["inner", "inner", "inner", "left", "full", "semi", "anti"])
            both = plan.schema + right.schema
            condition = None
            if kind != "inner" or self.chance(0.5):
                condition = all_of(
                    *(self.predicate(both, outer if kind != "full" else (), 9) for _ in range(r.randint(1, 2)))
                )
            plan = Join(kind, plan, right, (), condition)
        return plan

    def column(self, columns: tuple[Column, ...]) -> Expr:
        choice = self.random.choice([c for c in columns if c.type == INTEGER] or [lit(1)])
        return choice

    def value(self, columns: tuple[Column, ...], outer: tuple[Column, ...], depth: int) -> Expr:
        r = self.random
        x = r.random()
        if outer and x < 0.35:
            return self.column(outer)
        if x < 0.7:
            return self.column(columns)
        if x < 0.75:
            return lit(r.choice([None, 0, 1, 2]))
        if x < 0.85:
            return call("add", self.column(columns), self.column(outer or columns), type=INTEGER)
        if x < 0.9:
            return call("coalesce", self.column(columns), lit(1), type=INTEGER)
        if self.budget and depth < 3:
            self.budget -= 1
            plan = self.query(columns + outer, depth + 1, one_row=True)
            if plan.schema[0].type == INTEGER:
                return scalar(plan)
        return self.column(columns)

    def predicate(self, columns: tuple[Column, ...], outer: tuple[Column, ...], depth: int) -> Expr:
        r = self.random
        x = r.random()
        if x < 0.1:
            return any_of(self.predicate(columns, outer, depth), self.predicate(columns, outer, depth))
        if x < 0.15:
            parts = [all_of(self.predicate(columns, outer, 9), self.predicate(columns, outer, 9)) for _ in range(2)]
            return any_of(*parts)
        if x < 0.2:
            return no(self.predicate(columns, outer, depth))
        if x < 0.5 and self.budget and depth < 3:
            self.budget -= 1
            if self.chance(0.5):
                e: Expr = exists(self.query(columns + outer, depth + 1))
            else:
                plan = self.query(columns + outer, depth + 1)
                if plan.schema[0].type != INTEGER:
                    return eq(self.column(columns), lit(1))
                e = isin(self.value(columns, outer, depth), plan)
            return no(e) if self.chance(0.4) else e
        if x < 0.56:
            return call("is_null", self.value(columns, outer, depth))
        if x < 0.6:
            return call("in", self.column(columns), lit(0), lit(2), lit(r.choice([None, 1])))
        if x < 0.63:
            return Case(BOOLEAN, ((call("is_null", self.column(columns)), lit(True, BOOLEAN)),), lit(None, BOOLEAN))
        name = r.choice(["eq", "eq", "eq", "eq", "lt", "ne", "ge"])
        return call(name, self.value(columns, outer, depth), self.value(columns, outer, depth))

    def aggregate_call(self, columns: tuple[Column, ...], outer: tuple[Column, ...]) -> AggregateCall:
        r = self.random
        keep = self.predicate(columns, outer, 9) if self.chance(0.15) else None
        name = r.choice(["count_star", "count", "min", "max", "any_total"])
        if name == "count_star":
            return AggregateCall(BIGINT, "count_star", (), False, keep)
        value = self.value(columns, outer if self.chance(0.2) else (), 9)
        if name == "count":
            return AggregateCall(BIGINT, "count", (value,), self.chance(0.4), keep)
        if name == "any_total":
            return AggregateCall(INTEGER, "sum", (value,), self.chance(0.3), keep)
        return AggregateCall(INTEGER, name, (value,), False, keep)


__all__ = [
    "COUNT_STAR",
    "Builder",
    "Limit",
    "Materialize",
    "RandomPlans",
    "all_of",
    "any_of",
    "call",
    "eq",
    "exists",
    "isin",
    "lit",
    "lt",
    "no",
    "scalar",
]
