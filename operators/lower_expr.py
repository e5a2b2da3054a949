"""Expressions to vectors: one handler per function family.

Integers are computed in 64 bits wherever bounds prove that enough, else in 128; a result that could leave its SQL type
is checked, one that can't is not.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

from finequery.errors import NotSupportedError
from finequery.operators.expr import Call, Case, Cast, Column, Expr, Literal, walk
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
        return value(lower, found)
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
        handler = HANDLERS.get(expr.name) or _more_handlers().get(expr.name)
        if handler is None:
            raise NeedsHost(expr)
        return handler(lower, expr)
    raise NotSupportedError(f"expression {type(expr).__name__}")


@lru_cache(maxsize=1)
def _more_handlers() -> dict[str, Callable[[Lower, Any], Value]]:
    from finequery.operators.lower_bits import BIT_HANDLERS  # they are built from what is here
    from finequery.operators.lower_strings import STRING_HANDLERS

    return {**STRING_HANDLERS, **BIT_HANDLERS}


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
    return Value("i64", out, v.valid, *_within(v.low, v.high, I64_LOW, I64_HIGH))


def _within(least: int, most: int, low: int, high: int) -> tuple[int, int]:
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
        return Value("i64", out, v.valid, *_within(v.low, v.high, low, high))
    if v.kind == "w":
        constant = lower.program.constant
        out = Reg(16)
        if low > -(2**127) or high < 2**127 - 1:
            lower.emit(
                "in_range_w",
                *(v.reg, 0, constant("w", low), 0, constant("w", high), 0, lower.checked(v.valid), 0, Out(out)),
                pure=False,
            )
            v = Value("w", out, v.valid, *_within(v.low, v.high, low, high))
        if low >= I64_LOW and high <= I64_HIGH:
            return as_i64(lower, v)
        return v
    return v


# --- arithmetic ------------------------------------------------------------------------------------------------------


def _arithmetic(lower: Lower, expr: Call) -> Value:
    a, b = value(lower, expr.args[0]), value(lower, expr.args[1])
    valid = lower.both_valid(a.valid, b.valid)
    name = expr.name
    if expr.type.is_float:
        a, b = as_f64(lower, a), as_f64(lower, b)
        reg = binary(lower, f"{name}_f64", a.reg, b.reg, 8)
        if expr.type.name == "FLOAT":
            reg = unary(lower, "round_f32", reg, 8)
        return Value("f64", reg, valid)
    if expr.type.name == "INTERVAL":
        raise NeedsHost(expr)
    corners = (
        [a.low + b.low, a.high + b.high]
        if name == "add"
        else [a.low - b.high, a.high - b.low]
        if name == "sub"
        else [a.low * b.low, a.low * b.high, a.high * b.low, a.high * b.high]
    )
    low, high = min(corners), max(corners)
    limits = expr.type.limits
    narrow = a.kind != "w" and b.kind != "w"
    if narrow and low >= I64_LOW and high <= I64_HIGH:
        a, b = as_i64(lower, a), as_i64(lower, b)
        result = Value("i64", binary(lower, f"{name}_i64", a.reg, b.reg, 8), valid, low, high)
        return fits(lower, result, expr.type)
    if narrow and name == "mul":
        a, b = as_i64(lower, a), as_i64(lower, b)
        result = Value("w", binary(lower, "mul_i64_w", a.reg, b.reg, 16), valid, low, high)
        return fits(lower, result, expr.type)
    if narrow and limits[0] >= I64_LOW and limits[1] <= I64_HIGH:
        a, b = as_i64(lower, a), as_i64(lower, b)
        out = Reg(8)
        lower.emit(f"{name}_i64_checked", a.reg, 0, b.reg, 0, lower.checked(valid), 0, Out(out), pure=False)
        return fits(lower, Value("i64", out, valid), expr.type)
    a, b = as_wide(lower, a), as_wide(lower, b)
    out = Reg(16)
    lower.emit(f"{name}_w", a.reg, 0, b.reg, 0, lower.checked(valid), 0, Out(out), pure=False)
    return fits(lower, Value("w", out, valid, *_within(low, high, *WIDE)), expr.type)


def _negate(lower: Lower, expr: Call) -> Value:
    if expr.type.is_float:
        a = as_f64(lower, value(lower, expr.args[0]))
        return Value("f64", unary(lower, "neg_f64", a.reg, 8), a.valid)
    if expr.type.name == "INTERVAL":
        raise NeedsHost(expr)
    zero = Literal(expr.type, 0)
    return _arithmetic(lower, Call(expr.type, "sub", (zero, expr.args[0])))


def _absolute(lower: Lower, expr: Call) -> Value:
    a = value(lower, expr.args[0])
    if expr.type.is_float:
        return Value("f64", unary(lower, "abs_f64", as_f64(lower, a).reg, 8), a.valid)
    negative = Call(expr.type, "neg", expr.args)
    zero = Literal(expr.args[0].type, 0)
    return value(lower, Case(expr.type, ((Call(BOOLEAN, "lt", (expr.args[0], zero)), negative),), expr.args[0]))


def _check_divisor(lower: Lower, b: Value, valid: Reg | None) -> None:
    """// and % by zero are errors."""
    if b.kind != "f64" and (b.low > 0 or b.high < 0):
        return
    if b.kind == "f64":
        zero = binary(lower, "eq_f64", b.reg, lower.program.constant("f64", 0.0), 1)
    elif b.kind == "w":
        zero = binary(lower, "eq_w", b.reg, lower.program.constant("w", 0), 1)
    else:
        zero = binary(lower, "eq_i64", b.reg, lower.program.constant("i64", 0), 1)
    out = Reg(1)
    lower.emit("divisor", zero, 0, lower.checked(valid), 0, Out(out), pure=False)


