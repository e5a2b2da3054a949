"""SELECT: its clauses in the order in which they take effect."""

from __future__ import annotations

from typing import Any

from finequery.errors import BindError, nearest
from finequery.operators.expr import Column, Expr, Literal, SortKey, WindowCall, columns_of
from finequery.planner.binder.aggregates import Regroup, sort_key
from finequery.planner.binder.expressions import Expressions, QueryState
from finequery.planner.binder.from_clause import bind_from
from finequery.planner.binder.grouping_sets import check_groupings, expand, has_sets, union_of_sets
from finequery.planner.binder.names import output_name
from finequery.planner.binder.ordered import aggregated
from finequery.planner.binder.query import limited, literal_ordinal, order_terms
from finequery.planner.binder.scope import (
    Binder,
    BoundQuery,
    at,
    checked,
    duplicate,
    items_of,
    output_exprs,
    refuse,
    text_of,
)
from finequery.planner.coercion import TRUE, call, is_null, settle
from finequery.planner.logical import Aggregate, Filter, Node, Project, Window
from finequery.types import BIGINT, BOOLEAN, INTEGER, NULL

_KNOWN = (
    "expressions",
    "from_",
    "joins",
    "where",
    "group",
    "having",
    "qualify",
    "windows",
    "distinct",
    "order",
    "limit",
    "offset",
    "with_",
    "kind",
)


def bind_select(binder: Binder, node: Any, state: QueryState) -> BoundQuery:
    """One SELECT with everything that belongs to it."""
    return _Select(binder, node, state).bind()


