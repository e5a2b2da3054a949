"""Expressions to vectors: one handler per function family.

Integers are computed in 64 bits wherever bounds prove that enough, else in 128; a result that could leave its SQL type
is checked, one that can't is not.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

from finequery.errors import NotSupportedError
from finequery.operators.expr import Call, Case, Cast, Column, Expr, Literal, transform, walk
from finequery.operators.lower import I64_HIGH, I64_LOW, Coded, Computed, Lower, NeedsHost, Stored, Value, register_kind
from finequery.operators.program import Out, Reg
from finequery.types import BOOLEAN, DOUBLE, SqlType

DAY = 86_400_000_000


def value(lower: Lower, expr: Expr) -> Value:
    """The vector of an expression in the current space; computed once per space, carried where it is dear."""
    key = (expr, lower.space, lower.active)
    found = lower.memo.get(key)
    if found is not None:
        return found[1]
    result = None
    if isinstance(expr, (Call, Case, Cast)):
        for number in lower._ancestors():
            earlier = lower.memo.get((expr, number, lower.active))
            if earlier is not None:
                old = earlier[1]
                result = Value(
                    old.kind,
                    lower.carry(old.reg, number),
                    None if old.valid is None else lower.carry(old.valid, number),
                    old.low,
                    old.high,
                    old.dictionary,
                    old.constant,
                )
                break
    if result is None:
        outer, lower.program.subject = lower.program.subject, expr
        result = _compute(lower, expr)
        lower.program.subject = outer
    lower.memo[key] = (lower.space, result)
    return result


def _compute(lower: Lower, expr: Expr) -> Value:
    if isinstance(expr, Column):
        found = lower.environment.get(expr.id)
        if found is None:
            raise KeyError(f"column {expr.name}#{expr.id} is not produced below")
        if isinstance(found, Stored):
            return lower.load(found)
        if isinstance(found, Coded):
            return lower.load_coded(found)
        if isinstance(found, Computed):
            v = found.value
            reg = lower.carry(v.reg, found.space)
            valid = None if v.valid is None else lower.carry(v.valid, found.space)
            return Value(v.kind, reg, valid, v.low, v.high, v.dictionary)
        reader = lower.program.owner
        if not isinstance(found, Column):
            lower.program.owner = lower.owners.get(expr.id, reader)
        result = value(lower, found)
        lower.program.owner = reader
        return result
    if isinstance(expr, Literal):
        return lower.constant(expr.type, expr.value)
    from finequery.operators.tabulate import tabulated

    table = tabulated(lower, expr)
    if table is not None:
        return table
    if isinstance(expr, Cast):
        return cast(lower, value(lower, expr.child), expr.child.type, expr.type, expr)
    if isinstance(expr, Case):
        return _case(lower, expr)
    if isinstance(expr, Call):
        handler = handler_of(expr.name)
        if handler is not None:
            return handler(lower, expr)
        known = lower.fold(transform(expr, lambda e: _literal(lower, e)))  # of a build side without rows: NULL
        if known != expr:
            return value(lower, known)
        raise NeedsHost(expr)
    raise NotSupportedError(f"expression {type(expr).__name__}")


def _literal(lower: Lower, expr: Expr) -> Literal | None:
    """The constant that a column stands for, if it does."""
    found = lower.resolve(expr) if isinstance(expr, Column) else None
    return found if isinstance(found, Literal) else None


@lru_cache(maxsize=1)
def _handlers() -> dict[str, Callable[[Lower, Any], Value]]:
    from finequery.operators.lower_bits import BIT_HANDLERS  # they are built from what is here
    from finequery.operators.lower_dates import DATE_HANDLERS
    from finequery.operators.lower_numbers import NUMBER_HANDLERS
    from finequery.operators.lower_strings import STRING_HANDLERS

    return {**HANDLERS, **NUMBER_HANDLERS, **DATE_HANDLERS, **STRING_HANDLERS, **BIT_HANDLERS}


def handler_of(name: str) -> Callable[[Lower, Any], Value] | None:
    """What lowers calls of a function; None where there are no instructions for it."""
    return _handlers().get(name)


def is_true(lower: Lower, expr: Expr) -> Reg:
    """A mask of the rows where a BOOLEAN expression is true (not NULL)."""
    v = as_bool(lower, value(lower, expr))
    if v.valid is None:
        return v.reg
    out = Reg(1)
    lower.emit("and_u8", v.reg, 0, v.valid, 0, Out(out))
    return out


# --- shapes of vectors -----------------------------------------------------------------------------------------------


def unary(lower: Lower, name: str, a: Reg, width: int) -> Reg:
    out = Reg(width)
    lower.emit(name, a, 0, Out(out))
    return out


def binary(lower: Lower, name: str, a: Reg, b: Reg, width: int) -> Reg:
    out = Reg(width)
    lower.emit(name, a, 0, b, 0, Out(out))
    return out


def as_bool(lower: Lower, v: Value) -> Value:
    if v.kind == "u8":
        return v
    name = {"i64": "u8_of_i64", "f64": "u8_of_f64", "u32": "u8_of_u32"}[v.kind]
    return Value("u8", unary(lower, name, v.reg, 1), v.valid, 0, 1)


#: The values of 128 bits.
WIDE = (-(2**127), 2**127 - 1)


def as_i64(lower: Lower, v: Value) -> Value:
    """An exact value in 64 bits; the bounds must allow it."""
    if v.kind == "i64":
        return v
    if v.kind == "u8":
        return Value("i64", unary(lower, "i64_of_u8", v.reg, 8), v.valid, v.low, v.high)
    if v.kind == "u32":
        return Value("i64", unary(lower, "i64_of_u32", v.reg, 8), v.valid, v.low, v.high)
    assert v.kind == "w", v.kind
    out = Reg(8)
    lower.emit("i64_of_w", v.reg, 0, lower.checked(v.valid), 0, Out(out), pure=False)
    return Value("i64", out, v.valid, *within(v.low, v.high, I64_LOW, I64_HIGH))


def within(least: int, most: int, low: int, high: int) -> tuple[int, int]:
    """The bounds of what is left of a vector when all outside of ``low`` … ``high`` is an error."""
    return min(max(least, low), high), max(min(most, high), low)


def as_wide(lower: Lower, v: Value) -> Value:
    if v.kind == "w":
        return v
    v = as_i64(lower, v)
    return Value("w", unary(lower, "w_of_i64", v.reg, 16), v.valid, v.low, v.high)


def as_f64(lower: Lower, v: Value) -> Value:
    """A number (already without scale) as a double."""
    if v.kind == "f64":
        return v
    if v.kind == "w":
        return Value("f64", unary(lower, "f64_of_w", v.reg, 8), v.valid)
    return Value("f64", unary(lower, "f64_of_i64", as_i64(lower, v).reg, 8), v.valid)


def as_views(lower: Lower, v: Value) -> Value:
    """A string as (address, length)."""
    if v.kind == "s":
        return v
    assert v.kind == "u32" and v.dictionary is not None
    out = Reg(16)
    chars, offsets = lower.symbol(v.dictionary.chars), lower.symbol(v.dictionary.offsets)
    lower.emit("gather_views", offsets, 0, chars, v.reg, Out(out))
    return Value("s", out, v.valid)


def fits(lower: Lower, v: Value, type_: SqlType) -> Value:
    """Check an exact value against its type where the bounds don't prove it."""
    low, high = type_.limits
    if v.low >= low and v.high <= high:
        return v
    if v.kind == "i64":
        if low <= I64_LOW and high >= I64_HIGH:
            return v
        out = Reg(8)
        floor, ceiling = max(low, I64_LOW), min(high, I64_HIGH)
        lower.emit(
            "in_range",
            *(v.reg, 0, lower.program.constant("i64", floor), 0, lower.program.constant("i64", ceiling), 0),
            *(lower.checked(v.valid), 0, Out(out)),
            pure=False,
        )
        return Value("i64", out, v.valid, *within(v.low, v.high, low, high))
    if v.kind == "w":
        constant = lower.program.constant
        out = Reg(16)
        if low > -(2**127) or high < 2**127 - 1:
            lower.emit(
                "in_range_w",
                *(v.reg, 0, constant("w", low), 0, constant("w", high), 0, lower.checked(v.valid), 0, Out(out)),
                pure=False,
            )
            v = Value("w", out, v.valid, *within(v.low, v.high, low, high))
        if low >= I64_LOW and high <= I64_HIGH:
            return as_i64(lower, v)
        return v
    return v


