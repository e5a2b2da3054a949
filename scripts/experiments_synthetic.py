"""Queries over made tables for the sweeps over selectivity and skew."""

from __future__ import annotations

from typing import Any

import numpy as np

#: Shares of the rows that pass, in per mille.
SELECTIVITIES = (1, 10, 50, 100, 200, 500, 800, 1000)
#: Exponents of the keys' Zipf distribution; 0: all keys equally often.
SKEWS = (0.0, 0.5, 1.0, 1.5, 2.0)
KEYS = 1_000_000


def synthetic(connection: Any, rows: int, seed: int = 7) -> dict[str, str]:
    """Make table ``made`` of ``rows`` rows and table ``looked`` of its keys; give the queries by name."""
    import pyarrow as pa

    rng = np.random.default_rng(seed)
    keys = max(10, min(KEYS, rows // 4))
    columns = {
        "s": rng.integers(0, 1000, rows, dtype=np.int16),
        "v": rng.integers(0, 100_000, rows, dtype=np.int32),
        "w": rng.integers(0, 100, rows, dtype=np.int8),
    }
    names = rng.permutation(keys).astype(np.int32)
    for skew in SKEWS:
        weights = np.arange(1, keys + 1, dtype=np.float64) ** -skew
        edges = np.cumsum(weights / weights.sum())
        ranks = np.minimum(np.searchsorted(edges, rng.random(rows)), keys - 1)
        columns[f"k{skew * 10:.0f}"] = names[ranks]
    made = pa.table(columns)
    looked = pa.table({"k": rng.permutation(keys).astype(np.int32), "p": rng.integers(0, 50, keys, dtype=np.int8)})
    connection.register("arrow_made", made)
    connection.register("arrow_looked", looked)
    connection.execute("create table made as select * from arrow_made")
    connection.execute("create table looked as select * from arrow_looked")
    queries = {f"selectivity-{s:04d}": f"select sum(v * w) from made where s < {s}" for s in SELECTIVITIES}
    for s in SELECTIVITIES:
        queries[f"selective-join-{s:04d}"] = (
            f"select p, sum(v) from made join looked on k0 = k where s < {s} group by p"
        )
    for skew in SKEWS:
        queries[f"skew-{skew:g}"] = (
            f"select k{skew * 10:.0f} as k, sum(v) as t from made group by 1 order by t desc limit 10"
        )
    return queries
