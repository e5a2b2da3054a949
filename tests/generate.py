"""Random tables and queries, as hypothesis strategies that yield SQL text.

Every query has one right answer: what SQL leaves open is not generated (rows picked by LIMIT without a full ORDER BY,
floating-point sums whose last digits depend on the order, errors on rows that another predicate removes).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

Draw = Callable[[st.SearchStrategy[Any]], Any]

#: Columns of the random tables: name, type, family, and literals to draw values from. k is the key of joins and groups.
COLUMNS: dict[str, tuple[str, str, list[str]]] = {
    "k": ("integer", "int", ["0", "1", "2", "3", "4", "-1"]),
    "i": ("integer", "int", ["0", "1", "-1", "7", "100", "2147483647", "-2147483648", "46341"]),
    "h": ("smallint", "int", ["0", "1", "-1", "255", "256", "32767", "-32768"]),
    "b": ("bigint", "int", ["0", "1", "-1", "4294967296", "9223372036854775807", "-9223372036854775808", "3037000500"]),
    "d": ("decimal(9, 2)", "dec", ["0.00", "0.01", "-0.01", "1.50", "-2.55", "99.99", "9999999.99", "-9999999.99"]),
    "e": ("decimal(20, 4)", "dec", ["0.0000", "1.0000", "-0.0001", "12345678901234.5678", "-9999999999999999.9999"]),
    "f": ("double", "float", ["0.0", "0.25", "-0.5", "1.75", "100.0", "-1000.25", "3.5"]),
    "g": ("double", "edge", ["0.0", "'-0.0'", "'nan'", "'inf'", "'-inf'", "1e300", "-1e-300", "0.1", "2.5"]),
    "s": (
        "varchar",
        "str",
        ["''", "'a'", "'A'", "'ab'", "'abc'", "'é'", "'a%'", "'日本語'", "'12'", "' x '"],
    ),
    "u": ("varchar", "str", ["'red'", "'green'", "'blue'"]),
    "y": (
        "date",
        "date",
        ["'1970-01-01'", "'1969-12-31'", "'2000-02-29'", "'1999-12-31'", "'2024-06-15'", "'1900-03-01'"],
    ),
    "z": ("timestamp", "time", ["'1970-01-01 00:00:00'", "'1969-12-31 23:59:59.999999'", "'2000-02-29 12:34:56.7'"]),
    "o": ("boolean", "bool", ["true", "false"]),
}
FAMILIES = {
    family: [name for name, (_, other, _) in COLUMNS.items() if other == family]
    for family in dict.fromkeys(column[1] for column in COLUMNS.values())
}
COMPARISONS = ["=", "<>", "<", "<=", ">", ">=", "is distinct from", "is not distinct from"]


@dataclass(frozen=True)
class Tables:
    """Statements that make t and u, two tables with all COLUMNS."""

    setup: tuple[str, ...]


@st.composite
def tables(draw: Draw) -> Tables:
    setup = []
    columns = ", ".join(f"{name} {kind}" for name, (kind, _, _) in COLUMNS.items())
    for table in ("t", "u"):
        setup.append(f"create or replace table {table} ({columns})")
        empty = {name for name in COLUMNS if draw(st.integers(0, 14)) == 0}  # columns of nothing but NULL
        full = {name for name in COLUMNS if draw(st.integers(0, 2)) == 0}  # columns without NULL
        rows = [row_of_literals(draw, empty, full) for _ in range(draw(st.sampled_from([0, 1, 3, 8, 8, 15])))]
        if rows:
            setup.append(f"insert into {table} values {', '.join(rows)}")
            for _ in range(draw(st.sampled_from([0, 0, 0, 1, 5]))):
                setup.append(f"insert into {table} select * from {table}")
    return Tables(tuple(setup))


def row_of_literals(draw: Draw, empty: set[str], full: set[str]) -> str:
    values = []
    for name, (_, _, literals) in COLUMNS.items():
        pick = draw(st.integers(-1, len(literals) - 1))
        null = name in empty or (pick < 0 and name not in full)
        values.append("null" if null else literals[max(0, pick)])
    return f"({', '.join(values)})"


#: How an expression of each family is made. {family} is an expression one level down, {family0} a column or literal,
#: {family=} a literal, {k} the column k of some table. What is not RISKY can neither overflow nor divide by zero:
#: k and literals next to it are small, and HUGEINT holds any sum of two BIGINTs.
TEMPLATES: dict[str, list[str]] = {
    "int": ["({k} + {k})", "({k} - 2)", "({k} * {k})", "({int}::hugeint + {int0})", "({int} % 7)", "({int} // 3)",
            "length({str})", "extract(year from {date})", "extract(month from {time})"],
    "dec": ["round({dec}, 1)", "floor({dec})", "-({dec})", "abs({dec})", "{k}::decimal(5, 1)", "({d} + {k})",
            "({d} * 0.5)", "({d} - 1)"],
    "float": ["({float} + {float0})", "({float} - {float0})", "({float0} * {float0})", "abs({float})", "-({float})",
              "floor({float})", "{k}::double", "({k} / 4)"],
    "edge": ["({edge} + 1)", "({edge} * 2)", "-({edge})", "abs({edge})", "{int}::double"],
    "str": ["({str} || {str0})", "upper({str})", "lower({str})", "substring({str}, 1, 2)", "left({str}, 1)",
            "trim({str})", "replace({str}, 'a', 'bb')", "{int}::varchar", "{date}::varchar"],
    "date": ["({date} + 1)", "({date} - 30)", "date_trunc('month', {date})::date", "{time}::date"],
    "time": ["({time} + interval 1 day)", "date_trunc('hour', {time})", "{date}::timestamp"],
    "bool": ["{%} {<} {%0}", "{%} {<} {%0}", "{%} {<} {%=}", "{%} is null", "{%} is not null",
             "{%} between {%0} and {%0}", "{%} in ({%0}, {%=})", "{%} not in ({%0}, {%=})", "{%} in ({%0}, null)",
             "{%} not in ({%=}, null)", "{str} like {pattern}", "{str} not like {pattern}", "{str} ilike {pattern}",
             "({bool} and {bool0})", "({bool} or {bool0})", "not ({bool})", "({bool}) is not true",
             "({bool}) = ({bool0})"],
}  # fmt: skip
ANY_SHAPE = ["{own}"] * 3 + ["{x0}", "case when {bool} then {x} else {x} end", "case when {bool} then {x} end"]
ANY_SHAPE += ["coalesce({x}, {x})", "nullif({x}, {x0})"]
RISKY: dict[str, list[str]] = {
    "int": ["({int} + {int})", "({int} - {int})", "({int} * {int})", "({int} // {int0})", "({int} % {int0})",
            "-({int})", "abs({int})", "{str0}::integer", "{dec}::smallint"],
    "dec": ["({dec} + {dec})", "({dec} - {dec})", "({dec} * {dec0})", "({dec})::decimal(6, 1)"],
}  # fmt: skip
PATTERNS = ["'%a%'", "'a_%'", "'%'", "''", "'_'", "'%本%'", "'%c'"]
COMPARABLE = ["int", "int", "dec", "float", "edge", "str", "date", "time"]


class Expressions:
    """Draws expressions over the columns of ``aliases``. With ``risky`` they may overflow or divide by zero."""

    def __init__(self, draw: Draw, aliases: tuple[str, ...] = ("t",), risky: bool = False):
        self.draw, self.aliases, self.risky = draw, aliases, risky

    def pick(self, *options: str) -> str:
        return str(self.draw(st.sampled_from(options)))

    def column(self, name: str) -> str:
        return f"{self.pick(*self.aliases)}.{name}"

    def literal(self, family: str) -> str:
        name = self.pick(*FAMILIES[family])
        kind, _, literals = COLUMNS[name]
        value = self.pick(*literals)
        if value.startswith("'") and family != "str":
            return f"{value}::{kind}"
        return f"({value})" if value.startswith("-") else value

    def any(self, depth: int = 2) -> str:
        return self.of(self.pick("bool", *COMPARABLE), depth)

    def of(self, family: str, depth: int) -> str:
        """An expression of a family of types."""
        if depth <= 0:
            return self.column(self.pick(*FAMILIES[family])) if self.draw(st.integers(0, 3)) else self.literal(family)
        shape = self.pick(*ANY_SHAPE)
        if shape == "{own}":
            shape = self.pick(*TEMPLATES[family], *(RISKY.get(family, []) if self.risky else []))
        text = self.fill(shape.replace("{x", "{" + family), depth - 1)
        return f"({text})" if family == "bool" else text

    def fill(self, template: str, depth: int) -> str:
        """The template with its placeholders drawn."""
        compared = self.pick(*COMPARABLE) if "{%" in template else ""

        def one(match: re.Match[str]) -> str:
            name, mark = match[1].replace("%", compared), match[2]
            if name == "<":
                return self.pick(*COMPARISONS)
            if name == "pattern":
                return self.pick(*PATTERNS)
            if name in COLUMNS:
                return self.column(name)
            if name == "any":
                return self.any(depth)
            return self.literal(name) if mark == "=" else self.of(name, 0 if mark == "0" else depth)

        return re.sub(r"\{(%|<|[a-z]+)([0=]?)\}", one, template)


AGGREGATES = ["sum({int})", "avg({int})", "min({any})", "max({any})", "count({any})", "count(*)", "sum({dec})",
              "avg({dec})", "sum({float})", "count(distinct {int})", "count(distinct {str})", "bool_and({bool})",
              "bool_or({bool})", "sum({int}) filter (where {bool})", "count(*) filter (where {bool})"]  # fmt: skip
JOINS = ["join", "left join", "right join", "full join"]


def aggregate(of: Expressions) -> str:
    """An aggregate call over safe expressions. Sums are over values small enough to be exact in any order."""
    return of.fill(of.pick(*AGGREGATES), 1)


def named(expressions: list[str]) -> str:
    return ", ".join(f"{expression} as c{n}" for n, expression in enumerate(expressions))


def several(draw: Draw, least: int, most: int, make: Callable[[], str]) -> list[str]:
    return [make() for _ in range(draw(st.integers(least, most)))]


def where(of: Expressions) -> str:
    return "" if of.pick("yes", "yes", "no") == "no" else f" where {of.of('bool', 2)}"


def projection(draw: Draw) -> str:
    """Expressions that may fail, without a filter: whether a removed row fails is nobody's promise."""
    of = Expressions(draw, risky=True)
    return f"select {named(several(draw, 1, 3, of.any))} from t"


