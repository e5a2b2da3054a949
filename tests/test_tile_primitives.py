"""Primitives that read, select, take and write columns, against numpy. Sources start some rows before the tile."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
from kernels import DTYPES, SIZES, Block, Out, covers, run

BEFORE = 24  # rows of a column before the tile
UNSIGNED = ("u8", "u16", "u32")
STORED = (*UNSIGNED, "i64")
WIDTHS = {1: "u8", 2: "u16", 4: "u32", 8: "u64"}
NO_ROW = 0xFFFFFFFF
I64 = np.iinfo(np.int64)


def values(rng: np.random.Generator, kind: str, count: int) -> np.ndarray:
    """Any bits, and the edges."""
    dtype = DTYPES[kind]
    if dtype.kind == "f":
        return np.concatenate([[0.0, -0.0, np.inf, -np.inf, np.nan, 1e-40], rng.normal(size=count)])[:count].astype(
            dtype
        )
    limits = np.iinfo(dtype)
    edges = np.array([limits.min, limits.max, 0, 1], dtype)
    found = rng.integers(limits.min, limits.max, count, dtype, endpoint=True)
    found[: min(count, 4)] = edges[:count]
    return rng.permutation(found)


def column(kind: str, count: int) -> tuple[np.ndarray, np.ndarray, int]:
    """A column, the rows of its tile, and its stride."""
    whole = values(np.random.default_rng(count), kind, BEFORE + count)
    return whole, whole[BEFORE:], whole.itemsize


def selection(count: int, below: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, max(below, 1), count if below else 0).astype(np.uint32)


def flags(count: int, seed: int = 2) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 2, count).astype(np.uint8)


def bitmap(mask: np.ndarray) -> np.ndarray:
    """Of whole 64-bit words."""
    return np.packbits(np.pad(mask, (0, -len(mask) % 64)), bitorder="little")


def texts(count: int, seed: int = 3) -> tuple[np.ndarray, np.ndarray, list[bytes]]:
    """Offsets, characters, and the strings."""
    rng = np.random.default_rng(seed)
    found = [rng.bytes(int(n)) for n in rng.choice([0, 1, 7, 8, 9, 15, 16, 17, 40], count)]
    offsets = np.zeros(count + 1, np.int64)
    np.cumsum([len(s) for s in found], out=offsets[1:])
    return offsets, np.frombuffer(b"".join(found), np.uint8).copy(), found


# --- reading ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("source", STORED)
@covers("widen_{source}", "gather_widen_{source}")
def test_widen(source: str) -> None:
    for count, base, scale in itertools.product(SIZES, (0, -5, I64.min), (1, 100, -3)):
        x, tile, stride = column(source, count)
        with np.errstate(over="ignore"):
            expected = np.int64(base) + np.int64(scale) * tile.astype(np.int64)
        out = Out(count, "i64")
        assert run(f"widen_{source}", x, stride, base, scale, out, t=BEFORE, k=count) == count
        assert (out.data == expected).all()
        index = selection(count, count)
        out = Out(count, "i64")
        assert run(f"gather_widen_{source}", x, stride, index, base, scale, out, t=BEFORE, k=count) == count
        assert (out.data == expected[index]).all()


@pytest.mark.parametrize("source", UNSIGNED)
@covers("digits_{source}", "gather_digits_{source}")
def test_digits(source: str) -> None:
    for count, shift in itertools.product(SIZES, (0, 1, 7)):
        x, tile, stride = column(source, count)
        expected = tile.astype(np.uint32) - np.uint32(shift)
        index = selection(count, count)
        out, gathered = Out(count, "u32"), Out(count, "u32")
        assert run(f"digits_{source}", x, stride, shift, out, t=BEFORE, k=count) == count
        assert run(f"gather_digits_{source}", x, stride, index, shift, gathered, t=BEFORE, k=count) == count
        assert (out.data == expected).all() and (gathered.data == expected[index]).all()


@covers("load_f32", "gather_f32")
def test_floats() -> None:
    for count in SIZES:
        x, tile, stride = column("f32", count)
        index = selection(count, count)
        for name, words, expected in (("load", (), tile), ("gather", (index,), tile[index])):
            out = Out(count, "f64")
            assert run(f"{name}_f32", x, stride, *words, out, t=BEFORE, k=count) == count
            np.testing.assert_array_equal(out.data, expected.astype(np.float64))


@pytest.mark.parametrize("width", WIDTHS)
@covers("gather_{width}", "store_{width}", "store_gather_{width}")
def test_gather_and_store(width: int) -> None:
    kind = WIDTHS[width]
    for count, cursor in itertools.product(SIZES, (0, 5)):
        x, tile, stride = column(kind, count)
        index = selection(count, count)
        out = Out(count, kind)
        assert run(f"gather_{width}", x, stride, index, out, t=BEFORE, k=count) == count
        assert (out.data == tile[index]).all()
        for name, words, expected in (("store", (), tile), ("store_gather", (index,), tile[index])):
            check_store(f"{name}_{width}", (x, stride, *words), expected, cursor)


def check_store(kernel: str, source: tuple[Any, ...], expected: np.ndarray, cursor: int, width: int = 1) -> None:
    """Run a kernel that appends at a cursor to an array whose address it finds in memory."""
    out = Out(np.full((cursor * width + len(expected)), 7).astype(expected.dtype))
    where = np.array([out.address], np.int64)
    count = len(expected) // width
    assert run(kernel, *source, where, np.array([cursor]), t=BEFORE, k=count) == count
    out.check(kernel)
    assert (out.data[: cursor * width] == 7).all()
    np.testing.assert_array_equal(out.data[cursor * width :], expected)


@covers("copy_1", "copy_8", "copy_16", "gather_16", "store_16")
def test_copies_and_wide_values() -> None:
    for count in SIZES:
        for kind, name in (("u8", "copy_1"), ("u64", "copy_8")):
            x, tile, stride = column(kind, count)
            out = Out(count, kind)
            assert run(name, x, stride, out, t=BEFORE, k=count) == count
            assert (out.data == tile).all()
        x, _, stride = column("i64", 2 * count)
        x = x[: 2 * (len(x) // 2)]
        tile, t = x[BEFORE:].reshape(-1, 2), BEFORE // 2
        index = selection(count, count)
        for name, words, expected in (("copy_16", (), tile), ("gather_16", (index,), tile[index])):
            out = Out(2 * count, "i64")
            assert run(name, x, 16, *words, out, t=t, k=count) == count
            assert (out.data.reshape(-1, 2) == expected).all()
        check_store("store_16", (tile.reshape(-1), 0), tile.reshape(-1), 3, 2)


@pytest.mark.parametrize("target", UNSIGNED)
@covers("store_narrow_{target}", "store_digits_{target}")
def test_store_narrow(target: str) -> None:
    for count, cursor, base in itertools.product(SIZES, (0, 5), (0, -(10**15))):
        expected = values(np.random.default_rng(count), target, count)
        check_store(f"store_narrow_{target}", (expected.astype(np.int64) + base, base), expected, cursor)
        check_store(f"store_digits_{target}", (expected.astype(np.uint32),), expected, cursor)


@covers("store_f32")
def test_store_floats() -> None:
    for count in SIZES:
        expected = values(np.random.default_rng(count), "f32", count)
        check_store("store_f32", (expected.astype(np.float64),), expected, 3)


@covers("reserve", "cursor_at_tile")
def test_places_in_the_output() -> None:
    state = Out(np.array([10, 30, 99]))
    assert run("reserve", state, k=20) == 20 and state.list() == [30, 30, 10]
    assert run("reserve", state, k=0) == 0 and state.list() == [30, 30, 30]
    assert run("reserve", state, k=1) == -1 and state.list() == [30, 30, 30]
    assert run("cursor_at_tile", state, t=4096, k=7) == 7 and state.list() == [37, 30, 4096]


@covers("views", "gather_views", "string_bytes", "store_string")
def test_strings() -> None:
    for count in SIZES:
        offsets, chars, strings = texts(count + BEFORE)
        block = Block(chars)
        index = selection(count, count)
        for name, words, expected in (
            ("views", (), strings[BEFORE:]),
            ("gather_views", (index,), [strings[BEFORE + i] for i in index]),
        ):
            out = Out(2 * count, "i64")
            assert run(name, offsets, 8, block, *words, out, t=BEFORE, k=count) == count
            sizes = out.data[1::2]
            at = out.data[::2] - block.address
            assert [chars[a : a + n].tobytes() for a, n in zip(at, sizes)] == expected
            room, used = int(sizes.sum()), 3
            state = Out(np.array([used, used + room, 0, 0]))
            assert run("string_bytes", out.data.copy(), 0, state, k=count) == count
            assert state.list()[:3] == [used + room, used + room, used]
            target, lengths = Out(used + room), Out(5 + count, "i64")
            addresses = (np.array([target.address]), state.data.copy(), np.array([lengths.address]))
            assert run("store_string", out.data.copy(), *addresses, np.array([5]), k=count) == count
            target.check(name), lengths.check(name)
            assert target.data[used:].tobytes() == b"".join(expected) and (target.data[:used] == 0xA5).all()
            assert lengths.list()[5:] == [len(s) for s in expected]
            if room:
                state = Out(np.array([used, used + room - 1, 0, 0]))
                assert run("string_bytes", out.data.copy(), 0, state, k=count) == -1
                assert state.list() == [used, used + room - 1, 0, room]


@covers("valid", "gather_valid", "row_numbers")
def test_validity_and_row_numbers() -> None:
    for count, relative in itertools.product(SIZES, (0, 1)):
        mask = flags(count + BEFORE)
        t = BEFORE - 5
        expected = mask[t * relative :][:count]
        out = Out(count)
        assert run("valid", bitmap(mask), relative, out, t=t, k=count) == count
        assert (out.data == expected).all()
        index = selection(count, count)
        assert run("gather_valid", bitmap(mask), relative, index, out, t=t, k=count) == count
        assert (out.data == expected[index]).all()
        rows = Out(count, "u32")
        assert run("row_numbers", rows, 0, t=70_000, k=count) == count
        assert (rows.data == 70_000 + np.arange(count)).all()
        assert run("row_numbers", rows, index, t=70_000, k=count) == count
        assert (rows.data == 70_000 + index).all()


# --- selecting -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("source", STORED)
@covers("between_{source}", "between_and_{source}")
def test_between(source: str) -> None:
    limits = np.iinfo(DTYPES[source])
    edges = (limits.min, limits.min + 1, limits.max // 2, limits.max)
    for count, (low, high) in itertools.product(SIZES, itertools.product(edges, repeat=2)):
        x, tile, stride = column(source, count)
        before = flags(count)
        expected = (tile >= low) & (tile <= high)
        out = Out(count)
        assert run(f"between_{source}", x, stride, low, high, out, t=BEFORE, k=count) == count
        assert (out.data == expected).all()
        assert run(f"between_and_{source}", x, stride, low, high, before, out, t=BEFORE, k=count) == count
        assert (out.data == (expected & before.astype(bool))).all()


@covers("select", "find_groups")
def test_select() -> None:
    for count, share in itertools.product((*SIZES, 31, 63), (0.0, 0.1, 0.5, 1.0)):
        mask = (np.random.default_rng(count).random(count) < share).astype(np.uint8)
        expected = np.flatnonzero(mask)
        out = Out(count, "u32")
        assert run("select", mask, out, k=count) == len(expected)
        assert (out.data[: len(expected)] == expected).all()
        out = Out(count, "u32")
        assert run("find_groups", mask.astype(np.int64) * -3, out, n=count) == len(expected)
        assert (out.data[: len(expected)] == expected).all()


def keyed(source: str, count: int) -> tuple[np.ndarray, np.ndarray, int, int, np.ndarray]:
    """A column of keys around a range, its tile, the range's start and length, and the entry of each row."""
    low, span = {"u8": (20, 100), "u16": (300, 1000), "u32": (2**31, 1000)}.get(source, (-(2**40), 1000))
    limits = np.iinfo(DTYPES[source])
    rng = np.random.default_rng(count)
    near = rng.integers(max(low - 50, limits.min), min(low + span + 50, limits.max), BEFORE + count, DTYPES[source])
    far = values(rng, source, BEFORE + count)
    whole = np.where(rng.random(len(near)) < 0.8, near, far)
    digits = [v - low if 0 <= v - low < span else span for v in whole[BEFORE:].tolist()]
    return whole, whole[BEFORE:], low, span, np.array(digits, np.int64)