# --- comparison and logic --------------------------------------------------------------------------------------------


def _compare(lower: Lower, expr: Call) -> Value:
    if expr.args[0].type.name == "INTERVAL":
        raise NeedsHost(expr)
    a, b = value(lower, expr.args[0]), value(lower, expr.args[1])
    return Value("u8", compare(lower, expr.name, a, b, expr.args[0].type), lower.both_valid(a.valid, b.valid), 0, 1)


def compare(lower: Lower, name: str, a: Value, b: Value, type_: SqlType) -> Reg:
    """One of the six comparisons of two vectors of one SQL type, as a mask; NULLs are the caller's."""
    if name in ("gt", "ge"):
        name, a, b = ("lt" if name == "gt" else "le"), b, a
    inverted = name == "ne"
    operation = "eq" if inverted else name
    if type_.name == "INTERVAL":
        raise NotSupportedError("comparison of intervals between columns")
    if type_.is_string:
        if a.kind == "u32" and b.kind == "u32" and a.dictionary is b.dictionary:
            reg = binary(lower, f"{operation}_u32", a.reg, b.reg, 1)
        else:
            reg = binary(lower, f"{operation}_s", as_views(lower, a).reg, as_views(lower, b).reg, 1)
    elif type_.is_float:
        reg = binary(lower, f"{operation}_f64", as_f64(lower, a).reg, as_f64(lower, b).reg, 1)
    elif a.kind == "w" or b.kind == "w":
        reg = binary(lower, f"{operation}_w", as_wide(lower, a).reg, as_wide(lower, b).reg, 1)
    else:
        reg = binary(lower, f"{operation}_i64", as_i64(lower, a).reg, as_i64(lower, b).reg, 1)
    return lower.negate(reg) if inverted else reg


