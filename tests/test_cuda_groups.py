"""Aggregation on the GPU: a block's own accumulators, exact sums, numbers of groups, and rows fetched by number."""

from __future__ import annotations

import itertools
import math
import struct
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from compare import assert_same
from conftest import only_gpu
from test_sort import make, random_values

from finequery.jetson.gpu import open_device
from finequery.operators import take as taking
from finequery.operators.column import ColumnData
from finequery.operators.cuda import accumulate, run
from finequery.operators.cuda.keys import pack_on_gpu
from finequery.operators.export import column_to_python
from finequery.operators.join_keys import pack
from finequery.operators.numbered_groups import number_groups
from finequery.operators.pool import get_pool
from finequery.operators.take import NO_ROW, take

DEVICE = open_device()
KINDS = ("u8", "u16", "u32", "int64", "int128", "float32", "float64", "dict", "string")

TABLE = """create table t as select i, i % 5 g, i % 90 h, case when i % 11 <> 3 then i % 5 end n,
  'k' || (i % 6) s, (i % 97) - 48 v, case when i % 7 <> 2 then (i * 7919 % 1000) / 8.0 end::double x,
  (i - 100)::hugeint * 1000000000000000000000 w, (i * 31 % 1000 - 500)::bigint * 4000000000000000 b,
  case when i % 3 = 0 then (i * 17 % 90)::decimal(9, 2) end d
  from range(300) r(i)"""

CALLS = """count(*), count(x), sum(v), sum(x), sum(b), sum(w), min(v), max(v), min(x), max(x), min(w), max(w),
  min(s), max(s), avg(d), sum(d), stddev(x), var_pop(v), bool_or(v > 40), min(b), max(b),
  sum(v) filter (where g < 2), max(d)"""

QUERIES = {
    "scalar": f"select {CALLS} from t",
    "scalar filtered": f"select {CALLS} from t where i % 4 = 1",
    "no row": f"select {CALLS} from t where i < -v * 100",
    "few": f"select g, {CALLS} from t group by g order by g",
    "few with a filter left to the sink": "select g, s, count(*), sum(v), min(b) from t where v < 40 group by all",
    "nulls": f"select n, {CALLS} from t group by n order by n",
    "some": f"select h, {CALLS} from t group by h order by h",
    "hash": f"select h * 1000000007 k, {CALLS} from t group by k order by k",
}


@pytest.fixture
def both(con: Any, duck: Any) -> tuple[Any, Any]:
    return only_gpu(con, duck, TABLE)


