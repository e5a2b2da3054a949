"""Memory: look-ups that stay small, and the guards that find kernels writing where they must not."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent


def test_a_few_keys_of_many_rows_in_a_wide_range() -> None:
    """The hash table is as large as the rows are many, however unevenly their keys hash."""
    from finequery.operators.column import ColumnData, Frame
    from finequery.operators.pool import get_pool
    from finequery.operators.probe import make_lookup
    from finequery.types import BIGINT

    rows = 100_000
    data = np.zeros(rows + 8, dtype=np.int64)
    data[:rows] = np.arange(rows) % 3 * 2**40
    keys = ColumnData(BIGINT, "int64", rows, data[:rows])
    lookup = make_lookup(Frame({}, rows), [keys], False, True, get_pool(2), rows)
    assert lookup.kind == "chains"
    assert lookup.nbytes < 100 * rows


DAMAGE = """
import ctypes, sys
from finequery.jetson import guards, memory
block = memory.array(100, "u1")
address = block.ctypes.data
if "late" in sys.argv:
    del block
    ctypes.memset(address + 7, 1, 1)
    guards.check()
else:
    ctypes.memset(address + 100, 1, 1)
    del block
print("unnoticed")
"""


def test_guards() -> None:
    """A byte behind a block and a byte in a released one are noticed."""
    environment = dict(os.environ, FINEQUERY_GUARD="1", PYTHONPATH=str(ROOT))
    for argument, words in (("past", "1 bytes written past the end"), ("late", "written after its release")):
        done = subprocess.run(
            [sys.executable, "-c", DAMAGE, argument], env=environment, capture_output=True, text=True, timeout=60
        )
        assert words in done.stderr and "unnoticed" not in done.stdout, done.stderr
