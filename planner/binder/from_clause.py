"""FROM: tables, views, CTEs, subqueries, VALUES, table functions and joins."""

from __future__ import annotations

import re
from functools import partial
from typing import Any

from finequery.errors import BindError, CatalogError, Error, nearest
from finequery.operators.expr import Expr, columns_of
from finequery.planner.binder.asof import asof_join
from finequery.planner.binder.expressions import Expressions, QueryState
from finequery.planner.binder.query import bind_query, bind_values, convert
from finequery.planner.binder.scope import (
    Binder,
    BoundQuery,
    Cte,
    Relation,
    Scope,
    at,
    checked,
    output_exprs,
    position,
    refuse,
    text_of,
    title,
)
from finequery.planner.coercion import TRUE, call, cast, is_null, is_string_literal
from finequery.planner.logical import Join, Materialize, Node, Project, Scan, Values
from finequery.planner.operations import compare, meet, require_constant
from finequery.planner.statements import View
from finequery.types import BIGINT, BOOLEAN, INTEGER, INTERVAL, NULL, TIMESTAMP, TIMESTAMPTZ

Item = tuple[Node, Scope]

#: Endings of files that are no tables.
_OTHER_FILES = (".json", ".jsonl", ".ndjson", ".txt", ".xlsx", ".arrow", ".feather", ".avro", ".orc")

#: The text before a table that JOIN, not a comma, joins: the syntax tree does not tell them apart.
_BARE_JOIN = re.compile(r"\bjoin\s*(\(\s*(select|from|values|with)?\s*)*$", re.IGNORECASE)


def bind_from(binder: Binder, node: Any, query: QueryState) -> Item:
    """FROM with its joins: items between commas are joined last."""
    source = node.args.get("from_")
    if not source:
        if node.args.get("joins"):
            raise refuse("A join without FROM", node)
        return Values((), ((),)), Scope()
    plan, scope = bind_table(binder, checked(source, "this")["this"], query)
    done: Item | None = None  # the product of the items before the last comma
    for join in node.args.get("joins") or []:
        args = checked(join, "this", "on", "using", "kind", "side", "method")
        if not any(args.get(k) for k in ("on", "using", "kind", "side", "method")):
            if _BARE_JOIN.search(binder.sql[: position(args["this"]) or 0]):
                raise at(
                    BindError("JOIN needs a condition.", hint="Add ON or USING, or write CROSS JOIN."), args["this"]
                )
            done = product(done, (plan, scope))
            plan, scope = bind_table(binder, args["this"], query, done[1])
        else:
            plan, scope = bind_join(binder, query, (plan, scope), join, args, done[1] if done else None)
    return product(done, (plan, scope))


def product(left: Item | None, right: Item) -> Item:
    if left is None:
        return right
    return Join("inner", left[0], right[0]), Scope.joined(left[1], right[1])


def bind_table(binder: Binder, node: Any, query: QueryState, left: Scope | None = None) -> Item:
    """One item of FROM. ``left`` is what stands before it: a subquery that reads it makes a lateral join."""
    kind = type(node).__name__
    alias = node.args.get("alias")
    alias_args = checked(alias, "this", "columns") if alias else {}
    name = text_of(alias_args["this"]) if alias_args.get("this") else ""
    if kind == "Table":
        args = checked(node, "this", "db", "catalog", "alias", "joins")
        plan, relation = named_table(binder, node, query, name)
    elif kind in ("Subquery", "Lateral"):
        args = checked(node, "this", "alias", "with_", "order", "limit", "offset", "joins")
        inner = args["this"]
        if kind == "Subquery" and type(inner).__name__ in ("Table", "Subquery") and inner.args.get("joins"):
            plan, scope = joined(binder, inner, query)
            if name:
                raise refuse("An alias of a join in parentheses", node)
            return joined_more(binder, node, query, (plan, scope))
        if kind == "Lateral" and type(inner).__name__ != "Subquery":
            raise refuse(f"LATERAL {title(inner)}", node)
        bound = derived(binder, node if kind == "Subquery" else inner, query, left)
        plan, relation = bound.plan, Relation(name or "unnamed_subquery", list(zip(bound.names, bound.exprs)))
    elif kind == "Values":
        args = node.args
        state = QueryState(query.enclosing, query.ctes)
        bound = bind_values(binder, node, state)
        query.outer |= state.outer
        plan, relation = bound.plan, Relation(name or "valueslist", list(zip(bound.names, bound.exprs)))
    else:
        raise refuse(f"{title(node)} in FROM", node)
    if alias_args.get("columns"):
        relation = renamed(relation, [text_of(c) for c in alias_args["columns"]], alias)
    item: Item = plan, Scope([relation])
    return joined_more(binder, node, query, item) if args.get("joins") else item


