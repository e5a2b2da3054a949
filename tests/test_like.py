"""LIKE and ILIKE: the pattern compiler and all forms of the kernels, against DuckDB; string kernels against Python."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest

duckdb = pytest.importorskip("duckdb")
pa = pytest.importorskip("pyarrow")

from finequery.errors import DataError  # noqa: E402
from finequery.operators import native  # noqa: E402
from finequery.operators.column import ColumnData  # noqa: E402
from finequery.operators.host import evaluate  # noqa: E402
from finequery.operators.like import compile_pattern, match_column, matches  # noqa: E402
from finequery.types import BOOLEAN, VARCHAR  # noqa: E402

ALPHABET = ("a", "b", "%", "_", "é", "A", "$", "日")


class Texts:
    """Strings as a column and as a vector of (address, length)."""

    def __init__(self, texts: list[str]):
        raw = [t.encode() for t in texts]
        self.offsets = np.zeros(len(raw) + 1, dtype=np.int64)
        np.cumsum([len(r) for r in raw], out=self.offsets[1:])
        self.chars = np.frombuffer(b"".join(raw) + bytes(64), dtype=np.uint8).copy()
        self.pairs = np.empty(2 * len(raw), dtype=np.int64)
        self.pairs[::2] = self.chars.ctypes.data + self.offsets[:-1]
        self.pairs[1::2] = np.diff(self.offsets)
        self.length = len(raw)
        self.column = ColumnData(VARCHAR, "string", len(raw), self.offsets, chars=self.chars)

    @property
    def vector(self) -> tuple[int, int]:
        return self.pairs.ctypes.data, 0

    def flags(self, kernel: str, *words: int) -> list[bool]:
        out = np.full(self.length, 9, dtype=np.uint8)
        assert native.run(kernel, *self.vector, *words, out.ctypes.data, k=self.length) == self.length
        return out.astype(bool).tolist()

    def views(self, kernel: str, *words: int) -> list[str]:
        out = np.empty(2 * self.length, dtype=np.int64)
        native.run(kernel, *self.vector, *words, out.ctypes.data, k=self.length)
        raw, base = self.chars.tobytes(), self.chars.ctypes.data
        return [raw[a - base : a - base + n].decode() for a, n in out.reshape(-1, 2).tolist()]


def word(rng: random.Random, most: int, alphabet: tuple[str, ...] = ALPHABET) -> str:
    return "".join(rng.choice(alphabet) for _ in range(rng.randint(0, most)))


def duck_rows(texts: list[Any], expression: str, *parameters: Any) -> list[Any]:
    con = duckdb.connect()
    con.register("texts", pa.table({"s": texts, "i": range(len(texts))}))
    return [row[0] for row in con.execute(f"select {expression} from texts order by i", list(parameters)).fetchall()]


@pytest.mark.parametrize("seed", range(3))
def test_like_is_duckdbs(seed: int) -> None:
    rng = random.Random(seed)
    texts = [word(rng, 8) for _ in range(200)] + ["a" * 70 + "b" * 70 + word(rng, 5) for _ in range(9)] + [""]
    data = Texts(texts)
    for trial in range(60):
        text = word(rng, 6) if trial % 3 else f"%{word(rng, 3)}%{word(rng, 2)}"
        escape = "$" if trial % 4 == 0 else None
        try:
            pattern = compile_pattern(text, escape)
        except DataError:
            assert text.endswith("$")
            continue
        expected = duck_rows(texts, "s like ?" + (" escape '$'" if escape else ""), text)
        where = f"{text!r} escape {escape}"
        assert data.flags("like_s", pattern.address) == expected, where
        assert match_column(pattern, data.column).astype(bool).tolist() == expected, where
        assert [matches(t, text, escape) for t in texts] == expected, where
        tile = np.full(data.length, 9, dtype=np.uint8)
        native.run(
            *("like_tile", data.offsets.ctypes.data, 8, data.chars.ctypes.data, pattern.address, tile[7:].ctypes.data),
            t=7,
            k=data.length - 7,
        )
        assert tile[7:].astype(bool).tolist() == expected[7:], where
        if pattern.kind in ("equal", "prefix", "suffix"):
            kernel = {"equal": "eq_text_s", "prefix": "starts_with_s", "suffix": "ends_with_s"}[pattern.kind]
            assert data.flags(kernel, pattern.text_address, len(pattern.text)) == expected, where


@pytest.mark.parametrize("seed", range(2))
def test_ilike_is_duckdbs(seed: int) -> None:
    rng = random.Random(seed)
    ascii_only = ("a", "b", "A", "B", "[", "{", "%", "_", "@", "`")
    texts = [word(rng, 8, ascii_only) for _ in range(200)]
    data = Texts(texts)
    for trial in range(60):
        text = word(rng, 5, ascii_only) if trial % 2 else f"%{word(rng, 5, ascii_only[:6])}%"
        expected = duck_rows(texts, "s ilike ?", text)
        pattern = compile_pattern(text, None, True)
        assert data.flags("like_s", pattern.address) == expected, text
        assert match_column(pattern, data.column).astype(bool).tolist() == expected, text


def test_ilike_beyond_ascii() -> None:
    texts = ["ÄB", "äb", "äx", None, "", "日本Ö"]
    for pattern in ("äb", "Ä%", "%ö", "_B", "_本_"):
        found = evaluate("ilike", [pa.array(texts), pattern], BOOLEAN, len(texts)).to_pylist()
        assert found == duck_rows(texts, "s ilike ?", pattern)


def test_kinds() -> None:
    kinds = {"abc": "equal", "": "equal", "abc%": "prefix", "%abc": "suffix", "%": "all", "%%": "all", "a%b": "general"}
    assert {text: compile_pattern(text).kind for text in kinds} == kinds
    assert compile_pattern("a$%", "$").text == b"a%"
    assert compile_pattern("%a_c%").segments == [b"a\xffc"]
    with pytest.raises(DataError, match="escape"):
        compile_pattern("a$", "$")


def test_search_at_the_borders_of_blocks_and_rows() -> None:
    for before in range(56, 72):
        texts = ["x" * before + "needle", "nee", "dle", "needl", "e", "xneedlex" * 20, ""]
        data = Texts(texts)
        for text in ("%needle%", "%needle", "%n%e%dle%", "%e%"):
            pattern = compile_pattern(text)
            assert match_column(pattern, data.column).astype(bool).tolist() == [matches(t, text) for t in texts]


def test_comparison_is_by_bytes() -> None:
    rng = random.Random(1)
    a = [word(rng, 20) for _ in range(400)]
    b = [x if rng.random() < 0.3 else x[:9] + word(rng, 9) if rng.random() < 0.6 else word(rng, 9) for x in a]
    left, right = Texts(a), Texts(b)
    for kernel, compare in (
        ("eq_s", lambda x, y: x == y),
        ("lt_s", lambda x, y: x < y),
        ("le_s", lambda x, y: x <= y),
    ):
        assert left.flags(kernel, *right.vector) == [compare(x.encode(), y.encode()) for x, y in zip(a, b)]


def test_lengths() -> None:
    rng = random.Random(2)
    texts = [word(rng, 30) for _ in range(300)]
    data = Texts(texts)
    for kernel, expected in (("length_s", map(len, texts)), ("byte_length_s", (len(t.encode()) for t in texts))):
        out = np.empty(len(texts), dtype=np.int64)
        native.run(kernel, *data.vector, out.ctypes.data, k=len(texts))
        assert out.tolist() == list(expected)


@pytest.mark.parametrize(("kernel", "alphabet"), [("substring_s", ALPHABET), ("substring_ascii_s", ("a", "b", "c"))])
def test_substring_is_duckdbs(kernel: str, alphabet: tuple[str, ...]) -> None:
    rng = random.Random(3)
    texts = [word(rng, 8, alphabet) for _ in range(100)]
    data = Texts(texts)
    for start in range(-6, 8):
        for length in (None, -3, -1, 0, 1, 2, 5, 9):
            more = "" if length is None else f", {length}"
            expected = duck_rows(texts, f"substring(s, {start}{more})")
            assert data.views(kernel, start, 2**62 if length is None else length) == expected, (start, length)
