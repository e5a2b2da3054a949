"""Primitives of joins, of texts told apart by hashes, and of sort keys, against Python."""

from __future__ import annotations

import itertools
import math
import struct

import numpy as np
import pytest
from kernels import DTYPES, SIZES, Block, Out, arguments, call, covers, run
from test_group_primitives import wide, wides
from test_tile_primitives import STORED, bitmap, flags, keyed, selection, texts, values

NONE = 0xFFFFFFFF
TWO, BELOW = -4, (1 << 64) - 1


def groups_of_rows(rng: np.random.Generator, groups: int) -> tuple[np.ndarray, np.ndarray]:
    """Starts of groups of 0 … 5 rows, and the rows in a random order."""
    starts = np.concatenate([[0], np.cumsum(rng.integers(0, 6, groups))]).astype(np.uint32)
    return starts, rng.permutation(int(starts[-1])).astype(np.uint32)


def with_none(rng: np.random.Generator, numbers: np.ndarray) -> np.ndarray:
    return np.where(rng.random(len(numbers)) < 0.2, np.uint32(NONE), numbers).astype(np.uint32)


# --- joins -----------------------------------------------------------------------------------------------------------


@covers("matched", "mark_matched")
def test_matched() -> None:
    for count in SIZES:
        rows = with_none(np.random.default_rng(count), selection(count, 100))
        hit = rows != NONE
        ok, row = Out(count), Out(count, "u32")
        assert run("matched", rows, ok, row, k=count) == count
        assert (ok.data == hit).all() and (row.data == np.where(hit, rows, 0)).all()
        marks = Out(np.zeros(100, np.uint8))
        assert run("mark_matched", rows, marks, k=count) == count
        assert set(np.flatnonzero(marks.data)) == set(rows[hit].tolist())


@pytest.mark.parametrize("keep", [0, 1])
@covers("expand")
def test_expand(keep: int) -> None:
    for count, capacity, listing in itertools.product(SIZES, (1, 3, 64, 4096), (False, True)):
        if capacity < 64 < count:
            continue
        rng = np.random.default_rng(count)
        starts, listed = groups_of_rows(rng, 50)
        groups = with_none(rng, selection(count, 50))
        expected: list[tuple[int, int]] = []
        for j, g in enumerate(groups.tolist()):
            found = [] if g == NONE else list(range(starts[g], starts[g + 1]))
            found = [int(listed[i]) for i in found] if listing else found
            expected += [(j, row) for row in found or [NONE] * keep]
        positions, rows = Out(capacity, "u32"), Out(capacity, "u32")
        blocks = [Block(groups), Block(starts), Block(listed)]
        addresses = [blocks[0], blocks[1], blocks[2] if listing else 0]
        args = arguments(0, 0, 0, 0, *addresses, keep, capacity, positions, rows)
        pairs: list[tuple[int, int]] = []
        k = count
        while True:
            z = call("expand", args, 0, count, k)
            positions.check("expand"), rows.check("expand")
            assert 0 <= z <= capacity and args.data[1] == count
            pairs += zip(positions.list()[:z], rows.list()[:z])
            if not args.data[0]:
                break
            assert z == capacity  # every tile but the last is full
            k = int(args.data[1])
        assert pairs == expected


@covers("single_match")
def test_single_match() -> None:
    for count, listing in itertools.product(SIZES, (False, True)):
        rng = np.random.default_rng(count)
        starts = np.concatenate([[0], np.cumsum(rng.integers(0, 2, 50))]).astype(np.uint32)
        listed = rng.permutation(50).astype(np.uint32)
        groups = with_none(rng, selection(count, 50))
        ends = [(0, 0) if g == NONE else (int(starts[g]), int(starts[g + 1])) for g in groups.tolist()]
        out = Out(count, "u32")
        words = (groups, starts, listed if listing else 0)
        assert run("single_match", *words, out, k=count) == count
        assert out.list() == [(int(listed[a]) if listing else a) if b > a else NONE for a, b in ends]
    assert run("single_match", np.array([0], np.uint32), np.array([3, 5], np.uint32), 0, Out(1, "u32"), k=1) == TWO


@covers("group_of_entry", "row_of_entry")
def test_entries() -> None:
    for count, masked in itertools.product(SIZES, (False, True)):
        x, mask, out = selection(count, 100), flags(count), Out(count, "u32")
        ok = (mask if masked else np.ones(count)) != 0
        assert run("group_of_entry", x, 60, mask if masked else 0, out, k=count) == count
        assert (out.data == np.where(ok & (x < 60), x, NONE)).all()
        assert run("row_of_entry", x, mask if masked else 0, out, k=count) == count
        assert (out.data == np.where(ok & (x > 0), x.astype(np.int64) - 1, NONE)).all()


