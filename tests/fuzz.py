"""Random tables and random queries from a seed, answered by FineQuery and by DuckDB.

``python tests/fuzz.py FIRST COUNT [THREADS]`` runs the cases of COUNT seeds in this process and prints what differs;
tests/test_fuzz.py runs it in a process of its own, so that a crash is a failed test with the query in its log.

A case is a catalog of three tables, some queries with parameters, each run twice with every set of values (so that
plans and programs of earlier runs are used with other build sides), and then the same queries over tables replaced.
Where tests/generate.py is about expressions, this is about what joins, groups, sorts and set operations do with the
shapes of their inputs: sizes from nothing to several morsels, keys of every range and repetition.
"""

from __future__ import annotations

import faulthandler
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
for folder in (ROOT, ROOT / "tests"):
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))

SIZES = [0, 1, 3, 70, 70, 300, 1500, 5000]
LARGE = 270_000
#: Rows of a join, by DuckDB's count, beyond which another join is drawn.
MOST_JOINED = 1_000_000
#: Rows of an answer beyond which it is compared by aggregates over it.
MOST_SHOWN = 3_000
QUERIES = 8
#: At most this share may be refused as not supported.
MOST_REFUSED = 0.08
#: Parameters are bound to each of these: some filters let nothing pass, some all.
BINDINGS = ([3, 40], [10**6, -(10**6)], [-(10**6), 10**6])

#: Families of columns that compare with each other; sums are exact in every order for those without "edge".
COLUMNS = {
    "k": "int", "u": "int", "n": "int", "w": "big", "ti": "int", "si": "int", "ii": "big", "ut": "int", "us": "int",
    "ui": "big", "ub": "big", "hi": "huge", "f": "flt", "d": "flt", "e": "edge", "d1": "dec", "d2": "dec",
    "d3": "dec", "d4": "dec", "dt": "date", "ts": "time", "iv": "span", "s1": "str", "s2": "str", "s3": "str",
    "bo": "bool", "xb": "big",
}  # fmt: skip
NUMBERS = ("int", "int", "big", "dec", "flt", "huge")
KEYS = [
    "k",
    "k",
    "u",
    "u",
    "n",
    "w",
    "s1",
    "s2",
    "si",
    "dt",
    "d2",
    "ii",
    "hi",
    "d4",
    "e",
    "s3",
    "ts",
    "ub",
    "f",
    "bo",
    "xb",
]
WEIRD = ["", " ", "a", "A", "ab", "a%b", "é", "日本語", "x" * 12, "y" * 13, "z" * 300, "0", "-1", "1.5", "NULL", "ß"]
WORDS = ["red", "green", "blue", "ünicode", "", "red "]


# --- tables -----------------------------------------------------------------------------------------------------------