class _Select:
    """The state of binding one SELECT."""

    def __init__(self, binder: Binder, node: Any, state: QueryState):
        self.binder, self.node, self.query = binder, node, state
        self.args = checked(node, *_KNOWN)
        if not self.args["expressions"]:
            raise at(BindError("SELECT of nothing.", hint="Name columns, or write * for all."), node)
        if self.args.get("kind"):
            raise refuse(f"SELECT AS {self.args['kind']}", node)
        #: Select items: name, expression in the tree (None where it is bound already), bound expression.
        self.names: list[str] = []
        self.trees: list[Any] = []
        self.items: list[Expr] = []
        self.aliases: dict[str, Any] = {}

    def bind(self) -> BoundQuery:
        args, query = self.args, self.query
        self.plan, self.scope = bind_from(self.binder, self.node, query)
        for window in args.get("windows") or []:
            query.named_windows[text_of(window.this).lower()] = window
        for item in args["expressions"]:
            if type(item).__name__ == "Alias":
                self.aliases.setdefault(text_of(checked(item, "this", "alias")["alias"]).lower(), item.this)
        if args.get("where"):
            where = self.expressions("WHERE").predicate(checked(args["where"], "this")["this"])
            self.plan = Filter(self.plan, where)
        self.select_list()
        groups, sets = self.group_by()
        grouped = {e for _, e in groups or ()}
        having = self.condition("having", "HAVING", grouped)
        qualify = self.condition("qualify", "QUALIFY", grouped if groups or query.aggregates else None)
        keys = self.order_by()
        distinct_on = self.distinct_on()
        windows = list(query.windows.items())
        if groups is not None or query.aggregates or query.groupings or args.get("having"):
            env = self.expressions("SELECT")
            regroup = Regroup(env, groups or [], {c.id for c in self.plan.schema})
            if sets or query.groupings:
                check_groupings(query, groups or ())
                every = [frozenset(range(len(groups or ())))]
                self.plan = union_of_sets(self.binder, self.plan, query, groups or (), sets or every)
            else:
                self.plan = aggregated(self.binder, self.plan, groups or (), query.aggregates)
            self.items = [regroup(e) for e in self.items]
            having = regroup(having) if having is not None else None
            qualify = regroup(qualify) if qualify is not None else None
            keys = [regroup.key(k) for k in keys]
            distinct_on = [regroup(e) for e in distinct_on]
            windows = [(regroup.window(w), c) for w, c in windows]
        if having is not None:
            self.plan = Filter(self.plan, having)
        if windows:
            self.plan = Window(self.plan, tuple((c, w) for w, c in windows))
        if args.get("qualify"):
            if not windows:
                raise at(BindError("QUALIFY needs a window function.", hint="Use WHERE or HAVING."), args["qualify"])
            self.plan = Filter(self.plan, qualify or TRUE)
        return self.finish(keys, distinct_on)

    def expressions(self, clause: str, aggregates: bool = False, windows: bool = False) -> Expressions:
        return Expressions(self.binder, self.query, self.scope, clause, aggregates, windows, self.aliases)

    def condition(self, key: str, clause: str, grouped: set[Expr] | None) -> Expr | None:
        if not self.args.get(key):
            return None
        env = self.expressions(clause, True, clause == "QUALIFY")
        env.grouped = grouped
        return env.predicate(checked(self.args[key], "this")["this"])

    # --- the select list

    def select_list(self) -> None:
        env = self.expressions("SELECT", True, True)
        env.aliases = {}  # an item sees the aliases before it
        for item in self.args["expressions"]:
            kind = type(item).__name__
            if kind == "Alias":
                name = text_of(item.args["alias"])
                self.add(name, item.this, env.bind(item.this))
                env.aliases.setdefault(name.lower(), item.this)
            elif kind == "Star":
                self.star(env, item, self.scope.star, None)
            elif kind == "Column" and type(item.this).__name__ == "Star":
                args = checked(item, "this", "db", "table")
                parts = [text_of(args[k]) for k in ("db", "table") if args.get(k)]
                found = self.scope.relation(parts)
                if len(found) > 1:
                    raise at(duplicate(parts[-1]), item)
                if not found:
                    hint = nearest(parts[-1], [r.name for r in self.scope.relations])
                    raise at(BindError(f'There is no table "{parts[-1]}" in FROM.', hint=hint or None), item)
                self.star(env, item.this, [(found[0], n, e) for n, e in found[0].columns], parts[-1])
            else:
                name = self.scope.stored_name(item) if kind == "Column" else output_name(item)
                self.binder.named_by(item)
                self.add(name, item, env.bind(item))

    def add(self, name: str, tree: Any, e: Expr) -> None:
        self.names.append(name)
        self.trees.append(tree)
        self.items.append(e if is_null(e) else settle(e))

    def star(self, env: Expressions, node: Any, columns: list[Any], table: str | None) -> None:
        """``*`` with EXCLUDE, REPLACE and RENAME."""
        args = checked(node, "except_", "replace", "rename")
        if not self.scope.relations:
            raise at(BindError("* needs a FROM."), node)
        excluded = {text_of(e).lower(): e for e in args.get("except_") or []}
        replaced = {text_of(checked(e, "this", "alias")["alias"]).lower(): e for e in args.get("replace") or []}
        renamed = {text_of(checked(e, "this", "alias")["this"]).lower(): e for e in args.get("rename") or []}
        present = {name.lower() for _, name, _ in columns}
        for clause, items in (("EXCLUDE", excluded), ("REPLACE", replaced), ("RENAME", renamed)):
            for name, tree in items.items():
                if name not in present:
                    hint = nearest(name, present)
                    raise at(BindError(f'{clause}: there is no column "{name}".', hint=hint or None), tree)
        for _, name, e in columns:
            lower = name.lower()
            if lower in excluded:
                continue
            if lower in replaced:
                self.add(name, replaced[lower].this, env.bind(replaced[lower].this))
                continue
            env.note(e, node)
            self.add(text_of(renamed[lower].args["alias"]) if lower in renamed else name, None, e)
        if not self.items:
            raise at(BindError("No column is left."), node)

    # --- GROUP BY

    def group_by(self) -> tuple[list[tuple[Column, Expr]] | None, list[frozenset[int]]]:
        """The groups, and the grouping sets over them (none: all groups together)."""
        group = self.args.get("group")
        if not group:
            return None, []
        args = checked(group, "expressions", "all")
        terms: list[Expr] = []
        if args.get("all"):
            inputs = {c.id for c in self.plan.schema}
            calls = {c.id for c in self.query.aggregates.values()}
            for e in self.items:
                ids = columns_of(e)
                if ids & calls or self.windowed(ids):
                    rest = ids & inputs
                    if rest:
                        name = next(c.name for c in self.plan.schema if c.id in rest)
                        raise at(
                            BindError(
                                f'GROUP BY ALL: "{name}" stands beside an aggregate in one item.',
                                hint="Write out the GROUP BY.",
                            ),
                            group,
                        )
                elif not isinstance(e, Literal):
                    terms.append(e)
        nodes = args.get("expressions") or []
        several = has_sets(nodes)
        bound = [
            [e for node in nodes_ for e in self.group_term(node)] for nodes_ in (expand(nodes) if several else [nodes])
        ]
        groups: list[tuple[Column, Expr]] = []
        places: dict[Expr, int] = {}
        for e in (*terms, *(e for chosen in bound for e in chosen)):
            if e not in places:
                places[e] = len(groups)
                kept = type(e) is Column and not several and not self.query.groupings
                groups.append((e if kept else self.binder.column(e.type, getattr(e, "name", "group")), e))  # type: ignore[arg-type]
        return groups, [frozenset(places[e] for e in chosen) for chosen in bound] if several else []

    def windowed(self, ids: set[int]) -> bool:
        return any(c.id in ids for c in self.query.windows.values())

    def group_term(self, node: Any) -> list[Expr]:
        kind = type(node).__name__
        if kind == "Tuple":
            return [e for part in items_of(node) for e in self.group_term(part)]
        ordinal = literal_ordinal(node, len(self.items), "GROUP BY")
        if ordinal is not None:
            e = self.items[ordinal]
            if columns_of(e) & {c.id for c in self.query.aggregates.values()}:
                raise at(BindError(f"GROUP BY {ordinal + 1} is an aggregate."), node)
        else:
            e = self.expressions("GROUP BY").bind(node)
        return [settle(e)] if not is_null(e) else [Literal(INTEGER, None)]

    # --- ORDER BY, DISTINCT, LIMIT

    def order_by(self) -> list[SortKey]:
        order = self.args.get("order")
        if not order:
            return []
        keys = []
        env = self.expressions("ORDER BY", True, True)
        for term in checked(order, "expressions")["expressions"]:
            node = term.this
            if type(node).__name__ == "Column" and not node.args.get("table"):
                name = text_of(node).lower()
                index = next((i for i, n in enumerate(self.names) if n.lower() == name), None)
                if index is not None:  # an output column's name goes before an input's
                    keys.append(sort_key(self.items[index], term))
                    continue
            keys.extend(sort_key(e, term) for e in order_terms(env, term, self.items))
        return [k for k in keys if not isinstance(k.expr, Literal)]

    def distinct_on(self) -> list[Expr]:
        distinct = self.args.get("distinct")
        if not distinct:
            return []
        on = checked(distinct, "on").get("on")
        if on is None:
            return []
        env = self.expressions("DISTINCT ON", True, True)
        result = []
        for part in items_of(on):
            ordinal = literal_ordinal(part, len(self.items), "DISTINCT ON")
            result.append(self.items[ordinal] if ordinal is not None else settle(env.bind(part)))
        return result

    def finish(self, keys: list[SortKey], distinct_on: list[Expr]) -> BoundQuery:
        """Project, DISTINCT, ORDER BY and LIMIT; columns that only the sort needs are dropped at the end."""
        pairs: list[tuple[Column, Expr]] = []
        made: dict[Expr, Column] = {}
        used: set[int] = set()
        own = {c.id for c in self.plan.schema}  # a column of an enclosing query gets an id of its own here

        def output(name: str, e: Expr) -> Column:
            if type(e) is Column and e.id in own and e.id not in used:
                column = Column(e.type, e.id, name)
            else:
                column = self.binder.column(INTEGER if e.type == NULL else e.type, name)
            used.add(column.id)
            pairs.append((column, Literal(INTEGER, None) if is_null(e) else e))
            made.setdefault(e, column)
            return column

        columns = [output(n, e) for n, e in zip(self.names, self.items)]
        distinct = self.args.get("distinct")
        plain_distinct = distinct is not None and not distinct.args.get("on")
        if plain_distinct:
            keys = [SortKey(self.over_output(k.expr, made), k.descending, k.nulls_first) for k in keys]
        else:
            keys = [SortKey(made.get(k.expr) or output("", k.expr), k.descending, k.nulls_first) for k in keys]
            distinct_on = [made.get(e) or output("", e) for e in distinct_on]
        types = [e.type for e in self.items]
        plan: Node = Project(self.plan, tuple(pairs))
        if plain_distinct:
            plan = Aggregate(plan, tuple((c, c) for c in columns), ())
        elif distinct_on:
            number = self.binder.column(BIGINT, "row_number")
            first = WindowCall(BIGINT, "row_number", (), tuple(distinct_on), tuple(keys), bool(keys))
            plan = Window(plan, ((number, first),))
            plan = Filter(plan, call(BOOLEAN, "eq", number, Literal(BIGINT, 1)))
        plan = limited(self.expressions("LIMIT"), self.node, plan, keys)
        if len(plan.schema) > len(columns):
            plan = Project(plan, tuple((c, c) for c in columns))
        return BoundQuery(plan, self.names, output_exprs(columns, types), self.query.outer)

    def over_output(self, e: Expr, made: dict[Expr, Column]) -> Expr:
        """``e`` in terms of the output columns: all that is left below DISTINCT."""
        if e in made:
            return made[e]
        if type(e) is Column:
            raise at(
                BindError(f'DISTINCT: ORDER BY "{e.name}" needs that column in the select list.'), self.args["order"]
            )
        children = e.children
        return e.rebuild(tuple(self.over_output(c, made) for c in children)) if children else e
