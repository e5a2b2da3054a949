"""Operators: the type of ``a + b``, ``a = b``, ``a IN (…)``, CASE, and the casts that their operands need."""

from __future__ import annotations

from collections.abc import Sequence

from finequery.errors import BindError
from finequery.operators.expr import Case, Cast, Expr, Literal
from finequery.planner.coercion import (
    as_decimal,
    call,
    cast,
    cast_all,
    combine,
    common_type,
    fits,
    is_integer_literal,
    is_null,
    is_string_literal,
    negated,
    settle,
)
from finequery.types import (
    BIGINT,
    BOOLEAN,
    DATE,
    DOUBLE,
    FLOAT,
    HUGEINT,
    INTEGER,
    INTERVAL,
    NULL,
    TIMESTAMP,
    TIMESTAMPTZ,
    VARCHAR,
    SqlType,
    decimal,
)


def require_constant(e: Expr, what: str) -> object:
    """The value of an expression that has to be known while binding. Every such place comes through here."""
    if isinstance(e, Literal):
        return e.value
    raise BindError(f"{what} must be a constant.", hint="Write the value itself: it decides the type of the result.")


#: Operators as the user writes them.
SYMBOLS = {
    "add": "+",
    "sub": "-",
    "mul": "*",
    "div": "/",
    "intdiv": "//",
    "mod": "%",
    "eq": "=",
    "ne": "<>",
    "lt": "<",
    "le": "<=",
    "gt": ">",
    "ge": ">=",
    "not_distinct_from": "IS NOT DISTINCT FROM",
    "distinct_from": "IS DISTINCT FROM",
}


def _no_operator(op: str, a: Expr, b: Expr) -> BindError:
    hint = "Cast one side, as in CAST(x AS INTEGER)." if VARCHAR in (a.type, b.type) else None
    return BindError(f"There is no {a.type} {SYMBOLS[op]} {b.type}.", hint=hint)


def arithmetic(op: str, a: Expr, b: Expr) -> Expr:
    """``a op b`` for the operators + - * / // %, typed as DuckDB types them."""
    a, b = _adapt(op, a, b)
    s, t = a.type, b.type
    if s.is_numeric and t.is_numeric:
        return _numeric(op, a, b)
    if op == "add":
        if s == DATE and t.is_integer and combine(t, INTEGER) == INTEGER:
            return call(DATE, "add", a, cast(b, INTEGER))
        if t == DATE and s.is_integer and combine(s, INTEGER) == INTEGER:
            return call(DATE, "add", b, cast(a, INTEGER))
        if s.is_temporal and t == INTERVAL:
            return _moved("add_interval", a, b)
        if s == INTERVAL and t.is_temporal:
            return _moved("add_interval", b, a)
        if s == t == INTERVAL:
            return call(INTERVAL, "add_intervals", a, b)
    if op == "sub":
        if s == t == DATE:
            return call(BIGINT, "sub", a, b)
        if s == DATE and t.is_integer and combine(t, INTEGER) == INTEGER:
            return call(DATE, "sub", a, cast(b, INTEGER))
        if s.is_temporal and t.is_temporal:
            return call(INTERVAL, "timestamp_diff", cast(a, TIMESTAMP), cast(b, TIMESTAMP))
        if s.is_temporal and t == INTERVAL:
            return _moved("sub_interval", a, b)
        if s == t == INTERVAL:
            return call(INTERVAL, "add_intervals", a, negate(b))
    if op == "mul":
        if s == INTERVAL and t.is_integer:
            return call(INTERVAL, "mul_interval", a, cast(b, BIGINT))
        if t == INTERVAL and s.is_integer:
            return call(INTERVAL, "mul_interval", b, cast(a, BIGINT))
    raise _no_operator(op, a, b)


def _moved(name: str, moment: Expr, span: Expr) -> Expr:
    """A moment plus or minus an interval."""
    return as_zoned(moment, call(TIMESTAMP, name, clock(moment), span))


def clock(moment: Expr) -> Expr:
    """What functions see of a moment: of one with a time zone its TIMESTAMP in UTC."""
    return cast(moment, TIMESTAMP) if moment.type == TIMESTAMPTZ else moment


def as_zoned(moment: Expr, found: Expr) -> Expr:
    """A TIMESTAMP that was computed of ``clock(moment)``, with a time zone if that has one."""
    return cast(found, TIMESTAMPTZ) if moment.type == TIMESTAMPTZ else found


