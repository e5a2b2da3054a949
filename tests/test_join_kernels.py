"""Hash tables of joins, primitive by primitive, against dictionaries."""

from __future__ import annotations

import numpy as np
import pytest

from finequery.operators import native
from finequery.operators.build import Lookup, build_lookup, padded
from finequery.operators.column import ColumnData, Frame
from finequery.operators.lower import NONE
from finequery.operators.pool import get_pool
from finequery.types import BIGINT

TILE = 4096
EDGES = np.array([0, -1, 1, 2**63 - 1, -(2**63), 2**32, -(2**32)], dtype=np.int64)


def mixed(keys: np.ndarray) -> np.ndarray:
    """The kernels' hash."""
    h = keys.view(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    return h ^ (h >> np.uint64(32))


def one_region(count: int) -> np.ndarray:
    """Distinct keys that all fall into one region: far more than it is sized for."""
    keys = np.arange(count * 400, dtype=np.int64) * 7919
    return keys[mixed(keys) >> np.uint64(56) == 7][:count]


def key_sets() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(7)
    wide = np.unique(rng.integers(-(2**62), 2**62, 70_000))
    return {
        "one": np.array([0], dtype=np.int64),
        "edges": EDGES,
        "few": np.concatenate([EDGES, wide[:50]]),
        "many": rng.permutation(np.concatenate([EDGES, wide])),
        "one region": one_region(5000),
        "repeated": rng.permutation(np.concatenate([np.repeat(EDGES, 3), np.repeat(wide[:2000], 5), wide[2000:9000]])),
        "one key": np.concatenate([np.full(200_000, 2**62), EDGES]),
        "one region, repeated": np.repeat(one_region(3000), 2),
    }


def build(keys: np.ndarray, threads: int, need_rows: bool = True) -> Lookup:
    column = ColumnData(BIGINT, "int64", len(keys), keys)
    return build_lookup(Frame({}, len(keys)), column, [], None, need_rows, get_pool(threads), False, 0)


def found(lookup: Lookup, probes: np.ndarray) -> np.ndarray:
    """What ``find_lines`` gives."""
    out, scratch = padded(TILE, np.uint32), padded(TILE, np.uint64)
    results = []
    assert lookup.table is not None
    for t in range(0, len(probes), TILE):
        k = min(TILE, len(probes) - t)
        words = (probes.ctypes.data, 8, lookup.table.ctypes.data, lookup.lines, scratch.ctypes.data, out.ctypes.data)
        assert native.run("find_lines", *words, t=t, n=k, k=k) == k
        results.append(out[:k].copy())
    return np.concatenate(results)


def kept(lookup: Lookup, probes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Positions and values that ``probe_lines`` gives, its Bloom filter turned off and on by itself."""
    assert lookup.table is not None
    bloom = 0 if lookup.bloom is None else lookup.bloom.ctypes.data
    kinds = (np.uint64, np.uint32, np.uint8, np.uint32, np.uint32, np.uint32, np.uint32)
    scratch = [padded(TILE + 64, kind) for kind in kinds]
    addresses = [a.ctypes.data for a in scratch]
    block = np.array(
        [probes.ctypes.data, 8, lookup.table.ctypes.data, lookup.lines, bloom, lookup.bloom_shift, 0, *addresses],
        dtype=np.int64,
    )
    positions, values = [], []
    for t in range(0, len(probes), TILE):
        k = min(TILE, len(probes) - t)
        z = native.function("probe_lines")(t, k, k, block.ctypes.data)
        positions.append(scratch[5][:z].astype(np.int64) + t)
        values.append(scratch[6][:z].copy())
    return np.concatenate(positions), np.concatenate(values)


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("name", key_sets())
def test_hash_table(name: str, threads: int) -> None:
    keys = key_sets()[name]
    rng = np.random.default_rng(11)
    other = rng.integers(-(2**62), 2**62, 20_000)
    probes = np.concatenate([rng.permutation(np.concatenate([keys, other])), other, keys])
    lookup = build(keys, threads)
    rows: dict[int, list[int]] = {}
    for row, key in enumerate(keys.tolist()):
        rows.setdefault(key, []).append(row)
    repeated = len(rows) < len(keys)
    if lookup.kind not in ("hash", "chains"):  # few keys of a small range
        assert name == "one"
        return
    assert lookup.kind == ("chains" if repeated else "hash")
    numbers = found(lookup, probes)
    assert [key in rows for key in probes.tolist()] == (numbers != NONE).tolist()
    if not repeated:
        hits = numbers != NONE
        assert (keys[numbers[hits]] == probes[hits]).all()
        positions, values = kept(lookup, probes)
        assert positions.tolist() == np.flatnonzero(hits).tolist()
        assert values.tolist() == numbers[hits].tolist()
        return
    assert lookup.starts is not None and lookup.listed is not None
    assert lookup.most == max(map(len, rows.values()))
    for key, number in dict(zip(probes.tolist(), numbers.tolist())).items():
        if number != NONE:
            begin, end = lookup.starts[number], lookup.starts[number + 1]
            assert lookup.listed[begin:end].tolist() == rows[key]


def test_membership_keeps_repeated_keys_out() -> None:
    lookup = build(np.repeat(EDGES, 1000), 2, need_rows=False)
    assert lookup.kind == "hash"
    probes = np.concatenate([EDGES, EDGES + 5])
    assert (found(lookup, probes) != NONE).tolist() == [int(k) in EDGES.tolist() for k in probes]
