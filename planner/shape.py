"""The shape of a text: what is left of it without its literals. Texts of one shape may share a plan.

The shape keeps the type of every literal (5 and 70000 are INTEGER, 0.05 is DECIMAL(3,2)), since types are chosen by it.
Which literals may differ is found out while the first text of a shape is planned: see ``operators.trace``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from finequery.operators.trace import Trace
from finequery.planner.literals import parse_literal

#: Longer texts, and texts with more literals, are planned each for itself.
LONGEST, MOST = 20_000, 256
_STATEMENT = re.compile(r"\s*(?:select|with|from|values|insert)\b", re.IGNORECASE)
#: What has to be told apart from literals: names (a digit in them is none), quoted names, comments, parameters. Group
#: 1: a string. Group 2: a number. Group 3: what texts are seldom written with (E'…', $$…$$, 0x1F): no shape.
_TOKEN = re.compile(
    r"""('(?:[^']|'')*')(?!')|(\d[\d_]*(?:\.[\d_]*)?(?:[eE][+-]?\d+)?|\.\d[\d_]*(?:[eE][+-]?\d+)?)(?![\w.])"""
    r"""|([^\W\d]\w*'|\$\w*\$|\d)|[^\W\d]\w*|"(?:[^"]|"")*"|--[^\n]*|/\*.*?\*/|\$\w+""",
    re.DOTALL,
)


class Shape:
    """A text's shape ``key`` and its literals in order: as written, where, their physical values."""

    __slots__ = ("key", "starts", "texts", "values")

    def __init__(self, key: str, texts: list[str], starts: list[int], values: list[Any]):
        self.key, self.texts, self.starts, self.values = key, texts, starts, values


def shape_of(text: str) -> Shape | None:
    """The shape of a query's text; None for other statements, and where there are no literals."""
    if len(text) > LONGEST or _STATEMENT.match(text) is None:
        return None
    parts: list[str] = []
    texts: list[str] = []
    starts: list[int] = []
    values: list[Any] = []
    end = 0
    for match in _TOKEN.finditer(text):
        kind = match.lastindex
        if kind is None:
            continue
        if kind == 3:
            return None
        found = match[0]
        if kind == 1:
            mark, value = "\0s", found[1:-1].replace("''", "'")
        else:
            try:
                type_, value = parse_literal(found)
            except (OverflowError, ValueError):
                return None
            mark = f"\0{type_}"
        parts += (text[end : match.start()], mark)
        end = match.end()
        texts.append(found)
        starts.append(match.start())
        values.append(value)
    if not texts or len(texts) > MOST:
        return None
    parts.append(text[end:])
    return Shape("".join(parts), texts, starts, values)


class Lifting:
    """The literals of a text while it is planned: which of them the plan is open for."""

    def __init__(self, shape: Shape):
        self.shape = shape
        self.trace = Trace(len(shape.texts))
        self._places = {start: place for place, start in enumerate(shape.starts)}
        self._open: set[int] = set()  # literals that the binder met
        self._named: set[int] = set()  # literals whose text is part of a column's name

    def origin(self, node: Any) -> tuple[Trace, int] | None:
        """Where the literal of a syntax tree comes from, if that is certain."""
        place = self._places.get(node.meta.get("start"))
        if place is None:
            return None
        written = self.shape.texts[place]
        if node.this != (self.shape.values[place] if written.startswith("'") else written):
            return None
        self._open.add(place)
        return self.trace, place

    def name(self, node: Any) -> None:
        """A column is named by the text of ``node``."""
        for part in node.walk():
            place = self._places.get(part.meta.get("start")) if type(part).__name__ == "Literal" else None
            if place is not None:
                self._named.add(place)

    def finish(self, read: Sequence[int]) -> tuple[Template | None, dict[int | str, Any]]:
        """What other texts of this shape need (None: the plan is for this text alone), and the plan's parameters for
        this one. ``read``: places that the plan reads."""
        self.trace.close(set(read))
        texts = self.shape.texts
        closed = {i: t for i, t in enumerate(texts) if i not in self._open or i in self._named}
        template = Template(self.trace, closed, tuple(read))
        values = template.parameters(self.shape)
        assert values is not None, "a plan fits its own text"
        alone = all(i in closed or self.trace.is_fixed(i) for i in range(len(texts)))
        return None if alone else template, values


class Template:
    """For which literals a plan is right, and what its parameters are for them."""

    __slots__ = ("closed", "read", "trace")

    def __init__(self, trace: Trace, closed: Mapping[int, str], read: tuple[int, ...]):
        self.trace, self.closed, self.read = trace, closed, read

    def parameters(self, shape: Shape) -> dict[int | str, Any] | None:
        """The values of the plan's lifted parameters for a text of the same shape; None: the plan is not for it."""
        texts = shape.texts
        for place, written in self.closed.items():
            if texts[place] != written:
                return None
        values = self.trace.replay(shape.values)
        return None if values is None else {lifted_key(place): values[place] for place in self.read}


def lifted_key(place: int) -> int:
    """The key of the parameter that a lifted literal is in a plan; a user's keys are names and numbers from 0."""
    return -1 - place
