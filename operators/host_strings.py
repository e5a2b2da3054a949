"""String functions: for one row each (SCALAR), and over whole Arrow arrays where Arrow has the like (VECTOR).

A VECTOR function gets arrays (text as string or large_string) and constants and returns an array, or None where it
can't do these arguments: the row function does them then. NULLs never reach a SCALAR function.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from finequery.errors import DataError
from finequery.operators.arrow_arrays import of_numpy, of_values, scalar
from finequery.operators.like import lower, matches

if TYPE_CHECKING:
    import pyarrow as pa

# --- one row ---------------------------------------------------------------------------------------------------------


def upper(text: str) -> str:
    """Capital letters, one for one (ß is ẞ)."""
    if text.isascii():
        return text.upper()
    import pyarrow as pa
    import pyarrow.compute as pc

    return str(pc.utf8_upper(scalar(text, pa.string())).as_py())


def substring(text: str, start: int, length: int | None = None) -> str:
    """From ``start`` (1: the first character, -1: the last); characters in front of the first one count."""
    first = start - 1 if start > 0 else len(text) + start if start < 0 else -1
    if length is None:
        return text[max(first, 0) :]
    end = first + length
    if length < 0:
        first, end = end, first
    return text[max(first, 0) : max(end, 0)]


def left(text: str, count: int) -> str:
    return text[:count] if count >= 0 else text[: max(len(text) + count, 0)]


def right(text: str, count: int) -> str:
    return text[max(len(text) - count, 0) :] if count >= 0 else text[-count:]


def pad(text: str, count: int, filler: str, at_start: bool) -> str:
    """Filled up, or cut, to ``count`` characters."""
    missing = count - len(text)
    if missing <= 0:
        return text[: max(count, 0)]
    if not filler:
        raise DataError(f"{'lpad' if at_start else 'rpad'} needs at least one character to fill up with")
    fill = (filler * (missing // len(filler) + 1))[:missing]
    return fill + text if at_start else text + fill


def reverse(text: str) -> str:
    """The characters backwards; marks stay behind the letter that they belong to."""
    if text.isascii():
        return text[::-1]
    clusters: list[str] = []
    for c in text:
        joins = unicodedata.category(c) in ("Mn", "Me", "Mc") or c == "\u200d" or "\U0001f3fb" <= c <= "\U0001f3ff"
        if clusters and (joins or clusters[-1].endswith("\u200d")):
            clusters[-1] += c
        else:
            clusters.append(c)
    return "".join(reversed(clusters))


def split_part(text: str, separator: str, index: int) -> str:
    parts = text.split(separator) if separator else list(text)
    if index == 0 or not -len(parts) <= index <= len(parts):
        return ""
    return parts[index - 1 if index > 0 else index]


def character(code: int) -> str:
    if not 0 <= code < 0x110000 or 0xD800 <= code < 0xE000:
        raise DataError(f"chr({code}): there is no character with this code point")
    return chr(code)


def code_point(text: str) -> int:
    return ord(text[0]) if text else 0


def repeat(text: str, count: int) -> str:
    if len(text) * count > 1 << 31:
        raise DataError(f"repeat would make a text of {len(text) * count} characters")
    return text * max(count, 0)


def translate(text: str, old: str, new: str) -> str:
    """Each character of ``old`` replaced by the one at its place in ``new``, or dropped where ``new`` is shorter."""
    table: dict[int, str] = {}
    for i, c in enumerate(old):
        table.setdefault(ord(c), new[i : i + 1])
    return text.translate(table)


def levenshtein(a: str, b: str) -> int:
    """Single characters to insert, drop or replace, counted over UTF-8 bytes."""
    x, y = a.encode(), b.encode()
    row = list(range(len(y) + 1))
    for i, c in enumerate(x):
        diagonal, row[0] = row[0], i + 1
        for j, d in enumerate(y):
            diagonal, row[j + 1] = row[j + 1], min(row[j + 1] + 1, row[j] + 1, diagonal + (c != d))
    return row[-1]


def hamming(a: str, b: str) -> int:
    """Places at which two texts of one length differ."""
    x, y = a.encode(), b.encode()
    if len(x) != len(y) or not x:
        raise DataError("hamming compares texts of the same length, of at least one character")
    return sum(c != d for c, d in zip(x, y))


def strip_accents(text: str) -> str:
    return "".join(c for c in unicodedata.normalize("NFD", text) if unicodedata.category(c) != "Mn")


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def md5(text: str) -> str:
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


# --- regular expressions: RE2 as Arrow has it ------------------------------------------------------------------------


@lru_cache(maxsize=256)
def _pattern(pattern: str, options: str, replacing: bool = False) -> tuple[str, bool]:
    """The pattern with its options inside, and whether all matches are meant."""
    flags, literal, everywhere = {"i": False, "s": False}, False, False
    for option in options:
        if option in "ci":
            flags["i"] = option == "i"
        elif option == "s":
            flags["s"] = True
        elif option in "mnp":
            flags["s"] = False
        elif option == "l":
            literal = True
        elif option == "g" and replacing:
            everywhere = True
        elif not option.isspace():
            raise DataError(f"'{option}' is not an option of this regular expression function")
    if literal:
        pattern = re.sub(r"([\\.^$*+?()\[\]{}|-])", r"\\\1", pattern)
    on = "".join(f for f, value in flags.items() if value)
    return (f"(?{on}){pattern}" if on else pattern), everywhere


@lru_cache(maxsize=256)
def _named_groups(pattern: str) -> tuple[str, int]:
    """The pattern with every group named g1, g2, … and the number of groups."""
    out, i, count, in_class = [], 0, 0, False
    while i < len(pattern):
        c = pattern[i]
        if c == "\\":
            if pattern.startswith("\\Q", i):
                end = pattern.find("\\E", i)
                end = len(pattern) if end < 0 else end + 2
                out.append(pattern[i:end])
                i = end
                continue
            out.append(pattern[i : i + 2])
            i += 2
            continue
        if in_class:
            if c == "[" and pattern.startswith("[:", i):
                end = pattern.find(":]", i)
                if end > 0:
                    out.append(pattern[i : end + 2])
                    i = end + 2
                    continue
            in_class = c != "]"
        elif c == "[":
            in_class = True
            for opening in ("[^]", "[]", "[^"):
                if pattern.startswith(opening, i):
                    c = opening
                    break
        elif c == "(":
            named = re.compile(r"\(\?P?<[A-Za-z_]\w*>").match(pattern, i)
            if named or not pattern.startswith("(?", i):
                count += 1
                out.append(f"(?P<g{count}>")
                i = named.end() if named else i + 1
                continue
        out.append(c)
        i += len(c)
    return "".join(out), count


def _run(function: Callable[[], pa.Array], pattern: str) -> pa.Array:
    import pyarrow as pa

    try:
        return function()
    except pa.ArrowInvalid as error:
        raise DataError(f"the regular expression '{pattern}' is wrong: {error}") from error


def regexp_matches_array(text: pa.Array, pattern: str, options: str = "") -> pa.Array:
    import pyarrow.compute as pc

    wanted, _ = _pattern(pattern, options)
    return _run(lambda: pc.match_substring_regex(text, wanted), pattern)


def regexp_full_match_array(text: pa.Array, pattern: str, options: str = "") -> pa.Array:
    import pyarrow.compute as pc

    wanted, _ = _pattern(pattern, options)
    return _run(lambda: pc.match_substring_regex(text, rf"\A(?:{wanted})\z"), pattern)


def regexp_replace_array(text: pa.Array, pattern: str, new: str, options: str = "") -> pa.Array:
    import pyarrow.compute as pc

    wanted, everywhere = _pattern(pattern, options, True)
    _check_replacement(wanted, new)
    if everywhere:
        return _run(lambda: pc.replace_substring_regex(text, wanted, new), pattern)
    return _run(lambda: pc.replace_substring_regex(text, wanted, new, max_replacements=1), pattern)


def _check_replacement(pattern: str, new: str) -> None:
    groups = _named_groups(pattern)[1]
    i = new.find("\\")
    while i >= 0:
        following = new[i + 1 : i + 2]
        if not following or following not in "0123456789\\":
            raise DataError(f"the replacement '{new}' has a \\ that is followed by neither a digit nor a \\")
        if following.isdigit() and int(following) > groups:
            raise DataError(f"the replacement '{new}' names group {following}; the pattern has {groups}")
        i = new.find("\\", i + 2)


def regexp_extract_array(text: pa.Array, pattern: str, group: int = 0) -> pa.Array:
    import pyarrow.compute as pc

    if not 0 <= group <= 9:
        raise DataError(f"the group of regexp_extract is 0 to 9, not {group}")
    named, count = _named_groups(pattern)
    if group > count:
        named, group = named, -1
    found = _run(lambda: pc.extract_regex(text, f"(?P<g0>{named})"), pattern)
    if group < 0:
        return pc.if_else(pc.is_valid(text), scalar("", text.type), scalar(None, text.type))
    part = pc.struct_field(found, f"g{group}")
    return pc.if_else(pc.is_valid(text), pc.fill_null(part, scalar("", part.type)), scalar(None, part.type))


def _by_array(function: Callable[..., Any]) -> Callable[..., Any]:
    """A regular expression function for one row."""

    def one(text: str, *rest: Any) -> Any:
        import pyarrow as pa

        return function(of_values([text], pa.string()), *rest)[0].as_py()

    return one


SCALAR: dict[str, Callable[..., Any]] = {
    "upper": upper,
    "lower": lower,
    "length": len,
    "strlen": lambda text: len(text.encode()),
    "substring": substring,
    "left": left,
    "right": right,
    "trim": lambda text, chars=" ": text.strip(chars) if chars else text,
    "ltrim": lambda text, chars=" ": text.lstrip(chars) if chars else text,
    "rtrim": lambda text, chars=" ": text.rstrip(chars) if chars else text,
    "replace": lambda text, old, new: text.replace(old, new) if old else text,
    "starts_with": str.startswith,
    "ends_with": str.endswith,
    "contains": lambda text, part: part in text,
    "position": lambda text, part: text.find(part) + 1,
    "lpad": lambda text, count, filler: pad(text, count, filler, True),
    "rpad": lambda text, count, filler: pad(text, count, filler, False),
    "reverse": reverse,
    "repeat": repeat,
    "split_part": split_part,
    "concat": lambda *parts: "".join(parts),
    "ascii": code_point,
    "chr": character,
    "md5": md5,
    "sha256": sha256,
    "translate": translate,
    "levenshtein": levenshtein,
    "hamming": hamming,
    "strip_accents": strip_accents,
    "unicode": lambda text: ord(text[0]) if text else -1,
    "like": matches,
    "ilike": lambda text, pattern, escape=None: matches(text, pattern, escape, True),
    "regexp_matches": _by_array(regexp_matches_array),
    "regexp_full_match": _by_array(regexp_full_match_array),
    "regexp_replace": _by_array(regexp_replace_array),
    "regexp_extract": _by_array(regexp_extract_array),
}

# --- whole arrays ----------------------------------------------------------------------------------------------------


def _constants(values: tuple[Any, ...]) -> bool:
    return all(isinstance(v, (str, int)) for v in values)


def is_ascii(text: pa.Array) -> bool:
    """Whether all of an array's bytes are ASCII."""
    import numpy as np
    import pyarrow as pa

    size = 8 if pa.types.is_large_string(text.type) else 4
    if not len(text) or text.buffers()[2] is None:
        return True
    offsets = np.frombuffer(text.buffers()[1], np.int64 if size == 8 else np.int32)
    first, end = int(offsets[text.offset]), int(offsets[text.offset + len(text)])
    raw = np.frombuffer(text.buffers()[2], np.uint8)[first:end]
    return not len(raw) or int(raw.max()) < 128