def _distinct(lower: Lower, expr: Call) -> Value:
    """IS [NOT] DISTINCT FROM: never NULL."""
    if expr.args[0].type.name == "INTERVAL":
        raise NeedsHost(expr)
    a, b = value(lower, expr.args[0]), value(lower, expr.args[1])
    equal = compare(lower, "eq", a, b, expr.args[0].type)
    if a.valid is not None or b.valid is not None:
        one = lower.program.constant("u8", 1)
        va, vb = a.valid or one, b.valid or one
        both = binary(lower, "and_u8", va, vb, 1)
        same = binary(lower, "eq_u8", va, vb, 1)
        equal = binary(lower, "and_u8", same, binary(lower, "or_u8", equal, lower.negate(both), 1), 1)
    return Value("u8", equal if expr.name == "not_distinct_from" else lower.negate(equal), None, 0, 1)


def _logic(lower: Lower, expr: Call) -> Value:
    result: Value | None = None
    for arg in expr.args:
        v = as_bool(lower, value(lower, arg))
        if result is None:
            result = v
        elif result.valid is None and v.valid is None:
            result = Value("u8", binary(lower, f"{expr.name}_u8", result.reg, v.reg, 1), None, 0, 1)
        else:
            one = lower.program.constant("u8", 1)
            out, valid = Reg(1), Reg(1)
            lower.emit(
                f"{expr.name}3",
                result.reg,
                0,
                result.valid or one,
                0,
                v.reg,
                0,
                v.valid or one,
                0,
                Out(out),
                Out(valid),
            )
            result = Value("u8", out, valid, 0, 1)
    assert result is not None
    return result


