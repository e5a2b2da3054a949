"""LIKE patterns, compiled to what the kernels of primitives.strings run.

    'abc'      equal       one comparison
    'abc%'     prefix      one comparison at the start
    '%abc'     suffix      one comparison at the end
    '%'        all         every string
    the rest   general     segments between the %: found one after the other, leftmost first

A segment may hold ``_``, which takes one character (not one byte). Leftmost is right: every segment takes a fixed
number of characters, so no later choice could leave more room.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from finequery.errors import DataError
from finequery.operators.arrow_arrays import scalar

if TYPE_CHECKING:
    from finequery.operators.column import ColumnData

#: Stands for ``_`` among the bytes of a segment (primitives.strings).
WILD = 0xFF
_START, _END, _FOLD = 1, 2, 4


@dataclass(eq=False)
class Pattern:
    """A compiled pattern. ``text`` is the constant of the kinds equal, prefix and suffix, at ``text_address``;
    ``address`` is the pattern's words for ``like_s`` and ``like_rows``, which do every kind."""

    kind: str
    text: bytes
    segments: list[bytes]
    flags: int
    words: np.ndarray = field(init=False)
    chars: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        raw = b"".join(self.segments) or self.text
        self.chars = np.frombuffer(raw + bytes(64), dtype=np.uint8).copy()
        words = [self.flags, len(self.segments), 0, 0]
        address, fold = self.chars.ctypes.data, bool(self.flags & _FOLD)
        for segment in self.segments:
            fixed = segment.find(WILD) if WILD in segment else len(segment)
            characters = sum(1 for byte in segment if byte & 0xC0 != 0x80)
            bits = values = offsets = 0
            for i in range(4):  # a shorter segment tests its last byte again
                at = min(i, max(fixed - 1, 0))
                byte = segment[at] if fixed else 0
                any_case = 0x20 if fold and 97 <= byte <= 122 else 0
                bits, values, offsets = bits | any_case << 8 * i, values | byte << 8 * i, offsets | at << 8 * i
            words += [address, len(segment), characters, int(WILD in segment), fixed, bits, values, offsets]
            address += len(segment)
        self.words = np.array(words, dtype=np.int64)

    @property
    def address(self) -> int:
        return self.words.ctypes.data

    @property
    def text_address(self) -> int:
        return self.chars.ctypes.data


def _tokens(pattern: str, escape: str | None) -> list[tuple[str, bool]]:
    """Characters, and whether each is a wildcard."""
    tokens, i = [], 0
    while i < len(pattern):
        c = pattern[i]
        if escape and c == escape:
            if i + 1 == len(pattern):
                raise DataError(f"the LIKE pattern '{pattern}' ends with its escape character '{escape}'")
            tokens.append((pattern[i + 1], False))
            i += 2
        else:
            tokens.append((c, c in "%_"))
            i += 1
    return tokens


@lru_cache(maxsize=1024)
def compile_pattern(pattern: str, escape: str | None = None, fold: bool = False) -> Pattern:
    """``fold``: ASCII letters match in either case (ILIKE over columns that are ASCII)."""
    if fold:
        pattern = lower(pattern)
    segments: list[bytes] = []
    start, end, current = True, True, bytearray()
    tokens = _tokens(pattern, escape)
    for c, wild in tokens:
        end = True
        if wild and c == "%":
            start, end = start and bool(segments or current), False
            if current:
                segments.append(bytes(current))
                current.clear()
        elif wild:
            current.append(WILD)
        else:
            current += c.encode("utf-8", "surrogatepass")
    if current or not tokens:
        segments.append(bytes(current))
    flags = start * _START | end * _END | fold * _FOLD
    plain = not fold and len(segments) == 1 and WILD not in segments[0]
    kind = "general"
    if not segments:
        kind = "all"
    elif plain and start and end:
        kind = "equal"
    elif plain and start:
        kind = "prefix"
    elif plain and end:
        kind = "suffix"
    return Pattern(kind, segments[0] if plain else b"", segments, flags)


def lower(text: str) -> str:
    """Small letters as LOWER makes them."""
    if text.isascii():
        return text.lower()
    import pyarrow as pa
    import pyarrow.compute as pc

    return str(pc.utf8_lower(scalar(text, pa.string())).as_py())


@lru_cache(maxsize=1024)
def as_regex(pattern: str, escape: str | None = None) -> re.Pattern[str]:
    """The pattern for Python's ``re.fullmatch``."""
    parts = [(".*" if c == "%" else ".") if wild else re.escape(c) for c, wild in _tokens(pattern, escape)]
    return re.compile("".join(parts), re.DOTALL)


def matches(text: str, pattern: str, escape: str | None = None, fold: bool = False) -> bool:
    """``text LIKE pattern`` for one string; ``fold``: ILIKE."""
    if fold:
        text, pattern = lower(text), lower(pattern)
    return as_regex(pattern, escape).fullmatch(text) is not None


def match_column(pattern: Pattern, column: ColumnData) -> np.ndarray:
    """One byte per row of a string column (kind "string"; NULL rows as the empty string), on all cores."""
    from finequery.operators.pool import get_pool

    out = np.empty(column.length, dtype=np.uint8)
    assert column.kind == "string" and column.chars is not None
    words = (column.data.ctypes.data, column.chars.ctypes.data, pattern.address, out.ctypes.data)
    status = get_pool().range("like_rows", words, column.length)
    assert status == 0
    return out
