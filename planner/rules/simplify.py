"""Boolean structure: constants folded, NOT pushed inwards, ANDs and ORs flat, common factors of ORs taken out."""

from __future__ import annotations

from typing import Any

from finequery.operators.expr import Call, Case, Cast, Expr, Literal, conjunction, conjuncts
from finequery.planner.logical import Filter, Join, Node, Values
from finequery.planner.rules._everywhere import Everywhere
from finequery.planner.rules._tree import is_volatile
from finequery.types import BOOLEAN

TRUE, FALSE, UNKNOWN = Literal(BOOLEAN, True), Literal(BOOLEAN, False), Literal(BOOLEAN, None)
NEGATION = {"eq": "ne", "ne": "eq", "lt": "ge", "ge": "lt", "gt": "le", "le": "gt"}
MIRROR = {"eq": "eq", "ne": "ne", "lt": "gt", "gt": "lt", "le": "ge", "ge": "le"}


def simplify(plan: Node) -> Node:
    """Bring predicates into the form that the other rules look for.

    Before::

        Filter ((a = b) and (x = 1)) or ((a = b) and (x = 2)) or (not (not false))

    After::

        Filter (a = b) and (x in (1, 2))
    """
    return Everywhere(simplify_expr, simplify_node).node(plan)


def simplify_node(node: Node) -> Node:
    if isinstance(node, Filter):
        terms = filter_terms(node.predicate)
        if not terms:
            return node.input
        if terms == [FALSE]:
            return Values(node.input.schema, ())
        if isinstance(node.input, Filter):
            return Filter(node.input.input, merge(conjuncts(node.input.predicate) + terms))
        predicate = merge(terms)
        return node if predicate == node.predicate else Filter(node.input, predicate)
    if isinstance(node, Join) and node.condition is not None:
        condition = conjunction(filter_terms(node.condition))
        if condition != node.condition:
            return Join(
                node.kind, node.left, node.right, node.keys, condition, node.null_safe, node.null_aware, node.mark
            )
    return node


def merge(terms: list[Expr]) -> Expr:
    predicate = conjunction(terms)
    assert predicate is not None
    return predicate


def filter_terms(predicate: Expr) -> list[Expr]:
    """The conjuncts of a predicate of which only the true rows matter: NULL is as good as false."""
    terms = [t for c in conjuncts(predicate) for t in conjuncts(first_true(c)) if t != TRUE]
    return [FALSE] if any(t in (FALSE, UNKNOWN) for t in terms) else terms


def first_true(term: Expr) -> Expr:
    """The condition of a CASE that is true in its first branch only."""
    if isinstance(term, Case) and term.type == BOOLEAN:
        (condition, value), *rest = term.whens
        if value == TRUE and all(v in (FALSE, UNKNOWN) for v in (*(v for _, v in rest), term.default)):
            return condition
    return term


def simplify_expr(e: Expr) -> Expr:
    """One node, its children being simple already."""
    if type(e) is Call:
        name = e.name
        if name == "and" or name == "or":
            return connective(e)
        if name == "not":
            return negate(e.args[0])
        if name in MIRROR and len(e.args) == 2:
            return comparison(e)
        if name == "in":
            if len(e.args) == 2:
                return comparison(Call(BOOLEAN, "eq", e.args))
            if len(set(e.args[1:])) < len(e.args) - 1 and not any(is_volatile(a) for a in e.args):
                return simplify_expr(Call(BOOLEAN, "in", (e.args[0], *dict.fromkeys(e.args[1:]))))
        if name == "is_null" and type(e.args[0]) is Literal:
            return TRUE if e.args[0].is_null else FALSE
        if name == "coalesce":
            args = [a for a in e.args if not (type(a) is Literal and a.is_null)]
            if args and (len(args) == 1 or type(args[0]) is Literal):
                return args[0]
    elif type(e) is Case:
        return case(e)
    elif type(e) is Cast and e.child.type == e.type:
        return e.child
    return e


