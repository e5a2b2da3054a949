"""What the FROM clauses of a statement name, complete or not, so that their columns can be offered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from finequery.shell.keywords import KEYWORDS
from finequery.shell.tokens import Token

#: Words before a table. (A comma in a FROM clause is another.)
BEFORE_TABLE = frozenset("FROM JOIN INTO UPDATE TABLE DESCRIBE VIEW TRUNCATE".split())
_RESERVED = frozenset(KEYWORDS)
_JOINS = frozenset("CROSS INNER LEFT RIGHT FULL OUTER SEMI ANTI ASOF NATURAL LATERAL AS".split())


@dataclass
class Sources:
    """``tables``: SQL of each source by its alias, or by its name; ``ctes``: names behind WITH whose query is complete,
    and ``prefix``, the WITH clause up to there."""

    tables: dict[str, str] = field(default_factory=dict)
    ctes: list[str] = field(default_factory=list)
    prefix: str = ""


def name_of(token: Token) -> str:
    """The name that a word or a quoted name stands for."""
    return token.text.strip('"').replace('""', '"') if token.kind == "quoted" else token.text


def sources(text: str, words: Sequence[Token]) -> Sources:
    """The sources of one statement. ``words``: its tokens in ``text``, without space and comments."""
    found = Sources()
    _with(text, words, found)
    at_source = False  # a source may begin here
    in_from = [False]  # for each open parenthesis
    place = 0
    while place < len(words):
        word = words[place]
        upper = word.text.upper() if word.kind == "word" else word.text
        if at_source and (word.kind in ("word", "quoted", "string") or upper == "(") and upper not in _RESERVED:
            after = _source_end(words, place)
            sql = text[word.start : words[after - 1].end]
            if upper == "(":  # its own FROM is read like any other
                inner = sources(text, words[place + 1 : after - 1])
                found.tables.update((alias, sql) for alias, sql in inner.tables.items() if alias not in found.tables)
            place = _alias(words, after, sql, found)
            at_source = False
            continue
        if upper == "(":
            in_from.append(False)
        elif upper == ")":
            in_from = in_from[:-1] or [False]
        if upper in BEFORE_TABLE:
            at_source, in_from[-1] = True, True
        elif upper == ",":
            at_source = in_from[-1]
        else:
            at_source = at_source and upper in _JOINS
            in_from[-1] = in_from[-1] and (upper in _JOINS or upper not in _RESERVED)
        place += 1
    return found


def _source_end(words: Sequence[Token], place: int) -> int:
    """The place after a source that begins here: a name with dots, a file, a function's call, or a subquery."""
    if words[place].text != "(":
        place += 1
        while place + 1 < len(words) and words[place].text == "." and words[place + 1].kind in ("word", "quoted"):
            place += 2
        if place >= len(words) or words[place].text != "(":
            return place
    depth = 0
    while place < len(words):
        depth += (words[place].text == "(") - (words[place].text == ")")
        place += 1
        if depth == 0:
            break
    return place


def _alias(words: Sequence[Token], place: int, sql: str, found: Sources) -> int:
    """Note the source under its alias, or its name; the place after that."""
    end = place
    if end < len(words) and words[end].text.upper() == "AS":
        end += 1
    if end < len(words) and (
        words[end].kind == "quoted" or (words[end].kind == "word" and words[end].text.upper() not in _RESERVED)
    ):
        found.tables[name_of(words[end])] = sql
        return end + 1
    found.tables[name_of(words[place - 1]) if words[place - 1].text != ")" else sql] = sql
    return place


def _with(text: str, words: Sequence[Token], found: Sources) -> None:
    """The common table expressions that are complete."""
    if not words or words[0].text.upper() != "WITH":
        return
    place = 1 + (len(words) > 1 and words[1].text.upper() == "RECURSIVE")
    while place + 2 < len(words) and words[place].kind in ("word", "quoted"):
        name = name_of(words[place])
        begin = place + 1
        if words[begin].text == "(":
            begin = _source_end(words, begin)
        while begin < len(words) and words[begin].text.upper() in ("AS", "NOT", "MATERIALIZED"):
            begin += 1
        if begin >= len(words) or words[begin].text != "(":
            return
        end = _source_end(words, begin)
        if words[end - 1].text != ")":
            return
        found.ctes.append(name)
        found.prefix = text[words[0].start : words[end - 1].end]
        if end >= len(words) or words[end].text != ",":
            return
        place = end + 1
