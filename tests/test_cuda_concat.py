"""Columns joined end to end on the GPU: what the CPU makes of them, bit by bit, and UNION ALL and UNION without a
departure."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from compare import assert_same
from conftest import only_gpu
from fake_cuda import H100, ORIN
from test_moved_bytes import machine
from test_sort import make, random_values

from finequery import types as t
from finequery.errors import NotSupportedError
from finequery.jetson.gpu import open_device
from finequery.operators import concat, executor
from finequery.operators.column import ColumnData, Stats
from finequery.operators.concat import concat_columns, constant_column
from finequery.operators.context import Context
from finequery.operators.cuda import concat as on_gpu
from finequery.operators.cuda.translate import Unsupported
from finequery.operators.encode import encode
from finequery.operators.export import column_to_python
from finequery.operators.tasks import Task, UnionAll

DEVICE = open_device()
EXACT = ("u8", "u16", "u32", "int64", "int128")
#: Kinds of columns that have one type, so that their rows may stand in one column.
FAMILIES = (EXACT[:4], ("int128",), ("float32",), ("float64",), ("interval",), ("dict", "string"))


@pytest.fixture(autouse=True)
def on_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few rows go there too."""
    monkeypatch.setattr(concat, "FEW_ROWS", 1)


def column(kind: str, rows: int, nulls: str = "none", seed: int = 3) -> ColumnData:
    """A column with no, some or nothing but NULLs."""
    missing = {"none": lambda i: False, "some": lambda i: i % 5 == 2, "all": lambda i: True}[nulls]
    values = random_values(kind, rows + 2, seed, False)[:rows]
    return make(kind, [None if missing(i) else v for i, v in enumerate(values)])


def as_wide(piece: ColumnData) -> ColumnData:
    """A BIGINT as a HUGEINT."""
    return dataclasses.replace(piece, type=t.HUGEINT)


def check(pieces: Sequence[ColumnData]) -> ColumnData:
    """Join them on both; all that the columns hold and know is the same."""
    wanted, found = concat_columns(pieces), concat_columns(pieces, device=DEVICE)
    assert repr(column_to_python(found)) == repr([v for p in pieces for v in column_to_python(p)])
    for name in ("type", "kind", "length", "base", "scale"):
        assert getattr(found, name) == getattr(wanted, name), name
    for name in ("data", "validity", "chars"):
        same_bits(name, getattr(found, name), getattr(wanted, name))
    assert (found.dictionary is None) == (wanted.dictionary is None)
    if found.dictionary is not None and wanted.dictionary is not None:
        same_bits("offsets", found.dictionary.offsets, wanted.dictionary.offsets)
        same_bits("strings", found.dictionary.chars, wanted.dictionary.chars)
    for field in dataclasses.fields(Stats):
        a, b = getattr(found.stats, field.name), getattr(wanted.stats, field.name)
        if isinstance(a, np.ndarray):
            same_bits(field.name, a, b)
        else:
            assert a == b, field.name
    return found


def same_bits(name: str, found: np.ndarray | None, wanted: np.ndarray | None) -> None:
    assert (found is None) == (wanted is None), name
    if found is not None and wanted is not None:
        assert found.dtype == wanted.dtype and found.tobytes() == wanted.tobytes(), name


@pytest.mark.parametrize("kinds", FAMILIES, ids="-".join)
@pytest.mark.parametrize("nulls", list(itertools.product(("none", "some"), repeat=2)), ids="-".join)
def test_pairs(kinds: tuple[str, ...], nulls: tuple[str, str]) -> None:
    for first, second in itertools.product(kinds, repeat=2):
        check([column(first, 45, nulls[0], 1), column(second, 40, nulls[1], 2)])


@pytest.mark.parametrize("kind", (*EXACT, "float32", "float64", "interval", "dict", "string"))
def test_edges(kind: str) -> None:
    """No rows, one row, nothing but NULL; parts that begin within a byte and within a word of the bitmap."""
    rest = column(kind, 9, "some", 4)
    for rows, nulls in itertools.product((0, 1, 7, 64, 67), ("none", "some", "all")):
        check([column(kind, rows, nulls), rest, column(kind, 3)])
        check([rest, column(kind, rows, nulls), column(kind, 1, "all"), column(kind, 1)])
    check([column(kind, 5, "all"), column(kind, 6, "all")])
    check([column(kind, 0), column(kind, 0)])
    check([constant_column(t.NULL, None, 3), rest])