@covers("count_starts")
def test_rows_in_order_of_group() -> None:
    for count, groups in itertools.product(SIZES, (1, 50)):
        group = selection(count, groups)
        starts, rows = Out(np.zeros(groups + 1, np.uint32)), Out(count, "u32")
        assert run("count_starts", group, starts, rows, n=count, k=groups) == 0
        assert (rows.data == np.argsort(group, kind="stable")).all()
        assert (starts.data == np.searchsorted(np.sort(group), np.arange(groups + 1))).all()


@pytest.mark.parametrize("source", STORED)
@covers("fill_map_{source}")
def test_fill(source: str) -> None:
    for count, nulls in itertools.product(SIZES, (False, True)):
        _, keys, low, span, entries = keyed(source, count)
        mask = flags(count) if nulls else np.ones(count, np.uint8)
        first: dict[int, int] = {}
        double = 0
        for j, v in enumerate(entries.tolist()):
            if v < span and mask[j]:
                double += v in first
                first.setdefault(v, j)
        expected = np.zeros(span, np.uint32)
        expected[list(first)] = [j + 1 for j in first.values()]
        none = np.zeros(span, np.uint8)
        marks, rows, bits = Out(none), Out(none.astype(np.uint32)), Out(bitmap(none))
        valid = bitmap(mask) if nulls else 0
        for place, target in enumerate((marks, rows, bits)):
            targets = [target if i == place else 0 for i in range(3)]
            assert run(f"fill_map_{source}", keys, low, span, *targets, valid, n=count) == double
        assert (rows.data == expected).all() and (marks.data == (expected > 0)).all()
        assert (bits.data == bitmap(expected > 0)).all()


@covers("rank_prefix", "rank_u32", "rank_order")
def test_ranks() -> None:
    for count, order, nulls in itertools.product(SIZES, ("sorted", "shuffled"), (False, True)):
        rng = np.random.default_rng(count)
        span = 2 * count + 1
        keys = np.sort(rng.choice(span, count, replace=False)).astype(np.uint32)
        keys = rng.permutation(keys) if order == "shuffled" else keys
        mask = flags(count) if nulls else np.ones(count, np.uint8)
        members = keys[mask != 0]
        present = np.zeros(span + 1, bool)
        present[members] = True
        words = bitmap(present).view(np.uint64)
        prefix = Out(len(words), "u32")
        assert run("rank_prefix", words, prefix, n=len(words)) == len(members)
        before = np.cumsum(present) - present
        assert (prefix.data == before[::64]).all()
        ranks = Out(len(members), "u32")
        shifted = members + np.uint32(9)
        assert run("rank_u32", shifted, 0, words, prefix, 9, span, ranks, k=len(members)) == len(members)
        assert (ranks.data == before[members]).all()
        rows = Out(len(members), "u32")
        same = run("rank_order", keys, words, prefix, bitmap(mask) if nulls else 0, rows, n=count)
        expected = np.flatnonzero(mask)[np.argsort(members)]
        assert (rows.data == expected).all()
        assert same == (len(members) == count and (expected == np.arange(count)).all())


@covers("pack_keys")
def test_pack_keys() -> None:
    options = itertools.product(SIZES, (False, True), (False, True), (0, 1), (False, True))
    for count, first, masked, null_mode, nulls in options:
        rng = np.random.default_rng(count)
        low, span, factor = -20, 100, 7
        part = rng.integers(-40, 100, count)
        part[: min(count, 2)] = (-(2**63), 2**63 - 1)[:count]
        before, mask, ok = rng.integers(0, 7, count), flags(count), flags(count, 9)
        digits, inside = [], []
        for v, valid in zip(part.tolist(), ok.tolist()):
            within = low <= v < low + span
            digit = v - low + null_mode if within else 0  # digit 0 is NULL's, where that is a value
            if nulls and not valid:
                digit, within = 0, bool(null_mode)
            digits.append(digit)
            inside.append(within)
        able, out = Out(mask), Out(count, "i64")
        words = (0 if first else before, part, low, span, factor, able if masked else 0, null_mode, ok if nulls else 0)
        assert run("pack_keys", *words, out, k=count) == count
        assert (out.data == (0 if first else before) + factor * np.array(digits, np.int64)).all()
        assert not masked or (able.data == (mask.astype(bool) & np.array(inside, bool))).all()


