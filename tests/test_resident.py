"""The process's own size while files larger than memory_limit are read: the limit bounds it, and the count explains it.

Each measurement is the most memory a fresh process ever had, less what it had after a first small query.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("resource")
if sys.platform != "linux":
    pytest.skip("ru_maxrss counts in KiB on Linux alone", allow_module_level=True)

ROOT = Path(__file__).resolve().parent.parent
LIMIT = 128 << 20
ROWS = 8_000_000

MEASURE = """
import json, resource, sys
import finequery
from finequery.errors import OutOfMemoryError
from finequery.jetson import accounts

def most():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

folder, limit, query = sys.argv[1:]
groups = "select k, count(*) from t group by k order by 2 desc, 1 limit 5"
con = finequery.connect(memory_limit=int(limit), threads=2)
con.sql(f"select k, min(name), sum(v) from '{folder}/small.parquet' group by k order by k limit 3").fetchall()
con.execute(f"create view t as select * from '{folder}/part-*.parquet'")
before, error = most(), ""
try:
    con.sql(query).fetchall()
except OutOfMemoryError as refused:
    error = str(refused)
grown, counted = most() - before, accounts.peak()
con.sql(groups).fetchall()  # there is room again
print(json.dumps({"grown": grown, "counted": counted, "error": error}))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = tmp_path_factory.mktemp("resident")
    rng = np.random.default_rng(5)
    names = pa.array([f"machine {i}" for i in range(50)])
    for number in range(4):
        rows = ROWS // 4
        columns = {
            "id": np.arange(number * rows, (number + 1) * rows),
            "k": rng.integers(0, 400_000, rows),
            "name": pa.DictionaryArray.from_arrays(pa.array(rng.integers(0, 50, rows).astype(np.int32)), names),
            "v": rng.random(rows),
        }
        table = pa.table(columns)
        pq.write_table(table, path / f"part-{number}.parquet", row_group_size=250_000, use_dictionary=["name"])
    pq.write_table(table.slice(0, 10_000), path / "small.parquet")
    return path


def measured(folder: Path, query: str) -> dict[str, Any]:
    command = [sys.executable, "-c", MEASURE, str(folder), str(LIMIT), query]
    environment = dict(os.environ, PYTHONPATH=str(ROOT))
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=True)
    return json.loads(done.stdout)


@pytest.mark.parametrize(
    "query",
    [
        "select name, count(*), avg(v), stddev(v), max(id) from t group by name order by name",
        "select k, count(*), avg(v) from t group by k order by 2 desc, 1 limit 5",
        "select k, name, count(*), sum(v) from t where id % 10 = 3 group by k, name order by 3 desc, 1 limit 5",
        "select count(*), sum(t.v * s.v) from t join (select k, avg(v) as v from t group by k) s using (k)",
    ],
)
def test_streams_stay_near_the_limit(folder: Path, query: str) -> None:
    found = measured(folder, query)
    assert not found["error"]
    assert found["grown"] < 1.3 * LIMIT
    assert found["counted"] > 0.6 * found["grown"] - (20 << 20)  # 20 MiB: threads, code and scratch memory


def test_groups_that_do_not_fit_are_refused(folder: Path) -> None:
    """With a clear error, after which the next query runs."""
    found = measured(folder, "select id, name, count(*) from t group by id, name order by 3 desc limit 5")
    assert "memory_limit of 128.0 MiB" in str(found["error"])
    assert found["grown"] < 2.0 * LIMIT