def test_wide_and_narrow() -> None:
    """128 bits out of fewer, and fewer out of 128."""
    wide = make("int128", [2**100, None, -(2**120), -1, 0])
    for kind, nulls in itertools.product(EXACT[:4], ("none", "some")):
        check([as_wide(column(kind, 20, nulls)), wide])
    small = make("int128", [5, None, 260, -3, 2**40], bounds=False)
    assert check([make("int128", [5, None, 260]), small]).kind == "int64"
    narrow = check([make("int128", [None, 7, 9]), make("int128", [-(2**70) + 2**70 - 8, None])])
    assert narrow.kind == "uint" and narrow.base == -8


def test_bases_and_scales() -> None:
    """The same and others; a constant that the scale divides though its form does not show it."""
    type_ = t.decimal(18, 2)
    data = [
        [Decimal(n) for n in (100, 300, 1200)],
        [Decimal(n) for n in (-1000, 50_000, None, 0) if n is not None],
        [Decimal("7")] * 4,
        [Decimal(n) * 10**9 for n in (-1, 1, 3)],
        [Decimal(n) / 100 for n in (-1, 1, 3)],
    ]
    pieces = [encode(pa.array(values, pa.decimal128(18, 2)), type_) for values in data]
    holes = encode(pa.array([None, Decimal(600), None, Decimal(30_600)], pa.decimal128(18, 2)), type_)
    forms = {(p.kind, p.base, p.scale) for p in [*pieces, holes]}
    assert len(forms) > 4
    for some in (*itertools.permutations(pieces[:4], 2), *itertools.permutations([*pieces, holes], 3)):
        joined = check(some)
    assert joined.length


def test_division_of_a_difference_beyond_63_bits() -> None:
    """A scale of 2**62: the largest less the smallest value is 2**63, which has no sign."""
    type_, top = t.decimal(38, 0), 2**62
    values = [-top, 0, top]
    data = np.zeros(8, np.int64)[:3]
    data[:] = values
    piece = ColumnData(type_, "int64", 3, data, stats=Stats(low=-top, high=top))
    joined = check([piece, constant_column(type_, top, 2)])
    assert (joined.kind, joined.scale) == ("uint", top)
    signed = [make("int64", [-(2**63), 2**63 - 1]), make("int64", [-1, None, 5])]
    assert check(signed).kind == "int64"
    check([dataclasses.replace(p, type=t.decimal(38, 0)) for p in signed])


def test_booleans_dates_times() -> None:
    check([encode(pa.array([True, None, False])), encode(pa.array([False, True]))])
    check([encode(pa.array([18_000, None], pa.date32())), encode(pa.array([-5, 7], pa.date32()))])
    hours = [encode(pa.array([n * 3_600_000_000, None], pa.timestamp("us"))) for n in (3, 400_000, -1)]
    check(hours)
    nan = make("float64", [float("nan"), -0.0, 0.0])
    check([nan, make("float64", [1.5, None])])


def test_dictionaries() -> None:
    """The same, an equal one, one that holds the other, different ones; one of 8 and one of 16 bits."""
    a, b = make("dict", ["x", "z", None, "x"]), make("dict", ["x", "y", "z", None])
    assert check([a, a]).dictionary is a.dictionary
    check([a, make("dict", ["x", "z", "x"])])
    assert check([a, b]).dictionary is b.dictionary
    check([b, make("dict", ["ä", "", "zz"]), a])
    many = make("dict", [f"n{i:04}" for i in range(300)])
    assert many.data.dtype == np.uint16
    assert check([make("dict", ["n0003", None, "a"]), many]).data.dtype == np.uint16
    assert check([a, make("dict", [None, None])]).kind == "dict"