def filtered(draw: Draw) -> str:
    of = Expressions(draw)
    distinct = of.pick("", "", "distinct ")
    return f"select {distinct}{named(several(draw, 1, 4, of.any))} from t{where(of)}"


def ordered(draw: Draw) -> str:
    """All columns are sort keys, so a LIMIT picks determined rows."""
    of = Expressions(draw)
    items = several(draw, 1, 3, lambda: of.any(1))
    keys = [f"{n + 1} {of.pick('asc', 'desc')} {of.pick('nulls first', 'nulls last')}" for n in range(len(items))]
    limit = of.pick("", " limit 3", " limit 2 offset 1", " limit 0", " offset 2")
    return f"select {named(items)} from t{where(of)} order by {', '.join(keys)}{limit}"


def on(of: Expressions) -> str:
    """A join condition: equal keys, more keys, other terms, or no equality at all."""
    family = of.pick("int", "dec", "str", "date", "bool", "edge")
    columns = FAMILIES[family]
    equal = of.pick(
        "a.k = b.k", "a.k = b.k", f"a.{of.pick(*columns)} = b.{of.pick(*columns)}", "a.k is not distinct from b.k"
    )
    more = of.pick("", "", f" and a.{columns[0]} = b.{columns[0]}", f" and {of.of('bool', 1)}", " and a.i < b.i")
    return of.pick(equal + more, equal + more, equal + more, "a.k < b.k", "a.k + 1 = b.k", f"{of.of('bool', 1)}")


