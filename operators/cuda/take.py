"""Gathering rows by number on the GPU: ``operators.take`` for columns whose rows are many. What is fetched stays on the
device for the kernels that read it next."""

# mypy: ignore-errors
# ruff: noqa: F821
from __future__ import annotations

from typing import Any

import numpy as np

from finequery.operators.column import ColumnData
from finequery.operators.cuda.functions import bit
from finequery.operators.cuda.launch import launch
from finequery.operators.cuda.scan import exclusive_scan


def take_items(device: Any, column: ColumnData, rows: np.ndarray, missing: bool) -> np.ndarray:
    """Stored values of a column of fixed width; 0 where ``missing`` and no row is named."""
    per_row = 2 if column.kind in ("int128", "interval") else 1
    item = np.dtype(f"u{column.data.itemsize}")
    out = device.empty(len(rows) * per_row, item, "result")
    source = device.view(column.data.view(item))
    launch(gather_items, device, len(rows) * per_row, per_row, int(missing), source, device.view(rows), out)
    return device.to_host(out, keep=True).view(column.data.dtype)


def take_strings(device: Any, column: ColumnData, rows: np.ndarray, missing: bool) -> tuple[np.ndarray, np.ndarray]:
    """Offsets and bytes of strings."""
    count, chosen, offsets = len(rows), device.view(rows), device.view(column.data)
    starts = device.empty(count + 1, np.int64, "result")
    launch(gather_sizes, device, count + 1, int(missing), offsets, chosen, starts)
    size = int(device.to_host(exclusive_scan(device, starts))[0])
    chars = device.empty(size, np.uint8, "result")
    if size:
        launch(gather_bytes, device, count, int(missing), offsets, device.view(column.chars), chosen, starts, chars)
    return device.to_host(starts, keep=True), device.to_host(chars, keep=True)


def take_validity(device: Any, column: ColumnData, rows: np.ndarray, missing: bool) -> tuple[np.ndarray, int]:
    """The bitmap of the values that are there, in whole words, and how many are not."""
    masked = column.validity is not None
    valid = device.view(column.validity.view(np.uint8)) if masked else device.empty(1, np.uint8)
    bits = device.zeros((len(rows) + 63) // 64 * 8, np.uint8, "result")
    nulls = device.zeros(1, np.int64, "result")
    options = (int(missing), int(masked), valid, device.view(rows))
    launch(gather_bits, device, len(rows), *options, bits, nulls)
    return device.to_host(bits, keep=True), int(device.to_host(nulls)[0])


def gather_items(n, per_row, missing, source, rows, out):
    """Words of rows in turn."""
    for i in range(cuda.grid(1), n, cuda.gridsize(1)):
        place = i // per_row
        row = rows[place]
        if missing != 0 and row == np.uint32(0xFFFFFFFF):
            out[i] = 0
        else:
            out[i] = source[np.int64(row) * per_row + (i - place * per_row)]


def gather_sizes(n, missing, offsets, rows, sizes):
    """Bytes of each string, and 0 behind the last."""
    for i in range(cuda.grid(1), n, cuda.gridsize(1)):
        size = np.int64(0)
        if i < n - 1 and not (missing != 0 and rows[i] == np.uint32(0xFFFFFFFF)):
            row = np.int64(rows[i])
            size = offsets[row + 1] - offsets[row]
        sizes[i] = size


def gather_bytes(n, missing, offsets, chars, rows, starts, out):
    """Copy each string to where it starts."""
    for i in range(cuda.grid(1), n, cuda.gridsize(1)):
        if not (missing != 0 and rows[i] == np.uint32(0xFFFFFFFF)):
            source, start = offsets[np.int64(rows[i])], starts[i]
            for s in range(starts[i + 1] - start):
                out[start + s] = chars[source + s]


def gather_bits(n, missing, masked, valid, rows, out, nulls):
    """A byte of eight rows' bits for each thread, which reads its row numbers as one sector of memory."""
    lost = np.int64(0)
    for place in range(cuda.grid(1), (n + 7) >> 3, cuda.gridsize(1)):
        byte = np.uint32(0)
        for b in range(min(8, n - 8 * place)):
            row, one = rows[8 * place + b], np.uint32(1)
            if missing != 0 and row == np.uint32(0xFFFFFFFF):
                one = np.uint32(0)
            elif masked != 0:
                one = np.uint32(bit(valid, np.int64(row)))
            byte |= np.uint32(one << np.uint32(b))
            lost += np.int64(1) - np.int64(one)
        out[place] = np.uint8(byte)
    if lost != 0:
        cuda.atomic.add(nulls, 0, lost)
