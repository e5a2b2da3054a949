"""Columns as plain values on the GPU, for other libraries: the encoding is undone where the column lies."""

# mypy: ignore-errors
# ruff: noqa: F821
from __future__ import annotations

from typing import Any

import numpy as np

from finequery.operators.column import ColumnData
from finequery.operators.cuda.launch import launch

#: Encodings with values of up to 64 bits.
KINDS = ("uint", "int64", "float32", "float64")


def plain(device: Any, column: ColumnData, dtype: Any) -> Any:
    """A kernel argument with a column's values: the column's own memory where it holds them as they are, else new
    memory that a kernel fills, of the kind for results."""
    stored, dtype = column.data[: column.length], np.dtype(dtype)
    if column.base == 0 and column.scale == 1 and stored.dtype == dtype:
        return device.view(stored)
    out = device.empty(column.length, dtype, "result")
    if column.length:
        numbers = np.int64(column.base), np.int64(column.scale)
        launch(decode, device, column.length, *numbers, device.view(stored), out)
    return out


def decode(n, base, scale, stored, out):
    """Values of stored ones."""
    for i in range(cuda.grid(1), n, cuda.gridsize(1)):
        out[i] = base + scale * np.int64(stored[i])
