"""Statements: CREATE, INSERT, DROP, DESCRIBE, SHOW, COPY, SET and queries."""

from __future__ import annotations

from typing import Any

from finequery.errors import BindError, CatalogError, ConversionError, ParseError, nearest
from finequery.planner.binder import changes
from finequery.planner.binder.expressions import Expressions, QueryState
from finequery.planner.binder.query import bind_query, convert
from finequery.planner.binder.scope import Binder, BoundQuery, Scope, at, checked, refuse, text_of, title
from finequery.planner.binder.types import bind_type
from finequery.planner.coercion import cast, settle
from finequery.planner.logical import Node
from finequery.planner.parse import PIVOT_HINT, ParsedStatement
from finequery.planner.statements import (
    Copy,
    CreateTable,
    CreateTableAs,
    CreateView,
    Describe,
    Drop,
    Explain,
    Insert,
    Query,
    SetOption,
    ShowSetting,
    ShowTables,
    Statement,
    View,
)
from finequery.types import INTEGER, NULL, VARCHAR

_QUERIES = ("Select", "Union", "Intersect", "Except", "Subquery", "Values")


def bind_statement(binder: Binder, parsed: ParsedStatement) -> Statement:
    """The statement that a syntax tree stands for."""
    if parsed.verb == "SHOW":
        return _show(binder, parsed)
    if parsed.verb == "RESET":
        return SetOption(parsed.argument, None)
    if parsed.verb:
        return Explain(_tree(binder, parsed.tree, parsed), parsed.verb == "EXPLAIN ANALYZE")
    return _tree(binder, parsed.tree, parsed)


def _tree(binder: Binder, node: Any, parsed: ParsedStatement) -> Statement:
    kind = type(node).__name__
    if kind in _QUERIES:
        return query(binder, node)
    handler = _HANDLERS.get(kind)
    if handler is None:
        raise refuse(f"The statement {title(node)}", node, _INSTEAD.get(kind))
    return handler(binder, node, parsed)


def query(binder: Binder, node: Any) -> Query:
    """A query at the top of a statement."""
    return finished(binder, bind_query(binder, node, None, {}))


def finished(binder: Binder, bound: BoundQuery) -> Query:
    """The statement of a bound query: exactly its columns, each of a type of its own."""
    types = [INTEGER if t == NULL else t for t in bound.types]
    plan = convert(binder, bound, types)
    return Query(plan, tuple(bound.names), tuple(types), binder.keys(), binder.cacheable)


def _show(binder: Binder, parsed: ParsedStatement) -> Statement:
    name = parsed.argument
    if name.upper() == "TABLES":
        return ShowTables()
    if name.upper() in ("SETTINGS", "ALL"):
        return ShowSetting(None)
    if binder.resolver.table((name,)) is not None:
        return Describe(_star(binder, (name,), None), name)
    return ShowSetting(name)


def _table_parts(node: Any) -> tuple[str, ...]:
    """The name of a table, qualifiers first; nothing else may stand beside it."""
    args = checked(node, "this", "db", "catalog")
    return tuple(text_of(args[k]) for k in ("catalog", "db", "this") if args.get(k))


def _name(node: Any) -> str:
    return ".".join(_table_parts(node))


def _star(binder: Binder, parts: tuple[str, ...], node: Any) -> Query:
    """SELECT * FROM a table or view."""
    from finequery.planner.binder.from_clause import scan, view

    found = binder.resolver.table(parts)
    if found is None:
        hint = nearest(parts[-1], binder.resolver.names())
        raise at(CatalogError(f'There is no table "{".".join(parts)}".', hint=hint or None), node)
    plan: Node
    if isinstance(found, View):
        plan, relation = view(binder, found, node, parts[-1], parts)
    else:
        plan, relation = scan(binder, found, parts[-1])
    return finished(binder, BoundQuery(plan, [n for n, _ in relation.columns], [e for _, e in relation.columns]))


