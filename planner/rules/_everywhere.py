"""Apply a change of expressions or nodes to a whole plan: subqueries' plans and shared subplans included."""

from __future__ import annotations

from collections.abc import Callable

from finequery.operators.expr import Call, Column, Expr, Literal, ScalarSubquery, same_objects
from finequery.planner.logical import Materialize, Node, Subquery
from finequery.planner.rules._tree import free, map_expressions, with_inputs


class Everywhere:
    """Bottom-up: every expression node by ``change_expr``, then every plan node by ``change_node``. Both return the
    thing itself where there is nothing to do. A shared Materialize stays shared."""

    def __init__(
        self, change_expr: Callable[[Expr], Expr] | None = None, change_node: Callable[[Node], Node] | None = None
    ):
        self.change_expr = change_expr
        self.change_node = change_node
        self.done: dict[int, tuple[Node, Node]] = {}  # also keeps the old nodes alive, so that ids stay theirs

    def node(self, node: Node) -> Node:
        shared = isinstance(node, Materialize)
        if shared and id(node) in self.done:
            return self.done[id(node)][1]
        inputs = node.inputs
        new = with_inputs(node, [self.node(i) for i in inputs]) if inputs else node
        new = map_expressions(new, self.expr)
        if self.change_node is not None:
            new = self.change_node(new)
        if shared:
            self.done[id(node)] = (node, new)
        return new

    def plan(self, plan: Node) -> Node:
        """A subquery's plan: the same object for the same object, so that its expressions stay equal."""
        if id(plan) not in self.done:
            self.done[id(plan)] = (plan, self.node(plan))
        return self.done[id(plan)][1]

    def expr(self, e: Expr) -> Expr:
        kind = type(e)
        if kind is Column or kind is Literal:
            return e
        if kind is Call:
            args = e.args  # type: ignore[attr-defined]
            new = tuple([self.expr(a) for a in args])
            if not same_objects(new, args):
                e = Call(e.type, e.name, new)  # type: ignore[attr-defined]
        elif kind is ScalarSubquery:
            plan = self.plan(e.plan)  # type: ignore[attr-defined]
            e = e if plan is e.plan else ScalarSubquery(e.type, plan)  # type: ignore[attr-defined]
        elif kind is Subquery:
            assert isinstance(e, Subquery)
            plan = self.plan(e.plan)
            operand = None if e.operand is None else self.expr(e.operand)
            if plan is not e.plan or operand is not e.operand:
                e = Subquery(e.type, e.kind, plan, free(plan), operand)
        else:
            children = e.children
            new = tuple([self.expr(c) for c in children])
            if not same_objects(new, children):
                e = e.rebuild(new)
        return e if self.change_expr is None else self.change_expr(e)
