"""Sorted dictionaries of strings: making, merging, look-up. The order is that of the bytes, so of the code points."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from finequery.jetson import memory
from finequery.operators.arrow_arrays import of_values
from finequery.operators.column import Dictionary

if TYPE_CHECKING:
    import pyarrow as pa


def code_type(size: int) -> np.dtype:
    """The narrowest unsigned type for the codes of a dictionary of ``size`` values."""
    return np.dtype(np.uint8 if size <= 256 else np.uint16 if size <= 65536 else np.uint32)


def build(values: pa.Array) -> tuple[Dictionary, np.ndarray]:
    """A dictionary of the values (strings, possibly repeated, no NULL) and the code of each position."""
    import pyarrow as pa
    import pyarrow.compute as pc

    encoded = values.cast(pa.large_binary()).dictionary_encode()
    order = pc.sort_indices(encoded.dictionary)
    distinct = encoded.dictionary.take(order)
    rank = np.empty(len(order), np.uint32)
    rank[numbers(order)] = np.arange(len(order), dtype=np.uint32)
    return from_sorted(distinct), rank[numbers(encoded.indices)]


def from_sorted(values: pa.Array) -> Dictionary:
    """A dictionary of large_binary values that are distinct and ascending already."""
    offsets, chars = string_parts(values)
    size = int(offsets[-1] - offsets[0])
    own_offsets = memory.array(len(offsets) + 1, np.int64, zero=True)[: len(offsets)]  # code 0 of no strings is empty
    np.subtract(offsets, offsets[0], out=own_offsets)
    own_chars = memory.array(size, np.uint8)
    own_chars[:] = chars[offsets[0] : offsets[0] + size]
    return Dictionary(own_offsets, own_chars, is_ascii(own_chars))


def from_strings(values: Sequence[str]) -> tuple[Dictionary, np.ndarray]:
    """``build`` from Python strings."""
    import pyarrow as pa

    return build(of_values(values, pa.string()))


def to_arrow(dictionary: Dictionary) -> pa.Array:
    """The values as large_binary, over the dictionary's own memory."""
    import pyarrow as pa

    buffers = [None, pa.py_buffer(dictionary.offsets), pa.py_buffer(dictionary.chars)]
    return pa.Array.from_buffers(pa.large_binary(), len(dictionary), buffers)


def merge(dictionaries: Sequence[Dictionary]) -> tuple[Dictionary, list[np.ndarray | None]]:
    """One dictionary for all, and for each the map from its codes to the new ones (None: codes stay as they are)."""
    import pyarrow as pa

    different: list[Dictionary] = []
    place: list[int] = []
    for item in dictionaries:
        for i, known in enumerate(different):
            if same(item, known):
                place.append(i)
                break
        else:
            place.append(len(different))
            different.append(item)
    if len(different) == 1:
        return different[0], [None] * len(dictionaries)
    merged, codes = build(pa.concat_arrays([to_arrow(item) for item in different]))
    ends = np.cumsum([len(item) for item in different])
    maps = np.split(codes, ends[:-1])
    for i, item in enumerate(different):  # a dictionary that holds all the values keeps its identity and its codes
        if len(item) == len(merged):
            return item, [None if k == i else maps[k] for k in place]
    return merged, [maps[k] for k in place]


def same(a: Dictionary, b: Dictionary) -> bool:
    """Whether two dictionaries hold the same values."""
    return a is b or (len(a) == len(b) and np.array_equal(a.offsets, b.offsets) and np.array_equal(a.chars, b.chars))


def lower_bound(dictionary: Dictionary, value: str) -> int:
    """The first code whose string is not below ``value``: ``x < value`` is ``code < lower_bound``."""
    return _search(dictionary, value.encode("utf-8", "surrogatepass"), False)


def upper_bound(dictionary: Dictionary, value: str) -> int:
    """The first code whose string is above ``value``: ``x <= value`` is ``code < upper_bound``."""
    return _search(dictionary, value.encode("utf-8", "surrogatepass"), True)


def code_of(dictionary: Dictionary, value: str) -> int | None:
    """The code of a string; None where no row can have it."""
    code = lower_bound(dictionary, value)
    return code if upper_bound(dictionary, value) > code else None


def _search(dictionary: Dictionary, key: bytes, after: bool) -> int:
    offsets, chars = dictionary.offsets, dictionary.chars
    low, high = 0, len(dictionary)
    while low < high:
        middle = (low + high) // 2
        item = chars[offsets[middle] : offsets[middle + 1]].tobytes()
        if item < key or (after and item == key):
            low = middle + 1
        else:
            high = middle
    return low


def numbers(array: pa.Array) -> np.ndarray:
    """The integers of an Arrow array where they lie, of NULL anything. ``to_numpy`` would import pandas for it, and so
    would ``to_pandas_dtype`` before pyarrow 22."""
    dtype = np.dtype(str(array.type))
    if not len(array):  # may have no buffer
        return np.zeros(0, dtype)
    return np.frombuffer(array.buffers()[1], dtype, len(array), array.offset * dtype.itemsize)


def string_parts(values: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """Offsets (length + 1, int32 or int64 as in Arrow) and all the bytes they point into."""
    import pyarrow as pa

    wide = pa.types.is_large_string(values.type) or pa.types.is_large_binary(values.type)
    kind = np.dtype(np.int64 if wide else np.int32)
    _, offsets, chars = values.buffers()
    if offsets is None or offsets.size == 0:
        return np.zeros(len(values) + 1, kind), np.zeros(0, np.uint8)
    view = np.frombuffer(offsets, kind, len(values) + 1, values.offset * kind.itemsize)
    return view, np.zeros(0, np.uint8) if chars is None else np.frombuffer(chars, np.uint8)


def is_ascii(chars: np.ndarray) -> bool:
    """Whether all bytes are below 128."""
    return len(chars) == 0 or bool(chars.view(np.int8).min() >= 0)