def _case(name: str) -> Callable[..., Any]:
    def function(text: pa.Array) -> pa.Array:
        import pyarrow.compute as pc

        return getattr(pc, f"{'ascii' if is_ascii(text) else 'utf8'}_{name}")(text)

    return function


def _lengths(name: str) -> Callable[..., Any]:
    def function(text: pa.Array) -> pa.Array:
        import pyarrow as pa
        import pyarrow.compute as pc

        return pc.cast(getattr(pc, name)(text), pa.int64())

    return function


def _slice(text: pa.Array, start: int, stop: int | None) -> pa.Array:
    import pyarrow.compute as pc

    bound = 2**31 - 1
    clip = lambda n: max(-bound, min(bound, n))  # noqa: E731
    return pc.utf8_slice_codeunits(text, clip(start), None if stop is None else clip(stop))


def _substring(text: pa.Array, *rest: Any) -> pa.Array | None:
    if not _constants(rest):
        return None
    start = rest[0]
    if len(rest) == 1:
        return _slice(text, start - 1 if start > 0 else start, None)
    if rest[1] < 0 or start < 0:
        return None
    return _slice(text, max(start - 1, 0), max(start - 1 + rest[1], 0))


def _left(text: pa.Array, count: Any) -> pa.Array | None:
    return _slice(text, 0, count) if isinstance(count, int) else None


