"""SQL text to syntax trees: sqlglot's DuckDB dialect, cut into statements, errors with their place.

Functions come out as ``exp.Anonymous`` under the name the user wrote, whatever sqlglot knows of them: its own function
nodes rename, reorder and default arguments, and the binder has a registry of its own. The parser is told so by the
marker comment it looks for behind a call's closing parenthesis.
"""

from __future__ import annotations

import logging
import re
import threading
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from finequery.errors import Error, NotSupportedError, ParseError, nearest

#: What to write instead of PIVOT and UNPIVOT.
PIVOT_HINT = "Instead of PIVOT write sum(x) FILTER (WHERE …) for each column, of UNPIVOT a UNION ALL."

#: First words of the statements that are understood, for suggestions.
STATEMENTS = (
    "SELECT",
    "FROM",
    "VALUES",
    "WITH",
    "EXPLAIN",
    "CREATE",
    "INSERT",
    "UPDATE",
    "DELETE",
    "TRUNCATE",
    "DROP",
    "DESCRIBE",
    "SHOW",
    "COPY",
    "SET",
    "RESET",
)

_ANONYMOUS = ["sqlglot.anonymous"]
#: Functions whose arguments have words between them: only these keep the parsers of their own that sqlglot has.
_KEYWORD_ARGUMENTS = frozenset(("CAST", "TRY_CAST", "EXTRACT", "OVERLAY", "POSITION", "SUBSTRING", "TRIM"))
_EXPLAIN = re.compile(r"explain(\s+analyze)?\b", re.IGNORECASE)
_SHOW = re.compile(r"(show|reset)\s+(\w+|\"[^\"]+\")\s*$", re.IGNORECASE)


@dataclass(frozen=True)
class ParsedStatement:
    """One statement. ``sql`` is the user's whole text: positions in ``tree`` and in errors are offsets into it.

    ``verb`` is EXPLAIN, EXPLAIN ANALYZE (``tree`` is the statement explained), SHOW or RESET (``argument`` is the name)
    for the statements that have no tree of their own, otherwise empty.
    """

    sql: str
    start: int
    end: int
    tree: Any = None
    verb: str = ""
    argument: str = ""

    @property
    def text(self) -> str:
        """The statement's own source, without the semicolon."""
        return self.sql[self.start : self.end]


#: Set while this thread parses: sqlglot then keeps its warnings to itself, because they become errors here.
_parsing = threading.local()


@lru_cache(maxsize=1)
def _dialect() -> Any:
    from sqlglot.dialects.duckdb import DuckDB

    logging.getLogger("sqlglot").addFilter(lambda record: not getattr(_parsing, "active", False))
    return DuckDB()


def parse(sql: str) -> list[ParsedStatement]:
    """The statements of a text, in order; empty ones are left out.

    >>> [s.text for s in parse("select 1; from t;")]
    ['select 1', 'from t']
    """
    from sqlglot.tokens import TokenType

    statements: list[ParsedStatement] = []
    chunk: list[Any] = []
    for token in _tokens(sql):
        if token.token_type is TokenType.SEMICOLON:
            if chunk:
                statements.append(_statement(sql, chunk))
            chunk = []
        else:
            chunk.append(token)
    if chunk:
        statements.append(_statement(sql, chunk))
    return statements


def _tokens(sql: str, start: int = 0) -> list[Any]:
    """Tokens from ``start`` on, with offsets into the whole text; comments dropped, calls marked as anonymous."""
    from sqlglot.errors import TokenError
    from sqlglot.tokens import TokenType

    try:
        tokens = _dialect().tokenize(" " * start + sql[start:] if start else sql)
    except TokenError:
        raise ParseError(
            "The text ends inside a quote, or holds a character that is not SQL.",
            sql=sql,
            position=_open_quote(sql, start),
        ) from None
    closing, opening, colon, previous = TokenType.R_PAREN, TokenType.L_PAREN, TokenType.COLON, None
    special = _special_functions()
    for i, token in enumerate(tokens):
        kind = token.token_type
        if kind is opening and i and tokens[i - 1].text.upper() in special:
            tokens[i - 1].text += " "  # a name that sqlglot does not know; ``_tree`` takes the space away
        token.comments = _ANONYMOUS if kind is closing else []
        if (
            kind is colon
            and previous not in _operands()
            and tokens[i + 1 : i + 2]
            and tokens[i + 1].start == token.end + 1
        ):
            token.token_type = TokenType.PARAMETER  # :name is $name; after an operand a colon is something else
        previous = kind
    return tokens


