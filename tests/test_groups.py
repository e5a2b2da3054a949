"""Groups: the row tables and partitions against numpy, and every way to group against DuckDB."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from compare import assert_same
from conftest import Engines, connect, connect_duckdb
from hypothesis import given, settings
from hypothesis import strategies as st

from finequery.operators import group_modes, native
from finequery.operators.partition import PARTITIONS, partition
from finequery.operators.pool import get_pool
from finequery.operators.row_tables import EMPTY
from finequery.planner import physical

pa = pytest.importorskip("pyarrow")

ODD = (EMPTY, 0, -1, 1, -(2**63), 2**63 - 1, 2**32, -(2**32))
TILE = 4096


class Table:
    """One row table over keys, and a sum of values beside them, driven as the interpreter would."""

    def __init__(self, slots: int, skipped: int = 0):
        self.state, self.skipped = np.zeros(16, np.int64), skipped
        self.template = np.array([EMPTY, 0], np.int64)
        self.scratch, self.numbers = np.zeros(TILE, np.uint32), np.zeros(TILE + 64, np.uint32)
        self.total = np.zeros(1, np.int64)
        self.state[7], self.state[10] = self.template.ctypes.data, self.total.ctypes.data
        self.state[6] = self.scratch.ctypes.data
        self.renew(slots)

    def renew(self, slots: int) -> None:
        old, before = getattr(self, "table", None), self.state.copy()
        self.table = np.zeros(2 * (slots + 2), np.int64)
        shift = 64 - self.skipped - (slots.bit_length() - 1)
        self.state[1:6] = slots // 2, self.table.ctypes.data, shift, slots - 1, 2
        native.function("clear_rows")(0, 0, 0, self.state.ctypes.data)
        if old is not None:
            words = (self.state.ctypes.data, old.ctypes.data, int(before[4]) + 1, int(before[0]), int(before[8]))
            native.run("rehash_rows", *words)

    def add(self, keys: np.ndarray, values: np.ndarray, kernel: str, tile: int = 1000, morsel: int = 0) -> None:
        """Find the rows' groups; the fused kernel adds up by itself, else it is done here."""
        for start in range(0, len(keys), tile):
            part, x = keys[start : start + tile], values[start : start + tile]
            words = [part.ctypes.data, 0, self.state.ctypes.data, self.numbers.ctypes.data, morsel]
            words += [x.ctypes.data, 0, 1]
            while native.run(kernel, *words, k=len(part)) < 0:
                self.renew(2 * (int(self.state[4]) + 1))
            if kernel == "find_rows":
                np.add.at(self.table, self.numbers[: len(part)].astype(np.int64) + 1, x)

    def flushed(self, room: int) -> dict[int, int]:
        keys, sums = np.zeros(room + 1, np.int64), np.zeros(room + 1, np.int64)
        places = np.array([keys.ctypes.data, 1, sums.ctypes.data, 1], np.int64)
        self.state[11] = places.ctypes.data
        native.function("flush_rows")(0, 0, 0, self.state.ctypes.data)
        count = int(self.total[0])
        assert keys[count] == 0  # nothing is written behind the last group
        return dict(zip(keys[:count].tolist(), sums[:count].tolist()))


def expected(keys: np.ndarray, values: np.ndarray) -> dict[int, int]:
    found, inverse = np.unique(keys, return_inverse=True)
    sums = np.zeros(len(found), np.int64)
    np.add.at(sums, inverse, values)
    return dict(zip(found.tolist(), sums.tolist()))


