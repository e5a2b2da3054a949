"""What Tab offers: names from the live catalog, functions from their registry, keywords, dot commands and files."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from finequery import display
from finequery.errors import Error
from finequery.shell.commands import known, quoted
from finequery.shell.keywords import KEYWORDS, TYPES
from finequery.shell.sources import BEFORE_TABLE, Sources, name_of, sources
from finequery.shell.tokens import Token, tokens

if TYPE_CHECKING:
    from finequery.shell.shell import Shell

#: Columns of so many tables are offered where a statement has no FROM yet.
TABLES = 50
#: Columns of the terminal for a function's signature.
ABOUT = 40
_PLAIN = re.compile(r"[a-z_]\w*", re.IGNORECASE)
_RESERVED = frozenset(KEYWORDS)
_WORD = re.compile(r"'[^']*'?|\"[^\"]*\"?|[^\s'\"]+")


class Candidate(NamedTuple):
    """A text that may stand in the place of what begins at ``start``; ``about``: its type, or what it is."""

    text: str
    start: int
    about: str = ""


#: A name and what to say of it.
Name = tuple[str, str]


def complete(shell: Shell, text: str, position: int) -> list[Candidate]:
    """What may stand at the cursor, the likeliest first."""
    head = text[:position]
    if head.lstrip().startswith("."):
        return list(_command(shell, head))
    return _statement(shell, text, position)


# --- SQL -----------------------------------------------------------------------------------------------------------


def _statement(shell: Shell, text: str, position: int) -> list[Candidate]:
    words, current = _around(text, position)
    if current is not None and current.kind == "comment":
        return []
    if current is not None and current.kind == "string":
        inside = text[current.start + 1 : position]
        return [Candidate(path.replace("'", "''"), current.start + 1, about) for path, about in files(inside)]
    start = position if current is None else current.start
    typed = text[start:position]
    before = [w for w in words if w.end <= start]
    last = before[-1] if before else None
    found = sources(text, [w for w in words if w is not current])
    if last is not None and last.text == "." and len(before) > 1:
        return _matching(_columns_of(shell, found, name_of(before[-2])), typed, start)
    if [w.text for w in before[-2:]] == [":", ":"]:
        return _matching(_cased(TYPES, typed, words), typed, start)
    return _matching(_names(shell, found, _context(before), typed, words), typed, start)


def _around(text: str, position: int) -> tuple[list[Token], Token | None]:
    """The tokens of the statement at the cursor, without space and comments, and the one that the cursor is in or at
    the end of."""
    words: list[Token] = []
    for token in tokens(text):
        inside = token.start < position <= token.end
        if inside and token.kind == "comment" and (position < token.end or not token.closed or token.text[0] == "-"):
            return words, token
        if token.kind in ("space", "comment"):
            continue
        if token.text == ";":
            if token.start >= position:
                break
            words = []
            continue
        words.append(token)
    for token in words:
        if token.start < position <= token.end and token.kind in ("word", "quoted", "number", "string"):
            if token.kind == "string" and token.closed and position == token.end:
                continue
            return words, token
    return words, None


def _context(before: Sequence[Token]) -> str:
    """The keyword that says what comes next: FROM and its like (a comma in a FROM clause counts), SET, or none."""
    last = before[-1].text.upper() if before else ""
    if last == ",":
        depth = 0
        for word in reversed(before):
            depth += (word.text == ")") - (word.text == "(")
            upper = word.text.upper()
            if depth < 0:
                break
            if not depth and upper in _RESERVED and upper not in ("AS", "LEFT", "RIGHT", "INNER", "CROSS", "LATERAL"):
                return "FROM" if upper in ("FROM", "JOIN") else ""
        return ""
    if last in BEFORE_TABLE:
        return "FROM"
    return last if len(before) == 1 and last in ("SET", "RESET", "SHOW") else ""


def _names(shell: Shell, found: Sources, context: str, typed: str, words: Sequence[Token]) -> Iterator[Name]:
    if context in ("SET", "RESET", "SHOW"):
        if context == "SHOW":
            yield from _cased(("TABLES", "SETTINGS"), typed, words)
        yield from settings()
        return
    if context == "FROM":
        yield from ((identifier(name), "with") for name in found.ctes)
        yield from tables(shell)
        yield from ((name + "(", "files") for name in ("read_parquet", "read_csv"))
        yield from _cased(("SELECT", "LATERAL"), typed, words)
        return
    for sql in dict.fromkeys(found.tables.values()):
        yield from _columns(shell, found.prefix, sql)
    yield from ((identifier(alias), "alias") for alias in found.tables if _PLAIN.fullmatch(alias))
    if typed and not found.tables and not found.ctes:
        for name, _ in tables(shell)[:TABLES]:
            yield from _columns(shell, "", name)
    if typed:
        yield from functions()
    yield from _cased((*KEYWORDS, *TYPES), typed, words)
    yield from tables(shell)


def _columns_of(shell: Shell, found: Sources, name: str) -> list[Name]:
    """Columns behind ``name.``, an alias or a table."""
    for alias, sql in found.tables.items():
        if alias.lower() == name.lower():
            return _columns(shell, found.prefix, sql)
    return tables(shell) if name.lower() == "main" else _columns(shell, found.prefix, quoted(name))


def _columns(shell: Shell, prefix: str, sql: str) -> list[Name]:
    """Columns of a source, by binding a query of it; none where it is not complete, or wrong."""
    try:
        relation = shell.bind(f"{prefix} select * from {sql}")
    except Error:
        return []
    return [(identifier(name), str(type_)) for name, type_ in zip(relation.columns, relation.types)]


def tables(shell: Shell) -> list[Name]:
    """Tables, views and registered files."""
    session = shell.connection._session
    registered = [(identifier(name), "file") for name, _ in session.registered.values()]
    stored = [(name, session.catalog.get(name)) for name in session.catalog.names()]
    return registered + [(identifier(n), "view" if hasattr(e, "sql") else "table") for n, e in stored]


def functions() -> Iterator[Name]:
    """Functions of the registry with their first signature."""
    from finequery.planner.functions import AGGREGATES, FUNCTIONS

    entries: dict[str, tuple[str, ...]] = {name: f.signatures for name, f in FUNCTIONS.items()}
    entries |= {name: a.signatures for name, a in AGGREGATES.items()}
    for name in sorted(entries):
        if name.isidentifier():
            yield name + "(", display.clip(entries[name][0], ABOUT) if entries[name] else "function"


def settings() -> list[Name]:
    """Settings with their types."""
    from finequery.settings import TABLE

    return [(name, setting.type) for name, setting in TABLE.items()]


def identifier(name: str) -> str:
    """A name as it has to be written."""
    return name if _PLAIN.fullmatch(name) and name.upper() not in _RESERVED else quoted(name)


def _cased(names: Iterable[str], typed: str, words: Sequence[Token]) -> Iterator[Name]:
    """Keywords in the case of what was typed; of the statement's other keywords where that is nothing."""
    if typed:
        upper = typed.isupper() and (len(typed) > 1 or not typed.islower())
    else:
        used = [w.text for w in words if w.kind == "word" and w.text.upper() in _RESERVED]
        upper = bool(used) and used[-1].isupper()
    for name in names:
        yield (name if upper else name.lower()), ""