def _not(lower: Lower, expr: Call) -> Value:
    v = as_bool(lower, value(lower, expr.args[0]))
    return Value("u8", lower.negate(v.reg), v.valid, 0, 1)


def _is_null(lower: Lower, expr: Call) -> Value:
    valid = validity_of(lower, expr.args[0])
    if valid is None:
        return Value("u8", lower.program.constant("u8", 0), None, 0, 1)
    return Value("u8", lower.negate(valid), None, 0, 1)


def validity_of(lower: Lower, expr: Expr) -> Reg | None:
    """Validity of an expression, without its value where that is a column."""
    stored = lower.stored(expr)
    return lower.validity(stored) if stored is not None else value(lower, expr).valid


def _in(lower: Lower, expr: Call) -> Value:
    terms = tuple(Call(BOOLEAN, "eq", (expr.args[0], item)) for item in expr.args[1:])
    return value(lower, Call(BOOLEAN, "or", terms) if len(terms) > 1 else terms[0])


def _coalesce(lower: Lower, expr: Call) -> Value:
    if len(expr.args) == 1:
        return value(lower, expr.args[0])
    case = coalesce_case(expr)
    try:
        return value(lower, case)
    except NeedsHost as need:
        raise NeedsHost(expr) if need.expr is case else need from None


def coalesce_case(expr: Call) -> Case:
    """COALESCE as a CASE."""
    args = expr.args
    whens = tuple((Call(BOOLEAN, "not", (Call(BOOLEAN, "is_null", (a,)),)), a) for a in args[:-1])
    return Case(expr.type, whens, args[-1])


# --- choice ----------------------------------------------------------------------------------------------------------


#: Host functions that cannot fail, whatever they are given.
TOTAL = frozenset(
    "upper lower length strlen trim ltrim rtrim replace starts_with ends_with contains position".split()
    + ["concat", "like", "ilike"]
)


def _total(expr: Expr) -> bool:
    """Whether an expression fails for no value: it may be computed for rows that do not need it."""
    return all(isinstance(e, (Column, Literal)) or (isinstance(e, Call) and e.name in TOTAL) for e in walk(expr))


def _case(lower: Lower, expr: Case) -> Value:
    outer = lower.active
    try:
        return _choose(lower, expr)
    except NeedsHost as need:
        if lower.active is None or _total(need.expr):
            raise
        raise NeedsHost(expr) from None  # as a whole: a branch is computed for its own rows only
    finally:
        lower.active = outer


def _choose(lower: Lower, expr: Case) -> Value:
    from finequery.operators.dictionary_union import unify_strings

    outer = lower.active
    one = lower.program.constant("u8", 1)
    open_rows: Reg | None = outer
    branches: list[tuple[Reg, Value]] = []
    for condition, result in expr.whens:
        lower.active = open_rows
        mask = is_true(lower, condition)
        lower.active = mask if open_rows is None else binary(lower, "and_u8", mask, open_rows, 1)
        branches.append((mask, value(lower, result)))
        rest = lower.negate(mask)
        open_rows = rest if open_rows is None else binary(lower, "and_u8", rest, open_rows, 1)
    lower.active = open_rows
    default = value(lower, expr.default)
    lower.active = outer
    values = [v for _, v in branches] + [default]
    if expr.type.is_string:
        values = unify_strings(lower, values)
    kind = common_kind(lower, values, expr.type)
    values = [to_kind(lower, v, kind) for v in values]
    default = values[-1]
    width = default.reg.width
    reg, valid = default.reg, default.valid
    blend = {
        "u8": "blend_u8",
        "u32": "blend_u32",
        "i64": "blend_i64",
        "f64": "blend_f64",
        "w": "blend_w",
        "s": "blend_w",
    }
    for (mask, _), v in reversed(list(zip((m for m in branches), values))):
        out = Reg(width)
        lower.emit(blend[kind], mask, 0, v.reg, 0, reg, 0, Out(out))
        if valid is not None or v.valid is not None:
            flags = Reg(1)
            lower.emit("blend_u8", mask, 0, v.valid or one, 0, valid or one, 0, Out(flags))
            valid = flags
        reg = out
    return Value(kind, reg, valid, min(v.low for v in values), max(v.high for v in values), values[-1].dictionary)


