"""Primitives that accumulate, merge and decode, number groups and partition rows, against numpy and Python."""

from __future__ import annotations

import itertools
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from kernels import DTYPES, SIZES, Out, covers, run
from test_join_kernels import mixed
from test_tile_primitives import BEFORE, flags, selection, values

from finequery.operators.scalar import EXACT_BITS, EXACT_DIGITS, EXACT_WORDS

GROUPS = 7
MISSES = (False, True)
OVERFLOW, FULL = -2, -1
WORD, WIDE = 1 << 64, 1 << 128


def groups_of(count: int, below: int = GROUPS) -> np.ndarray:
    return selection(count, below, 5)


def numbers(kind: str, count: int) -> np.ndarray:
    """Values whose sums are exact."""
    if kind == "f64":
        return np.random.default_rng(count).integers(-1000, 1000, count) / 4
    found = values(np.random.default_rng(count), kind, count)
    return found // 4096 if kind == "i64" else found


def wide(numbers: list[int]) -> np.ndarray:
    return np.array([((v & (WORD - 1)) - (WORD if v >> 63 & 1 else 0), v >> 64) for v in numbers], np.int64).reshape(-1)


def unwide(words: np.ndarray, step: int = 2) -> list[int]:
    """The 128-bit values that begin ``step`` words apart."""
    return [int(a) % WORD + int(b) * WORD for a, b in zip(words[::step], words[1::step])]