# --- CREATE, DROP --------------------------------------------------------------------------------------------------


def _create(binder: Binder, node: Any, parsed: ParsedStatement) -> Statement:
    args = checked(node, "this", "kind", "expression", "exists", "replace")
    kind, target, tree = str(args["kind"]).upper(), args["this"], args.get("expression")
    if kind not in ("TABLE", "VIEW"):
        hint = "None is needed: scans skip blocks by minimum and maximum." if kind == "INDEX" else None
        raise refuse(f"CREATE {kind}", node, hint)
    schema: list[Any] = []
    if type(target).__name__ == "Schema":
        schema = checked(target, "this", "expressions")["expressions"]
        target = target.this
    name = _name(target)
    exists, replace = bool(args.get("exists")), bool(args.get("replace"))
    if exists and replace:
        raise at(ParseError("OR REPLACE and IF NOT EXISTS exclude each other."), target)
    if kind == "VIEW":
        bound = query(binder, tree)
        if bound.parameters:
            raise at(BindError("A view can't have parameters."), node)
        columns = tuple(text_of(c) for c in schema)
        if len(columns) > len(bound.names):
            raise at(BindError(f"The view has {len(bound.names)} columns, {len(columns)} are named."), target)
        return CreateView(View(name, _source(tree, parsed), columns), exists, replace)
    if tree is not None:
        made = query(binder, tree)
        names = [text_of(c) for c in schema] or list(made.names)
        if len(names) != len(made.names):
            raise at(BindError(f"The query has {len(made.names)} columns, {len(names)} are named."), target)
        return CreateTableAs(
            name, Query(made.plan, tuple(names), made.types, made.parameters, made.cacheable), exists, replace
        )
    columns_ = []
    for column in schema:
        if type(column).__name__ != "ColumnDef":
            raise refuse(f"{title(column)} in CREATE TABLE", column)
        columns_.append(_column_definition(column))
        if any(columns_[-1][0].lower() == other[0].lower() for other in columns_[:-1]):
            raise at(BindError(f'Two columns are called "{columns_[-1][0]}".'), column)
    if not columns_:
        raise at(BindError("A table needs columns."), target)
    return CreateTable(name, tuple(columns_), exists, replace)


def _column_definition(node: Any) -> tuple[str, Any, bool]:
    args = checked(node, "this", "kind", "constraints")
    if not args.get("kind"):
        raise at(BindError(f'Column "{node.name}" has no type.'), node)
    required = False
    for constraint in args.get("constraints") or []:
        parts = checked(constraint, "kind")
        if type(parts["kind"]).__name__ != "NotNullColumnConstraint":
            raise refuse(f"{title(parts['kind']).removesuffix('COLUMNCONSTRAINT')} of a column", node)
        required = not checked(parts["kind"], "allow_null").get("allow_null")
    return text_of(args["this"]), bind_type(args["kind"], node), required


def _source(tree: Any, parsed: ParsedStatement) -> str:
    """The text of the query of CREATE VIEW: all behind AS."""
    import re

    text = parsed.text
    depth = 0
    for match in re.finditer(
        r"'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|--[^\n]*|/\*.*?\*/|[()]|\bas\b", text, re.IGNORECASE | re.DOTALL
    ):
        word = match[0].lower()
        if word in "()":
            depth += 1 if word == "(" else -1
        elif word == "as" and depth == 0:
            return text[match.end() :].strip()
    raise at(ParseError("CREATE VIEW needs AS and a query."), tree)


def _drop(binder: Binder, node: Any, parsed: ParsedStatement) -> Statement:
    args = checked(node, "tables", "this", "kind", "exists")
    kind = str(args["kind"]).lower()
    if kind not in ("table", "view"):
        raise refuse(f"DROP {kind.upper()}", node)
    targets = args.get("tables") or [args["this"]]
    return Drop(kind, tuple(_name(t) for t in targets), bool(args.get("exists")))


