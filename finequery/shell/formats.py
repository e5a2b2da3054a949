"""Results in the plain formats, piece by piece, so that a result of any length can be written.

Each is a function from names, types and the rows in chunks to lines without their ends.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from finequery.display import Row, json_value, one_line, text, width
from finequery.types import SqlType

Chunks = Iterable[Sequence[Row]]
Format = Callable[[Sequence[str], Sequence[SqlType], Chunks], Iterator[str]]


def csv(names: Sequence[str], types: Sequence[SqlType], chunks: Chunks) -> Iterator[str]:
    """Comma-separated values with a header; NULL is empty, an empty string is quoted."""

    def cell(value: Any) -> str:
        if value is None:
            return ""
        string = text(value)
        if string == "" or any(c in string for c in ',"\r\n'):
            return '"' + string.replace('"', '""') + '"'
        return string

    yield ",".join(map(cell, names))
    for rows in chunks:
        for row in rows:
            yield ",".join(map(cell, row))


def json(names: Sequence[str], types: Sequence[SqlType], chunks: Chunks) -> Iterator[str]:
    """A JSON array of objects. Of columns with the same name the later ones get a number."""
    from json import dumps

    from finequery.commands import unique_names

    keys = unique_names(names)
    before = None
    for rows in chunks:
        for row in rows:
            if before is not None:
                yield before + ","
            before = ("[" if before is None else " ") + dumps(dict(zip(keys, map(json_value, row))), ensure_ascii=False)
    yield "[]" if before is None else before + "]"


def markdown(names: Sequence[str], types: Sequence[SqlType], chunks: Chunks) -> Iterator[str]:
    """A table in Markdown."""

    def line(values: Iterable[str]) -> str:
        return "| " + " | ".join(one_line(v).replace("|", "\\|") for v in values) + " |"

    yield line(names)
    yield "|" + "|".join("--:" if t.is_numeric else "---" for t in types) + "|"
    for rows in chunks:
        for row in rows:
            yield line(map(text, row))


def line(names: Sequence[str], types: Sequence[SqlType], chunks: Chunks) -> Iterator[str]:
    """A line for each value, an empty one between rows: for tables that are wider than the screen."""
    heads = [one_line(name) for name in names]
    room = max(map(width, heads))
    heads = [" " * (room - width(head)) + head for head in heads]
    first = True
    for rows in chunks:
        for row in rows:
            if not first:
                yield ""
            first = False
            for head, value in zip(heads, row):
                yield f"{head} = {one_line(text(value))}"


FORMATS: dict[str, Format] = {"csv": csv, "json": json, "markdown": markdown, "line": line}