def _check_negation(lower: Lower, a: Value, b: Value, valid: Reg | None) -> None:
    """The least HUGEINT // -1 is none."""
    a, b = as_wide(lower, a), as_wide(lower, b)
    constant = lower.program.constant
    least = binary(lower, "eq_w", a.reg, constant("w", -(2**127)), 1)
    minus = binary(lower, "eq_w", b.reg, constant("w", -1), 1)
    both = binary(lower, "and_u8", least, minus, 1)
    zero, out = constant("w", 0), Reg(16)
    shown = Reg(16)  # negating the least value reports the overflow; other rows negate 0
    lower.emit("blend_w", both, 0, a.reg, 0, zero, 0, Out(shown))
    lower.emit("neg_w", shown, 0, lower.checked(valid), 0, Out(out), pure=False)


def _divide(lower: Lower, expr: Call) -> Value:
    """Division of doubles, as IEEE 754 has it: by zero it is infinite or NaN."""
    a, b = as_f64(lower, value(lower, expr.args[0])), as_f64(lower, value(lower, expr.args[1]))
    reg = binary(lower, "div_f64", a.reg, b.reg, 8)
    if expr.type.name == "FLOAT":
        reg = unary(lower, "round_f32", reg, 8)
    return Value("f64", reg, lower.both_valid(a.valid, b.valid))


def _integer_divide(lower: Lower, expr: Call) -> Value:
    a, b = value(lower, expr.args[0]), value(lower, expr.args[1])
    valid = lower.both_valid(a.valid, b.valid)
    if expr.type.is_float:
        a, b = as_f64(lower, a), as_f64(lower, b)
        if expr.name == "mod":
            return Value("f64", binary(lower, "mod_f64", a.reg, b.reg, 8), valid)
        _check_divisor(lower, b, valid)
        reg = binary(lower, "div_f64", a.reg, b.reg, 8)  # DuckDB's // of doubles does not round
        if expr.type.name == "FLOAT":
            reg = unary(lower, "round_f32", reg, 8)
        return Value("f64", reg, valid)
    _check_divisor(lower, b, valid)
    most = max(abs(a.low), abs(a.high))
    if expr.name == "mod":
        most = min(most, max(abs(b.low), abs(b.high)))
    if a.kind == "w" or b.kind == "w" or (expr.name == "intdiv" and a.low == I64_LOW and b.low < 0):
        if expr.name == "intdiv" and a.low == -(2**127) and b.low < 0:
            _check_negation(lower, a, b, valid)
        a, b = as_wide(lower, a), as_wide(lower, b)
        reg = binary(lower, f"{expr.name}_w", a.reg, b.reg, 16)
        return fits(lower, Value("w", reg, valid, -most, min(most, 2**127 - 1)), expr.type)
    a, b = as_i64(lower, a), as_i64(lower, b)
    result = Value("i64", binary(lower, f"{expr.name}_i64", a.reg, b.reg, 8), valid, -most, most)
    return fits(lower, result, expr.type)