@pytest.fixture
def sources(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Sources of the kernels that pipelines launch."""
    found: list[str] = []
    start = run.start
    monkeypatch.setattr(run, "start", lambda source, *arguments: (found.append(source), start(source, *arguments)))
    return found


@pytest.mark.parametrize("query", QUERIES)
def test_accumulators(query: str, both: tuple[Any, Any], sources: list[str]) -> None:
    assert_same(*both, QUERIES[query])
    assert any("own = cuda.shared.array" in source for source in sources) == (query != "hash")


@pytest.mark.parametrize("room", [0, 600])
@pytest.mark.parametrize("query", ["scalar", "few", "some"])
def test_accumulators_without_room(
    query: str, room: int, both: tuple[Any, Any], sources: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same answers where none of a kernel's accumulators are a block's own, or some."""
    monkeypatch.setattr(accumulate, "SHARED_BYTES", room)
    assert_same(*both, QUERIES[query])
    assert any("own = cuda.shared.array" in source for source in sources) == (room > 0 and query != "some")


def test_sums_that_do_not_fit(both: tuple[Any, Any]) -> None:
    """A block's own sum is wider than the result, which is looked at in the end."""
    from finequery.errors import OutOfRangeError

    con, _ = both
    con.execute(
        "create table big as select i, 170141183460469231731687303715884105727::hugeint - i x from range(40) r(i)"
    )
    for sql in ("select sum(x) from big", "select i % 2, sum(x) from big group by 1", "select sum(-x) from big"):
        with pytest.raises(OutOfRangeError):
            con.execute(sql).fetchall()
    sql = "select sum(case when i % 2 = 0 then x else -x end)::bigint from big"
    assert con.execute(sql).fetchall() == [(20,)]


# --- exact sums ------------------------------------------------------------------------------------------------------


def bits(rows: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    return [tuple(struct.pack("<d", v) if isinstance(v, float) else v for v in row) for row in rows]


@pytest.fixture(scope="module")
def floats() -> dict[str, list[Any]]:
    numbers = np.random.default_rng(7)
    rows = 400
    return {
        "g": numbers.integers(0, 4, rows).tolist(),
        "s": [f"k{int(x)}" for x in numbers.integers(0, 90, rows)],
        "x": np.ldexp(numbers.standard_normal(rows), numbers.integers(-80, 80, rows)).tolist(),
        "y": (1e6 + 1e-3 * numbers.standard_normal(rows)).tolist(),
    }


DETERMINISTIC = (
    "select sum(x), avg(x), stddev_samp(y), var_pop(x) from f",
    "select g, sum(x), avg(y), stddev_pop(y), sum(x) filter (where y > 1e6) from f group by g order by g",
    "select g * 1000000007 k, sum(x), var_samp(y) from f group by k order by k",
    "select s, sum(x), avg(y), var_samp(y) from f group by s order by s",
)


def test_deterministic(con: Any, floats: dict[str, list[Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    """The same bits with any number of blocks and threads, on the CPU and on the GPU; and they are the best there
    are."""
    import pyarrow as pa

    table = pa.table(floats)
    backwards = table.take(list(reversed(range(table.num_rows))))
    answers: dict[str, list[Any]] = {sql: [] for sql in DETERMINISTIC}
    con.execute("set deterministic = true")
    for device, shape, name in (
        ("cpu", None, "table"),
        ("cpu", None, "backwards"),
        ("gpu", (1, 32), "table"),
        ("gpu", (3, 8), "backwards"),
        ("gpu", (2, 5), "table"),
    ):
        con.execute(f"create or replace table f as select * from {name}")
        con.execute(f"set device = '{device}'")
        for sql in DETERMINISTIC if shape in (None, (1, 32)) else DETERMINISTIC[:2]:
            with monkeypatch.context() as patch:
                if shape:
                    patch.setattr(run.Run, "__init__", shaped(run.Run.__init__, shape))
                answers[sql].append(con.execute(sql).fetchall())
    assert backwards.num_rows == table.num_rows
    for found in answers.values():
        assert all(bits(rows) == bits(found[0]) for rows in found)
    total, mean, deviation, variance = answers[DETERMINISTIC[0]][0][0]
    x, y = ([Fraction(v) for v in floats[name]] for name in "xy")
    assert total == math.fsum(floats["x"])
    assert mean == total / len(x)
    assert variance == float(sum((v - sum(x) / len(x)) ** 2 for v in x) / len(x))
    assert deviation == math.sqrt(float(sum((v - sum(y) / len(y)) ** 2 for v in y) / (len(y) - 1)))


def shaped(init: Any, shape: tuple[int, int]) -> Any:
    """A run whose launches have a shape of their own."""

    class Shaped:
        def __init__(self, device: Any):
            self._device = device

        def __getattr__(self, name: str) -> Any:
            return getattr(self._device, name)

        def launch_shape(self, rows: int) -> tuple[int, int]:
            return shape

    def made(self: Any, kernel: Any, device: Any, *arguments: Any) -> None:
        init(self, kernel, Shaped(device), *arguments)

    return made


@pytest.mark.parametrize("device", ["cpu", "gpu"])
def test_deterministic_edges(con: Any, duck: Any, device: str) -> None:
    con.execute("set deterministic = true")
    con.execute(f"set device = '{device}'")
    edges = ["5e-324", "1e-310", "-0.0", "1e308", "'inf'::double", "'-inf'::double", "'nan'::double", "null::double"]
    for pair in itertools.combinations(edges, 2):
        sql = f"select sum(z), avg(z), count(z) from (select {pair[0]} z union all select {pair[1]}) w"
        assert_same(con, duck, sql)
    largest = "select sum(z) from (select 1.7976931348623157e308 z union all select 1.7976931348623157e308) w"
    assert con.execute(largest).fetchall() == [(math.inf,)]
    cancels = (
        "select sum(z) from (select 1e308 z union all select 1e308 union all select -1e308 union all select 3.0) w"
    )
    assert con.execute(cancels).fetchall() == [(float(Fraction(1e308) + 3),)]
    with pytest.raises(Exception, match="STDDEV is out of range"):
        con.execute("select stddev_pop(z) from (select 1e200 z union all select 2.0) w").fetchall()
    assert con.execute("select stddev_pop(z) from (select 1e150 z union all select -1e150) w").fetchall() == [(1e150,)]


def test_a_relation_follows_the_setting(con: Any) -> None:
    con.execute("create table f as select * from (values (1e16), (1.0), (-1e16)) v(x)")
    relation = con.sql("select sum(x)::double from f")
    con.execute("set deterministic = true")
    assert relation.fetchall() == [(1.0,)]


# --- numbers of groups, rows fetched ---------------------------------------------------------------------------------


def column(kind: str, rows: int, nulls: bool, seed: int = 3) -> ColumnData:
    values = random_values(kind, rows, seed, False)
    return make(kind, [None if nulls and i % 7 == 3 else v for i, v in enumerate(values)])


@pytest.mark.parametrize("nulls", [False, True])
def test_numbers(nulls: bool) -> None:
    rows = 40
    kinds = ("u8", "dict", "float64", "string", "int64", "float32", "int128", "u16", "u32")
    keys = [column(kind, rows, nulls, seed) for seed, kind in enumerate(kinds)]
    few = [make("u8", [None if nulls and i % 5 == 0 else i * i % 3 for i in range(rows)])]
    few.append(
        make("float64", [None if nulls and i % 9 == 0 else (0.0, -0.0, math.nan, 1.5)[i % 4] for i in range(rows)])
    )
    for columns in (few, keys[1:4], *([k] for k in keys[::2])):
        numbers, count, firsts = number_groups(columns, rows, get_pool())
        found = number_groups(columns, rows, get_pool(), DEVICE)
        assert found[1] == count
        assert np.array_equal(found[0][:rows], numbers[:rows])
        assert np.array_equal(found[2][:count], firsts[:count])


def test_numbers_of_intervals(both: tuple[Any, Any]) -> None:
    """Equal spans of time are one value."""
    spans = "case when i % 7 = 0 then null else to_days((i % 3)::int) + to_hours((i % 2 * 24)::int) end"
    rows = f"select i, {spans} d, (i % 4 - 2)::hugeint * 100000000000000000000 w from range(60) r(i)"
    assert_same(*both, f"select min(i), count(*) from ({rows}) x group by d, w order by 1")


@pytest.mark.parametrize("null_safe", [False, True])
@pytest.mark.parametrize("nulls", [False, True])
def test_packed_keys(null_safe: bool, nulls: bool) -> None:
    rows, pool = 60, get_pool(1)
    keys = [column(kind, rows, nulls, seed) for seed, kind in enumerate(("u8", "dict", "u16", "u32"))]
    keys.append(make("int64", [None if nulls and i % 8 == 1 else -i * 1000 for i in range(rows)]))
    nothing = make("u8", [None] * rows)
    for columns in (keys[:1], keys[4:], keys[:3], [keys[4], keys[1]], [keys[2], nothing]):
        wanted, found = pack(columns, null_safe, pool), pack_on_gpu(columns, null_safe, DEVICE)
        assert found is not None
        count = wanted[0].length
        assert found[0].length == count
        assert np.array_equal(found[0].data[:count], wanted[0].data[:count])
        assert (found[2] is None) == (wanted[2] is None)
        if wanted[2] is not None:
            assert np.array_equal(found[2], wanted[2])
        facts = [[(p.low, p.span, p.factor, p.dictionary) for p in parts] for parts in (found[1], wanted[1])]
        assert facts[0] == facts[1]
    for column_ in (column("float64", rows, nulls), column("string", rows, nulls)):
        assert pack_on_gpu([keys[0], column_], null_safe, DEVICE) is None
    wide = [column("int64", rows, nulls, seed) for seed in range(3)]
    assert pack_on_gpu(wide, null_safe, DEVICE) is None


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("nulls", [False, True])
@pytest.mark.parametrize("missing", [False, True])
def test_take(kind: str, nulls: bool, missing: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(taking, "FEW_ROWS", 1)
    source, pool = column(kind, 80, nulls), get_pool(1)
    for count in (1, 64, 70):
        rows = np.random.default_rng(count).integers(0, 80, count, dtype=np.uint32)
        if missing:
            rows[::3] = NO_ROW
        wanted, found = take(source, rows, pool, missing), take(source, rows, pool, missing, device=DEVICE)
        assert repr(column_to_python(found)) == repr(column_to_python(wanted))
        assert (found.kind, found.data.dtype, found.stats.nulls) == (wanted.kind, wanted.data.dtype, wanted.stats.nulls)
        assert (found.validity is None) == (wanted.validity is None)


def test_a_sort_fetches_on_the_device(both: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(taking, "FEW_ROWS", 50)
    assert_same(*both, "select i, x, w, n from t order by v, i desc limit 60 offset 5")
    assert_same(*both, "select n, x, d, count(*), sum(v) from t group by all order by all")