@lru_cache(maxsize=1)
def _special_functions() -> frozenset[str]:
    """Functions to which sqlglot gives nodes of their own, marker or not."""
    return frozenset(_dialect().parser_class.FUNCTION_PARSERS) - _KEYWORD_ARGUMENTS


def _typed_literals(tokens: list[Any]) -> list[Any]:
    """Parentheses around DATE '…', TIMESTAMP WITH TIME ZONE '…' and $1 before ``::``, which sqlglot takes to belong to
    the last token alone."""
    from sqlglot.tokens import Token, TokenType

    if all(token.token_type is not TokenType.DCOLON for token in tokens):
        return tokens
    typed = (TokenType.DATE, TokenType.TIMESTAMP, TokenType.TIMESTAMPNTZ, TokenType.TIMESTAMPTZ)
    result: list[Any] = []
    for i, token in enumerate(tokens):
        result.append(token)
        if token.token_type is TokenType.DCOLON and i > 1:
            zoned = [t.text.upper() for t in tokens[max(i - 4, 0) : i - 1]] == ["WITH", "TIME", "ZONE"]
            width = 6 if zoned else 3
            before, last = tokens[i + 1 - width], tokens[i - 1]
            literal = before.token_type in typed and last.token_type is TokenType.STRING
            if literal or before.token_type is TokenType.PARAMETER:
                place = {"line": before.line, "col": before.col, "start": before.start, "end": before.end}
                result.insert(-width, Token(TokenType.L_PAREN, "(", **place))
                result.insert(-1, Token(TokenType.R_PAREN, ")", **place))
    return result


@lru_cache(maxsize=1)
def _operands() -> frozenset[Any]:
    from sqlglot.tokens import TokenType as T

    return frozenset((T.VAR, T.IDENTIFIER, T.NUMBER, T.STRING, T.R_PAREN, T.R_BRACKET, T.R_BRACE, T.L_BRACKET))


def _open_quote(sql: str, start: int) -> int | None:
    """Where a quote begins that nothing ends."""
    rest = re.sub(
        r"'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|--[^\n]*|/\*.*?\*/",
        lambda m: " " * len(m[0]),
        sql[start:],
        flags=re.DOTALL,
    )
    found = re.search(r"['\"]|/\*", rest)
    return start + found.start() if found else None


def _statement(sql: str, tokens: list[Any]) -> ParsedStatement:
    from sqlglot import exp
    from sqlglot.tokens import TokenType

    start, end = tokens[0].start, tokens[-1].end + 1
    word = tokens[0].text.upper()
    if word == "EXPLAIN":
        prefix = _EXPLAIN.match(sql, start)
        inner = start + len(prefix[0]) if prefix else start
        rest = [t for t in _tokens(sql[:end], inner) if t.token_type is not TokenType.SEMICOLON]
        if not rest:
            raise ParseError("EXPLAIN of nothing.", sql=sql, position=start, hint="Write a query after EXPLAIN.")
        explained = _statement(sql, rest)
        if explained.verb:
            raise NotSupportedError(f"EXPLAIN {explained.verb} is not supported.", sql=sql, position=explained.start)
        verb = "EXPLAIN ANALYZE" if prefix and prefix[1] else "EXPLAIN"
        return ParsedStatement(sql, start, end, explained.tree, verb)
    short = _SHOW.match(sql[start:end])
    if short and short[2].upper() != "TABLES":
        return ParsedStatement(sql, start, end, None, short[1].upper(), short[2].strip('"'))
    if word in ("SHOW", "RESET"):
        if not short:
            raise ParseError(f"{word} takes one name.", sql=sql, position=start)
        return ParsedStatement(sql, start, end, None, "SHOW", "TABLES")
    tree = _tree(sql, tokens)
    if tree is None or isinstance(tree, (exp.Command, exp.Column, exp.Alias)):
        if word in STATEMENTS:
            raise ParseError(f"This form of {word} is not understood.", sql=sql, position=start)
        kind = NotSupportedError if isinstance(tree, exp.Command) else ParseError
        raise kind(f"{word} is not a statement of FineQuery.", sql=sql, position=start, hint=nearest(word, STATEMENTS))
    return ParsedStatement(sql, start, end, tree)