def _float_function(name: str) -> Callable[[Lower, Call], Value]:
    def handler(lower: Lower, expr: Call) -> Value:
        if not expr.type.is_float or any(not a.type.is_float for a in expr.args):
            raise NeedsHost(expr)
        args = [as_f64(lower, value(lower, a)) for a in expr.args]
        reg = Reg(8)
        lower.emit(f"{name}_f64", *[w for a in args for w in (a.reg, 0)], Out(reg))
        if expr.type.name == "FLOAT":
            reg = unary(lower, "round_f32", reg, 8)
        return Value("f64", reg, lower.both_valid(*[a.valid for a in args]))

    return handler


def _sign(lower: Lower, expr: Call) -> Value:
    a = value(lower, expr.args[0])
    if a.kind == "i64" and expr.type.is_integer:
        return Value("i64", unary(lower, "sign_i64", a.reg, 8), a.valid, -1, 1)
    raise NeedsHost(expr)


def _round(lower: Lower, expr: Call) -> Value:
    """round, floor, ceil, trunc of exact numbers and doubles, to 0 digits; other digits by the host."""
    source = expr.args[0].type
    digits = 0
    if len(expr.args) > 1:
        if not isinstance(expr.args[1], Literal) or expr.args[1].value is None:
            raise NeedsHost(expr)
        digits = int(expr.args[1].value)
    if source.is_integer and digits >= 0 and expr.type == source:
        return value(lower, expr.args[0])
    if source.is_decimal and expr.name == "round" and expr.type.is_decimal:
        drop = source.scale - max(digits, 0)
        if digits < 0:
            raise NeedsHost(expr)
        if drop <= 0:
            return cast(lower, value(lower, expr.args[0]), source, expr.type, expr)
        return rescale(lower, value(lower, expr.args[0]), source.scale, expr.type.scale, expr.type)
    if source.is_float and digits == 0:
        return _float_function(expr.name)(lower, Call(expr.type, expr.name, expr.args[:1]))
    raise NeedsHost(expr)


def _extreme(lower: Lower, expr: Call) -> Value:
    """greatest, least: NULLs are passed over."""
    less = expr.name == "least"
    for arg in expr.args:
        value(lower, arg)  # if that needs the host, then outside of the CASE
    result = expr.args[0]
    for other in expr.args[1:]:
        compare = Call(BOOLEAN, "le" if less else "ge", (result, other))
        other_null, this_null = Call(BOOLEAN, "is_null", (other,)), Call(BOOLEAN, "is_null", (result,))
        take = Call(BOOLEAN, "or", (other_null, Call(BOOLEAN, "and", (Call(BOOLEAN, "not", (this_null,)), compare))))
        result = Case(expr.type, ((take, result),), other)
    return value(lower, result)


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
        return fits(lower, Value("w", out, v.valid, *_within(low, high, *WIDE)), type_)
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
        if (source.name, target.name) == ("DATE", "TIMESTAMP"):
            v = as_i64(lower, v)
            low, high = v.low * DAY, v.high * DAY
            constant = lower.program.constant("i64", DAY)
            if low >= I64_LOW and high <= I64_HIGH:
                return Value("i64", binary(lower, "mul_i64", v.reg, constant, 8), v.valid, low, high)
            wide = binary(lower, "mul_i64_w", v.reg, constant, 16)
            return fits(lower, Value("w", wide, v.valid, low, high), target)
        if (source.name, target.name) == ("TIMESTAMP", "DATE"):
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


# --- dates -----------------------------------------------------------------------------------------------------------


