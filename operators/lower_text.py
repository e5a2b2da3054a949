"""Text functions inside a pipeline: over strings as (address, length), without making new ones.

Where the other arguments are not constant, or the function makes text, the host library computes it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from finequery.operators.expr import Call, Column, Expr, Literal
from finequery.operators.like import Pattern, compile_pattern
from finequery.operators.lower import Lower, NeedsHost, Stored, Value
from finequery.operators.program import Out, Reg

END = 2**62


def _view(lower: Lower, expr: Expr) -> Value:
    from finequery.operators.lower_expr import as_views, value

    return as_views(lower, value(lower, expr))


def _constants(expr: Call) -> list[Any]:
    """The arguments behind the first: constants, none of them NULL."""
    values = [a.value for a in expr.args[1:] if isinstance(a, Literal) and a.value is not None]
    if len(values) != len(expr.args) - 1 or isinstance(expr.args[0], Literal) or not expr.args[0].type.is_string:
        raise NeedsHost(expr)
    return values


def _match(lower: Lower, text: Expr, pattern: Pattern) -> Value:
    v, out = _view(lower, text), Reg(1)
    lower.kept.append(pattern)
    kernels = {"equal": "eq_text_s", "prefix": "starts_with_s", "suffix": "ends_with_s"}
    if pattern.kind == "all":
        return Value("u8", lower.program.constant("u8", 1), v.valid, 0, 1)
    if pattern.kind in kernels:
        lower.emit(kernels[pattern.kind], v.reg, 0, pattern.text_address, len(pattern.text), Out(out))
    else:
        lower.emit("like_s", v.reg, 0, pattern.address, Out(out))
    return Value("u8", out, v.valid, 0, 1)


def _like(lower: Lower, expr: Call) -> Value:
    pattern, *escape = _constants(expr)
    return _match(lower, expr.args[0], compile_pattern(pattern, escape[0] if escape else None))


def _ilike(lower: Lower, expr: Call) -> Value:
    """Over columns that are ASCII; elsewhere small letters are more than a bit."""
    pattern, *escape = _constants(expr)
    if not _is_ascii(lower, expr.args[0]):
        raise NeedsHost(expr)
    return _match(lower, expr.args[0], compile_pattern(pattern, escape[0] if escape else None, True))


def _is_ascii(lower: Lower, expr: Expr) -> bool:
    found = lower.resolve(expr) if isinstance(expr, Column) else None
    return isinstance(found, Stored) and found.data.stats.ascii


def _part(kind: str) -> Callable[[Lower, Call], Value]:
    """starts_with, ends_with, contains."""

    def handler(lower: Lower, expr: Call) -> Value:
        raw = str(_constants(expr)[0]).encode("utf-8", "surrogatepass")
        return _match(lower, expr.args[0], Pattern(kind if raw else "all", raw, [raw] if raw else [], 0))

    return handler


def _length(kernel: str) -> Callable[[Lower, Call], Value]:
    def handler(lower: Lower, expr: Call) -> Value:
        if not expr.args[0].type.is_string:
            raise NeedsHost(expr)
        v, out = _view(lower, expr.args[0]), Reg(8)
        lower.emit(kernel, v.reg, 0, Out(out))
        return Value("i64", out, v.valid, 0, 2**40)

    return handler


def _substring(lower: Lower, expr: Call) -> Value:
    start, *length = _constants(expr)
    if abs(start) > END or any(abs(n) >= END for n in length):
        raise NeedsHost(expr)
    v, out = _view(lower, expr.args[0]), Reg(16)
    kernel = "substring_ascii_s" if _is_ascii(lower, expr.args[0]) else "substring_s"
    lower.emit(kernel, v.reg, 0, start, length[0] if length else END, Out(out))
    return Value("s", out, v.valid)


TEXT: dict[str, Callable[[Lower, Any], Value]] = {
    "like": _like,
    "ilike": _ilike,
    "starts_with": _part("prefix"),
    "ends_with": _part("suffix"),
    "contains": _part("general"),
    "length": _length("length_s"),
    "strlen": _length("byte_length_s"),
    "substring": _substring,
}
