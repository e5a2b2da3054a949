"""CUDA kernels of the breakers, in Numba's simulator, against numpy and against the CPU's."""

from __future__ import annotations

import numpy as np
import pytest

from finequery.operators.cuda.launch import Simulated
from finequery.operators.cuda.scan import exclusive_scan

DEVICE = Simulated()


@pytest.mark.parametrize("rows", [1, 5, 300, 1000])
def test_scan(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    from finequery.operators.cuda import scan

    monkeypatch.setattr(scan, "MOST", 4)  # many tiles, whose sums are summed in turn
    values = np.random.default_rng(rows).integers(-(2**62), 2**62, rows)
    found = DEVICE.upload(values)
    total = exclusive_scan(DEVICE, found)
    ends = np.cumsum(values)
    assert total[0] == ends[-1]
    assert np.array_equal(found, ends - values)