# --- distinct values -------------------------------------------------------------------------------------------------


@covers("first_keys")
def test_distinct_keys() -> None:
    for count in SIZES:
        rng = np.random.default_rng(count)
        edges = [0, -1, 2**63 - 1, -(2**63)]
        keys = rng.choice(np.concatenate([edges, rng.integers(-(2**62), 2**62, 500), np.arange(1000)]), count)
        part = keys % 2  # two of them
        rows, half = np.argsort(part, kind="stable").astype(np.uint32), int((part == 0).sum())
        known: dict[int, int] = {}
        expected = [known.setdefault(key, row) for row, key in enumerate(keys.tolist())]
        table, places = Out(np.zeros(2 * count, np.uint64)), Out(count, "u32")
        for first, end in ((half, count), (0, half)):
            assert run("first_keys", rows, keys[rows], table, places, t=first, n=end) == 0
        assert places.list() == expected


# --- texts -----------------------------------------------------------------------------------------------------------


@covers("hash_texts", "first_texts", "renumber", "index_texts", "find_interned", "views_of_w")
def test_distinct_texts() -> None:
    for count, nulls in itertools.product(SIZES, (False, True)):
        _, _, pool = texts(max(count // 2, 1))
        rng = np.random.default_rng(count)
        strings = [pool[i] for i in rng.integers(0, len(pool), count)]
        offsets = np.array([0, *itertools.accumulate(map(len, strings))])
        chars = Block(np.frombuffer(b"".join(strings), np.uint8))
        mask = flags(count) if nulls else np.ones(count, np.uint8)
        valid = bitmap(mask) if nulls else 0
        known: dict[bytes, int] = {}
        expected = [known.setdefault(s, len(known)) if ok else NONE for s, ok in zip(strings, mask)]
        hashes = Out(count, "u64")
        assert run("hash_texts", offsets, chars, valid, hashes, n=count) == 0
        assert all(h == 0 for h, ok in zip(hashes.list(), mask) if not ok)
        part = (hashes.data >> np.uint64(63)).astype(np.int64)  # two of them
        rows, half = np.argsort(part, kind="stable").astype(np.uint32), int((part == 0).sum())
        table, places = Out(np.zeros(2 * count, np.uint64)), Out(count, "u32")
        for first, end in ((half, count), (0, half)):
            words = (rows, hashes.data[rows], table, places, offsets, chars, valid)
            assert run("first_texts", *words, t=first, n=end) == 0
        begun = {n: row for row, n in reversed([*enumerate(expected)])}
        assert places.list() == [NONE if n == NONE else begun[n] for n in expected]
        firsts = np.array([begun[n] for n in range(len(known))], np.uint32)
        numbers = np.zeros(max(count, 1), np.uint32)
        numbers[firsts] = np.arange(len(known))
        assert run("renumber", numbers, places, NONE, n=count) == 0
        assert places.list() == expected
        slots = 1 << max(2 * len(known), 2).bit_length()
        table = Out(np.zeros(2 * slots, np.uint64))
        assert run("index_texts", hashes.data, firsts, table, slots - 1, n=len(known)) == len(known)
        wanted = [*pool, b"unknown", b"", b"\0", pool[0] + b"\0"]
        other = Block(np.frombuffer(b"".join(wanted), np.uint8))
        starts = np.array([0, *itertools.accumulate(map(len, wanted))])
        views = np.stack([starts[:-1] + other.address, np.diff(starts)], 1).reshape(-1)
        found, k = Out(len(wanted), "i64"), len(wanted)
        assert run("find_interned", views, offsets, chars, table, slots - 1, firsts, found, k=k) == k
        assert found.list() == [known.get(s, -1) for s in wanted]
        wides_ = Block(wide(wides(count, 127)))
        views_ = Out(2 * count, "i64")
        assert run("views_of_w", wides_, views_, k=count) == count
        assert views_.list() == [v for i in range(count) for v in (wides_.address + 16 * i, 16)]


# --- sort keys -------------------------------------------------------------------------------------------------------


def float_word(value: float, kind: str) -> int:
    """By size, then sign: zeros are one, NaN is the greatest."""
    bits, number = (32, "<I") if kind == "f32" else (64, "<Q")
    form = "<f" if kind == "f32" else "<d"
    size = struct.unpack(number, struct.pack(form, abs(math.nan if math.isnan(value) else value)))[0]
    top = 1 << (bits - 1)
    return top - 1 - size if value < 0 else top + size


def words_of(load: str, source: np.ndarray) -> list[int]:
    """What a row is sorted by, as a number from 0 on."""
    if load in ("f32", "f64"):
        return [float_word(v, load) for v in source.tolist()]
    if load == "none":
        return [0] * len(source)
    if load == "low":
        return [v & BELOW for v in source[::2].tolist()]
    return [v + 2**63 if load in ("i64", "high") else v for v in (source[1::2] if load == "high" else source).tolist()]


LOADS = ("u8", "u16", "u32", "u64", "i64", "low", "high", "f32", "f64", "none")


@pytest.mark.parametrize("load", LOADS)
@covers("sort_key_{load}", "sort_range_{load}")
def test_sort_keys(load: str) -> None:
    kind = load if load in DTYPES else "i64"
    options = itertools.product((0, 1, 17, 1024), (False, True), (False, True), (3, 44))
    for count, picked, nulls, shift in options:
        t = 5 if count < 1024 else 0
        rng = np.random.default_rng(count)
        rows = count + t
        source = values(rng, kind, rows * (2 if load in ("low", "high") else 1))
        exact = words_of(load, source)
        mask = flags(rows)
        order = rng.permutation(rows).astype(np.uint32)
        flip, add, null = rng.integers(0, 2**63, 3).tolist()
        bits, keep = 20, 0xFFFF
        field = (1 << bits) - 1
        before = rng.integers(0, 2**62, count).astype(np.uint64)
        out = Out(before)
        valid = bitmap(mask) if nulls else 0
        words = (source, order if picked else 0, flip, add, valid, null, shift, field, bits, keep)
        assert run(f"sort_key_{load}", *words, t=t, n=count, k=out.address) == count
        out.check("sort_key")
        for j in range(count):
            row = int(order[t + j]) if picked else t + j
            e = null if nulls and not mask[row] else ((exact[row] ^ flip) + add) & BELOW
            assert int(out.data[j]) == (int(before[j]) & keep) << bits | ((e >> shift) & field)
        found = Out(np.array([[5] * 8, [BELOW, 0] + [5] * 6], np.uint64))
        assert run(f"sort_range_{load}", source, valid, found, t=t, n=rows, k=1) == 0
        some = [exact[i] for i in range(t, rows) if not nulls or mask[i]]
        assert found.list() == [5] * 8 + [min(some, default=BELOW), max(some, default=0)] + [5] * 6


@covers("sort_key_row", "sort_key_text", "sort_interval")
def test_sort_keys_of_rows_texts_and_intervals() -> None:
    for count, picked, depth, width in itertools.product((0, 1, 17, 1000), (False, True), (0, 1, 8), (1, 4, 7)):
        rng = np.random.default_rng(count)
        offsets, chars, strings = texts(count + 5)
        order = rng.permutation(count + 5).astype(np.uint32)
        rows = (order if picked else np.arange(count + 5))[5:]
        out = Out(count, "u64")
        words = (offsets, order if picked else 0, chars, depth, width)
        assert run("sort_key_text", *words, t=5, n=count, k=out.address) == count
        tails = [strings[i][depth:] for i in rows]
        pieces = [int.from_bytes(s[:width].ljust(width, b"\0"), "big") for s in tails]
        expected = [piece << 4 | min(len(s), width + 1) for piece, s in zip(pieces, tails)]
        assert out.list() == expected
        if width == 4:
            assert run("sort_key_row", 0, order if picked else 0, 20, t=5, n=count, k=out.address) == count
            assert out.list() == [v << 20 & BELOW | int(i) for v, i in zip(expected, rows)]
        out.check("sort_key_text")
    for count in SIZES:
        rng = np.random.default_rng(count)
        months, days = rng.integers(-(2**31), 2**31, (2, count)).tolist()
        micros = values(rng, "i64", count)
        packed = np.array([(m & 0xFFFFFFFF) | d << 32 for m, d in zip(months, days)], np.int64)
        source = np.stack([packed, micros], 1)
        exact = [(m * 30 + d) * 86_400_000_000 + int(u) for m, d, u in zip(months, days, micros)]
        out = Out(2 * count, "i64")
        assert run("sort_interval", source, out, t=0, n=count) == 0
        assert (out.data == wide(exact)).all()
