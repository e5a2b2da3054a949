"""String functions as instructions: where the arguments beside the text are constants. The host does the others."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from finequery.operators.expr import Call, Expr, Literal
from finequery.operators.like import Pattern, compile_pattern
from finequery.operators.lower import Lower, NeedsHost, Value
from finequery.operators.program import Out, Reg
from finequery.types import VARCHAR

#: The length of a substring that goes to the end; nothing is longer.
TO_END = 2**62
_TEXT_KERNELS = {"equal": "eq_text_s", "prefix": "starts_with_s", "suffix": "ends_with_s"}


def _views(lower: Lower, expr: Expr) -> Value:
    from finequery.operators.lower_expr import as_views, value

    return as_views(lower, value(lower, expr))


def _is_ascii(lower: Lower, expr: Expr) -> bool:
    """Whether a text is known to be ASCII."""
    if isinstance(expr, Literal):
        return expr.value is None or str(expr.value).isascii()
    stored = lower.stored(expr)
    if stored is None:
        return False
    dictionary = stored.data.dictionary
    return dictionary.ascii if dictionary is not None else stored.data.stats.ascii


def _constants(expr: Call) -> list[Any]:
    """The values of the arguments behind the first."""
    values = []
    for arg in expr.args[1:]:
        if not isinstance(arg, Literal):
            raise NeedsHost(expr)
        values.append(arg.value)
    return values


def _length(lower: Lower, expr: Call) -> Value:
    v = _views(lower, expr.args[0])
    ascii = expr.name == "strlen" or _is_ascii(lower, expr.args[0])
    out = Reg(8)
    lower.emit("byte_length_s" if ascii else "length_s", v.reg, 0, Out(out))
    return Value("i64", out, v.valid, 0, 2**40)


def _substring(lower: Lower, expr: Call) -> Value:
    values = _constants(expr)
    if None in values:
        return lower.constant(VARCHAR, None)
    start, length = values[0], values[1] if len(values) > 1 else TO_END
    if expr.name == "left":
        if start < 0:
            raise NeedsHost(expr)
        start, length = 1, start
    elif expr.name == "right":
        start, length = (-start, start) if start >= 0 else (1 - start, TO_END)
    bound = TO_END // 2
    start = max(-bound, min(bound, start))
    length = length if length == TO_END else max(-bound, min(bound, length))
    v, out = _views(lower, expr.args[0]), Reg(16)
    name = "substring_ascii_s" if _is_ascii(lower, expr.args[0]) else "substring_s"
    lower.emit(name, v.reg, 0, start, length, Out(out))
    return Value("s", out, v.valid)


def _matches(lower: Lower, text: Expr, pattern: Pattern) -> Value:
    """A mask of the rows that match."""
    lower.kept.append(pattern)
    out = Reg(1)
    stored = lower.stored(text)
    kernel = _TEXT_KERNELS.get(pattern.kind)
    if kernel is not None:
        v = _views(lower, text)
        lower.emit(kernel, v.reg, 0, lower.symbol(pattern.chars), len(pattern.text), Out(out))
        return Value("u8", out, v.valid, 0, 1)
    if pattern.kind == "all":
        return Value("u8", lower.program.constant("u8", 1), _views(lower, text).valid, 0, 1)
    words = lower.symbol(pattern.words)
    words.content = pattern.chars
    if stored is not None and stored.data.kind == "string" and stored.rows is None and lower.index(None) is None:
        base, stride = lower.source(stored)
        lower.emit("like_tile", base, stride, stored.symbol("chars"), words, Out(out))
        return Value("u8", out, lower.validity(stored), 0, 1)
    v = _views(lower, text)
    lower.emit("like_s", v.reg, 0, words, Out(out))
    return Value("u8", out, v.valid, 0, 1)


def _like(lower: Lower, expr: Call) -> Value:
    values = _constants(expr)
    if None in values:
        return lower.constant(expr.type, None)
    fold = expr.name == "ilike"
    if fold and not _is_ascii(lower, expr.args[0]):
        raise NeedsHost(expr)
    escape = values[1] if len(values) > 1 else None
    return _matches(lower, expr.args[0], compile_pattern(values[0], escape, fold))


def _part(lower: Lower, expr: Call) -> Value:
    """starts_with, ends_with, contains: patterns without wildcards of their own."""
    (part,) = _constants(expr)
    if part is None:
        return lower.constant(expr.type, None)
    before = "" if expr.name == "starts_with" else "%"
    after = "" if expr.name == "ends_with" else "%"
    quoted = part.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return _matches(lower, expr.args[0], compile_pattern(before + quoted + after, "\\"))


STRING_HANDLERS: dict[str, Callable[[Lower, Any], Value]] = {
    **dict.fromkeys(("length", "strlen"), _length),
    **dict.fromkeys(("substring", "left", "right"), _substring),
    **dict.fromkeys(("like", "ilike"), _like),
    **dict.fromkeys(("starts_with", "ends_with", "contains"), _part),
}