def _right(text: pa.Array, count: Any) -> pa.Array | None:
    if not isinstance(count, int):
        return None
    return _slice(text, -count, None) if count else _slice(text, 0, 0)


def _trim(name: str) -> Callable[..., Any]:
    def function(text: pa.Array, chars: Any = " ") -> pa.Array | None:
        import pyarrow.compute as pc

        if not isinstance(chars, str):
            return None
        return getattr(pc, name)(text, chars) if chars else text

    return function


def _with_constant(name: str) -> Callable[..., Any]:
    def function(text: pa.Array, part: Any) -> pa.Array | None:
        import pyarrow.compute as pc

        return getattr(pc, name)(text, part) if isinstance(part, str) else None

    return function


def _replace(text: pa.Array, old: Any, new: Any) -> pa.Array | None:
    import pyarrow.compute as pc

    if not _constants((old, new)):
        return None
    return pc.replace_substring(text, old, new) if old else text


def _position(text: pa.Array, part: Any) -> pa.Array | None:
    import pyarrow as pa
    import pyarrow.compute as pc

    if not isinstance(part, str) or not is_ascii(text):
        return None
    found = pc.find_substring(text, part)
    return pc.cast(pc.add(found, scalar(1, found.type)), pa.int64())


def _concat(*parts: Any) -> pa.Array:
    import pyarrow as pa
    import pyarrow.compute as pc

    wide = [scalar(p, pa.large_string()) if isinstance(p, str) else p.cast(pa.large_string()) for p in parts]
    return pc.binary_join_element_wise(*wide, scalar("", pa.large_string()), null_handling="emit_null")