def negate(e: Expr) -> Expr:
    """NOT e. Comparisons are total (NaN is a value like others), so their negation is exact."""
    if type(e) is Literal:
        return UNKNOWN if e.is_null else (FALSE if e.value else TRUE)
    if type(e) is Call:
        if e.name == "not":
            return e.args[0]
        if e.name in NEGATION:
            return Call(BOOLEAN, NEGATION[e.name], e.args)
        if e.name == "and" or e.name == "or":
            return connective(Call(BOOLEAN, "or" if e.name == "and" else "and", tuple(negate(a) for a in e.args)))
    return Call(BOOLEAN, "not", (e,))


def comparison(e: Call) -> Expr:
    """A constant goes to the right; two constants are compared."""
    a, b = e.args
    if type(a) is Literal and type(b) is Literal:
        if a.is_null or b.is_null:
            return UNKNOWN
        if a.type == b.type and (a.type.is_exact or a.type.is_string):
            return TRUE if compare(e.name, a.value, b.value) else FALSE
    elif type(a) is Literal:
        return Call(BOOLEAN, MIRROR[e.name], (b, a))
    elif type(b) is Literal and b.is_null:
        return UNKNOWN
    return e


def compare(name: str, a: Any, b: Any) -> bool:
    if isinstance(a, str):
        a, b = a.encode(), b.encode()
    order = (a > b) - (a < b)
    return {"eq": order == 0, "ne": order != 0, "lt": order < 0, "le": order <= 0, "gt": order > 0, "ge": order >= 0}[
        name
    ]


def connective(e: Call) -> Expr:
    name = e.name
    stop, skip = (FALSE, TRUE) if name == "and" else (TRUE, FALSE)
    terms: list[Expr] = []
    seen: set[Expr] = set()
    for a in e.args:
        for term in a.args if type(a) is Call and a.name == name else (a,):
            if term == stop:
                return stop
            if term == skip or (term in seen and not is_volatile(term)):
                continue
            seen.add(term)
            terms.append(term)
    if not terms:
        return skip
    if len(terms) == 1:
        return terms[0]
    if name == "or":
        return disjunction(terms)
    return (
        e
        if len(terms) == len(e.args) and all(a is b for a, b in zip(terms, e.args))
        else Call(BOOLEAN, name, tuple(terms))
    )


def disjunction(terms: list[Expr]) -> Expr:
    """An OR of at least two different terms."""
    terms = merge_equalities(terms)
    if len(terms) == 1:
        return terms[0]
    branches = [conjuncts(t) for t in terms]
    common = [t for t in branches[0] if all(t in b for b in branches[1:]) and not is_volatile(t)]
    if not common:
        return Call(BOOLEAN, "or", tuple(terms))
    rests = [[t for t in b if t not in common] for b in branches]
    if not all(rests):  # a and (… or true)
        return merge(common)
    return merge(common + conjuncts(connective(Call(BOOLEAN, "or", tuple(merge(r) for r in rests)))))


def merge_equalities(terms: list[Expr]) -> list[Expr]:
    """``x = 1 or x in (2, 3)`` becomes ``x in (1, 2, 3)``."""
    lists: dict[Expr, list[Expr]] = {}
    places: list[Expr | None] = []
    out: list[Expr] = []
    for t in terms:
        if type(t) is Call and t.name in ("eq", "in") and all(type(a) is Literal for a in t.args[1:]):
            key = t.args[0]
            if not is_volatile(key):
                if key not in lists:
                    lists[key] = []
                    places.append(key)
                    out.append(t)
                lists[key] += [a for a in t.args[1:] if a not in lists[key]]
                continue
        places.append(None)
        out.append(t)
    return [
        t if key is None or len(lists[key]) < 2 else Call(BOOLEAN, "in", (key, *lists[key]))
        for key, t in zip(places, out)
    ]


def case(e: Case) -> Expr:
    whens = []
    default = e.default
    for condition, value in e.whens:
        if condition in (FALSE, UNKNOWN):
            continue
        if condition == TRUE:
            default = value
            break
        whens.append((condition, value))
    if not whens:
        return default
    return e if len(whens) == len(e.whens) and default is e.default else Case(e.type, tuple(whens), default)
