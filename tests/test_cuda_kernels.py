"""CUDA kernels of the breakers, in Numba's simulator or on a chip, against numpy and against the CPU's."""

# mypy: ignore-errors
# ruff: noqa: F821

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_join_kernels import found, one_region
from test_sort import make, random_values

from finequery.errors import OutOfRangeError
from finequery.jetson.gpu import open_device
from finequery.operators.build import Lookup, OnCpu
from finequery.operators.column import ColumnData, Frame, Stats
from finequery.operators.cuda import radix, sort
from finequery.operators.cuda.build import OnGpu
from finequery.operators.cuda.functions import find_row
from finequery.operators.cuda.launch import launch
from finequery.operators.cuda.scan import exclusive_scan
from finequery.operators.cuda.translate import Unsupported
from finequery.operators.export import column_to_python
from finequery.operators.expr import Frame as WindowFrame
from finequery.operators.pool import get_pool
from finequery.operators.row_tables import EMPTY
from finequery.operators.sort import sort_rows
from finequery.operators.take import NO_ROW
from finequery.operators.window import evaluate_window
from finequery.types import BIGINT, DOUBLE, HUGEINT, VARCHAR

DEVICE = open_device()


@pytest.mark.parametrize("rows", [1, 5, 300, 1000])
def test_scan(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    from finequery.operators.cuda import scan

    monkeypatch.setattr(scan, "MOST", 32)  # many tiles, whose sums are summed in turn
    values = np.random.default_rng(rows).integers(-(2**62), 2**62, rows)
    found = DEVICE.upload(values)
    total = exclusive_scan(DEVICE, found)
    ends = np.cumsum(values)
    assert total[0] == ends[-1]
    assert np.array_equal(found, ends - values)


@pytest.mark.parametrize("rows", [1, 70, 700])
def test_radix_sort(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(radix, "RUN", 4)  # several tiles
    monkeypatch.setattr(radix, "MOST", 800)
    words = np.random.default_rng(rows).integers(0, 2**64, rows, dtype=np.uint64) & np.uint64(0xF0003000000000FF)
    found, order = radix.radix_sort(DEVICE, DEVICE.upload(words), np.arange(rows, dtype=np.uint32))
    wanted = np.argsort(words, kind="stable")
    assert np.array_equal(order, wanted)
    assert np.array_equal(found, words[wanted])


def test_digits() -> None:
    assert list(radix.digits(0)) == []
    assert list(radix.digits(0x80000000000001F0)) == [4, 56]
    assert list(radix.digits(radix.ALL)) == list(range(0, 64, 8))


@pytest.mark.parametrize("bits", [0xFFF, 0xFF00000000000003, 3])
def test_least(bits: int) -> None:
    words = np.random.default_rng(1).integers(0, 2**64, 600, dtype=np.uint64) & np.uint64(bits) | np.uint64(1 << 40)
    for wanted in (1, 10, 599):
        rows = radix.least(DEVICE, words, wanted, 20)
        assert np.array_equal(rows, np.flatnonzero(words <= words[rows].max()))
        assert len(rows) >= wanted
        assert len(rows) <= max(20, np.count_nonzero(words <= np.sort(words)[wanted - 1]))


KINDS = ("u8", "u16", "u32", "int64", "int128", "float32", "float64", "dict")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("bounds", [False, True])
def test_sort(kind: str, bounds: bool) -> None:
    rows = 60
    values = random_values(kind, rows, 3, False)
    with_nulls = [None if i % 7 == 3 else v for i, v in enumerate(values)]
    for data, descending, first in ((values, bounds, False), (with_nulls, not bounds, bounds)):
        keys = [(make(kind, data, bounds), descending, first)]
        wanted = sort_rows(keys, rows, get_pool(1))
        assert np.array_equal(sort_rows(keys, rows, get_pool(1), None, DEVICE), wanted)


def test_sort_by_several(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, numbers = 300, np.random.default_rng(2)
    columns = [
        make("int64", [int(x) for x in numbers.integers(0, 4, rows)]),
        make("float64", [float(x) for x in numbers.integers(-3, 3, rows)]),
        make("int128", [int(x) << 70 for x in numbers.integers(-3, 3, rows)]),
        make("u16", [None if x == 3 else int(x) for x in numbers.integers(0, 9, rows)]),
    ]
    keys = [(column, bool(i % 2), bool(i & 2)) for i, column in enumerate(columns)]
    wanted = sort_rows(keys, rows, get_pool(1))
    assert np.array_equal(sort_rows(keys, rows, get_pool(1), None, DEVICE), wanted)
    monkeypatch.setattr(sort, "by_threshold", lambda rows, limit: True)
    assert np.array_equal(sort_rows(keys, rows, get_pool(1), 7, DEVICE), wanted[:7])
    assert np.array_equal(
        sort_rows(keys[1:2], rows, get_pool(1), 50, DEVICE), sort_rows(keys[1:2], rows, get_pool(1))[:50]
    )


def test_sort_by_text() -> None:
    """Ties of seven bytes and more, bytes of zero, characters of several bytes, nothing at all."""
    words = ["", "a", "a\0", "abcdefg", "abcdefgh", "abcdefg\0", "abcdefghijklmnopqrstuvwx", "é" * 9, "ü", None]
    words += ["abcdefghijklmnopqrstuvwy", "abcdefghijklmnopqrstuvw"]
    values = [words[int(i)] for i in np.random.default_rng(3).integers(0, len(words), 90)]
    text, tail = make("string", values), make("u8", [i % 3 for i in range(90)])
    for keys in (
        [(text, False, True)],
        [(text, True, False), (tail, False, False)],
        [(tail, True, False), (text, False, False)],
    ):
        assert np.array_equal(sort_rows(keys, 90, get_pool(1), None, DEVICE), sort_rows(keys, 90, get_pool(1)))


def test_sort_by_intervals(con: Any) -> None:
    con.execute(
        "create table i as select n, to_months(n % 3) + to_days((n * 7 % 60)::integer) as v from range(50) r(n)"
    )
    sql = "select n, v from i order by v desc, n"
    wanted = con.execute(sql).fetchall()
    con.execute("set device = 'gpu'")
    con.execute("set strict = true")
    assert con.execute(sql).fetchall() == wanted


def built(kind: str, data: np.ndarray, valid: np.ndarray | None, rows: np.ndarray | None, device: Any) -> Lookup:
    """A structure of a kind over keys from 100 on."""
    count = len(data)
    stats, validity = Stats(), None
    if valid is not None:
        stats.nulls, validity = int(count - valid.sum()), np.zeros((count + 63) // 64 * 8, np.uint8)
        validity[: -(-count // 8)] = np.packbits(valid, bitorder="little")
    keys = ColumnData(BIGINT, "uint", count, data, base=100, validity=validity, stats=stats)
    fill: Any = OnCpu(get_pool(1)) if device is None else OnGpu(device)
    low, high = fill.bounds(keys)
    lookup = Lookup(kind, Frame({}, count), count, [], low, high - low + 1)
    if kind in ("map", "bits"):
        fill.members(lookup, keys)
    elif kind == "groups":
        fill.groups(lookup, keys, rows)
    elif kind in ("hash", "members"):
        fill.hash(lookup, keys, rows, kind == "hash")
    elif not (fill.ranks if kind == "rank" else fill.rows)(lookup, keys, rows):
        lookup.kind = "repeated"
    return lookup


@pytest.mark.parametrize("kind", ["map", "bits", "rank", "rows", "groups", "hash", "members"])
@pytest.mark.parametrize("repeated", [False, True])
@pytest.mark.parametrize("nulls", [False, True])
def test_build(kind: str, repeated: bool, nulls: bool) -> None:
    numbers = np.random.default_rng(5)
    data = numbers.permutation(400)[:250].astype(np.uint16) if not repeated else numbers.integers(3, 90, 250, np.uint16)
    valid = numbers.integers(0, 5, 250) > 0 if nulls else None
    rows = numbers.permutation(250).astype(np.uint32) if nulls else None
    left, right = (built(kind, data, valid, rows, device) for device in (None, DEVICE))
    for name in ("kind", "low", "span", "unique", "most", "complete"):
        assert getattr(left, name) == getattr(right, name), name
    if left.table is not None:
        probes = np.arange(0, 600, dtype=np.int64)
        numbers_left, numbers_right = found(left, probes), found(right, probes)
        assert np.array_equal(numbers_left == NO_ROW, numbers_right == NO_ROW)
        for a, b in zip(numbers_left, numbers_right):
            if left.kind == "chains" and a != NO_ROW:
                assert listed(left, a) == listed(right, b)
            elif kind == "hash":
                assert a == b
        return
    for name in ("marks", "bits", "row_map", "prefix", "starts", "listed"):
        wanted, got = getattr(left, name), getattr(right, name)
        assert (wanted is None) == (got is None), name
        if wanted is not None:
            used = {"bits": left.span // 8, "starts": left.span + 2}.get(name, len(wanted))
            assert np.array_equal(got[:used], wanted[:used]), name


def listed(lookup: Lookup, group: int) -> list[int]:
    """The rows of a group."""
    return lookup.listed[lookup.starts[group] : lookup.starts[group + 1]].tolist()


def test_build_bloom(monkeypatch: pytest.MonkeyPatch) -> None:
    from finequery.operators import build as cpu
    from finequery.operators.cuda import build as gpu

    for module in (cpu, gpu):
        monkeypatch.setattr(module, "SMALL_BUILD", 100)
    data = np.random.default_rng(3).permutation(2000)[:300].astype(np.uint16)
    left, right = (built("hash", data, None, None, device) for device in (None, DEVICE))
    assert left.bloom_shift == right.bloom_shift
    assert np.array_equal(left.bloom, right.bloom)


def test_build_full_region() -> None:
    """Keys of one region, far more than it is sized for."""
    keys = one_region(200)
    column = ColumnData(BIGINT, "int64", len(keys), keys)
    lookup = Lookup("hash", Frame({}, len(keys)), len(keys), [])
    OnGpu(DEVICE).hash(lookup, column, None, True)
    assert lookup.kind == "hash"
    assert np.array_equal(found(lookup, keys), np.arange(len(keys)))


WINDOWS = [
    ("row_number", "", BIGINT),
    ("rank", "", BIGINT),
    ("dense_rank", "", BIGINT),
    ("percent_rank", "", DOUBLE),
    ("cume_dist", "", DOUBLE),
    ("count_star", "", BIGINT),
    ("count", "v", BIGINT),
    ("sum", "v", HUGEINT),
    ("ntile", "n", BIGINT),
    ("lag", "v", BIGINT),
    ("lead", "vnd", BIGINT),
    ("first_value", "v", BIGINT),
    ("last_value", "v", BIGINT),
    ("nth_value", "vn", BIGINT),
]


@pytest.mark.parametrize("ordered", [False, True])
@pytest.mark.parametrize("parted", [False, True])
def test_windows(ordered: bool, parted: bool) -> None:
    rows, numbers = 50, np.random.default_rng(4)
    columns = {
        "p": make("u8", [None if x == 2 else int(x) for x in numbers.integers(0, 4, rows)]),
        "o": make("float64", [float(x) for x in numbers.integers(0, 5, rows)]),
        "v": make("int64", [None if x == 2 else int(x) for x in numbers.integers(-4, 9, rows)]),
        "n": make("u8", [int(x) for x in numbers.integers(1, 4, rows)]),
        "d": make("int64", [1000] * rows),
    }
    partition = [columns["p"]] if parted else []
    order = [(columns["o"], True, False)] if ordered else []
    cpu: dict[Any, Any] = {}
    gpu: dict[Any, Any] = {}
    for name, names, kind in WINDOWS:
        call = name, [columns[c] for c in names], partition, order, ordered, kind, rows, get_pool(1)
        wanted, got = evaluate_window(*call, cpu), evaluate_window(*call, gpu, device=DEVICE)
        assert column_to_python(got) == column_to_python(wanted), name
        assert got.kind == wanted.kind


FRAMED = [
    ("count_star", "", BIGINT),
    ("count", "v", BIGINT),
    ("sum", "v", HUGEINT),
    ("sum", "o", DOUBLE),
    ("sum", "w", HUGEINT),
    ("avg", "v", DOUBLE),
    ("avg", "o", DOUBLE),
    ("avg", "w", DOUBLE),
    ("min", "v", BIGINT),
    ("max", "t", VARCHAR),
    ("first_value", "v", BIGINT),
    ("last_value", "t", VARCHAR),
    ("nth_value", "vn", BIGINT),
]
FRAMES = [
    None,
    WindowFrame("rows", -2, 1),
    WindowFrame("rows", None, 0),
    WindowFrame("rows", 1, 3),
    WindowFrame("rows", 3, None),
    WindowFrame("groups", -1, 0),
    WindowFrame("range", -1.5, 1.0),
    WindowFrame("range", 0, None),
]


@pytest.mark.parametrize("frame", FRAMES, ids=str)
@pytest.mark.parametrize("ignore_nulls", [False, True])
def test_frames(frame: WindowFrame | None, ignore_nulls: bool) -> None:
    """All calls over frames against the CPU's; it has no sums of 128 bits over frames that move."""
    rows, numbers = 32, np.random.default_rng(9)  # a tree is larger
    columns = {
        "p": make("u8", [None if x == 2 else int(x) for x in numbers.integers(0, 4, rows)]),
        "o": make("float64", [None if x == 4 else float(x) for x in numbers.integers(0, 7, rows)]),
        "v": make("int64", [None if x == 2 else int(x) for x in numbers.integers(-4, 9, rows)]),
        "w": make("int128" if frame is None else "int64", [int(x) * 10**17 for x in numbers.integers(-9, 9, rows)]),
        "t": make("string", [None if x == 2 else str(x) * int(x) for x in numbers.integers(0, 12, rows)]),
        "n": make("u8", [int(x) for x in numbers.integers(1, 4, rows)]),
    }
    order = [(columns["o"], ignore_nulls, ignore_nulls)]
    cpu: dict[Any, Any] = {}
    gpu: dict[Any, Any] = {}
    for name, names, kind in FRAMED:
        if ignore_nulls and "value" not in name and name != "count":
            continue
        call = name, [columns[c] for c in names], [columns["p"]], order, True, kind, rows, get_pool(1)
        wanted = column_to_python(evaluate_window(*call, cpu, frame, ignore_nulls))
        got = column_to_python(evaluate_window(*call, gpu, frame, ignore_nulls, device=DEVICE))
        if kind == DOUBLE:
            assert [x is None for x in got] == [x is None for x in wanted]
            got, wanted = ([0.0 if x is None else x for x in values] for values in (got, wanted))
            assert got == pytest.approx(wanted, rel=1e-12), name
        else:
            assert got == wanted, name


def test_frames_of_wide_numbers() -> None:
    """128-bit totals against Python's numbers; beyond 128 bits is an error."""
    numbers = np.random.default_rng(1)
    values = [
        int(x) * 2**64 + int(y) for x, y in zip(numbers.integers(-(2**50), 2**50, 40), numbers.integers(0, 99, 40))
    ]
    column, order = make("int128", values), [(make("u8", list(range(40))), False, False)]
    call = "sum", [column], [], order, True, HUGEINT, 40, get_pool(1), {}, WindowFrame("rows", -3, 1)
    wanted = [sum(values[max(i - 3, 0) : i + 2]) for i in range(40)]
    assert column_to_python(evaluate_window(*call, device=DEVICE)) == wanted
    most = make("int128", [2**126] * 40)
    with pytest.raises(OutOfRangeError, match="overflow in sum"):
        evaluate_window("sum", [most], [], order, True, HUGEINT, 40, get_pool(1), {}, device=DEVICE)


# --- many threads at the same words: the simulator, which runs blocks one after another, gets them right --------------


#: Rows that a chip takes at once, and more.
MANY = 300 if DEVICE.info.simulated else 1 << 20


@pytest.mark.parametrize("distinct", [3, MANY // 4])
def test_stress_of_inserts(distinct: int) -> None:
    """Each key stands in the table once, with one of its rows; threads wait for each other at nearly every place."""
    data = np.random.default_rng(1).integers(0, distinct, MANY) * 1_000_003
    lookup = Lookup("hash", Frame({}, MANY), MANY, [])
    OnGpu(DEVICE).hash(lookup, ColumnData(BIGINT, "int64", MANY, data), None, False)
    words = lookup.table.view(np.uint64).reshape(-1, 8)
    values = lookup.table.view(np.uint32).reshape(-1, 16)[:, 10:15]
    keys, rows = words[:, :5][values != 0].view(np.int64), values[values != 0].astype(np.int64) - 1
    assert np.array_equal(np.sort(keys), np.unique(data))
    assert np.array_equal(data[rows], keys)


def count_rows(n, empty, keys, slots, most, table, groups, full):
    """Rows by key in a row table of two words, or that it is full."""
    bits = np.int64(0)
    while (np.int64(1) << bits) < slots:
        bits += 1
    for i in range(cuda.grid(1), n, cuda.gridsize(1)):
        at = find_row(table, empty, keys[i], 64 - bits, slots - 1, 2, groups, most)
        if at < 0:
            full[0] = 1
        else:
            cuda.atomic.add(table, at + 1, np.int64(1))


@pytest.mark.parametrize("distinct", [2, 60, MANY])
def test_stress_of_row_tables(distinct: int) -> None:
    """Counts of keys are whole, and more keys than slots end in a full table instead of an endless search."""
    slots = 128
    keys = np.arange(MANY, dtype=np.int64) % distinct
    start = np.tile(np.array([EMPTY, 0], np.int64), slots + 2)
    table, groups, full = DEVICE.upload(start), DEVICE.zeros(2, np.int64), DEVICE.zeros(1, np.int64)
    launch(count_rows, DEVICE, MANY, np.int64(EMPTY), DEVICE.upload(keys), slots, slots // 2, table, groups, full)
    found = DEVICE.to_host(table).reshape(-1, 2)[:slots]
    found = found[found[:, 0] != EMPTY]
    assert len(np.unique(found[:, 0])) == len(found) == DEVICE.to_host(groups)[0]
    assert DEVICE.to_host(full)[0] == (distinct > slots)
    if distinct < slots:
        assert np.array_equal(found[np.argsort(found[:, 0]), 1], np.bincount(keys))


def test_stress_of_accumulators(con: Any) -> None:
    """Every row betters the extreme of its group, so that all threads of a group swap the same word; sums carry."""
    columns = "i % 3 g, i::double f, -i::double d, i::hugeint * 18446744073709551557 w, (i % 1000) * 0.25 q"
    con.execute(f"create table m as select {columns} from range({MANY}) r(i)")
    sql = (
        "select g, min(d), max(f), min(-w), max(w), sum(w), sum(-w), count(*), var_pop(q), avg(q) "
        "from m group by g order by g"
    )
    wanted = con.execute(sql).fetchall()
    con.execute("set device = 'gpu'")
    con.execute("set strict = true")
    for row, right in zip(con.execute(sql).fetchall(), wanted, strict=True):
        assert row[:-2] == right[:-2] and row[-2:] == pytest.approx(right[-2:], rel=1e-9)


#: Instructions that are made for the CPU alone.
CPU_ONLY = {"run_group"}


def test_all_instructions_have_forms() -> None:
    """What lowering emits has a form for one row: only host functions keep a pipeline from the GPU."""
    from finequery.operators import scalar
    from finequery.operators.cuda import instructions, sinks  # noqa: F401  they register their templates
    from finequery.operators.cuda.translate import TEMPLATES

    forms, lacking, emitted = [*TEMPLATES, *scalar.INSTRUCTIONS], set(), 0
    for path in sorted((Path(__file__).parent.parent / "operators").glob("*.py")):
        for name in re.findall(r'emit\(\s*f?"([^"]+)"', path.read_text()):
            pattern = re.compile(re.sub(r"\{[^}]*\}", "[a-z0-9_]+", name))
            emitted += 1
            if not any(pattern.fullmatch(form) for form in forms):
                lacking.add(name)
    assert lacking == CPU_ONLY and emitted > 100


def test_numba_is_not_imported() -> None:
    modules = ("build", "launch", "radix", "run", "scan", "sort", "translate", "window")
    imports = "; ".join(f"import finequery.operators.cuda.{name}" for name in modules)
    subprocess.run([sys.executable, "-c", f"{imports}; import sys; assert 'numba' not in sys.modules"], check=True)


def test_placement() -> None:
    from finequery.errors import NotSupportedError
    from finequery.operators.context import GPU, Context, Measured

    def work(device: Any) -> str:
        if device is not None:
            raise Unsupported("it has no form")
        return "cpu"

    context, measured = Context(get_pool(1), gpu=DEVICE, placement=GPU), Measured()
    assert context.placed(None, measured, "A sort", 1, work) == "cpu"
    assert (measured.device, measured.departed) == ("cpu", ["it has no form"])
    context.strict = True
    with pytest.raises(NotSupportedError, match="A sort can't run on the GPU: it has no form"):
        context.placed(None, measured, "A sort", 1, work)
    measured = Measured()
    assert context.placed(None, measured, "A sort", 1, lambda device: "gpu") == "gpu"
    assert measured.device == "gpu"