@pytest.mark.parametrize("source", STORED)
@covers("probe_map_{source}", "probe_bits_{source}", "test_map_{source}", "test_bits_{source}")
def test_membership(source: str) -> None:
    for count in SIZES:
        x, _, low, span, entry = keyed(source, count)
        marks = flags(span + 1)
        marks[span] = 0
        for form, table in (("map", marks), ("bits", bitmap(marks))):
            head = (x, x.itemsize, table, low, span)
            out = Out(count)
            assert run(f"test_{form}_{source}", *head, out, t=BEFORE, k=count) == count
            assert (out.data == marks[entry]).all()
            hits = np.flatnonzero(marks[entry])
            rows = Out(count, "u32")
            assert run(f"probe_{form}_{source}", *head, 0, rows, 0, t=BEFORE, k=count) == len(hits)
            assert (rows.data[: len(hits)] == hits).all()
            index = selection(count, count)
            hits = np.flatnonzero(marks[entry[index]])
            for positions in (None, Out(count, "u32")):
                rows = Out(count, "u32")
                words = (*head, index, rows, 0 if positions is None else positions)
                assert run(f"probe_{form}_{source}", *words, t=BEFORE, k=count) == len(hits)
                assert (rows.data[: len(hits)] == index[hits]).all()
                assert positions is None or (positions.data[: len(hits)] == hits).all()