def wides(count: int, bits: int) -> list[int]:
    rng = np.random.default_rng(count + bits)
    edges = [0, -1, 1, WORD // 2, -WORD, (1 << bits) - 1, -(1 << bits)]
    found = [
        int.from_bytes(rng.bytes(17), "little", signed=True) >> int(s) for s in rng.integers(136 - bits, 136, count)
    ]
    return (edges + found)[:count]


def nan_last(value: Any) -> tuple[bool, Any]:
    return (True, 0) if value != value else (False, value)


# --- counts and sums -------------------------------------------------------------------------------------------------


@covers("count", "count_valid", "total_count", "total_count_valid", "few_count")
def test_counts() -> None:
    for count in SIZES:
        group, ok = groups_of(count), flags(count)
        start = np.arange(GROUPS)
        for name, words, expected in (
            ("count", (group,), np.bincount(group, minlength=GROUPS)),
            ("count_valid", (group, ok), np.bincount(group[ok != 0], minlength=GROUPS)),
            ("few_count", (group.astype(np.uint8), GROUPS), np.bincount(group, minlength=GROUPS)),
        ):
            out = Out(start)
            assert run(name, *words, out, k=count) == count
            assert (out.data == start + expected).all()
        for name, words, total in (("total_count", (), count), ("total_count_valid", (ok,), ok.sum())):
            out = Out(np.array([10]))
            assert run(name, *words, out, k=count) == count
            assert out.list() == [10 + total]


@pytest.mark.parametrize("source", ["u8", "u16", "u32", "i64", "f64"])
@covers("sum_{source}", "total_sum_{source}")
def test_sums(source: str) -> None:
    for count, indexed, nulls in itertools.product(SIZES, MISSES, MISSES):
        x, index, ok = numbers(source, BEFORE + count), selection(count, count), flags(count)
        group = groups_of(count)
        rows = x[BEFORE:][index] if indexed else x[BEFORE:]
        kept = np.where(ok != 0, rows, 0) if nulls else rows
        start = np.arange(GROUPS).astype(np.float64 if source == "f64" else np.int64)
        expected = start.copy()
        np.add.at(expected, group, kept.astype(start.dtype))
        words = (x, x.itemsize, index if indexed else 0, ok if nulls else 0)
        out = Out(start)
        assert run(f"sum_{source}", group, *words, out, t=BEFORE, k=count) == count
        assert (out.data == expected).all()
        out = Out(start[5:6])
        assert run(f"total_sum_{source}", *words, out, t=BEFORE, k=count) == count
        assert out.list() == [5 + kept.astype(start.dtype).sum()]


@pytest.mark.parametrize("source", ["u8", "u16", "u32", "i64"])
@covers("few_sum_{source}")
def test_sums_of_few_groups(source: str) -> None:
    for count in SIZES:
        x, group = numbers(source, BEFORE + count), groups_of(count, GROUPS + 1)  # nobody sums the last
        expected = np.arange(GROUPS + 1)
        np.add.at(expected, group, x[BEFORE:].astype(np.int64))
        out = Out(np.arange(GROUPS))
        assert run(f"few_sum_{source}", group.astype(np.uint8), x, x.itemsize, GROUPS, out, t=BEFORE, k=count) == count
        assert (out.data == expected[:GROUPS]).all()


@pytest.mark.parametrize("kernel", ["sum_w_i64", "sum_w"])
@covers("{kernel}")
def test_wide_sums(kernel: str) -> None:
    bits = 63 if kernel == "sum_w_i64" else 110
    for count, grouped, nulls, step in itertools.product(SIZES, MISSES, MISSES, (2, 5)):
        x, group, ok = (
            [v for v in wides(count + 9, bits) if -(1 << bits) <= v < 1 << bits][:count],
            groups_of(count),
            flags(count),
        )
        starts = wides(GROUPS, 100)
        expected = list(starts)
        for i, v in enumerate(x):
            if not nulls or ok[i]:
                expected[group[i] if grouped else 0] += v
        start = np.zeros((GROUPS, step), np.int64)
        start[:, :2] = wide(starts).reshape(-1, 2)
        source = np.array(x, np.int64) if kernel == "sum_w_i64" else wide(x)
        out = Out(start)
        words = (group if grouped else 0, source, ok if nulls else 0, out, step)
        assert run(kernel, *words, k=len(x)) == len(x)
        assert unwide(out.data, step) == expected


@covers("sum_w")
def test_wide_sums_overflow() -> None:
    top = WIDE // 2 - 1
    for start, values_, status in (
        (top - 5, [5, -3, 3], 3),
        (top - 5, [5, 1, -1], OVERFLOW),
        (-top, [-1, 1], 2),
        (-top, [-2, 9], OVERFLOW),
        (0, [-top - 1, top], 2),
        (-1, [-top - 1], OVERFLOW),
    ):
        out = Out(wide([start]))
        assert run("sum_w", 0, wide(values_), 0, out, 2, k=len(values_)) == status
        assert status < 0 or unwide(out.data) == [start + sum(values_)]
    assert run("sum_w", 0, wide([1]), np.array([0], np.uint8), Out(wide([top])), 2, k=1) == 1


@covers("sum_exact", "sum_exact_squares")
def test_exact_sums() -> None:
    """Doubles of any size, inf and NaN among them, and their squares, against fractions."""
    edges = [5e-324, -2.2e-308, 1.7976931348623157e308, -0.0, 1e-160, -1e154, np.inf, -np.inf, np.nan]
    for count, nulls, grouped in itertools.product(SIZES[:5], MISSES, MISSES):
        rng = np.random.default_rng(count)
        x = np.ldexp(rng.standard_normal(count), rng.integers(-900, 400, count))
        x[: len(edges)] = edges[:count]
        group, ok = groups_of(count) if grouped else np.zeros(count, np.uint32), flags(count)
        for name, power in (("sum_exact", 1), ("sum_exact_squares", 2)):
            out = Out(np.zeros(GROUPS * EXACT_WORDS, np.int64))
            words = (group if grouped else 0, x, ok if nulls else 0, out, EXACT_WORDS)
            assert run(name, *words, k=count) == count
            for g, found in enumerate(out.data.reshape(GROUPS, EXACT_WORDS).tolist()):
                mine = x[(group == g) & ((ok != 0) | (not nulls))].tolist()
                with np.errstate(over="ignore"):
                    finite = [v for v in mine if np.isfinite(np.float64(v) ** power)]
                sizes = [Fraction(v) ** power * 2**1074 for v in finite]
                total = sum(digit << (EXACT_BITS * n) for n, digit in enumerate(found[:EXACT_DIGITS]))
                if power == 1:
                    assert total == sum(sizes)
                else:  # three summands of a square, each cut
                    assert sum(sizes) - 3 * len(sizes) <= total <= sum(sizes)
                others = [v if power == 1 else abs(v) for v in mine if v not in finite]
                above, below = sum(v > 0 for v in others), sum(v < 0 for v in others)
                assert found[EXACT_DIGITS:] == [above, below, sum(v != v for v in mine)]


# --- extremes, moments -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["min", "max"])
@pytest.mark.parametrize("source", ["i64", "f64", "u32", "w"])
@covers("group_{name}_{source}")
def test_extremes(source: str, name: str) -> None:
    choose = min if name == "min" else max
    for count, grouped, nulls, step in itertools.product(SIZES, MISSES, MISSES, (1, 2)):
        natural = {"w": 2, "u32": 1}.get(source)
        step = step * natural if natural else 1  # the others are told none
        group, ok = groups_of(count), flags(count)
        rng = np.random.default_rng(6)
        x: list[Any] = wides(count, 127) if source == "w" else values(rng, source, count).tolist()
        start: list[Any] = wides(GROUPS, 120) if source == "w" else values(rng, source, GROUPS).tolist()
        expected = list(start)
        for i, v in enumerate(x):
            if not nulls or ok[i]:
                g = int(group[i]) if grouped else 0
                expected[g] = choose(expected[g], v, key=nan_last)
        dtype = np.int64 if source == "w" else DTYPES[source]
        room = np.zeros((GROUPS, step), dtype)
        room[:, : 2 if source == "w" else 1] = (wide(start) if source == "w" else np.array(start, dtype)).reshape(
            GROUPS, -1
        )
        out = Out(room)
        given = wide(x) if source == "w" else np.array(x, dtype)
        assert (
            run(f"group_{name}_{source}", group if grouped else 0, given, ok if nulls else 0, out, step, k=count)
            == count
        )
        found = unwide(out.data, step) if source == "w" else out.data[::step].tolist()
        assert all(nan_last(a) == nan_last(b) for a, b in zip(found, expected))


@covers("first_row")
def test_first_rows() -> None:
    for count, grouped, nulls, step in itertools.product(SIZES, MISSES, MISSES, (1, 2)):
        x, group, ok = selection(count, 2**32 - 1, 8), groups_of(count), flags(count)
        expected = np.full((GROUPS, step), 0xFFFFFFFF, np.uint32)
        out = Out(expected)
        kept = ok != 0 if nulls else np.ones(count, bool)
        np.minimum.at(expected[:, 0], group[kept] if grouped else np.zeros(kept.sum(), int), x[kept])
        assert run("first_row", group if grouped else 0, x, ok if nulls else 0, out, step, k=count) == count
        assert (out.data == expected.reshape(-1)).all()


def moments_of(x: np.ndarray) -> list[float]:
    return [len(x), x.mean(), ((x - x.mean()) ** 2).sum()] if len(x) else [0, 0, 0]


@covers("moments", "merge_moments")
def test_moments() -> None:
    for count, grouped, nulls, step in itertools.product(SIZES, MISSES, MISSES, (3, 4)):
        x = np.random.default_rng(count).normal(1e6, 3, count)
        group, ok = groups_of(count, GROUPS - 1), flags(count)  # one stays empty
        kept = ok != 0 if nulls else np.ones(count, bool)
        where = group if grouped else np.zeros(count, np.uint32)
        expected = np.array([moments_of(x[kept & (where == g)]) for g in range(GROUPS)])
        halves = []
        for part in (slice(0, count // 3), slice(count // 3, count)):
            out = Out(np.zeros(GROUPS * step))
            words = (group[part] if grouped else 0, x[part], ok[part] if nulls else 0, out, step)
            assert run("moments", *words, k=len(x[part])) == len(x[part])
            halves.append(out.data.reshape(GROUPS, step)[:, :3].copy())
        target = Out(halves[0])
        assert run("merge_moments", target, halves[1], 0, 0, n=GROUPS) == 0
        np.testing.assert_allclose(target.data.reshape(-1, 3), expected, rtol=1e-9, atol=1e-9)
        order = np.random.default_rng(1).permutation(GROUPS).astype(np.uint32)
        spread = np.zeros((GROUPS, step))
        spread[order, :3] = halves[0]
        target = Out(spread)
        assert run("merge_moments", target, halves[1], order, step, n=GROUPS) == 0
        np.testing.assert_allclose(target.data.reshape(-1, step)[order, :3], expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", ["sum", "min", "max"])
@covers("wide_{name}_merge")
def test_wide_merges(name: str) -> None:
    function = {"sum": lambda a, b: a + b, "min": min, "max": max}[name]
    for count, mapped in itertools.product(SIZES, MISSES):
        a, b = wides(count, 120), wides(count, 119)[::-1]
        expected = [function(x, y) for x, y in zip(a, b)]
        step = 5 if mapped else 2
        order = np.random.default_rng(1).permutation(count).astype(np.uint32)
        where = order if mapped else np.arange(count)
        start = np.full((count, step), 77)
        start[where, :2] = wide(a).reshape(-1, 2)
        out = Out(start)
        assert run(f"wide_{name}_merge", out, wide(b), order if mapped else 0, step, n=count) == 0
        found = out.data.reshape(count, step)[where]
        assert unwide(found[:, :2].reshape(-1)) == expected and (found[:, 2:] == 77).all()


# --- groups as bytes, decoding ---------------------------------------------------------------------------------------


@covers("masked_group", "byte_group", "trash_group")
def test_rejected_groups() -> None:
    for count in SIZES:
        group, mask = groups_of(count, 200), flags(count)
        narrow, wide_ = Out(count), Out(count, "u32")
        assert run("byte_group", group, narrow, k=count) == count
        assert (narrow.data == group).all()
        assert run("masked_group", group, mask, 201, narrow, k=count) == count
        assert (narrow.data == np.where(mask, group, 201)).all()
        assert run("trash_group", group, mask, 201, wide_, k=count) == count
        assert (wide_.data == np.where(mask, group, 201)).all()


@pytest.mark.parametrize("item", ["u8", "u16", "u32", "i64"])
@covers("decoded_bounds", "decoded_{item}")
def test_decoding(item: str) -> None:
    most = {"u8": 50, "u16": 10_000, "u32": 10**9, "i64": 10**15}[item]
    for count, picked, counted in itertools.product(SIZES, MISSES, MISSES):
        rng = np.random.default_rng(count)
        x, counts = rng.integers(0, most, count), rng.integers(0, 3, count)
        pick = rng.permutation(count).astype(np.uint32)
        base, scale = -2, 2
        exact = scale * x + (base * counts if counted else 0)
        some = counts > 0 if counted else np.ones(count, bool)
        order = pick if picked else np.arange(count)
        exact, some = exact[order], some[order]
        words = (x, pick if picked else 0, counts if counted else 0, base, scale)
        bounds = np.zeros((2, 8), np.int64)
        bounds[1] = [2**63 - 1, -(2**63), 4, 0, 0, 0, 0, 0]
        out, half = Out(bounds), count // 2
        for first, end in ((0, half), (half, count)):
            assert run("decoded_bounds", *words, out, t=first, n=end, k=1) == 0
        low, high = exact[some].min(initial=2**63 - 1), exact[some].max(initial=-(2**63))
        assert out.list() == [*[0] * 8, low, high, 4 + (~some).sum(), *[0] * 5]
        shift = int(exact.min(initial=0))
        result = Out(count, item)
        for first, end in ((0, half), (half, count)):
            assert run(f"decoded_{item}", *words, shift, result, t=first, n=end) == 0
        assert (result.data == np.where(some, exact - shift, 0)).all()


# --- numbers of groups, partitions -----------------------------------------------------------------------------------


@covers("run_group")
def test_runs() -> None:
    for count in SIZES:
        keys = np.sort(np.random.default_rng(count).integers(-5, max(count // 3, 1), 2 * count))
        listed = Out(2 * count + 5, "i64")
        state = Out(np.array([0, 2 * count, listed.address, 0, 0]))
        numbers_: list[int] = []
        starts: list[int] = []
        for part, morsel in ((keys[: count // 2], 3), (keys[count // 2 : count], 3), (keys[count:], 4)):
            out = Out(len(part), "u32")
            assert run("run_group", part, state, out, np.array([morsel]), k=len(part)) == len(part)
            listed.check("run_group")
            for i, key in enumerate(part.tolist()):
                if not starts or starts[-1] != key or (morsel == 4 and i == 0):
                    starts.append(key)
                numbers_.append(len(starts) - 1)
            assert out.list() == numbers_[len(numbers_) - len(part) :]
            assert state.data[0] == len(starts)
        assert listed.list()[: len(starts)] == starts
        if count:
            assert run("run_group", keys, state, Out(2 * count, "u32"), np.array([5]), k=2 * count) == FULL


@covers("partition_count", "partition_rows")
def test_partitions() -> None:
    payloads = ("u8", "u16", "u32", "u64", "w")
    for count, kinds in itertools.product((*SIZES, 5000), ((), ("u16",), payloads)):
        rng = np.random.default_rng(count)
        keys = rng.integers(-(2**63), 2**63 - 1, count)
        parts = (mixed(keys) >> np.uint64(56)).astype(np.int64)
        morsel = 2000
        ranges = [(first, min(first + morsel, count)) for first in range(0, count, morsel)]
        histogram = Out(np.zeros(256 * max(len(ranges), 1), np.int64))
        for first, end in ranges:
            assert run("partition_count", keys, histogram, morsel, t=first, n=end) == 0
        counts = histogram.data.reshape(-1, 256).copy()
        for (first, end), row in zip(ranges, counts):
            assert (row == np.bincount(parts[first:end], minlength=256)).all()
        order = np.argsort(parts, kind="stable")
        cursors = Out((np.cumsum(counts.T.reshape(-1)) - counts.T.reshape(-1)).reshape(256, -1).T)
        out, scratch = Out(count, "i64"), Out(2 * 1024, "u64")
        sources = [values(rng, "u64" if k == "w" else k, count * (2 if k == "w" else 1)) for k in kinds]
        targets = [Out(np.zeros_like(s)) for s in sources]
        widths = [16 if k == "w" else DTYPES[k].itemsize for k in kinds]
        for first, end in ranges:
            more: list[Any] = [w for triple in zip(sources, targets, widths) for w in triple]
            words = (keys, cursors, morsel, out, scratch, len(kinds), *more)
            assert run("partition_rows", *words, t=first, n=end, k=1) == 0
        assert (out.data == keys[order]).all()
        for source, target, width in zip(sources, targets, widths):
            step = 2 if width == 16 else 1
            assert (target.data.reshape(-1, step) == source.reshape(-1, step)[order]).all()