def _adapt(op: str, a: Expr, b: Expr) -> tuple[Expr, Expr]:
    """Give NULL and string literals the type of the other side."""
    if is_null(a) and is_null(b):
        return cast(a, BIGINT), cast(b, BIGINT)
    if is_null(a):
        return cast(a, settle(b).type if b.type != VARCHAR else BIGINT), b
    if is_null(b):
        return a, cast(b, a.type)
    for text, other in ((a, b), (b, a)):
        if is_string_literal(text):
            if other.type == VARCHAR or op in ("add", "sub") or not (other.type.is_integer or other.type.is_float):
                raise BindError(
                    f"The type of a string beside {SYMBOLS[op]} is open.",
                    hint="Write DATE '…', INTERVAL '…' or CAST('…' AS …).",
                )
            settled = cast(text, other.type)
            return (settled, b) if text is a else (a, settled)
    return a, b


def _integer_pair(a: Expr, b: Expr) -> SqlType:
    """The type in which two integers are computed: an open literal follows the other side where it fits."""
    s, t = a.type, b.type
    if is_integer_literal(a) and not is_integer_literal(b):
        s = t if fits(a, t) else s
    elif is_integer_literal(b) and not is_integer_literal(a):
        t = s if fits(b, s) else t
    both = combine(s, t)
    assert both is not None
    return both if both in (s, t) else (HUGEINT if both == HUGEINT else BIGINT)


def _numeric(op: str, a: Expr, b: Expr) -> Expr:
    s, t = a.type, b.type
    if op == "div":
        quotient = call(DOUBLE, "div", cast(a, DOUBLE), cast(b, DOUBLE))
        return cast(quotient, FLOAT) if FLOAT in (s, t) and DOUBLE not in (s, t) else quotient
    if s.is_integer and t.is_integer:
        result = _integer_pair(a, b)
        return call(result, op, cast(a, result), cast(b, result))
    if s.is_float or t.is_float:
        result = DOUBLE if DOUBLE in (s, t) else FLOAT
        return call(result, op, cast(a, result), cast(b, result))
    if op == "intdiv":
        return call(DOUBLE, op, cast(a, DOUBLE), cast(b, DOUBLE))
    x, y = as_decimal(s), as_decimal(t)
    if op == "mul":
        scale = x.scale + y.scale
        if scale > 38:
            raise BindError(
                f"{s} * {t} needs {scale} digits behind the point; DECIMAL has 38.",
                hint="Cast one side to DOUBLE or to a DECIMAL with a smaller scale.",
            )
        width = min(x.precision + y.precision, 38)
        if width > 18 and max(x.precision, y.precision) <= 18 and scale < 18:
            width = 18  # 64 bits as long as both arguments have them
        return call(decimal(width, scale), op, cast(a, x), cast(b, y))
    scale = max(x.scale, y.scale)
    width = max(x.precision - x.scale, y.precision - y.scale) + scale + (op != "mod")
    if op == "mod" and width > 38:
        return call(DOUBLE, op, cast(a, DOUBLE), cast(b, DOUBLE))
    return call(decimal(min(width, 38), scale), op, _rescale(a, x, scale), _rescale(b, y, scale))


def _rescale(e: Expr, own: SqlType, scale: int) -> Expr:
    if e.type.is_decimal and own.scale == scale:
        return e
    return cast(e, decimal(min(38, own.precision - own.scale + scale), scale))


def negate(e: Expr) -> Expr:
    """``-e``."""
    if isinstance(e, Literal):
        folded = negated(e)
        if folded is not None:
            return folded
    if is_null(e):
        return cast(e, BIGINT)
    if e.type == INTERVAL:
        return call(INTERVAL, "mul_interval", e, Literal(BIGINT, -1))
    if not e.type.is_numeric:
        raise BindError(f"There is no - {e.type}.", hint="Cast it, as in CAST(x AS INTEGER).")
    return call(e.type, "neg", e)


def compare(op: str, a: Expr, b: Expr) -> Expr:
    """A comparison over equal types: eq, ne, lt, le, gt, ge, distinct_from, not_distinct_from."""
    if a.type == b.type and not is_null(a):
        return call(BOOLEAN, op, a, b)
    target = meet([a, b])
    return call(BOOLEAN, op, cast(a, target), cast(b, target))


