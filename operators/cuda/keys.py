"""Packing a build side's key columns on the GPU: ``operators.join_keys.pack`` for numbers and dictionary codes."""

# mypy: ignore-errors
# ruff: noqa: F821
from __future__ import annotations

from typing import Any

import numpy as np

from finequery.operators.build import KeyPart
from finequery.operators.column import ColumnData
from finequery.operators.cuda.build import ALL, OnGpu
from finequery.operators.cuda.functions import bit
from finequery.operators.cuda.launch import launch
from finequery.operators.cuda.scan import exclusive_scan
from finequery.operators.group_modes import MOST_PACKED


def pack_on_gpu(
    columns: list[ColumnData], null_safe: bool, device: Any
) -> tuple[ColumnData, list[KeyPart], np.ndarray | None] | None:
    """Several key columns as one int64 column, and the positions kept where rows with NULL were dropped. None for keys
    that must be numbered first: text, wide values, ranges that do not fit a word together."""
    count, alone = columns[0].length, len(columns) == 1 and not null_safe
    parts, factor = [], 1
    for column in columns:
        part = _part(column, alone, device)
        if part is None or factor * (part.span + null_safe) > MOST_PACKED:
            return None
        part.factor = factor
        factor *= part.span + null_safe
        parts.append(part)
    packed = device.zeros(count, np.int64, "result")
    kept = None if null_safe or all(c.validity is None for c in columns) else device.zeros(count + 1, np.int64)
    if kept is not None:
        launch(fill_ones, device, count, kept)
    for column, part in zip(columns, parts):
        masked = column.validity is not None
        valid = device.view(column.validity.view(np.uint8)) if masked else device.empty(1, np.uint8)
        if masked and kept is not None:
            launch(drop_nulls, device, count, valid, kept)
        base, scale = (0, 1) if column.kind == "dict" else (column.base, column.scale)
        data = column.data[:count]
        source = device.view(data.view(np.uint64) if data.dtype == np.int64 else data)
        numbers = (np.uint64(x & ALL) for x in (scale, base - part.low + null_safe, part.factor))
        launch(pack_digits, device, count, *numbers, int(masked and null_safe), source, valid, packed)
    rows = None
    if kept is not None:
        left = int(device.to_host(exclusive_scan(device, kept))[0])
        if left < count:
            listed, keys = (device.empty(left, kind, "result") for kind in (np.uint32, np.int64))
            launch(list_kept, device, count, kept, packed, listed, keys)
            rows, packed = device.to_host(listed, keep=True), keys
    keys = device.to_host(packed, keep=True)
    return ColumnData(columns[0].type, "int64", len(keys), keys), parts, rows


def _part(column: ColumnData, alone: bool, device: Any) -> KeyPart | None:
    """How a column's digits are made."""
    if column.kind == "dict":
        return KeyPart(0, max(len(column.dictionary), 1), dictionary=column.dictionary)
    if column.kind not in ("uint", "int64"):
        return None
    if alone:
        return KeyPart(0, 0)
    low, high = OnGpu(device).bounds(column)
    return KeyPart(low, high - low + 1) if low <= high else KeyPart(0, 1)


def fill_ones(n, out):
    """1, 1, 1, …"""
    for i in range(cuda.grid(1), n, cuda.gridsize(1)):
        out[i] = np.int64(1)


def drop_nulls(n, valid, kept):
    """Rows with NULL are not kept."""
    for i in range(cuda.grid(1), n, cuda.gridsize(1)):
        if bit(valid, i) == 0:
            kept[i] = np.int64(0)


def pack_digits(n, scale, move, factor, masked, source, valid, packed):
    """Add a column's digits, by their factor; NULL's is 0 where it is a value."""
    for i in range(cuda.grid(1), n, cuda.gridsize(1)):
        if masked == 0 or bit(valid, i) != 0:
            packed[i] += np.int64((np.uint64(source[i]) * scale + move) * factor)


def list_kept(n, places, packed, rows, keys):
    """The rows that are kept and their keys. ``places``: rows kept before each, and behind all."""
    for i in range(cuda.grid(1), n, cuda.gridsize(1)):
        place = places[i]
        if places[i + 1] != place:
            rows[place] = np.uint32(i)
            keys[place] = packed[i]