def renamed(relation: Relation, columns: list[str], node: Any) -> Relation:
    """The relation with its first columns under new names."""
    if len(columns) > len(relation.columns):
        raise at(
            BindError(f'"{relation.name}" has {len(relation.columns)} columns, the alias names {len(columns)}.'), node
        )
    new = [(columns[i] if i < len(columns) else n, e) for i, (n, e) in enumerate(relation.columns)]
    return Relation(relation.name, new, relation.path)


def joined(binder: Binder, node: Any, query: QueryState) -> Item:
    """A join in parentheses."""
    return bind_table(binder, node, query)


def joined_more(binder: Binder, node: Any, query: QueryState, item: Item) -> Item:
    for join in node.args.get("joins") or []:
        args = checked(join, "this", "on", "using", "kind", "side", "method")
        item = bind_join(binder, query, item, join, args)
    return item


def derived(binder: Binder, node: Any, query: QueryState, left: Scope | None) -> BoundQuery:
    """A subquery in FROM. Its plan may read what stands beside it on the left: the join with it is then a lateral one,
    which ``planner.rules.decorrelate`` makes an ordinary join of."""
    enclosing = query.enclosing
    if left is not None and left.relations:
        beside = QueryState(query.enclosing, query.ctes)
        enclosing = Expressions(binder, beside, left, "FROM")
    with_alias = node.args.get("alias")
    inner = (
        node.this if with_alias and not any(node.args.get(k) for k in ("order", "limit", "offset", "with_")) else node
    )
    if inner is node and with_alias:
        raise refuse("ORDER BY or LIMIT beside an alias", node)
    bound = bind_query(binder, inner, enclosing, query.ctes)
    beside_ids = set().union(*(columns_of(e) for _, _, e in left.star)) if left is not None else set()
    query.outer |= bound.outer - beside_ids
    return bound


# --- names ---------------------------------------------------------------------------------------------------------


def named_table(binder: Binder, node: Any, query: QueryState, alias: str) -> tuple[Node, Relation]:
    """A table, view, CTE, file or table function."""
    target = node.this
    if type(target).__name__ == "Anonymous":
        return table_function(binder, node, alias)
    parts = tuple(text_of(node.args[k]) for k in ("catalog", "db") if node.args.get(k)) + (text_of(target),)
    if len(parts) == 1:
        cte = query.ctes.get(parts[0].lower())
        if cte is not None:
            return reference(binder, cte, query, alias or parts[0])
    try:
        found = binder.resolver.table(parts)
    except Error as error:  # a file that can't be read
        raise at(error, target) from None
    if found is None:
        hint = nearest(parts[-1], [*binder.resolver.names(), *(c.name for c in query.ctes.values())])
        if "/" in parts[-1] or parts[-1].lower().endswith(_OTHER_FILES):
            hint = "Files end in .parquet, .csv or .tsv, or are named by read_parquet('…') or read_csv('…')."
        raise at(CatalogError(f'There is no table "{".".join(parts)}".', hint=hint or None), node)
    path = tuple(p.lower() for p in parts)
    if isinstance(found, View):
        return view(binder, found, node, alias or parts[-1], path)
    return scan(binder, found, alias or parts[-1], path)


def scan(binder: Binder, table: Any, name: str, path: tuple[str, ...] = ()) -> tuple[Node, Relation]:
    """Read all columns of a table; a rule prunes."""
    columns = [(binder.column(t, n), n) for n, t in table.columns]
    return Scan(table, tuple(columns), name), Relation(name, [(n, c) for c, n in columns], path)


def table_function(binder: Binder, node: Any, alias: str) -> tuple[Node, Relation]:
    function = checked(node.this, "this", "expressions")
    name = str(node.this.name)
    env = Expressions(binder, QueryState(None, {}), Scope(), f"the arguments of {name}")
    if name.lower() in ("range", "generate_series"):
        plan, relation = scan(binder, series(env, name.lower(), function["expressions"]), alias or name.lower())
        return plan, renamed(relation, [alias], node) if alias else relation
    args, named = [], {}
    for arg in function["expressions"]:
        kind = type(arg).__name__
        if kind in ("EQ", "Kwarg", "PropertyEQ"):
            parts = checked(arg, "this", "expression")
            named[text_of(parts["this"]).lower()] = python_constant(env, parts["expression"])
        else:
            args.append(python_constant(env, arg))
    try:
        table = binder.resolver.function(name, args, named)
    except Error as error:
        raise at(error, node) from None
    if table is None:
        hint = nearest(name, ("read_parquet", "read_csv", "range", "generate_series"))
        raise at(CatalogError(f'There is no table function "{name}".', hint=hint or None), node)
    return scan(binder, table, alias or name)