def _tree(sql: str, tokens: list[Any]) -> Any:
    from sqlglot import exp
    from sqlglot.errors import ParseError as SqlglotError

    parser = _dialect().parser()
    _parsing.active = True
    try:
        trees = parser.parse(_typed_literals(_numbered(sql, tokens)), sql)
    except SqlglotError as error:
        raise _parse_error(sql, tokens, error) from None
    except RecursionError:
        raise ParseError("The statement is nested too deeply.", sql=sql, position=tokens[0].start) from None
    finally:
        _parsing.active = False
    if trees and trees[0] is not None and any(t.text.endswith(" ") for t in tokens):
        for call in trees[0].find_all(exp.Anonymous):
            call.set("this", call.this.rstrip(" ") if isinstance(call.this, str) else call.this)
    return trees[0] if trees else None


def _apart(token: Any) -> list[Any]:
    """``?::`` is one token to sqlglot."""
    from sqlglot.tokens import Token, TokenType

    if token.token_type is not TokenType.QDCOLON:
        return [token]
    place = {"line": token.line, "col": token.col, "start": token.start}
    return [
        Token(TokenType.PLACEHOLDER, "?", end=token.start, **place),
        Token(TokenType.DCOLON, "::", end=token.end, **place),
    ]


def _numbered(sql: str, tokens: list[Any]) -> list[Any]:
    """The tokens with ? written as $1, $2, …: the binder does not visit them in the order of the text."""
    from sqlglot.tokens import Token, TokenType

    if all(token.token_type not in (TokenType.PLACEHOLDER, TokenType.QDCOLON) for token in tokens):
        return tokens
    tokens = [part for token in tokens for part in _apart(token)]
    marks = [t for t in tokens if t.token_type is TokenType.PLACEHOLDER]
    if any(t.token_type is TokenType.PARAMETER for t in tokens):
        hint = "Parameters are either all ?, all numbered or all named."
        raise ParseError("? stands beside other parameters.", sql=sql, position=marks[0].start, hint=hint)
    result, number = [], 0
    for token in tokens:
        if token.token_type is TokenType.PLACEHOLDER:
            number += 1
            place = {"line": token.line, "col": token.col, "start": token.start, "end": token.end}
            result.append(Token(TokenType.PARAMETER, "$", **place))
            result.append(Token(TokenType.NUMBER, str(number), **place))
        else:
            result.append(token)
    return result


def _parse_error(sql: str, tokens: list[Any], error: Any) -> Error:
    detail = error.errors[0] if error.errors else {}
    description = str(detail.get("description", error))
    line, column, highlight = detail.get("line"), detail.get("col"), detail.get("highlight") or ""
    offset: int | None = tokens[0].start
    if line and column:
        offset = 0
        for _ in range(line - 1):
            offset = sql.find("\n", offset) + 1
        offset += column - len(highlight)
    if "SENTINEL" in description or highlight == "":
        return ParseError("The statement ends too early.", sql=sql, position=tokens[-1].end + 1)
    if "Expecting )" in description and highlight == sql[tokens[-1].start : tokens[-1].end + 1]:
        return ParseError("A parenthesis is not closed.", sql=sql, position=tokens[-1].end + 1)
    first = tokens[0].text
    if first.upper() in ("PIVOT", "UNPIVOT"):
        message = f"The statement {first.upper()} is not supported."
        return NotSupportedError(message, sql=sql, position=tokens[0].start, hint=PIVOT_HINT)
    hint = nearest(first, STATEMENTS) if first.upper() not in STATEMENTS else ""
    if "Required keyword" in description:
        message = f'Something is missing at "{highlight}".'
    elif "Unexpected token" in description:
        message = f'Syntax error at or near "{highlight}".'
    else:
        message = f'Syntax error at or near "{highlight}": {description.split(" but got ")[0]}.'
    return ParseError(message, sql=sql, position=offset, hint=hint or None)
