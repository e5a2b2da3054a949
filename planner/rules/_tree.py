"""What all rules share: walking, rebuilding, new column ids."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator

from finequery.errors import InternalError
from finequery.operators.expr import (
    VOLATILE,
    Call,
    Column,
    Expr,
    ScalarSubquery,
    SortKey,
    WindowCall,
    conjunction,
    same_objects,
)
from finequery.operators.expr import (
    Aggregate as AggregateCall,
)
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
from finequery.types import SqlType

ExprMap = Callable[[Expr], Expr]


class _Ids(threading.local):
    next = 1 << 20  # a rule that is called alone, as tests do, starts here


_ids = _Ids()


def fresh(type: SqlType, name: str) -> Column:
    """A new column, with an id that the plan does not have yet."""
    _ids.next += 1
    return Column(type, _ids.next, name)


def fresh_like(column: Column) -> Column:
    return fresh(column.type, column.name)


def start_ids(plan: Node) -> None:
    """Make ``fresh`` count on from the ids of ``plan``, so that equal plans are optimised to equal plans."""
    _ids.next = max_id(plan)


def max_id(plan: Node) -> int:
    return max([max(ids(node), default=0) for node in walk_all(plan)])


def reads(expr: Expr) -> set[int]:
    """Ids of the columns an expression reads, those that its subqueries take from outside included."""
    found: set[int] = set()
    stack = [expr]
    while stack:
        e = stack.pop()
        kind = type(e)
        if kind is Column:
            found.add(e.id)  # type: ignore[attr-defined]
        elif kind is Call:
            stack.extend(e.args)  # type: ignore[attr-defined]
        elif kind is Subquery:
            found |= free(e.plan)  # type: ignore[attr-defined]
            stack.extend(e.children)
        else:
            stack.extend(e.children)
    return found


def has_subquery(expr: Expr) -> bool:
    return type(expr) is Subquery or any(has_subquery(c) for c in expr.children)


def is_volatile(expr: Expr) -> bool:
    return (type(expr) is Call and expr.name in VOLATILE) or any(is_volatile(c) for c in expr.children)


def map_aggregate(call: AggregateCall, change: ExprMap) -> AggregateCall:
    args = tuple([change(a) for a in call.args])
    keep = None if call.filter is None else change(call.filter)
    if keep is call.filter and same_objects(args, call.args):
        return call
    return AggregateCall(call.type, call.name, args, call.distinct, keep)


def map_expressions(node: Node, change: ExprMap) -> Node:
    """The node with ``change`` applied to each of its expressions; the same object where nothing changed."""
    before = node.expressions
    after = [change(e) for e in before]
    if same_objects(after, before):
        return node
    new = iter(after)
    if isinstance(node, Filter):
        return Filter(node.input, next(new))
    if isinstance(node, Project):
        return Project(node.input, tuple((c, next(new)) for c, _ in node.columns))
    if isinstance(node, Join):
        keys = tuple((next(new), next(new)) for _ in node.keys)
        condition = None if node.condition is None else next(new)
        return Join(node.kind, node.left, node.right, keys, condition, node.null_safe, node.null_aware, node.mark)
    if isinstance(node, Aggregate):
        groups = tuple((c, next(new)) for c, _ in node.groups)
        return Aggregate(
            node.input, groups, tuple((c, map_aggregate(call, lambda _: next(new))) for c, call in node.aggregates)
        )
    if isinstance(node, Window):
        return Window(node.input, tuple((c, map_window(w, lambda _: next(new))) for c, w in node.calls))
    if isinstance(node, Sort):
        sort_keys = tuple(SortKey(next(new), k.descending, k.nulls_first) for k in node.keys)
        limit = None if node.limit is None else next(new)
        return Sort(node.input, sort_keys, limit, None if node.offset is None else next(new))
    if isinstance(node, Limit):
        limit = None if node.limit is None else next(new)
        return Limit(node.input, limit, None if node.offset is None else next(new))
    if isinstance(node, Values):
        return Values(node.columns, tuple(tuple(next(new) for _ in row) for row in node.rows))
    raise InternalError(f"no expressions in {type(node).__name__}")


def map_window(call: WindowCall, change: ExprMap) -> WindowCall:
    return WindowCall(
        call.type,
        call.name,
        tuple(change(a) for a in call.args),
        tuple(change(p) for p in call.partition),
        tuple(SortKey(change(k.expr), k.descending, k.nulls_first) for k in call.order),
        call.running,
        call.frame,
        call.ignore_nulls,
    )


def ids(node: Node) -> frozenset[int]:
    """Ids that the node produces (remembered in the node)."""
    known = node.__dict__.get("_ids")
    if known is None:
        if isinstance(node, Join) and node.kind not in ("semi", "anti"):
            known = ids(node.left)
            known |= {node.mark.id} if node.mark is not None else ids(node.right)
        elif isinstance(node, (Filter, Sort, Limit, Materialize)):
            known = ids(node.input)
        else:
            known = frozenset([c.id for c in node.schema])
        node.__dict__["_ids"] = known
    return known


def free(node: Node) -> frozenset[int]:
    """Ids that the node or anything below it reads from outside: its correlation (remembered in the node)."""
    known = node.__dict__.get("_free")
    if known is None:
        used: set[int] = set()
        for e in node.expressions:
            used |= reads(e)
        for child in node.inputs:
            used -= ids(child)
        for child in node.inputs:
            used |= free(child)
        if isinstance(node, Join):  # a lateral join's right side reads the left one
            used -= ids(node.left) - free(node.left)
        known = node.__dict__["_free"] = frozenset(used)
    return known


def with_inputs(node: Node, inputs: Iterable[Node]) -> Node:
    """The node over other inputs; the same object where they are the same."""
    new = tuple(inputs)
    return node if same_objects(new, node.inputs) else node.with_inputs(new)


def bottom_up(node: Node, change: Callable[[Node], Node]) -> Node:
    """Apply ``change`` to every node, inputs first. Does not go below Materialize."""
    if isinstance(node, Materialize):
        return node
    inputs = node.inputs
    if inputs:
        node = with_inputs(node, [bottom_up(i, change) for i in inputs])
    return change(node)


def walk(node: Node) -> Iterator[Node]:
    """The node and all below it, down to and with Materialize nodes but not into them."""
    yield node
    if not isinstance(node, Materialize):
        for child in node.inputs:
            yield from walk(child)


def walk_all(node: Node) -> Iterator[Node]:
    """Every node of the whole plan once, parents first, into Materialize and the plans in expressions."""
    seen: set[int] = set()
    stack = [node]
    while stack:
        node = stack.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        yield node
        plans = [plan for e in node.expressions for plan in plans_in(e)]
        stack += reversed([*node.inputs, *plans])


def plans_in(expr: Expr) -> list[Node]:
    """Plans of the subqueries that stand in an expression."""
    found: list[Node] = []
    stack = [expr]
    while stack:
        e = stack.pop()
        kind = type(e)
        if kind is Call:
            stack.extend(e.args)  # type: ignore[attr-defined]
        elif kind is ScalarSubquery or kind is Subquery:
            found.append(e.plan)  # type: ignore[attr-defined]
            stack.extend(e.children)
        elif kind is not Column:
            stack.extend(e.children)
    return found


def replace(expr: Expr, mapping: dict[int, Expr]) -> Expr:
    """Replace columns by what ``mapping`` has for their ids, in subqueries' plans too."""
    kind = type(expr)
    if kind is Column:
        return mapping.get(expr.id, expr)  # type: ignore[attr-defined]
    if kind is Call:
        args = expr.args  # type: ignore[attr-defined]
        new = tuple([replace(a, mapping) for a in args])
        return expr if same_objects(new, args) else Call(expr.type, expr.name, new)  # type: ignore[attr-defined]
    if kind is Subquery:
        assert isinstance(expr, Subquery)
        operand = None if expr.operand is None else replace(expr.operand, mapping)
        plan = expr.plan
        if not free(plan).isdisjoint(mapping):
            plan = replace_in_plan(plan, mapping)
        if plan is expr.plan and operand is expr.operand:
            return expr
        return Subquery(expr.type, expr.kind, plan, free(plan), operand)
    children = expr.children
    if not children:
        return expr
    new = tuple([replace(c, mapping) for c in children])
    return expr if same_objects(new, children) else expr.rebuild(new)