def make_table(rng: random.Random, rows: int) -> Any:
    """An Arrow table of all COLUMNS, and the types to store them as."""
    import pyarrow as pa

    def several(choices: list[Any]) -> list[Any]:
        return rng.choices(choices, k=rows)

    spread = rng.choice([2, 7, max(rows // 4, 1), max(rows, 1)])
    start = rng.choice([0, 1, -50, 10**5])
    step = rng.choice([1, 1, 2, 1000, 10**6])
    unique = [start + step * i for i in range(rows)]
    kinds = [kind for kind, most in (("smallint", 2**15), ("integer", 2**31)) if (abs(start) + step * rows) < most]
    negative = list(range(-(rows // 2), rows - rows // 2))
    rng.shuffle(negative)
    if rng.random() < 0.3:
        rng.shuffle(unique)
    many = [f"name-{rng.randrange(max(rows, 1)):06d}{'é' if i % 50 == 0 else ''}" for i in range(rows)]
    day = date(1970, 1, 1)
    days = rng.choice([20, 700, 40000])
    edges = [0.0, -0.0, float("nan"), float("inf"), float("-inf"), 0.1, -1e-300, 1e300, 2.5]
    data: dict[str, tuple[list[Any], Any, str]] = {
        "k": (several(list(range(-2, spread))), pa.int64(), rng.choice(["integer", "bigint", "integer"])),
        "u": (unique, pa.int64(), rng.choice([*kinds, "bigint"])),
        "n": (negative, pa.int64(), "integer"),
        "w": ([rng.randrange(-(2**40), 2**40) for _ in range(rows)], pa.int64(), "bigint"),
        "ti": (several(list(range(-128, 128))), pa.int64(), "tinyint"),
        "si": (several([-32768, 32767, *range(-9, 90)]), pa.int64(), "smallint"),
        "ii": (several([-(2**31), 2**31 - 1, *range(-3, 30)]), pa.int64(), "integer"),
        "ut": (several(list(range(256))), pa.int64(), "utinyint"),
        "us": (several([0, 65535, *range(500)]), pa.int64(), "usmallint"),
        "ui": (several([0, 2**32 - 1, 1, 2, 3]), pa.int64(), "uinteger"),
        "ub": (several([0, 2**64 - 1, 2**63, 1, 2, 3]), pa.uint64(), "ubigint"),
        "hi": (several([Decimal(0), Decimal(10**27), Decimal(-(10**27)), *map(Decimal, range(9))]),
               pa.decimal128(38, 0), "hugeint"),
        "f": (several([n / 4 for n in range(-20, 20)]), pa.float64(), "float"),
        "d": (several([n / 4 for n in range(-400, 400)]), pa.float64(), "double"),
        "e": (several(edges), pa.float64(), "double"),
        "d1": (several([Decimal(n).scaleb(-1) for n in range(-99, 99)]), pa.decimal128(4, 1), "decimal(4, 1)"),
        "d2": (several([Decimal(n).scaleb(-2) for n in [*range(-300, 300, 50), 10**8]]), pa.decimal128(11, 2),
               "decimal(11, 2)"),
        "d3": (several([Decimal(n).scaleb(-3) for n in [*range(-9, 9), 10**17, -(10**17)]]), pa.decimal128(18, 3),
               "decimal(18, 3)"),
        "d4": (several([Decimal(n).scaleb(-10) for n in [*range(-9, 9), 10**33, -(10**33)]]), pa.decimal128(38, 10),
               "decimal(38, 10)"),
        "dt": ([day + timedelta(days=rng.randrange(-days, days)) for _ in range(rows)], pa.date32(), "date"),
        "ts": ([datetime(1970, 1, 1) + timedelta(rng.randrange(-days, days), 0, rng.choice([0, 1, 10**9]))
                for _ in range(rows)], pa.timestamp("us"), "timestamp"),
        "iv": (several([(0, 0, 0), (1, 0, 0), (0, 30, 0), (0, -1, 5), (0, 1, 10**9), (-14, 3, 0)]),
               pa.month_day_nano_interval(), "interval"),
        "s1": (several(WORDS[: rng.choice([1, 2, 6])]), pa.string(), "varchar"),
        "s2": (many, pa.string(), "varchar"),
        "s3": (several(WEIRD), pa.string(), "varchar"),
        "bo": (several([True, False]), pa.bool_(), "boolean"),
        "xb": (several([0, 1, -1, 2**62, 2**63 - 1, -(2**63), *range(2**61, 2**61 + 9)]), pa.int64(), "bigint"),
    }  # fmt: skip
    arrays, casts = [], []
    for name, (values, kind, type_) in data.items():
        share = rng.choice([0, 0, 0, 0.1, 0.5, 1]) if name != "u" else 0
        if share and rng.random() < 0.8:
            values = [None if rng.random() < share else value for value in values]
        arrays.append(pa.array(values, type=kind))
        casts.append(f"{name}::{type_} as {name}")
    return pa.table(dict(zip(COLUMNS, arrays))), f"select {', '.join(casts)} from fuzz_source"


def load_tables(rng: random.Random, con: Any, duck: Any, big: bool, folder: str) -> dict[str, int]:
    """Tables a, b and c in both engines, and the last as a Parquet file too; rows by name."""
    sizes = {name: rng.choice(SIZES) for name in "abc"}
    if big:
        sizes[rng.choice("abc")] = LARGE
    for name, rows in sizes.items():
        table, select = make_table(rng, rows)
        for engine in (con, duck):
            engine.register("fuzz_source", table)
            engine.execute(f"create or replace table {name} as {select}")
            engine.unregister("fuzz_source")
    path = f"{folder}/c.parquet"  # without what Parquet has no form for
    groups = rng.choice([2048, 100_000])
    duck.execute(
        f"copy (select * exclude (iv) replace (hi::decimal(38, 0) as hi) from c) to '{path}' (row_group_size {groups})"
    )
    columns = ", ".join("null::interval as iv" if name == "iv" else name for name in COLUMNS)
    return {**sizes, f"(select {columns} from '{path}')": sizes["c"]}


# --- expressions ------------------------------------------------------------------------------------------------------

Scope = list[tuple[str, str]]  # column as written, family

LITERALS: dict[str, Callable[[random.Random], str]] = {
    "int": lambda r: str(r.choice([0, 1, 2, 3, 7, 40, 100, 1000])),
    "big": lambda r: str(r.choice([0, 1, 2**31, 2**40, 5_000_000_000])),
    "huge": lambda r: f"{r.choice([0, 1, 10**27, 7])}::hugeint",
    "dec": lambda r: r.choice(["0.5", "1.50", "0.00", "99.9", "12345678.123"]),
    "flt": lambda r: f"{r.choice([0.25, 1.0, 2.5, 60.0])}::double",
    "edge": lambda r: f"'{r.choice(['nan', 'inf', '0.0', '2.5'])}'::double",
    "date": lambda r: f"date '{r.choice(['1970-01-01', '1969-12-25', '1999-12-31', '1970-01-07'])}'",
    "time": lambda r: f"timestamp '{r.choice(['1970-01-01 00:00:00', '1969-12-31 23:00:01.5', '2000-01-01'])}'",
    "span": lambda r: f"interval '{r.choice(['1 month', '30 days', '2 hours'])}'",
    "str": lambda r: "'" + r.choice([*WEIRD[:9], *WORDS, "name-000003"]) + "'",
    "bool": lambda r: r.choice(["true", "false"]),
}
#: Safe shapes: nothing here overflows or fails on any row.
SHAPES: dict[str, list[str]] = {
    "int": ["({int}::bigint + 1)", "({int}::bigint * 3)", "length({str})", "extract(year from {date})", "({int} % 7)",
            "abs({int}::bigint)", "extract(month from {time})", "(- {int}::bigint)", "strpos({str}, 'a')"],
    "big": ["({int}::bigint * 1000003)", "({w} + 1)", "({w} - {int})"],
    "huge": ["{big}::hugeint", "({int}::hugeint + {int})"],
    "dec": ["({d1} + {int}::decimal(9, 0))", "({d1} * 2)", "round({d2}, 1)", "({d1} + {d2})", "abs({dec})"],
    "flt": ["({flt} + 0.5)", "({flt} * 2)", "{int}::double", "abs({flt})", "floor({flt})", "({int} / 4)"],
    "edge": ["(- {edge})", "abs({edge})"],
    "date": ["({date} + 1)", "({date} - 40)", "date_trunc('month', {date})::date", "{time}::date",
             "last_day({date})", "greatest({date}, {date})"],
    "time": ["({time} + interval 1 day)", "date_trunc('hour', {time})", "{date}::timestamp"],
    "span": ["({span} + interval 1 day)"],
    "str": ["upper({str})", "substr({str}, 2, 3)", "({str} || 'x')", "({str} || {str})", "left({str}, 2)",
            "replace({str}, 'a', 'bb')", "{int}::varchar", "{date}::varchar", "trim({str})", "right({str}, 1)",
            "concat({str}, '-', {int})", "reverse({str})", "lpad({str}, 4, '*')",
            "split_part({str}, '-', 2)", "strftime({date}, '%Y-%m')", "{dec}::varchar", "least({str}, {str})"],
    "bool": ["({bool} and {bool})", "({bool} or {bool})", "(not {bool})", "({int} > {int})", "({str} like '%a%')",
             "starts_with({str}, 'na')", "contains({str}, 'e')", "regexp_matches({str}, '^[a-n].*[0-9e]$')"],
}  # fmt: skip
PATTERNS = ["'%a%'", "'name-0000%'", "'%'", "''", "'_'", "'%本%'", "'re%'", "'%e'", "'n%-%5'"]
COMPARISONS = ["=", "<>", "<", "<=", ">", ">=", "is distinct from", "is not distinct from"]


class Drawer:
    """Draws expressions, sources and queries from a seeded generator."""

    def __init__(self, rng: random.Random, tables: dict[str, int], size_of: Callable[[str], int]):
        self.rng, self.tables, self.size_of = rng, tables, size_of
        self.big = max(tables.values()) > 10_000  # joins then need an equality, or every pair is looked at
        self.named = 0

    def pick(self, *options: Any) -> Any:
        return self.rng.choice(options)

    def chance(self, share: float) -> bool:
        return self.rng.random() < share

    def name(self) -> str:
        self.named += 1
        return f"x{self.named}"

    def column(self, scope: Scope, family: str) -> str | None:
        found = [column for column, kind in scope if kind == family]
        return self.rng.choice(found) if found else None

    def of(self, scope: Scope, family: str, depth: int = 1) -> str:
        """An expression of a family."""
        if depth <= 0 or self.chance(0.4):
            column = self.column(scope, family)
            return column if column is not None and self.chance(0.9) else LITERALS[family](self.rng)
        draw = self.rng.random()
        if draw < 0.15:
            test = self.predicate(scope, 0)
            return f"case when {test} then {self.of(scope, family, depth - 1)} else {self.of(scope, family, 0)} end"
        if draw < 0.2:
            return f"case when {self.predicate(scope, 0)} then {self.of(scope, family, depth - 1)} end"
        if draw < 0.3:
            return f"coalesce({self.of(scope, family, depth - 1)}, {self.of(scope, family, 0)})"
        if draw < 0.35:
            return f"nullif({self.of(scope, family, depth - 1)}, {self.of(scope, family, 0)})"
        return self.fill(scope, self.rng.choice(SHAPES[family]), depth - 1)

    def fill(self, scope: Scope, shape: str, depth: int) -> str:
        text = ""
        while "{" in shape:
            before, _, rest = shape.partition("{")
            name, _, shape = rest.partition("}")
            text += before
            if name in COLUMNS:  # one column of that name: its range is what makes the shape safe
                found = [column for column, _ in scope if column.split(".")[-1] == name]
                text += self.rng.choice(found) if found else "1"
            else:
                text += self.of(scope, name, depth)
        return text + shape

    def family(self, scope: Scope) -> str:
        return self.rng.choice(scope)[1]

    def predicate(self, scope: Scope, depth: int = 1) -> str:
        draw = self.rng.random()
        family = self.family(scope)
        if depth > 0 and draw < 0.25:
            parts = [self.predicate(scope, depth - 1) for _ in range(self.pick(2, 2, 3))]
            return "(" + self.pick(" and ", " or ").join(parts) + ")"
        if depth > 0 and draw < 0.3:
            return f"(not {self.predicate(scope, depth - 1)})"
        left = self.column(scope, family) if depth == 0 else self.of(scope, family)
        if draw < 0.4:
            return f"({left} is {self.pick('', 'not ')}null)"
        if draw < 0.5 and family != "span":
            values = [LITERALS[family](self.rng) for _ in range(self.pick(1, 3, 6))] + ["null"] * self.chance(0.1)
            return f"({left} {self.pick('', 'not ')}in ({', '.join(values)}))"
        if draw < 0.55 and family not in ("bool", "span"):
            return f"({left} between {LITERALS[family](self.rng)} and {self.of(scope, family, 0)})"
        if draw < 0.75:
            text = self.column(scope, "str")
            if text and self.chance(0.4):
                return f"({text} {self.pick('', 'not ')}{self.pick('like', 'like', 'ilike')} {self.pick(*PATTERNS)})"
            number = self.column(scope, "int")
            if number:
                return f"({number} {self.pick(*COMPARISONS[:6])} {self.pick('$few', '$few', '$many')}::integer)"
        if family in NUMBERS and self.chance(0.2):
            return f"({left} {self.pick(*COMPARISONS)} {self.of(scope, self.pick(*NUMBERS), 0)})"
        return f"({left} {self.pick(*COMPARISONS)} {self.of(scope, family, 0)})"

    # --- sources ------------------------------------------------------------------------------------------------------

    def table(self, alias: str) -> tuple[str, Scope]:
        """A table, or a subquery over one: rows may be gone only when it runs."""
        base = self.pick(*self.tables)
        columns = [(f"{alias}.{name}", family) for name, family in COLUMNS.items()]
        inner = list(COLUMNS.items())
        draw = self.rng.random()
        if draw < 0.55:
            return f"{base} {alias}", columns
        if draw < 0.65:
            nothing = self.pick(
                "k % 7 = 9", "s2 like '%zzz%'", "length(s3) > 1000", "ti > ut + 300", "u < $many::integer"
            )
            return f"(select * from {base} where {nothing}) {alias}", columns
        if draw < 0.8:
            return f"(select * from {base} where {self.predicate(inner)}) {alias}", columns
        if draw < 0.85:
            return (
                f"(select * from {base} order by u {self.pick('', 'desc ')}limit {self.pick(0, 1, 5, 60)}) {alias}",
                columns,
            )
        if draw < 0.88:
            other = self.pick(*(t for t in self.tables if (len(t) > 1) == (len(base) > 1)))
            parts = [f"select * from {t} where {self.predicate(inner, 0)}" for t in (base, other)]
            return f"({' union all '.join(parts)}) {alias}", columns
        if draw < 0.92:
            keys = self.rng.sample([c for c in COLUMNS if COLUMNS[c] not in ("span", "edge")], self.pick(1, 2))
            scope = [(f"{alias}.{key}", COLUMNS[key]) for key in keys]
            return f"(select distinct {', '.join(keys)} from {base}) {alias}", scope
        key = self.pick("k", "s1", "si", "dt", "s2", "u")
        scope = [
            (f"{alias}.{key}", COLUMNS[key]),
            (f"{alias}.cn", "int"),
            (f"{alias}.mx", "str"),
            (f"{alias}.d", "flt"),
        ]
        text = f"select {key}, count(*) as cn, max(s2) as mx, sum(d) as d from {base}"
        return f"({text} where {self.predicate(inner, 0)} group by {key}) {alias}", scope

    def condition(self, left: Scope, right: Scope) -> str:
        """What joins two sides: one to three equal keys, of like or unlike types, and perhaps more."""
        terms = []
        if self.big:
            name = self.pick("k", "u", "n", "w", "s2", "dt")
            sides = [[c for c, _ in side if c.endswith("." + name)] for side in (left, right)]
            if not all(sides):
                return "false"
            terms.append(f"{sides[0][0]} = {sides[1][0]}")
        for _ in range(self.pick(1, 1, 1, 2, 2, 3)):
            name = self.pick(*KEYS)
            mine = next((c for c, _ in left if c.endswith("." + name)), None)
            other = next((c for c, _ in right if c.endswith("." + name)), None)
            if mine is None or other is None or self.chance(0.25):
                family = self.rng.choice(right)[1]
                if family == "span":
                    continue
                other = self.of(right, family, self.pick(0, 0, 1))
                if family in NUMBERS and self.chance(0.5):
                    family = self.pick(*NUMBERS)
                mine = self.of(left, family, self.pick(0, 0, 1))
            terms.append(f"{mine} {self.pick('=', '=', '=', '=', '=', 'is not distinct from')} {other}")
        if not terms or self.chance(0.15):
            terms.append(self.predicate(left + right, 0))
        if self.chance(0.1):
            terms.append(f"{self.of(left, 'int', 0)} < {self.of(right, 'int', 0)}")
        return " and ".join(terms)

    def sources(self) -> tuple[str, Scope]:
        """A FROM clause of one to three tables, not too large by DuckDB's count."""
        for _ in range(20):
            text, scope = self.table(self.name())
            for _ in range(self.pick(0, 1, 1, 1, 2)):
                other, columns = self.table(self.name())
                kinds = ["join", "left join", "right join", "full join", "using", "semi", "anti"]
                kind = self.pick(*kinds, *([] if self.big else ["cross", "non-equal"]))
                if kind in ("semi", "anti"):
                    text += f" {kind} join {other} on {self.condition(scope, columns)}"
                    continue
                if kind == "cross":
                    text += f" cross join {other}"
                elif kind == "non-equal":
                    text += f" {self.pick('join', 'left join')} {other} on {self.predicate(scope + columns, 0)}"
                elif kind == "using" and len(scope) == len(columns) == len(COLUMNS):
                    keys = self.rng.sample(["k", "u", "s1", "s2", "si", "n"], self.pick(1, 1, 2))
                    text += f" {self.pick('join', 'left join')} {other} using ({', '.join(keys)})"
                else:
                    kind = kind if kind.endswith("join") else "join"
                    text += f" {kind} {other} on {self.condition(scope, columns)}"
                scope = scope + columns
                if self.size_of(text) > MOST_JOINED:
                    break
            if self.size_of(text) <= MOST_JOINED:
                return text, scope
        return "a", [(f"a.{name}", family) for name, family in COLUMNS.items()]

    # --- queries ------------------------------------------------------------------------------------------------------

    def subquery_test(self, scope: Scope) -> str:
        """IN, EXISTS and comparisons with subqueries, correlated or not."""
        alias = self.name()
        source, inner = self.table(alias)
        key = self.rng.choice([c for c, family in inner if family not in ("span",)])
        family = dict(inner)[key]
        mine = self.column(scope, family) or LITERALS[family](self.rng)
        filtered = f" where {self.predicate(inner, 0)}" if self.chance(0.4) else ""
        equal = f"{mine} = {key}" + (f" and {self.predicate(scope + inner, 0)}" if self.chance(0.3) else "")
        other = self.column(scope, "int") or "1"
        if self.big:
            filtered, equal = "", f"{mine} = {key}"
        link = self.column(inner, "int")
        linked = f" where {link} = {other}" if link else ""
        choices = [
            f"{mine} {self.pick('', 'not ')}in (select {key} from {source}{filtered})",
            f"{mine} {self.pick('', 'not ')}in (select {key} from {source}{linked})",
            f"{self.pick('', 'not ')}exists (select 1 from {source} where {equal})",
            f"{self.pick('', 'not ')}exists (select 1 from {source}{filtered})",
            f"{mine} {self.pick(*COMPARISONS[:6])} (select {self.pick('min', 'max')}({key}) from {source}{filtered})",
            f"{other} {self.pick(*COMPARISONS[:6])} (select count(*) from {source}{linked})",
            f"{mine} {self.pick(*COMPARISONS[:6])} (select {self.pick('min', 'max')}({key}) from {source}{linked})",
        ]
        return f"({self.pick(*choices)})"

    def where(self, scope: Scope) -> str:
        terms = []
        if self.chance(0.5):
            terms.append(self.predicate(scope))
        if self.chance(0.25):
            terms.append(self.subquery_test(scope))
        if not terms:
            return ""
        return " where " + self.pick(" and ", " and ", " or ").join(terms)

    def aggregate(self, scope: Scope) -> tuple[str, str]:
        """A call and the family of what it gives."""
        family = self.family(scope)
        column = self.of(scope, family, self.pick(0, 0, 1))
        exact = self.pick("int", "int", "big", "dec", "flt")
        number = self.of(scope, exact, self.pick(0, 0, 1))
        call, result = self.pick(
            ("count(*)", "int"),
            (f"count({column})", "int"),
            (f"count(distinct {column})", "int"),
            (f"min({column})", family),
            (f"max({column})", family),
            (f"sum({number})", {"int": "huge", "big": "huge"}.get(exact, exact)),
            (f"avg({number})", "edge"),
            (f"sum(distinct {self.of(scope, 'int', 0)})", "huge"),
            (f"bool_and({self.predicate(scope, 0)})", "bool"),
            (f"stddev_samp({self.of(scope, 'int', 0)})", "edge"),
            (f"bool_or({self.predicate(scope, 0)})", "bool"),
        )
        if self.chance(0.15):
            call += f" filter (where {self.predicate(scope, 0)})"
        return call, result

    def block(self, families: list[str] | None = None) -> tuple[str, list[str]]:
        """A SELECT, and the families of its columns (those asked for, if any)."""
        source, scope = self.sources()
        where = self.where(scope)
        shape = self.pick("plain", "plain", "groups", "groups", "groups", "total", "distinct", "window", "scalar")
        if families is not None:
            items = [self.of(scope, family) for family in families]
            return f"select {self.pick('', '', 'distinct ')}{named(items)} from {source}{where}", families
        kinds = [self.family(scope) for _ in range(self.pick(1, 2, 3, 4))]
        if shape in ("plain", "distinct"):
            items = [self.of(scope, kind) for kind in kinds]
            if self.chance(0.2):
                items[-1], kinds[-1] = self.subquery_test(scope), "bool"
            return f"select {'distinct ' if shape == 'distinct' else ''}{named(items)} from {source}{where}", kinds
        if shape == "scalar":
            items = [self.of(scope, kind, 0) for kind in kinds]
            alias = self.name()
            other, inner = self.table(alias)
            call, kind = self.aggregate(inner)
            link = self.column(inner, "int")
            linked = f" where {link} = {self.column(scope, 'int') or 1}" if link and self.chance(0.7) else ""
            return f"select {named([*items, f'(select {call} from {other}{linked})'])} from {source}{where}", [
                *kinds,
                kind,
            ]
        if shape == "window":
            kinds = kinds[:2]
            items = [self.of(scope, kind, 0) for kind in kinds]
            order, split = self.of(scope, self.family(scope), 0), self.of(scope, self.family(scope), 0)
            call, kind = self.pick(
                ("rank()", "int"), ("dense_rank()", "int"), ("count(*)", "int"),
                (f"sum({self.of(scope, 'int', 0)})", "huge"), (f"min({self.of(scope, 'str', 0)})", "str"),
                (f"max({self.of(scope, 'dec', 0)})", "dec"), (f"count({self.of(scope, 'date', 0)})", "int"),
                (f"avg({self.of(scope, 'int', 0)})", "edge"),
            )  # fmt: skip
            ordering = f"order by {order} {self.pick('', 'desc ')}nulls {self.pick('first', 'last')}"
            over = self.pick(f"partition by {split}", f"partition by {split} {ordering}", ordering)
            if "rank" in call and "order" not in over:
                over = ordering
            return f"select {named([*items, f'{call} over ({over})'])} from {source}{where}", [*kinds, kind]
        calls = [self.aggregate(scope) for _ in range(self.pick(1, 2, 3))]
        keys = [] if shape == "total" else [self.of(scope, kind) for kind in kinds]
        items = keys + [call for call, _ in calls]
        text = f"select {named(items)} from {source}{where}"
        if keys:
            text += f" group by {', '.join(str(n + 1) for n in range(len(keys)))}"
            if self.chance(0.2):
                text += (
                    f" having {self.pick('count(*) > 1', f'{calls[0][0]} is not null', 'count(*) < $many::integer')}"
                )
        return text, [*(kinds if keys else []), *(kind for _, kind in calls)]

    def numbered(self) -> tuple[str, list[str]]:
        """Functions of rows in an order that is decided: by the unique column of one table."""
        base, alias = self.pick(*self.tables), self.name()
        scope = [(f"{alias}.{name}", family) for name, family in COLUMNS.items()]
        kind = self.family(scope)
        value, split = self.of(scope, kind, 0), self.of(scope, self.family(scope), 0)
        call, family = self.pick(
            ("row_number()", "int"), (f"lag({value})", kind), (f"lead({value}, 2)", kind),
            (f"first_value({value})", kind), (f"last_value({value})", kind),
            (f"sum({self.of(scope, 'int', 0)})", "huge"), (f"max({value})", kind),
        )  # fmt: skip
        over = f"{self.pick('', f'partition by {split} ')}order by {alias}.u {self.pick('', 'desc')}"
        text = f"select {alias}.u as c0, {call} over ({over}) as c1 from {base} {alias}{self.where(scope)}"
        if self.chance(0.3):
            text += f" qualify row_number() over ({over}) {self.pick('= 1', '<= 3', '> 5')}"
        return text, ["int", family]

    def query(self) -> str:
        draw = self.rng.random()
        prefix = ""
        if draw < 0.15:
            left, families = self.block()
            right, _ = self.block(families)
            word = self.pick("union", "union all", "intersect", "except", "intersect all", "except all")
            text = f"{left} {word} {right}"
        elif draw < 0.25:
            inner, families = self.block()
            prefix = f"with v as ({inner}) "
            key = self.rng.randrange(len(families))
            values = f"(select distinct c{key} from v)"
            text = self.pick(
                "select * from v union all select * from v",
                f"select p.* from v p where p.c{key} in (select c{key} from v where c0 is not null)",
                f"select count(*) as c0, count(p.c{key}) as c1, max(q.c{key}) as c2 from {values} p "
                f"{self.pick('join', 'left join', 'full join')} {values} q on p.c{key} = q.c{key}",
                "select * from v except select * from v where c0 is null",
            )
            if families[key] == "span":
                text = "select * from v union all select * from v"
            families = ["int", "int", families[key]] if text.startswith("select count") else families
        elif draw < 0.35:
            inner, families = self.block()
            scope = [(f"y.c{n}", family) for n, family in enumerate(families)]
            text = f"select {named([self.of(scope, f) for f in families])} from ({inner}) y{self.where(scope)}"
        else:
            text, families = self.numbered() if draw < 0.4 else self.block()
        if self.size_of(f"({prefix}{text}) y") > MOST_SHOWN:
            items = ["count(*)"]
            for n, family in enumerate(families):
                items += [f"count(y.c{n})", f"min(y.c{n})", f"max(y.c{n})"]
                items += [f"count(distinct y.c{n})"] if family != "span" else []
            if self.chance(0.5):  # the first of many rows, all columns keys of the order
                return f"{prefix}select * from ({text}) y {self.order(families)} limit {self.pick(1, 10, 500)}"
            return f"{prefix}select {named(items)} from ({text}) y"
        if self.chance(0.3):
            limit = self.pick("", "", " limit 0", " limit 1", " limit 7", " limit 5 offset 2", " offset 3")
            text = f"select * from ({text}) y {self.order(families)}{limit}"
        return prefix + text

    def order(self, families: list[str]) -> str:
        """All columns as keys: the order of the rows is decided."""
        numbers = self.rng.sample(range(len(families)), len(families))
        keys = [f"{n + 1} {self.pick('asc', 'desc')} nulls {self.pick('first', 'last')}" for n in numbers]
        return f"order by {', '.join(keys)}"


def named(items: list[str]) -> str:
    return ", ".join(f"{item} as c{n}" for n, item in enumerate(items))


# --- comparing --------------------------------------------------------------------------------------------------------


def used(sql: str, values: list[int]) -> dict[str, int] | None:
    """The values of the parameters that the text has."""
    found = {name: value for name, value in zip(("few", "many"), values) if f"${name}" in sql}
    return found or None


class Case:
    """The tables and queries of a seed, in both engines."""

    def __init__(self, seed: int, threads: int, log: Callable[[str], None]):
        import duckdb

        import finequery

        self.seed, self.log = seed, log
        self.rng = random.Random(seed)
        self.folder = tempfile.TemporaryDirectory()
        self.con = finequery.connect(threads=threads)
        self.duck = duckdb.connect(config={"threads": 1})
        self.duck.execute("set timezone = 'UTC'")
        self.outcomes: Counter[str] = Counter()
        self.failures: list[str] = []

    def size_of(self, source: str) -> int:
        """Rows of a FROM clause: an upper bound for the values bound to parameters, by trying."""
        import duckdb

        most = 0
        for values in BINDINGS:
            sql = f"select count(*) from {source}"
            try:
                most = max(most, self.duck.execute(sql, used(sql, values)).fetchone()[0])
            except duckdb.Error:
                return 0
            if most > MOST_JOINED or used(sql, values) is None:
                break
        return most

    def run(self) -> None:
        sizes = load_tables(self.rng, self.con, self.duck, self.seed % 8 == 7, self.folder.name)
        drawer = Drawer(self.rng, sizes, self.size_of)
        texts = [drawer.query() for _ in range(QUERIES)]
        for round_ in range(2):
            for sql in texts:
                for values in BINDINGS[: 3 if "$" in sql else 1]:
                    self.compare(sql, values, f"seed {self.seed} round {round_} sizes {sizes} values {values}")
            if round_ == 0:
                sizes = load_tables(self.rng, self.con, self.duck, False, self.folder.name)
                texts = [sql for sql in texts if self.affordable(sql)]
        self.con.close()
        self.duck.close()
        self.folder.cleanup()

    def affordable(self, sql: str) -> bool:
        return self.size_of(f"({sql}) y") <= 20 * MOST_SHOWN

    def compare(self, sql: str, values: list[int], label: str) -> None:
        """One text with one set of values, twice; what differs is noted."""
        import duckdb
        from compare import row_difference, time_limit, type_names

        from finequery.errors import Error, NotSupportedError

        bound = used(sql, values)
        self.log(f"-- {label}\n{sql};\n")
        try:
            relation = self.duck.execute(sql, bound)
            types = [str(item[1]) for item in relation.description]
            want: Any = relation.fetchall()
        except duckdb.Error as error:
            types, want = [], error
        for run in range(2):
            try:
                with time_limit():
                    answer = self.con.sql(sql, bound)
                    got = answer.fetchall()
            except NotSupportedError as error:
                self.outcomes["refused"] += 1
                self.outcomes[f"refused: {error.message[:60]}"] += 1
                return
            except Error as error:
                if isinstance(want, list):
                    self.fail(sql, label, run, f"{type(error).__name__}: {error.message}")
                self.outcomes["error"] += 1
                return
            except Exception as error:
                import traceback

                self.fail(sql, label, run, traceback.format_exc(limit=-6))
                self.outcomes["error"] += 1
                del error
                return
            if not isinstance(want, list):
                self.fail(sql, label, run, f"DuckDB has an error: {str(want)[:200]}; FineQuery has {got[:3]}")
                return
            ordered = ") y order by" in sql
            difference = row_difference(got, want, ordered)
            mine = type_names(answer.types)
            if difference is None and len(mine) != len(types):
                difference = f"types {mine}, DuckDB has {types}"
            if difference is not None:
                self.fail(sql, label, run, difference)
                return
        self.outcomes["same"] += 1

    def fail(self, sql: str, label: str, run: int, text: str) -> None:
        self.outcomes["failed"] += 1
        self.failures.append(f"-- {label} run {run}\n{sql};\n-- {text}\n")


def main(first: int, count: int, threads: int, log_path: str | None = None) -> int:
    faulthandler.enable()
    from finequery.operators import native

    native.load()
    outcomes: Counter[str] = Counter()
    failed = 0
    log_file = open(log_path, "w") if log_path else None  # noqa: SIM115 (open until the end)

    def log(text: str) -> None:
        if log_file is not None:
            log_file.write(text)
            log_file.flush()

    begin = time.time()
    for seed in range(first, first + count):
        faulthandler.dump_traceback_later(300, exit=True)
        case = Case(seed, threads, log)
        case.run()
        outcomes += case.outcomes
        for failure in case.failures:
            print(failure, flush=True)
        failed += len(case.failures)
    faulthandler.cancel_dump_traceback_later()
    print(f"-- {dict(outcomes)} in {time.time() - begin:.0f} s")
    if outcomes["refused"] > MOST_REFUSED * (outcomes["same"] + outcomes["refused"]):
        print("-- too much is refused")
        return 1
    return 1 if failed else 0


if __name__ == "__main__":
    arguments = [int(word) for word in sys.argv[1:4]]
    sys.exit(main(*arguments, *([1] if len(arguments) < 3 else []), *sys.argv[4:5]))
