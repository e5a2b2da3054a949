"""The benchmark's data: TPC-H, SSB, and tables of random keys, made once and kept as Parquet."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from finequery import workloads
from finequery.workloads.files import publish

GROUPS = (10, 1_000, 100_000, 1_000_000, 4_000_000)
BUILDS = (10_000, 1_000_000, 4_000_000)
MATCHES = (100, 5)
ROWS = 10_000_000
SORT_ROWS = 6_000_000


def short(count: int) -> str:
    """1000000 is 1M."""
    for size, letter in ((1_000_000, "M"), (1_000, "K")):
        if count >= size and count % size == 0:
            return f"{count // size}{letter}"
    return str(count)


def write(path: Path, columns: dict[str, Any]) -> Path:
    """Write a Parquet file under a temporary name first, so that there is never half a file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        pq.write_table(pa.table(columns), f"{folder}/{path.name}", row_group_size=1 << 18, use_dictionary=False)
        publish(Path(folder), path.parent)
    return path


def sparse_keys(rng: np.random.Generator, count: int) -> np.ndarray:
    """Distinct random 63-bit keys."""
    keys = np.unique(rng.integers(0, 1 << 62, count + count // 100 + 10))
    return rng.permutation(keys)[:count]


class Data:
    """Paths of the data files; each is made when it is first asked for. ``fraction`` shrinks everything, for tests."""

    def __init__(self, folder: Path, fraction: float = 1.0):
        self.folder, self.fraction = folder, fraction
        self.suffix = "" if fraction == 1 else f"-{fraction:g}"

    def rows(self, count: int) -> int:
        return max(1, int(count * self.fraction))

    def tpch(self, scale: float = 1.0) -> dict[str, Path]:
        return self.workload("tpch", scale)

    def ssb(self, scale: float) -> dict[str, Path]:
        return self.workload("ssb", scale)

    def workload(self, name: str, scale: float) -> dict[str, Path]:
        scale *= self.fraction
        return workloads.generate(name, scale, self.folder / f"{name}-sf{scale:g}")

    def grouped(self, groups: int) -> Path:
        """Rows (k, v): k one of ``groups`` random keys, v a small integer."""
        path = self.folder / f"groups-{short(groups)}{self.suffix}.parquet"
        if path.exists():
            return path
        rng, rows = np.random.default_rng(groups), self.rows(ROWS)
        keys = sparse_keys(rng, min(groups, rows))
        values = rng.integers(0, 1_000, rows, dtype=np.int32)
        return write(path, {"k": keys[rng.integers(0, len(keys), rows)], "v": values})

    def build(self, size: int) -> Path:
        """Rows (k, payload) with unique random keys."""
        path = self.folder / f"build-{short(size)}{self.suffix}.parquet"
        if path.exists():
            return path
        rng, rows = np.random.default_rng(size), self.rows(size)
        return write(path, {"k": sparse_keys(rng, rows), "payload": rng.integers(0, 1_000, rows, dtype=np.int32)})

    def probe(self, size: int, match: int) -> Path:
        """Rows (k): ``match`` per cent of the keys are in ``build(size)``, each equally often."""
        path = self.folder / f"probe-{short(size)}-{match}{self.suffix}.parquet"
        if path.exists():
            return path
        import pyarrow.parquet as pq

        rng, rows = np.random.default_rng(size + match), self.rows(ROWS)
        known = pq.read_table(self.build(size), columns=["k"])["k"].to_numpy()
        keys = known[rng.integers(0, len(known), rows)]
        strangers = rng.random(rows) * 100 >= match
        keys[strangers] = rng.integers(1 << 62, (1 << 63) - 1, int(strangers.sum()))
        return write(path, {"k": keys})

    def unsorted(self) -> Path:
        """Rows (a, b, c): a with many ties, b with few, c unique."""
        path = self.folder / f"unsorted{self.suffix}.parquet"
        if path.exists():
            return path
        rng, rows = np.random.default_rng(6), self.rows(SORT_ROWS)
        a = rng.integers(-(1 << 40), 1 << 40, rows // 4 + 1)[rng.integers(0, rows // 4 + 1, rows)]
        b, c = rng.integers(0, 1 << 30, rows, dtype=np.int32), rng.permutation(rows).astype(np.int64)
        return write(path, {"a": a, "b": b, "c": c})