def joined(draw: Draw) -> str:
    of = Expressions(draw, ("a", "b"))
    right = of.pick("u", "u", "t", "(select * from u where k > 0)", "(select distinct * from u)")
    items = several(draw, 1, 3, lambda: of.any(1))
    return f"select {named(items)} from t a {of.pick(*JOINS)} {right} b on {on(of)}{where(of)}"


def semi(draw: Draw) -> str:
    of, inner, both = Expressions(draw), Expressions(draw, ("u",)), Expressions(draw, ("t", "u"))
    column = of.pick("k", "i", "s", "y", "d")
    negation = of.pick("", "not ")
    condition = of.pick(f"t.{column} = u.{column}", f"t.{column} = u.{column} and {both.of('bool', 1)}", "t.k < u.k")
    test = of.pick(
        f"{negation}exists (select 1 from u where {condition})",
        f"t.{column} {negation}in (select u.{column} from u{where(inner)})",
        f"t.{column} {negation}in (select u.{column} from u where {condition})",
        f"t.k {of.pick(*COMPARISONS[:6])} (select {inner.pick('min', 'max', 'count')}(u.k) from u where {condition})",
    )
    extra = of.pick("", f" and {of.of('bool', 1)}", f" or {of.of('bool', 1)}")
    if of.pick("filter", "filter", "value") == "value":
        return f"select t.k, t.{column} as x, {test} as found from t"
    return f"select t.k, t.{column} as x from t where {test}{extra}"


def scalar(draw: Draw) -> str:
    of, inner = Expressions(draw), Expressions(draw, ("u",))
    condition = of.pick("", " where u.k = t.k", " where u.u = t.u and u.k <= t.k", " where u.i > t.i")
    return f"select t.k, {of.any(1)} as x, (select {aggregate(inner)} from u{condition}) as v from t"


