"""Random queries over random tables, run in processes of their own: a crash is a failed test that names the query.

To see a failure again: ``python tests/fuzz.py SEED 1 THREADS`` (see tests/fuzz.py).
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).with_name("fuzz.py")
#: The seeds of a large run, in pieces; another start covers other queries.
LONG_START = int(os.environ.get("FUZZ_START", "10000"))


def run(tmp_path: Path, first: int, count: int, threads: int, guard: bool, patience: float) -> None:
    log = tmp_path / "queries.sql"
    environment = {**os.environ, "FINEQUERY_GUARD": "1" if guard else ""}
    done = subprocess.run(
        [sys.executable, str(PROGRAM), str(first), str(count), str(threads), str(log)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=patience,
    )
    if done.returncode:
        last = log.read_text().split("-- seed")[-1] if log.exists() else ""
        pytest.fail(f"{done.stdout[-6000:]}\nexit {done.returncode}\n{done.stderr[-4000:]}\nlast query: {last}")


@pytest.mark.parametrize("first, threads, guard", [(0, 1, True), (104, 3, False)])
def test_random_queries(tmp_path: Path, first: int, threads: int, guard: bool) -> None:
    run(tmp_path, first, 4, threads, guard, 300)


@pytest.mark.slow
@pytest.mark.parametrize("part", range(20))
def test_many_random_queries(tmp_path: Path, part: int) -> None:
    run(tmp_path, LONG_START + 20 * part, 20, 1 + part % 3, part % 4 == 0, 3000)