def _matching(names: Iterable[Name], typed: str, start: int) -> list[Candidate]:
    """Names that begin with what was typed, then those that have a part that does."""
    wanted = typed.strip('"').lower()
    first: dict[str, Candidate] = {}
    second: dict[str, Candidate] = {}
    for name, about in names:
        bare = name.strip('"').lower()
        if bare.startswith(wanted):
            first.setdefault(name, Candidate(name, start, about))
        elif len(wanted) > 1 and about and re.search(r"(?:_|\b)" + re.escape(wanted), bare):
            second.setdefault(name, Candidate(name, start, about))
    return [*first.values(), *(c for name, c in second.items() if name not in first)]


# --- dot commands and files ----------------------------------------------------------------------------------------


def _command(shell: Shell, head: str) -> Iterator[Candidate]:
    line = head.lstrip()
    offset = len(head) - len(line)
    name, space, rest = line.partition(" ")
    if not space:
        for known_name, one in sorted(known().items()):
            if known_name.startswith(name[1:].lower()):
                yield Candidate("." + known_name, offset, one.summary)
        return
    command = known().get(name[1:].lower())
    if command is None:
        return
    words = list(_WORD.finditer(rest))
    word = words[-1] if words and words[-1].end() == len(rest) else None
    typed, start = ("", len(head)) if word is None else (word[0], offset + len(name) + 1 + word.start())
    number, kinds = len(words) - (word is not None), command.arguments
    if not kinds or (number >= len(kinds) and kinds[-1] != "..."):
        return
    kind = kinds[number] if number < len(kinds) and kinds[number] != "..." else kinds[-2]
    if kind == "file":
        for path, about in files(typed.lstrip("'\"")):
            yield Candidate(path if path.endswith("/") else shlex.quote(path), start, about)
        return
    for text, about in _argument(shell, kind):
        if text.lower().startswith(typed.lower()):
            yield Candidate(text, start, about)


def _argument(shell: Shell, kind: str) -> list[Name]:
    """What an argument of a dot command may be."""
    if kind == "table":
        return [(name.strip('"'), about) for name, about in tables(shell)]
    if kind == "setting":
        return settings()
    if kind == "command":
        return [(name, known()[name].summary) for name in sorted(known())]
    if kind == "board":
        from finequery.jetson import board

        return [("none", ""), *((name, "") for name in board.names())]
    return [(word, "") for word in kind.split("|")]


def files(typed: str) -> list[Name]:
    """Files and folders that a path may go on with."""
    folder, base = os.path.split(typed)
    try:
        entries = sorted(os.scandir(os.path.expanduser(folder) or "."), key=lambda e: e.name)
    except OSError:
        return []
    found = []
    for entry in entries:
        if entry.name.startswith(base) and (base.startswith(".") or not entry.name.startswith(".")):
            path = os.path.join(folder, entry.name)
            found.append((path + "/", "folder") if entry.is_dir() else (path, "file"))
    return found
