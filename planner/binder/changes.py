"""UPDATE, DELETE and TRUNCATE as queries for what the table holds afterwards; transactions, which are refused."""

from __future__ import annotations

from typing import Any

from finequery.errors import BindError, CatalogError, ConversionError, NotSupportedError, nearest
from finequery.operators.expr import Column, Expr
from finequery.planner.binder.expressions import Expressions, QueryState, castable
from finequery.planner.binder.from_clause import scan
from finequery.planner.binder.scope import Binder, Relation, Scope, at, checked, refuse, text_of
from finequery.planner.coercion import FALSE, TRUE, call, cast
from finequery.planner.logical import Filter, Node, Project, Values
from finequery.planner.operations import case
from finequery.planner.parse import ParsedStatement
from finequery.planner.statements import Query, Replace, Statement, View
from finequery.types import BOOLEAN


def update(binder: Binder, node: Any, parsed: ParsedStatement) -> Statement:
    """UPDATE t SET … WHERE …: every row, changed where the condition is true; the last column says where."""
    if node.args.get("from_"):
        raise refuse("UPDATE … FROM", node.args["from_"], "Use a subquery: SET a = (SELECT … WHERE …).")
    args = checked(node, "this", "expressions", "where")
    table, plan, env = _target(binder, args["this"], "UPDATE")
    columns = list(plan.schema)
    flag = binder.column(BOOLEAN, "changed")
    plan = Project(plan, (*((c, c) for c in columns), (flag, _condition(env, args.get("where")))))
    new: dict[str, Expr] = {}
    for item in args["expressions"]:
        parts = checked(item, "this", "expression")
        if type(item).__name__ != "EQ" or type(parts["this"]).__name__ != "Column":
            raise refuse("This form of SET", item, "Write SET a = 1, b = 2.")
        name = text_of(parts["this"])
        column = next((c for c, (n, _) in zip(columns, table.columns) if n.lower() == name.lower()), None)
        if column is None:
            hint = nearest(name, [n for n, _ in table.columns])
            raise at(BindError(f'Table "{table.name}" has no column "{name}".', hint=hint or None), parts["this"])
        if name.lower() in new:
            raise at(BindError(f'Column "{name}" is set twice.'), parts["this"])
        value = env.bind(parts["expression"])
        if not castable(value, column.type):
            raise at(BindError(f'Column "{name}" is {column.type}; the value is {value.type}.'), parts["expression"])
        try:
            new[name.lower()] = case([(flag, cast(value, column.type))], column)
        except ConversionError as error:
            raise at(error, parts["expression"]) from None
    pairs: list[tuple[Column, Expr]] = []
    for column, (name, _) in zip(columns, table.columns):
        changed = new.get(name.lower())
        pairs.append((column, column) if changed is None else (binder.column(column.type, name), changed))
    return _replace(binder, table, Project(plan, (*pairs, (flag, flag))), True)


def delete(binder: Binder, node: Any, parsed: ParsedStatement) -> Statement:
    """DELETE FROM t WHERE …: the rows for which the condition is not true."""
    if node.args.get("using"):
        raise refuse("DELETE … USING", node.args["using"][0], "Use a subquery: WHERE a IN (SELECT …).")
    args = checked(node, "this", "where")
    table, plan, env = _target(binder, args["this"], "DELETE")
    kept = call(BOOLEAN, "not", _condition(env, args.get("where")))
    return _replace(binder, table, Filter(plan, kept), False)


def truncate(binder: Binder, node: Any, parsed: ParsedStatement) -> Statement:
    targets = checked(node, "expressions")["expressions"]
    if len(targets) != 1:
        raise refuse("TRUNCATE of several tables", node)
    table, plan, _ = _target(binder, targets[0], "TRUNCATE")
    return _replace(binder, table, Values(plan.schema, ()), False)


def transaction(binder: Binder, node: Any, parsed: ParsedStatement) -> Statement:
    """BEGIN, COMMIT and ROLLBACK."""
    word = {"Transaction": "BEGIN"}.get(type(node).__name__, type(node).__name__.upper())
    hint = "Every statement is a transaction of its own: it takes effect as a whole or not at all."
    raise NotSupportedError(f"{word} is not supported.", hint=hint)


def _target(binder: Binder, node: Any, verb: str) -> tuple[Any, Node, Expressions]:
    """The table, its scan, and where expressions over its columns are bound."""
    args = checked(node, "this", "db", "catalog", "alias")
    parts = tuple(text_of(args[k]) for k in ("catalog", "db", "this") if args.get(k))
    alias = text_of(checked(args["alias"], "this")["this"]) if args.get("alias") else parts[-1]
    table = binder.resolver.table(parts)
    if table is None:
        hint = nearest(parts[-1], binder.resolver.names())
        raise at(CatalogError(f'There is no table "{".".join(parts)}".', hint=hint or None), node)
    if isinstance(table, View):
        raise at(CatalogError(f'"{parts[-1]}" is a view.', hint=f"{verb} changes tables."), node)
    plan, relation = scan(binder, table, alias)
    scope = Scope([Relation(alias, relation.columns)])
    return table, plan, Expressions(binder, QueryState(None, {}), scope, verb)


def _condition(env: Expressions, where: Any) -> Expr:
    """The WHERE condition as true or false."""
    if not where:
        return TRUE
    predicate = env.predicate(checked(where, "this")["this"])
    return call(BOOLEAN, "coalesce", predicate, FALSE)


def _replace(binder: Binder, table: Any, plan: Node, flagged: bool) -> Statement:
    columns = plan.schema
    names = tuple(c.name for c in columns)
    query = Query(plan, names, tuple(c.type for c in columns), binder.keys(), False)
    return Replace(table, query, flagged)