def series(env: Expressions, name: str, nodes: list[Any]) -> Any:
    """range and generate_series of constants: of numbers (stop), (start, stop) or (start, stop, step), or of timestamps
    with an interval as step."""
    from finequery.operators.series import moments, numbers

    args = [env.bind(node) for node in nodes]
    make: Any = numbers
    kind = BIGINT
    if len(args) == 3 and args[2].type == INTERVAL:
        kind = TIMESTAMPTZ if TIMESTAMPTZ in (args[0].type, args[1].type) else TIMESTAMP
        make = partial(moments, kind)
    numeric = all(a.type.is_integer or is_string_literal(a) or is_null(a) for a in args)
    if not 1 <= len(args) <= 3 or not (numeric if kind == BIGINT else all(a.type != BIGINT for a in args)):
        given = ", ".join(str(a.type) for a in args)
        hint = f"{name}(stop), {name}(start, stop [, step]) of integers, or {name}(start, stop, step) of timestamps."
        raise BindError(f"{name}({given}) does not exist.", hint=hint)
    cast_args = [cast(a, INTERVAL if i == 2 and kind.is_timestamp else kind) for i, a in enumerate(args)]
    values = [require_constant(a, f"An argument of {name} in FROM") for a in cast_args]
    if any(v is None for v in values):
        return numbers(name, 0, 0, 1, False)
    start, stop = (0, values[0]) if len(values) == 1 else values[:2]
    step = values[2] if len(values) == 3 else 1
    return make(name, start, stop, step, name == "generate_series")


def python_constant(env: Expressions, node: Any) -> Any:
    """The Python value of a constant argument; a list of them for [a, b]."""
    if type(node).__name__ == "Array":
        return [python_constant(env, e) for e in checked(node, "expressions")["expressions"]]
    e = env.bind(node)
    value = require_constant(e, "An argument of a table function")
    if e.type.is_decimal and isinstance(value, int):
        from decimal import Decimal

        return Decimal(value).scaleb(-e.type.scale)
    return value


def view(binder: Binder, found: View, node: Any, name: str, path: tuple[str, ...]) -> tuple[Node, Relation]:
    """A view's query, bound where it is used; errors in it point into its own text."""
    from finequery.planner.parse import parse

    if found.name.lower() in binder.views:
        raise at(BindError(f'The view "{found.name}" refers to itself.'), node)
    sql, views, parameters = binder.sql, binder.views, binder.parameters
    binder.sql, binder.views, binder.parameters = found.sql, (*views, found.name.lower()), None
    try:
        bound = bind_query(binder, parse(found.sql)[0].tree, None, {})
    except Error as error:
        error.at(found.sql, position(getattr(error, "node", None)))
        error.hint = f'This is inside the view "{found.name}". {error.hint or ""}'.strip()
        raise
    finally:
        binder.sql, binder.views, binder.parameters = sql, views, parameters
    relation = Relation(name, list(zip(bound.names, bound.exprs)), path)
    if found.columns:
        relation = renamed(relation, list(found.columns), node)
    return bound.plan, relation


def reference(binder: Binder, cte: Cte, query: QueryState, name: str) -> tuple[Node, Relation]:
    """One use of a WITH query: its plan, or a share in the plan that all its uses have."""
    shared = cte.shared
    if shared is None:
        shared = bind_query(binder, cte.tree, cte.enclosing, cte.ctes)
        if cte.columns:
            pairs = renamed(Relation(cte.name, list(zip(shared.names, shared.exprs))), cte.columns, cte.tree).columns
            shared.names = [n for n, _ in pairs]
        level: QueryState | None = query
        while level is not None:  # every query from here to the WITH now reads what the CTE reads of enclosing ones
            level.outer |= shared.outer
            level = level.enclosing.query if level.enclosing not in (None, cte.enclosing) else None  # type: ignore[union-attr]
        if (cte.uses <= 1 and not cte.materialize) or shared.outer:
            return shared.plan, Relation(name, list(zip(shared.names, shared.exprs)))
        types = [INTEGER if t == NULL else t for t in shared.types]
        plan = convert(binder, shared, types)
        cte.shared = shared = BoundQuery(
            Materialize(plan, cte.name), shared.names, output_exprs(plan.schema, shared.types)
        )
    columns = [(binder.column(c.type, c.name), c) for c in shared.plan.schema]
    exprs = output_exprs([new for new, _ in columns], shared.types)
    return Project(shared.plan, tuple(columns)), Relation(name, list(zip(shared.names, exprs)))