def _like(text: pa.Array, *rest: Any, fold: bool = False) -> pa.Array | None:
    """LIKE with a constant pattern, by the native kernels."""
    if not _constants(rest):
        return None
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    from finequery.operators.column import ColumnData
    from finequery.operators.encode import mask_of
    from finequery.operators.like import compile_pattern, match_column
    from finequery.types import VARCHAR

    pattern, escape = rest[0], rest[1] if len(rest) > 1 else None
    if fold and not is_ascii(text):
        text, pattern, fold = pc.utf8_lower(text), lower(pattern), False
    compiled = compile_pattern(pattern, escape, fold)
    wide = text.cast(pa.large_string()) if pa.types.is_string(text.type) else text
    if not len(wide):
        return of_values([], pa.bool_())
    offsets = np.frombuffer(wide.buffers()[1], np.int64)[wide.offset : wide.offset + len(wide) + 1]
    raw = np.frombuffer(wide.buffers()[2] or b"", np.uint8)
    # The kernel reads past the end: the last rows are searched in a copy.
    safe = int(np.searchsorted(offsets, len(raw) - 64, "right")) - 1
    safe = max(safe, 0)
    tail = np.concatenate([raw[int(offsets[safe]) : int(offsets[-1])], np.zeros(64, np.uint8)])
    pieces = [(offsets[: safe + 1], raw), (offsets[safe:] - offsets[safe], tail)]
    masks = [
        match_column(compiled, ColumnData(VARCHAR, "string", len(places) - 1, places, chars=chars))
        for places, chars in pieces
        if len(places) > 1
    ]
    mask = np.concatenate(masks).view(np.bool_)
    return of_numpy(mask, mask_of(text))


def _ilike(text: pa.Array, *rest: Any) -> pa.Array | None:
    return _like(text, *rest, fold=True)


def _regexp(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda text, *rest: function(text, *rest) if _constants(rest) else None


VECTOR: dict[str, Callable[..., Any]] = {
    "upper": _case("upper"),
    "lower": _case("lower"),
    "length": _lengths("utf8_length"),
    "strlen": _lengths("binary_length"),
    "substring": _substring,
    "left": _left,
    "right": _right,
    "trim": _trim("utf8_trim"),
    "ltrim": _trim("utf8_ltrim"),
    "rtrim": _trim("utf8_rtrim"),
    "replace": _replace,
    "starts_with": _with_constant("starts_with"),
    "ends_with": _with_constant("ends_with"),
    "contains": _with_constant("match_substring"),
    "position": _position,
    "concat": _concat,
    "like": _like,
    "ilike": _ilike,
    "regexp_matches": _regexp(regexp_matches_array),
    "regexp_full_match": _regexp(regexp_full_match_array),
    "regexp_replace": _regexp(regexp_replace_array),
    "regexp_extract": _regexp(regexp_extract_array),
}
