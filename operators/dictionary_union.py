"""String vectors of one CASE brought to one dictionary, so that they stay codes."""

from __future__ import annotations

import numpy as np

from finequery.operators.column import Dictionary
from finequery.operators.lower import Lower, Value
from finequery.operators.program import Out, Reg

#: More distinct strings than this are handled as bytes.
MOST_STRINGS = 50_000


def make_dictionary(values: list[str]) -> Dictionary:
    """A dictionary of these strings (any order, repeats allowed)."""
    encoded = sorted({v.encode() for v in values})
    offsets = np.zeros(len(encoded) + 1 + 8, dtype=np.int64)
    offsets[1 : len(encoded) + 1] = np.cumsum([len(v) for v in encoded]) if encoded else 0
    chars = np.frombuffer(b"".join(encoded) + bytes(64), dtype=np.uint8).copy()
    return Dictionary(offsets[: len(encoded) + 1], chars, all(v.isascii() for v in encoded))


def unify_strings(lower: Lower, values: list[Value]) -> list[Value]:
    """The same vectors as codes of one dictionary where all are codes or constants; unchanged otherwise."""
    dictionaries = [v.dictionary for v in values if v.kind == "u32"]
    if any(v.kind == "s" and v.text is None for v in values):
        return values
    if dictionaries and all(d is dictionaries[0] for d in dictionaries) and len(dictionaries) == len(values):
        return values
    if sum(len(d) for d in dictionaries if d is not None) > MOST_STRINGS:
        return values
    strings: set[str] = set()
    for v in values:
        if v.kind == "u32":
            assert v.dictionary is not None
            strings.update(v.dictionary.strings())
        else:
            assert v.text is not None
            strings.add(v.text.decode())
    merged = make_dictionary(list(strings))
    codes = {s: i for i, s in enumerate(merged.strings())}
    result = []
    for v in values:
        if v.kind == "u32":
            assert v.dictionary is not None
            table = np.array([codes[s] for s in v.dictionary.strings()] + [0] * 16, dtype=np.uint32)
            lower.kept.append(table)
            reg = Reg(4)
            lower.emit("gather_4", lower.symbol(table), 0, v.reg, Out(reg))
        else:
            assert v.text is not None
            reg = lower.program.constant("u32", codes[v.text.decode()])
        result.append(Value("u32", reg, v.valid, 0, max(len(merged) - 1, 0), merged))
    return result