def compare_rows(op: str, left: Sequence[Expr], right: Sequence[Expr]) -> Expr:
    """(a, b) op (c, d), value by value from the left. NULL is equal to NULL and greater than all else, as in DuckDB's
    rows: the answer is never NULL."""
    if op in ("gt", "le"):
        return compare_rows({"gt": "lt", "le": "ge"}[op], right, left)
    equal = [compare("not_distinct_from", a, b) for a, b in zip(left, right)]
    if op in ("lt", "ge"):
        terms = []
        for i, (a, b) in enumerate(zip(left, right)):
            to_null = call(BOOLEAN, "and", call(BOOLEAN, "not", _is_null(a)), _is_null(b))
            less = call(BOOLEAN, "coalesce", compare("lt", a, b), to_null)
            terms.append(call(BOOLEAN, "and", *equal[:i], less) if i else less)
        below = call(BOOLEAN, "or", *terms) if len(terms) > 1 else terms[0]
        return below if op == "lt" else call(BOOLEAN, "not", below)
    same = call(BOOLEAN, "and", *equal) if len(equal) > 1 else equal[0]
    return call(BOOLEAN, "not", same) if op in ("ne", "distinct_from") else same


def _is_null(e: Expr) -> Expr:
    return call(BOOLEAN, "is_null", e)


def meet(exprs: Sequence[Expr], context: str = "") -> SqlType:
    """The common type of expressions that are compared with or stand for each other, or an error that names two."""
    target = common_type(exprs)
    if target is None:
        first = exprs[0]
        for other in exprs[1:]:
            if common_type([first, other]) is None:
                break
        where = f" in {context}" if context else ""
        text = VARCHAR in (first.type, other.type)
        raise BindError(
            f"{first.type} and {other.type} don't go together{where}.",
            hint=f"Cast one side, as in CAST(x AS {other.type if text and first.type == VARCHAR else first.type})."
            if context or text
            else "Cast one side explicitly.",
        )
    return INTEGER if target == NULL else target


def boolean(e: Expr) -> Expr:
    """``e`` where a truth value is wanted."""
    if e.type == BOOLEAN:
        return settle(e)
    if e.type.is_numeric or e.type in (VARCHAR, NULL):
        return cast(e, BOOLEAN)
    raise BindError(f"A condition must be BOOLEAN, not {e.type}.", hint="Compare it with something.")


def concat_operator(a: Expr, b: Expr) -> Expr:
    """``a || b``: NULL if either is."""
    if a.type != VARCHAR and b.type != VARCHAR and NULL not in (a.type, b.type) and INTERVAL in (a.type, b.type):
        raise BindError(f"There is no {a.type} || {b.type}.")
    parts: list[Expr] = []
    for e in (cast(a, VARCHAR), cast(b, VARCHAR)):
        parts.extend(e.args if getattr(e, "name", "") == "concat" else [e])  # type: ignore[attr-defined]
    return call(VARCHAR, "concat", *parts)


def in_list(x: Expr, items: Sequence[Expr]) -> Expr:
    """``x IN (items)``: constants in one ``in``, the others as comparisons."""
    if not items:
        raise BindError("IN needs at least one value.")
    target = meet([x, *items], "IN")
    x = cast(x, target)
    constants: list[Expr] = []
    others: list[Expr] = []
    for item in cast_all(items, target):
        inner = item.child if isinstance(item, Cast) else item
        (
            constants if not inner.children and not hasattr(inner, "id") and not hasattr(inner, "plan") else others
        ).append(item)
    terms: list[Expr] = []
    if len(constants) == 1:
        terms.append(call(BOOLEAN, "eq", x, constants[0]))
    elif constants:
        terms.append(call(BOOLEAN, "in", x, *constants))
    terms.extend(call(BOOLEAN, "eq", x, item) for item in others)
    return terms[0] if len(terms) == 1 else call(BOOLEAN, "or", *terms)


def case(whens: Sequence[tuple[Expr, Expr]], default: Expr) -> Expr:
    """CASE over conditions, its results cast to their common type."""
    target = meet([*(value for _, value in whens), default], "CASE")
    return Case(target, tuple((boolean(c), cast(v, target)) for c, v in whens), cast(default, target))