# --- INSERT, COPY --------------------------------------------------------------------------------------------------


def _insert(binder: Binder, node: Any, parsed: ParsedStatement) -> Statement:
    args = checked(node, "this", "expression", "by_name", "with_")
    target, names = args["this"], None
    if type(target).__name__ == "Schema":
        parts = checked(target, "this", "expressions")
        target, names = parts["this"], [text_of(c) for c in parts["expressions"]]
    name = _table_parts(target)
    table = binder.resolver.table(name)
    if table is None:
        raise at(
            CatalogError(
                f'There is no table "{".".join(name)}".', hint=nearest(name[-1], binder.resolver.names()) or None
            ),
            target,
        )
    if isinstance(table, View):
        raise at(CatalogError(f'"{name[-1]}" is a view.', hint="Insert into a table."), target)
    known = {n.lower(): (n, t) for n, t in table.columns}
    tree = args["expression"]
    from finequery.planner.binder.query import with_ctes

    if type(tree).__name__ == "Values" and not args.get("with_") and not args.get("by_name"):
        listed = [n.lower() for n in names] if names is not None else list(known)
        if all(n in known for n in listed):  # each value is cast from its own type, not from the rows' common one
            binder.insert_types = [known[n][1] for n in listed]
    bound = bind_query(binder, tree, None, with_ctes(node, {}, None) if args.get("with_") else {})
    if args.get("by_name"):
        names = bound.names
    wanted = []
    for n in names if names is not None else [n for n, _ in table.columns]:
        if n.lower() not in known:
            hint = nearest(n, [m for m, _ in table.columns])
            raise at(BindError(f'Table "{name[-1]}" has no column "{n}".', hint=hint or None), node.this)
        if known[n.lower()] in wanted:
            raise at(BindError(f'Column "{n}" is named twice.'), node.this)
        wanted.append(known[n.lower()])
    if len(wanted) != len(bound.exprs):
        raise at(
            BindError(
                f"{len(wanted)} columns are to be filled, but there are {len(bound.exprs)} values.",
                hint=f"The columns are {', '.join(n for n, _ in wanted)}.",
            ),
            tree,
        )
    types = [t for _, t in wanted]
    try:
        plan = _cast_values(binder, bound, types, [n for n, _ in wanted])
    except ConversionError as error:
        raise at(error, tree) from None
    columns = tuple(n for n, _ in wanted)
    return Insert(table, columns, Query(plan, columns, tuple(types), binder.keys(), binder.cacheable))


def _cast_values(binder: Binder, bound: BoundQuery, types: list[Any], names: list[str]) -> Node:
    """The plan with its columns cast to the table's; constants of VALUES are cast at once."""
    from finequery.planner.logical import Values

    if isinstance(bound.plan, Values):
        rows = tuple(tuple(cast(e, t) for e, t in zip(row, types)) for row in bound.plan.rows)
        return Values(tuple(binder.column(t, n) for n, t in zip(names, types)), rows)
    return convert(binder, bound, types)