@pytest.mark.parametrize("source", STORED)
@pytest.mark.parametrize("entry", UNSIGNED)
@covers("map_{entry}_{source}", "gather_map_{entry}_{source}", "clamp_{source}")
def test_entries_by_key(source: str, entry: str) -> None:
    for count in SIZES:
        x, _, low, span, digits = keyed(source, count)
        table = values(np.random.default_rng(9), entry, span + 1)
        index, out = selection(count, count), Out(count, "u32")
        head = (x, x.itemsize)
        assert run(f"map_{entry}_{source}", *head, table, low, span, out, t=BEFORE, k=count) == count
        assert (out.data == table[digits]).all()
        assert run(f"gather_map_{entry}_{source}", *head, index, table, low, span, out, t=BEFORE, k=count) == count
        assert (out.data == table[digits[index]]).all()
        assert run(f"clamp_{source}", *head, 0, low, span, out, t=BEFORE, k=count) == count
        assert (out.data == digits).all()
        assert run(f"clamp_{source}", *head, index, low, span, out, t=BEFORE, k=count) == count
        assert (out.data == digits[index]).all()


# --- taking ----------------------------------------------------------------------------------------------------------


def rows_of(count: int, source: int, missing: bool) -> np.ndarray:
    rows = selection(count, source)
    if missing:
        rows[::3] = NO_ROW
    return rows


