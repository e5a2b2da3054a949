"""Sorting on the GPU: sort keys made into words on the device, radix-sorted from the last word of a row's to the
first."""

# mypy: ignore-errors
# ruff: noqa: F821
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from finequery.operators.column import ColumnData
from finequery.operators.cuda.launch import launch
from finequery.operators.cuda.radix import ALL, least, radix_sort
from finequery.operators.cuda.text_sort import microseconds, rank_text
from finequery.operators.pool import Pool
from finequery.operators.sort_keys import Field, Key, Piece, cut, fields_of
from finequery.operators.topk import by_threshold

#: How a field's values are read: as which items, from which of how many of a row, with which bits turned round, and
#: whether they are floats' (of so many bits).
_LOADS = {
    "u8": (np.uint8, 1, 0, 0, 0),
    "u16": (np.uint16, 1, 0, 0, 0),
    "u32": (np.uint32, 1, 0, 0, 0),
    "u64": (np.uint64, 1, 0, 0, 0),
    "i64": (np.uint64, 1, 0, 1 << 63, 0),
    "low": (np.uint64, 2, 0, 0, 0),
    "high": (np.uint64, 2, 1, 1 << 63, 0),
    "f32": (np.uint32, 1, 0, 0, 32),
    "f64": (np.uint64, 1, 0, 0, 64),
    "none": (np.uint8, 0, 0, 0, 0),
}


def sorted_rows(keys: Sequence[Key], length: int, wanted: int, pool: Pool, device: Any) -> np.ndarray:
    """The first ``wanted`` row numbers (u32) in the order of the keys, as ``operators.sort`` gives them."""
    chunks = cut(device_fields(keys, length, pool, device), 64)
    if not chunks:
        return np.arange(wanted, dtype=np.uint32)
    rows = device.empty(length, np.uint32)
    launch(number, device, length, rows)
    if by_threshold(length, wanted):
        rows = least(device, words_of(device, chunks[0], rows), wanted, 4 * wanted)
    rows, result = by_chunks(device, chunks, rows), device.empty(wanted, np.uint32, "result")
    launch(first, device, wanted, rows, result)
    return device.to_host(result, keep=True)


def device_fields(keys: Sequence[Key], length: int, pool: Pool, device: Any) -> list[Field]:
    """The fields of all keys. Ranges that the statistics do not tell are not measured: digits that are the same
    everywhere cost nothing."""
    fields: list[Field] = []
    for key in keys:
        text = rank_text(key.column, device) if key.column.kind == "string" else None
        if key.column.kind == "interval":
            key = key._replace(column=microseconds(key.column, device))
        fields += fields_of(key, length, pool, text, _any_word)
    return fields


def _any_word(load: str, data: np.ndarray, column: ColumnData, length: int, pool: Pool) -> tuple[int, int]:
    return 0, (1 << 32) - 1 if load == "f32" else ALL


def by_chunks(device: Any, chunks: Sequence[Sequence[Piece]], rows: Any) -> Any:
    """Rows (u32, on the device) sorted by their chunks, stable."""
    for chunk in reversed(chunks):
        _, rows = radix_sort(device, words_of(device, chunk, rows), rows)
    return rows


def words_of(device: Any, chunk: Sequence[Piece], rows: Any) -> Any:
    """The words of a chunk for these rows in turn."""
    words = device.zeros(rows.size, np.uint64)
    for field, shift, bits in chunk:
        item, step, offset, turned, floats = _LOADS[field.load]
        if field.load == "none":
            source = device.zeros(1, np.uint8)  # read for every row
        else:
            source = device.view(field.source.reshape(-1).view(item))
        masked = field.validity is not None
        valid = device.view(field.validity.view(np.uint8)) if masked else device.empty(1, np.uint8)
        numbers = (turned, field.flip, field.add, field.null, (1 << bits) - 1)
        arguments = (source, valid, rows, words)
        # a first piece of 64 bits must not be shifted by as many; there is nothing above it
        places = (step, offset, floats, int(masked), shift, bits & 63)
        launch(append_bits, device, rows.size, *places, *(np.uint64(x & ALL) for x in numbers), *arguments)
    return words


def number(n, rows):
    """0, 1, 2, …"""
    for i in range(cuda.grid(1), n, cuda.gridsize(1)):
        rows[i] = np.uint32(i)


def first(n, rows, out):
    """The first rows: sorted in memory that the GPU caches, written once to where the CPU reads them."""
    for i in range(cuda.grid(1), n, cuda.gridsize(1)):
        out[i] = rows[i]


def append_bits(
    n, step, offset, floats, masked, shift, bits, turned, flip, add, null, mask, source, valid, rows, words
):
    """Append bits of a field to the words of rows (primitives.sort_keys.sort_key)."""
    for i in range(cuda.grid(1), n, cuda.gridsize(1)):
        row = np.int64(rows[i])
        word = np.uint64(source[row * step + offset]) ^ turned
        if floats == 32:
            word = float_word(word)
        elif floats == 64:
            word = double_word(word)
        word = (word ^ flip) + add
        if masked != 0 and (valid[row >> 3] >> np.uint8(row & 7)) & 1 == 0:
            word = null
        words[i] = (words[i] << np.uint64(bits)) | ((word >> np.uint64(shift)) & mask)


def float_word(x):
    """The bits of a 32-bit float in the order of values: NaN above all, -0.0 as 0.0."""
    size = x & np.uint64(0x7FFFFFFF)
    if size > np.uint64(0x7F800000):
        x = np.uint64(0x7FC00000)
    if size == np.uint64(0):
        x = np.uint64(0)
    if x >> np.uint64(31) != np.uint64(0):
        return x ^ np.uint64(0xFFFFFFFF)
    return x ^ np.uint64(0x80000000)


def double_word(x):
    """The same of a 64-bit float."""
    size = x & np.uint64(0x7FFFFFFFFFFFFFFF)
    if size > np.uint64(0x7FF0000000000000):
        x = np.uint64(0x7FF8000000000000)
    if size == np.uint64(0):
        x = np.uint64(0)
    if x >> np.uint64(63) != np.uint64(0):
        return ~x
    return x ^ np.uint64(0x8000000000000000)
