"""SQL as the shell has to know it while it is being typed: tokens, and where a statement ends."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

_TOKEN = re.compile(
    r"""
    (?P<space>\s+)
  | (?P<comment>--[^\n]*|/\*.*?(?:\*/|\Z))
  | (?P<string>'[^']*(?:''[^']*)*(?:'|\Z)|\$(?P<tag>\w*)\$.*?(?:\$(?P=tag)\$|\Z))
  | (?P<quoted>"[^"]*(?:""[^"]*)*(?:"|\Z))
  | (?P<number>\.?\d[\d_]*(?:\.\d*)?(?:[eE][+-]?\d+)?)
  | (?P<word>[^\W\d]\w*)
  | (?P<other>.)
    """,
    re.VERBOSE | re.DOTALL,
)


class Token(NamedTuple):
    """``kind``: space, comment, string, quoted (a name), number, word or other (one character)."""

    kind: str
    text: str
    start: int

    @property
    def end(self) -> int:
        return self.start + len(self.text)

    @property
    def closed(self) -> bool:
        """Whether a string, a quoted name or a comment has its end."""
        if self.kind == "comment":
            return self.text.startswith("--") or (self.text.endswith("*/") and len(self.text) > 3)
        if self.kind == "string" and self.text.startswith("$"):
            tag = self.text[: self.text.index("$", 1) + 1]
            return len(self.text) >= 2 * len(tag) and self.text.endswith(tag)
        return self.kind not in ("string", "quoted") or self.text.count(self.text[0]) % 2 == 0


def tokens(text: str, start: int = 0) -> Iterator[Token]:
    """Every character of the text from ``start`` on, in tokens."""
    for match in _TOKEN.finditer(text, start):
        kind = match.lastgroup or "other"
        yield Token("string" if kind == "tag" else kind, match[0], match.start())


class Input(NamedTuple):
    """A statement or a line with a dot command, and the line (from 1) of the text it begins in."""

    text: str
    line: int

    @property
    def is_command(self) -> bool:
        return self.text.startswith(".")


def inputs(text: str) -> Iterator[Input]:
    """What is to be run one after another. A dot command ends with its line, a statement with a ``;`` outside of
    quotes and comments, the last one with the text."""
    position = 0
    while True:
        first = end = None
        for token in tokens(text, position):
            if token.kind in ("space", "comment") or (first is None and token.text == ";"):
                continue
            if first is None:
                first = token.start
                if token.text.startswith(".") and token.kind == "other":
                    end = text.find("\n", first)
                    break
            elif token.text == ";":
                end = token.end
                break
        if first is None:
            return
        stop = len(text) if end is None or end < 0 else end
        yield Input(text[first:stop].strip(), text.count("\n", 0, first) + 1)
        position = stop


def complete(text: str) -> bool:
    """Whether the text can be run: it has a statement, and nothing follows the last ``;``."""
    ended, closed = False, True
    for token in tokens(text):
        closed = token.closed
        if token.kind not in ("space", "comment"):
            ended = token.text == ";"
    return ended and closed


def finished(text: str) -> bool:
    """Whether Enter runs what was typed: nothing, a dot command, a word for leaving or help, complete statements."""
    bare = text.strip()
    return not bare or bare[0] in ".\\" or bare.lower() in WORDS or complete(text)


#: What people type who do not know yet that commands begin with a dot.
WORDS = {"exit": ".quit", "quit": ".quit", "help": ".help"}
