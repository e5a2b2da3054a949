"""Query expressions: WITH, SELECT, VALUES, set operations, ORDER BY and LIMIT on top of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from finequery.errors import BindError, ConversionError, Error
from finequery.operators.expr import Column, Expr, Literal, SortKey, walk
from finequery.planner.binder.aggregates import sort_key
from finequery.planner.binder.expressions import Expressions, QueryState
from finequery.planner.binder.scope import (
    Binder,
    BoundQuery,
    Cte,
    Relation,
    Scope,
    at,
    checked,
    items_of,
    output_exprs,
    refuse,
    text_of,
    title,
)
from finequery.planner.coercion import cast, is_null, settle
from finequery.planner.logical import Limit, Node, Project, Sort, Subquery, Values
from finequery.planner.operations import meet
from finequery.planner.parse import PIVOT_HINT
from finequery.types import BIGINT, INTEGER, NULL, SqlType

MODIFIERS = ("order", "limit", "offset", "with_")


def bind_subquery(env: Expressions, node: Any) -> BoundQuery:
    """A subquery in an expression. What it reads of enclosing queries is in ``outer``."""
    return bind_query(env.binder, node, env, env.query.ctes)


def bind_query(binder: Binder, node: Any, enclosing: Expressions | None, ctes: dict[str, Cte]) -> BoundQuery:
    """Any query expression."""
    kind = type(node).__name__
    if node.args.get("with_"):
        ctes = with_ctes(node, ctes, enclosing)
    if kind == "Subquery" and not node.args.get("alias") and type(node.this).__name__ != "Table":
        inner = checked(node, "this", *MODIFIERS)["this"]
        if not any(node.args.get(k) for k in ("order", "limit", "offset")):
            return bind_query(binder, inner, enclosing, ctes)
        return ordered_query(binder, node, bind_query(binder, inner, enclosing, ctes), enclosing, ctes)
    state = QueryState(enclosing, ctes)
    if kind == "Select":
        from finequery.planner.binder.select import bind_select

        return bind_select(binder, node, state)
    if kind in ("Union", "Intersect", "Except"):
        from finequery.planner.binder.setops import bind_set_operation

        bound = bind_set_operation(binder, node, state)
        return ordered_query(binder, node, bound, enclosing, ctes)
    if kind == "Values":
        return ordered_query(binder, node, bind_values(binder, node, state), enclosing, ctes)
    if kind == "Table":
        from finequery.planner.binder.from_clause import bind_table

        checked(node, "this", "db", "catalog")
        plan, scope = bind_table(binder, node, state)
        return BoundQuery(plan, [n for _, n, _ in scope.star], [e for _, _, e in scope.star], state.outer)
    hint = PIVOT_HINT if kind == "Pivot" else None
    raise refuse(f"{title(node)} as a query", node, hint)


def with_ctes(node: Any, ctes: dict[str, Cte], enclosing: Expressions | None) -> dict[str, Cte]:
    """The CTEs that ``node`` sees: those of its WITH beside the enclosing ones."""
    args = checked(node.args["with_"], "expressions", "recursive")
    result = dict(ctes)
    added: list[Cte] = []
    for item in args["expressions"]:
        parts = checked(item, "this", "alias", "materialized")
        alias = checked(parts["alias"], "this", "columns")
        name = text_of(alias["this"])
        if args.get("recursive") and name.lower() in table_names(parts["this"]):
            raise refuse("A recursive WITH query", alias["this"], "range and generate_series give numbers and dates.")
        if any(c.name.lower() == name.lower() for c in added):
            raise at(BindError(f'The name "{name}" is given twice in WITH.'), alias["this"])
        columns = [text_of(c) for c in alias.get("columns") or []]
        cte = Cte(name, parts["this"], columns, dict(result), enclosing, 0, parts.get("materialized") is True)
        result[name.lower()] = cte
        added.append(cte)
    count_uses(node, added)
    return result


def table_names(node: Any) -> list[str]:
    """Names in FROM anywhere below, folded; a name as often as it occurs."""
    from sqlglot import exp

    return [t.name.lower() for t in node.find_all(exp.Table) if not t.args.get("db")]


def count_uses(node: Any, ctes: list[Cte]) -> None:
    """How often each CTE is referred to from what is itself used: one reference is inlined, more share one plan."""
    from sqlglot import exp

    inside: list[Any] = [c.tree for c in ctes]
    definitions = {id(t) for tree in inside for t in tree.find_all(exp.Table)}
    own = [t.name.lower() for t in node.find_all(exp.Table) if not t.args.get("db") and id(t) not in definitions]
    by_name = {c.name.lower(): c for c in ctes}
    pending = own
    while pending:
        name = pending.pop()
        cte = by_name.get(name)
        if cte is None:
            continue
        cte.uses += 1
        if cte.uses == 1:
            pending.extend(n for n in table_names(cte.tree) if n != name)


def bind_values(binder: Binder, node: Any, state: QueryState) -> BoundQuery:
    """VALUES (…), (…): columns col0, col1, …"""
    args = checked(node, "expressions", "alias", *MODIFIERS)
    env = Expressions(binder, state, Scope(), "VALUES")
    rows: list[list[Expr]] = []
    for row in args["expressions"]:
        items = items_of(row)
        rows.append([env.bind(item) for item in items])
        if len(items) != len(rows[0]):
            raise at(BindError(f"This row has {len(items)} values, the first has {len(rows[0])}."), row)
    types = []
    wanted, binder.insert_types = binder.insert_types, None
    for i in range(len(rows[0])):
        column = [row[i] for row in rows]
        if wanted is not None and len(wanted) == len(rows[0]):
            types.append(wanted[i])
            continue
        types.append(NULL if all(map(is_null, column)) else meet(column, "VALUES"))
    names = [f"col{i}" for i in range(len(types))]
    columns = tuple(binder.column(INTEGER if t == NULL else t, n) for n, t in zip(names, types))
    try:
        plan = Values(columns, tuple(tuple(cast(e, c.type) for e, c in zip(row, columns)) for row in rows))
    except ConversionError as error:
        raise at(error, node) from None
    return BoundQuery(plan, names, output_exprs(columns, types), state.outer)


def convert(binder: Binder, bound: BoundQuery, types: Sequence[SqlType]) -> Node:
    """The plan with exactly the output columns, cast to ``types``; untouched where they have those types already."""
    schema = bound.plan.schema
    if len(schema) == len(types) and all(e is c and c.type == t for e, c, t in zip(bound.exprs, schema, types)):
        return bound.plan
    pairs: list[tuple[Column, Expr]] = []
    used: set[int] = set()
    for name, e, t in zip(bound.names, bound.exprs, types):
        converted = cast(e, t)
        if type(converted) is Column and converted.id not in used:
            used.add(converted.id)
            pairs.append((converted, converted))
        else:
            pairs.append((binder.column(t, name), converted))
    return Project(bound.plan, tuple(pairs))


def ordered_query(
    binder: Binder, node: Any, bound: BoundQuery, enclosing: Expressions | None, ctes: dict[str, Cte]
) -> BoundQuery:
    """ORDER BY, LIMIT and OFFSET over a query whose own names are all there is to sort by."""
    state = QueryState(enclosing, ctes)
    state.outer = bound.outer
    columns = [(n, e) for n, e in zip(bound.names, bound.exprs)]
    env = Expressions(binder, state, Scope([Relation("", columns)]), "ORDER BY")
    keys = []
    if node.args.get("order"):
        for term in checked(node.args["order"], "expressions")["expressions"]:
            for e in order_terms(env, term, bound.exprs):
                keys.append(sort_key(e, term))
    bound.plan = limited(env, node, bound.plan, keys)
    return bound


def order_terms(env: Expressions, term: Any, outputs: Sequence[Expr]) -> list[Expr]:
    """The expressions of one ORDER BY term: an ordinal, ALL, or an expression."""
    node = checked(term, "this", "desc", "nulls_first")["this"]
    if type(node).__name__ == "Var" and text_of(node).upper() == "ALL":
        return list(outputs)
    if type(node).__name__ == "Collate":
        raise refuse("COLLATE", node)
    ordinal = literal_ordinal(node, len(outputs), "ORDER BY")
    if ordinal is not None:
        return [outputs[ordinal]]
    e = env.bind(node)
    if isinstance(e, Literal):
        raise at(BindError("ORDER BY a constant has no effect.", hint="Name a column, or its position."), node)
    return [e]


def literal_ordinal(node: Any, count: int, clause: str) -> int | None:
    """The index that an integer literal in GROUP BY or ORDER BY stands for; None for any other expression."""
    if type(node).__name__ != "Literal" or node.args.get("is_string") or not str(node.this).isdigit():
        return None
    index = int(text_of(node)) - 1
    if not 0 <= index < count:
        raise at(BindError(f"{clause} {node.this}: there are {count} columns, counted from 1."), node)
    return index


def limited(env: Expressions, node: Any, plan: Node, keys: list[SortKey]) -> Node:
    """Sort and limit a plan as the clauses of ``node`` say."""
    limit_node, offset_node = node.args.get("limit"), node.args.get("offset")
    limit = offset = None
    if limit_node is not None:
        if type(limit_node).__name__ == "Fetch":
            parts = checked(limit_node, "direction", "count", "limit_options")
            options = parts.get("limit_options")
            if options is not None:
                checked(options, "rows")
            limit = count_of(env, parts.get("count"), "FETCH", limit_node)
        else:
            limit = count_of(env, checked(limit_node, "expression")["expression"], "LIMIT", limit_node)
    if offset_node is not None:
        offset = count_of(env, checked(offset_node, "expression")["expression"], "OFFSET", offset_node)
    unique: list[SortKey] = []
    for key in keys:
        if all(key.expr != other.expr for other in unique):
            unique.append(key)
    if unique:
        return Sort(plan, tuple(unique), limit, offset)
    return plan if limit is None and offset is None else Limit(plan, limit, offset)


def count_of(env: Expressions, node: Any, clause: str, place: Any) -> Expr | None:
    """The constant of LIMIT or OFFSET as BIGINT; None for NULL, which is no bound."""
    constant = Expressions(env.binder, QueryState(None, env.query.ctes), Scope(), clause)
    e: Expr = constant.bind(node) if node is not None else Literal(BIGINT, 1)
    if is_null(e):
        return None
    if any(isinstance(part, Subquery) for part in walk(e)):
        raise refuse(f"A subquery in {clause}", node)
    if not e.type.is_numeric and not isinstance(e, Literal):
        raise at(BindError(f"{clause} takes a number, not {e.type}."), node)
    try:
        e = cast(settle(e), BIGINT)
    except Error as error:
        raise at(error, node) from None
    if isinstance(e, Literal) and not e.is_null and e.test(lambda v: v < 0):
        raise at(BindError(f"{clause} can't be negative."), place)
    return e
