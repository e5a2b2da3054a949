"""Predicates move down to where their columns first exist, and along equalities to where they hold as well."""

from __future__ import annotations

from finequery.operators.expr import Call, Column, Expr, Literal, Parameter, ScalarSubquery, conjunction, conjuncts
from finequery.planner.logical import Aggregate, Filter, Join, Materialize, Node, Project, Sort, Union, Window
from finequery.planner.rules._tree import filtered, ids, is_volatile, reads, replace, with_inputs
from finequery.planner.rules.extract_keys import split_keys
from finequery.types import BOOLEAN

SIMPLE = frozenset(["eq", "lt", "le", "gt", "ge", "in"])


def push_filters(plan: Node) -> Node:
    """Move every predicate as deep as it can go; joins get the predicates over both of their sides.

    Before::

        Filter (a = 1) and (k = k#2) and ((a = 1 and b = 2) or (a = 3 and b = 4))
          Join inner
            Scan t [k, a]
            Scan u [k#2, b]

    After::

        Join inner on k = k#2 if (a = 1 and b = 2) or (a = 3 and b = 4)
          Filter (a = 1) and (a in (1, 3))
            Scan t [k, a]
          Filter b in (2, 4)
            Scan u [k#2, b]
    """
    return push(plan, [])


def push(node: Node, terms: list[Expr]) -> Node:
    """The node, filtered by the terms."""
    if isinstance(node, Filter):
        return push(node.input, conjuncts(node.predicate) + terms)
    if isinstance(node, Join):
        return push_inner(node, terms) if node.kind == "inner" and not node.null_safe else push_join(node, terms)
    if isinstance(node, Materialize) or not node.inputs:
        return filtered(node, terms)
    if isinstance(node, Project):
        if isinstance(node.input, Materialize):
            return filtered(node, terms)
        columns: dict[int, Expr] = {c.id: e for c, e in node.columns}
        volatile = {id for id, e in columns.items() if is_volatile(e)}
        down, stay = split(terms, lambda r: r.isdisjoint(volatile))
        return filtered(with_inputs(node, [push(node.input, [replace(t, columns) for t in down])]), stay)
    if isinstance(node, Aggregate):
        groups: dict[int, Expr] = {c.id: e for c, e in node.groups}
        down, stay = split(terms, lambda r: bool(r) and r <= groups.keys())
        return filtered(with_inputs(node, [push(node.input, [replace(t, groups) for t in down])]), stay)
    if isinstance(node, Window):
        common = frozenset.intersection(
            *[frozenset(p.id for p in w.partition if isinstance(p, Column)) for _, w in node.calls]
        )
        down, stay = split(terms, lambda r: bool(r) and r <= common)
        return filtered(with_inputs(node, [push(node.input, down)]), stay)
    if isinstance(node, Union):
        down, stay = split(terms, lambda r: True)
        parts = []
        for part in node.parts:
            mapping: dict[int, Expr] = {c.id: p for c, p in zip(node.columns, part.schema)}
            parts.append(push(part, [replace(t, mapping) for t in down]))
        return filtered(with_inputs(node, parts), stay)
    if isinstance(node, Sort) and node.limit is None and node.offset is None:
        down, stay = split(terms, lambda r: True)
        return filtered(with_inputs(node, [push(node.input, down)]), stay)
    return filtered(with_inputs(node, [push(i, []) for i in node.inputs]), terms)


def split(terms: list[Expr], fits) -> tuple[list[Expr], list[Expr]]:  # type: ignore[no-untyped-def]
    """Terms whose columns fit, and the others (volatile ones among them)."""
    down: list[Expr] = []
    stay: list[Expr] = []
    for t in terms:
        (down if fits(reads(t)) and not is_volatile(t) else stay).append(t)
    return down, stay


def push_join(node: Join, terms: list[Expr]) -> Node:
    """Outer, semi, anti, mark, single, and null-safe inner joins."""
    kind = node.kind
    left, right = ids(node.left), ids(node.right)
    if kind == "full":
        return filtered(with_inputs(node, [push(node.left, []), push(node.right, [])]), terms)
    to_left, stay = split(terms, lambda r: r <= left)
    to_right: list[Expr] = []
    if kind == "inner":
        to_right, stay = split(stay, lambda r: r <= right)
    condition: list[Expr] = []
    for t in conjuncts(node.condition):
        r = reads(t)
        if r and r <= right and not is_volatile(t):
            to_right.append(t)
        elif r and r <= left and kind in ("inner", "semi") and not is_volatile(t):
            to_left.append(t)
        else:
            condition.append(t)
    keys = node.keys
    if not node.null_safe and not node.null_aware:
        # A row on the right only matters where its key equals one that passes the filters on the left.
        more, condition = split_keys(condition, left, right)
        keys += tuple(more)
        same: dict[int, Expr] = {a.id: b for a, b in keys if isinstance(a, Column)}
        to_right += [replace(t, same) for t in to_left if is_simple(t) and reads(t) <= same.keys()]
        if kind == "semi":
            back: dict[int, Expr] = {b.id: a for a, b in keys if isinstance(b, Column)}
            known = set(to_left)
            for t in to_right:
                if is_simple(t) and reads(t) <= back.keys():
                    moved = replace(t, back)
                    if moved not in known:
                        to_left.append(moved)
    inputs = push(node.left, to_left), push(node.right, to_right)
    if keys == node.keys and len(condition) == len(conjuncts(node.condition)):
        return filtered(with_inputs(node, inputs), stay)
    new = Join(kind, *inputs, keys, conjunction(condition), node.null_safe, node.null_aware, node.mark)
    return filtered(new, stay)