def _copy(binder: Binder, node: Any, parsed: ParsedStatement) -> Statement:
    args = checked(node, "this", "files", "params", "kind", "credentials")
    checked(args["credentials"]) if args.get("credentials") else None
    if args.get("kind"):
        raise refuse("COPY … FROM", node, "Use INSERT INTO t SELECT * FROM 'file'.")
    source = args["this"]
    bound = query(binder, source) if type(source).__name__ == "Subquery" else None
    if bound is None:
        if type(source).__name__ == "Schema":
            raise refuse("A column list in COPY", source, "Use COPY (SELECT …) TO.")
        bound = _star(binder, _table_parts(source), source)
    if len(args["files"]) != 1 or type(args["files"][0]).__name__ != "Literal":
        raise at(BindError("COPY writes one file.", hint="Write COPY t TO 'file.parquet'."), node)
    path = text_of(args["files"][0])
    options: dict[str, Any] = {}
    for option in args.get("params") or []:
        parts = checked(option, "this", "expression", "expressions")
        value = parts.get("expression")
        if parts.get("expressions"):
            value_: Any = [text_of(v) for v in parts["expressions"]]
        elif value is None:
            value_ = True
        elif type(value).__name__ == "Boolean":
            value_ = text_of(value) == "True"
        elif type(value).__name__ == "Literal" and not value.args.get("is_string"):
            number = text_of(value)
            value_ = int(number) if number.isdigit() else float(number)
        elif type(value).__name__ in ("Var", "Literal", "Column", "Identifier"):
            value_ = text_of(value)
        else:
            raise refuse(f"The value of {option.name}", option)
        options[text_of(parts["this"]).lower()] = value_
    form = str(options.pop("format", "")).lower()
    if not form:
        form = _BY_ENDING.get(path.lower().rpartition(".")[2], "csv")
    if form not in ("parquet", "csv", "json"):
        raise refuse(f"The format {form}", node, "FineQuery writes parquet, csv and json.")
    return Copy(bound, path, form, options)


# --- DESCRIBE, SHOW, SET -------------------------------------------------------------------------------------------


def _describe(binder: Binder, node: Any, parsed: ParsedStatement) -> Statement:
    target = checked(node, "this", "style", "kind")["this"]
    if node.args.get("style") or node.args.get("kind"):
        raise refuse(f"DESCRIBE {node.args.get('style') or node.args.get('kind')}", node)
    if type(target).__name__ == "Table":
        parts = _table_parts(target)
        return Describe(_star(binder, parts, target), ".".join(parts))
    return Describe(query(binder, target))


def _show_tree(binder: Binder, node: Any, parsed: ParsedStatement) -> Statement:
    if str(checked(node, "this")["this"]).upper() not in ("TABLES", "ALL TABLES"):
        raise refuse(f"SHOW {node.this}", node)
    return ShowTables()


def _set(binder: Binder, node: Any, parsed: ParsedStatement) -> Statement:
    items = checked(node, "expressions").get("expressions") or []
    if len(items) != 1:
        raise at(ParseError("SET takes one setting.", hint="Write SET name = value."), node)
    item = checked(items[0], "this", "kind")
    if str(item.get("kind") or "SESSION").upper() not in ("SESSION", "GLOBAL", "LOCAL"):
        raise refuse(f"SET {item['kind']}", items[0])
    if type(item["this"]).__name__ != "EQ":
        raise at(ParseError("This form of SET is not understood.", hint="Write SET name = value."), node)
    parts = checked(item["this"], "this", "expression")
    name, value = text_of(parts["this"]), parts["expression"]
    if type(value).__name__ in ("Column", "Var", "Identifier"):
        return SetOption(name, text_of(value))
    env = Expressions(binder, QueryState(None, {}), Scope(), "SET")
    e = env.bind(value)
    return SetOption(name, cast(e, VARCHAR) if e.type == VARCHAR else settle(e))


#: What COPY writes by a file's ending; CSV by all others.
_BY_ENDING = {"parquet": "parquet", "pq": "parquet", "json": "json", "jsonl": "json", "ndjson": "json"}

#: What to write instead of statements that are refused.
_INSTEAD = {
    "Alter": "Use CREATE OR REPLACE TABLE t AS SELECT … FROM t.",
    "Merge": "Use UPDATE and INSERT.",
    "Pivot": PIVOT_HINT,
    "Summarize": "DESCRIBE t shows columns and types; min, max, avg, count(DISTINCT x) … what is in them.",
}

_HANDLERS = {
    "Create": _create,
    "Drop": _drop,
    "Insert": _insert,
    "Update": changes.update,
    "Delete": changes.delete,
    "TruncateTable": changes.truncate,
    **dict.fromkeys(("Transaction", "Commit", "Rollback"), changes.transaction),
    "Copy": _copy,
    "Describe": _describe,
    "Show": _show_tree,
    "Set": _set,
}