@pytest.mark.parametrize("width", (*WIDTHS, 16))
@covers("take_{width}")
def test_take(width: int) -> None:
    step = 2 if width == 16 else 1
    kind = WIDTHS[min(width, 8)]
    for count, missing in itertools.product(SIZES, (False, True)):
        x = values(np.random.default_rng(4), kind, 100 * step)
        rows = rows_of(count, 100, missing)
        expected = np.where((rows == NO_ROW)[:, None], x.dtype.type(0), x.reshape(-1, step)[rows % 128 % 100])
        known = rows != NO_ROW
        expected[known] = x.reshape(-1, step)[rows[known]]
        out = Out(count * step, kind)
        half = count // 2
        for first, end in ((half, count), (0, half)):
            assert run(f"take_{width}", x, rows, out, int(missing), t=first, n=end, k=0) == 0
        assert (out.data.reshape(-1, step) == expected).all()


@covers("take_valid", "count_bits")
def test_take_validity() -> None:
    for count, missing, nulls in itertools.product(SIZES, (False, True), (False, True)):
        mask = flags(100) if nulls else np.ones(100, np.uint8)
        rows = rows_of(count, 100, missing)
        expected = np.array([row != NO_ROW and mask[row] for row in rows.tolist()], bool)
        out = Out((count + 63) // 64, "u64")
        source = bitmap(mask) if nulls else 0
        for first in range(0, count, 128):
            assert run("take_valid", source, rows, out, int(missing), t=first, n=min(first + 128, count)) == 0
        assert out.data.tobytes() == bitmap(expected.astype(np.uint8)).tobytes()
        found = Out(np.array([0] * 8 + [5] + [0] * 7))
        assert run("count_bits", out.data.copy(), found, t=0, n=len(out.data), k=1) == 0
        assert found.list() == [0] * 8 + [5 + expected.sum()] + [0] * 7


@covers("take_lengths", "take_bytes")
def test_take_strings() -> None:
    for count, missing in itertools.product(SIZES, (False, True)):
        offsets, chars, strings = texts(100)
        rows = rows_of(count, 100, missing)
        expected = [b"" if row == NO_ROW else strings[row] for row in rows.tolist()]
        morsel = 16
        ranges = [(first, min(first + morsel, count)) for first in range(0, count, morsel)]
        ends, sizes = Out(count + 1, "i64"), Out(len(ranges), "i64")
        ends.data[0] = 0
        for first, end in ranges:
            assert run("take_lengths", offsets, rows, ends, morsel, sizes, t=first, n=end) == 0
        starts = np.concatenate([[0], np.cumsum(sizes.data)])
        out = Out(int(starts[-1]))
        for first, end in ranges[::-1]:
            assert run("take_bytes", offsets, rows, ends, morsel, starts, chars, out, t=first, n=end) == 0
        assert ends.list() == [0, *itertools.accumulate(map(len, expected))]
        assert out.data.tobytes() == b"".join(expected)


# --- encoding --------------------------------------------------------------------------------------------------------

SOURCES = ("i32", "i64", "u8", "u16", "u32", "w")


def stored(source: str, exact: list[int]) -> np.ndarray:
    """Values as a source of the encoding kernels: of 128 bits they read the low words."""
    if source != "w":
        return np.array(exact, DTYPES[source])
    return np.stack([np.array(exact, np.int64), np.full(len(exact), 77)], 1)


@pytest.mark.parametrize("source", SOURCES)
@covers("measure_{source}")
def test_measure(source: str) -> None:
    kind = "i64" if source == "w" else source
    limits = np.iinfo(DTYPES[kind])
    orders = ("any", "ascending", "strict")
    for count, order, factor, known in itertools.product((*SIZES[1:], 5000), orders, (1, 6, 0), (0, 4)):
        rng = np.random.default_rng(count)
        top = min(limits.max, 2**61) // max(factor, 1)
        exact = [factor * v for v in rng.integers(max(limits.min, -top) // 8, top // 8, count).tolist()]
        if order != "any":
            exact = sorted(exact if order == "ascending" else set(exact))
        out = Out(np.array([0, 0, 0, 0, known]))
        assert run(f"measure_{source}", stored(source, exact), out, 1, 1, n=len(exact)) == 0
        low, high, descents, equal, found = out.list()
        pairs = list(itertools.pairwise(exact))
        assert (low, high, found) == (min(exact), max(exact), math.gcd(known, *exact))
        assert (descents > 0) == any(b < a for a, b in pairs)
        assert descents > 0 or equal == sum(a == b for a, b in pairs)
        assert run(f"measure_{source}", stored(source, exact), out, 0, 0, n=len(exact)) == 0
        assert out.list() == [low, high, 0, 0, found]


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("target", STORED)
@covers("narrow_{source}_{target}")
def test_narrow(source: str, target: str) -> None:
    limits = np.iinfo(DTYPES["i64" if source == "w" else source])
    for count, (odd, shift) in itertools.product(SIZES, ((1, 0), (1, 2), (3, 0), (5, 1))):
        factor = odd << shift
        base, low, most = limits.min, 0, (limits.max - limits.min) // factor
        if target == "i64":
            base, low, most = 0, -(-limits.min // factor), limits.max // factor
        most = min(most, np.iinfo(DTYPES[target]).max)
        rng = np.random.default_rng(count)
        expected = [low, most, *rng.integers(low, most, count, endpoint=True).tolist()][:count]
        x = stored(source, [base + factor * q for q in expected])
        out = Out(count, target)
        assert run(f"narrow_{source}_{target}", x, out, base, shift, pow(odd, -1, 1 << 64), n=count) == 0
        assert out.list() == expected


@pytest.mark.parametrize("source", STORED)
@covers("words_{source}")
def test_words(source: str) -> None:
    for count, factor, shift in itertools.product(SIZES, (1, 100), (0, -(10**6))):
        x = values(np.random.default_rng(count), source, count) // (1000 if source == "i64" else 1)
        exact = [int(v) * factor + shift for v in x]
        out = Out(2 * count, "i64")
        assert run(f"words_{source}", x, factor, shift, out, n=count) == 0
        assert out.list() == [word for v in exact for word in (v, v >> 63)]