def _days(lower: Lower, expr: Expr) -> Value:
    """A DATE or TIMESTAMP as days."""
    v = as_i64(lower, value(lower, expr))
    if expr.type.name == "TIMESTAMP":
        reg = binary(lower, "floor_div_i64", v.reg, lower.program.constant("i64", DAY), 8)
        return Value("i64", reg, v.valid, v.low // DAY, v.high // DAY)
    return v


DATE_PART_BOUNDS = {
    "month": (1, 12),
    "day": (1, 31),
    "doy": (1, 366),
    "isodow": (1, 7),
    "week": (1, 53),
    "year": (-300000, 300000),
    "isoyear": (-300000, 300000),
}


def _date_part(lower: Lower, expr: Call) -> Value:
    if not expr.args[0].type.is_temporal:
        raise NeedsHost(expr)
    days = _days(lower, expr.args[0])
    low, high = DATE_PART_BOUNDS[expr.name]
    return Value("i64", unary(lower, expr.name, days.reg, 8), days.valid, low, high)


def _derived_part(lower: Lower, expr: Call) -> Value:
    constant = lower.program.constant
    if not expr.args[0].type.is_temporal:
        raise NeedsHost(expr)
    days = _days(lower, expr.args[0])
    if expr.name == "dow":
        reg = binary(lower, "floor_mod_i64", unary(lower, "isodow", days.reg, 8), constant("i64", 7), 8)
        return Value("i64", reg, days.valid, 0, 6)
    if expr.name == "quarter":
        month = unary(lower, "month", days.reg, 8)
        moved = binary(lower, "add_i64", month, constant("i64", 2), 8)
        return Value("i64", binary(lower, "floor_div_i64", moved, constant("i64", 3), 8), days.valid, 1, 4)
    raise NeedsHost(expr)


def _time_part(lower: Lower, expr: Call) -> Value:
    if expr.args[0].type.name != "TIMESTAMP":
        if expr.args[0].type.name == "DATE":
            days = _days(lower, expr.args[0])
            return Value("i64", lower.program.constant("i64", 0), days.valid, 0, 0)
        raise NeedsHost(expr)
    constant = lower.program.constant
    v = as_i64(lower, value(lower, expr.args[0]))
    unit, modulus = {
        "hour": (3_600_000_000, 24),
        "minute": (60_000_000, 60),
        "second": (1_000_000, 60),
        "millisecond": (1000, 60_000),
        "microsecond": (1, 60_000_000),
    }[expr.name]
    reg = v.reg if unit == 1 else binary(lower, "floor_div_i64", v.reg, constant("i64", unit), 8)
    return Value("i64", binary(lower, "floor_mod_i64", reg, constant("i64", modulus), 8), v.valid, 0, modulus - 1)


def _date_trunc(lower: Lower, expr: Call) -> Value:
    unit, argument = expr.args
    if not isinstance(unit, Literal) or not argument.type.is_temporal:
        raise NeedsHost(expr)
    name = str(unit.value).lower().rstrip("s")
    constant = lower.program.constant
    spans = {"month": 1, "quarter": 3, "year": 12, "decade": 120}
    if name in spans or name in ("day", "week"):
        days = _days(lower, argument)
        if name == "day":
            reg = days.reg
        elif name == "week":
            reg = unary(lower, "trunc_week", days.reg, 8)
        else:
            reg = binary(lower, "trunc_month", days.reg, constant("i64", spans[name]), 8)
        result = Value("i64", reg, days.valid, days.low - 3700, days.high)
        if expr.type.name == "TIMESTAMP":
            return cast(lower, result, SqlType("DATE"), expr.type, expr)
        return result
    units = {"hour": 3_600_000_000, "minute": 60_000_000, "second": 1_000_000, "millisecond": 1000, "microsecond": 1}
    if name in units and argument.type.name == "TIMESTAMP":
        v = as_i64(lower, value(lower, argument))
        size = constant("i64", units[name])
        whole = binary(lower, "floor_div_i64", v.reg, size, 8)
        return Value("i64", binary(lower, "mul_i64", whole, size, 8), v.valid, v.low - units[name], v.high)
    raise NeedsHost(expr)


def _add_interval(lower: Lower, expr: Call) -> Value:
    """DATE or TIMESTAMP plus or minus a constant interval: months first, then days, then microseconds."""
    moment, interval = expr.args
    if not isinstance(interval, Literal) or interval.value is None or expr.type.name not in ("DATE", "TIMESTAMP"):
        raise NeedsHost(expr)
    sign = -1 if expr.name == "sub_interval" else 1
    months, days, micros = (sign * part for part in interval.value)
    constant = lower.program.constant
    v = as_i64(lower, value(lower, moment))
    if moment.type.name == "TIMESTAMP" and months:
        whole = binary(lower, "floor_div_i64", v.reg, constant("i64", DAY), 8)
        rest = binary(lower, "floor_mod_i64", v.reg, constant("i64", DAY), 8)
        moved = binary(lower, "add_months", whole, constant("i64", months), 8)
        reg = binary(lower, "add_i64", binary(lower, "mul_i64", moved, constant("i64", DAY), 8), rest, 8)
        low, high = v.low + (months * 31 - 31) * DAY, v.high + (months * 31 + 31) * DAY
        v = Value("i64", reg, v.valid, low, high)
        scale = DAY
    elif moment.type.name == "DATE":
        if months:
            reg = binary(lower, "add_months", v.reg, constant("i64", months), 8)
            v = Value("i64", reg, v.valid, v.low + min(months * 31, 0) - 31, v.high + max(months * 31, 0) + 31)
        if expr.type.name == "DATE":
            if micros:
                raise NeedsHost(expr)
            return fits(lower, _shift(lower, v, days), expr.type)
        v = cast(lower, v, moment.type, expr.type, expr)
        scale = DAY
    else:
        scale = DAY
    return _shift(lower, v, days * scale + micros)


def _shift(lower: Lower, v: Value, amount: int) -> Value:
    if amount == 0:
        return v
    constant = lower.program.constant("i64", amount)
    low, high = v.low + amount, v.high + amount
    if low >= I64_LOW and high <= I64_HIGH:
        return Value("i64", binary(lower, "add_i64", v.reg, constant, 8), v.valid, low, high)
    out = Reg(8)
    lower.emit("add_i64_checked", v.reg, 0, constant, 0, lower.checked(v.valid), 0, Out(out), pure=False)
    return Value("i64", out, v.valid)


def _date_diff(lower: Lower, expr: Call) -> Value:
    unit, a, b = expr.args
    if not isinstance(unit, Literal):
        raise NeedsHost(expr)
    name = str(unit.value).lower().rstrip("s")
    x, y = _days(lower, a), _days(lower, b)
    valid = lower.both_valid(x.valid, y.valid)
    if name == "day":
        return Value("i64", binary(lower, "sub_i64", y.reg, x.reg, 8), valid, y.low - x.high, y.high - x.low)
    if name in ("month", "quarter", "year"):
        size = {"month": 1, "quarter": 3, "year": 12}[name]
        parts = []
        for v in (x, y):
            index = unary(lower, "month_index", v.reg, 8)
            if size > 1:
                index = binary(lower, "floor_div_i64", index, lower.program.constant("i64", size), 8)
            parts.append(index)
        return Value("i64", binary(lower, "sub_i64", parts[1], parts[0], 8), valid, -(10**7), 10**7)
    raise NeedsHost(expr)


def _last_day(lower: Lower, expr: Call) -> Value:
    days = _days(lower, expr.args[0])
    return Value("i64", unary(lower, "last_day", days.reg, 8), days.valid, days.low, days.high + 31)


def _make_date(lower: Lower, expr: Call) -> Value:
    parts = [as_i64(lower, value(lower, a)) for a in expr.args]
    valid = lower.both_valid(*[p.valid for p in parts])
    out = Reg(8)
    words = [w for p in parts for w in (p.reg, 0)]
    lower.emit("make_date", *words, lower.checked(valid), 0, Out(out), pure=False)
    return Value("i64", out, valid, *SqlType("DATE").limits)


HANDLERS: dict[str, Callable[[Lower, Any], Value]] = {
    **dict.fromkeys(("add", "sub", "mul"), _arithmetic),
    "neg": _negate,
    "abs": _absolute,
    "div": _divide,
    "intdiv": _integer_divide,
    "mod": _integer_divide,
    "sign": _sign,
    **{name: _float_function(name) for name in ("sqrt_", "exp", "sin", "cos", "tan", "pow_")},
    **dict.fromkeys(("round", "floor", "ceil", "trunc"), _round),
    **dict.fromkeys(("greatest", "least"), _extreme),
    **dict.fromkeys(("eq", "ne", "lt", "le", "gt", "ge"), _compare),
    **dict.fromkeys(("distinct_from", "not_distinct_from"), _distinct),
    **dict.fromkeys(("and", "or"), _logic),
    "not": _not,
    "is_null": _is_null,
    "in": _in,
    "coalesce": _coalesce,
    **dict.fromkeys(DATE_PART_BOUNDS, _date_part),
    **dict.fromkeys(("dow", "quarter"), _derived_part),
    **dict.fromkeys(("hour", "minute", "second", "millisecond", "microsecond"), _time_part),
    "date_trunc": _date_trunc,
    **dict.fromkeys(("add_interval", "sub_interval"), _add_interval),
    "date_diff": _date_diff,
    "last_day": _last_day,
    "make_date": _make_date,
}
