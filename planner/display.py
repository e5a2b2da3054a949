"""Plans and expressions as text: for EXPLAIN and for golden tests. Equal plans give equal text, whatever their ids."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Any

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
from finequery.operators.host_text import format_interval
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
from finequery.types import Interval, SqlType

INFIX = {
    "eq": "=",
    "ne": "<>",
    "lt": "<",
    "le": "<=",
    "gt": ">",
    "ge": ">=",
    "add": "+",
    "sub": "-",
    "mul": "*",
    "div": "/",
    "intdiv": "//",
    "mod": "%",
    "concat": "||",
}


def format_plan(plan: Node) -> str:
    """A tree, inputs indented below their node. Columns are called by name, with ``#2`` where a name occurs twice."""
    printer = Printer()
    printer.node(plan, 0)
    while printer.pending:
        label, below = printer.pending.pop(0)
        printer.lines.append(f"{label}:")
        printer.node(below, 1)
    return "\n".join(printer.lines)


def format_expr(expr: Expr) -> str:
    """An expression in SQL's manner."""
    return Printer().expr(expr)


class Printer:
    """Names for ids, numbers for subplans, and the lines so far."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.names: dict[int, str] = {}
        self.taken: dict[str, int] = {}
        self.subplans: dict[int, str] = {}
        self.pending: list[tuple[str, Node]] = []
        self.values: Mapping[int | str, Any] = {}  # of literals that are parameters of the plan

    def column(self, column: Column) -> str:
        name = self.names.get(column.id)
        if name is None:
            base = column.name or "column"
            count = self.taken[base] = self.taken.get(base, 0) + 1
            name = self.names[column.id] = base if count == 1 else f"{base}#{count}"
        return name

    def subplan(self, kind: str, plan: Node) -> str:
        label = self.subplans.get(id(plan))
        if label is None:
            label = self.subplans[id(plan)] = f"{kind} {len(self.subplans) + 1}"
            self.pending.append((label, plan))
        return label

    def node(self, node: Node, depth: int) -> None:
        pad = "  " * depth
        if isinstance(node, Materialize):
            seen = id(node) in self.subplans
            label = self.subplans.setdefault(id(node), f"{len(self.subplans) + 1}")
            name = f" {node.name}" if node.name else ""
            self.lines.append(f"{pad}Materialize {label}{name}{' (again)' if seen else ''}")
            if not seen:
                self.node(node.input, depth + 1)
            return
        at = len(self.lines)
        self.lines.append("")
        for child in node.inputs:  # first: inputs name the columns
            self.node(child, depth + 1)
        self.lines[at] = pad + self.head(node)

    def head(self, node: Node) -> str:
        if isinstance(node, Scan):
            alias = f" {node.alias}" if node.alias and node.alias != node.table.name else ""
            return f"Scan {node.table.name}{alias} [{', '.join(self.column(c) for c, _ in node.columns)}]"
        if isinstance(node, Values):
            rows = ", ".join("(" + ", ".join(self.expr(e) for e in row) + ")" for row in node.rows)
            return f"Values [{', '.join(self.column(c) for c in node.columns)}] {rows}"
        if isinstance(node, Filter):
            return f"Filter {self.expr(node.predicate)}"
        if isinstance(node, Project):
            return "Project " + ", ".join(self.named(c, self.expr(e)) for c, e in node.columns)
        if isinstance(node, Join):
            return self.join(node)
        if isinstance(node, Aggregate):
            groups = ", ".join(self.named(c, self.expr(e)) for c, e in node.groups)
            calls = ", ".join(self.named(c, self.aggregate(a)) for c, a in node.aggregates)
            return " ".join(["Aggregate"] + ([f"by {groups}"] if groups else []) + ([f"[{calls}]"] if calls else []))
        if isinstance(node, Window):
            return "Window " + ", ".join(self.named(c, self.window(w)) for c, w in node.calls)
        if isinstance(node, Sort):
            return "Sort " + ", ".join(map(self.key, node.keys)) + self.bounds(node.limit, node.offset)
        if isinstance(node, Limit):
            return "Limit" + self.bounds(node.limit, node.offset)
        if isinstance(node, Union):
            return f"Union [{', '.join(self.column(c) for c in node.columns)}]"
        return type(node).__name__

    def join(self, node: Join) -> str:
        flags = "".join(f" {f}" for f in ("null_safe", "null_aware") if getattr(node, f))
        terms = [f"{self.operand(a)} = {self.operand(b)}" for a, b in node.keys]
        text = f"Join {node.kind}{flags}" + (f" on {' and '.join(terms)}" if terms else "")
        if node.condition is not None:
            text += f" if {self.expr(node.condition)}"
        return text if node.mark is None else f"{text} as {self.column(node.mark)}"

    def named(self, column: Column, text: str) -> str:
        name = self.column(column)
        return text if name == text else f"{text} as {name}"

    def bounds(self, limit: Expr | None, offset: Expr | None) -> str:
        text = "" if limit is None else f" limit {self.expr(limit)}"
        return text if offset is None else f"{text} offset {self.expr(offset)}"

    def key(self, key: SortKey) -> str:
        text = self.expr(key.expr) + (" desc" if key.descending else "")
        return text + (" nulls first" if key.nulls_first else "")

    def aggregate(self, call: AggregateCall) -> str:
        name = "count(*)" if call.name == "count_star" else call.name
        text = name if call.name == "count_star" else f"{name}({'distinct ' * call.distinct}{self.list(call.args)})"
        return text if call.filter is None else f"{text} filter ({self.expr(call.filter)})"

    def window(self, call: WindowCall) -> str:
        parts = [f"partition by {self.list(call.partition)}"] if call.partition else []
        parts += [f"order by {', '.join(map(self.key, call.order))}"] if call.order else []
        parts += [frame_text(call)] if call.order or call.frame else []
        nulls = " ignore nulls" if call.ignore_nulls else ""
        return f"{call.name}({self.list(call.args)}{nulls}) over ({' '.join(filter(None, parts))})"

    def list(self, exprs: tuple[Expr, ...]) -> str:
        return ", ".join(self.expr(e) for e in exprs)

    def operand(self, e: Expr) -> str:
        text = self.expr(e)
        compound = isinstance(e, Call) and (e.name in INFIX or e.name in ("and", "or", "not", "in", "like", "is_null"))
        return f"({text})" if compound else text

    def expr(self, e: Expr) -> str:
        if isinstance(e, Column):
            return self.column(e)
        if isinstance(e, Literal):
            return literal(e.type, e.held)
        if isinstance(e, Parameter):
            lifted = isinstance(e.key, int) and e.key < 0 and e.key in self.values
            return literal(e.type, self.values[e.key]) if lifted else f"${e.key}"
        if isinstance(e, ScalarSubquery):
            return f"({self.subplan('Scalar', e.plan)})"
        if isinstance(e, Subquery):
            label = self.subplan("Subquery", e.plan)
            if e.kind == "in":
                assert e.operand is not None
                return f"{self.operand(e.operand)} in ({label})"
            return f"{'exists ' if e.kind == 'exists' else ''}({label})"
        if isinstance(e, Cast):
            return f"{'try_' if e.safe else ''}cast({self.expr(e.child)} as {e.type})"
        if isinstance(e, Case):
            whens = " ".join(f"when {self.expr(c)} then {self.expr(v)}" for c, v in e.whens)
            return f"case {whens} else {self.expr(e.default)} end"
        if isinstance(e, Call):
            return self.call(e)
        return repr(e)

    def call(self, e: Call) -> str:
        args = e.args
        if e.name in INFIX and len(args) == 2:
            return f"{self.operand(args[0])} {INFIX[e.name]} {self.operand(args[1])}"
        if e.name in ("and", "or"):
            return f" {e.name} ".join(self.operand(a) for a in args)
        if e.name == "not":
            return f"not {self.operand(args[0])}"
        if e.name == "is_null":
            return f"{self.operand(args[0])} is null"
        if e.name == "in":
            return f"{self.operand(args[0])} in ({self.list(args[1:])})"
        if e.name == "like" and len(args) == 2:
            return f"{self.operand(args[0])} like {self.operand(args[1])}"
        return f"{e.name}({self.list(args)})"


def literal(type: SqlType, value: object) -> str:
    """A constant in SQL's manner, from its physical form."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"
    if isinstance(value, Interval):
        return f"interval '{value.months} months {value.days} days {value.micros} us'"
    if isinstance(value, int):
        if type.is_decimal and type.scale:
            digits = f"{abs(value):0{type.scale + 1}d}"
            return f"{'-' * (value < 0)}{digits[: -type.scale]}.{digits[-type.scale :]}"
        try:
            if type.name == "DATE":
                return f"date '{datetime.date(1970, 1, 1) + datetime.timedelta(value)}'"
            if type.is_timestamp:
                clock = datetime.datetime(1970, 1, 1) + datetime.timedelta(microseconds=value)
                return f"timestamp '{clock}'" if type.name == "TIMESTAMP" else f"timestamptz '{clock}+00'"
        except OverflowError:
            pass
    return repr(value)


def frame_text(call: WindowCall) -> str:
    """The frame of a window call in a plan; nothing for the whole partition."""
    if call.frame is None:
        return "running" if call.running and call.order else ""
    ends = []
    for distance, side in ((call.frame.start, "preceding"), (call.frame.end, "following")):
        if distance is None:
            ends.append(f"unbounded {side}")
        elif distance == 0:
            ends.append("current row")
        else:
            parts = tuple(distance) if isinstance(distance, Interval) else (distance,)
            before = next(p for p in parts if p) < 0
            size = format_interval(Interval(*map(abs, parts))) if len(parts) > 1 else abs(distance)
            ends.append(f"{size} {'preceding' if before else 'following'}")
    return f"{call.frame.unit} between {ends[0]} and {ends[1]}"