def grouped(draw: Draw) -> str:
    of = Expressions(draw)
    keys = several(draw, 0, 3, lambda: of.pick("t.k", "t.u", "t.s", "t.o", "t.y", "t.d", "t.g", of.any(1)))
    items = keys + several(draw, 1, 3, lambda: aggregate(of))
    group = f" group by {', '.join(str(n + 1) for n in range(len(keys)))}" if keys else ""
    having = of.pick("", "", " having count(*) > 1", " having min(t.k) is not null", " having sum(t.k) >= 1")
    return f"select {named(items)} from t{where(of)}{group}{having}"


def joined_groups(draw: Draw) -> str:
    of = Expressions(draw, ("a", "b"))
    key = of.pick("a.k", "b.u", "a.s", "b.y")
    return f"select {key} as c, {named([aggregate(of)])} from t a {of.pick(*JOINS)} u b on {on(of)} group by {key}"


def window(draw: Draw) -> str:
    """Functions for which rows that tie are alike."""
    of = Expressions(draw)
    partition = of.pick(
        "", "partition by t.k ", "partition by t.u ", "partition by t.k, t.o ", f"partition by {of.any(1)} "
    )
    key, direction, nulls = of.pick("i", "s", "d", "y", "g", "k"), of.pick("", "desc "), of.pick("first", "last")
    order = f"order by t.{key} {direction}nulls {nulls}"
    call = of.pick(
        "rank()", "dense_rank()", "count(*)", "sum(t.k)", "min(t.s)", "max(t.d)", "count(t.i)", "avg(t.h)", "sum(t.d)"
    )
    shape = of.pick("running", "running", "whole")
    over = f"{partition}{order}" if shape == "running" or "rank" in call else partition.strip()
    return f"select t.k, t.i, t.s, t.d, t.y, t.g, {call} over ({over}) as v from t{where(of)}"


def numbered(draw: Draw) -> str:
    """row_number, lag and lead over rows made distinct first, so that their order is decided."""
    of = Expressions(draw)
    call = of.pick(
        "row_number()", "lag(i)", "lead(i)", "lag(i, 2, 0)", "first_value(k)", "lead(k, 1)", "last_value(i)", "sum(k)"
    )
    partition = of.pick("", "partition by k ", "partition by k % 2 ")
    over = f"{partition}order by k nulls first, i nulls last"
    return f"select *, {call} over ({over}) as v from (select distinct k, i from t) x"


def set_operation(draw: Draw) -> str:
    left, right = Expressions(draw), Expressions(draw, ("u",))
    families = [left.pick("int", "dec", "str", "date", "bool", "edge") for _ in range(int(left.pick("1", "2")))]
    operator = left.pick("union", "union all", "intersect", "except", "intersect all", "except all")
    parts = [
        f"select {named([of.of(family, 1) for family in families])} from {table}{where(of)}"
        for of, table in ((left, "t"), (right, "u"))
    ]
    return f" {operator} ".join(parts)


def nested(draw: Draw) -> str:
    of = Expressions(draw, ("x",))
    inner = of.pick(
        "select * from t",
        "select * from t where k > 0",
        "select distinct * from u",
        "select * from t union all select * from u",
    )
    style = of.pick("from", "with")
    body = f"select {named(several(draw, 1, 2, lambda: of.any(1)))} from"
    if style == "with":
        return f"with x as ({inner}) {body} x{where(of)}"
    return f"{body} ({inner}) x{where(of)}"


SHAPES: list[Callable[[Draw], str]] = [
    projection, filtered, filtered, ordered, joined, joined, semi, scalar, grouped, grouped, joined_groups, window,
    numbered, set_operation, nested,
]  # fmt: skip


@st.composite
def queries(draw: Draw) -> str:
    return str(draw(st.sampled_from(SHAPES))(draw))


@st.composite
def partitions(draw: Draw) -> tuple[str, str]:
    """A query without WHERE, and a predicate over its tables."""
    shape = draw(st.sampled_from(["table", "join", "distinct", "outer"]))
    if shape in ("join", "outer"):
        of = Expressions(draw, ("a", "b"))
        kind = "join" if shape == "join" else of.pick(*JOINS[1:])
        return f"select a.k, a.s, a.d, b.i, b.y from t a {kind} u b on a.k = b.k", of.of("bool", 2)
    of = Expressions(draw)
    source = "t" if shape == "table" else "(select distinct k, i, h, b, d, e, f, g, s, u, y, z, o from t) t"
    return f"select t.k, t.i, t.s, t.d, t.g, t.y from {source}", of.of("bool", 3)