def common_kind(lower: Lower, values: list[Value], type_: SqlType) -> str:
    kinds = {v.kind for v in values}
    if kinds == {"u32"} and any(v.dictionary is not values[0].dictionary for v in values):
        return "s"  # codes of dictionaries that are too large to be made one
    if len(kinds) == 1:
        return kinds.pop()
    if type_.is_float:
        return "f64"
    if type_.is_string:
        return "s"
    return "w" if "w" in kinds else "i64"


def to_kind(lower: Lower, v: Value, kind: str) -> Value:
    if v.kind == kind:
        return v
    return {"i64": as_i64, "w": as_wide, "f64": as_f64, "s": as_views, "u8": as_bool}[kind](lower, v)


# --- casts -----------------------------------------------------------------------------------------------------------


def rescale(lower: Lower, v: Value, source: int, target: int, type_: SqlType) -> Value:
    """From one decimal scale to another (integers have scale 0), rounding half away from zero; checked against the
    type."""
    if v.kind not in ("i64", "w"):
        v = as_i64(lower, v)
    if source < target:
        factor = 10 ** (target - source)
        low, high = v.low * factor, v.high * factor
        if v.kind == "i64" and low >= I64_LOW and high <= I64_HIGH:
            reg = binary(lower, "mul_i64", v.reg, lower.program.constant("i64", factor), 8)
            return fits(lower, Value("i64", reg, v.valid, low, high), type_)
        if v.kind == "i64" and factor <= I64_HIGH:
            reg = binary(lower, "mul_i64_w", v.reg, lower.program.constant("i64", factor), 16)
            return fits(lower, Value("w", reg, v.valid, low, high), type_)
        wide, out = as_wide(lower, v), Reg(16)
        constant = lower.program.constant("w", factor)
        lower.emit("mul_w", wide.reg, 0, constant, 0, lower.checked(v.valid), 0, Out(out), pure=False)
        return fits(lower, Value("w", out, v.valid, *within(low, high, *WIDE)), type_)
    if source > target:
        divisor = 10 ** (source - target)
        low, high = _div_round(v.low, divisor), _div_round(v.high, divisor)
        if v.kind == "i64" and divisor <= I64_HIGH:
            reg = binary(lower, "div_round_i64", v.reg, lower.program.constant("i64", divisor), 8)
            return fits(lower, Value("i64", reg, v.valid, low, high), type_)
        reg = binary(lower, "div_round_w", as_wide(lower, v).reg, lower.program.constant("w", divisor), 16)
        return fits(lower, Value("w", reg, v.valid, low, high), type_)
    return fits(lower, v, type_)


def _div_round(a: int, d: int) -> int:
    q, r = divmod(abs(a), d)
    q += r * 2 >= d
    return -q if a < 0 else q


