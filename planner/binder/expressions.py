"""Scalar expressions: from syntax tree to typed Expr."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from finequery.errors import BindError, CatalogError, Error, nearest
from finequery.operators.expr import Aggregate, Column, Expr, Literal, WindowCall
from finequery.planner.binder.aggregates import bind_aggregate
from finequery.planner.binder.ordered import OrderedCall
from finequery.planner.binder.scope import (
    Binder,
    Cte,
    Scope,
    at,
    checked,
    find_column,
    items_of,
    refuse,
    text_of,
    title,
    unknown_column,
)
from finequery.planner.binder.types import bind_type
from finequery.planner.coercion import (
    FALSE,
    NULL_LITERAL,
    TRUE,
    Untyped,
    call,
    cast,
    is_null,
    is_string_literal,
    settle,
)
from finequery.planner.function_rules import date_part, to_interval
from finequery.planner.functions import AGGREGATES, FUNCTIONS, INSTEAD, OPERATORS, UNSUPPORTED, names, resolve
from finequery.planner.literals import DAY, parse_interval, parse_literal, unit_name
from finequery.planner.operations import (
    arithmetic,
    boolean,
    case,
    compare,
    compare_rows,
    concat_operator,
    in_list,
    meet,
    negate,
    require_constant,
)
from finequery.types import BOOLEAN, DATE, HUGEINT, INTERVAL, TIMESTAMP, TIMESTAMPTZ, VARCHAR, decimal


class QueryState:
    """One query level: what encloses it, which outer columns it reads, the aggregates and windows found in it."""

    __slots__ = ("aggregates", "ctes", "enclosing", "groupings", "named_windows", "outer", "seen", "windows")

    def __init__(self, enclosing: Expressions | None, ctes: dict[str, Cte]):
        self.enclosing = enclosing
        self.ctes = ctes
        self.outer: set[int] = set()
        self.aggregates: dict[Aggregate | OrderedCall, Column] = {}
        self.groupings: dict[tuple[Expr, ...], Column] = {}  # calls of grouping(…)
        self.windows: dict[WindowCall, Column] = {}
        self.named_windows: dict[str, Any] = {}
        self.seen: dict[int, Any] = {}  # column id -> a node that reads it, for messages


#: What to write instead of expressions that are refused.
_INSTEAD = {
    "Bracket": "substring(x, first, length) takes a part of a text.",
    "Tuple": "Distinct rows are counted by SELECT count(*) FROM (SELECT DISTINCT a, b FROM t).",
}


class Expressions:
    """Binds the expressions of one clause."""

    __slots__ = ("aggregates", "aliases", "binder", "clause", "expanding", "grouped", "query", "scope", "windows")

    def __init__(
        self,
        binder: Binder,
        query: QueryState,
        scope: Scope,
        clause: str,
        aggregates: bool = False,
        windows: bool = False,
        aliases: dict[str, Any] | None = None,
    ):
        self.binder = binder
        self.query = query
        self.scope = scope
        self.clause = clause
        self.aggregates = aggregates  # whether aggregates may stand here
        self.windows = windows
        self.aliases = aliases or {}  # select items by their alias, used where no column has the name
        self.expanding: list[str] = []
        self.grouped: set[Expr] | None = None  # where set, an alias goes before a column that is not grouped by

    def bind(self, node: Any) -> Expr:
        """The bound expression. Open literals are still open: ``settle`` or ``cast`` closes them."""
        handler = HANDLERS.get(type(node).__name__)
        if handler is None:
            raise refuse(f"{title(node)} in an expression", node, _INSTEAD.get(type(node).__name__))
        try:
            return handler(self, node)
        except Error as error:
            at(error, node)
            raise

    def predicate(self, node: Any) -> Expr:
        """A condition."""
        e = self.bind(node)
        try:
            return boolean(e)
        except Error as error:
            raise at(error, node) from None

    def note(self, e: Expr, node: Any) -> None:
        """Remember where a column is read."""
        if type(e) is Column:
            self.query.seen.setdefault(e.id, node)

    def inside(self, what: str) -> Expressions:
        """The same place, inside an aggregate or window call."""
        inner = Expressions(self.binder, self.query, self.scope, what, aliases=self.aliases)
        inner.expanding = self.expanding
        return inner

    # --- names and literals

    def column(self, node: Any) -> Expr:
        args = checked(node, "this", "table", "db", "catalog")
        if type(node.this).__name__ == "Star":
            raise refuse(f"* in {self.clause}", node)
        parts = [text_of(args[k]) for k in ("catalog", "db", "table", "this") if args.get(k)]
        found = find_column(self, parts, node)
        lower = parts[0].lower()
        alias = self.aliases.get(lower) if len(parts) == 1 and lower not in self.expanding else None
        if found is not None and (alias is None or self.grouped is None or found in self.grouped):
            return found
        if alias is not None:
            self.expanding.append(lower)
            try:
                return self.bind(alias)
            finally:
                self.expanding.pop()
        raise unknown_column(self, parts, node, self.aliases)

    def literal(self, node: Any) -> Expr:
        checked(node, "this", "is_string")
        text, origin = node.this, self.binder.origin(node)
        if node.args.get("is_string"):
            return Untyped(VARCHAR, text, origin)
        try:
            type_, value = parse_literal(text)
        except OverflowError:
            raise BindError(f"{text} does not fit HUGEINT.", hint="Write it with an exponent for a DOUBLE.") from None
        if type_.is_decimal and text.startswith("0."):
            start = node.meta.get("start")
            if start is not None and self.binder.sql[start] == ".":
                type_ = decimal(type_.precision - 1, type_.scale)  # written .5: one digit
        return (Untyped if type_.is_integer else Literal)(type_, value, origin)

    def raw(self, node: Any) -> Expr:
        """$$text$$"""
        return Untyped(VARCHAR, str(checked(node, "this")["this"]))

    def null(self, node: Any) -> Expr:
        checked(node)
        return NULL_LITERAL

    def truth(self, node: Any) -> Expr:
        checked(node, "this")
        return TRUE if node.this else FALSE

    def paren(self, node: Any) -> Expr:
        return self.bind(checked(node, "this")["this"])

    def placeholder(self, node: Any) -> Expr:
        args = checked(node, "this")
        return self.binder.parameter(str(getattr(args["this"], "name", args["this"])), node)

    # --- operators

    def binary(self, node: Any, *extra: str) -> tuple[Expr, Expr]:
        args = checked(node, "this", "expression", *extra)
        return self.bind(args["this"]), self.bind(args["expression"])

    def connective(self, node: Any) -> Expr:
        kind, terms = type(node), []
        stack = [node]
        while stack:
            current = stack.pop()
            if type(current) is kind:
                args = checked(current, "this", "expression")
                stack.append(args["expression"])
                stack.append(args["this"])
            elif type(current).__name__ == "Paren" and type(current.this) is kind:
                stack.append(checked(current, "this")["this"])
            else:
                terms.append(self.predicate(current))
        return call(BOOLEAN, kind.__name__.lower(), *terms)

    def negation(self, node: Any) -> Expr:
        return call(BOOLEAN, "not", self.predicate(checked(node, "this")["this"]))

    def comparison(self, node: Any) -> Expr:
        op = _COMPARISONS[type(node).__name__]
        args = checked(node, "this", "expression")
        right = args["expression"]
        quantifier = type(right).__name__
        if quantifier in ("Any", "All"):
            from finequery.planner.binder.subqueries import quantified

            return quantified(self, node, op, quantifier)
        if type(args["this"]).__name__ == "Tuple" or quantifier == "Tuple":
            left = self.row(args["this"])
            return compare_rows(op, left, self.row(right, len(left)))
        return compare(op, self.bind(args["this"]), self.bind(right))

    def row(self, node: Any, count: int | None = None) -> list[Expr]:
        """The values of (a, b, …)."""
        values = [self.bind(e) for e in items_of(node)]
        if count is not None and len(values) != count:
            raise at(BindError(f"The row must have {count} values, not {len(values)}."), node)
        return values

    def is_(self, node: Any) -> Expr:
        args = checked(node, "this", "expression")
        e, right = self.bind(args["this"]), args["expression"]
        if type(right).__name__ == "Null":
            checked(right)
            return call(BOOLEAN, "is_null", e)
        if type(right).__name__ == "Boolean":
            return call(BOOLEAN, "not_distinct_from", boolean(e), self.truth(right))
        raise refuse(f"IS {title(right)}", node)

    def between(self, node: Any) -> Expr:
        args = checked(node, "this", "low", "high")
        parts = [self.bind(args[k]) for k in ("this", "low", "high")]
        target = meet(parts, "BETWEEN")
        x, low, high = (cast(e, target) for e in parts)
        return call(BOOLEAN, "and", call(BOOLEAN, "ge", x, low), call(BOOLEAN, "le", x, high))

    def in_(self, node: Any) -> Expr:
        args = checked(node, "this", "expressions", "query")
        left = args["this"]
        if args.get("query"):
            from finequery.planner.binder.subqueries import membership, row_membership

            if type(left).__name__ == "Tuple":
                return row_membership(self, self.row(left), args["query"])
            return membership(self, node, self.bind(left), args["query"])
        if type(left).__name__ == "Tuple":
            columns = self.row(left)
            terms = [compare_rows("eq", columns, self.row(r, len(columns))) for r in args["expressions"]]
            return terms[0] if len(terms) == 1 else call(BOOLEAN, "or", *terms)
        return in_list(self.bind(left), [self.bind(e) for e in args["expressions"]])

    def subquery(self, node: Any) -> Expr:
        from finequery.planner.binder import subqueries

        return (subqueries.exists if type(node).__name__ == "Exists" else subqueries.scalar)(self, node)

    def arithmetic(self, node: Any) -> Expr:
        a, b = self.binary(node, "typed", "safe")
        return arithmetic(_ARITHMETIC[type(node).__name__], a, b)

    def minus(self, node: Any) -> Expr:
        operand = checked(node, "this")["this"]
        if type(operand).__name__ == "Literal" and operand.this.replace("_", "") == str(2**127):
            return Literal(HUGEINT, -(2**127))  # its positive counterpart is none
        return negate(self.bind(operand))

    def operator_call(self, node: Any) -> Expr:
        """An operator that is a function."""
        function = OPERATORS[type(node).__name__]
        args = checked(node, "this", "expression")
        operands = [self.bind(args["this"]), *([self.bind(args["expression"])] if args.get("expression") else [])]
        return resolve(function, function.names[0], operands)

    def glob(self, node: Any) -> Expr:
        """x GLOB pattern: a regular expression with the pattern's wildcards."""
        args = checked(node, "this", "expression")
        pattern = require_constant(self.bind(args["expression"]), "The pattern of GLOB")
        if not isinstance(pattern, str):
            raise at(BindError("The pattern of GLOB is a text."), args["expression"])
        regex = Literal(VARCHAR, glob_pattern(pattern))
        return resolve(FUNCTIONS["regexp_full_match"], "GLOB", [self.bind(args["this"]), regex])

    def escaped(self, node: Any) -> Expr:
        """E'text': sqlglot has replaced the escapes."""
        return Untyped(VARCHAR, str(checked(node, "this")["this"]))

    def concat(self, node: Any) -> Expr:
        return concat_operator(*self.binary(node, "safe"))

    def power(self, node: Any) -> Expr:
        return resolve(FUNCTIONS["pow"], "pow", list(self.binary(node)))

    def like(self, node: Any, escape: Expr | None = None) -> Expr:
        args = checked(node, "this", "expression", "negate")
        if type(args["expression"]).__name__ in ("Any", "All", "Tuple"):
            raise refuse(f"{title(node)} with several patterns", node, "Join several LIKE with OR.")
        operands = [self.bind(args["this"]), self.bind(args["expression"])]
        for e in operands:
            if e.type != VARCHAR and not is_null(e):
                raise BindError(
                    f"{title(node)} compares VARCHAR, not {e.type}.", hint="Cast it, as in CAST(x AS VARCHAR)."
                )
        operands += [escape] if escape is not None else []
        name = type(node).__name__.lower()
        matched = call(BOOLEAN, name, *[cast(e, VARCHAR) for e in operands])
        return call(BOOLEAN, "not", matched) if args.get("negate") else matched

    def escape(self, node: Any) -> Expr:
        args = checked(node, "this", "expression")
        inner = args["this"]
        if type(inner).__name__ not in ("Like", "ILike"):
            raise refuse(f"ESCAPE after {title(inner)}", node)
        character = self.bind(args["expression"])
        if len(str(require_constant(character, "The character of ESCAPE"))) != 1:
            raise at(BindError("ESCAPE takes one character."), args["expression"])
        return self.like(inner, cast(character, VARCHAR))

    # --- special forms

    def cast(self, node: Any, safe: bool = False) -> Expr:
        args = checked(node, "this", "to", "safe")
        target = bind_type(args["to"], node)
        e = self.bind(args["this"])
        if not castable(e, target):
            raise BindError(f"{e.type} can't be cast to {target}.")
        return cast(e, target, safe)

    def try_cast(self, node: Any) -> Expr:
        return self.cast(node, safe=True)

    def case(self, node: Any) -> Expr:
        args = checked(node, "this", "ifs", "default")
        operand = self.bind(args["this"]) if args.get("this") else None
        whens = []
        for branch in args["ifs"]:
            parts = checked(branch, "this", "true")
            if operand is None:
                condition = self.predicate(parts["this"])
            else:
                condition = compare("eq", operand, self.bind(parts["this"]))
            whens.append((condition, self.bind(parts["true"])))
        return case(whens, self.bind(args["default"]) if args.get("default") else NULL_LITERAL)

    def if_(self, node: Any) -> Expr:
        args = checked(node, "this", "true", "false")
        default = self.bind(args["false"]) if args.get("false") else NULL_LITERAL
        return case([(self.predicate(args["this"]), self.bind(args["true"]))], default)

    def interval(self, node: Any) -> Expr:
        args = checked(node, "this", "unit", "fraction_in_string")
        e = self.bind(args["this"])
        if args.get("fraction_in_string"):  # '1.5 years' in one string; '1.5' YEAR drops the fraction
            value = parse_interval(f"{require_constant(e, 'An interval')} {args['unit'].name}")
            if value is not None:
                return Literal(INTERVAL, value)
        if not args.get("unit"):
            text = str(require_constant(e, "An interval without a unit"))
            value = parse_interval(text)
            if value is None:
                raise BindError(
                    f"'{text}' is not an interval.", hint="Write it as INTERVAL '1 day 2 hours' or INTERVAL 1 DAY."
                )
            return Literal(INTERVAL, value)
        unit = unit_name(text_of(args["unit"])) if type(args["unit"]).__name__ == "Var" else None
        if unit is None:
            raise refuse(f"INTERVAL … {args['unit'].name or title(args['unit'])}", node)
        return to_interval(unit, e)

    def extract(self, node: Any) -> Expr:
        args = checked(node, "this", "expression")
        return date_part(text_of(args["this"]), self.bind(args["expression"]))

    def keyword_call(self, node: Any) -> Expr:
        """A function that has syntax of its own, as an ordinary call."""
        kind = type(node).__name__
        name, keys = _KEYWORD_CALLS[kind]
        args = checked(node, *keys, *(("position",) if kind == "Trim" else ()))
        if kind == "Trim" and args.get("position") in ("LEADING", "TRAILING"):
            name = "ltrim" if args["position"] == "LEADING" else "rtrim"
        values: list[Any] = []
        for key in keys:
            value = args.get(key)
            values.extend(value if isinstance(value, list) else [value] if value is not None else [])
        return resolve(FUNCTIONS[name], name, [self.bind(v) for v in values])

    def today(self, node: Any) -> Expr:
        checked(node)
        return self.now("current_date")

    def timestamp_now(self, node: Any) -> Expr:
        checked(node)
        return self.now("localtimestamp" if type(node).__name__ == "Localtimestamp" else "now")

    def now(self, name: str) -> Expr:
        """The date or time of the statement in UTC, the same wherever it asks."""
        if name in ("current_date", "today"):
            return Literal(DATE, self.binder.moment // DAY)
        return Literal(TIMESTAMP if "local" in name else TIMESTAMPTZ, self.binder.moment)

    # --- calls

    def function(self, node: Any) -> Expr:
        arguments = checked(node, "this", "expressions").get("expressions") or []
        name = str(node.name).lower()
        function = FUNCTIONS.get(name)
        if function is not None:
            return resolve(function, name, [self.bind(a) for a in arguments])
        if name in AGGREGATES:
            return bind_aggregate(self, node, name)
        if name in NOW and not arguments:
            return self.now(name)
        if name in ("grouping", "grouping_id"):
            return self.grouping(name, arguments)
        if name in ("any", "all", "some"):
            raise refuse(f"{name.upper()} of anything but a SELECT", node, "Write ANY (SELECT …), or IN (…).")
        known = [*names(), *NOW]
        if name in UNSUPPORTED:
            raise refuse(f"The function {name}", node, INSTEAD.get(name))
        raise CatalogError(f'There is no function "{node.name}".', hint=nearest(name, known) or None)

    def grouping(self, name: str, arguments: list[Any]) -> Expr:
        from finequery.planner.binder.grouping_sets import grouping_column

        if not self.aggregates or not arguments:
            hint = "It tells in the select list, HAVING, QUALIFY and ORDER BY which columns a row is grouped by."
            raise BindError(f"{name} can't stand here." if arguments else f"{name} takes columns.", hint=hint)
        args = tuple(settle(self.inside(name).bind(a)) for a in arguments)
        return grouping_column(self.query, self.binder, args)

    def filtered(self, node: Any) -> Expr:
        args = checked(node, "this", "expression")
        condition = checked(args["expression"], "this")["this"]
        if type(args["this"]).__name__ == "WithinGroup":
            return self.within_group(args["this"], condition)
        return bind_aggregate(self, args["this"], None, condition)

    def within_group(self, node: Any, condition: Any = None) -> Expr:
        args = checked(node, "this", "expression")
        terms = checked(args["expression"], "expressions")["expressions"]
        return bind_aggregate(self, args["this"], None, condition, terms)

    def window(self, node: Any) -> Expr:
        from finequery.planner.binder.windows import bind_window

        return bind_window(self, node)


def glob_pattern(pattern: str) -> str:
    """A regular expression for ``*``, ``?``, ``[…]`` and ``\\`` of GLOB."""
    out, i = [], 0
    while i < len(pattern):
        c = pattern[i]
        close = pattern.find("]", i + 2) if c == "[" else -1
        if close > 0:
            inside = re.sub(r"([\\\[^])", r"\\\1", pattern[i + 1 : close])
            out.append("[" + ("^" + inside[1:] if inside[0] == "!" else inside) + "]")
            i = close
        elif c == "\\" and i + 1 < len(pattern):
            i += 1
            out.append(re.escape(pattern[i]))
        else:
            out.append({"*": ".*", "?": "."}.get(c) or re.escape(c))
        i += 1
    return "(?s)" + "".join(out)


def castable(e: Expr, target: Any) -> bool:
    """Whether a cast exists between the two types."""
    source = e.type
    if source == target or is_null(e) or is_string_literal(e) or VARCHAR in (source, target):
        return True
    plain = lambda t: t.is_numeric or t == BOOLEAN  # noqa: E731
    return (plain(source) and plain(target)) or (source.is_temporal and target.is_temporal)


#: Names that stand for the time at which a statement is bound.
NOW = (
    "now",
    "today",
    "current_date",
    "current_timestamp",
    "get_current_timestamp",
    "transaction_timestamp",
    "localtimestamp",
    "current_localtimestamp",
)

_COMPARISONS = {
    "EQ": "eq",
    "NEQ": "ne",
    "LT": "lt",
    "LTE": "le",
    "GT": "gt",
    "GTE": "ge",
    "NullSafeEQ": "not_distinct_from",
    "NullSafeNEQ": "distinct_from",
}
_ARITHMETIC = {"Add": "add", "Sub": "sub", "Mul": "mul", "Div": "div", "IntDiv": "intdiv", "Mod": "mod"}
_KEYWORD_CALLS: dict[str, tuple[str, tuple[str, ...]]] = {
    "Substring": ("substring", ("this", "start", "length")),
    "Trim": ("trim", ("this", "expression")),
    "StrPosition": ("position", ("this", "substr")),
    "Abs": ("abs", ("this",)),
    "AtTimeZone": ("timezone", ("zone", "this")),
    "RegexpLike": ("regexp_matches", ("this", "expression")),
    "StartsWith": ("starts_with", ("this", "expression")),
}

_E = Expressions
HANDLERS: dict[str, Callable[[Expressions, Any], Expr]] = {
    "Column": _E.column,
    "Literal": _E.literal,
    "RawString": _E.raw,
    "Null": _E.null,
    "Boolean": _E.truth,
    "Paren": _E.paren,
    "Placeholder": _E.placeholder,
    "And": _E.connective,
    "Or": _E.connective,
    "Not": _E.negation,
    "Is": _E.is_,
    "Between": _E.between,
    "In": _E.in_,
    "Exists": _E.subquery,
    "Subquery": _E.subquery,
    "Neg": _E.minus,
    "DPipe": _E.concat,
    "Pow": _E.power,
    "Like": _E.like,
    "ILike": _E.like,
    "Escape": _E.escape,
    "Cast": _E.cast,
    "TryCast": _E.try_cast,
    "Case": _E.case,
    "If": _E.if_,
    "Interval": _E.interval,
    "Extract": _E.extract,
    "CurrentDate": _E.today,
    "CurrentTimestamp": _E.timestamp_now,
    "Localtimestamp": _E.timestamp_now,
    "Anonymous": _E.function,
    "Glob": _E.glob,
    "ByteString": _E.escaped,
    "Filter": _E.filtered,
    "WithinGroup": _E.within_group,
    "Window": _E.window,
    **dict.fromkeys(_COMPARISONS, _E.comparison),
    **dict.fromkeys(_ARITHMETIC, _E.arithmetic),
    **dict.fromkeys(_KEYWORD_CALLS, _E.keyword_call),
    **dict.fromkeys(OPERATORS, _E.operator_call),
}
