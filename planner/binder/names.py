"""The name of an output column that the user gave none: the expression's text, written as DuckDB writes it."""

from __future__ import annotations

from typing import Any

_BINARY = {
    "Add": "+",
    "Sub": "-",
    "Mul": "*",
    "Div": "/",
    "IntDiv": "//",
    "Mod": "%",
    "DPipe": "||",
    "EQ": "=",
    "NEQ": "!=",
    "LT": "<",
    "LTE": "<=",
    "GT": ">",
    "GTE": ">=",
    "And": "AND",
    "Or": "OR",
    "NullSafeEQ": "IS NOT DISTINCT FROM",
    "NullSafeNEQ": "IS DISTINCT FROM",
    "Pow": "^",
}
#: Names that DuckDB writes in quotes, because they are keywords.
_QUOTED = frozenset(
    """substring left right position first if replace trim nullif year month day hour minute second quarter week decade
    century millisecond microsecond""".split()
)
#: Types that DuckDB writes in small letters.
_TYPE_TEXT = {t: t.lower() for t in ("DATE", "DOUBLE", "HUGEINT")} | {"INT": "INTEGER", "TEXT": "VARCHAR"}


def output_name(node: Any) -> str:
    """The name of the column that ``node`` makes."""
    kind = type(node).__name__
    if kind == "Column":
        return str(node.name)
    if kind == "Paren":
        return output_name(node.this)
    try:
        return _text(node)
    except _Unwritten:
        from sqlglot.errors import ErrorLevel

        return str(node.sql(dialect="duckdb", comments=False, unsupported_level=ErrorLevel.IGNORE))


class _Unwritten(Exception):
    """A kind of node that has no canonical text here."""


def _text(node: Any) -> str:
    kind = type(node).__name__
    if kind == "Column":
        return ".".join(str(part.name) for part in node.parts)
    if kind == "Literal":
        return "'" + node.this.replace("'", "''") + "'" if node.args.get("is_string") else str(node.this)
    if kind == "Paren":
        return _text(node.this)
    if kind in _BINARY:
        return f"({_text(node.this)} {_BINARY[kind]} {_text(node.expression)})"
    if kind == "Anonymous":
        return _call(str(node.name).lower(), node.expressions)
    if kind == "Distinct":
        return "DISTINCT " + ", ".join(map(_text, node.expressions))
    if kind == "Neg":
        return f"-{node.this.this}" if type(node.this).__name__ == "Literal" else f"(-({_text(node.this)}))"
    if kind == "Not":
        if type(node.this).__name__ == "Is":
            return _text(node.this).replace(" IS ", " IS NOT ", 1)
        return f"(NOT {_text(node.this)})"
    if kind == "Is":
        return f"({_text(node.this)} IS {_text(node.expression)})"
    if kind == "Between":
        return f"({_text(node.this)} BETWEEN {_text(node.args['low'])} AND {_text(node.args['high'])})"
    if kind == "In" and node.expressions:
        return f"({_text(node.this)} IN ({', '.join(map(_text, node.expressions))}))"
    if kind in ("Like", "ILike"):
        sign = ("!" if node.args.get("negate") else "") + "~~" + ("*" if kind == "ILike" else "")
        return f"({_text(node.this)} {sign} {_text(node.expression)})"
    if kind in ("Cast", "TryCast"):
        t = node.args["to"].sql(dialect="duckdb")
        return f"{'TRY_CAST' if kind == 'TryCast' else 'CAST'}({_text(node.this)} AS {_TYPE_TEXT.get(t, t)})"
    if kind == "If":
        return _call("if", [node.this, node.args["true"], node.args.get("false")])
    if kind == "Extract":
        return f"date_part('{node.name}', {_text(node.expression)})"
    if kind == "Window" and not node.args.get("spec") and not node.args.get("alias"):
        parts = []
        if node.args.get("partition_by"):
            parts.append("PARTITION BY " + ", ".join(map(_text, node.args["partition_by"])))
        if node.args.get("order"):
            terms = [_text(o.this) + (" DESC" if o.args.get("desc") else "") for o in node.args["order"].expressions]
            parts.append("ORDER BY " + ", ".join(terms))
        return f"{_text(node.this).replace('count_star()', 'count()')} OVER ({' '.join(parts)})"
    if kind == "StrPosition":
        return _call("position", [node.this, node.args.get("substr")])
    if kind == "Trim" and not node.args.get("position"):
        return _call("trim", [node.this, node.args.get("expression")])
    if kind == "Null":
        return "NULL"
    if kind == "Boolean":
        return "true" if node.this else "false"
    if kind == "Filter":
        return f"{_text(node.this)} FILTER (WHERE {_text(node.expression.this)})"
    if kind == "Case":
        whens = "".join(f" WHEN ({_text(i.this)}) THEN ({_text(i.args['true'])})" for i in node.args["ifs"])
        operand = _text(node.this) if node.this else ""
        default = node.args.get("default")
        return f"CASE {operand}{whens} ELSE {_text(default) if default else 'NULL'} END"
    if kind == "Substring":
        return _call("substring", [node.this, node.args.get("start"), node.args.get("length")])
    raise _Unwritten


def _call(name: str, args: list[Any]) -> str:
    if name == "count" and (not args or type(args[0]).__name__ == "Star"):
        return "count_star()"
    shown = {"coalesce": "COALESCE"}.get(name, f'"{name}"' if name in _QUOTED else name)
    return f"{shown}({', '.join(_text(a) for a in args if a is not None)})"