def cast(lower: Lower, v: Value, source: SqlType, target: SqlType, expr: Expr) -> Value:
    """Casts between numbers, dates and booleans; the host does the others."""
    if source == target:
        return v
    if isinstance(expr, Cast) and expr.safe and not _never_fails(v, source, target):
        raise NeedsHost(expr)
    if source.name == "NULL":
        return lower.constant(target, None)
    if source.is_string or target.is_string or "INTERVAL" in (source.name, target.name):
        raise NeedsHost(expr)
    if target.name == "BOOLEAN":
        if v.kind == "w":
            eq = binary(lower, "eq_w", v.reg, lower.program.constant("w", 0), 1)
            return Value("u8", lower.negate(eq), v.valid, 0, 1)
        return as_bool(lower, v)
    if source.is_temporal or target.is_temporal:
        if source.is_timestamp and target.is_timestamp:
            return v
        if source.name == "DATE" and target.is_timestamp:
            v = as_i64(lower, v)
            low, high = v.low * DAY, v.high * DAY
            constant = lower.program.constant("i64", DAY)
            if low >= I64_LOW and high <= I64_HIGH:
                return Value("i64", binary(lower, "mul_i64", v.reg, constant, 8), v.valid, low, high)
            wide = binary(lower, "mul_i64_w", v.reg, constant, 16)
            return fits(lower, Value("w", wide, v.valid, low, high), target)
        if source.is_timestamp and target.name == "DATE":
            v = as_i64(lower, v)
            reg = binary(lower, "floor_div_i64", v.reg, lower.program.constant("i64", DAY), 8)
            return Value("i64", reg, v.valid, v.low // DAY, v.high // DAY)
        raise NotSupportedError(f"CAST from {source} to {target}")
    if target.is_float:
        if source.is_float:
            if target == DOUBLE or source == target:
                return v
            reg = Reg(8)
            lower.emit("f32_of_f64", v.reg, 0, lower.checked(v.valid), 0, Out(reg), pure=False)
            return Value("f64", reg, v.valid)
        result = as_f64(lower, v)
        if source.is_decimal and source.scale:
            divisor = lower.program.constant("f64", float(10**source.scale))
            result = Value("f64", binary(lower, "div_f64", result.reg, divisor, 8), v.valid)
        if target.name == "FLOAT":
            result = Value("f64", unary(lower, "round_f32", result.reg, 8), v.valid)
        return result
    if source.is_float:
        f = as_f64(lower, v)
        if target.is_decimal:
            factor = lower.program.constant("f64", float(10**target.scale))
            f = Value("f64", unary(lower, "round_f64", binary(lower, "mul_f64", f.reg, factor, 8), 8), v.valid)
        is_wide = register_kind(target) == "w"
        out = Reg(16 if is_wide else 8)
        name = "w_of_f64" if is_wide else "i64_of_f64"
        lower.emit(name, f.reg, 0, lower.checked(v.valid), 0, Out(out), pure=False)
        bound = 2**127 if is_wide else 2**63
        return fits(lower, Value("w" if is_wide else "i64", out, v.valid, -bound, bound - 1), target)
    return rescale(lower, v, source.scale, target.scale, target)


def _never_fails(v: Value, source: SqlType, target: SqlType) -> bool:
    if target.is_float or target.name == "BOOLEAN":
        return (source, target.name) != (DOUBLE, "FLOAT")
    if source.is_exact and target.is_exact and not (source.is_temporal or target.is_temporal):
        shift = target.scale - source.scale
        low, high = target.limits
        factor = 10 ** abs(shift)
        return (
            v.low * factor >= low and v.high * factor <= high
            if shift >= 0
            else v.low // factor - 1 >= low and v.high // factor + 1 <= high
        )
    return source.is_temporal and target.is_temporal


HANDLERS: dict[str, Callable[[Lower, Any], Value]] = {
    **dict.fromkeys(("eq", "ne", "lt", "le", "gt", "ge"), _compare),
    **dict.fromkeys(("distinct_from", "not_distinct_from"), _distinct),
    **dict.fromkeys(("and", "or"), _logic),
    "not": _not,
    "is_null": _is_null,
    "in": _in,
    "coalesce": _coalesce,
}