# --- joins ---------------------------------------------------------------------------------------------------------


def bind_join(
    binder: Binder, query: QueryState, left: Item, node: Any, args: dict[str, Any], before: Scope | None = None
) -> Item:
    """One JOIN. RIGHT is a LEFT join with its sides exchanged: columns go by id, so their order does not matter.
    ``before``: what stands before the comma in front of the left side; a lateral subquery may read that too."""
    kind, side, method = (str(args.get(k) or "").upper() for k in ("kind", "side", "method"))
    if method not in ("", "NATURAL", "ASOF") or kind not in ("", "INNER", "OUTER", "CROSS", "SEMI", "ANTI"):
        raise refuse(f"{method or kind} JOIN", node)
    if side and kind in ("CROSS", "SEMI", "ANTI"):
        raise refuse(f"{side} {kind} JOIN", node)
    if method == "ASOF" and (side not in ("", "LEFT") or kind not in ("", "INNER", "OUTER")):
        raise refuse(f"ASOF {side or kind} JOIN", node, "There are ASOF JOIN and ASOF LEFT JOIN.")
    right = bind_table(binder, args["this"], query, left[1] if before is None else Scope.joined(before, left[1]))
    if side in ("RIGHT", "FULL") or kind in ("SEMI", "ANTI") or method == "ASOF":
        refuse_lateral(left[0], right[0], f"{method or side or kind} JOIN", args["this"])
    if kind == "CROSS":
        if args.get("on") or args.get("using"):
            raise at(BindError("CROSS JOIN takes no condition.", hint="Use JOIN … ON."), node)
        return product(left, right)
    names: list[str] = [text_of(i) for i in args.get("using") or []]
    if method == "NATURAL":
        names = [n for n, _ in ((n, e) for _, n, e in left[1].star) if n.lower() in right[1].bare]
        names = list(dict.fromkeys(names))
        if not names:
            raise at(BindError("NATURAL JOIN: the two sides have no column name in common."), node)
    scope = Scope.joined(left[1], right[1])
    pairs = [(n, *using_pair(n, left[1], right[1], node)) for n in names]
    if pairs:
        terms = [compare("eq", a, b) for _, a, b in pairs]
        if method == "ASOF":  # the last column is the time
            terms[-1] = compare("ge", *pairs[-1][1:])
        condition: Expr = terms[0] if len(terms) == 1 else call(BOOLEAN, "and", *terms)
    elif args.get("on"):
        condition = Expressions(binder, query, scope, "ON").predicate(args["on"])
    else:
        raise at(BindError(f"{side or kind or 'This'} JOIN needs a condition.", hint="Add ON or USING."), node)
    if kind in ("SEMI", "ANTI"):
        return Join(kind.lower(), left[0], right[0], condition=condition), left[1]
    for name, a, b in pairs:
        if side == "FULL":
            target = meet([a, b], "USING")
            scope.merge(name, call(target, "coalesce", cast(a, target), cast(b, target)))
        else:
            scope.merge(name, b if side == "RIGHT" else a)
    if method == "ASOF":
        return asof_join(binder, left[0], right[0], condition, side.lower() or "inner", node), scope
    if side == "RIGHT":
        return Join("left", right[0], left[0], condition=condition), scope
    plain = condition == TRUE and not side
    return Join(side.lower() or "inner", left[0], right[0], condition=None if plain else condition), scope


def refuse_lateral(left: Node, right: Node, what: str, node: Any) -> None:
    from finequery.planner.rules._tree import free, ids

    if not free(right).isdisjoint(ids(left)):
        raise refuse(f"{what} with a subquery that reads the other side", node, "LEFT and inner joins can.")


def using_pair(name: str, left: Scope, right: Scope, node: Any) -> tuple[Expr, Expr]:
    """The two columns that USING compares."""
    found = []
    for scope, word in ((left, "left"), (right, "right")):
        fields = scope.bare.get(name.lower(), [])
        if not fields:
            hint = nearest(name, scope.bare)
            raise at(BindError(f'USING: there is no column "{name}" on the {word} side.', hint=hint or None), node)
        if len(fields) > 1:
            raise at(BindError(f'USING: column "{name}" is ambiguous on the {word} side.', hint="Use ON."), node)
        found.append(fields[0][1])
    return found[0], found[1]