def test_strings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bytes beside dictionaries; dictionaries that are too large together; parts whose offsets begin in the middle."""
    text, coded = make("string", ["ä", "", None, "long " * 20]), make("dict", ["x", None, "", "yy"])
    assert check([coded, text, coded]).kind == "string"
    check([make("string", ["", None]), make("string", [""])])
    check([make("dict", [None, None]), make("string", [None])])
    whole = make("string", ["abc", "de", None, "f"])
    assert whole.validity is not None
    bits = np.zeros(8, np.uint8)
    bits[0] = 0b101
    later = dataclasses.replace(whole, data=whole.data[1:], length=3, validity=bits)
    check([text, later])
    monkeypatch.setattr("finequery.operators.encode_strings.largest_dictionary", lambda rows: 2)
    assert check([coded, make("dict", ["u", "v", "u"])]).kind == "string"


def test_few_rows_are_joined_by_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(on_gpu, "exact", lambda *_: pytest.fail("launched"))
    pieces = [column("u8", 10), column("u16", 10)]
    monkeypatch.setattr(concat, "FEW_ROWS", 21)
    assert concat_columns(pieces, device=DEVICE).length == 20
    monkeypatch.setattr(concat, "FEW_ROWS", 20)
    with pytest.raises(pytest.fail.Exception):
        concat_columns(pieces, device=DEVICE)


# --- queries ----------------------------------------------------------------------------------------------------------


TABLE = """create table t as select i, case when i % 3 <> 1 then i * 10 end x, 'k' || (i % 4) s,
  case when i % 5 <> 2 then 'text ' || (i * 7919 % 1000) end u, i / 8.0 d, (i % 7 * 100)::decimal(9, 2) m,
  (i - 20)::hugeint * 1000000000000000000000 w, date '2020-01-01' + i::int e, i % 2 = 0 b, to_days((i % 9)::int) v
  from range(60) r(i)"""

UNIONS = [
    "select * from t union all select * from t where i < 9",
    "select i, s, m from t union all select i + 100000, upper(s), m * 3 from t where i > 30",
    "select x, u from t union all select null, s from t union all select w, 'one' from t where i < 3",
    "select i, d from t where i < 0 union all select x, d * 2 from t",
    "select s from t union select 'k' || (i % 6) from t",
    "select x, e from t union select i, e + 1 from t",
    "select s, sum(n) from (select s, i n from t union all select u, x from t where b) q group by s",
]


@pytest.fixture
def both(con: Any, duck: Any) -> tuple[Any, Any]:
    return only_gpu(con, duck, TABLE)


@pytest.fixture
def devices(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Where the rows of each UNION ALL were put together."""
    found: list[str] = []
    run_plan = executor.execute

    def unions(task: Task) -> list[Task]:
        return [u for below in task.inputs for u in unions(below)] + [task] * isinstance(task, UnionAll)

    def execute(root: Task, context: Context) -> Any:
        result = run_plan(root, context)
        if context.gpu is not None:
            found.extend(context.measured[id(u)].device for u in unions(root))
        return result

    monkeypatch.setattr(executor, "execute", execute)
    return found


@pytest.mark.parametrize("sql", UNIONS)
def test_union(sql: str, both: tuple[Any, Any], devices: list[str]) -> None:
    assert_same(*both, f"select * from ({sql}) q order by all")
    assert devices and set(devices) == {"gpu"}


@pytest.mark.parametrize("attributes", [ORIN, H100], ids=["integrated", "discrete"])
@pytest.mark.parametrize("sql", UNIONS[:4])
def test_memory_of_its_own(
    attributes: dict[int, int], sql: str, monkeypatch: pytest.MonkeyPatch, devices: list[str]
) -> None:
    """Parts and the whole stay where they lie on a board. A discrete GPU keeps the whole: the CPU gets a copy, and
    what reads it next copies nothing."""
    fake = machine(attributes, monkeypatch)
    for engine in (fake.con, fake.duck):
        engine.execute(TABLE)
    fake.con.execute("set strict = true")
    assert_same(fake.con, fake.duck, f"select * from ({sql}) q order by all")
    assert devices and set(devices) == {"gpu"}
    if attributes is ORIN:
        assert fake.device.moved.total == 0


def test_a_departure_is_told(both: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch, devices: list[str]) -> None:
    con, sql = both[0], "select i from t union all select x from t"

    def refuse(*_: Any) -> Any:
        raise Unsupported("no form of it")

    monkeypatch.setattr(on_gpu, "exact", refuse)
    with pytest.raises(NotSupportedError, match="A UNION ALL can't run on the GPU: no form of it"):
        con.execute(sql).fetchall()
    con.execute("set strict = false")
    assert len(con.execute(sql).fetchall()) == 120
    assert devices == ["cpu"]
    assert "no form of it" in con.sql(sql).explain(analyze=True)


@pytest.mark.parametrize("device", ["cpu", "gpu"])
def test_explain(both: tuple[Any, Any], device: str) -> None:
    con = both[0]
    con.execute(f"set device = '{device}'")
    relation = con.sql("select i + x from (select i, x from t union all select x, i from t) q")
    for analyze in (False, True):
        last = relation.explain(analyze=analyze).split("Pipeline 3 ")[1]
        assert last.startswith(f"[{device}") and "cpu and gpu" not in last and "union" in last