def some_keys(form: str, rows: int, seed: int) -> np.ndarray:
    """Keys of one distribution."""
    rng = np.random.default_rng(seed)
    if form == "same":
        return np.full(rows, ODD[seed % len(ODD)], np.int64)
    if form == "distinct":
        return np.arange(rows, dtype=np.int64) * 2**20 + seed
    if form == "skewed":
        return (rng.zipf(1.3, rows) % 2**40).astype(np.int64)
    if form == "odd":
        return np.array(ODD, np.int64)[rng.integers(0, len(ODD), rows)]
    keys = rng.integers(-(2**63), 2**63 - 1, max(rows // 3, 1), dtype=np.int64)
    keys[: len(ODD)] = ODD[: len(keys)]
    return keys[rng.integers(0, len(keys), rows)]


FORMS = st.sampled_from(("same", "distinct", "skewed", "odd", "random"))


@settings(max_examples=60, deadline=None)
@given(FORMS, st.integers(0, 9000), st.integers(0, 99), st.sampled_from((2048, 16384, 1 << 18)))
def test_row_tables(form: str, rows: int, seed: int, slots: int) -> None:
    """Few slots grow in the middle; many slots are beyond the near ones."""
    keys = some_keys(form, rows, seed)
    values = np.random.default_rng(seed + 1).integers(0, 60000, rows).astype(np.int64)
    fused = (("u8", np.uint8), ("u16", np.uint16), ("u32", np.uint32), ("i64", np.int64))
    for kernel, dtype in (("find_rows", np.int64), *((f"find_rows_sum_{item}", dtype) for item, dtype in fused)):
        table, stored = Table(slots), values.astype(dtype)
        table.add(keys, stored, kernel)
        assert table.flushed(rows) == expected(keys, stored.astype(np.int64))
    table = Table(slots)
    table.add(keys, values, "find_rows_count")
    assert table.flushed(rows) == expected(keys, np.ones_like(values))


@settings(max_examples=15, deadline=None)
@given(FORMS, st.integers(1, 140_000), st.integers(0, 99), st.integers(1, 2))
def test_partitions(form: str, rows: int, seed: int, threads: int) -> None:
    """Rows stay together, partitions are the keys' own, and the tables of one partition after another find all
    groups."""
    keys = some_keys(form, rows, seed)
    rng = np.random.default_rng(seed)
    payloads = [rng.integers(0, 200, rows).astype(d) for d in (np.uint8, np.uint16, np.uint32, np.int64)]
    payloads.append(rng.integers(0, 200, 2 * rows))
    pool = get_pool(threads)
    for chosen in (payloads, payloads[1:2], []):
        parted, moved, bounds = partition(keys, chosen, pool)
        before = np.column_stack([keys, *(p.reshape(rows, -1).astype(np.int64) for p in chosen)])
        after = np.column_stack([parted, *(p.reshape(rows, -1).astype(np.int64) for p in moved)])
        assert np.array_equal(after[np.lexsort(after.T)], before[np.lexsort(before.T)])
    parted, moved, bounds = partition(keys, payloads[3:4], pool)
    groups = expected(keys, payloads[3])
    table, morsel = Table(2048, skipped=8), np.zeros(1, np.int64)
    places = np.zeros((2, len(groups) + 1), np.int64)
    columns = np.array([places[0].ctypes.data, 1, places[1].ctypes.data, 1], np.int64)
    table.state[11] = columns.ctypes.data
    for number in range(PARTITIONS):
        first, end = bounds[number], bounds[number + 1]
        morsel[0] = number
        table.add(parted[first:end], moved[0][first:end], "find_rows_sum_i64", morsel=morsel.ctypes.data)
    native.function("flush_rows")(0, 0, 0, table.state.ctypes.data)
    assert int(table.total[0]) == len(groups)
    assert dict(zip(places[0].tolist()[:-1], places[1].tolist()[:-1])) == groups


# --- queries ----------------------------------------------------------------------------------------------------------

ROWS = 110_000
CALLS = (
    "count(*) as n, sum(u) as su, sum(w) as sw, min(x) as low, max(x) as high",
    "sum(u) as su",
    "count(x) as n, avg(u) as a, sum(x) as sx",
    "min(w) as low, max(h) as high, sum(h) as sh, sum(big) as sb",
    "round(stddev_samp(u), 6) as d, max(s) as s, count(*) filter (where u > 10) as n",
    "min(f) as low, max(f) as high, bool_or(u > 900) as any_",
)
KEYS = ("random", "skewed", "nulls", "odd", "random % 1000", "real_", "small, random", "nulls, small, s")


@pytest.fixture(scope="module")
def engines() -> Iterator[Engines]:
    rng = np.random.default_rng(5)

    def holes(values: np.ndarray) -> pa.Array:
        return pa.array(values, mask=rng.random(ROWS) < 0.1)

    table = pa.table(
        {
            "random": some_keys("random", ROWS, 1),
            "skewed": some_keys("skewed", ROWS, 2),
            "odd": some_keys("odd", ROWS, 3),
            "nulls": holes(rng.integers(0, 2**31, 40_000)[rng.integers(0, 40_000, ROWS)].astype(np.int32)),
            "small": rng.integers(0, 50, ROWS).astype(np.int16),
            "real_": rng.integers(0, 50_000, ROWS) / 7,
            "u": rng.integers(0, 1000, ROWS).astype(np.int32),
            "w": rng.integers(-(2**62), 2**62, ROWS),
            "x": holes(rng.integers(-1000, 1000, ROWS)),
            "f": holes(rng.random(ROWS)),
            "s": pa.array(np.char.add("s", rng.integers(0, 20, ROWS).astype(str))),
        }
    )
    pair = Engines(connect(), connect_duckdb())
    for engine in pair:
        engine.register("arrow", table)
        engine.execute(
            "create table t as select *, w::hugeint * 1000000007 as h, 9223372036854775807 - (u % 3) as big from arrow"
        )
    yield pair


@pytest.mark.parametrize("keys", KEYS)
@pytest.mark.parametrize("radix_groups", [0, 10**9])
def test_modes(engines: Engines, monkeypatch: pytest.MonkeyPatch, keys: str, radix_groups: int) -> None:
    """Tables by thread and partitions give DuckDB's groups. Every list of calls meets two lists of keys or more."""
    monkeypatch.setattr(group_modes, "RADIX_GROUPS", radix_groups)
    names = ", ".join(f"k{i}" for i, _ in enumerate(keys.split(",")))
    inner = ", ".join(f"{key} as k{i}" for i, key in enumerate(keys.split(",")))
    for number in range(2):
        calls = CALLS[(2 * KEYS.index(keys) + number + radix_groups % 7) % len(CALLS)]
        sql = f"select {names}, {calls} from (select *, {inner} from t where u <> {number}) group by {names}"
        assert_same(*engines, sql)
    assert_same(*engines, f"select count(*) as n from (select distinct {inner} from t)")
    assert_same(*engines, f"select {names}, sum(u) as s from (select *, {inner} from t where u < 0) group by {names}")


def test_more_groups_than_expected(monkeypatch: pytest.MonkeyPatch) -> None:
    """An estimate far too low: the tables are given up for partitions, and the plan remembers it."""
    monkeypatch.setattr(group_modes, "RADIX_GROUPS", 10_000)
    monkeypatch.setattr(physical, "_rows", lambda node: 10.0)
    rows = 1_200_000
    numbers = np.arange(rows, dtype=np.int64)
    keys = numbers * 7919 % 1_000_003 * 1_000_000_007
    con = connect()
    con.register("t", pa.table({"k": keys, "v": numbers}))
    want = expected(keys, numbers)
    for _ in range(2):
        found = con.sql("select k, sum(v) as s, count(*) as n from t group by k").arrow()
        assert dict(zip(found["k"].to_pylist(), map(int, found["s"].to_pylist()))) == want
        assert sum(found["n"].to_pylist()) == rows
    assert "radix" in str(con.sql("explain analyze select k, sum(v) as s from t group by k").fetchall())


@pytest.mark.parametrize(
    "sql",
    [
        "select x, 1 / x as y, count(*) as n from f group by x, 1 / x",  # of 0.0 and of -0.0, which are equal
        "select x, y, count(*) as n from (select x, 1 / x as y from f) g group by x, y",
        "select i, i + 1 as j, count(*) as n, sum(x) as s from f group by i, i + 1 having j > 2",
        "select i % 2 as a, (i % 2) + 1 as b, 7 as c, count(*) as n from f group by a, b, c",
        "select s, upper(s) as u, length(s) as l, i, min(x) as m from f group by all",
        "select i, i + 1 as j, (select max(i) from f) as m, count(distinct s) as n from f group by i, j, m",
        "select i + 1 as j, i, rank() over (order by i + 1) as r from f group by i, j",
    ],
)
def test_groups_computed_of_others(sql: str) -> None:
    con, duck = connect(), connect_duckdb()
    rows = "(0.0::double, 1, 'ä'), (-0.0, 2, 'b'), (1.0, 2, 'b'), (null, null, null), ('nan'::double, 5, '')"
    for engine in (con, duck):
        engine.execute(f"create table f as select * from (values {rows}) v(x, i, s)")
    assert_same(con, duck, sql)