def replace_in_plan(plan: Node, mapping: dict[int, Expr]) -> Node:
    """Replace free columns everywhere in a plan."""
    plan = with_inputs(plan, [replace_in_plan(i, mapping) for i in plan.inputs])
    return map_expressions(plan, lambda e: replace(e, mapping))


def pass_through(columns: Iterable[Column]) -> tuple[tuple[Column, Expr], ...]:
    return tuple((c, c) for c in columns)


def as_schema(node: Node, schema: tuple[Column, ...]) -> Node:
    """The node with exactly these output columns, in this order."""
    if [c.id for c in node.schema] == [c.id for c in schema]:
        return node
    return Project(node, pass_through(schema))


def filtered(node: Node, terms: list[Expr]) -> Node:
    """A Filter by all the terms, or the node itself."""
    predicate = conjunction(terms)
    return node if predicate is None else Filter(node, predicate)


def copy(node: Node) -> tuple[Node, dict[int, Expr]]:
    """The same plan with new ids, and the mapping from old to new ids."""
    mapping: dict[int, Expr] = {}

    def new(column: Column) -> Column:
        mapping[column.id] = made = fresh_like(column)
        return made

    def visit(node: Node) -> Node:
        if isinstance(node, Materialize):
            raise InternalError("a Materialize without a Project above it")
        if isinstance(node, Project) and isinstance(node.input, Materialize):
            return Project(node.input, tuple((new(c), e) for c, e in node.columns))
        node = with_inputs(node, [visit(i) for i in node.inputs])
        node = map_expressions(node, lambda e: replace(e, mapping))
        if isinstance(node, Scan):
            return Scan(node.table, tuple((new(c), name) for c, name in node.columns), node.alias)
        if isinstance(node, Values):
            return Values(tuple(new(c) for c in node.columns), node.rows)
        if isinstance(node, Project):
            return Project(node.input, tuple((new(c), e) for c, e in node.columns))
        if isinstance(node, Aggregate):
            groups = tuple((new(c), e) for c, e in node.groups)
            return Aggregate(node.input, groups, tuple((new(c), a) for c, a in node.aggregates))
        if isinstance(node, Window):
            return Window(node.input, tuple((new(c), w) for c, w in node.calls))
        if isinstance(node, Union):
            return Union(node.parts, tuple(new(c) for c in node.columns))
        if isinstance(node, Join) and node.mark is not None:
            mark = new(node.mark)
            return Join(
                node.kind, node.left, node.right, node.keys, node.condition, node.null_safe, node.null_aware, mark
            )
        return node

    return visit(node), mapping