def push_inner(node: Join, terms: list[Expr]) -> Node:
    """A tree of inner joins as a whole."""
    leaves: list[Node] = []
    terms = list(terms)
    gather(node, leaves, terms)
    owner = {id: i for i, leaf in enumerate(leaves) for id in ids(leaf)}
    terms = list(dict.fromkeys(terms))
    places: list[tuple[Expr, set[int]]] = []
    for t in terms + derived(terms, owner):
        places.append((t, {owner[id] for id in reads(t) if id in owner}))
    own: list[list[Expr]] = [[] for _ in leaves]
    across: list[tuple[Expr, int]] = []
    stay: list[Expr] = []
    for t, at in places:
        if is_volatile(t):
            stay.append(t)
        elif len(at) > 1:
            across.append((t, max(at)))
        else:
            own[min(at, default=0)].append(t)
    result = push(leaves[0], own[0])
    for i in range(1, len(leaves)):
        right = push(leaves[i], own[i])
        keys, condition = split_keys([t for t, last in across if last == i], ids(result), ids(right))
        result = Join("inner", result, right, tuple(keys), conjunction(condition))
    return filtered(result, stay)


def gather(node: Node, leaves: list[Node], terms: list[Expr]) -> None:
    """Leaves and predicates of a tree of inner joins."""
    if isinstance(node, Filter) and isinstance(node.input, (Join, Filter)):
        gather(node.input, leaves, terms)
        terms += conjuncts(node.predicate)
    elif isinstance(node, Join) and node.kind == "inner" and not node.null_safe:
        gather(node.left, leaves, terms)
        gather(node.right, leaves, terms)
        terms += [Call(BOOLEAN, "eq", key) for key in node.keys]
        terms += conjuncts(node.condition)
    else:
        leaves.append(node)


def derived(terms: list[Expr], owner: dict[int, int]) -> list[Expr]:
    """Predicates that follow from the others: ``a = b and a = 1`` gives ``b = 1``, and an OR over several inputs gives
    one over each input that all of its branches restrict."""
    known = set(terms)
    more: list[Expr] = []

    def add(t: Expr) -> None:
        if t not in known:
            known.add(t)
            more.append(t)

    classes = equivalences(terms)
    for t in terms:
        if type(t) is not Call:
            continue
        if classes and is_simple(t):
            column = t.args[0]
            if type(column) is Column:
                for other in classes.get(column.id, ()):
                    if other.id != column.id:
                        add(Call(BOOLEAN, t.name, (other, *t.args[1:])))
        elif t.name == "or":
            branches = [conjuncts(b) for b in t.args]
            for leaf in {owner[id] for id in reads(t) if id in owner}:
                parts = [[c for c in b if (r := reads(c)) and all(owner.get(id) == leaf for id in r)] for b in branches]
                if all(parts) and any(len(p) < len(b) for p, b in zip(parts, branches)):
                    from finequery.planner.rules.simplify import disjunction

                    add(disjunction(list(dict.fromkeys(filtered_terms(p) for p in parts))))
    return more


def filtered_terms(terms: list[Expr]) -> Expr:
    predicate = conjunction(terms)
    assert predicate is not None
    return predicate


def equivalences(terms: list[Expr]) -> dict[int, set[Column]]:
    """For each column that is equated with others: its class."""
    classes: dict[int, set[Column]] = {}
    for t in terms:
        if type(t) is Call and t.name == "eq":
            a, b = t.args
            if type(a) is not Column or type(b) is not Column or a.type != b.type:
                continue
            merged = classes.get(a.id, {a}) | classes.get(b.id, {b})
            for column in merged:
                classes[column.id] = merged
    return classes


def is_simple(t: Expr) -> bool:
    """A comparison of a column with constants."""
    return (
        type(t) is Call
        and t.name in SIMPLE
        and type(t.args[0]) is Column
        and all(type(a) in (Literal, Parameter, ScalarSubquery) for a in t.args[1:])
    )
